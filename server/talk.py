"""
One request at the other end of a L{hostline.server.drivers.driver.Conversation}: a command that runs inside a sliver, a
console, logs that are followed.

With a tag it may be a stream, whose C{data} lines go both ways until its reply; without, what it hears is collected.
"""

from __future__ import annotations

from binascii import Error, a2b_base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from hostline.protocol.errors import BadValue, HostError, NoSuchSliver, Timeout, WrongState
from hostline.server.drivers.driver import Conversation

if TYPE_CHECKING:
    from hostline.server.asking import Ask


class Talk:
    """
    One request while what it runs, or follows, is heard.

    @ivar tag: of the stream; None if what is heard is collected.
    @ivar conversation: once it has begun.
    """

    def __init__(
        self,
        ask: Ask,
        hear: Callable[[str, bytes], None] | None = None,
        *,
        stream: bool,
        taken: Callable[[bytes], None] | None = None,
        whole: bool = False,
        endless: bool = False,
    ) -> None:
        """
        @param hear: what is done with output, C{(stream, bytes)}; None sends it as C{data} lines.
        @param stream: whether it is a stream, whose input comes from the client; else there is none.
        @param taken: called with each piece of input.
        @param whole: whether input counts only once its end was said.
        @param endless: whether the end of the input is not passed on, for others may have more.
        """
        self.tag = ask.tag if stream else None
        self.conversation: Conversation | None = None
        self._ask = ask
        self._streams = ask.session.streams
        self._hear = hear if hear is not None else self.send
        self._taken = taken
        self._whole = whole
        self._endless = endless
        self._stream = stream
        self._input_ended = False
        self._silent = self._ending = False
        self._serial = ask.target.serial
        self._generation = ask.host.generation
        self._done: Deferred[int | None] = Deferred()

    async def held(
        self, begin: Callable[[Talk], Conversation], timeout: float | None, begun: Callable[[], None] = lambda: None
    ) -> int | None:
        """
        Hold it, from its beginning to its end.

        @param begin: begins the conversation; its L{OSError} is told as L{WrongState}.
        @param timeout: seconds after which it is ended; None: never.
        @param begun: called once it has begun.
        @return: how it ended, as L{hostline.server.drivers.driver.Hearer.ended} is told.
        @raise HostError: if it cannot be begun, took too long, was closed, or the caller may do this no longer.
        """
        self._streams.add(self)
        late = None
        try:
            try:
                self.conversation = begin(self)
            except OSError as error:
                raise WrongState(error.strerror or str(error)) from None
            self._ask.waiting = True
            self._streams.begun(self)
            begun()
            if timeout is not None:
                over = Timeout(f"{self._ask.row.name} has not ended in {timeout:g} s; it was ended")
                late = self._ask.daemon.clock.callLater(timeout, self.fail, over)
            return await self._done
        finally:
            self._streams.remove(self)
            if late is not None and late.active():
                late.cancel()
            if self.conversation is not None and not self._silent:
                self.conversation.close()
            self._silent = True

    @property
    def open(self) -> bool:
        """
        Whether it has not ended.
        """
        return not (self._ending or self._done.called)

    # What the conversation calls.

    def said(self, stream: str, data: bytes) -> None:
        if not self._silent:
            self._hear(stream, data)

    def ended(self, code: int | None) -> None:
        self._silent = True
        if not self._done.called:
            self._done.callback(code)

    # What comes from the client.

    def feed(self, piece: dict[str, Any]) -> None:
        """
        @param piece: as L{hostline.protocol.rows.streams.PIECE} has it.
        @raise HostError: if it makes no sense here.
        """
        self.check()
        if self.conversation is None or not self.open:
            return
        if "close" in piece:
            self._soon(lambda: self._done.callback(None))
        elif "rows" in piece:
            self.conversation.resize(piece["rows"], piece["columns"])
        elif self._input_ended:
            raise BadValue("want no input after its end")
        elif "end" in piece:
            self._end_input()
        else:
            try:
                data = a2b_base64(piece["base64"], strict_mode=True)
            except (Error, ValueError) as error:
                raise BadValue(f"base64: want base64, got something else ({error})") from None
            if self._taken is not None:
                self._taken(data)
            self.conversation.write(data)
            self._ask.daemon.idle.asked(self._ask)

    def end_input(self) -> None:
        """
        The client will say nothing more.
        """
        if self._input_ended or not self._stream or self.conversation is None:
            return
        if self._whole:
            self.fail(BadValue("want the end of the input said, {'stream': 'in', 'end': True}; nothing was done"))
        else:
            self._end_input()

    def _end_input(self) -> None:
        self._input_ended = True
        if self.conversation is not None and not self._endless:
            self.conversation.end_input()

    def check(self) -> None:
        """
        End it if who opened it may no longer.
        """
        if self._generation == self._ask.host.generation:
            return
        self._generation = self._ask.host.generation
        try:
            self._ask.look_again()
            if self._ask.target.serial != self._serial:
                raise NoSuchSliver(f"sliver {self._ask.values[0]} is gone")
        except HostError as error:
            self.fail(error)

    def fail(self, error: HostError) -> None:
        """
        End it; the error is the reply.
        """
        self._soon(lambda: self._done.errback(error))

    def _soon(self, end: Callable[[], None]) -> None:
        # Not now: who hears that may be within a call of ours, or of the conversation's.
        if self.open:
            self._ending = True
            self._ask.daemon.loop.call_soon(lambda: None if self._done.called else end())

    def send(self, stream: str, data: bytes) -> None:
        """
        Send output to the client, if this is a stream.
        """
        if self.tag is not None and data:
            self._streams.write(self.tag, stream, data)


class Collected:
    """
    What a command wrote, as far as it is kept.

    @ivar size: of all it wrote on C{out}.
    @ivar cut: whether there was more than is kept.
    """

    def __init__(self, most: int) -> None:
        """
        @param most: bytes of C{out}, and of C{err}.
        """
        self._most = most
        self._kept = {"out": bytearray(), "err": bytearray()}
        self.size = 0
        self.cut = False

    def hear(self, stream: str, data: bytes) -> None:
        """
        Keep it.
        """
        kept = self._kept[stream]
        room = self._most - len(kept)
        kept += data[:room]
        self.cut = self.cut or len(data) > room
        if stream == "out":
            self.size += len(data)

    def bytes(self, stream: str) -> bytes:
        """
        @param stream: C{out} or C{err}.
        """
        return bytes(self._kept[stream])

    def text(self, stream: str) -> str:
        """
        The same, what is no UTF-8 replaced.
        """
        return self._kept[stream].decode("utf-8", "replace")
