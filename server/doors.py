"""
The own sockets of slivers: who asks through one is the sliver whose it is, whatever the uid.

Each has a directory, C{RUN/doors/SERIAL/in}, that is shown inside the sliver: a socket that is bound anew by the next
daemon is seen there too, which it would not be if the socket itself were shown. On the host nobody but root comes to
it, through C{RUN/doors/SERIAL}: a driver whose slivers come that way lets them, and nobody else.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Container, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from hostline.server.sockets import SocketTaken, listen

#: Connections of one sliver that may wait to be taken.
_BACKLOG = 64
#: How many are taken at once, and then one each time so many seconds have passed: who connects and hangs up as fast as
#: it can delays itself.
_BURST, _EACH_S = 50, 0.05


class Doors:
    """
    One listening socket for each sliver that has one.
    """

    _log = Logger()

    def __init__(
        self, run: Path, serve: Callable[[socket.socket, int], Callable[[], None]] = lambda listening, serial: _nothing
    ) -> None:
        """
        @param run: of the daemon; the sockets are below.
        @param serve: takes the connections to a listening socket for the sliver with a serial, until what it returns
            is called.
        """
        self._directory = run / "doors"
        self._serve = serve
        self._open: dict[int, Callable[[], None]] = {}

    def directory(self, serial: int) -> Path:
        """
        @return: what is shown inside the sliver.
        """
        return self._directory / str(serial) / "in"

    def keep(self, serials: Container[int], keep_strays: bool) -> None:
        """
        After a start of the daemon: open those that there were, and remove what belongs to no sliver.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        for found in self._directory.iterdir():
            if found.name.isdigit() and int(found.name) in serials:
                self.open(int(found.name))
            elif not keep_strays:
                shutil.rmtree(found, ignore_errors=True)

    def open(self, serial: int) -> None:
        """
        Listen, unless it is listened already; a sliver without its socket goes on without it.
        """
        if serial in self._open:
            return
        directory = self.directory(serial)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            directory.parent.mkdir(mode=0o700, exist_ok=True)
            directory.mkdir(mode=0o755, exist_ok=True)
            listening = listen(directory / "hostline.sock", 0o666, _BACKLOG)
        except (OSError, SocketTaken) as error:
            self._log.error("sliver {serial} has no socket of its own: {error}", serial=serial, error=error)
            return
        self._open[serial] = self._serve(listening, serial)

    def remove(self, serial: int) -> None:
        """
        The sliver is gone.
        """
        stop = self._open.pop(serial, None)
        if stop is not None:
            stop()
        with suppress(OSError):
            shutil.rmtree(self.directory(serial).parent)

    def close(self) -> None:
        """
        Listen no more; the sockets' files stay for the next daemon.
        """
        while self._open:
            self._open.popitem()[1]()


class Door:
    """
    A listening socket, served no faster than it may take of the daemon; by itself a sliver's.
    """

    def __init__(
        self,
        listening: socket.socket,
        loop: asyncio.AbstractEventLoop,
        enter: Callable[[socket.socket], Coroutine[Any, Any, object]],
        full: Callable[[], bool],
        burst: int = _BURST,
        each_s: float = _EACH_S,
    ) -> None:
        """
        @param enter: lets a new connection in; what it raises then is nobody's business.
        @param full: whether there are as many connections as there may be; who comes then waits.
        @param burst: how many are taken at once, and then one each time C{each_s} seconds have passed.
        """
        self._listening = listening
        self._loop = loop
        self._enter = enter
        self._full = full
        self._burst, self._each_s = burst, each_s
        self._credit = float(burst)
        self._counted = loop.time()
        self._resuming: asyncio.TimerHandle | None = None
        self._coming: set[asyncio.Task[object]] = set()
        loop.add_reader(listening.fileno(), self._come)

    def close(self) -> None:
        """
        Let nobody in any more; who is in stays.
        """
        if self._resuming is not None:
            self._resuming.cancel()
        else:
            self._loop.remove_reader(self._listening.fileno())
        self._listening.close()
        for task in self._coming:
            task.cancel()

    def _come(self) -> None:
        now = self._loop.time()
        self._credit = min(self._burst, self._credit + (now - self._counted) / self._each_s)
        self._counted = now
        if self._credit < 1 or self._full():
            self._pause(self._each_s)
            return
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # gone again
        except OSError:  # most likely the daemon has no descriptor left; that it waits would be told without end
            self._pause(max(self._each_s, _EACH_S))
            return
        self._credit -= 1
        connection.setblocking(False)
        task = self._loop.create_task(self._enter(connection))
        self._coming.add(task)
        task.add_done_callback(self._came)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening.fileno())
        self._resuming = self._loop.call_later(seconds, self._resume)

    def _came(self, task: asyncio.Task[object]) -> None:
        self._coming.discard(task)
        if not task.cancelled():
            task.exception()  # it has hung up already: nobody is to be told

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listening.fileno(), self._come)


def _nothing() -> None:
    pass
