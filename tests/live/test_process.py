"""
The process driver with real processes: what every driver promises, and what only processes do.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest
from contextlib import suppress
from pathlib import Path
from unittest import mock

from attrs import evolve

from hostline.server.drivers.driver import CANNOT_START, Workload
from hostline.server.drivers.process import ProcessDriver
from hostline.server.supervise import mounts, shim
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.spawn import Spawner
from tests import needs
from tests.live import support
from tests.live.processes import Processes
from tests.scale import SOAK

ROOT = os.geteuid() == 0
#: The promises in which something is ended, or has ended.
_ENDS = re.compile("(?i)end|kill|stop|destroy|dead|gone|leaves|loses|removes|restart|forks|toomuch|away|stray")


class ProcessTests(Processes):
    """
    Without any privilege: the daemon's own user, no control groups.
    """

    def test_keepsArgumentsAsTheyWere(self) -> None:
        """
        Blanks, quotes, newlines and other languages in a start command and its environment survive.
        """
        out = self.ran("printf '%s|' \"a  b\" 'c\"d' \"$X\"\nprintf 'ü\\n'", environment={"X": "1 '2'\n\"3\" $HOME"})
        self.assertEqual(out, 'a  b|c"d|1 \'2\'\n"3" $HOME|ü\n')

    def test_isNotShownToAll(self) -> None:
        """
        A start command is in no process's arguments, whoever looks; only its file has it, and it knows no difference.
        """
        word = f"secret-{self.instance}"
        begin = 'printf \'%s|\' "$0" $# "$-"; ls /proc/self/fd | wc -l; read x || echo none'
        self.start(Workload(5, "web.exp1.lab", start_command=f"{begin}; sleep 1000 # {word}"))
        self.until(lambda: self.out().endswith("none\n"))
        flags = subprocess.run(["/bin/sh", "-c", 'echo "$-"'], capture_output=True, text=True, check=True).stdout
        self.assertEqual(self.out(), f"/bin/sh|0|{flags.strip()}|4\nnone\n")
        seen = b""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                seen += path.read_bytes()
        self.assertIn(str(self.directory).encode(), seen)
        self.assertNotIn(word.encode(), seen)

    def test_takesALongCommand(self) -> None:
        """
        A start command may be longer than an argument.
        """
        self.assertEqual(self.ran("echo begin\n" + "true\n" * 60000 + "echo end; exit 3"), "begin\nend\n")
        self.assertEqual(self.status(5).code, 3)

    def test_tellsWhatIsNoCommand(self) -> None:
        """
        What the shell cannot read has its exit status, and is explained.
        """
        self.ran("if then; fi (")
        self.assertEqual(self.status(5).code, subprocess.run(["/bin/sh", "-c", "if then; fi ("], check=False,
                                                             stderr=subprocess.DEVNULL).returncode)  # fmt: skip
        self.assertIn("yntax error", self.out(stream="err"))

    def test_seesACleanEnvironment(self) -> None:
        """
        A start command sees its own variables and ours, and nothing of the daemon's.
        """
        os.environ["HOSTLINE_TEST_LEAK"] = "1"
        self.addCleanup(os.environ.pop, "HOSTLINE_TEST_LEAK")
        lines = self.ran("env", environment={"X": "1", "HOSTLINE_SLIVER": "other/7"}).splitlines()
        names = {line.split("=")[0] for line in lines}
        ours = {"HOSTLINE_NODE", "HOSTLINE_LOG", "HOSTLINE_SLIVER"}
        self.assertEqual(names, {"PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "SHELL", "LANG", "X", "PWD", *ours})
        self.assertIn(f"HOSTLINE_SLIVER={self.instance}/5", lines)
        self.assertIn("HOSTLINE_NODE=web.exp1.lab", lines)
        self.assertIn("USER=web", lines)

    def test_startsWithCleanSignalsAndDescriptors(self) -> None:
        """
        A start command ignores and blocks no signal, and holds its three streams only.
        """
        fd = os.open(os.devnull, os.O_RDONLY)
        os.set_inheritable(fd, True)
        self.addCleanup(os.close, fd)
        self.driver.close()
        self.spawner = Spawner(self.loop)
        self.remake({})
        out = self.ran("grep -E 'Sig(Blk|Ign)' /proc/self/status; ls -l /proc/self/fd | wc -l; ulimit -Sn").split()
        threads = 3 << 31  # 32 and 33 are the C library's own: no program can set them
        self.assertEqual([int(out[1], 16), int(out[3], 16) & ~threads], [0, 0])
        self.assertEqual(out[4:], ["5", "1024"])

    def test_writesWhenAndHowItEnded(self) -> None:
        """
        start_command.log tells the time and the exit status; each boot starts with empty files.
        """
        self.ran("echo old; echo bad >&2; exit 7")
        self.assertRegex(self.out(stream="log"), r"\A20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ exit status 7\n\Z")
        now = subprocess.run(["date", "-u", "+%Y-%m-%dT%H"], capture_output=True, text=True, check=True).stdout.strip()
        self.assertTrue(self.out(stream="log").startswith(now))
        self.assertEqual(self.out(stream="err"), "bad\n")
        self.start(Workload(5, "web.exp1.lab", boots=2, start_command="echo new"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual((self.out(), self.out(stream="err")), ("new\n", ""))

    def test_tellsTheSignalThatEndedTheCommand(self) -> None:
        """
        A start command ended by a signal counts as 128 + the signal, one that is not there as 127.
        """
        self.ran("kill -9 $$")
        self.assertEqual(self.status(5).code, 137)
        self.start(Workload(5, "web.exp1.lab", boots=2, start_command="exec /no/such/program"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual(self.status(5).code, 127)

    def test_usesNoProcessWhenIdle(self) -> None:
        """
        After its start command a node is two sleeping shells and nothing else.
        """
        self.ran("exit 0")
        self.until(lambda: len(self.ours()[5]) == 2)

    def test_isDeadWithNoCodeWhenKeeperIsKilled(self) -> None:
        """
        When what keeps the exit status is killed, the sliver ends and its status is unknown.
        """
        self.start(Workload(5, "web.exp1.lab", start_command="sleep 1000"))
        os.kill(self.keeper(5), signal.SIGKILL)
        self.until(lambda: self.status(5).boot == "dead")
        self.assertIsNone(self.status(5).code)
        self.until(lambda: self.ours() == {})

    def test_isDeadWhenAllIsKilledMeanwhile(self) -> None:
        """
        Keeper and node killed while no daemon ran: dead, status unknown, and the rest is ended too.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command="sleep 1000"))
        self.driver.close()
        keeper, node = self.keeper(5), self.node(5)
        os.kill(keeper, signal.SIGKILL)
        os.kill(node, signal.SIGKILL)
        self.remake({5: workload})
        self.until(lambda: self.status(5).boot == "dead")  # a zombie of ours tells its end in its turn
        self.assertIsNone(self.status(5).code)
        self.until(lambda: self.ours() == {})

    def test_leavesNothingWhenNodeIsKilled(self) -> None:
        """
        A start command does not outlive its node.
        """
        self.start(Workload(5, "web.exp1.lab", start_command="sleep 1000"))
        self.kill_node(5)
        self.until(lambda: self.ours() == {})
        self.assertEqual(self.status(5).code, 137)

    def test_leavesNothingWhenStoppedAtOnce(self) -> None:
        """
        Stopping a sliver that has only just been started ends it, whatever it was about to do.
        """
        for boots in range(1, 8):
            self.go(self.driver.ensure_started(Workload(5, "web.exp1.lab", boots=boots, start_command="sleep 1000")))
            support.idle(self.loop, boots * 0.001)
            self.go(self.driver.ensure_stopped(5))
            self.assertEqual((self.status(5).boots, self.status(5).boot, self.status(5).code), (boots, "dead", 0))
            self.until(lambda: self.ours() == {})

    def test_startsOneCopyWhenTwoDaemonsStart(self) -> None:
        """
        A daemon that died between starting and noting so, and one that starts again: there is one copy, and it is
        known.
        """
        late = self.make()
        self.go(late.recover({}))
        workload = Workload(5, "web.exp1.lab", start_command="echo $$; sleep 1000")
        self.go(self.driver.ensure_started(workload))
        self.driver.close()
        self.driver = late
        self.go(late.ensure_started(workload))
        self.until(lambda: self.status(5).boot == "booted")
        support.idle(self.loop, 0.5)
        self.assertEqual(self.status(5).boot, "booted")
        self.assertEqual(len(self.ours()[5]), 4)  # keeper, node, sh, sleep
        self.kill_node(5)
        self.until(lambda: self.status(5).code == 137)

    def test_isStartedAgainWhenTheHostRestarted(self) -> None:
        """
        After a restart of the host what ran has reached no boot.
        """
        workload = self.start(Workload(5, "web.exp1.lab"))
        self.restart_host()
        self.remake({5: workload})
        self.assertEqual((self.status(5).boots, self.status(5).boot), (0, None))
        self.start(workload)

    def test_isStillStoppedWhenTheHostRestarted(self) -> None:
        """
        After a restart of the host what was stopped is as dead as before, until its next boot.
        """
        workload = self.start(Workload(5, "web.exp1.lab", boots=3))
        killed = self.start(Workload(6, "db.exp1.lab"))
        self.go(self.driver.ensure_stopped(5))
        self.kill_node(6)
        self.until(lambda: self.status(6).boot == "dead")
        self.go(self.driver.ensure_stopped(6))
        self.restart_host()
        self.remake({5: workload, 6: killed})
        self.assertEqual((self.status(5).boots, self.status(5).boot, self.status(5).code), (3, "dead", 0))
        self.assertEqual((self.status(6).boots, self.status(6).boot, self.status(6).code), (1, "dead", 137))
        self.start(evolve(workload, boots=4))
        self.restart_host()
        self.remake({5: evolve(workload, boots=4), 6: killed})
        self.assertEqual((self.status(5).boots < 4, self.status(5).boot == "booted"), (True, False))
        self.start(evolve(workload, boots=4))

    def test_isDeadWhenKeeperDiedAtItsFirstBreath(self) -> None:
        """
        A keeper that was killed after it took the boot and before it said who it is: dead, status unknown.
        """
        workload = Workload(5, "web.exp1.lab")
        directory = self.directory / "run" / "slivers" / "5" / "1"
        directory.mkdir(parents=True)
        (directory / "shim").touch()
        self.remake({5: workload})
        self.assertEqual((self.status(5).boots, self.status(5).boot, self.status(5).code), (1, "dead", None))

    def test_startsWhenADaemonOnlyMadeTheDirectory(self) -> None:
        """
        A boot whose directory is there and that no keeper took is started as if it were not.
        """
        (self.directory / "run" / "slivers" / "5" / "1").mkdir(parents=True)
        self.remake({5: Workload(5, "web.exp1.lab")})
        self.start(Workload(5, "web.exp1.lab"))

    def test_killsWhatIgnoresTerm(self) -> None:
        """
        What ignores TERM is killed when the grace is over.
        """
        self.grace_s = 0.2
        self.remake({})
        self.start(Workload(5, "web.exp1.lab", start_command="trap '' TERM; echo $$; while :; do sleep 1000; done"))
        pid = self.said()
        self.go(self.driver.ensure_stopped(5))
        self.assertFalse(support.living(pid))
        self.assertEqual(self.status(5).code, 0)

    def test_letsAProcessEndPolitely(self) -> None:
        """
        What ends at TERM has time to, and nobody waits longer than it needs.
        """
        command = "trap 'echo bye; exit 3' TERM; sleep 1000 & echo $$; wait; sleep 100"
        self.start(Workload(5, "web.exp1.lab", start_command=command))
        self.said()
        support.idle(self.loop, 0.2)  # a shell that has just forked may lose a signal
        before = self.loop.time()
        self.go(self.driver.ensure_stopped(5))
        self.assertLess(self.loop.time() - before, 2)
        self.assertTrue(self.out().endswith("bye\n"))
        self.assertEqual(self.status(5).code, 0)

    def test_isNotGoneWhileSomethingLives(self) -> None:
        """
        As long as a process of it cannot be ended a sliver is not destroyed, and keeps its files; then it is.
        """
        self.start(Workload(5, "web.exp1.lab", start_command="sleep 1000"))
        kept = sorted(path.name for path in (self.directory / "slivers" / "5").iterdir())
        with self.unkillable():
            for _ in range(2):
                with self.assertRaisesRegex(OSError, r"\Aprocesses that do not end: 4242\Z"):
                    self.go(self.driver.ensure_destroyed(5))
        self.assertEqual(sorted(path.name for path in (self.directory / "slivers" / "5").iterdir()), kept)
        with self.unkillable(), self.assertRaises(OSError):
            self.go(self.driver.ensure_stopped(5))
        self.assertEqual(self.status(5).problems[-1:], ("processes that do not end: 4242",))
        self.assertEqual(sum("do not end" in problem for problem in self.status(5).problems), 1)
        self.go(self.driver.ensure_destroyed(5))
        self.assertEqual(dict(self.driver.status()), {})
        self.assertFalse((self.directory / "slivers" / "5").exists())

    def test_endsStraysLaterIfNeedBe(self) -> None:
        """
        A stray that could not be ended at the start of the daemon is ended later.
        """
        self.start(Workload(5, "web.exp1.lab", start_command="sleep 1000"))
        with self.unkillable():
            self.remake({})
        self.assertTrue((self.directory / "slivers" / "5").exists())
        self.driver.tidy()
        self.until(lambda: not (self.directory / "slivers" / "5").exists())
        self.until(lambda: self.ours() == {})

    def test_endsWhatRanAway(self) -> None:
        """
        A daemon that a start command left in a session of its own is ended with the sliver.
        """
        self.ran("setsid sh -c 'sleep 1000 & echo $!' &\nsleep 0.3")
        pid = self.said()
        self.assertTrue(support.living(pid))
        self.go(self.driver.ensure_stopped(5))
        self.assertFalse(support.living(pid))

    def test_restartsWhatRanAway(self) -> None:
        """
        Nothing of one boot is left in the next.
        """
        self.ran("setsid sh -c 'sleep 1000 & echo $!' &\nsleep 0.3")
        pid = self.said()
        self.start(Workload(5, "web.exp1.lab", boots=2))
        self.assertFalse(support.living(pid))

    def test_isStillUpWhenItsLogIsGone(self) -> None:
        """
        A start command that removes what it can of its own log does not harm its exit status.
        """
        self.start(Workload(5, "web.exp1.lab", start_command="rm -rf $HOSTLINE_LOG/* $HOSTLINE_LOG; exit 5"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual((self.status(5).boot, self.status(5).code), ("booted", 5))
        self.start(Workload(5, "web.exp1.lab", boots=2, start_command="echo back"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual(self.out(), "back\n")

    def test_isCutWhenItsLogGrows(self) -> None:
        """
        A log that grows past the limit is emptied, with a word about it; the command goes on.
        """
        self.start(Workload(5, "web.exp1.lab", start_command="head -c 300000 /dev/zero; echo $$ >&2; sleep 1000"))
        self.until(lambda: self.out(stream="err").endswith("\n"))
        assert isinstance(self.driver, ProcessDriver)
        self.driver.tidy()
        self.go(self.driver._turns.mine())
        self.assertEqual(len(self.out()), 300000)
        self.driver.log_limit = 200000
        self.driver.tidy()
        self.until(lambda: len(self.out()) < 200)
        self.assertIn("hostline", self.out())
        self.assertEqual(self.status(5).start_command, "running")

    def test_saysWhatIsMissing(self) -> None:
        """
        A sliver that has not all that it should have says so.
        """
        self.start(Workload(5, "web.exp1.lab"))
        problems = " ".join(self.status(5).problems)
        self.assertEqual("no uid of its own" in problems, not self.root)
        self.assertEqual("limits not applied" in problems, self.cgroups is None)
        self.assertIn("disk", self.driver.holds)

    def test_refusesWhatCannotBe(self) -> None:
        """
        Names and variables that cannot be are a start that failed.
        """
        bad = [
            Workload(5, "../../etc.exp1.lab"),
            Workload(5, "web", start_command="a\0b"),
            Workload(5, "web", start_command="x", environment={"A=B": "1"}),
        ]
        for boots, workload in enumerate(bad, 1):
            self.go(self.driver.ensure_started(evolve(workload, boots=boots)))
            self.until(lambda: self.status(5).boot == "dead")
            self.assertEqual((self.status(5).boots, self.status(5).code), (boots, CANNOT_START))

    def test_removesABigTree(self) -> None:
        """
        What a sliver made is gone with it, also what was to trap whoever removes it.
        """
        outside = self.directory / "outside"
        outside.mkdir()
        (outside / "kept").touch()
        command = f"ln -s {outside} ~/link; mkdir -p ~/a/b; i=0; while [ $i -lt 300 ]; do i=$((i+1)); : >~/a/b/$i; done"
        self.ran(f"{command}; chmod 0 ~/a/b ~/a")
        if not ROOT:
            (self.directory / "slivers/5/home/web/a").chmod(0o700)
            (self.directory / "slivers/5/home/web/a/b").chmod(0o700)
        self.go(self.driver.ensure_destroyed(5))
        self.assertFalse((self.directory / "slivers" / "5").exists())
        self.assertTrue((outside / "kept").exists())

    def test_removesWhatWasThrownAway(self) -> None:
        """
        What an earlier daemon threw away and could not remove is removed by the next.
        """
        (self.directory / "slivers" / ".trash" / "9.1.1" / "home").mkdir(parents=True)
        self.remake({})
        self.until(lambda: not list((self.directory / "slivers" / ".trash").iterdir()))

    def test_touchesNothingElse(self) -> None:
        """
        Processes of another state directory, and files that are not ours, are left alone.
        """
        other = subprocess.Popen(["sleep", "100"], env={"PATH": shim.PATH, shim.TAG: "someoneelse/5"})
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        (self.directory / "slivers" / "README").touch()
        self.addCleanup((self.directory / "slivers" / "README").unlink, missing_ok=True)
        self.start(Workload(5, "web.exp1.lab"))
        self.remake({})
        self.assertTrue(support.living(other.pid))
        self.assertTrue((self.directory / "slivers" / "README").exists())
        (self.directory / "slivers" / "README").unlink()

    def test_isNotConfusedByAReusedPid(self) -> None:
        """
        A pid that another process has by now is not taken for the keeper.
        """
        workload = self.start(Workload(5, "web.exp1.lab"))
        self.go(self.driver.ensure_stopped(5))
        directory = self.directory / "run" / "slivers" / "5" / "1"
        (directory / "exit").unlink()
        (directory / "shim").write_text(f"{os.getpid()} 1\n")
        self.remake({5: workload})
        self.assertEqual(self.status(5).boot, "dead")


class UvloopTests(ProcessTests):
    """
    The same on uvloop.
    """

    def new_loop(self) -> asyncio.AbstractEventLoop:
        try:
            import uvloop
        except ImportError:
            raise unittest.SkipTest("uvloop is not installed")
        return uvloop.new_event_loop()


# A short run by root leaves them to the user of WithoutRootTests, on the usual loop, and to UvloopTests.
ProcessTests.__test__ = SOAK or not ROOT  # type: ignore[attr-defined]
UvloopTests.__test__ = True  # type: ignore[attr-defined]


@unittest.skipUnless(ROOT, "wants root")
class RootWithoutCgroupsTests(ProcessTests):
    """
    Under a root daemon where control groups cannot be used: processes are found by their tag and uid.
    """

    __test__ = True
    root = True

    def test_hasItsOwnUid(self) -> None:
        """
        A start command is its sliver's own uid and group, without groups, capabilities and ways to more.
        """
        out = self.ran("id -u; id -G; grep -E '^(CapEff|CapBnd|CapPrm|CapInh|NoNewPrivs)' /proc/self/status").split()
        self.assertEqual(out[:2], [str(self.first_uid + 5)] * 2)
        self.assertEqual(set(out[3:11:2]), {"0000000000000000"})
        self.assertEqual(out[-2:], ["NoNewPrivs:", "1"])

    def test_hasItsOwnPlaces(self) -> None:
        """
        /home, /tmp, /var/tmp and /var/log are the sliver's own; the host sees nothing of what it writes there.
        """
        name = f"hl-{self.instance}"
        out = self.ran(
            f"pwd; touch /tmp/{name} ~/{name} $HOSTLINE_LOG/{name}; ls /home /tmp /var/tmp; echo $HOSTLINE_LOG"
        )
        self.assertEqual(out.split()[0], "/home/web")
        self.assertEqual(out.split()[1:3], ["/home:", "web"])
        self.assertEqual(out.split()[-1], "/var/log/hostline")
        self.assertFalse(Path(f"/tmp/{name}").exists())
        self.assertTrue((self.directory / "slivers" / "5" / "tmp" / name).exists())
        self.assertTrue((self.directory / "slivers" / "5" / "home" / "web" / name).exists())

    def test_leavesNothingWhereAllMayWrite(self) -> None:
        """
        Shared memory, semaphores, message queues and what lies where everybody may write are the sliver's own, and
        gone with its boot: who gets its uid later finds nothing.
        """
        name = f"hl-{self.instance}"
        places = [place for place in mounts.SHARED if Path(place).is_dir() and Path(place).stat().st_mode & 2]
        files = [f"{place}/{name}" for place in places if place != "/dev/mqueue"]
        self.assertIn(f"/dev/shm/{name}", files)
        before = [path.read_text() for path in sorted(Path("/proc/sysvipc").iterdir())]
        look = "tail -qn +2 /proc/sysvipc/* | wc -l; df -B1 --output=size /dev/shm | tail -1"
        command = (
            f"{look}; ipcmk -M 4096 -p 0666; ipcmk -Q -p 0666; ipcmk -S 2 -p 0666; touch {' '.join(files)}; {look}"
        )
        out = self.ran(command, rspec={"memory_max": 32 << 20})
        self.assertEqual(self.out(stream="err"), "")
        lines = [line.strip() for line in out.splitlines() if line.strip() and " id: " not in line]
        self.assertEqual(lines, ["0", str(32 << 20), "3", str(32 << 20)])
        self.assertEqual([path.read_text() for path in sorted(Path("/proc/sysvipc").iterdir())], before)
        self.assertEqual([file for file in files if Path(file).exists()], [])
        self.start(Workload(5, "web.exp1.lab", boots=2, start_command=f"{look}; ls {' '.join(places)}"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual(self.out().splitlines()[0], "0")
        self.assertNotIn(name, self.out())

    def test_keepsSliversApart(self) -> None:
        """
        One sliver sees neither the files of another nor our notes.
        """
        self.ran("echo secret >~/s; chmod 777 ~/s ~; chmod 777 /tmp")
        state = self.directory
        tries = (
            f"cat {state}/slivers/5/home/web/s; ls {state}/slivers/5/tmp; ls {state}/run/slivers; ls {state}/slivers"
        )
        self.start(Workload(6, "db.exp1.lab", start_command=tries))
        self.until(lambda: self.status(6).start_command == "ended")
        self.assertEqual(self.out(6), "")

    def test_cannotLeadUsAstray(self) -> None:
        """
        A sliver that puts links where root will write again gains nothing by it.
        """
        target = self.directory / "target"
        target.write_text("untouched")
        self.ran(
            f"cd /var/log; mv hostline elsewhere; mkdir hostline; cd hostline; for f in out err log; do"
            f" rm -f start_command.$f; ln -sf {target} start_command.$f; done; echo x >start_command.log"
        )
        self.start(Workload(5, "web.exp1.lab", boots=2, start_command="echo written"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual(target.read_text(), "untouched")
        self.assertEqual(self.out(), "written\n")

    def test_cannotBeTurnedByItsEnvironment(self) -> None:
        """
        Nothing of a sliver's environment reaches what runs as root.
        """
        env = {"LD_PRELOAD": "/nonexistent/evil.so", "PATH": "/nonexistent", "ENV": "/nonexistent"}
        self.ran("echo $PATH", environment=env)
        self.assertEqual(self.out(), "/nonexistent\n")
        self.assertEqual(self.files(5).errors, "")
        environ = Path(f"/proc/{self.node(5)}/environ").read_bytes()
        self.assertNotIn(b"nonexistent", environ)

    def test_cannotKillItsKeeper(self) -> None:
        """
        A sliver's users cannot end the node's own process, nor reach the notes about it.
        """
        self.ran("kill -9 -1; kill -9 $PPID; exit 0")
        self.assertEqual((self.status(5).boot, self.status(5).pid), ("booted", self.files(5).node and self.node(5)))

    def test_losesWhatClearsItsTraces(self) -> None:
        """
        What clears its environment, its session and its parent is found by its uid.
        """
        self.ran("setsid env -i sh -c 'sleep 1000 & echo $!' &\nsleep 0.3")
        pid = self.said()
        self.go(self.driver.ensure_stopped(5))
        self.assertFalse(support.living(pid))

    def test_losesWhatWearsAnothersTag(self) -> None:
        """
        What calls itself somebody else's, with a session of its own and no parent, is found by its uid.
        """
        self.ran("HOSTLINE_SLIVER=junk/1 setsid sh -c 'sleep 1000 & echo $!' &\nsleep 0.3")
        pid = self.said()
        self.go(self.driver.ensure_destroyed(5))
        self.assertFalse(support.living(pid))

    def test_isNotFooledByATag(self) -> None:
        """
        A stranger who wears our tag harms nobody: neither himself, nor root's processes in his session.
        """
        drop = "setpriv --reuid 12345 --regid 12345 --clear-groups sleep 1000 & echo $!; exec sleep 1000"
        tagged = {"PATH": shim.PATH, shim.TAG: f"{self.instance}/99999"}
        supervisor = subprocess.Popen(
            ["sh", "-c", drop], env=tagged, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.addCleanup(supervisor.wait)
        self.addCleanup(lambda: os.killpg(supervisor.pid, signal.SIGKILL))
        assert supervisor.stdout is not None
        self.addCleanup(supervisor.stdout.close)
        stranger = int(supervisor.stdout.readline())
        self.until(lambda: Path(f"/proc/{stranger}").stat().st_uid == 12345)
        self.remake({})
        self.assertTrue(support.living(supervisor.pid))
        self.assertTrue(support.living(stranger))

    def test_keepsItsUid(self) -> None:
        """
        A sliver's uid is the same to the next daemon, and two slivers whose serials collide differ.
        """
        workload = self.start(Workload(5, "web.exp1.lab", start_command="id -u"))
        self.remake({5: workload})
        other = self.start(Workload(1005, "db.exp1.lab", start_command="id -u"))
        self.until(lambda: self.status(other.serial).start_command == "ended")
        self.assertEqual((self.out(5), self.out(1005)), (f"{self.first_uid + 5}\n", f"{self.first_uid + 6}\n"))


@unittest.skipUnless(ROOT, "wants root")
class RootTests(RootWithoutCgroupsTests):
    """
    Under a root daemon with control groups.
    """

    with_cgroups = True

    def test_isLimited(self) -> None:
        """
        Its limits are those asked for, read back from the kernel, and change while it runs.
        """
        assert self.cgroups is not None
        rspec = {"memory_max": 64 << 20, "pids_max": 40, "cpu_share": 64, "cpu_max": 500}
        workload = self.start(Workload(5, "web.exp1.lab", start_command="sleep 1000", rspec=rspec))
        self.assertEqual(self.cgroups.read(5), {**rspec, "cpu_min": 0})
        self.go(self.driver.ensure_created(evolve(workload, rspec={**rspec, "memory_max": 32 << 20, "cpu_max": 0})))
        found = self.cgroups.read(5)
        self.assertEqual((found["memory_max"], found["cpu_max"]), (32 << 20, 0))
        self.until(lambda: self.cgroups is not None and len(self.cgroups.members(5)) >= 2)
        self.assertEqual(self.status(5).problems, ())

    def test_keepsNoMountOfOthersInUse(self) -> None:
        """
        What is mounted for containers can be unmounted for good while a sliver runs that was started meanwhile.
        """
        place = self.directory / "hidden" / "it's one"
        place.mkdir(parents=True)
        for at in (place.parent, place):
            subprocess.run(["mount", "-t", "tmpfs", "hostline-test", str(at)], check=True)
            at.joinpath("it's one").mkdir(exist_ok=True)
        try:
            self.start(Workload(5, self.web))
            seen = Path(f"/proc/{self.node(5)}/mountinfo").read_text()
        finally:
            subprocess.run(["umount", "-R", str(place.parent)], check=True)
        self.assertIn("/tmp", seen)
        self.assertNotIn("hostline-test", seen)

    def test_endsWhatHasNoGroup(self) -> None:
        """
        A sliver whose control groups could not be made says so, and is ended like any other.
        """
        assert self.cgroups is not None
        with mock.patch.object(self.cgroups, "prepare", return_value=([], ["limits not applied: no more groups"])):
            self.start(Workload(5, "web.exp1.lab", start_command="setsid sleep 1000 & sleep 1000"))
        self.assertEqual(self.status(5).problems, ("limits not applied: no more groups",))
        self.go(self.driver.ensure_stopped(5))
        self.assertEqual(self.status(5).code, 0)
        self.until(lambda: self.ours() == {})

    def test_isUpWhenItForksWithoutEnd(self) -> None:
        """
        A start command that uses up all its processes does not take its node down, and is ended like any other.
        """
        command = "i=0; while [ $i -lt 100 ]; do i=$((i+1)); sleep 1000 & done; exit 3"
        self.start(Workload(5, "web.exp1.lab", start_command=command, rspec={"pids_max": 20}))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual(self.status(5).boot, "booted")
        self.assertIn("exit status", self.out(stream="log"))
        self.go(self.driver.ensure_stopped(5))
        self.until(lambda: self.ours() == {})

    def test_isUpWhenItsCommandTakesTooMuch(self) -> None:
        """
        A start command that takes more memory than it may is killed; its node stays.
        """
        self.ran("head -c 300000000 /dev/zero | tail", rspec={"memory_max": 32 << 20})
        self.assertEqual((self.status(5).boot, self.status(5).code), ("booted", 137))


@unittest.skipUnless(ROOT, "wants root")
class FreezerTests(RootTests):
    """
    Where there is no version 2 beside version 1: killing by the freezer.
    """

    def find_cgroups(self) -> Cgroups:
        found, why = Cgroups.find(self.instance, unified=False)
        if found is None:
            raise AssertionError(why)
        return found


if not SOAK:  # what is not about an end is the same as there
    for _name in [one for one in dir(RootTests) if one.startswith("test_") and not _ENDS.search(one)]:
        setattr(FreezerTests, _name, None)


@unittest.skipUnless(ROOT, "without root the other tests are this one")
class WithoutRootTests(unittest.TestCase):
    """
    The tests above as a user without any privilege.
    """

    def test_asAnotherUser(self) -> None:
        """
        A daemon that does not run as root runs slivers too.
        """
        here = Path(__file__).parents[2]
        libraries = [str(here), str(here / "twistd_plugins"), *(p for p in sys.path if p.endswith("site-packages"))]
        candidates = [sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"]
        user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        environment = {"PATH": shim.PATH, "PYTHONPATH": ":".join(libraries), "PYTHONDONTWRITEBYTECODE": "1"}
        usable = [
            python
            for python in candidates
            if shutil.which(python)
            and subprocess.run([*user, python, "-c", "import pytest"], env=environment, check=False).returncode == 0
        ]
        if not usable:
            self.skipTest(f"{needs.CANNOT}another user may run none of {candidates}, or not read the tree")
        argv = [*user, usable[0], "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "ProcessTests"]
        done = subprocess.run(
            [*argv, "tests/live/test_process.py"], cwd=here, env=environment, check=False, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout[-5000:])
        self.assertIn("passed", done.stdout)


del Processes
