"""
Who may come in.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.callers import Caller
from hostline.server.config import Config, Limits
from tests.daemons import Client, MemoryDaemon, make, topdl


class GateTests(SynchronousTestCase):
    """
    Connections of operators, of people who are known, and of others.
    """

    def limited(self, **limits: Any) -> MemoryDaemon:
        daemon = make(config=Config(limits=Limits(**limits)))
        daemon.lab().hang_up()
        return daemon

    def hold(self, daemon: MemoryDaemon, uid: int, count: int) -> list[Client]:
        """
        @return: those of so many connections that got in.
        """
        clients = [daemon.connect(uid) for _ in range(count)]
        return [client for client in clients if client.lines() == []]

    def test_alwaysHasRoomForOperators(self) -> None:
        """
        Whatever users and others hold, operators come in.
        """
        daemon = self.limited(connections=6, operator_connections=3)
        self.assertEqual(len(self.hold(daemon, 5001, 4)), 4)
        others = self.hold(daemon, 6000, 4)
        self.assertEqual(len(others), 2)
        self.assertEqual(len(self.hold(daemon, 0, 4)), 3)
        others[0].hang_up()
        self.assertEqual(len(self.hold(daemon, 0, 4)), 1)
        self.assertEqual(daemon.daemon.connections, 9)

    def test_countsOperatorsApart(self) -> None:
        """
        Operators take nothing from the others until they have used up their own.
        """
        daemon = self.limited(connections=4, operator_connections=3)
        operators = self.hold(daemon, 0, 4)
        self.assertEqual(len(operators), 4)
        self.assertEqual(len(self.hold(daemon, 5001, 5)), 3)
        operators[0].hang_up()
        self.assertEqual(len(self.hold(daemon, 5001, 5)), 1)

    def test_givesStrangersAFewTogether(self) -> None:
        """
        However many uids somebody has, such as those of his nodes, they get no more connections than one would.
        """
        daemon = self.limited(stranger_connections=3)
        inside = [client for uid in range(200000, 200004) for client in self.hold(daemon, uid, 256)]
        self.assertEqual(len(inside), 3)
        self.assertEqual(daemon.connect(5001).code("ping"), "ping_reply")
        inside[0].hang_up()
        self.assertEqual(len(self.hold(daemon, 200009, 2)), 1)

    def test_countsAsWhatTheyCame(self) -> None:
        """
        Who becomes a user while connected leaves as the stranger he came as.
        """
        daemon = self.limited(stranger_connections=1)
        (client,) = self.hold(daemon, 5009, 1)
        daemon.connect().body("add_user cy uid=5009")
        self.assertEqual(len(self.hold(daemon, 5009, 2)), 2)
        self.assertEqual(self.hold(daemon, 6000, 1), [])
        client.hang_up()
        self.assertEqual(len(self.hold(daemon, 6000, 2)), 1)

    def test_countsAPrincipalWhicheverWayItComes(self) -> None:
        """
        Who comes by its uid and by its certificate has no more connections than who comes one way.
        """
        daemon = self.limited(principal_connections=3)
        daemon.connect().body("add_user eve uid=5007 certificate=dns:eve.example.org")
        self.assertEqual(len(self.hold(daemon, 5007, 2)), 2)
        by_name = [daemon.connect(caller=self.certified("dns:eve.example.org")) for _ in range(2)]
        self.assertEqual([client.lines() for client in by_name], [[], ["TOO_MANY"]])

    def test_countsCertificatesOfNobodyAsStrangers(self) -> None:
        """
        A certificate that no user is known by shares the few connections of uids that are not known.
        """
        daemon = self.limited(stranger_connections=2)
        self.assertEqual(len(self.hold(daemon, 6000, 1)), 1)
        callers = [self.certified(f"dns:host{number}.example.org") for number in range(2)]
        self.assertEqual([daemon.connect(caller=one).lines() for one in callers], [[], ["TOO_MANY"]])

    def test_hasRoomForOperatorsByRecord(self) -> None:
        """
        A user that is an operator by its record comes in by certificate, whatever the others hold.
        """
        daemon = self.limited(connections=2, operator_connections=1)
        daemon.connect().body("add_user eve certificate=dns:eve.example.org operator=True")
        daemon.clients[-1].hang_up()
        self.assertEqual(len(self.hold(daemon, 5001, 3)), 2)
        eve = daemon.connect(caller=self.certified("dns:eve.example.org"))
        self.assertEqual(eve.code("users"), "users_reply")

    def test_keepsWhoComesForACertificateApart(self) -> None:
        """
        Whoever comes without a certificate has a few connections, which are nobody else's.
        """
        daemon = self.limited(connections=2, enrol_connections=2)
        enrolling = [daemon.connect(caller=Caller(-1, via="enrol")) for _ in range(3)]
        self.assertEqual([client.lines() for client in enrolling], [[], [], ["TOO_MANY"]])
        self.assertEqual(len(self.hold(daemon, 5001, 3)), 2)
        enrolling[0].hang_up()
        self.assertEqual(daemon.connect(caller=Caller(-1, via="enrol")).lines(), [])

    def certified(self, *names: str) -> Caller:
        return Caller(-1, via="tls", names=names, number="1f")


class CutTests(SynchronousTestCase):
    """
    Connections of those who may no longer come are ended.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.ann = self.daemon.lab()
        self.operator = self.daemon.connect()

    def test_endsConnectionsOfARemovedUser(self) -> None:
        """
        A user that is removed is cut off, and nobody else is.
        """
        bob = self.daemon.connect(5002)
        self.operator.body("remove_user ann")
        self.assertEqual((self.ann.over, bob.over, self.operator.over), (True, False, False))
        self.assertEqual(self.daemon.daemon.connections, 2)

    def test_endsConnectionsOfARemovedDelegate(self) -> None:
        """
        A delegate that is removed is cut off, and hears no more of what it watched.
        """
        self.operator.body("add_delegate del_mon uid=5003 commands=['watch','status_request'] slivers=[]")
        mon = self.daemon.connect(5003)
        mon.body("watch all")
        self.operator.body("remove_delegate del_mon")
        self.assertTrue(mon.over)
        self.operator.body("add_project garden")
        self.assertEqual(mon.raw(), [])

    def test_endsThemOnlyOnceItIsDurable(self) -> None:
        """
        A removal that cannot be written ends nothing.
        """
        self.daemon.store.full = True
        self.assertEqual(self.operator.code("remove_user ann"), "STORE_FAILED")
        self.assertFalse(self.ann.over)
        self.assertEqual(self.ann.body("whoami")["principal"], "ann")

    def test_endsThoseOfWhoHadTheUidBefore(self) -> None:
        """
        Who was removed and made again is another one, also if both happened at once.
        """
        self.operator.send("remove_user ann\nadd_user ann uid=5001\n")
        self.assertTrue(self.ann.over)
        self.assertEqual(self.daemon.connect(5001).body("whoami")["principal"], "ann")

    def test_tellsWhoRemovesHimself(self) -> None:
        """
        An operator who removes his own record is told that it is done, and then cut off.
        """
        self.operator.body("add_user eve uid=5007 operator=True")
        eve = self.daemon.connect(5007)
        eve.send("remove_user eve\n")
        self.assertEqual(eve.lines(), ["remove_user_reply"])
        self.assertTrue(eve.over)

    def test_endsThoseOfFormerOperators(self) -> None:
        """
        Who is an operator no longer is cut off, with all that was open; he may come again as the user he is.
        """
        self.operator.body("add_user eve uid=5007 operator=True")
        eve = self.daemon.connect(5007)
        eve.body("watch audit")
        self.operator.body("set_user eve operator=False")
        self.assertEqual((eve.over, self.ann.over, self.operator.over), (True, False, False))
        self.assertEqual(self.daemon.connect(5007).code("users"), "DENIED")

    def test_leavesStrangersWhoBecomeUsers(self) -> None:
        """
        Who is made a user while connected goes on, as the user he is now, and is cut when that ends.
        """
        stranger = self.daemon.connect(5009)
        self.operator.body("add_user cy uid=5009")
        self.assertEqual(stranger.body("whoami")["principal"], "cy")
        self.operator.body("add_user dan uid=5010")
        self.assertFalse(stranger.over)
        self.operator.body("remove_user cy")
        self.assertTrue(stranger.over)

    def test_forgetsWhatWasAsked(self) -> None:
        """
        What waited for an answer is not answered any more, and takes nothing from the limits.
        """
        self.daemon.driver.boot_after = None
        self.ann.body(f"create_experiment lab/exp1 {topdl({'web': None})}")
        number = self.ann.body("swap_in lab/exp1 wait=0")["operation"]
        self.ann.send(f"@1 wait {number}\nwait {number}\nping\n")
        tally = self.daemon.daemon.tally(self.ann.connection.caller)
        self.operator.body("remove_user ann")
        self.assertEqual(self.ann.raw(), [])
        self.assertEqual((tally.waiting, tally.tagged, tally.bytes_waiting, tally.connections), (0, 0, 0, set()))

    def test_endsThoseThatAreChosen(self) -> None:
        """
        Whoever is chosen, such as who shows a certificate that was revoked, is cut off; the others are not.
        """
        clients = [
            self.daemon.connect(caller=Caller(-1, via="tls", names=("dns:a.example.org",), number=number))
            for number in ("1f", "20")
        ]
        self.assertEqual(self.daemon.daemon.gate.cut(lambda caller: caller.number == "1f"), 1)
        self.daemon.settle()
        self.assertEqual([client.over for client in clients], [True, False])
