"""
C{hostline topdl set}: attributes of nodes in a TopDL file, set in place; all else stays as it is, byte for byte.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hostline.clients.output import complain, say, write
from hostline.clients.settings import OK, REFUSED, Settings, Usage
from hostline.protocol.attributes import attribute_meant
from hostline.protocol.names import near

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostline.clients.topdl_places import Computer

USAGE = "topdl set [--any-name] FILE NODE.. NAME=VALUE.."
HELP = (
    "Set attributes of nodes in a TopDL file, in place: 'topdl set exp.xml web \"leaf-*\" partition=3'. NODE may be a "
    "pattern with *; NAME= takes an attribute away; FILE - is standard input, and the new text goes to standard "
    "output. A NAME that looks like a slip is refused, unless --any-name is given."
)
#: Bytes of a file.
LONGEST = 4 * 1024 * 1024
_BETWEEN = b" \t\r\n"


class Refused(Exception):
    """It cannot be done; the message says why."""


def run(words: Sequence[str], settings: Settings) -> int:
    """
    @param words: what follows C{topdl}.
    @return: the exit status.
    @raise Usage: they make no sense.
    """
    if words[:1] != ["set"] or settings.asked or {"--help", "-h"} & set(words):
        if settings.asked or {"--help", "-h"} & set(words):
            say(f"usage: hostline {USAGE}\n\n{HELP}\n")
            return OK
        raise Usage("topdl wants to be told what", f"hostline {USAGE}")
    rest = [one for one in words[1:] if one != "--any-name"]
    nodes = [one for one in rest[1:] if "=" not in one]
    given = [one.partition("=") for one in rest[1:] if "=" in one]
    if not rest or not nodes or not given:
        raise Usage("want a file, nodes, and NAME=VALUE", f"hostline {USAGE}")
    try:
        values = _named({name: value for name, _, value in given}, "--any-name" in words)
        data = _read(rest[0])
        changed = edited(data, nodes, values)
        if rest[0] == "-":
            write(changed)
        elif changed != data:
            _replace(rest[0], changed)
    except Refused as error:
        complain(f"error: {error}")
        return REFUSED
    return OK


def edited(data: bytes, nodes: Sequence[str], values: dict[str, str]) -> bytes:
    """
    The file with these attributes set.

    @param nodes: names and patterns.
    @param values: by attribute; an empty text takes it away.
    @raise Refused: it is not TopDL that can be edited, or has no such node.
    """
    from hostline.clients.topdl_places import computers

    try:
        there = computers(data)
    except ValueError as error:
        raise Refused(str(error)) from None
    found = _meant(nodes, there)
    changes: list[tuple[int, int, bytes]] = []
    for one in found:
        for name, value in values.items():
            change = _changed(data, one, name, value)
            if change is not None:
                changes.append(change)
    # From the end, so that what is before stays where it is; of one place the first comes first.
    changes.sort(key=lambda one: one[0])
    for start, end, text in changes[::-1]:
        data = data[:start] + text + data[end:]
    return data


def _meant(nodes: Sequence[str], there: list[Computer]) -> list[Computer]:
    from fnmatch import fnmatchcase

    found: dict[int, Computer] = {}
    for node in nodes:
        some = [one for one in there if one.name == node or ("*" in node and fnmatchcase(one.name, node))]
        if not some:
            names = [one.name for one in there]
            known = f"; there are {', '.join(names[:8])}{', ..' if len(names) > 8 else ''}" if names else ""
            raise Refused(f"no node {node}{near(node, names) or known}")
        found.update((id(one), one) for one in some)
    return list(found.values())


def _changed(data: bytes, one: Computer, name: str, value: str) -> tuple[int, int, bytes] | None:
    place = one.attributes.get(name)
    if place is not None:
        if not value:
            start = place.start
            while start and data[start - 1 : start] in (b" ", b"\t", b"\n", b"\r"):
                start -= 1
            return start, place.end, b""
        text = _escaped(value)
        if place.empty:
            return place.value_start, place.value_end, b"<%b>%b</%b>" % (place.tag, text, place.tag)
        return place.value_start, place.value_end, text
    if not value:
        return None
    prefix = one.prefix
    parts = b"<%battribute><%battribute>%b</%battribute><%bvalue>%b</%bvalue></%battribute>"
    text = parts % (prefix, prefix, _escaped(name), prefix, prefix, _escaped(value), prefix, prefix)
    # As far in as what it follows.
    indent = data[one.last_start - len(_trailing(data[: one.last_start])) : one.last_start]
    return one.last_end, one.last_end, indent + text


def _trailing(data: bytes) -> bytes:
    return data[len(data.rstrip(_BETWEEN)) :]


def _escaped(text: str) -> bytes:
    for mark, escape in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;")):
        text = text.replace(mark, escape)
    return text.encode()


def _named(values: dict[str, str], any_name: bool) -> dict[str, str]:
    for name, value in values.items():
        if not name or any(one < " " and one not in "\t\n\r" for one in name + value):
            raise Refused(f"want NAME=VALUE without control characters, got {ascii(f'{name}={value}')[:80]}")
        try:
            f"{name}{value}".encode()
        except UnicodeEncodeError:
            raise Refused(f"want text, got {ascii(f'{name}={value}')[:80]}") from None
        meant = attribute_meant(name, "computer")
        if meant is not None and not any_name:
            advice = f"did you mean {meant}?" if meant else "nothing under that prefix is called so"
            raise Refused(f"unknown attribute {name}: {advice} (--any-name takes it)")
    return values


def _read(path: str) -> bytes:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(LONGEST + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(LONGEST + 1)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    if len(data) > LONGEST:
        raise Refused(f"{path}: want at most {LONGEST // 1024**2} MiB")
    return data


def _replace(path: str, data: bytes) -> None:
    """All of the new file or none of it, with the old one's mode and, if we may, its owner."""
    real = Path(os.path.realpath(path))
    temporary = real.with_name(f"{real.name}.{os.getpid()}.new")
    try:
        before = real.stat()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                try:
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                except PermissionError:
                    pass
                os.fchmod(descriptor, before.st_mode & 0o777)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(real)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
