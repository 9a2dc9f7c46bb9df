"""
What the live tests of containers share: a place for them on this host, and a look at what is left of it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime

from hostline.server.drivers.container import ContainerDriver
from hostline.server.supervise import syscalls
from hostline.server.supervise.builders import Recipe
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.means import Means, clear
from hostline.server.supervise.rootfs import Rootfs
from hostline.server.supervise.shelf import Shelf
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.subuids import BLOCK, SubuidRange
from tests.live import support
from tests.live.hosted import firsts, own_number


class Shelved:
    """
    A shelf with the busybox image as number 1, built once for all tests of a module.
    """

    def __init__(self) -> None:
        self.state = support.temporary_directory().resolve()
        loop = asyncio.new_event_loop()
        spawner, clock = Spawner(loop), support.LoopClock(loop)
        shelf = self.shelf(spawner, clock)
        try:
            support.run(loop, shelf.build(1, Recipe("busybox")))
            self.means = support.run(loop, Means.find(self.state, spawner, clock))
        finally:
            shelf.close()
            spawner.close()
            loop.close()

    def shelf(self, spawner: Spawner, clock: IReactorTime) -> Shelf:
        shelf = Shelf(self.state / "images", spawner, clock, [self.state / "containers"])
        shelf.prepare()
        return shelf

    def close(self) -> None:
        """
        Leave nothing of it.
        """
        clear(self.state)
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.state)], check=False, timeout=60)


class OneImage(Rootfs):
    """
    Root file systems for workloads that name no image.
    """

    async def make(self, serial: int, image: int, first_uid: int, size_uids: int, disk_kib: int) -> None:
        await super().make(serial, image or 1, first_uid, size_uids, disk_kib)


class Host:
    """
    A place on this host where drivers run containers one after the other.
    """

    def __init__(self, shelved: Shelved) -> None:
        self.shelved = shelved
        self.loop = asyncio.new_event_loop()
        self.directory = support.temporary_directory()
        self.run = self.directory / "run"
        self.instance = os.urandom(8).hex()
        self.spawner = Spawner(self.loop)
        self.clock = support.LoopClock(self.loop)
        found, why = Cgroups.find(self.instance)
        if found is None:
            raise AssertionError(why)
        self._cgroups = found
        self.cgroups = found.of("c")
        self.files = self.new_files()
        number, self._number = own_number()
        self.first_uid = firsts(number)[1]

    def new_files(self) -> Rootfs:
        """
        @return: root file systems, as a daemon that starts has them.
        """
        shelf = self.shelved.shelf(self.spawner, self.clock)
        return OneImage(self.shelved.state / "containers", shelf, self.spawner, self.shelved.means, self.clock)

    def driver(self, **more: Any) -> ContainerDriver:
        """
        @return: another daemon's driver.
        """
        self.files = self.new_files()
        arguments: dict[str, Any] = {
            "files": self.files,
            "network": None,
            "spawner": self.spawner,
            "loop": self.loop,
            "clock": self.clock,
            "uids": SubuidRange(self.first_uid, 256 * BLOCK),
            "cgroups": self.cgroups,
            **more,
        }
        return ContainerDriver(self.directory / "notes", self.run, **arguments)

    def go(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return support.run(self.loop, coroutine)

    def until(self, true: Callable[[], object]) -> None:
        support.until(self.loop, true)

    def left(self) -> list[str]:
        """
        @return: everything of ours that a host without containers would not have.
        """
        left = [str(path) for path in (self.directory / "notes").iterdir()]
        left += [str(path) for path in (self.run / "bundles").iterdir()]
        left += [str(path) for path in self.run.glob("state-*/*")]
        left += [f"files {serial}" for serial in self.files.serials()]
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        places = f"{self.directory}/", f"{self.shelved.state}/containers/"
        left += [f"mount {place}" for place in mounts if place.startswith(places)]
        left += [f"loop {path}" for path in syscalls.loops(self.shelved.state / "containers")]
        ours = self._cgroups.bases()
        found = Path("/sys/fs/cgroup").glob(f"*/hostline-{self.instance[:12]}")
        left += [f"cgroup {path}" for path in found if path not in ours or any(one.is_dir() for one in path.iterdir())]
        for proc in Path("/proc").iterdir():
            if proc.name.isdigit():
                try:
                    words = (proc / "cmdline").read_bytes()
                    state = (proc / "stat").read_text().rpartition(") ")[2][0]
                    uid = proc.stat().st_uid
                except OSError:
                    continue
                mine = str(self.directory).encode() in words or uid - self.first_uid in range(256 * BLOCK)
                if mine and state not in "ZX":
                    left.append(f"process {proc.name} {words!r}")
        return left

    def close(self) -> None:
        """
        Leave the host as it was.
        """
        self.spawner.close()
        self.loop.close()
        for serial in self.cgroups.serials():
            self.cgroups.kill(serial)
        self._cgroups.close()
        clear(self.directory)  # what a test that failed left mounted
        support.remove_directory(self.directory)
        self._number.close()
