"""
What conmon keeps of a container's console (C{k8s-file}): lines C{TIME stdout|stderr F|P TEXT}; P means that the line
goes on.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hostline.server.supervise.within import piece_start

#: Bytes that a console's file may have: conmon begins it anew then.
MOST = 1 << 20


def plain(data: bytes) -> tuple[bytes, int]:
    """
    @param data: begins with a line.
    @return: what the container wrote, and how many bytes of C{data} that was: whole lines only.
    """
    end = data.rfind(b"\n") + 1
    said = bytearray()
    for line in data[:end].splitlines(keepends=True):
        words = line.split(b" ", 3)
        if len(words) == 4 and words[1] in (b"stdout", b"stderr") and words[2] in (b"F", b"P"):
            said += words[3] if words[2] == b"F" else words[3][:-1]
    return bytes(said).replace(b"\r\n", b"\n"), end  # it comes from a terminal


def read_console(path: Path, offset: int, most: int) -> tuple[bytes, int]:
    """
    @param offset: in the file that conmon writes, as returned before; if negative, so many bytes of what the container
        wrote last.
    @return: what the container wrote from there, at most C{most} bytes, and the offset behind it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b"", 0
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            return b"", 0
        if offset < 0:
            return _end(fd, about.st_size, min(-offset, most))
        start = piece_start(about.st_size, offset)
        if start > 0 and os.pread(fd, 1, start - 1) != b"\n":  # into the middle of a line: its rest is left out
            rest = os.pread(fd, most, start)
            start += rest.find(b"\n") + 1 if b"\n" in rest else len(rest)
        said, used = plain(os.pread(fd, most, start))
        return said, start + used
    finally:
        os.close(fd)


def _end(fd: int, size: int, wanted: int) -> tuple[bytes, int]:
    # All of it, for what stands before each line may be longer than the lines.
    start = max(0, size - 2 * MOST)
    data = os.pread(fd, size - start, start)
    cut = data.find(b"\n") + 1 if start > 0 else 0
    said, used = plain(data[cut:])
    return said[max(0, len(said) - wanted) :], start + cut + used
