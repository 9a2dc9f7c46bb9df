"""
The rank test that the no-oracle test stands on.
"""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.ranks import compare


class RankTests(SynchronousTestCase):
    """
    Two sets beside each other.
    """

    def test_agreesWithKnownValues(self) -> None:
        """
        The example of scipy's page on mannwhitneyu, which is one of a textbook.
        """
        found = compare([19, 22, 16, 29, 24], [20, 11, 17, 12])
        self.assertEqual(found.u, 17)
        self.assertAlmostEqual(found.p, 0.11134688653314041, 12)

    def test_countsTies(self) -> None:
        """
        Equal values share their ranks, and make the spread smaller: reckoned by hand.
        """
        found = compare([1, 2, 2, 3], [2, 3, 3, 4])
        self.assertEqual(found.u, 3)
        self.assertAlmostEqual(found.p, 0.17203, 4)

    def test_findsNothingInTheSame(self) -> None:
        """
        A set and itself, and two of nothing but equal values, do not differ.
        """
        self.assertEqual(compare([1, 2, 3], [1, 2, 3]).p, 1.0)
        self.assertEqual(compare([5] * 9, [5] * 9).p, 1.0)

    def test_isRightAsOftenAsItSays(self) -> None:
        """
        Of pairs of sets of the same kind, a tenth has a p below a tenth.
        """
        random = Random(1)

        def times() -> list[float]:
            return [random.lognormvariate(4, 0.1) for _ in range(60)]

        below = sum(compare(times(), times()).p < 0.1 for _ in range(1000))
        self.assertTrue(70 < below < 130, below)

    def test_findsASmallDifference(self) -> None:
        """
        Two per cent more, in times that vary by ten, are found in ten thousand pairs.
        """
        random = Random(2)
        one, other = ([random.lognormvariate(4, 0.1) for _ in range(10000)] for _ in range(2))
        self.assertGreater(compare(one, other).p, 0.001)
        self.assertLess(compare([value * 1.02 for value in one], other).p, 1e-9)
