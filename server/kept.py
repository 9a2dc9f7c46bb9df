"""
Replies that are kept for who asks the same again: from a raw line to the bytes that answer it.
"""

from __future__ import annotations

#: Kept replies: to how many lines, of how many bytes each; and how many bytes they have together.
_LINES = 256
_LINE = 200
_BYTES = 2 << 20


class Kept:
    """
    The replies kept for one caller, good for one generation of the host.

    For one caller, not for one principal: two that are the same user today may be two tomorrow.

    @ivar replies: reply by raw line, its newline included, by format.
    @ivar longest: bytes of the longest of them.
    """

    __slots__ = ("__weakref__", "_bytes", "generation", "longest", "replies")

    def __init__(self) -> None:
        self.generation = -1
        self.replies: dict[str, dict[bytes, bytes]] = {"literal": {}, "json": {}}
        self.longest = 0
        self._bytes = 0

    def renew(self, generation: int) -> None:
        """
        Forget the kept replies: something they hang on has changed.
        """
        self.generation = generation
        self._bytes = self.longest = 0
        for one in self.replies.values():
            one.clear()

    def keep(self, generation: int, format: str, line: bytes, reply: bytes) -> None:
        """
        Keep a reply for as long as the host's generation stays; not that to another spelling of the same line, or
        one would be kept as often as it can be spelt.

        @param line: without its newline.
        """
        kept = self.replies[format]
        if (
            generation == self.generation
            and len(line) <= _LINE
            and len(kept) < _LINES
            and self._bytes + len(reply) <= _BYTES
            and line == b" ".join(line.split())
            and line + b"\n" not in kept
        ):
            kept[line + b"\n"] = reply
            self._bytes += len(reply)
            self.longest = max(self.longest, len(reply))
