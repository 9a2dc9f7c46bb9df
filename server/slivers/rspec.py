"""
Resources: one table of names, units, defaults and minima (DESIGN section 6).
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Resource:
    """
    One resource of a sliver.

    @ivar default: what a sliver has that asks for nothing.
    @ivar minimum: the least it may ask for.
    """

    name: str
    unit: str
    default: int
    minimum: int = 0


RESOURCES: dict[str, Resource] = {
    one.name: one
    for one in (
        Resource("cpu_share", "weight", 32, 1),
        Resource("cpu_min", "per mille of a core", 0),
        Resource("cpu_max", "per mille of a core, 0 = none", 0),
        Resource("memory_max", "bytes", 512 << 20, 16 << 20),
        Resource("pids_max", "count", 512, 16),
    )
}

#: What a sliver has that asks for nothing.
DEFAULTS: dict[str, int] = {one.name: one.default for one in RESOURCES.values()}
