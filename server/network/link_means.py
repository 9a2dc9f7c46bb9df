"""
What this host can do for links. Only a trial tells, and it is made in a network namespace that nobody else sees and
that is gone with it.
"""

from __future__ import annotations

from shutil import which

from hostline.server.network.fabric import Able
from hostline.server.network.ip import Tools
from hostline.server.supervise.shim import PATH

#: What delays and loses frames where the kernel cannot, and what brings it (Debian: vde2).
FILTER = ("wirefilter", "vde_switch", "setpriv")
#: Says a word for each thing that works. The names are of no meaning: nothing else is in the namespace.
_TRIAL = """
exec unshare -n sh -c '
modprobe -qa bridge veth sch_tbf sch_netem tun 2>/dev/null
ip link add name hk0 group 77 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 group_fwd_mask 65528 &&
    ip link add name hk1 group 77 mtu 1500 type veth peer name inf000 address 02:00:00:00:00:01 \
        netns /proc/self/ns/net &&
    ip link set dev hk1 alias "hostline trial" addrgenmode none && ip link set dev hk1 master hk0 up && echo bridge
echo 1 >/proc/sys/net/ipv4/conf/hk0/rp_filter && echo shut
[ ! -e /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/hk0/disable_ipv6 || exit 1
tc qdisc replace dev hk1 root handle 2: tbf rate 8000bit burst 1600b limit 80000b && echo tbf
tc qdisc replace dev hk1 root handle 1: netem limit 1000 delay 1000us loss 1% &&
    tc qdisc replace dev hk1 parent 1:1 handle 3: tbf rate 8000bit burst 1600b limit 80000b && echo netem
ip tuntap add dev hk2 mode tap user 65534 && ip link set dev hk2 group 77 && echo tap
nft -f - <<N && echo guard
table bridge trial {
chain input {
type filter hook input priority 0; policy accept;
iifname "hk*" drop
}
}
N
exit 0
'
"""


async def find_able(tools: Tools) -> tuple[Able | None, str]:
    """
    Try it.

    @return: what works, or None and why there can be no links at all.
    """
    outcome = await tools.run(_TRIAL)
    words = set(outcome.out.split())
    if not {"bridge", "shut"} <= words:
        return None, f"no links: {outcome.reason}"
    programs = all(which(name, path=PATH) for name in FILTER)
    return Able("tbf" in words, "netem" in words, "tap" in words and programs, "guard" in words), ""
