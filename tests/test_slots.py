"""
The order of untagged replies.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.commands import TABLE
from hostline.server.line import Prepared
from hostline.server.slots import Slot, Slots

CHANGE = Prepared(b"", None, "swap_in", TABLE["swap_in"], None)
QUESTION = Prepared(b"", None, "projects", TABLE["projects"], None)


class SlotsTests(SynchronousTestCase):
    """
    What waits on a connection.
    """

    def test_takesWhatIsReadyInOrder(self) -> None:
        """
        A reply that is known waits for those before it; then all of them go together.
        """
        first, second, third = Slot(), Slot(b"2\n"), Slot()
        slots = Slots((first, second, third))
        self.assertEqual(slots.take(), [])
        first.reply = b"1\n"
        self.assertEqual(slots.take(), [b"1\n", b"2\n"])
        self.assertEqual(list(slots), [third])

    def test_changesFollowEachOther(self) -> None:
        """
        Behind changes that are not durable yet only further changes begin, unless one has them wait.
        """
        self.assertTrue(Slots().may_begin(QUESTION))
        self.assertFalse(Slots((Slot(),)).may_begin(QUESTION))
        self.assertTrue(Slots((Slot(), Slot())).may_begin(CHANGE))
        self.assertFalse(Slots((Slot(blocks=True), Slot())).may_begin(CHANGE))
