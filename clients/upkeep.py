"""
Who uses an experiment, what became of it, and why a node is as it is, for people.
"""

from __future__ import annotations

from hostline.clients.tables import cell, moment, table
from hostline.protocol.moments import span
from hostline.protocol.names import escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: The rules by which a node is in use, as the columns of a table.
_RULES = ("terminal", "load", "links", "control")


def why(body: dict[str, Any]) -> str:
    """
    The verdict, and below it what was found, the innermost cause first.
    """
    lines = [f"{escaped(body['node'])}: {escaped(body['verdict'])}\n"]
    for one in body["causes"]:
        when = f"  ({moment(one['when'])})" if one.get("when") else ""
        lines.append(f"  {escaped(one['cause'])}: {escaped(one['detail'])}{when}\n")
    return "".join(lines)


def activity(body: dict[str, Any]) -> str:
    """
    In sentences, and a table of nodes with when each was in use last, by which rule.
    """
    name = escaped(body["experiment"])
    if body["idle"] is None:
        return f"{name} is {body['state']}{_terms(body)}\n"
    by = f": {escaped(body['by'])}" if body["by"] else " (since then the daemon looks)"
    on = f" on {escaped(body['node'])}" if body["node"] else ""
    lines = [f"{name} is {body['state']}; last in use {moment(body['used'])}, {span(body['idle'])} ago{by}{on}\n"]
    if body["swap_at"] is not None:
        what = "unless it is used" if body["swap_for"] == "idle" else "whoever uses it"
        lines.append(f"it is swapped out at {moment(body['swap_at'])} {what}{_terms(body)}\n")
    else:
        lines.append(f"it is not swapped out by itself{_terms(body)}\n")
    if body["held"]:
        lines.append(f"but not now: {escaped(body['held'])}\n")
    if body["nodes"]:
        rows = [
            [
                escaped(one["node"]),
                span(one["idle"]) + (" (stale)" if one["stale"] else ""),
                *(moment(one[rule]) if one[rule] else "-" for rule in _RULES),
            ]
            for one in body["nodes"]
        ]
        lines.append(table(("node", "idle", *_RULES), rows))
    return "".join(lines)


def history(body: list[dict[str, Any]]) -> str:
    """
    A line for each thing, whole.
    """
    if not body:
        return "(none)\n"
    rows = [
        [
            moment(one["time"]),
            escaped(one["what"]),
            escaped(one["name"]),
            span(one["seconds"]) if one["seconds"] is not None else "-",
            escaped(one["outcome"]),
            cell([*one["nodes"], *([one["reason"]] if one["reason"] else [])], longest=None),
        ]
        for one in body
    ]
    return table(("time", "what", "who", "took", "outcome", "reason"), rows)


def _terms(body: dict[str, Any]) -> str:
    terms = []
    if body["no_idle"]:
        terms.append(f"never for want of use: {escaped(body['no_idle'])}")
    elif body["idle_limit"] is not None:
        terms.append(f"after {span(body['idle_limit'])} without use")
    if body["most"] is not None:
        terms.append(f"after {span(body['most'])} in all")
    return f" ({'; '.join(terms)})" if terms else ""


READERS: dict[str, Callable[[Any], str]] = {
    "why_reply": why,
    "activity_reply": activity,
    "set_swap_reply": activity,
    "history_reply": history,
}
