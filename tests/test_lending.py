"""
Resources and loans, as slivers, owners and operators ask for them.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.rows.loans import MOST_LOANS
from hostline.server import store
from hostline.server.callers import Caller
from hostline.server.host import Host
from hostline.server.record import Damaged
from hostline.server.records import Loans, Sliver
from hostline.server.slivers.lent import RETRY_S
from hostline.server.slivers.loans import Loan
from hostline.server.slivers.rspec import DEFAULTS
from tests.daemons import Client, MemoryDaemon, make

ANN, BOB = 5001, 5002


def site(*names: str) -> MemoryDaemon:
    """
    Ann's slivers of these names; bob is in no project.
    """
    daemon = make()
    daemon.lab(member=ANN, other=BOB)
    operator = daemon.connect()
    for name in names:
        operator.body(f"create {name} kind=process owner=ann")
    return daemon


def serial(daemon: MemoryDaemon, name: str) -> int:
    sliver = daemon.host.sliver_named(name)
    assert sliver is not None, name
    return sliver.serial


def inside(daemon: MemoryDaemon, name: str) -> Client:
    """
    A client at a sliver's own socket.
    """
    client = daemon.connect(0)
    client.connection.caller = Caller(0, via="sliver", sliver=serial(daemon, name))
    return client


def share(daemon: MemoryDaemon, *names: str) -> list[int]:
    """
    The cpu_share of each that is in force, which must be what its driver was told.
    """
    operator = daemon.connect()
    found = []
    for name in names:
        found.append(operator.body(f"get_effective_rspec {name}")["cpu_share"])
        body = operator.body(f"sliver {name}")
        assert body["effective"]["cpu_share"] == body["in_force"]["cpu_share"] == found[-1], body
    operator.hang_up()
    return found


def sound(daemon: MemoryDaemon) -> None:
    """
    Memory is what the disk keeps, and a daemon that reads it finds the same in force and the same to come.
    """
    daemon.check()
    again = Host("again")
    again.load(daemon.store.open())
    for sliver in daemon.host.free_slivers():
        assert daemon.host.effective(sliver) == again.effective(sliver), sliver.name
        assert daemon.host.loans_of(sliver) == again.loans_of(sliver), sliver.name
    assert daemon.host.ledger.next_expiry() == again.ledger.next_expiry()
    assert daemon.host.ledger.take() == ([], [])


class Lending(SynchronousTestCase):
    def setUp(self) -> None:
        self.daemon = site("lab_a", "lab_b", "lab_c")
        self.ann = self.daemon.connect(ANN)
        self.operator = self.daemon.connect()

    def tearDown(self) -> None:
        sound(self.daemon)

    def shares(self) -> list[int]:
        return share(self.daemon, "lab_a", "lab_b", "lab_c")

    def news(self, topic: str, *keys: str) -> list[tuple[Any, ...]]:
        """
        Of each event about loans: what, and those of its keys.
        """
        events = self.operator.body(f"events topic={topic} limit=1000")
        return [(one["what"], *(one[key] for key in keys)) for one in events if one["what"].startswith("loan_")]


class CommandTests(Lending):
    """
    C{loan}, C{set_loans}, C{get_loans} and the two that show.
    """

    def test_showsWhatWasGivenAndWhatIsInForce(self) -> None:
        """
        Before any loan both are the same; after one they differ by just that.
        """
        for command in ("get_rspec", "get_effective_rspec"):
            self.assertEqual(self.ann.body(f"{command} lab_a"), DEFAULTS)
        self.ann.body("loan lab_b cpu_share 16 lender=lab_a")
        self.assertEqual(self.ann.body("get_rspec lab_a"), DEFAULTS)
        self.assertEqual(self.ann.body("get_effective_rspec lab_a"), {**DEFAULTS, "cpu_share": 16})
        self.assertEqual(self.ann.body("get_effective_rspec lab_b"), {**DEFAULTS, "cpu_share": 48})

    def test_answersWhatIsLent(self) -> None:
        """
        The reply is the whole list, item by item accepted or with its reason, and so is what is asked later.
        """
        reply = self.ann.body(
            "set_loans lab_a [['lab_b','cpu_share',10],('lab_b','cpu_share',10),['lab_zz','pids_max',1]]"
        )
        common = {"lender": "lab_a", "until": None}
        self.assertEqual(
            reply,
            [
                {**common, "recipient": "lab_b", "resource": "cpu_share", "amount": 10, "accepted": True, "reason": ""},
                {
                    **common,
                    "recipient": "lab_b",
                    "resource": "cpu_share",
                    "amount": 10,
                    "accepted": False,
                    "reason": "6 can be lent: 32 own, 10 lent before, 16 kept",
                },
                {
                    **common,
                    "recipient": "lab_zz",
                    "resource": "pids_max",
                    "amount": 1,
                    "accepted": False,
                    "reason": "no sliver lab_zz; it begins when there is one",
                },
            ],
        )
        self.assertEqual(self.ann.body("get_loans lab_a"), reply)
        self.assertEqual(self.ann.body("sliver lab_a")["loans"], reply)
        self.assertEqual(self.ann.body("get_loans lab_b borrowed=True"), reply[:1])
        self.assertEqual(self.ann.body("get_loans lab_b"), [])
        self.assertEqual(self.shares(), [22, 42, 32])

    def test_setsOneLoan(self) -> None:
        """
        C{loan} is in place of what was lent before to the same of the same, where it stood; 0 ends it.
        """
        self.ann.body("set_loans lab_a [['lab_b','cpu_share',10],['lab_c','cpu_share',4],['lab_b','cpu_share',1]]")
        self.assertEqual(self.shares(), [17, 43, 36])
        reply = self.ann.body("loan lab_b cpu_share 13 lender=lab_a")
        self.assertEqual(
            [(one["recipient"], one["amount"], one["accepted"]) for one in reply],
            [("lab_b", 13, True), ("lab_c", 4, False)],
        )
        self.assertEqual(self.shares(), [19, 45, 32])
        self.assertEqual(len(self.ann.body("loan lab_b cpu_share 0 lender=lab_a")), 1)
        self.assertEqual(self.shares(), [28, 32, 36])
        self.assertEqual(self.ann.body("loan lab_c cpu_share 0 lender=lab_a"), [])
        self.assertEqual(self.shares(), [32, 32, 32])
        self.assertEqual(self.daemon.host.table(Loans), {})

    def test_readsItsOwnReply(self) -> None:
        """
        What get_loans shows can be sent back, and changes nothing.
        """
        reply = self.ann.body("set_loans lab_a [{'recipient':'lab_b','resource':'cpu_share','amount':4,'until':'+1h'}]")
        self.assertEqual(self.ann.body(f"set_loans lab_a {reply!r}"), reply)
        self.assertIn("want lab_b as lender", self.ann.ask(f"set_loans lab_b {reply!r}").body["message"])

    def test_refusesBadShapesWhole(self) -> None:
        """
        One bad item rejects the whole list, and the old one stands.
        """
        self.ann.body("loan lab_b cpu_share 7 lender=lab_a")
        for item in (
            "['lab_b','cpu_share',True]",
            "['lab_b','cpu_share',1.5]",
            "['lab_b','cpu_share',-1]",
            f"['lab_b','cpu_share',{2**63}]",
            "['lab_b','cpu_share','1']",
            "['lab_b','disk_max',1]",
            "['lab_b','nothing',1]",
            "['lab_b',7,1]",
            "['lab_b','cpu_share']",
            "['lab_b','cpu_share',1,2]",
            "['web.exp1.lab','cpu_share',1]",
            "[7,'cpu_share',1]",
            "{'recipient':'lab_b','amount':1}",
            "{'recipient':'lab_b','resource':'cpu_share','amount':1,'colour':'blue'}",
            "{'recipient':'lab_b','resource':'cpu_share','amount':1,'until':1.0}",
            "{'recipient':'lab_b','resource':'cpu_share','amount':1,'until':'soon'}",
            "7",
        ):
            reply = self.ann.ask(f"set_loans lab_a [['lab_c','cpu_share',1],{item}]")
            self.assertEqual((reply.body["code"], "item 2" in reply.body["message"]), ("BAD_VALUE", True), reply.body)
        for whole in ("{'lab_b': 1}", "x", "7", "'[]'", f"{[['lab_b', 'cpu_share', 0]] * (MOST_LOANS + 1)!r}"):
            self.assertEqual(self.ann.code(f"set_loans lab_a {whole}"), "BAD_VALUE")
        for one in (
            "lab_b disk_max 1",
            "lab_b cpu_share -1",
            "lab_b cpu_share 1.5",
            "b cpu_share 1",
            "lab_b cpushare 0",
        ):
            self.assertEqual(self.ann.code(f"loan {one} lender=lab_a"), "BAD_VALUE", one)
        self.assertEqual(self.ann.code("loan lab_b cpu_share 1 lender=lab_a until=1.0"), "BAD_VALUE")
        self.assertEqual(self.shares(), [25, 39, 32])

    def test_anAmountOfNothing(self) -> None:
        """
        As the ancestor's, a list may have items of 0, which count and change nothing.
        """
        self.assertTrue(self.ann.body("set_loans lab_a [['lab_b','cpu_share',0]]")[0]["accepted"])
        self.assertEqual(self.shares(), [32, 32, 32])
        self.assertEqual(self.news("sliver/lab_b"), [])

    def test_endsAtSomeLength(self) -> None:
        """
        Nobody makes the daemon keep a list without end.
        """
        items = [[f"lab_{n}", "cpu_share", 1] for n in range(MOST_LOANS)]
        self.ann.body(f"set_loans lab_a {items!r}")
        self.assertEqual(self.ann.code("loan lab_more cpu_share 1 lender=lab_a"), "TOO_MANY")
        self.ann.body("loan lab_7 cpu_share 2 lender=lab_a")


class WhoTests(Lending):
    """
    Who may lend, and see.
    """

    def test_lendsFromWithin(self) -> None:
        """
        A sliver that asks through its own socket lends what is its own, and nothing of others'.
        """
        own = inside(self.daemon, "lab_a")
        self.assertEqual(own.body("loan lab_b cpu_share 5")[0]["lender"], "lab_a")
        self.assertEqual(own.body("get_effective_rspec lab_a")["cpu_share"], 27)
        self.assertEqual(own.code("loan lab_c cpu_share 5 lender=lab_b"), "NO_SUCH_SLIVER")
        for line in ("get_rspec lab_b", "get_effective_rspec lab_b", "get_loans lab_b", "set_loans lab_b []"):
            self.assertEqual(own.code(line), "NO_SUCH_SLIVER", line)
        self.assertEqual(self.shares(), [27, 37, 32])

    def test_nobodyElsesLoans(self) -> None:
        """
        To whom the lender is hidden, it does not exist; a member who does not own it sees it and may not lend.
        """
        bob = self.daemon.connect(BOB)
        self.assertEqual(bob.code("loan lab_b cpu_share 5 lender=lab_a"), "NO_SUCH_SLIVER")
        self.assertEqual(bob.code("loan lab_b cpu_share 5 lender=lab_none"), "NO_SUCH_SLIVER")
        self.assertEqual(bob.code("set_loans lab_a []"), "NO_SUCH_SLIVER")
        self.assertEqual(bob.code("get_loans lab_a"), "NO_SUCH_SLIVER")
        self.operator.body("add_member lab bob")
        self.assertEqual(bob.code("loan lab_b cpu_share 5 lender=lab_a"), "DENIED")
        self.assertEqual(bob.code("set_loans lab_a []"), "DENIED")
        self.assertEqual(bob.body("get_loans lab_a"), [])

    def test_wantsALender(self) -> None:
        """
        Who is no sliver must say whose units are lent.
        """
        reply = self.ann.ask("loan lab_b cpu_share 5")
        self.assertEqual(reply.body["code"], "BAD_ARGUMENTS")
        self.assertIn("want lender=", reply.body["message"])

    def test_delegatesLendWhatTheyWereGranted(self) -> None:
        """
        A delegate that was granted C{loan} of one sliver may lend of that, and only by that command.
        """
        self.operator.body("add_delegate del_loan uid=5009 commands=['loan'] slivers=['lab_a']")
        delegate = self.daemon.connect(5009)
        delegate.body("loan lab_b cpu_share 3 lender=lab_a")
        self.assertEqual(delegate.code("loan lab_b cpu_share 3 lender=lab_c"), "NO_SUCH_SLIVER")
        self.assertEqual(delegate.code("set_loans lab_a []"), "NO_SUCH_SLIVER")
        self.assertEqual(self.shares(), [29, 35, 32])

    def test_nodesDoNotLend(self) -> None:
        """
        Loans are between free slivers.
        """
        node = Sliver(
            serial=90000, name="web.exp1.lab", kind="process", experiment=77, rspec=dict(DEFAULTS), created=1.0
        )
        self.daemon.host._set(Sliver.table, node.key, node)
        client = self.daemon.connect(0)
        client.connection.caller = Caller(0, via="sliver", sliver=node.serial)
        code = client.code("loan lab_b cpu_share 1")
        self.daemon.host._set(Sliver.table, node.key, None)
        self.assertIn(code, ("WRONG_STATE", "NO_SUCH_SLIVER"))
        self.assertEqual(self.shares(), [32, 32, 32])


class LifeTests(Lending):
    """
    What becomes of loans when slivers come, change and go, and when the daemon does.
    """

    def test_beginsWhenTheRecipientComes(self) -> None:
        """
        A loan to a name that nobody has takes nothing, and counts from the moment that somebody has it.
        """
        self.ann.body("loan lab_new cpu_share 6 lender=lab_a")
        self.assertEqual(self.shares(), [32, 32, 32])
        self.operator.body("create lab_new kind=process owner=ann")
        self.assertEqual(share(self.daemon, "lab_a", "lab_new"), [26, 38])
        self.assertTrue(self.ann.body("get_loans lab_a")[0]["accepted"])
        self.assertEqual(self.news("sliver/lab_new", "lender", "amount"), [("loan_gained", "lab_a", 6)])

    def test_aNewHolderInheritsNothing(self) -> None:
        """
        When the recipient is destroyed the loan ends for good.
        """
        self.ann.body("loan lab_b cpu_share 6 lender=lab_a")
        self.ann.body("loan lab_c cpu_share 1 lender=lab_a")
        self.ann.body("destroy lab_b")
        self.assertEqual([one["recipient"] for one in self.ann.body("get_loans lab_a")], ["lab_c"])
        self.operator.body("create lab_b kind=process owner=bob")
        self.assertEqual(self.shares(), [31, 32, 33])
        self.assertIn(("loan_ended", "lab_b", 0, 6), self.news("sliver/lab_a", "recipient", "amount", "before"))

    def test_aLendersLoansGoWithIt(self) -> None:
        """
        When the lender is destroyed those who borrowed have what is their own, and are told.
        """
        self.ann.body("loan lab_b cpu_share 6 lender=lab_a")
        self.ann.body("destroy lab_a")
        self.assertEqual(share(self.daemon, "lab_b"), [32])
        self.assertEqual(self.daemon.host.table(Loans), {})
        self.assertEqual(self.news("sliver/lab_b", "lender", "amount")[-1], ("loan_lost", "lab_a", 0))
        self.operator.body("create lab_a kind=process owner=ann")
        self.assertEqual(self.shares(), [32, 32, 32])

    def test_survivesEveryUpdate(self) -> None:
        """
        A lender that is given another rspec, stopped, made anew or started again still lends.
        """
        self.ann.body("loan lab_b cpu_share 16 lender=lab_a")
        for line in ("stop lab_a", "start lab_a", "recreate lab_a", "recreate lab_b", "set_sliver lab_a keys=[]"):
            self.ann.body(line)
            self.assertEqual(self.shares(), [16, 48, 32], line)
        self.operator.body("set_sliver lab_a rspec={'cpu_share':40}")
        self.assertEqual(self.shares(), [24, 48, 32])
        self.operator.body("set_sliver lab_a rspec={'cpu_share':31}")
        self.assertEqual(self.shares(), [31, 32, 32])
        self.assertEqual(self.news("sliver/lab_b", "amount"), [("loan_gained", 16), ("loan_lost", 0)])
        self.assertEqual(self.ann.body("get_loans lab_a")[0]["reason"], "15 can be lent: 31 own, 16 kept")
        self.operator.body("set_sliver lab_a rspec={'cpu_share':32,'enabled':0}")
        self.assertEqual(self.shares()[1], 48)

    def test_survivesACrash(self) -> None:
        """
        What was answered is so after kill -9 at that instant.
        """
        self.ann.body("set_loans lab_a [['lab_b','cpu_share',10],['lab_new','cpu_share',1]]")
        self.daemon.crash()
        self.operator = self.daemon.connect()
        self.assertEqual(self.shares(), [22, 42, 32])
        self.operator.body("create lab_new kind=process owner=ann")
        self.assertEqual(share(self.daemon, "lab_a", "lab_new"), [21, 33])

    def test_aFailedWriteChangesNothing(self) -> None:
        """
        A loan that could not be made durable is not made, told or in force.
        """
        self.ann.body("loan lab_b cpu_share 4 lender=lab_a")
        before = self.news("all")
        self.daemon.store.full = True
        self.assertEqual(self.ann.code("destroy lab_b"), "STORE_FAILED")
        self.assertEqual(self.ann.code("set_loans lab_a []"), "STORE_FAILED")
        self.assertEqual(self.ann.code("loan lab_b cpu_share 9 lender=lab_a"), "STORE_FAILED")
        self.daemon.store.full = False
        self.assertEqual(self.shares(), [28, 36, 32])
        self.assertEqual(self.news("all"), before)
        self.ann.body("loan lab_a cpu_share 2 lender=lab_c")  # tells of itself, and of nothing that was not made
        self.assertEqual(self.news("all", "lender")[len(before) :], [("loan_given", "lab_c"), ("loan_gained", "lab_c")])

    def test_repeatsByToken(self) -> None:
        """
        The same request again has the first one's reply, and no second effect.
        """
        first = self.ann.body("loan lab_b cpu_share 4 lender=lab_a token=once")
        self.ann.body("loan lab_b cpu_share 5 lender=lab_a")
        self.assertEqual(self.ann.body("loan lab_b cpu_share 4 lender=lab_a token=once"), first)
        self.assertEqual(self.shares(), [27, 37, 32])


class TimeTests(Lending):
    """
    Loans that end by themselves.
    """

    def test_endsInTime(self) -> None:
        """
        At its C{until} a loan is over: units are back at once, both are told, and the list no longer has it.
        """
        self.ann.body("loan lab_b cpu_share 8 lender=lab_a until=+30s")
        self.ann.body("loan lab_c cpu_share 2 lender=lab_a")
        self.daemon.advance(29.9)
        self.assertEqual(self.shares(), [22, 40, 34])
        self.daemon.advance(0.2)
        self.assertEqual(self.shares(), [30, 32, 34])
        self.assertEqual([one["recipient"] for one in self.ann.body("get_loans lab_a")], ["lab_c"])
        for topic in ("sliver/lab_a", "sliver/lab_b"):
            expired = ("loan_expired", "lab_a", "lab_b", "cpu_share", 0, 8)
            self.assertIn(expired, self.news(topic, "lender", "recipient", "resource", "amount", "before"))

    def test_aSoonerOneWakesSooner(self) -> None:
        """
        The nearest end counts, whichever loan was made first, also one far away.
        """
        self.ann.body("set_loans lab_a [['lab_b','cpu_share',1]] until=+10d")
        self.ann.body("set_loans lab_b [['lab_c','cpu_share',1]] until=+5s")
        self.daemon.advance(5.1)
        self.assertEqual(self.shares(), [31, 33, 32])
        self.daemon.advance(864000)
        self.assertEqual(self.shares(), [32, 32, 32])

    def test_mayBeProlonged(self) -> None:
        """
        A loan that is set again ends by its new time; one without time does not end.
        """
        self.ann.body("loan lab_b cpu_share 8 lender=lab_a until=+30s")
        self.daemon.advance(20)
        self.ann.body("loan lab_b cpu_share 8 lender=lab_a until=+30s")
        self.daemon.advance(20)
        self.assertEqual(self.shares()[1], 40)
        self.ann.body("loan lab_b cpu_share 8 lender=lab_a")
        self.daemon.advance(86400)
        self.assertEqual(self.shares()[1], 40)

    def test_endedWhileNoDaemonRan(self) -> None:
        """
        What ended meanwhile is over when the daemon is back, and is told then; what did not goes on to its end.
        """
        self.ann.body("loan lab_b cpu_share 8 lender=lab_a until=+30s")
        self.ann.body("loan lab_c cpu_share 2 lender=lab_a until=+90s")
        self.daemon.clock.rightNow += 60  # nobody looks
        self.daemon.crash()
        self.operator = self.daemon.connect()
        self.assertEqual(self.shares(), [30, 32, 34])
        self.assertEqual(self.news("sliver/lab_b", "amount")[-1], ("loan_expired", 0))
        self.daemon.advance(30.1)
        self.assertEqual(self.shares(), [32, 32, 32])

    def test_triesAgain(self) -> None:
        """
        An end that could not be written comes when it can be.
        """
        self.ann.body("loan lab_b cpu_share 8 lender=lab_a until=+5s")
        self.daemon.store.full = True
        self.daemon.advance(6)
        self.assertEqual(self.daemon.host.ledger.effective(serial(self.daemon, "lab_b"))["cpu_share"], 40)
        self.daemon.store.full = False
        self.daemon.advance(RETRY_S)
        self.assertEqual(self.shares(), [32, 32, 32])

    def test_aDormantLoanEndsToo(self) -> None:
        """
        A loan to nobody that is over begins no more.
        """
        self.ann.body("loan lab_new cpu_share 8 lender=lab_a until=+5s")
        self.daemon.advance(6)
        self.assertEqual(self.ann.body("get_loans lab_a"), [])
        self.operator.body("create lab_new kind=process owner=ann")
        self.assertEqual(share(self.daemon, "lab_a", "lab_new"), [32, 32])


class EventTests(Lending):
    """
    What lender and recipient hear.
    """

    def test_bothHear(self) -> None:
        """
        Each hears of what is lent, changed and ended, under its own topic, with amounts before and after.
        """
        for amount in (4, 9, 3, 0):
            self.ann.body(f"loan lab_b cpu_share {amount} lender=lab_a")
        self.assertEqual(
            self.news("sliver/lab_a", "sliver", "before", "amount"),
            [
                ("loan_given", "lab_a", 0, 4),
                ("loan_given", "lab_a", 4, 9),
                ("loan_ended", "lab_a", 9, 3),
                ("loan_ended", "lab_a", 3, 0),
            ],
        )
        self.assertEqual(
            self.news("sliver/lab_b", "sliver", "before", "amount"),
            [
                ("loan_gained", "lab_b", 0, 4),
                ("loan_gained", "lab_b", 4, 9),
                ("loan_lost", "lab_b", 9, 3),
                ("loan_lost", "lab_b", 3, 0),
            ],
        )
        self.assertEqual(self.news("sliver/lab_c"), [])

    def test_theRecipientWatchesFromWithin(self) -> None:
        """
        A sliver that watches itself hears of a gain, and of no other sliver's.
        """
        own = inside(self.daemon, "lab_b")
        own.body("watch sliver/lab_b")
        self.ann.body("loan lab_c cpu_share 1 lender=lab_a")
        self.ann.body("loan lab_b cpu_share 2 lender=lab_a")
        heard = [one.body for one in own.replies()]
        self.assertEqual([(one["what"], one["amount"], one["lender"]) for one in heard], [("loan_gained", 2, "lab_a")])


class AdmissionTests(SynchronousTestCase):
    """
    cpu_min, which the host promises, on two cores.
    """

    def setUp(self) -> None:
        self.daemon = site()
        self.daemon.daemon.cores = 2
        self.operator = self.daemon.connect()
        self.operator.body("create lab_a kind=process owner=ann rspec={'cpu_min':1000}")
        self.operator.body("create lab_b kind=process owner=ann rspec={'cpu_min':500}")

    def test_refusesWhatDoesNotFit(self) -> None:
        """
        What is more than is left is refused, saying what is left, and nothing is made.
        """
        reply = self.operator.ask("create lab_c kind=process owner=ann rspec={'cpu_min':301}")
        self.assertEqual((reply.body["code"], reply.body["left"]), ("NO_ROOM", 300))
        self.assertEqual(self.operator.code("sliver lab_c"), "NO_SUCH_SLIVER")
        self.operator.body("create lab_c kind=process owner=ann rspec={'cpu_pct':30}")
        self.assertEqual(self.operator.body("host_status")["allocated"]["cpu_min"], 1800)
        sound(self.daemon)

    def test_refusesAChangeThatDoesNotFit(self) -> None:
        """
        A sliver's own units are its to use again.
        """
        self.assertEqual(self.operator.code("set_sliver lab_b rspec={'cpu_min':801}"), "NO_ROOM")
        self.operator.body("set_sliver lab_b rspec={'cpu_min':800}")
        self.assertEqual(self.operator.body("get_rspec lab_b")["cpu_min"], 800)

    def test_loansFit(self) -> None:
        """
        A loan never asks the host for more; what is lent comes back when the borrower goes.
        """
        self.operator.body("loan lab_b cpu_min 1000 lender=lab_a")
        self.assertEqual(self.operator.body("get_effective_rspec lab_b")["cpu_min"], 1500)
        self.assertEqual(self.operator.code("create lab_c kind=process owner=ann rspec={'cpu_min':301}"), "NO_ROOM")
        self.operator.body("destroy lab_b")
        self.assertEqual(self.operator.body("get_effective_rspec lab_a")["cpu_min"], 1000)
        self.operator.body("create lab_c kind=process owner=ann rspec={'cpu_min':800}")
        sound(self.daemon)


_NAMES = st.sampled_from(["lab_a", "lab_b", "lab_c", "lab_d"])
_AMOUNTS = st.integers(0, 20)


class Anything(RuleBasedStateMachine):
    """
    Whatever people do, in any order, with crashes and full disks between.
    """

    @initialize()
    def begin(self) -> None:
        self.daemon = site()
        self.operator = self.daemon.connect()

    @rule(name=_NAMES, amount=st.integers(1, 64))
    def create(self, name: str, amount: int) -> None:
        self.operator.ask(f"create {name} kind=process owner=ann rspec={{'cpu_share':{amount}}}")

    @rule(name=_NAMES, amount=st.integers(1, 64))
    def give(self, name: str, amount: int) -> None:
        self.operator.ask(f"set_sliver {name} rspec={{'cpu_share':{amount}}}")

    @rule(name=_NAMES)
    def destroy(self, name: str) -> None:
        self.operator.ask(f"destroy {name}")

    @rule(name=_NAMES, recipient=_NAMES, amount=_AMOUNTS, until=st.sampled_from(["", " until=+7s", " until=+1h"]))
    def lend(self, name: str, recipient: str, amount: int, until: str) -> None:
        self.operator.ask(f"loan {recipient} cpu_share {amount} lender={name}{until}")

    @rule(name=_NAMES, lent=st.lists(st.tuples(_NAMES, st.just("cpu_share"), _AMOUNTS), max_size=4))
    def replace(self, name: str, lent: list[Any]) -> None:
        self.operator.ask(f"set_loans {name} {lent!r}")

    @rule(seconds=st.sampled_from([1.0, 5.0, 8.0]))
    def wait(self, seconds: float) -> None:
        self.daemon.advance(seconds)

    @rule()
    def crash(self) -> None:
        self.daemon.crash()
        self.operator = self.daemon.connect()

    @rule(name=_NAMES, recipient=_NAMES, amount=_AMOUNTS)
    def fail(self, name: str, recipient: str, amount: int) -> None:
        self.daemon.store.full = True
        self.operator.ask(f"destroy {recipient}")
        self.operator.ask(f"loan {recipient} cpu_share {amount} lender={name}")
        self.daemon.store.full = False
        self.daemon.advance(RETRY_S)

    @invariant()
    def nothingIsCreatedOrLost(self) -> None:
        sound(self.daemon)
        host = self.daemon.host
        slivers = host.free_slivers()
        given = sum(one.rspec["cpu_share"] for one in slivers)
        assert given == sum(host.effective(one)["cpu_share"] for one in slivers)
        for record in host.table(Loans).values():
            assert record.serial in host.slivers_by_serial
            for item in record.items:
                found = host.sliver_named(item.recipient)
                assert item.to == (found.serial if found is not None else None), item
        for sliver in slivers:
            assert host.effective(sliver)["cpu_share"] >= min(16, sliver.rspec["cpu_share"])
            held = self.daemon.fake_host.in_force.get(sliver.serial)
            assert held is None or held["cpu_share"] == host.effective(sliver)["cpu_share"], (sliver.name, held)


class AnythingTests(SynchronousTestCase):
    """
    In any order of operations.
    """

    def test_anyOrder(self) -> None:
        """
        Nothing is created or lost, everybody keeps the minimum, a restart finds the same, and what the drivers hold
        slivers to is what is in force.
        """
        run_state_machine_as_test(Anything, settings=settings(max_examples=30, stateful_step_count=20, deadline=None))


class RecordTests(SynchronousTestCase):
    """
    Loans as they are kept.
    """

    def test_damagedOnesAreSetAside(self) -> None:
        """
        A list that cannot be read costs its loans, not the daemon; what is in force follows at its first round.
        """
        daemon = site("lab_a", "lab_b", "lab_c")
        operator = daemon.connect()
        operator.body("loan lab_b cpu_share 8 lender=lab_a")
        operator.body("loan lab_b cpu_share 1 lender=lab_c")
        key = (Loans.table, str(serial(daemon, "lab_a")))
        good = list(Loan("lab_b", "cpu_share", 8, None, serial(daemon, "lab_b")))
        self.assertEqual(json.loads(daemon.disk.records()[key])["items"], [good])
        wrong: tuple[Any, ...] = (
            [["lab_b"]],
            [[1, *good[1:]]],
            [[*good[:2], "8", None, 1]],
            7,
            [[*good[:2], True]],
            [good, 7],
        )
        for items in wrong:
            self.assertRaises(Damaged, Loans.from_json, json.dumps({"serial": 1, "items": items}))
            daemon.disk.connection.execute(store.PUT, (*key, json.dumps({"serial": int(key[1]), "items": items})))
            daemon.crash()
            daemon.daemon.round()
            daemon.advance(0.1)
            self.assertEqual(share(daemon, "lab_a", "lab_b", "lab_c"), [32, 33, 31])
            self.assertIn("loans", daemon.host.aside[0])
