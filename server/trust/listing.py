"""
The list of what this host's authority has revoked: in its file, and as it is told to whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from hostline.protocol.errors import OperationFailed
from hostline.protocol.trust import CRL
from hostline.server.trust import signing
from hostline.server.trust.files import NotThere, Trust
from hostline.server.trust.signing import Authority, BadAuthority, Revocations

#: Seconds after which the list is made anew though nothing was revoked.
AGE_S = 86400.0


class Listing:
    """
    The list.

    @ivar pem: as it was last made.
    @ivar read: what it says.
    @ivar unwritten: why what is revoked does not stand in the file yet; empty if it does.
    """

    _log = Logger()

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self.pem = b""
        self.read = Revocations({}, 0, 0.0, 0.0)
        self.unwritten = ""
        self._serial = 0

    def open(self, authority: Authority, revoked: Mapping[int, float], now: float) -> None:
        """
        Read the file; where it is not there, or does not say all, it is made anew.

        @param revoked: since when, by serial number: what is revoked on record.
        @raise BadTrust: if it is not ours alone.
        """
        try:
            self.pem = self._trust.read(CRL)
            self.read = signing.read_revocations(authority, self.pem)
        except (NotThere, BadAuthority) as error:
            self._log.warn("the list of what is revoked is made anew: {error}", error=error)
        if self.read.serial and revoked.keys() <= self.read.revoked.keys():
            return
        made = self._made(authority, revoked, now)
        self.pem, self.read = made
        try:
            self._trust.write(CRL, self.pem)
        except OSError as error:
            self._log.error("{reason}", reason=self._not_written(error))

    def is_due(self, now: float) -> bool:
        """
        Whether it is to be made anew: it is old, or of a time to come, or not written yet.
        """
        return bool(self.unwritten) or not -signing.EARLY_S <= now - self.read.made <= AGE_S

    async def publish(
        self,
        authority: Authority,
        revoked: Mapping[int, float],
        now: float,
        run: Callable[[Callable[[], Any]], Deferred[Any]],
    ) -> None:
        """
        Make the list anew, and write it.

        @param run: runs what blocks, one after the other.
        @raise OperationFailed: if it cannot be written.
        """
        pem, read = self._made(authority, revoked, now)
        try:
            await run(lambda: self._trust.write(CRL, pem))
        except OSError as error:
            raise OperationFailed(f"revoked on record, but {self._not_written(error)}") from error
        else:
            self.unwritten = ""
        finally:  # who asks is told of it, whether it could be written or not
            self.pem, self.read = pem, read

    def _made(self, authority: Authority, revoked: Mapping[int, float], now: float) -> tuple[bytes, Revocations]:
        # What was revoked once stays so, even if the record of it was lost.
        self._serial = max(self._serial, self.read.serial) + 1
        pem = signing.revocations(authority, {**self.read.revoked, **revoked}, now, self._serial)
        return pem, signing.read_revocations(authority, pem)

    def _not_written(self, error: OSError) -> str:
        self.unwritten = f"the list of what is revoked cannot be written: {error}"
        return self.unwritten
