"""
TLS between a socket and a connection, by Python's ssl on memory.

Event loops have one of their own, but theirs tells nobody why a certificate was refused (the alert is never sent), and
ends a connection when its client says that it will say no more; ours answers what was asked first, as everywhere.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Any, cast

#: Seconds that the other end has to hear the last of what was said and hang up; if it reads on, so many times as long.
_LINGER_S, _LINGERS = 2.0, 15
_READ = 1 << 16
#: A record's head, the longest of what may follow it, and the kinds that there are (RFC 8446, 5.1).
_HEAD, _LONGEST, _KINDS = 5, (1 << 14) + 2048, range(20, 24)
#: Records that a handshake may have; and that may come after it in which nothing is said, beyond those that say
#: something: new keys are work that can be asked for without end, by who has shown nothing, too.
_SHAKING, _SILENT = 256, 32


class Encrypted(asyncio.Transport, asyncio.Protocol):
    """
    One connection: the protocol of the transport below, and the transport of the protocol above.

    @ivar shaken: fires when the handshake is over; fails with why it came to nothing.
    """

    def __init__(
        self,
        above: asyncio.Protocol,
        context: ssl.SSLContext,
        loop: asyncio.AbstractEventLoop,
        limit_s: float,
    ) -> None:
        """
        @param above: hears nothing before the handshake is done.
        @param limit_s: seconds that the handshake may take.
        """
        super().__init__()
        self.shaken: asyncio.Future[None] = loop.create_future()
        self._above = above
        self._loop = loop
        self._limit_s = limit_s
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._timer: asyncio.TimerHandle | None = None
        self._raw = bytearray()
        self._left = _SHAKING
        self._begun = False
        self._made = self._paused = self._closed = self._heard_all = self._lost = False

    # To the transport below.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        The socket is ours.
        """
        self._below = cast("asyncio.Transport", transport)
        self._begun = True
        self._timer = self._loop.call_later(self._limit_s, self._late)

    def data_received(self, data: bytes) -> None:
        """
        Bytes came.
        """
        if self._closed:
            return
        self._raw += data
        self._take()

    def eof_received(self) -> bool:
        """
        Nothing more will come. Who has not said so by TLS was cut off, perhaps by somebody else, or has gone.
        """
        if not (self._heard_all or self._closed):
            self._fail(ConnectionError("it hung up"))
        return not self._closed

    def connection_lost(self, exc: Exception | None) -> None:
        """
        The socket is closed.
        """
        self._closed = self._lost = True
        self._stop_timer()
        self._came_to_nothing(exc or ConnectionError("it hung up"))
        if self._made:
            self._above.connection_lost(exc)

    def pause_writing(self) -> None:
        """
        The other end reads slowly.
        """
        if self._made:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """
        It caught up.
        """
        if self._made:
            self._above.resume_writing()

    def _take(self) -> None:
        """
        Go on with what came, record by record: OpenSSL would go through all that it has, however long that takes.
        """
        while not (self._closed or self._paused or self._heard_all):
            record = self._record()
            if not record:
                break
            self._incoming.write(record)
            if not self._made:
                self._left -= 1
                self._shake()
            elif self._read():
                self._left = min(_SILENT, self._left + 1)
            else:
                self._left -= 1
            if self._left < 0 and not self._closed:
                self._fail(ConnectionError("it says nothing, at length"))
        self._flush()

    def _record(self) -> bytes:
        raw = self._raw
        size = _HEAD + int.from_bytes(raw[3:_HEAD], "big")
        if raw and (raw[0] not in _KINDS or size > _HEAD + _LONGEST):  # none at all; OpenSSL finds the words for it
            size = len(raw)
        elif len(raw) < max(size, _HEAD):
            return b""
        record = bytes(raw[:size])
        del raw[:size]
        return record

    # The handshake.

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._flush()
        with suppress(OSError):  # we have nothing to say now; who waits to hear that his last came would wait for 40 ms
            self.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._stop_timer()
        self._made, self._left = True, _SILENT
        self._above.connection_made(self)
        if not self.shaken.done():
            self.shaken.set_result(None)

    def _late(self) -> None:
        self._timer = None
        self._came_to_nothing(TimeoutError(f"it took longer than {self._limit_s:g} s"))
        self.abort()

    def _fail(self, error: Exception) -> None:
        if self._made:
            self.abort()
            return
        self._came_to_nothing(error)
        self._end()  # what the other end is told is in there

    def _came_to_nothing(self, error: Exception) -> None:
        if not self.shaken.done():
            self.shaken.set_exception(error)
            self.shaken.exception()  # who does not wait any more need not be told

    # To the protocol above.

    def _read(self) -> bool:
        """
        @return: whether anything was said.
        """
        said = False
        while not (self._paused or self._closed or self._heard_all):
            try:
                data = self._tls.read(_READ)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError:  # altered on the way, or nonsense: nobody knows what was meant
                self._flush()
                self.abort()
                break
            said = True
            if data:
                self._above.data_received(data)
            else:
                self._heard_all = True
                if not self._above.eof_received():
                    self.close()
        return said

    def _flush(self) -> None:
        if self._outgoing.pending and not self._closed:
            self._below.write(self._outgoing.read())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """
        As of the transport below; C{ssl_object} is ours.
        """
        return self._tls if name == "ssl_object" else self._below.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """
        Whether it is, or is being, closed.
        """
        return self._closed or self._below.is_closing()

    def write(self, data: Any) -> None:
        """
        Say something, unless it is too late.
        """
        if self._closed:
            return
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._tls.write(rest) :]
        except ssl.SSLError:
            self.abort()
            return
        self._flush()

    def pause_reading(self) -> None:
        """
        Hand on nothing, and read nothing.
        """
        self._paused = True
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """
        Go on.
        """
        self._paused = False
        self._below.resume_reading()
        self._loop.call_soon(self._take)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """
        As of the transport below, where all that was said waits.
        """
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """
        How many bytes wait.
        """
        return self._below.get_write_buffer_size()

    def close(self) -> None:
        """
        Say that this is all; the connection is over when that was heard, or some time has passed.
        """
        if not self._closed:
            self._end()

    def abort(self) -> None:
        """
        End it now; what was not read is lost.
        """
        self._closed = True
        if self._begun:
            self._below.abort()

    def _end(self) -> None:
        if self._made:
            with suppress(ssl.SSLError):
                self._tls.unwrap()  # its first half: that we say no more
        self._flush()
        self._closed = True
        self._stop_timer()
        if self._lost or self._below.is_closing():
            return
        # Not closed at once: what comes after that would make the kernel take back what was not read yet.
        with suppress(OSError):
            self._below.write_eof()
        if self._paused:
            self._below.resume_reading()
        self._linger(_LINGERS, -1)

    def _linger(self, left: int, before: int) -> None:
        waiting = self._below.get_write_buffer_size()
        if before == 0 or left == 0:
            self._below.abort()
            return
        left = _LINGERS if waiting != before else left - 1
        self._timer = self._loop.call_later(_LINGER_S, self._linger, left, waiting)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
