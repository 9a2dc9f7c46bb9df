"""
Stalls: how late the slowest replies are while a neighbour makes the disk busy.

Run as a program (C{python -m bench.stalls DIRECTORY}) it is that neighbour: it writes and flushes without end.
"""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path

from bench.child import Child
from bench.daemon import STATUS_REQUEST, Daemon
from bench.durable import ADDED
from bench.machine import pinned, python
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting
from bench.wire import Slice

QUIET, BUSY, CHANGES = "quiet", "a neighbour writes and fsyncs", "another connection makes durable changes"
_READY = "neighbour.ready"
_BLOCK, _BLOCKS = 1 << 16, 512


def stalls(setting: Setting, daemon: Daemon, reply: bytes) -> Table:
    """
    @param reply: the line that answers the request for the status.
    """
    measured = _Stalls(setting, daemon, reply)
    candidates = {QUIET: measured.quiet, BUSY: measured.busy, CHANGES: measured.changes}
    found = by_turns(candidates, setting.rounds, setting.cores)
    where = "the other core" if len(setting.cores) > 1 else "the same core"
    return Table(
        "the slowest replies to status_request while the disk is busy",
        [
            Series(
                name,
                "p99 us",
                [one.p99_us for one in found[name]],
                {
                    "p50 us": [one.p50_us for one in found[name]],
                    "replies/s": [one.rate for one in found[name]],
                    "changes/s meanwhile": measured.meanwhile if name == CHANGES else [],
                },
            )
            for name in candidates
        ],
        [Goal(BUSY, QUIET, 5, at_most=True)],
        [
            f"One connection in turn, slices of {setting.slice_ms} ms. The neighbour writes 64 KiB and calls fsync, "
            f"over and over, on {where} and the daemon's file system; the other connection adds one user after the "
            "other to the same daemon, and no target is set for it."
        ],
    )


class _Stalls:
    def __init__(self, setting: Setting, daemon: Daemon, reply: bytes) -> None:
        self._setting = setting
        self._server = daemon.server("hostline", "exact", STATUS_REQUEST, reply)
        self._writer = daemon.server("hostline", "counted", b"add_user w#\n", ADDED)
        self._next = 0
        #: What the other connection reached, by round.
        self.meanwhile: list[float] = []

    def quiet(self, core: int) -> Slice:
        """Nobody writes."""
        setting = self._setting
        return setting.load.slice(self._server, core, 1, 1, setting.slice_ms)

    def busy(self, core: int) -> Slice:
        """Another process writes."""
        directory = self._setting.directory
        ready = directory / _READY
        ready.unlink(missing_ok=True)
        with pinned(self._other(core)):
            neighbour = Child(
                [python(), "-m", "bench.stalls", str(directory)], directory / "neighbour.log", ready.exists
            )
        with neighbour:
            return self.quiet(core)

    def changes(self, core: int) -> Slice:
        """The daemon itself has to write."""
        setting = self._setting
        with pinned(self._other(core)):
            process = setting.load.begun(self._writer, 1, 1, setting.slice_ms * 3 // 2, self._next)
        with process:
            found = self.quiet(core)
            other = setting.load.ended(process, self._writer, 0)
        self._next = other.next_number
        self.meanwhile.append(other.rate)
        return found

    def _other(self, core: int) -> int:
        return next((one for one in self._setting.cores if one != core), core)


def main(arguments: list[str]) -> None:
    """
    Write and flush until ended.
    """
    directory = Path(arguments[0])
    descriptor = os.open(directory / "neighbour", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    block = os.urandom(_BLOCK)
    for number in count():
        os.pwrite(descriptor, block, number % _BLOCKS * _BLOCK)
        os.fsync(descriptor)
        if number == 0:
            (directory / _READY).touch()


if __name__ == "__main__":
    main(sys.argv[1:])
