"""
The list of the tests that run alone names tests that there are.
"""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.conftest import ALONE


class AloneTests(SynchronousTestCase):
    """
    A test that was renamed would run beside others again, and fail now and then.
    """

    def test_areThere(self) -> None:
        """
        Each has its file, its class and its method.
        """
        for one in ALONE:
            file, *names = one.split("::")
            found: list[ast.stmt] = ast.parse((Path(__file__).parent / "live" / file).read_text()).body
            for name in names:
                inner = [each for each in found if isinstance(each, ast.ClassDef | ast.FunctionDef)]
                self.assertIn(name, [each.name for each in inner], one)
                found = next(each.body for each in inner if each.name == name)
