"""
By which names a node knows the others: its C{/etc/hosts}; pure.

As Emulab has them: C{web-lan0} is one interface, C{web-0} likewise by number, and C{web} is the address of that node
that is nearest, on a link that both are on if there is one. A node that cannot be reached has no name.
"""

from __future__ import annotations

from collections.abc import Mapping

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
        for node in topology.nodes:
            for one in node.interfaces:
                if one.ip4 is not None:
                    self._on.setdefault(one.link, {})[node.name] = None
        self._reserved = {one.name.lower() for one in topology.nodes}
        self._texts: dict[tuple[str, ...], str] = {}

    def hosts(self, name: str) -> str:
        """
        @return: the lines for the C{/etc/hosts} of a node; the same text for all that are on the same links.
        """
        node = self._by_name.get(name)
        if node is None:
            return ""
        links = tuple(dict.fromkeys(one.link for one in node.interfaces if one.ip4 is not None))
        # What is on no link has names of its own only by way of the control network, if at all.
        key = links or ("", name)
        if key not in self._texts:
            self._texts[key] = self._text(node, links)
        return self._texts[key]

    def _text(self, node: TopologyNode, links: tuple[str, ...]) -> str:
        far = self._distances(links)
        known = self._known(node, links)
        taken = set(self._reserved)
        lines = []
        for other in self._nodes:
            if other.name in known:
                lines += self._lines(other, far, taken)
        return "".join(lines)

    def _known(self, node: TopologyNode, links: tuple[str, ...]) -> set[str]:
        if len(self._nodes) <= NODES_MAX:
            return set(self._by_name)
        near = {name for link in links for name in self._on[link]}
        return near if len(near) <= NODES_MAX else {node.name}

    def _lines(self, node: TopologyNode, far: Mapping[str, int], taken: set[str]) -> list[str]:
        reached = [one for one in node.interfaces if one.ip4 is not None and one.link in far]
        nearest = min(reached, key=lambda one: far[one.link], default=None)
        full = f"{node.name}.{self._domain}"
        lines = []
        for number, one in enumerate(node.interfaces):
            if one.ip4 is None or one.link not in far:
                continue
            names = self._free(_numbered(node, one, number), taken)
            if one is nearest:
                # The name of the interface comes first: it is what ping shows.
                names[1:1] = [node.name]
                names += [] if node.name in self._control else [full]
            if names:
                lines.append(f"{one.ip4}\t{' '.join(names)}\n")
        if node.name in self._control:
            lines.append(f"{self._control[node.name]}\t{full}\n")
        return lines

    def _free(self, names: tuple[str, ...], taken: set[str]) -> list[str]:
        free = []
        for name in names:
            if name.lower() not in taken:
                taken.add(name.lower())
                free.append(name)
        return free

    def _distances(self, links: tuple[str, ...]) -> dict[str, int]:
        """
        @return: how many nodes are on the way to each link that can be reached; those further back in C{links} are a
            little further away than those before.
        """
        far = {link: at - len(links) for at, link in enumerate(links)}
        seen: set[str] = set()
        queue = list(links)
        for link in queue:
            for name in self._on.get(link, ()):
                if name in seen:
                    continue
                seen.add(name)
                for one in self._by_name[name].interfaces:
                    if one.link not in far and one.ip4 is not None:
                        far[one.link] = max(far[link], 0) + 1
                        queue.append(one.link)
        return far


def _numbered(node: TopologyNode, one: TopologyInterface, number: int) -> tuple[str, str]:
    return f"{node.name}-{one.link}", f"{node.name}-{number}"
