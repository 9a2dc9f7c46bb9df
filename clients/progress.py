"""
Slow work, watched on a terminal until it has ended.
"""

from __future__ import annotations

import os
import time

from hostline.clients.client import GRACE_S, Client
from hostline.protocol.names import escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds between two looks.
INTERVAL_S = 1.0


class Progress:
    """
    One line on standard error that says how far an operation is.
    """

    def __init__(self, columns: int | None = None) -> None:
        """
        @param columns: of the terminal; None asks it.
        """
        self._begun = time.monotonic()
        self._columns = columns
        self._shown = False

    def show(self, operation: dict[str, Any]) -> None:
        """
        @param operation: as in an C{operation_reply}.
        """
        text = line(operation, time.monotonic() - self._begun)
        columns = self._columns or _columns()
        _write(f"\r\x1b[K{text[: columns - 1]}")
        self._shown = True

    def clear(self) -> None:
        """
        Leave nothing of the line.
        """
        if self._shown:
            _write("\r\x1b[K")
            self._shown = False


def line(operation: dict[str, Any], seconds: float) -> str:
    """
    C{swap_in lab/exp1: 3 of 20 nodes, 15 %, 12 s}
    """
    parts = [str(operation.get("step") or operation["state"])]
    progress = operation.get("progress")
    if progress is not None:
        parts.append(f"{progress:.0%}".replace("%", " %"))
    parts.append(f"{seconds:.0f} s")
    return escaped(f"{operation['command']} {operation['target']}: {', '.join(parts)}")


def follow(client: Client, operation: dict[str, Any], deadline: float | None) -> dict[str, Any]:
    """
    Show an operation until it has ended or the deadline is over.

    @param deadline: on C{time.monotonic}.
    @return: the operation as it is then.
    @raise HostError: if the daemon does not tell.
    """
    shown = Progress()
    try:
        while operation["ended"] is None:
            shown.show(operation)
            left = INTERVAL_S if deadline is None else min(INTERVAL_S, deadline - time.monotonic())
            if left <= 0:
                break
            operation = client.said(f"wait {operation['operation']} timeout={left:.3f}", left + GRACE_S).body
    finally:
        shown.clear()
    return operation


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def _write(text: str) -> None:
    try:
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass
