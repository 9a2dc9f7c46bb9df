"""
A stub of a control authority for the live tests: HTTPS with a certificate of its own, and answers as a test wants them.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
import xmlrpc.client
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = Callable[["_Asked"], None]


class ControlPlane:
    """
    Serves until it is closed.

    @ivar answer: what it does with each request.
    @ivar asked: path, headers and body of each request so far, with its time.
    @ivar ca: PEM of the authority that certifies it.
    """

    def __init__(self, directory: Path, *, tls: bool = True, names: tuple[str, ...] = ("127.0.0.1",)) -> None:
        self.answer: Answer = say(b"{}")
        self.asked: list[tuple[float, str, dict[str, str], bytes]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (_Asked,), {"plane": self}))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.ca = directory / "ca.pem"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certified(directory, names))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}/PLCAPI/"

    def gives(self, payload: Any) -> None:
        """
        Answer with a payload from now on, as JSON or as the XML-RPC response, as it is asked.
        """

        def answer(asked: _Asked) -> None:
            if asked.command == "POST":
                text = xmlrpc.client.dumps((payload,), methodresponse=True, allow_none=True)
            else:
                text = json.dumps(payload)
            say(text.encode())(asked)

        self.answer = answer

    def close(self) -> None:
        """
        Serve no more; who connects is refused.
        """
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Asked(BaseHTTPRequestHandler):
    plane: ControlPlane

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        self.plane.asked.append((time.monotonic(), self.path, dict(self.headers), body))
        try:
            self.plane.answer(self)
        except OSError:
            self.close_connection = True

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


def say(body: bytes, status: int = 200, **headers: str) -> Answer:
    """
    An answer with a body.
    """

    def answer(asked: _Asked) -> None:
        asked.send_response(status)
        for name, value in headers.items():
            asked.send_header(name.replace("_", "-"), value)
        asked.send_header("Content-Length", str(len(body)))
        asked.end_headers()
        asked.wfile.write(body)

    return answer


def half(asked: _Asked) -> None:
    """
    An answer that ends in the middle.
    """
    asked.send_response(200)
    asked.send_header("Content-Length", "1000")
    asked.end_headers()
    asked.wfile.write(b'{"timestamp": 5, ')
    asked.wfile.flush()
    asked.connection.shutdown(socket.SHUT_RDWR)


def trickle(asked: _Asked) -> None:
    """
    An answer that comes byte by byte, and never to its end.
    """
    asked.send_response(200)
    asked.send_header("Content-Length", "1000000")
    asked.end_headers()
    for _ in range(600):
        asked.wfile.write(b" ")
        asked.wfile.flush()
        time.sleep(0.1)


def endless(asked: _Asked) -> None:
    """
    An answer without an end, as fast as it is taken.
    """
    asked.send_response(200)
    asked.end_headers()
    for _ in range(100_000):
        asked.wfile.write(b" " * 65536)


def certified(directory: Path, names: tuple[str, ...]) -> Path:
    """
    Make an authority, C{ca.pem}, and a server's certificate with its key.

    @return: the file of the latter.
    """
    directory.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    who = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{one} of a test")]) for one in ("authority", "server")]
    addresses: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(name)) for name in names]

    def certificate(at: int, issuer: int) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(who[at]).issuer_name(who[issuer])
        builder = builder.public_key(keys[at].public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        return builder.not_valid_after(now + datetime.timedelta(days=1))

    ca = certificate(0, 0).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    server = certificate(1, 0).add_extension(x509.SubjectAlternativeName(addresses), critical=False)
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca.sign(keys[0], hashes.SHA256()).public_bytes(pem))
    key = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = directory / "server.pem"
    file.write_bytes(key + server.sign(keys[0], hashes.SHA256()).public_bytes(pem))
    return file
