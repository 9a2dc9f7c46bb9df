"""
The QEMU driver: a sliver that is a machine of its own, with its own kernel.

QEMU runs in a cell much like a container's, kept by conmon and an OCI runtime, as a user of its own without any
capability; so all that is so of containers' lives is so of guests' too, and is not said again here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.interfaces import IReactorTime

from hostline.server.drivers.container import ContainerDriver
from hostline.server.drivers.driver import Activity, Workload
from hostline.server.drivers.qemu_boot import MachineBooting
from hostline.server.drivers.qemu_commands import GuestCommands
from hostline.server.drivers.qemu_lives import MachineLives
from hostline.server.drivers.wires import Wires
from hostline.server.network.shared import Shared
from hostline.server.network.taps import Taps
from hostline.server.supervise.acceleration import Acceleration, find_acceleration
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.disks import Disks
from hostline.server.supervise.guest_typed import typed
from hostline.server.supervise.probe import Found, version_of
from hostline.server.supervise.running import run
from hostline.server.supervise.said import Ear
from hostline.server.supervise.seccomp import PROFILE, read_profile, seccomp
from hostline.server.supervise.shelf import GuestFiles
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.subuids import SubuidRange
from hostline.server.supervise.templates import Templates

#: The program on this machine's processors.
PROGRAM = "qemu-system-x86_64"


class QemuDriver(ContainerDriver):
    """
    Runs slivers as QEMU guests.
    """

    kind = "qemu"
    holds = "memory, processor, disk and what is sent are held, for QEMU as a whole; pids_max means nothing to a guest"

    def __init__(
        self,
        directory: Path,
        run: Path,
        *,
        program: str,
        images: Callable[[int], GuestFiles],
        network: Shared | None,
        taps: Taps | None,
        wires: Wires | None = None,
        spawner: Spawner,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        uids: SubuidRange,
        cgroups: Cgroups | None = None,
        no_links: str = "no links: this host is not set up for them",
        grace_s: float = 10.0,
        accelerator: str | None = None,
        templates: Templates | None = None,
        **more: Any,
    ) -> None:
        """
        @param directory: C{STATE/machines}; C{run}: C{RUN/machines}; both as for L{ContainerDriver}.
        @param program: QEMU's path.
        @param images: finds the files of an image by its serial.
        @param taps: None if there is no iproute2.
        @param uids: each guest has a block, of which QEMU uses the first uid.
        @param accelerator: C{tcg} or C{kvm}; None: find out by trying.
        @param templates: None: every guest boots.
        @param more: as for L{ContainerDriver}.
        """
        disks = Disks(directory, images, spawner)
        super().__init__(
            directory, run, files=disks, network=network, wires=wires, spawner=spawner, loop=loop, clock=clock,
            uids=uids, cgroups=cgroups, no_links=no_links, grace_s=grace_s, **more,
        )  # fmt: skip
        self._program = program
        self._accelerator = accelerator
        self._booting: MachineBooting = MachineBooting(
            self._kept, disks, network, cgroups, self._uids, wires, no_links,
            disks=disks, control=network, taps=taps, program=program, templates=templates,
        )  # fmt: skip
        commands = GuestCommands(self._kept, spawner, loop, clock, cgroups)
        self._commands = commands
        self._lives: MachineLives = MachineLives(loop, self._booting, commands, spawner, clock, self._tell)
        commands.watching = self._lives.watch
        self._lives.ear = _NoEar()
        self._acceleration = Acceleration("tcg")

    def problems(self) -> list[str]:
        unusable = self._booting.unusable if self._booting.runtime is None else ""
        slow = self._acceleration.name == "tcg" and self._acceleration.why
        return [
            *([f"no QEMU machine can run: {unusable}"] if unusable else []),
            *([f"QEMU machines are slow, for there is no KVM: {slow}"] if slow else []),
            *self._standing,
            *([self._strays] if self._strays else []),
        ]

    def in_force(self, serial: int) -> Mapping[str, int]:
        found = dict(super().in_force(serial))
        found.pop("pids_max", None)
        return found

    def read_log(self, serial: int, stream: str, offset: int, most: int) -> tuple[bytes, int]:
        watch = self._lives.watch(serial)
        if watch is not None and stream != "console":
            watch.want_logs()
        found, end = super().read_log(serial, stream, offset, most)
        # The guest ends its lines as a terminal wants it, and so does the terminal.
        return (found.replace(b"\r\n", b"\n") if stream == "console" else found), end

    def reachable(self, serial: int) -> bool:
        """
        @return: whether commands can be run in a guest: its agent answers.
        """
        watch = self._lives.watch(serial)
        return watch is not None and watch.reachable

    async def copy_disk(self, serial: int, target: Path, most_bytes: int) -> None:
        """
        Write what a guest that runs has changed of its disk into a new qcow2 disk, as it is at one moment.

        @param target: where that is to be; who is in QEMU's place may still write to it when this is done.
        @raise OSError: if it cannot be done.
        """
        watch = self._lives.watch(serial)
        if watch is None:
            raise OSError("it does not run")
        base = self._booting.disks.image(serial)[0].disk
        await run(self._spawner, "qemu-img", "create", "-q", "-f", "qcow2", str(target), str(await watch.disk_size()))
        opened = os.open(target, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            await watch.copy_disk(opened, None if base is None else base.resolve(), most_bytes)
        finally:
            os.close(opened)

    async def activity(self, serial: int) -> Activity | None:
        found, watch = await super().activity(serial), self._lives.watch(serial)
        if found is None or watch is None or not watch.reachable:
            return found
        return evolve(found, input=await typed(watch.guest))

    async def recover(self, known: Mapping[int, Workload], keep_strays: bool = False) -> None:
        if self._booting.templates is not None:
            await self._booting.templates.recover()
        await super().recover(known, keep_strays)

    def close(self) -> None:
        if self._booting.templates is not None:
            self._booting.templates.close()
        super().close()
        self._lives.close()

    async def _look_around(self) -> Found:
        found = await super()._look_around()
        if found.runtime is None:
            return found
        try:
            if self._accelerator is None:
                tried = await find_acceleration(self._program, self._run, self._spawner, self._clock)
            else:
                tried = Acceleration(self._accelerator)
            version = await version_of(self._spawner, self._program)
            # Of what containers may do QEMU needs nothing that takes a capability.
            filter_ = seccomp(read_profile(PROFILE), ())
        except (OSError, ValueError, KeyError) as error:
            return Found(None, str(error))
        self._acceleration = tried
        self._booting.accelerator = tried.name
        said = f"{version.partition(' (')[0]} under {tried.name.upper()}"
        if tried.why:
            said += f" ({tried.why})"
        return evolve(found, version=f"{said}, {found.version}", seccomp=filter_)


class _NoEar(Ear):
    """
    What a guest says is not in files of ours.
    """

    def __init__(self) -> None:
        pass

    def watch(self, serial: int, directory: Path) -> None:
        pass

    def forget(self, serial: int) -> None:
        pass

    def close(self) -> None:
        pass
