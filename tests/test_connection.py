"""
One connection: the order of replies, what is kept for polling, and the limits.
"""

from __future__ import annotations

import os
import socket
import struct
from itertools import pairwise
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server import kept as kept_replies
from hostline.server.callers import Caller
from hostline.server.config import Config, Limits
from hostline.server.peer import peer
from tests.daemons import Client, FakePeer, MemoryDaemon, make, topdl

CREATE = f"create_experiment lab/exp1 {topdl({'web': 'exit 7', 'db': None})}"


class OrderTests(SynchronousTestCase):
    """
    Replies come in the order of requests; tagged ones when they are ready.
    """

    def setUp(self) -> None:
        self.daemon = make(slow=1.0)
        self.ann = self.daemon.lab()
        self.ann.body(CREATE)

    def test_answersInOrder(self) -> None:
        """
        A slow request holds back what was asked after it.
        """
        self.ann.send("swap_in lab/exp1\nping\nstatus_request lab/exp1\n")
        self.assertEqual(self.ann.lines(), [])
        self.daemon.advance(2)
        replies = self.ann.replies()
        self.assertEqual([one.word for one in replies], ["swap_in_reply", "ping_reply", "status_reply"])
        self.assertEqual(replies[2].body["hv:process:pnode-0000"]["web"], ["booted", 7])

    def test_letsTaggedRequestsOvertake(self) -> None:
        """
        A tagged request is answered while an older one still works, untagged ones keep their order.
        """
        self.ann.send("swap_in lab/exp1\nping\n@a ping\n@b wait_for lab/exp1 active\n@c whoami\n")
        self.assertEqual(self.ann.lines(), ["@a ping_reply", "@c whoami_reply"])
        self.daemon.advance(2)
        self.assertEqual(sorted(self.ann.lines()), ["@b wait_for_reply", "ping_reply", "swap_in_reply"])

    def test_bringsTheTagOfWhateverIsWrong(self) -> None:
        """
        An error on a tagged line has its tag, whatever is wrong with the line.
        """
        self.ann.send(b"@a nonsense\n@b ping 'x\n@c \xff\n@d\n@e ping x\n@f experiment lab/none\n")
        self.ann.send(b"@g ping " + b"x" * (2 << 20) + b"\n")
        self.assertEqual(
            self.ann.lines(),
            [
                "@a UNKNOWN_COMMAND",
                "@b BAD_LITERAL",
                "@c BAD_LINE",
                "@d BAD_ARGUMENTS",
                "@e BAD_ARGUMENTS",
                "@f NO_SUCH_EXPERIMENT",
                "@g LINE_TOO_LONG",
            ],
        )

    def test_sharesACommitAmongPipelinedChanges(self) -> None:
        """
        Changes that come in one packet are written together, and a query behind them sees them all.
        """
        operator = self.daemon.connect()
        before = self.daemon.disk.commits
        operator.send("".join(f"add_user u{number}\n" for number in range(20)) + "users\nadd_user last\n")
        words = operator.replies()
        self.assertEqual([one.word for one in words], ["add_user_reply"] * 20 + ["users_reply", "add_user_reply"])
        self.assertEqual(len(words[20].body), 22)
        self.assertEqual(self.daemon.disk.commits - before, 2)

    def test_answersNothingBeforeItIsDurable(self) -> None:
        """
        No change is acknowledged, and no query behind one answered, before the disk has it.
        """
        operator = self.daemon.connect()
        operator.send("add_user eve\nusers\n", settle=False)
        self.assertEqual(operator.lines(), [])
        self.daemon.settle()
        self.assertEqual(operator.lines(), ["add_user_reply", "users_reply"])

    def test_takesTurns(self) -> None:
        """
        A heap of lines of one client does not keep another one waiting for its end.
        """
        other = self.daemon.connect()
        self.ann.send("ping\n" * 500, settle=False)
        other.send("whoami\n", settle=False)
        self.assertEqual(other.lines(), ["whoami_reply"])
        self.assertLess(len(self.ann.lines()), 100)
        self.daemon.settle()
        self.assertGreater(len(self.ann.lines()), 400)

    def test_takesTurnsByPrincipal(self) -> None:
        """
        However many connections a principal has, no more of its lines are answered in a turn, and each has its share.
        """
        other = self.daemon.connect(5003)
        clients = [self.daemon.connect(5002) for _ in range(20)]
        for client in clients:
            client.send("ping\n" * 100, settle=False)
        self.daemon.loop.turn()
        self.assertLess(sum(len(client.raw()) for client in clients), 100)
        other.send("ping\n", settle=False)
        self.assertEqual(other.lines(), ["ping_reply"])
        for client in clients:
            client.send("whoami\n", settle=False)
        for _ in range(25):
            self.daemon.loop.turn()
        counts = [len(client.raw()) for client in clients]
        self.assertGreater(min(counts), 0)
        self.daemon.settle()
        self.assertEqual({client.lines()[-1] for client in clients}, {"whoami_reply"})

    def test_takesTurnsWithWhatItHoldsBack(self) -> None:
        """
        Nor does a heap of lines, or of empty ones, that cannot be answered yet.
        """
        seen: list[bytes] = []
        prepare = self.daemon.daemon.answers.prepare
        self.daemon.daemon.answers.prepare = lambda line: seen.append(line) or prepare(line)  # type: ignore
        self.ann.send("wait_for lab/exp1 active timeout=1\n" + "ping\n" * 200, settle=False)
        self.assertLess(len(seen), 100)
        self.daemon.settle()
        self.assertEqual(len(seen), 201)
        self.ann.send("\n" * 1000 + "@1 ping\n", settle=False)
        self.assertEqual(self.ann.lines(), [])
        self.daemon.advance(2)
        self.assertEqual(self.ann.lines(), ["@1 ping_reply", "TIMEOUT"] + ["ping_reply"] * 200)

    @given(st.lists(st.integers(0, 120), max_size=20))
    @settings(max_examples=30, deadline=None)
    def test_readsHoweverItIsCut(self, cuts: list[int]) -> None:
        """
        However the stream of requests is cut into packets, the replies are the same.
        """
        data = b"ping\n\n  \r\nwhoami\r\n@1 ping\nhello format=json\nhello\nhello format=literal\nnonsense\n"
        data += b"experiments\nexperiments\n"
        client = self.daemon.connect(5001)
        edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
        for start, end in pairwise(edges):
            if start < end:
                client.send(data[start:end])
        words = [line.split(b" ")[0] for line in client.raw()]
        self.assertEqual(
            words,
            [b"ping_reply", b"whoami_reply", b"@1", *[b"hello_reply"] * 3, b"error_reply", *[b"experiments_reply"] * 2],
        )
        client.hang_up()

    def test_changesTheFormat(self) -> None:
        """
        After format=json bodies are JSON, that reply's own first; format=literal turns it back, for this client only.
        """
        self.ann.send("hello\nhello format=json\nstatus_request lab/exp1\nnonsense\nhello format=literal\nhello\n")
        lines = self.ann.raw()
        self.assertIn(b"'protocol'", lines[0])
        for line in lines[1:4]:
            self.assertNotIn(b"'protocol'", line)
        self.assertIn(b'"protocol": 1', lines[1])
        self.assertEqual(lines[2], b"status_reply {}")
        self.assertIn(b'"code": "UNKNOWN_COMMAND"', lines[3])
        self.assertIn(b"'protocol'", lines[4])
        self.assertIn(b"'protocol'", lines[5])

    def test_keepsFormatsApart(self) -> None:
        """
        What is kept for polling is kept for each format.
        """
        json = self.daemon.connect(5001)
        json.body("hello format=json")
        for _ in range(3):
            json.send("experiments\n")
            self.ann.send("experiments\n")
            self.assertTrue(json.raw()[0].startswith(b'experiments_reply [{"name"'))
            self.assertTrue(self.ann.raw()[0].startswith(b"experiments_reply [{'name'"))


class EndTests(SynchronousTestCase):
    """
    The end of a connection.
    """

    def setUp(self) -> None:
        self.daemon = make(slow=1.0)
        self.ann = self.daemon.lab()

    def test_answersAllThenCloses(self) -> None:
        """
        After the end of input everything asked is answered, then the connection is closed.
        """
        self.ann.body(CREATE)
        self.ann.send("swap_in lab/exp1\n@7 wait_for lab/exp1 active\nping\n")
        self.ann.end()
        self.assertFalse(self.ann.over)
        self.daemon.advance(2)
        self.assertEqual(self.ann.lines(), ["@7 wait_for_reply", "swap_in_reply", "ping_reply"])
        self.assertTrue(self.ann.over)

    def test_closesAtOnce(self) -> None:
        """
        With nothing asked, or nothing left, the end is answered by the end.
        """
        self.ann.send("ping\n")
        self.ann.end()
        self.assertTrue(self.ann.over)
        self.assertEqual(self.ann.lines(), ["ping_reply"])

    def test_doesNothingForAnUnendedLine(self) -> None:
        """
        A last line without its newline may be cut off: it is answered by an error, and not carried out.
        """
        operator = self.daemon.connect()
        operator.send("ping\n@3 remove_user ann")
        operator.end()
        self.assertEqual(operator.lines(), ["ping_reply", "@3 BAD_LINE"])
        self.assertTrue(operator.over)
        self.assertIsNotNone(self.daemon.connect().body("users")[0])

    def test_ignoresBlanksAtTheEnd(self) -> None:
        """
        Blanks after the last line are no line.
        """
        self.ann.send("ping\n  ")
        self.ann.end()
        self.assertEqual(self.ann.lines(), ["ping_reply"])

    def test_goesOnWhenTheClientLeaves(self) -> None:
        """
        What was begun is done, whether or not anybody waits for it.
        """
        self.ann.body(CREATE)
        self.ann.send("swap_in lab/exp1\n@1 wait_for lab/exp1 active\n")
        self.ann.hang_up()
        self.daemon.advance(2)
        self.assertEqual(self.daemon.connect(5001).body("experiment lab/exp1")["state"], "active")
        self.assertEqual(self.daemon.host.feed._listeners, set())

    def timers(self) -> list[str]:
        """
        What is still to come, by the names of the functions.
        """
        calls: Any = self.daemon.clock.getDelayedCalls()
        return sorted(call.func.__qualname__ for call in calls)

    def test_leavesNothingBehind(self) -> None:
        """
        A client that leaves, whatever was under way, is forgotten: no timer, no count, no listener.
        """
        before = self.timers()
        self.ann.send(CREATE + " swap_in=True\n")
        self.daemon.advance(3)
        self.ann.send("@2 exec db.exp1.lab cat stream=True\n@3 logs db.exp1.lab follow=True\n")
        self.ann.send("watch all\nwait_for lab/exp1 failed\n" + "ping\n" * 300 + "@1 wait_for lab/exp1 failed\npin")
        self.ann.hang_up()
        self.daemon.advance(5)
        self.daemon.daemon.round()
        self.assertEqual(self.daemon.daemon.gate._tallies, {})
        self.assertEqual(self.daemon.daemon.connections, 0)
        self.assertEqual(self.timers(), before)
        self.assertEqual(self.daemon.host.feed._listeners, set())

    def test_noticesAHangUp(self) -> None:
        """
        A client that vanished while it was waiting is noticed although nothing is read from it.
        """
        before = self.timers()
        self.ann.body(CREATE)
        self.ann.send("wait_for lab/exp1 active timeout=9999\n")
        self.ann.end()
        self.daemon.advance(2)
        self.assertFalse(self.ann.over)
        self.ann.transport.peer.hang_up()
        self.daemon.advance(2)
        self.assertTrue(self.ann.over)
        self.assertEqual(self.timers(), before)


def limited(**limits: Any) -> MemoryDaemon:
    return make(slow=1.0, config=Config(limits=Limits(**limits)))


class LimitTests(SynchronousTestCase):
    """
    Past a limit a client waits, is refused or is dropped, and is told in one line where it can be.
    """

    def test_limitsLines(self) -> None:
        """
        An over-long line is answered by an error, and the connection lives on.
        """
        daemon = limited(line_bytes=1000)
        ann = daemon.connect(5001)
        ann.send("ping " + "x" * 5000)
        self.assertEqual(ann.lines(), [])
        ann.send("y" * 5000 + "\nping\n")
        self.assertEqual(ann.lines(), ["LINE_TOO_LONG", "ping_reply"])

    def test_limitsTheTimeOfALine(self) -> None:
        """
        A begun line that is not ended in time is answered by an error, after all that was asked before; then the end.
        """
        daemon = limited(line_seconds=10.0)
        ann = daemon.lab()
        ann.body(CREATE)
        ann.send("wait_for lab/exp1 active timeout=15\n@9 pin")
        daemon.advance(9)
        self.assertEqual(ann.lines(), [])
        daemon.advance(2)
        self.assertEqual(ann.lines(), ["@9 BAD_LINE"])
        self.assertFalse(ann.over)
        ann.send("g\nping\n")
        daemon.advance(5)
        self.assertEqual(ann.lines(), ["TIMEOUT"])
        self.assertTrue(ann.over)

    def test_answersALateLineInOrder(self) -> None:
        """
        An untagged error about a late line does not overtake the answers before it.
        """
        daemon = limited(line_seconds=10.0)
        ann = daemon.lab()
        ann.body(CREATE)
        ann.send("wait_for lab/exp1 active timeout=15\nping\npin")
        daemon.advance(20)
        self.assertEqual(ann.lines(), ["TIMEOUT", "ping_reply", "BAD_LINE"])
        self.assertTrue(ann.over)

    def test_letsASteadyStreamGoOn(self) -> None:
        """
        A client that never stops sending, each packet ending within a line, is not taken for a slow one.
        """
        daemon = limited(line_seconds=10.0)
        client = daemon.connect(5001)
        client.send("pi")
        for _ in range(20):
            daemon.advance(4)
            client.send("ng\npi")
        self.assertEqual(client.lines(), ["ping_reply"] * 20)

    def test_doesNotCountTheTimeItDoesNotRead(self) -> None:
        """
        While the daemon itself stops reading, a line that has begun does not get late.
        """
        daemon = limited(line_seconds=10.0, lines_waiting=4)
        ann = daemon.lab()
        ann.body(CREATE)
        ann.send("wait_for lab/exp1 active timeout=30\n" + "ping\n" * 5 + "pi")
        ann.send("ng\n")
        daemon.advance(29)
        self.assertEqual(ann.lines(), [])
        daemon.advance(2)
        self.assertEqual(ann.lines(), ["TIMEOUT"] + ["ping_reply"] * 6)

    def test_stopsReadingWhenLinesWait(self) -> None:
        """
        With so many lines waiting the daemon reads no more, and reads on when they are answered; none is lost.
        """
        daemon = limited(lines_waiting=10)
        ann = daemon.lab()
        ann.body(CREATE)
        ann.send("wait_for lab/exp1 active timeout=5\n")
        for _ in range(30):
            ann.send("ping\n")
        self.assertFalse(ann.transport.reading)
        self.assertGreaterEqual(len(ann.transport.unsent), 5 * 20)
        daemon.advance(6)
        self.assertEqual(ann.lines(), ["TIMEOUT"] + ["ping_reply"] * 30)
        self.assertTrue(ann.transport.reading)

    def test_stopsReadingWhenAPrincipalsLinesWait(self) -> None:
        """
        The lines of all connections of a principal count together; one without any waiting is served all the same.
        """
        daemon = limited(principal_lines_waiting=10)
        ann = daemon.lab()
        ann.body(CREATE)
        clients = [daemon.connect(5001) for _ in range(4)]
        for client in clients:
            client.send("wait_for lab/exp1 active timeout=5\n" + "ping\n" * 4)
            client.send("ping\n")
        self.assertEqual([client.transport.reading for client in clients], [True, False, False, False])
        self.assertEqual(ann.code("ping"), "ping_reply")
        daemon.advance(6)
        for client in clients:
            self.assertEqual(client.lines(), ["TIMEOUT"] + ["ping_reply"] * 5)
            self.assertTrue(client.transport.reading)
        self.assertEqual(daemon.daemon.tally(Caller(5001)).waiting, 0)

    def test_refusesTooManyTaggedRequests(self) -> None:
        """
        So many tagged requests of a principal may be under way, over all its connections; one more is refused.
        """
        daemon = limited(principal_tagged=10)
        ann = daemon.lab()
        ann.body(CREATE)
        clients = [daemon.connect(5001) for _ in range(3)]
        for client in clients[:2]:
            client.send("".join(f"@{number} wait_for lab/exp1 active timeout=5\n" for number in range(6)))
        self.assertEqual([client.lines() for client in clients[:2]], [[], ["@4 TOO_MANY", "@5 TOO_MANY"]])
        self.assertEqual(clients[2].code("@a ping"), "@a TOO_MANY")
        self.assertEqual(clients[2].code("ping"), "ping_reply")
        self.assertEqual(daemon.connect().code("@a ping"), "@a ping_reply")
        clients[0].hang_up()
        self.assertEqual(clients[2].code("@a ping"), "@a ping_reply")
        daemon.advance(6)
        self.assertEqual(daemon.daemon.tally(Caller(5001)).tagged, 0)

    def test_givesUpWhatChangesNothing(self) -> None:
        """
        A topology that nobody is left to hear about is not read; one that becomes an experiment is.
        """
        daemon = limited()
        ann = daemon.lab()
        daemon.offload.held = True
        ann.send(f"@1 check_topology {topdl({'web': None})}\n@2 {CREATE}\n")
        self.assertEqual(len(daemon.offload.waiting), 2)
        check, create = daemon.offload.waiting
        ann.hang_up()
        self.assertTrue(check.called)
        self.assertFalse(create.called)
        daemon.offload.waiting.remove(check)
        daemon.offload.release()
        daemon.settle()
        self.assertEqual([one["name"] for one in daemon.connect(5001).body("experiments")], ["lab/exp1"])

    def test_stopsReadingWhenRepliesAreUnread(self) -> None:
        """
        A client that does not read its replies is not read either, until it does; nothing is lost.
        """
        daemon = limited(unread_bytes=1000)
        client = daemon.connect(5001)
        client.transport.client_reads = False
        for _ in range(200):
            client.send("ping\n")
        self.assertFalse(client.transport.reading)
        self.assertLess(client.connection.unread, 1200)
        while client.transport.unread or client.transport.unsent:
            client.transport.read(500)
            daemon.settle()
        self.assertEqual(client.lines(), ["ping_reply"] * 200)

    def test_dropsWhoReadsNothing(self) -> None:
        """
        A client that reads nothing for so long is dropped; one that reads a little now and then is not.
        """
        daemon = limited(unread_bytes=1000, unread_seconds=10.0)
        ann = daemon.lab()
        ann.body(CREATE)
        clients = [daemon.connect(5001), daemon.connect(5001)]
        for client in clients:
            client.transport.client_reads = False
            client.send("ping\n" * 300)
        for _ in range(5):
            daemon.advance(9)
            clients[1].transport.read(1)
        self.assertEqual([client.over for client in clients], [True, False])
        self.assertEqual(ann.code("ping"), "ping_reply")

    def test_dropsWhoHoardsReplies(self) -> None:
        """
        Past its limit over all connections those of a principal that have piled up most are dropped.
        """
        daemon = limited(unread_bytes=1000, principal_unread_bytes=2500)
        clients = [daemon.connect(5001) for _ in range(4)]
        other = daemon.connect(5002)
        for client in [*clients, other]:
            client.transport.client_reads = False
            client.send("ping\n" * 300)
        self.assertEqual(sorted(client.over for client in clients), [False, False, True, True])
        self.assertFalse(other.over)
        daemon = limited(principal_unread_bytes=20000)
        ann = daemon.lab()
        ann.body(CREATE)
        clients = [daemon.connect(5001) for _ in range(20)]
        for line in ("ping\n" * 100, "experiments\n", "experiments\n"):
            for client in clients:
                client.transport.client_reads = False
                if not client.over:
                    client.send(line)
            self.assertLess(sum(client.connection.unread for client in clients), 26000, line)
        self.assertTrue(any(client.over for client in clients))
        self.assertEqual(ann.code("ping"), "ping_reply")

    def test_limitsWhatOnePacketIsAnsweredBy(self) -> None:
        """
        A packet of many kept lines with long replies is answered as far as the client reads, not all at once.
        """
        daemon = limited(unread_bytes=2000)
        ann = daemon.lab()
        ann.body(CREATE)
        ann.body("experiments")
        ann.transport.client_reads = False
        ann.send("experiments\n" * 500)
        self.assertLess(ann.connection.unread, 5000)
        ann.transport.client_reads = True
        for _ in range(500):
            ann.transport.read()
            daemon.settle()
        self.assertEqual(ann.lines(), ["experiments_reply"] * 500)

    def refused(self, client: Client) -> None:
        self.assertEqual(client.lines(), ["TOO_MANY"])
        self.assertTrue(client.over)

    def test_limitsConnections(self) -> None:
        """
        One connection too many gets one error line and the end; when another leaves there is room again.
        """
        daemon = limited(connections=3)
        clients = [daemon.connect(5000 + number) for number in range(3)]
        self.refused(daemon.connect(5009))
        clients[0].hang_up()
        self.assertEqual(daemon.connect(5009).code("ping"), "ping_reply")
        self.refused(daemon.connect(5001))

    def test_limitsConnectionsOfOnePrincipal(self) -> None:
        """
        One principal cannot take all connections; another one still gets in.
        """
        daemon = limited(principal_connections=2)
        mine = [daemon.connect(5001) for _ in range(2)]
        self.refused(daemon.connect(5001))
        self.assertEqual(daemon.connect(5002).code("ping"), "ping_reply")
        mine[0].hang_up()
        self.assertEqual(daemon.connect(5001).code("ping"), "ping_reply")

    def test_saysSoAfterARefusal(self) -> None:
        """
        What a refused client sends is not answered and breaks nothing.
        """
        daemon = limited(connections=1)
        daemon.connect(5001)
        client = Client(daemon, 5002, ())
        client.send("ping\n")
        self.refused(client)
        self.assertEqual(daemon.daemon.connections, 1)


class KeptTests(SynchronousTestCase):
    """
    Polling costs nothing, and is never out of date.
    """

    LINES = (
        "status_request lab/exp1",
        "experiment lab/exp1",
        "experiments",
        "node_list",
        "node_list lab/exp1 extra=False",
        "extra_nodes lab exp1",
        "projects",
        "users",
        "delegates",
    )
    CHANGES = (
        "swap_in lab/exp1 wait=0",
        "swap_out lab/exp1 wait=0",
        "stop_node lab/exp1 web wait=0",
        "node_reboot lab/exp1 web wait=0",
        "terminate lab/exp1 wait=0",
        CREATE,
        f"modify_experiment lab/exp1 {topdl({'web': 'exit 1', 'log': None})} wait=0",
        "add_member lab bob",
        "remove_member lab bob",
        "remove_user ann",
        "add_user ann uid=5001",
        "add_member lab ann",
        "add_delegate mon uid=5003 commands=['status_request','experiment','extra_nodes'] slivers=lab/exp1",
        "remove_delegate mon",
        "add_project lab",
        "remove_project lab",
        "advance",
        "die",
        "crash",
        "full",
    )

    def test_isKept(self) -> None:
        """
        A line that is polled is answered again without being read again, in one packet with others too.
        """
        daemon = make()
        ann = daemon.lab()
        ann.body(CREATE + " swap_in=True")
        first = [ann.ask(line) for line in self.LINES[:6]]
        count = daemon.daemon.answers._count
        self.assertEqual([ann.ask(line) for line in self.LINES[:6]], first)
        ann.send("".join(f"{line}\n" for line in self.LINES[:6]))
        self.assertEqual(ann.replies(), first)
        self.assertEqual(daemon.daemon.answers._count, count)

    def test_keepsOnlySoMuch(self) -> None:
        """
        However a request is spelt, and however long its replies, little is kept; what is polled is.
        """
        self.patch(kept_replies, "_BYTES", 3000)
        daemon = make()
        ann = daemon.lab()
        for number in range(10):
            ann.body(f"create_experiment lab/e{number} {topdl({'web': 'exit 7', 'db': None})}")
        for _ in range(2):
            for blanks in range(1, 5):
                ann.send(" " * blanks + "status_request lab/e1\nstatus_request" + " " * (1 + blanks) + "lab/e1\n")
                ann.send("status_request lab/e1" + " " * blanks + "\nstatus_request\tlab/e1\n")
            for number in range(10):
                ann.send(f"status_request lab/e{number}\nexperiment lab/e{number}\n")
        kept = ann.connection._kept.replies["literal"]
        self.assertLess(sum(map(len, kept.values())), 3000)
        self.assertEqual([line for line in kept if b"e1" in line and b"status" in line], [b"status_request lab/e1\n"])
        self.assertIn(b"status_request lab/e9\n", kept)
        self.assertGreater(len([line for line in kept if line.startswith(b"experiment ")]), 0)

    def test_isKeptForOnePrincipalAlone(self) -> None:
        """
        What one may see is not shown to another who says the same.
        """
        daemon = make()
        ann = daemon.lab()
        ann.body(CREATE)
        for _ in range(2):
            ann.body("experiment lab/exp1")
            self.assertEqual(daemon.connect(5002).code("experiment lab/exp1"), "NO_SUCH_EXPERIMENT")

    def test_tellsAnOperatorByGroupFromTheSameUserWithout(self) -> None:
        """
        A process without the operators' group is no operator, though another one of the same user is.
        """
        daemon = make(config=attrs.evolve(Config(), operators="root"))
        operator = daemon.connect(5008, groups=[0])
        self.assertEqual(operator.body("projects"), [])
        self.assertEqual(operator.body("users"), [])
        self.assertEqual(daemon.connect(5008).code("users"), "DENIED")

    def test_isKeptForOneCallerAlone(self) -> None:
        """
        Two certificates that were the same nobody's are answered as different people, once one of them is somebody's.
        """
        daemon = make()
        daemon.lab().body(CREATE)
        both, one = (
            daemon.connect(caller=Caller(-1, via="tls", names=names))
            for names in (("dns:a.example.org", "dns:b.example.org"), ("dns:a.example.org",))
        )
        self.assertEqual([client.body("projects") for client in (both, one)], [[], []])
        operator = daemon.connect()
        operator.body("add_user eve certificate=dns:b.example.org")
        operator.body("add_member lab eve")
        for _ in range(2):
            self.assertEqual([len(client.body("projects")) for client in (both, one)], [1, 0])

    @given(st.lists(st.sampled_from(CHANGES), max_size=14))
    @settings(max_examples=60, deadline=None)
    def test_isNeverOutOfDate(self, changes: list[str]) -> None:
        """
        After whatever changed - status, records, rights - who polls is told what who asks for the first time is told.
        """
        daemon = make(slow=1.0)
        daemon.lab().hang_up()
        operator = daemon.connect()
        operator.body(CREATE)
        uids = (0, 5001, 5002, 5003)
        pollers = [daemon.connect(uid) for uid in uids]
        for change in changes:
            if change == "advance":
                daemon.advance(1)
            elif change == "die":
                for serial in list(daemon.fake_host.statuses)[:1]:
                    daemon.driver.end(serial, 137)
            elif change == "crash":
                daemon.crash()
                operator = daemon.connect()
                pollers = [daemon.connect(uid) for uid in uids]
            elif change == "full":
                daemon.store.full = not daemon.store.full
            else:
                operator.send(change + "\n", settle=False)
            for settled in (False, True):
                if settled:
                    daemon.settle()
                pollers = [
                    daemon.connect(uid) if one.transport.closing else one
                    for uid, one in zip(uids, pollers, strict=True)
                ]
                for poller in pollers:
                    poller.connection._tally.budget = 100
                    poller.send("".join(f"{line}\n" for line in self.LINES), settle=False)
                    kept = poller.raw()
                    poller.connection._kept.renew(-2)
                    poller.send("".join(f"{line}\n" for line in self.LINES), settle=False)
                    self.assertEqual(kept, poller.raw())


class PeerTests(SynchronousTestCase):
    """
    Who is at the other end.
    """

    def caller(self, peer_: FakePeer, gid: int | None = None) -> Caller:
        found: Any = peer_
        return peer(found, gid)

    def test_isWhatTheKernelSays(self) -> None:
        """
        Over a real socket a client is who it is.
        """
        one, two = socket.socketpair()
        with one, two:
            caller = peer(one, None)
            self.assertEqual((caller.uid, caller.operator), (os.geteuid(), True))
            raw = one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            self.assertEqual(struct.unpack("3i", raw)[0], os.getpid())

    def test_isOperatorByGroup(self) -> None:
        """
        The operators' group counts, as the first group or any other; without such a group only root does.
        """
        self.assertTrue(self.caller(FakePeer(5001, 7, ()), 7).operator)
        self.assertTrue(self.caller(FakePeer(5001, 1, (3, 7)), 7).operator)
        self.assertFalse(self.caller(FakePeer(5001, 1, (3, 8)), 7).operator)
        self.assertFalse(self.caller(FakePeer(5001, 1, (3, 8)), None).operator)
        self.assertTrue(self.caller(FakePeer(0, 1, ()), None).operator)
