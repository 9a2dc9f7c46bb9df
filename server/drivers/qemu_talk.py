"""
A command in a QEMU guest: its input, output and end, over ports of the guest's own.

The guest's agent only starts it. A few lines of shell, sent with it, join its streams to three virtio ports, each a
socket of QEMU's here: what nobody reads fills the port, and the command waits. A mark that nobody can guess tells where
its output begins and ends, and with what status.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.drivers.driver import CANNOT_START, Hearer
from hostline.server.supervise.agent import Agent
from hostline.server.supervise.guestports import Marked, begun, ended
from hostline.server.supervise.machine import STREAMS, port
from hostline.server.supervise.within import joined

_MOST = 1 << 16
#: Seconds between two questions whether the shell still lives, and that its last words may be on their way.
_ASK_S, _LAST_S = 3.0, 1.0


class GuestTalk:
    """
    A L{hostline.server.drivers.driver.Conversation} with one command.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        hearer: Hearer,
        *,
        state: Path,
        number: int,
        agent: Agent,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        over: Callable[[], None],
    ) -> None:
        """
        @param name: of the sliver.
        @param state: where QEMU's sockets are; C{number}: of the ports.
        @param over: called once the ports are free.
        @raise OSError: if QEMU does not answer.
        """
        self._hearer = hearer
        self._agent = agent
        self._loop = loop
        self._clock = clock
        self._over = over
        self._mark = os.urandom(16).hex()
        self._streams = {stream: Marked(self._mark.encode()) for stream in STREAMS[1:]}
        self._links: dict[str, socket.socket] = {}
        self._unwritten = bytearray()
        self._input_ends = self._paused = self._closed = False
        self._pid: int | None = None
        self._ends: int | None = None
        try:
            for stream in STREAMS:
                self._links[stream] = joined(state, port(stream, number))
        except OSError:
            self._drop()
            raise
        for stream in self._streams:
            self._loop.add_reader(self._links[stream].fileno(), self._readable, stream)
        words = [*(port(stream, number) for stream in STREAMS), self._mark, *argv]
        self._go(self._begin(name, words))

    # What who began it may do

    def write(self, data: bytes) -> None:
        if not self._input_ends and not self._closed and data:
            waiting = bool(self._unwritten)
            self._unwritten += data
            if not waiting:
                self._writable()

    @property
    def unwritten(self) -> int:
        return len(self._unwritten)

    def end_input(self) -> None:
        if not self._input_ends:
            self._input_ends = True
            self._finish_input()

    def resize(self, rows: int, columns: int) -> None:
        pass

    def pause(self) -> None:
        if not self._paused and not self._closed:
            self._paused = True
            for stream in self._streams:
                self._deaf(stream)

    def resume(self) -> None:
        if self._paused and not self._closed:
            self._paused = False
            for stream in self._streams:
                if stream in self._links:
                    self._loop.add_reader(self._links[stream].fileno(), self._readable, stream)
            self._loop.call_soon(self._perhaps_over)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._go(self._kill())

    def end(self) -> None:
        """
        The guest is gone; who listens hears so.
        """
        if not self._closed:
            self._finish(137)

    # What happens

    async def _begin(self, name: str, words: Sequence[str]) -> None:
        try:
            said = await self._agent.call("guest-exec", begun(name, words))
            pid = said.get("pid") if isinstance(said, dict) else None
            if type(pid) is not int or pid <= 1:
                raise OSError("the guest's agent started nothing")
        except OSError as error:
            if not self._closed:
                self._hearer.said("err", f"{error}\n".encode())
                self._finish(CANNOT_START)
            return
        self._pid = pid
        if self._closed:
            return
        self._writable()
        self._finish_input()
        await self._watch(pid)

    async def _watch(self, pid: int) -> None:
        """
        Learn of the end of a shell that cannot tell of it any more.
        """
        while not self._closed:
            await deferLater(self._clock, _ASK_S)
            if self._closed or all(stream.over for stream in self._streams.values()):
                return
            with suppress(OSError):
                said = await self._agent.call("guest-exec-status", {"pid": pid})
                if isinstance(said, dict) and said.get("exited") is True:
                    await deferLater(self._clock, _LAST_S)
                    while self._paused and not self._closed:
                        await deferLater(self._clock, _LAST_S)
                    if not self._closed:
                        self._finish(_status(said))
                    return

    def _readable(self, stream: str) -> None:
        try:
            data = self._links[stream].recv(_MOST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # QEMU ends; the driver tells when it has
            self._deaf(stream)
            self._links.pop(stream).close()
            return
        marked = self._streams[stream]
        said = marked.feed(data)
        if said:
            self._hearer.said(stream, said)
        self._perhaps_over()

    def _perhaps_over(self) -> None:
        if not self._closed and not self._paused and all(stream.over for stream in self._streams.values()):
            self._finish(self._streams["out"].code)

    def _finish(self, code: int | None) -> None:
        self._closed = True
        self._drop()
        self._over()
        self._go(self._forget())
        self._hearer.ended(code)

    async def _forget(self) -> None:
        """
        Let the agent forget the shell, too.
        """
        if self._pid is not None:
            with suppress(OSError):
                await self._agent.call("guest-exec-status", {"pid": self._pid})

    async def _kill(self) -> None:
        deadline = self._clock.seconds() + _ASK_S
        while self._pid is None and self._clock.seconds() < deadline:
            await deferLater(self._clock, 0.05)
        self._drop()
        if self._pid is not None:
            with suppress(OSError):
                await self._agent.call("guest-exec", ended(self._pid))
        self._over()
        await self._forget()

    def _writable(self) -> None:
        link = self._links.get("in")
        if link is None or self._pid is None:  # nobody reads it yet
            return
        try:
            written = link.send(self._unwritten[:_MOST]) if self._unwritten else 0
        except BlockingIOError:
            written = 0
        except OSError:
            self._unwritten.clear()
            return
        del self._unwritten[:written]
        if self._unwritten:
            self._loop.add_writer(link.fileno(), self._writable)
        else:
            self._loop.remove_writer(link.fileno())
            self._finish_input()

    def _finish_input(self) -> None:
        if self._input_ends and not self._unwritten and self._pid is not None and "in" in self._links:
            with suppress(OSError):
                self._links["in"].shutdown(socket.SHUT_WR)  # not closed: QEMU would forget what it has not read yet

    def _deaf(self, stream: str) -> None:
        if stream in self._links:
            self._loop.remove_reader(self._links[stream].fileno())

    def _drop(self) -> None:
        for link in self._links.values():
            self._loop.remove_reader(link.fileno())
            self._loop.remove_writer(link.fileno())
            link.close()
        self._links.clear()
        self._unwritten.clear()

    def _go(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(lambda failure: None if self._closed else failure)


def _status(said: dict[str, Any]) -> int:
    code, signal = said.get("exitcode"), said.get("signal")
    if type(signal) is int and 0 < signal < 128:
        return 128 + signal
    return code if type(code) is int and 0 < code <= 255 else CANNOT_START
