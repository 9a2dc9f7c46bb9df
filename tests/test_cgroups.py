"""
Control groups against a tree of plain files: what version 2 would be told. (The kernel's own: tests/live.)
"""

from __future__ import annotations

import os
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from hostline.server.supervise.cgroups import Cgroups

INSTANCE = "0123456789abcdef"
OURS = "hostline-0123456789ab"


class Version2Tests(unittest.TestCase):
    """
    A unit's delegated group under version 2.
    """

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.unit = self.root / "system.slice" / "hostline.service"
        self.unit.mkdir(parents=True)
        for path in (self.root, self.unit):
            (path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        self.own = self.root / "own"
        self.own.write_text("0::/system.slice/hostline.service\n")

    def find(self, note: Path | None = None) -> Cgroups:
        found, why = Cgroups.find(INSTANCE, root=self.root, own=self.own, note=note, cores=2)
        assert found is not None, why
        return found

    def test_movesItselfToALeaf(self) -> None:
        """
        The daemon leaves the group it was given before it hands on its controllers.
        """
        self.find()
        self.assertEqual((self.unit / f"{OURS}-daemon" / "cgroup.procs").read_text(), str(os.getpid()))
        self.assertEqual((self.unit / "cgroup.subtree_control").read_text(), "+pids")
        self.assertEqual((self.unit / OURS / "cgroup.subtree_control").read_text(), "+pids")

    def test_findsItsPlaceAgain(self) -> None:
        """
        A daemon in its leaf, or one started from elsewhere with a note, uses the same subtree.
        """
        note = self.root / "note"
        self.find(note=note).prepare(5, {})
        self.own.write_text(f"0::/system.slice/hostline.service/{OURS}-daemon\n")
        self.assertEqual(self.find().serials(), {5})
        self.own.write_text("0::/user.slice\n")
        self.assertEqual(self.find(note=note).serials(), {5})

    def test_writesLimits(self) -> None:
        """
        One group per sliver, with its limits.
        """
        cgroups = self.find()
        rspec = {"memory_max": 1 << 26, "pids_max": 50, "cpu_max": 500, "cpu_share": 64}
        procs, problems = cgroups.prepare(5, rspec)
        self.assertEqual((procs, problems), ([self.unit / OURS / "s5" / "cgroup.procs"], []))
        self.assertEqual(cgroups.read(5), {**rspec, "cpu_min": 0})

    def test_raisesTheFloorWhenOthersCome(self) -> None:
        """
        A sliver with cpu_min weighs more when there are more others.
        """
        cgroups = self.find()
        cgroups.prepare(5, {"cpu_min": 1000})
        alone = int((self.unit / OURS / "s5" / "cpu.weight").read_text())
        for serial in range(6, 16):
            cgroups.prepare(serial, {})
        self.assertGreater(int((self.unit / OURS / "s5" / "cpu.weight").read_text()), 5 * alone)
        self.assertEqual(int((self.unit / OURS / "s6" / "cpu.weight").read_text()), 100)

    def test_makesRoomForTheFloor(self) -> None:
        """
        Where the kernel's largest weight is not enough, the others weigh less; once the floor goes, as before.
        """
        cgroups = self.find()
        for serial in range(10, 14):
            cgroups.prepare(serial, {"cpu_share": 3000})
        others = [self.unit / OURS / f"s{serial}" / "cpu.weight" for serial in range(10, 14)]
        self.assertEqual([int(one.read_text()) for one in others], [9375] * 4)
        cgroups.prepare(5, {"cpu_min": 1000})
        floor = int((self.unit / OURS / "s5" / "cpu.weight").read_text())
        self.assertGreaterEqual(floor / (floor + sum(int(one.read_text()) for one in others)), 0.5)
        self.assertEqual(cgroups.read(5)["cpu_min"], 1000)
        self.assertEqual(cgroups.read(10)["cpu_share"], 3000)
        cgroups.prepare(5, {})
        self.assertEqual([int(one.read_text()) for one in others], [9375] * 4)

    def test_tellsWhoIsThereAndKills(self) -> None:
        """
        Members are read and killed by the kernel's own files.
        """
        cgroups = self.find()
        cgroups.prepare(5, {})
        group = self.unit / OURS / "s5"
        (group / "cgroup.procs").write_text("12\n34\n")
        (group / "cgroup.kill").touch()
        self.assertEqual(cgroups.members(5), [12, 34])
        cgroups.kill(5)
        self.assertEqual((group / "cgroup.kill").read_text(), "1")
        self.assertEqual(cgroups.members(6), [])
        self.assertFalse(cgroups.remove(5))  # plain files are in the way

    def test_saysWhatIsMissing(self) -> None:
        """
        A controller that we were not given is named.
        """
        (self.unit / "cgroup.controllers").write_text("memory pids\n")
        self.assertEqual(self.find().problems, ("limits not applied: no cpu control groups",))

    def test_saysWhyNot(self) -> None:
        """
        Where there is nothing to use, the reason is words, not an exception.
        """
        for root in (self.root / "missing", self.root / "system.slice"):
            found, why = Cgroups.find(INSTANCE, root=root, own=self.own)
            self.assertIsNone(found)
            self.assertIn("limits not applied", why)
        self.own.write_text("0::/nowhere\n")
        found, why = Cgroups.find(INSTANCE, root=self.root, own=self.own)
        self.assertIsNone(found)
        self.assertIn("nowhere", why)
