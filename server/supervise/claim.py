"""
A claim on a range of uids: of two root daemons on one host, no two may give out the same ones.

Under root a process's uid says whose sliver it is, so a daemon would end another's slivers as its own. The claim is an
abstract Unix socket named after the range: the kernel drops it with its holder, and C{/proc/net/unix} lists all others.
"""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path

from hostline.server.supervise.uids import UidRange

_NAME = "hostline-uids/%d-%d"
_CLAIMED = re.compile(r" @hostline-uids/(\d+)-(\d+)$", re.MULTILINE)


class Claimed(Exception):
    """
    Another daemon on this host gives out uids of the same range.
    """


def claim(uids: UidRange, net: Path = Path("/proc/net/unix"), key: str = "slivers.uid") -> socket.socket:
    """
    @param key: what the range is called in the configuration.
    @return: to be kept open for as long as slivers get uids of this range.
    @raise Claimed: naming the other range.
    """
    mine = uids.first, uids.first + uids.size - 1
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        held.bind("\0" + _NAME % mine)
        held.listen(1)
    except OSError:
        held.close()
        raise Claimed(_said(mine, key)) from None
    # First ours, then a look at all: of two that start at once at least one sees the other.
    for found in _CLAIMED.finditer(net.read_text("utf-8", "replace")):
        other = int(found[1]), int(found[2])
        if other != mine and other[0] <= mine[1] and mine[0] <= other[1] and _is_root(other):
            held.close()
            raise Claimed(_said(other, key))
    return held


def _is_root(claimed: tuple[int, int]) -> bool:
    # Anybody can bind such a name; only root's counts.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect("\0" + _NAME % claimed)
            _, uid, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return False
    return bool(uid == 0)


def _said(claimed: tuple[int, int], key: str) -> str:
    return (
        f"another daemon on this host gives its slivers the uids {claimed[0]}-{claimed[1]}; "
        f"set {key}_first and {key}_count of this one to a range of its own"
    )
