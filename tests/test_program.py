"""
Tests for L{hostline.server.trust.program}: C{hostline-pki}.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.trust import program, signing
from hostline.server.trust.csr import read_request

ROOT = Path(__file__).parents[1]


class _WithFiles(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(0o700)

    def run_program(self, *words: str | Path, given: bytes = b"") -> tuple[int, str, str]:
        """
        @return: exit status, standard output and standard error.
        """
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = program.run([str(one) for one in words])
            except SystemExit as end:
                status = int(end.code or 0)
        return status, out.getvalue(), err.getvalue()

    def refused(self, *words: str | Path, given: bytes = b"x") -> str:
        status, out, err = self.run_program(*words, given=given)
        self.assertEqual((status, out), (1, ""))
        self.assertRegex(err, r"\Ahostline-pki: [^\n]+\n\Z")
        return err


class RequestTests(_WithFiles):
    """
    C{hostline-pki request}.
    """

    def test_request(self) -> None:
        """A key of our own is there, which nobody else can read, and a request that it has signed, of these names."""
        place = self.directory / "new"
        status, out, err = self.run_program("request", "Web.example.org", "urn:site:user:ann", "--directory", place)
        self.assertEqual((status, err), (0, ""))
        key = load_pem_private_key((place / "key.pem.new").read_bytes(), None)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
        self.assertEqual(read_request(out)["key"], public)
        san = x509.load_pem_x509_csr(out.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual([one.value for one in san], ["web.example.org", "urn:site:user:ann"])
        modes = [one.stat().st_mode & 0o777 for one in (place, place / "key.pem.new")]
        self.assertEqual((modes, len(list(place.iterdir()))), ([0o700, 0o600], 1))

    def test_again(self) -> None:
        """Each time there is another key; the one that is in use is left alone."""
        (self.directory / "key.pem").write_text("mine")
        keys = set()
        for _ in range(2):
            self.run_program("request", "a.example.org", "--directory", self.directory)
            keys.add((self.directory / "key.pem.new").read_bytes())
        self.assertEqual((len(keys), (self.directory / "key.pem").read_text()), (2, "mine"))

    def test_refused(self) -> None:
        """What is no name, and a directory where others write, are refused, and no key is made."""
        self.assertIn("want a DNS name", self.refused("request", "1.2.3.4", "--directory", self.directory))
        self.directory.chmod(0o777)
        self.refused("request", "a.example.org", "--directory", self.directory)
        self.refused("request", "a.example.org", "--directory", self.directory / "a" / "b")
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_link(self) -> None:
        """A key is never written through a link that somebody laid."""
        (self.directory / "key.pem.new").symlink_to(self.directory / "other")
        self.run_program("request", "a.example.org", "--directory", self.directory)
        self.assertFalse((self.directory / "other").exists())
        self.assertFalse((self.directory / "key.pem.new").is_symlink())


class TicketTests(_WithFiles):
    """
    C{hostline-pki ticket}; whether C{openssl} takes it is asked in tests/live.
    """

    def setUp(self) -> None:
        super().setUp()
        self.authority = signing.new_authority("h1", time.time(), 86400)
        self.certificate, self.key = self.signer("ticket")

    def signer(self, purpose: str, life_s: float = 3600, ago_s: float = 0) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
        found = signing.sign(self.authority, public, ["urn:site:x"], purpose, life_s, time.time() - ago_s)
        paths = self.directory / f"{purpose}.pem", self.directory / f"{purpose}.key"
        paths[0].write_bytes(found.public_bytes(Encoding.PEM))
        paths[1].write_bytes(signing.key_pem(key))
        return paths

    def words(self, **other: Any) -> list[str]:
        found = {"certificate": self.certificate, "key": self.key, **other}
        return ["ticket", *(one for name, path in found.items() for one in (f"--{name}", str(path)))]

    def test_ticket(self) -> None:
        """The ticket is CMS in PEM that has the record as it was, and the signer's certificate; no root."""
        chain = self.directory / "chain.pem"
        chain.write_bytes(self.authority.pem)
        status, out, err = self.run_program(*self.words(chain=chain), given=b"record\r\n\xff\n")
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(out, r"\A-----BEGIN CMS-----\n[A-Za-z0-9+/=\n]+-----END CMS-----\n\Z")
        der = base64.b64decode("".join(out.splitlines()[1:-1]))
        self.assertIn(b"record\r\n\xff\n", der)
        found = load_der_pkcs7_certificates(der)
        self.assertEqual([one.public_bytes(Encoding.PEM) for one in found], [self.certificate.read_bytes()])

    def test_refused(self) -> None:
        """What no daemon would take is not signed: a key of another, or for another purpose, or one that expired."""
        host, host_key = self.signer("host")
        self.assertIn("another one", self.refused(*self.words(key=host_key)))
        self.assertIn("not for tickets", self.refused(*self.words(certificate=host, key=host_key)))
        late, late_key = self.signer("ticket", 10, 20)
        self.assertIn("expired", self.refused(*self.words(certificate=late, key=late_key)))

    def test_files(self) -> None:
        """Files that are not there, that are no PEM, or have a passphrase are told of by the option."""
        secret = load_pem_private_key(self.key.read_bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
        )
        files = {"nothing": None, "garbage": b"\xff", "locked": secret, "big": b"x" * (2 << 20)}
        for name, data in files.items():
            path = self.directory / name
            if data is not None:
                path.write_bytes(data)
            for option in ("certificate", "key", "chain"):
                self.assertIn(f"--{option}: ", self.refused(*self.words(**{option: path})))

    def test_damaged(self) -> None:
        """Whichever byte of the certificate is another, there is a ticket or one line that says why not."""
        good = x509.load_pem_x509_certificate(self.certificate.read_bytes()).public_bytes(Encoding.DER)
        damaged, random_ = self.directory / "damaged.pem", random.Random(7)
        for at in range(0, len(good), 3):
            der = bytearray(good)
            der[at] ^= random_.choice((1, 2, 0x20, 0x80, 0xFF))
            text = base64.encodebytes(bytes(der)).decode("ascii")
            damaged.write_text(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")
            status, out, err = self.run_program(*self.words(certificate=damaged), given=b"x")
            self.assertEqual((status, out == "", err.count("\n")), (1, True, 1) if status else (0, False, 0), (at, err))

    def test_records(self) -> None:
        """Nothing at all is not signed, nor what makes too big a ticket."""
        for record in (b"", b" \n", b"x" * 65537, b"x" * 60000):
            self.refused(*self.words(), given=record)


class ProgramTests(_WithFiles):
    """
    The program itself.
    """

    def test_usage(self) -> None:
        """Wrong usage is told, with exit status 2."""
        for words in ([], ["sign"], ["request"], ["request", "a"], ["ticket"], ["request", "a", "--dir", "x"]):
            status, _, err = self.run_program(*words)
            self.assertEqual((status, "usage:" in err), (2, True), words)

    def test_withoutCryptography(self) -> None:
        """Where cryptography is missing one clear line says so, with exit status 2, and nothing is made."""
        status, out, err = self.isolated("import sys; sys.modules['cryptography'] = None")
        self.assertEqual((status, out), (2, ""))
        self.assertRegex(err, r"\Ahostline-pki: want the Python package cryptography[^\n]+\n\Z")
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_needsNoTwisted(self) -> None:
        """It works, and begins soon, where nothing of Twisted is installed."""
        status, out, err = self.isolated("import sys; sys.modules['twisted'] = sys.modules['attrs'] = None")
        self.assertEqual((status, err), (0, ""))
        self.assertIn("BEGIN CERTIFICATE REQUEST", out)

    def isolated(self, before: str) -> tuple[int, str, str]:
        code = f"{before}; from hostline.server.trust.program import main; main()"
        words = ["request", "a.example.org", "--directory", str(self.directory.absolute())]
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env={"PYTHONPATH": str(ROOT / "twistd_plugins"), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr
