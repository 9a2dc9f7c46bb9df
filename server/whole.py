"""
Files that are there whole or not at all, whenever we are killed; and names that last.

Standard library alone, for programs of root's begin with this.
"""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, data: bytes, mode: int = 0o600, *, group: int | None = None, fresh: Path | None = None) -> None:
    """
    Have these bytes in a new file of ours: after a crash at any instant there is what was there before, or all of it.
    The bytes are on the disk when this returns; for the name see L{flush}.

    @param group: who has it besides us; None: as the directory says.
    @param fresh: where it is written, beside C{path}; None: C{PATH.new}. What a crash leaves there goes with the next
        write.
    @raise OSError: if that fails; then what was there before is as it was.
    """
    fresh = path.with_name(path.name + ".new") if fresh is None else fresh
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if group is not None:
                os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def flush(directory: Path) -> None:
    """
    Have what came, went or was renamed in a directory on the disk when this returns.

    @raise OSError: if that fails.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
