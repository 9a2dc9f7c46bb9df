"""
Tests for L{hostline.server.trust.requests}, in a whole daemon in memory: who gets which certificate, and how often.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.callers import Caller
from hostline.server.credentials import Certificate, Invitation
from hostline.server.trust import issuer, requests
from hostline.server.trust.guesses import MOST
from tests.authorities import STRANGER, comes_by, enrolled, request, secret_of, words
from tests.certificates import Authority
from tests.daemons import EPOCH, Client, MemoryDaemon, make

_DER = Encoding.DER
#: Of who guesses.
WRONG = "x" * 43


class _WithDaemon(SynchronousTestCase):
    def setUp(self) -> None:
        self.whole: MemoryDaemon = make()
        self.operator = self.whole.connect()

    def stranger(self) -> Client:
        return self.whole.connect(caller=STRANGER)

    def init(self) -> dict[str, Any]:
        body: dict[str, Any] = self.operator.body("ca_init")
        return body

    def token(self, said: str = "web.example.org") -> str:
        return secret_of(self.operator.body(f"ca_token {said}"))

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(one)["body"] for one in self.whole.disk.audit()]

    def records(self, kind: type[Any]) -> list[Any]:
        return list(self.whole.host.table(kind).values())


class InitTests(_WithDaemon):
    """
    C{ca_init}.
    """

    def test_init(self) -> None:
        """There is an authority afterwards, whose fingerprint is told, and this host has a certificate of it."""
        body = self.init()
        said = self.operator.body("ca_certificate")
        certificate = x509.load_pem_x509_certificate(said["certificate"].encode())
        self.assertEqual(body["fingerprint"], hashlib.sha256(certificate.public_bytes(_DER)).hexdigest())
        self.assertEqual((body["names"], body["until"]), (["dns:tester"], EPOCH + 3650 * 86400))
        (own,) = self.operator.body("certificates")
        self.assertEqual((own["names"], own["purpose"], own["revoked"]), (["dns:tester"], "host", 0.0))
        trust = self.whole.directory / "trust"
        self.assertEqual({one.name for one in trust.iterdir()}, {"ca.key", "ca.pem", "cert.pem", "key.pem", "crl.pem"})
        self.assertEqual([one.name for one in trust.iterdir() if one.stat().st_mode & 0o077], [])

    def test_again(self) -> None:
        """A second one is not made, nor after a start; the first stays as it is."""
        fingerprint = self.init()["fingerprint"]
        self.assertEqual(self.operator.code("ca_init"), "EXISTS")
        self.whole.crash()
        operator = self.whole.connect()
        self.assertEqual(operator.code("ca_init"), "EXISTS")
        self.assertEqual(operator.body("ca_certificate")["fingerprint"], fingerprint)
        self.assertEqual(len(self.records(Certificate)), 1)

    def test_notAnothersTrust(self) -> None:
        """A host that believes another authority goes on to do so."""
        trust = self.whole.directory / "trust"
        trust.mkdir(0o700)
        (trust / "ca.pem").write_text("x")
        self.assertEqual(self.operator.code("ca_init"), "EXISTS")
        self.assertEqual((trust / "ca.pem").read_text(), "x")

    def test_names(self) -> None:
        """The host's own certificate has the names that were said, each once."""
        body = self.operator.body("ca_init names=['A.example.org', 'dns:a.example.org', 'urn:site:host:a'] life=30d")
        self.assertEqual(body["names"], ["dns:a.example.org", "urn:site:host:a"])
        self.assertEqual(body["until"], EPOCH + 30 * 86400)

    def test_refused(self) -> None:
        """What cannot be in a certificate is refused, and no authority is made."""
        for line in ("ca_init names=[]", "ca_init names=1.2.3.4", "ca_init life=1", "ca_init life=1000000000"):
            self.assertEqual(self.operator.code(line), "BAD_VALUE", line)
        self.assertEqual(self.operator.code("ca_certificate"), "WRONG_STATE")
        self.assertEqual([one.name for one in self.whole.directory.iterdir() if "trust" in one.name], [])

    def test_storeFails(self) -> None:
        """If the record cannot be kept there is no authority, and a later try makes one."""
        self.whole.store.full = True
        self.assertEqual(self.operator.code("ca_init"), "STORE_FAILED")
        self.assertEqual(self.operator.code("ca_certificate"), "WRONG_STATE")
        self.assertEqual([one.name for one in self.whole.directory.iterdir() if "trust" in one.name], [])
        self.whole.store.full = False
        self.init()

    def test_without(self) -> None:
        """Where there is no authority, all that want one say so."""
        for line in ("ca_token a.b", "ca_certificate", "ca_revoked", "ca_enrol x y", "ca_renew x", "ca_revoke a.b"):
            self.assertEqual(self.operator.code(line), "WRONG_STATE", line)
        self.assertEqual(self.operator.body("certificates"), [])


class TokenTests(_WithDaemon):
    """
    C{ca_token}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.fingerprint = self.init()["fingerprint"]

    def test_token(self) -> None:
        """The token has a secret that nobody guesses, and says which authority is the right one."""
        body = self.operator.body("ca_token web.example.org")
        secret, _, fingerprint = body["token"].partition(".")
        self.assertEqual((fingerprint, body["fingerprint"]), (self.fingerprint, self.fingerprint))
        self.assertRegex(secret, r"^[A-Za-z0-9][A-Za-z0-9_-]{42}$")
        self.assertEqual((body["names"], body["purpose"]), (["dns:web.example.org"], "host"))
        self.assertEqual(body["expires"], EPOCH + 3600)

    def test_purpose(self) -> None:
        """DNS names are of hosts, URNs of users; of both together it must be said."""
        for said, purpose in (
            ("['a.b', 'dns:c.d']", "host"),
            ("urn:site:user:ann", "user"),
            ("urn:site:user:ann purpose=ticket", "ticket"),
            ("['a.b', 'urn:site:x'] purpose=user", "user"),
        ):
            self.assertEqual(self.operator.body(f"ca_token {said}")["purpose"], purpose, said)
        self.assertEqual(self.operator.code("ca_token ['a.b', 'urn:site:x']"), "BAD_VALUE")

    def test_refused(self) -> None:
        """What no certificate can be, or no time is, is refused; so is token=, with which the secret would be kept."""
        for said in (
            "[]", "1.2.3.4", "a..b", "[1]", f"{['a%d.b' % n for n in range(17)]!r}", "a.b expires=+31d",
            "a.b expires=1", "a.b expires=0", "a.b life=0", "a.b purpose=ca", "'*.example.org'",
        ):  # fmt: skip
            self.assertEqual(self.operator.code(f"ca_token {said}"), "BAD_VALUE", said)
        self.assertEqual(self.operator.code("ca_token a.b token=t"), "UNKNOWN_OPTION")
        self.assertEqual(self.records(Invitation), [])

    def test_namesOfTwo(self) -> None:
        """No token is made for the names of two users together."""
        self.operator.body("add_user ann certificate=ann.example.org")
        self.operator.body("add_user bob certificate=bob.example.org")
        self.assertEqual(self.operator.code("ca_token ['ann.example.org', 'bob.example.org']"), "BAD_VALUE")

    def test_secretIsNowhere(self) -> None:
        """The secret is in no record and in no log, before and after it is used."""
        token = self.operator.body("ca_token web.example.org")["token"]
        secret = token.partition(".")[0]
        events = self.whole.connect()
        events.send("watch all\n")
        self.whole.disk.connection.execute("SELECT 1")
        self.assertEqual(self.stranger().code(words("ca_enrol", secret, "no request")), "BAD_VALUE")
        self.stranger().body(words("ca_enrol", secret, request()))
        self.assertEqual(self.stranger().code(words("ca_enrol", secret, request())), "DENIED")
        kept = [*self.whole.disk.connection.iterdump(), *map(repr, events.replies())]
        self.assertTrue(any("ca_enrol" in one for one in kept))
        self.assertEqual([one for one in kept if secret in one], [])

    def test_many(self) -> None:
        """There is an end to the tokens that may wait."""
        self.patch(requests, "INVITATIONS", 3)
        for _ in range(3):
            self.token()
        self.assertEqual(self.operator.code("ca_token web.example.org"), "TOO_MANY")


class EnrolTests(_WithDaemon):
    """
    C{ca_enrol}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.init()

    def test_enrol(self) -> None:
        """Who has a token gets a certificate of the names that the operator said, for his own key."""
        key = ec.generate_private_key(ec.SECP256R1())
        secret = self.token("['web.example.org', 'urn:site:host:web'] purpose=host life=2h")
        body = self.stranger().body(words("ca_enrol", secret, request(key, "evil.example.org")))
        certificate = x509.load_pem_x509_certificate(body["certificate"].encode())
        self.assertEqual(certificate.public_key(), key.public_key())
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual([one.value for one in san], ["web.example.org", "urn:site:host:web"])
        self.assertNotIn(b"evil", certificate.public_bytes(_DER))
        self.assertFalse(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        self.assertEqual((f"{certificate.serial_number:x}", EPOCH + 7200), (body["number"], body["until"]))
        said = self.operator.body("ca_certificate")["certificate"]
        self.assertEqual((body["ca"], body["crl"]), (said, self.operator.body("ca_revoked")["crl"]))
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(said.encode()))

    def test_once(self) -> None:
        """A token gets one certificate; who says it again is told what anybody is told who says a wrong one."""
        secret = self.token()
        self.stranger().body(words("ca_enrol", secret, request()))
        again = self.stranger().ask(words("ca_enrol", secret, request()))
        wrong = self.stranger().ask(words("ca_enrol", WRONG, request()))
        self.assertEqual(again, wrong)
        self.assertEqual(wrong.body["code"], "DENIED")
        self.assertEqual(len(self.records(Certificate)), 2)

    def test_twiceAtOnce(self) -> None:
        """Of two who say it at the same time, one gets a certificate, whoever is read first."""
        secret = self.token()
        self.whole.offload.held = True
        first, second = self.stranger(), self.stranger()
        for client in (first, second):
            client.send(words("ca_enrol", secret, request()) + "\n")
        self.assertEqual(len(self.whole.offload.waiting), 2)
        self.whole.offload.release()
        self.whole.offload.release()
        self.whole.settle()
        self.assertEqual((first.lines(), second.lines()), (["ca_enrol_reply"], ["DENIED"]))
        self.assertEqual(len(self.records(Certificate)), 2)

    def test_late(self) -> None:
        """A token whose time is over gets what a wrong one gets; it is forgotten."""
        secret = self.token("web.example.org expires=+10m")
        self.whole.advance(601)
        late, wrong = (self.stranger().ask(words("ca_enrol", one, request())) for one in (secret, WRONG))
        self.assertEqual(late, wrong)
        self.whole.daemon.issuer.purge()
        self.whole.settle()
        self.assertEqual(self.records(Invitation), [])

    def test_lateMeanwhile(self) -> None:
        """So does one whose time ends while the request is read."""
        secret = self.token("web.example.org expires=+10m")
        self.whole.offload.held = True
        client = self.stranger()
        client.send(words("ca_enrol", secret, request()) + "\n")
        self.whole.advance(601)
        self.whole.offload.release()
        self.whole.settle()
        self.assertEqual(client.lines(), ["DENIED"])

    def test_afterRestart(self) -> None:
        """A token outlives the daemon; that it was used does too."""
        secret, used = self.token(), self.token()
        self.stranger().body(words("ca_enrol", used, request()))
        self.whole.crash()
        self.assertEqual(self.stranger().code(words("ca_enrol", used, request())), "DENIED")
        self.stranger().body(words("ca_enrol", secret, request()))

    def test_notDurable(self) -> None:
        """Nobody has a certificate of which there is no record: then the token is good still."""
        secret = self.token()
        self.whole.store.full = True
        self.assertEqual(self.stranger().code(words("ca_enrol", secret, request())), "STORE_FAILED")
        self.whole.store.full = False
        self.stranger().body(words("ca_enrol", secret, request()))
        self.assertEqual(len(self.records(Certificate)), 2)

    def test_crashBeforeReply(self) -> None:
        """Nothing is answered before the record is durable; after a crash the token is good still."""
        secret = self.token()
        client = self.stranger()
        client.send(words("ca_enrol", secret, request()) + "\n", settle=False)
        while self.whole.loop.turn():
            pass
        self.assertEqual((client.lines(), len(self.whole.store.pending)), ([], 1))
        self.whole.crash()
        self.stranger().body(words("ca_enrol", secret, request()))

    def test_badRequest(self) -> None:
        """A request that is none is refused, and the token stays good."""
        secret = self.token()
        for one in ("", "x", request().replace("M", "N"), request() * 2, "é", "x" * 20000):
            self.assertEqual(self.stranger().code(words("ca_enrol", secret, one)), "BAD_VALUE", one[:80])
        self.stranger().body(words("ca_enrol", secret, request()))

    def test_badRequestTellsNothing(self) -> None:
        """Who has no token is not told whether his request is good."""
        self.assertEqual(self.stranger().code(words("ca_enrol", WRONG, "no request")), "DENIED")

    def test_secretIsNotEchoed(self) -> None:
        """What was got wrong of a secret stands in no answer."""
        body = self.stranger().ask("ca_enrol 'a b.c' x").body
        self.assertEqual((body["code"], "a b" in body["message"]), ("BAD_VALUE", False))

    def test_guesses(self) -> None:
        """Who is known here and guesses too often is not listened to for a minute, not even with a right one."""
        secret = self.token()
        self.operator.body("add_user ann uid=5001")
        ann = self.whole.connect(5001)
        codes = [ann.code(words("ca_enrol", f"{WRONG}{n}", "x")) for n in range(MOST + 1)]
        self.assertEqual(codes, ["DENIED"] * MOST + ["TOO_MANY"])
        self.assertEqual(ann.code(words("ca_enrol", secret, request())), "TOO_MANY")
        self.whole.advance(61)
        ann.body(words("ca_enrol", secret, request()))

    def test_strangersGuess(self) -> None:
        """Strangers that guess too often are told so; they keep no other stranger from using his token."""
        secret = self.token()
        codes = [self.stranger().code(words("ca_enrol", f"{WRONG}{n}", "x")) for n in range(MOST + 1)]
        self.assertEqual(codes, ["DENIED"] * MOST + ["TOO_MANY"])
        self.stranger().body(words("ca_enrol", secret, request()))

    def test_operatorsMistakes(self) -> None:
        """An operator, who makes the tokens, is refused no right one for having said wrong ones."""
        secret = self.token()
        codes = [self.operator.code(words("ca_enrol", f"{WRONG}{n}", "x")) for n in range(MOST + 5)]
        self.assertEqual(codes, ["DENIED"] * (MOST + 5))
        self.operator.body(words("ca_enrol", secret, request()))

    def test_audited(self) -> None:
        """Guesses are in the audit log, with who made them."""
        self.stranger().code(words("ca_enrol", WRONG, "x"))
        (told,) = [one for one in self.audit() if one["what"] == "ca_enrol"]
        self.assertEqual((told["outcome"], told["principal"]), ("DENIED", "enrol"))
        self.assertNotIn(WRONG, str(told))


class RenewTests(_WithDaemon):
    """
    C{ca_renew}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.init()
        self.signed = enrolled(self.whole, "web.example.org", "life=90m")
        self.client = comes_by(self.whole, self.signed, "dns:web.example.org")

    def renew(self) -> str:
        return self.client.code(words("ca_renew", request()))

    def test_renew(self) -> None:
        """Who comes with a certificate gets one of the same names, purpose and life; the old one stays good."""
        self.whole.advance(3600)
        body = self.client.body(words("ca_renew", request(name="evil.example.org")))
        old, new = (self.whole.host.table(Certificate)[one["number"]] for one in (self.signed, body))
        self.assertEqual((new.names, new.purpose, new.renews), (old.names, old.purpose, old.number))
        self.assertEqual((new.until, old.revoked), (EPOCH + 9000, 0.0))

    def test_notWithout(self) -> None:
        """Nobody else gets one: who comes by a socket, without a certificate, or with one of another authority."""
        others = (
            self.operator,
            self.stranger(),
            self.whole.connect(caller=Caller(-1, via="tls", names=("dns:web.example.org",), number="abcd")),
            comes_by(self.whole, self.signed, "dns:other.example.org"),
            comes_by(self.whole, {**self.signed, "ca": Authority().pem.decode()}, "dns:web.example.org"),
        )
        for client in others:
            self.assertEqual(client.code(words("ca_renew", request())), "DENIED")

    def test_revoked(self) -> None:
        """A certificate that is revoked gets no other, though it may still be connected."""
        self.operator.body("ca_revoke web.example.org")
        self.assertEqual(self.renew(), "DENIED")

    def test_revokedMeanwhile(self) -> None:
        """Nor does one that is revoked while the request is read."""
        self.whole.offload.held = True
        self.client.send(words("ca_renew", request()) + "\n")
        self.operator.body("ca_revoke web.example.org")
        self.whole.offload.release()
        self.whole.settle()
        self.assertEqual(self.client.lines(), ["DENIED"])

    def test_expired(self) -> None:
        """Nor does one that has expired."""
        self.whole.advance(5400)
        self.assertEqual(self.renew(), "DENIED")

    def test_bounded(self) -> None:
        """There is an end to the certificates of the same names that are good at a time."""
        self.assertEqual([self.renew() for _ in range(issuer.ALIVE - 1)], ["ca_renew_reply"] * (issuer.ALIVE - 1))
        self.assertEqual(self.renew(), "TOO_MANY")
        numbers = [one.number for one in self.records(Certificate) if "dns:web.example.org" in one.names]
        self.operator.body(f"ca_revoke {next(one for one in numbers if one != self.signed['number'])}")
        self.assertEqual(self.renew(), "ca_renew_reply")


class RevokeTests(_WithDaemon):
    """
    C{ca_revoke} and C{ca_revoked}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.init()

    def crl(self) -> set[str]:
        data = self.stranger().body("ca_revoked")["crl"].encode()
        self.assertEqual((self.whole.directory / "trust" / "crl.pem").read_bytes(), data)
        return {f"{one.serial_number:x}" for one in x509.load_pem_x509_crl(data)}

    def test_number(self) -> None:
        """One certificate is revoked by its number, however that is written; others of the name are not."""
        first, second = (enrolled(self.whole, "web.example.org")["number"] for _ in range(2))
        body = self.operator.body(f"ca_revoke {first.upper()}")
        self.assertEqual(body, {"revoked": [first], "withdrawn": 0})
        self.assertEqual(self.crl(), {first})
        revoked = {one["number"]: one["revoked"] for one in self.operator.body("certificates")}
        self.assertEqual((revoked[first], revoked[second]), (EPOCH, 0.0))
        pairs = ":".join(second[at : at + 2] for at in range(0, 32, 2))
        self.operator.body(f"ca_revoke '00:{pairs}'")
        self.assertEqual(self.crl(), {first, second})

    def test_renewed(self) -> None:
        """With a certificate goes what it was renewed to, and so on: a thief may have done that. Those before stay."""
        numbers = []
        signed = enrolled(self.whole, "web.example.org")
        for _ in range(4):
            numbers.append(signed["number"])
            signed = comes_by(self.whole, signed, "dns:web.example.org").body(words("ca_renew", request()))
        self.operator.body(f"ca_revoke {numbers[1]}")
        self.assertEqual(self.crl(), {*numbers[1:], signed["number"]})

    def test_name(self) -> None:
        """All of a name are revoked, renewed ones too, and the tokens for it are worth nothing."""
        first = enrolled(self.whole, "['web.example.org', 'www.example.org']")
        client = comes_by(self.whole, first, "dns:www.example.org", "dns:web.example.org")
        second = client.body(words("ca_renew", request()))
        other = enrolled(self.whole, "db.example.org")
        secret = self.token()
        body = self.operator.body("ca_revoke WEB.example.org")
        self.assertEqual(body, {"revoked": sorted([first["number"], second["number"]]), "withdrawn": 1})
        self.assertEqual(self.crl(), {first["number"], second["number"]})
        self.assertNotIn(other["number"], self.crl())
        self.assertEqual(self.stranger().code(words("ca_enrol", secret, request())), "DENIED")

    def test_nothing(self) -> None:
        """What nobody has cannot be revoked."""
        for line in ("ca_revoke web.example.org", "ca_revoke abcdef", "ca_revoke ''", "ca_revoke '*'", "ca_revoke 0"):
            self.assertIn(self.operator.code(line), ("NO_SUCH_CERTIFICATE", "BAD_VALUE"), line)
        self.assertEqual(self.crl(), set())

    def test_unknown(self) -> None:
        """A number whose record was lost can be revoked, if it is said that it is not on record."""
        number = "e5" * 16
        self.assertEqual(self.operator.code(f"ca_revoke {number}"), "NO_SUCH_CERTIFICATE")
        self.assertEqual(self.operator.body(f"ca_revoke {number} unknown=True")["revoked"], [number])
        self.assertEqual(self.crl(), {number})
        (found,) = [one for one in self.operator.body("certificates") if one["revoked"]]
        self.assertEqual((found["number"], found["names"]), (number, []))
        for line in ("ca_revoke web.example.org unknown=True", f"ca_revoke {'e5' * 21} unknown=True", "ca_revoke 0"):
            self.assertEqual(self.operator.code(line), "NO_SUCH_CERTIFICATE", line)

    def test_again(self) -> None:
        """What is revoked stays so since when it was; to say it again is no mistake."""
        number = enrolled(self.whole, "web.example.org")["number"]
        self.operator.body("ca_revoke web.example.org")
        self.whole.advance(60)
        self.assertEqual(self.operator.body("ca_revoke web.example.org")["revoked"], [number])
        self.assertEqual(self.whole.host.table(Certificate)[number].revoked, EPOCH)

    def test_own(self) -> None:
        """A host that revokes its own certificate has a new one at once, with a new key."""
        trust = self.whole.directory / "trust"
        before = x509.load_pem_x509_certificate((trust / "cert.pem").read_bytes())
        body = self.operator.body("ca_revoke tester")
        after = x509.load_pem_x509_certificate((trust / "cert.pem").read_bytes())
        self.assertEqual(body["revoked"], [f"{before.serial_number:x}"])
        self.assertNotEqual(before.public_key(), after.public_key())
        self.assertEqual(self.crl(), {f"{before.serial_number:x}"})
        (renewed,) = [one for one in self.records(Certificate) if not one.revoked]
        self.assertEqual((renewed.number, renewed.renews), (f"{after.serial_number:x}", f"{before.serial_number:x}"))

    def test_afterRestart(self) -> None:
        """What is revoked stays so over a restart."""
        number = enrolled(self.whole, "web.example.org")["number"]
        self.operator.body("ca_revoke web.example.org")
        self.whole.crash()
        self.assertEqual(self.crl(), {number})

    def test_userRemoved(self) -> None:
        """The certificates of a user who is removed are not revoked by that."""
        self.operator.body("add_user ann certificate=urn:site:user:ann")
        enrolled(self.whole, "urn:site:user:ann")
        self.operator.body("remove_user ann")
        self.assertEqual(self.crl(), set())

    def test_connectionsAreLookedAt(self) -> None:
        """Who is in by what is revoked is looked for when the list is written, and before the operator is answered."""
        number = enrolled(self.whole, "web.example.org")["number"]
        seen: list[tuple[bool, list[str]]] = []
        path = self.whole.directory / "trust" / "crl.pem"

        def reload() -> None:
            crl = x509.load_pem_x509_crl(path.read_bytes())
            listed = crl.get_revoked_certificate_by_serial_number(int(number, 16)) is not None
            seen.append((listed, self.operator.lines()))

        self.patch(self.whole.daemon.tls, "reload", reload)
        self.operator.send("ca_revoke web.example.org\n")
        self.assertEqual((seen, self.operator.lines()), ([(True, [])], ["ca_revoke_reply"]))

    def test_fullDisk(self) -> None:
        """If the list cannot be written the operator is told; who asks is told all of it, and the file follows."""
        number = enrolled(self.whole, "web.example.org")["number"]
        write = self.whole.daemon.issuer.trust.write

        def full(name: str, data: bytes, mode: int = 0o600) -> None:
            raise OSError(28, "No space left on device")

        self.whole.daemon.issuer.trust.write = full  # type: ignore[method-assign]
        self.assertEqual(self.operator.code("ca_revoke web.example.org"), "FAILED")
        (found,) = [one for one in self.operator.body("doctor") if one["check"] == "revocation list"]
        self.assertEqual((found["ok"], "No space" in found["detail"]), (False, True))
        told = self.stranger().body("ca_revoked")["crl"]
        self.assertEqual([f"{one.serial_number:x}" for one in x509.load_pem_x509_crl(told.encode())], [number])
        self.assertEqual(self.whole.daemon.tickets._files()[1], told)
        self.assertNotEqual((self.whole.directory / "trust" / "crl.pem").read_text(), told)
        self.whole.daemon.issuer.trust.write = write  # type: ignore[method-assign]
        self.whole.daemon.issuer.round()
        self.whole.settle()
        self.assertEqual(self.crl(), {number})
