"""
The ports of a real daemon, with Python's TLS and openssl at the other end, and all that may come there.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
import unittest
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509

from tests.certificates import CODE_SIGNING, DAY, EMAIL, Authority, Signed, self_signed
from tests.live.encrypted import Encrypted, Site, context_for, free_port
from tests.live.hosted import ENVIRONMENT, Client, NoReply, until
from tests.live.support import DEADLINE_S
from tests.needs import needs_tool
from tests.scale import scaled

#: What doctor says of TLS where all is well.
CHECKS = ["tls", "tls certificate", "tls authorities", "tls revocations"]
ANN, BOB, ROOT = "urn:site:user:ann", "bob.example", "urn:site:user:root"


class _ForClass:
    """
    Stands for the test where what it cleans up is the whole class's.
    """

    def __init__(self, tests: type[unittest.TestCase]) -> None:
        self.addCleanup = tests.addClassCleanup


class ComingTests(unittest.TestCase):
    """
    Who comes in, and who does not; one daemon for all, on uvloop.
    """

    loop: ClassVar[str] = "uvloop"
    site: ClassVar[Site]

    @classmethod
    def setUpClass(cls) -> None:
        stand_in: Any = _ForClass(cls)
        cls.site = Site(stand_in, loop=cls.loop)

    def tearDown(self) -> None:
        self.assertEqual(self.site.hosted.tracebacks(), "")

    def connect(self, shown: Signed | None, **options: Any) -> Encrypted:
        client = self.site.connect(shown, **options)
        self.addCleanup(client.close)
        return client

    def refused(self, shown: Signed | None, **options: Any) -> str:
        """
        @return: the TLS alert by which a certificate was refused.
        """
        with self.assertRaises(ssl.SSLError) as caught:
            self.connect(shown, **options).line()
        return str(caught.exception.reason)

    def denied(self, shown: Signed) -> str:
        """
        @return: why who shows this is sent away with one reply, whatever was said.
        """
        client = self.connect(shown)
        client.send("whoami\nping\n")
        word, body = client.reply()
        self.assertEqual((word, body["code"], body["command"]), ("error_reply", "DENIED", ""))
        self.assertEqual(client.rest(), b"")
        return str(body["message"])

    def test_runsOnItsLoop(self) -> None:
        """
        The loop is the one that is meant.
        """
        self.assertIn(self.loop, self.site.finding("event loop")["detail"])

    def test_aUserByUrn(self) -> None:
        """
        Who shows a certificate with a user's URN is that user, and has only that user's rights.
        """
        client = self.connect(self.site.ca.sign(ANN))
        self.assertEqual(
            client.ask("whoami"), {"principal": "ann", "roles": ["anyone", "user"], "uid": -1, "via": "tls"}
        )
        self.assertEqual(client.refusal("users")[1]["code"], "DENIED")

    def test_aUserByDnsName(self) -> None:
        """
        So is who shows a DNS name, however it is written; other names beside it do no harm.
        """
        self.assertEqual(self.connect(self.site.ca.sign("BOB.Example")).ask("whoami")["principal"], "bob")
        self.assertEqual(self.connect(self.site.ca.sign("x.example", BOB)).ask("whoami")["principal"], "bob")

    def test_anOperator(self) -> None:
        """
        A user who is an operator is one through the network too.
        """
        client = self.connect(self.site.ca.sign(ROOT))
        self.assertIn("operator", client.ask("whoami")["roles"])
        self.assertIn("ann", [one["name"] for one in client.ask("users")])

    def test_nobodyKnown(self) -> None:
        """
        A certificate of a name that no user has is somebody without a record.
        """
        said = self.connect(self.site.ca.sign("urn:site:user:carol")).ask("whoami")
        self.assertEqual((said["principal"], said["roles"]), ("certificate:urn:site:user:carol", ["anyone"]))

    def test_saysSoInHello(self) -> None:
        """
        hello tells that there is TLS.
        """
        self.assertIn("tls", self.connect(self.site.ca.sign(ANN)).ask("hello")["features"])

    def test_versions(self) -> None:
        """
        TLS 1.2 and 1.3 are spoken, with ciphers that keep what was said secret whatever becomes of the keys.
        """
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):

            def only(context: ssl.SSLContext, version: ssl.TLSVersion = version) -> None:
                context.minimum_version = context.maximum_version = version

            client = self.connect(self.site.ca.sign(ANN), configure=only)
            self.assertEqual(client.socket.version(), version.name.replace("_", "."))
            cipher = client.socket.cipher()
            assert cipher is not None
            self.assertRegex(cipher[0], "^(TLS_AES|TLS_CHACHA20|ECDHE-.*(GCM|CHACHA20))")
            self.assertEqual(client.ask("whoami")["principal"], "ann")
            self.assertIsNone(client.socket.compression())

    def test_oldVersions(self) -> None:
        """
        Older ones are not, nor are weak ciphers.
        """
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):

            def old(context: ssl.SSLContext, version: ssl.TLSVersion = version) -> None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    context.minimum_version = context.maximum_version = version
                context.set_ciphers("ALL:@SECLEVEL=0")

            self.assertIn("PROTOCOL_VERSION", self.refused(self.site.ca.sign(ANN), configure=old))

        def weak(context: ssl.SSLContext) -> None:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("ECDHE+AES+SHA1:AES256-GCM-SHA384:@SECLEVEL=0")

        self.assertIn("HANDSHAKE_FAILURE", self.refused(self.site.ca.sign(ANN), configure=weak))

    def test_noSessionIsResumed(self) -> None:
        """
        Every connection shows its certificate anew.
        """
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = context_for(self.site.ca.pem, self.site.ca.sign(ANN))
            context.minimum_version = context.maximum_version = version
            session, reused = None, []
            for _ in range(2):
                plain = socket.create_connection(("127.0.0.1", self.site.port), DEADLINE_S)
                with context.wrap_socket(plain, server_hostname="host.example", session=session) as client:
                    client.sendall(b"ping\n")
                    self.assertTrue(client.recv(1000).startswith(b"ping_reply"))
                    session = client.session
                    reused.append(client.session_reused)
                    self.assertFalse(session.has_ticket if session else False)
            if version == ssl.TLSVersion.TLSv1_3:
                self.assertEqual(reused, [False, False])

    def test_noCertificate(self) -> None:
        """
        Without a certificate nobody comes in.
        """
        self.assertIn("CERTIFICATE_REQUIRED", self.refused(None))

    def test_selfSigned(self) -> None:
        """
        A certificate that vouches for itself is none.
        """
        self.assertIn("UNKNOWN_CA", self.refused(self_signed(ANN)))

    def test_anotherAuthority(self) -> None:
        """
        One of another authority of the same name is none.
        """
        self.assertRegex(self.refused(Authority().sign(ANN)), "UNKNOWN_CA|DECRYPT_ERROR|BAD_CERTIFICATE")

    def test_outOfTime(self) -> None:
        """
        One that has expired, or is not good yet, is none.
        """
        self.assertIn("EXPIRED", self.refused(self.site.ca.sign(ANN, begins_s=-2 * DAY, ends_s=-60)))
        self.assertIn("BAD_CERTIFICATE", self.refused(self.site.ca.sign(ANN, begins_s=3600, ends_s=DAY)))

    def test_forAnotherPurpose(self) -> None:
        """
        One that is for signing code, or for mail, lets nobody in; one that says nothing of purposes does.
        """
        self.assertRegex(self.refused(self.site.ca.sign(ANN, purposes=[CODE_SIGNING, EMAIL])), "CERTIFICATE")
        self.assertEqual(self.connect(self.site.ca.sign(ANN, purposes=None)).ask("whoami")["principal"], "ann")

    def test_aUserIsNoAuthority(self) -> None:
        """
        Who has a certificate cannot make others from it.
        """
        ann = self.site.ca.sign(ANN)
        forged = Authority("x", self.site.ca)
        forged.certificate, forged.key = ann.certificate, ann.key
        signed = forged.sign(ROOT)
        signed.above = ann.pem
        self.assertRegex(self.refused(signed), "UNKNOWN_CA|BAD_CERTIFICATE|UNSUPPORTED|DECRYPT")

    def test_underAnIntermediate(self) -> None:
        """
        A certificate may hang on the authority by others between.
        """
        between = Authority("department", self.site.ca)
        self.assertEqual(self.connect(between.sign(ANN)).ask("whoami")["principal"], "ann")

    def test_noName(self) -> None:
        """
        Who has no name in subjectAltName is told so: what stands in the CN is nobody's name.
        """
        self.assertIn("no name", self.denied(self.site.ca.sign(common_name=BOB)))
        self.assertIn("no name", self.denied(self.site.ca.sign("*.example", "https://bob.example/", common_name=ANN)))

    def test_twoIdentities(self) -> None:
        """
        A certificate of two users is nobody's.
        """
        self.assertIn("two users", self.denied(self.site.ca.sign(ANN, BOB)))

    def test_tooManyNames(self) -> None:
        """
        Nor is one of hundreds of names.
        """
        self.assertIn("at most 32 names", self.denied(self.site.ca.sign(*[f"h{one}.example" for one in range(500)])))

    def test_saysNothingToWhoIsRefused(self) -> None:
        """
        What who is refused said at once, before he could know, is not answered, and the refusal always arrives.
        """
        shown = self.site.ca.sign(ANN, BOB)
        for _ in range(scaled(20, 500)):
            client = self.connect(shown)
            client.send("ping\n" * 2000)
            self.assertEqual(client.reply()[1]["code"], "DENIED")
            self.assertEqual(client.rest(), b"")
            client.close()

    def test_pipelined(self) -> None:
        """
        Many requests at once are answered in their order, and long replies come whole.
        """
        client = self.connect(self.site.ca.sign(ROOT))
        client.send("".join(f"@{number} ping\n" for number in range(1000)))
        self.assertEqual([client.line().split()[0] for _ in range(1000)], [b"@%d" % one for one in range(1000)])
        client.send("help\n" * 30)
        for _ in range(30):
            self.assertGreater(len(client.line()), 10000)

    def test_longLines(self) -> None:
        """
        A line as long as any may be comes through, a longer one is refused, and the connection lives on.
        """
        client = self.connect(self.site.ca.sign(ANN))
        limit = 1 << 20
        self.assertEqual(client.refusal("x" * (limit - 1))[1]["code"], "UNKNOWN_COMMAND")
        self.assertEqual(client.refusal("x" * (2 * limit))[1]["code"], "LINE_TOO_LONG")
        client.ask("ping")

    def test_answersWhatWasAsked(self) -> None:
        """
        Who says that he will say no more is still answered all that he asked, slow things too; then it is over.
        """
        lines = self.half_closed(b"ping\n" * 1000 + b"wait 999999\nevents timeout=1\nwhoami\n").splitlines()
        self.assertEqual((len(lines), lines[999][:10]), (1003, b"ping_reply"))
        self.assertIn(b"'principal': 'ann'", lines[-1])

    def test_readsSlowly(self) -> None:
        """
        Who asks for much, says that he ends, and reads late and slowly gets all of it.
        """
        lines = self.half_closed(b"help\n" * 400 + b"whoami\n", pause_s=0.002).splitlines()
        self.assertEqual((len(lines), len(set(lines))), (401, 2))
        self.assertIn(b"'principal': 'ann'", lines[-1])

    def half_closed(self, said: bytes, pause_s: float = 0.0) -> bytes:
        """
        Say something, and that this is all.

        @param pause_s: seconds between two reads.
        @return: all that comes until the daemon says that this was all.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context_for(self.site.ca.pem, self.site.ca.sign(ANN)).wrap_bio(incoming, outgoing, False, "host.example")
        with socket.create_connection(("127.0.0.1", self.site.port), DEADLINE_S) as plain:

            def go(step: Callable[[], Any]) -> Any:
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        plain.sendall(outgoing.read())
                        time.sleep(pause_s)
                        data = plain.recv(65536)
                        incoming.write(data) if data else incoming.write_eof()

            go(tls.do_handshake)
            tls.write(said)
            with suppress(ssl.SSLWantReadError):
                tls.unwrap()
            heard = b""
            with suppress(ssl.SSLZeroReturnError):
                while True:
                    heard += go(lambda: tls.read(65536))
            return heard

    def test_endsWithItsClient(self) -> None:
        """
        Who is cut off is not answered, and leaves nothing behind.
        """
        client = self.connect(self.site.ca.sign(ANN))
        client.ask("ping")
        self.assertGreaterEqual(self.here(), 1)
        client.socket.shutdown(socket.SHUT_WR)
        client.close()
        until(lambda: self.here() == 0, what=self.here)

    def here(self) -> int:
        detail = str(self.site.finding()["detail"])
        return int(detail.rpartition("; ")[2].split()[0])

    def test_garbage(self) -> None:
        """
        What is no TLS at all is sent away, without a word of ours in the log but one.
        """
        for garbage in (
            b"ping\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"\x16\x03\x01\xff\xff" + b"\0" * 70000,
            bytes(range(256)) * 8,
        ):
            with socket.create_connection(("127.0.0.1", self.site.port), DEADLINE_S) as client:
                with suppress(ConnectionError):
                    client.sendall(garbage)
                said = b""
                with suppress(ConnectionError):
                    while data := client.recv(65536):
                        said += data
            self.assertNotIn(b"reply", said)
            self.assertLess(len(said), 100)
        self.connect(self.site.ca.sign(ANN)).ask("ping")

    def test_aHugeChain(self) -> None:
        """
        A chain of a hundred certificates, or one certificate of a megabyte, comes to nothing, soon.
        """
        huge = self.site.ca.sign(ANN)
        huge.above = b"".join(self.site.ca.sign(f"h{one}.example").pem for one in range(400))
        big = x509.UnrecognizedExtension(
            x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x04\x84\x00\x10\x00\x00" + b"\0" * (1 << 20)
        )
        begun = time.monotonic()
        for shown in (huge, self.site.ca.sign(ANN, more=[(big, False)])):
            with self.assertRaises((OSError, NoReply)):
                self.connect(shown).ask("ping")
        self.assertLess(time.monotonic() - begun, 5)
        self.connect(self.site.ca.sign(ANN)).ask("ping")

    def test_noRenegotiation(self) -> None:
        """
        A client of TLS 1.2 cannot have the daemon begin again and again.
        """
        self.assertEqual(self.openssl("R\n", "-tls1_2", "-legacy_renegotiation").count(b"ping_reply"), 1)

    @needs_tool("openssl")
    def test_openssl(self) -> None:
        """
        openssl s_client is served as well.
        """
        self.assertIn(b"'principal': 'ann'", self.openssl("whoami\n"))

    def openssl(self, more: str, *options: str) -> bytes:
        directory = self.site.ca.sign(ANN).write(self.site.hosted.directory / "client", self.site.ca.pem)
        words = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.site.port}", "-verify_return_error"]
        for option, name in (("-CAfile", "ca.pem"), ("-cert", "cert.pem"), ("-key", "key.pem")):
            words += [option, str(directory / name)]
        if not options:
            words.append("-quiet")
        with subprocess.Popen(
            [*words, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as client:
            assert client.stdin is not None and client.stdout is not None
            said = b""
            for line in ("ping\n", more):
                client.stdin.write(line.encode())
                client.stdin.flush()
                while not said.endswith(b"}\n") and (read := client.stdout.readline()):
                    said += read
                said += b"\n"
            client.stdin.close()
            client.kill()
        return said

    def test_enrolling(self) -> None:
        """
        Who has no certificate comes in at the other port, hears who the host is, and may do next to nothing.
        """
        client = self.connect(None, port=self.site.enrol_port)
        for request in ("users", "slivers", "host_status", "add_project x", "doctor"):
            self.assertEqual(client.refusal(request)[1]["code"], "DENIED", request)
        self.assertEqual(client.refusal("status_request a/b")[1]["code"], "NO_SUCH_EXPERIMENT")
        self.assertEqual(client.refusal("x" * 70000)[1]["code"], "LINE_TOO_LONG")

    def test_enrollingIsForFew(self) -> None:
        """
        One address cannot take all the connections of those who enrol.
        """
        clients = [self.connect(None, port=self.site.enrol_port) for _ in range(4)]
        for one in clients:
            self.assertEqual(one.refusal("users")[1]["code"], "DENIED")
        self.assertEqual(self.connect(None, port=self.site.enrol_port).reply()[1]["code"], "TOO_MANY")


class ComingByAsyncioTests(ComingTests):
    """
    The same on asyncio's own loop.
    """

    loop = "asyncio"


class ChangingTests(unittest.TestCase):
    """
    Files that change while the daemon runs; each test has one of its own.
    """

    def site(self, *words: str, **options: Any) -> Site:
        found = Site(self, *words, **options)
        self.addCleanup(lambda: self.assertEqual(found.hosted.tracebacks(), ""))
        return found

    def connect(self, site: Site, shown: Signed | None, port: int = 0) -> Encrypted:
        client = site.connect(shown, port)
        self.addCleanup(client.close)
        return client

    def cut(self, client: Encrypted, limit_s: float = DEADLINE_S) -> float:
        """
        @return: seconds until the daemon ended a connection.
        """
        begun = time.monotonic()
        client.socket.settimeout(limit_s)
        with suppress(ConnectionError, ssl.SSLError):
            self.assertEqual(client.socket.recv(100), b"")
        return time.monotonic() - begun

    def test_revoked(self) -> None:
        """
        A revoked certificate lets nobody in any more; who is in is cut as soon as the daemon is told, all others stay.
        """
        site = self.site()
        ann, again, bob = site.ca.sign(ANN), site.ca.sign(ANN), site.ca.sign(BOB)
        first, second, other = (self.connect(site, one) for one in (ann, again, bob))
        for one in (first, second, other):
            one.ask("ping")
        site.revoke(ann)
        site.reload()
        self.assertLess(self.cut(first), 2)
        word, body = self.connect(site, ann).reply()
        self.assertEqual((word, body["code"], body["message"]), ("error_reply", "DENIED", "the certificate is revoked"))
        second.ask("ping")
        other.ask("ping")
        self.assertTrue(site.finding("tls revocations")["detail"].startswith("revoked: 1; lists: 1, "))

    def test_revokedUnasked(self) -> None:
        """
        Nobody has to tell the daemon: it sees a new list by itself, in seconds.
        """
        site = self.site()
        ann = site.ca.sign(ANN)
        client = self.connect(site, ann)
        client.ask("ping")
        site.revoke(ann)
        self.assertLess(self.cut(client), 8)

    def test_anIntermediateIsRevoked(self) -> None:
        """
        With the certificate of an authority all those go that hang on it.
        """
        site = self.site()
        between = Authority("department", site.ca)
        client = self.connect(site, between.sign(ANN))
        client.ask("ping")
        site.revoke(between)
        site.reload()
        self.assertLess(self.cut(client), 2)
        self.assertEqual(self.connect(site, between.sign(ANN)).reply()[1]["message"], "the certificate is revoked")

    def test_expiresMeanwhile(self) -> None:
        """
        Who is in when his certificate ends is cut then.
        """
        site = self.site()
        client = self.connect(site, site.ca.sign(ANN, ends_s=3))
        client.ask("ping")
        self.assertLess(self.cut(client), 11)

    def test_renewed(self) -> None:
        """
        A new certificate of the daemon's is shown from the next connection on; who is in stays.
        """
        site = self.site()
        before = self.connect(site, site.ca.sign(ANN))
        self.assertEqual(before.socket.getpeercert(True), site.own.der)
        renewed = site.ca.sign("host.example")
        site.put("key.pem.next", renewed.key_pem)  # as it would be cut off in the middle
        site.put("cert.pem", renewed.pem)
        site.reload()
        until(lambda: self.connect(site, site.ca.sign(ANN)).socket.getpeercert(True) == renewed.der)
        before.ask("ping")

    def test_halfRenewed(self) -> None:
        """
        A certificate without its key changes nothing, and doctor says so.
        """
        site = self.site()
        site.put("cert.pem", site.ca.sign("host.example").pem)
        site.reload()
        until(lambda: not site.finding()["ok"])
        self.assertIn("cert.pem", site.finding()["detail"])
        self.assertEqual(self.connect(site, site.ca.sign(ANN)).ask("whoami")["principal"], "ann")
        self.assertTrue(any("cert.pem" in one for one in site.hosted.ask("host_status")["problems"]))

    def test_authorityIsReplaced(self) -> None:
        """
        Who hangs on an authority that is believed no more is cut; who hangs on the new one comes in.
        """
        site = self.site()
        client = self.connect(site, site.ca.sign(ANN))
        client.ask("ping")
        new = Authority("new CA")
        (site.trust / "crl.pem").unlink()
        own = new.sign("host.example")
        for name, data in (("key.pem", own.key_pem), ("cert.pem", own.pem), ("ca.pem", new.pem)):
            site.put(name, data)
        site.reload()
        self.assertLess(self.cut(client), 2)
        site.ca = new
        self.assertEqual(self.connect(site, new.sign(ANN)).ask("whoami")["principal"], "ann")

    def test_comesLater(self) -> None:
        """
        A host without its files serves its socket, says what is missing, and listens once they come.
        """
        site = self.site(trust=False)
        found = site.finding()
        self.assertFalse(found["ok"])
        self.assertIn("ca.pem, cert.pem, key.pem", found["detail"])
        self.assertIn("hostline ca init", found["remedy"])
        self.assertNotIn("tls", site.hosted.ask("hello")["features"])
        site.found()
        site.reload()
        until(lambda: site.finding()["ok"], 10)
        self.assertIn("tls", site.hosted.ask("hello")["features"])
        self.assertEqual(self.connect(site, site.ca.sign(ANN)).ask("whoami")["principal"], "ann")

    def test_badFiles(self) -> None:
        """
        Whatever stands in the files, the daemon starts, serves its socket and says what is wrong; mended, it listens.
        """
        site = self.site(trust=False, start=False)
        site.found()
        (site.trust / "key.pem").chmod(0o644)
        site.hosted.start()
        self.assertIn("key.pem: want that nobody else may read it", site.finding()["detail"])
        for name in ("ca.pem", "cert.pem", "key.pem", "crl.pem"):
            good = (site.trust / name).read_bytes()
            site.put(name, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            site.reload()
            self.until_said(site, name)
            with self.assertRaises(OSError):
                site.connect(site.ca.sign(ANN))
            site.put(name, good)
        site.reload()
        until(lambda: site.finding()["ok"], what=lambda: site.finding())
        self.connect(site, site.ca.sign(ANN)).ask("ping")

    def until_said(self, site: Site, name: str) -> None:
        until(lambda: name in site.finding()["detail"], what=site.finding)

    def test_aListGoesBad(self) -> None:
        """
        A list of revoked certificates that somebody else made, or that is gone, gives nobody back what was taken.
        """
        site = self.site()
        ann = site.ca.sign(ANN)
        site.revoke(ann)
        site.reload()
        until(lambda: "revoked: 1;" in site.finding("tls revocations")["detail"])
        site.put("crl.pem", Authority().revoke())
        site.reload()
        until(lambda: not site.finding("tls certificate")["ok"])
        self.assertIn("none of our authorities has signed", site.finding("tls certificate")["detail"])
        self.assertEqual(self.connect(site, ann).reply()[1]["message"], "the certificate is revoked")
        self.connect(site, site.ca.sign(BOB)).ask("ping")

    def test_busyPort(self) -> None:
        """
        A port that another program has is waited for.
        """
        site = self.site(start=False)
        with socket.create_server(("127.0.0.1", site.port)):
            site.hosted.start()
            self.assertIn("Address already in use", site.finding()["detail"])
        site.reload()
        until(lambda: site.finding()["ok"], 10)
        self.connect(site, site.ca.sign(ANN)).ask("ping")

    def test_killed(self) -> None:
        """
        A daemon that was killed with connections open listens again as soon as it is started.
        """
        site = self.site()
        for _ in range(3):
            self.connect(site, site.ca.sign(ANN)).ask("ping")
        site.hosted.kill()
        site.hosted.start()
        self.assertTrue(site.finding()["ok"], site.finding())
        self.assertEqual(self.connect(site, site.ca.sign(ANN)).ask("whoami")["principal"], "ann")

    def test_furtherAuthorities(self) -> None:
        """
        Another authority's certificates are believed, and what it has revoked is not.
        """
        other = Authority("other CA")
        ann = other.sign(ANN)
        site = self.site(start=False)
        roots, crl = site.hosted.directory / "roots.pem", site.hosted.directory / "crl.pem"
        roots.write_bytes(other.pem)
        crl.write_bytes(other.revoke())
        text = site.hosted.config.read_text()
        site.hosted.config.write_text(text.replace("[tls]\n", f'[tls]\nroots_file = "{roots}"\ncrl_file = "{crl}"\n'))
        site.hosted.start()
        client = self.connect(site, ann)
        client.ask("ping")
        crl.write_bytes(other.revoke(ann))
        site.reload()
        self.assertLess(self.cut(client), 2)
        self.assertEqual(self.connect(site, ann).reply()[1]["message"], "the certificate is revoked")

    def test_renewsWhenDue(self) -> None:
        """
        A certificate that has had two thirds of its life is renewed; where that cannot be, doctor says why.
        """
        site = self.site(trust=False, start=False)
        site.own = site.ca.sign("host.example", begins_s=-8 * DAY, ends_s=2 * DAY)
        site.found()
        (site.trust / "issuer").write_text(f"127.0.0.1:{free_port()}\n")
        site.hosted.start()
        until(lambda: any(one["check"] == "tls renewal" for one in site.hosted.ask("doctor")), 20)
        self.assertFalse(site.finding("tls renewal")["ok"])
        self.assertIn("not_renewed", [one["what"] for one in site.hosted.ask("events topic=host")])


class WholeSiteTests(unittest.TestCase):
    """
    Two hosts and a user, with the site's own authority and our own programs.
    """

    def hostline(self, *words: str) -> str:
        program = Path(sys.executable).parent / "hostline"
        done = subprocess.run(
            [program, *words], capture_output=True, text=True, check=False, timeout=60, env=ENVIRONMENT, cwd="/"
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def enrol(self, site: Site, trust: Path, names: str, purpose: str) -> None:
        token = site.hosted.ask(f"ca_token {names} purpose={purpose}")["token"]
        places = (f"localhost:{site.enrol_port}", token, "--trust", str(trust), "--host", f"localhost:{site.port}")
        self.hostline("ca", "enrol", *places)

    def connect(self, site: Site, trust: Path) -> Encrypted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(trust / "ca.pem")
        context.load_cert_chain(trust / "cert.pem", trust / "key.pem")
        client = Encrypted(site.port, context)
        self.addCleanup(client.close)
        return client

    def test_fromBeginningToEnd(self) -> None:
        """
        A host makes the authority and listens at once; another enrols and listens without a restart; a user comes to
        both until her certificate is revoked: then the first cuts her at once, and the other as soon as it has asked.
        """
        first, second = Site(self, trust=False), Site(self, trust=False)
        first.hosted.ask("ca_init names=['localhost']")
        self.assertTrue(first.finding()["ok"], first.finding())
        self.enrol(first, second.trust, "second.example", "host")
        until(lambda: second.finding()["ok"], 10, second.finding)
        ann = first.hosted.directory / "ann"
        self.enrol(first, ann, ANN, "user")
        here, there = self.connect(first, ann), self.connect(second, ann)
        self.assertEqual([one.ask("whoami")["principal"] for one in (here, there)], ["ann", "ann"])
        said = self.hostline("--host", f"localhost:{first.port}", "--trust", str(ann), "whoami")
        self.assertIn("'via': 'tls'", said)
        begun = time.monotonic()
        first.hosted.ask(f"ca_revoke {ANN}")
        with suppress(ConnectionError, ssl.SSLError):
            self.assertEqual(here.socket.recv(100), b"")
        self.assertLess(time.monotonic() - begun, 2)
        self.assertEqual(self.connect(first, ann).reply()[1]["message"], "the certificate is revoked")
        there.ask("ping")
        second.hosted.stop()
        second.hosted.start()
        again = self.connect(second, ann)  # until its first look, which asks the first host
        with suppress(ConnectionError, ssl.SSLError):
            again.ask("ping")
            self.assertEqual(again.socket.recv(100), b"")
        self.assertEqual(self.connect(second, ann).reply()[1]["message"], "the certificate is revoked")
        self.assertEqual([one["check"] for one in second.hosted.ask("doctor") if "tls" in one["check"]], CHECKS)
        for site in (first, second):
            self.assertEqual(site.hosted.tracebacks(), "")


class FloodTests(unittest.TestCase):
    """
    Those who come and show nothing.
    """

    def setUp(self) -> None:
        self.site = Site(self, "handshakes = 20\naddress_handshakes = 6\nhandshake_s = 3.0\n")
        self.open: list[socket.socket] = []
        self.addCleanup(self.close_all)
        self.addCleanup(lambda: self.assertEqual(self.site.hosted.tracebacks(), ""))

    def close_all(self) -> None:
        for one in self.open:
            one.close()
        self.open.clear()

    def half(self, count: int, source: str = "127.0.0.1", said: bytes = b"\x16\x03\x01") -> None:
        """
        Connect, and say no more than the beginning.
        """
        for _ in range(count):
            one = socket.socket()
            one.bind((source, 0))
            one.settimeout(DEADLINE_S)
            one.connect(("127.0.0.1", self.site.port))
            with suppress(ConnectionError):
                one.sendall(said)
            self.open.append(one)

    def gone(self) -> int:
        """
        @return: how many of them the daemon has ended.
        """
        count = 0
        for one in self.open:
            one.setblocking(False)
            try:
                count += one.recv(100) == b""
            except BlockingIOError:
                pass
            except ConnectionError:
                count += 1
        return count

    def test_fromOneAddress(self) -> None:
        """
        Half-open connections from one address are few at a time, end by themselves, and take nothing from others.
        """
        self.half(200)
        until(lambda: self.gone() == 194, 2, self.gone)
        context = context_for(self.site.ca.pem, self.site.ca.sign(ANN))
        plain = socket.create_connection(("127.0.0.1", self.site.port), DEADLINE_S, ("127.0.0.2", 0))
        with context.wrap_socket(plain, server_hostname="host.example") as client:
            client.sendall(b"ping\n")
            self.assertTrue(client.recv(100).startswith(b"ping_reply"))
        until(lambda: self.gone() == 200, 6, self.gone)
        with self.site.connect(self.site.ca.sign(ANN)) as client_again:
            client_again.ask("ping")

    def test_fromManyAddresses(self) -> None:
        """
        Nor does it help them to come from many addresses: who comes from elsewhere is served within moments, and so is
        the host's own socket.
        """
        begun = time.monotonic()
        slowest = 0.0
        shown = context_for(self.site.ca.pem, self.site.ca.sign(ANN))
        for turn in range(scaled(8, 60)):
            for last in range(10, 30):
                self.half(5, f"127.0.0.{last}")
            asked = time.monotonic()
            with Client(self.site.hosted.socket) as local:
                local.ask("ping")
            slowest = max(slowest, time.monotonic() - asked)
            with Encrypted(self.site.port, shown) as client:
                client.ask("ping")
            if turn % 4 == 3:
                self.close_all()
        self.assertLess(slowest, 1.0)
        self.assertLess(time.monotonic() - begun, scaled(20, 200))
        self.assertTrue(self.site.finding()["ok"])

    def test_leavesNothingBehind(self) -> None:
        """
        When a flood is over the daemon has as many descriptors open as before, and its log is short.
        """

        def descriptors() -> str:
            return str(self.site.finding("descriptors")["detail"].split()[0])

        before = descriptors()
        for _ in range(scaled(3, 30)):
            self.half(100)
            self.half(50, said=b"garbage, this is no TLS at all\n")
            self.close_all()
        until(lambda: descriptors() == before, 10, descriptors)
        self.assertLess(self.site.hosted.log.read_text().count("nobody came in"), 60)

    def test_slowly(self) -> None:
        """
        Who shows a certificate bit by bit is cut when the time for it is over.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = context_for(self.site.ca.pem, self.site.ca.sign(ANN))
        hello = context.wrap_bio(incoming, outgoing, server_hostname="host.example")
        with suppress(ssl.SSLWantReadError):
            hello.do_handshake()
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.site.port), DEADLINE_S) as client:
            try:
                for byte in outgoing.read():
                    client.sendall(bytes([byte]))
                    time.sleep(0.05)
            except ConnectionError:
                pass
        self.assertTrue(2.5 < time.monotonic() - begun < 6)
