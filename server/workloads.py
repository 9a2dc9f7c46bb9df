"""
Workloads: each sliver as its driver needs to know it, as its driver was told it last, and where the host differs from
that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hostline.server.doors import Doors
from hostline.server.drivers.driver import Workload
from hostline.server.host import Host
from hostline.server.records import Image, Sliver
from hostline.server.slivers import plan


class Workloads:
    """
    The workloads of this host's slivers.

    @ivar configured: what a sliver's driver was told last, by serial; nothing, if it is to be told again.
    """

    def __init__(self, host: Host, doors: Doors) -> None:
        """
        @param doors: the own sockets of slivers.
        """
        self._host = host
        self._doors = doors
        self.configured: dict[int, Workload] = {}
        self._drift: dict[int, tuple[str, ...]] = {}

    def of(self, sliver: Sliver) -> Workload:
        """
        A sliver's record as its driver needs it.
        """
        if not sliver.free:
            return Workload(
                sliver.serial,
                sliver.name,
                sliver.boots,
                sliver.start_command,
                rspec=sliver.rspec,
                door=self._doors.directory(sliver.serial),
            )
        image = self._host.by_serial(Image, sliver.image) if sliver.image is not None else None
        command = sliver.start_command
        return Workload(
            sliver.serial,
            sliver.name,
            sliver.boots,
            image.start_command if image is not None and command is None else command,
            environment=image.environment if image is not None else {},
            rspec=self._host.effective(sliver),
            builds=sliver.builds,
            image=sliver.image,
            keys=self._host.keys_of(sliver),
            initscript=sliver.initscript,
            door=self._doors.directory(sliver.serial),
        )

    def is_configured(self, sliver: Sliver) -> bool:
        """
        Whether the driver was told the settings that the sliver is to have now.
        """
        return self._is_told(self.of(sliver))

    def _is_told(self, wanted: Workload) -> bool:
        known = self.configured.get(wanted.serial)
        return known is not None and _settings(known) == _settings(wanted)

    def note(self, serial: int, workload: Workload) -> None:
        """
        The driver has done what this workload says.
        """
        self.configured[serial] = workload
        self._drift.pop(serial, None)

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
        self._drift.pop(serial, None)


def _settings(workload: Workload) -> tuple[Any, ...]:
    return dict(workload.rspec), workload.keys, workload.initscript
