"""
What the owner of an experiment that nobody uses, or that has been in for long, is told: by an event, in the history,
and by the program of the configuration. It is told once, until that is so no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from attrs import define

from hostline.protocol.errors import StoreFailed
from hostline.protocol.moments import span
from hostline.server import callers, entries
from hostline.server.experiments import history, idleness
from hostline.server.experiments.idleness import Seen, Terms, Watched
from hostline.server.notices import OPERATORS, Notices
from hostline.server.records import Experiment

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon
    from hostline.server.host import Change


@define
class Kept:
    """
    What is kept of an experiment while it is placed.

    @ivar warned: when its owner was warned last of its idleness, by the clock that nobody sets.
    @ivar blocked: whether it was told that it is not swapped out since nobody knows whether it is used.
    """

    watched: Watched
    warned: float | None = None
    blocked: bool = False


class Warnings:
    """
    Warns, reminds, and forgets that it has.

    @ivar notices: what the program of the configuration is given.
    """

    def __init__(self, daemon: Daemon, notices: Notices) -> None:
        self._daemon = daemon
        self.notices = notices

    def forget(self, experiment: Experiment, kept: Kept, terms: Terms, seen: Seen) -> Experiment:
        """
        Once it is in use again, its owner will be warned again.

        @return: the experiment as it is then.
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
        self.commit(change)
        return experiment

    def warn(self, experiment: Experiment, kept: Kept, what: str, text: str) -> None:
        """
        Warn of what is about to come; if that cannot be written, it was not said.

        @param what: L{idleness.IDLE_WARNING} or L{idleness.MOST_WARNING}.
        """
        change = self.tell(experiment, what, text, commit=False)
        change.when_undone.append(lambda: setattr(kept, "warned", None))
        if what == idleness.IDLE_WARNING:
            change.put(attrs.evolve(experiment, warned=change.now))
        else:
            diary = history.of(change.host, experiment.serial)
            change.put(attrs.evolve(diary, told={**diary.told, what: change.now}))
        self.commit(change)

    def remind(self, experiment: Experiment, seen: Seen) -> None:
        """
        Remind of one that is never swapped out; from the third time on operators hear of it, too.
        """
        why = f"it is never swapped out, for this reason: {experiment.no_idle}"
        text = f"nobody has used it for {span(seen.idle_s)}; {why}"
        change = self.tell(experiment, idleness.REMINDER, text, commit=False)
        diary = history.of(change.host, experiment.serial)
        count = diary.reminders + 1
        told = {**diary.told, idleness.REMINDER: change.now}
        change.put(attrs.evolve(diary, told=told, reminders=count))
        if count >= idleness.TELL_OPERATORS:
            change.tell("host", "unused", experiment=experiment.name, text=text, reminders=count)
            whole = f"{experiment.name}: {text} (reminder {count})"
            self.notices.tell(change, experiment, idleness.REMINDER, whole, OPERATORS)
        self.commit(change)

    def tell(self, experiment: Experiment, what: str, text: str, commit: bool = True) -> Change:
        """
        Tell the owner, by an event, in the history, and by the program.
        """
        daemon = self._daemon
        change = daemon.host.change(daemon.now())
        scope = experiment.project, experiment.serial
        change.tell(f"experiment/{experiment.name}", what, scope, experiment=experiment.name, text=text)
        history.write(change, experiment.serial, what, entries.DAEMON, reason=text)
        owner = callers.shown_principal(daemon.host, experiment.owner)
        self.notices.tell(change, experiment, what, f"{experiment.name}: {text}", owner)
        if commit:
            self.commit(change)
        return change

    def commit(self, change: Change) -> None:
        """
        Make it durable; what could not be written is told anew by the next look.
        """
        self._daemon.commit(change).addErrback(lambda failure: failure.trap(StoreFailed) and None)


def warning(said: str, for_s: float, limit_s: float, kept: Kept | None, now: float) -> str:
    """
    @param said: what there is to warn of, C{for_s} seconds of it and C{limit_s} in all.
    @param kept: where it hangs on whether anybody knows, at C{now}.
    """
    left = span(max(limit_s - for_s, 0.0))
    stale = kept.watched.stale(now) if kept is not None else []
    unheard = f"; nothing was heard of {', '.join(stale[:5])}, and while that is so it stays" if stale else ""
    return f"{said} for {span(for_s)}; it is swapped out in {left}{unheard}"
