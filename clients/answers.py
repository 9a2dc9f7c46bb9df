"""
What a command answered in many nodes, for people.
"""

from __future__ import annotations

from hostline.clients.tables import ended
from hostline.protocol.names import escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Names that are told of each answer; the others are counted.
_NAMES = 12


def answers(body: dict[str, Any]) -> str:
    """
    Each answer below the nodes that gave it; at the end those that gave none, and why.
    """
    parts = []
    for one in body["answers"]:
        code = "" if one["exit"] == 0 else f" (exit {one['exit']})"
        cut = "(there was more)\n" if one.get("cut") else ""
        parts.append(f"--- {_names(one['nodes'])}{code}\n{ended(one['out'])}{ended(one['err'])}{cut}")
    whys: dict[str, list[str]] = {}
    for node, why in body["silent"].items():
        whys.setdefault(why, []).append(node)
    parts += [f"--- {_names(nodes)}: {escaped(why)}\n" for why, nodes in whys.items()]
    return "".join(parts) or "(no nodes)\n"


def _names(nodes: list[str]) -> str:
    more = f" and {len(nodes) - _NAMES} more" if len(nodes) > _NAMES else ""
    return ", ".join(escaped(one) for one in nodes[:_NAMES]) + more
