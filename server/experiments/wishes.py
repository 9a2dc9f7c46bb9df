"""
What a node may ask for by attributes of ours, C{hostline:memory_max} and so on, and how it is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hostline.protocol.attributes import WISHES
from hostline.protocol.errors import BadValue
from hostline.server.experiments.draft import PREFIX
from hostline.server.experiments.topology import quoted
from hostline.server.slivers.rspec import read_rspec

#: Yes or no.
FLAGS = ("start_once", "exclusive")
PACKAGES = "packages"
_YES_NO = ("1", "true", "yes", "0", "false", "no", "")
#: Bytes of one unit, of the resources that may be given with a suffix.
_SIZED = {"memory_max": 1, "disk_max": 1024}
_AMOUNT = re.compile(r"([0-9]{1,19})(?:\s*([kmgt])(?:i?b)?)?", re.IGNORECASE)
_POWERS = {"k": 10, "m": 20, "g": 30, "t": 40}
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,99}")


def wrong(attribute: str, value: str) -> str:
    """
    What is wrong with the value of an attribute of a node; empty if nothing is, or if the attribute is not ours.
    """
    name = attribute.removeprefix(PREFIX)
    if name == attribute or name not in WISHES:
        return ""
    if name in FLAGS:
        return "" if value.lower() in _YES_NO else f"want {attribute} to be 1 or 0, got {quoted(value)}"
    if name == PACKAGES:
        words = value.replace(",", " ").split()
        bad = next((one for one in words if not _PACKAGE.fullmatch(one)), None)
        return "" if bad is None else f"want names of Debian packages in {attribute}, got {quoted(bad)}"
    try:
        read_rspec({name: amount(name, value)})
    except BadValue as error:
        # Only what is wrong with this one: how it goes together with others is seen where they are all known.
        text = error.message.removeprefix("rspec: ")
        return f"{PREFIX}{text}" if text.startswith(name) else ""
    return ""


def amount(name: str, text: str) -> object:
    """
    @param name: of a resource.
    @return: so much of it, in its unit; the text itself if it is no amount, for L{read_rspec} says what is wanted.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None or (found[2] and name not in _SIZED):
        return text
    return (int(found[1]) << _POWERS[found[2].lower()]) // _SIZED[name] if found[2] else int(found[1])


def kept_memory(kind: str, attributes: Mapping[str, str], rspec: Mapping[str, int]) -> int:
    """
    @return: bytes that are kept for a node: what it asks for by name, and all of a QEMU machine's; for others
        memory_max is a bound that nobody is promised.
    """
    asked = kind == "qemu" or f"{PREFIX}memory_max" in attributes
    return rspec.get("memory_max", 0) if asked else 0
