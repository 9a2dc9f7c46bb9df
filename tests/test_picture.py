"""
Experiments as drawings.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import picture
from hostline.clients.picture import dot, drawn, shaping
from hostline.clients.settings import OK, REFUSED, Settings, Usage
from hostline.protocol import literal
from tests.canned import Canned
from tests.needs import needs_tool

_SVG = "{http://www.w3.org/2000/svg}"


def node(name: str, pnode: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "node": name,
        "kind": "container",
        "image": None,
        "boot": None,
        "code": None,
        "address": None,
        "pnode": pnode,
        "interfaces": [],
        "start_command": "none",
        **more,
    }


def link(name: str, **more: Any) -> dict[str, Any]:
    return {"link": name, "kind": "link", "members": [], "rate_kbps": None, "delay_ms": None, "loss": None, **more}


def on(name: str, ip4: str | None = None) -> dict[str, Any]:
    return {"name": "inf000", "link": name, "ip4": ip4, "netmask": None, "mac": None}


def body(nodes: list[dict[str, Any]], links: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "name": "lab/exp1",
        "state": "active",
        "nodes": {one["node"]: one for one in nodes},
        "links": {one["link"]: one for one in links},
        "pnodes": {"pnode-0000": "host-a", "pnode-0001": "host-b"},
        **more,
    }


_WEB = [on("l", "10.1.1.2"), on("lan")]
BODY = body(
    [
        node(
            "web", "pnode-0000", boot="booted", code=0, address="10.0.0.5", interfaces=[on("l", "10.1.1.2"), on("lan")]
        ),
        node("db", "pnode-0001", boot="booted", code=7, interfaces=[on("l", "10.1.1.3"), on("lan")]),
        node("slow", "pnode-0001", boot="running", interfaces=[on("lan")]),
        node("gone", "pnode-0001", boot="dead", code=137),
        node("spare"),
    ],
    [link("l", rate_kbps=10000.0, delay_ms=5.0, loss=0.01), link("lan")],
)


class DotTests(SynchronousTestCase):
    """
    The text for graphviz.
    """

    def test_nodes(self) -> None:
        """
        Nodes are coloured by their state, and stand with their hosts.
        """
        text = dot(BODY)
        for label, colour in (
            ("web\\ncontainer\\nbooted, 0\\n10.0.0.5", picture.BOOTED),
            ("db\\ncontainer\\nbooted, 7", picture.FAILED),
            ("slow\\ncontainer\\nrunning", picture.STARTING),
            ("gone\\ncontainer\\ndead, 137", picture.DEAD),
            ("spare\\ncontainer", picture.ABSENT),
        ):
            self.assertIn(f'[label="{label}", fillcolor="{colour}"]', text)
        first, second = text.split("subgraph")[1:]
        self.assertIn('label="pnode-0000\\nhost-a"', first)
        self.assertEqual(["web" in first, "db" in first, "db" in second, "slow" in second], [True, False, True, True])

    def test_links(self) -> None:
        """
        A link is a line with its addresses and what it does; a LAN is a point.
        """
        text = dot(BODY)
        self.assertIn('[label="l\\n10 Mb/s 5 ms 1 %", taillabel="10.1.1.3", headlabel="10.1.1.2"]', text)
        self.assertIn('[shape=point, width=0.12, fillcolor="#555555", xlabel="lan"]', text)
        self.assertEqual(text.count(" -- l1 "), 3)

    def test_shaping(self) -> None:
        """
        Amounts are written in the unit that suits them.
        """
        self.assertEqual(shaping(link("l", rate_kbps=64.0)), "64 kb/s")
        self.assertEqual(shaping(link("l", rate_kbps=2.5e6, delay_ms=0.3)), "2.5 Gb/s 0.3 ms")
        self.assertEqual(shaping(link("l")), "")

    def test_names(self) -> None:
        """
        No name ends its quotes, or is read as an escape.
        """
        text = dot(body([node('a"];b[label="\\N\n<b>&amp;')], []))
        self.assertIn('label="a\\"];b[label=\\"\\\\N?&lt;b&gt;&amp;amp;\\ncontainer"', text)


@needs_tool("dot")
class DrawnTests(SynchronousTestCase):
    """
    What graphviz makes of it.
    """

    def test_svg(self) -> None:
        """
        The drawing has every name as text.
        """
        tree = ElementTree.fromstring(drawn(dot(BODY), "svg"))
        texts = {"".join(one.itertext()) for one in tree.iter(f"{_SVG}text")}
        self.assertTrue({"web", "db", "slow", "gone", "spare", "l", "lan", "host-a", "10.1.1.2"} <= texts, texts)

    @settings(max_examples=15)
    @given(st.lists(st.text(max_size=30), min_size=1, max_size=4, unique=True))
    def test_hostile(self, names: list[str]) -> None:
        """
        Whatever nodes, links and hosts are called, the drawing is well-formed, and has nothing in it that runs.
        """
        names = [*names, "</text><script>alert(1)</script>", '" onload="x', "]]><a href='javascript:x'>"]
        made = body(
            [node(name, "pnode-0000", interfaces=[on(names[0], name)]) for name in names],
            [link(names[0])],
            pnodes={"pnode-0000": names[-1]},
            name=names[-2],
        )
        tree = ElementTree.fromstring(drawn(dot(made), "svg"))
        tags = {one.tag.removeprefix(_SVG) for one in tree.iter()}
        self.assertTrue(tags <= {"svg", "g", "title", "text", "polygon", "path", "ellipse", "polyline"}, tags)
        self.assertFalse(
            [name for one in tree.iter() for name in one.attrib if name.startswith("on") or "href" in name]
        )

    def test_others(self) -> None:
        """
        Pictures for other programs.
        """
        self.assertTrue(drawn(dot(BODY), "png").startswith(b"\x89PNG"))
        self.assertTrue(drawn(dot(BODY), "pdf").startswith(b"%PDF"))


class CommandTests(SynchronousTestCase):
    """
    C{hostline picture}.
    """

    def setUp(self) -> None:
        self.out = Path(self.mktemp())
        self.said: list[str] = []
        self.patch(picture, "complain", self.said.append)

    def run_with(self, *words: str) -> int:
        canned = Canned(self, f"experiment_reply {literal.write(BODY)}\n".encode())
        asked = Settings()
        self.patch(asked, "client", canned.client)
        return picture.run(words, asked)

    def test_dot(self) -> None:
        """
        The text itself wants no graphviz.
        """
        self.patch(shutil, "which", lambda name: None)
        out = self.out.with_suffix(".dot")
        self.assertEqual(self.run_with("lab/exp1", str(out)), OK)
        self.assertEqual(out.read_text(), dot(BODY))

    def test_noGraphviz(self) -> None:
        """
        Where graphviz is missing, it is told what to install.
        """
        self.patch(shutil, "which", lambda name: None)
        self.assertEqual(self.run_with("lab/exp1", str(self.out.with_suffix(".svg"))), REFUSED)
        self.assertIn("apt install graphviz", self.said[0])

    def test_usage(self) -> None:
        """
        The file's name says what is wanted.
        """
        for words in ([], ["lab/exp1"], ["lab/exp1", "x.gif"], ["lab/exp1", "x"], ["lab/exp1", "x.svg", "y"]):
            self.assertRaises(Usage, picture.run, words, Settings())

    def test_noDirectory(self) -> None:
        """
        A file that cannot be written is told of.
        """
        self.assertEqual(self.run_with("lab/exp1", "/nowhere/x.dot"), REFUSED)
        self.assertEqual(self.said, ["error: /nowhere/x.dot: No such file or directory"])
