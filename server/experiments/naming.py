"""
By which names a node knows the others: its C{/etc/hosts}; pure.

As Emulab has them: C{web-lan0} is one interface, C{web-0} likewise by number, and C{web} is the address of that node
that is nearest, on a link that both are on if there is one. A node that cannot be reached has no name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import define, field

from hostline.server.experiments.topology import Topology, TopologyInterface, TopologyNode

#: Of an experiment with more nodes, each knows only those that it is directly linked to, if those are no more.
NODES_MAX = 1000


class Names:
    """
    The names in one experiment.
    """

    def __init__(self, topology: Topology, domain: str, control: Mapping[str, str] | None = None) -> None:
        """
        @param topology: addressed.
        @param domain: C{exp.proj}.
        @param control: by node the address apart from all links, which C{node.exp.proj} then is; where there is none,
            that is the nearest, too.
        """
        self._domain = domain
        self._control = control or {}
        self._nodes = topology.nodes
        self._by_name = {one.name: one for one in topology.nodes}
        self._on: dict[str, dict[str, None]] = {}
        self._links: dict[str, tuple[str, ...]] = {}
        for node in topology.nodes:
            links = tuple(dict.fromkeys(one.link for one in node.interfaces if one.ip4 is not None))
            self._links[node.name] = links
            for link in links:
                self._on.setdefault(link, {})[node.name] = None
        self._known: dict[str, list[_Entry]] = {}
        self._reserved = {one.name.lower() for one in topology.nodes}
        self._texts: dict[tuple[str, ...], str] = {}

    def hosts(self, name: str) -> str:
        """
        @return: the lines for the C{/etc/hosts} of a node; the same text for all that are on the same links.
        """
        node = self._by_name.get(name)
        if node is None:
            return ""
        links = self._links[name]
        # What is on no link has names of its own only by way of the control network, if at all.
        key = links or ("", name)
        if key not in self._texts:
            self._texts[key] = self._text(node, links)
        return self._texts[key]

    def _text(self, node: TopologyNode, links: tuple[str, ...]) -> str:
        if len(self._nodes) > NODES_MAX:
            far = self._distances(links, near=True)
            known = self._near(node, links)
            entries = self._entries(far, [one for one in self._nodes if one.name in known])
        else:
            far = self._distances(links)
            # All that reach each other reach the same links, and so know the same names.
            home = links[0] if links else ""
            if home not in self._known:
                self._known |= dict.fromkeys((home, *far), self._entries(far, self._nodes))
            entries = self._known[home]
        lines: list[str] = []
        for one in entries:
            one.put(lines, far)
        return "".join(lines)

    def _near(self, node: TopologyNode, links: tuple[str, ...]) -> set[str]:
        near = {name for link in links for name in self._on[link]}
        return near if len(near) <= NODES_MAX else {node.name}

    def _entries(self, far: Mapping[str, int], nodes: Iterable[TopologyNode]) -> list[_Entry]:
        taken = set(self._reserved)
        return [self._entry(one, far, taken) for one in nodes]

    def _entry(self, node: TopologyNode, far: Mapping[str, int], taken: set[str]) -> _Entry:
        full = f"{node.name}.{self._domain}"
        own = [] if node.name in self._control else [full]
        entry = _Entry()
        for number, one in enumerate(node.interfaces):
            if one.ip4 is None or one.link not in far:
                continue
            names = self._free(_numbered(node, one, number), taken)
            entry.links.append(one.link)
            entry.lines.append(f"{one.ip4}\t{' '.join(names)}\n" if names else "")
            # The name of the interface comes first: it is what ping shows.
            entry.nearest.append(f"{one.ip4}\t{' '.join([*names[:1], node.name, *names[1:], *own])}\n")
        if node.name in self._control:
            entry.last = f"{self._control[node.name]}\t{full}\n"
        return entry

    def _free(self, names: tuple[str, ...], taken: set[str]) -> list[str]:
        free = []
        for name in names:
            if name.lower() not in taken:
                taken.add(name.lower())
                free.append(name)
        return free

    def _distances(self, links: tuple[str, ...], *, near: bool = False) -> dict[str, int]:
        """
        @param near: only to links of nodes that are on these.
        @return: how many nodes are on the way to each link that can be reached; those further back in C{links} are a
            little further away than those before.
        """
        far = {link: at - len(links) for at, link in enumerate(links)}
        seen: set[str] = set()
        queue = list(links)
        for link in links if near else queue:
            beyond = max(far[link], 0) + 1
            for name in self._on.get(link, ()):
                if name in seen:
                    continue
                seen.add(name)
                for other in self._links[name]:
                    if other not in far:
                        far[other] = beyond
                        queue.append(other)
        return far


@define
class _Entry:
    """
    What others find of a node: a line for each interface that can be reached, one of them the nearest.

    @ivar links: of each; C{lines}: what it says of itself, C{nearest}: what it says if it is the nearest.
    @ivar last: a line besides.
    """

    links: list[str] = field(factory=list)
    lines: list[str] = field(factory=list)
    nearest: list[str] = field(factory=list)
    last: str = ""

    def put(self, lines: list[str], far: Mapping[str, int]) -> None:
        """
        @param lines: for the lines of this node.
        @param far: how far each link is.
        """
        if len(self.links) == 1:
            lines.append(self.nearest[0])
        elif self.links:
            ways = [far[link] for link in self.links]
            at = ways.index(min(ways))
            lines += self.lines[:at]
            lines.append(self.nearest[at])
            lines += self.lines[at + 1 :]
        if self.last:
            lines.append(self.last)


def _numbered(node: TopologyNode, one: TopologyInterface, number: int) -> tuple[str, str]:
    return f"{node.name}-{one.link}", f"{node.name}-{number}"
