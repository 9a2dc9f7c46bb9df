"""
What the plan of an experiment says of each node, as the node's sliver and its driver need it: made once for each plan,
not for each question. Pure, but for the records that it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING

from attrs import frozen

from hostline.server.drivers.driver import Interface
from hostline.server.experiments.naming import Names
from hostline.server.experiments.topology import TopologyNode
from hostline.server.records import Plan, Sliver

if TYPE_CHECKING:
    from hostline.server.host import Host


@frozen
class PlannedNode:
    """
    One node.

    @ivar node: as it was asked for, addressed.
    @ivar image: serial of the image that it is made from; None if its kind has none.
    @ivar interfaces: as L{hostline.server.drivers.driver.Workload} has them; C{routes} and C{forwards} likewise.
    """

    node: TopologyNode
    kind: str
    image: int | None
    pnode: str
    rspec: Mapping[str, int]
    interfaces: tuple[Interface, ...]
    routes: tuple[tuple[str, str], ...]

    @property
    def forwards(self) -> bool:
        """
        @return: whether it passes packets on: any node does that is on several links.
        """
        return len({one.link for one in self.interfaces}) > 1


class Planned:
    """
    The plans of a host's experiments, read.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._read: dict[int, tuple[Plan, dict[str, PlannedNode]]] = {}
        self._names: dict[int, tuple[Plan, Names]] = {}

    def nodes(self, experiment: int) -> Mapping[str, PlannedNode]:
        """
        @param experiment: its serial.
        @return: by name; none if the plan was damaged and set aside.
        """
        plan = self._host.get(Plan, str(experiment))
        if plan is None:
            self._read.pop(experiment, None)
            return {}
        known = self._read.get(experiment)
        if known is None or known[0] is not plan:
            self._forget()
            known = self._read[experiment] = plan, read_plan(plan)
        return known[1]

    def _forget(self) -> None:
        """
        Keep nothing of experiments that are gone.
        """
        for serial in [one for one in self._read if self._host.get(Plan, str(one)) is None]:
            del self._read[serial]
            self._names.pop(serial, None)

    def node(self, sliver: Sliver) -> PlannedNode | None:
        """
        @return: what the plan says of a sliver's node; None if it says nothing.
        """
        return self.nodes(sliver.experiment).get(sliver.name.partition(".")[0])

    def hosts(self, sliver: Sliver) -> str:
        """
        @return: what a sliver's node finds in C{/etc/hosts} of the nodes of its experiment.
        """
        plan = self._host.get(Plan, str(sliver.experiment))
        if plan is None:
            self._names.pop(sliver.experiment, None)
            return ""
        node, _, domain = sliver.name.partition(".")
        known = self._names.get(sliver.experiment)
        if known is None or known[0] is not plan:
            known = self._names[sliver.experiment] = plan, Names(plan.built, domain)
        return known[1].hosts(node)

    def environment(self, sliver: Sliver) -> Mapping[str, str]:
        """
        @return: what its experiment's topology puts into the environment of a sliver's start command.
        """
        plan = self._host.get(Plan, str(sliver.experiment))
        return plan.built.environment if plan is not None else {}

    def on_failure(self, sliver: Sliver) -> str:
        """
        @return: what becomes of the experiment if this node of it cannot be started.
        """
        known = self.node(sliver)
        return known.node.failure_action if known is not None else "fatal"


def read_plan(plan: Plan) -> dict[str, PlannedNode]:
    """
    @return: the nodes of a plan, by name.
    """
    return {one.name: _node(plan, one) for one in plan.built.nodes}


def _node(plan: Plan, node: TopologyNode) -> PlannedNode:
    made_as = plan.made_as(node.name)
    return PlannedNode(
        node,
        made_as["kind"],
        made_as["image"],
        made_as["pnode"],
        made_as["rspec"],
        tuple(
            Interface(one.name, f"{plan.serial}/{one.link}", one.mac, str(IPv4Interface(f"{one.ip4}/{one.netmask}")))
            for one in node.interfaces
            if one.mac is not None and one.ip4 is not None and one.netmask is not None
        ),
        tuple((to, by) for to, by in plan.routes.get(node.name, ())),
    )
