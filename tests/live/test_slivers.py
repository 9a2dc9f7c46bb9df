"""
Free slivers of every kind on a daemon as it is: startup, files, threads, scripts, what is said of them and where.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import unittest
from functools import partial
from itertools import pairwise
from pathlib import Path

from tests.live.hosted import ENVIRONMENT, Hosted, until
from tests.live.support import remove_directory
from tests.needs import needs_root, needs_tool
from tests.scale import scaled
from tests.test_payload import KEY

#: How many slivers the daemon's threads are counted with.
MANY = scaled(60, 300)
#: Seconds between two starts, and how many of them.
STAGGER_S, STAGGERED = scaled(0.7, 2.0), 5


class SliversTest(unittest.TestCase):
    """
    One host, whose state is where its slivers can get to.
    """

    def setUp(self) -> None:
        # Not below /tmp or /var/tmp, which slivers have of their own.
        self.parent = Path(tempfile.mkdtemp(prefix="hl-", dir="/srv"))
        self.parent.chmod(0o711)
        self.addCleanup(remove_directory, self.parent)
        self.host = Hosted(self, parent=self.parent)

    def kinds(self) -> dict[str, str]:
        """
        @return: the name of a sliver of each kind, all made now.
        """
        account = f"hl{os.getpid()}_a"
        self.addCleanup(self.no_account, account)
        self.host.ask("image_build tiny base=busybox")
        names = {"process": "lab_p", "account": account, "container": "lab_c"}
        for kind, name in names.items():
            image = " image=tiny" if kind == "container" else ""
            self.host.ask(f"create {name} kind={kind}{image} keys=[{KEY!r}]")
        return names

    def no_account(self, name: str) -> None:
        """
        Remove an account that a test has left.
        """
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            subprocess.run(["userdel", "-f", name], check=True)

    def restarted(self) -> None:
        """
        The host goes down with all that runs and all that is not on its disk, and is up again; no daemon yet.
        """
        self.host.kill()
        self.host.remains.remove()
        shutil.rmtree(self.host.state / "run")

    def becomes(self, name: str, key: str, value: object) -> None:
        """
        Wait until that is shown of a sliver.
        """
        until(lambda: self.host.ask(f"sliver {name}")[key] == value, what=lambda: self.host.ask(f"sliver {name}"))

    def out(self, name: str, command: str) -> str:
        """
        What a command in a sliver writes.
        """
        reply = self.host.ask(f"exec {name} ['sh', '-c', {command!r}]")
        self.assertEqual(reply["exit"], 0, reply)
        return str(reply["out"])


@needs_root
class StartupTests(SliversTest):
    """
    After a start of the host.
    """

    def starts(self, name: str) -> list[float]:
        """
        When a sliver was started so far.
        """
        return [float(line) for line in self.out(name, "cat $HOME/starts").split()]

    def test_startsEachOnceSpaced(self) -> None:
        """
        Those that ran are started once each, the asked seconds apart, by themselves; those that were stopped are not.
        """
        self.host.argv += ["--stagger", str(STAGGER_S)]
        self.host.start()
        self.names = [f"lab_s{at}" for at in range(STAGGERED)]
        for name in [*self.names, "lab_off"]:
            self.host.ask(f"create {name} kind=process start_command='date +%s.%N >>$HOME/starts; exec sleep 1000'")
        self.host.ask("stop lab_off")
        self.restarted()
        self.host.start()
        until(lambda: all(self.host.ask(f"sliver {name}")["state"] == "running" for name in self.names))
        until(lambda: all(len(self.starts(name)) == 2 for name in self.names))
        times = sorted(self.starts(name)[1] for name in self.names)
        gaps = [later - sooner for sooner, later in pairwise(times)]
        self.assertGreater(min(gaps), STAGGER_S * 0.6)
        self.assertLess(max(gaps), STAGGER_S + 1.5)
        time.sleep(STAGGER_S + 0.5)
        self.assertEqual([len(self.starts(name)) for name in self.names], [2] * STAGGERED)
        self.assertEqual(self.host.ask("sliver lab_off")["state"], "stopped")
        self.host.kill()
        self.host.start()
        self.assertEqual([len(self.starts(name)) for name in self.names], [2] * STAGGERED)
        self.assertEqual(self.host.tracebacks(), "")


@needs_root
@needs_tool("useradd", "busybox", "runc", "conmon")
class EveryKindTests(SliversTest):
    """
    What holds of processes, accounts and containers alike.
    """

    def setUp(self) -> None:
        super().setUp()
        # The most careless caller there is.
        self.host.argv = ["sh", "-c", 'umask 000; exec "$@"', "sh", *self.host.argv]
        self.host.start()
        self.names = self.kinds()

    def test_leavesNothingThatAllMayWrite(self) -> None:
        """
        A daemon that was started with umask 000 makes nothing that anybody may write, but sockets and sticky places.
        """
        found = []
        for path in self.parent.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                about = path.lstat()
                harmless = stat.S_ISLNK(about.st_mode) or stat.S_ISSOCK(about.st_mode) or about.st_mode & stat.S_ISVTX
                if about.st_mode & stat.S_IWOTH and not harmless:
                    found.append(f"{about.st_mode:o} {path}")
        self.assertEqual(found, [])
        for name in self.names.values():
            self.assertEqual(self.out(name, ">new; stat -c %a new").strip(), "644", name)

    def test_sayWhatUidsTheyHave(self) -> None:
        """
        get_xids has the uid of each as the host sees it: what runs in it has that uid, or one of its block.
        """
        uids = self.host.ask("get_xids")
        self.assertEqual(set(uids), set(self.names.values()))
        self.assertEqual(uids[self.names["process"]], int(self.out(self.names["process"], "id -u")))
        self.assertEqual(uids[self.names["account"]], pwd.getpwnam(self.names["account"]).pw_uid)
        pid = self.host.ask(f"sliver {self.names['container']}")["pid"]
        self.assertEqual(uids[self.names["container"]], Path(f"/proc/{pid}").stat().st_uid)
        self.host.ask(f"stop {self.names['process']}")
        self.host.kill()
        self.host.start()
        self.assertEqual(self.host.ask("get_xids"), uids)

    def test_areMadeAnew(self) -> None:
        """
        recreate takes all files away and keeps the uid and the keys.
        """
        uids = self.host.ask("get_xids")
        for name in self.names.values():
            self.out(name, "echo mine >$HOME/kept")
            self.host.ask(f"recreate {name}")
            self.assertEqual(self.out(name, "ls $HOME").split(), [], name)
        self.assertEqual(self.host.ask("get_xids"), uids)
        self.assertIn(KEY, self.out(self.names["account"], "cat .ssh/authorized_keys"))
        self.assertIn(KEY, self.out(self.names["container"], "cat /root/.ssh/authorized_keys"))

    def test_leaveNothing(self) -> None:
        """
        Destroyed while they are up, or asked for, stopped and destroyed in one breath: nothing is left of them.
        """
        again = f"hl{os.getpid()}_b"
        self.addCleanup(self.no_account, again)
        for kind, name in {"process": "lab_q", "account": again, "container": "lab_d"}.items():
            for pause_s in (0.0, 0.05, 0.2):
                with self.host.client() as client:
                    image = " image=tiny" if kind == "container" else ""
                    client.send(f"create {name} kind={kind}{image} wait=0\n")
                    time.sleep(pause_s)
                    client.send(f"stop {name} wait=0\ndestroy {name}\n")
                    replies = [client.reply() for _ in range(3)]
                self.assertEqual((replies[2][0], replies[2][1]["state"]), ("destroy_reply", "absent"))
        for name in self.names.values():
            self.host.ask(f"destroy {name}")
        self.assertEqual(self.host.ask("slivers"), [])
        until(lambda: not self.host.left_over(), what=self.host.left_over)
        self.assertRaises(KeyError, pwd.getpwnam, again)
        self.assertEqual(self.host.tracebacks(), "")

    def test_areUpAgainAfterTheHost(self) -> None:
        """
        After a restart of the host each is up, with the files, uid and keys that it had; what was stopped is not.
        """
        self.host.ask("create lab_off kind=container image=tiny")
        self.host.ask("stop lab_off")
        uids = self.host.ask("get_xids")
        for name in self.names.values():
            self.out(name, "echo mine >$HOME/kept")
        self.restarted()
        self.host.start()
        for name in self.names.values():
            self.becomes(name, "state", "running")
            self.assertEqual(self.out(name, "cat $HOME/kept"), "mine\n", name)
            self.assertEqual(self.host.ask(f"sliver {name}")["boots"], 2)
        self.assertEqual(self.host.ask("get_xids"), uids)
        self.assertIn(KEY, self.out(self.names["container"], "cat /root/.ssh/authorized_keys"))
        self.assertEqual(self.host.ask("sliver lab_off")["state"], "stopped")
        self.assertEqual(self.host.tracebacks(), "")

    def test_runTheirScripts(self) -> None:
        """
        An initscript runs at the start, once more when its text changes, and no more when it is emptied; what it says,
        in any language, and how it ends is shown; one that never ends delays neither stop nor destroy beyond the grace.
        """
        script = '#!/bin/sh\necho "{} $1"\nexit {}\n'
        endless = "#!/bin/sh\nwhile :; do sleep 1; done\n"
        for name in self.names.values():
            said = partial(self.script_log, name)
            for code, line in ((3, "café start"), (4, "漢字 restart")):
                self.host.ask(f"set_sliver {name} initscript={script.format(line.split()[0], code)!r}")
                self.becomes(name, "initscript_code", code)
                self.assertIn(line, said())
            self.assertEqual((said().count("café"), said().count("漢字")), (1, 1))
            self.host.ask(f"set_sliver {name} initscript=''")
            self.host.ask(f"stop {name}")
            self.host.ask(f"start {name}")
            self.assertEqual(self.host.ask(f"sliver {name}")["initscript"], "none", name)
            self.host.ask(f"set_sliver {name} initscript={endless!r}")
            self.becomes(name, "initscript", "running")
            begun = time.monotonic()
            self.host.ask(f"stop {name}")
            self.assertLess(time.monotonic() - begun, 15)
            self.assertEqual(self.host.ask(f"sliver {name}")["state"], "stopped")
            self.host.ask(f"destroy {name}")
        self.assertEqual(self.host.ask("slivers"), [])

    def script_log(self, name: str) -> str:
        """
        What its initscript has said.
        """
        return str(self.host.ask(f"logs {name} stream=initscript")["initscript"])


@needs_root
class ManyTests(SliversTest):
    """
    Many slivers on one host.
    """

    def test_takeNoThreads(self) -> None:
        """
        However many slivers there are, and are begun at the same time, the daemon has as many threads as without any.
        """
        self.host.start()
        self.host.ask("create lab_first kind=process")
        before = most = self.threads()
        with self.host.client(120) as client:
            for at in range(MANY):
                client.send(f"@{at} create lab_s{at} kind=process wait=100\n")
            for _ in range(MANY):
                _, word, body = client.line().decode().split(" ", 2)
                self.assertEqual((word, ast.literal_eval(body).get("state")), ("create_reply", "running"), body)
                most = max(most, self.threads())
        self.assertLessEqual(most, before + 1)
        self.assertLess(most, 10)

    def threads(self) -> int:
        """
        How many threads the daemon has.
        """
        lines = Path(f"/proc/{self.host.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))


@needs_root
class LogTests(SliversTest):
    """
    What the log says, and what it is not told.
    """

    def test_isJsonWhenAsked(self) -> None:
        """
        With --json-log every line is a JSON object with its level, its time and the fields of its text.
        """
        self.host.argv.append("--json-log")
        self.host.start()
        self.host.ask("create lab_a kind=process")
        self.host.stop()
        lines = [json.loads(line) for line in self.host.log.read_text().splitlines()]
        (made,) = [line for line in lines if line.get("command") == "create"]
        self.assertEqual((made["target"], made["log_level"]["name"]), ("lab_a", "info"))
        self.assertLess(abs(made["log_time"] - time.time()), 60)

    def test_hasNoSecrets(self) -> None:
        """
        Neither keys nor scripts, start commands or what is written to a command stand in the log, whatever becomes of
        the request.
        """
        self.host.start()
        secrets = ["AAAAkeyword", "scriptword", "commandword", "inputword", "tokenword"]
        with self.host.client() as client:
            for line in (
                "create lab_a kind=process start_command='echo commandword' initscript='echo scriptword'"
                " keys=['ssh-ed25519 AAAAkeyword ann'] token=tokenword",
                "create lab_a kind=process start_command='echo commandword' keys=['ssh-ed25519 AAAAkeyword ann']",
                "create lab_b kind=nothing initscript='echo scriptword' token=tokenword2",
                "set_sliver lab_a keys=['ssh-ed25519 AAAAkeyword2 ann'] initscript='echo scriptword2'",
                "exec lab_a ['echo', 'commandword']",
                "push lab_a note inputword",
                "add_user cy keys=['ssh-ed25519 AAAAkeyword cy']",
                'sync \'{"slivers": "scriptword"}\'',
                "nosuch commandword keys=AAAAkeyword",
            ):
                client.refusal(line)
        log = self.host.log.read_text()
        self.assertIn("create lab_a", log)
        self.assertEqual([word for word in secrets if word in log], [], log)


@needs_root
class FailureTests(SliversTest):
    """
    What goes wrong.
    """

    def test_isToldToWhoAsked(self) -> None:
        """
        A create that the host cannot do ends with the cause on the client's standard error and a status that is not 0.
        """
        self.host.start()
        name = f"hl{os.getpid()}_f"
        self.addCleanup(self.no_account, name)
        subprocess.run(["useradd", "--no-create-home", name], check=True)
        argv = [sys.executable, "-m", "hostline.clients.main", "create", name, "--kind", "account"]
        environment = {**ENVIRONMENT, "HOSTLINE_SOCKET": str(self.host.socket), "HOME": str(self.parent)}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=environment, cwd="/", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(name, done.stderr)
        self.assertEqual(self.host.ask(f"sliver {name}")["state"], "failed")
        self.host.ask(f"destroy {name}")
        self.assertEqual(pwd.getpwnam(name).pw_name, name)
