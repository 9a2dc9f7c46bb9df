"""
Which living processes belong to which sliver, found by looking at all of them: for hosts where control groups cannot
be used, and for what an earlier daemon left behind.
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from hostline.server.supervise.shim import TAG, Process
from hostline.server.supervise.spawn import start_time

_LIMIT = 1 << 18
_WANTED = TAG.encode() + b"="
#: How many processes are looked at before the reactor gets its turn.
_STEP = 100


@frozen
class Seen:
    """
    One living process, as /proc told.
    """

    process: Process
    parent: int
    session: int
    uid: int
    tag: bytes | None


class Survey:
    """
    Looks at all processes of the host, once for all who ask meanwhile.
    """

    def __init__(self, clock: IReactorTime, proc: Path = Path("/proc")) -> None:
        self._clock = clock
        self._proc = proc
        self._tags: dict[Process, bytes] = {}
        self._asking: list[Deferred[list[Seen]]] = []
        self._looking = False

    async def look(self) -> list[Seen]:
        """
        @return: every living process that we may look at, seen after the call; zombies are none.
        """
        asked: Deferred[list[Seen]] = Deferred()
        self._asking.append(asked)
        if not self._looking:
            self._looking = True
            self._clock.callLater(0, self._begin)
        return await asked

    def look_now(self) -> list[Seen]:
        """
        The same, at one go.
        """
        return [seen for seen in self._steps() if seen is not None]

    def _begin(self) -> None:
        asking, self._asking = self._asking, []
        self._go_on(self._steps(), [], asking)

    def _go_on(self, steps: Iterator[Seen | None], found: list[Seen], asking: list[Deferred[list[Seen]]]) -> None:
        for _ in range(_STEP):
            try:
                seen = next(steps)
            except StopIteration:
                break
            if seen is not None:
                found.append(seen)
        else:
            self._clock.callLater(0, self._go_on, steps, found, asking)
            return
        if self._asking:
            self._clock.callLater(0, self._begin)
        else:
            self._looking = False
        for asked in asking:
            asked.callback(found)

    def _steps(self) -> Iterator[Seen | None]:
        tags: dict[Process, bytes] = {}
        for name in os.listdir(self._proc):  # noqa: PTH208 (names are all we want)
            if name.isdigit():
                seen = self._see(f"{self._proc}/{name}", int(name))
                if seen is not None and seen.tag is not None:
                    tags[seen.process] = seen.tag
                yield seen
        self._tags = tags

    def _see(self, path: str, pid: int) -> Seen | None:
        try:
            fields = _read(path + "/stat").rpartition(b") ")[2].split()
            if fields[0] in (b"Z", b"X"):
                return None
            uid = os.stat(path).st_uid  # noqa: PTH116
        except (OSError, IndexError):
            return None
        process = Process(pid, int(fields[19]))
        tag = self._tags.get(process)  # who was ours once stays so
        if tag is None:
            with suppress(OSError):
                environ = _read(path + "/environ")
                start = 0 if environ.startswith(_WANTED) else environ.find(b"\0" + _WANTED) + 1
                if start > 0 or environ.startswith(_WANTED):
                    tag = environ[start + len(_WANTED) :].partition(b"\0")[0]
        return Seen(process, int(fields[1]), int(fields[3]), uid, tag)


def members(everything: Iterable[Seen], instance: str, uids: Mapping[int, int]) -> dict[int, list[Process]]:
    """
    Sort processes by sliver: whoever carries our tag, has a sliver's own uid, descends from such a one or is in
    a session with one that carries a tag.

    The tag of another state directory is stronger than a uid: two daemons may have been given the same range.
    A process of a sliver without its own uid gets away if it clears its environment, makes a session and loses its
    parent before anybody looked.

    @param instance: the first part of our tags.
    @param uids: uid to serial, of the slivers that have a uid of their own.
    @return: serial to its processes, the keeper and the node's own process among them.
    """
    prefix = f"{instance}/".encode()
    serial_of: dict[int, int] = {}
    rest: list[Seen] = []
    result: dict[int, list[Process]] = defaultdict(list)
    sessions: dict[int, int] = {}

    def add(seen: Seen, serial: int) -> None:
        serial_of[seen.process.pid] = serial
        if seen.session and seen.tag is not None:  # a uid alone may be somebody's who looks after things
            sessions[seen.session] = serial
        if seen.process.pid != os.getpid():
            result[serial].append(seen.process)

    for seen in everything:
        serial = _serial(seen.tag, prefix) if seen.tag is not None else uids.get(seen.uid)
        if serial is None:
            rest.append(seen)
        else:
            add(seen, serial)
    grown = bool(serial_of)
    while grown:
        grown = False
        left = []
        for seen in rest:
            serial = serial_of.get(seen.parent, sessions.get(seen.session))
            if serial is None:
                left.append(seen)
            else:
                add(seen, serial)
                grown = True
        rest = left
    return dict(result)


def signal_process(process: Process, number: int) -> bool:
    """
    Send a signal to this very process, never to a later one with its pid.

    @return: False if it is gone.
    """
    with suppress(OSError):
        fd = os.pidfd_open(process.pid)
        try:
            known = start_time(process.pid)
            if known is not None and known[0] == process.started and known[1] not in "ZX":
                signal.pidfd_send_signal(fd, number)
                return True
        finally:
            os.close(fd)
    return False


def _serial(tag: bytes, prefix: bytes) -> int | None:
    if not tag.startswith(prefix):
        return None
    rest = tag[len(prefix) :]
    return int(rest) if rest.isdigit() and len(rest) < 19 else None


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read(_LIMIT) or b""
