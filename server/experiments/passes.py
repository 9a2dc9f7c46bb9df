"""
How nodes are asked to be packed: the options of a request, and the passes in which it is done (DETER containers); pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from hostline.protocol.errors import BadValue
from hostline.protocol.names import near, shown
from hostline.server.experiments.hosting import Item

#: Options by the names that requests have for them.
NAMES = ("packing", "size", "nodes_only", "force_partition", "pass_pack", "pass_size", "pass_pnodes", "pass_nodes_only")
#: The pass of nodes that name none.
FIRST = "0"


@frozen
class Pass:
    """
    Nodes that are packed together, on hosts that no other pass has.

    @ivar packing: nodes of a host at most; C{size}: how many hosts. None: as many, as few as will do.
    @ivar types: of the hosts; empty for any.
    """

    items: Sequence[Item]
    packing: int | None
    size: int | None
    nodes_only: bool
    types: tuple[str, ...]


@frozen
class Options:
    """
    @ivar packing: nodes of a host at most, and C{size}: how many hosts, where a pass says nothing else; size counts
        more than packing.
    @ivar nodes_only: whether links are left out of account: all hosts have equally many nodes.
    @ivar force_partition: whether the partitions that nodes name are left out of account.
    @ivar packings: by pass; C{sizes}, C{types} likewise; C{even}: the passes of which C{nodes_only} holds.
    """

    packing: int | None = None
    size: int | None = None
    nodes_only: bool = False
    force_partition: bool = False
    packings: Mapping[str, int] = field(factory=dict)
    sizes: Mapping[str, int] = field(factory=dict)
    types: Mapping[str, tuple[str, ...]] = field(factory=dict)
    even: frozenset[str] = frozenset()

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Options:
        """
        @param said: by name, as in a request: C{packing} and C{size} numbers, C{pass_pack} and C{pass_size}
            C{'0:1,1:20'}, C{pass_pnodes} C{'0:pc,fast;1:pc'}, C{pass_nodes_only} C{'1,3'}; what is None is not said.
        @raise BadValue: saying what was wanted.
        """
        for name in said:
            if name not in NAMES:
                raise BadValue(f"no option {shown(name)} of packing{near(name, NAMES)}")
        return cls(
            _at_least_one("packing", said.get("packing")),
            _at_least_one("size", said.get("size")),
            bool(said.get("nodes_only")),
            bool(said.get("force_partition")),
            _numbers("pass_pack", said.get("pass_pack")),
            _numbers("pass_size", said.get("pass_size")),
            _types(said.get("pass_pnodes")),
            frozenset(_words(said.get("pass_nodes_only"), ",")),
        )

    @property
    def in_passes(self) -> bool:
        """
        Whether they tell of passes.
        """
        return bool(self.packings or self.sizes or self.types or self.even)

    def passes(self, items: Sequence[Item]) -> list[Pass]:
        """
        @return: the passes that these nodes are of, in order: numbers by their value, then other words.
        @raise BadValue: if options name a pass that no node is of.
        """
        turns: dict[str, list[Item]] = {}
        for item in items:
            turns.setdefault(item.turn or FIRST, []).append(item)
        for name in (*self.packings, *self.sizes, *self.types, *self.even):
            if turns and name not in turns:
                raise BadValue(f"no node is of pass {name}; nodes are of {', '.join(sorted(turns, key=_order)[:20])}")
        return [
            Pass(
                turns[name],
                None if name in self.sizes else self.packings.get(name, None if self.size else self.packing),
                self.sizes.get(name, None if name in self.packings else self.size),
                self.nodes_only or name in self.even,
                self.types.get(name, ()),
            )
            for name in sorted(turns, key=_order)
        ]

    def __str__(self) -> str:
        parts = [f"{name}={value}" for name, value in (("packing", self.packing), ("size", self.size)) if value]
        return " ".join(parts)


def _order(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isascii() and name.isdigit() and len(name) < 10 else (1, 0, name)


def _at_least_one(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise BadValue(f"{name}: want a whole number from 1, got {shown(value)}")
    return value


def _words(text: str | None, separator: str) -> list[str]:
    return [one for word in (text or "").split(separator) if (one := word.strip())]


def _pairs(name: str, text: str | None, separator: str, want: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in _words(text, separator):
        key, colon, value = (part.strip() for part in word.partition(":"))
        if not colon or not key or not value:
            raise BadValue(f"{name}: want {want}, got {shown(word)}")
        if key in found:
            raise BadValue(f"{name}: want pass {key} once")
        found[key] = value
    return found


def _numbers(name: str, text: str | None) -> dict[str, int]:
    want = "PASS:NUMBER, with commas between them, as 0:1,1:20"
    found = {}
    for key, value in _pairs(name, text, ",", want).items():
        if not (value.isascii() and value.isdigit() and 1 <= len(value) <= 9 and int(value)):
            raise BadValue(f"{name}: want {want}, got {shown(f'{key}:{value}')}")
        found[key] = int(value)
    return found


def _types(text: str | None) -> dict[str, tuple[str, ...]]:
    want = "PASS:TYPE,TYPE with semicolons between them, as '0:pc,fast;1:pc'"
    return {key: tuple(_words(value, ",")) for key, value in _pairs("pass_pnodes", text, ";", want).items()}
