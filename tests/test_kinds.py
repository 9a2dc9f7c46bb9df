"""
Tests for L{hostline.protocol.kinds} and L{hostline.protocol.shapes}.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol import kinds, literal, shapes
from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadValue
from hostline.protocol.kinds import Kind, choice, listing, mapping, maybe, number, record
from hostline.protocol.words import Word, as_word, split

ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from(["\ud800", "lab/exp1", "web.exp1.lab", b"", 1j, {1}, object(), int, "host", "ssh-rsa AAAA"]),
    lambda items: (
        st.lists(items, max_size=3)
        | st.tuples(items, items)
        | st.dictionaries(st.text() | st.integers() | st.none(), items, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "nodes", "time", "cursor"]), items)
    ),
    max_leaves=6,
)


def within(kind: Kind) -> Iterator[Kind]:
    yield kind
    for one in (*kind.fields.values(), *kind.parts):
        yield from within(one)


def everywhere() -> dict[int, tuple[str, Kind]]:
    """Each Kind there is, with where it was found."""
    found = [(name, one) for module in (kinds, shapes) for name, one in vars(module).items() if isinstance(one, Kind)]
    for row in TABLE.values():
        found += [(f"{row.name} {name}", kind) for name, kind in row.args]
        found += [(f"{row.name} {name}=", kind) for name, (kind, _) in row.all_options.items()]
        found.append((row.reply_word, row.reply))
    return {id(one): (where, one) for where, outer in found for one in within(outer)}


KINDS = everywhere()


class EveryKindTests(SynchronousTestCase):
    def test_named(self) -> None:
        """Usage lines and the protocol's page can name and explain every value."""
        for where, kind in KINDS.values():
            self.assertTrue(kind.name.strip(), where)
            self.assertTrue(kind.doc.strip(), where)
            self.assertTrue((kind.name + kind.doc).isascii() and (kind.name + kind.doc).isprintable(), where)

    @given(ANYTHING)
    def test_fits(self, value: Any) -> None:
        """Whatever is in a reply, a test can ask whether it fits; what does not is told in one short line."""
        for where, kind in KINDS.values():
            wrong = kind.fits(value)
            if wrong is not None:
                self.assertIn("want ", wrong, where)
                self.assertTrue(wrong.isascii() and wrong.isprintable() and len(wrong) < 400, where)

    @given(
        st.text()
        | st.sampled_from(["nan", "inf", "1e999", "-1", "9" * 5000, "0" * 99, "1_0", "\u0663", "+30m", ".", ""])
    )
    def test_bare(self, text: str) -> None:
        """Whatever word is typed is read or refused; what was read is of the Kind."""
        for where, kind in KINDS.values():
            try:
                value = kind.read(Word(text, True), "it")
            except BadValue as error:
                self.assertRegex(error.message, "^it: .*want ")
                continue
            self.assertIsNone(kind.fits(value), where)

    @given(ANYTHING)
    def test_quoted(self, value: Any) -> None:
        """Whatever literal is given is read or refused; what was read could stand in a reply."""
        for where, kind in KINDS.values():
            if kind is kinds.LITERAL or kinds.LITERAL in within(kind):
                continue
            try:
                read = kind.read(Word(value, False), "it")
            except BadValue:
                continue
            literal.check({"it": read if not isinstance(read, dict) else sorted(map(str, read))})
            self.assertIsNone(kind.fits(read), where)

    def test_hostile(self) -> None:
        """A huge, deep or senseless value is refused in no time."""
        deep: list[Any] = []
        for _ in range(10_000):
            deep = [deep]
        values: list[Any] = [
            deep,
            {"name": deep},
            10**5000,
            "x" * 10_000_000,
            ["x" * 1_000_000] * 100_000,
            float("nan"),
        ]
        began = time.process_time()
        for _, kind in KINDS.values():
            for value in values:
                kind.fits(value)
        self.assertLess(time.process_time() - began, 5)


class ReadTests(SynchronousTestCase):
    def reads(self, kind: Kind, line: str, value: Any) -> None:
        (word,) = split(f"cmd {line}").values
        read = kind.read(word, "it")
        self.assertEqual((type(read), read), (type(value), value))

    def refuses(self, kind: Kind, line: str, wanted: str) -> None:
        (word,) = split(f"cmd {line}").values
        message = self.assertRaises(BadValue, kind.read, word, "it").message
        self.assertTrue(message.startswith(f"it: {wanted}"), message)
        self.assertIn(", got ", message)

    def test_names(self) -> None:
        """A name may be quoted or not; what is none is told the rule."""
        for kind in (kinds.PROJECT, kinds.USER, kinds.DELEGATE, kinds.EXPERIMENT_NAME, kinds.NODE):
            self.reads(kind, "lab-1", "lab-1")
            self.reads(kind, "'None'", "None")
            self.reads(kind, "7", "7")
            for line in ("-lab", "a/b", "''", "'a b'", "a" * 64):
                self.refuses(kind, line, "want a")
        self.refuses(kinds.PROJECT, "-x", "want a project name (letters, digits")
        self.refuses(kinds.EXPERIMENT_NAME, "(7)", "want an experiment name, got 7")
        self.refuses(kinds.USER, "['a']", "want a user name, got ['a']")

    def test_fullNames(self) -> None:
        """An experiment and a node are named in full."""
        self.reads(kinds.EXPERIMENT, "lab/exp1", "lab/exp1")
        self.reads(kinds.FULL_NODE, "'web.exp1.lab'", "web.exp1.lab")
        self.refuses(kinds.EXPERIMENT, "exp1", "want PROJECT/EXPERIMENT, got 'exp1'")
        self.refuses(kinds.EXPERIMENT, "(1)", "want PROJECT/EXPERIMENT, got 1")
        self.refuses(kinds.FULL_NODE, "web", "want NODE.EXPERIMENT.PROJECT, got 'web'")

    def test_numbers(self) -> None:
        """Numbers are whole, within bounds that are told, and never larger than what can be kept."""
        percent = number("PERCENT", "a part", 0, 100)
        for line, value in (("0", 0), ("100", 100), ("(7)", 7), ("007", 7), ("-0", 0)):
            self.reads(percent, line, value)
        for line in ("-1", "101", "(101)", "True", "(True)", "(1.0)", "'7'", "None", "99999999999999999999", "[7]"):
            self.refuses(percent, line, "want a whole number")
        self.refuses(percent, "101", "want a whole number from 0 to 100, got 101")
        self.refuses(kinds.OPERATION, "0", "want a whole number from 1, got 0")
        for line in ("seven", "7.0", "1_000", "0x10", "+7", "--7", "-", "1e3", "\u0663", "''"):
            self.refuses(kinds.INT, line, "want a whole number, got ")

    def test_largeNumbers(self) -> None:
        """A number too large for the store is refused at once."""
        self.reads(kinds.COUNT, str(2**63 - 1), 2**63 - 1)
        self.reads(kinds.INT, str(1 - 2**63), 1 - 2**63)
        for line in (str(2**63), f"({2**63})", "9" * 5000, f"({'9' * 4000})"):
            self.refuses(kinds.COUNT, line, "want a whole number of at most 63 bits, got ")

    def test_seconds(self) -> None:
        """A time span has a unit or is in seconds."""
        for line, value in (
            ("30", 30.0), ("2.5", 2.5), (".5", 0.5), ("10m", 600.0), ("2h", 7200.0), ("1d", 86400.0), ("(30)", 30)
        ):  # fmt: skip
            self.reads(kinds.SECONDS, line, value)
        for line in ["m", "ten", "1w", "1m30s", "nan", "inf", "infinity", "1_0", "1e", "٣", "2,5", "d", ".", "-"]:
            self.refuses(kinds.SECONDS, line, "want seconds such as 30, 2.5 or 10m, got ")
        for line in ("-1", "1e999", "(-1)", "'30'", "99999d", "True", "[1]"):
            self.refuses(kinds.SECONDS, line, "want seconds ")

    @given(st.floats(0, 10**9))
    def test_anySeconds(self, seconds: float) -> None:
        """A client that asks for what is left of its own deadline is understood, however odd the number."""
        self.reads(kinds.SECONDS, as_word(seconds), seconds)

    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_floats(self, value: float) -> None:
        """A number that a program wrote is read as the same number."""
        self.reads(kinds.FLOAT, as_word(value), value)

    def test_notFinite(self) -> None:
        """What is not a finite number is none."""
        for line in ("1e999", "-1e999"):
            self.refuses(kinds.FLOAT, line, "want a finite number, got ")
        for line in ("nan", "inf", "x", "1e", "1_0"):
            self.refuses(kinds.FLOAT, line, "want a number, got ")
        for value in (float("nan"), float("inf"), "1", True, None):
            self.assertIsNotNone(kinds.FLOAT.fits(value))

    def test_flags(self) -> None:
        """True and False are so written."""
        self.reads(kinds.FLAG, "True", True)
        self.reads(kinds.FLAG, "(False)", False)
        for line in ("true", "1", "yes", "'True'", "None", "(1)"):
            self.refuses(kinds.FLAG, line, "want True or False, got ")

    def test_text(self) -> None:
        """Text may be anything that is text, up to its length."""
        for line, value in (("word", "word"), ("'a b\\n\\0'", "a b\n\0"), ("7", "7"), ("None", "None"), ("''", "")):
            self.reads(kinds.TEXT, line, value)
        for line in ("(7)", "['a']", "'\\ud800'", "'a\\udfffb'"):
            self.refuses(kinds.TEXT, line, "want text")
        wrong = kinds.TEXT.fits("x" * (kinds.LONGEST_TEXT + 1))
        self.assertEqual(wrong, f"want at most {kinds.LONGEST_TEXT} characters, got {kinds.LONGEST_TEXT + 1}")
        self.assertIsNone(kinds.TEXT.fits("x" * kinds.LONGEST_TEXT))

    def test_words(self) -> None:
        """One word is one: a script whose variable is empty does not send an empty token."""
        for line in ("abc", "'abc'", "a" * 200, "a/b:7"):
            self.reads(kinds.WORD, line, line.strip("'"))
        for line in ("''", "'a b'", "'a\\n'", "a" * 201, "(7)", "['a']", "'\\ud800'"):
            self.refuses(kinds.WORD, line, "want one word of 1 to 200 characters, got ")

    def test_choices(self) -> None:
        """Who chose none of the words is told all."""
        self.reads(kinds.FORMAT, "json", "json")
        self.refuses(kinds.FORMAT, "xml", "want literal or json, got 'xml'")
        self.refuses(choice("C", "c", "a", "b", "c"), "['a']", "want a, b or c, got ['a']")
        self.refuses(choice("C", "c", "a"), "b", "want a, got 'b'")

    def test_sums(self) -> None:
        """A SHA-256 sum has 64 small hexadecimal digits."""
        self.reads(kinds.SHA256, "0f" * 32, "0f" * 32)
        for line in ("0f" * 31, "0F" * 32, "0g" * 32, "''", "(7)", "'" + "0f" * 16 + "\\n" * 16 + "0f" * 8 + "'"):
            self.refuses(kinds.SHA256, line, "want 64 hexadecimal digits, got ")

    def test_keys(self) -> None:
        """What is no public key, a private one above all, is refused."""
        self.reads(kinds.KEY, "'ssh-ed25519 AAAAC3 me@here'", "ssh-ed25519 AAAAC3 me@here")
        private = "'-----BEGIN OPENSSH PRIVATE KEY-----'"
        for line in (
            private, "ssh-ed25519", "'AAAA me'", "'ssh-rsa AAAA\\nssh-rsa BBBB'", "'no-pty ssh-rsa AAAA'", "(7)", "''"
        ):  # fmt: skip
            self.refuses(kinds.KEY, line, "want an OpenSSH public key such as ")

    def test_topics(self) -> None:
        """Topics are those of the protocol's page, and nothing that looks nearly so."""
        for line in ("all", "host", "audit", "operation/17", "experiment/lab/exp1", "sliver/web.exp1.lab"):
            self.reads(kinds.TOPIC, line, line)
        wrong = "everything|host/|all/x|operation|operation/|operation/x|operation/\u0663|''|(7)|/|['all']"
        for line in (*wrong.split("|"), "experiment/lab", "experiment/", "sliver/web", "sliver/", "a" * 300):
            self.refuses(kinds.TOPIC, line, "want a topic (experiment/PROJECT/EXPERIMENT, ")


class PartsTests(SynchronousTestCase):
    def refused(self, kind: Kind, value: Any, message: str) -> None:
        self.assertEqual(self.assertRaises(BadValue, kind.read, Word(value, False), "it").message, f"it: {message}")

    def test_list(self) -> None:
        """A list is in brackets, round ones too; one bare word is a list of that."""
        many = listing(kinds.COUNT)
        self.assertEqual(many.read(Word([1, 2], False), "it"), [1, 2])
        self.assertEqual(many.read(Word("7", True), "it"), [7])
        self.refused(many, 7, "want a list, got 7")
        self.refused(many, "7", "want a list, got '7'")
        self.refused(many, [1, 2, "x"], "item 3: want a whole number from 0, got 'x'")
        self.assertEqual(
            self.assertRaises(BadValue, many.read, Word("x", True), "it").message, "it: want a whole number, got 'x'"
        )

    def test_longList(self) -> None:
        """A list in a request has a limit, which is told before anything in it is looked at."""
        row = TABLE["add_delegate"]
        for option in ("keys", "commands", "slivers"):
            kind = row.all_options[option][0]
            wrong = self.assertRaises(BadValue, kind.read, Word([7] * (kinds.MOST_ITEMS + 1), False), option)
            self.assertEqual(wrong.message, f"{option}: want at most {kinds.MOST_ITEMS} items, got 1001")

    def test_tuples(self) -> None:
        """What was typed as a tuple comes back as a list, as it would in JSON."""
        for kind in (listing(listing(kinds.COUNT)), kinds.LITERAL):
            self.assertEqual(kind.read(Word(((1, 2), [(3)]), False), "it"), [[1, 2], [3]])
        self.assertEqual(kinds.LITERAL.read(Word({"a": (1, {"b": ()})}, False), "it"), {"a": [1, {"b": []}]})
        self.assertEqual(listing(kinds.COUNT).fits((1, 2)), "want a list, got (1, 2)")

    def test_mapping(self) -> None:
        """A wrong key or value of a dict is told with its key."""
        quota = mapping(kinds.WORD, kinds.COUNT, "QUOTA", "resource to amount")
        self.assertEqual(quota.read(Word({"a": 1}, False), "it"), {"a": 1})
        self.refused(quota, {"a": 1, "b": -1}, "'b': want a whole number from 0, got -1")
        self.refused(quota, {"a b": 1}, "'a b': want one word of 1 to 200 characters, got 'a b'")
        self.refused(quota, [], "want a dict, got []")
        self.assertEqual(
            self.assertRaises(BadValue, quota.read, Word("a", True), "it").message, "it: want a dict, got 'a'"
        )

    def test_record(self) -> None:
        """A dict with a key missing or wrong is told which; further keys are let through."""
        loan = record("LOAN", "a loan", {"to": kinds.PROJECT, "amount": kinds.COUNT}, {"until": kinds.TIME})
        self.assertEqual(loan.read(Word({"to": "lab", "amount": 1, "new": {}}, False), "it")["new"], {})
        self.refused(loan, {"to": "lab"}, "want the key 'amount'")
        self.refused(loan, {"to": "lab", "amount": "x"}, "amount: want a whole number from 0, got 'x'")
        self.refused(loan, {"to": "lab", "amount": 1, "until": "x"}, "until: want a finite number, got 'x'")
        self.refused(loan, 7, "want a dict, got 7")
        nested = listing(mapping(kinds.WORD, loan, "LOANS", "by name"))
        self.refused(nested, [{"a": {"to": "lab"}}], "item 1: 'a': want the key 'amount'")

    def test_maybe(self) -> None:
        """None is a value of its own where it is one."""
        count = maybe(kinds.COUNT)
        for word, value in (
            (Word("None", True), None),
            (Word(None, False), None),
            (Word("7", True), 7),
            (Word(7, False), 7),
        ):
            self.assertEqual(count.read(word, "it"), value)
        self.refused(count, "None", "want a whole number from 0, got 'None'")
        self.assertEqual(
            self.assertRaises(BadValue, count.read, Word("none", True), "it").message,
            "it: want a whole number, got 'none'",
        )

    def test_status(self) -> None:
        """The status of a node is a list of two, as it always was."""
        good = {
            "hv:qemu:pnode-0000": {"a": ["booted", 0], "b": ["running", None], "c": [None, None], "d": ["dead", 137]}
        }
        self.assertIsNone(shapes.STATUS.fits(good))
        for pair in (("booted", 0), ["booted"], ["booted", 0, 0], ["up", 0], ["booted", "0"], ["booted", True], None):
            self.assertIsNotNone(shapes.STATUS.fits({"hv:qemu:pnode-0000": {"a": pair}}), pair)
