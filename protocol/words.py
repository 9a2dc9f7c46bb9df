"""
A request line taken apart: tag, command, values and options; and put together again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hostline.protocol import literal
from hostline.protocol.errors import BadLiteral, BadValue, HostError
from hostline.protocol.names import shown

#: What begins a value that is a Python literal.
OPENERS = "'\"[({"
#: Longest tag, without its C{@}.
LONGEST_TAG = 64

_BARE_END = " \t"


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
    """

    def __init__(self, error: HostError, tag: str | None, command: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.tag = tag
        self.command = command


def split_tag(line: str) -> tuple[str | None, str]:
    """
    @return: the tag, None if there is none, and the rest of the line.
    @raise BadValue: if the tag is empty or longer than L{LONGEST_TAG}.
    """
    line = line.lstrip(_BARE_END)
    if not line.startswith("@"):
        return None, line
    end = _bare_end(line, 1)
    tag, rest = line[1:end], line[end:]
    if not (0 < len(tag) <= LONGEST_TAG and tag.isascii() and tag.isprintable()):
        raise BadValue(f"want a tag of 1 to {LONGEST_TAG} printable ASCII characters after '@', got {shown(tag)}")
    return tag, rest.lstrip(_BARE_END)


def split(line: str, bounds: literal.Bounds = literal.REQUEST) -> Request:
    """
    Take a request apart.

    @param line: the line without its end.
    @raise Broken: with the error, the tag and the command as far as they were understood.
    """
    tag: str | None = None
    command = ""
    try:
        tag, rest = split_tag(line)
        at = 0
        values: list[Word] = []
        options: dict[str, Word] = {}
        length = len(rest)
        while at < length:
            if rest[at] in _BARE_END:
                at += 1
                continue
            if not command:
                end = _bare_end(rest, at)
                command = rest[at:end]
                at = end
                continue
            name, start = _option(rest, at)
            word, at = _word(rest, start, bounds)
            if name is None:
                values.append(word)
            elif name in options:
                raise BadValue(f"option {name} was given twice")
            else:
                options[name] = word
    except HostError as error:
        raise Broken(error, tag, command) from error
    return Request(tag, command, values, options)


def _bare_end(text: str, start: int) -> int:
    space = text.find(" ", start)
    tab = text.find("\t", start, space if space >= 0 else len(text))
    end = tab if tab >= 0 else space
    return end if end >= 0 else len(text)


def _option(text: str, start: int) -> tuple[str | None, int]:
    equals = text.find("=", start, start + 65)
    name = text[start:equals] if equals > start else ""
    return (name, equals + 1) if name.isascii() and name.isidentifier() else (None, start)


def _word(text: str, start: int, bounds: literal.Bounds) -> tuple[Word, int]:
    if start < len(text) and text[start] in OPENERS:
        end = literal.scan(text, start, bounds)
        if end < len(text) and text[end] not in _BARE_END:
            raise BadLiteral(f"want a blank after the literal, got {shown(text[end : end + 20])}")
        return Word(literal.read(text[start:end], bounds), False), end
    end = _bare_end(text, start)
    return Word(text[start:end], True), end


def as_word(value: Any) -> str:
    """
    A value as a word of a request: bare where that reads back as the same text, else a literal.
    """
    if isinstance(value, str):
        bare = (
            value
            and value.isascii()
            and value.isprintable()
            and not any(one in value for one in " =\t")
            and value[0] not in OPENERS + "@"
        )
        return value if bare else literal.write(value)
    return literal.write(value)


def join(command: str, values: list[Any], options: dict[str, Any], tag: str | None = None) -> str:
    """
    A request line, without its end, that L{split} takes apart into the same parts.
    """
    words = [command, *map(as_word, values), *(f"{name}={as_word(value)}" for name, value in options.items())]
    return (f"@{tag} " if tag else "") + " ".join(words)
