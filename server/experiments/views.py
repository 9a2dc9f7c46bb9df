"""
Experiments, nodes and links as they go on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hostline.protocol.names import node_name
from hostline.server.drivers.driver import Status
from hostline.server.experiments import wires
from hostline.server.experiments.topology import TopologyNode
from hostline.server.host import Host
from hostline.server.records import Experiment, Image, Plan, Sliver

Statuses = Callable[[int], Status | None]
Shapers = Callable[[int, str], str | None]


def experiment_body(
    host: Host, experiment: Experiment, statuses: Statuses, owner: str, shaped_by: Shapers = lambda serial, link: None
) -> dict[str, Any]:
    """
    One experiment with its nodes and links.

    @param owner: the owner's name for people.
    @param shaped_by: what shapes a link of the experiment with this serial; None for nothing.
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
        "pnodes": {},
        "created": experiment.created,
        "swapped_in": experiment.swapped_in,
        "warnings": [],
    }
    if plan is None:
        body["warnings"] = ["the topology of this experiment was damaged and set aside; terminate it"]
        return body
    if experiment.slivers:
        body["pnodes"] = pnodes_of(host, plan)
    body["nodes"] = nodes_of(host, experiment, plan, statuses)
    body["links"] = {
        link.name: {**wires.body(link, experiment), "by": shaped_by(experiment.serial, link.name)}
        for link in plan.built.links
    }
    body["warnings"] = [f"line {one['line']}: {one['text']}" if one["line"] else one["text"] for one in plan.warnings]
    return body


def pnodes_of(host: Host, plan: Plan) -> dict[str, str]:
    """
    @return: the name of the host by pnode.
    """
    return dict(plan.pnodes) or {"pnode-0000": host.name}


def nodes_of(host: Host, experiment: Experiment, plan: Plan, statuses: Statuses) -> dict[str, dict[str, Any]]:
    """
    The nodes of an experiment, by name.
    """
    slivers = host.slivers_of(experiment)
    pnodes = pnodes_of(host, plan)
    return {
        node.name: _node(host, experiment, node, plan, pnodes, slivers.get(node.name), statuses)
        for node in sorted(plan.built.nodes, key=lambda one: one.name)
    }


def _node(
    host: Host,
    experiment: Experiment,
    node: TopologyNode,
    plan: Plan,
    pnodes: Mapping[str, str],
    sliver: Sliver | None,
    statuses: Statuses,
) -> dict[str, Any]:
    status = statuses(sliver.serial) if sliver is not None else None
    made = plan.made_as(node.name)
    kind, serial = (made["kind"], made["image"]) if sliver is None else (sliver.kind, sliver.image)
    image = host.by_serial(Image, serial) if serial is not None else None
    return {
        "node": node.name,
        "experiment": experiment.name.partition("/")[2],
        "project": experiment.name.partition("/")[0],
        "name": node_name(node.name, experiment.name),
        "pnode": sliver.pnode if sliver is not None else None,
        "host": pnodes.get(sliver.pnode, host.name) if sliver is not None else None,
        "kind": kind,
        "image": image.name if image is not None else None,
        "boot": status.boot if status else None,
        "code": status.code if status else None,
        "start_command": status.start_command if status else "none",
        "start_code": status.start_code if status else None,
        "boots": status.boots if status else 0,
        "pid": status.pid if status else None,
        "address": status.address if status else None,
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
    plan = host.get(Plan, str(experiment.serial))
    pnodes = pnodes_of(host, plan) if plan is not None else {"pnode-0000": host.name}
    return [
        {
            "node": pnode,
            "experiment": name,
            "project": project,
            "name": node_name(pnode, experiment.name),
            "pnode": pnode,
            "host": its_host,
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
        for pnode, its_host in sorted(pnodes.items())
    ]
