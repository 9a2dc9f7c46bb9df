"""
Loans: what 10,000 slivers with ten loans each have after lending, computed anew and after one change.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.machine import pinned
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting

if TYPE_CHECKING:
    from hostline.server.slivers.loans import Loan

SLIVERS, LOANS_EACH = 10_000, 10
FULL, ONE = "all of it anew", "one loan of ten is changed"
LENT, GIVEN = "one list of ten loans is replaced", "one sliver's own rspec is changed"


def anew(
    rspecs: Mapping[int, Mapping[str, int]], lists: Mapping[int, Sequence[Loan]], kept: Mapping[str, int]
) -> dict[int, dict[str, int]]:
    """
    All effective rspecs as the ancestor computed them at each change (PlanetLab's C{_compute_effective_rspecs}).
    """
    effective = {serial: dict(rspec) for serial, rspec in rspecs.items()}
    for lender, items in lists.items():
        left = dict(rspecs[lender])
        mine = effective[lender]
        for item in items:
            theirs, resource, amount = effective.get(item.to or 0), item.resource, item.amount
            if theirs is not None and amount <= left[resource] - kept[resource]:
                mine[resource] -= amount
                left[resource] -= amount
                theirs[resource] += amount
    return effective


class _Loans:
    """
    The candidates, over one set of slivers and lists; each change is a real one.
    """

    def __init__(self, times: int) -> None:
        from hostline.server.slivers.loans import Ledger, Loan
        from hostline.server.slivers.rspec import DEFAULTS, KEPT

        self._kept = KEPT
        self._times = times
        self._random = random.Random(3)
        self._loan = Loan
        self.rspecs = {serial: self._rspec(DEFAULTS) for serial in range(1, SLIVERS + 1)}
        self.lists = {serial: self._list() for serial in self.rspecs}
        self.ledger = Ledger()
        for serial, rspec in self.rspecs.items():
            self.ledger.sliver(serial, rspec)
        for serial, items in self.lists.items():
            self.ledger.loans(serial, items)
        self.ledger.take()

    def _rspec(self, rspec: Mapping[str, int]) -> dict[str, int]:
        return {**rspec, "cpu_share": self._random.randint(16, 100), "net_share": self._random.randint(1, 9)}

    def _list(self) -> tuple[Loan, ...]:
        choice, number = self._random.choice, self._random.randint
        names = list(self._kept)
        serials = [number(1, SLIVERS) for _ in range(LOANS_EACH)]
        return tuple(self._loan(f"lab_{to}", choice(names), number(1, 8), None, to) for to in serials)

    def full(self, core: int) -> float:
        """Microseconds of computing all."""
        with pinned(core):
            begun = time.process_time_ns()
            anew(self.rspecs, self.lists, self._kept)
            return (time.process_time_ns() - begun) / 1000

    def lent(self, core: int) -> float:
        """Microseconds of one new list, with what is then said of it."""
        return self._replace(core, {self._random.randint(1, SLIVERS): self._list() for _ in range(self._times)})

    def one(self, core: int) -> float:
        """Microseconds of a list in which one loan is another."""
        steps = {}
        for _ in range(self._times):
            serial = self._random.randint(1, SLIVERS)
            at = self._random.randrange(LOANS_EACH)
            steps[serial] = (*self.lists[serial][:at], *self._list()[:1], *self.lists[serial][at + 1 :])
        return self._replace(core, steps)

    def _replace(self, core: int, steps: dict[int, tuple[Loan, ...]]) -> float:
        ledger = self.ledger
        with pinned(core):
            begun = time.process_time_ns()
            for serial, items in steps.items():
                ledger.loans(serial, items)
                ledger.take()
            spent = time.process_time_ns() - begun
        self.lists.update(steps)
        return spent / 1000 / len(steps)

    def given(self, core: int) -> float:
        """Microseconds of one new rspec, with what is then said of it."""
        serials = {self._random.randint(1, SLIVERS) for _ in range(self._times)}
        steps = {serial: self._rspec(self.rspecs[serial]) for serial in serials}
        ledger = self.ledger
        with pinned(core):
            begun = time.process_time_ns()
            for serial, rspec in steps.items():
                ledger.sliver(serial, rspec)
                ledger.take()
            spent = time.process_time_ns() - begun
        self.rspecs.update(steps)
        return spent / 1000 / len(steps)

    def check(self) -> None:
        """
        @raise ValueError: the ledger does not say what is computed anew.
        """
        for serial, wanted in anew(self.rspecs, self.lists, self._kept).items():
            if self.ledger.effective(serial) != wanted:
                raise ValueError(f"sliver {serial} should have {wanted}, has {self.ledger.effective(serial)}")


def loans(setting: Setting) -> Table:
    """
    @raise ImportError: the daemon's ledger is not there.
    """
    measured = _Loans(100 if setting.short else 1000)
    measured.check()
    candidates = {FULL: measured.full, ONE: measured.one, LENT: measured.lent, GIVEN: measured.given}
    by_turns(candidates, 1, setting.cores)  # so that the memory is there
    found = by_turns(candidates, setting.rounds, setting.cores)
    measured.check()
    return Table(
        f"effective allocations of {SLIVERS:,} slivers with {LOANS_EACH} loans each",
        [Series(name, "us (CPU)", found[name]) for name in candidates],
        [Goal(FULL, one, 1000) for one in (ONE, LENT, GIVEN)],
        [
            "In one process, without the store. Anew is the ancestor's way, on the same values; at the end both are "
            "compared, sliver by sliver."
        ],
    )
