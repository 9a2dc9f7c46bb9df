"""
What the OCI runtime is told of QEMU: no user namespace, for there is nobody in it but one uid without any capability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from hostline.server.supervise import bundle as oci
from hostline.server.supervise.bundle import Bind

#: Device and number of what may be opened besides what every runtime gives.
TUN, KVM = ("/dev/net/tun", 10, 200), ("/dev/kvm", 10, 232)
#: Directories that programs are in; one that is a link on the host is a link in there.
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")


@frozen
class Cell:
    """
    All that a configuration depends on.

    @ivar rootfs: a directory of ours, with what L{lay} makes.
    @ivar uid: of QEMU.
    @ivar cgroup: as L{hostline.server.supervise.bundle.Container} has it.
    """

    name: str
    rootfs: Path
    uid: int
    argv: Sequence[str]
    binds: Sequence[Bind] = ()
    kvm: bool = False
    cgroup: str | None = None
    seccomp: Mapping[str, Any] | None = None


def lay(rootfs: Path, system: Path = Path("/")) -> list[Bind]:
    """
    Make the root directory, with links where the host has links.

    @param system: the host's own.
    @return: what is to be seen of the host in there: its programs and libraries, read-only.
    @raise OSError: if that fails.
    """
    rootfs.mkdir(mode=0o755)
    rootfs.chmod(0o755)
    binds = []
    for name in _SYSTEM:
        here, there = system / name[1:], rootfs / name[1:]
        if here.is_symlink():
            there.symlink_to(here.readlink())
        elif here.is_dir():
            binds.append(Bind(here, name, executable=True))
    cache = system / "etc/ld.so.cache"
    return [*binds, *([Bind(cache, "/etc/ld.so.cache")] if cache.exists() else [])]


def config(cell: Cell) -> dict[str, Any]:
    """
    @return: C{config.json}; as for containers, limits are not in it.
    """
    devices = [TUN, *([KVM] if cell.kvm else [])]
    linux: dict[str, Any] = {
        "namespaces": [{"type": one} for one in ("pid", "mount", "ipc", "uts", "network", "cgroup")],
        "devices": [
            {"path": path, "type": "c", "major": major, "minor": minor, "uid": cell.uid, "gid": cell.uid,
             "fileMode": 0o600}
            for path, major, minor in devices
        ],
        "resources": {
            "devices": [
                {"allow": False, "access": "rwm"},
                *(
                    {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rw"}
                    for _, major, minor in devices
                ),
            ]
        },
        "maskedPaths": list(oci.MASKED),
        "readonlyPaths": list(oci.READ_ONLY),
    }  # fmt: skip
    if cell.cgroup is not None:
        linux["cgroupsPath"] = cell.cgroup
    if cell.seccomp is not None:
        linux["seccomp"] = dict(cell.seccomp)
    none: list[str] = []
    process = oci.process(cell.argv, {"PATH": oci.PATH, "HOME": "/", "LANG": "C.UTF-8"}, terminal=True)
    process |= {
        "user": {"uid": cell.uid, "gid": cell.uid},
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), none),
    }
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(cell.rootfs), "readonly": True},
        "hostname": oci.host_name(cell.name),
        "mounts": [*oci.own(32 << 20), *(oci.bound(bind) for bind in cell.binds)],
        "linux": linux,
    }
