"""
Who vouches for the signer of a ticket: the path from its certificate to an authority that is believed.

Pure. Written by hand because C{cryptography.x509.verification} takes the keys of the web's authorities only: no
Ed25519, and no way to say so (pyca/cryptography issue 13391); and because it tells why it refuses in words alone.
Signatures and issuers are checked by its C{verify_directly_issued_by}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from attrs import define, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from hostline.protocol.errors import BadTicket
from hostline.server.slivers.signature import bad, check_key

_T = TypeVar("_T", bound=x509.ExtensionType)

#: How many authorities may be between the signer and a root, and how many signatures are looked at to find a path.
BETWEEN, SIGNATURES = 4, 64
#: Authorities that may be believed, and lists of revoked ones.
MOST = 256

_PURPOSES = {ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
#: Extensions that may be critical: what they say is looked at here, or cannot narrow what is looked at.
_KNOWN = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.CERTIFICATE_POLICIES,
}
_DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
#: What cryptography raises on certificates that it cannot make sense of.
_SENSELESS = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@frozen
class Believed:
    """
    @ivar roots: authorities that are believed; C{revoked}: lists of what some authorities have revoked.
    """

    roots: tuple[x509.Certificate, ...]
    revoked: tuple[x509.CertificateRevocationList, ...] = ()


def read_believed(roots: str, revoked: str) -> Believed:
    """
    @param roots: PEM of certificates; C{revoked}: PEM of lists; either may be empty.
    @raise ValueError: if one of them is something else.
    """
    found = x509.load_pem_x509_certificates(roots.encode()) if roots.strip() else []
    end = "-----END X509 CRL-----"
    pieces = revoked.split(end)
    if pieces.pop().strip() or max(len(found), len(pieces)) > MOST:
        raise ValueError(f"want PEM of at most {MOST} certificates, and of as many lists of revoked ones")
    lists = [x509.load_pem_x509_crl((piece + end).encode()) for piece in pieces]
    return Believed(tuple(found), tuple(lists))


def read_certificate(der: bytes) -> x509.Certificate:
    """
    @raise BadTicket: if it is none.
    """
    try:
        found = x509.load_der_x509_certificate(der)
        _ = found.extensions, found.subject, found.issuer, found.public_key()
    except _SENSELESS:
        raise bad("form", "a certificate in the ticket cannot be read") from None
    return found


def vouch(
    signer: x509.Certificate, others: Sequence[x509.Certificate], believed: Believed, now: float
) -> x509.Certificate:
    """
    Find the authority that vouches for a signer.

    @param others: certificates that came with the ticket.
    @param now: Unix seconds.
    @return: the root.
    @raise BadTicket: if none does (C{root}); if the signer or who is between has expired or is not valid yet
        (C{expired}), is for another purpose (C{purpose}), weak (C{algorithm}) or revoked (C{revoked}).
    """
    if not _strong(signer):
        raise bad("algorithm", f"the certificate of {_named(signer)} is signed by a weak algorithm")
    at = datetime.fromtimestamp(now, UTC)
    first: BadTicket | None = None
    for path in _paths([signer], others, believed.roots, _Effort()):
        try:
            _check(path, at, believed.revoked)
            return path[-1]
        except BadTicket as error:
            first = first or error
    raise first or bad("root", "nobody whom this host believes vouches for the signer")


@define
class _Effort:
    left: int = SIGNATURES


def _paths(
    path: list[x509.Certificate],
    others: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    effort: _Effort,
) -> Iterator[list[x509.Certificate]]:
    """
    The paths on which each is signed by the next, which is an authority, up to a root.
    """
    last = path[-1]
    for root in roots:
        if root == last and len(path) > 1:
            continue
        if _issued(last, root, effort):
            yield [*path, root]
    if len(path) > BETWEEN:
        return
    for one in others:
        if one not in path and one not in roots and _issued(last, one, effort):
            yield from _paths([*path, one], others, roots, effort)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, effort: _Effort) -> bool:
    if certificate.issuer != issuer.subject or not _is_authority(issuer) or effort.left <= 0:
        return False
    effort.left -= 1
    try:
        certificate.verify_directly_issued_by(issuer)
    except _SENSELESS:
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    """
    Whether it may sign certificates: it says so, and nothing else (RFC 5280, 4.2.1.3 and 4.2.1.9).
    """
    try:
        basic = _extension(certificate, x509.BasicConstraints)
        usage = _extension(certificate, x509.KeyUsage)
    except _SENSELESS:
        return False
    return basic is not None and basic.ca and (usage is None or usage.key_cert_sign)


def _check(path: Sequence[x509.Certificate], at: datetime, revoked: Sequence[x509.CertificateRevocationList]) -> None:
    """
    @param path: from the signer to the root.
    @raise BadTicket: if one of them is not fit for its part.
    """
    signer, *above = path
    _check_purpose(signer)
    for length, one in enumerate(above):
        limit = _extension(one, x509.BasicConstraints)
        between = sum(lower.subject != lower.issuer for lower in above[:length])
        if limit is not None and limit.path_length is not None and between > limit.path_length:
            raise bad("root", f"the authority {_named(one)} vouches for fewer authorities below it than there are")
        if _extension(one, x509.NameConstraints) is not None:
            raise bad("root", f"the authority {_named(one)} vouches for some names only, which is not looked at here")
    for one in path:
        what = "the signer" if one is signer else "the authority"
        strange = [each for each in one.extensions if each.critical and each.oid not in _KNOWN]
        if strange:
            raise bad(
                "purpose" if one is signer else "root",
                f"the certificate of {what} {_named(one)} has a critical extension that is not known here: "
                f"{strange[0].oid.dotted_string}",
            )
        if at > one.not_valid_after_utc:
            raise bad("expired", f"the certificate of {what} {_named(one)} has expired")
        if at < one.not_valid_before_utc:
            raise bad("expired", f"the certificate of {what} {_named(one)} is not valid yet")
        check_key(one.public_key(), f"the {what[4:]}'s")
    for one, issuer in zip(path, above, strict=False):
        if not _strong(one):
            raise bad("algorithm", f"the certificate of {_named(one)} is signed by a weak algorithm")
        _check_revoked(one, issuer, revoked)


def _check_purpose(signer: x509.Certificate) -> None:
    name = _named(signer)
    basic = _extension(signer, x509.BasicConstraints)
    usage = _extension(signer, x509.KeyUsage)
    purposes = _extension(signer, x509.ExtendedKeyUsage)
    if basic is not None and basic.ca:
        raise bad("purpose", f"the certificate of {name} is an authority's, which signs certificates, not tickets")
    if usage is None or not (usage.digital_signature or usage.content_commitment):
        raise bad("purpose", f"the certificate of {name} is not for signatures: want it in its keyUsage")
    if purposes is not None and _PURPOSES.isdisjoint(purposes):
        raise bad(
            "purpose",
            f"the certificate of {name} is for another purpose than tickets: want emailProtection in its "
            "extendedKeyUsage",
        )


def _check_revoked(
    certificate: x509.Certificate, issuer: x509.Certificate, lists: Sequence[x509.CertificateRevocationList]
) -> None:
    for one in lists:
        if one.issuer != issuer.subject or _another_key(one, issuer):
            continue
        try:
            good = one.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
        except _SENSELESS:
            good = False
        if not good:
            raise bad("revoked", f"what {_named(issuer)} has revoked cannot be told: the list is not signed by it")
        if one.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
            raise bad("revoked", f"the certificate of {_named(certificate)} is revoked")


def _another_key(one: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """
    Whether a list says that it is signed by another key of an authority, or of another one of the same name.
    """
    try:
        said = one.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        known = _extension(issuer, x509.SubjectKeyIdentifier)
    except (*_SENSELESS, x509.ExtensionNotFound):
        return False
    return said is not None and known is not None and said != known.digest


def _strong(certificate: x509.Certificate) -> bool:
    if certificate.signature_algorithm_oid == SignatureAlgorithmOID.ED25519:
        return True
    try:
        return isinstance(certificate.signature_hash_algorithm, _DIGESTS)
    except _SENSELESS:
        return False


def _extension(certificate: x509.Certificate, kind: type[_T]) -> _T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _named(certificate: x509.Certificate) -> str:
    """
    @return: its subject for people, not endless.
    """
    return ascii(certificate.subject.rfc4514_string())[1:-1][:100] or f"number {certificate.serial_number:x}"
