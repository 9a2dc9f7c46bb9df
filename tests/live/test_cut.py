"""
Who is removed is cut off, from a real daemon and with all that is open.
"""

from __future__ import annotations

import time
import unittest
from pathlib import Path

from tests.live.hosted import Client, Hosted, NoReply, topology, until
from tests.live.test_oracle import coming_as
from tests.needs import needs_root


@needs_root
class CutTests(unittest.TestCase):
    """
    A user, and a delegate, with several connections.
    """

    def setUp(self) -> None:
        self.host = Hosted(self)
        self.host.start()
        self.operator = self.host.client()
        self.addCleanup(self.operator.close)
        for line in (
            "add_project lab",
            "add_user ann uid=7001",
            "add_user bob uid=7002",
            "add_member lab ann",
            "add_member lab bob",
            f"create_experiment lab/exp1 {topology({'web': None})} swap_in=True wait=60",
            "add_delegate del_mon uid=7003 commands=['status_request','watch','wait_for'] slivers=['lab/exp1']",
        ):
            self.operator.ask(line)

    def client(self, uid: int) -> Client:
        with coming_as(uid):
            client = self.host.client()
        self.addCleanup(client.close)
        client.ask("ping")  # it has been let in
        return client

    def assertCut(self, client: Client) -> None:
        begun = time.monotonic()
        with self.assertRaises(NoReply):
            while time.monotonic() < begun + 5:
                client.line()
        self.assertLess(time.monotonic() - begun, 2)

    def test_endsWhatAUserHasOpen(self) -> None:
        """
        Idle connections, those that wait, those that are full of requests and those with a command inside: all end.
        """
        clients = [self.client(7001) for _ in range(5)]
        clients[1].send("wait_for lab/exp1 failed timeout=100\n")
        clients[2].send("status_request lab/exp1\n" * 2_000)
        clients[3].send("watch all\n")
        clients[4].send("@1 exec web.exp1.lab ['sleep','271.8281'] stream=True\n")
        before = self.host.processes()
        until(lambda: len(self.host.processes()) > len(before) or b"271.8281" in _commands(self.host))
        bob = self.client(7002)
        self.operator.ask("remove_user ann")
        for client in clients:
            self.assertCut(client)
        until(lambda: b"271.8281" not in _commands(self.host))
        bob.ask("status_request lab/exp1")
        again = self.client(7001)
        self.assertEqual(again.ask("whoami")["principal"], "uid:7001")
        self.assertEqual(self.host.tracebacks(), "")

    def test_endsWhatADelegateHasOpen(self) -> None:
        """
        A delegate's too; and one that is made again under its name and uid begins anew.
        """
        clients = [self.client(7003) for _ in range(3)]
        clients[1].ask("watch experiment/lab/exp1")
        clients[2].send("wait_for lab/exp1 failed timeout=100\n")
        self.operator.ask("remove_delegate del_mon")
        self.operator.ask("add_delegate del_mon uid=7003 commands=['status_request'] slivers=['lab/exp1']")
        for client in clients:
            self.assertCut(client)
        again = self.client(7003)
        again.ask("status_request lab/exp1")
        self.assertEqual(again.refusal("watch experiment/lab/exp1")[1]["code"], "NO_SUCH_TOPIC")
        self.assertEqual(self.host.tracebacks(), "")


def _commands(host: Hosted) -> bytes:
    found = b""
    for pid in host.processes():
        try:
            found += Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            pass
    return found
