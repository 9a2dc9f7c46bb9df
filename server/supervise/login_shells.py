"""
The list of this host's login shells, C{/etc/shells}: one line of ours comes and goes, every other stays as it is.

It is locked as Debian's C{add-shell} and C{remove-shell} do, by the file that is renamed to it; these take a path for a
pattern, and would remove more than it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: Seconds after which a lock is of somebody who died.
STALE_S = 2.0


class Busy(OSError):
    """
    Somebody else is changing the list.
    """


def has(line: str, shells: Path) -> bool:
    """
    @return: whether the list has this line.
    """
    return os.fsencode(line) in shells.read_bytes().split(b"\n")


def add(line: str, shells: Path) -> None:
    """
    Add a line at the end, unless it is there.

    @raise Busy: if somebody else is changing the list; to be tried again.
    @raise OSError: if that fails.
    """

    def added(text: bytes) -> bytes:
        if os.fsencode(line) in text.split(b"\n"):
            return text
        return text + (b"" if text.endswith(b"\n") or not text else b"\n") + os.fsencode(line) + b"\n"

    _change(shells, added)


def remove(line: str, shells: Path) -> None:
    """
    Remove a line, if it is there.

    @raise Busy, OSError: as for L{add}.
    """

    def removed(text: bytes) -> bytes:
        return b"".join(one for one in text.splitlines(keepends=True) if one.rstrip(b"\n") != os.fsencode(line))

    with suppress(FileNotFoundError):
        _change(shells, removed)


def _change(shells: Path, changed: Callable[[bytes], bytes]) -> None:
    shells = shells.resolve(strict=True)
    fresh = shells.with_name(shells.name + ".tmp")
    fd = _locked(fresh)
    try:
        with os.fdopen(fd, "wb") as file:
            before = shells.read_bytes()
            after = changed(before)
            about = shells.stat()
            os.fchown(file.fileno(), about.st_uid, about.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(about.st_mode))
            file.write(after)
            file.flush()
            os.fsync(file.fileno())
        if after != before:
            fresh.replace(shells)
        else:
            fresh.unlink()
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def _locked(fresh: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(fresh, flags, 0o600)
    except FileExistsError:
        with suppress(FileNotFoundError):
            if time.time() - fresh.lstat().st_mtime < STALE_S:
                raise Busy(f"somebody is changing {fresh.with_suffix('')} just now ({fresh} is there)") from None
            fresh.unlink()
        return os.open(fresh, flags, 0o600)
