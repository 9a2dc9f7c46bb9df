"""
Answers about all nodes of an experiment at once: a command run in each, what all of them wrote.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterator
from functools import partial
from typing import Any

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadValue, NoSuchNode, WrongState
from hostline.protocol.names import near, shown
from hostline.server.asking import Ask, responds
from hostline.server.drivers.driver import Driver
from hostline.server.experiments.everywhere import Everywhere
from hostline.server.records import Experiment, Sliver
from hostline.server.talk import Talk

#: All logs of a node, in the order in which they are told.
LOGS = ("log", "out", "err", "initscript", "console")
#: Of one log no more is told in all, however it grows.
LOG_MAX = 64 << 20


@responds(TABLE["run"])
async def run(
    ask: Ask, name: str, argv: list[str], *, nodes: list[str] | None, timeout: float | None
) -> dict[str, Any]:
    """
    Run a command in all nodes.
    """
    if len(argv) == 1 and len(argv[0].split()) > 1:  # one word with blanks in it is a line for a shell
        argv = ["/bin/sh", "-c", argv[0]]
    begins = {
        node: partial(driver.execute, sliver.serial, argv)
        for node, sliver, driver in _wanted(ask, nodes)
        if driver is not None
    }
    limits = ask.daemon.config.limits
    spread: list[Everywhere] = []

    def begin(talk: Talk) -> Everywhere:
        spread.append(Everywhere(begins, talk, ask.daemon.clock, timeout, limits.collected_bytes))
        return spread[0]

    await Talk(ask, lambda stream, data: None, stream=False).held(begin, None, ask.audit)
    body = spread[0].body()
    missing = {node: "this host has no driver for it" for node, _, driver in _wanted(ask, nodes) if driver is None}
    return {**body, "silent": {**body["silent"], **missing}}


@responds(TABLE["node_logs"])
def node_logs(
    ask: Ask, name: str, *, nodes: list[str] | None, stream: str | None, since: str | None, limit: int
) -> dict[str, Any]:
    """
    Tell what nodes wrote, a page at a time.
    """
    pieces: list[dict[str, Any]] = []
    logs = LOGS if stream is None else (stream,)
    at = _place(since, logs)
    left = limit
    wanted = [one for one in _wanted(ask, nodes) if at is None or one[0] >= at[0]]
    for node, sliver, driver in wanted:
        for log in logs if driver is not None else ():
            if at is not None and node == at[0] and logs.index(log) < logs.index(at[1]):
                continue
            offset = at[2] if at is not None and (node, log) == at[:2] else 0
            if left <= 0:
                return {"pieces": pieces, "next": f"{node}/{log}/{offset}"}
            data, end = driver.read_log(sliver.serial, log, offset, min(left, LOG_MAX - offset))
            begun_anew = end - len(data) != offset
            if data and not begun_anew:
                text = b2a_base64(data, newline=False).decode("ascii")
                pieces.append({"node": node, "log": log, "offset": offset, "base64": text})
                left -= len(data)
                if left <= 0 and end < LOG_MAX:
                    return {"pieces": pieces, "next": f"{node}/{log}/{end}"}
    return {"pieces": pieces, "next": None}


def _wanted(ask: Ask, nodes: list[str] | None) -> Iterator[tuple[str, Sliver, Any]]:
    """
    @return: name, sliver and driver of each node that is meant, by name; the driver is None if this host has none.
    @raise WrongState: if the experiment is not placed.
    @raise NoSuchNode: naming near ones.
    """
    experiment: Experiment = ask.target
    slivers = ask.host.slivers_of(experiment)
    if not slivers:
        raise WrongState(f"{experiment.name} is {experiment.state}; {ask.row.name} wants its nodes placed")
    for node in nodes or ():
        if node not in slivers:
            raise NoSuchNode(f"no node {node} in {experiment.name}{near(node, list(slivers)[:300])}")
    drivers = ask.daemon.sync.drivers
    for node in sorted(dict.fromkeys(nodes) if nodes is not None else slivers):
        driver: Driver | None = drivers.get(slivers[node].kind)
        yield node, slivers[node], driver


def _place(since: str | None, logs: tuple[str, ...]) -> tuple[str, str, int] | None:
    if since is None:
        return None
    node, _, rest = since.partition("/")
    log, _, offset = rest.partition("/")
    if log not in logs or not (offset.isascii() and offset.isdigit() and len(offset) < 16 and int(offset) < LOG_MAX):
        raise BadValue(f"since: want what next was in the reply before, NODE/LOG/OFFSET, got {shown(since)}")
    return node, log, int(offset)
