"""
What the daemon says of itself and its host.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import hostline
from hostline.protocol.commands import TABLE
from tests.daemons import EPOCH, FakeAccounts, make, topdl


class AboutTests(SynchronousTestCase):
    """
    hello, help, ping and whoami.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.ann = self.daemon.lab()

    def test_greets(self) -> None:
        """
        The greeting says who answers, in which version, and whom it takes the caller for.
        """
        body = self.ann.body("hello client=test/1")
        self.assertEqual((body["protocol"], body["version"], body["host"]), (1, hostline.__version__, "tester"))
        self.assertEqual((body["principal"], body["roles"]), ("ann", ["anyone", "user"]))
        self.assertEqual(self.daemon.connect().body("hello")["roles"], ["anyone", "operator"])
        self.assertEqual(self.ann.code("hello format=xml"), "BAD_VALUE")

    def test_helps(self) -> None:
        """
        help lists every command; of one command it says the same.
        """
        found = self.ann.body("help")
        self.assertEqual(set(found), set(TABLE))
        self.assertEqual(self.ann.body("help swap_in"), {"swap_in": found["swap_in"]})
        self.assertEqual(self.ann.code("help swap_inn"), "UNKNOWN_COMMAND")

    def test_tellsTheTime(self) -> None:
        """
        ping is never answered from what was kept.
        """
        times = []
        for _ in range(2):
            times.append(self.ann.body("ping")["time"])
            self.daemon.advance(1)
        self.assertEqual(times, [EPOCH, EPOCH + 1])

    def test_tellsWhoAsks(self) -> None:
        """
        whoami has the uid and the way in.
        """
        body = self.ann.body("whoami")
        self.assertEqual((body["principal"], body["uid"], body["via"]), ("ann", 5001, "socket"))


class HealthTests(SynchronousTestCase):
    """
    host_status and doctor.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.operator = self.daemon.connect()

    def finding(self, check: str) -> Any:
        return next(one for one in self.operator.body("doctor") if one["check"] == check)

    def test_countsWhatIsGiven(self) -> None:
        """
        What running slivers may take is counted, what is stopped is not.
        """
        self.operator.body("add_project lab")
        self.operator.body(f"create_experiment lab/exp1 {topdl({'a': None, 'b': None})} swap_in=True")
        allocated = self.operator.body("host_status")["allocated"]
        self.assertEqual((allocated["slivers"], allocated["running"], allocated["pids_max"]), (2, 2, 1024))
        self.operator.body("stop_node lab/exp1 a")
        allocated = self.operator.body("host_status")["allocated"]
        self.assertEqual((allocated["slivers"], allocated["running"], allocated["pids_max"]), (2, 1, 512))

    def test_saysItsPidAndUptime(self) -> None:
        """
        Monitoring sees the daemon's pid, how long it runs, and how many are connected.
        """
        self.daemon.advance(100)
        status = self.operator.body("host_status")
        self.assertEqual(status["uptime"], 100)
        self.assertEqual((status["daemon"]["pid"], status["daemon"]["connections"]), (os.getpid(), 1))
        self.assertEqual(status["drivers"], {"process": self.daemon.driver.version})

    def test_saysThatChangesAreRefused(self) -> None:
        """
        While changes cannot be written doctor says why and what to do; everybody sees it among the problems.
        """
        self.assertTrue(self.finding("state")["ok"])
        self.daemon.store.full = True
        self.assertEqual(self.operator.code("add_project lab"), "STORE_FAILED")
        found = self.finding("state")
        self.assertFalse(found["ok"])
        self.assertIn("disk full", found["detail"])
        self.assertTrue(found["remedy"])
        self.assertTrue(any("disk full" in one for one in self.daemon.connect(5009).body("host_status")["problems"]))
        self.daemon.store.full = False
        self.operator.body("add_project lab")
        self.assertTrue(self.finding("state")["ok"])

    def test_namesNobodyToOthers(self) -> None:
        """
        What is wrong with somebody's delegate is for operators to know; others hear that something is.
        """
        daemon = make(accounts=FakeAccounts())
        operator = daemon.connect()
        serial = operator.body("add_delegate del_secret")["serial"]
        daemon.daemon.delegates._note(serial, "its account is gone")
        self.assertIn("del_secret: its account is gone", operator.body("host_status")["problems"])
        problems = daemon.connect(5009).body("host_status")["problems"]
        self.assertIn("delegates: not as it should be; doctor tells operators more", problems)
        self.assertNotIn("del_secret", str(problems))

    def test_saysWhatADriverLacks(self) -> None:
        """
        What slivers cannot be given on this host is a finding of its driver.
        """
        self.assertTrue(self.finding("driver process")["ok"])
        self.assertNotIn("; ;", "; " + self.finding("driver process")["detail"])
        self.daemon.driver.problems = lambda: ["no control groups"]  # type: ignore[method-assign]
        self.assertIn("no control groups", self.finding("driver process")["detail"])
