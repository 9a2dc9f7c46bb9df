"""
Streams on a connection: their lines, their tags, their flow and their end.
"""

from __future__ import annotations

from binascii import b2a_base64
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.wire import read_reply, stream_chunk
from hostline.server.config import Config, Limits
from tests.daemons import Client, MemoryDaemon, checked, make, topdl
from tests.talks import FakeTalk, Inside

CREATE = f"create_experiment lab/exp1 {topdl({'web': None, 'db': None})} swap_in=True"
CAT = "@1 exec web.exp1.lab ['cat', '-'] stream=True"


def in_line(data: bytes, tag: str = "1") -> str:
    """
    A line of input.
    """
    return f"@{tag} data {{'stream': 'in', 'base64': '{b2a_base64(data, newline=False).decode()}'}}\n"


def end_line(tag: str = "1") -> str:
    """
    Its end.
    """
    return f"@{tag} data {{'stream': 'in', 'end': True}}\n"


def heard(client: Client) -> tuple[dict[str, bytes], list[tuple[str, str, Any]]]:
    """
    What came since last asked.

    @return: the bytes of C{data} lines by C{TAG STREAM}, and all other lines, which must fit what their commands
        declare, as tag, word and body.
    """
    found: dict[str, bytes] = {}
    others = []
    for line in client.raw():
        if line.split(b" ", 2)[1] == b"data":
            reply = read_reply(line)
            stream, data = stream_chunk(reply.body)
            found[f"{reply.tag} {stream}"] = found.get(f"{reply.tag} {stream}", b"") + data
        else:
            reply = checked(line)
            others.append((reply.tag or "", reply.word, reply.body))
    return found, others


class Streamed(SynchronousTestCase):
    """
    A daemon with an experiment of ann's that is up.
    """

    limits = Limits()

    def setUp(self) -> None:
        self.daemon: MemoryDaemon = make(config=Config(limits=self.limits))
        self.ann = self.daemon.lab()
        self.ann.body(CREATE)
        self.inside = Inside(self.daemon)

    @property
    def talk(self) -> FakeTalk:
        """
        What was begun last.
        """
        return self.inside.talks[-1]

    def code(self, client: Client) -> str:
        """
        The code of the one line that came.
        """
        ((_, word, body),) = heard(client)[1]
        return str(body["code"]) if word == "error_reply" else word


class LineTests(Streamed):
    """
    What goes over the wire.
    """

    def test_carriesBothWays(self) -> None:
        """
        Input goes in, both outputs come out under the tag, and the exit status is the reply.
        """
        self.ann.send(CAT + "\n" + in_line(b"one\n"))
        self.assertEqual(heard(self.ann), ({}, []))
        self.assertEqual((self.talk.argv, self.talk.heard, self.talk.input_ended), (["cat", "-"], b"one\n", False))
        self.ann.send(in_line(b"\xff\0") + end_line())
        self.assertEqual((self.talk.heard, self.talk.input_ended), (b"one\n\xff\0", True))
        self.talk.say(b"out\xff")
        self.talk.say(b"err", "err")
        self.talk.end(7)
        self.daemon.settle()
        data, others = heard(self.ann)
        self.assertEqual(data, {"1 out": b"out\xff", "1 err": b"err"})
        self.assertEqual(others, [("1", "exec_reply", {"exit": 7, "out": "", "err": ""})])

    def test_anyCuts(self) -> None:
        """
        However the client's bytes are cut into packets, the same goes in.
        """
        stream = (CAT + "\n" + in_line(b"one") + in_line(b"") + in_line(b"two\n") + end_line() + "@2 ping\n").encode()

        def same(cuts: list[int]) -> None:
            client = self.daemon.connect(5001)
            for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
                client.send(stream[start:end])
            self.assertEqual((self.talk.heard, self.talk.input_ended), (b"onetwo\n", True))
            self.talk.end()
            self.daemon.settle()
            words = [word for _, word, _ in heard(client)[1]]
            self.assertEqual(words, ["ping_reply", "exec_reply"])
            client.hang_up()

        same([])
        same(list(range(1, len(stream))))
        cutting = given(st.lists(st.integers(0, len(stream))).map(sorted))
        settings(max_examples=25, deadline=None)(cutting(same))()

    def test_speaksJson(self) -> None:
        """
        A connection that chose JSON is sent its data lines so too.
        """
        self.ann.body("hello format=json")
        self.ann.send(CAT + "\n")
        self.talk.say(b"hi")
        self.talk.end()
        self.daemon.settle()
        self.assertEqual(self.ann.raw()[0], b'@1 data {"stream": "out", "base64": "aGk="}')

    def test_goesOnBesideOthers(self) -> None:
        """
        Requests with and without tags are answered while streams are open, and streams do not mix.
        """
        self.ann.send(
            CAT + "\n@2 exec db.exp1.lab cat stream=True\nping\n@3 ping\n" + in_line(b"b", "2") + in_line(b"a")
        )
        first, second = self.inside.talks
        self.assertEqual((first.heard, second.heard), (b"a", b"b"))
        second.say(b"B")
        first.say(b"A")
        data, others = heard(self.ann)
        self.assertEqual(data, {"1 out": b"A", "2 out": b"B"})
        self.assertEqual(sorted((tag, word) for tag, word, _ in others), [("", "ping_reply"), ("3", "ping_reply")])

    def test_setsTheSizeOfATerminal(self) -> None:
        """
        A terminal is as large as the client says.
        """
        self.ann.send("@1 exec web.exp1.lab sh stream=True terminal=True\n@1 data {'rows': 40, 'columns': 100}\n")
        self.assertEqual((self.talk.terminal, self.talk.size), (True, (40, 100)))

    def test_closes(self) -> None:
        """
        Who closes a stream ends what it runs, and is told so by the reply; the connection goes on.
        """
        self.ann.send(CAT + "\n@1 data {'close': True}\n")
        self.assertTrue(self.talk.closed)
        self.assertEqual(heard(self.ann)[1], [("1", "exec_reply", {"exit": None, "out": "", "err": ""})])
        self.assertEqual(self.ann.code("ping"), "ping_reply")

    def test_needsATag(self) -> None:
        """
        A stream without a tag is refused before anything is run.
        """
        for line in (
            "exec web.exp1.lab ls stream=True",
            "attach web.exp1.lab",
            "logs web.exp1.lab follow=True",
            "push web.exp1.lab f stream=True",
            "pull web.exp1.lab f stream=True",
            "data {'close': True}",
        ):
            self.assertEqual(self.ann.code(line), "BAD_ARGUMENTS", line)
        self.assertEqual(self.inside.talks, [])

    def test_attaches(self) -> None:
        """
        A console is heard and spoken to; the end of our input is not its end.
        """
        self.ann.send("@1 attach web.exp1.lab\n" + in_line(b"ls\n") + end_line())
        self.talk.say(b"bin\n")
        self.assertEqual((self.talk.heard, self.talk.input_ended), (b"ls\n", False))
        self.ann.send("@1 data {'close': True}\n")
        self.assertTrue(self.talk.closed)
        data, others = heard(self.ann)
        self.assertEqual((data, others[0][1]), ({"1 out": b"bin\n"}, "attach_reply"))


class WrongLineTests(Streamed):
    """
    Lines that make no sense.
    """

    def test_knowsNoSuchStream(self) -> None:
        """
        Input for a stream that was never opened is refused under its tag, and harms nothing.
        """
        self.ann.send(in_line(b"x", "9") + "@9 data 7\n@8 data {'close': True}\n@7 data 'x\nping\n")
        codes = [(reply.tag, reply.body.get("code")) for reply in self.ann.replies()]
        expected = [("9", "NO_SUCH_STREAM")] * 2 + [("8", "NO_SUCH_STREAM"), ("7", "BAD_LITERAL"), (None, None)]
        self.assertEqual(codes, expected)

    def test_isQuietAboutLateInput(self) -> None:
        """
        Input that was under way when its stream ended is nobody's fault.
        """
        self.ann.send(CAT + "\n")
        self.talk.end()
        self.daemon.settle()
        self.ann.send(in_line(b"late") + end_line() + "@1 data {'rows': 1, 'columns': 1}\n")
        self.assertEqual([word for _, word, _ in heard(self.ann)[1]], ["exec_reply"])
        self.assertEqual(self.talk.heard, b"")

    def test_endsAStreamWhoseInputIsBroken(self) -> None:
        """
        After a line of input that cannot be taken what runs is ended: a part of its input would be missing.
        """
        for line, code in (
            ("@1 data {'stream': 'in', 'base64': '!'}\n", "BAD_VALUE"),
            ("@1 data {'stream': 'in', 'base64': 'YQ'}\n", "BAD_VALUE"),
            ("@1 data {'stream': 'in', 'base64': 7}\n", "BAD_VALUE"),
            ("@1 data {'stream': 'out', 'base64': ''}\n", "BAD_VALUE"),
            ("@1 data {'stream': 'in', 'end': False}\n", "BAD_VALUE"),
            ("@1 data {'rows': 0, 'columns': 5}\n", "BAD_VALUE"),
            ("@1 data {}\n", "BAD_VALUE"),
            ("@1 data\n", "BAD_ARGUMENTS"),
            ("@1 data {'close': True} x\n", "BAD_ARGUMENTS"),
            ("@1 data {'close': True} x=1\n", "UNKNOWN_OPTION"),
            ("@1 data {'stream': 'in'\n", "BAD_LITERAL"),
            ("@1 data {'stream': 'in', 'base64': '" + "A" * (2 << 20) + "'}\n", "LINE_TOO_LONG"),
            (end_line() + in_line(b"more"), "BAD_VALUE"),
        ):
            client = self.daemon.connect(5001)
            client.send(CAT + "\n" + line + in_line(b"more"))
            self.assertEqual(self.code(client), code, line[:60])
            self.assertTrue(self.talk.closed, line[:60])
            self.assertEqual(self.talk.heard, b"", line[:60])
            self.assertEqual(client.code("ping"), "ping_reply")
            client.hang_up()

    def test_refusesATagThatIsTaken(self) -> None:
        """
        The tag of an open stream stands for it alone.
        """
        self.ann.send(CAT + "\n@1 ping\n" + CAT + "\n@1 nonsense\n")
        codes = [(tag, body["code"]) for tag, _, body in heard(self.ann)[1]]
        self.assertEqual(codes, [("1", "WRONG_STATE")] * 3)
        self.assertEqual(len(self.inside.talks), 1)
        self.talk.end()
        self.daemon.settle()
        self.ann.send(CAT + "\n")
        self.assertEqual(len(self.inside.talks), 2)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.sampled_from([CAT, "@1 data", "@2 data {'close': True}", "@1 ping", "ping", "@1", "x" * 99])))
    def test_survivesAnything(self, lines: list[str]) -> None:
        """
        Whatever order lines come in, the connection answers the next one and nothing is left running behind it.
        """
        client = self.daemon.connect(5001)
        client.send("\n".join(lines) + "\n")
        client.raw()
        self.assertEqual(client.code("@last ping"), "@last ping_reply")
        client.hang_up()
        self.assertTrue(all(talk.closed for talk in self.inside.talks))


class EndTests(Streamed):
    """
    How streams end.
    """

    def test_hangUpKills(self) -> None:
        """
        A command whose client is gone is killed, streamed or not; so is what follows a log.
        """
        for line in (CAT, "exec web.exp1.lab cat", "@5 exec web.exp1.lab cat", "@1 attach web.exp1.lab"):
            client = self.daemon.connect(5001)
            client.send(line + "\n")
            self.assertFalse(self.talk.closed, line)
            client.hang_up()
            self.assertTrue(self.talk.closed, line)
            self.assertEqual(client.connection.streams.unwritten, 0)
        client = self.daemon.connect(5001)
        client.send("@1 logs web.exp1.lab follow=True\n")
        client.hang_up()
        self.daemon.advance(5)
        self.assertEqual(self.daemon.daemon.tally(client.connection.caller).streams, 0)

    def test_endOfInputIsTheEndOfItsInput(self) -> None:
        """
        A client that will say no more hears its command to the end: C{(echo ..; cat lines) | socat}.
        """
        self.ann.send(CAT + "\n" + in_line(b"one"))
        self.ann.end()
        self.assertTrue(self.talk.input_ended)
        self.assertFalse(self.ann.over)
        self.talk.say(b"one")
        self.talk.end()
        self.daemon.settle()
        self.assertEqual(heard(self.ann)[0], {"1 out": b"one"})
        self.assertTrue(self.ann.over)

    def test_goneRightEndsIt(self) -> None:
        """
        Who is put out of a project is put out of its slivers: by the next line, or within a second.
        """
        operator = self.daemon.connect()
        for line in (CAT, "exec web.exp1.lab cat", "@1 attach web.exp1.lab", "@1 logs web.exp1.lab follow=True"):
            operator.code("add_member lab bob")
            bob = self.daemon.connect(5002)
            bob.send(line + "\n")
            operator.body("remove_member lab bob")
            self.daemon.advance(1.1)
            self.assertEqual(bob.replies()[-1].body["code"], "NO_SUCH_SLIVER", line)
        self.assertTrue(all(talk.closed for talk in self.inside.talks))
        operator.code("add_member lab bob")
        bob = self.daemon.connect(5002)
        bob.send(CAT + "\n")
        operator.body("remove_member lab bob")
        bob.send(in_line(b"rm -rf ~\n"))
        self.assertEqual((self.code(bob), self.talk.heard), ("NO_SUCH_SLIVER", b""))

    def test_goneSliverEndsIt(self) -> None:
        """
        Logs of a sliver that is gone are followed no longer.
        """
        self.ann.send("@1 logs web.exp1.lab follow=True\nswap_out lab/exp1\n")
        self.daemon.advance(1.1)
        codes = [body.get("code") for tag, _, body in heard(self.ann)[1] if tag == "1"]
        self.assertEqual(codes, ["NO_SUCH_SLIVER"])

    def test_takesTooLong(self) -> None:
        """
        Past its timeout a command is killed, and what it wrote by then is in the error.
        """
        self.ann.send("exec web.exp1.lab cat timeout=5\nping\n")
        self.talk.say(b"begun")
        self.daemon.advance(4.9)
        self.assertEqual(self.ann.raw(), [])
        self.daemon.advance(0.2)
        error, ping = self.ann.replies()
        self.assertEqual((error.body["code"], error.body["out"]), ("TIMEOUT", "begun"))
        self.assertEqual(ping.word, "ping_reply")
        self.assertTrue(self.talk.closed)

    def test_isNotDroppedInAPager(self) -> None:
        """
        Who lets a stream stand for an hour finds it as it was; without one, it would have been hung up on.
        """
        self.ann.send(CAT + "\n")
        self.ann.transport.client_reads = False
        while not self.talk.paused:
            self.talk.say(b"x" * 60000)
        self.daemon.advance(3600)
        self.assertFalse(self.ann.over)
        self.ann.transport.client_reads = True
        self.ann.transport.read()
        self.assertFalse(self.talk.paused)


class FlowTests(Streamed):
    """
    Who is slow makes the other side wait, and nobody else.
    """

    limits = attrs.evolve(Limits(), principal_streams=3, bytes_waiting=100_000, unread_bytes=50_000)

    def test_slowClientPausesTheCommand(self) -> None:
        """
        A client that reads nothing has the command wait; what the daemon holds for it is bounded; then all comes.
        """
        self.ann.send(CAT + "\n")
        self.ann.transport.client_reads = False
        said = 0
        while not self.talk.paused:
            self.talk.say(b"x" * 10000)
            said += 10000
        self.assertLess(len(self.ann.transport.unread), 100_000)
        self.ann.transport.client_reads = True
        self.ann.transport.read()
        self.assertFalse(self.talk.paused)
        self.talk.end()
        self.daemon.settle()
        self.assertEqual(len(heard(self.ann)[0]["1 out"]), said)

    def test_slowCommandPausesTheClient(self) -> None:
        """
        Of a client whose command does not read its input no more is read, until it does; others are served.
        """
        self.ann.send(CAT + "\n")
        self.talk.takes = False
        for _ in range(20):
            self.ann.send(in_line(b"x" * 10000))
        self.assertFalse(self.ann.transport.reading)
        self.assertLess(self.talk.unwritten, 140_000)
        other = self.daemon.connect(5001)
        self.assertEqual(other.code("ping"), "ping_reply")
        self.talk.unwritten, self.talk.takes = 0, True
        self.daemon.advance(0.1)
        self.assertTrue(self.ann.transport.reading)
        self.assertEqual(len(self.talk.heard), 200_000)

    def test_forgetsInputOfTheDead(self) -> None:
        """
        What a command had not read when its client left counts against nobody.
        """
        for _ in range(3):
            client = self.daemon.connect(5001)
            client.send(CAT + "\n")
            self.talk.takes = False
            client.send(in_line(b"x" * 9000))
            tally = self.daemon.daemon.tally(client.connection.caller)
            self.assertGreater(tally.bytes_waiting, 8000)
            client.hang_up()
            self.assertEqual((tally.bytes_waiting, tally.streams, tally.waiting, tally.tagged), (0, 0, 0, 0))

    def test_countsStreams(self) -> None:
        """
        A principal has a set number open, over all its connections and streamed or not; one that ends makes room.
        """
        clients = [self.daemon.connect(5001) for _ in range(4)]
        for client, line in zip(
            clients, (CAT, "exec web.exp1.lab a", "@9 logs web.exp1.lab follow=True"), strict=False
        ):
            client.send(line + "\n")
        clients[3].send(CAT + "\n")
        self.assertEqual(self.code(clients[3]), "TOO_MANY")
        operator = self.daemon.connect()
        operator.send(CAT + "\n")
        self.assertEqual(operator.raw(), [])
        clients[2].hang_up()
        clients[3].send(CAT + "\n")
        self.assertEqual(clients[3].raw(), [])

    def test_thousandStreams(self) -> None:
        """
        A thousand at once on one connection: so many are open as may be, the others are refused each by its tag.
        """
        self.ann.send("".join(f"@{n} exec web.exp1.lab cat stream=True\n" for n in range(1000)))
        others = heard(self.ann)[1]
        self.assertEqual([tag for tag, _, _ in others], [str(n) for n in range(3, 1000)])
        self.assertEqual({body["code"] for _, _, body in others}, {"TOO_MANY"})
        self.ann.hang_up()
        self.assertEqual([talk.closed for talk in self.inside.talks], [True] * 3)
