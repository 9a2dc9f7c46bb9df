"""
What should be, in memory: changes, their undoing, what is derived, and what is made of a damaged file.
"""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import Exists
from hostline.server.host import Host
from hostline.server.records import Experiment, Project, Sliver, User
from hostline.server.store import Loaded
from tests.daemons import MemoryDaemon, make, topdl


class SerialTests(SynchronousTestCase):
    """
    A serial is used once.
    """

    def test_isNotUsedAgainAfterACrash(self) -> None:
        """
        Whatever was made before the daemon was killed, durable or not, its serials are not given out again.
        """
        daemon = make()
        seen: list[int] = []
        for run in range(3):
            operator = daemon.connect()
            for number in range(70):
                seen.append(operator.body(f"add_project p{run}-{number}")["serial"])
                operator.body(f"remove_project p{run}-{number}")
            operator.send("add_project lost\n", settle=False)
            daemon.crash()
        self.assertEqual(len(set(seen)), len(seen))
        self.assertEqual(seen, sorted(seen))

    def test_isNotUsedAgainWhenTheReservationFailed(self) -> None:
        """
        A disk that is full just when serials are reserved does not make them come twice.
        """
        daemon = make()
        seen = []
        for run in range(3):
            operator = daemon.connect()
            daemon.store.full = True
            while daemon.host._next_serial < daemon.host._reserved:
                self.assertEqual(operator.code("add_project none"), "STORE_FAILED")
            self.assertEqual(operator.code("add_project none"), "STORE_FAILED")
            daemon.store.full = False
            seen += [operator.body(f"add_project p{run}-{number}")["serial"] for number in range(3)]
            daemon.crash()
        self.assertEqual(len(set(seen)), len(seen))
        daemon.check()

    def test_isNotUsedAgainWhenTheCounterWasLost(self) -> None:
        """
        Where the counter was lost with a damaged file, what is in use is still not given out again.
        """
        host = Host("h")
        user = User(serial=700, name="ann")
        host.load(Loaded([("user", "ann", user.as_json())], {}, [], []))
        self.assertEqual(host.change(0.0).serial(), 701)


class NameTests(SynchronousTestCase):
    """
    Names are told apart by more than case.
    """

    def test_isTakenInAnyCase(self) -> None:
        """
        C{Lab} cannot be made beside C{lab}, but instead of it.
        """
        host = Host("h")
        change = host.change(0.0)
        lab = change.add(Project(serial=1, name="lab"))
        self.assertRaises(Exists, change.add, Project(serial=2, name="LAB"))
        change.remove(lab)
        change.add(Project(serial=2, name="LAB"))
        change.undo()
        self.assertEqual(host.table(Project), {})
        host.change(0.0).add(Project(serial=3, name="lab"))


class ScaleTests(SynchronousTestCase):
    """
    Thousands of users.
    """

    def test_addsManyUsers(self) -> None:
        """
        Ten thousand users are added in a few seconds, not in minutes.
        """
        host = Host("h")
        begun = time.process_time()
        for number in range(10000):
            change = host.change(0.0)
            serial = change.serial()
            change.add(User(serial=serial, name=f"user{number}", uid=5000 + number))
            host.committed(change)
            found = host.by_serial(User, serial)
            self.assertEqual(host.by_uid(5000 + number), [found])
        self.assertLess(time.process_time() - begun, 5)


class DamagedTests(SynchronousTestCase):
    """
    Records that cannot be read.
    """

    def damage(self, daemon: MemoryDaemon, kind: str, key: str, body: str = "{") -> None:
        sql = "UPDATE records SET body = ? WHERE kind = ? AND key = ?"
        self.assertEqual(daemon.disk.connection.execute(sql, (body, kind, key)).rowcount, 1)

    def finding(self, daemon: MemoryDaemon) -> dict[str, Any]:
        found = daemon.connect().body("doctor")
        return next(one for one in found if one["check"] == "records")

    def test_isSetAside(self) -> None:
        """
        A user whose record is damaged is gone, the others are there; doctor names it, and the text is kept.
        """
        daemon = make()
        daemon.lab()
        self.damage(daemon, "user", "bob", '{"name": 7}')
        daemon.crash()
        self.assertEqual([one["name"] for one in daemon.connect().body("users")], ["ann"])
        self.assertIn("user bob", self.finding(daemon)["detail"])
        kept = daemon.disk.connection.execute("SELECT kind, key, body FROM aside").fetchall()
        self.assertEqual(kept, [("user", "bob", '{"name": 7}')])
        daemon.check()

    def test_isSetAsideWhenItsKeyIsAnother(self) -> None:
        """
        A record under another's name is not taken for it.
        """
        daemon = make()
        daemon.lab()
        self.damage(daemon, "user", "bob", daemon.host.table(User)["ann"].as_json())
        daemon.crash()
        self.assertEqual([one["name"] for one in daemon.connect().body("users")], ["ann"])
        daemon.check()

    def test_startsWhateverIsDamaged(self) -> None:
        """
        No damaged record, of whatever kind, keeps the daemon from starting and from answering.
        """
        daemon = make()
        ann = daemon.lab()
        ann.body(f"create_experiment lab/exp1 {topdl({'web': None})} swap_in=True token=once")
        ann.send(f"modify_experiment lab/exp1 {topdl({'db': None})} wait=0\n", settle=False)
        for kind, key in list(daemon.disk.records()):
            self.damage(daemon, kind, key, json.dumps({"serial": "x"}))
        self.damage_event(daemon)
        daemon.crash()
        operator = daemon.connect()
        for line in ("experiments", "users", "projects", "delegates", "operations", "events", "events topic=audit"):
            operator.body(line)
        daemon.check()

    def damage_event(self, daemon: MemoryDaemon) -> None:
        daemon.disk.connection.execute('UPDATE events SET body = \'{"body": {}, "scope": null}\' WHERE cursor = 5')

    def placed(self) -> MemoryDaemon:
        daemon = make()
        daemon.lab().body(f"create_experiment lab/exp1 {topdl({'web': 'sleep 99', 'db': None})} swap_in=True")
        return daemon

    def test_goesOnWhenItsSliverIsDamaged(self) -> None:
        """
        A node whose own record is damaged runs on, and goes with its experiment.
        """
        daemon = self.placed()
        web = next(one for one in daemon.host.slivers_by_serial.values() if one.name.startswith("web"))
        pid = daemon.fake_host.statuses[web.serial].pid
        self.damage(daemon, "sliver", str(web.serial))
        daemon.crash()
        daemon.advance(1)
        ann = daemon.connect(5001)
        self.assertEqual(ann.body("experiment lab/exp1")["nodes"]["web"]["pid"], pid)
        self.assertIn("web.exp1.lab", self.finding(daemon)["detail"])
        self.assertEqual(daemon.host.slivers_by_serial[web.serial].start_command, "sleep 99")
        ann.body("terminate lab/exp1")
        self.assertEqual((daemon.fake_host.statuses, daemon.host.slivers_by_serial), ({}, {}))
        daemon.check()

    def test_isMadeAnewFromItsNodes(self) -> None:
        """
        An experiment whose own record is damaged is there again while its nodes run, and can be terminated.
        """
        daemon = self.placed()
        before = dict(daemon.fake_host.statuses)
        self.damage(daemon, "experiment", "lab/exp1")
        daemon.crash()
        daemon.advance(1)
        self.assertEqual(daemon.fake_host.statuses, before)
        ann = daemon.connect(5001)
        self.assertEqual(sorted(ann.body("experiment lab/exp1")["nodes"]), ["db", "web"])
        ann.body("terminate lab/exp1")
        self.assertEqual(daemon.fake_host.statuses, {})
        daemon.check()

    def test_leavesStraysAlone(self) -> None:
        """
        Where records were lost, what runs without one may be somebody's: it goes on, also after further starts, until
        the operator removes the file that says so.
        """
        daemon = self.placed()
        for kind, key in [key for key in daemon.disk.records() if key[0] in ("experiment", "sliver", "plan")]:
            self.damage(daemon, kind, key)
        for _ in range(2):
            daemon.crash()
            daemon.advance(1)
            self.assertEqual(len(daemon.fake_host.statuses), 2)
        (daemon.directory / "keep-strays").unlink()
        daemon.crash()
        self.assertEqual(daemon.fake_host.statuses, {})

    def test_canBeTerminatedWhenItsTopologyIsDamaged(self) -> None:
        """
        An experiment whose topology is damaged is shown, says so, refuses what needs the topology, and can be ended.
        """
        for body in ("{", json.dumps({"serial": 4, "topology": {"nodes": 1}, "warnings": []})):
            daemon = self.placed()
            (experiment,) = daemon.host.table(Experiment).values()
            self.damage(daemon, "plan", str(experiment.serial), body)
            daemon.crash()
            ann = daemon.connect(5001)
            self.assertIn("damaged", ann.body("experiment lab/exp1")["warnings"][0])
            self.assertEqual(len(ann.body("experiments")), 1)
            self.assertEqual(len(ann.body("status_request lab/exp1")["hv:process:pnode-0000"]), 2)
            ann.body("node_list")
            for line in ("topology lab/exp1", f"modify_experiment lab/exp1 {topdl({'db': None})}"):
                self.assertEqual(ann.code(line), "WRONG_STATE")
            ann.body("node_reboot lab/exp1 web")
            ann.body("swap_out lab/exp1")
            self.assertEqual(ann.code("swap_in lab/exp1"), "WRONG_STATE")
            ann.body("terminate lab/exp1")
            self.assertEqual(daemon.fake_host.statuses, {})
            daemon.check()

    def test_runsOnWhenItsExperimentIsDamaged(self) -> None:
        """
        Nodes whose experiment cannot be read are left alone.
        """
        daemon = self.placed()
        self.damage(daemon, "experiment", "lab/exp1")
        before = dict(daemon.fake_host.statuses)
        daemon.crash()
        daemon.advance(60)
        self.assertEqual(daemon.fake_host.statuses, before)
        self.assertEqual(len(daemon.host.table(Sliver)), 2)


class Undoing(RuleBasedStateMachine):
    """
    People come and go on a disk that is full at times; changes share commits.
    """

    @initialize()
    def begin(self) -> None:
        self.daemon = make()
        self.operator = self.daemon.connect()

    @rule(
        lines=st.lists(
            st.one_of(
                st.sampled_from(["add_user {} uid=5001", "add_user {} uid=5002", "add_user {}", "remove_user {}"]),
                st.sampled_from(["add_project {}", "remove_project {}", "add_member lab {}", "remove_member lab {}"]),
                st.sampled_from(["add_delegate {} uid=5002", "add_delegate {} uid=5003", "remove_delegate {}"]),
                st.sampled_from(
                    ["add_project lab", "remove_project lab", "add_user {} token=t", "add_project {} token=t"]
                ),
            ).flatmap(lambda line: st.sampled_from(["ann", "Ann", "bob", "cy"]).map(line.format)),
            min_size=1,
            max_size=6,
        ),
        full=st.booleans(),
    )
    def change(self, lines: list[str], full: bool) -> None:
        self.daemon.store.full = full
        self.operator.send("".join(f"{line}\n" for line in lines), settle=False)
        self.daemon.settle()
        replies = self.operator.replies()
        assert len(replies) == len(lines)

    @rule()
    def crash(self) -> None:
        self.daemon.crash()
        self.operator = self.daemon.connect()

    @invariant()
    def holds(self) -> None:
        """
        Memory is what the file holds, and what is derived follows from it.
        """
        if hasattr(self, "daemon"):
            self.daemon.check()


UndoingTests = Undoing.TestCase
UndoingTests.settings = settings(
    max_examples=50, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
