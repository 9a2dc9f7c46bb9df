"""
What all slivers' network stands on: the bridge, the rules, the tree of classes. Made, found again, put right.
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

#: $1: the shaper, $2: the bridge. Links and addresses are a line each; the rest may be missing.
_LOOK = """
ip -j link show || exit 1
addresses=$(ip -j -4 address show dev "$2" 2>/dev/null); echo "${addresses:-[]}"
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
#: $1: the shaper, $2: how many of our tables there should be.
_READ = """
[ "$(nft list tables | grep -c " $3\\$")" = "$2" ] || exit 1
[ -z "$1" ] || tc -d class show dev "$1" || exit 1
exec ip link show dev "$4" >/dev/null
"""


class Ground:
    """
    The part that is there once.

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
        self._broken = ""
        self.strays: list[str] = []

    async def stand(self, known: Collection[int] | None) -> dict[int, Shown]:
        """
        Make what is missing and put right what is there. What fails is in L{problems}.

        @param known: slivers that may have interfaces; None: nothing is removed.
        @return: the classes that slivers have.
        """
        names = self._names
        look = await self._tools.run(_LOOK, names.shaper, names.bridge)
        if look.code:
            self._broken = f"no network for slivers: {look.reason}"
            return {}
        text, addresses, rest = (*look.out.split("\n", 2), "", "")[:3]
        links = {str(link["ifname"]): link for link in bridge.read_links(text)}
        for name in (names.bridge, names.shaper):
            if name in links and names.owner(links[name]) is None:
                self._broken = f"no network for slivers: an interface {name} is there that is not ours"
                return {}
        shown = shaping.read_classes(rest)
        orders = []
        if known is not None:
            ends = {names.end(serial) for serial in known}
            for name, link in links.items():
                if name not in (names.bridge, names.shaper, *ends) and names.owner(link) is not None:
                    orders.append(f"link delete dev {name}")
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
        self._broken = f"slivers' network is not complete: {outcome.reason}" if outcome.code else ""
        if not outcome.code:
            await self._forward()
        return shown

    def _rules(self) -> list[str]:
        lines = bridge.rules(self._names, self._way)
        if self._able.guard:
            lines += bridge.guard(self._names, self._book.leases())
        return lines

    async def _forward(self) -> None:
        try:
            if self._way.out:
                self._forwarding.ensure_on()
            else:
                tables = await self._tools.run("nft list tables inet")
                others = [line for line in tables.out.splitlines() if " hostline_" in line]
                self._forwarding.give_back(len(others) > 1)
        except OSError as error:
            self._broken = f"slivers' network is not complete: {error}"

    async def read(self) -> dict[int, Shown] | None:
        """
        @return: the classes that slivers have; None if something that all stand on is missing.
        """
        names = self._names
        count = "2" if self._able.guard else "1"
        shaper = names.shaper if self._able.tree else ""
        outcome = await self._tools.run(_READ, shaper, count, names.table, names.bridge)
        return None if outcome.code else shaping.read_classes(outcome.out)

    def problems(self) -> list[str]:
        """
        @return: what is not as it should be, in words for the operator.
        """
        return [*([self._broken] if self._broken else []), *self.strays]


def _batch(orders: Sequence[str]) -> str:
    return "".join(f"{order}\n" for order in orders)
