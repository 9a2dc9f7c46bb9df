"""
The daemon: its parts, put together; the clock and the reactor come in by argument.
"""

from __future__ import annotations

import asyncio
import grp
import os
import random
import socket
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from hostline.protocol.errors import StoreFailed, WrongState
from hostline.server import callers, entries
from hostline.server import config as configuration
from hostline.server.archive import Archive
from hostline.server.audit import Audit
from hostline.server.authority import Follower
from hostline.server.blobs import Blobs
from hostline.server.board import Board
from hostline.server.bodies import Bodies
from hostline.server.callers import Caller
from hostline.server.config import Config
from hostline.server.connection import Connection
from hostline.server.delegates import Delegates, Makes
from hostline.server.doors import Doors
from hostline.server.drivers.driver import Driver, Status
from hostline.server.experiments.lifecycle import Lifecycle
from hostline.server.experiments.placing import WITH_IMAGE
from hostline.server.experiments.planned import Planned
from hostline.server.experiments.rooms import check_room, memory_of_host
from hostline.server.experiments.snapshots import Snapshots
from hostline.server.experiments.wires import Linked
from hostline.server.expiry import Expiry, moments
from hostline.server.gate import Gate
from hostline.server.health import Health
from hostline.server.host import Change, Host
from hostline.server.idle import Idle
from hostline.server.images import Images
from hostline.server.line import Answers
from hostline.server.network.links import Links
from hostline.server.nodenames import NameService, NodeNames
from hostline.server.notices import Notices
from hostline.server.offload import Offload
from hostline.server.operations import Operations
from hostline.server.peer import peer
from hostline.server.records import Image, Operation
from hostline.server.recovery import Recovery
from hostline.server.rounds import Rounds
from hostline.server.slivers.admission import admit
from hostline.server.slivers.lent import LoanClock
from hostline.server.slivers.life import SliverLife
from hostline.server.slivers.plan import ABSENT
from hostline.server.slivers.trusted_time import Moment
from hostline.server.store import Loaded, Store
from hostline.server.supervise.shelf import Shelf
from hostline.server.supervise.spawn import Spawner
from hostline.server.sync import Sync
from hostline.server.tally import Piece, Tally
from hostline.server.tickets import Tickets
from hostline.server.trust.endpoint import Endpoint
from hostline.server.trust.issuer import Issuer
from hostline.server.trust.renewal import Renewal, beside_us


class Daemon:
    """
    Everything that answers and acts, given what the store held.

    @ivar wires: the links of experiments; None if there can be none, or it is not known yet.
    @ivar run: a word that tells this run of the daemon from others, the first part of request ids.
    """

    _log = Logger()

    def __init__(
        self,
        host: Host,
        keeper: Store,
        drivers: Mapping[str, Driver],
        offload: Offload,
        config: Config,
        state: Path,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        now: Callable[[], float],
        run: str,
        doors: Doors,
        moment: Callable[[], Moment] | None = None,
        shelf: Shelf | None = None,
        no_shelf: str = "the daemon does not run as root",
        accounts: Makes | None = None,
        no_accounts: str = "the daemon does not run as root",
        missing: Mapping[str, str] | None = None,
        spawner: Spawner | None = None,
    ) -> None:
        """
        @param spawner: starts programs; without one the daemon does what needs none.
        @param missing: why this host has no driver, by kind.
        @param shelf: where images are; None if this host can hold none, for the reason C{no_shelf}.
        @param accounts: makes those of delegates; None if there can be none, for the reason C{no_accounts}.
        @param moment: looks at the clocks; None means those of this machine.
        """
        self.host = host
        self.missing = missing if missing is not None else {}
        self.store = keeper
        self.offload = offload
        self.config = config
        self.loop = loop
        self.clock = clock
        self.now = now
        self.run = run
        self.started = now()
        self.cores = os.cpu_count() or 1  # as many as the control groups reckon with
        self.gate = Gate(host, lambda: self.config.limits)
        self.board = Board(host)
        self.planned = Planned(host)
        self.sync = Sync(
            host, drivers, self.board, clock, config.slivers.at_once, self._news, self.commit, doors, self.planned
        )
        self.bodies = Bodies(self)
        self.operations = Operations(
            host,
            self._status,
            self._news,
            self.commit,
            self.bodies.result,
            self.sync.busy,
            self._step,
            self.sync.is_told,
            self.planned.on_failure,
        )
        self.images = Images(
            host, self.operations, shelf, lambda: self.config.images, self._news, self.commit, no_shelf
        )
        self.snapshots = Snapshots(host, state / "snapshots", spawner)
        self.sync.operations = self.operations
        rooms = partial(check_room, host, self.planned, self.cores, memory_of_host())
        self.lifecycle = Lifecycle(
            host, self.operations, self.planned, rooms, lambda: self.config.experiments.exclusive
        )
        self.slivers = SliverLife(host, self.operations)
        self.loan_clock = LoanClock(host, clock, now, self._news, self.commit)
        self.blobs = Blobs(state / "blobs", keeper.run, lambda: self.config.limits.blob_bytes)
        self.audit = Audit(Archive(state / "audit"), keeper.use, lambda: self.config.audit)
        self.delegates = Delegates(host, clock, loop.call_soon, lambda: self.config, accounts, no_accounts)
        self.wires: Links | None = None
        self.linked = Linked(host, lambda: self.wires)
        subnet = IPv4Network(config.network.subnet)
        self.names = NameService(NodeNames(host, self._status, subnet, clock.seconds), clock)
        self.expiry = Expiry(self, moment or moments(now))
        self.follower = Follower(self, random.random)
        self.issuer = Issuer(self, state / "trust")
        self.tickets = Tickets(self, state / "trust")
        self.tls = Endpoint(self, state / "trust")
        self.renewal = Renewal(self, self.tls, spawner, beside_us)
        self.idle = Idle(self, Notices(self, spawner))
        self.health = Health(self, state)
        self.answers = Answers(self)
        self._operators_gid = _gid(config.operators)
        self._recovery = Recovery(self, state)
        self._rounds = Rounds(self)

    # Changes.

    def commit(self, change: Change) -> Deferred[None]:
        """
        Make a change durable; then tell of it, and work towards it.

        @return: fires when it is durable; fails with L{StoreFailed} once it is undone.
        """
        change.handed_over = True
        done = self.store.submit(change.statements, change.undo, change.frees)
        done.addCallbacks(self._committed, self._undone, callbackArgs=(change,), errbackArgs=(change,))
        return done

    def _committed(self, _: None, change: Change) -> None:
        for serial in change.removed:
            self.sync.gone(serial)
        self.host.committed(change)  # from here on replies go out: who asks behind one sees the slivers gone
        if change.people:
            self.loop.call_soon(self.gate.cut_former)  # soon: who removes himself is told so first
        for serial in change.slivers:
            self.operations.news(serial)
        self.linked.committed(change)
        self.sync.run(change.slivers)
        self.loan_clock.look()
        self.expiry.news(change.slivers)
        self.images.run()

    def _undone(self, failure: Failure, change: Change) -> Failure:
        self.sync.run(change.slivers)
        return failure

    def _news(self) -> Change:
        return self.host.change(self.now())

    def cancel(self, change: Change, operation: Operation) -> dict[str, Any]:
        """
        Cancel an operation, in the name of whoever began it.
        """
        subject = operation.subject
        if subject in self.host.slivers_by_serial or self.host.by_serial(Image, subject) is not None:
            return self.operations.body(self.operations.cancel(change, operation))
        return self.operations.body(self.lifecycle.cancel(change, operation, operation.caller))

    # Waiting.

    async def ended(self, number: int, timeout: float, caller: Caller) -> None:
        """
        Wait until an operation has ended, or for C{timeout} seconds.

        @param caller: whose turn it must be when the time is over.
        """
        await self._within(self.operations.ended(number), timeout, caller)

    async def news(self, timeout: float, caller: Caller, scope: tuple[int, int]) -> bool:
        """
        Wait for the next event about an experiment.

        @param scope: serials of its project and its own.
        @param caller: whose turn it must be when the time is over.
        @return: false if none came in C{timeout} seconds.
        """
        if timeout <= 0:
            return False
        came: Deferred[None] = Deferred()
        feed = self.host.feed
        since = feed.newest

        def look() -> None:
            nonlocal since
            since, before = feed.newest, since
            if not came.called and any(one.scope == scope for one in feed.after(before)):
                came.callback(None)

        stop = feed.listen(look)
        try:
            return await self._within(came, timeout, caller)
        finally:
            stop()

    async def _within(self, waited: Deferred[None], timeout: float, caller: Caller) -> bool:
        if waited.called:
            return True
        if timeout <= 0:
            waited.addErrback(lambda failure: failure.trap(CancelledError) and None)
            waited.cancel()
            return False
        # A thousand of them may be over at once: they are told so in turns.
        tally = self.tally(caller)
        late = self.clock.callLater(timeout, lambda: tally.wait(Piece(tally, waited.cancel), self.loop))
        try:
            await waited
        except CancelledError:
            return False
        finally:
            if late.active():
                late.cancel()
        return True

    # What others ask of several parts.

    def _status(self, serial: int) -> Status | None:
        return self.sync.status(serial) or self.images.status(serial)

    def _step(self, subject: int) -> tuple[str, float | None] | None:
        return self.images.progress(subject)

    def image_for(self, kind: str, name: str | None) -> int | None:
        """
        @return: serial of the image that a sliver of this kind is to be made from; None if the kind has none.
        """
        if kind not in WITH_IMAGE:
            if name is not None:
                raise WrongState(f"slivers of kind {kind} have no image")
            return None
        if name is None:
            raise WrongState(f"want the name of an image, from which a sliver of kind {kind} is made")
        return self.images.for_sliver(name, kind)

    def check_room(self, serial: int, rspec: Mapping[str, int]) -> None:
        """
        @param serial: of the sliver that is to have this rspec, 0 of a new one.
        @raise NoRoom: if the host cannot promise that much.
        """
        known = self.host.slivers_by_serial.get(serial)
        name = known.name if known is not None else "a new sliver"
        slivers = self.host.slivers_by_serial.values() if rspec.get("cpu_min") else ()
        nodes = sum(one.rspec.get("cpu_min", 0) for one in slivers if not one.free and one.wanted != ABSENT)
        admit(self.host.ledger, self.cores, name, rspec, known.rspec if known is not None else None, nodes)

    # Connections.

    @property
    def connections(self) -> int:
        """
        How many there are.
        """
        return self.gate.connections

    def caller(self, connection: socket.socket) -> Caller:
        """
        Who is at the other end of a connection to the host's own socket.
        """
        return peer(connection, self._operators_gid)

    def caller_inside(self, sliver: int, transport: asyncio.Transport) -> Caller:
        """
        Who is at the other end of one that came through a sliver's own socket.

        @param sliver: its serial.
        """
        found = self.caller(transport.get_extra_info("socket"))
        return Caller(found.uid, via="sliver", sliver=sliver, pid=found.pid)

    def tally(self, caller: Caller) -> Tally:
        """
        What is counted and kept for a principal.
        """
        return self.gate.tally(caller)

    def admit(self, connection: Connection) -> str | None:
        """
        Count a new connection.

        @return: why it is refused, if it is.
        """
        return self._refuse_inside(connection.caller) or self.gate.admit(connection)

    def _refuse_inside(self, caller: Caller) -> str | None:
        """
        @return: why who is at a sliver's own door may not come in.
        """
        sliver = self.host.slivers_by_serial.get(caller.sliver)
        driver = self.sync.drivers.get(sliver.kind) if sliver is not None else None
        if not caller.sliver:
            return None
        if driver is None:
            return "the sliver is gone"
        try:
            driver.admit(caller.sliver, caller.pid)
        except OSError as error:
            return f"{sliver.name if sliver else ''}: {error}"
        return None

    def left(self, connection: Connection) -> None:
        """
        A connection that was admitted is over.
        """
        self.gate.left(connection)

    def dropped(self, limit: str, connection: Connection) -> None:
        """
        A connection is ended by a limit: say so in the log.
        """
        caller = connection.caller
        self._log.warn(
            "a connection of {principal} was ended by {limit}",
            principal=callers.shown_principal(self.host, callers.principal(self.host, caller)),
            uid=caller.uid,
            limit=limit,
        )

    # Life.

    async def recover(self, startup: bool = False, stagger_s: float = 0.0) -> None:
        """
        Find what runs, go on with what was begun.

        @param startup: start, once, every sliver that should be up and is not: the host has just come up.
        @param stagger_s: seconds between two of these starts.
        """
        await self._recovery.run(startup, stagger_s)

    def reload(self, config: Config) -> tuple[dict[str, list[Any]], list[str]]:
        """
        Take over a new configuration, as far as that needs no restart.

        @return: as L{configuration.changes}.
        """
        changed, wanting_restart = configuration.changes(self.config, config)
        self.config = config
        self.tls.reload()
        self.follower.reloaded()
        self._operators_gid = _gid(config.operators)
        self.host.feed.kept = config.history.events
        self.host.touched()
        change = self._news()
        change.tell("host", "configuration", changed=changed, wants_restart=wanting_restart)
        entries.tell_done(change, "configuration", *changed, via="signal")
        self.commit(change).addErrback(lambda failure: failure.trap(StoreFailed) and None)
        self.audit.rotate()
        return changed, wanting_restart

    def round(self) -> None:
        """
        What is done every few seconds, as L{Rounds} say.
        """
        self._rounds.go()

    def close(self) -> None:
        """
        Take no further step; slivers go on as they are.
        """
        self.tls.close()
        self.idle.close()
        self.follower.close()
        self.expiry.close()
        self.sync.close()
        if self.wires is not None:
            self.wires.close()
        self.names.close()
        self.loan_clock.close()
        self.images.close()
        self.delegates.close()


def open_host(keeper: Store, name: str, config: Config) -> tuple[Host, Loaded]:
    """
    Read the state into memory.

    @raise CannotOpen: if it cannot be used.
    """
    host = Host(name, config.history.events)
    loaded = keeper.open()
    mend = host.load(loaded)
    if mend:
        keeper.submit(mend).addErrback(lambda failure: failure.trap(StoreFailed) and None)
    return host, loaded


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None
