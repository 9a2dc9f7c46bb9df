"""
The login shell of accounts lets in only whom the daemon lets in.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from hostline.clients import login
from tests.needs import needs_root


class AskTests(SynchronousTestCase):
    """
    A socket that answers what the test says.
    """

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.path = os.path.relpath(directory / "s")

    def ask(self, *parts: bytes) -> bytes:
        """
        @return: what was asked of one who answers in these parts.
        """
        heard: list[bytes] = []

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                heard.append(connection.recv(1000))
                for part in parts:
                    connection.sendall(part)

        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self.path)
            listening.listen()
            answering = threading.Thread(target=serve)
            answering.start()
            try:
                login.ask(self.path, 5)
            finally:
                answering.join()
                Path(self.path).unlink()
        return heard[0]

    def test_isLetIn(self) -> None:
        """
        The daemon is asked in one line, and its answer counts however it is cut.
        """
        self.assertEqual(self.ask(b"hello_re", b"ply {'a': 1}", b"\n"), b"hello client=login\n")

    def test_isRefused(self) -> None:
        """
        An error, half an answer, another answer or none keeps out, with what was said.
        """
        for parts, reason in (
            ((b"error_reply {'message': 'it is not up'}\n",), "it is not up"),
            ((b"hello_reply {",), "the daemon says"),
            ((b"ping_reply {}\n",), "ping_reply"),
            ((), "nothing"),
        ):
            with self.assertRaisesRegex(login.Refused, reason):
                self.ask(*parts)

    def test_isRefusedWhenNobodyAnswers(self) -> None:
        """
        No socket, or one at which nobody listens, keeps out.
        """
        with self.assertRaisesRegex(login.Refused, "does not answer"):
            login.ask(self.path, 1)
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(self.path)
            with self.assertRaisesRegex(login.Refused, "does not answer"):
                login.ask(self.path, 1)


class DoorTests(SynchronousTestCase):
    """
    Where a home's sliver has its socket.
    """

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.home = self.root / "home" / "lab_web"
        self.home.mkdir(parents=True)

    def door(self) -> str:
        return login.door_of(str(self.home))

    def test_isRefusedWithoutASliver(self) -> None:
        """
        A home beside which no door is named, or by a link, has none.
        """
        with self.assertRaisesRegex(login.Refused, "has no sliver"):
            self.door()
        (self.root / "door").symlink_to("/etc/hostname")
        with self.assertRaisesRegex(login.Refused, "has no sliver"):
            self.door()

    def test_trustsNothingOfItsOwn(self) -> None:
        """
        A file that the user could have written names no door.
        """
        (self.root / "door").write_text("/tmp/mine\n")
        with self.assertRaisesRegex(login.Refused, "not ours"):
            self.door()

    @needs_root
    def test_readsWhatAnotherWrote(self) -> None:
        """
        A file of somebody else's, that only he may write, names the door.
        """
        path = self.root / "door"
        path.write_text("/run/x/hostline.sock\n")
        os.chown(path, 1, 1)
        path.chmod(0o644)
        self.assertEqual(self.door(), "/run/x/hostline.sock")
        path.write_text("/run/x/host")
        with self.assertRaises(login.Refused):
            self.door()
        path.write_text("\n")
        with self.assertRaisesRegex(login.Refused, "no socket"):
            self.door()
        path.write_text("/run/x/hostline.sock\n")
        path.chmod(0o666)
        with self.assertRaises(login.Refused):
            self.door()
