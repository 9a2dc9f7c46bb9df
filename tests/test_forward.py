"""
What the forward shell makes of its arguments and of what passes through.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import forward
from hostline.clients.forward import SOCKET, Refusal, Tally, arguments


class ArgumentsTests(SynchronousTestCase):
    """
    What sshd and login start it with.
    """

    def test_forms(self) -> None:
        """
        Lines from standard input, or the one after C{-c}.
        """
        self.assertEqual(arguments([]), (SOCKET, None))
        self.assertEqual(arguments(["-c", "status_request lab/exp1"]), (SOCKET, b"status_request lab/exp1"))
        self.assertEqual(arguments(["--socket", "/s", "-c", "ping"]), ("/s", b"ping"))
        self.assertEqual(arguments(["-c", "add_user \u20ac\udcff"])[1], "add_user \u20ac".encode() + b"\xff")

    def test_refused(self) -> None:
        """
        Anything else, more than one line, and nothing.
        """
        for words in (["x"], ["-c"], ["-c", "a", "b"], ["-i"], ["--socket"], ["-c", "ping", "--socket", "/s"]):
            self.assertEqual(self.assertRaises(Refusal, arguments, words).status, 2)
        for request in ("ping\nping", "ping\n", "", " "):
            self.assertEqual(self.assertRaises(Refusal, arguments, ["-c", request]).status, 2)


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
            tally = Tally()
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
            self.assertEqual(tally.count, count)


class FileTests(SynchronousTestCase):
    """
    The file itself.
    """

    def test_standsAlone(self) -> None:
        """
        It needs nothing but the standard library, so that it runs as C{python3 -I -S} anywhere.
        """
        tree = ast.parse(Path(forward.__file__).read_text("utf-8"))
        names = [one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        self.assertEqual([name for name in names if name.partition(".")[0] not in sys.stdlib_module_names], [])

    def test_noEnvironment(self) -> None:
        """
        It looks at no environment variable: who calls decides nothing but the request.
        """
        self.assertNotIn("environ", Path(forward.__file__).read_text("utf-8").partition('"""')[2].partition('"""')[2])
