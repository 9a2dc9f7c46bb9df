"""
Free slivers as they go on the wire.
"""

from __future__ import annotations

from typing import Any

from hostline.server import callers
from hostline.server.drivers.driver import Status
from hostline.server.host import Host
from hostline.server.records import Sliver, User
from hostline.server.slivers import plan


def sliver_body(
    host: Host, sliver: Sliver, status: Status | None, busy: bool, grace_s: float, problems: tuple[str, ...] = ()
) -> dict[str, Any]:
    """
    @param status: what is so of it.
    @param busy: whether a step is being taken for it.
    @param grace_s: how long a doomed one is kept.
    @param problems: what was found wrong with it besides.
    """
    status_ = status if status is not None else Status(sliver.serial)
    return {
        "name": sliver.name,
        "serial": sliver.serial,
        "kind": sliver.kind,
        "parent": None,
        "owner": callers.shown_principal(host, sliver.owner) if sliver.owner else "",
        "users": [user.name for one in sliver.users if (user := host.by_serial(User, one)) is not None],
        "host": host.name,
        "image": host.image_name(sliver),
        "state": plan.state(sliver, status, busy),
        "boot": status_.boot,
        "code": status_.code,
        "start_command": status_.start_command,
        "start_code": status_.start_code,
        "boots": status_.boots,
        "builds": sliver.builds,
        "initscript": status_.initscript,
        "initscript_code": status_.initscript_code,
        "rspec": dict(sliver.rspec),
        "effective": dict(host.effective(sliver)),
        "loans": host.loans_of(sliver),
        "expires": sliver.expires,
        "doomed_until": None if sliver.doomed is None else sliver.doomed + grace_s,
        "created": sliver.created,
        "address": status_.address,
        "instantiation": sliver.instantiation,
        "problems": [*status_.problems, *problems, *sliver.warnings],
        "pid": status_.pid,
    }
