"""
Tickets for real: a daemon, the C{openssl} of this machine, and everything that a ticket can be besides good.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import random
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import HostError
from hostline.server.slivers.signed_ticket import read_ticket
from tests.certificates import Authority, Signed
from tests.live.hosted import Client, Hosted, NoReply, until
from tests.live.killing import SEED
from tests.live.support import run
from tests.live.test_authority import ChildCase
from tests.needs import needs_tool
from tests.scale import scaled
from tests.test_payload import full
from tests.test_payload import sliver as entry
from tests.ticketing import FOR_SIGNATURES, KEY, cms, signer, text, written


@needs_tool("openssl")
class TicketCase(SynchronousTestCase):
    """
    A host that believes an authority, and somebody who signs.
    """

    def setUp(self) -> None:
        self.hosted = Hosted(self, self.config())
        self.directory = self.hosted.directory
        self.site = Authority()
        self.trust(ca=self.site.pem)
        self.ann = signer(self.site)
        self.count = 0
        self.hosted.start()

    def config(self) -> str:
        """
        More of the configuration.
        """
        return '[authority]\nhostname = "n7.example.org"\n'

    def trust(self, **files: bytes) -> None:
        """
        Write files of trust.
        """
        directory = self.hosted.state / "trust"
        directory.mkdir(0o700, parents=True, exist_ok=True)
        self.hosted.state.chmod(0o711)
        for name, data in files.items():
            (directory / f"{name}.pem").write_bytes(data)
            (directory / f"{name}.pem").chmod(0o600)

    def record(self, name: str = "lab_web", **more: Any) -> dict[str, Any]:
        """
        What a ticket says, good from now on.
        """
        self.count += 1
        now = time.time()
        return {
            "sliver": name,
            "kind": "process",
            "rspec": {"cpu_share": 64},
            "keys": [KEY],
            "hosts": ["other.example.org", "N7.example.org"],
            "not_before": now,
            "not_after": now + 3600,
            "number": self.count,
            **more,
        }

    def openssl(self, *words: str, data: bytes = b"") -> bytes:
        """
        What C{openssl} prints.
        """
        done = subprocess.run(["openssl", *words], input=data, capture_output=True, cwd=self.directory, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def files(self, by: Signed) -> list[str]:
        """
        The options that name a signer.
        """
        names = [self.directory / f"{by.number}.{kind}" for kind in ("pem", "key")]
        for path, data in zip(names, (by.pem, by.key_pem), strict=True):
            path.write_bytes(data)
        return ["-signer", str(names[0]), "-inkey", str(names[1])]

    def sign(self, record: Any, *by: Signed, options: tuple[str, ...] = ("-binary",)) -> str:
        """
        A ticket, as the page says that it is made.
        """
        (self.directory / "record.json").write_text(json.dumps(record, indent=1))
        who = [word for one in by or (self.ann,) for word in self.files(one)]
        words = ["cms", "-sign", *options, "-nodetach", "-outform", "PEM", *who, "-in", "record.json"]
        return self.openssl(*words).decode()

    def show(self, ticket: str) -> tuple[str, dict[str, Any]]:
        """
        The word and the body of the reply to a ticket.
        """
        with self.hosted.client() as client:
            word, body = client.refusal(f"ticket {ticket!r}")
        return word, body

    def taken(self, ticket: str) -> dict[str, Any]:
        """
        The sliver of a ticket that is good.
        """
        word, body = self.show(ticket)
        self.assertEqual(word, "ticket_reply", body)
        return body

    def refused(self, ticket: str, reason: str, words: str = "") -> None:
        """
        A ticket is not taken, for this reason.
        """
        word, body = self.show(ticket)
        self.assertEqual((word, body.get("code"), body.get("reason")), ("error_reply", "BAD_TICKET", reason), body)
        self.assertIn(words, body["message"])
        self.assertEqual(self.hosted.tracebacks(), "")

    def slivers(self) -> dict[str, dict[str, Any]]:
        """
        All there are, by name.
        """
        return {one["name"]: one for one in self.hosted.ask("slivers")}


class ShowTests(TicketCase):
    """
    Once, and refused each with its own reason.
    """

    def test_once(self) -> None:
        """
        An openssl-signed ticket creates a sliver once: not twice, not after a restart, not after a crash. Nothing else
        comes of it.
        """
        ticket = self.sign(self.record())
        made = self.taken(ticket)
        self.assertEqual((made["name"], made["state"], made["instantiation"]), ("lab_web", "running", "ticket"))
        self.assertEqual(
            (made["rspec"]["cpu_share"], self.hosted.ask("get_ssh_keys lab_web")), (64, {"lab_web": [KEY]})
        )
        self.assertEqual(len(self.hosted.processes()) > 0, True)
        self.refused(ticket, "seen")
        self.assertEqual(self.hosted.stop(), 0)
        self.hosted.start()
        self.refused(ticket, "seen")
        self.hosted.kill()
        self.hosted.start()
        self.refused(ticket, "seen")
        self.assertEqual(list(self.slivers()), ["lab_web"])
        self.assertEqual(self.slivers()["lab_web"]["serial"], made["serial"])

    def test_forms(self) -> None:
        """
        Signed as text, in S/MIME as openssl does by itself, or as DER in base64, it is as good; and so is a time as
        people write it.
        """
        now = datetime.now(UTC)
        record = self.record(
            "lab_a", not_before=now.isoformat(), not_after=f"{now.year + 1}-01-01T00:00:00Z", hosts=["*"]
        )
        self.hosted.configure(f"{self.config()}[tickets]\nmost_days = 400\n")
        self.hosted.stop()
        self.hosted.start()
        record["not_before"] = datetime.now(UTC).isoformat()
        self.assertEqual(self.taken(self.sign(record, options=()))["name"], "lab_a")
        (self.directory / "record.json").write_text(json.dumps(self.record("lab_b")))
        words = ["cms", "-sign", "-nodetach", "-outform", "DER", *self.files(self.ann), "-in", "record.json"]
        der = self.openssl(*words)
        self.assertEqual(self.taken(base64.b64encode(der).decode())["name"], "lab_b")
        (self.directory / "record.json").write_text(json.dumps(self.record("lab_c")))
        plain = self.openssl("cms", "-sign", "-nodetach", *self.files(self.ann), "-in", "record.json")
        self.assertEqual(self.taken(plain.decode())["name"], "lab_c")

    def test_refused(self) -> None:
        """
        Each refusal says why, and nothing is made of it.
        """
        record = self.record()
        good = self.sign(record)
        (self.directory / "record.json").write_text(json.dumps(record))
        data = self.openssl("cms", "-data_create", "-in", "record.json", "-outform", "PEM").decode()
        literal = base64.encodebytes(json.dumps(record).encode()).decode()
        self.refused(data, "unsigned")
        self.refused(f"-----BEGIN CMS-----\n{literal}-----END CMS-----\n", "unsigned")
        self.refused(json.dumps(record), "unsigned")
        self.refused(self.sign(record, signer(Authority())), "root", "nobody whom this host believes vouches")
        self.refused(self.sign(record, signer(self.site, ends_s=-60)), "expired", "has expired")
        self.refused(self.sign(record, signer(self.site, begins_s=600)), "expired", "not valid yet")
        der = bytearray(base64.b64decode("".join(good.splitlines()[1:-1])))
        der[der.index(b"lab_web")] ^= 1
        self.refused(base64.b64encode(der).decode(), "altered", "the content is not what was signed")
        der[der.index(b"mab_web")] ^= 1
        der[-5] ^= 1
        self.refused(base64.b64encode(der).decode(), "altered", "the signature is not the signer's")
        self.refused(self.sign({**record, "hosts": ["n8.example.org"]}), "host", "this host is")
        now = time.time()
        self.refused(self.sign({**record, "not_before": now + 60}), "early")
        self.refused(self.sign({**record, "not_before": now - 60, "not_after": now - 1}), "late")
        self.refused(self.sign({**record, "not_after": now + 31 * 86400}), "long", "30 days")
        self.refused(self.sign(record, self.ann, signer(self.site, "bob")), "signers", "got 2")
        (self.directory / "good.pem").write_text(good)
        words = ["cms", "-resign", "-inform", "PEM", "-in", "good.pem", "-outform", "PEM"]
        self.refused(self.openssl(*words, *self.files(signer(self.site, "bob"))).decode(), "signers", "got 2")
        self.refused(self.sign(record, self.site.sign("n7.example.org")), "purpose")
        self.refused(self.sign(record, self.site), "purpose", "an authority's")
        self.refused(self.sign(record, options=("-binary", "-stream")), "form", "indefinite length")
        self.refused(self.sign({**record, "colour": "red"}), "form", "no key 'colour'")
        self.refused(good + "\n" * (65537 - len(good)), "size")
        self.trust(crl=self.site.revoke(self.ann))
        self.refused(good, "revoked")
        self.assertEqual(self.slivers(), {})
        self.trust(crl=self.site.revoke())
        self.taken(good)

    def test_older(self) -> None:
        """
        A ticket that is older than the authority's last full payload knows less than that; a newer one stands, until
        a payload that is newer still leaves its sliver out.
        """
        before = self.sign(self.record("lab_web"))
        now = time.time()
        payload = full(entry("lab_db", expires=None), entry("lab_c", expires=None), timestamp=now)
        for one in payload["slivers"]:
            one["kind"] = "process"

        def sync(timestamp: float) -> Any:
            return self.hosted.ask(f"sync {json.dumps({**payload, 'timestamp': timestamp, 'node_id': 0})!r}")

        sync(now)
        self.refused(before, "old", "older than the authority's last records")
        self.taken(self.sign(self.record("lab_web", not_before=now + 0.01)))
        self.assertEqual(sync(now + 0.005)["stopped"], [])
        self.assertEqual(self.slivers()["lab_web"]["state"], "running")
        self.assertEqual(sync(time.time())["stopped"], ["lab_web"])
        until(lambda: self.slivers()["lab_web"]["state"] == "doomed", what=self.slivers)
        back = self.taken(self.sign(self.record("lab_web")))
        self.assertNotEqual(back["state"], "doomed")
        # What a ticket gives a sliver of the authority's holds until the next payload.
        given = self.taken(self.sign(self.record("lab_db", rspec={"cpu_share": 99})))
        self.assertEqual((given["rspec"]["cpu_share"], given["instantiation"]), (99, "plc-instantiated"))
        self.assertEqual(sorted(sync(time.time())["changed"]), ["lab_db"])
        self.assertEqual(self.slivers()["lab_db"]["rspec"]["cpu_share"], 32)

    def test_others(self) -> None:
        """
        A ticket touches its own sliver alone, and none that was made here; one that is not used is not lost.
        """
        self.hosted.ask("create lab_own kind=process")
        self.taken(self.sign(self.record("lab_web")))
        before = self.slivers()
        processes = self.hosted.processes()
        refused = self.sign(self.record("lab_own"))
        word, body = self.show(refused)
        self.assertEqual((word, body["code"]), ("error_reply", "WRONG_STATE"), body)
        self.assertEqual(self.slivers(), before)
        changed = self.taken(self.sign(self.record("lab_web", rspec={"cpu_share": 99}, keys=[])))
        self.assertEqual((changed["rspec"]["cpu_share"], changed["serial"]), (99, before["lab_web"]["serial"]))
        self.assertEqual(self.slivers()["lab_own"], before["lab_own"])
        self.assertEqual(self.hosted.processes(), processes)
        self.hosted.ask("destroy lab_own")
        self.taken(refused)

    def test_log(self) -> None:
        """
        No log has the ticket, which is somebody's right until it is used.
        """
        ticket = self.sign(self.record(hosts=["n8.example.org"]))
        self.refused(ticket, "host")
        body = "".join(ticket.splitlines()[1:-1])
        for path in (self.hosted.log, *self.hosted.state.glob("host.db*")):
            data = path.read_bytes()
            for piece in (body[:40], body[100:140]):
                self.assertNotIn(piece.encode(), data, path)

    def test_freshState(self) -> None:
        """
        A host that has lost its state does not take what it may have taken before.
        """
        ticket = self.sign(self.record())
        self.taken(ticket)
        self.hosted.ask("destroy lab_web")
        self.hosted.stop()
        for path in self.hosted.state.glob("host.db*"):
            path.unlink()
        self.hosted.start()
        self.refused(ticket, "old", "which tickets it has seen since")
        self.assertEqual(self.taken(self.sign(self.record()))["name"], "lab_web")


class ChildTests(ChildCase):
    """
    The offload child, which has no rights and can open no file.
    """

    def outcome(self, read: Callable[[], Any]) -> Any:
        """
        What is read, or why nothing is.
        """
        try:
            return read()
        except HostError as error:
            return error.code, error.message, error.details

    def test_same(self) -> None:
        """
        Whatever ticket it is given, the child says the same as the function in it: nothing is missing there.
        """
        site = Authority()
        names = [x509.IPAddress(ipaddress.ip_address(one)) for one in ("192.0.2.1", "2001:db8::1")]
        more: list[tuple[x509.ExtensionType, bool]] = [
            (FOR_SIGNATURES, True),
            (x509.IssuerAlternativeName([*names, x509.RFC822Name("ann@example.org")]), False),
            (x509.NameConstraints([x509.DNSName("example.org")], None), False),
            (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), ["https://x/"])]), False),
            (x509.CRLDistributionPoints([x509.DistributionPoint([names[0]], None, None, None)]), False),
            (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x"), False),
        ]
        rich = signer(site, more=more)
        record = {"sliver": "lab_web", "hosts": ["*"], "not_before": "2026-12-01T00:00:00Z", "not_after": 1797000000}
        put_together = [
            cms(written({**record, **what}), rich)
            for what in (
                {"number": 1},
                {"number": 1, "colour": 2},
                {"number": 1, "keys": ["x"]},
                {"rspec": {"cpu_shar": 1}},
            )
        ]
        directory = Path(__file__).parents[1] / "tickets"
        some = ("rsa", "pss", "p521", "tls", "weak", "md5", "nested", "stranger", "literal")
        stored = scaled([directory / f"{one}.cms" for one in some], sorted(directory.glob("*.cms")))
        root = (directory / "root.pem").read_text()
        asked = [(path.read_text(), root, 1796083300.0) for path in stored]
        asked += [(text(der), site.pem.decode(), time.time()) for der in put_together]
        for ticket, roots, now in asked:
            for revoked in ("", site.revoke(rich).decode()) if roots != root else ("",):
                body = {"text": ticket, "roots": roots, "revoked": revoked, "now": now}
                here = self.outcome(partial(read_ticket, body))
                self.assertEqual(self.outcome(partial(self.called, body)), here)

    def called(self, body: dict[str, Any]) -> Any:
        """
        What the child reads.
        """
        return run(self.loop, self.offload.call("read_ticket", lambda: body), 60)


@needs_tool("openssl")
class CrashTests(TicketCase):
    """
    Two at once, and crashes at any moment.
    """

    def test_twoAtOnce(self) -> None:
        """
        Of many who show the same ticket at once exactly one has it.
        """
        ticket = self.sign(self.record())
        clients = [self.hosted.client() for _ in range(4)]
        for client in clients:
            client.send(f"ticket {ticket!r}\n")
        replies = [client.reply() for client in clients]
        for client in clients:
            client.close()
        self.assertEqual(sorted(word for word, _ in replies), ["error_reply"] * 3 + ["ticket_reply"])
        self.assertEqual({body["reason"] for word, body in replies if word == "error_reply"}, {"seen"})

    def test_killed(self) -> None:
        """
        Killed at the answer, or at any moment before it: the number is taken if, and only if, the sliver is there.
        """
        dice = random.Random(SEED)
        for turn in range(scaled(3, 60)):
            name = f"lab_s{turn}"
            ticket = self.sign(self.record(name))
            answered = self.killed(ticket, None if turn == 0 else dice.uniform(0, 0.6))
            self.hosted.start()
            there = name in self.slivers()
            self.assertTrue(there or not answered, f"{name} was acknowledged and is lost")
            if there:
                self.refused(ticket, "seen")
            else:
                self.assertEqual(self.taken(ticket)["name"], name)
            until(lambda name=name: self.slivers()[name]["state"] == "running", what=self.slivers)  # type: ignore[misc]

    def killed(self, ticket: str, after_s: float | None) -> bool:
        """
        Show a ticket, and kill the daemon: at the answer, or after a while.

        @return: whether it was taken.
        """
        with Client(self.hosted.socket) as client:
            client.send(f"ticket {ticket!r}\n")
            if after_s is not None:
                time.sleep(after_s)
                self.hosted.kill()
            try:
                word, body = client.reply()
            except (NoReply, OSError):
                return False
            finally:
                self.hosted.kill()
        self.assertIn(word, ("ticket_reply", "error_reply"), body)
        return word == "ticket_reply"


class RootsTests(TicketCase):
    """
    Authorities of one's own choice.
    """

    def config(self) -> str:
        """
        With files, which are there later.
        """
        self.other = Authority("other")
        return ""

    def test_roots(self) -> None:
        """
        The configuration may name other authorities than the site's own, and what they have revoked; a file that
        cannot be read, or that others may write, lets nobody in, and the caller learns no more than that.
        """
        roots, crl = (Path(self.directory) / name for name in ("roots.pem", "crls.pem"))
        self.hosted.configure(f'[tickets]\nroots_file = "{roots}"\ncrl_file = "{crl}"\n')
        self.hosted.stop()
        self.hosted.start()
        eve = signer(self.other, "eve")
        ticket = self.sign(self.record(hosts=["*"]), eve)
        word, body = self.show(ticket)
        self.assertEqual((word, body["code"]), ("error_reply", "FAILED"), body)
        self.assertNotIn(str(self.directory), body["message"])
        self.assertIn(str(roots), self.hosted.said())
        roots.write_bytes(self.other.pem)
        crl.write_bytes(self.other.revoke(eve))
        self.refused(ticket, "revoked")
        crl.write_bytes(self.other.revoke())
        self.refused(self.sign(self.record(hosts=["*"])), "root")
        roots.chmod(0o666)
        self.assertEqual(self.show(ticket)[1]["code"], "FAILED")
        roots.chmod(0o644)
        self.taken(ticket)
