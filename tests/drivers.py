"""
What every driver promises, as tests: mixed into one test case per driver.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve

from hostline.server.drivers.driver import CANNOT_START, Activity, Conversation, Driver, Status, Workload

if TYPE_CHECKING:
    from unittest import TestCase as _Base
else:
    _Base = object


class Heard:
    """
    A hearer that keeps it all.
    """

    def __init__(self) -> None:
        self.out = b""
        self.err = b""
        self.ends: list[int | None] = []

    def said(self, stream: str, data: bytes) -> None:
        if stream == "out":
            self.out += data
        else:
            self.err += data

    def ended(self, code: int | None) -> None:
        self.ends.append(code)


class DriverContract(_Base):
    """
    @ivar driver: made by L{remake}, recovered with what is known.
    @ivar heard: the serials that C{changed} was called with.
    """

    driver: Driver
    heard: list[int]
    #: A start command that goes on; the fake understands C{sleep} and C{exit}.
    goes_on = "sleep 1000"
    #: Names of slivers.
    web, db = "web.exp1.lab", "db.exp1.lab"

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

    def write_log(self, serial: int, stream: str, text: bytes) -> None:
        """
        Have a sliver that was created write into one of its logs, which is empty before.
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
        self.go(self.driver.ensure_created(Workload(5, self.web)))
        self.assertEqual(self.status(5), Status(5, uid=self.status(5).uid))

    def test_saysItsUid(self) -> None:
        """
        A sliver's uid is known as soon as it is made, and is the same when it is up, to the next daemon, and stopped.
        """
        workload = Workload(5, self.web)
        self.go(self.driver.ensure_created(workload))
        uid = self.status(5).uid
        self.assertIsInstance(uid, int)
        self.start(workload)
        self.assertEqual(self.status(5).uid, uid)
        self.remake({5: workload})
        self.assertEqual(self.status(5).uid, uid)
        self.go(self.driver.ensure_stopped(5))
        self.assertEqual(self.status(5).uid, uid)

    def test_bootsWithoutCommand(self) -> None:
        """
        Without a start command a sliver is booted and has no exit status.
        """
        self.start(Workload(5, self.web))
        status = self.status(5)
        self.assertEqual((status.boots, status.start_command, status.code), (1, "none", None))
        self.assertIsInstance(status.pid, int)
        self.assertIn(5, self.heard)

    def test_staysUpWhenCommandEnds(self) -> None:
        """
        The start command's exit status is shown, and the sliver is still booted.
        """
        self.start(Workload(5, self.web, start_command="exit 7"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual((self.status(5).boot, self.status(5).code), ("booted", 7))

    def test_hasNoCodeWhileCommandRuns(self) -> None:
        """
        While the start command runs there is no exit status.
        """
        self.start(Workload(5, self.web, start_command=self.goes_on))
        self.assertEqual((self.status(5).start_command, self.status(5).code), ("running", None))

    def test_startsOnceWhenAskedTwice(self) -> None:
        """
        Starting the boot that was reached does nothing.
        """
        workload = self.start(Workload(5, self.web, start_command=self.goes_on))
        before = self.status(5)
        self.go(self.driver.ensure_started(workload))
        self.assertEqual(self.status(5), before)

    def test_startsAgainWhenBootsIsHigher(self) -> None:
        """
        A higher boot ends the one before and starts anew.
        """
        workload = self.start(Workload(5, self.web, start_command=self.goes_on))
        pid = self.status(5).pid
        self.start(evolve(workload, boots=3, start_command="exit 4"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual((self.status(5).boots, self.status(5).code), (3, 4))
        self.assertNotEqual(self.status(5).pid, pid)

    def test_isDeadWithZeroWhenStopped(self) -> None:
        """
        A sliver stopped on purpose is dead with code 0, and a driver that comes later says the same.
        """
        workload = self.start(Workload(5, self.web, start_command=self.goes_on))
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
        workload = self.start(Workload(5, self.web))
        self.go(self.driver.ensure_stopped(5))
        self.go(self.driver.ensure_started(workload))
        self.assertEqual(self.status(5).boot, "dead")

    def test_startsAfterStop(self) -> None:
        """
        A stopped sliver comes up again with the next boot.
        """
        workload = self.start(Workload(5, self.web))
        self.go(self.driver.ensure_stopped(5))
        self.start(evolve(workload, boots=2))
        self.assertEqual((self.status(5).boots, self.status(5).code), (2, None))

    def test_isSilentWhenStoppedTwice(self) -> None:
        """
        Stopping what is stopped, was never started or is not known changes nothing.
        """
        self.start(Workload(5, self.web))
        self.go(self.driver.ensure_created(Workload(6, self.db)))
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
        workload = self.start(Workload(5, self.web, start_command=self.goes_on))
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
        self.start(Workload(5, self.web, start_command=self.goes_on))
        self.heard.clear()
        for serial in (5, 5, 6):
            self.go(self.driver.ensure_destroyed(serial))
        self.assertEqual(dict(self.driver.status()), {})
        self.assertIn(5, self.heard)

    def test_is125WhenItCannotBeStarted(self) -> None:
        """
        A start that fails is a dead sliver with code 125 and the reason; the next boot may work.
        """
        workload = Workload(5, self.web, start_command="exit 0")
        self.make_unstartable(5)
        self.go(self.driver.ensure_started(workload))
        self.until(lambda: self.status(5).boot == "dead")
        self.assertEqual((self.status(5).boots, self.status(5).code), (1, CANNOT_START))
        self.assertTrue(any("could not be started" in problem for problem in self.status(5).problems))

    def test_goesOnWhenTheDaemonRestarts(self) -> None:
        """
        A running sliver is the same sliver to the next daemon.
        """
        workload = self.start(Workload(5, self.web, start_command=self.goes_on))
        before = self.status(5)
        self.remake({5: workload})
        self.assertEqual(self.status(5), before)
        self.go(self.driver.ensure_started(workload))
        self.assertEqual(self.status(5), before)

    def test_learnsWhatEndedMeanwhile(self) -> None:
        """
        What happened while no daemon ran is known to the next.
        """
        workload = self.start(Workload(5, self.web, start_command=self.goes_on))
        self.driver.close()
        self.kill_node(5)
        self.remake({5: workload})
        self.assertEqual((self.status(5).boot, self.status(5).code), ("dead", 137))

    def test_removesWhatHasNoRecord(self) -> None:
        """
        What carries our tag and has no record is gone after the next start of the daemon; the rest goes on.
        """
        workload = self.start(Workload(5, self.web, start_command=self.goes_on))
        self.start(Workload(6, self.db, start_command=self.goes_on))
        self.remake({5: workload})
        self.assertEqual(list(self.driver.status()), [5])
        self.assertEqual(self.status(5).boot, "booted")

    def test_leavesAloneWhatMayBeSomebodys(self) -> None:
        """
        Where records were lost, what has none goes on, out of reach; once it has one again it is found.
        """
        workload = self.start(Workload(5, self.web, start_command=self.goes_on))
        pid = self.status(5).pid
        self.remake({}, keep_strays=True)
        self.remake({5: workload})
        self.assertEqual((self.status(5).boot, self.status(5).pid), ("booted", pid))

    def test_keepsWhichBuildItIs(self) -> None:
        """
        The driver keeps the making that a sliver has, also when a later one is wanted, until it is destroyed.
        """
        workload = Workload(5, self.web)
        self.go(self.driver.ensure_created(workload))
        again = evolve(workload, builds=2)
        self.go(self.driver.ensure_created(again))
        self.assertEqual(self.status(5).builds, 1)
        self.go(self.driver.ensure_destroyed(5))
        self.go(self.driver.ensure_created(again))
        self.assertEqual(self.status(5), Status(5, builds=2, uid=self.status(5).uid))
        self.start(again)
        self.remake({5: again})
        self.assertEqual((self.status(5).boot, self.status(5).builds), ("booted", 2))

    def test_holdsWhatItIsConfiguredTo(self) -> None:
        """
        A changed limit is in force while the sliver runs; saying it again, or of one not up or not known, is fine.
        """
        workload = self.start(Workload(5, self.web, rspec={"pids_max": 50, "cpu_share": 32}))
        held = set(self.driver.in_force(5)) & {"pids_max", "cpu_share"}
        before = self.status(5)
        changed = evolve(workload, rspec={"pids_max": 70, "cpu_share": 48})
        for _ in range(2):
            self.go(self.driver.ensure_configured(changed))
            found = self.driver.in_force(5)
            self.assertEqual({one: found[one] for one in held}, {one: changed.rspec[one] for one in held})
        self.assertEqual(self.status(5), before)
        self.go(self.driver.ensure_created(Workload(6, self.db)))
        self.go(self.driver.ensure_configured(Workload(6, self.db, rspec={"pids_max": 70})))
        self.go(self.driver.ensure_configured(Workload(7, self.web)))
        self.assertEqual(self.status(6), Status(6, uid=self.status(6).uid))
        self.assertNotIn(7, self.driver.status())

    def execute(self, *argv: str, terminal: bool = False) -> tuple[Conversation, Heard]:
        """
        Begin a command in sliver 5.
        """
        heard = Heard()
        talk = self.driver.execute(5, argv, heard, terminal=terminal)
        self.addCleanup(talk.close)
        return talk, heard

    def test_executesCommands(self) -> None:
        """
        Output, errors and exit status of a command are told apart, and told once.
        """
        self.start(Workload(5, self.web))
        _, heard = self.execute("sh", "-c", "echo a b; echo c >&2; exit 7")
        self.until(lambda: heard.ends)
        self.assertEqual((heard.out, heard.err, heard.ends), (b"a b\n", b"c\n", [7]))

    def test_takesWordsAsTheyAre(self) -> None:
        """
        No shell reads the words of a command.
        """
        self.start(Workload(5, self.web))
        _, heard = self.execute("echo", "a  b", "$HOME", "'c")
        self.until(lambda: heard.ends)
        self.assertEqual((heard.out, heard.ends), (b"a  b $HOME 'c\n", [0]))

    def test_is127WhenThereIsNoSuchProgram(self) -> None:
        """
        A command that is not there ends with 127, as in a shell.
        """
        self.start(Workload(5, self.web))
        _, heard = self.execute("no-such-program")
        self.until(lambda: heard.ends)
        self.assertEqual(heard.ends, [127])
        self.assertIn(b"no-such-program", heard.err)

    def test_feedsCommands(self) -> None:
        """
        Input reaches a command, and so does its end.
        """
        self.start(Workload(5, self.web))
        talk, heard = self.execute("cat")
        talk.write(b"hello ")
        self.until(lambda: heard.out == b"hello ")
        talk.write(b"world\n")
        talk.end_input()
        self.until(lambda: heard.ends)
        self.assertEqual((heard.out, heard.ends, talk.unwritten), (b"hello world\n", [0], 0))

    def test_keepsQuietWhenPaused(self) -> None:
        """
        Nothing is told while paused, and all after.
        """
        self.start(Workload(5, self.web))
        talk, heard = self.execute("sh", "-c", "echo one; exit 3")
        talk.pause()
        self.go(self.driver.ensure_created(Workload(6, self.db)))
        self.assertEqual((heard.out, heard.ends), (b"", []))
        talk.resume()
        self.until(lambda: heard.ends)
        self.assertEqual((heard.out, heard.ends), (b"one\n", [3]))

    def test_tellsNobodyWhenClosed(self) -> None:
        """
        Who closed a conversation hears nothing more; the sliver goes on.
        """
        self.start(Workload(5, self.web))
        talk, heard = self.execute("sleep", "1000")
        talk.close()
        _, other = self.execute("echo", "still", "up")
        self.until(lambda: other.ends)
        self.assertEqual((heard.out, heard.ends), (b"", []))
        self.assertEqual(self.status(5).boot, "booted")

    def test_endsCommandsWithTheSliver(self) -> None:
        """
        A command ends with its sliver, killed.
        """
        self.start(Workload(5, self.web))
        _, heard = self.execute("sleep", "1000")
        self.go(self.driver.ensure_stopped(5))
        self.until(lambda: heard.ends)
        self.assertIn(heard.ends, ([137], [143]))

    def test_executesNothingInOneThatIsNotUp(self) -> None:
        """
        A sliver that is not there, was never started or was stopped runs no command, and says so.
        """
        self.start(Workload(5, self.web))
        self.go(self.driver.ensure_created(Workload(6, self.db)))
        self.go(self.driver.ensure_stopped(5))
        for serial in (5, 6, 7):
            with self.assertRaises(OSError):
                self.driver.execute(serial, ["echo"], Heard())

    def keep_busy(self, serial: int) -> None:
        """
        Have a sliver that is up compute from now on.
        """
        self.execute("sh", "-c", "while :; do :; done")

    def activity(self, serial: int) -> Activity | None:
        found: list[Activity | None] = []

        async def ask() -> None:
            found.append(await self.driver.activity(serial))

        self.go(ask())
        return found[0]

    def test_saysWhetherItIsUsed(self) -> None:
        """
        A sliver in which nothing is done does nothing; one that computes is as busy as one task can be.
        """
        self.start(Workload(5, self.web))

        def load() -> float:
            said = self.activity(5)
            assert said is not None
            self.assertEqual(said.experiment_packets, 0)
            return said.load

        self.until(lambda: load() < 0.5)
        self.keep_busy(5)
        self.until(lambda: load() >= 0.9)

    def test_saysNothingOfOneThatIsNotUp(self) -> None:
        """
        What is done in a sliver that is not there, was never started or was stopped is not known.
        """
        self.start(Workload(5, self.web))
        self.go(self.driver.ensure_created(Workload(6, self.db)))
        self.go(self.driver.ensure_stopped(5))
        self.assertEqual([self.activity(serial) for serial in (5, 6, 7)], [None] * 3)

    def test_readsLogsInParts(self) -> None:
        """
        A log is read from an offset, from its end, and from its beginning once it was begun anew.
        """
        self.go(self.driver.ensure_created(Workload(5, self.web)))
        self.write_log(5, "out", b"0123456789")
        self.assertEqual(self.driver.read_log(5, "out", 0, 4), (b"0123", 4))
        self.assertEqual(self.driver.read_log(5, "out", 4, 100), (b"456789", 10))
        self.assertEqual(self.driver.read_log(5, "out", 10, 100), (b"", 10))
        self.assertEqual(self.driver.read_log(5, "out", -3, 100), (b"789", 10))
        self.assertEqual(self.driver.read_log(5, "out", -30, 2), (b"01", 2))
        self.assertEqual(self.driver.read_log(5, "out", 11, 2), (b"01", 2))
        for serial, stream in ((5, "err"), (5, "nonsense"), (5, "../uid"), (6, "out")):
            self.assertEqual(self.driver.read_log(serial, stream, 0, 100), (b"", 0))

    def test_isSilentWhenClosed(self) -> None:
        """
        After close nobody is called.
        """
        self.start(Workload(5, self.web, start_command=self.goes_on))
        self.heard.clear()
        self.driver.close()
        self.kill_node(5)
        self.assertEqual(self.heard, [])
