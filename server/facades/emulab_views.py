"""
Bodies of ours as values of Emulab's methods. Pure.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from hostline.protocol import emulab

Body = Mapping[str, Any]

#: A node's event state, by how far its start has come.
_EVENTS = {"running": "BOOTING", "booted": "ISUP", "dead": "SHUTDOWN"}


def status(node: Body) -> str:
    """
    @return: C{up}, C{down}, or C{possibly down} for one of which nothing is known.
    """
    if node["boot"] in ("booted", "running"):
        return "up"
    return "down" if node["boot"] == "dead" else "possibly down"


def event_state(node: Body) -> str | None:
    """
    @return: C{BOOTING}, C{ISUP} or C{SHUTDOWN}; None if nothing is known.
    """
    return _EVENTS.get(node["boot"])


def mapping(experiment: Body) -> dict[str, dict[str, Any]]:
    """
    @return: the nodes that stand on a host, by name; the host itself is C{pnode}.
    """
    return {name: _mapped(one) for name, one in experiment["nodes"].items() if one["host"] is not None}


def _mapped(node: Body) -> dict[str, Any]:
    return {
        "name": node["node"],
        "node": node["name"],
        "type": node["kind"],
        "pnode": node["host"],
        "osid": node["image"] or node["kind"],
        "status": status(node),
        "eventstatus": event_state(node),
        "startstatus": "none" if node.get("start_code") is None else str(node["start_code"]),
        "erole": "virtnode" if node["extra"] else "node",
        "hypervisor": f"hv:{node['kind']}:{node['pnode']}",
    }


def links(experiment: Body) -> dict[str, dict[str, Any]]:
    """
    @return: the ends of links, by C{node:0}; bandwidth in kbit/s, delay in ms, both ways.
    """
    found = {}
    nodes = list(experiment["nodes"].values())
    for link in experiment["links"].values():
        for name, end in emulab.ends(nodes, link):
            both = {
                "delay": link["delay_ms"] or 0.0,
                "bandwidth": int(link["rate_kbps"] or 0),
                "plr": link["loss"] or 0.0,
            }
            found[name] = {
                "name": link["link"],
                "member": name,
                "ipaddr": end["ip4"],
                "mask": end["netmask"],
                **both,
                **{f"r_{key}": value for key, value in both.items()},
            }
    return found


def physical(experiment: Body) -> dict[str, list[dict[str, Any]]]:
    """
    @return: the hosts of an experiment, and the interfaces of its nodes.
    """
    hosts = [{"vname": pnode, "node_id": host, "erole": "node"} for pnode, host in sorted(experiment["pnodes"].items())]
    interfaces = [
        {
            "node_id": node["name"],
            "iface": one["name"],
            "IP": one["ip4"],
            "mask": one["netmask"],
            "mac": one["mac"],
            "link": one["link"],
        }
        for node in experiment["nodes"].values()
        if node["host"] is not None
        for one in node["interfaces"]
    ]
    return {"nodes": hosts, "interfaces": interfaces}


def metadata(experiment: Body) -> dict[str, Any]:
    """
    @return: what is on record of an experiment.
    """
    return {
        "pid": experiment["project"],
        "gid": experiment["project"],
        "eid": experiment["experiment"],
        "idx": experiment["serial"],
        "expt_name": experiment.get("description") or experiment["name"],
        "expt_head_uid": experiment["owner"],
        "expt_swap_uid": experiment["owner"],
        "expt_created": moment(experiment["created"]),
        "expt_swapped": moment(experiment["swapped_in"]),
        "state": emulab.shown_state(experiment["state"]),
        "reason": experiment["reason"],
        "batchmode": 0,
        "minimum_nodes": len(experiment["nodes"]),
        "user_environment": [],
    }


def getlist(experiments: Iterable[Body], full: bool) -> dict[str, dict[str, list[Any]]]:
    """
    @param full: more of each than its name.
    @return: experiments by project, and by group, of which each project has the one of its own name.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for one in experiments:
        project = one["project"]
        of_group = found.setdefault(project, {}).setdefault(project, [])
        of_group.append(_listed(one) if full else one["experiment"])
    return found


def _listed(experiment: Body) -> dict[str, Any]:
    return {
        "pid": experiment["project"],
        "gid": experiment["project"],
        "name": experiment["experiment"],
        "eid": experiment["experiment"],
        "description": experiment.get("description") or "",
        "expt_head": experiment["owner"],
        "state": emulab.shown_state(experiment["state"]),
        "pnodes": len(experiment["pnodes"]),
        "vnodes": len(experiment["nodes"]),
    }


def virtual_topology(experiment: Body, tables: list[str], exclude: list[str]) -> dict[str, dict[str, Any]]:
    """
    @param tables: those that are wanted, by tag; none means all.
    @param exclude: those that are not.
    @return: C{{'experiment': {'settings': {..}, TAG: [row, ..]}}}.
    """
    nodes, ends = [], []
    for node in experiment["nodes"].values():
        addresses = " ".join(f"{at}:{one['ip4']}" for at, one in enumerate(node["interfaces"]) if one["ip4"])
        nodes.append(
            {
                "vname": node["node"],
                "ips": addresses,
                "osname": node["image"] or "",
                "type": node["kind"],
                "failureaction": node.get("failure_action") or "fatal",
            }
        )
    for end in links(experiment).values():
        ends.append({"vname": end["name"], **{key: value for key, value in end.items() if key != "name"}})
    rows = {"nodes": nodes, "lans": ends}
    chosen = {tag: found for tag, found in rows.items() if (not tables or tag in tables) and tag not in exclude}
    return {"experiment": {"settings": metadata(experiment), **chosen}}


def ready(experiment: Body, names: list[str]) -> dict[str, bool]:
    """
    @param names: the nodes that are meant; none means all.
    @return: whether each is up with its start command ended.
    """
    return {
        name: one["boot"] == "booted" and one["start_command"] != "running"
        for name, one in experiment["nodes"].items()
        if not names or name in names
    }


def past(body: Body) -> dict[str, Any]:
    """
    @return: something that was done with an experiment, as a row of what its resources were used for.
    """
    ended = body["time"] + body["seconds"] if body["seconds"] is not None else None
    return {
        "action": body["what"],
        "uid": body["name"] or body["who"],
        "start_time": moment(body["time"]),
        "end_time": moment(ended),
        "outcome": body["outcome"],
        "reason": body["reason"],
    }


def moment(seconds: float | None) -> str:
    """
    @return: a time as Emulab's database writes it, in UTC; empty for none.
    """
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) if seconds else ""
