"""
Kinds: what an argument, an option or a reply may be, how a word is read as one, and what fits.

A Kind reads a word of a request (bare words by its own rule: C{None}, C{True}, C{7}, C{+30m}) and says whether a value
of a reply fits it. Each has a name for usage lines and a doc for people.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostline.protocol import names
from hostline.protocol.errors import BadValue
from hostline.protocol.names import shown
from hostline.protocol.words import Word

#: Longest TEXT in characters.
LONGEST_TEXT = 4 << 20


class Kind:
    """
    One kind of value.

    @ivar name: as it stands in usage lines and docs, C{PROJECT/EXPERIMENT}.
    @ivar doc: one line for people.
    @ivar fields: of a dict with fixed keys, the Kind of each.
    @ivar optional: those keys that are not always there.
    @ivar parts: the Kinds of what is inside a list or any other dict.
    """

    fields: dict[str, Kind] = {}
    optional: frozenset[str] = frozenset()
    parts: tuple[Kind, ...] = ()

    def __init__(
        self,
        name: str,
        doc: str,
        check: Callable[[Any], str | None],
        bare: Callable[[str], Any] = str,
    ) -> None:
        """
        @param check: what is wrong with a value, in words ("want ..."); None if it fits.
        @param bare: the value of a bare word; may raise L{BadValue}.
        """
        self.name = name
        self.doc = doc
        self._check = check
        self._bare = bare

    def read(self, word: Word, what: str) -> Any:
        """
        @param what: the argument's name, for the error.
        @raise BadValue: if the word is no such value.
        """
        try:
            value = self._bare(word.value) if word.bare else word.value
            wrong = self._check(value)
        except BadValue as error:
            wrong = error.message
        if wrong:
            raise BadValue(f"{what}: {wrong}")
        return value

    def fits(self, value: Any) -> str | None:
        """
        @return: what is wrong with C{value}; None if it is of this Kind.
        """
        return self._check(value)


def _is(kind: type, want: str) -> Callable[[Any], str | None]:
    return lambda value: None if type(value) is kind else f"want {want}, got {shown(value)}"


def _named(check: Callable[[str], Any]) -> Callable[[Any], str | None]:
    def checked(value: Any) -> str | None:
        if type(value) is not str:
            return f"want a name, got {shown(value)}"
        try:
            check(value)
        except BadValue as error:
            return error.message
        return None

    return checked


def _number(least: int | None, most: int | None) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if type(value) is not int or (least is not None and value < least) or (most is not None and value > most):
            bounds = f" from {least}" if least is not None else ""
            bounds += f" to {most}" if most is not None else ""
            return f"want a whole number{bounds}, got {shown(value)}"
        return None

    return check


def _bare_int(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise BadValue(f"want a whole number, got {shown(text)}")
    return int(text)


def _bare_seconds(text: str) -> float:
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1:], 0)
    digits = text[:-1] if unit else text
    if not (digits.isascii() and digits.replace(".", "", 1).isdigit() and len(digits) <= 20):
        raise BadValue(f"want seconds such as 30, 2.5 or 10m, got {shown(text)}")
    return float(digits) * (unit or 1)


def _seconds(value: Any) -> str | None:
    if type(value) not in (int, float) or not 0 <= value <= 10**9:
        return f"want seconds from 0, got {shown(value)}"
    return None


def _bare_flag(text: str) -> bool:
    if text not in ("True", "False"):
        raise BadValue(f"want True or False, got {shown(text)}")
    return text == "True"


def _float(value: Any) -> str | None:
    return None if type(value) in (int, float) else f"want a number, got {shown(value)}"


def number(name: str, doc: str, least: int | None = None, most: int | None = None) -> Kind:
    """
    Whole numbers from C{least} to C{most}.
    """
    return Kind(name, doc, _number(least, most), _bare_int)


def choice(name: str, doc: str, *words: str) -> Kind:
    """
    One of a few words.
    """
    wanted = ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else words[0]
    return Kind(name, doc, lambda value: None if value in words else f"want {wanted}, got {shown(value)}")


def maybe(kind: Kind) -> Kind:
    """
    C{kind}, or None.
    """
    either = Kind(
        kind.name,
        f"{kind.doc}, or None",
        lambda value: None if value is None else kind.fits(value),
        lambda text: None if text == "None" else kind._bare(text),
    )
    either.parts = (kind,)
    return either


def listing(item: Kind, name: str = "", doc: str = "") -> Kind:
    """
    A list, each item of one Kind. A bare word is a list of that one.
    """

    def check(value: Any) -> str | None:
        if type(value) not in (list, tuple):
            return f"want a list, got {shown(value)}"
        for at, one in enumerate(value):
            wrong = item.fits(one)
            if wrong:
                return f"item {at + 1}: {wrong}"
        return None

    kind = Kind(name or f"[{item.name}, ..]", doc or f"list of {item.name}", check, lambda text: [item._bare(text)])
    kind.parts = (item,)
    return kind


def mapping(key: Kind, value: Kind, name: str, doc: str) -> Kind:
    """
    A dict from one Kind to another.
    """

    def check(found: Any) -> str | None:
        if type(found) is not dict:
            return f"want a dict, got {shown(found)}"
        for one, its in found.items():
            wrong = key.fits(one) or value.fits(its)
            if wrong:
                return f"{shown(one)}: {wrong}"
        return None

    kind = Kind(name, doc, check, _no_bare("a dict"))
    kind.parts = (key, value)
    return kind


def record(name: str, doc: str, fields: dict[str, Kind], optional: dict[str, Kind] | None = None) -> Kind:
    """
    A dict with these keys at least; keys may be added in later versions.

    @param optional: keys that are not always there.
    """

    def check(value: Any) -> str | None:
        if type(value) is not dict:
            return f"want a dict, got {shown(value)}"
        for key in fields:
            if key not in value:
                return f"want the key {key!r}"
        for key, kind in (fields | (optional or {})).items():
            wrong = kind.fits(value[key]) if key in value else None
            if wrong:
                return f"{key}: {wrong}"
        return None

    kind = Kind(name, doc, check, _no_bare("a dict"))
    kind.fields = fields | (optional or {})
    kind.optional = frozenset(optional or {})
    return kind


def _no_bare(want: str) -> Callable[[str], Any]:
    def bare(text: str) -> Any:
        raise BadValue(f"want {want}, got {shown(text)}")

    return bare


def _topic(value: Any) -> str | None:
    want = "want a topic (experiment/PROJECT/EXPERIMENT, sliver/NAME, operation/N, host, audit or all)"
    if type(value) is not str or len(value) > 200:
        return f"{want}, got {shown(value)}"
    first, _, rest = value.partition("/")
    if first in ("host", "audit", "all"):
        good = not rest
    elif first == "operation":
        good = rest.isascii() and rest.isdigit()
    elif first == "experiment":
        good = not _named(names.split_experiment)(rest)
    else:
        good = first == "sliver" and not _named(names.split_node)(rest)
    return None if good else f"{want}, got {shown(value)}"


def _sha256(value: Any) -> str | None:
    good = type(value) is str and len(value) == 64 and not value.strip("0123456789abcdef")
    return None if good else f"want 64 hexadecimal digits, got {shown(value)}"


def _text(longest: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if type(value) is not str:
            return f"want text, got {shown(value)}"
        if len(value) > longest:
            return f"want at most {longest} characters, got {len(value)}"
        return None

    return check


def _key(value: Any) -> str | None:
    parts = value.split(" ") if type(value) is str else []
    if len(parts) < 2 or not value.isprintable() or not parts[0].startswith(("ssh-", "ecdsa-", "sk-")):
        return f"want an OpenSSH public key such as 'ssh-ed25519 AAAA... name', got {shown(value)}"
    return None


PROJECT = Kind("PROJECT", f"a project name: {names.RULE % names.LONGEST}", _named(lambda name: names.checked(name, "project")))
USER = Kind("USER", f"a user name: {names.RULE % names.LONGEST}", _named(lambda name: names.checked(name, "user")))
DELEGATE = Kind("DELEGATE", "the name of a delegate", _named(lambda name: names.checked(name, "delegate")))
EXPERIMENT = Kind("PROJECT/EXPERIMENT", "an experiment in full, lab/exp1", _named(names.split_experiment))
EXPERIMENT_NAME = Kind("EXPERIMENT", "an experiment without its project", _named(lambda name: names.checked(name, "experiment")))
NODE = Kind(
    "NODE",
    f"a node of the experiment: {names.RULE % names.LONGEST_NODE}",
    _named(lambda name: names.checked(name, "node", names.LONGEST_NODE)),
)
FULL_NODE = Kind("NODE.EXPERIMENT.PROJECT", "a node in full, web.exp1.lab", _named(names.split_node))
WORD = Kind("WORD", "one word, at most 200 characters", _text(200))
TEXT = Kind("TEXT", f"text of at most {LONGEST_TEXT >> 20} Mi characters, or blob:SHA256 of bytes sent before", _text(LONGEST_TEXT))
BASE64 = Kind("BASE64", "bytes in base64", _text(1 << 20))
SHA256 = Kind("SHA256", "a SHA-256 sum in hexadecimal", _sha256)
TOPIC = Kind("TOPIC", "experiment/PROJECT/EXPERIMENT, sliver/NAME, operation/N, host, audit or all", _topic)
COUNT = number("N", "a whole number from 0", 0)
OPERATION = number("N", "the number of an operation", 1)
CURSOR = number("CURSOR", "the cursor of an event: what came after it is wanted", 0)
UID = number("UID", "a numeric user id", 0, 2**32 - 2)
INT = number("INT", "a whole number")
SECONDS = Kind("SECONDS", "seconds: 30, 2.5, 10m, 2h, 1d", _seconds, _bare_seconds)
FLAG = Kind("BOOL", "True or False", _is(bool, "True or False"), _bare_flag)
FLOAT = Kind("NUMBER", "a finite number", _float)
TIME = Kind("TIME", "float Unix seconds", _float)
KEY = Kind("KEY", "an OpenSSH public key", _key)
LITERAL = Kind("VALUE", "any value", lambda value: None)
STRING = Kind("STRING", "text", _is(str, "text"))
FORMAT = choice("FORMAT", "literal or json", "literal", "json")
