"""
The audit log: who did what, by which way, and what came of it; all of it can be read.
"""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.commands import TABLE
from hostline.server import archive, audit, entries
from hostline.server.config import Audit, Config, History
from tests.authorities import STRANGER, request, secret_of, words
from tests.daemons import Client, MemoryDaemon, make, topdl
from tests.permissions import MATRIX
from tests.test_rights import SHA256, TEXT, connect, outcome, site

_HOUR_S = 3601


def told(daemon: MemoryDaemon) -> list[dict[str, Any]]:
    """
    All entries there are, as the command shows them.
    """
    return [entries.shown(json.loads(one)["body"]) for one in daemon.disk.audit()]


class ToldTests(SynchronousTestCase):
    """
    What is in the log.
    """

    def test_tellsOfEveryChangingCommand(self) -> None:
        """
        Each command that changes something, or lets somebody in, is told once, whoever says it, done or refused.
        """
        rows = [line.split("  ")[0].strip() for line in MATRIX.strip().splitlines()]
        rows = [line for line in rows if TABLE[line.split()[0]].changes or TABLE[line.split()[0]].audited]
        self.assertGreater(len(rows), 30)
        wrong = []
        for caller in ("operator", "certop", "unknown", "certno", "sliver"):
            daemon, operation = site()
            for said in rows:
                daemon.advance(61)  # or some would not be told, for there are too many
                before = len(daemon.disk.audit())
                line = said.format(operation=operation, text=TEXT, sha256=SHA256)
                client = connect(daemon, caller)
                client.send(line + "\n")
                daemon.advance(40)
                replies = client.replies()
                client.hang_up()
                found = [one for one in told(daemon)[before:] if one["via"] not in ("operation", "clock")]
                code = replies[-1].body["code"] if replies[-1].word == "error_reply" else "ok"
                if [one["command"] for one in found] != [line.split()[0]]:
                    wrong.append(f"{caller}: {line}: {code}, told {found}")
                elif outcome(code) in ("no", "-") and found[0]["outcome"] != code:
                    wrong.append(f"{caller}: {line}: {code}, told {found[0]['outcome']}")
        self.assertEqual(wrong, [])

    def test_saysWhoAndByWhichWay(self) -> None:
        """
        The principal by the name that it had then and by the one that lasts, the way in, uid or certificate, request.
        """
        daemon, _ = site()
        for caller, line in (("owner", "stop lab_web"), ("cert", "stop lab_web"), ("certop", "add_user new uid=7777")):
            connect(daemon, caller).ask(line)
        entry = next(one for one in told(daemon) if one["command"] == "stop" and one["outcome"] == "ok")
        self.assertEqual(
            (entry["name"], entry["via"], entry["uid"], entry["certificate"]), ("ann", "socket", 5001, None)
        )
        self.assertRegex(entry["principal"], "^user:[0-9]+$")
        self.assertRegex(entry["request"], "^run1-[0-9a-f]+$")
        self.assertEqual(entry["arguments"], "['lab_web']")
        entry = told(daemon)[-1]
        self.assertEqual((entry["name"], entry["uid"], entry["certificate"]), ("emma", None, "1f"))
        self.assertIn("7777", entry["options"])
        # Whoever takes over the name is somebody else.
        principal = told(daemon)[-1]["principal"]
        daemon.connect().body("remove_user emma")
        self.assertEqual(daemon.connect().body(f"audit principal={principal}")["entries"][-1]["name"], "emma")

    def test_hasNoSecrets(self) -> None:
        """
        What a row declares secret is in no entry, whether it was an argument or an option, done or refused.
        """
        row = TABLE["add_user"]
        self.addCleanup(TABLE.__setitem__, "add_user", row)
        TABLE["add_user"] = row._replace(secret=("user", "certificate"))
        daemon = make()
        daemon.connect().body("add_user hunter2 certificate=hunter3.example.org uid=7")
        daemon.connect().code("add_user hunter2 certificate=hunter3.example.org uid=7")
        daemon.connect(6000).code("add_user hunter2 certificate=hunter3.example.org uid=7")
        self.assertEqual([one["outcome"] for one in told(daemon)], ["ok", "EXISTS", "DENIED"])
        self.assertNotIn("hunter", "".join(daemon.disk.audit()))
        self.assertIn("'uid': 7", told(daemon)[0]["options"])

    def test_tellsWhatACertificateIsFor(self) -> None:
        """
        Whose certificate was handed out for a token, and its number; the token itself is nowhere.
        """
        daemon = make()
        daemon.connect().body("ca_init")
        token = daemon.connect().body("ca_token web.example.org")
        body = daemon.connect(caller=STRANGER).body(words("ca_enrol", secret_of(token), request()))
        entry = told(daemon)[-1]
        self.assertEqual((entry["command"], entry["outcome"], entry["principal"]), ("ca_enrol", "ok", "enrol"))
        self.assertIn("dns:web.example.org", entry["about"])
        self.assertIn(body["number"], entry["about"])
        self.assertNotIn(secret_of(token), "".join(daemon.disk.audit()))

    def test_tellsWhatATicketIsFor(self) -> None:
        """
        Whose ticket it was and for which sliver, taken or not; the ticket itself is not told.
        """
        daemon = make()
        operator = daemon.connect()
        operator.body("add_project lab")
        record: dict[str, Any] = {"sliver": "lab_web", "number": "t-1", "hosts": ["tester"], "kind": "process"}
        record |= {"not_before": daemon.now(), "not_after": daemon.now() + 500}

        async def read(text: str, who: str) -> dict[str, Any]:
            return {"record": record, "name": "urn:site:ann", "signer": "s"}

        self.patch(daemon.daemon.tickets, "read", read)
        for _ in range(2):
            operator.ask("ticket SIGNEDTEXT")
        entry, again = [one for one in told(daemon) if one["command"] == "ticket" and one["via"] == "socket"]
        self.assertEqual((entry["outcome"], again["outcome"]), ("ok", "BAD_TICKET"))
        for one in (entry, again):
            for said in ("lab_web", "urn:site:ann", "t-1"):
                self.assertIn(said, one["about"])
        self.assertNotIn("SIGNEDTEXT", "".join(daemon.disk.audit()))

    def test_isNotFilledByOneRequest(self) -> None:
        """
        However long, deep or wide what is asked for, its entry is short.
        """
        daemon = make()
        operator = daemon.connect()
        for said in ("'" + "x" * 60000 + "'", repr(["y" * 200] * 300), repr({"k" * 300: 1}), "[[[[[['z']]]]]]"):
            operator.ask(f"create lab_a kind=process keys={said} rspec={said}")
        self.assertEqual(len(daemon.disk.audit()), 4)
        for one in daemon.disk.audit():
            self.assertLess(len(one), 2500)


class SlowTests(SynchronousTestCase):
    """
    What comes of slow work.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.ann = self.daemon.lab()
        self.ann.body(f"create_experiment lab/exp1 {topdl({'web': None})}")

    def of(self, number: int) -> list[tuple[str, str]]:
        return [(one["command"], one["outcome"]) for one in told(self.daemon) if one["operation"] == number]

    def test_tellsItsEnd(self) -> None:
        """
        Beginning and end have the operation's number; the end its state and causes, and who had begun it.
        """
        self.ann.body("swap_in lab/exp1")
        number = self.ann.body("operations")[0]["operation"]
        self.assertEqual(self.of(number), [("swap_in", "ok"), ("swap_in", "done")])
        ended = told(self.daemon)[-1]
        self.assertEqual((ended["name"], ended["via"], ended["arguments"]), ("ann", "operation", "['lab/exp1']"))

    def test_tellsWhatTookItsPlace(self) -> None:
        """
        Work that other work makes pointless is told as cancelled, with the reason.
        """
        self.daemon.driver.boot_after = None
        number = self.ann.body("swap_in lab/exp1 wait=0")["operation"]
        self.ann.body("swap_out lab/exp1 wait=0")
        self.assertEqual(self.of(number), [("swap_in", "ok"), ("swap_in", "cancelled")])
        ended = next(one for one in told(self.daemon) if one["outcome"] == "cancelled")
        self.assertIn("superseded", ended["causes"][0])

    def test_tellsItAfterACrash(self) -> None:
        """
        Work that a daemon began and the next one ended is told once as begun and once as ended.
        """
        self.daemon.slow = self.daemon.driver.boot_after = 5.0
        number = self.ann.body("swap_in lab/exp1 wait=0")["operation"]
        self.daemon.crash()
        self.daemon.advance(20)
        self.assertEqual(self.of(number), [("swap_in", "ok"), ("swap_in", "done")])


class ByItselfTests(SynchronousTestCase):
    """
    What the daemon does and nobody asked for.
    """

    def setUp(self) -> None:
        self.daemon = make(config=Config())
        self.operator = self.daemon.connect()
        self.operator.body("add_project lab")

    def done(self) -> list[tuple[str, str, str, str]]:
        return [
            (one["principal"], one["via"], one["command"], one["arguments"])
            for one in told(self.daemon)
            if one["uid"] is None and one["via"] != "operation"
        ]

    def test_tellsWhatTimeTakesAway(self) -> None:
        """
        A sliver whose time is over, its end after the grace time, and loans that end.
        """
        self.operator.body("create lab_web kind=process expires=+1h")
        self.operator.body("create lab_db kind=process")
        self.operator.body("loan lab_db cpu_share 1 lender=lab_web until=+10m")
        self.daemon.advance(2 * _HOUR_S)
        self.assertEqual(
            self.done(),
            [
                ("hostline", "clock", "set_loans", "[['lab_web']]"),
                ("hostline", "clock", "stop", "['lab_web']"),
            ],
        )
        self.daemon.advance(self.daemon.config.slivers.grace_days * 86400)
        self.assertEqual(self.done()[-1], ("hostline", "clock", "destroy", "['lab_web']"))

    def test_tellsOfANewConfiguration(self) -> None:
        """
        Which keys are new, and that a signal was the way.
        """
        self.daemon.daemon.reload(Config(audit=Audit(entries=5000)))
        self.daemon.settle()
        self.assertEqual(self.done(), [("hostline", "signal", "configuration", "['audit.entries']")])


class LogCase(SynchronousTestCase):
    """
    A daemon with much in its log, most of it in files.
    """

    def setUp(self) -> None:
        self.patch(archive, "FILE_ENTRIES", 150)
        self.daemon = make(config=Config(audit=Audit(entries=200), history=History(events=100)))
        self.operator = self.daemon.connect()
        for number in range(600):
            self.operator.body(f"add_user u{number}")
        self.every = [one["cursor"] for one in told(self.daemon)]

    def rotate(self) -> None:
        self.daemon.advance(_HOUR_S)
        self.daemon.daemon.round()
        self.daemon.settle()

    def pages(self, options: str, client: Client | None = None) -> list[list[dict[str, Any]]]:
        found, since = [], 0
        while since is not None:
            body = (client or self.operator).body(f"audit since={since} {options}")
            found.append(body["entries"])
            since = body["next"]
        return found


class RotatedTests(LogCase):
    """
    The daemon moves old entries to files by itself, and all can be read.
    """

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.daemon.directory / "audit").iterdir())

    def test_rotatesByTheHour(self) -> None:
        """
        Within the hour the state is as small as the configuration says, but for what C{events} shows still.
        """
        self.rotate()
        self.assertEqual(len(self.files()), 3)
        left = [one["cursor"] for one in told(self.daemon)]
        self.assertEqual(left, self.every[-len(left) :])
        self.assertLessEqual(len(left), 200)

    def test_showsTheSameEventsAfterARestart(self) -> None:
        """
        What was moved is not missed by who reads C{events}: a new daemon shows no less than the one before.
        """
        self.rotate()
        self.daemon.crash()
        after = self.daemon.connect().body("events topic=audit since=1")
        forgotten = self.daemon.host.feed.forgotten
        self.assertEqual([one["cursor"] for one in after[1:]], [one for one in self.every if one > forgotten])

    def test_readsAllInPages(self) -> None:
        """
        Page for page each entry comes once, in order, from files and state; before they were moved it was the same.
        """
        before = [one for page in self.pages("limit=1000") for one in page]
        self.rotate()
        for limit in (7, 150, 1000):
            pages = self.pages(f"limit={limit}")
            self.assertTrue(all(len(page) == limit for page in pages[:-1]))
            self.assertEqual([one for page in pages for one in page], before)
        self.assertEqual([one["cursor"] for one in before], self.every)
        self.assertEqual(self.operator.body(f"audit since={self.every[-1]}"), {"entries": [], "next": None})

    def test_findsWhatOneDid(self) -> None:
        """
        By the principal's name or what lasts, and by command; both together.
        """
        ann = self.daemon.lab()
        ann.code("add_user eve")
        ann.code("add_project eve")
        self.rotate()
        number = next(one.serial for one in self.daemon.host.by_uid(5001))
        for principal in ("ann", f"user:{number}"):
            found = [one for page in self.pages(f"principal={principal}") for one in page]
            self.assertEqual([one["command"] for one in found], ["add_user", "add_project"])
        (found,) = self.pages("principal=ann command=add_project")
        self.assertEqual([(one["command"], one["outcome"]) for one in found], [("add_project", "DENIED")])
        self.assertEqual(self.pages("command=nosuch"), [[]])

    def test_looksThroughOnlySoManyAtOnce(self) -> None:
        """
        A search for what is seldom answers now and then, with where it goes on.
        """
        self.patch(audit, "LOOKED_THROUGH", 100)
        self.operator.body("remove_user u7")
        self.rotate()
        pages = self.pages("command=remove_user")
        self.assertEqual(len(pages), 7)
        self.assertEqual([len(page) for page in pages], [0, 0, 0, 0, 0, 0, 1])

    def test_saysWhatItCannotRead(self) -> None:
        """
        A damaged file is an error in words, and does not hide what came after.
        """
        self.rotate()
        first, *_ = self.files()
        (self.daemon.directory / "audit" / first).write_bytes(b"x")
        error = self.operator.ask("audit").body
        self.assertEqual(error["code"], "FAILED")
        since = int(first.split("-")[2].split(".")[0])
        self.assertIn(f"since={since}", error["message"])
        self.assertEqual(self.operator.body(f"audit since={since} limit=1")["entries"][0]["cursor"], since + 1)


class TroubleTests(LogCase):
    """
    Rotation fails.
    """

    def finding(self) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in self.operator.body("doctor") if one["check"] == "audit log")
        return found

    def test_isToldAndTriedAgain(self) -> None:
        """
        On a full disk doctor says why; nothing is lost, changes go on, and once there is room it is done.
        """
        self.assertTrue(self.finding()["ok"])

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        fsync = os.fsync
        self.patch(os, "fsync", full)
        self.rotate()
        self.assertFalse(self.finding()["ok"])
        self.assertIn("No space left", self.finding()["detail"])
        self.assertEqual([one["cursor"] for one in told(self.daemon)], self.every)
        self.operator.body("add_user late")
        self.patch(os, "fsync", fsync)
        self.rotate()
        self.assertTrue(self.finding()["ok"])
        self.assertLess(len(told(self.daemon)), 300)
