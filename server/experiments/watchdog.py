"""
Ends an offload child whose library neither gives up nor looks at its limits, with an error that says what it was at.

A thread of the child: it was there before the child gave up its rights, it sleeps but for a look now and then, and
all it does is to write the last reply. (The daemon itself has no such threads.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hostline.protocol.errors import BadTopology, HostError

#: Seconds of processor time for what is watched.
PROCESSOR_S = 3.0
_LOOK_S = 0.25


class Watchdog:
    """
    Watches one piece of work at a time.

    @ivar line: of the callers' text that is being read; set by who reads.
    @ivar clock_s: how many seconds of the clock the work has, as far as it has come; set by who reads.
    """

    def __init__(self, end: Callable[[HostError], object]) -> None:
        """
        @param end: writes the error as the child's reply and ends the process.
        """
        self.line = 0
        self.clock_s: Callable[[], float] = lambda: 4.0
        self._end = end
        self._watched = threading.Event()
        self._done = threading.Event()
        self._reserve: bytearray | None = bytearray(4 * 1024 * 1024)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """
        Begin to wait for work, for which a thread must still be allowed.
        """
        self._thread.start()

    def watch(self) -> None:
        """
        From now on until L{release}, the limits hold.
        """
        self._done.clear()
        self._watched.set()

    def release(self) -> None:
        """
        The work is done.
        """
        self._watched.clear()
        self._done.set()

    def out_of_memory(self, most: str) -> None:
        """
        End the process, for there was no memory left.

        @param most: how much there was.
        """
        self._reserve = None
        self._end(self._error(f"this takes more memory than {most}"))

    def too_deep(self) -> None:
        """
        End the process if it is watched, for the work ran out of stack.
        """
        if self._watched.is_set():
            self._end(self._error("this is nested too deep"))

    def _watch(self) -> None:
        while True:
            self._watched.wait()
            clock, processor = time.monotonic(), time.process_time()
            while self._watched.is_set() and not self._done.wait(_LOOK_S):
                used, passed, most = time.process_time() - processor, time.monotonic() - clock, self.clock_s()
                if used > PROCESSOR_S or passed > most:
                    much = f"{PROCESSOR_S:g} s of processor time" if used > PROCESSOR_S else f"{most:.3g} s"
                    self._end(self._error(f"this takes more than {much}, in one command that cannot be stopped"))

    def _error(self, text: str) -> HostError:
        found = {"line": self.line, "text": text}
        return BadTopology(f"line {self.line}: {text}", errors=[found], warnings=[])
