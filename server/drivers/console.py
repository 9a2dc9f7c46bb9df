"""
Listening to the console of a container: what its own process, and whoever writes to that one's output, says.

It has no input: nothing in a container reads its console. Who wants a shell runs one on a terminal.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

from hostline.server.drivers.driver import Hearer

_MOST = 1 << 16
_STREAMS = {2: "out", 3: "err"}


class Attached:
    """
    A L{hostline.server.drivers.driver.Conversation} with conmon's attach socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, bundle: Path, hearer: Hearer) -> None:
        """
        @raise OSError: if conmon does not answer.
        """
        self._loop = loop
        self._hearer = hearer
        self._paused = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.connect(f"/proc/self/fd/{directory}/attach")  # a socket's path may not be long
        except OSError:
            self._socket.close()
            raise
        finally:
            os.close(directory)
        loop.add_reader(self._socket.fileno(), self._readable)

    def write(self, data: bytes) -> None:
        pass

    @property
    def unwritten(self) -> int:
        return 0

    def end_input(self) -> None:
        pass

    def resize(self, rows: int, columns: int) -> None:
        pass

    def pause(self) -> None:
        if not self._paused and self._socket.fileno() >= 0:
            self._paused = True
            self._loop.remove_reader(self._socket.fileno())

    def resume(self) -> None:
        if self._paused and self._socket.fileno() >= 0:
            self._paused = False
            self._loop.add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            if not self._paused:
                self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        packet = b""
        with suppress(ConnectionError):
            try:
                packet = self._socket.recv(_MOST)
            except BlockingIOError:
                return
        if not packet:
            self.close()
            self._hearer.ended(None)
        elif packet[0] in _STREAMS and len(packet) > 1:
            self._hearer.said(_STREAMS[packet[0]], packet[1:])
