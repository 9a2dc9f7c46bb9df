"""
The daemon under measurement: its own state, its own socket, an experiment of twenty nodes, and nothing left over.
"""

from __future__ import annotations

import ast
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.sax.saxutils import escape

import psutil

from bench.child import Child
from bench.machine import python
from bench.wire import Server

EXPERIMENT = "lab/b20"
NODES = 20
STATUS_REQUEST = f"status_request {EXPERIMENT}\n".encode()

#: Stands for the reply where there is no daemon, so that the peers can still be measured.
_ASSUMED = {"hv:process:pnode-0000": {f"node-{number}": ["booted", None] for number in range(NODES)}}
ASSUMED_REPLY = f"status_reply {_ASSUMED!a}\n".encode()


class Refused(Exception):
    """The daemon answered with an error; the message is the reply."""


def topology(nodes: int) -> str:
    """
    A TopDL text of some nodes that do nothing.
    """
    names = (escape(f"node-{number}") for number in range(nodes))
    elements = "".join(f" <elements><computer><name>{name}</name></computer></elements>\n" for name in names)
    return f"<experiment><version>1.0</version>\n{elements}</experiment>\n"


class Daemon:
    """
    One daemon, run in the foreground with a state of its own.

    @ivar socket: where it listens.
    @ivar pid: of the daemon itself.
    """

    def __init__(self, directory: Path, name: str, config: str = "", *, run_in_memory: bool = False) -> None:
        """
        Start it and wait until it answers.

        @param config: the text of its configuration.
        @param run_in_memory: what lasts until the next reboot is in memory, as it is where a daemon uses /run; wants
            root.
        @raise CannotStart: it does not come up.
        """
        state = directory / name
        state.mkdir()
        state.chmod(0o711)
        self.socket = state / "run" / "hostline.sock"
        self._state = state
        memory = state / "run" if run_in_memory else None
        if memory is not None:
            memory.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "none", str(memory)], check=True)
        argv = [python(), "-m", "hostline.server.main", "--state", str(state)]
        if config:
            file = directory / f"{name}.toml"
            file.write_text(config)
            argv += ["--config", str(file)]
        self._workloads: list[psutil.Process] = []
        self._child = Child(argv, directory / f"{name}.log", self._answers, cwd=directory)
        self.pid = self._child.pid

    def ask(self, request: str, patience_s: float = 90.0) -> Any:
        """
        Say one line and read the body of its reply.

        @raise Refused: it is an error, or an operation that has not ended.
        """
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as lines:
            connection.settimeout(patience_s)
            connection.connect(str(self.socket))
            connection.sendall(request.encode() + b"\n")
            line = lines.readline()
        word, _, body = line.decode().strip().partition(" ")
        if word in ("error_reply", "operation_reply", ""):
            raise Refused(f"{request[:60]}: {line.decode().strip()[:1000]}")
        return ast.literal_eval(body)

    def swap_in(self) -> bytes:
        """
        Make the project and the experiment, and wait until its status no longer changes.

        @return: the whole line of its status.
        """
        self.ask("add_project lab")
        self.ask(f"create_experiment {EXPERIMENT} {topology(NODES)!a} swap_in=True wait=60")
        self._workloads = psutil.Process(self.pid).children(recursive=True)
        steady, since = b"", time.monotonic()
        until = since + 60
        while time.monotonic() < until:
            line = b"status_reply " + ascii(self.ask(STATUS_REQUEST.decode().strip())).encode() + b"\n"
            if line != steady:
                steady, since = line, time.monotonic()
            elif time.monotonic() > since + 1 and line.count(b"'booted'") == NODES:
                break
            time.sleep(0.1)
        else:
            raise Refused(f"the nodes were not all booted in a minute: {steady.decode().strip()[:1000]}")
        return steady

    def server(self, name: str, mode: str, request: bytes, expected: bytes) -> Server:
        """
        The daemon as something to load.
        """
        return Server(name, self.pid, mode, str(self.socket), request, expected)

    def end(self) -> None:
        """
        End the experiment, then the daemon; what outlives both is ended by its process id.
        """
        if self._workloads:
            with suppress(Refused, OSError):
                self.ask(f"terminate {EXPERIMENT} wait=60")
            with suppress(psutil.NoSuchProcess):
                self._workloads += psutil.Process(self.pid).children(recursive=True)
        self._child.end()
        for process in self._workloads:
            with suppress(psutil.NoSuchProcess):  # psutil compares start times: a reused id is not hit
                process.kill()
        # Images stay mounted behind a daemon that ends; the deepest first.
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for place in sorted((one for one in mounted if one.startswith(f"{self._state}/")), reverse=True):
            subprocess.run(["umount", "--lazy", place], check=False)

    def _answers(self) -> bool:
        try:
            return isinstance(self.ask("ping", 5), dict)
        except (Refused, OSError, SyntaxError):
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
