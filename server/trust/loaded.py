"""
What the files of trust say, read and checked: what a listening port needs to show who this host is, and to know who
comes.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from hostline.protocol.moments import written
from hostline.protocol.trust import CA, CERTIFICATE, CRL, KEY
from hostline.server.trust.files import BadTrust, NotThere, Trust, read_file
from hostline.server.trust.revoked import Revoked, read_lists

#: For TLS 1.2; all of 1.3 are as good.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@frozen
class Loaded:
    """
    All of it.

    @ivar context: for those who must show a certificate; C{enrol} for those who have none yet.
    @ivar authorities: SHA-256 of each that we believe.
    @ivar lists: what is revoked, by the file that says it.
    @ivar names: DNS names of our own certificate; it C{begins} and C{ends}, and the last of the authorities ends, at
        these Unix seconds.
    @ivar notes: what is not as it should be, though we can go on.
    """

    context: ssl.SSLContext
    enrol: ssl.SSLContext
    authorities: frozenset[bytes]
    lists: dict[Path, Revoked]
    names: tuple[str, ...]
    begins: float
    ends: float
    authorities_end: float
    notes: tuple[str, ...] = ()
    revoked: Revoked = field(init=False)

    @revoked.default
    def _all_revoked(self) -> Revoked:
        found = Revoked()
        for one in self.lists.values():
            found |= one
        return found


def load(trust: Trust, roots_file: str = "", crl_file: str = "", before: Loaded | None = None) -> Loaded:
    """
    Read everything anew.

    @param roots_file: PEM of further authorities; C{crl_file} of what they have revoked. Empty: none.
    @param before: what was read before. A list that cannot be read any more is believed as it was; one that never could
        be read is an error: somebody is revoked, and we cannot know who.
    @raise BadTrust: if nobody can be let in by what is there.
    """
    site = trust.read(CA)
    known = _certificates(site, CA)
    further = read_file(Path(roots_file), follow=True) if roots_file else b""
    if further:
        known += _certificates(further, roots_file)
    own = _certificates(trust.read(CERTIFICATE), CERTIFICATE)
    trust.read(KEY)  # for its owner and mode
    notes: list[str] = []
    lists: dict[Path, Revoked] = {}
    readings: list[tuple[Path, Callable[[], bytes], bool]] = [(trust.crl, lambda: trust.read(CRL), False)]
    if crl_file:
        readings.append((Path(crl_file), lambda: read_file(Path(crl_file), follow=True), True))
    for path, read, wanted in readings:
        old = before.lists.get(path) if before is not None else None
        try:
            lists[path] = read_lists(read(), known, str(path))
        except BadTrust as error:
            if old is not None:
                lists[path] = old
                notes.append(f"{error}; what it said before is still believed")
            elif wanted or not isinstance(error, NotThere):
                raise
    if not any(_issued(own[-1], one) for one in known):
        notes.append(f"{trust.certificate} was not signed by an authority that we believe ourselves")
    return Loaded(
        _context(trust, site + b"\n" + further),
        _context(trust, None),
        frozenset(hashlib.sha256(one.public_bytes(Encoding.DER)).digest() for one in known),
        lists,
        _shown_names(own[0]),
        own[0].not_valid_before_utc.timestamp(),
        min(one.not_valid_after_utc.timestamp() for one in own),
        max(one.not_valid_after_utc.timestamp() for one in known),
        tuple(notes),
    )


def findings(loaded: Loaded, now: float) -> list[tuple[str, bool, str, str]]:
    """
    @return: what C{doctor} says of what was read: what was looked at, whether it is well, detail and remedy.
    """
    names = ", ".join(loaded.names) or "no DNS name"
    life = loaded.ends - loaded.begins
    own = f"this host's certificate, of {names}, is good from {written(loaded.begins)} to {written(loaded.ends)}"
    overdue = loaded.revoked.overdue(now)
    count = sum(one.count for one in loaded.revoked.lists)
    lists = f"revoked: {count}; lists: {len(loaded.lists)}"
    if loaded.revoked.lists:
        lists += f", the oldest of {written(min(one.issued for one in loaded.revoked.lists))}"
    if overdue:
        lists += f"; newer ones were due at {written(min(one.due or now for one in overdue))}, until then these count"
    return [
        (
            "tls certificate",
            not loaded.notes and loaded.begins <= now < loaded.ends - life / 10,
            "; ".join([own, *loaded.notes]),
            "it is renewed by itself, see tls renewal; where it has ended, or is not for this host: hostline ca enrol "
            "--force --trust STATE/trust with a new token",
        ),
        (
            "tls authorities",
            now < loaded.authorities_end,
            f"{len(loaded.authorities)} are believed, the last until {written(loaded.authorities_end)}",
            "make a new authority and enrol all hosts and users anew",
        ),
        (
            "tls revocations",
            not overdue,
            lists,
            "hostline ca renew --trust STATE/trust fetches the site's list; see to it that tls.crl_file is kept up",
        ),
    ]


def _certificates(data: bytes, name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except (ValueError, x509.InvalidVersion) as error:
        raise BadTrust(f"{name}: want certificates in PEM: {error}") from error


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return certificate == authority
    return True


def _shown_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.UnsupportedGeneralNameType, ValueError):
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))


def _context(trust: Trust, authorities: bytes | None) -> ssl.SSLContext:
    """
    @param authorities: PEM; whoever comes must show a certificate that hangs on one of these. None: nobody is asked.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # No session outlives its connection: what is revoked, or believed no more, is looked up at each one anew.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        context.set_ciphers(_CIPHERS)
        try:
            _load_own(context, trust)
        except ssl.SSLError:
            trust.settle()  # the certificate may be there already, and its key not yet
            _load_own(context, trust)
        if authorities is not None:
            context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise BadTrust(f"{trust.directory}: {CA}, {CERTIFICATE} and {KEY} cannot be used: {reason}") from error
    return context


def _load_own(context: ssl.SSLContext, trust: Trust) -> None:
    context.load_cert_chain(trust.certificate, trust.key, _no_password)


def _no_password() -> str:
    raise ValueError("want a key that is not encrypted: nobody is there to say its password")
