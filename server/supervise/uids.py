"""
Which uid (and gid) a sliver gets: one of its own from a configured range, never one that an account has.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from hostline.server.supervise import homes


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


class Uids:
    """
    Who has which uid; noted beside each sliver's directories, in C{SERIAL/uid}.
    """

    def __init__(self, directory: Path, uids: UidRange, accounts: Container[int]) -> None:
        """
        @param accounts: uids that are never given.
        """
        self._directory = directory
        self._range = uids
        self._accounts = accounts
        self.by_serial: dict[int, int] = {}

    def load(self) -> None:
        """
        Read what earlier daemons noted.
        """
        for note in self._directory.glob("*/uid"):
            numbers = homes.read_note(note)
            if len(numbers) == 1 and note.parent.name.isdigit():
                self.by_serial[int(note.parent.name)] = numbers[0]

    def ensure(self, serial: int) -> int:
        """
        @return: the sliver's uid, noted before anything can belong to it.
        @raise OSError: if it cannot be noted.
        @raise ValueError: if none is free.
        """
        uid = self.by_serial.get(serial)
        if uid is None:
            in_use = set(self.by_serial.values())
            uid = self._range.allocate(serial, lambda u: u in in_use or u in self._accounts)
            (self._directory / str(serial)).mkdir(mode=0o700, exist_ok=True)
            homes.write_note(self._directory / str(serial) / "uid", str(uid), lasting=True)
            self.by_serial[serial] = uid
        return uid

    def forget(self, serial: int) -> None:
        """
        The sliver is gone, and all that belonged to its uid.
        """
        self.by_serial.pop(serial, None)


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
