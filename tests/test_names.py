"""
Tests for L{hostline.protocol.names}.
"""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol import names
from hostline.protocol.errors import BadValue

GOOD = ("a", "7", "lab", "Lab-2_x", "a-", "a" * 32)
BAD = ("", "-a", "_a", ".", "a.b", "a/b", "a b", "a\n", "a\0", "é", "a\u0301", "²", "a" * 33, "..", "a=b", "'a'")
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", fullmatch=True)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda items: st.lists(items) | st.dictionaries(st.text(), items) | st.tuples(items) | st.tuples(items, items),
)


class NamesTests(SynchronousTestCase):
    def test_legal(self) -> None:
        """Names that can become host names, files and accounts are accepted."""
        for name in GOOD:
            self.assertEqual(names.checked(name, "project"), name)

    def test_illegal(self) -> None:
        """A name that could be taken for a path, an option or another alphabet's is refused."""
        for name in BAD:
            self.assertRaises(BadValue, names.checked, name, "project")

    def test_messages(self) -> None:
        """Who gave a wrong name reads the rule and the name."""
        rule = "letters, digits, '-' and '_', beginning with a letter or digit, at most 32"
        for what, article in (("project", "a"), ("experiment", "an"), ("user", "a")):
            message = self.assertRaises(BadValue, names.checked, "-x", what).message
            self.assertEqual(message, f"want {article} {what} name ({rule}), got '-x'")

    def test_node(self) -> None:
        """A node name may be as long as a DNS label."""
        full = "n" * 63 + ".exp1.lab"
        self.assertEqual(names.split_node(full), ("n" * 63, "lab/exp1"))
        self.assertRaises(BadValue, names.split_node, "n" + full)

    @given(NAMES, NAMES, NAMES)
    def test_roundTrip(self, node: str, experiment: str, project: str) -> None:
        """The full name of a node leads back to the node."""
        full = f"{project}/{experiment}"
        self.assertEqual(names.split_experiment(full), (project, experiment))
        self.assertEqual(names.split_node(names.node_name(node, full)), (node, full))

    def test_notInFull(self) -> None:
        """A name with too few or too many parts is refused, saying what a full one looks like."""
        for name in ("exp1", "", "lab.exp1"):
            self.assertIn("want PROJECT/EXPERIMENT", self.assertRaises(BadValue, names.split_experiment, name).message)
        for name in ("web", "web.exp1", "web.exp1.lab.org", ""):
            self.assertIn("want NODE.EXPERIMENT.PROJECT", self.assertRaises(BadValue, names.split_node, name).message)
        for name in ("/", "lab/", "/exp1", "lab/exp1/web", "lab//exp1", "lab/../x"):
            self.assertRaises(BadValue, names.split_experiment, name)
        for name in ("..", "web..lab", ".exp1.lab", "web.exp1.", "web.ex/p.lab"):
            self.assertRaises(BadValue, names.split_node, name)

    @given(st.text())
    def test_garbage(self, name: str) -> None:
        """Whatever is given as a name is a name or is refused."""
        for split in (names.split_experiment, names.split_node):
            try:
                parts = split(name)
            except BadValue:
                continue
            self.assertIn(parts, [tuple(name.split("/")), (name.split(".")[0], "/".join(name.split(".")[:0:-1]))])


class ShownTests(SynchronousTestCase):
    @given(ANYTHING, st.integers(0, 80))
    def test_length(self, value: Any, longest: int) -> None:
        """What is repeated in a message is never longer than a line, and plain ASCII without line ends."""
        text = names.shown(value, longest)
        self.assertLessEqual(len(text), longest)
        self.assertTrue(text.isascii() and (text.isprintable() or not text))

    @given(ANYTHING)
    def test_whole(self, value: Any) -> None:
        """A short value stands in a message as it would be typed."""
        if len(ascii(value)) <= 60 and ascii(value).count("[") + ascii(value).count("(") + ascii(value).count("{") <= 4:
            self.assertEqual(names.shown(value), ascii(value))

    def test_cut(self) -> None:
        """What is cut says so."""
        for value in ("a" * 61, "é" * 30, [1] * 99, {"a" * 70: 1}, ["a" * 70], ("é" * 70, 2), {"a": ["b" * 70]}):
            self.assertEqual(names.shown(value), ascii(value)[:57] + "...")

    def test_hostile(self) -> None:
        """A huge or deep value costs an error message next to nothing, and can be shown at all."""
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        huge = ["a" * 10_000_000] * 1_000_000
        began = time.process_time()
        for value in (deep, huge, {"a": huge}, "\U0001f600" * 50_000_000, 10**100_000, {"x": [-(10**9999)]}):
            self.assertLessEqual(len(names.shown(value)), 60)
        self.assertLess(time.process_time() - began, 0.5)
        while deep:
            deep = deep.pop()


class NearTests(SynchronousTestCase):
    def test_near(self) -> None:
        """Who mistypes a name is told the right one; the nearest comes first."""
        known = ["lab/exp1", "lab/other", "lab/exp12"]
        self.assertEqual(names.near("lab/epx12", known), " (did you mean lab/exp12 or lab/exp1?)")

    def test_capitals(self) -> None:
        """Capitals do not hide what was meant."""
        self.assertEqual(names.near("PING", ["ping", "help"]), " (did you mean ping?)")

    def test_nothingNear(self) -> None:
        """Nothing is suggested that is not near."""
        self.assertEqual(names.near("zzz", ["ping", "help"]), "")
        self.assertEqual(names.near("", ["ping", "help"]), "")
        self.assertEqual(names.near("ping", []), "")

    def test_suggestsKnownOnly(self) -> None:
        """At most two names are told, whatever was asked."""
        self.assertEqual(names.near("n1", [f"n{at}" for at in range(100)]), " (did you mean n1 or n10?)")

    def test_hostile(self) -> None:
        """Names made to be alike, and an endless one, do not hold up the daemon."""
        known = ["ba" * 62 + format(at, "x") for at in range(100_000)]
        began = time.process_time()
        for _ in range(10):
            names.near("ab" * 500_000, known)
        self.assertLess(time.process_time() - began, 1.2)


class CertificateNameTests(SynchronousTestCase):
    """
    Names in certificates.
    """

    def test_dns(self) -> None:
        """A DNS name is written in one way, whatever its case, with or without what tells that it is one."""
        for name in ("host.example.org", "HOST.Example.ORG", "dns:host.example.org", "DNS:host.example.org"):
            self.assertEqual(names.certificate_name(name), "dns:host.example.org")

    def test_urn(self) -> None:
        """What kind of URN it is may be written in capitals or not; the rest means what it says (RFC 8141)."""
        self.assertEqual(names.certificate_name("URN:Site:user:Ann"), "urn:site:user:Ann")
        self.assertNotEqual(names.certificate_name("urn:site:user:ann"), names.certificate_name("urn:site:user:Ann"))

    def test_stable(self) -> None:
        """What was written once is written so again."""
        for name in ("a", "dns:a.b", "urn:publicid:IDN+site+user+ann"):
            once = names.certificate_name(name)
            self.assertEqual(names.certificate_name(once), once)

    def test_refused(self) -> None:
        """Addresses, wildcards, blanks and other names are refused, and the error says what was wanted."""
        long = "a" * 64
        refused = ["", "*.example.org", "10.0.0.1", "a b", "a..b", "-a.b", "a-.b", "ann@example.org", "urn:", "urn:x:"]
        refused += [f"{long}.org", "https://a.b/c", "urn:a:b c", "urn:a:b\n", "é.org", "urn:a:é", "::1", "dns:urn:a:b"]
        for name in refused:
            error = self.assertRaises(BadValue, names.certificate_name, name)
            self.assertIn("want a DNS name", error.message)
