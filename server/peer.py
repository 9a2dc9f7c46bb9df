"""
Who is at the other end of a socket, as the kernel says.
"""

from __future__ import annotations

import os
import socket
import struct

from hostline.server.callers import Caller

_SO_PEERGROUPS = 59  # asm-generic/socket.h; the socket module has no name for it


def peer(connection: socket.socket, operators_gid: int | None) -> Caller:
    """
    Who is at the other end of a Unix socket, as the kernel says (SO_PEERCRED, SO_PEERGROUPS).
    """
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    groups = {gid}
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4096)
        groups.update(struct.unpack(f"{len(raw) // 4}I", raw))
    except OSError:
        pass  # more groups than fit, or an old kernel: the primary one decides
    return Caller(uid, uid in (0, os.geteuid()) or operators_gid in groups, pid=pid)
