"""
Which uid (and gid) a sliver gets: one of its own from a configured range, never one that an account has.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path

from attrs import frozen


@frozen
class UidRange:
    """
    The uids that slivers may have; C{200000-265535} unless configured otherwise.
    """

    first: int = 200000
    size: int = 65536

    def allocate(self, serial: int, taken: Callable[[int], bool]) -> int:
        """
        @param taken: whether another sliver or an account has a uid.
        @return: C{first + serial % size}, or the next one that is free.
        @raise ValueError: if all are taken.
        """
        for step in range(self.size):
            uid = self.first + (serial + step) % self.size
            if not taken(uid):
                return uid
        raise ValueError(f"no uid is free in {self.first}-{self.first + self.size - 1}")

    def __contains__(self, uid: int) -> bool:
        return self.first <= uid < self.first + self.size


def accounts(etc: Path = Path("/etc")) -> Container[int]:
    """
    @return: the uids and gids that accounts, groups and the containers of accounts (subuid, subgid) have.
    """
    single: set[int] = set()
    ranges: list[range] = []
    for name in ("passwd", "group", "subuid", "subgid"):
        with suppress(OSError):
            for line in (etc / name).read_text(errors="replace").splitlines():
                words = line.split(":")
                with suppress(ValueError, IndexError):
                    if name.startswith("sub"):
                        ranges.append(range(int(words[1]), int(words[1]) + int(words[2])))
                    else:
                        single.add(int(words[2]))
    return _Taken(single, ranges)


@frozen
class _Taken(Container[int]):
    single: set[int]
    ranges: list[range]

    def __contains__(self, uid: object) -> bool:
        return uid in self.single or any(uid in taken for taken in self.ranges)
