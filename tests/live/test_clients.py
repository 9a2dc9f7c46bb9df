"""
The clients as programs, on a real daemon and on sockets that misbehave.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients.client import Client
from hostline.protocol.errors import NoDaemon, NoSuchExperiment, Timeout
from tests.live.hosted import Hosted, topology, until
from tests.live.support import remove_directory, temporary_directory

ROOT = Path(__file__).parents[2]
#: The file of the forward shell, where it finds what it imports.
SHELL = str(ROOT / "twistd_plugins" / "hostline" / "clients" / "forward.py")
LIMIT_S = 30.0


def program(name: str, *words: str) -> list[str]:
    """
    A program as it is in the source.
    """
    return [sys.executable, str(ROOT / "clients" / "bin" / name), *words]


def forward(path: object, *words: str) -> list[str]:
    """
    The forward shell as sshd starts it: alone, isolated, without site-packages.
    """
    return [sys.executable, "-I", "-S", SHELL, "--socket", str(path), *words]


def environment(path: object) -> dict[str, str]:
    """
    What our programs inherit.
    """
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "twistd_plugins"),
        "HOSTLINE_SOCKET": str(path),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }


def ran(path: object, argv: Sequence[str], given: bytes = b"", limit_s: float = LIMIT_S) -> tuple[int, bytes, bytes]:
    """
    @return: exit status, standard output, standard error.
    """
    done = subprocess.run(
        argv, input=given, capture_output=True, env=environment(path), timeout=limit_s, check=False, cwd="/"
    )
    return done.returncode, done.stdout, done.stderr


class Fake:
    """
    A socket whose other end does what a test says, on a thread.
    """

    def __init__(self, test: SynchronousTestCase, behave: Callable[[socket.socket], None]) -> None:
        directory = temporary_directory()
        test.addCleanup(remove_directory, directory)
        self.path = directory / "sock"
        self._listener = socket.socket(socket.AF_UNIX)
        test.addCleanup(self._listener.close)
        self._listener.bind(str(self.path))
        self._listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = self._listener.accept()
                    with peer:
                        behave(peer)

        self._thread = threading.Thread(target=serve, daemon=True)
        self._thread.start()


class OnTerminal:
    """
    A program on a terminal of its own.
    """

    def __init__(self, test: SynchronousTestCase, path: object, argv: Sequence[str], home: str = "/") -> None:
        self._master, slave = pty.openpty()
        test.addCleanup(os.close, self._master)

        def own() -> None:
            os.setsid()
            os.close(os.open(os.ttyname(0), os.O_RDWR))  # makes it the controlling one, so that Ctrl-C arrives
            settings = termios.tcgetattr(0)
            settings[3] |= termios.NOFLSH  # or the terminal may throw away what is said in answer to Ctrl-C
            termios.tcsetattr(0, termios.TCSANOW, settings)

        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(path) | {"HOME": home},
            preexec_fn=own,
            cwd="/",
        )
        os.close(slave)
        self.seen = ""
        test.addCleanup(self._end)

    def until(self, text: str, limit_s: float = LIMIT_S) -> None:
        """
        Read until a text has been shown.
        """
        deadline = time.monotonic() + limit_s
        while text not in self.seen:
            if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} was not shown in {limit_s:g} s, but {self.seen[-2000:]!r}")
            try:
                piece = os.read(self._master, 65536)
            except OSError:
                piece = b""
            if not piece:
                raise AssertionError(f"{text!r} was not shown, but {self.seen[-2000:]!r}")
            self.seen += piece.decode("utf-8", "replace").replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """
        Press keys.
        """
        os.write(self._master, text.encode())

    def ended(self) -> int:
        """
        @return: the exit status; what was shown is in C{seen}.
        """
        with contextlib.suppress(OSError):
            while select.select([self._master], [], [], LIMIT_S)[0] and (piece := os.read(self._master, 65536)):
                self.seen += piece.decode("utf-8", "replace").replace("\r\n", "\n")
        return self.process.wait(LIMIT_S)

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(LIMIT_S)


class HostedTests(SynchronousTestCase):
    """
    A host with one active experiment.
    """

    def setUp(self) -> None:
        self.host = Hosted(self)
        self.host.start()
        self.socket = self.host.socket
        self.host.ask("add_project lab")
        self.host.ask(f"create_experiment lab/exp1 {topology({'web': None, 'db': None})} swap_in=True")

    def hostline(self, *words: str, given: bytes = b"") -> tuple[int, bytes, bytes]:
        """
        @return: exit status, standard output, standard error.
        """
        return ran(self.socket, program("hostline", *words), given)


class HostlineTests(HostedTests):
    """
    C{hostline COMMAND}.
    """

    def test_output(self) -> None:
        """
        Into a pipe goes the literal as it is on the wire, or JSON.
        """
        status = self.host.ask("status_request lab/exp1")
        for words in ((), ("--raw",)):
            code, out, error = self.hostline(*words, "status_request", "lab/exp1")
            self.assertEqual((code, out, error), (0, ascii(status).encode() + b"\n", b""))
        code, out, error = self.hostline("status_request", "lab/exp1", "--json")
        self.assertEqual((code, json.loads(out), error), (0, status, b""))

    def test_exitStatus(self) -> None:
        """
        Each has its meaning.
        """
        for words, wanted, complaint in (
            (("ping",), 0, b""),
            (("status_request", "lab/exp2"), 1, b"error: no experiment lab/exp2 (did you mean lab/exp1?)\n"),
            (("status_request", "lab/exp2", "--raw"), 1, b"error: no experiment lab/exp2 (did you mean lab/exp1?)\n"),
            (("--timeout", "0.2", "wait_for", "lab/exp1", "failed"), 124, b"in the time given"),
            (("wait_for", "lab/exp1", "failed", "timeout=0.1"), 124, b"error: lab/exp1 is active"),
            (("--socket", "/nowhere/sock", "ping"), 3, b"error: no daemon at /nowhere/sock"),
            (("status_request",), 2, b"usage: hostline status_request PROJECT/EXPERIMENT"),
            (("status_requst", "lab/exp1"), 2, b"did you mean status_request?"),
            (("swap_in", "lab/exp1", "--wiat=3"), 2, b"wait"),
            (("--nope", "ping"), 2, b"--nope"),
            ((), 2, b"usage: hostline"),
            (("check_topology", "@/nowhere"), 2, b"/nowhere"),
            (("shell", "x"), 2, b"usage: hostline shell"),
            (("completion", "fish"), 2, b"usage: hostline completion"),
        ):
            code, out, error = self.hostline(*words)
            self.assertEqual(code, wanted, (words, error))
            self.assertIn(complaint, error, words)
            if code:
                self.assertEqual(out, b"", words)

    def test_usageWithoutDaemon(self) -> None:
        """
        Wrong usage is wrong whether there is a daemon or not; help needs none.
        """
        code, _, error = ran("/nowhere", program("hostline", "status_request"))
        self.assertEqual((code, error.count(b"\n")), (2, 2))
        for words in (("--help",), ("swap_in", "--help"), ("--version",), ("completion", "zsh")):
            code, out, error = ran("/nowhere", program("hostline", *words))
            self.assertEqual((code, error), (0, b""), words)
            self.assertTrue(out)

    def test_texts(self) -> None:
        """
        A topology comes from a file or standard input; a long one goes as a blob.
        """
        text = ast.literal_eval(topology({"web": None}))
        file = self.host.directory / "topology.xml"
        file.write_text(text)
        self.assertEqual(self.hostline("create_experiment", "lab/file", f"@{file}")[0], 0)
        self.assertEqual(self.hostline("create_experiment", "lab/stdin", "-", given=text.encode())[0], 0)
        self.assertEqual(self.hostline("create_experiment", "lab/inline", text)[0], 0)
        file.write_text(text.replace("<experiment>", "<experiment>" + "<!-- \u20ac -->" * 150_000))
        code, _, error = self.hostline("create_experiment", "lab/blob", f"@{file}", "--swap-in")
        self.assertEqual((code, error), (0, b""))
        for name in ("file", "stdin", "inline", "blob"):
            self.assertEqual(list(self.host.ask(f"experiment lab/{name}")["nodes"]), ["web"])

    def test_badTopology(self) -> None:
        """
        What is wrong with it is said with its line.
        """
        code, _, error = self.hostline("create_experiment", "lab/bad", "<experiment>\n<x>")
        self.assertEqual(code, 1)
        self.assertTrue(error.startswith(b"error: line 2: "), error)

    def test_closedOutput(self) -> None:
        """
        A reader that has gone is no fault; a full disk is.
        """
        with subprocess.Popen(
            program("hostline", "experiments"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(self.socket),
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            self.assertEqual((process.stderr.read(), process.wait(LIMIT_S)), (b"", 0))
        with Path("/dev/full").open("wb") as full:
            for name, words in (("hostline", ["experiments"]), ("node_list", [])):
                done = subprocess.run(
                    program(name, *words),
                    stdout=full,
                    stderr=subprocess.PIPE,
                    env=environment(self.socket),
                    check=False,
                )
                self.assertEqual(done.returncode, 1)
                self.assertIn(b"cannot write", done.stderr)

    def test_operation(self) -> None:
        """
        Work that goes on after its wait= is 124, unless nobody wanted to wait.
        """
        self.host.ask("swap_out lab/exp1")
        code, out, error = self.hostline("swap_in", "lab/exp1", "wait=0")
        self.assertEqual((code, error), (0, b""))
        number = ast.literal_eval(out.decode())["operation"]
        self.assertEqual(self.hostline("wait", str(number))[0], 0)
        self.host.ask("swap_out lab/exp1")
        code, out, error = self.hostline("swap_in", "lab/exp1", "wait=0.000001")
        self.assertEqual(code, 124, out)
        self.assertIn("operation", ast.literal_eval(out.decode()))
        for words in (("operation", str(number)), ("--timeout", "9", "operation", str(number))):
            self.assertEqual(self.hostline(*words)[::2], (0, b""), "who asks how it is gets an answer")

    def test_longSocketPath(self) -> None:
        """
        A path too long for a socket address is as good as another.
        """
        directory = self.host.directory / ("d" * 100) / ("e" * 100)
        directory.mkdir(parents=True)
        path = directory / ("n" * 120)
        path.symlink_to(self.socket)
        for argv in (
            program("hostline", "ping"),
            program("node_list"),
            program("hostline-shell", "--socket", str(path), "-c", "ping"),
            forward(path, "-c", "ping"),
        ):
            code, out, error = ran(path, argv)
            self.assertEqual((code, error), (0, b""), argv)
            self.assertTrue(out)
        with Client(str(path)) as client:
            self.assertIn("time", client.request("ping"))

    def watched(self, end: Callable[[subprocess.Popen[bytes]], None]) -> tuple[int, bytes]:
        """
        Watch until there was an event, then have it ended.

        @return: exit status, standard error.
        """
        with subprocess.Popen(
            program("hostline", "watch", "experiment/lab/exp1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(self.socket),
        ) as process:
            self.addCleanup(process.kill)
            assert process.stdout is not None and process.stderr is not None
            until(lambda: self.host.ask("host_status")["daemon"]["connections"] >= 2)
            self.host.ask("node_reboot lab/exp1 web")
            event = ast.literal_eval(process.stdout.readline().decode())
            self.assertEqual(event["topic"], "experiment/lab/exp1")
            end(process)
            process.stdout.read()
            said = process.stderr.read()
            return process.wait(LIMIT_S), said

    def test_watchInterrupted(self) -> None:
        """
        Events come as they happen, until Ctrl-C.
        """
        self.assertEqual(self.watched(lambda process: process.send_signal(signal.SIGINT)), (0, b""))

    def test_watchLost(self) -> None:
        """
        When the daemon goes it is said where to go on.
        """
        code, said = self.watched(lambda _: self.host.kill())
        self.assertEqual(code, 3)
        self.assertIn(b"since=", said)

    def test_watchSince(self) -> None:
        """
        Who comes back misses nothing; a deadline ends it.
        """
        code, out, _ = self.hostline("watch", "experiment/lab/exp1", "since=0", "--timeout", "1")
        self.assertEqual(code, 124)
        self.assertIn("created", [ast.literal_eval(line)["what"] for line in out.decode().splitlines()])


class TerminalTests(HostedTests):
    """
    C{hostline} where somebody looks on.
    """

    def terminal(self, *words: str) -> OnTerminal:
        """
        Start it there.
        """
        return OnTerminal(self, self.socket, program("hostline", *words), str(self.host.directory))

    def test_tables(self) -> None:
        """
        Tables, unless asked otherwise.
        """
        seen = self.terminal("status_request", "lab/exp1")
        self.assertEqual(seen.ended(), 0)
        self.assertTrue(seen.seen.startswith("HYPERVISOR "), seen.seen)
        raw = self.terminal("status_request", "lab/exp1", "--raw")
        self.assertEqual(raw.ended(), 0)
        self.assertEqual(ast.literal_eval(raw.seen), self.host.ask("status_request lab/exp1"))

    def slow(self) -> Fake:
        """
        A daemon on which swap_in takes its time.
        """
        asked = 0

        def behave(peer: socket.socket) -> None:
            nonlocal asked
            for line in peer.makefile("r"):
                asked += 1
                ended = "None" if asked < 4 else "2.0"
                state = "running" if asked < 4 else "done"
                body = (
                    f"{{'operation': 7, 'command': 'swap_in', 'target': 'lab/exp1', 'state': '{state}', 'step': "
                    f"'{asked} of 4 nodes', 'progress': {asked / 4}, 'started': 1.0, 'ended': {ended}, 'causes': []}}"
                )
                if line.startswith("wait "):
                    peer.sendall(f"wait_reply {body}\n".encode())
                elif asked < 4:
                    peer.sendall(f"operation_reply {body}\n".encode())
                else:
                    peer.sendall(b"swap_in_reply {'name': 'lab/exp1', 'state': 'active'}\n")

        return Fake(self, behave)

    def test_progress(self) -> None:
        """
        Slow work is shown until it has ended, then its own reply.
        """
        seen = OnTerminal(self, self.slow().path, program("hostline", "swap_in", "lab/exp1"))
        self.assertEqual(seen.ended(), 0)
        self.assertIn("swap_in lab/exp1: 1 of 4 nodes, 25 %", seen.seen)
        self.assertIn("3 of 4 nodes, 75 %", seen.seen)
        self.assertTrue(seen.seen.endswith("\x1b[Kname:  lab/exp1\nstate: active\n"), seen.seen)

    def test_interrupted(self) -> None:
        """
        Ctrl-C leaves the work alone, and says its number.
        """

        def behave(peer: socket.socket) -> None:
            for _ in peer.makefile("r"):
                peer.sendall(
                    b"operation_reply {'operation': 7, 'command': 'swap_in', 'target': 'lab/exp1', 'state': 'running',"
                    b" 'step': '1 of 2 nodes', 'progress': 0.5, 'started': 1.0, 'ended': None, 'causes': []}\n"
                )
                peer.recv(1000)
                time.sleep(30)

        seen = OnTerminal(self, Fake(self, behave).path, program("hostline", "swap_in", "lab/exp1"))
        seen.until("1 of 2 nodes")
        seen.type("\x03")
        self.assertEqual(seen.ended(), 130)
        self.assertIn("swap_in goes on as operation 7", seen.seen)

    def test_realProgress(self) -> None:
        """
        So it is on a real daemon: the reply is the command's own.
        """
        self.host.ask("swap_out lab/exp1")
        seen = self.terminal("swap_in", "lab/exp1")
        self.assertEqual(seen.ended(), 0)
        self.assertIn("state:      active\n", seen.seen)

    def test_shell(self) -> None:
        """
        A prompt: lines as they are, replies to read, names completed, history kept.
        """
        seen = self.terminal("shell")
        seen.until("hostline> ")
        seen.type("status_re\tlab/e\t\n")
        seen.until("hv:process:pnode-0000  web ")
        seen.type("experiment lab/exp9\n")
        seen.until("error: no experiment lab/exp9")
        seen.type("@7 nope 'a\n")
        seen.until("error: unterminated string")
        seen.type("exit\n")
        self.assertEqual(seen.ended(), 0)
        history = self.host.directory / ".local/state/hostline/history"
        self.assertIn("status_request lab/exp1", history.read_text())

    def test_shellOfLines(self) -> None:
        """
        Without a terminal it takes lines and tells of the last.
        """
        code, out, error = ran(self.socket, program("hostline", "shell"), b"ping\n\n@1 ping\nexperiment lab/nope\n")
        self.assertEqual((code, out.count(b"{'time': ")), (1, 2))
        self.assertIn(b"error: no experiment lab/nope", error)

    def test_watch(self) -> None:
        """
        Events are lines with a clock.
        """
        seen = self.terminal("watch", "since=0")
        seen.until(" experiment/lab/exp1 created\n", 5)
        seen.type("\x03")
        self.assertEqual(seen.ended(), 0)


class NodeListTests(HostedTests):
    """
    C{node_list} on a real daemon.
    """

    def test_faces(self) -> None:
        """
        Headers, extra nodes, and one line.
        """
        host = self.host.ask("hello")["host"]
        header = f"lab/exp1\n    pnode-0000.exp1.lab / {host}\n"
        for words, wanted in (
            ((), (0, header)),
            (("-e",), (0, header + "  extra nodes:\n    db.exp1.lab\n    web.exp1.lab\n")),
            (("-c", "-e", "lab,exp1"), (0, "db   web\n")),
            (("-e", "lab/exp1"), (0, f"{host}\n")),
        ):
            code, out, error = ran(self.socket, program("node_list", *words))
            self.assertEqual((code, out.decode(), error), (*wanted, b""), words)
        self.host.ask("swap_out lab/exp1")
        self.assertEqual(ran(self.socket, program("node_list")), (0, b"", b""))
        inactive = (2, b"Experiment is not active!\n", b"")
        self.assertEqual(ran(self.socket, program("node_list", "-v", "-e", "lab,exp1")), inactive)


class ForwardTests(HostedTests):
    """
    The forward shell on a real daemon.
    """

    def test_one(self) -> None:
        """
        The request after C{-c}; its error is the exit status.
        """
        code, out, error = ran(self.socket, forward(self.socket, "-c", "status_request lab/exp1"))
        self.assertEqual((code, error), (0, b""))
        self.assertEqual(out, b"status_reply " + ascii(self.host.ask("status_request lab/exp1")).encode() + b"\n")
        code, out, error = ran(self.socket, forward(self.socket, "-c", "status_request lab/nope"))
        self.assertEqual((code, out[:12], error), (1, b"error_reply ", b""))

    def test_lines(self) -> None:
        """
        Lines from standard input, answered to the last; what ends within a line is not done.
        """
        code, out, error = ran(self.socket, forward(self.socket), b"ping\r\n\n@x whoami\nadd_project cut")
        self.assertEqual((code, error), (0, b""))
        words = sorted(line.split(b" ")[0] for line in out.splitlines())
        self.assertEqual(words, [b"@x", b"error_reply", b"ping_reply"])
        self.assertEqual([one["name"] for one in self.host.ask("projects")], ["lab"])

    def test_pipelined(self) -> None:
        """
        A thousand requests at once are answered in order.
        """
        given = b"".join(b"experiment lab/x%d\n" % number for number in range(1000))
        code, out, _ = ran(self.socket, forward(self.socket), given)
        lines = out.splitlines()
        self.assertEqual((code, len(lines)), (0, 1000))
        for number, line in enumerate(lines):
            self.assertIn(b"lab/x%d " % number, line.replace(b"'", b" "))

    def test_behindSwapOut(self) -> None:
        """
        A status asked for behind a swap-out is that of an experiment that is out.
        """
        _, out, _ = ran(self.socket, forward(self.socket), b"swap_out lab/exp1\nstatus_request lab/exp1\n")
        self.assertEqual(out.splitlines()[-1], b"status_reply {}")

    def test_slow(self) -> None:
        """
        What is asked before the input ends is waited for.
        """
        begun = time.monotonic()
        code, out, _ = ran(self.socket, forward(self.socket), b"wait_for lab/exp1 failed timeout=1\n")
        self.assertEqual((code, out[:12]), (0, b"error_reply "))
        self.assertGreaterEqual(time.monotonic() - begun, 1)

    def test_watch(self) -> None:
        """
        C{-c 'watch ..'} follows until its reader goes.
        """
        with subprocess.Popen(forward(self.socket, "-c", "watch all"), stdin=-3, stdout=-1, stderr=-1) as process:
            self.addCleanup(process.kill)
            assert process.stdout is not None and process.stderr is not None
            self.assertEqual(process.stdout.readline()[:12], b"watch_reply ")
            self.host.ask("node_reboot lab/exp1 web")
            self.assertEqual(process.stdout.readline()[:6], b"event ")
            process.stdout.close()
            self.assertEqual(process.wait(LIMIT_S), 0)
            self.assertEqual(process.stderr.read(), b"")

    def test_silentUntilHangUp(self) -> None:
        """
        Even with nothing to write it notices that the connection of ssh is gone.
        """
        with subprocess.Popen(forward(self.socket), stdin=-1, stdout=-1, stderr=-1) as process:
            self.addCleanup(process.kill)
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"wait_for lab/exp1 failed timeout=20\n")
            process.stdin.close()
            time.sleep(0.2)
            process.stdout.close()
            self.assertEqual(process.wait(5), 0)

    def test_daemonKilled(self) -> None:
        """
        When the daemon goes there is one error and the exit status 3.
        """
        with subprocess.Popen(forward(self.socket), stdin=-1, stdout=-1, stderr=-1) as process:
            self.addCleanup(process.kill)
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"ping\nwait_for lab/exp1 failed timeout=20\n")
            process.stdin.flush()
            self.assertEqual(process.stdout.readline()[:11], b"ping_reply ")
            self.host.kill()
            rest = process.stdout.read()
            self.assertEqual(process.wait(LIMIT_S), 3)
            self.assertEqual(rest.count(b"\n"), 1)
            word, _, body = rest.decode().partition(" ")
            self.assertEqual((word, ast.literal_eval(body)["code"]), ("error_reply", "NO_DAEMON"))


class MisbehavingTests(SynchronousTestCase):
    """
    Sockets that are no daemon.
    """

    def refused(self, path: object, given: bytes = b"ping\n", *words: str) -> bytes:
        """
        @return: what stood before the one error.
        """
        code, out, error = ran(path, forward(path, *words), given)
        self.assertEqual((code, error), (3, b""))
        before, mark, last = out.rpartition(b"error_reply ")
        self.assertTrue(mark and last.endswith(b"}\n") and last.count(b"\n") == 1, out[-300:])
        self.assertEqual(ast.literal_eval(last.decode())["code"], "NO_DAEMON")
        return before

    def test_nobody(self) -> None:
        """
        No socket, a file, a socket nobody listens at.
        """
        directory = temporary_directory()
        self.addCleanup(remove_directory, directory)
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(directory / "dead"))
        dead.close()
        for path in ("/nowhere/sock", "/dev/null", directory / "dead", directory):
            self.assertEqual(self.refused(path), b"")
            self.assertEqual(self.refused(path, b"", "-c", "ping"), b"")
            self.assertEqual(ran(path, program("hostline", "ping"))[0], 3)
            self.assertEqual(ran(path, program("node_list"))[0], 3)

    def test_cutReply(self) -> None:
        """
        A reply cut off in its middle is ended before the error.
        """

        def behave(peer: socket.socket) -> None:
            peer.recv(1000)
            peer.sendall(b"ping_reply {'time': 1.0}\nping_reply {'ti")

        fake = Fake(self, behave)
        self.assertEqual(self.refused(fake.path, b"ping\nping\n"), b"ping_reply {'time': 1.0}\nping_reply {'ti\n")
        self.assertEqual(self.refused(fake.path, b"", "-c", "ping")[-5:], b"{'ti\n")

    def test_notAllAnswered(self) -> None:
        """
        Nor does it pass for all if whole replies are missing.
        """

        def behave(peer: socket.socket) -> None:
            peer.recv(1000)
            peer.sendall(b"ping_reply {'time': 1.0}\nevent {'cursor': 1}\n")

        fake = Fake(self, behave)
        self.assertEqual(self.refused(fake.path, b"ping\nping\n").count(b"\n"), 2)

    def test_longReply(self) -> None:
        """
        Three MiB arrive whole, in the forward shell and in C{hostline}.
        """
        line = b"x_reply '" + b"y" * (3 << 20) + b"'\n"

        def behave(peer: socket.socket) -> None:
            peer.recv(1000)
            for at in range(0, len(line), 100_000):
                peer.sendall(line[at : at + 100_000])

        fake = Fake(self, behave)
        for words, given in (((), b"x\n"), (("-c", "x"), b"")):
            self.assertEqual(ran(fake.path, forward(fake.path, *words), given), (0, line, b""))
        self.assertEqual(ran(fake.path, program("hostline", "ping"))[1], line.partition(b" ")[2])

    def test_longRequests(self) -> None:
        """
        Any number of bytes goes through, to a daemon that reads slowly and answers late.
        """
        total = 0

        def behave(peer: socket.socket) -> None:
            nonlocal total
            total = 0
            while piece := peer.recv(1 << 20):
                total += len(piece)
            peer.sendall(b"x_reply 1\n" * 20)

        fake = Fake(self, behave)
        code, out, _ = ran(fake.path, forward(fake.path), (b"x" * 999_999 + b"\n") * 20)
        self.assertEqual((code, out, total), (0, b"x_reply 1\n" * 20, 20_000_000))

    def test_usage(self) -> None:
        """
        Two lines after C{-c}, or no request, are refused, with an error and status 2.
        """
        for words in (("-c", "ping\nping"), ("-c", ""), ("-x",)):
            code, out, _ = ran("/nowhere", forward("/nowhere", *words))
            self.assertEqual((code, out[:12], out.count(b"\n")), (2, b"error_reply ", 1))

    def test_noEnvironment(self) -> None:
        """
        The environment does not choose the daemon.
        """
        fake = Fake(self, lambda peer: peer.sendall(b"fake_reply 1\n"))
        _, out, _ = ran(fake.path, [sys.executable, "-I", "-S", SHELL, "-c", "ping"])
        self.assertNotIn(b"fake_reply", out)

    def test_hostlineOnCutReply(self) -> None:
        """
        Our other programs say so and end with 3; silence ends at the deadline.
        """

        def behave(peer: socket.socket) -> None:
            peer.recv(1000)
            peer.sendall(b"node_list_reply [")

        fake = Fake(self, behave)
        for argv in (program("hostline", "ping"), program("node_list")):
            code, out, error = ran(fake.path, argv)
            self.assertEqual((code, out), (3, b""))
            self.assertIn(b"in the middle of a reply", error)
        silent = Fake(self, lambda peer: time.sleep(5))
        code, out, error = ran(silent.path, program("hostline", "--timeout", "0.3", "ping"))
        self.assertEqual((code, out), (124, b""), error)


class ClientTests(HostedTests):
    """
    The class for scripts on a real daemon.
    """

    def test_requests(self) -> None:
        """
        Bodies, errors, events, deadlines, a daemon that comes back.
        """
        client = Client(str(self.socket))
        self.addCleanup(client.close)
        cursor = client.request("watch", "host")["cursor"]
        client.request("unwatch")
        self.assertEqual(client.request("status_request", "lab/exp1"), self.host.ask("status_request lab/exp1"))
        self.assertRaises(NoSuchExperiment, client.request, "experiment", "lab/nope")
        self.assertRaises(Timeout, Client(str(self.socket), 0.2).request, "wait_for", "lab/exp1", "failed", timeout=0)
        client.request("node_reboot", "lab/exp1", "web", wait=20)
        events = client.events("experiment/lab/exp1", since=cursor)
        self.assertEqual(next(events)["topic"], "experiment/lab/exp1")
        self.host.kill()
        self.assertRaises(NoDaemon, list, events)
        self.assertRaises(NoDaemon, client.request, "ping")
        self.host.start()
        self.assertIn("time", client.request("ping"))
