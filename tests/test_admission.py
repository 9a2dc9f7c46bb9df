"""
What the host can promise, and what it refuses.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import NoRoom
from hostline.server.slivers.admission import admit
from hostline.server.slivers.loans import Ledger, Loan


def holding(*promised: int) -> Ledger:
    """
    Slivers 1, 2, .. with these cpu_min.
    """
    ledger = Ledger()
    for serial, amount in enumerate(promised, 1):
        ledger.sliver(serial, {"cpu_min": amount})
    return ledger


class AdmissionTests(SynchronousTestCase):
    """
    cpu_min on a host of two cores, which can promise 1800.
    """

    def test_fits(self) -> None:
        """
        All that is left may be given, also when that is nothing.
        """
        admit(holding(1000, 300), 2, "lab_new", {"cpu_min": 500}, None)
        admit(holding(1800), 2, "lab_new", {"cpu_min": 0}, None)

    def test_saysWhatIsLeft(self) -> None:
        """
        One too many is refused by name, with what was wanted and what is left, for people and programs.
        """
        error = self.assertRaises(NoRoom, admit, holding(1000, 300), 2, "lab_new", {"cpu_min": 501}, None)
        self.assertEqual(error.code, "NO_ROOM")
        self.assertIn("lab_new: cpu_min 501 wanted, 500 left of the 1800", error.message)
        self.assertEqual(error.details, {"wanted": 501, "left": 500})

    def test_ownIsNotCountedTwice(self) -> None:
        """
        A sliver that is changed may use what it has and what is left.
        """
        ledger = holding(1000, 300)
        admit(ledger, 2, "lab_1", {"cpu_min": 1500}, {"cpu_min": 1000})
        self.assertRaises(NoRoom, admit, ledger, 2, "lab_1", {"cpu_min": 1501}, {"cpu_min": 1000})

    def test_lessIsNeverRefused(self) -> None:
        """
        On a host that has promised more than it has, since it lost a core, what asks for no more than before goes on.
        """
        ledger = holding(1000, 800)
        admit(ledger, 1, "lab_1", {"cpu_min": 1000}, {"cpu_min": 1000})
        admit(ledger, 1, "lab_1", {"cpu_min": 999}, {"cpu_min": 1000})
        error = self.assertRaises(NoRoom, admit, ledger, 1, "lab_1", {"cpu_min": 1001}, {"cpu_min": 1000})
        self.assertEqual(error.details["left"], 100)
        self.assertRaises(NoRoom, admit, ledger, 1, "lab_3", {"cpu_min": 1}, None)

    @given(
        st.lists(st.integers(0, 600), min_size=2, max_size=6),
        st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(0, 600)), max_size=12),
    )
    def test_loansChangeNothing(self, promised: list[int], lent: list[tuple[int, int, int]]) -> None:
        """
        Whoever lends cpu_min to whom, all that is in force together is what was admitted.
        """
        ledger = holding(*promised)
        for lender, to, amount in lent:
            items = (*ledger.items(lender), Loan("lab_x", "cpu_min", amount, None, to))
            ledger.loans(lender, items)
        serials = range(1, len(promised) + 1)
        self.assertEqual(sum(ledger.effective(serial)["cpu_min"] for serial in serials), sum(promised))
        self.assertEqual(ledger.total("cpu_min"), sum(promised))
