"""
Places for heavy work.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import TooMany
from hostline.server.places import WAITING, Places


class PlacesTests(SynchronousTestCase):
    """
    Who gets a place, and when.
    """

    def setUp(self) -> None:
        self.places = Places(2)
        self.served: list[str] = []

    def take(self, who: str) -> Deferred[None]:
        return self.places.take(who).addCallback(lambda _: self.served.append(who))

    def test_givesOneToEach(self) -> None:
        """
        One principal has one place at a time, also when others are free.
        """
        for who in ("ann", "ann", "bob"):
            self.take(who)
        self.assertEqual(self.served, ["ann", "bob"])
        self.places.give_back("ann")
        self.assertEqual(self.served, ["ann", "bob", "ann"])

    def test_givesThemInTurn(self) -> None:
        """
        Whoever asks a lot does not keep those waiting who ask a little.
        """
        for who in ("ann", "bob", "ann", "ann", "ann", "bob", "eve", "dan"):
            self.take(who)
        served = 0
        while served < len(self.served):
            self.places.give_back(self.served[served])
            served += 1
        self.assertEqual(self.served, ["ann", "bob", "ann", "bob", "eve", "dan", "ann", "ann"])

    def test_refusesMore(self) -> None:
        """
        Only a few of one principal may wait; the others are not concerned.
        """
        for _ in range(1 + WAITING):
            self.take("ann")
        self.assertRaises(TooMany, self.places.take, "ann")
        self.take("bob")
        self.assertEqual(self.served, ["ann", "bob"])

    def test_letsGo(self) -> None:
        """
        Who waits no longer has no turn.
        """
        turns = [self.take("ann") for _ in range(3)]
        turns[1].cancel()
        self.failureResultOf(turns[1])
        self.places.give_back("ann")
        self.assertEqual(self.served, ["ann", "ann"])
        self.places.give_back("ann")
        self.assertEqual((self.places._waiting, self.places._busy, self.places._free), ({}, set(), 2))
