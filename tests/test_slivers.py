"""
Free slivers: their life by commands, on a host in memory.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.connection import Connection
from hostline.server.drivers.driver import Status, Workload
from hostline.server.records import Image, Sliver, User
from tests.daemons import Client, FakePeer, FakeTransport, MemoryDaemon, make

KEY = "ssh-ed25519 AAAA ann@lab"


class Inside(Client):
    """
    Somebody in a sliver, at its own socket.
    """

    def __init__(self, whole: MemoryDaemon, serial: int, uid: int = 0) -> None:
        self._whole = whole
        self.connection = Connection(whole.daemon, partial(whole.daemon.caller_inside, serial))
        self.transport = FakeTransport(whole.loop, self.connection, FakePeer(uid, uid, ()))
        self.connection.connection_made(self.transport)


class SliverTests(SynchronousTestCase):
    """
    One host with the project lab; ann is its member, bob in none.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.ann = self.daemon.lab()
        self.operator = self.daemon.connect()
        self.bob = self.daemon.connect(5002)

    def create(self, name: str = "lab_web", **options: Any) -> dict[str, Any]:
        said = "".join(f" {key}={value!r}" for key, value in options.items())
        body: dict[str, Any] = self.operator.body(f"create {name} kind=process owner=ann{said}")
        return body

    def show(self, name: str = "lab_web") -> Any:
        return self.operator.body(f"sliver {name}")

    def events(self, topic: str = "sliver/lab_web") -> list[str]:
        return [one["what"] for one in self.operator.body(f"events topic={topic}")]

    def delegated(self, name: str = "lab_del", **fields: Any) -> Sliver:
        """
        A record as an authority gives it.
        """
        change = self.daemon.host.change(self.daemon.now())
        user = self.daemon.host.table(User)["ann"]
        sliver = Sliver(
            serial=change.serial(),
            name=name,
            kind="process",
            wanted="absent",
            created=change.now,
            owner=f"user:{user.serial}",
            remains=True,
            **{"instantiation": "delegated", **fields},
        )
        change.add(sliver)
        self.daemon.daemon.commit(change)
        self.daemon.settle()
        return sliver


class LifeTests(SliverTests):
    """
    From create to destroy.
    """

    def test_leavesNothingOfWhatCouldNotBeMade(self) -> None:
        """
        What a driver has half made is taken away with the sliver; it is gone only then, however often that takes.
        """
        driver, asked = self.daemon.driver, []
        left = [False, True]

        async def cannot(workload: Workload) -> None:
            raise OSError("its name is taken")

        async def take_away(serial: int) -> None:
            asked.append(serial)
            if not left.pop(0):
                raise OSError("it is in use")

        driver.ensure_created = cannot  # type: ignore[method-assign]
        driver.ensure_destroyed = take_away  # type: ignore[method-assign]
        self.operator.ask("create lab_web kind=process wait=1")
        self.daemon.settle()
        serial = self.show()["serial"]
        self.assertEqual(self.show()["state"], "failed")
        self.operator.ask("destroy lab_web wait=0")
        self.daemon.settle()
        self.assertEqual((asked, self.show()["state"]), ([serial], "destroying"))
        self.daemon.advance(60)
        self.assertEqual((asked, self.operator.code("sliver lab_web")), ([serial] * 2, "NO_SUCH_SLIVER"))

    def test_tellsOfItsEnd(self) -> None:
        """
        Who watches a sliver hears when it is off the host, whoever asked for that.
        """
        self.create()
        self.operator.body("destroy lab_web")
        self.assertEqual([one["what"] for one in self.operator.body("events") if "sliver" in one][-1], "destroyed")

    def test_runsOnceCreated(self) -> None:
        """
        create answers when the sliver is up; it has the defaults of all that was not asked for.
        """
        body = self.create(rspec={"pids_max": 40})
        self.assertEqual((body["state"], body["boot"], body["owner"]), ("running", "booted", "ann"))
        self.assertEqual((body["rspec"]["pids_max"], body["rspec"]["cpu_share"]), (40, 32))
        self.assertEqual(self.events()[0], "created")

    def test_isGoneOnceDestroyed(self) -> None:
        """
        destroy answers when nothing is left; the name may be used again, by another sliver.
        """
        first = self.create()
        self.assertEqual(self.operator.body("destroy lab_web")["state"], "absent")
        self.assertEqual(self.operator.body("slivers"), [])
        self.assertEqual(self.operator.code("sliver lab_web"), "NO_SUCH_SLIVER")
        self.assertNotEqual(self.create()["serial"], first["serial"])
        self.daemon.check()

    def test_staysStoppedWhenTheDaemonRestarts(self) -> None:
        """
        A stopped sliver stays stopped, also over a restart, until it is started.
        """
        self.create()
        self.assertEqual(self.operator.body("stop lab_web")["state"], "stopped")
        self.daemon.crash()
        self.operator = self.daemon.connect()
        self.assertEqual(self.show()["state"], "stopped")
        self.assertEqual(self.operator.body("start lab_web")["state"], "running")

    def test_isMadeAnewOnRecreate(self) -> None:
        """
        recreate has the driver destroy and make the sliver; record and serial stay.
        """
        before = self.create()
        self.daemon.driver.calls.clear()
        after = self.operator.body("recreate lab_web")
        calls = [name for name, _ in self.daemon.driver.calls]
        self.assertEqual(calls[:3], ["ensure_destroyed", "ensure_created", "ensure_started"])
        self.assertEqual((after["serial"], after["builds"]), (before["serial"], 2))
        self.daemon.crash()
        self.assertEqual(self.daemon.connect().body("sliver lab_web")["pid"], after["pid"])

    def test_isDestroyedWhenAllIsAskedAtOnce(self) -> None:
        """
        Create, stop and destroy asked back to back end with it destroyed.
        """
        self.operator.send("create lab_web kind=process wait=0\nstop lab_web wait=0\ndestroy lab_web wait=0\n")
        self.daemon.advance(1)
        self.assertEqual(self.operator.body("slivers"), [])
        self.daemon.check()

    def test_isDestroyedThoughItIsBeingMade(self) -> None:
        """
        A sliver that is destroyed while it is being made is gone once it has been made and taken away, and not before.
        """
        driver, made = self.daemon.driver, Deferred[None]()
        create = driver.ensure_created

        async def slowly(workload: Workload) -> None:
            await made
            await create(workload)

        self.patch(driver, "ensure_created", slowly)
        for line in ("create lab_web kind=process wait=0", "stop lab_web wait=0", "destroy lab_web wait=0"):
            number = self.operator.body(line).get("operation")
        self.daemon.advance(10)
        self.assertEqual(self.operator.body(f"operation {number}")["state"], "running")
        self.assertEqual(self.show()["state"], "destroying")
        made.callback(None)
        self.daemon.settle()
        self.assertEqual(self.operator.body(f"operation {number}")["state"], "done")
        self.assertEqual((self.operator.body("slivers"), dict(driver.status())), ([], {}))
        self.daemon.check()

    def test_saysWhyItFailed(self) -> None:
        """
        A create that fails is answered by the innermost cause; the sliver is failed, and can be tried again.
        """
        self.daemon.driver.errors["ensure_created"] = [OSError("no room")]
        reply = self.operator.ask("create lab_web kind=process")
        self.assertEqual(reply.body["code"], "FAILED")
        self.assertIn("no room", reply.body["message"])
        self.assertEqual(reply.body["causes"][-1], "create lab_web failed")
        self.assertEqual(self.show()["state"], "failed")
        self.assertEqual(self.operator.body("start lab_web")["state"], "running")

    def test_goesOnWhileAnotherIsSlow(self) -> None:
        """
        A create that takes long is answered by an operation, and delays no answer about another sliver.
        """
        self.create("lab_b")
        self.daemon.driver.boot_after = 600
        self.operator.send("create lab_a kind=process\n")
        self.assertEqual(self.daemon.connect().body("get_ssh_keys lab_b"), {"lab_b": []})
        self.daemon.advance(31)
        (reply,) = self.operator.replies()
        self.assertEqual((reply.word, reply.body["state"]), ("operation_reply", "running"))
        self.daemon.advance(600)
        self.assertEqual(self.operator.body(f"operation {reply.body['operation']}")["state"], "done")

    def test_takesBackACancelledCreate(self) -> None:
        """
        A create that is cancelled leaves nothing.
        """
        self.daemon.driver.boot_after = 600
        number = self.operator.body("create lab_web kind=process wait=0")["operation"]
        self.assertEqual(self.operator.body(f"cancel {number}")["state"], "cancelled")
        self.daemon.advance(1)
        self.assertEqual(self.operator.body("slivers"), [])
        self.assertEqual(dict(self.daemon.driver.status()), {})

    def test_tellsWhatItIsCalledIfItExists(self) -> None:
        """
        A name that is taken, in any spelling, is refused; a wrong one too; a near one is named.
        """
        self.create()
        self.assertEqual(self.operator.code("create lab_web kind=process"), "EXISTS")
        self.assertEqual(self.operator.code("create lab_Web kind=process"), "EXISTS")
        self.assertEqual(self.operator.code("create Lab_web kind=process"), "BAD_VALUE")
        self.assertIn("did you mean lab_web", self.operator.ask("start lab_wep").body["message"])
        self.assertEqual(self.operator.code("create lab_x kind=qemu"), "BAD_VALUE")
        self.assertEqual(self.operator.code("create lab_x kind=account"), "WRONG_STATE")

    def test_survivesACrashAtEachStep(self) -> None:
        """
        Whatever was acknowledged is so after a crash.
        """
        self.create(expires="+1h", keys=[KEY], initscript="echo hello")
        before = self.show()
        self.daemon.crash()
        self.assertEqual(self.daemon.connect().body("sliver lab_web"), before)
        self.daemon.check()


class SettingTests(SliverTests):
    """
    set_sliver, and what the host makes of it.
    """

    def test_appliesToTheRunningSliver(self) -> None:
        """
        A new limit is in force at once, without a new boot.
        """
        before = self.create()
        body = self.operator.body("set_sliver lab_web rspec={'pids_max': 99}")
        self.assertEqual((body["rspec"]["pids_max"], body["rspec"]["cpu_share"]), (99, 32))
        after = self.show()
        self.assertEqual(after["in_force"]["pids_max"], 99)
        self.assertEqual(after["pid"], before["pid"])

    def test_leavesLimitsToOperators(self) -> None:
        """
        An owner may change keys and scripts, and not what the sliver may take of the host.
        """
        self.create()
        self.assertEqual(self.ann.body(f"set_sliver lab_web keys=[{KEY!r}]")["name"], "lab_web")
        for option in ("rspec={'pids_max': 99}", "expires=+1h", "owner=bob", "users=['bob']"):
            self.assertEqual(self.ann.code(f"set_sliver lab_web {option}"), "DENIED")

    def test_stopsWhatIsNotEnabled(self) -> None:
        """
        enabled 0 stops a sliver, and it cannot be started; enabled 1 starts it again.
        """
        self.create()
        self.operator.body("set_sliver lab_web rspec={'enabled': 0}")
        self.assertEqual(self.show()["state"], "stopped")
        self.assertEqual(self.operator.code("start lab_web"), "WRONG_STATE")
        self.operator.body("set_sliver lab_web rspec={'enabled': 1}")
        self.assertEqual(self.show()["state"], "running")

    def test_mendsWhatTheKernelHasOtherwise(self) -> None:
        """
        A limit that is not what was asked is a problem that is told, and put right.
        """
        serial = self.create()["serial"]
        self.daemon.driver.host.in_force[serial] = {"pids_max": 7}
        self.daemon.driver.errors["ensure_configured"] = [OSError("not now")]
        self.daemon.daemon.sync.look_for_drift()
        self.daemon.advance(0)
        self.assertIn("pids_max is 7 on the host and should be 512", self.show()["problems"])
        self.daemon.advance(11)
        self.assertEqual(self.show()["in_force"]["pids_max"], 512)
        self.assertEqual(self.show()["problems"], [])

    def test_looksForDriftInTurns(self) -> None:
        """
        However many slivers there are, who asks something meanwhile is answered between them; each is looked at once.
        """
        for number in range(9):
            self.operator.body(f"create lab_n{number} kind=process")
        seen: list[int] = []

        def slow(serial: int) -> dict[str, int]:
            self.daemon.clock.rightNow += 0.004
            seen.append(serial)
            return {}

        self.patch(self.daemon.driver, "in_force", slow)
        for _ in range(2):
            self.daemon.daemon.sync.look_for_drift()
        self.daemon.clock.callLater(0, seen.append, 0)
        self.daemon.advance(0.1)
        self.assertEqual(sorted(seen), [0, *sorted(one.serial for one in self.daemon.host.free_slivers())])
        self.assertLess(seen.index(0), 4)

    def test_takesKeysOfUsersAway(self) -> None:
        """
        Whoever is no user of the host any more has no key in any sliver.
        """
        self.operator.body(f"add_user cy keys=[{KEY!r}]")
        self.create(users=["cy"])
        self.assertEqual(self.ann.body("get_ssh_keys"), {"lab_web": [KEY]})
        self.daemon.driver.calls.clear()
        self.operator.body("remove_user cy")
        self.assertEqual(self.ann.body("get_ssh_keys"), {"lab_web": []})
        self.assertIn("ensure_configured", [name for name, _ in self.daemon.driver.calls])

    def test_refusesNonsense(self) -> None:
        """
        An rspec that is none, or a time that is past, is refused, and nothing changes.
        """
        before = self.create()
        for option in (
            "rspec={'pids_max': -1}",
            "rspec={'pids_max': 1.5}",
            "rspec={'pids_max': True}",
            "rspec={'pids_may': 40}",
            f"rspec={{'memory_max': {10**30}}}",
            "expires=1",
            "expires=soon",
            "owner=nobody",
        ):
            self.assertNotEqual(self.operator.code(f"set_sliver lab_web {option}"), "set_sliver_reply", option)
        self.assertEqual(self.operator.body("slivers"), [before])


class ImageTests(SliverTests):
    """
    What the image says, where the sliver says nothing.
    """

    def test_runsWhatTheImageSays(self) -> None:
        """
        A sliver without a start command runs the image's, in its directory; the sliver's own comes first.
        """
        change = self.daemon.host.change(self.daemon.now())
        image = Image(
            serial=change.serial(),
            name="shop",
            created=0.0,
            sha256="0" * 64,
            command=("serve", "a b"),
            environment={"PORT": "80"},
            directory="/srv/it's",
        )
        change.put(image)
        sliver = Sliver(serial=change.serial(), name="lab_web", kind="process", created=0.0, image=image.serial)
        other = Sliver(
            serial=change.serial(), name="lab_o", kind="process", created=0.0, image=image.serial, start_command="own"
        )
        for one in (sliver, other):
            change.add(one)
        self.daemon.daemon.commit(change)
        self.daemon.settle()
        workloads = self.daemon.daemon.sync._workloads.configured
        self.assertEqual(workloads[sliver.serial].start_command, """cd '/srv/it'"'"'s' && exec serve 'a b'""")
        self.assertEqual(workloads[sliver.serial].environment, {"PORT": "80"})
        self.assertEqual(workloads[other.serial].start_command, "own")


class RecordTests(SliverTests):
    """
    Slivers that have a record of an authority.
    """

    def test_ownerCreatesWhatIsDelegated(self) -> None:
        """
        Its owner may create what a delegated record describes, destroy it, and create it again.
        """
        self.delegated()
        for _ in range(2):
            self.assertEqual(self.ann.body("create lab_del")["state"], "running")
            self.assertEqual(self.ann.body("destroy lab_del")["state"], "absent")
        self.assertEqual(self.ann.body("sliver lab_del")["state"], "absent")
        self.assertEqual(self.bob.code("create lab_del"), "DENIED")
        self.assertEqual(self.ann.code("create lab_del kind=process"), "BAD_ARGUMENTS")
        self.assertEqual(self.ann.code("start lab_del"), "WRONG_STATE")

    def test_isNotCreatedOnRequestOtherwise(self) -> None:
        """
        What the authority instantiates cannot be created or destroyed by request: that is an error, not silence.
        """
        self.delegated("lab_plc", instantiation="plc-instantiated")
        self.assertEqual(self.ann.code("create lab_plc"), "WRONG_STATE")
        self.assertEqual(self.operator.code("destroy lab_plc"), "WRONG_STATE")
        self.assertEqual(self.operator.code("set_sliver lab_plc keys=[]"), "WRONG_STATE")

    def test_isStoppedWhileDoomed(self) -> None:
        """
        A doomed sliver is stopped and kept, refuses to be started, and comes back as it was.
        """
        serial = self.create()["serial"]
        life = self.daemon.daemon.slivers
        change = self.daemon.host.change(self.daemon.now())
        life.doom(change, self.daemon.host.slivers_by_serial[serial], "missing")
        self.daemon.daemon.commit(change)
        self.daemon.settle()
        body = self.show()
        self.assertEqual((body["state"], body["boot"], body["code"]), ("doomed", "dead", 0))
        self.assertEqual(body["doomed_until"], self.daemon.now() + 7 * 86400)
        self.assertEqual(self.operator.code("start lab_web"), "WRONG_STATE")
        change = self.daemon.host.change(self.daemon.now())
        life.undo(change, self.daemon.host.slivers_by_serial[serial])
        self.daemon.daemon.commit(change)
        self.daemon.settle()
        self.assertEqual((self.show()["state"], self.show()["serial"]), ("running", serial))


class WhoTests(SliverTests):
    """
    What others than operators see of slivers, and do with them.
    """

    def test_seeTheirOwnUidsAndKeys(self) -> None:
        """
        get_xids and get_ssh_keys hold what one may see: an operator all, a user its own, a stranger nothing.
        """
        self.create(keys=[KEY])
        self.operator.body("create tum_x kind=process owner=bob")
        host = self.daemon.driver.host
        for at, serial in enumerate(sorted(host.statuses)):
            host.put(evolve(host.statuses[serial], uid=7000 + at))
        everybodys = {"lab_web": 7000, "tum_x": 7001}
        self.assertEqual(self.operator.body("get_xids"), everybodys)
        self.assertEqual(self.operator.body("get_ssh_keys"), {"lab_web": [KEY], "tum_x": []})
        for client, names in ((self.ann, ["lab_web"]), (self.bob, ["tum_x"]), (self.daemon.connect(5077), [])):
            self.assertEqual(client.body("get_xids"), {name: everybodys[name] for name in names})
            self.assertEqual(list(client.body("get_ssh_keys")), names)

    def test_delegatesDoWhatTheyWereGranted(self) -> None:
        """
        Several delegates of one sliver may each say the commands that they were granted, of that sliver, and no others.
        """
        self.create()
        self.create("lab_other")
        self.operator.body("add_delegate del_read uid=5008 commands=['get_rspec'] slivers=['lab_web']")
        self.operator.body("add_delegate del_stop uid=5009 commands=['stop','start'] slivers=['lab_web']")
        reads, stops = self.daemon.connect(5008), self.daemon.connect(5009)
        self.assertEqual(reads.body("get_rspec lab_web")["cpu_share"], 32)
        self.assertEqual(stops.body("stop lab_web")["state"], "stopped")
        self.assertEqual(stops.body("start lab_web")["state"], "running")
        for client, line in (
            (reads, "stop lab_web"),
            (reads, "get_rspec lab_other"),
            (stops, "get_rspec lab_web"),
            (stops, "stop lab_other"),
            (stops, "destroy lab_web"),
        ):
            self.assertEqual(client.code(line), "NO_SUCH_SLIVER", line)
        self.assertEqual([self.show(name)["state"] for name in ("lab_web", "lab_other")], ["running"] * 2)


class InsideTests(SliverTests):
    """
    What who is in a sliver may ask through its own socket.
    """

    def setUp(self) -> None:
        super().setUp()
        self.serial = self.create(keys=[KEY])["serial"]
        self.other = self.create("lab_other")["serial"]
        self.inside = Inside(self.daemon, self.serial)

    def test_isTheSliver(self) -> None:
        """
        Whatever the uid, root's too, it is the sliver that asks.
        """
        body = self.inside.body("whoami")
        self.assertEqual((body["principal"], body["roles"], body["via"]), ("lab_web", ["self"], "sliver"))

    def test_seesItself(self) -> None:
        """
        Its keys, its record and its events, and nothing else.
        """
        self.assertIn("outside slivers", self.inside.ask("host_status").body["message"])
        self.assertEqual(self.inside.body("get_ssh_keys"), {"lab_web": [KEY]})
        self.assertEqual([one["name"] for one in self.inside.body("slivers")], ["lab_web"])
        self.assertEqual(self.inside.body("sliver lab_web")["name"], "lab_web")
        self.inside.body("watch sliver/lab_web")
        self.operator.body("stop lab_web")
        self.operator.body("stop lab_other")
        self.assertEqual({reply.body["sliver"] for reply in self.inside.replies()}, {"lab_web"})
        kept = self.inside.body("events")
        self.assertIn("created", [one["what"] for one in kept])
        self.assertEqual({one.get("sliver", one.get("target")) for one in kept}, {"lab_web"})

    def test_seesNothingElse(self) -> None:
        """
        What is not its own is not there; what is for others is not for it.
        """
        for line in (
            "sliver lab_other",
            "watch sliver/lab_other",
            "watch host",
            "watch audit",
            "get_ssh_keys lab_other",
        ):
            self.assertIn(self.inside.code(line), ("NO_SUCH_SLIVER", "NO_SUCH_TOPIC"), line)
        for line in (
            "host_status",
            "doctor",
            "experiments",
            "operations",
            "projects",
            "users",
            "node_list",
            "add_user eve",
            "create lab_more kind=process",
            "stop lab_web",
            "destroy lab_web",
        ):
            self.assertEqual(self.inside.code(line), "DENIED", line)

    def test_hasFewConnections(self) -> None:
        """
        One sliver cannot take connections from anybody else.
        """
        many = [Inside(self.daemon, self.serial) for _ in range(40)]
        refused = [one for one in many if one.lines() == ["TOO_MANY"]]
        self.assertEqual(len(refused), 40 - 15)
        self.assertEqual(Inside(self.daemon, self.other).lines(), [])
        self.assertEqual(self.daemon.connect(5001).lines(), [])


class StartupTests(SliverTests):
    """
    After a start of the host.
    """

    def test_startsEachOnceSpaced(self) -> None:
        """
        --startup starts what should be up and is not, once, the asked seconds apart; a stop overtakes its start.
        """
        serials = [self.create(f"lab_s{number}")["serial"] for number in range(4)]
        self.operator.body("stop lab_s0")
        for serial in serials:
            self.daemon.driver.end(serial, 137)
        self.daemon.settle()
        self.daemon.driver.calls.clear()
        Deferred.fromCoroutine(self.daemon.daemon.recover(startup=True, stagger_s=2.0))
        self.daemon.settle()
        self.assertEqual(self.started(), [serials[1]])
        self.daemon.advance(2.1)
        self.assertEqual(self.started(), serials[1:3])
        self.operator.body("stop lab_s3")
        self.daemon.advance(60)
        self.assertEqual(self.started(), serials[1:3])
        self.assertEqual(self.show("lab_s3")["state"], "stopped")

    def test_waitsThoughDriversTellNews(self) -> None:
        """
        What drivers tell while they look at the host that has come up starts nothing ahead of its turn.
        """
        serials = [self.create(f"lab_s{number}")["serial"] for number in range(3)]
        driver = self.daemon.driver
        driver.host.statuses.update({serial: Status(serial) for serial in serials})

        async def recover(known: Any, keep_strays: bool = False) -> None:
            for serial in known:
                driver.changed(serial)

        self.patch(driver, "recover", recover)
        driver.calls.clear()
        Deferred.fromCoroutine(self.daemon.daemon.recover(startup=True, stagger_s=2.0))
        self.daemon.settle()
        self.assertEqual(self.started(), serials[:1])
        self.daemon.advance(60)
        self.assertEqual(self.started(), serials)

    def test_startsTheOthersOnceAfterACrash(self) -> None:
        """
        A daemon that dies between these starts: the next one starts those that still waited, and no other again.
        """
        serials = [self.create(f"lab_s{number}")["serial"] for number in range(3)]
        for serial in serials:
            self.daemon.driver.end(serial, 137)
        self.daemon.settle()
        Deferred.fromCoroutine(self.daemon.daemon.recover(startup=True, stagger_s=2.0))
        self.daemon.settle()
        first = self.show("lab_s0")["pid"]
        self.daemon.crash()
        self.daemon.advance(1)
        self.operator = self.daemon.connect()
        self.assertEqual([self.show(f"lab_s{number}")["state"] for number in range(3)], ["running"] * 3)
        self.assertEqual([self.show(f"lab_s{number}")["boots"] for number in range(3)], [2] * 3)
        self.assertEqual(self.show("lab_s0")["pid"], first)

    def started(self) -> list[int]:
        return [serial for name, serial in self.daemon.driver.calls if name == "ensure_started"]


class PaceTests(SliverTests):
    """
    A sliver that changes things without end.
    """

    def test_isSlowedDown(self) -> None:
        """
        After some changes at once it may make one each two seconds; its owner and others as many as ever.
        """
        serial = self.create()["serial"]
        inside = Inside(self.daemon, serial)
        said = [inside.code("set_loans lab_web []") for _ in range(40)]
        self.assertEqual((said.count("set_loans_reply"), said[-1]), (30, "TOO_MANY"))
        self.assertEqual(self.ann.code("set_loans lab_web []"), "set_loans_reply")
        self.daemon.advance(4)
        self.assertEqual(inside.code("set_loans lab_web []"), "set_loans_reply")
