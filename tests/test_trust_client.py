"""
Certificates of one's own: enrolled, renewed, and whole whenever that is cut short.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import main, output, trust, trustfiles
from hostline.clients.certificates import first
from hostline.clients.client import Client
from hostline.clients.settings import Settings, Usage
from hostline.clients.tls import own_context
from hostline.clients.trustfiles import TrustFiles
from hostline.protocol.errors import Denied, Exists, HostError, NoDaemon
from hostline.protocol.wire import reply
from tests.certificates import DAY, Authority, Signed, self_signed
from tests.test_tls_client import SITE, Far

SECRET = "one-time-secret"


def fingerprint(authority: Authority) -> str:
    """
    What stands in a token behind the dot.
    """
    return hashlib.sha256(authority.der).hexdigest()


def signed(ca: Authority, request: str, ends_s: float = DAY) -> bytes:
    """
    What an authority makes of a request.
    """
    key = x509.load_pem_x509_csr(request.encode()).public_key()
    template = ca.sign("urn:site:user:ann", ends_s=ends_s).certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(template.subject)
        .issuer_name(template.issuer)
        .public_key(key)
        .serial_number(template.serial_number)
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
    )
    for one in template.extensions:
        if one.oid not in (x509.SubjectKeyIdentifier.oid,):
            builder = builder.add_extension(one.value, one.critical)
    return builder.sign(ca.key, SHA256()).public_bytes(Encoding.PEM)


class Issuing:
    """
    What a host with an authority answers; keeps what it was asked.
    """

    def __init__(self, ca: Authority | None = None, shown: Authority | None = None) -> None:
        """
        @param shown: the authority that it says it is, if not the one it is.
        """
        self.ca = ca or SITE.ca
        self.shown = shown or self.ca
        self.asked: list[str] = []
        self.crl = self.ca.revoke()
        self.refuses: dict[str, Any] | None = None

    def __call__(self, peer: Any) -> None:
        file = peer.makefile("rb")
        while line := file.readline():
            peer.sendall(self.answer(line.decode()))

    def answer(self, line: str) -> bytes:
        """
        @return: the reply to a request.
        """
        word, _, rest = line.strip().partition(" ")
        self.asked.append(word)
        if self.refuses is not None and word in ("ca_enrol", "ca_renew"):
            return reply("error_reply", self.refuses)
        if word == "ca_certificate":
            return reply("ca_certificate_reply", {"certificate": self.shown.pem.decode(), "fingerprint": "x"})
        if word == "ca_revoked":
            return reply("ca_revoked_reply", {"crl": self.crl.decode()})
        if word == "ca_enrol":
            secret, _, rest = rest.partition(" ")
            assert secret == SECRET, secret
        return reply(
            f"{word}_reply",
            {
                "certificate": signed(self.ca, ast.literal_eval(rest)).decode(),
                "ca": self.ca.pem.decode(),
                "crl": self.crl.decode(),
                "number": "1",
                "until": 1.0,
            },
        )


class ProgramTests(SynchronousTestCase):
    """
    The programs, in this process.
    """

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hl-"))
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)
        self.trust = self.root / "a" / "trust"
        self.patch(os, "environ", {"PATH": os.environ["PATH"], "HOME": str(self.root)})
        self.patch(sys, "argv", [str(Path(sys.executable).with_name("hostline"))])
        self.said: list[str] = []
        for module in (trust, main):
            self.patch(module, "say", self.said.append)

    def run_ca(self, *words: str) -> int:
        """
        C{hostline ca ..}
        """
        return trust.run_ca(list(words), self.settings())

    def settings(self) -> Settings:
        """
        With our trust directory.
        """
        settings = Settings()
        settings.trust = str(self.trust)
        return settings

    def names(self) -> set[str]:
        """
        What is in the directory.
        """
        return {one.name for one in self.trust.iterdir()}


class EnrolTests(ProgramTests):
    """
    C{hostline ca enrol}.
    """

    def test_enrol(self) -> None:
        """
        All files are there, for nobody else; the certificate can be used at once.
        """
        host = Issuing()
        far = Far(self, host, anybody=True)
        self.assertEqual(self.run_ca("enrol", far.place, f"{SECRET}.{fingerprint(SITE.ca)}"), 0)
        self.assertEqual(host.asked, ["ca_certificate", "ca_enrol"])
        self.assertEqual(self.names(), {"ca.pem", "cert.pem", "key.pem", "crl.pem", "issuer"})
        self.assertEqual(stat.S_IMODE(self.trust.stat().st_mode), 0o700)
        for name in self.names():
            self.assertEqual(stat.S_IMODE((self.trust / name).stat().st_mode), 0o600, name)
        self.assertEqual((self.trust / "issuer").read_text(), "localhost:6446\n")
        self.assertIn("good until", self.said[0])
        with Client(host=far.place, trust=str(self.trust)) as client:
            self.assertIn("crl", client.request("ca_revoked"))

    def test_otherAuthority(self) -> None:
        """
        The secret is said to nobody but who has the authority of the token: neither to one that shows another, nor to
        one that shows that one but is not of it.
        """
        other = Authority("other")
        for shown, host, error in (
            (other, other.sign("localhost"), Denied),
            (SITE.ca, other.sign("localhost"), NoDaemon),
            (SITE.ca, SITE.ca.sign("elsewhere"), NoDaemon),
            (SITE.ca, self_signed("localhost"), NoDaemon),
        ):
            issuing = Issuing(other, shown)
            far = Far(self, issuing, host, anybody=True)
            self.assertRaises(error, self.run_ca, "enrol", far.place, f"{SECRET}.{fingerprint(SITE.ca)}")
            self.assertEqual(issuing.asked, ["ca_certificate"])
            self.assertEqual(self.names(), set())

    def test_twice(self) -> None:
        """
        What is there is not replaced unless asked, and then only by what works.
        """
        host = Issuing()
        far = Far(self, host, anybody=True)
        words = ["enrol", far.place, f"{SECRET}.{fingerprint(SITE.ca)}"]
        self.run_ca(*words)
        before = {one: (self.trust / one).read_bytes() for one in self.names()}
        error = self.assertRaises(Exists, self.run_ca, *words)
        self.assertIn("--force", error.message)
        host.refuses = {"code": "DENIED", "message": "no such token"}
        self.assertRaises(Denied, self.run_ca, *words, "--force")
        self.assertEqual(before, {one: (self.trust / one).read_bytes() for one in self.names()})
        host.refuses = None
        self.run_ca(*words, "--force")
        self.assertNotEqual(before["key.pem"], (self.trust / "key.pem").read_bytes())
        own_context(str(self.trust))

    def test_words(self) -> None:
        """
        What makes no sense is said before anybody is asked; the issuer is noted as said.
        """
        host = Issuing()
        far = Far(self, host, anybody=True)
        good = f"{SECRET}.{fingerprint(SITE.ca)}"
        for words in (
            ["enrol"],
            ["enrol", "a", "b", "c"],
            ["enrol", far.place, SECRET],
            ["enrol", far.place, f".{fingerprint(SITE.ca)}"],
            ["enrol", far.place, good[:-1]],
            ["enrol", "a b", good],
            ["enrol", far.place, good, "--nope"],
            ["renew", "x"],
        ):
            self.assertRaises(Usage, self.run_ca, *words)
        self.assertEqual(host.asked, [])
        self.run_ca("enrol", far.place, good, "--host", "issuer.example.org:7")
        self.assertEqual((self.trust / "issuer").read_text(), "issuer.example.org:7\n")

    def test_wrongKey(self) -> None:
        """
        A certificate for another key is not put in place.
        """
        host = Issuing()
        far = Far(self, host, anybody=True)
        self.patch(host, "answer", self._other(host.answer))
        error = self.assertRaises(HostError, self.run_ca, "enrol", far.place, f"{SECRET}.{fingerprint(SITE.ca)}")
        self.assertIn("not for the key", error.message)
        self.assertNotIn("cert.pem", self.names())
        self.assertNotIn("key.pem", self.names())

    def _other(self, answer: Callable[[str], bytes]) -> Callable[[str], bytes]:
        def other(line: str) -> bytes:
            word, _, body = answer(line).decode().partition(" ")
            value = ast.literal_eval(body)
            if word == "ca_enrol_reply":
                value["certificate"] = SITE.person.pem.decode()
            return reply(word, value)

        return other

    def test_noPki(self) -> None:
        """
        Without the program that makes keys it says what to install, and the token is not spent.
        """
        host = Issuing()
        far = Far(self, host, anybody=True)
        self.patch(sys, "argv", [str(self.root / "hostline")])
        self.patch(sys, "executable", str(self.root / "python"))
        os.environ["PATH"] = str(self.root)
        error = self.assertRaises(Usage, self.run_ca, "enrol", far.place, f"{SECRET}.{fingerprint(SITE.ca)}")
        self.assertIn("pip install 'hostline[tls]'", str(error))
        program = self.root / "hostline-pki"
        program.write_text("#!/bin/sh\nexit 1\n")
        program.chmod(0o755)
        self.assertRaises(HostError, self.run_ca, "enrol", far.place, f"{SECRET}.{fingerprint(SITE.ca)}")
        self.assertEqual(host.asked, ["ca_certificate"])
        host.asked.clear()
        self.assertEqual(host.asked, [])


class RenewTests(ProgramTests):
    """
    C{hostline ca renew}.
    """

    def enrolled(self, certificate: Signed, issuer: str) -> None:
        """
        Have a certificate.
        """
        certificate.write(self.trust, SITE.ca.pem)
        (self.trust / "issuer").write_text(f"{issuer}\n")

    def test_due(self) -> None:
        """
        After two thirds of its life there is a new key and certificate, before only a new list; --force does it anyway.
        """
        host = Issuing()
        far = Far(self, host)
        for begins, ends, words, renewed in (
            (-65, 34, (), False),
            (-67, 32, (), True),
            (-10, 90, ("--force",), True),
        ):
            one = SITE.ca.sign("urn:site:user:ann", begins_s=begins * 3600, ends_s=ends * 3600)
            self.enrolled(one, far.place)
            host.asked.clear()
            self.assertEqual(self.run_ca("renew", *words), 0)
            self.assertEqual(host.asked, ["ca_renew", "ca_revoked"] if renewed else ["ca_revoked"])
            new = first((self.trust / "cert.pem").read_bytes()).number != first(one.pem).number
            self.assertEqual(new, renewed)
            self.assertEqual((self.trust / "key.pem").read_bytes() != one.key_pem, renewed)
            self.assertEqual((self.trust / "crl.pem").read_bytes(), host.crl)
            own_context(str(self.trust))
        self.assertEqual(self.names(), {"ca.pem", "cert.pem", "key.pem", "crl.pem", "issuer"})

    def test_quiet(self) -> None:
        """
        Nothing is said where nobody looks on; on a terminal it says until when it is good.
        """
        far = Far(self, Issuing())
        self.enrolled(SITE.person, far.place)
        for terminal in (False, True):
            with mock.patch.object(trust, "terminal", lambda terminal=terminal: terminal):
                self.run_ca("renew")
        self.assertEqual([one.partition(":")[0] for one in self.said], ["nothing to do"])

    def test_refused(self) -> None:
        """
        Whatever goes wrong, what was there is there; a list that is torn is mended.
        """
        host = Issuing()
        far = Far(self, host)
        self.enrolled(SITE.person, far.place)
        host.refuses = {"code": "DENIED", "message": "no"}
        self.assertRaises(Denied, self.run_ca, "renew", "--force")
        self.assertEqual((self.trust / "key.pem").read_bytes(), SITE.person.key_pem)
        self.assertNotIn("key.pem.new", self.names())
        (self.trust / "crl.pem").write_text("-----BEGIN X509 CRL-----\ntorn")
        self.run_ca("renew")
        self.assertEqual((self.trust / "crl.pem").read_bytes(), host.crl)
        (self.trust / "crl.pem").write_bytes(SITE.ca.revoke(SITE.host))
        host.asked.clear()
        self.assertRaises(NoDaemon, self.run_ca, "renew", "--force")
        self.assertEqual(host.asked, [])
        (self.trust / "issuer").unlink()
        self.assertRaises(Usage, self.run_ca, "renew")
        (self.trust / "cert.pem").unlink()
        self.assertRaises(NoDaemon, self.run_ca, "renew", "--host", far.place)

    def test_two(self) -> None:
        """
        Of two at once one waits for the other, and what is there in the end goes together.
        """
        far = Far(self, Issuing())
        self.enrolled(SITE.person, far.place)
        here = Path(__file__).parents[1]
        environ = dict(os.environ) | {"PYTHONPATH": str(here / "twistd_plugins")}
        argv = [
            sys.executable,
            str(here / "clients/bin/hostline"),
            "--trust",
            str(self.trust),
            "ca",
            "renew",
            "--force",
        ]
        both = [subprocess.Popen(argv, env=environ, cwd=self.root) for _ in range(2)]
        self.assertEqual([one.wait(60) for one in both], [0, 0])
        own_context(str(self.trust))
        self.assertEqual(self.names(), {"ca.pem", "cert.pem", "key.pem", "crl.pem", "issuer"})

    def test_status(self) -> None:
        """
        The program's exit status tells refusal from absence.
        """
        self.enrolled(SITE.person, "localhost:1")
        complaints: list[str] = []
        self.patch(output, "complain", complaints.append)
        self.assertEqual(main.run(["--trust", str(self.trust), "ca", "renew"]), 3)
        (self.trust / "issuer").unlink()
        self.assertEqual(main.run(["--trust", str(self.trust), "ca", "renew"]), 2)
        self.assertEqual(main.run(["ca"]), 2)
        self.assertEqual(main.run(["ca", "--help"]), 0)
        self.assertEqual(main.run(["ca", "renew", "--help"]), 0)
        self.assertEqual(main.run(["ca", "nope"]), 2)


class Killed:
    """
    Children that are ended at their first, second .. change of a file, and then one that is not.
    """

    CHANGES = ("open", "replace", "link", "unlink", "fsync", "mkdir")

    def __init__(self, work: Callable[[], object], prepare: Callable[[], None]) -> None:
        self._work = work
        self._prepare = prepare

    def __iter__(self) -> Iterator[bool]:
        """
        @return: after each, whether it came to its end.
        """
        for last in range(1, 500):
            self._prepare()
            pid = os.fork()
            if pid == 0:
                try:
                    self._child(last)
                finally:
                    os._exit(1)
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) in (0, 9), status
            yield status == 0
            if status == 0:
                return
        raise AssertionError("it never came to its end")

    def _child(self, last: int) -> None:
        count = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                if count == last:
                    os._exit(9)
                return real(*args, **options)

            return call

        for name in self.CHANGES:
            setattr(os, name, counted(getattr(os, name)))
        self._work()
        os._exit(0)


class KilledTests(ProgramTests):
    """
    A kill at any instant.
    """

    def prepared(self, old: Signed, ca: Authority, new: Signed) -> None:
        """
        One certificate there, and the key of another made.
        """
        shutil.rmtree(self.trust, ignore_errors=True)
        old.write(self.trust, ca.pem)
        (self.trust / "crl.pem").write_bytes(ca.revoke())
        (self.trust / "key.pem.new").write_bytes(new.key_pem)

    def certificate(self) -> bytes:
        """
        The one in place, which can be used, with its key and its authority.
        """
        own_context(str(self.trust))
        pem = (self.trust / "cert.pem").read_bytes()
        one = x509.load_pem_x509_certificate(pem)
        there = x509.load_pem_x509_certificates((self.trust / "ca.pem").read_bytes())
        self.assertIn(one.issuer, [ca.subject for ca in there])
        return pem

    def check_settled(self) -> None:
        """
        Plain readers too find what goes together once somebody has been here.
        """
        TrustFiles(str(self.trust)).__exit__()
        self.assertEqual({one for one in self.names() if "next" in one or "new" in one}, set())
        key = load_pem_private_key((self.trust / "key.pem").read_bytes(), None).public_key()
        one = x509.load_pem_x509_certificate((self.trust / "cert.pem").read_bytes()).public_key()
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual(key.public_bytes(*form), one.public_bytes(*form))

    def test_renewal(self) -> None:
        """
        The old certificate or the new one is there, with its key.
        """
        old, new = SITE.ca.sign("urn:a:b"), SITE.ca.sign("urn:a:b")

        def work() -> None:
            files = object.__new__(TrustFiles)
            files.directory = str(self.trust)
            files._descriptor = os.open(files.directory, os.O_RDONLY)
            files.replace(new.pem)

        seen = []
        for ended in Killed(work, lambda: self.prepared(old, SITE.ca, new)):
            seen.append(self.certificate())
            self.check_settled()
            self.assertIn(seen[-1], (old.pem, new.pem))
            if ended:
                self.assertEqual(seen[-1], new.pem)
        self.assertEqual(set(seen), {old.pem, new.pem})
        self.assertGreater(len(seen), 8)

    def test_daemonSettles(self) -> None:
        """
        A daemon that starts in the middle, and ends or undoes what it finds half done, does no harm.
        """
        old, new = SITE.ca.sign("urn:a:b"), SITE.ca.sign("urn:a:b")
        real = os.replace
        for undo in (True, False):
            self.prepared(old, SITE.ca, new)
            with TrustFiles(str(self.trust)) as files:
                (self.trust / "key.pem.new").write_bytes(new.key_pem)

                def replace(source: str, target: str, undo: bool = undo) -> None:
                    if undo and target.endswith("cert.pem"):
                        (self.trust / "key.pem.next").unlink()
                    real(source, target)
                    if not undo and target.endswith("cert.pem"):
                        (self.trust / "key.pem.next").rename(self.trust / "key.pem")

                with mock.patch.object(os, "replace", replace):
                    files.replace(new.pem)
            self.assertEqual(self.certificate(), new.pem)
            self.check_settled()

    def test_otherSite(self) -> None:
        """
        Also where the authority changes: one of the two can be used at any instant, and at the end only the new one.
        """
        other = Authority("other site")
        old, new = SITE.ca.sign("urn:a:b"), other.sign("urn:a:b")

        def work() -> None:
            files = object.__new__(TrustFiles)
            files.directory = str(self.trust)
            files._descriptor = os.open(files.directory, os.O_RDONLY)
            trustfiles.enrolled(files, new.pem, other.pem, other.revoke(), "localhost:6446")

        for ended in Killed(work, lambda: self.prepared(old, SITE.ca, new)):
            self.certificate()
            self.check_settled()
            if ended:
                self.assertEqual((self.trust / "ca.pem").read_bytes(), other.pem)
                self.assertEqual((self.trust / "issuer").read_text(), "localhost:6446\n")


class TicketTests(ProgramTests):
    """
    C{hostline ticket}.
    """

    def test_sign(self) -> None:
        """
        What is printed is the record, signed; openssl finds it again.
        """
        signer = SITE.ca.sign("urn:a:b", purposes=[x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION])
        signer.write(self.trust, SITE.ca.pem)
        record = self.root / "record"
        record.write_bytes(b"{'sliver': 'lab_web'}")
        ticket = self.root / "ticket"
        words = ["ticket", "sign", "--trust", str(self.trust), str(record)]
        environ = dict(os.environ) | {"PYTHONPATH": "twistd_plugins"}
        program = [sys.executable, "clients/bin/hostline", *words]
        here = Path(__file__).parents[1]
        with ticket.open("wb") as file:
            subprocess.run(program, stdout=file, check=True, env=environ, cwd=here, timeout=60)
        done = subprocess.run(
            ["openssl", "cms", "-verify", "-inform", "PEM", "-in", str(ticket), "-CAfile", str(self.trust / "ca.pem")],
            capture_output=True,
            check=True,
            timeout=60,
        )
        self.assertEqual(done.stdout, record.read_bytes())

    def test_words(self) -> None:
        """
        What makes no sense is wrong usage.
        """
        for words in (["sign"], ["sign", "a", "b"], ["sign", "/nowhere"], ["sign", "--nope", "x"], ["sign", "--key"]):
            self.assertEqual(main.run(["ticket", *words]), 2, words)
