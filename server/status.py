"""
The status of an experiment as it goes on the wire, kept ready: one change costs a fragment, not the whole.

The body C{{'hv:..': {'node': [boot, code]}}} is kept as encoded fragments, one for each hypervisor, in chunks of
L{_CHUNK}: after a change only one fragment and its chunk are made again, and the chunks are joined.
"""

from __future__ import annotations

from typing import Any

_CHUNK = 32


class StatusText:
    """
    One experiment's status.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, list[Any]]] = {}
        self._fragments: list[bytes] = []
        self._index: dict[str, int] = {}
        #: A separator before each chunk.
        self._chunks: list[bytes] = []
        self._stale: set[str] = set()

    def set(self, hypervisor: str, node: str, boot: str | None, code: int | None) -> bool:
        """
        @return: whether this is news.
        """
        nodes = self._nodes.get(hypervisor)
        if nodes is None:
            nodes = self._nodes[hypervisor] = {}
            self._index[hypervisor] = len(self._fragments)
            self._fragments.append(b"")
        now = [boot, code]
        if nodes.get(node) == now:
            return False
        nodes[node] = now
        self._stale.add(hypervisor)
        return True

    def remove(self, hypervisor: str, node: str) -> None:
        """
        Take a node out; its hypervisor goes with its last node.
        """
        nodes = self._nodes.get(hypervisor, {})
        if nodes.pop(node, None) is None:
            return
        self._stale.add(hypervisor)
        if not nodes:
            del self._nodes[hypervisor]
            self._index = {name: at for at, name in enumerate(self._nodes)}
            self._fragments = [b""] * len(self._nodes)
            self._chunks = []
            self._stale = set(self._nodes)

    def get(self, hypervisor: str, node: str) -> list[Any]:
        """
        @return: C{[boot, code]}; both None if the node is unknown here.
        """
        return self._nodes.get(hypervisor, {}).get(node, [None, None])

    def value(self) -> dict[str, dict[str, list[Any]]]:
        """
        The body as a value; not to be changed.
        """
        return self._nodes

    def encode(self, before: bytes = b"", after: bytes = b"") -> bytes:
        """
        @return: the body as its ASCII literal, between C{before} and C{after}.
        """
        for hypervisor in self._stale:
            self._fragments[self._index[hypervisor]] = ascii({hypervisor: self._nodes[hypervisor]})[1:-1].encode()
        chunks = self._chunks
        for chunk in {self._index[hypervisor] // _CHUNK for hypervisor in self._stale}:
            while len(chunks) <= 2 * chunk + 1:
                chunks += [b", ", b""]
            chunks[2 * chunk + 1] = b", ".join(self._fragments[chunk * _CHUNK : (chunk + 1) * _CHUNK])
        self._stale.clear()
        # One join and no further copy: a second buffer of this size makes malloc give the first back to the kernel,
        # and the page faults of the next one cost twenty times the copy.
        return b"".join([before, b"{", *chunks[1:], b"}", after])
