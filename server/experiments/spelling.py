"""
The elements that a TopDL text may have, and what to say of one that looks like a slip.
"""

from __future__ import annotations

from functools import lru_cache

from hostline.protocol.attributes import nearest

#: Child elements by parent (fedd's topdl.xsd).
ELEMENTS: dict[str, frozenset[str]] = {
    "topology": frozenset({"version", "substrates", "elements", "attribute"}),
    "substrates": frozenset(
        {"name", "capacity", "latency", "attribute", "localname", "status", "service", "operation"}
    ),
    "elements": frozenset({"computer", "testbed", "segment", "other"}),
    "computer": frozenset(
        {"name", "cpu", "os", "software", "storage", "interface", "attribute", "localname", "status", "service"}
        | {"operation"}
    ),
    "interface": frozenset({"substrate", "name", "capacity", "latency", "attribute"}),
    "os": frozenset({"name", "version", "distribution", "distributionversion", "attribute"}),
    "capacity": frozenset({"rate", "kind"}),
    "latency": frozenset({"time", "kind"}),
    "attribute": frozenset({"attribute", "value"}),
}


@lru_cache(maxsize=1024)
def element_meant(tag: str, place: str) -> str | None:
    """
    The child element that C{tag} is a likely slip for.

    @param place: the parent, a key of L{ELEMENTS}.
    @return: the right name; an empty text if nothing is near; None if C{tag} is right.
    """
    if tag in ELEMENTS[place]:
        return None
    return nearest(tag, set(ELEMENTS[place])) or ""
