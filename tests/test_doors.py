"""
The own sockets of slivers.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.doors import Door, Doors


class DoorsTests(SynchronousTestCase):
    """
    Directories and sockets, served by a list.
    """

    def setUp(self) -> None:
        self.runtime = Path(self.mktemp())
        self.serving: dict[int, socket.socket] = {}
        self.doors = self.make()
        self.addCleanup(lambda: self.doors.close())

    def make(self) -> Doors:
        def serve(listening: socket.socket, serial: int) -> Callable[[], None]:
            self.serving[serial] = listening

            def stop() -> None:
                self.serving.pop(serial).close()

            return stop

        return Doors(self.runtime, serve)

    def test_listensWhereItIsShown(self) -> None:
        """
        What connects through the directory that is shown inside comes to the sliver's own socket.
        """
        self.doors.open(5)
        self.doors.open(5)
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(str(self.doors.directory(5) / "hostline.sock"))
        accepted, _ = self.serving[5].accept()
        accepted.close()

    def test_isClosedToOthersOfTheHost(self) -> None:
        """
        The way to the socket on the host is root's alone; what is shown inside is for everybody inside.
        """
        self.doors.open(5)
        inside = self.doors.directory(5)
        self.assertEqual(stat.S_IMODE(inside.parent.stat().st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(inside.stat().st_mode), 0o755)
        self.assertEqual(stat.S_IMODE((inside / "hostline.sock").stat().st_mode), 0o666)

    def test_keepsWhatADriverMadeOfIt(self) -> None:
        """
        Who a driver let in may come in after a restart of the daemon too, and nobody else.
        """
        self.doors.open(5)
        self.doors.directory(5).chmod(0o750)
        self.doors.close()
        self.doors = self.make()
        self.doors.keep({5}, keep_strays=False)
        self.assertEqual(stat.S_IMODE(self.doors.directory(5).stat().st_mode), 0o750)
        self.assertEqual(list(self.serving), [5])

    def test_removesWhatIsNobodys(self) -> None:
        """
        After a start what belongs to no sliver is removed, unless records were lost; a sliver that is gone has none.
        """
        for serial in (5, 6, 7):
            self.doors.open(serial)
        self.doors.remove(5)
        self.doors.close()
        self.assertEqual(sorted(path.name for path in (self.runtime / "doors").iterdir()), ["6", "7"])
        self.doors = self.make()
        self.doors.keep({6}, keep_strays=True)
        self.assertEqual(sorted(path.name for path in (self.runtime / "doors").iterdir()), ["6", "7"])
        self.doors.close()
        self.doors = self.make()
        self.doors.keep({6}, keep_strays=False)
        self.assertEqual([path.name for path in (self.runtime / "doors").iterdir()], ["6"])

    def test_doesWithoutWhatIsInTheWay(self) -> None:
        """
        A sliver whose socket cannot be made goes on without one.
        """
        (self.runtime / "doors").mkdir(parents=True)
        (self.runtime / "doors" / "5").write_text("in the way")
        self.doors.open(5)
        self.assertEqual(self.serving, {})
        self.flushLoggedErrors()


class Guest(asyncio.Protocol):
    """
    Who came in.
    """

    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transports.append(transport)


class DoorTests(SynchronousTestCase):
    """
    One door, on a real loop of its own.
    """

    def setUp(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.end)
        self.runtime = Path(self.mktemp())
        self.full = False
        self.came: list[asyncio.Protocol] = []
        self.transports: list[asyncio.Transport] = []
        self.doors = Doors(self.runtime, self.serve)
        self.doors.open(5)

    def end(self) -> None:
        self.doors.close()
        self.turn(0.01)
        for transport in self.transports:
            transport.abort()
        self.turn(0.01)
        self.loop.close()

    def serve(self, listening: socket.socket, serial: int) -> Callable[[], None]:
        return Door(listening, self.loop, self.enter, self.is_full).close

    def enter(self, connection: socket.socket) -> Coroutine[Any, Any, object]:
        return self.loop.connect_accepted_socket(self.make, connection)

    def make(self) -> asyncio.Protocol:
        self.came.append(Guest(self.transports))
        return self.came[-1]

    def is_full(self) -> bool:
        return self.full

    def connect(self, count: int) -> list[socket.socket]:
        found = []
        for _ in range(count):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.setblocking(False)
            client.connect(str(self.doors.directory(5) / "hostline.sock"))
            found.append(client)
            self.turn()
        return found

    def turn(self, seconds: float = 0.0) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def test_letsIn(self) -> None:
        """
        Who connects is served.
        """
        self.connect(3)
        self.turn(0.05)
        self.assertEqual(len(self.came), 3)

    def test_letsWaitWhileItIsFull(self) -> None:
        """
        Who comes when the sliver has all its connections waits, and costs nothing.
        """
        self.full = True
        self.connect(3)
        self.turn(0.2)
        self.assertEqual(self.came, [])
        self.full = False
        self.turn(0.3)
        self.assertEqual(len(self.came), 3)

    def test_slowsAFloodDown(self) -> None:
        """
        Who connects again and again as fast as it can is let in at first, and then no faster than 20 times a second.
        """
        begun = self.loop.time()
        for _ in range(70):
            try:
                self.connect(1)[0].close()
            except BlockingIOError:
                break
        self.turn(0.1)
        most = 50 + (self.loop.time() - begun) / 0.05 + 1
        self.assertGreaterEqual(len(self.came), 50)
        self.assertLessEqual(len(self.came), most)

    def test_waitsForDescriptors(self) -> None:
        """
        While the daemon has no descriptor left it does not ask again and again; when it has, who waited comes in.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        path = str(self.doors.directory(5) / "hostline.sock")
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))  # all below are taken
        client.connect(path)
        turns = 0
        until = self.loop.time() + 0.2
        while self.loop.time() < until:
            self.loop._run_once()  # type: ignore[attr-defined]
            turns += 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.assertEqual(self.came, [])
        self.assertLess(turns, 30)
        self.turn(0.2)
        self.assertEqual(len(self.came), 1)

    def test_isSilentWhenClosed(self) -> None:
        """
        A door that was closed while it let somebody wait leaves nothing behind in the loop.
        """
        self.full = True
        self.connect(1)
        self.turn(0.01)
        self.doors.close()
        self.turn(0.2)
        self.assertEqual(self.came, [])
