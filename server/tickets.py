"""
Tickets: signed rights to slivers, each taken once. The signature decides; until it is looked at, nothing else is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.logger import Logger

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadTicket, OperationFailed, WrongState
from hostline.protocol.names import split_slice
from hostline.protocol.trust import CA, CRL
from hostline.server.asking import Ask, responds
from hostline.server.credentials import Spent
from hostline.server.expiry import authority, waits
from hostline.server.records import Operation, Project, Sliver, User
from hostline.server.slivers.authority import LOCAL
from hostline.server.slivers.plan import ABSENT, STARTED
from hostline.server.slivers.rspec import read_rspec
from hostline.server.slivers.ticket import BY_TICKET, decide, source_of
from hostline.server.slivers.vouching import read_believed
from hostline.server.trust.files import BadTrust, NotThere, Trust, read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hostline.server.daemon import Daemon
    from hostline.server.host import Change

#: Bytes of a ticket as it is given, PEM or base64.
LONGEST = 65536
#: Seconds that a ticket may take to be read.
_READ_S = 10.0


class Tickets:
    """
    What this host believes, and which tickets it has seen.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon, trust: Path) -> None:
        """
        @param trust: the directory of trust.
        """
        self._daemon = daemon
        self._trust = Trust(trust)

    def start(self) -> None:
        """
        The records are loaded. A host whose state is new, or may have lost some of it, does not know which tickets were
        taken before: from now on it does.
        """
        if self._daemon.host.damaged or not authority(self._daemon.host).remembers:
            self._remember()

    def look(self) -> None:
        """
        If the clock was far ahead when the host began to remember, and was put right since, begin anew; or every ticket
        would be too old until then.
        """
        now = self._daemon.now()
        if max(now, self._daemon.expiry.trust.anchor.wall) < authority(self._daemon.host).remembers:
            self._remember()

    def _remember(self) -> None:
        change = self._daemon.host.change(self._daemon.now())
        change.put(attrs.evolve(authority(change.host), remembers=change.now))
        waits(self._daemon.commit(change))

    async def read(self, text: str, who: str) -> dict[str, Any]:
        """
        Read a ticket.

        @param who: the principal that shows it.
        @return: L{hostline.server.slivers.signed_ticket.read_ticket}.
        @raise BadTicket: if it is refused for what it is.
        @raise OperationFailed: if what this host believes cannot be read.
        """
        if len(text) > LONGEST or len(text.encode("utf-8", "surrogatepass")) > LONGEST:
            raise BadTicket(f"want a ticket of at most {LONGEST} bytes", reason="size")

        def asked() -> dict[str, Any]:
            roots, revoked = self._believed()
            return {"text": text, "roots": roots, "revoked": revoked, "now": self._daemon.now()}

        found: dict[str, Any] = await self._daemon.offload.call("read_ticket", asked, _READ_S, who=who)
        return found

    def old(self) -> list[Spent]:
        """
        @return: the numbers that need not be remembered any more: the tickets are out of their time, even if the clock
            is as far ahead as it can be without being noticed.
        """
        daemon = self._daemon
        if daemon.expiry.trust.distrust:
            return []
        before = daemon.now() - daemon.config.authority.clock_off_days * 86400
        return [one for one in daemon.host.table(Spent).values() if one.until < before]

    def forget(self, change: Change, old: Sequence[Spent]) -> None:
        """
        Forget numbers, and keep until when: should the clock be put back, nobody could tell them from new ones.
        """
        if old:
            known = authority(change.host)
            change.put(attrs.evolve(known, forgets=max(known.forgets, *(one.until for one in old))))
        for one in old:
            change.remove(one)

    def _believed(self) -> tuple[str, str]:
        """
        @return: PEM of the authorities whose signers are believed, and of what they have revoked.
        """
        try:
            return self._files()
        except (OSError, UnicodeDecodeError, BadTrust) as error:
            self._log.error("no ticket can be taken: {reason}", reason=str(error))
            raise OperationFailed(
                "the authorities whose tickets this host believes cannot be read; its log says why"
            ) from None

    def _files(self) -> tuple[str, str]:
        settings = self._daemon.config.tickets
        roots = _other(settings.roots_file) if settings.roots_file else self._own(CA)
        issuer = self._daemon.issuer  # whose list counts though it could not be written
        revoked = issuer.listing.pem.decode("ascii") if issuer.present else self._own(CRL)
        return roots, revoked + (_other(settings.crl_file) if settings.crl_file else "")

    def findings(self) -> list[tuple[str, bool, str, str]]:
        """
        @return: what C{doctor} says: what was looked at, whether it is well, detail and remedy.
        """
        try:
            believed = len(read_believed(*self._files()).roots)
        except (OSError, ValueError, BadTrust) as error:
            remedy = "mend what it says: tickets.roots_file, tickets.crl_file, ca.pem or crl.pem in STATE/trust"
            return [("tickets", False, f"no ticket can be taken: {error}", remedy)]
        spent = len(self._daemon.host.table(Spent))
        known = f"authorities believed: {believed}" if believed else "none can be taken: no authority is believed"
        return [("tickets", True, f"{known}; numbers remembered: {spent}", "")]

    def _own(self, name: str) -> str:
        try:
            return self._trust.read(name).decode("ascii")
        except NotThere:
            return ""


@responds(TABLE["ticket"])
async def ticket(ask: Ask, text: str) -> dict[str, Any]:
    """
    Use a ticket.
    """
    try:
        return await _taken(ask, text)
    except BadTicket as error:
        ask.about = {**ask.about, "reason": error.details["reason"]}
        raise


async def _taken(ask: Ask, text: str) -> dict[str, Any]:
    daemon = ask.daemon
    reading = await daemon.tickets.read(ask.text(text), ask.principal)
    ask.look_again()
    record = reading["record"]
    ask.about = {"sliver": record["sliver"], "signer": reading["name"], "number": record["number"]}
    known = authority(ask.host)
    name = f"{reading['signer']} {record['number']}"
    decide(
        record,
        ask.now,
        {ask.host.name, daemon.config.authority.hostname} - {""},
        most_s=daemon.config.tickets.most_days * 86400,
        payload=known.timestamp,
        remembers=known.remembers,
        forgets=known.forgets,
        spent=ask.host.get(Spent, name) is not None,
    )
    ask.change.put(Spent(serial=0, name=name, until=record["not_after"]))
    sliver = ask.host.sliver_named(record["sliver"])
    if sliver is None:
        sliver, ask.operation = _create(ask, record)
    else:
        sliver, ask.operation = _set(ask, sliver, record)
    daemon.slivers.tell(ask.change, sliver, "ticket", signer=reading["name"], number=record["number"])
    return daemon.bodies.sliver(sliver)


def _create(ask: Ask, record: dict[str, Any]) -> tuple[Sliver, Operation]:
    daemon, name = ask.daemon, record["sliver"]
    settings = daemon.config.authority
    kind = record.get("kind", settings.kind)
    if kind not in daemon.sync.drivers:
        raise WrongState(f"this host runs no slivers of kind {kind}; it runs {', '.join(sorted(daemon.sync.drivers))}")
    image = record.get("image", (settings.image or None) if kind == "container" else None)
    project = ask.host.get(Project, split_slice(name)[0])
    rspec = read_rspec(record.get("rspec", {}))
    daemon.check_room(0, rspec)
    sliver = Sliver(
        serial=ask.change.serial(),
        name=name,
        kind=kind,
        wanted=STARTED,
        created=ask.now,
        instantiation=BY_TICKET,
        source=source_of("", record["not_before"]),
        project=project.serial if project is not None else 0,
        image=daemon.image_for(kind, image),
        **{**_said(ask, record), "rspec": rspec},
    )
    return sliver, daemon.slivers.create(ask.change, sliver, ask.principal)


def _set(ask: Ask, sliver: Sliver, record: dict[str, Any]) -> tuple[Sliver, Operation | None]:
    """
    Give a sliver that is there what the ticket names; it is brought back if it was doomed, made if it was only there
    on request.
    """
    name, life = sliver.name, ask.daemon.slivers
    if sliver.instantiation == LOCAL:
        raise WrongState(f"{name} was made on this host by its owner or an operator; no ticket changes it")
    if sliver.wanted == ABSENT and not sliver.remains:
        raise WrongState(f"{name} is being destroyed; wait until it is gone")
    if record.get("kind", sliver.kind) != sliver.kind:
        raise WrongState(f"{name} is of kind {sliver.kind}, the ticket wants {record['kind']}")
    said = _said(ask, record)
    if "rspec" in record:
        said["rspec"] = read_rspec(record["rspec"], over=sliver.rspec)
        ask.daemon.check_room(sliver.serial, said["rspec"])
    if "image" in record:
        said["image"] = ask.daemon.image_for(sliver.kind, record["image"])
    said["source"] = source_of(sliver.source, record["not_before"])
    if sliver.doomed is not None:
        over = "expires" not in said and sliver.expires is not None and sliver.expires <= ask.now
        if over:
            raise WrongState(f"{name} is doomed: its time is over, and the ticket gives it no other (expires)")
        sliver = life.undo(ask.change, sliver, **said)
    else:
        sliver = life.set(ask.change, sliver, **said)
        life.again(ask.change, sliver)
    operation = None
    if sliver.wanted == ABSENT:
        operation = life.instantiate(ask.change, sliver, ask.principal)
    return ask.host.slivers_by_serial[sliver.serial], operation


def _said(ask: Ask, record: dict[str, Any]) -> dict[str, Any]:
    """
    What a ticket says, as fields of a sliver's record; of resources and the image the callers know more.
    """
    said: dict[str, Any] = {key: record[key] for key in ("initscript", "start_command", "expires") if key in record}
    if "keys" in record:
        said["keys"] = tuple(record["keys"])
    if "users" in record:
        # As in an authority's records: names that are not known here are passed over, the first one owns it.
        users = [user.serial for one in record["users"] if (user := ask.host.get(User, one)) is not None]
        said["users"] = tuple(users)
        said["owner"] = f"user:{users[0]}" if users else ""
    return said


def _other(name: str) -> str:
    """
    @raise BadTrust: if it cannot be used, or others may write it: whoever can, makes tickets.
    """
    return read_file(Path(name), follow=True).decode("ascii")
