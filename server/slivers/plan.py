"""
What to do next for one sliver, from what should be and what is; pure, and safe to ask again at any time.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostline.server.drivers.driver import CANNOT_START, Status

CREATE, START, STOP, DESTROY = "create", "start", "stop", "destroy"
STARTED, STOPPED, ABSENT = "started", "stopped", "absent"


def next_action(wanted: str, boots: int, status: Status | None) -> str | None:
    """
    The next step towards what is wanted.

    @param wanted: L{STARTED}, L{STOPPED} or L{ABSENT}.
    @param boots: the boot that is wanted; a sliver that has reached it is not started again, even if it died since.
    @param status: None if the driver knows no such sliver.
    @return: None if there is nothing to do.
    """
    if wanted == ABSENT:
        return DESTROY if status is not None else None
    if wanted == STOPPED:
        return STOP if status is not None and status.boot in ("running", "booted") else None
    if status is None:
        return CREATE
    return START if status.boots < boots else None


def reached(wanted: str, boots: int, status: Status | None) -> str | None:
    """
    Whether what an operation waits for is so.

    @return: None if it is not so yet; the empty text if it is; else why it never will be.
    """
    if next_action(wanted, boots, status) is not None:
        return None
    if wanted == STARTED and status is not None:
        if status.boot == "dead" and status.exit_code == CANNOT_START:
            return "; ".join(status.problems) or "could not be started"
        return "" if status.boot in ("booted", "dead") else None
    return ""


def progress(goals: int, left: int) -> float:
    """
    How far an operation is, 0 to 1.
    """
    return 1.0 if goals == 0 else round((goals - left) / goals, 4)


def folded(names: Sequence[str], most: int = 5) -> str:
    """
    A few names for a message: C{a, b, c and 7 more}.
    """
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
