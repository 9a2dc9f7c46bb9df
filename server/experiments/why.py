"""
Why a node is as it is: what was found out about it becomes a verdict, and a chain of causes, the innermost first; pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from signal import Signals
from typing import Any

from attrs import field, frozen

from hostline.server.drivers.driver import CANNOT_START, Status

#: Lines of a log that are shown, and characters of each.
LINES, _LONGEST = 5, 200
#: Seconds on its way up after which a node may be in trouble.
SLOW_S = 120.0
_SIGNALS = {one.value: one.name.removeprefix("SIG") for one in Signals}


@frozen
class Facts:
    """
    What was found out about one node.

    @ivar name: in full, C{web.exp1.lab}; C{node}, C{experiment}: its parts.
    @ivar state: of the experiment, C{reason} why it failed.
    @ivar wanted: C{started}, C{stopped} or C{absent}; None if it is not placed.
    @ivar boots: the boot that is wanted; 0 of a ghost that was never started.
    @ivar status: what its driver says; None if that knows no such sliver.
    @ivar stuck: why a step that is tried again and again failed last; empty if none did.
    @ivar drift: where the host holds it to something else than what is asked.
    @ivar logs: the end of what it wrote, by log.
    @ivar killed: how many of its processes the kernel killed for want of memory.
    @ivar failed: the newest operation about it or its experiment that failed: command, causes and end;
        None if the last one went well.
    @ivar stopped_by: who had it stopped, and with what; empty if nobody knows.
    @ivar host: what is wrong with the host, as far as it concerns nodes of this kind.
    @ivar missing: why the host has no driver for its kind; empty if it has.
    @ivar since: when it came to be as it is; C{ended}: when its start command ended; None if not known any more.
    @ivar now: Unix seconds.
    """

    name: str
    state: str
    reason: str = ""
    wanted: str | None = None
    boots: int = 0
    status: Status | None = None
    stuck: str = ""
    drift: Sequence[str] = ()
    logs: Mapping[str, str] = field(factory=dict)
    killed: int = 0
    failed: tuple[str, Sequence[str], float] | None = None
    stopped_by: str = ""
    host: Sequence[str] = ()
    missing: str = ""
    since: float | None = None
    ended: float | None = None
    now: float = 0.0

    @property
    def node(self) -> str:
        """
        Its name in the experiment.
        """
        return self.name.partition(".")[0]

    @property
    def experiment(self) -> str:
        """
        The experiment's name in full.
        """
        _, experiment, project = self.name.split(".", 2)
        return f"{project}/{experiment}"


def explain(facts: Facts) -> dict[str, Any]:
    """
    @return: the body of C{why}.
    """
    well, verdict = _verdict(facts)
    found = _evidence(facts, well)
    if well and found:
        well, verdict = False, f"{verdict}; but not all is as it should be"
    elif well:
        verdict = f"nothing is wrong: {verdict}"
    return {"node": facts.name, "verdict": verdict, "well": well, "causes": found}


def _verdict(facts: Facts) -> tuple[bool, str]:
    """
    @return: whether the node is as it should be, and how it is, in a sentence.
    """
    status, node = facts.status, facts.node
    if facts.wanted is None:
        if facts.state in ("swapped", "new"):
            return facts.failed is None, f"{facts.experiment} is swapped out, and so {node} is on no host"
        return False, f"{node} is not placed, though {facts.experiment} is {facts.state}"
    if facts.wanted == "absent":
        return not facts.stuck, f"{node} is being taken away: {facts.experiment} is {facts.state}"
    if facts.missing:
        return False, f"{node} cannot be run: {facts.missing}"
    if facts.wanted == "stopped":
        return _stopped(facts)
    if status is None or status.boots < facts.boots:
        return not facts.failed, f"{node} is being made; it has not been started"
    if status.boot in (None, "running"):
        return _coming_up(facts)
    if status.boot == "dead":
        return False, f"{node} is dead: {_end(status)}"
    return _up(status, node)


def _stopped(facts: Facts) -> tuple[bool, str]:
    status, node = facts.status, facts.node
    if facts.boots == 0:
        return True, f"{node} is a ghost: it has its place, and waits for start_node"
    if status is not None and status.boot in ("running", "booted"):
        return not facts.stuck, f"{node} is being stopped"
    by = f", by {facts.stopped_by}" if facts.stopped_by else ""
    if status is not None and status.boot == "dead" and status.exit_code not in (0, None):
        return False, f"{node} is stopped{by}; before that it had ended by itself: {_end(status)}"
    return True, f"{node} is stopped{by}; start_node starts it"


def _coming_up(facts: Facts) -> tuple[bool, str]:
    since = facts.now - facts.since if facts.since is not None else None
    for_s = f" for {since:.0f} s" if since is not None else ""
    slow = since is not None and since > SLOW_S
    return not slow, f"{facts.node} is running, and its inside has not been up{for_s}"


def _up(status: Status, node: str) -> tuple[bool, str]:
    if status.start_command == "none":
        return True, f"{node} is up; it has no start command"
    if status.start_command == "running":
        return True, f"{node} is up, and its start command runs"
    code = status.start_code
    if code == 0:
        return True, f"{node} is up, and its start command ended with 0"
    return False, f"{node} is up, and its start command ended with {'nobody knows what' if code is None else code}"


def _end(status: Status) -> str:
    code = status.exit_code
    if code is None:
        return "its own process is gone, and what kept its exit status too"
    if code == CANNOT_START:
        return "it could not be started"
    if code > 128:
        name = _SIGNALS.get(code - 128)
        return f"its own process was killed by signal {code - 128}{f' ({name})' if name else ''}, code {code}"
    return f"its own process ended by itself, with code {code}"


def _evidence(facts: Facts, well: bool) -> list[dict[str, Any]]:
    """
    What was found, the innermost first: what the host lacks, what the node's inside said, how it ended, what that made
    fail.
    """
    status = facts.status
    found: list[dict[str, Any]] = []

    def add(cause: str, detail: str, when: float | None = None) -> None:
        found.append({"cause": cause, "detail": detail, "when": when})

    begun = status is not None and status.boot in ("running", "booted", "dead") and status.exit_code != CANNOT_START
    if facts.missing:
        add("driver", facts.missing)
    if not well and not begun:
        for one in facts.host:
            add("host", one)
    if facts.killed and facts.wanted is not None:
        many = "one of its processes was" if facts.killed == 1 else f"{facts.killed} of its processes were"
        add("memory", f"{many} killed by the kernel: it has no more memory than its memory_max")
    if not well and begun and status is not None and facts.wanted != "absent":
        _inside(facts, status, add)
    if status is not None:
        for one in status.problems:
            add("links" if one.startswith("link") else "problem", one)
        if status.boot == "dead" and not well:
            add("end", _end(status), facts.since)
    if facts.stuck:
        add("step", f"{facts.stuck}; it is tried again")
    for one in facts.drift:
        add("limits", one)
    if not well and begun:
        for one in facts.host:
            add("host", one)
    if facts.failed is not None and not well:
        command, causes, ended = facts.failed
        own = [one.partition(": ")[2] for one in causes if one.startswith(f"{facts.node}: ")]
        known = {one["detail"] for one in found}
        whole = [one for one in causes if not _of_a_node(one)]
        for one in [*own, *whole]:
            if one not in known:
                add("operation", f"{command}: {one}", ended)
    if facts.state == "failed" and not well:
        add("experiment", f"{facts.experiment} is failed: {facts.reason}")
    return found


def _inside(facts: Facts, status: Status, add: Any) -> None:
    """
    What the node wrote, as far as it may tell why.
    """
    lines = {name: tail(text) for name, text in facts.logs.items()}
    failed = status.start_command == "ended" and status.start_code not in (0, None)
    if status.boot in ("running", "dead") and lines.get("console"):
        add("console", lines["console"])
    if failed or status.boot == "dead":
        for name, said in (("err", "its start command said on standard error"), ("out", "its start command said")):
            if lines.get(name):
                add(f"start command's {name}", f"{said}: {lines[name]}", facts.ended)
                break
    if failed:
        add("start command", f"it ended with {status.start_code}", facts.ended)


def _of_a_node(cause: str) -> bool:
    first, colon, _ = cause.partition(": ")
    return bool(colon) and " " not in first


def tail(text: str) -> str:
    """
    @return: the last lines that say something, cut, and one behind the other.
    """
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return " | ".join(line[:_LONGEST] for line in lines[-LINES:])
