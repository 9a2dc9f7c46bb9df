"""
Answers about experiments and their nodes.
"""

from __future__ import annotations

from typing import Any

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import Exists, OperationFailed, Timeout, WrongState
from hostline.protocol.names import node_name
from hostline.server import rights
from hostline.server.asking import Ask, responds
from hostline.server.callers import is_operator
from hostline.server.experiments import plans, topdl, views
from hostline.server.experiments.lifecycle import Kept
from hostline.server.experiments.rooms import check_kept
from hostline.server.records import Experiment, Operation, Plan, Project
from hostline.server.slivers.plan import STOPPED
from hostline.server.status import StatusText
from hostline.server.upkeep import with_limits


def experiment_body(ask: Ask, experiment: Experiment) -> dict[str, Any]:
    """
    An experiment as it goes on the wire.
    """
    return ask.daemon.bodies.experiment(experiment)


@responds(TABLE["status_request"])
def status_request(ask: Ask, name: str) -> StatusText:
    """
    Say what every placed node is.
    """
    return ask.daemon.board.text(ask.target)


@responds(TABLE["node_list"])
def node_list(ask: Ask, name: str | None = None, *, extra: bool) -> list[dict[str, Any]]:
    """
    List the nodes of one experiment, or of all that the caller may see.
    """
    found = [ask.target] if ask.target is not None else rights.visible(ask.host, ask.caller, ask.row.name)
    nodes: list[Any] = []
    for experiment in found:
        nodes += views.hosts_of(ask.host, experiment)
        nodes += [node for node in _nodes(ask, experiment).values() if extra or not node["extra"]]
    return nodes


@responds(TABLE["extra_nodes"])
def extra_nodes(ask: Ask, project: str, name: str) -> list[str]:
    """
    Name the nodes that live inside a host.
    """
    experiment: Experiment = ask.target
    return [node_name(node, experiment.name) for node in sorted(ask.host.slivers_of(experiment))]


@responds(TABLE["check_topology"])
async def check_topology(ask: Ask, text: str, *, format: str | None) -> dict[str, Any]:
    """
    Read a topology and say what is wrong with it.
    """
    ask.waiting = True
    found = await ask.daemon.offload.call(
        "check_topology", lambda: {"text": ask.text(text), "format": format}, who=ask.principal
    )
    return {key: found[key] for key in ("nodes", "links", "warnings", "errors")} | {"placement": {}}


@responds(TABLE["plan_experiment"])
async def plan_experiment(
    ask: Ask, name: str, text: str, *, hosts: list[dict[str, Any]] | None, **options: Any
) -> dict[str, Any]:
    """
    Say what an experiment of this topology would be.
    """
    ask.waiting = True
    found = await plans.found(ask, text, options, hosts=hosts)
    settled = found.get("settled", {})
    return {
        **{key: found[key] for key in ("nodes", "links", "warnings", "errors")},
        "placement": {node: f"hv:{one['kind']}:{one['pnode']}" for node, one in settled.items()},
        "pnodes": found.get("pnodes", {}),
    }


@responds(TABLE["create_experiment"])
async def create_experiment(
    ask: Ask,
    name: str,
    text: str,
    *,
    swap_in: bool,
    idle: float | str | None,
    no_idle: str | None,
    most: float | str | None,
    **options: Any,
) -> dict[str, Any]:
    """
    Make an experiment.
    """
    if ask.host.get(Experiment, name) is not None:
        raise Exists(f"experiment {name} exists")
    found = await plans.found(ask, text, options)
    ask.look_again()
    project: Project = ask.target
    experiment = Experiment(
        serial=ask.change.serial(),
        name=name,
        project=project.serial,
        owner=ask.principal,
        state="swapped",
        created=ask.now,
    )
    experiment = with_limits(ask, experiment, idle, no_idle, most)
    ask.daemon.lifecycle.create(ask.change, experiment, plans.plan_of(found, experiment.serial), _kept(ask))
    if swap_in:
        ask.operation = ask.daemon.lifecycle.swap_in(ask.change, experiment, ask.principal, "create_experiment")
    return experiment_body(ask, experiment)


@responds(TABLE["swap_in"])
def swap_in(ask: Ask, name: str) -> dict[str, Any]:
    """
    Start an experiment's nodes.
    """
    ask.operation = ask.daemon.lifecycle.swap_in(ask.change, ask.target, ask.principal)
    return experiment_body(ask, ask.target)


@responds(TABLE["swap_out"])
def swap_out(ask: Ask, name: str) -> dict[str, Any]:
    """
    Take an experiment's nodes off the host.
    """
    ask.operation = ask.daemon.lifecycle.swap_out(ask.change, ask.target, ask.principal)
    return experiment_body(ask, ask.target)


@responds(TABLE["terminate"])
def terminate(ask: Ask, name: str) -> dict[str, Any]:
    """
    End an experiment for good.
    """
    ask.operation = ask.daemon.lifecycle.terminate(ask.change, ask.target, ask.principal)
    return experiment_body(ask, ask.target)


@responds(TABLE["modify_experiment"])
async def modify_experiment(ask: Ask, name: str, text: str, **options: Any) -> dict[str, list[str]]:
    """
    Make an experiment what another topology says.
    """
    before = ask.host.plan_of(ask.target)
    found = await plans.found(ask, text, options, before)
    ask.look_again()
    experiment: Experiment = ask.target
    if ask.host.plan_of(experiment) is not before:
        raise WrongState(f"{name} was modified meanwhile")
    plan = plans.plan_of(found, experiment.serial)
    ask.operation, said = ask.daemon.lifecycle.modify(ask.change, experiment, plan, ask.principal, _kept(ask))
    return said


@responds(TABLE["experiments"])
def experiments(ask: Ask) -> list[dict[str, Any]]:
    """
    List the experiments that the caller may see.
    """
    return [experiment_body(ask, one) for one in rights.visible(ask.host, ask.caller, ask.row.name)]


@responds(TABLE["experiment"])
def experiment(ask: Ask, name: str) -> dict[str, Any]:
    """
    Show one experiment.
    """
    return experiment_body(ask, ask.target)


@responds(TABLE["topology"])
def topology(ask: Ask, name: str, *, format: str | None) -> dict[str, Any]:
    """
    Write an experiment's topology back.
    """
    plan = ask.host.plan_of(ask.target)
    if plan.source and format is None:
        return {"format": plan.source["format"], "text": plan.source["text"]}
    return {"format": "topdl", "text": topdl.write(plan.topology["document"])}


@responds(TABLE["wait_for"])
async def wait_for(ask: Ask, name: str, state: str, timeout: float) -> dict[str, Any]:
    """
    Wait until an experiment is in one of some states.
    """
    ask.waiting = True
    deadline = ask.daemon.clock.seconds() + timeout
    serial, states = ask.target.serial, set(state.split(","))
    body: dict[str, Any] = {}
    while True:
        experiment = ask.host.experiments_by_serial.get(serial)
        if experiment is None:
            if "terminated" in states and body:
                return {**body, "state": "terminating"}
            raise OperationFailed(f"{name} was terminated")
        ask.look_again()
        if experiment.state == "failed" and states <= {"active", "started"}:
            raise OperationFailed(f"{name} failed: {experiment.reason}")
        if any(_is_so(ask, experiment, one) for one in states):
            return experiment_body(ask, experiment)
        if "terminated" in states:  # what is known of it, for when it is gone
            body = experiment_body(ask, experiment)
        scope = experiment.project, serial
        if not await ask.daemon.news(deadline - ask.daemon.clock.seconds(), ask.caller, scope):
            ask.look_again()
            raise Timeout(f"{name} is {experiment.state}, not {state}, after {timeout:g} s")


@responds(TABLE["node_reboot"])
def node_reboot(ask: Ask, name: str, nodes: list[str]) -> list[dict[str, Any]]:
    """
    Stop and start nodes.
    """
    return _begun(ask, nodes)


@responds(TABLE["start_node"])
def start_node(ask: Ask, name: str, nodes: list[str]) -> list[dict[str, Any]]:
    """
    Start nodes that are not up.
    """
    return _begun(ask, nodes)


@responds(TABLE["stop_node"])
def stop_node(ask: Ask, name: str, nodes: list[str]) -> list[dict[str, Any]]:
    """
    Stop nodes.
    """
    return _begun(ask, nodes)


def _kept(ask: Ask) -> Kept | None:
    if is_operator(ask.host, ask.caller):
        return None
    limits = ask.daemon.config.limits
    return lambda experiment, plan: check_kept(
        ask.host, experiment, plan, limits.project_experiments, limits.project_nodes
    )


def _begun(ask: Ask, nodes: list[str]) -> list[dict[str, Any]]:
    ask.operation = ask.daemon.lifecycle.nodes(ask.change, ask.target, ask.row.name, nodes, ask.principal)
    if ask.operation is not None:
        return []
    found = _nodes(ask, ask.target)
    return [found[node] for node in dict.fromkeys(nodes) if node in found]


def result(ask_body: Any, host: Any, operation: Operation) -> Any:
    """
    The reply body of an operation that is done.

    @param ask_body: makes the body of an experiment.
    """
    experiment = host.experiments_by_serial.get(operation.subject)
    if operation.result is not None and not (operation.cut and experiment is not None):
        return operation.result
    if experiment is None:
        raise OperationFailed(f"{operation.target} was terminated", operation=operation.serial)
    body = ask_body(experiment)
    return [body["nodes"][node] for node in operation.nodes if node in body["nodes"]] if operation.nodes else body


def _nodes(ask: Ask, experiment: Experiment) -> dict[str, dict[str, Any]]:
    plan = ask.host.get(Plan, str(experiment.serial))
    if plan is None:
        return {}
    return views.nodes_of(ask.host, experiment, plan, ask.daemon.sync.status)


def _is_so(ask: Ask, experiment: Experiment, state: str) -> bool:
    if state != "started":
        return experiment.state == state
    if not experiment.slivers:
        return experiment.state == "active"
    slivers = ask.host.slivers_of(experiment).values()
    # What is not to be started until somebody says so, a ghost, has nothing to wait for.
    found = [ask.daemon.sync.status(one.serial) for one in slivers if one.wanted != STOPPED or one.boots > 0]
    return all(
        one is not None and (one.boot == "dead" or (one.boot == "booted" and one.start_command != "running"))
        for one in found
    )
