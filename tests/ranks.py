"""
Whether two sets of times differ: the rank test of Mann and Whitney.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import sqrt
from statistics import NormalDist, median
from typing import NamedTuple


class Compared(NamedTuple):
    """
    Two sets of times beside each other.

    @ivar medians: of both.
    @ivar u: of the first: how often one of it is the greater of a pair.
    @ivar p: how likely it is that two sets of the same kind differ in rank as much as these do.
    """

    medians: tuple[float, float]
    u: float
    p: float

    @property
    def apart(self) -> float:
        """
        By which part of the second median the first differs from it.
        """
        return abs(self.medians[0] / self.medians[1] - 1)


def compare(one: Sequence[float], other: Sequence[float]) -> Compared:
    """
    The two-sided test by the normal approximation, corrected for ties and for continuity, as R and scipy do it.
    """
    first, second = len(one), len(other)
    total = first + second
    at, ranks, ties = 0, 0.0, 0
    for _, group in groupby(sorted([(value, 1) for value in one] + [(value, 0) for value in other]), lambda it: it[0]):
        marks = [mark for _, mark in group]
        ranks += sum(marks) * (at + (len(marks) + 1) / 2)
        ties += len(marks) ** 3 - len(marks)
        at += len(marks)
    u = ranks - first * (first + 1) / 2
    spread = sqrt(first * second / 12 * (total + 1 - ties / (total * (total - 1))))
    z = max(0.0, abs(u - first * second / 2) - 0.5) / spread if spread else 0.0
    return Compared((median(one), median(other)), u, 2 * NormalDist().cdf(-z))
