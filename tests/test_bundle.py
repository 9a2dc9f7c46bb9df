"""
What the OCI runtime is told.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

import hostline
from hostline.server.supervise.bundle import OURS, Bind, Container, config, host_name, process
from hostline.server.supervise.inside import CLIENT

PLAIN = Container("web.exp1.lab", Path("/root"), 700000, ["/.hostline/bin/catatonit"], {"A": "b c"})


def mounts(container: Container) -> dict[str, list[str]]:
    return {one["destination"]: one["options"] for one in config(container)["mounts"]}


class BundleTests(unittest.TestCase):
    """
    C{config.json}, as a function.
    """

    def test_isolates(self) -> None:
        """
        It has every namespace of its own, its own uids, no device, and nothing may become more than it is.
        """
        found = config(PLAIN)
        linux = found["linux"]
        kinds = {one["type"] for one in linux["namespaces"]}
        self.assertEqual(kinds, {"user", "pid", "mount", "ipc", "uts", "network", "cgroup"})
        self.assertEqual(linux["uidMappings"], [{"containerID": 0, "hostID": 700000, "size": 65536}])
        self.assertEqual(linux["gidMappings"], linux["uidMappings"])
        self.assertEqual(linux["resources"], {"devices": [{"allow": False, "access": "rwm"}]})
        self.assertTrue(found["process"]["noNewPrivileges"])
        json.dumps(found)

    def test_hasFewCapabilities(self) -> None:
        """
        None of the capabilities by which hosts were taken over; commands that join have no more.
        """
        for one in (config(PLAIN)["process"], process(["sh"], {}, terminal=True)):
            for kind, caps in one["capabilities"].items():
                with self.subTest(kind):
                    dangerous = ("ADMIN", "RAWIO", "MKNOD", "PTRACE", "MODULE", "DAC_READ_SEARCH", "SETFCAP", "AUDIT")
                    self.assertFalse([cap for cap in caps if any(word in cap for word in dangerous)])
            self.assertNotIn("inheritable", one["capabilities"])
            self.assertNotIn("ambient", one["capabilities"])

    def test_letsEverybodyPing(self) -> None:
        """
        Without raw sockets, which users other than root have not, every group inside may send echo requests.
        """
        self.assertEqual(config(PLAIN)["linux"]["sysctl"], {"net.ipv4.ping_group_range": "0 65535"})

    def test_hidesTheHost(self) -> None:
        """
        /sys is read-only, and so is what in /proc changes the kernel.
        """
        self.assertIn("ro", mounts(PLAIN)["/sys"])
        linux = config(PLAIN)["linux"]
        self.assertLessEqual({"/proc/sys", "/proc/sysrq-trigger"}, set(linux["readonlyPaths"]))
        self.assertLessEqual({"/proc/kcore", "/sys/firmware", "/proc/keys"}, set(linux["maskedPaths"]))

    def test_bindsReadOnly(self) -> None:
        """
        What is shown inside can be written and executed only if that is said.
        """
        binds = [Bind(Path("/a"), "/x"), Bind(Path("/b"), "/y", writable=True), Bind(Path("/c"), "/z", executable=True)]
        found = mounts(evolve(PLAIN, binds=binds))
        self.assertLessEqual({"ro", "noexec", "nosuid", "nodev"}, set(found["/x"]))
        self.assertLessEqual({"rw", "noexec", "nosuid", "nodev"}, set(found["/y"]))
        self.assertLessEqual({"ro", "nosuid", "nodev"}, set(found["/z"]))
        self.assertNotIn("noexec", found["/z"])

    @given(st.integers(16 << 20, 1 << 44))
    def test_sharesLessMemoryThanItHas(self, memory: int) -> None:
        """
        All its file systems in memory together are smaller than its memory.
        """
        sizes = []
        for options in mounts(evolve(PLAIN, memory=memory)).values():
            for option in options:
                if option.startswith("size="):
                    sizes.append(int(option[5:].replace("k", "000")))
        self.assertLess(sum(sizes), memory)
        self.assertEqual(len(sizes), 3)

    def test_hasAName(self) -> None:
        """
        The host name inside is the sliver's, as far as the kernel takes it.
        """
        names = ("web.exp1.lab", "lab_web", "a" * 80, "n." + "x" * 70, "_")
        self.assertEqual([host_name(name) for name in names], ["web.exp1.lab", "lab-web", "a" * 64, "n", "sliver"])

    @given(st.text(min_size=1, max_size=100))
    def test_anyNameCanBeOne(self, name: str) -> None:
        """
        Whatever a sliver is called, the kernel takes its host name.
        """
        self.assertRegex(host_name(name), r"\A[A-Za-z0-9.-]{1,64}\Z")


class ClientTests(unittest.TestCase):
    """
    The C{hostline} command that containers are shown.
    """

    def test_saysWhatThePythonLacks(self) -> None:
        """
        Where the image has but a part of Python, a line says so, and no traceback.
        """
        with tempfile.TemporaryDirectory() as name:
            client = Path(name) / "hostline"
            library = str(Path(hostline.__file__).parent.parent)
            client.write_text(CLIENT.replace(f"{OURS}/lib", library))
            python = Path(name) / "python3"
            part = "import sys; sys.modules.update(dict.fromkeys(('json', '_json'))); exec(sys.argv.pop(1))"
            python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -IS -c "{part}" "$@"\n')
            python.chmod(0o755)
            environment = {"PATH": f"{name}:/usr/bin:/bin", "HOSTLINE_SOCKET": f"{name}/none"}
            argv = ["/bin/sh", str(client), "set_sliver", "lab_web", "rspec={'pids_max': 20}"]
            done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Ahostline: the python3 of this image is not whole: .*json.*\n\Z")
