"""
Tests for L{hostline.server.experiments.placing}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments.placing import Made, Means, settle
from hostline.server.experiments.topology import TopologyInterface, TopologyNode
from hostline.server.slivers.rspec import DEFAULTS, OF_PROCESSES

KINDS = {"process": "", "container": "", "qemu": "", "account": "", "embedded": ""}
IMAGES = (
    {"name": "debian12", "serial": 7, "kind": "container", "why": ""},
    {"name": "debian12-vm", "serial": 8, "kind": "qemu", "why": ""},
    {"name": "soon", "serial": 9, "kind": "container", "why": "image soon is being made"},
)
DEFAULT = {"container": "debian12", "qemu": "debian12-vm"}


def means(**said: Any) -> Means:
    """
    All kinds, two images that can be used, and both are defaults.
    """
    return Means(**{"kinds": KINDS, "images": IMAGES, "defaults": DEFAULT, "embedded": True, **said})


class SettleTests(SynchronousTestCase):
    """
    What nodes are made as.
    """

    def made(self, its_means: Means | None = None, **said: Any) -> Made:
        """One node, of which nothing is said to be wrong."""
        settled, findings = settle([TopologyNode("web", line=3, **said)], its_means or means())
        self.assertEqual([one for one in findings if one.severity == "error"], [])
        return settled["web"]

    def wrong(self, its_means: Means | None = None, **said: Any) -> str:
        """What is wrong with a node."""
        settled, (finding,) = settle([TopologyNode("web", line=3, **said)], its_means or means())
        self.assertEqual((settled, finding.severity, finding.line), ({}, "error", 3))
        self.assertTrue(finding.text.startswith("node web: "), finding.text)
        return str(finding.text)

    def test_kind(self) -> None:
        """
        A node's own kind counts most, then that of its image, then the configuration's.
        """
        self.assertEqual(self.made().kind, "process")
        self.assertEqual(self.made(means(kind="container")).kind, "container")
        self.assertEqual(self.made(os="debian12-vm").kind, "qemu")
        self.assertEqual(self.made(kind="account").kind, "account")
        alone = means(kind="qemu", kind_alone="embedded")  # Benito's mixed experiments
        self.assertEqual(self.made(alone).kind, "embedded")
        self.assertEqual(self.made(alone, partition="0").kind, "qemu")
        self.assertEqual(self.made(alone, os="debian12").kind, "container")

    def test_image(self) -> None:
        """
        A container or machine is made from the image it names, else from the configuration's; a process from none.
        """
        self.assertEqual(self.made(kind="container").image, 7)
        self.assertEqual((self.made(kind="qemu").image, self.made(kind="qemu").image_name), (8, "debian12-vm"))
        self.assertEqual(self.made(os="debian12").image, 7)
        self.assertIsNone(self.made().image)

    def test_refusesImages(self) -> None:
        """
        One that is not there is refused with a near one; so are one of another kind, one that is not whole, and none.
        """
        self.assertIn(
            "no image 'debian21' of kind container (did you mean debian12?)",
            self.wrong(kind="container", os="debian21"),
        )
        self.assertIn("image debian12-vm is for nodes of kind qemu", self.wrong(kind="container", os="debian12-vm"))
        self.assertIn("image soon is being made", self.wrong(os="soon"))
        self.assertIn("wants an image", self.wrong(means(defaults={}), kind="qemu"))
        self.assertIn("no image 'x' of kind container", self.wrong(means(kind="container"), os="x"))

    def test_warnsOfASystemThatAProcessCannotHave(self) -> None:
        """
        A process that names an operating system which is no image is made, and told that it has the host's.
        """
        settled, (finding,) = settle([TopologyNode("web", os="FBSD")], means())
        self.assertEqual((settled["web"].kind, finding.severity), ("process", "warning"))
        self.assertIn("'FBSD'", finding.text)

    def test_warnsOfHostsThatAreShared(self) -> None:
        """
        Who wants a host to itself is told where other experiments may be there all the same.
        """
        node = TopologyNode("web", attributes={"hostline:exclusive": "1"}, line=3)
        (finding,) = settle([node], means(exclusive=False))[1]
        self.assertEqual((finding.severity, finding.line), ("warning", 3))
        self.assertIn("experiments.exclusive is off", finding.text)
        self.assertEqual(settle([node], means())[1], ())

    def test_refusesKindsThatAreNotHere(self) -> None:
        """
        With the reason, if it is known, and the kinds that there are.
        """
        text = self.wrong(means(kinds={"process": "", "qemu": "no qemu-system-x86_64"}), kind="qemu", os="debian12-vm")
        self.assertIn("no qemu-system-x86_64", text)
        self.assertIn("process", text)
        self.assertIn("experiments.embedded", self.wrong(means(embedded=False), kind="embedded"))

    def test_resources(self) -> None:
        """
        What attributes ask for, with suffixes for bytes; the rest are the kind's defaults.
        """
        asked = {"hostline:memory_max": "3G", "hostline:cpu_min": "250", "hostline:disk_max": "2 GiB", "other": "9"}
        made = self.made(kind="container", attributes=asked)
        self.assertEqual(made.rspec, {**DEFAULTS, "memory_max": 3 << 30, "cpu_min": 250, "disk_max": 2 << 20})
        self.assertEqual(self.made().rspec, OF_PROCESSES)
        self.assertEqual(self.made(kind="account").rspec, DEFAULTS)

    def test_refusesResources(self) -> None:
        """
        What is no amount, or none of the kind's, is refused naming it.
        """
        for attributes, text in (
            ({"hostline:memory_max": "much"}, "memory_max: want a whole number"),
            ({"hostline:cpu_min": "2G"}, "cpu_min: want a whole number"),
            ({"hostline:memory_max": "1"}, "memory_max: want a whole number from 16777216"),
            ({"hostline:disk_max": "20000"}, "disk_max: a node of kind process is given"),
            ({"hostline:cpu_min": "10", "hostline:cpu_pct": "1"}, "want cpu_min once"),
            ({"hostline:cpu_min": "9" * 30}, "cpu_min: want a whole number"),
        ):
            self.assertIn(text, self.wrong(attributes=attributes))

    def test_memoryIsKept(self) -> None:
        """
        All of a machine's, and what others ask for by name; a default is a bound, not a promise.
        """
        self.assertEqual(self.made(kind="qemu").memory, DEFAULTS["memory_max"])
        self.assertEqual(self.made(kind="container").memory, 0)
        self.assertEqual(self.made(attributes={"hostline:memory_max": "64M"}).memory, 64 << 20)

    def test_interfaces(self) -> None:
        """
        An account has none; a QEMU machine seven, or as many as was asked for, and the count is told.
        """
        nine = [TopologyInterface(f"i{at}", f"l{at}") for at in range(9)]
        self.assertIn("has no interfaces, got 9", self.wrong(kind="account", interfaces=nine))
        self.assertIn("9 interfaces wanted; a QEMU machine has 7 at most", self.wrong(kind="qemu", interfaces=nine))
        self.made(means(nics=9), kind="qemu", interfaces=nine)
        self.made(kind="container", interfaces=nine)

    def test_packages(self) -> None:
        """
        Packages are for what has a root of its own.
        """
        self.made(kind="container", attributes={"hostline:packages": "iperf3 tcpdump"})
        self.assertIn("is for kinds container and qemu", self.wrong(attributes={"hostline:packages": "iperf3"}))
