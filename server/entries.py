"""
Entries of the audit log: who did what, by which way, and what came of it.

An entry is an event of the topic C{audit}, told in the change that it is about, so there is never one without the
other. What is in it is text that was cut, so that nobody can fill the disk with one request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hostline.protocol import literal
from hostline.protocol.command import Command
from hostline.server import callers

if TYPE_CHECKING:
    from hostline.server.asking import Ask
    from hostline.server.host import Change
    from hostline.server.records import Operation

#: The principal of what the daemon does by itself; no user can have it, for it has no colon.
DAEMON = "hostline"
#: How many characters of what was asked an entry keeps.
_KEPT = 500


class Refusals:
    """
    How many refused changes of each principal the audit log tells: L{TOLD} a minute, the others are counted in its next
    entry. Or anybody on the host could fill the disk with what he may not do.
    """

    TOLD = 60

    def __init__(self) -> None:
        self._minute = 0
        self._counts: dict[str, int] = {}
        self._untold: dict[str, int] = {}

    def may_tell(self, principal: str, now: float) -> bool:
        """
        Count a refusal.
        """
        if int(now // 60) != self._minute:
            self._minute = int(now // 60)
            self._counts.clear()
        self._counts[principal] = self._counts.get(principal, 0) + 1
        if self._counts[principal] <= self.TOLD:
            return True
        self._untold[principal] = self._untold.get(principal, 0) + 1
        return False

    def untold(self, principal: str) -> int:
        """
        @return: how many were not told since this was asked last.
        """
        return self._untold.pop(principal, 0)


def cut(value: Any) -> str:
    """
    A value as a literal of which nothing is long, made without writing all of it.
    """
    return literal.write(_short(value))[:_KEPT]


def tell_asked(change: Change, ask: Ask, outcome: str, untold: int) -> None:
    """
    Tell of a request.

    @param outcome: C{ok}, or the code of an error.
    @param untold: how many refusals of this principal were not told before.
    """
    principal = ask.principal
    more: dict[str, Any] = {}
    name = callers.shown_principal(ask.host, principal)
    for key, value in (
        ("name", name if name != principal else ""),
        ("certificate", ask.caller.number),
        ("client", ask.session.client),
        ("about", cut(ask.about) if ask.about else ""),
        ("untold", untold),
    ):
        if value:
            more[key] = value
    if ask.operation is not None and outcome == "ok":
        more["operation"] = ask.operation.serial  # its end is told with the same number
    change.tell(
        "audit",
        ask.row.name,
        principal=principal,
        via=callers.way(ask.host, ask.caller),
        uid=ask.caller.uid if ask.caller.uid >= 0 else None,
        arguments=cut(_open(ask.row, ask.values)),
        options=cut({name: "..." if name in ask.row.secret else value for name, value in ask.options.items() if value}),
        outcome=outcome,
        **more,
    )


def tell_done(change: Change, what: str, *arguments: Any, via: str, principal: str = DAEMON, **options: Any) -> None:
    """
    Tell of what no request has caused.

    @param via: why it was done: C{clock}, C{poll}, C{signal} ..
    """
    change.tell(
        "audit",
        what,
        principal=principal,
        via=via,
        uid=None,
        arguments=cut(list(arguments)),
        options=cut(options),
        outcome="ok",
    )


def tell_ended(change: Change, operation: Operation, name: str) -> None:
    """
    Tell how slow work has ended: its beginning was told when it was asked for, with the same number.

    @param name: of the principal that began it, for people.
    """
    change.tell(
        "audit",
        operation.command,
        principal=operation.caller,
        name=name,
        via="operation",
        uid=None,
        arguments=cut([operation.target, *operation.nodes]),
        options="{}",
        outcome=operation.state,
        operation=operation.serial,
        causes=[_short(one) for one in operation.causes[-3:]],
    )


def shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    """
    An entry as the command C{audit} shows it.

    @param entry: the event, which has not the keys that say nothing; an older hostline's has others.
    """
    return {
        "cursor": entry["cursor"],
        "time": entry["time"],
        "request": entry.get("request"),
        "command": entry["what"],
        "principal": entry.get("principal", ""),
        "name": entry.get("name", entry.get("principal", "")),
        "via": entry.get("via", ""),
        "uid": entry.get("uid"),
        "certificate": entry.get("certificate"),
        "client": entry.get("client"),
        "arguments": entry.get("arguments", ""),
        "options": entry.get("options", ""),
        "about": entry.get("about", ""),
        "operation": entry.get("operation"),
        "outcome": entry.get("outcome", ""),
        "causes": entry.get("causes", []),
        "untold": entry.get("untold", 0),
    }


def _open(row: Command, values: list[Any]) -> list[Any]:
    """
    The arguments without those that no log may have.
    """
    names = [name for name, _ in row.args]
    return ["..." if name in row.secret else value for name, value in zip(names, values, strict=False)] + values[
        len(names) :
    ]


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:100]
    if isinstance(value, list | tuple):
        return [_short(one) for one in value[:20]]
    if isinstance(value, dict):
        return {_short(key): _short(one) for key, one in list(value.items())[:20]}
    return value
