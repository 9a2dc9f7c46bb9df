"""
What runs in process slivers beside their start command: commands, initscripts, and the way to their own socket.
"""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from pathlib import Path
from unittest import mock

from attrs import evolve

from hostline.server.drivers.driver import Conversation, Workload
from hostline.server.drivers.process import ProcessDriver
from tests import needs
from tests.drivers import DriverContract, Heard
from tests.live import support
from tests.live.processes import Processes

_TELLS = "#!/bin/sh\necho $1\nexit 3\n"


class CommandTests(Processes):
    """
    As a user without any privilege.
    """

    web = "web.exp1.lab"

    def run_in(self, *argv: str, terminal: bool = False) -> Heard:
        """
        Run a command in sliver 5 to its end.
        """
        heard = Heard()
        self.driver.execute(5, argv, heard, terminal=terminal)
        self.until(lambda: heard.ends)
        return heard

    def begin(self, *argv: str) -> tuple[Conversation, Heard]:
        heard = Heard()
        return self.driver.execute(5, argv, heard), heard

    def script_log(self) -> list[str]:
        """
        @return: the lines of the initscript's log without our own, and what the shell says of killed ones.
        """
        return [
            line
            for line in self.driver.read_log(5, "initscript", 0, 10000)[0].decode().splitlines()
            if line[0] not in "[KT"
        ]

    def script_ended(self, *lines: str) -> None:
        """
        Wait until the initscript's log is this and nothing of it runs any more.
        """
        self.until(lambda: self.script_log() == list(lines) and self.status(5).initscript == "ended")

    def test_beginsInItsHome(self) -> None:
        """
        A command sees what the start command sees, in the home directory, and no descriptor of ours.
        """
        self.start(Workload(5, self.web, environment={"COLOR": "red"}))
        heard = self.run_in("sh", "-c", 'test "$PWD" = "$HOME" && echo $COLOR $HOSTLINE_NODE; ls /proc/self/fd | wc -l')
        self.assertEqual((heard.out, heard.err), (b"red web.exp1.lab\n4\n", b""))

    def test_hasATerminal(self) -> None:
        """
        With a terminal there is job control, and ^C ends what runs in front.
        """
        self.start(Workload(5, self.web))
        heard = Heard()
        talk = self.driver.execute(5, ["sh", "-c", "tty; echo ready; sleep 1000"], heard, terminal=True)
        self.until(lambda: b"ready" in heard.out)
        talk.write(b"\x03")
        self.until(lambda: heard.ends)
        self.assertEqual(heard.ends, [130])
        self.assertIn(b"/dev/pts/", heard.out)

    def test_leavesNothingWhenClosed(self) -> None:
        """
        Who goes away takes the command along, and all that it started.
        """
        self.start(Workload(5, self.web))
        before = len(self.ours()[5])
        talk, heard = self.begin("sh", "-c", "sleep 1000 & echo up; sleep 1000")
        self.until(lambda: heard.out == b"up\n")
        talk.close()
        self.until(lambda: len(self.ours()[5]) == before)

    def test_endsWithTheDaemon(self) -> None:
        """
        A command for which nobody speaks any more is ended; the sliver goes on.
        """
        workload = self.start(Workload(5, self.web))
        before = len(self.ours()[5])
        _, heard = self.begin("sh", "-c", "echo up; sleep 1000")
        self.until(lambda: heard.out == b"up\n")
        self.remake({5: workload})
        self.until(lambda: len(self.ours()[5]) <= before)
        self.assertEqual(self.status(5).boot, "booted")

    def test_leavesAloneWhatACommandLeftBehind(self) -> None:
        """
        What a command started in the background goes on after it, until the sliver ends.
        """
        self.start(Workload(5, self.web))
        heard = self.run_in("sh", "-c", "sleep 1000 & echo $!")
        self.assertEqual(heard.ends, [0])
        pid = int(heard.out)
        self.assertTrue(support.living(pid))
        self.go(self.driver.ensure_stopped(5))
        self.assertFalse(support.living(pid))

    def test_refusesWhatIsNoCommand(self) -> None:
        """
        No words, or a NUL in one, is an error at once.
        """
        self.start(Workload(5, self.web))
        for argv in ([], ["a\0b"]):
            with self.assertRaises(ValueError):
                self.driver.execute(5, argv, Heard())

    # Initscripts

    def test_startsTheInitscriptOnce(self) -> None:
        """
        The initscript is run with C{start} at the boot, its exit status is shown, also to the next daemon.
        """
        workload = self.start(Workload(5, self.web, initscript=_TELLS))
        self.script_ended("start")
        self.assertEqual(self.status(5).initscript_code, 3)
        self.remake({5: workload})
        self.go(self.driver.ensure_configured(workload))
        support.idle(self.loop, 0.3)
        self.assertEqual((self.script_log(), self.status(5).initscript_code), (["start"], 3))

    def test_restartsTheInitscriptWhenItChanges(self) -> None:
        """
        A changed text is run with C{restart} while the sliver runs, also if it changed while no daemon ran.
        """
        workload = self.start(Workload(5, self.web, initscript=_TELLS))
        self.script_ended("start")
        changed = evolve(workload, initscript="#!/bin/sh\necho new $1\n")
        self.go(self.driver.ensure_configured(changed))
        self.script_ended("start", "new restart")
        self.assertEqual(self.status(5).initscript_code, 0)
        self.remake({5: evolve(workload, initscript="echo newer $1\n")})  # without #! a shell runs it
        self.script_ended("start", "new restart", "newer restart")

    def test_stopsTheInitscriptBeforeTheEnd(self) -> None:
        """
        Before the sliver ends the initscript is run with C{stop}, while all else still runs.
        """
        script = '#!/bin/sh\necho $1 $(cat "$HOME/pid"); [ $1 != stop ] || kill -0 $(cat "$HOME/pid") && echo lives\n'
        command = 'echo $$ >"$HOME/pid"; exec sleep 1000'
        workload = Workload(5, self.web, start_command=command)
        self.start(workload)
        self.until(lambda: (heard := self.run_in("sh", "-c", 'cat "$HOME/pid"')).ends == [0] and heard.out)
        self.go(self.driver.ensure_configured(evolve(workload, initscript=script)))
        self.until(lambda: self.status(5).initscript == "ended")
        before = len(self.script_log())
        self.go(self.driver.ensure_stopped(5))
        said = self.script_log()[before:]
        self.assertEqual((said[0].split()[0], said[1:]), ("stop", ["lives"]))

    def test_isNotHeldUpByAnEndlessInitscript(self) -> None:
        """
        An initscript that never ends does no harm: it is shown as running, replaced when changed, ended with the rest.
        """
        self.driver.close()
        self.grace_s = 0.3
        self.remake({})
        endless = "#!/bin/sh\necho endless $1\nwhile :; do sleep 1000; done\n"
        workload = self.start(Workload(5, self.web, initscript=endless, start_command="exit 0"))
        self.until(lambda: self.script_log() == ["endless start"])
        self.assertEqual((self.status(5).boot, self.status(5).initscript), ("booted", "running"))
        self.remake({5: workload})
        self.assertEqual(self.status(5).initscript, "running")
        self.go(self.driver.ensure_configured(evolve(workload, initscript=_TELLS)))
        self.script_ended("endless start", "restart")
        self.go(self.driver.ensure_configured(evolve(workload, initscript=endless)))
        self.until(lambda: self.script_log()[-1] == "endless restart")
        self.go(self.driver.ensure_stopped(5))
        self.assertEqual((self.status(5).boot, self.ours().get(5, [])), ("dead", []))
        self.assertEqual(self.script_log()[-1], "endless stop")

    def test_forgetsAnInitscriptThatWasTakenAway(self) -> None:
        """
        Without a text nothing is run any more, not even before the end.
        """
        workload = self.start(Workload(5, self.web, initscript=_TELLS))
        self.script_ended("start")
        self.go(self.driver.ensure_configured(evolve(workload, initscript=None)))
        self.go(self.driver.ensure_stopped(5))
        self.start(evolve(workload, initscript=None, boots=2))
        self.assertEqual((self.script_log(), self.status(5).initscript), (["start"], "none"))

    def test_saysWhereItsSocketIs(self) -> None:
        """
        A sliver finds its own socket, with or without mounts of its own.
        """
        door = self.directory / "door"
        door.mkdir(mode=0o755)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(door / "hostline.sock"))
            (door / "hostline.sock").chmod(0o666)
            listening.listen()
            self.start(Workload(5, self.web, door=door))
            script = (
                "import os, socket; s = socket.socket(socket.AF_UNIX); s.connect(os.environ.get('HOSTLINE_SOCKET') or"
            )
            script += f" '{self.inside}/hostline.sock'); s.send(b'hello')"
            _, heard = self.begin("python3", "-c", script)
            self.until(lambda: heard.ends)
            self.assertEqual((heard.ends, heard.err), ([0], b""))
            connection, _ = listening.accept()
            with connection:
                self.assertEqual(connection.recv(10), b"hello")
                _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                self.assertEqual(uid, self.first_uid + 5 if self.root else os.geteuid())

    @property
    def inside(self) -> Path:
        """
        Where slivers with mounts of their own see their socket.
        """
        return self.directory / "run"


@needs.needs_root
class RootCommandTests(CommandTests):
    """
    Under a root daemon with control groups, whose own run directory is where slivers see their sockets.
    """

    root = True
    with_cgroups = True

    def setUp(self) -> None:
        with mock.patch.object(tempfile, "tempdir", "/run"):  # /tmp is hidden from slivers
            super().setUp()

    def make(self) -> ProcessDriver:
        return ProcessDriver(**self.common(), inside=self.inside)

    def test_isInsideLikeTheStartCommand(self) -> None:
        """
        A command has the sliver's user, groups, mounts and control groups, and can get no privilege.
        """
        look = (
            "id -u; id -G; ls -A /home; readlink /proc/self/ns/mnt /proc/self/ns/ipc; grep -v name= /proc/self/cgroup;"
            " grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status"
        )
        self.start(Workload(5, self.web, start_command=look))
        self.until(lambda: self.status(5).start_command == "ended")
        heard = self.run_in("sh", "-c", look)
        self.assertEqual((heard.out.decode(), heard.err), (self.out(), b""))
        self.assertIn(f"{self.first_uid + 5}\n{self.first_uid + 5}\nweb\n", self.out())
        self.assertIn("NoNewPrivs:\t1", self.out())

    def test_canBeHelpedWhenItsProcessesAreUsedUp(self) -> None:
        """
        In a sliver that has as many processes as it may a command can still be run, and be used to end them.
        """
        fills = "while :; do sleep 1000 & done"
        self.start(Workload(5, self.web, start_command=f"({fills}) 2>/dev/null; sleep 1000", rspec={"pids_max": 20}))
        self.until(lambda: self.cgroups is not None and len(self.cgroups.members(5)) >= 19)
        heard = self.run_in("sh", "-c", "kill -KILL -1")
        self.assertIn(heard.ends, ([0], [137]))

    def test_changesNothingInItsDoor(self) -> None:
        """
        In the directory with its socket a sliver can make, change and remove nothing, and nobody else gets there.
        """
        door = self.directory / "door"
        door.mkdir(mode=0o777)
        (door / "hostline.sock").touch(mode=0o666)
        self.start(Workload(5, self.web, door=door))
        self.assertEqual(self.run_in("touch", str(self.inside / "mine")).ends, [1])
        self.assertEqual(self.run_in("rm", "-f", str(self.inside / "hostline.sock")).ends, [1])
        self.assertEqual(self.run_in("ls", str(self.inside)).out, b"hostline.sock\n")
        self.assertEqual((door.stat().st_mode & 0o7777, door.stat().st_gid), (0o750, self.first_uid + 5))

    def test_seesLimitsThatOthersChanged(self) -> None:
        """
        A limit that somebody changed behind our back is seen, and is put right.
        """
        assert self.cgroups is not None
        workload = self.start(Workload(5, self.web, rspec={"pids_max": 50, "memory_max": 64 << 20}))
        self.assertEqual(self.driver.in_force(5)["pids_max"], 50)
        pids = next(Path("/sys/fs/cgroup").glob(f"*/hostline-{self.instance[:12]}/p5/pids.max"))
        pids.write_text("4000")
        self.assertEqual(self.driver.in_force(5)["pids_max"], 4000)
        self.go(self.driver.ensure_configured(workload))
        self.assertEqual(self.driver.in_force(5)["pids_max"], 50)


for _name in [name for name in dir(DriverContract) if name.startswith("test_")]:
    setattr(CommandTests, _name, None)  # what every driver promises is tested elsewhere
del Processes, DriverContract
