"""
How fast a sliver may change things.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.pace import BURST, EACH_S, Pace


class PaceTests(SynchronousTestCase):
    """
    Buckets by serial.
    """

    @given(st.lists(st.floats(0, 100), max_size=300))
    def test_neverMoreThanItsShare(self, waits: list[float]) -> None:
        """
        However the requests come, no more than the burst and one for each while that passed is allowed; who waits long
        enough always is.
        """
        pace, now, allowed = Pace(), 1000.0, 0
        for wait in waits:
            now += wait
            allowed += pace.take(5, now)
        self.assertLessEqual(allowed, BURST + (now - 1000.0) / EACH_S + 1e-6)
        self.assertTrue(pace.take(5, now + EACH_S + 1e-6))

    def test_oneDoesNotSlowAnother(self) -> None:
        """
        Each has its own; a clock that goes back gives nothing and takes nothing.
        """
        pace = Pace()
        self.assertEqual([pace.take(5, 10.0) for _ in range(BURST + 2)], [True] * BURST + [False] * 2)
        self.assertTrue(pace.take(6, 10.0))
        self.assertFalse(pace.take(5, 0.0))

    def test_forgetsWhoIsGone(self) -> None:
        """
        What is kept stays small, whatever the number of slivers that ever were.
        """
        pace = Pace()
        for serial in range(5000):
            pace.take(serial, float(serial))
        self.assertLess(len(pace._left), 1002)
