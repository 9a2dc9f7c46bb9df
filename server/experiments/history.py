"""
The history of an experiment: what was done with it and how that ended, and what its owner was told of; kept in its
diary, beside its record and as long as that, however old the events are that said the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from hostline.server import callers
from hostline.server.diary import Diary

if TYPE_CHECKING:
    from hostline.server.host import Change, Host
    from hostline.server.records import Operation

#: Entries of one experiment that are kept, and characters of a reason in one.
KEPT, _LONGEST = 100, 500
#: Nodes that an entry names, and things owed to one owner that are kept.
_NODES, _OWED = 20, 20


def of(host: Host, serial: int) -> Diary:
    """
    @param serial: of the experiment.
    @return: its diary, an empty one if there is none yet.
    """
    return host.get(Diary, str(serial)) or Diary(serial=serial)


def write(
    change: Change,
    serial: int,
    what: str,
    who: str,
    *,
    time: float | None = None,
    seconds: float | None = None,
    operation: int | None = None,
    outcome: str = "done",
    reason: str = "",
    nodes: tuple[str, ...] = (),
) -> None:
    """
    Enter something.

    @param serial: of the experiment.
    @param who: the principal that did it.
    @param time: when it began; now, unless said. C{seconds}: how long it took.
    """
    known = of(change.host, serial)
    entry = {
        "time": change.now if time is None else time,
        "what": what,
        "who": who,
        "name": callers.shown_principal(change.host, who),
        "seconds": seconds,
        "operation": operation,
        "outcome": outcome,
        "reason": reason[:_LONGEST],
        "nodes": list(nodes[:_NODES]),
    }
    change.put(attrs.evolve(known, entries=[*known.entries[1 - KEPT :], entry]))


def ended(change: Change, operation: Operation) -> None:
    """
    Enter how an operation about an experiment has ended; the diary of one that is gone goes with it.
    """
    serial = operation.subject
    if serial in change.host.experiments_by_serial:
        write(
            change,
            serial,
            operation.command,
            operation.caller,
            time=operation.started,
            seconds=max((operation.ended or change.now) - operation.started, 0.0),
            operation=operation.serial,
            outcome=operation.state,
            reason="; ".join(operation.causes),
            nodes=operation.nodes,
        )
    else:
        forget(change, serial)


def forget(change: Change, serial: int) -> None:
    """
    The experiment is gone.
    """
    known = change.host.get(Diary, str(serial))
    if known is not None:
        change.remove(known)


def owe(change: Change, serial: int, what: str, to: str, text: str) -> None:
    """
    Keep what the notify program is to be given, until it has been.

    @param to: whom it is for, by the name that people know.
    """
    known = of(change.host, serial)
    more = {"number": known.sent + 1, "what": what, "to": to, "text": text}
    change.put(attrs.evolve(known, owed=[*known.owed[1 - _OWED :], more], sent=known.sent + 1))


def shown(entry: dict[str, Any]) -> dict[str, Any]:
    """
    An entry as C{history} shows it; an older hostline's may lack keys.
    """
    return {
        "time": entry.get("time", 0.0),
        "what": entry.get("what", ""),
        "who": entry.get("who", ""),
        "name": entry.get("name", ""),
        "seconds": entry.get("seconds"),
        "operation": entry.get("operation"),
        "outcome": entry.get("outcome", ""),
        "reason": entry.get("reason", ""),
        "nodes": entry.get("nodes", []),
    }
