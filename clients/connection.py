"""
One connection to the daemon: bytes out, lines in, each within a deadline.

Built on C{_socket}, which is what C{socket} is built on: importing C{socket} takes as long as the rest of a short-lived
client. Deadlines are points on C{time.monotonic}; None is no deadline.
"""

from __future__ import annotations

import _socket
import os
import time

from hostline.protocol.errors import BadArguments, HostError, NoDaemon, Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hostline.clients.encrypted import Encrypted

#: Where the daemon of this host listens.
DEFAULT_SOCKET = "/run/hostline/hostline.sock"
#: Seconds in which a daemon that is there accepts a connection.
CONNECT_S = 10.0
#: Longest line from the daemon that is read, in bytes.
LONGEST_REPLY = 80 << 20

_PIECE = 1 << 18
_SUN_PATH = 107


def way(
    socket: str | None, host: str | None, trust: str | None = None
) -> tuple[str, Callable[[str, float | None], Connection]]:
    """
    How a daemon is reached: what the caller says, else C{HOSTLINE_SOCKET} or C{HOSTLINE_HOST} of the environment, else
    L{DEFAULT_SOCKET}.

    @param socket: a path.
    @param host: C{NAME[:PORT]}, over TLS.
    @param trust: the directory of our certificate for that; None: see L{tls.trust_directory}.
    @return: where it is, and what makes a connection to there before a deadline.
    @raise BadArguments: both were said, or stand in the environment.
    """
    if socket and host:
        raise BadArguments("want a socket or a host, got both")
    if not (socket or host):
        socket, host = os.environ.get("HOSTLINE_SOCKET"), os.environ.get("HOSTLINE_HOST")
        if socket and host:
            raise BadArguments("HOSTLINE_SOCKET and HOSTLINE_HOST are both set: want one, or --socket or --host")
    if not host:
        return socket or DEFAULT_SOCKET, Connection
    from hostline.clients.tls import TlsConnection  # ssl takes longer to import than all the rest

    return host, lambda place, deadline: TlsConnection(place, deadline, trust)


def after(seconds: float | None) -> float | None:
    """
    The deadline that is so many seconds from now.
    """
    return None if seconds is None else time.monotonic() + seconds


class Connection:
    """
    A stream of lines, both ways.

    @ivar path: where the daemon listens: a path, or C{NAME:PORT} of a host.
    """

    def __init__(self, path: str, deadline: float | None = None) -> None:
        """
        Connect; paths of any length will do.

        @raise NoDaemon: nobody listens there, or we may not ask.
        @raise Timeout: past the deadline.
        """
        self.path = path
        self._rest = b""
        kind = _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC
        self._socket: _socket.socket | Encrypted = _socket.socket(_socket.AF_UNIX, kind)
        try:
            self._connect(deadline)
        except BaseException:
            self.close()
            raise

    def _connect(self, deadline: float | None) -> None:
        assert isinstance(self._socket, _socket.socket)
        least = time.monotonic() + CONNECT_S
        until = least if deadline is None else min(deadline, least)
        place = os.fsencode(self.path)
        opened = -1
        try:
            if len(place) > _SUN_PATH:  # more than a socket address holds: the way through a descriptor is short
                opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
                place = b"/proc/self/fd/%d" % opened
            while True:
                self._hurry(until)
                try:
                    self._socket.connect(place)
                    return
                except BlockingIOError:  # it is slow to accept
                    time.sleep(0.02)
        except Timeout:
            if until == deadline:
                raise
            raise NoDaemon(f"no daemon at {self.path}: it did not accept within {CONNECT_S:g} s") from None
        except (OSError, ValueError) as error:  # ValueError: a path with NUL in it
            reason = getattr(error, "strerror", None) or str(error)
            raise NoDaemon(f"no daemon at {self.path}: {reason}") from None
        finally:
            if opened >= 0:
                os.close(opened)

    def send(self, data: bytes, deadline: float | None = None) -> None:
        """
        Send all of it. A daemon that hung up may have said why: L{line} tells.

        @raise Timeout: past the deadline.
        """
        self._hurry(deadline)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise self._late() from None
        except OSError:
            pass

    def line(self, deadline: float | None = None) -> bytes:
        """
        The next line, without its newline.

        @raise NoDaemon: the connection broke before its end.
        @raise Timeout: past the deadline.
        """
        line, newline, rest = self._rest.partition(b"\n")
        if newline:
            self._rest = rest
            return line
        pieces = [line]
        size = len(line)
        while True:
            self._hurry(deadline)
            try:
                piece = self._socket.recv(_PIECE)
            except TimeoutError:
                self._rest = b"".join(pieces)
                raise self._late() from None
            except OSError as error:
                raise NoDaemon(f"the daemon at {self.path} is gone: {error.strerror}") from None
            if not piece:
                cut = ", in the middle of a reply" if size else ""
                raise NoDaemon(f"the daemon at {self.path} closed the connection{cut}")
            head, newline, rest = piece.partition(b"\n")
            pieces.append(head)
            if newline:
                self._rest = rest
                return b"".join(pieces)
            size += len(head)
            if size > LONGEST_REPLY:
                raise HostError(f"the reply is longer than the {LONGEST_REPLY} bytes that this client reads")

    def fileno(self) -> int:
        """
        The descriptor, to wait for.
        """
        return self._socket.fileno()

    def give(self, data: bytes) -> int:
        """
        Send what goes now, without waiting. What a daemon that hung up is sent is lost: L{take} tells.

        @return: how many bytes went.
        """
        self._socket.settimeout(0)
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def take(self) -> list[bytes]:
        """
        The whole lines that came, without their newlines and without waiting.

        @raise NoDaemon: the connection broke.
        """
        self._socket.settimeout(0)
        try:
            piece = self._socket.recv(_PIECE)
        except BlockingIOError:
            return []
        except OSError as error:
            raise NoDaemon(f"the daemon at {self.path} is gone: {error.strerror}") from None
        if not piece:
            raise NoDaemon(f"the daemon at {self.path} closed the connection")
        if b"\n" not in piece:
            self._rest += piece
            if len(self._rest) > LONGEST_REPLY:
                raise HostError(f"the reply is longer than the {LONGEST_REPLY} bytes that this client reads")
            return []
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return lines

    def close(self) -> None:
        """
        Hang up; what was asked is not cancelled by that.
        """
        self._socket.close()

    def _hurry(self, deadline: float | None) -> None:
        if deadline is None:
            self._socket.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._late()
        self._socket.settimeout(left)

    def _late(self) -> Timeout:
        return Timeout(f"no reply from {self.path} in the time given")
