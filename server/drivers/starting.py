"""
All that is made for a boot of a sliver before its keeper is started.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.drivers.driver import Workload
from hostline.server.drivers.recovery import Traces
from hostline.server.supervise import homes, shim
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.mounts import Private
from hostline.server.supervise.uids import Uids


class Starting:
    """
    Makes directories, control groups and files.

    @ivar script: the shim that is to keep new boots.
    @ivar mounts: whether slivers have mounts of their own on this host.
    @ivar private: what else they have of their own.
    """

    script = Path("shim.sh")
    mounts = False
    private = Private()

    def __init__(
        self, directory: Path, traces: Traces, uids: Uids | None, cgroups: Cgroups | None, wall: Callable[[], float]
    ) -> None:
        self._directory = directory
        self._traces = traces
        self._uids = uids
        self._cgroups = cgroups
        self._wall = wall

    def make_home(self, workload: Workload) -> homes.Home:
        """
        Make what lasts from boot to boot.

        @raise OSError: if that fails.
        @raise ValueError: if the sliver cannot have the name, or there is no uid for it.
        """
        serial = workload.serial
        home = homes.Home(self._directory / str(serial), homes.node_label(workload.name), self.mounts)
        homes.ensure_home(home, self._uids.ensure(serial) if self._uids is not None else None)
        return home

    def prepare(self, sliver: ProcessSliver, workload: Workload, tag: str) -> list[str]:
        """
        Make all that this boot needs; what it lacks is in the sliver's C{problems}.

        @return: the argv of its keeper.
        @raise OSError: if that fails.
        @raise ValueError: if it cannot be what the workload says.
        """
        serial = sliver.serial
        home = self.make_home(workload)
        boots = self._traces.boots(serial)
        directory = boots / str(workload.boots)
        directory.mkdir(parents=True, exist_ok=True)
        for old in boots.iterdir():
            if old.name.isdigit() and int(old.name) < workload.boots:
                shutil.rmtree(old)
        procs: list[Path] = []
        if self._cgroups is not None:
            procs, problems = self._cgroups.prepare(serial, workload.rspec)
            sliver.problems = tuple(problems)
        fstab = None
        if self.mounts:
            fstab = boots / "fstab"
            own = self.private.fstab(workload.rspec.get("memory_max", 0))
            fstab.write_text(shim.fstab(home.binds()) + own)
        return shim.keeper_argv(
            self.script,
            serial=serial,
            directory=directory,
            home=home.home,
            log=home.log,
            clock=self._wall() - time.clock_gettime(time.CLOCK_BOOTTIME),
            fstab=fstab,
            unshare=self.private.flags,
            cgroup_procs=procs,
            command=self._command(workload, home, directory, tag),
        )

    def _command(self, workload: Workload, home: homes.Home, directory: Path, tag: str) -> list[str]:
        if workload.start_command is None:
            return []
        environment = shim.command_environment(home, name=workload.name, tag=tag, more=workload.environment)
        uid = self._uids.ensure(workload.serial) if self._uids is not None else None
        shim.write_command(directory, workload.start_command, uid)
        return shim.command_argv(environment=environment, uid=uid)
