"""
Rates, times and the testbed's commands in NS.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments import units
from hostline.server.experiments.ns_testbed import COMMANDS, IDLE
from hostline.server.experiments.topology import TopologyInterface, TopologyNode
from hostline.server.experiments.units import BadUnit
from tests.test_ns import clean, errors, warnings

_TWO = ("set a [$ns node]", "set b [$ns node]", "set l [$ns duplex-link $a $b 10Mb 5ms DropTail]")
_LAN = ("set a [$ns node]", "set b [$ns node]", "set c [$ns node]", 'set l [$ns make-lan "$a $b $c" 10Mb 8ms]')


def node(*lines: str) -> TopologyNode:
    return clean("set a [$ns node]", *lines).nodes[0]


def interfaces(*lines: str) -> list[TopologyInterface]:
    return [one.interfaces[0] for one in clean(*lines).nodes]


class UnitTests(SynchronousTestCase):
    """
    Amounts.
    """

    def test_rates(self) -> None:
        """
        All the units that the ancestors' files use.
        """
        for text, kbps in {
            "10Mb": 10000.0,
            "10M": 10000.0,
            "10Mbps": 10000.0,
            "10mb": 10000.0,
            "1.5Mb": 1500.0,
            "1Gb": 1e6,
            "64kb": 64.0,
            "64Kb": 64.0,
            "64K": 64.0,
            "100000": 100.0,
            "1e6": 1000.0,
            "56kbps": 56.0,
            "20000b": 20.0,
            "10Mbit": 10000.0,
            "10Mb/s": 10000.0,
            "*": None,
            "0.1Gbps": 1e5,
        }.items():
            self.assertEqual(units.rate(text), kbps, text)

    def test_noRates(self) -> None:
        """
        What is no rate, or one in bytes, or too little, is refused.
        """
        for text in (
            "",
            "fast",
            "10Q",
            "10MB",
            "-1Mb",
            "1",
            "9kb",
            "1e99Gb",
            "10 000kb",
            "nan",
            "inf",
            "0",
            "\u0661Mb",
        ):
            self.assertRaises(BadUnit, units.rate, text)

    def test_delays(self) -> None:
        """
        A bare number is seconds.
        """
        for text, ms in {
            "5ms": 5.0,
            "0.005": 5.0,
            "1": 1000.0,
            "1s": 1000.0,
            "300us": 0.3,
            "0": 0.0,
            "2.5msec": 2.5,
        }.items():
            self.assertEqual(units.delay(text), ms, text)
        for text in ("", "5 parsec", "-1ms", "1e9s", "ms", "1m", "nan"):
            self.assertRaises(BadUnit, units.delay, text)

    def test_losses(self) -> None:
        """
        From none to all.
        """
        self.assertEqual([units.loss(one) for one in ("0", "1", "0.02", ".5", "1e-3")], [0.0, 1.0, 0.02, 0.5, 0.001])
        for text in ("", "2%", "1.1", "-0.1", "nan"):
            self.assertRaises(BadUnit, units.loss, text)

    @given(st.text(max_size=12))
    def test_anything(self, text: str) -> None:
        """
        Any text is an amount or refused.
        """
        reads: list[Any] = [units.rate, units.delay, units.loss]
        for read in reads:
            try:
                self.assertIsInstance(read(text), float | None)
            except BadUnit as error:
                self.assertIn("want", str(error))


class NodeTests(SynchronousTestCase):
    """
    What is said of nodes.
    """

    def test_startCommands(self) -> None:
        """
        Both spellings; the last one counts, and quotes stay as they are.
        """
        self.assertEqual(
            node('tb-set-node-startup $a "a"', 'tb-set-node-startcmd $a {x > "y" && z}').start_command, 'x > "y" && z'
        )

    def test_kinds(self) -> None:
        """
        Hardware that names one of our kinds is that kind, also by a type of the text's own.
        """
        for word, kind in {
            "qemu": "qemu",
            "openvz": "container",
            "process": "process",
            "embedded_pnode": "embedded",
        }.items():
            self.assertEqual(node(f"tb-set-hardware $a {word}").kind, kind)
        self.assertEqual(node("tb-set-hardware $a pc").kind, None)
        self.assertEqual(node("tb-make-soft-vtype fast {pc qemu}", "tb-set-hardware $a fast").kind, "qemu")
        self.assertEqual(
            node("tb-make-weighted-vtype w 0.5 {container}", "tb-set-hardware $a w").attributes["type"], "w"
        )
        self.assertEqual(node("tb-add-node-attribute $a containers:node_type qemu").kind, "qemu")

    def test_unknownHardware(self) -> None:
        """
        Other hardware is kept and told of.
        """
        ((line, text),) = warnings("set a [$ns node]", "tb-set-hardware $a pc3000")
        self.assertEqual(line, 3)
        self.assertIn("'pc3000'", text)

    def test_attributes(self) -> None:
        """
        Attributes are kept as they are; the first counts, as the ancestor had it.
        """
        lines = (
            "set a [$ns node]",
            "tb-add-node-attribute $a containers:partition 3",
            "tb-add-node-attribute $a containers:partition 4",
        )
        ((line, text),) = warnings(*lines)
        self.assertEqual((line, "line 3" in text), (4, True))
        self.assertEqual(
            node(lines[1], "tb-add-node-attribute $a my:own {two words}").attributes,
            {"containers:partition": "3", "my:own": "two words"},
        )

    def test_misspelt(self) -> None:
        """
        Attributes that look like slips are told of with their lines.
        """
        ((line, text),) = warnings("set a [$ns node]", "", "tb-add-node-attribute $a container:partition 3")
        self.assertEqual((line, "containers:partition" in text), (4, True))

    def test_resources(self) -> None:
        """
        What a node asks for is checked at once.
        """
        self.assertEqual(
            node("tb-add-node-attribute $a hostline:memory_max 256M").attributes, {"hostline:memory_max": "256M"}
        )
        ((line, text),) = errors("set a [$ns node]", "tb-add-node-attribute $a hostline:memory_max much")
        self.assertEqual((line, "hostline:memory_max: want a whole number" in text), (3, True))

    def test_failureActions(self) -> None:
        """
        Three words, and no other.
        """
        self.assertEqual(node("tb-set-node-failure-action $a ignore").failure_action, "ignore")
        self.assertEqual([line for line, _ in errors("set a [$ns node]", "tb-set-node-failure-action $a explode")], [3])

    def test_software(self) -> None:
        """
        Tar files and packages are kept in the TopDL, and told of as without effect.
        """
        lines = (
            "set a [$ns node]",
            "tb-set-node-tarfiles $a /usr/local http://x/a.tgz",
            "tb-set-node-rpms $a b.rpm c.rpm",
        )
        self.assertEqual([line for line, _ in warnings(*lines)], [3, 4])
        self.assertEqual([line for line, _ in errors("set a [$ns node]", "tb-set-node-tarfiles $a one two three")], [3])


class AddressTests(SynchronousTestCase):
    """
    Addresses.
    """

    def test_all(self) -> None:
        """
        Each of the four commands sets the interface that it names.
        """
        for line in ("tb-set-ip $a", "tb-set-ip-link $a $l", "tb-set-ip-lan $a $l", "tb-set-ip-interface $a $b"):
            self.assertEqual(interfaces(*_TWO, f"{line} 10.3.3.3")[0].ip4, "10.3.3.3", line)

    def test_netmask(self) -> None:
        """
        A netmask is that of all who are on the link.
        """
        self.assertEqual(
            [one.netmask for one in interfaces(*_TWO, "tb-set-netmask $l 255.255.0.0")], ["255.255.0.0"] * 2
        )

    def test_wrong(self) -> None:
        """
        Addresses that are none, of nodes with no link or several, or on links of others are errors with their lines.
        """
        for line in (
            "tb-set-ip $c 10.1.1.1",
            "tb-set-ip-link $c $l 10.1.1.1",
            "tb-set-ip-interface $a $c 10.1.1.1",
            "tb-set-ip nobody 10.1.1.1",
        ):
            self.assertEqual([at for at, _ in errors(*_TWO, "set c [$ns node]", line)], [6], line)
        self.assertEqual([at for at, _ in errors(*_TWO, "tb-set-ip $a 10.1.1.400")], [5])


class ShapeTests(SynchronousTestCase):
    """
    Rate, delay and loss.
    """

    def test_loss(self) -> None:
        """
        A link may be named by itself or by its ends.
        """
        for line in ("tb-set-link-loss $l 0.1", "tb-set-link-loss $b $a 0.1", "tb-set-lan-loss $l 0.1"):
            self.assertEqual(clean(*_TWO, line).links[0].loss, 0.1)

    def test_simplexLink(self) -> None:
        """
        One direction of a link: what its source sends and the other end receives from it.
        """
        a, b = interfaces(*_TWO, "tb-set-link-simplex-params $l $a 30ms 1Mb 0.2")
        self.assertEqual((a.to_rate_kbps, a.to_delay_ms, a.to_loss), (1000.0, 30.0, 0.2))
        self.assertEqual((b.from_rate_kbps, b.from_delay_ms, b.from_loss), (1000.0, 30.0, 0.2))
        self.assertEqual((a.from_rate_kbps, b.to_rate_kbps), (None, None))

    def test_lanNode(self) -> None:
        """
        A node's way to a LAN is half of a path: two such ways have the delay and the loss of both.
        """
        a, *_ = interfaces(*_LAN, "tb-set-node-lan-params $a $l 3ms 1Mb 0.1")
        self.assertEqual((a.rate_kbps, a.delay_ms, a.loss), (1000.0, 6.0, 0.19))
        lines = (
            "tb-set-node-lan-delay $a $l 3ms",
            "tb-set-node-lan-bandwidth $a $l 1Mb",
            "tb-set-node-lan-loss $a $l 0.1",
        )
        self.assertEqual(interfaces(*_LAN, *lines)[0], a)

    def test_lanSimplex(self) -> None:
        """
        Both directions of a node on a LAN, each by itself.
        """
        a, *_ = interfaces(*_LAN, "tb-set-lan-simplex-params $l $a 1ms 1Mb 0 2ms 2Mb 0.5")
        self.assertEqual((a.to_delay_ms, a.to_rate_kbps, a.to_loss), (2.0, 1000.0, 0.0))
        self.assertEqual((a.from_delay_ms, a.from_rate_kbps, a.from_loss), (4.0, 2000.0, 0.75))

    def test_unshaped(self) -> None:
        """
        A link may be as fast as it can be.
        """
        self.assertEqual(clean(*_TWO, "tb-set-noshaping $l 1").links[0].rate_kbps, None)
        self.assertEqual(clean(*_TWO, "tb-set-noshaping $l 0").links[0].rate_kbps, 10000.0)

    def test_queues(self) -> None:
        """
        Queues other than DropTail are told of; no others are known.
        """
        self.assertEqual([at for at, _ in warnings(*_TWO[:2], "$ns duplex-link $a $b 1Mb 0 RED")], [4])
        self.assertEqual([at for at, _ in errors(*_TWO[:2], "$ns duplex-link $a $b 1Mb 0 Fair")], [4])

    def test_routing(self) -> None:
        """
        Static routes are what there is; other protocols are told of, unknown ones are errors.
        """
        clean("set a [$ns node]", "$ns rtproto Static", "$ns rtproto Static-old")
        self.assertEqual([at for at, _ in warnings("set a [$ns node]", "$ns rtproto Manual")], [3])
        self.assertEqual([at for at, _ in errors("set a [$ns node]", "$ns rtproto static")], [3])


class RestTests(SynchronousTestCase):
    """
    What has no effect here.
    """

    def test_idle(self) -> None:
        """
        Every command that the ancestors had is known, and told of in its line.
        """
        arguments = {
            "tb-set-sync-server": "$a",
            "tb-set-colocate-factor": "5",
            "tb-set-cpu-usage": "3",
            "tb-set-mem-usage": "1",
        }
        for name in IDLE:
            ((line, text),) = warnings("set a [$ns node]", f"{name} {arguments.get(name, 'x y')}")
            self.assertEqual(line, 3)
            self.assertTrue(text.startswith(f"{name} has no effect here"), text)

    def test_bounds(self) -> None:
        """
        Numbers are checked though nothing follows from them.
        """
        for line in (
            "tb-set-colocate-factor 101",
            "tb-set-cpu-usage 0",
            "tb-set-mem-usage six",
            "tb-make-weighted-vtype x 2 {a}",
        ):
            self.assertEqual([at for at, _ in errors("set a [$ns node]", line)], [3], line)

    def test_unknown(self) -> None:
        """
        A command that nobody knows is told of with the nearest, and reading goes on.
        """
        ((line, text),) = warnings("set a [$ns node]", "tb-set-node-so $a x", "set b [$ns node]")
        self.assertEqual((line, "did you mean tb-set-node-os" in text), (3, True))

    def test_methods(self) -> None:
        """
        Methods without effect give something that takes everything.
        """
        lines = (
            "set a [$ns node]",
            "set udp [new Agent/UDP]",
            "$udp set packetSize_ 5",
            "$ns attach-agent $a $udp",
            '$ns at 1.0 "$udp start"',
            "$a color red",
            "set q [[$ns create-god 5] queue]",
        )
        self.assertEqual([line for line, _ in warnings(*lines)], [3, 5, 6, 7, 8])

    def test_nothingIsNoNode(self) -> None:
        """
        Where a node is wanted, what is not had here is told of as that.
        """
        ((line, text),) = errors("set a [$ns node]", "set x [$ns blockstore]", "$ns duplex-link $a $x 1Mb 0")
        self.assertEqual((line, "'$ns blockstore'" in text), (4, True))

    def test_counts(self) -> None:
        """
        Too few words or too many are told of with those that are wanted.
        """
        for name, verb in COMMANDS.items():
            ((line, text),) = errors("set a [$ns node]", name)
            self.assertEqual((line, text.startswith(f"{name}: want {verb.usage}")), (3, True), text)

    def test_twice(self) -> None:
        """
        The same remark in the same line is made once, however often the line is run.
        """
        self.assertEqual(len(warnings("set a [$ns node]", "for {set i 0} {$i < 50} {incr i} {$ns foo}")), 1)
