"""
C{hostline-shell}: the forward shell, the login shell of delegates: C{echo ping | ssh del_mon@host}.

Lines from standard input, or the one after C{-c}, go to the daemon, and all that it answers to standard output.
It parses nothing, cuts nothing and trusts no environment: who may ask what is the daemon's business, and who asks it
learns from the kernel. Nothing but the standard library is needed, and little of it: this file also runs alone, as
C{python3 -I -S forward.py}.

Exit status: 0, all was answered; 1, the reply to the request after C{-c} was an error; 2, usage; 3, no daemon, or
it went away with something unanswered. In the last two cases an C{error_reply} stands on a line of its own.

There is no deadline for replies, for a request may ask to wait for hours; who waits no longer hangs up. A daemon that
does not accept the connection within L{CONNECT_S} counts as none.
"""

from __future__ import annotations

import _socket
import posix
import select
import sys
import time

USAGE = "want hostline-shell [--socket PATH] [-c REQUEST]"
SOCKET = "/run/hostline/hostline.sock"
#: Seconds in which the daemon accepts the connection.
CONNECT_S = 10.0

ANSWERED, REFUSED, WRONG_USAGE, NO_DAEMON = 0, 1, 2, 3

_IN, _OUT = 0, 1
_PIECE = 1 << 16
_SUN_PATH = 107
#: How much of a line is looked at: a tag has 64 characters at most.
_HEAD = 100


class Refusal(Exception):
    """
    The request cannot be passed on.
    """

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class HungUp(Exception):
    """
    Whoever reads our output is gone.
    """


class Tally:
    """
    Counts lines in a stream: requests in one direction, the replies to them in the other.

    @ivar count: of whole lines; empty ones, and C{event} and C{data} lines, which are no replies, do not count.
    @ivar errors: how many of them were C{error_reply}.
    @ivar partial: whether the stream stands within a line.
    """

    def __init__(self) -> None:
        self.count = self.errors = 0
        self.partial = False
        self._head = b""

    def feed(self, data: bytes) -> None:
        """
        @param data: the next bytes, cut anywhere.
        """
        lines = data.split(b"\n")
        lines[0] = self._head + lines[0][:_HEAD]
        for line in lines[:-1]:
            self._take(line)
        # Only of the last line is more to come; that it has begun must not be forgotten when it begins with blanks.
        self._head = lines[-1][:_HEAD]
        self.partial = bool(lines[-1])

    def end(self) -> None:
        """
        The stream is over: what stands after the last newline counts too.
        """
        self._take(self._head)

    def _take(self, line: bytes) -> None:
        word = command_of(line)
        if word is not None and word not in (b"event", b"data"):
            self.count += 1
            self.errors += word == b"error_reply"


def command_of(line: bytes) -> bytes | None:
    """
    @return: the first word of a line after its tag; None if the line is empty, which nobody answers.
    """
    words = line[: 2 * _HEAD].split(None, 2)
    if words and words[0][:1] == b"@":
        return words[1] if len(words) > 1 else b""
    return words[0] if words else None


class Forward:
    """
    Passes lines on, both ways, until the daemon hangs up.
    """

    def __init__(self, path: str, request: bytes | None) -> None:
        """
        @param request: the one line to pass on; None takes standard input.
        @raise Refusal: if there is no daemon.
        """
        self._path = path
        self._daemon = connected(path)
        self._asked = Tally()
        self._answered = Tally()
        self._unsent = b""
        self._reading = request is None
        self._single = request is not None
        # The daemon ends event lines with our half: to watch, it must stay open.
        self._watching = request is not None and command_of(request) == b"watch"
        self._sending = True
        if request is not None:
            self._unsent = request + b"\n"
            self._asked.feed(self._unsent)

    def run(self) -> int:
        """
        @return: the exit status.
        @raise Refusal: if the daemon went away with something unanswered.
        @raise HungUp: if our reader did.
        """
        daemon = self._daemon.fileno()
        poll = select.poll()
        poll.register(_OUT, 0)
        while True:
            self._end_sending()
            poll.register(daemon, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            if self._reading and not self._unsent:
                poll.register(_IN, select.POLLIN)
            else:
                _unregister(poll, _IN)
            ready = dict(poll.poll())
            if ready.get(_OUT):
                raise HungUp
            if _IN in ready:
                self._read()
            if ready.get(daemon, 0) & select.POLLOUT:
                self._send()
            if ready.get(daemon, 0) & ~select.POLLOUT and not self._pass_on():
                return self._status()

    def _read(self) -> None:
        try:
            data = posix.read(_IN, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._asked.feed(data)
            if self._sending:
                self._unsent = data
        else:
            self._asked.end()
            self._reading = False

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._daemon.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # it hung up; what it said before is still to be read
            self._unsent = b""
            self._sending = False

    def _end_sending(self) -> None:
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
            self._answered.feed(data)
            write(data)
        return bool(data)

    def _status(self) -> int:
        if self._answered.partial or self._reading or self._watching or self._answered.count < self._asked.count:
            if self._answered.partial:
                write(b"\n")
            raise Refusal(
                "NO_DAEMON", f"the daemon at {self._path} closed the connection before all was answered", NO_DAEMON
            )
        return REFUSED if self._single and self._answered.errors else ANSWERED


def _unregister(poll: select.poll, descriptor: int) -> None:
    try:
        poll.unregister(descriptor)
    except KeyError:
        pass


def connected(path: str) -> _socket.socket:
    """
    @return: a connection that never blocks.
    @raise Refusal: if nobody listens at C{path}, or we may not ask.
    """
    place = path.encode(sys.getfilesystemencoding(), "surrogateescape")
    found = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    found.setblocking(False)
    until = time.monotonic() + CONNECT_S
    opened = -1
    try:
        if len(place) > _SUN_PATH:  # more than a socket address holds: the way through a descriptor is short
            opened = posix.open(place, posix.O_PATH | posix.O_CLOEXEC)
            place = b"/proc/self/fd/%d" % opened
        while True:
            try:
                found.connect(place)
                return found
            except BlockingIOError:  # it is slow to accept
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
    except OSError as error:
        raise Refusal("NO_DAEMON", f"no daemon at {path}: {error.strerror}", NO_DAEMON) from None
    finally:
        if opened >= 0:
            posix.close(opened)


def write(data: bytes) -> None:
    """
    @raise HungUp: if nobody reads it.
    """
    while data:
        try:
            data = data[posix.write(_OUT, data) :]
        except BlockingIOError:  # somebody who shares our output made it so
            poll = select.poll()
            poll.register(_OUT, select.POLLOUT)
            poll.poll()
        except OSError:
            raise HungUp from None


def arguments(words: list[str]) -> tuple[str, bytes | None]:
    """
    @param words: without the program's name.
    @return: the socket's path and the request, None if requests come on standard input.
    @raise Refusal: if they make no sense, or the request is not one line.
    """
    path = SOCKET
    if words[:1] == ["--socket"] and len(words) > 1:
        path, words = words[1], words[2:]
    if not words:
        return path, None
    if words[0] != "-c" or len(words) != 2:
        raise Refusal("BAD_ARGUMENTS", USAGE, WRONG_USAGE)
    request = words[1].encode(sys.getfilesystemencoding(), "surrogateescape")
    if b"\n" in request:
        raise Refusal("BAD_LINE", "want one request on one line; send more on standard input", WRONG_USAGE)
    if not request.strip():
        raise Refusal("BAD_ARGUMENTS", "want a request after -c; 'help' lists the commands", WRONG_USAGE)
    return path, request


def run(words: list[str]) -> int:
    """
    @param words: without the program's name.
    @return: the exit status.
    """
    request: bytes | None = None
    try:
        try:
            path, request = arguments(words)
            return Forward(path, request).run()
        except Refusal as refusal:
            command = (command_of(request or b"") or b"")[:64].decode("ascii", "replace")
            body = {"code": refusal.code, "message": str(refusal), "command": command}
            write(f"error_reply {body!a}\n".encode("ascii"))
            return refusal.status
    except HungUp:
        return ANSWERED
    except KeyboardInterrupt:
        return 130


def main() -> None:
    """
    The program.
    """
    posix._exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
