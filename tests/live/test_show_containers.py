"""
What containers may take of a host, as their users see it: commands as people type them, and the kernel's own accounts.
"""

from __future__ import annotations

import os
import subprocess
import time
import unittest
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.live.hosted import ENVIRONMENT, Hosted, until
from tests.live.test_clients import program
from tests.needs import needs_root, needs_tool
from tests.scale import scaled

#: How far what is measured may be from what is asked for.
TOLERANCE = 0.05
CORES = len(os.sched_getaffinity(0))
_MIB = 1 << 20
#: Other programs on the machine may take more of one core than of another while we measure, and disturb one window, or
#: a few; a wrong weight is wrong in all of them.
_WINDOWS, _SERIES, _WINDOW_S = 5, 3, scaled(0.6, 4.0)


def busy() -> str:
    """
    @return: a start command that computes for ever on each core, with a process bound to it. Unbound ones wander, and
        what the kernel makes of weights depends on where other programs of the machine run.
    """
    masks = " ".join(f"{1 << core:x}" for core in sorted(os.sched_getaffinity(0)))
    return f"for mask in {masks}; do taskset $mask sh -c 'while :; do :; done' & done; wait"


@needs_root
@needs_tool("conmon", "runc", "catatonit", "busybox")
class Shown(unittest.TestCase):
    """
    A host with a small image.
    """

    def setUp(self) -> None:
        self.host = Hosted(self)
        self.host.start()
        self.said("image_build", "tiny", "base=busybox")

    def tearDown(self) -> None:
        for one in self.host.ask("slivers"):
            self.said("destroy", one["name"])
        until(lambda: not self.host.left_over(), 10, self.host.left_over)
        self.assertEqual(self.host.stop(), 0)
        self.assertEqual((self.host.cgroups(), self.host.tracebacks()), ([], ""))

    def run_program(self, *words: str, limit_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """
        Run hostline.
        """
        argv = program("hostline", "--socket", str(self.host.socket), *words)
        return subprocess.run(argv, capture_output=True, text=True, timeout=limit_s, env=ENVIRONMENT, check=False)

    def said(self, *words: str) -> str:
        """
        @return: what hostline says.
        """
        done = self.run_program(*words)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stdout} {done.stderr} {self.host.said()}")
        return done.stdout

    def create(self, name: str, rspec: dict[str, int], command: str = "sleep 100000") -> int:
        """
        @return: serial of a new sliver, which is up.
        """
        self.said("create", name, "kind=container", "image=tiny", f"rspec={rspec}", f"start_command={command}")
        body = self.host.ask(f"sliver {name}")
        self.assertEqual((body["state"], body["boot"], body["problems"]), ("running", "booted", []))
        return int(body["serial"])

    def file(self, serial: int, *names: str) -> Path:
        """
        @return: the first of these files that one of a sliver's control groups has.
        """
        groups = [path for path in self.host.remains.groups() if path.name[1:] == str(serial)]
        found = [path / name for name in names for path in groups if (path / name).exists()]
        self.assertTrue(found, f"no {names} in {groups}")
        return found[0]

    def lives(self) -> dict[str, tuple[Any, ...]]:
        """
        @return: what changes of a sliver when it does not simply go on, by name.
        """
        return {
            one["name"]: (one["state"], one["boot"], one["pid"], one["boots"], one["start_command"])
            for one in self.host.ask("slivers")
        }

    def used_s(self, serial: int) -> float:
        """
        @return: processor seconds that the kernel counted for a sliver.
        """
        path = self.file(serial, "cpuacct.usage", "cpu.stat")
        words = path.read_text().split()
        return int(words[0]) / 1e9 if path.name == "cpuacct.usage" else int(words[words.index("usage_usec") + 1]) / 1e6

    def cores_used(self, serials: Sequence[int], seconds: float = _WINDOW_S) -> list[float]:
        """
        @return: how many cores each used in a window of time.
        """
        before = [(self.used_s(serial), time.monotonic()) for serial in serials]
        time.sleep(seconds)
        after = [(self.used_s(serial), time.monotonic()) for serial in serials]
        return [(b[0] - a[0]) / (b[1] - a[1]) for a, b in zip(before, after, strict=True)]

    def part(self, serials: Sequence[int]) -> float:
        """
        @return: the first one's part of what all used, the median of some windows.
        """
        windows = [self.cores_used(serials) for _ in range(_WINDOWS)]
        return median(window[0] / sum(window) for window in windows)

    def assertPart(self, serials: Sequence[int], wanted: float, *, at_least: bool = False) -> None:
        """
        The first sliver has its part of what all have.
        """
        found = []
        for _ in range(_SERIES):
            found.append(self.part(serials))
            if found[-1] >= wanted * (1 - TOLERANCE) and (at_least or found[-1] <= wanted * (1 + TOLERANCE)):
                return
        self.fail(f"want {'at least ' if at_least else ''}{wanted} of the processors, got {found}")


class LimitTests(Shown):
    """
    Limits, and what becomes of those that try to take more.
    """

    rspec = {"cpu_max": 200, "memory_max": 64 * _MIB, "pids_max": 32}

    def setUp(self) -> None:
        super().setUp()
        self.web, self.neighbour = self.create("lab_web", self.rspec), self.create("lab_db", {})
        self.before = self.lives()

    def test_memoryHog(self) -> None:
        """
        Who takes more than memory_max is killed, alone: the rest of the sliver, and the neighbour, go on.
        """
        done = self.run_program("exec", "lab_web", "--", "sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1")
        self.assertEqual(done.returncode, 137, done.stderr)
        self.assertEqual(self.lives(), self.before)
        most = int(self.file(self.web, "memory.max_usage_in_bytes", "memory.peak").read_text())
        self.assertLessEqual(most, 64 * _MIB)
        self.assertGreater(most, 60 * _MIB)
        self.assertEqual(self.said("exec", "lab_web", "--", "echo", "still here"), "still here\n")

    def test_forkBomb(self) -> None:
        """
        A fork bomb meets pids_max, and never has more processes than that; the neighbour starts its own, and the
        sliver can be stopped and started.
        """
        bomb = "trap '' TERM; b() { b & b & while :; do sleep 1000; done; }; b"
        argv = program("hostline", "--socket", str(self.host.socket), "exec", "lab_web", "--", "sh", "-c", bomb)
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT) as client:
            try:
                current, refused = self.file(self.web, "pids.current"), self.file(self.web, "pids.events")
                until(lambda: int(refused.read_text().split()[1]) > 0, 20, current.read_text)
                end, counts = time.monotonic() + scaled(2.0, 20.0), set()
                while time.monotonic() < end:
                    counts.add(int(current.read_text()))
                    time.sleep(0.005)
                self.assertLessEqual(max(counts), 32)
                begun = time.monotonic()
                self.assertEqual(self.said("exec", "lab_db", "--", "sh", "-c", "echo $(echo hi)"), "hi\n")
                self.assertLess(time.monotonic() - begun, 5)
                self.assertEqual(self.lives(), self.before)
                self.said("stop", "lab_web")
                until(lambda: not [path for path in self.host.remains.groups() if path.name[1:] == str(self.web)], 10)
            finally:
                client.kill()
        self.said("start", "lab_web")
        self.assertEqual(self.said("exec", "lab_web", "--", "echo", "again"), "again\n")

    def test_busyLoop(self) -> None:
        """
        Who computes for ever gets cpu_max, and that is neither more nor less.
        """
        self.said("stop", "lab_db")
        serial = self.create("lab_loop", self.rspec, busy())
        found = [self.cores_used([serial], scaled(2.0, 10.0))[0] for _ in range(_WINDOWS)]
        self.assertAlmostEqual(median(found), 0.2, delta=0.2 * TOLERANCE, msg=str(found))


class ShareTests(Shown):
    """
    Slivers that compute for ever on all cores, beside each other.
    """

    def test_two(self) -> None:
        """
        Two share the host by cpu_share.
        """
        serials = [self.create("lab_a", {"cpu_share": 32}, busy())]
        serials.append(self.create("lab_b", {"cpu_share": 96}, busy()))
        self.assertPart(serials, 32 / 128)

    def test_promiseUnderContention(self) -> None:
        """
        A sliver with a cpu_min of half a core has it, of what slivers get of the host, however much others weigh.
        """
        serials = [self.create("lab_small", {"cpu_share": 16, "cpu_min": 500}, busy())]
        for name, share in (("lab_a", 960), ("lab_b", 3200), ("lab_c", 3200)):
            serials.append(self.create(name, {"cpu_share": share}, busy()))
        self.assertPart(serials, 0.5 / CORES, at_least=True)
        if sum(self.cores_used(serials)) > 0.98 * CORES:  # nobody else wants the host now
            self.assertGreater(median(self.cores_used(serials)[0] for _ in range(_WINDOWS)), 0.5 * (1 - TOLERANCE))


class LoanTests(Shown):
    """
    Loans of cpu_share between containers that run.
    """

    def weights(self) -> list[int]:
        """
        @return: what the kernel weighs both with, in units of cpu_share.
        """
        found = []
        for serial in self.serials:
            path = self.file(serial, "cpu.shares", "cpu.weight")
            found.append(round(int(path.read_text()) / {"cpu.shares": 32, "cpu.weight": 100 / 32}[path.name]))
        return found

    def assertWeights(self, *wanted: int) -> None:
        """
        The kernel has these within a second, and nothing was restarted.
        """
        until(lambda: self.weights() == [*wanted], 1.0, self.weights)

    def test_aLoanMovesWeight(self) -> None:
        """
        A loan changes the weight of both while they run, and what they get; kill -9 of the daemon changes nothing of
        it, and when its time is over it is given back.
        """
        self.serials = [self.create(name, {}, busy()) for name in ("lab_a", "lab_b")]
        before = self.lives()
        self.assertWeights(32, 32)
        self.assertPart(self.serials, 0.5)
        lasts_s = 3 * _SERIES * _WINDOWS * _WINDOW_S + 15
        end = time.time() + lasts_s
        self.said("loan", "lab_b", "cpu_share", "16", "lender=lab_a", f"until={end}")
        self.assertWeights(16, 48)
        self.assertPart(self.serials, 16 / 64)
        self.host.kill()
        self.assertEqual(self.weights(), [16, 48])
        self.assertPart(self.serials, 16 / 64)
        self.host.start()
        self.assertWeights(16, 48)
        self.assertEqual(self.lives(), before)
        (loan,) = self.host.ask("get_loans lab_a")
        self.assertEqual((loan["recipient"], loan["amount"], loan["until"]), ("lab_b", 16, end))
        self.said("loan", "lab_b", "cpu_share", "16", "lender=lab_a", "until=+2s")
        end = time.time() + 2
        self.assertEqual(self.weights(), [16, 48])
        time.sleep(max(0.0, end - time.time()))
        self.assertWeights(32, 32)
        self.assertEqual((self.host.ask("get_loans lab_a"), self.lives()), ([], before))
        self.assertPart(self.serials, 0.5)
