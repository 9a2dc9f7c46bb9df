"""
The archive of the audit log: nothing is lost, nothing is twice, whatever ends the one who moves it and whenever.
"""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
from itertools import islice, pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server import archive, database
from hostline.server.archive import Archive, ArchiveTrouble, Part
from hostline.server.events import Event


class Died(Exception):
    """
    The daemon is killed here.
    """


def row(cursor: int, text: str = "x") -> str:
    body = {"cursor": cursor, "time": 1.5, "topic": "audit", "what": "add_user", "request": "r-1", "arguments": text}
    return Event(cursor, body).as_json()


class ArchiveCase(SynchronousTestCase):
    """
    @ivar state: the file with the table.
    """

    def setUp(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.state = database.connect(self.directory / "host.db")
        self.addCleanup(self.state.close)
        self.state.execute("PRAGMA synchronous = OFF")  # no power fails here
        database.bring_up_to_date(self.state, self.directory / "host.db")
        self.archive = Archive(self.directory / "audit")

    def add(self, *cursors: int) -> None:
        self.state.execute("BEGIN")
        self.state.executemany("INSERT INTO audit VALUES (?, ?)", [(cursor, row(cursor)) for cursor in cursors])
        self.state.execute("COMMIT")

    def forget(self, cursor: int) -> None:
        """
        The events up to this one are no longer kept.
        """
        self.state.execute("INSERT OR REPLACE INTO meta VALUES ('forgotten', ?)", (cursor,))

    def rotate(self, entries: int = 100, files: int = 0) -> None:
        for _ in self.archive.rotate(self.state, entries, files):
            pass

    def left(self) -> list[int]:
        """
        The cursors that the state still has.
        """
        return [cursor for (cursor,) in self.state.execute("SELECT cursor FROM audit ORDER BY cursor")]

    def names(self) -> list[str]:
        return [part.path.name for part in self.archive.parts()]

    def all(self, since: int = 0) -> list[int]:
        """
        The cursors of the whole log.
        """
        return [cursor for step in self.archive.read(self.state, since) for cursor, _ in step]


class RotationTests(ArchiveCase):
    """
    Old entries go to files.
    """

    def test_movesTheOldest(self) -> None:
        """
        When there are too many, three quarters of what may be there stay; the rest is in one file, one line each.
        """
        self.add(*range(1, 102))
        self.forget(101)
        self.rotate()
        self.assertEqual(self.left(), list(range(27, 102)))
        self.assertEqual(self.names(), ["audit-1-26.jsonl.gz"])
        lines = gzip.decompress((self.directory / "audit" / self.names()[0]).read_bytes()).decode("ascii").split("\n")
        self.assertEqual(lines.pop(), "")
        self.assertEqual([json.loads(line) for line in lines], [json.loads(row(one))["body"] for one in range(1, 27)])

    def test_leavesAFewAlone(self) -> None:
        """
        As long as there are no more than may be, nothing is moved and no directory is made.
        """
        self.add(*range(1, 101))
        self.forget(100)
        self.rotate()
        self.assertEqual(len(self.left()), 100)
        self.assertFalse((self.directory / "audit").exists())

    def test_leavesWhatIsStillAmongTheEvents(self) -> None:
        """
        What C{events} shows is in the state, so that a daemon that starts again shows it too.
        """
        self.add(*range(1, 201))
        self.forget(40)
        self.rotate()
        self.assertEqual(self.left(), list(range(41, 201)))
        self.rotate()
        self.assertEqual(self.names(), ["audit-1-40.jsonl.gz"])

    def test_isNobodyElses(self) -> None:
        """
        Only the daemon's user can read the files, or see their names.
        """
        self.addCleanup(os.umask, os.umask(0))
        self.add(*range(1, 201))
        self.forget(200)
        self.rotate()
        self.assertEqual((self.directory / "audit").stat().st_mode & 0o777, 0o700)
        self.assertEqual(self.archive.parts()[0].path.stat().st_mode & 0o777, 0o600)

    def test_makesFilesOfABoundedSize(self) -> None:
        """
        However many have come together, one file has only so many, for nothing else is written while they are deleted.
        """
        self.patch(archive, "FILE_ENTRIES", 30)
        self.patch(archive, "STEP", 7)
        self.add(*range(1, 201))
        self.forget(200)
        self.rotate()
        self.assertEqual(
            self.names(),
            [
                "audit-1-30.jsonl.gz",
                "audit-31-60.jsonl.gz",
                "audit-61-90.jsonl.gz",
                "audit-91-120.jsonl.gz",
                "audit-121-125.jsonl.gz",
            ],
        )
        self.assertEqual(self.all(), list(range(1, 201)))

    def test_keepsAsManyFilesAsWanted(self) -> None:
        """
        C{files} of them are kept, the newest; what is left over is still read without a gap.
        """
        self.patch(archive, "FILE_ENTRIES", 30)
        self.add(*range(1, 201))
        self.forget(200)
        self.rotate(files=2)
        self.assertEqual(self.names(), ["audit-91-120.jsonl.gz", "audit-121-125.jsonl.gz"])
        self.assertEqual(self.all(), list(range(91, 201)))

    def test_keepsWhatIsDamaged(self) -> None:
        """
        A row that is no entry goes to the file as it is, and harms no other.
        """
        damaged = [
            "",
            "{",
            '{"body":{"cursor":9},"scope":null}',
            '{"body":{"cursor":4,"x":"\n"},"scope":null}',
            "[1]",
            "\u20ac",
        ]
        self.add(*range(10, 201))
        for cursor, text in enumerate(damaged, 1):
            self.state.execute("INSERT INTO audit VALUES (?, ?)", (cursor, text))
        before = [line for step in self.archive.read(self.state, 0) for line in step]
        self.forget(200)
        self.rotate()
        self.assertEqual([line for step in self.archive.read(self.state, 0) for line in step], before)
        self.assertEqual([cursor for cursor, _ in before], [*range(1, 7), *range(10, 201)])

    def test_saysThatTheDiskIsFull(self) -> None:
        """
        What cannot be written leaves all as it was, without a half made file; the next time it is moved.
        """
        self.add(*range(1, 201))
        self.forget(200)
        fsync = os.fsync

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", full)
        self.assertRaises(OSError, self.rotate)
        self.assertEqual(len(self.left()), 200)
        self.assertEqual(list((self.directory / "audit").iterdir()), [])
        self.patch(os, "fsync", fsync)
        self.rotate()
        self.assertEqual(self.all(), list(range(1, 201)))


class CrashTests(ArchiveCase):
    """
    The daemon is killed while entries are moved.
    """

    def test_isHarmlessOnceTheFileIsThere(self) -> None:
        """
        Killed between the file and the deletion: the next daemon deletes what is in the file, and writes nothing twice.
        """
        self.add(*range(1, 201))
        self.forget(200)
        take_out = self.archive._take_out
        self.patch(self.archive, "_take_out", self.die)
        self.assertRaises(Died, self.rotate)
        self.patch(self.archive, "_take_out", take_out)
        before = self.archive.parts()[0].path.read_bytes()
        self.assertEqual((len(self.left()), self.all()), (200, list(range(1, 201))))
        self.add(*range(201, 300))
        self.forget(299)
        self.rotate(1000)
        self.assertEqual(self.left(), list(range(126, 300)))
        self.assertEqual(self.names(), ["audit-1-125.jsonl.gz"])
        self.assertEqual(self.archive.parts()[0].path.read_bytes(), before)
        self.assertEqual(self.all(), list(range(1, 300)))

    def die(self, *_: object) -> None:
        raise Died

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.integers(1, 80), st.integers(0, 12)), min_size=1, max_size=8))
    def test_losesNothingAtAnyStep(self, lives: list[tuple[int, int]]) -> None:
        """
        Whatever comes in between and however far each daemon gets, every entry is read once, in order.
        """
        self.begin()
        self.patch(archive, "FILE_ENTRIES", 11)
        self.patch(archive, "STEP", 4)
        self.patch(archive, "READ_STEP", 3)
        self.patch(os, "fsync", lambda descriptor: None)
        cursor = 0
        for more, steps in lives:
            self.add(*range(cursor + 1, cursor + more + 1))
            cursor += more
            self.forget(cursor)
            # Let go of after some steps, and left as a kill leaves it.
            rotation = self.archive.rotate(self.state, 20, 0)
            for _ in islice(rotation, steps):
                self.assertEqual(self.all(), list(range(1, cursor + 1)))
        self.assertEqual(self.all(), list(range(1, cursor + 1)))
        self.rotate(20)
        self.assertLessEqual(len(self.left()), 20)
        self.assertEqual(self.all(), list(range(1, cursor + 1)))
        bounds = [(part.first, part.last) for part in self.archive.parts()]
        self.assertTrue(all(one[1] < two[0] for one, two in pairwise(bounds)), bounds)

    def test_doesNotBelieveAnotherHostsFile(self) -> None:
        """
        A file that holds other entries than the state has under its cursors deletes nothing.
        """
        other = self.directory / "audit"
        other.mkdir()
        with gzip.open(other / "audit-1-90.jsonl.gz", "wt", encoding="ascii") as file:
            file.write("".join(f"{json.dumps({'cursor': cursor})}\n" for cursor in range(1, 91)))
        self.add(*range(1, 201))
        self.forget(200)
        self.assertIn("audit-1-90", str(self.assertRaises(ArchiveTrouble, self.rotate)))
        self.assertEqual(len(self.left()), 200)

    def test_goesOnFromAnOlderState(self) -> None:
        """
        With a restored state, older than its files, nothing is lost that the files no longer have.
        """
        self.patch(archive, "FILE_ENTRIES", 30)
        self.add(*range(1, 201))
        self.forget(200)
        self.rotate(files=2)
        self.state.execute("DELETE FROM meta WHERE name = 'audit_rotated'")
        self.add(*range(1, 121))
        self.patch(archive, "FILE_ENTRIES", 29)
        self.rotate(60)
        self.assertEqual(self.all(), list(range(1, 201)))
        self.rotate(40)
        self.assertEqual(self.all(), list(range(1, 201)))


class ReadingTests(ArchiveCase):
    """
    All of the log, from files and state.
    """

    def setUp(self) -> None:
        super().setUp()
        self.patch(archive, "FILE_ENTRIES", 30)
        self.add(*range(1, 201))
        self.forget(200)

    def test_beginsAnywhere(self) -> None:
        """
        What came after a cursor is read, wherever it stands.
        """
        self.rotate()
        for since in (0, 1, 29, 30, 31, 119, 120, 121, 199, 200, 1000):
            self.assertEqual(self.all(since), list(range(since + 1, 201)), since)

    def test_missesNothingThatIsMovedMeanwhile(self) -> None:
        """
        Entries that go to a file while the log is read are read once.
        """
        self.patch(archive, "READ_STEP", 10)
        for steps in range(21):
            reading = self.archive.read(self.state, 0)
            found = [cursor for step in islice(reading, steps) for cursor, _ in step]
            self.add(*range(self.left()[-1] + 1, self.left()[-1] + 11))
            self.forget(self.left()[-1])
            self.rotate()
            found += [cursor for step in reading for cursor, _ in step]
            self.assertEqual(found, list(range(1, self.left()[-1] + 1)), steps)

    def test_saysWhichFileIsDamaged(self) -> None:
        """
        The error names the file, and how to read what came after it.
        """
        self.rotate()
        path = self.archive.parts()[1].path
        whole = path.read_bytes()
        for damaged in (b"", whole[:40], whole[:-9], b"no gzip at all", whole[:30] + b"\xff" * 30 + whole[60:]):
            path.write_bytes(damaged)
            if damaged:
                self.assertIn(f"{path} cannot be read", str(self.assertRaises(ArchiveTrouble, self.all)))
        self.assertEqual(self.all(60), list(range(61, 201)))

    def test_looksAtNothingElse(self) -> None:
        """
        Files of other names in the directory are nobody's business.
        """
        self.rotate()
        before = self.all()
        for name in ("audit-1-2.jsonl", "audit.new", "audit-a-b.jsonl.gz", "notes", "audit-1-2.jsonl.gz~"):
            (self.directory / "audit" / name).write_text("x")
        self.assertEqual(self.all(), before)
        self.assertIsInstance(self.archive.parts()[0], Part)


class AppendOnlyTests(ArchiveCase):
    """
    What was not moved cannot be deleted, even by the daemon.
    """

    def test_deletesOnlyWhatWasMoved(self) -> None:
        """
        SQLite itself refuses, whatever a later bug of ours may say.
        """
        self.add(*range(1, 201))
        self.forget(200)
        self.rotate()
        for wish in ("DELETE FROM audit", "DELETE FROM audit WHERE cursor = 126", "UPDATE audit SET body = ''"):
            error = self.assertRaises(sqlite3.IntegrityError, self.state.execute, wish)
            self.assertIn("only grows", str(error))
        self.assertEqual(self.left(), list(range(126, 201)))
