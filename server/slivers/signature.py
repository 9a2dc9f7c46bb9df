"""
Signatures of tickets: which are taken, and whether one is its key's. What is weak, or not known, is refused.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from pyasn1.codec.der import decoder, encoder  # type: ignore[import-untyped]
from pyasn1_modules import rfc4055  # type: ignore[import-untyped]

from hostline.protocol.errors import BadTicket

#: Bits of RSA keys: fewer are weak, more only slow.
RSA_BITS = range(2048, 8193)
CURVES = ("secp256r1", "secp384r1", "secp521r1")

_SHA2: Final = "2.16.840.1.101.3.4.2."
#: Digests by object identifier; none but these.
DIGESTS: Final[dict[str, hashes.HashAlgorithm]] = {
    _SHA2 + "1": hashes.SHA256(),
    _SHA2 + "2": hashes.SHA384(),
    _SHA2 + "3": hashes.SHA512(),
}
_WEAK = {"1.2.840.113549.2.5": "MD5", "1.3.14.3.2.26": "SHA-1", _SHA2 + "4": "SHA-224"}
_RSA, _PSS, _MGF1 = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10", "1.2.840.113549.1.1.8"
_ED25519 = "1.3.101.112"
#: Signatures that say their digest: scheme and digest by object identifier.
_NAMED = {
    "1.2.840.113549.1.1.11": (_RSA, _SHA2 + "1"),
    "1.2.840.113549.1.1.12": (_RSA, _SHA2 + "2"),
    "1.2.840.113549.1.1.13": (_RSA, _SHA2 + "3"),
    "1.2.840.10045.4.3.2": ("ecdsa", _SHA2 + "1"),
    "1.2.840.10045.4.3.3": ("ecdsa", _SHA2 + "2"),
    "1.2.840.10045.4.3.4": ("ecdsa", _SHA2 + "3"),
}
_NULL = b"\x05\x00"


@frozen
class Signature:
    """
    A signature that was not looked at yet.

    @ivar over: what was signed.
    @ivar scheme: C{ecdsa}, or an object identifier: RSA with PKCS 1 v1.5, PSS or Ed25519.
    @ivar salt: bytes of salt, of PSS.
    """

    value: bytes
    over: bytes
    digest: hashes.HashAlgorithm
    scheme: str
    salt: int


def bad(reason: str, message: str) -> BadTicket:
    """
    @return: the error that says why a ticket is not taken, in a word and in words.
    """
    return BadTicket(message, reason=reason)


def verify(signed: Signature, key: object) -> None:
    """
    Look at the signature.

    @param key: the public key of the signer's certificate.
    @raise BadTicket: if the signature is not that key's over these bytes, or the key is weak or of another kind.
    """
    check_key(key, "the signer's")
    try:
        if signed.scheme in (_RSA, _PSS) and isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(signed.digest), signed.salt)
            how = pss if signed.scheme == _PSS else padding.PKCS1v15()
            key.verify(signed.value, signed.over, how, signed.digest)
        elif signed.scheme == "ecdsa" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signed.value, signed.over, ec.ECDSA(signed.digest))
        elif signed.scheme == _ED25519 and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signed.value, signed.over)
        else:
            raise bad("algorithm", "the signature is of another kind than the signer's key")
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        raise bad("altered", "the signature is not the signer's over this ticket: it was altered") from None


def check_key(key: object, whose: str) -> None:
    """
    @raise BadTicket: if it is no strong key of a kind that is known.
    """
    if isinstance(key, rsa.RSAPublicKey):
        good = key.key_size in RSA_BITS
    elif isinstance(key, ec.EllipticCurvePublicKey):
        good = key.curve.name in CURVES
    else:
        good = isinstance(key, ed25519.Ed25519PublicKey)
    if not good:
        raise bad("algorithm", f"want {whose} key to be RSA of 2048 to 8192 bits, ECDSA on a NIST curve, or Ed25519")


def digest_name(algorithm: Any) -> str:
    """
    @return: the object identifier of a digest that is taken.
    @raise BadTicket: if it is another one.
    """
    name = str(algorithm["algorithm"])
    if name not in DIGESTS:
        raise bad("algorithm", f"want SHA-256, SHA-384 or SHA-512, got {_WEAK.get(name, 'another digest')}")
    if _parameters(algorithm) not in (b"", _NULL):
        raise bad("form", "a digest with parameters")
    return name


def _parameters(algorithm: Any) -> bytes:
    return bytes(algorithm["parameters"]) if algorithm["parameters"].isValue else b""


def read_scheme(algorithm: Any, digest: str) -> tuple[str, int]:
    """
    @return: the scheme (C{ecdsa}, or an object identifier: RSA with PKCS 1 v1.5, PSS or Ed25519), and bytes of salt.
    @raise BadTicket: if it is another one, or of another digest than C{digest}.
    """
    name, parameters = str(algorithm["algorithm"]), _parameters(algorithm)
    if name == _PSS:
        return _PSS, _salt(parameters, digest)
    scheme, its = _NAMED.get(name, (name, digest))
    if scheme not in (_RSA, "ecdsa", _ED25519):
        raise bad("algorithm", "want a signature by RSA, ECDSA or Ed25519")
    if its != digest:
        raise bad("algorithm", "want one digest for the content and the signature")
    if parameters != b"" and (scheme != _RSA or parameters != _NULL):
        raise bad("form", "a signature with parameters")
    return scheme, 0


def _salt(parameters: bytes, digest: str) -> int:
    said = decoded(parameters, rfc4055.RSASSA_PSS_params())
    mask = said["maskGenAlgorithm"]
    inner = decoded(_parameters(mask), rfc4055.HashAlgorithm())
    names = {str(said["hashAlgorithm"]["algorithm"]), str(inner["algorithm"]), digest}
    if names != {digest} or str(mask["algorithm"]) != _MGF1 or int(said["trailerField"]) != 1:
        raise bad("algorithm", "want PSS with MGF1, and one digest for all of it")
    if not {_parameters(said["hashAlgorithm"]), _parameters(inner)} <= {b"", _NULL}:
        raise bad("form", "a digest with parameters")
    salt = int(said["saltLength"])
    if not 0 <= salt <= 512:
        raise bad("algorithm", "want PSS with a salt of at most 512 bytes")
    return salt


def decoded(data: bytes, kind: Any) -> Any:
    """
    What DER says, read by its specification; what would be written otherwise is no DER.

    @param kind: the specification.
    @raise BadTicket: if it says something else.
    """
    try:
        value, rest = decoder.decode(data, asn1Spec=kind)
        same = not rest and encoder.encode(value) == data
    except Exception:  # of all sorts, on bytes that mean nothing; so have decoders always been
        raise bad("form", "want CMS of signed data, got something else in DER") from None
    if not same:
        raise bad("form", "want CMS in DER, got it in another encoding")
    return value
