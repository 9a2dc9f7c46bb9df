"""
Certificates for tests: authorities, and all the good and bad ones that they, or nobody, signed.

Times are relative to now: what has expired, has expired when the test runs.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: One day, and what extendedKeyUsage may say.
DAY = 86400.0
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
CODE_SIGNING, EMAIL = ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION


class Signed:
    """
    A certificate and its key.

    @ivar above: PEM of the chain above it, without the root.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, above: bytes = b"") -> None:
        self.certificate = certificate
        self.key = key
        self.above = above

    @property
    def number(self) -> str:
        """
        Its serial number, in hexadecimal.
        """
        return f"{self.certificate.serial_number:x}"

    @property
    def pem(self) -> bytes:
        """
        The certificate, then the chain.
        """
        return self.certificate.public_bytes(Encoding.PEM) + self.above

    @property
    def der(self) -> bytes:
        """
        The certificate alone.
        """
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        """
        The key, PKCS 8, not encrypted.
        """
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, directory: Path, ca: bytes | None = None) -> Path:
        """
        Write C{cert.pem} and C{key.pem}, and C{ca.pem} if it is given, into a directory of trust.
        """
        directory.mkdir(0o700, parents=True, exist_ok=True)
        for name, data in (("cert.pem", self.pem), ("key.pem", self.key_pem), ("ca.pem", ca)):
            if data is not None:
                (directory / name).write_bytes(data)
                (directory / name).chmod(0o600)
        return directory


class Authority(Signed):
    """
    A certificate authority; by itself a root.
    """

    def __init__(
        self,
        name: str = "site CA",
        under: Authority | None = None,
        begins_s: float = -DAY,
        ends_s: float = 30 * DAY,
        path_length: int | None = None,
    ) -> None:
        """
        @param under: the authority that signs it; None: itself.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = (
            _builder(subject, under.certificate.subject if under else subject, key, begins_s, ends_s)
            .add_extension(x509.BasicConstraints(True, path_length), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
        )
        above = b"" if under is None or under.certificate.issuer == under.certificate.subject else under.pem
        super().__init__(builder.sign(under.key if under else key, hashes.SHA256()), key, above)

    def sign(
        self,
        *names: str | x509.GeneralName,
        purposes: Sequence[x509.ObjectIdentifier] | None = (CLIENT, SERVER),
        begins_s: float = -3600.0,
        ends_s: float = DAY,
        common_name: str = "",
        number: int | None = None,
        authority: bool = False,
        more: Iterable[tuple[x509.ExtensionType, bool]] = (),
    ) -> Signed:
        """
        A certificate of an end.

        @param names: for subjectAltName: those with a colon as URI, others as DNS; none: no such extension.
        @param purposes: for extendedKeyUsage; None: no such extension.
        @param authority: whether it says that it is an authority itself.
        @param more: further extensions, and whether they are critical.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name), self.certificate.subject, key, begins_s, ends_s, number)
        builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(one) for one in names]), critical=not common_name
            )
        if purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        for extension, critical in more:
            builder = builder.add_extension(extension, critical=critical)
        above = b"" if self.certificate.issuer == self.certificate.subject else self.pem
        return Signed(builder.sign(self.key, hashes.SHA256()), key, above)

    def revoke(self, *revoked: Signed, begins_s: float = -60.0, ends_s: float = DAY, number: int = 1) -> bytes:
        """
        @return: PEM of a list of revoked certificates.
        """
        now = _now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now + datetime.timedelta(seconds=begins_s))
            .next_update(now + datetime.timedelta(seconds=ends_s))
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def self_signed(*names: str, ends_s: float = DAY) -> Signed:
    """
    A certificate that nobody vouches for but itself.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("myself")
    builder = _builder(subject, subject, key, -3600.0, ends_s).add_extension(
        x509.SubjectAlternativeName([_general(one) for one in names]), critical=False
    )
    return Signed(builder.sign(key, hashes.SHA256()), key)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def _general(name: str | x509.GeneralName) -> x509.GeneralName:
    if isinstance(name, x509.GeneralName):
        return name
    return x509.UniformResourceIdentifier(name) if ":" in name else x509.DNSName(name)


def _usage(sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins_s: float,
    ends_s: float,
    number: int | None = None,
) -> x509.CertificateBuilder:
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(number if number is not None else x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(seconds=begins_s))
        .not_valid_after(now + datetime.timedelta(seconds=ends_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
