"""
Lists of what is revoked, from those who may say so and from others.
"""

from __future__ import annotations

import time

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.trust.files import BadTrust
from hostline.server.trust.revoked import Revoked, read_lists
from tests.certificates import DAY, Authority, Signed


class RevokedTests(SynchronousTestCase):
    """
    A site, and another authority that we believe.
    """

    site, other = Authority("site"), Authority("other")

    def read(self, data: bytes) -> Revoked:
        return read_lists(data, [self.site.certificate, self.other.certificate], "crl.pem")

    def bad(self, data: bytes) -> str:
        return str(self.assertRaises(BadTrust, self.read, data))

    def issued(self, signed: Signed) -> tuple[str, int]:
        return signed.certificate.issuer.rfc4514_string(), signed.certificate.serial_number

    def test_says(self) -> None:
        """
        What stands there is revoked, and nothing else.
        """
        gone, stays = self.site.sign("a.example"), self.site.sign("b.example")
        revoked = self.read(self.site.revoke(gone))
        self.assertIn(self.issued(gone), revoked)
        self.assertNotIn(self.issued(stays), revoked)
        self.assertEqual([(one.issuer, one.count) for one in revoked.lists], [("CN=site", 1)])

    def test_several(self) -> None:
        """
        One file may have the lists of several authorities, one after the other.
        """
        mine, theirs = self.site.sign("a.example"), self.other.sign("b.example")
        revoked = self.read(b"# both\n" + self.site.revoke(mine) + b"\n" + self.other.revoke(theirs))
        self.assertTrue(self.issued(mine) in revoked and self.issued(theirs) in revoked)

    def test_nobodyRevokesForOthers(self) -> None:
        """
        An authority takes back only what it gave.
        """
        mine = self.site.sign("a.example")
        self.assertNotIn(self.issued(mine), self.read(self.other.revoke(mine)))

    def test_signedByOthers(self) -> None:
        """
        A list of an authority that only has the same name, of one that is unknown, or of somebody who is none, is bad,
        and with it the whole file.
        """
        self.assertIn("none of our authorities", self.bad(Authority("site").revoke()))
        self.assertIn("none of our authorities", self.bad(Authority("else").revoke()))
        ann = self.site.sign("a.example", common_name="ann")
        forged = Authority("ann")
        forged.certificate, forged.key = ann.certificate, ann.key
        self.assertIn("none of our authorities", self.bad(forged.revoke()))
        self.assertIn("none of our authorities", self.bad(self.site.revoke() + Authority("site").revoke()))

    def test_altered(self) -> None:
        """
        One byte more or less makes it bad.
        """
        pem = self.site.revoke(self.site.sign("a.example"))
        lines = pem.splitlines()
        swapped = lines[3].swapcase()
        self.assertIn("cannot be used", self.bad(b"\n".join([*lines[:3], swapped, *lines[4:]])))
        self.assertIn("in PEM", self.bad(pem[:-10]))
        self.assertIn("in PEM", self.bad(b"x"))
        self.assertIn("in PEM", self.bad(self.site.pem))

    def test_overdue(self) -> None:
        """
        A list whose successor is late still says what is revoked, and can be told from others.
        """
        gone = self.site.sign("a.example")
        late = self.read(self.site.revoke(gone, begins_s=-2 * DAY, ends_s=-DAY) + self.other.revoke())
        self.assertIn(self.issued(gone), late)
        self.assertEqual([one.issuer for one in late.overdue(time.time())], ["CN=site"])
        self.assertEqual(late.overdue(time.time() - 1.5 * DAY), [])

    def test_partsOfLists(self) -> None:
        """
        What only says the changes, or speaks of others' certificates, is not taken for a whole list.
        """
        now = self.site.certificate.not_valid_before_utc
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.site.certificate.subject)
        builder = builder.last_update(now).add_extension(x509.DeltaCRLIndicator(1), critical=True)
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding

        signed = builder.next_update(now.replace(year=now.year + 1)).sign(self.site.key, hashes.SHA256())
        self.assertIn("critical", self.bad(signed.public_bytes(Encoding.PEM)))
