"""
Who asks: callers, the principals that they are, and what is so of them whatever they ask about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from hostline.protocol.commands import ANYONE, BY_GRANT, KNOWN, OPERATOR, SELF, STRANGER
from hostline.server.records import Delegate, Sliver, User

if TYPE_CHECKING:
    from hostline.server.host import Host

#: The way in of who has no certificate yet.
ENROL = "enrol"
#: What a principal's name begins with, and the records that it means.
_PRINCIPALS: dict[str, type[User | Delegate | Sliver]] = {"user": User, "delegate": Delegate, "sliver": Sliver}


@frozen
class Caller:
    """
    Who is at the other end, as the kernel says.

    @ivar uid: -1 if it came through the network.
    @ivar operator: uid 0, the daemon's own uid if that is not 0, or a member of the operators' group.
    @ivar via: the way in, C{socket}; C{sliver} for a sliver's own one, C{tls} with a certificate, C{enrol} without one.
    @ivar sliver: serial of the sliver whose own socket it is; then its uid says nothing.
    @ivar pid: of the process that connected.
    @ivar names: those of its certificate, L{hostline.protocol.names.certificate_name}; C{number} is the certificate's
        serial number, and C{authority} the SHA-256 of the root that it hangs on, in hexadecimal.
    """

    uid: int
    operator: bool = False
    via: str = "socket"
    sliver: int = 0
    pid: int = field(default=0, eq=False)
    names: tuple[str, ...] = ()
    number: str = ""
    authority: str = ""


def known(host: Host, caller: Caller) -> list[User | Delegate]:
    """
    @return: the records that a caller is known by.
    """
    if caller.sliver:
        return []
    if caller.uid >= 0:
        return host.by_uid(caller.uid)
    users = host.by_names(caller.names)
    return [*users] if len(users) == 1 else []  # a certificate of two is nobody's


def is_operator(host: Host, caller: Caller) -> bool:
    """
    Whether the caller is one, by what it is on this host or by its record.
    """
    return caller.operator or any(isinstance(one, User) and one.operator for one in known(host, caller))


def is_known(host: Host, caller: Caller) -> bool:
    """
    Whether the caller is a user or a delegate.
    """
    return bool(known(host, caller))


def user_of(host: Host, caller: Caller) -> User | None:
    """
    @return: the user that has the caller's uid.
    """
    return next((one for one in known(host, caller) if isinstance(one, User)), None)


def principal(host: Host, caller: Caller) -> str:
    """
    @return: who the caller is, by a name that outlives renaming: C{user:17}, C{delegate:18}, C{sliver:19} or
        C{uid:1000}; C{certificate:urn:...} for one whose names mean no user; C{enrol} for who comes without one.
    """
    if caller.sliver:
        return f"sliver:{caller.sliver}"
    records = sorted(known(host, caller), key=lambda one: (isinstance(one, Delegate), one.serial))
    if records:
        return f"{records[0].table}:{records[0].serial}"
    if caller.uid >= 0:
        return f"uid:{caller.uid}"
    return f"certificate:{caller.names[0]}" if caller.names else caller.via


def way(host: Host, caller: Caller) -> str:
    """
    @return: the way in: the caller's, or C{ssh} for a delegate whose account is ours: it can come by no other.
    """
    account = caller.via == "socket" and any(isinstance(one, Delegate) and one.account for one in known(host, caller))
    return "ssh" if account else caller.via


def shown_principal(host: Host, name: str) -> str:
    """
    A principal for people: the user's name where there is one.
    """
    table, _, number = name.partition(":")
    if table in _PRINCIPALS:
        found = host.by_serial(_PRINCIPALS[table], int(number) if number.isdecimal() else 0)
        return found.name if found else f"{table} no longer known"
    return name


def roles(host: Host, caller: Caller) -> frozenset[str]:
    """
    The relations that hold whatever the target.
    """
    if caller.sliver:
        return frozenset({SELF})  # what is for anyone on the host is not for who is in a sliver
    if caller.via == ENROL:
        return frozenset({STRANGER})
    found = {ANYONE}
    if is_operator(host, caller):
        found.add(OPERATOR)
    for one in known(host, caller):
        found.add(KNOWN if isinstance(one, User) else BY_GRANT)
    return frozenset(found)
