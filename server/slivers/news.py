"""
News of slivers: the events that follow from a status that is no longer what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostline.server.drivers.driver import Status
from hostline.server.records import Experiment, Sliver

if TYPE_CHECKING:
    from hostline.server.host import Change


def news(before: Status | None, status: Status | None) -> list[str]:
    """
    @return: what has come to be: a boot, and C{start_command_ended}; nothing, if it is gone or was told already.
    """
    if status is None or status.boot is None:
        return []
    if before is not None and before.boots != status.boots:
        before = None
    found = [] if before is not None and before.boot == status.boot else [status.boot]
    ended = status.start_command == "ended" and (before is None or before.start_command != "ended")
    if ended and found != ["dead"]:
        found.append("start_command_ended")  # it may have ended before its sliver was seen to be up
    return found


def tell(change: Change, what: str, sliver: Sliver, experiment: Experiment | None, status: Status) -> None:
    """
    Add an event.

    @param experiment: whose node the sliver is; None if it is a free one.
    """
    node = {} if experiment is None else {"node": sliver.name.partition(".")[0]}
    change.tell(
        sliver.topic if experiment is None else f"experiment/{experiment.name}",
        what,
        (sliver.project, sliver.serial) if experiment is None else (experiment.project, experiment.serial),
        sliver=sliver.name,
        **node,
        boot=status.boot,
        code=status.code,
        problems=list(status.problems),
    )
