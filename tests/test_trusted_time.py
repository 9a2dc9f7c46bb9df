"""
A clock that jumps ends nobody's time.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.slivers.trusted_time import CREEP, Moment, Trust, accepted
from hostline.server.slivers.trusted_time import trust as looked

DAY = 86400.0
YEAR = 365 * DAY
#: Some day, on a host that has been up for a while.
START = Moment(1_700_000_000.0, 10_000.0, "a")


def trust(anchor: Moment | None, now: Moment, **more: Any) -> Trust:
    """
    A look with the limits that the tests have.
    """
    return looked(anchor, now, **{"tolerance_s": 300, "off_s": 30 * DAY, "settle_s": 300, **more})


def later(moment: Moment, seconds: float, jump: float = 0.0) -> Moment:
    """
    The same host after a while, its wall clock set meanwhile.
    """
    return Moment(moment.wall + seconds + jump, moment.up + seconds, moment.boot)


class ClockTests(SynchronousTestCase):
    """
    What is believed of a clock.
    """

    def test_first(self) -> None:
        """The first look takes the clock as it is."""
        self.assertEqual(trust(None, START), Trust(START))

    def test_timePasses(self) -> None:
        """A clock that goes as time passes is trusted."""
        self.assertEqual(trust(START, later(START, 9 * DAY)).distrust, "")

    def test_jumpAhead(self) -> None:
        """A year in a minute is an alarm, and is still one later."""
        found = trust(START, later(START, 60, YEAR))
        self.assertTrue(found.alarm)
        self.assertIn("365.0 days", found.distrust)
        self.assertTrue(trust(found.anchor, later(START, DAY, YEAR)).alarm)

    def test_putRight(self) -> None:
        """Once the clock is put right it is trusted again, without anybody's word."""
        found = trust(START, later(START, 60, YEAR))
        self.assertEqual(trust(found.anchor, later(START, 120)).distrust, "")

    def test_accepted(self) -> None:
        """An operator may say that the present time is the right one."""
        now = later(START, 60, YEAR)
        self.assertEqual(trust(accepted(now), later(now, 5)).distrust, "")

    def test_setBackAndForth(self) -> None:
        """A clock that is set back and comes forward again has not jumped."""
        back = trust(START, later(START, 60, -YEAR))
        self.assertEqual((back.distrust, back.alarm), ("", False))
        self.assertEqual(trust(back.anchor, later(START, 120)).distrust, "")

    def test_smallSteps(self) -> None:
        """Steps of a second a day, as a clock is kept right, never become an alarm."""
        anchor, now = START, START
        for _ in range(1000):
            now = later(now, DAY, 1.0)
            found = trust(anchor, now)
            self.assertEqual(found.distrust, "")
            anchor = found.anchor

    def test_manySmallJumps(self) -> None:
        """A jump does not pass because it comes in pieces."""
        anchor, now, alarm = START, START, False
        for _ in range(20):
            now = later(now, 5, 200.0)
            found = trust(anchor, now)
            alarm = alarm or found.alarm
            anchor = found.anchor
        self.assertTrue(alarm)

    def test_reboot(self) -> None:
        """A host that was off for a weekend is trusted when its clock has had time to be set."""
        up = Moment(START.wall + 2 * DAY, 20.0, "b")
        first = trust(START, up)
        self.assertEqual((first.alarm, bool(first.distrust)), (False, True))
        self.assertEqual(trust(first.anchor, later(up, 400)).distrust, "")

    def test_rebootIntoTheFuture(self) -> None:
        """A host that seems to have been off for a year is not believed."""
        up = Moment(START.wall + YEAR, 4000.0, "b")
        self.assertTrue(trust(START, up).alarm)

    def test_rebootWithoutClock(self) -> None:
        """A host that comes up in 1970 until the network has set its clock raises no alarm, then or after."""
        up = Moment(10.0, 10.0, "b")
        found = trust(START, up)
        self.assertFalse(found.alarm)
        found = trust(found.anchor, Moment(START.wall + 3600, 40.0, "b"))
        self.assertFalse(found.alarm)
        self.assertEqual(trust(found.anchor, Moment(START.wall + 3600 + 600, 640.0, "b")).distrust, "")


_STEPS = st.lists(st.tuples(st.floats(0, 10 * DAY), st.floats(-2 * YEAR, 2 * YEAR) | st.floats(-400, 400)), max_size=30)


class AnyClockTests(SynchronousTestCase):
    """
    What holds whatever a clock does.
    """

    @given(_STEPS)
    def test_neverFarAhead(self, steps: list[tuple[float, float]]) -> None:
        """While the host is up, no time is trusted that is ahead of what can have passed."""
        anchor, now, passed = START, START, 0.0
        for seconds, jump in steps:
            now = later(now, seconds, jump)
            passed += seconds
            found = trust(anchor, now)
            anchor = found.anchor
            if not found.distrust:
                self.assertLessEqual(now.wall, START.wall + passed * (1 + CREEP) + 300 + 1)

    @given(_STEPS)
    def test_rightIsTrusted(self, steps: list[tuple[float, float]]) -> None:
        """Whatever the clock did, once it is right again it is trusted."""
        anchor, now, passed = START, START, 0.0
        for seconds, jump in steps:
            now = later(now, seconds, jump)
            passed += seconds
            anchor = trust(anchor, now).anchor
        right = Moment(START.wall + passed, now.up, now.boot)
        # A thousandth of the time may have been given to a clock that ran ahead or behind.
        self.assertEqual(trust(anchor, right, tolerance_s=300 + passed * CREEP).distrust, "")
