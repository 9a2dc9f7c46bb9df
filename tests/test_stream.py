"""
The client's end of a stream.
"""

from __future__ import annotations

import fcntl
import functools
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import connection, main
from hostline.clients.stream import PIECE
from hostline.protocol.errors import BadLine, HostError, NoDaemon, NoSuchSliver, Timeout
from hostline.protocol.wire import read_reply, stream_chunk, stream_data
from tests.canned import Canned

DONE = b"@1 exec_reply {'exit': 3, 'out': '', 'err': ''}\n"


def told(lines: list[bytes]) -> tuple[bytes, list[dict[str, Any]]]:
    """
    @return: the input that was sent, and all other pieces.
    """
    data, others = b"", []
    for line in lines:
        body = read_reply(line).body
        if "base64" in body:
            data += stream_chunk(body)[1]
        else:
            others.append(body)
    return data, others


class StreamTests(SynchronousTestCase):
    """
    For scripts.
    """

    def run_stream(self, canned: Canned, **options: Any) -> tuple[Any, dict[str, bytes]]:
        heard = {"out": b"", "err": b""}

        def hear(stream: str, data: bytes) -> None:
            heard[stream] += data

        client = canned.client()
        return client.stream("exec", "lab_web", ["cat", "it's"], hear=hear, stream=True, **options), heard

    def test_hears(self) -> None:
        """
        Both outputs come as they were written, and the body of the reply is the result.
        """
        lines = stream_data("1", "out", b"a\xff") + stream_data("1", "err", b"e") + stream_data("1", "out", b"b")
        canned = Canned(self, lines + b"event {}\n" + DONE)
        body, heard = self.run_stream(canned)
        self.assertEqual((body["exit"], heard), (3, {"out": b"a\xffb", "err": b"e"}))

    def test_saysTheRequest(self) -> None:
        """
        The request goes under a tag; without input its end goes with it.
        """
        canned = Canned(self, b"@1 error_reply {'code': 'NO_SUCH_SLIVER', 'message': 'm', 'command': 'exec'}\n")
        self.assertRaises(NoSuchSliver, self.run_stream, canned)

    def test_sendsBytes(self) -> None:
        """
        Input of any size arrives whole, in lines that the daemon takes, while nothing is read from it yet.
        """
        sent = os.urandom(3 * PIECE + 17)
        canned = Canned(self)
        took: list[bytes] = []
        connect = canned.connect

        class Slow:
            def __init__(self, path: str, deadline: float | None) -> None:
                self._real = connect(path, deadline)
                self._read = False

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

            def give(self, data: bytes) -> int:
                took.append(data[:5000])
                if b"'end': True" in b"".join(took)[-100:]:
                    canned.peers[-1].sendall(DONE)
                return len(took[-1])

        client = canned.client()
        client._connect = Slow  # type: ignore[assignment]
        body = client.stream("exec", "lab_web", ["cat"], hear=lambda *_: None, source=sent, stream=True)
        request, *lines = b"".join(took).split(b"\n")[:-1]
        self.assertEqual(request, b"@1 exec 'lab_web' ['cat'] stream=True".replace(b"'lab_web'", b"lab_web"))
        self.assertLess(max(map(len, lines)), 1 << 20)
        data, others = told(lines)
        self.assertEqual((data, others, body["exit"]), (sent, [{"stream": "in", "end": True}], 3))

    def test_readsADescriptor(self) -> None:
        """
        A descriptor is read to its end.
        """
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.write(writing, b"typed")
        os.close(writing)
        canned = Canned(self)
        client = canned.client(timeout=None)
        self.assertRaises(
            Timeout, client.stream, "exec", "s_s", ["x"], hear=lambda *_: None, source=reading, seconds=0.2, stream=True
        )
        data, others = told(canned.asked()[1:])
        self.assertEqual((data, others), (b"typed", [{"stream": "in", "end": True}]))

    def test_breaks(self) -> None:
        """
        A daemon that goes away, in the middle of a line or not, is no end of the stream.
        """
        for sent in (b"", stream_data("1", "out", b"x"), DONE[:-1], b"@1 da"):
            canned = Canned(self, sent)
            connect = canned.connect

            def hung_up(path: str, deadline: float | None, canned: Canned = canned, connect: Any = connect) -> Any:
                found = connect(path, deadline)
                canned.hang_up()
                return found

            client = canned.client()
            client._connect = hung_up
            self.assertRaises(NoDaemon, client.stream, "exec", "s_s", ["x"], hear=lambda *_: None, stream=True)

    def test_refusesNonsense(self) -> None:
        """
        A daemon that talks nonsense is not believed.
        """
        for line in (
            b"@1 data {'stream': 'out'}\n",
            b"@1 data 7\n",
            b"nonsense\n",
            b"@1 data {'stream': 'x', 'base64': ''}\n",
        ):
            self.assertRaises(BadLine, self.run_stream, Canned(self, line))
        self.assertRaises(
            HostError, self.run_stream, Canned(self, b"error_reply {'code': 'TOO_MANY', 'message': 'm'}\n")
        )


class ProgramTests(SynchronousTestCase):
    """
    hostline as a program, its outputs kept.
    """

    def setUp(self) -> None:
        self.out = self.enterContext(tempfile.TemporaryFile())
        self.err = self.enterContext(tempfile.TemporaryFile())

    def hostline(self, canned: Canned, *words: str, source: int | None = None) -> tuple[int, bytes, bytes]:
        """
        @return: exit status, standard output, standard error.
        """
        self.patch(connection, "Connection", canned.connect)
        null = os.open(os.devnull, os.O_RDONLY)
        kept = [os.dup(one) for one in range(3)]
        try:
            sys.stdout.flush()
            for number, one in enumerate((null if source is None else source, self.out.fileno(), self.err.fileno())):
                os.dup2(one, number)
            status = main.run(["--socket", canned.path, *words])
        finally:
            for number, one in enumerate(kept):
                os.dup2(one, number)
                os.close(one)
            os.close(null)
        self.out.seek(0)
        self.err.seek(0)
        return status, self.out.read(), self.err.read()

    def test_exec(self) -> None:
        """
        The outputs are ours, and so is the exit status.
        """
        canned = Canned(self, stream_data("1", "out", b"hi\n") + stream_data("1", "err", b"no\n") + DONE)
        self.assertEqual(self.hostline(canned, "exec", "lab_web", "--", "sh", "-c", "a b"), (3, b"hi\n", b"no\n"))
        self.assertEqual(canned.asked()[0], b"@1 exec lab_web ['sh', '-c', 'a b'] stream=True")

    def test_closedInput(self) -> None:
        """
        Without a standard input there is none, and what the daemon says is not taken for it.
        """
        canned = Canned(self)
        closing = functools.partial(os.close, 0)
        process = self.start(canned, ["exec", "lab_web", "ls"], stdout=subprocess.PIPE, preexec_fn=closing)
        peer, _ = canned._listener.accept()
        self.addCleanup(peer.close)
        peer.settimeout(20)
        received = b""
        while b"'end': True" not in received:
            received += peer.recv(10000)
        peer.sendall(stream_data("1", "out", b"hi\n") + DONE)
        out, _ = process.communicate(timeout=20)
        self.assertEqual((process.returncode, out), (3, b"hi\n"))

    def test_attach(self) -> None:
        """
        On a terminal what is typed goes in key by key, Ctrl-] leaves, and the terminal is as before.
        """
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, slave)
        before = termios.tcgetattr(slave)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        canned = Canned(self)
        process = self.start(canned, ["attach", "lab_web"], stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        peer, _ = canned._listener.accept()
        self.addCleanup(peer.close)
        peer.settimeout(20)
        peer.sendall(stream_data("1", "out", b"login: "))
        received = b""
        while b"rows" not in received:
            received += peer.recv(10000)
        os.write(master, b"l\x03s\r")
        while received.count(b"base64") < 1:
            received += peer.recv(10000)
        os.write(master, b"x\x1dy")
        while b"close" not in received:
            received += peer.recv(10000)
        peer.sendall(b"@1 attach_reply {'exit': None, 'out': '', 'err': ''}\n")
        out, err = process.communicate(timeout=20)
        request, *lines = received.split(b"\n")[:-1]
        self.assertEqual(request, b"@1 attach lab_web")
        self.assertEqual(told(lines), (b"l\x03s\rx", [{"rows": 33, "columns": 99}, {"close": True}]))
        self.assertEqual((process.returncode, out), (0, b"login: "))
        self.assertIn(b"Ctrl-]", err)
        self.assertEqual(termios.tcgetattr(slave), before)

    def start(self, canned: Canned, words: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """
        The same, as a process of its own.
        """
        script = "import sys; from hostline.clients import main; sys.exit(main.run(sys.argv[1:]))"
        command = [sys.executable, "-c", script, "--socket", canned.path, *words]
        return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, **options)

    def test_execCannot(self) -> None:
        """
        What hostline could not do is told from what the command did: 125, or 124 past the time.
        """
        for code, status in (("NO_SUCH_SLIVER", 125), ("TIMEOUT", 124), ("WRONG_STATE", 125)):
            reply = f"@1 error_reply {{'code': '{code}', 'message': 'no such thing'}}\n".encode()
            found, out, err = self.hostline(Canned(self, reply), "exec", "lab_web", "ls")
            self.assertEqual((found, out), (status, b""), code)
            self.assertIn(b"error: no such thing", err)
        self.assertEqual(self.hostline(Canned(self, DONE.replace(b"3", b"None")), "exec", "lab_web", "ls")[0], 125)
        canned = Canned(self)
        canned.path += "x"
        self.assertEqual(self.hostline(canned, "exec", "lab_web")[0], 2)
        self.assertEqual(self.hostline(canned, "exec", "-t", "lab_web", "ls")[0], 2)

    def test_follow(self) -> None:
        """
        Logs that are followed are printed as they are.
        """
        canned = Canned(self, stream_data("1", "out", b"one\xff\n") + b"@1 logs_reply {}\n")
        self.assertEqual(self.hostline(canned, "logs", "lab_web", "--follow", "stream=console")[:2], (0, b"one\xff\n"))
        self.assertEqual(canned.asked()[0], b"@1 logs lab_web follow=True stream=console")

    def test_push(self) -> None:
        """
        A file's bytes go as they are.
        """
        path = self.mktemp()
        Path(path).write_bytes(b"\0\xff" * 1000)
        canned = Canned(self, b"@1 push_reply {'path': '/f', 'size': 2000, 'sha256': 'x'}\n")
        self.assertEqual(self.hostline(canned, "push", "lab_web", path, "/f", "mode=600")[0], 0)
        self.assertEqual(canned.asked()[0], b"@1 push lab_web /f mode=600 stream=True")
        self.assertEqual(self.hostline(canned, "push", "lab_web", "/nowhere/x", "/f")[0], 2)
        self.assertEqual(self.hostline(canned, "push", "lab_web", "/", "/f")[0], 2)

    def test_pull(self) -> None:
        """
        What came is written to a file, whole or not at all, or to standard output.
        """
        good = b"@1 pull_reply {'path': '/f', 'size': 2, 'sha256': '%s'}\n" % _SUM
        data = stream_data("1", "out", b"hi")
        path = self.mktemp()
        for reply, status, content in (
            (data + good.replace(b"'8f4", b"'9f4"), 1, None),
            (data + b"@1 error_reply {'code': 'FAILED', 'message': 'm'}\n", 1, None),
            (data + good, 0, b"hi"),
        ):
            self.assertEqual(self.hostline(Canned(self, reply), "pull", "lab_web", "/f", path)[0], status)
            self.assertEqual(_content(path), content)
            self.assertEqual(list(Path(path).parent.glob("*.part")), [])
        self.out.seek(0)
        self.out.truncate(0)
        self.assertEqual(self.hostline(Canned(self, data + good), "pull", "lab_web", "/f")[:2], (0, b"hi"))


_SUM = b"8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"


def _content(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None
