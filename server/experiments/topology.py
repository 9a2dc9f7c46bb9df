"""
The topology of an experiment: nodes, their interfaces, and the links and LANs between them. Pure values, whatever
language (TopDL, NS) they were written in.

A reader never stops at the first mistake: what it found is in L{Topology.findings}, each with its line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from attrs import asdict, field, frozen
from attrs.validators import deep_mapping, in_, instance_of, optional

from hostline.protocol.errors import BadValue

ERROR = "error"
WARNING = "warning"
#: What a testbed does when a node fails to come up: give up, report and go on, or say nothing (Emulab).
FAILURE_ACTIONS = ("fatal", "nonfatal", "ignore")
#: The most nodes, and the most links, of one experiment.
NODES_MAX = 10_000
LINKS_MAX = 10_000
#: The most errors, and the most warnings, that are told of one text; the rest are counted.
FINDINGS_MAX = 100


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"want a number, got {quoted(value)}")
    return float(value)


def quoted(value: object) -> str:
    """
    @return: C{value} as it stands in a message: quoted, pure ASCII, at most about 80 characters.
    """
    text = ascii(value[:200] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:76] + "..." + text[0]


def _interfaces(value: Iterable[TopologyInterface]) -> tuple[TopologyInterface, ...]:
    return tuple(value)


def _members(value: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(value)


def _nodes(value: Iterable[TopologyNode]) -> tuple[TopologyNode, ...]:
    return tuple(value)


def _links(value: Iterable[TopologyLink]) -> tuple[TopologyLink, ...]:
    return tuple(value)


def _findings(value: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(value)


def _is_address(instance: object, attribute: object, value: Any) -> None:
    if value is not None:
        IPv4Address(_texted(value))


def _is_netmask(instance: object, attribute: object, value: Any) -> None:
    if value is not None and str(IPv4Network(f"0.0.0.0/{_texted(value)}").netmask) != value:
        raise ValueError(f"want a netmask like 255.255.255.0, got {quoted(value)}")


def _texted(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"want text, got {quoted(value)}")
    return value


_text = instance_of(str)
_some_text = optional(instance_of(str))
_line = instance_of(int)


@frozen
class Finding:
    """
    Something wrong or odd in a text.

    @ivar severity: C{error}: the topology cannot be used; C{warning}: it can, but look here.
    @ivar line: counted from 1; 0 if it concerns the whole.
    """

    severity: str = field(validator=in_((ERROR, WARNING)))
    line: int = field(validator=_line)
    text: str = field(validator=_text)


@frozen
class TopologyInterface:
    """
    Where a node meets a link.

    @ivar ip4: the address, C{10.1.1.2}; None if it was left to us (L{hostline.server.experiments.addresses}).
    @ivar netmask: C{255.255.255.0}; None as above.
    @ivar mac: C{02:1b:...}, lower case; None as above.
    @ivar rate_kbps: kbit/s of this interface; None if that of the link holds. C{delay_ms} and C{loss} likewise.
    @ivar to_rate_kbps: the same of what the node sends alone, and C{from_rate_kbps} of what it receives; None if the
        one for both holds. C{to_delay_ms}, C{to_loss}, C{from_delay_ms} and C{from_loss} likewise.
    """

    name: str = field(validator=_text)
    link: str = field(validator=_text)
    ip4: str | None = field(default=None, validator=_is_address)
    netmask: str | None = field(default=None, validator=_is_netmask)
    mac: str | None = field(default=None, validator=_some_text)
    rate_kbps: float | None = field(default=None, converter=_number)
    delay_ms: float | None = field(default=None, converter=_number)
    loss: float | None = field(default=None, converter=_number)
    to_rate_kbps: float | None = field(default=None, converter=_number)
    to_delay_ms: float | None = field(default=None, converter=_number)
    to_loss: float | None = field(default=None, converter=_number)
    from_rate_kbps: float | None = field(default=None, converter=_number)
    from_delay_ms: float | None = field(default=None, converter=_number)
    from_loss: float | None = field(default=None, converter=_number)

    def body(self) -> dict[str, Any]:
        """
        @return: this interface as it goes on the wire.
        """
        return {"name": self.name, "link": self.link, "ip4": self.ip4, "netmask": self.netmask, "mac": self.mac}


@frozen
class TopologyNode:
    """
    One node as it was asked for.

    @ivar kind: C{process}, C{container}, C{qemu}, C{embedded} or C{account}; None if any will do.
    @ivar partition: nodes with the same text go to the same host; None if it was left to us.
    @ivar failure_action: one of L{FAILURE_ACTIONS}.
    @ivar os: the name of the image or operating system wanted; None if any will do.
    @ivar attributes: every attribute as it was written, those above among them.
    @ivar line: where it begins in the text; two nodes that differ in this alone are equal.
    """

    name: str = field(validator=_text)
    start_command: str | None = field(default=None, validator=_some_text)
    kind: str | None = field(default=None, validator=_some_text)
    partition: str | None = field(default=None, validator=_some_text)
    failure_action: str = field(default="fatal", validator=in_(FAILURE_ACTIONS))
    os: str | None = field(default=None, validator=_some_text)
    attributes: dict[str, str] = field(factory=dict, validator=instance_of(dict))
    interfaces: tuple[TopologyInterface, ...] = field(default=(), converter=_interfaces)
    line: int = field(default=0, validator=_line, eq=False)

    @property
    def ghost(self) -> bool:
        """
        @return: whether it is to be placed and listed, but not started (DETER containers).
        """
        return self._says("containers:ghost")

    @property
    def exclusive(self) -> bool:
        """
        @return: whether it is to have a host to itself.
        """
        return self._says("hostline:exclusive")

    @property
    def fixed(self) -> str:
        """
        @return: the name of the host that it is to go to (Emulab's C{tb-fix-node}); empty if it does not say.
        """
        return self.attributes.get("fixed", "").strip()

    @property
    def once(self) -> bool:
        """
        @return: whether its start command runs at its first boot only, not at each.
        """
        return self._says("hostline:start_once")

    @property
    def packages(self) -> tuple[str, ...]:
        """
        @return: the Debian packages that it is to have besides those of its image.
        """
        return tuple(dict.fromkeys(self.attributes.get("hostline:packages", "").replace(",", " ").split()))

    @property
    def packing_pass(self) -> str | None:
        """
        @return: in which pass it is packed (DETER containers); None if it does not say.
        """
        names = ("containers:PartitionPass", "containers:PackingPass")
        return next((self.attributes[name] for name in names if name in self.attributes), None)

    def _says(self, name: str) -> bool:
        return self.attributes.get(name, "").lower() not in ("", "0", "false", "no")


@frozen
class TopologyLink:
    """
    A link of two interfaces, or a LAN of any other number.

    @ivar members: C{(node, interface name)} of each, in the order of the nodes.
    @ivar rate_kbps: kbit/s; None if unlimited.
    @ivar delay_ms: one way, in milliseconds; None for none.
    @ivar loss: the part of the packets that is lost, 0 to 1; None for none.
    @ivar line: as in L{TopologyNode}.
    """

    name: str = field(validator=_text)
    members: tuple[tuple[str, str], ...] = field(default=(), converter=_members)
    rate_kbps: float | None = field(default=None, converter=_number)
    delay_ms: float | None = field(default=None, converter=_number)
    loss: float | None = field(default=None, converter=_number)
    line: int = field(default=0, validator=_line, eq=False)

    @property
    def kind(self) -> str:
        """
        @return: C{link} if there are two members, else C{lan}.
        """
        return "link" if len(self.members) == 2 else "lan"

    def body(self) -> dict[str, Any]:
        """
        @return: this link as it goes on the wire; C{by} is what shapes it, which is nothing yet.
        """
        return {
            "link": self.name,
            "kind": self.kind,
            "members": [node for node, _ in self.members],
            "rate_kbps": self.rate_kbps,
            "delay_ms": self.delay_ms,
            "loss": self.loss,
            "by": None,
        }


@frozen
class Topology:
    """
    All of an experiment's nodes and links.

    @ivar environment: what start commands find in their environment (NS: the array C{opt}).
    @ivar findings: what the reader saw, in the order of lines; two topologies that differ in this alone are equal.
    @ivar document: the text as a plain tree, with all that we have no use for, so that it can be given back
        (L{hostline.server.experiments.document}); None if there was none.
    """

    nodes: tuple[TopologyNode, ...] = field(default=(), converter=_nodes)
    links: tuple[TopologyLink, ...] = field(default=(), converter=_links)
    findings: tuple[Finding, ...] = field(default=(), converter=_findings, eq=False)
    document: list[Any] | None = field(default=None, validator=optional(instance_of(list)))
    environment: dict[str, str] = field(factory=dict, validator=deep_mapping(_text, _text))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """
        @return: the findings that forbid the use of this topology.
        """
        return tuple(one for one in self.findings if one.severity == ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """
        @return: the other findings.
        """
        return tuple(one for one in self.findings if one.severity == WARNING)

    def as_value(self) -> dict[str, Any]:
        """
        @return: this topology in plain JSON values; L{from_value} of it is equal to this, lines and findings too.
        """
        return {
            "nodes": [{**_plain(one), "interfaces": [_plain(i) for i in one.interfaces]} for one in self.nodes],
            "links": [{**_plain(one), "members": [list(member) for member in one.members]} for one in self.links],
            "findings": [_plain(one) for one in self.findings],
            "document": self.document,
            "environment": dict(self.environment),
        }

    @classmethod
    def from_value(cls, value: Any) -> Topology:
        """
        The topology that gave this value.

        @raise BadValue: it is not one that L{as_value} gives.
        """
        try:
            return cls(
                nodes=[_node(one) for one in value["nodes"]],
                links=[_link(one) for one in value["links"]],
                findings=[Finding(**one) for one in value["findings"]],
                document=value["document"],
                environment=value.get("environment", {}),  # plans of before have none
            )
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise BadValue(f"want a topology: {quoted(str(error))}") from None


def _plain(one: Any) -> dict[str, Any]:
    return asdict(one, recurse=False)


def _node(value: Mapping[str, Any]) -> TopologyNode:
    node = TopologyNode(**{**value, "interfaces": [TopologyInterface(**one) for one in value["interfaces"]]})
    for name, given in node.attributes.items():
        if not (isinstance(name, str) and isinstance(given, str)):
            raise TypeError(f"want text as an attribute, got {quoted(given)}")
    return node


def _link(value: Mapping[str, Any]) -> TopologyLink:
    members = []
    for node, interface in value["members"]:
        if not (isinstance(node, str) and isinstance(interface, str)):
            raise TypeError(f"want a node and an interface, got {quoted(node)}")
        members.append((node, interface))
    return TopologyLink(**{**value, "members": members})


@frozen
class Findings:
    """
    Collects what a reader sees, at most L{FINDINGS_MAX} of each severity.
    """

    _kept: dict[str, list[Finding]] = field(init=False, factory=lambda: {ERROR: [], WARNING: []})
    _left_out: dict[str, int] = field(init=False, factory=lambda: {ERROR: 0, WARNING: 0})

    def error(self, line: int, text: str) -> None:
        """Tell of something that forbids the use of the topology."""
        self._add(Finding(ERROR, line, text))

    def warning(self, line: int, text: str) -> None:
        """Tell of something to look at."""
        self._add(Finding(WARNING, line, text))

    def _add(self, finding: Finding) -> None:
        kept = self._kept[finding.severity]
        if len(kept) < FINDINGS_MAX:
            kept.append(finding)
        else:
            self._left_out[finding.severity] += 1

    @property
    def wrong(self) -> bool:
        """
        @return: whether there is an error among them.
        """
        return bool(self._kept[ERROR])

    def told(self) -> tuple[Finding, ...]:
        """
        @return: all that was kept, by line; what was left out is counted at the end.
        """
        kept = sorted([*self._kept[ERROR], *self._kept[WARNING]], key=lambda one: one.line)
        more = [Finding(severity, 0, f"{n} more {severity}s") for severity, n in self._left_out.items() if n]
        return (*kept, *more)
