"""
What is kept: one frozen class for each kind of record, and its way into JSON and back.

References between records are by serial, never by name, so that a new holder of a name inherits nothing.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

import attrs
from attrs import field, frozen
from attrs.validators import deep_iterable, deep_mapping, instance_of, optional

from hostline.server.slivers.loans import Loan

_R = TypeVar("_R", bound="Record")

#: Made once: C{json.dumps} with other separators makes an encoder for each call.
ENCODE = json.JSONEncoder(separators=(",", ":")).encode

_text = instance_of(str)
_whole = instance_of(int)
_maybe_whole = optional(instance_of(int))
_number = instance_of((int, float))
_maybe_number = optional(instance_of((int, float)))
_texts = deep_iterable(instance_of(str), instance_of(tuple))
_wholes = deep_iterable(instance_of(int), instance_of(tuple))
_amounts = deep_mapping(instance_of(str), instance_of(int), instance_of(dict))
_reasons = deep_mapping(instance_of(str), instance_of(str), instance_of(dict))
_objects = deep_iterable(instance_of(dict), instance_of(list))


def _all_texts(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise TypeError("want a list, got a text")
    return tuple(value)


def _all_wholes(value: Iterable[int]) -> tuple[int, ...]:
    return tuple(value)


def _all_loans(value: Iterable[Any]) -> tuple[Loan, ...]:
    found = tuple(one if isinstance(one, Loan) else Loan(*one) for one in value)
    for one in found:
        good = type(one.recipient) is str and type(one.resource) is str and type(one.amount) is int
        if not (good and type(one.until) in (float, int, type(None)) and type(one.to) in (int, type(None))):
            raise TypeError(f"want [recipient, resource, amount, until, to], got {list(one)}"[:200])
    return found


def _is_goal(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    instance_of(dict)(instance, attribute, value)
    for serial, wanted in value.items():
        if not (serial.isdecimal() and isinstance(wanted, list) and len(wanted) >= 2):
            raise TypeError(f"want [wanted, boots] by serial as {attribute.name}")
        if not (isinstance(wanted[0], str) and isinstance(wanted[1], int)):
            raise TypeError(f"want [wanted, boots] by serial as {attribute.name}")


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


class Damaged(Exception):
    """
    A stored record cannot be read; it is set aside and named in C{doctor}.
    """


@frozen(kw_only=True)
class Record:
    """
    Anything that is kept.

    @cvar table: the record's kind in the store.
    @ivar serial: never used again on this host.
    """

    table: ClassVar[str] = ""
    serial: int = field(validator=_whole)

    @property
    def key(self) -> str:
        """
        What the record is found by, unique in its table.
        """
        return str(self.serial)

    def as_json(self) -> str:
        """
        The record as the store keeps it.
        """
        # Not attrs.asdict, which copies a topology of thousands of nodes leaf by leaf.
        return ENCODE({one.name: getattr(self, one.name) for one in attrs.fields(type(self))})

    @classmethod
    def from_json(cls: type[_R], text: str) -> _R:
        """
        @raise Damaged: if the text is no such record.
        """
        try:
            body = json.loads(text)
            known = {one.name for one in attrs.fields(cls)}
            return cls(**{name: value for name, value in body.items() if name in known})
        except (ValueError, TypeError, AttributeError) as error:
            raise Damaged(f"{cls.table} record: {error}"[:200]) from error


@frozen(kw_only=True)
class Named(Record):
    """
    A record found by its name.
    """

    name: str = field(validator=_text)

    @property
    def key(self) -> str:
        """
        The name.
        """
        return self.name


@frozen(kw_only=True)
class User(Named):
    """
    A person: known by a uid of this host.
    """

    table: ClassVar[str] = "user"
    uid: int | None = field(default=None, validator=_maybe_whole)
    keys: tuple[str, ...] = field(default=(), converter=_all_texts, validator=_texts)


@frozen(kw_only=True)
class Project(Named):
    """
    A project.

    @ivar members: serials of users.
    @ivar quota: resource to amount, over the project's running nodes.
    """

    table: ClassVar[str] = "project"
    members: tuple[int, ...] = field(default=(), converter=_all_wholes, validator=_wholes)
    quota: dict[str, int] = field(factory=dict, validator=_amounts)


@frozen(kw_only=True)
class Delegate(Named):
    """
    An account that may say C{commands} of the experiments with the serials C{targets}.
    """

    table: ClassVar[str] = "delegate"
    uid: int = field(validator=_whole)
    commands: tuple[str, ...] = field(default=(), converter=_all_texts, validator=_texts)
    targets: tuple[int, ...] = field(default=(), converter=_all_wholes, validator=_wholes)


@frozen(kw_only=True)
class Experiment(Named):
    """
    An experiment, C{lab/exp1}.

    @ivar project: the project's serial.
    @ivar owner: the principal that made it, L{hostline.server.rights.Caller.principal}.
    @ivar state: as in the protocol page.
    @ivar slivers: serial by node, while the experiment is placed.
    @ivar reason: why it is C{failed}.
    """

    table: ClassVar[str] = "experiment"
    project: int = field(validator=_whole)
    owner: str = field(validator=_text)
    state: str = field(validator=_text)
    slivers: dict[str, int] = field(factory=dict, validator=_amounts)
    created: float = field(validator=_number)
    swapped_in: float | None = field(default=None, validator=_maybe_number)
    reason: str = field(default="", validator=_text)


@frozen(kw_only=True)
class Plan(Record):
    """
    The topology of the experiment with the same serial, addressed; apart from it, for it is big and seldom changes.

    One with the serial of an operation that modifies an experiment is what the experiment goes back to if that is
    cancelled.

    @ivar topology: L{hostline.server.experiments.topology.Topology.as_value}.
    """

    table: ClassVar[str] = "plan"
    topology: dict[str, Any] = field(validator=instance_of(dict))
    warnings: list[dict[str, Any]] = field(factory=list, validator=_objects)


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
    @ivar owner: of a free one: a principal, L{hostline.server.rights.principal}.
    @ivar users: of a free one: serials of users who may use it.
    @ivar image: serial of the image that it is made from.
    @ivar keys: lines for its C{authorized_keys}, besides the keys of its owner and users.
    @ivar initscript: text of the script run at its start, stop and change.
    @ivar expires: Unix seconds; then it is stopped and doomed.
    @ivar instantiation: C{local}: made here by L{owner} or an operator; else what the authority's record says:
        C{plc-instantiated}, C{delegated} or C{nm-controller}.
    @ivar remains: whether the record stays when the sliver is off the host.
    @ivar doomed: since when it is missing from the authority's records, or expired, and stopped for that.
    @ivar source: digest of the authority's record that this follows; empty of a local one.
    @ivar warnings: what the authority's record says that could not be used, in words.
    """

    table: ClassVar[str] = "sliver"
    name: str = field(validator=_text)
    kind: str = field(validator=_text)
    experiment: int = field(default=0, validator=_whole)
    pnode: str = field(default="pnode-0000", validator=_text)
    wanted: str = field(default="started", validator=_text)
    boots: int = field(default=1, validator=_whole)
    start_command: str | None = field(default=None, validator=optional(instance_of(str)))
    rspec: dict[str, int] = field(factory=dict, validator=_amounts)
    created: float = field(validator=_number)
    builds: int = field(default=1, validator=_whole)
    project: int = field(default=0, validator=_whole)
    owner: str = field(default="", validator=_text)
    users: tuple[int, ...] = field(default=(), converter=_all_wholes, validator=_wholes)
    image: int | None = field(default=None, validator=_maybe_whole)
    keys: tuple[str, ...] = field(default=(), converter=_all_texts, validator=_texts)
    initscript: str | None = field(default=None, validator=optional(instance_of(str)))
    expires: float | None = field(default=None, validator=_maybe_number)
    instantiation: str = field(default="local", validator=_text)
    remains: bool = field(default=False, validator=instance_of(bool))
    doomed: float | None = field(default=None, validator=_maybe_number)
    source: str = field(default="", validator=_text)
    warnings: tuple[str, ...] = field(default=(), converter=_all_texts, validator=_texts)

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
    items: tuple[Loan, ...] = field(default=(), converter=_all_loans)


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
    command: str = field(validator=_text)
    target: str = field(validator=_text)
    nodes: tuple[str, ...] = field(default=(), converter=_all_texts, validator=_texts)
    subject: int = field(validator=_whole)
    scope: int = field(validator=_whole)
    caller: str = field(validator=_text)
    goal: dict[str, list[Any]] = field(factory=dict, validator=_is_goal)
    before: dict[str, list[Any]] = field(factory=dict, validator=_is_goal)
    then: str = field(default="", validator=_text)
    state: str = field(default="running", validator=_text)
    causes: tuple[str, ...] = field(default=(), converter=_all_texts, validator=_texts)
    started: float = field(validator=_number)
    ended: float | None = field(default=None, validator=_maybe_number)
    result: Any = None
    token: bool = field(default=False, validator=instance_of(bool))
    cut: bool = field(default=False, validator=instance_of(bool))

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
    name: str = field(validator=_text)
    digest: str = field(validator=_text)
    reply: Any = None
    operation: int | None = field(default=None, validator=_maybe_whole)
    time: float = field(validator=_number)
    cut: bool = field(default=False, validator=instance_of(bool))

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
    """

    table: ClassVar[str] = "authority"
    timestamp: float = field(default=0.0, validator=_number)
    received: float | None = field(default=None, validator=_maybe_number)
    refused: dict[str, str] = field(factory=dict, validator=_reasons)
    held: str = field(default="", validator=_text)
    wall: float = field(default=0.0, validator=_number)
    up: float = field(default=0.0, validator=_number)
    boot: str = field(default="", validator=_text)


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
    kind: str = field(default="container", validator=_text)
    sha256: str = field(default="", validator=_text)
    size: int = field(default=0, validator=_whole)
    created: float = field(validator=_number)
    ready: str = field(default="started", validator=_text)
    base: str = field(default="debian", validator=_text)
    packages: tuple[str, ...] = field(default=(), converter=_all_texts, validator=_texts)
    blob: str = field(default="", validator=_text)
    command: tuple[str, ...] = field(default=(), converter=_all_texts, validator=_texts)
    environment: dict[str, str] = field(factory=dict, validator=_reasons)
    directory: str = field(default="/", validator=_text)

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
    for kind in (User, Project, Delegate, Experiment, Plan, Sliver, Loans, Operation, Token, Authority, Image)
}
