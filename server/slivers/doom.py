"""
Whose time is over: slivers that expire, and doomed ones whose grace time has ended; pure.

It needs nobody: the records that are kept and a clock that can be trusted are enough, so it goes on while the
authority cannot be reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from attrs import field, frozen

from hostline.server.slivers.plan import ABSENT, folded


class Timed(Protocol):
    """
    The part of L{hostline.server.records.Sliver} that is looked at here.
    """

    @property
    def name(self) -> str: ...

    @property
    def wanted(self) -> str: ...

    @property
    def remains(self) -> bool: ...

    @property
    def doomed(self) -> float | None: ...

    @property
    def expires(self) -> float | None: ...


_T = TypeVar("_T", bound=Timed)


@frozen
class Due:
    """
    @ivar expired: those to be stopped and doomed; C{over}: doomed ones to be destroyed, with all that is theirs.
    @ivar held: why nothing of what is due is done; empty if it is.
    """

    expired: list[Timed] = field(factory=list)
    over: list[Timed] = field(factory=list)
    held: str = ""


def due(
    slivers: Iterable[Timed],
    now: float,
    *,
    distrust: str,
    grace_s: float,
    brake: float,
    least: int,
    force: bool = False,
) -> Due:
    """
    What the present time means for slivers.

    @param now: Unix seconds.
    @param distrust: why the clock is not to be trusted; empty if it is.
    @param grace_s: how long a doomed sliver is kept.
    @param brake: which part of all living slivers may expire at once; C{least}: that many may always.
    @param force: whatever the brake says. A clock that is not trusted ends nothing all the same.
    """
    expired: list[Timed] = []
    over: list[Timed] = []
    living = 0
    for one in slivers:
        if one.doomed is not None:
            if now - one.doomed >= grace_s and (one.remains or one.wanted != ABSENT):
                over.append(one)
            continue
        living += 1
        if one.expires is not None and one.expires <= now and (one.remains or one.wanted != ABSENT):
            expired.append(one)
    if distrust:
        late = expired + over
        return Due(held=f"{distrust}; due, and left alone: {_names(late)}" if late else "")
    if len(expired) > least and len(expired) > brake * living and not force:
        held = f"{len(expired)} of {living} slivers expire at once, more than the brake allows: {_names(expired)}"
        return Due([], over, held)
    return Due(expired, over)


def _names(slivers: list[Timed]) -> str:
    return folded(sorted(one.name for one in slivers))
