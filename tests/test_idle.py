"""
Tests for L{hostline.server.idle} and L{hostline.server.notices}, as members of a project meet them.
"""

from __future__ import annotations

from typing import Any, cast

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import Config, Experiments
from hostline.server.diary import Diary
from hostline.server.drivers.driver import Activity
from hostline.server.notices import Notices
from hostline.server.records import Experiment
from hostline.server.slivers.trusted_time import Moment
from hostline.server.supervise.spawn import Spawner
from tests.daemons import EPOCH, make, topdl

HOUR = 3600.0
SITE = Experiments(idle_swap=True, idle_s=4 * HOUR, idle_warning_s=HOUR / 2)
TWO = topdl({"web": None, "db": None})


class IdleCase(SynchronousTestCase):
    """
    A site that swaps out after four hours, and lab/exp1 that is in.
    """

    site = SITE

    def setUp(self) -> None:
        self.daemon = make(config=Config(experiments=self.site))
        self.ann = self.daemon.lab()
        self.ann.body(f"create_experiment lab/exp1 {TWO} swap_in=True")
        self.assertEqual(self.state(), "active")

    def state(self, name: str = "lab/exp1") -> str:
        return str(self.daemon.host.table(Experiment)[name].state)

    def serial(self, node: str, name: str = "lab/exp1") -> int:
        return self.daemon.host.table(Experiment)[name].slivers[node]

    def does(self, node: str, **what: Any) -> None:
        """
        What is done in a node from now on.
        """
        self.daemon.fake_host.activities[self.serial(node)] = Activity(0.0, **what)

    def told(self, *whats: str) -> list[str]:
        """
        The events of these kinds, as kind and hour.
        """
        found = [event.body for event in self.daemon.host.feed.after(0)]
        return [f"{one['what']} {(one['time'] - EPOCH) / HOUR:.1f}" for one in found if one["what"] in whats]

    def key(self) -> str:
        return str(self.daemon.host.table(Experiment)["lab/exp1"].serial)

    def activity(self) -> Any:
        return self.ann.body("activity lab/exp1")


class SwapTests(IdleCase):
    """
    What becomes of an experiment that nobody uses.
    """

    def test_goesAfterAWarning(self) -> None:
        """It is warned once, half an hour before, and then swapped out; by nobody but the daemon."""
        self.daemon.advance(3.4 * HOUR)
        self.assertEqual(self.told("idle_warning", "swapped"), [])
        self.daemon.advance(0.4 * HOUR)
        self.assertEqual((self.told("idle_warning", "swapped"), self.state()), (["idle_warning 3.5"], "active"))
        self.daemon.advance(0.3 * HOUR)
        self.assertEqual(self.told("idle_warning", "swapped"), ["idle_warning 3.5", "swapped 4.0"])
        (operation,) = [one for one in self.daemon.connect().body("operations") if one["command"] == "swap_out"]
        self.assertEqual(operation["state"], "done")
        entries = self.daemon.connect().body("audit command=swap_out")["entries"]
        self.assertEqual(
            [(one["principal"], one["via"]) for one in entries], [("hostline", "idle"), ("hostline", "operation")]
        )
        self.daemon.check()

    def test_saysWhy(self) -> None:
        """The history says by whom and for what it was swapped out."""
        self.daemon.advance(4.1 * HOUR)
        said = [(one["what"], one["name"], one["reason"]) for one in self.ann.body("history lab/exp1")]
        self.assertEqual(
            [one[0] for one in said], ["created", "create_experiment", "idle_warning", "idle_swap", "swap_out"]
        )
        self.assertEqual(said[3][1:], ("hostline", "it is swapped out: nobody has used it for 4.0 h"))

    def test_usedInAnyNode(self) -> None:
        """One node in use keeps it; when that ends, its hours begin."""
        for hour in range(8):
            self.does("db", experiment_packets=1000 * hour)
            self.daemon.advance(HOUR)
        self.assertEqual((self.state(), self.told("idle_warning")), ("active", []))
        self.daemon.advance(4.1 * HOUR)
        self.assertEqual(self.state(), "swapped")

    def test_usedAfterTheWarning(self) -> None:
        """Who uses it when he was warned keeps it, and is warned again next time."""
        self.daemon.advance(3.6 * HOUR)
        self.assertIsNotNone(self.activity()["warned"])
        self.does("web", load=1.0)
        self.daemon.advance(0.1 * HOUR)
        self.assertEqual(self.activity()["warned"], None)
        self.does("web")
        self.daemon.advance(3.6 * HOUR)
        self.assertEqual((len(self.told("idle_warning")), self.state()), (2, "active"))
        self.daemon.advance(0.5 * HOUR)
        self.assertEqual(self.state(), "swapped")

    def test_commandsAreUse(self) -> None:
        """Whatever is asked to be done with it or its nodes keeps it."""
        for line in (
            "node_reboot lab/exp1 web",
            "exec web.exp1.lab true",
            "stop_node lab/exp1 db",
            "set_swap lab/exp1",
        ):
            self.daemon.advance(3 * HOUR)
            self.ann.send(line + "\n")
            self.daemon.advance(1)
            self.assertLess(self.activity()["idle"], 60, line)
            self.assertEqual(self.activity()["by"], line.split()[0])

    def test_inputIsUse(self) -> None:
        """Who types into something that runs inside uses it, as long as he types."""
        self.ann.send("@7 exec web.exp1.lab cat stream=True\n")
        self.daemon.advance(3 * HOUR)
        self.assertGreater(self.activity()["idle"], 2 * HOUR)
        self.ann.send("@7 data {'stream': 'in', 'base64': 'YWJj'}\n")
        self.assertEqual((self.activity()["idle"], self.activity()["by"]), (0.0, "exec"))

    def test_questionsAreNone(self) -> None:
        """Whoever only asks how it is does not keep it, however often."""
        for _ in range(48):
            self.daemon.advance(300)
            for line in ("status_request", "experiment", "node_list", "activity", "history", "topology"):
                self.ann.body(f"{line} lab/exp1")
            self.ann.body("why lab/exp1 web")
            self.ann.body("logs web.exp1.lab")
        self.daemon.advance(300)
        self.assertEqual(self.state(), "swapped")

    def test_refusalsAreNone(self) -> None:
        """Nobody keeps it by what he may not do with it."""
        bob = self.daemon.connect(5002)
        for _ in range(5):
            bob.code("node_reboot lab/exp1 web")
            self.ann.code("node_reboot lab/exp1 nosuch")
            self.daemon.advance(0.9 * HOUR)
        self.assertEqual(self.state(), "swapped")

    def test_keptAsBefore(self) -> None:
        """A daemon that is started again begins to count anew, and warns anew."""
        self.daemon.advance(3.9 * HOUR)
        self.daemon.crash()
        self.daemon.advance(0.5 * HOUR)
        self.assertEqual((self.state(), len(self.told("idle_warning"))), ("active", 1))
        self.assertIsNone(self.daemon.host.table(Experiment)["lab/exp1"].warned)
        self.daemon.advance(4 * HOUR)
        self.assertEqual((self.state(), len(self.told("idle_warning"))), ("swapped", 2))

    def test_fewAtOnce(self) -> None:
        """However many are idle, three at most go at one look."""
        for number in range(2, 9):
            self.ann.body(f"create_experiment lab/exp{number} {TWO} swap_in=True")
        self.daemon.advance(4 * HOUR + 90)
        out = [one for one in self.daemon.host.table(Experiment).values() if one.state == "swapped"]
        self.assertEqual(len(out), 3)
        self.daemon.advance(180)
        out = [one for one in self.daemon.host.table(Experiment).values() if one.state == "swapped"]
        self.assertEqual(len(out), 8)

    def test_clockThatJumps(self) -> None:
        """A clock that is set ahead by a day swaps out nobody, nor warns anybody."""
        self.ann.body("set_swap lab/exp1 most=5h")
        self.daemon.advance(60)
        ahead = lambda: self.daemon.clock.seconds() + EPOCH + 86400  # noqa: E731
        self.daemon.daemon.now = ahead
        self.daemon.daemon.expiry._moment = lambda: Moment(ahead(), self.daemon.clock.seconds() + 86400, "boot")
        self.daemon.advance(3 * HOUR)
        self.assertEqual(self.state(), "active")
        self.assertIn("ahead", self.activity()["held"])

    def test_nowhereToWrite(self) -> None:
        """While nothing can be written nobody is told and nothing is done; once it can, both are."""
        self.daemon.store.full = True
        self.daemon.advance(5 * HOUR)
        self.assertEqual((self.state(), self.told("idle_warning")), ("active", []))
        self.daemon.store.full = False
        self.daemon.advance(HOUR)
        self.assertEqual((self.state(), len(self.told("idle_warning"))), ("swapped", 1))

    def test_failedOne(self) -> None:
        """One that failed, and holds what it has, goes too."""
        self.daemon.driver.refusals[self.serial("web")] = "no"
        self.ann.ask("node_reboot lab/exp1 web")
        self.daemon.advance(4.1 * HOUR)
        self.assertEqual(self.state(), "swapped")


class StaleTests(IdleCase):
    """
    What is not known does not count as idle.
    """

    def test_staysWhileNobodyKnows(self) -> None:
        """While a node cannot be asked it stays, says so once, and doctor too; when it answers, it goes."""
        serial = self.serial("web")
        self.daemon.fake_host.activities[serial] = None
        self.daemon.advance(6 * HOUR)
        self.assertEqual(self.state(), "active")
        self.assertEqual(len(self.told("idle_stale")), 1)
        self.assertIn("web", self.activity()["held"])
        self.assertTrue(self.activity()["nodes"][1]["stale"])
        findings = {one["check"]: one for one in self.daemon.connect().body("doctor")}
        self.assertIn("lab/exp1: nothing heard of web", findings["idle swap"]["detail"])
        self.daemon.fake_host.activities[serial] = Activity(0.0)
        self.daemon.advance(120)
        self.assertEqual(self.state(), "swapped")

    def test_driverThatFails(self) -> None:
        """A driver that fails, or never answers, makes nobody look idle."""
        asked: list[int] = []

        async def hangs(serial: int) -> Activity | None:
            asked.append(serial)
            if len(asked) % 2:
                raise OSError("no such thing")
            return await Deferred()

        self.daemon.driver.activity = hangs  # type: ignore[method-assign]
        self.daemon.advance(6 * HOUR)
        self.assertGreater(len(asked), 100)
        self.assertEqual(self.state(), "active")

    def test_nodesThatAreDown(self) -> None:
        """Nodes that are down have nothing to say, and keep nothing."""
        self.ann.body("stop_node lab/exp1 web db")
        self.daemon.advance(4.1 * HOUR)
        self.assertEqual(self.state(), "swapped")


class TermsTests(IdleCase):
    """
    What its members may say of when it goes.
    """

    def test_sooner(self) -> None:
        """Who wants it to go sooner has it so."""
        body = self.ann.body("set_swap lab/exp1 idle=30m")
        self.assertEqual((body["idle_limit"], body["swap_for"]), (1800, "idle"))
        self.daemon.advance(0.6 * HOUR)
        self.assertEqual(self.state(), "swapped")

    def test_later(self) -> None:
        """Who wants to keep it longer than the site allows is refused, unless he is an operator."""
        self.assertEqual(self.ann.code("set_swap lab/exp1 idle=5h"), "BAD_VALUE")
        self.assertEqual(self.daemon.connect().body("set_swap lab/exp1 idle=5h")["idle_limit"], 5 * HOUR)
        self.assertEqual(self.ann.body("set_swap lab/exp1 idle=site")["idle_limit"], 4 * HOUR)

    def test_neverWantsAReason(self) -> None:
        """Never is to be had for a reason only."""
        for line in ("idle=0", "no_idle=''", "no_idle=' '", "no_idle='a\\nb'", "idle=1h no_idle=x", "most=0"):
            self.assertIn(self.ann.code(f"set_swap lab/exp1 {line}"), ("BAD_VALUE", "BAD_ARGUMENTS"), line)
        body = self.ann.body("set_swap lab/exp1 no_idle='a demonstration on Friday'")
        self.assertEqual((body["no_idle"], body["idle_limit"]), ("a demonstration on Friday", None))
        self.daemon.advance(24 * HOUR)
        self.assertEqual(self.state(), "active")

    def test_reminders(self) -> None:
        """Its owner is reminded every four hours, operators from the third on; use begins that anew."""
        self.ann.body("set_swap lab/exp1 no_idle=demo")
        self.daemon.advance(16.5 * HOUR)
        self.assertEqual(
            [one[:15] for one in self.told("idle_reminder", "unused")],
            ["idle_reminder 4", "idle_reminder 8", "idle_reminder 1", "unused 12.0", "idle_reminder 1", "unused 16.0"],
        )
        self.ann.ask("node_reboot lab/exp1 web")
        self.daemon.advance(120)
        self.assertEqual(self.daemon.host.table(Diary)[self.key()].reminders, 0)
        self.daemon.advance(5 * HOUR)
        self.assertEqual(self.daemon.host.table(Diary)[self.key()].reminders, 1)

    def test_remindersAreNotForAll(self) -> None:
        """That others' experiments are not used is told operators only."""
        self.ann.body("set_swap lab/exp1 no_idle=demo")
        self.daemon.advance(13 * HOUR)
        seen = {one["what"] for one in self.daemon.connect(5002).body("events")}
        self.assertNotIn("unused", seen)
        self.assertIn("unused", {one["what"] for one in self.daemon.connect().body("events topic=host")})

    def test_longest(self) -> None:
        """After its longest time it goes, though it is in use, and after a warning."""
        self.ann.body("set_swap lab/exp1 most=2m")
        self.does("web", load=5.0)
        self.daemon.advance(100)
        self.assertEqual((self.state(), len(self.told("most_warning"))), ("active", 1))
        self.daemon.advance(100)
        self.assertEqual(self.state(), "swapped")
        self.ann.body("swap_in lab/exp1")
        self.daemon.advance(60)
        self.assertEqual(self.state(), "active")
        self.daemon.advance(150)
        self.assertEqual((self.state(), len(self.told("most_warning"))), ("swapped", 2))

    def test_longestOutlivesTheDaemon(self) -> None:
        """A restart of the daemon does not make its longest time longer, nor warn again."""
        self.ann.body("set_swap lab/exp1 most=2h")
        self.does("web", load=5.0)
        for _ in range(7):
            self.daemon.advance(HOUR / 4)
            self.daemon.crash()
        self.daemon.advance(HOUR / 4 + 60)
        self.assertEqual((self.state(), len(self.told("most_warning"))), ("swapped", 1))

    def test_longerThanBefore(self) -> None:
        """Who was warned and is given more time is warned again before that ends."""
        self.ann.body("set_swap lab/exp1 most=2h")
        self.daemon.advance(1.5 * HOUR)
        self.ann.body("set_swap lab/exp1 most=3h")
        self.daemon.advance(0.6 * HOUR)
        self.assertEqual(len(self.told("most_warning")), 2)
        self.daemon.advance(HOUR)
        self.assertEqual(self.state(), "swapped")

    def test_fromTheBeginning(self) -> None:
        """An experiment may be made with its terms, of which the same is refused."""
        for wrong in ("idle=5h", "no_idle=''", "idle=1h no_idle=x"):
            self.assertIn(self.ann.code(f"create_experiment lab/exp2 {TWO} {wrong}"), ("BAD_VALUE", "BAD_ARGUMENTS"))
        self.ann.body(f"create_experiment lab/exp2 {TWO} idle=1h most=2h swap_in=True")
        body = self.ann.body("activity lab/exp2")
        self.assertEqual((body["idle_limit"], body["most"]), (HOUR, 2 * HOUR))
        self.ann.body(f"create_experiment lab/exp3 {TWO} no_idle=demo")
        self.assertEqual(self.ann.body("activity lab/exp3")["no_idle"], "demo")

    def test_otherTerms(self) -> None:
        """What is asked for is in the history, with who asked."""
        self.ann.body("set_swap lab/exp1 idle=1h most=2h")
        last = self.ann.body("history lab/exp1")[-1]
        self.assertEqual((last["what"], last["name"], last["reason"]), ("set_swap", "ann", "idle=3600 most=7200"))


class OffTests(IdleCase):
    """
    A site that swaps out nobody by itself.
    """

    site = Experiments()

    def test_stays(self) -> None:
        """Where it is not asked for, nobody is swapped out."""
        self.daemon.advance(24 * HOUR)
        self.assertEqual((self.state(), self.activity()["swap_at"]), ("active", None))
        self.assertGreater(self.activity()["idle"], 23 * HOUR)

    def test_wanted(self) -> None:
        """Who wants it for his own has it."""
        self.ann.body("set_swap lab/exp1 idle=10h")
        self.daemon.advance(10.1 * HOUR)
        self.assertEqual(self.state(), "swapped")


class SiteTests(IdleCase):
    """
    A site on which nobody stays for longer than two days.
    """

    site = evolve(SITE, most_s=48 * HOUR)

    def test_longest(self) -> None:
        """It goes after that, whatever it says itself."""
        self.assertEqual(self.ann.code("set_swap lab/exp1 most=3d"), "BAD_VALUE")
        self.ann.body("set_swap lab/exp1 no_idle=demo")
        self.daemon.advance(48.1 * HOUR)
        self.assertEqual((self.state(), self.told("most_warning")), ("swapped", ["most_warning 47.0"]))


class ActivityTests(IdleCase):
    """
    What C{activity} says.
    """

    def test_by(self) -> None:
        """It names the newest use: when, on which node, by which rule; and each rule's newest for each node."""
        self.daemon.advance(120)
        self.does("web", input=EPOCH + 150)
        self.daemon.advance(60)
        self.does("db", load=2.0)
        self.daemon.advance(60)
        body = self.activity()
        self.assertEqual((body["by"], body["node"]), ("load", "db"))
        self.assertAlmostEqual(body["used"], EPOCH + 240, delta=1)
        web = body["nodes"][1]
        self.assertAlmostEqual(web["terminal"], EPOCH + 150, delta=1)
        self.assertEqual((web["node"], web["load"], web["links"], web["control"]), ("web", None, None, None))
        self.assertAlmostEqual(body["swap_at"], EPOCH + 240 + 4 * HOUR, delta=1)

    def test_ofOneThatIsOut(self) -> None:
        """Of one that is swapped out nothing is said but its terms."""
        self.ann.body("swap_out lab/exp1")
        body = self.activity()
        self.assertEqual(
            (body["state"], body["idle"], body["nodes"], body["idle_limit"]), ("swapped", None, [], 4 * HOUR)
        )

    def test_justIn(self) -> None:
        """One that came in after the daemon's last look is said to be in use since it is asked about."""
        body = self.activity()
        self.assertEqual((body["idle"], body["nodes"], body["swap_for"]), (0.0, [], "idle"))


class NoticeTests(IdleCase):
    """
    The program that is given warnings.
    """

    def setUp(self) -> None:
        super().setUp()
        self.given: list[tuple[list[str], str]] = []
        self.failures: list[OSError] = []
        self.program()

    def program(self) -> None:
        """
        Have the daemon give what it has to say to a program that is none.
        """

        async def run(spawner: Any, program: str, experiment: str, one: dict[str, Any]) -> None:
            self.given.append(([program, experiment, one["to"], one["what"]], one["text"]))
            if self.failures:
                raise self.failures.pop(0)

        self.daemon.daemon.config = Config(experiments=evolve(self.site, notify="/usr/local/bin/tell"))
        idle = self.daemon.daemon.idle
        idle._warnings.notices = Notices(self.daemon.daemon, cast("Spawner", object()))
        idle._warnings.notices._run = run  # type: ignore[method-assign]

    def test_warning(self) -> None:
        """The owner is named, and what is to come, in words that say when."""
        self.daemon.advance(3.6 * HOUR)
        said = "lab/exp1: nobody has used it for 3.5 h; it is swapped out in 30 min"
        self.assertEqual(self.given, [(["/usr/local/bin/tell", "lab/exp1", "ann", "idle_warning"], said)])
        self.assertEqual(self.daemon.host.table(Diary)[self.key()].owed, [])

    def test_operators(self) -> None:
        """From the third reminder on operators are told too."""
        self.ann.body("set_swap lab/exp1 no_idle=demo")
        self.daemon.advance(12.5 * HOUR)
        self.assertEqual([words[2] for words, _ in self.given], ["ann", "ann", "ann", "operators"])

    def test_programThatFails(self) -> None:
        """It is tried again, three times in all; doctor says what it said, until it works again."""
        self.failures = [OSError("no mail today")] * 4
        self.daemon.advance(3.6 * HOUR)
        self.assertEqual(len(self.given), 3)
        finding = {one["check"]: one for one in self.daemon.connect().body("doctor")}["notify"]
        self.assertEqual((finding["ok"], "no mail today" in finding["detail"]), (False, True))
        self.daemon.advance(0.6 * HOUR)
        self.assertEqual([words[3] for words, _ in self.given], ["idle_warning"] * 3 + ["idle_swap"] * 2)
        self.assertTrue({one["check"]: one for one in self.daemon.connect().body("doctor")}["notify"]["ok"])

    def test_owedAfterACrash(self) -> None:
        """What the program was not given when the daemon died, the next one gives."""
        self.failures = [OSError("no mail today")]
        self.daemon.advance(3.5 * HOUR + 90)
        self.assertEqual((len(self.given), len(self.daemon.host.table(Diary)[self.key()].owed)), (1, 1))
        self.daemon.crash()
        self.program()
        self.daemon.daemon.idle._warnings.notices.start()
        self.daemon.settle()
        self.assertEqual([words[3] for words, _ in self.given], ["idle_warning"] * 2)
        self.assertEqual(self.daemon.host.table(Diary)[self.key()].owed, [])

    def test_gone(self) -> None:
        """What is owed about one that was terminated meanwhile is owed no more."""
        self.failures = [OSError("no mail today")]
        self.daemon.advance(3.5 * HOUR + 90)
        self.ann.body("terminate lab/exp1")
        self.daemon.advance(HOUR)
        self.assertEqual((len(self.given), self.daemon.host.table(Diary)), (1, {}))
