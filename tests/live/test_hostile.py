"""
Bad input to a real daemon: each line gets one reply that says what was wanted, or a stated limit ends the connection;
memory stays flat, and everybody else is served meanwhile.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import select
import socket
import statistics
import subprocess
import threading
import time
import unittest
from pathlib import Path

from tests.live.hosted import Client, Hosted, NoReply, topology, until
from tests.needs import needs_root, needs_tool
from tests.scale import scaled

MIB = 1 << 20
#: By what each case is: the line, the code of the reply, and a part of its text: what was wanted.
BAD: dict[str, tuple[bytes, str, str]] = {
    "unknown command": (b"statusrequest lab/demo", "UNKNOWN_COMMAND", "status_request"),
    "no command at all": (b"@7", "BAD_ARGUMENTS", "want a command"),
    "too few arguments": (b"status_request", "BAD_ARGUMENTS", "want status_request PROJECT/EXPERIMENT"),
    "too many arguments": (b"status_request a b c", "BAD_ARGUMENTS", "want status_request PROJECT/EXPERIMENT"),
    "wrong type": (b"status_request {'a': 1}", "BAD_VALUE", "want PROJECT/EXPERIMENT"),
    "unknown option": (b"swap_in lab/demo wiat=3", "UNKNOWN_OPTION", "wait"),
    "unterminated text": (b"status_request 'lab/demo", "BAD_LITERAL", "unterminated string"),
    "unterminated list": (b"add_user x keys=['a', ", "BAD_LITERAL", "unterminated ["),
    "a line of 2 MiB": (b"status_request " + b"y" * (2 * MIB), "LINE_TOO_LONG", "want at most 1048576 bytes"),
    "a NUL byte": (b"status_request lab/demo\0", "BAD_LINE", "want text, got a NUL byte"),
    "only NUL bytes": (b"\0" * 100, "BAD_LINE", "want text"),
    "invalid UTF-8": (b"status_request \xff\xfe", "BAD_LINE", "want UTF-8"),
    "half a surrogate pair": (b"add_user \xed\xa0\x80", "BAD_LINE", "want UTF-8"),
    "10,000 open brackets": (b"add_user x keys=" + b"[" * 10_000, "BAD_LITERAL", "want at most 64 open brackets"),
    "10,000 nested lists": (b"add_user x keys=" + b"[" * 10_000 + b"]" * 10_000, "BAD_LITERAL", "want at most 64"),
    "1e999 as an option": (b"swap_in lab/demo wait=1e999", "BAD_VALUE", "want seconds"),
    "1e999 in a literal": (b"add_project p quota={'memory_max': 1e999}", "BAD_LITERAL", "want a finite float"),
    "nan": (b"swap_in lab/demo wait=nan", "BAD_VALUE", "want seconds"),
    "5,000 digits": (b"add_user x uid=" + b"9" * 5000, "BAD_VALUE", "want a whole number"),
    "5,000 digits in a literal": (
        b"add_project p quota={'memory_max': " + b"9" * 5000 + b"}",
        "BAD_LITERAL",
        "want an int of fewer digits",
    ),
    "a sum": (b"add_user x keys=[" + b"1+" * 10_000 + b"1]", "BAD_LITERAL", "want ',' or ']'"),
    "a topology that is none": (b"create_experiment lab/bad '<experiment>'", "BAD_TOPOLOGY", "line 1"),
}


class Polling:
    """
    Another client, which asks for the status all the while.

    @ivar latencies: seconds that each answer took.
    """

    def __init__(self, host: Hosted) -> None:
        self._client = host.client()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self.latencies: list[float] = []
        self.failure: Exception | None = None

    def _poll(self) -> None:
        try:
            while not self._over.is_set():
                begun = time.perf_counter()
                self._client.ask("status_request lab/demo")
                self.latencies.append(time.perf_counter() - begun)
                time.sleep(0.002)
        except Exception as error:
            self.failure = error

    def __enter__(self) -> Polling:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # What went on may have been over before this thread had its turn: it polls a few times in any case.
        deadline = time.monotonic() + 10
        while len(self.latencies) < 5 and self.failure is None and time.monotonic() < deadline:
            time.sleep(0.01)
        self._over.set()
        self._thread.join(30)
        self._client.close()


class HostileTest(unittest.TestCase):
    """
    A daemon with one experiment, and clients that mean no good.
    """

    config = ""

    def setUp(self) -> None:
        self.host = Hosted(self, self.config)
        self.host.start()
        self.client = self.enter(self.host.client())
        self.client.ask("add_project lab")
        self.client.ask(f"create_experiment lab/demo {topology({'web': None})} swap_in=True")
        with Polling(self.host) as quiet:
            time.sleep(0.2)
        self.quiet = quiet.latencies
        self.rss = self.host.rss()

    def tearDown(self) -> None:
        self.assertEqual(self.host.tracebacks(), "")

    def enter(self, client: Client) -> Client:
        self.addCleanup(client.close)
        return client

    def assertServed(self, polling: Polling) -> None:
        """
        Whoever polled meanwhile had all answers, and not much later than in quiet times.
        """
        self.assertIsNone(polling.failure)
        self.assertTrue(polling.latencies)
        usual = max(statistics.median(self.quiet), 0.001)
        self.assertLess(statistics.median(polling.latencies), 30 * usual)
        self.assertLess(max(polling.latencies), 1000 * usual)

    def assertGrown(self, most: int) -> None:
        """
        The daemon's memory grew by at most so many bytes.
        """
        self.assertLess(self.host.rss() - self.rss, most)


class BadLines(HostileTest):
    """
    Lines that nobody can make sense of.
    """

    def test_eachGetsOneReplyThatNamesWhatWasWanted(self) -> None:
        """
        Whatever is wrong with a line, one C{error_reply} says so, and the connection goes on.
        """
        for name, (line, code, wanted) in BAD.items():
            with self.subTest(name):
                self.client.send(line + b"\nping\n")
                reply = self.client.line()
                after = self.client.reply()[0]
                word, _, text = reply.removeprefix(b"@7 ").decode("ascii").partition(" ")
                body = ast.literal_eval(text)
                self.assertEqual((word, body.get("code")), ("error_reply", code), body)
                self.assertIn(wanted, body["message"])
                self.assertLess(len(reply), 1000)
                self.assertEqual(after, "ping_reply")

    def test_memoryStaysFlatHoweverOften(self) -> None:
        """
        A client that sends nonsense all day costs the daemon no memory, and the others no patience.
        """
        cases = [line for line, _, _ in BAD.values() if not line.startswith(b"create_experiment")]

        def all_day(rounds: int) -> None:
            for _ in range(rounds):
                for line in cases:
                    self.client.send(line + b"\n")
                    self.client.line()

        all_day(scaled(5, 50))
        self.rss = self.host.rss()
        with Polling(self.host) as polling:
            all_day(scaled(20, 1000))
        self.assertGrown(12 * MIB)
        self.assertServed(polling)

    def test_100MegabytesWithoutANewline(self) -> None:
        """
        Somebody pipes a disk image into the socket: skipped, answered once it ends, paid for by nobody.
        """
        piece = b"\x41" * MIB
        before = self.host.cpu_s()
        with Polling(self.host) as polling:
            for _ in range(100):
                self.client.send(piece)
            self.client.send(b"\nping\n")
            word, body = self.client.reply()
        self.assertEqual((word, body["code"]), ("error_reply", "LINE_TOO_LONG"))
        self.assertEqual(self.client.reply()[0], "ping_reply")
        self.assertGrown(8 * MIB)
        self.assertServed(polling)
        self.assertLess(self.host.cpu_s() - before, 3)

    def test_bigLinesBehindASlowOne(self) -> None:
        """
        Megabyte after megabyte of requests behind a slow one waits at the client's side, and is answered.
        """
        lines = ["wait_for lab/demo swapped timeout=1.5", *["ping " + "x" * 900_000] * 99]
        sending = threading.Thread(target=self.client.send, args=("".join(f"{line}\n" for line in lines),))
        sending.start()
        self.assertEqual(self.client.reply()[1]["code"], "TIMEOUT")
        self.assertGrown(40 * MIB)
        self.assertEqual({self.client.reply()[1]["code"] for _ in range(99)}, {"BAD_ARGUMENTS"})
        sending.join(10)

    def test_halfALineThenClose(self) -> None:
        """
        A request that was cut off is not carried out, and its sender is told so if he still listens.
        """
        for ending in ("end", "close"):
            with self.subTest(ending):
                client = self.enter(self.host.client())
                client.send("add_project half")
                if ending == "close":
                    client.close()
                else:
                    client.end()
                    word, body = client.reply()
                    self.assertEqual((word, body["code"]), ("error_reply", "BAD_LINE"))
                    self.assertIn("nothing was done", body["message"])
                    self.assertEqual(client.rest(), b"")
        self.assertEqual([one["name"] for one in self.client.ask("projects")], ["lab"])


class SlowClients(HostileTest):
    """
    Clients that are late with everything.
    """

    config = "[limits]\nline_seconds = 1.0\nunread_seconds = 1.0\nlines_waiting = 16\n"

    def test_aLineByteByByteIsEndedByItsLimit(self) -> None:
        """
        One who sends a byte now and then is told the limit and let go; nobody waits for him.
        """
        client = self.enter(self.host.client())
        begun = time.monotonic()
        with Polling(self.host) as polling, contextlib.suppress(OSError):
            for byte in b"status_request lab/demo" * 4:
                client.send(bytes([byte]))
                if select.select([client.socket], [], [], 0.1)[0]:
                    break
        self.assertLess(time.monotonic() - begun, 5)
        word, body = client.reply()
        self.assertEqual((word, body["code"]), ("error_reply", "BAD_LINE"))
        self.assertIn("within 1 s", body["message"])
        self.assertEqual(client.rest(), b"")
        self.assertServed(polling)

    def test_aSlowTypistWithinTheLimitIsAnswered(self) -> None:
        """
        Bytes that trickle in are a line all the same, if it ends in time.
        """
        for byte in b"ping\n":
            self.client.send(bytes([byte]))
            time.sleep(0.05)
        self.assertEqual(self.client.reply()[0], "ping_reply")

    def test_aLongConversationIsNotOneLongLine(self) -> None:
        """
        Who always has half of the next line on its way, but ends every line at once, is never cut off.
        """
        self.client.send("pi")
        for _ in range(15):
            self.client.send("ng\npi")
            time.sleep(0.1)
            self.assertEqual(self.client.reply()[0], "ping_reply")

    def test_aHeapOfLinesBehindASlowOneIsAnswered(self) -> None:
        """
        While the daemon itself does not read, because much waits for a slow answer, the client is not held to be late.
        """
        count = 1500
        lines = b"wait_for lab/demo swapped timeout=2.5\n" + (b"ping" + b" " * 996 + b"\n") * count
        sending = threading.Thread(target=self.client.send, args=(lines,))
        sending.start()
        self.assertEqual(self.client.reply()[1]["code"], "TIMEOUT")
        self.assertEqual({self.client.reply()[0] for _ in range(count)}, {"ping_reply"})
        sending.join(10)

    def test_aClientThatNeverReadsIsDroppedByItsLimit(self) -> None:
        """
        One who asks and asks and never reads costs a bounded heap of replies, then the connection.
        """
        client = self.enter(self.host.client())
        client.socket.setblocking(False)
        gone = False
        deadline = time.monotonic() + 15
        sent = 0
        with Polling(self.host) as polling:
            while not gone and time.monotonic() < deadline:
                try:
                    sent += client.socket.send(b"help\n" * 1000)
                except BlockingIOError:
                    self.assertGrown(24 * MIB)
                    time.sleep(0.02)
                except OSError as error:
                    self.assertIn(error.errno, (errno.EPIPE, errno.ECONNRESET))
                    gone = True
        self.assertTrue(gone, f"still connected after {sent} bytes")
        self.assertServed(polling)
        until(lambda: self.host.rss() - self.rss < 16 * MIB, 5, lambda: self.host.rss() - self.rss)
        self.assertIn("unread_seconds", self.host.said())

    def test_whoWaitsAndLeavesCostsNothing(self) -> None:
        """
        Clients that ask to be told later and hang up leave nothing behind in the daemon.
        """

        def come_and_go(times: int) -> None:
            for _ in range(times):
                for _ in range(100):
                    with self.host.client() as client:
                        client.send(b"@1 wait_for lab/demo swapped timeout=1h\n" * 15)
                        client.end()
                time.sleep(0.3)
                until(lambda: self.client.ask("host_status")["daemon"]["connections"] == 1)

        come_and_go(3)
        self.rss = self.host.rss()
        come_and_go(scaled(4, 30))
        self.assertGrown(8 * MIB)


class ManyClients(HostileTest):
    """
    All at once.
    """

    def flood(self, count: int) -> list[Client]:
        clients = []
        for _ in range(count):
            client = self.enter(self.host.client())
            with contextlib.suppress(OSError):
                client.send("ping\n")
            clients.append(client)
        return clients

    def outcome(self, client: Client) -> str:
        try:
            word, body = client.reply()
        except NoReply:
            return "no reply"
        return str(body["code"]) if word == "error_reply" else word

    def test_500ConnectionsAtOnce(self) -> None:
        """
        Some are served, each of the others is told the limit, and who was there before notices nothing.
        """
        with Polling(self.host) as polling:
            clients = self.flood(500)
            outcomes = [self.outcome(client) for client in clients]
        self.assertEqual(set(outcomes), {"ping_reply", "TOO_MANY"})
        self.assertGreater(outcomes.count("ping_reply"), 200)
        self.assertServed(polling)
        self.assertGrown(24 * MIB)
        for client in clients:
            client.close()
        until(lambda: self.client.ask("host_status")["daemon"]["connections"] == 1)
        self.assertIn("time", self.host.ask("ping"))

    @needs_root
    @needs_tool("setpriv", "socat")
    def test_anotherPrincipalStillGetsIn(self) -> None:
        """
        One principal's flood locks out nobody else.
        """
        outcomes = [self.outcome(client) for client in self.flood(500)]
        self.assertIn("TOO_MANY", outcomes)
        argv = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "socat", "-t5", "-"]
        asked = subprocess.run(
            [*argv, f"UNIX:{self.host.socket}"], input=b"whoami\n", capture_output=True, timeout=10, check=True
        )
        self.assertTrue(asked.stdout.startswith(b"whoami_reply "), asked.stdout)

    def test_aDaemonThatMayOpenFewFilesGoesOn(self) -> None:
        """
        Connections beyond what the system lets the daemon open wait or are refused; those it has are served.
        """
        host = Hosted(self, "[limits]\nprincipal_connections = 1000\n", files=(64, 64))
        host.start()
        first = self.enter(host.client())
        first.ask("ping")
        clients = []
        for _ in range(200):
            raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.addCleanup(raw.close)
            raw.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                raw.connect(str(host.socket))
            clients.append(raw)
        for _ in range(20):
            first.ask("ping")
            time.sleep(0.01)
        before = host.cpu_s()
        time.sleep(1)
        self.assertLess(host.cpu_s() - before, 0.5)
        for raw in clients:
            raw.close()
        until(lambda: _answers(host.socket), 10)


def _answers(path: Path) -> bool:
    try:
        with Client(path, 2) as client:
            return "time" in client.ask("ping")
    except (OSError, NoReply):
        return False
