"""
Which living processes belong to which sliver, found by looking at all of them: for hosts where control groups cannot
be used, and for what an earlier daemon left behind.
"""

from __future__ import annotations

import os
import signal
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from hostline.server.supervise.shim import TAG, Process
from hostline.server.supervise.spawn import start_time, state

_LIMIT = 1 << 18
_WANTED = TAG.encode() + b"="
#: How many processes are looked at before the reactor gets its turn.
_STEP = 100


@frozen
class Seen:
    """
    One living process, as /proc told.

    @ivar uid: the effective one.
    @ivar tag: C{INSTANCE/SERIAL}, of processes of the daemon's own user; what others say of themselves is not read.
    @ivar shim: the serial that a shim of ours runs for: nobody but the daemon's user can have started it.
    """

    process: Process
    parent: int
    session: int
    uid: int
    tag: bytes | None
    shim: int | None = None


class Survey:
    """
    Looks at all processes of the host, once for all who ask meanwhile.
    """

    def __init__(self, clock: IReactorTime, proc: Path = Path("/proc"), run: Path = Path("/nonexistent")) -> None:
        """
        @param run: where our shims are, and nobody else can write.
        """
        self._clock = clock
        self._proc = proc
        self._shims = os.fsencode(run) + b"/shim-"
        self._own = os.geteuid()
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
            if state(fields) in "ZX":
                return None
            uid = os.stat(path).st_uid  # noqa: PTH116
        except (OSError, IndexError, ValueError):
            return None
        process = Process(pid, int(fields[19]))
        tag: bytes | None = None
        shim: int | None = None
        if uid == self._own:
            tag = self._tags.get(process)  # who was ours once stays so
            if tag is None:
                with suppress(OSError):
                    tag = _tag(_read(path + "/environ"))
            if tag is not None:
                shim = self._shim(path)
        return Seen(process, int(fields[1]), int(fields[3]), uid, tag, shim)

    def _shim(self, path: str) -> int | None:
        """
        @return: for which sliver a process runs one of our shims, or is about to.
        """
        try:
            words = _read(path + "/cmdline").split(b"\0")
            if os.stat(path + "/exe").st_mode & (stat.S_ISUID | stat.S_ISGID):  # noqa: PTH116
                return None  # another user may have started it, with what words he likes
        except OSError:
            return None
        for word, role, serial in zip(words, words[1:], words[2:], strict=False):
            if word.startswith(self._shims) and role in (b"keep", b"node", b"init"):
                return _number(serial)
        return None


def members(
    everything: Iterable[Seen],
    instance: str,
    uids: Mapping[int, int] | None,
    *,
    own: int | None = None,
    keepers: Mapping[int, int] | None = None,
) -> dict[int, list[Process]]:
    """
    Sort processes by sliver.

    Where slivers have uids of their own, the uid alone decides, whatever a process says of itself; of root's own
    processes only those count that carry our tag and are shims, or are in the session of one: nobody else gets in
    there. Otherwise it is all processes of the daemon's user that carry our tag, descend from such a one or are in a
    session with one; there a process gets away if it clears its environment, makes a session and loses its parent
    before anybody looked.

    @param instance: the first part of our tags.
    @param uids: uid to serial; None where slivers have no uids of their own.
    @param own: the daemon's user; None: whoever we are.
    @param keepers: pid (which is that of its session, too) to serial, of keepers that were started by us.
    @return: serial to its processes, the keeper and the node's own process among them.
    """
    own = os.geteuid() if own is None else own
    prefix = f"{instance}/".encode()
    if uids is None:
        return _related([seen for seen in everything if seen.uid == own], prefix)
    result: dict[int, list[Process]] = defaultdict(list)
    roots: list[tuple[Seen, int]] = []
    sessions = dict(keepers or {})
    for seen in everything:
        serial = uids.get(seen.uid)
        if serial is not None:
            result[serial].append(seen.process)
        elif seen.uid == own and seen.tag is not None and seen.process.pid != os.getpid():
            serial = _serial(seen.tag, prefix)
            if serial is not None:
                roots.append((seen, serial))
                if seen.shim == serial and seen.session:
                    sessions[seen.session] = serial
    for seen, serial in roots:
        if seen.shim == serial or sessions.get(seen.session) == serial:
            result[serial].append(seen.process)
    return dict(result)


def _related(everything: Iterable[Seen], prefix: bytes) -> dict[int, list[Process]]:
    serial_of: dict[int, int] = {}
    rest: list[Seen] = []
    result: dict[int, list[Process]] = defaultdict(list)
    sessions: dict[int, int] = {}

    def add(seen: Seen, serial: int) -> None:
        serial_of[seen.process.pid] = serial
        if seen.session and seen.tag is not None:
            sessions[seen.session] = serial
        if seen.process.pid != os.getpid():
            result[serial].append(seen.process)

    for seen in everything:
        serial = _serial(seen.tag, prefix) if seen.tag is not None else None
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


def session_of(pid: int) -> int | None:
    """
    @return: the session that a living process is in; None if there is none.
    """
    with suppress(OSError, IndexError, ValueError):
        fields = _read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
        if state(fields) not in "ZX":
            return int(fields[3])
    return None


def _serial(tag: bytes, prefix: bytes) -> int | None:
    if not tag.startswith(prefix):
        return None
    return _number(tag[len(prefix) :])


def _tag(environ: bytes) -> bytes | None:
    start = 0 if environ.startswith(_WANTED) else environ.find(b"\0" + _WANTED) + 1
    if start == 0 and not environ.startswith(_WANTED):
        return None
    return environ[start + len(_WANTED) :].partition(b"\0")[0]


def _number(word: bytes) -> int | None:
    return int(word) if word.isdigit() and len(word) < 19 else None


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read(_LIMIT) or b""
