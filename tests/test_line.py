"""
From a line to its reply: errors, tokens, waiting, and the audit log.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.commands import TABLE
from hostline.server import line as line_module
from hostline.server.asking import RESPONDERS
from hostline.server.config import Config
from hostline.server.records import Operation, Token, User
from tests.daemons import make, topdl

#: What may stand behind a command, somewhere.
WORDS = [
    "lab",
    "lab/exp1",
    "web",
    "ann",
    "7",
    "None",
    "True",
    "[]",
    "{}",
    "''",
    "audit",
    "all",
    "wait=0",
    "token=x",
    "timeout=0",
    "since=0",
]
CREATE = f"create_experiment lab/exp1 {topdl({'web': 'exit 7'})}"


class TableTests(SynchronousTestCase):
    """
    The table of commands and those who answer them.
    """

    def test_everyRowHasItsResponder(self) -> None:
        """
        Every command that help lists is answered, and no other is.
        """
        self.assertEqual(set(TABLE), set(RESPONDERS))


class ErrorTests(SynchronousTestCase):
    """
    What is wrong is said, in one line.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.ann = self.daemon.lab()

    def test_namesNearOnes(self) -> None:
        """
        A misspelt command, option or name is answered by what may have been meant.
        """
        self.ann.body(f"{CREATE} swap_in=True")
        for line, near in (
            ("statsu_request lab/exp1", "status_request"),
            ("swap_in lab/exp1 wiat=3", "wait"),
            ("experiment lab/exp2", "lab/exp1"),
            ("node_reboot lab/exp1 wbe", "web"),
            ("create_experiment lba/x 'x'", "lab"),
        ):
            self.assertIn(f"(did you mean {near}?)", self.ann.ask(line).body["message"], line)

    def test_survivesItsOwnBugs(self) -> None:
        """
        A bug in an answer is INTERNAL with the request id, is in the log, and the connection lives on.
        """

        def broken(ask: Any) -> Any:
            ask.change.add(User(serial=99, name="eve"))
            raise ZeroDivisionError("oops")

        async def broken_later(ask: Any) -> Any:
            raise ZeroDivisionError("oops")

        before = self.daemon.host.tables["user"].copy()
        self.addCleanup(RESPONDERS.__setitem__, "whoami", RESPONDERS["whoami"])
        for function in (broken, broken_later):
            RESPONDERS["whoami"] = function
            reply = self.ann.ask("whoami")
            self.assertEqual(reply.body["code"], "INTERNAL")
            self.assertIn(reply.body["request"], reply.body["message"])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertEqual(self.ann.code("ping"), "ping_reply")
        self.assertEqual(self.daemon.host.tables["user"], before)
        self.daemon.check()

    @given(st.binary(max_size=60).filter(lambda data: b"\n" not in data))
    @settings(max_examples=150, deadline=None)
    def test_answersGarbage(self, garbage: bytes) -> None:
        """
        Whatever is said gets one line, or none if it was empty; and the next line is answered.
        """
        self.ann.raw()
        self.ann.send(garbage + b"\n@end ping\n")
        lines = self.ann.lines()
        self.assertEqual(lines[-1], "@end ping_reply")
        self.assertLessEqual(len(lines), 2)

    @given(st.sampled_from(sorted(TABLE)), st.lists(st.sampled_from(WORDS), max_size=4))
    @settings(max_examples=150, deadline=None)
    def test_answersNonsense(self, command: str, words: list[str]) -> None:
        """
        Any command with any words gets one reply, never INTERNAL.
        """
        operator = self.daemon.connect()
        operator.send(" ".join([command, *words]) + "\n")
        self.daemon.advance(40)
        (first, *events) = operator.lines()
        self.assertNotEqual(first, "INTERNAL")
        self.assertEqual(set(events) - {"event"}, set())
        operator.hang_up()


class WaitingTests(SynchronousTestCase):
    """
    Slow work and how long a request waits for it.
    """

    def setUp(self) -> None:
        self.daemon = make(slow=5.0)
        self.ann = self.daemon.lab()
        self.ann.body(CREATE)

    def test_isAnOperationWhenItTakesLonger(self) -> None:
        """
        Past wait= the reply is the running operation, which goes on; wait answers when it is done.
        """
        self.ann.send("swap_in lab/exp1 wait=2\n")
        self.daemon.advance(2)
        (reply,) = self.ann.replies()
        self.assertEqual((reply.word, reply.body["state"]), ("operation_reply", "running"))
        self.assertEqual((reply.body["command"], reply.body["target"]), ("swap_in", "lab/exp1"))
        number = reply.body["operation"]
        self.ann.send(f"wait {number} timeout=1\n")
        self.daemon.advance(1)
        self.assertEqual(self.ann.replies()[0].body["state"], "running")
        self.ann.send(f"wait {number}\n")
        self.daemon.advance(3)
        body = self.ann.replies()[0].body
        self.assertEqual((body["state"], body["progress"], body["causes"]), ("done", 1.0, []))
        self.assertEqual(self.ann.body(f"operation {number}"), body)

    def test_waitsNotAtAll(self) -> None:
        """
        wait=0 is answered at once.
        """
        self.assertEqual(self.ann.code("swap_in lab/exp1 wait=0"), "operation_reply")

    def test_waitsThirtySecondsByDefault(self) -> None:
        """
        Without wait= a request waits for half a minute.
        """
        self.daemon.driver.boot_after = None
        self.ann.send("swap_in lab/exp1\n")
        self.daemon.advance(29)
        self.assertEqual(self.ann.lines(), [])
        self.daemon.advance(1)
        self.assertEqual(self.ann.lines(), ["operation_reply"])

    def test_joinsWhatRuns(self) -> None:
        """
        Asked again while it runs, the same operation is waited for, and no second one is begun.
        """
        other = self.daemon.connect(5001)
        self.ann.send("swap_in lab/exp1\n")
        other.send("swap_in lab/exp1\n")
        self.daemon.advance(6)
        self.assertEqual(self.ann.lines() + other.lines(), ["swap_in_reply", "swap_in_reply"])
        self.assertEqual(len(self.ann.body("operations")), 1)
        self.assertEqual(self.ann.code("swap_in lab/exp1"), "swap_in_reply")

    def test_joinsWhatIsNotYetDurable(self) -> None:
        """
        The same in one packet, before the first is written.
        """
        self.ann.send("@1 swap_in lab/exp1\n@2 swap_in lab/exp1\n", settle=False)
        self.daemon.advance(6)
        self.assertEqual(self.ann.lines(), ["@1 swap_in_reply", "@2 swap_in_reply"])
        self.assertEqual(len(self.ann.body("operations")), 1)

    def test_saysWhyItFailed(self) -> None:
        """
        Failed work is an error with the innermost cause, the operation and the chain of causes.
        """
        serial = self.daemon.host._next_serial
        self.daemon.driver.refusals = dict.fromkeys(range(serial, serial + 3), "no space left")
        self.ann.send("swap_in lab/exp1\n")
        self.daemon.advance(6)
        body = self.ann.replies()[0].body
        self.assertEqual((body["code"], body["command"]), ("FAILED", "swap_in"))
        self.assertIn("no space left", body["message"])
        self.assertIn("web", body["causes"][0])
        self.assertIn("lab/exp1", body["causes"][-1])
        self.assertEqual(self.ann.body(f"operation {body['operation']}")["causes"], body["causes"])
        self.assertIn("web could not be started", self.ann.body("experiment lab/exp1")["reason"])

    def test_saysThatItWasCancelled(self) -> None:
        """
        Who waits for cancelled work is told so.
        """
        self.ann.send("@1 swap_in lab/exp1\n")
        number = self.ann.body("operations")[0]["operation"]
        self.ann.send(f"@2 cancel {number}\n")
        self.assertEqual(self.ann.lines(), ["@1 CANCELLED", "@2 cancel_reply"])
        self.assertEqual(self.ann.code(f"cancel {number}"), "WRONG_STATE")

    def test_saysWhatSupersededIt(self) -> None:
        """
        A newer intent cancels an older one: who waited for that hears which.
        """
        self.ann.send("@1 swap_in lab/exp1\n")
        self.ann.send("@2 swap_out lab/exp1\n")
        one, two = self.ann.replies()
        self.assertEqual((one.tag, one.body["code"]), ("1", "CANCELLED"))
        self.assertIn("swap_out", one.body["message"])
        self.assertEqual((two.tag, two.word), ("2", "swap_out_reply"))


class TokenTests(SynchronousTestCase):
    """
    A request with token= has its effect once.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.ann = self.daemon.lab()
        self.operator = self.daemon.connect()

    def test_hasTheSameReply(self) -> None:
        """
        Said again it has the first reply and no further effect, after a restart too.
        """
        first = self.operator.body("add_project p quota={'pids_max':9} token=once")
        self.assertEqual(self.operator.body("add_project p token=once quota={'pids_max': 9}"), first)
        self.operator.body("remove_project p")
        self.daemon.crash()
        operator = self.daemon.connect()
        self.assertEqual(operator.body("add_project p quota={'pids_max':9} token=once"), first)
        self.assertNotIn("p", [one["name"] for one in operator.body("projects")])

    def test_isRefusedWithOtherWords(self) -> None:
        """
        A token stands for one request; another command, argument or option under it is refused.
        """
        self.operator.body("add_project p token=once")
        for line in ("add_project q", "add_project p quota={'pids_max':9}", "add_user p"):
            self.assertEqual(self.operator.code(f"{line} token=once"), "TOKEN_REUSED")
        self.assertEqual(self.operator.code("add_project q token=other"), "add_project_reply")

    def test_isItsSendersAlone(self) -> None:
        """
        Two principals may use the same word.
        """
        self.ann.body(f"{CREATE} token=once")
        self.operator.body("add_project p token=once")

    def test_holdsWhileTheFirstIsUnderWay(self) -> None:
        """
        Twice in one packet, both have the same reply, once it is durable.
        """
        self.operator.send("@1 add_project p token=once\n@2 add_project p token=once\n", settle=False)
        self.assertEqual(self.operator.lines(), [])
        self.daemon.settle()
        one, two = self.operator.replies()
        self.assertEqual(one.body, two.body)
        self.assertEqual(one.word, "add_project_reply")

    def test_holdsWhileTheFirstIsBeingRead(self) -> None:
        """
        Twice while the topology is still being read, in whichever order that ends, there is one experiment.
        """
        self.daemon.offload.held = True
        self.ann.send(f"@1 {CREATE} token=once\n@2 {CREATE} token=once\n")
        self.daemon.offload.release()
        self.daemon.offload.release()
        self.daemon.settle()
        one, two = self.ann.replies()
        self.assertEqual((one.word, one.body), (two.word, two.body))
        self.assertEqual(one.word, "create_experiment_reply")
        self.assertEqual(len(self.ann.body("experiments")), 1)
        self.daemon.check()

    def test_holdsWhileAModificationIsBeingRead(self) -> None:
        """
        Twice while a modification is being read, it is made once, and both are told what became of each node.
        """
        self.ann.body(f"{CREATE} swap_in=True")
        self.daemon.offload.held = True
        line = f"modify_experiment lab/exp1 {topdl({'web': 'exit 7', 'db': None})} token=once"
        self.ann.send(f"@1 {line}\n@2 {line}\n")
        self.daemon.offload.release()
        self.daemon.offload.release()
        self.daemon.settle()
        one, two = self.ann.replies()
        self.assertEqual((one.word, one.body), ("modify_experiment_reply", two.body))
        self.assertEqual(one.body["added"], ["db"])
        self.daemon.check()

    def test_isFreeWhenTheFirstFailed(self) -> None:
        """
        What was refused, or could not be written, had no effect: the same token may be tried again.
        """
        self.assertEqual(self.operator.code("remove_project p token=once"), "NO_SUCH_PROJECT")
        self.operator.body("add_project p token=twice")
        self.assertEqual(self.operator.code("remove_project p token=once"), "remove_project_reply")
        self.daemon.store.full = True
        self.operator.send("@1 add_project q token=thrice\n@2 add_project q token=thrice\n", settle=False)
        self.daemon.settle()
        self.assertEqual(sorted(self.operator.lines()), ["@1 STORE_FAILED", "@2 STORE_FAILED"])
        self.daemon.store.full = False
        self.assertEqual(self.operator.code("add_project q token=thrice"), "add_project_reply")
        self.daemon.check()

    def test_waitsForTheSameOperation(self) -> None:
        """
        Slow work said again is the same operation, running or ended.
        """
        self.ann.body(CREATE)
        self.daemon.driver.boot_after = 5.0
        self.ann.send("@1 swap_in lab/exp1 token=once\n@2 swap_in lab/exp1 token=once wait=1\n")
        self.daemon.advance(1)
        (reply,) = self.ann.replies()
        self.assertEqual((reply.tag, reply.word), ("2", "operation_reply"))
        self.daemon.advance(5)
        self.assertEqual(self.ann.lines(), ["@1 swap_in_reply"])
        self.ann.body("swap_out lab/exp1")
        self.assertEqual(self.ann.body("swap_in lab/exp1 token=once")["state"], "active")
        self.assertEqual(self.ann.body("experiment lab/exp1")["state"], "swapped")
        self.assertEqual(len(self.ann.body("operations")), 2)

    def test_outlivesTheTarget(self) -> None:
        """
        What took its target away, or made what is gone by now, has the first effect's reply all the same.
        """
        lines = [f"{CREATE} swap_in=True token=t1", "swap_out lab/exp1 token=t2", "terminate lab/exp1 token=t3"]
        first = [self.ann.body(line) for line in lines]
        self.assertEqual([self.ann.body(line) for line in lines], first)
        self.daemon.crash()
        self.ann, self.operator = self.daemon.connect(5001), self.daemon.connect()
        self.assertEqual([self.ann.body(line) for line in lines], first)
        self.ann.body(CREATE)
        self.assertEqual([self.ann.body(line) for line in lines], first)
        for line in ("remove_user bob token=t1", "add_project p token=t2", "remove_project p token=t3"):
            body = self.operator.body(line)
            self.assertEqual(self.operator.body(line), body)
        self.daemon.check()

    def test_isRefusedToWhoMayNoLonger(self) -> None:
        """
        Who has lost the right is not told again; what is gone does not change that.
        """
        self.ann.body(f"{CREATE} token=t1")
        self.operator.body("remove_member lab ann")
        self.assertEqual(self.ann.code(f"{CREATE} token=t1"), "NO_SUCH_PROJECT")
        daemon = make(config=attrs.evolve(Config(), operators="root"))
        group = daemon.connect(5008, groups=[0])
        group.body("add_user eve")
        group.body("remove_user eve token=t1")
        self.assertEqual(daemon.connect(5008).code("remove_user eve token=t1"), "DENIED")
        self.assertEqual(group.code("remove_user eve token=t1"), "remove_user_reply")

    def test_keepsNoLongReplies(self) -> None:
        """
        Of a big experiment the reply is kept without its nodes: said again, they are told as they are.
        """
        big = topdl({f"node{number}": None for number in range(100)})
        create = f"create_experiment lab/big {big} token=t1"
        self.ann.body(create)
        self.ann.body("swap_in lab/big token=t2")
        for token in self.daemon.host.table(Token).values():
            self.assertLess(len(token.as_json()), 1000)
        for operation in self.daemon.host.table(Operation).values():
            self.assertLess(len(ascii(operation.result)), 1000)
        for line in (create, "swap_in lab/big token=t2"):
            body = self.ann.body(line)
            self.assertEqual((len(body["nodes"]), body["state"]), (100, "active"))
        self.ann.body("terminate lab/big")
        self.assertEqual((self.ann.body(create)["nodes"], self.ann.body(create)["state"]), ({}, "swapped"))
        self.assertEqual(self.ann.body("swap_in lab/big token=t2")["state"], "active")
        self.daemon.check()

    def test_areOnlySoMany(self) -> None:
        """
        Of more tokens of one principal than are kept the oldest are forgotten.
        """
        self.patch(line_module, "TOKENS", 20)
        for number in range(50):
            self.operator.body(f"add_project p{number} token=t{number}")
            self.daemon.advance(1)
        self.assertLessEqual(len(self.daemon.host.table(Token)), 21)
        self.operator.body("add_project p49 token=t49")
        self.assertEqual(self.operator.code("add_project p0 token=t0"), "EXISTS")
        self.daemon.check()

    def test_holdsBackWhatFollows(self) -> None:
        """
        A change behind a repeated slow request waits for it, as behind the first.
        """
        self.ann.body(CREATE)
        self.daemon.driver.boot_after = 5.0
        self.ann.body("swap_in lab/exp1 token=once wait=0")
        self.ann.send("swap_in lab/exp1 token=once\nswap_out lab/exp1\n")
        self.daemon.advance(20)
        self.assertEqual(self.ann.lines(), ["swap_in_reply", "swap_out_reply"])

    def test_isKeptAWeek(self) -> None:
        """
        After a week the token is forgotten.
        """
        self.operator.body("add_project p token=once")
        self.daemon.advance(6.9 * 86400)
        self.daemon.daemon.round()
        self.daemon.settle()
        self.assertEqual(len(self.daemon.host.table(Token)), 1)
        self.daemon.advance(86400)
        self.daemon.daemon.round()
        self.daemon.settle()
        self.assertEqual(len(self.daemon.host.table(Token)), 0)
        self.daemon.check()


class AuditTests(SynchronousTestCase):
    """
    Every change and every refusal is in the audit log.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.ann = self.daemon.lab()

    def outcomes(self) -> list[tuple[str, str]]:
        return [(one["body"]["what"], one["body"]["outcome"]) for one in map(json.loads, self.daemon.disk.audit())]

    def test_holdsChangesAndRefusals(self) -> None:
        """
        What was changed and what was refused, each once; queries are not in it.
        """
        before = len(self.outcomes())
        self.ann.body(CREATE)
        self.ann.code(CREATE)
        self.ann.code("add_user eve")
        self.ann.code("swap_in lab/exp1 wait=x")
        self.ann.body("experiments")
        self.ann.body("swap_in lab/exp1")
        self.assertEqual(
            self.outcomes()[before:],
            [
                ("create_experiment", "ok"),
                ("create_experiment", "EXISTS"),
                ("add_user", "DENIED"),
                ("swap_in", "BAD_VALUE"),
                ("swap_in", "ok"),
                ("swap_in", "done"),
            ],
        )

    def test_saysWhatWasAsked(self) -> None:
        """
        The entry has the arguments, cut where they are long.
        """
        self.ann.body(CREATE)
        entry = json.loads(self.daemon.disk.audit()[-1])["body"]
        self.assertIn("lab/exp1", entry["arguments"])
        self.assertLessEqual(len(entry["arguments"]), 500)
        self.assertEqual((entry["principal"], entry["uid"], entry["via"]), ("user:2", 5001, "socket"))

    def test_saysWhatWasGranted(self) -> None:
        """
        The options are in the entry, and the name that the client gave itself.
        """
        self.ann.body(CREATE)
        root = self.daemon.connect()
        root.body("hello client=grants.py")
        root.body("add_delegate del_mon uid=5099 commands=['status_request'] slivers=['lab/exp1']")
        entry = json.loads(self.daemon.disk.audit()[-1])["body"]
        self.assertEqual(entry["client"], "grants.py")
        for said in ("5099", "status_request", "lab/exp1"):
            self.assertIn(said, entry["options"])

    def test_isNotFilledByRefusals(self) -> None:
        """
        Who is refused again and again is told of sixty times a minute; the rest is counted in the next entry.
        """
        stranger = self.daemon.connect(uid=6666)
        before = len(self.outcomes())
        for _ in range(100):
            stranger.code("add_user eve")
        self.assertEqual(len(self.outcomes()) - before, 60)
        self.ann.code("add_user eve")
        self.daemon.advance(61)
        stranger.code("add_user eve")
        self.assertEqual(json.loads(self.daemon.disk.audit()[-1])["body"]["untold"], 40)

    def test_countsAFailureOnce(self) -> None:
        """
        Work that failed after it was begun was a change, and its end is told by its number; what could not be written
        was none.
        """
        self.ann.body(CREATE)
        before = len(self.outcomes())
        serial = self.daemon.host._next_serial
        self.daemon.driver.refusals = dict.fromkeys(range(serial, serial + 3), "no space left")
        self.assertEqual(self.ann.code("swap_in lab/exp1"), "FAILED")
        self.daemon.store.full = True
        self.assertEqual(self.ann.code("swap_out lab/exp1"), "STORE_FAILED")
        self.assertEqual(self.outcomes()[before:], [("swap_in", "ok"), ("swap_in", "failed")])
        begun, ended = (json.loads(one)["body"] for one in self.daemon.disk.audit()[before:])
        self.assertEqual(begun["operation"], ended["operation"])
        self.assertEqual((ended["principal"], ended["name"], ended["via"]), ("user:2", "ann", "operation"))
        self.assertIn("no space left", " ".join(ended["causes"]))
