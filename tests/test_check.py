"""
What C{check_topology} answers.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments import topdl
from hostline.server.experiments.check import check_topology
from hostline.server.experiments.topology import Topology
from tests.test_topdl import SAMPLE, attribute, computer, experiment, interface, substrate


class CheckTests(SynchronousTestCase):
    """
    A text in, all that can be said of it out.
    """

    def test_sample(self) -> None:
        """
        A good text is answered with its nodes, their addresses and its links.
        """
        said = check_topology({"text": SAMPLE})
        self.assertEqual((said["warnings"], said["errors"]), ([], []))
        web, probe = said["nodes"]
        self.assertEqual((web["node"], web["os"], web["start_command"]), ("web", "debian12", "/proj/demo/web.sh"))
        self.assertEqual((web["partition"], web["line"]), ("0", 4))
        self.assertEqual(
            probe["interfaces"],
            [{"name": "inf000", "link": "lan0", "ip4": "10.1.1.3", "netmask": "255.255.255.0", "mac": None}],
        )
        (lan0,) = said["links"]
        self.assertEqual((lan0["link"], lan0["kind"], lan0["members"]), ("lan0", "link", ["web", "probe"]))
        self.assertEqual((lan0["rate_kbps"], lan0["delay_ms"], lan0["loss"]), (100000.0, 5.0, None))

    def test_topology(self) -> None:
        """
        The answer carries the topology as it was written, ready to be kept.
        """
        said = json.loads(json.dumps(check_topology({"text": SAMPLE}), allow_nan=False))
        self.assertEqual(Topology.from_value(said["topology"]), topdl.read(SAMPLE))

    def test_errors(self) -> None:
        """
        Errors and warnings come with their lines, and then there is no topology.
        """
        text = experiment(computer("a", attribute("container:partition", "1")), computer("a"))
        said = check_topology({"text": text})
        self.assertEqual([one["line"] for one in said["warnings"]], [2])
        self.assertEqual([one["line"] for one in said["errors"]], [3])
        self.assertNotIn("topology", said)

    def test_addressErrors(self) -> None:
        """
        Addresses that cannot be are found here, not when the experiment starts.
        """
        same = attribute("ip4_address", "10.1.1.2")
        text = experiment(substrate("l"), *(computer(name, interface("l", same)) for name in "ab"))
        said = check_topology({"text": text})
        self.assertEqual([one["line"] for one in said["errors"]], [4])
        self.assertNotIn("topology", said)

    def test_noTopology(self) -> None:
        """
        What cannot be a topology is refused, and told what is wanted.
        """
        none = ("", " \n", "lab/x-1.ns", "~/exp.xml\n", "[nodes]\na = 1", None, 5, ["<e/>"], {"text": "x"})
        for text in none:
            ((one),) = check_topology({"text": text})["errors"]
            self.assertEqual(one["line"], 1)
            self.assertTrue(one["text"].startswith("want "), one)

    def test_unknownFormat(self) -> None:
        """
        A language that is none is refused with those there are.
        """
        (one,) = check_topology({"text": "x", "format": "yaml"})["errors"]
        self.assertEqual(one["text"], "want one of topdl, ns, toml as format, got 'yaml'")

    def test_ns(self) -> None:
        """
        What does not begin with C{<} is NS, unless its format says otherwise.
        """
        said = check_topology({"text": "\n set ns [new Simulator]\nset a [$ns node]\n$ns run\n"})
        self.assertEqual(([one["node"] for one in said["nodes"]], said["errors"]), (["a"], []))
        said = check_topology({"text": "set ns [new Simulator]", "format": "topdl"})
        self.assertIn("not well-formed XML", said["errors"][0]["text"])

    def test_blanks(self) -> None:
        """
        A byte order mark and blanks before the text are forgiven.
        """
        self.assertEqual(check_topology({"text": "\ufeff \r\n" + SAMPLE})["errors"], [])
