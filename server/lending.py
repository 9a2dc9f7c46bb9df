"""
Answers about resources and loans.
"""

from __future__ import annotations

from typing import Any

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadValue, TooMany, WrongState
from hostline.protocol.moments import moment
from hostline.protocol.rows.loans import MOST_LOANS
from hostline.server.asking import Ask, responds
from hostline.server.records import Sliver
from hostline.server.slivers import lent
from hostline.server.slivers.loans import Loan
from hostline.server.slivers.rspec import lendable


@responds(TABLE["get_rspec"])
def get_rspec(ask: Ask, name: str) -> dict[str, int]:
    """
    Show what a sliver was given.
    """
    return dict(ask.target.rspec)


@responds(TABLE["get_effective_rspec"])
def get_effective_rspec(ask: Ask, name: str) -> dict[str, int]:
    """
    Show what a sliver has after loans.
    """
    return dict(ask.host.effective(ask.target))


@responds(TABLE["loan"])
def loan(
    ask: Ask, recipient: str, resource: str, amount: int, lender: str | None, until: float | str | None
) -> list[dict[str, Any]]:
    """
    Set one loan.
    """
    sliver: Sliver = ask.target
    if not sliver.free:
        raise WrongState(f"{sliver.name} is a node of an experiment: only free slivers lend")
    items = []
    fresh = None
    if amount:
        fresh = _loan(ask, recipient, resource, amount, until)
    else:
        lendable(resource)
    for item in ask.host.ledger.items(sliver.serial):
        if (item.recipient, item.resource) != (recipient, resource):
            items.append(item)
        elif fresh is not None:  # the order of the list decides what counts: it keeps its place
            items.append(fresh)
            fresh = None
    if fresh is not None:
        items.append(fresh)
    if len(items) > MOST_LOANS:
        raise TooMany(f"want at most {MOST_LOANS} loans of one sliver")
    return _put(ask, sliver, items)


@responds(TABLE["set_loans"])
def set_loans(ask: Ask, name: str, loans: list[Any], until: float | str | None) -> list[dict[str, Any]]:
    """
    Replace all that a sliver lends.
    """
    sliver: Sliver = ask.target
    items = []
    for at, one in enumerate(loans, 1):
        asked = one if isinstance(one, dict) else dict(zip(("recipient", "resource", "amount"), one, strict=True))
        if asked.get("lender", name) != name:
            raise BadValue(f"loans: item {at}: want {name} as lender, got {asked['lender']}")
        ends = asked.get("until")
        try:
            items.append(
                _loan(ask, asked["recipient"], asked["resource"], asked["amount"], until if ends is None else ends)
            )
        except BadValue as error:
            raise BadValue(f"loans: item {at}: {error.message}") from None
    return _put(ask, sliver, items)


@responds(TABLE["get_loans"])
def get_loans(ask: Ask, name: str, borrowed: bool) -> list[dict[str, Any]]:
    """
    Show what a sliver lends, or borrows.
    """
    return lent.borrowed(ask.host, ask.target) if borrowed else lent.bodies(ask.host, ask.target)


def _loan(ask: Ask, recipient: str, resource: str, amount: int, until: float | str | None) -> Loan:
    lendable(resource)
    ends = None if until is None else moment(until, ask.now)
    if ends is not None and ends <= ask.now:
        raise BadValue(f"until: want a time to come, got {ends:.0f}, and it is {ask.now:.0f}")
    found = ask.host.sliver_named(recipient)
    return Loan(recipient, resource, amount, ends, found.serial if found is not None else None)


def _put(ask: Ask, lender: Sliver, items: list[Loan]) -> list[dict[str, Any]]:
    lent.put(ask.change, lender.serial, items)
    return lent.bodies(ask.host, lender)
