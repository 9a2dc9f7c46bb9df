"""
Following a control authority: its records are fetched from time to time, or handed in, and taken over. While it cannot
be reached, the records known last rule.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadPayload, Held, HostError, OperationFailed, StoreFailed, WrongState
from hostline.server import entries
from hostline.server.asking import Ask, responds
from hostline.server.expiry import authority, waits
from hostline.server.host import Change
from hostline.server.slivers.authority import Decision, sources
from hostline.server.slivers.payload import is_xml
from hostline.server.slivers.plan import folded
from hostline.server.takeover import Takeover

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: Whose turn it is among those that have something read.
_WHO = "authority"
#: The first poll after a start comes within this many seconds, so that hosts that came up together do not ask together.
_FIRST_S = 60.0


class Follower:
    """
    Follows the authority of the configuration, if there is one.

    @ivar trouble: why the last poll failed; empty if it did not. C{failures}: how many failed in a row.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon, random: Callable[[], float]) -> None:
        """
        @param random: gives numbers from 0 to 1, for the times of polls.
        """
        self._daemon = daemon
        self._random = random
        self._takeover = Takeover(daemon)
        self._turn = DeferredLock()
        self._call: IDelayedCall | None = None
        self._closed = False
        self._polling = False
        self.trouble = ""
        self.failures = 0

    @property
    def follows(self) -> bool:
        """
        Whether the configuration names where the records are.
        """
        settings = self._daemon.config.authority
        return bool(settings.url or settings.file)

    def start(self) -> None:
        """
        Begin to poll.
        """
        self._later(self._random() * min(_FIRST_S, self._daemon.config.authority.period_s))

    def reloaded(self) -> None:
        """
        The configuration may name another authority: poll soon.
        """
        if self._call is not None and self._call.active():
            self._call.cancel()
            self._call = None
        elif self._polling:
            return  # whoever polls goes on with the new one
        self.trouble, self.failures = "", 0
        self.start()

    def close(self) -> None:
        """
        Poll no more.
        """
        self._closed = True
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    async def take(
        self, text: str | None, force: bool, change: Callable[[], Change]
    ) -> tuple[dict[str, Any], Decision, Change]:
        """
        Take over a payload; one at a time.

        @param text: None has it fetched.
        @param change: begins the change to make; called when nothing is waited for any more.
        @return: the body of the reply, what was decided, and the change.
        @raise BadPayload: if it cannot be used; C{Held} if it takes away too much; C{OperationFailed} if it could not
            be fetched. Then nothing was changed.
        """
        await self._turn.acquire()
        try:
            return self._takeover.take(await self._read(text), force, change)
        finally:
            self._turn.release()

    # Reading.

    async def _read(self, text: str | None) -> dict[str, Any]:
        settings = self._daemon.config.authority
        if text is None and settings.file:
            text = _file(Path(settings.file), settings.payload_bytes)
        if text is not None:
            given = text
            reading = await self._daemon.offload.call(
                "read_response" if is_xml(given) else "read_payload",
                lambda: {**self._asked(), "text": given},
                60.0,
                who=_WHO,
            )
        elif settings.url:
            source = self._source()
            reading = await self._daemon.offload.call(
                "poll_authority", lambda: {**self._asked(), "source": source}, settings.timeout_s + 30, who=_WHO
            )
        else:
            raise WrongState("no authority.url or authority.file is configured, so give the payload: sync PAYLOAD")
        found: dict[str, Any] = reading
        return found

    def _asked(self) -> dict[str, Any]:
        host, settings = self._daemon.host, self._daemon.config.authority
        return {
            "node_id": settings.node_id,
            "hostname": settings.hostname or host.name,
            "kinds": sorted(self._daemon.sync.drivers),
            "kind": settings.kind,
            "image": settings.image,
            "known": sources({one.name: one for one in host.free_slivers()}),
        }

    def _source(self) -> dict[str, Any]:
        settings = self._daemon.config.authority
        auth: Any = None
        if settings.auth_file:
            said = _secret(Path(settings.auth_file))
            auth = said.strip()
            if settings.method == "xmlrpc":
                try:
                    auth = json.loads(said)
                except ValueError as error:
                    raise OperationFailed(f"authority.auth_file: want a JSON struct: {error}") from None
            elif not (auth.isascii() and auth.isprintable()):
                raise OperationFailed("authority.auth_file: want one line of ASCII")
        return {
            "url": settings.url,
            "method": settings.method,
            "node_id": settings.node_id,
            "auth": auth,
            "ca": _file(Path(settings.ca_file), 1 << 20) if settings.ca_file else "",
            "plain": settings.plain_http,
            "timeout_s": settings.timeout_s,
            "bytes": settings.payload_bytes,
        }

    # Polling.

    def _later(self, seconds: float) -> None:
        if not self._closed and self.follows and self._call is None:
            self._call = self._daemon.clock.callLater(seconds, self._due)

    def _due(self) -> None:
        self._call, self._polling = None, True
        polled = Deferred.fromCoroutine(self._poll())
        polled.addErrback(lambda failure: self._log.failure("polling the authority", failure))
        polled.addBoth(self._again)

    def _again(self, _: None) -> None:
        self._polling = False
        self._later(self._wait())

    def _wait(self) -> float:
        settings = self._daemon.config.authority
        period: float = settings.period_s
        most = max(settings.backoff_s, period)
        return min(period * 2.0 ** min(self.failures, 30), most) + self._random() * settings.jitter_s

    async def _poll(self) -> None:
        daemon = self._daemon
        begun: list[Change] = []

        def begin() -> Change:
            begun.append(daemon.host.change(daemon.now()))
            return begun[0]

        try:
            _, decision, change = await self.take(None, False, begin)
            if decision.created or decision.changed or decision.back or decision.doomed:
                entries.tell_done(
                    change,
                    "sync",
                    via="poll",
                    principal="authority",
                    created=[one["name"] for one in decision.created],
                    changed=[one["name"] for one in decision.changed],
                    stopped=decision.doomed,
                    brought_back=list(decision.back),
                )
            await daemon.commit(change)
            self.polled("")
        except StoreFailed as error:
            self.polled(error.message)
        except Held:
            self.polled("")  # the authority is well, as far as one can see; the alarm is raised already
        except HostError as error:
            self.polled(error.message)
        finally:
            if begun and not begun[0].handed_over:
                begun[0].undo()

    def polled(self, trouble: str) -> None:
        """
        Tell how a poll went; an event tells when that is another way than before.
        """
        before, self.trouble = self.trouble, trouble
        self.failures = self.failures + 1 if trouble else 0
        if trouble:
            self._log.warn("the authority's records could not be taken over: {reason}", reason=trouble)
        if bool(before) != bool(trouble):
            self._daemon.host.touched()
            change = self._daemon.host.change(self._daemon.now())
            change.tell("host", "authority", trouble=trouble)
            waits(self._daemon.commit(change))

    # Health.

    def findings(self) -> list[tuple[str, bool, str, str]]:
        """
        @return: what C{doctor} says of all this: what was looked at, whether it is well, detail and remedy.
        """
        daemon = self._daemon
        known, settings, expiry = authority(daemon.host), daemon.config.authority, daemon.expiry
        found = []
        if self.follows or known.received is not None:
            age = None if known.received is None else daemon.now() - known.received
            said = "no payload was taken over yet" if age is None else f"the last good payload came {age:.0f} s ago"
            stale = self.follows and (age is None or age > settings.stale_s)
            trouble = f"; the last poll failed: {self.trouble}" if self.trouble else ""
            remedy = "see that the authority can be reached and that authority.* in the configuration is right; until "
            found.append(
                ("authority", not (stale or self.trouble), said + trouble, remedy + "then the last known records rule")
            )
            refused = [f"{name}: {why}" for name, why in known.refused.items()]
            found.append(
                (
                    "authority's records",
                    not refused,
                    f"{len(refused)} refused: {folded(refused)}"[:2000] if refused else "all could be taken over",
                    "have the authority put them right; what is here under these names stays as it is",
                )
            )
        if known.held:
            found.append(
                ("brake", False, known.held, "find out why; if it is right: hostline sync force=True with that payload")
            )
        clock = expiry.trust.distrust
        found.append(
            (
                "clock",
                not expiry.trust.alarm,
                f"{clock}; nothing expires" if clock else "the clock goes as time passes",
                "set the clock right; if what it says is right, hostline accept_clock",
            )
        )
        if expiry.held and not clock:
            found.append(
                ("expiry", False, expiry.held, "give them more time; or if it is right: hostline sync force=True")
            )
        return found


@responds(TABLE["sync"])
async def sync(ask: Ask, payload: str | None = None, *, force: bool) -> dict[str, Any]:
    """
    Make this host what the authority's records say.
    """
    follower: Follower = ask.daemon.follower
    if payload is None and force and not follower.follows:
        return _only_time(ask)
    polls = payload is None

    def change() -> Change:
        ask.look_again()
        return ask.change

    most = ask.daemon.config.authority.payload_bytes
    try:
        body, _, made = await follower.take(None if polls else ask.text(payload or "", most), force, change)
    except (BadPayload, OperationFailed) as error:
        if polls:
            follower.polled(error.message)
        raise
    if polls:
        follower.polled("")
    if force:
        _expire(ask, made, body)
    return body


def _only_time(ask: Ask) -> dict[str, Any]:
    body: dict[str, Any] = {name: [] for name in ("created", "changed", "kept", "stopped", "brought_back")}
    body |= {"refused": {}, "timestamp": authority(ask.host).timestamp}
    _expire(ask, ask.change, body)
    return body


def _expire(ask: Ask, change: Change, body: dict[str, Any]) -> None:
    found = ask.daemon.expiry.look(change, force=True)
    body["stopped"] = body["stopped"] + [one.name for one in found.expired]


def _file(path: Path, most: int) -> str:
    """
    @raise OperationFailed: if it cannot be read, or is too long.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OperationFailed(f"{path}: want a file")
            data = file.read(most + 1)
        if len(data) > most:
            raise OperationFailed(f"{path}: want at most {most} bytes")
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperationFailed(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _secret(path: Path) -> str:
    """
    @raise OperationFailed: as L{_file}, and if others than its owner, who is we or root, may read it.
    """
    text = _file(path, 1 << 16)
    found = path.stat()
    if found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid()):
        raise OperationFailed(f"{path}: others can read it; chmod 600, and let root own it")
    return text
