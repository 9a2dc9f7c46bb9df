"""
Experiments, nodes and links as they go on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hostline.protocol.names import node_name
from hostline.server.drivers.driver import Status
from hostline.server.experiments.topology import Topology, TopologyNode
from hostline.server.host import Host
from hostline.server.records import Experiment, Plan, Sliver

#: The kind that every node has for now, and the host that it is placed on.
KIND = "process"
PNODE = "pnode-0000"

Statuses = Callable[[int], Status | None]


def experiment_body(host: Host, experiment: Experiment, statuses: Statuses, owner: str) -> dict[str, Any]:
    """
    One experiment with its nodes and links.

    @param owner: the owner's name for people.
    """
    project, _, name = experiment.name.partition("/")
    plan = host.get(Plan, str(experiment.serial))
    body: dict[str, Any] = {
        "name": experiment.name,
        "project": project,
        "experiment": name,
        "serial": experiment.serial,
        "owner": owner,
        "state": experiment.state,
        "reason": experiment.reason,
        "nodes": {},
        "links": {},
        "pnodes": {PNODE: host.name} if experiment.slivers else {},
        "created": experiment.created,
        "swapped_in": experiment.swapped_in,
        "warnings": [],
    }
    if plan is None:
        body["warnings"] = ["the topology of this experiment was damaged and set aside; terminate it"]
        return body
    topology = plan.built
    body["nodes"] = nodes_of(host, experiment, topology, statuses)
    body["links"] = {link.name: link.body() for link in topology.links}
    body["warnings"] = [f"line {one['line']}: {one['text']}" if one["line"] else one["text"] for one in plan.warnings]
    return body


def nodes_of(host: Host, experiment: Experiment, topology: Topology, statuses: Statuses) -> dict[str, dict[str, Any]]:
    """
    The nodes of an experiment, by name.
    """
    slivers = host.slivers_of(experiment)
    return {
        node.name: _node(host, experiment, node, slivers.get(node.name), statuses)
        for node in sorted(topology.nodes, key=lambda one: one.name)
    }


def _node(
    host: Host, experiment: Experiment, node: TopologyNode, sliver: Sliver | None, statuses: Statuses
) -> dict[str, Any]:
    status = statuses(sliver.serial) if sliver is not None else None
    placed = sliver is not None
    return {
        "node": node.name,
        "experiment": experiment.name.partition("/")[2],
        "project": experiment.name.partition("/")[0],
        "name": node_name(node.name, experiment.name),
        "pnode": sliver.pnode if sliver is not None else None,
        "host": host.name if placed else None,
        "kind": sliver.kind if sliver is not None else KIND,
        "image": None,
        "boot": status.boot if status else None,
        "code": status.code if status else None,
        "start_command": status.start_command if status else "none",
        "start_code": status.start_code if status else None,
        "boots": status.boots if status else 0,
        "pid": status.pid if status else None,
        "address": None,
        "interfaces": [one.body() for one in node.interfaces],
        # Every node of these kinds lives inside a host; one that is a whole host would not be extra (Benito).
        "extra": True,
        "problems": list(status.problems) if status else [],
    }


def hosts_of(host: Host, experiment: Experiment) -> list[Mapping[str, Any]]:
    """
    The hosts that a placed experiment stands on, as nodes of it that are not extra (Benito's C{node_list}).
    """
    if not experiment.slivers:
        return []
    project, _, name = experiment.name.partition("/")
    return [
        {
            "node": PNODE,
            "experiment": name,
            "project": project,
            "name": node_name(PNODE, experiment.name),
            "pnode": PNODE,
            "host": host.name,
            "kind": "host",
            "image": None,
            "boot": "booted",
            "code": None,
            "start_command": "none",
            "address": None,
            "interfaces": [],
            "extra": False,
            "problems": [],
        }
    ]
