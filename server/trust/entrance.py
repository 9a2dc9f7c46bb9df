"""
A port through which the network comes in: who connects shows in time who he is, or is gone.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from hostline.protocol.endpoints import endpoint
from hostline.protocol.errors import BadValue
from hostline.server.doors import Door
from hostline.server.trust.encrypted import Encrypted
from hostline.server.trust.handshakes import Handshakes, site_of
from hostline.server.trust.visit import Visit

#: Connections are taken so many at once, then one each time so many seconds have passed.
_BURST, _EACH_S = 200, 0.002
#: Connections that may wait to be taken.
_BACKLOG = 256
#: How long who was refused may take to hear it.
_SHUTDOWN_S = 2.0
#: A silent connection is asked after so many seconds whether its other end is there, then every so many, so often.
_ASKED_S, _AGAIN_S, _TIMES = 60, 20, 4


def listen(host: str, port: int) -> socket.socket:
    """
    Listen on an address of this host.

    @param host: an address; no name, which would have to be asked for.
    @raise BadValue: if it is none.
    @raise OSError: if it cannot be listened on.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )[0]
    except OSError:
        raise BadValue(f"want an address of this host, such as 0.0.0.0 or [::], got {host}") from None
    found = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        found.bind(address)
        found.listen(_BACKLOG)
    except OSError:
        found.close()
        raise
    return found


class Entrance:
    """
    One port, until it is closed; who is in then stays.

    @ivar place: where it is, C{ADDRESS:PORT}.
    """

    def __init__(
        self,
        listening: socket.socket,
        loop: asyncio.AbstractEventLoop,
        handshakes: Handshakes,
        deadline_s: Callable[[], float],
        context: Callable[[], ssl.SSLContext],
        make: Callable[[str], Visit],
        failed: Callable[[str, str], object],
        around: Callable[[Visit], asyncio.Protocol] = lambda visit: visit,
    ) -> None:
        """
        @param handshakes: those under way, here and at other ports.
        @param deadline_s: how many seconds one may take.
        @param context: the one for a new connection.
        @param make: a protocol for a new connection from an address.
        @param failed: hears the address and the reason where a handshake came to nothing.
        @param around: what stands between that and the client, who may speak something else than lines.
        """
        self.place = endpoint(*listening.getsockname()[:2])
        self._loop = loop
        self._handshakes = handshakes
        self._deadline_s = deadline_s
        self._context = context
        self._make = make
        self._failed = failed
        self._around = around
        self._door = Door(listening, loop, self._enter, lambda: False, _BURST, _EACH_S)

    def close(self) -> None:
        """
        Let nobody in any more.
        """
        self._door.close()

    async def _enter(self, connection: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            address = str(connection.getpeername()[0])
            _watch_for_the_dead(connection)
        except OSError:  # gone again
            connection.close()
            return
        handshake = self._handshakes.begin(site_of(address), task.cancel, self._loop.time())
        if handshake is None:
            connection.close()
            return
        known = False
        try:
            known = await self._shake(connection, address, handshake.wait_s)
        finally:
            self._handshakes.end(handshake, known)

    async def _shake(self, connection: socket.socket, address: str, wait_s: float) -> bool:
        """
        @return: whether it was somebody who shows a certificate, and was let in.
        """
        if wait_s:
            try:
                await asyncio.sleep(wait_s)
            except asyncio.CancelledError:
                connection.close()
                raise
        visit = self._make(address)
        encrypted = Encrypted(self._around(visit), self._context(), self._loop, self._deadline_s())
        try:
            await self._loop.connect_accepted_socket(lambda: encrypted, connection)
            await encrypted.shaken
            if visit.admitted:
                return visit.shown is not None
            await visit.over(_SHUTDOWN_S)  # it counts as long as it is there
            encrypted.abort()
        except OSError as error:
            self._failed(address, _reason(error))
            return False
        except asyncio.CancelledError:
            encrypted.abort()
            raise
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).lower().replace("_", " ")
    return str(error) or "it hung up"


def _watch_for_the_dead(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ("TCP_KEEPIDLE", _ASKED_S), ("TCP_KEEPINTVL", _AGAIN_S), ("TCP_KEEPCNT", _TIMES):
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
