"""
Telling what a command in a guest says from what is said of it.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.guestports import Marked

MARK = b"0123456789abcdef0123456789abcdef"


def fed(data: bytes, size: int) -> tuple[bytes, Marked]:
    """
    @return: what came out of a stream that came in pieces of this size.
    """
    marked, said = Marked(MARK), b""
    for at in range(0, len(data), size):
        said += marked.feed(data[at : at + size])
    return said, marked


class Streams(SynchronousTestCase):
    """
    One stream of a command.
    """

    @given(st.binary(), st.binary(), st.binary(), st.integers(0, 255), st.integers(1, 50))
    def test_isWhatTheCommandSaid(self, before: bytes, said: bytes, after: bytes, code: int, size: int) -> None:
        """
        Just what was written between the marks is heard, in whatever pieces it comes, and the status is known.
        """
        heard, marked = fed(before + MARK + said + MARK + b"%d\n" % code + after, size)
        self.assertEqual((heard, marked.over, marked.code), (said, True, code))

    @given(st.integers(1, len(MARK) - 1))
    def test_keepsBackOnlyWhatMayBeTheMark(self, cut: int) -> None:
        """
        What is surely the command's is heard at once.
        """
        marked = Marked(MARK)
        self.assertEqual(marked.feed(MARK + b"hello " + MARK[:cut]), b"hello ")
        self.assertEqual(marked.feed(b"!"), MARK[:cut] + b"!")

    def test_endsWithAnUnknownStatus(self) -> None:
        """
        A status that is none is not known; a line that goes on and on holds up nobody.
        """
        for end in (b"x\n", b"256\n", b"\n", b"-1\n", b"9" * 100):
            _, marked = fed(MARK + MARK + end, 7)
            self.assertEqual((marked.over, marked.code), (True, None))
