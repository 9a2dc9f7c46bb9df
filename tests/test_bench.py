"""
The benchmark's arithmetic, on numbers whose answer is known, and its generators against a server that answers wrongly.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

sys.path.append(str(Path(__file__).parent.parent))  # bench/ is no part of the package

from bench import loans
from bench.__main__ import main
from bench.generator import Counted, Exact, Http
from bench.rounds import Goal, Series, Spread, Table, by_turns, ratio, spread, verdict
from bench.table import kept, page, plain, shown
from bench.wire import Load, LoadFailed, Server, figures


class SpreadTests(SynchronousTestCase):
    """
    What many rounds say together.
    """

    def test_oddNumberOfRounds(self) -> None:
        """
        The median is the middle one, whatever the order.
        """
        self.assertEqual(spread([9.0, 1.0, 4.0]), Spread(4.0, 1.0, 9.0))

    def test_evenNumberOfRounds(self) -> None:
        """
        The median lies between the two in the middle.
        """
        self.assertEqual(spread([1.0, 2.0, 4.0, 100.0]), Spread(3.0, 1.0, 100.0))

    def test_noRounds(self) -> None:
        """
        Nothing measured has no median.
        """
        self.assertRaises(ValueError, spread, [])

    def test_ratioIsTakenPerRound(self) -> None:
        """
        A ratio is the median of the rounds' ratios, not the ratio of the medians (here 10): when the whole machine
        was slow in one round, both were.
        """
        self.assertEqual(ratio([100.0, 20.0, 10.0], [50.0, 1.0, 2.0]), Spread(5.0, 2.0, 20.0))

    def test_ratioOfOtherRounds(self) -> None:
        """
        Figures that were not measured side by side are not compared.
        """
        self.assertRaises(ValueError, ratio, [1.0, 2.0], [1.0])


class LoansTests(SynchronousTestCase):
    """
    The measuring of loans.
    """

    def test_comparesWhatItMeasures(self) -> None:
        """
        The ledger is what is computed anew after every candidate; if it were not, nothing would be said of its speed.
        """
        self.patch(loans, "SLIVERS", 30)
        measured = loans._Loans(40)
        for candidate in (measured.one, measured.lent, measured.given, measured.full):
            self.assertGreater(candidate(0), 0)
            measured.check()
        measured.rspecs[1]["pids_max"] += 1
        self.assertRaises(ValueError, measured.check)


class VerdictTests(SynchronousTestCase):
    """
    Whether a goal was reached.
    """

    table = Table(
        "a table",
        [
            Series("ours", "per s", [60.0, 66.0, 58.0]),
            Series("floor", "per s", [100.0, 100.0, 100.0]),
            Series("absent", "per s", left_out="not installed"),
        ],
        [],
    )

    def test_atLeast(self) -> None:
        """
        A bound is kept when it is met exactly.
        """
        self.assertTrue(verdict(self.table, Goal("ours", "floor", 0.6)).reached)
        self.assertFalse(verdict(self.table, Goal("ours", "floor", 0.61)).reached)

    def test_atMost(self) -> None:
        """
        Times are wanted small.
        """
        self.assertTrue(verdict(self.table, Goal("ours", "floor", 0.6, at_most=True)).reached)
        self.assertFalse(verdict(self.table, Goal("ours", "floor", 0.59, at_most=True)).reached)

    def test_leftOut(self) -> None:
        """
        Beside something that could not be measured a goal is neither reached nor missed.
        """
        self.assertEqual(verdict(self.table, Goal("ours", "absent", 1.0)), (Goal("ours", "absent", 1.0), None, None))

    def test_noBound(self) -> None:
        """
        A ratio without a bound is told and not judged.
        """
        found = verdict(self.table, Goal("ours", "floor"))
        self.assertEqual((found.ratio, found.reached), (Spread(0.6, 0.58, 0.66), None))

    def test_unknownSeries(self) -> None:
        """
        A goal between things that the table does not have is a mistake.
        """
        self.assertRaises(KeyError, verdict, self.table, Goal("ours", "nobody", 1.0))


class ByTurnsTests(SynchronousTestCase):
    """
    The order of the slices.
    """

    def test_everyCandidateOncePerRound(self) -> None:
        """
        Each round is on the next core, begins with the next candidate, and has every candidate once.
        """
        slices: list[tuple[str, int]] = []

        def slice_of(name: str, core: int) -> float:
            slices.append((name, core))
            return float(len(slices))

        found = by_turns({"a": lambda core: slice_of("a", core), "b": lambda core: slice_of("b", core)}, 3, [0, 1])
        self.assertEqual(slices, [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 0), ("b", 0)])
        self.assertEqual(found, {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]})


class TableTests(SynchronousTestCase):
    """
    What is printed and kept.
    """

    table = Table(
        "speed of a thing",
        [
            Series("ours", "per s", [1000.0, 3000.0, 2000.0], {"p50 us": [10.0, 30.0, 20.0]}),
            Series("floor", "per s", [4000.0, 4000.0, 4000.0]),
            Series("absent", "per s", left_out="no C compiler"),
        ],
        [Goal("ours", "floor", 0.6), Goal("ours", "absent", 2.0)],
        ["A note."],
    )

    def test_figures(self) -> None:
        """
        A figure has the digits that count.
        """
        self.assertEqual(shown(Spread(1234.5, 12.34, 0.1234)), "1,234 [12.3-0.123]")

    def test_plain(self) -> None:
        """
        The terminal has every figure, what was left out and why, and what became of the goals.
        """
        text = plain(self.table)
        for words in ("2,000 [1,000-3,000]", "20.0 [10.0-30.0]", "left out: no C compiler", "at least 0.6", "A note."):
            self.assertIn(words, text)
        self.assertIn("0.500 [0.250-0.750]", text)
        self.assertIn("NOT REACHED", text)
        self.assertIn("not known", text)

    def test_page(self) -> None:
        """
        The page has the machine and the same tables.
        """
        text = page([self.table], {"kernel": "Linux 1"}, "3 rounds.")
        for words in ("- kernel: Linux 1", "## Speed of a thing", "| ours | 2,000 [1,000-3,000] |", "3 rounds."):
            self.assertIn(words, text)

    def test_kept(self) -> None:
        """
        The figures of each round are kept as JSON.
        """
        value = json.loads(json.dumps(kept([self.table], {}, "3 rounds.")))
        self.assertEqual(value["tables"][0]["series"][0]["values"], [1000.0, 3000.0, 2000.0])
        self.assertEqual(value["tables"][0]["goals"][0]["ratio"]["median"], 0.5)
        self.assertEqual(value["tables"][0]["goals"][1]["ratio"], None)


class ReaderTests(SynchronousTestCase):
    """
    Replies are counted only when they are right, wherever the stream is cut.
    """

    http = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\nServer: x\r\n\r\nworld"
    )

    def test_byteByByte(self) -> None:
        """
        Two replies are two, whole or byte by byte.
        """
        for reader, expected, stream in (
            (Exact, b"ok 1\n", b"ok 1\nok 1\n"),
            (Counted, b"ok ", b"ok 1\nok 22\n"),
            (Http, b"5", self.http),
        ):
            self.assertEqual(reader(expected).take(stream), 2)
            one = reader(expected)
            self.assertEqual(sum(one.take(stream[at : at + 1]) for at in range(len(stream))), 2)

    def test_wrongReply(self) -> None:
        """
        A wrong byte, an error, another length: the slice is refused.
        """
        self.assertRaises(ValueError, Exact(b"ok 1\n").take, b"ok 1\nok 2\n")
        self.assertRaises(ValueError, Counted(b"ok ").take, b"ok 1\nerror\n")
        self.assertRaises(ValueError, Http(b"6").take, self.http)
        self.assertRaises(ValueError, Http(b"").take, b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nhello")

    def test_httpCloses(self) -> None:
        """
        An HTTP/1.0 reply without a word on it ends the connection.
        """
        reader = Http(b"")
        reader.take(self.http)
        self.assertTrue(reader.closes)


class LoadTests(SynchronousTestCase):
    """
    The generator that this machine has, against a server of a few lines.
    """

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp())  # the path of a socket has to be short
        self.addCleanup(shutil.rmtree, self.directory)
        self.address = str(self.directory / "socket")
        self.listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.listener.close)
        self.listener.bind(self.address)
        self.listener.listen()
        before = os.sched_getaffinity(0)
        self.core = min(before)
        self.addCleanup(os.sched_setaffinity, 0, before)

    def serve(self, reply: bytes) -> Server:
        """
        Answer one connection, each line with the same bytes.
        """

        def answer() -> None:
            connection, _ = self.listener.accept()
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(reply * data.count(b"\n"))

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)
        return Server("few lines", os.getpid(), "exact", self.address, b"question\n", b"answer\n")

    def test_figures(self) -> None:
        """
        The line of the generator is numbers by name.
        """
        self.assertEqual(figures("replies=3 elapsed_ns=1000\n"), {"replies": 3, "elapsed_ns": 1000})

    def test_slice(self) -> None:
        """
        A slice has a rate, a median not above the 99th percentile, and no fewer replies than the clock saw.
        """
        found = Load(self.directory).slice(self.serve(b"answer\n"), self.core, 1, 4, 50)
        self.assertGreater(found.rate, 0)
        self.assertLessEqual(found.p50_us, found.p99_us)
        self.assertGreaterEqual(found.replies, found.rate * 0.04)

    def test_wrongReply(self) -> None:
        """
        A server that answers something else is not measured.
        """
        server = self.serve(b"arson!\n")
        error = self.assertRaises(LoadFailed, Load(self.directory).slice, server, self.core, 1, 4, 50)
        self.assertIn("not the reply that was expected", str(error))


class MainTests(SynchronousTestCase):
    """
    The command itself.
    """

    def setUp(self) -> None:
        for number in (signal.SIGALRM, signal.SIGTERM):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.said = io.StringIO()
        self.patch(sys, "stdout", self.said)
        self.patch(sys, "stderr", io.StringIO())

    def test_short(self) -> None:
        """
        A short run of the parts that need no daemon measures them, leaves no file and keeps no figures.
        """
        where = self.mktemp()
        Path(where).mkdir(parents=True)
        self.assertEqual(main(["--short", "--where", where, "encoding", "reading"]), 0)
        self.assertIn("at most 3", self.said.getvalue())
        self.assertIn("at least 20", self.said.getvalue())
        self.assertEqual(list(Path(where).iterdir()), [])

    def test_unknownPart(self) -> None:
        """
        A part that does not exist is refused before anything is measured.
        """
        self.assertRaises(SystemExit, main, ["speed"])

    def test_keepWantsAll(self) -> None:
        """
        Figures of a short run, or of a part, do not replace those that are kept.
        """
        self.assertRaises(SystemExit, main, ["--keep", "--short"])
        self.assertRaises(SystemExit, main, ["--keep", "reading"])
