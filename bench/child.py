"""
A child: one process started for the benchmark, and surely ended.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.machine import clean_environment

#: The root of our source.
ROOT = Path(__file__).parent.parent

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class CannotStart(Exception):
    """A child did not come up; the message has the end of what it said."""


def ends_with_us() -> Callable[[], None]:
    """
    What a child runs before its program so that it is told to end when we are gone.
    """
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_DIE_WITH_PARENT, signal.SIGTERM)

    return ask


class Child:
    """
    A process that serves until it is told to end.

    @ivar pid: of the process itself.
    """

    def __init__(
        self, argv: Sequence[str], log: Path, ready: Callable[[], bool], cwd: Path = ROOT, patience_s: float = 30.0
    ) -> None:
        """
        Start it and wait until it is ready.

        @param log: gets all that it says.
        @param cwd: where it runs; from the root of our source it finds C{bench} itself.
        @raise CannotStart: it ended, or was not ready in time.
        """
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=clean_environment(),
                cwd=cwd,
                preexec_fn=ends_with_us(),
            )
        self.pid = self._process.pid
        until = time.monotonic() + patience_s
        try:
            while not ready():
                if self._process.poll() is not None:
                    raise CannotStart(f"{argv[0]} ended with {self._process.returncode}: {self.said()}")
                if time.monotonic() > until:
                    raise CannotStart(f"{argv[0]} was not ready in {patience_s:g} s: {self.said()}")
                time.sleep(0.01)
        except BaseException:
            self.end()
            raise

    def said(self) -> str:
        """
        The last lines that it said.
        """
        return self._log.read_text(errors="replace")[-1500:].strip()

    def end(self, patience_s: float = 10.0) -> None:
        """
        End it, politely first; may be repeated.
        """
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
