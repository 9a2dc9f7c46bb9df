"""
What the processes of a sliver do, as /proc and control groups tell: keystrokes on their terminals, how many run or
want to, packets of its interfaces.

Load is counted by the kernel's scheduler: the time for which tasks ran and for which they waited for a processor, over
the time that passed. A task that always wants to run is 1, also where the sliver is held to less than a processor or
others hold it up; who sleeps or waits for a disk is none.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from hostline.server.drivers.driver import Activity
from hostline.server.supervise.turns import Turns

#: A reading sooner than this after the one before says nothing new of the load.
_SOON_S = 2.0
#: Threads of one process that are looked at.
_THREADS = 256
_LIMIT = 1 << 14
#: Where a process has its terminal; 255 is a shell's own.
_STREAMS = (0, 1, 2, 255)


@frozen
class Ends:
    """
    Where a sliver's interfaces can be read.

    @ivar pid: of a process in its network namespace.
    @ivar links: the names of its interfaces on links.
    @ivar control: the name of that on the control network; empty if it has none.
    """

    pid: int
    links: Collection[str] = ()
    control: str = "eth0"


@frozen
class _Reading:
    """
    @ivar ran: nanoseconds for which all that is or was in the sliver ran, as far as that is counted; None if it is not.
    @ivar tasks: nanoseconds that each has run, and waited, by its id.
    """

    taken: float
    ran: int | None
    tasks: dict[int, tuple[int, int]]


class Doings:
    """
    Reads, and remembers what was read last of each sliver.
    """

    def __init__(self, clock: IReactorTime, proc: Path = Path("/proc")) -> None:
        self._clock = clock
        self._proc = str(proc)
        self._turns = Turns(clock)
        self._last: dict[int, tuple[_Reading, float]] = {}

    async def look(
        self, serial: int, pids: Sequence[int], ran: int | None = None, ends: Ends | None = None
    ) -> Activity:
        """
        @param pids: of its processes.
        @param ran: nanoseconds for which they all ran, those that have ended too; None if nobody counts that.
        @param ends: None if it has no interfaces of its own.
        """
        newest, tasks = 0.0, {}
        for pid in pids:
            await self._turns.mine()
            tasks.update(self._tasks(pid))
            newest = max(newest, self._typed(pid))
        now = self._clock.seconds()
        load = self._load(serial, _Reading(now, ran, tasks))
        links, control = self._packets(ends) if ends is not None else (0, 0)
        return Activity(now, newest, load, links, control)

    def forget(self, serial: int) -> None:
        """
        The sliver is gone, or begins anew.
        """
        self._last.pop(serial, None)

    def _load(self, serial: int, now: _Reading) -> float:
        known = self._last.get(serial)
        if known is None:
            self._last[serial] = now, 0.0
            return 0.0
        before, load = known
        if now.taken - before.taken < _SOON_S:
            return load
        load = _between(before, now)
        self._last[serial] = now, load
        return load

    def _tasks(self, pid: int) -> dict[int, tuple[int, int]]:
        """
        @return: what the scheduler counted for each thread of a process.
        """
        found = {}
        with suppress(OSError):
            directory = f"{self._proc}/{pid}/task"
            for name in os.listdir(directory)[:_THREADS]:  # noqa: PTH208 (names are all we want)
                with suppress(OSError, ValueError, IndexError):
                    words = _read(f"{directory}/{name}/schedstat").split()
                    found[int(name)] = int(words[0]), int(words[1])
        return found

    def _typed(self, pid: int) -> float:
        """
        @return: when something was read last from the terminal that controls a process, which is when somebody typed;
            0 if it has none.
        """
        with suppress(OSError, ValueError, IndexError):
            number = int(_read(f"{self._proc}/{pid}/stat").rpartition(b") ")[2].split()[4])
            if number == 0:
                return 0.0
            device = os.makedev((number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00))
            for stream in _STREAMS:
                # By the descriptor, not by a name: the sliver says what names mean in it. What is no device is not
                # looked at: a file of its own file system might keep us waiting.
                with suppress(OSError):
                    path = f"{self._proc}/{pid}/fd/{stream}"
                    if not os.readlink(path).startswith("/dev/"):  # noqa: PTH115
                        continue
                    seen = os.stat(path)  # noqa: PTH116
                    if stat.S_ISCHR(seen.st_mode) and seen.st_rdev == device:
                        return seen.st_atime
        return 0.0

    def _packets(self, ends: Ends) -> tuple[int, int]:
        """
        @return: packets in and out over links, and out over the control network.
        """
        links = control = 0
        with suppress(OSError, ValueError, IndexError):
            for line in _read(f"{self._proc}/{ends.pid}/net/dev", 1 << 18).splitlines()[2:]:
                name, _, counts = line.partition(b":")
                words = counts.split()
                if name.strip().decode("utf-8", "replace") in ends.links:
                    links += int(words[1]) + int(words[9])
                elif name.strip().decode("utf-8", "replace") == ends.control:
                    control += int(words[9])
        return links, control


def _between(before: _Reading, now: _Reading) -> float:
    """
    @return: how many tasks ran or wanted to, on average.
    """
    ran = waited = 0
    for task, (has_run, has_waited) in now.tasks.items():
        old_run, old_waited = before.tasks.get(task, (0, 0))
        if has_run < old_run:  # another one has its number now
            old_run = old_waited = 0
        ran += has_run - old_run
        waited += max(has_waited - old_waited, 0)
    if now.ran is not None and before.ran is not None:
        ran = max(ran, now.ran - before.ran)  # who came and went between the two is not among the tasks
    return (ran + waited) / 1e9 / (now.taken - before.taken)


def _read(path: str, most: int = _LIMIT) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read(most) or b""
