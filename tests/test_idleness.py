"""
Tests for L{hostline.server.experiments.idleness}.
"""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.drivers.driver import Activity
from hostline.server.experiments import idleness
from hostline.server.experiments.idleness import (
    CONTROL,
    IDLE_OUT,
    IDLE_WARNING,
    LINKS,
    LOAD,
    MOST_OUT,
    MOST_WARNING,
    OUTSIDE,
    REMIND_S,
    REMINDER,
    STALE,
    STALE_S,
    TERMINAL,
    WINDOW_S,
    Seen,
    Terms,
    Use,
    Watched,
    decide,
    due,
    heard,
    looked,
)

WALL = 1_700_000_000.0
FOUR_HOURS = Terms(idle_s=14400, idle_warning_s=1800)

moments = st.floats(0, 1e6)
counts = st.integers(0, 10**9)
activities = st.builds(Activity, moments, st.floats(0, 2e9), st.floats(0, 64), counts, counts)


def used(*reports: Activity, wall: float = WALL) -> dict[str, float]:
    """
    When a node was in use by each rule, after these reports; the wall's clock says C{wall} at 0.
    """
    use = Use(0.0)
    for one in reports:
        use = heard(use, one, wall + one.taken)
    return dict(use.used)


class RuleTests(SynchronousTestCase):
    """
    What counts as use of a node.
    """

    def test_keystroke(self) -> None:
        """Somebody typed since the last look: the node was in use then."""
        self.assertEqual(used(Activity(60), Activity(120, input=WALL + 100)), {TERMINAL: 100})

    def test_keystrokeOfLongAgo(self) -> None:
        """A terminal at which nobody has typed since anybody looks says nothing."""
        self.assertEqual(used(Activity(60, input=WALL - 500), Activity(120, input=WALL - 500)), {})

    def test_keystrokeBeforeTheFirstReport(self) -> None:
        """Who typed after the node was first looked for, before its driver answered, is not overlooked."""
        self.assertEqual(used(Activity(60, input=WALL + 30)), {TERMINAL: 30})

    def test_keystrokeByAnotherClock(self) -> None:
        """A keystroke is one though the clock was put right by hours between it and the look."""
        for hours in (-5, 5):
            found = used(Activity(60, input=WALL - 9 * 3600), Activity(120, input=WALL + hours * 3600))
            self.assertTrue(60 <= found[TERMINAL] <= 120, found)

    def test_closedTerminal(self) -> None:
        """That a terminal is gone, and the newest keystroke is an older one now, is no use; the next one is."""
        before = Activity(60, input=WALL + 50), Activity(120, input=WALL + 10)
        self.assertEqual(used(*before), {TERMINAL: 50})
        self.assertEqual(used(*before, Activity(180, input=WALL + 150))[TERMINAL], 150)

    def test_load(self) -> None:
        """A task that always runs is use, though it is measured as a little less than one; half a task is none."""
        self.assertEqual(used(Activity(60, load=0.97)), {LOAD: 60})
        self.assertEqual(used(Activity(60, load=0.5), Activity(120, load=0.94)), {})

    def test_packetsOnLinks(self) -> None:
        """Five packets on links are use; four are not."""
        self.assertEqual(used(Activity(60), Activity(120, experiment_packets=5)), {LINKS: 120})
        self.assertEqual(used(Activity(60), Activity(120, experiment_packets=4)), {})

    def test_packetsOut(self) -> None:
        """A thousand packets out over the control network are use; chatter is not."""
        self.assertEqual(used(Activity(60), Activity(120, control_packets=1000)), {CONTROL: 120})
        self.assertEqual(used(Activity(60), Activity(120, control_packets=999)), {})

    def test_packetsAddUpInAWindow(self) -> None:
        """A packet a minute is use within five minutes: what is compared is not only the last look."""
        found = used(*[Activity(60.0 * at, experiment_packets=at) for at in range(1, 7)])
        self.assertEqual(found, {LINKS: 360})

    def test_packetsBeyondAWindow(self) -> None:
        """A packet every two minutes is none, however long it goes on."""
        self.assertEqual(used(*[Activity(60.0 * at, experiment_packets=at // 2) for at in range(1, 100)]), {})

    def test_countersThatBeginAnew(self) -> None:
        """A node whose counters fell was made anew: what it had before is not compared with what it has now."""
        reports = [Activity(60, experiment_packets=900), Activity(120, experiment_packets=2)]
        self.assertEqual(used(*reports), {})
        self.assertEqual(used(*reports, Activity(180, experiment_packets=7)), {LINKS: 180})

    def test_whatWasBeforeTheFirstReport(self) -> None:
        """What a node had sent before anybody looked is not use."""
        self.assertEqual(used(Activity(60, experiment_packets=10**6, control_packets=10**6)), {})

    @given(st.lists(activities, max_size=12), st.floats(0, 4e9))
    def test_neverAheadOfTheReport(self, reports: list[Activity], wall: float) -> None:
        """Whatever clocks and counters do, no node was in use after it was looked at, nor before anybody looked."""
        use = Use(0.0)
        now = 0.0
        for one in sorted(reports, key=lambda one: one.taken):
            now = one.taken
            use = heard(use, one, wall)
            for when in use.used.values():
                self.assertTrue(0.0 <= when <= now)
        self.assertTrue(0.0 <= use.last <= now)

    @given(st.lists(st.integers(0, 4), max_size=40))
    def test_quiet(self, steps: list[int]) -> None:
        """Fewer than five packets in every window are never use."""
        total, reports = 0, [Activity(0.0)]
        for at, step in enumerate(steps):
            total += step
            reports.append(Activity((at + 1) * WINDOW_S, experiment_packets=total))
        self.assertEqual(used(*reports), {})


class ExperimentTests(SynchronousTestCase):
    """
    What is known of an experiment by its nodes.
    """

    def test_oneKeepsAll(self) -> None:
        """One node in use keeps the whole experiment."""
        watched = looked(Watched(0.0), {"a": Activity(60), "b": Activity(60)}, 60, WALL)
        watched = looked(watched, {"a": Activity(120), "b": Activity(120, load=3)}, 120, WALL)
        self.assertEqual(watched.newest(), (120, LOAD, "b"))

    def test_outside(self) -> None:
        """What is done with it from outside is use."""
        self.assertEqual(Watched(0.0, 50.0, "node_reboot").newest(), (50.0, OUTSIDE, ""))

    def test_sinceAnybodyLooks(self) -> None:
        """An experiment that nobody has used since anybody looks is idle since then."""
        self.assertEqual(Watched(7.0).newest(), (7.0, "", ""))

    def test_silence(self) -> None:
        """A node that says nothing for ten minutes makes what is known of it stale, until it says something."""
        watched = looked(Watched(0.0), {"a": Activity(0.0)}, 0.0, WALL)
        self.assertEqual(looked(watched, {"a": None}, STALE_S - 1, WALL).stale(STALE_S - 1), [])
        watched = looked(watched, {"a": None}, STALE_S, WALL)
        self.assertEqual(watched.stale(STALE_S), ["a"])
        self.assertEqual(looked(watched, {"a": Activity(STALE_S + 1)}, STALE_S + 1, WALL).stale(STALE_S + 1), [])

    def test_neverHeard(self) -> None:
        """A node of which nothing was ever heard is stale after as long."""
        watched = looked(Watched(0.0), {"a": None}, 0.0, WALL)
        self.assertEqual(watched.stale(STALE_S), ["a"])

    def test_nodeThatWentDown(self) -> None:
        """What was done on a node counts on when it has gone down; its silence does not."""
        watched = looked(Watched(0.0), {"a": Activity(60, load=1)}, 60, WALL)
        watched = looked(watched, {}, 5000, WALL)
        self.assertEqual((watched.newest()[0], watched.stale(5000)), (60, []))

    @given(st.lists(st.dictionaries(st.sampled_from("abc"), st.none() | activities, max_size=3), max_size=8))
    def test_lastUseNeverGoesBack(self, looks: list[dict[str, Activity | None]]) -> None:
        """What was use stays so, whatever nodes come, go, or fall silent."""
        watched, newest = Watched(0.0), 0.0
        for at, said in enumerate(looks):
            now = 60.0 * (at + 1)
            told = {node: one if one is None else evolve(one, taken=now) for node, one in said.items()}
            watched = looked(watched, told, now, WALL)
            self.assertTrue(newest <= watched.newest()[0] <= now)
            newest = watched.newest()[0]


class DecisionTests(SynchronousTestCase):
    """
    What follows.
    """

    def decided(self, terms: Terms, **seen: float | bool | None) -> str:
        return decide(terms, Seen(**{"idle_s": 0.0, **seen}))  # type: ignore[arg-type]

    def test_warnedOnceThenOut(self) -> None:
        """Half an hour before its time its owner is warned, once; at its time it goes."""
        self.assertEqual(self.decided(FOUR_HOURS, idle_s=12599), "")
        self.assertEqual(self.decided(FOUR_HOURS, idle_s=12600), IDLE_WARNING)
        self.assertEqual(self.decided(FOUR_HOURS, idle_s=14399, idle_warned_s=1799), "")
        self.assertEqual(self.decided(FOUR_HOURS, idle_s=14400, idle_warned_s=1800), IDLE_OUT)

    def test_neverWithoutWarning(self) -> None:
        """Who is over his time at once, for a limit was lowered or a daemon slept, is warned first."""
        self.assertEqual(self.decided(FOUR_HOURS, idle_s=10**6), IDLE_WARNING)
        self.assertEqual(self.decided(FOUR_HOURS, idle_s=10**6, idle_warned_s=60), "")
        self.assertEqual(self.decided(FOUR_HOURS, idle_s=10**6, idle_warned_s=900), IDLE_OUT)

    def test_shortTime(self) -> None:
        """Who asked to go after a minute is warned after half of it, not before it begins."""
        terms = Terms(idle_s=60, idle_warning_s=1800)
        self.assertEqual(self.decided(terms, idle_s=29), "")
        self.assertEqual(self.decided(terms, idle_s=30), IDLE_WARNING)
        self.assertEqual(self.decided(terms, idle_s=60, idle_warned_s=30), IDLE_OUT)

    def test_withoutWarnings(self) -> None:
        """A site that wants no warnings gets none."""
        self.assertEqual(self.decided(Terms(idle_s=60), idle_s=60), IDLE_OUT)

    def test_stale(self) -> None:
        """It stays while what is known of it is too old."""
        self.assertEqual(self.decided(FOUR_HOURS, idle_s=14400, idle_warned_s=1800, stale=True), STALE)

    def test_longestTime(self) -> None:
        """After its longest time it goes though it is in use, and though nobody knows; and was warned before."""
        terms = Terms(most_s=7200, most_warning_s=3600)
        self.assertEqual(self.decided(terms, in_s=3599), "")
        self.assertEqual(self.decided(terms, in_s=3600), MOST_WARNING)
        self.assertEqual(self.decided(terms, in_s=7199, most_warned_s=3599), "")
        self.assertEqual(self.decided(terms, in_s=7200, most_warned_s=3600, stale=True), MOST_OUT)

    def test_twoMinutes(self) -> None:
        """Two minutes at most: warned after one, out after two (Emulab's -a 2)."""
        terms = Terms(most_s=120, most_warning_s=3600)
        self.assertEqual(self.decided(terms, in_s=60), MOST_WARNING)
        self.assertEqual(self.decided(terms, in_s=120, most_warned_s=60), MOST_OUT)

    def test_both(self) -> None:
        """Who is warned of the one is still warned of the other."""
        terms = evolve(FOUR_HOURS, most_s=14400, most_warning_s=1800)
        self.assertEqual(self.decided(terms, in_s=12600, idle_s=12600, most_warned_s=0), IDLE_WARNING)

    def test_never(self) -> None:
        """One that is never swapped out for want of use is not, and its owner is reminded every four hours."""
        terms = Terms(remind_s=14400)
        self.assertEqual(self.decided(terms, idle_s=14399), "")
        self.assertEqual(self.decided(terms, idle_s=14400), REMINDER)
        self.assertEqual(self.decided(terms, idle_s=10**7, reminded_s=REMIND_S - 1), "")
        self.assertEqual(self.decided(terms, idle_s=10**7, reminded_s=REMIND_S), REMINDER)

    def test_nothing(self) -> None:
        """Without limits nothing ever happens."""
        self.assertEqual(self.decided(Terms(), idle_s=10**9, in_s=10**9), "")

    @given(st.floats(1, 1e6), st.floats(0, 1e6), st.floats(0, 2e6), st.none() | st.floats(0, 1e6))
    def test_outOnlyWhenToldSo(self, limit: float, warning: float, idle: float, warned: float | None) -> None:
        """Nobody goes before his time, nor without a warning where the site gives any; C{due} says when."""
        terms = Terms(idle_s=limit, idle_warning_s=warning)
        seen = Seen(idle, idle_warned_s=warned)
        left = due(terms, seen)
        assert left is not None
        if decide(terms, seen) == IDLE_OUT:
            self.assertTrue(idle >= limit and (warned is not None or terms.idle_lead_s == 0))
            self.assertEqual(left, (0.0, "idle"))
        if left[0] > 0:
            self.assertNotEqual(decide(terms, seen), IDLE_OUT)

    def test_words(self) -> None:
        """Each decision has a word of its own: events and the notify program are told by it."""
        words = [IDLE_WARNING, IDLE_OUT, STALE, MOST_WARNING, MOST_OUT, REMINDER, *idleness.RULES, OUTSIDE]
        self.assertEqual(len(set(words)), len(words))
