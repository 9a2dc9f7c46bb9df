"""
Talking with QEMU itself, by QMP (qemu.qmp): commands, and news of what happens to a guest.

The socket is in a directory that QEMU's own user may write to, and whoever broke out of a guest is that user: it is
opened without following a link, and what comes out of it is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import QMPClient, QMPError, Runstate
from twisted.internet.defer import Deferred

from hostline.server.supervise import within

T = TypeVar("T")

#: What goes wrong is raised; what the library thinks of it, a guest could have it say again and again.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)

#: Bytes of one message.
_MOST = 1 << 20
#: Seconds that QEMU may take to answer.
_LIMIT_S = 10.0
_ERRORS = (QMPError, EOFError, asyncio.TimeoutError, ValueError)


class Qmp:
    """
    One connection with one QEMU.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        heard: Callable[[Mapping[str, Any]], None],
        lost: Callable[[], None],
    ) -> None:
        """
        @param heard: called with each event.
        @param lost: called once a connection has ended that was not closed by us.
        """
        self._loop = loop
        self._heard = heard
        self._lost = lost
        self._client: QMPClient | None = None
        self._staying: asyncio.Task[None] | None = None
        self._link: socket.socket | None = None

    @property
    def joined(self) -> bool:
        """
        Whether there is a connection.
        """
        return self._client is not None

    async def join(self, state: Path, name: str) -> None:
        """
        Connect.

        @raise OSError: if QEMU is not there, or does not answer.
        """
        if self._client is None:
            await self._until_done(self._join(within.joined(state, name)))

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """
        @return: what QEMU answers.
        @raise OSError: if it cannot be asked, or says no.
        """
        client = self._client
        if client is None:
            raise OSError("QEMU cannot be asked")

        async def asked() -> object:
            return await asyncio.wait_for(client.execute(command, arguments), _LIMIT_S)

        return await self._until_done(asked())

    async def give(self, name: str, fd: int) -> None:
        """
        Let QEMU have a descriptor, by a name.

        @raise OSError: if it does not take it.
        """
        self._pass(fd)
        await self.execute("getfd", {"fdname": name})

    async def lend(self, fd: int) -> str:
        """
        Let QEMU have a descriptor where it wants a path. It keeps it as long as it has the path open, or is asked by
        anybody.

        @return: the path.
        @raise OSError: if it does not take it.
        """
        self._pass(fd)
        said = await self.execute("add-fd")
        number = said.get("fdset-id") if isinstance(said, dict) else None
        if type(number) is not int:
            raise OSError("QEMU does not take a descriptor")
        return f"/dev/fdset/{number}"

    async def reclaim(self, path: str) -> None:
        """
        Have QEMU let go of what it was lent, once it does not use it.
        """
        with suppress(OSError):
            await self.execute("remove-fd", {"fdset-id": int(path.rpartition("/")[2])})

    def close(self) -> None:
        """
        Leave; QEMU goes on.
        """
        client, self._client = self._client, None
        self._drop_link()
        if client is not None and not self._loop.is_closed():
            self._loop.create_task(_leave(client))
        if self._staying is not None:
            self._staying.cancel()
            self._staying = None

    async def _join(self, link: socket.socket) -> None:
        client = QMPClient(readbuflen=_MOST)
        try:
            await asyncio.wait_for(client.connect(link), _LIMIT_S)
        except BaseException:
            link.close()
            raise
        self._client, self._link = client, link.dup()
        self._staying = self._loop.create_task(self._stay(client))

    async def _stay(self, client: QMPClient) -> None:
        listening = self._loop.create_task(self._listen(client))
        try:
            if client.runstate == Runstate.RUNNING:
                await client.runstate_changed()
        finally:
            listening.cancel()
        if self._client is client:
            self._client = self._staying = None
            self._drop_link()
            await _leave(client)
            self._lost()

    def _pass(self, fd: int) -> None:
        if self._link is None:
            raise OSError("QEMU cannot be asked")
        # A blank, as qemu.qmp's send_fd_scm sends it; that wants asyncio's own socket, and uvloop has another.
        socket.send_fds(self._link, [b" "], [fd])

    def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    async def _listen(self, client: QMPClient) -> None:
        async for event in client.events:
            if self._client is client:
                self._heard(dict(event))

    async def _until_done(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return await Deferred.fromFuture(asyncio.ensure_future(coroutine, loop=self._loop))
        except _ERRORS as error:
            raise OSError(f"QEMU: {str(error)[:300] or type(error).__name__}") from error


async def _leave(client: QMPClient) -> None:
    with suppress(*_ERRORS, OSError):
        await client.disconnect()
