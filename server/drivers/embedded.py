"""
The embedded driver: the host itself takes part in an experiment. What its members start there runs as a process sliver
does, with a uid, directories and limits of its own, but in the host's own network; and the host has the node's
interfaces on the experiment's links.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv4Network
from itertools import product
from pathlib import Path
from typing import Any

from hostline.server.drivers.boots import ProcessSliver
from hostline.server.drivers.driver import Workload
from hostline.server.drivers.outlets import Outlets
from hostline.server.drivers.process import ProcessDriver
from hostline.server.drivers.wires import Wires

_ROUTES, _INTERFACES = Path("/proc/net/route"), Path("/sys/class/net")
#: What links of experiments may be on the host: networks that are nobody's in the world outside.
PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15")))


def routes(text: str) -> list[tuple[str, IPv4Network]]:
    """
    @param text: C{/proc/net/route}.
    @return: interface and network of each route but the default ones.
    """
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        to, mask = (int.from_bytes(bytes.fromhex(word), "little") for word in (words[1], words[7]))
        if mask:
            found.append((words[0], IPv4Network((to, mask.bit_count()))))
    return found


def taken(wanted: Iterable[IPv4Network], there: Iterable[tuple[str, IPv4Network]]) -> str:
    """
    Why the host cannot send what is for some networks to the links of an experiment; empty if it can.

    @param there: the interfaces and networks that it has for itself.
    """
    there = list(there)
    for network in wanted:
        if not any(network.subnet_of(one) for one in PRIVATE):
            return f"{network} is no private network ({', '.join(map(str, PRIVATE))})"
        name = next((name for name, one in there if network.overlaps(one)), None)
        if name is not None:
            return f"{network} is a network of this host's own, on {name}"
    return ""


def _of_links(interface: str) -> bool:
    try:
        return (_INTERFACES / interface / "ifalias").read_text("utf-8", "replace").startswith("hostline-links ")
    except OSError:
        return False


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
        wanted = [one.network for one in mine]
        wanted += [IPv4Network(to.strip()) for told, _ in workload.routes for to in told.split(",")]
        experiment = workload.name.partition(".")[2]
        for serial, (name, theirs) in self._held.items():
            together = name.partition(".")[2] == experiment
            for here, there in product(mine, theirs) if serial != workload.serial else ():
                if here.ip == there.ip or (not together and here.network.overlaps(there.network)):
                    # Of another project's experiment not even the name is told.
                    project = experiment.partition(".")[2]
                    who = name if name.endswith(f".{project}") else "another experiment's node"
                    raise OSError(
                        f"the address {here} of {workload.name} is in the network of {there}, which this host has as "
                        f"{who}: give one of them another"
                    )
        why = taken(wanted, self._routes()) if wanted else ""
        if why:
            raise OSError(f"{workload.name} cannot be on this host: {why}: give its links other addresses")
        self._held[workload.serial] = workload.name, mine

    def _routes(self) -> list[tuple[str, IPv4Network]]:
        return [one for one in routes(_ROUTES.read_text("ascii")) if not _of_links(one[0])]

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
