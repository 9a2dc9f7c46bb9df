"""
Reading and writing TopDL.
"""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadValue
from hostline.server.experiments import document, topdl
from hostline.server.experiments.topology import Topology

#: The ancestors' little sample.
SAMPLE = """\
<experiment><version>1.0</version>
 <substrates><name>lan0</name><capacity><rate>100000.0</rate><kind>max</kind></capacity>
  <latency><time>5.0</time><kind>average</kind></latency></substrates>
 <elements><computer><name>web</name>
  <os><attribute><attribute>osid</attribute><value>debian12</value></attribute></os>
  <interface><substrate>lan0</substrate><name>inf000</name>
   <attribute><attribute>ip4_address</attribute><value>10.1.1.2</value></attribute></interface>
  <attribute><attribute>startup</attribute><value>/proj/demo/web.sh</value></attribute>
  <attribute><attribute>partition</attribute><value>0</value></attribute></computer></elements>
 <elements><computer><name>probe</name>
  <interface><substrate>lan0</substrate></interface></computer></elements>
</experiment>"""


def attribute(name: str, value: str) -> str:
    return f"<attribute><attribute>{name}</attribute><value>{value}</value></attribute>"


def computer(name: str, *parts: str) -> str:
    return f"<elements><computer><name>{name}</name>{''.join(parts)}</computer></elements>"


def interface(substrate: str, *parts: str) -> str:
    return f"<interface><substrate>{substrate}</substrate>{''.join(parts)}</interface>"


def substrate(name: str, *parts: str) -> str:
    return f"<substrates><name>{name}</name>{''.join(parts)}</substrates>"


def experiment(*lines: str) -> str:
    """
    One argument per line; the first is line 2.
    """
    return "\n".join(["<experiment>", *lines, "</experiment>"])


def errors(text: str) -> list[tuple[int, str]]:
    return [(one.line, one.text) for one in topdl.read(text).errors]


def warnings(text: str) -> list[tuple[int, str]]:
    return [(one.line, one.text) for one in topdl.read(text).warnings]


class ReadTests(SynchronousTestCase):
    """
    What a text means.
    """

    def clean(self, text: str) -> Topology:
        topology = topdl.read(text)
        self.assertEqual(topology.findings, ())
        return topology

    def test_sample(self) -> None:
        """
        The sample that the ancestors' users know is read whole and without remark.
        """
        web, probe = self.clean(SAMPLE).nodes
        self.assertEqual((web.name, web.os, web.partition, web.line), ("web", "debian12", "0", 4))
        self.assertEqual(web.start_command, "/proj/demo/web.sh")
        self.assertEqual(web.attributes, {"startup": "/proj/demo/web.sh", "partition": "0"})
        self.assertEqual([(one.name, one.link, one.ip4) for one in web.interfaces], [("inf000", "lan0", "10.1.1.2")])
        self.assertEqual((probe.name, probe.os, probe.partition, probe.start_command), ("probe", None, None, None))
        self.assertEqual([(one.name, one.link, one.ip4) for one in probe.interfaces], [("inf000", "lan0", None)])
        (lan0,) = self.clean(SAMPLE).links
        self.assertEqual((lan0.kind, lan0.rate_kbps, lan0.delay_ms, lan0.loss), ("link", 100000.0, 5.0, None))
        self.assertEqual(lan0.members, (("web", "inf000"), ("probe", "inf000")))

    def test_partitions(self) -> None:
        """
        All spellings of a partition mean the same, and names are as good as numbers.
        """
        for name in ("partition", "benito:partition", "containers:partition"):
            for value in ("7", "rack-a"):
                (node,) = self.clean(experiment(computer("a", attribute(name, value)))).nodes
                self.assertEqual(node.partition, value)

    def test_partitionsDiffer(self) -> None:
        """
        Where spellings contradict each other the newest holds, and the user is told.
        """
        text = experiment("", computer("a", attribute("partition", "1"), attribute("containers:partition", "2")))
        self.assertEqual(topdl.read(text).nodes[0].partition, "2")
        self.assertEqual([line for line, _ in warnings(text)], [3])

    def test_kinds(self) -> None:
        """
        The ancestor's container types are ours under today's names.
        """
        names = {"qemu": "qemu", "openvz": "container", "process": "process", "embedded_pnode": "embedded"}
        for old, new in names.items():
            (node,) = self.clean(experiment(computer("a", attribute("containers:node_type", old)))).nodes
            self.assertEqual(node.kind, new)
        ((line, text),) = errors(experiment("", computer("a", attribute("containers:node_type", "vmware"))))
        self.assertEqual(line, 3)
        self.assertIn("'vmware'", text)

    def test_failureAction(self) -> None:
        """
        A node may be allowed to fail; a word that means nothing is an error.
        """
        (node,) = self.clean(experiment(computer("a", attribute("failureaction", "nonfatal")))).nodes
        self.assertEqual(node.failure_action, "nonfatal")
        self.assertEqual(self.clean(experiment(computer("a"))).nodes[0].failure_action, "fatal")
        self.assertEqual([line for line, _ in errors(experiment(computer("a", attribute("failureaction", "no"))))], [2])

    def test_hostNames(self) -> None:
        """
        A node may not be called like one of the experiment's hosts: the lists could not tell them apart.
        """
        self.assertEqual([line for line, _ in errors(experiment(computer("pnode-0000")))], [2])
        self.assertEqual(self.clean(experiment(computer("pnode-x"))).nodes[0].name, "pnode-x")

    def test_interfaceNames(self) -> None:
        """
        Interfaces without a name get inf000 and so on, past those that are taken.
        """
        text = experiment(
            substrate("l"), computer("a", interface("l"), interface("l", "<name>inf000</name>"), interface("l"))
        )
        self.assertEqual([one.name for one in self.clean(text).nodes[0].interfaces], ["inf001", "inf000", "inf002"])

    def test_interfaceOverrides(self) -> None:
        """
        What an interface says of rate, delay and loss is its own.
        """
        shape = "<capacity><rate>10</rate><kind>avg</kind></capacity><latency><time>2.5</time></latency>"
        text = experiment(
            substrate("l", attribute("loss", "0.5")),
            computer("a", interface("l", shape, attribute("loss", "0.02"))),
            computer("b", interface("l")),
        )
        topology = self.clean(text)
        a, b = (node.interfaces[0] for node in topology.nodes)
        self.assertEqual((a.rate_kbps, a.delay_ms, a.loss), (10.0, 2.5, 0.02))
        self.assertEqual((b.rate_kbps, b.delay_ms, b.loss), (None, None, None))
        self.assertEqual(topology.links[0].loss, 0.5)

    def test_interfaceOnTwoSubstrates(self) -> None:
        """
        An interface on two substrates becomes two, and the user is told.
        """
        text = experiment(
            substrate("l"),
            substrate("m"),
            computer("a", interface("l", "<substrate>m</substrate>", attribute("ip4_address", "10.0.0.5"))),
        )
        found = [(one.name, one.link, one.ip4) for one in topdl.read(text).nodes[0].interfaces]
        self.assertEqual(found, [("inf000", "l", "10.0.0.5"), ("inf001", "m", None)])
        self.assertEqual([line for line, _ in warnings(text)], [4])

    def test_addresses(self) -> None:
        """
        Address, netmask and MAC are read under the names that the ancestors used.
        """
        given = [
            ("ip4_address", "10.2.0.1"),
            ("ip4_netmask", "255.255.0.0"),
            ("benito:mac_address", "02:0A:00:00:00:01"),
        ]
        text = experiment(substrate("l"), computer("a", interface("l", *(attribute(*one) for one in given))))
        one = self.clean(text).nodes[0].interfaces[0]
        self.assertEqual((one.ip4, one.netmask, one.mac), ("10.2.0.1", "255.255.0.0", "02:0a:00:00:00:01"))

    def test_addressesWhenWrong(self) -> None:
        """
        What is not an address, a netmask or a MAC of one machine is an error in its line.
        """
        wrong = {
            "ip4_address": ["10.1.1", "10.1.1.300", "host", "::1", "10.1.1.2/24"],
            "ip4_netmask": ["255.0.255.0", "0.0.0.255", "24", "x"],
            "containers:mac_address": ["01:00:00:00:00:01", "02:00", "x"],
        }
        for name, values in wrong.items():
            for value in values:
                text = experiment(substrate("l"), computer("a", "\n", interface("l", attribute(name, value))))
                self.assertEqual([line for line, _ in errors(text)], [4], value)

    def test_topoXml(self) -> None:
        """
        The ancestor's final topology, with its hosts and control network, gives the virtual nodes alone.
        """
        text = experiment(
            substrate("control_net"),
            substrate("l"),
            computer("pnode-0000", attribute("containers:node_type", "pnode"), interface("control_net")),
            computer("a", interface("control_net"), interface("l")),
            computer("b", interface("l")),
        )
        topology = topdl.read(text)
        self.assertEqual(topology.errors, ())
        self.assertEqual([node.name for node in topology.nodes], ["a", "b"])
        self.assertEqual([one.name for one in topology.links], ["l"])
        self.assertEqual([(one.name, one.link) for one in topology.nodes[0].interfaces], [("inf001", "l")])
        self.assertEqual([line for line, _ in warnings(text)], [2, 4])
        self.assertIn("pnode-0000", warnings(text)[1][1])

    def test_otherElements(self) -> None:
        """
        Elements that are no computers are kept in the text and named.
        """
        text = experiment(computer("a"), "<elements><segment><type>x</type></segment></elements>")
        self.assertEqual([line for line, _ in warnings(text)], [3])
        self.assertEqual(errors(text), [])
        self.assertIn("<segment><type>x</type></segment>", topdl.write(topdl.read(text).document))

    def test_prefix(self) -> None:
        """
        A text whose elements have a namespace, with or without a prefix, means the same.
        """
        plain = experiment(substrate("l"), computer("a", interface("l")))
        spaced = plain.replace("<experiment>", '<experiment xmlns="http://example.org/topdl">')
        prefixed = plain.replace("</", "<#").replace("<", "<t:").replace("<t:#", "</t:")
        prefixed = prefixed.replace("<t:experiment>", '<t:experiment xmlns:t="http://example.org/topdl">')
        for text in (spaced, prefixed):
            self.assertEqual(self.clean(text).nodes, self.clean(plain).nodes)

    def test_blanks(self) -> None:
        """
        A byte order mark, leading blanks and blanks around values do no harm; lines stay right.
        """
        text = "\ufeff\n\n<?xml version='1.0' encoding='latin-1'?>\n" + experiment(
            "<elements><computer><name>\n a </name><!-- c -->",
            attribute("startup", "\n x y<!-- c --> z\n"),
            "</computer></elements>",
        )
        (node,) = self.clean(text).nodes
        self.assertEqual((node.name, node.start_command, node.line), ("a", "x y z", 5))


class ErrorTests(SynchronousTestCase):
    """
    What is wrong, and where.
    """

    def test_several(self) -> None:
        """
        All mistakes are told at once, each with its line.
        """
        text = experiment(
            substrate("l"),
            substrate("l"),
            computer("a", interface("nowhere")),
            computer("a"),
            computer("b", "<interface/>"),
            computer("ü"),
            "<elements><computer/></elements>",
            "<elements><computer><name>c</name></computer><computer><name>d</name></computer></elements>",
            "<substrates/>",
        )
        found = errors(text)
        self.assertEqual([line for line, _ in found], [3, 4, 5, 6, 7, 8, 9, 10])
        parts = [
            "substrate l is there twice, first in line 2",
            "no substrate 'nowhere'",
            "node a is there twice, first",
        ]
        parts += [
            "at least one <substrate>",
            "A-Z, a-z, 0-9",
            "want a <name> for a node",
            "exactly one",
            "want a <name>",
        ]
        for part, (_, said) in zip(parts, found, strict=True):
            self.assertIn(part, said)

    def test_names(self) -> None:
        """
        Names that would not do as a host name are refused, and the rule is told.
        """
        for name in ("", " ", "a.b", "a b", "-rf", "a/b", "x" * 64, "a\nb", "&lt;"):
            self.assertEqual([line for line, _ in errors(experiment(computer(name)))], [2], name)
        for name in ("a", "0", "_", "N-3", "x" * 63):
            self.assertEqual(errors(experiment(computer(name))), [])

    def test_namesDifferInCase(self) -> None:
        """
        Names that DNS cannot tell apart are remarked on.
        """
        self.assertEqual([line for line, _ in warnings(experiment(computer("a"), computer("A")))], [3])

    def test_interfaceTwice(self) -> None:
        """
        Two interfaces of a node cannot have one name.
        """
        text = experiment(
            substrate("l"), "", computer("a", interface("l", "<name>x</name>"), interface("l", "<name>x</name>"))
        )
        self.assertEqual([line for line, _ in errors(text)], [4])

    def test_numbers(self) -> None:
        """
        Rates, delays and losses that cannot be are errors in their lines.
        """
        for part in (
            *(
                f"<capacity><rate>{value}</rate></capacity>"
                for value in ("0", "-1", "nan", "inf", "10Mb", "", "1_0", "٣")
            ),
            *(f"<latency><time>{value}</time></latency>" for value in ("-1", "1e9", "5ms")),
            *(attribute("loss", value) for value in ("1.5", "-0.1", "x")),
            "<capacity/>",
            "<latency><kind>max</kind></latency>",
        ):
            self.assertEqual([line for line, _ in errors(experiment(substrate("l", part), computer("a")))], [2], part)

    def test_noNode(self) -> None:
        """
        A text without any computer is refused: it is some other XML.
        """
        for text in ("<html/>", experiment(substrate("l")), "<e><elements/></e>"):
            self.assertIn("there is no node here", " ".join(said for _, said in errors(text)))

    def test_markup(self) -> None:
        """
        A start command that forgot to escape its '<' is not cut off in silence.
        """
        text = experiment("", computer("a", attribute("startup", "echo <b>x</b>")))
        self.assertEqual([line for line, _ in errors(text)], [3])

    def test_notXml(self) -> None:
        """
        What is not XML gives one error with its line.
        """
        for text, line in (
            ("<a>\n<b></a>", 2),
            ("\n\n<a>\n&nbsp;</a>", 4),
            ("<a/>\n<a/>", 2),
            ("<a\n\ud800/>", 2),
            ("<a>\n\0</a>", 2),
            ("<a>\n&#0;</a>", 2),
            ("", 1),
            ("<", 1),
        ):
            self.assertEqual([found for found, _ in errors(text)], [line], text)
            self.assertIsNone(topdl.read(text).document)

    def test_bombs(self) -> None:
        """
        Entity bombs, outside entities and document types are refused, at once, without touching any file or net.
        """
        levels = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
        bombs = [
            f'<!DOCTYPE e [<!ENTITY l0 "lol">{levels}]>\n<e>&l9;</e>',
            '<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]><e>&x;</e>',
            '<!DOCTYPE e SYSTEM "http://127.0.0.1:9/e.dtd"><e/>',
            '<!DOCTYPE e [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p">%p;]><e/>',
            f'<!DOCTYPE e [<!ENTITY a "{"x" * 100_000}">]><e>{"&a;" * 10_000}</e>',
            "<!DOCTYPE e><e/>",
        ]
        began = time.monotonic()
        for text in bombs:
            ((line, said),) = errors("\n" + text)
            self.assertEqual(line, 2)
            self.assertIn("not read", said)
        self.assertLess(time.monotonic() - began, 1)

    def test_limits(self) -> None:
        """
        Texts that are too large or too deep are refused, and the limit is told.
        """
        self.assertEqual(errors("<a>" + "x" * document.TEXT_MAX + "</a>")[0][1][:26], "want at most 4194304 bytes")
        deep = document.DEPTH_MAX
        self.assertIn("no node", errors("<a>" * deep + "</a>" * deep)[0][1])
        self.assertEqual(errors("<a>\n" + "<a>" * 100_000), [(2, "want at most 64 elements inside one another")])

    def test_nodesMax(self) -> None:
        """
        One node more than the limit is refused, and the limit is told.
        """
        text = experiment("<elements><computer><name>a</name></computer></elements>" * 10_001)
        self.assertEqual(errors(text), [(1, "want at most 10000 nodes, got 10001")])

    @settings(max_examples=100, deadline=None)
    @given(st.text(alphabet="<>/ae &;!-?[]\"'=x\n", max_size=40) | st.text(max_size=40))
    def test_anything(self, text: str) -> None:
        """
        No text gives an exception.
        """
        topdl.read(text)
        topdl.read(f"<e>{text}</e>")
        topdl.read(SAMPLE.replace("lan0", text, 1))


class LintTests(SynchronousTestCase):
    """
    Slips that the ancestors said nothing about.
    """

    def warned(self, name: str) -> str | None:
        text = experiment("", "<elements><computer><name>a</name>", attribute(name, "1"), "</computer></elements>")
        found = warnings(text)
        self.assertEqual([line for line, _ in found], [4] * len(found))
        self.assertLess(len(found), 2)
        return found[0][1] if found else None

    def test_meant(self) -> None:
        """
        A misspelt attribute is told of with its line and the right name.
        """
        for slip, right in {
            "container:partition": "containers:partition",
            "containers::partition": "containers:partition",
            "Containers:Partition": "containers:partition",
            "containers:partiton": "containers:partition",
            "containers:partitionpass": "containers:PartitionPass",
            "container:node_type": "containers:node_type",
            "benitto:partition": "benito:partition",
            "partion": "partition",
            "startupp": "startup",
            "Startup": "startup",
            "start_command": "startup",
            "failure_action": "failureaction",
        }.items():
            self.assertIn(f"did you mean {right}?", self.warned(slip) or "", slip)

    def test_unknown(self) -> None:
        """
        An unknown name under the ancestor's own prefixes is told of; the user's own names are nobody's business.
        """
        self.assertIn("unknown attribute 'containers:colour'", self.warned("containers:colour") or "")
        for own in ("colour", "lab:partition", "my_partition_table", "ram", "x:y:z", "é" * 100):
            self.assertIsNone(self.warned(own), own)

    def test_known(self) -> None:
        """
        Every name from the ancestors' manuals passes without remark.
        """
        for name in ("type", "fixed", "testbed", "osid", "containers:PartitionPass", "containers:ghost"):
            self.assertIsNone(self.warned(name), name)
        for name in ("containers:qemu_url", "containers:openvz_template", "containers:openvz_diskspace"):
            self.assertIsNone(self.warned(name), name)

    def test_interface(self) -> None:
        """
        Interfaces have names of their own to get wrong.
        """
        slips = [attribute("ip4_adress", "10.1.1.2"), attribute("ip_address", "10.1.1.2")]
        text = experiment(substrate("l"), computer("a", interface("l", *slips)))
        self.assertEqual([said.partition("mean ")[2] for _, said in warnings(text)], ["ip4_address?"] * 2)

    def test_elements(self) -> None:
        """
        A misspelt element is told of, too; one of another namespace is not.
        """
        text = experiment(computer("a"), "<element><computer/></element>", "<colour/>", '<x:y xmlns:x="u"/>')
        found = warnings(text)
        self.assertEqual([line for line, _ in found], [3, 4])
        self.assertIn("did you mean <elements>?", found[0][1])

    def test_twice(self) -> None:
        """
        Where an attribute is there twice the first counts, as in fedd, and the user is told.
        """
        text = experiment(computer("a", attribute("startup", "x"), "\n", attribute("startup", "y")))
        self.assertEqual(topdl.read(text).nodes[0].start_command, "x")
        self.assertEqual([line for line, _ in warnings(text)], [3])

    def test_emptySubstrate(self) -> None:
        """
        A substrate with nothing on it is remarked on.
        """
        self.assertEqual(warnings(experiment("", substrate("l"), computer("a"))), [(3, "nothing is on substrate l")])


_characters = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff") | st.sampled_from(
    "\n\t\r"
)
_texts = st.text(_characters, max_size=6) | st.sampled_from(["", "l", "a", "]]>", "&amp;", "containers:partition"])
_tags = st.sampled_from(
    [
        "substrates",
        "elements",
        "computer",
        "interface",
        "substrate",
        "name",
        "attribute",
        "value",
        "os",
        "capacity",
        "rate",
        "x",
        "x:y",
        "p:version",
    ]
)
_attributes = st.dictionaries(st.sampled_from(["a", "b-c", "x:lang", "xml:space"]), _texts, max_size=2)


def _node(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(_tags, _attributes, _texts, st.lists(children, max_size=3), _texts).map(list)


_comments = st.tuples(
    st.just(document.COMMENT), st.just({}), _texts.filter(lambda t: "-" not in t and "\r" not in t), st.just([]), _texts
).map(list)
_instructions = st.tuples(
    st.just(document.INSTRUCTION), st.just({}), st.sampled_from(["go", "go on  twice ", "a b='c'"]), st.just([]), _texts
).map(list)
_leaves = st.tuples(_tags, _attributes, _texts, st.just([]), _texts).map(list) | _comments | _instructions
_trees = st.recursive(_leaves, _node, max_leaves=12)
_roots = st.tuples(
    st.sampled_from(["experiment", "p:topology"]),
    st.just({"xmlns:x": "http://x", "xmlns:p": "http://x", "xmlns": "u"}),
    _texts,
    st.lists(_trees, max_size=6),
    st.just(""),
).map(list)


class WriteTests(SynchronousTestCase):
    """
    The way back to text.
    """

    def same(self, text: str) -> None:
        first = topdl.read(text)
        second = topdl.read(topdl.write(first.document))
        self.assertEqual(second.document, first.document)
        self.assertEqual(second, first)
        told = [
            [(one.severity, one.text) for one in each.findings if " line " not in one.text] for each in (first, second)
        ]
        self.assertEqual(sorted(told[0]), sorted(told[1]))

    def test_sample(self) -> None:
        """
        The sample comes back to the letter.
        """
        self.assertEqual(topdl.write(topdl.read(SAMPLE).document), SAMPLE + "\n")

    def test_unknown(self) -> None:
        """
        What we have no use for is not lost: elements, attributes, order, prefixes, comments, text.
        """
        text = (
            "<!-- by hand --><?go on?>"
            '<e xmlns="u" xmlns:q="v" a="1&#10;2&quot;"><q:odd q:b="é">x &amp; y<![CDATA[<z>]]></q:odd>tail<!-- in -->'
            '<p xmlns=""><version/></p><elements><computer><name>a</name><software><location>l</location></software>'
            "</computer></elements>&#13;</e><!-- after -->"
        )
        self.same(text)
        written = topdl.write(topdl.read(text).document)
        for part in (
            "<!-- by hand -->",
            "<?go on?>",
            'q:b="é"',
            "x &amp; y&lt;z&gt;",
            "tail<!-- in -->",
            '<p xmlns="">',
        ):
            self.assertIn(part, written)
        for part in ('a="1&#10;2&quot;"', "<location>l</location>", "&#13;</e>", "<!-- after -->"):
            self.assertIn(part, written)

    @settings(max_examples=150, deadline=None)
    @given(st.lists(_comments | _instructions, max_size=2), _roots)
    def test_anyTree(self, around: list[Any], root: list[Any]) -> None:
        """
        Any tree is the same after it was written and read, and means the same topology.
        """
        for one in around:
            one[4] = ""
        tree = [document.WHOLE, {}, "", [*around, root], ""]
        text = topdl.write(tree)
        self.assertEqual(topdl.read(text).document, tree)
        self.same(text)

    def test_notATree(self) -> None:
        """
        What is no document is refused in words, not written as broken XML.
        """

        def inside(*children: Any) -> Any:
            return [document.WHOLE, {}, "", list(children), ""]

        deep: Any = ["a", {}, "", [], ""]
        for _ in range(100):
            deep = ["a", {}, "", [deep], ""]
        for tree in (
            None,
            [],
            ["a", {}, "", [], ""],
            inside(["a b", {}, "", [], ""]),
            inside(["a", {"b=": "c"}, "", [], ""]),
            inside(["a", {}, "\0", [], ""]),
            inside(["a", {}, "\ud800", [], ""]),
            inside(["a", {}, None, [], ""]),
            inside(["a", {}, "", [["b"]], ""]),
            inside([document.COMMENT, {}, "a--b", [], ""]),
            inside([document.INSTRUCTION, {}, "a?>b", [], ""]),
            inside(["#other", {}, "", [], ""]),
            inside(deep),
        ):
            self.assertRaises(BadValue, topdl.write, tree)


class SizeTests(SynchronousTestCase):
    """
    Large experiments.
    """

    def test_tenThousand(self) -> None:
        """
        A topology of 10,000 nodes is read in a few seconds.
        """
        text = experiment(
            *(substrate(f"l{n}") for n in range(5000)),
            *(computer(f"n{n}", interface(f"l{n // 2}"), attribute("startup", f"run {n}")) for n in range(10_000)),
        )
        began = time.process_time()
        topology = topdl.read(text)
        self.assertLess(time.process_time() - began, 6)
        self.assertEqual((len(topology.nodes), topology.findings), (10_000, ()))


class OwnAttributeTests(SynchronousTestCase):
    """
    Attributes of ours, C{hostline:...}.
    """

    def test_directions(self) -> None:
        """
        What holds of one direction alone is read, and kept apart from what holds of both.
        """
        names = [f"{way}_{what}" for way in ("to", "from") for what in ("rate_kbps", "delay_ms", "loss")]
        parts = [attribute(f"hostline:{name}", f"0.{at + 1}") for at, name in enumerate(names)]
        topology = topdl.read(
            experiment(substrate("l"), computer("a", interface("l", *parts, attribute("loss", "0.9"))))
        )
        self.assertEqual(topology.findings, ())
        (one,) = topology.nodes[0].interfaces
        self.assertEqual([getattr(one, name) for name in names], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        self.assertEqual((one.rate_kbps, one.delay_ms, one.loss), (None, None, 0.9))

    def test_directionsWrong(self) -> None:
        """
        Amounts that cannot be are errors, misspelt names are warnings, each with the line.
        """
        for name, value in (("to_rate_kbps", "0"), ("from_delay_ms", "-1"), ("to_loss", "2"), ("from_loss", "much")):
            text = experiment(substrate("l"), "", computer("a", interface("l", attribute(f"hostline:{name}", value))))
            ((line, said),) = errors(text)
            self.assertEqual((line, f"hostline:{name}" in said, repr(value) in said), (4, True, True), said)
        text = experiment(substrate("l"), computer("a", interface("l", attribute("hostline:to_rate", "5"))))
        ((line, said),) = warnings(text)
        self.assertEqual((line, said), (3, "unknown attribute 'hostline:to_rate'; did you mean hostline:to_rate_kbps?"))

    def test_wishes(self) -> None:
        """
        What a node asks for is checked where it is written.
        """
        good = {
            "memory_max": "256M",
            "cpu_max": "500",
            "disk_max": "2G",
            "packages": "nginx, curl",
            "start_once": "true",
        }
        text = experiment(computer("a", *(attribute(f"hostline:{name}", value) for name, value in good.items())))
        self.assertEqual(topdl.read(text).findings, ())
        bad = {"memory_max": "1", "cpu_max": "5G", "pids_max": "-1", "packages": "ngi nx; rm", "exclusive": "perhaps"}
        for name, value in bad.items():
            ((line, said),) = errors(experiment("", computer("a", "\n", attribute(f"hostline:{name}", value))))
            self.assertEqual((line, f"hostline:{name}" in said), (4, True), said)

    def test_slips(self) -> None:
        """
        Misspelt ones are told of with the right name; unknown ones as that.
        """
        for name, advice in {
            "hostline:memory": "did you mean hostline:memory_max?",
            "hostlin:cpu_max": "did you mean hostline:cpu_max?",
            "hostline:start-once": "did you mean hostline:start_once?",
            "hostline:colour": "on <computer>",
        }.items():
            ((_, said),) = warnings(experiment(computer("a", attribute(name, "1"))))
            self.assertIn(advice, said)
