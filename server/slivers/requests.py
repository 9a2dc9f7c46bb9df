"""
Answers about free slivers.
"""

from __future__ import annotations

from typing import Any

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadArguments, Denied, Exists, NoSuchUser, WrongState
from hostline.protocol.moments import moment
from hostline.protocol.names import near, split_slice
from hostline.server import callers, rights
from hostline.server.asking import Ask, responds
from hostline.server.records import Project, Sliver, User
from hostline.server.slivers.plan import ABSENT, STARTED
from hostline.server.slivers.rspec import read_rspec

#: The kind of a sliver that is asked for without one.
KIND = "container"
#: What only an operator may change of a sliver.
_OPERATORS = ("rspec", "expires", "owner", "users")


@responds(TABLE["create"])
def create(ask: Ask, name: str, **said: Any) -> dict[str, Any]:
    """
    Make a sliver, or the one that a delegated record describes.
    """
    known: Sliver | None = ask.target
    if known is not None and known.remains and known.wanted == ABSENT:
        _refuse_description(known, said)
        if rights.relations(ask.host, ask.caller, known, "create").isdisjoint(("owner", "delegate", "operator")):
            raise Denied(f"create {name} is for its owner, delegates, operators")
        ask.operation = ask.daemon.slivers.instantiate(ask.change, known, ask.principal)
        return ask.daemon.bodies.sliver(known)
    if not callers.is_operator(ask.host, ask.caller):
        raise Denied(f"create {name} is for operators, or the owner of a record that is delegated and not created")
    if known is not None:
        raise Exists(f"sliver {name} exists")
    sliver = _described(ask, name, said)
    ask.operation = ask.daemon.slivers.create(ask.change, sliver, ask.principal)
    return ask.daemon.bodies.sliver(sliver)


@responds(TABLE["set_sliver"])
def set_sliver(ask: Ask, name: str, **said: Any) -> dict[str, Any]:
    """
    Change what a sliver is given.
    """
    sliver: Sliver = ask.target
    if sliver.instantiation != "local":
        raise WrongState(f"{name} follows the authority's record or a ticket, which has to say so")
    said["rspec"] = said["rspec"] or None
    asked = {key: value for key, value in said.items() if value is not None}
    reserved = [key for key in _OPERATORS if key in asked]
    if reserved and not callers.is_operator(ask.host, ask.caller):
        raise Denied(f"set_sliver {name} {reserved[0]}= is for operators")
    settings: dict[str, Any] = {}
    for key, value in asked.items():
        if key == "rspec":
            settings[key] = read_rspec(value, over=sliver.rspec)
        elif key == "expires":
            settings[key] = _later(ask, value)
        elif key == "owner":
            settings[key] = f"user:{_user(ask, value).serial}"
        elif key == "users":
            settings[key] = tuple(_user(ask, one).serial for one in value)
        elif key == "keys":
            settings[key] = tuple(value)
        else:
            settings[key] = ask.text(value) or None
    if "rspec" in settings:
        ask.daemon.check_room(sliver.serial, settings["rspec"])
    return ask.daemon.bodies.sliver(ask.daemon.slivers.set(ask.change, sliver, **settings))


@responds(TABLE["start"])
def start(ask: Ask, name: str) -> dict[str, Any]:
    """
    Start a sliver.
    """
    ask.operation = ask.daemon.slivers.start(ask.change, ask.target, ask.principal)
    return ask.daemon.bodies.sliver(ask.target)


@responds(TABLE["stop"])
def stop(ask: Ask, name: str) -> dict[str, Any]:
    """
    Stop a sliver.
    """
    ask.operation = ask.daemon.slivers.stop(ask.change, ask.target, ask.principal)
    return ask.daemon.bodies.sliver(ask.target)


@responds(TABLE["recreate"])
def recreate(ask: Ask, name: str) -> dict[str, Any]:
    """
    Make a sliver anew.
    """
    ask.operation = ask.daemon.slivers.recreate(ask.change, ask.target, ask.principal)
    return ask.daemon.bodies.sliver(ask.target)


@responds(TABLE["destroy"])
def destroy(ask: Ask, name: str) -> dict[str, Any]:
    """
    Take a sliver off the host.
    """
    ask.operation = ask.daemon.slivers.destroy(ask.change, ask.target, ask.principal)
    return ask.daemon.bodies.sliver(ask.target)


@responds(TABLE["slivers"])
def slivers(ask: Ask) -> list[dict[str, Any]]:
    """
    List the free slivers that the caller may see.
    """
    return [ask.daemon.bodies.sliver(one) for one in rights.visible_slivers(ask.host, ask.caller, ask.row.name)]


@responds(TABLE["sliver"])
def sliver(ask: Ask, name: str) -> dict[str, Any]:
    """
    Show one sliver, and ask the kernel what it is held to.
    """
    found: Sliver = ask.target
    driver = ask.daemon.sync.drivers.get(found.kind)
    in_force = driver.in_force(found.serial) if driver is not None else {}
    return {**ask.daemon.bodies.sliver(found), "in_force": dict(in_force)}


@responds(TABLE["get_ssh_keys"])
def get_ssh_keys(ask: Ask, name: str | None = None) -> dict[str, list[str]]:
    """
    List the keys that may log in.
    """
    found = rights.visible_slivers(ask.host, ask.caller, ask.row.name)
    if name is not None:
        found = [one for one in found if one.name == name]
        if not found:
            raise rights.no_such_sliver(ask.host, ask.caller, ask.row, name)
    return {one.name: list(ask.host.keys_of(one)) for one in found}


@responds(TABLE["get_xids"])
def get_xids(ask: Ask) -> dict[str, int]:
    """
    List the uids that slivers have on this host.
    """
    found = {}
    for one in rights.visible_slivers(ask.host, ask.caller, ask.row.name):
        status = ask.daemon.sync.status(one.serial)
        if status is not None and status.uid is not None:
            found[one.name] = status.uid
    return found


def _described(ask: Ask, name: str, said: dict[str, Any]) -> Sliver:
    """
    The record of a new sliver.
    """
    kind = said["kind"] or KIND
    drivers = ask.daemon.sync.drivers
    if kind not in drivers:
        why = f": {ask.daemon.missing[kind]}" if kind in ask.daemon.missing else ""
        raise WrongState(f"this host has no driver for kind {kind}{why}; it has {', '.join(sorted(drivers))}")
    project = ask.host.get(Project, split_slice(name)[0])
    rspec = read_rspec(said["rspec"])
    ask.daemon.check_room(0, rspec)
    return Sliver(
        serial=ask.change.serial(),
        name=name,
        kind=kind,
        wanted=STARTED,
        start_command=ask.text(said["start_command"]) if said["start_command"] else None,
        rspec=rspec,
        created=ask.now,
        project=project.serial if project is not None else 0,
        owner=f"user:{_user(ask, said['owner']).serial}" if said["owner"] else ask.principal,
        users=tuple(_user(ask, one).serial for one in said["users"]),
        image=ask.daemon.image_for(kind, said["image"]),
        keys=tuple(said["keys"] or ()),
        initscript=ask.text(said["initscript"]) if said["initscript"] else None,
        expires=_later(ask, said["expires"]) if said["expires"] is not None else None,
    )


def _refuse_description(sliver: Sliver, said: dict[str, Any]) -> None:
    given = [key for key, value in said.items() if value]
    if given:
        raise BadArguments(f"{sliver.name} is as its record says; want no {given[0]}=")


def _later(ask: Ask, when: float | str) -> float:
    time = moment(when, ask.now)
    if time <= ask.now:
        raise BadArguments(f"expires: want a time to come, got {time:.0f}, and it is {ask.now:.0f}")
    return time


def _user(ask: Ask, name: str) -> User:
    user = ask.host.get(User, name)
    if user is None:
        raise NoSuchUser(f"no user {name}{near(name, list(ask.host.table(User)))}")
    return user
