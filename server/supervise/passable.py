"""
Whether everybody can get at a file: what all directories above it let through, and who runs it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def why_not_run(program: Path) -> str | None:
    """
    @return: why other users cannot run a program, or the interpreter that it names in its first line; None if they can.
    """
    try:
        mode = program.stat().st_mode
    except OSError as error:
        return f"{program}: {error.strerror}"
    if not mode & 0o001:
        return f"others may not run {program}"
    paths = [program.resolve()]
    with suppress(OSError), program.open("rb") as file:
        first = file.readline(1000)
        if first.startswith(b"#!") and first[2:].split():
            paths.append(Path(os.fsdecode(first[2:].split()[0])).resolve())
    for path in paths:
        with suppress(OSError):
            if os.statvfs(path).f_flag & os.ST_NOEXEC:
                return f"nothing may be run on the file system of {path}: it is mounted noexec"
    return why_not_reached(*paths)


def why_not_reached(*paths: Path) -> str | None:
    """
    @return: which directory above one of them other users may not pass through; None if they may through all.
    """
    for path in paths:
        for above in path.absolute().parents:
            with suppress(OSError):
                if not above.stat().st_mode & 0o001:
                    return f"others may not pass through {above}"
    return None
