"""
Tests for L{hostline.server.experiments.history}, and of the command C{history}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients.tables import readable
from hostline.server.diary import Diary
from hostline.server.experiments import history
from hostline.server.records import Experiment
from tests.daemons import EPOCH, make, only, topdl

TWO = topdl({"web": None, "db": None})


class HistoryTests(SynchronousTestCase):
    """
    What became of lab/exp1, on a daemon on which a boot takes a second.
    """

    def setUp(self) -> None:
        self.daemon = make(slow=1.0)
        self.ann = self.daemon.lab()
        self.ann.body(f"create_experiment lab/exp1 {TWO}")

    def do(self, line: str, seconds: float = 10) -> None:
        self.ann.send(line + "\n")
        self.daemon.advance(seconds)
        self.ann.raw()

    def past(self, options: str = "") -> list[Any]:
        found: list[Any] = self.ann.body(f"history lab/exp1{options}")
        return found

    def test_whatWasDone(self) -> None:
        """Each thing that was done, when, by whom, how long it took and how it ended."""
        self.do("swap_in lab/exp1")
        self.do(f"modify_experiment lab/exp1 {topdl({'web': None})}")
        self.do("node_reboot lab/exp1 web")
        self.do("swap_out lab/exp1")
        found = [(one["what"], one["time"] - EPOCH, one["seconds"], one["outcome"]) for one in self.past()]
        self.assertEqual(
            found,
            [
                ("created", 0.0, None, "done"),
                ("swap_in", 0.0, 1.0, "done"),
                ("modify_experiment", 10.0, 0.0, "done"),
                ("node_reboot", 20.0, 1.0, "done"),
                ("swap_out", 30.0, 0.0, "done"),
            ],
        )
        self.assertEqual({one["name"] for one in self.past()}, {"ann"})
        self.assertEqual(self.past()[3]["nodes"], ["web"])
        self.daemon.check()

    def test_modifiedWhileOut(self) -> None:
        """What is modified at once, for nothing runs, is there too."""
        self.do(f"modify_experiment lab/exp1 {topdl({'web': None})}")
        self.assertEqual([one["what"] for one in self.past()], ["created", "modify_experiment"])

    def test_failures(self) -> None:
        """What failed says why."""
        self.do("swap_in lab/exp1")
        serial = only(Experiment, self.daemon).slivers["db"]
        self.daemon.driver.refusals[serial] = "the disk is full"
        self.do("node_reboot lab/exp1 db")
        last = self.past()[-1]
        self.assertEqual((last["what"], last["outcome"]), ("node_reboot", "failed"))
        self.assertIn("the disk is full", last["reason"])

    def test_cancelled(self) -> None:
        """What was cancelled is there with what took it back."""
        self.ann.body("swap_in lab/exp1 wait=0")
        number = self.ann.body("operations")[0]["operation"]
        self.do(f"cancel {number}")
        self.assertEqual(
            [(one["what"], one["outcome"]) for one in self.past()[1:]], [("swap_in", "cancelled"), ("swap_out", "done")]
        )

    def test_outlivesTheDaemon(self) -> None:
        """It is the same after a crash, and what was on its way then ends in it too."""
        self.ann.body("swap_in lab/exp1 wait=0")
        self.daemon.crash()
        self.daemon.advance(10)
        self.ann = self.daemon.connect(5001)
        self.assertEqual([one["what"] for one in self.past()], ["created", "swap_in"])

    def test_outlivesEvents(self) -> None:
        """It is there when the events that said the same are forgotten."""
        self.daemon.host.feed.kept = 10
        self.do("swap_in lab/exp1")
        for number in range(20):
            self.ann.body(f"create_experiment lab/other{number} {TWO}")
        self.assertGreater(self.daemon.host.feed.forgotten, 10)
        self.assertEqual([one["what"] for one in self.past()], ["created", "swap_in"])

    def test_some(self) -> None:
        """Only what is newer, or the newest, is told if that is asked for."""
        for _ in range(3):
            self.do("swap_in lab/exp1")
            self.do("swap_out lab/exp1")
        self.assertEqual([one["what"] for one in self.past(" limit=2")], ["swap_in", "swap_out"])
        self.assertEqual(len(self.past(f" since={EPOCH + 35}")), 2)

    def test_bounded(self) -> None:
        """However much is done, a hundred things are kept, the newest; the reason of each is cut."""
        change = self.daemon.host.change(self.daemon.now())
        serial = only(Experiment, self.daemon).serial
        for number in range(300):
            history.write(change, serial, f"thing{number}", "uid:0", reason="x" * 10000)
        self.daemon.daemon.commit(change)
        self.daemon.settle()
        self.assertEqual([one["what"] for one in self.past(" limit=1000")], [f"thing{at}" for at in range(200, 300)])
        self.assertLess(len(only(Diary, self.daemon).as_json()), 100_000)

    def test_goesWithIt(self) -> None:
        """Terminated, nothing of it is left; the next of its name has none of it."""
        self.do("swap_in lab/exp1")
        self.do("terminate lab/exp1")
        self.assertEqual(self.daemon.host.table(Diary), {})
        self.ann.body(f"create_experiment lab/exp1 {TWO}")
        self.assertEqual([one["what"] for one in self.past()], ["created"])

    def test_whoIsGone(self) -> None:
        """Who did it is named as then, though he is no user any more."""
        self.do("swap_in lab/exp1")
        self.daemon.connect().body("remove_user ann")
        self.assertEqual(self.daemon.connect().body("history lab/exp1")[-1]["name"], "ann")

    def test_text(self) -> None:
        """On a terminal it is a table, a line for each thing."""
        self.do("swap_in lab/exp1")
        lines = readable("history_reply", self.past()).splitlines()
        self.assertEqual(lines[0].split(), ["TIME", "WHAT", "WHO", "TOOK", "OUTCOME", "REASON"])
        self.assertEqual((len(lines), "1 s" in lines[2]), (3, True))
