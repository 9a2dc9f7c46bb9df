"""
Idle swap: looks what is done in experiments, and swaps out those that nobody uses, or that have been in for too long.

What was seen is kept in memory: after a start of the daemon every experiment counts as just used. That a warning was
given of the longest time, and what was swapped in when, is in records and lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
from attrs import define
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from hostline.protocol.errors import HostError, StoreFailed
from hostline.server import callers, entries
from hostline.server.drivers.driver import Activity
from hostline.server.experiments import history, idleness
from hostline.server.experiments.idleness import Seen, Terms, Use, Watched
from hostline.server.notices import OPERATORS, Notices
from hostline.server.records import Experiment, Sliver

if TYPE_CHECKING:
    from hostline.server.asking import Ask
    from hostline.server.daemon import Daemon
    from hostline.server.host import Change

#: Seconds that a driver may take to say what is done in a sliver.
ASK_S = 10.0
#: Experiments that one look swaps out at most; the others are for the next.
AT_ONCE = 3
#: The states in which an experiment is looked at.
_PLACED = ("active", "failed")


@define
class _Kept:
    """
    @ivar warned: when its owner was warned last of its idleness, by the clock that nobody sets.
    @ivar blocked: whether it was told that it is not swapped out since nobody knows whether it is used.
    """

    watched: Watched
    warned: float | None = None
    blocked: bool = False


class Idle:
    """
    Looks every C{experiments.idle_look_s} seconds.

    @ivar held: why nobody is swapped out by himself now; empty if that is done.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon, notices: Notices) -> None:
        self._daemon = daemon
        self._notices = notices
        self._kept: dict[int, _Kept] = {}
        self._call: IDelayedCall | None = None
        self._looking = False
        self._closed = False

    def start(self) -> None:
        """
        Begin to look; the records are loaded.
        """
        self._notices.start()
        self._later()

    def close(self) -> None:
        """
        Look no more.
        """
        self._closed = True
        self._notices.close()
        if self._call is not None and self._call.active():
            self._call.cancel()

    @property
    def held(self) -> str:
        """
        Why nobody's time is over now.
        """
        return self._daemon.expiry.trust.distrust

    def asked(self, ask: Ask) -> None:
        """
        Somebody has done what the audit log tells of: if that was with an experiment or a node, it is in use.
        """
        target = ask.target
        if isinstance(target, Experiment):
            self.used(target.serial, ask.row.name)
        elif isinstance(target, Sliver) and not target.free:
            self.used(target.experiment, ask.row.name)

    def used(self, serial: int, what: str) -> None:
        """
        Something was done from outside.

        @param serial: of the experiment.
        @param what: the command.
        """
        experiment = self._daemon.host.experiments_by_serial.get(serial)
        if experiment is not None and experiment.state in _PLACED:
            kept = self._kept.setdefault(serial, _Kept(Watched(self._now())))
            kept.watched = attrs.evolve(kept.watched, outside=self._now(), what=what)

    def terms(self, experiment: Experiment) -> Terms:
        """
        When an experiment is swapped out: as it says itself, within what the site allows.
        """
        site = self._daemon.config.experiments
        standard = site.idle_s if site.idle_swap else 0.0
        most = [one for one in (experiment.most_s, site.most_s) if one > 0]
        return Terms(
            idle_s=standard if experiment.idle_s is None else experiment.idle_s,
            idle_warning_s=site.idle_warning_s,
            remind_s=standard if experiment.no_idle else 0.0,
            most_s=min(most, default=0.0),
            most_warning_s=site.most_warning_s,
        )

    def findings(self) -> list[tuple[str, bool, str, str]]:
        """
        @return: what C{doctor} says: what was looked at, whether it is well, detail and remedy.
        """
        now, found = self._now(), []
        for serial, kept in self._kept.items():
            experiment = self._daemon.host.experiments_by_serial.get(serial)
            stale = kept.watched.stale(now)
            if experiment is not None and stale and self.terms(experiment).idle_s:
                found.append(f"{experiment.name}: nothing heard of {', '.join(stale[:5])}")
        remedy = "see 'doctor' on the driver of these nodes, and 'why' on them; until then they are not swapped out"
        told = self._notices.findings()
        if not found:
            return told
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        return [*told, ("idle swap", False, "; ".join(found[:5]) + more, remedy)]

    def body(self, experiment: Experiment) -> dict[str, Any]:
        """
        The body of C{activity}.
        """
        now = self._now()
        terms, diary = self.terms(experiment), history.of(self._daemon.host, experiment.serial)
        body: dict[str, Any] = {
            "experiment": experiment.name,
            "state": experiment.state,
            "idle": None,
            "used": None,
            "by": "",
            "node": None,
            "idle_limit": terms.idle_s or None,
            "no_idle": experiment.no_idle,
            "most": terms.most_s or None,
            "swap_at": None,
            "swap_for": "",
            "held": "",
            "warned": experiment.warned or diary.told.get(idleness.MOST_WARNING),
            "nodes": [],
        }
        if experiment.state not in _PLACED or not experiment.slivers:
            return body
        kept = self._kept.setdefault(experiment.serial, _Kept(Watched(now)))
        watched, seen = kept.watched, self._seen(experiment, kept)
        used, rule, node = watched.newest()
        due = idleness.due(terms, seen)
        stale = watched.stale(now)
        held = self.held
        if due is not None and not held and due[1] == "idle" and stale:
            held = f"nothing was heard of {', '.join(stale[:5])} for {idleness.STALE_S:g} s"
        body |= {
            "idle": now - used,
            "used": self._wall(used),
            "by": watched.what if rule == idleness.OUTSIDE else rule,
            "node": node or None,
            "swap_at": self._daemon.now() + due[0] if due is not None else None,
            "swap_for": due[1] if due is not None else "",
            "held": held if due is not None else "",
            "nodes": [self._node(name, use) for name, use in sorted(watched.nodes.items())],
        }
        return body

    def _node(self, name: str, use: Use) -> dict[str, Any]:
        now = self._now()
        times = {rule: self._wall(use.used[rule]) if rule in use.used else None for rule in idleness.RULES}
        reported = None if use.reported is None else self._wall(use.reported)
        return {
            "node": name,
            "idle": now - use.last,
            "reported": reported,
            "stale": use.age(now) >= idleness.STALE_S,
            **times,
        }

    # Looking

    def _later(self) -> None:
        if not self._closed:
            self._call = self._daemon.clock.callLater(self._daemon.config.experiments.idle_look_s, self._begin)

    def _begin(self) -> None:
        Deferred.fromCoroutine(self.look()).addErrback(
            lambda failure: self._log.failure("looking who uses what", failure)
        ).addCallback(lambda _: self._later())

    async def look(self) -> None:
        """
        Look at every experiment that is placed, and do what follows.
        """
        host = self._daemon.host
        placed = [one for one in host.experiments_by_serial.values() if one.state in _PLACED and one.slivers]
        for gone in self._kept.keys() - {one.serial for one in placed}:
            del self._kept[gone]
        answers = await gatherResults([Deferred.fromCoroutine(self._ask(one)) for one in placed])
        out = 0
        for one, said in zip(placed, answers, strict=True):
            experiment = host.experiments_by_serial.get(one.serial)
            if self._closed:
                return
            if experiment is None or experiment.state not in _PLACED:
                self._kept.pop(one.serial, None)
                continue
            now = self._now()
            kept = self._kept.setdefault(one.serial, _Kept(Watched(now)))
            kept.watched = idleness.looked(kept.watched, said, now, self._daemon.now())
            try:
                out += self._decide(experiment, kept, out < AT_ONCE)
            except Exception:  # one that cannot be decided about holds up no other
                self._log.failure("deciding about {name}", name=experiment.name)

    async def _ask(self, experiment: Experiment) -> Mapping[str, Activity | None]:
        """
        @return: what is done in each node that is up; None of one that does not say.
        """
        sync, asked = self._daemon.sync, {}
        for node, sliver in self._daemon.host.slivers_of(experiment).items():
            driver, status = sync.drivers.get(sliver.kind), sync.status(sliver.serial)
            if driver is not None and status is not None and status.boot in ("running", "booted"):
                answer = Deferred.fromCoroutine(driver.activity(sliver.serial))
                asked[node] = answer.addTimeout(ASK_S, self._daemon.clock).addErrback(self._not_said, sliver.name)
        said = await gatherResults(list(asked.values()))
        return dict(zip(asked, said, strict=True))

    def _not_said(self, failure: Any, name: str) -> None:
        # It is old news now, which has its own consequences.
        self._log.debug("what is done in {sliver} is not known: {reason}", sliver=name, reason=failure.value)

    # Deciding

    def _seen(self, experiment: Experiment, kept: _Kept) -> Seen:
        now, wall = self._now(), self._daemon.now()
        told = history.of(self._daemon.host, experiment.serial).told
        since = experiment.swapped_in
        most = told.get(idleness.MOST_WARNING)
        if most is not None and (since is None or most < since):
            most = None  # it was of another time that it was in
        reminded = told.get(idleness.REMINDER)
        return Seen(
            idle_s=now - kept.watched.newest()[0],
            in_s=None if since is None else wall - since,
            idle_warned_s=None if kept.warned is None else now - kept.warned,
            most_warned_s=None if most is None else max(wall - most, 0.0),
            reminded_s=None if reminded is None else max(wall - reminded, 0.0),
            stale=bool(kept.watched.stale(now)),
        )

    def _decide(self, experiment: Experiment, kept: _Kept, may_swap: bool) -> bool:
        """
        @param may_swap: whether this look has not swapped out enough yet.
        @return: whether it was swapped out.
        """
        terms, seen = self.terms(experiment), self._seen(experiment, kept)
        experiment = self._forget_warnings(experiment, kept, terms, seen)
        what = idleness.decide(terms, seen)
        if what == idleness.STALE and not kept.blocked:
            kept.blocked = True
            stale = ", ".join(kept.watched.stale(self._now())[:5])
            self._tell(
                experiment, what, f"it is not swapped out though nobody seems to use it: nothing heard of {stale}"
            )
        elif what == idleness.IDLE_WARNING:
            kept.warned = self._now()
            self._warn(
                experiment, kept, what, _warning("nobody has used it", seen.idle_s, terms.idle_s, kept, self._now())
            )
        elif what == idleness.MOST_WARNING:
            self._warn(experiment, kept, what, _warning("it has been in", seen.in_s or 0.0, terms.most_s, None, 0.0))
        elif what == idleness.REMINDER:
            self._remind(experiment, seen)
        elif what in (idleness.IDLE_OUT, idleness.MOST_OUT) and may_swap and not self.held:
            for_s = seen.idle_s if what == idleness.IDLE_OUT else seen.in_s or 0.0
            text = "nobody has used it for" if what == idleness.IDLE_OUT else "it has been in for"
            return self._swap_out(experiment, what, f"{text} {span(for_s)}")
        return False

    def _forget_warnings(self, experiment: Experiment, kept: _Kept, terms: Terms, seen: Seen) -> Experiment:
        """
        Once it is in use again, it will be warned again.
        """
        idle = bool(terms.idle_s) and seen.idle_s >= terms.idle_s - terms.idle_lead_s
        unused = bool(terms.remind_s) and seen.idle_s >= terms.remind_s
        diary = history.of(self._daemon.host, experiment.serial)
        kept.warned = kept.warned if idle else None
        kept.blocked = kept.blocked and idle
        reminded = not unused and (diary.reminders or idleness.REMINDER in diary.told)
        if (idle or experiment.warned is None) and not reminded:
            return experiment
        change = self._daemon.host.change(self._daemon.now())
        if not idle and experiment.warned is not None:
            experiment = change.put(attrs.evolve(experiment, warned=None))
        if reminded:
            told = {what: when for what, when in diary.told.items() if what != idleness.REMINDER}
            change.put(attrs.evolve(diary, told=told, reminders=0))
        self._commit(change)
        return experiment

    def _warn(self, experiment: Experiment, kept: _Kept, what: str, text: str) -> None:
        change = self._tell(experiment, what, text, commit=False)
        change.when_undone.append(lambda: setattr(kept, "warned", None))
        if what == idleness.IDLE_WARNING:
            change.put(attrs.evolve(experiment, warned=change.now))
        else:
            diary = history.of(change.host, experiment.serial)
            change.put(attrs.evolve(diary, told={**diary.told, what: change.now}))
        self._commit(change)

    def _remind(self, experiment: Experiment, seen: Seen) -> None:
        why = f"it is never swapped out, for this reason: {experiment.no_idle}"
        text = f"nobody has used it for {span(seen.idle_s)}; {why}"
        change = self._tell(experiment, idleness.REMINDER, text, commit=False)
        diary = history.of(change.host, experiment.serial)
        count = diary.reminders + 1
        told = {**diary.told, idleness.REMINDER: change.now}
        change.put(attrs.evolve(diary, told=told, reminders=count))
        if count >= idleness.TELL_OPERATORS:
            change.tell("host", "unused", experiment=experiment.name, text=text, reminders=count)
            whole = f"{experiment.name}: {text} (reminder {count})"
            self._notices.tell(change, experiment, idleness.REMINDER, whole, OPERATORS)
        self._commit(change)

    def _tell(self, experiment: Experiment, what: str, text: str, commit: bool = True) -> Change:
        """
        Tell the owner, by an event, in the history, and by the program.
        """
        daemon = self._daemon
        change = daemon.host.change(daemon.now())
        scope = experiment.project, experiment.serial
        change.tell(f"experiment/{experiment.name}", what, scope, experiment=experiment.name, text=text)
        history.write(change, experiment.serial, what, entries.DAEMON, reason=text)
        owner = callers.shown_principal(daemon.host, experiment.owner)
        self._notices.tell(change, experiment, what, f"{experiment.name}: {text}", owner)
        if commit:
            self._commit(change)
        return change

    def _swap_out(self, experiment: Experiment, what: str, text: str) -> bool:
        daemon = self._daemon
        change = self._tell(experiment, what, f"it is swapped out: {text}", commit=False)
        try:
            daemon.lifecycle.swap_out(change, experiment, entries.DAEMON)
        except HostError as error:
            change.undo()
            self._log.warn("{name} was not swapped out: {error}", name=experiment.name, error=error.message)
            return False
        changed = daemon.host.experiments_by_serial[experiment.serial]
        change.put(attrs.evolve(changed, warned=None))
        entries.tell_done(change, "swap_out", experiment.name, via="idle", reason=text)
        self._log.info("{name} is swapped out: {text}", name=experiment.name, text=text)
        self._kept.pop(experiment.serial, None)
        self._commit(change)
        return True

    def _commit(self, change: Change) -> None:
        self._daemon.commit(change).addErrback(lambda failure: failure.trap(StoreFailed) and None)

    # Clocks

    def _now(self) -> float:
        return self._daemon.clock.seconds()

    def _wall(self, when: float) -> float:
        return self._daemon.now() - (self._now() - when)


def _warning(said: str, for_s: float, limit_s: float, kept: _Kept | None, now: float) -> str:
    left = span(max(limit_s - for_s, 0.0))
    stale = kept.watched.stale(now) if kept is not None else []
    unheard = f"; nothing was heard of {', '.join(stale[:5])}, and while that is so it stays" if stale else ""
    return f"{said} for {span(for_s)}; it is swapped out in {left}{unheard}"


def span(seconds: float) -> str:
    """
    A length of time for people.
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
