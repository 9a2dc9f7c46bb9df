"""
NS texts that want to do harm, in the real offload child: each ends in an error that says which line, and soon.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadTopology
from hostline.server.offload import Offload
from hostline.server.supervise.spawn import Spawner
from tests.live.support import LoopClock, run
from tests.scale import scaled
from tests.test_ns import SAMPLE

#: Seconds in which Tcl, or who watches it, gives up, with starting the child on a busy machine; what goes on making
#: nodes has longer.
SOON_S, LATER_S = 8.0, 20.0
#: The same for what is merely large: five seconds of processor time.
PATIENCE_S = 60.0
_TIME = r"this takes more than (2\.5 s of processor time|3 s): it was stopped"
_STUCK = r"this takes more than (3 s of processor time|3\.5 s), in one command that cannot be stopped"
_MEMORY = f"this takes more memory than 1 GiB|{_STUCK}"
_DEEP = "this is nested too deep"
#: By name: lines after the simulator's, the line that is told of, and what is said of it.
BOMBS: dict[str, tuple[str, int, str]] = {
    "loop": ("\nwhile 1 {}", 3, _TIME),
    "number": ("\n\nexpr {7**(10**8)}", 4, _STUCK),
    "doubling": ("set x aaaaaaaa\nwhile 1 {append x $x}", 3, _MEMORY),
    "brackets": ("set x " + "[" * 100_000, 2, _DEEP),
    "program": ("exec id", 2, "exec is refused: a topology may not start, load or end programs"),
    "nodes": ("for {set i 0} {$i < 100000} {incr i} {set n($i) [$ns node]}", 2, "want at most 10000 nodes"),
    "repeat": (
        "set x [string repeat a 2000000000]",
        2,
        "string size overflow, out of memory allocating 2000000001 bytes",
    ),
}
MORE: dict[str, tuple[str, int, str]] = {
    "caught loop": ("\ncatch {while 1 {}}\n$ns run", 3, _TIME),
    "file": ("catch {open /etc/passwd}", 2, "open is refused: a topology may not reach files or the network"),
    "recursion": ("proc r {a} {eval [list r $a]}\nr 1", 2, r"too many nested evaluations \(infinite loop\?\)"),
    "expression": ("regexp [string repeat ( 200000][string repeat ) 200000] x", 2, _DEEP),
    "pattern": ('string match "*a*a*a*a*a*a*a*a*a*a*a*a*b" [string repeat a 5000]', 2, _STUCK),
    "evaluated": ('\neval [string repeat "\\[" 100000]', 3, _DEEP),
    "sorting": ("proc c {a b} {while 1 {}}\nlsort -command c {1 2}", 2, _TIME),
    "coroutine": ("proc g {} {while 1 {yield}}; coroutine c g; while 1 {c}", 2, _TIME),
    "warnings": ("while 1 {$ns foo}", 2, _TIME),
    "unknown": ("proc unknown args {while 1 {}}\nfoo", 2, _TIME),
    "array": ("while 1 {set a([incr i]) $i}", 2, _TIME),
    "branches": ("proc a {} {catch {a}; catch {a}; catch {a}}\na", 2, _TIME),
}


class BombTests(SynchronousTestCase):
    """
    The daemon is none the worse for any of them.
    """

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        asyncio.set_event_loop(self.loop)
        self.addCleanup(asyncio.set_event_loop, None)
        self.offload = Offload(Spawner(self.loop), self.loop, LoopClock(self.loop))

    def call(self, text: str) -> Any:
        return run(self.loop, self.offload.call("check_topology", lambda: {"text": text}, PATIENCE_S), PATIENCE_S + 10)

    def errors(self, text: str) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = self.call(text)["errors"]
        except BadTopology as error:
            found = error.details["errors"]
        return found

    def test_bombs(self) -> None:
        """
        Each is told of with its line in time, and a good text is read after it.
        """
        for name, (lines, line, text) in scaled(BOMBS, {**BOMBS, **MORE}).items():
            with self.subTest(name):
                began = time.monotonic()
                found = self.errors(f"set ns [new Simulator]\n{lines}\n")
                self.assertEqual(found[0]["line"], line)
                self.assertRegex(found[0]["text"], f"^({text})$")
                self.assertLess(time.monotonic() - began, LATER_S if name == "nodes" else SOON_S)
        self.assertEqual(self.call(SAMPLE)["errors"], [])

    def test_largest(self) -> None:
        """
        The most nodes and links that there may be are read, and by far not at the limit of time.
        """
        lines = (
            *("set ns [new Simulator]", "for {set i 0} {$i < 10000} {incr i} {", "  set n($i) [$ns node]"),
            "  if {$i > 0} {set l($i) [$ns duplex-link $n([expr {$i - 1}]) $n($i) 10Mb 5ms DropTail]}",
            *("}", "$ns run"),
        )
        said = self.call("\n".join(lines))
        self.assertEqual((said["errors"], len(said["nodes"]), len(said["links"])), ([], 10000, 9999))
