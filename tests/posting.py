"""
A client that posts calls by XML-RPC to a daemon in memory.
"""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Iterable
from typing import Any, cast

import h11

from hostline.server.callers import Caller
from hostline.server.connection import Connection
from hostline.server.facades.emulab import answer
from hostline.server.facades.web import WebConnection
from tests.daemons import FakePeer, FakeTransport, MemoryDaemon


def posted(body: bytes, path: str = "/usr/testbed", more: str = "") -> bytes:
    """
    @return: a request as a stock client writes it.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def called(method: str, *params: Any) -> bytes:
    """
    @return: the body of a call.
    """
    return xmlrpc.client.dumps(params, method, allow_none=True).encode()


class Poster:
    """
    One connection, seen from outside.
    """

    def __init__(self, whole: MemoryDaemon, caller: Caller) -> None:
        self._whole = whole
        self.connection = Connection(whole.daemon, lambda _: caller)
        self.web = WebConnection(whole.daemon, self.connection, answer)
        peer = FakePeer(caller.uid, 0, ())
        self.transport = FakeTransport(whole.loop, cast("Connection", self.web), peer)
        self.web.connection_made(self.transport)
        self._http = h11.Connection(h11.CLIENT)

    def send(self, data: bytes) -> None:
        """
        Send as it is.
        """
        self.transport.unsent += data
        self.transport.deliver()
        self._whole.settle()

    def came(self) -> bytes:
        """
        @return: all that came since last asked.
        """
        data = bytes(self.transport.received)
        self.transport.received.clear()
        return data

    def answer(self) -> Any:
        """
        @return: the value of the one answer that came.
        @raise xmlrpc.client.Fault: if it is one.
        """
        head, _, body = self.came().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert f"content-length: {len(body)}".encode() in head.lower(), head
        (value,), _ = xmlrpc.client.loads(body)
        return value

    def status(self) -> int:
        """
        @return: the HTTP status of the answer that came, 0 if none did.
        """
        data = self.came()
        return int(data.split(b" ", 2)[1]) if data else 0

    def call(self, method: str, arguments: Any = None, version: Any = 0.1) -> dict[str, Any]:
        """
        Call a method.

        @return: what it answers: C{code}, C{value}, C{output}.
        """
        self.send(posted(called(method, version, arguments or {})))
        value = self.answer()
        assert set(value) == {"code", "value", "output"}, value
        assert isinstance(value["output"], str), value
        return dict(value)

    def value(self, method: str, arguments: Any = None) -> Any:
        """
        The same, which must succeed.

        @return: its value.
        """
        found = self.call(method, arguments)
        assert found["code"] == 0, found
        return found["value"]


def callers_of(daemon: MemoryDaemon, uids: Iterable[int]) -> list[Poster]:
    """
    @return: a client for each uid.
    """
    return [Poster(daemon, Caller(uid, uid == 0)) for uid in uids]
