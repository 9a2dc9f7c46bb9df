"""
Which address each interface gets.
"""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Network

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments.addresses import assign, mac_address
from hostline.server.experiments.topology import Topology, TopologyInterface, TopologyLink, TopologyNode

SERIAL = 7


def made(links: dict[str, list[tuple[str, str | None, str | None]]]) -> Topology:
    """
    A topology from link to members; a member is node, address, netmask. Node n is in line n, counted from 1.
    """
    interfaces: dict[str, list[TopologyInterface]] = {}
    members: dict[str, list[tuple[str, str]]] = {}
    for link, ends in links.items():
        for node, ip4, netmask in ends:
            of_node = interfaces.setdefault(node, [])
            one = TopologyInterface(f"inf{len(of_node):03d}", link, ip4, netmask)
            of_node.append(one)
            members.setdefault(link, []).append((node, one.name))
    return Topology(
        nodes=[TopologyNode(name, interfaces=ends, line=n) for n, (name, ends) in enumerate(interfaces.items(), 1)],
        links=[TopologyLink(name, members.get(name, ()), line=100 + n) for n, name in enumerate(links)],
    )


def bare(*nodes: str) -> list[tuple[str, str | None, str | None]]:
    return [(node, None, None) for node in nodes]


def addresses(topology: Topology) -> dict[str, list[str | None]]:
    """
    Address and prefix by link, in the order of the nodes.
    """
    found: dict[str, list[str | None]] = {}
    for node in topology.nodes:
        for one in node.interfaces:
            mask = IPv4Network(f"0.0.0.0/{one.netmask}").prefixlen if one.netmask else None
            found.setdefault(one.link, []).append(one.ip4 and f"{one.ip4}/{mask}")
    return found


class AssignTests(SynchronousTestCase):
    """
    Addresses.
    """

    def assigned(self, links: dict[str, list[tuple[str, str | None, str | None]]]) -> dict[str, list[str | None]]:
        topology = assign(made(links), SERIAL)
        self.assertEqual(topology.findings, ())
        return addresses(topology)

    def refused(self, links: dict[str, list[tuple[str, str | None, str | None]]]) -> list[tuple[int, str]]:
        return [(one.line, one.text) for one in assign(made(links), SERIAL).errors]

    def test_golden(self) -> None:
        """
        Links get 10.1.1.0/24, 10.1.2.0/24 and so on, hosts from .2 in the order of the nodes, as on Emulab.
        """
        found = self.assigned(
            {"l-0": bare("hub", "leaf-0"), "l-1": bare("hub", "leaf-1"), "lan": bare("hub", "leaf-0", "x")}
        )
        self.assertEqual(
            found,
            {
                "l-0": ["10.1.1.2/24", "10.1.1.3/24"],
                "l-1": ["10.1.2.2/24", "10.1.2.3/24"],
                "lan": ["10.1.3.2/24", "10.1.3.3/24", "10.1.3.4/24"],
            },
        )

    def test_goldenMacs(self) -> None:
        """
        MACs are the same for ever, for they follow from the experiment's serial and the names.
        """
        topology = assign(made({"l": bare("web", "db")}), SERIAL)
        macs = [one.mac for node in topology.nodes for one in node.interfaces]
        self.assertEqual(macs, ["02:49:66:84:e4:cd", "02:db:eb:82:76:54"])
        self.assertEqual(mac_address(8, "web", "inf000"), "02:c9:24:5c:d7:46")
        self.assertEqual(mac_address(7, "web", "inf000", 1), "02:2c:69:c7:a9:1b")

    def test_given(self) -> None:
        """
        A given address stays, and the rest of its link is in its subnet.
        """
        found = self.assigned(
            {"l": [("a", None, None), ("b", "192.168.5.2", None), ("c", None, None)], "m": bare("a", "b")}
        )
        self.assertEqual(found["l"], ["192.168.5.3/24", "192.168.5.2/24", "192.168.5.4/24"])
        self.assertEqual(found["m"], ["10.1.1.2/24", "10.1.1.3/24"])

    def test_givenIsSkipped(self) -> None:
        """
        No subnet of ours overlaps one that was given, whatever its size.
        """
        found = self.assigned(
            {
                "l": bare("a", "b"),
                "m": bare("a", "b"),
                "n": [("a", "10.1.1.77", None), ("b", None, None)],
                "o": [("a", "10.1.5.1", "255.255.252.0"), ("b", None, None)],
                "p": [("a", "10.0.0.1", "255.255.0.0"), ("b", None, None)],
                "q": bare("a", "b"),
            }
        )
        self.assertEqual(found["n"], ["10.1.1.77/24", "10.1.1.2/24"])
        self.assertEqual(found["o"], ["10.1.5.1/22", "10.1.4.2/22"])
        self.assertEqual([found[link][0] for link in "lmq"], ["10.1.2.2/24", "10.1.3.2/24", "10.1.8.2/24"])

    def test_netmaskAlone(self) -> None:
        """
        A netmask without an address is that of the subnet we choose.
        """
        mask = "255.255.255.252"
        self.assertEqual(
            self.assigned({"l": [("a", None, mask), ("b", None, None)]})["l"], ["10.1.1.2/30", "10.1.1.1/30"]
        )

    def test_tight(self) -> None:
        """
        Where .2 and up are used up, .1 is taken.
        """
        mask = "255.255.255.252"
        found = self.assigned({"l": [("a", "10.9.0.2", mask), ("b", None, None)]})
        self.assertEqual(found["l"], ["10.9.0.2/30", "10.9.0.1/30"])

    def test_large(self) -> None:
        """
        A LAN that is too large for a /24 gets a larger aligned block; its neighbours lose nothing.
        """
        many = bare(*(f"n{n}" for n in range(254)))
        found = self.assigned({"l": bare("n0", "n1"), "small": many[:253], "big": many, "m": bare("n0", "n1")})
        self.assertEqual(found["l"][0], "10.1.1.2/24")
        self.assertEqual((found["small"][0], found["small"][-1]), ("10.1.2.2/24", "10.1.2.254/24"))
        self.assertEqual((found["big"][0], found["big"][-1]), ("10.1.4.2/23", "10.1.4.255/23"))
        self.assertEqual(found["m"][0], "10.1.6.2/24")

    def test_hostPart(self) -> None:
        """
        A host part of all zeros or all ones is refused, with the node's line.
        """
        for address, mask in (
            ("10.1.1.0", None),
            ("10.1.1.255", None),
            ("10.1.1.3", "255.255.255.252"),
            ("10.1.0.0", "255.255.0.0"),
        ):
            ((line, said),) = self.refused({"l": [("a", None, None), ("b", address, mask)]})
            self.assertEqual(line, 2)
            self.assertIn(address, said)
        self.assertEqual(self.refused({"l": [("a", "10.1.1.0", "255.255.0.0")]}), [])

    def test_unusable(self) -> None:
        """
        Addresses that no host may have, and masks that leave no room for hosts, are refused.
        """
        for address in ("0.0.0.5", "127.0.0.1", "224.0.0.5", "255.255.255.254", "169.254.1.1"):
            self.assertEqual([line for line, _ in self.refused({"l": [("a", address, None)]})], [1], address)
        for mask in ("255.255.255.255", "255.255.255.254", "0.0.0.0"):
            self.assertEqual([line for line, _ in self.refused({"l": [("a", "10.5.5.5", mask)]})], [1], mask)

    def test_twice(self) -> None:
        """
        An address can be given once, on the same link or on another.
        """
        ((line, said),) = self.refused({"l": [("a", "10.3.0.2", None), ("b", "10.3.0.2", None)]})
        self.assertEqual((line, "node a" in said), (2, True))
        self.assertEqual(len(self.refused({"l": [("a", "10.3.0.2", None)], "m": [("b", "10.3.0.2", None)]})), 1)

    def test_oneSubnet(self) -> None:
        """
        A link is one subnet: addresses or netmasks that say otherwise are refused.
        """
        ((line, said),) = self.refused({"l": [("a", "10.3.0.2", None), ("b", "10.3.1.2", None)]})
        self.assertEqual((line, "one subnet" in said), (2, True))
        found = self.refused({"l": [("a", "10.3.0.2", "255.255.0.0"), ("b", "10.3.0.3", "255.255.255.0")]})
        self.assertEqual([line for line, _ in found], [2])

    def test_overlap(self) -> None:
        """
        Two links whose given subnets overlap are allowed, but remarked on.
        """
        topology = assign(made({"l": [("a", "10.3.0.2", None)], "m": [("b", "10.3.9.3", "255.255.0.0")]}), SERIAL)
        self.assertEqual(topology.errors, ())
        self.assertEqual([one.line for one in topology.warnings], [100])

    def test_tooSmall(self) -> None:
        """
        A subnet too small for its link is refused, with the link's line.
        """
        mask = "255.255.255.252"
        ((line, said),) = self.refused({"l": [("a", "10.3.0.1", mask), *bare("b", "c")]})
        self.assertEqual((line, "too small" in said), (100, True))

    def test_full(self) -> None:
        """
        Where all of 10.0.0.0/8 is given away, the user is told.
        """
        found = self.refused({"l": [("a", "10.200.0.1", "255.0.0.0")], "m": bare("a", "b")})
        self.assertEqual([line for line, _ in found], [101])

    def test_macs(self) -> None:
        """
        A given MAC stays; the same one twice is refused.
        """
        topology = made({"l": bare("a", "b")})
        a, b = topology.nodes
        mine = "02:00:00:00:00:01"
        a = evolve(a, interfaces=[evolve(a.interfaces[0], mac=mine)])
        self.assertEqual(assign(evolve(topology, nodes=[a, b]), SERIAL).nodes[0].interfaces[0].mac, mine)
        b = evolve(b, interfaces=[evolve(b.interfaces[0], mac=mine)])
        self.assertEqual([one.line for one in assign(evolve(topology, nodes=[a, b]), SERIAL).errors], [2])

    def test_again(self) -> None:
        """
        What was assigned once is not changed by doing it again.
        """
        topology = assign(made({"l": bare("a", "b"), "m": [("a", "10.1.1.9", None), *bare("b")]}), SERIAL)
        self.assertEqual(assign(topology, SERIAL), topology)
        self.assertEqual(assign(topology, SERIAL).findings, topology.findings)

    def test_manyLinks(self) -> None:
        """
        Ten thousand links are addressed in a moment, each with its own subnet.
        """
        links = {f"l{n}": bare(f"n{n}", f"n{n + 1}") for n in range(10_000)}
        topology = made(links)
        began = time.process_time()
        found = addresses(assign(topology, SERIAL))
        self.assertLess(time.process_time() - began, 4)
        self.assertEqual(found["l9999"], ["10.40.16.2/24", "10.40.16.3/24"])

    @settings(max_examples=100, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from("lmno"),
            st.lists(
                st.tuples(
                    st.sampled_from("abcdef"),
                    st.none() | st.integers(0, 2**10).map(lambda n: str(IPv4Address("10.1.0.0") + n)),
                    st.none() | st.sampled_from(["255.255.255.0", "255.255.252.0", "255.255.255.248"]),
                ),
                max_size=7,
            ),
        )
    )
    def test_any(self, links: dict[str, list[tuple[str, str | None, str | None]]]) -> None:
        """
        Either there is an error, or every interface has an address of its own in the subnet of its link, and those
        that were given stay.
        """
        before = made(links)
        after = assign(before, SERIAL)
        if after.errors:
            return
        subnets: dict[str, set[IPv4Network]] = {}
        seen = set()
        for node, old in zip(after.nodes, before.nodes, strict=True):
            for one, was in zip(node.interfaces, old.interfaces, strict=True):
                assert one.ip4 is not None and one.mac is not None
                self.assertIn(was.ip4, (None, one.ip4))
                seen.add((one.ip4, one.mac))
                net = IPv4Network(f"{one.ip4}/{one.netmask}", strict=False)
                subnets.setdefault(one.link, set()).add(net)
                self.assertNotIn(IPv4Address(one.ip4), (net.network_address, net.broadcast_address))
        self.assertEqual(len(seen), sum(len(ends) for ends in links.values()))
        self.assertEqual([len(nets) for nets in subnets.values()], [1] * len(subnets))


class PreviousTests(SynchronousTestCase):
    """
    Addresses when an experiment is modified.
    """

    def setUp(self) -> None:
        self.before = assign(made({"l": bare("a", "b"), "m": bare("b", "c")}), SERIAL)

    def test_kept(self) -> None:
        """
        Nodes and links that stay keep their addresses when others come before them or go.
        """
        links = {"new": bare("z", "b"), "m": [*bare("y"), *bare("b", "c")]}
        topology = made(links)
        found = addresses(assign(topology, SERIAL, self.before))
        self.assertEqual(found["m"], ["10.1.2.2/24", "10.1.2.4/24", "10.1.2.3/24"])
        self.assertEqual(found["new"], ["10.1.1.2/24", "10.1.1.3/24"])

    def test_keptWhenNamesMove(self) -> None:
        """
        An interface keeps its address when another one before it moves its name from inf000 to inf001.
        """
        found = assign(made({"new": bare("a", "z"), "l": bare("b", "a")}), SERIAL, self.before)
        self.assertEqual([(one.name, one.ip4) for one in found.nodes[0].interfaces][1], ("inf001", "10.1.1.2"))

    def test_givenWins(self) -> None:
        """
        A given address wins over what was kept.
        """
        found = addresses(assign(made({"l": [("a", "10.1.1.3", None), *bare("b")]}), SERIAL, self.before))
        self.assertEqual(found["l"], ["10.1.1.3/24", "10.1.1.2/24"])
        found = addresses(assign(made({"l": bare("a", "b"), "x": [("d", "10.1.1.3", None)]}), SERIAL, self.before))
        self.assertEqual(found["l"], ["10.1.2.2/24", "10.1.2.3/24"])

    def test_outgrown(self) -> None:
        """
        A LAN that has outgrown its subnet gets a new one.
        """
        found = assign(made({"l": bare("a", "b", *(f"n{n}" for n in range(300)))}), SERIAL, self.before)
        self.assertEqual(found.findings, ())
        self.assertEqual(addresses(found)["l"][0], "10.1.2.2/23")

    def test_same(self) -> None:
        """
        Without a change nothing changes.
        """
        again = assign(made({"l": bare("a", "b"), "m": bare("b", "c")}), SERIAL, self.before)
        self.assertEqual(again, self.before)
