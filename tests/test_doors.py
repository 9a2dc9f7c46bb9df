"""
The own sockets of slivers.
"""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.doors import Doors


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
