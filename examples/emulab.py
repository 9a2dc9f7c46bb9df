#!/usr/bin/env python3
"""
An experiment from its beginning to its end by Emulab's XML-RPC, with nothing but Python's own xmlrpc.client.

    emulab.py lab exp1 demo.xml                                         through this host's own socket
    emulab.py lab exp1 demo.xml https://lab.example.org:3069 TRUST      with a certificate: cert.pem, key.pem and ca.pem

It makes the experiment, swaps it in, waits until it is active, prints its extra nodes, swaps it out and ends it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import sys
import xmlrpc.client
from pathlib import Path
from typing import Any

SOCKET = "/run/hostline/emulab.sock"
VERSION = 0.1


class UnixConnection(http.client.HTTPConnection):
    """
    HTTP over a Unix socket.
    """

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class UnixTransport(xmlrpc.client.Transport):
    """
    What tells xmlrpc.client to use that.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """
        Connect, unless we are.
        """
        kept = self._connection[1] if self._connection else None
        if not isinstance(kept, UnixConnection):
            kept = UnixConnection(self._path)
            self._connection = host, kept
        return kept


def proxy(place: str, trust: str | None = None) -> xmlrpc.client.ServerProxy:
    """
    @param place: the path of a socket, or https://HOST:PORT.
    @param trust: the directory of our certificate for the latter.
    """
    if trust is None:
        return xmlrpc.client.ServerProxy("http://localhost/usr/testbed", UnixTransport(place))
    directory = Path(trust)
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return xmlrpc.client.ServerProxy(f"{place.rstrip('/')}/usr/testbed", context=context)


def called(server: xmlrpc.client.ServerProxy, method: str, **arguments: Any) -> Any:
    """
    @return: the value that a method gives.
    """
    reply: Any = getattr(server, method)(VERSION, arguments)
    if reply["code"] != 0:
        raise SystemExit(f"{method}: code {reply['code']}: {reply['output']}")
    print(f"{method}: {reply['value'] or reply['output']}", flush=True)
    return reply["value"]


def main(project: str, name: str, file: str, place: str = SOCKET, trust: str | None = None) -> None:
    """
    The whole life of an experiment.
    """
    which = {"proj": project, "exp": name}
    with proxy(place, trust) as server:
        called(server, "experiment.startexp", **which, nsfilestr=Path(file).read_text("utf-8"), noswapin=True)
        called(server, "experiment.swapexp", **which, direction="in")
        called(server, "experiment.statewait", **which, state="active", timeout=300)
        called(server, "experiment.extra_nodes", **which)
        sys.stdin.readline()  # as long as nobody presses Enter, it stays
        called(server, "experiment.swapexp", **which, direction="out", wait=True)
        called(server, "experiment.extra_nodes", **which)
        called(server, "experiment.endexp", **which, wait=True)


if __name__ == "__main__":
    if not 4 <= len(sys.argv) <= 6:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
