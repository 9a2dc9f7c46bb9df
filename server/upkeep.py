"""
Answers about experiments that are looked after: who uses them, when they are swapped out, what became of them, and why
a node is as it is.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import attrs

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadArguments, BadValue, NoSuchNode
from hostline.protocol.names import near, node_name
from hostline.protocol.rows.upkeep import SITE
from hostline.server import callers
from hostline.server.asking import Ask, responds
from hostline.server.experiments import history as past
from hostline.server.experiments import idleness
from hostline.server.experiments import why as reasons
from hostline.server.experiments.why import Facts
from hostline.server.records import Experiment, Operation, Sliver
from hostline.server.slivers.plan import STOPPED

#: Bytes of each log that are looked at.
_TAIL = 4000


@runtime_checkable
class Witness(Protocol):
    """
    A driver that knows of the kernel's kills.
    """

    def out_of_memory(self, serial: int) -> int:
        """
        @return: how many processes of a sliver were killed for want of memory.
        """


@responds(TABLE["set_swap"])
def set_swap(
    ask: Ask, name: str, idle: float | str | None, no_idle: str | None, most: float | str | None
) -> dict[str, Any]:
    """
    Say when an experiment is swapped out by itself.
    """
    experiment: Experiment = ask.target
    ask.change.put(with_limits(ask, experiment, idle, no_idle, most))
    diary = past.of(ask.host, experiment.serial)
    if most is not None and idleness.MOST_WARNING in diary.told:  # it was of another end
        told = {what: when for what, when in diary.told.items() if what != idleness.MOST_WARNING}
        ask.change.put(attrs.evolve(diary, told=told))
    ask.daemon.idle.used(experiment.serial, ask.row.name)
    changed = ask.host.experiments_by_serial[experiment.serial]
    said = f"idle={_said(changed.idle_s)} most={changed.most_s:g} {changed.no_idle}".rstrip()
    past.write(ask.change, experiment.serial, ask.row.name, ask.principal, reason=said)
    return ask.daemon.idle.body(changed)


def with_limits(
    ask: Ask, experiment: Experiment, idle: float | str | None, no_idle: str | None, most: float | str | None
) -> Experiment:
    """
    An experiment with other limits of its own; None leaves one as it is.

    @raise BadArguments: if that makes no sense.
    @raise BadValue: if the site does not allow that much.
    """
    site = ask.daemon.config.experiments
    above = callers.is_operator(ask.host, ask.caller)
    if idle is not None and no_idle is not None:
        raise BadArguments("want idle= or no_idle=, got both")
    if no_idle is not None:
        experiment = attrs.evolve(experiment, idle_s=0.0, no_idle=no_idle.strip())
    elif idle == SITE:
        experiment = attrs.evolve(experiment, idle_s=None, no_idle="")
    elif idle is not None:
        wanted = float(idle)
        if wanted <= 0:
            raise BadValue("idle: want some time; never is said by no_idle=REASON")
        if site.idle_swap and wanted > site.idle_s and not above:
            raise BadValue(f"idle: want at most {site.idle_s:g} s, as this site has it, or no_idle=REASON")
        experiment = attrs.evolve(experiment, idle_s=wanted, no_idle="")
    if most == SITE:
        experiment = attrs.evolve(experiment, most_s=0.0)
    elif most is not None:
        wanted = float(most)
        if wanted <= 0:
            raise BadValue(f"most: want some time; without it: most={SITE}")
        if site.most_s and wanted > site.most_s:
            raise BadValue(f"most: want at most {site.most_s:g} s, as this site has it")
        experiment = attrs.evolve(experiment, most_s=wanted)
    return experiment


@responds(TABLE["activity"])
def activity(ask: Ask, name: str) -> dict[str, Any]:
    """
    Say who uses an experiment.
    """
    return ask.daemon.idle.body(ask.target)


@responds(TABLE["history"])
def history(ask: Ask, name: str, since: float, limit: int) -> list[dict[str, Any]]:
    """
    Say what became of an experiment.
    """
    entries = past.of(ask.host, ask.target.serial).entries
    return [past.shown(one) for one in entries if one.get("time", 0.0) >= since][-limit:]


@responds(TABLE["why"])
def why(ask: Ask, name: str, node: str) -> dict[str, Any]:
    """
    Say why a node is as it is.

    @raise NoSuchNode: naming near ones.
    """
    experiment: Experiment = ask.target
    known = ask.daemon.planned.nodes(experiment.serial)
    if node not in known and node not in experiment.slivers:
        raise NoSuchNode(f"no node {node} in {experiment.name}{near(node, list(known)[:300])}")
    return reasons.explain(_facts(ask, experiment, node))


def _facts(ask: Ask, experiment: Experiment, node: str) -> Facts:
    sync, full = ask.daemon.sync, node_name(node, experiment.name)
    sliver = ask.host.slivers_of(experiment).get(node)
    if sliver is None:
        failed = _failed(ask, experiment, node)
        return Facts(full, experiment.state, experiment.reason, failed=failed, now=ask.now)
    driver, status, serial = sync.drivers.get(sliver.kind), sync.status(sliver.serial), sliver.serial
    planned, logs = ask.daemon.planned.node(sliver), {}
    if driver is not None and status is not None:
        for stream in ("out", "err", "console"):
            logs[stream] = driver.read_log(serial, stream, -_TAIL, _TAIL)[0].decode("utf-8", "replace")
    missing = "" if driver is not None else ask.daemon.missing.get(sliver.kind, "this host has no driver of this kind")
    return Facts(
        full,
        experiment.state,
        experiment.reason,
        wanted=sliver.wanted,
        boots=sliver.boots,
        status=status,
        stuck=sync.trouble(serial),
        drift=sync.problems(serial),
        logs=logs,
        killed=driver.out_of_memory(serial) if isinstance(driver, Witness) else 0,
        failed=_failed(ask, experiment, node),
        stopped_by=_stopped_by(ask, experiment, node) if sliver.wanted == STOPPED else "",
        host=_host(ask, sliver.kind, bool(planned is not None and planned.interfaces)),
        missing=missing,
        since=_newest(ask, sliver, status.boot if status is not None else None),
        ended=_newest(ask, sliver, "start_command_ended"),
        now=ask.now,
    )


def _failed(ask: Ask, experiment: Experiment, node: str) -> tuple[str, list[str], float] | None:
    """
    @return: the newest operation that was about a node, if that failed.
    """
    found = [one for one in ask.host.table(Operation).values() if one.subject == experiment.serial]
    about = [one for one in found if one.ended is not None and (not one.nodes or node in one.nodes)]
    newest = max(about, key=lambda one: one.serial, default=None)
    if newest is None or newest.ended is None or newest.state != "failed":
        return None
    return newest.command, list(newest.causes), newest.ended


def _stopped_by(ask: Ask, experiment: Experiment, node: str) -> str:
    for one in reversed(past.of(ask.host, experiment.serial).entries):
        if one.get("what") == "stop_node" and node in one.get("nodes", ()):
            return f"stop_node of {one.get('name')}"
    return ""


def _host(ask: Ask, kind: str, linked: bool) -> list[str]:
    """
    @param linked: whether the node is on links.
    @return: what is wrong with the host, as far as it concerns a node of this kind; operators hear what.
    """
    found = []
    for one in ask.daemon.health.doctor():
        check = str(one["check"])
        concerns = check in ("disk", "state", f"driver {kind}") or (linked and check.startswith("link"))
        if not one["ok"] and concerns:
            more = callers.is_operator(ask.host, ask.caller)
            found.append(f"{check}: {one['detail'] if more else 'not as it should be; doctor tells operators more'}")
    return found


def _newest(ask: Ask, sliver: Sliver, what: str | None) -> float | None:
    """
    @return: when this was told last of a node; None if that is not kept any more.
    """
    if what is None:
        return None
    for event in reversed(ask.host.feed.after(0)):
        if event.body.get("what") == what and event.body.get("sliver") == sliver.name:
            return float(event.body["time"])
    return None


def _said(idle_s: float | None) -> str:
    return SITE if idle_s is None else f"{idle_s:g}"
