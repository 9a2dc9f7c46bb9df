"""
Every sliver its own uid.
"""

from __future__ import annotations

import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from hostline.server.supervise.uids import UidRange, Uids, accounts


class UidTests(unittest.TestCase):
    """
    Given, noted, kept, and given back.
    """

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name)

    def test_followsTheSerial(self) -> None:
        """
        The uid is first + serial % size, or the next that is free.
        """
        uids = UidRange(1000, 10)
        self.assertEqual(uids.allocate(23, lambda uid: False), 1003)
        self.assertEqual(uids.allocate(23, lambda uid: uid == 1003), 1004)
        self.assertEqual(uids.allocate(9, lambda uid: uid == 1009), 1000)
        with self.assertRaises(ValueError):
            uids.allocate(1, lambda uid: True)

    def test_isKeptByTheNextDaemon(self) -> None:
        """
        A uid is noted before it is used, and never given twice at a time.
        """
        uids = Uids(self.path, UidRange(1000, 10), {1003})
        self.assertEqual([uids.ensure(n) for n in (3, 13, 3)], [1004, 1005, 1004])
        again = Uids(self.path, UidRange(1000, 10), {1003})
        again.load()
        self.assertEqual(again.by_serial, {3: 1004, 13: 1005})
        again.forget(3)
        self.assertEqual(again.ensure(23), 1004)

    def test_isOnTheDiskBeforeItIsUsed(self) -> None:
        """
        The note of a uid that does not follow from the serial, and the names that lead to it, last through a power
        failure.
        """
        synced: list[str] = []
        with mock.patch("os.fsync", lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))):
            Uids(self.path, UidRange(1000, 10), {1003}).ensure(3)
        path = self.path.resolve()
        self.assertEqual(synced, [f"{path}/3/uid.new", f"{path}/3", str(path)])

    def test_waitsForNoDiskWhereTheNoteCanBeLost(self) -> None:
        """
        A uid that follows from the serial is the same again without its note, so that a thousand slivers are not held
        up by the disk.
        """
        with mock.patch("os.fsync", side_effect=AssertionError):
            given = Uids(self.path, UidRange(1000, 10), set()).ensure(3)
        (self.path / "3" / "uid").unlink()
        again = Uids(self.path, UidRange(1000, 10), set())
        again.load()
        self.assertEqual(again.ensure(3), given)

    def test_isNoUidWhenDamaged(self) -> None:
        """
        A note that is cut short or garbled is none.
        """
        for serial, text in enumerate(("100", "", "x\n", "1 2\n", "\xff\n"), 1):
            (self.path / str(serial)).mkdir()
            (self.path / str(serial) / "uid").write_text(text, "latin-1")
        uids = Uids(self.path, UidRange(1000, 10), set())
        uids.load()
        self.assertEqual(uids.by_serial, {})

    def test_isNoAccounts(self) -> None:
        """
        Accounts, groups and the ranges of their containers are taken.
        """
        (self.path / "passwd").write_text("root:x:0:0::/:/bin/sh\nbroken\nme:x:1005:7::/:/bin/sh\n")
        (self.path / "group").write_text("staff:x:1006:\n")
        (self.path / "subuid").write_text("me:2000:10\nme:x:y\n")
        taken = accounts(self.path)
        self.assertEqual([uid for uid in (0, 7, 1005, 1006, 1999, 2000, 2009, 2010) if uid in taken],
                         [0, 1005, 1006, 2000, 2009])  # fmt: skip
