"""
One daemon for each state: a lock that the kernel drops with its holder, whatever ended it.

It is a flock on a file, so no pid is ever compared and nothing is left behind to be recycled.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Locked(Exception):
    """
    Another daemon has this state.
    """


class StateLock:
    """
    The lock on one state directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """
        @raise Locked: naming the holder's pid as it wrote it, for people only.
        @raise OSError: if the file cannot be made.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except PermissionError:
            raise
        except OSError:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise Locked(f"another hostline (pid {holder}) runs on {self._path.parent}") from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass  # a full or read-only disk: the lock holds all the same
        self._descriptor = descriptor

    def release(self) -> None:
        """
        Give the lock back; may be repeated.
        """
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
