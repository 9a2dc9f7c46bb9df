"""
Ranges of uids that no two daemons share.
"""

from __future__ import annotations

import itertools
import os

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.claim import Claimed, claim
from hostline.server.supervise.uids import UidRange

_firsts = itertools.count(3_000_000_000 + os.getpid() * 1000, 100)


class ClaimTests(SynchronousTestCase):
    """
    As two daemons start on one host.
    """

    def take(self, first: int, size: int) -> None:
        held = claim(UidRange(first, size))
        self.addCleanup(held.close)

    def test_refusesTheSame(self) -> None:
        """
        The second with the same range is refused, in words; once the first has ended it is taken.
        """
        first = next(_firsts)
        held = claim(UidRange(first, 50))
        self.assertIn(f"{first}-{first + 49}", str(self.assertRaises(Claimed, claim, UidRange(first, 50))))
        held.close()
        self.take(first, 50)

    def test_letsOthersBe(self) -> None:
        """
        Ranges that only touch each other go together.
        """
        first = next(_firsts)
        self.take(first, 50)
        self.take(first + 50, 50)

    def test_refusesAnOverlap(self) -> None:
        """
        One uid in common is enough to be refused, if the other holder is root; what others bind does not count.
        """
        first = next(_firsts)
        self.take(first, 50)
        if os.geteuid() == 0:
            self.assertRaises(Claimed, claim, UidRange(first + 49, 10))
        else:
            self.take(first + 49, 10)
