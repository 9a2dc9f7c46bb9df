"""
Whatever is asked of experiments, in whatever order, and whenever the daemon dies or its disk is full: in the end all
comes to rest, and nothing is left over.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hostline.server.records import Experiment, Plan
from tests.daemons import make, topdl

_NAMES = st.sampled_from(["lab/one", "lab/two"])
_AT = st.integers(0, 8)
_NODES = st.dictionaries(
    st.sampled_from(["web", "db", "log"]), st.sampled_from([None, "sleep 3; exit 7", "exit 1"]), min_size=1
)
_NODE = st.lists(st.sampled_from(["web", "db", "log"]), min_size=1, max_size=2, unique=True)


class Lives(RuleBasedStateMachine):
    """
    Experiments of one member, over one host.
    """

    @initialize()
    def begin(self) -> None:
        self.daemon = make(slow=1.0)
        self.ann = self.daemon.lab()
        self.ann.body("create_experiment lab/one " + topdl({"web": "sleep 3; exit 7", "db": None}))

    def one(self, at: int) -> str:
        """
        One of the experiments, or one that there is not.
        """
        names = sorted(self.daemon.host.table(Experiment))
        return names[at % len(names)] if names and at else "lab/none"

    def say(self, line: str, settle: bool) -> None:
        self.ann.send(f"@x {line}\n", settle)
        self.ann.replies()

    @rule(name=_NAMES, nodes=_NODES, swap_in=st.booleans(), settle=st.booleans())
    def create(self, name: str, nodes: dict[str, Any], swap_in: bool, settle: bool) -> None:
        self.say(f"create_experiment {name} {topdl(nodes)} swap_in={swap_in} wait=0", settle)

    @rule(at=_AT, nodes=_NODES, settle=st.booleans())
    def modify(self, at: int, nodes: dict[str, Any], settle: bool) -> None:
        self.say(f"modify_experiment {self.one(at)} {topdl(nodes)} wait=0", settle)

    @rule(at=_AT, command=st.sampled_from(["swap_in", "swap_in", "swap_out", "terminate"]), settle=st.booleans())
    def go(self, at: int, command: str, settle: bool) -> None:
        self.say(f"{command} {self.one(at)} wait=0", settle)

    @rule(
        at=_AT,
        command=st.sampled_from(["node_reboot", "start_node", "stop_node"]),
        nodes=_NODE,
        settle=st.booleans(),
    )
    def nodes(self, at: int, command: str, nodes: list[str], settle: bool) -> None:
        self.say(f"{command} {self.one(at)} {' '.join(nodes)} wait=0", settle)

    @rule(settle=st.booleans(), newest=st.booleans())
    def cancel(self, settle: bool, newest: bool) -> None:
        running = sorted(one for some in self.daemon.host.unended.values() for one in some)
        if running:
            self.say(f"cancel {running[-1 if newest else 0]}", settle)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.daemon.advance(seconds)

    @rule()
    def crash(self) -> None:
        self.daemon.crash()
        self.ann = self.daemon.connect(5001)

    @rule(full=st.sampled_from([True, False, False]))
    def fill(self, full: bool) -> None:
        self.daemon.store.full = full

    @rule(code=st.sampled_from([0, 137, None]), at=st.integers(0, 5))
    def die(self, code: int | None, at: int) -> None:
        serials = sorted(self.daemon.fake_host.statuses)
        if serials:
            self.daemon.driver.end(serials[at % len(serials)], code)

    @rule(method=st.sampled_from(["ensure_created", "ensure_started", "ensure_stopped", "ensure_destroyed"]))
    def break_driver(self, method: str) -> None:
        self.daemon.driver.errors[method] = [OSError(5, "Input/output error")]

    @invariant()
    def holds(self) -> None:
        """
        At rest, memory is what is kept.
        """
        if hasattr(self, "daemon") and not self.daemon.store.pending and not self.daemon.loop._soon:
            self.daemon.check()

    def teardown(self) -> None:
        """
        In the end nothing is on its way, and nothing is left over.
        """
        if not hasattr(self, "daemon"):
            return
        daemon = self.daemon
        daemon.store.full = False
        daemon.settle()
        for _ in range(10):
            daemon.advance(10)
            daemon.daemon.round()
        assert not daemon.host.unended, daemon.host.unended
        states = {one.name: one.state for one in daemon.host.table(Experiment).values()}
        assert set(states.values()) <= {"swapped", "active", "failed"}, states
        serials = {serial for one in daemon.host.table(Experiment).values() for serial in one.slivers.values()}
        assert serials == set(daemon.host.slivers_by_serial) == set(daemon.daemon.board._placed)
        for one in daemon.host.table(Experiment).values():
            if one.state == "active":
                assert one.slivers.keys() == {node["name"] for node in daemon.host.plan_of(one).topology["nodes"]}
        daemon.check()
        for name in states:
            self.ann.send(f"terminate {name} wait=0\n")
        daemon.advance(60)
        assert not daemon.fake_host.statuses and not daemon.host.slivers_by_serial
        assert not daemon.host.table(Experiment) and not daemon.host.table(Plan)
        assert not daemon.host.unended
        operations, sync = daemon.daemon.operations, daemon.daemon.sync
        for left in (operations._left, operations._waiting_for, operations._waiters, sync._told, sync._failed):
            assert not left, left
        assert not (sync._busy or sync._stepping or sync._waiting or sync._removing or daemon.daemon.board._texts)
        daemon.check()


LivesTests = Lives.TestCase
LivesTests.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
