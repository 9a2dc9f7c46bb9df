"""
Where in the bytes of a TopDL file its nodes and their attributes stand.
"""

from __future__ import annotations

import re
from xml.parsers import expat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ENCODING = re.compile(rb"<\?xml[^>]*encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"']")
#: Elements inside one another.
_DEEPEST = 64


class Place:
    """
    One attribute of a node.

    @ivar start: of the whole element; C{end} is behind it.
    @ivar value_start: of the value's text; C{value_end} is behind it. Of an empty element: of the element itself.
    @ivar empty: whether it is one, as in C{<value/>}; C{tag} is its name.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = self.value_start = self.value_end = -1
        self.empty = False
        self.tag = b""
        self.name: str | None = None


class Computer:
    """
    One node.

    @ivar prefix: what stands before the names of its elements: empty, or C{t:}.
    @ivar attributes: by name; where a name is there twice, the first, which is the one that counts.
    @ivar last_start: of the element that a new attribute follows; C{last_end} is behind it.
    """

    def __init__(self, prefix: bytes) -> None:
        self.name = ""
        self.prefix = prefix
        self.attributes: dict[str, Place] = {}
        self.last_start = self.last_end = -1


def computers(data: bytes) -> list[Computer]:
    """
    @return: the nodes of a file, in its order.
    @raise ValueError: it is not XML that is read here; the message says why, and where.
    """
    declared = _ENCODING.match(data.removeprefix(b"\xef\xbb\xbf"))
    if declared is not None and declared[1].lower() not in (b"utf-8", b"us-ascii", b"ascii"):
        raise ValueError(f"want UTF-8, got {declared[1].decode()}")
    work = _Work(data)
    try:
        work.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"line {error.lineno}: not well-formed XML: {expat.ErrorString(error.code)}") from None
    return [one for one in work.found if one.name]


class _Work:
    def __init__(self, data: bytes) -> None:
        self.found: list[Computer] = []
        self.parser: Any = expat.ParserCreate("utf-8")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._doctype
        self._data = data
        self._open: list[tuple[str, int, int]] = []
        self._at: Computer | None = None
        self._place: Place | None = None
        self._chars: list[str] = []

    def _doctype(self, *_: object) -> None:
        raise ValueError(f"line {self.parser.CurrentLineNumber}: document types are not read")

    def _start(self, tag: str, _: object) -> None:
        start = self.parser.CurrentByteIndex
        prefix, colon, local = tag.rpartition(":")
        self._open.append((tag, start, self._behind(start)))
        self._chars = []
        depth = len(self._open)
        if depth > _DEEPEST:
            raise ValueError(f"line {self.parser.CurrentLineNumber}: want at most {_DEEPEST} elements in one another")
        if depth == 3 and local == "computer":
            self._at = Computer((prefix + colon).encode())
            self.found.append(self._at)
        elif depth == 4 and self._at is not None and tag == self._tag("attribute"):
            self._place = Place(start)

    def _text(self, text: str) -> None:
        self._chars.append(text)

    def _end(self, tag: str) -> None:
        depth = len(self._open)
        _, start, inner = self._open.pop()
        empty = self._data[inner - 2 : inner] == b"/>"
        close = inner if empty else self.parser.CurrentByteIndex
        end = inner if empty else self._data.index(b">", close) + 1
        text = "".join(self._chars).strip()
        one, place = self._at, self._place
        if one is not None and depth == 4:
            if tag == self._tag("name") and not one.name:
                one.name = text
            if one.last_end < 0 or tag == self._tag("attribute") or not one.attributes:
                one.last_start, one.last_end = start, end
            if place is not None and tag == self._tag("attribute"):
                place.end = end
                if place.name is not None and place.value_start >= 0:
                    one.attributes.setdefault(place.name, place)
                self._place = None
        elif one is not None and place is not None and depth == 5:
            if tag == self._tag("attribute") and place.name is None:
                place.name = text
            elif tag == self._tag("value") and place.value_start < 0:
                place.empty, place.tag = empty, tag.encode()
                place.value_start, place.value_end = (start, end) if empty else (inner, close)
        elif depth == 3:
            self._at = None

    def _tag(self, name: str) -> str:
        return (self._at.prefix.decode() if self._at is not None else "") + name

    def _behind(self, start: int) -> int:
        # Behind the start tag: the first '>' that is not in quotes.
        at, quote = start, b""
        while True:
            one = self._data[at : at + 1]
            if quote:
                quote = b"" if one == quote else quote
            elif one in (b'"', b"'"):
                quote = one
            elif one in (b">", b""):
                return at + 1
            at += 1
