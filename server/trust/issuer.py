"""
The site's certificate authority, on the host that has it: what it signs, and what it takes back.

Its files are those of the daemon's trust, and C{ca.key} beside them; what it has signed is on record.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hostline.protocol.errors import Exists, OperationFailed, StoreFailed, TooMany, WrongState
from hostline.protocol.moments import written
from hostline.protocol.trust import CA, CA_KEY, CERTIFICATE, KEY
from hostline.server import entries
from hostline.server.credentials import Certificate, Invitation
from hostline.server.host import Change
from hostline.server.trust import founding, signing
from hostline.server.trust.files import BadTrust, Trust
from hostline.server.trust.guesses import Guesses
from hostline.server.trust.listing import Listing
from hostline.server.trust.signing import Authority, BadAuthority

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: Certificates of the same names and purpose that may be good at a time, before one is renewed once more.
ALIVE = 8
#: Seconds for which the record of a certificate is kept after its end: so far may the clock err, and not lose one.
KEPT_S = 366 * 86400.0
#: C{doctor} warns of an authority that ends within so many seconds.
_WARN_S = 90 * 86400.0


class Issuer:
    """
    The authority, if this host has it.

    @ivar trust: its files.
    @ivar trouble: why an authority that is there cannot be used; empty if there is none, or all is well.
    @ivar listing: what is revoked.
    @ivar guesses: the wrong tokens that were said.
    """

    _log = Logger()

    def __init__(self, daemon: Daemon, directory: Path) -> None:
        """
        Open the authority; what a crash left half done is ended, or undone.

        @param directory: of the daemon's trust, STATE/trust.
        """
        self._daemon = daemon
        self.trust = Trust(directory)
        self.trouble = ""
        self.listing = Listing(self.trust)
        self.guesses = Guesses()
        self._authority: Authority | None = None
        self._making = False
        try:
            self.trust.tidy()
            founding.settle(directory, daemon.host.table(Certificate), lambda text: self._log.warn("{text}", text=text))
            self._load()
        except (BadTrust, BadAuthority, OSError) as error:
            self.trouble = f"the authority in {directory} cannot be used: {error}"
            self._log.error("{trouble}", trouble=self.trouble)

    @property
    def present(self) -> bool:
        """
        Whether this host has the authority, and can sign.
        """
        return self._authority is not None

    @property
    def authority(self) -> Authority:
        """
        What signs.

        @raise WrongState: if this host has none, or cannot use it.
        """
        if self._authority is None:
            raise WrongState(self.trouble or "this host has no certificate authority; ca_init makes one")
        return self._authority

    @property
    def life_s(self) -> float:
        """
        Seconds that a certificate lives, if nothing else was said.
        """
        return self._daemon.config.tls.life_days * 86400.0

    def _load(self) -> None:
        if not self.trust.has(CA_KEY):
            return
        self.trust.settle()
        authority = signing.read_authority(self.trust.read(CA), self.trust.read(CA_KEY))
        self.listing.open(authority, self._revoked(), self._daemon.now())
        self._authority = authority

    # Making one.

    async def make(
        self, names: Sequence[str], life_s: float, durable: Callable[[Certificate], Awaitable[None]]
    ) -> None:
        """
        Make the authority and this host's own certificate.

        @param durable: makes the record of that certificate durable.
        @raise Exists: if there is an authority, or this host believes another one.
        @raise StoreFailed: if the record cannot be made durable.
        @raise OperationFailed: if the files cannot be written.
        """
        self._check_none()
        self._making = True
        now = self._daemon.now()
        planned = founding.plan(self._daemon.host.name, names, life_s, self.life_s, now)
        record = _record(0, planned.own, names, "host", now)
        place = founding.fresh(self.trust.directory, record.number)
        try:
            await self._run(lambda: founding.write(place, planned.files))
            await durable(record)
            await self._run(lambda: founding.put_in_place(place, self.trust.directory))
            self._load()
        except (OSError, BadTrust, BadAuthority) as error:
            raise OperationFailed(f"the authority was not made: {error}") from error
        finally:
            self._making = False
            if self._authority is None:
                self._run(lambda: founding.forget(place)).addErrback(lambda _: None)
        self._daemon.tls.reload()

    def _check_none(self) -> None:
        if self._making:
            raise Exists("an authority is being made just now")
        if self._authority is not None or self.trouble:
            raise Exists(self.trouble or "this host has a certificate authority")
        there = [one for one in (CA_KEY, CA, CERTIFICATE, KEY) if self.trust.has(one)]
        if there:
            raise Exists(
                f"{self.trust.directory} has {', '.join(there)}: this host believes another authority; "
                "move that directory away first"
            )

    # Signing.

    def sign(
        self, change: Change, key: str, names: Sequence[str], purpose: str, life_s: float, renews: str = ""
    ) -> x509.Certificate:
        """
        Sign a certificate; it is to be handed out once C{change}, which gets its record, is durable.

        @param key: SubjectPublicKeyInfo, PEM.
        @raise WrongState: if the authority has ended, or there is none.
        """
        authority = self.authority
        if authority.until <= change.now:
            raise WrongState(f"the authority ended at {written(authority.until)}")
        certificate = signing.sign(authority, key, names, purpose, life_s, change.now)
        change.put(_record(change.serial(), certificate, names, purpose, change.now, renews))
        return certificate

    def renew(self, change: Change, key: str, before: Certificate) -> x509.Certificate:
        """
        Sign a certificate like one that is good still.

        @raise TooMany: if as many of these names are good as may be.
        """
        same = (before.names, before.purpose)
        alive = [one for one in self._alive(change.now) if (one.names, one.purpose) == same]
        if len(alive) >= ALIVE:
            raise TooMany(f"want at most {ALIVE} certificates of the same names; wait until one ends, or is revoked")
        life_s = before.until - before.issued
        return self.sign(change, key, before.names, before.purpose, life_s, before.number)

    @property
    def own_number(self) -> str:
        """
        The number of this host's own certificate; empty if that cannot be read.
        """
        try:
            return signing.number_of(signing.read_certificate(self.trust.read(CERTIFICATE)))
        except (BadTrust, BadAuthority):
            return ""

    async def renew_own(self) -> None:
        """
        Make a new key and a new certificate for this host; those before stay good until they end.

        @raise WrongState: if this host has no authority, or its own certificate is none of it.
        @raise StoreFailed: if that cannot be made durable.
        @raise OperationFailed: if the files cannot be written.
        """
        try:
            own = signing.read_certificate(self.trust.read(CERTIFICATE))
            names = signing.names_in(own)
        except (BadTrust, BadAuthority) as error:
            raise WrongState(f"this host's own certificate cannot be renewed: {error}") from error
        known = self._daemon.host.get(Certificate, signing.number_of(own))
        life_s = known.until - known.issued if known is not None else self.life_s
        key = signing.new_key()
        change = self._daemon.host.change(self._daemon.now())
        fresh = self.sign(change, signing.public_pem(key), names, "host", life_s, signing.number_of(own))
        entries.tell_done(change, "ca_renew", *names, via="clock", number=signing.number_of(fresh))
        await self._daemon.commit(change)
        try:
            await self._run(lambda: self.trust.write_pair(fresh.public_bytes(Encoding.PEM), signing.key_pem(key)))
        except OSError as error:
            raise OperationFailed(f"this host's new certificate cannot be written: {error}") from error
        self._daemon.tls.reload()

    def handed_out(self, certificate: x509.Certificate) -> dict[str, Any]:
        """
        What whoever asked for a certificate is answered.
        """
        return {
            "certificate": certificate.public_bytes(Encoding.PEM).decode("ascii"),
            "ca": self.authority.pem.decode("ascii"),
            "crl": self.listing.pem.decode("ascii"),
            "number": signing.number_of(certificate),
            "until": certificate.not_valid_after_utc.timestamp(),
        }

    def _alive(self, now: float) -> list[Certificate]:
        every = self._daemon.host.table(Certificate).values()
        return [one for one in every if not one.revoked and one.until > now]

    # Revoking.

    def named(self, said: str, name: str | None) -> tuple[list[Certificate], list[Invitation]]:
        """
        @param said: the number of a certificate, perhaps.
        @param name: L{hostline.protocol.names.certificate_name}; None if C{said} can be none.
        @return: the certificate of that number, with those that were got by it; or all that have the name, with the
            tokens that would get one.
        """
        table = self._daemon.host.table(Certificate)
        number = _number(said)
        if number in table:
            return self._with_renewed(table[number]), []
        invited = self._daemon.host.table(Invitation).values()
        return [one for one in table.values() if name in one.names], [one for one in invited if name in one.names]

    def _with_renewed(self, first: Certificate) -> list[Certificate]:
        # Whoever took its key may have renewed it, and would go on to do so.
        by: dict[str, list[Certificate]] = {}
        for one in self._daemon.host.table(Certificate).values():
            by.setdefault(one.renews, []).append(one)
        found = [first]
        for one in found:
            found += by.get(one.number, [])
        return found

    def unknown(self, change: Change, said: str) -> Certificate | None:
        """
        Have a change put a certificate on record of which nothing but the number is known.

        @return: it; None if C{said} can be none of our numbers.
        """
        number = _number(said)
        if not 0 < len(number) <= 40 or number.strip("0123456789abcdef"):
            return None
        until, serial = self.authority.until, change.serial()
        return change.put(
            Certificate(serial=serial, number=number, names=(), purpose="host", issued=change.now, until=until)
        )

    def revoke(self, change: Change, found: list[Certificate], invited: list[Invitation]) -> None:
        """
        Have a change revoke certificates and withdraw tokens; L{publish} is to follow.
        """
        for one in found:
            if not one.revoked:
                change.put(attrs.evolve(one, revoked=change.now))
        for invitation in invited:
            change.remove(invitation)

    async def publish(self) -> None:
        """
        Write the list of what is revoked, and have open connections looked at again.

        @raise OperationFailed: if it cannot be written; it is tried again.
        """
        try:
            await self.listing.publish(self.authority, self._revoked(), self._daemon.now(), self._run)
        finally:
            self._daemon.tls.reload()

    def _revoked(self) -> dict[int, float]:
        every = self._daemon.host.table(Certificate).values()
        return {int(one.number, 16): one.revoked for one in every if one.revoked}

    # From time to time.

    def round(self) -> None:
        """
        Make the list of what is revoked anew where that is due.
        """
        if self._authority is not None and self.listing.is_due(self._daemon.now()):
            Deferred.fromCoroutine(self.publish()).addErrback(
                lambda failure: self._log.error("{error}", error=failure.value)
            )

    def purge(self) -> None:
        """
        Forget tokens that are out of their time, and certificates that were for long; nothing by a clock that cannot be
        right.
        """
        host, now = self._daemon.host, self._daemon.now()
        sure = not self._daemon.expiry.trust.distrust
        change = host.change(now)
        for invitation in [one for one in host.table(Invitation).values() if sure and one.until <= now]:
            change.remove(invitation)
        for one in list(host.table(Certificate).values()):
            if sure and one.until + KEPT_S < now:
                change.remove(one)
            elif (
                not one.revoked and int(one.number, 16) in self.listing.read.revoked
            ):  # and the record of that was lost
                change.put(attrs.evolve(one, revoked=now))
        if change.statements:
            self._daemon.commit(change).addErrback(lambda failure: failure.trap(StoreFailed) and None)

    def findings(self) -> list[tuple[str, bool, str, str]]:
        """
        What C{doctor} says of it: what was looked at, whether it is well, details, what to do if not.
        """
        if self.trouble:
            return [("certificate authority", False, self.trouble, "mend what it says and start the daemon again")]
        if self._authority is None:
            return []
        now, until, listing = self._daemon.now(), self._authority.until, self.listing
        waiting = len(self._daemon.host.table(Invitation))
        return [
            (
                "certificate authority",
                until > now + _WARN_S,
                f"the authority ends at {written(until)}; {len(self._alive(now))} certificates are good, "
                f"{waiting} tokens were not used",
                "make a new authority, believed beside this one, and enrol all hosts and users anew before it ends",
            ),
            (
                "revocation list",
                not listing.unwritten and listing.read.until > now,
                listing.unwritten
                or f"{len(listing.read.revoked)} certificates are revoked, said at {written(listing.read.made)}, "
                f"good until {written(listing.read.until)}",
                f"make it possible to write {self.trust.directory}; the list is written anew within a minute",
            ),
        ]

    def _run(self, function: Callable[[], Any]) -> Deferred[Any]:
        return self._daemon.store.run(function)


def _record(
    serial: int, certificate: x509.Certificate, names: Sequence[str], purpose: str, now: float, renews: str = ""
) -> Certificate:
    return Certificate(
        serial=serial,
        number=signing.number_of(certificate),
        names=names,
        purpose=purpose,
        issued=now,
        until=certificate.not_valid_after_utc.timestamp(),
        renews=renews,
    )


def _number(said: str) -> str:
    """
    @return: a number of a certificate as records have it, however somebody writes it.
    """
    return said.lower().replace(":", "").lstrip("0")
