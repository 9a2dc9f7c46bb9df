"""
The host's own socket: who comes there is known before he is let in, and waits for that if he comes all the time.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from hostline.protocol import wire
from hostline.protocol.errors import HostError, TooMany
from hostline.server.callers import Caller
from hostline.server.connection import Connection
from hostline.server.doors import Door

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

#: The door itself keeps nobody waiting: one connection is taken in each turn of the loop, for whom it is to wait is
#: only known then.
_BURST, _EACH_S = 1 << 20, 1e-6


class Reception:
    """
    Takes the connections to one listening socket.
    """

    def __init__(
        self,
        listening: socket.socket,
        daemon: Daemon,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[Caller], asyncio.Protocol] | None = None,
        refused: Callable[[HostError], bytes] = lambda error: wire.reply("error_reply", error.body()),
    ) -> None:
        """
        @param make: a protocol for who comes; None makes a L{Connection}.
        @param refused: what is said to who may not come in.
        """
        self._make = make or (lambda caller: Connection(daemon, lambda _: caller))
        self._refused = refused
        self._daemon = daemon
        self._loop = loop
        self._door = Door(listening, loop, self._enter, lambda: False, _BURST, _EACH_S)

    def close(self) -> None:
        """
        Let nobody in any more; who is in stays.
        """
        self._door.close()

    async def _enter(self, connection: socket.socket) -> None:
        try:
            caller = self._daemon.caller(connection)
            await self._daemon.gate.enter(caller, self._loop)
        except TooMany as refusal:
            with suppress(OSError):
                connection.send(self._refused(refusal))
            connection.close()
            return
        except BaseException:
            connection.close()
            raise
        await self._loop.connect_accepted_socket(lambda: self._make(caller), connection)
