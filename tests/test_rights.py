"""
Who may do what, and what one may not see.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.commands import TABLE
from hostline.server import callers, rights
from hostline.server.callers import Caller
from hostline.server.config import Config, Delegates
from hostline.server.records import Delegate, Experiment
from tests.daemons import Client, FakeAccounts, MemoryDaemon, make, shown, topdl
from tests.permissions import CALLERS, GRANTABLE, MATRIX

UIDS = dict(zip(CALLERS, (0, 5001, 5002, 5003, 5004, 5005, 5009, 5006, 5007), strict=False))
#: What those have in their certificates who come through the network.
NAMES = {"cert": "dns:dora.example.org", "certop": "urn:site:emma", "certno": "dns:nobody.example.org"}
TEXT = topdl({"web": None})
SHA256 = hashlib.sha256(b"abc").hexdigest()


def site(directory: Path | None = None) -> tuple[MemoryDaemon, int]:
    """
    Two projects with their people.

    @return: and the number of an operation of ann's that runs.
    """
    daemon = make(directory=directory)
    operator = daemon.connect()
    for line in (
        "add_project lab",
        "add_project garden",
        "add_project empty",
        "add_user ann uid=5001",
        "add_user bob uid=5002",
        "add_user cy uid=5003",
        f"add_user dora certificate={NAMES['cert']}",
        f"add_user emma certificate={NAMES['certop']} operator=True",
        "add_member lab ann",
        "add_member lab bob",
        "add_member lab dora",
        "add_member garden cy",
    ):
        operator.body(line)
    daemon.connect(5001).body(f"create_experiment lab/exp1 {TEXT} swap_in=True")
    operator.body("create lab_web kind=process owner=ann")
    operator.body(f"add_delegate granted uid=5004 commands={GRANTABLE!r} slivers=['lab/exp1', 'lab_web']")
    operator.body("add_delegate bare uid=5005 commands=logs slivers=lab/exp1")
    spied = ["get_rspec", "get_effective_rspec", "status_request"]
    change, host = daemon.host.change(daemon.now()), daemon.host
    lent = GRANTABLE
    targets = [one.serial for one in (*host.experiments_by_serial.values(), *host.free_slivers())]
    grantor = callers.principal(host, Caller(5001))
    change.add(
        Delegate(serial=change.serial(), name="del_lent", uid=5006, commands=lent, targets=targets, grantor=grantor)
    )
    change.add(Delegate(serial=change.serial(), name="del_spy", uid=5007, commands=spied, every=True))
    daemon.daemon.commit(change)
    daemon.settle()
    daemon.driver.boot_after = None
    operation = daemon.connect(5001).body("node_reboot lab/exp1 web wait=0")["operation"]
    return daemon, operation


def connect(daemon: MemoryDaemon, caller: str) -> Client:
    """
    @param caller: one of L{CALLERS}.
    """
    if caller == "sliver":
        return daemon.connect(200000, sliver=next(one.serial for one in daemon.host.free_slivers()))
    if caller in NAMES:
        return daemon.connect(caller=Caller(-1, via="tls", names=(NAMES[caller],), number="1f"))
    return daemon.connect(UIDS[caller])


def outcome(code: str) -> str:
    if code == "DENIED":
        return "no"
    if code.startswith("NO_SUCH_"):
        return "-"
    return "ok" if code.endswith("_reply") else code


class MatrixTests(SynchronousTestCase):
    """
    Every command, said by everybody.
    """

    def rows(self) -> list[tuple[str, list[str]]]:
        found = []
        for line in MATRIX.strip().splitlines():
            said, *expected = re.split(r" {2,}", line.strip())
            found.append((said, expected))
        return found

    def test_isComplete(self) -> None:
        """
        No command is missing from the matrix.
        """
        self.assertEqual({said.split()[0] for said, _ in self.rows()}, set(TABLE))

    def test_holds(self) -> None:
        """
        Everybody gets the answer that the matrix says, on a host as it was before.
        """
        wrong = []
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        daemon, operation = site(directory)
        for said, expected in self.rows():
            for caller, want in zip(CALLERS, expected, strict=True):
                line = said.format(operation=operation, text=TEXT, sha256=SHA256)
                wait = {"wait": " timeout=0", "wait_for": " timeout=0"}.get(line.split()[0], "")
                before, commits, time = daemon.host.generation, daemon.disk.commits, daemon.clock.seconds()
                code = outcome(self.first(daemon, caller, line + wait))
                if code != want:
                    wrong.append(f"{caller}: {line}: want {want}, got {code}")
                if want != "ok" and daemon.host.generation != before:
                    wrong.append(f"{caller}: {line}: was refused and changed something")
                if (daemon.disk.commits, daemon.clock.seconds()) != (commits, time) or said.startswith("blob "):
                    daemon, operation = site(directory)
        self.assertEqual(wrong, [])

    def first(self, daemon: MemoryDaemon, caller: str, line: str) -> str:
        client = connect(daemon, caller)
        client.send(line + "\n")
        daemon.settle()
        replies = client.replies()
        if not replies:
            daemon.advance(40)
            replies = client.replies()
        client.hang_up()
        return shown(replies[0])


class HidingTests(SynchronousTestCase):
    """
    What one may not see is answered exactly like what does not exist.
    """

    def test_answersAlike(self) -> None:
        """
        The same command on something hidden and on something that never was gives the same code and words.
        """
        daemon, operation = site()
        hidden: dict[str, tuple[str, str]] = {"experiment": ("lab/exp1", "lab/exp7")}
        hidden |= {"project": ("lab", "lib"), "new experiment": ("lab/exp1", "lib/exp1")}
        hidden |= {"user": ("ann", "amy"), "delegate": ("granted", "grinted"), "operation": (str(operation), "999")}
        hidden |= {"sliver": ("lab_web", "lab_wob")}
        others = {
            "node": " web",
            "user": " cy",
            "text": f" {TEXT}",
            "nodes": " web",
            "state": " active",
            "loans": " []",
        }
        others |= {"argv": " ls", "path": " f", "node": " web", "image": " new", "link": " l"}
        for caller in ("other", "unknown", "bare"):
            client = daemon.connect(UIDS[caller])
            for row in TABLE.values():
                if row.target in (None, "new sliver") or (row.name == "logs" and caller == "bare"):
                    continue
                there, nowhere = hidden[row.target]
                rest = "".join(others.get(name, "") for name, _ in row.args[1:])
                replies: list[Any] = []
                for name in (there, nowhere):
                    words = name.replace("/", " ") if row.name == "extra_nodes" else name
                    line = f"{row.name} {words}{rest}"
                    if row.targeted:
                        line = f"{row.name} lab_db cpu_share 1 {row.targeted}={name}"
                    body = client.ask(line).body
                    project = name.split("/")[0] if row.target == "new experiment" else name
                    replies.append((body["code"], body["message"].replace(name, "X").replace(project, "X")))
                self.assertEqual(replies[0], replies[1], (caller, row.name))
                self.assertTrue(replies[0][0].startswith("NO_SUCH_"), (caller, row.name, replies[0]))

    def test_suggestsOnlyWhatIsSeen(self) -> None:
        """
        A misspelt name is answered by near names of what the caller may see, never of anything else.
        """
        daemon, _ = site()
        cy, ann = daemon.connect(UIDS["other"]), daemon.connect(UIDS["owner"])
        for line in ("experiment lab/exp2", "swap_in lab/exp", f"create_experiment lob/x {TEXT}", "add_member lob ann"):
            self.assertNotIn("did you mean", cy.ask(line).body["message"], line)
        for line in ("experiment lab/exp2", f"create_experiment lob/x {TEXT}"):
            self.assertIn("did you mean lab", ann.ask(line).body["message"], line)
        self.assertNotIn("did you mean", daemon.connect(UIDS["bare"]).ask("experiment lab/exp2").body["message"])

    def test_listsOnlyWhatIsSeen(self) -> None:
        """
        Lists hold what one may see, for a delegate what each command was granted for.
        """
        daemon, _ = site()
        daemon.connect(UIDS["other"]).body(f"create_experiment garden/exp2 {TEXT}")
        want = {
            "operator": ["garden/exp2", "lab/exp1"],
            "owner": ["lab/exp1"],
            "member": ["lab/exp1"],
            "other": ["garden/exp2"],
            "granted": ["lab/exp1"],
            "unknown": [],
        }
        for caller, names in want.items():
            client = daemon.connect(UIDS[caller])
            self.assertEqual([one["name"] for one in client.body("experiments")], names, caller)
            nodes = {f"{one['project']}/{one['experiment']}" for one in client.body("node_list extra=True")}
            self.assertEqual(nodes, set(names), caller)
        for uid in UIDS.values():
            who = Caller(uid, uid == 0)
            every = sorted(daemon.host.table(Experiment).values(), key=lambda one: one.name)
            for row in TABLE:
                seen = [one for one in every if rights.sees(daemon.host, who, one, row)]
                self.assertEqual(rights.visible(daemon.host, who, row), seen, (uid, row))
        projects = [one["name"] for one in daemon.connect(UIDS["other"]).body("projects")]
        self.assertEqual(projects, ["garden"])
        self.assertEqual(daemon.connect(UIDS["granted"]).body("projects"), [])
        self.assertEqual(daemon.connect(UIDS["member"]).body("operations"), [])


class InheritingTests(SynchronousTestCase):
    """
    A new holder of a name inherits nothing.
    """

    def setUp(self) -> None:
        self.daemon, self.operation = site()
        self.operator = self.daemon.connect()

    def test_projectMadeAgain(self) -> None:
        """
        A project removed and made again has no members, no quota and another serial.
        """
        before = next(one for one in self.operator.body("projects") if one["name"] == "garden")
        self.operator.body("remove_project garden")
        again = self.operator.body("add_project garden")
        self.assertNotEqual(again["serial"], before["serial"])
        self.assertEqual(again["members"], [])
        cy = self.daemon.connect(UIDS["other"])
        self.assertEqual(cy.code(f"create_experiment garden/x {TEXT}"), "NO_SUCH_PROJECT")

    def test_userMadeAgain(self) -> None:
        """
        A user removed and made again, with the same uid, is in no project, owns nothing and sees no old operation.
        """
        ann = self.daemon.connect(UIDS["owner"])
        self.assertEqual(ann.code(f"operation {self.operation}"), "operation_reply")
        self.operator.body("remove_user ann")
        self.operator.body("add_user ann uid=5001")
        self.assertTrue(ann.over)
        ann = self.daemon.connect(UIDS["owner"])
        for line in ("experiment lab/exp1", f"operation {self.operation}"):
            self.assertTrue(ann.code(line).startswith("NO_SUCH"), line)
        self.assertEqual((ann.body("projects"), ann.body("operations"), ann.body("events")), ([], [], []))
        self.operator.body("add_member lab ann")
        self.assertNotEqual(ann.body("experiment lab/exp1")["owner"], "ann")
        self.assertEqual(ann.code(f"operation {self.operation}"), "NO_SUCH_OPERATION")

    def test_userMadeAgainUnderATokensName(self) -> None:
        """
        Nor does it get the replies that the former one's tokens stand for.
        """
        ann = self.daemon.connect(UIDS["owner"])
        first = ann.body(f"create_experiment lab/exp2 {TEXT} token=once")
        for line in ("remove_user ann", "add_user ann uid=5001", "add_member lab ann"):
            self.operator.body(line)
        self.operator.body("terminate lab/exp2")
        again = self.daemon.connect(UIDS["owner"]).body(f"create_experiment lab/exp2 {TEXT} token=once")
        self.assertNotEqual(again["serial"], first["serial"])

    def test_experimentMadeAgain(self) -> None:
        """
        A delegate's grants end with the experiment they were for; one of the same name is another one.
        """
        granted = self.daemon.connect(UIDS["granted"])
        self.assertEqual(granted.code("status_request lab/exp1"), "status_reply")
        self.operator.body("terminate lab/exp1")
        cursor = self.operator.body("events")[-1]["cursor"]
        self.operator.body(f"create_experiment lab/exp1 {TEXT} wait=0")
        self.assertEqual(granted.code("status_request lab/exp1"), "NO_SUCH_EXPERIMENT")
        self.assertEqual(granted.body(f"events since={cursor}"), [])
        delegate = next(one for one in self.operator.body("delegates") if one["name"] == "granted")
        self.assertEqual(delegate["slivers"], ["lab_web"])

    def test_loseWhatTheyOwnWithTheirMembership(self) -> None:
        """
        Who is removed from a project loses what it owned there, on connections that are open too.
        """
        ann = self.daemon.connect(UIDS["owner"])
        self.assertEqual(ann.code("experiment lab/exp1"), "experiment_reply")
        self.operator.body("remove_member lab ann")
        self.assertEqual(ann.code("experiment lab/exp1"), "NO_SUCH_EXPERIMENT")
        self.assertEqual(ann.code("terminate lab/exp1"), "NO_SUCH_EXPERIMENT")

    def test_loseTheirOperationsWithTheirMembership(self) -> None:
        """
        Who is removed from a project can no longer cancel what it began there, nor see it; again a member, it can.
        """
        ann = self.daemon.connect(UIDS["owner"])
        lines = [f"{command} {self.operation}" for command in ("operation", "wait", "cancel")]
        lines.append(f"watch operation/{self.operation}")
        missing = {line.replace(str(self.operation), "X"): "" for line in lines}
        for line in lines:
            said = ann.ask(line.replace(str(self.operation), "999")).body
            missing[line.replace(str(self.operation), "X")] = said["message"].replace("999", "X")
        ann.send(f"@1 wait {self.operation}\n")
        self.operator.body("remove_member lab ann")
        for line in lines:
            said = ann.ask(line).body["message"].replace(str(self.operation), "X")
            self.assertEqual(said, missing[line.replace(str(self.operation), "X")])
        self.assertEqual(ann.body("operations"), [])
        self.assertEqual(self.operator.body(f"operation {self.operation}")["state"], "running")
        self.operator.body(f"cancel {self.operation}")
        self.daemon.settle()
        self.assertEqual(ann.lines(), ["@1 NO_SUCH_OPERATION"])
        self.operator.body("add_member lab ann")
        self.assertEqual(ann.body(f"operation {self.operation}")["state"], "cancelled")

    def test_readOperationsOfWhatIsGone(self) -> None:
        """
        The operations of a terminated experiment can be read by who began them, while it is a member.
        """
        ann, granted = self.daemon.connect(UIDS["owner"]), self.daemon.connect(UIDS["granted"])
        granted.body("terminate lab/exp1")
        self.assertEqual([one["command"] for one in granted.body("operations")], ["terminate"])
        self.assertEqual(len(ann.body("operations")), 2)
        self.assertEqual(ann.body(f"operation {self.operation}")["state"], "cancelled")
        self.operator.body("remove_member lab ann")
        self.operator.body("remove_delegate granted")
        for client in (ann, self.daemon.connect(UIDS["granted"])):
            self.assertEqual(client.body("operations"), [])
        self.assertEqual(ann.code(f"operation {self.operation}"), "NO_SUCH_OPERATION")

    def test_loseTheirOperationsWithTheirGrant(self) -> None:
        """
        A delegate that was made anew with fewer commands is another one; the former one's operations are not its own.
        """
        granted = self.daemon.connect(UIDS["granted"])
        number = granted.body("node_reboot lab/exp1 web wait=0")["operation"]
        self.assertEqual(granted.code(f"operation {number}"), "operation_reply")
        self.operator.body("remove_delegate granted")
        self.operator.body(f"add_delegate granted uid=5004 commands={GRANTABLE!r} slivers=lab/exp1")
        granted = self.daemon.connect(UIDS["granted"])
        for command in ("operation", "cancel"):
            self.assertEqual(granted.code(f"{command} {number}"), "NO_SUCH_OPERATION")


class OwnersDelegateTests(SynchronousTestCase):
    """
    Owners let others say something of what is theirs, for as long as it is.
    """

    def setUp(self) -> None:
        self.accounts = FakeAccounts()
        config = Config(delegates=Delegates(per_user=3))
        self.daemon = make(config=config, accounts=self.accounts)
        self.ann = self.daemon.lab()
        self.operator = self.daemon.connect()
        self.operator.body("add_member lab bob")
        self.operator.body("create lab_web kind=process owner=ann")
        self.operator.body("create lab_db kind=process owner=bob")
        self.ann.body(f"create_experiment lab/exp1 {TEXT}")

    def granted(self, line: str) -> Client:
        """
        @return: a connection of the delegate that a line of ann's makes.
        """
        return self.daemon.connect(self.done(self.ann, line)["uid"])

    def done(self, client: Client, line: str) -> Any:
        """
        @return: the body of the reply to what takes a moment; the code, of an error.
        """
        client.raw()
        client.send(f"{line}\n")
        self.daemon.advance(1)
        (reply,) = client.replies()
        return reply.body["code"] if reply.word == "error_reply" else reply.body

    def test_sayWhatTheyWereGranted(self) -> None:
        """
        Such a delegate has its commands, of what it was granted, and nothing else.
        """
        mon = self.granted("add_delegate del_mon commands=['sliver','status_request'] slivers=['lab_web','lab/exp1']")
        self.assertEqual(mon.body("whoami")["via"], "ssh")
        for line, code in (
            ("sliver lab_web", "sliver_reply"),
            ("status_request lab/exp1", "status_reply"),
            ("sliver lab_db", "NO_SUCH_SLIVER"),
            ("experiment lab/exp1", "NO_SUCH_EXPERIMENT"),
            ("add_delegate del_more commands=sliver slivers=lab_web", "DENIED"),
        ):
            self.assertEqual(mon.code(line), code, line)

    def test_areMadeOnlyForWhatIsOnesOwn(self) -> None:
        """
        What others own is not to be granted, nor what is hidden, nor everything; nor commands that hand on rights.
        """
        self.operator.body("create garden_web kind=process")
        for line, code in (
            ("commands=sliver slivers=lab_db", "DENIED"),
            ("commands=sliver slivers=['lab_web','garden_web']", "NO_SUCH_SLIVER"),
            ("commands=sliver slivers=['lab_web','garden_wob']", "NO_SUCH_SLIVER"),
            ("commands=sliver slivers=*", "DENIED"),
            ("commands=['sliver','set_sliver'] slivers=lab_web", "DENIED"),
            ("commands=['add_delegate'] slivers=lab_web", "DENIED"),
            ("commands=create_experiment slivers=lab/exp1", "DENIED"),
            ("commands=sliver slivers=lab_web uid=5077", "DENIED"),
        ):
            self.assertEqual(self.ann.code(f"add_delegate del_mon {line}"), code, line)
        self.assertEqual(self.ann.code("add_delegate ann2 slivers=lab_web"), "BAD_VALUE")
        self.assertEqual((self.accounts.made, self.ann.body("delegates")), ({}, []))
        self.done(self.ann, "add_delegate del_mon commands=sliver slivers=lab_web")
        for line in ("commands=set_sliver", "slivers=lab_db", "slivers=*"):
            self.assertEqual(self.done(self.ann, f"set_delegate del_mon {line}"), "DENIED", line)

    def test_areOfALimitedNumber(self) -> None:
        """
        A user has so many delegates, also if it asks for all of them at once; operators have no such limit.
        """
        self.ann.send("".join(f"@{number} add_delegate del_{number} slivers=lab_web\n" for number in range(5)))
        self.daemon.advance(1)
        said = sorted(line.partition(" ")[2] for line in self.ann.lines())
        self.assertEqual(said, ["TOO_MANY"] * 2 + ["add_delegate_reply"] * 3)
        self.assertEqual(len(self.accounts.made), 3)
        self.done(self.operator, "add_delegate del_more slivers=lab_web")
        self.assertEqual(self.ann.code("remove_delegate del_more"), "NO_SUCH_DELEGATE")

    def test_areSeenByWhoMadeThem(self) -> None:
        """
        A user sees, changes and removes its own delegates; to others they are not there.
        """
        self.done(self.ann, "add_delegate del_mon commands=sliver slivers=lab_web")
        bob = self.daemon.connect(5002)
        self.assertEqual([one["name"] for one in self.ann.body("delegates")], ["del_mon"])
        self.assertEqual(bob.body("delegates"), [])
        for line in ("set_delegate {} commands=ping", "remove_delegate {}"):
            said = [bob.ask(line.format(name)).body["message"].replace(name, "X") for name in ("del_mon", "del_man")]
            self.assertEqual(said[0], said[1])
        self.assertEqual(self.ann.body("set_delegate del_mon commands=['get_rspec']")["commands"], ["get_rspec"])
        self.done(self.ann, "remove_delegate del_mon")
        self.assertEqual(self.accounts.made, {})

    def test_holdOnlyWhileTheOwnerMay(self) -> None:
        """
        A grant is worth nothing once who made it no longer owns what it is about; it is again if he does again.
        """
        mon = self.granted("add_delegate del_mon commands=['sliver','experiment'] slivers=['lab_web','lab/exp1']")
        self.operator.body("set_sliver lab_web owner=bob")
        self.assertEqual(mon.code("sliver lab_web"), "NO_SUCH_SLIVER")
        self.operator.body("set_sliver lab_web owner=ann")
        self.assertEqual(mon.code("sliver lab_web"), "sliver_reply")
        self.operator.body("remove_member lab ann")
        self.assertEqual(mon.code("experiment lab/exp1"), "NO_SUCH_EXPERIMENT")
        self.assertEqual(mon.code("sliver lab_web"), "sliver_reply")

    def test_goWithTheirOwner(self) -> None:
        """
        With a user its delegates go, their accounts and their connections too.
        """
        mon = self.granted("add_delegate del_mon commands=sliver slivers=lab_web")
        self.operator.body("remove_user ann")
        self.daemon.advance(1)
        self.assertEqual((self.accounts.made, self.operator.body("delegates")), ({}, []))
        self.assertTrue(mon.over)
        self.daemon.check()

    def test_hearOfWhatTheyWereGranted(self) -> None:
        """
        Who was granted its events hears of an experiment, and no longer when its owner may not either.
        """
        mon = self.granted("add_delegate del_mon commands=['events','watch'] slivers=['lab/exp1']")
        self.ann.body("swap_in lab/exp1")
        self.assertIn("experiment/lab/exp1", {one["topic"] for one in mon.body("events")})
        self.operator.body("remove_member lab ann")
        self.assertEqual(mon.body("events"), [])
        self.assertEqual(mon.code("watch experiment/lab/exp1"), "NO_SUCH_TOPIC")


class SpyTests(SynchronousTestCase):
    """
    A delegate for every sliver, as the ancestor had one.
    """

    def test_readsEveryRspec(self) -> None:
        """
        It reads the rspec of every sliver, those made later too, and nothing else.
        """
        daemon, _ = site()
        spy, operator = connect(daemon, "spy"), daemon.connect()
        operator.body("create garden_new kind=process wait=0")
        for line in ("get_rspec garden_new", "get_effective_rspec lab_web", "get_rspec web.exp1.lab"):
            self.assertIn("cpu_share", spy.body(line))
        self.assertEqual(spy.code("sliver garden_new"), "NO_SUCH_SLIVER")
        self.assertEqual((spy.body("slivers"), spy.code("experiments"), spy.body("events")), ([], "DENIED", []))

    def test_isMadeByOperators(self) -> None:
        """
        C{slivers=*} says so, and a list of commands which.
        """
        daemon, _ = site()
        made = daemon.connect().body("add_delegate del_all uid=5055 commands=get_rspec slivers=*")
        self.assertEqual((made["every"], made["slivers"], made["grantor"]), (True, ["*"], None))
        self.assertIn("cpu_share", daemon.connect(5055).body("get_rspec lab_web"))


class PrincipalTests(SynchronousTestCase):
    """
    Names of principals.
    """

    def test_isNamedForPeople(self) -> None:
        """
        People read the user's name; of one who is gone, that it is; of an unknown uid, the number.
        """
        daemon, _ = site()
        host = daemon.host
        self.assertEqual(callers.principal(host, Caller(5001)), "user:4")
        for name, people in (
            ("user:4", "ann"),
            ("user:999", "user no longer known"),
            ("user:x", "user no longer known"),
            ("uid:77", "uid:77"),
        ):
            self.assertEqual(callers.shown_principal(host, name), people)
        self.assertEqual(daemon.connect(5004).body("whoami")["principal"], "granted")
        self.assertEqual(daemon.connect(5009).body("whoami")["principal"], "uid:5009")
        self.assertEqual(daemon.connect(5004).body("whoami")["roles"], ["anyone", "delegate"])
