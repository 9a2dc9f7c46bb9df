"""
Running a small program to its end, and hearing what it said.
"""

from __future__ import annotations

import os
from shutil import which

from twisted.internet.defer import Deferred

from hostline.server.supervise.shim import PATH
from hostline.server.supervise.spawn import Spawner

#: Bytes at the end of what a program says that are kept.
_KEPT = 4096


class Failed(OSError):
    """
    A program ended with another status than 0; the message is the last line that it wrote.

    @ivar status: with which; None if that is not known.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def program(name: str) -> str:
    """
    @return: the path of a program.
    @raise FileNotFoundError: if this host does not have it.
    """
    found = which(name, path=PATH)
    if found is None:
        raise FileNotFoundError(f"this host has no {name}")
    return found


async def run(spawner: Spawner, *argv: str, text: str = "") -> None:
    """
    Run a program and wait for its end.

    @param argv: the first is its name or path.
    @param text: its standard input.
    @raise Failed: if it fails.
    @raise OSError: if it cannot be started.
    """
    ended: Deferred[int | None] = Deferred()
    said = os.memfd_create("said")
    reads = os.memfd_create("reads")
    try:
        os.pwrite(reads, text.encode("utf-8", "replace"), 0)
        to_said = [(os.POSIX_SPAWN_DUP2, reads, 0), (os.POSIX_SPAWN_DUP2, said, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
        environment = {"PATH": PATH, "LC_ALL": "C"}
        words = [argv[0] if argv[0].startswith("/") else program(argv[0]), *argv[1:]]
        spawner.spawn(words, environment=environment, file_actions=to_said, ended=ended.callback)
        code = await ended
        if code != 0:
            text = os.pread(said, _KEPT, max(os.fstat(said).st_size - _KEPT, 0)).decode("utf-8", "replace")
            lines = [line.strip() for line in text.splitlines() if line.strip() and "dmesg(1)" not in line]
            raise Failed(lines[-1] if lines else f"{argv[0]} ended with status {code}", code)
    finally:
        os.close(said)
        os.close(reads)
