"""
The tables of a host: all records, and what else than their keys they are found by.

Every index is kept up to date with each record that is put or taken away; none is kept in the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, cast

from hostline.protocol.errors import WrongState
from hostline.protocol.names import split_node
from hostline.server.record import Named, Record
from hostline.server.records import KINDS, Delegate, Experiment, Image, Operation, Plan, Project, Sliver, Token, User
from hostline.server.slivers import lent
from hostline.server.slivers.loans import Ledger

_R = TypeVar("_R", bound=Record)
_N = TypeVar("_N", bound=Named)


class Tables:
    """
    The records of one host.

    @ivar unended: operations that have not ended, by the serial of their subject and their own.
    @ivar ledger: what free slivers have before and after loans.
    """

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        self.unended: dict[int, dict[int, Operation]] = {}
        self.ledger = Ledger()
        self._by_serial: dict[str, dict[int, Any]] = {kind: {} for kind in KINDS}
        self.slivers_by_serial: dict[int, Sliver] = self._by_serial[Sliver.table]
        self.experiments_by_serial: dict[int, Experiment] = self._by_serial[Experiment.table]
        self._slivers_in: dict[int, dict[int, Sliver]] = {}
        self._free: dict[str, Sliver] = {}
        self._by_uid: dict[int, list[User | Delegate]] = {}
        self._by_name: dict[str, User] = {}
        self._memberships: dict[int, dict[int, None]] = {}
        self._of_principal: dict[tuple[str, str], dict[str, None]] = {}
        self._folded: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}

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

    def by_names(self, names: Iterable[str]) -> list[User]:
        """
        @param names: those of one certificate.
        @return: the users that are known by any of them; more than one if the certificate is of two.
        """
        found = {one.serial: one for name in names if (one := self._by_name.get(name)) is not None}
        return list(found.values())

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

    def is_in(self, user: User, project: int) -> bool:
        """
        The same, by the serial of a project that need not be there.
        """
        return project in self._memberships.get(user.serial, ())

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
        # The same lines whether there is one: what is hidden takes the same time as what is not there.
        slivers = found.slivers if found is not None else {}
        return self.slivers_by_serial.get(slivers.get(node, 0))

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

    def keys_of(self, sliver: Sliver) -> tuple[str, ...]:
        """
        @return: the keys that may log in to a free sliver: its own, its owner's and its users'; to a node: those of the
            owner of its experiment and of its project's members.
        """
        if not sliver.free:
            return self._keys_of_node(sliver.experiment)
        owner = sliver.owner.removeprefix("user:") if sliver.owner.startswith("user:") else ""
        people = [*([int(owner)] if owner.isdecimal() else []), *sliver.users]
        found = (self.by_serial(User, serial) for serial in people)
        return tuple(dict.fromkeys((*sliver.keys, *(key for user in found if user is not None for key in user.keys))))

    def _keys_of_node(self, serial: int) -> tuple[str, ...]:
        experiment = self.experiments_by_serial.get(serial)
        if experiment is None:
            return ()
        owner = experiment.owner.removeprefix("user:") if experiment.owner.startswith("user:") else ""
        project = self.project_of(experiment)
        people = [*([int(owner)] if owner.isdecimal() else []), *(project.members if project is not None else ())]
        found = (self.by_serial(User, one) for one in people)
        return tuple(dict.fromkeys(key for user in found if user is not None for key in user.keys))

    def taken(self, record: Record) -> bool:
        """
        Whether another record has this key. Names are told apart by more than case: they become host names.
        """
        if isinstance(record, Sliver) and record.free:
            return record.name.lower() in self._folded[Sliver.table]
        folded = isinstance(record, Named) and record.key.lower() in self._folded[record.table]
        return folded or record.key in self.tables[record.table]

    def spelt(self, kind: type[_N], key: str) -> _N | None:
        """
        @param key: in any case.
        @return: the record, None if there is none.
        """
        return self.get(kind, self._folded[kind.table].get(key.lower(), ""))

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
        if isinstance(record or old, Named):
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
        if isinstance(old, User):
            for name in old.certificates:
                self._by_name.pop(name, None)
        if isinstance(record, User):
            for name in record.certificates:
                self._by_name[name] = record
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


def _drop(index: dict[int, dict[int, Any]], first: int, second: int) -> None:
    inner = index.get(first, {})
    inner.pop(second, None)
    if not inner:
        index.pop(first, None)
