"""
A number that a sliver was given, noted beside its directories, so that the next daemon knows it.
"""

from __future__ import annotations

from pathlib import Path

from hostline.server.supervise import homes


class Notes:
    """
    One number for each sliver, in the file C{SERIAL/NAME} of a directory.

    @ivar by_serial: the numbers, by the slivers' serials.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self.by_serial: dict[int, int] = {}

    def load(self) -> None:
        """
        Read what earlier daemons noted.
        """
        for note in self._directory.glob(f"*/{self._name}"):
            numbers = homes.read_note(note)
            if len(numbers) == 1 and note.parent.name.isdigit():
                self.by_serial[int(note.parent.name)] = numbers[0]

    def forget(self, serial: int) -> None:
        """
        The sliver is gone, and all that carried its number.
        """
        self.by_serial.pop(serial, None)

    def _note(self, serial: int, number: int, lasting: bool) -> int:
        """
        @param lasting: whether to wait until the note is on the disk.
        @return: the number.
        @raise OSError: if it cannot be noted.
        """
        homes.write_note(self._directory / str(serial) / self._name, str(number), lasting=lasting)
        self.by_serial[serial] = number
        return number
