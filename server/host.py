"""
What should be on this host: records in tables, changed only through a L{Change}.

No I/O and no timer here: a change collects the statements for the store; whoever made it hands them over, and calls
L{Host.committed} or L{Change.undo} when it is known how that went.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hostline.protocol.errors import BadValue, Exists
from hostline.server import store
from hostline.server.events import Event, Feed
from hostline.server.record import Damaged, Record
from hostline.server.records import KINDS, Delegate, Experiment, Operation, Plan, Project, Sliver, Token, User
from hostline.server.slivers import lent
from hostline.server.tables import Tables

_R = TypeVar("_R", bound=Record)

#: Serials are reserved in the store by the block, so that most changes need not write the counter.
_BLOCK = 64


class Host(Tables):
    """
    The tables and the events.

    @ivar generation: goes up with every change of a record, a right or a status; what was derived before is stale.
    @ivar aside: what could not be read at start, in words.
    @ivar damaged: whether records may have been lost at this start.
    @ivar unsettled: serials of slivers that a change touches which is not durable yet; nothing is done for them.
    """

    def __init__(self, name: str, kept_events: int = 20000) -> None:
        super().__init__()
        self.name = name
        self.feed = Feed(kept_events)
        self.generation = 0
        self.aside: list[str] = []
        self.damaged = False
        self.instance = ""
        self.unsettled: dict[int, int] = {}
        self._next_serial = 1
        self._reserved = 1
        self._next_cursor = 1

    def load(self, loaded: store.Loaded) -> list[store.Statement]:
        """
        Take over what the store held.

        @return: statements that set damaged records aside.
        """
        mend: list[store.Statement] = []
        for kind, key, body in loaded.records:
            try:
                self._set(kind, key, _read(kind, key, body))
            except Damaged as error:
                self.aside.append(f"{kind} {key}: {error}")
                mend += [(store.SET_ASIDE, (kind, key, body, str(error))), (store.REMOVE, (kind, key))]
        events = []
        for cursor, body in loaded.events:
            try:
                events.append(Event.from_json(cursor, body))
            except ValueError as error:
                self.aside.append(f"event {cursor}: {error}"[:200])
        self.ledger.take()
        self.feed.load(events, loaded.meta.get("forgotten", 0))
        self._next_cursor = max(self.feed.newest, loaded.meta.get("cursor", 0)) + 1
        # The counter may be lost with a damaged file; what is in use must not be given out again.
        used = max((max(index, default=0) for index in self._by_serial.values()), default=0)
        self._next_serial = self._reserved = max(loaded.meta.get("serial", 1), used + 1)
        self.aside += loaded.notes
        self.damaged = loaded.salvaged or bool(mend)
        return mend

    def change(self, now: float, request: str | None = None) -> Change:
        """
        Begin a change.

        @param request: the id of the request that makes it, for its events.
        """
        return Change(self, now, request)

    def committed(self, change: Change) -> None:
        """
        The change is durable: tell who listens.
        """
        change.settle()
        if change.events:
            self.feed.append(change.events)
        for step in change.when_committed:
            step()

    def touched(self) -> None:
        """
        Something that answers hang on has changed.
        """
        self.generation += 1

    def loans_of(self, sliver: Sliver) -> list[dict[str, Any]]:
        """
        @return: what a sliver lends, as on the wire.
        """
        return lent.bodies(self, sliver)


class Change:
    """
    What one request, or one piece of news, changes: applied to memory as it is said, undone whole if it fails.

    @ivar statements: for the store.
    @ivar events: told when the change is durable.
    @ivar slivers: serials of slivers that this touches, for the sync that follows.
    @ivar removed: serials of slivers whose record this removes.
    @ivar people: whether a user or a delegate is no longer what it was, or is new.
    @ivar frees: whether it leads to more room on the host, so that it is made even if the disk is full; so is news.
    @ivar handed_over: whether the store has it, and will say how it went.
    @ivar when_committed: called once the change is durable; C{when_undone}: once it is taken back instead.
    """

    def __init__(self, host: Host, now: float, request: str | None) -> None:
        self.host = host
        self.now = now
        self.request = request
        self.statements: list[store.Statement] = []
        self.events: list[Event] = []
        self.slivers: dict[int, None] = {}
        self.removed: list[int] = []
        self.people = False
        self.frees = request is None
        self.handed_over = False
        self.when_committed: list[Callable[[], Any]] = []
        self.when_undone: list[Callable[[], Any]] = []
        self._undo: list[Callable[[], Any]] = []

    def put(self, record: _R) -> _R:
        """
        Make or replace a record.
        """
        body = record.as_json()
        self._replace(record.table, record.key, record)
        if isinstance(record, Sliver):
            self.touch(record.serial)
        self.statements.append((store.PUT, (record.table, record.key, body)))
        return record

    def add(self, record: _R) -> _R:
        """
        Make a record under a name that must be free.

        @raise Exists: if it is not.
        """
        if self.host.taken(record):
            name = record.name if isinstance(record, Sliver) else record.key
            same = self.host.sliver_named(name) if isinstance(record, Sliver) else self.host.get(type(record), name)
            case = "" if same is not None else "; names differ in more than case"
            raise Exists(f"{record.table} {name} exists{case}")
        return self.put(record)

    def remove(self, record: Record) -> None:
        """
        Remove a record.
        """
        self._replace(record.table, record.key, None)
        if isinstance(record, Sliver):
            self.removed.append(record.serial)
            self.touch(record.serial)
        self.statements.append((store.REMOVE, (record.table, record.key)))

    def touch(self, serial: int) -> None:
        """
        Have the sync leave this sliver alone until the change is settled, and then look at it.
        """
        if serial not in self.slivers:
            self.slivers[serial] = None
            self.host.unsettled[serial] = self.host.unsettled.get(serial, 0) + 1

    def settle(self) -> None:
        """
        It is known how the change went.
        """
        for serial in self.slivers:
            self.host.unsettled[serial] -= 1
            if not self.host.unsettled[serial]:
                del self.host.unsettled[serial]

    def serial(self) -> int:
        """
        A serial that was never used before.
        """
        host = self.host
        serial = host._next_serial
        host._next_serial += 1
        if serial >= host._reserved:
            before, host._reserved = host._reserved, serial + _BLOCK
            self._undo.append(lambda: setattr(host, "_reserved", before))
            self.statements.append((store.SET_META, ("serial", host._reserved)))
        return serial

    def tell(self, topic: str, what: str, scope: tuple[int, int] | None = None, **about: Any) -> None:
        """
        An event.

        @param about: what it concerns.
        """
        host = self.host
        cursor, host._next_cursor = host._next_cursor, host._next_cursor + 1
        body = {"cursor": cursor, "time": self.now, "topic": topic, "what": what, "request": self.request, **about}
        event = Event(cursor, body, scope)
        self.events.append(event)
        self.statements.append((store.AUDIT if topic == "audit" else store.EVENT, (cursor, event.as_json())))
        if cursor % 512 == 0:
            oldest = cursor - host.feed.kept
            self.statements += [(store.FORGET_EVENTS, (oldest,)), (store.SET_META, ("forgotten", max(oldest, 0)))]

    def undo(self) -> None:
        """
        Take memory back to what it was before this change.
        """
        for step in reversed(self._undo):
            step()
        self._undo.clear()
        self.host.ledger.take()
        self.settle()
        self.host.touched()
        for step in self.when_undone:
            step()

    def _replace(self, kind: str, key: str, record: Record | None) -> None:
        old = self.host._set(kind, key, record)
        if isinstance(old, User):  # whom its keys let in follows it
            for sliver in self.host.free_slivers():
                if old.serial in sliver.users or sliver.owner == f"user:{old.serial}":
                    self.touch(sliver.serial)
            if not isinstance(record, User) or record.keys != old.keys:
                self._touch_nodes(lambda one: one.owner == f"user:{old.serial}" or self.host.is_in(old, one.project))
        if isinstance(old, Project) and isinstance(record, Project) and record.members != old.members:
            self._touch_nodes(lambda one: one.project == old.serial)
        self.people = self.people or isinstance(old or record, User | Delegate)
        self._undo.append(lambda: self.host._set(kind, key, old))
        lent.followed(self, old, record)
        if kind not in (Token.table, Operation.table):
            self.host.touched()

    def _touch_nodes(self, chosen: Callable[[Experiment], bool]) -> None:
        for experiment in self.host.experiments_by_serial.values():
            if chosen(experiment):
                for sliver in self.host.slivers_in(experiment):
                    self.touch(sliver.serial)


def _read(kind: str, key: str, body: str) -> Record:
    if kind not in KINDS:
        raise Damaged(f"no kind of record {kind!r}"[:200])
    record = KINDS[kind].from_json(body)
    if record.key != key:
        raise Damaged(f"{kind} record: want the key {key}, got {record.key}"[:200])
    if isinstance(record, Plan):
        try:
            _ = record.built
        except BadValue as error:
            raise Damaged(f"{kind} record: {error}"[:200]) from error
        if not all({"line", "text"} <= one.keys() for one in record.warnings):
            raise Damaged(f"{kind} record: want line and text in each warning")
    return record
