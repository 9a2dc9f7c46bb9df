"""
Tests for L{hostline.protocol.literal} and, through it, L{hostline.protocol.tokens}.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
import tracemalloc
import warnings
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol import literal, tokens
from hostline.protocol.errors import BadLiteral
from hostline.protocol.literal import REPLY, REQUEST, Bounds

SPEND = settings(max_examples=400, deadline=None)

# Names that look like what the fast path rewrites, and characters that it must not trip over.
TRAPS = ["None", "True-1", "null", "true", "NaN", "-Infinity", "False", "[", "}{", "[]", "a, b: c", "", "'", '"', "\\"]
STRINGS = st.one_of(
    st.text(max_size=8),
    st.text("NTF[]{}(),:'\"\\ aune\n\t\0é\u2028", max_size=8),
    st.sampled_from(TRAPS),
    st.lists(st.sampled_from(TRAPS), max_size=3).map("".join),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    STRINGS,
)


def nested(items: Any, tuples: bool = False, keys: Any = STRINGS) -> Any:
    rows = st.lists(items, max_size=4)
    return st.one_of(rows, st.dictionaries(keys, items, max_size=4), *([rows.map(tuple)] if tuples else []))


VALUES = st.recursive(SCALARS, lambda items: nested(items), max_leaves=20)
WITH_TUPLES = st.recursive(SCALARS, lambda items: nested(items, True), max_leaves=20)
NAMES = st.sampled_from([*TRAPS[:11], "node-1", "é"])
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.floats(-9, 9) | NAMES,
    lambda items: nested(items, keys=NAMES),
    max_leaves=20,
)
BITS = st.one_of(
    st.sampled_from("[](){},:'\" -+.0123456789eEjxobu_\\\n\t\r\0#fN"),
    st.sampled_from(["None", "True", "null", "true", "NaN", "1e999", "'a'", '"b"', "'c':", "0x1f", "1_0", "''"]),
    st.sampled_from(["'''", "\\u", "\\x41", "\\ud800", "\\N{DASH}", "\ud800", "é", "\f", "not ", "...", "u'"]),
)
# Rows parted by bars.
BY_HAND = (
    "(1,)|()|(1)|((1, 2),)|(('a'))|[1,]|{'a': 1,}|{}|[]|[[],]|+1|-1|-0|-0.0|00|00.5|1.|.5|-.5e-3|1E5|(-1)|{('a'): 1}"
    "|'a\"b'|\"a'b\"|\"a\"|  [1] |\t1|1\t|[ 1 ,2 ]|{'a' :1 , 'a': 2}|1\n|[1]\r\n| ( 1 , ) |'\x7f'|'\x01'|'\t'|'é'|-1.5"
)
ESCAPED = (
    r"'\\ \' \" \n \r \t \a \b \f \v \0 \1 \12 \123 \1234 \377 \08'|'\x41\xe9'|'\u20ac\U0001f600'|{'\n': '\\n'}"
    r"|'\x411'|'\''|'\ud800'|'\ud83d\ude00'|'\udfff\n'|['\\', '\\\\']|'\U0010ffff'"
)
ILLEGAL = (
    r"|  |b''|{1}|{'a'}|set()|1j|1+2j|f''|x|x.y|nan|inf|NaN|null|true|[true]|[null, None]|{1: 2}|{None: 1}|{(1,): 2}"
    r"|1e999|-1e999|[1e999]|1 2|[1] x|[1]]|[1|{'a'|{'a':|{'a':1|(1|'a|'a\|'a\'|[,]|(,)|{,}|[1,,]|{'a',}|{'a':1:2}"
    r"|'a' 'b'|'a''b'|'''a'''|''''''|u'a'|r'a'|1, 2|1,|0x10|1_000|0b1|0o7|01|-01|--1|-+1|- 1|-|+|.|-.|1..|1.e|1e|1e+"
    r"|-None|-'a'|NoneNone|Nonenull|No''ne|Tru|1None|1if 1 else 2|1or 2|'\N{DASH}'|'\d'|'\x4'|'\u123'|'\U00110000'"
    r"|[)|[1)|{]|(1]|[...]|[*[1]]|{**{}}|lambda: 1|[1 for x in y]|'a'.b|[1] # c|\|[1\]|1;|`1`|'a'%1|1==1|not 1|()()"
    r"|[][0]|٣|1٣|'\400'|'\8'|1.5.5"
)
ILLEGAL_JSON = (
    "NaN|Infinity|-Infinity|[NaN]|1e999|-1e999|None|True|'a'|(1)|[1,]|{1:2}|01|+1|1.|.5||  |[1|{|1 2|[1]]"
    '|"a|"\\x41"|"\t"|{"a" 1}'
)


def typed(value: Any) -> Any:
    """The value with the type of each part beside it: for Python C{1 == True == 1.0}, and C{0.0 == -0.0}."""
    if type(value) in (list, tuple):
        return type(value), [typed(item) for item in value]
    if type(value) is dict:
        return dict, [(typed(key), typed(item)) for key, item in value.items()]
    return type(value), repr(value)


def by_python(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.literal_eval(text)


def legal(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(legal, value))
    if type(value) is dict:
        return all(type(key) is str and legal(item) for key, item in value.items())
    return type(value) in (str, int, bool, type(None)) or (type(value) is float and value - value == 0)


def deep(value: Any) -> int:
    if type(value) is dict:
        value = list(value.values())
    return 1 + max(map(deep, value), default=0) if type(value) is list else 0


def status(nodes: int) -> dict[str, Any]:
    hosts: dict[str, Any] = {}
    for number in range(nodes):
        host = hosts.setdefault(f"hv:qemu:pnode-{number // 20:04}", {})
        host[f"node-{number:04}"] = ["booted", 0] if number % 7 else ["running", None]
    return hosts


class ReadTests(SynchronousTestCase):
    def same(self, text: str) -> None:
        self.assertEqual(typed(literal.read(text)), typed(by_python(text)), text)

    def refused(self, text: str | bytes, bounds: Bounds = REPLY) -> str:
        message = self.assertRaises(BadLiteral, literal.read, text, bounds).message
        self.assertLess(len(message), 120)
        return str(message)

    @SPEND
    @given(WITH_TUPLES)
    def test_sameAsPython(self, value: Any) -> None:
        """Whoever reads replies with C{ast.literal_eval} sees the same values as our clients."""
        for text in (repr(value), ascii(value)):
            try:
                text.encode()
            except UnicodeEncodeError:
                self.refused(text)
            else:
                self.same(text)

    @SPEND
    @given(PLAIN)
    def test_fastPathSameAsPython(self, value: Any) -> None:
        """Nodes may be named like anything: what is inside quotes is never rewritten."""
        self.same(repr(value))
        self.assertIsNot(literal._quick(repr(value), REPLY), literal._UNSURE)

    @SPEND
    @given(st.lists(BITS, max_size=12).map("".join))
    def test_garbage(self, text: str) -> None:
        """What is not a literal is refused with the one error that callers expect."""
        self.agrees(text)

    @SPEND
    @given(WITH_TUPLES, st.booleans(), st.data())
    def test_mutated(self, value: Any, escaped: bool, data: st.DataObject) -> None:
        """A body damaged on its way is refused, or means what Python says it means."""
        text = ascii(value) if escaped else repr(value)
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(text)))
            end = start + data.draw(st.integers(0, 2))
            text = text[:start] + data.draw(BITS | st.just("")) + text[end:]
        self.agrees(text)

    @SPEND
    @given(st.binary(max_size=12) | st.text(max_size=12))
    def test_noise(self, text: str | bytes) -> None:
        """Noise on the line gives no other exception."""
        try:
            value = literal.read(text)
        except BadLiteral:
            return
        self.assertEqual(typed(value), typed(by_python(text if isinstance(text, str) else text.decode())))

    def agrees(self, text: str) -> None:
        try:
            value = literal.read(text)
        except BadLiteral:
            return
        self.same(text)
        self.assertTrue(legal(value))
        self.assertEqual(typed(tokens.parse(text.rstrip("\r\n"), REPLY)), typed(value), "the two paths differ")

    def test_namesLikeWords(self) -> None:
        """A node may be called None."""
        for name in TRAPS:
            self.same(repr({"pnode": {name: [None, True, False, 1, 1.0]}}))
        self.assertEqual(literal.read("{'None-node': None}"), {"None-node": None})

    def test_requestsByHand(self) -> None:
        """People write literals as they would in Python."""
        for text in BY_HAND.split("|"):
            self.same(text)

    def test_escapes(self) -> None:
        """Text with line ends, quotes and any alphabet arrives as it was sent."""
        for text in ESCAPED.split("|"):
            self.same(text)

    def test_refused(self) -> None:
        """What is no value of the wire is refused, even where Python would take it."""
        for text in ILLEGAL.split("|"):
            self.refused(text)
        for text in (
            "\n1",
            "[1,\n2]",
            "[1,\r2]",
            "1\n\n",
            "'a\nb'",
            "\f1",
            "'\0'",
            "[\0]",
            "\ufeff1",
            "'\ud800'",
            "\ud800",
            "1\xa0",
        ):
            self.refused(text)
        for line in (b"\xff", b"'\xc3'", b"'\xed\xa0\x80'", b"\xff\xfe1\0", b""):
            self.refused(line)

    def test_bytes(self) -> None:
        """A body straight from the socket is UTF-8."""
        self.assertEqual(literal.read("['é', 1]\n".encode()), ["é", 1])

    def test_otherInterpreter(self) -> None:
        """Where there is no C scanner, the same is read and refused, only slower."""
        self.patch(literal, "make_scanner", None)
        for text in ("{'None': [None, True, False, 1, -1.5]}", '["a", (1,)]'):
            self.same(text)
        self.assertEqual(literal.read_json('{"None": [null, -1.5]}'), {"None": [None, -1.5]})
        for text in ("[1", "[NaN]", "9" * 4301, "1e999", "[true"):
            self.refused(text)
            self.assertRaises(BadLiteral, literal.read_json, text)

    def test_messages(self) -> None:
        """The refusal says what was wanted and where."""
        for text, message in {
            "{'a' 1}": "want ':' after the key, got '1}' at character 5",
            "[1 2]": "want ',' or ']', got '2]' at character 3",
            "['a' 'b']": "want ',' or ']', got \"'b']\" at character 5",
            "[nul]": "want a value, got 'nul]' at character 1",
            "[1, [2": "unterminated [ that began at character 4",
            "['a": "unterminated string, or one with a NUL, that began at character 1",
            "{1: 2}": "want a str as key, got int before character 2",
            "[1] 2": "want the end after the value, got '2' at character 4",
            " ": "want a value, got the end at character 1",
            "['ab\\q']": "want an escape of Python's but \\N, got '\\\\q' at character 4",
            "[1, -1e999]": "want a finite float, got '-1e999]' at character 4",
            "[1,\n2]": "want one line, got '\\n2]' at character 3",
            "['\ud800']": 'want no raw surrogate, got "\\ud800\']" at character 2',
        }.items():
            self.assertEqual(self.refused(text), message)
        self.assertEqual(self.refused(b"'a\xff'"), 'want UTF-8, got "\\xff\'" at character 2')


class BoundsTests(SynchronousTestCase):
    """No line may crash, hang or swell either side."""

    def refused(self, text: str, bounds: Bounds = REQUEST) -> str:
        began = time.process_time()
        message = self.assertRaises(BadLiteral, literal.read, text, bounds).message
        self.assertLess(time.process_time() - began, 2)
        self.assertLess(len(message), 120)
        return str(message)

    def test_depth(self) -> None:
        """Brackets are read to the bound of depth, by both paths and in JSON, and no deeper."""
        for mark in ("[]", "()"):
            text = mark[0] * 63 + "()"[: 2 * (mark == "()")] + "[]" * (mark == "[]") + mark[1] * 63
            self.assertEqual(literal.read(text), by_python(text))
            self.refused(mark[0] + text + mark[1])
        self.assertEqual(literal.read("['[[[[', ']]', [[1]]]", Bounds(99, 99, depth=3)), ["[[[[", "]]", [[1]]])
        for text in (
            "[" * 10_000,
            "[" * 10_000 + "]" * 10_000,
            "{'a':" * 10_000,
            "(" * 10_000,
            "[" * 1_000_000,
            "][" * 500_000,
        ):
            self.refused(text)
            self.assertRaises(BadLiteral, literal.read_json, text.replace("'", '"'), REQUEST)
        self.assertEqual(
            self.refused("[[[1]]]", Bounds(99, 99, depth=2)), "want at most 2 open brackets, got '[1]]]' at character 2"
        )
        self.refused("[']', " * 99 + "1" + ", '[']" * 99)

    @SPEND
    @given(VALUES, st.integers(1, 5), st.booleans())
    def test_depthExact(self, value: Any, depth: int, odd: bool) -> None:
        """The depth counted is that of the value, whatever its strings hold."""
        value = [value, "\n"] if odd else [value]
        for text, read in ((ascii(value), literal.read), (json.dumps(value), literal.read_json)):
            if deep(value) <= depth:
                read(text, Bounds(9999, 9999, depth))
            else:
                self.assertRaises(BadLiteral, read, text, Bounds(9999, 9999, depth))

    def test_operators(self) -> None:
        """Towers of signs and sums, which exhaust Python's own parser, are refused at once."""
        for text in (
            "-" * 3000,
            "-" * 1_000_000 + "1",
            "1+" * 5000 + "1",
            "1+" * 500_000,
            "not " * 9999,
            "1" + ".a" * 9999,
        ):
            self.refused(text)

    def test_digits(self) -> None:
        """An int has at most 4300 digits, whatever the interpreter's own limit is."""
        for sign in ("", "-"):
            self.assertEqual(literal.read(sign + "9" * 4300), int(sign + "9" * 4300))
            self.refused(sign + "9" * 4301)
        self.refused("9" * 100_000)
        self.refused("[" + "9" * 1_000_000 + "x")
        self.refused("1." + "9" * 1_000_000 + "x")
        self.refused("1234", Bounds(99, 99, digits=3))
        self.assertEqual(literal.read("[-123]", Bounds(99, 99, digits=3)), [-123])
        before = sys.get_int_max_str_digits()
        self.addCleanup(sys.set_int_max_str_digits, before)
        for limit in (0, 640, 100_000):
            sys.set_int_max_str_digits(limit)
            for text in ("9" * 5000, "['\\n', " + "9" * 5000 + "]"):
                self.refused(text)
            self.assertRaises(BadLiteral, literal.read_json, "9" * 5000)

    def test_size(self) -> None:
        """A body longer than the bound is refused unread."""
        self.assertEqual(self.refused("'" + "a" * REQUEST.size + "'"), "want at most 1048576 characters, got 1048578")
        self.assertEqual(len(str(literal.read("'" + "a" * (REQUEST.size - 2) + "'", REQUEST))), REQUEST.size - 2)

    def test_elements(self) -> None:
        """Elements are counted the same way by both paths; commas inside strings are not."""
        bounds = Bounds(999, elements=6)
        for text in (
            "[1, 2, [3, 4, 5]]",
            "{'a': [1], 'b:c,d,e,f,': 2}",
            '{"a": [1], "b:c,d,e,f,": 2}',
            "'[,,,,,,,,[['",
        ):
            self.assertEqual(literal.read(text, bounds), by_python(text))
        for text in (
            "[1, 2, [3, 4, 5, 6]]",
            "{'a': [1], 'b': 2, 'c': 3}",
            '{"a": [1], "b": 2, "c": 3}',
            "''" * 9,
            "(1,1,1,1,1,1,1)",
        ):
            self.refused(text, bounds)

    def test_memory(self) -> None:
        """No request of the greatest length takes more than some tens of its size to read or to refuse."""
        full = REQUEST.size // 4
        bounds = Bounds(full, REQUEST.elements // 4)
        for text in (
            "[" + "0," * (full // 2 - 1) + "]",
            "[" + "0," * (REQUEST.size // 2 - 1) + "]",
            "['\\n'," + "0," * (full // 2 - 5) + "]",
            "['\\n'," + "[]," * (full // 3 - 4) + "]",
            "[" + "[]," * 22_500 + "]",
            "[" + "{'a':0}," * 15_000 + "]",
            '["",' + "{'a':0}," * 11_000 + "]",
            "[" + "'ab'," * 40_000 + "]",
            "[" + "'[]'," * 40_000 + "]",
            "[" + "('ab',)," * 15_000 + "]",
            "'" * full,
            "'a" * (full // 2),
            "[" * full,
            "{'a':" * (full // 5),
            "'" + "\\n" * (full // 2 - 1) + "'",
            "'" + "\\n" * (full // 2 - 1),
            "['" + "\\'" * (full // 2 - 1),
            '["' + '\\"' * (full // 2 - 1),
            "'\\" + '"' * (full - 2),
            "'\0\\'" * (full // 4),
            "[('\\n')," + "''," * (full // 3 - 5) + "]",
            "1e" * (full // 2),
            "1." * (full // 2),
            " " * full,
            '"' + "\\" * (full - 2),
            "'" + "é" * (full - 2) + "'",
        ):
            tracemalloc.start()
            began = time.process_time()
            try:
                literal.read(text, bounds if len(text) <= full else REQUEST)
            except BadLiteral:
                pass
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            self.assertLess(peak, 40 * len(text), text[:20])
            self.assertLess(time.process_time() - began, 5, text[:20])

    @SPEND
    @given(WITH_TUPLES, st.integers(0, 12))
    def test_elementsExact(self, value: Any, elements: int) -> None:
        """Whether a body has too many elements does not depend on how it is read."""
        bounds = Bounds(9999, elements)
        outcomes = []
        for read in (literal.read, tokens.parse):
            try:
                outcomes.append(typed(read(ascii(value), bounds)))
            except BadLiteral:
                outcomes.append(None)
        self.assertEqual(*outcomes)

    def test_startOfClient(self) -> None:
        """A short-lived client that reads a status does not wait for imports it has no use for."""
        code = (
            "from hostline.protocol.literal import read; assert read(\"{'None': {'[': ['booted', None]}}\");"
            "print([name for name in ('re', 'json', 'typing', 'enum', 'collections', 'ast') if name in sys.modules])"
        )
        path = [entry for entry in sys.path if entry]
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", f"import sys; sys.path = {path!r}; {code}"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual((done.stdout, done.stderr), ("[]\n", ""))


class ScanTests(SynchronousTestCase):
    @SPEND
    @given(WITH_TUPLES.filter(lambda value: isinstance(value, (str, list, dict, tuple))), st.text(max_size=5))
    def test_endOfLiteral(self, value: Any, before: str) -> None:
        """A literal among the words of a request ends where its writer ended it, blanks included."""
        text = literal.write(value)
        self.assertEqual(literal.scan(text + " rest", 0), len(text))
        self.assertEqual(literal.scan(before + text + ']"', len(before)), len(before + text))

    @SPEND
    @given(st.lists(BITS, max_size=12).map("".join))
    def test_garbage(self, text: str) -> None:
        """What can be read whole is also scanned whole; else the line is refused, or a shorter word found."""
        try:
            end = literal.scan(text, 0)
        except BadLiteral:
            if text[:1] and text[0] in "'\"[({":
                self.assertRaises(BadLiteral, literal.read, text)
            return
        self.assertTrue(0 < end <= len(text))

    def test_long(self) -> None:
        """A request may hold long lists."""
        for item in ("'a'", "1", "''", '"]"', "'\\''", "()", "'a' ,'b'"):
            for count in (249, 250, 251, 499, 500, 501, 502, 1500):
                text = "[" + ",".join([item] * count) + "]"
                self.assertEqual(literal.scan("x " + text + " y", 2), len(text) + 2)

    def test_unterminated(self) -> None:
        """The refusal names the place where the open thing began."""
        for text, message in {
            "a [1, (2": "unterminated ( that began at character 6",
            "a [1, 'x]": "unterminated string that began at character 6",
            'a "x\\"': "unterminated string that began at character 2",
            "a 'x\\": "unterminated string that began at character 2",
            "a [1)": "want the bracket that matches, got ')' at character 4",
            "a x": "want a quote or an opening bracket, got 'x' at character 2",
            "a ": "want a quote or an opening bracket, got the end at character 2",
        }.items():
            self.assertEqual(self.assertRaises(BadLiteral, literal.scan, text, 2).message, message)

    def test_bounded(self) -> None:
        """Scanning is linear in the line and bounded in depth and size."""
        began = time.process_time()
        full = REQUEST.size
        for text in (
            "[" * full,
            "'" + "\\a" * (full // 2),
            "['" + "\\'" * (full // 2),
            "[" + "'" * (full // 2),
            "[" + "''" * (full // 2),
        ):
            self.assertRaises(BadLiteral, literal.scan, text, 0)
        self.assertRaises(BadLiteral, literal.scan, "'" + "a" * full + "'", 0)
        self.assertEqual(literal.scan("[" * 64 + "]" * 64, 0), 128)
        deep = "[" * 65 + "]" * 65  # brackets that close at once are left to who reads
        self.assertRaises(BadLiteral, literal.read, deep[: literal.scan(deep, 0)], REQUEST)
        self.assertRaises(BadLiteral, literal.scan, "[" * 80 + "]" * 80, 0)
        for part in ("[]", "{}", "()", "[[]]", "{'a': [(1, [])]}"):
            many = "[" + (part + ",") * ((full - 2) // (len(part) + 1)) + "]"
            self.assertRaises(BadLiteral, literal.read, many[: literal.scan(many, 0)], REQUEST)
        self.assertLess(time.process_time() - began, 5)


class WriteTests(SynchronousTestCase):
    @SPEND
    @given(VALUES)
    def test_roundTrip(self, value: Any) -> None:
        """A value that passes the check is the same in both formats, on one ASCII line."""
        try:
            literal.check(value)
        except TypeError:
            self.assertRaises(UnicodeEncodeError, repr(value).encode)
            return
        for write, read in ((literal.write, literal.read), (literal.write_json, literal.read_json)):
            text = write(value)
            self.assertTrue(text.isascii() and text.isprintable())
            self.assertEqual(typed(read(text)), typed(value))
            self.assertEqual(typed(read(text.encode() + b"\n")), typed(value))

    def test_checkRefuses(self) -> None:
        """A reply that some client could not read is found by the tests, with its place."""

        class Text(str):
            __slots__ = ()

        endless: list[Any] = []
        endless.append(endless)
        bad: list[Any] = [
            (1,),
            {1: 2},
            {None: 1},
            {1},
            b"",
            1j,
            float("inf"),
            float("nan"),
            Text("a"),
            {Text("a"): 1},
            object(),
            endless,
        ]
        for value in [*bad, "\ud800", {"\ud800": 1}, 10**4300, -(10**4300), range(3), {"a": {}.keys()}]:
            self.assertRaises(TypeError, literal.check, value)
            self.assertRaises(TypeError, literal.check, {"a": [value]})
        error = self.assertRaises(TypeError, literal.check, {"a": [0, (1,)]})
        self.assertEqual(str(error), "want dict, list, str, int, float, bool or None, got tuple in the value['a'][1]")
        literal.check({"a": [1, 1.5, True, None, "é", {}, [], 10**4299]})


class JsonTests(SynchronousTestCase):
    @SPEND
    @given(st.lists(BITS | st.sampled_from(["\\/", "\\b", "Infinity", '"a":', '"']), max_size=12).map("".join))
    def test_garbage(self, text: str) -> None:
        """A JSON client gets what C{json.loads} gives, or the one error."""
        try:
            value = literal.read_json(text)
        except BadLiteral:
            return
        self.assertEqual(typed(value), typed(json.loads(text)))
        self.assertTrue(legal(value))

    def test_accepted(self) -> None:
        """Any JSON on a line is fine, duplicate keys and escapes included."""
        for text in (
            ' {"a": 1, "a": [null, true, -0.0, 1e5]}\n',
            r'"\ud83d\ude00\/\"\\"',
            r'["\\", "[", "\"]", "a,b"]',
            "[\n1\r\n]",
            '"é"',
        ):
            self.assertEqual(typed(literal.read_json(text)), typed(json.loads(text)))
            self.assertEqual(typed(literal.read_json(text.encode())), typed(json.loads(text)))

    def test_refused(self) -> None:
        """Neither Python's own words nor numbers without end pass as JSON."""
        for text in ILLEGAL_JSON.split("|"):
            self.assertRaises(BadLiteral, literal.read_json, text)
        for data in (b"\xff", b'"\xed\xa0\x80"', "\ufeff1", '"\ud800"', "[" * 99_999, "9" * 4301):
            self.assertRaises(BadLiteral, literal.read_json, data)

    def test_bounds(self) -> None:
        """The bounds are those of literals; what stands in strings is not counted."""
        bounds = Bounds(99, elements=6, depth=2)
        text = r'{"\"[[[\\": ["],,,,,,", 1], "\\": 0}'
        self.assertEqual(literal.read_json(text, bounds), json.loads(text))
        for text in ("[1,1,1,1,1,1,1]", "[[[1]]]", '{"a":[{}]}', '"' + "a" * 99):
            self.assertRaises(BadLiteral, literal.read_json, text, bounds)

    def test_messages(self) -> None:
        """The refusal says where the JSON went wrong, in a short-lived client too."""
        for name in ("json", "json.decoder", "json.scanner"):
            self.patch_out(name)
        for text in ('{"a" 1}', "[1, nul]", '["a"] x', "[1, NaN]"):
            self.assertRegex(
                self.assertRaises(BadLiteral, literal.read_json, text).message, r"^want .*, got .* at character \d+$"
            )

    def patch_out(self, name: str) -> None:
        kept = sys.modules.pop(name, None)
        if kept is not None:
            self.addCleanup(sys.modules.__setitem__, name, kept)


class SpeedTests(SynchronousTestCase):
    def test_status(self) -> None:
        """Reading the status of a whole testbed costs a client a small part of what C{ast.literal_eval} would take."""
        text = repr(status(1000))
        spent: dict[Any, float] = {}
        for read in (ast.literal_eval, literal.read) * 3:
            began = time.process_time()
            value: Any = read(text)
            self.assertEqual(len(value), 50)
            spent[read] = min(spent.get(read, 9.0), time.process_time() - began)
        self.assertGreater(spent[ast.literal_eval] / spent[literal.read], 8)
