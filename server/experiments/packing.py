"""
Which node goes to which host; pure, and the same for the same input.

As DETER's containers did, with METIS: as few hosts as will do, and of the ways to fill those one that cuts few links
(the ancestors took more hosts where METIS' parts came out too large; here nodes are moved until they fit). Beyond the
ancestors, what each host can hold is kept to: processors, memory, interfaces, kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from attrs import define, frozen

from hostline.protocol.errors import BadValue, NoRoom
from hostline.server.experiments import cutting
from hostline.server.experiments.hosting import Item, Place, Room, free_of, wanted
from hostline.server.experiments.passes import Options, Pass

#: How many sets of hosts are tried before the one that surely holds all.
_TRIES = 3
#: Hosts with room that are looked at for each node, the newest, while there are others that are empty.
_RECENT = 256


@frozen
class Packed:
    """
    Where all nodes are.

    @ivar placement: pnode by node.
    @ivar pnodes: name of the host by pnode, in the order in which the nodes use them.
    """

    placement: dict[str, str]
    pnodes: dict[str, str]


@define
class _Hosts:
    """
    The hosts that nobody has a place on yet, largest first.

    @ivar meant: the names of hosts that nodes are fixed to.
    """

    free: list[Place]
    meant: set[str]

    def open(self) -> list[Place]:
        """
        @return: those of them that no node is fixed to.
        """
        return [one for one in self.free if one.room.name not in self.meant] if self.meant else self.free

    def named(self, name: str, who: str) -> Place:
        """
        @return: the one that nodes are fixed to.
        @raise NoRoom: if others have it, naming C{who} it was to have.
        """
        found = next((one for one in self.free if one.room.name == name), None)
        if found is None:
            raise NoRoom(f"{who} is fixed to host {name}, which is another's already: it would have to share it")
        return found

    def take(self, places: Iterable[Place]) -> None:
        """These have nodes now."""
        taken = set(places)
        if len(taken) == 1:
            self.free.remove(taken.pop())
        else:
            self.free = [one for one in self.free if one not in taken]


def pack(
    items: Sequence[Item],
    links: Iterable[tuple[int, Sequence[str]]],
    hosts: Sequence[Mapping[str, Any]],
    options: Options,
    kept: Packed | None = None,
) -> Packed:
    """
    Place every node.

    @param items: the nodes, in the order of the topology.
    @param links: of each link what it costs to cut it (L{cutting.cost}), and its nodes.
    @param hosts: C{{'name', 'cores', 'memory_bytes', 'interfaces', 'kinds'}}; what is left out is not limited.
    @param kept: where nodes were before; those that are still there stay, if the others then find a place.
    @raise NoRoom: naming the node and what it lacks, or how many hosts are wanted.
    @raise BadValue: if options contradict the topology.
    """
    places = [Room.read(one) for one in hosts]
    names = [one.name for one in places]
    if len(set(names)) != len(names):
        raise BadValue(f"hosts: want each once, got {', '.join(sorted(one for one in names if names.count(one) > 1))}")
    near = cutting.Links(items, links)
    if kept is not None and kept.placement:
        stayed = _stay(items, near, places, options, kept)
        if stayed is not None:
            return stayed
    return _numbered(items, _place_all(items, near, places, options))


def _place_all(items: Sequence[Item], near: cutting.Links, rooms: Sequence[Room], options: Options) -> dict[str, Place]:
    try:
        return _packed(items, near, [Place(one) for one in rooms], options)
    except NoRoom as error:
        if not rooms:
            raise
        # With hosts as the largest to spare: if that does, it is hosts that are missing.
        largest = max(rooms, key=lambda one: one.size)
        more = [Place(one) for one in (*rooms, *[largest.like(at) for at in range(len(items))])]
        try:
            found = _packed(items, near, more, options)
        except NoRoom:
            raise error from None
        count = len({id(place) for place in found.values()})
        if count <= len(rooms):
            raise
        are = "there is 1" if len(rooms) == 1 else f"there are {len(rooms)}"
        of = f" ({options})" if str(options) else ""
        raise NoRoom(
            f"{len(items)} nodes want {count} hosts{of}; {are}: {error.message}", wanted=count, left=len(rooms)
        ) from None


def _packed(items: Sequence[Item], near: cutting.Links, places: list[Place], options: Options) -> dict[str, Place]:
    fixed = {one.host for one in items if one.host}
    hosts = _Hosts(sorted(places, key=lambda one: one.room.size, reverse=True), fixed)
    found: dict[str, Place] = {}
    rest = list(items)
    by_user = not options.force_partition and any(one.partition is not None for one in items)
    alone = [one for one in items if one.exclusive or (by_user and one.partition is None)]
    for item in sorted(alone, key=lambda one: (bool(one.host), one.weight), reverse=True):
        # The smallest that will do: the large ones are for the others.
        tried = [hosts.named(item.host, f"node {item.name}")] if item.host else hosts.open()
        place = next((one for one in reversed(tried) if not one.lacks(item)), None)
        if place is None:
            raise NoRoom(wanted(item, tried, "a host of its own"))
        place.put(item)
        hosts.take([place])
        found[item.name] = place
    left = {one.name for one in alone}
    rest = [one for one in items if one.name not in left]
    if by_user:
        _by_partition(rest, hosts, found)
    else:
        for one in options.passes(rest):
            found |= _one_pass(one, near, hosts)
    return found


def _by_partition(items: Sequence[Item], hosts: _Hosts, found: dict[str, Place]) -> None:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.partition or "", []).append(item)
    by_size = sorted(groups.items(), key=lambda one: sum(item.weight for item in one[1]), reverse=True)
    for name, group in sorted(by_size, key=lambda one: not any(item.host for item in one[1])):
        fixed = [item for item in group if item.host]
        other = next((item for item in fixed if item.host != fixed[0].host), None)
        if other is not None:
            apart = f"node {fixed[0].name} is fixed to host {fixed[0].host}, node {other.name} to {other.host}"
            raise NoRoom(f"partition {name}: {apart}")
        tried = [hosts.named(fixed[0].host, f"node {fixed[0].name}")] if fixed else hosts.open()
        place = next((one for one in tried if one.holds(group)), None)
        if place is None:
            if not tried:
                raise NoRoom(f"no host is left for partition {name}, where node {group[0].name} is to be")
            for item in group:  # say which of them is too much
                if tried[0].lacks(item):
                    raise NoRoom(f"partition {name}: {wanted(item, tried[:1], '')}")
                tried[0].put(item)
            raise NoRoom(f"no host holds partition {name}")
        for item in group:
            place.put(item)
            found[item.name] = place
        hosts.take([place])


def _one_pass(one: Pass, near: cutting.Links, hosts: _Hosts) -> dict[str, Place]:
    """
    Place the nodes of one pass on hosts that nobody has yet.
    """
    items = one.items
    if not items:
        return {}
    fixed = {item.name: hosts.named(item.host, f"node {item.name}") for item in items if item.host}
    first = list(dict.fromkeys(fixed.values()))
    pool = [*first, *free_of(one.types, hosts.open())]
    for place in pool:
        place.most = one.packing
    for item in items:
        if item.host:
            place = fixed[item.name]
            if place.lacks(item):
                raise NoRoom(wanted(item, [place], ""))
            place.put(item)
            place.fixed.append(item)
    items = [item for item in items if not item.host]
    if one.size is not None:
        size = min(one.size, len(one.items))
        if size > len(pool):
            raise NoRoom(f"{size} hosts are wanted for node {one.items[0].name} and those with it")
        if size < len(first):
            raise NoRoom(f"size={size}, but nodes are fixed to {len(first)} hosts")
        enough = first_fit(items, near, pool[:size], fixed)
        counts: Iterable[int] = [size]
    else:
        enough = first_fit(items, near, pool, fixed)
        used = len({id(place) for place in enough.values()})
        counts = chain(islice(range(max(_least(one.items, pool, one), len(first)), used), _TRIES), [used])
    for count in counts if items else ():
        chosen = pool[:count]
        for place in chosen:
            place.clear()
        parts = even(one.items, count) if one.nodes_only else near.parts(one.items, count)
        found = fitted(one.items, near, chosen, parts, fixed)
        if found is not None:
            hosts.take(found.values())
            return found
    hosts.take(enough.values())
    return enough


def _least(items: Sequence[Item], pool: Sequence[Place], one: Pass) -> int:
    """
    @return: hosts that are wanted at least.
    """
    least = -(-len(items) // one.packing) if one.packing else 1
    for resource in ("cpu", "memory", "interfaces"):
        total, count = sum(getattr(item, resource) for item in items), 0
        for place in pool:
            most = getattr(place.room, resource)
            if total <= 0 or most is None:
                break
            total, count = total - most, count + 1
        least = max(least, count)
    return max(least, sum(item.kind == "embedded" for item in items))


def even(items: Sequence[Item], count: int) -> list[int]:
    """
    @return: the part of each, all parts equally many but for one.
    """
    each, more = divmod(len(items), count)
    sizes = [each + (part < more) for part in range(count)]
    return [part for part, size in enumerate(sizes) for _ in range(size)]


def first_fit(
    items: Sequence[Item], near: cutting.Links, pool: Sequence[Place], fixed: Mapping[str, Place] | None = None
) -> dict[str, Place]:
    """
    Place nodes, those that want much first, each where most of its neighbours are and there is room.

    @param fixed: where others are already.
    @return: where all are.
    @raise NoRoom: naming the first one for which there is none.
    """
    for place in pool:
        place.clear()
    found: dict[str, Place] = dict(fixed or {})
    unopened = iter(pool)
    roomy: list[Place] = []
    for item in near.ordered(items):
        drawn = near.drawn(item, found)
        tried = chain(sorted(drawn, key=lambda one: -drawn[one]), roomy[-_RECENT:])
        best = next((place for place in tried if not place.lacks(item)), None)
        for place in unopened if best is None else ():
            roomy.append(place)
            if not place.lacks(item):
                best = place
                break
        if best is None:
            best = next((place for place in roomy if not place.lacks(item)), None)
        if best is None:
            raise NoRoom(wanted(item, pool, ""))
        best.put(item)
        found[item.name] = best
        if best.full and best in roomy:
            roomy.remove(best)
    return found


def fitted(
    items: Sequence[Item],
    near: cutting.Links,
    chosen: Sequence[Place],
    parts: Sequence[int],
    fixed: Mapping[str, Place] | None = None,
) -> dict[str, Place] | None:
    """
    Put each part on a host, and what is too much there on another, with as few links cut as that allows.

    @param fixed: where some of the nodes are already; the part with most of those goes there.
    @return: None if some node then fits nowhere.
    """
    groups: list[list[Item]] = [[] for _ in chosen]
    for item, part in zip(items, parts, strict=True):
        groups[part].append(item)
    # The heaviest part to the largest host; parts of equal weight in the order of their nodes.
    groups.sort(key=lambda group: sum(item.weight for item in group), reverse=True)
    found: dict[str, Place] = dict(fixed or {})
    for at, place in enumerate(dict.fromkeys(found.values())):
        own = max(range(at, len(groups)), key=lambda one: sum(found.get(item.name) is place for item in groups[one]))
        groups.insert(at, groups.pop(own))
    over: list[Item] = []
    for group, place in zip(groups, chosen, strict=True):
        inside = {item.name for item in group}
        for item in sorted(group, key=lambda one: (-one.weight, -near.inner(one, inside))):
            if item.name in found:
                continue
            if place.lacks(item):
                over.append(item)
            else:
                place.put(item)
                found[item.name] = place
    for item in sorted(over, key=lambda one: -one.weight):
        drawn = near.drawn(item, found)
        by_links = sorted(chosen, key=lambda place: -drawn.get(place, 0))
        best = next((place for place in by_links if not place.lacks(item)), None)
        if best is None:
            return None
        best.put(item)
        found[item.name] = best
    return found


def _stay(
    items: Sequence[Item], near: cutting.Links, rooms: Sequence[Room], options: Options, kept: Packed
) -> Packed | None:
    """
    The nodes that were there where they were, the new ones where there is room.

    @return: None if that cannot be, or options ask for more than that.
    """
    by_user = any(one.partition is not None for one in items) and not options.force_partition
    if by_user or options.size is not None or options.in_passes or any(one.exclusive for one in items):
        return None
    by_host = {one.name: Place(one, most=options.packing) for one in rooms}
    found: dict[str, Place] = {}
    new: list[Item] = []
    for item in items:
        place = by_host.get(kept.pnodes.get(kept.placement.get(item.name, ""), ""))
        if item.host and place not in (None, by_host[item.host]):
            return None
        place = by_host[item.host] if item.host else place
        if place is None:
            new.append(item)
        elif place.lacks(item):
            return None
        else:
            place.put(item)
            found[item.name] = place
    used = dict.fromkeys(place.room.name for place in found.values())
    for item in near.ordered(new):
        drawn = near.drawn(item, found)
        first = sorted(drawn, key=lambda one: -drawn[one])
        order = [*first, *(by_host[name] for name in used), *by_host.values()]
        best = next((place for place in order if not place.lacks(item)), None)
        if best is None:
            return None
        best.put(item)
        found[item.name] = best
        used.setdefault(best.room.name)
    return _numbered(items, found, kept.pnodes)


def _numbered(items: Sequence[Item], found: Mapping[str, Place], before: Mapping[str, str] | None = None) -> Packed:
    """
    @param before: pnodes that keep their numbers, as far as they are still used.
    """
    hosts = dict.fromkeys(found[item.name].room.name for item in items)
    numbers = {host: pnode for pnode, host in (before or {}).items() if host in hosts}
    taken = set(numbers.values())
    free = (name for at in range(len(hosts) + len(taken)) if (name := f"pnode-{at:04}") not in taken)
    for host in hosts:
        if host not in numbers:
            numbers[host] = next(free)
    placement = {item.name: numbers[found[item.name].room.name] for item in items}
    return Packed(placement, {pnode: host for host, pnode in sorted(numbers.items(), key=lambda one: one[1])})
