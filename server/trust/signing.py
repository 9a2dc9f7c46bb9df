"""
What a certificate authority signs: its own certificate, others' certificates, and the list of what it has revoked.

Pure: keys and names in, PEM out; no file, no clock, no record. All of it by C{cryptography}.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

#: What certificates are for, and what is said of that in them: a ticket's signer is what C{openssl cms} wants it to be.
PURPOSES: dict[str, tuple[ObjectIdentifier, ...]] = {
    "host": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    "user": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    "ticket": (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
}
#: A certificate is good from so many seconds before it was signed, for clocks that are slow.
EARLY_S = 300
#: Seconds for which a list of what is revoked is good.
CRL_LIFE_S = 14 * 86400.0
#: The most characters of a common name (RFC 5280, upper bounds).
_COMMON = 64
#: What is raised for what cannot be read, or has not what it must have.
_WRONG = (ValueError, TypeError, x509.InvalidVersion, x509.ExtensionNotFound, x509.DuplicateExtension)


class BadAuthority(Exception):
    """
    An authority cannot be used; the message says why.
    """


class Authority(NamedTuple):
    """
    The key that signs, and its certificate.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> str:
        """
        SHA-256 of the certificate's DER, in hexadecimal.
        """
        return self.certificate.fingerprint(SHA256()).hex()

    @property
    def until(self) -> float:
        """
        Unix seconds at which it ends.
        """
        return self.certificate.not_valid_after_utc.timestamp()

    @property
    def pem(self) -> bytes:
        """
        The certificate.
        """
        return self.certificate.public_bytes(Encoding.PEM)


def new_key() -> ec.EllipticCurvePrivateKey:
    """
    @return: a key on P-256.
    """
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """
    @return: PKCS #8, without a passphrase.
    """
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """
    @return: the public key, SubjectPublicKeyInfo.
    """
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def request(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> bytes:
    """
    @param names: as for L{sign}.
    @return: a request for a certificate, PEM.
    """
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(names[0].removeprefix("dns:")))
        .add_extension(x509.SubjectAlternativeName([_general(one) for one in names]), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )


def new_authority(host: str, now: float, life_s: float) -> Authority:
    """
    @param host: where it is, for people.
    """
    key = new_key()
    number = _number()
    name = _name(f"hostline authority {f'{number:x}'[:8]} of {host}")
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(number)
        .not_valid_before(_moment(now - EARLY_S))
        .not_valid_after(_moment(now + life_s))
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(own, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
    )
    return Authority(key, builder.sign(key, SHA256()))


def read_authority(certificate: bytes, key: bytes) -> Authority:
    """
    @raise BadAuthority: if they are no authority's, or not one's.
    """
    try:
        found = read_certificate(certificate)
        own = load_pem_private_key(key, None)
        constraints = found.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
        found.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        if not (constraints.ca and usage.key_cert_sign and usage.crl_sign):
            raise BadAuthority("the certificate may not sign others")
        if not isinstance(own, ec.EllipticCurvePrivateKey) or own.public_key() != found.public_key():
            raise BadAuthority("the key is not that of the certificate")
    except _WRONG as error:
        raise BadAuthority(str(error)) from error
    return Authority(own, found)


def read_certificate(data: bytes) -> x509.Certificate:
    """
    @return: the first certificate in a PEM.
    @raise BadAuthority: if there is none.
    """
    try:
        return x509.load_pem_x509_certificate(data)
    except _WRONG as error:
        raise BadAuthority(str(error)) from error


def sign(
    authority: Authority, key: str, names: Sequence[str], purpose: str, life_s: float, now: float
) -> x509.Certificate:
    """
    A certificate; it ends with the authority at the latest.

    @param key: the public key, SubjectPublicKeyInfo as PEM.
    @param names: L{hostline.protocol.names.certificate_name}, at least one.
    @param purpose: one of L{PURPOSES}.
    """
    public = load_pem_public_key(key.encode("ascii"))
    known = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(_name(names[0].removeprefix("dns:")))
        .issuer_name(authority.certificate.subject)
        .public_key(public)  # type: ignore[arg-type]
        .serial_number(_number())
        # Of a short life only a part, or two thirds of it would be over at once.
        .not_valid_before(_moment(now - min(EARLY_S, life_s / 10)))
        .not_valid_after(min(_moment(now + life_s), authority.certificate.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName([_general(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(PURPOSES[purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)  # type: ignore[arg-type]
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known), critical=False)
        .sign(authority.key, SHA256())
    )


def revocations(authority: Authority, revoked: Mapping[int, float], now: float, serial: int) -> bytes:
    """
    The list of what is revoked, good for L{CRL_LIFE_S}.

    @param revoked: since when, by serial number.
    @param serial: the list's own number, higher than that of each before it.
    """
    known = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(_moment(now - EARLY_S))
        .next_update(_moment(now + CRL_LIFE_S))
        .add_extension(x509.CRLNumber(serial), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known), critical=False)
    )
    entry = x509.RevokedCertificateBuilder()
    for number, since in sorted(revoked.items()):
        builder = builder.add_revoked_certificate(entry.serial_number(number).revocation_date(_moment(since)).build())
    return builder.sign(authority.key, SHA256()).public_bytes(Encoding.PEM)


class Revocations(NamedTuple):
    """
    A list of what is revoked, read.

    @ivar revoked: since when, by serial number.
    @ivar serial: its own number.
    @ivar made: Unix seconds when it was made, and C{until} when it is no longer good.
    """

    revoked: dict[int, float]
    serial: int
    made: float
    until: float


def read_revocations(authority: Authority, data: bytes) -> Revocations:
    """
    @raise BadAuthority: if it is no such list, or not of this authority.
    """
    try:
        found = x509.load_pem_x509_crl(data)
        if not found.is_signature_valid(authority.key.public_key()):
            raise BadAuthority("it is not signed by this authority")
        serial = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        ends = found.next_update_utc
        revoked = {one.serial_number: one.revocation_date_utc.timestamp() for one in found}
    except _WRONG as error:
        raise BadAuthority(str(error)) from error
    made = found.last_update_utc.timestamp() + EARLY_S
    return Revocations(revoked, serial, made, ends.timestamp() if ends is not None else made)


def number_of(certificate: x509.Certificate) -> str:
    """
    @return: its serial number as records have it: in hexadecimal, lower case, without zeros before it.
    """
    return f"{certificate.serial_number:x}"


def names_in(certificate: x509.Certificate) -> list[str]:
    """
    @return: the names that we put in, as we write them.
    @raise BadAuthority: if there are none.
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except _WRONG as error:
        raise BadAuthority(str(error)) from error
    return [*(f"dns:{one}" for one in found.get_values_for_type(x509.DNSName)),
            *found.get_values_for_type(x509.UniformResourceIdentifier)]  # fmt: skip


def _number() -> int:
    # 128 bits of which the first is set, so that it is written one way, with zeros before it or without.
    return 1 << 127 | secrets.randbits(127)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:_COMMON])])


def _general(name: str) -> x509.GeneralName:
    if name.startswith("dns:"):
        return x509.DNSName(name.removeprefix("dns:"))
    return x509.UniformResourceIdentifier(name)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
