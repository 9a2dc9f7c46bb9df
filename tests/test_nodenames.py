"""
Tests for the answers to who asks for names of nodes by DNS.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.names import dns
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.drivers.driver import Status
from hostline.server.host import Host
from hostline.server.nodenames import NameServer, NodeNames
from hostline.server.records import Experiment, Project, Sliver

OUTSIDE, WEB, DB, FREE, UNKNOWN = "127.0.0.1", "10.98.0.5", "10.98.0.6", "10.98.0.7", "10.98.0.99"


class NodeNamesCase(SynchronousTestCase):
    """
    A host on which lab/exp1 has web, Other/x has DB, and lab_free is of no project.
    """

    def setUp(self) -> None:
        self.host = Host("h", 100)
        change = self.host.change(0.0)
        change.put(Project(serial=1, name="lab"))
        change.put(Project(serial=2, name="Other"))
        self.experiment = change.put(self.placed(3, "lab/exp1", 1, {"web": 10}))
        change.put(self.placed(4, "Other/x", 2, {"DB": 11}))
        for serial, name, experiment in ((10, "web.exp1.lab", 3), (11, "DB.x.Other", 4), (12, "lab_free", 0)):
            change.put(Sliver(serial=serial, name=name, kind="fake", experiment=experiment, created=0.0))
        self.statuses = {10: Status(10, address=WEB), 11: Status(11, address=DB), 12: Status(12, address=FREE)}
        self.clock = Clock()
        self.clock.advance(10)
        self.names = NodeNames(self.host, self.statuses.get, IPv4Network("10.98.0.0/16"), self.clock.seconds)

    def placed(self, serial: int, name: str, project: int, slivers: dict[str, int]) -> Experiment:
        return Experiment(
            serial=serial, name=name, project=project, owner="uid:0", state="active", slivers=slivers, created=0.0
        )

    def ask(self, name: str, peer: str = OUTSIDE, kind: int = dns.A) -> tuple[int, str | None]:
        return self.names.answer(name, kind, peer)


class NodeNamesTests(NodeNamesCase):
    """
    Tests for L{NodeNames}.
    """

    def test_fromOutside(self) -> None:
        """
        Whoever is no sliver is told of every node, in whatever case, with or without the last dot.
        """
        asked = ("web.exp1.lab", "WEB.Exp1.LAB.", "db.X.other")
        self.assertEqual([self.ask(name) for name in asked], [(dns.OK, WEB), (dns.OK, WEB), (dns.OK, DB)])

    def test_unknown(self) -> None:
        """
        Of our projects, what is not there is not there; of anything else we know nothing.
        """
        missing = ("nosuch.exp1.lab", "web.nosuch.lab", "a.web.exp1.lab")
        self.assertEqual({self.ask(name) for name in missing}, {(dns.ENAME, None)})
        foreign = ("www.example.org", "", ".", "web.exp1.nosuch")
        self.assertEqual({self.ask(name) for name in foreign}, {(dns.EREFUSED, None)})

    def test_noAddress(self) -> None:
        """
        A node that has no address, or none of the kind that is asked for, is there all the same.
        """
        self.assertEqual(self.ask("web.exp1.lab", kind=dns.AAAA), (dns.OK, None))
        self.assertEqual(self.ask("exp1.lab"), (dns.OK, None))
        self.statuses[10] = Status(10)
        self.assertEqual(self.ask("web.exp1.lab"), (dns.OK, None))

    def test_fromSlivers(self) -> None:
        """
        A sliver is told of its own project; of another it hears what it would hear of none.
        """
        self.assertEqual(self.ask("web.exp1.lab", WEB), (dns.OK, WEB))
        self.assertEqual(self.ask("db.x.other", WEB), self.ask("db.x.nosuch", WEB))
        self.assertEqual(self.ask("db.x.other", DB), (dns.OK, DB))

    def test_fromStrangers(self) -> None:
        """
        A sliver without a project, and an address of their network that nobody has, are told of nothing.
        """
        asked = {self.ask("web.exp1.lab", peer) for peer in (FREE, UNKNOWN, f"::ffff:{UNKNOWN}")}
        self.assertEqual(asked, {(dns.EREFUSED, None)})

    def test_gone(self) -> None:
        """
        What is swapped out has no name any more, and its address is nobody's.
        """
        self.ask("web.exp1.lab", WEB)
        change = self.host.change(0.0)
        change.put(attrs.evolve(self.experiment, slivers={}))
        change.remove(self.host.slivers_by_serial[10])
        del self.statuses[10]
        self.clock.advance(2)
        self.assertEqual(self.ask("web.exp1.lab"), (dns.ENAME, None))
        self.assertEqual(self.ask("exp1.lab", WEB), (dns.EREFUSED, None))


class AnythingTests(NodeNamesCase):
    """
    Tests for L{NodeNames} with whatever can be asked.
    """

    @given(st.text(), st.text())
    def test_anything(self, name: str, peer: str) -> None:
        """
        Whatever is asked, by whomever, is answered.
        """
        self.assertIn(self.ask(name, peer)[0], (dns.OK, dns.ENAME, dns.EREFUSED))


class NameServerTests(NodeNamesTests):
    """
    Tests for L{NameServer}: the same, on the wire.
    """

    def ask(self, name: str, peer: str = OUTSIDE, kind: int = dns.A) -> tuple[int, str | None]:
        protocol = NameServer(self.names, self.clock).buildProtocol(None)
        transport = StringTransport(peerAddress=IPv4Address("TCP", peer, 1234))
        protocol.makeConnection(transport)
        message = dns.Message(id=7, opCode=dns.OP_QUERY)
        message.addQuery(name.encode(), kind)
        data = message.toStr()
        protocol.dataReceived(len(data).to_bytes(2, "big") + data)
        reply = dns.Message()
        reply.fromStr(transport.value()[2:])
        self.assertEqual(reply.id, 7)
        payloads: list[Any] = [one.payload for one in reply.answers]
        found = [one.dottedQuad() for one in payloads if isinstance(one, dns.Record_A)]
        return reply.rCode, found[0] if found else None
