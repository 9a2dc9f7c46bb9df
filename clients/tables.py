"""
Reply bodies for people: tables, records and texts, from the value alone.

Nothing that a guest or another user made up reaches the terminal as a control character.
"""

from __future__ import annotations

import time

from hostline.protocol.names import escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

#: What is shown of a list of dicts, by reply word; otherwise whatever fits into a cell.
COLUMNS: dict[str, tuple[str, ...]] = {
    "experiments_reply": ("name", "state", "owner", "nodes", "created", "swapped_in"),
    "operations_reply": ("operation", "command", "target", "state", "step", "started", "ended", "causes"),
    "slivers_reply": (
        "name",
        "kind",
        "image",
        "state",
        "code",
        "owner",
        "address",
        "loans",
        "expires",
        "doomed_until",
        "instantiation",
        "problems",
    ),
    "images_reply": ("name", "kind", "state", "step", "progress", "sha256", "size", "created", "slivers", "problems"),
    "events_reply": ("cursor", "time", "topic", "what", "request"),
    "users_reply": ("name", "uid", "projects", "keys"),
}
#: What is shown of nodes and links, wherever they are.
NODES = ("name", "host", "pnode", "kind", "boot", "code", "start_command", "address", "problems")
LINKS = ("link", "kind", "members", "rate_kbps", "delay_ms", "loss", "by")
#: Columns that say nothing when they are empty everywhere.
_DISPENSABLE = frozenset(
    [
        *("pnode", "image", "address", "problems", "causes", "by", "swapped_in", "request"),
        *("loans", "expires", "doomed_until", "step", "progress"),
    ]
)
_TIMES = frozenset(
    [
        *("time", "created", "swapped_in", "started", "ended", "expires", "doomed_until", "submitted", "until"),
        *("issued", "revoked"),
    ]
)
_LONGEST_CELL = 60


def readable(word: str, body: Any) -> str:
    """
    @param word: the reply word.
    @param body: of the reply.
    @return: lines, each ended.
    """
    if word == "status_reply" and isinstance(body, dict):
        return _status(body)
    if word == "help_reply" and isinstance(body, dict):
        return "".join(f"{one['usage']}\n    {one['help']}\n" for one in body.values())
    if word == "logs_reply" and isinstance(body, dict):
        return "".join(f"--- {name}\n{ended(text)}" for name, text in body.items() if text) or "(nothing yet)\n"
    if word == "doctor_reply" and isinstance(body, list) and all(isinstance(one, dict) for one in body):
        return _findings(body)
    if word in ("why_reply", "activity_reply", "set_swap_reply", "history_reply"):
        from hostline.clients import upkeep

        return upkeep.READERS[word](body)
    if word == "run_reply" and isinstance(body, dict):
        from hostline.clients import answers

        return answers.answers(body)
    if word in ("check_topology_reply", "plan_experiment_reply") and isinstance(body, dict):
        from hostline.protocol.emulab import checked

        # What is wrong in full and last, as nscheck has it.
        rest = {name: value for name, value in body.items() if name not in ("warnings", "errors")}
        return record(rest) + escaped(checked(body), "\n")
    if word == "topology_reply" and isinstance(body, dict):
        return ended(body["text"])
    if isinstance(body, dict):
        return record(body)
    if isinstance(body, list):
        return _list(body, COLUMNS.get(word))
    return f"{cell(body)}\n"


def _status(body: dict[str, Any]) -> str:
    rows = [
        [hypervisor, node, *(cell(one) for one in status)]
        for hypervisor, nodes in sorted(body.items())
        for node, status in sorted(nodes.items())
    ]
    return table(("hypervisor", "node", "boot", "code"), rows) if rows else "(not swapped in)\n"


def _findings(body: list[dict[str, Any]]) -> str:
    """
    What was found in full, with what to do about it below.
    """
    rows = [[cell(one.get(name), longest=None) for name in ("check", "ok", "detail")] for one in body]
    lines = table(("check", "ok", "detail"), rows).splitlines(True)
    for at in reversed(range(len(body))):
        if remedy := body[at].get("remedy"):
            lines.insert(at + 2, f"    {cell(remedy, longest=None)}\n")
    return "".join(lines)


def _list(items: list[Any], columns: Sequence[str] | None = None, indent: str = "") -> str:
    if not items:
        return f"{indent}(none)\n"
    if not all(isinstance(one, dict) for one in items):
        return "".join(f"{indent}{cell(one)}\n" for one in items)
    names = list(columns or _columns(items))
    rows = [[cell(one.get(name), name) for name in names] for one in items]
    kept = [
        at for at, name in enumerate(names) if name not in _DISPENSABLE or any(row[at] not in ("", "-") for row in rows)
    ]
    return table([names[at] for at in kept], [[row[at] for at in kept] for row in rows], indent)


def _columns(items: list[dict[str, Any]]) -> Sequence[str]:
    if "node" in items[0] and "boot" in items[0]:
        return NODES
    if "link" in items[0] and "members" in items[0]:
        return LINKS
    names = dict.fromkeys(name for one in items for name in one)
    return [name for name in names if name != "serial"]


def record(body: dict[str, Any], indent: str = "") -> str:
    """
    A dict: a line for each plain value, what is in lists and dicts of others below its key.
    """
    if not body:
        return f"{indent}(none)\n"
    width = max(len(name) for name in body) + 1
    lines = []
    for name, value in body.items():
        if isinstance(value, dict) and value and all(isinstance(one, dict) for one in value.values()):
            lines.append(f"{indent}{escaped(name)}:\n{_list(list(value.values()), None, indent + '  ')}")
        elif isinstance(value, list) and value and any(isinstance(one, dict) for one in value):
            lines.append(f"{indent}{escaped(name)}:\n{_list(value, None, indent + '  ')}")
        elif isinstance(value, dict) and value:
            lines.append(f"{indent}{escaped(name)}:\n{record(value, indent + '  ')}")
        elif isinstance(value, list) and len(value) > 1:
            lines.append(f"{indent}{escaped(name)}:\n" + "".join(f"{indent}  {cell(one)}\n" for one in value))
        elif isinstance(value, str) and "\n" in value:
            lines.append(f"{indent}{escaped(name)}:\n{ended(value)}")
        else:
            lines.append(f"{indent}{escaped(name) + ':':<{width}} {cell(value, name, longest=None)}".rstrip() + "\n")
    return "".join(lines)


def table(names: Sequence[str], rows: Iterable[Sequence[str]], indent: str = "") -> str:
    """
    Columns two blanks apart, names in capitals above them.
    """
    lines = [[name.upper() for name in names], *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    return "".join(
        indent + "  ".join(f"{one:<{width}}" for one, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def cell(value: Any, name: str = "", longest: int | None = _LONGEST_CELL) -> str:
    """
    One value on one line.

    @param name: its key, which may say that it is a time.
    """
    if value is None or value in ([], {}, ""):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and name in _TIMES:
        return moment(value) if value else "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        if "link" in value and "ip4" in value:  # an interface
            text = f"{value['link']} {value['ip4'] or ''}".rstrip()
        elif all(isinstance(one, str | int | float) for one in value.values()):
            text = ", ".join(f"{key}={cell(one)}" for key, one in value.items())
        else:
            text = str(len(value))
    elif isinstance(value, list):
        text = ", ".join(cell(one) for one in value)
    else:
        text = str(value)
    text = escaped(text)
    return text if longest is None or len(text) <= longest else text[: longest - 3] + "..."


def moment(seconds: float) -> str:
    """
    A time as the reader's clock shows it.
    """
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g}"


def ended(text: str) -> str:
    """
    A text of lines, safe to show, with its last line ended.
    """
    text = escaped(text, "\n\t")
    return text if not text or text.endswith("\n") else text + "\n"
