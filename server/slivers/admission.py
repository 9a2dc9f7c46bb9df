"""
What the host can promise: cpu_min, the one resource that is kept for its sliver whatever the others do; pure.

What counts is what every sliver's record says, whether it runs or not: so a sliver that is there can always be started,
and a loan, which only moves units between two of them, always fits.
"""

from __future__ import annotations

from collections.abc import Mapping

from hostline.protocol.errors import NoRoom
from hostline.server.slivers.loans import Ledger

#: The part of the host, per mille, that may be promised: L{hostline.server.supervise.limits.weights} keeps as much, and
#: the rest is for those that were promised nothing, and for the daemon.
PROMISED = 900


def room(cores: int) -> int:
    """
    @return: how much cpu_min this host can promise, per mille of a core.
    """
    return cores * PROMISED


def admit(
    ledger: Ledger,
    cores: int,
    name: str,
    rspec: Mapping[str, int],
    before: Mapping[str, int] | None,
    nodes: int = 0,
) -> None:
    """
    Check that the host can promise what a sliver is about to be given.

    @param ledger: of the slivers that there are.
    @param name: the sliver's, for the error.
    @param rspec: what it is to have, before loans; C{before}: what it has, None if it is new. Who asks for no more than
        it has is never refused: a host that has lost cores keeps its slivers.
    @param nodes: what the nodes of experiments are promised.
    @raise NoRoom: if it cannot, saying what is left.
    """
    had = before.get("cpu_min", 0) if before is not None else 0
    wants = rspec.get("cpu_min", 0)
    left = max(0, room(cores) - ledger.total("cpu_min") - nodes + had)
    if wants > had and wants > left:
        raise NoRoom(
            f"{name}: cpu_min {wants} wanted, {left} left of the {room(cores)} per mille of a core that this host's "
            f"{cores} core{'' if cores == 1 else 's'} can promise",
            wanted=wants,
            left=left,
        )
