"""
The daemon's own life: reloading, purging, ending.
"""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import Config, History, Limits
from hostline.server.records import Operation
from tests.daemons import make, topdl


class ReloadTests(SynchronousTestCase):
    """
    A configuration read again.
    """

    def test_holdsAtOnce(self) -> None:
        """
        New limits hold for new connections, the change is told, and what waits for a restart is named.
        """
        daemon = make()
        operator = daemon.connect()
        operator.body("watch host")
        changed, restart = daemon.daemon.reload(Config(limits=Limits(principal_connections=1, line_bytes=2000)))
        self.assertEqual(restart, ["limits.line_bytes"])
        daemon.settle()
        (event,) = operator.replies()
        self.assertEqual((event.body["what"], event.body["changed"]), ("configuration", changed))
        self.assertEqual(daemon.connect().lines(), ["TOO_MANY"])

    def test_makesOperatorsOfAnotherGroup(self) -> None:
        """
        Members of the group that is configured now are operators from now on, those of the former no more.
        """
        daemon = make(config=attrs.evolve(Config(), operators="no such group"))
        self.assertEqual(daemon.connect(5001, groups=[0]).code("users"), "DENIED")
        daemon.daemon.reload(attrs.evolve(Config(), operators="root"))
        self.assertEqual(daemon.connect(5001, groups=[0]).code("users"), "users_reply")
        daemon.daemon.reload(attrs.evolve(Config(), operators="no such group"))
        self.assertEqual(daemon.connect(5001, groups=[0]).code("users"), "DENIED")

    def test_keepsFewerEvents(self) -> None:
        """
        With fewer events to keep, older ones are forgotten.
        """
        daemon = make()
        daemon.lab()
        operator = daemon.connect()
        daemon.daemon.reload(Config(history=History(events=100)))
        for _ in range(150):
            daemon.daemon.reload(Config(history=History(events=100)))
        daemon.settle()
        self.assertLessEqual(len(operator.body("events limit=10000")), 125)
        self.assertEqual(operator.body("events since=1 topic=host")[0]["what"], "missed")


class PurgeTests(SynchronousTestCase):
    """
    What is old is removed.
    """

    def test_removesEndedOperations(self) -> None:
        """
        An operation is kept for a week after its end, one that runs for as long as it does.
        """
        daemon = make()
        ann = daemon.lab()
        ann.body(f"create_experiment lab/exp1 {topdl({'web': None})} swap_in=True")
        daemon.driver.boot_after = None
        ann.body("node_reboot lab/exp1 web wait=0")
        daemon.advance(6.9 * 86400)
        daemon.daemon.round()
        daemon.settle()
        self.assertEqual(len(daemon.host.table(Operation)), 2)
        daemon.advance(86400)
        daemon.daemon.round()
        daemon.settle()
        (left,) = daemon.host.table(Operation).values()
        self.assertEqual((left.command, left.state), ("node_reboot", "running"))
        daemon.check()


class OperatorTests(SynchronousTestCase):
    """
    Operations as the operator sees them.
    """

    def test_listsNewestFirst(self) -> None:
        """
        An operator sees all operations and may cancel any; the follow-up is in its beginner's name.
        """
        daemon = make(slow=5.0)
        ann = daemon.lab()
        ann.body(f"create_experiment lab/exp1 {topdl({'web': None})} swap_in=True wait=0")
        operator = daemon.connect()
        (running,) = operator.body("operations")
        self.assertEqual((running["step"], running["progress"]), ("0 of 1 nodes", 0.0))
        operator.body(f"cancel {running['operation']}")
        self.assertEqual([one["command"] for one in operator.body("operations")], ["swap_out", "create_experiment"])
        self.assertEqual([one["command"] for one in ann.body("operations")], ["swap_out", "create_experiment"])
        self.assertEqual(ann.body(f"operation {running['operation']}")["state"], "cancelled")
