"""
Answers about projects and users.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadValue, Exists, NoSuchUser, WrongState
from hostline.protocol.names import certificate_name, near, shown
from hostline.server.asking import Ask, responds
from hostline.server.host import Host
from hostline.server.records import Delegate, Experiment, Project, User
from hostline.server.slivers.rspec import RESOURCES


def project_body(host: Host, project: Project) -> dict[str, Any]:
    """
    A project as it goes on the wire.
    """
    users = [host.by_serial(User, serial) for serial in project.members]
    members = sorted(one.name for one in users if one is not None)
    return {"name": project.name, "serial": project.serial, "members": members, "quota": project.quota}


def user_body(host: Host, user: User) -> dict[str, Any]:
    """
    A user as it goes on the wire.
    """
    projects = sorted(one.name for one in host.projects_of(user))
    return {
        "name": user.name,
        "serial": user.serial,
        "uid": user.uid,
        "keys": list(user.keys),
        "certificates": list(user.certificates),
        "operator": user.operator,
        "projects": projects,
    }


@responds(TABLE["add_project"])
def add_project(ask: Ask, name: str, quota: dict[str, int]) -> dict[str, Any]:
    """
    Make a project.
    """
    for resource in quota:
        if resource not in RESOURCES:
            raise BadValue(f"quota: no resource {shown(resource)}{near(resource, list(RESOURCES))}")
    project = ask.change.add(Project(serial=ask.change.serial(), name=name, quota=quota))
    return project_body(ask.host, project)


@responds(TABLE["remove_project"])
def remove_project(ask: Ask, name: str) -> dict[str, Any]:
    """
    Remove a project, unless something is in it.
    """
    project: Project = ask.target
    inside = [one.name for one in ask.host.table(Experiment).values() if one.project == project.serial]
    if inside:
        raise WrongState(f"project {name} has experiments ({', '.join(sorted(inside)[:5])}); terminate them first")
    body = project_body(ask.host, project)
    ask.change.remove(project)
    return body


@responds(TABLE["add_member"])
def add_member(ask: Ask, project: str, user: str) -> dict[str, Any]:
    """
    Make a user a member.
    """
    record: Project = ask.target
    member = _user(ask, user)
    members = record.members if ask.host.is_member(member, record) else (*record.members, member.serial)
    return project_body(ask.host, ask.change.put(attrs.evolve(record, members=members)))


@responds(TABLE["remove_member"])
def remove_member(ask: Ask, project: str, user: str) -> dict[str, Any]:
    """
    End a membership.
    """
    record: Project = ask.target
    serial = _user(ask, user).serial
    if serial not in record.members:
        raise NoSuchUser(f"{user} is no member of {project}")
    members = tuple(one for one in record.members if one != serial)
    return project_body(ask.host, ask.change.put(attrs.evolve(record, members=members)))


@responds(TABLE["projects"])
def projects(ask: Ask) -> list[dict[str, Any]]:
    """
    Name the projects that the caller may see.
    """
    seen = [one for one in ask.host.table(Project).values() if ask.sees(one)]
    return [project_body(ask.host, one) for one in sorted(seen, key=lambda one: one.name)]


@responds(TABLE["add_user"])
def add_user(
    ask: Ask, name: str, uid: int | None, keys: list[str], certificate: list[str], operator: bool
) -> dict[str, Any]:
    """
    Make a user.
    """
    check_uid(ask, uid)
    user = User(
        serial=ask.change.serial(),
        name=name,
        uid=uid,
        keys=tuple(keys),
        certificates=_names(ask, certificate),
        operator=operator,
    )
    return user_body(ask.host, ask.change.add(user))


@responds(TABLE["set_user"])
def set_user(
    ask: Ask, name: str, uid: int | None, keys: list[str] | None, certificate: list[str] | None, operator: bool | None
) -> dict[str, Any]:
    """
    Change what is said of a user.
    """
    user: User = ask.target
    if uid is not None and uid != user.uid:
        check_uid(ask, uid)
        user = attrs.evolve(user, uid=uid)
    if keys is not None:
        user = attrs.evolve(user, keys=tuple(keys))
    if certificate is not None:
        user = attrs.evolve(user, certificates=_names(ask, certificate, user.serial))
    if operator is not None:
        user = attrs.evolve(user, operator=operator)
    return user_body(ask.host, ask.change.put(user))


def _names(ask: Ask, certificate: list[str], own: int = 0) -> tuple[str, ...]:
    """
    @param own: the serial of the user that they are to be of.
    @raise Exists: if one of them is another's: one name is one principal.
    """
    names = tuple(dict.fromkeys(map(certificate_name, certificate)))
    for one in names:
        for other in ask.host.by_names([one]):
            if other.serial != own:
                raise Exists(f"certificate {one} is that of user {other.name}")
    return names


@responds(TABLE["remove_user"])
def remove_user(ask: Ask, name: str) -> dict[str, Any]:
    """
    Remove a user from the host and from all projects.
    """
    user: User = ask.target
    body = user_body(ask.host, user)
    for project in ask.host.projects_of(user):
        left = tuple(one for one in project.members if one != user.serial)
        ask.change.put(attrs.evolve(project, members=left))
    for delegate in [one for one in ask.host.table(Delegate).values() if one.grantor == f"user:{user.serial}"]:
        ask.change.remove(delegate)
        if delegate.account:
            ask.change.when_committed.append(partial(ask.daemon.delegates.follow, delegate))
    ask.change.remove(user)
    return body


@responds(TABLE["users"])
def users(ask: Ask) -> list[dict[str, Any]]:
    """
    Name all users.
    """
    return [user_body(ask.host, one) for _, one in sorted(ask.host.table(User).items())]


def _user(ask: Ask, name: str) -> User:
    user = ask.host.get(User, name)
    if user is None:
        raise NoSuchUser(f"no user {name}{near(name, list(ask.host.table(User)))}")
    return user


def check_uid(ask: Ask, uid: int | None) -> None:
    """
    @raise BadValue: if a uid is one that the daemon gives out itself.
    @raise Exists: if it is somebody's. One uid is one principal: a delegate's account must not be somebody's own.
    """
    config = ask.daemon.config
    for whose, section in (("slivers", config.slivers), ("delegates", config.delegates)):
        last = section.uid_first + section.uid_count - 1
        if uid is not None and section.uid_first <= uid <= last:
            raise BadValue(f"uid: want none of {section.uid_first}-{last}, the {whose}' own")
    taken = ask.host.by_uid(uid) if uid is not None else []
    if taken:
        raise Exists(f"uid {uid} is that of {taken[0].table} {taken[0].key}")
