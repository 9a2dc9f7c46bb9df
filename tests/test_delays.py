"""
Tests for links as the records say them, and for what is changed of them while they are in use.
"""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments import wires
from hostline.server.experiments.delays import changed
from hostline.server.experiments.topology import Topology, TopologyInterface, TopologyLink, TopologyNode
from hostline.server.network.fabric import Able, Shape, between
from hostline.server.records import Experiment, Plan


def topology(*faces: dict[str, Any], **link: Any) -> Topology:
    """
    @param faces: what is said of the interface of each node, C{n0} and so on.
    """
    nodes = [
        TopologyNode(f"n{at}", interfaces=[TopologyInterface("inf000", "lan", **said)]) for at, said in enumerate(faces)
    ]
    members = tuple((node.name, "inf000") for node in nodes)
    return Topology(nodes, [TopologyLink("lan", members, **link)])


def placed(kept: Topology, **more: Any) -> tuple[Experiment, Plan]:
    """
    @return: records of an experiment that is swapped in.
    """
    slivers = {node.name: 100 + at for at, node in enumerate(kept.nodes)}
    experiment = Experiment(
        serial=7, name="lab/x", project=1, owner="uid:0", state="active", slivers=slivers, created=1.0, swapped_in=2.0
    )
    return attrs.evolve(experiment, **more), Plan(serial=7, topology=kept.as_value())


class LinksOfTests(SynchronousTestCase):
    """
    Tests for L{wires.links_of}.
    """

    def test_linkAlone(self) -> None:
        """
        Where only the link says something, that is what happens on each way.
        """
        link = wires.links_of(*placed(topology({}, {}, rate_kbps=1000, delay_ms=10, loss=0.1)))[0]
        self.assertEqual((link.name, [one.serial for one in link.members]), ("7/lan", [100, 101]))
        way = between(*link.members)
        self.assertEqual((way.rate_kbps, way.delay_ms, round(way.loss, 9)), (1000, 10, 0.1))

    def test_interfacesComeFirst(self) -> None:
        """
        An interface's own for one direction comes before its own for both, and that before the link's.
        """
        faces: tuple[dict[str, Any], ...] = ({"to_delay_ms": 30, "delay_ms": 20, "rate_kbps": 5}, {})
        one, other = wires.links_of(*placed(topology(*faces, delay_ms=10)))[0].members
        self.assertEqual((one.to, one.received), (Shape(5, 30), Shape(5, 20)))
        self.assertEqual((other.to, other.received), (Shape(0, 10), Shape(0, 10)))
        self.assertEqual((between(one, other).delay_ms, between(other, one).delay_ms), (20, 15))

    def test_notPlaced(self) -> None:
        """
        Who has no sliver here is on no link here.
        """
        experiment, plan = placed(topology({}, {}))
        link = wires.links_of(attrs.evolve(experiment, slivers={"n1": 101}), plan)[0]
        self.assertEqual([one.serial for one in link.members], [101])

    def test_refusals(self) -> None:
        """
        What a host cannot give is refused by the name of the link.
        """
        slow = topology({}, {}, delay_ms=10)
        self.assertEqual(wires.refusals(slow, Able()), {})
        self.assertIn("install vde2", wires.refusals(slow, Able(wirefilter=False))["lan"])
        self.assertIn("no tbf", wires.refusals(topology({}, {}, rate_kbps=1), Able(tbf=False))["lan"])
        self.assertIn("1001 members", wires.refusals(topology(*[{}] * 1001), Able())["lan"])

    def test_rounded(self) -> None:
        """
        A delay that cannot be quite what was asked for is told of; where the kernel can delay, it can.
        """
        short = topology({}, {}, delay_ms=1.5)
        self.assertIn("1.5 ms one way will be about 1.2 ms", wires.rounded(short, Able())["lan"])
        self.assertEqual(wires.rounded(short, Able(netem=True)), {})
        self.assertEqual(wires.rounded(topology({}, {}, delay_ms=5), Able()), {})
        self.assertEqual(wires.rounded(topology({}, {}), Able()), {})


class ChangedTests(SynchronousTestCase):
    """
    Tests for L{changed}, and what is in force after it.
    """

    def setUp(self) -> None:
        self.experiment, self.plan = placed(topology({"delay_ms": 5}, {"to_delay_ms": 7}, delay_ms=10))

    def change(self, node: str = wires.EVERY, *, save: bool = False, **given: Any) -> None:
        changes = changed(self.experiment, "lan", node, given, save=save)
        self.experiment = attrs.evolve(self.experiment, changes=changes)

    def delays(self) -> tuple[float, float]:
        """
        @return: from the first to the second, and back.
        """
        one, other = wires.links_of(self.experiment, self.plan)[0].members
        return between(one, other).delay_ms, between(other, one).delay_ms

    def swap(self) -> None:
        self.experiment = attrs.evolve(self.experiment, swapped_in=(self.experiment.swapped_in or 0) + 100)

    def test_wholeLink(self) -> None:
        """
        A change of the whole link is so both ways, whatever the interfaces say, and shows in the link's body; none
        takes it back.
        """
        before = self.delays()
        self.change(delay_ms=40.0)
        self.assertEqual(self.delays(), (40.0, 40.0))
        self.assertEqual(wires.body(self.plan.built.links[0], self.experiment)["delay_ms"], 40.0)
        self.change(delay_ms=None)
        self.assertEqual((self.delays(), self.experiment.changes), (before, {}))

    def test_oneSource(self) -> None:
        """
        A change of what one node sends is just so on a link of two, and the other way stays; a later one of the whole
        link takes its place.
        """
        back = self.delays()[1]
        self.change("n0", delay_ms=40.0)
        self.assertEqual(self.delays(), (40.0, back))
        shown = wires.body(self.plan.built.links[0], self.experiment)
        self.assertEqual((shown["delay_ms"], shown["changes"]), (10.0, {"n0": {"delay_ms": 40.0}}))
        self.change(delay_ms=3.0)
        self.assertEqual(self.delays(), (3.0, 3.0))

    def test_swapCycle(self) -> None:
        """
        What is not saved is over with the next swap-in, what is saved is not, and comes out again from under it.
        """
        self.change(save=True, delay_ms=40.0)
        self.change(delay_ms=60.0)
        self.assertEqual(self.delays(), (60.0, 60.0))
        self.swap()
        self.assertEqual(self.delays(), (40.0, 40.0))
        self.change(delay_ms=None)
        self.assertNotEqual(self.delays(), (40.0, 40.0))
        self.swap()
        self.assertEqual(self.delays(), (40.0, 40.0))
        self.change(save=True, delay_ms=None)
        self.assertEqual(self.experiment.changes, {})

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([wires.EVERY, "n0", "n1"]),
                st.booleans(),
                st.dictionaries(
                    st.sampled_from(wires.VALUES), st.none() | st.floats(0, 1, allow_subnormal=False), min_size=1
                ),
            ),
            max_size=8,
        )
    )
    def test_newestHolds(self, orders: list[tuple[str, bool, dict[str, float | None]]]) -> None:
        """
        Whatever came before, what was said last of a sender is in force; none is kept where nothing is.
        """
        self.setUp()
        for node, save, values in orders:
            self.change(node, save=save, **values)
            found = wires.in_force(self.experiment, "lan")
            senders = ["n0", "n1"] if node == wires.EVERY else [node]
            for sender in senders:
                for name, value in values.items():
                    shown = found.get(sender, {}).get(name, found.get(wires.EVERY, {}).get(name))
                    if value is not None:
                        self.assertEqual(shown, value)
                    elif node == wires.EVERY:
                        self.assertIsNone(shown)
        for nodes in self.experiment.changes.values():
            self.assertTrue(nodes)
            self.assertTrue(all(nodes.values()))
