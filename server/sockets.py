"""
The daemon's Unix socket: taken over only from the dead, and bound whatever the length of its path.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path


class SocketTaken(Exception):
    """
    Something else is at the socket's path.
    """


#: Connections that may wait to be taken.
BACKLOG = 1024


def listen(path: Path, mode: int, backlog: int = BACKLOG) -> socket.socket:
    """
    Bind and listen.

    @param mode: of the socket file; who may do what is decided for each request, by kernel credentials.
    @raise SocketTaken: if a program answers there, or what is there is no socket.
    @raise OSError: if it cannot be made.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # sun_path holds 107 bytes; the way through the directory's descriptor is always short.
    short = f"/proc/self/fd/{directory}/{path.name}"
    try:
        _clear(path, short)
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            # Nobody can connect before listen(), so the mode is right before anybody does.
            found.bind(short)
            path.chmod(mode)
            found.listen(backlog)
        except OSError:
            found.close()
            raise
        return found
    finally:
        os.close(directory)


def _clear(path: Path, short: str) -> None:
    try:
        kind = os.lstat(short).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise SocketTaken(f"{path} is there and is no socket; move it away or choose another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(short)
        except OSError:
            Path(short).unlink()
        else:
            raise SocketTaken(f"another program answers at {path}; choose another --socket")
