"""
The daemon's socket.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.sockets import SocketTaken, listen


class ListenTests(SynchronousTestCase):
    """
    Taken over only from the dead.
    """

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        self.path = directory / "hostline.sock"

    def listen(self, path: Path) -> socket.socket:
        found = listen(path, 0o600)
        self.addCleanup(found.close)
        return found

    def answers(self, path: Path, listening: socket.socket) -> None:
        """
        Connect as a client does, by whatever way is short enough.
        """
        with socket.socket(socket.AF_UNIX) as client:
            directory = os.open(path.parent, os.O_PATH)
            try:
                client.connect(f"/proc/self/fd/{directory}/{path.name}")
            finally:
                os.close(directory)
            listening.accept()[0].close()

    def test_listens(self) -> None:
        """
        Clients can connect, and the file has the mode that was asked for.
        """
        listening = self.listen(self.path)
        self.answers(self.path, listening)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_replacesAStaleSocket(self) -> None:
        """
        A socket that nobody answers at, left by a daemon that was killed, is replaced.
        """
        self.listen(self.path).close()
        self.assertTrue(self.path.is_socket())
        self.answers(self.path, self.listen(self.path))

    def test_refusesALiveOne(self) -> None:
        """
        Where somebody answers, nothing is taken away.
        """
        listening = self.listen(self.path)
        self.assertIn("another program answers", str(self.assertRaises(SocketTaken, self.listen, self.path)))
        listening.accept()[0].close()
        self.answers(self.path, listening)

    def test_refusesWhatIsNoSocket(self) -> None:
        """
        A file or a directory in its place is left alone.
        """
        self.path.write_text("precious")
        self.assertIn("no socket", str(self.assertRaises(SocketTaken, self.listen, self.path)))
        self.assertEqual(self.path.read_text(), "precious")
        self.path.unlink()
        self.path.mkdir()
        self.assertRaises(SocketTaken, self.listen, self.path)

    def test_listensAtALongPath(self) -> None:
        """
        A path of more than 107 bytes will do, and a stale socket there is replaced too.
        """
        directory = self.path.parent / ("d" * 100) / ("e" * 100)
        directory.mkdir(parents=True)
        path = directory / "hostline.sock"
        self.answers(path, self.listen(path))
        self.assertRaises(SocketTaken, self.listen, path)

    def test_leavesNoDescriptorOpen(self) -> None:
        """
        Refusals cost no file descriptors.
        """
        self.path.write_text("x")
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (one call, no object is wanted)
        for _ in range(3):
            self.assertRaises(SocketTaken, self.listen, self.path)
            self.assertRaises(OSError, self.listen, Path("/nonexistent/hostline.sock"))
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)  # noqa: PTH208
