"""
What all slivers' network stands on: the bridge, the rules, the tree of classes. Made with the first sliver that has an
address, found again, put right, and gone with the last.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv4Network

from hostline.server.network import bridge, shaping
from hostline.server.network.addressbook import AddressBook
from hostline.server.network.bridge import Names, Way
from hostline.server.network.forwarding import Forwarding
from hostline.server.network.ip import Tools
from hostline.server.network.means import Means
from hostline.server.network.shaping import Shown

#: $1: the shaper, $2: the bridge. Links, addresses and routes are a line each; the rest may be missing.
_LOOK = """
ip -j link show || exit 1
addresses=$(ip -j -4 address show dev "$2" 2>/dev/null); echo "${addresses:-[]}"
routes=$(ip -j -4 route show table all); echo "${routes:-[]}"
tc qdisc show dev "$1" root 2>/dev/null
tc -d class show dev "$1" 2>/dev/null
tc filter show dev "$1" 2>/dev/null
exit 0
"""
_STAND = """
ip -batch - <&4 || exit 11
tc -force -batch - <&7 2>/dev/null
tc -batch - <&5 || exit 13
nft -f - <&6 || exit 14
"""
#: First nothing comes or goes, then what holds it.
_RAZE = """
ip -batch - <&4 || exit 11
nft -f - <&6 || exit 14
"""
#: $1: the shaper, $2: how many of our tables there should be.
_READ = """
[ "$(nft list tables | grep -c " $3\\$")" = "$2" ] || exit 1
[ -z "$1" ] || tc -d class show dev "$1" || exit 1
exec ip link show dev "$4" >/dev/null
"""


class Ground:
    """
    The part that is there once.

    @ivar broken: what is not as it should be, in words for the operator; empty if all is.
    @ivar standing: whether it is all there, as far as we know.
    @ivar strays: what was found of slivers without a record, and left alone, in words.
    """

    def __init__(
        self,
        tools: Tools,
        names: Names,
        book: AddressBook,
        way: Way,
        exempt: Sequence[IPv4Network],
        rate: int,
        able: Means,
        forwarding: Forwarding,
    ) -> None:
        """
        @param rate: bit/s that all slivers together may send.
        """
        self._tools = tools
        self._names = names
        self._book = book
        self._way = way
        self._exempt = exempt
        self._rate = rate
        self._able = able
        self._forwarding = forwarding
        self.broken = ""
        self.standing = False
        self.strays: list[str] = []

    async def stand(self, known: Collection[int] | None) -> dict[int, Shown]:
        """
        Make what is missing and put right what is there; or remove all if no sliver has an address. What fails is in
        L{problems}.

        @param known: slivers that may have interfaces; None: nothing is removed.
        @return: the classes that slivers have.
        """
        names = self._names
        look = await self._tools.run(_LOOK, names.shaper, names.bridge)
        if look.code:
            self.broken = look.reason
            return {}
        text, addresses, routes, rest = (*look.out.split("\n", 3), "", "", "")[:4]
        links = {str(link["ifname"]): link for link in bridge.read_links(text)}
        ours = {name for name, link in links.items() if names.owner(link) is not None}
        if not self._book.leases():
            self.standing = False
            if known is not None:
                await self._raze(ours)
            return {}
        self.broken = ""
        for name in (names.bridge, names.shaper):
            if name in links and name not in ours:
                self.broken = f"an interface {name} is there that is not ours"
        overlap = bridge.routed(routes, self._way.subnet, names.bridge)
        if overlap and names.bridge not in links:
            self.broken = bridge.in_use(self._way.subnet, overlap)
        if self.broken:
            return {}
        shown = shaping.read_classes(rest)
        orders: list[str] = []
        if known is not None:
            ends = {names.end(serial) for serial in known}
            orders = [f"link delete dev {name}" for name in sorted(ours - {names.bridge, names.shaper, *ends})]
        own = f"{self._book.gateway}/{self._way.subnet.prefixlen}"
        orders += bridge.bridge(names, own, new=names.bridge not in links)
        orders += [f"address delete {old} dev {names.bridge}" for old in bridge.read_addresses(addresses) if old != own]
        classes: list[str] = []
        surplus: list[str] = []
        if self._able.tree:
            orders += bridge.shaper(names, new=names.shaper not in links)
            places = {lease.place for lease in self._book.leases().values()}
            for place in {minor // 2 for minor in shown} - places:
                surplus += shaping.removal(names.shaper, self._book.lease_at(place))
            shown = {minor: one for minor, one in shown.items() if minor // 2 in places}
            if shaping.whole(rest):
                classes = [shaping.rooted(names.shaper, self._rate)]
                classes += shaping.exempted_anew(names.shaper, self._exempt, rest)
            else:
                shown = {}
                surplus = [f"qdisc delete dev {names.shaper} root"]
                classes = shaping.tree(names.shaper, self._rate, self._exempt)
                for serial, lease in self._book.leases().items():
                    if names.end(serial) in links:  # what it passes through may be another device now
                        classes += shaping.port(names.end(serial), names.shaper, lease)
        outcome = await self._tools.run(
            _STAND, texts={4: _batch(orders), 5: _batch(classes), 6: _batch(self._rules()), 7: _batch(surplus)}
        )
        self.broken = outcome.reason if outcome.code else ""
        if not outcome.code:
            self.standing = True
            await self._forward()
        return shown

    async def _raze(self, ours: Collection[str]) -> None:
        names = self._names
        orders = [f"link delete dev {name}" for name in sorted(ours, key=lambda n: (n == names.bridge, n))]
        families = ("inet", "bridge") if self._able.guard else ("inet",)
        rules = [f"{verb} table {family} {names.table}" for family in families for verb in ("add", "delete")]
        outcome = await self._tools.run(_RAZE, texts={4: _batch(orders), 6: _batch(rules)})
        self.broken = outcome.reason if outcome.code else ""
        await self._forward()

    def _rules(self) -> list[str]:
        lines = bridge.rules(self._names, self._way)
        if self._able.guard:
            lines += bridge.guard(self._names, self._book.leases())
        return lines

    async def _forward(self) -> None:
        try:
            if self._way.out and self.standing:
                self._forwarding.ensure_on()
            elif self._forwarding.noted:
                tables = await self._tools.run("nft list tables inet")
                found = [line.split()[-1] for line in tables.out.splitlines() if " hostline_" in line]
                self._forwarding.give_back(any(name != self._names.table for name in found))
        except OSError as error:
            self.broken = str(error)

    async def read(self) -> dict[int, Shown] | None:
        """
        @return: the classes that slivers have; None if something that all stand on is missing.
        """
        if not self.standing:
            return {}
        names = self._names
        count = "2" if self._able.guard else "1"
        shaper = names.shaper if self._able.tree else ""
        outcome = await self._tools.run(_READ, shaper, count, names.table, names.bridge)
        return None if outcome.code else shaping.read_classes(outcome.out)

    def problems(self) -> list[str]:
        """
        @return: what is not as it should be, in words for the operator.
        """
        return [*([f"slivers' network is not as it should be: {self.broken}"] if self.broken else []), *self.strays]


def _batch(orders: Sequence[str]) -> str:
    return "".join(f"{order}\n" for order in orders)
