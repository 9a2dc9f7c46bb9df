"""
The life of a QEMU guest: that of a container, with somebody who watches what goes on in it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from attrs import asdict
from twisted.internet.defer import Deferred

from hostline.server.drivers.container_lives import Lives
from hostline.server.drivers.containers import ContainerSliver
from hostline.server.drivers.driver import Workload
from hostline.server.drivers.qemu_boot import MachineBooting
from hostline.server.drivers.qemu_watch import Watch
from hostline.server.supervise.console import read_console
from hostline.server.supervise.guestports import end_talks
from hostline.server.supervise.machine import BadGuest
from hostline.server.supervise.packages import PACKAGES
from hostline.server.supervise.said import Said
from hostline.server.supervise.shim import Process

#: The file of a boot that says why the guest was about to end, for the next daemon too.
_OVER = "over"
_TAIL = 4096


class MachineLives(Lives):
    """
    Starts, watches and ends guests.
    """

    _booting: MachineBooting

    def __init__(self, loop: asyncio.AbstractEventLoop, booting: MachineBooting, *arguments: Any) -> None:
        super().__init__(booting, *arguments)
        self._loop = loop
        self._watches: dict[int, Watch] = {}
        self._workloads: dict[int, Workload] = {}

    def watch(self, serial: int) -> Watch | None:
        """
        @return: who watches a guest, while it runs.
        """
        return self._watches.get(serial)

    def close(self) -> None:
        """
        Look away; every guest goes on.
        """
        for serial in list(self._watches):
            self._watches.pop(serial).close()

    async def begin(self, sliver: ContainerSliver, workload: Workload) -> None:
        self._workloads[sliver.serial] = workload
        for subject in ("guest", "boot", "over", "disk"):
            sliver.problems.pop(subject, None)
        await super().begin(sliver, workload)

    def _adopt(self, sliver: ContainerSliver, pid: int, keeper: Process) -> None:
        super()._adopt(sliver, pid, keeper)
        if not sliver.alive:
            return
        bundle = self._bundle(sliver)
        try:
            ready = self._booting.disks.image(sliver.serial)[1].ready
        except (OSError, BadGuest):
            ready = "agent"

        def changed(said: Said) -> None:
            now = sliver.said.then(said)
            if now != sliver.said:
                sliver.said = now
                with suppress(OSError):
                    self._kept.mark(bundle, "last", json.dumps(asdict(now)))
                self._tell(sliver)

        def over(why: str) -> None:
            sliver.problems["over"] = (why,)
            with suppress(OSError):
                self._kept.mark(bundle, _OVER, why)

        def problem(subject: str, texts: tuple[str, ...]) -> None:
            if sliver.problems.get(subject, ()) != texts:
                sliver.problems[subject] = texts
                self._tell(sliver)

        self._look_away(sliver.serial)
        self._watches[sliver.serial] = watch = Watch(
            sliver,
            bundle.path / "state",
            self._kept.place(sliver.serial) / "console",
            ready,
            loop=self._loop,
            clock=self._clock,
            changed=changed,
            over=over,
            problem=problem,
            settle=end_talks,
        )
        workload = self._workloads.get(sliver.serial)
        if workload is not None:
            self._want(sliver, watch, workload)
        watch.begin()

    def _want(self, sliver: ContainerSliver, watch: Watch, workload: Workload) -> None:
        try:
            watch.want(self._booting.seed(workload), sliver.address, workload.rspec.get("disk_max"))
        except (OSError, ValueError) as error:
            sliver.problems["guest"] = (f"it is not told what is new: {error}",)

    def _look_away(self, serial: int) -> None:
        watch = self._watches.pop(serial, None)
        if watch is not None:
            watch.close()

    def _keeper_ended(self, sliver: ContainerSliver, boots: int, code: int | None) -> None:
        watched = sliver.boots == boots and sliver.serial in self._watches
        if sliver.boots == boots:
            self._look_away(sliver.serial)
        super()._keeper_ended(sliver, boots, code)
        if watched and not (sliver.said.up or sliver.stopped or sliver.ending):
            # As a container that comes to nothing. One that ended while nobody watched may have been up.
            why = (*sliver.problems.pop("over", ()), f"QEMU ended with {sliver.end.code}")[0]
            sliver.failure = why if why.startswith(PACKAGES) else f"it was over before it was up: {why}"
            with suppress(OSError):
                self._kept.mark(self._bundle(sliver), "failure", sliver.failure)
            self._tell(sliver)

    def _read_end(self, sliver: ContainerSliver) -> None:
        super()._read_end(sliver)
        if sliver.end.code in (None, 0) or sliver.stopped or "over" in sliver.problems:
            return
        text, _ = read_console(self._kept.place(sliver.serial) / "console", -_TAIL, _TAIL)
        last = text.decode("utf-8", "replace").strip().rpartition("\n")[2]
        if last.startswith("qemu-system"):  # a guest can say so too, of itself
            sliver.problems["over"] = ("".join(one if one.isprintable() else "?" for one in last)[:300],)

    async def _ask(self, sliver: ContainerSliver, grace_s: float) -> None:
        async def gone() -> bool:
            return not sliver.alive

        watch = self._watches.get(sliver.serial)
        if watch is not None:
            told: Deferred[bool] = Deferred.fromCoroutine(watch.shutdown(grace_s / 2))
            told.addTimeout(grace_s, self._clock, lambda *_: False)
            if await told and await self._until(gone, grace_s):
                return
        await super()._ask(sliver, min(grace_s, 2.0))  # QEMU itself ends at once when asked

    async def _clear(self, sliver: ContainerSliver) -> None:
        self._look_away(sliver.serial)
        await super()._clear(sliver)

    async def find(self, sliver: ContainerSliver, workload: Workload | None, keepers: Mapping[int, Process]) -> None:
        if workload is not None:
            self._workloads[sliver.serial] = workload
        await super().find(sliver, workload, keepers)
        if sliver.boots:
            with suppress(OSError):
                text = (self._bundle(sliver).path / _OVER).read_text("utf-8", "replace").strip()
                if text.startswith(PACKAGES) and not sliver.alive:
                    sliver.failure = text
                if sliver.failure is None:  # it says that, too
                    sliver.problems["over"] = (text,)

    async def configure(self, sliver: ContainerSliver, workload: Workload, *, again: bool = False) -> None:
        before = self._workloads.get(sliver.serial)
        self._workloads[sliver.serial] = workload
        sliver.name, sliver.rspec = workload.name, workload.rspec
        serial, rspec = sliver.serial, workload.rspec
        problem = None
        if "disk_max" in rspec:
            problem = await self._booting.files.resize(serial, rspec["disk_max"])
        sliver.problems["disk"] = (problem,) if problem else ()
        if not sliver.alive:
            return
        sliver.problems["limits"] = tuple(self._booting.hold(sliver, rspec))
        network = self._booting.control
        if sliver.node is not None:
            pid = sliver.node.pid
            if network is not None:
                joining = network.connect(serial, pid, rspec, inside=False) if again else network.shape(serial, rspec)
                sliver.problems["network"] = tuple(await joining)
            wanted = workload.wired
            if again or wanted != sliver.wired:
                await self._booting.wire(sliver, workload, pid)
        watch = self._watches.get(serial)
        if watch is not None and (again or before != workload):
            self._want(sliver, watch, workload)
