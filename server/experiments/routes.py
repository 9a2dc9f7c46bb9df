"""
Static routes: for each node the next hop to each subnet that is not its neighbour; pure.

The way with the fewest hops, of equal ones that by the node that comes first in the topology. Networks beside each
other that have the same next hop are one line, and may hold those that the node is on itself, which are nearer anyway.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network

from attrs import define, field

from hostline.server.experiments.topology import Topology, TopologyNode

#: Steps in the search for ways, and lines of all nodes together, past which no routes are made: seconds, and what a
#: record can well hold. A chain of 1000 nodes stays below, and 10,000 nodes round one in the middle.
STEPS_MAX = 4_000_000
LINES_MAX = 400_000
#: What Emulab, and so we, leave out before the first subnet: a hole that nothing else is in.
_HOLE = (int(IPv4Address("10.1.0.0")), int(IPv4Address("10.1.0.255")))

#: First and last address.
_Range = tuple[int, int]
#: First address and prefix length.
_Network = tuple[int, int]
#: Destination and next hop, C{("10.1.2.0/24", "10.1.1.3")}.
Route = tuple[str, str]


def forwards(node: TopologyNode) -> bool:
    """
    @return: whether a node passes on what is not for itself.
    """
    return len({one.link for one in node.interfaces}) > 1


def routes(topology: Topology) -> tuple[dict[str, list[Route]], str]:
    """
    The routes of every node that has any.

    @param topology: addressed.
    @return: by node, by destination; and why there are none, empty if there are.
    """
    graph = _Graph(topology)
    if graph.steps > STEPS_MAX:
        return {}, (
            f"{len(graph.of_router)} nodes with several links, and {len(graph.net)} links, are too many for static "
            "routes: nodes reach what they are directly linked to"
        )
    found: dict[str, list[Route]] = {}
    lines = 0
    for name, its in graph.routes():
        lines += len(its)
        if lines > LINES_MAX:
            return {}, (
                f"static routes would be more than {LINES_MAX} lines: nodes reach what they are directly linked to"
            )
        found[name] = its
    return found, ""


@define
class _Router:
    """
    A node with several links: on which, and its address there.
    """

    name: str
    at: dict[str, int] = field(factory=dict)


class _Graph:
    """
    Nodes that forward, and the links between them.

    @ivar net: the subnet of each link that has one.
    """

    def __init__(self, topology: Topology) -> None:
        self.net: dict[str, _Range] = {}
        self.of_router: list[_Router] = []
        self._on: dict[str, list[int]] = {}
        self._single: dict[str, list[str]] = {}
        for node in topology.nodes:
            at: dict[str, int] = {}
            for one in node.interfaces:
                if one.ip4 is None or one.netmask is None:
                    continue
                net = IPv4Network(f"{one.ip4}/{one.netmask}", strict=False)
                self.net.setdefault(one.link, (int(net.network_address), int(net.broadcast_address)))
                at.setdefault(one.link, int(IPv4Address(one.ip4)))
            if len(at) > 1:
                for link in at:
                    self._on.setdefault(link, []).append(len(self.of_router))
                self.of_router.append(_Router(node.name, at))
            elif at:
                self._single.setdefault(next(iter(at)), []).append(node.name)
        # A link with one router is reached as that router is: one search for all of them, and from there it is that
        # router that leads to everything.
        self._ends: dict[int, list[str]] = {}
        self._between: list[str] = []
        for link, routers in self._on.items():
            if len(routers) == 1:
                self._ends.setdefault(routers[0], []).append(link)
            else:
                self._between.append(link)
        hole = all(end < _HOLE[0] or start > _HOLE[1] for start, end in self.net.values())
        self._hole = [_HOLE] if hole else []

    @property
    def steps(self) -> int:
        """
        How long it takes.
        """
        searches = (len(self._between) + len(self._ends)) * sum(len(one.at) for one in self.of_router)
        return max(searches, (len(self.of_router) + len(self._between)) * len(self.net))

    def routes(self) -> Iterator[tuple[str, list[Route]]]:
        """
        Each node with its routes.
        """
        hops: list[dict[int, list[_Range]]] = [{} for _ in self.of_router]
        gates: dict[str, dict[int, list[_Range]]] = {link: {} for link in self._between if link in self._single}
        searches = [([link], self._on[link]) for link in self._between]
        searches += [(links, [router]) for router, links in self._ends.items()]
        for goals, first in searches:
            nets = [self.net[link] for link in goals]
            leads, ways = self._search(goals, first)
            for router, (leader, link) in ways.items():
                hops[router].setdefault(self.of_router[leader].at[link], []).extend(nets)
            for link, its_hops in gates.items():
                if link in leads:
                    its_hops.setdefault(self.of_router[leads[link]].at[link], []).extend(nets)
        for one, its in zip(self.of_router, hops, strict=True):
            yield one.name, self._lines(its, [self.net[link] for link in one.at])
        for link, its in gates.items():
            lines = self._lines(its, [self.net[link]])
            for name in self._single[link]:
                yield name, lines
        yield from self._at_ends()

    def _search(self, goals: Sequence[str], first: Sequence[int]) -> tuple[dict[str, int], dict[int, tuple[int, str]]]:
        """
        Look from where the goals are over all routers.

        @param first: the routers that are on them.
        @return: by link the router on it that leads to the goals; by router the one that leads it, and over which link.
        """
        leads: dict[str, int] = {}
        ways: dict[int, tuple[int, str]] = {}
        own = set(goals) if len(first) > 1 else set()
        seen = set(first)
        queue = list(first)
        for router in queue:
            for link in self.of_router[router].at:
                if link in leads or link in own:
                    continue
                leads[link] = router
                for other in self._on[link]:
                    if other not in seen:
                        seen.add(other)
                        ways[other] = (router, link)
                        queue.append(other)
        return leads, ways

    def _at_ends(self) -> Iterator[tuple[str, list[Route]]]:
        """
        The nodes on links with one router: it leads to all that is together with it.
        """
        together: dict[int, list[tuple[_Network, list[_Range]]]] = {}
        for router, links in self._ends.items():
            if not any(link in self._single for link in links):
                continue
            if router not in together:
                leads, ways = self._search((), [router])
                nets = sorted({self.net[link] for link in leads})
                blocks = [(net, _inside(net, nets)) for net in _collapsed(nets, self._hole)]
                together |= dict.fromkeys((router, *ways), blocks)
            for link in links:
                own = self.net[link]
                hop = str(IPv4Address(self.of_router[router].at[link]))
                lines = [(_text(net), hop) for net, held in together[router] if held != [own]]
                for name in self._single.get(link, ()):
                    yield name, lines

    def _lines(self, hops: dict[int, list[_Range]], own: Sequence[_Range]) -> list[Route]:
        """
        @param hops: the subnets by next hop; C{own}: those that the node is on.
        """
        lines = []
        for address, nets in hops.items():
            hop = str(IPv4Address(address))
            lines += [(net, hop) for net in _collapsed(nets, [*own, *self._hole])]
        return [(_text(net), hop) for net, hop in sorted(lines)]


def _inside(net: _Network, nets: Sequence[_Range]) -> list[_Range]:
    """
    @param nets: sorted.
    @return: two at most of those that begin in a network, or hold it: whether it is one is what is asked.
    """
    first, last = net[0], net[0] + (1 << 32 - net[1]) - 1
    at = bisect_right(nets, (last, 1 << 32))
    return [one for one in nets[max(0, at - 2) : at] if one[1] >= first]


def _text(net: _Network) -> str:
    return f"{IPv4Address(net[0])}/{net[1]}"


def _collapsed(nets: Sequence[_Range], holes: Sequence[_Range]) -> list[_Network]:
    """
    Few networks that hold these, and besides them nothing but some of the holes.
    """
    wanted = sorted(set(nets))
    ranges: list[list[int]] = []
    for start, end in sorted({*wanted, *holes}):
        if ranges and start <= ranges[-1][1] + 1:
            ranges[-1][1] = max(ranges[-1][1], end)
        else:
            ranges.append([start, end])
    starts = [start for start, _ in wanted]
    found = []
    for start, end in ranges:
        while start <= end:
            size = min(start & -start or 1 << 32, 1 << (end - start + 1).bit_length() - 1)
            last = bisect_right(starts, start + size - 1) - 1
            if last >= 0 and wanted[last][1] >= start:
                found.append((start, 33 - size.bit_length()))
            start += size
    return found
