"""
What a sliver may send: C{net_min}, C{net_max}, C{net_share} and, to exempt destinations, C{net2_min} and C{net2_max}.

Pure: orders for C{tc -batch}, and what C{tc class show} says, read back. As on PlanetLab each sliver is two classes of
one C{htb} tree, the second for exempt destinations; what it receives is not shaped. The tree is on an C{ifb} device:
all IPv4 that comes in by a sliver's port of the bridge, from its own address, goes through there first. (Not from the
bridge's own device: where C{br_netfilter} is on, connection tracking has seen a packet by then, and loses it.) Filters
find the class in two hash tables, by the last byte of the address. Where there can be no common tree each sliver has a
small one on its own C{eth0}.

The kernel counts whole bytes per second, so rates are held in steps of 8 bit/s, from 8 bit/s on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

from attrs import frozen

#: What a sliver has that asks for nothing, bit/s and weight (PlanetLab).
DEFAULTS: dict[str, int] = {"net_min": 8, "net_max": 10**9, "net2_min": 8, "net2_max": 10**9, "net_share": 1}
#: The longest packet that a sliver hands over in one piece, and its turn when C{net_share} is 1. A class that sends
#: more in a piece than it may in a turn takes more than its share.
PIECE = 16384
_MOST_QUANTUM = 1 << 30
#: No device is faster; more is held as this.
_MOST_RATE = 10**13
#: Longer than this no queue is at its own rate, within bounds.
_QUEUE_S, _LEAST_QUEUE, _MOST_QUEUE = 0.1, 3 * PIECE, 4 << 20
#: Below this rate one packet can leave a class with a debt of many seconds, and a change of its rate forgives none.
_SLOW = 10**6

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_CLASS = re.compile(
    r"^class htb 1:(?P<minor>[0-9a-f]+) .*?\brate (?P<rate>\d+)(?P<rate_unit>[KMGT]?)bit "
    r"ceil (?P<ceil>\d+)(?P<ceil_unit>[KMGT]?)bit ",
    re.MULTILINE,
)
_NODE = re.compile(r" fh (800::[0-9a-f]+) ")
_DESTINATION = re.compile(r"^  match ([0-9a-f]{8})/([0-9a-f]{8}) at 16$", re.MULTILINE)
_QUANTUM = re.compile(r"^class htb 1:([0-9a-f]+) .*?\bquantum (\d+)", re.MULTILINE)


@frozen
class Shown:
    """
    What the kernel says of a class: bit/s, each perhaps cut down to a multiple of its step; C{quantum} in bytes.
    """

    rate: int
    rate_step: int
    ceil: int
    ceil_step: int
    quantum: int


@frozen
class Held:
    """
    What a class is to have: bit/s as the kernel can hold them, C{quantum} in bytes.
    """

    rate: int
    ceil: int
    quantum: int

    def shown_as(self, shown: Shown) -> bool:
        """
        @return: whether this is what the kernel says.
        """
        return (
            shown.rate <= self.rate < shown.rate + shown.rate_step
            and shown.ceil <= self.ceil < shown.ceil + shown.ceil_step
            and shown.quantum == self.quantum
        )


def held(rspec: Mapping[str, int]) -> tuple[Held, Held]:
    """
    @return: what the two classes of a sliver are to have. C{net_min} over C{net_max} is C{net_max}.
    """
    asked = {**DEFAULTS, **rspec}
    quantum = min(max(asked["net_share"], 1) * PIECE, _MOST_QUANTUM)
    first, second = (
        Held(min(_whole(asked[f"{net}_min"]), _whole(asked[f"{net}_max"])), _whole(asked[f"{net}_max"]), quantum)
        for net in ("net", "net2")
    )
    return first, second


def _whole(rate: int) -> int:
    return min(max(rate // 8, 1) * 8, _MOST_RATE)


@frozen
class Lease:
    """
    A sliver's place in its subnet, from 2, and the address there.
    """

    place: int
    address: IPv4Address

    @property
    def minors(self) -> tuple[int, int]:
        """
        @return: the numbers of its classes on the common tree.
        """
        return 2 * self.place, 2 * self.place + 1

    def handle(self, table: int) -> str:
        """
        @return: of the filter that finds its class, in the hash table of its first (1) or its second (2).
        """
        return f"{table}:{int(self.address) & 255:x}:{(self.place >> 8) + 1:x}"


#: The numbers of a sliver's classes on a tree of its own.
OWN_MINORS = (2, 3)
_FILTER = "parent 1: prio 1 handle %s protocol ip u32"
_HASH = "hashkey mask 0xff at 12 link"
_LAST = "800::ffe"


def tree(device: str, rate: int, exempt: Sequence[IPv4Network]) -> list[str]:
    """
    @param rate: bit/s that all slivers together may send.
    @return: orders that give a device without one a tree.
    """
    begin = f"filter replace dev {device} {_FILTER}"
    return [
        f"qdisc replace dev {device} root handle 1: htb default 0",
        rooted(device, rate),
        *(f"{begin % f'{table}:'} divisor 256" for table in (1, 2)),
        *exempted(device, exempt),
        f"{begin % _LAST} ht 800: match u32 0 0 {_HASH} 1:",
    ]


def rooted(device: str, rate: int) -> str:
    """
    @param rate: bit/s that all slivers together may send.
    @return: an order that says so, which may be repeated.
    """
    return f"class replace dev {device} parent 1: classid 1:1 {_htb(Held(_whole(rate), _whole(rate), PIECE))}"


def exempted(device: str, exempt: Sequence[IPv4Network]) -> list[str]:
    """
    @return: orders that say which destinations are exempt, where none is yet.
    """
    begin = f"filter replace dev {device} {_FILTER}"
    return [
        f"{begin % f'800::{number:x}'} ht 800: match ip dst {network} {_HASH} 2:"
        for number, network in enumerate(exempt, 1)
    ]


def exempted_anew(device: str, exempt: Sequence[IPv4Network], filters: str) -> list[str]:
    """
    @param filters: what C{tc filter show} says of the tree.
    @return: orders that change which destinations are exempt; none if they are the same.
    """
    now = [(int(value, 16), int(mask, 16)) for value, mask in _DESTINATION.findall(filters)]
    if now == [(int(network.network_address), int(network.netmask)) for network in exempt]:
        return []
    old = [handle for handle in _NODE.findall(filters) if handle != _LAST]
    return [*(f"filter delete dev {device} {_FILTER % handle}" for handle in old), *exempted(device, exempt)]


def whole(filters: str) -> bool:
    """
    @param filters: what C{tc filter show} says of the tree.
    @return: whether all of L{tree} is there.
    """
    return all(f" fh {handle} " in filters for handle in ("1: ht divisor 256", "2: ht divisor 256", _LAST))


def port(end: str, device: str, lease: Lease) -> list[str]:
    """
    @param end: our end of a sliver's veth.
    @return: orders that have what comes in there pass through a device first; may be repeated.
    """
    return [
        f"qdisc replace dev {end} clsact",
        f"filter replace dev {end} ingress prio 1 handle 800::1 protocol ip u32 match ip src {lease.address}/32 "
        f"action mirred egress redirect dev {device}",
    ]


def own_tree(rate: int, exempt: Sequence[IPv4Network], device: str = "eth0") -> list[str]:
    """
    @param rate: bit/s, as for L{tree}.
    @return: orders for a sliver's own tree, where there is no shared one; to be followed by its L{classes}.
    """
    first, second = OWN_MINORS
    return [
        f"qdisc replace dev {device} root handle 1: htb default {first:x}",
        rooted(device, rate),  # classes can only borrow from one above them
        *(
            f"filter replace dev {device} {_FILTER % f'800::{number:x}'} match ip dst {network} flowid 1:{second:x}"
            for number, network in enumerate(exempt, 1)
        ),
    ]


def classes(device: str, lease: Lease, rspec: Mapping[str, int], now: Mapping[int, Shown]) -> list[str]:
    """
    @param now: the classes that there are, as read last.
    @return: orders that give a sliver its classes on the common tree, or what is asked now; may be repeated.
    """
    orders = []
    for table, minor, wanted in zip((1, 2), lease.minors, held(rspec), strict=True):
        which = _FILTER % lease.handle(table)
        bucket = lease.handle(table).rpartition(":")[0]
        lead = f"filter replace dev {device} {which} ht {bucket}: match ip src {lease.address}/32 flowid 1:{minor:x}"
        there = now.get(minor)
        if there is not None and _in_debt(there, wanted):
            orders += [lead, f"filter delete dev {device} {which}", f"class delete dev {device} classid 1:{minor:x}"]
        orders += [*_class(device, minor, wanted), lead]
    return orders


def own_classes(rspec: Mapping[str, int], device: str = "eth0") -> list[str]:
    """
    @return: orders that give a sliver its classes on a tree of its own, or what is asked now; may be repeated.
    """
    return [
        order for minor, wanted in zip(OWN_MINORS, held(rspec), strict=True) for order in _class(device, minor, wanted)
    ]


def _class(device: str, minor: int, wanted: Held) -> list[str]:
    limit = min(max(int(wanted.ceil / 8 * _QUEUE_S), _LEAST_QUEUE), _MOST_QUEUE)
    return [
        f"class replace dev {device} parent 1:1 classid 1:{minor:x} {_htb(wanted)}",
        f"qdisc replace dev {device} parent 1:{minor:x} handle {minor:x}: bfifo limit {limit}",
    ]


def _in_debt(there: Shown, wanted: Held) -> bool:
    slow = there.rate < _SLOW and wanted.rate > there.rate + there.rate_step
    return slow or (there.ceil < _SLOW and wanted.ceil > there.ceil + there.ceil_step)


def _htb(wanted: Held) -> str:
    return (
        f"htb rate {wanted.rate}bit ceil {wanted.ceil}bit burst {_burst(wanted.rate)}b cburst {_burst(wanted.ceil)}b "
        f"quantum {wanted.quantum}"
    )


def _burst(rate: int) -> int:
    """
    @return: the bytes of 2 ms, of a packet at least; never more than a second's, for tc counts longer times wrongly.
    """
    return min(max(rate // 8 // 500, min(rate // 8, 1600)), 1 << 30)


def removal(device: str, lease: Lease) -> list[str]:
    """
    @return: orders that remove what a sliver has on the common tree; each fails if that is not there.
    """
    return [
        *(f"filter delete dev {device} {_FILTER % lease.handle(table)}" for table in (1, 2)),
        *(f"class delete dev {device} classid 1:{minor:x}" for minor in lease.minors),
    ]


def read_classes(text: str) -> dict[int, Shown]:
    """
    @param text: what C{tc -d class show} says (C{-j} says the same: this part of tc knows no JSON).
    @return: the classes, by number; without the one over all.
    """
    quanta = {int(minor, 16): int(quantum) for minor, quantum in _QUANTUM.findall(text)}
    found = {}
    for match in _CLASS.finditer(text):
        minor = int(match["minor"], 16)
        steps = [_UNITS[match[name]] for name in ("rate_unit", "ceil_unit")]
        rate, ceil = int(match["rate"]) * steps[0], int(match["ceil"]) * steps[1]
        if minor != 1:
            found[minor] = Shown(rate, steps[0], ceil, steps[1], quanta.get(minor, 0))
    return found


def in_force(first: Shown | None, second: Shown | None, asked: Mapping[str, int]) -> dict[str, int]:
    """
    What the kernel says, in the words of an rspec.

    @param asked: the rspec that was asked for last: where the kernel says what came of it, this is told, and not what
        was cut off by its steps.
    @return: bit/s and weight; less if a class is not there.
    """
    full = {**DEFAULTS, **asked}
    found: dict[str, int] = {}
    for net, shown, wanted in zip(("net", "net2"), (first, second), held(full), strict=True):
        if shown is None:
            continue
        if wanted.shown_as(shown):
            found |= {name: full[name] for name in (f"{net}_min", f"{net}_max", "net_share")}
        else:
            found |= {f"{net}_min": shown.rate, f"{net}_max": shown.ceil}
            found.setdefault("net_share", max(shown.quantum // PIECE, 1))
    return found
