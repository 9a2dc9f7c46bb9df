"""
What the plan of an experiment makes of the records of its slivers; decides, does no I/O.
"""

from __future__ import annotations

import attrs

from hostline.protocol.names import node_name
from hostline.server.drivers.driver import Status
from hostline.server.experiments.planned import PlannedNode, read_plan
from hostline.server.experiments.topology import Topology, TopologyNode
from hostline.server.host import Change
from hostline.server.records import Experiment, Plan, Sliver
from hostline.server.slivers.plan import STARTED, STOPPED


def new_sliver(change: Change, experiment: Experiment, node: PlannedNode, serial: int | None = None) -> Sliver:
    """
    @param serial: None for one that was never used.
    @return: the record of a node that is to be there, and up unless it is a ghost.
    """
    return change.put(
        Sliver(
            serial=change.serial() if serial is None else serial,
            name=node_name(node.node.name, experiment.name),
            kind=node.kind,
            experiment=experiment.serial,
            pnode=node.pnode,
            image=node.image,
            wanted=STOPPED if node.node.ghost else STARTED,
            boots=0 if node.node.ghost else 1,
            start_command=node.node.start_command,
            rspec=dict(node.rspec),
            created=change.now,
        )
    )


def changed(sliver: Sliver, node: PlannedNode, old: PlannedNode | None, status: Status | None) -> Sliver:
    """
    @param node: what it is to be, of the same kind; C{old}: what the plan said before.
    @param status: what is so of it.
    @return: the record of a sliver that stays.
    """
    fresh = attrs.evolve(sliver, pnode=node.pnode, rspec=dict(node.rspec), start_command=node.node.start_command)
    if sliver.boots == 0:  # a ghost: there is nothing yet that could be started again
        wanted, boots = (STOPPED, 0) if node.node.ghost else (STARTED, 1)
        return attrs.evolve(fresh, image=node.image, wanted=wanted, boots=boots)
    anew = sliver.image != node.image
    before = old if old is not None else node
    again = before.node.packages != node.node.packages
    if sliver.kind == "process":  # one that is on no link runs in the host's network
        again = again or bool(before.interfaces) != bool(node.interfaces)
    if not anew and not again and sliver.start_command == node.node.start_command:
        return fresh
    builds = max(sliver.builds, status.builds if status is not None else 0) + 1 if anew else sliver.builds
    return attrs.evolve(fresh, image=node.image, builds=builds, wanted=STARTED, boots=next_boot(sliver, status))


def next_boot(sliver: Sliver, status: Status | None) -> int:
    """
    @return: the number of a boot that is none yet.
    """
    # An operation that was cancelled may have begun a boot that the record no longer wants.
    return max(sliver.boots, status.boots if status is not None else 0) + 1


def unplanned(name: str) -> PlannedNode:
    """
    @return: what is known of a node of which no plan tells any more.
    """
    return read_plan(Plan(serial=0, topology=Topology(nodes=(TopologyNode(name=name),)).as_value()))[name]
