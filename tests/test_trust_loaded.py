"""
What the files of trust say together.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.trust.files import BadTrust, NotThere, Trust
from hostline.server.trust.loaded import Loaded, findings, load
from tests.certificates import DAY, Authority, Signed


class LoadTests(SynchronousTestCase):
    """
    One directory, good at first.
    """

    def setUp(self) -> None:
        self.site = Authority("site")
        self.own = self.site.sign("host.example")
        self.trust = Trust(Path(self.mktemp()))
        self.own.write(self.trust.directory, self.site.pem)

    def load(self, before: Loaded | None = None, **files: str) -> Loaded:
        return load(self.trust, before=before, **files)

    def bad(self, before: Loaded | None = None, **files: str) -> str:
        return str(self.assertRaises(BadTrust, self.load, before, **files))

    def issued(self, signed: Signed) -> tuple[str, int]:
        return signed.certificate.issuer.rfc4514_string(), signed.certificate.serial_number

    def test_good(self) -> None:
        """
        Who comes must show a certificate, except at the port for enrolling; nothing older than TLS 1.2 is spoken.
        """
        loaded = self.load()
        self.assertEqual(loaded.names, ("host.example",))
        self.assertEqual(loaded.context.verify_mode, ssl.CERT_REQUIRED)
        self.assertEqual(loaded.enrol.verify_mode, ssl.CERT_NONE)
        for context in (loaded.context, loaded.enrol):
            self.assertEqual(context.minimum_version, ssl.TLSVersion.TLSv1_2)
            self.assertEqual(context.num_tickets, 0)
            for option in (ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_TICKET):
                self.assertTrue(context.options & option)
        self.assertEqual(loaded.notes, ())
        self.assertTrue(all(ok for _, ok, _, _ in findings(loaded, loaded.begins + 1)))

    def test_missing(self) -> None:
        """
        Each file that has to be there is named when it is not.
        """
        for name in ("ca.pem", "cert.pem", "key.pem"):
            kept = self.trust.read(name)
            (self.trust.directory / name).unlink()
            self.assertIn(name, str(self.assertRaises(NotThere, self.load)))
            self.trust.write(name, kept)

    def test_keyOfAnother(self) -> None:
        """
        A key that is not the certificate's is told as that.
        """
        self.trust.write("key.pem", self.site.sign("x.example").key_pem)
        self.assertIn("KEY_VALUES_MISMATCH", self.bad())

    def test_encryptedKey(self) -> None:
        """
        A key with a password is refused; nobody is asked for it.
        """
        encryption = BestAvailableEncryption(b"secret")
        pem = self.own.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        self.trust.write("key.pem", pem)
        self.assertIn("not encrypted", self.bad())

    def test_cutOff(self) -> None:
        """
        A new certificate whose key waits beside it, as a crash leaves them, is brought together.
        """
        new = self.site.sign("new.example")
        self.trust.write("key.pem.next", new.key_pem)
        self.trust.write("cert.pem", new.pem)
        self.assertEqual(self.load().names, ("new.example",))
        self.assertEqual(self.trust.read("key.pem"), new.key_pem)

    def test_anothersCertificate(self) -> None:
        """
        A certificate of an authority that we do not believe ourselves is shown, but doctor tells.
        """
        Authority("else").sign("host.example").write(self.trust.directory)
        loaded = self.load()
        self.assertIn("not signed by an authority that we believe", loaded.notes[0])
        self.assertFalse(findings(loaded, loaded.begins + 1)[0][1])

    def test_listComesAndGoes(self) -> None:
        """
        What a list said stays so when it is gone, late or spoilt; a good new one rules.
        """
        gone = self.site.sign("a.example")
        self.trust.write("crl.pem", self.site.revoke(gone))
        loaded = self.load(self.load())
        self.assertIn(self.issued(gone), loaded.revoked)
        self.trust.crl.unlink()
        without = self.load(loaded)
        self.assertIn(self.issued(gone), without.revoked)
        self.assertIn("still believed", without.notes[0])
        self.trust.write("crl.pem", b"spoilt")
        self.assertIn(self.issued(gone), self.load(without).revoked)
        self.trust.write("crl.pem", self.site.revoke())
        anew = self.load(without)
        self.assertEqual((self.issued(gone) in anew.revoked, anew.notes), (False, ()))

    def test_listThatWasNeverGood(self) -> None:
        """
        With a list that says nobody knows what, nobody is let in; without any, all are.
        """
        self.assertEqual(self.load().revoked.lists, ())
        self.trust.write("crl.pem", Authority("site").revoke())
        self.assertIn("none of our authorities", self.bad())

    def test_furtherAuthorities(self) -> None:
        """
        Others are believed beside the site's own, and their list has to be there.
        """
        other = Authority("other")
        roots, crl = Path(self.mktemp()), Path(self.mktemp())
        roots.write_bytes(other.pem)
        self.assertEqual(len(self.load(roots_file=str(roots)).authorities), 2)
        self.assertIn(str(crl), self.bad(roots_file=str(roots), crl_file=str(crl)))
        gone = other.sign("a.example")
        crl.write_bytes(other.revoke(gone))
        self.assertIn(self.issued(gone), self.load(roots_file=str(roots), crl_file=str(crl)).revoked)
        self.assertIn("none of our authorities", self.bad(crl_file=str(crl)))
        roots.chmod(0o666)
        self.assertIn("nobody else may write", self.bad(roots_file=str(roots)))

    def test_doctorTellsOfTime(self) -> None:
        """
        A certificate near its end, an authority that has ended and a list that is late are told.
        """
        self.trust.write("crl.pem", self.site.revoke(ends_s=DAY / 2))
        loaded = self.load()
        for when, wrong in (
            (loaded.begins + 60, []),
            (loaded.begins - 60, ["tls certificate"]),
            (loaded.ends - 600, ["tls certificate", "tls revocations"]),
            (loaded.authorities_end + 60, ["tls certificate", "tls authorities", "tls revocations"]),
        ):
            self.assertEqual([check for check, ok, _, _ in findings(loaded, when) if not ok], wrong)
