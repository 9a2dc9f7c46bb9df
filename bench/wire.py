"""
The wire under load: one slice of requests to one server, and what it gave.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from bench.child import ROOT, ends_with_us
from bench.machine import clean_environment, cpu_ns, pin, pinned, python

HERE = Path(__file__).parent


class Server(NamedTuple):
    """
    Something that answers.

    @ivar pid: whose CPU time is counted; all its threads are moved to the core of the slice.
    @ivar mode: C{exact}, C{counted} or C{http}: what a reply is, in the words of C{loadgen.c}.
    @ivar address: the path of a Unix socket, or a port of the loopback address.
    @ivar expected: what C{mode} compares replies with.
    """

    name: str
    pid: int
    mode: str
    address: str
    request: bytes
    expected: bytes


class Slice(NamedTuple):
    """
    What one slice gave.

    @ivar rate: replies per second.
    @ivar p50_us: of one turn: from the write of its requests to the last of their replies.
    @ivar cpu_us: of the server, per reply.
    @ivar replies: all that came, those before and after the clock too.
    @ivar next_number: the first that was not used for a C{#} in the request.
    """

    rate: float
    p50_us: float
    p99_us: float
    cpu_us: float
    replies: int
    next_number: int


class LoadFailed(Exception):
    """A server did not answer as it should; the message says how."""


def figures(line: str) -> dict[str, int]:
    """
    The numbers of the generator's line, by name.

    @raise ValueError: it is not such a line.
    """
    return {name: int(value) for name, _, value in (word.partition("=") for word in line.split())}


class Load:
    """
    The load generator, compiled where there is a compiler.

    @ivar compiled: whether it is the one in C.
    """

    def __init__(self, directory: Path) -> None:
        """
        @param directory: for the program and the requests.
        """
        self._directory = directory
        program = compiled("loadgen", directory)
        self.compiled = program is not None
        self._argv = [str(program)] if program else [python(), "-m", "bench.generator"]

    def slice(
        self, server: Server, core: int, connections: int, depth: int, milliseconds: int, first: int = 0
    ) -> Slice:
        """
        Load one server for a while, it and the generator on the same core.

        @param depth: how many requests each connection sends at once.
        @param first: the number that counted requests begin with.
        @raise LoadFailed: a reply was wrong or late.
        """
        with pinned(core):
            pin(server.pid, core)
            before = cpu_ns(server.pid)
            with self.begun(server, connections, depth, milliseconds, first) as process:
                return self.ended(process, server, before)

    def begun(
        self, server: Server, connections: int, depth: int, milliseconds: int, first: int = 0
    ) -> subprocess.Popen[str]:
        """
        Start a slice and do not wait for it.
        """
        request = self._directory / f"request.{server.pid}.{server.mode}"
        expected = self._directory / f"expected.{server.pid}.{server.mode}"
        request.write_bytes(server.request)
        expected.write_bytes(server.expected)
        rest = [server.mode, server.address, connections, depth, milliseconds, request, expected, first]
        return subprocess.Popen(
            [*self._argv, *map(str, rest)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
            cwd=ROOT,
            preexec_fn=ends_with_us(),
        )

    @staticmethod
    def ended(process: subprocess.Popen[str], server: Server, cpu_before_ns: int) -> Slice:
        """
        Wait for a slice that was begun; it ends by itself.

        @raise LoadFailed: a reply was wrong or late.
        """
        output, errors = process.communicate()
        if process.returncode != 0:
            raise LoadFailed(f"{server.name}: {errors.strip() or process.returncode}")
        cpu = cpu_ns(server.pid) - cpu_before_ns
        found = figures(output)
        return Slice(
            rate=found["replies"] * 1e9 / found["elapsed_ns"],
            p50_us=found["p50_ns"] / 1000,
            p99_us=found["p99_ns"] / 1000,
            cpu_us=cpu / 1000 / found["all"],
            replies=found["all"],
            next_number=found["next"],
        )


def compiled(name: str, directory: Path) -> Path | None:
    """
    Compile one of our C programs.

    @return: the program; None if there is no C compiler, or it has no headers to compile with.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        return None
    program = directory / name
    done = subprocess.run(
        [compiler, "-O2", "-D_GNU_SOURCE", "-o", str(program), str(HERE / f"{name}.c")],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return program if done.returncode == 0 else None
