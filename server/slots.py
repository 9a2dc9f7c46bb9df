"""
Slots: the order of a connection's untagged replies, whatever the order in which they come to be.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from hostline.server.line import Prepared


@define(eq=False)
class Slot:
    """
    The place of an untagged reply in the order of its connection.

    @ivar reply: None until it is known.
    @ivar blocks: whether changes wait until it is.
    """

    reply: bytes | None = None
    blocks: bool = field(default=False)


class Slots(deque[Slot]):
    """
    The places of replies that wait: for themselves, or for one before them.
    """

    __slots__ = ()

    def may_begin(self, line: Prepared) -> bool:
        """
        Whether a line may be answered already. Changes follow each other into one commit; whatever else is asked
        behind a change sees it done.
        """
        if not self:
            return True
        return line.row is not None and line.row.changes and not any(slot.blocks for slot in self)

    def take(self) -> list[bytes]:
        """
        Take out those whose turn has come.

        @return: their replies.
        """
        ready = []
        while self and self[0].reply is not None:
            ready.append(self.popleft().reply or b"")
        return ready
