"""
Which living processes belong to which sliver, found by looking at all of them: for hosts where cgroups cannot be used,
and for what an earlier daemon left behind.
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from hostline.server.supervise.shim import TAG, Process
from hostline.server.supervise.spawn import start_time

_LIMIT = 1 << 18


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


def look_around(proc: Path = Path("/proc")) -> list[Seen]:
    """
    @return: every living process that we may look at; zombies are none.
    """
    found = []
    for name in os.listdir(proc):  # noqa: PTH208 (names are all we want)
        if name.isdigit() and (seen := _seen(f"{proc}/{name}", int(name))) is not None:
            found.append(seen)
    return found


def members(everything: Iterable[Seen], instance: str, uids: Mapping[int, int]) -> dict[int, list[Process]]:
    """
    Sort processes by sliver: whoever carries our tag, has a sliver's own uid, is in a session with such a one or
    descends from it.

    A process of a sliver without its own uid gets away if it clears its environment, makes a session and loses its
    parent.

    @param instance: the first part of our tags.
    @param uids: uid to serial, of the slivers that have a uid of their own.
    @return: serial to its processes, the keeper and the node's own process among them.
    """
    everything = list(everything)
    prefix = f"{instance}/".encode()
    serial_of: dict[int, int] = {}
    for seen in everything:
        serial = _serial(seen.tag, prefix)
        if serial is None:
            serial = uids.get(seen.uid)
        if serial is not None:
            serial_of[seen.process.pid] = serial
    grown = bool(serial_of)
    while grown:
        grown = False
        sessions = {seen.session: serial_of[seen.process.pid] for seen in everything if seen.process.pid in serial_of}
        for seen in everything:
            if seen.process.pid not in serial_of:
                serial = serial_of.get(seen.parent, sessions.get(seen.session) if seen.session else None)
                if serial is not None:
                    serial_of[seen.process.pid] = serial
                    grown = True
    result = defaultdict(list)
    for seen in everything:
        if seen.process.pid in serial_of and seen.process.pid != os.getpid():
            result[serial_of[seen.process.pid]].append(seen.process)
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


def _serial(tag: bytes | None, prefix: bytes) -> int | None:
    if tag is None or not tag.startswith(prefix):
        return None
    rest = tag[len(prefix) :]
    return int(rest) if rest.isdigit() and len(rest) < 19 else None


def _seen(path: str, pid: int) -> Seen | None:
    try:
        fields = _read(path + "/stat").rpartition(b") ")[2].split()
        if fields[0] in (b"Z", b"X"):
            return None
        uid = os.stat(path).st_uid  # noqa: PTH116
    except (OSError, IndexError):
        return None
    tag = None
    with suppress(OSError):
        wanted = TAG.encode() + b"="
        for entry in _read(path + "/environ").split(b"\0"):
            if entry.startswith(wanted):
                tag = entry[len(wanted) :]
    return Seen(Process(pid, int(fields[19])), int(fields[1]), int(fields[3]), uid, tag)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        return file.read(_LIMIT) or b""
