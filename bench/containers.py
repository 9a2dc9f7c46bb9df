"""
Containers per minute: made, started and destroyed by the daemon, beside the shell script that an operator would write
(containers.sh), which does the same work two at a time.

The daemon is told all at once, and does as many at a time as it thinks right.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from bench.daemon import Daemon, Refused
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting

OURS = "hostline create, destroy"
SCRIPT = "shell script, two at a time"
SIZED = "the same with disk_max as we hold it"
_SCRIPT = Path(__file__).with_name("containers.sh")
_DISK_KIB = 262_144
_RSPEC = {"cpu_max": 200, "memory_max": 64 << 20, "pids_max": 32, "disk_max": _DISK_KIB}
#: Ranges that only this daemon uses, beside those of other daemons of the machine.
_CONFIG = """
[slivers]
uid_first = 790000
uid_count = 2000
container_uid_first = 2147483648
container_uid_count = 16777216
[network]
subnet = "10.198.64.0/23"
"""
_TOOLS = ("busybox", "catatonit", "conmon", "ip", "mkfs.ext4", "nft", "runc")
_PATIENCE_S = 300.0
_UP, _DOWN = "ms each, up", "ms each, down"


def lacking() -> str:
    """
    @return: why containers cannot be measured here; empty if they can.
    """
    missing = [name for name in _TOOLS if shutil.which(name) is None]
    return "needs root" if os.geteuid() else f"needs {', '.join(missing)}" if missing else ""


def pipelined(path: Path, requests: Sequence[str]) -> list[bytes]:
    """
    Say all lines at once, each under a tag of its own.

    @return: the replies as they come.
    @raise Refused: one is an error, or an operation that has not ended.
    """
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as lines:
        connection.settimeout(_PATIENCE_S)
        connection.connect(str(path))
        connection.sendall("".join(f"@{at} {one}\n" for at, one in enumerate(requests)).encode())
        replies = [lines.readline() for _ in requests]
    for reply in replies:
        word = reply.partition(b" ")[2].partition(b" ")[0]
        if word in (b"error_reply", b"operation_reply", b""):
            raise Refused(reply.decode().strip()[:1000])
    return replies


def creates(names: Sequence[str], rspec: dict[str, int] = _RSPEC) -> list[str]:
    """
    @return: requests for containers that do nothing.
    """
    what = f"kind=container image=tiny rspec={rspec} start_command='exec sleep 100000' wait={_PATIENCE_S:g}"
    return [f"create {name} {what}" for name in names]


def destroys(names: Sequence[str]) -> list[str]:
    """
    @return: requests for their end.
    """
    return [f"destroy {name} wait={_PATIENCE_S:g}" for name in names]


class Script:
    """
    The rival, with a root file system of busybox.
    """

    def __init__(self, directory: Path, name: str, sized_kib: int = 0) -> None:
        """
        @param directory: for all its files; C{name}: at most 8 characters, of what it makes.
        @param sized_kib: of the file system that each container gets; 0: none.
        @raise OSError: it cannot be prepared.
        """
        self._place = directory / name
        self._environment = dict(os.environ) | ({"SIZED": str(sized_kib)} if sized_kib else {})
        image = directory / f"{name}-image"
        (image / "bin").mkdir(parents=True)
        for one in ("proc", "sys", "dev", "etc", "tmp"):
            (image / one).mkdir()
        shutil.copy(shutil.which("busybox") or "busybox", image / "bin/busybox")
        for one in ("sh", "sleep"):
            (image / "bin" / one).symlink_to("busybox")
        self._run("prepare", str(image))

    def up(self, count: int) -> None:
        """Make and start them."""
        self._run("up", str(count))

    def down(self, count: int) -> None:
        """End and remove them."""
        self._run("down", str(count))

    def close(self) -> None:
        """Remove what all of them stood on."""
        self._run("clear")

    def _run(self, command: str, *words: str) -> None:
        argv = ["sh", str(_SCRIPT), command, str(self._place), *words]
        done = subprocess.run(
            argv, env=self._environment, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
        if done.returncode:
            raise OSError(f"containers.sh {command}: {done.stderr.strip()[-500:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Counted:
    """
    Times a way to bring containers up and down.
    """

    def __init__(self, count: int, up: Callable[[], Any], down: Callable[[], Any]) -> None:
        self._count, self._up, self._down = count, up, down
        self.details: dict[str, list[float]] = {_UP: [], _DOWN: []}

    def per_minute(self, core: int) -> float:
        """
        @param core: not used: both sides do several at a time, on all cores.
        """
        begun = time.perf_counter()
        self._up()
        between = time.perf_counter()
        self._down()
        ended = time.perf_counter()
        for name, seconds in ((_UP, between - begun), (_DOWN, ended - between)):
            self.details[name].append(seconds * 1000 / self._count)
        return self._count * 60 / (ended - begun)


def containers(setting: Setting) -> Table:
    """
    @raise CannotStart: the daemon does not start; C{Refused}: it does not do it; C{OSError}: the script fails.
    """
    count = 4 if setting.short else 20
    names = [f"lab_c{number}" for number in range(count)]
    found: dict[str, list[float]] = {}
    counted: dict[str, _Counted] = {}
    why_not = lacking()
    if not why_not:
        with (
            Daemon(setting.directory, "contains", _CONFIG) as daemon,
            Script(setting.directory, "hlb1") as script,
            Script(setting.directory, "hlb2", _DISK_KIB) as sized,
        ):
            daemon.ask("image_build tiny base=busybox wait=60")
            counted = {
                OURS: _Counted(
                    count,
                    lambda: pipelined(daemon.socket, creates(names)),
                    lambda: pipelined(daemon.socket, destroys(names)),
                ),
                SCRIPT: _Counted(count, lambda: script.up(count), lambda: script.down(count)),
                SIZED: _Counted(count, lambda: sized.up(count), lambda: sized.down(count)),
            }
            candidates = {name: one.per_minute for name, one in counted.items()}
            by_turns(candidates, 1, setting.cores)  # so that the files are in memory
            for one in counted.values():
                one.details = {_UP: [], _DOWN: []}
            found = by_turns(candidates, setting.rounds, setting.cores)
            daemon.ask("image_remove tiny")
    return Table(
        "containers made, started and destroyed",
        [
            Series(name, "per minute", found.get(name, []), counted[name].details if counted else {}, why_not)
            for name in (OURS, SCRIPT, SIZED)
        ],
        [Goal(OURS, SCRIPT, 1.3), Goal(OURS, SIZED)],
        [
            f"{count} containers by turns, all of them up before the first goes down, on all cores.",
            "The script: overlay on a directory, network namespace with a veth on a bridge, control groups with limits,"
            " runc create and start; and the undoing of all that. The third also makes, mounts and removes a file "
            "system on a loop device for each.",
            "We do the third's work and more: a record that is durable before each reply, uids of their own by a user "
            "namespace and a shifted image, a seccomp filter, conmon to keep the exit status, a control socket, rules "
            "against false addresses, classes of traffic, and a start command whose start is waited for.",
        ],
    )
