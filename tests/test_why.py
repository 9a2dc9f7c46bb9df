"""
Tests for L{hostline.server.experiments.why}, and of the command C{why} of a whole daemon.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.clients.tables import readable
from hostline.server.drivers.driver import CANNOT_START, Status
from hostline.server.experiments.why import Facts, explain, tail
from hostline.server.records import Experiment
from tests.daemons import EPOCH, make, topdl

UP = Status(5, boots=1, boot="booted", start_command="ended", start_code=0)


def facts(**more: Any) -> Facts:
    known = {"name": "web.exp1.lab", "state": "active", "wanted": "started", "boots": 1, "status": UP, "now": EPOCH}
    return Facts(**{**known, **more})


def causes(found: dict[str, Any]) -> list[str]:
    return [f"{one['cause']}: {one['detail']}" for one in found["causes"]]


class NothingTests(SynchronousTestCase):
    """
    Nodes that are as they should be.
    """

    def test_healthy(self) -> None:
        """Of a node that is up, and whose start command went well, nothing is wrong."""
        said = explain(facts())
        self.assertEqual(said["verdict"], "nothing is wrong: web is up, and its start command ended with 0")
        self.assertEqual((said["well"], said["causes"]), (True, []))

    def test_ghost(self) -> None:
        """A ghost is nothing wrong: it says how it is started."""
        said = explain(facts(wanted="stopped", boots=0, status=Status(5)))
        self.assertTrue(said["well"])
        self.assertIn("ghost: it has its place, and waits for start_node", said["verdict"])

    def test_swappedOut(self) -> None:
        """A node of an experiment that is swapped out is on no host, which is as it should be."""
        said = explain(facts(wanted=None, boots=0, status=None, state="swapped"))
        self.assertEqual(
            (said["well"], said["verdict"]),
            (True, "nothing is wrong: lab/exp1 is swapped out, and so web is on no host"),
        )

    def test_stopped(self) -> None:
        """A node that somebody stopped says who."""
        status = Status(5, boots=1, boot="dead", exit_code=0)
        said = explain(facts(wanted="stopped", status=status, stopped_by="stop_node of ann"))
        self.assertEqual(said["verdict"], "nothing is wrong: web is stopped, by stop_node of ann; start_node starts it")

    def test_comingUp(self) -> None:
        """A node on its way up is, until that takes too long."""
        status = Status(5, boots=1, boot="running")
        self.assertTrue(explain(facts(status=status, since=EPOCH - 20))["well"])
        late = explain(facts(status=status, since=EPOCH - 300, logs={"console": "Loading\r\npanic: no root\r\n"}))
        self.assertEqual((late["well"], causes(late)), (False, ["console: Loading | panic: no root"]))
        self.assertIn("300 s", late["verdict"])

    def test_upButNotWell(self) -> None:
        """A node that is up and lacks something says what, and that it is not well."""
        said = explain(facts(status=Status(5, boots=1, boot="booted", problems=("no IPv6 on inf000",))))
        self.assertEqual((said["well"], causes(said)), (False, ["problem: no IPv6 on inf000"]))


class ChainTests(SynchronousTestCase):
    """
    Chains of causes, the innermost first.
    """

    def test_startCommand(self) -> None:
        """A start command that failed: what it said last, then its exit status."""
        status = Status(5, boots=1, boot="booted", start_command="ended", start_code=7)
        said = explain(facts(status=status, ended=EPOCH - 5, logs={"out": "ok\n", "err": "a\nno such host\n"}))
        self.assertEqual(said["verdict"], "web is up, and its start command ended with 7")
        self.assertEqual(
            causes(said),
            [
                "start command's err: its start command said on standard error: a | no such host",
                "start command: it ended with 7",
            ],
        )
        self.assertEqual([one["when"] for one in said["causes"]], [EPOCH - 5, EPOCH - 5])

    def test_couldNotBeStarted(self) -> None:
        """A node that could not be started: what the host lacks, why the driver could not, what that made fail."""
        status = Status(5, boots=1, boot="dead", exit_code=CANNOT_START, problems=("start: no space left on device",))
        said = explain(
            facts(
                state="failed",
                reason="web could not be started",
                status=status,
                since=EPOCH - 9,
                host=["disk: 3 MiB free"],
                failed=(
                    "swap_in",
                    ["web: start: no space left on device", "db: else", "web of lab/exp1 could not be started"],
                    EPOCH - 8,
                ),
            )
        )
        self.assertEqual(
            causes(said),
            [
                "host: disk: 3 MiB free",
                "problem: start: no space left on device",
                "end: it could not be started",
                "operation: swap_in: web of lab/exp1 could not be started",
                "experiment: lab/exp1 is failed: web could not be started",
            ],
        )
        self.assertEqual(said["verdict"], "web is dead: it could not be started")

    def test_killed(self) -> None:
        """A node whose process was killed for want of memory says so before all else, with the signal by name."""
        status = Status(5, boots=1, boot="dead", exit_code=137)
        said = explain(facts(status=status, killed=2, logs={"console": "allocating"}))
        self.assertEqual(said["verdict"], "web is dead: its own process was killed by signal 9 (KILL), code 137")
        self.assertEqual([one["cause"] for one in said["causes"]], ["memory", "console", "end"])

    def test_killedInside(self) -> None:
        """A node that is up, in which the kernel killed something, is not well."""
        self.assertEqual(explain(facts(killed=1))["well"], False)

    def test_noDriver(self) -> None:
        """A node of a kind that this host cannot run says why."""
        said = explain(facts(status=None, missing="no QEMU is installed", host=["state: full"]))
        self.assertEqual(
            (said["verdict"], causes(said)[0]),
            ("web cannot be run: no QEMU is installed", "driver: no QEMU is installed"),
        )

    def test_notPlaced(self) -> None:
        """A node that was never made, for the swap-in failed before, tells of that."""
        said = explain(
            facts(wanted=None, status=None, state="failed", reason="no room", failed=("swap_in", ["no room"], EPOCH))
        )
        self.assertEqual(causes(said), ["operation: swap_in: no room", "experiment: lab/exp1 is failed: no room"])

    def test_endedBeforeItWasStopped(self) -> None:
        """A node that had ended by itself before somebody stopped it still says how."""
        said = explain(facts(wanted="stopped", status=Status(5, boots=1, boot="dead", exit_code=3)))
        self.assertEqual((said["well"], "with code 3" in said["verdict"]), (False, True))

    def test_drift(self) -> None:
        """Limits that are not in force are told, though the node is up."""
        self.assertEqual(causes(explain(facts(drift=["pids_max is 9"]))), ["limits: pids_max is 9"])

    @given(
        st.sampled_from(["swapped", "active", "failed", "activating", "terminating"]),
        st.sampled_from([None, "started", "stopped", "absent"]),
        st.none()
        | st.builds(
            Status,
            st.just(5),
            st.integers(0, 2),
            st.sampled_from([None, "running", "booted", "dead"]),
            st.sampled_from(["none", "running", "ended"]),
            st.none() | st.integers(0, 255),
            st.none() | st.integers(0, 255),
        ),
        st.booleans(),
    )
    def test_always(self, state: str, wanted: str | None, status: Status | None, failed: bool) -> None:
        """Whatever is found out makes a verdict; nobody who is well has causes, and what is wrong is said."""
        said = explain(
            facts(state=state, wanted=wanted, status=status, failed=("swap_in", ["x"], EPOCH) if failed else None)
        )
        self.assertEqual(said["well"], said["verdict"].startswith("nothing is wrong"))
        self.assertFalse(said["well"] and said["causes"])

    @given(st.text())
    def test_tail(self, text: str) -> None:
        """However much a node writes, little of it is shown."""
        self.assertLess(len(tail(text)), 1100)


class CommandTests(SynchronousTestCase):
    """
    The command, of a whole daemon.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.ann = self.daemon.lab()
        self.ann.body(f"create_experiment lab/exp1 {topdl({'web': 'exit 7', 'db': None})} swap_in=True")

    def serial(self, node: str) -> int:
        return self.daemon.host.table(Experiment)["lab/exp1"].slivers[node]

    def why(self, node: str) -> Any:
        return self.ann.body(f"why lab/exp1 {node}")

    def test_startCommand(self) -> None:
        """What a start command wrote last is there, with when it ended."""
        self.daemon.fake_host.logs[self.serial("web")] = {"err": b"x\n\x1b[31mno such host\n"}
        said = self.why("web")
        self.assertIn("ended with 7", said["verdict"])
        self.assertIn("no such host", said["causes"][0]["detail"])
        self.assertEqual(said["causes"][0]["when"], EPOCH)
        self.assertTrue(self.why("db")["well"])

    def test_text(self) -> None:
        """On a terminal it is the verdict and a line for each cause; what a node wrote does nothing to the terminal."""
        self.daemon.fake_host.logs[self.serial("web")] = {"err": b"\x1b[31mno such host\n"}
        text = readable("why_reply", self.why("web"))
        self.assertEqual(len(text.splitlines()), 3)
        self.assertTrue(
            text.startswith("web.exp1.lab: web is up, and its start command ended with 7\n  start command's err: ")
        )
        self.assertNotIn("\x1b", text)

    def test_refused(self) -> None:
        """Of a node that cannot be started, the driver's reason and the operation that failed of it are told."""
        self.daemon.driver.refusals[self.serial("db")] = "the disk is full"
        self.ann.ask("node_reboot lab/exp1 db")
        said = self.why("db")
        self.assertEqual(said["causes"][0]["detail"], "could not be started: the disk is full")
        self.assertEqual(said["verdict"], "db is dead: it could not be started")
        self.assertEqual(causes(said)[-1], "operation: node_reboot: db of lab/exp1 could not be started")

    def test_ends(self) -> None:
        """A node whose process ended says when."""
        self.daemon.advance(60)
        self.daemon.driver.end(self.serial("db"), 3)
        self.daemon.settle()
        said = self.why("db")
        self.assertEqual((said["causes"][-1]["cause"], said["causes"][-1]["when"]), ("end", EPOCH + 60))

    def test_stopped(self) -> None:
        """A node that was stopped says by whom."""
        self.ann.body("stop_node lab/exp1 db")
        self.assertIn("by stop_node of ann", self.why("db")["verdict"])

    def test_swappedOut(self) -> None:
        """After a swap-out nothing is wrong."""
        self.ann.body("swap_out lab/exp1")
        self.assertTrue(self.why("web")["well"])

    def test_stuck(self) -> None:
        """A node that cannot be taken off the host says what stands in the way, and no more once it is gone."""
        self.daemon.driver.errors["ensure_destroyed"] = [OSError("a mount is busy")]
        self.ann.body("swap_out lab/exp1 wait=0")
        (stuck,) = [one for one in ("db", "web") if not self.why(one)["well"]]
        said = self.why(stuck)
        self.assertEqual(causes(said), ["step: destroy: a mount is busy; it is tried again"])
        self.assertIn("is being taken away", said["verdict"])
        self.daemon.advance(60)
        self.assertTrue(self.why(stuck)["well"])

    def test_hostTrouble(self) -> None:
        """What is wrong with the host is told operators in full, and others that something is."""
        self.daemon.driver.problems = lambda: ["no control groups"]  # type: ignore[method-assign]
        self.daemon.driver.refusals[self.serial("db")] = "no"
        self.ann.ask("node_reboot lab/exp1 db")
        self.assertEqual(
            self.why("db")["causes"][0]["detail"], "driver process: not as it should be; doctor tells operators more"
        )
        whole = self.daemon.connect().body("why lab/exp1 db")
        self.assertEqual(whole["causes"][0]["detail"], "driver process: no control groups")

    def test_noSuchNode(self) -> None:
        """A misspelt name is told, with near ones."""
        reply = self.ann.ask("why lab/exp1 webb")
        self.assertEqual(reply.body["code"], "NO_SUCH_NODE")
        self.assertIn("web", reply.body["message"])
