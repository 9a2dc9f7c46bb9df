"""
From what should be to what is.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import Config, Slivers
from hostline.server.records import Sliver
from tests.daemons import MemoryDaemon, make, topdl


def nodes(count: int) -> str:
    return topdl({f"n{number}": None for number in range(count)})


class SteppingTests(SynchronousTestCase):
    """
    How steps follow each other.
    """

    def up(self, count: int = 1, **options: Any) -> MemoryDaemon:
        daemon = make(**options)
        daemon.lab().body(f"create_experiment lab/exp1 {nodes(count)} swap_in=True")
        return daemon

    def test_takesSoManyAtOnce(self) -> None:
        """
        No more slivers than configured are stopped at the same time, less a place for others; all are in the end.
        """
        daemon = self.up(10, config=Config(slivers=Slivers(at_once=4)))
        daemon.driver.stop_after = 1.0
        names = " ".join(f"n{number}" for number in range(10))
        daemon.connect().body(f"stop_node lab/exp1 {names} wait=0")
        begun = []
        for _ in range(4):
            begun.append(len([call for call in daemon.driver.calls if call[0] == "ensure_stopped"]))
            daemon.advance(1)
        self.assertEqual(begun, [3, 6, 9, 10])
        self.assertEqual({one.boot for one in daemon.fake_host.statuses.values()}, {"dead"})

    def test_letsNoProjectWaitForAnother(self) -> None:
        """
        However many nodes of one project end slowly, another's start, stop and go at once.
        """
        daemon = self.up(60)
        operator = daemon.connect()
        operator.body("add_project garden")
        daemon.driver.stop_after = 5.0
        names = " ".join(f"n{number}" for number in range(60))
        stopping = operator.body(f"stop_node lab/exp1 {names} wait=0")["operation"]
        daemon.driver.stop_after = 0.0
        operator.body(f"create_experiment garden/exp1 {nodes(1)}")
        for command in ("swap_in", "node_reboot", "swap_out", "terminate"):
            rest = " n0" if command == "node_reboot" else ""
            self.assertNotEqual(operator.ask(f"{command} garden/exp1{rest}").word, "operation_reply", command)
        self.assertEqual(operator.body(f"operation {stopping}")["step"], "0 of 60 nodes")
        daemon.advance(5)
        self.assertEqual(operator.body(f"operation {stopping}")["state"], "done")

    def test_letsNobodyWaitForASlowOne(self) -> None:
        """
        While one sliver's stop takes its time, others are started and asked for.
        """
        daemon = self.up()
        daemon.driver.stop_after = 100.0
        operator = daemon.connect()
        operator.body("stop_node lab/exp1 n0 wait=0")
        operator.body(f"create_experiment lab/exp2 {nodes(1)} swap_in=True")
        self.assertEqual(operator.body("status_request lab/exp1")["hv:process:pnode-0000"]["n0"][0], "booted")

    def test_doesNothingBeforeItIsDurable(self) -> None:
        """
        Nothing is taken away, nor made, for a change that is not written yet, even if its sliver has news just then.
        """
        daemon = self.up()
        (serial,) = daemon.fake_host.statuses
        operator = daemon.connect()
        calls = len(daemon.driver.calls)
        operator.send("terminate lab/exp1\n", settle=False)
        daemon.driver.end(serial, 137)
        self.assertEqual(daemon.driver.calls[calls:], [])
        self.assertIn(serial, daemon.fake_host.statuses)
        daemon.store.fail()
        daemon.settle()
        self.assertEqual(operator.lines(), ["STORE_FAILED"])
        self.assertEqual(operator.body("status_request lab/exp1"), {"hv:process:pnode-0000": {"n0": ["dead", 137]}})
        self.assertEqual(daemon.driver.calls[calls:], [])
        operator.body("terminate lab/exp1")
        self.assertEqual(daemon.fake_host.statuses, {})

    def test_goesOnAfterANewerIntent(self) -> None:
        """
        What was wanted meanwhile is done right after the step under way.
        """
        daemon = self.up()
        daemon.driver.stop_after = 5.0
        operator = daemon.connect()
        operator.body("stop_node lab/exp1 n0 wait=0")
        daemon.advance(1)
        operator.body("start_node lab/exp1 n0 wait=0")
        daemon.advance(4)
        (status,) = daemon.fake_host.statuses.values()
        self.assertEqual((status.boots, status.boot), (2, "booted"))

    def test_triesAgainWhatChangedNothing(self) -> None:
        """
        A driver that does nothing is not asked again and again without a pause.
        """
        daemon = self.up()
        operator = daemon.connect()

        async def ensure_stopped(serial: int) -> None:
            calls.append(serial)

        calls: list[int] = []
        daemon.driver.ensure_stopped = ensure_stopped  # type: ignore[method-assign]
        operator.body("stop_node lab/exp1 n0 wait=0")
        self.assertEqual(len(calls), 1)
        daemon.advance(25)
        self.assertEqual(len(calls), 3)

    def test_survivesABugOfADriver(self) -> None:
        """
        An exception nobody thought of is logged; the node is dead with 125, the daemon goes on.
        """
        daemon = make()
        ann = daemon.lab()
        daemon.driver.errors["ensure_started"] = [ZeroDivisionError("oops")]
        self.assertEqual(ann.code(f"create_experiment lab/exp1 {nodes(1)} swap_in=True"), "FAILED")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(ann.body("status_request lab/exp1")["hv:process:pnode-0000"]["n0"], ["dead", 125])
        ann.body("terminate lab/exp1")

    def test_stopsWhatRunsThoughItsRebootFailed(self) -> None:
        """
        If a reboot could not even end the former boot, a stop still ends it.
        """
        daemon = self.up()
        daemon.driver.errors["ensure_started"] = [OSError(5, "Input/output error")]
        operator = daemon.connect()
        self.assertEqual(operator.code("node_reboot lab/exp1 n0"), "FAILED")
        self.assertEqual(next(iter(daemon.fake_host.statuses.values())).boot, "booted")
        operator.body("stop_node lab/exp1 n0")
        self.assertEqual(next(iter(daemon.fake_host.statuses.values())).boot, "dead")
        daemon.check()

    def test_isSilentWhenClosed(self) -> None:
        """
        A daemon that ends takes no further step, and everything goes on as it is.
        """
        daemon = self.up(2)
        operator = daemon.connect()
        daemon.driver.stop_after = 5.0
        operator.body("stop_node lab/exp1 n0 n1 wait=0")
        daemon.daemon.close()
        calls = len(daemon.driver.calls)
        daemon.advance(60)
        self.assertEqual(len(daemon.driver.calls), calls)


class KindTests(SynchronousTestCase):
    """
    Slivers of a kind that this host has no driver for.
    """

    def test_isSaidAndCanBeEnded(self) -> None:
        """
        It is shown as unreachable, a start fails and says why, and the experiment can be terminated.
        """
        daemon = make()
        daemon.lab().body(f"create_experiment lab/exp1 {nodes(1)} swap_in=True")
        (sliver,) = daemon.host.table(Sliver).values()
        other = attrs.evolve(sliver, kind="qemu", boots=2)
        sql = "UPDATE records SET body = ? WHERE kind = 'sliver'"
        daemon.disk.connection.execute(sql, (other.as_json(),))
        daemon.crash()
        ann = daemon.connect(5001)
        self.assertEqual(ann.body("status_request lab/exp1"), {"hv:qemu:pnode-0000": {"n0": ["dead", 125]}})
        reply = ann.ask("node_reboot lab/exp1 n0")
        self.assertIn("no driver for slivers of kind qemu", reply.body["message"])
        ann.body("terminate lab/exp1")
        self.assertEqual(daemon.host.table(Sliver), {})


class TellingTests(SynchronousTestCase):
    """
    What is told of nodes.
    """

    def test_tellsEachChangeOnce(self) -> None:
        """
        A boot, an end and another boot are told once each, with code and problems.
        """
        daemon = make(slow=1.0)
        ann = daemon.lab()
        ann.body(f"create_experiment lab/exp1 {topdl({'web': 'sleep 1; exit 3'})} swap_in=True wait=0")
        daemon.advance(5)
        (serial,) = daemon.fake_host.statuses
        daemon.driver.end(serial, 137)
        daemon.driver.changed(serial)
        daemon.advance(1)
        ann.body("start_node lab/exp1 web wait=0")
        daemon.advance(5)
        found = [(one["what"], one["code"]) for one in ann.body("events") if one.get("sliver")]
        boot = [("running", None), ("booted", None), ("start_command_ended", 3)]
        self.assertEqual(found, [*boot, ("dead", 137), *boot])

    def test_tellsOfAShortCommand(self) -> None:
        """
        The end of a start command is told, also if it ended before its node was seen to be up.
        """
        daemon = make(slow=10.0)
        ann = daemon.lab()
        ann.body(f"create_experiment lab/exp1 {topdl({'web': 'exit 3'})} swap_in=True wait=0")
        daemon.advance(5)
        (serial,) = daemon.fake_host.statuses
        before = daemon.fake_host.statuses[serial]
        self.assertEqual(before.boot, "running")
        ended = attrs.evolve(before, boot="booted", start_code=3, start_command="ended")
        daemon.fake_host.statuses[serial] = ended
        daemon.driver.changed(serial)
        daemon.settle()
        found = [(one["what"], one["code"]) for one in ann.body("events") if one.get("sliver")]
        self.assertEqual(found, [("running", None), ("booted", 3), ("start_command_ended", 3)])

    def test_goesOnWhenTheDiskIsFull(self) -> None:
        """
        News that cannot be written is shown in the status all the same, and operations end once there is room.
        """
        daemon = make(slow=1.0)
        ann = daemon.lab()
        ann.body(f"create_experiment lab/exp1 {nodes(1)} swap_in=True wait=0")
        daemon.store.full = True
        daemon.advance(5)
        self.assertEqual(ann.body("status_request lab/exp1")["hv:process:pnode-0000"]["n0"], ["booted", None])
        self.assertEqual(ann.body("experiment lab/exp1")["state"], "activating")
        daemon.store.full = False
        daemon.daemon.round()
        daemon.settle()
        self.assertEqual(ann.body("experiment lab/exp1")["state"], "active")
        daemon.check()
