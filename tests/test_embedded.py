"""
Tests for L{hostline.server.drivers.embedded}: which networks an experiment may have on the host itself.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.drivers.embedded import routes, taken

#: As the kernel tells it: a default route, 192.0.2.0/24 and a host in 10.9.0.0/16.
ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
tun0	0500090A	00000000	0005	0	0	0	FFFFFFFF	0	0	0
"""


class NetworksTests(SynchronousTestCase):
    """
    What the host has for itself stays its own.
    """

    def why(self, *networks: str) -> str:
        """Why it cannot be."""
        return taken(map(IPv4Network, networks), routes(ROUTES))

    def test_routes(self) -> None:
        """
        The kernel's table, without the default route: what is behind that is refused by its number.
        """
        self.assertEqual(routes(ROUTES), [("eth0", IPv4Network("192.0.2.0/24")), ("tun0", IPv4Network("10.9.0.5/32"))])

    def test_free(self) -> None:
        """
        Private networks that the host has no use for are what experiments are given.
        """
        self.assertEqual(self.why("10.1.1.0/24", "172.16.3.0/30", "192.168.7.0/24"), "")
        self.assertEqual(self.why(), "")

    def test_own(self) -> None:
        """
        One that holds an address to which the host has a way of its own is refused, larger or smaller.
        """
        self.assertIn("on tun0", self.why("10.1.1.0/24", "10.9.0.0/24"))
        self.assertIn("on tun0", self.why("10.0.0.0/8"))

    def test_world(self) -> None:
        """
        What others have in the world, loopback, and everything at once are refused.
        """
        for network in ("192.0.2.0/30", "8.8.8.0/24", "127.0.0.0/8", "0.0.0.0/0", "224.0.0.0/4", "169.254.0.0/16"):
            self.assertIn("is no private network (10.0.0.0/8", self.why(network), network)
