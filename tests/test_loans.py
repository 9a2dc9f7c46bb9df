"""
Loans between slivers: the ancestor's arithmetic, kept up to date change by change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.slivers.loans import Ledger, Loan, Moved
from hostline.server.slivers.rspec import DEFAULTS, KEPT

A, B, C, ZZ = 1, 2, 3, 99


def straightforward(
    rspecs: Mapping[int, Mapping[str, int]], lists: Mapping[int, Sequence[Loan]]
) -> dict[int, dict[str, int]]:
    """
    All effective rspecs, computed anew: PlanetLab's C{_compute_effective_rspecs}, in our words.
    """
    effective = {serial: dict(rspec) for serial, rspec in rspecs.items()}
    for lender, items in lists.items():
        if lender not in rspecs:
            continue
        left = dict(rspecs[lender])
        for item in items:
            if item.to is None or item.to not in rspecs or item.resource not in KEPT:
                continue
            if item.amount <= left.get(item.resource, 0) - KEPT[item.resource]:
                effective[lender][item.resource] -= item.amount
                left[item.resource] -= item.amount
                theirs = effective[item.to]
                theirs[item.resource] = theirs.get(item.resource, 0) + item.amount
    return effective


def ledger(**rspec: int) -> Ledger:
    """
    Slivers a, b and c.
    """
    made = Ledger()
    for serial in (A, B, C):
        made.sliver(serial, {**DEFAULTS, **rspec})
    made.take()
    return made


def lend(to: int, amount: int, resource: str = "cpu_share", until: float | None = None) -> Loan:
    return Loan(f"lab_{to}", resource, amount, until, to)


class GoldenTests(SynchronousTestCase):
    """
    What the ancestor was measured to give; all begin with a cpu_share of 32.
    """

    def lent(self, *expected: int, resource: str = "cpu_share", **lists: Sequence[Loan]) -> None:
        """
        The same whichever list is said first.
        """
        for names in (list(lists), list(lists)[::-1]):
            made = ledger()
            for name in names:
                made.loans({"a": A, "b": B}[name], lists[name])
            found = tuple(made.effective(serial)[resource] for serial in (A, B, C))
            self.assertEqual(found[: len(expected)], expected)

    def test_allThatCanBeLent(self) -> None:
        """
        16 of 32 can be lent.
        """
        self.lent(16, 48, a=[lend(B, 16)])

    def test_oneTooMany(self) -> None:
        """
        17 cannot, and nothing of it is.
        """
        self.lent(32, 32, a=[lend(B, 17)])

    def test_ofTwoTheSecondIsTooMuch(self) -> None:
        """
        The first counts, the second is passed over.
        """
        self.lent(22, 42, a=[lend(B, 10), lend(B, 10)])

    def test_twoThatFit(self) -> None:
        """
        Two items for one recipient add up.
        """
        self.lent(16, 48, a=[lend(B, 10), lend(B, 6)])

    def test_ofTwoTheFirstIsTooMuch(self) -> None:
        """
        What is passed over takes nothing from what comes after it.
        """
        self.lent(27, 37, a=[lend(B, 20), lend(B, 5)])

    def test_whatIsBorrowedIsNotLent(self) -> None:
        """
        b has 48 and lends more than what it was given allows.
        """
        self.lent(16, 48, 32, a=[lend(B, 16)], b=[lend(C, 20)])

    def test_whatIsOwnIsLentOn(self) -> None:
        """
        b lends 16 of its own while it borrows as much.
        """
        self.lent(16, 32, 48, a=[lend(B, 16)], b=[lend(C, 16)])

    def test_nobodyToLendTo(self) -> None:
        """
        A loan to nobody takes nothing from the lender.
        """
        self.lent(32, 32, 32, a=[Loan("lab_zz", "cpu_share", 5)])

    def test_toItself(self) -> None:
        """
        A loan to oneself changes nothing, but what it takes cannot be lent to others.
        """
        self.lent(32, 32, a=[lend(A, 16), lend(B, 1)])

    def test_defaultNetShare(self) -> None:
        """
        Of the default net_share nothing can be lent.
        """
        self.lent(1, 1, resource="net_share", a=[lend(B, 1, "net_share")])

    def test_allOfCpuMin(self) -> None:
        """
        Of cpu_min nothing need be kept.
        """
        made = ledger(cpu_min=200)
        made.loans(A, [lend(B, 200, "cpu_min")])
        self.assertEqual((made.effective(A)["cpu_min"], made.effective(B)["cpu_min"]), (0, 400))


class LedgerTests(SynchronousTestCase):
    """
    What a change of one sliver does to others, and what is said of it.
    """

    def test_saysWhoIsConcerned(self) -> None:
        """
        The two slivers of a loan are named, nobody else, and nobody if nothing changes.
        """
        made = ledger()
        made.loans(A, [lend(B, 16)])
        self.assertEqual(made.take(), ([B, A], [Moved(A, B, "cpu_share", 0, 16)]))
        made.loans(A, [lend(B, 10), lend(B, 6)])
        self.assertEqual(made.take(), ([], []))
        made.loans(A, [lend(B, 4)])
        self.assertEqual(made.take()[1], [Moved(A, B, "cpu_share", 16, 4)])

    def test_lenderIsGivenLess(self) -> None:
        """
        A loan that the lender can no longer make is over, and comes back with what it hangs on.
        """
        made = ledger()
        made.loans(A, [lend(B, 16)])
        made.take()
        made.sliver(A, {**DEFAULTS, "cpu_share": 31})
        self.assertEqual((made.effective(A)["cpu_share"], made.effective(B)["cpu_share"]), (31, 32))
        self.assertEqual(made.take()[1], [Moved(A, B, "cpu_share", 16, 0)])
        made.sliver(A, {**DEFAULTS, "cpu_share": 33})
        self.assertEqual((made.effective(A)["cpu_share"], made.effective(B)["cpu_share"]), (17, 48))

    def test_recipientIsGivenLess(self) -> None:
        """
        What the recipient itself is given has no bearing on what it borrows.
        """
        made = ledger()
        made.loans(A, [lend(B, 16)])
        made.sliver(B, {**DEFAULTS, "cpu_share": 1})
        self.assertEqual((made.effective(A)["cpu_share"], made.effective(B)["cpu_share"]), (16, 17))

    def test_recipientGoesAndIsBack(self) -> None:
        """
        While the recipient is not there the lender has all that is its own, and other items may count instead.
        """
        made = ledger()
        made.loans(A, [lend(B, 16), lend(C, 16)])
        made.sliver(B, None)
        self.assertEqual((made.effective(A)["cpu_share"], made.effective(C)["cpu_share"]), (16, 48))
        self.assertEqual(made.effective(B), {})
        made.sliver(B, DEFAULTS)
        self.assertEqual([made.effective(one)["cpu_share"] for one in (A, B, C)], [16, 48, 32])

    def test_lenderGoes(self) -> None:
        """
        What a lender lent is gone with it.
        """
        made = ledger()
        made.loans(A, [lend(B, 16)])
        made.take()
        made.sliver(A, None)
        self.assertEqual(made.effective(B)["cpu_share"], 32)
        self.assertIn(Moved(A, B, "cpu_share", 16, 0), made.take()[1])

    def test_disabledSliversLend(self) -> None:
        """
        As the ancestor's: a sliver that may not run lends all the same.
        """
        made = ledger()
        made.sliver(A, {**DEFAULTS, "enabled": 0})
        made.loans(A, [lend(B, 16)])
        self.assertEqual(made.effective(B)["cpu_share"], 48)

    def test_waitsForAName(self) -> None:
        """
        Who lends to a name that nobody has yet is found by it; who lends to a sliver, by that.
        """
        made = ledger()
        made.loans(A, [Loan("lab_zz", "cpu_share", 5), lend(B, 1)])
        self.assertEqual((made.waiting("lab_zz"), made.lenders(B), made.waiting("lab_2")), ([A], [A], []))
        made.sliver(ZZ, DEFAULTS)
        made.loans(A, [Loan("lab_zz", "cpu_share", 5, None, ZZ)])
        self.assertEqual((made.waiting("lab_zz"), made.lenders(ZZ), made.lenders(B)), ([], [A], []))
        self.assertEqual(made.effective(ZZ)["cpu_share"], 37)

    def test_givesReasons(self) -> None:
        """
        Each item that does not count says why, in the order of the list.
        """
        made = ledger()
        items = [
            lend(B, 10),
            lend(B, 7),
            lend(ZZ, 1),
            Loan("lab_zz", "cpu_share", 1),
            lend(B, 5, "disk_max"),
            lend(C, 6),
        ]
        made.loans(A, items)
        self.assertEqual(
            made.reasons(A),
            [
                "",
                "6 can be lent: 32 own, 10 lent before, 16 kept",
                "no sliver lab_99 any more",
                "no sliver lab_zz; it begins when there is one",
                "disk_max is not lent",
                "",
            ],
        )
        made.sliver(A, {**DEFAULTS, "cpu_share": 8})
        self.assertEqual(made.reasons(A)[0], "0 can be lent: 8 own, 16 kept")

    def test_findsWhatHasEnded(self) -> None:
        """
        The next end is known; at it the items that end are left out, until their list is replaced.
        """
        made = ledger()
        made.loans(A, [lend(B, 1, until=50.0), lend(B, 2, until=20.0), lend(B, 3)])
        made.loans(B, [lend(C, 1, until=30.0)])
        made.take()
        self.assertEqual(made.next_expiry(), 20.0)
        self.assertEqual(made.expired(19.9), {})
        for _ in range(2):
            ended = made.expired(20.0)
            self.assertEqual({lender: [one.amount for one in left] for lender, left in ended.items()}, {A: [1, 3]})
        made.loans(A, ended[A])
        self.assertEqual(made.take()[1], [Moved(A, B, "cpu_share", 6, 4, 20.0)])
        self.assertEqual(made.next_expiry(), 30.0)
        made.loans(B, [])
        self.assertEqual(made.next_expiry(), 50.0)
        self.assertEqual(made.expired(30.0), {})

    def test_forgetsEndsThatWereTakenBack(self) -> None:
        """
        Who changes the end of a loan over and over does not fill the memory.
        """
        made = ledger()
        made.loans(B, [lend(C, 1, until=5.0)])
        for until in range(1000, 0, -1):
            made.loans(A, [lend(B, 1, until=1000.0 + until)])
        self.assertLess(len(made._ends), 200)
        self.assertEqual(made.next_expiry(), 5.0)
        made.loans(B, [])
        self.assertEqual(made.next_expiry(), 1001.0)


_AMOUNTS = st.integers(0, 40)
_RSPECS = st.fixed_dictionaries({"cpu_share": _AMOUNTS, "cpu_min": _AMOUNTS, "net_share": st.integers(1, 5)})
_SERIALS = st.integers(1, 6)
_LOANS = st.builds(
    Loan,
    st.just("lab_x"),
    st.sampled_from(["cpu_share", "cpu_min", "net_share", "disk_max"]),
    st.integers(0, 30),
    st.none() | st.integers(0, 20).map(float),
    st.none() | _SERIALS,
)


class Anything(RuleBasedStateMachine):
    """
    Slivers and lists that come, change and go in any order.
    """

    @initialize()
    def begin(self) -> None:
        self.ledger = Ledger()
        self.rspecs: dict[int, dict[str, int]] = {}
        self.lists: dict[int, tuple[Loan, ...]] = {}
        self.seen: dict[int, dict[str, int]] = {}
        self.standing: dict[tuple[int, int, str], int] = {}

    @rule(serial=_SERIALS, rspec=_RSPECS)
    def give(self, serial: int, rspec: dict[str, int]) -> None:
        self.rspecs[serial] = rspec
        self.ledger.sliver(serial, rspec)

    @rule(serial=_SERIALS)
    def remove(self, serial: int) -> None:
        self.rspecs.pop(serial, None)
        self.ledger.sliver(serial, None)

    @rule(serial=_SERIALS, items=st.lists(_LOANS, max_size=6))
    def lend(self, serial: int, items: list[Loan]) -> None:
        self.lists[serial] = tuple(items)
        self.ledger.loans(serial, items)

    @rule(now=st.integers(0, 20))
    def expire(self, now: int) -> None:
        ended = self.ledger.expired(now)
        for lender, items in self.lists.items():
            left = tuple(one for one in items if one.until is None or one.until > now)
            assert ended.get(lender, items) == left
        for lender, left in ended.items():
            self.lists[lender] = left
            self.ledger.loans(lender, left)
        ends = [one.until for items in self.lists.values() for one in items if one.until is not None]
        assert self.ledger.next_expiry() == min(ends, default=None)

    @invariant()
    def isWhatItWouldBeAnew(self) -> None:
        expected = straightforward(self.rspecs, self.lists)
        for serial in range(1, 7):
            found, wanted = self.ledger.effective(serial), expected.get(serial, {})
            assert all(found.get(name, 0) == wanted.get(name, 0) for name in {*found, *wanted}), (serial, found, wanted)

    @invariant()
    def losesNothing(self) -> None:
        for resource in ("cpu_share", "cpu_min", "net_share"):
            given = sum(one[resource] for one in self.rspecs.values())
            assert given == sum(self.ledger.effective(serial)[resource] for serial in self.rspecs)
            assert given == self.ledger.total(resource)

    @invariant()
    def keepsTheMinimum(self) -> None:
        for serial, rspec in self.rspecs.items():
            for resource, kept in KEPT.items():
                if resource in rspec:
                    assert self.ledger.effective(serial)[resource] >= min(kept, rspec[resource])

    @invariant()
    def namesAllThatChanged(self) -> None:
        changed, moved = self.ledger.take()
        now = {serial: dict(self.ledger.effective(serial)) for serial in range(1, 7)}
        assert {serial for serial in now if now[serial] != self.seen.get(serial, {})} <= set(changed)
        self.seen = now
        for one in moved:
            key = (one.lender, one.recipient, one.resource)
            assert self.standing.pop(key, 0) == one.before != one.amount
            if one.amount:
                self.standing[key] = one.amount
        for lender, items in self.lists.items():
            why = self.ledger.reasons(lender)
            counting = [item for item, reason in zip(items, why, strict=True) if not reason and item.to != lender]
            for item in counting:
                key = (lender, item.to or 0, item.resource)
                same = [two.amount for two in counting if (two.to, two.resource) == (item.to, item.resource)]
                assert self.standing.get(key, 0) == sum(same)


class AnythingTests(SynchronousTestCase):
    """
    In any order of operations.
    """

    def test_anyOrder(self) -> None:
        """
        After whatever has come, everybody has what a computation of all from nothing gives; nothing is created or lost;
        lending takes nobody below the minimum; and everything that changed was said.
        """
        from hypothesis.stateful import run_state_machine_as_test

        run_state_machine_as_test(Anything, settings=settings(max_examples=150, stateful_step_count=25, deadline=None))

    @given(st.dictionaries(_SERIALS, _RSPECS, min_size=1), st.dictionaries(_SERIALS, st.lists(_LOANS)), st.randoms())
    def test_orderOfSliversDoesNotMatter(self, rspecs: dict[int, Any], lists: dict[int, Any], random: Any) -> None:
        """
        Whoever comes first, and whether slivers or lists do: the daemon reads its records in any order at start.
        """
        steps: list[tuple[Any, ...]] = [("sliver", *one) for one in rspecs.items()]
        steps += [("loans", *one) for one in lists.items()]
        found = []
        for _ in range(2):
            made = Ledger()
            for what, serial, value in steps:
                getattr(made, what)(serial, value)
            found.append({serial: made.effective(serial) for serial in rspecs})
            random.shuffle(steps)
        self.assertEqual(*found)
