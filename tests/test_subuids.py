"""
Every container its own block of uids.
"""

from __future__ import annotations

import unittest
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from hostline.server.supervise.subuids import BLOCK, SubuidRange, Subuids
from hostline.server.supervise.uids import of_accounts

FIRST = 100 * BLOCK


class SubuidTests(unittest.TestCase):
    """
    Given, noted, kept, and given back.
    """

    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name)

    def make(self, blocks: int = 4, accounts: tuple[range, ...] = ()) -> Subuids:
        uids = Subuids(self.path, SubuidRange(FIRST, blocks * BLOCK), accounts)
        uids.load()
        return uids

    def ensure(self, uids: Subuids, serial: int) -> int:
        (self.path / str(serial)).mkdir(exist_ok=True)
        return uids.ensure(serial)

    def test_isTheSameToTheNextDaemon(self) -> None:
        """
        A container has the block that it had, whatever others were given.
        """
        one = self.make()
        given_ = [self.ensure(one, serial) for serial in (5, 9, 1)]
        other = self.make()
        self.assertEqual([self.ensure(other, serial) for serial in (1, 9, 5)], given_[::-1])

    def test_overlapsNobody(self) -> None:
        """
        What an account, or a block of another configuration, has is not given.
        """
        (self.path / "7").mkdir()
        (self.path / "7" / "subuids").write_text(f"{FIRST + BLOCK // 2}\n")
        uids = self.make(accounts=(range(FIRST + 3 * BLOCK + 5, FIRST + 3 * BLOCK + 6),))
        self.assertEqual(self.ensure(uids, 0), FIRST + 2 * BLOCK)

    def test_saysWhenAllAreTaken(self) -> None:
        """
        Without a free block it says which range is full, and a destroyed container's block is given again.
        """
        uids = self.make(blocks=2)
        self.ensure(uids, 1)
        self.ensure(uids, 2)
        with self.assertRaisesRegex(ValueError, f"{FIRST}-"):
            self.ensure(uids, 3)
        uids.forget(1)
        self.assertEqual(self.ensure(uids, 3), FIRST + BLOCK)

    @settings(deadline=None, max_examples=20)
    @given(st.lists(st.integers(0, 10**9), unique=True, max_size=30))
    def test_neverOverlaps(self, serials: list[int]) -> None:
        """
        No two containers share a uid.
        """
        with TemporaryDirectory() as directory:
            self.path = Path(directory)
            uids = self.make(blocks=30)
            firsts = sorted(self.ensure(uids, serial) for serial in serials)
        self.assertTrue(all(b - a >= BLOCK for a, b in pairwise(firsts)))

    def test_readsAccounts(self) -> None:
        """
        Accounts, groups and what they have for their own containers are found; nonsense is passed over.
        """
        (self.path / "passwd").write_text("root:x:0:0::/root:/bin/sh\nnonsense\na:x:x:1::/:\n")
        (self.path / "subuid").write_text("ann:100000:65536\nbob:abc:1\n")
        self.assertEqual(of_accounts(self.path), [range(1), range(100000, 165536)])
