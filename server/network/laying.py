"""
What is to be done on the host so that links are as they should be: orders for C{ip -batch} and C{tc -batch}. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from attrs import define, field, frozen

from hostline.server.network import fabric
from hostline.server.network.fabric import Fabric, Names, Shape


@frozen
class Seen:
    """
    What there is on the host.

    @ivar ours: as C{ip -j link show} describes it, by name.
    @ivar foreign: the names of all others that begin as ours do.
    @ivar qdiscs: kind, and rate in bytes/s, of the qdisc at the root of each device of ours; nothing of a kernel's own.
    """

    ours: dict[str, dict[str, Any]] = field(factory=dict)
    foreign: frozenset[str] = frozenset()
    qdiscs: dict[str, tuple[str, int]] = field(factory=dict)

    def ports(self, names: Names) -> dict[tuple[int, str], dict[str, Any]]:
        """
        @return: those of members, finished.
        """
        found = ((names.member(link), link) for link in self.ours.values())
        return {key: link for key, link in found if key is not None}


def read(names: Names, links: str, qdiscs: str) -> Seen:
    """
    @param links: what C{ip -j link show} says, C{qdiscs}: what C{tc -j qdisc show} says.
    """
    every = parse(links)
    ours = {str(link["ifname"]): link for link in every if names.owned(link)}
    foreign = (str(link["ifname"]) for link in every if str(link["ifname"]).startswith(names.start))
    roots = (one for one in json.loads(qdiscs or "[]") if one.get("root") and one.get("dev") in ours)
    held = {
        str(one["dev"]): (str(one["kind"]), int(one.get("options", {}).get("rate") or 0))
        for one in roots
        if one.get("kind") in ("tbf", "netem")
    }
    return Seen(ours, frozenset(foreign) - ours.keys(), held)


def parse(text: str) -> list[dict[str, Any]]:
    """
    @param text: what C{ip -j} says.
    """
    return [link for link in json.loads(text or "[]") if link]


@define
class Orders:
    """
    What is to be done, in this order.

    @ivar make: for ip: what is to be there; C{bridges}: which of it are new bridges, to be shut to the host itself.
    @ivar join: for ip: how it hangs together; C{shape}: for tc.
    @ivar remove: for ip, last: what must not be there any more.
    @ivar shapes: what each device is held to then.
    """

    make: list[str] = field(factory=list)
    bridges: list[str] = field(factory=list)
    join: list[str] = field(factory=list)
    shape: list[str] = field(factory=list)
    remove: list[str] = field(factory=list)
    shapes: dict[str, Shape] = field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.make or self.join or self.shape or self.remove)


def lay(
    wanted: Iterable[Fabric],
    seen: Seen,
    held: Mapping[str, Shape],
    names: Names,
    uid: int,
    absent: Collection[str] = (),
) -> Orders:
    """
    @param held: what each device was told last.
    @param uid: whose taps are.
    @param absent: ports that are made with these orders, and are not there yet.
    @return: what is missing or otherwise; nothing is ordered of what is so already.
    """
    orders = Orders()
    for one in wanted:
        for bridge in one.bridges:
            if bridge not in seen.ours:
                orders.make += _bridge(bridge, names)
                orders.bridges.append(bridge)
                orders.join.append(f"link set dev {bridge} up")
            elif "UP" not in seen.ours[bridge].get("flags", ()):
                orders.join.append(f"link set dev {bridge} up")
        for joint in one.joints:
            if any(_kind(seen, end) != ("tun" if joint.filtered else "veth") for end in (joint.near, joint.far)):
                orders.make += [f"link delete dev {end}" for end in _there(joint, seen)]
                orders.make += _joint(joint, names, uid)
                for end in (joint.near, joint.far):
                    seen.ours.pop(end, None)
                    seen.qdiscs.pop(end, None)
            _place(orders, seen, joint.near, joint.near_bridge)
            _place(orders, seen, joint.far, joint.far_bridge)
            _shape(orders, seen, held, joint.near, joint.there, filtered=joint.filtered)
            _shape(orders, seen, held, joint.far, joint.back, filtered=joint.filtered)
        for key, port in one.ports.items():
            name = names.port(key)
            if name in seen.ours or name in absent:
                _place(orders, seen, name, port.bridge)
                _shape(orders, seen, held, name, port.shape)
    return orders


def _bridge(name: str, names: Names) -> list[str]:
    # A link passes on every frame, those too that bridges keep to themselves, but for pause frames.
    fixed = "stp_state 0 forward_delay 0 mcast_snooping 0 group_fwd_mask 65528"
    return [
        f"link add name {name} group {names.group} type bridge {fixed}",
        f"link set dev {name} alias '{names.alias('bridge')}' addrgenmode none",
    ]


def _joint(joint: fabric.Joint, names: Names, uid: int) -> list[str]:
    make = [f"tuntap add dev {end} mode tap user {uid}" for end in (joint.near, joint.far)]
    if not joint.filtered:
        group = f"group {names.group}"
        make = [f"link add name {joint.near} {group} type veth peer name {joint.far} {group}"]
    alias = f"alias '{names.alias('joint')}' addrgenmode none group {names.group}"
    return [*make, *(f"link set dev {end} {alias}" for end in (joint.near, joint.far))]


def _there(joint: fabric.Joint, seen: Seen) -> list[str]:
    found = [end for end in (joint.near, joint.far) if end in seen.ours]
    # A veth goes with its other end.
    return found[:1] if len(found) == 2 and _kind(seen, joint.near) == _kind(seen, joint.far) == "veth" else found


def _kind(seen: Seen, name: str) -> str:
    link = seen.ours.get(name)
    if link is None:
        return ""
    return "veth" if "link" in link or "link_index" in link else "tun"


def _place(orders: Orders, seen: Seen, name: str, bridge: str) -> None:
    link = seen.ours.get(name, {})
    if link.get("master") != bridge or "UP" not in link.get("flags", ()):
        orders.join.append(f"link set dev {name} master {bridge} up")


def _shape(
    orders: Orders, seen: Seen, held: Mapping[str, Shape], name: str, shape: Shape, *, filtered: bool = False
) -> None:
    orders.shapes[name] = shape
    found = seen.qdiscs.get(name, ("", 0))
    wanted = root(shape, filtered=filtered)
    same = found[0] == wanted[0] and abs(found[1] - wanted[1]) <= 1 + wanted[1] // 1000
    if not same or (found[0] and held.get(name) != shape):
        orders.shape += fabric.qdiscs(name, shape, filtered=filtered, old=bool(found[0]))


def root(shape: Shape, *, filtered: bool) -> tuple[str, int]:
    """
    @return: kind, and rate in bytes/s, of the qdisc that is to be at the root; nothing if none is.
    """
    if shape.late and not filtered:
        return "netem", 0
    return ("tbf", int(shape.rate_kbps * 125)) if shape.rate_kbps > 0 else ("", 0)


def outermost(seen: Seen, names: Names) -> set[str]:
    """
    @return: all of ours but what goes with something else of ours: an interface of the host's goes with its port.
    """
    return {name for name in seen.ours if not name.startswith(f"{names.start}i")}


def removal(gone: Collection[str], seen: Seen) -> list[str]:
    """
    @return: orders that remove these; of the two ends of a veth one is enough.
    """
    orders: list[str] = []
    done: set[str] = set()
    for name in sorted(gone):
        if name not in done:
            orders.append(f"link delete dev {name}")
            done |= {name, str(seen.ours.get(name, {}).get("link"))}
    return orders


def devices(one: Fabric) -> set[str]:
    """
    @return: the names of its bridges and joints.
    """
    return {*one.bridges, *(end for joint in one.joints for end in (joint.near, joint.far))}


def assume(seen: Seen, orders: Orders, parts: Iterable[Fabric], names: Names) -> None:
    """
    Note what there is once the orders for these were carried out.
    """
    for one in parts:
        for bridge in one.bridges:
            seen.ours[bridge] = {"ifname": bridge, "flags": ["UP"]}
        for joint in one.joints:
            for end, bridge, other in (
                (joint.near, joint.near_bridge, joint.far), (joint.far, joint.far_bridge, joint.near)
            ):  # fmt: skip
                kind = {} if joint.filtered else {"link": other}
                seen.ours[end] = {"ifname": end, "flags": ["UP"], "master": bridge, **kind}
        for key, port in one.ports.items():
            name = names.port(key)
            if name in orders.shapes:
                seen.ours[name] = {"ifname": name, "flags": ["UP"], "master": port.bridge, "link": "?"}
    filtered = {end for one in parts for joint in one.joints if joint.filtered for end in (joint.near, joint.far)}
    for name, shape in orders.shapes.items():
        seen.qdiscs.pop(name, None)
        if (found := root(shape, filtered=name in filtered))[0]:
            seen.qdiscs[name] = found
