"""
Python literals token by token: what L{hostline.protocol.literal} does not leave to the C scanner, and all refusals.

The time is linear in the text: each token is one match of one pattern that never tries a character twice, open
brackets are on a list of our own. Apart from its faster half because it needs C{re}, which short-lived clients spare.
"""

from __future__ import annotations

import re
from json.encoder import encode_basestring

from hostline.protocol.errors import BadLiteral

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hostline.protocol.literal import Bounds, Value

# Possessive groups only where what fails half-way fails altogether: CPython 3.11.2 does not step back from there.
_TOKEN = re.compile(
    r"""[ \t]*+(?:
        '([^'\\\0]*+)'  |  "([^"\\\0]*+)"                                                # 1, 2: a plain string
      | '([^'\\\0]*+(?:\\[^\0][^'\\\0]*+)*+)'  |  "([^"\\\0]*+(?:\\[^\0][^"\\\0]*+)*+)"  # 3, 4: one with escapes
      | ([+-]?[0-9]++)(?![\w.])                                                          # 5: int
      | ([+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)(?![\w.])         # 6: float
      | (None|True|False)(?!\w)                                                          # 7: word
      | ([][(){},:])                                                                     # 8: mark
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:([\\'\"abfnrtv])|([0-7]{1,3})|(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|)")
# What the codec unicode_escape reads as Python does, without a warning: few strings have other escapes.
_GOOD_ESCAPES = re.compile(
    r"""[^\\\ud800-\udfff]*+(?:\\(?:[\\'"abfnrtv]|[0-3][0-7]{0,2}|[4-7][0-7]?(?![0-7])|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U0010[0-9a-fA-F]{4}|U000[0-9a-fA-F]{5})[^\\\ud800-\udfff]*+)*+"""
)
# For finding ends only: a string runs to its closing quote, a backslash escapes one character, whatever it is.
_QUOTED = re.compile(r"""'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+\"""", re.DOTALL)


def _nested(levels: int) -> str:
    """
    What stands in brackets, with those of so many levels in it, for a line may be nothing but brackets.
    """
    flat = rf"""[^][(){{}}'"]++|{_QUOTED.pattern}"""
    for _ in range(levels):
        inside = rf"(?:{flat}){{0,500}}+"
        flat += rf"|\[{inside}\]|\({inside}\)|\{{{inside}\}}"
    return rf"(?:{flat}){{0,500}}"


_FLAT = re.compile(_nested(3), re.DOTALL)
# What is no string swallows the rest at once: else each later quote would be tried, in quadratic time.
_STRINGS = re.compile(
    r"""('[^'\\\0]*+(?:\\[^\0][^'\\\0]*+)*+'|"[^"\\\0]*+(?:\\[^\0][^"\\\0]*+)*+")|['"\\].*+""",
    re.DOTALL,
)
_BLANKS = re.compile(r"[ \t]*+")

_PLAIN, _STRING, _FLOAT, _WORD, _MARK = 2, 4, 6, 7, 8
_WORDS = {"None": None, "True": True, "False": False}
_CLOSING = {"[": "]", "(": ")", "{": "}"}
_CHARACTERS = dict(zip("\\'\"abfnrtv", "\\'\"\a\b\f\n\r\t\v", strict=True))


def refusal(want: str, text: str, at: int, shown: int | None = None) -> BadLiteral:
    """
    The error that says what was wanted and what stands there instead, and never repeats much of the text.

    @param at: index in C{text}.
    @param shown: the index to name, where it is another one.
    """
    got = ascii(text[at : at + 10])[:40] if at < len(text) else "the end"
    return BadLiteral(f"want {want}, got {got} at character {at if shown is None else shown}")


def as_json(text: str, most: int) -> list[str]:
    """
    The body in pieces: the odd ones are its strings, as JSON, the others what is between them, as it is.

    @param most: of strings and their neighbours; from there on the body is left to L{parse}, which refuses it.
    @return: nothing if a string does not end, or a backslash stands outside.
    @raise BadLiteral: an escape is none of Python's.
    """
    pieces: list[str] = _STRINGS.split(text, most + 1)
    if None in pieces or "'" in pieces[-1] or '"' in pieces[-1]:
        return []
    at = 0
    for index, piece in enumerate(pieces):
        if index % 2:
            inside = piece[1:-1]
            if "\\" in inside:
                pieces[index] = encode_basestring(_unescaped(inside, at + 1))
            elif piece[0] == "'":
                pieces[index] = encode_basestring(inside) if '"' in inside else f'"{inside}"'
        at += len(piece)
    return pieces


def parse(text: str, bounds: Bounds) -> Value:
    """
    The value of a literal; see L{hostline.protocol.literal.read} for what is legal.

    @param text: within the bound of size, on one line.
    @raise BadLiteral: it is not legal, or exceeds the bounds.
    """
    value: Any
    stack: list[_Open] = []
    at = elements = 0
    while True:  # a value is wanted, or the end of a bracket that is empty or has a trailing comma
        match = _TOKEN.match(text, at)
        if not match:
            raise _complaint("a value", text, at, stack)
        kind = match.lastindex or 0
        if kind <= _PLAIN:
            value = match[kind]
        elif kind < _MARK:
            value = _scalar(match, kind, bounds)
        elif match[_MARK] in _CLOSING:
            elements += 1
            if elements > bounds.elements:
                raise refusal(f"at most {bounds.elements} elements", text, match.start(_MARK))
            if len(stack) == bounds.depth:
                raise refusal(f"at most {bounds.depth} open brackets", text, match.start(_MARK))
            stack.append(_Open(match[_MARK], match.start(_MARK)))
            at = match.end()
            continue
        elif stack and stack[-1].key is None and match[_MARK] == stack[-1].closing:
            value = stack.pop().value()
        else:
            raise _complaint("a value", text, at, stack)
        at = match.end()
        while stack:  # a value is whole: put it where it belongs and see what follows
            top = stack[-1]
            match = _TOKEN.match(text, at)
            mark = match[_MARK] if match else None
            if top.take(value, at):
                if mark != ":":
                    raise _complaint("':' after the key", text, at, stack)
            elif mark == ",":
                top.commas += 1
            elif mark != top.closing:
                raise _complaint(f"',' or '{top.closing}'", text, at, stack)
            at = match.end() if match else at
            if mark == top.closing:
                value = stack.pop().value()
                continue
            elements += 1
            if elements > bounds.elements:
                raise refusal(f"at most {bounds.elements} elements", text, at - 1)
            break
        else:
            at = _blanks(text, at)
            if at < len(text):
                raise refusal("the end after the value", text, at)
            whole: Value = value
            return whole


class _Open:
    """An open bracket and what was found in it so far."""

    __slots__ = ("at", "closing", "commas", "items", "key", "pairs")

    def __init__(self, mark: str, at: int) -> None:
        self.at = at
        self.closing = _CLOSING[mark]
        self.items: list[Any] = []
        self.pairs: dict[str, Any] | None = {} if mark == "{" else None
        self.key: str | None = None
        self.commas = 0

    def take(self, value: Any, at: int) -> bool:
        """
        @return: whether it is the key of a pair, so that a colon and another value must follow.
        """
        if self.pairs is None:
            self.items.append(value)
        elif self.key is None:
            if type(value) is not str:
                raise BadLiteral(f"want a str as key, got {type(value).__name__} before character {at}")
            self.key = value
            return True
        else:
            self.pairs[self.key] = value
            self.key = None
        return False

    def value(self) -> Any:
        if self.pairs is not None:
            return self.pairs
        if self.closing == "]":
            return self.items
        return tuple(self.items) if self.commas or not self.items else self.items[0]


def _complaint(want: str, text: str, at: int, stack: list[_Open]) -> BadLiteral:
    at = _blanks(text, at)
    if at >= len(text) and stack:
        return BadLiteral(f"unterminated {text[stack[-1].at]} that began at character {stack[-1].at}")
    if text[at : at + 1] in ("'", '"') and not _TOKEN.match(text, at):
        return BadLiteral(f"unterminated string, or one with a NUL, that began at character {at}")
    return refusal(want, text, at)


def _blanks(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


def _scalar(match: re.Match[str], kind: int, bounds: Bounds) -> Any:
    text, at = match[kind], match.start(kind)
    if kind <= _STRING:
        return _unescaped(text, at)
    if kind == _WORD:
        return _WORDS[text]
    if kind == _FLOAT:
        number = float(text)
        if number - number != 0:
            raise refusal("a finite float", match.string, at)
        return number
    digits = text.lstrip("+-")
    if digits[0] == "0" and digits.strip("0"):
        raise refusal("an int without leading zeros", match.string, at)
    try:
        if len(digits) <= bounds.digits:
            return int(text)
    except ValueError:  # the interpreter's own limit is lower
        pass
    raise refusal("an int of fewer digits", match.string, at)


def _unescaped(text: str, start: int) -> str:
    """
    @param start: where the inside of the string begins in the body, for the error.
    """
    if _GOOD_ESCAPES.fullmatch(text):  # a million of them are done in a moment by the codec
        return text.encode("ascii", "backslashreplace").decode("unicode_escape")

    def character(match: re.Match[str]) -> str:
        plain, octal, hexadecimal = match.groups()
        if plain:
            return _CHARACTERS[plain]
        code = int(octal, 8) if octal else int(hexadecimal[1:], 16) if hexadecimal else -1
        if 0 <= code <= (0o377 if octal else 0x10FFFF):
            return chr(code)
        raise refusal("an escape of Python's but \\N", text, match.start(), start + match.start())

    return _ESCAPE.sub(character, text)


def end_of(text: str, start: int, bounds: Bounds) -> int:
    """
    The index just after the literal that begins at C{text[start]}; see L{hostline.protocol.literal.scan}.
    """
    opened: list[int] = []
    elements = 0
    at = start
    while True:
        mark = text[at : at + 1]
        if mark in ("'", '"'):
            string = _QUOTED.match(text, at)
            if not string:
                raise BadLiteral(f"unterminated string that began at character {at}")
            at = string.end()
        elif mark in _CLOSING:
            if len(opened) == bounds.depth:
                raise refusal(f"at most {bounds.depth} open brackets", text, at)
            elements += 1
            if elements > bounds.elements:
                raise refusal(f"at most {bounds.elements} elements", text, at)
            opened.append(at)
            at += 1
        elif not opened:
            raise refusal("a quote or an opening bracket", text, at)
        elif not mark:
            raise BadLiteral(f"unterminated {text[opened[-1]]} that began at character {opened[-1]}")
        elif mark in "])}":
            if _CLOSING[text[opened.pop()]] != mark:
                raise refusal("the bracket that matches", text, at)
            at += 1
        if not opened:
            break
        flat = _FLAT.match(text, at)  # to the next bracket that has more in it, or some hundred strings on
        at = flat.end() if flat else at
    if at - start > bounds.size:
        raise BadLiteral(f"want at most {bounds.size} characters, got {at - start}")
    return at
