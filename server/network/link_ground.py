"""
What is laid on the host for links: the devices there are, what is done to them, and what guards them. Knows nothing of
who is on which link.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from hostline.server.network import ip, laying, plugging
from hostline.server.network.fabric import Able, Fabric, Names, Shape
from hostline.server.network.inner import Inner
from hostline.server.network.laying import Orders, Seen

#: Whether the rules for what is passed on are asked about what crosses a bridge, too.
BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


class LinkGround:
    """
    Whoever calls sees to it that one thing is done at a time.

    @ivar seen: what there was at the last look, and was done since.
    @ivar held: what each device was told last.
    """

    def __init__(self, tools: ip.Tools, names: Names, able: Able, uid: int) -> None:
        """
        @param uid: whose taps are.
        """
        self.tools = tools
        self.seen = Seen()
        self.held: dict[str, Shape] = {}
        self._names = names
        self._able = able
        self._uid = uid
        self._guarded = False
        self._shut = False

    async def look(self) -> None:
        """
        See what there is.

        @raise OSError: if nobody can tell.
        """
        outcome = await self.tools.run(plugging.LOOK)
        parts = outcome.out.split("\n\n")
        if outcome.code or len(parts) < 2:
            raise OSError(f"nobody can tell what links there are: {outcome.reason}")
        self.seen = laying.read(self._names, parts[0], parts[1])
        rules = "\n".join(parts[2:])
        self._guarded = f"table bridge {self._names.table}\n" in rules
        self._shut = re.search(r"hook forward [^;]*; policy drop", rules) is not None

    def wanting(self, parts: Iterable[Fabric], absent: Collection[str] = ()) -> Orders:
        """
        @return: what is missing of these, or otherwise, as L{laying.lay}.
        """
        return laying.lay(parts, self.seen, self.held, self._names, self._uid, absent)

    async def apply(
        self, orders: Orders, parts: Sequence[Fabric], found: Inner | None = None, space: int = -1
    ) -> ip.Outcome:
        """
        Carry out orders for these parts, if there are any.

        @param found: what is to be done inside, in the network namespace C{space}.
        """
        guard = self._able.guard and not self._guarded
        if not orders and not guard and (found is None or not (found.orders or found.forward)):
            return ip.Outcome(0)
        texts = {4: orders.make, 5: orders.join, 6: orders.shape, 7: found.orders if found else [], 8: orders.remove}
        batches = {fd: "".join(f"{order}\n" for order in batch) for fd, batch in texts.items()}
        batches[9] = "\n".join(self._guard()) + "\n" if guard else ""
        if not orders.bridges:  # then one run is enough
            batches[4], batches[5] = batches[4] + batches[5], ""
        given = "".join(str(fd) for fd, text in batches.items() if text)
        words = (" ".join(orders.bridges), "yes" if found else "", found.forward if found else "", given)
        outcome = await self.tools.run(plugging.APPLY, *words, texts=batches, space=space)
        if outcome.code == 0:
            self._guarded = self._guarded or guard
            self.held |= orders.shapes
            laying.assume(self.seen, orders, parts, self._names)
            for order in orders.remove:
                self.seen.ours.pop(order.rpartition(" ")[2], None)
        return outcome

    async def remove(self, orders: Sequence[str]) -> None:
        """
        @param orders: that delete devices, one each.
        @raise OSError: if one cannot be.
        """
        if not orders:
            return
        outcome = await self.tools.run("ip -batch - <&4", texts={4: self._together(orders)})
        if outcome.code:
            await self.look()
            again = [order for order in orders if order.rpartition(" ")[2] in self.seen.ours]
            if again:
                outcome = await self.tools.run("ip -batch - <&4", texts={4: self._together(again)})
                if outcome.code:
                    raise OSError(f"a link cannot be removed: {outcome.reason}")
        for order in orders:
            name = order.rpartition(" ")[2]
            for other in (name, str(self.seen.ours.get(name, {}).get("link", ""))):
                self.seen.ours.pop(other, None)
                self.seen.qdiscs.pop(other, None)
                self.held.pop(other, None)

    async def unguard(self) -> None:
        """
        Remove the table that guards links; nothing, while one of them is there.
        """
        if self._guarded and not laying.outermost(self.seen, self._names):
            self._guarded = False
            both = "".join(f"{verb} table bridge {self._names.table}\n" for verb in ("add", "delete"))
            await self.tools.run("nft -f - <&4", texts={4: both})

    def is_shut(self) -> bool:
        """
        @return: whether the host's own firewall drops what crosses our bridges.
        """
        return self._shut and _says(BRIDGED, "1")

    def _guard(self) -> list[str]:
        table = self._names.table
        return [
            f"table bridge {table}",
            f"delete table bridge {table}",
            f"table bridge {table} {{",
            "chain input {",
            "type filter hook input priority 0; policy accept;",
            f'iifname "{self._names.start}*" drop',
            "}",
            "}",
        ]

    def _together(self, orders: Sequence[str]) -> str:
        """
        @param orders: that delete devices, one each.
        @return: orders that delete all of them at once: the kernel waits for each deletion, not for each device.
        """
        into = f"group {self._names.doomed}"
        if len(orders) > 1:
            orders = [*(f"link set dev {order.rpartition(' ')[2]} {into}" for order in orders), f"link delete {into}"]
        return "".join(f"{order}\n" for order in orders)


def _says(path: Path, text: str) -> bool:
    try:
        return path.read_text().strip() == text
    except OSError:
        return False
