"""
What a node takes of a host, what a host can hold, and what it holds; pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field, frozen

from hostline.protocol.errors import BadValue
from hostline.protocol.names import shown
from hostline.server.slivers.admission import room

EMBEDDED = "embedded"
#: What a host in a request may say.
_KEYS = ("name", "cores", "memory_bytes", "interfaces", "kinds", "type")
_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@frozen
class Item:
    """
    One node, as far as its place hangs on it.

    @ivar cpu: cpu_min, per mille of a core; C{memory}: bytes that are kept for it; C{interfaces}: on links.
    @ivar turn: the pass in which it is packed; empty if it does not say.
    @ivar host: the name of the host that it is to go to; empty if any will do.
    @ivar weight: what part of a middling host it takes, to tell the large from the small.
    """

    name: str
    kind: str = "process"
    cpu: int = 0
    memory: int = 0
    interfaces: int = 0
    partition: str | None = None
    turn: str = ""
    exclusive: bool = False
    line: int = 0
    host: str = ""

    @property
    def weight(self) -> float:
        return max(self.cpu / 4000, self.memory / (16 << 30), self.interfaces / 1000)


@frozen
class Room:
    """
    What one host can hold; None where nothing limits it.

    @ivar cpu: per mille of a core that can be promised.
    @ivar kinds: of nodes; C{type}: of the host, as C{pass_pnodes} names it.
    """

    name: str
    cpu: int | None = None
    memory: int | None = None
    interfaces: int | None = None
    kinds: frozenset[str] | None = None
    type: str = ""

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Room:
        """
        @raise BadValue: if it is no host.
        """
        name = said.get("name")
        if type(name) is not str or not name or len(name) > 200 or not name.isprintable():
            raise BadValue(f"hosts: want a name, got {shown(name)}")
        for key in said:
            if key not in _KEYS:
                raise BadValue(f"hosts: {name}: want {', '.join(_KEYS)}, got {shown(key)}")
        kinds = said.get("kinds")
        if kinds is not None and not (type(kinds) is list and all(type(one) is str for one in kinds)):
            raise BadValue(f"hosts: {name}: kinds: want a list of kinds, got {shown(kinds)}")
        if type(said.get("type", "")) is not str:
            raise BadValue(f"hosts: {name}: type: want a word, got {shown(said['type'])}")
        cores = _count(said, "cores")
        return cls(
            name,
            None if cores is None else room(cores),
            _count(said, "memory_bytes"),
            _count(said, "interfaces"),
            None if kinds is None else frozenset(kinds),
            said.get("type", ""),
        )

    @property
    def size(self) -> tuple[float, float, float]:
        """
        To tell the larger of two.
        """
        memory, cpu, interfaces = self.memory, self.cpu, self.interfaces
        return tuple(math.inf if one is None else float(one) for one in (memory, cpu, interfaces))  # type: ignore[return-value]

    def like(self, at: int) -> Room:
        """
        @return: another one like it.
        """
        return evolve(self, name=f"{self.name}+{at + 1}")


@define(eq=False)
class Place:
    """
    One host while it is filled.

    @ivar most: how many nodes it may have.
    @ivar fixed: the nodes among those it holds that may go to no other host.
    """

    room: Room
    most: int | None = None
    count: int = 0
    cpu: int = 0
    memory: int = 0
    interfaces: int = 0
    embedded: bool = False
    fixed: list[Item] = field(factory=list)

    def clear(self) -> None:
        """Forget what it holds and may be elsewhere."""
        self.count = self.cpu = self.memory = self.interfaces = 0
        self.embedded = False
        for item in self.fixed:
            self.put(item)

    def put(self, item: Item) -> None:
        """Have it hold one more."""
        self.count += 1
        self.cpu += item.cpu
        self.memory += item.memory
        self.interfaces += item.interfaces
        self.embedded = self.embedded or item.kind == EMBEDDED

    def holds(self, items: Iterable[Item]) -> bool:
        """Whether it has room for all of these."""
        trial = Place(self.room, self.most, self.count, self.cpu, self.memory, self.interfaces, self.embedded)
        for item in items:
            if trial.lacks(item):
                return False
            trial.put(item)
        return True

    @property
    def full(self) -> bool:
        """Whether no more nodes may go here, whatever they are."""
        return self.most is not None and self.count >= self.most

    def lacks(self, item: Item) -> str:
        """
        @return: what it has no room for, empty if it has.
        """
        limits = self.room
        if limits.kinds is not None and item.kind not in limits.kinds:
            return "kind"
        if self.full:
            return "packing"
        if item.kind == EMBEDDED and self.embedded:
            return "embedded"
        if limits.memory is not None and item.memory and self.memory + item.memory > limits.memory:
            return "memory"
        if limits.cpu is not None and item.cpu and self.cpu + item.cpu > limits.cpu:
            return "cpu"
        if limits.interfaces is not None and item.interfaces and self.interfaces + item.interfaces > limits.interfaces:
            return "interfaces"
        return ""


def free_of(types: Collection[str], places: Sequence[Place]) -> list[Place]:
    """
    @return: those of these types; all if none is named.
    """
    return [one for one in places if not types or one.room.type in types]


def wanted(item: Item, places: Sequence[Place], otherwise: str) -> str:
    """
    Why a node has no place, for people: what it wants, and what the host has left that comes nearest.
    """
    reasons: dict[str, list[Place]] = {}
    for place in places:
        reasons.setdefault(place.lacks(item) or "nothing", []).append(place)
    node = f"node {item.name} wants"
    if "memory" in reasons:
        best = max(reasons["memory"], key=lambda one: (one.room.memory or 0) - one.memory)
        left = max(0, (best.room.memory or 0) - best.memory)
        return f"{node} memory_max {in_bytes(item.memory)}; host {best.room.name} has {in_bytes(left)} left"
    if "cpu" in reasons:
        best = max(reasons["cpu"], key=lambda one: (one.room.cpu or 0) - one.cpu)
        left = max(0, (best.room.cpu or 0) - best.cpu)
        return (
            f"{node} cpu_min {item.cpu}; host {best.room.name} has {left} left of {best.room.cpu} per mille of a core"
        )
    if "interfaces" in reasons:
        best = max(reasons["interfaces"], key=lambda one: (one.room.interfaces or 0) - one.interfaces)
        left = max(0, (best.room.interfaces or 0) - best.interfaces)
        return f"{node} {item.interfaces} interfaces; host {best.room.name} has {left} left of {best.room.interfaces}"
    if "embedded" in reasons:
        return f"{node} kind embedded; host {reasons['embedded'][0].room.name} has a node of that kind already"
    if "packing" in reasons:
        return f"{node} a host; host {reasons['packing'][0].room.name} has its {reasons['packing'][0].most} nodes"
    if "kind" in reasons:
        return f"{node} kind {item.kind}; no host that is left has it"
    return f"{node} {otherwise or 'a host'}; none is left"


def in_bytes(amount: int) -> str:
    """
    @return: C{3 GiB}.
    """
    for times, unit in _UNITS:
        if amount >= times:
            return f"{amount / times:.3g} {unit}" if amount < 1000 * times else f"{amount // times} {unit}"
    return f"{amount} bytes"


def _count(said: Mapping[str, Any], key: str) -> int | None:
    value = said.get(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise BadValue(f"hosts: {said['name']}: {key}: want a whole number from 0, got {shown(value)}")
    return value
