"""
A copy of the disk of a QEMU guest that runs: as it is at one moment, while the guest's file systems are at rest.

The moment is some hundredths of a second, whatever the size: QEMU copies what was there before the guest overwrites it.
A guest that is at rest stands still, and must not stay so, whoever dies meanwhile. So it is told before to wake itself
after L{REST_S} seconds; and whoever meets a guest in which this was begun and not ended calls L{wake} and L{abandon}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.supervise.agent import Call

#: What the guest's disk, and QEMU's job and the copy it makes, are called.
DISK, NAME = "disk", "hostline-copy"
#: Seconds after which a guest wakes itself.
REST_S = 20
_SOON_S, _LATE_S = 0.05, 1.0
#: Seconds for the guest's own file systems to write what they have, and to go on.
_FREEZE_S, _THAW_S = 15.0, 5.0
#: Thaws what was frozen; the kernel does that itself, so nothing has to be read from a disk.
_GUARD = f"sleep {REST_S}; echo j >/proc/sysrq-trigger"


class Monitor(Protocol):
    """
    What of L{hostline.server.supervise.qmp.Qmp} is used.
    """

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """As there."""

    async def lend(self, fd: int) -> str:
        """As there."""

    async def reclaim(self, path: str) -> None:
        """As there."""


class Asked(Protocol):
    """
    What of L{hostline.server.supervise.agent.Agent} is used.
    """

    async def alone(self, ask: Any) -> Any:
        """As there."""


async def size(monitor: Monitor) -> int:
    """
    @return: bytes that the guest's disk has.
    @raise OSError: if it has none.
    """
    for one in await monitor.execute("query-block"):
        inserted = one.get("inserted") if isinstance(one, dict) and one.get("device") == DISK else None
        found = inserted["image"]["virtual-size"] if inserted else None
        if type(found) is int and found > 0:
            return found
    raise OSError("it has no disk of its own")


async def copy(
    monitor: Monitor, agent: Asked, clock: IReactorTime, target: int, base: Path | None, most_bytes: int
) -> None:
    """
    Copy what the guest has changed of its disk.

    @param target: descriptor of an empty qcow2 disk of L{size}, to read and write; QEMU may write to it until it ends,
        or L{abandon} is called, and who is in QEMU's place may write anything to it for longer.
    @param base: what lies below the guest's disk, and below the copy: its path as QEMU has it.
    @param most_bytes: that the copy may have.
    @raise OSError: if it cannot be done; then the guest goes on, but if L{Cold} is raised.
    """
    path = await monitor.lend(target)
    file = {"driver": "file", "filename": path}
    below: Any = None
    if base is not None:
        below = {"driver": "qcow2", "file": {"driver": "file", "filename": str(base)}, "read-only": True}
        below["backing"] = None
    node = {"node-name": NAME, "driver": "qcow2", "file": file, "backing": below}
    try:
        await monitor.execute("blockdev-add", node)
        await agent.alone(lambda call: _begin(monitor, call))
        await _done(monitor, clock, target, most_bytes)
    finally:
        with suppress(OSError):
            await abandon(monitor, clock)
            await monitor.reclaim(path)


class Cold(OSError):
    """
    A guest's file systems may still be at rest: it does not say that they are not.
    """


async def _begin(monitor: Monitor, call: Call) -> None:
    guard = await call("guest-exec", {"path": "/bin/sh", "arg": ["-c", _GUARD]})
    try:
        frozen = await call("guest-fsfreeze-freeze", timeout_s=_FREEZE_S)
        if type(frozen) is not int or frozen < 1:
            raise OSError("the guest's agent has put no file system to rest")
        job = {"job-id": NAME, "device": DISK, "target": NAME, "sync": "top", "auto-dismiss": False}
        await monitor.execute("blockdev-backup", job)
    finally:
        await wake(call)
    pid = guard.get("pid") if isinstance(guard, dict) else None
    if type(pid) is int and pid > 1:
        # The guest's own numbers of its own processes.
        await call("guest-exec", {"path": "/bin/sh", "arg": ["-c", f"kill {pid}"]})


async def wake(call: Call) -> None:
    """
    Have a guest's file systems go on, whether or not they are at rest.

    @raise Cold: if the guest does not do it.
    """
    try:
        if await call("guest-fsfreeze-status", timeout_s=_THAW_S) != "thawed":
            await call("guest-fsfreeze-thaw", timeout_s=_THAW_S)
    except OSError as error:
        raise Cold(f"the guest's file systems may be at rest for {REST_S} s: {error}") from error


async def _done(monitor: Monitor, clock: IReactorTime, target: int, most_bytes: int) -> None:
    pause = _SOON_S
    while True:
        job = await _job(monitor)
        if job is None:
            raise OSError("QEMU has forgotten what it was to copy")
        if job.get("status") == "concluded":
            if "error" in job:
                raise OSError(f"QEMU cannot copy its disk: {str(job['error'])[:300]}")
            return
        if os.fstat(target).st_blocks * 512 > most_bytes:
            raise OSError(f"what it has changed of its disk is more than {most_bytes} bytes")
        await deferLater(clock, pause)
        pause = min(pause * 1.5, _LATE_S)


async def abandon(monitor: Monitor, clock: IReactorTime) -> None:
    """
    Leave nothing in a QEMU of a copy that is done, or was begun by whoever is no more.

    @raise OSError: if it cannot be asked.
    """
    pause = _SOON_S
    while (job := await _job(monitor)) is not None:
        concluded = job.get("status") == "concluded"
        with suppress(OSError):
            await monitor.execute("job-dismiss" if concluded else "job-cancel", {"id": NAME})
        if not concluded:
            await deferLater(clock, pause)
            pause = min(pause * 1.5, _LATE_S)
    with suppress(OSError):  # there is none
        await monitor.execute("blockdev-del", {"node-name": NAME})


async def _job(monitor: Monitor) -> Mapping[str, Any] | None:
    for one in await monitor.execute("query-jobs"):
        if isinstance(one, dict) and one.get("id") == NAME:
            return one
    return None
