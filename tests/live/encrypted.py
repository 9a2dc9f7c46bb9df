"""
A daemon that is reached over TLS, with an authority of the test's, and clients of all kinds.
"""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.certificates import Authority, Signed
from tests.live.hosted import ENVIRONMENT, Client, Hosted
from tests.live.support import DEADLINE_S

#: What the daemon's certificate is for, beside its address.
SERVER = "host.example"


def free_port() -> int:
    """
    @return: a port on which nobody listens just now.
    """
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class Encrypted(Client):
    """
    One connection over TLS, as C{Client} is one to the host's own socket.
    """

    socket: ssl.SSLSocket

    def __init__(self, port: int, context: ssl.SSLContext, limit_s: float = DEADLINE_S) -> None:
        """
        @raise ssl.SSLError: if one side does not believe the other and says so now.
        """
        plain = socket.create_connection(("127.0.0.1", port), limit_s)
        self._rest = b""
        try:
            self.socket = context.wrap_socket(plain, server_hostname=SERVER)
        except OSError:
            plain.close()
            raise


def context_for(ca: bytes, shown: Signed | None, configure: Callable[[ssl.SSLContext], Any] = id) -> ssl.SSLContext:
    """
    @param ca: PEM of the authority that the daemon's certificate is to be of.
    @param shown: what is shown to the daemon.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.decode())
    if shown is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(shown.pem + shown.key_pem)
            file.flush()
            context.load_cert_chain(file.name)
    configure(context)
    return context


class Site:
    """
    An authority, and one daemon that believes it; a user ann has C{urn:site:user:ann}, bob C{bob.example}, and root,
    an operator, C{urn:site:user:root}.

    @ivar port: where those with a certificate come in, C{enrol_port} those without.
    """

    def __init__(
        self,
        test: unittest.TestCase,
        tls: str = "",
        *,
        more: str = "",
        loop: str = "uvloop",
        trust: bool = True,
        crl: bool = True,
        start: bool = True,
    ) -> None:
        """
        @param tls: more of the section C{tls}; C{more} of the configuration.
        @param loop: C{asyncio} for a daemon without uvloop.
        @param trust: whether it has its files of trust, C{crl} a list of revoked certificates.
        """
        self.ca = Authority()
        self.port, self.enrol_port = free_port(), free_port()
        places = f'listen = "127.0.0.1:{self.port}"\nenrol = "127.0.0.1:{self.enrol_port}"\n'
        environment = dict(ENVIRONMENT)
        if loop == "asyncio":
            hidden = Path(tempfile.mkdtemp(prefix="hostline-no-uvloop-"))
            test.addCleanup(hidden.rmdir)
            (hidden / "uvloop.py").write_text("raise ImportError('not for this test')\n")
            test.addCleanup((hidden / "uvloop.py").unlink)
            environment["PYTHONPATH"] = os.pathsep.join([str(hidden), environment.get("PYTHONPATH", "")]).rstrip(":")
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        self.hosted = Hosted(test, f"{more}\n[tls]\n{places}{tls}\n", environment=environment)
        self.trust = self.hosted.state / "trust"
        self.own = self.ca.sign(SERVER)
        if trust:
            self.found(crl)
        if start:
            self.hosted.start()
            self.hosted.ask("add_user ann certificate=['urn:site:user:ann']")
            self.hosted.ask("add_user bob certificate=['bob.example']")
            self.hosted.ask("add_user root certificate=['urn:site:user:root'] operator=True")

    def found(self, crl: bool = True) -> None:
        """
        Write the files of trust.
        """
        self.hosted.state.mkdir(exist_ok=True)
        self.own.write(self.trust, self.ca.pem)
        if crl:
            self.revoke()

    def put(self, name: str, data: bytes) -> None:
        """
        Write one of them as our programs do, at once.
        """
        fresh = self.trust / f".{name}.test"
        fresh.write_bytes(data)
        fresh.chmod(0o600)
        fresh.rename(self.trust / name)

    def revoke(self, *revoked: Signed) -> None:
        """
        Write the list of what is revoked.
        """
        self.put("crl.pem", self.ca.revoke(*revoked))

    def connect(
        self, shown: Signed | None, port: int = 0, configure: Callable[[ssl.SSLContext], Any] = id
    ) -> Encrypted:
        """
        Connect with a certificate, or without one.
        """
        return Encrypted(port or self.port, context_for(self.ca.pem, shown, configure))

    def reload(self) -> None:
        """
        SIGHUP.
        """
        import signal

        os.kill(self.hosted.pid, signal.SIGHUP)

    def finding(self, check: str = "tls") -> dict[str, Any]:
        """
        What doctor says of something.
        """
        (found,) = [one for one in self.hosted.ask("doctor") if one["check"] == check]
        return dict(found)
