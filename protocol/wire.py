"""
Lines on a stream of bytes, replies and what else stands on a line; no I/O: sockets are someone else's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hostline.protocol import literal
from hostline.protocol.errors import BadLine, LineTooLong
from hostline.protocol.names import shown

#: Longest request line in bytes, its newline not counted.
LONGEST_REQUEST = 1 << 20
#: How much of an over-long line is kept, so that its tag and command can be named.
KEPT = 200

#: The version of the protocol, in the reply to C{hello}.
VERSION = 1


class Overlong(bytes):
    """
    The beginning of a line that was longer than the limit; the rest was skipped.
    """


class Lines:
    """
    Cut a stream of bytes into lines.

    Whole lines come out without their end; a line longer than the limit is skipped to its newline, comes out as one
    L{Overlong}, and costs no memory.
    """

    def __init__(self, longest: int = LONGEST_REQUEST) -> None:
        """
        @param longest: bytes of a line, at least 1; its end is not counted.
        """
        self._longest = longest
        self._kept = min(KEPT, longest)
        self._rest = bytearray()
        self._skipping = False

    @property
    def waiting(self) -> int:
        """
        Bytes held of a line whose end has not come.
        """
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """
        @param data: the next bytes of the stream, cut anywhere.
        @return: the lines that they end, in order; C{\\r\\n} ends a line too.
        """
        head, newline, tail = data.partition(b"\n")
        if not newline:
            self._hold(head)
            return []
        if self._rest:
            self._hold(head)
            head = Overlong(self._rest) if self._skipping else bytes(self._rest)
            self._rest.clear()
            self._skipping = False
        lines = [head, *tail.split(b"\n")]
        self._hold(lines.pop())
        return [self._finished(line) for line in lines]

    def _hold(self, piece: bytes) -> None:
        # A bytearray grows in place: a line sent byte by byte costs no more than one sent whole.
        if not self._skipping:
            self._rest += piece[: self._longest + 2]
            if len(self._rest) > self._longest + 1:
                self._skipping = True
                del self._rest[self._kept :]

    def _finished(self, line: bytes) -> bytes:
        if isinstance(line, Overlong):
            return line
        if line.endswith(b"\r"):
            line = line[:-1]
        return line if len(line) <= self._longest else Overlong(line[: self._kept])

    def end(self) -> bytes | None:
        """
        The stream has ended, or begins anew.

        @return: what stands after the last newline; None if nothing does.
        """
        rest = Overlong(self._rest) if self._skipping else bytes(self._rest)
        self._rest.clear()
        self._skipping = False
        return self._finished(rest) or None


def text_of(line: bytes) -> str:
    """
    @raise BadLine: if the line is not UTF-8 or holds NUL bytes.
    """
    if b"\0" in line:
        raise BadLine(f"want text, got a NUL byte at {line.index(0) + 1}")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadLine(f"want UTF-8, got byte 0x{line[error.start]:02x} at {error.start + 1}") from None


def reply(word: str, body: Any, tag: str | None = None, as_json: bool = False) -> bytes:
    """
    One reply as it goes on the wire, its newline included: pure ASCII, the body a Python literal or JSON.
    """
    text = literal.write_json(body) if as_json else literal.write(body)
    return f"@{tag} {word} {text}\n".encode("ascii") if tag else f"{word} {text}\n".encode("ascii")


class Reply(NamedTuple):
    """
    One line from the daemon.

    @ivar word: C{status_reply}, C{error_reply}, C{event}, C{data} ...
    """

    tag: str | None
    word: str
    body: Any


def split_reply(line: str) -> tuple[str | None, str, str]:
    """
    @return: tag or None, reply word, and the text of the body.
    @raise BadLine: if the line is no reply.
    """
    tag, rest = None, line
    if line.startswith("@"):
        tag, _, rest = line[1:].partition(" ")
    word, blank, body = rest.partition(" ")
    if tag == "" or not blank or not (word.isascii() and word.isidentifier()):
        raise BadLine(f"want 'reply_word literal', got {shown(line)}")
    return tag, word, body


def read_reply(line: str | bytes, as_json: bool = False, bounds: literal.Bounds = literal.REPLY) -> Reply:
    """
    Read one line from the daemon.

    @param line: without its end.
    @param as_json: after C{hello format=json}.
    @raise HostError: if it is no reply or its body is no literal within the bounds.
    """
    tag, word, body = split_reply(text_of(line) if isinstance(line, bytes) else line)
    return Reply(tag, word, literal.read_json(body, bounds) if as_json else literal.read(body, bounds))


def stream_data(tag: str, stream: str, chunk: bytes, as_json: bool = False) -> bytes:
    """
    One C{data} line of a stream (DESIGN section 2), both ways.

    @param stream: C{in}, C{out} or C{err}.
    """
    from binascii import b2a_base64

    body = {"stream": stream, "base64": b2a_base64(chunk, newline=False).decode("ascii")}
    return reply("data", body, tag, as_json)


def stream_chunk(body: Any) -> tuple[str, bytes]:
    """
    @param body: of a C{data} line.
    @return: the stream's name and the bytes.
    @raise BadLine: if the body is not C{{'stream': 'in'|'out'|'err', 'base64': TEXT}}.
    """
    from binascii import Error, a2b_base64

    try:
        stream, text = body["stream"], body["base64"]
        if stream not in ("in", "out", "err"):
            raise BadLine(f"want stream 'in', 'out' or 'err', got {shown(stream)}")
        return stream, a2b_base64(text, strict_mode=True)
    except (TypeError, KeyError, ValueError, Error):
        raise BadLine(f"want {{'stream': 'out', 'base64': TEXT}}, got {shown(body)}") from None


def replies(lines: Lines, data: bytes, as_json: bool = False) -> Iterator[Reply]:
    """
    The replies that C{data} ends.

    @raise HostError: at a line that is none.
    """
    for line in lines.feed(data):
        if isinstance(line, Overlong):
            raise LineTooLong("the daemon's reply is longer than this client reads")
        yield read_reply(line, as_json)
