"""
Run as a program of its own: C{shift.py DIRECTORY FIRST SIZE} adds FIRST to the owner and the group of every file below
a directory, for hosts whose kernel cannot show them so. May be repeated after it was killed: whoever is at FIRST or
above was done.
"""

from __future__ import annotations

import os
import stat
import sys


def shift(directory: str, first: int, size: int) -> None:
    """
    @raise OSError: if a file cannot be changed, or belongs to a uid or gid of C{size} or above.
    """
    for _, names, files, parent in os.fwalk(directory):
        for name in (*names, *files):
            _one(name, parent, first, size)
    _one(directory, None, first, size)


def _one(name: str, parent: int | None, first: int, size: int) -> None:
    about = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if first <= about.st_uid < first + size:
        return
    if about.st_uid >= size or about.st_gid >= size:
        raise OSError(f"{name}: belongs to {about.st_uid}:{about.st_gid}, want at most {size - 1}")
    os.chown(name, first + about.st_uid, first + about.st_gid, dir_fd=parent, follow_symlinks=False)
    if about.st_mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(about.st_mode):
        os.chmod(name, stat.S_IMODE(about.st_mode), dir_fd=parent)  # chown took them away


if __name__ == "__main__":
    try:
        shift(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except OSError as error:
        sys.exit(f"{error.strerror or error}: {error.filename}")
