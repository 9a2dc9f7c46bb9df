"""
The living processes of each sliver, and how to signal them all: by control group, or by looking at every process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Set
from contextlib import suppress
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from hostline.server.supervise import survey
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.shim import Process
from hostline.server.supervise.turns import Turns

_NOBODY: Set[int] = frozenset()


class Members:
    """
    Knows who belongs to which sliver of one state directory, and touches nobody else.
    """

    def __init__(
        self,
        instance: str,
        cgroups: Cgroups | None,
        clock: IReactorTime,
        uids: Mapping[int, int] | None,
        proc: Path = Path("/proc"),
        run: Path = Path("/nonexistent"),
    ) -> None:
        """
        @param uids: serial to uid, looked at anew each time; None where slivers have no uids of their own.
        @param run: where our shims are.
        """
        self._instance = instance
        self._cgroups = cgroups
        self._uids = uids
        self._survey = survey.Survey(clock, proc, run)
        self._keepers: dict[int, int] = {}
        self._turns = Turns(clock)
        self._sorted: tuple[list[survey.Seen], dict[int, list[Process]]] = ([], {})

    def grouped(self, serial: int, pid: int) -> bool:
        """
        @return: whether a process is in its sliver's control group, so that all it starts is too.
        """
        return self._cgroups is not None and pid in self._cgroups.members(serial)

    def keeper_started(self, serial: int, pid: int) -> None:
        """
        A sliver has a new keeper: what is in its session, and root's, is the sliver's.
        """
        self._keepers[serial] = pid

    def keeper_gone(self, serial: int) -> None:
        """
        Nothing is left of the boot that the keeper kept.
        """
        self._keepers.pop(serial, None)

    async def everywhere(self) -> dict[int, list[Process]]:
        """
        Look at every process of the host.

        @return: serial to processes, keepers among them.
        """
        everything = await self._survey.look()
        if everything is not self._sorted[0]:  # several who asked get the same list
            uids = None if self._uids is None else {uid: serial for serial, uid in self._uids.items()}
            keepers = {pid: serial for serial, pid in self._keepers.items()}
            self._sorted = (everything, survey.members(everything, self._instance, uids, keepers=keepers))
        return self._sorted[1]

    async def pids(self, serial: int) -> list[int]:
        """
        @return: those of a sliver's living processes.
        """
        if self._cgroups is not None:
            return self._cgroups.members(serial)
        return [process.pid for process in (await self.everywhere()).get(serial, ())]

    async def signal(
        self, serial: int, number: int, *, spare: Set[int], told: Set[int] = _NOBODY, thorough: bool = False
    ) -> set[int]:
        """
        Send a signal to all but some.

        @param told: who is not sent it again.
        @param thorough: also whoever belongs to the sliver and has not joined its control group, as keepers never do.
        @return: the pids of all who were there and are not spared.
        """
        there: set[int] = set()
        if self._cgroups is not None:
            there |= set(self._cgroups.members(serial)) - spare
            for pid in there - told:
                self._cgroups.signal(serial, pid, number)
        if self._cgroups is None or thorough:
            everywhere = await self.everywhere()
            await self._turns.mine()
            for process in everywhere.get(serial, ()):
                if process.pid not in spare and process.pid not in there:
                    there.add(process.pid)
                    if process.pid not in told:
                        survey.signal_process(process, number)
        return there

    async def kill_session(self, serial: int, session: int) -> set[int]:
        """
        Kill all of a sliver that are in one session; to be repeated until nobody is left.

        @return: the pids of those who were there.
        """
        if self._cgroups is not None:
            pids = self._cgroups.members(serial)
        else:
            pids = [process.pid for process in (await self.everywhere()).get(serial, ())]
            await self._turns.mine()
        there = set()
        for pid in pids:
            with suppress(OSError):
                fd = os.pidfd_open(pid)
                try:
                    if (
                        survey.session_of(pid) == session
                    ):  # after the pidfd: what is read is of the process that we hold
                        signal.pidfd_send_signal(fd, signal.SIGKILL)
                        there.add(pid)
                finally:
                    os.close(fd)
        return there

    async def kill(self, serial: int, *, spare: Set[int], thorough: bool = False) -> set[int]:
        """
        Kill all but some; to be repeated until nobody is left.

        @param spare: who is not in the control group anyway, like the keeper.
        @return: the pids of those who were there.
        """
        there: set[int] = set()
        if self._cgroups is not None:
            there |= set(self._cgroups.members(serial))
            if there:
                self._cgroups.kill(serial)
        if self._cgroups is None or thorough:
            there |= await self.signal(serial, signal.SIGKILL, spare=spare | there, thorough=True)
        return there
