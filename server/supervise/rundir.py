"""
The directory for what lasts until the host restarts.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path


def host_boot(proc: Path = Path("/proc")) -> str:
    """
    @return: what is the same as long as our processes can live: the kernel's boot id and the start time of PID 1, for
        a container's host goes on when all its processes have ended.
    """
    boot_id = (proc / "sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError, IndexError):
        boot_id += " " + (proc / "1/stat").read_text().rpartition(") ")[2].split()[19]
    return boot_id


def is_of_this_boot(run: Path, proc: Path = Path("/proc")) -> bool:
    """
    Whether a daemon has prepared this directory since the host was started; to be asked before L{prepare_run}.
    """
    note = run / "boot_id"
    return note.exists() and note.read_text() == host_boot(proc) + "\n"


def prepare_run(run: Path, proc: Path = Path("/proc")) -> None:
    """
    Make C{RUN/slivers}; empty it if what it tells of was before the host restarted.
    """
    run.mkdir(parents=True, exist_ok=True)
    mode = run.stat().st_mode & 0o7777
    if mode & 0o022:
        run.chmod(mode & ~0o022)
    now = host_boot(proc) + "\n"
    note = run / "boot_id"
    if not note.exists() or note.read_text() != now:
        shutil.rmtree(run / "slivers", ignore_errors=True)
        note.write_text(now)
    (run / "slivers").mkdir(mode=0o700, exist_ok=True)
