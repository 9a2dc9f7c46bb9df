"""
The life of experiments, as their members see it.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.drivers.driver import Workload
from hostline.server.records import Experiment, Plan, Sliver
from tests.daemons import make, topdl

TWO = topdl({"web": "exit 7", "db": None})


class LifeCase(SynchronousTestCase):
    """
    A daemon on which boots and stops take a second, and lab/exp1 with two nodes.
    """

    def setUp(self) -> None:
        self.daemon = make(slow=1.0)
        self.ann = self.daemon.lab()
        self.ann.body(f"create_experiment lab/exp1 {TWO}")

    def do(self, line: str, seconds: float = 10) -> Any:
        """
        Say it, and wait.
        """
        self.ann.send(line + "\n")
        self.daemon.advance(seconds)
        (reply,) = self.ann.replies()
        self.assertNotEqual(reply.word, "error_reply", reply)
        self.daemon.check()
        return reply.body

    def status(self) -> Any:
        return self.ann.body("status_request lab/exp1").get("hv:process:pnode-0000", {})

    def state(self) -> str:
        return str(self.ann.body("experiment lab/exp1")["state"])

    def refused(self, line: str) -> str:
        reply = self.ann.ask(line)
        self.assertEqual(reply.word, "error_reply", reply)
        return f"{reply.body['code']}: {reply.body['message']}"

    def serial(self, node: str) -> int:
        (experiment,) = self.daemon.host.table(Experiment).values()
        return experiment.slivers[node]


class SwappingTests(LifeCase):
    """
    In, out and the end.
    """

    def test_comesUpAndGoes(self) -> None:
        """
        From new to gone: nothing placed, both nodes up, nothing again, and no trace.
        """
        self.assertEqual((self.state(), self.status()), ("swapped", {}))
        body = self.do("swap_in lab/exp1")
        self.assertEqual((body["state"], body["pnodes"]), ("active", {"pnode-0000": "tester"}))
        self.assertIsNotNone(body["swapped_in"])
        self.assertEqual(self.status(), {"web": ["booted", 7], "db": ["booted", None]})
        body = self.do("swap_out lab/exp1")
        self.assertEqual((body["state"], body["swapped_in"], body["pnodes"]), ("swapped", None, {}))
        self.assertEqual((self.status(), self.daemon.fake_host.statuses), ({}, {}))
        self.assertEqual(self.do("swap_out lab/exp1")["state"], "swapped")
        self.do("terminate lab/exp1")
        self.assertIn("NO_SUCH_EXPERIMENT", self.refused("experiment lab/exp1"))
        for kind in (Experiment, Plan, Sliver):
            self.assertEqual(self.daemon.host.table(kind), {})

    def test_showsWhatIsOnItsWay(self) -> None:
        """
        While nodes boot they are running, and the experiment activating.
        """
        self.ann.body("swap_in lab/exp1 wait=0")
        self.assertEqual(self.status(), {"web": ["running", None], "db": ["running", None]})
        self.assertEqual(self.state(), "activating")

    def test_isMadeAgainUnderItsName(self) -> None:
        """
        Terminated, its name is free at once, and the new one starts from nothing.
        """
        first = self.do("swap_in lab/exp1")["serial"]
        self.do("terminate lab/exp1")
        again = self.do(f"create_experiment lab/exp1 {TWO} swap_in=True")
        self.assertGreater(again["serial"], first)
        self.assertEqual(again["nodes"]["web"]["boots"], 1)

    def test_existsOnce(self) -> None:
        """
        A name that is taken, in any case, is refused and the first is not touched.
        """
        before = self.ann.body("experiment lab/exp1")
        for name in ("exp1", "EXP1"):
            self.assertIn("EXISTS", self.refused(f"create_experiment lab/{name} {TWO}"))
        self.assertEqual(self.ann.body("experiments"), [before])

    def test_isNotMadeOfAnErroneousTopology(self) -> None:
        """
        Errors in the topology are told with their lines, and nothing is made.
        """
        reply = self.ann.ask("create_experiment lab/exp2 '<experiment><elements></experiment>'")
        self.assertEqual(reply.body["code"], "BAD_TOPOLOGY")
        self.assertTrue(reply.body["errors"][0]["line"])
        self.assertEqual(len(self.ann.body("experiments")), 1)

    def test_isNotMadeInAProjectThatWentMeanwhile(self) -> None:
        """
        A project removed while the topology was being read is no longer there for it.
        """
        self.daemon.offload.held = True
        operator = self.daemon.connect()
        operator.body("add_project p")
        operator.send(f"create_experiment p/x {TWO}\n")
        self.daemon.connect().body("remove_project p")
        self.daemon.offload.release()
        self.daemon.settle()
        self.assertEqual(operator.lines(), ["NO_SUCH_PROJECT"])

    def test_failsWithTheReason(self) -> None:
        """
        A node that cannot be started fails the swap-in and is named; the others are up, and swapping in again restarts
        only what is not.
        """
        next_serial = self.daemon.host._next_serial
        self.daemon.driver.refusals = {next_serial: "no memory"}
        self.ann.send("swap_in lab/exp1\n")
        self.daemon.advance(5)
        (reply,) = self.ann.replies()
        self.assertEqual(reply.body["code"], "FAILED")
        body = self.ann.body("experiment lab/exp1")
        self.assertEqual(body["state"], "failed")
        dead, up = sorted(body["nodes"].values(), key=lambda one: one["boot"] == "booted")
        self.assertEqual((dead["boot"], dead["code"], up["boot"]), ("dead", 125, "booted"))
        self.assertIn("no memory", dead["problems"][0])
        self.assertIn(dead["node"], body["reason"])
        self.daemon.driver.refusals = {}
        again = self.do("swap_in lab/exp1")
        self.assertEqual((again["state"], again["reason"]), ("active", ""))
        self.assertEqual(again["nodes"][up["node"]], up)
        self.assertEqual(again["nodes"][dead["node"]]["boots"], 2)

    def test_failsWhenADriverRaises(self) -> None:
        """
        What a driver could not make is dead with 125 and the reason too, and can be stopped, started and ended.
        """
        self.daemon.driver.errors["ensure_created"] = [OSError(28, "No space left on device")] * 2
        self.ann.send("swap_in lab/exp1\n")
        self.daemon.advance(5)
        self.assertEqual(self.ann.lines(), ["FAILED"])
        self.assertEqual(self.status(), {"web": ["dead", 125], "db": ["dead", 125]})
        self.assertEqual(self.do("stop_node lab/exp1 web")[0]["boot"], "dead")
        self.assertEqual(self.do("start_node lab/exp1 web")[0]["boot"], "booted")
        self.do("terminate lab/exp1")

    def test_keepsTryingToTakeAway(self) -> None:
        """
        What could not be removed is tried again, not in a hurry, until it is gone.
        """
        self.do("swap_in lab/exp1")
        self.daemon.driver.errors["ensure_destroyed"] = [OSError(16, "Device or resource busy")] * 5
        calls = len(self.daemon.driver.calls)
        self.ann.send("terminate lab/exp1 wait=100\n")
        self.daemon.advance(5)
        self.assertEqual(self.ann.lines(), [])
        self.assertEqual(len(self.daemon.driver.calls) - calls, 2)
        self.daemon.advance(40)
        self.assertEqual(self.ann.lines(), ["terminate_reply"])
        self.assertEqual(self.daemon.fake_host.statuses, {})

    def test_comesBackWhileItGoes(self) -> None:
        """
        Swapped in again while it is still being taken away, the new nodes are shown, and all of it can be ended.
        """
        self.do("swap_in lab/exp1")
        old = {self.serial("web"), self.serial("db")}
        self.daemon.driver.errors["ensure_destroyed"] = [OSError(16, "busy")] * 2
        self.ann.body("swap_out lab/exp1 wait=0")
        self.assertEqual(self.do("swap_in lab/exp1", 2)["state"], "active")
        self.assertEqual(self.status(), {"web": ["booted", 7], "db": ["booted", None]})
        self.assertTrue(old < set(self.daemon.fake_host.statuses))
        self.daemon.advance(20)
        self.assertTrue(old.isdisjoint(self.daemon.fake_host.statuses))
        self.assertTrue(old.isdisjoint(self.daemon.host.slivers_by_serial))
        self.assertEqual(self.status(), {"web": ["booted", 7], "db": ["booted", None]})
        self.daemon.check()

    def test_endsOnlyWhenAllIsGone(self) -> None:
        """
        Terminated while nodes of an earlier swap-in are still being taken away, it waits for those too.
        """
        self.do("swap_in lab/exp1")
        self.daemon.driver.errors["ensure_destroyed"] = [OSError(16, "busy")] * 2
        self.ann.body("swap_out lab/exp1 wait=0")
        self.do("swap_in lab/exp1", 2)
        self.ann.send("terminate lab/exp1\n")
        self.daemon.advance(2)
        self.assertEqual(self.ann.lines(), [])
        self.daemon.advance(20)
        self.assertEqual(self.ann.lines(), ["terminate_reply"])
        self.assertEqual((self.daemon.fake_host.statuses, self.daemon.host.slivers_by_serial), ({}, {}))


class ModifyingTests(LifeCase):
    """
    Making an experiment what another topology says.
    """

    def test_saysWhatBecameOfEachNode(self) -> None:
        """
        Nodes come, go, are restarted, or go on undisturbed.
        """
        self.do(f"modify_experiment lab/exp1 {topdl({'web': 'exit 7', 'db': None, 'old': None})}")
        self.do("swap_in lab/exp1")
        pid = self.ann.body("experiment lab/exp1")["nodes"]["db"]["pid"]
        said = self.do(f"modify_experiment lab/exp1 {topdl({'web': 'exit 8', 'db': None, 'new': 'exit 9'})}")
        self.assertEqual(said, {"added": ["new"], "removed": ["old"], "changed": ["web"], "kept": ["db"]})
        self.assertEqual(self.status(), {"web": ["booted", 8], "db": ["booted", None], "new": ["booted", 9]})
        nodes = self.ann.body("experiment lab/exp1")["nodes"]
        self.assertEqual((nodes["db"]["pid"], nodes["db"]["boots"], nodes["web"]["boots"]), (pid, 1, 2))
        self.assertEqual(len(self.daemon.fake_host.statuses), 3)

    def test_isDoneAtOnceWhereNothingIsTouched(self) -> None:
        """
        Swapped out, or with nothing to do, there is nothing to wait for.
        """
        said = self.ann.body(f"modify_experiment lab/exp1 {topdl({'db': None, 'log': None})}")
        self.assertEqual((said["added"], said["removed"]), (["log"], ["web"]))
        self.do("swap_in lab/exp1")
        self.assertEqual(self.status(), {"db": ["booted", None], "log": ["booted", None]})
        said = self.ann.body(f"modify_experiment lab/exp1 {topdl({'db': None, 'log': None})}")
        self.assertEqual(said["kept"], ["db", "log"])
        self.assertEqual(self.state(), "active")

    def test_isRefusedWhileAnotherWorks(self) -> None:
        """
        While it comes up or goes, it is not modified.
        """
        self.ann.body("swap_in lab/exp1 wait=0")
        self.assertIn("WRONG_STATE: lab/exp1 is activating", self.refused(f"modify_experiment lab/exp1 {TWO}"))
        self.daemon.advance(5)
        self.ann.body(f"modify_experiment lab/exp1 {topdl({'x': None})} wait=0")
        self.assertIn("WRONG_STATE", self.refused(f"modify_experiment lab/exp1 {TWO}"))
        self.assertIn("WRONG_STATE", self.refused("swap_in lab/exp1"))
        self.assertIn("WRONG_STATE", self.refused("node_reboot lab/exp1 web"))

    def test_goesBackWhenCancelled(self) -> None:
        """
        Cancelled, it becomes what it was: what was added goes, what was to go stays, the topology is the former one.
        """
        self.do("swap_in lab/exp1")
        before = self.ann.body("topology lab/exp1"), self.status()
        self.daemon.driver.boot_after = None
        number = self.ann.body(f"modify_experiment lab/exp1 {topdl({'web': 'exit 8', 'new': None})} wait=0")[
            "operation"
        ]
        self.assertEqual(self.state(), "modifying")
        self.daemon.driver.boot_after = 1.0
        self.do(f"cancel {number}")
        self.assertEqual(self.state(), "active")
        self.assertEqual((self.ann.body("topology lab/exp1"), self.status()), before)
        self.assertEqual(len(self.daemon.fake_host.statuses), 2)
        self.assertEqual(len(self.daemon.host.table(Plan)), 1)


class NodeTests(LifeCase):
    """
    Single nodes.
    """

    def setUp(self) -> None:
        super().setUp()
        self.do("swap_in lab/exp1")

    def test_rebootsAndRunsItsCommandAgain(self) -> None:
        """
        A reboot is another boot; the start command runs again, the other node goes on.
        """
        self.daemon.driver.codes[self.serial("web")] = 9
        (node,) = self.do("node_reboot lab/exp1 web")
        self.assertEqual((node["boots"], node["boot"]), (2, "booted"))
        self.assertEqual(self.status(), {"web": ["booted", 9], "db": ["booted", None]})

    def test_stopsAndStarts(self) -> None:
        """
        Stopped it is dead with code 0 and stays; started it is up; started again nothing happens.
        """
        (node,) = self.do("stop_node lab/exp1 web")
        self.assertEqual((node["boot"], node["code"]), ("dead", 0))
        self.assertEqual(self.state(), "active")
        (node,) = self.do("start_node lab/exp1 web web")
        self.assertEqual((node["boot"], node["boots"]), ("booted", 2))
        (node,) = self.do("start_node lab/exp1 web")
        self.assertEqual(node["boots"], 2)

    def test_startsWhatDied(self) -> None:
        """
        A node that was killed stays dead until it is started.
        """
        self.daemon.driver.end(self.serial("web"), 137)
        self.daemon.advance(30)
        self.assertEqual(self.status()["web"], ["dead", 137])
        (node,) = self.do("start_node lab/exp1 web")
        self.assertEqual(node["boot"], "booted")

    def test_isNotCancelledHalfWay(self) -> None:
        """
        What is being carried out cannot be taken back: cancel says so, and the reboot is not called cancelled.
        """
        start, held = self.daemon.driver.ensure_started, Deferred[None]()

        async def start_late(workload: Workload) -> None:
            await held
            await start(workload)

        self.patch(self.daemon.driver, "ensure_started", start_late)
        number = self.ann.body("node_reboot lab/exp1 web wait=0")["operation"]
        self.assertIn("WRONG_STATE", self.refused(f"cancel {number}"))
        self.assertIn("under way", self.refused(f"cancel {number}"))
        held.callback(None)
        self.daemon.advance(30)
        self.assertEqual(self.ann.body(f"operation {number}")["state"], "done")

    def test_namesWhatIsMissing(self) -> None:
        """
        A node that is not there is named, with near ones, and the others are not touched.
        """
        self.assertIn("NO_SUCH_NODE: no node wbe", self.refused("node_reboot lab/exp1 db wbe"))
        self.assertIn("did you mean web", self.refused("node_reboot lab/exp1 db wbe"))
        self.assertEqual(self.ann.body("experiment lab/exp1")["nodes"]["db"]["boots"], 1)

    def test_wantsItPlaced(self) -> None:
        """
        Swapped out there are no nodes to reboot.
        """
        self.do("swap_out lab/exp1")
        self.assertIn("WRONG_STATE", self.refused("node_reboot lab/exp1 web"))

    def test_doesNotDisturbASwapIn(self) -> None:
        """
        A node stopped or rebooted while its experiment still comes up does not keep that from becoming active.
        """
        for command in ("stop_node", "node_reboot"):
            self.do("swap_out lab/exp1")
            self.ann.send(f"@1 swap_in lab/exp1\n@2 {command} lab/exp1 web\n", settle=False)
            self.daemon.advance(10)
            self.assertEqual(sorted(self.ann.lines()), ["@1 swap_in_reply", f"@2 {command}_reply"])
            self.assertEqual(self.state(), "active")

    def test_newerIntentWins(self) -> None:
        """
        A stop right behind a reboot wins, and who waited for the reboot is told.
        """
        self.daemon.driver.boot_after = 5.0
        self.ann.send("@1 node_reboot lab/exp1 web\n")
        self.ann.send("@2 stop_node lab/exp1 web\n@3 node_reboot lab/exp1 db\n")
        self.daemon.advance(20)
        self.assertEqual(sorted(self.ann.lines()), ["@1 CANCELLED", "@2 stop_node_reply", "@3 node_reboot_reply"])
        self.assertEqual(self.status()["web"], ["dead", 0])

    def test_neverCountsABootTwice(self) -> None:
        """
        A reboot after a cancelled one is a reboot, not the one that was begun before.
        """
        self.daemon.driver.boot_after = None
        number = self.ann.body("node_reboot lab/exp1 web wait=0")["operation"]
        self.ann.body(f"cancel {number}")
        pid = self.ann.body("experiment lab/exp1")["nodes"]["web"]["pid"]
        self.daemon.driver.boot_after = 1.0
        (node,) = self.do("node_reboot lab/exp1 web")
        self.assertNotEqual(node["pid"], pid)


class CancellingTests(LifeCase):
    """
    Taking back.
    """

    def test_swapsOutAgain(self) -> None:
        """
        A cancelled swap-in is swapped out.
        """
        number = self.ann.body("swap_in lab/exp1 wait=0")["operation"]
        self.assertEqual(self.ann.body(f"cancel {number}")["state"], "cancelled")
        self.daemon.advance(10)
        self.assertEqual((self.state(), self.daemon.fake_host.statuses), ("swapped", {}))
        self.daemon.check()

    def test_swapsInAgain(self) -> None:
        """
        A cancelled swap-out brings back what has gone, and keeps what has not.
        """
        self.do("swap_in lab/exp1")
        kept = self.serial("db")
        pid = self.daemon.fake_host.statuses[kept].pid
        self.daemon.driver.errors["ensure_destroyed"] = [OSError(16, "busy")]
        order = sorted((self.serial("web"), kept))
        if order[0] != kept:
            self.daemon.driver.errors["ensure_destroyed"] = []
            self.daemon.driver.ensure_destroyed = self.fails_for(kept)  # type: ignore[method-assign]
        number = self.ann.body("swap_out lab/exp1 wait=0")["operation"]
        self.assertEqual(list(self.daemon.fake_host.statuses), [kept])
        self.do(f"cancel {number}")
        self.assertEqual(self.state(), "active")
        self.assertEqual(self.status(), {"web": ["booted", 7], "db": ["booted", None]})
        self.assertEqual(self.daemon.fake_host.statuses[kept].pid, pid)

    def fails_for(self, serial: int) -> Any:
        destroy = self.daemon.driver.ensure_destroyed

        async def ensure_destroyed(one: int) -> None:
            if one == serial:
                raise OSError(16, "busy")
            await destroy(one)

        return ensure_destroyed

    def test_cannotTakeBackTheEnd(self) -> None:
        """
        A termination that runs is not cancelled.
        """
        self.do("swap_in lab/exp1")
        self.daemon.driver.errors["ensure_destroyed"] = [OSError(16, "busy")] * 2
        number = self.ann.body("terminate lab/exp1 wait=0")["operation"]
        self.assertIn("WRONG_STATE", self.refused(f"cancel {number}"))
        self.assertIn("WRONG_STATE", self.refused("swap_in lab/exp1"))
        self.assertEqual(self.ann.code("terminate lab/exp1 wait=0"), "operation_reply")
        self.daemon.advance(30)
        self.assertIn("NO_SUCH_EXPERIMENT", self.refused("experiment lab/exp1"))


class QuotaTests(SynchronousTestCase):
    """
    What a project may have at a time.
    """

    def test_bounds(self) -> None:
        """
        The sum over the project's nodes stays within its quota, over experiments and modifications.
        """
        daemon = make()
        operator = daemon.connect()
        operator.body("add_project lab quota={'pids_max': 1536}")
        for name in ("a", "b"):
            operator.body(f"create_experiment lab/{name} {topdl({'x': None, 'y': None})}")
        operator.body("swap_in lab/a")
        reply = operator.ask("swap_in lab/b")
        self.assertEqual(reply.body["code"], "TOO_MANY")
        self.assertIn("pids_max 1536: 1024 in use, 1024 wanted", reply.body["message"])
        self.assertEqual(operator.body("experiment lab/b")["state"], "swapped")
        operator.body(f"modify_experiment lab/a {topdl({'x': None, 'y': None, 'z': None})}")
        four = topdl({"x": None, "y": None, "z": None, "zz": None})
        self.assertEqual(operator.code(f"modify_experiment lab/a {four}"), "TOO_MANY")
        self.assertEqual(operator.code(f"create_experiment lab/c {topdl({'x': None})} swap_in=True"), "TOO_MANY")
        self.assertEqual([one["name"] for one in operator.body("experiments")], ["lab/a", "lab/b"])
        operator.body("swap_out lab/a")
        operator.body("swap_in lab/b")
        daemon.check()


class RestartTests(LifeCase):
    """
    The daemon dies in the middle.
    """

    @given(
        st.sampled_from(
            ["swap_in", "swap_out", "terminate", "node_reboot", "stop_node", "start_node", "modify_experiment"]
        ),
        st.lists(st.sampled_from([0.0, 0.3, 0.7, 1.0]), max_size=4),
    )
    @settings(max_examples=60, deadline=None)
    def test_endsInTheSamePlace(self, command: str, crashes: list[float]) -> None:
        """
        Whenever the daemon is killed and started again, what was begun ends as if it had not been.
        """
        ends = []
        for times in ([], crashes):
            self.setUp()
            if command != "swap_in":
                self.do("swap_in lab/exp1")
            more = {"modify_experiment": f" {topdl({'web': 'exit 1', 'new': None})}"}
            more |= dict.fromkeys(("node_reboot", "stop_node", "start_node"), " web")
            self.ann.body(f"{command} lab/exp1{more.get(command, '')} wait=0 token=once")
            for time in times:
                self.daemon.advance(time)
                self.daemon.crash()
            self.daemon.advance(30)
            self.daemon.check()
            ann = self.ann = self.daemon.connect(5001)
            operations = [(one["command"], one["state"]) for one in ann.body("operations")]
            nodes = [
                (node["name"], node["boot"], node["code"], node["boots"], node["start_command"])
                for node in ann.body("node_list")
                if node["extra"]
            ]
            states = [one["state"] for one in ann.body("experiments")]
            ends.append((operations, nodes, states, len(self.daemon.fake_host.statuses)))
        self.assertEqual(ends[0], ends[1])

    def test_doesNotRepeatARebootThatWasDone(self) -> None:
        """
        A daemon that died after the reboot, before it was noted as done, does not do it twice.
        """
        self.do("swap_in lab/exp1")
        self.ann.send("node_reboot lab/exp1 web wait=0\n")
        self.daemon.crash()
        self.daemon.advance(10)
        self.ann = self.daemon.connect(5001)
        self.assertEqual(self.ann.body("experiment lab/exp1")["nodes"]["web"]["boots"], 2)
        self.assertEqual(self.ann.body("operations")[0]["state"], "done")

    def test_forgetsWhatWasNotDurable(self) -> None:
        """
        A request that was not acknowledged before the daemon died had no effect.
        """
        self.ann.send("swap_in lab/exp1\n", settle=False)
        self.assertEqual(self.daemon.fake_host.statuses, {})
        self.daemon.crash()
        self.daemon.advance(10)
        self.ann = self.daemon.connect(5001)
        self.assertEqual((self.state(), self.daemon.fake_host.statuses), ("swapped", {}))
