"""
Signed tickets: what OpenSSL signs is read, and whatever is not exactly right is refused with its own reason.

tests/tickets has tickets made by the real C{openssl}; make.sh there tells how.
"""

from __future__ import annotations

import base64
import random
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyasn1.codec.der import encoder  # type: ignore[import-untyped]
from pyasn1.type import univ  # type: ignore[import-untyped]
from pyasn1_modules import rfc5652  # type: ignore[import-untyped]
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadTicket, OperationFailed
from hostline.server.slivers.cms import LONGEST, unarmoured
from hostline.server.slivers.der import DEPTH, NotDer, walk
from hostline.server.slivers.signed_ticket import read_ticket
from hostline.server.trust import signing
from hostline.server.trust.program import signed_ticket
from tests.certificates import CLIENT, DAY, EMAIL, SERVER, Authority, Signed, self_signed
from tests.scale import scaled
from tests.ticketing import DIGEST, FOR_SIGNATURES, KEY, SIGNED, TIME, TYPE, cms, signer, text, wrapped, written

_TICKETS = Path(__file__).with_name("tickets")
_ROOT = (_TICKETS / "root.pem").read_text()
#: When the tickets there are read: in their time, and in that of their certificates.
NOW = 1796083300.0
RECORD = {
    "sliver": "lab_web",
    "kind": "process",
    "rspec": {"cpu_share": 64},
    "keys": [KEY],
    "hosts": ["*"],
    "not_before": 1796083200.0,
    "not_after": 1797000000.0,
    "number": "17",
}
_SHORT = written({"sliver": "lab_web", "hosts": ["*"], "not_before": 1, "not_after": 2, "number": 1})


def stored(name: str) -> str:
    """
    A ticket that OpenSSL made.
    """
    return (_TICKETS / f"{name}.cms").read_text()


def read(ticket: str, roots: str = _ROOT, revoked: str = "", now: float = NOW) -> dict[str, Any]:
    """
    What a ticket says.
    """
    return read_ticket({"text": ticket, "roots": roots, "revoked": revoked, "now": now})


def reason(ticket: str, roots: str = _ROOT, revoked: str = "", now: float = NOW) -> tuple[str, str]:
    """
    Why it is refused: the word, and the words; C{taken} if it is not.
    """
    try:
        read(ticket, roots, revoked, now)
    except BadTicket as error:
        return error.details["reason"], error.message
    return "taken", ""


class StoredTests(SynchronousTestCase):
    """
    What C{openssl cms} makes.
    """

    def test_taken(self) -> None:
        """
        Every plain way to sign is good: RSA, PSS, ECDSA, each digest, by key id, through an authority between.
        """
        for name in ("rsa", "sha512", "pss", "keyid", "ec", "p521", "chain", "text"):
            self.assertEqual(read(stored(name))["record"], RECORD, name)

    def test_signer(self) -> None:
        """
        One signer has one name and one mark, whatever the form of the signature; another has another.
        """
        rsa, pss, ec = (read(stored(name)) for name in ("rsa", "pss", "ec"))
        self.assertEqual((rsa["name"], ec["name"]), ("CN=rsa", "CN=ec"))
        self.assertEqual(rsa["signer"], pss["signer"])
        self.assertNotEqual(rsa["signer"], ec["signer"])
        self.assertEqual(len(rsa["signer"]), 64)

    def test_refused(self) -> None:
        """
        Everything else is refused, and why is said.
        """
        for name, word, message in (
            ("data", "unsigned", "plain data"),
            ("literal", "unsigned", "the record alone"),
            ("two", "signers", "want one signer, got 2"),
            ("resigned", "signers", "want one signer, got 2"),
            ("stranger", "root", "nobody whom this host believes vouches for the signer"),
            ("lonely", "root", "nobody whom this host believes vouches for the signer"),
            ("tls", "purpose", "CN=tls is for another purpose"),
            ("encrypts", "purpose", "CN=encrypts is not for signatures"),
            ("authority", "purpose", "CN=root is an authority's"),
            ("short", "algorithm", "RSA of 2048"),
            ("k256", "algorithm", "ECDSA on a NIST curve"),
            ("sha1", "algorithm", "got SHA-1"),
            ("md5", "algorithm", "got MD5"),
            ("weak", "algorithm", "CN=weak is signed by a weak algorithm"),
            ("noattr", "form", "want signed attributes"),
            ("nocerts", "form", "the signer's certificate"),
            ("stream", "form", "an indefinite length"),
            ("detached", "form", "detached"),
            ("digested", "form", "got digested data"),
            ("enveloped", "form", "got enveloped data"),
            ("nested", "form", "got CMS in CMS"),
            ("nested2", "form", "got CMS in CMS"),
        ):
            said, why = reason(stored(name))
            self.assertEqual((name, said), (name, word), why)
            self.assertIn(message, why, name)

    def test_time(self) -> None:
        """
        A signer whose certificate has expired, or is not valid yet, is refused.
        """
        self.assertEqual(reason(stored("ec"), now=NOW + 11 * 365 * DAY)[0], "expired")
        word, why = reason(stored("ec"), now=NOW - 60 * DAY)
        self.assertEqual(word, "expired")
        self.assertIn("not valid yet", why)

    def test_nobodyBelieved(self) -> None:
        """
        A host that believes nobody takes no ticket; what it believes must be readable.
        """
        self.assertEqual(reason(stored("ec"), roots="")[0], "root")
        for wrong in ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x"):
            self.assertRaises(OperationFailed, read, stored("ec"), wrong)
        self.assertRaises(OperationFailed, read, stored("ec"), _ROOT, "-----BEGIN X509 CRL-----\nAAAA")


class TextTests(SynchronousTestCase):
    """
    How a ticket is given.
    """

    def test_forms(self) -> None:
        """
        PEM of either name, with either line end and blanks around, or DER in base64 on as many lines as one likes.
        """
        pem = stored("ec")
        body = "".join(pem.splitlines()[1:-1])
        for form in (
            pem,
            pem.replace("CMS", "PKCS7"),
            pem.replace("\n", "\r\n"),
            f"\n  {pem}\n\n",
            body,
            body[:100] + "\n " + body[100:] + "\n",
        ):
            self.assertEqual(read(form)["record"], RECORD, form[:40])

    def test_smime(self) -> None:
        """
        As openssl writes it if nothing is said of the form, too; the record beside its signature is not in the ticket.
        """
        body = "\n".join(stored("ec").splitlines()[1:-1])
        kind = 'Content-Type: application/pkcs7-mime; smime-type=signed-data;\n name="smime.p7m"\n'
        form = f"MIME-Version: 1.0\n{kind}Content-Transfer-Encoding: base64\n\n{body}\n\n"
        self.assertEqual(read(form)["record"], RECORD)
        self.assertEqual(read(form.replace("\n", "\r\n"))["record"], RECORD)
        beside = form.replace("application/pkcs7-mime; smime-type=signed-data", "multipart/signed; boundary=x")
        self.assertIn("detached", reason(beside)[1])
        for wrong in (form.replace("pkcs7-mime", "octet-stream"), form.replace("\n\n", "\n"), form + "x"):
            self.assertEqual(reason(wrong)[0], "form", wrong[:80])

    def test_others(self) -> None:
        """
        Anything else is refused as no ticket.
        """
        pem = stored("ec")
        for form in (
            "",
            " ",
            "x",
            "====",
            pem + pem,
            "x" + pem,
            pem + "x",
            pem.replace("END CMS", "END PKCS7"),
            pem.replace("CMS", "CERTIFICATE"),
            pem.replace("CMS", "PGP MESSAGE"),
            pem.replace("-----BEGIN", "----BEGIN"),
            "-----BEGIN CMS-----\n-----END CMS-----\n",
            "-----BEGIN CMS-----\n\u00e9\ud800\n-----END CMS-----\n",
            "\u0660" * 100,
        ):
            self.assertEqual(reason(form)[0], "form", form[:40])

    def test_record(self) -> None:
        """
        A record that nobody signed is told so.
        """
        for form in (_SHORT.decode(), base64.b64encode(_SHORT).decode(), " \n{"):
            self.assertEqual(reason(form)[0], "unsigned", form)

    def test_size(self) -> None:
        """
        64 KiB are read, one byte more is not.
        """
        pem = stored("ec")
        self.assertEqual(reason(pem + "\n" * (LONGEST - len(pem)))[0], "taken")
        self.assertEqual(reason(pem + "\n" * (LONGEST - len(pem) + 1))[0], "size")
        self.assertEqual(reason("\u20ac" * (LONGEST // 3 + 1))[0], "size")

    @given(st.text(max_size=200))
    def test_anyText(self, said: str) -> None:
        """
        Whatever text it is, it is refused as a ticket, and nothing else comes of it.
        """
        self.assertNotEqual(reason(said)[0], "taken")


class AlteredTests(SynchronousTestCase):
    """
    A ticket that somebody had in his hands on the way.
    """

    def test_content(self) -> None:
        """
        Another amount in the record, another signature under it, another digest of it: altered.
        """
        der = bytearray(unarmoured(stored("ec")))
        at = der.index(b"64}")
        for place in (at, len(der) - 3):
            wrong = bytearray(der)
            wrong[place] ^= 1
            self.assertEqual(reason(text(bytes(wrong)))[0], "altered", place)

    def test_anyByte(self) -> None:
        """
        No byte of a ticket can be another one.
        """
        for name in ("ec", "pss", *scaled((), ("keyid", "chain", "rsa"))):
            der = unarmoured(stored(name))
            first = len(der) - 420 if name == "pss" else 0  # until there it is as the others
            for at in range(first, len(der)):
                wrong = bytearray(der)
                wrong[at] ^= 1 << at % 8
                self.assertNotEqual(reason(text(bytes(wrong)))[0], "taken", f"{name} {at}")

    @settings(max_examples=scaled(300, 3000), deadline=None)
    @given(
        st.sampled_from(["ec", "rsa", "keyid", "pss", "chain", "text"]),
        st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 255)), min_size=1, max_size=4),
    )
    def test_someBytes(self, name: str, changes: list[tuple[int, int]]) -> None:
        """
        Nor can several.
        """
        der = unarmoured(stored(name))
        wrong = bytearray(der)
        for at, change in changes:
            wrong[at % len(wrong)] ^= change
        if bytes(wrong) != der:
            self.assertNotEqual(reason(text(bytes(wrong)))[0], "taken")

    @settings(max_examples=scaled(200, 3000), deadline=None)
    @given(st.integers(0, 10**9), st.integers(0, 40), st.binary(max_size=40))
    @example(0, 0, b"\x00")
    def test_pieces(self, at: int, length: int, piece: bytes) -> None:
        """
        Nor can a piece be left out, put in or put in another's place.
        """
        der = unarmoured(stored("ec"))
        at %= len(der) + 1
        wrong = der[:at] + piece + der[at + length :]
        if wrong != der:
            self.assertNotEqual(reason(text(wrong))[0], "taken")

    def test_behind(self) -> None:
        """
        Nothing can be behind it.
        """
        der = unarmoured(stored("ec"))
        for more in (b"\x00", b"\x05\x00", der):
            self.assertEqual(reason(text(der + more))[0], "form")


class BombTests(SynchronousTestCase):
    """
    Bytes that were made to hurt.
    """

    def refused(self, der: bytes) -> str:
        """
        Why it is refused, which takes no time.
        """
        begun = time.process_time()
        word, why = reason(base64.b64encode(der).decode())
        self.assertLess(time.process_time() - begun, 1.0)
        self.assertIn(word, ("form", "algorithm"), why)
        return why

    def test_deep(self) -> None:
        """
        Elements in elements without end.
        """
        nested = b""
        for _ in range(8000):
            if len(nested) > 40000:
                break
            nested = b"\x30" + _length(len(nested)) + nested
        self.assertIn("deep", self.refused(nested))
        self.assertIn("deep", self.refused(wrapped(SIGNED, nested)))
        self.assertIn("indefinite", self.refused(b"\x30\x80" * 24000))
        self.assertIn("indefinite", self.refused(b"\xa0\x80" * 20000))

    def test_many(self) -> None:
        """
        More elements than any ticket has.
        """
        self.assertIn("elements", self.refused(_wrap(0x30, b"\x05\x00" * 20000)))
        self.assertIn("elements", self.refused(_wrap(0x31, b"\x30\x00" * 20000)))

    def test_lengths(self) -> None:
        """
        Lengths that are not there, not the shortest, or past the end.
        """
        for der, words in (
            (b"\x30\x84\xff\xff\xff\xff", "a length of 4 bytes"),
            (b"\x30\xff" + b"\xff" * 200, "a length of 127 bytes"),
            (b"\x30\x83\xff\xff\xff", "want 16777215 bytes"),
            (b"\x30\x81\x05" + b"\x05\x00" * 2 + b"\x00", "more bytes than it needs"),
            (b"\x30\x82\x00\x81" + b"\x00" * 129, "more bytes than it needs"),
            (b"\x30", "cut off"),
            (b"\x30\x82\x01", "a length of 2 bytes"),
            (b"\x30\x03\x02\x05\x01", "want 5 bytes, there are 1"),
            (b"\x1f\x81\x01\x00", "a tag of more than one byte"),
            (b"\x00\x00", "an end of contents"),
            (b"\x24\x04\x04\x02ab", "a value in pieces"),
            (b"\x10\x00", "a list that is none"),
        ):
            self.assertIn(words, self.refused(der))

    def test_numbers(self) -> None:
        """
        Numbers and identifiers as long as a ticket.
        """
        for tag in (0x02, 0x06):
            self.assertIn("at most", self.refused(_wrap(0x30, _wrap(tag, b"\xff" * 40000))))

    def test_big(self) -> None:
        """
        Values as long as a ticket, where they may be.
        """
        for tag in (0x03, 0x04, 0x09, 0x0C, 0x17, 0x80):
            self.refused(wrapped(SIGNED, _wrap(0x30, _wrap(tag, b"\x00" * 40000))))

    @settings(max_examples=scaled(300, 3000), deadline=None)
    @given(st.recursive(st.binary(max_size=8), lambda inner: st.lists(inner, max_size=4)), st.randoms())
    def test_anyTree(self, tree: Any, dice: random.Random) -> None:
        """
        Whatever DER it is, the walk over it ends well or says why not, and no ticket comes of it.
        """
        der = _tree(tree, dice)
        try:
            walk(der)
        except NotDer:
            pass
        for kind in (SIGNED, "1.2.840.113549.1.7.1"):
            self.assertNotEqual(reason(base64.b64encode(wrapped(kind, der)).decode())[0], "taken")

    @given(st.binary(max_size=300))
    def test_anyBytes(self, data: bytes) -> None:
        """
        Nor of any bytes.
        """
        self.assertNotEqual(reason(base64.b64encode(data).decode())[0], "taken")

    def test_depth(self) -> None:
        """
        The walk goes as deep as it says.
        """
        for depth in (DEPTH, DEPTH + 1):
            der = b"\x05\x00"
            for _ in range(depth):
                der = _wrap(0x30, der)
            if depth <= DEPTH:
                walk(der)
            else:
                self.assertRaises(NotDer, walk, der)


class PutTogetherTests(SynchronousTestCase):
    """
    Signatures that are right, in messages that are not.
    """

    def setUp(self) -> None:
        self.site = Authority()
        self.ann = signer(self.site)

    def made(self, content: bytes = _SHORT, by: Signed | None = None, **wrong: Any) -> tuple[str, str]:
        """
        Why a message is refused.
        """
        ticket = text(cms(content, by or self.ann, **wrong))
        return reason(ticket, self.site.pem.decode(), now=time.time())

    def test_good(self) -> None:
        """
        With nothing wrong it is taken; also with a time in it, which says nothing.
        """
        self.assertEqual(self.made()[0], "taken")
        self.assertEqual(self.made(attributes=[(TIME, [univ.Null("")])])[0], "taken")

    def test_ed25519(self) -> None:
        """
        A signature by Ed25519, which OpenSSL 3.0 cannot make, is as good as others.
        """
        key = ed25519.Ed25519PrivateKey.generate()
        its = self.site.sign(common_name="eve", purposes=(EMAIL,), more=[(FOR_SIGNATURES, True)], number=77)
        now = its.certificate.not_valid_before_utc
        builder = x509.CertificateBuilder(
            its.certificate.issuer,
            its.certificate.subject,
            key.public_key(),
            77,
            now,
            its.certificate.not_valid_after_utc,
        ).add_extension(FOR_SIGNATURES, True)
        good = Signed(builder.sign(self.site.key, hashes.SHA256()), its.key)
        self.assertEqual(self.made(by=good, key=key)[0], "taken")
        self.assertEqual(self.made(by=good, key=ed25519.Ed25519PrivateKey.generate())[0], "altered")
        self.assertEqual(self.made(by=self.ann, key=key)[0], "algorithm")

    def test_anothersSignature(self) -> None:
        """
        A signature by a key that is not the certificate's.
        """
        self.assertEqual(self.made(key=signer(self.site).key)[0], "altered")

    def test_attributes(self) -> None:
        """
        Type and digest of the content must be signed, each once, with one value.
        """
        kind, digest = rfc5652.ContentType("1.2.840.113549.1.7.1"), rfc5652.MessageDigest(b"x" * 32)
        for attributes, word, message in (
            ([(TYPE, [])], "form", "want the content's type"),
            ([(DIGEST, [])], "form", "want the content's digest"),
            ([(TYPE, [kind])], "form", "there twice"),
            ([(DIGEST, [digest])], "form", "there twice"),
            ([(TIME, [univ.Null("")]), (TIME, [univ.Integer(1)])], "form", "there twice"),
            ([(DIGEST, []), (DIGEST, [digest])], "altered", "the content is not what was signed"),
            ([(DIGEST, []), (DIGEST, [digest, digest])], "form", "with two"),
            ([(TYPE, []), (TYPE, [rfc5652.ContentType(SIGNED)])], "form", "want the content's type"),
            ([(TYPE, []), (TYPE, [univ.Null("")])], "form", "want the content's type"),
        ):
            said, why = self.made(attributes=attributes)
            self.assertEqual(said, word, why)
            self.assertIn(message, why)

    def test_inner(self) -> None:
        """
        Another type of content, and no content.
        """
        for kind, message in ((SIGNED, "CMS in CMS"), ("1.2.840.113549.1.9.16.1.4", "another type of content")):
            self.assertIn(message, self.made(inner=kind)[1])
        self.assertIn("CMS in CMS", self.made(content=cms(_SHORT, self.ann))[1])

    def test_unsigned(self) -> None:
        """
        Nothing may be in it that nobody signed, and somebody must have.
        """

        def attribute(signed: Any) -> None:
            one = rfc5652.Attribute()
            one["attrType"] = TIME
            one["attrValues"].append(univ.Any(encoder.encode(univ.Null(""))))
            signed["signerInfos"][0]["unsignedAttrs"].append(one)

        def crl(signed: Any) -> None:
            other = rfc5652.RevocationInfoChoice()
            other["other"]["otherRevInfoFormat"] = "1.2.3"
            other["other"]["otherRevInfo"] = univ.Any(b"\x05\x00")
            signed["crls"].append(other)

        def nobody(signed: Any) -> None:
            signed["signerInfos"].clear()

        self.assertIn("not signed", self.made(edited=attribute)[1])
        self.assertEqual(self.made(edited=crl)[0], "form")
        self.assertEqual(self.made(edited=nobody)[0], "unsigned")

    def test_versions(self) -> None:
        """
        Versions and digests are those that the parts ask for.
        """

        def outer(signed: Any) -> None:
            signed["version"] = 3

        def inner(signed: Any) -> None:
            signed["signerInfos"][0]["version"] = 3

        def digest(signed: Any) -> None:
            one = rfc5652.DigestAlgorithmIdentifier()
            one["algorithm"] = "2.16.840.1.101.3.4.2.2"
            signed["digestAlgorithms"].append(one)

        def parameters(signed: Any) -> None:
            signed["signerInfos"][0]["signatureAlgorithm"]["parameters"] = univ.Any(b"\x05\x00")

        for edited in (outer, inner, digest, parameters):
            self.assertEqual(self.made(edited=edited)[0], "form", edited.__name__)

    def test_certificates(self) -> None:
        """
        The signer's certificate is there once; others may be, but not endlessly many.
        """
        others = tuple(signer(self.site).der for _ in range(9))
        self.assertEqual(self.made(certificates=(self.ann.der, *others[:7]))[0], "taken")
        self.assertIn("at most 8", self.made(certificates=(self.ann.der, *others))[1])
        for certificates in ((), others[:1], (self.ann.der, self.ann.der)):
            self.assertIn("want the signer's certificate", self.made(certificates=certificates)[1])

    def test_ours(self) -> None:
        """
        What C{hostline ticket sign} signs is taken, with a certificate of a site's authority that is for tickets; with
        another of the same authority it is not.
        """
        now = time.time()
        site = signing.new_authority("n7", now, DAY)
        for purpose in ("ticket", "host", "user"):
            key = signing.new_key()
            public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
            names = ["urn:site:user:ann"]
            certificate = signing.sign(site, public, names, purpose, DAY, now).public_bytes(Encoding.PEM)
            if purpose == "ticket":
                ticket = signed_ticket(_SHORT, certificate, signing.key_pem(key))
                self.assertEqual(reason(ticket, site.pem.decode(), now=now)[0], "taken")
                number = x509.load_pem_x509_certificate(certificate).serial_number
                crl = signing.revocations(site, {number: now}, now, 1)
                self.assertEqual(reason(ticket, site.pem.decode(), crl.decode(), now)[0], "revoked")
            else:
                own = Signed(x509.load_pem_x509_certificate(certificate), key)
                ticket = text(cms(_SHORT, own))
                self.assertEqual(reason(ticket, site.pem.decode(), now=now)[0], "purpose")

    def test_record(self) -> None:
        """
        What is signed, and is no record, is refused as that.
        """
        self.assertEqual(self.made(b"hello")[0], "form")
        self.assertEqual(self.made(b"[" * 40000)[0], "form")


class VouchingTests(SynchronousTestCase):
    """
    Who vouches for a signer.
    """

    def setUp(self) -> None:
        self.site = Authority()

    def of(self, by: Signed, *roots: Signed, revoked: bytes = b"", **more: Any) -> tuple[str, str]:
        """
        What comes of a ticket that is signed so.
        """
        pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in roots or (self.site,))
        return reason(text(cms(_SHORT, by, **more)), pem.decode(), revoked.decode(), now=time.time())

    def test_between(self) -> None:
        """
        Authorities may be between, as many as those above them allow.
        """
        first = Authority("first", under=self.site)
        second = Authority("second", under=first)
        self.assertEqual(self.of(signer(first))[0], "taken")
        self.assertEqual(self.of(signer(second))[0], "taken")
        strict = Authority("strict", path_length=0)
        below = Authority("below", under=strict)
        self.assertEqual(self.of(signer(strict), strict)[0], "taken")
        self.assertEqual(self.of(signer(below), strict)[0], "root")

    def test_tooLong(self) -> None:
        """
        More than four between are not looked at.
        """
        last = self.site
        for number in range(5):
            last = Authority(f"a{number}", under=last)
            self.assertEqual(self.of(signer(last))[0], "taken" if number < 4 else "root")

    def test_noAuthority(self) -> None:
        """
        A signer cannot sign another, nor can one vouch for itself; believed are authorities only.
        """
        ann = signer(self.site)
        false = Authority("ann")
        forged = signer(false)
        self.assertEqual(self.of(forged, certificates=(forged.der, ann.der))[0], "root")
        alone = self_signed("a.example.org")
        self.assertEqual(self.of(alone)[0], "root")
        self.assertEqual(self.of(alone, alone)[0], "root")

    def test_sameName(self) -> None:
        """
        An authority with the name of one that is believed is another one.
        """
        self.assertEqual(self.of(signer(Authority()))[0], "root")

    def test_renewed(self) -> None:
        """
        Of several authorities of one name the one counts that vouches.
        """
        old = Authority(ends_s=-60)
        self.assertEqual(self.of(signer(self.site), Authority(), old, self.site)[0], "taken")

    def test_expired(self) -> None:
        """
        Neither the signer nor who vouches may have expired, nor be valid later only.
        """
        self.assertEqual(self.of(signer(self.site, ends_s=-10))[0], "expired")
        self.assertEqual(self.of(signer(self.site, begins_s=100))[0], "expired")
        old = Authority("old", ends_s=-60)
        self.assertEqual(self.of(signer(old), old)[0], "expired")
        between = Authority("between", under=self.site, ends_s=-60)
        self.assertEqual(self.of(signer(between))[0], "expired")

    def test_purpose(self) -> None:
        """
        A certificate for TLS, an authority's, or one without a purpose for signatures signs no ticket.
        """
        for wrong in (
            self.site.sign("host.example.org"),
            self.site.sign("host.example.org", purposes=(CLIENT, SERVER), more=[(FOR_SIGNATURES, True)]),
            self.site.sign("host.example.org", purposes=None),
            self.site.sign(common_name="x", purposes=(EMAIL,)),
            self.site.sign(common_name="x", purposes=(EMAIL,), more=[(FOR_SIGNATURES, True)], authority=True),
            self.site,
            Authority("between", under=self.site),
        ):
            self.assertEqual(self.of(wrong)[0], "purpose", wrong.certificate.subject)
        self.assertEqual(self.of(signer(self.site, purposes=None))[0], "taken")
        any_ = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
        self.assertEqual(self.of(signer(self.site, purposes=(any_,)))[0], "taken")

    def test_strangeExtensions(self) -> None:
        """
        A critical extension that nobody here knows, and an authority for some names only.
        """
        strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        more = [(FOR_SIGNATURES, True)]
        self.assertEqual(self.of(signer(self.site, more=[*more, (strange, True)]))[0], "purpose")
        self.assertEqual(self.of(signer(self.site, more=[*more, (strange, False)]))[0], "taken")

    def test_revoked(self) -> None:
        """
        Who is revoked signs nothing any more; nor does who is below a revoked authority.
        """
        ann, bob = signer(self.site, "ann"), signer(self.site, "bob")
        between = Authority("between", under=self.site)
        crl = self.site.revoke(ann, between)
        self.assertEqual(self.of(ann, revoked=crl)[0], "revoked")
        self.assertEqual(self.of(bob, revoked=crl)[0], "taken")
        self.assertEqual(self.of(signer(between), revoked=crl)[0], "revoked")
        self.assertEqual(self.of(ann, revoked=Authority("other").revoke(ann) + crl)[0], "revoked")

    def test_forgedList(self) -> None:
        """
        A list in an authority's name that it did not sign tells nothing: then nobody is believed.
        """
        word, why = self.of(signer(self.site), revoked=Authority().revoke())
        self.assertEqual(word, "revoked")
        self.assertIn("not signed by it", why)

    def test_manyOfOneName(self) -> None:
        """
        Authorities of one name that sign each other in circles end the search early.
        """
        names = [Authority("loop") for _ in range(7)]
        ann = signer(names[0])
        begun = time.process_time()
        certificates = (ann.der, *(one.der for one in names))
        roots = [Authority("loop") for _ in range(40)]
        self.assertEqual(self.of(ann, *roots, certificates=certificates)[0], "root")
        self.assertLess(time.process_time() - begun, 2.0)


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    body = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(body)]) + body


def _wrap(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + _length(len(content)) + content


def _tree(tree: Any, dice: random.Random) -> bytes:
    """
    DER of lists and bytes, with tags as they fall.
    """
    if isinstance(tree, bytes):
        return _wrap(dice.choice((0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x17, 0x18, 0x80, 0x81)), tree)
    return _wrap(dice.choice((0x30, 0x31, 0xA0, 0xA1, 0xA3)), b"".join(_tree(one, dice) for one in tree))
