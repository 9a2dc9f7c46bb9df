"""
Taking over a payload: what an authority says of all its slivers on this host is made so in the records, whole or as
far as the host can; what takes away too much is held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.logger import Logger

from hostline.protocol.errors import Held, HostError
from hostline.protocol.names import split_slice
from hostline.server.expiry import authority, waits
from hostline.server.host import Change
from hostline.server.records import Project, Sliver, User
from hostline.server.slivers.authority import Decision, decide
from hostline.server.slivers.plan import ABSENT, STARTED

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: Reasons that are kept for C{doctor}.
_KEPT_REASONS = 200
_MISSING = "missing from the authority's records"


class Takeover:
    """
    Makes the records of this host what payloads say.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def take(
        self, reading: dict[str, Any], force: bool, change: Callable[[], Change]
    ) -> tuple[dict[str, Any], Decision, Change]:
        """
        Take over a payload.

        @param reading: the payload, as it was read.
        @param change: begins the change to make.
        @return: the body of the reply, what was decided, and the change.
        @raise BadPayload: if it cannot be used; C{Held} if it takes away too much. Then nothing was changed.
        """
        host, now = self._daemon.host, self._daemon.now()
        known = {one.name: one for one in host.free_slivers()}
        try:
            settings = self._daemon.config.authority
            last = authority(host).timestamp
            decision = decide(known, reading, last, now, brake=settings.brake, force=force)
        except Held as error:
            self._alarm(error.message)
            raise
        made = change()
        created = self._carry_out(made, decision, known)
        self._note(made, reading, decision)
        body = {
            "created": created,
            "changed": [one["name"] for one in decision.changed],
            "kept": decision.kept,
            "stopped": decision.doomed,
            "brought_back": list(decision.back),
            "refused": decision.refused,
            "timestamp": reading["timestamp"],
        }
        return body, decision, made

    def _carry_out(self, change: Change, decision: Decision, known: dict[str, Sliver]) -> list[str]:
        """
        @return: the names of what was created. What turns out not to be possible is refused.
        """
        life = self._daemon.slivers
        # Who gives back comes first: what it had may be what another is promised.
        for entry in sorted(decision.changed, key=lambda one: _more(one, known[one["name"]])):
            sliver = known[entry["name"]]
            try:
                life.set(change, sliver, **self._fields(entry, sliver.serial), **_turned(sliver, entry))
            except HostError as error:
                decision.refused[sliver.name] = error.message
                decision.changed.remove(entry)
        created = []
        for entry in decision.created:
            try:
                sliver = Sliver(
                    serial=change.serial(),
                    name=entry["name"],
                    created=change.now,
                    wanted=ABSENT if entry["instantiation"] == "delegated" else STARTED,
                    **self._fields(entry, 0),
                )
                change.add(sliver)
            except HostError as error:
                decision.refused[entry["name"]] = error.message
                continue
            life.tell(change, sliver, "created")
            created.append(sliver.name)
        for name, found in list(decision.back.items()):
            sliver = known[name]
            try:
                fields = {**self._fields(found, sliver.serial), **_turned(sliver, found)} if found else {}
                life.undo(change, sliver, **fields)
            except HostError as error:
                decision.refused[name] = error.message
                del decision.back[name]
        for name in decision.doomed:
            life.doom(change, known[name], _MISSING)
        for name in decision.kept:
            if name in known:
                life.again(change, known[name])
        return created

    def _fields(self, entry: dict[str, Any], serial: int) -> dict[str, Any]:
        """
        What an entry says, as fields of a record.

        @raise HostError: if this host cannot do it.
        """
        host, name = self._daemon.host, entry["name"]
        self._daemon.check_room(serial, entry["rspec"])
        project = host.get(Project, split_slice(name)[0])
        users = [user.serial for one in entry["users"] if (user := host.get(User, one)) is not None]
        return {
            "kind": entry["kind"],
            "instantiation": entry["instantiation"],
            "remains": True,
            "rspec": entry["rspec"],
            "project": project.serial if project is not None else 0,
            "owner": f"user:{users[0]}" if users else "",
            "users": tuple(users),
            "image": self._daemon.image_for(entry["kind"], entry["image"] or None),
            "keys": tuple(entry["keys"]),
            "initscript": entry["initscript"],
            "expires": entry["expires"],
            "source": entry["source"],
            "warnings": tuple(entry["warnings"]),
        }

    def _note(self, change: Change, reading: dict[str, Any], decision: Decision) -> None:
        refused = dict(list(decision.refused.items())[:_KEPT_REASONS])
        fresh = attrs.evolve(
            authority(change.host),
            timestamp=reading["timestamp"],
            received=change.now,
            refused=refused,
            held="",
        )
        change.put(fresh)
        if decision.created or decision.changed or decision.back or decision.doomed:
            change.tell(
                "host",
                "synced",
                timestamp=reading["timestamp"],
                created=len(decision.created),
                changed=len(decision.changed),
                brought_back=len(decision.back),
                stopped=len(decision.doomed),
                refused=len(decision.refused),
            )

    def _alarm(self, reason: str) -> None:
        host = self._daemon.host
        if authority(host).held == reason:
            return
        change = host.change(self._daemon.now())
        change.put(attrs.evolve(authority(host), held=reason))
        change.tell("host", "held", reason=reason)
        self._log.error("{reason}", reason=reason)
        waits(self._daemon.commit(change))


def _more(entry: dict[str, Any], sliver: Sliver) -> int:
    """
    How much more of the host an entry wants to be promised than its sliver was.
    """
    more: int = entry["rspec"]["cpu_min"] - sliver.rspec.get("cpu_min", 0)
    return more


def _turned(sliver: Sliver, entry: dict[str, Any]) -> dict[str, Any]:
    """
    A record that was made on request, and now by itself, is made.
    """
    if sliver.wanted == ABSENT and entry["instantiation"] != "delegated":
        return {"wanted": STARTED}
    return {}
