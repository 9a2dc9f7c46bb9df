"""
The life of a container from its start to its end, and how a new daemon finds it again.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hostline.server.drivers.container_boot import Booting, Unstartable, tidy_groups
from hostline.server.drivers.container_commands import Commands
from hostline.server.drivers.containers import ContainerSliver
from hostline.server.drivers.driver import Workload
from hostline.server.supervise import homes, inside, said
from hostline.server.supervise.runtime import Bundle, Ended, Runtime, parent, read_ended
from hostline.server.supervise.said import Ear, Said
from hostline.server.supervise.shim import Process
from hostline.server.supervise.spawn import Spawner, start_time
from hostline.server.supervise.survey import signal_process

#: How many containers may be on their way up, or down, at the same time.
_AT_ONCE = 6
#: How long killed processes may take to end.
END_S = 10.0
#: What a container's status says if they do not.
LEFT = "processes that do not end"
_SHORT_S, _LONG_S = 0.005, 0.1


class Lives:
    """
    Starts, watches and ends containers; whoever calls holds the lock of the one that it is about.

    @ivar ear: hears what containers say; there from recovery on.
    """

    _log = Logger()
    ear: Ear | None = None

    def __init__(
        self,
        booting: Booting,
        commands: Commands,
        spawner: Spawner,
        clock: IReactorTime,
        tell: Callable[[ContainerSliver], None],
    ) -> None:
        """
        @param tell: called when the status of one may have changed.
        """
        self._booting = booting
        self._kept = booting.kept
        self._cgroups = booting.cgroups
        self._commands = commands
        self._spawner = spawner
        self._clock = clock
        self._tell = tell
        self._places = DeferredSemaphore(_AT_ONCE)

    # Starting

    async def begin(self, sliver: ContainerSliver, workload: Workload) -> None:
        """
        Start a boot; whatever goes wrong is in its status.
        """
        await self._places.acquire()
        try:
            sliver.boots, sliver.starting, sliver.cleared = workload.boots, True, False
            sliver.said, sliver.end, sliver.failure, sliver.stopped = Said(), Ended(), None, False
            sliver.has_command = workload.start_command is not None
            sliver.left = ""
            bundle = self._bundle(sliver)
            self._tell(sliver)
            try:
                pid, keeper = await self._booting.begin(sliver, workload)
                self._adopt(sliver, pid, keeper)
                if not sliver.alive:  # it was over before we looked
                    sliver.starting = False
                    await self._clear(sliver)
            except (Unstartable, OSError, ValueError) as error:
                await self._fail(sliver, bundle, str(error))
            for boots in self._kept.boots(sliver.serial):
                if boots < workload.boots:
                    self._kept.remove_boot(self._kept.bundle(sliver.serial, boots))
        finally:
            sliver.starting = False
            self._places.release()
        self._tell(sliver)

    async def _fail(self, sliver: ContainerSliver, bundle: Bundle, why: str) -> None:
        sliver.failure = why
        with suppress(OSError):
            if not bundle.path.is_dir():
                self._kept.new_boot(bundle)
            self._kept.mark(bundle, "failure", why)
        await self._clear(sliver)

    # Watching

    def _adopt(self, sliver: ContainerSliver, pid: int, keeper: Process) -> None:
        """
        Watch a container that runs.
        """
        bundle = self._bundle(sliver)
        known = start_time(pid)
        if known is not None and parent(pid) == keeper.pid:
            sliver.node = self._spawner.adopt(pid, known[0], partial(self._node_ended, sliver, sliver.boots))
        over = partial(self._keeper_ended, sliver, sliver.boots)
        sliver.keeper = self._spawner.adopt(keeper.pid, keeper.started, over)
        if self.ear is not None:
            self.ear.watch(sliver.serial, bundle.path / "said")
        self.look(sliver)

    def _node_ended(self, sliver: ContainerSliver, boots: int, code: int | None) -> None:
        if sliver.boots == boots:
            sliver.node = None  # its conmon says how

    def _keeper_ended(self, sliver: ContainerSliver, boots: int, code: int | None) -> None:
        if sliver.boots != boots:
            return
        sliver.keeper = None
        self._read_end(sliver)
        self._tell(sliver)
        if not sliver.ending:
            self._go(self._clear_later(sliver, boots))

    def _read_end(self, sliver: ContainerSliver) -> None:
        bundle = self._bundle(sliver)
        sliver.end = read_ended(bundle)
        if (bundle.path / "said").exists():
            sliver.said = sliver.said.then(said.read(bundle.path / "said"))

    def look(self, sliver: ContainerSliver) -> None:
        """
        It may have said something new.
        """
        directory = self._bundle(sliver).path / "said"
        if sliver.alive and directory.exists():
            sliver.said = sliver.said.then(said.read(directory))
            self._tell(sliver)

    # Ending

    async def stop(self, sliver: ContainerSliver, grace_s: float) -> None:
        """
        End it on purpose.

        @raise OSError: if some of its processes do not end.
        """
        if sliver.alive:
            sliver.stopped = True
            with suppress(OSError):
                self._kept.mark(self._bundle(sliver), "stopped")
        await self.end(sliver, grace_s)
        if not sliver.cleared:
            raise OSError(sliver.left or LEFT)

    async def end(self, sliver: ContainerSliver, grace_s: float) -> None:
        """
        End its processes, politely first unless the grace is 0, and all that is left of its boot but files.
        """
        if sliver.boots == 0 or sliver.cleared:
            return
        sliver.ending = True
        try:
            await self._places.acquire()
            try:
                if sliver.alive and grace_s > 0:
                    await self._ask(sliver, grace_s)
                await self._clear(sliver)
            finally:
                self._places.release()
        finally:
            sliver.ending = False
            self._tell(sliver)

    async def _ask(self, sliver: ContainerSliver, grace_s: float) -> None:
        async def gone() -> bool:
            return not sliver.alive

        for _ in range(2):  # the second time its initscript has had its turn
            if sliver.node is not None:
                sliver.node.kill(signal.SIGTERM)
            if await self._until(gone, grace_s / 2):
                return

    async def _clear(self, sliver: ContainerSliver) -> None:
        """
        Kill what there is of a boot, and take everything away but what is to be known of it.
        """
        serial, keeper, bundle = sliver.serial, sliver.keeper, self._bundle(sliver)
        left: list[int] = []

        async def killed() -> bool:
            nonlocal left
            left = self._kill(sliver)
            return not left

        async def keeper_gone() -> bool:
            return sliver.keeper is not keeper or keeper is None

        async def groups_gone() -> bool:
            return self._cgroups is None or self._cgroups.remove(serial)

        self._commands.end(serial)
        ended = await self._until(killed, END_S)
        if not await self._until(keeper_gone, END_S) and keeper is not None:
            keeper.kill(signal.SIGKILL)
            await self._until(keeper_gone, END_S)
        if self.ear is not None:
            self.ear.forget(serial)
        self._read_end(sliver)
        over = ended and self._cgroups is not None and sliver.end.code is not None
        try:
            if self._booting.runtime is not None:
                await self._booting.runtime.delete(bundle, over=over)
        except OSError as error:
            ended, sliver.left = False, f"{LEFT}: {error}"
        self._kept.keep_last(bundle, sliver.said)
        if ended:
            await self._until(groups_gone, END_S)
            self._tidy(serial)
            sliver.left = ""
        elif left:
            sliver.left = f"{LEFT}: {' '.join(map(str, sorted(left)[:20]))}"
        sliver.node = None
        sliver.cleared = ended

    def _kill(self, sliver: ContainerSliver) -> list[int]:
        """
        @return: who was there to be killed.
        """
        if sliver.node is not None:
            sliver.node.kill(signal.SIGKILL)  # and with it everything in its pid namespace
        if self._cgroups is None:
            return [sliver.node.pid] if sliver.node is not None else []
        there = self._cgroups.members(sliver.serial)
        if there:
            self._cgroups.kill(sliver.serial)
        return there

    async def _clear_later(self, sliver: ContainerSliver, boots: int) -> None:
        """
        Clear what a container left that ended by itself.
        """
        await sliver.lock.acquire()
        try:
            if sliver.boots == boots and sliver.dead:
                await self.end(sliver, 0.0)
        finally:
            sliver.lock.release()

    async def _until(self, done: Callable[[], Awaitable[bool]], limit_s: float) -> bool:
        deadline = self._clock.seconds() + limit_s
        pause = _SHORT_S
        while not await done():
            if self._clock.seconds() >= deadline:
                return False
            await deferLater(self._clock, pause)
            pause = min(_LONG_S, pause * 1.5)
        return True

    # Finding again

    async def find(self, sliver: ContainerSliver, workload: Workload | None, keepers: Mapping[int, Process]) -> None:
        """
        Take up what an earlier daemon left of a container.

        @param workload: None if it has no record.
        @param keepers: boot to its conmon, as far as they live.
        """
        serial = sliver.serial
        noted = homes.read_note(self._kept.place(serial) / "builds")
        sliver.builds = noted[0] if len(noted) == 1 else 0
        sliver.wired = None
        if workload is not None:
            sliver.name, sliver.rspec = workload.name, workload.rspec
        boots = sorted({*self._kept.boots(serial), *keepers})
        newest = next((n for n in reversed(boots) if self._kept.reached(self._kept.bundle(serial, n))), 0)
        for one in boots:
            if one != newest:
                await self._undo(sliver, one, keepers.get(one))
        if sliver.builds and self._booting.network is not None:
            sliver.address = self._booting.network.address(serial)
        if newest == 0:
            self._kept.recall_end(sliver)
            sliver.cleared = await self._kill_all(serial)
        else:
            await self._take_up(sliver, newest, keepers.get(newest))
        if sliver.boots and sliver.builds and workload is not None:
            with suppress(OSError):
                sliver.root = await self._booting.files.mount(serial)
        if not sliver.alive:
            await self.end(sliver, 0.0)
        elif workload is not None:
            await self.configure(sliver, workload, again=True)

    async def _take_up(self, sliver: ContainerSliver, boots: int, keeper: Process | None) -> None:
        bundle = self._kept.bundle(sliver.serial, boots)
        self._kept.recall(sliver, bundle)
        sliver.cleared = False
        runtime = self._booting.runtime
        if keeper is None or sliver.failure is not None:
            return
        if runtime is not None and runtime.waits(bundle):
            with suppress(OSError):  # the daemon died between the wish and the deed
                await runtime.start(bundle)
        with suppress(OSError, ValueError):
            self._adopt(sliver, int((bundle.path / "pid").read_text()), keeper)
        self._commands.end_strays(sliver)

    async def _undo(self, sliver: ContainerSliver, boots: int, keeper: Process | None) -> None:
        """
        Take away a boot that was not reached, or is over; its conmon may just be creating it.
        """
        bundle, runtime = self._kept.bundle(sliver.serial, boots), self._booting.runtime
        keepers: list[Process] = []

        async def gone() -> bool:
            nonlocal keepers
            if runtime is not None:
                with suppress(OSError):
                    await runtime.delete(bundle)
            found = Runtime.keepers(self._kept.bundles) if keeper is not None else ()
            keepers = [process for *of, process in found if of == [sliver.serial, boots]]
            return not keepers and (runtime is None or not runtime.knows(bundle))

        if not await self._until(gone, END_S):
            for process in keepers:
                signal_process(process, signal.SIGKILL)
            await self._until(gone, END_S)
        self._kept.remove_boot(bundle)

    async def _kill_all(self, serial: int) -> bool:
        """
        Kill what runs and nobody knows of, and remove its control groups.

        @return: whether nothing is left.
        """
        cgroups = self._cgroups
        if cgroups is None:
            return True

        async def gone() -> bool:
            if cgroups.members(serial):
                cgroups.kill(serial)
                return False
            return cgroups.remove(serial)

        ended = await self._until(gone, END_S)
        self._tidy(serial)
        return ended

    def _tidy(self, serial: int) -> None:
        if self._cgroups is not None:
            tidy_groups(self._cgroups, self._cgroups.name(serial))

    # Changing

    async def configure(self, sliver: ContainerSliver, workload: Workload, *, again: bool = False) -> None:
        """
        Put in force what may change while it is there.

        @param again: by a new daemon, which lets every part see it anew.
        """
        serial, rspec = sliver.serial, workload.rspec
        asked = sliver.rspec.get("disk_max")
        sliver.name, sliver.rspec = workload.name, rspec
        if sliver.builds and "disk_max" in rspec:
            problem = await self._booting.files.resize(serial, rspec["disk_max"])
            if problem is not None:
                sliver.problems["disk"] = (problem,)
            elif asked != rspec["disk_max"]:
                sliver.problems.pop("disk", None)
        if sliver.alive and self._cgroups is not None:
            sliver.problems["limits"] = tuple(self._cgroups.apply(serial, rspec))
        network = self._booting.network
        if sliver.node is not None and network is not None:
            pid = sliver.node.pid
            said_of_it = await (network.connect(serial, pid, rspec) if again else network.shape(serial, rspec))
            sliver.problems["network"] = tuple(said_of_it)
        if sliver.node is not None:
            wanted = workload.wired
            # What a daemon before this one gave it is not known. Names with dots are of nodes.
            if wanted != sliver.wired and (sliver.wired is not None or workload.interfaces or "." in workload.name):
                await self._booting.wire(sliver, workload, sliver.node.pid)
        if sliver.alive and (again or sliver.hosts != workload.hosts):
            self._booting.put_hosts(sliver, self._bundle(sliver), workload)
        if sliver.root is not None:
            self._booting.put_keys(sliver, sliver.root, workload.keys)
        if sliver.alive:
            self._put_initscript(sliver, workload.initscript)

    def _put_initscript(self, sliver: ContainerSliver, text: str | None) -> None:
        bundle = self._bundle(sliver)
        own = bundle.path / "own/initscript"
        if not own.parent.is_dir():
            return
        wanted = bundle.path / "restart"
        known = inside.read_own(own)
        if known != text:
            if text is None:
                own.unlink(missing_ok=True)
                return
            self._kept.mark(bundle, "restart", "start" if known is None else "restart")
            inside.write_own(own, self._booting.uids.ensure(sliver.serial), text)
        if wanted.exists():
            verb = wanted.read_text("utf-8").strip() or "restart"
            self._commands.run_script(sliver, verb, lambda: wanted.unlink(missing_ok=True))

    def _bundle(self, sliver: ContainerSliver) -> Bundle:
        return self._kept.bundle(sliver.serial, sliver.boots)

    def _go(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(
            lambda failure: self._log.failure("a container could not be cleared", failure)
        )
