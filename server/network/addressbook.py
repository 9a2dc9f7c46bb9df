"""
Which address each sliver has: one of the subnet, given once, and its own until the sliver is forgotten.
"""

from __future__ import annotations

import os
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path

from hostline.server.network.shaping import Lease
from hostline.server.supervise import homes

#: The host's own address is the first; slivers' are the following.
GATEWAY = 1
#: No more, whatever the subnet: each place stands for two classes of L{hostline.server.network.shaping}.
MOST = 0x7FF0


class AddressBook:
    """
    Who has which address; noted one file each, C{SERIAL}, in a directory of its own.
    """

    def __init__(self, directory: Path, subnet: IPv4Network) -> None:
        """
        @param directory: C{STATE/network/addresses}; made if missing.
        """
        self._directory = directory
        self._subnet = subnet
        self._last = min(subnet.num_addresses - 2, MOST)
        self._places: dict[int, int] = {}
        self._taken: set[int] = set()

    @property
    def gateway(self) -> IPv4Address:
        """
        @return: the host's own address among the slivers.
        """
        return self._subnet[GATEWAY]

    def load(self) -> None:
        """
        Read what earlier daemons noted. What is not of this subnet, or another's already, counts as not given.

        @raise OSError: if the directory cannot be made or read.
        """
        self._places, self._taken = {}, set()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in sorted(os.listdir(self._directory), key=lambda n: (len(n), n)):  # noqa: PTH208
            if name.isascii() and name.isdigit():
                place = self._read(self._directory / name)
                if place not in self._taken and GATEWAY < place <= self._last:
                    self._places[int(name)] = place
                    self._taken.add(place)

    def _read(self, note: Path) -> int:
        try:
            text = note.read_text("ascii")
            return int(IPv4Address(text.strip())) - int(self._subnet.network_address) if text.endswith("\n") else -1
        except (OSError, AddressValueError, UnicodeDecodeError):
            return -1

    def serials(self) -> set[int]:
        """
        @return: the slivers that have one.
        """
        return set(self._places)

    def leases(self) -> dict[int, Lease]:
        """
        @return: all, by serial.
        """
        return {serial: Lease(place, self._subnet[place]) for serial, place in self._places.items()}

    def lease(self, serial: int) -> Lease | None:
        """
        @return: a sliver's; None if it was given no address.
        """
        place = self._places.get(serial)
        return None if place is None else Lease(place, self._subnet[place])

    def lease_at(self, place: int) -> Lease:
        """
        @return: that of a place, whoever may have it.
        """
        return Lease(place, self._subnet[place])

    def ensure(self, serial: int) -> Lease:
        """
        @return: a sliver's, noted before it is given. One that follows from the serial is given again if the host fails
            before the note is on the disk; for another we wait until it is.
        @raise OSError: if it cannot be noted, or none is free.
        """
        place = self._places.get(serial)
        if place is None:
            place = self._free(serial)
            lasting = place != self._natural(serial)
            homes.write_note(self._directory / str(serial), str(self._subnet[place]), lasting=lasting)
            self._places[serial] = place
            self._taken.add(place)
        return Lease(place, self._subnet[place])

    def _natural(self, number: int) -> int:
        return GATEWAY + 1 + number % (self._last - GATEWAY)

    def _free(self, serial: int) -> int:
        for step in range(self._last - GATEWAY):
            place = self._natural(serial + step)
            if place not in self._taken:
                return place
        raise OSError(f"no address is free in {self._subnet}")

    def forget(self, serial: int) -> None:
        """
        The sliver is gone, and nothing in the kernel bears its address.
        """
        with suppress(OSError):
            (self._directory / str(serial)).unlink()
        self._taken.discard(self._places.pop(serial, -1))
