"""
Reading topologies in TOML.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments import toml_form, topdl
from hostline.server.experiments.check import check_topology
from hostline.server.experiments.topology import Topology

SAMPLE = """\
[defaults]
image = "debian12"
[nodes]
hub = {kind = "qemu", memory_max = "1G", packages = ["nginx", "curl"], start = "nginx"}
leaf = {count = 3, start_once = true, cpu_max = 500}
gw = "process"
[links]
spoke = {from = "hub", to = "leaf", rate = "10Mb", delay = "5ms", loss = 0.01}
lan0 = ["hub", "leaf-*"]
up = {nodes = ["gw", "hub"], at.gw = {ip = "10.9.0.9", to_rate = "1Mb", from_delay = "2ms"}}
line = {chain = "leaf-*"}
"""


def clean(text: str) -> Topology:
    topology = toml_form.read(text)
    assert topology.findings == (), topology.findings
    return topology


def errors(text: str) -> list[tuple[int, str]]:
    return [(one.line, one.text) for one in toml_form.read(text).errors]


class ReadTests(SynchronousTestCase):
    """
    What a text means.
    """

    def test_nodes(self) -> None:
        """
        Nodes by kind or by keys, or many by C{count}, each with the defaults that it does not change.
        """
        hub, leaf, *_, gw = clean(SAMPLE).nodes
        self.assertEqual([one.name for one in clean(SAMPLE).nodes], ["hub", "leaf-0", "leaf-1", "leaf-2", "gw"])
        self.assertEqual((hub.kind, hub.os, hub.start_command, hub.line), ("qemu", "debian12", "nginx", 4))
        self.assertEqual((hub.packages, hub.attributes["hostline:memory_max"]), (("nginx", "curl"), "1G"))
        self.assertEqual((leaf.once, leaf.attributes["hostline:cpu_max"], leaf.line), (True, "500", 5))
        self.assertEqual((gw.kind, gw.line), ("process", 6))

    def test_environment(self) -> None:
        """
        A table of variables for start commands; a name that no variable can have is a warning with its line.
        """
        topology = toml_form.read('nodes = {a = {}}\n[environment]\nSIZE = 5\n"X-Y" = "1"\n')
        self.assertEqual(topology.environment, {"SIZE": "5"})
        self.assertEqual([(one.line, one.severity) for one in topology.findings], [(4, "warning")])
        self.assertEqual(errors("nodes = {a = {}}\n[environment]\nSIZE = []")[0][0], 3)

    def test_links(self) -> None:
        """
        LANs by a list, links by C{from} and C{to}, or by a chain.
        """
        topology = clean(SAMPLE)
        members = {one.name: [node for node, _ in one.members] for one in topology.links}
        self.assertEqual(
            members,
            {
                **{f"spoke-{n}": ["hub", f"leaf-{n}"] for n in range(3)},
                "lan0": ["hub", "leaf-0", "leaf-1", "leaf-2"],
                "up": ["hub", "gw"],
                "line-0": ["leaf-0", "leaf-1"],
                "line-1": ["leaf-1", "leaf-2"],
            },
        )
        self.assertEqual(
            [(one.rate_kbps, one.delay_ms, one.loss, one.line) for one in topology.links[:1]], [(1e4, 5.0, 0.01, 8)]
        )

    def test_interfaces(self) -> None:
        """
        What is so for one node on a link alone.
        """
        (one,) = clean(SAMPLE).nodes[-1].interfaces
        self.assertEqual((one.ip4, one.to_rate_kbps, one.from_delay_ms), ("10.9.0.9", 1000.0, 2.0))

    def test_topdl(self) -> None:
        """
        The TopDL of a text is read as the same topology.
        """
        topology = clean(SAMPLE)
        self.assertEqual(topdl.read(topdl.write(topology.document)), topology)

    def test_attributes(self) -> None:
        """
        Any other attribute may be given by its name.
        """
        (node,) = clean('[nodes.a]\nattributes = {"my:own" = "x y"}\npartition = 3\nghost = true\n').nodes
        self.assertEqual((node.attributes["my:own"], node.partition, node.ghost), ("x y", "3", True))

    def test_tables(self) -> None:
        """
        Long forms are as good as short ones.
        """
        text = '[nodes.a]\nkind = "process"\n[nodes.b]\n[links.l]\nnodes = ["a", "b"]\nnetmask = "255.255.0.0"\n'
        text += '[links.l.at.a]\nip = "10.1.0.1"\n'
        topology = clean(text)
        self.assertEqual([one.line for one in topology.nodes], [1, 3])
        self.assertEqual([one.interfaces[0].netmask for one in topology.nodes], ["255.255.0.0"] * 2)

    def test_format(self) -> None:
        """
        The command reads it when it is told to.
        """
        said = check_topology({"text": SAMPLE, "format": "toml"})
        self.assertEqual((len(said["nodes"]), said["errors"]), (5, []))


class ErrorTests(SynchronousTestCase):
    """
    What is told of what is wrong, and of which line.
    """

    def test_lines(self) -> None:
        """
        Each mistake is told of in its line, many at once.
        """
        text = """\
[nodes]
a = {kind = "procces"}
b = {memory = 5}
c = {count = 0}
d = 5
e = {cpu_max = "much"}
"bad name" = "process"
[links]
l = ["a", "z"]
m = {nodes = ["a", "b"], rate = "fast", delay = 5}
n = {nodes = ["a", "b"], loss = 2}
o = {from = "a"}
p = {nodes = ["a", "b"], at.d = {ip = "10.1.1.1"}}
q = {nodes = ["a", "b"], at.a = {addr = "10.1.1.1"}}
[lnks]
"""
        found = errors(text)
        self.assertEqual([line for line, _ in found], [2, 3, 4, 5, 6, 7, 9, 10, 10, 11, 12, 13, 14, 15])
        for line, part in {
            3: "memory_max",
            9: "no node 'z'",
            10: "10Mb",
            13: "not on this link",
            14: "'addr'",
            15: "links",
        }.items():
            self.assertTrue(any(at == line and part in said for at, said in found), (line, part, found))

    def test_syntax(self) -> None:
        """
        What is no TOML is told of where its reader stopped.
        """
        ((line, text),) = errors("[nodes]\na = {}\nb = = 5\n")
        self.assertEqual(line, 3)
        self.assertTrue(text.startswith("not TOML: "))
        self.assertEqual([at for at, _ in errors("[nodes]\na = {}\na = {}\n")], [3])
        self.assertEqual([at for at, _ in errors('[nodes]\na = "x')], [2])

    def test_nothing(self) -> None:
        """
        A text without nodes is no topology.
        """
        for text in ("", "[nodes]\n", "[links]\n", "nodes = 5", "links = []"):
            self.assertEqual(len(errors(text)), 1, text)

    def test_tooMuch(self) -> None:
        """
        Nodes and links are bounded, and what is nested too deep is not read.
        """
        self.assertIn("10000", errors("[nodes]\na = {count = 10001}")[0][1])
        self.assertIn("10000 nodes", errors("[nodes]\na = {count = 10000}\nb = {}")[0][1])
        self.assertIn("10000 links", errors("[nodes]\na = {count = 200}\n[links]\nl = {from = 'a', to = 'a'}")[0][1])
        self.assertIn("deep", errors("a = " + "[" * 100_000)[0][1])
        self.assertIn("1024 KiB", errors("#" * 2**20 + "#")[0][1])

    @settings(max_examples=60)
    @given(st.text(alphabet=st.sampled_from(list("[]{}=\"'.,\n #ab1nodeslik")), max_size=50))
    def test_anything(self, text: str) -> None:
        """
        Whatever the text is, there is an answer with lines that it has.
        """
        for one in toml_form.read(text).findings:
            self.assertTrue(1 <= one.line <= text.count("\n") + 1, one)
