"""
Whether this host's clock can be trusted to say that somebody's time is over; pure.

Two clocks are compared: the wall's, which can be set to anything, and the one that counts since the host came up. What
the wall clock has gained on the other is no time that has passed. An anchor, kept over restarts, holds both.
"""

from __future__ import annotations

from attrs import evolve, frozen

#: What the clock may gain or lose by being put right in small steps: this part of the time that passes.
CREEP = 0.001


@frozen
class Moment:
    """
    One look at the clocks.

    @ivar wall: Unix seconds; C{up}: seconds since the host came up, asleep or not (CLOCK_BOOTTIME).
    @ivar boot: the kernel's id of this time that it is up.
    """

    wall: float
    up: float
    boot: str


@frozen
class Trust:
    """
    @ivar anchor: the one to be kept from now on.
    @ivar distrust: why nobody's time is over now; empty if the clock is trusted.
    @ivar alarm: whether that is wrong, and not only early.
    """

    anchor: Moment
    distrust: str = ""
    alarm: bool = False


def trust(anchor: Moment | None, now: Moment, *, tolerance_s: float, off_s: float, settle_s: float) -> Trust:
    """
    Look at the clocks.

    While the wall clock is behind, the anchor stays ahead: a clock that was set back and comes forward again has not
    jumped. While it is not trusted, the anchor stays behind, so that the clock is trusted again once it is put right.

    @param anchor: what the last look gave; None at the first one ever.
    @param tolerance_s: what the wall clock may gain.
    @param off_s: how long the host may have been off, as far as anybody would believe.
    @param settle_s: for so long after the host came up nobody's time is over: until the network has set the clock, it
        may say anything.
    """
    if anchor is None:
        anchor = now
    if anchor.boot != now.boot or now.up < anchor.up:
        gap = now.wall - anchor.wall
        if gap > off_s:
            days = f"{gap / 86400:.1f} days"
            return Trust(anchor, f"the clock says that this host was off for {days}, which is not believed", True)
        if gap < 0:
            return Trust(anchor, _early(now, settle_s))
        return Trust(now, _early(now, settle_s))
    passed = now.up - anchor.up
    gained = now.wall - anchor.wall - passed
    if gained > tolerance_s:
        return Trust(anchor, f"the clock has jumped {_span(gained)} ahead of the time that has passed", True)
    ahead = max(min(gained, passed * CREEP), -passed * CREEP) if gained > -tolerance_s else 0.0
    return Trust(Moment(anchor.wall + passed + ahead, now.up, now.boot), _early(now, settle_s))


def accepted(now: Moment) -> Moment:
    """
    @return: the anchor that makes the present time the right one.
    """
    return evolve(now)


def _early(now: Moment, settle_s: float) -> str:
    return f"the host came up {now.up:.0f} s ago; the clock may not be set yet" if now.up < settle_s else ""


def _span(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days" if seconds >= 2 * 86400 else f"{seconds:.0f} s"
