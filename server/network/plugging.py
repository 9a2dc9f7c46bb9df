"""
How links are laid and nodes plugged in: the scripts that are run for it, one shell each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

from hostline.server.drivers.driver import Interface

_INSIDE = "nsenter --net=/proc/self/fd/3"
LOOK = """
ip -j link show || exit 1
echo
tc -j qdisc show || exit 1
echo
nft list tables bridge 2>/dev/null
nft list chains 2>/dev/null
exit 0
"""
#: The arguments are our ends. A line each; then what is inside.
INSPECT = f"""
for one; do found=$(ip -j link show dev "$one" 2>/dev/null); echo "${{found:-[]}}"; done
exec {_INSIDE} sh -c '
links=$(ip -j -d address show) || exit 1; echo "$links"
routes=$(ip -N -j -4 route show table main); echo "${{routes:-[]}}"
cat /proc/sys/net/ipv4/ip_forward'
"""
#: $1: new bridges: not a packet on them is for the host itself, whatever it says. $2: yes if something is to be done
#: inside, $3: what is written into ip_forward there, if anything. $4: the descriptors of what is not empty.
APPLY = f"""
case $4 in *9*) nft -f - <&9 || exit 14 ;; esac
case $4 in *4*) ip -batch - <&4 || exit 11 ;; esac
for one in $1; do
    echo 1 >/proc/sys/net/ipv4/conf/$one/rp_filter || exit 12
    [ ! -e /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/$one/disable_ipv6 || exit 12
done
case $4 in *5*) ip -batch - <&5 || exit 11 ;; esac
case $4 in *6*) tc -batch - <&6 || exit 13 ;; esac
case $4 in *8*) ip -batch - <&8 || exit 11 ;; esac
[ -z "$2" ] || case $4$3 in *7* | *[01]*) exec {_INSIDE} sh -c 'ip -batch - <&7 || exit 15
[ -z "$1" ] || echo $1 >/proc/sys/net/ipv4/ip_forward
[ "$1" != 1 ] || for one in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$one; done' sh "$3" ;; esac
"""
#: $1: how the aliases of ports begin, $2: a group for what goes; what ip is asked to show, twice. Of these all that
#: bears such an alias goes, at once. What is left is told.
UNPLUG = """
ours() {
    ip -force -oneline -batch - 2>/dev/null | while read -r _ name rest; do
        case $rest in *"alias $tag "*) name=${name%:}; echo "${name%@*}" ;; esac
    done
}
tag=$1
found=$(ours <&4)
[ -n "$found" ] || exit 0
{ for one in $found; do echo "link set dev $one group $2"; done; echo "link delete group $2"; } |
    ip -force -batch - 2>/dev/null
ours <&5
"""


@frozen
class Work:
    """
    What one L{hostline.server.network.links.Links.plug} is about.

    @ivar space: a descriptor for the network namespace; C{hosted}: whether it is the host's own.
    @ivar inside: whether the interfaces get their addresses and routes.
    """

    serial: int
    space: int
    hosted: bool
    interfaces: tuple[Interface, ...]
    routes: tuple[tuple[str, str], ...]
    forwards: bool
    inside: bool


@contextmanager
def space_of(pid: int) -> Iterator[tuple[int, bool]]:
    """
    A descriptor for the network namespace of a process, which from then on is meant whoever gets its pid; and whether
    it is the host's own.

    @raise OSError: if it has none.
    """
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd, os.path.samestat(os.fstat(fd), os.stat("/proc/self/ns/net"))  # noqa: PTH116
    finally:
        os.close(fd)
