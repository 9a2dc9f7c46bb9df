"""
What should be on this host: records in tables, changed only through a L{Change}.

No I/O and no timer here: a change collects the statements for the store; whoever made it hands them over, and calls
L{Host.committed} or L{Change.undo} when it is known how that went.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from hostline.protocol.errors import BadValue, Exists, WrongState
from hostline.protocol.names import split_node
from hostline.server import records, store
from hostline.server.events import Event, Feed
from hostline.server.experiments.topology import Topology
from hostline.server.records import Delegate, Experiment, Image, Operation, Plan, Project, Record, Sliver, Token, User
from hostline.server.slivers import lent
from hostline.server.slivers.loans import Ledger

_R = TypeVar("_R", bound=Record)

#: Serials are reserved in the store by the block, so that most changes need not write the counter.
_BLOCK = 64


class Host:
    """
    The tables, the events, and what is derived from them.

    @ivar generation: goes up with every change of a record, a right or a status; what was derived before is stale.
    @ivar aside: what could not be read at start, in words.
    @ivar damaged: whether records may have been lost at this start.
    @ivar unended: operations that have not ended, by the serial of their subject and their own.
    @ivar ledger: what free slivers have before and after loans.
    @ivar unsettled: serials of slivers that a change touches which is not durable yet; nothing is done for them.
    """

    def __init__(self, name: str, kept_events: int = 20000) -> None:
        self.name = name
        self.tables: dict[str, dict[str, Record]] = {kind: {} for kind in records.KINDS}
        self.feed = Feed(kept_events)
        self.generation = 0
        self.aside: list[str] = []
        self.damaged = False
        self.instance = ""
        self.unended: dict[int, dict[int, Operation]] = {}
        self.unsettled: dict[int, int] = {}
        self.ledger = Ledger()
        self._by_serial: dict[str, dict[int, Any]] = {kind: {} for kind in records.KINDS}
        self.slivers_by_serial: dict[int, Sliver] = self._by_serial[Sliver.table]
        self.experiments_by_serial: dict[int, Experiment] = self._by_serial[Experiment.table]
        self._slivers_in: dict[int, dict[int, Sliver]] = {}
        self._free: dict[str, Sliver] = {}
        self._by_uid: dict[int, list[User | Delegate]] = {}
        self._memberships: dict[int, dict[int, None]] = {}
        self._of_principal: dict[tuple[str, str], dict[str, None]] = {}
        self._folded: dict[str, dict[str, str]] = {kind: {} for kind in records.KINDS}
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
            except records.Damaged as error:
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

    def by_uid(self, uid: int) -> list[User | Delegate]:
        """
        @return: the user and the delegates that are known by this uid.
        """
        return self._by_uid.get(uid, [])

    def by_serial(self, kind: type[_R], serial: int) -> _R | None:
        """
        @return: the record that has this serial, None if it is gone.
        """
        return cast("_R | None", self._by_serial[kind.table].get(serial))

    def project_of(self, experiment: Experiment) -> Project | None:
        """
        @return: the project with the serial that the experiment names.
        """
        return self.by_serial(Project, experiment.project)

    def is_member(self, user: User, project: Project) -> bool:
        """
        Whether the project has this user.
        """
        return project.serial in self._memberships.get(user.serial, ())

    def projects_of(self, user: User) -> list[Project]:
        """
        @return: the projects that have this user.
        """
        found = [self.by_serial(Project, serial) for serial in self._memberships.get(user.serial, ())]
        return [project for project in found if project is not None]

    def of_principal(self, kind: type[Operation] | type[Token], principal: str) -> dict[str, None]:
        """
        @return: the keys of a principal's operations, or of its tokens; not to be changed.
        """
        return self._of_principal.get((kind.table, principal), {})

    def plan_of(self, experiment: Experiment) -> Plan:
        """
        @raise WrongState: if its topology was damaged and set aside.
        """
        plan = self.get(Plan, str(experiment.serial))
        if plan is None:
            raise WrongState(f"the topology of {experiment.name} was damaged and set aside; terminate it")
        return plan

    def slivers_of(self, experiment: Experiment) -> dict[str, Sliver]:
        """
        @return: the slivers of a placed experiment, by node.
        """
        found = self.slivers_by_serial
        return {node: found[serial] for node, serial in experiment.slivers.items() if serial in found}

    def slivers_in(self, experiment: Experiment) -> list[Sliver]:
        """
        @return: those of L{slivers_of}, and those that are still being taken away though others have their nodes.
        """
        return list(self._slivers_in.get(experiment.serial, {}).values())

    def sliver_named(self, name: str) -> Sliver | None:
        """
        @param name: of a free sliver, or of a node in full.
        @return: it; None if there is none, or the node is not placed.
        """
        if "." not in name:
            return self._free.get(name)
        node, experiment = split_node(name)
        found = self.get(Experiment, experiment)
        return self.slivers_by_serial.get(found.slivers.get(node, 0)) if found is not None else None

    def free_slivers(self) -> list[Sliver]:
        """
        @return: the slivers that are no nodes of experiments.
        """
        return list(self._free.values())

    def effective(self, sliver: Sliver) -> dict[str, int]:
        """
        @return: resource to amount, after loans.
        """
        return dict(self.ledger.effective(sliver.serial)) if sliver.free else sliver.rspec

    def image_name(self, sliver: Sliver) -> str | None:
        """
        @return: the name of the image that a sliver is made from.
        """
        image = self.by_serial(Image, sliver.image) if sliver.image is not None else None
        return image.name if image is not None else None

    def loans_of(self, sliver: Sliver) -> list[dict[str, Any]]:
        """
        @return: what a sliver lends, as on the wire.
        """
        return lent.bodies(self, sliver)

    def keys_of(self, sliver: Sliver) -> tuple[str, ...]:
        """
        @return: the keys that may log in to a free sliver: its own, its owner's and its users'.
        """
        owner = sliver.owner.removeprefix("user:") if sliver.owner.startswith("user:") else ""
        people = [*([int(owner)] if owner.isdecimal() else []), *sliver.users]
        found = (self.by_serial(User, serial) for serial in people)
        return tuple(dict.fromkeys((*sliver.keys, *(key for user in found if user is not None for key in user.keys))))

    def taken(self, record: Record) -> bool:
        """
        Whether another record has this key. Names are told apart by more than case: they become host names.
        """
        if isinstance(record, Sliver) and record.free:
            return record.name.lower() in self._folded[Sliver.table]
        folded = isinstance(record, records.Named) and record.key.lower() in self._folded[record.table]
        return folded or record.key in self.tables[record.table]

    def _set(self, kind: str, key: str, record: Record | None) -> Record | None:
        table = self.tables[kind]
        old = table.get(key)
        if record is None:
            table.pop(key, None)
        else:
            table[key] = record
        if old is not None and (record is None or record.serial != old.serial):
            self._by_serial[kind].pop(old.serial, None)
        if record is not None:
            self._by_serial[kind][record.serial] = record
        if isinstance(record or old, records.Named):
            folded = self._folded[kind]
            if record is not None:
                folded[key.lower()] = key
            elif folded.get(key.lower()) == key:
                del folded[key.lower()]
        self._index(old, record)
        return old

    def _index(self, old: Record | None, record: Record | None) -> None:
        lent.indexed(self.ledger, old, record)
        if isinstance(old, User | Delegate) and old.uid is not None:
            left = [one for one in self._by_uid[old.uid] if one is not old]
            if left:
                self._by_uid[old.uid] = left
            else:
                del self._by_uid[old.uid]
        if isinstance(record, User | Delegate) and record.uid is not None:
            self._by_uid[record.uid] = [*self._by_uid.get(record.uid, ()), record]
        if isinstance(old, Project) or isinstance(record, Project):
            before = {(old.serial, one) for one in old.members} if isinstance(old, Project) else set()
            after = {(record.serial, one) for one in record.members} if isinstance(record, Project) else set()
            for serial, member in before - after:
                _drop(self._memberships, member, serial)
            for serial, member in after - before:
                self._memberships.setdefault(member, {})[serial] = None
        if isinstance(old, Operation | Token):
            where = (old.table, old.principal)
            self._of_principal[where].pop(old.key)
            if not self._of_principal[where]:
                del self._of_principal[where]
        if isinstance(record, Operation | Token):
            self._of_principal.setdefault((record.table, record.principal), {})[record.key] = None
        if isinstance(old, Sliver):
            if old.free:
                del self._free[old.name]
                del self._folded[Sliver.table][old.name.lower()]
            else:
                _drop(self._slivers_in, old.experiment, old.serial)
        if isinstance(record, Sliver):
            if record.free:
                self._free[record.name] = record
                self._folded[Sliver.table][record.name.lower()] = record.name
            else:
                self._slivers_in.setdefault(record.experiment, {})[record.serial] = record
        if isinstance(old, Operation) and old.ended is None:
            _drop(self.unended, old.subject, old.serial)
        if isinstance(record, Operation) and record.ended is None:
            self.unended.setdefault(record.subject, {})[record.serial] = record


class Change:
    """
    What one request, or one piece of news, changes: applied to memory as it is said, undone whole if it fails.

    @ivar statements: for the store.
    @ivar events: told when the change is durable.
    @ivar slivers: serials of slivers that this touches, for the sync that follows.
    @ivar removed: serials of slivers whose record this removes.
    @ivar frees: whether it leads to more room on the host, so that it is made even if the disk is full; so is news.
    @ivar handed_over: whether the store has it, and will say how it went.
    @ivar when_committed: called once the change is durable.
    """

    def __init__(self, host: Host, now: float, request: str | None) -> None:
        self.host = host
        self.now = now
        self.request = request
        self.statements: list[store.Statement] = []
        self.events: list[Event] = []
        self.slivers: dict[int, None] = {}
        self.removed: list[int] = []
        self.frees = request is None
        self.handed_over = False
        self.when_committed: list[Callable[[], Any]] = []
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

    def _replace(self, kind: str, key: str, record: Record | None) -> None:
        old = self.host._set(kind, key, record)
        if isinstance(old, User):  # whom its keys let in follows it
            for sliver in self.host.free_slivers():
                if old.serial in sliver.users or sliver.owner == f"user:{old.serial}":
                    self.touch(sliver.serial)
        self._undo.append(lambda: self.host._set(kind, key, old))
        lent.followed(self, old, record)
        if kind not in (Token.table, Operation.table):
            self.host.touched()


def _read(kind: str, key: str, body: str) -> Record:
    if kind not in records.KINDS:
        raise records.Damaged(f"no kind of record {kind!r}"[:200])
    record = records.KINDS[kind].from_json(body)
    if record.key != key:
        raise records.Damaged(f"{kind} record: want the key {key}, got {record.key}"[:200])
    if isinstance(record, Plan):
        try:
            Topology.from_value(record.topology)
        except BadValue as error:
            raise records.Damaged(f"{kind} record: {error}"[:200]) from error
        if not all({"line", "text"} <= one.keys() for one in record.warnings):
            raise records.Damaged(f"{kind} record: want line and text in each warning")
    return record


def _drop(index: dict[int, dict[int, Any]], first: int, second: int) -> None:
    inner = index.get(first, {})
    inner.pop(second, None)
    if not inner:
        index.pop(first, None)
