"""
The one place that starts processes, and sees them end.

C{posix_spawn} (a fork of a big daemon costs a hundred times as much) and one pidfd per process as a reader of the
loop: no C{SIGCHLD}, so it works alike on uvloop and on asyncio's own loop, and a process found again after a restart
of the daemon is watched just like a child.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

Ended = Callable[[int | None], None]

_PR_SET_CHILD_SUBREAPER: Final = 36
_NULL: Final = tuple((os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3))
_CATCHABLE: Final = [s for s in signal.valid_signals() if s not in (signal.SIGKILL, signal.SIGSTOP)]


def become_subreaper() -> None:
    """
    Let orphans among our descendants become our children, so that a PID 1 that reaps late holds up nobody.

    Whoever calls this gives its L{Spawner} C{reaps_strangers=True}.

    @raise OSError: if the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def keep_descriptors() -> None:
    """
    Let no child inherit what we ourselves inherited beyond the standard streams; all that Python opens is kept anyway.
    """
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) > 2:
            with suppress(OSError):
                os.set_inheritable(int(name), False)


def start_time(pid: int) -> tuple[int, str] | None:
    """
    @return: when a process was started (field 22 of C{/proc/PID/stat}, clock ticks after boot) and its state letter
        (L{state}); None if there is none. A pid together with its start time is never used again.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 (a Path costs more than the read)
            fields = file.read(2048).rpartition(b") ")[2].split()
        return int(fields[19]), state(fields)
    except (OSError, IndexError, ValueError):
        return None


def state(fields: Sequence[bytes]) -> str:
    """
    @param fields: of C{/proc/PID/stat}, from the state on.
    @return: the state letter of a process, C{Z} or C{X} if it is dead. One whose first thread has ended while others go
        on is C{S}: the kernel calls that a zombie too, and whoever wants to be overlooked can be one.
    """
    letter = fields[0].decode("ascii")
    return "S" if letter in "ZX" and int(fields[17]) > 1 else letter


class Child:
    """
    A process that is being watched.

    @ivar pid: its pid.
    @ivar started: its start time, in clock ticks after boot.
    """

    def __init__(self, pid: int, started: int, fd: int, ended: Ended) -> None:
        self.pid = pid
        self.started = started
        self._fd = fd
        self._ended = ended

    @property
    def alive(self) -> bool:
        """
        @return: whether its end has not been noticed yet.
        """
        return self._fd >= 0

    def kill(self, number: int) -> bool:
        """
        Send a signal to this very process, never to another that has its pid.

        @return: False if it is gone.
        """
        if self._fd < 0:
            return False
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            return False
        return True


def exit_status(result: os.waitid_result) -> int:
    """
    @return: the exit status in the shell's manner: 128+signal if killed.
    """
    return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status


class Spawner:
    """
    Starts processes, finds them again, and calls back once when each ends.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, reaps_strangers: bool = False) -> None:
        """
        @param reaps_strangers: every other child of this process is an orphan to be reaped (see
            L{become_subreaper}); only if nothing else here starts processes.
        """
        self._loop = loop
        self._reaps_strangers = reaps_strangers
        self._watched: dict[int, Child] = {}
        self._dead: deque[tuple[Child, int]] = deque()
        keep_descriptors()

    def spawn(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        file_actions: Sequence[tuple[Any, ...]] = (),
        setsid: bool = True,
        ended: Ended,
    ) -> Child:
        """
        Start a program; its standard streams are /dev/null unless C{file_actions} say otherwise.

        @param argv: the first is the program's path, used as it is (C{PATH} is not searched).
        @param ended: called once with the exit status, 128+signal if killed.
        @raise OSError: if it could not be started (no such program, no more processes or descriptors).
        """
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            environment,
            file_actions=[*_NULL, *file_actions],
            setsid=setsid,
            setsigmask=[],
            setsigdef=_CATCHABLE,
        )
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)  # ours and not reaped: the pid cannot be another's
            os.waitpid(pid, 0)
            raise
        known = start_time(pid)
        return self._watch(Child(pid, known[0] if known else 0, fd, ended))

    def adopt(self, pid: int, started: int, ended: Ended) -> Child | None:
        """
        Watch a process found again.

        @param started: the start time noted with the pid.
        @param ended: called once when it ends; with None if it is not our child, for then nobody tells its status.
        @return: None if it is gone, or dead and only not reaped, or if another process has its pid.
        """
        try:
            fd = os.pidfd_open(pid)
        except (OSError, ValueError):
            return None
        known = start_time(pid)  # after the pidfd: what we read now is of the process that we hold
        if known is None or known[0] != started or (known[1] in "ZX" and not _is_ours(fd)):
            os.close(fd)
            return None
        return self._watch(Child(pid, started, fd, ended))

    def reap_strangers(self) -> None:
        """
        Reap every dead child; one that is watched gets its news, any other was an orphan.
        """
        with suppress(ChildProcessError):
            while (result := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)) is not None:
                child = self._watched.get(result.si_pid)
                if child is not None:
                    self._drop(child)  # from now on the pid may be another's
                    self._dead.append((child, exit_status(result)))
        for _ in range(len(self._dead)):  # who ends while this is told has its own turn
            if self._dead:
                child, code = self._dead.popleft()
                child._ended(code)

    def release(self, child: Child) -> None:
        """
        Stop watching one process; it goes on, and nobody is called.
        """
        if child._fd >= 0:
            self._drop(child)
        else:
            self._dead = deque(one for one in self._dead if one[0] is not child)

    def close(self) -> None:
        """
        Stop watching; the processes go on, and nobody is called.
        """
        self._dead.clear()
        for child in list(self._watched.values()):
            self._drop(child)

    def _watch(self, child: Child) -> Child:
        self._watched[child.pid] = child
        self._loop.add_reader(child._fd, self._readable, child)
        return child

    def _readable(self, child: Child) -> None:
        if child._fd < 0:
            return
        code: int | None = None
        with suppress(ChildProcessError):
            result = os.waitid(os.P_PIDFD, child._fd, os.WEXITED | os.WNOHANG)
            if result is None:
                return
            code = exit_status(result)
        self._forget(child, code)
        if self._reaps_strangers:
            self.reap_strangers()

    def _forget(self, child: Child, code: int | None) -> None:
        self._drop(child)
        child._ended(code)

    def _drop(self, child: Child) -> None:
        if self._watched.get(child.pid) is child:
            del self._watched[child.pid]
        self._loop.remove_reader(child._fd)
        os.close(child._fd)
        child._fd = -1


def _is_ours(fd: int) -> bool:
    try:
        os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
