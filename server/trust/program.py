"""
C{hostline-pki}: keys, requests for certificates, and signed tickets, for who has no daemon at hand.

It needs the package C{cryptography} and nothing else; it asks nobody, and writes one file: the key that it makes.

    hostline-pki request NAME.. --directory DIR
    hostline-pki ticket --certificate FILE --key FILE [--chain FILE]

The first makes DIR/key.pem.new and prints the request for its certificate; the second signs what is on its standard
input and prints the ticket. Exit status 0: done; 1: it cannot be done; 2: wrong usage, or C{cryptography} is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hostline.protocol.errors import BadValue
from hostline.protocol.names import certificate_name
from hostline.protocol.trust import NEW_KEY
from hostline.server.trust.files import BadTrust, Trust

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

#: The longest ticket that a daemon reads, in bytes.
LONGEST_TICKET = 65536
#: The most that is read of a file of certificates or of a key.
_LONGEST = 1 << 20
_MISSING = "want the Python package cryptography, which makes keys and signs: pip install 'hostline[tls]'"


class Cannot(Exception):
    """
    What was asked for cannot be done; the message says why.
    """


def new_request(names: Sequence[str], directory: Path) -> str:
    """
    Make a key (EC P-256) in C{directory}, which is made if it is not there, and ask for a certificate of it.

    @param names: what it shall certify; who signs decides.
    @return: the request, PEM.
    @raise Cannot: if a name is none, or the key cannot be written.
    """
    from hostline.server.trust import signing

    try:
        wanted = list(dict.fromkeys(map(certificate_name, names)))
    except BadValue as error:
        raise Cannot(error.message) from None
    key = signing.new_key()
    request = signing.request(key, wanted).decode("ascii")
    trust = Trust(directory)
    try:
        trust.make()
        trust.write(NEW_KEY, signing.key_pem(key))
    except (BadTrust, OSError) as error:
        raise Cannot(str(error)) from error
    return request


def signed_ticket(record: bytes, certificates: bytes, key: bytes, chain: bytes = b"") -> str:
    """
    @param record: what the ticket says, as it is.
    @param certificates: PEM; the first is the signer's, the others go with it.
    @param key: PEM, without a passphrase.
    @param chain: PEM of what else leads to an authority that the daemons believe.
    @return: CMS SignedData over C{record}, which is in it; PEM.
    @raise Cannot: if one of these is not what is wanted, or no daemon would take the ticket.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
    from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder

    try:
        found = x509.load_pem_x509_certificates(certificates)
    except (ValueError, x509.InvalidVersion) as error:
        raise Cannot(f"--certificate: want PEM certificates: {error}") from error
    try:
        more = x509.load_pem_x509_certificates(chain) if chain else []
    except (ValueError, x509.InvalidVersion) as error:
        raise Cannot(f"--chain: want PEM certificates: {error}") from error
    try:
        own = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Cannot(f"--key: want a PEM private key without a passphrase: {error}") from error
    if not isinstance(own, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise Cannot("--key: want a key of elliptic curves, or RSA")
    signer = found[0]
    try:
        same = signer.public_key() == own.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Cannot(f"--certificate: {error}") from error
    if not same:
        raise Cannot("--key: want the key of the first certificate in --certificate; this is another one")
    _check_signer(signer)
    builder = PKCS7SignatureBuilder().set_data(record).add_signer(signer, own, SHA256())
    for one in dict.fromkeys((*found[1:], *more)):
        if one != signer and one.issuer != one.subject:  # who believes a root has it
            builder = builder.add_certificate(one)
    ticket = builder.sign(Encoding.PEM, [PKCS7Options.Binary, PKCS7Options.NoCapabilities]).decode("ascii")
    ticket = ticket.replace("-----BEGIN PKCS7-----", "-----BEGIN CMS-----")
    ticket = ticket.replace("-----END PKCS7-----", "-----END CMS-----")
    if len(ticket) > LONGEST_TICKET:
        raise Cannot(f"want a ticket of at most {LONGEST_TICKET} bytes, this one has {len(ticket)}")
    return ticket


def _check_signer(signer: Certificate) -> None:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    if signer.not_valid_after_utc <= datetime.now(UTC):
        raise Cannot(f"--certificate: it expired at {signer.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    try:
        usages = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Cannot(f"--certificate: {error}") from error
    if not {ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usages):
        raise Cannot("--certificate: it is not for tickets; get one by a token made with purpose=ticket")


def _read(path: str, what: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LONGEST + 1)
    except OSError as error:
        raise Cannot(f"{what}: {path}: {error.strerror}") from error
    if len(data) > _LONGEST:
        raise Cannot(f"{what}: {path}: want at most {_LONGEST >> 20} MiB")
    return data


def _ticket(given: argparse.Namespace) -> str:
    certificates = _read(given.certificate, "--certificate")
    key = _read(given.key, "--key")
    chain = _read(given.chain, "--chain") if given.chain is not None else b""
    record = sys.stdin.buffer.read(LONGEST_TICKET + 1)
    if len(record) > LONGEST_TICKET:
        raise Cannot(f"want a record of at most {LONGEST_TICKET} bytes on standard input")
    if not record.strip():
        raise Cannot("want a record on standard input, there is none")
    return signed_ticket(record, certificates, key, chain)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "hostline-pki", description="Make keys, requests for certificates, and signed tickets.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="request|ticket")
    request = commands.add_parser(
        "request",
        allow_abbrev=False,
        help="make a key in DIR/key.pem.new and print a request for its certificate, PEM",
    )
    request.add_argument("names", nargs="+", metavar="NAME", help="a DNS name, or a URN such as urn:site:user:ann")
    request.add_argument("--directory", required=True, metavar="DIR", help="where the key goes; made, 0700, if need be")
    ticket = commands.add_parser(
        "ticket", allow_abbrev=False, help="sign the record on standard input and print the ticket, PEM"
    )
    ticket.add_argument("--certificate", required=True, metavar="FILE", help="the signer's certificate, PEM")
    ticket.add_argument("--key", required=True, metavar="FILE", help="its key, PEM")
    ticket.add_argument("--chain", metavar="FILE", help="what leads from it to an authority that is believed, PEM")
    return parser


def run(words: Sequence[str]) -> int:
    """
    @param words: without the program's name.
    @return: the exit status.
    """
    given = _arguments().parse_args(words)
    try:
        import cryptography  # noqa: F401  (who has it not is told so, before anything is made)
    except ImportError:
        print(f"hostline-pki: {_MISSING}", file=sys.stderr)
        return 2
    try:
        text = new_request(given.names, Path(given.directory)) if given.command == "request" else _ticket(given)
        print(text, end="", flush=True)
    except Cannot as error:
        print(f"hostline-pki: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"hostline-pki: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def main() -> NoReturn:
    """
    The program.
    """
    os.umask(0o077)
    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
