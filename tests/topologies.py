"""
Topologies for tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hostline.server.experiments.addresses import assign
from hostline.server.experiments.topology import Topology, TopologyInterface, TopologyLink, TopologyNode


def linked(links: Mapping[str, Sequence[str]], serial: int = 1) -> Topology:
    """
    An addressed topology of these links and their nodes, in the order in which they are named.
    """
    interfaces: dict[str, list[TopologyInterface]] = {}
    members: dict[str, list[tuple[str, str]]] = {link: [] for link in links}
    for link, names in links.items():
        for name in names:
            its = interfaces.setdefault(name, [])
            its.append(TopologyInterface(f"inf{len(its):03}", link))
            members[link].append((name, its[-1].name))
    nodes = [TopologyNode(name, interfaces=its) for name, its in interfaces.items()]
    return assign(Topology(nodes, [TopologyLink(link, its) for link, its in members.items()]), serial)
