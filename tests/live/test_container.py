"""
The container driver with real containers: what every driver promises, and what only containers do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import unittest
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from attrs import evolve
from twisted.internet.defer import Deferred

from hostline.server import config
from hostline.server.drivers.container import ContainerDriver
from hostline.server.drivers.driver import Driver, Workload
from hostline.server.network.network import Network
from hostline.server.supervise.rootfs import Rootfs
from hostline.server.supervise.runtime import Runtime
from hostline.server.supervise.subuids import BLOCK
from tests import needs
from tests.drivers import DriverContract, Heard
from tests.live import support
from tests.live.containers import Host, Shelved

_NEWNET = 0x40000000


class Containers(DriverContract, unittest.TestCase):
    """
    One state directory, one driver at a time; at the end nothing of it may be left.
    """

    grace_s = 5.0
    shelved: ClassVar[Shelved]

    @classmethod
    def setUpClass(cls) -> None:
        cls.shelved = Shelved()
        cls.addClassCleanup(cls.shelved.close)

    def setUp(self) -> None:
        self.host = Host(self.shelved)
        self.addCleanup(self.host.close)
        self.driver: Driver = self.make()
        self.addCleanup(self.clean)
        self.remake({})

    def make(self) -> ContainerDriver:
        return self.host.driver(grace_s=self.grace_s)

    def go(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.host.go(coroutine)

    def until(self, true: Callable[[], object]) -> None:
        self.host.until(true)

    def kill_node(self, serial: int) -> None:
        pid = self.status(serial).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        kept = self.host.run / "bundles" / str(serial) / str(self.status(serial).boots) / "kept/exit"
        self.until(kept.exists)

    def make_unstartable(self, serial: int) -> None:
        self.host.directory.joinpath("notes", str(serial)).write_text("in the way")

    def write_log(self, serial: int, stream: str, text: bytes) -> None:
        self.go(self.driver.ensure_started(Workload(serial, "web.exp1.lab")))
        root = self.go(self.host.files.mount(serial))
        (root / "var/log/hostline").mkdir(parents=True, exist_ok=True)
        (root / f"var/log/hostline/start_command.{stream}").write_bytes(text)

    def clean(self) -> None:
        """
        The records are gone: a last daemon leaves nothing of ours behind.
        """
        try:
            in_the_way = self.host.directory / "notes/5"
            if in_the_way.is_file():
                in_the_way.unlink()
            self.remake({})
            self.assertEqual(dict(self.driver.status()), {})
            self.until(lambda: not any(one.startswith("loop ") for one in self.host.left()))
            self.assertEqual(self.host.left(), [])
        finally:
            self.driver.close()


@needs.needs_root
@needs.needs_tool("conmon", "runc", "catatonit", "busybox")
class ContainerTests(Containers):
    """
    With control groups and without a network.
    """

    def test_leavesNoSocketsElsewhere(self) -> None:
        """
        What conmon makes for a moment is in a directory of ours; what one that was killed left is gone after a start.
        """
        before = set(Path("/tmp").glob("conmon-term.*"))
        self.start(Workload(5, "web.exp1.lab"))
        left = self.host.run / "conmon-term.ABCDEF"
        left.touch()
        self.remake({5: Workload(5, "web.exp1.lab")})
        self.assertEqual(self.status(5).boot, "booted")
        self.assertEqual((left.exists(), set(Path("/tmp").glob("conmon-term.*")) - before), (False, set()))

    def ran(self, command: str, **more: Any) -> bytes:
        """
        Run a start command to its end.

        @return: its output.
        """
        self.start(Workload(5, "web.exp1.lab", start_command=command, **more))
        self.until(lambda: self.status(5).start_command == "ended")
        return self.log("out")

    def log(self, stream: str) -> bytes:
        return self.driver.read_log(5, stream, 0, 100000)[0]

    def told(self, *argv: str) -> bytes:
        """
        @return: the output of a command inside.
        """
        _, heard = self.execute(*argv)
        self.until(lambda: heard.ends)
        return bytes(heard.out)

    def members(self) -> list[bytes]:
        found = []
        for pid in self.host.cgroups.members(5):
            with suppress(OSError):
                found.append(Path(f"/proc/{pid}/comm").read_bytes().strip())
        return found

    def abandon(self) -> None:
        """
        The daemon is killed: nothing is told, nothing is ended.
        """
        driver = self.driver
        assert isinstance(driver, ContainerDriver)
        driver._commands.close = lambda: None  # type: ignore[method-assign]
        driver.close()

    def test_runsAsRootOfItsOwn(self) -> None:
        """
        Its root is not the host's; its name and its environment are its own.
        """
        out = self.ran(
            "id -u; hostname; echo $X; echo $HOSTLINE_NODE; cat /etc/hostname", environment={"X": "a 'b' $c"}
        )
        self.assertEqual(out.decode(), "0\nweb.exp1.lab\na 'b' $c\nweb.exp1.lab\nweb.exp1.lab\n")
        pid = self.status(5).pid
        self.assertEqual(Path(f"/proc/{pid}").stat().st_uid, self.host.first_uid + 5 * BLOCK)
        self.assertIn(b"exit status 0", self.log("log"))

    def test_keepsItsUids(self) -> None:
        """
        Its uids are the same to the next daemon, and the files are its own.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command="echo here >/root/file"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.remake({5: workload})
        self.start(evolve(workload, boots=2, start_command="cat /root/file; stat -c %u /root/file"))
        self.until(lambda: self.log("out") == b"here\n0\n")

    def test_isDeadWhenItsKeeperIsKilled(self) -> None:
        """
        A container whose conmon was killed is ended: nobody knows its exit status.
        """
        self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        keeper = int((self.host.run / "bundles/5/1/conmon.pid").read_text())
        os.kill(keeper, signal.SIGKILL)
        self.until(lambda: self.status(5).boot == "dead" and not self.host.cgroups.members(5))
        self.assertIsNone(self.status(5).code)

    def test_saysThatThereIsNoShell(self) -> None:
        """
        An image without /bin/sh is said to have none.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command="rm /bin/sh"))
        self.until(lambda: self.status(5).start_command == "ended")
        again = evolve(workload, boots=2)
        self.go(self.driver.ensure_started(again))
        self.assertEqual((self.status(5).boot, self.status(5).code), ("dead", 125))
        self.assertIn("could not be started: the image has no /bin/sh", self.status(5).problems)
        self.remake({5: again})
        self.assertEqual((self.status(5).boot, self.status(5).code), ("dead", 125))

    def test_isLimited(self) -> None:
        """
        Its limits are those asked for, said by the kernel, and change while it runs.
        """
        rspec = {"memory_max": 64 << 20, "pids_max": 40, "cpu_share": 64, "cpu_max": 500, "disk_max": 32 << 10}
        workload = self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on, rspec=rspec))
        found = self.driver.in_force(5)
        self.assertEqual({one: found.get(one) for one in rspec}, rspec)
        other = {**rspec, "memory_max": 32 << 20, "pids_max": 30, "cpu_share": 48, "cpu_max": 0}
        self.go(self.driver.ensure_configured(evolve(workload, rspec=other)))
        found = self.driver.in_force(5)
        self.assertEqual({one: found.get(one) for one in other}, other)

    def test_growsItsDisk(self) -> None:
        """
        Another size of the disk is in force at once or, where the kernel cannot, said and in force from the next start.
        """
        rspec = {"disk_max": 32 << 10}
        workload = self.start(Workload(5, "web.exp1.lab", rspec=rspec))
        more = evolve(workload, rspec={"disk_max": 64 << 10})
        self.go(self.driver.ensure_configured(more))
        if self.driver.in_force(5)["disk_max"] != 64 << 10:
            self.assertTrue(any("disk_max" in problem for problem in self.status(5).problems))
        self.start(evolve(more, boots=2))
        self.assertEqual(self.driver.in_force(5)["disk_max"], 64 << 10)
        self.assertFalse(any("disk_max" in problem for problem in self.status(5).problems))

    def test_saysWhyItsDiskIsNotSmaller(self) -> None:
        """
        While the host holds the old file system a start says so; the start after that makes it smaller.
        """
        workload = self.start(Workload(5, "web.exp1.lab", rspec={"disk_max": 64 << 10}))
        holding = subprocess.Popen(
            ("unshare", "--mount", "sh", "-c", "echo so; exec sleep 1000"), stdout=subprocess.PIPE
        )
        try:
            assert holding.stdout is not None
            holding.stdout.readline()
            less = evolve(workload, rspec={"disk_max": 32 << 10}, boots=2)
            self.go(self.driver.ensure_configured(less))
            self.start(less)
            self.assertEqual(self.driver.in_force(5)["disk_max"], 64 << 10)
            self.assertTrue(any("nothing holds" in problem for problem in self.status(5).problems), self.status(5))
        finally:
            holding.kill()
            holding.communicate()
        self.start(evolve(less, boots=3))
        self.assertEqual(self.driver.in_force(5)["disk_max"], 32 << 10)
        self.assertFalse(any("disk_max" in problem for problem in self.status(5).problems))

    def test_runsItsInitscript(self) -> None:
        """
        The initscript runs at start, when its text changes and before the end; its output and status are known.
        """
        text = '#!/bin/sh\necho "$1 one"\nexit 4\n'
        workload = self.start(Workload(5, "web.exp1.lab", initscript=text))
        self.until(lambda: self.status(5).initscript == "ended")
        self.assertEqual(self.status(5).initscript_code, 4)
        changed = evolve(workload, initscript=text.replace("one", "two").replace("4", "6"))
        self.go(self.driver.ensure_configured(changed))
        self.until(lambda: (self.status(5).initscript, self.status(5).initscript_code) == ("ended", 6))
        self.go(self.driver.ensure_configured(changed))
        self.go(self.driver.ensure_stopped(5))
        words = [line for line in self.log("initscript").decode().splitlines() if not line.startswith("==")]
        self.assertEqual(words, ["start one", "restart two", "stop two"])

    def test_endsAnInitscriptThatDoesNot(self) -> None:
        """
        An initscript whose stop never ends holds up the end for the grace time only, and others end politely.
        """
        self.grace_s = 2.0
        self.remake({})
        text = "#!/bin/sh\ntest $1 = stop && sleep 1000\n"
        command = "trap 'echo politely; exit 0' TERM; while :; do sleep 0.1; done"
        self.start(Workload(5, "web.exp1.lab", start_command=command, initscript=text))
        self.until(lambda: self.status(5).initscript == "ended")
        before = self.host.loop.time()
        self.go(self.driver.ensure_stopped(5))
        self.assertLess(self.host.loop.time() - before, 4.0)
        self.assertEqual((self.status(5).code, self.log("out")), (0, b"politely\n"), self.log("console"))

    def test_hasItsKeys(self) -> None:
        """
        Keys are there from the start, change while it runs, are repaired, and can be revoked.
        """
        workload = self.start(Workload(5, "web.exp1.lab", keys=("ssh-ed25519 AAAA ann",)))
        show = ("cat", "/root/.ssh/authorized_keys")
        self.assertEqual(self.told(*show), b"ssh-ed25519 AAAA ann\n")
        other = evolve(workload, keys=("ssh-ed25519 BBBB bob", "ssh-ed25519 CCCC cid"))
        self.go(self.driver.ensure_configured(other))
        self.assertEqual(self.told(*show), b"ssh-ed25519 BBBB bob\nssh-ed25519 CCCC cid\n")
        self.told("sh", "-c", "echo mine >/root/.ssh/authorized_keys")
        self.driver.tidy()
        self.until(lambda: self.told(*show) == b"ssh-ed25519 BBBB bob\nssh-ed25519 CCCC cid\n")
        self.told("sh", "-c", "rm -r /root/.ssh; ln -s /etc /root/.ssh")
        self.remake({5: other})
        self.assertEqual(self.told(*show), b"ssh-ed25519 BBBB bob\nssh-ed25519 CCCC cid\n")
        self.go(self.driver.ensure_configured(evolve(workload, keys=())))
        self.assertEqual(self.told(*show), b"")

    def test_showsItsDoor(self) -> None:
        """
        Its own control socket is seen inside, also one that is made later, and cannot be changed from there.
        """
        door = self.host.directory / "door"
        door.mkdir()
        door.chmod(0o755)
        self.start(Workload(5, "web.exp1.lab", door=door))
        (door / "hostline.sock").touch()
        self.assertEqual(self.told("ls", "/run/hostline"), b"hostline.sock\n")
        self.assertEqual(self.told("sh", "-c", "rm /run/hostline/hostline.sock || echo refused"), b"refused\n")
        self.assertEqual(self.told("sh", "-c", "echo $HOSTLINE_SOCKET"), b"/run/hostline/hostline.sock\n")
        self.assertEqual(
            self.told("sh", "-c", "/.hostline/bin/hostline whoami 2>&1"),
            b"hostline: there is no python3 in this image\n",
        )

    def test_bringsItsClient(self) -> None:
        """
        What is shown inside as the client is whole: it runs by itself on a Python without anything installed.
        """
        lib = next(self.host.run.glob("inside-*")) / "lib"
        code = f"import sys; sys.path.insert(0, {str(lib)!r}); sys.argv[1:] = ['--help']"
        done = subprocess.run(
            [sys.executable, "-IS", "-c", f"{code}; import hostline.clients.main as m; m.main()"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        self.assertIn("--socket", done.stdout, done.stderr)
        self.assertIn("whoami", done.stdout)

    def test_hasATerminal(self) -> None:
        """
        A command on a terminal knows its size, also when that changes.
        """
        self.start(Workload(5, "web.exp1.lab"))
        script = "tty; stty size; read x; stty size; read x; stty size; exit 3"
        talk, heard = self.execute("sh", "-c", script, terminal=True)
        self.until(lambda: b"24 80" in heard.out)
        self.assertIn(b"/dev/pts/", heard.out)
        talk.resize(40, 100)
        support.idle(self.host.loop, 0.1)
        talk.write(b"\n")
        self.until(lambda: b"40 100" in heard.out)
        talk.resize(20, 50)
        support.idle(self.host.loop, 0.1)
        talk.write(b"\n")
        self.until(lambda: heard.ends)
        self.assertIn(b"20 50", heard.out)
        self.assertEqual(heard.ends, [3])

    def test_killsTheSessionOfWhoLeaves(self) -> None:
        """
        A command that nobody listens to any more is killed with all it started; the rest of the container goes on.
        """
        self.start(Workload(5, "web.exp1.lab", start_command="sleep 999"))
        talk, heard = self.execute("sh", "-c", "sleep 1000 & sleep 1001 & echo there; cat")
        self.until(lambda: heard.out)
        self.until(lambda: self.members().count(b"sleep") >= 3)
        talk.close()
        self.until(lambda: self.members().count(b"sleep") == 1 and b"cat" not in self.members())
        self.until(lambda: not list(self.host.run.glob("bundles/5/1/exec-*")))

    def test_killsWhatWasJustBegun(self) -> None:
        """
        A command that is given up before it runs does not stay.
        """
        self.start(Workload(5, "web.exp1.lab"))
        for wait_s in (0.0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.03):
            talk, _ = self.execute("sleep", "1000")
            support.idle(self.host.loop, wait_s)
            talk.close()
        support.idle(self.host.loop, 0.3)
        self.until(lambda: b"sleep" not in self.members() and b"runc" not in self.members())

    def test_endsCommandsOfADaemonThatDied(self) -> None:
        """
        A command whose daemon was killed is ended by the next.
        """
        workload = self.start(Workload(5, "web.exp1.lab"))
        _, heard = self.execute("sh", "-c", "trap '' PIPE; echo there; sleep 1000")
        self.until(lambda: heard.out)
        self.abandon()
        self.driver = self.make()
        self.go(self.driver.recover({5: workload}))
        self.until(lambda: b"sleep" not in self.members())
        self.assertEqual(self.status(5).boot, "booted")

    def test_doesNotWaitForWhatACommandLeaves(self) -> None:
        """
        A command is over when it has ended, though what it left behind holds its output.
        """
        self.start(Workload(5, "web.exp1.lab"))
        for terminal in (False, True):
            _, heard = self.execute("sh", "-c", "setsid sleep 1000 & echo hi; exit 5", terminal=terminal)
            self.until(lambda heard=heard: heard.ends)  # type: ignore[misc]
            self.assertEqual((heard.out.strip(), heard.ends), (b"hi", [5]))

    def test_hasAConsole(self) -> None:
        """
        What goes to its console is heard by who is attached, and kept.
        """
        self.start(Workload(5, "web.exp1.lab"))
        heard = Heard()
        talk = self.driver.attach(5, heard)
        self.addCleanup(talk.close)
        self.told("sh", "-c", "echo hello there >/dev/console")
        self.until(lambda: b"hello there" in heard.out)
        found, behind = self.driver.read_log(5, "console", 0, 10000)
        self.assertIn(b"hello there\n", found)
        self.told("sh", "-c", "echo more >/dev/console")
        self.until(lambda: self.driver.read_log(5, "console", behind, 10000)[0] == b"more\n")
        self.go(self.driver.ensure_stopped(5))
        self.until(lambda: heard.ends == [None])
        with self.assertRaises(OSError):
            self.driver.attach(5, Heard())

    def test_startsAfterAnyCrash(self) -> None:
        """
        Whatever step of a start the daemon died in, the next one reaches the boot, once.
        """
        steps = (
            (Rootfs, "mount"), (Runtime, "create"), (Runtime, "start"), (Rootfs, "make"),
        )  # fmt: skip
        for serial, (owner, name) in enumerate(steps, 10):
            for late in (False, True):
                with self.subTest(step=name, late=late):
                    one = serial * 2 + late
                    workload = Workload(one, "web.exp1.lab", start_command="echo once >>/root/log")
                    original = getattr(owner, name)

                    async def dies(*args: Any, late: bool = late, original: Any = original, **more: Any) -> Any:
                        if late:
                            await original(*args, **more)
                        return await Deferred()

                    with mock.patch.object(owner, name, dies):
                        Deferred.fromCoroutine(self.driver.ensure_started(workload))
                        support.idle(self.host.loop, 0.4)
                        self.abandon()
                    self.remake({one: workload})
                    self.start(workload)
                    self.until(partial(self.has_ended, one))
                    root = self.go(self.host.files.mount(one))
                    self.assertEqual((root / "root/log").read_text(), "once\n")

    def has_ended(self, serial: int) -> bool:
        return self.status(serial).start_command == "ended"

    def test_stopsAfterACrash(self) -> None:
        """
        A daemon that dies while it stops or destroys a sliver leaves one that the next can stop or destroy.
        """
        for late in (False, True):
            workload = self.start(Workload(5 + late, "web.exp1.lab", start_command=self.goes_on))
            original = Runtime.delete

            async def dies(*args: Any, late: bool = late, original: Any = original) -> None:
                if late:
                    await original(*args)
                await Deferred[None]()

            with mock.patch.object(Runtime, "delete", dies):
                Deferred.fromCoroutine(self.driver.ensure_destroyed(5 + late))
                support.idle(self.host.loop, 0.4)
                self.abandon()
            self.remake({5 + late: workload})
            self.assertEqual((self.status(5 + late).boot, self.status(5 + late).code), ("dead", 0))

    def test_saysWhyNothingRuns(self) -> None:
        """
        Without a runtime that works the driver says so, and so does every sliver; the daemon goes on.
        """
        self.driver.close()
        self.driver = self.host.driver(runtimes=("/bin/false", "no-such-runtime"))
        self.go(self.driver.recover({}))
        self.assertIn("/bin/false does not work here", self.driver.problems()[0])
        self.assertIn("there is no no-such-runtime", self.driver.version)
        self.go(self.driver.ensure_started(Workload(5, "web.exp1.lab")))
        self.assertEqual((self.status(5).boot, self.status(5).code), ("dead", 125))
        self.assertIn("/bin/false", self.status(5).problems[-1])

    def test_startsAgainAfterTheHost(self) -> None:
        """
        After a restart of the host what was stopped is still so, and what ran has not been started yet.
        """
        one = self.start(Workload(5, "web.exp1.lab"))
        self.go(self.driver.ensure_stopped(5))
        two = self.start(Workload(6, "db.exp1.lab"))
        self.abandon()
        self.host.cgroups.kill(6)
        self.until(lambda: not self.host.cgroups.members(6))
        (self.host.run / "boot_id").write_text("another\n")
        self.remake({5: one, 6: two})
        self.assertEqual((self.status(5).boot, self.status(5).code), ("dead", 0))
        self.assertEqual((self.status(6).boots, self.status(6).boot), (0, None))
        self.start(two)


@needs.needs_root
@needs.needs_tool("conmon", "runc", "catatonit", "busybox", "ip", "tc", "nft")
class NetworkedTests(unittest.TestCase):
    """
    With a network, on a host of its own: a network namespace of the test's.
    """

    def setUp(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        before = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.addCleanup(os.close, before)
        if libc.unshare(_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        self.addCleanup(libc.setns, before, _NEWNET)
        subprocess.run(["ip", "link", "set", "dev", "lo", "up"], check=True, timeout=10)
        shelved = Shelved()
        self.addCleanup(shelved.close)
        self.host = Host(shelved)
        self.addCleanup(self.host.close)

    def make(self, *known: int) -> ContainerDriver:
        """
        @return: a daemon's driver that has not recovered yet.
        """
        host = self.host
        settings = config.Network(subnet="10.97.0.0/24")
        state = host.directory / "network"
        found, why = host.go(Network.find(settings, host.instance, state, host.spawner, host.clock))
        if found is None:
            self.skipTest(f"{needs.CANNOT}{why}")
        host.go(found.recover(known))
        return host.driver(network=found)

    def test_isReached(self) -> None:
        """
        A container has an address and a name, is reached there, keeps it when the daemon restarts, and gives it back.
        """
        driver = self.make()
        self.host.go(driver.recover({}))
        rspec = {"net_max": 8_000_000, "disk_max": 32 << 10}
        command = "while :; do echo hello | nc -l -p 7777; done"
        workload = Workload(5, "web.exp1.lab", start_command=command, rspec=rspec)
        self.host.go(driver.ensure_created(workload))
        self.host.go(driver.ensure_started(workload))
        self.host.until(lambda: driver.status()[5].boot == "booted")
        address = driver.status()[5].address
        assert address is not None
        self.assertTrue(address.startswith("10.97.0."))
        self.assertEqual(driver.status()[5].problems, tuple(driver._standing))
        self.assertEqual(self.greeting(address), b"hello\n")
        self.assertEqual(driver.in_force(5).get("net_max"), 8_000_000)
        root = self.host.run / "bundles/5/1"
        self.assertIn(f"{address}\tweb.exp1.lab", (root / "hosts").read_text())
        before = driver.status()[5]
        driver.close()
        driver = self.make(5)
        self.host.go(driver.recover({5: workload}))
        self.assertEqual(driver.status()[5], before)
        self.assertEqual(self.greeting(address), b"hello\n")
        self.host.go(driver.ensure_configured(evolve(workload, rspec={**rspec, "net_max": 16_000_000})))
        self.assertEqual(driver.in_force(5).get("net_max"), 16_000_000)
        self.host.go(driver.ensure_destroyed(5))
        links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True, timeout=10).stdout
        self.assertEqual([line for line in links.splitlines() if "@" in line], [])
        self.assertEqual(self.host.left(), [])
        driver.close()

    def greeting(self, address: str) -> bytes:
        """
        @return: what it says to who connects.
        """
        deadline = self.host.loop.time() + 10
        while True:
            try:
                with socket.create_connection((address, 7777), 2) as link:
                    return link.recv(100)
            except OSError:
                if self.host.loop.time() > deadline:
                    raise
            support.idle(self.host.loop, 0.05)


del Containers, DriverContract
