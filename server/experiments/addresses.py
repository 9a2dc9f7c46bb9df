"""
An address for every interface: those that were given stay, the rest follow Emulab's rule.

Each link is one subnet: 10.1.1.0/24, 10.1.2.0/24 and so on in the order of the links, a larger aligned block for a
LAN that needs it, and no block that overlaps one that was given. Hosts count from .2 in the order of the nodes (.1 is
a last resort). The same topology and serial always give the same addresses.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, collapse_addresses
from itertools import count
from typing import Any

from attrs import define, evolve, field

from hostline.server.experiments.topology import (
    Findings,
    Topology,
    TopologyInterface,
    TopologyLink,
    TopologyNode,
)

#: Where the subnets of links without given addresses come from, the first /24 left out as Emulab does.
FIRST = IPv4Address("10.1.1.0")
LAST = IPv4Address("10.255.255.255")
#: The prefix of a link that says nothing else.
PREFIX = 24
#: What an experiment cannot use: this network, loopback, link-local, multicast and all above.
_UNUSABLE = tuple(IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))

_Key = tuple[str, str]


def assign(topology: Topology, serial: int, previous: Topology | None = None) -> Topology:
    """
    The same topology with an address, a netmask and a MAC on every interface.

    @param serial: the experiment's; the MACs follow from it.
    @param previous: what this gave for the experiment before it was modified: an interface that is still there, on
        the same link, keeps its address unless a given one forbids it.
    @return: what cannot be, such as two equal addresses, is an error in C{findings}, with the line of the node; the
        interfaces of such a link may be left without.
    """
    work = _Assignment(topology)
    work.read_given()
    if previous is not None:
        work.keep(previous)
    work.warn_of_overlaps()
    work.fill()
    macs = _macs(topology, serial, work.findings)
    nodes = []
    for node in topology.nodes:
        interfaces = [work.addressed(node, one, macs[node.name, one.name]) for one in node.interfaces]
        nodes.append(evolve(node, interfaces=interfaces))
    findings = sorted((*topology.findings, *work.findings.told()), key=lambda one: one.line)
    return evolve(topology, nodes=nodes, findings=findings)


def mac_address(serial: int, node: str, interface: str, attempt: int = 0) -> str:
    """
    A MAC that stays the same as long as the experiment and the names do: locally administered, unicast.

    @param attempt: counts up where two interfaces of one experiment would get the same.
    """
    text = f"{serial}/{node}/{interface}" + (f"/{attempt}" if attempt else "")
    return ":".join(["02", *(f"{byte:02x}" for byte in hashlib.sha256(text.encode()).digest()[:5])])


def fill_macs(value: dict[str, Any], serial: int) -> None:
    """
    Give each interface that has none the MAC that L{assign} gives it.

    @param value: a topology, as L{Topology.as_value}; changed in place.
    @param serial: the experiment's.
    """
    holders = {one["mac"] for node in value["nodes"] for one in node["interfaces"]}
    for node in value["nodes"]:
        for one in node["interfaces"]:
            if one["mac"] is None:
                tried = (mac_address(serial, node["name"], one["name"], attempt) for attempt in count())
                one["mac"] = next(mac for mac in tried if mac not in holders)
                holders.add(one["mac"])


@define
class _Assignment:
    """
    One topology while its addresses are worked out.

    @ivar at: the address of each interface so far, and C{holders} the other way round.
    @ivar prefixes: the prefix length of each link whose netmask was given.
    @ivar subnets: the subnet of each link that has one so far.
    @ivar refused: links with errors, which get nothing more.
    """

    topology: Topology
    findings: Findings = field(factory=Findings)
    at: dict[_Key, IPv4Address] = field(factory=dict)
    holders: dict[IPv4Address, _Key] = field(factory=dict)
    prefixes: dict[str, int] = field(factory=dict)
    subnets: dict[str, IPv4Network] = field(factory=dict)
    refused: set[str] = field(factory=set)
    members: dict[str, list[_Key]] = field(factory=dict)

    def read_given(self) -> None:
        """Take the given netmasks and addresses, and refuse what cannot be."""
        for node in self.topology.nodes:
            for one in node.interfaces:
                self.members.setdefault(one.link, []).append((node.name, one.name))
                if one.netmask is not None:
                    self._take_netmask(node, one, one.netmask)
        for node in self.topology.nodes:
            for one in node.interfaces:
                if one.ip4 is not None:
                    self._take_address(node, one, IPv4Address(one.ip4))

    def _take_netmask(self, node: TopologyNode, one: TopologyInterface, netmask: str) -> None:
        prefix = IPv4Network(f"0.0.0.0/{netmask}").prefixlen
        if not 1 <= prefix <= 30:
            self._refuse(node, one, f"want a netmask from 128.0.0.0 to 255.255.255.252, got {netmask}")
            return
        other = self.prefixes.setdefault(one.link, prefix)
        if other != prefix:
            self._refuse(node, one, f"link {one.link} is one subnet, but has netmasks of /{other} and /{prefix}")

    def _take_address(self, node: TopologyNode, one: TopologyInterface, address: IPv4Address) -> None:
        own = IPv4Network((int(address), self.prefixes.get(one.link, PREFIX)), strict=False)
        net = self.subnets.get(one.link, own)
        if any(address in unusable for unusable in _UNUSABLE):
            self._refuse(node, one, f"no host may have the address {address}")
        elif address in (own.network_address, own.broadcast_address):
            bit = 0 if address == own.network_address else 1
            self._refuse(node, one, f"no host may have the address {address}: its host part in {own} is all {bit}s")
        elif own != net:
            self._refuse(node, one, f"link {one.link} is one subnet, {net}, but {address} is not in it")
        elif address in self.holders:
            holder, interface = self.holders[address]
            self._refuse(node, one, f"the address {address} is taken by node {holder}, interface {interface}")
        else:
            self._hold((node.name, one.name), address, one.link, own)

    def _hold(self, key: _Key, address: IPv4Address, link: str, net: IPv4Network) -> None:
        self.subnets[link] = net
        self.at[key] = address
        self.holders[address] = key

    def _refuse(self, node: TopologyNode, one: TopologyInterface, text: str) -> None:
        self.refused.add(one.link)
        self.findings.error(node.line, f"node {node.name}, interface {one.name}: {text}")

    def keep(self, previous: Topology) -> None:
        """Let interfaces that were there before keep their addresses."""
        now = {place: key for place, key, _ in _places(self.topology)}
        given = _Blocks(self.subnets.values())
        for place, _, one in _places(previous):
            key = now.get(place)
            if key is None or key in self.at or one.ip4 is None or one.netmask is None:
                continue
            address, net = IPv4Address(one.ip4), IPv4Network(f"{one.ip4}/{one.netmask}", strict=False)
            if address not in self.holders and self._may_keep(one.link, net, given):
                self._hold(key, address, one.link, net)

    def _may_keep(self, link: str, net: IPv4Network, given: _Blocks) -> bool:
        now = self.subnets.get(link)
        if now is not None or link in self.refused:
            return now == net and link not in self.refused
        fits = net.num_addresses - 2 >= len(self.members[link])
        return fits and self.prefixes.get(link, net.prefixlen) == net.prefixlen and given.over(net) is None

    def warn_of_overlaps(self) -> None:
        """Tell of links with addresses that are not told apart by their subnets."""
        lines = {link.name: link.line for link in self.topology.links}
        widest: tuple[str, IPv4Network] | None = None
        for name, net in sorted(self.subnets.items(), key=lambda item: (item[1], item[0])):
            if widest is not None and widest[1].overlaps(net):
                text = f"links {widest[0]} and {name} have overlapping subnets, {widest[1]} and {net}"
                self.findings.warning(lines.get(name, 0), text)
            if widest is None or net.broadcast_address > widest[1].broadcast_address:
                widest = (name, net)

    def fill(self) -> None:
        """Give every other interface an address from the subnet of its link."""
        blocks = _Blocks(self.subnets.values())
        for link in self.topology.links:
            missing = [key for key in self.members.get(link.name, ()) if key not in self.at]
            if missing and link.name not in self.refused:
                self._fill(link, missing, blocks)

    def _fill(self, link: TopologyLink, missing: list[_Key], blocks: _Blocks) -> None:
        count = len(self.members[link.name])
        net = self.subnets.get(link.name)
        if net is None:
            # n hosts from .2: n + 3 addresses with the network's, .1 and the broadcast address.
            net = blocks.take(self.prefixes.get(link.name, min(PREFIX, 32 - (count + 2).bit_length())))
        if net is None:
            self.findings.error(link.line, f"link {link.name}: no subnet for it is free from {FIRST} to {LAST}")
            return
        hosts = (one for one in _hosts(net) if one not in self.holders)
        for key in missing:
            address = next(hosts, None)
            if address is None:
                text = f"link {link.name}: its subnet {net} is too small for {count} interfaces"
                self.findings.error(link.line, text)
                return
            self._hold(key, address, link.name, net)

    def addressed(self, node: TopologyNode, one: TopologyInterface, mac: str) -> TopologyInterface:
        """The interface with all that was found for it."""
        address = self.at.get((node.name, one.name))
        if address is None:
            return evolve(one, mac=mac)
        return evolve(one, ip4=str(address), netmask=str(self.subnets[one.link].netmask), mac=mac)


class _Blocks:
    """
    Hands out aligned blocks that overlap none of those in use, in rising order.
    """

    def __init__(self, used: Iterable[IPv4Network]) -> None:
        merged = list(collapse_addresses(used))
        self._starts = [int(net.network_address) for net in merged]
        self._ends = [int(net.broadcast_address) for net in merged]
        self._next = int(FIRST)

    def over(self, net: IPv4Network) -> int | None:
        """
        @return: the last address of one in use that overlaps C{net}; None if there is none.
        """
        at = bisect_right(self._starts, int(net.broadcast_address)) - 1
        return self._ends[at] if at >= 0 and self._ends[at] >= int(net.network_address) else None

    def take(self, prefix: int) -> IPv4Network | None:
        """
        @return: the next free block; it begins at a /24 of its own. None if there is no more.
        """
        step = max(2 ** (32 - prefix), 256)
        start = -(-self._next // step) * step
        while start + step - 1 <= int(LAST):
            end = self.over(IPv4Network((start, 32 - step.bit_length() + 1)))
            if end is None:
                self._next = start + step
                return IPv4Network((start, prefix))
            start = -(-(end + 1) // step) * step
        return None


def _places(topology: Topology) -> Iterator[tuple[tuple[str, str, int], _Key, TopologyInterface]]:
    """
    Each interface under what stays when others come and go: its node, its link, and which of the node's on that link.
    Its name would not do, for names that were left to us are counted.
    """
    for node in topology.nodes:
        on: dict[str, int] = {}
        for one in node.interfaces:
            nth = on[one.link] = on.get(one.link, -1) + 1
            yield (node.name, one.link, nth), (node.name, one.name), one


def _hosts(net: IPv4Network) -> Iterator[IPv4Address]:
    first, last = int(net.network_address), int(net.broadcast_address)
    for number in range(first + 2, last):
        yield IPv4Address(number)
    yield IPv4Address(first + 1)


def _macs(topology: Topology, serial: int, findings: Findings) -> dict[_Key, str]:
    macs: dict[_Key, str] = {}
    holders: dict[str, _Key] = {}
    for node in topology.nodes:
        for one in node.interfaces:
            if one.mac is None:
                continue
            holder = holders.setdefault(one.mac, (node.name, one.name))
            if holder != (node.name, one.name):
                text = f"the MAC {one.mac} is taken by node {holder[0]}, interface {holder[1]}"
                findings.error(node.line, f"node {node.name}, interface {one.name}: {text}")
            macs[node.name, one.name] = one.mac
    for node in topology.nodes:
        for one in node.interfaces:
            if one.mac is None:
                tried = (mac_address(serial, node.name, one.name, attempt) for attempt in count())
                mac = next(mac for mac in tried if mac not in holders)
                holders[mac] = (node.name, one.name)
                macs[node.name, one.name] = mac
    return macs
