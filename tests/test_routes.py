"""
Tests for L{hostline.server.experiments.routes}.
"""

from __future__ import annotations

import time
from collections import deque
from ipaddress import IPv4Address, IPv4Network

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments.routes import Route, forwards, routes
from hostline.server.experiments.topology import Topology
from tests.topologies import linked


class Packets:
    """
    Where packets go in a topology with routes, as kernels send them: by the longest prefix.
    """

    def __init__(self, topology: Topology, found: dict[str, list[Route]]) -> None:
        self.own: dict[str, dict[IPv4Network, IPv4Address]] = {}
        self.holders: dict[IPv4Address, str] = {}
        self.links: dict[str, set[str]] = {}
        for node in topology.nodes:
            its = self.own.setdefault(node.name, {})
            self.links[node.name] = {one.link for one in node.interfaces}
            for one in node.interfaces:
                its.setdefault(IPv4Network(f"{one.ip4}/{one.netmask}", strict=False), IPv4Address(str(one.ip4)))
                self.holders[IPv4Address(str(one.ip4))] = node.name
        self.table = {name: [(IPv4Network(to), IPv4Address(by)) for to, by in its] for name, its in found.items()}
        self.forwarding = {node.name for node in topology.nodes if forwards(node)}

    def hops(self, node: str, to: IPv4Address) -> int | None:
        """How many nodes pass a packet on until it is there; None if it never is."""
        for count in range(len(self.own) + 1):
            if self.holders[to] == node or any(to in net for net in self.own[node]):
                return count
            fitting = [one for one in self.table.get(node, ()) if to in one[0]]
            if not fitting:
                return None
            longest = max(net.prefixlen for net, _ in fitting)
            (by,) = {by for net, by in fitting if net.prefixlen == longest}
            assert any(by in net for net in self.own[node]), "the next hop is a neighbour"
            node = self.holders[by]
            if node not in self.forwarding:
                return None
        return None

    def distances(self, start: str) -> dict[str, int]:
        """How many nodes are at least between a node and each link."""
        far = dict.fromkeys(self.links[start], 0)
        queue = deque(far)
        while queue:
            link = queue.popleft()
            for links in self.links.values():
                if link in links:
                    for other in links - far.keys():
                        far[other] = far[link] + 1
                        queue.append(other)
        return far


class RoutesTests(SynchronousTestCase):
    """
    The routes of each node.
    """

    def test_aChain(self) -> None:
        """
        Of four nodes in a row each knows its way, in one line: networks beside each other go together.
        """
        found, why = routes(linked({"l1": ["a", "b"], "l2": ["b", "c"], "l3": ["c", "d"]}))
        self.assertEqual(why, "")
        self.assertEqual(
            found,
            {
                "a": [("10.1.0.0/22", "10.1.1.3")],
                "b": [("10.1.0.0/22", "10.1.2.3")],
                "c": [("10.1.0.0/22", "10.1.2.2")],
                "d": [("10.1.0.0/22", "10.1.3.2")],
            },
        )

    def test_neighboursNeedNone(self) -> None:
        """
        Nodes of one LAN, and links that nothing joins, have no routes.
        """
        self.assertEqual(routes(linked({"lan": ["a", "b", "c"], "other": ["d", "e"]}))[0], {})

    def test_theShorterWay(self) -> None:
        """
        Of two ways round a ring the one with fewer hops; of equal ones always the same.
        """
        ring = {f"l{at}": [f"n{at}", f"n{(at + 1) % 6}"] for at in range(6)}
        topology = linked(ring)
        found = routes(topology)[0]
        packets = Packets(topology, found)
        address = {node.name: IPv4Address(str(node.interfaces[0].ip4)) for node in topology.nodes}
        self.assertEqual(packets.hops("n0", address["n2"]), 1)
        self.assertEqual(routes(topology)[0], found)

    def test_ownNetworksStay(self) -> None:
        """
        No line is for a network that the node is on: what is beside it goes by its own interface.
        """
        topology = linked({"l1": ["a", "b"], "l2": ["b", "c"]})
        for name, lines in routes(topology)[0].items():
            own = {str(net) for net in Packets(topology, {}).own[name]}
            self.assertTrue(own.isdisjoint(to for to, _ in lines))
        self.assertEqual(routes(topology)[0]["a"], [("10.1.2.0/24", "10.1.1.3")])

    def test_forwards(self) -> None:
        """
        Who is on two links passes packets on; on one, or twice on the same, not.
        """
        topology = linked({"l1": ["a", "b"], "l2": ["b", "c"]})
        self.assertEqual([node.name for node in topology.nodes if forwards(node)], ["b"])

    def test_largeOnes(self) -> None:
        """
        10,000 nodes round one, and 700 in a row, have their routes in seconds; past what can be done there are none,
        and it is said why.
        """
        started = time.process_time()
        found, why = routes(linked({f"l{at}": ["hub", f"n{at}"] for at in range(9999)}))
        self.assertEqual((len(found) >= 9999, why), (True, ""))
        self.assertLess(max(len(lines) for lines in found.values()), 20)
        found, why = routes(linked({f"l{at}": [f"n{at}", f"n{at + 1}"] for at in range(700)}))
        self.assertEqual((len(found), why), (701, ""))
        found, why = routes(linked({f"l{at}": [f"n{at}", f"n{at + 1}"] for at in range(9999)}))
        self.assertEqual(found, {})
        self.assertIn("9998 nodes with several links", why)
        self.assertLess(time.process_time() - started, 30)

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=4, unique=True), max_size=10))
    def test_everythingIsReached(self, members: list[list[str]]) -> None:
        """
        From each node a packet comes to every address that any way leads to, by as few nodes as there can be.
        """
        topology = linked({f"l{at}": names for at, names in enumerate(members)})
        found, why = routes(topology)
        self.assertEqual(why, "")
        packets = Packets(topology, found)
        for node in topology.nodes:
            far = packets.distances(node.name)
            for other in topology.nodes:
                for one in other.interfaces:
                    want = far.get(one.link)
                    got = packets.hops(node.name, IPv4Address(str(one.ip4)))
                    if want is None:
                        self.assertIsNone(got, found)
                    else:
                        self.assertTrue(got is not None and got <= want, found)
