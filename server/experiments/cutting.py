"""
Links, as packing sees them: what it costs to have their ends on different hosts, and parts that METIS finds; pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import pymetis

from hostline.server.experiments.hosting import Item, Place

#: What it costs to cut a link that no rate limits: as much as one of 100 Mbit/s or more.
_COST_MAX = 100
#: METIS works with the same numbers at each call, so that its answer is the same.
_SEED = 1
#: Parts may be larger than the mean by so many thousandths: none, as far as it can.
_TIGHT = 1
#: What METIS, which knows whole numbers only, takes for a weight of 1.
_WEIGHT = 1000
#: Up to so many nodes it is asked more than once, for the best of its answers.
_FEW = 1000


def cost(rate_kbps: float | None) -> int:
    """
    @return: what it costs to cut a link of this rate: Mbit/s, from 1 to 100.
    """
    return _COST_MAX if rate_kbps is None else max(1, min(_COST_MAX, round(rate_kbps / 1000)))


class Links:
    """
    Who is linked to whom.
    """

    def __init__(self, items: Iterable[Item], links: Iterable[tuple[int, Sequence[str]]]) -> None:
        """
        @param links: cost and names of nodes.
        """
        known = {item.name for item in items}
        self._links: list[tuple[int, list[str]]] = []
        self._of: dict[str, list[int]] = {}
        for price, names in links:
            members = list(dict.fromkeys(name for name in names if name in known))
            if len(members) > 1:
                for name in members:
                    self._of.setdefault(name, []).append(len(self._links))
                self._links.append((price, members))

    def drawn(self, item: Item, found: Mapping[str, Place]) -> dict[Place, int]:
        """
        @return: where neighbours of a node are, and what links to them cost; of a large LAN not all are asked.
        """
        places: dict[Place, int] = {}
        for at in self._of.get(item.name, ()):
            price, members = self._links[at]
            for name in members[:64]:
                place = found.get(name)
                if place is not None and name != item.name:
                    places[place] = places.get(place, 0) + price
        return places

    def inner(self, item: Item, inside: Collection[str]) -> int:
        """
        @return: what its links to these nodes cost.
        """
        total = 0
        for at in self._of.get(item.name, ()):
            price, members = self._links[at]
            total += price * sum(name in inside for name in members[:64] if name != item.name)
        return total

    def ordered(self, items: Sequence[Item]) -> list[Item]:
        """
        @return: the nodes, those that want much first, of equal ones neighbours behind each other.
        """
        by_name = {item.name: item for item in items}
        order: dict[str, int] = {}
        seen: set[int] = set()
        for item in items:
            queue = [item.name]
            for name in queue:
                if name in order:
                    continue
                order[name] = len(order)
                for at in self._of.get(name, ()):
                    if at not in seen:
                        seen.add(at)
                        queue += [one for one in self._links[at][1] if one in by_name and one not in order]
        return sorted(items, key=lambda one: (-one.weight, order[one.name]))

    def parts(self, items: Sequence[Item], count: int) -> list[int]:
        """
        Divide nodes into so many parts of about equal weight, with few links between them.

        @return: the part of each node.
        """
        if count == 1:
            return [0] * len(items)
        if count >= len(items):
            return list(range(len(items)))
        index = {item.name: at for at, item in enumerate(items)}
        ends: list[dict[int, int]] = [{} for _ in items]
        for price, members in self._links:
            inside = [index[name] for name in members if name in index]
            if len(inside) == 2:
                pairs = [(inside[0], inside[1])]
            elif len(inside) > 2:
                # A LAN is a star round a vertex that weighs nothing, its switch.
                switch = len(ends)
                ends.append({})
                pairs = [(switch, one) for one in inside]
            else:
                continue
            for one, other in pairs:
                ends[one][other] = ends[one].get(other, 0) + price
                ends[other][one] = ends[other].get(one, 0) + price
        weighs = [1 + round(_WEIGHT * item.weight) for item in items] + [0] * (len(ends) - len(items))
        starts, others, prices = [0], list[int](), list[int]()
        for neighbours in ends:
            others += neighbours.keys()
            prices += neighbours.values()
            starts.append(len(others))
        if not others:
            return _dealt(items, count)
        answers = []
        for seed in range(_SEED, _SEED + (3 if len(items) <= _FEW else 1)):
            cut, found = pymetis.part_graph(
                count,
                pymetis.CSRAdjacency(starts, others),
                vweights=weighs,
                eweights=prices,
                recursive=count <= 64,
                options=pymetis.Options(seed=seed, ufactor=_TIGHT),
            )
            parts = list(found[: len(items)])
            loads = [0] * count
            for part, weight in zip(parts, weighs, strict=False):
                loads[part] += weight
            answers.append((max(loads), cut, parts))
        return _all_used(min(answers)[2], count)


def _all_used(parts: list[int], count: int) -> list[int]:
    """
    The same, but that no part is empty.
    """
    sizes = [0] * count
    for part in parts:
        sizes[part] += 1
    for empty in (part for part in range(count) if not sizes[part]):
        largest = sizes.index(max(sizes))
        parts[len(parts) - 1 - parts[::-1].index(largest)] = empty
        sizes[largest] -= 1
        sizes[empty] += 1
    return parts


def _dealt(items: Sequence[Item], count: int) -> list[int]:
    """
    Parts of nodes without links: each to the lightest so far.
    """
    parts = [0] * len(items)
    loads = [0.0] * count
    for at in sorted(range(len(items)), key=lambda one: -items[one].weight):
        part = min(range(count), key=lambda one: loads[one])
        parts[at] = part
        loads[part] += items[at].weight + 1e-3
    return parts
