"""
C{$ns}: the simulator of an NS text, as far as a topology needs it.
"""

from __future__ import annotations

from typing import Any

from hostline.server.experiments import units
from hostline.server.experiments.ns_words import Bad, Objects, Verb
from hostline.server.experiments.topology import quoted

QUEUES = ("DropTail", "RED", "GRED")
ROUTING = ("Static", "Session", "ospf", "Manual", "Static-ddijk", "Static-old")
#: What is told of methods that have no effect, where there is more to say.
WITHOUT_EFFECT: dict[str, str] = {
    "at": "hostline has no timed events; use start commands, or 'run' when the experiment is active",
    **dict.fromkeys(
        (
            *("namtrace-all", "trace-all", "flush-trace", "color", "attach-agent", "connect", "queue-limit"),
            *(
                "duplex-link-op",
                "monitor-queue",
                "event-timeline",
                "event-sequence",
                "event-group",
                "create-god",
                "nsenode",
                "make-simulated",
            ),
            *("halt", "stop", "now", "use-scheduler", "nodetrace", "cost", "set-address-format", "bridge"),
            *("make-path", "make-portinvlan", "make-san", "blockstore", "define-template-parameter"),
        ),
        "",
    ),
}


class Simulator(Objects):
    """
    The object of C{new Simulator}.

    @ivar line: where it was made.
    @ivar ran: where C{run} stands; 0 if it was not seen yet.
    """

    def __init__(self, script: Any, line: int) -> None:
        super().__init__(script)
        self.line = line
        self.ran = 0

    def make_node(self, *_: str) -> str:
        """C{$ns node}."""
        self._late("node")
        return str(self.script.node())

    def duplex_link(self, first: str, second: str, rate: str, delay: str, queue: str = "DropTail", *_: str) -> str:
        """C{$ns duplex-link A B RATE DELAY QUEUE}."""
        self._late("duplex-link")
        ends = self.node(first), self.node(second)
        if ends[0] is ends[1]:
            raise Bad(f"want two nodes, got {ends[0].name} twice")
        shape = units.rate(rate), units.delay(delay)
        self._queue(queue)
        return self._linked("tblink-l", ends, *shape)

    def simplex_link(self, *_: str) -> str:
        """C{$ns simplex-link}."""
        raise Bad("a link has two directions here; use duplex-link, and tb-set-link-simplex-params for each of them")

    def make_lan(self, nodes: str, rate: str, delay: str, *_: str) -> str:
        """C{$ns make-lan "A B C" RATE DELAY}."""
        self._late("make-lan")
        found = self.nodes(nodes)
        shape = units.rate(rate), units.delay(delay)
        if not found:
            raise Bad("want at least one node")
        seen: set[int] = set()
        for one in found:
            if id(one) in seen:
                raise Bad(f"want each node once, got {one.name} twice")
            seen.add(id(one))
        return self._linked("tblan-lan", found, *shape)

    def make_cloud(self, nodes: str, rate: str, delay: str, *_: str) -> str:
        """C{$ns make-cloud}."""
        self.script.warning("make-cloud is read as make-lan")
        return self.make_lan(nodes, rate, delay)

    def between_two(self, first: str, second: str) -> str:
        """C{$ns link A B}: the link between two nodes."""
        return self.between(first, second).name

    def rtproto(self, protocol: str, *_: str) -> str:
        """C{$ns rtproto PROTOCOL}."""
        if protocol not in ROUTING:
            raise Bad(f"want one of {', '.join(ROUTING)}, got {quoted(protocol)}")
        if protocol in ("Session", "ospf", "Manual"):
            self.script.warning(f"rtproto {protocol}: hostline lays static routes all the same")
        return ""

    def run(self) -> str:
        """C{$ns run}."""
        if self.ran:
            self.script.warning(f"run: it stands in line {self.ran} already")
        else:
            self.ran = self.script.line
        return ""

    def _linked(self, kind: str, nodes: Any, rate: float | None, delay: float) -> str:
        link = self.script.link(kind)
        link.rate_kbps, link.delay_ms = rate, delay or None
        for node in nodes:
            self.script.draft.connect(node, link, link.line)
        return str(link.name)

    def _queue(self, queue: str) -> None:
        if queue not in QUEUES:
            raise Bad(f"want a queue of one of {', '.join(QUEUES)}, got {quoted(queue)}")
        if queue != "DropTail":
            self.script.warning(f"duplex-link: queues drop at their tail here, not as {queue} does")

    def _late(self, what: str) -> None:
        if self.ran:
            self.script.warning(f"{what} stands after run of line {self.ran}; it counts all the same")


METHODS: dict[str, Verb] = {
    one.name: one
    for one in (
        Verb("node", "?ARGUMENT? ...", Simulator.make_node),
        Verb("duplex-link", "NODE NODE RATE DELAY ?QUEUE? ...", Simulator.duplex_link),
        Verb("simplex-link", "...", Simulator.simplex_link),
        Verb("make-lan", "NODES RATE DELAY ...", Simulator.make_lan),
        Verb("make-cloud", "NODES RATE DELAY ...", Simulator.make_cloud),
        Verb("link", "NODE NODE", Simulator.between_two),
        Verb("rtproto", "PROTOCOL ...", Simulator.rtproto),
        Verb("run", "", Simulator.run),
    )
}
