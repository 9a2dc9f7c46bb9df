"""
The status of every placed node, in memory, by experiment: what C{status_request} answers from.
"""

from __future__ import annotations

from hostline.server.drivers.driver import Status
from hostline.server.host import Host
from hostline.server.records import Experiment, Sliver
from hostline.server.status import StatusText


def hypervisor(sliver: Sliver) -> str:
    """
    @return: C{hv:process:pnode-0000}.
    """
    return f"hv:{sliver.kind}:{sliver.pnode}"


class Board:
    """
    Where each sliver's status stands.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._texts: dict[int, StatusText] = {}
        self._placed: dict[int, tuple[int, str, str]] = {}
        self._holders: dict[tuple[int, str, str], int] = {}

    def place(self, sliver: Sliver, status: Status | None) -> None:
        """
        Show a node with what is known of it; C{[None, None]} if nothing is. A free sliver is no node.
        """
        if sliver.free:
            return
        node = sliver.name.partition(".")[0]
        where = (sliver.experiment, hypervisor(sliver), node)
        if self._placed.get(sliver.serial, where) != where:
            self.remove(sliver.serial)
        if self._holders.get(where, 0) > sliver.serial:
            return  # still on its way out, while another has its node already
        self._holders[where] = sliver.serial
        self._placed[sliver.serial] = where
        text = self._texts.setdefault(sliver.experiment, StatusText())
        boot, code = (status.boot, status.code) if status is not None else (None, None)
        if text.set(where[1], node, boot, code):
            self._host.touched()

    def moved(self, sliver: Sliver) -> bool:
        """
        Whether a node stands where it is no longer.
        """
        where = self._placed.get(sliver.serial)
        return where is not None and where[1] != hypervisor(sliver)

    def remove(self, serial: int) -> None:
        """
        The sliver is gone.
        """
        where = self._placed.pop(serial, None)
        if where is None or self._holders[where] != serial:
            return
        del self._holders[where]
        experiment, its_hypervisor, node = where
        text = self._texts[experiment]
        text.remove(its_hypervisor, node)
        if not text.value():
            del self._texts[experiment]
        self._host.touched()

    def text(self, experiment: Experiment) -> StatusText:
        """
        @return: the status of the experiment; empty if it is not placed.
        """
        return self._texts.get(experiment.serial) or StatusText()
