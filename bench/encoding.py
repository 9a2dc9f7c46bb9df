"""
Encoding: the status of 10,000 nodes on 1,000 hypervisors after one has changed, beside a plain copy of its bytes.
"""

from __future__ import annotations

import ast
import time
from typing import Any, Protocol

from bench.machine import pinned
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting

HYPERVISORS, NODES_EACH = 1000, 10
ENCODE, COPY, REPR = "one node set, then encode()", "copy of the bytes", "ascii() of the whole"


class Text(Protocol):
    """What L{hostline.server.status.StatusText} can do, as far as it is measured."""

    def set(self, hypervisor: str, node: str, boot: str | None, code: int | None) -> object:
        """One node's status."""

    def encode(self) -> bytes:
        """The whole body."""


def filled(text: Text) -> dict[str, dict[str, list[Any]]]:
    """
    Set every node.

    @return: the same as a value.
    """
    value: dict[str, dict[str, list[Any]]] = {}
    for number in range(HYPERVISORS):
        hypervisor = f"hv:qemu:pnode-{number:04}"
        value[hypervisor] = {}
        for at in range(NODES_EACH):
            node = f"node-{number * NODES_EACH + at}"
            text.set(hypervisor, node, "booted", 0)
            value[hypervisor][node] = ["booted", 0]
    return value


class _Encoding:
    """
    The three candidates over one status.
    """

    def __init__(self, text: Text, times: int) -> None:
        self._text = text
        self._times = times
        self._changes = 0
        self._value = filled(text)
        self._plain = bytearray(text.encode())
        self.size = len(self._plain)

    def encode(self, core: int) -> float:
        """Microseconds of one change and the encoding after it; each change is one, on another hypervisor."""
        names = list(self._value)
        steps = []
        for _ in range(self._times):
            self._changes += 1
            hypervisor = names[self._changes * 617 % len(names)]
            node = next(iter(self._value[hypervisor]))
            steps.append((hypervisor, node, self._changes))
            self._value[hypervisor][node] = ["booted", self._changes]
        change, encode = self._text.set, self._text.encode
        with pinned(core):
            begun = time.process_time_ns()
            for hypervisor, node, code in steps:
                change(hypervisor, node, "booted", code)
                encode()
            return (time.process_time_ns() - begun) / 1000 / self._times

    def copy(self, core: int) -> float:
        """Microseconds of one copy."""
        plain, times = self._plain, range(self._times * 4)
        with pinned(core):
            begun = time.process_time_ns()
            for _ in times:
                bytes(plain)
            return (time.process_time_ns() - begun) / 1000 / len(times)

    def whole(self, core: int) -> float:
        """Microseconds of encoding everything anew."""
        times = range(max(self._times // 20, 3))
        with pinned(core):
            begun = time.process_time_ns()
            for _ in times:
                ascii(self._value).encode()
            return (time.process_time_ns() - begun) / 1000 / len(times)

    def check(self) -> None:
        """
        @raise ValueError: the text is not the status that was set.
        """
        if ast.literal_eval(self._text.encode().decode()) != self._value:
            raise ValueError("encode() gave another status than was set")


def encoding(setting: Setting) -> Table:
    """
    @raise ImportError: the daemon's status text is not there.
    """
    from hostline.server.status import StatusText

    measured = _Encoding(StatusText(), 40 if setting.short else 400)
    measured.check()
    candidates = {ENCODE: measured.encode, COPY: measured.copy, REPR: measured.whole}
    by_turns(candidates, 1, setting.cores)  # so that the memory is there
    found = by_turns(candidates, setting.rounds, setting.cores)
    measured.check()
    return Table(
        "status of 10,000 nodes on 1,000 hypervisors, one of them changed since",
        [Series(name, "us (CPU)", found[name]) for name in candidates],
        [Goal(ENCODE, COPY, 3, at_most=True), Goal(REPR, ENCODE, 20)],
        [f"{measured.size} bytes; in one process. Every change is a real one; the last text is read and compared."],
    )
