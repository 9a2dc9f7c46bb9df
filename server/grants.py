"""
Answers about delegates: who may say a few commands of a few experiments and slivers, by ssh or from an account that is
there already.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
from attrs import frozen

from hostline.protocol.commands import OWNER, TABLE
from hostline.protocol.errors import BadValue, Denied, HostError, NoSuchDelegate, TooMany
from hostline.protocol.names import near, shown
from hostline.server import callers, rights
from hostline.server.asking import Ask, responds
from hostline.server.host import Host
from hostline.server.people import check_uid
from hostline.server.records import Delegate, Experiment
from hostline.server.supervise.keyline import key_line

#: In the place of names: every experiment and sliver.
EVERY = "*"
#: How the name of a delegate begins that a user made.
PREFIX = "del_"
#: A body, at once or, where an account is made or removed, once that is done.
_Soon = dict[str, Any] | Coroutine[Any, Any, dict[str, Any]]


def delegate_body(host: Host, delegate: Delegate, problems: list[str]) -> dict[str, Any]:
    """
    A delegate as it goes on the wire; what is gone is no longer named.
    """
    known = (host.experiments_by_serial.get(one) or host.slivers_by_serial.get(one) for one in delegate.targets)
    slivers = sorted(one.name for one in known if one is not None)
    return {
        "name": delegate.name,
        "serial": delegate.serial,
        "uid": delegate.uid,
        "keys": list(delegate.keys),
        "account": delegate.account,
        "commands": list(delegate.commands),
        "slivers": [EVERY] if delegate.every else slivers,
        "every": delegate.every,
        "grantor": callers.shown_principal(host, delegate.grantor) if delegate.grantor else None,
        "problems": problems,
    }


@frozen
class Wanted:
    """
    What is granted, with names instead of serials; None: as before.
    """

    keys: list[str] | None
    commands: list[str] | None
    slivers: list[str] | None

    def on(self, ask: Ask, before: Delegate) -> Delegate:
        """
        @return: the delegate as it is wanted.
        @raise HostError: if that cannot be granted.
        """
        after = before
        if before.grantor:
            _check_grantor(ask, before)
        if self.keys is not None:
            after = attrs.evolve(after, keys=_keys(self.keys))
        if self.commands is not None:
            after = attrs.evolve(after, commands=_commands(self.commands, bool(before.grantor)))
        if self.slivers is not None:
            every = EVERY in self.slivers
            if every and len(self.slivers) > 1:
                raise BadValue(f"slivers: want {EVERY!r} alone, or names")
            if every and (before.grantor or not callers.is_operator(ask.host, ask.caller)):
                raise Denied(f"slivers={EVERY} is for operators, of delegates that they made")
            after = attrs.evolve(after, every=every, targets=() if every else _targets(ask, self.slivers))
        return after


@responds(TABLE["add_delegate"])
def add_delegate(
    ask: Ask, name: str, uid: int | None, keys: list[str], commands: list[str], slivers: list[str]
) -> _Soon:
    """
    Let somebody say a few commands of a few experiments and slivers.
    """
    wanted = Wanted(keys, commands, slivers)
    operator = callers.is_operator(ask.host, ask.caller)
    grantor = "" if operator else ask.principal
    if uid is None:
        wanted.on(ask, Delegate(serial=0, name=name, uid=0, grantor=grantor))
        return _with_account(ask, name, wanted, grantor)
    if not operator:
        raise Denied("add_delegate uid= is for operators; leave it out to have an account made")
    if keys:
        raise BadValue(
            f"keys: the account of uid {uid} is not ours, so its keys are not; leave uid= out to have one made"
        )
    check_uid(ask, uid)
    before = Delegate(serial=ask.change.serial(), name=name, uid=uid)
    return _body(ask, ask.change.add(wanted.on(ask, before)))


async def _with_account(ask: Ask, name: str, wanted: Wanted, grantor: str) -> dict[str, Any]:
    delegates = ask.daemon.delegates
    delegates.check_able()
    if not name[0].isalpha():  # useradd makes an account of digits, which many a program then takes for a uid
        raise BadValue(f"delegate: want a name that begins with a letter for an account, got {shown(name)}")
    first = ask.host.change(ask.now, ask.request)
    serial = first.serial()
    before = Delegate(serial=serial, name=name, uid=delegates.allocate(serial), account=True, grantor=grantor)
    with delegates.reserved(before):
        wanted.on(ask, before)
        await ask.daemon.commit(first)
        await delegates.ensure(wanted.on(ask, before))
        # What was so before the account was made need not be so any more; if it is not, the account goes again.
        with _or_follow(ask, before):
            return _body(ask, ask.change.add(wanted.on(ask, before)))


@responds(TABLE["set_delegate"])
def set_delegate(
    ask: Ask, name: str, keys: list[str] | None, commands: list[str] | None, slivers: list[str] | None
) -> _Soon:
    """
    Grant other commands or slivers, or let in with other keys.
    """
    wanted = Wanted(keys, commands, slivers)
    delegate: Delegate = ask.target
    ask.daemon.delegates.check_stays(delegate)
    if keys is not None and delegate.account:
        return _with_keys(ask, wanted)
    if keys:
        raise BadValue(f"keys: the keys of uid {delegate.uid} are its own business")
    return _body(ask, ask.change.put(wanted.on(ask, delegate)))


async def _with_keys(ask: Ask, wanted: Wanted) -> dict[str, Any]:
    delegates, before = ask.daemon.delegates, ask.target
    await delegates.ensure(wanted.on(ask, before))
    with _or_follow(ask, before):
        return _body(ask, ask.change.put(wanted.on(ask, ask.target)))


@responds(TABLE["remove_delegate"])
def remove_delegate(ask: Ask, name: str) -> _Soon:
    """
    End a grant, and the account that was made for it.
    """
    if ask.target.account:
        return _without_account(ask)
    body = _body(ask, ask.target)
    ask.change.remove(ask.target)
    return body


async def _without_account(ask: Ask) -> dict[str, Any]:
    delegates, before = ask.daemon.delegates, ask.target
    body = _body(ask, before)
    with delegates.leaving(before):
        await delegates.remove(before)
        with _or_follow(ask, before):
            ask.change.remove(ask.target)
            return body


@responds(TABLE["delegates"])
def delegates(ask: Ask) -> list[dict[str, Any]]:
    """
    Name the delegates that the caller may know of.
    """
    return [_body(ask, one) for _, one in sorted(ask.host.table(Delegate).items()) if ask.sees(one)]


def _body(ask: Ask, delegate: Delegate) -> dict[str, Any]:
    return delegate_body(ask.host, delegate, ask.daemon.delegates.problems(delegate.serial))


@contextmanager
def _or_follow(ask: Ask, record: Delegate) -> Iterator[None]:
    """
    In here the record follows its account, after another look at rights and target. If it does not come to that, or is
    undone later, the account follows the record.
    """
    delegates = ask.daemon.delegates
    try:
        ask.look_again()
        if ask.target is not None and ask.target.serial != record.serial:
            raise NoSuchDelegate(f"delegate {record.name} was removed meanwhile")
        ask.change.when_undone.append(lambda: delegates.follow(record))
        yield
    except HostError:
        delegates.follow(record)
        raise


def _keys(keys: list[str]) -> tuple[str, ...]:
    for at, key in enumerate(keys):
        try:
            key_line(key)
        except ValueError as error:
            raise BadValue(f"keys: item {at + 1}: {error}") from None
    return tuple(dict.fromkeys(keys))


def _check_grantor(ask: Ask, delegate: Delegate) -> None:
    """
    What is so of every delegate that a user has for what it owns.

    @raise BadValue: if its name could be a person's.
    @raise TooMany: if the user has as many as it may.
    """
    if not delegate.name.startswith(PREFIX):
        raise BadValue(f"delegate: want a name that begins with {PREFIX}, got {delegate.name}")
    most = ask.daemon.config.delegates.per_user
    others = [*ask.host.table(Delegate).values(), *ask.daemon.delegates.coming]
    own = {one.name for one in others if one.grantor == delegate.grantor} - {delegate.name}
    if len(own) >= most:
        raise TooMany(f"want at most {most} delegates of one user; remove one of {', '.join(sorted(own)[:20])}")


def _commands(commands: list[str], by_owner: bool) -> tuple[str, ...]:
    for command in commands:
        if command not in TABLE:
            raise BadValue(f"commands: no command {shown(command)}{near(command, list(TABLE))}")
        if not rights.grantable(TABLE[command]):
            if by_owner:
                raise Denied(f"commands: {command} is not for owners of slivers and experiments to hand on")
            raise BadValue(f"commands: want what is for delegates or anyone, got {command}")
    return tuple(dict.fromkeys(commands))


def _targets(ask: Ask, names: list[str]) -> tuple[int, ...]:
    targets = []
    operator = callers.is_operator(ask.host, ask.caller)
    for target in names:
        found = ask.host.get(Experiment, target) if "/" in target else ask.host.sliver_named(target)
        looked_at = found or rights.stand_in_for(target)  # which takes as long as what is hidden
        seen = rights.sees(ask.host, ask.caller, looked_at, ask.row.name)
        if found is None or not seen:
            no_such = rights.no_such_experiment if "/" in target else rights.no_such_sliver
            raise no_such(ask.host, ask.caller, ask.row, target)
        if not operator and OWNER not in rights.relations(ask.host, ask.caller, found, ask.row.name):
            raise Denied(f"slivers: what is said of {target} is for its owner, and operators, to grant")
        targets.append(found.serial)
    return tuple(dict.fromkeys(targets))
