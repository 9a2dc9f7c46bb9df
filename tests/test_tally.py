"""
Turns: how much is spent on a principal before others have theirs.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.tally import ALONE_S, AMONG_S, BURST_S, SHARE, Crowd, Tally
from tests.daemons import FakeLoop


class _Asks:
    """
    A connection that has something to ask in each turn, all of the same cost.
    """

    def __init__(self, test: TurnTests, tally: Tally, cost: float) -> None:
        self.test, self.tally, self.cost = test, tally, cost
        self.turns: list[float] = []

    def turn(self) -> None:
        self.tally.begin()
        while self.tally.budget > 0:
            self.turns.append(self.test.clock.seconds())
            self.test.clock.rightNow += self.cost
            self.tally.spend()
        self.tally.wait(cast("Any", self), self.test.loop)


class TurnTests(SynchronousTestCase):
    """
    One who asks without end, alone and among others.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.loop = cast("asyncio.AbstractEventLoop", FakeLoop(self.clock))
        self.tallies: list[Tally] = []
        self.crowd = Crowd(lambda: self.tallies)
        self.flooder, self.other = (Tally(self.crowd, self.clock.seconds, self.clock.seconds) for _ in range(2))
        self.tallies += [self.flooder, self.other]

    def flood(self, seconds: float, cost: float, others: bool) -> tuple[float, int]:
        """
        @return: the part of the time that was spent on the flooder, and how many answers it had.
        """
        asks = _Asks(self, self.flooder, cost)
        begun = self.clock.seconds()
        self.flooder.wait(cast("Any", asks), self.loop)
        while self.clock.seconds() < begun + seconds:
            self.flooder.asked, self.other.asked = True, others
            if not cast("FakeLoop", self.loop).turn():
                self.clock.advance(10e-6)
            self.clock.advance(0)
        return len(asks.turns) * cost / (self.clock.seconds() - begun), len(asks.turns)

    def test_givesAllToWhoIsAlone(self) -> None:
        """
        While nobody else asks, answers follow each other at once, however long they take.
        """
        self.assertGreater(self.flood(1.0, 0.02, False)[0], 0.95)

    def test_letsLongAnswersWaitAmongOthers(self) -> None:
        """
        While others ask, answers that cannot be cut take a small part of the time, after a burst.
        """
        part, _ = self.flood(5.0, 0.002, True)
        self.assertLess(part, SHARE + BURST_S / 5 + 0.01)
        self.assertGreater(part, SHARE / 2)

    def test_cutsShortAnswersIntoShortTurns(self) -> None:
        """
        While others ask, a heap of short answers is cut into turns that are much shorter than when nobody does, and
        that do not count as long ones: what the others leave of the time is for it.
        """
        part, count = self.flood(5.0, 10e-6, True)
        self.assertEqual((self.flooder._given, self.flooder._given < ALONE_S / 10), (AMONG_S, True))
        self.assertGreater(part, 0.5)
        self.assertGreater(count, 10_000)

    def test_letsInByTurns(self) -> None:
        """
        Of those who come and go without end several are let in at once while nobody else asks anything, and one at a
        time among others. Who does not come all the time never waits.
        """
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)
        tallies: list[Tally] = []
        crowd = Crowd(lambda: tallies)
        alone, flooder, other = Tally(), Tally(crowd), Tally(crowd)
        tallies += [flooder, other]

        async def enter(tally: Tally, times: int) -> int:
            coming = asyncio.gather(*(tally.enter(loop) for _ in range(times)))
            turns = 0
            while not coming.done():
                other.asked = True
                await asyncio.sleep(0)
                turns += 1
            return turns

        self.assertLess(loop.run_until_complete(enter(alone, 200)), 100)
        self.assertGreaterEqual(loop.run_until_complete(enter(flooder, 200)), 180)
        self.assertLess(loop.run_until_complete(enter(other, 1)), 5)
        self.assertEqual(flooder.entering, 0)

    def test_asksAgainAfterAWhileAlone(self) -> None:
        """
        Who asked some seconds ago no longer counts.
        """
        self.other.asked = self.flooder.asked = True
        self.assertTrue(self.crowd.others(self.flooder, 10.0))
        self.flooder.asked = True
        self.assertTrue(self.crowd.others(self.flooder, 11.0))
        self.flooder.asked = True
        self.assertFalse(self.crowd.others(self.flooder, 13.0))
        self.assertTrue(self.crowd.others(self.other, 13.0))

    def test_forgivesWhoWaited(self) -> None:
        """
        A few long answers now and then need not wait.
        """
        for _ in range(5):
            self.other.asked = True
            self.flooder.budget = self.flooder._given
            self.flooder.begin()
            self.clock.advance(0.002)
            self.flooder.spend()
            self.assertLessEqual(self.flooder._rest(), 0)
            self.clock.advance(1)
