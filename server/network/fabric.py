"""
What a link of an experiment is made of on the host: bridges, and what joins them and shapes. Pure.

A link is one bridge with a port for each node that is on it. Rates are held by C{tbf} where frames leave a port towards
the node. Where that cannot do what was declared, bridges are joined by a pair of ends with something between them: two
bridges for a link of two, one for each member besides that in the centre for a LAN. The pair is a veth with a qdisc at
each end, or, where the kernel has no C{netem}, two taps with a chain of VDE's C{wirefilter} between them.

Everything of ours bears our instance: in its name, in its C{group} from the moment it is made, and in its C{alias}.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from attrs import field, frozen

_SAFE = re.compile(r"[\w./-]{1,60}", re.ASCII)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
#: How many full frames wait at least where a rate is held (Emulab: 50 slots, dropped at the tail), and for how long.
QUEUE_FRAMES, FRAME = 50, 1514
QUEUE_S = 0.05
#: Bytes that a wirefilter keeps of what is on its way: what 1 Gbit/s is in the time of the delay, but not more.
BUFFER_MIN, BUFFER_MAX = 1 << 20, 64 << 20


@frozen
class Shape:
    """
    What happens to frames on their way, one way.

    @ivar rate_kbps: kbit/s of whole Ethernet frames; 0: as fast as can be.
    @ivar delay_ms: milliseconds.
    @ivar loss: the part that is lost, 0 to 1.
    """

    rate_kbps: float = 0.0
    delay_ms: float = 0.0
    loss: float = 0.0

    @property
    def late(self) -> bool:
        """
        @return: whether it wants more than a rate.
        """
        return self.delay_ms > 0 or self.loss > 0

    def half(self) -> Shape:
        """
        @return: this, where the other half of delay and loss is met elsewhere on the way.
        """
        return Shape(self.rate_kbps, self.delay_ms / 2, 1 - math.sqrt(1 - self.loss))


#: Nothing happens.
PLAIN = Shape()


@frozen
class Member:
    """
    A node's interface on a link.

    @ivar serial: of its sliver.
    @ivar interface: what it is called inside.
    @ivar to: what it sends, C{received}: what it receives; each as if it were the whole way.
    @ivar embedded: whether it is the host itself.
    """

    serial: int
    interface: str
    to: Shape = PLAIN
    received: Shape = PLAIN
    embedded: bool = False

    @property
    def key(self) -> tuple[int, str]:
        """
        @return: what tells it from all others.
        """
        return self.serial, self.interface


def between(sender: Member, receiver: Member) -> Shape:
    """
    @return: what happens on the way from one to the other: the lower rate, the middle of the delays, and of each loss
        the half, so that where both only have what the link has, it is just that.
    """
    to, received = sender.to.half(), receiver.received.half()
    rates = [one.rate_kbps for one in (to, received) if one.rate_kbps > 0]
    loss = 1 - (1 - to.loss) * (1 - received.loss)
    return Shape(min(rates, default=0.0), to.delay_ms + received.delay_ms, 0.0 if loss < 1e-12 else loss)


@frozen
class Link:
    """
    What a link should be.

    @ivar name: C{EXPERIMENT/LINK}, the first a serial.
    """

    name: str
    members: tuple[Member, ...] = ()


@frozen
class Able:
    """
    What this host can do for links.

    @ivar tbf: hold rates; C{netem}: delay and lose in the kernel; C{wirefilter}: the same by VDE's programs.
    @ivar guard: keep what is on a link from the host's own protocols by nftables, too.
    """

    tbf: bool = True
    netem: bool = False
    wirefilter: bool = True
    guard: bool = True

    def refusal(self, shapes: Collection[Shape]) -> str:
        """
        @return: why these cannot be given here, in words for the user; empty if they can.
        """
        if any(one.rate_kbps > 0 for one in shapes) and not self.tbf:
            return "no rate can be held here: this kernel has no tbf"
        if any(one.late for one in shapes) and not (self.netem or self.wirefilter):
            return "neither delay nor loss can be had here: this kernel has no netem; install vde2 for its wirefilter"
        return ""


@frozen
class Names:
    """
    What our things are called: 15 characters, none like those of slivers' own network.
    """

    instance: str

    @property
    def start(self) -> str:
        """
        @return: how all begin, 6 characters.
        """
        return "hk" + _hashed(self.instance, 4)

    @property
    def group(self) -> int:
        """
        @return: the number of the group of all our devices.
        """
        return int(hashlib.sha256(f"links {self.instance}".encode()).hexdigest()[:8], 16) % 2**31 | 1 << 20

    @property
    def doomed(self) -> int:
        """
        @return: the number of the group of those devices of ours that are about to go.
        """
        return self.group ^ 1

    def device(self, what: str, *key: object) -> str:
        """
        @param what: a letter: C{b}ridge, C{p}ort, what is C{i}nside where that is the host, and the two ends of a
            joint: C{n}ear the member, and C{f}ar.
        """
        return self.start + what + _hashed("\0".join(map(str, (self.instance, *key))), 8)

    def port(self, key: tuple[int, str]) -> str:
        """
        @return: our end of the veth of a member.
        """
        return self.device("p", *key)

    def alias(self, what: str, *words: object) -> str:
        """
        @param what: C{bridge}, C{joint}, C{inner}, or C{port} with serial, interface and address.
        """
        safe = (str(word) if _SAFE.fullmatch(str(word)) else "?" for word in words)
        return " ".join((f"hostline-links {self.instance}", what, *safe))

    def owned(self, link: Mapping[str, Any]) -> bool:
        """
        @param link: as C{ip -j link show} describes it.
        @return: whether it is ours, be it not finished.
        """
        alias = link.get("ifalias")
        if isinstance(alias, str):
            return alias.startswith(f"hostline-links {self.instance} ")
        name, group = str(link.get("ifname")), str(link.get("group"))
        grouped = group == str(self.group) or (group == "default" and name[6:7] in "nf")  # no tap is made with a group
        return name.startswith(self.start) and len(name) == 15 and grouped

    def member(self, link: Mapping[str, Any]) -> tuple[int, str] | None:
        """
        @return: whose port it is; None if it is none that was finished.
        """
        words = str(link.get("ifalias", "")).split(" ")
        if words[:2] != ["hostline-links", self.instance] or words[2:3] != ["port"] or len(words) < 5:
            return None
        key = int(words[3]), words[4]
        return key if self.port(key) == link.get("ifname") else None

    @property
    def table(self) -> str:
        """
        @return: of the nft table, C{bridge}.
        """
        return f"hostline_links_{self.instance[:8]}"


@frozen
class Port:
    """
    Where a member is.

    @ivar bridge: the name of the bridge; C{shape}: what is held where frames leave towards it.
    """

    bridge: str
    shape: Shape = PLAIN


@frozen
class Joint:
    """
    What joins two bridges.

    @ivar near: the end on the member's side, C{near_bridge}: where that is; C{far}: the other.
    @ivar there: what happens to what goes in at the near end, C{back}: at the far one.
    @ivar filtered: whether a wirefilter is between the ends, which are taps then.
    """

    near: str
    far: str
    near_bridge: str
    far_bridge: str
    there: Shape
    back: Shape
    filtered: bool


@frozen
class Fabric:
    """
    All of a link that there is to be.

    @ivar bridges: names; C{ports}: by member; C{joints}: what is between the bridges.
    @ivar by: C{tbf}, C{wirefilter}, C{netem}: what shapes it; None if it is not shaped.
    """

    bridges: tuple[str, ...] = ()
    ports: Mapping[tuple[int, str], Port] = field(factory=dict)
    joints: tuple[Joint, ...] = ()
    by: str | None = None


def fabric(link: Link, present: Collection[tuple[int, str]], names: Names, able: Able) -> Fabric:
    """
    @param present: the members that have a port; without any there is no link.
    """
    there = [one for one in link.members if one.key in present]
    if not there:
        return Fabric()
    if len(link.members) == 2:
        return _two(link, there, names, able)
    return _lan(link, there, names, able)


def shaped_by(link: Link, able: Able) -> str | None:
    """
    @return: what will shape it, as in L{Fabric}.
    """
    return fabric(link, [one.key for one in link.members], Names(""), able).by


def _two(link: Link, there: Collection[Member], names: Names, able: Able) -> Fabric:
    first, second = link.members
    ways = between(first, second), between(second, first)
    centre = names.device("b", link.name)
    if not any(way.late for way in ways) or able.netem:
        shapes = {second.key: ways[0], first.key: ways[1]}
        ports = {one.key: Port(centre, shapes[one.key]) for one in there}
        return Fabric((centre,), ports, (), _by(ways, netem=able.netem))
    other = names.device("b", link.name, second.serial, second.interface)
    ends = names.device("n", link.name), names.device("f", link.name)
    joint = Joint(*ends, centre, other, *ways, filtered=True)
    ports = {one.key: Port(centre if one.key == first.key else other) for one in there}
    return Fabric((centre, other), ports, (joint,), "wirefilter")


def _lan(link: Link, there: Collection[Member], names: Names, able: Able) -> Fabric:
    centre = names.device("b", link.name)
    bridges, ports, joints = [centre], {}, []
    for one in there:
        up, down = one.to.half(), one.received.half()
        late = up.late or down.late
        if up == PLAIN and (able.netem or not down.late):
            ports[one.key] = Port(centre, down)
            continue
        own = names.device("b", link.name, one.serial, one.interface)
        ends = names.device("n", *one.key), names.device("f", *one.key)
        bridges.append(own)
        ports[one.key] = Port(own)
        joints.append(Joint(*ends, own, centre, up, down, filtered=late and not able.netem))
    ways = [way for one in link.members for way in (one.to, one.received)]
    return Fabric(tuple(bridges), ports, tuple(joints), _by(ways, netem=able.netem))


def _by(ways: Collection[Shape], *, netem: bool) -> str | None:
    if any(way.late for way in ways):
        return "netem" if netem else "wirefilter"
    return "tbf" if any(way.rate_kbps > 0 for way in ways) else None


def qdiscs(device: str, shape: Shape, *, filtered: bool = False, old: bool = True) -> list[str]:
    """
    @param filtered: whether delay and loss come from elsewhere.
    @param old: whether there may be some already; they are changed as they are, and what waits in them goes on.
    @return: orders for C{tc -batch} (tc-netem(8), tc-tbf(8)). C{limit} of C{netem} is in packets: what can be on its
        way in the time of the delay, 64 bytes each, up to a million.
    """
    late = shape.late and not filtered
    if not late and shape.rate_kbps <= 0:
        return [f"qdisc delete dev {device} root"] if old else []
    orders = []
    above = "root handle 2:"  # none of a kind has the handle of another: that would be refused
    if late:
        per_s = shape.rate_kbps * 1000 / 8 / 64 if shape.rate_kbps > 0 else 1e6
        limit = min(1000 + math.ceil(per_s * shape.delay_ms / 1000), 1_000_000)
        loss = f" loss {_plain(shape.loss * 100)}%" if shape.loss > 0 else ""
        delay = f" delay {_plain(shape.delay_ms * 1000)}us"
        orders.append(f"qdisc replace dev {device} root handle 1: netem limit {limit}{delay}{loss}")
        above = "parent 1:1 handle 3:"
    if shape.rate_kbps > 0:
        rate = shape.rate_kbps * 1000 / 8
        burst = max(FRAME + 86, math.ceil(rate / 250))
        limit = burst + max(QUEUE_FRAMES * FRAME, math.ceil(rate * QUEUE_S))
        bits = max(round(shape.rate_kbps * 1000), 8)
        orders.append(f"qdisc replace dev {device} {above} tbf rate {bits}bit burst {burst}b limit {limit}b")
    elif late and old:
        orders.append(f"qdisc replace dev {device} parent 1:1 handle 4: pfifo limit 1000")
    return orders


def buffer_bytes(shape: Shape) -> int:
    """
    @return: what a wirefilter is to keep of frames on their way.
    """
    return min(max(math.ceil(shape.delay_ms / 1000 * 125e6), BUFFER_MIN), BUFFER_MAX)


def _plain(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _hashed(text: str, length: int) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:12], "big")
    letters = []
    for _ in range(length):
        number, digit = divmod(number, 36)
        letters.append(_DIGITS[digit])
    return "".join(letters)
