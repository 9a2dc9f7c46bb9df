"""
Tests for L{hostline.server.trust.csr}.
"""

from __future__ import annotations

import base64
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadValue
from hostline.server.trust.csr import LONGEST, read_request
from tests.authorities import request

_KEY = ec.generate_private_key(ec.SECP256R1())
GOOD = request(_KEY)
DER = x509.load_pem_x509_csr(GOOD.encode()).public_bytes(Encoding.DER)
#: Where what is signed ends. (Of the signature itself one byte may be altered now and then: if its last bits are zeros,
#: how many of them count.)
SIGNED = DER.index(bytes.fromhex("300a06082a8648ce3d040302"))


def pem(der: bytes, label: str = "CERTIFICATE REQUEST") -> str:
    text = base64.encodebytes(der).decode("ascii")
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"


def nested(depth: int) -> bytes:
    """
    SEQUENCEs in one another, of a length that is not said.
    """
    return b"\x30\x80" * depth + b"\x00\x00" * depth


class KeysTests(SynchronousTestCase):
    """
    For which keys a certificate may be had.
    """

    def test_good(self) -> None:
        """Keys of the curves that all know, Ed25519, and RSA of a size that is safe and not too big."""
        for key, hash in (
            (_KEY, hashes.SHA256),
            (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384),
            (ec.generate_private_key(ec.SECP521R1()), hashes.SHA512),
            (ed25519.Ed25519PrivateKey.generate(), None),
            (rsa.generate_private_key(65537, 2048), hashes.SHA256),
        ):
            body = read_request(request(key, hash=hash))
            self.assertEqual(load_pem_public_key(body["key"].encode()), key.public_key())

    def test_refused(self) -> None:
        """Other curves, other kinds of key, RSA that is weak, or so big that to look at it takes long."""
        for key, hash in (
            (ec.generate_private_key(ec.SECP256K1()), hashes.SHA256),
            (ec.generate_private_key(ec.SECP224R1()), hashes.SHA256),
            (ed448.Ed448PrivateKey.generate(), None),
            (dsa.generate_private_key(2048), hashes.SHA256),
            (rsa.generate_private_key(65537, 1024), hashes.SHA256),
            (rsa.generate_private_key(3, 2048), hashes.SHA256),
        ):
            text = request(key, hash=hash)
            self.assertIn("want a key on", self.assertRaises(BadValue, read_request, text).message)

    def test_bigRsa(self) -> None:
        """RSA above the bound is refused before its signature is looked at."""
        numbers = rsa.RSAPublicNumbers(65537, (1 << 8191) + 1).public_key()
        other = numbers.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.assertIn("want a key on", self.refusal(pem(swapped(other))))

    def test_somebodyElsesKey(self) -> None:
        """A request for a key that whoever asks does not have is refused: it cannot be signed by it."""
        other = ec.generate_private_key(ec.SECP256R1()).public_key()
        der = swapped(other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        self.assertIn("signed by the key", self.refusal(pem(der)))

    def test_noSignature(self) -> None:
        """So is one whose signature is of another kind than its key."""
        der = swapped(x25519.X25519PrivateKey.generate().public_key().public_bytes(_DER, _SPKI))
        self.assertIn("want a key on", self.refusal(pem(der)))
        der = swapped(ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(_DER, _SPKI))
        self.assertIn("signed by the key", self.refusal(pem(der)))

    def refusal(self, text: Any) -> str:
        return str(self.assertRaises(BadValue, read_request, text).message)


class FormTests(SynchronousTestCase):
    """
    What is a request at all.
    """

    def test_label(self) -> None:
        """Both names that there are for it in PEM are taken, blanks around it too."""
        for text in (GOOD, "\n " + GOOD + " \n", pem(DER, "NEW CERTIFICATE REQUEST"), GOOD.replace("\n", "\r\n")):
            self.assertIn("BEGIN PUBLIC KEY", read_request(text)["key"])

    def test_wrong(self) -> None:
        """Everything else is refused in words: nothing, two, something before or behind, another thing in PEM."""
        for text in (
            "", None, 7, [GOOD], GOOD * 2, "x" + GOOD, GOOD + "x", pem(DER, "CERTIFICATE"), pem(b""), pem(DER[:-1]),
            pem(DER + b"\x00"), pem(DER + DER), pem(nested(4000)), pem(b"\x30\x84\x7f\xff\xff\xff" + DER),
            GOOD.replace("-----END", "="), GOOD + " " * LONGEST, "-----BEGIN CERTIFICATE REQUEST-----",
        ):  # fmt: skip
            self.assertRaises(BadValue, read_request, text)

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, SIGNED - 1), st.integers(1, 255))
    @example(9, 1)
    def test_alteredByte(self, at: int, by: int) -> None:
        """Whichever byte is altered of what is signed, or before it, the request is refused."""
        der = bytearray(DER)
        der[at] ^= by
        self.assertRaises(BadValue, read_request, pem(bytes(der)))

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=600) | st.text(max_size=600) | st.integers())
    @example(b"\x30\x80" * 1000)
    def test_garbage(self, data: Any) -> None:
        """Whatever comes is refused, and never is anything else raised."""
        self.assertRaises(BadValue, read_request, pem(data) if isinstance(data, bytes) else data)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, SIGNED), st.integers(0, SIGNED), st.binary(max_size=40))
    def test_spliced(self, start: int, end: int, by: bytes) -> None:
        """A part that is replaced by other bytes, or left out, makes it no request, or not that of the key."""
        der = DER[: min(start, end)] + by + DER[max(start, end) :]
        if der != DER:
            self.assertRaises(BadValue, read_request, pem(der))


def swapped(spki: bytes) -> bytes:
    """
    @return: the good request with another key in it, its lengths set right.
    """
    own = _KEY.public_key().public_bytes(_DER, _SPKI)
    info, rest = _inside(_inside(DER)[0] + _inside(DER)[1])
    return _sequence(_sequence(info.replace(own, spki)) + rest)


def _inside(der: bytes) -> tuple[bytes, bytes]:
    """
    @return: what is in the first SEQUENCE, and what is behind it.
    """
    begins = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
    size = int.from_bytes(der[2:begins], "big") if begins > 2 else der[1]
    return der[begins : begins + size], der[begins + size :]


def _sequence(content: bytes) -> bytes:
    size = len(content)
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return b"\x30" + (bytes([size]) if size < 0x80 else bytes([0x80 | len(digits)]) + digits) + content


_DER, _SPKI = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
