"""
Whether the host has room for nodes that are about to be there, beside all that is: processor time that is promised, and
memory that is kept. Pure, but for the records that it reads.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from hostline.protocol.errors import NoRoom, TooMany
from hostline.server.experiments.planned import Planned, PlannedNode
from hostline.server.experiments.wishes import kept_memory
from hostline.server.records import Experiment, Plan, Sliver
from hostline.server.slivers.admission import room
from hostline.server.slivers.plan import ABSENT

if TYPE_CHECKING:
    from hostline.server.host import Host


def memory_of_host() -> int:
    """
    @return: bytes.
    """
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_room(
    host: Host, planned: Planned, cores: int, memory: int, nodes: Mapping[str, PlannedNode], gone: Collection[int]
) -> None:
    """
    @param memory: bytes that the host has.
    @param gone: serials of slivers that go, or become some of the nodes; what they have is left to these.
    @raise NoRoom: naming the first node that finds none.
    """
    others = [one for one in host.slivers_by_serial.values() if not one.free and one.wanted != ABSENT]
    had = [one for one in others if one.serial in gone]
    there = [one for one in others if one.serial not in gone]

    def memories(slivers: list[Sliver]) -> int:
        found = (planned.node(one) for one in slivers)
        return sum(_kept(one) for one in found if one is not None)

    def promised(slivers: list[Sliver]) -> int:
        return sum(one.rspec.get("cpu_min", 0) for one in slivers)

    _fit(
        "cpu_min",
        {name: one.rspec.get("cpu_min", 0) for name, one in nodes.items()},
        room(cores) - host.ledger.total("cpu_min") - promised(there),
        promised(had),
        f"{room(cores)} per mille of a core that this host's cores can promise",
    )
    _fit(
        "memory_max",
        {name: _kept(one) for name, one in nodes.items()},
        memory - memories(there),
        memories(had),
        f"{memory} bytes that this host has",
    )


def check_kept(host: Host, experiment: Experiment, plan: Plan, experiments: int, nodes: int) -> None:
    """
    @param experiment: that is to be as the plan says; maybe it is not there yet.
    @param experiments: how many of them a project may have, C{nodes}: in all of them together. Those that are swapped
        out are kept in memory, too.
    @raise TooMany: if there would be more.
    """
    others = [
        one
        for one in host.experiments_by_serial.values()
        if one.project == experiment.project and one.serial != experiment.serial
    ]
    new = experiment.serial not in host.experiments_by_serial
    if new and len(others) >= experiments:
        raise TooMany(f"a project has at most {experiments} experiments; terminate one")
    plans = (host.get(Plan, str(one.serial)) for one in others)
    there = sum(_size(one) for one in plans if one is not None)
    before = host.get(Plan, str(experiment.serial))
    if there + _size(plan) > nodes and (before is None or _size(plan) > _size(before)):
        raise TooMany(f"a project has at most {nodes} nodes in all its experiments; {there} are in others")


def _size(plan: Plan) -> int:
    return len(plan.topology.get("nodes", ()))


def check_alone(
    host: Host, planned: Planned, experiment: Experiment, nodes: Mapping[str, PlannedNode], allowed: bool
) -> None:
    """
    @param allowed: whether a node may have this host to itself: no node of another experiment is on it then. Free
        slivers are the site's, and are not kept off.
    @raise NoRoom: if one of these nodes is to have it and others are there, or the other way round.
    """
    if not (allowed and nodes):
        return
    others = [
        one
        for one in host.slivers_by_serial.values()
        if not one.free and one.experiment != experiment.serial and one.wanted != ABSENT
    ]
    alone = next((name for name, one in nodes.items() if one.node.exclusive), None)
    if alone is not None and others:
        count = len({one.experiment for one in others})
        has = "one other experiment has" if count == 1 else f"{count} other experiments have"
        raise NoRoom(f"{alone}: wants the host to itself (hostline:exclusive), but {has} nodes on it")
    if any(node.node.exclusive for one in others if (node := planned.node(one)) is not None):
        raise NoRoom("a node of another experiment has this host to itself (hostline:exclusive)")


def check_quota(host: Host, experiment: Experiment, nodes: Mapping[str, PlannedNode], gone: Collection[int]) -> None:
    """
    @param gone: as L{check_room}.
    @raise TooMany: if the project's quota does not allow these nodes.
    """
    project = host.project_of(experiment)
    if project is None or not project.quota or not nodes:
        return
    inside = [one for one in host.experiments_by_serial.values() if one.project == project.serial]
    slivers = [
        sliver
        for one in inside
        for sliver in host.slivers_in(one)
        if sliver.wanted != ABSENT and sliver.serial not in gone
    ]
    instead = [host.slivers_by_serial[serial] for serial in gone]
    for resource, most in project.quota.items():
        has = sum(sliver.rspec.get(resource, 0) for sliver in slivers)
        wants = sum(node.rspec.get(resource, 0) for node in nodes.values())
        had = sum(sliver.rspec.get(resource, 0) for sliver in instead)
        if has + wants > most and wants > had:
            more = f"{len(nodes) - len(instead)} more nodes" if len(nodes) > len(instead) else "its nodes"
            raise TooMany(
                f"the quota of project {project.name} is {resource} {most}: "
                f"{has + had} in use, {wants - had} wanted for {more}"
            )


def _kept(node: PlannedNode) -> int:
    return kept_memory(node.kind, node.node.attributes, node.rspec)


def _fit(resource: str, wanted: Mapping[str, int], left: int, had: int, whole: str) -> None:
    if sum(wanted.values()) <= max(left, had):  # a host that has become smaller keeps its nodes
        return
    for name, amount in wanted.items():
        if amount > left:
            left = max(left, 0)
            raise NoRoom(f"{name}: {resource} {amount} wanted, {left} left of the {whole}", wanted=amount, left=left)
        left -= amount
