"""
HTTP between a transport and a L{Connection}: POSTs of calls come in, one at a time; h11 reads and writes it.

What a client may take is what every connection may: bodies that come count as lines that wait, answers that are not
read as replies that are not, and a request is to be whole as soon as a line is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import h11
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from hostline.server import callers
from hostline.server.callers import Caller
from hostline.server.connection import Connection
from hostline.server.facades.emulab_call import BUG, LONGEST, fault
from hostline.server.facades.inward import Inward
from hostline.server.tally import Piece, Tally

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: Where it is posted to: Emulab's own path, and that which XML-RPC has by default.
PATHS = (b"/usr/testbed", b"/usr/testbed/", b"/RPC2", b"/")
#: What a body is said to be. A page of somebody else's cannot have a browser post that, under a certificate that the
#: browser has, without asking first whether it may.
_TYPES = (b"text/xml", b"application/xml")
#: Bytes that may come before the answer to what was asked.
_AHEAD = 1 << 16

Answers = Callable[["Daemon", Inward, bytes], Coroutine[Any, Any, bytes]]


class WebConnection(asyncio.Protocol):
    """
    One client who posts calls.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon, connection: Connection, answers: Answers) -> None:
        """
        @param connection: says what is asked, in the name of who is at the other end.
        @param answers: makes an answer of the body of a call.
        """
        self.connection = connection
        self._daemon = daemon
        self._answers = answers
        self._limits = daemon.config.limits
        self._http = h11.Connection(h11.SERVER)
        self._tally = Tally()
        self._inward: Inward | None = None
        self._body = bytearray()
        self._counted = 0
        self._ahead = 0
        self._posted = self._begun = self._over = self._within = False
        self._late: asyncio.TimerHandle | None = None
        self._answer: Deferred[None] | None = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Somebody connected: whether he may is found out as of any connection.
        """
        self._transport = cast("asyncio.Transport", transport)
        inward = self._inward = Inward(self._transport, self._closed_inside, self._forget)
        inward.begin(self.connection)
        if inward.refusal is not None:
            self._refuse(403 if inward.refusal.get("code") == "DENIED" else 503, str(inward.refusal.get("message", "")))
            return
        self._tally = self._daemon.tally(self.connection.caller)

    def data_received(self, data: bytes) -> None:
        """
        Bytes came.
        """
        if self._over:
            return
        self._tally.asked = True
        if self._begun:
            self._ahead += len(data)
            if self._ahead > _AHEAD:
                self._daemon.dropped("bytes sent before the answer", self.connection)
                self._transport.abort()
                return
        elif self._late is None:
            self._late = self._daemon.loop.call_later(self._limits.line_seconds, self._too_late)
        self._http.receive_data(data)
        self._charged(self._read)

    def eof_received(self) -> bool:
        """
        The client says no more, and so hears no more: who posts waits for the answer before he goes.
        """
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """
        The client is gone; what it began goes on.
        """
        self._over = True
        self._in_time()
        self._count(0)
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.cancel()
        if self._inward is not None:
            self._inward.lost()

    def pause_writing(self) -> None:
        """
        The client reads slowly.
        """
        self.connection.pause_writing()

    def resume_writing(self) -> None:
        """
        It caught up.
        """
        self.connection.resume_writing()

    # Requests.

    def _read(self) -> None:
        """
        Go on with what came.
        """
        if self._within:  # further out this goes on
            return
        self._within = True
        try:
            self._read_on()
        finally:
            self._within = False

    def _read_on(self) -> None:
        while not (self._over or self._begun):
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint, str(error))
                return
            if event is h11.NEED_DATA or event is h11.PAUSED:
                if self._http.they_are_waiting_for_100_continue and self._posted:
                    self._write(h11.InformationalResponse(status_code=100, headers=[]))
                return
            if isinstance(event, h11.Request):
                self._take_head(event)
            elif isinstance(event, h11.Data):
                self._take_body(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._begin()
            else:
                self._end()

    def _take_head(self, head: h11.Request) -> None:
        headers = dict(head.headers)
        path = head.target.partition(b"?")[0]
        length = headers.get(b"content-length", b"0")
        if path not in PATHS:
            self._refuse(404, "want a POST to /usr/testbed")
        elif head.method != b"POST":
            self._refuse(405, "want a POST", [("Allow", "POST")])
        elif headers.get(b"content-type", b"").partition(b";")[0].strip().lower() not in _TYPES:
            self._refuse(415, "want a body of the type text/xml")
        elif headers.get(b"content-encoding", b"identity") != b"identity":
            self._refuse(415, "want a body that is not compressed")
        elif len(length) > 12 or int(length) > LONGEST:
            self._refuse(413, f"want at most {LONGEST} bytes")
        else:
            self._posted = True

    def _take_body(self, data: bytes) -> None:
        self._body += data
        self._count(len(self._body))
        if len(self._body) > LONGEST:
            self._refuse(413, f"want at most {LONGEST} bytes")
        elif self._tally.bytes_waiting > self._limits.principal_bytes_waiting and len(self._body) > _AHEAD:
            most = self._limits.principal_bytes_waiting
            self._refuse(503, f"want at most {most} bytes of one principal that wait; try again later")

    def _begin(self) -> None:
        """
        A request is whole: answer it, when it is this principal's turn.
        """
        self._in_time()
        self._begun, self._ahead = True, 0
        self._tally.spend()
        if self._tally.budget > 0:
            self._start()
        else:
            self._tally.wait(Piece(self._tally, self._start), self._daemon.loop)

    def _start(self) -> None:
        if self._over or self._inward is None:
            return
        body, self._body = bytes(self._body), bytearray()
        answer = Deferred.fromCoroutine(self._answered(self._inward, body))
        self._answer = answer
        answer.addErrback(self._failed)

    async def _answered(self, inward: Inward, body: bytes) -> None:
        try:
            answer = await self._answers(self._daemon, inward, body)
        except CancelledError:
            raise
        except Exception:
            if self._over:
                raise
            self._log.failure("a call by XML-RPC")
            answer = fault(BUG, "a bug of the daemon's; its log has it")
        if not self._over:
            self._charged(lambda: self._reply(200, answer))

    def _failed(self, failure: Failure) -> None:
        if not self._over:
            self._log.failure("a call by XML-RPC", failure)
            self._transport.abort()

    def _reply(self, status: int, body: bytes) -> None:
        self._answer = None
        self._count(0)
        self._write(
            h11.Response(
                status_code=status,
                headers=[("Content-Type", "text/xml"), ("Content-Length", str(len(body)))],
            ),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        self._begun = self._posted = False
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._end()
            return
        self._http.start_next_cycle()
        if self._http.trailing_data[0] and self._late is None:
            self._late = self._daemon.loop.call_later(self._limits.line_seconds, self._too_late)
        self._read()

    def _refuse(self, status: int, text: str, more: list[tuple[str, str]] | None = None) -> None:
        """
        Answer what is no request that is taken, and hear no more.
        """
        body = f"{text}\n".encode("utf-8", "replace")
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        with suppress(h11.LocalProtocolError):
            self._write(
                h11.Response(status_code=status, headers=[*headers, ("Connection", "close"), *(more or [])]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
        self._end()

    def _write(self, *events: Any) -> None:
        data = b"".join(self._http.send(one) or b"" for one in events)
        self._transport.write(data)
        tally = self._tally
        tally.written += len(data)
        if tally.written > self.connection.most_unread // 4:
            tally.look(self.connection.most_unread, self._daemon.loop)

    # The limits.

    def _charged(self, do: Callable[[], None]) -> None:
        """
        Do something, of which the principal has less time for other things.
        """
        tally = self._tally
        tally.begin()
        do()
        tally.spend()
        if tally.budget <= 0:
            tally.wait(None, self._daemon.loop)

    def _count(self, size: int) -> None:
        self._tally.bytes_waiting += size - self._counted
        self._counted = size

    def _in_time(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            late.cancel()

    def _too_late(self) -> None:
        self._late = None
        self._daemon.dropped("line_seconds", self.connection)
        self._refuse(408, f"want a request whole within {self._limits.line_seconds:g} s of its first byte")

    def _closed_inside(self, at_once: bool) -> None:
        if at_once:
            self._transport.abort()

    def _forget(self, caller: Caller, sha256: str) -> Deferred[None]:
        return self._daemon.blobs.forget(callers.principal(self._daemon.host, caller), sha256)

    def _end(self) -> None:
        self._over = True
        self._in_time()
        self._transport.close()
