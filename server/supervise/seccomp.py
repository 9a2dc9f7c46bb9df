"""
Which system calls a container may make: the distribution's profile for containers, turned into what the OCI runtime
reads, and made tighter.

That profile relies on capabilities to refuse mounts and namespaces, but whoever makes a user namespace has every
capability in it. Strangers are not given so much of the kernel: what makes namespaces or mounts is refused, and so is
every call by the tables of another architecture that the processor knows as well (32 bits on one of 64, x32): whoever
makes one is killed.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

#: Where golang-github-containers-common (Debian) and containers-common (others) put the profile.
PROFILE = Path("/usr/share/containers/seccomp.json")
#: What the profile calls the architectures that C{uname -m} names.
_ARCHITECTURES = {
    "x86_64": "amd64", "i686": "x86", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x",
    "riscv64": "riscv64",
}  # fmt: skip
_NATIVE = {
    "amd64": "SCMP_ARCH_X86_64", "x86": "SCMP_ARCH_X86", "arm64": "SCMP_ARCH_AARCH64", "arm": "SCMP_ARCH_ARM",
    "ppc64le": "SCMP_ARCH_PPC64LE", "s390x": "SCMP_ARCH_S390X", "riscv64": "SCMP_ARCH_RISCV64",
}  # fmt: skip
#: Refused (EPERM) without CAP_SYS_ADMIN, whatever the profile says.
_FOR_ADMIN = (
    "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree", "pivot_root",
    "setns", "umount", "umount2", "unshare", "fanotify_mark", "quotactl", "syslog",
)  # fmt: skip
#: Refused always: kernel keyrings know no user namespaces worth the name; nobody in here reboots.
_FOR_NOBODY = ("add_key", "keyctl", "request_key", "reboot", "name_to_handle_at", "open_by_handle_at", "socketcall")
#: Not there (ENOSYS), so that C libraries take the older way: the flags of clone3 are out of a filter's sight.
_ABSENT = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")
#: CLONE_NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWNS, NEWTIME is no flag of clone.
_NAMESPACES = 0x7E020000
#: Families of sockets: UNIX, INET, INET6, NETLINK. Others are seldom needed and much of the kernel; and those of VSOCK
#: know no network namespace: they reach the machine that a host is a guest of, its guests, and services of the host.
#: By socketcall, which no C library of today needs, the family is out of a filter's sight.
_FAMILIES, _NETLINK, _AUDIT = (1, 2, 10), 16, 9
_EPERM, _EINVAL, _ENOSYS = 1, 22, 38


def read_profile(path: Path = PROFILE) -> dict[str, Any]:
    """
    @raise OSError: if there is none.
    @raise ValueError: if it is none.
    """
    profile = json.loads(path.read_text("utf-8"))
    if not isinstance(profile, dict) or not isinstance(profile.get("syscalls"), list):
        raise ValueError(f"want a seccomp profile in {path}")
    return profile


def seccomp(
    profile: Mapping[str, Any], capabilities: Container[str], machine: str = platform.machine()
) -> dict[str, Any]:
    """
    @param capabilities: those that containers have, C{CAP_CHOWN}.
    @param machine: as C{uname -m} says.
    @return: C{linux.seccomp} of an OCI configuration.
    """
    architecture = _ARCHITECTURES.get(machine, machine)
    admin = "CAP_SYS_ADMIN" in capabilities
    refused = {*_FOR_NOBODY, *(() if admin else _FOR_ADMIN)}
    taken = {*refused, "socket", *(() if admin else (*_ABSENT, "clone"))}
    rules = []
    for one in profile["syscalls"]:
        if not _applies(one, capabilities, architecture):
            continue
        names = [name for name in one["names"] if name not in taken]
        if names:
            rules.append(_rule(names, one))
    rules += [_refusal(sorted(refused), _EPERM), *_sockets()]
    if not admin:
        rules += [_refusal(list(_ABSENT), _ENOSYS), _clone(architecture)]
    found: dict[str, Any] = {"defaultAction": profile["defaultAction"], "syscalls": rules}
    if profile["defaultAction"] == "SCMP_ACT_ERRNO":
        found["defaultErrnoRet"] = profile.get("defaultErrnoRet", _EPERM)
    native = _NATIVE.get(architecture)
    if any(row["architecture"] == native for row in profile.get("archMap", ())):
        found["architectures"] = [native]
    return found


def _applies(one: Mapping[str, Any], capabilities: Container[str], architecture: str) -> bool:
    """
    @return: whether a rule is for our capabilities and architecture (and not for a kernel that we do not know).
    """
    includes, excludes = one.get("includes") or {}, one.get("excludes") or {}
    if any(cap not in capabilities for cap in includes.get("caps") or ()):
        return False
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if any(cap in capabilities for cap in excludes.get("caps") or ()):
        return False
    return architecture not in (excludes.get("arches") or ())


def _rule(names: list[str], one: Mapping[str, Any]) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": one["action"]}
    if one["action"] == "SCMP_ACT_ERRNO" and one.get("errnoRet") is not None:
        rule["errnoRet"] = one["errnoRet"]
    if one.get("args"):
        rule["args"] = [
            {"index": arg["index"], "value": arg["value"], "valueTwo": arg.get("valueTwo", 0), "op": arg["op"]}
            for arg in one["args"]
        ]
    return rule


def _refusal(names: list[str], number: int) -> dict[str, Any]:
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": number}


def _sockets() -> list[dict[str, Any]]:
    """
    @return: the rules that let sockets of some families be made. The kernel reads 32 bits of a family.
    """

    def of(family: int, *more: dict[str, Any]) -> dict[str, Any]:
        masked = {"index": 0, "value": 0xFFFFFFFF, "valueTwo": family, "op": "SCMP_CMP_MASKED_EQ"}
        return {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [masked, *more]}

    audit = {"index": 2, "value": _AUDIT, "valueTwo": 0}
    # PAM, and so sshd, su, passwd, takes this for a kernel without audit; anything else it takes for a failure.
    none = {**of(_NETLINK, {**audit, "op": "SCMP_CMP_EQ"}), "action": "SCMP_ACT_ERRNO", "errnoRet": _EINVAL}
    return [*(of(family) for family in _FAMILIES), of(_NETLINK, {**audit, "op": "SCMP_CMP_NE"}), none]


def _clone(architecture: str) -> dict[str, Any]:
    """
    @return: the rule that lets processes and threads be made, and no namespaces.
    """
    index = 1 if architecture == "s390x" else 0
    masked = {"index": index, "value": _NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    return {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [masked]}
