"""
One command on many nodes: a conversation that is made of one for each, a bounded number of them at a time, and their
answers folded, equal ones together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from hostline.server.drivers.driver import Conversation, Hearer
from hostline.server.talk import Collected

#: Nodes in which a command runs at the same time.
AT_ONCE = 32
#: Bytes of all answers together; each node may have its part of them.
ALL_BYTES = 8 << 20
LEAST_BYTES = 1024

#: Begins the command in one node; raises L{OSError} if that cannot be.
Begin = Callable[[Hearer], Conversation]


@define(eq=False)
class _One:
    """
    The command in one node, as its driver tells of it.
    """

    node: str
    wrote: Collected
    over: Callable[[_One, int | None], None]
    conversation: Conversation | None = None

    def said(self, stream: str, data: bytes) -> None:
        """It wrote something."""
        self.wrote.hear(stream, data)

    def ended(self, code: int | None) -> None:
        """It is over."""
        self.over(self, code)


class Everywhere:
    """
    A L{hostline.server.drivers.driver.Conversation} that says nothing but its end.

    @ivar answers: exit status and what was written, by node; C{silent}: why there are none, by node.
    """

    def __init__(
        self,
        begins: Mapping[str, Begin],
        hearer: Hearer,
        clock: IReactorTime,
        timeout: float | None,
        collected_bytes: int,
    ) -> None:
        """
        @param timeout: seconds that each node may take; then the command is ended there.
        @param collected_bytes: of each output of one node at most.
        """
        self.answers: dict[str, dict[str, Any]] = {}
        self.silent: dict[str, str] = {}
        self._begins = dict(begins)
        self._waiting = list(begins)[::-1]
        self._running: dict[_One, IDelayedCall | None] = {}
        self._hearer = hearer
        self._clock = clock
        self._timeout = timeout
        self._most = min(collected_bytes, max(LEAST_BYTES, ALL_BYTES // (2 * max(1, len(self._begins)))))
        self._closed = False
        clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE and not self._closed:
            self._begin(self._waiting.pop())
        if not self._waiting and not self._running and not self._closed:
            self._closed = True
            self._hearer.ended(0)

    def _begin(self, node: str) -> None:
        one = _One(node, Collected(self._most), self._over)
        self._running[one] = None
        try:
            one.conversation = self._begins[node](one)
            one.conversation.end_input()
        except OSError as error:
            self._running.pop(one, None)
            self.silent[node] = error.strerror or str(error)
            return
        if one in self._running and self._timeout is not None:
            self._running[one] = self._clock.callLater(self._timeout, self._late, one)

    def _late(self, one: _One) -> None:
        self._running.pop(one, None)
        if one.conversation is not None:
            one.conversation.close()
        self.silent[one.node] = f"it has not ended in {self._timeout:g} s; it was ended"
        self._go_on()

    def _over(self, one: _One, code: int | None) -> None:
        if one not in self._running:
            return
        late = self._running.pop(one)
        if late is not None:
            late.cancel()
        cut = {"cut": True} if one.wrote.cut else {}
        self.answers[one.node] = {"exit": code, "out": one.wrote.text("out"), "err": one.wrote.text("err")} | cut
        self._clock.callLater(0, self._go_on)  # not now: the driver may be in the midst of it

    def body(self) -> dict[str, Any]:
        """
        @return: C{answers}, each with the C{nodes} that gave it, those of most nodes first; and C{silent}.
        """
        return {"answers": folded(self.answers), "silent": dict(sorted(self.silent.items()))}

    # The rest of a conversation.

    def write(self, data: bytes) -> None:
        """Nobody hears it."""

    @property
    def unwritten(self) -> int:
        """None is waiting."""
        return 0

    def end_input(self) -> None:
        """There is none."""

    def resize(self, rows: int, columns: int) -> None:
        """There is no terminal."""

    def pause(self) -> None:
        """What is collected is bounded."""

    def resume(self) -> None:
        """As above."""

    def close(self) -> None:
        """End it wherever it runs."""
        self._closed = True
        running, self._running = self._running, {}
        for one, late in running.items():
            if late is not None:
                late.cancel()
            if one.conversation is not None:
                one.conversation.close()


def folded(answers: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """
    @return: equal answers once, with the nodes that gave them.
    """
    groups: dict[tuple[Any, ...], list[str]] = {}
    for node in sorted(answers):
        groups.setdefault(tuple(sorted(answers[node].items())), []).append(node)
    found = [{"nodes": nodes, **dict(key)} for key, nodes in groups.items()]
    return sorted(found, key=lambda one: (-len(one["nodes"]), one["nodes"]))
