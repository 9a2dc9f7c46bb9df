"""
Tickets for tests: CMS put together piece by piece, so that each piece can be wrong, and records to go in.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from pyasn1.codec.der import decoder, encoder  # type: ignore[import-untyped]
from pyasn1.type import univ  # type: ignore[import-untyped]
from pyasn1_modules import rfc5280, rfc5652  # type: ignore[import-untyped]

from tests.certificates import EMAIL, Authority, Signed

SHA256 = "2.16.840.1.101.3.4.2.1"
ECDSA, ED25519 = "1.2.840.10045.4.3.2", "1.3.101.112"
DATA, SIGNED = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2"
TYPE, DIGEST, TIME = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4", "1.2.840.113549.1.9.5"

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann"
#: What the certificate of a signer says of its use.
FOR_SIGNATURES = x509.KeyUsage(True, False, False, False, False, False, False, False, False)


def signer(authority: Authority, name: str = "ann", **more: Any) -> Signed:
    """
    A signer of tickets.
    """
    more = {"purposes": (EMAIL,), "more": [(FOR_SIGNATURES, True)], **more}
    return authority.sign(common_name=name, **more)


def text(der: bytes) -> str:
    """
    PEM.
    """
    return f"-----BEGIN CMS-----\n{base64.encodebytes(der).decode()}-----END CMS-----\n"


def written(record: Any) -> bytes:
    """
    A record as it is signed; bytes stay as they are.
    """
    return record if isinstance(record, bytes) else json.dumps(record).encode()


def cms(
    content: bytes,
    by: Signed,
    *,
    certificates: tuple[bytes, ...] | None = None,
    attributes: list[tuple[str, list[Any]]] | None = None,
    edited: Any = None,
    inner: str = DATA,
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | None = None,
) -> bytes:
    """
    SignedData over a content, by one signer.

    @param certificates: DER of those that are in it; None: the signer's and those above it.
    @param attributes: what is signed besides type and digest; with one of these its values take their place.
    @param edited: called with the SignedData before it is written.
    @param key: signs, instead of the signer's own.
    @return: DER of the ContentInfo.
    """
    hashed = hashes.Hash(hashes.SHA256())
    hashed.update(content)
    said: dict[str, list[list[Any]]] = {
        TYPE: [[rfc5652.ContentType(inner)]],
        DIGEST: [[rfc5652.MessageDigest(hashed.finalize())]],
    }
    for name, values in attributes or []:
        if name in said and not values:
            del said[name]
        else:
            said.setdefault(name, []).append(values)
    signing = key or by.key
    algorithm = ED25519 if isinstance(signing, ed25519.Ed25519PrivateKey) else ECDSA
    info = rfc5652.SignerInfo()
    info["version"] = 1
    known, _ = decoder.decode(by.der, asn1Spec=rfc5280.Certificate())
    info["sid"]["issuerAndSerialNumber"]["issuer"] = known["tbsCertificate"]["issuer"]
    info["sid"]["issuerAndSerialNumber"]["serialNumber"] = known["tbsCertificate"]["serialNumber"]
    info["digestAlgorithm"]["algorithm"] = SHA256
    info["signatureAlgorithm"]["algorithm"] = algorithm
    for name, several in said.items():
        for values in several:
            one = rfc5652.Attribute()
            one["attrType"] = name
            one["attrValues"].extend(univ.Any(encoder.encode(value)) for value in values)
            info["signedAttrs"].append(one)
    over = b"\x31" + encoder.encode(info["signedAttrs"])[1:]
    if isinstance(signing, ed25519.Ed25519PrivateKey):
        info["signature"] = signing.sign(over)
    else:
        info["signature"] = signing.sign(over, ec.ECDSA(hashes.SHA256()))
    signed = rfc5652.SignedData()
    signed["version"] = 1
    digest = rfc5652.DigestAlgorithmIdentifier()
    digest["algorithm"] = SHA256
    signed["digestAlgorithms"].append(digest)
    signed["encapContentInfo"]["eContentType"] = inner
    signed["encapContentInfo"]["eContent"] = content
    for der in certificates if certificates is not None else _chain(by):
        choice = rfc5652.CertificateChoices()
        choice["certificate"] = decoder.decode(der, asn1Spec=rfc5280.Certificate())[0]
        signed["certificates"].append(choice)
    signed["signerInfos"].append(info)
    if edited is not None:
        edited(signed)
    return wrapped(SIGNED, encoder.encode(signed))


def wrapped(kind: str, content: bytes) -> bytes:
    """
    A ContentInfo.
    """
    info = rfc5652.ContentInfo()
    info["contentType"] = kind
    info["content"] = univ.Any(content)
    encoded: bytes = encoder.encode(info)
    return encoded


def _chain(by: Signed) -> tuple[bytes, ...]:
    above = x509.load_pem_x509_certificates(by.above) if by.above else []
    return (by.der, *(one.public_bytes(Encoding.DER) for one in above))
