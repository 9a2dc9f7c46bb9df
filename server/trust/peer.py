"""
Who has come: what the certificate says that was shown, and whether that lets anybody in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from service_identity import CertificateError
from service_identity.hazmat import DNSPattern

from hostline.protocol.errors import BadValue, Denied
from hostline.protocol.names import certificate_name

if TYPE_CHECKING:
    from hostline.server.trust.revoked import Revoked

#: Names that a certificate may have; each is looked up at every request.
MOST_NAMES = 32
#: Who signed it (RFC 4514: as text, however it is encoded), and its number there: what tells it from all others.
Issued = tuple[str, int]


@frozen
class Shown:
    """
    What a certificate says of who shows it.

    @ivar names: L{hostline.protocol.names.certificate_name}; there is one at least.
    @ivar number: its serial number, in hexadecimal.
    @ivar until: Unix seconds; then it, or one above it, has expired.
    @ivar chain: the certificate, and those between it and the root.
    @ivar root: SHA-256 of the authority that all of it hangs on; empty if that was not told.
    """

    names: tuple[str, ...]
    number: str
    until: float
    chain: tuple[Issued, ...]
    root: bytes = b""


def read_chain(chain: Sequence[bytes]) -> Shown:
    """
    Read what was shown, and was found to hang on an authority that we believe.

    @param chain: DER of the certificate, then of what is above it, the root last; or of the certificate alone.
    @raise Denied: if it cannot be that of anybody here; the message says why, to who shows it.
    """
    try:
        read = [x509.load_der_x509_certificate(one) for one in chain]
        own = read[0]
        names = names_in(own)
        if not is_for_clients(own):
            raise Denied("the certificate is for another purpose: its extendedKeyUsage has no clientAuth")
        below_root = read[:-1] if len(read) > 1 else read
        issued = tuple((one.issuer.rfc4514_string(), one.serial_number) for one in below_root)
        until = min(one.not_valid_after_utc.timestamp() for one in read)
    except (ValueError, TypeError, IndexError, x509.InvalidVersion, x509.UnsupportedGeneralNameType) as error:
        raise Denied(f"the certificate cannot be read: {error}") from error
    if len(names) > MOST_NAMES:
        raise Denied(f"want a certificate of at most {MOST_NAMES} names, got {len(names)}")
    if not names:
        raise Denied("the certificate has no name: want a DNS name or a URN in its subjectAltName")
    root = hashlib.sha256(chain[-1]).digest() if len(chain) > 1 else b""
    return Shown(names, f"{own.serial_number:x}", until, issued, root)


def why_not(shown: Shown, revoked: Revoked, now: float) -> str | None:
    """
    @return: why this is no longer to be believed; None if it still is.
    """
    if any(one in revoked for one in shown.chain):
        return "the certificate is revoked"
    if shown.until <= now:
        return "the certificate has expired"
    return None


def names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """
    The names that can be a user's, each once: DNS names and URNs in subjectAltName. Others there, wildcards among them,
    count for nothing, and neither does the subject's CN, where anything may stand.

    @raise ValueError: if there is no making out what stands there.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    except x509.DuplicateExtension as error:
        raise ValueError(str(error)) from error
    # Not service_identity's extract_patterns: it takes a URI for PROTOCOL:HOST, which no URN is.
    found = [_name(_dns, one) for one in names.get_values_for_type(x509.DNSName)]
    found += [_name(_urn, one) for one in names.get_values_for_type(x509.UniformResourceIdentifier)]
    return tuple(dict.fromkeys(one for one in found if one is not None))


def is_for_clients(certificate: x509.Certificate) -> bool:
    """
    Whether the certificate may be shown by who connects: it says so, or says nothing of its purpose.
    """
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.CLIENT_AUTH in purposes


def _name(read: Callable[[str], str], text: str) -> str | None:
    try:
        return read(text)
    except (BadValue, CertificateError, UnicodeError):
        return None


def _dns(text: str) -> str:
    DNSPattern.from_bytes(text.encode("ascii"))  # it cuts blanks off, which are no part of any name
    # With its prefix, so that no DNS name is ever taken for a URN.
    return certificate_name("dns:" + text)


def _urn(text: str) -> str:
    if not text[:4].lower() == "urn:":
        raise BadValue("want a URN")  # dns:... is a URI too (RFC 4501), but none of these
    return certificate_name(text)
