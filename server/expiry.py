"""
What time takes away: slivers that expire are stopped and kept for a grace time, then destroyed; all by a clock that is
trusted, and with nobody's help. What was taken away by it, or by the authority, C{undo} brings back within that time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import StoreFailed, WrongState
from hostline.server import entries
from hostline.server.asking import Ask, responds
from hostline.server.host import Change, Host
from hostline.server.records import Authority, Sliver
from hostline.server.slivers.doom import Due, due
from hostline.server.slivers.plan import ABSENT
from hostline.server.slivers.trusted_time import Moment, Trust, accepted, trust

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: The most seconds between two looks at the clock; when somebody's time will be over sooner, there is one then.
LOOK_S = 30.0
_SOON_S = 0.05
#: Seconds until a change that could not be written is tried again.
_RETRY_S = 60.0
#: Seconds after which what is known of the clock is written down again: how much a crash may make it forget.
_WRITE_S = 3600.0


def moments(now: Callable[[], float]) -> Callable[[], Moment]:
    """
    @param now: Unix seconds.
    @return: what looks at this machine's clocks.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return lambda: Moment(now(), time.clock_gettime(time.CLOCK_BOOTTIME), boot)


def authority(host: Host) -> Authority:
    """
    @return: the one record of its kind; a new one, if there is none yet.
    """
    return host.get(Authority, "0") or Authority(serial=0)


class Expiry:
    """
    Looks at the clock all the time the daemon runs.

    @ivar trust: what the last look at the clock gave.
    @ivar held: why nothing of what is due is done; empty if it is.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon, moment: Callable[[], Moment]) -> None:
        self._daemon = daemon
        self._moment = moment
        self._anchor: Moment | None = None
        self._written = 0.0
        self._not_before = 0.0
        self._call: IDelayedCall | None = None
        self.trust = Trust(moment())
        self.held = ""

    def start(self) -> None:
        """
        Begin to look; the records are loaded.
        """
        known = authority(self._daemon.host)
        if known.boot:
            self._anchor = Moment(known.wall, known.up, known.boot)
        self._look()

    def close(self) -> None:
        """
        Look no more.
        """
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def look(self, change: Change | None = None, force: bool = False) -> Due:
        """
        Look at the clock, and do what it is time for.

        @param change: to do it in; None makes one if there is something to do.
        @param force: whatever the brake says.
        """
        daemon, now = self._daemon, self._moment()
        settings = daemon.config.authority
        before, self.trust = (
            self.trust,
            trust(
                self._anchor,
                now,
                tolerance_s=settings.clock_ahead_s,
                off_s=settings.clock_off_days * 86400,
                settle_s=settings.clock_settle_s,
            ),
        )
        self._anchor = self.trust.anchor
        found = due(
            daemon.host.free_slivers(),
            daemon.now(),
            distrust=self.trust.distrust,
            grace_s=daemon.config.slivers.grace_days * 86400,
            brake=settings.brake,
            least=settings.brake_least,
            force=force,
        )
        alarm = self.trust.distrust if self.trust.alarm else ""
        was = before.distrust if before.alarm else ""
        news = bool(found.held) != bool(self.held) or bool(alarm) != bool(was)
        self.held = found.held
        write = not authority(daemon.host).boot or abs(now.up - self._written) > _WRITE_S
        if not (found.expired or found.over or news or write):
            return found
        mine = change or daemon.host.change(daemon.now())
        self._carry_out(mine, found)
        if news:
            daemon.host.touched()
            mine.tell("host", "expiry", clock=alarm, held=self.held)
            if alarm or self.held:
                self._log.error("nothing expires: {reason}", reason=alarm or self.held)
        self._write(mine, now)
        if change is None:
            self._not_before = now.up + _RETRY_S
            daemon.commit(mine).addCallbacks(self._well, self._not_written)
        return found

    def news(self, serials: Iterable[int]) -> None:
        """
        The records of these slivers are others now: one's time may be over before the next look.
        """
        if self._call is None or not self._call.active():
            return
        waits_s = self._call.getTime() - self._daemon.clock.seconds()
        for serial in serials:
            sliver = self._daemon.host.slivers_by_serial.get(serial)
            if sliver is not None and sliver.free:
                waits_s = min(waits_s, max(self._left(sliver), _SOON_S))
        self._call.reset(max(waits_s, 0.0))

    def accept(self, change: Change) -> Moment:
        """
        Take what the clock says now for the right time.
        """
        now = self._moment()
        self._anchor = accepted(now)
        self.trust = Trust(self._anchor)
        self._write(change, now)
        change.tell("host", "clock_accepted")
        change.when_committed.append(self._soon)
        self._daemon.host.touched()
        return now

    def _soon(self) -> None:
        if self._call is not None and self._call.active():
            self._call.reset(_SOON_S)

    def _look(self) -> None:
        self._call = self._daemon.clock.callLater(LOOK_S, self._look)
        if self._moment().up < self._not_before:
            return
        try:
            self.look()
        except Exception:
            self._log.failure("looking whose time is over")
        if not self.held and not self.trust.distrust:
            left = min(map(self._left, self._daemon.host.free_slivers()), default=LOOK_S)
            self._call.reset(min(max(left, _SOON_S), LOOK_S))

    def _left(self, sliver: Sliver) -> float:
        """
        @return: the seconds until a sliver's time is over; infinite if that is not to come.
        """
        if sliver.wanted == ABSENT and not sliver.remains:
            return math.inf
        if sliver.doomed is not None:
            end: float | None = sliver.doomed + self._daemon.config.slivers.grace_days * 86400
        else:
            end = sliver.expires
        return math.inf if end is None else end - self._daemon.now()

    def _well(self, _: None) -> None:
        self._not_before = 0.0

    def _not_written(self, failure: Failure) -> None:
        failure.trap(StoreFailed)
        self._written = 0.0

    def _carry_out(self, change: Change, found: Due) -> None:
        for one in found.expired:
            assert isinstance(one, Sliver)
            self._daemon.slivers.doom(change, one, "its time is over")
            entries.tell_done(change, "stop", one.name, via="clock", reason="its time is over")
        for one in found.over:
            assert isinstance(one, Sliver)
            self._daemon.slivers.end(change, one)
            entries.tell_done(change, "destroy", one.name, via="clock", reason="its grace time is over")

    def _write(self, change: Change, now: Moment) -> None:
        anchor, self._written = self.trust.anchor, now.up
        fresh = attrs.evolve(authority(change.host), wall=anchor.wall, up=anchor.up, boot=anchor.boot)
        change.put(fresh)


@responds(TABLE["undo"])
def undo(ask: Ask, name: str) -> dict[str, Any]:
    """
    Bring back a doomed sliver.
    """
    sliver: Sliver = ask.target
    if sliver.wanted == ABSENT and not sliver.remains:
        raise WrongState(f"{name} is being destroyed; it is too late")
    if sliver.doomed is None:
        raise WrongState(f"{name} is not doomed")
    over = sliver.expires is not None and sliver.expires <= ask.now
    # Without a source it is nobody's who could find it missing; when the authority names it again it has one.
    back = ask.daemon.slivers.undo(
        ask.change,
        sliver,
        source="",
        expires=None if over else sliver.expires,
        remains=sliver.remains and (sliver.wanted == ABSENT or sliver.instantiation == "delegated"),
    )
    return ask.daemon.bodies.sliver(back)


@responds(TABLE["accept_clock"])
def accept_clock(ask: Ask) -> dict[str, Any]:
    """
    Trust the clock as it is.
    """
    now = ask.daemon.expiry.accept(ask.change)
    return {"time": now.wall, "trusted": True}


def waits(done: Deferred[None]) -> None:
    """
    Nobody waits for this change: if it could not be written, the store says so in C{doctor}.
    """
    done.addErrback(lambda failure: failure.trap(StoreFailed) and None)
