"""
Answers about the site's certificate authority.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Coroutine, Sequence
from typing import Any

import attrs

from hostline.protocol.commands import TABLE
from hostline.protocol.errors import BadValue, Denied, NoSuchCertificate, TooMany, WrongState
from hostline.protocol.moments import moment
from hostline.protocol.names import certificate_name, shown
from hostline.server import callers
from hostline.server.asking import Ask, responds
from hostline.server.credentials import Certificate, Invitation
from hostline.server.trust.issuer import Issuer

#: Tokens that may wait to be used.
INVITATIONS = 10000
#: The shortest and the longest life of an authority, in seconds; and the shortest of a certificate.
_AUTHORITY_LIFE, _LEAST_LIFE = (86400.0, 30 * 366 * 86400.0), 1.0
#: The longest that a token may wait, in seconds.
_MOST_WAIT = 30 * 86400.0
#: Seconds that reading a request may take.
_READ_S = 10.0
#: One answer, whatever is wrong with a token.
_NOT_GOOD = "want the secret of a token that is good: there is none like this, or it was used, or its time is over"


@responds(TABLE["ca_init"])
async def ca_init(ask: Ask, names: list[str] | None, life: float) -> dict[str, Any]:
    """
    Make the authority.
    """
    least, most = _AUTHORITY_LIFE
    if not least <= life <= most:
        raise BadValue(f"life: want {least:g} to {most:g} seconds, got {life:g}")
    issuer = ask.daemon.issuer
    own = _own_names(ask) if names is None else _written(names)

    def durable(record: Certificate) -> Coroutine[Any, Any, None]:
        ask.look_again()
        ask.change.put(attrs.evolve(record, serial=ask.change.serial()))
        return ask.durable()

    await issuer.make(own, life, durable)
    return {"fingerprint": issuer.authority.fingerprint, "names": own, "until": issuer.authority.until}


@responds(TABLE["ca_token"])
def ca_token(
    ask: Ask, names: list[str], purpose: str | None, expires: float | str, life: float | None
) -> dict[str, Any]:
    """
    Make a token.
    """
    issuer, now = _issuer(ask), ask.now
    written = _written(names)
    if len(ask.host.by_names(written)) > 1:
        raise BadValue("names: want those of one user; a certificate of two lets nobody in")
    until = moment(expires, now)
    if not now < until <= now + _MOST_WAIT:
        raise BadValue(f"expires: want a time within the next {_MOST_WAIT / 86400:g} days")
    if until > issuer.authority.until:
        raise WrongState("the authority ends before the token would, or has ended")
    life_s = issuer.life_s if life is None else life
    if life_s < _LEAST_LIFE:
        raise BadValue(f"life: want {_LEAST_LIFE:g} second at least, got {life_s:g}")
    if len(ask.host.table(Invitation)) >= INVITATIONS:
        raise TooMany(f"want at most {INVITATIONS} tokens that wait to be used")
    secret = _new_secret()
    invitation = Invitation(
        serial=ask.change.serial(),
        digest=_digest(secret),
        names=written,
        purpose=purpose or _purpose(written),
        life=life_s,
        until=until,
    )
    ask.change.put(invitation)
    return {
        "token": f"{secret}.{issuer.authority.fingerprint}",
        "names": written,
        "purpose": invitation.purpose,
        "expires": until,
        "fingerprint": issuer.authority.fingerprint,
    }


@responds(TABLE["ca_certificate"])
def ca_certificate(ask: Ask) -> dict[str, Any]:
    """
    Show the authority's certificate.
    """
    authority = _issuer(ask).authority
    return {"certificate": authority.pem.decode("ascii"), "fingerprint": authority.fingerprint}


@responds(TABLE["ca_enrol"])
async def ca_enrol(ask: Ask, secret: str, request: str) -> dict[str, Any]:
    """
    Change a token for a certificate.
    """
    issuer = _issuer(ask)
    _invitation(ask, secret)
    key = await _key_in(ask, request, f"token {_digest(secret)}")  # those with tokens do not stand in each other's way
    invitation = _invitation(ask, secret)  # it may have been used meanwhile
    ask.change.remove(invitation)
    signed = issuer.sign(ask.change, key, invitation.names, invitation.purpose, invitation.life)
    return _told(ask, issuer.handed_out(signed), invitation.names)


@responds(TABLE["ca_renew"])
async def ca_renew(ask: Ask, request: str) -> dict[str, Any]:
    """
    Change a certificate for a new one.
    """
    issuer = _issuer(ask)
    _shown_by(ask)
    key = await _key_in(ask, request, ask.principal)
    before = _shown_by(ask)
    return _told(ask, issuer.handed_out(issuer.renew(ask.change, key, before)), before.names)


def _told(ask: Ask, body: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    ask.about = {"names": list(names), "number": body["number"]}
    return body


@responds(TABLE["ca_revoke"])
async def ca_revoke(ask: Ask, certificate: str, unknown: bool) -> dict[str, Any]:
    """
    Revoke certificates.
    """
    issuer = _issuer(ask)
    try:
        name: str | None = certificate_name(certificate)
    except BadValue:
        name = None
    found, invited = issuer.named(certificate, name)
    if unknown and not found and not invited:
        lost = issuer.unknown(ask.change, certificate)
        found = [lost] if lost is not None else []
    if not found and not invited:
        raise NoSuchCertificate(f"no certificate and no token has the number or the name {shown(certificate)}")
    issuer.revoke(ask.change, found, invited)
    await ask.durable()
    revoked = sorted(one.number for one in found)
    try:
        if issuer.own_number in revoked:
            await issuer.renew_own()
    finally:
        await issuer.publish()
    return {"revoked": revoked, "withdrawn": len(invited)}


@responds(TABLE["ca_revoked"])
def ca_revoked(ask: Ask) -> dict[str, Any]:
    """
    Show the list of what is revoked.
    """
    return {"crl": _issuer(ask).listing.pem.decode("ascii")}


@responds(TABLE["certificates"])
def certificates(ask: Ask) -> list[dict[str, Any]]:
    """
    List the certificates that were signed here.
    """
    every = sorted(ask.host.table(Certificate).values(), key=lambda one: (one.issued, one.serial))
    return [
        {
            "number": one.number,
            "names": list(one.names),
            "purpose": one.purpose,
            "issued": one.issued,
            "until": one.until,
            "revoked": one.revoked,
            "renews": one.renews,
        }
        for one in every
    ]


def _issuer(ask: Ask) -> Issuer:
    """
    @raise WrongState: if this host has no authority.
    """
    _ = ask.daemon.issuer.authority
    return ask.daemon.issuer


def _written(names: list[str]) -> list[str]:
    return list(dict.fromkeys(map(certificate_name, names)))


def _own_names(ask: Ask) -> list[str]:
    try:
        return [certificate_name("dns:" + ask.host.name)]
    except BadValue:
        raise BadValue(f"want names=: this host is called {shown(ask.host.name)}, which is no DNS name") from None


def _purpose(names: list[str]) -> str:
    hosts = {name.startswith("dns:") for name in names}
    if len(hosts) > 1:
        raise BadValue("purpose: want it said, for DNS names and URNs together")
    return "host" if hosts == {True} else "user"


def _new_secret() -> str:
    while not (secret := secrets.token_urlsafe(32))[0].isalnum():
        pass  # one that begins with a dash would be taken for an option
    return secret


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def _invitation(ask: Ask, secret: str) -> Invitation:
    """
    @raise Denied: in one way, whatever is wrong with the secret.
    @raise TooMany: if it is wrong, and the caller's were often; who is known here is not even listened to then. All
        that come without a certificate are one principal, of whom one must not be able to keep the others out; and an
        operator need not guess.
    """
    guesses, principal = ask.daemon.issuer.guesses, ask.principal
    too_many = guesses.too_many(principal, ask.now) and not callers.is_operator(ask.host, ask.caller)
    digest = _digest(secret)
    found = ask.host.get(Invitation, digest)
    same = hmac.compare_digest(digest, found.digest if found is not None else "0" * len(digest))
    if found is not None and same and found.until > ask.now and not (too_many and ask.caller.via != callers.ENROL):
        return found
    guesses.wrong(principal, ask.now)
    if too_many:
        raise TooMany("want fewer wrong tokens; try again in a minute")
    raise Denied(_NOT_GOOD)


def _shown_by(ask: Ask) -> Certificate:
    """
    @return: the certificate with which the caller has come.
    @raise Denied: if it is none that was signed here, or not good any more.
    """
    caller = ask.caller
    found = ask.host.get(Certificate, caller.number) if caller.number else None
    # Another authority that is believed here may give out the same number, and the same names.
    own = caller.authority == ask.daemon.issuer.authority.fingerprint
    if found is None or not own or set(found.names) != set(caller.names):
        raise Denied("ca_renew is for who comes by TLS, with a certificate of this authority")
    if found.revoked or found.until <= ask.now:
        raise Denied("want a certificate that is neither revoked nor past its end")
    return found


async def _key_in(ask: Ask, request: str, who: str) -> str:
    """
    @param who: for whom it is read; each has a few turns at a time.
    @return: the key for which a certificate is asked, PEM.
    """
    read = await ask.daemon.offload.call("read_request", lambda: request, _READ_S, who=who)
    ask.look_again()
    return str(read["key"])
