"""
The records of loans: how they go into the ledger, what follows from them in the same change, and when they end.

A loan to a name that nobody has is bound to the first sliver that has it, for good: when that sliver's record is
removed the loan ends with it, so that a later holder of the name inherits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from hostline.protocol.errors import StoreFailed
from hostline.server import entries
from hostline.server.record import Record
from hostline.server.records import Loans, Sliver
from hostline.server.slivers.loans import Ledger, Loan, Moved

if TYPE_CHECKING:
    from hostline.server.host import Change, Host

#: Seconds until it is tried again to end loans, when that could not be made durable.
RETRY_S = 10.0
#: The longest sleep: the clock on the wall may be set meanwhile.
_LONGEST_S = 60.0


def indexed(ledger: Ledger, old: Record | None, record: Record | None) -> None:
    """
    Have the ledger follow a record that is made, replaced or removed.
    """
    known = record or old
    if isinstance(known, Sliver) and known.free:
        ledger.sliver(known.serial, record.rspec if isinstance(record, Sliver) else None)
    elif isinstance(known, Loans):
        ledger.loans(known.serial, record.items if isinstance(record, Loans) else ())


def followed(change: Change, old: Record | None, record: Record | None) -> None:
    """
    Do, in the change that made, replaced or removed a record, all that follows from it for loans: bind those that
    waited for a name, end those of and to a sliver that is gone, have the sync look at each sliver that has more or
    less than before, and tell lenders and recipients.
    """
    known = record or old
    if not isinstance(known, Sliver | Loans) or (isinstance(known, Sliver) and not known.free):
        return
    ledger = change.host.ledger
    _tell(change, known)
    if isinstance(record, Sliver) and old is None:
        for lender in ledger.waiting(record.name):
            put(change, lender, [_bound(one, record) for one in ledger.items(lender)])
    elif isinstance(old, Sliver) and record is None:
        for lender in ledger.lenders(old.serial):
            put(change, lender, [one for one in ledger.items(lender) if one.to != old.serial])
        put(change, old.serial, ())


def put(change: Change, lender: int, items: Iterable[Loan]) -> None:
    """
    Replace the list of a lender.
    """
    record = Loans(serial=lender, items=tuple(items))
    if record.items:
        change.put(record)
    elif change.host.get(Loans, record.key) is not None:
        change.remove(record)


def bodies(host: Host, lender: Sliver) -> list[dict[str, Any]]:
    """
    What a sliver lends, as on the wire.
    """
    items, reasons = host.ledger.items(lender.serial), host.ledger.reasons(lender.serial)
    return [_body(lender.name, item, reason) for item, reason in zip(items, reasons, strict=True)]


def borrowed(host: Host, recipient: Sliver) -> list[dict[str, Any]]:
    """
    What others lend to a sliver and counts, as on the wire; why something does not is the lender's affair.
    """
    lenders = (host.slivers_by_serial.get(serial) for serial in host.ledger.lenders(recipient.serial))
    known = sorted((one for one in lenders if one is not None), key=lambda one: one.name)
    return [
        one
        for lender in known
        for one in bodies(host, lender)
        if one["recipient"] == recipient.name and one["accepted"]
    ]


def _body(lender: str, item: Loan, reason: str) -> dict[str, Any]:
    return {
        "lender": lender,
        "recipient": item.recipient,
        "resource": item.resource,
        "amount": item.amount,
        "until": item.until,
        "accepted": not reason,
        "reason": reason,
    }


def _bound(item: Loan, sliver: Sliver) -> Loan:
    return item._replace(to=sliver.serial) if item.to is None and item.recipient == sliver.name else item


def _tell(change: Change, known: Sliver | Loans) -> None:
    changed, moved = change.host.ledger.take()
    slivers = change.host.slivers_by_serial
    gone = {known.serial: known} if isinstance(known, Sliver) else {}
    for serial in changed:
        if serial in slivers:
            change.touch(serial)
    for one in moved:
        lender = slivers.get(one.lender) or gone.get(one.lender)
        recipient = slivers.get(one.recipient) or gone.get(one.recipient)
        if lender is not None and recipient is not None:
            _tell_one(change, one, lender, recipient)


def _tell_one(change: Change, moved: Moved, lender: Sliver, recipient: Sliver) -> None:
    about = {
        "lender": lender.name,
        "recipient": recipient.name,
        "resource": moved.resource,
        "amount": moved.amount,
        "before": moved.before,
    }
    over = moved.until is not None and moved.until <= change.now
    more = moved.amount > moved.before
    for sliver, gained, ended in ((lender, "loan_given", "loan_ended"), (recipient, "loan_gained", "loan_lost")):
        what = gained if more else "loan_expired" if over else ended
        change.tell(sliver.topic, what, (sliver.project, sliver.serial), sliver=sliver.name, **about)


class LoanClock:
    """
    Ends loans when their time is over, also when that was while no daemon ran.
    """

    def __init__(
        self,
        host: Host,
        clock: IReactorTime,
        now: Callable[[], float],
        begin: Callable[[], Change],
        commit: Callable[[Change], Deferred[None]],
    ) -> None:
        """
        @param now: Unix seconds.
        @param begin: begins a change; C{commit} makes it durable.
        """
        self._host = host
        self._clock = clock
        self._now = now
        self._begin = begin
        self._commit = commit
        self._call: IDelayedCall | None = None
        self._failed = False
        self._closed = False

    def look(self) -> None:
        """
        End what is over, and sleep until the next is; to be called whenever loans may have changed.
        """
        if self._closed or self._failed:
            return
        ended = self._host.ledger.expired(self._now())
        if ended:
            change = self._begin()
            for lender, items in ended.items():
                put(change, lender, items)
            lenders = [one.name for serial in ended if (one := self._host.slivers_by_serial.get(serial)) is not None]
            entries.tell_done(change, "set_loans", lenders, via="clock", reason="the time of loans is over")
            self._commit(change).addErrback(self._not_ended)
        self._sleep()

    def close(self) -> None:
        """
        End nothing more.
        """
        self._closed = True
        self._wake_at(None)

    def _sleep(self) -> None:
        until = self._host.ledger.next_expiry()
        if self._failed or self._closed:
            return
        if until is None:
            self._wake_at(None)
        else:
            self._wake_at(self._clock.seconds() + min(max(until - self._now(), 0.0), _LONGEST_S))

    def _wake_at(self, seconds: float | None) -> None:
        if self._call is not None and self._call.active():
            if seconds is not None and self._call.getTime() <= seconds:
                return  # it looks again then, and sleeps on
            self._call.cancel()
        self._call = None
        if seconds is not None:
            self._call = self._clock.callLater(max(0.0, seconds - self._clock.seconds()), self._woken)

    def _woken(self) -> None:
        self._failed = False
        self.look()

    def _not_ended(self, failure: Failure) -> None:
        failure.trap(StoreFailed)
        self._failed = True
        self._wake_at(None)
        self._wake_at(self._clock.seconds() + RETRY_S)
