"""
A node's interfaces, as they are in its network namespace: what is to be done for them, and what cannot be. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError
from typing import Any

from attrs import define, field, frozen

from hostline.server.drivers.driver import Interface
from hostline.server.network.fabric import Names

#: What our routes bear, so that nobody else's is taken for one (rtnetlink(7): 186 to 196 are others').
PROTOCOL = 197
MTU = 1500
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")


def refusal(one: Interface) -> str:
    """
    @return: why an interface cannot be made, in words; empty if it can. What comes through here is part of an order.
    """
    if not _NAME.fullmatch(one.name) or one.name in ("lo", "all", "default"):
        return f"want a name of up to 15 letters, digits, _, - and dots, got {one.name[:30]!r}"
    if not _MAC.fullmatch(one.mac):
        return f"{one.name}: want a MAC like 02:00:00:00:00:01, got {one.mac[:30]!r}"
    try:
        IPv4Interface(one.address)
    except (AddressValueError, NetmaskValueError, ValueError):
        return f"{one.name}: want an address like 10.1.1.2/24, got {one.address[:30]!r}"
    return ""


@frozen
class Inside:
    """
    What there is in a node's network namespace.

    @ivar links: by name, as C{ip -j -d address show} describes them.
    @ivar routes: as C{ip -N -j -4 route show table main} does.
    """

    links: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    routes: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def read(cls, links: str, routes: str) -> Inside:
        """
        @raise ValueError: if these say nothing that can be read.
        """
        found = {str(link["ifname"]): link for link in json.loads(links or "[]") if link}
        return cls(found, json.loads(routes or "[]"))

    def addresses(self, name: str) -> list[str]:
        """
        @return: IPv4 addresses with prefix lengths, of one interface.
        """
        found = self.links.get(name, {}).get("addr_info", ())
        return [f"{one['local']}/{one['prefixlen']}" for one in found if one.get("family") == "inet"]


def joined(name: str, inside: Inside, outer: Mapping[str, Any]) -> bool:
    """
    @param name: of the interface inside.
    @param outer: our end of its veth.
    @return: whether the two are ends of one.
    """
    link = inside.links.get(name, {})
    return bool(link) and (
        outer.get("link_index") == link.get("ifindex") and link.get("link_index") == outer.get("ifindex")
    )


@define
class Inner:
    """
    What is to be done inside.

    @ivar orders: for C{ip -batch}; C{forward}: what is to be written into C{ip_forward}; empty: nothing.
    @ivar problems: what cannot be, in words for the user.
    """

    orders: list[str] = field(factory=list)
    forward: str = ""
    problems: list[str] = field(factory=list)


def work(
    interfaces: Mapping[str, Interface],
    routes: Sequence[tuple[str, str]],
    inside: Inside,
    before: Mapping[str, str],
    *,
    forwards: bool,
    addressed: bool,
    hosted: bool,
    switch: str,
) -> Inner:
    """
    @param interfaces: by their names inside; they are there by then, or are made before.
    @param before: the address that each was given last.
    @param addressed: whether they get addresses and routes.
    @param hosted: whether this is the host's own namespace, where much is not ours.
    @param switch: what C{ip_forward} says.
    """
    found = Inner()
    given: dict[str, Interface] = {}
    if addressed and not hosted and "UP" not in inside.links.get("lo", {}).get("flags", ()):
        found.orders.append("link set dev lo up")
    fresh = False
    for name, one in interfaces.items():
        link = inside.links.get(name, {})
        fresh = fresh or not link
        if addressed and hosted and (why := _taken(one, name, inside)):
            found.problems.append(why)
            continue
        given[name] = one
        found.orders += _link(name, one, link)
        if addressed:
            addresses = inside.addresses(name)
            old = before.get(name, "")
            if old != one.address and old in addresses:
                found.orders.append(f"address delete {old} dev {name}")
            if one.address not in addresses:
                found.orders.append(f"address replace {one.address} dev {name}")
        if "UP" not in link.get("flags", ()):
            found.orders.append(f"link set dev {name} up")
    if addressed:
        _routes(found, given, routes, inside, hosted=hosted)
        _forward(found, forwards=forwards, hosted=hosted, switch=switch, fresh=fresh)
    return found


def _link(name: str, one: Interface, link: Mapping[str, Any]) -> list[str]:
    orders = []
    if link.get("address") != one.mac:
        orders.append(f"link set dev {name} address {one.mac}")
    if link.get("inet6_addr_gen_mode") != "none" or link.get("mtu") != MTU:
        orders.append(f"link set dev {name} addrgenmode none mtu {MTU}")
    return orders


def _taken(one: Interface, name: str, inside: Inside) -> str:
    network = IPv4Interface(one.address).network
    for other in inside.links:
        for address in inside.addresses(other):
            if other != name and IPv4Interface(address).network.overlaps(network):
                return f"{one.name}: this host has {address} on {other} already, so it cannot have {one.address}"
    for route in inside.routes:
        destination = str(route.get("dst", "default"))
        if destination == "default" or route.get("dev") == name:
            continue
        if IPv4Network(destination).overlaps(network):
            by = f"{destination} dev {route.get('dev', '?')}"
            return f"{one.name}: this host has a route {by}, so it cannot have {one.address}"
    return ""


def _routes(
    found: Inner,
    given: Mapping[str, Interface],
    routes: Sequence[tuple[str, str]],
    inside: Inside,
    *,
    hosted: bool,
) -> None:
    near = [(IPv4Interface(one.address).network, name) for name, one in given.items()]
    wanted: dict[str, tuple[str, str]] = {}
    for destination, hop in routes:
        try:
            network, via = IPv4Network(destination), IPv4Address(hop)
        except ValueError:
            found.problems.append(f"no route to {destination[:30]!r}: want a network and an address")
            continue
        device = next((name for own, name in near if via in own), None)
        if device is None:
            found.problems.append(f"no route to {network}: {via} is on none of its links")
        else:
            wanted[str(network) if network.prefixlen else "default"] = (str(via), device)
    ours: dict[str, tuple[str, str]] = {}
    others: dict[str, tuple[str, str]] = {}
    for route in inside.routes:
        text = str(route.get("dst", "default"))
        key = text if text == "default" or "/" in text else f"{text}/32"
        into = ours if str(route.get("protocol")) == str(PROTOCOL) else others
        into[key] = (str(route.get("gateway", "")), str(route.get("dev", "")))
    for key, (_, device) in ours.items():
        if key not in wanted and (not hosted or device in given):
            found.orders.append(f"route delete {key} dev {device} proto {PROTOCOL}")
    for key, (hop, device) in wanted.items():
        if key in ours and hosted and ours[key][1] not in given:
            found.problems.append(f"no route to {key}: this host has one for another node, dev {ours[key][1]}")
        elif key not in ours and key in others:
            # In a node of its own the user may have put it there; on the host it is the host's.
            if hosted:
                found.problems.append(f"no route to {key}: this host has one already, dev {others[key][1]}")
        elif ours.get(key) != (hop, device):
            found.orders.append(f"route replace {key} via {hop} dev {device} proto {PROTOCOL}")


def _forward(found: Inner, *, forwards: bool, hosted: bool, switch: str, fresh: bool) -> None:
    if hosted:
        if forwards and switch != "1":
            found.problems.append("it passes nothing on: this host's net.ipv4.ip_forward is off")
    elif forwards and switch != "1":
        found.forward = "1"
    elif not forwards and fresh and switch != "0":  # what a user switched on later stays
        found.forward = "0"


def outer(names: Names, serial: int, one: Interface, name: str) -> list[str]:
    """
    @param name: what it is called inside.
    @return: orders that make its veth; the namespace is descriptor 3.
    """
    port = names.port((serial, one.name))
    there = f"name {name} address {one.mac} mtu {MTU}"
    marked = f" group {names.group}" if name != one.name else ""
    return [
        f"link add name {port} group {names.group} mtu {MTU} type veth peer {there}{marked} netns /proc/self/fd/3",
        alias(names, serial, one),
    ]


def alias(names: Names, serial: int, one: Interface) -> str:
    """
    @return: an order that notes at our end what the interface is, and has been given.
    """
    port = names.port((serial, one.name))
    return f"link set dev {port} alias '{names.alias('port', serial, one.name, one.address)}' addrgenmode none"
