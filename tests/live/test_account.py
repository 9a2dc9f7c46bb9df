"""
The account driver with real accounts: what every driver promises, and logins through a real sshd.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from attrs import evolve

from hostline.clients import login
from hostline.server.drivers.account import AccountDriver
from hostline.server.drivers.driver import Status, Workload
from hostline.server.supervise import accounts, running
from hostline.server.supervise.accounts import NO_LOGIN, Accounts
from hostline.server.supervise.uids import UidRange
from tests import needs
from tests.drivers import Heard
from tests.live.processes import Processes
from tests.live.sshd import Sshd

_NUMBER = os.getpid() % 100000


@needs.needs_root
@needs.needs_tool("useradd", "ssh", "sftp", "ssh-keygen", "sshd")
class AccountTests(Processes):
    """
    Accounts of this host, with names and uids of this run's own.
    """

    root: ClassVar[bool] = True
    with_cgroups: ClassVar[bool] = True
    letter = "a"
    web, db = f"hl{_NUMBER}_web", f"hl{_NUMBER}_db"

    def setUp(self) -> None:
        self.login = Path("/bin/false")
        super().setUp()

    def make(self) -> AccountDriver:
        return AccountDriver(**self.common(), login=self.login, sweep_s=0.2)

    def clean(self) -> None:
        try:
            super().clean()
            self.assertEqual(self.accounts(), [])
            for file in ("/etc/passwd", "/etc/group", "/etc/shadow"):
                self.assertNotIn(f"hl{_NUMBER}_", Path(file).read_text())
        finally:
            for name in (self.web, self.db):
                subprocess.run(["userdel", "--force", name], check=False, stderr=subprocess.DEVNULL)
                subprocess.run(["groupdel", name], check=False, stderr=subprocess.DEVNULL)

    # What the tests do

    def accounts(self) -> list[str]:
        """
        @return: the names of our accounts.
        """
        own = Accounts(self.spawner, self.instance, UidRange(self.first_uid, 1000), self.login).own()
        return sorted(account.name for account in own.values())

    @property
    def home(self) -> Path:
        return self.directory / f"slivers/5/home/{self.web}"

    @property
    def keyfile(self) -> Path:
        return self.home / ".ssh" / "authorized_keys"

    @cached_property
    def sshd(self) -> Sshd:
        return Sshd(self)

    def become(self, *argv: str) -> list[str]:
        """
        @return: what runs a command as the account, from outside, as cron would.
        """
        uid = str(pwd.getpwnam(self.web).pw_uid)
        return ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", *argv]

    def open_house(self, **more: object) -> Workload:
        """
        Start the sliver with a real login shell, a door at which the daemon answers, and an sshd.
        """
        python = next(p for p in ("/usr/bin/python3", "/usr/local/bin/python3", sys.executable) if Path(p).exists())
        library = self.directory / "lib"
        library.mkdir(mode=0o755)
        shutil.copy(login.__file__, library / "login.py")
        (library / "login.py").chmod(0o644)
        self.login = self.directory / "hostline-login"
        self.login.write_text(
            f"#!{python} -I\nimport sys\nsys.path.insert(0, {str(library)!r})\nfrom login import main\nmain()\n"
        )
        self.login.chmod(0o755)
        self.remake({})
        door = self.directory / "door"
        door.mkdir(mode=0o755)
        workload = self.start(Workload(5, self.web, keys=(self.sshd.key,), door=door, **more))  # type: ignore[arg-type]
        self.answer(workload)
        return workload

    def answer(self, workload: Workload) -> None:
        """
        Answer at the sliver's door as the daemon does: who asks is admitted, or told why not.
        """
        assert workload.door is not None
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(listening.close)
        path = workload.door / "hostline.sock"
        listening.bind(str(path))
        path.chmod(0o666)
        listening.listen(64)

        def taken() -> None:
            connection, _ = listening.accept()
            with connection:
                pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                connection.settimeout(5)
                assert connection.recv(1000) == b"hello client=login\n"
                try:
                    assert isinstance(self.driver, AccountDriver)
                    self.driver.admit(workload.serial, pid)
                    connection.sendall(b"hello_reply {}\n")
                except OSError as error:
                    connection.sendall(f"error_reply {{'message': '{error}'}}\n".encode())

        self.loop.add_reader(listening, taken)
        self.addCleanup(self.loop.remove_reader, listening)

    def ssh(self, *command: str, program: str = "ssh") -> tuple[int, str, str]:
        """
        @return: exit status, output and errors of a command over ssh.
        """
        words = self.sshd.argv(self.web, *command, program=program)
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as running:
            try:
                self.until(lambda: running.poll() is not None)
            finally:
                running.kill()
            out, err = running.communicate()
        return running.returncode, out, err

    # Accounts

    def test_isAnAccountLikeAnyOther(self) -> None:
        """
        A sliver is an account with its name, a home of its own, no password, and nobody may use it before its start.
        """
        self.go(self.driver.ensure_created(Workload(5, self.web)))
        account = pwd.getpwnam(self.web)
        self.assertEqual((account.pw_uid, account.pw_gid), (self.first_uid + 5, self.first_uid + 5))
        self.assertEqual((account.pw_gecos, account.pw_shell), (f"hostline {self.instance}/5", NO_LOGIN))
        self.assertEqual(account.pw_dir, str(self.home))
        about = self.home.stat()
        self.assertEqual((about.st_mode & 0o7777, about.st_uid), (0o700, account.pw_uid))
        shadow = next(line for line in Path("/etc/shadow").read_text().splitlines() if line.startswith(self.web))
        self.assertEqual((shadow.split(":")[1], shadow.split(":")[7]), ("*", "1"))

    def test_neverTouchesAnotherAccount(self) -> None:
        """
        A name that somebody has is refused, and the account that has it stays as it is, whatever is asked.
        """
        subprocess.run(["useradd", "--no-create-home", "--comment", "Ann", "--shell", "/bin/sh", self.web], check=True)
        before = pwd.getpwnam(self.web)
        workload = Workload(5, self.web)
        with self.assertRaisesRegex(OSError, f"the name {self.web} is taken"):
            self.go(self.driver.ensure_created(workload))
        self.go(self.driver.ensure_started(workload))
        self.assertEqual((self.status(5).boot, self.status(5).code), ("dead", 125))
        self.assertIn("is taken", " ".join(self.status(5).problems))
        self.go(self.driver.ensure_destroyed(5))
        self.remake({})
        self.assertEqual(pwd.getpwnam(self.web), before)
        subprocess.run(["userdel", self.web], check=True)

    def test_mendsTheShell(self) -> None:
        """
        An account whose shell or expiry somebody changed is as it should be again, with the next look.
        """
        workload = self.start(Workload(5, self.web))
        self.assertEqual(pwd.getpwnam(self.web).pw_shell, "/bin/false")
        subprocess.run(["usermod", "--shell", "/bin/sh", "--expiredate", "1", self.web], check=True)
        self.go(self.driver.ensure_configured(workload))
        self.assertEqual(pwd.getpwnam(self.web).pw_shell, "/bin/false")
        found = Accounts(self.spawner, self.instance, UidRange(self.first_uid, 1000), self.login)
        self.assertIsNone(found.problem(5, self.first_uid + 5, True))

    def test_isNotShutWhenTheDaemonRestarts(self) -> None:
        """
        Who could log in before a restart of the daemon can after it; keys changed meanwhile are in force.
        """
        workload = self.start(Workload(5, self.web, keys=("ssh-ed25519 AAAA ann",)))
        self.remake({5: evolve(workload, keys=())})
        self.assertEqual(pwd.getpwnam(self.web).pw_shell, "/bin/false")
        self.assertEqual(self.keyfile.read_text(), "")

    def test_removesAGroupWithoutItsAccount(self) -> None:
        """
        A daemon that died between group and account leaves nothing behind.
        """
        self.go(self.driver.ensure_created(Workload(5, self.web)))
        subprocess.run(["userdel", self.web], check=True)
        subprocess.run(["groupadd", "--gid", str(self.first_uid + 5), self.web], check=True)
        self.remake({})
        self.assertNotIn(self.web, Path("/etc/group").read_text())

    def test_isFinishedOrUndoneAfterACrash(self) -> None:
        """
        A daemon that dies at any step of making or removing an account: the next one finishes, or removes all of it.
        """
        for steps in range(3):
            for removing in (False, True):
                workload = Workload(5, self.web)
                if removing:
                    self.start(workload)
                left = steps

                async def run(*words: Any) -> None:
                    nonlocal left
                    if left == 0:
                        raise OSError("the daemon dies here")
                    left -= 1
                    await running.run(*words)

                with mock.patch.object(accounts, "run", run):
                    asked = self.driver.ensure_destroyed(5) if removing else self.driver.ensure_started(workload)
                    with suppress(OSError):
                        self.go(asked)
                if steps % 2:
                    self.remake({5: workload})
                    self.start(evolve(workload, boots=self.status(5).boots + 1 if 5 in self.driver.status() else 1))
                    self.assertEqual(self.accounts(), [self.web])
                self.remake({})
                self.assertEqual(self.accounts(), [])
                self.assertNotIn(self.web, Path("/etc/group").read_text())

    def test_saysWhyNobodyCanLogIn(self) -> None:
        """
        A login shell that is missing, that others may not run, or whose interpreter they cannot reach is named.
        """
        self.assertEqual(self.driver.problems(), [])
        private = self.directory / "private"
        private.mkdir(mode=0o700)
        shutil.copy("/bin/sh", private / "sh")
        script = self.directory / "script"
        for shebang, mode, reason in (
            (f"#!{private}/sh -e\n", 0o755, f"others may not pass through {private}"),
            ("#!/bin/sh\n", 0o700, f"others may not run {script}"),
            ("#!/bin/sh\n", 0o755, None),
        ):
            script.write_text(shebang)
            script.chmod(mode)
            self.login = script
            self.remake({})
            self.assertEqual(self.driver.problems(), [f"nobody can log in: {reason}"] if reason else [])
        self.login = self.directory / "missing"
        self.remake({})
        self.assertIn("No such file", self.driver.problems()[0])

    def test_keepsKeysAsTheyShouldBe(self) -> None:
        """
        A key added by hand is gone with the next round.
        """
        self.start(Workload(5, self.web, keys=("ssh-ed25519 AAAA ann",)))
        with self.keyfile.open("a") as file:
            file.write("ssh-ed25519 AAAA mallory\n")
        self.driver.tidy()
        self.until(lambda: self.keyfile.read_text() == "ssh-ed25519 AAAA ann\n")

    def test_followsNoLinkThatIsPlanted(self) -> None:
        """
        authorized_keys -> /etc/shadow, or .ssh -> /etc: shadow stays, the keys are written beside it.
        """
        workload = self.start(Workload(5, self.web, keys=("ssh-ed25519 AAAA ann",)))
        shadow = Path("/etc/shadow")
        for plant in (
            "rm ~/.ssh/authorized_keys; ln -s /etc/shadow ~/.ssh/authorized_keys",
            "rm -r ~/.ssh; ln -s /etc ~/.ssh",
        ):
            before = (shadow.read_bytes(), shadow.stat().st_mode, shadow.stat().st_uid)
            subprocess.run(self.become("env", f"HOME={self.home}", "sh", "-ec", plant), check=True)
            self.go(self.driver.ensure_configured(workload))
            self.assertEqual((shadow.read_bytes(), shadow.stat().st_mode, shadow.stat().st_uid), before)
            self.assertFalse(Path("/etc/authorized_keys").exists())
            self.assertEqual(self.keyfile.read_text(), "ssh-ed25519 AAAA ann\n")
            self.assertFalse(self.keyfile.is_symlink() or self.keyfile.parent.is_symlink())

    def test_takesInWhoCameByAnotherWay(self) -> None:
        """
        A process of the account that nobody asked about is soon in its control groups; without a sliver it is ended.
        """
        self.start(Workload(5, self.web))
        assert self.cgroups is not None
        with subprocess.Popen(self.become("sleep", "1000")) as strange:
            self.until(lambda: self.cgroups is not None and strange.pid in self.cgroups.members(5))
            self.go(self.driver.ensure_stopped(5))
            self.until(lambda: strange.poll() is not None)
        with subprocess.Popen(self.become("sleep", "1000")) as strange:
            self.until(lambda: strange.poll() is not None)

    def test_endsWhoLooksDead(self) -> None:
        """
        A process whose first thread has ended, which the kernel calls a zombie, is held and ended like any other.
        """
        self.start(Workload(5, self.web))
        script = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(20,)).start(); "
        script += "ctypes.CDLL(None).pthread_exit(None)"
        python = next(p for p in ("/usr/bin/python3", "/usr/local/bin/python3", sys.executable) if Path(p).exists())

        def groups(pid: int) -> set[str]:
            return {
                (task / "cgroup").read_text() for task in Path(f"/proc/{pid}/task").iterdir() if task.name != str(pid)
            }

        with subprocess.Popen(self.become(python, "-c", script)) as strange:
            self.until(lambda: any(f"{self.instance[:12]}/a5" in text for text in groups(strange.pid)))
            self.go(self.driver.ensure_stopped(5))
            self.assertIsNotNone(strange.poll())
        with subprocess.Popen(self.become(python, "-c", script)) as strange:
            self.until(lambda: strange.poll() is not None)
            self.assertEqual(strange.returncode, -9)

    def test_removesTheAccountWithAllItsFiles(self) -> None:
        """
        After destroy there is no account, no group, no home; what links in the home point to stays.
        """
        outside = self.directory / "outside"
        outside.mkdir()
        (outside / "file").touch()
        self.start(Workload(5, self.web, start_command=f"ln -s {outside} ~/link; sleep 1000"))
        self.until((self.home / "link").is_symlink)
        self.go(self.driver.ensure_destroyed(5))
        self.assertEqual(self.accounts(), [])
        self.assertFalse(self.home.exists())
        self.assertTrue((outside / "file").exists())

    def test_runsItsInitscript(self) -> None:
        """
        The initscript runs as the account, with its output in its log.
        """
        self.start(Workload(5, self.web, initscript="#!/bin/sh\necho $1 $(id -un)\nexit 3\n"))
        self.until(lambda: self.status(5).initscript == "ended")
        self.assertEqual(self.status(5).initscript_code, 3)
        self.assertIn(f"start {self.web}\n".encode(), self.driver.read_log(5, "initscript", 0, 1000)[0])

    # Logging in

    def test_letsInWhoHasAKey(self) -> None:
        """
        With a key people log in, run commands as the account and within its limits, and hear their exit status.
        """
        self.open_house(rspec={"pids_max": 50})
        code, out, err = self.ssh('id -un; echo "$SHELL" "$HOSTLINE_SOCKET" ~; cat /proc/self/cgroup; exit 7')
        self.assertEqual((code, err), (7, ""))
        lines = out.splitlines()
        self.assertEqual(lines[:2], [self.web, f"/bin/bash {self.directory}/door/hostline.sock {self.home}"])
        self.assertIn(f"/hostline-{self.instance[:12]}/a5", out)

    def test_letsNobodyInWhoseKeyWasTaken(self) -> None:
        """
        A key that was taken away opens nothing any more, also when it was the last.
        """
        workload = self.open_house()
        self.assertEqual(self.ssh("true")[0], 0)
        self.go(self.driver.ensure_configured(evolve(workload, keys=())))
        code, _, err = self.ssh("true")
        self.assertEqual(code, 255)
        self.assertIn("Permission denied", err)

    def test_letsNobodyInWhenStopped(self) -> None:
        """
        A stopped sliver is shut, for sftp too; sessions are ended; after the next start all is as before.
        """
        workload = self.open_house()
        (self.home / "file").write_text("kept\n")
        self.go(self.driver.ensure_stopped(5))
        self.assertEqual(self.ssh("true")[0], 255)
        self.assertEqual(self.ssh(program="sftp")[0], 255)
        self.start(evolve(workload, boots=2))
        self.assertEqual(self.ssh("cat file")[:2], (0, "kept\n"))
        self.assertEqual(self.ssh(program="sftp")[0], 0)

    def test_letsNobodyInWithoutTheDaemon(self) -> None:
        """
        While the daemon does not answer nobody gets a shell, and the reason is said.
        """
        workload = self.open_house()
        assert workload.door is not None
        (workload.door / "hostline.sock").unlink()
        code, out, err = self.ssh("echo in")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("hostline: you cannot log in now: the daemon does not answer", err)

    def test_holdsWhoLogsIn(self) -> None:
        """
        A fork bomb in a session stays within pids_max, its neighbours go on, and a stop ends it.
        """
        self.open_house(rspec={"pids_max": 20})
        self.start(Workload(6, self.db))
        bomb = "for i in $(seq 200); do sleep 1000 & done; echo all"
        self.ssh(f"exec sh -c '{bomb}' >/dev/null 2>&1 </dev/null")  # bash would try again and again
        assert self.cgroups is not None
        self.assertLessEqual(len(self.cgroups.members(5)), 20)
        self.assertGreater(len(self.cgroups.members(5)), 5)
        heard = Heard()
        self.driver.execute(6, ["echo", "fine"], heard)
        self.until(lambda: heard.ends)
        self.assertEqual(heard.out, b"fine\n")
        self.go(self.driver.ensure_stopped(5))
        self.assertEqual(self.ours().get(5, []), [])

    def test_admitsNobodyElse(self) -> None:
        """
        Another account, root or a dead process at a sliver's door is refused.
        """
        self.start(Workload(5, self.web))
        assert isinstance(self.driver, AccountDriver)
        for pid, why in ((os.getpid(), "not of this account"), (2**22 + 1, "is gone")):
            with self.assertRaisesRegex(OSError, why):
                self.driver.admit(5, pid)
        with self.assertRaisesRegex(OSError, "not up"):
            self.driver.admit(6, os.getpid())
        self.assertEqual(self.status(5), evolve(self.status(5), boot="booted"))
        self.assertIsInstance(self.status(5), Status)


del Processes
