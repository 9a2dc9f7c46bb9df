"""
Starting processes and seeing them end, on both loops.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path

from hostline.server.supervise.spawn import Spawner, start_time
from tests.live import support


class SpawnerTests(unittest.TestCase):
    """
    On asyncio's own loop.
    """

    def setUp(self) -> None:
        self.loop = self.new_loop()
        self.spawner = Spawner(self.loop)
        self.codes: list[int | None] = []
        self.addCleanup(self.loop.close)
        self.addCleanup(self.spawner.close)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def ended(self, code: int | None) -> None:
        self.codes.append(code)

    def until(self, count: int) -> None:
        support.until(self.loop, lambda: len(self.codes) >= count)

    def test_tellsExitStatus(self) -> None:
        """
        An exit status is itself, a signal is 128 + its number.
        """
        for command in ("exit 7", "kill -9 $$", "exit 0"):
            self.spawner.spawn(["/bin/sh", "-c", command], environment={}, ended=self.ended)
            self.until(len(self.codes) + 1)
        self.assertEqual(self.codes, [7, 137, 0])

    def test_seesAllOfMany(self) -> None:
        """
        Many that end at once are all seen, and none is left as a zombie.
        """
        children = [self.spawner.spawn(["/bin/true"], environment={}, ended=self.ended) for _ in range(100)]
        self.until(100)
        self.assertEqual(self.codes, [0] * 100)
        self.assertTrue(all(start_time(child.pid) is None for child in children))

    def test_raisesWhenThereIsNoProgram(self) -> None:
        """
        A program that is not there is the caller's error.
        """
        with self.assertRaises(FileNotFoundError):
            self.spawner.spawn(["/no/such"], environment={}, ended=self.ended)

    def test_signalsWhatItHolds(self) -> None:
        """
        A signal reaches the child while it lives, and nobody afterwards.
        """
        child = self.spawner.spawn(["/bin/sleep", "100"], environment={}, ended=self.ended)
        self.assertTrue(child.kill(signal.SIGTERM))
        self.until(1)
        self.assertEqual((self.codes, child.alive, child.kill(signal.SIGTERM)), ([143], False, False))

    def test_redirectsWhenTold(self) -> None:
        """
        Streams are /dev/null unless file actions say otherwise.
        """
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        command = "readlink /proc/$$/fd/0 /proc/$$/fd/2"
        actions = [(os.POSIX_SPAWN_DUP2, write, 1)]
        self.spawner.spawn(["/bin/sh", "-c", command], environment={}, file_actions=actions, ended=self.ended)
        os.close(write)
        self.until(1)
        self.assertEqual(os.read(read, 100), b"/dev/null\n/dev/null\n")

    def test_adoptsAStranger(self) -> None:
        """
        A process that is not our child is watched; its status is unknown.
        """
        argv = ["sh", "-c", "sleep 100 >/dev/null & echo $!"]
        pid = int(subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True, stdin=subprocess.DEVNULL).stdout)
        known = start_time(pid)
        assert known is not None
        self.assertIsNone(self.spawner.adopt(pid, known[0] + 1, self.ended))
        child = self.spawner.adopt(pid, known[0], self.ended)
        assert child is not None
        child.kill(signal.SIGKILL)
        self.until(1)
        self.assertEqual(self.codes, [None])
        self.assertIsNone(self.spawner.adopt(pid, known[0], self.ended))

    def test_isSilentWhenReleased(self) -> None:
        """
        Who is no longer watched may end unnoticed, and be adopted again.
        """
        child = self.spawner.spawn(["/bin/sleep", "100"], environment={}, ended=self.ended)
        self.spawner.release(child)
        again = self.spawner.adopt(child.pid, child.started, self.ended)
        assert again is not None
        again.kill(signal.SIGKILL)
        self.until(1)
        self.assertEqual(self.codes, [137])

    def test_reapsOrphansAsSubreaper(self) -> None:
        """
        Orphans of a subreaper are reaped; the news of its own children is not lost.
        """
        program = """
import asyncio, os, sys
from hostline.server.supervise.spawn import Spawner, become_subreaper
become_subreaper()
loop = asyncio.new_event_loop()
spawner = Spawner(loop, reaps_strangers=True)
codes = []
argv = ["/bin/sh", "-c", "sleep 0.1 & sleep 0.2 & exit 3"]
spawner.spawn(argv, environment={"PATH": os.environ["PATH"]}, ended=codes.append)
loop.run_until_complete(asyncio.sleep(0.5))
spawner.reap_strangers()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print(codes)
"""
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "twistd_plugins")}
        argv = [sys.executable, "-c", program]
        out = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=30).stdout
        self.assertEqual(out, "[3]\n")


class UvloopSpawnerTests(SpawnerTests):
    """
    On uvloop.
    """

    def new_loop(self) -> asyncio.AbstractEventLoop:
        try:
            import uvloop
        except ImportError:
            raise unittest.SkipTest("uvloop is not installed")
        return uvloop.new_event_loop()
