"""
The client of the QEMU guest agent: one socket, one call at a time, and never a belief in what the guest says.

qemu.qmp speaks the same JSON, but has no C{guest-sync-delimited}, without which the answers to an earlier client's
calls are taken for ours; and whoever is root in the guest writes what we read. So here is a codec of our own: all
until the mark that was asked for is dropped, a line is bounded, so is what is dropped, and nothing is read while
nobody waits (what the guest writes then fills its own buffers). See "QEMU Guest Agent Protocol Reference".
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.error import AlreadyCalled
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from hostline.server.supervise import within

T = TypeVar("T")

#: Bytes of one answer, if the caller does not say otherwise.
MOST_BYTES = 65536
#: Bytes that are dropped while a session is begun: what an earlier session left (an agent keeps up to 16 MiB of what a
#: command wrote, in base64), or a guest that will not stop.
MOST_DROPPED = 32 << 20
#: Bytes that are read before others get their turn.
_TURN = 1 << 19
#: Seconds between two connections: the guest's agent takes a moment to notice that we left.
APART_S = 0.2
_DELIMITER = b"\xff"
_READ = 65536


class AgentRefused(OSError):
    """
    The agent answered that it will not, or cannot.

    @ivar kind: its word for it: C{GenericError}, C{CommandNotFound}, ...
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"the guest's agent: {message or kind or 'it does not say why'}")
        self.kind = kind


def request(command: str, arguments: Mapping[str, Any] | None = None) -> bytes:
    """
    @return: a call, as it is written.
    """
    body: dict[str, Any] = {"execute": command}
    if arguments is not None:
        body["arguments"] = dict(arguments)
    return json.dumps(body).encode("ascii") + b"\n"


def opening(mark: int) -> bytes:
    """
    @return: what begins a session: the agent drops what it has of a line, and echoes the mark behind a byte 0xFF.
    """
    return _DELIMITER + request("guest-sync-delimited", {"id": mark})


def plain(text: object, most: int = 300) -> str:
    """
    @return: what a guest said, fit for a log or a terminal; empty if it is no text.
    """
    if not isinstance(text, str):
        return ""
    return "".join(one if one.isprintable() else "?" for one in text[:most])


def answer(line: bytes) -> Any:
    """
    @param line: without its end.
    @return: what was answered, of whatever type the guest chose.
    @raise AgentRefused: if the answer is an error.
    @raise OSError: if it is no answer.
    """
    try:
        said = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise OSError("the guest's agent answered what cannot be read") from error
    if isinstance(said, dict):
        if "return" in said:
            return said["return"]
        wrong = said.get("error")
        if isinstance(wrong, dict):
            raise AgentRefused(plain(wrong.get("class"), 40), plain(wrong.get("desc")))
    raise OSError("the guest's agent answered what is no answer")


class Session:
    """
    What comes in, cut into answers; knows no socket.
    """

    def __init__(self, mark: int, most_dropped: int = MOST_DROPPED) -> None:
        """
        @param mark: what L{opening} asked for.
        """
        self.open = False
        self._mark = mark
        self._may_drop = most_dropped
        self._waiting = bytearray()
        self._marked = False

    def feed(self, data: bytes, most_bytes: int = MOST_BYTES) -> list[bytes]:
        """
        @param most_bytes: of one line.
        @return: the lines that are whole now, none until the session is open.
        @raise OSError: if a line is too long, or too much came before the mark; the session is of no use then.
        """
        self._waiting += data
        if not self.open:
            self._look_for_mark(most_bytes)
        lines: list[bytes] = []
        while self.open:
            end = self._waiting.find(b"\n")
            if (end if end >= 0 else len(self._waiting)) > most_bytes:
                raise OSError(f"the guest's agent answered more than {most_bytes} bytes")
            if end < 0:
                break
            line = bytes(self._waiting[:end]).strip()
            if line:
                del self._waiting[: end + 1]
                lines.append(line)
            else:
                self._drop(end + 1)
        return lines

    @property
    def behind(self) -> int:
        """
        Bytes of a line that is not whole.
        """
        return len(self._waiting)

    def _look_for_mark(self, most_bytes: int) -> None:
        while not self.open:
            if not self._marked:
                at = self._waiting.find(_DELIMITER)
                self._drop(at if at >= 0 else len(self._waiting))
                if at < 0:
                    return
                self._drop(1)
                self._marked = True
            end = self._waiting.find(b"\n")
            again = self._waiting.find(_DELIMITER, 0, end if end >= 0 else len(self._waiting))
            if again >= 0:
                self._drop(again + 1)
                continue
            if end < 0:
                if len(self._waiting) > most_bytes:
                    raise OSError("the guest's agent does not come to an end")
                return
            with suppress(OSError):
                said = answer(bytes(self._waiting[:end]))
                self.open = type(said) is int and said == self._mark
            self._drop(end + 1)
            self._marked = False

    def _drop(self, count: int) -> None:
        self._may_drop -= count
        if self._may_drop < 0:
            raise OSError("the guest's agent says something else than it is asked")
        del self._waiting[:count]


class Call(Protocol):
    """
    L{Agent.call}, for who is alone with an agent.
    """

    async def __call__(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout_s: float = 10.0
    ) -> Any:
        """As there."""


class Agent:
    """
    The agent of one guest, at QEMU's end of its socket.
    """

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop, clock: IReactorTime) -> None:
        """
        @param path: of the socket; nothing is opened before the first call.
        """
        self._path = path
        self._loop = loop
        self._clock = clock
        self._turns = DeferredLock()
        self._socket: socket.socket | None = None
        self._session: Session | None = None
        self._left = -APART_S
        self._waiter: Deferred[None] | None = None
        self._closed = False

    async def call(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 10.0,
        most_bytes: int = MOST_BYTES,
    ) -> Any:
        """
        Ask, and wait for the answer. The first call waits until the guest has come up as far as its agent.

        @param timeout_s: for all of it, once it is this call's turn.
        @param most_bytes: of the answer, as it is written.
        @return: of whatever type the guest chose.
        @raise AgentRefused: if the agent says no.
        @raise OSError: if there is no answer, or one that cannot be; C{TimeoutError} if it takes too long.
        """
        return await self._talk(command, arguments, timeout_s, most_bytes, answered=True)

    async def tell(self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout_s: float = 10.0) -> None:
        """
        Say what has no answer if it is done, as C{guest-shutdown} has none.

        @raise OSError: if it cannot be said.
        """
        await self._talk(command, arguments, timeout_s, MOST_BYTES, answered=False)

    async def alone(self, ask: Callable[[Call], Coroutine[Any, Any, T]]) -> T:
        """
        Have somebody ask several things between which nobody else asks anything.

        @param ask: called with what is to be used in place of L{call}; nobody else has a turn until it is done.
        @return: what that returns.
        """

        async def call(command: str, arguments: Mapping[str, Any] | None = None, *, timeout_s: float = 10.0) -> Any:
            return await self._said(command, arguments, timeout_s, MOST_BYTES, answered=True)

        await self._turns.acquire()
        try:
            return await ask(call)
        finally:
            self._turns.release()

    def close(self) -> None:
        """
        Leave; whoever waits is told by an OSError.
        """
        self._closed = True
        self._leave()
        self._wake(ConnectionAbortedError("nobody waits for the guest's agent any more"))

    async def _talk(
        self, command: str, arguments: Mapping[str, Any] | None, timeout_s: float, most_bytes: int, *, answered: bool
    ) -> Any:
        await self._turns.acquire()
        try:
            return await self._said(command, arguments, timeout_s, most_bytes, answered=answered)
        finally:
            self._turns.release()

    async def _said(
        self, command: str, arguments: Mapping[str, Any] | None, timeout_s: float, most_bytes: int, *, answered: bool
    ) -> Any:
        until = self._clock.seconds() + timeout_s
        try:
            session = await self._begin(until)
            if session is None:
                raise ConnectionError("the guest's agent is gone")
            await self._write(request(command, arguments), until)
            if not answered:
                self._session = None  # if it is refused all the same, that is not the next call's answer
                return None
            lines = await self._read(session, most_bytes, until)
        except OSError as error:
            # What was asked may still be answered, and must not be taken for the answer to what is asked next.
            if isinstance(error, TimeoutError) and self._session is not None:
                self._session = None
            else:
                self._leave()
            raise
        if len(lines) > 1 or session.behind:
            self._session = None  # it says more than it is asked
        return answer(lines[0])

    async def _begin(self, until: float) -> Session | None:
        if self._closed:
            return None
        if self._socket is None:
            pause = self._left + APART_S - self._clock.seconds()
            if pause > 0:
                await deferLater(self._clock, pause)
            if self._closed:
                return None
            self._socket = self._connected()
            self._session = None
        if self._session is None:
            mark = random.SystemRandom().randrange(1, 1 << 53)
            session = Session(mark)
            await self._write(opening(mark), until)
            await self._read(session, MOST_BYTES, until)
            self._session = session
        return self._session

    def _connected(self) -> socket.socket:
        try:
            return within.joined(self._path.parent, self._path.name)
        except OSError as error:
            self._left = self._clock.seconds()
            raise OSError(f"no guest agent: {error.strerror or error}") from None

    async def _write(self, data: bytes, until: float) -> None:
        rest = memoryview(data)
        while rest:
            if self._socket is None:
                raise ConnectionAbortedError("nobody waits for the guest's agent any more")
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                fd = self._socket.fileno()
                self._loop.add_writer(fd, self._wake)
                try:
                    await self._woken(until)
                finally:
                    if self._socket is not None:
                        self._loop.remove_writer(fd)

    async def _read(self, session: Session, most_bytes: int, until: float) -> list[bytes]:
        """
        @return: at least one line, or none if the session has been opened by this.
        """
        opened, count = session.open, 0
        while True:
            if self._socket is None:
                raise ConnectionAbortedError("nobody waits for the guest's agent any more")
            try:
                data = self._socket.recv(_READ)
            except BlockingIOError:
                fd = self._socket.fileno()
                self._loop.add_reader(fd, self._wake)
                try:
                    await self._woken(until)
                finally:
                    if self._socket is not None:
                        self._loop.remove_reader(fd)
                continue
            if not data:
                raise ConnectionResetError("QEMU has closed the guest agent's socket")
            lines = session.feed(data, most_bytes)
            if lines or (session.open and not opened):
                return lines
            if self._clock.seconds() >= until:  # one that never stops talking does not hold us up for ever
                raise TimeoutError("the guest's agent does not answer")
            count += len(data)
            if count >= _TURN:
                count = 0
                await deferLater(self._clock, 0)

    async def _woken(self, until: float) -> None:
        left = until - self._clock.seconds()
        if left <= 0:
            raise TimeoutError("the guest's agent does not answer")
        waiter: Deferred[None] = Deferred()
        self._waiter = waiter
        late = self._clock.callLater(left, self._wake, TimeoutError("the guest's agent does not answer"))
        try:
            await waiter
        finally:
            self._waiter = None
            if late.active():
                late.cancel()

    def _wake(self, error: OSError | None = None) -> None:
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            with suppress(AlreadyCalled):
                if error is None:
                    waiter.callback(None)
                else:
                    waiter.errback(Failure(error))

    def _leave(self) -> None:
        if self._socket is not None:
            fd = self._socket.fileno()
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            self._socket.close()
            self._socket = None
            self._session = None
            self._left = self._clock.seconds()
