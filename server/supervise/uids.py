"""
Which uid (and gid) a sliver gets: one of its own from a configured range, never one that an account has.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from hostline.server.supervise.notes import Notes


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

    def natural(self, serial: int) -> int:
        """
        @return: the uid that a sliver has if nobody is in its way.
        """
        return self.first + serial % self.size


class Uids(Notes):
    """
    Who has which uid; noted beside each sliver's directories, in C{SERIAL/uid}.
    """

    def __init__(self, directory: Path, uids: UidRange, accounts: Container[int]) -> None:
        """
        @param accounts: uids that are never given.
        """
        super().__init__(directory, "uid")
        self._range = uids
        self._accounts = accounts

    def ensure(self, serial: int) -> int:
        """
        @return: the sliver's uid, noted before anything can belong to it. One that follows from the serial is found
            again if the host fails before the note is on the disk; for another we wait until it is.
        @raise OSError: if it cannot be noted.
        @raise ValueError: if none is free.
        """
        uid = self.by_serial.get(serial)
        if uid is None:
            in_use = set(self.by_serial.values())
            uid = self._range.allocate(serial, lambda u: u in in_use or u in self._accounts)
            (self._directory / str(serial)).mkdir(mode=0o700, exist_ok=True)
            self._note(serial, uid, lasting=uid != self._range.natural(serial))
        return uid


def accounts(etc: Path = Path("/etc")) -> Container[int]:
    """
    @return: all that L{of_accounts} gives.
    """
    found = of_accounts(etc)
    return _Taken({one.start for one in found if len(one) == 1}, [one for one in found if len(one) > 1])


def of_accounts(etc: Path = Path("/etc")) -> list[range]:
    """
    @return: the uids and gids that accounts, groups and the containers of accounts (subuid, subgid) have.
    """
    found = []
    for name, at in (("passwd", 2), ("group", 2), ("subuid", 1), ("subgid", 1)):
        with suppress(OSError):
            for line in (etc / name).read_text(errors="replace").splitlines():
                words = line.split(":")
                with suppress(ValueError, IndexError):
                    found.append(range(int(words[at]), int(words[at]) + (int(words[2]) if at == 1 else 1)))
    return found


@frozen
class _Taken(Container[int]):
    single: set[int]
    ranges: list[range]

    def __contains__(self, uid: object) -> bool:
        return uid in self.single or any(uid in taken for taken in self.ranges)
