"""
A host for the live tests that are rough with it: one state directory, its daemon as a real process that may be
killed and started again, a client that counts every reply, and the search for what is left over at the end.
"""

from __future__ import annotations

import ast
import os
import resource
import socket
import subprocess
import sys
import time
import unittest
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hostline.server.supervise.claim import Claimed, claim
from hostline.server.supervise.subuids import BLOCK
from hostline.server.supervise.uids import UidRange
from tests.live.remains import Remains
from tests.live.support import DEADLINE_S, remove_directory, temporary_directory

#: The daemon in the foreground.
HOSTLINED = (sys.executable, "-m", "hostline.server.main")
#: What a test's daemon inherits, and nothing else.
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ} | {"LC_ALL": "C.UTF-8"}
#: How many uids a host has for processes and accounts, for containers (256 blocks), and for delegates.
UIDS, BLOCK_UIDS, DELEGATE_UIDS = 2000, 256 * BLOCK, 200
#: A daemon has some 2 s of the processor to itself before it answers, which on a busy machine may take long.
_START_S = 60.0
#: How many hosts of tests there may be at once, on one machine.
_HOSTS = 90
#: The uids of the processes and accounts, and of the delegates, of all of them.
SLIVERS = range(400_000, 400_000 + _HOSTS * UIDS)
DELEGATES = range(40_000_000, 40_000_000 + _HOSTS * DELEGATE_UIDS)


class NoReply(Exception):
    """
    The connection ended before its reply came.
    """


class Client:
    """
    One connection to a daemon; each wait has a deadline.
    """

    def __init__(self, path: Path, limit_s: float = DEADLINE_S) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(limit_s)
        self._rest = b""
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise

    def send(self, data: bytes | str) -> None:
        """
        Send as it is.
        """
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def end(self) -> None:
        """
        Say no more; what was asked is still answered.
        """
        self.socket.shutdown(socket.SHUT_WR)

    def line(self) -> bytes:
        """
        @return: the next reply line, without its newline.
        @raise NoReply: if the connection ends before.
        """
        while b"\n" not in self._rest:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                raise NoReply(self._rest[:200])
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def reply(self) -> tuple[str, Any]:
        """
        @return: the word and the body of the next reply, read as any Python script would.
        """
        word, _, body = self.line().decode("ascii").partition(" ")
        return word, ast.literal_eval(body)

    def ask(self, request: str) -> Any:
        """
        @return: the body of the reply.
        @raise AssertionError: if it is an error.
        """
        word, body = self.refusal(request)
        if word == "error_reply":
            raise AssertionError(f"{request[:200]}: {body}")
        return body

    def refusal(self, request: str) -> tuple[str, Any]:
        """
        @return: the word and the body of the reply, whatever it is.
        """
        self.send(request + "\n")
        return self.reply()

    def rest(self) -> bytes:
        """
        @return: all that comes until the daemon closes.
        """
        try:
            while data := self.socket.recv(1 << 16):
                self._rest += data
        except ConnectionError:
            pass
        return self._rest

    def close(self) -> None:
        """
        Hang up.
        """
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Hosted:
    """
    One state directory for a test, and at most one daemon on it; what the test leaves is removed at its end.

    @ivar pid: of the daemon that was started last.
    """

    def __init__(
        self,
        test: unittest.TestCase,
        config: str = "",
        *,
        parent: Path | None = None,
        argv: Sequence[str] = HOSTLINED,
        environment: Mapping[str, str] = ENVIRONMENT,
        files: tuple[int, int] | None = None,
    ) -> None:
        """
        @param config: more of the configuration file, TOML.
        @param parent: where the state goes; a directory of its own otherwise.
        @param files: the daemon's limits of open files, soft and hard.
        """
        self.directory = temporary_directory()
        self.state = (parent or self.directory) / "state"
        self.socket = self.state / "run" / "hostline.sock"
        self.config = self.directory / "hostline.toml"
        self.log = self.directory / "log"
        number, self._number = own_number()
        self.uid_first, self.block_first, self.delegate_first = firsts(number)
        self.subnet = f"10.{100 + number}.64.0/23"
        self.configure(config)
        self.argv = [*argv, "--state", str(self.state), "--config", str(self.config)]
        self.process: subprocess.Popen[bytes] | None = None
        self._environment = dict(environment)
        self._files = files
        test.addCleanup(self.clean)

    def configure(self, config: str) -> None:
        """
        Write the configuration file anew.
        """
        containers = f"container_uid_first = {self.block_first}\ncontainer_uid_count = {BLOCK_UIDS}\n"
        slivers = f"[slivers]\nuid_first = {self.uid_first}\nuid_count = {UIDS}\n{containers}"
        delegates = f"[delegates]\nuid_first = {self.delegate_first}\nuid_count = {DELEGATE_UIDS}\n"
        network = f'[network]\nsubnet = "{self.subnet}"\n'
        for section in (slivers, delegates, network):
            if section.partition("\n")[0] not in config:
                config += f"\n{section}"
        self.config.write_text(config)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def launch(self) -> subprocess.Popen[bytes]:
        """
        Start the daemon, and wait for nothing.
        """

        def limit() -> None:
            if self._files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, self._files)

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd="/",
                preexec_fn=limit,
            )
        return self.process

    def start(self, limit_s: float = _START_S) -> float:
        """
        Start the daemon and wait until it answers.

        @return: the seconds that took.
        """
        begun = time.monotonic()
        self.launch()
        self.answering(limit_s)
        return time.monotonic() - begun

    def answering(self, limit_s: float = _START_S) -> None:
        """
        Wait until the daemon answers.
        """
        deadline = time.monotonic() + limit_s
        while True:
            try:
                with Client(self.socket, max(0.1, deadline - time.monotonic())) as client:
                    client.ask("ping")
                    return
            except (OSError, NoReply):
                if self.process is not None and self.process.poll() is not None:
                    raise AssertionError(f"the daemon ended with {self.process.returncode}: {self.said()}") from None
                if time.monotonic() > deadline:
                    raise AssertionError(f"no answer in {limit_s:g} s: {self.said()}") from None
                time.sleep(0.01)

    def client(self, limit_s: float = DEADLINE_S) -> Client:
        """
        Connect.
        """
        return Client(self.socket, limit_s)

    def ask(self, request: str, limit_s: float = DEADLINE_S) -> Any:
        """
        One request on a connection of its own.
        """
        with self.client(limit_s) as client:
            return client.ask(request)

    def ask_any(self, request: str, limit_s: float = DEADLINE_S) -> tuple[str, Any]:
        """
        The same; an error is no failure.

        @return: the word and the body of the reply.
        """
        with self.client(limit_s) as client:
            return client.refusal(request)

    def kill(self) -> None:
        """
        C{kill -9} of the daemon alone.
        """
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE_S)

    def stop(self) -> int:
        """
        SIGTERM.

        @return: its exit status.
        """
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(DEADLINE_S)

    def said(self) -> str:
        """
        @return: what the daemon logged last.
        """
        return self.log.read_text("utf-8", "replace")[-3000:]

    def tracebacks(self) -> str:
        """
        @return: the first traceback in the log, empty if there is none.
        """
        text = self.log.read_text("utf-8", "replace")
        at = text.find("Traceback")
        return "" if at < 0 else text[max(0, at - 300) : at + 3000]

    # What is so on the machine.

    @property
    def instance(self) -> str:
        """
        The first part of the tag on all that is made for this state.
        """
        try:
            return (self.state / "instance").read_text().strip() or "?"
        except OSError:
            return "?"

    def rss(self) -> int:
        """
        @return: the daemon's resident memory in bytes.
        """
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def cpu_s(self) -> float:
        """
        @return: processor seconds that the daemon has used.
        """
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def remains(self) -> Remains:
        """
        What there is of our slivers on the machine.
        """
        uids = range(self.uid_first, self.uid_first + UIDS)
        blocks = range(self.block_first, self.block_first + BLOCK_UIDS)
        return Remains(
            self.state, self.instance, uids, blocks, range(self.delegate_first, self.delegate_first + DELEGATE_UIDS)
        )

    def processes(self) -> set[int]:
        """
        @return: every living process of one of our slivers.
        """
        return self.remains.processes()

    def cgroups(self) -> list[Path]:
        """
        @return: all control groups made for this state, the outer ones first.
        """
        return self.remains.cgroups()

    def left_over(self) -> list[str]:
        """
        @return: all that is still there of our slivers, in words.
        """
        return self.remains.in_words()

    def clean(self) -> None:
        """
        End all that is ours, by pid, and remove all of it.
        """
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.remains.remove()
        remove_directory(self.state)
        remove_directory(self.directory)
        self._number.close()


def firsts(number: int) -> tuple[int, int, int]:
    """
    @return: the first uid of a host's slivers, of its containers' blocks, and of its delegates.
    """
    return SLIVERS[0] + number * UIDS, (1 << 28) + number * BLOCK_UIDS, DELEGATES[0] + number * DELEGATE_UIDS


def _free(number: int) -> bool:
    """
    @return: whether no daemon that is no test's gives out any of a host's uids.
    """
    try:
        for first, size in zip(firsts(number), (UIDS, BLOCK_UIDS, DELEGATE_UIDS), strict=True):
            claim(UidRange(first, size)).close()
    except Claimed:
        return False
    return True


def own_number() -> tuple[int, socket.socket]:
    """
    @return: a number that no other host of a test on this machine has, whoever runs it, until the socket is closed. So
        what is left over of one can be told from others by uid.
    """
    for attempt in range(_HOSTS):
        number = (os.getpid() + attempt) % _HOSTS
        held = socket.socket(socket.AF_UNIX)
        try:
            held.bind(f"\0hostline-tests/{number}")
        except OSError:
            held.close()
            continue
        if os.geteuid() != 0 or _free(number):
            return number, held
        held.close()
    raise AssertionError(f"{_HOSTS} hosts of tests are there already")


def until(true: Callable[[], object], limit_s: float = DEADLINE_S, what: object = "") -> None:
    """
    Wait until something is so.

    @raise AssertionError: after C{limit_s}.
    """
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so in {limit_s:g} s: {what() if callable(what) else what}")
        time.sleep(0.02)


def topology(commands: Mapping[str, str | None]) -> str:
    """
    @param commands: start command, or None, by node.
    @return: a topology without links, ready to stand in a request.
    """
    nodes = []
    for name, command in commands.items():
        escaped = (command or "").replace("&", "&amp;").replace("<", "&lt;")
        attribute = f"<attribute><attribute>startup</attribute><value>{escaped}</value></attribute>" if command else ""
        nodes.append(f"<elements><computer><name>{name}</name>{attribute}</computer></elements>")
    return ascii(f"<experiment>{''.join(nodes)}</experiment>")
