"""
What the tests of drivers with real processes share: one state directory, and a look at what is left of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import unittest
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from hostline.server.drivers import ending
from hostline.server.drivers.driver import Driver, Workload
from hostline.server.drivers.process import ProcessDriver
from hostline.server.supervise import members, shim, survey
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.spawn import Spawner
from hostline.server.supervise.uids import UidRange
from tests.drivers import DriverContract
from tests.live import support
from tests.live.hosted import firsts, own_number


class Processes(DriverContract, unittest.TestCase):
    """
    One state directory, one driver at a time; at the end nothing of it may be left.
    """

    root: ClassVar[bool] = False
    with_cgroups: ClassVar[bool] = False
    grace_s: float = 5.0
    letter = "p"

    def setUp(self) -> None:
        self.loop = self.new_loop()
        self.directory = support.temporary_directory()
        self.instance = os.urandom(8).hex()
        number, held = own_number()
        self.addCleanup(held.close)
        self.first_uid = firsts(number)[0]
        self.spawner = Spawner(self.loop)
        self.cgroups = self.find_cgroups().of(self.letter) if self.with_cgroups else None
        self.driver: Driver = self.make()
        self.addCleanup(self.clean)
        self.remake({})

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def find_cgroups(self) -> Cgroups:
        found, why = Cgroups.find(self.instance)
        if found is None:
            raise AssertionError(why)
        return found

    def make(self) -> ProcessDriver:
        return ProcessDriver(**self.common(), as_root=self.root, hidden=[self.directory / "hidden"])

    def common(self) -> dict[str, Any]:
        """
        @return: what every driver of processes is told.
        """
        return {
            "directory": self.directory / "slivers",
            "run": self.directory / "run",
            "instance": self.instance,
            "spawner": self.spawner,
            "loop": self.loop,
            "clock": support.LoopClock(self.loop),
            "uids": UidRange(self.first_uid, 1000),
            "cgroups": self.cgroups,
            "grace_s": self.grace_s,
        }

    def go(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        support.run(self.loop, coroutine)

    def until(self, true: Callable[[], object]) -> None:
        support.until(self.loop, true)

    def kill_node(self, serial: int) -> None:
        os.kill(self.node(serial), signal.SIGKILL)
        self.until(lambda: self.files(serial).exit is not None)

    def make_unstartable(self, serial: int) -> None:
        (self.directory / "slivers" / str(serial)).write_text("in the way")
        self.addCleanup(support.remove_directory, self.directory)

    def write_log(self, serial: int, stream: str, text: bytes) -> None:
        (self.directory / f"slivers/{serial}/log/hostline/start_command.{stream}").write_bytes(text)

    def clean(self) -> None:
        """
        The records are gone: a last daemon leaves nothing of ours behind.
        """
        try:
            self.remake({})
            self.assertEqual(dict(self.driver.status()), {})
            self.until(lambda: self.ours() == {})
            left = [p.name for p in (self.directory / "slivers").iterdir()]
            self.assertEqual(left if left != ["5"] else [".trash"], [".trash"])
            self.until(lambda: not list((self.directory / "slivers" / ".trash").iterdir()))
            self.assertEqual([p.name for p in (self.directory / "run" / "slivers").iterdir()], [])
            self.assertNotIn(str(self.directory), Path("/proc/self/mountinfo").read_text())
            if self.cgroups is not None:
                self.assertEqual(self.cgroups.serials(), set())
                self.cgroups.close()
                self.assertEqual(list(Path("/sys/fs/cgroup").glob(f"*/hostline-{self.instance[:12]}")), [])
        finally:
            self.driver.close()
            self.spawner.close()
            self.loop.close()
            if self.cgroups is not None:
                for serial in self.cgroups.serials():
                    self.cgroups.kill(serial)
            support.remove_directory(self.directory)

    # What the tests look at

    def ours(self) -> dict[int, list[shim.Process]]:
        """
        @return: every living process with our tag or one of our uids, by serial.
        """
        uids = {self.first_uid + n: n for n in range(1000)} if self.root else None
        looked = survey.Survey(support.LoopClock(self.loop), run=self.directory / "run").look_now()
        return survey.members(looked, self.instance, uids)

    def files(self, serial: int, boots: int = 1) -> shim.Boot:
        return shim.read_boot(self.directory / "run" / "slivers" / str(serial) / str(boots))

    def node(self, serial: int) -> int:
        pid = self.status(serial).pid
        assert pid is not None
        return pid

    def keeper(self, serial: int) -> int:
        keeper = self.files(serial).keeper
        assert keeper is not None
        return keeper.pid

    def out(self, serial: int = 5, stream: str = "out") -> str:
        return (self.directory / f"slivers/{serial}/log/hostline/start_command.{stream}").read_text()

    def restart_host(self) -> None:
        """
        All processes are gone; C{remake} is the daemon after that.
        """
        self.driver.close()
        for processes in self.ours().values():
            for process in processes:
                survey.signal_process(process, signal.SIGKILL)
        self.until(lambda: self.ours() == {})
        (self.directory / "run" / "boot_id").write_text("another\n")

    @contextmanager
    def unkillable(self) -> Iterator[None]:
        """
        In here a process 4242 of every sliver does not end, and nobody waits long for it.
        """

        async def kill(self: members.Members, serial: int, **more: object) -> set[int]:
            return {4242}

        with (
            mock.patch.object(members.Members, "kill", kill),
            mock.patch.multiple(ending, END_S=0.05, BREATH_S=0.05),
        ):
            yield

    def ran(self, command: str, **more: Any) -> str:
        """
        Run a start command to its end.

        @return: its output.
        """
        self.start(Workload(5, "web.exp1.lab", start_command=command, **more))
        self.until(lambda: self.status(5).start_command == "ended")
        return self.out()

    def said(self, serial: int = 5) -> int:
        """
        @return: the pid that a start command wrote to its output.
        """
        self.until(lambda: self.out(serial).endswith("\n"))
        return int(self.out(serial).split()[0])
