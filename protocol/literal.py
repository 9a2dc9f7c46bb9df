"""
Values on the wire: Python literals, and JSON for whom it suits better, read within bounds and written on one line.

L{read} gives exactly what C{ast.literal_eval} gives, many times faster and safe on hostile input. A body becomes
JSON, when that provably changes nothing, for the interpreter's own C scanner. Strings with C{"} or a backslash, what
JSON has no form for, and all errors are the business of L{hostline.protocol.tokens}. That module, C{re}, C{json} and
C{typing} are imported only when needed: importing them takes as long as the rest of a short-lived client.
"""

from __future__ import annotations

import sys

try:
    from _json import make_scanner
except ImportError:  # an interpreter without the C scanner
    make_scanner = None  # type: ignore[assignment,misc]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeAlias

Value: TypeAlias = "dict[str, Value] | list[Value] | tuple[Value, ...] | str | int | float | bool | None"


class Bounds:
    """
    How much one body may ask of its reader; what is more is refused with C{BAD_LITERAL}.

    @ivar size: characters.
    @ivar elements: commas, colons and opening brackets outside strings, together.
    @ivar depth: brackets open at once. Python itself stops at 200.
    @ivar digits: of one int. The interpreter's own limit (4300 unless changed) holds besides.
    """

    __slots__ = ("depth", "digits", "elements", "size")

    def __init__(self, size: int, elements: int, depth: int = 64, digits: int = 4300) -> None:
        self.size = size
        self.elements = elements
        self.depth = depth
        self.digits = digits


REQUEST = Bounds(size=1 << 20, elements=200_000)
REPLY = Bounds(size=64 << 20, elements=4_000_000)

_UNSURE = object()
_BRACKETS = b"[]{}"
_BLANKS = " \t\r\n"


def _all_but(kept: bytes) -> bytes:
    return bytes(byte for byte in range(256) if byte not in kept)


_NOT_BRACKETS = _all_but(_BRACKETS)
# What may stand outside strings only, if the body is to be rewritten without looking at each string.
_DULL = {"'": _all_but(_BRACKETS + b"'NTF"), '"': _all_but(_BRACKETS + b'"')}


def read(text: str | bytes, bounds: Bounds = REPLY) -> Value:
    """
    The value of a literal, equal to what C{ast.literal_eval} gives, types included.

    Legal are dicts with str keys, lists, tuples, str, int, finite float, bool and None, on one line; blanks around
    them, trailing commas, parentheses around a value, C{+1}, C{.5} and the escapes C{\\\\ \\' \\" \\a \\b \\f \\n \\r
    \\t \\v}, octal to C{\\377}, C{\\x}, C{\\u} and C{\\U} are accepted as in Python. An escaped lone surrogate gives
    a str that holds it; a raw one is refused, as Python does. Refused although Python reads them: C{0x10}, C{1_000},
    C{- 1}, strings side by side, prefixed or in triple quotes, C{\\N{..}}, unknown escapes, comments, a tuple without
    parentheses, line breaks but one at the end, and every other type.

    @param text: bytes are UTF-8.
    @raise BadLiteral: anything else; it says what was wanted, and mostly at which character, counted from 0.
    """
    text = _text(text, bounds).removesuffix("\n").removesuffix("\r")
    if "\n" in text or "\r" in text:
        _refuse("one line", text, min(text.find(end) for end in "\r\n" if end in text))
    value = _quick(text, bounds)
    if value is _UNSURE:
        from hostline.protocol.tokens import parse

        value = parse(text, bounds)
    return value  # type: ignore[return-value]


def read_json(text: str | bytes, bounds: Bounds = REPLY) -> Value:
    """
    The value of a JSON text, within the same bounds.

    C{NaN}, C{Infinity} and numbers too large for a float are refused; of equal keys the last wins, as in Python.

    @raise BadLiteral: anything else.
    """
    text = _text(text, bounds)
    # For counting only: without escaped quotes, each quote begins or ends a string.
    plain = text.replace("\\\\", "").replace('\\"', "") if "\\" in text else text
    if not _shallow(_outside(plain, '"', bounds)[2], bounds.depth):
        _refuse_more("open brackets", bounds.depth)
    start = len(text) - len(text.lstrip(_BLANKS))
    try:
        try:
            value, end = _scanner(bounds)(text, start)
        except SystemError:  # the C scanner looked for an exception class nobody had imported
            value, end = _scanner(bounds, explain=True)(text, start)
    except StopIteration as error:
        _refuse("a JSON value", text, error.value)
    except (ValueError, RecursionError) as error:
        _refuse("JSON with finite numbers of bounded length", text, getattr(error, "pos", start))
    if text[end:].strip(_BLANKS):
        _refuse("the end after the value", text, end)
    return value


def write(value: Value) -> str:
    """
    The value as a literal: ASCII on one line. See L{check} for what it may hold.
    """
    return ascii(value)


def write_json(value: Value) -> str:
    """
    The value as JSON: ASCII on one line.

    @raise ValueError: a float is not finite.
    """
    from json import dumps

    return dumps(value, allow_nan=False)


def check(value: object) -> None:
    """
    Object to a reply that not every client could read, in both formats, as the same value. For tests and debugging.

    @raise TypeError: it holds something other than dicts with str keys, lists, str, int, finite float, bool and None
        (exactly these: no tuple, no subclass, no lone surrogate), or is deeper than the bounds; it says where.
    """
    _check(value, "the value", REPLY.depth)


def scan(text: str, start: int, bounds: Bounds = REQUEST) -> int:
    """
    Where the literal that begins at C{text[start]} ends: the index just after it.

    Only brackets and strings are matched; whether it can be read is for L{read} to say.

    @param start: the index of a quote or an opening bracket.
    @raise BadLiteral: it does not end, or is longer, or much deeper, than the bounds.
    """
    from hostline.protocol.tokens import end_of

    return end_of(text, start, bounds)


def _text(text: str | bytes, bounds: Bounds) -> str:
    if not isinstance(text, str):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            _refuse("UTF-8", error.object[error.start : error.start + 4].decode("latin-1"), 0, error.start)
    if len(text) > bounds.size:
        _refuse_more("characters", bounds.size, len(text))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            _refuse("no raw surrogate", text, error.start)
    return text


def _quick(text: str, bounds: Bounds) -> object:
    """
    The value by way of JSON, or C{_UNSURE}.
    """
    if make_scanner is None:
        return _UNSURE
    glue = '"'
    if glue in text or "\\" in text:
        from hostline.protocol.tokens import as_json

        pieces, glue = as_json(text, bounds.elements), ""
        if not pieces:
            return _UNSURE
        outside, brackets = _joined(pieces, "'", bounds)
    else:
        outside, pieces, brackets = _outside(text, "'", bounds)
    if (pieces and _has_json_words(outside)) or not _shallow(brackets, bounds.depth):
        return _UNSURE
    body = outside
    for capital, word, json_word in (("N", "None", "null"), ("T", "True", "true"), ("F", "False", "false")):
        if capital in body:
            body = body.replace(word, json_word)
    if pieces:
        pieces[::2] = body.split("'")
        body = glue.join(pieces)
        pieces.clear()
    else:
        body = body.replace("'", '"')
    start = len(body) - len(body.lstrip(" \t"))
    try:
        value, end = _scanner(bounds)(body, start)
    except (ValueError, StopIteration, RecursionError, SystemError):
        return _UNSURE
    return _UNSURE if body[end:].strip(" \t") else value


def _has_json_words(text: str) -> bool:
    """Whether there is what JSON reads but Python does not; the rest of its own words the scanner's rules refuse."""
    return ("l" in text and ("null" in text or "false" in text)) or "true" in text


def _outside(text: str, quote: str, bounds: Bounds) -> tuple[str, list[str], bytes]:
    """
    What stands outside the strings of a body in which no quote is escaped.

    Reduced to what matters, a string without any of it is two quotes side by side. When these are taken away from
    the left, a quote stays if, and only if, some string holds a bracket or a capital, or does not end; otherwise the
    body can be looked at and rewritten as a whole. Quotes out of step cannot hide: up to the first such string all
    pairs are whole strings.

    @return: C{text} itself, or with the strings' insides taken out; then the pieces of it between quotes (the strings
        are the odd ones), or none; the brackets outside strings.
    """
    mark = quote.encode()
    marks = text.encode().translate(None, _DULL[quote]).replace(mark + mark, b"")
    if mark not in marks and not (quote == "'" and _has_json_words(text)):
        brackets = marks.translate(None, b"NTF")
        if _elements(text, brackets) <= bounds.elements:
            return text, [], brackets
    if text.count(quote) > 2 * bounds.elements + 2:  # as many strings, so as many elements
        _refuse_more("elements", bounds.elements)
    pieces = text.split(quote)
    outside, brackets = _joined(pieces, quote, bounds)
    return outside, pieces, brackets


def _joined(pieces: list[str], quote: str, bounds: Bounds) -> tuple[str, bytes]:
    """
    @return: the pieces outside strings with quotes between them; the brackets there.
    """
    outside = quote.join(pieces[::2])
    brackets = outside.encode().translate(None, _NOT_BRACKETS)
    found = _elements(outside, brackets)
    if found > bounds.elements:
        _refuse_more("elements", bounds.elements, found)
    return outside, brackets


def _elements(text: str, brackets: bytes) -> int:
    return text.count(",") + text.count(":") + brackets.count(b"[") + brackets.count(b"{")


def _shallow(brackets: bytes, depth: int) -> bool:
    """
    Whether no more than C{depth} are open at once. In time linear in their number, whatever they are: a few rounds
    take the innermost away, one level each, then what is left is walked.
    """
    brackets = brackets.replace(b"{", b"[").replace(b"}", b"]")
    level = 0
    while brackets and level < 8:
        brackets = brackets.replace(b"[]", b"")
        level += 1
    if level > depth:
        return False
    for bracket in brackets:
        level += 1 if bracket == 0x5B else -1
        if level > depth:
            return False
    return True


class _Rules:
    """What the C scanner asks of its decoder."""

    strict = True
    object_hook = object_pairs_hook = None

    def __init__(self, digits: int) -> None:
        self.memo: dict[str, str] = {}
        self.digits = digits
        self.parse_int: Callable[[str], int] = int if 0 < sys.get_int_max_str_digits() <= digits else self.short

    def short(self, text: str) -> int:
        if len(text) - (text[0] == "-") > self.digits:
            raise ValueError(text)
        return int(text)

    @staticmethod
    def parse_float(text: str) -> float:
        value = float(text)
        if value - value != 0:
            raise ValueError(text)
        return value

    @staticmethod
    def parse_constant(text: str) -> float:
        raise ValueError(text)


def _scanner(bounds: Bounds, explain: bool = False) -> Callable[[str, int], tuple[Value, int]]:
    """
    @param explain: have the C scanner say what was wrong: for that, C{json.decoder} must have been imported.
    """
    rules = _Rules(bounds.digits)
    if explain or make_scanner is None or hasattr(sys, "gettotalrefcount"):  # a debug build aborts on that SystemError
        from json.decoder import JSONDecoder

        if make_scanner is None:
            decoder = JSONDecoder(
                parse_int=rules.parse_int, parse_float=rules.parse_float, parse_constant=rules.parse_constant
            )
            return decoder.scan_once  # type: ignore[no-any-return,attr-defined]
    return make_scanner(rules)  # type: ignore[arg-type]


def _check(value: object, where: str, depth: int) -> None:
    kind = type(value)
    if kind is str:
        try:
            value.encode()  # type: ignore[attr-defined]
        except UnicodeEncodeError:
            raise TypeError(f"want text, got a lone surrogate in {where}") from None
    elif kind is float:
        if value - value != 0:  # type: ignore[operator]
            raise TypeError(f"want a finite float, got {value} in {where}")
    elif kind is int:
        if value.bit_length() > 14284:  # type: ignore[attr-defined]
            raise TypeError(f"want an int of at most 4300 digits in {where}")
    elif kind is list or kind is dict:
        if not depth:
            raise TypeError(f"want at most {REPLY.depth} brackets deep in {where[:60]}...")
        if kind is dict:
            for key, item in value.items():  # type: ignore[attr-defined]
                if type(key) is not str:
                    raise TypeError(f"want str keys, got {type(key).__name__} in {where}")
                _check(key, f"a key of {where}", 0)
                _check(item, f"{where}[{key[:20]!a}]", depth - 1)
        else:
            for index, item in enumerate(value):  # type: ignore[arg-type]
                _check(item, f"{where}[{index}]", depth - 1)
    elif kind is not bool and value is not None:
        raise TypeError(f"want dict, list, str, int, float, bool or None, got {kind.__name__} in {where}")


def _refuse(want: str, text: str, at: int, shown: int | None = None) -> NoReturn:
    from hostline.protocol.tokens import refusal

    raise refusal(want, text, at, shown)


def _refuse_more(what: str, most: int, found: int = 0) -> NoReturn:
    from hostline.protocol.errors import BadLiteral

    raise BadLiteral(f"want at most {most} {what}" + (f", got {found}" if found else ""))
