"""
What a client knows of certificates without the package that reads them, beside what that package says.
"""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.clients.certificates import Certificate, Unreadable, blocks, first, revoked
from tests.certificates import DAY, Authority, Signed

CA = Authority()
ONE = CA.sign("one.example.org")
CRL = CA.revoke(*(CA.sign("x", number=number) for number in range(1, 300)), ONE)


class CertificateTests(SynchronousTestCase):
    """
    A certificate's times and number.
    """

    def check(self, one: Signed) -> None:
        """
        It reads as cryptography reads it.
        """
        read = Certificate(one.der)
        self.assertEqual(int.from_bytes(read.number, "big"), one.certificate.serial_number)
        self.assertEqual(read.begins, one.certificate.not_valid_before_utc.timestamp())
        self.assertEqual(read.ends, one.certificate.not_valid_after_utc.timestamp())

    def test_times(self) -> None:
        """
        Also before 1970, and after 2049, where they are written in another way.
        """
        now = time.time()
        for begins, ends in ((-3600, DAY), (-now - 10 * 365 * DAY, -DAY), (0, 9000 * DAY), (9000 * DAY, 400000 * DAY)):
            self.check(CA.sign("a.example.org", begins_s=begins, ends_s=ends))
        self.check(CA)

    def test_renewal(self) -> None:
        """
        It is due after two thirds of the life.
        """
        read = Certificate(CA.sign("a", begins_s=-60, ends_s=30).der)
        self.assertAlmostEqual(read.renew_at, read.begins + 60, delta=1)

    def test_pem(self) -> None:
        """
        The first of a chain counts, whatever stands before it.
        """
        self.assertEqual(first(b"text\n" + ONE.key_pem + ONE.pem + CA.pem).number, Certificate(ONE.der).number)
        self.assertEqual(len(blocks(ONE.pem + CA.pem, b"CERTIFICATE")), 2)
        for text in (b"", ONE.key_pem, ONE.pem[:-40], ONE.pem.replace(b"M", b"!"), ONE.pem[:200] + ONE.pem[260:]):
            self.assertRaises(Unreadable, first, text)

    @given(st.binary(max_size=60), st.integers(0, 700), st.integers(0, 60))
    def test_garbage(self, noise: bytes, at: int, cut: int) -> None:
        """
        What is none is said to be none.
        """
        for der in (noise, ONE.der[:at] + noise + ONE.der[at + cut :], ONE.der[:at]):
            try:
                Certificate(der)
            except Unreadable:
                pass


class RevokedTests(SynchronousTestCase):
    """
    Lists of revoked certificates.
    """

    def test_listed(self) -> None:
        """
        Those in the list of who signed them, and no others.
        """
        self.assertTrue(revoked(Certificate(ONE.der), CRL))
        for number, wanted in ((1, True), (128, True), (299, True), (300, False), (65536, False)):
            one = Certificate(CA.sign("x", number=number).der)
            self.assertEqual(revoked(one, CRL), wanted, number)
        self.assertFalse(revoked(Certificate(CA.sign("x").der), CRL))
        self.assertFalse(revoked(Certificate(Authority("other").sign("x", number=5).der), CRL))
        self.assertTrue(revoked(Certificate(ONE.der), Authority("other").revoke() + CRL))
        self.assertFalse(revoked(Certificate(ONE.der), CA.revoke()))

    def test_old(self) -> None:
        """
        What was taken back stays so when the list is old.
        """
        self.assertTrue(revoked(Certificate(ONE.der), CA.revoke(ONE, begins_s=-2 * DAY, ends_s=-DAY)))

    def test_garbage(self) -> None:
        """
        A list that is cut off is none.
        """
        self.assertRaises(Unreadable, revoked, Certificate(ONE.der), CRL[:-60])
