"""
The network of slivers, as far as it is text.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import BadConfig
from hostline.server.config import Network as Settings
from hostline.server.network import bridge, naming
from hostline.server.network.bridge import Names, Way
from hostline.server.network.forwarding import Forwarding
from hostline.server.network.means import Means

NAMES = Names("0123456789abcdef0123456789abcdef")
SUBNET = IPv4Network("10.98.0.0/16")


class NamesTests(SynchronousTestCase):
    """
    What our things in the kernel are called.
    """

    @given(st.integers(0, 36**8 - 1), st.text("0123456789abcdef", min_size=32, max_size=32))
    def test_short(self, serial: int, instance: str) -> None:
        """
        No name is longer than the kernel takes, no group is larger, each is of one sliver.
        """
        names = Names(instance)
        for name in (names.end(serial), names.bridge, names.shaper):
            self.assertLessEqual(len(name), 15)
        self.assertEqual(int(names.end(serial)[7:], 36), serial)
        self.assertTrue(0 < names.group < 2**31)
        self.assertEqual(int(names.hardware(serial)[:2], 16) & 3, 2)

    def test_tooLong(self) -> None:
        """
        A serial that does not fit into a name is refused.
        """
        self.assertRaises(ValueError, NAMES.end, 36**8)

    def test_owner(self) -> None:
        """
        Ours is what has our alias; and what was not finished, by name and group. Nothing else is.
        """
        end, group = NAMES.end(7), str(NAMES.group)
        for link, owner in (
            ({"ifname": end, "group": group, "ifalias": NAMES.alias(7)}, "7"),
            ({"ifname": NAMES.bridge, "group": group, "ifalias": NAMES.alias("bridge")}, "bridge"),
            ({"ifname": end, "group": group}, "?"),
            ({"ifname": end, "group": "default"}, None),
            ({"ifname": "eth0", "group": group}, None),
            ({"ifname": end, "group": group, "ifalias": "hostline fedcba98/7"}, None),
            ({"ifname": end, "group": group, "ifalias": "the boss's"}, None),
            ({"ifname": "eth0"}, None),
        ):
            self.assertEqual(NAMES.owner(link), owner, str(link))


class RulesTests(SynchronousTestCase):
    """
    The tables for nft, as far as one can tell without a kernel.
    """

    def chain(self, way: Way, name: str) -> list[str]:
        lines = bridge.rules(NAMES, way)
        begin = lines.index(f"chain {name} {{")
        return lines[begin + 1 : lines.index("}", begin)]

    def test_noWayOut(self) -> None:
        """
        Without NAT nothing goes out, and nothing is put under the host's address.
        """
        self.assertEqual(self.chain(Way(SUBNET), "out"), ["drop"])
        self.assertNotIn("masquerade", "\n".join(bridge.rules(NAMES, Way(SUBNET))))

    def test_resolversThoughForbidden(self) -> None:
        """
        A resolver can be asked though its network is forbidden; and a cloud's metadata is forbidden always.
        """
        way = Way(SUBNET, True, False, (IPv4Network("10.0.0.0/8"),), (IPv4Address("10.0.0.53"),))
        out = self.chain(way, "out")
        asking = out.index("ip daddr { 10.0.0.53 } meta l4proto { tcp, udp } th dport 53 accept")
        self.assertLess(asking, out.index("ip daddr @forbidden drop"))
        forbidden = next(line for line in bridge.rules(NAMES, way) if line.startswith("set forbidden"))
        self.assertIn("169.254.0.0/16", forbidden)
        self.assertIn("10.0.0.0/8", forbidden)


class RoutedTests(SynchronousTestCase):
    """
    Whether a subnet is in use on the host.
    """

    def test_overlap(self) -> None:
        """
        A route to a part of it, to it, or to more than it, counts; our own bridge's and the default do not.
        """
        for destination, device, found in (
            ("10.98.7.0/24", "eth1", "10.98.7.0/24 dev eth1"),
            ("10.98.7.7", "eth1", "10.98.7.7 dev eth1"),
            ("10.0.0.0/8", "tun0", "10.0.0.0/8 dev tun0"),
            ("10.98.0.0/16", NAMES.bridge, ""),
            ("default", "eth0", ""),
            ("10.99.0.0/16", "eth0", ""),
        ):
            text = json.dumps([{"dst": "192.0.2.0/24", "dev": "eth0"}, {"dst": destination, "dev": device}])
            self.assertEqual(bridge.routed(text, SUBNET, NAMES.bridge), found)


class ConfigTests(SynchronousTestCase):
    """
    The table C{[network]} of the configuration.
    """

    def test_defaults(self) -> None:
        """
        Unasked there is no way out, and slivers do not reach each other.
        """
        self.assertEqual((Settings().nat, Settings().together, Settings().bridge), (False, False, True))

    def test_refused(self) -> None:
        """
        What is no network or address is refused, naming the key; so are subnets that are none, several or too small.
        """
        for name, text in (
            ("subnet", "10.98.0.0/33"),
            ("subnet", "10.98.0.1/16"),
            ("subnet", ""),
            ("subnet", ","),
            ("subnet", " 10.98.0.0/16"),
            ("subnet", "10.98.0.0/16,10.99.0.0/16"),
            ("subnet", "10.98.0.0/30"),
            ("subnet", "fd00::/64"),
            ("forbidden", "lan"),
            ("exempt", "10.0.0.0/8,"),
            ("exempt", ",".join(f"10.0.{n // 256}.{n % 256}" for n in range(5000))),
            ("dns", "localhost"),
        ):
            self.assertIn(f"{name}: ", str(self.assertRaises(BadConfig, Settings, **{name: text})), text)

    def test_taken(self) -> None:
        """
        Lists may have blanks and single addresses.
        """
        Settings(subnet="10.1.0.0/29", forbidden="10.0.0.0/8, 192.0.2.1", dns="192.0.2.1, 192.0.2.2")


class NamingTests(SynchronousTestCase):
    """
    What slivers find in /etc.
    """

    def test_hosts(self) -> None:
        """
        A sliver knows itself by name; without an address only loopback.
        """
        text = naming.hosts("web.exp1.lab", IPv4Address("10.98.0.3"))
        self.assertIn("10.98.0.3\tweb.exp1.lab web\n", text)
        self.assertNotIn("lab_web", naming.hosts("lab_web", None))
        self.assertIn("10.98.0.3\tlab_web\n", naming.hosts("lab_web", IPv4Address("10.98.0.3")))

    def test_resolvers(self) -> None:
        """
        Resolvers that only the host itself can ask, or that want IPv6, are left out; garbage is passed over.
        """
        text = "# x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver\nnameserver 192.0.2.1 # y\nnameserver x\n"
        self.assertEqual(naming.resolvers(text), [IPv4Address("192.0.2.1")])

    def test_hostResolvers(self) -> None:
        """
        Where the host's own file names only loopback, systemd's true one counts.
        """
        directory = Path(self.mktemp())
        directory.mkdir()
        first, second = directory / "a", directory / "b"
        first.write_text("nameserver 127.0.0.53\n")
        second.write_text("nameserver 192.0.2.2\n")
        self.assertEqual(naming.host_resolvers((directory / "none", first, second)), [IPv4Address("192.0.2.2")])
        self.assertEqual(naming.host_resolvers((first,)), [])

    def test_resolvConf(self) -> None:
        """
        All resolvers are named; without any there is no nameserver line, so that asking fails at once.
        """
        self.assertEqual(naming.resolv_conf([IPv4Address("192.0.2.1")]), "nameserver 192.0.2.1\n")
        self.assertNotIn("nameserver", naming.resolv_conf([]))


class ForwardingTests(SynchronousTestCase):
    """
    The host's ip_forward.
    """

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.switch, self.boot = self.directory / "switch", self.directory / "boot"
        self.boot.write_text("one\n")

    def forwarding(self, value: str) -> Forwarding:
        self.switch.write_text(value)
        return Forwarding(self.directory / "note", self.switch, self.boot)

    def test_givenBack(self) -> None:
        """
        What we switched on is switched off, once.
        """
        forwarding = self.forwarding("0\n")
        forwarding.ensure_on()
        self.assertEqual(self.switch.read_text(), "1\n")
        forwarding.give_back(False)
        self.assertEqual(self.switch.read_text(), "0\n")
        self.switch.write_text("1\n")
        forwarding.give_back(False)
        self.assertEqual(self.switch.read_text(), "1\n")

    def test_wasOn(self) -> None:
        """
        What was on before stays on.
        """
        forwarding = self.forwarding("1\n")
        forwarding.ensure_on()
        forwarding.give_back(False)
        self.assertEqual(self.switch.read_text(), "1\n")

    def test_others(self) -> None:
        """
        While another daemon's slivers may need it, it stays on.
        """
        forwarding = self.forwarding("0\n")
        forwarding.ensure_on()
        forwarding.give_back(True)
        self.assertEqual(self.switch.read_text(), "1\n")

    def test_otherBoot(self) -> None:
        """
        After a restart of the host what is on was not switched on by us.
        """
        forwarding = self.forwarding("0\n")
        forwarding.ensure_on()
        self.boot.write_text("two\n")
        forwarding.give_back(False)
        self.assertEqual(self.switch.read_text(), "1\n")


class MeansTests(SynchronousTestCase):
    """
    What a host lacks, in words.
    """

    def test_problems(self) -> None:
        """
        A host that can do all has no problems; each lack is named.
        """
        self.assertEqual(Means().problems(), [])
        self.assertEqual(len(Means(isolated=False, guard=False, tree=False).problems()), 3)
        self.assertIn("not limited", Means(tree=False, own=False).problems()[0])
