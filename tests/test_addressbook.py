"""
Which address each sliver has.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from random import Random
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.network.addressbook import MOST, AddressBook
from hostline.server.supervise import homes

SMALL = IPv4Network("10.1.2.0/29")


class AddressBookTests(SynchronousTestCase):
    """
    Given once, kept until forgotten.
    """

    def book(self, directory: Path | None = None, subnet: IPv4Network = SMALL) -> AddressBook:
        book = AddressBook(directory or Path(self.mktemp(), "network", "addresses"), subnet)
        book.load()
        return book

    def test_keptOverRestart(self) -> None:
        """
        A sliver has the same address after a restart of the daemon, and never the host's.
        """
        directory = Path(self.mktemp())
        book = self.book(directory)
        given = {serial: book.ensure(serial) for serial in (7, 8, 70001)}
        self.assertEqual(self.book(directory).leases(), given)
        self.assertNotIn(book.gateway, [lease.address for lease in given.values()])
        self.assertEqual(str(book.gateway), "10.1.2.1")

    @given(st.lists(st.integers(1, 14), unique=True, max_size=5), st.randoms(use_true_random=False))
    def test_keptOverCrashOfTheHost(self, serials: list[int], chance: Random) -> None:
        """
        A host that fails before what we did not wait for is on its disk gives every sliver its address again.
        """
        directory = Path(self.mktemp())
        book, waited = self.book(directory), set()
        write_note = homes.write_note

        def noted(path: Path, text: str, *, lasting: bool = False) -> None:
            write_note(path, text, lasting=lasting)
            waited.update([path] * lasting)

        with mock.patch.object(homes, "write_note", noted):
            given = {serial: book.ensure(serial) for serial in serials}
        for note in set(directory.iterdir()) - waited:
            note.unlink()
        later = self.book(directory)
        chance.shuffle(serials)
        self.assertEqual({serial: later.ensure(serial) for serial in serials}, given)

    def test_noneFree(self) -> None:
        """
        When all are taken, an error says so; when one is forgotten, it can be given.
        """
        book = self.book()
        given = {book.ensure(serial).address for serial in range(5)}
        self.assertEqual(given, set(list(SMALL.hosts())[1:]))
        self.assertIn("no address is free in 10.1.2.0/29", str(self.assertRaises(OSError, book.ensure, 5)))
        freed = book.ensure(3).address
        book.forget(3)
        self.assertEqual(book.ensure(5).address, freed)

    def test_forgottenOverRestart(self) -> None:
        """
        What was forgotten is nobody's after a restart.
        """
        directory = Path(self.mktemp())
        book = self.book(directory)
        book.ensure(1)
        book.forget(1)
        book.forget(1)
        self.assertEqual((book.lease(1), self.book(directory).serials()), (None, set()))

    def test_damagedNotes(self) -> None:
        """
        Notes that are empty, cut off, no address, the host's address, of another subnet, or say what another says, give
        no address; the first of two that say the same does.
        """
        directory = Path(self.mktemp())
        directory.mkdir()
        texts = ("", "10.1.2.3", "nonsense\n", "10.1.2.1\n", "10.1.2.7\n", "10.9.9.3\n", "10.1.2.4\n", "10.1.2.4\n")
        for serial, text in enumerate(texts, 1):
            (directory / str(serial)).write_text(text)
        (directory / "9").write_bytes(b"\xff\xfe\n")
        (directory / "10").mkdir()
        (directory / "2.new").write_text("10.1.2.5\n")
        book = self.book(directory)
        self.assertEqual({serial: str(lease.address) for serial, lease in book.leases().items()}, {7: "10.1.2.4"})
        self.assertNotEqual(book.ensure(8).address, book.ensure(7).address)

    def test_cannotBeNoted(self) -> None:
        """
        No address is given that could not be noted: after a crash two slivers might have it.
        """
        directory = Path(self.mktemp())
        book = self.book(directory)
        (directory / "1.new").mkdir()
        self.assertRaises(OSError, book.ensure, 1)
        self.assertIsNone(book.lease(1))

    def test_noMoreThanClasses(self) -> None:
        """
        In a large subnet only as many are given as there are numbers for classes.
        """
        lease = AddressBook(Path(self.mktemp()), IPv4Network("10.0.0.0/8")).lease_at(MOST)
        self.assertLess(max(lease.minors), 0xFFFF)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=30))
    def test_neverTwice(self, steps: list[tuple[bool, int]]) -> None:
        """
        Whatever is given and forgotten, no two slivers have the same address, and a restart changes nothing.
        """
        directory = Path(self.mktemp())
        book = self.book(directory)
        for give, serial in steps:
            if not give:
                book.forget(serial)
            elif len(book.serials()) < 5:
                book.ensure(serial)
        leases = book.leases()
        self.assertEqual(len({lease.address for lease in leases.values()}), len(leases))
        self.assertEqual(self.book(directory).leases(), leases)
