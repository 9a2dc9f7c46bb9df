"""
How the interfaces that a QEMU has been given are handed to its guest: each is joined to a tap, both ways, so that all
that comes in by the one goes out by the other (as Kata Containers do). The kernel's own network has no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostline.server.network.ip import Tools
from hostline.server.network.plugging import space_of

#: $1: QEMU's uid; then interface and tap, again and again. All may be repeated.
_JOIN = r"""
exec nsenter --net=/proc/self/fd/3 sh -c '
uid=$1
shift
toward() {
    tc qdisc replace dev "$1" clsact &&
    tc filter replace dev "$1" ingress prio 1 handle 800::1 protocol all u32 match u32 0 0 \
        action mirred egress redirect dev "$2"
}
taps() {
    while [ $# -gt 1 ]; do
        ip link show dev "$2" >/dev/null 2>&1 || ip tuntap add dev "$2" mode tap user "$uid" || exit 11
        ip link set dev "$2" addrgenmode none up || exit 12
        shift 2
    done
}
taps "$@"
while [ $# -gt 1 ]; do
    mtu=$(ip -o link show dev "$1" | sed -n "s/.* mtu \([0-9]*\) .*/\1/p")
    ip link set dev "$2" mtu "${mtu:-1500}"
    ip link set dev "$1" addrgenmode none up || exit 12
    toward "$1" "$2" && toward "$2" "$1" || exit 13
    shift 2
done' sh "$@"
"""


class Taps:
    """
    Makes taps and joins.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def join(self, pid: int, pairs: Sequence[tuple[str, str]], uid: int) -> list[str]:
        """
        @param pid: of a process in a network namespace of its own.
        @param pairs: of interface and tap there.
        @param uid: who may open the taps.
        @return: what is not as it should be, in words for the user.
        """
        if not pairs:
            return []
        try:
            with space_of(pid) as (space, hosted):
                if hosted:
                    return ["no network: it has no network namespace of its own"]
                words = [word for pair in pairs for word in pair]
                outcome = await self._tools.run(_JOIN, str(uid), *words, space=space)
        except OSError as error:
            return [f"no network: {error.strerror or error}"]
        return [f"no network: {outcome.reason}"] if outcome.code else []
