"""
What to do next for one sliver, from what should be and what is; pure, and safe to ask again at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hostline.server.drivers.driver import CANNOT_START, Status
from hostline.server.records import Sliver

CREATE, START, STOP, DESTROY, CONFIGURE = "create", "start", "stop", "destroy", "configure"
STARTED, STOPPED, ABSENT = "started", "stopped", "absent"


def next_action(wanted: str, boots: int, status: Status | None, builds: int = 1) -> str | None:
    """
    The next step towards what is wanted.

    @param wanted: L{STARTED}, L{STOPPED} or L{ABSENT}.
    @param boots: the boot that is wanted; a sliver that has reached it is not started again, even if it died since.
    @param status: None if the driver knows no such sliver.
    @param builds: the making that is wanted; an earlier one is destroyed first.
    @return: None if there is nothing to do.
    """
    if wanted == ABSENT or (status is not None and status.builds < builds):
        return DESTROY if status is not None else None
    if wanted == STOPPED:
        if status is None:
            return CREATE if builds > 1 else None
        return STOP if status.boot in ("running", "booted") else None
    if status is None:
        return CREATE
    return START if status.boots < boots else None


def reached(wanted: str, boots: int, status: Status | None, builds: int = 1) -> str | None:
    """
    Whether what an operation waits for is so.

    @return: None if it is not so yet; the empty text if it is; else why it never will be.
    """
    if next_action(wanted, boots, status, builds) is not None:
        return None
    if wanted == STARTED and status is not None:
        if failed(status):
            return "; ".join(status.problems) or "could not be started"
        return "" if status.boot in ("booted", "dead") else None
    return ""


def failed(status: Status) -> bool:
    """
    Whether a sliver could not be made, or this boot could not be started.
    """
    return status.boot == "dead" and status.exit_code == CANNOT_START


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


def state(sliver: Sliver, status: Status | None, busy: bool) -> str:
    """
    The state of a free sliver, as on the wire.

    @param busy: whether a step is being taken for it.
    """
    if sliver.doomed is not None and sliver.wanted != ABSENT:
        return "doomed"
    up = status is not None and status.boot in ("running", "booted")
    if sliver.aim == ABSENT:
        return "absent" if status is None and not busy else "destroying"
    if status is not None and failed(status) and not busy:
        return "failed"
    if status is None or status.builds < sliver.builds:
        return "creating" if sliver.aim == STARTED or busy else "absent"
    if sliver.aim == STOPPED:
        return "stopping" if up else "stopped"
    if status.boots < sliver.boots or status.boot in (None, "running"):
        return "starting"
    return "running" if up else "stopped"


def drift(asked: Mapping[str, int], in_force: Mapping[str, int]) -> list[str]:
    """
    Where the kernel holds a sliver to something else than what is asked, in words.
    """
    return [
        f"{resource} is {there} on the host and should be {asked[resource]}"
        for resource, there in sorted(in_force.items())
        if resource in asked and asked[resource] != there
    ]
