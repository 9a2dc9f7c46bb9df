"""
The lives of process slivers: how each begins, is configured, and is found again.

What a driver promises is in L{hostline.server.drivers.process}; here is what that is done with. How slivers are watched
and ended is in L{hostline.server.drivers.process_slivers}.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.drivers.driver import Workload
from hostline.server.drivers.ending import BREATH_S
from hostline.server.drivers.process_slivers import ProcessSlivers
from hostline.server.drivers.wires import NO_WIRES
from hostline.server.supervise import homes, shim


class ProcessLives(ProcessSlivers):
    """
    All that is done with the slivers of one driver.
    """

    async def _begin(self, sliver: ProcessSliver, workload: Workload) -> None:
        """
        Start a boot; whatever goes wrong is in its status.
        """
        serial = sliver.serial
        sliver.boots, sliver.boot, sliver.failure = workload.boots, shim.Boot(), None
        sliver.has_command = workload.start_command is not None
        sliver.problems, sliver.cleared = (), False
        sliver.unplugged, sliver.hosts = (), ""
        try:
            await self._ensure_home(sliver, workload)
            await self._configure(sliver, workload)
            await self._open(workload)
            if not self._outlets.apart(workload):
                await self._outlets.configure(sliver, workload)
            argv = self._starting.prepare(sliver, workload, self._tag(serial))
            environment = {"PATH": shim.PATH, shim.TAG: self._tag(serial)}
            ended = partial(self._keeper_ended, sliver, workload.boots)
            sliver.keeper = self._spawner.spawn(argv, environment=environment, ended=ended)
            self._members.keeper_started(serial, sliver.keeper.pid)
        except (OSError, ValueError) as e:
            sliver.failure = str(e)
        self._tell(sliver)

    async def _ensure_home(self, sliver: ProcessSliver, workload: Workload) -> None:
        """
        Make what lasts from boot to boot, and note which making of it this is.
        """
        self._starting.make_home(workload)
        note = self._directory / str(sliver.serial) / "builds"
        noted = homes.read_note(note)
        if not noted:
            # The first is what is meant where nothing is noted: a host that fails may lose that note.
            homes.write_note(note, str(workload.builds), lasting=workload.builds != 1)
        sliver.builds = noted[0] if noted else workload.builds

    async def _configure(self, sliver: ProcessSliver, workload: Workload) -> None:
        """
        Put in force what may change while a sliver is there.
        """
        sliver.workload = workload
        self._close_door(workload)
        self._install_script(workload)
        if self._cgroups is not None and sliver.keeper is not None:
            limits = self._cgroups.apply(sliver.serial, workload.rspec)
            kept = [problem for problem in sliver.problems if not problem.startswith(("limit not", "limits not"))]
            sliver.problems = (*kept, *limits)
        if self._initscripts.due(sliver) is None and self._initscripts.running(sliver.serial):
            run = sliver.boot.initscript
            if run is not None and workload.initscript is not None and run.mark != shim.mark(workload.initscript):
                await self._initscripts.cut(sliver.serial, BREATH_S)
        if sliver.keeper is not None and (sliver.boot.up or not self._outlets.apart(workload)):
            await self._outlets.configure(sliver, workload)
        self._run_script(sliver)

    def _install_script(self, workload: Workload) -> None:
        uid = self._uids.by_serial.get(workload.serial) if self._uids is not None else None
        if (self._directory / str(workload.serial)).is_dir():
            self._initscripts.install(workload.serial, workload.initscript, uid)

    def _close_door(self, workload: Workload) -> None:
        """
        Let nobody but the sliver itself at its own socket.
        """
        uid = self._uids.by_serial.get(workload.serial) if self._uids is not None else None
        if uid is not None and workload.door is not None:
            with suppress(OSError):
                fd = os.open(workload.door, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    os.fchown(fd, -1, uid)
                    os.fchmod(fd, 0o750)
                    workload.door.parent.chmod(0o711)  # closed itself, it may be gone to
                finally:
                    os.close(fd)

    async def _open(self, workload: Workload) -> None:
        """
        For kinds that let people in: do so from now on.
        """

    async def _shut(self, sliver: ProcessSliver) -> None:
        """
        Let nobody in any more.
        """

    def _found_more(self) -> set[int]:
        """
        @return: slivers that an earlier daemon left traces of that only this kind leaves.
        """
        return set()

    async def _unmake(self, serial: int) -> None:
        """
        Remove what a kind has beside the directories of a sliver that has no process any more.
        """

    def _make_inside(self) -> list[str]:
        try:
            self._inside.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            return [f"no control socket at {self._inside} inside: {error.strerror}"]
        self._starting.door = str(self._inside)
        return []

    async def _find_again(self, serial: int, workload: Workload) -> None:
        sliver = await self._hold(serial)
        try:
            await self._turns.mine()
            sliver.boots = self._traces.reached(serial) or self._traces.remember_end(serial)
            sliver.has_command = workload.start_command is not None
            noted = homes.read_note(self._directory / str(serial) / "builds")
            sliver.builds = noted[0] if noted else 1
            sliver.workload = workload
            self._install_script(workload)  # before its boot is looked at, which may have it run
            if not workload.interfaces and "." not in workload.name:
                sliver.wired = NO_WIRES  # a free one
            if sliver.boots:
                await self._adopt(sliver)
            if sliver.keeper is None:
                await self._end(sliver, 0.0)
            await self._configure(sliver, workload)
            self._tell(sliver)
        finally:
            sliver.lock.release()
