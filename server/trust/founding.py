"""
How a certificate authority begins: whole, or not at all, whenever the daemon dies.

Its files are written into a directory of their own beside the daemon's trust, named after the number of this host's own
certificate. Once the record of that certificate is durable, the directory takes its place. What a crash leaves is put
in place at the next start if that record is there, and removed if it is not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hostline.protocol.trust import CA, CA_KEY, CERTIFICATE, CRL, KEY
from hostline.server.trust import signing
from hostline.server.trust.files import Trust

#: What comes before the number in the name of such a directory, after the name of the trust's.
_NEW = ".new-"


@frozen
class Plan:
    """
    An authority that is not written yet.

    @ivar own: this host's own certificate.
    @ivar files: what its files hold, by name.
    """

    own: x509.Certificate
    files: Mapping[str, bytes]


def plan(host: str, names: Sequence[str], life_s: float, own_life_s: float, now: float) -> Plan:
    """
    @param names: for this host's own certificate.
    @param life_s: of the authority.
    """
    authority = signing.new_authority(host, now, life_s)
    key = signing.new_key()
    own = signing.sign(authority, signing.public_pem(key), names, "host", own_life_s, now)
    files = {
        CA_KEY: signing.key_pem(authority.key),
        CA: authority.pem,
        KEY: signing.key_pem(key),
        CERTIFICATE: own.public_bytes(Encoding.PEM),
        CRL: signing.revocations(authority, {}, now, 1),
    }
    return Plan(own, files)


def fresh(directory: Path, number: str) -> Path:
    """
    @param directory: of the trust.
    @return: where the files wait.
    """
    return directory.with_name(f"{directory.name}{_NEW}{number}")


def write(place: Path, files: Mapping[str, bytes]) -> None:
    """
    Write all of an authority, to be put in place; blocks until it is on the disk.

    @raise OSError: if that cannot be done.
    """
    trust = Trust(place)
    trust.make()
    for name, data in files.items():
        trust.write(name, data)


def put_in_place(place: Path, directory: Path) -> None:
    """
    Have it be the trust of this daemon; blocks.

    @raise OSError: if that has any file already.
    """
    place.rename(directory)  # over a directory only if that is empty
    Trust(directory.parent).flush()


def forget(place: Path) -> None:
    """
    Remove what is not to be an authority; what cannot be removed, the next start removes.
    """
    with suppress(OSError):
        shutil.rmtree(place)


def settle(directory: Path, known: Container[str], say: Callable[[str], None]) -> None:
    """
    End or undo what a crash left half done.

    @param known: the numbers of all certificates on record.
    @param say: tells of what was done.
    @raise OSError: if one that was promised cannot be put in place.
    """
    for place in sorted(directory.parent.glob(f"{directory.name}{_NEW}*")):
        if place.name.removeprefix(directory.name + _NEW) in known and not Trust(directory).has(CA_KEY):
            put_in_place(place, directory)
            say(f"{directory}: the authority that was being made when the daemon died is there")
        else:
            forget(place)
            say(f"{place}: removed; the authority was not made before the daemon died")
