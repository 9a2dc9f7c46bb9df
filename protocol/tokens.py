"""
Python literals token by token: what L{hostline.protocol.literal} does not leave to the C scanner, and all refusals.

The time is linear in the text: each token is one match of one pattern that never tries a character twice, open
brackets are on a list of our own. Apart from its faster half because it needs C{re}, which short-lived clients spare.
"""

from __future__ import annotations

import re

from hostline.protocol.errors import BadLiteral

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hostline.protocol.literal import Bounds, Value

_TOKEN = re.compile(
    r"""[ \t]*+(?:
        '([^'\\\0]*+)'  |  "([^"\\\0]*+)"                                                # 1, 2: a plain string
      | '([^'\\\0]*+(?:\\[^\0][^'\\\0]*+)*+)'  |  "([^"\\\0]*+(?:\\[^\0][^"\\\0]*+)*+)"  # 3, 4: one with escapes
      | ([+-]?[0-9]++)(?![\w.])                                                          # 5: int
      | ([+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+)(?![\w.])       # 6: float
      | (None|True|False)(?!\w)                                                          # 7: word
      | ([][(){},:])                                                                     # 8: mark
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:([\\'\"abfnrtv])|([0-7]{1,3})|(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|)")
_PIECE = re.compile(
    r"""'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][(){}'"]""",
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


def parse(text: str, bounds: Bounds) -> Value:
    """
    The value of a literal; see L{hostline.protocol.literal.read} for what is legal.

    @param text: within the bound of size, on one line.
    @raise BadLiteral: it is not legal, or exceeds the bounds.
    """
    value: Value = _Parser(text, bounds).value()
    return value


class _Open:
    """An open bracket and what was found in it so far."""

    __slots__ = ("at", "commas", "items", "key", "mark", "pairs")

    def __init__(self, mark: str, at: int) -> None:
        self.mark = mark
        self.at = at
        self.items: list[Any] = []
        self.pairs: dict[str, Any] = {}
        self.key: str | None = None
        self.commas = 0

    def closed(self) -> Any:
        if self.mark == "{":
            return self.pairs
        if self.mark == "[":
            return self.items
        return tuple(self.items) if self.commas or not self.items else self.items[0]


class _Parser:
    def __init__(self, text: str, bounds: Bounds) -> None:
        self.text = text
        self.bounds = bounds
        self.at = 0
        self.elements = 0
        self.stack: list[_Open] = []

    def value(self) -> Any:
        while True:
            value, found = self.wanted()
            while found:  # a value is whole: put it where it belongs
                if not self.stack:
                    return self.last(value)
                value, found = self.placed(value)

    def wanted(self) -> tuple[Any, bool]:
        """
        Read a value, or open a bracket, or close one where a trailing comma or nothing stands in it.

        @return: the value, and whether there is one.
        """
        kind, text, at = self.token()
        if 0 < kind < _MARK:
            return self.scalar(kind, text, at), True
        if text in _CLOSING:
            self.counted(at)
            if len(self.stack) == self.bounds.depth:
                raise refusal(f"at most {self.bounds.depth} open brackets", self.text, at)
            self.stack.append(_Open(text, at))
            return None, False
        if text and self.stack and self.stack[-1].key is None and text == _CLOSING[self.stack[-1].mark]:
            return self.stack.pop().closed(), True
        raise self.complaint("a value", at)

    def placed(self, value: Any) -> tuple[Any, bool]:
        """
        Put a value into the innermost bracket and read the mark after it.

        @return: the bracket's own value, and whether it is whole.
        """
        top = self.stack[-1]
        kind, text, at = self.token()
        mark = text if kind == _MARK else ""
        if top.mark != "{":
            top.items.append(value)
        elif top.key is not None:
            top.pairs[top.key] = value
            top.key = None
        else:
            if type(value) is not str:
                raise BadLiteral(f"want a str as key, got {type(value).__name__} before character {at}")
            if mark != ":":
                raise self.complaint("':' after the key", at)
            self.counted(at)
            top.key = value
            return None, False
        if mark == ",":
            self.counted(at)
            top.commas += 1
            return None, False
        if mark == _CLOSING[top.mark]:
            return self.stack.pop().closed(), True
        raise self.complaint(f"',' or {_CLOSING[top.mark]!r}", at)

    def last(self, value: Any) -> Any:
        at = self.blanks(self.at)
        if at < len(self.text):
            raise refusal("the end after the value", self.text, at)
        return value

    def token(self) -> tuple[int, str, int]:
        """
        @return: which group of the pattern, or 0; its text; where it begins.
        """
        match = _TOKEN.match(self.text, self.at)
        if not match:
            return 0, "", self.blanks(self.at)
        kind = match.lastindex or 0
        self.at = match.end()
        return kind, match[kind], match.start(kind)

    def blanks(self, at: int) -> int:
        match = _BLANKS.match(self.text, at)
        return match.end() if match else at

    def counted(self, at: int) -> None:
        self.elements += 1
        if self.elements > self.bounds.elements:
            raise refusal(f"at most {self.bounds.elements} elements", self.text, at)

    def complaint(self, want: str, at: int) -> BadLiteral:
        if at >= len(self.text) and self.stack:
            top = self.stack[-1]
            return BadLiteral(f"unterminated {top.mark} that began at character {top.at}")
        if self.text[at : at + 1] in ("'", '"') and not _TOKEN.match(self.text, at):
            return BadLiteral(f"unterminated string, or one with a NUL, that began at character {at}")
        return refusal(want, self.text, at)

    def scalar(self, kind: int, text: str, at: int) -> Any:
        if kind <= _STRING:
            return text if kind <= _PLAIN else _unescaped(text, at)
        if kind == _WORD:
            return _WORDS[text]
        if kind == _FLOAT:
            number = float(text)
            if number - number != 0:
                raise refusal("a finite float", self.text, at)
            return number
        digits = text.lstrip("+-")
        if digits[0] == "0" and digits.strip("0"):
            raise refusal("an int without leading zeros", self.text, at)
        try:
            if len(digits) <= self.bounds.digits:
                return int(text)
        except ValueError:  # the interpreter's own limit is lower
            pass
        raise refusal("an int of fewer digits", self.text, at)


def _unescaped(text: str, start: int) -> str:
    """
    @param start: where the inside of the string begins in the body, for the error.
    """

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
    if text[start : start + 1] not in ("'", '"', "[", "(", "{"):
        raise refusal("a quote or an opening bracket", text, start)
    opened: list[tuple[str, int]] = []
    for match in _PIECE.finditer(text, start):
        at, end = match.span()
        mark = text[at]
        if mark in _CLOSING:
            if len(opened) == bounds.depth:
                raise refusal(f"at most {bounds.depth} open brackets", text, at)
            opened.append((mark, at))
            continue
        if mark in "'\"":
            if end == at + 1:
                raise BadLiteral(f"unterminated string that began at character {at}")
        elif _CLOSING[opened.pop()[0]] != mark:
            raise refusal("the bracket that matches", text, at)
        if not opened:
            if end - start > bounds.size:
                raise BadLiteral(f"want at most {bounds.size} characters, got {end - start}")
            return end
    mark, at = opened[-1]
    raise BadLiteral(f"unterminated {mark} that began at character {at}")
