"""
Our line in the list of login shells.
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise import login_shells

LINE = "/var/lib/hostline/delegates/shell/hostline-shell"
OTHERS = b"# /etc/shells: valid login shells\n/bin/sh\n/var/libXhostline/delegates/shell/hostline-shell\n"


class ShellsTests(SynchronousTestCase):
    """
    A list that others change too.
    """

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.shells = directory / "shells"
        self.lock = directory / "shells.tmp"

    def test_comesAndGoes(self) -> None:
        """
        The line is added once and removed without a trace; what looks like it to a pattern stays.
        """
        self.shells.write_bytes(OTHERS)
        self.shells.chmod(0o640)
        for _ in range(2):
            login_shells.add(LINE, self.shells)
            self.assertEqual(self.shells.read_bytes(), OTHERS + f"{LINE}\n".encode())
        self.assertTrue(login_shells.has(LINE, self.shells))
        for _ in range(2):
            login_shells.remove(LINE, self.shells)
            self.assertEqual(self.shells.read_bytes(), OTHERS)
        self.assertEqual((self.shells.stat().st_mode & 0o777, self.lock.exists()), (0o640, False))

    def test_waitsForOthers(self) -> None:
        """
        While somebody has the list nothing is changed, and his lock stays; one that the dead left does not count.
        """
        self.shells.write_bytes(OTHERS)
        self.lock.write_bytes(b"theirs")
        self.assertRaises(login_shells.Busy, login_shells.add, LINE, self.shells)
        self.assertEqual((self.shells.read_bytes(), self.lock.read_bytes()), (OTHERS, b"theirs"))
        os.utime(self.lock, (1, 1))
        login_shells.add(LINE, self.shells)
        self.assertTrue(login_shells.has(LINE, self.shells))

    def test_needsNoList(self) -> None:
        """
        A host without the file has nothing to be removed from it.
        """
        login_shells.remove(LINE, self.shells)
        self.assertRaises(FileNotFoundError, login_shells.add, LINE, self.shells)

    def test_followsItsLink(self) -> None:
        """
        Where the list is a link, as some distributions have it, it stays one.
        """
        place = self.shells.with_name("real")
        place.write_bytes(OTHERS)
        self.shells.symlink_to(place.absolute())
        login_shells.add(LINE, self.shells)
        self.assertTrue(self.shells.is_symlink())
        self.assertIn(LINE.encode(), place.read_bytes())

    @given(st.binary(max_size=60))
    def test_losesNothing(self, before: bytes) -> None:
        """
        Whatever is in it, in whatever encoding: all other lines are there afterwards, in order.
        """
        self.shells.write_bytes(before)
        login_shells.add(LINE, self.shells)
        self.assertTrue(self.shells.read_bytes().startswith(before))
        login_shells.remove(LINE, self.shells)
        after = self.shells.read_bytes()
        self.assertIn(after, (before, before + b"\n"))
