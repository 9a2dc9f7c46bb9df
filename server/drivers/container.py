"""
The container driver: a sliver with a root file system, users, processes and a network of its own, kept by conmon and an
OCI runtime.

What happened is in files that conmon and the container's own C{boot} keep; the daemon may die and come back at any
instant.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hostline.server.drivers.container_boot import Booting, Files, Net, tidy_groups
from hostline.server.drivers.container_commands import Commands
from hostline.server.drivers.container_lives import LEFT, Lives
from hostline.server.drivers.containers import ContainerSliver, Kept
from hostline.server.drivers.driver import Activity, Conversation, Hearer, Status, Workload
from hostline.server.drivers.wires import NO_WIRES, Wires
from hostline.server.supervise import inside, said, within
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.console import read_console
from hostline.server.supervise.doings import Doings, Ends
from hostline.server.supervise.probe import Found, find_runtime
from hostline.server.supervise.rundir import host_boot
from hostline.server.supervise.runtime import Runtime
from hostline.server.supervise.said import Ear
from hostline.server.supervise.shim import Process
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.subuids import BLOCK, SubuidRange, Subuids
from hostline.server.supervise.turns import Turns
from hostline.server.supervise.uids import of_accounts

_AGAIN_S = (0.02, 0.2)
_LOGS = {
    "log": "start_command.log",
    "out": "start_command.out",
    "err": "start_command.err",
    "initscript": "initscript.log",
}


class ContainerDriver:
    """
    Runs slivers as containers.
    """

    kind = "container"
    holds = "all limits are held"
    version = ""
    changed: Callable[[int], None]
    _log = Logger()

    def __init__(
        self,
        directory: Path,
        run: Path,
        *,
        files: Files,
        network: Net | None,
        wires: Wires | None = None,
        spawner: Spawner,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        uids: SubuidRange,
        cgroups: Cgroups | None = None,
        no_cgroups: str = "limits not applied: control groups are switched off",
        no_network: str = "no network: this host is not set up for it",
        no_links: str = "no links: this host is not set up for them",
        lacks: Sequence[str] = (),
        runtimes: Sequence[str] = ("runc", "crun"),
        grace_s: float = 5.0,
        proc: Path = Path("/proc"),
    ) -> None:
        """
        @param directory: for our notes, which last; made if missing. Not that of C{files}.
        @param run: for what lasts until the host restarts (C{RUN/containers}); made if missing; nobody else may write
            here, and everybody may pass through its parents.
        @param uids: what containers' blocks of uids are cut from.
        @param cgroups: None if they cannot be used, for the reason C{no_cgroups}.
        @param network: None if there is none, for the reason C{no_network}.
        @param wires: what puts nodes on links; None if there is nothing, for the reason C{no_links}.
        @param lacks: what else no container of this host has, in words for its user (L{Means.problems}).
        @param runtimes: names or paths of OCI runtimes; the first that works is used.
        @param grace_s: how long a container may take to end politely.
        """
        self.changed = lambda serial: None
        self._directory = directory
        self._run = run
        self._files = files
        self._network = network
        self._wires = wires
        self._spawner = spawner
        self._loop = loop
        self._clock = clock
        self._cgroups = cgroups
        self._runtimes = runtimes
        self._grace_s = grace_s
        self._proc = proc
        self._kept = Kept(directory, run / "bundles")
        self._uids = Subuids(directory, uids, of_accounts())
        self._range = uids
        self._booting = Booting(self._kept, files, network, cgroups, self._uids, wires, no_links)
        self._commands = Commands(self._kept, spawner, loop, clock, cgroups)
        self._lives = Lives(self._booting, self._commands, spawner, clock, self._tell)
        self._slivers: dict[int, ContainerSliver] = {}
        self._statuses: dict[int, Status] = {}
        self._standing: tuple[str, ...] = tuple(cgroups.problems) if cgroups is not None else (no_cgroups,)
        if network is None:
            self._standing += (no_network,)
        self._standing += tuple(lacks)
        self._strays = ""
        self._lasting: set[int] = set()
        self._turns = Turns(clock)
        self._doings = Doings(clock, proc)
        self._closed = False

    # The interface

    async def recover(self, known: Mapping[int, Workload], keep_strays: bool = False) -> None:
        self._prepare()
        self._files.prepare()
        if self._network is not None:
            await self._network.recover(known.keys(), keep_strays)
        self._take(await self._look_around())
        self._uids.load()
        if self._lives.ear is None:
            self._lives.ear = Ear(self._loop, self._clock, self._heard)
        living = self._living()
        serials = {*self._kept.serials(), *self._files.serials(), *living}
        if self._cgroups is not None:
            serials |= self._cgroups.serials()
        strays = sorted(serials - known.keys()) if keep_strays else []
        if strays:
            self._strays = (
                f"{len(strays)} containers have no record and are left alone: {', '.join(map(str, strays[:20]))}"
            )
            serials -= set(strays)
        work: list[Deferred[None]] = []
        for serial in sorted(serials):
            sliver = self._slivers[serial] = ContainerSliver(serial, cleared=False)
            work.append(Deferred.fromCoroutine(self._find(sliver, known.get(serial), living.get(serial, {}))))
        await gatherResults([one.addErrback(self._complain) for one in work])
        self._tidy_groups()

    async def ensure_created(self, workload: Workload) -> None:
        sliver = await self._hold(workload.serial)
        try:
            await self._booting.make(sliver, workload)
            self._tell(sliver)
        finally:
            sliver.lock.release()

    async def ensure_started(self, workload: Workload) -> None:
        sliver = await self._hold(workload.serial)
        try:
            if sliver.boots < workload.boots:
                await self._lives.end(sliver, self._grace_s)
                if not sliver.cleared:
                    raise OSError(sliver.left or LEFT)
                await self._lives.begin(sliver, workload)
        finally:
            sliver.lock.release()

    async def ensure_stopped(self, serial: int) -> None:
        if serial in self._slivers:
            sliver = await self._hold(serial)
            try:
                await self._lives.stop(sliver, self._grace_s)
                self._kept.note_end(sliver)
                await self._unplug(sliver)
            finally:
                sliver.lock.release()

    async def ensure_destroyed(self, serial: int) -> None:
        if serial not in self._slivers:
            return
        sliver = await self._hold(serial)
        try:
            await self._lives.stop(sliver, self._grace_s)
            await self._unplug(sliver)
            await self._forget_network(serial)
            await self._files.destroy(serial)
            for boots in self._kept.boots(serial):
                self._kept.remove_boot(self._kept.bundle(serial, boots))
            shutil.rmtree(self._kept.bundles / str(serial), ignore_errors=True)
            shutil.rmtree(self._kept.place(serial), ignore_errors=True)
            self._uids.forget(serial)
            self._doings.forget(serial)
            del self._slivers[serial]
            self._tidy_groups()
            if self._statuses.pop(serial, None) is not None and not self._closed:
                self.changed(serial)
        finally:
            sliver.lock.release()

    def status(self) -> Mapping[int, Status]:
        return self._statuses

    def problems(self) -> list[str]:
        unusable = () if self._booting.runtime is not None else (f"no container can run: {self._booting.unusable}",)
        return [*unusable, *self._standing, *([self._strays] if self._strays else [])]

    async def ensure_configured(self, workload: Workload) -> None:
        if workload.serial not in self._slivers:
            return
        sliver = await self._hold(workload.serial)
        try:
            await self._lives.configure(sliver, workload)
            self._tell(sliver)
        finally:
            sliver.lock.release()

    async def tree_of(self, serial: int) -> tuple[Path, int, int]:
        """
        @return: where a sliver's files are mounted, the uid on the host of its root, and how many uids it has.
        @raise OSError: if there are none.
        """
        return await self._files.mount(serial), self._uids.ensure(serial), BLOCK

    def in_force(self, serial: int) -> Mapping[str, int]:
        sliver = self._slivers.get(serial)
        found: dict[str, int] = {}
        if sliver is None:
            return found
        with suppress(OSError):
            found["disk_max"] = self._files.disk(serial)[0]
        if sliver.alive and self._cgroups is not None:
            found |= self._cgroups.read(serial)
        if sliver.alive and self._network is not None:
            found |= self._network.in_force(serial)
        return found

    def read_log(self, serial: int, stream: str, offset: int, most: int) -> tuple[bytes, int]:
        if serial not in self._slivers:
            return b"", 0
        if stream == "console":
            return read_console(self._kept.place(serial) / "console", offset, most)
        root = self._slivers[serial].root
        if root is None or stream not in _LOGS:
            return b"", 0
        return within.read_piece(root, f"var/log/hostline/{_LOGS[stream]}", offset, most)

    def execute(self, serial: int, argv: Sequence[str], hearer: Hearer, *, terminal: bool = False) -> Conversation:
        sliver = self._up(serial)
        return self._commands.execute(sliver, argv, hearer, terminal=terminal)

    def attach(self, serial: int, hearer: Hearer) -> Conversation:
        return self._commands.attach(self._up(serial), hearer)

    def admit(self, serial: int, pid: int) -> None:
        """
        Whoever is at the door is inside already.
        """

    async def activity(self, serial: int) -> Activity | None:
        sliver = self._slivers.get(serial)
        if sliver is None or not sliver.up or sliver.node is None:
            self._doings.forget(serial)
            return None
        pids = self._cgroups.members(serial) if self._cgroups is not None else [sliver.node.pid]
        ran = self._cgroups.ran(serial) if self._cgroups is not None else None
        links = [one.name for one in sliver.wired[0]] if sliver.wired is not None else []
        return await self._doings.look(serial, pids, ran, Ends(sliver.node.pid, links))

    def out_of_memory(self, serial: int) -> int:
        """
        @return: how many of a sliver's processes were killed for want of memory, while its control groups are there.
        """
        return self._cgroups.out_of_memory(serial) if self._cgroups is not None else 0

    def tidy(self) -> None:
        """
        Try again to remove strays that could not be; see to it that keys are still what they should be.
        """
        lasting, self._lasting = self._lasting, set()
        for serial in lasting:
            self._go(self._destroy_stray(serial))
        self._go(self._mend_keys())

    async def _mend_keys(self) -> None:
        for sliver in list(self._slivers.values()):
            await self._turns.mine()
            if not self._closed and sliver.up and sliver.root is not None and sliver.keys is not None:
                self._booting.put_keys(sliver, sliver.root, sliver.keys)
                self._tell(sliver)

    def close(self) -> None:
        self._closed = True
        if self._lives.ear is not None:
            self._lives.ear.close()
            self._lives.ear = None
        self._commands.close()
        for sliver in self._slivers.values():
            for child in (sliver.keeper, sliver.node):
                if child is not None:
                    self._spawner.release(child)

    # Finding again

    def _prepare(self) -> None:
        """
        Make our directories; what tells of before the host restarted goes.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        self._run.mkdir(parents=True, exist_ok=True)
        self._run.chmod(0o711)
        now, note = host_boot(self._proc) + "\n", self._run / "boot_id"
        if not note.exists() or note.read_text() != now:
            for one in self._run.glob("bundles/*/*/said"):
                said.remove(one)
            for old in self._run.iterdir():
                shutil.rmtree(old, ignore_errors=True)
            note.write_text(now)
        self._kept.bundles.mkdir(mode=0o700, exist_ok=True)

    async def _look_around(self) -> Found:
        try:
            common = inside.install(self._run)
        except (inside.Incomplete, OSError) as error:
            return Found(None, str(error))
        self._booting.common = common
        return await find_runtime(
            self._runtimes,
            self._run,
            common,
            self._range.first,
            spawner=self._spawner,
            loop=self._loop,
            clock=self._clock,
        )

    def _take(self, found: Found) -> None:
        self._booting.runtime, self._booting.unusable = found.runtime, found.why
        self._booting.seccomp = found.seccomp
        self._commands.runtime = found.runtime
        if found.runtime is not None:
            found.runtime.tidy()
        self.version = found.version or f"none: {found.why}"

    def _living(self) -> dict[int, dict[int, Process]]:
        """
        @return: serial to boot to conmon.
        """
        found: dict[int, dict[int, Process]] = {}
        for serial, boots, process in Runtime.keepers(self._kept.bundles, self._proc):
            found.setdefault(serial, {})[boots] = process
        return found

    async def _find(self, sliver: ContainerSliver, workload: Workload | None, keepers: Mapping[int, Process]) -> None:
        await sliver.lock.acquire()
        try:
            await self._lives.find(sliver, workload, keepers)
        finally:
            sliver.lock.release()
        if workload is None:
            await self._destroy_stray(sliver.serial)
        else:
            self._tell(sliver)

    def _tidy_groups(self) -> None:
        if not self._slivers and self._cgroups is not None:
            tidy_groups(self._cgroups)

    async def _forget_network(self, serial: int) -> None:
        """
        @raise OSError: if something is left of it.
        """
        if self._network is None:
            return
        for pause_s in _AGAIN_S:  # its interfaces go with its namespace, at the same moment as we remove them
            try:
                await self._network.forget(serial)
                return
            except OSError:
                await deferLater(self._clock, pause_s)
        await self._network.forget(serial)

    async def _unplug(self, sliver: ContainerSliver) -> None:
        """
        Its interfaces went with its namespace; what there is of them on the host goes now.

        @raise OSError: if something is left.
        """
        if self._wires is not None and sliver.wired != NO_WIRES:
            await self._wires.unplug(sliver.serial)
            sliver.wired = NO_WIRES

    async def _destroy_stray(self, serial: int) -> None:
        try:
            await self.ensure_destroyed(serial)
        except OSError as error:
            self._log.warn("stray container {serial}: {error}", serial=serial, error=error)
            self._lasting.add(serial)

    # News

    def _heard(self, serial: int) -> None:
        sliver = self._slivers.get(serial)
        if sliver is not None:
            self._lives.look(sliver)

    def _tell(self, sliver: ContainerSliver) -> None:
        if self._closed or self._slivers.get(sliver.serial) is not sliver or not (sliver.builds or sliver.boots):
            return
        status = evolve(sliver.status(self._standing), uid=self._uids.by_serial.get(sliver.serial))
        if self._statuses.get(sliver.serial) != status:
            self._statuses[sliver.serial] = status
            self.changed(sliver.serial)

    def _up(self, serial: int) -> ContainerSliver:
        sliver = self._slivers.get(serial)
        if sliver is None or not sliver.up:
            raise OSError("it is not up")
        return sliver

    async def _hold(self, serial: int) -> ContainerSliver:
        """
        @return: the sliver, its lock acquired.
        """
        while True:
            sliver = self._slivers.setdefault(serial, ContainerSliver(serial))
            await sliver.lock.acquire()
            if self._slivers.get(serial) is sliver:
                return sliver
            sliver.lock.release()  # it was destroyed while we waited

    def _go(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(self._complain)

    def _complain(self, failure: Failure) -> None:
        self._log.failure("a container could not be cleared", failure=failure)
