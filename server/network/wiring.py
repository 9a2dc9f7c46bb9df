"""
How a sliver is wired up: what is run for it, one shell each, and what comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from hostline.server.network import bridge, shaping
from hostline.server.network.bridge import Names
from hostline.server.network.ip import Outcome, Tools
from hostline.server.network.shaping import Lease

_INSIDE = "nsenter --net=/proc/self/fd/3"
#: Last comes what is inside: until then it cannot send. $1: the shaper, if it is used.
_WIRE = f"""
nft -f - <&5 || exit 14
ip -batch - <&6 || exit 11
[ -z "$1" ] || tc -d -batch - <&4 || exit 13
exec {_INSIDE} ip -batch - <&7
"""
#: A tree of its own is made anew: parts of one could be there.
_OWN = f"""
exec {_INSIDE} sh -c '[ -n "$1" ] || tc qdisc del dev eth0 root 2>/dev/null
tc -batch - <&4 || exit 13
exec tc -d class show dev eth0' sh "$1"
"""
_SHAPE = "exec tc -d -batch - <&4"
_INSPECT = f"""
outer=$(ip -j link show dev "$1" 2>/dev/null); echo "${{outer:-[]}}"
inner=$({_INSIDE} ip -j link show dev eth0 2>/dev/null); echo "${{inner:-[]}}"
"""
#: $1: how the aliases of our ends begin, as ip writes them, $2: a group for what goes; what ip is asked to show, twice:
#: of these all that bears such an alias goes, at once. $3: the shaper, if it is used. What is still shown is told.
_UNWIRE = """
ours() {
    ip -force -oneline -batch - 2>/dev/null | while read -r _ name rest; do
        case $rest in *"alias $tag"*) name=${name%:}; echo "${name%@*}" ;; esac
    done
}
tag=$1
found=$(ours <&6)
if [ -n "$found" ]; then
    { for one in $found; do echo "link set dev $one group $2"; done; echo "link delete group $2"; } |
        ip -force -batch - 2>/dev/null
    left=$(ours <&7)
    [ -z "$left" ] || { echo "still there:" $left >&2; exit 11; }
fi
if [ -n "$3" ]; then
    left=$(tc -force -batch - <&4 2>/dev/null)
    [ -z "$left" ] || { echo "still there: $left" >&2; exit 13; }
fi
nft -f - <&5 || exit 14
"""


class Found(Enum):
    """
    What L{Wiring.inspect} found.

    C{JOINED}: the sliver's C{eth0} hangs on our end. C{APART}: our end is there and hangs on something else.
    C{FOREIGN}: what has its name is not ours.
    """

    ABSENT = "absent"
    JOINED = "joined"
    APART = "apart"
    FOREIGN = "foreign"


class Wiring:
    """
    Wires slivers up, and off again.
    """

    def __init__(self, tools: Tools, names: Names) -> None:
        self._tools = tools
        self._names = names

    async def wire(
        self,
        space: int,
        outer: Sequence[str],
        inner: Sequence[str],
        leave: Sequence[str],
        shape: tuple[Sequence[str], tuple[int, int]] | None,
    ) -> Outcome:
        """
        @param space: a descriptor for the sliver's network namespace.
        @param leave: orders for nft.
        @param shape: orders for its classes on the common tree, and their numbers.
        @return: with what C{tc -d class show} says of the classes.
        """
        classes = self._shown(*shape) if shape else ()
        texts = {5: _batch(leave), 6: _batch(outer), 7: _batch(inner), 4: _batch(classes)}
        return await self._tools.run(_WIRE, self._names.shaper if shape else "", texts=texts, space=space)

    def _shown(self, orders: Sequence[str], numbers: tuple[int, int]) -> list[str]:
        return [*orders, *(f"class show dev {self._names.shaper} classid {one}" for one in _ids(numbers))]

    async def shape(self, orders: Sequence[str], numbers: tuple[int, int]) -> Outcome:
        """
        Change classes on the common tree.

        @return: as L{wire}.
        """
        return await self._tools.run(_SHAPE, texts={4: _batch(self._shown(orders, numbers))})

    async def shape_own(self, space: int, orders: Sequence[str], *, new: bool) -> Outcome:
        """
        Make a tree of a sliver's own, or change the classes of one.

        @return: as L{wire}.
        """
        return await self._tools.run(_OWN, "" if new else "old", texts={4: _batch(orders)}, space=space)

    async def inspect(self, serial: int, space: int) -> Found:
        """
        @return: what there is of a sliver's veth.
        """
        outcome = await self._tools.run(_INSPECT, self._names.end(serial), space=space)
        outers, inners = (bridge.read_links(line) for line in (*outcome.out.splitlines(), "", "")[:2])
        if not outers:
            return Found.ABSENT
        outer = outers[0]
        if self._names.owner(outer) not in (str(serial), "?"):
            return Found.FOREIGN
        joined = any(
            outer.get("link_index") == inner["ifindex"]
            and inner.get("link_index") == outer["ifindex"]
            and inner.get("address") == self._names.hardware(serial)
            for inner in inners
        )
        return Found.JOINED if joined else Found.APART

    async def cut(self, serial: int) -> Outcome:
        """
        Remove a sliver's veth, found to be ours.
        """
        return await self._tools.run('ip link delete dev "$1"', self._names.end(serial))

    async def unwire(self, leases: Mapping[int, Lease | None], *, shared: bool, guarded: bool) -> Outcome:
        """
        Remove all there is of some slivers; what is gone already is well.

        @param leases: by serial.
        @param shared: whether they have classes on the common tree.
        @param guarded: whether they needed leave to send.
        """
        there = {serial: lease for serial, lease in leases.items() if lease is not None}
        leave: list[str] = []
        orders: list[str] = []
        if guarded:  # first added, so that deleting never fails
            for serial, lease in there.items():
                leave += [bridge.admission(self._names, serial, lease.address, verb) for verb in ("add", "delete")]
        if shared:
            for lease in there.values():
                orders += self._shown(shaping.removal(self._names.shaper, lease), lease.minors)
        shows = _batch([f"link show dev {self._names.end(serial)}" for serial in leases])
        words = self._names.alias(""), str(self._names.doomed), self._names.shaper if orders else ""
        texts = {4: _batch(orders), 5: _batch(leave), 6: shows, 7: shows}
        return await self._tools.run(_UNWIRE, *words, texts=texts)


def _ids(numbers: tuple[int, int]) -> list[str]:
    return [f"1:{number:x}" for number in numbers]


def _batch(orders: Sequence[str]) -> str:
    return "".join(f"{order}\n" for order in orders)
