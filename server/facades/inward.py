"""
Commands said inside the daemon for a client that speaks another language: as lines, on a connection like any other.

So they pass the same permission check, limits, turns and audit log as those of who says them himself.
"""

from __future__ import annotations

import asyncio
from binascii import b2a_base64
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred

from hostline.protocol import wire, words
from hostline.protocol.errors import NoDaemon, NoSuchBlob, raised_again
from hostline.protocol.literal import write
from hostline.server.callers import Caller
from hostline.server.connection import Connection

#: A TEXT whose literal is longer goes ahead as a blob, in pieces.
LONGEST_INLINE, PIECE = 100_000, 48 << 10
#: Seconds that a command waits which is to wait for its end.
WHOLE = 1e8


class Text(str):
    """
    What is said where a TEXT is wanted.
    """


class Inward(asyncio.Transport):
    """
    The transport of a L{Connection} whose other end is the daemon itself.

    @ivar refusal: the body of the error with which the connection was refused.
    """

    def __init__(
        self,
        outer: asyncio.Transport,
        closed: Callable[[bool], object],
        forget: Callable[[Caller, str], Deferred[None]],
    ) -> None:
        """
        @param outer: the transport of the client who is answered in another language.
        @param closed: called when the connection ends this; with whether at once.
        @param forget: has a blob that was used, by its SHA-256, go before its time.
        """
        super().__init__()
        self.refusal: dict[str, Any] | None = None
        self._outer = outer
        self._closed = closed
        self._forget = forget
        self._connection: Connection | None = None
        self._awaited: deque[Deferred[wire.Reply]] = deque()
        self._held: deque[bytes] = deque()
        self._reading = True
        self._closing = self._going = False
        self._rest = b""

    def begin(self, connection: Connection) -> None:
        """
        Connect.
        """
        self._connection = connection
        connection.format, connection.client = "json", "xmlrpc"
        connection.connection_made(self)

    @property
    def caller(self) -> Caller:
        """
        In whose name it is said.
        """
        return self._connection.caller if self._connection is not None else Caller(-1)

    def lost(self) -> None:
        """
        The client is gone: whoever waits for a reply hears that; what was asked is not cancelled.
        """
        self._closing = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.connection_lost(None)
        while self._awaited:
            came = self._awaited.popleft()
            if not came.called:
                came.errback(NoDaemon("the client hung up"))

    async def say(self, command: str, *values: Any, **options: Any) -> Any:
        """
        Say a command and wait for its reply.

        @return: the body.
        @raise HostError: as the reply tells.
        """
        return (await self.reply(command, *values, **options)).body

    async def reply(self, command: str, *values: Any, **options: Any) -> wire.Reply:
        """
        The same, with the reply word.
        """
        try:
            return await self._tried(command, values, options)
        except NoSuchBlob:  # the same text went on another connection, and was used up there
            return await self._tried(command, values, options)

    async def _tried(self, command: str, values: tuple[Any, ...], options: dict[str, Any]) -> wire.Reply:
        parts = [command]
        for value in values:
            parts.append(await self._word(value))
        for name, value in options.items():
            parts.append(f"{name}={await self._word(value)}")
        caller = self.caller
        reply = await self._said(" ".join(parts))
        for value, word in zip(values, parts[1:], strict=False):
            if isinstance(value, Text) and word.startswith("blob:"):
                await self._forget(caller, word[5:])
        if reply.word == "error_reply":
            raise raised_again(reply.body)
        return reply

    async def _word(self, value: Any) -> str:
        if not isinstance(value, Text):
            return words.as_word(value)
        text = str(value)
        word = write(text)
        if len(word) <= LONGEST_INLINE and not text.startswith("blob:"):
            return word
        data = text.encode()
        name = sha256(data).hexdigest()
        for at in range(0, max(len(data), 1), PIECE):
            piece = b2a_base64(data[at : at + PIECE], newline=False).decode("ascii")
            reply = await self._said(f"blob {name} {len(data)} {at} '{piece}'")
            if reply.word == "error_reply":
                raise raised_again(reply.body)
            if reply.body["complete"]:
                break
        return f"blob:{name}"

    def _said(self, line: str) -> Deferred[wire.Reply]:
        came: Deferred[wire.Reply] = Deferred()
        if self._connection is None or self._closing:
            came.errback(NoDaemon("the client hung up"))
            return came
        self._awaited.append(came)
        self._held.append(line.encode() + b"\n")
        self._go_on()
        return came

    def _go_on(self) -> None:
        if self._going:  # further out: what is said behind a reply waits until all is done that the reply was about
            return
        self._going = True
        try:
            while self._reading and self._held and self._connection is not None:
                self._connection.data_received(self._held.popleft())
        finally:
            self._going = False

    # What the connection calls.

    def write(self, data: Any) -> None:
        """
        Lines of the daemon.
        """
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        for line in lines:
            if self._awaited:
                came = self._awaited.popleft()
                reply = wire.read_reply(line, as_json=True)
                if not came.called:  # nobody gave it up
                    came.callback(reply)
            else:
                self.refusal = wire.read_reply(line).body

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """
        As of the client's own.
        """
        return self._outer.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """
        As of the client's own, who reads what is answered.
        """
        self._outer.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """
        Bytes that the client has not read.
        """
        return self._outer.get_write_buffer_size()

    def pause_reading(self) -> None:
        """
        Say nothing more for now.
        """
        self._reading = False

    def resume_reading(self) -> None:
        """
        Go on.
        """
        self._reading = True
        self._go_on()

    def is_closing(self) -> bool:
        """
        Whether this is over.
        """
        return self._closing

    def close(self) -> None:
        """
        The connection ends this.
        """
        self._end(False)

    def abort(self) -> None:
        """
        It does so at once.
        """
        self._end(True)

    def _end(self, at_once: bool) -> None:
        if not self._closing:
            self._closing = True
            self._closed(at_once)
