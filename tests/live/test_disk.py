"""
A full or read-only file system under a running daemon: it refuses changes with a reason, answers questions, keeps what
it acknowledged, and goes on by itself once there is room again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import unittest
from pathlib import Path

from tests.live.hosted import Client, Hosted, topology, until
from tests.live.support import DEADLINE_S, living, remove_directory, temporary_directory
from tests.needs import needs_kernel, needs_root, needs_tool
from tests.scale import scaled


class Disk:
    """
    A small file system of the test's own: a tmpfs.

    @ivar path: where it is mounted.
    """

    def __init__(self) -> None:
        self.path = temporary_directory()
        self.mount()

    #: For tmpfs; too little for the daemon to keep a reserve.
    size = "6m"

    def mount(self) -> None:
        """
        Mount it.
        """
        self._run("mount", "-t", "tmpfs", "-o", f"size={self.size},mode=0711", "hostline-test", str(self.path))

    def unmount(self) -> None:
        """
        Unmount it, once those whose files are there have ended.
        """
        deadline = time.monotonic() + DEADLINE_S
        while subprocess.run(["umount", str(self.path)], capture_output=True, timeout=10).returncode != 0:
            if time.monotonic() > deadline:
                self._run("umount", "-l", str(self.path))
                return
            time.sleep(0.05)

    def close(self) -> None:
        """
        Remove it.
        """
        self.unmount()
        self.path.rmdir()

    def _run(self, *argv: str) -> None:
        subprocess.run(argv, check=True, timeout=10)


class Larger(Disk):
    """
    One with room for a reserve.
    """

    size = "100m"


class Ext4(Disk):
    """
    The same, with a real file system in a file.
    """

    def __init__(self) -> None:
        self._image = temporary_directory() / "image"
        with self._image.open("wb") as image:
            image.truncate(16 << 20)
        self._run("mkfs.ext4", "-q", str(self._image))
        super().__init__()
        self.path.chmod(0o711)

    def mount(self) -> None:
        self._run("mount", "-o", "loop", str(self._image), str(self.path))

    def close(self) -> None:
        super().close()
        remove_directory(self._image.parent)


@needs_root
class DiskTest(unittest.TestCase):
    """
    A state directory on a small file system of its own.
    """

    def setUp(self) -> None:
        self.disk = self.disk_of_its_own()
        self.addCleanup(self.disk.close)
        self.host = Hosted(self, parent=self.disk.path)
        self.host.start()
        self.client = self.host.client()
        self.addCleanup(self.client.close)
        self.client.ask("add_project lab")
        text = topology({"web": "exit 3", "db": None})
        self.client.ask(f"create_experiment lab/demo {text} swap_in=True")
        self.client.ask("wait_for lab/demo started")
        self.status = self.client.ask("status_request lab/demo")
        self.acknowledged: set[str] = set()

    def disk_of_its_own(self) -> Disk:
        return Disk()

    def tearDown(self) -> None:
        self.assertFalse(self.host.tracebacks(), self.host.tracebacks())

    def fill(self) -> None:
        """
        Leave no byte.
        """
        with (self.disk.path / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(b"x" * size)

    def make_room(self) -> None:
        (self.disk.path / "filler").unlink()

    def add_users(self, prefix: str, count: int) -> list[dict[str, object]]:
        """
        @return: the refusals.
        """
        refusals = []
        for number in range(count):
            name = f"{prefix}{number}"
            word, body = self.client.refusal(f"add_user {name}")
            if word == "add_user_reply":
                self.acknowledged.add(name)
            else:
                refusals.append(body)
        return refusals

    def users(self, client: Client) -> set[str]:
        return {one["name"] for one in client.ask("users")}

    def assertAnswersQuestions(self) -> None:
        """
        All that changes nothing goes on; what is known is what was acknowledged.
        """
        self.assertEqual(self.client.ask("status_request lab/demo"), self.status)
        self.assertEqual(self.users(self.client), self.acknowledged)
        self.assertIn("time", self.client.ask("ping"))
        self.assertEqual(len(self.client.ask("node_list lab/demo extra=True")), 3)
        self.assertTrue(self.client.ask("events limit=10"))

    def assertComesBack(self) -> None:
        """
        With room, changes are made again; a killed and restarted daemon has all that was acknowledged, no more.
        """
        until(lambda: not self.add_users("later", 1) or self.acknowledged >= {"later0"}, 10)
        self.assertEqual([one for one in self.client.ask("doctor") if one["check"] == "state" and not one["ok"]], [])
        self.host.kill()
        self.host.start()
        with self.host.client() as client:
            self.assertEqual(self.users(client), self.acknowledged)
            self.assertEqual(client.ask("status_request lab/demo"), self.status)
            client.ask("terminate lab/demo")
        until(lambda: not self.host.left_over(), 5, self.host.left_over)


class FullDisk(DiskTest):
    """
    No space left on the device.
    """

    def test_changesAreRefusedAndQuestionsAnswered(self) -> None:
        """
        Once the disk is full each change is refused with the reason; the rest works, and all is well with room again.
        """
        self.add_users("before", 5)
        self.fill()
        refusals = self.add_users("full", scaled(30, 500))
        self.assertGreater(len(refusals), 10)
        self.assertEqual({one["code"] for one in refusals}, {"STORE_FAILED"})
        self.assertIn("full", str(refusals[-1]["message"]))
        self.assertAnswersQuestions()
        state = next(one for one in self.client.ask("doctor") if one["check"] == "state")
        self.assertFalse(state["ok"])
        self.assertIn("full", state["detail"])
        self.make_room()
        self.assertComesBack()

    def test_fillingUpAgainAndAgain(self) -> None:
        """
        A disk that is full every other moment loses no change that was acknowledged, whoever asked at the same time.
        """
        others = [self.host.client() for _ in range(4)]
        for client in others:
            self.addCleanup(client.close)
        for turn in range(scaled(8, 100)):
            if turn % 2 == 0:
                self.fill()
            for number in range(10):
                for at, client in enumerate(others):
                    client.send(f"add_user u{turn}x{number}x{at}\n")
                if number == 5 and turn % 2 == 0:
                    self.make_room()
                for client in others:
                    word, body = client.reply()
                    if word == "add_user_reply":
                        self.acknowledged.add(body["name"])
        self.assertGreater(len(self.acknowledged), 20)
        self.assertEqual(self.users(self.client), self.acknowledged)
        self.assertComesBack()

    def test_anOperationWaitsForRoom(self) -> None:
        """
        What was begun before the disk was full, and cannot be noted as done, is done once there is room.
        """
        self.client.ask(f"create_experiment lab/next {topology({'a': 'sleep 1; exit 4'})}")
        self.assertEqual(self.client.refusal("swap_in lab/next wait=0")[0], "operation_reply")
        self.fill()
        word, _ = self.client.refusal("terminate lab/next")
        self.assertIn(word, ("error_reply", "terminate_reply"))
        time.sleep(1.5)
        self.assertAnswersQuestions()
        self.make_room()
        until(lambda: not [one for one in self.client.ask("operations") if one["ended"] is None], 25)
        if word == "error_reply":
            self.assertIn(self.client.ask("experiment lab/next")["state"], ("active", "failed"))
            self.client.ask("terminate lab/next")
        self.assertNotIn("lab/next", [one["name"] for one in self.client.ask("experiments")])
        self.assertComesBack()

    def test_nodesAndTheirDaemonSurviveAKillMeanwhile(self) -> None:
        """
        Killed while the disk is full, the daemon that comes after finds all nodes, at the latest when there is room.
        """
        self.add_users("before", 3)
        pids = {one["node"]: one["pid"] for one in self.client.ask("experiment lab/demo")["nodes"].values()}
        self.fill()
        self.add_users("full", 3)
        self.host.kill()
        process = self.host.launch()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.assertNotEqual(process.wait(2), 0)
        self.assertTrue(all(map(living, pids.values())))
        self.make_room()
        if process.poll() is None:
            self.host.answering()
        else:
            self.host.start()
        with self.host.client() as client:
            self.assertEqual(self.users(client), self.acknowledged)
            found = client.ask("experiment lab/demo")["nodes"].values()
            self.assertEqual({one["node"]: one["pid"] for one in found}, pids)


class FullDiskWithReserve(DiskTest):
    """
    No space left but what the daemon keeps back.
    """

    def disk_of_its_own(self) -> Disk:
        return Larger()

    def test_whatMakesRoomIsDone(self) -> None:
        """
        When the disk is full what takes something off the host is done, and lasts; other changes are refused.
        """
        reserve = self.host.state / "reserve"
        self.assertTrue(reserve.exists())
        self.fill()
        until(lambda: len(self.add_users("full", 20)) == 20, 20)
        self.assertEqual(self.client.ask("terminate lab/demo")["state"], "terminating")
        self.assertFalse(reserve.exists())
        self.host.kill()
        self.make_room()
        self.host.start()
        with self.host.client() as client:
            self.assertEqual(client.ask("experiments"), [])
            self.assertEqual(self.users(client), self.acknowledged)
        self.assertTrue(reserve.exists())
        until(lambda: not self.host.left_over(), 5, self.host.left_over)


@needs_tool("mkfs.ext4")
@needs_kernel(Path("/dev/loop-control").exists(), "no loop devices here")
class ReadOnly(DiskTest):
    """
    A file system that turned read-only under the daemon, as ext4 does when it finds an error.
    """

    def disk_of_its_own(self) -> Disk:
        return Ext4()

    def test_changesAreRefusedAndQuestionsAnswered(self) -> None:
        """
        A read-only state refuses changes with the reason and answers the rest; what was acknowledged is there when it
        has been mended.
        """
        self.add_users("before", 5)
        subprocess.run(["mount", "-o", "remount,abort", str(self.disk.path)], check=True, timeout=10)
        refusals = self.add_users("readonly", 5)
        self.assertEqual([one["code"] for one in refusals], ["STORE_FAILED"] * 5)
        self.assertRegex(str(refusals[-1]["message"]), "read-?only|disk I/O")
        self.assertAnswersQuestions()
        self.host.kill()
        for pid in self.host.processes():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not self.host.processes())
        self.disk.unmount()
        self.disk.mount()
        self.host.start()
        with self.host.client() as client:
            self.assertEqual(self.users(client), self.acknowledged)
            client.ask("add_user afterwards")
            client.ask("terminate lab/demo")
        until(lambda: not self.host.left_over(), 5, self.host.left_over)
