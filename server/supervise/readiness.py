"""
How a guest is known to be up: the rule an image gives, and looking for it in what a console says.

A guest writes its console as it likes, and an operator writes the pattern: neither may cost us more than a bounded
search. So a pattern repeats without bound in one place at most, and is looked for in one line of bounded length.
(Also read where there is only the standard library, by L{hostline.server.supervise.unpack_guest}.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

# The library's own parser, which its type hints do not know.
_parser: Any = import_module("re._parser")
_constants: Any = import_module("re._constants")
#: Characters of a pattern, and of a line of a console that are looked at.
MOST_PATTERN, MOST_LINE = 200, 400
#: How often a bounded repetition may repeat, all of a pattern together.
_MOST_REPEATS = 256
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT)
_NOT = (_constants.GROUPREF, _constants.GROUPREF_EXISTS, _constants.ASSERT, _constants.ASSERT_NOT)
_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]{0,20}[ -/]?[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|.)")


class BadRule(ValueError):
    """
    A rule that makes no sense, or that could take for ever; the message says why.
    """


class Rule(NamedTuple):
    """
    When a guest is up.

    @ivar how: C{agent}: its agent answers; C{console}: it wrote a line in which C{pattern} is found; C{tcp}: it takes a
        connection at C{port}; C{started}: QEMU runs.
    """

    how: str = "agent"
    pattern: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Rule:
        """
        @param text: C{agent}, C{started}, C{tcp:PORT} or C{console:REGEX}.
        @raise BadRule: if it is something else.
        """
        how, _, value = text.partition(":")
        if how in ("agent", "started") and text == how:
            return cls(how)
        if how == "tcp" and value.isascii() and value.isdigit() and len(value) < 6 and 0 < int(value) < 65536:
            return cls(how, port=int(value))
        if how == "console" and value:
            check_pattern(value)
            return cls(how, pattern=value)
        raise BadRule(f"want agent, started, tcp:PORT or console:REGEX, got {text[:80]!r}")

    def console(self) -> Console:
        """
        @return: what hears the console of one boot, if the rule is about that.
        """
        return Console(self.pattern)


def check_pattern(pattern: str) -> None:
    """
    @raise BadRule: if it is no regular expression, or one whose search is not bounded.
    """
    if len(pattern) > MOST_PATTERN:
        raise BadRule(f"want a pattern of at most {MOST_PATTERN} characters")
    if not pattern.isprintable():
        raise BadRule("want a pattern without control characters")
    try:
        tree = _parser.parse(pattern)
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadRule(f"want a regular expression: {error}") from error
    endless, bounded = 0, 1
    for repeats, most in _repeats(tree, inside=False):
        if most is None:
            endless += 1
        else:
            bounded *= max(most, 1)
        if repeats:
            raise BadRule("a repetition within a repetition, or a choice within one, may take for ever")
    if endless > 1 or bounded > _MOST_REPEATS:
        raise BadRule("want one repetition without bound (*, +) at most: more may take for ever")


def _repeats(tree: Iterable[Any], *, inside: bool) -> Iterator[tuple[bool, int | None]]:
    """
    @return: of each repetition, whether it is within one (or is a choice that is), and how often it repeats at most.
    """
    for op, value in tree:
        if op in _NOT:
            raise BadRule("want no look-around and no reference to a group")
        if op in _REPEATS:
            _, most, inner = value
            yield inside, None if most is _constants.MAXREPEAT else int(most)
            yield from _repeats(inner, inside=True)
        elif op is _constants.BRANCH:
            if inside:
                yield True, 1
            for one in value[1]:
                yield from _repeats(one, inside=inside)
        elif op is _constants.SUBPATTERN:
            yield from _repeats(value[-1], inside=inside)
        elif op is _constants.ATOMIC_GROUP:
            yield from _repeats(value, inside=inside)


class Console:
    """
    Looks for a pattern in the lines of a console; the last one counts though it has not ended, as C{login:} does not.
    """

    def __init__(self, pattern: str) -> None:
        """
        @raise BadRule: if the pattern is refused.
        """
        check_pattern(pattern)
        self._pattern = re.compile(pattern)
        self._line = b""
        self.found = False

    def feed(self, data: bytes) -> bool:
        """
        @param data: what came; of a line only the newest L{MOST_LINE} bytes are looked at.
        @return: whether the pattern was found, now or before.
        """
        *whole, last = data.split(b"\n")
        for line in whole:
            self._look(self._line + line)
            self._line = b""
        self._line = (self._line + last)[-MOST_LINE:]
        if last:
            self._look(self._line)
        return self.found

    def _look(self, line: bytes) -> None:
        if self.found or not line.strip():
            return
        text = _ESCAPES.sub(b"", line[-MOST_LINE:])
        self.found = self._pattern.search(text.decode("utf-8", "replace").rstrip("\r")) is not None
