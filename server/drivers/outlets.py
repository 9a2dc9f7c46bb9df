"""
Where process slivers meet networks: those that are on links of an experiment have a network namespace of their own, and
in it their interfaces, the control network, and names of their own.

Such a boot waits at its latch, a FIFO among its files, before anything of the sliver's own runs, until all is plugged
in; a daemon that comes later finds it waiting there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.drivers.container_boot import Net, hosts
from hostline.server.drivers.driver import Workload
from hostline.server.drivers.wires import NO_WIRES, Wires
from hostline.server.slivers.rspec import DEFAULTS
from hostline.server.supervise import shim

#: The name of the latch.
LATCH = "latch"
_PLACES = {"hosts": "/etc/hosts", "resolv.conf": "/etc/resolv.conf"}


class Outlets:
    """
    The networks of one driver's slivers.

    @ivar able: whether slivers can have namespaces of their own on this host; known once the driver has looked around.
    """

    able = False

    def __init__(self, directory: Path, wires: Wires | None, network: Net | None, no_links: str) -> None:
        """
        @param directory: C{STATE/slivers}.
        @param wires: None if there are no links, for the reason C{no_links}.
        @param network: None if there is no control network.
        """
        self._directory = directory
        self._wires = wires
        self._network = network
        self._no_links = no_links

    def apart(self, workload: Workload) -> bool:
        """
        @return: whether a sliver is to have a network namespace of its own.
        """
        return bool(workload.interfaces) and self.able and self._wires is not None

    def prepare(self, workload: Workload, boot: Path) -> str:
        """
        Make what a boot in a namespace of its own needs.

        @return: lines for C{mount -a -T}.
        @raise OSError: if that fails.
        """
        with suppress(FileExistsError):  # an earlier daemon began this boot
            os.mkfifo(boot / LATCH, 0o600)
        root, lines = self._directory / str(workload.serial), ""
        texts = {"hosts": self._hosts(workload)}
        if self._network is not None:
            texts["resolv.conf"] = self._network.dns()
        for name, text in texts.items():
            _write(root / name, text)
            if Path(_PLACES[name]).exists():
                lines += shim.file_line(root / name, _PLACES[name])
        return lines

    def waits(self, sliver: ProcessSliver) -> bool:
        """
        @return: whether a boot is at its latch.
        """
        boot, workload = sliver.boot, sliver.workload
        begun = boot.node is not None and not boot.up and boot.exit is None
        return begun and workload is not None and self.apart(workload)

    async def plug(self, sliver: ProcessSliver, workload: Workload) -> None:
        """
        Give a boot that is in a namespace of its own its networks; what is not as it should be is in its
        C{unplugged}.
        """
        node = sliver.boot.node
        if node is None or self._wires is None:
            return
        problems: list[str] = []
        if self._network is not None:
            rspec = {**DEFAULTS, **workload.rspec}
            problems += await self._network.connect(sliver.serial, node.pid, rspec)
            with suppress(OSError):
                sliver.address = self._network.address(sliver.serial)
        problems += await self._wires.plug(
            sliver.serial, node.pid, workload.interfaces, workload.routes, forwards=workload.forwards
        )
        sliver.wired = workload.wired
        sliver.unplugged = tuple(problems)
        self._name(sliver, workload)

    async def configure(self, sliver: ProcessSliver, workload: Workload) -> None:
        """
        Have a sliver that is up be on the links that it is to be on now.
        """
        wanted = workload.wired
        if wanted != sliver.wired and self.apart(workload):
            await self.plug(sliver, workload)
        elif workload.interfaces and not self.apart(workload):
            sliver.unplugged = (self._no_links,)
        elif self.apart(workload):
            self._name(sliver, workload)

    def _name(self, sliver: ProcessSliver, workload: Workload) -> None:
        text = self._hosts(workload)
        if text != sliver.hosts:
            with suppress(OSError):
                _write(self._directory / str(sliver.serial) / "hosts", text)
                sliver.hosts = text

    async def unplug(self, sliver: ProcessSliver) -> None:
        """
        Its interfaces went with its namespace; what there is of them on the host goes now.

        @raise OSError: if something is left.
        """
        if self._wires is not None and sliver.wired != NO_WIRES:
            await self._wires.unplug(sliver.serial)
            sliver.wired = NO_WIRES

    async def forget(self, sliver: ProcessSliver) -> None:
        """
        Leave nothing of a sliver's networks.

        @raise OSError: if something is left.
        """
        on_control = sliver.wired != NO_WIRES or sliver.address is not None
        await self.unplug(sliver)
        if self._network is not None and on_control:
            await self._network.forget(sliver.serial)
            sliver.address = None

    def _hosts(self, workload: Workload) -> str:
        if self._network is not None:
            return workload.hosts + self._network.names(workload.serial, workload.name)
        return workload.hosts + hosts(workload.name)


def lift_latch(boot: Path) -> None:
    """
    Let a boot go on that waits, or will wait; any other is not disturbed.
    """
    with suppress(OSError):
        fd = os.open(boot / LATCH, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(fd, b"\n")
        finally:
            os.close(fd)


def _write(path: Path, text: str) -> None:
    """
    Replace what is in a file of ours, which stays the same file, for it may be mounted.
    """
    data = text.encode()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(fd, 0o644)
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
    finally:
        os.close(fd)
