"""
What the live tests of containers share: a place for them on this host, and a look at what is left of it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from hostline.server.drivers.container import ContainerDriver
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.subuids import BLOCK, SubuidRange
from tests.live import support

#: Each run of the tests has a range of its own: 256 blocks.
_FIRST = 0x70000000 + os.getpid() % 15 * 256 * BLOCK
_APPLETS = "sh cat date echo env head hostname id ls mkdir mkfifo mknod mount ps sleep stat tail dd df ln rm kill true"


class PlainFiles:
    """
    Root file systems as plain directories: what containers need of their files, without limits.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        directory.chmod(0o711)

    async def make(self, serial: int, image: int, first_uid: int, size_uids: int, disk_kib: int) -> None:
        root = self.directory / str(serial)
        for name in ("bin", "etc", "tmp", "root", "var/log", "proc", "sys", "dev"):
            (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy("/usr/bin/busybox", root / "bin/busybox")
        for name in _APPLETS.split():
            (root / "bin" / name).unlink(missing_ok=True)
            (root / "bin" / name).symlink_to("busybox")
        subprocess.run(["chown", "-hR", f"{first_uid}:{first_uid}", str(root)], check=True)
        (root / "root").chmod(0o700)

    async def mount(self, serial: int) -> Path:
        if not (self.directory / str(serial)).exists():
            raise FileNotFoundError("it has no files")
        return self.directory / str(serial)

    async def unmount(self, serial: int) -> None:
        pass

    async def destroy(self, serial: int) -> None:
        shutil.rmtree(self.directory / str(serial), ignore_errors=True)

    def serials(self) -> set[int]:
        return {int(path.name) for path in self.directory.iterdir()}

    def disk(self, serial: int) -> tuple[int, int]:
        raise FileNotFoundError("held to nothing")

    async def resize(self, serial: int, disk_kib: int) -> str | None:
        return "disk_max is not held on this host"


class Host:
    """
    A place on this host where drivers run containers one after the other.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop or asyncio.new_event_loop()
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
        self.files = PlainFiles(self.directory / "files")
        self.first_uid = _FIRST

    def driver(self, **more: Any) -> ContainerDriver:
        """
        @return: another daemon's driver.
        """
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
        left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.directory) in line]
        left += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"**/hostline-{self.instance[:12]}/*/")]
        for proc in Path("/proc").iterdir():
            if proc.name.isdigit():
                try:
                    words = (proc / "cmdline").read_bytes()
                    state = (proc / "stat").read_text().rpartition(") ")[2][0]
                    uid = proc.stat().st_uid
                except OSError:
                    continue
                ours = str(self.directory).encode() in words or uid - self.first_uid in range(256 * BLOCK)
                if ours and state not in "ZX":
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
        support.remove_directory(self.directory)
