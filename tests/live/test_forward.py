"""
The forward shell as a process of its own: on daemons that hang, cut and lie, on a real one, with hostile arguments and
descriptors, with more than fits anywhere.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from twisted.trial.unittest import SynchronousTestCase

from tests.live.hosted import Hosted, topology, until
from tests.live.support import remove_directory, temporary_directory
from tests.live.test_clients import LIMIT_S, SHELL
from tests.needs import needs_root
from tests.scale import scaled

#: Deadlines for those who cannot wait.
QUICK = ("--connect", "0.4", "--silence", "0.3", "--ping", "0.4")
#: What a guest may be able to set, and what would change how a careless Python runs.
HOSTILE = {
    "HOSTLINE_SOCKET": "/nowhere",
    "PYTHONPATH": "/nowhere",
    "PYTHONHOME": "/nowhere",
    "PYTHONSTARTUP": "/dev/zero",
    "PYTHONINSPECT": "1",
    "PYTHONVERBOSE": "1",
    "PYTHONIOENCODING": "utf-16",
    "LC_ALL": "zz_ZZ.nonsense",
    "LANG": "\x80",
    "PATH": "",
    "SSH_ORIGINAL_COMMAND": "whoami",
}


def shell(path: object, *words: str | bytes) -> list[str | bytes]:
    """
    The shell alone, isolated, on a socket.
    """
    return [sys.executable, "-I", "-S", SHELL, "--socket", str(path), *words]


class ShellTest(SynchronousTestCase):
    """
    Runs it, and reads what it said.
    """

    def ran(
        self, path: object, *words: str | bytes, given: bytes = b"", env: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """
        @return: exit status and output; on standard error nothing may be.
        """
        done = subprocess.run(
            shell(path, *words), input=given, capture_output=True, env=env or {}, timeout=LIMIT_S, check=False
        )
        self.assertEqual(done.stderr, b"")
        return done.returncode, done.stdout

    def refused(self, output: bytes, code: str) -> bytes:
        """
        The output ends with one error of this code, on a line of its own, and there is no other.

        @return: what stood before.
        """
        before, mark, last = output.rpartition(b"error_reply ")
        self.assertTrue(mark and last.endswith(b"}\n") and before[-1:] in (b"", b"\n"), output[-300:])
        self.assertNotIn(b"error_reply", before)
        self.assertEqual(ast.literal_eval(last.decode())["code"], code)
        return before

    @contextmanager
    def running(
        self, path: object, *words: str | bytes
    ) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
        """
        One whose input stays open; also its input and output.
        """
        with subprocess.Popen(shell(path, *words), stdin=-1, stdout=-1, stderr=-1, env={}) as process:
            assert process.stdin is not None and process.stdout is not None and process.stderr is not None
            try:
                yield process, process.stdin, process.stdout
                process.kill()
                self.assertEqual(process.stderr.read(), b"")
            finally:
                process.kill()


class Listener:
    """
    A socket at whose other end something happens, a thread for each connection.
    """

    def __init__(
        self, test: SynchronousTestCase, behave: Callable[[socket.socket, int], None] | None, backlog: int = 100
    ) -> None:
        """
        @param behave: is called with each connection and its number, from 0; None accepts none.
        """
        directory = temporary_directory()
        test.addCleanup(remove_directory, directory)
        self.path = directory / "sock"
        self.listener = socket.socket(socket.AF_UNIX)
        test.addCleanup(self.listener.close)
        test.addCleanup(self._wake)
        self.listener.bind(str(self.path))
        self.path.chmod(0o777)
        self.listener.listen(backlog)
        if behave is not None:
            threading.Thread(target=self._serve, args=(behave,), daemon=True).start()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)

    def _serve(self, behave: Callable[[socket.socket, int], None]) -> None:
        def one(peer: socket.socket, number: int) -> None:
            with peer, contextlib.suppress(OSError):
                behave(peer, number)

        number = 0
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.listener.accept()
                threading.Thread(target=one, args=(peer, number), daemon=True).start()
                number += 1


def silent(peer: socket.socket, number: int) -> None:
    """
    Take everything and say nothing.
    """
    while peer.recv(1 << 16):
        pass
    time.sleep(LIMIT_S)


class HungTests(ShellTest):
    """
    Deadlines.
    """

    def test_saysNothing(self) -> None:
        """
        A daemon that accepts and says nothing, or does not even accept, is given up after its time: TIMEOUT, 124.
        """
        for behave in (silent, None):
            path = Listener(self, behave).path
            for words, given in (
                ((), b"ping\n" * 3),
                (("-c", "ping"), b""),
                ((), b"ping\nhalf"),
                (("-c", "watch x"), b""),
            ):
                begun = time.monotonic()
                code, out = self.ran(path, *QUICK, *words, given=given)
                self.assertEqual((code, self.refused(out, "TIMEOUT")), (124, b""), (behave, words))
                self.assertLess(time.monotonic() - begun, 5)

    def test_queueIsFull(self) -> None:
        """
        One that has no room for connections counts as none: NO_DAEMON, 3.
        """
        listener = Listener(self, None, backlog=0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for one in waiting:
            self.addCleanup(one.close)
            one.setblocking(False)
            one.connect_ex(str(listener.path))
        code, out = self.ran(listener.path, *QUICK, "-c", "ping")
        self.assertEqual((code, self.refused(out, "NO_DAEMON")), (3, b""))

    def test_hangsInHalfALine(self) -> None:
        """
        Half a reply and then nothing: its line is ended, then the error.
        """

        def behave(peer: socket.socket, number: int) -> None:
            peer.recv(1000)
            peer.sendall(b"a_reply 1\nping_reply {'ti")
            silent(peer, number)

        path = Listener(self, lambda peer, number: behave(peer, number) if number == 0 else silent(peer, number)).path
        code, out = self.ran(path, *QUICK, given=b"a\nping\n")
        self.assertEqual((code, self.refused(out, "TIMEOUT")), (124, b"a_reply 1\nping_reply {'ti\n"))

    def test_aliveAndSlow(self) -> None:
        """
        A daemon that answers pings is waited for as long as it takes; that it has no connection to spare answers too.
        """
        for answer in (b"ping_reply {'time': 1.0}\n", b"error_reply {'code': 'TOO_MANY'}\n"):
            asked: list[int] = []

            def behave(peer: socket.socket, number: int, answer: bytes = answer, asked: list[int] = asked) -> None:
                peer.recv(1000)
                if number == 0:
                    time.sleep(2.5)
                    peer.sendall(b"wait_reply 1\n")
                else:
                    asked.append(number)
                    peer.sendall(answer)

            code, out = self.ran(Listener(self, behave).path, *QUICK, given=b"wait 1\n")
            self.assertEqual((code, out), (0, b"wait_reply 1\n"))
            self.assertGreater(len(asked), 2)

    def test_hangsUpOnPings(self) -> None:
        """
        A daemon that hangs up on every ping is given up in the same time, and is not stormed meanwhile.
        """
        asked: list[int] = []

        def behave(peer: socket.socket, number: int) -> None:
            asked.append(number)
            if number == 0:
                silent(peer, number)

        code, out = self.ran(Listener(self, behave).path, *QUICK, given=b"wait 1\n")
        self.assertEqual((code, self.refused(out, "TIMEOUT")), (124, b""))
        self.assertIn(len(asked), range(2, 12))

    def test_realOneStopped(self) -> None:
        """
        A real daemon that stands still while something is waited for is given up; while it lives it is not.
        """
        host = Hosted(self)
        host.start()
        host.ask("add_project lab")
        host.ask(f"create_experiment lab/e {topology({'web': None})}")
        with self.running(host.socket, *QUICK) as (process, source, output):
            source.write(b"wait_for lab/e active timeout=30\n")
            source.flush()
            time.sleep(1.5)
            self.assertEqual(process.poll(), None)
            os.kill(host.pid, signal.SIGSTOP)
            try:
                self.refused(output.read(), "TIMEOUT")
                self.assertEqual(process.wait(LIMIT_S), 124)
            finally:
                os.kill(host.pid, signal.SIGCONT)

    def test_realOneKilled(self) -> None:
        """
        A real daemon that is killed while something is waited for: NO_DAEMON, 3, at once.
        """
        host = Hosted(self)
        host.start()
        host.ask("add_project lab")
        host.ask(f"create_experiment lab/e {topology({'web': None})}")
        for words in ((), ("-c", "wait_for lab/e active timeout=30"), ("-c", "watch all")):
            with self.running(host.socket, *words) as (process, source, output):
                source.write(b"ping\nwait_for lab/e active timeout=30\n")
                source.flush()
                time.sleep(0.5)
                host.kill()
                before = self.refused(output.read(), "NO_DAEMON")
                self.assertEqual((process.wait(LIMIT_S), before.count(b"\n")), (3, "active" not in str(words)))
            host.start()

    def test_idleInput(self) -> None:
        """
        Input that begins nothing is ended with TIMEOUT and 124; while something is waited for or watched it is not.
        """

        def behave(peer: socket.socket, number: int) -> None:
            while line := peer.recv(1000):
                if b"watch" in line or b"ping" in line:
                    peer.sendall(b"x_reply 1\n")

        path = Listener(self, behave).path
        for said in (b"", b"ping\n"):
            with self.running(path, *QUICK, "--idle", "0.5") as (process, source, output):
                source.write(said)
                source.flush()
                self.assertEqual(len(self.refused(output.read(), "TIMEOUT")), len(said) * 2)
                self.assertEqual(process.wait(LIMIT_S), 124)
        for said in (b"watch all\n", b"wait 1\n"):
            with self.running(path, *QUICK, "--idle", "0.5") as (process, source, _):
                source.write(said)
                source.flush()
                time.sleep(2)
                self.assertEqual(process.poll(), None, said)

    def test_readerTakesNothing(self) -> None:
        """
        Who reads nothing of what is there is left after the time for that; who reads slowly gets all of it.
        """
        line = b"x_reply '" + b"y" * 999_990 + b"'\n"

        def behave(peer: socket.socket, number: int) -> None:
            peer.recv(1000)
            peer.sendall(line)

        path = Listener(self, behave).path
        with self.running(path, "--write", "0.5", "-c", "x") as (process, _, output):
            self.assertEqual(process.wait(LIMIT_S), 0)
            self.assertLess(len(output.read()), len(line))
        with self.running(path, "--write", "0.5", "-c", "x") as (process, _, output):
            got = b""
            while piece := os.read(output.fileno(), 40_000):
                got += piece
                time.sleep(0.06)
            self.assertEqual((process.wait(LIMIT_S), got), (0, line))

    def test_costsNothingWhileItWaits(self) -> None:
        """
        Neither a slow reader nor a daemon that has hung up behind its back makes it spin.
        """

        def behave(peer: socket.socket, number: int) -> None:
            peer.recv(1000)
            peer.sendall(b"x" * 150_000)

        with self.running(Listener(self, behave).path, "-c", "x") as (process, _, _):
            time.sleep(1.5)
            times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
            self.assertLess(sum(map(int, times)) / os.sysconf("SC_CLK_TCK"), 0.5)


class HostileTests(ShellTest):
    """
    What a guest can do to it.
    """

    def test_arguments(self) -> None:
        """
        Whatever stands after C{-c}, there is one reply and no shell that runs it.
        """
        host = Hosted(self)
        host.start()
        mark = host.directory / "mark"
        for request in (
            f"; touch {mark}",
            f"$(touch {mark})",
            f"ping `touch {mark}`",
            f"ping\ntouch {mark}",
            f"'; import os; open({str(mark)!r}, 'w') #",
            "--socket /nowhere ping",
            "-i",
            "<?xml version='1.0'?>",
            "sh",
            "internal-sftp",
            "scp -t .",
            "\x1b[2J\x7f",
            b"\xff\xfe\x80",
            "é世界",
            "x" * 120_000,
            "[" * 100_000,
        ):
            for words, env in ((("-c", request), {}), (("-c", "hostline-shell"), {"SSH_ORIGINAL_COMMAND": request})):
                done = subprocess.run(
                    shell(host.socket, *words), env=env, capture_output=True, timeout=LIMIT_S, check=False, stdin=-3
                )
                self.assertEqual((done.stdout.count(b"\n"), done.stderr), (1, b""), request[:100])
                self.refused(done.stdout, ast.literal_eval(done.stdout.decode().partition(" ")[2])["code"])
                self.assertIn(done.returncode, (1, 2))
        self.assertFalse(mark.exists())
        self.assertEqual(host.tracebacks(), "")

    def test_environment(self) -> None:
        """
        Nothing in the environment changes who answers, what is said or how it ends.
        """

        def behave(peer: socket.socket, number: int) -> None:
            said = peer.recv(1000)
            peer.sendall(b"x_reply " + ascii(said).encode() + b"\n")

        path = Listener(self, behave).path
        request = "é\udcff世".encode("utf-8", "surrogateescape")
        wanted = (0, b"x_reply " + ascii(request + b"\n").encode() + b"\n")
        self.assertEqual(self.ran(path, "-c", request, env=HOSTILE), wanted)
        for locale in ("C", "POSIX", "en_US.ISO-8859-1", "ja_JP.eucJP", "zh_CN.GB18030", "tr_TR.UTF-8"):
            self.assertEqual(self.ran(path, "-c", request, env={"LC_ALL": locale}), wanted, locale)

    def test_closedDescriptors(self) -> None:
        """
        Whichever of its three descriptors are closed, the daemon's connection does not take their place.
        """
        for closed in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)):
            said: list[bytes] = []

            def behave(peer: socket.socket, number: int, said: list[bytes] = said) -> None:
                while piece := peer.recv(1000):
                    said.append(piece)
                    peer.sendall(b"x_reply 1\n")

            def close(closed: tuple[int, ...] = closed) -> None:
                for one in closed:
                    os.close(one)

            path = Listener(self, behave).path
            for words in (("-c", "x"), ()):
                del said[:]
                done = subprocess.run(
                    shell(path, *words),
                    input=b"x\n",
                    capture_output=True,
                    preexec_fn=close,
                    timeout=LIMIT_S,
                    check=False,
                )
                self.assertEqual((done.returncode, done.stderr), (0, b""), (closed, words))
                asked = words or 0 not in closed
                self.assertEqual(b"".join(said), b"x\n" if asked else b"", (closed, words))
                self.assertEqual(done.stdout, b"x_reply 1\n" if asked and 1 not in closed else b"", (closed, words))

    def test_signals(self) -> None:
        """
        Signals end it, and no traceback is left behind.
        """
        path = Listener(self, silent).path
        # Ignored under nohup, and by what is started then.
        self.addCleanup(signal.signal, signal.SIGHUP, signal.signal(signal.SIGHUP, signal.SIG_DFL))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR1):
            with self.running(path) as (process, source, output):
                source.write(b"ping\n")
                source.flush()
                time.sleep(0.3)
                process.send_signal(number)
                if number == signal.SIGPIPE:  # it is told of by the write that fails, so the signal means nothing
                    time.sleep(0.2)
                    self.assertEqual(process.poll(), None)
                    process.kill()
                self.assertEqual(output.read(), b"")
                self.assertLess(process.wait(LIMIT_S), 0)

    @needs_root
    def test_squatted(self) -> None:
        """
        A socket that somebody else put where the daemon's should be is no daemon, and hears nothing of the request; one
        in a directory of its own is, for a daemon may be another user's.
        """
        directory = Path(tempfile.mkdtemp(prefix="hostline-squat-", dir="/tmp"))
        self.addCleanup(remove_directory, directory)
        for mode, owner, wanted in ((0o1777, 0, 3), (0o755, 65534, 0), (0o1777, 54321, 3)):
            os.chown(directory, owner, 0)
            directory.chmod(mode)
            path = directory / f"{owner}.sock"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
                path.chmod(0o777)
                os.seteuid(65534)
                try:
                    listener.listen()
                finally:
                    os.seteuid(0)
                heard: list[bytes] = []

                def answer(listener: socket.socket = listener, heard: list[bytes] = heard) -> None:
                    with contextlib.suppress(OSError):
                        peer, _ = listener.accept()
                        with peer:
                            heard.append(peer.recv(1000))
                            peer.sendall(b"ping_reply 1\n")

                thread = threading.Thread(target=answer, daemon=True)
                thread.start()
                code, out = self.ran(path, "-c", "ping")
                listener.shutdown(socket.SHUT_RDWR)  # a connection that ended at once need not be there any more
                thread.join(LIMIT_S)
                self.assertEqual(code, wanted, (oct(mode), owner))
                if wanted:
                    self.assertEqual((self.refused(out, "NO_DAEMON"), b"".join(heard)), (b"", b""))
                else:
                    self.assertEqual(out, b"ping_reply 1\n")


class MuchTests(ShellTest):
    """
    Sizes and numbers.
    """

    def test_longReplies(self) -> None:
        """
        Sixty megabytes come out as they went in, as one line or as many.
        """
        size = 60_000_000
        for line in (b"x_reply '" + b"y" * size + b"'\n", b"x_reply '0123456789abcdef'\n" * (size // 27)):

            def behave(peer: socket.socket, number: int, line: bytes = line) -> None:
                peer.recv(1000)
                peer.sendall(line)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(1 << 16):  # or hanging up would throw away what was sent
                    pass

            done = subprocess.run(
                shell(Listener(self, behave).path), input=b"x\n", capture_output=True, timeout=LIMIT_S, check=False
            )
            self.assertEqual((done.returncode, done.stderr, len(done.stdout)), (0, b"", len(line)))
            self.assertEqual(hashlib.sha256(done.stdout).digest(), hashlib.sha256(line).digest())

    def test_limitOfALine(self) -> None:
        """
        A request as long as the daemon's limit is answered, one byte more is refused, and what follows is not harmed.
        """
        host = Hosted(self)
        host.start()
        given = b"ping" + b" " * ((1 << 20) - 4) + b"\n" + b"ping" + b" " * ((1 << 20) - 3) + b"\nwhoami\n"
        code, out = self.ran(host.socket, given=given)
        first, second, third = out.splitlines()
        self.assertEqual((code, first[:11], third[:13]), (0, b"ping_reply ", b"whoami_reply "))
        self.assertIn(b"'LINE_TOO_LONG'", second)

    def test_endlessLine(self) -> None:
        """
        Input without a newline costs neither side memory; it is answered once, and the connection lives on.
        """
        host = Hosted(self)
        host.start()
        before = host.rss()
        with self.running(host.socket) as (process, source, output):
            for _ in range(scaled(60, 1000)):
                source.write(b"x" * (1 << 20))
            own = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
            source.write(b"\nping\n")
            source.close()
            first, second = output.read().splitlines()
            self.assertIn(b"'LINE_TOO_LONG'", first)
            self.assertEqual((second[:11], process.wait(LIMIT_S)), (b"ping_reply ", 0))
        self.assertLess(own, 40 << 20)
        self.assertLess(host.rss() - before, 20 << 20)

    def test_halfALine(self) -> None:
        """
        A line that is begun and not ended is answered by the daemon's own deadline, once.
        """
        host = Hosted(self, "[limits]\nline_seconds = 0.5\n")
        host.start()
        with self.running(host.socket) as (process, source, output):
            source.write(b"ping\nadd_project ha")
            source.flush()
            self.assertEqual(self.refused(output.read(), "BAD_LINE")[:11], b"ping_reply ")
            self.assertEqual(process.wait(LIMIT_S), 3)

    def test_pipelined(self) -> None:
        """
        Ten thousand requests whose input has ended are all answered, in order.
        """
        host = Hosted(self)
        host.start()
        given = b"".join(b"experiment lab/x%d\n" % number for number in range(10_000))
        code, out = self.ran(host.socket, given=given)
        lines = out.splitlines()
        self.assertEqual((code, len(lines)), (0, 10_000))
        for number, line in enumerate(lines):
            self.assertIn(b"lab/x%d " % number, line.replace(b"'", b" "))

    def test_text(self) -> None:
        """
        Any alphabet goes in and comes back; what is no UTF-8 is one error, and the connection lives on.
        """
        host = Hosted(self)
        host.start()
        host.ask("add_project lab")
        host.ask(f"create_experiment lab/e {topology({'web': None})} swap_in=True")
        said = ("é", "世界", "\U0001f600")
        requests = [f"exec web.e.lab ['printf', '%s', '{one}']\n".encode() for one in said]
        code, out = self.ran(host.socket, given=b"".join(requests) + b"ping \xe9\xff\nping\n")
        *lines, bad, last = out.decode("ascii").splitlines()
        for one, line, request in zip(said, lines, requests, strict=True):
            self.assertEqual(ast.literal_eval(line.partition(" ")[2])["out"], one)
            self.assertEqual(self.ran(host.socket, "-c", request[:-1]), (0, line.encode() + b"\n"))
        self.assertEqual(ast.literal_eval(bad.partition(" ")[2])["code"], "BAD_LINE")
        self.assertEqual((code, last[:11]), (0, "ping_reply "))

    def test_turnedAway(self) -> None:
        """
        When the daemon has no connection to spare, its own error is the only one.
        """
        host = Hosted(self, "[limits]\nprincipal_connections = 2\noperator_connections = 0\n")
        host.start()
        with host.client() as one, host.client() as other:
            one.ask("ping")
            other.ask("ping")
            code, out = self.ran(host.socket, given=b"ping\n" * 5)
            self.assertEqual((code, self.refused(out, "TOO_MANY")), (3, b""))
        until(lambda: self.ran(host.socket, "-c", "ping")[0] == 0)
