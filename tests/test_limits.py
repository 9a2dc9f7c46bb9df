"""
What an rspec means for control groups.
"""

from __future__ import annotations

import unittest
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from hostline.server.slivers.admission import room
from hostline.server.supervise import limits


def kernel_weights(version: int, rspecs: Mapping[int, Mapping[str, int]], cores: int) -> dict[int, int]:
    """
    What is written for each sliver.
    """
    weights = limits.weights(rspecs, cores)
    return {serial: int(limits.weight_file(version, weight)[2]) for serial, weight in weights.items()}


def fits(promised: Mapping[int, int], cores: int) -> bool:
    """
    Whether all of it would be admitted.
    """
    return sum(promised.values()) <= room(cores)


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
        self.assertAlmostEqual(weights[1] / weights[2], 2, 2)

    def test_holdsAmongHundreds(self) -> None:
        """
        Half of the host is kept for one beside 300 others, where the kernel's largest weight would not be enough if
        the others kept theirs.
        """
        rspecs: dict[int, dict[str, int]] = {n: {} for n in range(300)}
        rspecs[300] = {"cpu_min": 1000}
        written = kernel_weights(2, rspecs, 2)
        self.assertGreaterEqual(written[300] / sum(written.values()), 0.5)
        self.assertLess(written[300] / sum(written.values()), 0.55)

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from([1, 16, 32, 33, 3200]), st.sampled_from([0, 0, 0, 1, 10, 50, 333])),
            min_size=1,
            max_size=80,
        ),
        st.integers(0, 250),
        st.sampled_from([1, 2, 64]),
    )
    def test_holdsWhateverIsAdmitted(self, asked: list[tuple[int, int]], others: int, cores: int) -> None:
        """
        With everybody busy each has its cpu_min, in the whole numbers that the kernel is given, as long as all
        together were admitted; and of those without, nobody has less for another's smaller share.
        """
        rspecs = {n: {"cpu_share": share, "cpu_min": least} for n, (share, least) in enumerate(asked)}
        while not fits({n: rspec["cpu_min"] for n, rspec in rspecs.items()}, cores):
            rspecs.pop(max(rspecs))
        rspecs |= {1000 + n: {"cpu_share": 32, "cpu_min": 0} for n in range(others)}
        for version in (1, 2):
            written = kernel_weights(version, rspecs, cores)
            whole = sum(written.values())
            for serial, rspec in rspecs.items():
                part = rspec["cpu_min"] / (1000 * cores)
                self.assertGreaterEqual(written[serial] / whole, part * (1 - 1e-9), (version, rspec, rspecs))
            plain = sorted((r["cpu_share"], written[n]) for n, r in rspecs.items() if not r["cpu_min"])
            self.assertEqual([weight for _, weight in plain], sorted(weight for _, weight in plain))


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
