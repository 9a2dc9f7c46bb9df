"""
Tests for L{hostline.server.trust.issuer}, L{hostline.server.trust.founding} and L{hostline.server.trust.signing}.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import StoreFailed, WrongState
from hostline.server.credentials import Certificate, Invitation
from hostline.server.slivers.trusted_time import Moment
from hostline.server.trust import founding, issuer, listing, signing
from hostline.server.trust.signing import Authority, BadAuthority
from tests.authorities import enrolled
from tests.daemons import EPOCH, MemoryDaemon, make

DAY = 86400.0
PUBLIC = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode("ascii")
)


def signed(authority: Authority, purpose: str = "host", life_s: float = DAY, *names: str) -> x509.Certificate:
    return signing.sign(authority, PUBLIC, names or ("dns:web.example.org",), purpose, life_s, EPOCH)


class SigningTests(SynchronousTestCase):
    """
    What stands in what is signed; C{openssl} has its say in tests/live.
    """

    def setUp(self) -> None:
        self.authority = signing.new_authority("h1", EPOCH, 10 * DAY)

    def test_authority(self) -> None:
        """An authority may sign certificates and lists, and no other authority."""
        found = self.authority.certificate
        constraints = found.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = found.extensions.get_extension_for_class(x509.KeyUsage)
        self.assertEqual((constraints.critical, constraints.value), (True, x509.BasicConstraints(True, 0)))
        self.assertTrue(usage.critical and usage.value.key_cert_sign and usage.value.crl_sign)
        self.assertFalse(usage.value.digital_signature)
        self.assertEqual(self.authority.until, EPOCH + 10 * DAY)
        self.assertNotEqual(found.subject, signing.new_authority("h1", EPOCH, DAY).certificate.subject)

    def test_purposes(self) -> None:
        """A host may serve and ask, a user ask, a signer of tickets neither."""
        expected = {
            "host": {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH},
            "user": {ExtendedKeyUsageOID.CLIENT_AUTH},
            "ticket": {ExtendedKeyUsageOID.EMAIL_PROTECTION},
        }
        for purpose, usages in expected.items():
            found = signed(self.authority, purpose).extensions
            self.assertEqual(set(found.get_extension_for_class(x509.ExtendedKeyUsage).value), usages)
            usage = found.get_extension_for_class(x509.KeyUsage).value
            self.assertTrue(usage.digital_signature)
            self.assertFalse(usage.key_cert_sign or usage.crl_sign)

    def test_times(self) -> None:
        """A certificate is good for clocks that are slow, and never longer than its authority."""
        found = signed(self.authority)
        self.assertEqual(found.not_valid_before_utc.timestamp(), EPOCH - 300)
        self.assertEqual(found.not_valid_after_utc.timestamp(), EPOCH + DAY)
        short = signed(self.authority, "host", 60)
        self.assertEqual(short.not_valid_before_utc.timestamp(), EPOCH - 6)
        late = signed(self.authority, "host", 99 * DAY)
        self.assertEqual(late.not_valid_after_utc.timestamp(), EPOCH + 10 * DAY)

    def test_names(self) -> None:
        """The names stand in subjectAltName, and come back as we write them; the CN is the first, cut."""
        names = ["dns:" + ".".join(["a" * 40] * 3), "urn:site:user:ann", "dns:b.example.org"]
        found = signed(self.authority, "host", DAY, *names)
        self.assertEqual(sorted(signing.names_in(found)), sorted(names))
        (common,) = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        self.assertEqual(common.value, names[0].removeprefix("dns:")[:64])

    def test_numbers(self) -> None:
        """Numbers are of 128 bits, never the same, and are written in one way."""
        numbers = {signing.number_of(signed(self.authority)) for _ in range(20)}
        self.assertEqual({len(one) for one in numbers}, {32})
        self.assertEqual(len(numbers), 20)

    @settings(max_examples=30, deadline=None)
    @given(
        st.dictionaries(st.integers(1, 2**128 - 1), st.integers(1, 2**31).map(float), max_size=20), st.integers(1, 9)
    )
    def test_revocations(self, revoked: dict[int, float], serial: int) -> None:
        """What is put into a list is read out of it again."""
        read = signing.read_revocations(_AUTHORITY, signing.revocations(_AUTHORITY, revoked, EPOCH, serial))
        self.assertEqual(read, signing.Revocations(revoked, serial, EPOCH, EPOCH + signing.CRL_LIFE_S))

    def test_foreign(self) -> None:
        """A list of another authority is not taken for ours, and neither are two halves of two authorities."""
        data = signing.revocations(signing.new_authority("h1", EPOCH, DAY), {}, EPOCH, 1)
        self.assertRaises(BadAuthority, signing.read_revocations, self.authority, data)
        key = signing.key_pem(signing.new_key())
        self.assertRaises(BadAuthority, signing.read_authority, self.authority.pem, key)
        plain = signing.new_key()
        self.assertRaises(BadAuthority, signing.read_authority, _of(plain), signing.key_pem(plain))

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200), st.booleans())
    def test_garbage(self, data: bytes, labelled: bool) -> None:
        """Files that were damaged are refused in words."""
        if labelled:
            data = b"-----BEGIN CERTIFICATE-----\n" + data + b"\n-----END CERTIFICATE-----\n"
        self.assertRaises(BadAuthority, signing.read_authority, data, data)
        self.assertRaises(BadAuthority, signing.read_authority, _AUTHORITY.pem, data)
        self.assertRaises(BadAuthority, signing.read_revocations, _AUTHORITY, data)
        self.assertRaises(BadAuthority, signing.read_certificate, data)


class FoundingTests(SynchronousTestCase):
    """
    How an authority begins, when the daemon dies meanwhile.
    """

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()) / "trust"
        self.directory.parent.mkdir()
        self.plan = founding.plan("h1", ["dns:h1"], 10 * DAY, DAY, EPOCH)
        self.number = signing.number_of(self.plan.own)
        self.place = founding.fresh(self.directory, self.number)

    def settle(self, *known: str) -> list[str]:
        founding.settle(self.directory, known, lambda _: None)
        return sorted(one.name for one in self.directory.parent.iterdir())

    def test_notOnRecord(self) -> None:
        """One whose certificate is not on record goes, however much of it was written."""
        names = list(self.plan.files)
        for count in range(len(names) + 1):
            founding.write(self.place, {name: self.plan.files[name] for name in names[:count]})
            self.assertEqual(self.settle("other"), [])

    def test_onRecord(self) -> None:
        """One whose certificate is on record is put in place; those beside it go."""
        founding.write(self.place, self.plan.files)
        founding.write(founding.fresh(self.directory, "beef"), self.plan.files)
        self.assertEqual(self.settle(self.number), ["trust"])
        self.assertEqual({one.name for one in self.directory.iterdir()}, set(self.plan.files))

    def test_notOverAnother(self) -> None:
        """It never takes the place of one that is there."""
        self.directory.mkdir(0o700)
        (self.directory / "ca.key").write_text("x")
        founding.write(self.place, self.plan.files)
        self.assertEqual(self.settle(self.number), ["trust"])
        self.assertEqual((self.directory / "ca.key").read_text(), "x")

    def test_notOverFiles(self) -> None:
        """Nor that of any file."""
        self.directory.mkdir(0o700)
        (self.directory / "ca.pem").write_text("x")
        founding.write(self.place, self.plan.files)
        self.assertRaises(OSError, founding.put_in_place, self.place, self.directory)
        self.assertEqual((self.directory / "ca.pem").read_text(), "x")

    def test_secret(self) -> None:
        """Nobody else can read a key at any time."""
        founding.write(self.place, self.plan.files)
        for path in (self.place, *self.place.iterdir()):
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)


class _WithIssuer(SynchronousTestCase):
    def setUp(self) -> None:
        self.whole: MemoryDaemon = make()
        self.operator = self.whole.connect()
        self.operator.body("ca_init names=h1.example.org")
        self.trust = self.whole.directory / "trust"

    @property
    def issuer(self) -> issuer.Issuer:
        return self.whole.daemon.issuer

    def again(self) -> None:
        """
        The daemon dies and comes back.
        """
        self.whole.crash()
        self.operator = self.whole.connect()

    def listed(self) -> x509.CertificateRevocationList:
        return x509.load_pem_x509_crl((self.trust / "crl.pem").read_bytes())

    def numbers(self) -> set[str]:
        return {f"{one.serial_number:x}" for one in self.listed()}

    def finding(self, check: str) -> dict[str, Any]:
        (found,) = [one for one in self.operator.body("doctor") if one["check"] == check]
        return dict(found)


class StartTests(_WithIssuer):
    """
    What a daemon finds at its start.
    """

    def test_none(self) -> None:
        """Without an authority nothing is made, and doctor says nothing of it."""
        whole = make()
        self.assertFalse(whole.daemon.issuer.present)
        self.assertEqual(whole.daemon.issuer.findings(), [])
        self.assertFalse((whole.directory / "trust").exists())

    def test_damaged(self) -> None:
        """An authority that cannot be used is told of, is never replaced, and the daemon starts."""
        for name, data in (("ca.key", b"x"), ("ca.pem", b"x"), ("ca.key", signing.key_pem(signing.new_key()))):
            good = (self.trust / name).read_bytes()
            (self.trust / name).write_bytes(data)
            self.again()
            self.assertEqual(self.operator.code("ca_token web.example.org"), "WRONG_STATE")
            self.assertEqual(self.operator.code("ca_init"), "EXISTS")
            self.assertFalse(self.finding("certificate authority")["ok"])
            self.assertEqual((self.trust / name).read_bytes(), data)
            (self.trust / name).write_bytes(good)

    def test_openToOthers(self) -> None:
        """A key that others can read is not used."""
        (self.trust / "ca.key").chmod(0o644)
        self.again()
        self.assertIn("its mode is 644", self.finding("certificate authority")["detail"])

    def test_listIsMissing(self) -> None:
        """A list that was lost or damaged is made anew, with all that is revoked on record."""
        number = enrolled(self.whole, "web.example.org")["number"]
        self.operator.body("ca_revoke web.example.org")
        for spoil in (lambda path: path.unlink(), lambda path: path.write_bytes(b"x")):
            spoil(self.trust / "crl.pem")
            self.again()
            self.assertEqual(self.numbers(), {number})

    def test_listIsOld(self) -> None:
        """A daemon that died before it wrote the list writes it at its next start."""
        old = (self.trust / "crl.pem").read_bytes()
        number = enrolled(self.whole, "web.example.org")["number"]
        self.operator.body("ca_revoke web.example.org")
        (self.trust / "crl.pem").write_bytes(old)
        self.again()
        self.assertEqual(self.numbers(), {number})

    def test_recordsAreLost(self) -> None:
        """What was revoked stays so though the records of it were lost, over each list that is made."""
        number = enrolled(self.whole, "web.example.org")["number"]
        self.operator.body("ca_revoke web.example.org")
        self.whole.disk.connection.execute("DELETE FROM records")
        self.again()
        enrolled(self.whole, "db.example.org")
        self.operator.body("ca_revoke db.example.org")
        self.assertIn(number, self.numbers())
        self.assertEqual(len(self.numbers()), 2)


class RoundTests(_WithIssuer):
    """
    What is done from time to time.
    """

    def test_listIsRenewed(self) -> None:
        """The list is made anew each day, so that it is always good for many more; its number goes up."""
        first = self.listed()
        self.later(listing.AGE_S + 1)
        second = self.listed()
        ends = [one.next_update_utc.timestamp() for one in (first, second) if one.next_update_utc is not None]
        self.assertEqual(ends, [EPOCH + signing.CRL_LIFE_S, EPOCH + listing.AGE_S + 1 + signing.CRL_LIFE_S])
        numbers = [one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for one in (first, second)]
        self.assertEqual(numbers, [1, 2])
        self.later(60)
        self.assertEqual(self.listed(), second)

    def test_clockGoesBack(self) -> None:
        """A list that was made while the clock was ahead is made anew: others would not believe it yet."""
        self.later(10 * DAY)
        before = self.listed().last_update_utc
        self.whole.clock.rightNow -= 10 * DAY
        self.issuer.round()
        self.whole.settle()
        self.assertLess(self.listed().last_update_utc, before)

    def test_purge(self) -> None:
        """Records of tokens go with their time, those of certificates a year later; what is revoked stays so."""
        number = enrolled(self.whole, "web.example.org", "life=1d")["number"]
        self.operator.body("ca_token db.example.org")
        self.operator.body("ca_revoke web.example.org")
        self.later(2 * DAY)
        self.assertEqual(list(self.whole.host.table(Invitation)), [])
        self.assertIn(number, self.whole.host.table(Certificate))
        self.later(issuer.KEPT_S)
        self.assertNotIn(number, self.whole.host.table(Certificate))
        self.again()
        self.later(2 * DAY)
        self.assertIn(number, self.numbers())

    def test_jump(self) -> None:
        """A clock that jumps years ahead has nothing forgotten: who has a certificate can renew it afterwards."""
        number = enrolled(self.whole, "web.example.org")["number"]
        jumped = EPOCH + 5 * issuer.KEPT_S
        self.whole.daemon.now = lambda: jumped
        self.whole.daemon.expiry._moment = lambda: Moment(jumped, self.whole.clock.seconds() + DAY, "boot")
        self.whole.daemon.expiry.look()
        self.later(60)
        self.assertIn(number, self.whole.host.table(Certificate))

    def test_listedButNotOnRecord(self) -> None:
        """What the list says is revoked is so on record, even if that could not be written then."""
        number = enrolled(self.whole, "web.example.org")["number"]
        self.operator.body("ca_revoke web.example.org")
        change = self.whole.host.change(self.whole.daemon.now())
        change.put(attrs.evolve(self.whole.host.table(Certificate)[number], revoked=0.0))
        self.whole.daemon.commit(change)
        self.whole.settle()
        self.later(60)
        self.assertGreater(self.whole.host.table(Certificate)[number].revoked, 0)

    def test_findings(self) -> None:
        """Doctor says until when the authority lives, and warns in time; and of a list that is too old."""
        self.assertTrue(self.finding("certificate authority")["ok"])
        self.assertIn("1 certificates are good", self.finding("certificate authority")["detail"])
        self.whole.clock.rightNow += 3600 * DAY
        self.assertFalse(self.finding("certificate authority")["ok"])
        self.assertFalse(self.finding("revocation list")["ok"])

    def test_ended(self) -> None:
        """An authority that has ended signs nothing more."""
        self.whole.clock.rightNow += 3651 * DAY
        self.assertEqual(self.operator.code("ca_token web.example.org"), "WRONG_STATE")
        done: Deferred[None] = Deferred.fromCoroutine(self.issuer.renew_own())
        self.whole.settle()
        self.failureResultOf(done, WrongState)

    def later(self, seconds: float) -> None:
        """
        Time passes, and what is due is done.
        """
        self.whole.clock.rightNow += seconds
        self.issuer.round()
        self.issuer.purge()
        self.whole.settle()


class OwnTests(_WithIssuer):
    """
    This host's own certificate.
    """

    def own(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.trust / "cert.pem").read_bytes())

    def renew(self) -> Deferred[None]:
        done: Deferred[None] = Deferred.fromCoroutine(self.issuer.renew_own())
        self.whole.settle()
        return done

    def test_renew(self) -> None:
        """It is renewed with a new key and the same names and life; the old one is good until it ends."""
        before = self.own()
        self.whole.clock.rightNow += 60 * DAY
        self.successResultOf(self.renew())
        after = self.own()
        self.assertEqual(signing.names_in(after), ["dns:h1.example.org"])
        self.assertNotEqual(after.public_key(), before.public_key())
        self.assertEqual(after.not_valid_after_utc.timestamp(), EPOCH + 150 * DAY)
        record = self.whole.host.table(Certificate)[signing.number_of(after)]
        self.assertEqual((record.renews, self.numbers()), (signing.number_of(before), set()))
        self.assertEqual(self.audited("ca_renew"), ["hostline"])

    def test_notDurable(self) -> None:
        """If that cannot be kept on record, it stays as it is."""
        before = self.own()
        self.whole.store.full = True
        self.failureResultOf(self.renew(), StoreFailed)
        self.assertEqual(self.own(), before)

    def test_lost(self) -> None:
        """One that was lost is told of, and cannot be renewed."""
        (self.trust / "cert.pem").unlink()
        self.again()
        self.assertTrue(self.issuer.present)
        self.assertIn("cannot be renewed", self.failureResultOf(self.renew()).getErrorMessage())

    def audited(self, command: str) -> list[str]:
        told = [json.loads(one)["body"] for one in self.whole.disk.audit()]
        return [one["principal"] for one in told if one["what"] == command]

    def test_moved(self) -> None:
        """An authority is whole in its directory: a new host with it goes on signing, and has forgotten nothing."""
        number = enrolled(self.whole, "web.example.org")["number"]
        self.operator.body("ca_revoke web.example.org")
        other = Path(self.mktemp())
        other.mkdir()
        shutil.copytree(self.trust, other / "trust")
        whole = make(directory=other)
        self.assertTrue(whole.daemon.issuer.present)
        enrolled(whole, "db.example.org")
        whole.connect().body("ca_revoke db.example.org")
        crl = x509.load_pem_x509_crl((other / "trust" / "crl.pem").read_bytes())
        self.assertIsNotNone(crl.get_revoked_certificate_by_serial_number(int(number, 16)))


def _of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """
    @return: a certificate of a key that may sign none.
    """
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
    return signing.sign(_AUTHORITY, public, ["dns:x"], "host", DAY, EPOCH).public_bytes(Encoding.PEM)


_AUTHORITY = signing.new_authority("h1", EPOCH, 10 * DAY)
