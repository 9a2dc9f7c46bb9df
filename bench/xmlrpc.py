"""
The same status over XML-RPC, as the ancestors served it: C{python -m bench.xmlrpc twisted|simple ADDRESS BODY_FILE}.

C{twisted} listens on the Unix socket ADDRESS. C{simple} takes a free port of the loopback address and writes it into
the file ADDRESS.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

#: The call that is sent; both servers know one experiment.
CALL = (
    b"<?xml version='1.0'?>\n<methodCall>\n<methodName>status_request</methodName>\n<params>\n<param>\n"
    b"<value><string>lab/b20</string></value>\n</param>\n</params>\n</methodCall>\n"
)

#: The whole HTTP request, as xmlrpc.client would say it.
REQUEST = b"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s" % (
    len(CALL),
    CALL,
)


def twisted(address: str, body: dict[str, Any]) -> None:
    """
    Serve on a Unix socket with twisted.web, its reactor and its site as they come.
    """
    from twisted.internet import reactor as installed
    from twisted.web.server import Site
    from twisted.web.xmlrpc import XMLRPC

    class Status(XMLRPC):
        """One command."""

        def xmlrpc_status_request(self, name: str) -> dict[str, Any]:
            """The status of an experiment, encoded anew for each request."""
            return {"lab/b20": body}[name]

    reactor: Any = installed
    site: Any = Site
    status: Any = Status
    reactor.listenUNIX(address, site(status(allowNone=True)))
    reactor.run()


class _Server(SimpleXMLRPCServer):
    """Stock, but for a queue that 50 connections fit into: with 5, the kernel would make most of them wait a second."""

    request_queue_size = 128


def simple(address: str, body: dict[str, Any]) -> None:
    """
    Serve on a port of the loopback address with the standard library: one thread, a connection for each request.
    """
    server = _Server(("127.0.0.1", 0), allow_none=True, logRequests=False)

    def status_request(*names: Any) -> Any:
        return {"lab/b20": body}[names[0]]

    server.register_function(status_request)
    unfinished = Path(address).with_suffix(".new")
    unfinished.write_text(str(server.server_address[1]))
    unfinished.replace(address)
    server.serve_forever()


def main(arguments: list[str]) -> None:
    """
    Serve until ended.
    """
    kind, address, body = arguments
    value = ast.literal_eval(Path(body).read_text())
    {"twisted": twisted, "simple": simple}[kind](address, value)


if __name__ == "__main__":
    main(sys.argv[1:])
