"""
A whole daemon that follows an authority: payloads in, slivers and events out; over crashes, and jumps of the clock.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import OperationFailed
from hostline.server.config import Authority, Config
from hostline.server.records import Sliver
from hostline.server.slivers.trusted_time import Moment
from tests.daemons import EPOCH, Client, FakeOffload, MemoryDaemon
from tests.scale import scaled
from tests.test_payload import KEY, full, sliver

GRACE = 7 * 86400.0


def following(**settings: Any) -> MemoryDaemon:
    """
    A daemon whose slivers are processes unless a payload says otherwise.
    """
    config = Config(authority=Authority(**{"kind": "process", "hostname": "n7.example.org", "node_id": 7, **settings}))
    return MemoryDaemon(config)


class FollowingCase(SynchronousTestCase):
    """
    A daemon and its operator.
    """

    def setUp(self) -> None:
        self.whole = following()
        self.operator: Client = self.whole.connect()
        self.stamp = EPOCH

    def payload(self, *slivers: Any, **more: Any) -> str:
        """
        A payload, each of a later time than the one before, as a word of a request.
        """
        self.stamp += 1
        value = full(*slivers, **{"timestamp": self.stamp, **more})
        value["slivers"] = [{"expires": None, **one} if isinstance(one, dict) else one for one in value["slivers"]]
        return repr(repr(value))

    def sync(self, *slivers: Any, **more: Any) -> dict[str, Any]:
        """
        What a payload changes.
        """
        body: dict[str, Any] = self.operator.body(f"sync {self.payload(*slivers, **more)}")
        return body

    def force(self, *slivers: Any) -> dict[str, Any]:
        """
        The same, whatever the brake says.
        """
        body: dict[str, Any] = self.operator.body(f"sync {self.payload(*slivers)} force=True")
        return body

    def state(self, name: str) -> str:
        """
        The state of a sliver.
        """
        return str(self.operator.body(f"sliver {name}")["state"])

    def finding(self, check: str) -> dict[str, Any]:
        """
        What doctor says of something.
        """
        (found,) = [one for one in self.operator.body("doctor") if one["check"] == check]
        return dict(found)

    def events(self, what: str) -> list[dict[str, Any]]:
        """
        The events of one kind.
        """
        return [one for one in self.operator.body("events limit=10000") if one["what"] == what]


def lasting(name: str, **more: Any) -> dict[str, Any]:
    """
    An entry that does not expire.
    """
    return sliver(name, **{"expires": None, **more})


A, B, C, D = (lasting(f"lab_{one}") for one in "abcd")


class SyncTests(FollowingCase):
    """
    What a payload makes of a host.
    """

    def test_bigByHand(self) -> None:
        """
        By hand a payload may be as long as one that is fetched; it is sent ahead.
        """
        data = (ast.literal_eval(self.payload(A)) + " " * (5 << 20)).encode()
        name = hashlib.sha256(data).hexdigest()
        for at in range(0, len(data), 500_000):
            piece = base64.b64encode(data[at : at + 500_000]).decode()
            self.operator.body(f"blob {name} {len(data)} {at} '{piece}'")
        self.assertEqual(self.operator.body(f"sync blob:{name}")["created"], ["lab_a"])

    def test_made(self) -> None:
        """Slivers of a payload are made and started; the reply names them."""
        found = self.sync(A, B)
        self.assertEqual((found["created"], found["refused"]), (["lab_a", "lab_b"], {}))
        self.assertEqual(self.state("lab_a"), "running")
        body = self.operator.body("sliver lab_a")
        self.assertEqual((body["instantiation"], body["problems"]), ("plc-instantiated", []))
        self.assertEqual(self.operator.body("get_ssh_keys lab_a"), {"lab_a": [KEY]})
        self.whole.check()

    def test_givesBackFirst(self) -> None:
        """What one sliver is promised less another may be promised by the same payload, in any order."""
        cores = self.whole.daemon.cores
        most = str(cores * 900)
        self.sync(lasting("lab_b", tags={"cpu_min": most}))
        found = self.sync(lasting("lab_a", tags={"cpu_min": most}), lasting("lab_b", tags={"cpu_min": "0"}))
        self.assertEqual((found["created"], found["changed"], found["refused"]), (["lab_a"], ["lab_b"], {}))
        found = self.sync(lasting("lab_a", tags={"cpu_min": "0"}), lasting("lab_b", tags={"cpu_min": most}))
        self.assertEqual((sorted(found["changed"]), found["refused"]), (["lab_a", "lab_b"], {}))

    def test_delegated(self) -> None:
        """A delegated sliver has a record only, until its owner asks for it; destroyed, the record stays."""
        self.whole.lab()
        self.sync(lasting("lab_d", instantiation="delegated", users=["ann"]))
        self.assertEqual(self.state("lab_d"), "absent")
        ann = self.whole.connect(5001)
        ann.body("create lab_d")
        self.assertEqual(self.state("lab_d"), "running")
        ann.body("destroy lab_d")
        self.assertEqual(self.state("lab_d"), "absent")
        self.assertEqual(ann.body("create lab_d")["serial"], self.operator.body("sliver lab_d")["serial"])

    def test_delegatedNowByRecord(self) -> None:
        """A sliver that was made on request only is made when its record says so."""
        self.sync(lasting("lab_d", instantiation="delegated"))
        self.sync(lasting("lab_d"))
        self.assertEqual(self.state("lab_d"), "running")

    def test_delegatedFollows(self) -> None:
        """A delegated sliver that runs follows its record like any other, and so it does loans."""
        self.sync(lasting("lab_d", instantiation="delegated"), A)
        self.operator.body("create lab_d")
        pid = self.operator.body("sliver lab_d")["pid"]
        found = self.sync(lasting("lab_d", instantiation="delegated", keys=[], tags={"cpu_share": "64"}), A)
        self.assertEqual(found["changed"], ["lab_d"])
        body = self.operator.body("sliver lab_d")
        self.assertEqual((body["in_force"]["cpu_share"], body["pid"]), (64, pid))
        self.assertEqual(self.operator.body("get_ssh_keys lab_d"), {"lab_d": []})
        self.operator.body("set_loans lab_d [['lab_a','cpu_share',16]]")
        self.assertEqual(self.operator.body("sliver lab_d")["in_force"]["cpu_share"], 48)
        self.assertEqual(self.operator.body("sliver lab_a")["in_force"]["cpu_share"], 48)

    def test_otherLanguages(self) -> None:
        """What a payload says in other languages comes back as it was, also after a crash; in errors it is quoted."""
        script, key = "#!/bin/sh\necho caf\u00e9 \u6f22\u5b57 \U0001f600\n", "ssh-ed25519 AAAA Ren\u00e9 \u6f22"
        named = lasting("lab_a", keys=[key], tags={"cpu_share": "\u6f22", "initscript_code": script})
        found = self.sync(named, B, lasting("lab_\u6f22"))
        self.assertEqual(list(found["refused"]), ["'lab_\\u6f22'"])
        for _ in range(2):
            self.assertEqual(self.operator.body("get_ssh_keys lab_a"), {"lab_a": [key]})
            made = self.whole.host.sliver_named("lab_a")
            assert made is not None
            self.assertEqual(made.initscript, script)
            self.assertIn("got '\\u6f22'", str(self.operator.body("sliver lab_a")["problems"][0]))
            self.assertIn("\\u6f22", self.operator.ask("sliver lab_\u6f22").body["message"])
            self.whole.crash()
            self.operator = self.whole.connect()

    def test_oneBadRecord(self) -> None:
        """One bad entry is named, in the reply and by doctor, and the others are made."""
        bad = lasting("lab_b")
        del bad["instantiation"]
        found = self.sync(A, bad, C)
        self.assertEqual((found["created"], list(found["refused"])), (["lab_a", "lab_c"], ["lab_b"]))
        self.assertIn("lab_b: instantiation", self.finding("authority's records")["detail"])
        self.sync(A, B, C)
        self.assertTrue(self.finding("authority's records")["ok"])

    def test_badBecomesBad(self) -> None:
        """A sliver whose entry goes bad stays as it is."""
        self.sync(A, B)
        bad = {key: value for key, value in B.items() if key != "instantiation"}
        self.assertEqual(self.sync(A, bad)["stopped"], [])
        self.assertEqual(self.state("lab_b"), "running")

    def test_changed(self) -> None:
        """A change of a tag and of the keys reaches a running sliver, which stays up; it is one write."""
        self.sync(A, B)
        pid = self.operator.body("sliver lab_a")["pid"]
        found = self.sync(lasting("lab_a", keys=[], tags={"cpu_share": "64"}), B)
        self.assertEqual((found["changed"], found["kept"]), (["lab_a"], ["lab_b"]))
        body = self.operator.body("sliver lab_a")
        self.assertEqual((body["rspec"]["cpu_share"], body["pid"]), (64, pid))
        self.assertEqual(self.operator.body("get_ssh_keys lab_a"), {"lab_a": []})

    def test_enabled(self) -> None:
        """A sliver that is no longer enabled is stopped, and started once it is again."""
        self.sync(A, B)
        self.sync(lasting("lab_a", tags={"enabled": "0"}), B)
        self.assertEqual(self.state("lab_a"), "stopped")
        self.sync(A, B)
        self.assertEqual(self.state("lab_a"), "running")

    def test_stoppedByHand(self) -> None:
        """A sliver that its owner stopped is not started by a payload that says nothing new."""
        self.sync(A, B)
        self.operator.body("stop lab_a")
        self.sync(A, lasting("lab_b", keys=[]))
        self.assertEqual(self.state("lab_a"), "stopped")

    def test_failedIsTriedAgain(self) -> None:
        """What could not be made or started is tried again with the next payload, unless it was stopped since."""
        driver = self.whole.driver
        driver.errors["ensure_created"] = [OSError("no room"), OSError("no room")]
        self.sync(A, B)
        self.assertEqual([self.state(name) for name in ("lab_a", "lab_b")], ["failed", "failed"])
        self.operator.body("stop lab_b")
        self.assertEqual(self.sync(A, B)["kept"], ["lab_a", "lab_b"])
        self.assertEqual(self.state("lab_a"), "running")
        self.assertIsNone(self.operator.body("sliver lab_b")["pid"])
        driver.end(self.operator.body("sliver lab_a")["serial"], 137)
        self.whole.settle()
        self.sync(A, B)
        self.assertIsNone(self.operator.body("sliver lab_a")["pid"])
        self.whole.check()

    def test_unchangedIsOneWrite(self) -> None:
        """A payload with nothing new writes one record, whatever the number of slivers."""
        self.sync(*(lasting(f"lab_{at}") for at in range(50)))
        before = self.whole.disk.records()
        self.sync(*(lasting(f"lab_{at}") for at in range(50)))
        after = self.whole.disk.records()
        self.assertEqual([key for key in after if after[key] != before.get(key)], [("authority", "0")])

    def test_local(self) -> None:
        """What was made here is neither changed by a payload that names it nor stopped by one that does not."""
        self.operator.body("create lab_a kind=process")
        serial = self.operator.body("sliver lab_a")["serial"]
        self.assertIn("lab_a", self.sync(A, B)["refused"])
        self.assertEqual(self.force(B)["stopped"], [])
        body = self.operator.body("sliver lab_a")
        self.assertEqual((body["serial"], body["state"], body["instantiation"]), (serial, "running", "local"))

    def test_stale(self) -> None:
        """An older payload changes nothing and is told to be stale."""
        self.sync(A, B)
        before = self.whole.disk.records()
        reply = self.operator.ask(f"sync {self.payload(timestamp=5)}")
        self.assertEqual(reply.body["code"], "BAD_PAYLOAD")
        self.assertIn("stale", reply.body["message"])
        self.assertEqual(self.whole.disk.records(), before)

    def test_wrongNode(self) -> None:
        """The payload of another node changes nothing and says so."""
        self.sync(A)
        reply = self.operator.ask(f"sync {self.payload(B, node_id=8)}")
        self.assertEqual(reply.body["code"], "BAD_PAYLOAD")
        self.assertIn("node_id 8", reply.body["message"])
        self.assertEqual([one["name"] for one in self.operator.body("slivers")], ["lab_a"])

    def test_kindStays(self) -> None:
        """What cannot be run here is refused, and the sliver stays what it is."""
        self.sync(A, B)
        found = self.sync(lasting("lab_a", tags={"type": "controller.Controller"}), B)
        self.assertIn("account", found["refused"]["lab_a"])
        self.assertEqual(self.state("lab_a"), "running")

    def test_loansSurvive(self) -> None:
        """Loans survive a payload of the same time and a newer one that changes their slivers."""
        self.sync(A, B)
        loans = self.operator.body("set_loans lab_a [['lab_b','cpu_share',16]]")
        self.sync(A, B, timestamp=self.stamp)
        self.assertEqual(self.operator.body("get_loans lab_a"), loans)
        self.sync(lasting("lab_a", keys=[]), lasting("lab_b", keys=[]))
        self.assertEqual(self.operator.body("get_loans lab_a"), loans)
        self.assertEqual(self.operator.body("sliver lab_b")["effective"]["cpu_share"], 48)

    def test_userMayNot(self) -> None:
        """Nobody but an operator hands payloads in."""
        ann = self.whole.lab()
        for line in (f"sync {self.payload(A)}", "sync", "accept_clock"):
            self.assertEqual(ann.ask(line).body["code"], "DENIED")


class MissingTests(FollowingCase):
    """
    What happens to a sliver that is missing.
    """

    def test_stoppedAndKept(self) -> None:
        """It is stopped, and kept for the grace time; then it is gone."""
        self.sync(A, B, C)
        self.assertEqual(self.sync(A, C)["stopped"], ["lab_b"])
        self.assertEqual(self.state("lab_b"), "doomed")
        self.assertIsNone(self.operator.body("sliver lab_b")["pid"])
        self.whole.advance(GRACE - 10)
        self.assertEqual(self.state("lab_b"), "doomed")
        self.whole.advance(20)
        self.assertEqual(self.operator.ask("sliver lab_b").body["code"], "NO_SUCH_SLIVER")
        self.assertEqual(sorted(one.name for one in self.whole.host.free_slivers()), ["lab_a", "lab_c"])

    def test_back(self) -> None:
        """Named again in time it is what it was: the same serial, up, with its loans."""
        self.sync(A, B, C)
        serial = self.operator.body("sliver lab_b")["serial"]
        loans = self.operator.body("set_loans lab_b [['lab_a','cpu_share',16]]")
        self.sync(A, C)
        self.whole.advance(86400)
        self.assertEqual(self.sync(A, B, C)["brought_back"], ["lab_b"])
        body = self.operator.body("sliver lab_b")
        self.assertEqual((body["serial"], body["state"]), (serial, "running"))
        self.assertEqual(self.operator.body("get_loans lab_b"), loans)
        self.whole.advance(GRACE)
        self.assertEqual(self.state("lab_b"), "running")

    def test_backAsItWas(self) -> None:
        """One that its owner had stopped is not started when it comes back."""
        self.sync(A, B, C)
        self.operator.body("stop lab_b")
        self.sync(A, C)
        self.sync(A, B, C)
        self.assertEqual(self.state("lab_b"), "stopped")

    def test_undo(self) -> None:
        """Brought back by hand it stays, payload after payload, until the authority names it and then leaves it out."""
        self.sync(A, B, C)
        self.sync(A, C)
        self.assertEqual(self.operator.body("undo lab_b")["state"], "starting")
        self.assertEqual(self.state("lab_b"), "running")
        self.assertEqual(self.sync(A, C)["stopped"], [])
        self.whole.advance(GRACE + 10)
        self.assertEqual(self.state("lab_b"), "running")
        self.assertEqual(self.sync(A, B, C)["changed"], ["lab_b"])
        self.assertEqual(self.sync(A, C)["stopped"], ["lab_b"])

    def test_undoneCanBeDestroyed(self) -> None:
        """One that was brought back by hand can be destroyed by hand."""
        self.sync(A, B, C)
        self.sync(A, C)
        self.operator.body("undo lab_b")
        self.operator.body("destroy lab_b")
        self.assertEqual(self.operator.ask("sliver lab_b").body["code"], "NO_SUCH_SLIVER")

    def test_doomedCanBeDestroyed(self) -> None:
        """An operator may end the grace time; then the name is free for what is of another kind, or another slice's."""
        self.sync(A, B, C)
        self.assertEqual(self.operator.ask("destroy lab_b").body["code"], "WRONG_STATE")
        self.sync(A, lasting("lab_b", slice_id=99), C)
        self.operator.body("destroy lab_b")
        self.assertEqual(self.operator.ask("sliver lab_b").body["code"], "NO_SUCH_SLIVER")
        self.assertEqual(self.sync(A, lasting("lab_b", slice_id=99), C)["created"], ["lab_b"])
        self.whole.check()

    def test_undoOfWhatIsNotDoomed(self) -> None:
        """There is nothing to undo of a sliver that is not doomed."""
        self.sync(A)
        self.assertEqual(self.operator.ask("undo lab_a").body["code"], "WRONG_STATE")

    def test_crashBetween(self) -> None:
        """A daemon that is killed remembers who is doomed, and since when."""
        self.sync(A, B, C)
        self.sync(A, C)
        self.whole.crash()
        self.operator = self.whole.connect()
        self.assertEqual(self.state("lab_b"), "doomed")
        self.whole.advance(GRACE + 10)
        self.assertEqual(self.operator.ask("sliver lab_b").body["code"], "NO_SUCH_SLIVER")

    def test_anotherSlice(self) -> None:
        """A new slice of an old name gets a new sliver, once the old one is gone."""
        self.sync(A, B, C)
        serial = self.operator.body("sliver lab_b")["serial"]
        fresh = lasting("lab_b", slice_id=99)
        self.assertEqual(self.sync(A, fresh, C)["stopped"], ["lab_b"])
        self.whole.advance(GRACE + 10)
        self.assertEqual(self.sync(A, fresh, C)["created"], ["lab_b"])
        self.assertNotEqual(self.operator.body("sliver lab_b")["serial"], serial)


class BrakeTests(FollowingCase):
    """
    A payload that takes away too much.
    """

    def test_empty(self) -> None:
        """An empty payload changes nothing; doctor, host_status and an event say so until a good one comes."""
        self.sync(A, B)
        reply = self.operator.ask(f"sync {self.payload()}")
        self.assertEqual((reply.body["code"], reply.body["stopped"]), ("HELD", ["lab_a", "lab_b"]))
        self.assertEqual([self.state(one) for one in ("lab_a", "lab_b")], ["running", "running"])
        self.assertIn("2 of 2", self.finding("brake")["detail"])
        self.assertTrue([one for one in self.operator.body("host_status")["problems"] if "2 of 2" in one])
        self.assertEqual(len(self.events("held")), 1)
        self.assertNotIn("held", [one["what"] for one in self.whole.connect(5009).body("events limit=10000")])
        self.sync(A, B)
        self.assertEqual([one for one in self.operator.body("doctor") if one["check"] == "brake"], [])

    def test_alarmSurvives(self) -> None:
        """A daemon that is started again still says that a payload was held."""
        self.sync(A, B)
        self.operator.ask(f"sync {self.payload()}")
        self.whole.crash()
        self.operator = self.whole.connect()
        self.assertFalse(self.finding("brake")["ok"])

    def test_heldStaysUsable(self) -> None:
        """The held payload's time does not make the next good one stale."""
        self.sync(A, B)
        self.operator.ask(f"sync {self.payload(timestamp=self.stamp + 1000)}")
        self.assertEqual(self.sync(A, B)["kept"], ["lab_a", "lab_b"])

    def test_force(self) -> None:
        """An operator's word lets it through; the slivers are kept for the grace time all the same."""
        self.sync(A, B)
        self.assertEqual(self.force()["stopped"], ["lab_a", "lab_b"])
        self.assertEqual([self.state(one) for one in ("lab_a", "lab_b")], ["doomed", "doomed"])


class TimeTests(FollowingCase):
    """
    Expiry, and clocks.
    """

    def test_expiry(self) -> None:
        """A sliver expires at its time though the authority is silent, is kept for a while, and can be undone."""
        self.sync(A, lasting("lab_b", expires=EPOCH + 100), C)
        self.whole.advance(99)
        self.assertEqual(self.state("lab_b"), "running")
        self.whole.advance(1.5)
        self.assertEqual(self.state("lab_b"), "doomed")
        self.operator.body("undo lab_b")
        self.assertEqual(self.state("lab_b"), "running")
        self.assertIsNone(self.operator.body("sliver lab_b")["expires"])

    def test_localExpires(self) -> None:
        """A sliver made here expires in the same way."""
        self.operator.body("create lab_x kind=process expires=+50s")
        self.whole.advance(51)
        self.assertEqual(self.state("lab_x"), "doomed")
        self.whole.advance(GRACE)
        self.assertEqual(self.operator.ask("sliver lab_x").body["code"], "NO_SUCH_SLIVER")

    def test_longerInTime(self) -> None:
        """A payload that gives a doomed sliver more time brings it back."""
        self.sync(A, lasting("lab_b", expires=EPOCH + 100), C)
        self.whole.advance(200)
        self.assertEqual(self.sync(A, lasting("lab_b", expires=EPOCH + 1000), C)["brought_back"], ["lab_b"])
        self.assertEqual(self.state("lab_b"), "running")

    def test_manyAtOnce(self) -> None:
        """Most of a host's slivers do not expire at once without an operator's word."""
        self.sync(*(lasting(f"lab_{at}", expires=EPOCH + 100) for at in range(5)))
        self.whole.advance(200)
        self.assertEqual(self.state("lab_0"), "running")
        self.assertIn("5 of 5", self.finding("expiry")["detail"])
        self.assertEqual(len(self.operator.body("sync force=True")["stopped"]), 5)
        self.assertEqual(self.state("lab_0"), "doomed")
        self.whole.advance(60)
        self.assertEqual([one for one in self.operator.body("doctor") if one["check"] == "expiry"], [])

    def jump(self, seconds: float) -> None:
        """
        Somebody sets the clock of the host.
        """
        jumped = EPOCH + seconds
        self.whole.daemon.now = lambda: jumped + self.whole.clock.seconds()
        self.whole.daemon.expiry._moment = lambda: Moment(
            self.whole.daemon.now(), self.whole.clock.seconds() + 86400, "boot"
        )

    def test_jump(self) -> None:
        """A clock that jumps a year ahead destroys and stops nothing, and raises an alarm; put right, all goes on."""
        self.sync(A, lasting("lab_b", expires=EPOCH + 1000), C, D)
        self.sync(A, lasting("lab_b", expires=EPOCH + 1000), C)
        self.jump(365 * 86400.0)
        self.whole.advance(3600)
        self.assertEqual([self.state(one) for one in ("lab_b", "lab_d")], ["running", "doomed"])
        self.assertFalse(self.finding("clock")["ok"])
        self.assertTrue([one for one in self.operator.body("host_status")["problems"] if "clock" in one])
        self.jump(0.0)
        self.whole.advance(60)
        self.assertTrue(self.finding("clock")["ok"])
        self.assertEqual([self.state(one) for one in ("lab_b", "lab_d")], ["doomed", "doomed"])

    def test_putBack(self) -> None:
        """What is looked at each minute and each hour is so too after a clock that was far ahead was put right."""
        daemon, seen = self.whole.daemon, list[str]()
        self.jump(365 * 86400.0)
        daemon.round()
        self.jump(0.0)
        daemon.issuer.round = lambda: seen.append("round")  # type: ignore[method-assign]
        daemon.issuer.purge = lambda: seen.append("purge")  # type: ignore[method-assign]
        daemon.round()
        self.assertEqual(sorted(seen), ["purge", "round"])

    def test_jumpAccepted(self) -> None:
        """An operator says that the new time is the right one: what is due is done."""
        self.sync(A, lasting("lab_b", expires=EPOCH + 1000), C)
        self.jump(365 * 86400.0)
        self.whole.advance(60)
        self.assertEqual(self.operator.body("accept_clock")["trusted"], True)
        self.whole.advance(60)
        self.assertEqual(self.state("lab_b"), "doomed")
        self.assertTrue(self.finding("clock")["ok"])

    def test_jumpOverRestart(self) -> None:
        """A clock that jumps while the daemon is down has jumped too."""
        self.sync(A, lasting("lab_b", expires=EPOCH + 1000), C)
        self.whole.now = lambda: EPOCH + 365 * 86400.0 + self.whole.clock.seconds()  # type: ignore[method-assign]
        self.whole.crash()
        self.operator = self.whole.connect()
        self.whole.advance(3600)
        self.assertEqual(self.state("lab_b"), "running")
        self.assertFalse(self.finding("clock")["ok"])

    def test_setBack(self) -> None:
        """A clock that is set back brings nothing back and breaks nothing."""
        self.sync(A, B, C)
        self.sync(A, C)
        self.jump(-365 * 86400.0)
        self.whole.advance(3600)
        self.assertEqual(self.state("lab_b"), "doomed")

    def test_fullDisk(self) -> None:
        """What expires while nothing can be written is stopped once something can."""
        self.sync(A, lasting("lab_b", expires=EPOCH + 100), C)
        self.whole.store.full = True
        self.whole.advance(200)
        self.assertEqual(self.state("lab_b"), "running")
        self.whole.store.full = False
        self.whole.advance(200)
        self.assertEqual(self.state("lab_b"), "doomed")
        self.whole.check()


_LETTERS = st.sampled_from("abcd")
_STEPS = st.one_of(
    st.tuples(st.just("sync"), st.dictionaries(_LETTERS, st.integers(0, 2)), st.booleans()),
    st.tuples(st.just("undo"), _LETTERS, st.none()),
    st.tuples(st.just("destroy"), _LETTERS, st.none()),
    st.tuples(st.just("stop"), _LETTERS, st.none()),
    st.tuples(st.just("wait"), st.sampled_from([10.0, 3600.0, GRACE / 2]), st.none()),
    st.tuples(st.just("crash"), st.none(), st.none()),
)


class AnyHistoryTests(FollowingCase):
    """
    What holds whatever an authority, operators and time do, and however often the daemon dies.
    """

    def setUp(self) -> None:
        pass  # a new daemon for each history

    @settings(max_examples=scaled(25, 300), deadline=None)
    @given(st.lists(_STEPS, max_size=10))
    def test_any(self, steps: list[tuple[str, Any, Any]]) -> None:
        """Memory is what is on the disk; what was made here lives; nobody goes who was not doomed or destroyed."""
        super().setUp()
        self.operator.body("create lab_mine kind=process")
        for what, about, force in steps:
            before = {one.name: one for one in self.whole.host.free_slivers()}
            if what == "sync":
                entries = [lasting(f"lab_{one}", tags={"cpu_share": str(40 + share)}) for one, share in about.items()]
                self.operator.ask(f"sync {self.payload(*entries)} force={force}")
            elif what == "wait":
                self.whole.advance(about)
            elif what == "crash":
                self.whole.crash()
                self.operator = self.whole.connect()
            else:
                self.operator.ask(f"{what} lab_{about}")
            self.whole.advance(1)
            self.whole.check()
            now = {one.name: one for one in self.whole.host.free_slivers()}
            self.assertEqual(self.state("lab_mine"), "running")
            for name in before.keys() - now.keys():
                doomed = before[name].doomed
                self.assertTrue(what == "destroy" or (what == "wait" and doomed is not None), (what, name))
                if what == "wait":
                    assert doomed is not None
                    self.assertGreaterEqual(self.whole.now(), doomed + GRACE)
            for name in before.keys() & now.keys():
                self.assertEqual(before[name].serial, now[name].serial)
            for name, one in now.items():
                up = self.operator.body(f"sliver {name}")["pid"] is not None
                self.assertEqual(up, one.aim == "started", (name, one))


class PollTests(SynchronousTestCase):
    """
    When it is polled, and what comes of it.
    """

    def polled(self, **settings: Any) -> tuple[MemoryDaemon, list[float], list[Any]]:
        """
        A daemon that polls, the times at which it does, and what it is to be given: a payload or an error.
        """
        whole = following(url="https://authority.example/", **settings)
        times: list[float] = []
        gives: list[Any] = [full(lasting("lab_a"), timestamp=EPOCH)]
        call = FakeOffload.call

        async def poll(self: FakeOffload, name: str, argument: Any, deadline_s: float = 20, *, who: str = "") -> Any:
            asked = argument()
            if name == "poll_authority":
                times.append(whole.clock.seconds())
                if isinstance(gives[0], Exception):
                    raise gives[0]
                name, asked = "read_payload", {**asked, "text": repr(gives[0])}
            return await call(self, name, lambda: asked)

        self.patch(FakeOffload, "call", poll)
        return whole, times, gives

    def test_period(self) -> None:
        """It polls by the period and the jitter of the configuration."""
        whole, times, _ = self.polled(period_s=5.0, jitter_s=1.0)
        whole.advance(60)
        gaps = [later - before for before, later in itertools.pairwise(times)]
        self.assertGreater(len(gaps), 8)
        self.assertTrue(all(5 <= gap <= 6 for gap in gaps), gaps)
        self.assertGreater(len(set(gaps)), 1)
        self.assertEqual(whole.connect().body("sliver lab_a")["state"], "running")

    def test_backoff(self) -> None:
        """While polls fail each wait is twice the one before, to a limit; doctor says why; then all is as before."""
        whole, times, gives = self.polled(period_s=5.0, jitter_s=0.0, backoff_s=40.0)
        good, gives[0] = gives[0], OperationFailed("it answered 500")
        whole.advance(200)
        gaps = [round(later - before) for before, later in itertools.pairwise(times)]
        self.assertEqual(gaps[:5], [10, 20, 40, 40, 40])
        operator = whole.connect()
        self.assertIn("answered 500", str([one for one in operator.body("doctor") if one["check"] == "authority"]))
        gives[0] = good
        whole.advance(100)
        self.assertEqual(round(times[-1] - times[-2]), 5)
        told = [one["trouble"] for one in operator.body("events") if one["what"] == "authority"]
        self.assertEqual(told, ["it answered 500", ""])

    def test_offlineStart(self) -> None:
        """Without the authority the known slivers run on, over a restart as well."""
        whole, times, gives = self.polled(period_s=5.0)
        whole.advance(20)
        gives[0] = OperationFailed("unreachable")
        whole.crash()
        begun = whole.clock.seconds()
        whole.advance(100)
        self.assertGreater(times[-1], begun)
        self.assertEqual(whole.connect().body("sliver lab_a")["state"], "running")

    def test_stale(self) -> None:
        """Doctor complains when the last good payload is old."""
        whole, _, gives = self.polled(period_s=5.0, stale_s=100.0, backoff_s=10.0)
        whole.advance(70)
        gives[0] = OperationFailed("unreachable")
        whole.advance(200)
        (found,) = [one for one in whole.connect().body("doctor") if one["check"] == "authority"]
        self.assertFalse(found["ok"])
        self.assertIn("the last good payload came", found["detail"])

    def test_now(self) -> None:
        """sync without a payload polls now and says what came of it."""
        whole, times, _ = self.polled(period_s=1000.0, jitter_s=0.0)
        self.assertEqual(whole.connect().body("sync")["created"], ["lab_a"])
        self.assertEqual(len(times), 1)

    def test_reload(self) -> None:
        """An authority that is put into the configuration while the daemon runs is polled within a minute."""
        whole, times, _ = self.polled(period_s=1000.0)
        config = whole.daemon.config
        whole.daemon.reload(Config())
        whole.advance(3000)
        self.assertEqual(times, [])
        whole.daemon.reload(config)
        whole.advance(61)
        self.assertEqual(len(times), 1)

    def test_nowhere(self) -> None:
        """Without an authority in the configuration, sync wants a payload."""
        self.assertEqual(following().connect().ask("sync").body["code"], "WRONG_STATE")

    def test_oneAtATime(self) -> None:
        """Two operators who sync at once get one answer after the other, and slivers are made once."""
        whole = following()
        whole.offload.held = True
        first, second = whole.connect(), whole.connect()
        text = repr(repr(full(lasting("lab_a"), timestamp=EPOCH)))
        first.send(f"sync {text}\n")
        second.send(f"sync {text}\n")
        self.assertEqual(len(whole.offload.waiting), 1)
        whole.offload.release()
        whole.settle()
        whole.offload.release()
        whole.settle()
        bodies = [client.replies()[-1].body for client in (first, second)]
        self.assertEqual([(one["created"], one["kept"]) for one in bodies], [(["lab_a"], []), ([], ["lab_a"])])

    def test_everyRecordIsKept(self) -> None:
        """What is kept of a sliver of the authority's comes back from the disk as it was."""
        whole = following()
        whole.connect().body(f"sync {repr(full(lasting('lab_a', tags={'cpu_share': 'x'}), timestamp=EPOCH))!r}")
        before = whole.host.sliver_named("lab_a")
        assert before is not None
        self.assertEqual(len(before.warnings), 1)
        self.assertEqual(Sliver.from_json(before.as_json()), before)
