"""
Rounds: what the daemon looks at again and again, and the old records that it forgets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostline.protocol.errors import StoreFailed
from hostline.server.record import Record
from hostline.server.records import Operation, Token

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: Seconds between the rounds that end, purge and look again.
ROUND_S = 5.0
#: Seconds between two times that drivers tidy up and drift is looked for, and between two purges.
_TIDY_S, _PURGE_S = 60, 3600


class Rounds:
    """
    One round every L{ROUND_S} seconds; some of what there is to do waits for a later one.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._last_purge = self._last_tidy = 0.0

    def go(self) -> None:
        """
        Do what is due.
        """
        daemon = self._daemon
        daemon.operations.look_again()
        daemon.gate.tidy()
        daemon.tls.look()
        daemon.renewal.round()
        if _over(_TIDY_S, self._last_tidy, daemon.now()):
            self._last_tidy = daemon.now()
            daemon.store.run(daemon.store.keep_reserve).addErrback(lambda _: None)
            for driver in daemon.sync.drivers.values():
                driver.tidy()
            daemon.sync.look_for_drift()
            daemon.delegates.tidy()
            daemon.linked.look()
            daemon.snapshots.tidy()
            daemon.issuer.round()
        if _over(_PURGE_S, self._last_purge, daemon.now()):
            self._last_purge = daemon.now()
            self._purge()
            daemon.renewal.look()
            daemon.issuer.purge()
            daemon.audit.rotate()
            daemon.store.run(daemon.blobs.forget_old).addErrback(lambda _: None)

    def _purge(self) -> None:
        daemon = self._daemon
        history = daemon.config.history
        old: list[Record] = [
            one for one in daemon.host.table(Token).values() if one.time < daemon.now() - history.tokens_days * 86400
        ]
        old += [
            one
            for one in daemon.host.table(Operation).values()
            if one.ended is not None and one.ended < daemon.now() - history.operations_days * 86400
        ]
        daemon.tickets.look()
        spent = daemon.tickets.old()
        if old or spent:
            change = daemon.host.change(daemon.now())
            for record in old:
                change.remove(record)
            daemon.tickets.forget(change, spent)
            daemon.commit(change).addErrback(lambda failure: failure.trap(StoreFailed) and None)


def _over(period_s: float, since: float, now: float) -> bool:
    # A clock that was put back would else have us wait until it is where it was.
    return not since <= now <= since + period_s
