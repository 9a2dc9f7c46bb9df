"""
A topology while it is being put together from a language other than TopDL: nodes, links and where they meet.

It ends as a TopDL tree with the lines of the text it came from, written as fedd's converter wrote it; so what it means
is what its TopDL means, and nothing is lost between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from attrs import define, field

from hostline.protocol.attributes import DIRECTIONAL
from hostline.server.experiments.document import WHOLE, Element, legal
from hostline.server.experiments.topology import Findings, quoted

PREFIX = "hostline:"


@define(eq=False)
class Port:
    """
    Where a node meets a link.

    @ivar shape: values of its own by the names of L{TopologyInterface}: C{rate_kbps}, C{to_loss} and so on.
    """

    node: DraftNode
    link: DraftLink
    line: int
    ip4: str | None = None
    netmask: str | None = None
    mac: str | None = None
    shape: dict[str, float] = field(factory=dict)


@define(eq=False)
class DraftNode:
    """
    A node.

    @ivar attributes: value and line by name, in the order of writing.
    @ivar software: what TopDL says of packages to unpack: location, directory or None, line.
    """

    name: str
    line: int
    os: tuple[str, int] | None = None
    attributes: dict[str, tuple[str, int]] = field(factory=dict)
    software: list[tuple[str, str | None, int]] = field(factory=list)
    ports: list[Port] = field(factory=list)


@define(eq=False)
class DraftLink:
    """
    A link or LAN.
    """

    name: str
    line: int
    rate_kbps: float | None = None
    delay_ms: float | None = None
    loss: float | None = None
    ports: list[Port] = field(factory=list)

    def port(self, node: DraftNode) -> Port | None:
        """
        @return: where C{node} meets this link; None if it does not.
        """
        return next((one for one in self.ports if one.node is node), None)


@define
class Draft:
    """
    All of it.
    """

    findings: Findings = field(factory=Findings)
    nodes: list[DraftNode] = field(factory=list)
    links: list[DraftLink] = field(factory=list)
    #: Attributes of the whole: name, value, line.
    attributes: list[tuple[str, str, int]] = field(factory=list)

    def connect(self, node: DraftNode, link: DraftLink, line: int) -> Port:
        """Let a node meet a link."""
        port = Port(node, link, line)
        node.ports.append(port)
        link.ports.append(port)
        return port

    def tree(self) -> Element:
        """
        @return: the TopDL of this; what XML cannot say is an error among the findings.
        """
        root = Element("experiment", {}, 1)
        root.children.append(self._leaf("version", "1.0", 1))
        root.children += (self._attribute(*one) for one in self.attributes)
        root.children += (self._link(one) for one in self.links)
        root.children += (Element("elements", {}, one.line, children=[self._node(one)]) for one in self.nodes)
        _indent(root, 1)
        root.tail = ""
        return Element(WHOLE, {}, 1, children=[root])

    def _link(self, one: DraftLink) -> Element:
        found = Element("substrates", {}, one.line, children=[self._leaf("name", one.name, one.line)])
        found.children += self._shape(one.rate_kbps, one.delay_ms, one.line)
        if one.loss is not None:
            found.children.append(self._attribute("loss", repr(one.loss), one.line))
        return found

    def _node(self, one: DraftNode) -> Element:
        found = Element("computer", {}, one.line, children=[self._leaf("name", one.name, one.line)])
        if one.os is not None:
            osid = self._attribute("osid", *one.os)
            found.children.append(Element("os", {}, one.os[1], children=[osid]))
        for location, directory, line in one.software:
            parts = [self._leaf("location", location, line)]
            if directory is not None:
                parts.append(self._leaf("install", directory, line))
            found.children.append(Element("software", {}, line, children=parts))
        names = (f"inf{n:03d}" for n in count())
        found.children += (self._interface(port, name) for port, name in zip(one.ports, names, strict=False))
        found.children += (self._attribute(name, *value) for name, value in one.attributes.items())
        return found

    def _interface(self, one: Port, name: str) -> Element:
        parts = [self._leaf("substrate", one.link.name, one.line), self._leaf("name", name, one.line)]
        parts += self._shape(one.shape.get("rate_kbps"), one.shape.get("delay_ms"), one.line)
        for attribute, value in (("ip4_address", one.ip4), ("ip4_netmask", one.netmask)):
            if value is not None:
                parts.append(self._attribute(attribute, value, one.line))
        if one.mac is not None:
            parts.append(self._attribute("containers:mac_address", one.mac, one.line))
        if "loss" in one.shape:
            parts.append(self._attribute("loss", repr(one.shape["loss"]), one.line))
        for attribute in DIRECTIONAL:
            if attribute in one.shape:
                parts.append(self._attribute(PREFIX + attribute, repr(one.shape[attribute]), one.line))
        return Element("interface", {}, one.line, children=parts)

    def _shape(self, rate: float | None, delay: float | None, line: int) -> Iterator[Element]:
        for outer, inner, value, kind in (("capacity", "rate", rate, "max"), ("latency", "time", delay, "average")):
            if value is not None:
                parts = [self._leaf(inner, repr(value), line), self._leaf("kind", kind, line)]
                yield Element(outer, {}, line, children=parts)

    def _attribute(self, name: str, value: str, line: int) -> Element:
        parts = [self._leaf("attribute", name, line), self._leaf("value", value, line)]
        return Element("attribute", {}, line, children=parts)

    def _leaf(self, tag: str, text: str, line: int) -> Element:
        if not legal(text):
            self.findings.error(line, f"want text without control characters, got {quoted(text)}")
            text = ""
        return Element(tag, {}, line, text)


def _indent(one: Element, depth: int) -> None:
    # One line for each part that has parts, so that the text is fit to be read.
    if not any(child.children for child in one.children):
        return
    one.text = "\n" + "  " * depth
    for child in one.children:
        _indent(child, depth + 1)
        child.tail = one.text
    one.children[-1].tail = "\n" + "  " * (depth - 1)
