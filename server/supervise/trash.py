"""
Removing big trees without holding up the daemon: renamed at once, removed by C{rm} beside it, taken up again after a
crash.
"""

from __future__ import annotations

import os
from pathlib import Path
from shutil import which

from twisted.internet.defer import Deferred

from hostline.server.supervise.shim import PATH
from hostline.server.supervise.spawn import Child, Spawner

_AT_ONCE = 200


class Trash:
    """
    What waits to be removed, in one directory on the file system of what is thrown away; one C{rm} at a time.

    @ivar directory: where it waits.
    """

    def __init__(self, directory: Path, spawner: Spawner) -> None:
        self.directory = directory
        self._spawner = spawner
        self._rm = which("rm", path=PATH) or "/bin/rm"
        self._waiting: list[tuple[Path, Deferred[None]]] = []
        self._child: Child | None = None
        self._count = 0

    def resume(self) -> None:
        """
        Go on with what an earlier daemon threw away.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self._waiting += [(path, Deferred()) for path in self.directory.iterdir()]
        self._next()

    async def throw(self, path: Path) -> None:
        """
        Remove a tree; it is gone from its place at once, and from the disk when this returns.

        @raise OSError: if it cannot be moved away, or some of it is still there after C{rm} (L{resume} tries again).
        """
        self._count += 1
        target = self.directory / f"{path.name}.{os.getpid()}.{self._count}"
        while target.exists():
            self._count += 1
            target = target.with_suffix(f".{self._count}")
        try:
            path.rename(target)
        except FileNotFoundError:
            return
        removed: Deferred[None] = Deferred()
        self._waiting.append((target, removed))
        self._next()
        await removed
        if os.path.lexists(target):
            raise OSError(f"could not remove all of {target}")

    def close(self) -> None:
        """
        Stop watching; a C{rm} at work goes on.
        """
        if self._child is not None:
            self._spawner.release(self._child)
            self._child = None

    def _next(self) -> None:
        if self._child is not None or not self._waiting:
            return
        batch, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]

        def ended(code: int | None) -> None:
            self._child = None
            self._next()
            for _, removed in batch:
                removed.callback(None)

        argv = [self._rm, "-rf", "--one-file-system", "--", *(str(path) for path, _ in batch)]
        try:
            self._child = self._spawner.spawn(argv, environment={"PATH": PATH}, ended=ended)
        except OSError:
            ended(None)
