"""
All that is made for a boot of a QEMU guest before it is started, and its start.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from attrs import define, evolve, field

from hostline.server.drivers.container_boot import Booting, Unstartable, cgroups_path
from hostline.server.drivers.containers import ContainerSliver
from hostline.server.drivers.driver import Workload
from hostline.server.drivers.wires import NO_WIRES
from hostline.server.network.shared import Shared
from hostline.server.network.taps import Taps
from hostline.server.supervise import bundle as oci
from hostline.server.supervise import clones, homes, machine, machine_bundle
from hostline.server.supervise.bundle import Bind
from hostline.server.supervise.disks import LOGS, Disks
from hostline.server.supervise.machine import BadGuest, Machine
from hostline.server.supervise.machine_bundle import Cell
from hostline.server.supervise.runtime import Bundle
from hostline.server.supervise.seed import Card, Seed
from hostline.server.supervise.shelf import GuestFiles
from hostline.server.supervise.shim import Process
from hostline.server.supervise.templates import Templates

#: Bytes for a workload that does not say.
_MEMORY = 512 << 20
#: Threads that QEMU may have: what runs in the guest does not count, for the host sees none of it.
_THREADS = 256
_CONTROL = "eth0"
#: Bytes that the file of a console may have: a guest says it byte by byte, and each has the time before it.
_CONSOLE = 8 << 20


def held(rspec: Mapping[str, int]) -> dict[str, int]:
    """
    @return: what QEMU is held to for a guest with this rspec.
    """
    return {"memory_max": _MEMORY, **rspec, "pids_max": _THREADS}


@define
class MachineBooting(Booting):
    """
    Makes QEMU's cell, and starts it.

    @ivar program: QEMU's path; empty if there is none.
    @ivar templates: from which guests go on instead of booting; None if there are none.
    @ivar accelerator: C{kvm} or C{tcg}.
    """

    disks: Disks = field(kw_only=True)
    control: Shared | None = field(kw_only=True)
    taps: Taps | None = field(kw_only=True)
    program: str = field(kw_only=True)
    templates: Templates | None = field(kw_only=True)
    accelerator: str = "tcg"

    async def begin(self, sliver: ContainerSliver, workload: Workload) -> tuple[int, Process]:
        runtime = self.runtime
        if runtime is None:
            raise Unstartable(self.unusable)
        await self.make(sliver, workload)
        serial = workload.serial
        try:
            image, manner = self.disks.image(serial)
            self.seed(workload).text()
        except (OSError, BadGuest) as error:
            raise Unstartable(f"its image cannot be used: {error}") from error
        except ValueError as error:
            raise Unstartable(str(error)) from error
        memory = self._memory(workload, manner)
        bundle = self.kept.bundle(serial, workload.boots)
        self.kept.new_boot(bundle)
        (bundle.path / "own").mkdir(mode=0o700)
        if workload.start_command is not None:
            (bundle.path / "own/command").touch(mode=0o600)
        cards = self._cards(workload)
        self.kept.mark(bundle, "memory", str(held(workload.rspec)["memory_max"]))
        self.kept.mark(bundle, "cards", json.dumps([card.name for card in cards]))
        sliver.root = await self.files.mount(serial)
        shutil.rmtree(sliver.root / LOGS, ignore_errors=True)
        (sliver.root / LOGS).mkdir(parents=True)
        disk = self.disks.own_disk(serial)
        told = Machine(
            name=workload.name,
            guest=manner,
            program=self.program,
            accelerator=self.accelerator,
            memory=memory,
            cpus=machine.cpus(workload.rspec, os.cpu_count() or 1),
            macs=[card.mac for card in cards],
            disk=None if disk is None else str(disk),
            kernel=image.kernel is not None,
            initrd=image.initrd is not None,
        )
        template = None if self.templates is None else self.templates.find(told, image.directory)
        if template is not None:
            told = template.like(told)
        cell = self._cell(sliver, workload, bundle, image, disk, machine.argv(told))
        log = self.kept.place(serial) / "console"
        keep = [] if template is None else template.opened()
        try:
            pid, keeper = await runtime.create(bundle, machine_bundle.config(cell), log, most=_CONSOLE, keep=keep)
        finally:
            for fd in keep:
                os.close(fd)
        if self.control is not None:
            said_of_it = await self.control.connect(serial, pid, workload.rspec, inside=False)
            sliver.problems["network"] = tuple(said_of_it)
        await self.wire(sliver, workload, pid)
        self.kept.mark(bundle, "starting")
        await runtime.start(bundle)
        return pid, keeper

    async def wire(self, sliver: ContainerSliver, workload: Workload, pid: int) -> None:
        """
        Put a guest on its links, and join all its interfaces to its cards; what is not as it should be is in its
        C{problems}.
        """
        problems: list[str] = []
        if self.wires is not None and (workload.interfaces or sliver.wired != NO_WIRES):
            problems += await self.wires.plug(
                workload.serial, pid, workload.interfaces, workload.routes, forwards=False, inside=False
            )
        elif workload.interfaces:
            problems.append(self.no_links)
        sliver.wired = workload.wired
        cards = self._known_cards(self.kept.bundle(workload.serial, sliver.boots))
        wanted = [card.name for card in self._cards(workload)]
        if self.taps is not None:
            pairs = [(name, machine.tap(number)) for number, name in enumerate(cards) if name in wanted]
            problems += await self.taps.join(pid, pairs, self.uids.ensure(workload.serial))
        elif wanted:
            problems.append("no network: it needs iproute2")
        if set(wanted) - set(cards):
            problems.append("it gets its new interfaces at its next boot")
        sliver.problems["links"] = tuple(problems)

    def hold(self, sliver: ContainerSliver, rspec: Mapping[str, int]) -> list[str]:
        """
        Hold QEMU to other limits while its guest runs. It is never given less memory than it was started with: the
        kernel would kill it for having used it.

        @return: what is not in force, in words for the user.
        """
        if self.cgroups is None:
            return []
        asked = held(rspec)
        noted = homes.read_note(self.kept.bundle(sliver.serial, sliver.boots).path / "memory")
        begun = noted[0] if noted else asked["memory_max"]
        most = max(asked["memory_max"], begun)
        problems = self.cgroups.apply(sliver.serial, {**asked, "memory_max": most})
        if asked["memory_max"] != begun:
            problems.append(f"it has the memory of a memory_max of {begun} until its next boot")
        return problems

    def seed(self, workload: Workload) -> Seed:
        """
        @return: what the guest is told; with a random part of its own each time.
        """
        routes = [(network.strip(), by) for to, by in workload.routes for network in to.split(",")]
        control = self.control
        if control is not None:
            routes.insert(0, ("default", control.place(workload.serial)[1]))
        return Seed(
            name=oci.host_name(workload.name),
            boots=workload.boots,
            clock=time.time(),
            random=os.urandom(64),
            cards=tuple(self._cards(workload)),
            routes=tuple(routes),
            forwards=workload.forwards,
            hosts=self.hosts_of(workload),
            resolv_conf=None if control is None else control.dns(),
            keys=workload.keys,
            packages=workload.packages,
            start_command=workload.start_command,
            environment={"HOSTLINE_NODE": workload.name, **workload.environment},
            initscript=workload.initscript,
        )

    def _memory(self, workload: Workload, manner: machine.Manner) -> int:
        limit = held(workload.rspec)["memory_max"]
        found = machine.memory(limit, self.accelerator)
        if found < manner.least:
            least = manner.least + machine.OVERHEAD[self.accelerator]
            raise Unstartable(f"memory_max is {limit}; guests with this image want {least} bytes, for QEMU needs some")
        return found

    def _cards(self, workload: Workload) -> list[Card]:
        cards = [Card(one.name, one.mac, (one.address,) if one.address else ()) for one in workload.interfaces]
        if self.control is not None:
            serial = workload.serial
            control = Card(_CONTROL, self.control.hardware(serial), (self.control.place(serial)[0],))
            cards.insert(0, control)
        return [evolve(card, now=clones.mac(number)) for number, card in enumerate(cards)]

    def _known_cards(self, bundle: Bundle) -> list[str]:
        with suppress(OSError, ValueError):
            found: list[str] = json.loads((bundle.path / "cards").read_text("utf-8"))
            return found
        return []

    def _cell(
        self,
        sliver: ContainerSliver,
        workload: Workload,
        bundle: Bundle,
        image: GuestFiles,
        disk: Path | None,
        argv: list[str],
    ) -> Cell:
        serial, uid = workload.serial, self.uids.ensure(workload.serial)
        state = bundle.path / "state"
        state.mkdir(mode=0o700)
        os.chown(state, uid, uid)
        binds = [*machine_bundle.lay(bundle.path / "root"), Bind(state, machine.STATE, writable=True)]
        for file, name in ((image.kernel, "kernel"), (image.initrd, "initrd")):
            if file is not None:
                binds.append(Bind(file, f"{machine.IMAGE}/{name}"))
        if disk is not None:
            binds.append(Bind(disk, str(disk), writable=True))
            os.chown(disk, uid, uid)
            if image.disk is not None:  # at the place that is noted in the other
                base = image.disk.resolve()
                binds.append(Bind(base, str(base)))
        group = None
        if self.cgroups is not None:
            procs, problems = self.cgroups.prepare(serial, held(workload.rspec))
            sliver.problems["limits"] = tuple(problems)
            group = cgroups_path(procs[0], self.cgroups.version) if procs else None
        return Cell(
            name=workload.name,
            rootfs=bundle.path / "root",
            uid=uid,
            argv=argv,
            binds=binds,
            kvm=self.accelerator == "kvm",
            cgroup=group,
            seccomp=self.seccomp,
        )
