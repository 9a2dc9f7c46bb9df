"""
What the commands of an experiment's life make of its records; decides, does no I/O.

Each function gets a L{Change} and the experiment, checks, and puts records; what it returns is the operation that is
done when the slivers are as wanted, or None if they are already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import attrs

from hostline.protocol.errors import NoSuchNode, WrongState
from hostline.protocol.names import near
from hostline.server.experiments import history
from hostline.server.experiments.making import changed, new_sliver, next_boot
from hostline.server.experiments.planned import Planned, PlannedNode, read_plan
from hostline.server.experiments.rooms import check_alone, check_quota
from hostline.server.host import Change, Host
from hostline.server.operations import GONE, Operations
from hostline.server.records import Experiment, Image, Operation, Plan, Sliver
from hostline.server.slivers.plan import ABSENT, STARTED, STOPPED, reached

_Goal = dict[int, tuple[str, int]]
_Before = dict[int, tuple[str, int, str | None]]
#: Raises if there is no room for nodes once the slivers with some serials are gone.
Rooms = Callable[[Mapping[str, PlannedNode], Collection[int]], None]
#: Raises if a project may not have an experiment like this, though it be swapped out.
Kept = Callable[[Experiment, Plan], None]


class Lifecycle:
    """
    The life of experiments on this host.
    """

    def __init__(
        self,
        host: Host,
        operations: Operations,
        planned: Planned,
        rooms: Rooms | None = None,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        @param planned: what plans say of nodes.
        @param rooms: raises L{NoRoom} if the host has none for nodes once some slivers are gone; None if that is not
            looked at.
        @param alone: whether a node may have the host to itself.
        """
        self._alone = alone
        self._host = host
        self._operations = operations
        self._planned = planned
        self._rooms = rooms

    def create(self, change: Change, experiment: Experiment, plan: Plan, kept: Kept | None = None) -> None:
        """
        Keep a new experiment and its plan.

        @param kept: asked before; None: who asks may have as many as it wants.
        @raise Exists: if the name is taken.
        """
        if kept is not None:
            kept(experiment, plan)
        change.add(experiment)
        change.put(plan)
        self._tell(change, experiment, "created")
        history.write(change, experiment.serial, "created", experiment.owner)

    def swap_in(
        self, change: Change, experiment: Experiment, caller: str, command: str = "swap_in"
    ) -> Operation | None:
        """
        Place every node, and start those that are no ghosts; of a failed experiment those that are not up.

        @raise WrongState: if it is being modified or terminated, or an image is gone.
        @raise TooMany: if the project's quota does not allow it; C{NoRoom}: if the host has no room for it.
        """
        if experiment.state == "active":
            return None
        if experiment.state == "activating":
            return self._running(experiment, ("swap_in", "create_experiment"))
        self._refuse(experiment, "swap_in", "modifying", "terminating")
        self._host.plan_of(experiment)
        nodes = self._planned.nodes(experiment.serial)
        before = self._before(experiment)
        goal: _Goal = {}
        slivers = dict(experiment.slivers) if experiment.state == "failed" else {}
        known = self._host.slivers_by_serial
        self._check_room(experiment, {name: one for name, one in nodes.items() if slivers.get(name) not in known})
        for name, node in nodes.items():
            old = known.get(slivers.get(name, 0))
            if old is None:
                sliver = new_sliver(change, experiment, node)
            elif self._up(old) or (node.node.ghost and old.boots == 0):
                sliver = old
            else:
                sliver = change.put(attrs.evolve(old, wanted=STARTED, boots=self._next_boot(old)))
            slivers[name] = sliver.serial
            goal[sliver.serial] = (sliver.wanted, sliver.boots)
        experiment = change.put(attrs.evolve(experiment, slivers=slivers))
        return self._activating(change, experiment, goal, before, caller, command)

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
        plan: Plan,
        caller: str,
        allowed: Kept | None = None,
    ) -> tuple[Operation | None, dict[str, list[str]]]:
        """
        Make the experiment what another plan says. A node whose start command or packages change is restarted, one
        whose kind or image does is made anew; what else changes does so while it runs, and any other node that stays
        goes on undisturbed.

        @param allowed: asked before, as in L{create}.
        @return: the operation, None if no sliver is touched; and what became of each node.
        """
        self._refuse(experiment, "modify_experiment", "activating", "swapping", "modifying", "terminating")
        kept = self._host.plan_of(experiment)
        if allowed is not None:
            allowed(experiment, plan)
        old, new = read_plan(kept), read_plan(plan)
        said: dict[str, list[str]] = {
            "added": sorted(new.keys() - old.keys()),
            "removed": sorted(old.keys() - new.keys()),
            "changed": sorted(name for name in new.keys() & old.keys() if new[name].node != old[name].node),
            "kept": sorted(name for name in new.keys() & old.keys() if new[name].node == old[name].node),
        }
        change.put(plan)
        if experiment.changes:  # what its links are is said anew
            experiment = change.put(attrs.evolve(experiment, changes={}))
        if experiment.state in ("swapped", "new"):
            self._tell(change, experiment, "modified")
            history.write(change, experiment.serial, "modify_experiment", caller)
            return None, said
        before = self._before(experiment)
        placed = {node: one for node, one in self._host.slivers_of(experiment).items() if one.wanted != ABSENT}
        self._check_room(experiment, new, placed)
        experiment, goal = self._align(change, experiment, old)
        if not goal:
            self._tell(change, experiment, "modified")
            history.write(change, experiment.serial, "modify_experiment", caller)
            return None, said
        operation = self._modifying(change, experiment, goal, before, caller, said)
        change.put(attrs.evolve(kept, serial=operation.serial))
        return operation, said

    def _modifying(
        self, change: Change, experiment: Experiment, goal: _Goal, before: _Before, caller: str, said: Any
    ) -> Operation:
        experiment = change.put(attrs.evolve(experiment, state="modifying"))
        self._tell(change, experiment, "modifying")
        return self._operations.start(
            change, "modify_experiment", experiment, goal, before, caller, then="active", result=said
        )

    def _activating(
        self, change: Change, experiment: Experiment, goal: _Goal, before: _Before, caller: str, command: str
    ) -> Operation:
        experiment = change.put(attrs.evolve(experiment, state="activating", reason=""))
        self._tell(change, experiment, "activating")
        return self._operations.start(change, command, experiment, goal, before, caller, then="active")

    def _align(
        self, change: Change, experiment: Experiment, old: Mapping[str, PlannedNode]
    ) -> tuple[Experiment, _Goal]:
        """
        Make the slivers of a placed experiment those of its plan.

        @param old: what the plan said before of each node.
        @return: the experiment as it is then, and what is waited for.
        """
        wanted = self._planned.nodes(experiment.serial)
        # More than one of a node if it was about to become another kind, and that was cancelled.
        there = [one for one in self._host.slivers_in(experiment) if one.wanted != ABSENT]
        there.sort(key=lambda one: (one.kind == self._kind(one), one.serial))
        current = {one.name.partition(".")[0]: one for one in there}
        slivers = dict(experiment.slivers)
        goal: _Goal = {}
        renamed = _names(old) != _names(wanted)
        for name, node in wanted.items():
            sliver = current.get(name)
            if sliver is None or sliver.kind != node.kind:
                # Another driver's: what this one has goes below.
                sliver = new_sliver(change, experiment, node)
                slivers[name] = sliver.serial
            else:
                there.remove(sliver)
                moved, slivers[name] = slivers.get(name) != sliver.serial, sliver.serial
                fresh = changed(sliver, node, old.get(name), self._operations.status(sliver.serial))
                if fresh != sliver:
                    sliver = change.put(fresh)
                elif not renamed and not moved and old.get(name) == node:
                    continue
                else:
                    change.touch(sliver.serial)
            goal[sliver.serial] = (sliver.wanted, sliver.boots)
        for sliver in there:
            goal[sliver.serial] = self._put_away(change, sliver)
        return change.put(attrs.evolve(experiment, slivers=slivers)), goal

    def _kind(self, sliver: Sliver) -> str | None:
        node = self._planned.node(sliver)
        return node.kind if node is not None else None

    def nodes(
        self, change: Change, experiment: Experiment, command: str, names: Iterable[str], caller: str
    ) -> Operation | None:
        """
        C{node_reboot}, C{start_node} or C{stop_node}.

        @return: the operation, None if all of them are so already.
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
        before: _Before = {}
        if all(self._is_so(slivers[name], command) for name in names):
            return None
        for name in names:
            sliver = slivers[name]
            wanted, boots = self._want(sliver, command)
            before[sliver.serial] = (sliver.wanted, sliver.boots, sliver.start_command)
            goal[sliver.serial] = (wanted, boots)
            if (wanted, boots) != (sliver.wanted, sliver.boots):
                change.put(attrs.evolve(sliver, wanted=wanted, boots=boots))
        return self._operations.start(change, command, experiment, goal, before, caller, nodes=tuple(names))

    def cancel(self, change: Change, operation: Operation, caller: str) -> Operation:
        """
        Cancel an operation; what it had reached by then is taken back by another one: a swap-in is swapped out again,
        a swapped-out experiment swapped in, a modified one modified back.

        @return: the operation, cancelled.
        """
        previous = self._host.get(Plan, str(operation.serial))
        newer = dict(self._planned.nodes(operation.subject))
        cancelled = self._operations.cancel(change, operation)
        experiment = self._host.experiments_by_serial.get(operation.subject)
        if experiment is None or not operation.then:
            return cancelled
        if operation.command in ("swap_in", "create_experiment"):
            self._away(change, experiment, caller, "swap_out", "swapping", "swapped")
            return cancelled
        if previous is not None:
            change.put(attrs.evolve(previous, serial=experiment.serial))
        before = self._before(experiment)
        experiment, goal = self._align(change, experiment, newer)
        if not goal:
            experiment = change.put(attrs.evolve(experiment, state="active"))
            self._tell(change, experiment, "active")
        elif operation.command == "swap_out":
            self._activating(change, experiment, goal, before, caller, "swap_in")
        else:
            self._modifying(change, experiment, goal, before, caller, None)
        return cancelled

    def _up(self, sliver: Sliver) -> bool:
        """
        Whether the sliver is up, or on its way.
        """
        status = self._operations.status(sliver.serial)
        return sliver.wanted == STARTED and (status is None or status.boot != "dead" or status.boots < sliver.boots)

    def _is_so(self, sliver: Sliver, command: str) -> bool:
        wanted, boots = self._want(sliver, command)
        status = self._operations.status(sliver.serial)
        return (wanted, boots) == (sliver.wanted, sliver.boots) and reached(wanted, boots, status) == ""

    def _next_boot(self, sliver: Sliver) -> int:
        return next_boot(sliver, self._operations.status(sliver.serial))

    def _want(self, sliver: Sliver, command: str) -> tuple[str, int]:
        if command == "stop_node":
            return STOPPED, sliver.boots
        if command == "start_node" and self._up(sliver):
            return STARTED, sliver.boots
        return STARTED, self._next_boot(sliver)

    def _away(
        self, change: Change, experiment: Experiment, caller: str, command: str, state: str, then: str
    ) -> Operation:
        before = self._before(experiment)
        goal = {sliver.serial: self._put_away(change, sliver) for sliver in self._host.slivers_in(experiment)}
        experiment = change.put(attrs.evolve(experiment, state=state, reason=""))
        self._tell(change, experiment, state)
        return self._operations.start(change, command, experiment, goal, before, caller, then=then)

    def _put_away(self, change: Change, sliver: Sliver) -> tuple[str, int]:
        change.put(attrs.evolve(sliver, wanted=ABSENT))
        return ABSENT, sliver.boots

    def _before(self, experiment: Experiment) -> _Before:
        slivers = self._host.slivers_of(experiment).values()
        return {sliver.serial: (sliver.wanted, sliver.boots, sliver.start_command) for sliver in slivers}

    def _running(self, experiment: Experiment, commands: tuple[str, ...]) -> Operation | None:
        running = self._host.unended.get(experiment.serial, {}).values()
        return next((one for one in running if one.command in commands), None)

    def _refuse(self, experiment: Experiment, command: str, *states: str) -> None:
        if experiment.state in states:
            raise WrongState(f"{experiment.name} is {experiment.state}; {command} wants it to end first")

    def _check_room(
        self, experiment: Experiment, nodes: Mapping[str, PlannedNode], instead: Mapping[str, Sliver] | None = None
    ) -> None:
        """
        Check that nodes can be there as well as all that is.

        @param instead: slivers of the experiment that go, or become some of the nodes.
        @raise TooMany: if the project's quota does not allow it.
        @raise NoRoom: if the host has no room for them.
        @raise WrongState: if an image is gone.
        """
        gone = {one.serial for one in (instead or {}).values()}
        for name, node in nodes.items():
            if node.image is not None and self._host.by_serial(Image, node.image) is None:
                raise WrongState(
                    f"the image of node {name} of {experiment.name} was removed; modify_experiment with its topology "
                    "takes the one that has its name now"
                )
        check_quota(self._host, experiment, nodes, gone)
        check_alone(self._host, self._planned, experiment, nodes, self._alone())
        if self._rooms is not None:
            self._rooms(nodes, gone)

    def _tell(self, change: Change, experiment: Experiment, what: str) -> None:
        scope = (experiment.project, experiment.serial)
        change.tell(f"experiment/{experiment.name}", what, scope, experiment=experiment.name)


def _names(nodes: Mapping[str, PlannedNode]) -> dict[str, list[str]]:
    """
    @return: all that nodes find in C{/etc/hosts} of each other.
    """
    return {name: [one.address for one in node.interfaces] for name, node in nodes.items()}
