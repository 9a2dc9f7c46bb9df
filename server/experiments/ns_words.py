"""
What commands of NS are made of: their usage, and what their words mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from hostline.server.experiments.draft import DraftLink, DraftNode
from hostline.server.experiments.topology import quoted
from hostline.server.experiments.units import BadUnit


class Bad(Exception):
    """What is wrong with a command; reading goes on after it."""


@frozen
class Nothing:
    """
    What stands for an object that is not had here.

    @ivar what: the words that asked for it.
    """

    name: str
    what: str


@frozen
class Verb:
    """
    One command.

    @ivar usage: its words, C{?X?} for one that may be missing and C{X ...} for any number at the end.
    @ivar body: called with what it is a command of, and the words.
    """

    name: str
    usage: str
    body: Callable[..., Any]

    def call(self, of: Any, words: list[str]) -> str:
        """
        @raise Bad: too few words or too many, or what the body has to say.
        """
        parts = self.usage.split()
        least = sum(1 for one in parts if one[0] != "?" and one != "...")
        if len(words) < least or (len(words) > len(parts) and parts[-1:] != ["..."]):
            raise Bad(f"{self.name}: want {self.usage or 'nothing'}, got {len(words)} words")
        try:
            return str(self.body(of, *words) or "")
        except BadUnit as error:
            raise Bad(f"{self.name}: {error}") from None
        except Bad as error:
            raise Bad(f"{self.name}: {error}") from None


class Objects:
    """
    Finds what words stand for.
    """

    def __init__(self, script: Any) -> None:
        """
        @param script: has C{objects}, C{tcl}, C{draft}, and tells of errors and warnings.
        """
        self.script = script

    def find(self, word: str) -> Any:
        """What a word stands for; None if nothing."""
        return self.script.objects.get(word.strip().removeprefix("::"))

    def node(self, word: str) -> DraftNode:
        """The node that a word names."""
        one = self.find(word)
        if isinstance(one, DraftNode):
            return one
        raise Bad(f"want a node, got {self._told(word, one)}")

    def link(self, word: str) -> DraftLink:
        """The link or LAN that a word names."""
        one = self.find(word)
        if isinstance(one, DraftLink):
            return one
        raise Bad(f"want a link or a LAN, got {self._told(word, one)}")

    def between(self, first: str, second: str) -> DraftLink:
        """The link between two nodes."""
        one, other = self.node(first), self.node(second)
        for port in one.ports:
            if port.link.port(other) is not None:
                return port.link
        raise Bad(f"there is no link between {one.name} and {other.name}")

    def nodes(self, words: str) -> list[DraftNode]:
        """The nodes that a Tcl list names."""
        return [self.node(one) for one in self.script.tcl.words(words)]

    def _told(self, word: str, one: Any) -> str:
        if isinstance(one, Nothing):
            return f"what {quoted(one.what)} stands for, which is nothing here"
        kinds = {DraftNode: "the node", DraftLink: "the link"}
        what = next((f"{told} " for kind, told in kinds.items() if isinstance(one, kind)), "")
        return f"{what}{quoted(word)}"


def whole(text: str, least: int, most: int) -> int:
    """A whole number within bounds."""
    if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    raise Bad(f"want a whole number from {least} to {most}, got {quoted(text)}")


def flag(text: str) -> bool:
    """On or off, as Tcl says it."""
    given = text.strip().lower()
    if given in ("1", "yes", "true", "on"):
        return True
    if given in ("0", "no", "false", "off"):
        return False
    raise Bad(f"want 1 or 0, got {quoted(text)}")
