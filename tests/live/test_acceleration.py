"""
Finding out whether guests run under KVM, with real QEMU.
"""

from __future__ import annotations

import asyncio
import unittest
from pathlib import Path

from hostline.server.supervise.acceleration import find_acceleration, trial
from hostline.server.supervise.running import program
from hostline.server.supervise.spawn import Spawner
from tests import needs
from tests.live import support

_SLEEPS = "#!/bin/sh\nexec sleep 1000\n"


@needs.needs_root
@needs.needs_tool("qemu-system-x86_64")
class AccelerationTests(unittest.TestCase):
    """
    The guest of a few bytes.
    """

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        self.spawner, self.clock = Spawner(self.loop), support.LoopClock(self.loop)
        self.addCleanup(self.spawner.close)
        self.run_directory = support.temporary_directory()
        self.addCleanup(support.remove_directory, self.run_directory)

    def test_runs(self) -> None:
        """
        Under TCG, which is everywhere, it comes to its end: so where it does not under KVM, that is KVM's fault.
        """
        qemu = program("qemu-system-x86_64")
        why = support.run(self.loop, trial(qemu, self.run_directory, self.spawner, self.clock, "tcg", 30.0), 40)
        self.assertEqual(why, "")

    def test_isGivenUp(self) -> None:
        """
        A guest that hangs is given up in time, and KVM is not used; the next daemon knows without trying.
        """
        device = self.run_directory / "kvm"
        device.touch()
        slow = self.run_directory / "qemu"
        slow.write_text(_SLEEPS)
        slow.chmod(0o755)
        took = []
        for _ in range(2):
            begun = self.loop.time()
            finding = find_acceleration(str(slow), self.run_directory, self.spawner, self.clock, device=device)
            found = support.run(self.loop, finding)
            took.append(self.loop.time() - begun)
            self.assertEqual(found.name, "tcg")
            self.assertIn("does not come to its end in 5 s", found.why)
        self.assertLess(took[0], 8)
        self.assertLess(took[1], 1)

    def test_isOfThisHost(self) -> None:
        """
        Whatever this host has, the answer comes in seconds.
        """
        qemu = program("qemu-system-x86_64")
        begun = self.loop.time()
        found = support.run(self.loop, find_acceleration(qemu, self.run_directory, self.spawner, self.clock))
        self.assertIn((found.name, bool(found.why)), (("kvm", False), ("tcg", True)))
        self.assertLess(self.loop.time() - begun, 15)

    def test_isNotTriedWithoutDevice(self) -> None:
        """
        Without the device there is nothing to try.
        """
        finding = find_acceleration("/bin/false", self.run_directory, self.spawner, self.clock, device=Path("/no/kvm"))
        self.assertEqual(support.run(self.loop, finding).why, "there is no /no/kvm")
