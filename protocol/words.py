"""
A request line taken apart: tag, command, values and options; and put together again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hostline.protocol import literal
from hostline.protocol.errors import BadArguments, BadLiteral, BadValue, HostError
from hostline.protocol.names import shown

#: What begins a value that is a Python literal.
OPENERS = "'\"[({"
#: Longest tag, without its C{@}.
LONGEST_TAG = 64
#: Most values and options of one request.
MOST_WORDS = 10_000

_BLANKS = " \t"
_OPENERS = frozenset(OPENERS)
_ENDS = frozenset(("", " ", "\t"))


class Word(NamedTuple):
    """
    One value of a request.

    @ivar value: the text of a bare word, or the value of a literal.
    @ivar bare: whether it was a bare word, whose meaning the argument's Kind decides (C{None}, C{True}, C{7}).
    """

    value: Any
    bare: bool


class Request(NamedTuple):
    """
    One request.

    @ivar tag: without its C{@}; None for an untagged request.
    """

    tag: str | None
    command: str
    values: list[Word]
    options: dict[str, Word]


class Broken(HostError):
    """
    A line that cannot be taken apart; carries what was understood of it, so that its tag comes back.

    @ivar error: what is wrong with it; its code and details are this one's too.
    """

    def __init__(self, error: HostError, tag: str | None, command: str) -> None:
        super().__init__(error.message, **error.details)
        self.code = error.code
        self.error = error
        self.tag = tag
        self.command = command


def split_tag(line: str) -> tuple[str | None, str]:
    """
    @return: the tag, None if there is none, and the rest of the line.
    @raise BadValue: if the tag is empty or longer than L{LONGEST_TAG}.
    """
    line = line.lstrip(_BLANKS)
    if not line.startswith("@"):
        return None, line
    end = _bare_end(line, 1)
    tag, rest = line[1:end], line[end:]
    if not (0 < len(tag) <= LONGEST_TAG and tag.isascii() and tag.isprintable()):
        raise BadValue(f"want a tag of 1 to {LONGEST_TAG} printable ASCII characters after '@', got {shown(tag)}")
    return tag, rest.lstrip(_BLANKS)


def split(line: str, bounds: literal.Bounds = literal.REQUEST) -> Request:
    """
    Take a request apart, in time linear in its length.

    @param line: the line without its end.
    @param bounds: its elements are those of all literals of the line together.
    @raise Broken: with the error, the tag and the command as far as they were understood.
    """
    tag: str | None = None
    command = ""
    values: list[Word] = []
    options: dict[str, Word] = {}
    try:
        tag, rest = split_tag(line)
        at = _bare_end(rest, 0)
        command = rest[:at]
        while (at := _blanks_end(rest, at)) < len(rest):
            if len(values) + len(options) == MOST_WORDS:
                raise BadArguments(f"want at most {MOST_WORDS} values and options on a line")
            name, start = _option(rest, at)
            word, at = _word(rest, start, bounds)
            if not word.bare and type(word.value) is not str:
                bounds = _what_is_left(bounds, rest, start, at)
            if name is None:
                values.append(word)
            elif name in options:
                raise BadArguments(f"option {shown(name)} was given twice")
            else:
                options[name] = word
    except HostError as error:
        raise Broken(error, tag, command) from error
    return Request(tag, command, values, options)


def _blanks_end(text: str, start: int) -> int:
    # In pieces that grow, for the same reason as below.
    reach = 64
    while text[start : start + 1] in (" ", "\t"):
        piece = text[start : start + reach]
        start += len(piece) - len(piece.lstrip(_BLANKS))
        reach *= 2
    return start


def _bare_end(text: str, start: int) -> int:
    # In pieces: looking for the next tab of a line that has none, or one far away, costs a look at all the rest.
    reach = 64
    while start < len(text):
        space = text.find(" ", start, start + reach)
        tab = text.find("\t", start, space if space >= 0 else start + reach)
        if space >= 0 or tab >= 0:
            return tab if tab >= 0 else space
        start += reach
        reach *= 2
    return len(text)


def _option(text: str, start: int) -> tuple[str | None, int]:
    equals = text.find("=", start, _bare_end(text, start))
    name = text[start:equals] if equals > start else ""
    return (name, equals + 1) if name.isascii() and name.isidentifier() else (None, start)


def _word(text: str, start: int, bounds: literal.Bounds) -> tuple[Word, int]:
    if text[start : start + 1] in _OPENERS:
        end = literal.scan(text, start, bounds)
        if text[end : end + 1] not in _ENDS:
            raise BadLiteral(f"want a blank after the literal, got {shown(text[end : end + 20])}")
        return Word(literal.read(text[start:end], bounds), False), end
    end = _bare_end(text, start)
    return Word(text[start:end], True), end


def _what_is_left(bounds: literal.Bounds, text: str, start: int, end: int) -> literal.Bounds:
    # Never less than the literal has; more, if its strings hold such marks.
    spent = sum(text.count(mark, start, end) for mark in ",:[{(")
    return literal.Bounds(bounds.size, max(0, bounds.elements - spent), bounds.depth, bounds.digits)


def as_word(value: Any) -> str:
    """
    A value as a word of a request: bare where that reads back as the same text, else a literal.

    @raise TypeError: no word stands for such a value.
    """
    if isinstance(value, str):
        bare = (
            value.isascii()
            and value.isprintable()
            and " " not in value
            and "=" not in value
            and value[:1] not in ("", "@", *OPENERS)
        )
        return value if bare else literal.write(str(value))
    if value is None or isinstance(value, int | float | list | tuple | dict):
        return literal.write(value)
    raise TypeError(f"want str, int, float, bool, None, list or dict, got {type(value).__name__}")


def join(command: str, values: Iterable[Any], options: Mapping[str, Any], tag: str | None = None) -> str:
    """
    A request line, without its end, that L{split} takes apart into the same parts.

    @raise BadValue: the command is no word, an option's name no identifier, or the tag no tag.
    """
    if as_word(command) != command:
        raise BadValue(f"want a command, got {shown(command)}")
    words = [command, *map(as_word, values)]
    if tag is not None:
        words.insert(0, f"@{tag}")
        if split_tag(words[0]) != (tag, ""):
            raise BadValue(f"want a tag without blanks, got {shown(tag)}")
    for name, value in options.items():
        if not (name.isascii() and name.isidentifier()):
            raise BadValue(f"want an option, got {shown(name)}")
        words.append(f"{name}={as_word(value)}")
    return " ".join(words)
