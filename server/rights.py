"""
How callers are related to what they ask about, and whether that lets them.

What a caller may not see is answered exactly like what does not exist, in the same time too: where there is no record,
a stand-in that is nobody's is looked at in its place, so that both ways run through the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from hostline.protocol.commands import ANYONE, BY_GRANT, KNOWN, MEMBER, OPERATOR, OWNER, SELF, STRANGER, TABLE, Command
from hostline.protocol.errors import (
    Denied,
    HostError,
    NoSuchDelegate,
    NoSuchExperiment,
    NoSuchNode,
    NoSuchOperation,
    NoSuchProject,
    NoSuchSliver,
    NoSuchUser,
)
from hostline.protocol.names import near, split_node
from hostline.server.callers import ENROL, Caller, is_operator, known, principal, roles, shown_principal, user_of
from hostline.server.host import Host
from hostline.server.record import Record
from hostline.server.records import Delegate, Experiment, Operation, Project, Sliver, User

#: A delegate that was granted one of these of an experiment hears what comes to be of it.
EVENTS = ("events", "watch")
#: What a command is about that an owner may let others say.
_OWNED = ("experiment", "node", "sliver")
#: How many names at most are compared with a misspelt one.
_COMPARED = 300


def relations(host: Host, caller: Caller, target: Record, command: str) -> frozenset[str]:
    """
    The relations of the caller to one record.

    @param command: a delegate is related only by the commands it was granted.
    """
    if caller.sliver:
        return frozenset({SELF} if isinstance(target, Sliver) and target.serial == caller.sliver else ())
    if caller.via == ENROL:
        return frozenset()
    found = {ANYONE}
    if is_operator(host, caller):
        found.add(OPERATOR)
    user = user_of(host, caller)
    if user is not None:
        found.add(KNOWN)
    if isinstance(target, Sliver) and not target.free:
        target = host.experiments_by_serial.get(target.experiment, _NO_EXPERIMENT)
    if isinstance(target, Sliver | Experiment):
        # Not one step less for what is nobody's.
        member = user is not None and host.is_in(user, target.project)
        uses = user is not None and isinstance(target, Sliver) and user.serial in target.users
        own = user is not None and owns(host, user, target)
        if own:
            found |= {MEMBER, OWNER}
        if member or uses:
            found.add(MEMBER)
        if any(_holds(host, one, target) for one in _delegates(host, caller, (command,))):
            found.add(BY_GRANT)
    elif isinstance(target, Project):
        if user is not None and host.is_in(user, target.serial):
            found.add(MEMBER)
    elif isinstance(target, Operation):
        if target.caller == principal(host, caller) and _may_still(host, caller, target):
            found.add(OWNER)
    elif isinstance(target, Delegate) and user is not None and target.grantor == f"user:{user.serial}":
        found.add(OWNER)
    return frozenset(found)


def owns(host: Host, user: User, target: Experiment | Sliver) -> bool:
    """
    Whether an experiment or a free sliver is a user's own; what it made in a project is its own while it is a member.
    """
    own = target.owner == f"user:{user.serial}"
    return own and (isinstance(target, Sliver) or host.is_in(user, target.project))


def grantable(row: Command) -> bool:
    """
    Whether the owner of an experiment or a sliver may let others say this of it: what those who were granted it may
    say, and he himself.
    """
    if ANYONE in row.who:  # a list: what is seen of it there
        return row.target in (None, *_OWNED)
    return row.target in _OWNED and {OWNER, BY_GRANT} <= row.who


def _holds(host: Host, delegate: Delegate, target: Experiment | Sliver) -> bool:
    """
    Whether a delegate's grant is about this, and whoever made it may still make it.
    """
    if not delegate.every and target.serial not in delegate.targets:
        return False
    if not delegate.grantor:
        return True
    user = _grantor(host, delegate)
    return user is not None and owns(host, user, target)


def _held(host: Host, delegate: Delegate, scope: tuple[int, int]) -> bool:
    """
    The same, of what is gone by now.
    """
    if not delegate.every and scope[1] not in delegate.targets:
        return False
    if not delegate.grantor:
        return True
    user = _grantor(host, delegate)
    return user is not None and (not scope[0] or host.is_in(user, scope[0]))


def _grantor(host: Host, delegate: Delegate) -> User | None:
    serial = delegate.grantor.removeprefix("user:")
    return host.by_serial(User, int(serial)) if serial.isdecimal() else None


def _may_still(host: Host, caller: Caller, operation: Operation) -> bool:
    """
    Whether the caller, who began an operation, could begin it now; of an experiment that is gone, whether it could see
    it if it were there.
    """
    subject = host.experiments_by_serial.get(operation.subject) or host.slivers_by_serial.get(operation.subject)
    row = TABLE.get(operation.command)
    if row is not None and row.target is None:  # about no record: the role decides
        return not roles(host, caller).isdisjoint(row.who)
    if subject is None or row is None:
        return _in_scope(host, caller, (operation.scope, operation.subject), (operation.command,))
    return not relations(host, caller, subject, operation.command).isdisjoint(row.who)


def sees(host: Host, caller: Caller, target: Record, command: str) -> bool:
    """
    Whether the caller may know that this record exists.
    """
    return not relations(host, caller, target, command).isdisjoint((MEMBER, OWNER, BY_GRANT, OPERATOR, SELF))


def visible(host: Host, caller: Caller, command: str) -> list[Experiment]:
    """
    @return: the experiments that the caller may know of, by name.
    """
    every = list(host.table(Experiment).values())
    if not is_operator(host, caller):
        user = user_of(host, caller)
        projects = {one.serial for one in host.projects_of(user)} if user is not None else set()
        delegates = _delegates(host, caller, (command,))
        if not projects and not delegates:
            return []
        every = [one for one in every if one.project in projects or any(_holds(host, each, one) for each in delegates)]
    return sorted(every, key=lambda one: one.name)


def visible_slivers(host: Host, caller: Caller, command: str) -> list[Sliver]:
    """
    @return: the free slivers that the caller may know of, by name.
    """
    every = is_operator(host, caller)
    seen = [one for one in host.free_slivers() if every or sees(host, caller, one, command)]
    return sorted(seen, key=lambda one: one.name)


def sees_scope(host: Host, caller: Caller, scope: tuple[int, int]) -> bool:
    """
    Whether an event about this project and this experiment or sliver, which may be gone by now, is for the caller.
    """
    return is_operator(host, caller) or _in_scope(host, caller, scope, EVENTS)


def _in_scope(host: Host, caller: Caller, scope: tuple[int, int], commands: Iterable[str]) -> bool:
    if caller.sliver:
        return caller.sliver == scope[1]
    subject = host.slivers_by_serial.get(scope[1]) or host.experiments_by_serial.get(scope[1])
    seen = [sees(host, caller, subject or _NO_SLIVER, one) for one in commands]
    user = user_of(host, caller)
    member = user is not None and host.is_in(user, scope[0])
    held = any(_held(host, one, scope) for one in _delegates(host, caller, commands))
    return member or (held if subject is None else any(seen))


def _delegates(host: Host, caller: Caller, commands: Iterable[str]) -> list[Delegate]:
    """
    The caller as delegates that were granted one of these commands.
    """
    own = [one for one in known(host, caller) if isinstance(one, Delegate)]
    return [one for one in own if not set(commands).isdisjoint(one.commands)]


def allowed(host: Host, caller: Caller, row: Command, values: list[Any]) -> Any:
    """
    The permission check: every request passes here, and only here.

    @param values: the request's arguments, read by their Kinds.
    @return: the record that the row's target names; None if the row has none or it was left out.
    @raise HostError: C{NO_SUCH_..} if there is no such target or the caller may not know of it; L{Denied} if it sees
        the target but has none of the row's relations to it.
    """
    if row.target is None or not values:
        _check_role(host, caller, row)
        return None
    target, missing, stand_in = _find(host, caller, row, values)
    seen = sees(host, caller, target or stand_in, row.name)
    if target is None or not seen:
        if row.target == "new sliver":
            _check_role(host, caller, row)
            return None
        raise missing()
    if relations(host, caller, target, row.name).isdisjoint(row.who):
        raise Denied(f"{row.name} {values[0]} is for {_list(row.who)}")
    return target


def _check_role(host: Host, caller: Caller, row: Command) -> None:
    """
    Of what names nothing that is there: what is for anyone is for a delegate if it was granted it. Without that it has
    what is for who is in a sliver too: greetings, C{help}, and lists of what it may see.

    @raise Denied: if the caller may not say it.
    """
    held = roles(host, caller)
    if held.isdisjoint(row.who):
        raise Denied(f"{row.name} is for {_list(row.who)}")
    confined = BY_GRANT in held and held.isdisjoint((KNOWN, OPERATOR)) and SELF not in row.who
    if confined and not _delegates(host, caller, (row.name,)):
        raise Denied(f"{row.name} was not granted to {shown_principal(host, principal(host, caller))}")


def unseen(host: Host, caller: Caller, row: Command, values: list[Any]) -> bool:
    """
    Whether there is no record that the row's target names, or none that the caller may know of.
    """
    if row.target is None or not values:
        return False
    target, _, stand_in = _find(host, caller, row, values)
    return not sees(host, caller, target or stand_in, row.name) or target is None


def allowed_without(host: Host, caller: Caller, row: Command) -> None:
    """
    The permission check for what was done before to a target that is gone: the roles must allow it still.

    @raise Denied: if they do not.
    """
    if roles(host, caller).isdisjoint({KNOWN if one in (MEMBER, OWNER) else one for one in row.who}):
        raise Denied(f"{row.name} is for {_list(row.who)}")


def _find(
    host: Host, caller: Caller, row: Command, values: list[Any]
) -> tuple[Record | None, Callable[[], HostError], Record]:
    """
    @return: what the row's target names; what is said if that is not to be known of; what is looked at if it is not
        there.
    """
    name = str(values[0])
    if row.target == "experiment":
        name = name if "/" in name else f"{name}/{values[1]}"
        missing = partial(no_such_experiment, host, caller, row, name)
        return host.get(Experiment, name), missing, _NO_EXPERIMENT
    if row.target == "node":
        node, experiment = split_node(name)
        serial = (host.get(Experiment, experiment) or _NO_EXPERIMENT).slivers.get(node, 0)
        return host.slivers_by_serial.get(serial), partial(_no_such_node, name), _NO_NODE
    if row.target in ("sliver", "new sliver"):
        return host.sliver_named(name), partial(no_such_sliver, host, caller, row, name), stand_in_for(name)
    if row.target == "new experiment":
        name = name.partition("/")[0]
    kind, error, stand_in = _TARGETS[row.target or ""]
    return host.get(kind, name), lambda: error(f"no {kind.table} {name}{_near(host, caller, kind, name)}"), stand_in


def stand_in_for(name: str) -> Experiment | Sliver:
    """
    @param name: of an experiment, a free sliver, or a node in full.
    @return: what is looked at if there is none of that name, so that this takes the same time.
    """
    if "/" in name:
        return _NO_EXPERIMENT
    return _NO_NODE if "." in name else _NO_SLIVER


#: Nobody's: no record has the serial 0.
_NO_EXPERIMENT = Experiment(serial=0, name="-/-", project=0, owner="user:0", state="new", created=0.0)
_NO_SLIVER = Sliver(serial=0, name="-_-", kind="process", project=0, owner="user:0", created=0.0)
_NO_NODE = Sliver(serial=0, name="-.-.-", kind="process", experiment=-1, created=0.0)
NO_OPERATION = Operation(serial=0, command="-", target="-", subject=0, scope=0, caller="user:0", started=0.0)
_NO_PROJECT = Project(serial=0, name="-")
_TARGETS: dict[str, tuple[type[Record], type[HostError], Record]] = {
    "project": (Project, NoSuchProject, _NO_PROJECT),
    "new experiment": (Project, NoSuchProject, _NO_PROJECT),
    "user": (User, NoSuchUser, User(serial=0, name="-")),
    "delegate": (Delegate, NoSuchDelegate, Delegate(serial=0, name="-", uid=0, grantor="user:0")),
    "operation": (Operation, NoSuchOperation, NO_OPERATION),
}


def _near(host: Host, caller: Caller, kind: type[Record], name: str) -> str:
    if kind is Operation:
        return ""  # a number near another says nothing
    seen = (key for key, one in host.table(kind).items() if sees(host, caller, one, ""))
    return near(name, [key for key, _ in zip(seen, range(_COMPARED), strict=False)])


def _no_such_node(name: str) -> NoSuchNode:
    return NoSuchNode(f"no node {name}, or it is not placed")


def no_such_experiment(host: Host, caller: Caller, row: Command, name: str) -> NoSuchExperiment:
    """
    @return: what who asks for an experiment that is not there, or that he may not see, is told.
    """
    hint = near(name, [one.name for one in visible(host, caller, row.name)[:_COMPARED]])
    return NoSuchExperiment(f"no experiment {name}{hint}")


def no_such_sliver(host: Host, caller: Caller, row: Command, name: str) -> NoSuchSliver:
    """
    @return: what who asks for a sliver that is not there, or that he may not see, is told.
    """
    if "." in name:
        return NoSuchSliver(f"no sliver {name}; a node has one while its experiment is placed")
    hint = near(name, [one.name for one in visible_slivers(host, caller, row.name)[:_COMPARED]])
    return NoSuchSliver(f"no sliver {name}{hint}")


def _list(who: Iterable[str]) -> str:
    order = [STRANGER, ANYONE, KNOWN, SELF, MEMBER, OWNER, BY_GRANT, OPERATOR]
    plural = {
        STRANGER: "who has no certificate yet",
        ANYONE: "anyone outside slivers",
        KNOWN: "users",
        SELF: "the sliver itself",
        MEMBER: "members of the project",
        OWNER: "its owner",
    }
    plural |= {BY_GRANT: "delegates", OPERATOR: "operators"}
    return ", ".join(plural.get(one, one) for one in order if one in who)
