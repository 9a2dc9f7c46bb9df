"""
Containers per minute: made, started and destroyed by the daemon, beside the shell script that an operator would write
(containers.sh), which does the same work two at a time.

The daemon is told all at once, and does as many at a time as it thinks right.
"""

from __future__ import annotations

import json
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
LIKE = "the same with our bundle and disk"
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
[delegates]
uid_first = 798000
uid_count = 100
[network]
subnet = "10.198.64.0/23"
"""
#: Stands for the first uid of a container in containers.sh.
_FIRST = 4242424242
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


def our_bundle() -> dict[str, Any]:
    """
    @return: what we tell the runtime, without what is ours inside, and with limits, for the script leaves them to it.
    """
    from hostline.server.supervise.bundle import CAPABILITIES, Container, config, environment
    from hostline.server.supervise.seccomp import read_profile, seccomp

    container = Container(
        name="bench",
        rootfs=Path("@ROOT@"),
        first_uid=_FIRST,
        argv=["sleep", "100000"],
        environment=environment("bench"),
        cgroup="/@GROUP@/@NAME@",
        memory=_RSPEC["memory_max"],
        seccomp=seccomp(read_profile(), CAPABILITIES),
    )
    found = config(container)
    found["process"]["terminal"] = False
    del found["process"]["consoleSize"]
    found["linux"]["resources"] |= {
        "memory": {"limit": _RSPEC["memory_max"], "swap": _RSPEC["memory_max"]},
        "cpu": {"shares": 1024, "quota": 20000, "period": 100000},
        "pids": {"limit": _RSPEC["pids_max"]},
    }
    return found


class Script:
    """
    The rival, with a root file system of busybox.
    """

    def __init__(self, directory: Path, name: str, sized_kib: int = 0, config: dict[str, Any] | None = None) -> None:
        """
        @param directory: for all its files; C{name}: at most 8 characters, of what it makes.
        @param sized_kib: of the file system that each container gets; 0: none.
        @param config: of the containers, with places to fill in (containers.sh); None: what C{runc spec} says.
        @raise OSError: it cannot be prepared.
        """
        self._place = directory / name
        self._environment = dict(os.environ) | ({"SIZED": str(sized_kib)} if sized_kib else {})
        if config is not None:
            bundle = directory / f"{name}.json"
            bundle.write_text(json.dumps(config))
            self._environment["BUNDLE"] = str(bundle)
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
            Daemon(setting.directory, "contains", _CONFIG, run_in_memory=True) as daemon,
            Script(setting.directory, "hlb1") as script,
            Script(setting.directory, "hlb2", _DISK_KIB) as sized,
            Script(setting.directory, "hlb3", _DISK_KIB, our_bundle()) as like,
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
                LIKE: _Counted(count, lambda: like.up(count), lambda: like.down(count)),
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
            for name in (OURS, SCRIPT, SIZED, LIKE)
        ],
        [Goal(OURS, SCRIPT, 1.3), Goal(OURS, SIZED), Goal(OURS, LIKE)],
        [
            f"{count} containers by turns, all of them up before the first goes down, on all cores.",
            "The script: overlay on a directory, network namespace with a veth on a bridge, control groups with limits,"
            " runc create and start; and the undoing of all that. The third also makes, mounts and removes a file "
            "system on a loop device for each.",
            "The fourth does that with our configuration of the runtime: a user namespace with uids of its own, our "
            "seccomp filter and capabilities, no_new_privs, our mounts and masked paths, and a network namespace that "
            "belongs to the user namespace. The image's files are nobody's there: it does not shift their owners.",
            "We do the fourth's work and more: a record that is durable before each reply, the image's owners shifted, "
            "conmon to keep the exit status and a terminal, a control socket, rules against false addresses, classes "
            "of traffic, and a start command whose start is waited for.",
            "What lasts until the next reboot is in memory on all sides, as in /run: the runtime's state and bundles.",
        ],
    )
