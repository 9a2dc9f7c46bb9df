"""
A ticket as it is given: signed text in, what it says out; runs in the offload child.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.backends import default_backend
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hostline.protocol.errors import OperationFailed
from hostline.server.slivers.cms import read_signed, unarmoured
from hostline.server.slivers.signature import verify
from hostline.server.slivers.ticket import read_record
from hostline.server.slivers.vouching import read_believed, read_certificate, vouch

#: Loaded now, for it is looked for with the first key: by then the child may have no right to read it.
_BACKEND = default_backend()


def read_ticket(asked: Mapping[str, Any]) -> dict[str, Any]:
    """
    Read a ticket, and see that somebody signed it who may.

    @param asked: C{text}: PEM or base64; C{roots}: PEM of the authorities that are believed; C{revoked}: PEM of lists
        of what authorities have revoked; C{now}: Unix seconds.
    @return: C{record}, L{hostline.server.slivers.ticket.read_record}; C{signer}: SHA-256 of the signer's public key, in
        hexadecimal; C{name}: its certificate's subject, for people.
    @raise BadTicket: if it is to be refused, for whichever host it is.
    @raise OperationFailed: if what this host believes cannot be read.
    """
    signed = read_signed(unarmoured(asked["text"]))
    signer, *others = map(read_certificate, (signed.signer, *signed.others))
    key = signer.public_key()
    verify(signed.signature, key)
    try:
        believed = read_believed(asked["roots"], asked["revoked"])
    except ValueError:
        raise OperationFailed("the authorities whose tickets this host believes cannot be read") from None
    vouch(signer, others, believed, asked["now"])
    record = read_record(signed.content)
    return {
        "record": record,
        # Of the key, not of the certificate: another certificate of the same key makes no other ticket.
        "signer": hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest(),
        "name": ascii(signer.subject.rfc4514_string())[1:-1][:200],
    }
