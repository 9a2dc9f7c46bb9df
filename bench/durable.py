"""
Durable changes: how many the daemon acknowledges, beside the disk itself and the ancestor's way of keeping state.

The floor is a record of 700 bytes written and flushed into room that was there before: nothing that acknowledges only
what is on disk can be faster for one writer. The ancestor copied its records by pickling them, wrote them all to a
new file, and renamed it, without a flush.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from bench.daemon import Daemon
from bench.machine import flushes, pinned
from bench.polling import series
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting
from bench.wire import Slice

ONE, MANY, FLOOR, DUMP = (
    "hostline add_user, one writer",
    "hostline add_user, 64 writers",
    "700 B pwrite + fdatasync",
    "pickle dump of 10,000 records",
)
ADD_USER = b"add_user u#\n"
ADDED = b"add_user_reply {"
_FLUSHES = "flushes per change"


class Written(NamedTuple):
    """
    What one slice of writing gave.

    @ivar flushes: of the disk per change, by anybody; None if it does not count them.
    """

    rate: float
    flushes: float | None
    load: Slice | None = None


class Journal:
    """
    A file with room, into which records are written one after the other.
    """

    def __init__(self, path: Path, size: int = 1 << 23) -> None:
        """
        @param size: of the file; written to its end, it is written again from its beginning.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Zeros rather than fallocate: a first write into room that was only reserved changes metadata as well.
        for _ in range(size >> 20):
            os.write(self._descriptor, bytes(1 << 20))
        os.fsync(self._descriptor)
        self._size = size
        self._at = 0
        self._count = 0

    def append(self) -> None:
        """
        Write one record and flush it.
        """
        self._count += 1
        record = self._count.to_bytes(8, "little") + bytes(692)
        if self._at + len(record) > self._size:
            self._at = 0
        os.pwrite(self._descriptor, record, self._at)
        os.fdatasync(self._descriptor)
        self._at += len(record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


class Dump:
    """
    10,000 records in memory, all written again at each change.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records = {f"site_slice{number}": _record(number) for number in range(10_000)}
        self._changes = 0

    def change(self) -> None:
        """
        Change one record and write them all.
        """
        self._changes += 1
        self._records["site_slice7"]["expires"] = self._changes
        copy = pickle.loads(pickle.dumps(self._records))
        unfinished = self._path.with_suffix(".new")
        with unfinished.open("wb") as file:
            pickle.dump(copy, file)
        unfinished.replace(self._path)


def durable(setting: Setting, daemon: Daemon | None, why_not: str = "") -> Table:
    """
    @param daemon: one that may be filled with users; None leaves it out.
    """
    candidates: dict[str, Callable[[int], Written]] = {}
    writers = _Writers(setting, daemon) if daemon else None
    if writers:
        candidates[ONE] = writers.one
        candidates[MANY] = writers.many
    with Journal(setting.directory / "journal") as journal:
        dump = Dump(setting.directory / "records")
        candidates[FLOOR] = _repeated(setting, journal.append)
        candidates[DUMP] = _repeated(setting, dump.change)
        found = by_turns(candidates, setting.rounds, setting.cores)
    return Table(
        "acknowledged durable changes",
        [_series(name, found.get(name, []), why_not) for name in (ONE, MANY, FLOOR, DUMP)],
        [Goal(ONE, FLOOR, 0.4), Goal(MANY, FLOOR, 8), Goal(ONE, DUMP, 300), Goal(FLOOR, DUMP)],
        [
            f"Slices of {setting.slice_ms} ms, all files on one file system; every add_user is a new user, a new row"
            + (f": {writers.users:,} users at the end." if writers else "."),
            "The dump is the ancestor's: copied by pickle, written, renamed, not flushed. So its goal hangs on the "
            f"disk as well: where {FLOOR} is less than 300 times as fast as the dump, no single writer that waits "
            "for the disk can reach it.",
            "Flushes are those of the whole disk, whoever asked for them: about one per change says that every change "
            "reached the disk by itself, far less that many shared a flush, or that there was none.",
        ],
    )


class _Writers:
    """
    The daemon's clients that write; each user's name is used once.
    """

    def __init__(self, setting: Setting, daemon: Daemon) -> None:
        self._setting = setting
        self._server = daemon.server(ONE, "counted", ADD_USER, ADDED)
        self.users = 0

    def one(self, core: int) -> Written:
        """One connection, the next change after the reply to the last."""
        return self._slice(core, 1)

    def many(self, core: int) -> Written:
        """Sixty-four of them."""
        return self._slice(core, 64)

    def _slice(self, core: int, connections: int) -> Written:
        setting = self._setting
        before = flushes(setting.directory)
        found = setting.load.slice(self._server, core, connections, 1, setting.slice_ms, self.users)
        self.users = found.next_number
        return Written(found.rate, _per_change(before, flushes(setting.directory), found.replies), found)


def _repeated(setting: Setting, change: Callable[[], None]) -> Callable[[int], Written]:
    def measured(core: int) -> Written:
        before = flushes(setting.directory)
        count = 0
        with pinned(core):
            begun = time.perf_counter()
            while (took := time.perf_counter() - begun) < setting.slice_ms / 1000:
                change()
                count += 1
        return Written(count / took, _per_change(before, flushes(setting.directory), count))

    return measured


def _per_change(before: int | None, after: int | None, changes: int) -> float | None:
    return None if before is None or after is None else (after - before) / changes


def _series(name: str, written: Sequence[Written], why_not: str) -> Series:
    loads = [one.load for one in written if one.load]
    counts = [one.flushes for one in written if one.flushes is not None]
    details = dict(series(name, loads).details) | ({_FLUSHES: counts} if counts else {})
    return Series(name, "changes/s", [one.rate for one in written], details, "" if written else why_not)


def _record(number: int) -> dict[str, Any]:
    """
    One record as the ancestor kept it.
    """
    return {
        "name": f"site_slice{number}",
        "keys": f"ssh-rsa {'A' * 220}{number} user{number}@site.example.org\n",
        "type": "sliver.VServer",
        "expires": number,
        "initscript": "",
        "delegations": ["site_monitor"],
        "loans": [],
        "rspec": {
            "enabled": 1,
            "cpu_share": 32,
            "cpu_min": 0,
            "net_min": 8,
            "net_max": 10**9,
            "net_share": 1,
            "net2_min": 8,
            "net2_max": 10**9,
            "disk_max": 5_000_000,
            "memory_max": 536_870_912 + number,
        },
    }
