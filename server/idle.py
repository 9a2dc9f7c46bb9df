"""
Idle swap: looks what is done in experiments, and swaps out those that nobody uses, or that have been in for too long.

What was seen is kept in memory: after a start of the daemon every experiment counts as just used. That a warning was
given of the longest time, and what was swapped in when, is in records and lasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from hostline.protocol.errors import HostError
from hostline.protocol.moments import span
from hostline.server import entries
from hostline.server.drivers.driver import Activity
from hostline.server.experiments import history, idleness
from hostline.server.experiments.idleness import Seen, Terms, Use, Watched
from hostline.server.idle_warnings import Kept, Warnings, warning
from hostline.server.notices import Notices
from hostline.server.records import Experiment, Sliver

if TYPE_CHECKING:
    from hostline.server.asking import Ask
    from hostline.server.daemon import Daemon

#: Seconds that a driver may take to say what is done in a sliver.
ASK_S = 10.0
#: Experiments that one look swaps out at most; the others are for the next.
AT_ONCE = 3
#: The states in which an experiment is looked at.
_PLACED = ("active", "failed")


class Idle:
    """
    Looks every C{experiments.idle_look_s} seconds.

    @ivar held: why nobody is swapped out by himself now; empty if that is done.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon, notices: Notices) -> None:
        self._daemon = daemon
        self._warnings = Warnings(daemon, notices)
        self._kept: dict[int, Kept] = {}
        self._call: IDelayedCall | None = None
        self._looking = False
        self._closed = False

    def start(self) -> None:
        """
        Begin to look; the records are loaded.
        """
        self._warnings.notices.start()
        self._later()

    def close(self) -> None:
        """
        Look no more.
        """
        self._closed = True
        self._warnings.notices.close()
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
            kept = self._kept.setdefault(serial, Kept(Watched(self._now())))
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
        told = self._warnings.notices.findings()
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
        kept = self._kept.setdefault(experiment.serial, Kept(Watched(now)))
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
            kept = self._kept.setdefault(one.serial, Kept(Watched(now)))
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

    def _seen(self, experiment: Experiment, kept: Kept) -> Seen:
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

    def _decide(self, experiment: Experiment, kept: Kept, may_swap: bool) -> bool:
        """
        @param may_swap: whether this look has not swapped out enough yet.
        @return: whether it was swapped out.
        """
        terms, seen = self.terms(experiment), self._seen(experiment, kept)
        experiment = self._warnings.forget(experiment, kept, terms, seen)
        what = idleness.decide(terms, seen)
        if what == idleness.STALE and not kept.blocked:
            kept.blocked = True
            stale = ", ".join(kept.watched.stale(self._now())[:5])
            self._warnings.tell(
                experiment, what, f"it is not swapped out though nobody seems to use it: nothing heard of {stale}"
            )
        elif what == idleness.IDLE_WARNING:
            kept.warned = self._now()
            self._warnings.warn(
                experiment, kept, what, warning("nobody has used it", seen.idle_s, terms.idle_s, kept, self._now())
            )
        elif what == idleness.MOST_WARNING:
            self._warnings.warn(
                experiment, kept, what, warning("it has been in", seen.in_s or 0.0, terms.most_s, None, 0.0)
            )
        elif what == idleness.REMINDER:
            self._warnings.remind(experiment, seen)
        elif what in (idleness.IDLE_OUT, idleness.MOST_OUT) and may_swap and not self.held:
            for_s = seen.idle_s if what == idleness.IDLE_OUT else seen.in_s or 0.0
            text = "nobody has used it for" if what == idleness.IDLE_OUT else "it has been in for"
            return self._swap_out(experiment, what, f"{text} {span(for_s)}")
        return False

    def _swap_out(self, experiment: Experiment, what: str, text: str) -> bool:
        daemon = self._daemon
        change = self._warnings.tell(experiment, what, f"it is swapped out: {text}", commit=False)
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
        self._warnings.commit(change)
        return True

    # Clocks

    def _now(self) -> float:
        return self._daemon.clock.seconds()

    def _wall(self, when: float) -> float:
        return self._daemon.now() - (self._now() - when)
