"""
CMS SignedData (RFC 5652), as far as a ticket may be: one signer, the content inside, signed attributes, strict DER.

Pure, and meant for bytes that nobody has looked at: whatever they are, there is a L{Signed} or a L{BadTicket}.
"""

from __future__ import annotations

import binascii
import re
from typing import Any

from attrs import frozen
from cryptography.hazmat.primitives import hashes
from pyasn1.codec.der import encoder  # type: ignore[import-untyped]
from pyasn1_modules import rfc5652  # type: ignore[import-untyped]

from hostline.protocol.errors import BadTicket
from hostline.server.slivers.der import NotDer, walk
from hostline.server.slivers.signature import DIGESTS, Signature, bad, decoded, digest_name, read_scheme

#: Bytes of a ticket as it is given, PEM or base64; and how many certificates may be in it.
LONGEST, CERTIFICATES = 65536, 8
_DATA, _SIGNED = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2"
_OTHERS = {
    "1.2.840.113549.1.7.3": "enveloped data",
    "1.2.840.113549.1.7.5": "digested data",
    "1.2.840.113549.1.7.6": "encrypted data",
    "1.2.840.113549.1.9.16.1.2": "authenticated data",
    "1.2.840.113549.1.9.16.1.23": "authenticated-enveloped data",
    "1.2.840.113549.1.9.16.1.9": "compressed data",
}
_CONTENT_TYPE, _DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_PEM = re.compile(
    r"\s*-----BEGIN (CMS|PKCS7|[A-Z0-9 ]{1,40})-----\r?\n([A-Za-z0-9+/=\r\n]*?)\r?\n?-----END \1-----\s*", re.ASCII
)
_JSON = re.compile(rb"\s*\{")
#: What S/MIME says of a message that is CMS in base64, and of one with the content beside its signature.
_MIME, _BESIDE = re.compile(r"application/(x-)?pkcs7-mime\b", re.I), re.compile(r"multipart/signed\b", re.I)


@frozen
class Signed:
    """
    A signed content, its signature not looked at yet.

    @ivar signer: the certificate of whoever signed, DER; C{others}: further certificates, DER.
    @ivar signature: over the signed attributes, which have the digest of the content.
    """

    content: bytes
    signer: bytes
    others: tuple[bytes, ...]
    signature: Signature


def unarmoured(text: str) -> bytes:
    """
    The bytes of a ticket, given as PEM, as plain base64, or as C{openssl cms} writes it if nothing is said: in S/MIME.

    @raise BadTicket: if it is none of them, or too long.
    """
    if len(text.encode("utf-8", "surrogatepass")) > LONGEST:
        raise bad("size", f"want a ticket of at most {LONGEST} bytes")
    found = _PEM.fullmatch(text)
    if found and found[1] not in ("CMS", "PKCS7"):
        raise bad("form", f"want PEM of CMS, got {found[1]}")
    if not found and _JSON.match(text.encode("utf-8", "replace")):
        raise bad("unsigned", "the ticket is not signed: it is the record alone")
    try:
        data = binascii.a2b_base64("".join((found[2] if found else _body(text)).split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise bad("form", "want CMS as PEM, or DER in base64 (openssl cms -sign -nodetach -outform PEM)") from None
    if _JSON.match(data):
        raise bad("unsigned", "the ticket is not signed: it is the record alone")
    return data


def _body(text: str) -> str:
    """
    @return: what stands behind the headers of S/MIME; the text itself if it has none.
    """
    if not text.startswith("MIME-Version:"):
        return text
    headers, _, body = text.replace("\r\n", "\n").partition("\n\n")
    if _BESIDE.search(headers):
        raise _detached()
    return body if _MIME.search(headers) else text


def _detached() -> BadTicket:
    return bad("form", "the signature is detached: want the record in the ticket (-nodetach)")


def read_signed(data: bytes) -> Signed:
    """
    Take a SignedData apart.

    @param data: DER of a ContentInfo.
    @raise BadTicket: if it is anything but one content with one signature.
    """
    try:
        walk(data)
    except NotDer as error:
        raise bad("form", f"want CMS in DER: {error}") from None
    info = decoded(data, rfc5652.ContentInfo())
    kind = str(info["contentType"])
    if kind == _DATA:
        raise bad("unsigned", "the ticket is not signed: it is CMS of plain data")
    if kind != _SIGNED:
        raise bad("form", f"want CMS of signed data, got {_OTHERS.get(kind, 'something else')}")
    signed = decoded(bytes(info["content"]), rfc5652.SignedData())
    signers = signed["signerInfos"]
    if len(signers) == 0:
        raise bad("unsigned", "the ticket is not signed: nobody's signature is in it")
    if len(signers) > 1:
        raise bad("signers", f"want one signer, got {len(signers)}")
    if signed["crls"].isValue or signers[0]["unsignedAttrs"].isValue:
        raise bad("form", "want nothing in it that is not signed: it has lists of revoked, or unsigned attributes")
    content = _content(signed["encapContentInfo"])
    return _of_signer(signed, signers[0], content)


def _content(inner: Any) -> bytes:
    kind = str(inner["eContentType"])
    if kind in (_SIGNED, *_OTHERS):
        raise bad("form", "want a record inside, got CMS in CMS")
    if kind != _DATA:
        raise bad("form", "want plain data inside, got another type of content")
    if not inner["eContent"].isValue:
        raise _detached()
    content = bytes(inner["eContent"])
    # Not only by its type may there be another one inside.
    if content[:1] == b"\x30":
        raise bad("form", "want a record inside, got CMS in CMS, or other DER")
    return content


def _of_signer(signed: Any, info: Any, content: bytes) -> Signed:
    name = digest_name(info["digestAlgorithm"])
    if [digest_name(one) for one in signed["digestAlgorithms"]] != [name]:
        raise bad("form", "want the digest of its signer named, and no other")
    digest = DIGESTS[name]
    scheme, salt = read_scheme(info["signatureAlgorithm"], name)
    if not info["signedAttrs"].isValue:
        raise bad("form", "want signed attributes, got none (-noattr)")
    attributes = _attributes(info["signedAttrs"])
    if attributes.get(_CONTENT_TYPE) != _encoded(rfc5652.ContentType(_DATA)):
        raise bad("form", "want the content's type among what is signed")
    if _DIGEST not in attributes:
        raise bad("form", "want the content's digest among what is signed")
    hashed = hashes.Hash(digest)
    hashed.update(content)
    if attributes[_DIGEST] != _encoded(rfc5652.MessageDigest(hashed.finalize())):
        raise bad("altered", "the content is not what was signed: it was altered")
    certificate, others = _certificates(signed, info["sid"])
    by_key = info["sid"].getName() == "subjectKeyIdentifier"
    if (int(info["version"]), int(signed["version"])) != ((3, 3) if by_key else (1, 1)):
        raise bad("form", "want the version of CMS that its parts ask for")
    # What was signed is the SET OF (RFC 5652, 5.4), which stands in the message under another tag.
    shown = encoder.encode(info["signedAttrs"])
    signature = Signature(bytes(info["signature"]), b"\x31" + shown[1:], digest, scheme, salt)
    return Signed(content, certificate, others, signature)


def _attributes(found: Any) -> dict[str, bytes]:
    """
    @return: the only value of each attribute, DER, by object identifier.
    """
    attributes: dict[str, bytes] = {}
    for one in found:
        name = str(one["attrType"])
        if name in attributes:
            raise bad("form", "an attribute that is there twice")
        values = [bytes(value) for value in one["attrValues"]]
        if len(values) != 1 and name in (_CONTENT_TYPE, _DIGEST):
            raise bad("form", "an attribute without a value, or with two")
        attributes[name] = values[0] if len(values) == 1 else b""
    return attributes


def _encoded(value: Any) -> bytes:
    encoded: bytes = encoder.encode(value)
    return encoded


def _certificates(signed: Any, sid: Any) -> tuple[bytes, tuple[bytes, ...]]:
    """
    @return: the signer's, and the others.
    """
    choices = list(signed["certificates"]) if signed["certificates"].isValue else []
    if len(choices) > CERTIFICATES:
        raise bad("form", f"want at most {CERTIFICATES} certificates, got {len(choices)}")
    if any(one.getName() != "certificate" for one in choices):
        raise bad("form", "want X.509 certificates, got others")
    its: list[bytes] = []
    others: list[bytes] = []
    for one in choices:
        der = _encoded(one["certificate"])
        (its if _meant(one["certificate"]["tbsCertificate"], sid) else others).append(der)
    if len(its) != 1:
        raise bad("form", f"want the signer's certificate in the ticket once, got it {len(its)} times")
    return its[0], tuple(others)


def _meant(certificate: Any, sid: Any) -> bool:
    if sid.getName() == "issuerAndSerialNumber":
        named = sid["issuerAndSerialNumber"]
        return bool(
            named["serialNumber"] == certificate["serialNumber"]
            and _encoded(named["issuer"]) == _encoded(certificate["issuer"])
        )
    extensions = certificate["extensions"] if certificate["extensions"].isValue else ()
    wanted = _encoded(rfc5652.SubjectKeyIdentifier(bytes(sid["subjectKeyIdentifier"])))
    wanted = b"\x04" + wanted[1:]
    return any(str(one["extnID"]) == "2.5.29.14" and bytes(one["extnValue"]) == wanted for one in extensions)
