"""
What the OCI runtime is told of a container: its C{config.json}, as a pure function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from hostline.server.supervise.subuids import BLOCK

#: Where everything of ours is inside.
OURS = "/.hostline"
DOOR = "/run/hostline"
PATH = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{OURS}/bin"
#: What the root of a container may do to what is its own. Files: install packages, change owners and modes. Processes:
#: end those of its users. SETUID, SETGID, SETPCAP: become its users and give up the rest, as services do;
#: NET_BIND_SERVICE: ports below 1024; NET_RAW: raw sockets of IP, for ping and traceroute (those of whole frames are
#: refused by the filter of system calls, and what bears a false address is dropped at the port of the bridge);
#: SYS_CHROOT: sshd locks its unprivileged half up so. Left out of docker's list: MKNOD and SETFCAP (of no use in a user
#: namespace or under no_new_privs), AUDIT_WRITE (the host's audit log is not theirs).
CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT",
)  # fmt: skip
#: What says more of the host than a container needs to know, and what would change it: docker's lists.
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/scsi",
    "/proc/sched_debug", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
#: The host's killer of processes takes a container's before its own.
OOM_SCORE = 300
#: The size of a terminal for which nobody says one.
ROWS, COLUMNS = 24, 80
_SHM, _RUN = 64 << 20, 64 << 20
#: Pseudo-terminals at the same time, of some 3000 that all containers of a host share.
_TERMINALS = 128


@frozen
class Bind:
    """
    A directory or file of the host, seen inside.
    """

    source: Path
    place: str
    writable: bool = False
    executable: bool = False


@frozen
class Container:
    """
    All that a configuration depends on.

    @ivar name: the sliver's name, its host name inside.
    @ivar rootfs: where its files are mounted.
    @ivar first_uid: of its block; its root outside.
    @ivar cgroup: its control group in every hierarchy, below their roots; None for one that the runtime chooses.
    @ivar memory: bytes it may use; 0: no limit.
    """

    name: str
    rootfs: Path
    first_uid: int
    argv: Sequence[str]
    environment: Mapping[str, str]
    binds: Sequence[Bind] = ()
    cgroup: str | None = None
    memory: int = 0
    seccomp: Mapping[str, Any] | None = None


def host_name(name: str) -> str:
    """
    @return: a sliver's full name as a host name that the kernel takes: letters, digits, C{-} and dots, 64 at most.
    """
    cleaned = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in name)
    if len(cleaned) > 64:
        cleaned = cleaned.split(".")[0][:64]
    return cleaned.strip("-.") or "sliver"


def environment(name: str) -> dict[str, str]:
    """
    @return: what everything in a container finds in its environment.
    """
    return {
        "PATH": PATH,
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "HOSTLINE_NODE": name,
        "HOSTLINE_SOCKET": f"{DOOR}/hostline.sock",
    }


def process(argv: Sequence[str], env: Mapping[str, str], *, terminal: bool = False) -> dict[str, Any]:
    """
    @return: an OCI process, the container's own or one that joins it, with the same few rights.
    """
    caps = list(CAPABILITIES)
    size = {"consoleSize": {"height": ROWS, "width": COLUMNS}} if terminal else {}
    return {
        **size,
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(argv),
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": "/",
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        "noNewPrivileges": True,
        "oomScoreAdj": OOM_SCORE,
    }


def config(container: Container) -> dict[str, Any]:
    """
    @return: C{config.json}. Limits are not in it: our control groups have them before the container starts, and the
        runtime is told nothing that would make it write others.
    """
    mapping = [{"containerID": 0, "hostID": container.first_uid, "size": BLOCK}]
    linux: dict[str, Any] = {
        "namespaces": [{"type": one} for one in ("user", "pid", "mount", "ipc", "uts", "network", "cgroup")],
        "uidMappings": mapping,
        "gidMappings": mapping,
        # All devices but those that every runtime adds (null, zero, full, random, urandom, tty, the pseudo-terminals).
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        # ping without raw sockets: every group inside may send echo requests.
        "sysctl": {"net.ipv4.ping_group_range": f"0 {BLOCK - 1}"},
        "maskedPaths": list(MASKED),
        "readonlyPaths": list(READ_ONLY),
    }
    if container.cgroup is not None:
        linux["cgroupsPath"] = container.cgroup
    if container.seccomp is not None:
        linux["seccomp"] = dict(container.seccomp)
    return {
        "ociVersion": "1.0.2",
        "process": process(container.argv, container.environment, terminal=True),
        "root": {"path": str(container.rootfs), "readonly": False},
        "hostname": host_name(container.name),
        "mounts": [*own(container.memory), *(bound(bind) for bind in container.binds)],
        "linux": linux,
    }


def own(memory: int) -> list[dict[str, Any]]:
    # Together less than it may use: filling them is answered by "no space left", not by the killer of processes.
    shm, run = (memory // 2, min(memory // 8, _RUN)) if memory else (_SHM, _RUN)
    quiet = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
        _tmpfs("/dev", ["nosuid", "strictatime", "mode=755", "size=64k"]),
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", f"max={_TERMINALS}"],
        },
        _tmpfs("/dev/shm", [*quiet, "mode=1777", f"size={shm}"]),
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": quiet},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, "ro"]},
        _tmpfs("/run", ["nosuid", "nodev", "mode=755", f"size={run}"]),
    ]


def _tmpfs(place: str, options: list[str]) -> dict[str, Any]:
    return {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options}


def bound(bind: Bind) -> dict[str, Any]:
    options = ["bind", "rprivate", "nosuid", "nodev", "rw" if bind.writable else "ro"]
    if not bind.executable:
        options.append("noexec")
    return {"destination": bind.place, "type": "bind", "source": str(bind.source), "options": options}
