"""
Delegates whose accounts are made, changed and removed with them.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise.accounts import Taken
from tests.daemons import Client, FakeAccounts, make, topdl

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh ann"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJi bob"


class Accounts(FakeAccounts):
    """
    Accounts that take their time, or cannot be made.

    @ivar held: whether what is asked for waits for L{go_on}.
    @ivar error: what comes of it instead.
    @ivar said: what was asked for, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = False
        self.error: OSError | None = None
        self.said: list[str] = []
        self._waiting: list[Deferred[None]] = []

    async def ensure(self, serial: int, name: str, uid: int, keys: Sequence[str]) -> None:
        self.said.append(f"ensure {name}")
        await self._turn()
        await super().ensure(serial, name, uid, keys)

    async def remove(self, serial: int) -> None:
        self.said.append("remove")
        await self._turn()
        await super().remove(serial)

    async def _turn(self) -> None:
        if self.held:
            self._waiting.append(Deferred())
            await self._waiting[-1]
        if self.error is not None:
            raise self.error

    def go_on(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    @property
    def names(self) -> list[str]:
        return sorted(name for name, _, _ in self.made.values())


class DelegatesTests(SynchronousTestCase):
    """
    As an operator makes and removes them.
    """

    def setUp(self) -> None:
        self.accounts = Accounts()
        self.daemon = make(accounts=self.accounts)
        self.operator = self.daemon.connect()
        self.operator.body("add_project lab")
        self.operator.body(f"create_experiment lab/demo {topdl({'web': None})}")

    def add(self, name: str = "del_mon", more: str = "") -> str:
        return f"add_delegate {name} keys={[KEY]!r} commands=status_request slivers=lab/demo {more}"

    def begin(self, line: str) -> Client:
        """
        Ask for what takes a while.
        """
        self.accounts.held = True
        client = self.daemon.connect()
        client.send(line + "\n")
        self.assertEqual(client.lines(), [])
        return client

    def go_on(self) -> None:
        self.accounts.held = False
        self.accounts.go_on()
        self.daemon.settle()

    def tidy(self) -> None:
        """
        What the daemon does each minute.
        """
        self.daemon.daemon.delegates.tidy()
        self.daemon.advance(1)

    def delegates(self) -> list[str]:
        return [one["name"] for one in self.operator.body("delegates")]

    def assertNone(self) -> None:
        """
        There is no delegate and no account.
        """
        self.assertEqual((self.delegates(), self.accounts.made), ([], {}))
        self.daemon.check()

    def test_makesTheAccountFirst(self) -> None:
        """
        Until the account is made there is no delegate; then it is answered, with a uid of the range for delegates.
        """
        client = self.begin(self.add())
        self.assertEqual(self.delegates(), [])
        self.go_on()
        (reply,) = client.replies()
        self.assertEqual((reply.body["account"], reply.body["keys"]), (True, [KEY]))
        self.assertIn(reply.body["uid"], range(70000, 70000 + 8192))
        self.assertEqual(self.accounts.made, {reply.body["serial"]: ("del_mon", reply.body["uid"], (KEY,))})
        mon = self.daemon.connect(reply.body["uid"])
        self.assertEqual(mon.code("status_request lab/demo"), "status_reply")
        self.assertEqual(mon.code("topology lab/demo"), "NO_SUCH_EXPERIMENT")
        self.daemon.check()

    def test_saysWhatItCannot(self) -> None:
        """
        Without accounts uid= is wanted; with uid= the keys are none of ours; the reserved uids are nobody's.
        """
        for line in (
            f"add_delegate del_mon uid=5003 keys={[KEY]!r}",
            "add_delegate del_mon uid=70000",
            "add_delegate 4711",
            "add_delegate del_mon keys=['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZ1bGw= cut']",
            "add_delegate del_mon slivers=['*','lab/demo']",
        ):
            self.assertEqual(self.operator.code(line), "BAD_VALUE", line)
        alone = make().connect()
        reply = alone.ask("add_delegate del_mon")
        self.assertIn("want the uid of the delegate's account; the daemon does not run as root", reply.body["message"])
        self.operator.body("add_delegate del_mon uid=5003")
        self.assertEqual(self.operator.code(f"set_delegate del_mon keys={[KEY]!r}"), "BAD_VALUE")
        self.assertEqual(self.accounts.said, [])

    def test_saysWhyNoAccountWasMade(self) -> None:
        """
        A name of another's is EXISTS, a program's refusal is told as it is; nothing is left of either.
        """
        for error, code in (
            (Taken("the name del_mon is taken by an account of this host that is not ours"), "EXISTS"),
            (OSError("useradd: cannot lock /etc/passwd; try again later."), "FAILED"),
        ):
            self.accounts.error = error
            reply = self.operator.ask(self.add())
            self.assertEqual(reply.body["code"], code)
            self.assertIn(str(error), reply.body["message"])
            self.accounts.error = None
            self.daemon.advance(100)
            self.assertNone()

    def test_givesANameOnce(self) -> None:
        """
        While an account is being made its name is taken, whatever its case.
        """
        client = self.begin(self.add())
        self.assertEqual(self.operator.code(self.add("DEL_MON")), "EXISTS")
        self.assertEqual(
            self.operator.code(self.add(more="uid=5003").replace(f"keys={[KEY]!r}", "")), "add_delegate_reply"
        )
        self.go_on()
        self.assertEqual(client.lines(), ["EXISTS"])
        self.daemon.advance(1)
        self.assertEqual((self.delegates(), self.accounts.made), (["del_mon"], {}))

    def test_undoesWhatCannotBeKept(self) -> None:
        """
        If the state cannot be written there is neither delegate nor account, and after a failed removal both.
        """
        client = self.begin(self.add())
        self.daemon.store.full = True
        self.go_on()
        self.assertEqual(client.lines(), ["STORE_FAILED"])
        self.daemon.advance(1)
        self.daemon.store.full = False
        self.assertNone()
        self.operator.body(self.add())
        client = self.begin("remove_delegate del_mon")
        self.daemon.store.full = True
        self.go_on()
        self.assertEqual(client.lines(), ["STORE_FAILED"])
        self.daemon.store.full = False
        self.daemon.advance(1)
        self.assertEqual((self.delegates(), self.accounts.names), (["del_mon"], ["del_mon"]))

    def test_looksAgainBeforeItIsSo(self) -> None:
        """
        An experiment that is gone by the time that the account is made is granted to nobody.
        """
        client = self.begin(self.add())
        self.operator.body("terminate lab/demo wait=10")
        self.go_on()
        self.assertEqual(client.lines(), ["NO_SUCH_EXPERIMENT"])
        self.daemon.advance(1)
        self.assertNone()

    def test_setsOneThingOrAll(self) -> None:
        """
        What set_delegate does not name stays; keys are in force when it is answered.
        """
        self.operator.body(self.add())
        body = self.operator.body("set_delegate del_mon commands=['topology','topology']")
        self.assertEqual((body["commands"], body["slivers"], body["keys"]), (["topology"], ["lab/demo"], [KEY]))
        client = self.begin(f"set_delegate del_mon keys={[OTHER]!r} slivers=[]")
        self.go_on()
        self.assertEqual(client.replies()[0].body["slivers"], [])
        self.assertEqual([keys for _, _, keys in self.accounts.made.values()], [(OTHER,)])
        self.assertEqual(self.operator.code("set_delegate del_none keys=[]"), "NO_SUCH_DELEGATE")
        self.assertEqual(self.operator.code("set_delegate del_mon commands=add_user"), "BAD_VALUE")
        self.daemon.check()

    def test_keepsTheOldKeysIfTheNewCannotBe(self) -> None:
        """
        Keys that could not be written, or not be kept, are not in force.
        """
        self.operator.body(self.add())
        self.accounts.error = OSError("No space left on device")
        self.assertEqual(self.operator.code(f"set_delegate del_mon keys={[OTHER]!r}"), "FAILED")
        self.accounts.error = None
        client = self.begin(f"set_delegate del_mon keys={[OTHER]!r}")
        self.daemon.store.full = True
        self.go_on()
        self.assertEqual(client.lines(), ["STORE_FAILED"])
        self.daemon.store.full = False
        self.daemon.advance(1)
        self.assertEqual(self.operator.body("delegates")[0]["keys"], [KEY])
        self.assertEqual([keys for _, _, keys in self.accounts.made.values()], [(KEY,)])

    def test_lastOneWins(self) -> None:
        """
        Two that set keys at once: what the record says in the end is what is in force.
        """
        self.operator.body(self.add())
        clients = [self.begin(f"set_delegate del_mon keys={[key]!r}") for key in (OTHER, KEY)]
        for _ in range(3):
            self.go_on()
        self.assertEqual([client.lines() for client in clients], [["set_delegate_reply"]] * 2)
        (shown,) = self.operator.body("delegates")
        self.assertEqual([keys for _, _, keys in self.accounts.made.values()], [tuple(shown["keys"])])
        self.daemon.check()

    def test_removesTheAccountFirst(self) -> None:
        """
        The delegate is there until its account is not; meanwhile nobody changes or removes it again.
        """
        self.operator.body(self.add())
        client = self.begin("remove_delegate del_mon")
        self.assertEqual(self.delegates(), ["del_mon"])
        for line in ("remove_delegate del_mon", "set_delegate del_mon keys=[]", "set_delegate del_mon commands=ping"):
            self.assertEqual(self.operator.code(line), "WRONG_STATE", line)
        self.go_on()
        self.assertEqual(client.lines(), ["remove_delegate_reply"])
        self.assertNone()

    def test_staysIfItCannotBeRemoved(self) -> None:
        """
        A removal that fails says why; the delegate stays, with its account mended.
        """
        self.operator.body(self.add())
        self.accounts.error = OSError("its processes do not end: 4242")
        reply = self.operator.ask("remove_delegate del_mon")
        self.assertEqual(reply.body["code"], "FAILED")
        self.assertIn("do not end: 4242", reply.body["message"])
        self.accounts.error = None
        self.tidy()
        self.assertEqual((self.delegates(), self.accounts.names), (["del_mon"], ["del_mon"]))
        self.assertEqual(self.operator.body("delegates")[0]["problems"], [])

    def test_isOneOrTheOtherAfterACrash(self) -> None:
        """
        A daemon that died between account and record: without a record the account goes, with one it is made again.
        """
        self.begin(self.add())
        self.accounts.made[99] = ("del_mon", 70099, (KEY,))
        self.accounts.held = False
        self.daemon.crash()
        self.operator = self.daemon.connect()
        self.assertNone()
        self.operator.body(self.add())
        self.accounts.made.clear()
        self.daemon.crash()
        self.operator = self.daemon.connect()
        self.assertEqual((self.delegates(), self.accounts.names), (["del_mon"], ["del_mon"]))

    def test_leavesStraysAloneWhenRecordsAreLost(self) -> None:
        """
        If records were damaged, accounts without one stay: theirs may be among them.
        """
        self.operator.body(self.add())
        self.daemon.disk.connection.execute("UPDATE records SET body='{' WHERE kind='delegate'")
        self.daemon.crash()
        self.tidy()
        self.assertEqual(self.accounts.names, ["del_mon"])

    def test_givesNoUidAgainSoon(self) -> None:
        """
        A delegate of the same name is another one; a uid that somebody has is passed over.
        """
        first = self.operator.body(self.add())
        self.operator.body("remove_delegate del_mon")
        second = self.operator.body(self.add())
        self.assertNotEqual(first["uid"], second["uid"])
        self.assertEqual(self.operator.code(f"add_user ann uid={second['uid']}"), "BAD_VALUE")

    def test_mendsWhatIsNotSo(self) -> None:
        """
        Each minute what somebody changed is put right; what cannot be is said, beside the delegate and by doctor.
        """
        serial = self.operator.body(self.add())["serial"]
        self.accounts.made[serial] = ("del_mon", 1, ())
        self.accounts.error = OSError("usermod: no changes")
        self.tidy()
        self.assertEqual(self.operator.body("delegates")[0]["problems"], ["usermod: no changes"])
        (found,) = [one for one in self.operator.body("doctor") if one["check"] == "delegates"]
        self.assertEqual((found["ok"], found["detail"]), (False, "del_mon: usermod: no changes"))
        self.accounts.error = None
        self.tidy()
        self.assertEqual(self.operator.body("delegates")[0]["problems"], [])
        self.assertEqual(self.accounts.made[serial][2], (KEY,))

    def test_saysWhatADaemonWithoutRootCannot(self) -> None:
        """
        Records of accounts that this daemon cannot look after are shown as such, and not removed behind its back.
        """
        self.operator.body(self.add())
        self.daemon.accounts = None
        self.daemon.crash()
        operator = self.daemon.connect()
        (shown,) = operator.body("delegates")
        self.assertEqual(shown["problems"], ["its account is not looked after: the daemon does not run as root"])
        self.assertEqual(operator.code("remove_delegate del_mon"), "WRONG_STATE")
        (found,) = [one for one in operator.body("doctor") if one["check"] == "delegates"]
        self.assertFalse(found["ok"])

    def test_spy(self) -> None:
        """
        With slivers=* a delegate may say its commands of all that there is and will be.
        """
        body = self.operator.body("add_delegate del_spy commands=status_request slivers=*")
        self.assertEqual((body["every"], body["slivers"]), (True, ["*"]))
        self.operator.body(f"create_experiment lab/late {topdl({'web': None})}")
        spy = self.daemon.connect(body["uid"])
        self.assertEqual(spy.code("status_request lab/late"), "status_reply")
        self.assertEqual(spy.code("terminate lab/late"), "NO_SUCH_EXPERIMENT")
        self.assertFalse(self.operator.body("set_delegate del_spy slivers=lab/demo")["every"])
        self.assertEqual(spy.code("status_request lab/late"), "NO_SUCH_EXPERIMENT")
