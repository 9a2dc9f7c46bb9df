"""
C{hostline-shell}: the forward shell, the login shell of delegates: C{echo ping | ssh del_mon@host}.

Lines from standard input, or the one after C{-c}, go to the daemon, and all that it answers to standard output.
It takes nothing apart, cuts nothing and trusts nobody: who may ask what is the daemon's business, and who asks it
learns from the kernel. After C{-c hostline-shell}, which is what C{authorized_keys} forces, the request is that of the
ssh client, C{SSH_ORIGINAL_COMMAND}; no other word of the environment is read. Nothing but the standard library is
needed, and little of it: this file also runs alone, as C{python3 -I -S forward.py}, and must be quick to start.

Exit status: 0, all was answered, or nobody reads us; 1, the reply to the request after C{-c} was an error; 2, usage, or
an XML-RPC body, which is not answered yet; 3, no daemon, or it ended the connection with something unanswered; 124, a
deadline; 70, a fault of ours. With those from 2 on, the last line is the one C{error_reply} that says why: ours, where
the daemon has not said it itself. Ours can be read as a Python literal and as JSON.

A request may rightly take hours, so that silence proves nothing: after C{--silence} seconds of it with something
unanswered, the daemon is asked C{ping} on another connection, and only if it is silent there too, C{--ping} seconds
long, is it given up. Input that has begun nothing is ended after C{--idle} seconds, and so, quietly, is who takes
nothing of what there is to read for C{--write} seconds.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module signal costs 4 ms
import _socket
import _struct
import posix
import select
import sys
import time

SOCKET = "/run/hostline/hostline.sock"
#: The request that stands for the one of the ssh client.
FORCED = b"hostline-shell"
#: Seconds; C{connect}: in which the daemon accepts the connection; the others as above.
SECONDS = {"connect": 10.0, "silence": 60.0, "ping": 30.0, "idle": 3600.0, "write": 120.0}
USAGE = f"want hostline-shell [--socket PATH] {' '.join(f'[--{name} SECONDS]' for name in SECONDS)} [-c REQUEST]"
#: How much is taken in of a body that is not answered.
BODY = 1 << 20

ANSWERED, REFUSED, WRONG_USAGE, NO_DAEMON, FAULT, TIMEOUT = 0, 1, 2, 3, 70, 124

_PIECE = 1 << 16
#: A pipe or a socket that is ready for output takes this much without blocking; we must not make it non-blocking, for
#: others may share it.
_READY = 4096
_SUN_PATH = 107
#: How much of a line is looked at: a tag has 64 characters at most.
_HEAD = 100
_AGAIN_S = 0.05
_BOM = b"\xef\xbb\xbf"


class Refusal(Exception):
    """
    The request cannot be passed on, or not be answered to its end.

    @ivar cut: whether our output stands within a line.
    """

    def __init__(self, code: str, message: str, status: int, *, cut: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.cut = cut


class HungUp(Exception):
    """
    Whoever reads our output is gone.
    """


class Tally:
    """
    Counts lines in a stream: requests in one direction, the replies to them in the other.

    @ivar count: of whole lines; empty ones do not count.
    @ivar errors: how many of them were C{error_reply}.
    @ivar watches: whether one was C{watch}.
    @ivar partial: whether the stream stands within a line.
    @ivar last: the beginning of the last line that counted.
    """

    def __init__(self, *uncounted: bytes) -> None:
        """
        @param uncounted: words of lines that are neither requests nor replies.
        """
        self.count = self.errors = 0
        self.partial = self.watches = False
        self.last = b""
        self._uncounted = uncounted
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
        self._head = lines[-1][: 2 * _HEAD]
        self.partial = bool(lines[-1])

    def end(self) -> None:
        """
        The stream is over: what stands after the last newline counts too.
        """
        self._take(self._head)
        self._head = b""
        self.partial = False

    def _take(self, line: bytes) -> None:
        word = command_of(line)
        if word is not None and word not in self._uncounted:
            self.count += 1
            self.errors += word == b"error_reply"
            self.watches = self.watches or word == b"watch"
            self.last = line[:_HEAD]


def command_of(line: bytes) -> bytes | None:
    """
    @return: the first word of a line after its tag; None if the line is empty, which nobody answers.
    """
    words = line[: 2 * _HEAD].split(None, 2)
    if words and words[0][:1] == b"@":
        return words[1] if len(words) > 1 else b""
    return words[0] if words else None


class Probe:
    """
    A C{ping} on a connection of its own: whether the daemon is alive.

    @ivar until: when it is given up.
    @ivar connection: None while there is none.
    """

    def __init__(self, path: bytes, until: float) -> None:
        self._path = path
        self._next = 0.0
        self.until = until
        self.connection: _socket.socket | None = None

    def begin(self, now: float) -> None:
        """
        Try to ask, if there was no connection yet, or it was ended without an answer; not without end.
        """
        if self.connection is not None or now < self._next:
            return
        self._next = now + _AGAIN_S
        try:
            self.connection = attempt(self._path)
            self.connection.send(b"ping\n")
        except (OSError, Refusal):
            self.close()

    def heard(self) -> bool:
        """
        @return: whether there was an answer: any whole line; too many connections is one too.
        """
        data = b""
        try:
            if self.connection is not None:
                data = self.connection.recv(_PIECE)
        except BlockingIOError:
            return False
        except OSError:
            pass
        if not data:
            self.close()
        return b"\n" in data

    def close(self) -> None:
        """
        Hang up; may be repeated.
        """
        if self.connection is not None:
            self.connection.close()
            self.connection = None


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
            return late if self._probe.connection is not None else min(late, _AGAIN_S)
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
        what = f"the daemon at {_shown(self._path)} has been silent for {silent:g} s; what it has begun may go on"
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
        what = f"the daemon at {_shown(self._path)} closed the connection before all was answered"
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


def attempt(path: bytes) -> _socket.socket:
    """
    @return: a connection that never blocks.
    @raise BlockingIOError: if nobody has time to accept it.
    @raise OSError: if nobody listens at C{path}, or we may not ask.
    @raise Refusal: if somebody listens who may not: neither root nor we nor the owner of the socket's directory.
    """
    found = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    opened = -1
    try:
        found.setblocking(False)
        if len(path) > _SUN_PATH:  # more than a socket address holds: the way through a descriptor is short
            opened = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
            found.connect(b"/proc/self/fd/%d" % opened)
        else:
            found.connect(path)
        _, uid, _ = _struct.unpack("iII", found.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))
        directory = path.rpartition(b"/")[0] or (b"/" if path[:1] == b"/" else b".")
        if uid not in (0, posix.geteuid()) and uid != posix.stat(directory).st_uid:
            raise Refusal(
                "NO_DAEMON", f"no daemon at {_shown(path)}: uid {uid} listens there, not its owner", NO_DAEMON
            )
        return found
    except BaseException:
        found.close()
        raise
    finally:
        if opened >= 0:
            posix.close(opened)


def connected(path: bytes, seconds: float) -> _socket.socket:
    """
    @return: a connection that never blocks.
    @raise Refusal: if there is no daemon.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return attempt(path)
        except BlockingIOError as error:  # it is slow to accept
            if time.monotonic() > until:
                raise Refusal("NO_DAEMON", f"no daemon at {_shown(path)}: {error.strerror}", NO_DAEMON) from None
            time.sleep(_AGAIN_S)
        except OSError as error:
            raise Refusal("NO_DAEMON", f"no daemon at {_shown(path)}: {error.strerror}", NO_DAEMON) from None


def _shown(path: bytes) -> str:
    return path.decode("ascii", "replace")


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
            time.sleep(_AGAIN_S)
        except OSError:
            raise HungUp from None


def error_reply(refusal: Refusal, request: bytes | None) -> bytes:
    """
    @return: the line, which is read alike as a Python literal and as JSON, for we do not know which was agreed on.
    """
    command = (command_of(request or b"") or b"")[:64].decode("ascii", "replace")
    body = {"code": refusal.code, "message": str(refusal), "command": command}
    text = ", ".join(f"{_quoted(name)}: {_quoted(value)}" for name, value in body.items())
    return b"\n" * refusal.cut + f"error_reply {{{text}}}\n".encode("ascii")


def _quoted(text: str) -> str:
    plain = "".join(one if " " <= one <= "~" else "?" for one in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def arguments(words: list[bytes], original: bytes | None) -> tuple[bytes | None, dict[str, float], bytes | None]:
    """
    @param words: without the program's name.
    @param original: what stands in C{SSH_ORIGINAL_COMMAND}.
    @return: the socket's path, None if it was not given; the seconds; and the request, None if requests come on
        standard input.
    @raise Refusal: if they make no sense, or the request is not one line.
    """
    path, seconds = None, dict(SECONDS)
    while len(words) > 1 and words[0][:2] == b"--":
        name = words[0][2:].decode("ascii", "replace")
        if name == "socket":
            path = words[1]
        elif name in seconds and words[1].replace(b".", b"", 1).isdigit():
            seconds[name] = float(words[1])
        else:
            break
        words = words[2:]
    if not words:
        return path, seconds, None
    if words[0] != b"-c" or len(words) != 2:
        raise Refusal("BAD_ARGUMENTS", USAGE, WRONG_USAGE)
    request = original if words[1] == FORCED else words[1]
    if request is None:
        return path, seconds, None
    if b"\n" in request:
        raise Refusal("BAD_LINE", "want one request on one line; send more on standard input", WRONG_USAGE)
    if not request.strip():
        raise Refusal("BAD_ARGUMENTS", "want a request after -c; 'help' lists the commands", WRONG_USAGE)
    return path, seconds, request


def run(words: list[bytes], original: bytes | None, path: bytes) -> int:
    """
    @param words: without the program's name.
    @param original: what stands in C{SSH_ORIGINAL_COMMAND}.
    @param path: of the socket, if the words name none.
    @return: the exit status.
    """
    request, seconds = None, SECONDS
    try:
        try:
            given, seconds, request = arguments(words, original)
            path = path if given is None else given
            return Forward(connected(path, seconds["connect"]), path, request, seconds).run()
        except (HungUp, Refusal):
            raise
        except Exception as error:
            raise Refusal("INTERNAL", f"the forward shell failed: {type(error).__name__}", FAULT) from None
    except Refusal as refusal:
        try:
            write(1, error_reply(refusal, request), seconds["write"])
        except HungUp:
            return ANSWERED
        return refusal.status
    except HungUp:
        return ANSWERED


def given_words() -> list[bytes]:
    """
    @return: our arguments; each that came from outside byte for byte, whatever the locale is that somebody has set.
    """
    said = b""
    try:
        opened = posix.open("/proc/self/cmdline", posix.O_RDONLY | posix.O_CLOEXEC)
        while data := posix.read(opened, _PIECE):
            said += data
        posix.close(opened)
    except OSError:
        pass
    raw = dict(zip(sys.orig_argv, said.split(b"\0"), strict=False))
    encoding = sys.getfilesystemencoding()
    return [raw.get(word) or word.encode(encoding, "surrogateescape") for word in sys.argv[1:]]


def main(path: str = SOCKET) -> None:
    """
    The program.

    @param path: of the daemon's socket, if the arguments name none.
    """
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    for descriptor in (0, 1, 2):  # whoever closed them must not find the daemon there
        try:
            posix.fstat(descriptor)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)
    posix._exit(run(given_words(), posix.environ.get(b"SSH_ORIGINAL_COMMAND"), path.encode()))


if __name__ == "__main__":
    main()
