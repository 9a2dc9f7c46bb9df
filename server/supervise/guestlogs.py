"""
Copies of what a start command wrote in a QEMU guest, for who reads its logs: also when the guest is gone.

A guest can say without end: a copy is begun anew when it is too long.
"""

from __future__ import annotations

from pathlib import Path

from hostline.server.supervise.guest import LOGS as INSIDE
from hostline.server.supervise.guest import Guest

#: Bytes of one copy, and of what is fetched at a time.
MOST, PIECE = 1 << 20, 1 << 18
NAMES = ("start_command.log", "start_command.out", "start_command.err", "initscript.log")
_WHERE = "var/log/hostline"


class GuestLogs:
    """
    The logs of one boot of one guest.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._at: dict[str, int] = {}

    async def copy(self, root: Path) -> bool:
        """
        Fetch what is new.

        @param root: where the copies are, as inside.
        @return: whether there is more.
        @raise OSError: if the guest does not answer.
        """
        more = False
        for name in NAMES:
            path, at = root / _WHERE / name, self._at.get(name, 0)
            try:
                data, start = await self._guest.read(f"{INSIDE}/{name}", PIECE, at)
            except FileNotFoundError:
                continue
            anew = name not in self._at or start != at
            self._at[name] = start + len(data)
            more |= len(data) == PIECE
            if anew or data:
                _add(path, data, anew=anew)
        return more


def _add(path: Path, data: bytes, *, anew: bool) -> None:
    if not anew and path.exists() and path.stat().st_size + len(data) > MOST:
        data, anew = f"[hostline: emptied after {path.stat().st_size} bytes]\n".encode() + data, True
    with path.open("wb" if anew else "ab") as file:
        file.write(data)
