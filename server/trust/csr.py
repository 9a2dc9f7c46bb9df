"""
What is taken from a request for a certificate: the key, and that whoever asks has it. All else in it is passed over.

A pure function from text to JSON value, so that it can run in the offload child (L{hostline.server.offload}).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.backends import default_backend
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hostline.protocol.errors import BadValue

#: Characters of a request, at most.
LONGEST = 16384
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_RSA_BITS = (2048, 4096)
_EXPONENT = 65537
#: What else of C{cryptography} a signature takes is loaded now, not when it is first looked at: by then the offload
#: child may have no right to read it.
_LOADED = (default_backend(), hashes, padding, utils)
_PEM = re.compile(
    r"\s*-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]*)-----END (?:NEW )?CERTIFICATE REQUEST-----\s*"
)
_KEYS = "a key on the curve P-256, P-384 or P-521, Ed25519, or RSA of 2048 to 4096 bits with the exponent 65537"


def read_request(text: Any) -> dict[str, Any]:
    """
    Read a PKCS #10 request in PEM.

    @return: C{{'key': the public key, SubjectPublicKeyInfo as PEM}}.
    @raise BadValue: if it is no request, its key is none that we certify, or it is not signed by that key.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise BadValue(f"request: want PEM of at most {LONGEST} characters")
    found = _PEM.fullmatch(text)
    if found is None:
        raise BadValue("request: want one request for a certificate in PEM, and nothing before or after it")
    try:
        request = x509.load_der_x509_csr(base64.b64decode("".join(found[1].split()), validate=True))
    except (binascii.Error, ValueError, x509.InvalidVersion, UnsupportedAlgorithm):
        raise BadValue("request: what is in the PEM is no request for a certificate (PKCS #10)") from None
    try:
        key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadValue(f"request: want {_KEYS}") from None
    if isinstance(key, rsa.RSAPublicKey):
        good = _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1] and key.public_numbers().e == _EXPONENT
    else:
        good = isinstance(key, ed25519.Ed25519PublicKey) or (
            isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)
        )
    if not good:
        raise BadValue(f"request: want {_KEYS}")
    try:
        signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        signed = False
    if not signed:
        raise BadValue("request: want it to be signed by the key that is in it")
    return {"key": key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")}
