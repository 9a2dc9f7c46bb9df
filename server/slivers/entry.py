"""
An entry: what the payload of a control authority says of one sliver, read into the record that we keep of it.

Pure, and meant for input that nobody has looked at: whatever an entry is, it gives a record or a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from attrs import frozen

from hostline.protocol.errors import BadValue
from hostline.protocol.kinds import IMAGE, KEY, USER
from hostline.protocol.moments import LATEST
from hostline.protocol.names import shown, split_slice
from hostline.server.slivers.rspec import read_tags

#: Made and started because the record is there; made on request of its owner; made as an account that may call us.
BY_RECORD, DELEGATED, CONTROLLER = "plc-instantiated", "delegated", "nm-controller"
#: Mapped to this host, but not to be there.
NOT_INSTANTIATED = "not-instantiated"
INSTANTIATIONS = (BY_RECORD, DELEGATED, CONTROLLER, NOT_INSTANTIATED)

#: Characters of one key and of one script, and how many keys, users and tags one entry has at most.
KEY_MAX, SCRIPT_MAX, MOST = 16384, 256 * 1024, 1000
#: What a payload may call a kind: the ancestor's account classes, then ours.
_CLASSES = {
    "sliver.vserver": "container",
    "sliver.lxc": "container",
    "delegate": "account",
    "controller.controller": "account",
    "container": "container",
    "account": "account",
    "process": "process",
}
_ACCOUNT = "account"
#: Whose tag counts: a node's more than a group's, that more than one for all hosts.
_ORIGINS = {"global": 0, "nodegroup": 1, "node": 2}


class Refused(Exception):
    """
    The entry cannot be taken over; the message says why.
    """


@frozen
class Setting:
    """
    What else the reading of an entry hangs on.

    @ivar scripts: the payload's initscripts by name.
    @ivar kinds: the kinds of slivers that this host can run.
    @ivar kind: of a sliver whose entry names none; C{image}: likewise, its name.
    """

    scripts: Mapping[str, object]
    kinds: Collection[str]
    kind: str
    image: str = ""


#: Tags that may stand in an entry itself, too; those among its tags count more.
OWN = ("type", "kind", "vref", "image", "enabled", "initscript", "initscript_code")


def read_entry(entry: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """
    The record that an entry describes.

    @return: a JSON value: C{name}, C{kind}, C{instantiation}, C{image} (its name, or empty), C{expires} (Unix seconds
        or None), C{keys}, C{users}, C{rspec} (the amount of every resource), C{initscript} (its text or None) and
        C{warnings}: what could not be used, in words.
    @raise Refused: saying what was wanted.
    """
    name = entry.get("name")
    try:
        split_slice(name if type(name) is str else "")
    except BadValue as error:
        raise Refused(error.message) from None
    instantiation = entry.get("instantiation")
    if type(instantiation) is not str or instantiation not in INSTANTIATIONS:
        raise Refused(f"instantiation: want one of {', '.join(INSTANTIATIONS)}, got {shown(instantiation)}")
    tags = _tags(entry)
    said = dict(tags)
    warnings: list[str] = []
    kind = _kind(said, instantiation, setting)
    record = {
        "name": name,
        "kind": kind,
        "instantiation": instantiation,
        "image": _image(said, kind, setting),
        "expires": _expires(entry.get("expires")),
        "keys": _keys(entry.get("keys"), warnings),
        "users": _users(entry.get("users"), warnings),
        "initscript": _initscript(said, setting.scripts, warnings),
    }
    record["rspec"], wrong = read_tags(tags)
    if "delegations" in said:
        warnings.append("tag delegations: not taken over; add_delegate gives others rights on this host")
    record["warnings"] = warnings + wrong
    return record


def _tags(entry: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """
    @return: name and value of each tag, the one that counts most last.
    """
    ranked: list[tuple[int, str, Any]] = []
    rspec = entry.get("rspec")
    if rspec is not None:
        if not isinstance(rspec, dict):
            raise Refused(f"rspec: want a struct, got {shown(rspec)}")
        ranked += [(-1, key, value) for key, value in rspec.items() if isinstance(key, str)]
    ranked += [(-1, key, entry[key]) for key in OWN if entry.get(key) is not None]
    for field in ("attributes", "tags"):
        given = entry.get(field)
        if isinstance(given, dict):
            given = [{"name": key, "value": value} for key, value in given.items()]
        if given is None:
            continue
        if not isinstance(given, list | tuple) or len(given) > MOST:
            raise Refused(f"{field}: want a list of at most {MOST} tags, got {shown(given)}")
        for at, tag in enumerate(given):
            if not isinstance(tag, dict):
                raise Refused(f"{field}: tag {at + 1}: want a struct, got {shown(tag)}")
            name = tag.get("tagname", tag.get("name"))
            if type(name) is not str:
                raise Refused(f"{field}: tag {at + 1}: want tagname, got {shown(name)}")
            ranked.append((_rank(tag), name, tag.get("value")))
    ranked.sort(key=lambda one: one[0])  # stable: of tags of one origin the last counts, as at the ancestor
    return [(name, value) for _, name, value in ranked]


def _rank(tag: Mapping[str, Any]) -> int:
    origin = tag.get("origin")
    if type(origin) is str and origin in _ORIGINS:
        return _ORIGINS[origin]
    if tag.get("node_id") is not None:
        return _ORIGINS["node"]
    return _ORIGINS["nodegroup" if tag.get("nodegroup_id") is not None else "global"]


def _kind(tags: Mapping[str, Any], instantiation: str, setting: Setting) -> str:
    said = tags.get("kind", tags.get("type"))
    if instantiation == CONTROLLER:
        kind = _ACCOUNT
    elif said in (None, ""):
        kind = setting.kind
    else:
        kind = _CLASSES.get(said.lower(), "") if type(said) is str else ""
        if not kind:
            raise Refused(f"kind: want one of {', '.join(sorted(_CLASSES))}, got {shown(said)}")
    if kind not in setting.kinds:
        raise Refused(f"this host runs no slivers of kind {kind}; it runs {', '.join(sorted(setting.kinds))}")
    return kind


def _image(tags: Mapping[str, Any], kind: str, setting: Setting) -> str:
    if kind != "container":
        return ""
    said = tags.get("image") or tags.get("vref") or setting.image
    if not said:
        raise Refused("a container wants an image: a tag image or vref, or authority.image in the configuration")
    wrong = IMAGE.fits(said)
    if wrong:
        raise Refused(f"image: {wrong}")
    image: str = said
    return image


def _expires(said: object) -> float | None:
    if said is None:
        return None
    value = said
    if type(said) is str and said.strip().isascii() and said.strip().isdigit() and len(said) <= 20:
        value = int(said)
    if type(value) not in (int, float) or not -LATEST <= value <= LATEST:  # type: ignore[operator]
        raise Refused(f"expires: want Unix seconds or nothing, got {shown(said)}")
    return float(value)  # type: ignore[arg-type]


def _keys(given: object, warnings: list[str]) -> list[str]:
    """
    A key that is none is left out, and said: it must not keep another from being taken back.
    """
    if given is None:
        return []
    if not isinstance(given, list | tuple) or len(given) > MOST:
        raise Refused(f"keys: want a list of at most {MOST} keys, got {shown(given)}")
    found: dict[str, None] = {}
    for at, one in enumerate(given):
        key, kind = (one.get("key"), one.get("key_type", "ssh")) if isinstance(one, dict) else (one, "ssh")
        if type(key) is not str:
            wrong: str | None = f"want text, got {shown(key)}"
        elif kind != "ssh":
            wrong = f"want key_type 'ssh', got {shown(kind)}"
        elif len(key) > KEY_MAX:
            wrong = f"want at most {KEY_MAX} characters, got {len(key)}"
        else:
            key = key.strip()
            wrong = KEY.fits(key)
        if wrong:
            warnings.append(f"key {at + 1} is left out: {wrong}")
        else:
            found[key] = None  # type: ignore[index]
    return list(found)


def _users(given: object, warnings: list[str]) -> list[str]:
    if given is None:
        return []
    if not isinstance(given, list | tuple) or len(given) > MOST:
        raise Refused(f"users: want a list of at most {MOST} users, got {shown(given)}")
    found: dict[str, None] = {}
    for at, one in enumerate(given):
        name = one.get("name") if isinstance(one, dict) else one
        wrong = USER.fits(name)
        if wrong:
            warnings.append(f"user {at + 1} is left out: {wrong}")
        else:
            found[str(name)] = None
    return list(found)


def _initscript(tags: Mapping[str, Any], scripts: Mapping[str, object], warnings: list[str]) -> str | None:
    inline, name = tags.get("initscript_code"), tags.get("initscript")
    if inline:
        return read_script(inline, "initscript_code")
    if not name:
        return None
    if type(name) is not str or name.startswith("#!") or "\n" in name:
        return read_script(name, "initscript")  # the first authorities put the script itself into the tag
    if name not in scripts:
        warnings.append(f"tag initscript: the payload has no initscript {shown(name)}")
        return None
    return read_script(scripts[name], f"initscript {shown(name)}") if scripts[name] else None


def read_script(text: object, what: str) -> str:
    """
    @param what: what it is, for the reason.
    @raise Refused: if it is no text that can be a file of a sliver.
    """
    if type(text) is not str:
        raise Refused(f"{what}: want text, got {shown(text)}")
    if len(text) > SCRIPT_MAX:
        raise Refused(f"{what}: want at most {SCRIPT_MAX} characters, got {len(text)}")
    if "\0" in text:
        raise Refused(f"{what}: a NUL at character {text.find(chr(0)) + 1}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Refused(f"{what}: a lone surrogate at character {error.start + 1}") from None
    return text
