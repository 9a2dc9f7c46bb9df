"""
Links that are changed while they are in use (Emulab's C{delay_config}).

What was changed is kept in the experiment: saved, or in C{now} with the moment of the swap-in that it is for, so that
the next swap-in begins as the topology says.
"""

from __future__ import annotations

from typing import Any

import attrs

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadValue, WrongState
from hostline.protocol.names import near
from hostline.protocol.rows.links import NONE
from hostline.server.asking import Ask, responds
from hostline.server.experiments import wires
from hostline.server.experiments.wires import EVERY, VALUES
from hostline.server.records import Experiment


@responds(TABLE["delay_config"])
def delay_config(
    ask: Ask,
    name: str,
    link: str,
    source: str | None,
    rate_kbps: float | str | None,
    delay_ms: float | str | None,
    loss: float | str | None,
    save: bool,
) -> dict[str, Any]:
    """
    Change a link; it goes on.
    """
    experiment: Experiment = ask.target
    plan = ask.host.plan_of(experiment)
    found = next((one for one in plan.built.links if one.name == link), None)
    if found is None:
        raise BadValue(f"no link {link} in {name}{near(link, [one.name for one in plan.built.links][:300])}")
    members = list(dict.fromkeys(node for node, _ in found.members))
    if source is not None and source not in members:
        raise BadValue(f"{source} is not on link {link}; {', '.join(members[:10])} {'are' if members[1:] else 'is'}")
    said = {"rate_kbps": rate_kbps, "delay_ms": delay_ms, "loss": loss}
    given = {key: None if value == NONE else value for key, value in said.items() if value is not None}
    if not given:
        raise BadValue("want at least one of rate_kbps=, delay_ms= and loss=")
    if not save and (not experiment.slivers or experiment.swapped_in is None):
        raise WrongState(f"{name} is {experiment.state}; save=True changes what its links are at its next swap-in")
    changes = changed(experiment, link, source or EVERY, given, save=save)
    later = attrs.evolve(experiment, changes=changes)
    if experiment.slivers and (why := ask.daemon.linked.refusal(later, plan, link)):
        raise WrongState(f"link {link}: {why}")
    ask.change.put(later)
    ask.change.tell(
        f"experiment/{name}", "link_changed", (experiment.project, experiment.serial), link=link, source=source, **given
    )
    return {**wires.body(found, later), "by": ask.daemon.linked.by(later, plan, link)}


def changed(
    experiment: Experiment, link: str, node: str, given: dict[str, Any], *, save: bool
) -> dict[str, dict[str, dict[str, Any]]]:
    """
    @param node: or L{EVERY}: then what was changed of single nodes is no more.
    @param given: None: no longer changed.
    @return: all changes of the experiment's links.
    """
    changes = {one: {key: dict(value) for key, value in nodes.items()} for one, nodes in experiment.changes.items()}
    nodes = changes.setdefault(link, {})
    for one in list(nodes) if node == EVERY else [node]:
        own = nodes.setdefault(one, {})
        now = dict(own.pop("now", {}))
        if now.get("since") != experiment.swapped_in:
            now = {}
        for key in given:
            now.pop(key, None)
            if save:
                own.pop(key, None)
        if not save:
            # None stands against what was saved.
            now |= {key: None for key in given if key in own}
        if now.keys() & set(VALUES):
            own["now"] = {**now, "since": experiment.swapped_in}
    own = nodes.setdefault(node, {})
    values = {key: value for key, value in given.items() if value is not None}
    if save:
        own |= values
    elif values:
        own["now"] = {**own.get("now", {}), **values, "since": experiment.swapped_in}
    changes[link] = {key: value for key, value in nodes.items() if value}
    return {one: nodes for one, nodes in changes.items() if nodes}
