"""
The daemon for scripts::

    with Client() as host:
        host.request("create_experiment", "lab/exp1", topology, swap_in=True)
        for hypervisor, nodes in host.request("status_request", "lab/exp1").items(): ...

C{Client(host="lab.example.org")} is the same over TLS, with the certificate in the trust directory of the caller.
Every call has a deadline. Errors are the classes of L{hostline.protocol.errors}, the daemon's own and two of the
client's: L{NoDaemon} and L{Timeout}.
"""

from __future__ import annotations

from hostline.clients.connection import Connection, after, way
from hostline.protocol.errors import BadLine, HostError, NoDaemon, Timeout, raised_again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, Self

    from hostline.clients.stream import Stream
    from hostline.protocol.commands import Command
    from hostline.protocol.wire import Reply

#: A TEXT whose literal is longer goes ahead as a blob.
LONGEST_INLINE = 200_000
#: Bytes of a blob on one line.
PIECE = 384 << 10
#: What a command that waits is waited for beyond its own wait= or timeout=.
GRACE_S = 30.0


class Client:
    """
    A connection to the daemon, made when it is first needed and made again after it broke.

    Not for several threads at once.
    """

    def __init__(
        self,
        socket_path: str | None = None,
        timeout: float | None = GRACE_S,
        connect: Callable[[str, float | None], Connection] | None = None,
        *,
        host: str | None = None,
        trust: str | None = None,
    ) -> None:
        """
        @param socket_path: without it or C{host}, C{HOSTLINE_SOCKET} or C{HOSTLINE_HOST}, or this host's own.
        @param timeout: seconds for a whole request, beyond what it asks the daemon to wait (C{wait=}, or C{timeout=} of
            the commands that have it); None waits for ever.
        @param connect: makes a connection to a path before a deadline.
        @param host: C{NAME[:PORT]} of a daemon that is reached over TLS.
        @param trust: the directory of our certificate for that; None: C{HOSTLINE_TRUST}, or the caller's own.
        @raise BadArguments: both a path and a host.
        """
        self._path, reach = way(socket_path, host, trust)
        self._connect = connect if connect is not None else reach
        self._timeout = timeout
        self._connection: Connection | None = None

    def request(self, command: str, *values: Any, **options: Any) -> Any:
        """
        Say a command and wait for its reply.

        A text too long for a line is sent ahead, as a blob, and so are the bytes of a file named by a C{Path}. Slow
        work that has not ended within C{wait=} seconds (30) gives the operation, a dict with the key C{operation}.

        @return: the body of the reply.
        @raise HostError: the daemon refuses; its class and C{code} say why.
        @raise NoDaemon: nobody answers, or the connection broke; what was asked may have been done.
        @raise Timeout: no reply within the deadline, or what was waited for did not come.
        """
        return self.reply(command, *values, **options).body

    def reply(self, command: str, *values: Any, **options: Any) -> Reply:
        """
        The same, with the reply word, which tells C{operation_reply} from others.

        @return: the reply; see L{request}.
        """
        from hostline.protocol.commands import TABLE

        row = TABLE.get(command)
        seconds = None if self._timeout is None else self._timeout + patience(row, options)
        return self.said(self.prepared(command, values, options), seconds, options.get("format") == "json")

    def said(self, line: str, seconds: float | None, as_json: bool = False) -> Reply:
        """
        Say a whole request line, without a tag.

        @return: the reply; see L{request}.
        """
        from hostline.protocol.wire import read_reply

        reply = read_reply(self.exchange(line, seconds).decode("ascii", "replace"), as_json)
        if reply.word == "error_reply":
            raise raised_again(reply.body)
        return reply

    def exchange(self, line: str, seconds: float | None) -> bytes:
        """
        Say a line and wait for the next.

        @param seconds: how long; None for ever.
        @return: the reply line as received, without its newline.
        """
        deadline = after(seconds)
        connection, self._connection = self._connection, None
        try:
            if connection is None:
                connection = self.connect(deadline)
            connection.send(line.encode("utf-8", "surrogateescape") + b"\n", deadline)
            reply = connection.line(deadline)
        except BaseException:  # a reply that comes late must not be taken for the next one
            if connection is not None:
                connection.close()
            raise
        self._connection = connection
        return reply

    def connect(self, deadline: float | None) -> Connection:
        """
        A connection of its own, for the caller to use and to close.

        @param deadline: on C{time.monotonic}.
        @raise NoDaemon: nobody listens there, or one side does not believe the other.
        @raise Timeout: past the deadline.
        """
        return self._connect(self._path, deadline)

    def prepared(self, command: str, values: Any, options: dict[str, Any], seconds: float | None = GRACE_S) -> str:
        """
        The request line; texts too long for it are sent ahead.

        @param seconds: for each piece of them.
        """
        from hostline.protocol import kinds, words
        from hostline.protocol.commands import TABLE

        row = TABLE.get(command)
        args = row.args if row is not None else ()
        parts = [command]
        for at, value in enumerate(values):
            kind = args[min(at, len(args) - 1)][1] if args else None
            if kind is kinds.TEXT:
                parts.append(self._text(value, seconds))
            elif hasattr(value, "__fspath__"):
                parts.append(self._file(value, seconds))
            else:
                parts.append(words.as_word(value))
        known = row.all_options if row is not None else {}
        for name, value in options.items():
            is_text = name in known and known[name][0] is kinds.TEXT
            parts.append(f"{name}={self._text(value, seconds) if is_text else words.as_word(value)}")
        return " ".join(parts)

    def _text(self, value: str, seconds: float | None) -> str:
        text = str(value)
        word = ascii(text)
        if len(word) <= LONGEST_INLINE and not (text.startswith("blob:") and getattr(value, "given", False)):
            return word
        from hashlib import sha256

        data = text.encode("utf-8")
        return self._ahead(sha256(data).hexdigest(), len(data), lambda at: data[at : at + PIECE], seconds)

    def _file(self, path: Any, seconds: float | None) -> str:
        """
        Send the bytes of a file ahead.

        @raise HostError: if it cannot be read, or changes meanwhile.
        """
        from hashlib import file_digest

        try:
            with open(path, "rb") as file:  # noqa: PTH123  (pathlib is slow to import)
                name = file_digest(file, "sha256").hexdigest()
                size = file.tell()

                def piece(at: int) -> bytes:
                    file.seek(at)
                    return file.read(min(PIECE, size - at))

                return self._ahead(name, size, piece, seconds)
        except OSError as error:
            raise HostError(f"cannot read {path}: {error.strerror or error}") from None

    def _ahead(self, name: str, size: int, piece: Callable[[int], bytes], seconds: float | None) -> str:
        from binascii import b2a_base64

        offset, complete = 0, False
        while not complete:
            data = piece(offset)
            encoded = b2a_base64(data, newline=False).decode("ascii")
            body = self.said(f"blob {name} {size} {offset} '{encoded}'", seconds).body
            offset, complete = max(body["have"], offset + len(data)), body["complete"]
            if offset >= size and not complete:
                raise HostError(f"the daemon does not take what was sent: {body}")
        return f"blob:{name}"

    def events(self, *topics: str, since: int | None = None, seconds: float | None = None) -> Iterator[dict[str, Any]]:
        """
        What comes to be, as it comes, on a connection of its own.

        @param topics: none means all.
        @param since: the cursor after which to begin; None begins now.
        @param seconds: after which it is a L{Timeout}; None follows for ever.
        @return: the bodies of the event lines, without end; what is C{missed} says that older ones are not kept.
        @raise NoDaemon: the connection broke; C{details['cursor']} is where to go on.
        """
        from hostline.protocol.wire import read_reply
        from hostline.protocol.words import join

        whole = after(seconds)
        deadline = after(self._timeout if seconds is None else min(seconds, self._timeout or seconds))
        connection = self.connect(deadline)
        cursor = since
        try:
            line = join("watch", list(topics) or ["all"], {} if since is None else {"since": since})
            connection.send(line.encode() + b"\n", deadline)
            while True:
                reply = read_reply(connection.line(deadline).decode("ascii", "replace"))
                if reply.word == "error_reply":
                    raise raised_again(reply.body)
                if reply.word not in ("event", "watch_reply"):
                    raise BadLine(f"want an event, got {reply.word}")
                cursor = reply.body["cursor"]
                deadline = whole
                if reply.word == "event":
                    yield reply.body
                elif reply.body.get("missed"):
                    first = reply.body["topics"][0]
                    yield {"cursor": cursor, "time": 0.0, "topic": first, "what": "missed", "request": None}
        except (NoDaemon, Timeout) as error:
            error.details["cursor"] = cursor
            raise
        finally:
            connection.close()

    def stream(
        self,
        command: str,
        *values: Any,
        hear: Callable[[str, bytes], None],
        source: bytes | int | None = None,
        seconds: float | None = None,
        **options: Any,
    ) -> Any:
        """
        Say a command whose input and output are streams, on a connection of its own: C{exec}, C{push} and C{pull} with
        C{stream=True}, C{logs} with C{follow=True}, C{attach}.

        @param hear: called with C{out} or C{err} and the bytes that were written there, as they come; while it works,
            what runs waits.
        @param source: the input: bytes, or a descriptor that is read to its end; None: there is none.
        @param seconds: after which it is a L{Timeout}, and what runs is ended; None waits for ever.
        @return: the body of the reply.
        @raise HostError: as L{request}.
        """
        deadline = after(seconds)
        connection = self.connect(deadline)
        try:
            return self.opened(connection, command, values, options, hear, source, deadline).run().body
        finally:
            connection.close()

    def opened(
        self,
        connection: Connection,
        command: str,
        values: Any,
        options: dict[str, Any],
        hear: Callable[[str, bytes], None],
        source: bytes | int | None,
        deadline: float | None,
    ) -> Stream:
        """
        A stream that is ready to run; see L{stream}.
        """
        from hostline.clients.stream import Stream

        return Stream(connection, self.prepared(command, values, options), hear, source, deadline)

    def close(self) -> None:
        """
        Hang up; what was asked is not cancelled by that.
        """
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def patience(row: Command | None, options: dict[str, Any]) -> float:
    """
    How long a request asks the daemon to wait before it answers, in seconds.

    @param row: None for a command that the table does not have.
    """
    from hostline.protocol.words import Word

    for name in ("wait", "timeout"):
        if row is not None and name in row.all_options:
            kind, default = row.all_options[name]
            value = options.get(name, default)
            try:
                return float(kind.read(Word(value, isinstance(value, str)), name) or 0.0)
            except HostError:  # the daemon will say so at once
                return 0.0
    return 0.0
