"""
Commands, consoles, logs and files inside real slivers, through a real daemon and our own programs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import select
import signal
import struct
import subprocess
import threading
import time
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

from twisted.trial.unittest import TestCase

from hostline.clients.client import Client
from hostline.protocol.errors import OperationFailed, Timeout, TooMany, WrongState
from hostline.protocol.wire import stream_data
from tests.live.hosted import Hosted, topology, until
from tests.live.support import living
from tests.live.test_clients import LIMIT_S, environment, forward, program
from tests.scale import scaled

WEB = "web.exp1.lab"
BINARY = bytes(range(256)) * 1200


class InsideTests(TestCase):
    """
    Nodes of an experiment.
    """

    def setUp(self) -> None:
        self.host = Hosted(self)
        self.addCleanup(lambda: self.assertEqual(self.host.tracebacks(), ""))
        self.host.start()
        self.client = Client(str(self.host.socket))
        self.addCleanup(self.client.close)
        self.host.ask("add_project lab")
        text = topology({"web": "echo started; while :; do date; sleep 0.2; done", "db": None})
        self.host.ask(f"create_experiment lab/exp1 {text} swap_in=True wait=30", 40)

    def run_inside(self, script: str, **options: object) -> dict[str, object]:
        return self.client.request("exec", WEB, ["/bin/sh", "-c", script], **options)  # type: ignore[no-any-return]

    def hostline(self, *words: str, data: bytes = b"", limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            program("hostline", *words),
            env=environment(self.host.socket),
            input=data,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )

    def test_exec(self) -> None:
        """
        Exit status and both outputs come back; a signal counts 128 more; what is not there is told.
        """
        self.assertEqual(self.run_inside("echo out; echo err >&2; exit 7"), {"exit": 7, "out": "out\n", "err": "err\n"})
        self.assertEqual(self.run_inside("kill -9 $$")["exit"], 137)
        self.assertEqual(self.run_inside("cat; echo $#")["out"], "0\n")
        long = self.run_inside("yes | head -c 3000000")
        self.assertEqual((len(str(long["out"])), long.get("cut")), (1 << 20, True))
        with self.assertRaises(Timeout) as caught:
            self.run_inside("echo begun; sleep 98765", timeout=0.5)
        self.assertEqual(caught.exception.details["out"], "begun\n")
        until(lambda: not self.running("98765"))

    def running(self, word: str) -> list[int]:
        found = []
        for pid in self.host.processes():
            with contextlib.suppress(OSError):
                if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    found.append(pid)
        return found

    def until_running(self, word: str, count: int) -> None:
        until(lambda: len(self.running(word)) == count)

    def test_execProgram(self) -> None:
        """
        hostline exec is the command, to its caller: input, outputs, exit status.
        """
        done = self.hostline("exec", WEB, "--", "sh", "-c", "cat; echo no >&2; exit 5", data=b"a\0\xff")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (5, b"a\0\xff", b"no\n"))
        self.assertEqual(self.hostline("exec", WEB, "true").returncode, 0)
        self.assertEqual(self.hostline("exec", "nowhere.exp1.lab", "true").returncode, 125)
        self.assertEqual(self.hostline("--timeout", "1", "exec", WEB, "sleep", "98764").returncode, 124)
        until(lambda: not self.running("98764"))

    def test_carriesMuch(self) -> None:
        """
        Megabytes through a command inside, in and out at once, arrive as they were.
        """
        size = scaled(20, 400) << 20
        data = os.urandom(1 << 20) * (size >> 20)
        before = self.host.rss()
        begun = time.monotonic()
        done = self.hostline("exec", WEB, "cat", data=data, limit_s=scaled(60, 600))
        self.assertEqual(done.returncode, 0)
        self.assertEqual(hashlib.sha256(done.stdout).hexdigest(), hashlib.sha256(data).hexdigest())
        print(f"{size >> 20} MiB through cat inside in {time.monotonic() - begun:.1f} s")
        self.assertLess(self.host.rss() - before, 40 << 20)

    def test_waitsForWhoDoesNotRead(self) -> None:
        """
        A client that reads nothing stops the command, not the daemon, whose memory stays; then all is still right.
        """
        with self.host.client() as client:
            client.send(f"@1 exec {WEB} ['sh', '-c', 'yes 123456789 | head -c 50000000'] stream=True\n")
            time.sleep(0.5)
            before = self.host.rss()
            time.sleep(0.5)
            self.assertLess(self.host.rss() - before, 10 << 20)
            self.host.ask("ping", 1)
            size, line = 0, b""
            while b"exec_reply" not in (line := client.line()):
                size += len(line)
        self.assertGreater(size, 50_000_000)

    def test_waitsForWhatDoesNotRead(self) -> None:
        """
        Input for a command that reads none is taken so far and no further; others are served meanwhile.
        """
        with self.host.client() as client:
            client.send(f"@1 exec {WEB} ['sleep', '98763'] stream=True\n")
            client.socket.setblocking(False)
            piece = stream_data("1", "in", bytes(200_000))
            sent, until_ = 0, time.monotonic() + 2
            while time.monotonic() < until_:
                try:
                    sent += client.socket.send(piece[sent % len(piece) :])
                except BlockingIOError:
                    time.sleep(0.01)
            self.assertLess(sent, 16 << 20)
            self.host.ask("ping", 1)
            self.assertTrue(self.running("98763"))
        until(lambda: not self.running("98763"))

    def test_hangUpKills(self) -> None:
        """
        When its client is gone, however it went, a command is killed with all that it started.
        """
        for number, tagged in ((98001, "@1 "), (98002, "")):
            script = f"trap '' HUP TERM; sleep {number} & sleep {number} & wait"
            client = self.host.client()
            stream = " stream=True" if tagged else ""
            client.send(f"{tagged}exec {WEB} {['sh', '-c', script]!r}{stream}\n")
            self.until_running(str(number), 2)
            client.close()
            self.until_running(str(number), 0)
        process = subprocess.Popen(
            program("hostline", "exec", WEB, "sleep", "98003"),
            env=environment(self.host.socket),
            stdin=subprocess.DEVNULL,
        )
        until(lambda: self.running("98003"))
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT_S)
        until(lambda: not self.running("98003"))

    def test_terminal(self) -> None:
        """
        hostline exec -t gives a terminal inside that has our size, and follows it; our own is as it was afterwards.
        """
        pid, master = pty.fork()
        if pid == 0:  # pragma: no cover
            words = program("hostline", "exec", "-t", WEB, "sh", "-c", "stty size; read x; stty size; tty; exit 9")
            os.execve(words[0], words, environment(self.host.socket))
        self.addCleanup(os.close, master)
        ioctl(master, TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        said = self.read_until(master, b"33 99")
        ioctl(master, TIOCSWINSZ, struct.pack("HHHH", 44, 111, 0, 0))
        os.kill(pid, signal.SIGWINCH)
        time.sleep(0.3)
        os.write(master, b"\r")
        said += self.read_until(master, b"/dev/")
        self.assertIn(b"44 111", said)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 9)

    def read_until(self, descriptor: int, wanted: bytes) -> bytes:
        said, deadline = b"", time.monotonic() + LIMIT_S
        while wanted not in said and time.monotonic() < deadline:
            if select.select([descriptor], [], [], 0.5)[0]:
                with contextlib.suppress(OSError):
                    said += os.read(descriptor, 4096)
        self.assertIn(wanted, said)
        return said

    def test_logs(self) -> None:
        """
        What a start command wrote is shown, and followed as it goes on.
        """
        until(lambda: "started" in self.client.request("logs", WEB)["out"])
        process = subprocess.Popen(
            program("hostline", "logs", WEB, "--follow"),
            env=environment(self.host.socket),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        timer = threading.Timer(LIMIT_S, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(8)]
        finally:
            timer.cancel()
            process.kill()
            process.communicate()
        self.assertEqual(lines[0], b"started\n")
        self.assertEqual([line for line in lines if not line], [])
        until(lambda: self.host.ask("host_status")["daemon"]["connections"] <= 2)

    def test_copies(self) -> None:
        """
        Bytes go in and come out as they were: as a blob, as a stream, and as a file of a shell.
        """
        name = hashlib.sha256(BINARY).hexdigest()
        for at in range(0, len(BINARY), 100_000):
            line = stream_data("x", "in", BINARY[at : at + 100_000]).decode()
            encoded = line.partition("'base64': '")[2].partition("'")[0]
            self.host.ask(f"blob {name} {len(BINARY)} {at} '{encoded}'")
        self.assertEqual(self.host.ask(f"push {WEB} /tmp/f blob:{name} mode=750")["sha256"], name)
        self.assertEqual(self.run_inside("stat -c %a.%s /tmp/f; ls -A /tmp")["out"], f"750.{len(BINARY)}\nf\n")
        there, back = self.host.directory / "there", self.host.directory / "back"
        done = self.hostline("pull", WEB, "/tmp/f", str(there))
        self.assertEqual((done.returncode, there.read_bytes()), (0, BINARY), done.stderr)
        self.assertEqual(self.hostline("push", WEB, str(there), "/tmp/g").returncode, 0)
        self.assertEqual(self.hostline("pull", WEB, "/tmp/g", str(back)).returncode, 0)
        self.assertEqual(back.read_bytes(), BINARY)
        self.assertEqual(self.hostline("pull", WEB, "/tmp/g").stdout, BINARY)
        self.assertEqual(self.hostline("push", WEB, "-", "/tmp/-h", data=b"x").returncode, 0)
        self.assertEqual(self.run_inside("cat /tmp/-h")["out"], "x")
        self.assertRaises(TooMany, self.client.request, "pull", WEB, "/dev/zero")
        for command, path, cause in (
            ("pull", "/tmp/none", "No such file"),
            ("pull", "/tmp", "s a directory"),
            ("push", "/tmp", "Is a directory"),
            ("push", "/proc/x", ""),
        ):
            with self.assertRaises(OperationFailed) as caught:
                self.client.request(command, WEB, path, *["text"] * (command == "push"))
            self.assertIn(cause, str(caught.exception))

    def test_followsNoLinkOfTheirs(self) -> None:
        """
        A link planted inside is replaced, and leads nobody to what only the daemon may write or read.
        """
        target = self.host.directory / "target"
        target.write_text("ours")
        target.chmod(0o600)
        self.run_inside(f"ln -s {target} /tmp/l; ln -s {self.host.directory} /tmp/d")
        self.client.request("push", WEB, "/tmp/l", "theirs")
        self.assertEqual(self.run_inside("cat /tmp/l; test -L /tmp/l || echo no link")["out"], "theirsno link\n")
        if os.geteuid() == 0:  # without root, slivers have the daemon's own rights
            self.assertRaises(OperationFailed, self.client.request, "push", WEB, "/tmp/d/target", "theirs")
            self.assertRaises(OperationFailed, self.client.request, "pull", WEB, "/tmp/d/target")
            self.assertEqual(target.read_text(), "ours")

    def test_leavesNoHalfFile(self) -> None:
        """
        Who hangs up in the middle of a file leaves nothing of it.
        """
        client = self.host.client()
        client.send(f"@1 push {WEB} /tmp/half stream=True\n".encode() + stream_data("1", "in", bytes(50_000)))
        until(lambda: "hostline" in str(self.run_inside("ls -A /tmp")["out"]))
        client.close()
        until(lambda: self.run_inside("ls -A /tmp")["out"] == "")

    def test_throughTheForwardShell(self) -> None:
        """
        What is piped through a delegate's shell goes in and comes out, and its end is the end of the input.
        """
        said = f"@1 exec {WEB} ['sort'] stream=True\n".encode() + stream_data("1", "in", b"b\na\n")
        done = subprocess.run(forward(self.host.socket), input=said, capture_output=True, timeout=LIMIT_S, check=False)
        lines = done.stdout.splitlines(True)
        self.assertEqual(b"".join(lines[:-1]), stream_data("1", "out", b"a\nb\n"))
        self.assertEqual(lines[-1], b"@1 exec_reply {'exit': 0, 'out': '', 'err': ''}\n")
        self.assertEqual(done.returncode, 0)

    def test_isRefusedWhenDown(self) -> None:
        """
        In a node that was stopped nothing is run; a stopped node's command is over.
        """
        client = self.host.client()
        self.addCleanup(client.close)
        client.send(f"@1 exec {WEB} ['sleep', '98005'] stream=True\n")
        until(lambda: self.running("98005"))
        (pid,) = self.running("98005")
        self.host.ask("stop_node lab/exp1 web wait=20", 30)
        self.assertFalse(living(pid))
        self.assertIn(b"_reply", client.line())
        self.assertRaises(WrongState, self.client.request, "exec", WEB, ["true"])
        self.assertRaises(WrongState, self.client.request, "push", WEB, "f", "x")

    def test_killedDaemonLeavesNoCommand(self) -> None:
        """
        The daemon is killed while commands run: after its next start they are gone, and the nodes are not.
        """
        client = self.host.client()
        client.send(f"@1 exec {WEB} ['sleep', '98006'] stream=True\n")
        until(lambda: self.running("98006"))
        self.host.kill()
        client.close()
        self.host.start()
        until(lambda: not self.running("98006"))
        self.assertEqual(self.host.ask("status_request lab/exp1")["hv:process:pnode-0000"]["web"], ["booted", None])
        self.assertEqual(Client(str(self.host.socket)).request("exec", WEB, ["echo", "hi"])["out"], "hi\n")
