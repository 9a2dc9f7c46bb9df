"""
The pages that follow from the code are those in git, and what the others say is still there.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol import commands, kinds
from tools import pages

ROOT = pages.DOCS.parent


class GeneratedPartsTests(SynchronousTestCase):
    """
    docs/protocol.md and docs/daemon.md.
    """

    def test_inDate(self) -> None:
        """
        The generated parts are what the code says; C{make docs} makes them so.
        """
        for path, text in pages.pages().items():
            self.assertEqual(path.read_text("utf-8"), text, f"docs/{path.name} is out of date; make docs")

    def test_everyCommand(self) -> None:
        """
        The protocol page has usage and help of every command.
        """
        part = pages.command_part()
        for row in commands.ROWS:
            self.assertIn(f"### {row.name}\n\n    {row.usage}\n\n{row.help}\n", part)

    def test_newCommandIsMissed(self) -> None:
        """
        A page that does not have a command yet is out of date.
        """
        row = commands.Command("shine", (), kinds.STRING, frozenset({"anyone"}), "Shine.")
        self.patch(commands, "ROWS", (*commands.ROWS, row))
        text = pages.pages()[pages.DOCS / "protocol.md"]
        self.assertIn("### shine\n\n    shine\n\nShine.\n\n- For anyone.\n- Reply: `shine_reply`", text)
        self.assertNotEqual((pages.DOCS / "protocol.md").read_text("utf-8"), text)

    def test_markersMissing(self) -> None:
        """
        A page whose markers were lost is an error, not a page that is never written again.
        """
        self.assertRaises(ValueError, pages.filled, "no markers\n", "commands", "x")

    def test_everyKindIsDescribed(self) -> None:
        """
        Every argument, option and reply has a doc.
        """
        for row in commands.ROWS:
            for kind in [kind for _, kind in row.args] + [kind for kind, _ in row.all_options.values()] + [row.reply]:
                self.assertTrue(kind.doc, f"{row.name}: {kind.name}")


class LinksTests(SynchronousTestCase):
    """
    What a page points to.
    """

    def test_linksLeadSomewhere(self) -> None:
        """
        Every link between our pages leads to a file, and to a heading in it.
        """
        found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
        headings = {path: _anchors(path.read_text("utf-8")) for path in found}
        for path in found:
            for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
                if "://" in link:
                    continue
                name, _, anchor = link.partition("#")
                target = (path.parent / name).resolve() if name else path
                self.assertTrue(target.exists(), f"{path.name}: {link}")
                if anchor:
                    self.assertIn(anchor, headings.get(target, set()), f"{path.name}: {link}")


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
