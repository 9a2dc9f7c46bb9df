"""
Operations: slow work with a number, derived from what is wanted and what is.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from hostline.server import operations
from tests.daemons import make, topdl


class OperationsTests(SynchronousTestCase):
    """
    How they begin, meet and end.
    """

    def setUp(self) -> None:
        self.daemon = make(slow=1.0)
        self.ann = self.daemon.lab()
        self.ann.body(f"create_experiment lab/exp1 {topdl({'web': None, 'db': None})}")
        self.other = self.daemon.connect(5001)

    def states(self) -> list[tuple[str, str]]:
        return [(one["command"], one["state"]) for one in self.ann.body("operations")]

    def test_newerWinsBeforeTheOlderIsDurable(self) -> None:
        """
        Of two opposite intents in one turn, on two connections, the later wins, and none runs for ever.
        """
        self.ann.send("swap_in lab/exp1\n", settle=False)
        self.other.send("swap_out lab/exp1\n", settle=False)
        self.daemon.advance(20)
        self.assertEqual((self.ann.lines(), self.other.lines()), (["CANCELLED"], ["swap_out_reply"]))
        self.assertEqual(self.states(), [("swap_out", "done"), ("swap_in", "cancelled")])
        self.assertEqual(self.ann.body("experiment lab/exp1")["state"], "swapped")

    def test_areNoneForWhatIsSo(self) -> None:
        """
        Starting a node that is up, or stopping one that is not, is answered at once and makes no operation.
        """
        self.ann.send("swap_in lab/exp1 wait=0\n")
        self.daemon.advance(0.5)
        self.assertEqual(self.ann.code("start_node lab/exp1 web wait=0"), "operation_reply")
        self.daemon.advance(2)
        count = len(self.states())
        self.ann.raw()
        (node,) = self.ann.body("start_node lab/exp1 web web")
        self.assertEqual((node["node"], node["boot"]), ("web", "booted"))
        self.ann.send("stop_node lab/exp1 db\n")
        self.daemon.advance(2)
        self.assertEqual(self.ann.replies()[0].body[0]["boot"], "dead")
        self.assertEqual(self.ann.body("stop_node lab/exp1 db")[0]["boot"], "dead")
        self.assertEqual(self.ann.code("start_node lab/exp1 web db wait=0"), "operation_reply")
        self.assertEqual(len(self.states()), count + 2)

    def test_areOnlySoMany(self) -> None:
        """
        Of a principal's ended operations the newest are kept; those of others and what runs are not concerned.
        """
        self.patch(operations, "KEPT", 20)
        self.daemon.connect().send("swap_in lab/exp1\n")
        self.daemon.advance(2)
        for _ in range(50):
            self.ann.send("node_reboot lab/exp1 web\n")
            self.daemon.advance(5)
        self.ann.raw()
        found = self.ann.body("operations")
        self.assertLess(len(found), 24)
        self.assertEqual(self.daemon.connect().body("operations")[-1]["command"], "swap_in")
        newest = [one["operation"] for one in found]
        self.assertEqual(newest, sorted(newest, reverse=True))
        self.assertEqual([one["operation"] for one in self.ann.body("operations limit=3")], newest[:3])
        listed = self.ann.body(f"operations since={newest[4]}")
        self.assertEqual([one["operation"] for one in listed], newest[:4])
        self.daemon.check()

    def test_failsWithTheOneItWasBuiltOn(self) -> None:
        """
        If neither could be written, both are refused and all is as before.
        """
        self.daemon.store.full = True
        self.ann.send("swap_in lab/exp1\n", settle=False)
        self.other.send("swap_out lab/exp1\n", settle=False)
        self.daemon.settle()
        self.assertEqual((self.ann.lines(), self.other.lines()), (["STORE_FAILED"], ["STORE_FAILED"]))
        self.daemon.store.full = False
        self.assertEqual((self.states(), self.daemon.fake_host.statuses), ([], {}))
        self.daemon.check()

    def test_leavesOtherNodesAlone(self) -> None:
        """
        Two operations on different nodes do not disturb each other; two on the same do.
        """
        self.ann.send("swap_in lab/exp1\n")
        self.daemon.advance(2)
        self.ann.send("@1 node_reboot lab/exp1 web\n@2 node_reboot lab/exp1 db\n@3 node_reboot lab/exp1 db\n")
        self.daemon.advance(5)
        self.assertEqual(
            sorted(self.ann.lines()),
            ["@1 node_reboot_reply", "@2 CANCELLED", "@3 node_reboot_reply", "swap_in_reply"],
        )

    def test_showsHowFarItIs(self) -> None:
        """
        Progress is the part of the nodes that are as wanted.
        """
        serial = self.daemon.host._next_serial
        self.daemon.driver.boots_after = {serial: 5.0}
        number = self.ann.body("swap_in lab/exp1 wait=0")["operation"]
        self.daemon.advance(2)
        body = self.ann.body(f"operation {number}")
        self.assertEqual((body["state"], body["progress"], body["step"]), ("running", 0.5, "1 of 2 nodes"))
        self.daemon.advance(5)
        body = self.ann.body(f"operation {number}")
        self.assertEqual((body["state"], body["progress"]), ("done", 1.0))
        self.assertGreater(body["ended"], body["started"])

    def test_forgetsWhoWaitsNoLonger(self) -> None:
        """
        Waiting in vain leaves nothing behind, nor does waiting for what has ended.
        """
        always = len(self.daemon.clock.getDelayedCalls())
        self.daemon.driver.boot_after = None
        number = self.ann.body("swap_in lab/exp1 wait=0")["operation"]
        for _ in range(3):
            self.ann.send(f"@w wait {number} timeout=1\n")
        self.daemon.advance(2)
        self.assertEqual(self.ann.lines(), ["@w wait_reply"] * 3)
        self.assertEqual([one for some in self.daemon.daemon.operations._waiters.values() for one in some], [])
        self.ann.send("swap_out lab/exp1\n")
        self.daemon.advance(5)
        self.ann.raw()
        self.assertEqual(self.ann.body(f"wait {number} timeout=99")["state"], "cancelled")
        self.assertEqual(len(self.daemon.clock.getDelayedCalls()), always)

    def test_isOneForEachChange(self) -> None:
        """
        Each operation is told when it begins and when it ends, to those who may see its experiment.
        """
        self.other.body("watch all")
        self.ann.send("swap_in lab/exp1\n")
        self.daemon.advance(5)
        told = [
            (reply.body["topic"], reply.body["what"])
            for reply in self.other.replies()
            if reply.body["topic"].startswith("operation/")
        ]
        number = self.ann.body("operations")[0]["operation"]
        self.assertEqual(told, [(f"operation/{number}", "running"), (f"operation/{number}", "done")])
