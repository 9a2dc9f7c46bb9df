"""
Many containers at once: made, started, listed and destroyed, beside a shell script that does the same work.
"""

from __future__ import annotations

import os
import sys
import time
import unittest
from collections.abc import Iterable
from pathlib import Path

from tests.live.hosted import Hosted, until
from tests.needs import needs_root, needs_tool
from tests.scale import scaled

sys.path.append(str(Path(__file__).parents[2]))  # bench/ is no part of the package

from bench.containers import Script, creates, destroys, pipelined

COUNT = scaled(12, 200)
#: What a container may cost beside its own processes, in bytes of memory that is not shared.
_OF_DAEMON, _OF_SUPERVISORS = 256 << 10, 1 << 20
#: The benchmark says how we compare; here we only must not be slower by an order, whatever else the machine does.
_SLOWEST = 4.0


def pss(pids: Iterable[int]) -> int:
    """
    @return: the memory of some processes in bytes, what they share divided among those who share it.
    """
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


@needs_root
@needs_tool("conmon", "runc", "catatonit", "busybox", "ip", "nft")
class ScaleTests(unittest.TestCase):
    """
    One host, one image, many containers.
    """

    def setUp(self) -> None:
        self.host = Hosted(self)
        self.host.start()
        self.host.ask("image_build tiny base=busybox")

    def supervisors(self) -> set[int]:
        """
        @return: the processes that keep containers.
        """
        return {pid for pid in self.host.processes() if Path(f"/proc/{pid}/comm").read_text() == "conmon\n"}

    def script_s(self) -> float:
        """
        @return: how long the script takes for as many.
        """
        with Script(self.host.directory, f"hl{os.getpid() % 1000000}") as script:
            begun = time.monotonic()
            script.up(COUNT)
            script.down(COUNT)
            return time.monotonic() - begun

    def test_manyAtOnce(self) -> None:
        """
        All come up, are listed at once, cost little memory, and go without leaving anything.
        """
        names = [f"lab_c{number}" for number in range(COUNT)]
        for requests in (creates(["lab_first"]), destroys(["lab_first"])):
            pipelined(self.host.socket, requests)
        until(lambda: not self.host.left_over(), 10, self.host.left_over)
        before = pss([self.host.pid])
        begun = time.monotonic()
        pipelined(self.host.socket, creates(names))
        up_s = time.monotonic() - begun
        begun = time.monotonic()
        listed = self.host.ask("slivers")
        list_s = time.monotonic() - begun
        self.assertEqual({one["name"]: (one["state"], one["boot"]) for one in listed},
                         dict.fromkeys(names, ("running", "booted")))  # fmt: skip
        self.assertEqual([one["problems"] for one in listed if one["problems"]], [])
        self.assertEqual(len({one["address"] for one in listed}), COUNT)
        kept = self.supervisors()
        self.assertEqual(len(kept), COUNT)
        daemon, supervisors = pss([self.host.pid]), pss(kept)
        begun = time.monotonic()
        pipelined(self.host.socket, destroys(names))
        down_s = time.monotonic() - begun
        self.assertEqual(self.host.ask("slivers"), [])
        until(lambda: not self.host.left_over(), 20, self.host.left_over)
        script_s = self.script_s()
        print(
            f"\n{COUNT} containers: up in {up_s:.1f} s, down in {down_s:.1f} s, the script {script_s:.1f} s for both; "
            f"listed in {list_s * 1000:.0f} ms; memory: daemon {daemon >> 20} MiB ({before >> 20} before), "
            f"supervisors {(supervisors >> 10) / COUNT:.0f} KiB each"
        )
        self.assertLess(list_s, up_s, "to list them takes less than to make them")
        self.assertLess(daemon - before, (8 << 20) + COUNT * _OF_DAEMON)
        self.assertLess(supervisors, COUNT * _OF_SUPERVISORS)
        self.assertLess(up_s + down_s, _SLOWEST * script_s)
        self.host.ask("image_remove tiny")
        self.assertEqual(self.host.stop(), 0)
        self.assertEqual((self.host.cgroups(), self.host.tracebacks()), ([], ""))
        self.assertEqual(self.host.left_over(), [])
