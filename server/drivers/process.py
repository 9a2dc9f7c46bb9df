"""
The process driver: a sliver is a shell that stays, its start command, and whatever that leaves behind.

Works on any Linux machine. Under a root daemon each sliver has a uid, a /home, a /tmp and control groups of its own;
otherwise it runs as the daemon's user, and its status says what is missing. What happened is in files that
C{shim.sh} keeps (L{hostline.server.supervise.shim}); the daemon may die and come back at any instant.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress

from twisted.internet.defer import Deferred, gatherResults

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.drivers.driver import Activity, Conversation, Hearer, Status, Workload
from hostline.server.drivers.ending import BREATH_S, LEFT
from hostline.server.drivers.process_lives import ProcessLives
from hostline.server.drivers.recovery import look_around
from hostline.server.supervise import homes, shim
from hostline.server.supervise.bell import Bell
from hostline.server.supervise.doings import Ends
from hostline.server.supervise.rundir import prepare_run


class ProcessDriver(ProcessLives):
    """
    Runs slivers as plain processes.
    """

    async def recover(self, known: Mapping[int, Workload], keep_strays: bool = False) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        prepare_run(self._run, self._proc)
        self._starting.script = shim.install(self._run)
        if self._bell is None:
            self._bell = Bell(self._run, self._loop, self._rung)
        without = [self._no_cgroups] if self._cgroups is None else self._cgroups.problems
        places = [place for _, place in homes.Home(self._directory, "", True).binds()]
        problems: list[str] = []
        if self.with_mounts:
            mounts, private, problems = await look_around(self._spawner, self._run, places, self._as_root)
            self._starting.mounts, self._starting.private = mounts, private
            self._outlets.able = mounts
            if mounts:
                problems += self._make_inside()
        self._problems = (*problems, *without)
        self._trash.resume()
        if self._uids is not None:
            self._uids.load()
        found = self._found_more()
        if self._uids is not None:
            for serial in sorted(known):  # whose note a failure of the host has lost, before others get theirs
                if (self._directory / str(serial)).is_dir():
                    with suppress(ValueError):
                        self._uids.ensure(serial)
        living = await self._members.everywhere()
        found |= {*living, *self._traces.serials()}
        if self._cgroups is not None:
            found |= self._cgroups.serials()
        strays = sorted(found - known.keys()) if keep_strays else []
        if strays:
            self._strays = (
                f"{len(strays)} slivers have no record and are left alone: {', '.join(map(str, strays[:20]))}"
            )
            found -= set(strays)
        work: list[Deferred[None]] = []
        for serial in sorted(found):
            self._slivers[serial] = ProcessSliver(serial, cleared=False, wired=None)
            workload = known.get(serial)
            coroutine = self._find_again(serial, workload) if workload else self._destroy_stray(serial)
            work.append(Deferred.fromCoroutine(coroutine).addErrback(self._complain))
        await gatherResults(work)

    async def ensure_created(self, workload: Workload) -> None:
        sliver = await self._hold(workload.serial)
        try:
            await self._turns.mine()
            await self._ensure_home(sliver, workload)
            await self._configure(sliver, workload)
            self._tell(sliver)
        finally:
            sliver.lock.release()

    async def ensure_configured(self, workload: Workload) -> None:
        if workload.serial not in self._slivers:
            return
        sliver = await self._hold(workload.serial)
        try:
            await self._turns.mine()
            await self._configure(sliver, workload)
            self._tell(sliver)
        finally:
            sliver.lock.release()

    async def ensure_started(self, workload: Workload) -> None:
        sliver = await self._hold(workload.serial)
        try:
            if sliver.boots < workload.boots:
                await self._end(sliver, self._grace_s)
                await self._booting.acquire()
                sliver.place = self._clock.callLater(BREATH_S, self._vacate, sliver)
                await self._turns.mine()
                sliver.workload = workload
                await self._begin(sliver, workload)
        finally:
            sliver.lock.release()

    async def ensure_stopped(self, serial: int) -> None:
        if serial not in self._slivers:
            return
        sliver = await self._hold(serial)
        try:
            await self._stop(sliver, remember=True)
            await self._outlets.unplug(sliver)
        finally:
            sliver.lock.release()

    async def ensure_destroyed(self, serial: int) -> None:
        if serial not in self._slivers:
            return
        sliver = await self._hold(serial)
        try:
            await self._stop(sliver, remember=False)
            await self._outlets.forget(sliver)
            await self._unmake(serial)
            await self._trash.throw(self._directory / str(serial))
            shutil.rmtree(self._traces.boots(serial), ignore_errors=True)
            if self._uids is not None:
                self._uids.forget(serial)
            self._doings.forget(serial)
            del self._slivers[serial]
            if self._statuses.pop(serial, None) is not None:
                self.changed(serial)
        finally:
            sliver.lock.release()

    async def _stop(self, sliver: ProcessSliver, *, remember: bool) -> None:
        await self._turns.mine()
        await self._shut(sliver)
        if sliver.keeper is not None and sliver.boot.exit is None:
            with suppress(OSError):
                (self._traces.boot(sliver) / "stopped").write_text("stopped\n")
        await self._end(sliver, self._grace_s)
        if remember:
            self._traces.note_end(sliver)
        if not sliver.cleared:  # its uid and its files stay its own
            raise OSError(next((p for p in sliver.problems if p.startswith(LEFT)), LEFT))

    async def _destroy_stray(self, serial: int) -> None:
        try:
            await self.ensure_destroyed(serial)
        except OSError as error:
            self._log.warn("stray sliver {serial}: {error}", serial=serial, error=error)
            self._lasting.add(serial)

    def status(self) -> Mapping[int, Status]:
        return self._statuses

    def admit(self, serial: int, pid: int) -> None:
        """
        Whoever is at the door is inside already.
        """

    async def activity(self, serial: int) -> Activity | None:
        sliver, status = self._slivers.get(serial), self._statuses.get(serial)
        if sliver is None or status is None or status.boot not in ("running", "booted"):
            self._doings.forget(serial)
            return None
        ran = self._cgroups.ran(serial) if self._cgroups is not None else None
        links = [one.name for one in sliver.workload.interfaces] if sliver.workload is not None else []
        # Without any it lives in the host's own network, whose packets are not its own.
        ends = Ends(status.pid, links) if links and status.pid is not None else None
        return await self._doings.look(serial, await self._members.pids(serial), ran, ends)

    def out_of_memory(self, serial: int) -> int:
        """
        @return: how many of a sliver's processes were killed for want of memory, while its control groups are there.
        """
        return self._cgroups.out_of_memory(serial) if self._cgroups is not None else 0

    def tidy(self) -> None:
        """
        What the owner does from time to time: empty start commands' logs that grew past L{log_limit}, and try again
        to remove strays that could not be.
        """
        lasting, self._lasting = self._lasting, set()
        for serial in lasting:
            self._go(self._destroy_stray(serial))
        self._go(self._cut_logs())

    async def _cut_logs(self) -> None:
        for serial, sliver in list(self._slivers.items()):
            await self._turns.mine()
            if not self._closed and sliver.keeper is not None and self._slivers.get(serial) is sliver:
                homes.cut_logs(self._directory / str(serial), self.log_limit)

    def problems(self) -> list[str]:
        return [*self._problems, *([self._strays] if self._strays else [])]

    def in_force(self, serial: int) -> Mapping[str, int]:
        sliver = self._slivers.get(serial)
        if self._cgroups is None or sliver is None or sliver.keeper is None:
            return {}
        return self._cgroups.read(serial)

    def read_log(self, serial: int, stream: str, offset: int, most: int) -> tuple[bytes, int]:
        return homes.read_log(self._directory / str(serial), stream, offset, most)

    def execute(self, serial: int, argv: Sequence[str], hearer: Hearer, *, terminal: bool = False) -> Conversation:
        sliver = self._slivers.get(serial)
        if sliver is None:
            raise OSError("it is not up")
        place = self._starting.place(sliver, self._tag(serial))
        return self._commands.execute(serial, place, argv, hearer, terminal=terminal, tag=self._tag(serial))

    def attach(self, serial: int, hearer: Hearer) -> Conversation:
        raise OSError(f"a sliver of kind {self.kind} has no console")

    def close(self) -> None:
        self._closed = True
        if self._bell is not None:
            self._bell.close()
        self._trash.close()
        self._commands.close()
        self._initscripts.close()
        for sliver in self._slivers.values():
            if sliver.keeper is not None:
                self._spawner.release(sliver.keeper)
