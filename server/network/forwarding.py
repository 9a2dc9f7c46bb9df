"""
Whether the host passes packets on: switched on for NAT, and off again when NAT is no longer wanted, if it was off.
"""

from __future__ import annotations

from pathlib import Path

SWITCH = Path("/proc/sys/net/ipv4/ip_forward")
BOOT = Path("/proc/sys/kernel/random/boot_id")


class Forwarding:
    """
    The host's C{ip_forward}, and a note of ours that it was off before.
    """

    def __init__(self, note: Path, switch: Path = SWITCH, boot: Path = BOOT) -> None:
        """
        @param note: a file that says, for as long as the switch is on because of us, since which boot of the host.
        @param boot: what tells this boot from others; how the switch stands after another is not our doing.
        """
        self._note = note
        self._switch = switch
        self._boot = boot

    @property
    def noted(self) -> bool:
        """
        @return: whether there may be something to give back.
        """
        return self._note.exists()

    def ensure_on(self) -> None:
        """
        @raise OSError: if that cannot be done.
        """
        if self._switch.read_text().strip() != "1":
            self._note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._note.write_text(self._boot.read_text())
            self._switch.write_text("1\n")

    def give_back(self, others: bool) -> None:
        """
        Undo what L{ensure_on} did, if it did anything.

        @param others: another daemon of ours on this host has its own slivers to let out: leave the switch on.
        @raise OSError: if that cannot be done.
        """
        try:
            noted = self._note.read_text()
        except FileNotFoundError:
            return
        if noted == self._boot.read_text() and not others:
            self._switch.write_text("0\n")
        self._note.unlink()
