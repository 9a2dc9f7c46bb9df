"""
Tests for what whoever asks by DNS is held to.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.names import dns
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.host import Host
from hostline.server.nametalk import (
    CONNECTIONS,
    LONGEST_S,
    OF_ONE,
    QUESTIONS,
    TURN_BYTES,
    Connection,
    Datagrams,
    question,
)
from hostline.server.nodenames import NameServer, NodeNames


def asked(answer: int = 0) -> bytes:
    """
    @return: a question, or what says that it is an answer.
    """
    message = dns.Message(id=7, opCode=dns.OP_QUERY, answer=answer)
    message.addQuery(b"web.exp1.lab", dns.A)
    return message.toStr()


def framed(data: bytes) -> bytes:
    """
    @return: as it goes over TCP.
    """
    return len(data).to_bytes(2, "big") + data


class Wire(StringTransportWithDisconnection):
    """
    A connection that may be ended at once.
    """

    def abortConnection(self) -> None:
        self.loseConnection()


class NameTalkCase(SynchronousTestCase):
    """
    A server without a name.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        names = NodeNames(Host("h", 100), lambda _: None, IPv4Network("10.98.0.0/16"), self.clock.seconds)
        self.server = NameServer(names, self.clock)

    def connect(self, peer: str = "10.98.0.5") -> tuple[Connection, Wire]:
        made = self.server.buildProtocol(None)
        wire = Wire(peerAddress=IPv4Address("TCP", peer, 1234))
        wire.protocol = made
        made.makeConnection(wire)
        return made, wire


class DatagramsTests(NameTalkCase):
    """
    Tests for L{Datagrams}.
    """

    def sent(self, data: bytes) -> list[Any]:
        """
        @return: the replies.
        """
        found: list[Any] = []

        class Port:
            maxThroughput = 1 << 18

            def write(self, data: bytes, address: tuple[str, int]) -> None:
                found.append((data, address))

        ours: Any = Datagrams(self.server, self.clock)
        self.port: Any = Port()
        ours.makeConnection(self.port)
        ours.datagramReceived(data, ("10.98.0.5", 53))
        return found

    def test_turns(self) -> None:
        """
        However many come at once, others are served between them.
        """
        self.sent(asked())
        self.assertEqual(self.port.maxThroughput, TURN_BYTES)

    def test_question(self) -> None:
        """
        It is answered, to whoever asks, and in about as many bytes.
        """
        ((data, address),) = self.sent(asked())
        self.assertEqual(address, ("10.98.0.5", 53))
        self.assertLessEqual(len(data), len(asked()) + 16)

    def test_answer(self) -> None:
        """
        What says that it is an answer has none: two servers would never come to an end.
        """
        self.assertEqual(self.sent(asked(answer=1)), [])

    @given(st.binary(max_size=600) | st.binary(max_size=60).map(lambda data: asked()[:12] + data))
    def test_anything(self, data: bytes) -> None:
        """
        Whatever comes is no error, and is not told of in the log.
        """
        self.assertLessEqual(len(self.sent(data)), 1)
        question(data)


class ConnectionTests(NameTalkCase):
    """
    Tests for L{Connection}.
    """

    def test_byteByByte(self) -> None:
        """
        A question is answered however it comes.
        """
        ours, wire = self.connect()
        for byte in framed(asked()):
            ours.dataReceived(bytes([byte]))
        self.assertTrue(wire.value())

    def test_nonsense(self) -> None:
        """
        Who says what is no question is cut off.
        """
        ours, wire = self.connect()
        ours.dataReceived(framed(b"nonsense"))
        self.assertFalse(wire.connected)

    def test_silence(self) -> None:
        """
        Nobody stays for long.
        """
        _, wire = self.connect()
        self.clock.advance(LONGEST_S)
        self.assertFalse(wire.connected)
        self.assertEqual(self.server.connections, [])

    def test_manyQuestions(self) -> None:
        """
        Who asks without end is cut off, so that replies which nobody reads do not pile up.
        """
        ours, wire = self.connect()
        ours.dataReceived(framed(asked()) * 10 * QUESTIONS)
        self.assertFalse(wire.connected)
        self.assertLessEqual(len(wire.value()), (len(asked()) + 16) * QUESTIONS)

    def test_manyConnections(self) -> None:
        """
        One peer has a few, and cannot keep others out; nor are there many in all.
        """
        wires = [self.connect()[1] for _ in range(OF_ONE + 5)]
        self.assertEqual(sum(wire.connected for wire in wires), OF_ONE)
        self.assertTrue(self.connect("10.98.0.6")[1].connected)
        many = [self.connect(f"10.98.1.{at}")[1] for at in range(2 * CONNECTIONS)]
        self.assertEqual(sum(wire.connected for wire in many), CONNECTIONS - OF_ONE - 1)
        self.clock.advance(LONGEST_S)
        self.assertEqual(self.clock.getDelayedCalls(), [])
