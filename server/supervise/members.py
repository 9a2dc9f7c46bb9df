"""
The living processes of each sliver, and how to signal them all: by control group, or by looking at every process.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Set
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from hostline.server.supervise import survey
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.shim import Process

#: How long one look around serves all who ask.
_FRESH_S = 0.005


class Members:
    """
    Knows who belongs to which sliver of one state directory, and touches nobody else.
    """

    def __init__(
        self,
        instance: str,
        cgroups: Cgroups | None,
        clock: IReactorTime,
        uids: Mapping[int, int],
        proc: Path = Path("/proc"),
    ) -> None:
        """
        @param uids: serial to uid, of slivers with a uid of their own; looked at anew each time.
        """
        self._instance = instance
        self._cgroups = cgroups
        self._clock = clock
        self._uids = uids
        self._proc = proc
        self._seen: tuple[float, dict[int, list[Process]]] = (-1.0, {})

    def everywhere(self, *, fresh: bool = False) -> dict[int, list[Process]]:
        """
        Look at every process of the host.

        @param fresh: not what was seen a moment ago.
        @return: serial to processes, keepers among them.
        """
        now = self._clock.seconds()
        if fresh or not self._seen[0] <= now < self._seen[0] + _FRESH_S:
            uids = {uid: serial for serial, uid in self._uids.items()}
            self._seen = (now, survey.members(survey.look_around(self._proc), self._instance, uids))
        return self._seen[1]

    def pids(self, serial: int, *, thorough: bool = False) -> set[int]:
        """
        @param thorough: also whoever belongs to the sliver and has not joined its control group, as keepers never do.
        """
        found: set[int] = set()
        if self._cgroups is not None:
            found |= set(self._cgroups.members(serial))
        if self._cgroups is None or thorough:
            found |= {process.pid for process in self.everywhere().get(serial, ())}
        return found

    def signal(self, serial: int, number: int, *, spare: Set[int], thorough: bool = False) -> bool:
        """
        Send a signal to all but some.

        @return: whether there was anyone.
        """
        there = False
        if self._cgroups is not None:
            for pid in self._cgroups.members(serial):
                if pid not in spare:
                    there = True
                    self._cgroups.signal(serial, pid, number)
        if self._cgroups is None or thorough:
            for process in self.everywhere().get(serial, ()):
                if process.pid not in spare:
                    there |= survey.signal_process(process, number)
        return there

    def kill(self, serial: int, *, spare: Set[int], thorough: bool = False) -> bool:
        """
        Kill all but some; to be repeated until nobody is left.

        @param spare: who is not in the control group anyway, like the keeper.
        @return: whether there was anyone.
        """
        there = bool(self.pids(serial, thorough=thorough) - spare)
        if self._cgroups is not None and there:
            self._cgroups.kill(serial)
        if self._cgroups is None or thorough:
            self.signal(serial, signal.SIGKILL, spare=spare, thorough=True)
        return there
