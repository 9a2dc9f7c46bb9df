"""
What a process driver needs to find slivers again: the traces that they left in files, and what this host can give them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.supervise import homes, shim
from hostline.server.supervise.mounts import Private, can_mount, find_private
from hostline.server.supervise.spawn import Spawner


class Traces:
    """
    The files of slivers and of their boots.
    """

    def __init__(self, directory: Path, run: Path) -> None:
        """
        @param directory: C{STATE/slivers}.
        @param run: C{RUN}.
        """
        self._directory = directory
        self._run = run

    def serials(self) -> set[int]:
        """
        @return: every sliver that left any.
        """
        return {*_numbers(self._directory), *_numbers(self._run / "slivers")}

    def boots(self, serial: int) -> Path:
        """
        @return: the directory of a sliver's boots.
        """
        return self._run / "slivers" / str(serial)

    def boot(self, sliver: ProcessSliver) -> Path:
        """
        @return: the directory of the boot that a sliver has reached.
        """
        return self.boots(sliver.serial) / str(sliver.boots)

    def reached(self, serial: int) -> int:
        """
        @return: the newest boot that a keeper began; 0 if there is none.
        """
        boots = self.boots(serial)
        return max((n for n in _numbers(boots) if shim.read_boot(boots / str(n)).begun), default=0)

    def note_end(self, sliver: ProcessSliver) -> None:
        """
        Note what is to be known of a sliver that was stopped even after the host restarted.
        """
        status = sliver.status(())
        if status.boot == "dead" and status.exit_code is not None:
            with suppress(OSError):
                homes.write_note(self._directory / str(sliver.serial) / "stopped", f"{status.boots} {status.exit_code}")

    def remember_end(self, serial: int) -> int:
        """
        @return: the boot that had ended before the host restarted, its files as they were then; 0 if there is none.
        """
        noted = homes.read_note(self._directory / str(serial) / "stopped")
        if len(noted) != 2 or noted[0] < 1:
            return 0
        shim.write_end(self.boots(serial) / str(noted[0]), noted[1])
        return noted[0]


async def look_around(
    spawner: Spawner, run: Path, places: Sequence[str], as_root: bool
) -> tuple[bool, Private, list[str]]:
    """
    @param places: where slivers' own directories are to be seen.
    @return: whether they can be, what more slivers can have of their own, and what they lack, in words for the user.
    """
    mounts = as_root and all(Path(place).is_dir() for place in places) and await can_mount(spawner, run)
    private = await find_private(spawner) if mounts else Private()
    problems = [] if as_root else ["no uid of its own: the daemon does not run as root"]
    if not mounts:
        why = "mounting is not permitted here" if as_root else "the daemon does not run as root"
        problems.append(f"no /home and /tmp of its own: {why}")
    return mounts, private, [*problems, *private.problems]


def _numbers(directory: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(directory) if name.isdigit()]  # noqa: PTH208
    except FileNotFoundError:
        return []
