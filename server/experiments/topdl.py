"""
TopDL, the XML in which DETER wrote topologies: text to L{Topology} and back.

As its users know it from fedd, Benito and Containers: the root may have any name; C{<substrates>} and C{<elements>}
are repeated, one object each; an attribute is C{<attribute><attribute>N</attribute><value>V</value></attribute>}; a
part that is missing is no constraint. Every mistake is told with its line, many at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from typing import Any

from attrs import define, field

from hostline.protocol.attributes import DIRECTIONAL
from hostline.server.experiments import document
from hostline.server.experiments.document import Element, Unreadable
from hostline.server.experiments.draft import PREFIX
from hostline.server.experiments.elements import DELAY_MAX, RATE_MAX, Elements
from hostline.server.experiments.spelling import ELEMENTS
from hostline.server.experiments.topology import (
    FAILURE_ACTIONS,
    LINKS_MAX,
    NODES_MAX,
    Findings,
    Topology,
    TopologyInterface,
    TopologyLink,
    TopologyNode,
    quoted,
)

#: C{containers:node_type} to the kinds we know; openvz was the ancestor's container.
KINDS = {
    "process": "process",
    "openvz": "container",
    "container": "container",
    "qemu": "qemu",
    "embedded_pnode": "embedded",
    "embedded": "embedded",
    "account": "account",
}
#: What marks, in the ancestor's final C{topo.xml}, its hosts and its control network.
HOST_TYPE = "pnode"
CONTROL_NET = "control_net"
#: What begins the name of an attribute of the whole that is a variable of start commands' environment.
OPTION = "opt:"
#: How many such variables there may be, and how many characters in all.
_OPTIONS_MAX, _OPTIONS_TEXT_MAX = 200, 32768
_VARIABLE = re.compile(r"(?!HOSTLINE_)[A-Za-z_][A-Za-z0-9_]*")
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,62}")
_INTERFACE_RULE = "at most 63 of A-Z, a-z, 0-9, '_', '-', '.' and ':', beginning with none of the last three"
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")
_WAYS = {
    "rate_kbps": ("a rate in kbit/s above 0", RATE_MAX),
    "delay_ms": (f"a time from 0 to {DELAY_MAX:.0f} ms", DELAY_MAX),
    "loss": ("a loss from 0 to 1", 1.0),
}
_TYPE_ATTRIBUTES = ("containers:node_type", "benito:node_type")
_PARTITION_ATTRIBUTES = ("containers:partition", "benito:partition", "partition")
_MAC_ATTRIBUTES = ("containers:mac_address", "benito:mac_address")


def read(text: str) -> Topology:
    """
    The topology that a TopDL text describes.

    @return: it never raises: what is wrong is in C{findings}. Where there are errors, C{nodes} and C{links} hold what
        could be read. C{document} is None if the text is not XML that we read.
    """
    findings = Findings()
    try:
        whole = document.parsed(text)
    except Unreadable as error:
        findings.error(error.line, error.text)
        return Topology(findings=findings.told())
    return understood(whole, findings)


def understood(whole: Element, findings: Findings) -> Topology:
    """
    The topology that a TopDL tree describes, whatever it was made from.

    @param whole: the node L{document.WHOLE}.
    @param findings: those there are already.
    """
    reading = _Reading(findings)
    reading.topology(whole.elements[0])
    return Topology(
        nodes=reading.nodes,
        links=[reading.link(name) for name in reading.substrates],
        findings=reading.findings.told(),
        document=whole.as_document(),
        environment=reading.environment,
    )


def write(tree: Any) -> str:
    """
    The text of a topology's C{document}, with all that was in it when it was read.

    @raise BadValue: it is not such a document.
    """
    return document.written(tree)


@define
class _Reading(Elements):
    """
    One text on its way to a topology.
    """

    nodes: list[TopologyNode] = field(factory=list)
    environment: dict[str, str] = field(factory=dict)
    substrates: dict[str, TopologyLink] = field(factory=dict)
    members: dict[str, list[tuple[str, str]]] = field(factory=dict)
    _lines: dict[str, int] = field(factory=dict)
    _folded: dict[str, str] = field(factory=dict)

    def topology(self, root: Element) -> None:
        """Read all; the root's prefix, if it has one, is that of every element of TopDL here."""
        wrong = self.findings.wrong
        self.prefix = root.tag[: root.tag.find(":") + 1]
        self.lint(root, "topology")
        version = self.leaf(root, "version")
        if version not in (None, "1.0", "1"):
            self.findings.warning(root.line, f"want version 1.0, got {quoted(version)}; read as 1.0")
        self.variables(root)
        for one in self.all(root, "substrates"):
            self.substrate(one)
        computers: list[Element] = []
        for one in self.all(root, "elements"):
            computers += self.computers(one)
        if not computers and not wrong:
            self.findings.error(root.line, "want at least one <elements> with a <computer>: there is no node here")
        for limit, there, what in (
            (NODES_MAX, len(computers), "nodes"),
            (LINKS_MAX, len(self.substrates), "links"),
        ):
            if there > limit:
                self.findings.error(root.line, f"want at most {limit} {what}, got {there}")
                return
        hosts = [one for one in computers if self.node(one)]
        if hosts:
            names = ", ".join((self.leaf(one, "name") or "?")[:64] for one in hosts[:3])
            more = f" and {len(hosts) - 3} more" if len(hosts) > 3 else ""
            text = f"hosts of an earlier placement ({_TYPE_ATTRIBUTES[0]}={HOST_TYPE}) are left out: {names}{more}"
            self.findings.warning(hosts[0].line, text)
        for name, link in self.substrates.items():
            if name not in self.members:
                self.findings.warning(link.line, f"nothing is on substrate {name}")

    def link(self, name: str) -> TopologyLink:
        """The link that a substrate became."""
        one = self.substrates[name]
        return TopologyLink(name, self.members.get(name, ()), one.rate_kbps, one.delay_ms, one.loss, one.line)

    def variables(self, root: Element) -> None:
        """Read what is for the environment of start commands."""
        size = 0
        for part in self.all(root, "attribute"):
            name, value = self.leaf(part, "attribute") or "", self.leaf(part, "value")
            if not name.startswith(OPTION) or value is None:
                continue
            variable = name.removeprefix(OPTION)
            if not _VARIABLE.fullmatch(variable):
                text = f"{quoted(variable)} is kept, but no start command finds it in its environment: want a name of"
                self.findings.warning(part.line, f"{text} letters, digits and '_' that does not begin with HOSTLINE_")
            elif variable in self.environment:
                self.findings.warning(part.line, f"{variable} is there twice: the first is taken")
            else:
                self.environment[variable] = value
                size += len(variable) + len(value)
        if len(self.environment) > _OPTIONS_MAX or size > _OPTIONS_TEXT_MAX:
            text = f"want at most {_OPTIONS_MAX} variables of {_OPTIONS_TEXT_MAX} characters together"
            self.findings.error(root.line, f"{text}, got {len(self.environment)} of {size}")
            self.environment.clear()

    # -- substrates

    def substrate(self, one: Element) -> None:
        self.lint(one, "substrates")
        name = self.name(one, "a substrate")
        attributes = self.attributes(one, "substrates")
        rate, delay, loss = self.shape(one, attributes)
        if name is None:
            return
        if name == CONTROL_NET:
            text = f"substrate {CONTROL_NET} is left out: we make the control network ourselves"
            self.findings.warning(one.line, text)
        elif name in self.substrates:
            first = self.substrates[name].line
            self.findings.error(one.line, f"substrate {name} is there twice, first in line {first}")
        else:
            self.substrates[name] = TopologyLink(name, (), rate, delay, loss, one.line)

    # -- elements

    def computers(self, one: Element) -> Iterable[Element]:
        self.lint(one, "elements")
        bodies = [child for tag in sorted(ELEMENTS["elements"]) for child in self.all(one, tag)]
        if len(bodies) != 1:
            text = "want exactly one of <computer>, <testbed>, <segment>, <other> in <elements>"
            self.findings.error(one.line, f"{text}, got {len(bodies)}")
        computers = self.all(one, "computer")
        for body in bodies:
            if body.tag != self.prefix + "computer":
                for interface in self.all(body, "interface"):
                    self.on(interface)
                text = f"<{body.tag}> is kept in the text, but hostline runs computers only"
                self.findings.warning(body.line, text)
        return computers

    def node(self, one: Element) -> bool:
        """
        Read a computer.

        @return: whether it is a host of an earlier placement, and was left out.
        """
        attributes = self.attributes(one, "computer")
        kind = _first(attributes, _TYPE_ATTRIBUTES)
        if kind == HOST_TYPE:
            return True
        self.lint(one, "computer")
        if kind and kind not in KINDS:
            text = f"want containers:node_type to be one of {', '.join(KINDS)}, got {quoted(kind)}"
            self.findings.error(one.line, text)
        action = attributes.get("failureaction") or "fatal"
        if action not in FAILURE_ACTIONS:
            text = f"want failureaction to be fatal, nonfatal or ignore, got {quoted(action)}"
            self.findings.error(one.line, text)
            action = "fatal"
        partition = _first(attributes, _PARTITION_ATTRIBUTES)
        if len({attributes[name] for name in _PARTITION_ATTRIBUTES if attributes.get(name)}) > 1:
            text = f"several partitions in different spellings; the newest spelling holds: {quoted(partition)}"
            self.findings.warning(one.line, text)
        os = self.os(one) or attributes.get("osid") or None
        name = self.name(one, "a node")
        interfaces = self.interfaces(one, name)
        if name is None:
            return False
        if name.startswith("pnode-") and name[6:].isdigit():
            self.findings.error(one.line, f"want another name than {name}: pnode-NNNN are the hosts of an experiment")
            return False
        if name in self._lines:
            self.findings.error(one.line, f"node {name} is there twice, first in line {self._lines[name]}")
            return False
        other = self._folded.setdefault(name.lower(), name)
        if other != name:
            text = f"nodes {other} and {name} differ in case alone: their names in DNS are the same"
            self.findings.warning(one.line, text)
        self._lines[name] = one.line
        for interface in interfaces:
            self.members.setdefault(interface.link, []).append((name, interface.name))
        self.nodes.append(
            TopologyNode(
                name=name,
                start_command=attributes.get("startup") or None,
                kind=KINDS.get(kind or ""),
                partition=partition,
                failure_action=action,
                os=os,
                attributes=attributes,
                interfaces=interfaces,
                line=one.line,
            )
        )
        return False

    def os(self, one: Element) -> str | None:
        parts = self.all(one, "os")
        if not parts:
            return None
        if len(parts) > 1:
            self.findings.warning(parts[1].line, "several <os>: the first is taken")
        self.lint(parts[0], "os")
        return self.attributes(parts[0], "os").get("osid") or self.leaf(parts[0], "name") or None

    # -- interfaces

    def interfaces(self, computer: Element, node: str | None) -> list[TopologyInterface]:
        parts = self.all(computer, "interface")
        given = [self.leaf(one, "name") or None for one in parts]
        taken = {name for name in given if name}
        numbers = (f"inf{n:03d}" for n in count())
        free = (name for name in numbers if name not in taken)
        seen: set[str] = set()
        found = []
        for one, named in zip(parts, given, strict=True):
            name = named or next(free)
            self.lint(one, "interface")
            if not _INTERFACE_NAME.fullmatch(name):
                text = f"want the name of an interface to be {_INTERFACE_RULE}; got {quoted(name)}"
                self.findings.error(one.line, text)
            elif name in seen:
                self.findings.error(one.line, f"interface {name} is there twice on node {node or '?'}")
            seen.add(name)
            links = self.on(one)
            if len(links) > 1:
                text = f"interface {name} is on {len(links)} substrates: each becomes an interface of its own"
                self.findings.warning(one.line, text)
            attributes = self.attributes(one, "interface")
            shape = self.shape(one, attributes)
            ways: dict[str, Any] = {way: self.way(one, attributes, way) for way in DIRECTIONAL}
            address = self.address(one, attributes)
            for link in links:
                found.append(TopologyInterface(name, link, *address, *shape, **ways))
                address = (None, None, None)
                name = next(free) if link is not links[-1] else name
        return found

    def on(self, one: Element) -> list[str]:
        """@return: the substrates that an interface is on, the control network left out."""
        parts = self.all(one, "substrate")
        if not parts:
            self.findings.error(one.line, "want at least one <substrate> in <interface>")
        links = []
        for part in parts:
            if part.value in self.substrates:
                links.append(part.value)
            elif part.value != CONTROL_NET:
                self.findings.error(part.line, f"there is no substrate {quoted(part.value)}")
        return list(dict.fromkeys(links))

    def way(self, one: Element, attributes: dict[str, str], name: str) -> float | None:
        """@return: what holds of one direction alone, as far as it is given."""
        given = attributes.get(PREFIX + name)
        if given is None:
            return None
        rule, most = _WAYS[name.partition("_")[2]]
        value = self.number(one, given, f"{PREFIX}{name} to be {rule}", most)
        if value == 0 and most == RATE_MAX:
            self.findings.error(one.line, f"want {PREFIX}{name} to be {rule}, got {quoted(given)}")
        return value

    def address(self, one: Element, attributes: dict[str, str]) -> tuple[str | None, str | None, str | None]:
        """@return: IPv4 address, netmask and MAC, as far as they are given."""
        ip4, netmask = attributes.get("ip4_address") or None, attributes.get("ip4_netmask") or None
        mac = _first(attributes, _MAC_ATTRIBUTES)
        try:
            ip4 = ip4 and str(IPv4Address(ip4))
        except ValueError:
            self.findings.error(one.line, f"want an address like 10.1.1.2, got {quoted(ip4)}")
            ip4 = None
        try:
            # A host mask (0.0.0.255) is a netmask to ipaddress; its first byte gives it away.
            if netmask and int(IPv4Network(f"0.0.0.0/{netmask}").netmask) != int(IPv4Address(netmask)):
                raise ValueError
            netmask = netmask and str(IPv4Address(netmask))
        except ValueError:
            self.findings.error(one.line, f"want a netmask like 255.255.255.0, got {quoted(netmask)}")
            netmask = None
        if mac is not None:
            mac = mac.lower()
            if not _MAC.fullmatch(mac):
                self.findings.error(one.line, f"want a unicast MAC like 02:00:00:00:00:01, got {quoted(mac)}")
                mac = None
        return ip4, netmask, mac


def _first(attributes: dict[str, str], names: Iterable[str]) -> str | None:
    for name in names:
        if attributes.get(name):
            return attributes[name]
    return None
