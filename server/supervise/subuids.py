"""
Which block of uids (and gids) a container gets for the users inside: one of its own, never used by anybody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from hostline.server.supervise.notes import Notes

#: How many users a container has: what images expect to find.
BLOCK = 65536


@frozen
class SubuidRange:
    """
    The uids that blocks are cut from. By default what systemd's table of uids calls unused, below 2^31: 4000 blocks
    (UIDS-GIDS.md).
    """

    first: int = 0x70000000
    size: int = 4000 * BLOCK

    def blocks(self) -> range:
        """
        @return: the first uid of each block.
        """
        return range(self.first, self.first + self.size - BLOCK + 1, BLOCK)

    def natural(self, serial: int) -> int:
        """
        @return: the block that a sliver has if nobody is in its way.
        """
        blocks = self.blocks()
        return blocks[serial % len(blocks)] if blocks else -1


class Subuids(Notes):
    """
    Who has which block; noted beside each sliver's directory, in C{SERIAL/subuids}, for good: files carry these uids.

    @ivar by_serial: the first uid of each block.
    """

    def __init__(self, directory: Path, uids: SubuidRange, accounts: Sequence[range]) -> None:
        """
        @param directory: C{STATE/containers}.
        @param accounts: uids that are never given (L{hostline.server.supervise.uids.of_accounts}).
        """
        super().__init__(directory, "subuids")
        self._range = uids
        self._accounts = accounts

    def ensure(self, serial: int) -> int:
        """
        @return: the first uid of the sliver's block, noted before anything can belong to it; the sliver's directory is
            there. A block that follows from the serial is found again if the host fails before the note is on the disk;
            for another we wait until it is.
        @raise OSError: if it cannot be noted.
        @raise ValueError: if none is free.
        """
        first = self.by_serial.get(serial)
        if first is None:
            first = self._allocate(serial)
            self._note(serial, first, lasting=first != self._range.natural(serial))
        return first

    def _allocate(self, serial: int) -> int:
        blocks = self._range.blocks()
        given = set(self.by_serial.values())
        crooked = [range(first, first + BLOCK) for first in given if first not in blocks]  # of another configuration
        for step in range(len(blocks)):
            first = blocks[(serial + step) % len(blocks)]
            if first not in given and not any(_overlap(first, taken) for taken in (*crooked, *self._accounts)):
                return first
        last = self._range.first + self._range.size - 1
        raise ValueError(f"no block of {BLOCK} uids is free in {self._range.first}-{last}")


def _overlap(first: int, taken: range) -> bool:
    return first < taken.stop and taken.start < first + BLOCK
