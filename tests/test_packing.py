"""
Tests for L{hostline.server.experiments.packing}, and of what it is made of.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadValue, NoRoom
from hostline.server.experiments.cutting import cost
from hostline.server.experiments.hosting import Item, in_bytes
from hostline.server.experiments.packing import Packed, pack
from hostline.server.experiments.passes import Options

GIB = 1 << 30
Links = Sequence[tuple[int, Sequence[str]]]


def hosts(count: int, **said: Any) -> list[dict[str, Any]]:
    """
    So many hosts, h0, h1 and on, each with what is said.
    """
    return [{"name": f"h{at}", **said} for at in range(count)]


def nodes(count: int, **said: Any) -> list[Item]:
    """
    So many nodes, n0, n1 and on.
    """
    return [Item(f"n{at}", **said) for at in range(count)]


def together(packed: Packed) -> set[frozenset[str]]:
    """
    The nodes of each host.
    """
    groups: dict[str, set[str]] = {}
    for node, pnode in packed.placement.items():
        groups.setdefault(pnode, set()).add(node)
    return {frozenset(group) for group in groups.values()}


def sizes(packed: Packed) -> list[int]:
    """
    How many nodes each host has, in the order of pnodes.
    """
    counts = Counter(packed.placement.values())
    return [counts[pnode] for pnode in sorted(counts)]


def clique(names: Sequence[str]) -> Links:
    """
    A link between any two.
    """
    return [(cost(None), (one, other)) for at, one in enumerate(names) for other in names[at + 1 :]]


class OptionsTests(SynchronousTestCase):
    """
    What can be asked for.
    """

    def packed(self, items: Sequence[Item], links: Links, count: int = 40, **options: Any) -> Packed:
        """On so many hosts without limits."""
        return pack(items, links, hosts(count), Options.read(options))

    def refused(self, items: Sequence[Item], count: int = 40, **options: Any) -> str:
        """The words of the refusal."""
        return str(self.assertRaises(NoRoom, self.packed, items, [], count, **options).message)

    def test_cutsWhereLinksAreFew(self) -> None:
        """
        Two cliques of ten that one link joins are the two hosts, in whatever order the nodes come.
        """
        items = nodes(20)
        left, right = [f"n{at}" for at in range(0, 20, 2)], [f"n{at}" for at in range(1, 20, 2)]
        packed = self.packed(items, [*clique(left), *clique(right), (cost(None), ("n2", "n5"))], packing=10)
        self.assertEqual(together(packed), {frozenset(left), frozenset(right)})

    def test_spareSlowLinks(self) -> None:
        """
        Of a ring the links with the lowest rates are those between hosts.
        """
        rates = {3: 100.0, 9: 100.0}
        ring: Links = [(cost(rates.get(at, 1e6)), (f"n{at}", f"n{(at + 1) % 12}")) for at in range(12)]
        packed = self.packed(nodes(12), ring, packing=6)
        self.assertIn(frozenset(f"n{at}" for at in range(4, 10)), together(packed))

    def test_limitsNodesOfAHost(self) -> None:
        """
        Ten nodes, three of a host: four hosts, none with more.
        """
        found = sizes(self.packed(nodes(10), [], packing=3))
        self.assertEqual((len(found), max(found), sum(found)), (4, 3, 10))

    def test_nodesOnlyMakesEqualParts(self) -> None:
        """
        A LAN of twenty, ten of a host, is ten and ten; eleven nodes on three hosts are four, four and three.
        """
        lan: Links = [(cost(None), [f"n{at}" for at in range(20)])]
        self.assertEqual(sizes(self.packed(nodes(20), lan, packing=10, nodes_only=True)), [10, 10])
        self.assertEqual(sizes(self.packed(nodes(11), [], size=3, nodes_only=True)), [4, 4, 3])

    def test_sizeCountsMoreThanPacking(self) -> None:
        """
        size=2 packing=1 is two hosts, however many nodes.
        """
        self.assertEqual(len(self.packed(nodes(9), [], size=2, packing=1).pnodes), 2)

    def test_asFewHostsAsWillDo(self) -> None:
        """
        Without a limit all nodes are on one host.
        """
        self.assertEqual(self.packed(nodes(100), []).pnodes, {"pnode-0000": "h0"})

    def test_packsInPasses(self) -> None:
        """
        The ancestor's sample of 61 nodes: 1, 20, 10 and 5 of a host in four passes are 1 + 1 + 2 + 4 hosts.
        """
        items = [Item("a", turn="0")]
        items += [Item(f"{turn}-{at}", turn=turn) for turn in ("1", "2", "3") for at in range(20)]
        packed = self.packed(items, [], pass_pack="0:1,1:20,2:10,3:5", nodes_only=True)
        self.assertEqual(sizes(packed), [1, 20, 10, 10, 5, 5, 5, 5])

    def test_passesHaveTheirOwnSizesAndHosts(self) -> None:
        """
        pass_size, pass_nodes_only and pass_pnodes hold for one pass each; of the others packing= holds.
        """
        items = [Item(f"{turn}-{at}", turn=turn) for turn in ("", "7") for at in range(6)]
        there = [*hosts(4, type="pc"), *({"name": f"f{at}", "type": "fast"} for at in range(4))]
        said = {"packing": 2, "pass_size": "7:2", "pass_pnodes": "0:pc;7:fast", "pass_nodes_only": "7"}
        packed = pack(items, [], there, Options.read(said))
        by_host = Counter(packed.pnodes[pnode] for pnode in packed.placement.values())
        self.assertEqual(by_host, {"h0": 2, "h1": 2, "h2": 2, "f0": 3, "f1": 3})

    def test_partitionsAreOneHostEach(self) -> None:
        """
        Nodes of partition 7 are together, that of 9 apart, and one without any has a host of its own; force_partition
        has them packed like others.
        """
        items = [Item("a", partition="7"), Item("b", partition="7"), Item("c", partition="9"), Item("d")]
        self.assertEqual(together(self.packed(items, [])), {frozenset("ab"), frozenset("c"), frozenset("d")})
        self.assertEqual(together(self.packed(items, [], force_partition=True)), {frozenset("abcd")})

    def test_anExclusiveNodeIsAlone(self) -> None:
        """
        It shares its host with nobody.
        """
        items = [Item("a"), Item("b", exclusive=True), Item("c")]
        self.assertEqual(together(self.packed(items, [])), {frozenset("ac"), frozenset("b")})

    def test_oneEmbeddedNodePerHost(self) -> None:
        """
        The host itself can be one node, not two.
        """
        items = [Item("a", "embedded"), Item("b", "embedded"), Item("c")]
        packed = self.packed(items, [])
        self.assertNotEqual(packed.placement["a"], packed.placement["b"])
        self.assertEqual(len(packed.pnodes), 2)

    def test_hostsAreNumberedAsTheyAreUsed(self) -> None:
        """
        The first node's host is pnode-0000.
        """
        packed = self.packed([Item("z", partition="9"), Item("a", partition="1")], [])
        self.assertEqual(packed.placement, {"z": "pnode-0000", "a": "pnode-0001"})
        self.assertEqual(list(packed.pnodes), ["pnode-0000", "pnode-0001"])

    def test_saysHowManyHostsAreMissing(self) -> None:
        """
        A packing that wants more hosts than there are is refused with the number.
        """
        error = self.assertRaises(NoRoom, self.packed, nodes(10), [], 1, packing=3)
        self.assertIn("10 nodes want 4 hosts (packing=3); there is 1", error.message)
        self.assertEqual((error.details["wanted"], error.details["left"]), (4, 1))
        self.assertIn("want 3 hosts (size=3); there are 2", self.refused(nodes(10), 2, size=3))
        self.assertIn("want 2 hosts; there is 1", self.refused([Item("a", exclusive=True), Item("b")], 1))

    def test_refusesWhatMeansNothing(self) -> None:
        """
        Options and hosts that cannot be are refused, saying what was wanted.
        """
        for said, text in (
            ({"packing": 0}, "packing: want a whole number from 1, got 0"),
            ({"size": -1}, "size: want a whole number from 1"),
            ({"pass_pack": "0=1"}, "pass_pack: want PASS:NUMBER"),
            ({"pass_pack": "0:x"}, "got '0:x'"),
            ({"pass_size": "0:1,0:2"}, "want pass 0 once"),
            ({"pass_pack": "5:1"}, "no node is of pass 5; nodes are of 0"),
            ({"pakcing": 1}, "did you mean packing"),
        ):
            self.assertIn(text, self.assertRaises(BadValue, self.packed, nodes(2), [], **said).message)
        for bad in (
            {"name": "h0"},
            {"name": ""},
            {"name": "x", "cores": "4"},
            {"name": "x", "kind": []},
            {"name": "x", "kinds": "qemu"},
        ):
            self.assertRaises(BadValue, pack, nodes(1), [], [{"name": "h0"}, bad], Options())


class LimitsTests(SynchronousTestCase):
    """
    What hosts can hold.
    """

    def test_memoryIsNotSharedTwice(self) -> None:
        """
        Nodes of 3 GiB on hosts of 4 GiB are never together.
        """
        there = hosts(3, memory_bytes=4 * GIB)
        self.assertEqual(sizes(pack(nodes(3, memory=3 * GIB), [], there, Options())), [1, 1, 1])

    def test_refusalsNameNodeAndResource(self) -> None:
        """
        Who finds no place, what it wants, and what is left where.
        """
        for item, host, text in (
            (
                Item("db", memory=3 * GIB),
                {"memory_bytes": GIB},
                "node db wants memory_max 3 GiB; host h0 has 1 GiB left",
            ),
            (Item("db", cpu=2000), {"cores": 2}, "node db wants cpu_min 2000; host h0 has 1800 left of 1800 per mille"),
            (Item("db", interfaces=9), {"interfaces": 4}, "node db wants 9 interfaces; host h0 has 4 left of 4"),
            (Item("db", "qemu"), {"kinds": ["process"]}, "node db wants kind qemu; no host that is left has it"),
        ):
            error = self.assertRaises(NoRoom, pack, [item], [], hosts(1, **host), Options())
            self.assertIn(text, error.message)

    def test_tellsOfMissingHostsAndTheNode(self) -> None:
        """
        Two nodes that fill a host each, and one host: which one is left, and how many hosts are wanted.
        """
        error = self.assertRaises(NoRoom, pack, nodes(2, memory=3 * GIB), [], hosts(1, memory_bytes=4 * GIB), Options())
        self.assertIn("want 2 hosts; there is 1: node n1 wants memory_max 3 GiB; host h0 has 1 GiB left", error.message)

    def test_movesWhatIsTooMuch(self) -> None:
        """
        Where the parts with the fewest cut links do not fit, nodes are moved until they do.
        """
        items = [*nodes(4, memory=2 * GIB), *(Item(f"m{at}") for at in range(4))]
        links = [*clique([f"n{at}" for at in range(4)]), *clique([f"m{at}" for at in range(4)])]
        packed = pack(items, links, hosts(2, memory_bytes=4 * GIB), Options.read({"packing": 4}))
        self.assertEqual(sizes(packed), [4, 4])
        heavy = Counter(pnode for node, pnode in packed.placement.items() if node.startswith("n"))
        self.assertEqual(sorted(heavy.values()), [2, 2])

    def test_hostsOfDifferentSizes(self) -> None:
        """
        What fits one large host alone goes there, and kinds go where they can be had.
        """
        there = [{"name": "small", "memory_bytes": GIB}, {"name": "large", "memory_bytes": 9 * GIB, "kinds": ["qemu"]}]
        items = [Item("vm", "qemu", memory=8 * GIB), Item("p")]
        packed = pack(items, [], there, Options())
        self.assertEqual(
            {node: packed.pnodes[at] for node, at in packed.placement.items()}, {"vm": "large", "p": "small"}
        )

    def test_forty(self) -> None:
        """
        An experiment of mixed nodes on forty hosts that the request names.
        """
        items = [Item(f"q{at}", "qemu", memory=GIB, interfaces=2) for at in range(100)]
        items += [Item(f"c{at}", "container", interfaces=1) for at in range(300)]
        links: Links = [(cost(None), [f"q{at}", *(f"c{3 * at + one}" for one in range(3))]) for at in range(100)]
        packed = pack(items, links, hosts(40, cores=8, memory_bytes=4 * GIB), Options.read({"packing": 16}))
        self.assertEqual(len(packed.placement), 400)
        self.assertLessEqual(len(packed.pnodes), 27)
        cut = sum(len({packed.placement[name] for name in names}) > 1 for _, names in links)
        self.assertLess(cut, 20)

    def test_tenThousandNodesInSeconds(self) -> None:
        """
        The largest experiment there may be, on more hosts than anybody has.
        """
        items = [Item(f"n{at}", memory=(at % 3) * GIB, interfaces=2) for at in range(10_000)]
        links: Links = [(cost(None), (f"n{at}", f"n{at + 1}")) for at in range(9_999)]
        started = time.process_time()
        packed = pack(items, links, hosts(2000, memory_bytes=64 * GIB), Options.read({"packing": 10}))
        self.assertLess(time.process_time() - started, 10)
        self.assertEqual(max(sizes(packed)), 10)

    def test_writesBytes(self) -> None:
        """
        Amounts are in the unit that people would use.
        """
        self.assertEqual(
            [in_bytes(one) for one in (7, 1536, 512 << 20, 3 * GIB)], ["7 bytes", "1.5 KiB", "512 MiB", "3 GiB"]
        )


class FixedTests(SynchronousTestCase):
    """
    Nodes that name their host (tb-fix-node).
    """

    def where(self, items: Sequence[Item], links: Links = (), count: int = 4, **options: Any) -> dict[str, str]:
        """The host of each node."""
        packed = pack(items, links, hosts(count, memory_bytes=8 * GIB), Options.read(options))
        return {node: packed.pnodes[at] for node, at in packed.placement.items()}

    def refused(self, items: Sequence[Item], **options: Any) -> str:
        """Why they cannot be placed."""
        return str(self.assertRaises(NoRoom, self.where, items, **options).message)

    def test_goThere(self) -> None:
        """
        They have the host that they name, and the others join them there.
        """
        self.assertEqual(self.where([Item("a"), Item("b", host="h3"), Item("c")]), dict.fromkeys("abc", "h3"))
        found = self.where([Item("a", host="h1"), Item("b", host="h2")])
        self.assertEqual(found, {"a": "h1", "b": "h2"})

    def test_packing(self) -> None:
        """
        A fixed node counts as one of those that a host may have; its neighbours are where it is.
        """
        items = [Item("hub", host="h2"), *nodes(5)]
        links: Links = [(cost(None), ("hub", "n3")), (cost(None), ("hub", "n4"))]
        for options in ({"packing": 3}, {"size": 2}, {"packing": 3, "nodes_only": True}):
            found = self.where(items, links, **options)
            self.assertEqual((found["hub"], len(set(found.values()))), ("h2", 2), options)
            self.assertLessEqual(max(Counter(found.values()).values()), 3 if "packing" in options else 6)
        found = self.where(items, links, packing=3)
        self.assertEqual({found["n3"], found["n4"]}, {"h2"})

    def test_aloneAndByPartition(self) -> None:
        """
        One that is exclusive has that host to itself, and a partition goes where one of its nodes is fixed to.
        """
        found = self.where([Item("a"), Item("b", host="h0", exclusive=True), Item("c", exclusive=True)])
        self.assertEqual((found["b"], len(set(found.values()))), ("h0", 3))
        found = self.where([Item("a", partition="1"), Item("b", partition="2", host="h0"), Item("c", partition="2")])
        self.assertEqual((found["b"], found["c"], found["a"] != "h0"), ("h0", "h0", True))
        found = self.where([Item("a", partition="1", memory=7 * GIB), Item("b", host="h1")])
        self.assertEqual((found["b"], found["a"] != "h1"), ("h1", True))

    def test_passes(self) -> None:
        """
        A pass before it leaves the host alone that a node of a later one is fixed to.
        """
        found = self.where([Item("a"), Item("b", turn="1", host="h0")])
        self.assertEqual((found["b"], found["a"] != "h0"), ("h0", True))

    def test_refusals(self) -> None:
        """
        What cannot be says which node, and why.
        """
        both = [Item("a", host="h1", exclusive=True), Item("b", host="h1")]
        self.assertIn("node b is fixed to host h1, which is another's already", self.refused(both))
        big = [Item("a", memory=5 * GIB, host="h1"), Item("b", memory=5 * GIB, host="h1")]
        self.assertIn("node b wants memory_max 5 GiB; host h1 has 3 GiB left", self.refused(big))
        apart = [Item("a", partition="1", host="h1"), Item("b", partition="1", host="h2")]
        self.assertIn("partition 1: node a is fixed to host h1, node b to h2", self.refused(apart))
        self.assertIn(
            "size=1, but nodes are fixed to 2", self.refused([Item("a", host="h1"), Item("b", host="h2")], size=1)
        )

    def test_modify(self) -> None:
        """
        A node that is fixed anew moves; others stay.
        """
        before = Packed({"n0": "pnode-0000", "n1": "pnode-0001"}, {"pnode-0000": "h0", "pnode-0001": "h1"})
        after = pack([Item("n0", host="h0"), Item("n1"), Item("n2", host="h3")], [], hosts(4), Options(), before)
        self.assertEqual(
            {node: after.pnodes[at] for node, at in after.placement.items()}, {"n0": "h0", "n1": "h1", "n2": "h3"}
        )
        after = pack([Item("n0", host="h3"), Item("n1")], [], hosts(4), Options(), before)
        self.assertEqual(after.pnodes[after.placement["n0"]], "h3")


class StayTests(SynchronousTestCase):
    """
    Nodes that were there before.
    """

    def test_nodesStay(self) -> None:
        """
        A node that comes goes to the host of its neighbours; the others, and the numbers of hosts, are as before.
        """
        items, there = nodes(6), hosts(5)
        before = pack(items, [], there, Options.read({"packing": 3}))
        after = pack([*items[1:], Item("new")], [(100, ("new", "n5"))], there, Options.read({"packing": 3}), before)
        self.assertEqual({**before.placement, **after.placement}, {**before.placement, "new": after.placement["new"]})
        self.assertEqual({pnode: before.pnodes[pnode] for pnode in after.pnodes}, after.pnodes)

    def test_areMovedIfTheyMust(self) -> None:
        """
        Where the new one finds no place otherwise, or another size is asked for, all are packed anew.
        """
        before = Packed({"n0": "pnode-0000", "n1": "pnode-0000"}, {"pnode-0000": "h0"})
        after = pack(nodes(2), [], hosts(2), Options.read({"size": 2}), before)
        self.assertEqual(len(after.pnodes), 2)
        after = pack(nodes(2, memory=3 * GIB), [], hosts(2, memory_bytes=4 * GIB), Options(), before)
        self.assertEqual(len(after.pnodes), 2)

    def test_aHostThatIsGone(self) -> None:
        """
        Nodes of a host that there is no more go to others.
        """
        before = Packed({"n0": "pnode-0000", "n1": "pnode-0001"}, {"pnode-0000": "gone", "pnode-0001": "h1"})
        after = pack(nodes(2), [], hosts(2), Options(), before)
        self.assertEqual(after.placement["n1"], "pnode-0001")
        self.assertNotIn("gone", after.pnodes.values())


_ITEMS = st.lists(
    st.builds(
        Item,
        st.just(""),
        st.sampled_from(["process", "container", "qemu", "embedded"]),
        st.sampled_from([0, 0, 100, 900]),
        st.sampled_from([0, 0, GIB, 2 * GIB]),
        st.integers(0, 3),
        st.one_of(st.none(), st.none(), st.sampled_from(["1", "2"])),
        st.sampled_from(["", "0", "1"]),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=24,
).map(lambda items: [Item(f"n{at}", *_rest(one)) for at, one in enumerate(items)])
_HOSTS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "cores": st.sampled_from([1, 4]),
            "memory_bytes": st.sampled_from([GIB, 4 * GIB]),
            "interfaces": st.sampled_from([4, 20]),
            "kinds": st.sampled_from([["process", "container"], ["process", "container", "qemu", "embedded"]]),
        },
    ),
    min_size=1,
    max_size=30,
).map(lambda all_of_them: [{"name": f"h{at}", **one} for at, one in enumerate(all_of_them)])
_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "packing": st.integers(1, 8),
        "size": st.integers(1, 6),
        "nodes_only": st.booleans(),
        "force_partition": st.booleans(),
    },
)


def _rest(item: Item) -> Iterable[Any]:
    return item.kind, item.cpu, item.memory, item.interfaces, item.partition, item.turn, item.exclusive


class AnyTests(SynchronousTestCase):
    """
    Whatever the nodes, links, hosts and options.
    """

    @settings(max_examples=300, deadline=None)
    @given(_ITEMS, _HOSTS, _OPTIONS, st.randoms(use_true_random=False))
    def test_keepsTheRules(
        self, items: list[Item], there: list[dict[str, Any]], said: dict[str, Any], random: Any
    ) -> None:
        """
        Every node is placed once, no limit of a host is passed, and the same question has the same answer.
        """
        links: Links = [
            (random.randint(1, 100), random.sample([one.name for one in items], min(len(items), random.randint(1, 4))))
            for _ in range(20)
        ]
        options = Options.read(said)
        try:
            packed = pack(items, links, there, options)
        except NoRoom as error:
            self.assertRegex(error.message, "node|partition")
            self.assertEqual(self.assertRaises(NoRoom, pack, items, links, there, options).message, error.message)
            return
        self.assertEqual(pack(items, links, there, options), packed)
        self.assertEqual(list(packed.placement), [one.name for one in items])
        self.assertEqual(set(packed.placement.values()), set(packed.pnodes))
        self.assertEqual(len(set(packed.pnodes.values())), len(packed.pnodes))
        self.assertEqual(sorted(packed.pnodes), [f"pnode-{at:04}" for at in range(len(packed.pnodes))])
        by_user = any(one.partition is not None for one in items) and not options.force_partition
        limits = {one["name"]: one for one in there}
        for pnode, host in packed.pnodes.items():
            its = [one for one in items if packed.placement[one.name] == pnode]
            self._holds(its, limits[host])
            if any(one.exclusive or (by_user and one.partition is None) for one in its):
                self.assertEqual(len(its), 1)
            if by_user:
                self.assertEqual(len({one.partition for one in its}), 1)
            elif len({one.turn or "0" for one in its}) > 1:
                self.fail(f"two passes on one host: {its}")
            if options.packing and not options.size and not by_user:
                self.assertLessEqual(len(its), options.packing)
        if by_user:
            where: dict[str | None, set[str]] = {}
            for one in items:
                if not one.exclusive and one.partition is not None:
                    where.setdefault(one.partition, set()).add(packed.placement[one.name])
            self.assertTrue(all(len(pnodes) == 1 for pnodes in where.values()))

    def _holds(self, its: list[Item], host: dict[str, Any]) -> None:
        if "cores" in host:
            self.assertLessEqual(sum(one.cpu for one in its), host["cores"] * 900)
        if "memory_bytes" in host:
            self.assertLessEqual(sum(one.memory for one in its), host["memory_bytes"])
        if "interfaces" in host:
            self.assertLessEqual(sum(one.interfaces for one in its), host["interfaces"])
        if "kinds" in host:
            self.assertTrue({one.kind for one in its} <= set(host["kinds"]))
        self.assertLessEqual(sum(one.kind == "embedded" for one in its), 1)
