"""
How the forward shell reaches the daemon: by its socket, without ever being blocked, and only if who listens there may.
"""

from __future__ import annotations

import _socket
import _struct
import posix
import time

#: Exit statuses of the forward shell.
ANSWERED, REFUSED, WRONG_USAGE, NO_DAEMON, FAULT, TIMEOUT = 0, 1, 2, 3, 70, 124
#: Seconds after which what did not go at once is tried again.
AGAIN_S = 0.05

_PIECE = 1 << 16
_SUN_PATH = 107


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
            raise Refusal("NO_DAEMON", f"no daemon at {shown(path)}: uid {uid} listens there, not its owner", NO_DAEMON)
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
                raise Refusal("NO_DAEMON", f"no daemon at {shown(path)}: {error.strerror}", NO_DAEMON) from None
            time.sleep(AGAIN_S)
        except OSError as error:
            raise Refusal("NO_DAEMON", f"no daemon at {shown(path)}: {error.strerror}", NO_DAEMON) from None


def shown(path: bytes) -> str:
    """
    A path in a message.
    """
    return path.decode("ascii", "replace")


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
        self._next = now + AGAIN_S
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
