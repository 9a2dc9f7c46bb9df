"""
Recovery: a start of the daemon finds what runs, goes on with what was begun, and starts what should be up.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from hostline.protocol.errors import StoreFailed
from hostline.server.experiments.rebuilding import rebuild
from hostline.server.slivers.plan import STARTED

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon


class Recovery:
    """
    What is done once, before the first request is answered.
    """

    def __init__(self, daemon: Daemon, state: Path) -> None:
        self._daemon = daemon
        self._strays = state / "keep-strays"

    async def run(self, startup: bool, stagger_s: float) -> None:
        """
        Find what runs, go on with what was begun.

        @param startup: start, once, every sliver that should be up and is not: the host has just come up.
        @param stagger_s: seconds between two of these starts.
        """
        daemon = self._daemon
        change = daemon.host.change(daemon.now())
        daemon.host.aside += rebuild(change, daemon.host, daemon.planned)
        if change.statements:
            daemon.commit(change).addErrback(lambda failure: failure.trap(StoreFailed) and None)
        daemon.tickets.start()
        await daemon.delegates.recover(self._keep_strays())
        await daemon.images.recover(self._keep_strays())
        daemon.linked.start()
        await daemon.sync.recover(self._keep_strays())
        daemon.operations.load()
        daemon.images.run()
        daemon.loan_clock.look()
        if startup:
            await self._start_all(stagger_s)
        daemon.sync.go_on()
        daemon.expiry.start()
        daemon.follower.start()
        daemon.idle.start()

    async def _start_all(self, stagger_s: float) -> None:
        """
        Want a new boot of every sliver that is down and should be up; each is begun a while after the one before.
        """
        daemon = self._daemon
        change = daemon.host.change(daemon.now())
        late = 0.0
        for sliver in sorted(daemon.host.slivers_by_serial.values(), key=lambda one: one.serial):
            status = daemon.sync.status(sliver.serial)
            if sliver.aim != STARTED or (status is not None and status.boot in ("running", "booted")):
                continue
            boots = max(sliver.boots, status.boots if status is not None else 0) + (status is not None)
            change.put(attrs.evolve(sliver, boots=boots))
            if late:
                daemon.sync.hold(sliver.serial, late)
            late += stagger_s
        with suppress(StoreFailed):
            await daemon.commit(change)

    def _keep_strays(self) -> bool:
        # Told by a file, so that the next start, which finds nothing damaged any more, does not end what is left alone.
        if self._daemon.host.damaged:
            self._strays.touch()
        return self._strays.exists()
