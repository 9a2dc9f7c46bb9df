"""
What the live tests of experiments share: topologies with links, written as TopDL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from attrs import field, frozen


@frozen
class Node:
    """
    A node to be asked for.

    @ivar links: the names of those that it is on, in order.
    @ivar more: further attributes.
    @ivar image: its name; None for that of the configuration.
    """

    kind: str = "process"
    links: Sequence[str] = ()
    command: str | None = None
    more: Mapping[str, str] = field(factory=dict)
    image: str | None = None


def text(nodes: Mapping[str, Node], delays: Mapping[str, float] | None = None, rate_kbps: float = 100_000) -> str:
    """
    @param delays: milliseconds, of those links that are shaped; these have the rate, too.
    @return: a topology of these nodes, ready to stand in a request.
    """
    links = dict.fromkeys(link for node in nodes.values() for link in node.links)
    parts = []
    for name in links:
        shape = ""
        if delays is not None and name in delays:
            shape = f"<capacity><rate>{rate_kbps}</rate><kind>max</kind></capacity>"
            shape += f"<latency><time>{delays[name]}</time><kind>average</kind></latency>"
        parts.append(f"<substrates><name>{name}</name>{shape}</substrates>")
    for name, node in nodes.items():
        attributes = {"containers:node_type": node.kind, **node.more}
        if node.command is not None:
            attributes["startup"] = node.command
        interfaces = "".join(
            f"<interface><name>inf{number:03}</name><substrate>{link}</substrate></interface>"
            for number, link in enumerate(node.links)
        )
        said = "".join(
            f"<attribute><attribute>{escape(key)}</attribute><value>{escape(value)}</value></attribute>"
            for key, value in attributes.items()
        )
        image = f"<os><name>{node.image}</name></os>" if node.image is not None else ""
        parts.append(f"<elements><computer><name>{name}</name>{image}{interfaces}{said}</computer></elements>")
    return ascii(f"<experiment><version>1.0</version>{''.join(parts)}</experiment>")


def chain(length: int, kinds: Sequence[str] = ("process", "container")) -> dict[str, Node]:
    """
    @return: so many nodes in a row, of each kind in turn, C{n0} to the last, with a link between each two.
    """
    return {
        f"n{at}": Node(
            kinds[at % len(kinds)],
            [f"l{link}" for link in (at - 1, at) if 0 <= link < length - 1],
            f"exit {at}",
        )
        for at in range(length)
    }


def uptime_of(nodes: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """
    @param nodes: of the body of an experiment.
    @return: what changes of these if they are started again.
    """
    return {name: (nodes[name]["pid"], nodes[name]["boots"]) for name in names}
