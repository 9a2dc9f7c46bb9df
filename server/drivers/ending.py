"""
Ending all processes of a sliver: politely, then for certain.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.members import Members
from hostline.server.supervise.turns import Turns

#: How long a keeper may take to write its file or to leave.
BREATH_S = 2.0
#: How long killed processes may take to end.
END_S = 10.0
#: What a sliver's status says if they do not.
LEFT = "processes that do not end"
_SHORT_S, _LONG_S = 0.005, 0.1


class Ending:
    """
    Ends slivers, as long as it takes, without holding up the reactor.
    """

    def __init__(
        self,
        members: Members,
        cgroups: Cgroups | None,
        clock: IReactorTime,
        turns: Turns,
        *,
        thorough: bool = False,
    ) -> None:
        """
        @param thorough: slivers may have processes that never joined their control groups.
        """
        self._thorough = thorough
        self._members = members
        self._cgroups = cgroups
        self._clock = clock
        self._turns = turns

    async def end(self, sliver: ProcessSliver, grace_s: float) -> None:
        """
        End all processes of a sliver: unless the grace is 0, first all but the node's own by TERM; then everything by
        KILL; the keeper goes by itself when it has noted the node's end. If some do not end in time, the sliver is not
        C{cleared}, and its C{problems} name them.
        """
        sliver.ending = True
        await self._turns.mine()
        serial, keeper = sliver.serial, sliver.keeper
        node = sliver.boot.node
        thorough = self._thorough or not sliver.boot.up or node is None or not self._members.grouped(serial, node.pid)
        spare = set() if keeper is None else {keeper.pid}
        left: set[int] = set()

        async def killed() -> bool:
            nonlocal left
            left = await self._members.kill(serial, spare=spare, thorough=thorough)
            return not left

        async def keeper_gone() -> bool:
            return sliver.keeper is None

        async def groups_gone() -> bool:
            return self._cgroups is None or self._cgroups.remove(serial)

        try:
            if keeper is not None and not sliver.boot.up:
                keeper.kill(signal.SIGKILL)
            elif keeper is not None and grace_s > 0:
                await self.until(self._asking(sliver, spare), grace_s)
            sliver.cleared = await self.until(killed, END_S)
            if not await self.until(keeper_gone, BREATH_S) and keeper is not None:
                keeper.kill(signal.SIGKILL)
                await self.until(keeper_gone, END_S)
            await self.until(groups_gone, BREATH_S)
            if sliver.cleared:
                self._members.keeper_gone(serial)
            sliver.problems = tuple(problem for problem in sliver.problems if not problem.startswith(LEFT))
            if left:
                sliver.problems = (*sliver.problems, f"{LEFT}: {' '.join(map(str, sorted(left)))}")
        finally:
            sliver.ending = False

    def _asking(self, sliver: ProcessSliver, spare: set[int]) -> Callable[[], Awaitable[bool]]:
        """
        Ask everybody but the node's own processes to end, each once, also who is born meanwhile.

        @return: a function that does so, and says whether nobody is left.
        """
        own = spare | ({sliver.boot.node.pid} if sliver.boot.node else set())
        asked: set[int] = set()

        async def asking() -> bool:
            there = await self._members.signal(
                sliver.serial, signal.SIGTERM, spare=own, told=asked, thorough=self._thorough
            )
            asked.update(there)
            return not there

        return asking

    async def until(self, done: Callable[[], Awaitable[bool]], limit_s: float) -> bool:
        """
        Ask again and again, less and less often.

        @return: whether it was so before the time was over.
        """
        deadline = self._clock.seconds() + limit_s
        pause = _SHORT_S
        while not await done():
            if self._clock.seconds() >= deadline:
                return False
            await deferLater(self._clock, pause)
            await self._turns.mine()
            pause = min(_LONG_S, pause * 2)
        return True
