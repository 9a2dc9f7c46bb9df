"""
A visit: one connection through the network, and whose it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from hostline.protocol.errors import Denied, TooMany
from hostline.server.callers import ENROL, Caller
from hostline.server.config import Limits
from hostline.server.connection import Connection
from hostline.server.trust import peer
from hostline.server.trust.handshakes import site_of
from hostline.server.trust.peer import Shown

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: What _ssl.Certificate.public_bytes takes for DER.
_DER = 2
#: Who has no certificate yet asks for one and goes: his lines are short, and soon it is over.
_ENROL_LINE, _ENROL_WAITING, _ENROL_S = 1 << 16, 4, 30.0
#: How many of those there may be from one address, or one network of IPv6 that a host chooses its addresses from.
_ENROL_ADDRESS = 4


class Visit(Connection):
    """
    One client with a certificate.

    @ivar address: where it came from, as the kernel writes it.
    @ivar shown: what its certificate says; None if there is none.
    @ivar admitted: whether it was let in.
    """

    def __init__(
        self,
        daemon: Daemon,
        address: str,
        visits: set[Visit],
        admit: Callable[[Shown], None],
        limits: Limits | None = None,
    ) -> None:
        """
        @param visits: those that there are.
        @param admit: raises L{Denied} if who shows this may not come in.
        """
        super().__init__(daemon, self._find, limits)
        self.address = address
        self.shown: Shown | None = None
        self.admitted = False
        self._visits = visits
        self._admit = admit
        self._loop = daemon.loop
        self._gone: asyncio.Event = asyncio.Event()

    def _find(self, transport: asyncio.Transport) -> Caller:
        shown = peer.read_chain(chain_of(transport.get_extra_info("ssl_object")))
        self._admit(shown)
        self.shown = shown
        return Caller(-1, via="tls", names=shown.names, number=shown.number, authority=shown.root.hex())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        The handshake is done.
        """
        super().connection_made(transport)
        self.admitted = self._admitted
        if self.admitted:
            self._visits.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """
        The connection is over.
        """
        super().connection_lost(exc)
        self._visits.discard(self)
        self._gone.set()

    async def over(self, limit_s: float) -> None:
        """
        Wait until the connection is over, or for so many seconds.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), limit_s)


class EnrolVisit(Visit):
    """
    One client who has no certificate yet.
    """

    def __init__(self, daemon: Daemon, address: str, visits: set[Visit]) -> None:
        own = daemon.config.limits
        limits = attrs.evolve(
            own,
            line_bytes=min(own.line_bytes, _ENROL_LINE),
            lines_waiting=min(own.lines_waiting, _ENROL_WAITING),
            line_seconds=min(own.line_seconds, _ENROL_S),
            unread_seconds=min(own.unread_seconds, _ENROL_S),
        )
        super().__init__(daemon, address, visits, lambda _: None, limits)
        self._ending: asyncio.TimerHandle | None = None

    def _find(self, transport: asyncio.Transport) -> Caller:
        site = site_of(self.address)
        if sum(site_of(one.address) == site for one in self._visits) >= _ENROL_ADDRESS:
            raise TooMany(f"want at most {_ENROL_ADDRESS} connections from one address without a certificate")
        return Caller(-1, via=ENROL)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        The handshake is done; now it has some time.
        """
        super().connection_made(transport)
        if self.admitted:
            self._ending = self._loop.call_later(_ENROL_S, self.drop, "the time for enrolling")

    def connection_lost(self, exc: Exception | None) -> None:
        """
        The connection is over.
        """
        if self._ending is not None:
            self._ending.cancel()
        super().connection_lost(exc)


def chain_of(ssl_object: Any) -> Sequence[bytes]:
    """
    @return: DER of the certificate that was shown, then of those above it up to the root; of it alone, where Python
        does not tell the others.
    @raise Denied: if there is none.
    """
    try:
        # Public since Python 3.13; before, there under the object that every SSLObject is about.
        told = getattr(ssl_object, "get_verified_chain", None) or ssl_object._sslobj.get_verified_chain
        chain = [one if isinstance(one, bytes) else one.public_bytes(_DER) for one in told()]
    except (AttributeError, TypeError, ValueError):
        chain = []
    own = ssl_object.getpeercert(True)
    if not own:
        raise Denied("want a certificate")
    return chain if chain[:1] == [own] else [own]
