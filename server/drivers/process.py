"""
The process driver: a sliver is a shell that stays, its start command, and whatever that leaves behind.

Works on any Linux machine. Under a root daemon each sliver has a uid, a /home, a /tmp and control groups of its own;
otherwise it runs as the daemon's user, and its status says what is missing. What happened is in files that
C{shim.sh} keeps (L{hostline.server.supervise.shim}); the daemon may die and come back at any instant.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hostline.server.drivers.driver import CANNOT_START, Status, Workload
from hostline.server.supervise import homes, shim, survey
from hostline.server.supervise.bell import Bell
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.limits import ENFORCED
from hostline.server.supervise.spawn import Child, Spawner
from hostline.server.supervise.trash import Trash
from hostline.server.supervise.uids import UidRange, accounts

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SHORT_S, _LONG_S = 0.005, 0.1
#: How long a keeper may take to write its file, and killed processes to end.
_BREATH_S, _END_S = 2.0, 10.0


@define
class _Sliver:
    """
    @ivar boots: the boot reached.
    @ivar boot: what its files said last.
    @ivar keeper: while it lives.
    @ivar failure: why this boot could not be started.
    @ivar ending: its processes are being ended.
    """

    serial: int
    boots: int = 0
    boot: shim.Boot = field(factory=shim.Boot)
    keeper: Child | None = None
    has_command: bool = False
    failure: str | None = None
    ending: bool = False
    problems: tuple[str, ...] = ()
    lock: DeferredLock = field(factory=DeferredLock)
    vacancies: list[Callable[[], None]] = field(factory=list)


class ProcessDriver:
    """
    Runs slivers as plain processes.

    @ivar enforces: the resources that it can hold a sliver to on this host.
    """

    kind = "process"
    changed: Callable[[int], None]
    _log = Logger()

    def __init__(
        self,
        directory: Path,
        run: Path,
        *,
        instance: str,
        spawner: Spawner,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        uids: UidRange | None = None,
        cgroups: Cgroups | None = None,
        no_cgroups: str = "limits not applied: control groups are switched off",
        as_root: bool | None = None,
        grace_s: float = 5.0,
        wall: Callable[[], float] = time.time,
        proc: Path = Path("/proc"),
    ) -> None:
        """
        @param directory: for what lasts (C{STATE/slivers}), made if missing.
        @param run: for what lasts until the host restarts (C{STATE/run}), made if missing; nobody else may write here.
        @param instance: the random id of this state directory; marks everything that we make.
        @param uids: from which slivers get their uids; needed if C{as_root}.
        @param cgroups: None if they cannot be used, for the reason C{no_cgroups}.
        @param as_root: whether to give slivers uids and mounts; None: if we are root.
        @param grace_s: how long processes may take to end politely.
        """
        self._as_root = os.geteuid() == 0 if as_root is None else as_root
        if self._as_root and uids is None:
            raise ValueError("a root daemon wants a range of uids for slivers")
        self.changed = lambda serial: None
        self.enforces = ENFORCED if cgroups is not None else frozenset[str]()
        self._directory = directory
        self._run = run
        self._instance = instance
        self._spawner = spawner
        self._loop = loop
        self._clock = clock
        self._range = uids if self._as_root else None
        self._cgroups = cgroups
        self._no_cgroups = no_cgroups
        self._grace_s = grace_s
        self._wall = wall
        self._proc = proc
        self._mounts = False
        self._bell: Bell | None = None
        self._trash = Trash(directory / ".trash", spawner)
        self._script = run / "shim.sh"
        self._slivers: dict[int, _Sliver] = {}
        self._statuses: dict[int, Status] = {}
        self._uids: dict[int, int] = {}
        self._problems: tuple[str, ...] = ()
        self._seen: tuple[float, dict[int, list[shim.Process]]] = (-1.0, {})

    # The interface

    async def recover(self, known: Mapping[int, Workload]) -> None:
        self._prepare()
        self._mounts = self._as_root and await self._can_mount()
        self._accounts = accounts()
        self._problems = self._standing_problems()
        self._trash.resume()
        self._uids = {serial: uid for serial in self._on_disk() if (uid := self._noted_uid(serial)) is not None}
        found = set(self._on_disk()) | {int(p.name) for p in (self._run / "slivers").iterdir() if p.name.isdigit()}
        found |= set(self._processes(fresh=True))
        if self._cgroups is not None:
            found |= self._cgroups.serials()
        for serial in found:
            self._slivers[serial] = _Sliver(serial)
        work: list[Deferred[None]] = []
        for serial in sorted(found):
            workload = known.get(serial)
            coroutine = self._find_again(serial, workload) if workload else self.ensure_destroyed(serial)
            work.append(Deferred.fromCoroutine(coroutine))
        await gatherResults(work, consumeErrors=True)

    async def ensure_created(self, workload: Workload) -> None:
        serial = workload.serial
        sliver = self._slivers.setdefault(serial, _Sliver(serial))
        await sliver.lock.acquire()
        try:
            self._make_home(workload)
            if self._cgroups is not None and sliver.keeper is not None:
                sliver.problems = tuple(self._cgroups.apply(serial, workload.rspec))
            self._tell(sliver)
        finally:
            sliver.lock.release()

    async def ensure_started(self, workload: Workload) -> None:
        sliver = self._slivers.setdefault(workload.serial, _Sliver(workload.serial))
        await sliver.lock.acquire()
        try:
            if sliver.boots >= workload.boots:
                return
            await self._end(sliver, self._grace_s)
            self._begin(sliver, workload)
        finally:
            sliver.lock.release()

    async def ensure_stopped(self, serial: int) -> None:
        sliver = self._slivers.get(serial)
        if sliver is None:
            return
        await sliver.lock.acquire()
        try:
            if sliver.keeper is not None:
                self._note(sliver, "stopped", "stopped\n")
            await self._end(sliver, self._grace_s)
        finally:
            sliver.lock.release()

    async def ensure_destroyed(self, serial: int) -> None:
        sliver = self._slivers.get(serial)
        if sliver is None:
            return
        await sliver.lock.acquire()
        try:
            await self._end(sliver, 0.0)
            await self._trash.throw(self._directory / str(serial))
            shutil.rmtree(self._run / "slivers" / str(serial), ignore_errors=True)
            self._uids.pop(serial, None)
            if self._slivers.pop(serial, None) is not None and self._statuses.pop(serial, None) is not None:
                self.changed(serial)
        finally:
            sliver.lock.release()

    def status(self) -> Mapping[int, Status]:
        return self._statuses

    def close(self) -> None:
        if self._bell is not None:
            self._bell.close()
        self._trash.close()
        for sliver in self._slivers.values():
            if sliver.keeper is not None:
                self._spawner.release(sliver.keeper)

    # Starting

    def _begin(self, sliver: _Sliver, workload: Workload) -> None:
        """
        Start a boot; whatever goes wrong is in its status.
        """
        serial = sliver.serial
        sliver.boots, sliver.boot, sliver.failure = workload.boots, shim.Boot(), None
        sliver.has_command = workload.start_command is not None
        sliver.problems = ()
        try:
            home = self._make_home(workload)
            boots = self._run / "slivers" / str(serial)
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
            if self._mounts:
                fstab = boots / "fstab"
                fstab.write_text(shim.fstab(home.binds()))
            argv = shim.keeper_argv(
                self._script,
                serial=serial,
                directory=directory,
                home=home.home,
                log=home.log,
                clock=self._wall() - time.clock_gettime(time.CLOCK_BOOTTIME),
                fstab=fstab,
                cgroup_procs=procs,
                command=self._command(workload, home),
            )
            environment = {"PATH": shim.PATH, shim.TAG: self._tag(serial)}
            ended = partial(self._keeper_ended, sliver, workload.boots)
            sliver.keeper = self._spawner.spawn(argv, environment=environment, ended=ended)
        except (OSError, ValueError) as e:
            sliver.failure = f"could not be started: {e}"
        self._tell(sliver)

    def _command(self, workload: Workload, home: homes.Home) -> list[str]:
        if workload.start_command is None:
            return []
        for name in workload.environment:
            if not _VARIABLE.match(name):
                raise ValueError(f"want the name of an environment variable, got {name!r}")
        environment = {
            "PATH": shim.PATH,
            "HOME": home.home,
            "TMPDIR": home.tmp,
            "USER": home.node,
            "LOGNAME": home.node,
            "SHELL": shim.SHELL,
            "LANG": "C.UTF-8",
            "HOSTLINE_NODE": workload.name,
            "HOSTLINE_LOG": home.log,
            **workload.environment,
            shim.TAG: self._tag(workload.serial),
        }
        uid = self._uids.get(workload.serial)
        return shim.command_argv(workload.start_command, environment=environment, uid=uid)

    def _make_home(self, workload: Workload) -> homes.Home:
        serial = workload.serial
        home = homes.Home(self._directory / str(serial), homes.node_label(workload.name), self._mounts)
        uid = None
        if self._range is not None:
            uid = self._uids.get(serial)
            if uid is None:
                in_use = set(self._uids.values())
                uid = self._range.allocate(serial, lambda u: u in in_use or u in self._accounts)
                home.root.mkdir(mode=0o700, exist_ok=True)
                (home.root / "uid").write_text(f"{uid}\n")
                self._uids[serial] = uid
        homes.ensure_home(home, uid)
        return home

    # Watching

    def _keeper_ended(self, sliver: _Sliver, boots: int, code: int | None) -> None:
        if boots != sliver.boots:
            return
        sliver.keeper = None
        self._look(sliver.serial)
        if code == shim.CANNOT_WRITE and not sliver.boot.begun:
            sliver.failure = f"could not be started: could not write to {self._run}"
            self._tell(sliver)
        elif code == shim.LOST_THE_RACE and sliver.boot.exit is None:
            self._go(self._join_winner(sliver))

    def _look(self, serial: int) -> None:
        sliver = self._slivers.get(serial)
        if sliver is None or sliver.boots == 0 or sliver.failure is not None:
            return
        sliver.boot = shim.read_boot(self._boot_directory(sliver))
        if sliver.boot.up:
            sliver.has_command = sliver.boot.has_command
        self._tell(sliver)

    def _tell(self, sliver: _Sliver) -> None:
        status = self._status_of(sliver)
        if status.boot == "dead" and not sliver.ending and not sliver.lock.locked:
            self._go(self._clear(sliver))
        if self._statuses.get(sliver.serial) != status:
            self._statuses[sliver.serial] = status
            self.changed(sliver.serial)

    def _status_of(self, sliver: _Sliver) -> Status:
        boot = sliver.boot
        status = Status(sliver.serial, boots=sliver.boots, problems=self._problems + sliver.problems)
        if sliver.boots == 0:
            return evolve(status, problems=())
        if sliver.failure is not None:
            problems = (*status.problems, sliver.failure)
            command = "ended" if sliver.has_command else "none"
            return evolve(status, boot="dead", exit_code=CANNOT_START, start_command=command, problems=problems)
        dead = boot.exit is not None or sliver.keeper is None
        command = "none" if not sliver.has_command else "ended" if dead or boot.ended is not None else "running"
        status = evolve(status, start_command=command, start_code=boot.ended)
        if dead:
            code = 0 if boot.stopped else boot.exit
            if boot.errors and not boot.up:
                status = evolve(status, problems=(*status.problems, f"could not be started: {boot.errors}"))
            return evolve(status, boot="dead", exit_code=code)
        up = boot.up and (boot.started or not sliver.has_command)
        return evolve(status, boot="booted" if up else "running", pid=boot.node.pid if boot.node else None)

    # Ending

    async def _clear(self, sliver: _Sliver) -> None:
        """
        Kill what a dead node left behind.
        """
        await sliver.lock.acquire()
        try:
            if self._status_of(sliver).boot == "dead":
                await self._end(sliver, 0.0)
        finally:
            sliver.lock.release()

    async def _end(self, sliver: _Sliver, grace_s: float) -> None:
        """
        End all processes of a sliver: first, unless the grace is 0, all but its own by TERM, then everything by KILL.
        """
        sliver.ending = True
        try:
            spare = {p.pid for p in (sliver.boot.node, sliver.boot.keeper) if p is not None}
            if sliver.keeper is not None:
                spare.add(sliver.keeper.pid)
                if grace_s > 0 and self._signal(sliver.serial, signal.SIGTERM, spare):
                    await self._until(lambda: not self._members(sliver.serial) - spare, grace_s)
            if not await self._until(lambda: self._killed(sliver), _END_S):
                left = " ".join(map(str, sorted(self._members(sliver.serial))))
                sliver.problems = (*sliver.problems, f"processes that do not end: {left}")
            if self._cgroups is not None:
                await self._until(partial(self._cgroups.remove, sliver.serial), _BREATH_S)
        finally:
            sliver.ending = False
            self._look(sliver.serial)

    def _killed(self, sliver: _Sliver) -> bool:
        """
        @return: whether nothing is left; if something is, kill it. The keeper goes by itself once it has noted the
            node's end, and is only killed if there is no node to wait for.
        """
        members = self._members(sliver.serial)
        if self._cgroups is not None:
            self._cgroups.kill(sliver.serial)
        keeper = {sliver.keeper.pid} if sliver.keeper is not None else set()
        self._signal(sliver.serial, signal.SIGKILL, keeper)
        if sliver.keeper is not None and not members - keeper and sliver.boot.exit is None:
            sliver.keeper.kill(signal.SIGKILL)
        return not members and not keeper

    def _members(self, serial: int) -> set[int]:
        if self._cgroups is not None:
            return set(self._cgroups.members(serial))
        return {p.pid for p in self._processes().get(serial, ())}

    def _signal(self, serial: int, number: int, spare: set[int]) -> bool:
        """
        @return: whether there was anyone.
        """
        if self._cgroups is not None:
            pids = set(self._cgroups.members(serial)) - spare
            for pid in pids:
                self._cgroups.signal(serial, pid, number)
            return bool(pids)
        processes = [p for p in self._processes().get(serial, ()) if p.pid not in spare]
        for process in processes:
            survey.signal_process(process, number)
        return bool(processes)

    def _processes(self, *, fresh: bool = False) -> dict[int, list[shim.Process]]:
        """
        @return: serial to processes; one look around serves all who ask at the same moment.
        """
        now = self._clock.seconds()
        if fresh or not self._seen[0] <= now < self._seen[0] + _SHORT_S:
            uids = {uid: serial for serial, uid in self._uids.items()}
            self._seen = (now, survey.members(survey.look_around(self._proc), self._instance, uids))
        return self._seen[1]

    async def _until(self, done: Callable[[], bool], limit_s: float) -> bool:
        deadline = self._clock.seconds() + limit_s
        pause = _SHORT_S
        while not done():
            if self._clock.seconds() >= deadline:
                return False
            await deferLater(self._clock, pause)
            pause = min(_LONG_S, pause * 2)
        return True

    # Finding again

    def _prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        self._run.mkdir(mode=0o700, parents=True, exist_ok=True)
        host_boot = (self._proc / "sys/kernel/random/boot_id").read_text().strip()
        first = self._proc / "1/stat"  # in a container the host goes on while all processes end
        with suppress(OSError, IndexError):
            host_boot += " " + first.read_text().rpartition(") ")[2].split()[19]
        note = self._run / "boot_id"
        if not note.exists() or note.read_text() != host_boot + "\n":
            shutil.rmtree(self._run / "slivers", ignore_errors=True)
            note.write_text(host_boot + "\n")
        (self._run / "slivers").mkdir(mode=0o700, exist_ok=True)
        self._script = shim.install(self._run)
        if self._bell is None:
            self._bell = Bell(self._run, self._loop, self._look)

    async def _can_mount(self) -> bool:
        ended: Deferred[int | None] = Deferred()
        argv = [shutil.which("unshare", path=shim.PATH) or "/usr/bin/unshare", "-m", "--propagation", "private"]
        argv += ["mount", "--bind", "/tmp", "/tmp"]
        try:
            self._spawner.spawn(argv, environment={"PATH": shim.PATH}, ended=ended.callback)
        except OSError:
            return False
        return await ended == 0

    def _standing_problems(self) -> tuple[str, ...]:
        problems = []
        if not self._as_root:
            problems.append("no uid of its own: the daemon does not run as root")
        if not self._mounts:
            why = "mounting is not permitted here" if self._as_root else "the daemon does not run as root"
            problems.append(f"no /home and /tmp of its own: {why}")
        problems += [self._no_cgroups] if self._cgroups is None else self._cgroups.problems
        return tuple(problems)

    async def _find_again(self, serial: int, workload: Workload) -> None:
        sliver = self._slivers[serial]
        await sliver.lock.acquire()
        try:
            reached = [p for p in self._boots(serial).glob("*") if p.name.isdigit() and shim.read_boot(p).begun]
            sliver.boots = max((int(p.name) for p in reached), default=0)
            sliver.has_command = workload.start_command is not None
            if sliver.boots:
                await self._adopt(sliver)
            if sliver.keeper is None:
                await self._end(sliver, 0.0)
            elif self._cgroups is not None:
                sliver.problems = tuple(self._cgroups.apply(serial, workload.rspec))
            self._tell(sliver)
        finally:
            sliver.lock.release()

    async def _adopt(self, sliver: _Sliver) -> None:
        """
        Watch the keeper of the boot reached, if it lives; one that has just begun is given a moment to say who it is.
        """
        directory = self._boot_directory(sliver)

        def said() -> bool:
            sliver.boot = shim.read_boot(directory)
            return sliver.boot.keeper is not None or not self._processes(fresh=True).get(sliver.serial)

        await self._until(said, _BREATH_S)
        keeper = sliver.boot.keeper
        if keeper is not None and sliver.boot.exit is None:
            ended = partial(self._keeper_ended, sliver, sliver.boots)
            sliver.keeper = self._spawner.adopt(keeper.pid, keeper.started, ended)
        self._look(sliver.serial)

    async def _join_winner(self, sliver: _Sliver) -> None:
        """
        Another keeper runs this boot: an earlier daemon started it, and died before it could note so.
        """
        await sliver.lock.acquire()
        try:
            if sliver.keeper is None:
                await self._adopt(sliver)
        finally:
            sliver.lock.release()
        self._tell(sliver)

    # Small things

    def _boots(self, serial: int) -> Path:
        return self._run / "slivers" / str(serial)

    def _boot_directory(self, sliver: _Sliver) -> Path:
        return self._boots(sliver.serial) / str(sliver.boots)

    def _note(self, sliver: _Sliver, name: str, text: str) -> None:
        with suppress(OSError):
            (self._boot_directory(sliver) / name).write_text(text)

    def _on_disk(self) -> list[int]:
        return [int(p.name) for p in self._directory.iterdir() if p.name.isdigit()]

    def _noted_uid(self, serial: int) -> int | None:
        with suppress(OSError, ValueError):
            return int((self._directory / str(serial) / "uid").read_text())
        return None

    def _tag(self, serial: int) -> str:
        return f"{self._instance}/{serial}"

    def _go(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(lambda f: self._log.failure("sliver not cleared", failure=f))
