"""
Whoever talks to us by DNS, held to little: nothing that comes can fill the log, keep connections, or keep the daemon
from its other work.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.names import dns

#: Bytes that are read from one socket before others get their turn.
TURN_BYTES = 2048
#: Connections in all, of one peer; seconds that each may last, and what may be asked on it.
CONNECTIONS, OF_ONE, LONGEST_S, QUESTIONS = 50, 8, 10.0, 20


def question(data: bytes) -> dns.Message | None:
    """
    @param data: whatever somebody sent.
    @return: what is asked; None if it is no question. What answers is not answered: two servers would do so for ever.
    """
    message = dns.Message()
    try:
        message.fromStr(data)
    except Exception:  # whatever reads it may fail by, of what anybody may have sent
        return None
    return None if message.answer else message


class Datagrams(dns.DNSDatagramProtocol):
    """
    Questions by UDP.
    """

    noisy = False

    def startProtocol(self) -> None:
        super().startProtocol()
        if hasattr(self.transport, "maxThroughput"):
            self.transport.maxThroughput = TURN_BYTES

    def datagramReceived(self, data: bytes, addr: tuple[str, int]) -> None:
        message = question(data)
        if message is not None:
            self.controller.messageReceived(message, self, addr)


class Connection(dns.DNSProtocol):
    """
    Questions by TCP.
    """

    def connectionMade(self) -> None:
        self._left = QUESTIONS
        self._late: IDelayedCall | None = None
        super().connectionMade()
        peer = _host(self)
        others = [one for one in self.controller.connections if one is not self]
        if len(others) >= CONNECTIONS or sum(_host(one) == peer for one in others) >= OF_ONE:
            self._over()
            return
        self._late = self.callLater(LONGEST_S, self._over)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        if self._late is not None and self._late.active():
            self._late.cancel()
        super().connectionLost(reason)

    def stringReceived(self, data: bytes) -> None:
        message = question(data)
        self._left -= 1
        if message is None or self._left < 0:
            self._over()
            return
        self.controller.messageReceived(message, self)

    def _over(self) -> None:
        self.pauseProducing()  # what has come already is not read, either
        transport: Any = self.transport
        transport.abortConnection()


def _host(connection: Any) -> str:
    return str(getattr(connection.transport.getPeer(), "host", ""))
