"""
What C{check_topology} says of a text: what is in it, and what is wrong with it.

A pure function from text to JSON value, so that it can run in the offload child (L{hostline.server.offload}).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hostline.server.experiments import ns, toml_form, topdl
from hostline.server.experiments.addresses import assign
from hostline.server.experiments.document import BLANKS
from hostline.server.experiments.topology import ERROR, Finding, Topology, TopologyNode, quoted

#: The languages that a topology may be written in.
FORMATS = ("topdl", "ns", "toml")
#: What people type who forget the @ before the name of a file.
_FILE = re.compile(r"[A-Za-z0-9_./~+-]{1,200}\.(ns|tcl|xml|toml|topdl)", re.ASCII)
_TABLE = re.compile(r"\[[A-Za-z0-9_.-]+\]\s*(#.*)?$", re.MULTILINE)


def check_topology(asked: Mapping[str, Any]) -> dict[str, Any]:
    """
    Read a topology and say all of it.

    @param asked: C{{'text': str, 'format': one of L{FORMATS} or None}}, as for L{read}.
    @return: C{nodes} and C{links} with the addresses they would get (no MACs: those follow from the experiment's
        serial); C{warnings} and C{errors}, each a list of C{{'line', 'text'}}; and if there are no errors
        C{topology}, the L{Topology.as_value} as it was written, without the addresses that were left to us.
        What C{placement} would be is not known here.
    """
    topology = read(asked["text"], asked.get("format"))
    addressed = topology if topology.errors else assign(topology, 0)
    value: dict[str, Any] = {
        "nodes": [node_body(one, before) for one, before in zip(addressed.nodes, topology.nodes, strict=True)],
        "links": [{**one.body(), "line": one.line} for one in addressed.links],
        "warnings": said(addressed.warnings),
        "errors": said(addressed.errors),
    }
    if not addressed.errors:
        value["topology"] = topology.as_value()
    return value


def read(text: Any, form: str | None = None) -> Topology:
    """
    The topology in a text of whatever language we read.

    @param form: one of L{FORMATS}; None: TopDL if it begins with C{<} after blanks, else NS.
    """
    if not isinstance(text, str):
        return _refused(f"want the text of a topology, got {quoted(text)}")
    if form is None:
        body = text.lstrip(BLANKS)
        if not body:
            return _refused("want the text of a topology, got nothing")
        if _TABLE.match(body):
            return _refused("want TopDL or NS; this looks like TOML, which wants format=toml")
        if _FILE.fullmatch(file := body.rstrip(BLANKS)):
            return _refused(f"want the text of a topology, got what looks like a file's name; with hostline: @{file}")
        form = form_of(text)
    if form not in FORMATS:
        return _refused(f"want one of {', '.join(FORMATS)} as format, got {quoted(form)}")
    return _READERS[form](text)


def form_of(text: str) -> str:
    """
    @return: the language of a text of which nothing else is said.
    """
    return "topdl" if text.lstrip(BLANKS).startswith("<") else "ns"


_READERS = {"topdl": topdl.read, "ns": ns.read, "toml": toml_form.read}


def _refused(text: str) -> Topology:
    return Topology(findings=[Finding(ERROR, 1, text)])


def said(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """
    @return: findings as they go on the wire.
    """
    return [{"line": one.line, "text": one.text} for one in findings]


def node_body(node: TopologyNode, before: TopologyNode) -> dict[str, Any]:
    """
    @param node: addressed; C{before}: as it was written.
    @return: a node as it goes on the wire.
    """
    given = {one.name: one.mac for one in before.interfaces}
    return {
        "node": node.name,
        "kind": node.kind,
        "os": node.os,
        "start_command": node.start_command,
        "partition": node.partition,
        "failure_action": node.failure_action,
        "ghost": node.ghost,
        "interfaces": [{**one.body(), "mac": given[one.name]} for one in node.interfaces],
        "line": node.line,
    }
