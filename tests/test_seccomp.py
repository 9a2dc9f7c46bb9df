"""
Which system calls containers may make.
"""

from __future__ import annotations

import errno
import unittest
from typing import Any

from hostline.server.supervise.bundle import CAPABILITIES
from hostline.server.supervise.seccomp import PROFILE, read_profile, seccomp
from tests import needs

SMALL: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read", "mount", "clone", "clone3"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}},
        {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
        },
    ],
}


def allowed(found: dict[str, Any]) -> set[str]:
    """
    @return: what may be called, with whatever arguments.
    """
    return {
        name
        for rule in found["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
        for name in rule["names"]
    }


class SeccompTests(unittest.TestCase):
    """
    A small profile, and the distribution's.
    """

    def test_followsCapabilities(self) -> None:
        """
        What a capability allows is allowed to who has it, and refused to others.
        """
        self.assertIn("chroot", allowed(seccomp(SMALL, ["CAP_SYS_CHROOT"], "x86_64")))
        without = seccomp(SMALL, [], "x86_64")
        self.assertNotIn("chroot", allowed(without))
        self.assertIn({"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}, without["syscalls"])

    def test_followsArchitectures(self) -> None:
        """
        Rules of other architectures are left out, and so are the names of all but the host's own.
        """
        found = seccomp(SMALL, [], "x86_64")
        self.assertIn("arch_prctl", allowed(found))
        self.assertEqual(found["architectures"], ["SCMP_ARCH_X86_64"])
        other = seccomp(SMALL, [], "aarch64")
        self.assertNotIn("arch_prctl", allowed(other))
        self.assertNotIn("architectures", other)

    def test_keepsArguments(self) -> None:
        """
        What is allowed with some arguments only stays so.
        """
        rules = [rule for rule in seccomp(SMALL, [], "x86_64")["syscalls"] if rule["names"] == ["personality"]]
        self.assertEqual(rules[0]["args"], [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}])

    def test_letsFewFamiliesOfSockets(self) -> None:
        """
        Sockets are allowed by family only, whatever the profile says, and never where the family cannot be seen.
        """
        small = {**SMALL, "syscalls": [{"names": ["socket", "socketcall"], "action": "SCMP_ACT_ALLOW", "args": []}]}
        found = seccomp(small, [], "x86_64")
        self.assertNotIn("socketcall", allowed(found))
        rules = [rule for rule in found["syscalls"] if "socket" in rule["names"]]
        self.assertEqual({rule["args"][0]["op"] for rule in rules}, {"SCMP_CMP_MASKED_EQ"})
        allow = [rule for rule in rules if rule["action"] == "SCMP_ACT_ALLOW"]
        self.assertEqual([rule["args"][0]["valueTwo"] for rule in allow], [1, 2, 10, 16])

    def test_hasNoAudit(self) -> None:
        """
        What PAM does first looks as on a kernel without audit: with any other error sshd and su let nobody in.
        """
        rules = [rule for rule in seccomp(SMALL, [], "x86_64")["syscalls"] if "socket" in rule["names"]]
        refused = [rule for rule in rules if rule.get("errnoRet") == errno.EINVAL]
        self.assertEqual([arg["valueTwo"] or arg["value"] for rule in refused for arg in rule["args"]], [16, 9])

    def test_refusesNamespaces(self) -> None:
        """
        Mounts and new namespaces are refused whatever the profile says, and clone3 is not there.
        """
        found = seccomp(SMALL, [], "x86_64")
        self.assertEqual(allowed(found) & {"mount", "clone", "clone3", "unshare"}, set())
        refused = {name: rule["errnoRet"] for rule in found["syscalls"] if "errnoRet" in rule for name in rule["names"]}
        self.assertEqual((refused["mount"], refused["unshare"], refused["clone3"]), (1, 1, 38))
        clone = [rule for rule in found["syscalls"] if rule["names"] == ["clone"]]
        self.assertEqual(clone[0]["args"][0]["value"] & 0x10000000, 0x10000000)  # CLONE_NEWUSER
        self.assertEqual((clone[0]["args"][0]["valueTwo"], clone[0]["args"][0]["op"]), (0, "SCMP_CMP_MASKED_EQ"))

    @needs.needs_kernel(PROFILE.exists(), f"there is no {PROFILE}")
    def test_holdsForTheRealProfile(self) -> None:
        """
        The distribution's profile, made tighter, lets programs run and none of the dangerous calls through.
        """
        found = allowed(seccomp(read_profile(), CAPABILITIES, "x86_64"))
        self.assertLessEqual({"read", "execve", "chroot", "socket", "fork", "wait4", "openat"}, found | {"socket"})
        dangerous = {"mount", "umount2", "unshare", "setns", "bpf", "keyctl", "init_module", "kexec_load", "reboot"}
        dangerous |= {"open_by_handle_at", "perf_event_open", "userfaultfd", "io_uring_setup", "clone3", "swapon"}
        self.assertEqual(found & dangerous, set())
