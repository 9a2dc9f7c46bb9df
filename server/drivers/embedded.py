"""
The embedded driver: the host itself takes part in an experiment. What its members start there runs as a process sliver
does, with a uid, directories and limits of its own, but in the host's own network; and the host has the node's
interfaces on the experiment's links.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Interface
from itertools import product
from pathlib import Path
from typing import Any

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.drivers.driver import Workload
from hostline.server.drivers.outlets import Outlets
from hostline.server.drivers.process import ProcessDriver
from hostline.server.drivers.wires import Wires


class HostOutlets(Outlets):
    """
    The interfaces of embedded nodes, which are the host's.
    """

    def __init__(self, directory: Path, wires: Wires | None, network: Any, no_links: str) -> None:
        super().__init__(directory, wires, None, no_links)
        self._held: dict[int, tuple[str, list[IPv4Interface]]] = {}

    def apart(self, workload: Workload) -> bool:
        return False

    async def configure(self, sliver: ProcessSliver, workload: Workload) -> None:
        """
        @raise OSError: if a network of the node is another's already: the host could not tell their packets apart.
        """
        wanted = workload.wired
        if wanted == sliver.wired:
            return
        if self._wires is None:
            sliver.unplugged = (self._no_links,) if workload.interfaces else ()
            return
        self._hold(workload)
        sliver.unplugged = tuple(
            await self._wires.plug(
                sliver.serial, os.getpid(), workload.interfaces, workload.routes, forwards=workload.forwards
            )
        )
        sliver.wired = wanted

    def _hold(self, workload: Workload) -> None:
        mine = [IPv4Interface(one.address) for one in workload.interfaces]
        experiment = workload.name.partition(".")[2]
        for serial, (name, theirs) in self._held.items():
            together = name.partition(".")[2] == experiment
            for here, there in product(mine, theirs) if serial != workload.serial else ():
                if here.ip == there.ip or (not together and here.network.overlaps(there.network)):
                    raise OSError(
                        f"the address {here} of {workload.name} is in the network of {there}, which this host has as "
                        f"{name}: give one of them another"
                    )
        self._held[workload.serial] = workload.name, mine

    async def unplug(self, sliver: ProcessSliver) -> None:
        await super().unplug(sliver)
        self._held.pop(sliver.serial, None)


class EmbeddedDriver(ProcessDriver):
    """
    Runs nodes on the host itself. Only root can.
    """

    kind = "embedded"
    holds = "limits of processor, memory and processes are held, of disk and network not; it sees the host's network"
    letter = "e"
    outlets = HostOutlets
