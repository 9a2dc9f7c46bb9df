"""
The processes of whole accounts, found by any of their uids, also where C{/proc} shows them as root's: sshd's are such.
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from contextlib import suppress

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.supervise import survey
from hostline.server.supervise.shim import Process
from hostline.server.supervise.spawn import start_time

#: Seconds after which a process that does not end counts as one that will not; and between two looks.
END_S, BREATH_S = 10.0, 0.02
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
        pids = [int(name) for name in os.listdir(self._proc) if name.isdigit()]  # noqa: PTH208
        for at, pid in enumerate(pids):
            if at % _STEP == _STEP - 1:
                await deferLater(self._clock, 0)
            known = start_time(pid)
            if known is None or known[1] in "ZX":
                continue
            for uid in _uids(f"{self._proc}/{pid}/status"):
                found[uid].append(Process(pid, known[0]))
        return found

    async def end(self, uid: int) -> None:
        """
        Kill all processes of a uid, until there is none.

        @raise OSError: if one does not end.
        """
        deadline = self._clock.seconds() + END_S
        while True:
            found = (await self.uids()).get(uid, [])
            if not found:
                return
            for process in found:
                survey.signal_process(process, signal.SIGKILL)
            if self._clock.seconds() > deadline:
                raise OSError(f"its processes do not end: {', '.join(str(one.pid) for one in found[:10])}")
            await deferLater(self._clock, BREATH_S)


def _uids(status: str) -> set[int]:
    """
    @return: the uids in a C{/proc/PID/status}; none if it is gone.
    """
    with suppress(OSError, ValueError), open(status, "rb") as file:  # noqa: PTH123
        for line in file.read(1 << 16).split(b"\n"):
            if line.startswith(b"Uid:"):
                return {int(word) for word in line.split()[1:]}
    return set()
