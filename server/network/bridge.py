"""
The bridge that slivers hang on, and the rules around it: names, and orders for C{ip -batch} and C{nft -f}. Pure.

Each sliver's C{eth0} is one end of a veth; the other, our end, is a port of the bridge. Ports are isolated from each
other, and what comes in by one is dropped unless it bears the hardware and IPv4 address that the sliver was given.
Everything of ours bears our instance: in its name, in its C{alias} and, from the moment it is made, in its C{group}.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from attrs import frozen

from hostline.server.network.shaping import PIECE, Lease

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
#: Never for slivers, whatever is permitted: link-local (a cloud's metadata), and what cannot be forwarded rightly.
NEVER = tuple(IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))


@frozen
class Names:
    """
    What our things in the kernel are called.
    """

    instance: str

    @property
    def bridge(self) -> str:
        """
        @return: of the bridge, 10 characters.
        """
        return f"hl{self.instance[:8]}"

    @property
    def shaper(self) -> str:
        """
        @return: of the C{ifb} device.
        """
        return f"hi{self.instance[:8]}"

    @property
    def ends(self) -> str:
        """
        @return: how the names of our ends begin, 7 characters; another daemon's begin so once in 60 million.
        """
        return f"hv{_short(self._number % 36**5).rjust(5, '0')}"

    def end(self, serial: int) -> str:
        """
        @return: of our end of a sliver's veth: 15 characters at most.
        @raise ValueError: if the serial is too long for that.
        """
        if not 0 <= serial < 36**8:
            raise ValueError(f"want a serial below 36**8, got {serial}")
        return self.ends + _short(serial)

    @property
    def table(self) -> str:
        """
        @return: of both nft tables, C{inet} and C{bridge}.
        """
        return f"hostline_{self.instance[:8]}"

    @property
    def group(self) -> int:
        """
        @return: the number of the group of all our devices.
        """
        return self._number % 2**31 | 1 << 20

    @property
    def doomed(self) -> int:
        """
        @return: the number of the group of those devices of ours that are about to go.
        """
        return self.group ^ 1

    @property
    def _number(self) -> int:
        return int.from_bytes(hashlib.sha256(self.instance.encode()).digest()[:8], "big")

    def alias(self, what: int | str) -> str:
        """
        @param what: a serial, C{bridge} or C{shaper}.
        """
        return f"hostline {self.instance}/{what}"

    def hardware(self, what: int | str) -> str:
        """
        @return: the hardware address of a sliver, or of the bridge.
        """
        digest = hashlib.sha256(f"{self.instance}/{what}".encode()).hexdigest()
        return ":".join(["02", *(digest[at : at + 2] for at in range(0, 10, 2))])

    def owner(self, link: Mapping[str, Any]) -> str | None:
        """
        @param link: as C{ip -j link show} describes it.
        @return: what it is of ours (a serial, C{bridge}, C{shaper}; C{?} if it was not finished); None if not ours.
        """
        alias, mine = link.get("ifalias"), self.alias("")
        if isinstance(alias, str):
            return alias.removeprefix(mine) if alias.startswith(mine) else None
        name = str(link.get("ifname"))
        named = name in (self.bridge, self.shaper) or name.startswith(self.ends)
        return "?" if named and str(link.get("group")) == str(self.group) else None


def _short(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"


def read_links(text: str) -> list[dict[str, Any]]:
    """
    @param text: what C{ip -j link show} says; nothing if there is no such link.
    """
    return [link for link in json.loads(text or "[]") if link]


def read_addresses(text: str) -> list[str]:
    """
    @param text: what C{ip -j -4 address show} says.
    @return: addresses with their prefix lengths.
    """
    infos = [info for link in read_links(text) for info in link.get("addr_info", [])]
    return [f"{info['local']}/{info['prefixlen']}" for info in infos]


def routed(text: str, subnet: IPv4Network, bridge: str) -> str:
    """
    @param text: what C{ip -j -4 route show table all} says.
    @return: of the routes that have addresses in common with a subnet, and are not of our bridge, one in words.
    """
    for route in json.loads(text or "[]"):
        destination = route.get("dst", "default")
        if destination != "default" and route.get("dev") != bridge and IPv4Network(destination).overlaps(subnet):
            return f"{destination} dev {route.get('dev', '?')}"
    return ""


def in_use(subnet: IPv4Network, overlap: str) -> str:
    """
    @return: what to do about that, in words for the operator.
    """
    return f"{subnet} is in use ({overlap}); set network.subnet"


def bridge(names: Names, address: str, *, new: bool) -> list[str]:
    """
    @param address: the host's own among the slivers, with the subnet's prefix length.
    @return: orders that make the bridge, or put an old one right.
    """
    device = names.bridge
    make = f"link add name {device} group {names.group} address {names.hardware('bridge')} type bridge"
    return [
        *([make] if new else []),
        f"link set dev {device} alias '{names.alias('bridge')}' addrgenmode none",
        f"link set dev {device} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        f"address replace {address} dev {device}",
        f"link set dev {device} up",
    ]


def shaper(names: Names, *, new: bool) -> list[str]:
    """
    @return: orders that make the C{ifb} device, or put an old one right.
    """
    device = names.shaper
    return [
        *([f"link add name {device} group {names.group} type ifb"] if new else []),
        f"link set dev {device} alias '{names.alias('shaper')}' addrgenmode none",
        f"link set dev {device} up",
    ]


def outer(names: Names, serial: int, *, new: bool, isolated: bool) -> list[str]:
    """
    @param new: make the veth; otherwise only put our end right.
    @return: orders for the host's side; the sliver's network namespace is descriptor 3.
    """
    end = names.end(serial)
    hardware = names.hardware(serial)
    make = f"link add name {end} group {names.group} type veth peer name eth0 address {hardware} netns /proc/self/fd/3"
    return [
        *([make] if new else []),
        f"link set dev {end} alias '{names.alias(serial)}' addrgenmode none",
        f"link set dev {end} master {names.bridge}",
        f"link set dev {end} type bridge_slave isolated {'on' if isolated else 'off'}",
        f"link set dev {end} up",
    ]


def inner(address: IPv4Address, prefix: int, gateway: IPv4Address) -> list[str]:
    """
    @return: orders for the sliver's side. Without C{addrgenmode} there is no IPv6 but C{::1}.
    """
    return [
        "link set dev lo up",
        f"link set dev eth0 addrgenmode none gso_max_size {PIECE}",
        f"address replace {address}/{prefix} dev eth0",
        "link set dev eth0 up",
        f"route replace default via {gateway} dev eth0",
    ]


def bare() -> list[str]:
    """
    @return: orders for the side of a sliver whose C{eth0} somebody else takes frames from: no address, no route.
    """
    return ["link set dev eth0 addrgenmode none", "link set dev eth0 up"]


def guard(names: Names, leases: Mapping[int, Lease]) -> list[str]:
    """
    @param leases: by serial.
    @return: the table that drops what bears a false address.
    """
    table = names.table
    lines = [
        f"table bridge {table}",
        f"delete table bridge {table}",
        f"table bridge {table} {{",
        "set known { type ifname . ether_addr . ipv4_addr; }",
        "chain prerouting {",
        "type filter hook prerouting priority -300; policy accept;",
        f'iifname "{names.ends}*" jump sliver',
        "}",
        "chain sliver {",
        # As ARP itself says, too, or what is sent to this one would go to another.
        "ether type arp iifname . arp saddr ether . arp saddr ip != @known drop",
        "ether type arp iifname . ether saddr . arp saddr ip @known accept",
        "ether type ip iifname . ether saddr . ip saddr @known accept",
        "drop",
        "}",
        "}",
    ]
    return [*lines, *(admission(names, serial, lease.address) for serial, lease in leases.items())]


def admission(names: Names, serial: int, address: IPv4Address, verb: str = "add") -> str:
    """
    @param verb: C{add}, which may be repeated, or C{delete}, which may not.
    @return: an order that lets a sliver's packets in.
    """
    element = f'"{names.end(serial)}" . {names.hardware(serial)} . {address}'
    return f"{verb} element bridge {names.table} known {{ {element} }}"


@frozen
class Way:
    """
    Where slivers may go.

    @ivar out: whether through the host at all, by NAT.
    @ivar together: whether to each other.
    @ivar forbidden: nowhere there, besides L{NEVER}.
    @ivar resolvers: where they may ask for names though it be forbidden.
    @ivar names: whether the host itself answers them for names, at its own address among them.
    """

    subnet: IPv4Network
    out: bool = False
    together: bool = False
    forbidden: tuple[IPv4Network, ...] = ()
    resolvers: tuple[IPv4Address, ...] = ()
    names: bool = False


def rules(names: Names, way: Way) -> list[str]:
    """
    @return: the table for what goes to the host, and through it. What is dropped here is dropped; what is let through
        may still be dropped by a table of somebody else's.
    """
    table, device = names.table, names.bridge
    out = ["drop"]
    if way.out:
        resolvers = ", ".join(map(str, way.resolvers))
        out = [
            "ct state established,related accept",
            *([f"ip daddr {{ {resolvers} }} meta l4proto {{ tcp, udp }} th dport 53 accept"] if resolvers else []),
            "ct status dnat drop",  # a service of the host's that somebody has put elsewhere
            "ip daddr @forbidden drop",
            "accept",
        ]
    postrouting = [
        "chain postrouting {",
        "type nat hook postrouting priority 100; policy accept;",
        f'ip saddr {way.subnet} oifname != "{device}" masquerade',
        "}",
    ]
    return [
        f"table inet {table}",
        f"delete table inet {table}",
        f"table inet {table} {{",
        *_networks("forbidden", [*NEVER, *way.forbidden]),
        "chain input {",
        "type filter hook input priority 0; policy accept;",
        f'iifname != "{device}" accept',
        "ct state established,related accept",
        "icmp type echo-request accept",
        *([f"ip daddr {way.subnet[1]} meta l4proto {{ tcp, udp }} th dport 53 accept"] if way.names else []),
        "drop",
        "}",
        "chain forward {",
        "type filter hook forward priority 0; policy accept;",
        f'iifname "{device}" oifname "{device}" {"accept" if way.together else "drop"}',
        f'iifname "{device}" jump out',
        f'oifname "{device}" ct state established,related accept',
        f'oifname "{device}" drop',
        "}",
        "chain out {",
        *out,
        "}",
        *(postrouting if way.out else []),
        "}",
    ]


def _networks(name: str, networks: Iterable[IPv4Network]) -> list[str]:
    elements = ", ".join(map(str, networks))
    filled = f" elements = {{ {elements} }};" if elements else ""
    return [f"set {name} {{ type ipv4_addr; flags interval; auto-merge;{filled} }}"]
