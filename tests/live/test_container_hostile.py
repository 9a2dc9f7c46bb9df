"""
Containers whose root means ill: what they try is refused or stays theirs, and neighbours and the host do not notice.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import shutil
import subprocess
import unittest
from pathlib import Path
from typing import ClassVar

from hostline.server.drivers.container import ContainerDriver
from hostline.server.drivers.driver import Workload
from tests import needs
from tests.drivers import Heard
from tests.live import support
from tests.live.containers import Host, Shelved

_MIB = 1 << 20


@needs.needs_root
@needs.needs_tool("conmon", "runc", "catatonit", "busybox")
class HostileTests(unittest.TestCase):
    """
    Sliver 5 is hostile, 6 its neighbour; both last for all the tests, so each must leave 5 up.
    """

    host: ClassVar[Host]
    driver: ClassVar[ContainerDriver]

    @classmethod
    def setUpClass(cls) -> None:
        shelved = Shelved()
        cls.addClassCleanup(shelved.close)
        cls.host = Host(shelved)
        cls.addClassCleanup(cls.host.close)
        cls.driver = cls.host.driver()
        cls.addClassCleanup(cls.driver.close)
        cls.addClassCleanup(lambda: cls.host.go(cls.driver.recover({})))
        cls.host.go(cls.driver.recover({}))
        rspec = {"memory_max": 64 * _MIB, "pids_max": 40, "disk_max": 16 << 10, "cpu_max": 1000}
        for serial in (5, 6):
            workload = Workload(serial, f"n{serial}.exp1.lab", start_command="exec sleep 100000", rspec=rspec)
            cls.host.go(cls.driver.ensure_created(workload))
            cls.host.go(cls.driver.ensure_started(workload))
        cls.host.until(lambda: all(one.boot == "booted" for one in cls.driver.status().values()))

    def setUp(self) -> None:
        self.before = self.driver.status()[6]

    def tearDown(self) -> None:
        self.assertEqual(self.driver.status()[6], self.before)
        self.assertEqual(self.driver.status()[5].boot, "booted")

    def run_inside(self, script: str, serial: int = 5, limit_s: float = 20.0) -> Heard:
        """
        Run a script as the root of a container, to its end.
        """
        heard = Heard()
        talk = self.driver.execute(serial, ["sh", "-c", script], heard)
        self.addCleanup(talk.close)
        support.until(self.host.loop, lambda: heard.ends, limit_s)
        return heard

    def refused(self, script: str) -> None:
        """
        A script fails.
        """
        heard = self.run_inside(f"{script} && echo DONE")
        self.assertNotIn(b"DONE", heard.out, script)

    def compile(self, name: str, source: str) -> None:
        """
        Put a program in C into 5.
        """
        compiler = shutil.which("cc")
        if compiler is None:
            self.skipTest("cannot run here: no C compiler")
        file, program = self.host.directory / f"{name}.c", self.host.directory / name
        file.write_text(source)
        subprocess.run([compiler, "-static", "-o", str(program), str(file)], check=True, timeout=60)
        inside = Path(f"/proc/{self.driver.status()[5].pid}/root/bin/{name}")
        shutil.copy(program, inside)
        inside.chmod(0o755)

    def test_forkBomb(self) -> None:
        """
        One that forks without end has no more processes than it may, and leaves its neighbour its own.
        """
        heard = self.run_inside("i=0; while [ $i -lt 200 ]; do i=$((i+1)); sleep 3 & done; echo all", limit_s=30)
        self.assertNotIn(b"all", heard.out)
        self.assertLessEqual(len(self.host.cgroups.members(5)), 40)
        self.assertEqual(self.run_inside("echo hi", 6).out, b"hi\n")
        support.until(self.host.loop, lambda: len(self.host.cgroups.members(5)) < 10)

    def test_memoryHog(self) -> None:
        """
        One that takes too much memory is killed alone.
        """
        heard = self.run_inside("head -c 300000000 /dev/zero | tail -c 200000000 | wc -c; echo after")
        self.assertNotIn(b"200000000", heard.out)
        self.assertIn(b"after", heard.out)
        self.assertEqual(self.driver.status()[5].start_command, "running")
        self.assertFalse(Path("oom").exists(), "conmon wrote to our own directory")

    def test_diskHog(self) -> None:
        """
        One that fills its disk hears so, and the host has lost no more than that.
        """
        free = shutil.disk_usage(self.host.shelved.state).free
        heard = self.run_inside("dd if=/dev/zero of=/big bs=1M count=200; ls -l /big; rm /big")
        self.assertIn(b"No space left", heard.err)
        self.assertLess(free - shutil.disk_usage(self.host.shelved.state).free, 64 * _MIB)

    def test_sharedMemoryHog(self) -> None:
        """
        What it keeps in /dev/shm, /run and our own directory is its own memory, or bounded.
        """
        heard = self.run_inside(
            "dd if=/dev/zero of=/.hostline/said/big bs=1M count=10; dd if=/dev/zero of=/run/big bs=1M count=100; "
            "dd if=/dev/zero of=/dev/shm/big bs=1M count=100; dd if=/dev/zero of=/dev/big bs=1M count=100; "
            "rm -f /run/big /dev/shm/big /dev/big /.hostline/said/big; echo after"
        )
        self.assertEqual((heard.out, heard.err.count(b"No space left")), (b"after\n", 4))

    def test_consoleFlood(self) -> None:
        """
        What it writes to its console without end stays bounded on the host.
        """
        self.run_inside("i=0; while [ $i -lt 40 ]; do i=$((i+1)); head -c 200000 /dev/zero | tr '\\0' 'x'; echo; done "
                        ">/dev/console")  # fmt: skip
        log = self.host.directory / "notes/5/console"
        support.until(self.host.loop, lambda: log.exists() and log.stat().st_size > 0)
        self.assertLess(log.stat().st_size, 3 * _MIB)
        found, _ = self.driver.read_log(5, "console", -1000, 1000)
        self.assertLessEqual(len(found), 1000)

    def test_mounts(self) -> None:
        """
        It can mount nothing, nor make a namespace in which it could.
        """
        for script in (
            "mount -t tmpfs none /tmp", "mount -o remount,rw /sys", "mount --bind / /tmp", "umount /proc",
            "mount -o remount,rw /.hostline", "unshare -Ur true", "unshare -m true", "mount -t proc none /tmp",
            "mount -o remount,rw /proc/sys",
        ):  # fmt: skip
            self.refused(script)

    def test_devices(self) -> None:
        """
        It can make no device nodes, and open no disk of the host.
        """
        for script in (
            "mknod /tmp/sda b 8 0", "mknod /dev/vda b 254 0", "mknod /tmp/kmsg c 1 11", "cat /dev/kmsg",
            "cat /dev/mem", "head -c 1 /dev/vda", "chmod 600 /dev/null",
        ):  # fmt: skip
            self.refused(script)

    def test_kernelSettings(self) -> None:
        """
        It can change nothing of the kernel, its limits or its control groups.
        """
        for script in (
            "echo 1 >/proc/sys/kernel/panic", "echo x >/proc/sys/kernel/core_pattern", "echo b >/proc/sysrq-trigger",
            "mkdir /sys/fs/cgroup/x", "ls /sys/fs/cgroup | grep .", "hostname other",
            "echo 100 >/proc/sys/kernel/pid_max", "echo -1000 >/proc/1/oom_score_adj", "reboot -f", "dmesg",
        ):  # fmt: skip
            self.refused(script)

    def test_sockets(self) -> None:
        """
        It has sockets for its network and on its own machine, and none that know no network namespace.
        """
        self.compile(
            "family",
            "#include <errno.h>\n#include <stdlib.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n"
            "int main(int c, char **v) { return syscall(SYS_socket, atol(v[1]), atol(v[2]), c > 3 ? atol(v[3]) : 0) < 0"
            " ? errno : 0; }\n",
        )
        self.assertEqual(self.run_inside("family 16 3 9; echo $?").out, b"%d\n" % errno.EINVAL)  # as PAM knows it
        for words in ("1 1", "2 1", "2 2", "10 1", "16 3"):
            self.assertEqual(self.run_inside(f"family {words} && echo DONE").out, b"DONE\n", words)
        for words in ("40 1", "40 2", f"{40 + (1 << 32)} 1", "38 5", "17 3", "44 3"):
            self.refused(f"family {words}")

    @needs.needs_kernel(platform.machine() == "x86_64", "it knows one table of system calls only")
    def test_otherTables(self) -> None:
        """
        It can make no call by the processor's other tables, of 32 bits and x32.
        """
        self.compile(
            "table",
            "int main(int c, char **v) { long number, found;\n"
            "switch (v[1][0]) {\n"
            'case \'3\': number = 20; __asm__ volatile ("int $0x80" : "=a"(found) : "a"(number) : "memory"); break;\n'
            "default: number = v[1][0] == 'x' ? 39 | 0x40000000 : 39;\n"
            '__asm__ volatile ("syscall" : "=a"(found) : "a"(number) : "rcx", "r11", "memory"); }\n'
            "return found <= 0; }\n",
        )
        self.assertEqual(self.run_inside("table 6 && echo DONE").out, b"DONE\n")
        self.refused("table 3")
        self.refused("table x")

    def test_countedByUser(self) -> None:
        """
        It uses up what the kernel counts by user (inotify, queued signals), and the host's root does not notice.
        """
        self.compile(
            "user",
            "#include <signal.h>\n#include <stdio.h>\n#include <unistd.h>\n#include <sys/inotify.h>\n"
            "int main(void) { sigset_t all; union sigval none = {0};\n"
            "sigfillset(&all); sigprocmask(SIG_BLOCK, &all, 0);\n"
            "while (inotify_init() >= 0); while (sigqueue(getpid(), SIGRTMIN, none) == 0);\n"
            'puts("all"); fflush(stdout); sleep(30); return 0; }\n',
        )
        talk = self.driver.execute(
            5, ["sh", "-c", "ulimit -n 4096; ulimit -c; ulimit -Hn; exec user"], heard := Heard()
        )
        self.addCleanup(talk.close)
        support.until(self.host.loop, lambda: b"all" in heard.out, 20.0)
        self.assertEqual(heard.out.split()[0], b"0")
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_CLOEXEC)
        self.assertGreaterEqual(fd, 0, os.strerror(ctypes.get_errno()))
        os.close(fd)
        status = Path("/proc/self/status").read_text()
        self.assertLess(int(status.partition("SigQ:\t")[2].partition("/")[0]), 1000)

    def test_terminals(self) -> None:
        """
        It takes not so many pseudo-terminals that others have none.
        """
        before = int(Path("/proc/sys/kernel/pty/nr").read_text())
        script = 'i=3; while [ $i -lt 900 ]; do eval "exec $i<>/dev/ptmx" || exit 1; i=$((i+1)); done; sleep 5'
        talk = self.driver.execute(5, ["sh", "-c", script], heard := Heard())
        self.addCleanup(talk.close)
        support.until(self.host.loop, lambda: heard.ends, 20.0)
        self.assertIn(b"/dev/ptmx", heard.err)
        self.assertLess(int(Path("/proc/sys/kernel/pty/nr").read_text()) - before, 150)

    def test_neighbours(self) -> None:
        """
        It sees and reaches no process but its own.
        """
        heard = self.run_inside("ls -d /proc/[0-9]* | wc -l; cat /proc/*/comm")
        self.assertLess(int(heard.out.split()[0]), 12)
        self.assertNotIn(b"conmon", heard.out)
        outside = os.getpid()
        self.refused(f"kill -9 {outside}")
        status = Path(f"/proc/{self.driver.status()[5].pid}/status").read_text()
        found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        self.assertEqual((found["NoNewPrivs"], found["Seccomp"]), ("1", "2"))
        self.assertEqual(int(found["CapEff"], 16) & (1 << 21 | 1 << 12 | 1 << 19 | 1 << 27), 0)
        self.assertEqual(int(found["Uid"].split()[0]) - self.host.first_uid & 0xFFFF, 0)
        self.assertNotEqual(found["Uid"], Path(f"/proc/{self.driver.status()[6].pid}/status").read_text())

    def test_ours(self) -> None:
        """
        What of ours is inside it can only read.
        """
        for script in (
            "echo x >/.hostline/bin/boot", "rm /.hostline/bin/boot", "echo x >/.hostline/own/command",
            "rm /.hostline/own/command", "chmod 777 /.hostline/own", "touch /.hostline/own/x", "mv /.hostline /x",
            "echo x >>/etc/hosts", "rm /etc/resolv.conf", "rmdir /.hostline/said",
            "cp /bin/busybox /.hostline/said/sh; chmod 755 /.hostline/said/sh; /.hostline/said/sh true",
        ):  # fmt: skip
            self.refused(script)

    def test_lies(self) -> None:
        """
        Whatever it leaves where it tells us what happened, we go on, and believe no nonsense.
        """
        said = "/.hostline/said"
        for script in (
            f"rm {said}/*; mkfifo {said}/ended {said}/initscript",
            f"rm -r {said}/*; mkdir {said}/ended; ln -s /etc/passwd {said}/initscript",
            f"rm -r {said}/*; head -c 60000 /dev/zero >{said}/ended; echo ended 99999 >{said}/initscript",
            f"rm -r {said}/*; echo -5 >{said}/ended; echo 'ended 1 2 3' >{said}/initscript",
            f"rm -r {said}/*; printf 7 >{said}/ended; printf '\\377\\376\\n' >{said}/initscript",
            f"rm -r {said}/*; ln -s /proc/kmsg {said}/ended; echo ended >{said}/initscript",
        ):
            self.run_inside(f"{script}; echo up >{said}/up; echo started >{said}/started")
            support.idle(self.host.loop, 0.05)
            status = self.driver.status()[5]
            self.assertEqual((status.start_command, status.start_code, status.initscript), ("running", None, "none"))
        self.run_inside(f"rm -rf {said}/*; echo up >{said}/up; echo started >{said}/started; mkfifo {said}/never")

    def test_floods(self) -> None:
        """
        Writing there without end wakes the daemon only now and then.
        """
        looks: list[int] = []
        lives = self.driver._lives
        assert lives.ear is not None
        heard = lives.ear._heard

        def looked(serial: int) -> None:
            looks.append(serial)
            heard(serial)

        lives.ear._heard = looked
        try:
            self.run_inside("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo up >/.hostline/said/up; done")
        finally:
            lives.ear._heard = heard
        self.assertLess(len(looks), 50)
        self.assertGreater(len(looks), 0)

    def test_logsThatAreNone(self) -> None:
        """
        Where its logs should be, links lead nowhere and pipes hold nobody up.
        """
        log = "/var/log/hostline/start_command.out"
        secret = self.host.directory / "secret"
        secret.write_text("of the host\n")
        for script in (
            f"rm -f {log}; ln -s {secret} {log}",
            f"rm -f {log}; ln -s ../../../../../../../../../..{secret} {log}",
            f"rm -f {log}; ln -s /proc/1/root{secret} {log}",
            f"rm -rf {log}; mkfifo {log}",
            f"rm -rf {log}; mkdir {log}",
            f"mv /var/log /var/elsewhere; ln -s {self.host.directory} /var/log",
        ):
            self.run_inside(script)
            self.assertEqual(self.driver.read_log(5, "out", 0, 100), (b"", 0), script)
        self.run_inside("rm -rf /var/log; mv /var/elsewhere /var/log")

    def test_keysElsewhere(self) -> None:
        """
        Keys go to its own root's home, wherever it makes that point.
        """
        target = self.host.directory / "home"
        target.mkdir()
        keys = ("ssh-ed25519 AAAA ann",)
        rspec = {"memory_max": 64 * _MIB, "pids_max": 40, "disk_max": 16 << 10, "cpu_max": 1000}
        workload = Workload(5, "n5.exp1.lab", start_command="exec sleep 100000", rspec=rspec, keys=keys)
        self.run_inside(f"mv /root /root.old; ln -s {target} /root")
        self.host.go(self.driver.ensure_configured(workload))
        self.assertEqual(list(target.iterdir()), [])
        self.assertTrue(any("keys" in problem for problem in self.driver.status()[5].problems))
        self.run_inside(f"rm /root; mv /root.old /root; rm -rf /root/.ssh; ln -s {target} /root/.ssh")
        self.host.go(self.driver.ensure_configured(workload))
        self.assertEqual(list(target.iterdir()), [])
        self.assertIn(b"AAAA ann", self.run_inside("cat /root/.ssh/authorized_keys").out)
