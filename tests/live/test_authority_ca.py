"""
The site's certificate authority in a real daemon, judged by C{openssl}; with C{kill -9} while it is made and while
certificates are handed out.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
import unittest
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.live.hosted import Hosted, NoReply
from tests.live.killing import SEED
from tests.live.support import remove_directory, temporary_directory
from tests.needs import needs_tool
from tests.scale import scaled

PKI = (sys.executable, "-m", "hostline.server.trust.program")
_LIMIT_S = 30


def said(*argv: str | Path, given: bytes = b"", status: int = 0) -> str:
    """
    @return: all that a program says, which must end as expected.
    """
    done = subprocess.run(
        list(map(str, argv)),
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_LIMIT_S,
        check=False,
    )
    text = done.stdout.decode("utf-8", "replace")
    if (done.returncode == 0) != (status == 0):
        raise AssertionError(f"{' '.join(map(str, argv))} ended with {done.returncode}: {text}")
    return text


class _WithAuthority(unittest.TestCase):
    def setUp(self) -> None:
        self.host = Hosted(self)
        self.directory = temporary_directory()
        self.addCleanup(remove_directory, self.directory)
        self.trust = self.host.state / "trust"
        self.request, self.key = self.new_request()

    def new_request(self, *kind: str) -> tuple[str, Path]:
        """
        @param kind: of the key, as C{openssl req} has it.
        @return: a request, and the file of its key, both by C{openssl}.
        """
        key = self.directory / f"key-{len(list(self.directory.iterdir()))}"
        kind = kind or ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        line = ("openssl", "req", "-new", "-newkey", *kind, "-nodes", "-batch")
        text = said(*line, "-subj", "/CN=ignored", "-addext", "basicConstraints=CA:TRUE", "-keyout", key)
        return text[text.index("-----BEGIN CERTIFICATE REQUEST") :], key

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def token(self, names: str) -> str:
        return str(self.host.ask(f"ca_token {names}")["token"]).partition(".")[0]

    def enrolled(self, names: str) -> dict[str, Any]:
        body: dict[str, Any] = self.host.ask(f"ca_enrol {self.token(names)} {self.request!r}")
        return body


@needs_tool("openssl")
class OpensslTests(_WithAuthority):
    """
    What others make of what is signed.
    """

    def setUp(self) -> None:
        super().setUp()
        self.host.start()
        self.made = self.host.ask("ca_init names=h1.example.org")
        self.ca = self.file("ca.pem", self.host.ask("ca_certificate")["certificate"])

    def test_authority(self) -> None:
        """The authority is one for C{openssl} too, and its fingerprint is what C{openssl} says."""
        text = said("openssl", "x509", "-in", self.ca, "-noout", "-text", "-fingerprint", "-sha256")
        for one in ("CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "X509v3 Subject Key Identifier"):
            self.assertIn(one, text)
        self.assertIn(self.made["fingerprint"], text.replace(":", "").lower())
        said("openssl", "verify", "-x509_strict", "-CAfile", self.ca, self.ca)
        own = ("openssl", "verify", "-x509_strict", "-CAfile", self.ca, "-purpose")
        said(*own, "sslserver", "-verify_hostname", "h1.example.org", self.trust / "cert.pem")

    def test_purposes(self) -> None:
        """A certificate is good for what it is for, and for nothing else; what the request said is not in it."""
        good = {
            "host.example.org": {"sslserver", "sslclient"},
            "urn:site:user:ann": {"sslclient"},
            "urn:site:user:bob purpose=ticket": {"smimesign"},
        }
        for names, purposes in good.items():
            body = self.enrolled(names)
            certificate = self.file("cert.pem", body["certificate"])
            for purpose in ("sslserver", "sslclient", "smimesign"):
                line = ("openssl", "verify", "-x509_strict", "-CAfile", self.ca, "-purpose", purpose, certificate)
                said(*line, status=0 if purpose in purposes else 1)
            text = said("openssl", "x509", "-in", certificate, "-noout", "-text")
            for one in ("CA:FALSE", "Digital Signature", names.partition(" ")[0], "Authority Key Identifier"):
                self.assertIn(one, text)
            self.assertNotIn("ignored", text)
            number = said("openssl", "x509", "-in", certificate, "-noout", "-serial").strip().removeprefix("serial=")
            self.assertEqual(number.lower(), body["number"])
            pairs = [said("openssl", *line) for line in (("x509", "-in", certificate, "-noout", "-pubkey"),
                                                         ("pkey", "-in", self.key, "-pubout"))]  # fmt: skip
            self.assertEqual(pairs[0], pairs[1])

    def test_kinds(self) -> None:
        """Keys of every kind that may be certified are, by the child that reads the request without any right."""
        for kind in (
            ("ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
            ("ec", "-pkeyopt", "ec_paramgen_curve:P-521"),
            ("ed25519",),
            ("rsa:2048",),
            ("rsa:2048", "-sha512", "-sigopt", "rsa_padding_mode:pss"),
        ):
            self.request, self.key = self.new_request(*kind)
            certificate = self.file("cert.pem", self.enrolled("host.example.org")["certificate"])
            said("openssl", "verify", "-x509_strict", "-CAfile", self.ca, certificate)

    def test_revoked(self) -> None:
        """A certificate that is revoked is refused by who looks at the list, and no other is."""
        first, second = (
            self.file(f"{n}.pem", self.enrolled("host.example.org")["certificate"]) for n in ("first", "second")
        )
        number = said("openssl", "x509", "-in", first, "-noout", "-serial").strip().removeprefix("serial=")
        self.assertEqual(self.host.ask(f"ca_revoke {number}")["revoked"], [number.lower()])
        crl = self.file("crl.pem", self.host.ask("ca_revoked")["crl"])
        self.assertEqual(crl.read_bytes(), (self.trust / "crl.pem").read_bytes())
        self.assertIn("verify OK", said("openssl", "crl", "-in", crl, "-noout", "-CAfile", self.ca))
        self.assertIn(number, said("openssl", "crl", "-in", crl, "-noout", "-text"))
        line = ("openssl", "verify", "-CAfile", self.ca, "-CRLfile", crl, "-crl_check")
        self.assertIn("certificate revoked", said(*line, first, status=2))
        said(*line, second)
        self.host.kill()
        self.host.start()
        self.assertEqual(self.host.ask("ca_revoked")["crl"], crl.read_text())

    def test_program(self) -> None:
        """C{hostline-pki} makes a request that gets a certificate, and with that tickets that C{openssl} takes."""
        mine = self.directory / "mine"
        request = said(*PKI, "request", "urn:site:user:ann", "--directory", mine)
        self.assertEqual([(one.name, one.stat().st_mode & 0o777) for one in mine.iterdir()], [("key.pem.new", 0o600)])
        body = self.host.ask(f"ca_enrol {self.token('urn:site:user:ann purpose=ticket')} {request!r}")
        certificate = self.file("cert.pem", body["certificate"])
        record = b'{"sliver": "lab_web", "number": "1"}\r\n\x00\xff'
        ticket = self.file(
            "ticket",
            said(*PKI, "ticket", "--certificate", certificate, "--key", mine / "key.pem.new", given=record),
        )
        out = self.directory / "record"
        said("openssl", "cms", "-verify", "-in", ticket, "-inform", "PEM", "-CAfile", self.ca, "-binary", "-out", out)
        self.assertEqual(out.read_bytes(), record)
        host = self.file("host.pem", self.enrolled("host.example.org")["certificate"])
        for wrong in (("--certificate", host, "--key", self.key), ("--certificate", certificate, "--key", self.key)):
            self.assertRegex(said(*PKI, "ticket", *wrong, given=record, status=1), r"\Ahostline-pki: [^\n]+\n\Z")


class TokensTests(_WithAuthority):
    """
    Tokens, as somebody would try to use them who should not.
    """

    def setUp(self) -> None:
        super().setUp()
        self.host.start()
        self.host.ask("ca_init names=h1.example.org")

    def test_atOnce(self) -> None:
        """Of many who say one token at the same time, exactly one gets a certificate; after a restart nobody does."""
        secret = self.token("host.example.org")
        clients = [self.host.client() for _ in range(scaled(8, 60))]
        for client in clients:
            self.addCleanup(client.close)
            client.send(f"ca_enrol {secret} {self.request!r}\n")
        replies = [client.reply() for client in clients]
        self.assertEqual([word for word, _ in replies].count("ca_enrol_reply"), 1)
        refusals = {(body["code"], body["message"]) for word, body in replies if word == "error_reply"}
        self.assertEqual({code for code, _ in refusals} - {"DENIED", "TOO_MANY"}, set())
        self.host.kill()
        self.host.start()
        with self.host.client() as client:
            self.assertEqual(client.refusal(f"ca_enrol {secret} {self.request!r}")[1]["code"], "DENIED")
        self.assertEqual(len(self.host.ask("certificates")), 2)

    def test_late(self) -> None:
        """A token whose time is over is answered as a wrong one."""
        token = self.host.ask("ca_token host.example.org expires=+1s")
        time.sleep(max(0.0, token["expires"] - time.time()) + 0.05)
        answers = []
        for secret in (token["token"].partition(".")[0], "x" * 43):
            with self.host.client() as client:
                answers.append(client.refusal(f"ca_enrol {secret} {self.request!r}"))
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(answers[0][1]["code"], "DENIED")

    def test_secretsAreNowhere(self) -> None:
        """No token is in any file of the daemon's, nor in its log, whether it was used, is open, or was withdrawn."""
        secrets = [self.token(f"h{n}.example.org") for n in range(4)]
        wrong = "w" + secrets[0][1:]
        with self.host.client() as client:
            for secret, request in ((secrets[0], self.request), (secrets[1], "x"), (wrong, self.request)):
                client.refusal(f"ca_enrol {secret} {request!r}")
            client.refusal(f"ca_enrol {secrets[3]} {self.request!r} token=t")
            client.refusal(f"ca_enroll {secrets[3]} x")
        self.host.ask("ca_revoke h2.example.org")
        self.host.kill()
        files = [one for one in (*self.host.state.rglob("*"), self.host.log) if one.is_file()]
        self.assertIn("host.db", {one.name for one in files})
        text = b"".join(one.read_bytes() for one in files)
        self.assertIn(b"ca_enrol", text)
        self.assertEqual([one for one in (*secrets, wrong) if one.encode() in text], [])

    def test_hugeRequests(self) -> None:
        """Requests that are no such thing are refused in words, and the token is good still."""
        secret = self.token("host.example.org")
        body = "A" * 15000
        with self.host.client() as client:
            for request in ("\0", "x" * 16385, f"-----BEGIN CERTIFICATE REQUEST-----\n{body}\n"
                            "-----END CERTIFICATE REQUEST-----\n", self.request * 2):  # fmt: skip
                self.assertEqual(client.refusal(f"ca_enrol {secret} {request!r}")[1]["code"], "BAD_VALUE")
            client.ask(f"ca_enrol {secret} {self.request!r}")
        self.assertEqual(self.host.tracebacks(), "")


@needs_tool("openssl")
class KilledTests(_WithAuthority):
    """
    C{kill -9}.
    """

    def killed(self, requests: list[str], after_s: float, behind: int | None = None) -> dict[int, str]:
        """
        Ask, each on a connection of its own, and kill the daemon.

        @param behind: the place of a request whose reply is waited for before the time begins.
        @return: the words of the replies that came before it died, by the place of the request.
        """
        clients = [self.host.client() for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            self.addCleanup(client.close)
            client.send(request + "\n")
        words: dict[int, str] = {}
        if behind is not None:
            words[behind] = clients[behind].reply()[0]
        time.sleep(after_s)
        self.host.kill()
        for at, client in enumerate(clients):
            with suppress(NoReply):
                words[at] = words.get(at) or client.reply()[0]
        return words

    def test_init(self) -> None:
        """Killed while it makes the authority, the daemon has it whole afterwards, or not at all and can make it."""
        random_ = random.Random(SEED)
        self.host.start()
        begun = time.monotonic()
        self.host.ask("ca_init names=h1.example.org")
        took = time.monotonic() - begun
        there = set()
        for _ in range(scaled(5, 100)):
            self.host.kill()
            shutil.rmtree(self.trust)
            self.host.start()
            replies = self.killed(["ca_init names=h1.example.org"], random_.uniform(0, 1.3 * took))
            self.host.start()
            beside = [one.name for one in self.host.state.iterdir() if one.name.startswith("trust.")]
            self.assertEqual(beside, [], f"seed {SEED}")
            whole = self.trust.exists()
            there.add(whole)
            if replies:
                self.assertTrue(whole, f"{replies}; seed {SEED}")
            if not whole:
                self.host.ask("ca_init names=h1.example.org")
            self.whole()
        self.assertEqual(self.host.tracebacks(), "")
        print(
            f"after {scaled(5, 100)} kills it was there: {sorted(there)}; ca_init takes {took:.3f} s", file=sys.stderr
        )

    def whole(self) -> None:
        names = {one.name for one in self.trust.iterdir() if not one.name.startswith(".")}
        self.assertEqual(names, {"ca.key", "ca.pem", "cert.pem", "key.pem", "crl.pem"})
        said("openssl", "verify", "-x509_strict", "-crl_check", "-CRLfile", self.trust / "crl.pem",
             "-CAfile", self.trust / "ca.pem", self.trust / "cert.pem")  # fmt: skip
        for certificate, key in (("ca.pem", "ca.key"), ("cert.pem", "key.pem")):
            public = said("openssl", "x509", "-in", self.trust / certificate, "-noout", "-pubkey")
            self.assertEqual(public, said("openssl", "pkey", "-in", self.trust / key, "-pubout"))
        number = said("openssl", "x509", "-in", self.trust / "cert.pem", "-noout", "-serial").strip()[7:].lower()
        self.assertIn(number, [one["number"] for one in self.host.ask("certificates")])
        self.enrolled("host.example.org")

    def test_enrol(self) -> None:
        """Killed while it hands certificates out, the daemon has a record of each that it gave, and one token one."""
        random_ = random.Random(SEED)
        self.host.start()
        self.host.ask("ca_init names=h1.example.org")
        counts: Counter[str] = Counter()
        for turn in range(scaled(3, 60)):
            names = [f"h{n}.t{turn}.example.org" for n in range(12)]
            secrets = [self.token(one) for one in names]
            requests = [f"ca_enrol {secret} {self.request!r}" for secret in secrets]
            told = self.killed(requests, random_.uniform(0, 0.1), random_.randrange(len(names)))
            self.assertLessEqual(set(told.values()), {"ca_enrol_reply"}, f"seed {SEED}")
            self.host.start()
            with self.host.client() as client:
                again = {at for at, one in enumerate(requests) if client.refusal(one)[0] == "ca_enrol_reply"}
            self.assertEqual(again & told.keys(), set(), f"seed {SEED}")
            counts.update(told=len(told), again=len(again), untold=len(names) - len(told) - len(again))
            records = Counter(name for one in self.host.ask("certificates") for name in one["names"])
            self.assertEqual([records[f"dns:{one}"] for one in names], [1] * len(names), f"seed {SEED}")
        self.assertEqual(self.host.tracebacks(), "")
        print(f"enrolled when killed: {dict(counts)}", file=sys.stderr)
