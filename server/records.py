"""
What is kept: one class for each kind of record.

References between records are by serial, never by name, so that a new holder of a name inherits nothing.
"""

from __future__ import annotations

import shlex
from functools import cached_property
from typing import Any, ClassVar

from attrs import field, frozen
from attrs.validators import instance_of

from hostline.server.credentials import Certificate, Invitation, Spent
from hostline.server.diary import Diary
from hostline.server.experiments.topology import Topology
from hostline.server.fields import (
    AMOUNTS,
    FLAG,
    MAYBE_NUMBER,
    MAYBE_TEXT,
    MAYBE_WHOLE,
    NUMBER,
    OBJECTS,
    REASONS,
    TEXT,
    TEXTS,
    WHOLE,
    WHOLES,
    all_loans,
    all_texts,
    all_wholes,
    is_goal,
)
from hostline.server.record import ENCODE, Named, Record
from hostline.server.slivers.loans import Loan
from hostline.server.slivers.rspec import OF_PROCESSES

#: Characters of a reply, as JSON, that are kept for who asks again.
KEPT_REPLY = 16384


def kept_reply(body: Any) -> tuple[Any, bool]:
    """
    A reply's body as it may be kept: of a long one of an experiment, what tells of no node and no link.

    @return: it, and whether something was left out.
    """
    if isinstance(body, dict) and {"nodes", "links", "pnodes"} <= body.keys() and len(ENCODE(body)) > KEPT_REPLY:
        return {**body, "nodes": {}, "links": {}, "warnings": []}, True
    return body, False


@frozen(kw_only=True)
class User(Named):
    """
    A person, or another host: known by a uid of this host, by names in certificates, or both.

    @ivar certificates: names in certificates (L{hostline.protocol.names.certificate_name}) that mean this user.
    @ivar operator: whether it is an operator, whatever way it comes.
    """

    table: ClassVar[str] = "user"
    uid: int | None = field(default=None, validator=MAYBE_WHOLE)
    keys: tuple[str, ...] = field(default=(), converter=all_texts, validator=TEXTS)
    certificates: tuple[str, ...] = field(default=(), converter=all_texts, validator=TEXTS)
    operator: bool = field(default=False, validator=FLAG)


@frozen(kw_only=True)
class Project(Named):
    """
    A project.

    @ivar members: serials of users.
    @ivar quota: resource to amount, over the project's running nodes.
    """

    table: ClassVar[str] = "project"
    members: tuple[int, ...] = field(default=(), converter=all_wholes, validator=WHOLES)
    quota: dict[str, int] = field(factory=dict, validator=AMOUNTS)


@frozen(kw_only=True)
class Delegate(Named):
    """
    An account that may say C{commands} of the experiments and slivers with the serials C{targets}, as long as whoever
    granted that may.

    @ivar keys: those that let in by ssh, where the account is ours.
    @ivar account: whether the account is ours: made for it, and removed with it.
    @ivar every: whether its commands are of every experiment and sliver.
    @ivar grantor: the user that made it, L{hostline.server.callers.principal}; empty: an operator.
    """

    table: ClassVar[str] = "delegate"
    uid: int = field(validator=WHOLE)
    commands: tuple[str, ...] = field(default=(), converter=all_texts, validator=TEXTS)
    targets: tuple[int, ...] = field(default=(), converter=all_wholes, validator=WHOLES)
    keys: tuple[str, ...] = field(default=(), converter=all_texts, validator=TEXTS)
    account: bool = field(default=False, validator=FLAG)
    every: bool = field(default=False, validator=FLAG)
    grantor: str = field(default="", validator=TEXT)


@frozen(kw_only=True)
class Experiment(Named):
    """
    An experiment, C{lab/exp1}.

    @ivar project: the project's serial.
    @ivar owner: the principal that made it, L{hostline.server.callers.principal}.
    @ivar state: as in the protocol page.
    @ivar slivers: serial by node, while the experiment is placed.
    @ivar reason: why it is C{failed}.
    @ivar idle_s: seconds of idleness after which it is swapped out; None: as the configuration says; 0: never, for
        the reason C{no_idle}.
    @ivar most_s: seconds after which it is swapped out though it is in use; 0: never.
    @ivar warned: when its owner was told last that it is about to be swapped out; None if not since it was in use.
    @ivar changes: of links, live, that last until the next C{modify_experiment}: by C{LINK}, then by node or C{*},
        C{{'rate_kbps', 'delay_ms', 'loss'}} as far as given.
    """

    table: ClassVar[str] = "experiment"
    project: int = field(validator=WHOLE)
    owner: str = field(validator=TEXT)
    state: str = field(validator=TEXT)
    slivers: dict[str, int] = field(factory=dict, validator=AMOUNTS)
    created: float = field(validator=NUMBER)
    swapped_in: float | None = field(default=None, validator=MAYBE_NUMBER)
    reason: str = field(default="", validator=TEXT)
    idle_s: float | None = field(default=None, validator=MAYBE_NUMBER)
    no_idle: str = field(default="", validator=TEXT)
    most_s: float = field(default=0.0, validator=NUMBER)
    warned: float | None = field(default=None, validator=MAYBE_NUMBER)
    changes: dict[str, Any] = field(factory=dict, validator=instance_of(dict))


@frozen(kw_only=True)
class Plan(Record):
    """
    The topology of the experiment with the same serial, addressed; apart from it, for it is big and seldom changes.

    One with the serial of an operation that modifies an experiment is what the experiment goes back to if that is
    cancelled.

    @ivar topology: L{hostline.server.experiments.topology.Topology.as_value}.
    @ivar settled: by node what it is made as: C{{'kind', 'image', 'pnode', 'rspec'}}; the image is a serial or None.
    @ivar pnodes: the name of the host by pnode.
    @ivar routes: by node, C{[destination, next hop]} for each network that is not its neighbour.
    @ivar options: how it was asked to be packed, as given (C{packing}, C{size} and so on).
    @ivar source: the topology as it was written, if that was not TopDL: C{{'format', 'text'}}.
    """

    table: ClassVar[str] = "plan"
    topology: dict[str, Any] = field(validator=instance_of(dict))
    warnings: list[dict[str, Any]] = field(factory=list, validator=OBJECTS)
    settled: dict[str, Any] = field(factory=dict, validator=instance_of(dict))
    pnodes: dict[str, str] = field(factory=dict, validator=REASONS)
    routes: dict[str, Any] = field(factory=dict, validator=instance_of(dict))
    options: dict[str, Any] = field(factory=dict, validator=instance_of(dict))
    source: dict[str, str] = field(factory=dict, validator=REASONS)

    @cached_property
    def built(self) -> Topology:
        """
        The topology as such, built once: of thousands of nodes that takes a while.

        @raise BadValue: if it is none; none such is kept.
        """
        return Topology.from_value(self.topology)

    def made_as(self, node: str) -> dict[str, Any]:
        """
        @return: what a node is made as, one of L{settled}; in a plan that was kept before nodes were settled it is a
            process on the first host.
        """
        known: dict[str, Any] | None = self.settled.get(node)
        return known or {"kind": "process", "image": None, "pnode": "pnode-0000", "rspec": dict(OF_PROCESSES)}


@frozen(kw_only=True)
class Sliver(Record):
    """
    What should be of one sliver: a node of an experiment, or a free one.

    @ivar name: in full, C{web.exp1.lab}; of a free one C{lab_web}.
    @ivar experiment: the experiment's serial; 0 of a free one.
    @ivar wanted: C{started}, C{stopped} or C{absent}; L{aim} is what is worked towards.
    @ivar boots: the boot that is wanted, counted up for each start and reboot.
    @ivar builds: the making that is wanted, counted up for each time it is made anew.
    @ivar project: of a free one: serial of the project of its site when it was made, 0 if there was none.
    @ivar owner: of a free one: a principal, L{hostline.server.callers.principal}.
    @ivar users: of a free one: serials of users who may use it.
    @ivar image: serial of the image that it is made from.
    @ivar keys: lines for its C{authorized_keys}, besides the keys of its owner and users.
    @ivar initscript: text of the script run at its start, stop and change.
    @ivar expires: Unix seconds; then it is stopped and doomed.
    @ivar instantiation: C{local}: made here by L{owner} or an operator; else what the authority's record says:
        C{plc-instantiated}, C{delegated} or C{nm-controller}; or C{ticket}: made by a ticket.
    @ivar remains: whether the record stays when the sliver is off the host.
    @ivar doomed: since when it is missing from the authority's records, or expired, and stopped for that.
    @ivar source: digest of the authority's record that this follows, or since when the ticket is good that changed it
        last (L{hostline.server.slivers.ticket.source_of}); empty of a local one.
    @ivar warnings: what the authority's record says that could not be used, in words.
    """

    table: ClassVar[str] = "sliver"
    name: str = field(validator=TEXT)
    kind: str = field(validator=TEXT)
    experiment: int = field(default=0, validator=WHOLE)
    pnode: str = field(default="pnode-0000", validator=TEXT)
    wanted: str = field(default="started", validator=TEXT)
    boots: int = field(default=1, validator=WHOLE)
    start_command: str | None = field(default=None, validator=MAYBE_TEXT)
    rspec: dict[str, int] = field(factory=dict, validator=AMOUNTS)
    created: float = field(validator=NUMBER)
    builds: int = field(default=1, validator=WHOLE)
    project: int = field(default=0, validator=WHOLE)
    owner: str = field(default="", validator=TEXT)
    users: tuple[int, ...] = field(default=(), converter=all_wholes, validator=WHOLES)
    image: int | None = field(default=None, validator=MAYBE_WHOLE)
    keys: tuple[str, ...] = field(default=(), converter=all_texts, validator=TEXTS)
    initscript: str | None = field(default=None, validator=MAYBE_TEXT)
    expires: float | None = field(default=None, validator=MAYBE_NUMBER)
    instantiation: str = field(default="local", validator=TEXT)
    remains: bool = field(default=False, validator=FLAG)
    doomed: float | None = field(default=None, validator=MAYBE_NUMBER)
    source: str = field(default="", validator=TEXT)
    warnings: tuple[str, ...] = field(default=(), converter=all_texts, validator=TEXTS)

    @property
    def free(self) -> bool:
        """
        Whether it is no node of an experiment.
        """
        return self.experiment == 0

    @property
    def aim(self) -> str:
        """
        What is worked towards: a sliver that is doomed or not enabled is stopped, whatever was asked for.
        """
        if self.wanted == "started" and (self.doomed is not None or self.rspec.get("enabled", 1) == 0):
            return "stopped"
        return self.wanted

    @property
    def topic(self) -> str:
        """
        Of the events about a free one.
        """
        return f"sliver/{self.name}"


@frozen(kw_only=True)
class Loans(Record):
    """
    What one free sliver lends, in the order in which it is looked at; apart from the sliver's own record, so that
    whoever gives that anew does not touch it.

    @ivar serial: the lender's.
    """

    table: ClassVar[str] = "loans"
    items: tuple[Loan, ...] = field(default=(), converter=all_loans)


@frozen(kw_only=True)
class Operation(Record):
    """
    Slow work; its number is its serial. What it waits for is derived from the slivers' records.

    @ivar subject: serial of what it is about: an experiment, a free sliver, an image.
    @ivar scope: the project's serial, which outlives the subject here; 0 if there is none.
    @ivar goal: sliver serial (as text) to C{[wanted, boots]}.
    @ivar before: the same, as it was before: C{[wanted, boots, start command]}.
    @ivar then: the subject's state once the goal is reached; C{gone} removes it; empty leaves it.
    @ivar result: the reply body, where it is not the target as it is then.
    @ivar token: whether a token stands for it: then its reply is kept.
    @ivar cut: whether C{result} was too long to be kept whole.
    """

    table: ClassVar[str] = "operation"
    command: str = field(validator=TEXT)
    target: str = field(validator=TEXT)
    nodes: tuple[str, ...] = field(default=(), converter=all_texts, validator=TEXTS)
    subject: int = field(validator=WHOLE)
    scope: int = field(validator=WHOLE)
    caller: str = field(validator=TEXT)
    goal: dict[str, list[Any]] = field(factory=dict, validator=is_goal)
    before: dict[str, list[Any]] = field(factory=dict, validator=is_goal)
    then: str = field(default="", validator=TEXT)
    state: str = field(default="running", validator=TEXT)
    causes: tuple[str, ...] = field(default=(), converter=all_texts, validator=TEXTS)
    started: float = field(validator=NUMBER)
    ended: float | None = field(default=None, validator=MAYBE_NUMBER)
    result: Any = None
    token: bool = field(default=False, validator=FLAG)
    cut: bool = field(default=False, validator=FLAG)

    @property
    def principal(self) -> str:
        """
        Whose it is.
        """
        return self.caller


@frozen(kw_only=True)
class Token(Record):
    """
    The first effect of a request that was given C{token=}.

    @ivar name: C{principal token}.
    @ivar digest: of the request's words.
    @ivar reply: body of the reply as JSON text, unless an operation makes it; a body as such was kept before.
    @ivar cut: whether C{reply} was too long to be kept whole.
    """

    table: ClassVar[str] = "token"
    name: str = field(validator=TEXT)
    digest: str = field(validator=TEXT)
    reply: Any = None
    operation: int | None = field(default=None, validator=MAYBE_WHOLE)
    time: float = field(validator=NUMBER)
    cut: bool = field(default=False, validator=FLAG)

    @property
    def key(self) -> str:
        """
        Principal and token.
        """
        return self.name

    @property
    def principal(self) -> str:
        """
        Whose it is.
        """
        return self.name.partition(" ")[0]


@frozen(kw_only=True)
class Authority(Record):
    """
    What this host knows of its control authority, and of its own clock; there is one, its serial 0.

    @ivar timestamp: of the last payload that was taken over, by the authority's clock.
    @ivar received: when that was, by ours; None if there was none.
    @ivar refused: why, by name, of the entries of that payload that were refused.
    @ivar held: why the last payload was held by the brake; empty if it was not.
    @ivar wall: what the clock said last when it was trusted; C{up}: seconds the host had been up then; C{boot}: the
        kernel's id of that boot, empty if nobody looked yet.
    @ivar remembers: since when the numbers of all tickets that were taken are known; 0 if nobody said yet.
    @ivar forgets: up to when tickets ended whose numbers were forgotten since; 0 if none was.
    """

    table: ClassVar[str] = "authority"
    timestamp: float = field(default=0.0, validator=NUMBER)
    received: float | None = field(default=None, validator=MAYBE_NUMBER)
    refused: dict[str, str] = field(factory=dict, validator=REASONS)
    held: str = field(default="", validator=TEXT)
    wall: float = field(default=0.0, validator=NUMBER)
    up: float = field(default=0.0, validator=NUMBER)
    boot: str = field(default="", validator=TEXT)
    remembers: float = field(default=0.0, validator=NUMBER)
    forgets: float = field(default=0.0, validator=NUMBER)


@frozen(kw_only=True)
class Image(Named):
    """
    What slivers are made from.

    @ivar kind: of the slivers that it is for.
    @ivar sha256: of its file; empty until it was made.
    @ivar size: bytes of that file.
    @ivar ready: how a sliver made from it is known to be up; C{started}: when it is started.
    @ivar base: C{debian}, C{busybox} or C{import}; what it is made of, with C{packages} or C{blob}, the path of a file.
    @ivar command: what an imported one runs where nothing else is said, with C{environment}, in C{directory}.
    """

    table: ClassVar[str] = "image"
    kind: str = field(default="container", validator=TEXT)
    sha256: str = field(default="", validator=TEXT)
    size: int = field(default=0, validator=WHOLE)
    created: float = field(validator=NUMBER)
    ready: str = field(default="started", validator=TEXT)
    base: str = field(default="debian", validator=TEXT)
    packages: tuple[str, ...] = field(default=(), converter=all_texts, validator=TEXTS)
    blob: str = field(default="", validator=TEXT)
    command: tuple[str, ...] = field(default=(), converter=all_texts, validator=TEXTS)
    environment: dict[str, str] = field(factory=dict, validator=REASONS)
    directory: str = field(default="/", validator=TEXT)

    @property
    def start_command(self) -> str | None:
        """
        What a sliver runs that says nothing else, for C{/bin/sh -c}; None if the image says nothing either.
        """
        if not self.command:
            return None
        return f"cd {shlex.quote(self.directory)} && exec {shlex.join(self.command)}"


KINDS: dict[str, type[Record]] = {
    kind.table: kind
    for kind in (
        User,
        Project,
        Delegate,
        Experiment,
        Plan,
        Diary,
        Sliver,
        Loans,
        Operation,
        Token,
        Authority,
        Image,
        Certificate,
        Invitation,
        Spent,
    )
}
