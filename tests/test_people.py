"""
Projects, users and delegates.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.callers import Caller
from tests.daemons import make, topdl

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI ann@home"


class PeopleTests(SynchronousTestCase):
    """
    As an operator makes and removes them.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.operator = self.daemon.connect()

    def do(self, *lines: str) -> None:
        for line in lines:
            self.operator.body(line)

    def code(self, line: str) -> str:
        return self.operator.code(line)

    def test_showsWhoIsWhere(self) -> None:
        """
        Projects name their members, users their projects, by name and in order.
        """
        self.do("add_project lab", "add_project art quota={'pids_max':9}", f"add_user zoe uid=5001 keys=[{KEY!r}]")
        self.do("add_user ann", "add_member lab zoe", "add_member lab ann", "add_member art zoe", "add_member lab ann")
        projects = self.operator.body("projects")
        self.assertEqual(
            [(one["name"], one["members"]) for one in projects], [("art", ["zoe"]), ("lab", ["ann", "zoe"])]
        )
        self.assertEqual(projects[0]["quota"], {"pids_max": 9})
        users = self.operator.body("users")
        self.assertEqual([(one["name"], one["projects"]) for one in users], [("ann", ["lab"]), ("zoe", ["art", "lab"])])
        self.assertEqual((users[1]["uid"], users[1]["keys"]), (5001, [KEY]))
        self.daemon.check()

    def test_removesFromAllProjects(self) -> None:
        """
        A removed user is in no project any more.
        """
        self.do("add_project lab", "add_project art", "add_user ann", "add_user bob")
        self.do("add_member lab ann", "add_member art ann", "add_member lab bob", "remove_user ann")
        self.assertEqual([one["members"] for one in self.operator.body("projects")], [[], ["bob"]])
        self.assertEqual(self.code("remove_member lab ann"), "NO_SUCH_USER")
        self.do("add_user ann")
        self.assertEqual(self.code("remove_member lab ann"), "NO_SUCH_USER")
        self.do("remove_member lab bob", "remove_project lab")
        self.daemon.check()

    def test_refusesTheSliversUids(self) -> None:
        """
        A uid that a node may run as is nobody's: or what runs in a node would speak as that user.
        """
        self.assertEqual(self.code("add_user mal uid=200077"), "BAD_VALUE")
        self.assertEqual(self.code("add_delegate del_mal uid=265535"), "BAD_VALUE")
        self.do("add_user ann uid=265536")

    def test_refusesWhatIsTaken(self) -> None:
        """
        A name or a uid stands for one only, of users and delegates together.
        """
        self.do("add_project lab", "add_user ann uid=5001", "add_delegate mon uid=5002 commands=[] slivers=[]")
        for line in (
            "add_project LAB",
            "add_user Ann",
            "add_user bob uid=5001",
            "add_user bob uid=5002",
            "add_delegate MON uid=5003",
            "add_delegate two uid=5001",
            "add_delegate two uid=5002",
        ):
            self.assertEqual(self.code(line), "EXISTS", line)
        self.do("add_user bob", "add_user cy", "remove_delegate mon", "add_user dan uid=5002")
        self.daemon.check()

    def test_setsOneThingOrAll(self) -> None:
        """
        A user who is there already gets another uid, names of certificates and rights; what is not named stays, and
        whoever came by what is taken away is cut.
        """
        names = ("urn:site:ann", "dns:ann.example.org")
        self.do("add_project lab", f"add_user ann uid=5001 keys=[{KEY!r}]", "add_user bob certificate=urn:site:bob")
        self.do("add_member lab ann")
        (before,) = [one for one in self.operator.body("users") if one["name"] == "ann"]
        body = self.operator.body(f"set_user ann certificate={list(names)!r}")
        self.assertEqual(body, {**before, "certificates": list(names)})
        one, other, local = (
            self.daemon.connect(caller=Caller(-1, via="tls", names=(names[0],), number="1f")),
            self.daemon.connect(caller=Caller(-1, via="tls", names=(names[1],), number="2f")),
            self.daemon.connect(5001),
        )
        for client in (one, other, local):
            self.assertEqual(client.body("whoami")["principal"], "ann")
        self.assertEqual(self.code("set_user ann certificate=urn:site:bob"), "EXISTS")
        self.assertEqual(self.code("set_user ann uid=200077"), "BAD_VALUE")
        self.assertEqual(self.code("set_user anne keys=[]"), "NO_SUCH_USER")
        self.assertEqual(self.operator.body("users")[0]["certificates"], list(names))
        body = self.operator.body(f"set_user ann uid=5001 operator=True certificate={names[1]}")
        self.assertEqual((body["operator"], body["certificates"], body["keys"]), (True, [names[1]], [KEY]))
        self.assertEqual((one.over, other.over, local.over), (True, False, False))
        self.assertIn("operator", other.body("whoami")["roles"])
        self.do("set_user ann uid=5009 operator=False")
        self.assertEqual((other.over, local.over), (False, True))
        self.assertEqual(other.code("users"), "DENIED")
        self.daemon.check()

    def test_refusesToRemoveWhatIsInUse(self) -> None:
        """
        A project with experiments stays, and names them.
        """
        self.do("add_project lab", f"create_experiment lab/exp1 {topdl({'web': None})}")
        reply = self.operator.ask("remove_project lab")
        self.assertEqual(reply.body["code"], "WRONG_STATE")
        self.assertIn("exp1", reply.body["message"])
        self.do("terminate lab/exp1", "remove_project lab")

    def test_refusesUnknownResourcesAndNames(self) -> None:
        """
        What is misspelt is refused, with near ones.
        """
        self.do("add_project lab", f"create_experiment lab/exp1 {topdl({'web': None})}", "add_user ann")
        for line, code, near in (
            ("add_project p quota={'pid_max': 1}", "BAD_VALUE", "pids_max"),
            ("add_member lab anne", "NO_SUCH_USER", "ann"),
            ("add_delegate d uid=7 commands=statsu_request", "BAD_VALUE", "status_request"),
            ("add_delegate d uid=7 slivers=lab/exp2", "NO_SUCH_EXPERIMENT", "lab/exp1"),
        ):
            body = self.operator.ask(line).body
            self.assertEqual(body["code"], code, line)
            self.assertIn(f"(did you mean {near}", body["message"], line)
        self.assertEqual(self.code("add_delegate d"), "BAD_VALUE")
        self.assertEqual([one["name"] for one in self.operator.body("projects")], ["lab"])

    def test_grantsCommandsOfExperiments(self) -> None:
        """
        A delegate may say its commands of its experiments, until the grant is removed.
        """
        self.do("add_project lab")
        for name in ("exp1", "exp2"):
            self.do(f"create_experiment lab/{name} {topdl({'web': None})}")
        self.do("add_delegate mon uid=5003 commands=['status_request','swap_in'] slivers=['lab/exp1']")
        mon = self.daemon.connect(5003)
        self.assertEqual(mon.code("swap_in lab/exp1"), "swap_in_reply")
        self.assertEqual(mon.code("status_request lab/exp1"), "status_reply")
        for line in ("status_request lab/exp2", "swap_out lab/exp1", "experiment lab/exp1"):
            self.assertEqual(mon.code(line), "NO_SUCH_EXPERIMENT", line)
        (shown,) = self.operator.body("delegates")
        self.assertEqual((shown["commands"], shown["slivers"]), (["status_request", "swap_in"], ["lab/exp1"]))
        self.do("remove_delegate mon")
        self.assertTrue(mon.over)
        mon = self.daemon.connect(5003)
        self.assertEqual(mon.code("status_request lab/exp1"), "NO_SUCH_EXPERIMENT")
        self.assertEqual(mon.body("whoami")["principal"], "uid:5003")
