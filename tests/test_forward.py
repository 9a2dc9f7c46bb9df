"""
What the forward shell makes of its arguments and of what passes through.
"""

from __future__ import annotations

import ast
import json
import os
import socket
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import counting, forward, passing, reach
from hostline.clients.counting import Tally
from hostline.clients.forward import arguments, error_reply
from hostline.clients.passing import SECONDS, Forward, HungUp
from hostline.clients.reach import Refusal


class ArgumentsTests(SynchronousTestCase):
    """
    What sshd and login start it with.
    """

    def test_forms(self) -> None:
        """
        Lines from standard input, or the one after C{-c}.
        """
        self.assertEqual(arguments([], None), (None, SECONDS, None))
        self.assertEqual(arguments([b"-c", b"status_request lab/exp1"], None)[2], b"status_request lab/exp1")
        self.assertEqual(arguments([b"--socket", b"/s", b"-c", b"ping"], None), (b"/s", SECONDS, b"ping"))
        self.assertEqual(arguments([b"-c", b"a \xff '$(id)'"], None)[2], b"a \xff '$(id)'")

    def test_forced(self) -> None:
        """
        Where C{authorized_keys} forces us, the ssh client's own request counts; only there.
        """
        self.assertEqual(arguments([b"-c", b"hostline-shell"], b"ping"), (None, SECONDS, b"ping"))
        self.assertEqual(arguments([b"-c", b"hostline-shell"], None)[2], None)
        self.assertEqual(arguments([b"-c", b"whoami"], b"ping")[2], b"whoami")
        self.assertEqual(arguments([], b"ping")[2], None)

    def test_seconds(self) -> None:
        """
        Deadlines can be set, each by its name, in front.
        """
        _, seconds, request = arguments([b"--idle", b"2.5", b"--silence", b"1", b"-c", b"ping"], None)
        self.assertEqual((seconds, request), ({**SECONDS, "idle": 2.5, "silence": 1.0}, b"ping"))

    def test_refused(self) -> None:
        """
        Anything else, more than one line, and nothing, wherever it comes from.
        """
        for words in (
            [b"x"],
            [b"-c"],
            [b"-c", b"a", b"b"],
            [b"-i"],
            [b"--socket"],
            [b"-c", b"ping", b"--socket", b"/s"],
            [b"--idle", b"nan", b"-c", b"ping"],
            [b"--idle", b"-1"],
            [b"--whatever", b"1"],
        ):
            self.assertEqual(self.assertRaises(Refusal, arguments, words, None).status, 2, words)
        for request in (b"ping\nping", b"ping\n", b"", b" \t"):
            self.assertEqual(self.assertRaises(Refusal, arguments, [b"-c", request], None).status, 2)
            self.assertEqual(self.assertRaises(Refusal, arguments, [b"-c", b"hostline-shell"], request).status, 2)


class TallyTests(SynchronousTestCase):
    """
    Nothing is counted twice or lost, wherever the stream is cut.
    """

    STREAM = (
        b"ping_reply {'time': 1.0}\n@7 error_reply {'code': 'X'}\nevent {'cursor': 1}\n@8 event {'cursor': 2}\n"
        b"@9 data {'stream': 'out'}\n\n  \nerror_reply {}\r\n" + b"x" * 5000 + b"\n@" + b"y" * 64 + b" event {}\n@t\n"
    )

    def test_counts(self) -> None:
        """
        Replies count, events and data do not.
        """
        for size in (1, 2, 3, 7, 64, 100, 101, 10**6):
            tally = Tally(b"event", b"data")
            for at in range(0, len(self.STREAM), size):
                tally.feed(self.STREAM[at : at + size])
            self.assertEqual((tally.count, tally.errors, tally.partial), (5, 2, False), size)

    def test_partial(self) -> None:
        """
        A line that has begun is known to have.
        """
        tally = Tally()
        for piece, partial in ((b"a", True), (b"\n", False), (b" ", True), (b"\nb", True), (b"c\n", False)):
            tally.feed(piece)
            self.assertEqual(tally.partial, partial, piece)
        self.assertEqual(tally.count, 2)

    def test_end(self) -> None:
        """
        What stands after the last newline is a request too, if it is anything.
        """
        for rest, count in ((b"", 1), (b"  ", 1), (b"ping", 2)):
            tally = Tally()
            tally.feed(b"ping\n" + rest)
            tally.end()
            self.assertEqual((tally.count, tally.partial), (count, False))

    def test_manyPieces(self) -> None:
        """
        A line that comes in many pieces costs no more memory than its beginning, and is one line.
        """
        tally = Tally()
        for _ in range(3000):
            tally.feed(b"x" * 99)
        self.assertLess(len(tally._head), 1000)
        tally.feed(b"\n")
        self.assertEqual(tally.count, 1)


class ErrorTests(SynchronousTestCase):
    """
    Our own error.
    """

    @given(st.text(), st.binary())
    @example('"\\\n\u20ac', b'@7 "\\ x')
    def test_isReadBothWays(self, message: str, request: bytes) -> None:
        """
        Whatever stands in it, it is one line of ASCII whose body is the same literal and JSON, for a session may have
        agreed on either.
        """
        line = error_reply(Refusal("NO_DAEMON", message, 3), request).decode("ascii")
        word, _, body = line.partition(" ")
        self.assertEqual((word, line.count("\n"), line[-2:]), ("error_reply", 1, "}\n"))
        self.assertEqual(json.loads(body), ast.literal_eval(body))
        self.assertEqual(json.loads(body)["code"], "NO_DAEMON")


class PassingTests(SynchronousTestCase):
    """
    One whole run between a client that has said all and a daemon that says all at once and hangs up.
    """

    def passed(self, said: bytes, answers: list[bytes], request: bytes | None = None) -> tuple[int, bytes, bytes]:
        """
        @param answers: what the daemon sends; each comes in a piece of its own.
        @return: exit status, all of our output, and what the daemon was sent.
        """
        # A socket that keeps the pieces apart: what is cut here is read so.
        daemon, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        source, client = os.pipe()
        output, sink = os.pipe()
        with daemon, ours:
            try:
                os.write(client, said)
                os.close(client)
                ours.setblocking(False)
                for piece in answers:
                    daemon.send(piece)
                daemon.shutdown(socket.SHUT_WR)
                try:
                    status = Forward(ours, b"/s", request, descriptors=(source, sink)).run()
                except Refusal as refusal:
                    os.write(sink, error_reply(refusal, request))
                    status = refusal.status
                os.close(sink)
                sent = b""
                daemon.setblocking(False)
                while piece := self.next_piece(daemon):
                    sent += piece
                return status, os.read(output, 1 << 16), sent
            finally:
                os.close(source)
                os.close(output)

    @staticmethod
    def next_piece(daemon: socket.socket) -> bytes:
        try:
            return daemon.recv(1 << 16)
        except BlockingIOError:
            return b""

    @given(
        st.lists(
            st.one_of(
                st.binary(min_size=1, max_size=50),
                st.sampled_from([b"\n", b"error_reply {'code': 'TOO_MANY'}\n", b"ping_reply 1\n", b"@1 error_reply "]),
            ),
            max_size=12,
        ),
        st.sampled_from([b"", b"ping\n", b"ping\nping\n", b"pin", b"@1 x\n\n", b" \n"]),
        st.booleans(),
    )
    @settings(deadline=None, max_examples=300)
    def test_whateverTheDaemonSays(self, answers: list[bytes], said: bytes, single: bool) -> None:
        """
        All of it comes out as it is, then a newline if it ended within a line, and at most one error of ours; what is
        no success ends in an error, which is the last line.
        """
        status, output, _ = self.passed(said, answers, b"ping" if single else None)
        theirs = b"".join(answers)
        self.assertEqual(output[: len(theirs)], theirs)
        ours = output[len(theirs) :]
        self.assertIn(output[-1:], (b"", b"\n"))
        if theirs and not theirs.endswith(b"\n"):
            self.assertEqual(ours[:1], b"\n")
            ours = ours[1:]
        self.assertIn(ours.count(b"\n"), (0, 1))
        if ours:
            self.assertEqual((ours[:13], status), (b"error_reply {", 3))
        elif status == 3:
            self.assertIn(b"error_reply ", theirs)
        else:
            self.assertIn(status, (0, 1) if single else (0,))

    def test_asksAndEnds(self) -> None:
        """
        What was said reaches the daemon unchanged, blank lines, other alphabets and what is no text at all.
        """
        said = "\n  \nadd_user é€世界\n".encode() + b"\xff\xfe\0\n@7 ping\r\nhalf"
        answers = [b"x_reply 1\n"] * 4
        self.assertEqual(self.passed(said, answers), (0, b"".join(answers), said))

    def test_saidWhyItHungUp(self) -> None:
        """
        A daemon that turns the connection away, or tires of half a line, has said why: no second error follows.
        """
        refusal = b"error_reply {'code': 'TOO_MANY', 'message': 'later'}\n"
        status, output, _ = self.passed(b"ping\n" * 3, [refusal])
        self.assertEqual((status, output), (3, refusal))

    def test_errorsAreNoExcuse(self) -> None:
        """
        An error that answers the first of three does not pass for the reason why the others have none.
        """
        status, output, _ = self.passed(b"ping\n" * 3, [b"error_reply {'code': 'DENIED'}\n"])
        self.assertEqual((status, output.count(b"error_reply"), output.count(b"NO_DAEMON")), (3, 2, 1))

    def test_refusedWatchEnds(self) -> None:
        """
        C{-c 'watch nothing'} that is refused is over.
        """
        refusal = b"error_reply {'code': 'NO_SUCH_TOPIC'}\n"
        self.assertEqual(self.passed(b"", [refusal], b"watch nothing")[:2], (1, refusal))

    def test_bodies(self) -> None:
        """
        An XML-RPC body is taken for one, whatever blanks or marks stand before it; nothing of it reaches the daemon.
        """
        for before in (b"", b"\r\n \t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"):
            body = before + b"<?xml version='1.0'?>\n<methodCall>\n<methodName>ping</methodName>\n</methodCall>\n"
            status, output, sent = self.passed(body, [])
            self.assertEqual((status, output.count(b"\n"), sent), (2, 1, b""), before)
            self.assertIn(b'"UNKNOWN_COMMAND"', output)

    def test_readerIsGone(self) -> None:
        """
        Nobody reads us: that is the end, and nothing is said.
        """
        daemon, ours = socket.socketpair()
        source, client = os.pipe()
        output, sink = os.pipe()
        os.close(output)
        for descriptor in (source, client, sink):
            self.addCleanup(os.close, descriptor)
        with daemon, ours:
            ours.setblocking(False)
            self.assertRaises(HungUp, Forward(ours, b"/s", None, descriptors=(source, sink)).run)


class FileTests(SynchronousTestCase):
    """
    The files themselves.
    """

    def test_environment(self) -> None:
        """
        It looks at one environment variable only, which says what is asked and never who asks, or whom.
        """
        trees = [ast.parse(Path(str(one.__file__)).read_text("utf-8")) for one in (counting, forward, passing, reach)]
        found = [
            ast.unparse(node)
            for tree in trees
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and "environ" in ast.unparse(node.func)
        ]
        self.assertEqual(found, ["posix.environ.get(b'SSH_ORIGINAL_COMMAND')"])
        self.assertEqual("".join(map(ast.unparse, trees)).replace(found[0], "").count("environ."), 0)
