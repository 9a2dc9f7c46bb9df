"""
One stream: a request under a tag whose input and output go as C{data} lines, until its reply.
"""

from __future__ import annotations

import os
import select
import time

from hostline.clients.connection import Connection
from hostline.protocol.errors import Timeout, raised_again
from hostline.protocol.wire import read_reply, stream_chunk, stream_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hostline.protocol.wire import Reply

TAG = "1"
#: Bytes of input on one line.
PIECE = 192 << 10


class Stream:
    """
    A stream on a connection that has no other use.

    @ivar ended: whether the end of the input was said.
    @ivar filter: what is read from a descriptor goes through it.
    """

    def __init__(
        self,
        connection: Connection,
        line: str,
        hear: Callable[[str, bytes], None],
        source: bytes | int | None = None,
        deadline: float | None = None,
    ) -> None:
        """
        @param line: the request, without tag and newline.
        @param hear: called with C{out} or C{err} and what was written there; as long as it takes, nothing more is read.
        @param source: the input: bytes, or a descriptor that is read to its end; None: there is none.
        @param deadline: on C{time.monotonic}, for all of it.
        """
        self._connection = connection
        self._hear = hear
        self._deadline = deadline
        self._unsent = f"@{TAG} {line}\n".encode("utf-8", "surrogateescape")
        self._source = source if isinstance(source, int) else -1
        self._left = memoryview(source) if isinstance(source, bytes) else memoryview(b"")
        self._wakes: dict[int, Callable[[], None]] = {}
        self.filter: Callable[[bytes], bytes] = lambda data: data
        self.ended = False
        if source is None:
            self.end()

    def wake(self, descriptor: int, call: Callable[[], None]) -> None:
        """
        Call something whenever a descriptor can be read.
        """
        self._wakes[descriptor] = call

    def tell(self, data: bytes) -> None:
        """
        Send a piece of input, besides what the source has.
        """
        self._unsent += stream_data(TAG, "in", data)

    def resize(self, rows: int, columns: int) -> None:
        """
        The terminal has another size.
        """
        self._say(f"{{'rows': {rows}, 'columns': {columns}}}")

    def end(self) -> None:
        """
        There is no more input.
        """
        if not self.ended:
            self.ended = True
            self._source = -1
            self._say("{'stream': 'in', 'end': True}")

    def leave(self) -> None:
        """
        Have the daemon end the stream; its reply still comes.
        """
        self.ended = True
        self._source = -1
        self._say("{'close': True}")

    def run(self) -> Reply:
        """
        @return: the reply.
        @raise HostError: the daemon refuses, or ends the stream for a reason.
        @raise NoDaemon: the connection broke.
        @raise Timeout: past the deadline; the connection is to be closed, which ends what runs.
        """
        poll = select.poll()
        daemon = self._connection.fileno()
        while True:
            self._refill()
            poll.register(daemon, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            for descriptor in self._wakes:
                poll.register(descriptor, select.POLLIN)
            reading = self._source if len(self._unsent) < PIECE else -1
            if reading >= 0:
                poll.register(reading, select.POLLIN)
            ready = dict(poll.poll(self._milliseconds()))
            if reading >= 0:
                poll.unregister(reading)
            for descriptor, call in self._wakes.items():
                if descriptor in ready:
                    call()
            if ready.get(daemon, 0) & select.POLLOUT:
                self._unsent = self._unsent[self._connection.give(self._unsent) :]
            if ready.get(daemon, 0) & ~select.POLLOUT:
                for line in self._connection.take():
                    reply = self._read(line)
                    if reply is not None:
                        return reply
            if reading in ready and reading == self._source:
                self._read_source()

    def _read(self, line: bytes) -> Reply | None:
        reply = read_reply(line.decode("ascii", "replace"))
        if reply.word == "data":
            self._hear(*stream_chunk(reply.body))
            return None
        if reply.word == "error_reply":
            raise raised_again(reply.body)
        return reply if reply.tag == TAG else None

    def _refill(self) -> None:
        while self._left and len(self._unsent) < PIECE:
            self._unsent += stream_data(TAG, "in", bytes(self._left[:PIECE]))
            self._left = self._left[PIECE:]
        if not self._left and self._source < 0:
            self.end()

    def _read_source(self) -> None:
        try:
            data = os.read(self._source, PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        data = self.filter(data)
        if data and not self.ended:
            self.tell(data)

    def _say(self, piece: str) -> None:
        self._unsent += f"@{TAG} data {piece}\n".encode("ascii")

    def _milliseconds(self) -> float | None:
        if self._deadline is None:
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Timeout("no end of the stream in the time given")
        return left * 1000 + 1
