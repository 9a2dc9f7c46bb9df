"""
Tests for L{hostline.protocol.wire}.
"""

from __future__ import annotations

import ast
import json
import time
import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol import wire
from hostline.protocol.errors import BadLine, BadLiteral, HostError, LineTooLong
from hostline.protocol.literal import Bounds
from hostline.protocol.wire import KEPT, Lines, Overlong, Reply, read_reply, replies, reply, stream_chunk, stream_data

LIMIT = 8
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda items: st.lists(items, max_size=3) | st.dictionaries(st.text(), items, max_size=3),
    max_leaves=8,
)
# Streams of what matters: line ends of both kinds, empty lines, lines about as long as the limit.
STREAMS = st.lists(
    st.sampled_from(
        [b"\n", b"\r\n", b"\r", b"a", b"b" * (LIMIT - 1), b"c" * LIMIT, b"d" * (LIMIT + 1), b"e" * 20, b"\0\xff"]
    )
).map(b"".join)


def tellable(lines: list[bytes]) -> list[tuple[bool, bytes]]:
    """An Overlong equals the bytes that it holds: here it does not."""
    return [(isinstance(line, Overlong), bytes(line)) for line in lines]


def cut_up(stream: bytes, cuts: list[int], longest: int = LIMIT) -> tuple[list[tuple[bool, bytes]], bytes | None]:
    lines = Lines(longest)
    found: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += lines.feed(stream[start:end])
    return tellable(found), lines.end()


class LinesTests(SynchronousTestCase):
    def same(self, stream: bytes, expected: list[bytes], longest: int = LIMIT) -> None:
        """Whole, byte by byte, and in two pieces."""
        everywhere = [[], list(range(len(stream))), *([at] for at in range(len(stream)))]
        for cuts in everywhere:
            self.assertEqual(cut_up(stream, cuts, longest), (tellable(expected), None), cuts)

    def test_lines(self) -> None:
        """Requests may come in any pieces; both line ends will do."""
        self.same(b"ping\nwhoami\r\nhelp\n", [b"ping", b"whoami", b"help"])

    def test_empty(self) -> None:
        """Empty lines come out as what they are."""
        self.same(b"\n\r\n\na\n", [b"", b"", b"", b"a"])

    def test_returnsInside(self) -> None:
        """A carriage return ends a line only together with a newline."""
        self.same(b"a\rb\n\r\r\n", [b"a\rb", b"\r"])

    def test_limit(self) -> None:
        """A line of exactly the greatest length is read, with either end; one byte more is too much."""
        self.same(b"12345678\n", [b"12345678"])
        self.same(b"12345678\r\n", [b"12345678"])
        self.same(b"123456789\n", [Overlong(b"12345678")])
        self.same(b"123456789\r\n", [Overlong(b"12345678")])
        self.same(b"1234567\r\r\n", [b"1234567\r"])
        self.same(b"12345678\r\r\n", [Overlong(b"12345678")])

    def test_overlong(self) -> None:
        """After lines that are too long, one after the other, the next good one is heard."""
        long = b"x" * 99
        self.same(
            long + b"\n" + long + b"\r\n" + long + b"\nping\n" + long + b"\n\n",
            [Overlong(b"x" * 8)] * 3 + [b"ping", Overlong(b"x" * 8), b""],
        )

    def test_kept(self) -> None:
        """Of a line that is too long its beginning is kept, so that its tag and command can be named."""
        line = b"@7 blob " + b"x" * 1000
        self.same(line + b"\n", [Overlong(line[:KEPT])], 500)

    @settings(max_examples=300)
    @given(STREAMS, st.data())
    def test_anyCuts(self, stream: bytes, data: st.DataObject) -> None:
        """How the network cuts the bytes makes no difference, at the end of the input neither."""
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
        self.assertEqual(cut_up(stream, cuts), cut_up(stream, []))

    @settings(max_examples=300)
    @given(STREAMS)
    def test_sameAsSplit(self, stream: bytes) -> None:
        """The lines are those that anybody would see in the bytes."""
        *ended, rest = stream.split(b"\n")
        lines = [line.removesuffix(b"\r") for line in ended]
        found, end = cut_up(stream, [])
        self.assertEqual(found, [(len(line) > LIMIT, line[:LIMIT]) for line in lines])
        self.assertEqual(end, rest.removesuffix(b"\r")[:LIMIT] or None)

    def test_end(self) -> None:
        """What stands on a last line without its end is told, once."""
        lines = Lines(LIMIT)
        self.assertEqual(lines.feed(b"ping\nter"), [b"ping"])
        self.assertEqual((lines.end(), lines.end()), (b"ter", None))

    def test_endOverlong(self) -> None:
        """So is one that was too long, as such; nothing of it is left for what comes then."""
        lines = Lines(LIMIT)
        for size in (LIMIT + 1, LIMIT + 2, 99):
            lines.feed(b"x" * size)
            self.assertIsInstance(lines.end(), Overlong)
            self.assertEqual(tellable(lines.feed(b"ping\n")), [(False, b"ping")])

    def test_waiting(self) -> None:
        """The daemon can tell whether somebody is in the middle of a line."""
        lines = Lines(LIMIT)
        found = []
        for piece in (b"", b"pi", b"ng", b"\n", b"a\nbc", b"x" * 99, b"\r", b"\n"):
            lines.feed(piece)
            found.append(lines.waiting > 0)
        self.assertEqual(found, [False, True, True, False, True, True, True, False])


class HostileTests(SynchronousTestCase):
    def test_endlessLine(self) -> None:
        """A hundred megabytes without a newline cost the daemon no memory, however they come."""
        for size in (1 << 16, 10_000_000, 100_000_000):
            piece = b"x" * size
            lines = Lines()
            tracemalloc.start()
            try:
                for _ in range(100_000_000 // size):
                    self.assertEqual(lines.feed(piece), [])
                now, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            self.assertLess(lines.waiting, 1000)
            self.assertLess(now, 10_000)
            self.assertLess(peak, 4 * wire.LONGEST_REQUEST)
            self.assertEqual(tellable(lines.feed(b"\nping\n"))[1], (False, b"ping"))

    def test_byteByByte(self) -> None:
        """The longest line, sent byte by byte, takes no more than a second of the daemon's time."""
        lines = Lines()
        began = time.process_time()
        for _ in range(wire.LONGEST_REQUEST):
            lines.feed(b"x")
        self.assertEqual(tellable(lines.feed(b"\n")), [(False, b"x" * wire.LONGEST_REQUEST)])
        self.assertLess(time.process_time() - began, 3)

    def test_manyLines(self) -> None:
        """A packet of nothing but newlines is not hard."""
        self.assertEqual(len(Lines().feed(b"\n" * 1_000_000)), 1_000_000)


class TextTests(SynchronousTestCase):
    def test_text(self) -> None:
        """A line is UTF-8."""
        self.assertEqual(wire.text_of("créer lab/x".encode()), "créer lab/x")

    def test_noText(self) -> None:
        """What is no text is refused, naming the byte, counted from 1."""
        for line, message in (
            (b"ping\xff", "want UTF-8, got byte 0xff at 5"),
            (b"\xc3", "want UTF-8, got byte 0xc3 at 1"),
            (b"a\xed\xa0\x80", "want UTF-8, got byte 0xed at 2"),
            (b"pi\0ng\xff", "want text, got a NUL byte at 3"),
        ):
            self.assertEqual(self.assertRaises(BadLine, wire.text_of, line).message, message)

    @given(st.binary())
    def test_garbage(self, line: bytes) -> None:
        """Whatever bytes come, they are text or refused."""
        try:
            self.assertEqual(wire.text_of(line).encode(), line)
        except BadLine:
            pass


class ReplyTests(SynchronousTestCase):
    def test_literal(self) -> None:
        """The promise to scripts: a word, a blank, and what C{ast.literal_eval} reads."""
        line = reply("status_reply", {"hv:qemu:pnode-0000": {"wéb\n": ["booted", 0], "db": [None, None]}})
        self.assertEqual(
            line, b"status_reply {'hv:qemu:pnode-0000': {'w\\xe9b\\n': ['booted', 0], 'db': [None, None]}}\n"
        )

    def test_json(self) -> None:
        """After C{hello format=json} bodies are JSON, ASCII too."""
        self.assertEqual(reply("x_reply", {"é": [None, True]}, "7", True), b'@7 x_reply {"\\u00e9": [null, true]}\n')

    @given(VALUES, st.none() | st.from_regex(r"[!-~]{1,64}", fullmatch=True), st.booleans())
    def test_roundTrip(self, value: Any, tag: str | None, as_json: bool) -> None:
        """What the daemon says, the client reads; in one line, in both formats."""
        line = reply("x_reply", value, tag, as_json)
        self.assertTrue(line.isascii() and line.endswith(b"\n") and line.count(b"\n") == 1 and b"\r" not in line)
        for text in (line[:-1], line[:-1].decode()):
            self.assertEqual(read_reply(text, as_json), Reply(tag, "x_reply", value))
        body = line.decode().partition("x_reply ")[2]
        self.assertEqual(json.loads(body) if as_json else ast.literal_eval(body), value)

    def test_noReply(self) -> None:
        """What is no reply, an HTTP server's greeting for one, is refused."""
        for line in (
            "",
            "x",
            "x_reply",
            " x {}",
            "@7",
            "@7 x_reply",
            "@ x_reply 1",
            "HTTP/1.1 200 OK",
            "x-y {}",
            "é 1",
            "1 {}",
        ):
            self.assertRegex(
                self.assertRaises(BadLine, read_reply, line).message, r"^want 'reply_word literal', got ['\"]"
            )

    def test_badBody(self) -> None:
        """A body that is none is refused."""
        for line in ("x_reply ", "x_reply {", "x_reply x", "x_reply 1 2", "x_reply [1e999]"):
            self.assertRaises(BadLiteral, read_reply, line)
            self.assertRaises(BadLiteral, read_reply, line, True)

    def test_bounds(self) -> None:
        """A client with little room says how much it takes."""
        self.assertRaises(BadLiteral, read_reply, "x_reply [1, 2, 3]", False, Bounds(99, 2))

    @given(st.text() | st.binary() | st.text("@7x_ {}[]'\"1,:", max_size=9), st.booleans())
    def test_garbage(self, line: str | bytes, as_json: bool) -> None:
        """Whatever is at the other end, a client reads a reply or reports an error."""
        try:
            self.assertTrue(read_reply(line, as_json).word)
        except HostError:
            pass

    def test_replies(self) -> None:
        """Replies come in any pieces."""
        stream = reply("x_reply", [1]) + reply("y_reply", {}, "7") + reply("event", {"a": "b"})
        lines = Lines()
        found = [one for at in range(len(stream)) for one in replies(lines, stream[at : at + 1])]
        self.assertEqual(
            found, [Reply(None, "x_reply", [1]), Reply("7", "y_reply", {}), Reply(None, "event", {"a": "b"})]
        )

    def test_repliesTooLong(self) -> None:
        """A reply longer than the client reads is an error, no wrong value."""
        self.assertRaises(LineTooLong, list, replies(Lines(9), b"x_reply [1, 2, 3]\n"))

    def test_repliesGarbage(self) -> None:
        """A reply that arrived damaged is an error, no wrong value."""
        self.assertRaises(HostError, list, replies(Lines(), b"x_reply 'a\xffb'\n"))


class StreamTests(SynchronousTestCase):
    @given(st.sampled_from(["in", "out", "err"]), st.binary())
    def test_roundTrip(self, stream: str, chunk: bytes) -> None:
        """Bytes go through a stream as they are, an empty chunk too."""
        said = read_reply(stream_data("7", stream, chunk)[:-1])
        self.assertEqual((said.tag, said.word), ("7", "data"))
        self.assertEqual(stream_chunk(said.body), (stream, chunk))

    def test_line(self) -> None:
        """A person can read what a data line is."""
        self.assertEqual(stream_data("7", "out", b"hello"), b"@7 data {'stream': 'out', 'base64': 'aGVsbG8='}\n")

    def test_noChunk(self) -> None:
        """What is no chunk is refused, saying what was wanted."""
        wanted = "want {'stream': 'out', 'base64': TEXT}, got "
        body: Any
        for body in (None, [], "x", 7, {}, {"stream": "in"}, {"base64": ""}, {"stream": "in", "base64": None}):
            self.assertTrue(self.assertRaises(BadLine, stream_chunk, body).message.startswith(wanted))
        for text in ("a", "aGVsbG8", "aGVsbG8=\n", "aGVs bG8=", "=", "é", "aGVsbG8=aGVsbG8=", 7, ["aGVs"]):
            body = {"stream": "in", "base64": text}
            self.assertTrue(self.assertRaises(BadLine, stream_chunk, body).message.startswith(wanted))
        for stream in ("", "In", None, 0, ["in"], {"in": 1}):
            body = {"stream": stream, "base64": ""}
            self.assertIn("want stream 'in', 'out' or 'err'", self.assertRaises(BadLine, stream_chunk, body).message)

    @given(VALUES | st.fixed_dictionaries({"stream": VALUES | st.just("in"), "base64": VALUES | st.text("aG=\n")}))
    def test_garbage(self, body: Any) -> None:
        """Whatever stands on a data line, it is a chunk or refused, in few words."""
        try:
            stream_chunk(body)
        except BadLine as error:
            self.assertLess(len(error.message), 120)
