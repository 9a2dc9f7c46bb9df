"""
The peers: what a request could cost, and what others pay for the same bytes.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.child import Child
from bench.machine import python
from bench.wire import Server, compiled
from bench.xmlrpc import REQUEST

ECHO = "C epoll echo"
REDIS = "Redis GET"
TWISTED_XMLRPC = "twisted.web XML-RPC"
SIMPLE_XMLRPC = "SimpleXMLRPCServer"


class Peers:
    """
    The servers that are measured beside the daemon.

    @ivar servers: those that run, by name.
    @ivar left_out: why another does not, by name.
    """

    def __init__(self, directory: Path, request: bytes, reply: bytes) -> None:
        """
        Start all that this machine has.

        @param request: the line that asks for the status.
        @param reply: the line that answers it; every peer carries the same value.
        """
        self._directory = directory
        self._request = request
        self._reply = reply
        self.servers: dict[str, Server] = {}
        self.left_out: dict[str, str] = {}
        self._children = ExitStack()
        with ExitStack() as unless_all_start:
            unless_all_start.callback(self.end)
            self._start_echo()
            self._start_redis()
            self._start_xmlrpc()
            unless_all_start.pop_all()

    def end(self) -> None:
        """
        End them all.
        """
        self._children.close()

    def _started(self, name: str, argv: list[str], address: Path) -> Child:
        log = self._directory / f"{address.stem}.log"
        return self._children.enter_context(Child(argv, log, address.exists))

    def _start_echo(self) -> None:
        program = compiled("echo", self._directory)
        if program is None:
            self.left_out[ECHO] = "no C compiler"
            return
        address, reply = self._directory / "echo.sock", self._directory / "echo.reply"
        reply.write_bytes(self._reply)
        child = self._started(ECHO, [str(program), str(address), str(reply)], address)
        self.servers[ECHO] = Server(ECHO, child.pid, "exact", str(address), self._request, self._reply)

    def _start_redis(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            self.left_out[REDIS] = "redis-server is not installed"
            return
        address = self._directory / "redis.sock"
        options: Mapping[str, str] = {
            "--port": "0",
            "--unixsocket": str(address),
            "--dir": str(self._directory),
            "--save": "",
            "--appendonly": "no",
            "--daemonize": "no",
        }
        child = self._started(REDIS, [program, *(word for pair in options.items() for word in pair)], address)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(address))
            connection.sendall(_resp(b"SET", b"lab/b20", self._reply))
            if connection.recv(100) != b"+OK\r\n":
                raise RuntimeError("Redis did not take the value")
        expected = b"$%d\r\n%s\r\n" % (len(self._reply), self._reply)
        request = _resp(b"GET", b"lab/b20")
        self.servers[REDIS] = Server(REDIS, child.pid, "exact", str(address), request, expected)

    def _start_xmlrpc(self) -> None:
        body = self._directory / "xmlrpc.body"
        body.write_bytes(self._reply.partition(b" ")[2])
        for name, kind in ((TWISTED_XMLRPC, "twisted"), (SIMPLE_XMLRPC, "simple")):
            address = self._directory / f"{kind}.address"
            child = self._started(name, [python(), "-m", "bench.xmlrpc", kind, str(address), str(body)], address)
            where = address.read_text() if kind == "simple" else str(address)
            self.servers[name] = Server(name, child.pid, "http", where, REQUEST, b"")


def _resp(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
