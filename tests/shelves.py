"""
A shelf of images and the root file systems on it, in a directory of the test's own, of which nothing stays.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import unittest
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from hostline.server.supervise import syscalls
from hostline.server.supervise.builders import Recipe
from hostline.server.supervise.means import Means, clear
from hostline.server.supervise.rootfs import Rootfs
from hostline.server.supervise.shelf import Shelf
from hostline.server.supervise.spawn import Spawner
from tests.live.support import LoopClock, run, temporary_directory

T = TypeVar("T")
BUSYBOX = Recipe("busybox")


class Shelved(unittest.TestCase):
    """
    @ivar state: where C{images} and C{containers} are.
    """

    def setUp(self) -> None:
        self.state = temporary_directory().resolve()
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        self.addCleanup(self.take_away)
        self.clock = LoopClock(self.loop)
        self.spawners: list[Spawner] = []
        self.begin()

    def begin(self) -> None:
        """
        As a daemon that starts: it knows nothing but what is on the disk.
        """
        self.spawner = Spawner(self.loop)
        self.spawners.append(self.spawner)
        self.shelf = Shelf(self.state / "images", self.spawner, self.clock, [self.state / "containers"])
        self.shelf.prepare()

    def crash(self) -> None:
        """
        As a daemon that is killed: nothing is told, nothing is ended.
        """
        self.spawner.close()

    def run_to_end(self, coroutine: Coroutine[Deferred[Any], Any, T], limit_s: float = 30.0) -> T:
        """
        @return: what the coroutine returns.
        """
        return run(self.loop, coroutine, limit_s)

    def files(self, means: Means | None = None) -> Rootfs:
        """
        @return: root file systems, prepared.
        """
        found = means or self.run_to_end(Means.find(self.state, self.spawner, self.clock))
        rootfs = Rootfs(self.state / "containers", self.shelf, self.spawner, found, self.clock)
        rootfs.prepare()
        return rootfs

    def left(self) -> tuple[list[Path], list[str]]:
        """
        @return: what is mounted and which loop devices are held below our directories.
        """
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        ours = [Path(one) for one in mounted if one.startswith(f"{self.state}/")]
        return ours, sorted(map(str, syscalls.loops(self.state)))

    def mounts(self) -> list[Path]:
        """
        @return: what is mounted of containers.
        """
        return [one for one in self.left()[0] if one.is_relative_to(self.state / "containers" / "1")]

    def take_away(self) -> None:
        """
        End what a test left, whatever that is.
        """
        self.shelf.close()
        for spawner in self.spawners:
            spawner.close()
        clear(self.state)
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.state)], check=False, timeout=60)
        shutil.rmtree(self.state, ignore_errors=True)
