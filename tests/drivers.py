"""
What every driver promises, as tests: mixed into one test case per driver.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve

from hostline.server.drivers.driver import CANNOT_START, Driver, Status, Workload

if TYPE_CHECKING:
    from unittest import TestCase as _Base
else:
    _Base = object


class DriverContract(_Base):
    """
    @ivar driver: made by L{remake}, recovered with what is known.
    @ivar heard: the serials that C{changed} was called with.
    """

    driver: Driver
    heard: list[int]
    #: A start command that goes on; the fake understands C{sleep} and C{exit}.
    goes_on = "sleep 1000"

    # Each driver's test case says how:

    def make(self) -> Driver:
        """
        @return: a driver that looks at the same host as the one before it.
        """
        raise NotImplementedError

    def go(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """
        Run a coroutine to its end.
        """
        raise NotImplementedError

    def until(self, true: Callable[[], object]) -> None:
        """
        Let time pass until something is so; fail if it takes too long.
        """
        raise NotImplementedError

    def kill_node(self, serial: int) -> None:
        """
        End the node's own process by SIGKILL.
        """
        raise NotImplementedError

    def make_unstartable(self, serial: int) -> None:
        """
        See to it that the next start fails.
        """
        raise NotImplementedError

    def remake(self, known: Mapping[int, Workload], keep_strays: bool = False) -> None:
        """
        The daemon dies and comes back.
        """
        self.driver.close()
        self.driver = self.make()
        self.heard = []
        self.driver.changed = lambda serial: self.heard.append(serial)
        self.go(self.driver.recover(known, keep_strays))

    def status(self, serial: int) -> Status:
        return self.driver.status()[serial]

    def start(self, workload: Workload) -> Workload:
        """
        Create and start, and wait until it is up.
        """
        self.go(self.driver.ensure_created(workload))
        self.go(self.driver.ensure_started(workload))
        self.until(lambda: self.status(workload.serial).boot == "booted")
        return workload

    # The promises

    def test_isNotStartedWhenCreated(self) -> None:
        """
        A sliver that was created and never started has reached no boot.
        """
        self.go(self.driver.ensure_created(Workload(5, "web.exp1.lab")))
        self.assertEqual(self.status(5), Status(5))

    def test_bootsWithoutCommand(self) -> None:
        """
        Without a start command a sliver is booted and has no exit status.
        """
        self.start(Workload(5, "web.exp1.lab"))
        status = self.status(5)
        self.assertEqual((status.boots, status.start_command, status.code), (1, "none", None))
        self.assertIsInstance(status.pid, int)
        self.assertIn(5, self.heard)

    def test_staysUpWhenCommandEnds(self) -> None:
        """
        The start command's exit status is shown, and the sliver is still booted.
        """
        self.start(Workload(5, "web.exp1.lab", start_command="exit 7"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual((self.status(5).boot, self.status(5).code), ("booted", 7))

    def test_hasNoCodeWhileCommandRuns(self) -> None:
        """
        While the start command runs there is no exit status.
        """
        self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        self.assertEqual((self.status(5).start_command, self.status(5).code), ("running", None))

    def test_startsOnceWhenAskedTwice(self) -> None:
        """
        Starting the boot that was reached does nothing.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        before = self.status(5)
        self.go(self.driver.ensure_started(workload))
        self.assertEqual(self.status(5), before)

    def test_startsAgainWhenBootsIsHigher(self) -> None:
        """
        A higher boot ends the one before and starts anew.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        pid = self.status(5).pid
        self.start(evolve(workload, boots=3, start_command="exit 4"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual((self.status(5).boots, self.status(5).code), (3, 4))
        self.assertNotEqual(self.status(5).pid, pid)

    def test_isDeadWithZeroWhenStopped(self) -> None:
        """
        A sliver stopped on purpose is dead with code 0, and a driver that comes later says the same.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        self.heard.clear()
        self.go(self.driver.ensure_stopped(5))
        status = self.status(5)
        self.assertEqual((status.boot, status.code, status.pid, status.start_command), ("dead", 0, None, "ended"))
        self.assertIn(5, self.heard)
        self.remake({5: workload})
        self.assertEqual((self.status(5).boots, self.status(5).boot, self.status(5).code), (1, "dead", 0))

    def test_isNotRestartedWhenItsBootEnded(self) -> None:
        """
        Asking again for a boot that has ended does not start it a second time.
        """
        workload = self.start(Workload(5, "web.exp1.lab"))
        self.go(self.driver.ensure_stopped(5))
        self.go(self.driver.ensure_started(workload))
        self.assertEqual(self.status(5).boot, "dead")

    def test_startsAfterStop(self) -> None:
        """
        A stopped sliver comes up again with the next boot.
        """
        workload = self.start(Workload(5, "web.exp1.lab"))
        self.go(self.driver.ensure_stopped(5))
        self.start(evolve(workload, boots=2))
        self.assertEqual((self.status(5).boots, self.status(5).code), (2, None))

    def test_isSilentWhenStoppedTwice(self) -> None:
        """
        Stopping what is stopped, was never started or is not known changes nothing.
        """
        self.start(Workload(5, "web.exp1.lab"))
        self.go(self.driver.ensure_created(Workload(6, "db.exp1.lab")))
        self.go(self.driver.ensure_stopped(5))
        before = dict(self.driver.status())
        for serial in (5, 6, 7):
            self.go(self.driver.ensure_stopped(serial))
        self.assertEqual(dict(self.driver.status()), before)
        self.assertIsNone(self.status(6).boot)

    def test_isDeadWhenNodeIsKilled(self) -> None:
        """
        A node whose own process was killed is dead with 128 + the signal; stopping it later does not hide that.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        self.kill_node(5)
        self.until(lambda: self.status(5).boot == "dead")
        self.assertEqual(self.status(5).code, 137)
        self.go(self.driver.ensure_stopped(5))
        self.assertEqual(self.status(5).code, 137)
        self.remake({5: workload})
        self.assertEqual(self.status(5).code, 137)

    def test_isForgottenWhenDestroyed(self) -> None:
        """
        A destroyed sliver has no status; destroying it again, or one that never was, is fine.
        """
        self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        self.heard.clear()
        for serial in (5, 5, 6):
            self.go(self.driver.ensure_destroyed(serial))
        self.assertEqual(dict(self.driver.status()), {})
        self.assertIn(5, self.heard)

    def test_is125WhenItCannotBeStarted(self) -> None:
        """
        A start that fails is a dead sliver with code 125 and the reason; the next boot may work.
        """
        workload = Workload(5, "web.exp1.lab", start_command="exit 0")
        self.make_unstartable(5)
        self.go(self.driver.ensure_started(workload))
        self.until(lambda: self.status(5).boot == "dead")
        self.assertEqual((self.status(5).boots, self.status(5).code), (1, CANNOT_START))
        self.assertTrue(any("could not be started" in problem for problem in self.status(5).problems))

    def test_goesOnWhenTheDaemonRestarts(self) -> None:
        """
        A running sliver is the same sliver to the next daemon.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        before = self.status(5)
        self.remake({5: workload})
        self.assertEqual(self.status(5), before)
        self.go(self.driver.ensure_started(workload))
        self.assertEqual(self.status(5), before)

    def test_learnsWhatEndedMeanwhile(self) -> None:
        """
        What happened while no daemon ran is known to the next.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        self.driver.close()
        self.kill_node(5)
        self.remake({5: workload})
        self.assertEqual((self.status(5).boot, self.status(5).code), ("dead", 137))

    def test_removesWhatHasNoRecord(self) -> None:
        """
        What carries our tag and has no record is gone after the next start of the daemon; the rest goes on.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        self.start(Workload(6, "db.exp1.lab", start_command=self.goes_on))
        self.remake({5: workload})
        self.assertEqual(list(self.driver.status()), [5])
        self.assertEqual(self.status(5).boot, "booted")

    def test_leavesAloneWhatMayBeSomebodys(self) -> None:
        """
        Where records were lost, what has none goes on, out of reach; once it has one again it is found.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        pid = self.status(5).pid
        self.remake({}, keep_strays=True)
        self.remake({5: workload})
        self.assertEqual((self.status(5).boot, self.status(5).pid), ("booted", pid))

    def test_isSilentWhenClosed(self) -> None:
        """
        After close nobody is called.
        """
        self.start(Workload(5, "web.exp1.lab", start_command=self.goes_on))
        self.heard.clear()
        self.driver.close()
        self.kill_node(5)
        self.assertEqual(self.heard, [])
