"""
The model of a topology, and its way through JSON.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadValue
from hostline.server.experiments.topology import (
    FAILURE_ACTIONS,
    FINDINGS_MAX,
    Finding,
    Findings,
    Topology,
    TopologyInterface,
    TopologyLink,
    TopologyNode,
    quoted,
)

_texts = st.text(max_size=5)
_some = st.none() | _texts
_numbers = st.none() | st.floats(0, 1e9) | st.integers(0, 10**9)
_lines = st.integers(0, 10**6)
_addresses = st.none() | st.ip_addresses(v=4).map(str)
_masks = st.none() | st.sampled_from(["255.255.255.0", "255.0.0.0", "0.0.0.0", "255.255.255.255"])
_interfaces = st.builds(TopologyInterface, _texts, _texts, _addresses, _masks, _some, _numbers, _numbers, _numbers)
_nodes = st.builds(
    TopologyNode,
    name=_texts,
    start_command=_some,
    kind=_some,
    partition=_some,
    failure_action=st.sampled_from(FAILURE_ACTIONS),
    os=_some,
    attributes=st.dictionaries(_texts, _texts, max_size=3),
    interfaces=st.lists(_interfaces, max_size=3),
    line=_lines,
)
_links = st.builds(
    TopologyLink, _texts, st.lists(st.tuples(_texts, _texts), max_size=3), _numbers, _numbers, _numbers, _lines
)
_findings = st.builds(Finding, st.sampled_from(["error", "warning"]), _lines, _texts)
_documents = st.none() | st.just(["#document", {}, "", [["e", {"a": "b"}, "\n", [], ""]], ""])
topologies = st.builds(
    Topology,
    st.lists(_nodes, max_size=3),
    st.lists(_links, max_size=3),
    st.lists(_findings, max_size=3),
    _documents,
)


class TopologyTests(SynchronousTestCase):
    """
    What a topology says of itself.
    """

    @settings(max_examples=100, deadline=None)
    @given(topologies)
    def test_asValue(self, topology: Topology) -> None:
        """
        A topology that was kept as JSON comes back as it was, lines and findings too.
        """
        again = Topology.from_value(json.loads(json.dumps(topology.as_value(), allow_nan=False)))
        self.assertEqual(again, topology)
        self.assertEqual(again.as_value(), topology.as_value())

    def test_fromValueWhenWrong(self) -> None:
        """
        What is not a topology is refused in words.
        """
        good: dict[str, Any] = Topology([TopologyNode("a")], [TopologyLink("l", [("a", "i")])]).as_value()
        wrong: list[Any] = [None, [], "x", {}, {**good, "nodes": None}, {**good, "nodes": [{}]}]
        wrong += [{**good, "nodes": [{**good["nodes"][0], key: value}]} for key, value in (("name", 1), ("more", 1))]
        wrong += [{**good, "nodes": [{**good["nodes"][0], "attributes": {"a": 1}}]}]
        wrong += [{**good, "nodes": [{**good["nodes"][0], "failure_action": "explode"}]}]
        wrong += [{**good, "links": [{**good["links"][0], "members": members}]} for members in ([1], [["a"]], [[1, 2]])]
        wrong += [{**good, "links": [{**good["links"][0], "rate_kbps": rate}]} for rate in ("5", True)]
        wrong += [{**good, "findings": [{"severity": "fine", "line": 1, "text": ""}]}, {**good, "document": {}}]
        one = TopologyInterface("inf000", "l")
        node = Topology([TopologyNode("a", interfaces=[one])]).as_value()["nodes"][0]
        for key, value in (("ip4", "10.1"), ("ip4", 5), ("netmask", "0.0.0.255"), ("netmask", "24"), ("netmask", 24)):
            wrong += [{**good, "nodes": [{**node, "interfaces": [{**node["interfaces"][0], key: value}]}]}]
        for value in wrong:
            self.assertRaises(BadValue, Topology.from_value, value)

    def test_kind(self) -> None:
        """
        Two members are a link, any other number a LAN.
        """
        members = [("a", "inf000"), ("b", "inf000"), ("c", "inf000")]
        self.assertEqual([TopologyLink("l", members[:n]).kind for n in range(4)], ["lan", "lan", "link", "lan"])

    def test_lineIsNoDifference(self) -> None:
        """
        A node that only moved to another line is the same node, so that a modify leaves it alone.
        """
        self.assertEqual(TopologyNode("a", line=3), TopologyNode("a", line=4))
        self.assertNotEqual(TopologyNode("a"), TopologyNode("a", start_command="x"))

    def test_errors(self) -> None:
        """
        Errors and warnings can be told apart.
        """
        topology = Topology(findings=[Finding("error", 1, "e"), Finding("warning", 2, "w")])
        self.assertEqual([one.text for one in topology.errors], ["e"])
        self.assertEqual([one.text for one in topology.warnings], ["w"])


class FindingsTests(SynchronousTestCase):
    """
    What a reader collects.
    """

    def test_order(self) -> None:
        """
        Findings come in the order of lines.
        """
        findings = Findings()
        findings.warning(9, "w")
        findings.error(3, "e")
        self.assertEqual([(one.line, one.text) for one in findings.told()], [(3, "e"), (9, "w")])

    def test_many(self) -> None:
        """
        A text full of mistakes gives a bounded answer, which says how many more there are; no warning hides an error.
        """
        findings = Findings()
        for line in range(FINDINGS_MAX + 7):
            findings.warning(line, "w")
        findings.error(1, "e")
        told = findings.told()
        self.assertEqual(len(told), FINDINGS_MAX + 2)
        self.assertEqual(told[-1].text, "7 more warnings")
        self.assertIn("e", [one.text for one in told])

    def test_quoted(self) -> None:
        """
        A message quotes what it got, on one line, in ASCII, and not all of a megabyte.
        """
        self.assertEqual(quoted("a\nü"), r"'a\n\xfc'")
        self.assertLess(len(quoted("x" * 1_000_000)), 90)
        self.assertEqual(quoted(None), "None")
