"""
Tests for L{hostline.protocol.words}.
"""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol import words
from hostline.protocol.errors import BadArguments, BadLiteral, BadValue, HostError, NoSuchNode
from hostline.protocol.literal import Bounds
from hostline.protocol.words import Broken, Request, Word, as_word, join, split

MIB = 1 << 20
TRAPS = st.sampled_from(
    ["a=b", "wait=", "=", "@7", "'", '"', "\\", "\\'", "\n", "\r\n", "\t", "[", "(x)", "{", "None", "7"]
)
STRINGS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(" \t'\"\\=@[](){}ab\n\r\0é\u2028\xa0", max_size=8),
    TRAPS,
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | STRINGS
CONTAINERS = st.recursive(
    st.lists(SCALARS, max_size=3) | st.dictionaries(STRINGS, SCALARS, max_size=3),
    lambda items: st.lists(items, max_size=3) | st.dictionaries(STRINGS, items, max_size=3),
    max_leaves=5,
)
IDENTIFIERS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)
TAGS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
BITS = st.one_of(
    st.sampled_from(["@", "@7 ", "ping", " ", "\t", "=", "a=", "a=1", "''", "'", '"', "[", "]", "{", "}", "(", ")"]),
    st.sampled_from(
        ["\\", "\0", "\n", "\r", "é", "\ud800", "'\\ud800'", "nan", "1e999", "\x1c", "[1,", "{'a':", ":1}"]
    ),
    st.text(max_size=3),
)


def bare(text: str) -> Word:
    return Word(text, True)


def quoted(value: Any) -> Word:
    return Word(value, False)


class SplitTests(SynchronousTestCase):
    def split(self, line: str, values: list[Word], **options: Word) -> None:
        self.assertEqual(split(line), Request(None, "cmd", values, options))

    def broken(self, line: str, kind: type[HostError] = BadLiteral) -> Broken:
        broken: Broken = self.assertRaises(Broken, split, line)
        self.assertIs(type(broken.error), kind)
        self.assertLess(len(broken.message), 200)
        return broken

    def test_bare(self) -> None:
        """Plain words need no quotes."""
        self.split(
            "cmd lab/exp1 7 None -1.5 a'b x]", [bare(one) for one in ("lab/exp1", "7", "None", "-1.5", "a'b", "x]")]
        )

    def test_blanks(self) -> None:
        """Any number of blanks and tabs stands between words, before and after them."""
        self.split(" \t cmd\ta \t b \t", [bare("a"), bare("b")])
        self.split("cmd\t'a'\t[1]\tb", [quoted("a"), quoted([1]), bare("b")])

    def test_nothing(self) -> None:
        """A line of blanks has no command."""
        for line in ("", " ", "\t "):
            self.assertEqual(split(line), Request(None, "", [], {}))

    def test_literals(self) -> None:
        """A value in quotes or brackets runs to its end, blanks and other quotes included."""
        self.split("""cmd 'a b' "it's" [1, 'x ]'] {'a b': (1, [None])} ( 7 )""", [
            quoted("a b"), quoted("it's"), quoted([1, "x ]"]), quoted({"a b": (1, [None])}), quoted(7),
        ])  # fmt: skip

    def test_options(self) -> None:
        """Options stand anywhere behind the command, with bare words or literals as values."""
        self.split("cmd wait=0 a keys=['x y', 'z'] b _t1=", [bare("a"), bare("b")], wait=bare("0"),
                   keys=quoted(["x y", "z"]), _t1=bare(""))  # fmt: skip

    def test_optionAlways(self) -> None:
        """C{IDENTIFIER=} begins an option, however long, and whatever follows."""
        name = "a" * 300
        self.split(f"cmd a=b=c d==e {name}=1", [], a=bare("b=c"), d=bare("=e"), **{name: bare("1")})

    def test_noOption(self) -> None:
        """What only looks like an option is a value: in quotes, without a name, with another sign in it."""
        self.split(
            "cmd 'a=b' =b 1=2 x/y=z é=1 -a=b", [quoted("a=b"), *map(bare, ("=b", "1=2", "x/y=z", "é=1", "-a=b"))]
        )

    def test_optionTwice(self) -> None:
        """An option given twice is refused, rather than one of them taken."""
        broken = self.broken("cmd wait=1 wait=1", BadArguments)
        self.assertEqual(broken.message, "option 'wait' was given twice")
        self.assertLess(len(self.broken("cmd " + "w" * 999 + "= " + "w" * 999 + "=", BadArguments).message), 99)

    def test_unterminated(self) -> None:
        """A quote or bracket that is not closed is refused, saying where it began."""
        for line in ("cmd '", "cmd 'a b", 'cmd a "', "cmd [1, 2", "cmd x={'a': 1", "cmd (", "cmd '\\'"):
            message = self.broken(line).message
            self.assertRegex(message, "^unterminated")

    def test_textAfterLiteral(self) -> None:
        """Text stuck to the end of a literal is refused: a blank was forgotten, or a quote is wrong."""
        for line in ("cmd 'a'b", "cmd 'it's mine'", "cmd ['a']['b']", "cmd x='a'y=1", "cmd 'a'\\ "):
            self.assertRegex(self.broken(line).message, "^want a blank after the literal, got ")

    def test_notLiteral(self) -> None:
        """Brackets around what is no value are refused."""
        for line in ("cmd [a]", "cmd {1, 2}", "cmd {1: 2}", "cmd [1e999]", "cmd (nan)", "cmd [1)", "cmd ['\0']"):
            self.broken(line)

    def test_nested(self) -> None:
        """Ten thousand brackets are refused as quickly as one."""
        for opening, closing in ("[]", "()", "{}"):
            self.broken("cmd " + opening * 10_000)
            self.broken("cmd " + opening * 10_000 + closing * 10_000)

    def test_numbers(self) -> None:
        """A number too long to be one stays text, or is refused within a literal."""
        digits = "9" * 5000
        self.split(f"cmd {digits} 1e999 nan", [bare(digits), bare("1e999"), bare("nan")])
        self.broken(f"cmd [{digits}]")

    def test_tag(self) -> None:
        """A tag stands before the command."""
        self.assertEqual(split("@7 cmd a"), Request("7", "cmd", [bare("a")], {}))
        self.assertEqual(split(" @x=[' \tcmd"), Request("x=['", "cmd", [], {}))
        self.assertEqual(split("@7"), Request("7", "", [], {}))
        self.assertEqual(split("cmd @7"), Request(None, "cmd", [bare("@7")], {}))

    def test_tagComesBack(self) -> None:
        """Whatever is wrong with a tagged line, its answer can be told from others, and names the command."""
        for rest in ("'", "['a'", "'a'b", "a=1 a=2", "{1: 2}", "[" * 99, "a " * 20_000, "\0 '", "['\ud800']"):
            broken = self.assertRaises(Broken, split, f"@7 cmd {rest}")
            self.assertEqual((broken.tag, broken.command), ("7", "cmd"))

    def test_badTag(self) -> None:
        """A tag that could not stand in a reply is refused."""
        for tag in ("", "é", "a\0", "7" * 65, "7" * MIB, "\x7f"):
            self.assertRegex(self.broken(f"@{tag} cmd", BadValue).message, "^want a tag of 1 to 64 printable ASCII")
        self.assertEqual(split(f"@{'7' * 64} cmd").tag, "7" * 64)

    def test_error(self) -> None:
        """What is wrong has the code that it would have anywhere else."""
        broken = Broken(NoSuchNode("no node web", node="web"), None, "cmd")
        self.assertEqual(broken.body("cmd"), broken.error.body("cmd"))

    @settings(max_examples=1000, deadline=None)
    @given(st.lists(BITS, max_size=12).map("".join) | st.text())
    def test_garbage(self, line: str) -> None:
        """Whatever comes on a line, it is taken apart or refused, and a tag that is one comes back."""
        try:
            tag = split(line).tag
        except Broken as broken:
            tag = broken.tag
        if line.startswith("@7 "):
            self.assertEqual(tag, "7")

    @given(st.binary() | st.lists(BITS, max_size=12).map(lambda bits: "".join(bits).encode("utf-8", "surrogatepass")))
    def test_garbageBytes(self, line: bytes) -> None:
        """Whatever comes as bytes, once it is text, is taken apart or refused."""
        try:
            request = split(line.decode("utf-8"))
        except (Broken, UnicodeDecodeError):
            return
        self.assertNotIn(" ", request.command)


class JoinTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(
        IDENTIFIERS,
        st.lists(STRINGS | CONTAINERS),
        st.dictionaries(IDENTIFIERS, STRINGS | CONTAINERS),
        st.none() | TAGS,
    )
    def test_roundTrip(self, command: str, values: list[Any], options: dict[str, Any], tag: str | None) -> None:
        """Whatever a client is given to send, the daemon reads the same."""
        line = join(command, values, options, tag)
        self.assertTrue(line.isascii() and line.isprintable(), line)
        request = split(line)
        self.assertEqual((request.tag, request.command), (tag, command))
        self.assertEqual([word.value for word in request.values], values)
        self.assertEqual({name: word.value for name, word in request.options.items()}, options)

    @given(st.none() | st.booleans() | st.integers() | st.floats())
    def test_bareValues(self, value: Any) -> None:
        """Numbers, None and truth values are sent as people type them."""
        self.assertEqual(
            split(join("cmd", [value], {"a": value})), Request(None, "cmd", [bare(str(value))], {"a": bare(str(value))})
        )

    def test_readable(self) -> None:
        """What needs no quotes has none, so that a line in a log can be read and typed again."""
        self.assertEqual(
            join(
                "cmd",
                ["lab/exp1", "a b", "a=b", "", 7, None, [1, "x"], "@7", "it's", "'"],
                {"wait": 2.5, "keys": []},
                "t",
            ),
            "@t cmd lab/exp1 'a b' 'a=b' '' 7 None [1, 'x'] '@7' it's \"'\" wait=2.5 keys=[]",
        )

    def test_escaped(self) -> None:
        """A line end inside a value never ends the line."""
        self.assertEqual(as_word("a\nb\r"), "'a\\nb\\r'")
        self.assertEqual(as_word(["\n", {"\r\n": "\x85"}]), "['\\n', {'\\r\\n': '\\x85'}]")

    def test_noWord(self) -> None:
        """A client's mistake is found at the client: a value that no word stands for is not sent."""
        for value in (b"a b", {1}, object(), 1j):
            self.assertRaises(TypeError, as_word, value)

    def test_noInjection(self) -> None:
        """A command, a tag or an option's name cannot smuggle in another word or line."""
        for command in ("", "a b", "a\nterminate lab/exp1", "@7", "'a'", "a=b"):
            self.assertRaises(BadValue, join, command, [], {})
        for tag in ("", "a b", "a\nping", "é", "7" * 65, "7\t"):
            self.assertRaises(BadValue, join, "ping", [], {}, tag)
        for name in ("", "a b", "a=b", "é", "1", "a\n"):
            self.assertRaises(BadValue, join, "ping", [], {name: 1})


class HostileTests(SynchronousTestCase):
    """The longest line costs the daemon a moment, never more."""

    def spent(self, line: str, bounds: Bounds | None = None) -> float:
        self.assertLessEqual(len(line), MIB)
        began = time.process_time()
        try:
            split(line) if bounds is None else split(line, bounds)
        except Broken:
            pass
        return time.process_time() - began

    def test_longLines(self) -> None:
        """A line of the greatest length is taken apart, or refused, in a fraction of a second, whatever is in it."""
        pieces = """a |ab\t|'|''|'' |"'|=|a=|a= |\\|'\\|[|[] |[],|{} |()\t|(|@| |\t|7|é|][|'a' |x=[] |\\'|'\\' """
        for piece in pieces.split("|"):
            for start in ("cmd ", "", "@7 cmd x=", "cmd ['", "cmd\t"):
                line = (start + piece * MIB)[:MIB]
                if not line.isascii():
                    line = line[: MIB // 2]
                self.assertLess(self.spent(line), 1, f"{start!r} and then {piece!r} again and again")

    def test_differentOptions(self) -> None:
        """Nor do ever new options take long."""
        self.assertLess(self.spent("cmd " + " ".join(f"a{at:x}=1" for at in range(110_000))), 1)

    def test_linear(self) -> None:
        """A line thirty times as long takes some thirty times as long: with tabs between its words too."""
        self.patch(words, "MOST_WORDS", MIB)
        for piece in ("ab\t", "ab "):
            short = min(self.spent("cmd " + piece * 10_000) for _ in range(3))
            self.assertLess(self.spent("cmd " + piece * 300_000), 300 * short, piece)  # quadratic: 900

    def test_mostWords(self) -> None:
        """A request has ten thousand words at most, options included."""
        line = "cmd a=1" + " n" * 9999
        self.assertEqual(len(split(line).values), 9999)
        error = self.assertRaises(Broken, split, line + " n").error
        self.assertEqual(error.message, "want at most 10000 values and options on a line")

    def test_elementsTogether(self) -> None:
        """Many literals on a line may hold no more than one could."""
        bounds = Bounds(MIB, elements=30)
        row = str(list(range(10)))
        self.assertEqual(len(split(f"cmd {row} {row}", bounds).values), 2)
        self.assertIs(
            type(self.assertRaises(Broken, split, f"cmd {row} {row} x={row} {row}", bounds).error), BadLiteral
        )

    def test_textsAreNoElements(self) -> None:
        """Text full of commas is just text."""
        text = repr("," * 1000)
        self.assertEqual(len(split(f"cmd {text} {text} [1]", Bounds(MIB, elements=2)).values), 3)
