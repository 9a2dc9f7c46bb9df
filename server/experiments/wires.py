"""
What the links of the experiments on this host should be, as the records say it: who is on each, and what happens on the
way from one to another.

Rate, delay and loss of an interface are its own for one direction, else its own for both, else those of the link; what
was changed live (C{delay_config}) comes before all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hostline.server import store
from hostline.server.experiments.topology import Topology, TopologyInterface, TopologyLink
from hostline.server.host import Change, Host
from hostline.server.network.fabric import Able, Link, Member, Shape, between, shaped_by
from hostline.server.network.filters import given_ms
from hostline.server.network.links import Links
from hostline.server.records import Experiment, Plan

#: What can be said of a link.
VALUES = ("rate_kbps", "delay_ms", "loss")
#: Nodes on one link: a bridge has 1024 ports.
MOST_MEMBERS = 1000
#: In L{Experiment.changes}: of all nodes on the link.
EVERY = "*"


class Linked:
    """
    Tells L{Links} what there should be, whenever that changes.
    """

    _log = Logger()

    def __init__(self, host: Host, links: Callable[[], Links | None]) -> None:
        """
        @param links: None as long as it is not known whether there can be any, and if there cannot.
        """
        self._host = host
        self._links = links
        self._told: dict[int, tuple[Plan, dict[str, int], dict[str, Any], float | None]] = {}
        self._names: dict[int, frozenset[str]] = {}

    def start(self) -> None:
        """
        Tell all: once, before what runs is found again.
        """
        for experiment in self._host.experiments_by_serial.values():
            self._tell(experiment.serial)

    def committed(self, change: Change) -> None:
        """
        Tell what a change has changed; it costs something only for experiments that it touches.
        """
        touched: dict[int, None] = {}
        removed = False
        for verb, args in change.statements:
            if verb in (store.PUT, store.REMOVE) and args[0] == Plan.table:
                touched[int(args[1])] = None
            elif verb == store.PUT and args[0] == Experiment.table:
                found = self._host.get(Experiment, args[1])
                touched |= {found.serial: None} if found is not None else {}
            elif verb == store.REMOVE and args[0] == Experiment.table:
                removed = True
        if removed:
            touched |= dict.fromkeys(self._names.keys() - self._host.experiments_by_serial.keys())
        for serial in touched:
            self._tell(serial)

    def _tell(self, serial: int) -> None:
        links = self._links()
        if links is None:
            return
        experiment = self._host.experiments_by_serial.get(serial)
        plan = self._host.get(Plan, str(serial))
        wanted: dict[str, Link] = {}
        if experiment is not None and plan is not None and experiment.slivers:
            facts = plan, experiment.slivers, experiment.changes, experiment.swapped_in if experiment.changes else None
            before = self._told.get(serial)
            if before is not None and before[0] is plan and before[1:] == facts[1:]:
                return
            self._told[serial] = facts
            wanted = {one.name: one for one in links_of(experiment, plan)}
        else:
            self._told.pop(serial, None)
        old = self._names.pop(serial, frozenset())
        if wanted:
            self._names[serial] = frozenset(wanted)
        if wanted or old:
            links.tell({**dict.fromkeys(old - wanted.keys()), **wanted})

    def look(self) -> None:
        """
        Have it seen whether all is still there.
        """
        links = self._links()
        if links is not None:
            Deferred.fromCoroutine(links.look()).addErrback(
                lambda failure: self._log.failure("looking at links", failure)
            )

    def findings(self) -> list[tuple[str, bool, str, str]]:
        """
        What C{doctor} says of links.
        """
        links = self._links()
        if links is None:
            remedy = "links want a daemon of root's, iproute2, nftables, and a kernel with bridge and veth"
            return [("links", False, "experiments can have no links on this host", remedy)]
        able, problems = links.able, links.problems()
        lacks = [able.refusal([Shape(rate_kbps=1.0)]), able.refusal([Shape(delay_ms=1.0)])]
        by = [name for name, there in (("tbf", able.tbf), ("netem", able.netem)) if there]
        by += ["wirefilter, in whole milliseconds"] if able.wirefilter and not able.netem else []
        said = [*filter(None, lacks), *problems] or [f"rate, delay and loss of links are held by {' and '.join(by)}"]
        remedy = "mend what it says; a link that cannot be what was asked for is refused, or told of at its nodes"
        return [("links", not any(lacks) and not problems, "; ".join(said), remedy)]

    def refusal(self, experiment: Experiment, plan: Plan, name: str) -> str:
        """
        @param name: of the link.
        @return: why it cannot be what it would be of this record, in words for the user; empty if it can.
        """
        links = self._links()
        if links is None:
            return "there are no links on this host"
        link = next((one for one in links_of(experiment, plan) if one.name == f"{experiment.serial}/{name}"), None)
        return links.able.refusal(shapes_of(link.members)) if link is not None else ""

    def by(self, experiment: Experiment, plan: Plan, name: str) -> str | None:
        """
        @return: what shapes a link that is what this record says; None if nothing does, or nobody is on it.
        """
        links = self._links()
        link = next((one for one in links_of(experiment, plan) if one.name == f"{experiment.serial}/{name}"), None)
        return shaped_by(link, links.able) if links is not None and link is not None and experiment.slivers else None

    def judge(self, topology: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """
        @param topology: as L{Topology.as_value}.
        @return: errors and warnings, with lines: links that this host cannot give, and such as will not be quite what
            was asked for. Where there can be no links at all the nodes themselves tell it.
        """
        links = self._links()
        if links is None or _simple(topology):
            return [], []
        built = Topology.from_value(topology)
        lines = {one.name: one.line for one in built.links}
        said = refusals(built, links.able), rounded(built, links.able)
        errors, warnings = (
            [{"line": lines[name], "text": f"link {name}: {why}"} for name, why in found.items()] for found in said
        )
        return errors, warnings


def links_of(experiment: Experiment, plan: Plan) -> list[Link]:
    """
    @return: those that a placed experiment should have.
    """
    topology: Topology = plan.built
    faces = _faces(topology)
    kinds = {node.name: plan.made_as(node.name)["kind"] for node in topology.nodes}
    found = []
    for link in topology.links:
        changes = in_force(experiment, link.name)
        members = [
            _member(
                experiment.slivers[node], faces[node, name], link, changes, node, embedded=kinds[node] == "embedded"
            )
            for node, name in link.members
            if node in experiment.slivers and (node, name) in faces
        ]
        found.append(Link(f"{experiment.serial}/{link.name}", tuple(members)))
    return found


def _member(
    serial: int,
    face: TopologyInterface,
    link: TopologyLink,
    changes: Mapping[str, Mapping[str, float]],
    node: str,
    *,
    embedded: bool,
) -> Member:
    if not changes and _has_none(face):  # nearly all are so, of thousands
        whole = Shape(link.rate_kbps or 0.0, link.delay_ms or 0.0, link.loss or 0.0)
        return Member(serial, face.name, whole, whole, embedded)
    others = [name for name, _ in link.members if name != node]
    # Of a link of two, what one sends is what the other receives.
    sender = others[0] if len(link.members) == 2 and others else ""
    own, peers = changes.get(node, {}), changes.get(sender, {})
    every = changes.get(EVERY, {})
    shapes = []
    for way, first in (("to", own), ("from", peers)):
        values = []
        for name in VALUES:
            said = (
                first.get(name), every.get(name), getattr(face, f"{way}_{name}"), getattr(face, name),
                getattr(link, name),
            )  # fmt: skip
            values.append(next((value for value in said if value is not None), 0.0))
        shapes.append(Shape(*values))
    to, received = shapes
    return Member(serial, face.name, to, received, embedded)


def _faces(topology: Topology) -> dict[tuple[str, str], TopologyInterface]:
    return {(node.name, one.name): one for node in topology.nodes for one in node.interfaces}


def _members(link: TopologyLink, faces: Mapping[tuple[str, str], TopologyInterface]) -> list[Member]:
    """
    @return: what is on a link as it was asked for, of no slivers yet.
    """
    return [_member(0, faces[key], link, {}, key[0], embedded=False) for key in link.members if key in faces]


def _has_none(face: TopologyInterface) -> bool:
    return (
        face.rate_kbps is face.delay_ms is face.loss is face.to_rate_kbps is face.to_delay_ms is face.to_loss is None
        and face.from_rate_kbps is face.from_delay_ms is face.from_loss is None
    )


def in_force(experiment: Experiment, link: str) -> dict[str, dict[str, float]]:
    """
    @return: what was changed live of a link, by node or L{EVERY}: what was saved, and over it what lasts until the
        experiment is swapped out.
    """
    found = {}
    for node, said in experiment.changes.get(link, {}).items():
        now = said.get("now", {})
        fleeting = now if now.get("since") == experiment.swapped_in else {}
        found[node] = {
            name: value for name in VALUES if (value := fleeting.get(name, said.get(name))) is not None
        }  # fmt: skip
    return found


def refusals(topology: Topology, able: Able) -> dict[str, str]:
    """
    @param able: what this host can do for links.
    @return: by link, why it cannot be given here, in words for the user.
    """
    faces = _faces(topology)
    found: dict[str, str] = {}
    everything = [Shape(1.0, 1.0, 0.5)]
    for link in topology.links:
        if len(link.members) <= MOST_MEMBERS and not able.refusal(everything):
            continue
        members = _members(link, faces)
        if len(members) > MOST_MEMBERS:
            found[link.name] = f"it has {len(members)} members; {MOST_MEMBERS} can be on one link"
        elif reason := able.refusal(shapes_of(members)):
            found[link.name] = reason
    return found


def _simple(topology: dict[str, Any]) -> bool:
    """
    @return: whether no link is shaped, or large: then there is nothing to look at, and no need to build it.
    """
    shaped = [*(one[name] for one in topology["links"] for name in VALUES)]
    shaped += [
        value
        for node in topology["nodes"]
        for one in node["interfaces"]
        for name, value in one.items()
        if value is not None and name.endswith(VALUES)
    ]
    return not any(shaped) and all(len(one["members"]) <= MOST_MEMBERS for one in topology["links"])


def rounded(topology: Topology, able: Able) -> dict[str, str]:
    """
    @return: by link, what its delay will be where that is more than a tenth off, in words for the user.
    """
    if able.netem or not able.wirefilter:
        return {}
    faces = _faces(topology)
    found: dict[str, str] = {}
    for link in topology.links:
        members = _members(link, faces)
        if not any(one.to.delay_ms or one.received.delay_ms for one in members):
            continue
        parts = 1 if len(members) == 2 else 2  # on a LAN each way goes through two filters
        for delay_ms in {shape.delay_ms for shape in shapes_of(members)} - {0.0}:
            given = given_ms(delay_ms / parts) * parts
            if abs(given - delay_ms) > delay_ms / 10:
                found[link.name] = (
                    f"{delay_ms:g} ms one way will be about {given:.1f} ms: this kernel has no netem, and "
                    "wirefilter counts whole milliseconds"
                )
    return found


def shapes_of(members: Sequence[Member]) -> list[Shape]:
    """
    @return: all that happens on the ways between them; of a LAN each part of a way.
    """
    if len(members) == 2:
        return [between(members[0], members[1]), between(members[1], members[0])]
    return [shape for one in members for shape in (one.to, one.received)]


def body(link: TopologyLink, experiment: Experiment) -> dict[str, Any]:
    """
    @return: a link as it goes on the wire, with the values that are in force of the whole link, and what was changed
        live of what single nodes send.
    """
    changes = in_force(experiment, link.name) if experiment.changes else {}
    every = changes.pop(EVERY, {})
    single = {node: said for node, said in changes.items() if said}
    return {**link.body(), **every, **({"changes": single} if single else {})}
