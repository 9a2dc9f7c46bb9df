"""
What is kept of certificates, of the tokens that get one, and of tickets.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from hostline.server.fields import NUMBER, TEXT, TEXTS, all_texts
from hostline.server.record import Record


@frozen(kw_only=True)
class Certificate(Record):
    """
    A certificate that the certificate authority of this host has signed.

    @ivar number: its serial number, in hexadecimal.
    @ivar names: what it certifies, L{hostline.protocol.names.certificate_name}.
    @ivar purpose: C{host}, C{user} or C{ticket}.
    @ivar until: Unix seconds; then it has expired.
    @ivar revoked: since when it is not to be believed; 0 while it is.
    @ivar renews: number of the one that it took the place of; empty if of none.
    """

    table: ClassVar[str] = "certificate"
    number: str = field(validator=TEXT)
    names: tuple[str, ...] = field(converter=all_texts, validator=TEXTS)
    purpose: str = field(validator=TEXT)
    issued: float = field(validator=NUMBER)
    until: float = field(validator=NUMBER)
    revoked: float = field(default=0.0, validator=NUMBER)
    renews: str = field(default="", validator=TEXT)

    @property
    def key(self) -> str:
        """
        The number.
        """
        return self.number


@frozen(kw_only=True)
class Invitation(Record):
    """
    A token that gets one certificate, once.

    @ivar digest: SHA-256 of the token, in hexadecimal; the token itself is nowhere.
    @ivar names: what the certificate will say, with its C{purpose} and its C{life} in seconds.
    @ivar until: Unix seconds; then it is worth nothing.
    """

    table: ClassVar[str] = "invitation"
    digest: str = field(validator=TEXT)
    names: tuple[str, ...] = field(converter=all_texts, validator=TEXTS)
    purpose: str = field(validator=TEXT)
    life: float = field(validator=NUMBER)
    until: float = field(validator=NUMBER)

    @property
    def key(self) -> str:
        """
        The digest.
        """
        return self.digest


@frozen(kw_only=True)
class Spent(Record):
    """
    A ticket that was taken: its number is worth nothing more.

    @ivar name: C{SIGNER NUMBER}: the SHA-256 sum of the signer's public key, in hexadecimal, and the number.
    @ivar until: Unix seconds; then it is out of its time anyway.
    """

    table: ClassVar[str] = "spent"
    name: str = field(validator=TEXT)
    until: float = field(validator=NUMBER)

    @property
    def key(self) -> str:
        """
        Signer and number.
        """
        return self.name
