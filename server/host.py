"""
What should be on this host: records in tables, changed only through a L{Change}.

No I/O and no timer here: a change collects the statements for the store; whoever made it hands them over, and calls
L{Host.committed} or L{Change.undo} when it is known how that went.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from hostline.protocol.errors import Exists, NoSuchExperiment
from hostline.server import records, store
from hostline.server.events import Event, Feed
from hostline.server.records import Delegate, Experiment, Operation, Plan, Project, Record, Sliver, Token, User

_R = TypeVar("_R", bound=Record)

#: Serials are reserved in the store by the block, so that most changes need not write the counter.
_BLOCK = 64


class Host:
    """
    The tables, the events, and what is derived from them.

    @ivar generation: goes up with every change of a record, a right or a status; what was derived before is stale.
    @ivar aside: what could not be read at start, in words.
    """

    def __init__(self, name: str, kept_events: int = 20000) -> None:
        self.name = name
        self.tables: dict[str, dict[str, Record]] = {kind: {} for kind in records.KINDS}
        self.feed = Feed(kept_events)
        self.generation = 0
        self.aside: list[str] = []
        self.instance = ""
        self.slivers_by_serial: dict[int, Sliver] = {}
        self.experiments_by_serial: dict[int, Experiment] = {}
        self._next_serial = 1
        self._reserved = 1
        self._next_cursor = 1
        self._by_uid: dict[int, list[Record]] | None = None

    def load(self, loaded: store.Loaded) -> list[store.Statement]:
        """
        Take over what the store held.

        @return: statements that set damaged records aside.
        """
        mend: list[store.Statement] = []
        for kind, key, body in loaded.records:
            try:
                record = records.KINDS[kind].from_json(body)
                self._set(kind, key, record)
            except (KeyError, records.Damaged) as error:
                self.aside.append(f"{kind} {key}: {error}")
                mend += [(store.SET_ASIDE, (kind, key, body, str(error))), (store.REMOVE, (kind, key))]
        events = []
        for cursor, body in loaded.events:
            try:
                events.append(Event.from_json(cursor, body))
            except ValueError:
                mend.append((store.FORGET_EVENTS, (0,)))
        self.feed.load(events, loaded.meta.get("forgotten", 0))
        self._next_cursor = max(self.feed.newest, loaded.meta.get("cursor", 0)) + 1
        self._next_serial = self._reserved = loaded.meta.get("serial", 1)
        self.aside += loaded.notes
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
        if change.events:
            self.feed.append(change.events)
        for step in change.when_committed:
            step()

    def touched(self) -> None:
        """
        Something that answers hang on has changed.
        """
        self.generation += 1

    def table(self, kind: type[_R]) -> dict[str, _R]:
        """
        @return: the records of one kind, by key; not to be changed.
        """
        return cast("dict[str, _R]", self.tables[kind.table])

    def get(self, kind: type[_R], key: str) -> _R | None:
        """
        @return: the record, None if there is none.
        """
        return cast("_R | None", self.tables[kind.table].get(key))

    def by_uid(self, uid: int) -> list[Record]:
        """
        @return: the user and the delegates that are known by this uid.
        """
        if self._by_uid is None:
            self._by_uid = {}
            for one in [*self.table(User).values(), *self.table(Delegate).values()]:
                if one.uid is not None:
                    self._by_uid.setdefault(one.uid, []).append(one)
        return self._by_uid.get(uid, [])

    def project_of(self, experiment: Experiment) -> Project | None:
        """
        @return: the project with the serial that the experiment names.
        """
        return self.project_by_serial(experiment.project)

    def project_by_serial(self, serial: int) -> Project | None:
        """
        @return: the project that has this serial, None if it is gone.
        """
        return next((one for one in self.table(Project).values() if one.serial == serial), None)

    def user_by_serial(self, serial: int) -> User | None:
        """
        @return: the user that has this serial, None if it is gone.
        """
        return next((one for one in self.table(User).values() if one.serial == serial), None)

    def plan_of(self, experiment: Experiment) -> Plan:
        """
        @raise NoSuchExperiment: if its topology was damaged and set aside.
        """
        plan = self.get(Plan, str(experiment.serial))
        if plan is None:
            raise NoSuchExperiment(f"the topology of {experiment.name} was damaged and set aside; terminate it")
        return plan

    def slivers_of(self, experiment: Experiment) -> dict[str, Sliver]:
        """
        @return: the slivers of a placed experiment, by node.
        """
        found = self.slivers_by_serial
        return {node: found[serial] for node, serial in experiment.slivers.items() if serial in found}

    def _set(self, kind: str, key: str, record: Record | None) -> Record | None:
        table = self.tables[kind]
        old = table.get(key)
        if record is None:
            table.pop(key, None)
        else:
            table[key] = record
        gone = old if record is None else None
        if isinstance(record or old, Sliver):
            self._index(self.slivers_by_serial, gone, record)
        elif isinstance(record or old, Experiment):
            self._index(self.experiments_by_serial, gone, record)
        elif isinstance(record or old, User | Delegate):
            self._by_uid = None
        return old

    @staticmethod
    def _index(index: dict[int, Any], gone: Record | None, record: Record | None) -> None:
        if record is not None:
            index[record.serial] = record
        elif gone is not None:
            index.pop(gone.serial, None)


class Change:
    """
    What one request, or one piece of news, changes: applied to memory as it is said, undone whole if it fails.

    @ivar statements: for the store.
    @ivar events: told when the change is durable.
    @ivar slivers: serials whose wanted state this touches, for the sync that follows.
    @ivar removed: serials of slivers whose record this removes.
    @ivar handed_over: whether the store has it, and will say how it went.
    @ivar when_committed: called once the change is durable.
    """

    def __init__(self, host: Host, now: float, request: str | None) -> None:
        self.host = host
        self.now = now
        self.request = request
        self.statements: list[store.Statement] = []
        self.events: list[Event] = []
        self.slivers: list[int] = []
        self.removed: list[int] = []
        self.handed_over = False
        self.when_committed: list[Callable[[], Any]] = []
        self._undo: list[Callable[[], Any]] = []

    def put(self, record: _R) -> _R:
        """
        Make or replace a record.
        """
        self._replace(record.table, record.key, record)
        self.statements.append((store.PUT, (record.table, record.key, record.as_json())))
        return record

    def add(self, record: _R) -> _R:
        """
        Make a record under a name that must be free.

        @raise Exists: if it is not.
        """
        table = self.host.tables[record.table]
        if record.key in table or (isinstance(record, records.Named) and _taken(record.key, table)):
            raise Exists(f"{record.table} {record.key} exists")
        return self.put(record)

    def remove(self, record: Record) -> None:
        """
        Remove a record.
        """
        self._replace(record.table, record.key, None)
        if isinstance(record, Sliver):
            self.removed.append(record.serial)
        self.statements.append((store.REMOVE, (record.table, record.key)))

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
        self.host.touched()

    def _replace(self, kind: str, key: str, record: Record | None) -> None:
        old = self.host._set(kind, key, record)
        self._undo.append(lambda: self.host._set(kind, key, old))
        if kind not in (Token.table, Operation.table):
            self.host.touched()


def _taken(name: str, table: dict[str, Record]) -> bool:
    # Names are told apart by more than case: they become host names.
    wanted = name.lower()
    return any(one.lower() == wanted for one in table)
