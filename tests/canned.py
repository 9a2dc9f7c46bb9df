"""
A daemon that is only bytes: each connection to it finds its replies already sent.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import unittest

from hostline.clients.client import Client
from hostline.clients.connection import Connection


class Canned:
    """
    Listens on a real socket, without a thread: what is to be read stands in the kernel before anybody asks.

    @ivar path: of the socket.
    """

    def __init__(self, test: unittest.TestCase, *replies: bytes) -> None:
        """
        @param replies: what the first, the second .. connection reads; after each the stream goes on.
        """
        directory = tempfile.mkdtemp(prefix="hl-")
        test.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.path = f"{directory}/sock"
        self._replies = list(replies)
        self._listener = socket.socket(socket.AF_UNIX)
        test.addCleanup(self._listener.close)
        self._listener.bind(self.path)
        self._listener.listen()
        self._test = test
        self.peers: list[socket.socket] = []

    def connect(self, path: str, deadline: float | None) -> Connection:
        """
        Connect, and have the replies sent.
        """
        connection = Connection(self.path, deadline)
        peer, _ = self._listener.accept()
        self._test.addCleanup(peer.close)
        self.peers.append(peer)
        if self._replies:
            peer.sendall(self._replies.pop(0))
        return connection

    def client(self, timeout: float | None = 5) -> Client:
        """
        @return: a client of this daemon.
        """
        client = Client(self.path, timeout, self.connect)
        self._test.addCleanup(client.close)
        return client

    def asked(self, connection: int = -1) -> list[bytes]:
        """
        @return: the lines that were sent on a connection, the last one unless told.
        """
        peer = self.peers[connection]
        peer.setblocking(False)
        data = b""
        try:
            while piece := peer.recv(1 << 20):
                data += piece
        except BlockingIOError:
            pass
        return data.split(b"\n")[:-1]

    def hang_up(self) -> None:
        """
        Close the newest connection.
        """
        self.peers[-1].close()
