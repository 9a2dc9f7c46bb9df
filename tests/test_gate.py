"""
Who may come in.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import Config, Limits
from tests.daemons import Client, MemoryDaemon, make


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
