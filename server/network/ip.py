"""
The host's own programs for its network, iproute2 and nftables: many orders for each in one go, by one shell.

What they are to do comes as text in memory, never as arguments, and what they say is read when they have ended.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from shutil import which

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from hostline.server.supervise.shim import PATH, SHELL
from hostline.server.supervise.spawn import Child, Spawner

#: Seconds after which a run is killed; they take milliseconds unless the host is stuck.
LIMIT_S = 30.0
#: The descriptor on which a run finds the network namespace that it is about.
SPACE_FD = 3
#: The programs, and what brings them.
PROGRAMS = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "nsenter": "util-linux", "unshare": "util-linux"}


@frozen
class Outcome:
    """
    What came of a run.

    @ivar code: the shell's exit status, 128+signal if killed.
    """

    code: int
    out: str = ""
    err: str = ""

    @property
    def reason(self) -> str:
        """
        @return: why it failed, in a line.
        """
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return "; ".join(lines[:3])[:300] or f"exit status {self.code}"


def missing() -> list[str]:
    """
    @return: which packages are wanted for programs that are not there.
    """
    return sorted({package for name, package in PROGRAMS.items() if which(name, path=PATH) is None})


class Tools:
    """
    Runs them.
    """

    def __init__(self, spawner: Spawner, clock: IReactorTime) -> None:
        self._spawner = spawner
        self._clock = clock

    async def run(self, script: str, *words: str, texts: Mapping[int, str] | None = None, space: int = -1) -> Outcome:
        """
        Run a shell script; at the most L{LIMIT_S} long.

        @param words: its C{$1}, C{$2} ...
        @param texts: by descriptor, 4 to 9, what it can read there.
        @param space: a descriptor of ours for a network namespace, its L{SPACE_FD}; -1: none.
        """
        files = {fd: _file(text) for fd, text in {1: "", 2: "", **(texts or {})}.items()}
        actions = [(os.POSIX_SPAWN_DUP2, space, SPACE_FD)] if space >= 0 else []  # first: another may come in its place
        actions += [(os.POSIX_SPAWN_DUP2, ours, fd) for fd, ours in _clear(files).items()]
        ended: Deferred[int | None] = Deferred()
        try:
            child = self._spawner.spawn(
                [SHELL, "-c", script, "sh", *words],
                environment={"PATH": PATH, "LC_ALL": "C"},
                file_actions=actions,
                ended=ended.callback,
            )
            limit = self._clock.callLater(LIMIT_S, _end, child)
            code = await ended
            if limit.active():
                limit.cancel()
            return Outcome(255 if code is None else code, _text(files[1]), _text(files[2]))
        except OSError as error:
            return Outcome(255, err=str(error))
        finally:
            for fd in files.values():
                os.close(fd)


def _end(child: Child) -> None:
    if child.alive:  # its end is not noticed yet, so the pid is still its own
        with suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)


def _file(text: str) -> int:
    fd = os.memfd_create("hostline")
    if text:
        os.pwrite(fd, text.encode(), 0)
    return fd


def _clear(files: dict[int, int]) -> dict[int, int]:
    """
    Move ours above 9, so that none of them is in the place of another's copy.
    """
    for fd, ours in files.items():
        if ours <= 9:
            files[fd] = fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 10)
            os.close(ours)
    return files


def _text(fd: int) -> str:
    return os.pread(fd, os.fstat(fd).st_size, 0).decode("utf-8", "replace")
