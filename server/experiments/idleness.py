"""
Whether anybody uses an experiment, and what follows if nobody does; decides, does no I/O.

The rules are Emulab's (slothd, idlemail): a keystroke, a task that always runs or wants to, packets on links, many
packets out over the control network, or something done from outside. One node in use keeps the whole experiment.

Times are seconds of a clock that nobody sets, but those of keystrokes, which are the kernel's and only compared with
each other: so no clock that is put right makes an experiment look idle.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, field, frozen

from hostline.server.drivers.driver import Activity

#: The rules, as C{activity} names them.
TERMINAL, LOAD, LINKS, CONTROL, OUTSIDE = "terminal", "load", "links", "control", "outside"
RULES = (TERMINAL, LOAD, LINKS, CONTROL)
#: Packets in or out over links, and out over the control network, that are use if they come within one window.
PACKETS, CONTROL_PACKETS = 5, 1000
WINDOW_S = 300.0
#: What an activity whose oldest report is older than this says is not believed.
STALE_S = 600.0
#: Seconds between two reminders of one that is never swapped out; from which of them on operators are told too.
REMIND_S, TELL_OPERATORS = 4 * 3600.0, 3

IDLE_WARNING, IDLE_OUT, STALE = "idle_warning", "idle_swap", "idle_stale"
MOST_WARNING, MOST_OUT, REMINDER = "most_warning", "most_swap", "idle_reminder"


@frozen
class Use:
    """
    What is known of the use of one node.

    @ivar since: when somebody began to look.
    @ivar reported: when its driver last said something of it; None if it has not.
    @ivar begun: what counters are compared with in this window.
    @ivar input: the newest keystroke that was told, Unix seconds.
    @ivar used: when it was last in use, by rule.
    """

    since: float
    reported: float | None = None
    begun: Activity | None = None
    input: float = 0.0
    used: Mapping[str, float] = field(factory=dict)

    @property
    def last(self) -> float:
        """
        When it was last in use by any rule, or since when anybody looks.
        """
        return max(self.used.values(), default=self.since)

    def age(self, now: float) -> float:
        """
        @return: the seconds for which nothing was heard of it.
        """
        return now - (self.since if self.reported is None else self.reported)


@frozen
class Watched:
    """
    What is known of the use of one experiment.

    @ivar since: when somebody began to look.
    @ivar outside: when something was last done with it from outside, and C{what} that was; None if not since then.
    @ivar nodes: by node, of those that are up.
    """

    since: float
    outside: float | None = None
    what: str = ""
    nodes: Mapping[str, Use] = field(factory=dict)

    def newest(self) -> tuple[float, str, str]:
        """
        @return: when it was last in use, by which rule and on which node; both empty if it was not since we look.
        """
        found = [(self.since, "", "")]
        if self.outside is not None:
            found.append((self.outside, OUTSIDE, ""))
        found += [(when, rule, node) for node, use in self.nodes.items() for rule, when in use.used.items()]
        return max(found)

    def stale(self, now: float) -> list[str]:
        """
        @return: the nodes of which nothing was heard for too long, by name.
        """
        return sorted(node for node, use in self.nodes.items() if use.age(now) >= STALE_S)


@frozen
class Terms:
    """
    When an experiment is swapped out.

    @ivar idle_s: seconds without use; 0: never for that.
    @ivar idle_warning_s: seconds before, that its owner is warned.
    @ivar remind_s: of one that is never swapped out for want of use: from when on its owner is reminded; 0: never.
    @ivar most_s: seconds in all; 0: never for that. C{most_warning_s}: as above.
    """

    idle_s: float = 0.0
    idle_warning_s: float = 0.0
    remind_s: float = 0.0
    most_s: float = 0.0
    most_warning_s: float = 0.0

    @property
    def idle_lead_s(self) -> float:
        """
        How long before its time its owner is really warned: who wants to be swapped out soon is not warned at once.
        """
        return min(self.idle_warning_s, self.idle_s / 2)

    @property
    def most_lead_s(self) -> float:
        """
        The same, of the longest time.
        """
        return min(self.most_warning_s, self.most_s / 2)


@frozen
class Seen:
    """
    How an experiment stands.

    @ivar idle_s: seconds since it was last in use. C{in_s}: seconds since it was swapped in; None if not known.
    @ivar idle_warned_s: seconds since its owner was warned of that; None if not since it was in use; C{most_warned_s},
        C{reminded_s} likewise.
    @ivar stale: whether of a node nothing was heard for too long.
    """

    idle_s: float
    in_s: float | None = None
    idle_warned_s: float | None = None
    most_warned_s: float | None = None
    reminded_s: float | None = None
    stale: bool = False


def heard(use: Use, said: Activity, wall: float) -> Use:
    """
    What is known of a node after its driver said something of it.

    @param wall: Unix seconds when it said so.
    """
    now, begun = said.taken, use.begun
    used = dict(use.used)
    if said.input > use.input:
        # It came since the last report, whatever the clock of the wall says; before the first one, if that is so.
        since = use.since if use.reported is None else use.reported
        age = max(wall - said.input, 0.0)
        if use.reported is not None or age <= now - since:
            used[TERMINAL] = max(now - age, since, used.get(TERMINAL, since))
    active = used.get(TERMINAL) != use.used.get(TERMINAL)
    # One that runs all the time is a little less than one when it is measured.
    if round(said.load, 1) >= 1:
        used[LOAD], active = now, True
    for rule, count, before, least in (
        (LINKS, said.experiment_packets, begun.experiment_packets if begun else None, PACKETS),
        (CONTROL, said.control_packets, begun.control_packets if begun else None, CONTROL_PACKETS),
    ):
        if before is not None and count - before >= least:
            used[rule], active = now, True
    return Use(use.since, now, _window(begun, said, active), said.input, used)


def _window(begun: Activity | None, said: Activity, active: bool) -> Activity:
    """
    What counters are compared with from now on. One that fell began anew: its node, or its interface, is a new one.
    """
    if begun is None or active or said.taken - begun.taken >= WINDOW_S:
        return said
    return evolve(
        begun,
        experiment_packets=min(begun.experiment_packets, said.experiment_packets),
        control_packets=min(begun.control_packets, said.control_packets),
    )


def looked(watched: Watched, said: Mapping[str, Activity | None], now: float, wall: float) -> Watched:
    """
    What is known of an experiment after a look at all its nodes that are up.

    @param said: by node; None of one that cannot be asked.
    """
    nodes = {}
    for node, activity in said.items():
        use = watched.nodes.get(node) or Use(now)
        nodes[node] = use if activity is None else heard(use, activity, wall)
    # What was done on one that is down now keeps the experiment as long as if it were up.
    gone = [(use.last, rule) for node, use in watched.nodes.items() if node not in nodes for rule in use.used]
    latest = max(gone, default=(watched.since, ""))
    if latest[1] and latest[0] > (watched.outside or watched.since):
        return Watched(watched.since, latest[0], latest[1], nodes)
    return evolve(watched, nodes=nodes)


def decide(terms: Terms, seen: Seen) -> str:
    """
    What is to be done with an experiment now.

    Nobody is swapped out who was not warned for at least half of the time that he was to be: a clock, a configuration
    or a daemon that was away do not take that from him.

    @return: one of the words above; empty if there is nothing to do. L{STALE}: it would be swapped out, if what is
        known of it were not too old.
    """
    if terms.most_s and seen.in_s is not None and seen.in_s >= terms.most_s - terms.most_lead_s:
        if terms.most_lead_s and seen.most_warned_s is None:
            return MOST_WARNING
        if seen.in_s >= terms.most_s and _was_told(seen.most_warned_s, terms.most_lead_s):
            return MOST_OUT
    if terms.idle_s and seen.idle_s >= terms.idle_s - terms.idle_lead_s:
        if terms.idle_lead_s and seen.idle_warned_s is None:
            return IDLE_WARNING
        if seen.idle_s >= terms.idle_s and _was_told(seen.idle_warned_s, terms.idle_lead_s):
            return STALE if seen.stale else IDLE_OUT
    unused = bool(terms.remind_s) and not terms.idle_s and seen.idle_s >= terms.remind_s
    return REMINDER if unused and (seen.reminded_s is None or seen.reminded_s >= REMIND_S) else ""


def _was_told(warned_s: float | None, lead_s: float) -> bool:
    return not lead_s or (warned_s is not None and warned_s >= lead_s / 2)


def due(terms: Terms, seen: Seen) -> tuple[float, str] | None:
    """
    When an experiment that nobody uses from now on is swapped out.

    @return: in how many seconds, and C{idle} or C{most}; None if it is not.
    """
    found = []
    if terms.idle_s:
        found.append((_left(terms.idle_s - seen.idle_s, seen.idle_warned_s, terms.idle_lead_s), "idle"))
    if terms.most_s and seen.in_s is not None:
        found.append((_left(terms.most_s - seen.in_s, seen.most_warned_s, terms.most_lead_s), "most"))
    return min(found, default=None)


def _left(left_s: float, warned_s: float | None, lead_s: float) -> float:
    return max(left_s, lead_s / 2 - (warned_s or 0.0), 0.0)
