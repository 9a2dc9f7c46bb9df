"""
docs/planetlab.md answers for everything that PlanetLab's Node Manager did, and names tests that are there.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "planetlab.md"
_TEST = re.compile(r"`((?:live/)?\w+\.py)::(\w+)\.(test_\w+)`")
#: How long a reason is at least: "later" alone is none.
REASON = 20


def rows(title: str) -> list[list[str]]:
    """
    @return: the cells of each row of the table under a heading, without its head.
    """
    section = PAGE.read_text("utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = [line.strip().strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in found[1:]]


@cache
def written_in(file: str) -> frozenset[tuple[str, str]]:
    """
    @return: class and name of each test that is written in a file.
    """
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    classes = [one for one in tree.body if isinstance(one, ast.ClassDef)]
    return frozenset(
        (one.name, method.name)
        for one in classes
        for method in one.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.name.startswith("test_")
    )


class AnswerTests(SynchronousTestCase):
    """
    Every row of both tables.
    """

    def setUp(self) -> None:
        self.features, self.defects = rows("Feature by feature"), rows("Defect by defect")

    def test_allAreAnswered(self) -> None:
        """
        Each row is done and names a test, or is for later and says why.
        """
        for row in self.features + self.defects:
            self.assertEqual(len(row), 3, row)
            answer = row[2]
            if answer.startswith("**done**: "):
                self.assertTrue(_TEST.search(answer), f"{row[0]}: no test")
            else:
                self.assertTrue(answer.startswith("**later**: "), f"{row[0]}: neither done nor later")
                self.assertGreater(len(answer.removeprefix("**later**: ")), REASON, f"{row[0]}: no reason")

    def test_noneIsMissing(self) -> None:
        """
        All features of the list are there, each once, and so are its 35 defects.
        """
        names = [row[0] for row in self.features]
        self.assertEqual(len(set(names)), len(names))
        self.assertGreaterEqual(len(names), 61)
        self.assertEqual([row[0] for row in self.defects], [str(number) for number in range(1, 36)])
        for name in ("conf_files", "XML-RPC API", "byte budget", "reservations by time (leases)"):
            (answer,) = [row[2] for row in self.features if row[0] == name]
            self.assertTrue(answer.startswith("**later**"), name)

    def test_testsAreThere(self) -> None:
        """
        Each test that is named is in its file, under its class, and every `file::` is read as one.
        """
        text = PAGE.read_text("utf-8")
        named = _TEST.findall(text)
        self.assertGreater(len(named), 100)
        self.assertEqual(len(named) + 1, text.count("::"))  # one says how tests are named
        for file, owner, test in named:
            self.assertTrue((TESTS / file).exists(), file)
            self.assertIn((owner, test), written_in(file), f"{file}::{owner}.{test} is not there")
