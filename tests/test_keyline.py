"""
What is written in front of and behind a delegate's key.
"""

from __future__ import annotations

import base64

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.keyline import key_line


def blob(*parts: bytes) -> str:
    return base64.b64encode(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).decode()


DATA = blob(b"ssh-ed25519", b"k" * 32)


class KeyLineTests(SynchronousTestCase):
    """
    Keys as people send them.
    """

    def test_writesOurOptionsInFront(self) -> None:
        """
        A line lets in to the forward shell and nothing else; the comment says whose key it is.
        """
        for key in (f"ssh-ed25519 {DATA} ann@home", f"ssh-ed25519 {DATA} ann of the lab", f"ssh-ed25519 {DATA}"):
            self.assertEqual(key_line(key), f'restrict,command="hostline-shell" {key}')
        for kind in ("ssh-rsa", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com"):
            self.assertTrue(key_line(f"{kind} {blob(kind.encode(), b'k')}").endswith(f" {blob(kind.encode(), b'k')}"))

    def test_refusesWhatIsNoKey(self) -> None:
        """
        Options, further lines, certificates, and what is cut or of another type than it says are refused.
        """
        for key in (
            "",
            "ssh-ed25519",
            f'command="sh" ssh-ed25519 {DATA}',
            f'ssh-ed25519,command="sh" {DATA}',
            f"restrict ssh-ed25519 {DATA}",
            f"cert-authority ssh-ed25519 {DATA}",
            f"ssh-ed25519 {DATA} ann\nssh-ed25519 {DATA}",
            f"ssh-ed25519 {DATA}\r",
            f"ssh-ed25519\t{DATA}",
            f"ssh-ed25519  {DATA}",
            f"ssh-ed25519 {DATA[:-4]}",
            f"ssh-ed25519 {DATA[:-4]}====",
            f"ssh-ed25519 {blob(b'ssh-ed25519')}",
            f"ssh-ed25519 {blob(b'ssh-ed25519', b'k' * 32)[:-1]}",
            f"ssh-rsa {DATA}",
            f"ssh-ed25519-cert-v01@openssh.com {blob(b'ssh-ed25519-cert-v01@openssh.com', b'k')}",
            f"ssh-ed25519 {DATA} \x1b[2J",
            f"#ssh-ed25519 {DATA}",
        ):
            self.assertRaises(ValueError, key_line, key)

    @given(st.one_of(st.text(max_size=80), st.text(max_size=40).map(lambda text: f"ssh-ed25519 {DATA}{text}")))
    @example(f"ssh-ed25519 {DATA} \u2028ssh-rsa")
    def test_isOneLineWithOneKey(self, key: str) -> None:
        """
        Whatever is sent: an error, or one line in which our options are the only ones and the key is the whole rest.
        """
        try:
            line = key_line(key)
        except ValueError:
            return
        self.assertEqual(len(line.splitlines()), 1)
        self.assertTrue(line.startswith(f'restrict,command="hostline-shell" ssh-ed25519 {DATA}'), line)
        self.assertEqual(line.split(" ")[2], DATA)
