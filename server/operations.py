"""
Operations: slow work with a number.

An operation is no running code. Its record names the slivers it waits for and what is wanted of each; it is done when
that is so, by whoever and whenever, so a crash between act and note is harmless and a restart has nothing to resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, succeed

from hostline.protocol.errors import StoreFailed, WrongState
from hostline.server import callers, entries
from hostline.server.drivers.driver import Status
from hostline.server.experiments import history
from hostline.server.host import Change, Host
from hostline.server.record import ENCODE
from hostline.server.records import KEPT_REPLY, Experiment, Operation, Plan, Sliver, kept_reply
from hostline.server.slivers import plan
from hostline.server.slivers.plan import ABSENT, STARTED, folded

#: The commands that cannot be taken back once they run.
_FINAL = ("terminate", "recreate")
#: Those whose opposite is begun when they are cancelled, whatever is under way.
_TAKEN_BACK = ("swap_in", "create_experiment", "create")
GONE = "gone"
#: Ended operations of one principal that are kept.
KEPT = 1000


class Subject(Protocol):
    """
    What an operation may be about.
    """

    @property
    def name(self) -> str:
        """
        As in replies.
        """

    @property
    def serial(self) -> int:
        """
        Of its record.
        """


class Operations:
    """
    The operations that have not ended, and those who wait for them.
    """

    def __init__(
        self,
        host: Host,
        statuses: Callable[[int], Status | None],
        begin: Callable[[], Change],
        commit: Callable[[Change], Deferred[None]],
        result: Callable[[Operation], Any],
        busy: Callable[[int], bool] = lambda serial: False,
        step: Callable[[int], tuple[str, float | None] | None] = lambda subject: None,
        told: Callable[[int], bool] = lambda serial: True,
        on_failure: Callable[[Sliver], str] = lambda sliver: "fatal",
    ) -> None:
        """
        @param told: whether a sliver's driver knows all that is asked of it now, by serial.
        @param on_failure: what becomes of an experiment of which a node cannot be started, one of L{FAILURE_ACTIONS}.
        @param statuses: what is, by sliver serial.
        @param begin: begins a change that is nobody's request.
        @param commit: makes it durable.
        @param result: the reply body of an operation whose target is about to go.
        @param busy: whether a step is being taken for a sliver, by serial.
        @param step: what is being done for a subject that knows more of it than its slivers' status, and how far.
        """
        self._host = host
        self.status = statuses
        self._begin = begin
        self._commit = commit
        self._result = result
        self._busy = busy
        self._step = step
        self._told = told
        self._on_failure = on_failure
        self._left: dict[int, set[int]] = {}
        self._waiting_for: dict[int, set[int]] = {}
        self._waiters: dict[int, list[Deferred[None]]] = {}

    def start(
        self,
        change: Change,
        command: str,
        subject: Subject,
        goal: Mapping[int, tuple[str, int]],
        before: Mapping[int, tuple[str, int, str | None]],
        caller: str,
        nodes: tuple[str, ...] = (),
        then: str = "",
        result: Any = None,
    ) -> Operation:
        """
        Begin an operation, followed as soon as the change is durable. An older one that it makes pointless is
        cancelled: all of the subject by one that changes its state, one of some nodes by the next of the same.

        @param goal: wanted state and boot by sliver serial; C{before} what was, with the start command.
        @param then: the subject's state once the goal is reached.
        @param caller: the principal, as in L{hostline.server.callers.principal}.
        """
        operation = Operation(
            serial=change.serial(),
            command=command,
            target=subject.name,
            nodes=nodes,
            subject=subject.serial,
            scope=subject.project if isinstance(subject, Experiment | Sliver) else 0,
            caller=caller,
            goal={str(serial): list(wanted) for serial, wanted in goal.items()},
            before={str(serial): list(was) for serial, was in before.items()},
            then=then,
            started=change.now,
            result=result,
        )
        for older in list(self._host.unended.get(subject.serial, {}).values()):
            same = not older.then and not older.goal.keys().isdisjoint(operation.goal)
            if then or same:
                self._end(change, older, "cancelled", [f"superseded by operation {operation.serial} ({command})"])
        self._drop_oldest(change, caller)
        change.put(operation)
        self._tell(change, operation)
        change.when_committed.append(lambda: self._track(operation))
        return operation

    def _drop_oldest(self, change: Change, principal: str) -> None:
        keys = self._host.of_principal(Operation, principal)
        if len(keys) <= KEPT:
            return
        found = [one for one in map(self._host.table(Operation).__getitem__, keys) if one.ended is not None]
        if len(found) > KEPT:  # a tenth at a time: to look for the oldest costs
            found.sort(key=lambda one: (one.ended or 0.0, one.serial))
            for one in found[: len(found) - KEPT * 9 // 10]:
                change.remove(one)

    def _track(self, operation: Operation) -> None:
        """
        Follow an operation whose record is durable, from now on or again after a restart.
        """
        left = self._left[operation.serial] = set(map(int, operation.goal))
        for serial in left:
            self._waiting_for.setdefault(serial, set()).add(operation.serial)
        self._look(operation.serial, list(left))

    def load(self) -> None:
        """
        Follow again what had not ended when the last daemon did.
        """
        for operation in [one for some in self._host.unended.values() for one in some.values()]:
            self._track(operation)

    def waits_for(self, serial: int) -> bool:
        """
        Whether an operation that has not ended waits for this sliver.
        """
        return serial in self._waiting_for

    def news(self, serial: int) -> None:
        """
        Something is no longer what it was for this sliver.
        """
        for number in list(self._waiting_for.get(serial, ())):
            self._look(number, [serial])

    def ended(self, number: int) -> Deferred[None]:
        """
        @return: fires when the operation has ended, at once if it has.
        """
        if number not in self._left:
            return succeed(None)
        waiter: Deferred[None] = Deferred(lambda _: self._waiters[number].remove(waiter))
        self._waiters.setdefault(number, []).append(waiter)
        return waiter

    def cancel(self, change: Change, operation: Operation) -> Operation:
        """
        Take back what the operation has not reached.

        @raise WrongState: if it has ended or cannot be taken back.
        """
        if operation.ended is not None:
            raise WrongState(f"operation {operation.serial} is {operation.state}")
        if operation.command in _FINAL:
            raise WrongState(f"operation {operation.serial}: {operation.command} cannot be taken back once it runs")
        left = self._left.get(operation.serial, set(map(int, operation.goal)))
        begun = [
            self._host.slivers_by_serial[one].name
            for one in left
            if self._busy(one) and one in self._host.slivers_by_serial
        ]
        if begun and len(begun) == len(left) and operation.command not in _TAKEN_BACK:
            raise WrongState(f"operation {operation.serial}: {operation.command} of {folded(begun)} is under way")
        for serial in left:
            sliver = self._host.slivers_by_serial.get(serial)
            if sliver is None:
                continue
            wanted, boots, *command = operation.before.get(str(serial), [ABSENT, 0])
            status = self.status(serial)
            if self._busy(serial) or (status is not None and status.boots >= sliver.boots):
                # That boot has begun: its number must not be used for another one.
                boots, command = sliver.boots, [sliver.start_command]
            start_command = command[0] if command else sliver.start_command
            change.put(attrs.evolve(sliver, wanted=wanted, boots=boots, start_command=start_command))
        causes = ["cancelled on request", *([f"under way: {folded(begun)}"] if begun else [])]
        return self._end(change, operation, "cancelled", causes)

    def body(self, operation: Operation) -> dict[str, Any]:
        """
        The operation as it goes on the wire.
        """
        left = self._left.get(operation.serial)
        goals = len(operation.goal)
        running = operation.ended is None
        count = len(left) if left is not None else (goals if running else 0)
        progress: float | None = plan.progress(goals, count)
        step = f"{goals - count} of {goals} nodes"
        if operation.subject not in self._host.experiments_by_serial:
            step, progress = self._step(operation.subject) or (operation.command, None)
        return {
            "operation": operation.serial,
            "command": operation.command,
            "target": operation.target,
            "nodes": list(operation.nodes),
            "state": operation.state,
            "step": step if running else operation.state,
            "progress": progress if running else 1.0 if operation.state == "done" else None,
            "started": operation.started,
            "ended": operation.ended,
            "causes": list(operation.causes),
        }

    def _look(self, number: int, serials: Iterable[int]) -> None:
        operation = self._host.get(Operation, str(number))
        left = self._left.get(number)
        if operation is None or left is None or operation.ended is not None:
            return
        for serial in serials:
            if serial not in self._host.unsettled and self._cause(operation, serial) is not None:
                left.discard(serial)
        if not left:
            self._finish(operation)

    def _cause(self, operation: Operation, serial: int) -> str | None:
        """
        @return: None if the goal is not reached for this sliver, the empty text if it is, else why it never will be.
        """
        wanted, boots, *_ = operation.goal[str(serial)]
        sliver = self._host.slivers_by_serial.get(serial)
        if sliver is not None and sliver.free and wanted == STARTED:
            wanted = sliver.aim  # it may have been doomed or disabled meanwhile
        elif sliver is not None and not sliver.free and operation.then:
            # A node may be stopped or rebooted while its experiment comes up: then that is what it comes up to.
            wanted, boots = sliver.wanted, sliver.boots
        status = self.status(serial)
        if status is None and self._busy(serial):
            return None  # what is being made may be there in a moment
        cause = plan.reached(wanted, boots, status, sliver.builds if sliver is not None else 1)
        if cause == "" and operation.then == "active" and status is not None and status.boot == "booted":
            return "" if self._told(serial) else None  # its links are not yet what they should be
        return cause

    def _finish(self, operation: Operation) -> None:
        causes: list[str] = []
        failed: list[str] = []
        without: list[str] = []
        for serial in map(int, operation.goal):
            cause = self._cause(operation, serial)
            sliver = self._host.slivers_by_serial.get(serial)
            if cause and (sliver is None or sliver.free):
                causes += [cause, f"{operation.command} {operation.target} failed"]
            elif cause and sliver is not None:
                # Whoever names a node wants that one, whatever its experiment can do without.
                action = self._on_failure(sliver) if operation.then == "active" else "fatal"
                if action == "ignore":
                    continue
                (failed if action == "fatal" else without).append(sliver.name.partition(".")[0])
                causes.append(f"{sliver.name.partition('.')[0]}: {cause}")
        change = self._begin()
        experiment = self._host.experiments_by_serial.get(operation.subject)
        if experiment is not None and operation.then:
            operation = self._settle(change, operation, experiment, failed, without)
        if operation.then == GONE and operation.subject in self._host.slivers_by_serial:
            operation = attrs.evolve(operation, result=self._result(operation))
            gone = self._host.slivers_by_serial[operation.subject]
            change.remove(gone)
            change.tell(gone.topic, "destroyed", (gone.project, gone.serial), sliver=gone.name)
        if failed:
            causes = [*causes[:20], f"{folded(failed)} of {operation.target} could not be started"]
        bad = bool(causes) and (bool(failed) or not without)
        if operation.token and not bad and operation.result is None:
            body, cut = kept_reply(self._result(operation))
            if not cut and len(ENCODE(body)) > KEPT_REPLY:
                body = None  # a long list of nodes
            operation = attrs.evolve(operation, result=body, cut=cut)
        self._end(change, operation, "failed" if bad else "done", causes[:21])
        # If this cannot be written (a full disk) the operation is running again, and look_again tries later.
        self._commit(change).addErrback(lambda failure: failure.trap(StoreFailed) and None)

    def _settle(
        self, change: Change, operation: Operation, experiment: Experiment, failed: list[str], without: list[str]
    ) -> Operation:
        slivers = dict(experiment.slivers)
        for serial in map(int, operation.goal):
            sliver = self._host.slivers_by_serial.get(serial)
            if sliver is not None and sliver.wanted == ABSENT:
                change.remove(sliver)
                node = sliver.name.partition(".")[0]
                if slivers.get(node) == sliver.serial:
                    del slivers[node]
        state = "failed" if failed else operation.then
        lacking = failed or without
        reason = f"{folded(lacking)} could not be started" if lacking else ""
        swapped_in = change.now if operation.command in ("swap_in", "create_experiment") else experiment.swapped_in
        experiment = attrs.evolve(
            experiment,
            state="terminating" if state == GONE else state,
            slivers=slivers,
            reason=reason,
            swapped_in=None if state in ("swapped", GONE) else swapped_in,
        )
        change.put(experiment)
        change.tell(
            f"experiment/{experiment.name}",
            "terminated" if state == GONE else state,
            (experiment.project, experiment.serial),
            experiment=experiment.name,
            operation=operation.serial,
            **({"reason": reason} if reason else {}),
        )
        if state == GONE:
            body, cut = kept_reply(self._result(operation))
            operation = attrs.evolve(operation, result=body, cut=cut)
            kept = self._host.get(Plan, str(experiment.serial))
            if kept is not None:
                change.remove(kept)
            change.remove(experiment)
        return operation

    def _end(self, change: Change, operation: Operation, state: str, causes: list[str]) -> Operation:
        operation = attrs.evolve(operation, state=state, causes=tuple(causes), ended=change.now)
        change.put(operation)
        previous = self._host.get(Plan, str(operation.serial))
        if previous is not None:
            change.remove(previous)
        for serial in map(int, operation.goal):
            if serial in self._host.slivers_by_serial:
                change.touch(serial)
        self._tell(change, operation)
        history.ended(change, operation)
        entries.tell_ended(change, operation, callers.shown_principal(self._host, operation.caller))
        change.when_committed.append(lambda: self._forget(operation))
        return operation

    def _tell(self, change: Change, operation: Operation) -> None:
        change.tell(
            f"operation/{operation.serial}",
            operation.state,
            (operation.scope, operation.subject),
            operation=operation.serial,
            command=operation.command,
            target=operation.target,
            causes=list(operation.causes),
            **({"experiment": operation.target} if "/" in operation.target else {}),
        )

    def _forget(self, operation: Operation) -> None:
        number = operation.serial
        self._left.pop(number, None)
        for serial in map(int, operation.goal):
            numbers = self._waiting_for.get(serial)
            if numbers is not None:
                numbers.discard(number)
                if not numbers:
                    del self._waiting_for[serial]
        for waiter in self._waiters.pop(number, []):
            waiter.callback(None)

    def look_again(self) -> None:
        """
        End what could not be ended because the state could not be written; called on a slow timer.
        """
        for number, left in list(self._left.items()):
            self._look(number, list(left))
