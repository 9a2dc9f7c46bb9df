"""
What puts nodes on the links of their experiment, as drivers use it (L{hostline.server.network.links.Links}).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from hostline.server.drivers.driver import Interface

#: Interfaces, routes and forwarding of who is on no link.
NO_WIRES: tuple[Any, ...] = (), (), False


class Wires(Protocol):
    """
    The links of the experiments on this host.

    What lasts from boot to boot is not here: a link is laid when its first node is plugged in, and goes with its last.
    """

    async def plug(
        self,
        serial: int,
        pid: int,
        interfaces: Sequence[Interface],
        routes: Sequence[tuple[str, str]],
        *,
        forwards: bool,
        inside: bool = True,
    ) -> list[str]:
        """
        Give the network namespace of a process the interfaces of a sliver, and its routes. What is so already stays as
        it is, and what is ours there and is not named any more goes: it is called at each boot before anything of the
        sliver's own runs, again whenever its interfaces or routes change, and after a restart of the daemon for each
        sliver that runs.

        @param pid: of a process in the sliver, which has a network namespace of its own.
        @param forwards: whether it passes on what is not for itself.
        @param inside: whether the interfaces get their addresses and routes there; if not, they are only there, up,
            with their MACs, for somebody who takes frames from them.
        @return: what is not as it should be, in words for the user; nothing if all is.
        """

    async def unplug(self, serial: int) -> None:
        """
        Remove all there is of a sliver's interfaces on the host.

        @raise OSError: if something is left.
        """

    async def recover(self, known: Collection[int], keep_strays: bool = False) -> None:
        """
        Find again what earlier daemons made; what belongs to no sliver with a record goes. The links of slivers that
        run are not interrupted.
        """
