"""
docs/emulab.md tells of every method and of every command with all its flags.
"""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients.emulab import FORMS
from hostline.server.facades.emulab import METHODS

PAGE = (Path(__file__).parents[1] / "docs" / "emulab.md").read_text("utf-8")


class PageTests(SynchronousTestCase):
    """
    Nothing is left out, and nothing is made up.
    """

    def test_methods(self) -> None:
        """
        Every method, and no other.
        """
        told = set(re.findall(r"`((?:experiment|node|osid|imageid|user|emulab)\.[a-z_]+)`", PAGE)) - {"emulab.listen"}
        self.assertEqual(told, set(METHODS))

    def test_commands(self) -> None:
        """
        Every command, with each of its flags.
        """
        rows = re.findall(r"^\| (`[^|]*`)? ?\| ([^|]*) \|", PAGE.partition("## XML-RPC")[0], re.MULTILINE)
        told: dict[str, str] = {}
        names: list[str] = []
        for first, flags in rows:
            names = re.findall(r"`(\w+)`", first) or names
            for name in names:
                told[name] = told.get(name, "") + flags
        for name, form in FORMS.items():
            self.assertIn(name, told)
            for flag in [*(f"-{letter}" for letter in form.letters if letter != ":"), *form.long]:
                self.assertRegex(told[name], rf"`[^`]*{flag}\b", name)
