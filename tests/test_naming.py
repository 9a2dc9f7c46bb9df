"""
Tests for L{hostline.server.experiments.naming}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments.addresses import assign
from hostline.server.experiments.naming import NODES_MAX, Names
from hostline.server.experiments.topology import Topology
from tests.topologies import linked

DOMAIN = "exp1.lab"


def resolved(text: str) -> dict[str, str]:
    """
    Address by name, the first line counting, as the C library reads it.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        address, _, names = line.partition("\t")
        for name in names.split(" "):
            found.setdefault(name, address)
    return found


class NamesTests(SynchronousTestCase):
    """
    What names mean inside a node.
    """

    def setUp(self) -> None:
        self.topology = linked({"left": ["web", "mid"], "right": ["mid", "db"], "lost": ["far", "away"]})

    def test_namesAsEmulabDid(self) -> None:
        """
        The lines of a node between two links: each interface by link and number, the node itself by the nearest.
        """
        self.assertEqual(
            Names(self.topology, DOMAIN).hosts("mid"),
            "10.1.1.2\tweb-left web web-0 web.exp1.lab\n"
            "10.1.1.3\tmid-left mid mid-0 mid.exp1.lab\n"
            "10.1.2.2\tmid-right mid-1\n"
            "10.1.2.3\tdb-right db db-0 db.exp1.lab\n",
        )

    def test_theNearestAddressIsMeant(self) -> None:
        """
        A node with several addresses is known by the one on a link that both are on; beyond, by that with fewer hops.
        """
        names = Names(self.topology, DOMAIN)
        self.assertEqual(resolved(names.hosts("web"))["mid"], "10.1.1.3")
        self.assertEqual(resolved(names.hosts("db"))["mid"], "10.1.2.2")
        chain = linked({"c": ["far", "near"], "b": ["mid", "far"], "a": ["me", "mid"]})
        self.assertEqual(
            resolved(Names(chain, DOMAIN).hosts("me"))["far"], resolved(Names(chain, DOMAIN).hosts("me"))["far-b"]
        )

    def test_whatCannotBeReachedHasNoName(self) -> None:
        """
        A node that no link leads to is not named.
        """
        self.assertNotIn("far", resolved(Names(self.topology, DOMAIN).hosts("web")))

    def test_theFullNameIsApartFromLinks(self) -> None:
        """
        With a control network C{node.exp.proj} is the address there, and of a node without any link that alone.
        """
        names = Names(self.topology, DOMAIN, {"web": "10.98.0.7"})
        self.assertEqual(resolved(names.hosts("db"))["web.exp1.lab"], "10.98.0.7")
        self.assertEqual(resolved(names.hosts("db"))["web"], "10.1.1.2")

    def test_aNodeKeepsItsName(self) -> None:
        """
        A node whose name is what an interface of another would be called is meant by it.
        """
        topology = linked({"lan": ["a", "a-lan", "a-0"]})
        found = resolved(Names(topology, DOMAIN).hosts("a"))
        addresses = {node.name: node.interfaces[0].ip4 for node in topology.nodes}
        self.assertEqual({name: found[name] for name in addresses}, addresses)

    def test_manyNodesKnowTheirNeighbours(self) -> None:
        """
        Past a thousand nodes each knows those it is directly linked to, and in a LAN of so many only itself.
        """
        pairs = {f"l{at}": [f"n{at}", f"n{at + 1}"] for at in range(NODES_MAX)}
        found = resolved(Names(linked(pairs), DOMAIN).hosts("n5"))
        self.assertEqual({name for name in found if "." not in name and "-" not in name}, {"n4", "n5", "n6"})
        lan = {"lan": [f"n{at}" for at in range(NODES_MAX + 1)]}
        self.assertEqual(len(Names(linked(lan), DOMAIN).hosts("n5").splitlines()), 1)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=4, unique=True), max_size=8))
    def test_everyNameIsOneOfTheNodes(self, members: list[list[str]]) -> None:
        """
        Whatever the links, a short name is an address of that node, and of a neighbour one on a common link.
        """
        topology = linked({f"l{at}": nodes for at, nodes in enumerate(members)})
        names = Names(topology, DOMAIN)
        its = {node.name: {one.ip4: one.link for one in node.interfaces} for node in topology.nodes}
        for node in topology.nodes:
            found = resolved(names.hosts(node.name))
            self.assertIn(node.name, found)
            for other, addresses in its.items():
                common = set(addresses.values()) & set(its[node.name].values())
                if other in found:
                    self.assertIn(found[other], addresses)
                if common:
                    self.assertIn(addresses[found[other]], common)

    def test_isBoundByWhatItWasGiven(self) -> None:
        """
        A node that is not there, and one of an empty topology, has no lines.
        """
        self.assertEqual(Names(assign(Topology(), 1), DOMAIN).hosts("a"), "")
