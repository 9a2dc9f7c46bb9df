"""
The archive: the old part of the audit log, in files beside the state.

A file holds the entries of a range of cursors, and nothing in it ever changes. It is complete before it has its name,
and only then are its entries taken out of the state; so after a crash at any moment each entry is in the state, in a
file, or in both, and the next rotation sees which.

All of this blocks, a little at a time: it is for the store's thread, one step of an iterator after the other, so that
changes are made between them.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import sqlite3
import zlib
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from attrs import frozen

from hostline.server import whole
from hostline.server.record import ENCODE

#: Entries of one file at most.
FILE_ENTRIES = 20000
#: Entries that one step moves, and that one reads for somebody.
STEP, READ_STEP = 1000, 250
_NAME = re.compile(r"audit-(\d{1,19})-(\d{1,19})\.jsonl\.gz", re.ASCII)
_CURSOR = re.compile(r'\{"cursor":(\d{1,19})[,}]', re.ASCII)
#: How a row of the state begins and ends, around the event.
_BEFORE, _AFTER = '{"body":', ',"scope":null}'
_ROWS = "SELECT cursor, body FROM audit WHERE cursor > ? AND cursor <= ? ORDER BY cursor LIMIT ?"
_FORGOTTEN = "SELECT IFNULL(MAX(value), 0) FROM meta WHERE name = 'forgotten'"
_OLDEST = "SELECT MIN(cursor) FROM audit"
_ROTATED = """
INSERT INTO meta VALUES ('audit_rotated', ?) ON CONFLICT DO UPDATE SET value = MAX(value, excluded.value)
"""
_SOME = "SELECT MAX(cursor) FROM (SELECT cursor FROM audit WHERE cursor BETWEEN ? AND ? ORDER BY cursor LIMIT ?)"
_TAKE_OUT = "DELETE FROM audit WHERE cursor BETWEEN ? AND ?"
_LAST = 2**63 - 1


class ArchiveTrouble(Exception):
    """
    A file of the archive is not what it should be; the message says which, and what to do.
    """


@frozen
class Part:
    """
    One file: all entries from the cursor C{first} to the cursor C{last}.
    """

    first: int
    last: int
    path: Path

    def lines(self, after: int = 0) -> Generator[tuple[int, str], None, None]:
        """
        @return: cursor and JSON text of each entry with a greater cursor than C{after}.
        @raise ArchiveTrouble: if it cannot be read.
        """
        try:
            with gzip.open(self.path, "rt", encoding="ascii") as file:
                for line in file:
                    cursor = _cursor_of(line)
                    if cursor > after:
                        yield cursor, line.rstrip("\n")
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise ArchiveTrouble(
                f"{self.path} cannot be read: {error}; what came after it is read with since={self.last}"
            ) from error


class Archive:
    """
    The files in one directory, which is made when there is something for it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fresh = directory / "audit.new"

    def parts(self) -> list[Part]:
        """
        @return: the files, the oldest first.
        """
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self._directory.iterdir():
                match = _NAME.fullmatch(path.name)
                if match is not None:
                    found.append(Part(int(match[1]), int(match[2]), path))
        return sorted(found, key=lambda one: one.last)

    @property
    def newest(self) -> int:
        """
        The greatest cursor in any file, 0 if there is none.
        """
        parts = self.parts()
        return parts[-1].last if parts else 0

    def rotate(self, connection: sqlite3.Connection, entries: int, files: int) -> Iterator[None]:
        """
        Move the oldest entries from the state to files, if it has more than C{entries}: three quarters of these stay,
        and whatever is still among the events that are kept.

        @param files: how many to keep, 0: all.
        @raise ArchiveTrouble: if a file is there that cannot be believed.
        @raise OSError: and L{sqlite3.Error}, if something cannot be written; then all is as it was.
        """
        yield from self._take_out_again(connection)
        (count,) = connection.execute("SELECT COUNT(*) FROM audit").fetchone()
        left = count - entries * 3 // 4 if count > entries else 0
        while left > 0:
            last = self._end(connection, min(left, FILE_ENTRIES), entries // 4)
            if last is None:
                break
            yield from self._write(connection, last)
            left -= yield from self._take_out(connection, 0, last)
        for part in self.parts()[:-files] if files else []:
            part.path.unlink(missing_ok=True)

    def read(self, connection: sqlite3.Connection, since: int) -> Iterator[list[tuple[int, str]]]:
        """
        Read entries, the oldest first: cursor and JSON text of each, L{READ_STEP} at most in one step.

        @param since: the cursor after which to begin.
        @raise ArchiveTrouble: if a file cannot be read.
        """
        at = since
        while True:
            # Looked for each time: between two steps entries may have come to files. Those of one that was being read
            # and is removed meanwhile are still there, for it is open.
            part = next((one for one in self.parts() if one.last > at), None)
            if part is None:
                rows = connection.execute(_ROWS, (at, _LAST, READ_STEP)).fetchall()
                if not rows:
                    return
                at = rows[-1][0]
                yield [(cursor, _line(cursor, body)) for cursor, body in rows]
                continue
            with contextlib.closing(part.lines(at)) as lines:
                while step := list(islice(lines, READ_STEP)):
                    yield step
            at = part.last

    def _end(self, connection: sqlite3.Connection, most: int, least: int) -> int | None:
        """
        @return: the cursor of the last entry that goes to a file now; None if it is not worth one.
        """
        (forgotten,) = connection.execute(_FORGOTTEN).fetchone()
        (first,) = connection.execute(_OLDEST).fetchone()
        # Of a state that was older than its files, so that no two files have cursors in common.
        before = min((one.first - 1 for one in self.parts() if one.first > first), default=forgotten)
        if before < forgotten:
            forgotten, least = before, 1
        oldest = "SELECT cursor FROM audit WHERE cursor <= ? ORDER BY cursor LIMIT ?"
        count, last = connection.execute(f"SELECT COUNT(*), MAX(cursor) FROM ({oldest})", (forgotten, most)).fetchone()
        return last if count >= min(most, max(least, 1)) else None

    def _write(self, connection: sqlite3.Connection, last: int) -> Iterator[None]:
        """
        Make the file of all entries up to C{last}.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            first = at = 0
            with os.fdopen(os.open(self._fresh, flags, 0o600), "wb") as file:
                # Without name and time in it, so that the same entries always give the same file.
                with gzip.GzipFile("", "wb", 6, file, 0) as packed:
                    while rows := connection.execute(_ROWS, (at, last, STEP)).fetchall():
                        first, at = first or rows[0][0], rows[-1][0]
                        packed.write("".join(f"{_line(*row)}\n" for row in rows).encode("ascii"))
                        yield
                file.flush()
                os.fsync(file.fileno())
            self._fresh.rename(self._directory / f"audit-{first}-{last}.jsonl.gz")
            for directory in (self._directory, self._directory.parent):
                whole.flush(directory)
        finally:
            with contextlib.suppress(OSError):
                self._fresh.unlink()

    def _take_out_again(self, connection: sqlite3.Connection) -> Iterator[None]:
        """
        Take out of the state what is in files already: a daemon ended after it had written one.
        """
        (oldest,) = connection.execute(_OLDEST).fetchone()
        for part in self.parts():
            if oldest is None or part.last < oldest:
                continue
            known = part.lines()
            at, there = 0, False
            while rows := connection.execute(_ROWS, (max(at, part.first - 1), part.last, STEP)).fetchall():
                for row in rows:
                    line = next((text for cursor, text in known if cursor >= row[0]), None)
                    if line != _line(*row):
                        raise ArchiveTrouble(
                            f"{part.path} does not hold what the state has of its cursors: move it elsewhere"
                        )
                at, there = rows[-1][0], True
                yield
            known.close()
            if there:
                yield from self._take_out(connection, part.first, part.last)

    def _take_out(self, connection: sqlite3.Connection, first: int, last: int) -> Generator[None, None, int]:
        """
        Delete from the state what a file holds, the oldest first; what is left if this ends before is found again.

        @return: how many there were.
        """
        count = 0
        while True:
            ((until,),) = connection.execute(_SOME, (first, last, STEP)).fetchall()
            if until is None:
                return count
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(_ROTATED, (until,))
                count += connection.execute(_TAKE_OUT, (first, until)).rowcount
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            yield


def _line(cursor: int, row: str) -> str:
    """
    @return: one line of a file: the event of a row.
    """
    if (
        row.startswith(f'{_BEFORE}{{"cursor":{cursor},')
        and row.endswith(_AFTER)
        and row.isascii()
        and row.isprintable()
    ):
        return row[len(_BEFORE) : -len(_AFTER)]
    try:
        body: Any = json.loads(row)["body"]
        if not isinstance(body, dict):
            raise ValueError("want a dict")
    except (KeyError, TypeError, ValueError):
        body = {"damaged": row}
    return ENCODE({**body, "cursor": cursor})


def _cursor_of(line: str) -> int:
    match = _CURSOR.match(line)
    if match is not None and line.endswith("}\n"):
        return int(match[1])
    return int(json.loads(line)["cursor"])
