"""
From what should be to what is: asks the plan for the next step of a sliver, has its driver take it, hears what came
of it, and tells whoever hangs on that.

One step at a time for each sliver, a set number at once on the host, projects in turn; a slow one delays no other's
answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from hostline.protocol.errors import HostError, OperationFailed, StoreFailed
from hostline.server.board import Board
from hostline.server.doors import Doors
from hostline.server.drivers.driver import CANNOT_START, Driver, Status
from hostline.server.experiments.planned import Planned
from hostline.server.host import Change, Host
from hostline.server.operations import Operations
from hostline.server.records import Sliver
from hostline.server.slivers import plan
from hostline.server.slivers.news import news, tell
from hostline.server.slivers.rota import Rota
from hostline.server.supervise.turns import Turns
from hostline.server.workloads import Workloads

#: Seconds until a step that failed is tried again.
RETRY_S = 10.0
#: For so long slivers are looked at, or steps begun, before others have their turn.
_SLICE_S = 0.005


class Footing(Protocol):
    """
    What several drivers stand on: the network, the links of experiments.
    """

    async def recover(self, known: Collection[int], keep_strays: bool = False) -> None:
        """
        Find again what earlier daemons made; what belongs to none of the slivers known goes.
        """


class Sync:
    """
    The drivers of this host, and what they say.
    """

    _log = Logger()

    def __init__(
        self,
        host: Host,
        drivers: Mapping[str, Driver],
        board: Board,
        clock: IReactorTime,
        at_once: int,
        begin: Callable[[], Change],
        commit: Callable[[Change], Deferred[None]],
        doors: Doors,
        planned: Planned,
    ) -> None:
        """
        @param doors: the own sockets of slivers.
        @param planned: what the plans of experiments say of nodes.

        @ivar footings: what several drivers stand on; they are found again before drivers are.
        """
        self._host = host
        self.drivers = drivers
        self._board = board
        self._clock = clock
        self._rota = Rota(at_once)
        self._serving = False
        self._begin = begin
        self._commit = commit
        self._busy: set[int] = set()
        self._stepping: set[int] = set()
        self._failed: dict[int, Status] = {}
        self._trouble: dict[int, str] = {}
        self._waiting: dict[int, tuple[str, int]] = {}
        self._removing: set[int] = set()
        self._told: dict[int, Status | None] = {}
        self._closed = False
        self._recovering = False
        self._looking = False
        self._turns = Turns(clock)
        self._doors = doors
        self._workloads = Workloads(host, doors, planned)
        self.footings: list[Footing] = []
        self._held: dict[int, IDelayedCall] = {}
        self.operations: Operations | None = None

    def status(self, serial: int) -> Status | None:
        """
        What is so of a sliver; None if no driver knows it. A sliver that could not be made or started is dead.
        """
        failed = self._failed.get(serial)
        if failed is not None:
            return failed
        sliver = self._host.slivers_by_serial.get(serial)
        return None if sliver is None else self._is(sliver)

    def busy(self, serial: int) -> bool:
        """
        Whether a step is being taken for this sliver.
        """
        return serial in self._stepping

    def is_told(self, serial: int) -> bool:
        """
        Whether a sliver's driver knows all that is asked of it now.
        """
        sliver = self._host.slivers_by_serial.get(serial)
        return sliver is None or self._workloads.is_told(sliver)

    def _is(self, sliver: Sliver) -> Status | None:
        driver = self.drivers.get(sliver.kind)
        return None if driver is None else driver.status().get(sliver.serial)

    async def recover(self, keep_strays: bool) -> None:
        """
        Have every driver find its slivers again. What they tell meanwhile is not acted on before L{go_on}: a start
        may have to wait for others.

        @param keep_strays: what has no record is left alone.
        """
        self._recovering = True
        configured = self._workloads.configured
        for sliver in self._host.slivers_by_serial.values():
            configured[sliver.serial] = self._workloads.of(sliver)
        self._doors.keep(configured.keys(), keep_strays)
        for footing in self.footings:
            await footing.recover(configured.keys(), keep_strays)
        for kind, driver in self.drivers.items():
            known = {
                serial: workload
                for serial, workload in configured.items()
                if self._host.slivers_by_serial[serial].kind == kind
            }
            driver.changed = self.news
            await driver.recover(known, keep_strays)
        for sliver in list(self._host.slivers_by_serial.values()):
            self._told[sliver.serial] = self.status(sliver.serial)
            self._board.place(sliver, self._told[sliver.serial])

    def go_on(self) -> None:
        """
        What was found by L{recover} may be acted on.
        """
        self._recovering = False
        self.run(list(self._host.slivers_by_serial))

    def run(self, serials: Iterable[int]) -> None:
        """
        Take the next step of each of these slivers, if there is one; returns soon, though there may be some left to
        look at.
        """
        if self._recovering:
            return  # go_on looks at all of them
        begun, left = self._clock.seconds(), deque(serials)
        while left:
            if self._clock.seconds() - begun > _SLICE_S:
                self._clock.callLater(0, self.run, left)
                break
            serial = left.popleft()
            sliver = self._host.slivers_by_serial.get(serial)
            if sliver is None or self._closed or serial in self._host.unsettled:
                continue  # what is not durable is not acted on; whoever settles it comes back here
            if serial not in self._told:
                self._told[serial] = None
                self._board.place(sliver, None)
            elif self._board.moved(sliver):
                self._board.place(sliver, self.status(serial))
            if serial in self._busy or (serial in self._held and sliver.aim == plan.STARTED):
                continue  # looks again at its end
            seen = self._workloads.is_seen(sliver)
            if self._next(sliver) is not None:
                self._busy.add(serial)
                self._rota.wait(self._project(sliver), serial)
            elif sliver.wanted == plan.ABSENT and not sliver.remains:
                if self.operations is not None:
                    self.operations.news(serial)
                if self._host.slivers_by_serial.get(serial) is sliver:
                    self._forget(sliver)
            elif not seen and self._workloads.is_seen(sliver) and self.operations is not None:
                self.operations.news(serial)  # a modification may have waited for that
        self._serve()

    def gone(self, serial: int) -> None:
        """
        The sliver's record was removed.
        """
        for known in (self._failed, self._told, self._waiting, self._trouble):
            known.pop(serial, None)
        self._workloads.gone(serial)
        self._removing.discard(serial)
        self._doors.remove(serial)
        self._board.remove(serial)

    def hold(self, serial: int, seconds: float) -> None:
        """
        Have a sliver that is to be started wait; what else is wanted of it meanwhile does not.
        """

        def go() -> None:
            del self._held[serial]
            self.run([serial])

        self._held[serial] = self._clock.callLater(seconds, go)

    def problems(self, serial: int) -> tuple[str, ...]:
        """
        What was found to be different on the host from what is asked, when it was last looked at.
        """
        return self._workloads.problems(serial)

    def trouble(self, serial: int) -> str:
        """
        Why the last step of a sliver failed that is tried again; empty if it did not.
        """
        return self._trouble.get(serial, "")

    def look_for_drift(self) -> None:
        """
        Compare what the kernel holds each sliver to with what is asked; what differs is put right. Returns at once.
        """
        if not self._looking:
            self._looking = True
            looked = Deferred.fromCoroutine(self._look_for_drift())
            looked.addErrback(lambda failure: self._log.failure("looking for drift", failure))

    async def _look_for_drift(self) -> None:
        try:
            for serial in [one.serial for one in self._host.free_slivers()]:
                await self._turns.mine()
                sliver = self._host.slivers_by_serial.get(serial)
                if self._closed:
                    return
                if sliver is not None and not self._is_as_asked(sliver):
                    self.run([serial])
        finally:
            self._looking = False

    def _is_as_asked(self, sliver: Sliver) -> bool:
        """
        Look at the host; what is different there is noted.
        """
        serial, driver = sliver.serial, self.drivers.get(sliver.kind)
        if driver is None or self.status(serial) is None or serial in self._busy or serial in self._host.unsettled:
            return self._workloads.is_configured(sliver)
        return self._workloads.compare(sliver, driver.in_force(serial))

    def close(self) -> None:
        """
        Take no further step; every sliver goes on as it is.
        """
        self._closed = True
        for driver in self.drivers.values():
            driver.close()

    def _next(self, sliver: Sliver) -> str | None:
        serial = sliver.serial
        failed = self._failed.get(serial)
        if failed is not None:
            now = self._is(sliver)
            lives = now is not None and now.boot in ("running", "booted")
            if sliver.aim == plan.ABSENT:
                other = sliver.kind not in self.drivers  # else once its driver took away what was half made
            else:
                stop = sliver.aim == plan.STOPPED and lives
                other = stop or sliver.boots > failed.boots or sliver.builds > failed.builds
            if other:
                # A newer intent: what failed for the older one no longer counts.
                del self._failed[serial]
                self._told[serial] = now
                self._board.place(sliver, now)
                self._host.touched()
        if self._waiting.get(serial) == (sliver.aim, sliver.boots):
            return None
        status = self.status(serial)
        action = plan.next_action(sliver.aim, sliver.boots, status, sliver.builds)
        settled = action is None and status is not None and sliver.aim != plan.ABSENT
        if settled and failed is None and not self._workloads.is_configured(sliver):
            return plan.CONFIGURE
        return action

    def _project(self, sliver: Sliver) -> int:
        if sliver.free:
            return sliver.project
        experiment = self._host.experiments_by_serial.get(sliver.experiment)
        return experiment.project if experiment is not None else 0

    def _serve(self) -> None:
        """
        Begin the steps of as many slivers as there are places for.
        """
        if self._serving:
            return  # whoever serves goes on with what has come
        self._serving, begun = True, self._clock.seconds()
        try:
            while (taken := self._rota.take()) is not None:
                steps = Deferred.fromCoroutine(self._steps(taken[1])).addErrback(self._broken, taken[1])
                steps.addBoth(self._left, taken[0])
                if self._clock.seconds() - begun > _SLICE_S:
                    self._clock.callLater(0, self._serve)
                    break
        finally:
            self._serving = False

    def _left(self, _: None, project: int) -> None:
        self._rota.leave(project)
        self._serve()

    def _broken(self, failure: Failure, serial: int) -> None:
        self._log.failure("the steps of sliver {serial}", failure, serial=serial)

    async def _steps(self, serial: int) -> None:
        last: tuple[str, str, int] | None = None
        self._stepping.add(serial)
        try:
            while not self._closed:
                sliver = self._host.slivers_by_serial.get(serial)
                if sliver is None or serial in self._host.unsettled:
                    break
                action = self._next(sliver)
                if action is None:
                    break
                if last == (action, sliver.aim, sliver.boots) and action != plan.CONFIGURE:
                    self._log.error("{action} {sliver} changed nothing", action=action, sliver=sliver.name)
                    self._later(sliver)
                    break
                last = (action, sliver.aim, sliver.boots)
                if not await self._step(sliver, action):
                    break
        finally:
            self._stepping.discard(serial)
            self._busy.discard(serial)
        if self.operations is not None:
            self.operations.news(serial)  # who waits for nothing to be left waits for the end of the step as well
        self.run([serial])

    def _later(self, sliver: Sliver) -> None:
        """
        Try again after a while, unless something else is wanted by then.
        """
        self._waiting[sliver.serial] = (sliver.aim, sliver.boots)
        self._clock.callLater(RETRY_S, self._retry, sliver.serial)

    def _retry(self, serial: int) -> None:
        self._waiting.pop(serial, None)
        self._removing.discard(serial)
        self.run([serial])

    def _forget(self, sliver: Sliver) -> None:
        """
        Remove the record of a sliver that is gone, unless an operation is about to.
        """
        serial = sliver.serial
        waited = self.operations is not None and self.operations.waits_for(serial)
        if waited or serial in self._removing or self._is(sliver) is not None:
            return
        self._removing.add(serial)
        change = self._begin()
        change.remove(sliver)
        if sliver.free:
            change.tell(sliver.topic, "destroyed", (sliver.project, serial), sliver=sliver.name)
        experiment = self._host.experiments_by_serial.get(sliver.experiment)
        if experiment is not None and serial in experiment.slivers.values():
            left = {node: one for node, one in experiment.slivers.items() if one != serial}
            change.put(attrs.evolve(experiment, slivers=left))
        self._commit(change).addErrback(self._not_forgotten, serial)

    def _not_forgotten(self, failure: Failure, serial: int) -> None:
        failure.trap(StoreFailed)
        self._clock.callLater(RETRY_S, self._retry, serial)

    async def _step(self, sliver: Sliver, action: str) -> bool:
        try:
            driver = self.drivers.get(sliver.kind)
            if driver is None:
                raise OperationFailed(f"this host has no driver for slivers of kind {sliver.kind}")
            workload = self._workloads.of(sliver)
            if action in (plan.CREATE, plan.START):
                self._doors.open(sliver.serial)
            if action == plan.CREATE:
                await driver.ensure_created(workload)
            elif action == plan.START:
                await driver.ensure_started(workload)
            elif action == plan.CONFIGURE:
                await driver.ensure_configured(workload)
            elif action == plan.STOP:
                await driver.ensure_stopped(sliver.serial)
            else:
                await driver.ensure_destroyed(sliver.serial)
        except Exception as error:
            reason = error.message if isinstance(error, HostError) else (str(error) or type(error).__name__)
            if not isinstance(error, HostError | OSError):
                self._log.failure("{action} {sliver}", action=action, sliver=sliver.name)
            else:
                self._log.warn("{action} {sliver}: {reason}", action=action, sliver=sliver.name, reason=reason)
            if action in (plan.CREATE, plan.START):
                self._failed[sliver.serial] = Status(
                    sliver.serial,
                    sliver.boots,
                    "dead",
                    exit_code=CANNOT_START,
                    problems=(f"{action}: {reason}",),
                    builds=sliver.builds,
                )
            else:
                self._trouble[sliver.serial] = f"{action}: {reason}"
                self._later(sliver)
            self.news(sliver.serial)
            return False
        self._trouble.pop(sliver.serial, None)
        if action == plan.DESTROY:
            self._workloads.configured.pop(sliver.serial, None)
            if sliver.aim == plan.ABSENT:
                self._failed.pop(sliver.serial, None)
        elif action != plan.STOP:
            self._workloads.note(sliver.serial, workload)
        self.news(sliver.serial)
        return True

    def news(self, serial: int) -> None:
        """
        A driver says, or a step has shown, that something is no longer as it was told before.
        """
        sliver = self._host.slivers_by_serial.get(serial)
        if sliver is None or self._closed:
            return
        status = self.status(serial)
        before = self._told.get(serial)
        if status != before:
            self._told[serial] = status
            self._board.place(sliver, status)
            self._host.touched()
            self._tell(sliver, before, status)
        if self.operations is not None:
            self.operations.news(serial)
        self.run([serial])

    def _tell(self, sliver: Sliver, before: Status | None, status: Status | None) -> None:
        found = news(before, status)
        experiment = self._host.experiments_by_serial.get(sliver.experiment)
        if not found or status is None or (experiment is None and not sliver.free):
            return
        change = self._begin()
        for what in found:
            tell(change, what, sliver, experiment, status)
        self._commit(change).addErrback(lambda failure: failure.trap(StoreFailed) and None)
