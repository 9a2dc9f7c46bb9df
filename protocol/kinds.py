"""
Kinds: what an argument, an option or a reply may be, how a word is read as one, and what fits.

A Kind reads a word of a request (bare words by its own rule: C{None}, C{True}, C{7}, C{10m}) and says whether a value
of a reply fits it. Each has a name for usage lines and a doc for people.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostline.protocol import names
from hostline.protocol.errors import BadValue
from hostline.protocol.moments import moment, read_number, read_seconds
from hostline.protocol.names import shown
from hostline.protocol.words import Word

#: Longest TEXT in characters.
LONGEST_TEXT = 4 << 20
#: Largest whole number; SQLite and others can keep no larger one.
LARGEST = 2**63 - 1
#: Some thirty years.
MOST_SECONDS = 10**9
#: Items of a list in a request, where its Kind says nothing else.
MOST_ITEMS = 1000


class Kind:
    """
    One kind of value.

    @ivar name: as it stands in usage lines and docs, C{PROJECT/EXPERIMENT}.
    @ivar doc: one line for people.
    @ivar fields: of a dict with fixed keys, the Kind of each.
    @ivar optional: those keys that are not always there.
    @ivar parts: the Kinds of what is inside a list or any other dict.
    @ivar words: all that it may be, if that is one of a few words.
    """

    fields: dict[str, Kind] = {}
    optional: frozenset[str] = frozenset()
    parts: tuple[Kind, ...] = ()
    words: tuple[str, ...] = ()

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
            value = self._bare(word.value) if word.bare else _lists(word.value)
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


def _lists(value: Any) -> Any:
    # A tuple may be typed, but is no value of the wire: JSON has none, and what was read may be told in a reply.
    if type(value) in (list, tuple):
        return [_lists(one) for one in value]
    if type(value) is dict:
        return {key: _lists(one) for key, one in value.items()}
    return value


def _named(want: str, check: Callable[[str], Any]) -> Callable[[Any], str | None]:
    def checked(value: Any) -> str | None:
        if type(value) is not str:
            return f"want {want}, got {shown(value)}"
        try:
            check(value)
        except BadValue as error:
            return error.message
        return None

    return checked


def _number(least: int | None, most: int | None) -> Callable[[Any], str | None]:
    wanted = f" from {least}" if least is not None else ""
    wanted += f" to {most}" if most is not None else ""
    lowest, highest = -LARGEST if least is None else least, LARGEST if most is None else most

    def check(value: Any) -> str | None:
        if type(value) is not int or (value < lowest and least is not None) or (value > highest and most is not None):
            return f"want a whole number{wanted}, got {shown(value)}"
        if not lowest <= value <= highest:
            return f"want a whole number of at most 63 bits, got {shown(value)}"
        return None

    return check


def _bare_int(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise BadValue(f"want a whole number, got {shown(text)}")
    if len(digits) > 20:
        raise BadValue(f"want a whole number of at most 63 bits, got {shown(text)}")
    return int(text)


def _seconds(value: Any) -> str | None:
    if type(value) not in (int, float) or not 0 <= value <= MOST_SECONDS:
        return f"want seconds from 0 to {MOST_SECONDS}, got {shown(value)}"
    return None


def _bare_when(text: str) -> float | str:
    return text if text.startswith("+") or "T" in text else read_number(text)


def _when(value: Any) -> str | None:
    try:
        moment(value, 0.0)
    except BadValue as error:
        return error.message
    return None


def _bare_flag(text: str) -> bool:
    if text not in ("True", "False"):
        raise BadValue(f"want True or False, got {shown(text)}")
    return text == "True"


def _float(value: Any) -> str | None:
    good = type(value) in (int, float) and abs(value) < float("inf")
    return None if good else f"want a finite number, got {shown(value)}"


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
    kind = Kind(name, doc, lambda value: None if value in words else f"want {wanted}, got {shown(value)}")
    kind.words = words
    return kind


def choices(name: str, doc: str, *words: str) -> Kind:
    """
    One or several of a few words, with commas between them.
    """
    one = choice(name, doc, *words)

    def fits(value: Any) -> str | None:
        if not isinstance(value, str):
            return one.fits(value)
        return next((wrong for word in value.split(",") if (wrong := one.fits(word)) is not None), None)

    kind = Kind(name, doc, fits)
    kind.words = words
    return kind


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


def listing(item: Kind, name: str = "", doc: str = "", most: int | None = None) -> Kind:
    """
    A list, each item of one Kind. A bare word is a list of that one.

    @param most: items that it may have; who asks may not give endless ones.
    """

    def check(value: Any) -> str | None:
        if type(value) is not list:
            return f"want a list, got {shown(value)}"
        if most is not None and len(value) > most:
            return f"want at most {most} items, got {len(value)}"
        for at, one in enumerate(value):
            wrong = item.fits(one)
            if wrong:
                return f"item {at + 1}: {wrong}"
        return None

    limit = "" if most is None else f" of at most {most}"
    kind = Kind(
        name or f"[{item.name}, ..]", doc or f"list{limit} of {item.name}", check, lambda text: [item._bare(text)]
    )
    kind.parts = (item,)
    return kind


def several(item: Kind) -> Kind:
    """
    A list in a request: of at most L{MOST_ITEMS}.
    """
    return listing(item, most=MOST_ITEMS)


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
    if value in ("host", "audit", "all"):
        good = True
    elif first == "operation":
        good = rest.isascii() and rest.isdigit()
    elif first == "experiment":
        good = EXPERIMENT.fits(rest) is None
    else:
        good = first == "sliver" and SLIVER.fits(rest) is None
    return None if good else f"{want}, got {shown(value)}"


def _sha256(value: Any) -> str | None:
    good = type(value) is str and len(value) == 64 and not value.strip("0123456789abcdef")
    return None if good else f"want 64 hexadecimal digits, got {shown(value)}"


def _text(longest: int | None = None) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if type(value) is not str:
            return f"want text, got {shown(value)}"
        if longest is not None and len(value) > longest:
            return f"want at most {longest} characters, got {len(value)}"
        try:
            _ = value.isascii() or value.encode("utf-8")
        except UnicodeEncodeError as error:
            return f"want text, got a lone surrogate at character {error.start + 1}"
        return None

    return check


def _one_word(value: Any) -> str | None:
    if type(value) is not str or not 0 < len(value) <= 200 or not value.isprintable() or " " in value:
        return f"want one word of 1 to 200 characters, got {shown(value)}"
    return None


def _key(value: Any) -> str | None:
    parts = value.split(" ") if type(value) is str else []
    if len(parts) < 2 or not value.isprintable() or not parts[0].startswith(("ssh-", "ecdsa-", "sk-")):
        return f"want an OpenSSH public key such as 'ssh-ed25519 AAAA... name', got {shown(value)}"
    return None


def _name(name: str, doc: str, what: str, longest: int = names.LONGEST) -> Kind:
    article = "an" if what[0] in "aeio" else "a"
    return Kind(
        name,
        f"{doc}: {names.RULE % longest}",
        _named(f"{article} {what} name", lambda value: names.checked(value, what, longest)),
    )


PROJECT = _name("PROJECT", "a project name", "project")
USER = _name("USER", "a user name", "user")
DELEGATE = _name("DELEGATE", "the name of a delegate", "delegate")
EXPERIMENT = Kind(
    "PROJECT/EXPERIMENT",
    "an experiment in full, lab/exp1",
    _named("PROJECT/EXPERIMENT", names.split_experiment),
)
EXPERIMENT_NAME = _name("EXPERIMENT", "an experiment without its project", "experiment")
NODE = _name("NODE", "a node of the experiment", "node", names.LONGEST_NODE)
FULL_NODE = Kind(
    "NODE.EXPERIMENT.PROJECT",
    "a node in full, web.exp1.lab",
    _named("NODE.EXPERIMENT.PROJECT", names.split_node),
)
SLICE = Kind("SLIVER", "a free sliver, lab_web", _named("SITE_SLICE", names.split_slice))
SLIVER = Kind(
    "SLIVER",
    "a free sliver, lab_web, or a node in full, web.exp1.lab",
    _named("SITE_SLICE or NODE.EXPERIMENT.PROJECT", names.checked_sliver),
)
GRANTED = Kind(
    "TARGET",
    "an experiment, lab/exp1, or a free sliver, lab_web; '*' alone: every one that there is",
    _named("PROJECT/EXPERIMENT or SITE_SLICE", lambda name: name if name == "*" else names.checked_target(name)),
)
#: How a node of an experiment may be run.
NODE_KINDS = ("process", "container", "qemu", "account", "embedded")
SLIVER_KIND = choice("KIND", "how a sliver is run", "container", "account", "process")
IMAGE = _name("IMAGE", "the name of an image", "image")
CERTIFICATE_NAME = Kind(
    "NAME",
    "a name in a certificate: host.example.org (a DNS name), or urn:site:user:ann",
    _named("a DNS name or a URN", names.certificate_name),
)
WORD = Kind("WORD", "one word of 1 to 200 characters", _one_word)
TEXT = Kind(
    "TEXT",
    f"text of at most {LONGEST_TEXT >> 20} Mi characters, or blob:SHA256 of bytes sent before",
    _text(LONGEST_TEXT),
)
BASE64 = Kind("BASE64", "bytes in base64", _text(1 << 20))
SHA256 = Kind("SHA256", "a SHA-256 sum in hexadecimal", _sha256)
TOPIC = Kind("TOPIC", "experiment/PROJECT/EXPERIMENT, sliver/SLIVER, operation/N, host, audit or all", _topic)
COUNT = number("N", "a whole number from 0", 0)
OPERATION = number("N", "the number of an operation", 1)
CURSOR = number("CURSOR", "the cursor of an event: what came after it is wanted", 0)
UID = number("UID", "a numeric user id", 0, 2**32 - 2)
INT = number("INT", "a whole number")
SECONDS = Kind("SECONDS", "seconds: 30, 2.5, 10m, 2h, 1d", _seconds, read_seconds)
FLAG = Kind("BOOL", "True or False", _is(bool, "True or False"), _bare_flag)
FLOAT = Kind("NUMBER", "a finite number", _float, read_number)
TIME = Kind("TIME", "float Unix seconds", _float, read_number)
KEY = Kind("KEY", "an OpenSSH public key", _key)
WHEN = Kind("WHEN", "Unix seconds, +30m from now, or a time as in RFC 3339: 2027-01-31T12:00:00Z", _when, _bare_when)
LITERAL = Kind("VALUE", "any value", lambda value: None)
STRING = Kind("STRING", "text", _text())
FORMAT = choice("FORMAT", "literal or json", "literal", "json")
