"""
XML text as a plain tree and back, with nothing lost that a program could mean: tags, attributes, order, prefixes and
their declarations, text, comments, processing instructions.

Read by defusedxml: document types, entities and outside references are refused. A node of the tree is
C{[tag, {attribute: value}, text, [node, ...], tail]}, as in ElementTree, but with names as they were written
(C{prefix:name}, and C{xmlns:prefix} among the attributes). The top is a node L{WHOLE}, whose children are the root
element and what stands around it. Not kept: the XML declaration, CDATA marks, blanks inside tags and around the root.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree.ElementTree import ParseError

from attrs import define, field
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from hostline.protocol.errors import BadValue
from hostline.server.experiments.topology import quoted

#: Bytes of a text, in UTF-8.
TEXT_MAX = 4 * 1024 * 1024
#: Elements inside one another, the root counted.
DEPTH_MAX = 64

WHOLE = "#document"
COMMENT = "#comment"
INSTRUCTION = "#instruction"

#: What may stand before the first C{<}.
BLANKS = "\ufeff \t\r\n"

_NAME = re.compile(
    "[:A-Z_a-z\xc0-\xd6\xd8-\xf6\xf8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f\u2c00-\u2fef"
    "\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff]"
    "[:A-Z_a-z\xc0-\xd6\xd8-\xf6\xf8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f\u2c00-\u2fef"
    "\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff.0-9\xb7\u0300-\u036f\u203f\u2040-]*"
)
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_IN_TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_IN_ATTRIBUTE = {**_IN_TEXT, '"': "&quot;", "\n": "&#10;", "\t": "&#9;"}


class Unreadable(Exception):
    """
    The text is not XML that we read.

    @ivar line: where, counted from 1.
    """

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text


@define
class Element:
    """
    A node of the tree together with the line it begins in.
    """

    tag: str
    attributes: dict[str, str]
    line: int
    text: str = ""
    children: list[Element] = field(factory=list)
    tail: str = ""

    @property
    def elements(self) -> list[Element]:
        """
        @return: the children without comments and processing instructions.
        """
        return [one for one in self.children if one.tag[0] != "#"]

    @property
    def value(self) -> str:
        """
        @return: the text of a leaf, blanks at both ends and comments inside taken away.
        """
        return (self.text + "".join(one.tail for one in self.children)).strip()

    def as_document(self) -> list[Any]:
        """
        @return: the plain tree from here on.
        """
        return [self.tag, self.attributes, self.text, [one.as_document() for one in self.children], self.tail]


def _written_name(name: str) -> str:
    # Expat gives '{uri}local}prefix' (namespace_prefixes), '{uri}local' in a default namespace, else 'local'.
    parts = name.split("}")
    return f"{parts[2]}:{parts[1]}" if len(parts) == 3 else parts[-1]


class _Builder:
    """
    The target of the parser: builds L{Element}s.
    """

    def __init__(self, skipped: int) -> None:
        """
        @param skipped: how many lines of the text stand before what the parser is fed.
        """
        self.top = Element(WHOLE, {}, 1)
        self.expat: Any = None
        self._skipped = skipped
        self._open = [self.top]
        self._declared: dict[str, str] = {}
        self._text: list[str] = []
        self._last: Element | None = None

    @property
    def line(self) -> int:
        """
        @return: where the parser is, in the whole text.
        """
        return self._skipped + int(self.expat.CurrentLineNumber)

    def start_ns(self, prefix: str, uri: str) -> None:
        self._declared[f"xmlns:{prefix}" if prefix else "xmlns"] = uri

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        given = self._declared
        self._declared = {}
        for name, value in attributes.items():
            given[_written_name(name)] = value
        self._open.append(self._added(Element(_written_name(tag), given, self.line)))
        self._last = None
        if len(self._open) - 1 > DEPTH_MAX:
            raise Unreadable(self.line, f"want at most {DEPTH_MAX} elements inside one another")

    def end(self, tag: str) -> None:
        self._flush()
        self._last = self._open.pop()

    def data(self, text: str) -> None:
        self._text.append(text)

    def comment(self, text: str) -> None:
        self._last = self._added(Element(COMMENT, {}, self.line, text))

    def pi(self, target: str, data: str) -> None:
        text = f"{target} {data}" if data else target
        self._last = self._added(Element(INSTRUCTION, {}, self.line, text))

    def close(self) -> Element:
        return self.top

    def _added(self, element: Element) -> Element:
        self._flush()
        self._open[-1].children.append(element)
        return element

    def _flush(self) -> None:
        if self._text:
            text = "".join(self._text)
            self._text.clear()
            if self._last is None:
                self._open[-1].text = text
            else:
                self._last.tail = text


def legal(text: str) -> bool:
    """
    @return: whether XML can say C{text}.
    """
    return _ILLEGAL.search(text) is None


def parsed(text: str) -> Element:
    """
    Read XML text.

    @return: the node L{WHOLE}.
    @raise Unreadable: not well-formed, or larger or deeper than we read, or with a document type.
    """
    body = text.lstrip(BLANKS)
    skipped = text[: len(text) - len(body)].count("\n")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise Unreadable(text.count("\n", 0, error.start) + 1, "want Unicode text, got a lone surrogate") from None
    if size > TEXT_MAX:
        raise Unreadable(1, f"want at most {TEXT_MAX} bytes, got {size}")
    builder = _Builder(skipped)
    parser: Any = DefusedXMLParser(target=builder, forbid_dtd=True)
    builder.expat = parser.parser
    builder.expat.namespace_prefixes = True
    try:
        parser.feed(body)
        whole: Element = parser.close()
    except ParseError as error:
        line = error.position[0] + skipped
        raise Unreadable(line, f"not well-formed XML: {str(error).partition(': line')[0]}") from None
    except DefusedXmlException:
        raise Unreadable(builder.line, "document types, entities and outside references are not read") from None
    except (ValueError, LookupError) as error:
        raise Unreadable(builder.line, f"not readable XML: {quoted(str(error))}") from None
    return whole


def written(document: Any) -> str:
    """
    The XML text of a tree; L{parsed} gives the same tree again.

    @param document: a node L{WHOLE}.
    @raise BadValue: it is not a tree that L{parsed} gives.
    """
    try:
        tag, _, _, children, _ = document
        if tag != WHOLE:
            raise BadValue(f"want a node {WHOLE!r}, got {quoted(tag)}")
        out: list[str] = []
        for child in children:
            _write(child, out, 1)
            out.append("\n")
        return "".join(out)
    except (TypeError, ValueError, AttributeError):
        raise BadValue("want [tag, {attribute: value}, text, [node, ...], tail] for each node") from None


def _write(node: Any, out: list[str], depth: int) -> None:
    tag, attributes, text, children, tail = node
    if depth > DEPTH_MAX + 1:
        raise BadValue(f"want at most {DEPTH_MAX} elements inside one another")
    if tag == COMMENT:
        if "--" in text or text.endswith("-"):
            raise BadValue(f"want no '--' in a comment, got {quoted(text)}")
        out.append(f"<!--{_legal(text)}-->")
    elif tag == INSTRUCTION:
        if "?>" in text or not _NAME.match(text):
            raise BadValue(f"want a target and no '?>' in a processing instruction, got {quoted(text)}")
        out.append(f"<?{_legal(text)}?>")
    else:
        out.append(f"<{_name(tag)}")
        for name, value in attributes.items():
            out.append(f' {_name(name)}="{_escaped(value, _IN_ATTRIBUTE)}"')
        inner = _escaped(text, _IN_TEXT)
        if inner or children:
            out.append(f">{inner}")
            for child in children:
                _write(child, out, depth + 1)
            out.append(f"</{tag}>")
        else:
            out.append("/>")
    out.append(_escaped(tail, _IN_TEXT))


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadValue(f"want an XML name, got {quoted(name)}")
    return name


def _legal(text: str) -> str:
    if not legal(text):
        raise BadValue(f"want characters that XML allows, got {quoted(text)}")
    return text


def _escaped(text: str, marks: dict[str, str]) -> str:
    _legal(text)
    for mark, escape in marks.items():
        if mark in text:
            text = text.replace(mark, escape)
    return text
