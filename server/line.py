"""
From a line to its reply: words, command, permission, responder, durable change; the one place where errors become
replies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import attrs
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from hostline.protocol import commands, wire, words
from hostline.protocol.commands import Command
from hostline.protocol.errors import (
    BadArguments,
    BadLine,
    Cancelled,
    HostError,
    Internal,
    LineTooLong,
    OperationFailed,
    StoreFailed,
    TokenReused,
    TooMany,
)
from hostline.server import (  # noqa: F401  (they register their responders)
    about,
    audit,
    authority,
    callers,
    copying,
    entries,
    expiry,
    grants,
    history,
    images,
    inside,
    lending,
    people,
    rights,
    tickets,
    upkeep,
    work,
)
from hostline.server.asking import RESPONDERS, Ask, Session
from hostline.server.experiments import delays as _delays  # noqa: F401
from hostline.server.experiments import requests as _experiments  # noqa: F401
from hostline.server.experiments import runs as _runs  # noqa: F401
from hostline.server.experiments import snapshots as _snapshots  # noqa: F401
from hostline.server.host import Change
from hostline.server.pace import EACH_S, Pace
from hostline.server.record import ENCODE
from hostline.server.records import Operation, Token, kept_reply
from hostline.server.slivers import requests as _slivers  # noqa: F401
from hostline.server.status import StatusText
from hostline.server.trust import requests as _trust  # noqa: F401

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: Tokens of one principal that are kept.
TOKENS = 10000


@frozen
class Prepared:
    """
    A line taken apart.

    @ivar error: what is wrong with it; then there is no row.
    """

    line: bytes
    tag: str | None
    command: str
    row: Command | None
    request: words.Request | None
    error: HostError | None = None


@frozen(eq=False)
class Answer:
    """
    @ivar reply: the reply line, if it is there already.
    @ivar later: fires with it, if not.
    @ivar blocks: whether untagged requests behind this one wait for it before they begin.
    @ivar keep: whether the same line has the same reply until the host's generation changes.
    @ivar give_up: nobody is left to be told: wait no longer, if being told is all that this is for.
    """

    reply: bytes | None
    later: Deferred[bytes] | None = None
    blocks: bool = False
    keep: bool = False
    give_up: Callable[[], None] = lambda: None


class Answers:
    """
    Answers lines, for every connection of a daemon.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._count = 0
        self._refusals = entries.Refusals()
        self._pace = Pace()

    def prepare(self, line: bytes) -> Prepared:
        """
        Take a line apart; never raises.
        """
        tag, command = None, ""
        try:
            if isinstance(line, wire.Overlong):
                tag, command = _begun(line)
                raise LineTooLong(
                    f"want at most {self._daemon.config.limits.line_bytes} bytes on a line; it was skipped"
                )
            try:
                text = wire.text_of(line)
            except HostError:
                tag, command = _begun(line)
                raise
            request = words.split(text)
            tag, command = request.tag, request.command
            if not command:
                raise BadArguments("want a command after the tag; 'help' lists them")
            return Prepared(line, tag, command, commands.command_named(command), request)
        except words.Broken as broken:
            return Prepared(line, broken.tag, broken.command, None, None, broken.error)
        except HostError as error:
            return Prepared(line, tag, command, None, None, error)

    def unended(self, line: bytes, why: str) -> Prepared:
        """
        What stood on a last line without its newline: cut off, so nothing is done.
        """
        tag, command = _begun(line)
        return Prepared(line, tag, command, None, None, BadLine(why))

    def refuse(self, session: Session, prepared: Prepared, error: HostError) -> bytes:
        """
        @return: the C{error_reply} to a line.
        """
        return _encoded(session, "error_reply", error.body(prepared.command[:64]), prepared.tag)

    def answer(self, session: Session, prepared: Prepared) -> Answer:
        """
        Answer a line; never raises.
        """
        row, request = prepared.row, prepared.request
        if row is None or request is None:
            error = prepared.error or Internal("no row")
            return Answer(self.refuse(session, prepared, error))
        self._count += 1
        ask = Ask(self._daemon, session, row, f"{self._daemon.run}-{self._count:x}", [], prepared.tag)
        try:
            values, options = row.read(request)
            ask.values = values
            ask.options, ask.given = dict(options), frozenset(request.options)
            token = options.pop("token", None)
            wait = options.pop("wait", 0.0)
            known = self._known(ask, token, request) if token is not None else None
            if known is not None:
                self._allow_again(ask, known)
                again = self._again(ask, known, wait)
                return self._later(ask, prepared, again, blocks=known.operation is not None)
            ask.look_again()
            if row.changes and ask.caller.sliver and not self._pace.take(ask.caller.sliver, ask.now):
                raise TooMany(f"want at most {60 / EACH_S:g} changes a minute through a sliver's own socket; try later")
            result = RESPONDERS[row.name](ask, *values, **options)
            if isinstance(result, Coroutine):
                return self._later(ask, prepared, self._await(ask, result, request, token, wait), blocks=True)
            if ask.changed is not None or ask.operation is not None:
                change = self._make(ask, result, request, token)
                blocks = ask.operation is not None
                return self._later(ask, prepared, self._finish(ask, result, change, wait), blocks=blocks)
            keep = row.polled and prepared.tag is None
            return Answer(_encoded(session, row.reply_word, result, prepared.tag), keep=keep)
        except Exception as error:
            return Answer(self._failed(ask, prepared, error))

    def _later(self, ask: Ask, prepared: Prepared, said: Coroutine[Any, Any, Any], blocks: bool = False) -> Answer:
        def failed(failure: Failure) -> bytes:
            return self._failed(ask, prepared, failure.value or Internal("no reason"), failure)

        later: Deferred[bytes] = Deferred.fromCoroutine(said)
        later.addErrback(failed)
        if later.called and isinstance(later.result, bytes):
            return Answer(later.result)
        return Answer(None, later, blocks, give_up=lambda: later.cancel() if ask.waiting else None)

    async def _await(
        self, ask: Ask, result: Coroutine[Any, Any, Any], request: words.Request, token: str | None, wait: float
    ) -> bytes:
        refused: HostError | None = None
        body = None
        try:
            body = await result
        except HostError as error:
            refused = error
        known = self._known(ask, token, request) if token is not None else None
        if known is not None:  # the same request came again while this one was on its way, and was faster
            ask.take_back()
            return await self._again(ask, known, wait)
        if refused is not None:
            raise refused
        change = self._make(ask, body, request, token)
        return await self._finish(ask, body, change, wait)

    def _make(self, ask: Ask, body: Any, request: words.Request, token: str | None) -> Deferred[None] | None:
        """
        Hand the change over to be made durable, with its audit entry and its token.
        """
        change = ask.changed
        if change is None:
            return None
        if token is not None:
            self._keep(ask, change, body, token, _digest(request))
        self.audit(ask, change, "ok")
        if ask.operation is not None:  # quick changes are in the audit log, which is enough and costs a tenth
            self._log.info(
                "{request} {principal} {command} {target}",
                request=ask.request,
                principal=callers.shown_principal(ask.host, ask.principal),
                command=ask.row.name,
                target=ask.operation.target,
            )
        return self._daemon.commit(change)

    def _keep(self, ask: Ask, change: Change, body: Any, token: str, digest: str) -> None:
        keys = ask.host.of_principal(Token, ask.principal)
        if len(keys) >= TOKENS:  # a tenth at a time: to look for the oldest costs
            found = sorted(map(ask.host.table(Token).__getitem__, keys), key=lambda one: one.time)
            for one in found[: len(found) - TOKENS * 9 // 10]:
                change.remove(one)
        reply, cut, number = None, False, None
        if ask.operation is None:
            body, cut = kept_reply(body)
            reply = ENCODE(body)
        else:
            number = ask.operation.serial
            change.put(attrs.evolve(ask.operation, token=True))
        name = f"{ask.principal} {token}"
        known = Token(serial=0, name=name, digest=digest, reply=reply, operation=number, time=change.now, cut=cut)
        change.put(known)

    async def _finish(self, ask: Ask, body: Any, change: Deferred[None] | None, wait: float) -> bytes:
        if change is not None:
            await change
        if ask.operation is not None:
            return await self._slow(ask, ask.operation.serial, wait)
        return _encoded(ask.session, ask.row.reply_word, body, ask.tag)

    async def _slow(self, ask: Ask, number: int, wait: float) -> bytes:
        ask.waiting = True
        await self._daemon.ended(number, wait, ask.caller)
        operation = ask.host.get(Operation, str(number))
        if operation is None:
            raise OperationFailed(f"operation {number} is no longer kept")
        if operation.state in ("failed", "cancelled"):
            kind = OperationFailed if operation.state == "failed" else Cancelled
            cause = operation.causes[0] if operation.causes else operation.state
            raise kind(cause, operation=number, causes=list(operation.causes))
        if operation.ended is None:
            return _encoded(ask.session, "operation_reply", self._daemon.operations.body(operation), ask.tag)
        return _encoded(ask.session, ask.row.reply_word, self._daemon.bodies.result(operation), ask.tag)

    def _known(self, ask: Ask, token: str, request: words.Request) -> Token | None:
        known = ask.host.get(Token, f"{ask.principal} {token}")
        if known is not None and known.digest != _digest(request):
            raise TokenReused(f"token {token} was used before with another request")
        return known

    def _allow_again(self, ask: Ask, known: Token) -> None:
        """
        The permission check for what was done before. That may have taken its target away: then whoever may see the
        operation, or could remove such a thing, is told what he was told; just so if there is another of that name
        which is hidden from him.
        """
        operation = ask.host.get(Operation, str(known.operation))
        if operation is not None:
            takes_away = rights.sees(ask.host, ask.caller, operation, ask.row.name)
        else:
            takes_away = known.operation is not None or ask.row.name.startswith("remove_")
        if takes_away and rights.unseen(ask.host, ask.caller, ask.row, ask.named):
            rights.allowed_without(ask.host, ask.caller, ask.row)
        else:
            ask.look_again()

    async def _again(self, ask: Ask, known: Token, wait: float) -> bytes:
        # The first request may not be durable yet: an empty change is durable after it.
        await self._daemon.commit(ask.host.change(ask.now))
        if known.operation is not None:
            return await self._slow(ask, known.operation, wait)
        body = json.loads(known.reply) if isinstance(known.reply, str) else known.reply
        experiment = ask.host.experiments_by_serial.get(body["serial"]) if known.cut else None
        if experiment is not None and ask.sees(experiment):
            body = self._daemon.bodies.experiment(experiment)
        return _encoded(ask.session, ask.row.reply_word, body, ask.tag)

    def _failed(self, ask: Ask, prepared: Prepared, error: BaseException, failure: Failure | None = None) -> bytes:
        if isinstance(error, CancelledError) and ask.waiting:
            error = Cancelled("nobody was left to be told")
        if not isinstance(error, HostError):
            self._log.failure("{request} {command}", failure, request=ask.request, command=prepared.command)
            error = Internal(f"a bug of the daemon's; its log has it under request {ask.request}", request=ask.request)
        made = ask.changed is not None and ask.changed.handed_over and not isinstance(error, StoreFailed)
        ask.take_back()
        audited = ask.row.changes or (ask.row.audited and not ask.audited)
        if audited and not made and self._refusals.may_tell(ask.principal, ask.now):
            refusal = ask.host.change(ask.now, ask.request)
            refusal.frees = True  # or one that leads to more room would fail beside it
            self.audit(ask, refusal, error.code)
            self._daemon.commit(refusal).addErrback(lambda _: None)
        return self.refuse(ask.session, prepared, error)

    def audit(self, ask: Ask, change: Change, outcome: str) -> None:
        """
        Have a change tell the audit log of a request.

        @param outcome: C{ok}, or the code of an error.
        """
        entries.tell_asked(change, ask, outcome, self._refusals.untold(ask.principal))
        if outcome == "ok":
            self._daemon.idle.asked(ask)


def _begun(line: bytes) -> tuple[str | None, str]:
    """
    The tag and the command of a line that cannot be read whole.
    """
    try:
        tag, rest = words.split_tag(line[: wire.KEPT].decode("ascii", "replace"))
    except HostError:
        return None, ""
    return tag, rest.split(" ", 1)[0][:64]


def _digest(request: words.Request) -> str:
    options = {name: word.value for name, word in request.options.items() if name not in ("token", "wait")}
    said = [request.command, [word.value for word in request.values], options]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _encoded(session: Session, word: str, body: Any, tag: str | None) -> bytes:
    as_json = session.format == "json"
    if not isinstance(body, StatusText):
        return wire.reply(word, body, tag, as_json)
    if as_json:
        return wire.reply(word, body.value(), tag, as_json)
    prefix = f"@{tag} {word} " if tag else f"{word} "
    return body.encode(prefix.encode("ascii"), b"\n")
