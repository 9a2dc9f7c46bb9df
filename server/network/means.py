"""
What this host can do for the network of slivers. Only a trial tells, and it is made in a network namespace that nobody
else sees and that is gone with it.
"""

from __future__ import annotations

from attrs import frozen

from hostline.server.network.ip import Tools

#: Says a word for each thing that works. The names are of no meaning: nothing else is in the namespace.
_TRIAL = """
exec unshare -n sh -c '
modprobe -qa bridge veth ifb sch_htb sch_ingress cls_u32 act_mirred 2>/dev/null
ip link add name hl0 group 77 type bridge && ip link set dev hl0 alias "hostline trial" addrgenmode none &&
    ip address replace 10.98.0.1/16 dev hl0 && ip link set dev hl0 up &&
    ip link add name hv0 type veth peer name eth0 netns /proc/self/ns/net && ip link set dev hv0 master hl0 up &&
    echo bridge || exit 1
ip link set dev hv0 type bridge_slave isolated on && echo isolated
nft -f - <<N && echo rules
table inet trial {
chain forward {
type filter hook forward priority 0; policy accept;
ct state established,related accept
}
}
N
nft -f - <<N && echo masquerade
table inet trial {
chain postrouting {
type nat hook postrouting priority 100; policy accept;
oifname != "hl0" masquerade
}
}
N
nft -f - <<N && echo guard
table bridge trial {
set known { type ifname . ether_addr . ipv4_addr; }
chain prerouting {
type filter hook prerouting priority -300; policy accept;
ether type arp iifname . ether saddr . arp saddr ip @known accept
drop
}
}
N
class="htb rate 8bit ceil 1000000bit burst 1b cburst 1600b quantum 16384"
ip link add name hi0 type ifb && ip link set dev hi0 up && tc qdisc add dev hi0 root handle 1: htb default 0 &&
    tc class add dev hi0 parent 1: classid 1:1 $class && tc qdisc add dev hi0 parent 1:1 handle 2: bfifo limit 1000 &&
    tc filter add dev hi0 parent 1: prio 1 handle 1: protocol ip u32 divisor 256 &&
    tc filter add dev hi0 parent 1: prio 1 handle 800::1 protocol ip u32 ht 800: match u32 0 0 \
        hashkey mask 0xff at 12 link 1: &&
    tc qdisc add dev hv0 clsact && tc filter add dev hv0 ingress prio 1 handle 800::1 protocol ip \
        u32 match ip src 10.98.0.2/32 action mirred egress redirect dev hi0 && echo tree
tc qdisc add dev eth0 root handle 1: htb default 2 && tc class add dev eth0 parent 1: classid 1:2 $class &&
    tc filter add dev eth0 parent 1: prio 1 handle 800::1 protocol ip u32 match ip dst 10.0.0.0/8 flowid 1:2 &&
    echo own
'
"""


@frozen
class Means:
    """
    What works.

    @ivar isolated: ports of a bridge can be kept from each other.
    @ivar masquerade: NAT.
    @ivar guard: what bears a false address can be dropped at its port.
    @ivar tree: slivers can have one tree of classes in common; C{own}: each can have one of its own.
    """

    isolated: bool = True
    masquerade: bool = True
    guard: bool = True
    tree: bool = True
    own: bool = True

    def problems(self) -> list[str]:
        """
        @return: what slivers cannot be given or held to, in words for the operator.
        """
        found = []
        if not self.isolated:
            found.append("slivers can reach each other: this kernel's bridge does not isolate its ports")
        if not self.guard:
            found.append("false addresses are not dropped: this kernel's nftables know no bridges")
        if not self.tree and self.own:
            found.append("net_min and net_share do not hold: no tree of classes that slivers share (ifb, mirred, htb)")
        if not self.tree and not self.own:
            found.append("what slivers send is not limited: this kernel has no htb")
        return found


async def find_means(tools: Tools) -> tuple[Means | None, str]:
    """
    Try it.

    @return: what works, or None and why there can be no network at all.
    """
    outcome = await tools.run(_TRIAL)
    words = set(outcome.out.split())
    if not {"bridge", "rules"} <= words:
        return None, f"no network for slivers: {outcome.reason}"
    return Means(*(word in words for word in ("isolated", "masquerade", "guard", "tree", "own"))), ""
