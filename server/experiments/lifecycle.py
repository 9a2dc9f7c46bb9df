"""
What the commands of an experiment's life make of its records; decides, does no I/O.

Each function gets a L{Change} and the experiment, checks, and puts records; what it returns is the operation that is
done when the slivers are as wanted, or None if they are already.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from hostline.protocol.errors import NoSuchNode, TooMany, WrongState
from hostline.protocol.names import near, node_name
from hostline.server.experiments.topology import Topology, TopologyNode
from hostline.server.experiments.views import KIND, PNODE
from hostline.server.host import Change, Host
from hostline.server.operations import GONE, Operations
from hostline.server.records import Experiment, Operation, Plan, Sliver
from hostline.server.slivers.plan import ABSENT, STARTED, STOPPED
from hostline.server.slivers.rspec import DEFAULTS

_Goal = dict[int, tuple[str, int]]


class Lifecycle:
    """
    The life of experiments on this host.
    """

    def __init__(self, host: Host, operations: Operations) -> None:
        self._host = host
        self._operations = operations

    def create(
        self, change: Change, experiment: Experiment, topology: Topology, warnings: list[dict[str, Any]]
    ) -> None:
        """
        Keep a new experiment and its addressed topology.

        @raise Exists: if the name is taken.
        """
        change.add(experiment)
        change.put(Plan(serial=experiment.serial, topology=topology.as_value(), warnings=warnings))
        self._tell(change, experiment, "created")

    def swap_in(
        self, change: Change, experiment: Experiment, caller: str, command: str = "swap_in"
    ) -> Operation | None:
        """
        Place and start every node; of a failed experiment those that are not up.

        @raise WrongState: if it is being modified or terminated.
        @raise TooMany: if the project's quota does not allow it.
        """
        if experiment.state == "active":
            return None
        if experiment.state == "activating":
            return self._running(experiment, ("swap_in", "create_experiment"))
        self._refuse(experiment, "swap_in", "modifying", "terminating")
        nodes = Topology.from_value(self._host.plan_of(experiment).topology).nodes
        before, goal = self._before(experiment), {}
        slivers = dict(experiment.slivers) if experiment.state == "failed" else {}
        known = self._host.slivers_by_serial
        fresh = [node for node in nodes if slivers.get(node.name) not in known]
        self._check_quota(experiment, len(fresh))
        for node in nodes:
            old = known.get(slivers.get(node.name, 0))
            if old is None:
                sliver = self._sliver(change, experiment, node)
            else:
                sliver = change.put(attrs.evolve(old, wanted=STARTED, boots=old.boots + 1))
                change.slivers.append(sliver.serial)
            slivers[node.name] = sliver.serial
            goal[sliver.serial] = (sliver.wanted, sliver.boots)
        experiment = change.put(attrs.evolve(experiment, state="activating", slivers=slivers, reason=""))
        self._tell(change, experiment, "activating")
        return self._operations.start(change, command, experiment, goal, before, caller, then="active")

    def swap_out(self, change: Change, experiment: Experiment, caller: str) -> Operation | None:
        """
        Take every node off the host.

        @raise WrongState: if it is being terminated.
        """
        if experiment.state in ("swapped", "new"):
            return None
        if experiment.state == "swapping":
            return self._running(experiment, ("swap_out",))
        self._refuse(experiment, "swap_out", "terminating")
        return self._away(change, experiment, caller, "swap_out", "swapping", "swapped")

    def terminate(self, change: Change, experiment: Experiment, caller: str) -> Operation | None:
        """
        Take every node off the host, then forget the experiment.
        """
        if experiment.state == "terminating":
            return self._running(experiment, ("terminate",))
        return self._away(change, experiment, caller, "terminate", "terminating", GONE)

    def modify(
        self,
        change: Change,
        experiment: Experiment,
        topology: Topology,
        warnings: list[dict[str, Any]],
        caller: str,
    ) -> tuple[Operation | None, dict[str, list[str]]]:
        """
        Make the experiment what an addressed topology says. A node whose start command or kind changes is restarted;
        any other that stays goes on undisturbed.

        @return: the operation, None if no sliver is touched; and what became of each node.
        """
        self._refuse(experiment, "modify_experiment", "activating", "swapping", "modifying", "terminating")
        old = {one.name: one for one in Topology.from_value(self._host.plan_of(experiment).topology).nodes}
        new = {one.name: one for one in topology.nodes}
        said: dict[str, list[str]] = {
            "added": sorted(new.keys() - old.keys()),
            "removed": sorted(old.keys() - new.keys()),
            "changed": sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
            "kept": sorted(name for name in new.keys() & old.keys() if new[name] == old[name]),
        }
        change.put(Plan(serial=experiment.serial, topology=topology.as_value(), warnings=warnings))
        if experiment.state in ("swapped", "new"):
            self._tell(change, experiment, "modified")
            return None, said
        self._check_quota(experiment, len(said["added"]) - len(said["removed"]))
        before, goal = self._before(experiment), {}
        slivers = dict(experiment.slivers)
        current = self._host.slivers_of(experiment)
        for name in said["added"]:
            sliver = self._sliver(change, experiment, new[name])
            slivers[name] = sliver.serial
            goal[sliver.serial] = (sliver.wanted, sliver.boots)
        for name in said["removed"]:
            if name in current:
                goal[current[name].serial] = self._put_away(change, current[name])
        for name in said["changed"]:
            if name in current and current[name].start_command != new[name].start_command:
                command, boots = new[name].start_command, current[name].boots + 1
                sliver = change.put(attrs.evolve(current[name], start_command=command, wanted=STARTED, boots=boots))
                change.slivers.append(sliver.serial)
                goal[sliver.serial] = (sliver.wanted, sliver.boots)
        state = "modifying" if goal else experiment.state
        experiment = change.put(attrs.evolve(experiment, slivers=slivers, state=state))
        self._tell(change, experiment, "modifying" if goal else "modified")
        if not goal:
            return None, said
        operation = self._operations.start(
            change, "modify_experiment", experiment, goal, before, caller, then="active", result=said
        )
        return operation, said

    def nodes(
        self, change: Change, experiment: Experiment, command: str, names: Iterable[str], caller: str
    ) -> Operation | None:
        """
        C{node_reboot}, C{start_node} or C{stop_node}.

        @raise NoSuchNode: naming near ones.
        @raise WrongState: if the experiment is not placed.
        """
        if experiment.state not in ("active", "failed", "activating"):
            raise WrongState(f"{experiment.name} is {experiment.state}; {command} wants it active")
        slivers = self._host.slivers_of(experiment)
        names = list(dict.fromkeys(names))
        for name in names:
            if name not in slivers:
                raise NoSuchNode(f"no node {name} in {experiment.name}{near(name, list(slivers)[:300])}")
        goal: _Goal = {}
        before: _Goal = {}
        for name in names:
            sliver = slivers[name]
            wanted, boots = self._want(sliver, command)
            before[sliver.serial] = (sliver.wanted, sliver.boots)
            goal[sliver.serial] = (wanted, boots)
            if (wanted, boots) != (sliver.wanted, sliver.boots):
                change.put(attrs.evolve(sliver, wanted=wanted, boots=boots))
                change.slivers.append(sliver.serial)
        return self._operations.start(change, command, experiment, goal, before, caller, nodes=tuple(names))

    def cancel(self, change: Change, operation: Operation, caller: str) -> Operation:
        """
        Cancel an operation; a swap-in is swapped out again, anything else goes on from where it was before.

        @return: the operation, cancelled.
        """
        cancelled = self._operations.cancel(change, operation)
        experiment = self._host.experiments_by_serial.get(operation.experiment)
        if experiment is None or not operation.then:
            return cancelled
        if operation.command in ("swap_in", "create_experiment"):
            follow = self._away(change, experiment, caller, "swap_out", "swapping", "swapped")
            change.when_committed.append(lambda: self._operations.track(follow))
        else:
            experiment = change.put(attrs.evolve(experiment, state="active"))
            self._tell(change, experiment, "active")
        return cancelled

    def _want(self, sliver: Sliver, command: str) -> tuple[str, int]:
        if command == "stop_node":
            return STOPPED, sliver.boots
        status = self._operations.status(sliver.serial)
        up = sliver.wanted == STARTED and (status is None or status.boot != "dead" or status.boots < sliver.boots)
        if command == "start_node" and up:
            return STARTED, sliver.boots
        return STARTED, sliver.boots + 1

    def _away(
        self, change: Change, experiment: Experiment, caller: str, command: str, state: str, then: str
    ) -> Operation:
        before = self._before(experiment)
        goal = {sliver.serial: self._put_away(change, sliver) for sliver in self._host.slivers_of(experiment).values()}
        experiment = change.put(attrs.evolve(experiment, state=state, reason=""))
        self._tell(change, experiment, state)
        return self._operations.start(change, command, experiment, goal, before, caller, then=then)

    def _put_away(self, change: Change, sliver: Sliver) -> tuple[str, int]:
        change.put(attrs.evolve(sliver, wanted=ABSENT))
        change.slivers.append(sliver.serial)
        return ABSENT, sliver.boots

    def _sliver(self, change: Change, experiment: Experiment, node: TopologyNode) -> Sliver:
        sliver = change.put(
            Sliver(
                serial=change.serial(),
                name=node_name(node.name, experiment.name),
                kind=KIND,
                experiment=experiment.serial,
                pnode=PNODE,
                start_command=node.start_command,
                rspec=dict(DEFAULTS),
                created=change.now,
            )
        )
        change.slivers.append(sliver.serial)
        return sliver

    def _before(self, experiment: Experiment) -> _Goal:
        slivers = self._host.slivers_of(experiment).values()
        return {sliver.serial: (sliver.wanted, sliver.boots) for sliver in slivers}

    def _running(self, experiment: Experiment, commands: tuple[str, ...]) -> Operation | None:
        mine = [one for one in self._host.table(Operation).values() if one.experiment == experiment.serial]
        return next((one for one in mine if one.ended is None and one.command in commands), None)

    def _refuse(self, experiment: Experiment, command: str, *states: str) -> None:
        if experiment.state in states:
            raise WrongState(f"{experiment.name} is {experiment.state}; {command} wants it to end first")

    def _check_quota(self, experiment: Experiment, more: int) -> None:
        project = self._host.project_of(experiment)
        if project is None or not project.quota or more <= 0:
            return
        inside = {one.serial for one in self._host.experiments_by_serial.values() if one.project == project.serial}
        slivers = [one for one in self._host.slivers_by_serial.values() if one.experiment in inside]
        for resource, most in project.quota.items():
            has = sum(sliver.rspec.get(resource, 0) for sliver in slivers if sliver.wanted != ABSENT)
            wants = more * DEFAULTS[resource]
            if has + wants > most:
                raise TooMany(
                    f"the quota of project {project.name} is {resource} {most}: "
                    f"{has} in use, {wants} wanted for {more} more nodes"
                )

    def _tell(self, change: Change, experiment: Experiment, what: str) -> None:
        scope = (experiment.project, experiment.serial)
        change.tell(f"experiment/{experiment.name}", what, scope, experiment=experiment.name)
