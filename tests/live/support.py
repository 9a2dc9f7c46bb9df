"""
What the live tests share: a real asyncio loop, its time as a reactor's time, and waiting with a deadline.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

T = TypeVar("T")

#: No wait in a live test is longer, unless it says so.
DEADLINE_S = 20.0


class _Call:
    """
    What L{LoopClock.callLater} returns.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, delay: float, call: Callable[[], Any]) -> None:
        self._call = call
        self._over = False
        self._handle = loop.call_later(delay, self._run)

    def cancel(self) -> None:
        self._over = True
        self._handle.cancel()

    def active(self) -> bool:
        return not self._over

    def _run(self) -> None:
        self._over = True
        self._call()


@implementer(IReactorTime)
class LoopClock:
    """
    An asyncio loop's time in the manner of a reactor.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def seconds(self) -> float:
        return self._loop.time()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        return _Call(self._loop, delay, lambda: callable(*args, **kwargs))

    def getDelayedCalls(self) -> list[Any]:
        return []


def run(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Deferred[Any], Any, T], limit_s: float = DEADLINE_S) -> T:
    """
    @return: what a coroutine that waits for Deferreds returns.
    @raise TimeoutError: after C{limit_s}.
    """

    async def bounded() -> T:
        return await asyncio.wait_for(Deferred.fromCoroutine(coroutine).asFuture(loop), limit_s)

    return loop.run_until_complete(bounded())


def until(loop: asyncio.AbstractEventLoop, true: Callable[[], object], limit_s: float = DEADLINE_S) -> None:
    """
    Let the loop run until something is so.

    @raise AssertionError: after C{limit_s}.
    """
    deadline = loop.time() + limit_s
    while not true():
        if loop.time() > deadline:
            raise AssertionError("not so in time")
        loop.run_until_complete(asyncio.sleep(0.01))


def idle(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """
    Let the loop run for a while.
    """
    loop.run_until_complete(asyncio.sleep(seconds))


def temporary_directory() -> Path:
    """
    @return: a new directory with a short path, which others may pass through.
    """
    path = Path(tempfile.mkdtemp(prefix="hl-"))
    path.chmod(0o711)
    return path


def remove_directory(path: Path) -> None:
    """
    Remove a tree made by L{temporary_directory}.
    """
    shutil.rmtree(path, ignore_errors=True)


def living(pid: int) -> bool:
    """
    @return: whether a process is there and not only a zombie.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def working_in(directory: Path) -> list[int]:
    """
    @return: every living process whose working directory is below a directory, be that removed or not.
    """
    found = []
    for one in Path("/proc").iterdir():
        if one.name.isdigit():
            try:
                place = str((one / "cwd").readlink())
            except OSError:
                continue
            if place.startswith(f"{directory}/") and living(int(one.name)):
                found.append(int(one.name))
    return found


def as_root() -> bool:
    """
    @return: whether we may do what only root may.
    """
    return os.geteuid() == 0
