"""
The client over TLS, on a host that is only bytes.
"""

from __future__ import annotations

import ast
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import connection as module
from hostline.clients import tls
from hostline.clients.client import Client
from hostline.clients.connection import after
from hostline.clients.encrypted import RECORD
from hostline.clients.stream import Stream
from hostline.clients.tls import TlsConnection, trust_directory
from hostline.protocol.endpoints import ENROL_PORT, TLS_PORT, endpoint, split_endpoint
from hostline.protocol.errors import BadValue, HostError, NoDaemon, Timeout
from hostline.protocol.wire import stream_chunk, stream_data
from tests.certificates import CLIENT, DAY, Authority, Signed, self_signed

PING = b"ping_reply {'time': 1.5}\n"
LIMIT_S = 20.0
ROOT = Path(__file__).parents[1] / "twistd_plugins"


class EndpointTests(SynchronousTestCase):
    """
    Where a host is.
    """

    def test_split(self) -> None:
        """
        Names and addresses, with a port or without; back again it is the same.
        """
        for text, port, wanted in (
            ("lab.example.org", TLS_PORT, ("lab.example.org", 6446)),
            ("lab:7", TLS_PORT, ("lab", 7)),
            ("192.0.2.7", ENROL_PORT, ("192.0.2.7", 6447)),
            ("[2001:db8::7]:65535", TLS_PORT, ("2001:db8::7", 65535)),
            ("[::1]", TLS_PORT, ("::1", 6446)),
            ("::1", TLS_PORT, ("::1", 6446)),
        ):
            self.assertEqual(split_endpoint(text, port), wanted, text)
            self.assertEqual(split_endpoint(endpoint(*wanted)), wanted)

    def test_wrong(self) -> None:
        """
        What is none says what is wanted.
        """
        for text in (
            "",
            ":7",
            "a:",
            "a:0",
            "a:65536",
            "a:x",
            "a:\u0661",
            "[::1",
            "[::1]7",
            "[::1]:",
            "a b",
            "-a",
            "a/b:7",
        ):
            self.assertRaises(BadValue, split_endpoint, text)


class Site:
    """
    An authority, and a host and a person it believes in.
    """

    def __init__(self) -> None:
        self.ca = Authority()
        self.host = self.ca.sign("localhost")
        self.person = self.ca.sign("urn:site:user:ann")


SITE = Site()


class Far:
    """
    A host on a thread: greets, then does what a test says.
    """

    def __init__(
        self,
        test: SynchronousTestCase,
        behave: Callable[[ssl.SSLSocket], None],
        host: Signed | None = None,
        *,
        believes: bytes | None = None,
        crl: bytes | None = None,
        anybody: bool = False,
    ) -> None:
        """
        @param anybody: whether those without a certificate come in.
        """
        self._test = test
        self.directory = Path(tempfile.mkdtemp(prefix="hl-"))
        test.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        (host or SITE.host).write(self.directory / "host", believes or SITE.ca.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / "host/cert.pem", self.directory / "host/key.pem")
        context.load_verify_locations(self.directory / "host/ca.pem")
        context.verify_mode = ssl.CERT_OPTIONAL if anybody else ssl.CERT_REQUIRED
        if crl is not None:
            (self.directory / "host/crl.pem").write_bytes(crl)
            context.load_verify_locations(self.directory / "host/crl.pem")
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        self.context = context
        listener = socket.create_server(("localhost", 0))
        self.place = f"localhost:{listener.getsockname()[1]}"
        test.addCleanup(listener.close)
        self.faults: list[BaseException] = []

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(peer, server_side=True) as secured:
                        behave(secured)
                except (OSError, ValueError) as error:
                    self.faults.append(error)
                finally:
                    peer.close()

        threading.Thread(target=serve, daemon=True).start()

    def trust(self, person: Signed | None = None, ca: bytes | None = None, crl: bytes | None = None) -> str:
        """
        @return: a trust directory.
        """
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        (person or SITE.person).write(directory, SITE.ca.pem if ca is None else ca)
        if crl is not None:
            (directory / "crl.pem").write_bytes(crl)
        return str(directory)

    def connect(self, trust: str | None = None) -> TlsConnection:
        """
        Connect, with a good certificate unless told.
        """
        connection = TlsConnection(self.place, after(LIMIT_S), self.trust() if trust is None else trust)
        self._test.addCleanup(connection.close)
        return connection


def answering(reply: bytes) -> Callable[[ssl.SSLSocket], None]:
    """
    Each line is answered by the same bytes.
    """

    def behave(peer: ssl.SSLSocket) -> None:
        rest = b""
        while data := peer.recv(1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            peer.sendall(reply * len(lines))

    return behave


class TlsTests(SynchronousTestCase):
    """
    Lines both ways.
    """

    def test_request(self) -> None:
        """
        A client that is told a host talks to it as to a socket.
        """
        far = Far(self, answering(PING))
        with Client(host=far.place, trust=far.trust()) as client:
            self.assertEqual([client.request("ping") for _ in range(3)], [{"time": 1.5}] * 3)

    def test_big(self) -> None:
        """
        Megabytes come whole, in either way of reading, and nothing stays behind where poll() does not see it.
        """
        body = b"x_reply '" + b"y" * (5 << 20) + b"'\n"
        far = Far(self, answering(body + PING))
        connection = far.connect()
        connection.send(b"x\n", after(LIMIT_S))
        self.assertEqual(connection.line(after(LIMIT_S)) + b"\n", body)
        self.assertEqual(connection.line(after(LIMIT_S)) + b"\n", PING)
        connection.send(b"x\n", after(LIMIT_S))
        lines: list[bytes] = []
        until = time.monotonic() + LIMIT_S
        while len(lines) < 2:
            self.assertTrue(select.select([connection], [], [], max(0.0, until - time.monotonic()))[0])
            lines += connection.take()
        self.assertEqual([line + b"\n" for line in lines], [body, PING])

    def test_biggest(self) -> None:
        """
        Sixty megabytes are one reply as any other; past what this client reads it says so.
        """
        body = b"x_reply '" + b"y" * 60_000_000 + b"'\n"
        connection = Far(self, answering(body)).connect()
        connection.send(b"x\n", after(LIMIT_S))
        self.assertTrue(connection.line(after(LIMIT_S)) + b"\n" == body)
        self.patch(module, "LONGEST_REPLY", 1 << 20)
        connection.send(b"x\n", after(LIMIT_S))
        self.assertRaises(HostError, connection.line, after(LIMIT_S))

    def test_longRequest(self) -> None:
        """
        A request that the host reads slowly goes whole within its deadline, and not past it.
        """
        heard: list[int] = []
        release = threading.Event()

        def slowly(peer: ssl.SSLSocket) -> None:
            release.wait(LIMIT_S)
            size = 0
            while size <= 8 << 20 and (data := peer.recv(1 << 16)):
                size += len(data)
            heard.append(size)
            peer.sendall(PING)

        far = Far(self, slowly)
        connection = far.connect()
        begun = time.monotonic()
        self.assertRaises(Timeout, connection.send, b"z" * (32 << 20), after(0.2))
        self.assertLess(time.monotonic() - begun, 5)
        release.set()
        connection.close()
        connection = far.connect()
        connection.send(b"z" * (8 << 20) + b"\n", after(LIMIT_S))
        self.assertEqual(connection.line(after(LIMIT_S)) + b"\n", PING)
        self.assertEqual(heard[-1], (8 << 20) + 1)

    def test_give(self) -> None:
        """
        What does not go at once goes later, once, and in order.
        """
        release, heard = threading.Event(), bytearray()
        data = os.urandom(24 << 20)

        def slowly(peer: ssl.SSLSocket) -> None:
            release.wait(LIMIT_S)
            while len(heard) < len(data):
                heard.extend(peer.recv(1 << 16))
            peer.sendall(PING)

        connection = Far(self, slowly).connect()
        unsent, stalled = data[: 16 << 20], 0
        until = time.monotonic() + LIMIT_S
        while unsent:
            self.assertLess(time.monotonic(), until)
            gone = connection.give(unsent)
            unsent = unsent[gone:]
            if not gone:
                stalled += 1
                if stalled == 1:
                    unsent += data[16 << 20 :]  # as a stream does: more may come behind what waits
                release.set()
                select.select([], [connection], [], 0.1)
        self.assertGreater(stalled, 0)
        self.assertEqual(connection.line(after(LIMIT_S)) + b"\n", PING)
        self.assertEqual(bytes(heard), data)

    def test_stream(self) -> None:
        """
        A stream goes both ways at once.
        """
        given = os.urandom(2 << 20)

        def echo(peer: ssl.SSLSocket) -> None:
            file = peer.makefile("rb")
            file.readline()
            back = 0
            while back < len(given):
                name, data = stream_chunk(ast.literal_eval(file.readline().split(b" ", 2)[2].decode()))
                self.assertEqual(name, "in")
                back += len(data)
                peer.sendall(stream_data("1", "out", data))
            peer.sendall(b"@1 exec_reply {'exit': 0}\n")

        connection = Far(self, echo).connect()
        heard = bytearray()
        stream = Stream(connection, "exec a b stream=True", lambda _, data: heard.extend(data), given, after(LIMIT_S))
        self.assertEqual(stream.run().body, {"exit": 0})
        self.assertEqual(bytes(heard), given)

    def test_deadline(self) -> None:
        """
        A host that does not answer, and one that does not even greet, are not waited for without end.
        """
        connection = Far(self, lambda peer: time.sleep(1)).connect()
        self.assertRaises(Timeout, connection.line, after(0.05))
        silent = socket.create_server(("localhost", 0))
        self.addCleanup(silent.close)
        far = Far(self, answering(PING))
        place = f"localhost:{silent.getsockname()[1]}"
        begun = time.monotonic()
        self.assertRaises(Timeout, TlsConnection, place, after(0.1), far.trust())
        self.patch(tls, "CONNECT_S", 0.1)
        error = self.assertRaises(NoDaemon, TlsConnection, place, after(LIMIT_S), far.trust())
        self.assertIn("did not accept within 0.1 s", error.message)
        self.assertLess(time.monotonic() - begun, 5)

    def test_cut(self) -> None:
        """
        A reply that is cut off is none, whether the host says goodbye or not.
        """
        for goodbye in (True, False):

            def cut(peer: ssl.SSLSocket, goodbye: bool = goodbye) -> None:
                peer.recv(100)
                peer.sendall(b"ping_reply {'ti")
                if goodbye:
                    peer.unwrap()

            connection = Far(self, cut).connect()
            connection.send(b"ping\n", after(LIMIT_S))
            error = self.assertRaises(NoDaemon, connection.line, after(LIMIT_S))
            self.assertIn("in the middle of a reply" if goodbye else "localhost", error.message)

    def test_refusalInWords(self) -> None:
        """
        What the host says before it hangs up is heard.
        """
        reason = b"error_reply {'code': 'DENIED', 'message': 'two users have this certificate', 'command': ''}\n"

        def refuse(peer: ssl.SSLSocket) -> None:
            peer.sendall(reason)
            peer.unwrap()

        far = Far(self, refuse)
        error = self.assertRaises(HostError, Client(host=far.place, trust=far.trust()).request, "ping")
        self.assertEqual((error.code, error.message), ("DENIED", "two users have this certificate"))

    def test_close(self) -> None:
        """
        Who hangs up says no goodbye, by which a daemon would understand that its answers are waited for.
        """
        ends: list[object] = []
        done = threading.Event()

        def wait(peer: ssl.SSLSocket) -> None:
            peer.suppress_ragged_eofs = False  # type: ignore[attr-defined]
            try:
                ends.append(peer.recv(100))
            except OSError as error:
                ends.append(type(error))
            done.set()

        connection = Far(self, wait).connect()
        connection.close()
        self.assertTrue(done.wait(LIMIT_S))
        self.assertEqual(ends, [ssl.SSLEOFError])


class BeliefTests(SynchronousTestCase):
    """
    Who is not believed, in words.
    """

    def refused(self, host: Signed | None = None, **trust: bytes) -> str:
        """
        Why a host is not believed.
        """
        far = Far(self, answering(PING), host)
        directory = far.trust(**trust)  # type: ignore[arg-type]
        error = self.assertRaises(NoDaemon, Client(host=far.place, trust=directory).request, "ping")
        self.assertIn(far.place, error.message)
        message: str = error.message
        return message.replace(directory, "DIR").replace(far.place, "PLACE")

    def test_host(self) -> None:
        """
        A host that is not the one we asked for.
        """
        other = Authority("other")
        for host, words in (
            (other.sign("localhost"), "is not signed by the authority in DIR/ca.pem"),
            (self_signed("localhost"), "is not signed by the authority in DIR/ca.pem"),
            (SITE.ca.sign("elsewhere.example.org"), "is for another name"),
            (SITE.ca.sign("localhost", begins_s=-2 * DAY, ends_s=-DAY), "has expired"),
            (SITE.ca.sign("localhost", begins_s=DAY, ends_s=2 * DAY), "is not valid yet"),
            (SITE.ca.sign("localhost", purposes=[CLIENT]), "is not for"),
        ):
            self.assertIn(f"the certificate of PLACE {words}", self.refused(host))

    def test_revokedHost(self) -> None:
        """
        One that was taken back, also if that was long ago; a list that says nothing of it, or is another's, does not
        matter.
        """
        self.assertIn("has been revoked", self.refused(crl=SITE.ca.revoke(SITE.host)))
        self.assertIn("has been revoked", self.refused(crl=SITE.ca.revoke(SITE.host, begins_s=-DAY, ends_s=-1)))
        far = Far(self, answering(PING))
        error = self.assertRaises(NoDaemon, far.connect, far.trust(crl=b"-----BEGIN X509 CRL-----\n"))
        self.assertIn("'hostline ca renew' fetches a new one", error.message)
        with Client(host=far.place, trust=far.trust(crl=SITE.ca.revoke(SITE.person))) as client:
            self.assertEqual(client.request("ping"), {"time": 1.5})

    def test_ours(self) -> None:
        """
        A certificate of ours that the host does not take: its reason, whether it comes in the greeting or after.
        """
        expired = SITE.ca.sign("urn:site:user:ann", begins_s=-2 * DAY, ends_s=-DAY)
        for person, words in (
            (Authority("other").sign("urn:site:user:ann"), "does not believe who signed our certificate"),
            (expired, "our certificate has expired"),
            (SITE.person, "our certificate has been revoked"),
        ):
            far = Far(self, answering(PING), crl=SITE.ca.revoke(SITE.person))
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                far.context.maximum_version = version
                connect = Client(host=far.place, trust=far.trust(person))
                error = self.assertRaises(NoDaemon, connect.events().__next__)
                self.assertIn(words, error.message)

    def test_oldVersions(self) -> None:
        """
        TLS before 1.2 is not spoken.
        """
        far = Far(self, answering(PING))
        far.context.minimum_version = far.context.maximum_version = ssl.TLSVersion.TLSv1_1
        far.context.set_ciphers("DEFAULT@SECLEVEL=0")
        error = self.assertRaises(NoDaemon, far.connect)
        self.assertIn("no version of TLS from 1.2", error.message)

    def test_notTls(self) -> None:
        """
        Something else that answers, nobody, and a name that is none.
        """
        listener = socket.create_server(("localhost", 0))
        self.addCleanup(listener.close)

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        trust = Far(self, answering(PING)).trust()
        port = listener.getsockname()[1]
        error = self.assertRaises(NoDaemon, TlsConnection, f"localhost:{port}", after(LIMIT_S), trust)
        self.assertIn("does not speak TLS", error.message)
        listener.close()
        error = self.assertRaises(NoDaemon, TlsConnection, f"localhost:{port}", after(LIMIT_S), trust)
        self.assertIn("refused", error.message.lower())
        for name in ("nobody.invalid", "a..b", "x" * 70):
            self.assertRaises(NoDaemon, TlsConnection, name, after(LIMIT_S), trust)
        self.assertRaises(BadValue, TlsConnection, "a:b", after(LIMIT_S), trust)


class TrustTests(SynchronousTestCase):
    """
    The trust directory.
    """

    def test_place(self) -> None:
        """
        What is given, then the environment, then root's or the user's own.
        """
        self.patch(os, "environ", {"HOSTLINE_TRUST": "/e", "HOME": "/home/ann"})
        self.assertEqual((trust_directory("/g"), trust_directory()), ("/g", "/e"))
        self.patch(os, "environ", {"HOME": "/home/ann"})
        for uid, wanted in ((0, "/etc/hostline/trust"), (1000, "/home/ann/.config/hostline")):
            self.patch(os, "geteuid", lambda uid=uid: uid)
            self.assertEqual(trust_directory(), wanted)

    def test_missing(self) -> None:
        """
        Without a certificate it says how to get one, and nobody is asked.
        """
        far = Far(self, answering(PING))
        with mock.patch.object(socket, "create_connection", side_effect=AssertionError("it was asked")):
            for name in ("ca.pem", "cert.pem", "key.pem"):
                trust = far.trust()
                Path(trust, name).unlink()
                error = self.assertRaises(NoDaemon, far.connect, trust)
                self.assertIn(f"{trust}/{name}; 'hostline ca enrol' gets one", error.message)
            for name in ("ca.pem", "cert.pem", "key.pem"):
                trust = far.trust()
                Path(trust, name).write_text("no PEM\n")
                error = self.assertRaises(NoDaemon, far.connect, trust)
                self.assertIn(f"{trust}/", error.message)

    def test_halfRenewed(self) -> None:
        """
        A new certificate whose key has not its final name yet is used with it.
        """
        far = Far(self, answering(PING))
        trust = far.trust()
        Path(trust, "key.pem").rename(Path(trust, "key.pem.next"))
        Path(trust, "key.pem").write_bytes(SITE.host.key_pem)
        connection = far.connect(trust)
        connection.send(b"ping\n", after(LIMIT_S))
        self.assertEqual(connection.line(after(LIMIT_S)) + b"\n", PING)

    def test_onlyWhenAsked(self) -> None:
        """
        Who asks the daemon of this host does not wait for ssl to be imported.
        """
        told = "import sys; from hostline.clients import main, node_list; main.run(['--socket', '/nowhere', 'ping'])"
        told += "; node_list.run(['--socket', '/nowhere']); print({'ssl', 'socket', 'calendar'} & set(sys.modules))"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(ROOT)!r}); {told}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        self.assertEqual(done.stdout, "set()\n")

    def test_record(self) -> None:
        """
        What is read at once is as long as any record can be.
        """
        self.assertEqual(RECORD, 16384)  # RFC 8446, 5.1
