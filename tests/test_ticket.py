"""
Tickets: what a record may say, when it is good, and what comes of it on a host.
"""

from __future__ import annotations

import ast
import json
import time
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadTicket
from hostline.server.callers import Caller
from hostline.server.config import Authority as Followed
from hostline.server.config import Config
from hostline.server.credentials import Spent
from hostline.server.records import Authority as Known
from hostline.server.records import Sliver
from hostline.server.slivers.ticket import decide, read_record, since, source_of
from tests.certificates import Authority
from tests.daemons import EPOCH, make
from tests.scale import scaled
from tests.test_cms import RECORD
from tests.test_payload import full
from tests.test_payload import sliver as entry
from tests.ticketing import KEY, cms, signer, text, written

_GOOD: dict[str, Any] = {"sliver": "lab_web", "hosts": ["*"], "not_before": 100, "not_after": 200, "number": 1}


def record(**more: Any) -> dict[str, Any]:
    """
    A record as it is read.
    """
    return read_record(json.dumps({**_GOOD, **more}).encode())


def wrong(content: bytes | dict[str, Any]) -> str:
    """
    Why a record is refused; empty if it is not.
    """
    data = content if isinstance(content, bytes) else json.dumps({**_GOOD, **content}).encode()
    try:
        read_record(data)
    except BadTicket as error:
        assert error.details == {"reason": "form"}
        assert error.message.encode("utf-8") and len(error.message) < 500
        return error.message
    return ""


class RecordTests(SynchronousTestCase):
    """
    What is signed.
    """

    def test_all(self) -> None:
        """
        All that a ticket may say of a sliver.
        """
        said = {
            "sliver": "lab_web",
            "kind": "container",
            "image": "debian12",
            "rspec": {"cpu_share": 64, "memory_max": 1 << 30},
            "keys": [KEY, KEY],
            "users": ["ann", "bob"],
            "initscript": "#!/bin/sh\nexit 0\n",
            "start_command": "sleep 1",
            "expires": "2027-01-31T12:00:00Z",
            "hosts": ["n7.example.org", "N8"],
            "not_before": "1970-01-01T00:01:40+00:00",
            "not_after": 200.5,
            "number": "x-1",
        }
        expected = {**said, "keys": [KEY], "expires": 1801396800.0, "not_before": 100.0, "not_after": 200.5}
        self.assertEqual(record(**said), expected)

    def test_least(self) -> None:
        """
        The least that it must say; what is null is not said.
        """
        self.assertEqual(record(), {**_GOOD, "not_before": 100.0, "not_after": 200.0, "number": "1"})
        self.assertEqual(record(rspec=None, keys=None, expires=None), record())
        for key in _GOOD:
            self.assertIn(f"want the key {key}", wrong({key: None}))
            left = {name: value for name, value in _GOOD.items() if name != key}
            self.assertIn(f"want the key {key}", wrong(json.dumps(left).encode()))

    def test_wrong(self) -> None:
        """
        Whatever else it says is refused by its name.
        """
        for more, message in (
            ({"colour": 1}, "no key 'colour'; known are sliver, hosts"),
            ({"keyz": 1}, "did you mean keys"),
            ({"sliver": "web"}, "sliver: "),
            ({"sliver": 5}, "sliver: "),
            ({"sliver": "web.exp1.lab"}, "sliver: "),
            ({"hosts": []}, "hosts: want a list"),
            ({"hosts": "*"}, "hosts: want a list"),
            ({"hosts": ["*", "a"]}, "got both"),
            ({"hosts": ["a b"]}, "want names of hosts"),
            ({"hosts": ["\u00e9"]}, "want names of hosts"),
            ({"hosts": [1]}, "want names of hosts"),
            ({"not_before": "+30m"}, "not_before: want Unix seconds"),
            ({"not_before": True}, "not_before: want Unix seconds"),
            ({"not_before": "2026-01-01T00:00:00"}, "not_before: "),
            ({"not_before": -1}, "not_before: "),
            ({"not_after": 10**400}, "not_after: "),
            ({"not_after": 99}, "want not_after behind not_before"),
            ({"number": -1}, "number: "),
            ({"number": 1.5}, "number: "),
            ({"number": True}, "number: "),
            ({"number": ""}, "number: "),
            ({"number": "a b"}, "number: "),
            ({"number": "x" * 65}, "number: "),
            ({"kind": "qemu"}, "kind: "),
            ({"image": "../x"}, "image: "),
            ({"rspec": []}, "rspec: want an object"),
            ({"rspec": {"cpu_shar": 1}}, "rspec: no resource 'cpu_shar' (did you mean cpu_share"),
            ({"rspec": {"cpu_share": "64"}}, "rspec: cpu_share: "),
            ({"keys": [KEY + "\nssh-rsa AAAA"]}, "keys: item 1"),
            ({"keys": ['command="x" ' + KEY]}, "keys: item 1"),
            ({"keys": [KEY + "x" * 20000]}, "keys: item 1: want at most 16384 characters"),
            ({"keys": KEY}, "keys: want a list"),
            ({"users": ["a b"]}, "users: item 1"),
            ({"initscript": 5}, "initscript: want text"),
            ({"initscript": "a\0"}, "initscript: a NUL"),
            ({"start_command": "\ud800"}, "start_command: a lone surrogate"),
            ({"expires": "soon"}, "expires: "),
        ):
            self.assertIn(message, wrong(more))

    def test_json(self) -> None:
        """
        It is one JSON object, in which nothing is there twice, and every number is one.
        """
        good = json.dumps(_GOOD)
        for content, message in (
            (b"", "want a JSON object"),
            (b"[]", "want a JSON object, got []"),
            (b"\xff", "want a JSON object in UTF-8"),
            (b"\xef\xbb\xbf" + good.encode(), "want a JSON object"),
            (good.encode("utf-16"), "want a JSON object"),
            (good.encode() + b"x", "want a JSON object"),
            (good[:-1].encode() + b', "number": 2}', "the key 'number' is there twice"),
            (good[:-1].encode() + b', "rspec": {"cpu_share": 1, "cpu_share": 2}}', "'cpu_share' is there twice"),
            (good[:-1].encode() + b', "expires": NaN}', "NaN is no number"),
            (good[:-1].encode() + b', "expires": Infinity}', "Infinity is no number"),
            (good[:-1].encode() + b', "expires": 1e999}', "expires: "),
            (good[:-1].encode() + b', "expires": ' + b"9" * 5000 + b"}", "want a JSON object"),
            (b"[" * 60000, "too deep"),
        ):
            self.assertIn(message, wrong(content))

    @settings(max_examples=scaled(200, 5000))
    @given(
        st.dictionaries(
            st.sampled_from([*RECORD, "initscript", "users", "image", "expires", "x"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
            ),
        )
    )
    def test_anything(self, said: dict[str, Any]) -> None:
        """
        Whatever it says, it is read or refused, and nothing else comes of it.
        """
        wrong(said)

    @given(st.binary(max_size=200))
    def test_anyBytes(self, data: bytes) -> None:
        """
        Nor of any bytes.
        """
        wrong(data)


class DecideTests(SynchronousTestCase):
    """
    Whether a ticket is good, here and now.
    """

    def reason(self, said: dict[str, Any], now: float = 150, **more: Any) -> str:
        """
        The word that says why not; empty if it is.
        """
        asked = {"most_s": 1000.0, "payload": 0.0, "remembers": 50.0, "forgets": 0.0, "spent": False, **more}
        try:
            decide(record(**said), now, {"n7.example.org", "n7"}, **asked)
        except BadTicket as error:
            word: str = error.details["reason"]
            return word
        return ""

    def test_hosts(self) -> None:
        """
        It is for any host, or for those it names: whole names, case aside.
        """
        for hosts, good in (
            (["*"], True),
            (["n7.example.org"], True),
            (["x", "N7.Example.ORG."], True),
            (["n7"], True),
            (["n8"], False),
            (["example.org"], False),
            (["n7.example"], False),
            (["*.example.org"], False),
        ):
            self.assertEqual(self.reason({"hosts": hosts}), "" if good else "host", hosts)

    def test_time(self) -> None:
        """
        It is good from its first moment to its last.
        """
        for now, word in ((99.9, "early"), (100, ""), (200, ""), (200.1, "late")):
            self.assertEqual(self.reason({}, now), word)
        self.assertEqual(self.reason({"expires": 150}), "late")
        self.assertEqual(self.reason({"expires": 151}), "")
        self.assertEqual(self.reason({"not_after": 1100}), "")
        self.assertEqual(self.reason({"not_after": 1101}), "long")

    def test_known(self) -> None:
        """
        It is refused if it was seen, or could have been, or if the authority has said more since.
        """
        self.assertEqual(self.reason({}, spent=True), "seen")
        self.assertEqual(self.reason({}, payload=100.0), "")
        self.assertEqual(self.reason({}, payload=100.1), "old")
        self.assertEqual(self.reason({}, remembers=100.1), "old")
        self.assertEqual(self.reason({}, forgets=199.9), "")
        self.assertEqual(self.reason({}, forgets=200.0), "old")

    def test_source(self) -> None:
        """
        What a sliver follows tells which slice it is of, and since when the ticket is good.
        """
        self.assertEqual((source_of("", 100.0), source_of("31/0af", 1.5)), ("/ticket:100.0", "31/ticket:1.5"))
        self.assertEqual(source_of("31/ticket:1.5", 2.5), "31/ticket:2.5")
        for source, begins in (("", 0.0), ("31/0af", 0.0), ("/ticket:100.0", 100.0), ("31/ticket:1.5", 1.5)):
            self.assertEqual(since(source), begins)


class TakenTests(SynchronousTestCase):
    """
    What comes of a good ticket on a host.
    """

    def setUp(self) -> None:
        self.daemon = make(config=Config(authority=Followed(kind="process")))
        self.client = self.daemon.connect(5001)
        self.operator = self.daemon.connect()
        self.count = 0

    def show(self, name: str = "lab_web", of: str = "s", wait: str = "", **more: Any) -> Any:
        """
        The reply to a ticket that says so, good from now on.
        """
        self.count += 1
        now = self.daemon.now()
        said = {"sliver": name, "not_before": now, "not_after": now + 100, "number": self.count, **more}
        reading = {"record": record(**said), "signer": of, "name": "CN=ann"}

        async def call(name: str, argument: Any, deadline_s: float = 20, *, who: str = "") -> Any:
            assert (name, who) == ("read_ticket", "uid:5001")
            return reading

        self.daemon.offload.call = call  # type: ignore[method-assign]
        return self.client.ask(f"ticket x {wait}")

    def made(self, *args: Any, **more: Any) -> dict[str, Any]:
        """
        The sliver that a ticket gives.
        """
        reply = self.show(*args, **more)
        self.assertEqual(reply.word, "ticket_reply", reply.body)
        body: dict[str, Any] = reply.body
        return body

    def code(self, *args: Any, **more: Any) -> str:
        """
        The error that a ticket gives, and its reason.
        """
        body = self.show(*args, **more).body
        return f"{body['code']} {body.get('reason', '')}".strip()

    def sliver(self, name: str = "lab_web") -> Sliver:
        """
        A sliver's record.
        """
        found = self.daemon.host.sliver_named(name)
        assert found is not None
        return found

    def sync(self, *entries: dict[str, Any]) -> dict[str, Any]:
        """
        Take over a payload of now.
        """
        payload = {**full(*entries), "node_id": None, "hostname": None, "timestamp": self.daemon.now()}
        self.daemon.offload.__dict__.pop("call", None)
        body: dict[str, Any] = self.operator.body(f"sync {json.dumps(payload)!r}")
        return body

    def test_signed(self) -> None:
        """
        A ticket as it comes in a request, from a signer of the authority that this host believes; then not any more.
        """
        long_ago = EPOCH - time.time() - 60
        site = Authority(begins_s=long_ago)
        trust = self.daemon.directory / "trust"
        trust.mkdir(0o700)
        (trust / "ca.pem").write_bytes(site.pem)
        (trust / "ca.pem").chmod(0o600)
        said = {**_GOOD, "not_before": EPOCH, "not_after": EPOCH + 100}
        ticket = text(cms(written(said), signer(site, begins_s=long_ago)))
        self.assertEqual(self.client.body(f"ticket {ticket!r}")["name"], "lab_web")
        self.assertEqual(self.client.ask(f"ticket {ticket!r}").body["reason"], "seen")
        (trust / "ca.pem").unlink()
        self.assertEqual(self.client.ask(f"ticket {ticket!r}").body["reason"], "root")
        told = [ast.literal_eval(one["about"]) for one in self.operator.body("audit command=ticket")["entries"]]
        self.assertEqual([one.get("reason") for one in told], [None, "seen", "root"])
        self.assertEqual([one.get("sliver") for one in told], ["lab_web", "lab_web", None])
        (trust / "ca.pem").write_text("x")
        (trust / "ca.pem").chmod(0o666)
        self.assertEqual(self.client.code(f"ticket {ticket!r}"), "FAILED")

    def test_doctor(self) -> None:
        """
        Doctor says how many authorities are believed, and what is in the way where no ticket can be taken.
        """

        def found() -> tuple[bool, str]:
            (one,) = [one for one in self.operator.body("doctor") if one["check"] == "tickets"]
            return one["ok"], one["detail"]

        trust = self.daemon.directory / "trust"
        self.assertEqual(found(), (True, "none can be taken: no authority is believed; numbers remembered: 0"))
        self.made()
        trust.mkdir(0o700)
        for data, mode, want in (
            (Authority().pem, 0o600, "authorities believed: 1; numbers remembered: 1"),
            (Authority().pem, 0o666, "no ticket can be taken: .*ca.pem"),
            (b"x", 0o600, "no ticket can be taken: "),
        ):
            (trust / "ca.pem").write_bytes(data)
            (trust / "ca.pem").chmod(mode)
            well, said = found()
            self.assertEqual(well, want.startswith("auth"), said)
            self.assertRegex(said, want)

    def test_made(self) -> None:
        """
        The sliver is made and started; the kind is the configuration's if the ticket names none.
        """
        body = self.made(rspec={"cpu_share": 64}, keys=[KEY], expires=EPOCH + 500)
        self.assertEqual((body["kind"], body["state"], body["instantiation"]), ("process", "running", "ticket"))
        self.assertEqual((body["rspec"]["cpu_share"], body["expires"]), (64, EPOCH + 500))
        self.daemon.check()

    def test_once(self) -> None:
        """
        A number is taken once of each signer; a crash forgets none.
        """
        self.made(number="n")
        self.assertEqual(self.code(number="n"), "BAD_TICKET seen")
        self.daemon.crash()
        self.client, self.operator = self.daemon.connect(5001), self.daemon.connect()
        self.assertEqual(self.code(number="n"), "BAD_TICKET seen")
        self.made("lab_other", number="n", of="another")

    def test_notWritten(self) -> None:
        """
        If the sliver cannot be written, the number is not taken either.
        """
        self.daemon.store.full = True
        self.assertEqual(self.code(number="n"), "STORE_FAILED")
        self.daemon.store.full = False
        self.made(number="n")

    def test_refusedLater(self) -> None:
        """
        A ticket that this host could not serve is not used up.
        """
        self.assertEqual(self.code(number="n", kind="account"), "WRONG_STATE")
        self.assertEqual(self.code(number="n", rspec={"cpu_min": 10**6}), "NO_ROOM")
        self.assertEqual(self.daemon.host.table(Spent), {})
        self.made(number="n")

    def test_local(self) -> None:
        """
        What was made on this host is not touched.
        """
        self.operator.body("create lab_web kind=process")
        before = self.sliver()
        self.assertEqual(self.code(keys=[KEY]), "WRONG_STATE")
        self.assertEqual(self.sliver(), before)

    def test_set(self) -> None:
        """
        A second ticket changes what it names, and leaves the rest and the sliver itself as they are.
        """
        self.made(keys=[KEY], rspec={"cpu_share": 64, "pids_max": 99})
        before = self.sliver()
        self.operator.body("stop lab_web")
        body = self.made(rspec={"cpu_share": 99}, start_command="true")
        self.assertEqual(
            (body["serial"], body["rspec"]["cpu_share"], body["rspec"]["pids_max"]), (before.serial, 99, 99)
        )
        self.assertEqual((self.sliver().keys, self.sliver().wanted), ((KEY,), "stopped"))
        self.assertEqual(self.code(kind="container"), "WRONG_STATE")

    def test_users(self) -> None:
        """
        The first user of this host that it names owns the sliver; who showed the ticket owns nothing.
        """
        self.daemon.lab(member=5002, other=5003)
        self.made()
        self.assertEqual((self.sliver().owner, self.sliver().users), ("", ()))
        self.assertEqual(self.client.code("sliver lab_web"), "NO_SUCH_SLIVER")
        body = self.made(users=["nobody", "ann"])
        self.assertEqual((body["owner"], body["users"]), ("ann", ["ann"]))

    def test_delegated(self) -> None:
        """
        A sliver whose record is there, to be made on request, is made by a ticket.
        """
        self.sync(entry(instantiation="delegated", expires=None))
        self.assertEqual(self.sliver().wanted, "absent")
        self.assertEqual(self.made(rspec={"cpu_share": 64})["state"], "running")
        self.assertEqual(self.sliver().instantiation, "delegated")

    def test_payloads(self) -> None:
        """
        A payload that is newer than the ticket knows better: what it leaves out is doomed, what it names is as it says.
        """
        self.sync(entry("lab_db", expires=None), entry("lab_c", expires=None))
        self.daemon.advance(10)
        self.made()
        self.made("lab_db", rspec={"cpu_share": 99})
        self.assertEqual(self.sliver("lab_db").instantiation, "plc-instantiated")
        self.daemon.advance(10)
        body = self.sync(entry("lab_db", expires=None), entry("lab_c", expires=None))
        self.assertEqual((body["stopped"], body["changed"], body["kept"]), (["lab_web"], ["lab_db"], ["lab_c"]))
        self.assertEqual(self.sliver("lab_db").rspec["cpu_share"], 32)
        self.daemon.advance(10)
        self.made()
        self.assertEqual(self.operator.body("sliver lab_web")["state"], "running")
        self.assertIsNone(self.sliver().doomed)

    def test_brake(self) -> None:
        """
        However many slivers came by tickets, a payload that leaves them out is taken; one that leaves out the
        authority's own is held as ever, and then the others stay too.
        """
        self.sync(entry("lab_db", expires=None))
        self.daemon.advance(10)
        for number in range(5):
            self.made(f"lab_t{number}")
        self.daemon.advance(10)
        payload = {**full(), "node_id": None, "hostname": None, "timestamp": self.daemon.now()}
        self.daemon.offload.__dict__.pop("call", None)
        self.assertEqual(self.operator.code(f"sync {json.dumps(payload)!r}"), "HELD")
        self.assertEqual({one.doomed for one in self.daemon.host.free_slivers()}, {None})
        self.assertEqual(len(self.sync(entry("lab_db", expires=None))["stopped"]), 5)

    def test_newerThanThePayload(self) -> None:
        """
        A payload from before the ticket, which comes after it, leaves alone what the ticket gave.
        """
        self.sync(entry("lab_db", expires=None))
        self.daemon.advance(10)
        self.made(not_before=self.daemon.now() + 0.0)
        self.made("lab_db", rspec={"cpu_share": 99})
        payload = {**full(entry("lab_db", expires=None)), "node_id": None, "hostname": None}
        payload["timestamp"] = self.daemon.now() - 5
        self.daemon.offload.__dict__.pop("call", None)
        body = self.operator.body(f"sync {json.dumps(payload)!r}")
        self.assertEqual((body["stopped"], body["changed"], body["kept"]), ([], [], ["lab_db"]))
        self.assertEqual(self.sliver("lab_db").rspec["cpu_share"], 99)
        body = self.operator.body(f"sync {json.dumps(payload)!r} force=True")
        self.assertEqual((body["stopped"], body["changed"]), (["lab_web"], ["lab_db"]))

    def test_takenOver(self) -> None:
        """
        A sliver that a ticket made is the authority's once a newer payload names it.
        """
        self.made()
        serial = self.sliver().serial
        self.daemon.advance(10)
        self.assertEqual(self.sync(entry(expires=None))["changed"], ["lab_web"])
        self.assertEqual((self.sliver().serial, self.sliver().instantiation), (serial, "plc-instantiated"))

    def test_expired(self) -> None:
        """
        A sliver whose time is over comes back with a ticket that gives it more, and not with another.
        """
        self.made(expires=EPOCH + 600)
        self.daemon.advance(1000)
        self.assertIsNotNone(self.sliver().doomed)
        self.assertEqual(self.code(), "WRONG_STATE")
        self.assertEqual(self.made(expires=EPOCH + 10000)["state"], "starting")
        self.assertEqual(self.operator.body("sliver lab_web")["state"], "running")

    def test_unknownPast(self) -> None:
        """
        What was signed before this host remembers is refused, also when its state was damaged later.
        """
        self.assertEqual(self.code(not_before=EPOCH - 1), "BAD_TICKET old")
        self.daemon.advance(100)
        self.made(not_before=EPOCH + 1, not_after=EPOCH + 500, number="n")
        self.daemon.disk.connection.execute("UPDATE records SET body = 'x' WHERE kind = 'spent'")
        self.daemon.crash()
        self.client, self.operator = self.daemon.connect(5001), self.daemon.connect()
        self.assertEqual(self.code(not_before=EPOCH + 1, not_after=EPOCH + 500, number="n"), "BAD_TICKET old")
        (known,) = self.daemon.host.table(Known).values()
        self.assertGreaterEqual(known.remembers, EPOCH + 100)

    def test_forgotten(self) -> None:
        """
        A number is forgotten when its ticket is long out of its time, however wrong the clock can be.
        """
        self.made()
        self.daemon.advance(20 * 86400)
        self.daemon.daemon.round()
        self.daemon.settle()
        self.assertEqual(len(self.daemon.host.table(Spent)), 1)
        self.daemon.advance(20 * 86400)
        self.daemon.daemon.round()
        self.daemon.settle()
        self.assertEqual(len(self.daemon.host.table(Spent)), 0)

    def test_forgottenTooEarly(self) -> None:
        """
        A ticket whose number was forgotten by a clock that was far ahead is not taken again once that is put right.
        """
        said = {"not_before": EPOCH + 1, "not_after": EPOCH + 500, "number": "n"}
        self.daemon.advance(2)
        self.made(**said)
        self.operator.body("destroy lab_web wait=60")
        self.daemon.clock.rightNow += 40 * 86400
        self.daemon.daemon.round()
        self.daemon.settle()
        self.assertEqual(len(self.daemon.host.table(Spent)), 0)
        back = EPOCH + 10 - self.daemon.clock.seconds()
        self.daemon.daemon.now = lambda: back + self.daemon.clock.seconds()
        self.assertEqual(self.code(**said), "BAD_TICKET old")

    def test_clock(self) -> None:
        """
        A host that came up first with a clock far ahead takes tickets once it was told that its clock is right.
        """
        host = self.daemon.host
        change = host.change(self.daemon.now())
        change.put(attrs.evolve(next(iter(host.table(Known).values())), remembers=EPOCH + 10**6, wall=EPOCH + 10**6))
        self.daemon.daemon.commit(change)
        self.daemon.settle()
        self.daemon.crash()
        self.client, self.operator = self.daemon.connect(5001), self.daemon.connect()
        self.daemon.daemon.round()
        self.assertEqual(self.code(), "BAD_TICKET old")
        self.operator.body("accept_clock")
        self.daemon.advance(3700)
        self.daemon.daemon.round()
        self.daemon.settle()
        self.daemon.advance(1)
        self.made()

    def test_operation(self) -> None:
        """
        Who showed a ticket may wait for what comes of it, and nobody else of his kind.
        """
        self.daemon.driver.boot_after = self.daemon.slow = 60.0
        self.count = 7
        reply = self.show(wait="wait=0")
        number = reply.body["operation"]
        self.assertEqual(self.client.body(f"operation {number}")["state"], "running")
        other = self.daemon.connect(5009)
        self.assertEqual(other.code(f"operation {number}"), "NO_SUCH_OPERATION")

    def test_nothingIsTold(self) -> None:
        """
        Who shows what is no ticket learns the same whether a sliver is there or not.
        """
        unsigned = json.dumps({**_GOOD, "sliver": "lab_own"})
        before = self.client.ask(f"ticket {unsigned!r}")
        self.operator.body("create lab_own kind=process")
        after = self.client.ask(f"ticket {unsigned!r}")
        self.assertEqual((before.body, after.body["reason"]), (after.body, "unsigned"))

    def test_inside(self) -> None:
        """
        Through a sliver's own socket no ticket can be shown.
        """
        self.made()
        inside = self.daemon.connect(0)
        inside.connection.caller = Caller(0, via="sliver", sliver=self.sliver().serial)
        self.assertEqual(inside.code("ticket x"), "DENIED")
