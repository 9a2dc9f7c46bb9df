"""
The machine: what it is, its cores, and the kernel's own counts of time and disk flushes.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def cores() -> list[int]:
    """
    The cores that this process may use, lowest first.
    """
    return sorted(os.sched_getaffinity(0))


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """
    Run on one core, and so whatever is started meanwhile; then as before.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pin(pid: int, core: int) -> None:
    """
    Move every thread of a process to one core (the kernel's call moves a single thread).
    """
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), {core})
        except ProcessLookupError:
            pass


def cpu_ns(pid: int) -> int:
    """
    The CPU time of all living threads of a process, in nanoseconds.
    """
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total


def flushes(directory: Path) -> int | None:
    """
    How often the disk under a directory was told to flush since it came up.

    @return: None where the kernel does not count it, or no disk is under the directory.
    """
    device = directory.stat().st_dev
    statistics = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    try:
        return int(statistics.read_text().split()[15])
    except (OSError, IndexError, ValueError):
        return None


def described(directory: Path) -> dict[str, str]:
    """
    What a reader of the figures wants to know of the machine, by name.

    @param directory: where the state of the daemon was kept.
    """
    cpu = "/proc/cpuinfo"
    virtual = ", virtual" if "hypervisor" in _first(r"flags\s*:\s*(.+)", cpu).split() else ""
    memory = int(_first(r"MemTotal:\s*(\d+)", "/proc/meminfo") or 0) / 2**20
    return {
        "processor": f"{_first(r'model name.*: (.+)', cpu) or platform.machine()}, {len(cores())} cores{virtual}",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "distribution": _first('PRETTY_NAME="(.+)"', "/etc/os-release"),
        "file system": _file_system(directory),
        "load at the start": " ".join(f"{one:.2f}" for one in os.getloadavg()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(_package(name) for name in ("hostline", "Twisted", "uvloop")),
        "sqlite": sqlite3.sqlite_version,
        "compiler": _said("cc", "--version"),
        "redis": _said("redis-server", "--version"),
        "revision": _said("git", "describe", "--always", "--dirty"),
    }


def clean_environment() -> dict[str, str]:
    """
    The environment for what is started and timed: without the settings that change how Python starts or writes.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HOSTLINE"))}


def python() -> str:
    """
    The Python that runs this, by the path it was started as (a virtual environment's own).
    """
    return sys.executable


def _first(pattern: str, path: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return ""
    return found[1].strip() if found else ""


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def _said(program: str, *arguments: str) -> str:
    if not shutil.which(program):
        return "none"
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=10, cwd=Path(__file__).parent, check=False
    )
    lines = done.stdout.splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else "unknown"


def _file_system(directory: Path) -> str:
    best, kind = "", "unknown"
    where = str(directory.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, mounted, name = line.split()[:3]
        inside = where == mounted or where.startswith(mounted.rstrip("/") + "/")
        if inside and len(mounted) >= len(best):
            best, kind = mounted, f"{name} on {device}"
    return kind
