"""
All that is made for a boot of a sliver before its keeper is started.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.drivers.driver import Workload
from hostline.server.drivers.outlets import Outlets
from hostline.server.drivers.recovery import Traces
from hostline.server.supervise import homes, shim
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.execution import Place
from hostline.server.supervise.mounts import Private
from hostline.server.supervise.uids import Uids


class Starting:
    """
    Makes directories, control groups and files.

    @ivar script: the shim that is to keep new boots.
    @ivar mounts: whether slivers have mounts of their own on this host.
    @ivar private: what else they have of their own.
    @ivar hidden: mount points that they do not see, with all below.
    @ivar door: where they see the directory with their own socket; None: they cannot.
    """

    script = Path("shim.sh")
    mounts = False
    private = Private()
    door: str | None = None
    hidden: Sequence[Path] = ()

    def __init__(
        self,
        directory: Path,
        traces: Traces,
        uids: Uids | None,
        cgroups: Cgroups | None,
        wall: Callable[[], float],
        outlets: Outlets,
    ) -> None:
        self._directory = directory
        self._traces = traces
        self._uids = uids
        self._cgroups = cgroups
        self._wall = wall
        self._outlets = outlets

    def make_home(self, workload: Workload) -> homes.Home:
        """
        Make what lasts from boot to boot.

        @raise OSError: if that fails.
        @raise ValueError: if the sliver cannot have the name, or there is no uid for it.
        """
        serial = workload.serial
        home = self.home(workload)
        homes.ensure_home(home, self._uids.ensure(serial) if self._uids is not None else None)
        return home

    def prepare(self, sliver: ProcessSliver, workload: Workload, tag: str) -> list[str]:
        """
        Make all that this boot needs, beside its home; what it lacks is in the sliver's C{problems}.

        @return: the argv of its keeper.
        @raise OSError: if that fails.
        @raise ValueError: if it cannot be what the workload says.
        """
        serial = sliver.serial
        home = self.home(workload)
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
            (boots / "fstab.out").write_text("".join(f"{place}\n" for place in self.hidden))
            own = self.private.fstab(workload.rspec.get("memory_max", 0))
            # What is ours first: it may be below what is about to be covered.
            first = self._door_line(sliver, workload)
            if self._outlets.apart(workload):
                first += self._outlets.prepare(workload, directory)
            fstab.write_text(first + shim.fstab(home.binds()) + own)
        return shim.keeper_argv(
            self.script,
            serial=serial,
            directory=directory,
            home=home.home,
            log=home.log,
            clock=self._wall() - time.clock_gettime(time.CLOCK_BOOTTIME),
            fstab=fstab,
            unshare=self.private.flags + ("n" if self._outlets.apart(workload) else ""),
            cgroup_procs=procs,
            command=self._command(workload, home, directory, tag),
        )

    def place(self, sliver: ProcessSliver, tag: str) -> Place:
        """
        @return: where more is to run in a sliver.
        @raise OSError: if it is not up.
        """
        workload, node = sliver.workload, sliver.boot.node
        if workload is None or node is None or sliver.keeper is None or not sliver.boot.up or sliver.ending:
            raise OSError("it is not up")
        home = self.home(workload)
        procs = self._cgroups.procs(sliver.serial) if self._cgroups is not None else []
        uid = self._uids.ensure(sliver.serial) if self._uids is not None else None
        return Place(node, procs, uid, self.environment(workload, home, tag))

    def environment(self, workload: Workload, home: homes.Home, tag: str) -> dict[str, str]:
        """
        @return: all that a command of the sliver sees.
        """
        own: dict[str, str] = {}
        if workload.door is not None and not (self.mounts and self.door is not None):
            own["HOSTLINE_SOCKET"] = str(workload.door / "hostline.sock")
        return shim.command_environment(home, name=workload.name, tag=tag, more={**own, **workload.environment})

    def home(self, workload: Workload) -> homes.Home:
        """
        @return: where its directories are.
        @raise ValueError: if the sliver cannot have the name.
        """
        return homes.Home(self._directory / str(workload.serial), homes.node_label(workload.name), self.mounts)

    def _door_line(self, sliver: ProcessSliver, workload: Workload) -> str:
        if workload.door is None or self.door is None:
            return ""
        if not workload.door.is_dir():
            sliver.problems = (*sliver.problems, "no control socket of its own: the daemon has not made one")
            return ""
        return shim.door_line(workload.door, self.door)

    def _command(self, workload: Workload, home: homes.Home, directory: Path, tag: str) -> list[str]:
        if workload.start_command is None:
            return []
        environment = self.environment(workload, home, tag)
        uid = self._uids.ensure(workload.serial) if self._uids is not None else None
        shim.write_command(directory, workload.start_command, uid)
        return shim.command_argv(environment=environment, uid=uid)
