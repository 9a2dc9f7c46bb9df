"""
What has been taken back: certificates that their authority has revoked, as it says in lists that it signs.

A list says what is revoked for as long as there is no newer one: past the time when the next was due, it is still
believed, and so are the certificates that are not on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attrs import field, frozen
from cryptography import x509

from hostline.server.trust.files import BadTrust
from hostline.server.trust.peer import Issued

_ONE = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@frozen
class Listed:
    """
    One list.

    @ivar issuer: who signed it, in the manner of RFC 4514.
    @ivar issued: Unix seconds; C{due} when the next one is, None if that is not said.
    @ivar count: how many certificates are on it.
    """

    issuer: str
    issued: float
    due: float | None
    count: int


@frozen
class Revoked:
    """
    All that is revoked.
    """

    lists: tuple[Listed, ...] = ()
    _issued: frozenset[Issued] = field(default=frozenset(), repr=False)

    def __contains__(self, issued: Issued) -> bool:
        return issued in self._issued

    def __or__(self, other: Revoked) -> Revoked:
        return Revoked(self.lists + other.lists, self._issued | other._issued)

    def overdue(self, now: float) -> list[Listed]:
        """
        @return: those lists in whose place there should be newer ones.
        """
        return [one for one in self.lists if one.due is not None and one.due <= now]


def read_lists(data: bytes, authorities: Sequence[x509.Certificate], name: str) -> Revoked:
    """
    @param data: PEM of one list or several.
    @param authorities: those one of which must have signed each.
    @param name: of the file, for the error.
    @raise BadTrust: if one of them cannot be read, or nobody whom we believe has signed it.
    """
    found = _ONE.findall(data)
    if not found:
        raise BadTrust(f"{name}: want a list of revoked certificates in PEM")
    revoked = Revoked()
    for one in found:
        try:
            crl = x509.load_pem_x509_crl(one)
            _check_extensions(crl)
            _check_signature(crl, authorities)
            issuer = crl.issuer.rfc4514_string()
            entries = frozenset((issuer, entry.serial_number) for entry in crl)
            due = crl.next_update_utc
            listed = Listed(
                issuer,
                crl.last_update_utc.timestamp(),
                due.timestamp() if due is not None else None,
                len(entries),
            )
        except (ValueError, TypeError, x509.InvalidVersion) as error:
            raise BadTrust(f"{name}: a list of revoked certificates cannot be used: {error}") from error
        revoked |= Revoked((listed,), entries)
    return revoked


def _check_signature(crl: x509.CertificateRevocationList, authorities: Iterable[x509.Certificate]) -> None:
    for one in authorities:
        # One authority may stand there with several keys, or one key with several certificates.
        if one.subject == crl.issuer and _may_sign_lists(one) and _is_signed(crl, one):
            return
    raise ValueError(f"none of our authorities has signed the one of {crl.issuer.rfc4514_string() or 'nobody'}")


def _is_signed(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except TypeError:  # a kind of key that signs nothing
        return False


def _may_sign_lists(authority: x509.Certificate) -> bool:
    try:
        return authority.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _check_extensions(crl: x509.CertificateRevocationList) -> None:
    # Parts of a list, changes to one and lists of others' certificates say so in critical extensions (RFC 5280, 5.2).
    for one in crl.extensions:
        if one.critical:
            raise ValueError(f"want a whole list of its signer's own certificates: {one.oid.dotted_string} is critical")
