"""
A network that several drivers stand on.
"""

from __future__ import annotations

from collections.abc import Collection

from hostline.server.network.network import Network


class Shared:
    """
    The network as one of several drivers has it.

    A driver knows its own slivers only: what it says of those that have a record would have those of the others go. So
    the network is found again once, by whoever knows all, before any driver is.
    """

    def __init__(self, network: Network) -> None:
        self.address = network.address
        self.hardware = network.hardware
        self.place = network.place
        self.connect = network.connect
        self.shape = network.shape
        self.in_force = network.in_force
        self.forget = network.forget
        self.dns = network.dns
        self.names = network.names

    async def recover(self, known: Collection[int], keep_strays: bool = False) -> None:
        """
        It is there already.
        """
