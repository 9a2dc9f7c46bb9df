"""
The file that the store writes: its tables, and what is done before they are read.

A file of a newer program is refused before anything is written, even a journal. A damaged one is put aside, with every
row that can still be read carried over; an older one is taken to the schema of this program step by step.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

#: The version of the tables below; L{_UPGRADES} holds one step for each earlier one.
SCHEMA = 3
_APPLICATION = 0x686F7374
#: What was written to a file, L{hostline.server.archive}, may be deleted here, and nothing else.
_KEEPS_ALL = """
CREATE TRIGGER audit_keeps_all BEFORE DELETE ON audit
WHEN OLD.cursor > (SELECT IFNULL(MAX(value), 0) FROM meta WHERE name = 'audit_rotated')
BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
"""
_TABLES = f"""
CREATE TABLE records (kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE events (cursor INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE audit (cursor INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
{_KEEPS_ALL}
CREATE TABLE aside (kind TEXT, key TEXT, body TEXT, reason TEXT);
"""

#: SQL for each schema version that leads to the next one.
_UPGRADES: dict[int, str] = {
    1: """
UPDATE records SET body = json_set(json_remove(body, '$.experiment'), '$.subject', json_extract(body, '$.experiment'))
WHERE kind = 'operation' AND json_valid(body);
""",
    2: f"DROP TRIGGER audit_keeps_all; {_KEEPS_ALL}",
}

#: All events that are kept, oldest first.
HISTORY = """
SELECT cursor, body FROM events UNION ALL
SELECT cursor, body FROM audit WHERE cursor > (SELECT IFNULL(MAX(value), 0) FROM meta WHERE name = 'forgotten')
ORDER BY cursor
"""


class CannotOpen(Exception):
    """
    The state cannot be used; the message says why and what to do.
    """


def ensure_sound(path: Path) -> str | None:
    """
    Have a file that can be opened: what can be read of a damaged one is carried over to a new one, and it is put aside.

    @return: what was wrong and mended, in words; rows may have been lost then. None if nothing was.
    @raise CannotOpen: if it is newer than this program, or nothing of it can be read; it was not touched.
    """
    _refuse_newer(path)
    return None if _sound(path) else _salvage(path)


def connect(path: Path) -> sqlite3.Connection:
    """
    Open a file for writing, and make it if it is missing; any thread may use it.

    @raise sqlite3.Error: if it cannot be opened, or is damaged.
    @raise OSError: if it cannot be made.
    """
    with contextlib.suppress(FileExistsError):  # nobody else reads it; SQLite gives its -wal and -shm the same mode
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10, cached_statements=64)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 1000")
    return connection


def bring_up_to_date(connection: sqlite3.Connection, path: Path) -> list[str]:
    """
    Make the tables of a new file, and take an older one to this schema step by step, each old one kept beside it.

    @return: what was done, in words.
    @raise sqlite3.Error: if a step fails; the file is as it was before that step.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    notes = []
    if version == 0:
        connection.executescript(
            f"BEGIN; {_TABLES} PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT;"
        )
    while 0 < version < SCHEMA:
        backup = path.with_name(f"{path.name}.schema-{version}")
        with contextlib.closing(sqlite3.connect(backup)) as copy:
            connection.backup(copy)
        connection.executescript(f"BEGIN; {_UPGRADES[version]} PRAGMA user_version = {version + 1}; COMMIT;")
        version += 1
        notes.append(f"the state was brought to schema {version}; the old one is kept in {backup.name}")
    return notes


def look(path: Path) -> None:
    """
    Find out whether a state could be opened, without touching it; another daemon may have it open.

    @raise CannotOpen: if it is newer than this program or damaged.
    """
    _refuse_newer(path)
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as found:
            said = found.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        raise CannotOpen(f"the state in {path} is damaged: {said}")


def _refuse_newer(path: Path) -> None:
    """
    Look at the schema before anything is written, even a journal.
    """
    if not path.exists() or not path.stat().st_size:
        return
    # Without a journal not even its empty files are made beside it.
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError:
        return  # damaged: found and said by what comes next
    if version > SCHEMA:
        raise CannotOpen(
            f"the state in {path} is of schema {version}, written by a newer hostline; this one knows {SCHEMA}. "
            "Nothing was touched: install the newer hostline again, or restore the backup beside the state."
        )


def _sound(path: Path) -> bool:
    try:
        with contextlib.closing(connect(path)) as connection:
            return bool(connection.execute("PRAGMA quick_check").fetchone()[0] == "ok")
    except sqlite3.OperationalError:
        raise  # locked, full or not ours to open: not damaged
    except sqlite3.DatabaseError:
        return False


def _salvage(path: Path) -> str:
    """
    Put a damaged file aside and carry over every row that can still be read.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    with contextlib.closing(sqlite3.connect(path)) as old:
        try:
            old.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError as error:
            # To begin anew would forget, and so end, everything that runs here: that is for people to decide.
            raise CannotOpen(
                f"the state in {path} is damaged and nothing of it can be read ({error}). Nothing was touched: "
                "restore a backup, or move the file away to begin with an empty state, which ends all slivers."
            ) from error
    for suffix in ("", "-wal", "-shm"):
        if (one := path.with_name(path.name + suffix)).exists():
            shutil.move(one, aside.with_name(aside.name + suffix))
    kept = 0
    with contextlib.closing(connect(path)) as fresh, contextlib.closing(sqlite3.connect(aside)) as old:
        bring_up_to_date(fresh, path)
        fresh.execute("BEGIN")
        for table, width in (("records", 3), ("meta", 2), ("events", 2), ("audit", 2), ("aside", 4)):
            marks = ", ".join("?" * width)
            with contextlib.suppress(sqlite3.Error):
                for row in old.execute(f"SELECT * FROM {table}"):
                    fresh.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)
                    kept += 1
        fresh.execute("COMMIT")
    return f"the state was damaged: {kept} rows were carried over, the damaged file is kept as {aside.name}"
