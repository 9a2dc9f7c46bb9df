"""
The slivers of a process driver as they are watched: what the files of a boot say becomes a status, and what a dead boot
left behind is ended.

Each sliver has a lock, and one piece of work is done with it at a time; what its files say is read whenever its shim
rings.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.drivers.commands import Commands, Initscripts
from hostline.server.drivers.container_boot import Net
from hostline.server.drivers.driver import Status
from hostline.server.drivers.ending import BREATH_S, Ending
from hostline.server.drivers.outlets import Outlets, lift_latch
from hostline.server.drivers.recovery import Traces
from hostline.server.drivers.starting import Starting
from hostline.server.drivers.wires import Wires
from hostline.server.supervise import shim
from hostline.server.supervise.bell import Bell
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.doings import Doings
from hostline.server.supervise.limits import ENFORCED
from hostline.server.supervise.members import Members
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.trash import Trash
from hostline.server.supervise.turns import Turns
from hostline.server.supervise.uids import UidRange, Uids, accounts

#: How many slivers may be on their way up at the same time.
_BOOTING = 8


class ProcessSlivers:
    """
    The slivers of one driver, and what is seen of them.

    @ivar enforces: the resources that it can hold a sliver to on this host.
    @ivar log_limit: bytes that each log of a start command may have when L{tidy} looks.
    """

    kind = "process"
    holds = "limits of processor, memory and processes are held, of disk and network not"
    version = ""
    #: Of its control groups.
    letter = "p"
    #: Whether it can do without the root that it has: slivers get mounts of their own where they can.
    with_mounts = True
    thorough = False
    outlets = Outlets
    log_limit = 64 << 20
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
        inside: Path = Path("/run/hostline"),
        hidden: Sequence[Path] = (),
        wires: Wires | None = None,
        network: Net | None = None,
        no_links: str = "no links: this host is not set up for them",
    ) -> None:
        """
        @param directory: for what lasts (C{STATE/slivers}), made if missing.
        @param run: for what lasts until the host restarts (C{STATE/run}), made if missing; nobody else may write here.
        @param instance: the random id of this state directory; marks everything that we make.
        @param uids: from which slivers get their uids; needed if C{as_root}.
        @param cgroups: None if they cannot be used, for the reason C{no_cgroups}.
        @param as_root: whether to give slivers uids and mounts; None: if we are root.
        @param grace_s: how long processes may take to end politely.
        @param hidden: mount points that slivers with mounts of their own do not keep in use, with all below.
        @param wires: what puts nodes on links; None if there is nothing, for the reason C{no_links}.
        @param network: what those are connected to besides; None if there is none.
        @param inside: where slivers with mounts of their own see the directory of their own socket; made if missing.
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
        self._uids = Uids(directory, uids, accounts()) if self._as_root and uids is not None else None
        self._cgroups = cgroups = cgroups.of(self.letter) if cgroups is not None else None
        self._no_cgroups = no_cgroups
        self._grace_s = grace_s
        self._proc = proc
        self._inside = inside
        self._bell: Bell | None = None
        self._trash = Trash(directory / ".trash", spawner)
        self._traces = Traces(directory, run)
        self._outlets = self.outlets(directory, wires, network, no_links)
        self._starting = Starting(directory, self._traces, self._uids, cgroups, wall, self._outlets)
        self._starting.hidden = hidden
        self._slivers: dict[int, ProcessSliver] = {}
        self._statuses: dict[int, Status] = {}
        self._turns = Turns(clock)
        self._looks = Turns(clock)
        self._rang: set[int] = set()
        self._closed = False
        self._booting = DeferredSemaphore(_BOOTING)
        self._problems: tuple[str, ...] = ()
        self._strays = ""
        self._lasting: set[int] = set()
        own = self._uids.by_serial if self._uids is not None else None
        self._members = Members(instance, cgroups, clock, own, proc, run)
        self._ending = Ending(self._members, cgroups, clock, self._turns, thorough=self.thorough)
        self._commands = Commands(spawner, loop, clock, self._members)
        self._doings = Doings(clock, proc)
        self._initscripts = Initscripts(directory, spawner, clock, self._members, self._script_ended)

    # Watching

    def _rung(self, serial: int) -> None:
        """
        A shim says that its files say something new.
        """
        if serial in self._slivers and serial not in self._rang:
            self._rang.add(serial)
            self._go(self._look_in_turn(serial))

    async def _look_in_turn(self, serial: int) -> None:
        await self._looks.mine()
        self._rang.discard(serial)
        self._look(serial)

    def _keeper_ended(self, sliver: ProcessSliver, boots: int, code: int | None) -> None:
        self._go(self._keeper_over(sliver, boots, code))

    async def _keeper_over(self, sliver: ProcessSliver, boots: int, code: int | None) -> None:
        await self._looks.mine()
        if boots != sliver.boots:
            return
        sliver.keeper = None
        sliver.boot = shim.read_boot(self._traces.boot(sliver))
        if code == shim.CANNOT_WRITE and not sliver.boot.begun:
            sliver.failure = f"could not write to {self._run}"
        elif code == shim.LOST_THE_RACE:
            sliver.joining = True
            self._go(self._join_winner(sliver))
        self._tell(sliver)

    def _look(self, serial: int) -> None:
        sliver = self._slivers.get(serial)
        if sliver is None or sliver.boots == 0 or sliver.failure is not None:
            return
        sliver.boot = shim.read_boot(self._traces.boot(sliver))
        if sliver.boot.up:
            sliver.has_command = sliver.boot.has_command
        if not sliver.ending:
            self._run_script(sliver)
            if self._outlets.waits(sliver) and not sliver.plugging:
                sliver.plugging = True
                self._go(self._plug(sliver, sliver.boots))
        self._tell(sliver)

    async def _plug(self, sliver: ProcessSliver, boots: int) -> None:
        """
        Give a boot that waits at its latch its networks, and let it go on.
        """
        await sliver.lock.acquire()
        try:
            if sliver.boots == boots and sliver.workload is not None and not self._closed:
                await self._outlets.plug(sliver, sliver.workload)
                lift_latch(self._traces.boot(sliver))
        finally:
            sliver.plugging = False
            sliver.lock.release()
            self._tell(sliver)

    def _tell(self, sliver: ProcessSliver) -> None:
        if self._closed or self._slivers.get(sliver.serial) is not sliver:
            return
        uid = self._uids.by_serial.get(sliver.serial) if self._uids is not None else os.geteuid()
        status = evolve(sliver.status(self._problems), uid=uid)
        if status.boot != "running":
            self._vacate(sliver)
        if status.boot == "dead" and not sliver.ending and not sliver.cleared:
            self._go(self._clear(sliver))
        if self._statuses.get(sliver.serial) != status:
            self._statuses[sliver.serial] = status
            self.changed(sliver.serial)

    def _run_script(self, sliver: ProcessSliver, word: str | None = None) -> None:
        """
        Run a sliver's initscript if it is due; what cannot be is in the status' C{problems}.
        """
        word = self._initscripts.due(sliver) if word is None else word
        if word is None or sliver.keeper is None:
            return
        tag = self._tag(sliver.serial)
        try:
            place = self._starting.place(sliver, tag)
            self._initscripts.begin(sliver, word, self._starting.script, self._traces.boot(sliver), place, tag)
            sliver.boot = shim.read_boot(self._traces.boot(sliver))
        except (OSError, ValueError) as error:
            problem = f"the initscript was not run: {error}"
            if problem not in sliver.problems:
                sliver.problems = (*sliver.problems, problem)

    def _script_ended(self, sliver: ProcessSliver) -> None:
        if self._slivers.get(sliver.serial) is sliver and not self._closed:
            self._look(sliver.serial)

    # Finding keepers

    async def _adopt(self, sliver: ProcessSliver) -> None:
        """
        Watch the keeper of the boot reached, if it lives; one that has just begun is given a moment to say who it is.
        """
        directory = self._traces.boot(sliver)

        async def said() -> bool:
            sliver.boot = shim.read_boot(directory)
            return sliver.boot.keeper is not None or sliver.serial not in await self._members.everywhere()

        await self._ending.until(said, BREATH_S)
        keeper = sliver.boot.keeper
        if keeper is not None and sliver.boot.exit is None:
            ended = partial(self._keeper_ended, sliver, sliver.boots)
            sliver.keeper = self._spawner.adopt(keeper.pid, keeper.started, ended)
            if sliver.keeper is not None:
                self._members.keeper_started(sliver.serial, keeper.pid)
                self._initscripts.adopt(sliver, directory)
        self._look(sliver.serial)

    async def _join_winner(self, sliver: ProcessSliver) -> None:
        """
        Another keeper runs this boot: an earlier daemon started it, and died before it could note so.
        """
        await sliver.lock.acquire()
        try:
            if sliver.joining and not sliver.cleared:
                await self._adopt(sliver)
        finally:
            sliver.joining = False
            sliver.lock.release()
            self._tell(sliver)

    # Ending

    async def _clear(self, sliver: ProcessSliver) -> None:
        """
        Kill what a dead node left behind.
        """
        await sliver.lock.acquire()
        try:
            if sliver.status(()).boot == "dead" and not sliver.cleared:
                await self._end(sliver, 0.0)
        finally:
            sliver.lock.release()

    async def _end(self, sliver: ProcessSliver, grace_s: float) -> None:
        if not sliver.cleared:
            try:
                self._commands.end(sliver.serial)
                if grace_s > 0:
                    await self._stop_script(sliver, grace_s)
                await self._ending.end(sliver, grace_s)
                if self._initscripts.running(sliver.serial):
                    self._initscripts.kill(sliver.serial)
                    await self._initscripts.wait(sliver.serial, BREATH_S)
            finally:
                self._look(sliver.serial)

    async def _stop_script(self, sliver: ProcessSliver, grace_s: float) -> None:
        """
        Tell the initscript that the end comes, if it was run at this boot; it has as long as everybody.
        """
        if sliver.boot.initscript is None or sliver.keeper is None or not sliver.boot.up:
            return
        if not (self._directory / str(sliver.serial) / "initscript").exists():
            return
        await self._initscripts.cut(sliver.serial, BREATH_S)
        self._run_script(sliver, "stop")
        await self._initscripts.wait(sliver.serial, grace_s)

    # Small things

    def _vacate(self, sliver: ProcessSliver) -> None:
        """
        Give up the place among those on their way up.
        """
        if sliver.place is not None:
            if sliver.place.active():
                sliver.place.cancel()
            sliver.place = None
            self._booting.release()

    async def _hold(self, serial: int) -> ProcessSliver:
        """
        @return: the sliver, its lock acquired.
        """
        while True:
            sliver = self._slivers.setdefault(serial, ProcessSliver(serial))
            await sliver.lock.acquire()
            if self._slivers.get(serial) is sliver:
                return sliver
            sliver.lock.release()  # it was destroyed while we waited

    def _tag(self, serial: int) -> str:
        return f"{self._instance}/{serial}"

    def _go(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(self._complain)

    def _complain(self, failure: Failure) -> None:
        self._log.failure("a sliver could not be cleared", failure=failure)
