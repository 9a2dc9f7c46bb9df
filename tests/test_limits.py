"""
What an rspec means for control groups.
"""

from __future__ import annotations

import unittest

from hostline.server.supervise import limits


class WeightTests(unittest.TestCase):
    """
    Shares, and the floor that cpu_min gives.
    """

    def test_isTheShareWithoutFloor(self) -> None:
        """
        Without cpu_min a sliver weighs its share, 32 if it names none.
        """
        self.assertEqual(limits.weights({1: {}, 2: {"cpu_share": 64}}, 2), {1: 32, 2: 64})

    def test_holdsUnderContention(self) -> None:
        """
        With everybody busy, each has at least its cpu_min, whatever the others' shares.
        """
        rspecs = {n: {"cpu_share": 500} for n in range(50)}
        rspecs[100] = {"cpu_min": 500, "cpu_share": 16}
        rspecs[101] = {"cpu_min": 900, "cpu_share": 16}
        weights = limits.weights(rspecs, 2)
        for serial in (100, 101):
            self.assertGreaterEqual(weights[serial] / sum(weights.values()) * 2000, rspecs[serial]["cpu_min"] - 1e-6)

    def test_survivesTooManyPromises(self) -> None:
        """
        More promised than there is gives finite weights in proportion.
        """
        weights = limits.weights({1: {"cpu_min": 3000}, 2: {"cpu_min": 1500}, 3: {}}, 2)
        self.assertAlmostEqual(weights[1] / weights[2], 2)


class FileTests(unittest.TestCase):
    """
    The kernel's words.
    """

    def test_hasTheKernelsDefaultsForOurs(self) -> None:
        """
        The default share is the kernel's default weight, in both versions.
        """
        self.assertIn(("cpu", "cpu.shares", "1024"), limits.files_v1({}, 32))
        self.assertIn(("cpu", "cpu.weight", "100"), limits.files_v2({}, 32))

    def test_staysWithinTheKernelsBounds(self) -> None:
        """
        No weight is too small or too big, no quota too short.
        """
        self.assertIn(("cpu", "cpu.shares", "262144"), limits.files_v1({}, 1e9))
        self.assertIn(("cpu", "cpu.weight", "1"), limits.files_v2({}, 0))
        self.assertIn(("cpu", "cpu.max", "1000 100000"), limits.files_v2({"cpu_max": 1}, 32))

    def test_liftsALimitWithZero(self) -> None:
        """
        cpu_max 0 is no limit.
        """
        self.assertIn(("cpu", "cpu.cfs_quota_us", "-1"), limits.files_v1({"cpu_max": 0}, 32))
        self.assertIn(("cpu", "cpu.max", "max 100000"), limits.files_v2({"cpu_max": 0}, 32))

    def test_readsBackWhatItWrote(self) -> None:
        """
        What was written is read in the same units.
        """
        rspec = {"memory_max": 1 << 26, "pids_max": 50, "cpu_max": 500}
        for version, files in ((1, limits.files_v1(rspec, 64)), (2, limits.files_v2(rspec, 64))):
            found = limits.read_back(version, {name: text for _, name, text in files})
            self.assertEqual({name: found[name] for name in rspec}, rspec)
        self.assertEqual(limits.read_back(2, {"memory.max": "max\n", "cpu.max": "max 100000\n"}), {"cpu_max": 0})

    def test_readsBackTheShare(self) -> None:
        """
        Without cpu_min the share that was asked for is read again from the weight, whatever it was.
        """
        for share in [*range(2, 200), 1000, 3200]:
            for version, files in ((1, limits.files_v1({}, share)), (2, limits.files_v2({}, share))):
                found = limits.read_back(version, {name: text for _, name, text in files})
                self.assertEqual(found["cpu_share"], share)

    def test_readsWhatWasAskedWhereTheKernelRounds(self) -> None:
        """
        What the kernel rounds is as asked as long as the kernel has what was written; anything else is seen.
        """
        rspec = {"memory_max": (1 << 26) + 5, "cpu_max": 3, "cpu_share": 33, "cpu_min": 700}
        for version, files in ((1, limits.files_v1), (2, limits.files_v2)):
            texts = {name: text for _, name, text in files(rspec, 91.3)}
            texts["memory.limit_in_bytes" if version == 1 else "memory.max"] = str(1 << 26)
            self.assertEqual(limits.as_asked(version, texts, rspec, 91.3), rspec)
            texts["cpu.shares" if version == 1 else "cpu.weight"] = "9000"
            found = limits.as_asked(version, texts, rspec, 91.3)
            self.assertNotEqual(found["cpu_share"], 33)
            self.assertNotIn("cpu_min", found)
