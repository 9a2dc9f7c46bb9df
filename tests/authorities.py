"""
What the tests of the site's certificate authority share: requests for certificates, and callers through the network.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from hostline.server.callers import Caller
from tests.daemons import Client, MemoryDaemon

#: Who comes without a certificate.
STRANGER = Caller(-1, via="enrol")


def request(key: Any = None, name: str = "anything.example.org", hash: Any = SHA256) -> str:
    """
    @param key: that it is for and signed by; a new one on P-256 otherwise.
    @return: a request for a certificate, PEM.
    """
    key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    return builder.sign(key, hash() if hash is not None else None).public_bytes(Encoding.PEM).decode("ascii")


def words(command: str, *values: str) -> str:
    """
    @return: a request line.
    """
    return " ".join([command, *map(repr, values)])


def secret_of(token: dict[str, Any]) -> str:
    """
    @param token: what C{ca_token} answers.
    """
    return str(token["token"]).partition(".")[0]


def enrolled(daemon: MemoryDaemon, names: str, options: str = "") -> dict[str, Any]:
    """
    @return: what C{ca_enrol} answers somebody who was invited.
    """
    token = daemon.connect().body(f"ca_token {names} {options}")
    body: dict[str, Any] = daemon.connect(caller=STRANGER).body(words("ca_enrol", secret_of(token), request()))
    return body


def comes_by(daemon: MemoryDaemon, signed: dict[str, Any], *names: str) -> Client:
    """
    @return: a client that shows a certificate.
    """
    root = x509.load_pem_x509_certificate(signed["ca"].encode()).fingerprint(SHA256()).hex()
    return daemon.connect(caller=Caller(-1, via="tls", names=names, number=signed["number"], authority=root))
