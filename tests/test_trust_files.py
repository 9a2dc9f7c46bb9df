"""
The directory of trust, as others may have left it.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.trust.files import BadTrust, NotThere, Trust
from tests.certificates import Authority
from tests.needs import needs_root


class TrustTests(SynchronousTestCase):
    """
    One directory.
    """

    def setUp(self) -> None:
        self.trust = Trust(Path(self.mktemp()))
        self.trust.make()

    def test_keepsWhatIsWritten(self) -> None:
        """
        What was written is read again, and is nobody else's business.
        """
        self.trust.write("key.pem", b"secret")
        self.assertEqual(self.trust.read("key.pem"), b"secret")
        self.assertEqual(self.trust.key.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.trust.directory.stat().st_mode & 0o777, 0o700)
        self.assertEqual([one.name for one in self.trust.directory.iterdir()], ["key.pem"])

    def test_tidiesUp(self) -> None:
        """
        What a crash left of a key that was being written does not stay there.
        """
        self.trust.write("key.pem", b"secret")
        (self.trust.directory / ".key.pem.next.fresh").write_bytes(b"sec")
        self.trust.tidy()
        self.assertEqual([one.name for one in self.trust.directory.iterdir()], ["key.pem"])

    def test_namesWhatIsMissing(self) -> None:
        """
        What has to be there is named; a list of revoked certificates need not be.
        """
        self.assertEqual(self.trust.missing(), ["ca.pem", "cert.pem", "key.pem"])
        self.trust.write("cert.pem", b"x")
        self.assertEqual(self.trust.missing(), ["ca.pem", "key.pem"])

    def test_saysWhichFileIsNotThere(self) -> None:
        """
        A missing file is told by its path.
        """
        self.assertIn(str(self.trust.ca), str(self.assertRaises(NotThere, self.trust.read, "ca.pem")))

    def test_refusesAKeyOthersMayRead(self) -> None:
        """
        A key that was copied with the usual mode is not used: somebody may have it.
        """
        self.trust.write("key.pem", b"secret", 0o640)
        self.assertIn("chmod go=", str(self.assertRaises(BadTrust, self.trust.read, "key.pem")))

    def test_refusesWhatOthersMayWrite(self) -> None:
        """
        An authority that others may replace is none.
        """
        self.trust.write("ca.pem", b"public", 0o644)
        self.assertEqual(self.trust.read("ca.pem"), b"public")
        self.trust.write("ca.pem", b"public", 0o664)
        self.assertRaises(BadTrust, self.trust.read, "ca.pem")

    def test_refusesADirectoryOthersMayWrite(self) -> None:
        """
        Nor is anything believed in a directory where others may put files.
        """
        self.trust.write("ca.pem", b"public")
        self.trust.directory.chmod(0o777)
        self.assertIn("want that nobody else", str(self.assertRaises(BadTrust, self.trust.read, "ca.pem")))

    @needs_root
    def test_refusesAnothersFile(self) -> None:
        """
        Nor a file that belongs to somebody else.
        """
        self.trust.write("cert.pem", b"public")
        os.chown(self.trust.certificate, 54321, -1)
        self.assertIn("uid 54321", str(self.assertRaises(BadTrust, self.trust.read, "cert.pem")))

    def test_followsNoLink(self) -> None:
        """
        A link, a directory or a pipe is no file of trust, and nobody waits for it.
        """
        (self.trust.directory / "elsewhere").write_bytes(b"x")
        self.trust.ca.symlink_to("elsewhere")
        self.trust.certificate.mkdir()
        os.mkfifo(self.trust.crl, 0o600)
        for name in ("ca.pem", "cert.pem", "crl.pem"):
            self.assertIn("plain file", str(self.assertRaises(BadTrust, self.trust.read, name)))

    def test_refusesAnEmptyFile(self) -> None:
        """
        What a full disk made of somebody's copy is told as what it is.
        """
        self.trust.write("ca.pem", b"")
        self.assertIn("empty", str(self.assertRaises(BadTrust, self.trust.read, "ca.pem")))

    def test_noticesWhatWasWritten(self) -> None:
        """
        Every file that is written, comes or goes changes the stamp; looking does not.
        """
        stamps = [self.trust.stamp()]
        self.trust.write("ca.pem", b"1")
        stamps.append(self.trust.stamp())
        self.trust.write("ca.pem", b"2")
        stamps.append(self.trust.stamp())
        self.trust.ca.unlink()
        self.assertEqual(len({*stamps}), 3)
        self.assertEqual(self.trust.stamp(), stamps[0])

    def test_settledMeanwhile(self) -> None:
        """
        Whoever settles while a pair is being written does it no harm, whatever he finds.
        """
        authority = Authority()
        old, new = authority.sign("a.example"), authority.sign("a.example")
        self.trust.write_pair(old.pem, old.key_pem)
        flush = self.trust.flush

        def flush_and_settle() -> None:
            self.trust.flush = flush  # type: ignore[method-assign]
            flush()
            self.trust.settle()

        self.trust.flush = flush_and_settle  # type: ignore[method-assign]
        self.trust.write_pair(new.pem, new.key_pem)
        self.assertEqual((self.trust.read("cert.pem"), self.trust.read("key.pem")), (new.pem, new.key_pem))

    def test_endsWhatACrashLeft(self) -> None:
        """
        A new certificate and its key come in force together, wherever writing them was cut off.
        """
        authority = Authority()
        old, new = authority.sign("a.example"), authority.sign("a.example")
        self.trust.write_pair(old.pem, old.key_pem)
        (self.trust.directory / "key.pem.next").write_bytes(new.key_pem)  # cut off before the certificate
        (self.trust.directory / "key.pem.next").chmod(0o600)
        self.trust.settle()
        self.assertEqual((self.trust.read("cert.pem"), self.trust.read("key.pem")), (old.pem, old.key_pem))
        self.assertFalse(self.trust.has("key.pem.next"))
        self.trust.write("key.pem.next", new.key_pem)  # cut off behind it
        self.trust.write("cert.pem", new.pem)
        self.trust.settle()
        self.assertEqual((self.trust.read("cert.pem"), self.trust.read("key.pem")), (new.pem, new.key_pem))
        self.assertFalse(self.trust.has("key.pem.next"))
