"""
How the forward shell passes lines on, both ways, and what it does about silence.
"""

from __future__ import annotations

import _socket
import posix
import select
import time

from hostline.clients.counting import Tally
from hostline.clients.reach import AGAIN_S, ANSWERED, NO_DAEMON, REFUSED, TIMEOUT, WRONG_USAGE, Probe, Refusal, shown

#: Deadlines, in seconds; C{connect}: in which the daemon accepts the connection; the others as L{forward} says.
SECONDS = {"connect": 10.0, "silence": 60.0, "ping": 30.0, "idle": 3600.0, "write": 120.0}
#: How much is taken in of a body that is not answered.
BODY = 1 << 20

_PIECE = 1 << 16
#: A pipe or a socket that is ready for output takes this much without blocking; we must not make it non-blocking, for
#: others may share it.
_READY = 4096
_BOM = b"\xef\xbb\xbf"


class HungUp(Exception):
    """
    Whoever reads our output is gone.
    """


class Forward:
    """
    Passes lines on, both ways, until the daemon hangs up.
    """

    def __init__(
        self,
        daemon: _socket.socket,
        path: bytes,
        request: bytes | None,
        seconds: dict[str, float] = SECONDS,
        descriptors: tuple[int, int] = (0, 1),
    ) -> None:
        """
        @param daemon: a connection that does not block.
        @param request: the one line to pass on; None takes standard input.
        @param descriptors: standard input and output.
        """
        self._daemon = daemon
        self._path = path
        self._seconds = seconds
        self._in, self._out = descriptors
        self._asked = Tally(b"data")
        self._answered = Tally(b"data", b"event")
        self._unsent = b""
        self._unwritten = memoryview(b"")
        self._begun = self._single = request is not None
        self._reading = not self._single
        self._sending = True
        self._probe: Probe | None = None
        # When the daemon gave its last sign of life, we the last of ours, and our reader took something.
        self._heard = self._said = self._taken = time.monotonic()
        if request is not None:
            self._unsent = request + b"\n"
            self._asked.feed(self._unsent)

    def run(self) -> int:
        """
        @return: the exit status.
        @raise Refusal: if not all was answered, or a deadline is over.
        @raise HungUp: if our reader did.
        """
        while True:
            self._end_sending()
            wait_s = self._look(time.monotonic())
            if wait_s is None:
                return self._status()
            ready = self._poll(wait_s)
            if ready.get(self._out, 0) & ~select.POLLOUT:
                raise HungUp
            if self._out in ready:
                self._write()
            if self._in in ready:
                self._read()
            happened = ready.get(self._daemon.fileno(), 0)
            if happened & ~select.POLLIN and self._unsent:
                self._send()
            if happened & ~select.POLLOUT and not self._unwritten and not self._pass_on():
                return self._status()
            if self._probe is not None and self._probe.heard():
                self._alive()

    def _poll(self, wait_s: float) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._out, select.POLLOUT if self._unwritten else 0)
        if self._reading and not self._unsent:
            poll.register(self._in, select.POLLIN)
        # While our reader is slow the daemon is not asked at all: poll would tell without end that it hung up.
        events = (0 if self._unwritten else select.POLLIN) | (select.POLLOUT if self._unsent else 0)
        if events:
            poll.register(self._daemon.fileno(), events)
        if self._probe is not None and self._probe.connection is not None:
            poll.register(self._probe.connection.fileno(), select.POLLIN)
        return dict(poll.poll(max(0.0, wait_s) * 1000 + 1))

    # The deadlines.

    @property
    def _complete(self) -> bool:
        """
        Whether all was said and all was answered.
        """
        return not (self._reading or self._unsent or self._watching or self._answered.partial) and (
            self._answered.count >= self._asked.count
        )

    @property
    def _watching(self) -> bool:
        return self._asked.watches and (self._reading or (self._single and not self._answered.errors))

    @property
    def _owes(self) -> bool:
        """
        Whether it is the daemon's turn to do something.
        """
        return bool(
            self._unsent
            or not self._reading
            or self._asked.partial
            or self._answered.partial
            or self._watching
            or self._answered.count < self._asked.count
        )

    def _look(self, now: float) -> float | None:
        """
        @return: seconds until the next deadline; None if the daemon is given up, which owes nothing but the end.
        """
        if self._unwritten:
            late = self._taken + self._seconds["write"] - now
            if late <= 0:
                raise HungUp
            return late
        if self._probe is not None:
            late = self._probe.until - now
            if late <= 0:
                self._give_up()
                return None
            self._probe.begin(now)
            return late if self._probe.connection is not None else min(late, AGAIN_S)
        if self._owes:
            late = self._heard + self._seconds["silence"] - now
            if late <= 0:
                self._probe = Probe(self._path, now + self._seconds["ping"])
                return 0
            return late
        late = self._said + self._seconds["idle"] - now
        if late <= 0:
            idle = self._seconds["idle"]
            raise Refusal("TIMEOUT", f"nothing was asked for {idle:g} s; the connection was ended", TIMEOUT)
        return late

    def _give_up(self) -> None:
        if self._complete:
            return
        silent = self._seconds["silence"] + self._seconds["ping"]
        what = f"the daemon at {shown(self._path)} has been silent for {silent:g} s; what it has begun may go on"
        raise Refusal("TIMEOUT", what, TIMEOUT, cut=self._answered.partial)

    def _alive(self) -> None:
        self._heard = time.monotonic()
        if self._probe is not None:
            self._probe.close()
            self._probe = None

    # The bytes.

    def _read(self) -> None:
        try:
            data = posix.read(self._in, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._said = time.monotonic()
        if not self._owes:
            self._heard = self._said
        if data:
            if not self._begun:
                head = data.removeprefix(_BOM).lstrip()
                self._begun = bool(head)
                if head[:1] == b"<":
                    take_body(len(data), self._in, self._out, self._seconds["silence"])
            self._asked.feed(data)
            if self._sending:
                self._unsent = data
                self._send()
        else:
            self._asked.end()
            self._reading = False

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._daemon.send(self._unsent) :]
            self._heard = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:  # it hung up; what it said before is still to be read
            self._unsent = b""
            self._sending = False

    def _end_sending(self) -> None:
        # The daemon ends event lines with our half: to watch, it must stay open.
        if self._reading or self._unsent or not self._sending or self._watching:
            return
        self._sending = False
        try:
            self._daemon.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    def _pass_on(self) -> bool:
        try:
            data = self._daemon.recv(_PIECE)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if data:
            self._alive()
            self._answered.feed(data)
            self._unwritten = memoryview(data)
            self._taken = self._said = self._heard
            if len(data) <= _READY and _takes(self._out, 0):
                self._write()
        return bool(data)

    def _write(self) -> None:
        while self._unwritten:
            try:
                written = posix.write(self._out, self._unwritten[:_READY])
            except BlockingIOError:  # somebody who shares our output made it so
                return
            except OSError:
                raise HungUp from None
            self._unwritten = self._unwritten[written:]
            self._taken = self._heard = time.monotonic()
            if self._unwritten and not _takes(self._out, 0):
                return

    def _status(self) -> int:
        """
        The daemon has hung up.
        """
        answered = self._answered
        if self._complete:
            return REFUSED if self._single and answered.errors else ANSWERED
        own_words = answered.last.startswith(b"error_reply {'code': 'TOO_MANY'") and answered.count == 1
        own_words = own_words or (answered.last.startswith(b"error_reply ") and answered.count > self._asked.count)
        if own_words and not answered.partial:  # refused, or tired of half a line: it has said so
            return NO_DAEMON
        what = f"the daemon at {shown(self._path)} closed the connection before all was answered"
        raise Refusal("NO_DAEMON", what, NO_DAEMON, cut=answered.partial)


def take_body(size: int, source: int, sink: int, seconds: float) -> None:
    """
    Answer an XML-RPC body, which is all of standard input. There is nobody yet who would: it is taken in and refused.

    @param size: how much of it has been read.
    @param seconds: how long it may stand still.
    @raise Refusal: always.
    """
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(sink, 0)
    while size < BODY:
        ready = dict(poll.poll(seconds * 1000))
        if sink in ready:
            raise HungUp
        try:
            data = posix.read(source, _PIECE) if ready else b""
        except BlockingIOError:
            continue
        except OSError:
            break
        if not data:
            break
        size += len(data)
    what = "this host does not answer XML-RPC yet; want requests as lines, such as 'status_request lab/exp1' or 'help'"
    raise Refusal("UNKNOWN_COMMAND", what, WRONG_USAGE)


def _takes(sink: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(sink, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def write(sink: int, data: bytes, seconds: float) -> None:
    """
    @raise HungUp: if nobody reads it.
    """
    while data:
        if not _takes(sink, seconds):
            raise HungUp
        try:
            data = data[posix.write(sink, data[:_READY]) :]
        except BlockingIOError:
            time.sleep(AGAIN_S)
        except OSError:
            raise HungUp from None
