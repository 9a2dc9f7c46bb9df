"""
One connection: bytes in, replies out, in the order and within the limits that docs/protocol.md states.

A native asyncio protocol on the reactor's own loop: Twisted's transports cost a poll at 64 lines in one packet three
times as much. What is polled is answered from a cache of raw line to reply, for each principal, without being read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from hostline.protocol import wire
from hostline.protocol.errors import HostError, TooMany, WrongState
from hostline.server import tally as tally_
from hostline.server.callers import Caller
from hostline.server.config import Limits
from hostline.server.deadlines import Deadlines
from hostline.server.kept import Kept
from hostline.server.slots import Slot, Slots
from hostline.server.streams import Streams
from hostline.server.tally import Tally
from hostline.server.watch import Watch

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon
    from hostline.server.line import Answer, Prepared


class Connection(asyncio.Protocol):
    """
    One client.
    """

    def __init__(
        self,
        daemon: Daemon,
        who: Callable[[asyncio.Transport], Caller],
        limits: Limits | None = None,
    ) -> None:
        """
        @param who: finds who is at the other end, or raises the L{HostError} that is said there before it is closed.
        @param limits: None: those of every connection.
        """
        self._daemon = daemon
        self._who = who
        self._limits = limits or daemon.config.limits
        self.most_unread = self._limits.principal_unread_bytes
        self._look = self.most_unread // 4
        self._lines = wire.Lines(self._limits.line_bytes)
        self._queue: deque[bytes] = deque()
        self._held: deque[Prepared] = deque()
        self._slots = Slots()
        self._tagged = 0
        self._ended = False
        self._late = False
        self.reading = True
        self._paused = False
        self._turning = False
        self._awaited: dict[Answer, int] = {}
        self._bytes = 0
        self._counted_bytes = 0
        self._watch: Watch | None = None
        self._streams: Streams | None = None
        self.format = "literal"
        self.client: str | None = None
        self.caller = Caller(-1)
        self._tally = Tally()
        self._kept = Kept()
        self._admitted = False
        self._counted = self._counted_tagged = 0

    # The session, for responders.

    def watch(self, topics: list[str], since: int | None, tag: str | None) -> dict[str, Any]:
        """
        Turn on event lines.
        """
        if self._watch is None:
            self._watch = Watch(self._daemon.host, self.caller, self._send_event, self._go_on_soon)
        return self._watch.add(topics, since, tag)

    def unwatch(self, topics: list[str]) -> dict[str, Any]:
        """
        Turn them off; an empty list means all.
        """
        if self._watch is None:
            return {"cursor": self._daemon.host.feed.newest, "topics": []}
        return self._watch.remove(topics)

    @property
    def streams(self) -> Streams:
        """
        What is open on this connection.
        """
        if self._streams is None:
            self._streams = Streams(
                self._daemon.loop,
                self._tally,
                lambda: self._daemon.config.limits.principal_streams,
                self._send_data,
                self._drained,
                self._paused,
            )
        return self._streams

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Somebody connected: find out who.
        """
        transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._transport = transport
        transport.set_write_buffer_limits(high=self._limits.unread_bytes)
        self._deadlines = Deadlines(self, transport, self._daemon.loop, self._limits)
        try:
            self.caller = self._who(transport)
            refusal = self._daemon.admit(self)
            if refusal is not None:
                raise TooMany(refusal)
        except HostError as error:
            self._ended = True
            transport.write(wire.reply("error_reply", error.body()))
            transport.close()
            return
        self._admitted = True
        self._tally = self._daemon.tally(self.caller)
        self._tally.connections.add(self)
        self._kept = self._tally.kept(self.caller)

    def connection_lost(self, exc: Exception | None) -> None:
        """
        The connection is over; nothing that was asked is cancelled by that, but streams are closed.
        """
        self._ended = True
        self._queue.clear()
        self._held.clear()
        for answer in list(self._awaited):
            answer.give_up()
        self._slots.clear()
        self._tagged = self._bytes = 0
        self._count()
        self._deadlines.close()
        if self._watch is not None:
            self._watch.close()
        if self._admitted:
            self._tally.connections.discard(self)
            self._daemon.left(self)

    def data_received(self, data: bytes) -> None:
        """
        Bytes came.
        """
        tally = self._tally
        tally.asked = True
        if self._kept.generation != self._daemon.host.generation:
            self._kept.renew(self._daemon.host.generation)
        elif not (
            self._slots
            or self._queue
            or self._held
            or self._paused
            or self._lines.waiting
            or tally.full
            or tally.budget <= 0
        ):
            kept = self._kept.replies[self.format]
            reply = kept.get(data)
            if reply is not None:
                if len(tally.connections) > 1:  # a single one has nothing else in this turn of the loop
                    tally.charge(tally_.READ_S, self._daemon.loop)
                self._transport.write(reply)
                tally.written += len(reply)
                if tally.written > self._look:
                    tally.look(self.most_unread, self._daemon.loop)
                return
            if data[-1] == 10:
                try:
                    replies = [kept[line] for line in data.splitlines(True)]
                except KeyError:
                    pass
                else:
                    if len(replies) * self._kept.longest <= self._limits.unread_bytes:
                        tally.charge(tally_.READ_S + len(replies) * tally_.KEPT_S, self._daemon.loop)
                        self._write(b"".join(replies))
                        return
        tally.begin()
        lines = self._lines.feed(data)
        self._queue.extend(lines)
        self._bytes += sum(map(len, lines))
        tally.spend(tally_.READ_S + len(data) * tally_.BYTE_S)
        self._deadlines.watch_the_line(bool(lines), bool(self._lines.waiting))
        self._work()

    def eof_received(self) -> bool:
        """
        The client will say no more: answer everything asked, then close.
        """
        rest = self._lines.end()
        if isinstance(rest, wire.Overlong):
            self._queue.append(rest)
            self._bytes += len(rest)
        elif rest is not None and not rest.isspace():
            self._queue.append(_Unended(rest[: wire.KEPT]))
            self._bytes += len(self._queue[-1])
        self._ended = True
        self._deadlines.watch_the_line(True, bool(self._lines.waiting))
        self._work()
        self._deadlines.watch_for_hangup()
        return True

    def pause_writing(self) -> None:
        """
        The client reads slower than it asks: stop reading it; if all its connections do so, drop it.
        """
        self._paused = True
        self._regulate()
        if self._streams is not None:
            self._streams.pause()
        self._tally.look(self.most_unread, self._daemon.loop)
        self._deadlines.watch_the_unread()

    def resume_writing(self) -> None:
        """
        The client caught up.
        """
        self._paused = False
        self._deadlines.all_read()
        if self._streams is not None:
            self._streams.resume()
        self._work()
        if self._watch is not None:
            self._watch.flush()

    @property
    def unread(self) -> int:
        """
        Bytes that this client has not read.
        """
        return self._transport.get_write_buffer_size()

    @property
    def deaf(self) -> bool:
        """
        Whether nothing is read now that would tell that the client has hung up.
        """
        return self._ended or not self.reading

    @property
    def has_streams(self) -> bool:
        """
        Whether a stream is open.
        """
        return bool(self._streams)

    def drop(self, limit: str) -> None:
        """
        End the connection; what it has not read is lost.
        """
        self._daemon.dropped(limit, self)
        self._transport.abort()

    def cut(self) -> None:
        """
        End the connection of who may no longer come: nothing more is answered, as if the client had hung up.
        """
        if not self._transport.is_closing():
            self._transport.abort()

    def turn(self) -> None:
        """
        Go on; called by the tally.
        """
        self._turning = False
        if self._transport.is_closing():
            return
        if self._watch is not None:
            self._tally.begin()
            self._watch.flush()
            self._tally.spend()
        self._work()

    def _go_on_soon(self) -> None:
        if not self._turning:
            self._turning = True
            self._tally.wait(self, self._daemon.loop)

    def _write(self, data: bytes) -> None:
        tally = self._tally
        self._transport.write(data)
        tally.written += len(data)
        if tally.written > self._look:
            tally.look(self.most_unread, self._daemon.loop)

    # The order of lines.

    def _work(self) -> None:
        """
        Answer what waits, as far as order and limits allow; a turn's worth of it now, the rest when others had theirs.
        """
        if self._turning:
            return
        tally = self._tally
        tally.begin()
        while not (self._paused or tally.full) and (line := self._next()) is not None:
            self._bytes -= len(line.line)
            if line.tag is not None:
                self._answer_tagged(line)
            else:
                self._answer(line)
        if (tally.full or tally.budget <= 0) and not self._paused:
            # Without anything that waits, too: nothing more is read from it before the next turn.
            self._turning = True
            tally.wait(self, self._daemon.loop)
        if self._streams is not None and self._ended and not (self._queue or self._held):
            self._streams.end_input()
        self._count()
        self._regulate()
        if self._ended and not (self._queue or self._held or self._slots or self._tagged):
            self._transport.close()

    def _next(self) -> Prepared | None:
        """
        The next line that may be answered: in order, but a tagged line passes those that wait. None, if there is none
        or the turn is over: to take lines apart only to hold them back costs time too.
        """
        tally = self._tally
        tally.spend()
        if tally.budget > 0 and self._held and self._slots.may_begin(self._held[0]):
            return self._held.popleft()
        while tally.budget > 0 and self._queue and not (self._paused or tally.full):
            line = self._queue.popleft()
            if not (self._slots or self._held) and self._kept.generation == self._daemon.host.generation:
                reply = self._kept.replies[self.format].get(line + b"\n")
                if reply is not None:
                    self._bytes -= len(line)
                    self._write(reply)
                    tally.budget -= tally_.KEPT_S
                    continue
            if isinstance(line, _Unended):
                prepared = self._daemon.answers.unended(line, line.why)
            elif not line or line.isspace():
                self._bytes -= len(line)
                tally.spend()
                continue
            else:
                prepared = self._daemon.answers.prepare(line)
            if prepared.tag is not None or (not self._held and self._slots.may_begin(prepared)):
                return prepared
            self._held.append(prepared)
            tally.spend()
        return None

    def _answer(self, line: Prepared) -> None:
        answer = self._daemon.answers.answer(self, line)
        if answer.reply is not None and not self._slots:
            if answer.keep:
                self._kept.keep(self._daemon.host.generation, self.format, line.line, answer.reply)
            self._write(answer.reply)
            return
        slot = Slot(answer.reply, answer.blocks)
        self._slots.append(slot)
        if answer.later is not None:
            self._await(answer, line)
            answer.later.addCallback(self._fill, slot, answer)

    def _await(self, answer: Answer, line: Prepared) -> None:
        self._awaited[answer] = len(line.line)
        self._bytes += len(line.line)

    def _arrived(self, answer: Answer) -> None:
        if not self._transport.is_closing():
            self._bytes -= self._awaited[answer]
        del self._awaited[answer]

    def _fill(self, reply: bytes, slot: Slot, answer: Answer) -> None:
        self._arrived(answer)
        slot.reply = reply
        ready = self._slots.take()
        if ready and not self._transport.is_closing():
            self._write(b"".join(ready))
            self._work()

    def _answer_tagged(self, line: Prepared) -> None:
        if line.command == "data" or (self._streams is not None and line.tag in self._streams):
            self._take_data(line)
            return
        if self._tally.tagged + self._tagged - self._counted_tagged >= self._limits.principal_tagged:
            most = self._limits.principal_tagged
            error = TooMany(f"want at most {most} tagged requests of one principal under way; try again later")
            self._write(self._daemon.answers.refuse(self, line, error))
            return
        answer = self._daemon.answers.answer(self, line)
        if answer.reply is not None:
            self._write(answer.reply)
        elif answer.later is not None:
            self._tagged += 1
            self._await(answer, line)
            answer.later.addCallback(self._tagged_done, answer)

    def _tagged_done(self, reply: bytes, answer: Answer) -> None:
        self._arrived(answer)
        self._tagged -= 1
        if not self._transport.is_closing():
            self._write(reply)
            self._work()

    def _take_data(self, line: Prepared) -> None:
        error: HostError | None
        if line.command == "data":
            error = self.streams.feed(line)
        else:
            error = WrongState(f"a stream is open under tag {line.tag}; take another tag")
        if error is not None:
            self._write(self._daemon.answers.refuse(self, line, error))

    def _send_data(self, tag: str, stream: str, data: bytes) -> None:
        if not self._transport.is_closing():
            self._write(wire.stream_data(tag, stream, data, self.format == "json"))

    def _drained(self) -> None:
        self._count()
        self._regulate()

    def _send_event(self, body: dict[str, Any], tag: str | None) -> bool:
        if self._paused or self._transport.is_closing():
            return False
        self._write(wire.reply("event", body, tag, self.format == "json"))
        return True

    # The limits.

    def _count(self) -> None:
        waiting = len(self._queue) + len(self._held) + len(self._slots) + self._tagged
        self._tally.waiting += waiting - self._counted
        self._counted = waiting
        self._tally.tagged += self._tagged - self._counted_tagged
        self._counted_tagged = self._tagged
        waiting_bytes = self._bytes + (self._streams.unwritten if self._streams else 0)
        self._tally.bytes_waiting += waiting_bytes - self._counted_bytes
        self._counted_bytes = waiting_bytes

    def _regulate(self) -> None:
        """
        Read on, or stop reading, by what waits here and for all of the principal.
        """
        free = (
            not (self._paused or self._late or self._turning)
            and self._counted < self._limits.lines_waiting
            and self._counted_bytes < self._limits.bytes_waiting
            and (
                self._counted == 0
                or (
                    self._tally.waiting < self._limits.principal_lines_waiting
                    and self._tally.bytes_waiting < self._limits.principal_bytes_waiting
                )
            )
        )
        if free == self.reading or self._transport.is_closing():
            return
        self.reading = free
        if free:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
        self._deadlines.watch_the_line(True, bool(self._lines.waiting))
        self._deadlines.watch_for_hangup()

    def line_late(self) -> None:
        """
        The client took too long to end a line: answer what it asked before, say so, and close.
        """
        self._daemon.dropped("line_seconds", self)
        late = _Unended((self._lines.end() or b"")[: wire.KEPT])
        late.why = f"want a line ended within {self._limits.line_seconds:g} s of its first byte; nothing was done"
        self._queue.append(late)
        self._bytes += len(late)
        self._late = self._ended = True
        self._regulate()
        self._work()


class _Unended(bytes):
    """
    What stood after the last newline when the client ended its side, or took too long for the rest.
    """

    why = "the input ended within a line; nothing was done"
