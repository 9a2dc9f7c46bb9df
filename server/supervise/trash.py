"""
Removing big trees without holding up anybody: renamed at once, removed by C{rm} beside the daemon, taken up again after
a crash.
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from pathlib import Path
from shutil import which

from twisted.logger import Logger

from hostline.server.supervise.shim import PATH
from hostline.server.supervise.spawn import Child, Spawner

#: How many trees are removed at the same time: a huge one does not keep the others on the disk.
AT_ONCE = 4


class Trash:
    """
    What waits to be removed, in one directory on the file system of what is thrown away; one C{rm} for each tree.

    @ivar directory: where it waits; nobody but us gets in.
    """

    _log = Logger()

    def __init__(self, directory: Path, spawner: Spawner) -> None:
        self.directory = directory
        self._spawner = spawner
        self._rm = which("rm", path=PATH) or "/bin/rm"
        self._waiting: deque[Path] = deque()
        self._children: dict[Path, Child] = {}
        self._count = 0

    def resume(self) -> None:
        """
        Go on with what an earlier daemon threw away.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self._waiting.extend(self.directory.iterdir())
        self._next()

    async def throw(self, path: Path) -> None:
        """
        Remove a tree: it is gone from its place when this returns, and from the disk soon after. What C{rm} leaves
        L{resume} tries again.

        @raise OSError: if it cannot be moved away.
        """
        self._count += 1
        target = self.directory / f"{path.name}.{os.getpid()}.{self._count}"
        while os.path.lexists(target):
            self._count += 1
            target = target.with_suffix(f".{self._count}")
        try:
            path.rename(target)
        except FileNotFoundError:
            return
        self._waiting.append(target)
        self._next()

    def close(self) -> None:
        """
        Stop watching; each C{rm} at work goes on.
        """
        self._waiting.clear()
        for child in self._children.values():
            self._spawner.release(child)
        self._children.clear()

    def _next(self) -> None:
        while self._waiting and len(self._children) < AT_ONCE:
            path = self._waiting.popleft()
            argv = [self._rm, "-rf", "--one-file-system", "--", str(path)]
            try:
                child = self._spawner.spawn(argv, environment={"PATH": PATH}, ended=partial(self._ended, path))
            except OSError as error:
                self._log.warn("no rm for {path} yet: {reason}", path=str(path), reason=str(error))
                self._waiting.appendleft(path)  # when something else is thrown away or is gone
                return
            self._children[path] = child

    def _ended(self, path: Path, code: int | None) -> None:
        self._children.pop(path, None)
        if os.path.lexists(path):
            self._log.warn("could not remove all of {path}; the next start tries again", path=str(path))
        self._next()
