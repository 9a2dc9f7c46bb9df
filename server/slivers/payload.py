"""
A payload: what a control authority says of all its slivers on this host, at one time.

It comes as JSON, as a Python literal or as the response to the XML-RPC call GetSlivers, as one struct or as the list
of structs of the first authorities. L{read_payload} runs in the offload child; what it gives is small when little has
changed: of entries that are as they were, the name.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from hostline.protocol import literal
from hostline.protocol.errors import BadLiteral, BadPayload, BadValue
from hostline.protocol.names import shown, split_slice
from hostline.server.slivers.entry import NOT_INSTANTIATED, OWN, Refused, Setting, read_entry
from hostline.server.slivers.rspec import ALIASES, RESOURCES

#: Entries of one payload.
ENTRIES_MAX = 100_000
#: Counted up when the same entry would be read otherwise than before.
_READING = 2
_FIELDS = (
    "slice_id",
    "instantiation",
    "expires",
    "keys",
    "attributes",
    "tags",
    "rspec",
    "users",
    *OWN,
)
_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_BOUNDS = literal.Bounds(size=64 << 20, elements=20_000_000)
_REASON_MAX = 300
_BLANKS = "\ufeff \t\r\n"


def read_payload(asked: Mapping[str, Any], from_xml: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """
    Read a payload as far as it tells something new.

    @param asked: C{text}; C{node_id} (0: any) and C{hostname} (empty: any) of this host; C{kinds} it can run, C{kind}
        and C{image} of slivers whose entry names none; C{known}: source by name of the slivers that are here.
    @param from_xml: gives the value of an XML-RPC response (L{hostline.server.slivers.response}); apart, because to
        import what reads XML takes a tenth of the time for all.
    @return: C{timestamp}; C{entries}, each the record of L{read_entry} with its C{source}; C{kept}: the names of those
        whose source is known; C{refused}: why by name; C{skipped}: names of those that shall not be here;
        C{unnamed}: how many entries have no name that could be read.
    @raise BadPayload: if the payload as a whole cannot be used.
    """
    struct = _struct(_value(asked["text"], from_xml), asked["node_id"], asked["hostname"])
    timestamp: Any = struct.get("timestamp")
    if type(timestamp) not in (int, float) or not 0 < timestamp <= 2**53:
        raise BadPayload(f"timestamp: want Unix seconds, got {shown(timestamp)}")
    slivers = struct.get("slivers")
    if not isinstance(slivers, list | tuple):
        raise BadPayload(f"slivers: want a list, got {shown(slivers)}")
    if len(slivers) > ENTRIES_MAX:
        raise BadPayload(f"slivers: want at most {ENTRIES_MAX}, got {len(slivers)}")
    setting = Setting(_scripts(struct.get("initscripts")), asked["kinds"], asked["kind"], asked["image"])
    return {"timestamp": float(timestamp), **_entries(slivers, setting, asked["known"])}


def _entries(slivers: list[Any] | tuple[Any, ...], setting: Setting, known: Mapping[str, str]) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    kept: list[str] = []
    skipped: list[str] = []
    refused: dict[str, str] = {}
    names = [_name(one) for one in slivers]
    folded = Counter(name.lower() for name in names if name)
    twice = {name for name, count in folded.items() if count > 1}
    reading = hashlib.sha256(_ENCODE([_READING, setting.kind, setting.image, repr(RESOURCES), repr(ALIASES)]).encode())
    for at, (name, entry) in enumerate(zip(names, slivers, strict=True)):
        if not name:
            refused[f"entry {at + 1}"] = cut(f"want a struct with a name, got {shown(entry)}")
            continue
        if twice and name.lower() in twice:
            refused[_shown(name)] = f"named {folded[name.lower()]} times; which is meant is not known"
            continue
        try:
            source = _source(entry, setting.scripts, reading)
            if known.get(name) == source:
                kept.append(name)
                continue
            record = read_entry(entry, setting)
        except Refused as error:
            refused[_shown(name)] = cut(str(error))
            continue
        except RecursionError:
            refused[_shown(name)] = "too deep"
            continue
        except TypeError:  # XML-RPC has dates and bytes
            refused[_shown(name)] = "want numbers, text, lists and structs, got something else in it"
            continue
        if record["instantiation"] == NOT_INSTANTIATED:
            skipped.append(name)
        else:
            entries.append({**record, "source": source})
    return {
        "entries": entries,
        "kept": kept,
        "skipped": skipped,
        "refused": refused,
        "unnamed": sum(not name for name in names),
    }


def _name(entry: object) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if type(name) is str else ""


def _source(entry: Mapping[str, Any], scripts: Mapping[str, object], reading: Any) -> str:
    """
    @return: the slice's number, if it has one, and a digest of all that the record hangs on: C{31/0f..}.
    """
    said = _ENCODE([entry.get(field) for field in _FIELDS])
    digest = reading.copy()
    digest.update(said.encode())
    own = entry.get("initscript")
    if type(own) is str and own in scripts:
        digest.update(_ENCODE(scripts[own]).encode())
    if '"initscript"' in said:
        for field in ("attributes", "tags"):
            tags = entry.get(field)
            for tag in tags if isinstance(tags, list | tuple) else ():
                value = tag.get("value") if isinstance(tag, dict) else None
                if type(value) is str and value in scripts:
                    digest.update(_ENCODE(scripts[value]).encode())
            if isinstance(tags, dict) and type(tags.get("initscript")) is str:
                digest.update(_ENCODE(scripts.get(tags["initscript"])).encode())
    number = entry.get("slice_id")
    return f"{number if type(number) is int and abs(number) < 2**63 else ''}/{digest.hexdigest()[:32]}"


def is_xml(text: str) -> bool:
    """
    Whether a payload is XML; then its reader is L{hostline.server.slivers.response}.
    """
    return text.lstrip(_BLANKS)[:1] == "<"


def _value(text: object, from_xml: Callable[[str], Any] | None) -> Any:
    if type(text) is not str:
        raise BadPayload(f"want the text of a payload, got {shown(text)}")
    body = text.lstrip(_BLANKS)
    if not body:
        raise BadPayload("want a payload, got nothing")
    if is_xml(body):
        if from_xml is None:
            raise BadPayload("want JSON or a Python literal, got XML")
        return from_xml(body)
    try:
        return json.loads(body)
    except RecursionError:
        raise BadPayload("the payload is too deep") from None
    except ValueError as error:
        wrong = str(error)
    try:
        return literal.read(body, _BOUNDS)
    except BadLiteral as error:
        more = "" if body[:1] in "[{" and '"' in body[:80] else f"; nor as a Python literal: {error.message}"
        raise BadPayload(cut(f"the payload cannot be read as JSON: {wrong}{more}")) from None


def _struct(value: Any, node_id: int, hostname: str) -> Mapping[str, Any]:
    """
    The struct that is about this host.
    """
    if isinstance(value, list | tuple):
        about = [one for one in value if isinstance(one, dict) and not _elsewhere(one, node_id, hostname)]
        if len(about) != 1:
            raise BadPayload(
                f"want one struct about this host ({_here(node_id, hostname)}) in the list, got {len(about)} of "
                f"{len(value)}"
            )
        struct: Mapping[str, Any] = about[0]
        return struct
    if not isinstance(value, dict):
        raise BadPayload(f"want a struct with timestamp and slivers, got {shown(value)}")
    wrong = _elsewhere(value, node_id, hostname)
    if wrong:
        raise BadPayload(wrong)
    return value


def _elsewhere(struct: Mapping[str, Any], node_id: int, hostname: str) -> str:
    said = struct.get("node_id")
    if node_id and said is not None and (type(said) is not int or said != node_id):
        return f"the payload is for node_id {shown(said)}, this host is {node_id}"
    name = struct.get("hostname")
    if hostname and name is not None and (type(name) is not str or not _same(name, hostname)):
        return (
            f"the payload is for hostname {shown(name)}, this host is {hostname} (authority.hostname in the "
            "configuration says otherwise)"
        )
    return ""


def _same(name: str, ours: str) -> bool:
    # A host may know itself by the first label alone, or its authority may.
    name, ours = name.casefold().rstrip("."), ours.casefold().rstrip(".")
    return name == ours or (("." not in name or "." not in ours) and name.partition(".")[0] == ours.partition(".")[0])


def _here(node_id: int, hostname: str) -> str:
    return ", ".join([*([f"node_id {node_id}"] if node_id else []), *([hostname] if hostname else [])]) or "any"


def _scripts(given: object) -> dict[str, object]:
    found: dict[str, object] = {}
    for one in given if isinstance(given, list | tuple) else ():
        if isinstance(one, dict) and type(one.get("name")) is str:
            found[one["name"]] = one.get("script")
    return found


def _shown(name: str) -> str:
    try:
        split_slice(name)
    except BadValue:
        return shown(name)
    return name


def cut(text: str) -> str:
    """
    @return: a reason as it may go on the wire: not endless, and without a lone surrogate.
    """
    return text[:_REASON_MAX].encode("utf-8", "backslashreplace").decode("utf-8")
