"""
The homes of delegates, as they are written and looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.delegate_homes import DelegateHomes
from tests.test_accounts import NobodySpawns
from tests.test_keyline import DATA, blob

KEY = f"ssh-ed25519 {DATA} ann"
OTHER = f"ssh-ed25519 {blob(b'ssh-ed25519', b'o' * 32)} bob"


class HomesTests(SynchronousTestCase):
    """
    Homes in a directory of the test's own.
    """

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.homes = DelegateHomes(self.directory, NobodySpawns())  # type: ignore[arg-type]

    def ensure(self, *keys: str) -> bool:
        return self.successResultOf(Deferred.fromCoroutine(self.homes.ensure(5, keys)))

    def test_hasKeysAndNothingElse(self) -> None:
        """
        Everybody may read the home, nobody but its owner may write, and only the keys are in it.
        """
        self.assertFalse(self.ensure(KEY, OTHER))
        keys = self.directory / "5" / ".ssh" / "authorized_keys"
        self.assertEqual(
            keys.read_text(), f'restrict,command="hostline-shell" {KEY}\nrestrict,command="hostline-shell" {OTHER}\n'
        )
        modes = [one.stat().st_mode & 0o7777 for one in (self.directory / "5", keys.parent, keys)]
        self.assertEqual(modes, [0o755, 0o755, 0o644])
        self.assertIsNone(self.homes.wrong(5, [KEY, OTHER]))

    def test_tellsWhenAKeyWasTakenAway(self) -> None:
        """
        What is open must be ended when a key is taken away, not when one comes.
        """
        self.assertFalse(self.ensure(KEY))
        self.assertFalse(self.ensure(KEY, OTHER))
        self.assertFalse(self.ensure(OTHER, KEY))
        self.assertTrue(self.ensure(OTHER))
        self.assertTrue(self.ensure())

    def test_seesWhatSomebodyChanged(self) -> None:
        """
        Another mode, more files, a link, other keys: each is wrong.
        """
        ssh = self.directory / "5" / ".ssh"
        keys = ssh / "authorized_keys"
        changes: list[Callable[[], object]] = [
            lambda: (self.directory / "5").chmod(0o777),
            lambda: ssh.chmod(0o700),
            lambda: keys.chmod(0o600),
            lambda: keys.write_text(KEY),
            lambda: _link(keys, "/etc/passwd"),
            lambda: os.link(keys, self.directory / "second"),
        ]
        for change in changes:
            self.ensure(KEY)
            self.assertIsNone(self.homes.wrong(5, [KEY]))
            change()
            self.assertIsNotNone(self.homes.wrong(5, [KEY]))
        self.ensure(KEY)
        for more in (self.directory / "5" / ".profile", ssh / "authorized_keys2", ssh / "rc", ssh / "environment"):
            more.touch()
            self.assertIsNotNone(self.homes.wrong(5, [KEY]))
            more.unlink()
        self.assertIsNone(self.homes.wrong(5, [KEY]))
        self.assertIn("not there", self.homes.wrong(6, []) or "")

    def test_notesWhatIsMade(self) -> None:
        """
        Name and uid are noted before there is anything, for a daemon that comes after.
        """
        self.homes.note(5, "del_mon", 70005)
        later = DelegateHomes(self.directory, NobodySpawns())  # type: ignore[arg-type]
        self.assertEqual((later.noted(5), dict(later.uids), later.there()), (("del_mon", 70005), {5: 70005}, {5}))
        (self.directory / "6.account").write_text("garbage\n")
        (self.directory / "shell").mkdir()
        self.assertEqual((later.noted(6), later.uids.get(7), later.there()), (None, None, {5, 6}))
        self.successResultOf(Deferred.fromCoroutine(later.remove(5)))
        self.assertEqual((later.noted(5), later.there()), (None, {6}))


def _link(place: Path, target: str) -> None:
    place.unlink()
    place.symlink_to(target)
