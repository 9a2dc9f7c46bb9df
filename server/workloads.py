"""
Workloads: each sliver as its driver needs to know it, as its driver was told it last, and where the host differs from
that.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve

from hostline.server.doors import Doors
from hostline.server.drivers.driver import Workload
from hostline.server.experiments.planned import Planned
from hostline.server.records import Image, Plan, Sliver
from hostline.server.slivers import plan

if TYPE_CHECKING:
    from hostline.server.host import Host


class Workloads:
    """
    The workloads of this host's slivers.

    @ivar configured: what a sliver's driver was told last, by serial; nothing, if it is to be told again.
    """

    def __init__(self, host: Host, doors: Doors, planned: Planned) -> None:
        """
        @param doors: the own sockets of slivers.
        @param planned: what the plans of experiments say of nodes.
        """
        self._host = host
        self._doors = doors
        self._planned = planned
        self.configured: dict[int, Workload] = {}
        self._plans: dict[int, Plan | None] = {}
        self._drift: dict[int, tuple[str, ...]] = {}

    def of(self, sliver: Sliver) -> Workload:
        """
        A sliver's record as its driver needs it.
        """
        image = self._host.by_serial(Image, sliver.image) if sliver.image is not None else None
        command = sliver.start_command
        if image is not None and command is None:
            command = image.start_command
        common = Workload(
            sliver.serial,
            sliver.name,
            sliver.boots,
            command,
            environment=image.environment if image is not None else {},
            rspec=self._host.effective(sliver),
            builds=sliver.builds,
            image=sliver.image,
            keys=self._host.keys_of(sliver),
            initscript=sliver.initscript,
            door=self._doors.directory(sliver.serial),
        )
        node = None if sliver.free else self._planned.node(sliver)
        if node is None:
            return common
        if node.node.once and command is not None:
            command = once(command)
        return evolve(
            common,
            start_command=command,
            environment={**common.environment, **self._planned.environment(sliver)},
            interfaces=node.interfaces,
            routes=node.routes,
            forwards=node.forwards,
            hosts=self._planned.hosts(sliver),
            packages=node.node.packages,
        )

    def is_configured(self, sliver: Sliver) -> bool:
        """
        Whether the driver was told the settings that the sliver is to have now.
        """
        if self._is_told(self.of(sliver)):
            self._plans[sliver.serial] = self._plan(sliver)
            return True
        return False

    def is_told(self, sliver: Sliver) -> bool:
        """
        The same, in no time: a node of an experiment that was modified since it was looked at is not.
        """
        return self.is_seen(sliver) and self._is_told(self.of(sliver))

    def is_seen(self, sliver: Sliver) -> bool:
        """
        Whether what the plan of its experiment says now was found to be what its driver was told.
        """
        return sliver.free or self._plans.get(sliver.serial) is self._plan(sliver)

    def _plan(self, sliver: Sliver) -> Plan | None:
        return None if sliver.free else self._host.get(Plan, str(sliver.experiment))

    def _is_told(self, wanted: Workload) -> bool:
        known = self.configured.get(wanted.serial)
        return known is not None and _settings(known) == _settings(wanted)

    def note(self, serial: int, workload: Workload) -> None:
        """
        The driver has done what this workload says.
        """
        self.configured[serial] = workload
        self._drift.pop(serial, None)
        sliver = self._host.slivers_by_serial.get(serial)
        if sliver is not None:
            self.is_configured(sliver)  # if that is all, nobody need look again before it counts

    def problems(self, serial: int) -> tuple[str, ...]:
        """
        What was found to be different on the host from what is asked, when it was last looked at.
        """
        return self._drift.get(serial, ())

    def compare(self, sliver: Sliver, in_force: Mapping[str, int]) -> bool:
        """
        Compare what the kernel holds a sliver to with what is asked; if it differs, the driver is to be told again.

        @return: as L{is_configured}.
        """
        serial, wanted = sliver.serial, self.of(sliver)
        found = plan.drift(wanted.rspec, in_force)
        if found != list(self._drift.get(serial, ())):
            self._drift[serial] = tuple(found)
            self._host.touched()
        if found:
            self.configured.pop(serial, None)
        return self._is_told(wanted)

    def gone(self, serial: int) -> None:
        """
        The sliver's record was removed.
        """
        self.configured.pop(serial, None)
        self._plans.pop(serial, None)
        self._drift.pop(serial, None)


def once(command: str) -> str:
    """
    @param command: a start command.
    @return: one that runs it until it has ended by itself once, and from then on ends as it did.
    """
    return f"""first=${{HOSTLINE_LOG:-/var/log/hostline}}/start_command.once
if [ -s "$first" ] && read -r status <"$first"; then exit "$status"; fi
/bin/sh -c {shlex.quote(command)}
status=$?
echo $status >"$first"
exit $status"""


def _settings(workload: Workload) -> tuple[Any, ...]:
    return (
        dict(workload.rspec),
        workload.keys,
        workload.initscript,
        workload.interfaces,
        workload.routes,
        workload.forwards,
        workload.hosts,
    )
