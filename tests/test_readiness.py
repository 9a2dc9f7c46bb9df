"""
By which sign a guest is up, and that looking for it never takes long.
"""

from __future__ import annotations

import re
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.readiness import MOST_LINE, BadRule, Console, Rule, check_pattern

#: Which take for ever in one way or another, or could.
SLOW = [
    "(a+)+b",
    "(a|aa)*b",
    "(a|a)*b",
    ".*.*.*x",
    "a*a*b",
    "(?:a{0,50}){50}b",
    "(a?){30}a{30}",
    "(.)\\1",
    "(?=a)b",
    "(?<!a)b",
    "((a*))*",
    "a{300}b",
]
GOOD = [
    "login:",
    r"^\S+ login: $",
    "ready|up",
    r"Reached target [A-Z]\w{1,20}",
    "#",
    r"\bok\b",
    "(?i)welcome",
    "x?y?z+",
]


class RuleTests(SynchronousTestCase):
    """
    What an image says.
    """

    def test_rules(self) -> None:
        """
        The four kinds, and nothing else.
        """
        self.assertEqual(Rule.parse("agent"), Rule("agent"))
        self.assertEqual(Rule.parse("started"), Rule("started"))
        self.assertEqual(Rule.parse("tcp:22"), Rule("tcp", port=22))
        self.assertEqual(Rule.parse("console:a:b"), Rule("console", pattern="a:b"))
        for text in ("", "agent:", "tcp:", "tcp:0", "tcp:65536", "tcp:x", "tcp:²", "console:", "up", "console:("):
            with self.assertRaises(BadRule, msg=text):
                Rule.parse(text)

    def test_slowOnes(self) -> None:
        """
        A pattern whose search is not bounded is refused, in words.
        """
        for pattern in SLOW:
            with self.assertRaises(BadRule, msg=pattern) as caught:
                check_pattern(pattern)
            self.assertTrue(str(caught.exception))
        for pattern in GOOD:
            check_pattern(pattern)

    @settings(max_examples=300, deadline=None)
    @given(st.text("ab()|*+?.{}[]\\^$1,", max_size=30), st.text("ab", max_size=MOST_LINE))
    def test_neverLong(self, pattern: str, line: str) -> None:
        """
        Whatever pattern is taken, looking through a line takes next to no time.
        """
        try:
            check_pattern(pattern)
        except BadRule:
            return
        began = time.process_time()
        re.compile(pattern).search(line + "!")
        self.assertLess(time.process_time() - began, 0.2)


class ConsoleTests(SynchronousTestCase):
    """
    Listening to a console.
    """

    @given(st.lists(st.integers(1, 9), max_size=12))
    def test_inPieces(self, sizes: list[int]) -> None:
        """
        The sign is found however it comes, also in a line that has not ended.
        """
        data = b"booting\r\n\x1b[1mweb\x1b[0m login: "
        console = Console(r"^\w+ login:")
        for size in sizes:
            console.feed(data[:size])
            data = data[size:]
        self.assertTrue(console.feed(data))
        self.assertTrue(console.feed(b"\nmore"))

    def test_notThere(self) -> None:
        """
        A sign is not put together of two lines, and a line without an end is not kept.
        """
        console = Console("login:")
        self.assertFalse(console.feed(b"log\nin:"))
        for _ in range(100):
            console.feed(b"x" * 10000)
        self.assertLessEqual(len(console._line), MOST_LINE)
        self.assertFalse(console.found)
