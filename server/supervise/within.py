"""
Opening what is in a directory tree that somebody else writes to, as its root at the moment it was opened: links lead
where they lead inside, never out.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY
_OPENAT2: Final = 437
_NO_MAGICLINKS, _IN_ROOT = 0x02, 0x10
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


@contextmanager
def opened(root: Path | int, path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """
    @param root: the directory that C{/} is for C{path} and every link on the way (C{openat2}, C{RESOLVE_IN_ROOT}).
    @param flags: never to create anything.
    @return: a descriptor, closed at the end.
    @raise OSError: if it is not there.
    """
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if isinstance(root, Path) else root
    try:
        fd = _open(base, path, flags)
    finally:
        if isinstance(root, Path):
            os.close(base)
    try:
        yield fd
    finally:
        os.close(fd)


def read_piece(root: Path, path: str, offset: int, most: int) -> tuple[bytes, int]:
    """
    Read of a plain file that grows, or is begun anew; anything else is an empty one.

    @param offset: from the end if negative; behind the end: from the beginning.
    @return: at most C{most} bytes, and the offset behind them.
    """
    try:
        with opened(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW) as fd:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                return b"", 0
            start = piece_start(about.st_size, offset)
            found = os.pread(fd, most, start)
            return found, start + len(found)
    except OSError:
        return b"", 0


def joined(root: Path, name: str) -> socket.socket:
    """
    Connect to a socket, however long the path that leads there.

    @return: the connection; nothing done with it waits.
    @raise OSError: if there is none, or nobody answers.
    """
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with opened(root, name, os.O_PATH | os.O_NOFOLLOW) as fd:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                raise OSError(f"{name} is no socket")
            link.connect(f"/proc/self/fd/{fd}")
    except OSError:
        link.close()
        raise
    return link


def piece_start(size: int, offset: int) -> int:
    """
    @return: where to begin to read, as L{hostline.server.drivers.driver.Driver.read_log} says.
    """
    if offset < 0:
        return max(0, size + offset)
    return offset if offset <= size else 0


def is_program(root: Path, path: str) -> bool:
    """
    @return: whether there is a plain file that may be executed.
    """
    try:
        with opened(root, path, os.O_PATH) as fd:
            mode = os.fstat(fd).st_mode
            return stat.S_ISREG(mode) and bool(mode & 0o111)
    except OSError:
        return False


def _open(base: int, path: str, flags: int) -> int:
    how = struct.pack("QQQ", (flags | os.O_CLOEXEC) & 0xFFFFFFFF, 0, _IN_ROOT | _NO_MAGICLINKS)
    fd: int = _libc.syscall(_OPENAT2, base, os.fsencode(path), how, ctypes.c_size_t(len(how)))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return fd
