"""
What slivers lend each other, and what each has after that; pure, and kept up to date change by change.

The arithmetic is the ancestor's (PlanetLab's Node Manager), exactly: a lender's items are looked at in their order; one
counts if its recipient is there and its amount is at most what the lender has left of its I{own} units above the
minimum that it keeps; else that item alone is passed over. So what was borrowed cannot be lent again, the total of each
resource stays what it was, and the order of slivers does not matter.

Which items count hangs only on the lender's own rspec, its list, and which recipients there are. So a change of one
sliver is told to itself and to those who lend to it, never to all.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hostline.server.slivers.rspec import KEPT


class Loan(NamedTuple):
    """
    One item of a lender's list.

    @ivar recipient: the recipient's name.
    @ivar until: Unix seconds at which it ends; None if it does not end by itself.
    @ivar to: the serial of the sliver that had the name first since the loan was made; None while there is none. A
        later holder of the name inherits nothing.
    """

    recipient: str
    resource: str
    amount: int
    until: float | None = None
    to: int | None = None


class Moved(NamedTuple):
    """
    What of one lender reaches one recipient has become more or less.

    @ivar lender: its serial; C{recipient}: likewise.
    @ivar before: the amount that counted; C{amount}: the one that counts now.
    @ivar until: the latest end of the items that no longer stand, None if one of them had none.
    """

    lender: int
    recipient: int
    resource: str
    before: int
    amount: int
    until: float | None = None


_Terms = tuple[tuple[int, str, int], ...]  # recipient, resource, amount of each item that counts


class Ledger:
    """
    The rspecs of slivers before and after loans.

    @ivar changed: serials whose effective rspec is another than when this was last taken.
    @ivar moved: what was lent or taken back since then, in order.
    """

    def __init__(self, kept: Mapping[str, int] = KEPT) -> None:
        """
        @param kept: the least that a lender keeps of each resource that is lent.
        """
        self._kept = kept
        self._given: dict[int, Mapping[str, int]] = {}
        self._effective: dict[int, dict[str, int]] = {}
        self._items: dict[int, tuple[Loan, ...]] = {}
        self._terms: dict[int, _Terms] = {}
        self._lenders: dict[int, dict[int, None]] = {}
        self._waiting: dict[str, dict[int, None]] = {}
        self._totals: dict[str, int] = {}
        self._ends: list[tuple[float, int]] = []
        self._most_ends = 64
        self.changed: dict[int, None] = {}
        self.moved: list[Moved] = []

    # What is asked.

    def effective(self, serial: int) -> Mapping[str, int]:
        """
        @return: what a sliver has after loans; not to be changed. Empty if the sliver is not in the ledger.
        """
        return self._effective.get(serial, {})

    def total(self, resource: str) -> int:
        """
        @return: what all slivers have of a resource; no loan changes it.
        """
        return self._totals.get(resource, 0)

    def items(self, lender: int) -> tuple[Loan, ...]:
        """
        @return: the items of a lender's list, in order.
        """
        return self._items.get(lender, ())

    def lenders(self, recipient: int) -> list[int]:
        """
        @return: those whose list names this sliver, whether what they lend counts or not.
        """
        return list(self._lenders.get(recipient, ()))

    def waiting(self, name: str) -> list[int]:
        """
        @return: those whose list has an item for the first sliver of this name.
        """
        return list(self._waiting.get(name, ()))

    def reasons(self, lender: int) -> list[str]:
        """
        @return: of each of a lender's items why it does not count, in words; empty where it does.
        """
        given = self._given.get(lender)
        items = self._items.get(lender, ())
        if given is None:
            return ["the lender is gone"] * len(items)
        left = dict(given)
        found = []
        for item in items:
            why = self._why_not(item, given, left)
            if not why:
                left[item.resource] -= item.amount
            found.append(why)
        return found

    def next_expiry(self) -> float | None:
        """
        @return: when the next item ends by its C{until}, Unix seconds; None if none does.
        """
        while self._ends:
            until, lender = self._ends[0]
            if any(item.until == until for item in self._items.get(lender, ())):
                return until
            heapq.heappop(self._ends)  # of an item that was taken back
        return None

    def expired(self, now: float) -> dict[int, tuple[Loan, ...]]:
        """
        Find whose items have ended; nothing is changed.

        @return: by lender, the items that are left.
        """
        found: dict[int, tuple[Loan, ...]] = {}
        ends = []
        while self._ends and self._ends[0][0] <= now:
            ends.append(heapq.heappop(self._ends))
            lender = ends[-1][1]
            items = self._items.get(lender, ())
            left = tuple(item for item in items if item.until is None or item.until > now)
            if len(left) < len(items):
                found[lender] = left
        for end in ends:
            if end[1] in found:  # stays until the list is replaced, which may fail
                heapq.heappush(self._ends, end)
        return found

    # What happens.

    def sliver(self, serial: int, rspec: Mapping[str, int] | None) -> None:
        """
        A sliver's rspec, as it was given; None if the sliver is gone.
        """
        old = self._given.get(serial)
        if old == rspec:
            return
        self._count(old, -1)
        self._count(rspec, 1)
        others = [one for one in self._lenders.get(serial, ()) if one != serial]
        if rspec is None:
            del self._given[serial]
            for lender in (serial, *others):
                self._settle(lender)
            self._effective.pop(serial)
            self.changed[serial] = None
            return
        self._given[serial] = rspec
        if old is None:
            self._effective[serial] = dict(rspec)
            for lender in others:
                self._settle(lender)
        else:
            effective = self._effective[serial]
            for resource in {**old, **rspec}:
                more = rspec.get(resource, 0) - old.get(resource, 0)
                if more or resource not in rspec:
                    effective[resource] = effective.get(resource, 0) + more
        self._settle(serial)
        self.changed[serial] = None

    def loans(self, lender: int, items: Sequence[Loan]) -> None:
        """
        The list of a lender, in place of the one before.
        """
        before, after = self._items.get(lender, ()), tuple(items)
        if after:
            self._items[lender] = after
        else:
            self._items.pop(lender, None)
        self._refer(lender, before, after)
        self._settle(lender, before)

    def take(self) -> tuple[list[int], list[Moved]]:
        """
        What has changed since this was asked last.

        @return: the serials whose effective rspec is another, and what was lent or taken back.
        """
        changed, moved = list(self.changed), self.moved
        self.changed, self.moved = {}, []
        return changed, moved

    def _refer(self, lender: int, before: Iterable[Loan], after: Iterable[Loan]) -> None:
        """
        Keep the ways back from recipients to lenders, and the moments at which items end.
        """
        old = {item.recipient if item.to is None else item.to for item in before}
        new = {item.recipient if item.to is None else item.to for item in after}
        for one in old - new:
            index = self._index(one)
            found = index[one]
            del found[lender]
            if not found:
                del index[one]
        for one in new - old:
            index = self._index(one)
            index.setdefault(one, {})[lender] = None
        until_before = {item.until for item in before}
        until_after = {item.until for item in after}
        for until in until_after - until_before:
            if until is not None:
                heapq.heappush(self._ends, (until, lender))
        if len(self._ends) > self._most_ends:  # most of it are ends of items that were taken back
            lists = self._items.items()
            self._ends = sorted({(item.until, of) for of, items in lists for item in items if item.until is not None})
            self._most_ends = max(64, 2 * len(self._ends))

    def _index(self, recipient: int | str) -> dict[Any, dict[int, None]]:
        return self._waiting if isinstance(recipient, str) else self._lenders

    def _settle(self, lender: int, before: Sequence[Loan] = ()) -> None:
        """
        Find out again which of a lender's items count, and move the difference.
        """
        old = self._terms.get(lender, ())
        new = self._counting(lender)
        if new == old:
            return
        if new:
            self._terms[lender] = new
        else:
            del self._terms[lender]
        had: dict[tuple[int, str], int] = {}
        for recipient, resource, amount in old:
            key = recipient, resource
            had[key] = had.get(key, 0) + amount
        has: dict[tuple[int, str], int] = dict.fromkeys(had, 0)
        for recipient, resource, amount in new:
            key = recipient, resource
            has[key] = has.get(key, 0) + amount
        after = self._items.get(lender, ())
        ends = [item for item in before if item.until is not None]
        mine = self._effective.get(lender, {})
        changed, moved, effective = self.changed, self.moved, self._effective
        for key, amount in has.items():
            before_it = had.get(key, 0)
            recipient, resource = key
            if amount == before_it or recipient == lender:
                continue
            theirs = effective[recipient]
            theirs[resource] = theirs.get(resource, 0) + amount - before_it
            changed[recipient] = None
            if mine:
                mine[resource] -= amount - before_it
                changed[lender] = None
            until = _ended(before, after, recipient, resource) if ends and amount < before_it else None
            moved.append(Moved(lender, recipient, resource, before_it, amount, until))

    def _counting(self, lender: int) -> _Terms:
        given = self._given.get(lender)
        items = self._items.get(lender)
        if given is None or items is None:
            return ()
        slivers, kept = self._given, self._kept
        left: dict[str, int] = {}
        found = []
        for item in items:
            to, resource = item.to, item.resource
            if to not in slivers or resource not in kept:
                continue
            have = left.get(resource)
            if have is None:
                have = given.get(resource, 0) - kept[resource]
            if item.amount <= have:
                left[resource] = have - item.amount
                found.append((to, resource, item.amount))
        return tuple(found)

    def _why_not(self, item: Loan, given: Mapping[str, int], left: Mapping[str, int]) -> str:
        if item.to is None:
            return f"no sliver {item.recipient}; it begins when there is one"
        if item.to not in self._given:
            return f"no sliver {item.recipient} any more"
        if item.resource not in self._kept:
            return f"{item.resource} is not lent"
        own, kept, has = given.get(item.resource, 0), self._kept[item.resource], left.get(item.resource, 0)
        if item.amount <= has - kept:
            return ""
        before = f", {own - has} lent before" if own > has else ""
        return f"{max(0, has - kept)} can be lent: {own} own{before}, {kept} kept"

    def _count(self, rspec: Mapping[str, int] | None, sign: int) -> None:
        for resource, amount in (rspec or {}).items():
            self._totals[resource] = self._totals.get(resource, 0) + sign * amount


def _ended(before: Sequence[Loan], after: Sequence[Loan], recipient: int, resource: str) -> float | None:
    """
    When the items between the two that no longer stand were to end, the last of them.
    """
    gone = [one for one in before if (one.to, one.resource) == (recipient, resource) and one not in after]
    ends = [one.until for one in gone]
    return None if not ends or None in ends else max(one for one in ends if one is not None)
