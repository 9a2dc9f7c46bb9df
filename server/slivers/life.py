"""
What the commands of a free sliver's life make of its record; decides, does no I/O.

Each function gets a L{Change} and the sliver, checks, and puts its record; what it returns is the operation that is
done when the sliver is as wanted, or None if it is already.
"""

from __future__ import annotations

from typing import Any

import attrs

from hostline.protocol.errors import WrongState
from hostline.server.host import Change, Host
from hostline.server.operations import GONE, Operations
from hostline.server.records import Operation, Sliver
from hostline.server.slivers import plan
from hostline.server.slivers.plan import ABSENT, STARTED, STOPPED

#: Made and started because its record is there.
BY_RECORD = ("plc-instantiated", "nm-controller")


class SliverLife:
    """
    The life of free slivers on this host.
    """

    def __init__(self, host: Host, operations: Operations) -> None:
        self._host = host
        self._operations = operations

    def create(self, change: Change, sliver: Sliver, caller: str) -> Operation:
        """
        Keep a new sliver, and make and start it.

        @raise Exists: if the name is taken.
        """
        change.add(sliver)
        self.tell(change, sliver, "created")
        return self._begin(change, "create", sliver, None, caller)

    def instantiate(self, change: Change, sliver: Sliver, caller: str) -> Operation | None:
        """
        Make and start a sliver whose record is there, and which is not.

        @raise WrongState: if the authority's record is not one that is made on request.
        """
        self._refuse(sliver, "create")
        if sliver.instantiation != "delegated":
            raise WrongState(
                f"{sliver.name} is {sliver.instantiation}: it is made because its record is there, not on request"
            )
        return self._turned(change, "create", sliver, STARTED, caller)

    def start(self, change: Change, sliver: Sliver, caller: str) -> Operation | None:
        """
        @raise WrongState: if it has not been created, is doomed or not enabled.
        """
        self._refuse(sliver, "start")
        if sliver.wanted == ABSENT:
            raise WrongState(f"{sliver.name} has not been created; create it first")
        if sliver.rspec.get("enabled", 1) == 0:
            raise WrongState(f"{sliver.name} is not enabled (enabled is 0 in its rspec), so it is not started")
        return self._turned(change, "start", sliver, STARTED, caller)

    def stop(self, change: Change, sliver: Sliver, caller: str) -> Operation | None:
        """
        @raise WrongState: if it has not been created.
        """
        if sliver.wanted == ABSENT:
            raise WrongState(f"{sliver.name} has not been created")
        return self._turned(change, "stop", sliver, STOPPED, caller)

    def recreate(self, change: Change, sliver: Sliver, caller: str) -> Operation:
        """
        @raise WrongState: as L{start}.
        """
        self._refuse(sliver, "recreate")
        if sliver.wanted == ABSENT:
            raise WrongState(f"{sliver.name} has not been created; create it first")
        fresh = attrs.evolve(sliver, builds=self._next_build(sliver), boots=self._next_boot(sliver), wanted=STARTED)
        change.put(fresh)
        self.tell(change, fresh, "recreate")
        return self._begin(change, "recreate", fresh, sliver, caller)

    def destroy(self, change: Change, sliver: Sliver, caller: str) -> Operation | None:
        """
        @raise WrongState: if its record has it made again at once.
        """
        if sliver.doomed is not None:
            sliver = attrs.evolve(sliver, remains=False)  # what it is kept for, the grace time, ends now
        if sliver.instantiation in BY_RECORD and sliver.remains:
            raise WrongState(
                f"{sliver.name} is {sliver.instantiation}: it is there as long as the authority's record is; stop it"
            )
        if sliver.wanted == ABSENT and sliver.remains:
            return self._running(sliver, "destroy")
        running = self._running(sliver, "destroy")
        if running is not None:
            return running
        going = change.put(attrs.evolve(sliver, wanted=ABSENT))
        self.tell(change, going, "destroy")
        return self._begin(change, "destroy", going, sliver, caller, then="" if sliver.remains else GONE)

    def set(self, change: Change, sliver: Sliver, **settings: Any) -> Sliver:
        """
        Change what a sliver is given, while it goes on; one that becomes enabled is started.

        @param settings: fields of the record.
        """
        fresh = attrs.evolve(sliver, **settings)
        if fresh == sliver:
            return sliver
        if fresh.aim == STARTED and sliver.aim != STARTED:
            fresh = attrs.evolve(fresh, boots=self._next_boot(sliver))
        change.put(fresh)
        self.tell(change, fresh, "changed")
        return fresh

    def doom(self, change: Change, sliver: Sliver, why: str) -> Sliver:
        """
        Stop a sliver, and keep it for the grace time.
        """
        fresh = change.put(attrs.evolve(sliver, doomed=change.now))
        self.tell(change, fresh, "doomed", reason=why)
        return fresh

    def undo(self, change: Change, sliver: Sliver, **settings: Any) -> Sliver:
        """
        Bring back a doomed sliver, as it was.

        @param settings: fields of the record that are new.
        """
        fresh = attrs.evolve(sliver, doomed=None, boots=self._next_boot(sliver), **settings)
        change.put(fresh)
        self.tell(change, fresh, "brought_back")
        return fresh

    def again(self, change: Change, sliver: Sliver) -> bool:
        """
        Begin a sliver anew that should be up and could not be made or started; the cause may be gone.

        @return: whether it is one.
        """
        status = self._operations.status(sliver.serial)
        if sliver.aim != STARTED or status is None or not plan.failed(status) or status.boots < sliver.boots:
            return False
        fresh = change.put(attrs.evolve(sliver, boots=self._next_boot(sliver)))
        self.tell(change, fresh, "start")
        return True

    def end(self, change: Change, sliver: Sliver) -> Sliver:
        """
        The grace time is over: take it off the host with all its files, and forget it.
        """
        fresh = change.put(attrs.evolve(sliver, wanted=ABSENT, remains=False))
        self.tell(change, fresh, "destroy")
        return fresh

    def cancel(self, change: Change, operation: Operation) -> Operation:
        """
        Cancel an operation; the sliver it was creating is taken away again.
        """
        sliver = self._host.slivers_by_serial.get(operation.subject)
        cancelled = self._operations.cancel(change, operation)
        if sliver is not None and operation.command == "create":
            sliver = self._host.slivers_by_serial[sliver.serial]
            going = change.put(attrs.evolve(sliver, wanted=ABSENT))
            self._begin(change, "destroy", going, sliver, operation.caller, then="" if sliver.remains else GONE)
        return cancelled

    def tell(self, change: Change, sliver: Sliver, what: str, **about: Any) -> None:
        """
        An event about a sliver.
        """
        change.tell(sliver.topic, what, (sliver.project, sliver.serial), sliver=sliver.name, **about)

    def _turned(self, change: Change, command: str, sliver: Sliver, wanted: str, caller: str) -> Operation | None:
        status = self._operations.status(sliver.serial)
        up = sliver.wanted == STARTED and (status is None or status.boot != "dead" or status.boots < sliver.boots)
        boots = sliver.boots if wanted == STOPPED or up else self._next_boot(sliver)
        if (wanted, boots) == (sliver.wanted, sliver.boots) and plan.reached(
            wanted, boots, status, sliver.builds
        ) == "":
            return None
        fresh = attrs.evolve(sliver, wanted=wanted, boots=boots)
        if fresh != sliver:
            change.put(fresh)
            self.tell(change, fresh, command)
        return self._begin(change, command, fresh, sliver, caller)

    def _begin(
        self, change: Change, command: str, sliver: Sliver, before: Sliver | None, caller: str, then: str = ""
    ) -> Operation:
        goal = {sliver.serial: (sliver.wanted, sliver.boots)}
        was = {sliver.serial: (before.wanted, before.boots, before.start_command)} if before is not None else {}
        return self._operations.start(change, command, sliver, goal, was, caller, then=then)

    def _running(self, sliver: Sliver, command: str) -> Operation | None:
        running = self._host.unended.get(sliver.serial, {}).values()
        return next((one for one in running if one.command == command), None)

    def _refuse(self, sliver: Sliver, command: str) -> None:
        if sliver.doomed is not None:
            raise WrongState(f"{sliver.name} is doomed; undo brings it back, then {command} can be asked for")
        if sliver.wanted == ABSENT and not sliver.remains:
            raise WrongState(f"{sliver.name} is being destroyed; wait until it is gone")

    def _next_boot(self, sliver: Sliver) -> int:
        # An operation that was cancelled may have begun a boot that the record no longer wants.
        status = self._operations.status(sliver.serial)
        return max(sliver.boots, status.boots if status is not None else 0) + 1

    def _next_build(self, sliver: Sliver) -> int:
        status = self._operations.status(sliver.serial)
        return max(sliver.builds, status.builds if status is not None else 0) + 1
