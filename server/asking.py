"""
One request while it is answered, and the register of the functions that answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from attrs import define, field

from hostline.protocol.commands import Command
from hostline.protocol.errors import BadArguments
from hostline.protocol.kinds import LONGEST_TEXT
from hostline.server import callers, rights
from hostline.server.callers import Caller
from hostline.server.host import Change, Host
from hostline.server.record import Record
from hostline.server.records import Operation

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon
    from hostline.server.streams import Streams


class Session(Protocol):
    """
    What a responder may ask of the connection that a request came on.
    """

    caller: Caller
    format: str
    client: str | None

    @property
    def streams(self) -> Streams:
        """
        What is open on the connection.
        """

    def watch(self, topics: list[str], since: int | None, tag: str | None) -> dict[str, Any]:
        """
        Turn on event lines.
        """

    def unwatch(self, topics: list[str]) -> dict[str, Any]:
        """
        Turn them off; an empty list means all.
        """


@define(eq=False)
class Ask:
    """
    One request.

    @ivar values: its arguments, read by their Kinds; C{options} likewise, by name; C{given}: the names
        of those that stand in the request.
    @ivar target: the record that its row's target names.
    @ivar operation: set by a responder whose work is slow; the reply then waits for it.
    @ivar audited: whether the audit log was told of it.
    @ivar about: what the audit log is told besides what was asked: what a ticket is for, say; no secrets.
    @ivar waiting: set once nothing is left to do but find out and tell: may be given up if the caller has left.
    """

    daemon: Daemon
    session: Session
    row: Command
    request: str
    values: list[Any]
    options: dict[str, Any] = field(factory=dict, kw_only=True)
    given: frozenset[str] = field(default=frozenset(), kw_only=True)
    tag: str | None = None
    target: Any = None
    operation: Operation | None = None
    waiting: bool = False
    audited: bool = False
    about: dict[str, Any] = field(factory=dict, kw_only=True)
    _change: Change | None = field(default=None)

    @property
    def host(self) -> Host:
        """
        What should be.
        """
        return self.daemon.host

    @property
    def caller(self) -> Caller:
        """
        Who asks.
        """
        return self.session.caller

    @property
    def principal(self) -> str:
        """
        Who asks, as it is kept in records.
        """
        return callers.principal(self.host, self.caller)

    @property
    def now(self) -> float:
        """
        Unix seconds.
        """
        return self.daemon.now()

    @property
    def change(self) -> Change:
        """
        The change that this request makes; begun at first use, after which nothing may be awaited.
        """
        if self._change is None:
            self._change = self.host.change(self.now, self.request)
            self._change.frees = self.row.frees
        return self._change

    @property
    def changed(self) -> Change | None:
        """
        The change, if one was begun.
        """
        return self._change

    def audit(self) -> None:
        """
        Tell the audit log of what changes no record; not waited for, so that a full disk can still be looked into.
        """
        self.audited = True
        change = self.host.change(self.now, self.request)
        self.daemon.answers.audit(self, change, "ok")
        self.daemon.commit(change).addErrback(lambda _: None)

    async def durable(self) -> None:
        """
        Make the change durable now, with its entry in the audit log: there is more to do before the reply.

        @raise StoreFailed: if it could not be made so; it is undone.
        """
        change, self._change = self.change, None
        self.audited = True
        self.daemon.answers.audit(self, change, "ok")
        await self.daemon.commit(change)

    def take_back(self) -> None:
        """
        Undo the change, unless the store has it already.
        """
        change, self._change = self._change, None
        if change is not None and not change.handed_over:
            change.undo()

    @property
    def named(self) -> list[Any]:
        """
        What names the target: the arguments, or the option that the row says.

        @raise BadArguments: if that was left out, and the caller is no sliver.
        """
        option = self.row.targeted
        if not option:
            return self.values
        if self.options[option] is not None:
            return [self.options[option]]
        own = self.host.slivers_by_serial.get(self.caller.sliver)
        if own is None:
            raise BadArguments(f"want {option}=, the sliver that is meant; want {self.row.usage}")
        return [own.name]

    def look_again(self) -> None:
        """
        Check the right and find the target once more, after something was awaited.

        @raise HostError: as L{rights.allowed}.
        """
        self.target = rights.allowed(self.host, self.caller, self.row, self.named)

    def text(self, said: str, most: int = LONGEST_TEXT) -> str:
        """
        A TEXT argument in full. It may be as big as a blob: to be asked for when it is used, not before.

        @param most: how many characters it may have as a blob.
        @raise NoSuchBlob: if it stands for a blob that the caller has not sent.
        """
        return self.daemon.blobs.text(self.principal, said[5:], most) if said.startswith("blob:") else said

    def sees(self, record: Record) -> bool:
        """
        Whether the caller may know of a record.
        """
        return rights.sees(self.host, self.caller, record, self.row.name)


Responder = Callable[..., Any]
_F = TypeVar("_F", bound=Responder)

#: Function by command name; every row has one, a test compares.
RESPONDERS: dict[str, Responder] = {}


def responds(row: Command) -> Callable[[_F], _F]:
    """
    Register the function that answers a command.

    It is called with the L{Ask}, the arguments, and the options by name; it returns the reply body (or a
    L{StatusText}, which is kept encoded), or a coroutine of it; for slow work it sets C{ask.operation}. It raises a
    L{HostError} to refuse.
    """

    def register(function: _F) -> _F:
        RESPONDERS[row.name] = function
        return function

    return register
