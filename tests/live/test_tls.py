"""
Through the network: our own client, openssl and Python's ssl, on a real daemon with a real authority.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients.client import Client
from hostline.clients.tls import TlsConnection
from hostline.protocol.errors import HostError, NoDaemon, TooMany
from tests.certificates import CLIENT, DAY, Authority, self_signed
from tests.live.encrypted import free_port
from tests.live.hosted import Hosted, until
from tests.live.test_clients import LIMIT_S, OnTerminal, environment, program
from tests.needs import needs_tool
from tests.scale import scaled

ANN, OPS = "urn:site:user:ann", "urn:site:user:ops"


class TlsTest(SynchronousTestCase):
    """
    A host with the site's authority, and an operator and a user with certificates.
    """

    def setUp(self) -> None:
        self.listen, self.enrol = (f"localhost:{free_port()}" for _ in range(2))
        section = f'[tls]\nlisten = "{self.listen}"\nenrol = "{self.enrol}"\n'
        self.host = Hosted(self, section.replace("localhost", "127.0.0.1"))
        self.addCleanup(lambda: self.assertEqual(self.host.tracebacks(), ""))
        self.host.start()
        self.ca = self.host.ask("ca_init names=['localhost']")
        until(lambda: self.enrol.rpartition(":")[2] in self.host.said(), what=self.host.said)
        self.ops = self.enrolled(OPS)
        self.host.ask(f"add_user ops certificate=['{OPS}'] operator=True")

    def token(self, name: str) -> str:
        """
        A new token for a certificate of a name.
        """
        return str(self.host.ask(f"ca_token ['{name}']")["token"])

    def enrolled(self, name: str) -> Path:
        """
        @return: the trust directory of somebody with a new certificate.
        """
        directory = self.host.directory / f"trust-{name.rpartition(':')[2]}"
        code, out, error = self.hostline(
            directory, "ca", "enrol", self.enrol, self.token(name), "--host", self.listen, via=""
        )
        self.assertEqual((code, error), (0, b""), out)
        return directory

    def hostline(
        self, trust: Path, *words: str, given: bytes = b"", via: str | None = None, limit_s: float = LIMIT_S
    ) -> tuple[int, bytes, bytes]:
        """
        C{hostline --host ..}

        @param via: another host than ours; empty: none.
        @return: exit status, standard output, standard error.
        """
        done = subprocess.run(
            program("hostline", *words),
            input=given,
            capture_output=True,
            env=self.environment(trust, self.listen if via is None else via),
            timeout=limit_s,
            check=False,
            cwd="/",
        )
        return done.returncode, done.stdout, done.stderr

    def environment(self, trust: Path, via: str) -> dict[str, str]:
        """
        What our programs inherit: no socket.
        """
        found = environment("") | {"HOSTLINE_TRUST": str(trust), "HOSTLINE_HOST": via}
        del found["HOSTLINE_SOCKET"]
        return found

    def client(self, trust: Path, timeout: float = LIMIT_S) -> Client:
        """
        A client of the daemon.
        """
        client = Client(host=self.listen, trust=str(trust), timeout=timeout)
        self.addCleanup(client.close)
        return client

    def plain(self, trust: Path, **options: Any) -> ssl.SSLSocket:
        """
        A connection with nothing but Python's own modules.
        """
        context = ssl.create_default_context(cafile=str(trust / "ca.pem"))
        if (trust / "cert.pem").exists():
            context.load_cert_chain(trust / "cert.pem", trust / "key.pem")
        for name, value in options.items():
            setattr(context, name, value)
        return self.greeted(context)

    def greeted(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """
        Connect.
        """
        host, _, port = self.listen.partition(":")
        raw = socket.create_connection((host, int(port)), LIMIT_S)
        self.addCleanup(raw.close)
        secured = context.wrap_socket(raw, server_hostname=host)
        self.addCleanup(secured.close)
        return secured

    def s_client(self, trust: Path, given: bytes, lines: int, *words: str) -> tuple[list[bytes], str]:
        """
        C{openssl s_client}, as anybody would use it.

        @param lines: how many to wait for.
        @return: the lines that came, and what it complained of.
        """
        own = (
            ["-cert", str(trust / "cert.pem"), "-key", str(trust / "key.pem")] if (trust / "cert.pem").exists() else []
        )
        argv = ["openssl", "s_client", "-quiet", "-connect", self.listen, "-CAfile", str(trust / "ca.pem"), *own]
        argv += ["-verify_hostname", "localhost", "-verify_return_error", *words]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin and process.stdout and process.stderr
            try:
                process.stdin.write(given)
                process.stdin.flush()
                found = [process.stdout.readline() for _ in range(lines)]
            except BrokenPipeError:
                found = []
            finally:
                process.kill()
                with contextlib.suppress(
                    BrokenPipeError
                ):  # what could not be written is not written at its closing either
                    process.stdin.close()
            return found, process.stderr.read().decode()


class AskingTests(TlsTest):
    """
    Who has a certificate asks as on the host itself.
    """

    def test_enrol(self) -> None:
        """
        A token gets one certificate, once; its names are the caller, and a user by add_user.
        """
        ann = self.enrolled(ANN)
        self.assertEqual(ast.literal_eval(self.hostline(ann, "whoami")[1].decode())["principal"], f"certificate:{ANN}")
        self.host.ask(f"add_user ann certificate=['{ANN}']")
        said = ast.literal_eval(self.hostline(ann, "whoami")[1].decode())
        self.assertEqual((said["principal"], said["via"]), ("ann", "tls"))
        self.assertEqual(self.hostline(ann, "users")[0], 1)
        self.assertEqual(self.hostline(self.ops, "users", "--json")[0], 0)
        token = self.token("urn:site:user:bob")
        bob = self.host.directory / "bob"
        for wanted in (0, 1):
            shutil.rmtree(bob, ignore_errors=True)
            code, _, error = self.hostline(bob, "ca", "enrol", self.enrol, token, via="")
            self.assertEqual(code, wanted, error)
        self.assertIn(b"want the secret of a token that is good", error)
        self.assertEqual((bob / "issuer").exists(), False)
        guessed = token.replace(token[:4], "AAAA", 1)
        self.assertEqual(self.hostline(bob, "ca", "enrol", self.enrol, guessed, via="")[0], 1)
        other = token[:-64] + hashlib.sha256(b"").hexdigest()
        code, _, error = self.hostline(bob, "ca", "enrol", self.enrol, other, via="")
        self.assertEqual((code, b"the secret was not said" in error), (1, True))

    def test_onTheHost(self) -> None:
        """
        On the host itself a token is changed through its socket.
        """
        trust = self.host.directory / "own"
        words = ["--socket", str(self.host.socket), "ca", "enrol", "--host", self.listen, self.token(ANN)]
        self.assertEqual(self.hostline(trust, *words, via="")[0], 2)  # a socket and a host is one too many
        words = ["--socket", str(self.host.socket), "ca", "enrol", "-"]
        code, _, error = self.hostline(trust, *words, given=self.token(ANN).encode() + b"\n", via="")
        self.assertEqual(code, 0, error)
        self.assertEqual(self.hostline(trust, "ping")[0], 0)

    def test_programs(self) -> None:
        """
        Tables, node_list, exit statuses: as through the socket.
        """
        self.host.ask("add_project lab")
        for words, wanted, said in (
            (("ping",), 0, b""),
            (("--host", self.listen, "ping"), 0, b""),
            (("--socket", str(self.host.socket), "whoami"), 0, b""),
            (("--socket", "/x", "--host", "y", "ping"), 2, b"--socket and --host"),
            (("--host", "y:z", "ping"), 2, b"want HOST or HOST:PORT"),
            (("status_request", "lab/x"), 1, b"no experiment lab/x"),
            (("--host", "localhost:1", "ping"), 3, b"refused"),
            (("--trust", "/nowhere", "ping"), 3, b"/nowhere/ca.pem; 'hostline ca enrol' gets one"),
            (("--timeout", "0.2", "events", "wait=5"), 2, b"wait"),
            (("ca", "certificates"), 2, b"ca_certificate"),
            (("certificates",), 0, b""),
            (("ca", "revoked"), 0, b""),
            (("completion", "names", "PROJECT"), 0, b""),
        ):
            code, out, error = self.hostline(self.ops, *words)
            self.assertEqual((code, said in error), (wanted, True), (words, out[:200], error))
        done = subprocess.run(
            program("node_list", "--host", self.listen, f"--trust={self.ops}"),
            capture_output=True,
            env=environment(""),
            timeout=LIMIT_S,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    @needs_tool("openssl")
    def test_openssl(self) -> None:
        """
        C{openssl s_client} with TLS 1.2 and 1.3 gets replies; older versions, which it tries if told to, are refused.
        """
        for version in ("-tls1_2", "-tls1_3"):
            lines, error = self.s_client(self.ops, b"ping\nwhoami\n", 2, version)
            self.assertEqual([one.split(b" ")[0] for one in lines], [b"ping_reply", b"whoami_reply"], error)
        for version in ("-tls1_1", "-tls1"):
            lines, error = self.s_client(self.ops, b"ping\n", 1, version, "-cipher", "DEFAULT@SECLEVEL=0")
            self.assertEqual(lines[:1] or [b""], [b""])
            self.assertIn("alert protocol version", error)

    def test_python(self) -> None:
        """
        Python's ssl too: a thousand requests sent at once come back in order; before 1.2 there is no greeting.
        """
        with self.plain(self.ops) as peer, peer.makefile("rb") as file:
            self.assertIn(peer.version(), ("TLSv1.2", "TLSv1.3"))
            peer.sendall(b"".join(b"@%d ping\nhelp nope%d\n" % (one, one) for one in range(1000)))
            tagged: list[bytes] = []
            plain: list[bytes] = []
            for _ in range(2000):
                line = file.readline()
                (tagged if line.startswith(b"@") else plain).append(line)
        self.assertEqual({one.split()[0] for one in tagged}, {b"@%d" % one for one in range(1000)})
        for number, line in enumerate(plain):
            self.assertIn(b"nope%d" % number, line)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.load_verify_locations(self.ops / "ca.pem")
            old.load_cert_chain(self.ops / "cert.pem", self.ops / "key.pem")
            old.set_ciphers("DEFAULT@SECLEVEL=0")
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        self.assertRaises(ssl.SSLError, self.greeted, old)

    def test_endOfInput(self) -> None:
        """
        Who says goodbye at once is still answered all that it asked, slow things too; then the daemon closes.
        """
        context = ssl.create_default_context(cafile=str(self.ops / "ca.pem"))
        context.load_cert_chain(self.ops / "cert.pem", self.ops / "key.pem")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("localhost", int(self.listen.rpartition(":")[2])), LIMIT_S) as raw:

            def finished(step: Callable[[], object]) -> object:
                while True:
                    try:
                        return step()
                    except ssl.SSLZeroReturnError:
                        return None
                    except ssl.SSLWantReadError:
                        raw.sendall(outgoing.read())
                        data = raw.recv(1 << 16)
                        if not data:
                            return None
                        incoming.write(data)

            finished(end.do_handshake)
            end.write(b"ping\ncheck_topology '<experiment></experiment>'\nadd_project late\nwhoami\n")
            self.assertRaises(ssl.SSLWantReadError, end.unwrap)  # we said goodbye
            raw.sendall(outgoing.read())
            heard = b""
            while data := finished(lambda: end.read(1 << 16)):
                assert isinstance(data, bytes)
                heard += data
        words = [line.split(b" ")[0] for line in heard.splitlines()]
        self.assertEqual(words, [b"ping_reply", b"check_topology_reply", b"add_project_reply", b"whoami_reply"])


class BeliefTests(TlsTest):
    """
    Who is not believed, and until when.
    """

    def refused(self, trust: Path) -> str:
        """
        What our client says; what openssl and Python see is no reply.
        """
        try:
            with self.plain(trust) as peer:
                peer.sendall(b"ping\n")
                data = peer.recv(1000)
        except OSError:
            data = b""
        self.assertNotIn(b"ping_reply", data)
        code, out, error = self.hostline(trust, "ping")
        self.assertEqual((code in (1, 3), out), (True, b""), error)
        return error.decode()

    def test_wrong(self) -> None:
        """
        Certificates of nobody we believe, of nobody at all, for another purpose, expired, of two users: none comes in,
        and who asked with a good one at the same time is not disturbed.
        """
        ca, key = (self.host.state / "trust" / name for name in ("ca.pem", "ca.key"))
        site = Authority.__new__(Authority)
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        site.certificate = x509.load_pem_x509_certificate(ca.read_bytes())
        site.key = load_pem_private_key(key.read_bytes(), None)  # type: ignore[assignment]
        site.above = b""
        self.host.ask("add_user one certificate=['urn:site:user:one']")
        self.host.ask("add_user two certificate=['urn:site:user:two']")
        good = self.client(self.ops)
        good.request("ping")
        for number, (one, words) in enumerate(
            (
                (Authority("other").sign(OPS), "does not believe who signed"),
                (self_signed(OPS), "does not believe"),
                (site.sign(OPS, purposes=[x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION]), "purpose"),
                (site.sign(OPS, begins_s=-2 * DAY, ends_s=-DAY), "our certificate has expired"),
                (site.sign("urn:site:user:one", "urn:site:user:two", purposes=[CLIENT]), "two users"),
            )
        ):
            trust = one.write(self.host.directory / f"wrong{number}", ca.read_bytes())
            self.assertRegex(self.refused(trust), words)
        bare = self.host.directory / "bare"
        bare.mkdir()
        shutil.copy(ca, bare)
        with self.assertRaises(OSError), self.plain(bare) as peer:
            peer.sendall(b"ping\n")
            if not peer.recv(100):
                raise OSError("no reply")
        self.assertIn("gets one", self.hostline(bare, "ping")[2].decode())
        other = self.host.directory / "other-site"
        shutil.copytree(self.ops, other)
        (other / "ca.pem").write_bytes(Authority("other").pem)
        self.assertIn("is not signed by the authority in", self.refused(other))
        code, _, error = self.hostline(self.ops, "ping", via=self.listen.replace("localhost", "127.0.0.1"))
        self.assertEqual((code, b"not for this address" in error), (3, True), error)
        self.assertIn("time", good.request("ping"))
        self.assertIn("time", self.host.ask("ping"))

    def test_revoked(self) -> None:
        """
        A revoked certificate ends its open connections at once, in whatever they are, and gets no new one; those of
        others go on.
        """
        ann = self.enrolled(ANN)
        plain, own = self.plain(ann), self.client(ann)
        plain.sendall(b"ping\n")
        self.assertIn(b"ping_reply", plain.recv(1000))
        own.request("ping")
        process = subprocess.Popen(
            program("hostline", "watch"),
            env=self.environment(ann, self.listen),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(process.kill)
        ops = self.client(self.ops)
        number = ops.request("certificates")[-1]["number"]
        time.sleep(0.3)
        begun = time.monotonic()
        self.assertEqual(ops.request("ca_revoke", number)["revoked"], [number])
        plain.settimeout(LIMIT_S)
        try:
            rest = plain.recv(1000)
        except OSError:
            rest = b""
        self.assertEqual(rest, b"")
        _, said = process.communicate(timeout=LIMIT_S)
        self.assertLess(time.monotonic() - begun, 3)
        self.assertEqual(process.returncode, 3, said)
        self.assertRaises(NoDaemon, own.request, "ping")
        self.assertIn("revoked", self.refused(ann))
        self.assertIn("time", ops.request("ping"))
        self.host.kill()
        self.host.start()
        until(lambda: self.hostline(self.ops, "ping")[0] == 0)
        self.assertIn("revoked", self.refused(ann))

    def test_renewed(self) -> None:
        """
        With a new certificate the open connection goes on, and new ones are made with the new one; the key is new too.
        """
        ann = self.enrolled(ANN)
        before = {name: (ann / name).read_bytes() for name in ("cert.pem", "key.pem")}
        own = self.client(ann)
        own.request("ping")
        self.assertEqual(self.hostline(ann, "ca", "renew", via="")[:2], (0, b""))
        self.assertEqual((ann / "cert.pem").read_bytes(), before["cert.pem"])
        self.assertEqual(self.hostline(ann, "ca", "renew", "--force", via="")[:2], (0, b""))
        for name, data in before.items():
            self.assertNotEqual((ann / name).read_bytes(), data)
        self.assertIn("time", own.request("ping"))
        self.assertEqual(self.client(ann).request("whoami")["principal"], f"certificate:{ANN}")
        self.assertEqual(self.hostline(ann, "whoami")[0], 0)
        with self.plain(ann) as peer:
            peer.sendall(b"ping\n")
            self.assertIn(b"ping_reply", peer.recv(1000))
        self.host.kill()
        code, _, error = self.hostline(ann, "ca", "renew", via="")
        self.assertEqual((code, b"refused" in error.lower()), (3, True), error)


class MuchTests(TlsTest):
    """
    Sizes, streams and signals.
    """

    def setUp(self) -> None:
        super().setUp()
        self.host.ask("add_project lab")
        self.web = "lab_web"
        self.host.ask(f"create {self.web} kind=process")

    def test_bigReplies(self) -> None:
        """
        Replies of many megabytes come as they come through the socket.
        """
        attribute = f"<attribute><attribute>startup</attribute><value>{chr(0x100) * 3000}</value></attribute>"
        nodes = "".join(
            f"<elements><computer><name>n{one}</name>{attribute}</computer></elements>" for one in range(670)
        )
        text = f"<experiment>{nodes}</experiment>"
        local = Client(str(self.host.socket), LIMIT_S)
        self.addCleanup(local.close)
        client = self.client(self.ops)
        line = local.prepared("check_topology", [text], {})
        wanted = local.exchange(line, LIMIT_S)
        self.assertGreater(len(wanted), 12_000_000)
        line = client.prepared("check_topology", [text], {})
        for _ in range(scaled(1, 10)):
            self.assertEqual(hashlib.sha256(client.exchange(line, LIMIT_S)).digest(), hashlib.sha256(wanted).digest())
        file = self.host.directory / "topology.xml"
        file.write_text(text)
        code, out, error = self.hostline(self.ops, "check_topology", f"@{file}")
        self.assertEqual((code, b"check_topology_reply " + out[:-1] == wanted), (0, True), error)

    def test_longLines(self) -> None:
        """
        A request as long as the daemon's limit is answered, one byte more is refused, and what follows is not harmed.
        """
        given = b"ping" + b" " * ((1 << 20) - 4) + b"\n" + b"ping" + b" " * ((1 << 20) - 3) + b"\nwhoami\n"
        connection = TlsConnection(self.listen, None, str(self.ops))
        self.addCleanup(connection.close)
        deadline = time.monotonic() + LIMIT_S
        connection.send(given, deadline)
        first, second, third = (connection.line(deadline) for _ in range(3))
        self.assertEqual((first[:11], third[:13]), (b"ping_reply ", b"whoami_reply "))
        self.assertIn(b"'LINE_TOO_LONG'", second)

    def test_streams(self) -> None:
        """
        What runs inside has our input and outputs, any bytes of them, both ways at once; files go there and come back.
        """
        data = os.urandom(scaled(8, 256) << 20)
        code, out, error = self.hostline(self.ops, "exec", self.web, "cat", given=data, limit_s=120)
        self.assertEqual((code, error, len(out)), (0, b"", len(data)))
        self.assertEqual(hashlib.sha256(out).digest(), hashlib.sha256(data).digest())
        code, out, error = self.hostline(self.ops, "exec", self.web, "--", "sh", "-c", "echo a; echo b >&2; exit 7")
        self.assertEqual((code, out, error), (7, b"a\n", b"b\n"))
        file = self.host.directory / "file"
        file.write_bytes(data[: 3 << 20])
        self.assertEqual(self.hostline(self.ops, "push", self.web, str(file), "/tmp/there")[0], 0)
        code, out, error = self.hostline(self.ops, "pull", self.web, "/tmp/there")
        self.assertEqual((code, error, out == data[: 3 << 20]), (0, b"", True))

    def test_watch(self) -> None:
        """
        Events come as they happen; Ctrl-C ends watching as meant, and a request that waits as interrupted.
        """
        watching = OnTerminal(self, "", program("hostline", "--host", self.listen, "--trust", str(self.ops), "watch"))
        time.sleep(0.5)
        self.host.ask(f"stop {self.web}")
        watching.until("lab_web")
        watching.type("\x03")
        self.assertEqual(watching.ended(), 0)
        self.host.ask(f"start {self.web}")
        words = ["--host", self.listen, "--trust", str(self.ops), "exec", self.web, "sleep", "98765"]
        running = subprocess.Popen(
            program("hostline", *words), env=self.environment(self.ops, ""), stdin=subprocess.DEVNULL
        )
        self.addCleanup(running.kill)
        until(lambda: self._running("98765"))
        running.send_signal(signal.SIGINT)
        self.assertEqual(running.wait(LIMIT_S), 130)
        until(lambda: not self._running("98765"))

    def _running(self, word: str) -> bool:
        return any(
            word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
            for pid in self.host.processes()
            if Path(f"/proc/{pid}").exists()
        )

    def test_daemonGone(self) -> None:
        """
        A daemon that dies is told from one that refuses; the next one is found by the same client.
        """
        client = self.client(self.ops)
        client.request("ping")
        self.host.kill()
        self.assertRaises(NoDaemon, client.request, "ping")
        self.assertRaises(NoDaemon, client.request, "ping")
        self.host.start()
        until(lambda: self._answers(client))

    def _answers(self, client: Client) -> bool:
        try:
            return bool(client.request("ping"))
        except TooMany:
            raise
        except HostError:
            return False
