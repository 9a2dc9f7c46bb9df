"""
What an experiment of a text would be: its nodes with their addresses, what they are made as, where they go, and their
routes. A pure function of JSON values, for the offload child (L{hostline.server.offload}).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from attrs import evolve

from hostline.server.experiments import check
from hostline.server.experiments.addresses import assign
from hostline.server.experiments.cutting import cost
from hostline.server.experiments.hosting import Item
from hostline.server.experiments.packing import Packed, pack
from hostline.server.experiments.passes import Options
from hostline.server.experiments.placing import Made, Means, settle
from hostline.server.experiments.routes import routes
from hostline.server.experiments.topology import FINDINGS_MAX, WARNING, Finding, Topology, TopologyNode, quoted


def plan(asked: dict[str, Any]) -> dict[str, Any]:
    """
    Read a topology, and plan an experiment of it.

    @param asked: C{text} and C{format}, as for L{check.read}; C{means}, as L{Means} has them; C{hosts} and
        C{options}, as for L{pack} and L{Options.read}; and of an experiment that is to become this, C{previous}, its
        topology, and C{kept}, its C{placement} and C{pnodes}.
    @return: C{nodes}, C{links}, C{warnings} and C{errors}, as L{check.check_topology}; C{format}, the text's; and if
        there are no errors C{topology}, with addresses and the MACs that were given; C{settled}, C{pnodes} and
        C{routes}, as L{hostline.server.records.Plan} has them.
    @raise NoRoom: if the nodes do not fit, saying which one, and what it lacks.
    @raise BadValue: if options cannot be.
    """
    options = Options.read(asked["options"])
    read = check.read(asked["text"], asked.get("format"))
    previous = Topology.from_value(asked["previous"]) if asked.get("previous") else None
    topology = read if read.errors else assign(read, 0, previous)
    settled, findings = settle(topology.nodes, Means(**asked["means"])) if not topology.errors else ({}, ())
    hosts = {one.get("name") for one in asked["hosts"]}
    homeless = islice(_homeless(topology.nodes, hosts), FINDINGS_MAX)
    said = sorted((*topology.findings, *findings, *homeless), key=lambda one: one.line)
    value: dict[str, Any] = {
        "format": asked.get("format") or check.form_of(asked["text"]),
        "nodes": [check.node_body(one, before) for one, before in zip(topology.nodes, read.nodes, strict=True)],
        "links": [{**one.body(), "line": one.line} for one in topology.links],
        "warnings": check.said(one for one in said if one.severity == "warning"),
        "errors": check.said(one for one in said if one.severity == "error"),
    }
    if value["errors"]:
        return value
    kept = Packed(**asked["kept"]) if asked.get("kept") else None
    packed = pack(
        [_item(one, settled[one.name], hosts) for one in topology.nodes],
        [(cost(one.rate_kbps), [node for node, _ in one.members]) for one in topology.links],
        asked["hosts"],
        options,
        kept,
    )
    for body in value["nodes"]:
        made = settled[body["node"]]
        body["made_as"] = {"kind": made.kind, "image": made.image_name, "rspec": dict(made.rspec)}
    value["settled"] = {
        name: {"kind": made.kind, "image": made.image, "pnode": packed.placement[name], "rspec": dict(made.rspec)}
        for name, made in settled.items()
    }
    value["pnodes"] = packed.pnodes
    value["routes"], why = routes(topology)
    if why:
        value["warnings"].append({"line": 0, "text": why})
    value["topology"] = _as_given(topology, read).as_value()
    return value


def _homeless(nodes: Iterable[TopologyNode], hosts: Collection[Any]) -> Iterator[Finding]:
    """
    What is said of nodes that are fixed to hosts that are not there.
    """
    for node in nodes:
        if node.fixed and node.fixed not in hosts:
            there = ", ".join(sorted(map(str, hosts))[:5]) + (", .." if len(hosts) > 5 else "")
            text = f"is fixed to {quoted(node.fixed)}, which is no host here; it may go to any ({there})"
            yield Finding(WARNING, node.line, f"node {node.name} {text}")


def _item(node: TopologyNode, made: Made, hosts: Collection[Any]) -> Item:
    return Item(
        node.name,
        made.kind,
        made.rspec.get("cpu_min", 0),
        made.memory,
        len(node.interfaces),
        node.partition,
        node.packing_pass or "",
        node.exclusive,
        node.line,
        node.fixed if node.fixed in hosts else "",
    )


def _as_given(topology: Topology, read: Topology) -> Topology:
    """
    The same, without the MACs that were left to us: those follow from the experiment's serial.
    """
    nodes = []
    for node, before in zip(topology.nodes, read.nodes, strict=True):
        pairs = zip(node.interfaces, before.interfaces, strict=True)
        nodes.append(evolve(node, interfaces=[evolve(one, mac=other.mac) for one, other in pairs]))
    return evolve(topology, nodes=nodes)
