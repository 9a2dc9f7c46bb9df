"""
Setting attributes in a TopDL file.
"""

from __future__ import annotations

import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import output, topdl
from hostline.clients.settings import OK, REFUSED, Settings, Usage
from hostline.clients.topdl import Refused, edited
from hostline.protocol.attributes import ATTRIBUTES, DIRECTIONAL, WISHES
from hostline.server.experiments import topdl as reader
from hostline.server.experiments.topology import TopologyInterface
from hostline.server.slivers.rspec import ALIASES, RESOURCES
from tests.test_topdl import SAMPLE

TEXT = """\
<?xml version="1.0" encoding="utf-8"?>
<!-- kept: <computer><name>web</name></computer> -->
<t:experiment xmlns:t='urn:t'  >
  <t:elements ><t:computer a=">" >
    <t:name> web </t:name>
    <t:attribute><t:attribute>startup</t:attribute><t:value><![CDATA[a && b]]></t:value></t:attribute>
    <t:attribute><t:attribute>empty</t:attribute><t:value/></t:attribute>
    <t:attribute><t:attribute>startup</t:attribute><t:value>second</t:value></t:attribute>
  </t:computer></t:elements>
  <t:elements><t:computer><t:name>\u00fcber</t:name></t:computer></t:elements>\t
</t:experiment>
"""


def set_in(text: str, *nodes: str, **values: str) -> str:
    return edited(text.encode(), nodes, values).decode()


class EditTests(SynchronousTestCase):
    """
    What becomes of a text.
    """

    def test_sample(self) -> None:
        """
        The ancestor's use: a node gets a partition, and nothing else of the file changes.
        """
        after = set_in(SAMPLE, "web", partition="3")
        self.assertEqual(after, SAMPLE.replace("<value>0</value>", "<value>3</value>"))
        after = set_in(SAMPLE, "probe", partition="3")
        (probe,) = [one for one in reader.read(after).nodes if one.name == "probe"]
        self.assertEqual(probe.partition, "3")
        added = "\n  <attribute><attribute>partition</attribute><value>3</value></attribute>"
        self.assertEqual(after.replace(added, ""), SAMPLE)

    def test_replace(self) -> None:
        """
        A value is replaced whatever it was written as; of two, the one that counts.
        """
        self.assertEqual(set_in(TEXT, "web", startup="x < y"), TEXT.replace("<![CDATA[a && b]]>", "x &lt; y"))
        self.assertEqual(set_in(TEXT, "web", empty="no"), TEXT.replace("<t:value/>", "<t:value>no</t:value>"))

    def test_remove(self) -> None:
        """
        An attribute without a value is taken away; one that is not there is no mistake.
        """
        gone = "\n    <t:attribute><t:attribute>empty</t:attribute><t:value/></t:attribute>"
        self.assertEqual(set_in(TEXT, "web", empty="", nothing=""), TEXT.replace(gone, ""))

    def test_several(self) -> None:
        """
        Several nodes, by names or a pattern, and several attributes at once, also of a node that had none.
        """
        after = set_in(TEXT, "*", partition="1", failureaction="ignore")
        nodes = reader.read(after).nodes
        self.assertEqual(
            [(one.partition, one.failure_action) for one in nodes], [("1", "ignore")]
        )  # the other: its name
        self.assertEqual(after.count("<t:value>ignore</t:value>"), 2)
        self.assertEqual(after.index("failureaction") > after.index("partition"), True)

    def test_order(self) -> None:
        """
        New attributes follow those that are there, as far in.
        """
        lines = set_in(TEXT, "web", fixed="pc1").splitlines()
        self.assertEqual(
            lines[8], "    <t:attribute><t:attribute>fixed</t:attribute><t:value>pc1</t:value></t:attribute>"
        )

    def test_again(self) -> None:
        """
        To set what is so changes nothing.
        """
        once = set_in(TEXT, "web", partition="1")
        self.assertEqual(set_in(once, "web", partition="1"), once)

    def test_byteOrderMark(self) -> None:
        """
        A mark at the beginning stays, and is not counted wrongly.
        """
        self.assertEqual(set_in("\ufeff" + TEXT, "web", startup="s"), "\ufeff" + set_in(TEXT, "web", startup="s"))

    def test_noNode(self) -> None:
        """
        A node that is not there is told of with the nearest; nothing is changed.
        """
        self.assertIn("did you mean web?", str(self.assertRaises(Refused, set_in, TEXT, "wep", partition="1")))
        self.assertIn("there are web, probe", str(self.assertRaises(Refused, set_in, SAMPLE, "zzz", partition="1")))

    def test_notReadable(self) -> None:
        """
        What is not XML, or has a document type, or another coding, is refused with its line.
        """
        for text, part in {
            "<a>\n<b>\n</a>": "line 3",
            "<!DOCTYPE a [<!ENTITY x 'y'>]><a/>": "document types",
            '<?xml version="1.0" encoding="utf-16"?><a/>': "want UTF-8",
            "<a>" * 100: "64 elements",
            "": "line 1",
        }.items():
            self.assertIn(part, str(self.assertRaises(Refused, set_in, text, "web", partition="1")))

    @given(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1),
        st.sampled_from(["web", "probe"]),
    )
    def test_anyValue(self, value: str, node: str) -> None:
        """
        Whatever the value, it is read as it was given.
        """
        value = value.strip() or "x"
        after = edited(SAMPLE.encode(), [node], {"my:x": value}).decode()
        (one,) = [one for one in reader.read(after).nodes if one.name == node]
        self.assertEqual(one.attributes["my:x"], value)


_places = st.tuples(st.sampled_from(["web", "probe", "*"]), st.sampled_from(["partition", "startup", "my:x", "fixed"]))


class WholeTests(SynchronousTestCase):
    """
    What is not meant stays.
    """

    @given(st.lists(st.tuples(_places, st.sampled_from(["", "1", "a & b", "<x>"])), max_size=6))
    def test_restStays(self, edits: list[tuple[tuple[str, str], str]]) -> None:
        """
        After any number of edits the file says what it said, but for what they set.
        """
        text = SAMPLE
        wanted = {one.name: dict(one.attributes) for one in reader.read(SAMPLE).nodes}
        for (node, name), value in edits:
            text = set_in(text, node, **{name: value})
            for each in wanted if node == "*" else [node]:
                wanted[each][name] = value
        after = reader.read(text)
        self.assertEqual(after.findings, ())
        self.assertEqual(
            {one.name: one.attributes for one in after.nodes},
            {node: {name: value for name, value in said.items() if value} for node, said in wanted.items()},
        )
        before = reader.read(SAMPLE)
        self.assertEqual(after.links, before.links)
        self.assertEqual([one.interfaces for one in after.nodes], [one.interfaces for one in before.nodes])


class CommandTests(SynchronousTestCase):
    """
    C{hostline topdl set}.
    """

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_text(SAMPLE)
        self.said: list[str] = []
        self.patch(topdl, "complain", self.said.append)

    def run_with(self, *words: str) -> int:
        return topdl.run(["set", *words], Settings())

    def test_file(self) -> None:
        """
        The file is replaced as a whole and keeps its mode; a link to it stays a link.
        """
        self.path.chmod(0o640)
        link = Path(self.mktemp())
        link.symlink_to(self.path.resolve())
        self.assertEqual(self.run_with(str(link), "web", "partition=9"), OK)
        self.assertIn("<value>9</value>", self.path.read_text())
        self.assertEqual((stat.S_IMODE(self.path.stat().st_mode), link.is_symlink()), (0o640, True))
        self.assertEqual(list(self.path.parent.glob("*.new")), [])

    def test_slip(self) -> None:
        """
        A misspelt name is refused, and nothing is written; who means it can have it.
        """
        self.assertEqual(self.run_with(str(self.path), "web", "container:partition=9"), REFUSED)
        self.assertIn("did you mean containers:partition?", self.said[0])
        self.assertEqual(self.path.read_text(), SAMPLE)
        self.assertEqual(self.run_with("--any-name", str(self.path), "web", "container:partition=9"), OK)
        self.assertIn("container:partition", self.path.read_text())

    def test_usage(self) -> None:
        """
        What is missing is told.
        """
        for words in ([], ["x.xml"], ["x.xml", "web"], ["x.xml", "partition=3"]):
            self.assertRaises(Usage, topdl.run, ["set", *words], Settings())
        self.assertRaises(Usage, topdl.run, ["get"], Settings())

    def test_noFile(self) -> None:
        """
        A file that is not there is an error.
        """
        self.assertEqual(self.run_with("/nowhere/x.xml", "web", "partition=3"), REFUSED)
        self.assertEqual(self.said, ["error: /nowhere/x.xml: No such file or directory"])

    def test_help(self) -> None:
        """
        It explains itself.
        """
        said: list[bytes] = []
        self.patch(output, "write", said.append)
        self.assertEqual(topdl.run(["set", "--help"], Settings()), OK)
        self.assertIn(b"NAME=VALUE", said[0])


class NamesTests(SynchronousTestCase):
    """
    The names that are known here and those that mean something.
    """

    def test_wishes(self) -> None:
        """
        Every resource of slivers may be asked for, under both its names.
        """
        self.assertEqual(set(WISHES), {*RESOURCES, *ALIASES, "packages", "start_once", "exclusive"})
        self.assertTrue({f"hostline:{one}" for one in WISHES} <= ATTRIBUTES["computer"])

    def test_directional(self) -> None:
        """
        Every field of an interface that is of one direction has its attribute.
        """
        fields = [one.name for one in TopologyInterface.__attrs_attrs__]
        self.assertEqual([one for one in fields if one.startswith(("to_", "from_"))], list(DIRECTIONAL))
