"""
Counts what passes through the forward shell: lines that ask, and lines that answer.
"""

from __future__ import annotations

#: How much of a line is looked at: a tag has 64 characters at most.
_HEAD = 100


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
