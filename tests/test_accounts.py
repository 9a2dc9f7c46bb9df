"""
Which accounts of a host are ours, and what is wrong with them.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.accounts import DELEGATE, NO_LOGIN, Account, Accounts, read_accounts
from hostline.server.supervise.uids import UidRange

LOGIN = Path("/usr/bin/hostline-login")
UIDS = UidRange(200000, 100)


class NobodySpawns:
    """
    In place of a spawner: to start anything is an error.
    """

    def spawn(self, *argv: object, **more: object) -> None:
        raise AssertionError(f"started {argv}")


class AccountsTests(SynchronousTestCase):
    """
    A host's files, written by the test.
    """

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        (self.root / "etc").mkdir(parents=True)
        self.noted: dict[int, int] = {}
        self.accounts = Accounts(NobodySpawns(), "abc", UIDS, LOGIN, self.root, self.noted)  # type: ignore[arg-type]
        self.write(group="root:x:0:\n", shadow="")

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.root / "etc" / name).write_text(text)

    def line(self, name: str = "lab_web", uid: int = 200005, comment: str = "hostline abc/5", **more: str) -> str:
        return f"{name}:x:{uid}:{uid}:{comment}:/home/{name}:{more.get('shell', LOGIN)}\n"

    def test_knowsItsOwnByTheirComment(self) -> None:
        """
        Only accounts with our comment and a uid of our range are ours.
        """
        self.write(
            passwd=self.line()
            + self.line("ann", 1000, "Ann")
            + self.line("other", 200006, "hostline abcd/6")
            + self.line("liar", 1001, "hostline abc/7")
            + self.line("odd", 200007, "hostline abc/x")
            + self.line("plain", 200008, "")
            + "garbage\n:::::\n+::::::\n"
        )
        self.assertEqual({serial: one.name for serial, one in self.accounts.own().items()}, {5: "lab_web"})

    def test_takesNobodysWordForAUidThatWasNoted(self) -> None:
        """
        An account that says it is a sliver, and has not the uid that this was given, is not ours.
        """
        self.write(passwd=self.line())
        self.noted[5] = 200050
        self.assertEqual(self.accounts.own(), {})
        self.noted[5] = 200005
        self.assertEqual(list(self.accounts.own()), [5])

    def test_tellsDelegatesFromSlivers(self) -> None:
        """
        The account of a delegate is no sliver's, and the other way round, whatever their serials.
        """
        delegates = Accounts(NobodySpawns(), "abc", UIDS, LOGIN, self.root, label=DELEGATE)  # type: ignore[arg-type]
        self.write(passwd=self.line() + self.line("del_mon", 200006, "hostline abc/delegate-5"))
        self.assertEqual([one.name for one in self.accounts.own().values()], ["lab_web"])
        self.assertEqual({serial: one.name for serial, one in delegates.own().items()}, {5: "del_mon"})

    def test_isNotDeceivedByWhatUsersMayChange(self) -> None:
        """
        What C{chfn} lets a user write stands behind a comma, and changes nothing.
        """
        self.write(passwd=self.line(comment="hostline abc/5,room 1,hostline abc/6,"))
        self.assertEqual(list(self.accounts.own()), [5])
        self.assertEqual(self.accounts.own()[5].comment, "hostline abc/5")

    def test_saysWhatIsWrong(self) -> None:
        """
        Another shell, uid or expiry than it should have, or none at all, is a problem in words.
        """
        for passwd, shadow, up, problem in (
            (self.line(), "lab_web:*:1:0:9:7:::\n", True, None),
            (self.line(), "lab_web:*:1:0:9:7::1:\n", True, "expired"),
            (self.line(), "lab_web:*:1:0:9:7:::\n", False, f"instead of {NO_LOGIN}"),
            (self.line(shell=NO_LOGIN), "lab_web:*:1:0:9:7:::\n", False, "not shut"),
            (self.line(shell=NO_LOGIN), "lab_web:*:1:0:9:7::1:\n", False, None),
            (self.line(shell="/bin/sh"), "lab_web:*:1:0:9:7:::\n", True, "/bin/sh instead of"),
            (self.line(uid=200006), "lab_web:*:1:0:9:7:::\n", True, "the uid 200006"),
            ("", "", True, "gone"),
        ):
            self.write(passwd=passwd, shadow=shadow)
            found = self.accounts.problem(5, 200005, up)
            if problem is None:
                self.assertIsNone(found)
            else:
                self.assertIn(problem, found or "")

    def test_refusesNamesAndUidsOfOthers(self) -> None:
        """
        A name, a uid or a group that somebody else has is refused before anything is started.
        """
        for files, reason in (
            ({"passwd": self.line("lab_web", 1000, "Ann")}, "the name lab_web is taken by an account"),
            ({"passwd": self.line("ann", 200005, "Ann")}, "the uid 200005 is taken by the account ann"),
            ({"passwd": "", "group": "lab_web:x:77:\n"}, "the name lab_web is taken by a group"),
            ({"passwd": self.line("lab_db")}, "called lab_db, not lab_web"),
        ):
            self.write(**files)
            asked = self.accounts.ensure(5, "lab_web", 200005, "/home/lab_web", up=True)
            self.assertIn(reason, str(self.failureResultOf(Deferred.fromCoroutine(asked), OSError).value))

    def test_startsNothingWhenAllIsSo(self) -> None:
        """
        An account that is as it should be costs nothing but a look, and one that is gone needs no removal.
        """
        self.write(passwd=self.line(), shadow="lab_web:*:1:0:9:7:::\n")
        asked = self.accounts.ensure(5, "lab_web", 200005, "/home/lab_web", up=True)
        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(asked)))
        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(self.accounts.remove(6, "lab_x", 200006))))

    def test_readsLinesThatAreNoText(self) -> None:
        """
        Bytes that are no UTF-8 in somebody's name hold up nothing.
        """
        (self.root / "etc/passwd").write_bytes(b"ann:x:1:1:\xff,x:/:/bin/sh\n")
        self.assertEqual(read_accounts(self.root / "etc/passwd"), [Account("ann", 1, 1, "\udcff", "/", "/bin/sh")])
