"""
The processes of whole accounts, found by any of their uids, also where C{/proc} shows them as root's: sshd's are such.
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.supervise import survey
from hostline.server.supervise.shim import Process
from hostline.server.supervise.spawn import start_time

#: Seconds after which a process that does not end counts as one that will not; and between two looks.
END_S, BREATH_S = 10.0, 0.02
#: Seconds that a program may take which changes accounts; it waits 15 for others that do.
PATIENCE_S = 20.0
#: How often it is looked for who is just coming in by ssh: whoever began then is past the keys that were read before,
#: and anybody can begin without end.
_COMING = 5
#: How the titles begin of root's processes of sshd, before the name of who comes in or is in (" [priv]" behind it).
_SSHD = (b"sshd: ", b"sshd-session: ", b"sshd-auth: ")
#: How many processes are looked at before the reactor gets its turn.
_STEP = 100


class Owned:
    """
    Looks at all processes of the host.
    """

    def __init__(self, clock: IReactorTime, proc: str = "/proc") -> None:
        self._clock = clock
        self._proc = proc

    async def uids(self) -> dict[int, list[Process]]:
        """
        @return: every living process, by each of its uids: real, effective, saved and of file systems.
        """
        found: dict[int, list[Process]] = defaultdict(list)
        for at, pid in enumerate(self._pids()):
            if at % _STEP == _STEP - 1:
                await deferLater(self._clock, 0)
            known = start_time(pid)
            if known is None or known[1] in "ZX":
                continue
            for uid in _uids(f"{self._proc}/{pid}/status"):
                found[uid].append(Process(pid, known[0]))
        return found

    async def end(self, uid: int, name: str | None = None) -> None:
        """
        Kill all processes of a uid, until there is none.

        @param name: of an account; who is just coming in to it by ssh, and is root still, is ended too.
        @raise OSError: if one does not end.
        """
        deadline = self._clock.seconds() + END_S
        times = 0
        while True:
            every = await self.uids()
            found = every.get(uid, [])
            if name is not None and times < _COMING:
                found = found + [one for one in every.get(0, []) if self._comes_in(one.pid, os.fsencode(name))]
            times += 1
            if not found:
                return
            for process in found:
                survey.signal_process(process, signal.SIGKILL)
            if self._clock.seconds() > deadline:
                raise OSError(f"its processes do not end: {', '.join(str(one.pid) for one in found[:10])}")
            await deferLater(self._clock, BREATH_S)

    async def ended(self, programs: Collection[str], names: Collection[str], limit_s: float = PATIENCE_S) -> None:
        """
        Wait until none of some programs is at work on an account: an earlier daemon may have started it and died.

        @param programs: their names; C{names}: those of accounts, of which one is their last argument.
        """
        deadline = self._clock.seconds() + limit_s
        wanted, accounts = {os.fsencode(one) for one in programs}, {os.fsencode(one) for one in names}
        while accounts and any(_works(f"{self._proc}/{pid}/cmdline", wanted, accounts) for pid in self._pids()):
            if self._clock.seconds() > deadline:
                return
            await deferLater(self._clock, BREATH_S)

    def _comes_in(self, pid: int, name: bytes) -> bool:
        with suppress(OSError), open(f"{self._proc}/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            title = file.read(1 << 12).partition(b"\0")[0]
            return any(title.startswith(one + name + b" [") for one in _SSHD)
        return False

    def _pids(self) -> list[int]:
        return [int(name) for name in os.listdir(self._proc) if name.isdigit()]  # noqa: PTH208


def _works(cmdline: str, programs: Collection[bytes], names: Collection[bytes]) -> bool:
    with suppress(OSError), open(cmdline, "rb") as file:  # noqa: PTH123
        words = file.read(1 << 12).rstrip(b"\0").split(b"\0")
        return words[0].rpartition(b"/")[2] in programs and words[-1] in names
    return False


def _uids(status: str) -> set[int]:
    """
    @return: the uids in a C{/proc/PID/status}; none if it is gone.
    """
    with suppress(OSError, ValueError), open(status, "rb") as file:  # noqa: PTH123
        for line in file.read(1 << 16).split(b"\n"):
            if line.startswith(b"Uid:"):
                return {int(word) for word in line.split()[1:]}
    return set()
