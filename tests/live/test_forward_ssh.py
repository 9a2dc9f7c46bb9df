"""
The forward shell as delegates meet it: through a real sshd, as the login shell that the daemon installs.
"""

from __future__ import annotations

import ast
import hashlib
import os
import signal
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.wire import stream_data
from tests.live.hosted import Hosted, topology, until
from tests.live.sshd import Sshd
from tests.needs import needs_root, needs_tool
from tests.scale import scaled

LIMIT_S = 60.0
WEB = "web.exp1.lab"


@needs_root
@needs_tool("ssh", "sshd", "useradd")
class SshTest(SynchronousTestCase):
    """
    A host, a delegate of one of its experiments, and an sshd that lets it in.
    """

    def setUp(self) -> None:
        self.host = Hosted(self, self.limits())
        self.host.start()
        self.addCleanup(lambda: self.assertEqual(self.host.tracebacks(), ""))
        self.sshd = Sshd(self, {"MaxSessions": "4000"})
        self.host.ask("add_project lab")
        self.host.ask(f"create_experiment lab/exp1 {topology({'web': None})} swap_in=True wait=30", 40)
        self.user = f"del_f{self.host.uid_first // 1000}"
        commands = ["ping", "whoami", "experiment", "status_request", "exec", "push", "pull", "wait_for", "watch"]
        body = self.host.ask(f"add_delegate {self.user} keys={[self.sshd.key]!r} {commands=!r} slivers=['lab/exp1']")
        self.uid: int = body["uid"]

    def limits(self) -> str:
        return ""

    def running(self, word: bytes, uid: int | None = None) -> list[int]:
        """
        @return: the pids of processes with this in their command line, of one user or of anybody.
        """
        found = []
        for one in Path("/proc").iterdir():
            try:
                if one.name.isdigit() and uid in (None, one.stat().st_uid) and word in (one / "cmdline").read_bytes():
                    found.append(int(one.name))
            except OSError:
                continue
        return found

    def shells(self) -> list[int]:
        """
        @return: the pids of the shells that run as the delegate.
        """
        return self.running(b"hostline-shell", self.uid)

    def refused(self, output: bytes, code: str) -> None:
        """
        All of the output is one error of this code.
        """
        word, _, body = output.decode("ascii").partition(" ")
        self.assertEqual((word, output.count(b"\n")), ("error_reply", 1), output[-300:])
        self.assertEqual(ast.literal_eval(body)["code"], code)


class AnsweredTests(SshTest):
    """
    What is asked is answered, whole.
    """

    def test_bothWays(self) -> None:
        """
        A request after the name and one on standard input are answered alike, also one of another alphabet.
        """
        for request in (b"experiment lab/exp1", "exec web.exp1.lab ['echo', 'é世界']".encode()):
            word = self.sshd.ssh(self.user, request.decode())
            piped = self.sshd.ssh(self.user, input=request + b"\n")
            self.assertEqual((word.returncode, piped.returncode, word.stdout), (0, 0, piped.stdout))
            self.assertEqual((word.stderr, piped.stderr, word.stdout.count(b"\n")), (b"", b"", 1))

    def test_pipelined(self) -> None:
        """
        A thousand requests come back in order, though the input has long ended, the last one slow.
        """
        asked = b"".join(
            b"exec %s ['false', '%d']\n" % (WEB.encode(), n) if n == 500 else b"experiment lab/x%d\n" % n
            for n in range(1000)
        )
        done = self.sshd.ssh(self.user, input=asked + b"wait_for lab/exp1 failed timeout=1\nping\n", limit_s=LIMIT_S)
        lines = done.stdout.splitlines()
        self.assertEqual((done.returncode, done.stderr, len(lines)), (0, b"", 1002))
        for number, line in enumerate(lines[:1000]):
            self.assertIn(b"exec_reply" if number == 500 else b"lab/x%d" % number, line)
        self.assertEqual((lines[1000][:12], lines[1001][:11]), (b"error_reply ", b"ping_reply "))

    def test_sizes(self) -> None:
        """
        A request of a mebibyte is answered, one byte more is refused, and a long output comes back whole.
        """
        asked = b"ping" + b" " * ((1 << 20) - 4) + b"\n" + b"ping" + b" " * ((1 << 20) - 3) + b"\nwhoami\n"
        done = self.sshd.ssh(self.user, input=asked, limit_s=LIMIT_S)
        first, second, third = done.stdout.splitlines()
        self.assertEqual((first[:11], third[:13]), (b"ping_reply ", b"whoami_reply "))
        self.assertIn(b"'LINE_TOO_LONG'", second)
        size = scaled(20_000_000, 200_000_000)
        asked = f"@1 exec {WEB} ['sh', '-c', 'yes hostline | head -c {size}'] stream=True\n".encode()
        done = self.sshd.ssh(self.user, input=asked, limit_s=LIMIT_S)
        got = b"".join(
            b64decode(ast.literal_eval(line.split(b" ", 2)[2].decode())["base64"])
            for line in done.stdout.splitlines()[:-1]
        )
        wanted = (b"hostline\n" * (size // 9 + 1))[:size]
        self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(wanted).digest())
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1][:14]), (0, b"@1 exec_reply "))

    def test_streamsAfterInputEnded(self) -> None:
        """
        A command that reads its input to the end and a file that is sent work, though our input has ended first.
        """
        data = bytes(range(256)) * 400
        asked = f"@1 exec {WEB} ['sha256sum'] stream=True\n@2 push {WEB} /tmp/there stream=True\n".encode()
        asked += (
            stream_data("1", "in", data) + stream_data("2", "in", data) + b"@2 data {'stream': 'in', 'end': True}\n"
        )
        done = self.sshd.ssh(self.user, input=asked)
        said = hashlib.sha256(data).hexdigest().encode() + b"  -\n"
        lines = done.stdout.splitlines(True)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn(stream_data("1", "out", said), lines)
        self.assertEqual(
            sorted(line[:13] for line in lines if b"_reply " in line), [b"@1 exec_reply", b"@2 push_reply"]
        )
        there = self.sshd.ssh(self.user, f"exec {WEB} ['sha256sum', '/tmp/there']")
        self.assertIn(hashlib.sha256(data).hexdigest().encode(), there.stdout)

    def test_hostile(self) -> None:
        """
        Locales, binary, much too long words, endless lines and bodies for another program: one reply, or none and a
        status that says so; and the daemon goes on.
        """
        bad = {"LC_ALL": "zz.nonsense", "LC_CTYPE": "\x80", "LANG": "$(id)", "PATH": os.environ["PATH"]}
        done = self.sshd.ssh(self.user, "ping", options=("-o", "SendEnv=LANG LC_*"), env=bad)
        self.assertEqual((done.returncode, done.stdout[:11]), (0, b"ping_reply "))
        for request in ("$(id)", "`id`;id|id", "ping\nping", "x" * 120_000, "[" * 60_000, "\x1b[2J", "é世", "<a/>"):
            done = self.sshd.ssh(self.user, request)
            self.assertEqual(
                (done.stdout[:12], done.stdout.count(b"\n"), done.stderr), (b"error_reply ", 1, b""), request[:50]
            )
            self.assertIn(done.returncode, (1, 2))
        for words in (["x" * 100_000] * 2, ["x" * 100_000] * 10):  # more than one word may have, or than ssh sends
            done = self.sshd.ssh(self.user, *words)
            self.assertEqual((done.returncode == 0, done.stdout), (False, b""))
        done = self.sshd.ssh(self.user, input=bytes(scaled(20, 500) << 20) + b"\nping\n", limit_s=LIMIT_S)
        first, second = done.stdout.splitlines()
        self.assertIn(b"'LINE_TOO_LONG'", first)
        self.assertEqual((done.returncode, second[:11]), (0, b"ping_reply "))
        done = self.sshd.ssh(self.user, input=b"<?xml version='1.0'?><methodCall/>" + b" " * 3_000_000)
        self.assertEqual(done.returncode, 2)
        self.refused(done.stdout, "UNKNOWN_COMMAND")


class EndedTests(SshTest):
    """
    What happens when one side goes.
    """

    def test_withItsConnection(self) -> None:
        """
        The shell ends with the ssh that asked for it, whatever it was doing, and what ran for it inside ends too.
        """
        for words, given in (
            ((f"@1 exec {WEB} ['sleep', '98107'] stream=True",), b""),
            ((), b"wait_for lab/exp1 failed timeout=300\n"),
            (("watch all",), b""),
            ((), b"pin"),
            ((), b""),
        ):
            with subprocess.Popen(self.sshd.argv(self.user, *words), stdin=-1, stdout=-1, stderr=-1) as ssh:
                assert ssh.stdin is not None
                ssh.stdin.write(given)
                ssh.stdin.flush()
                until(self.shells)
                time.sleep(0.2)
                ssh.send_signal(signal.SIGKILL)
            until(lambda: not self.shells(), what=(words, given))
        until(lambda: not self.running(b"98107"))

    def test_daemonKilledAndAway(self) -> None:
        """
        A daemon that is killed while it is waited for, and one that is not there: one error each, and ssh ends with the
        status that is documented.
        """
        with subprocess.Popen(self.sshd.argv(self.user), stdin=-1, stdout=-1, stderr=-1) as ssh:
            assert ssh.stdin is not None and ssh.stdout is not None
            ssh.stdin.write(b"ping\nwait_for lab/exp1 failed timeout=300\n")
            ssh.stdin.flush()
            self.assertEqual(ssh.stdout.readline()[:11], b"ping_reply ")
            self.host.kill()
            self.refused(ssh.stdout.read(), "NO_DAEMON")
            self.assertEqual(ssh.wait(LIMIT_S), 3)
        for words, given in ((("ping",), b""), ((), b"ping\n")):
            done = self.sshd.ssh(self.user, *words, input=given)
            self.refused(done.stdout, "NO_DAEMON")
            self.assertEqual(done.returncode, 3)
        self.host.start()
        self.assertEqual(self.sshd.ssh(self.user, "ping").returncode, 0)


class ManyTests(SshTest):
    """
    Many at once.
    """

    def limits(self) -> str:
        return "[limits]\nprincipal_connections = 200\n"

    def test_connections(self) -> None:
        """
        One delegate opens more sessions than it may: as many as it may are served, each of the others is told so in one
        error, and other people do not notice.
        """
        control = ("-o", f"ControlPath={self.sshd.directory}/control")
        master = subprocess.Popen(
            self.sshd.argv(self.user, options=(*control, "-M", "-N")), stdin=-3, stdout=-3, stderr=-3
        )
        self.addCleanup(master.wait)
        self.addCleanup(master.terminate)
        until((self.sshd.directory / "control").exists)
        other = f"{self.user}o"
        other_key = self.sshd.new_key("other")
        self.host.ask(f"add_delegate {other} keys={[other_key]!r} commands=['ping'] slivers=['lab/exp1']")
        for _ in range(scaled(1, 10)):
            self.crowd(control, lambda: self.assertEqual(self.sshd.ssh(other, "ping", key="other").returncode, 0))
            until(lambda: not self.shells())
        self.assertEqual(self.sshd.ssh(self.user, "ping").returncode, 0)

    def crowd(self, control: tuple[str, ...], meanwhile: Callable[[], None]) -> None:
        """
        300 sessions at once.
        """
        sessions = []
        try:
            for _ in range(300):
                argv = self.sshd.argv(self.user, options=control)
                one = subprocess.Popen(argv, stdin=-1, stdout=-1, stderr=-3)
                sessions.append(one)
                assert one.stdin is not None
                one.stdin.write(b"ping\n")
                one.stdin.flush()
            served = 0
            for one in sessions:
                assert one.stdout is not None
                line = one.stdout.readline()
                if line[:11] == b"ping_reply ":
                    served += 1
                else:
                    self.refused(line + one.stdout.read(), "TOO_MANY")
                    self.assertEqual(one.wait(LIMIT_S), 3)
            self.assertEqual(served, 200)
            meanwhile()
            begun = time.monotonic()
            self.host.ask("ping")
            self.assertLess(time.monotonic() - begun, 1)
        finally:
            for one in sessions:
                assert one.stdin is not None
                one.stdin.close()
        for one in sessions:
            assert one.stdout is not None
            one.stdout.close()
            self.assertIn(one.wait(LIMIT_S), (0, 3))
