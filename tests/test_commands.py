"""
Tests for L{hostline.protocol.command}, L{hostline.protocol.commands}, and of the table against those who answer.
"""

from __future__ import annotations

import inspect
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import hostline.server.line  # noqa: F401  (registers the responders)
from hostline.protocol import commands, kinds
from hostline.protocol.commands import ROWS, TABLE, Command, command_named
from hostline.protocol.errors import BadArguments, BadValue, HostError, UnknownCommand, UnknownOption
from hostline.protocol.wire import reply
from hostline.protocol.words import split
from hostline.server.asking import RESPONDERS
from tests.fits import fits

RELATIONS = {"anyone", "user", "member", "owner", "delegate", "operator", "self", "stranger"}
TARGETS = {"experiment", "new experiment", "project", "user", "delegate", "operation", "node", "sliver", "new sliver"}

# What people type: section 4 of the design.
EXAMPLES = """
hello
hello format=json client=monitor/1
help
help status_request
ping
whoami
host_status
doctor
watch experiment/lab/exp1 operation/17 sliver/web.exp1.lab host audit all since=0
unwatch
unwatch all
unwatch host audit
events
events since=17 limit=10 topic=experiment/lab/exp1
audit
audit since=4711 limit=50 principal=user:17 command=terminate
operations
operation 17
wait 17
wait 17 timeout=2m
cancel 17
add_project lab
add_project lab quota={'memory_max': 1073741824}
add_member lab ann
remove_member lab ann
remove_project lab
projects
add_user ann
add_user ann certificate=host.example.org operator=True
add_user ann certificate=['urn:site:user:ann', 'dns:a.example.org']
add_user ann uid=1000 keys=['ssh-ed25519 AAAA ann@lab', 'ssh-rsa BBBB']
set_user ann uid=1001 keys=[] certificate=urn:site:user:ann operator=False
remove_user ann
users
add_delegate del_mon uid=990 commands=['status_request'] slivers=['lab/exp1']
add_delegate del_mon commands=status_request slivers=lab/exp1
add_delegate del_mon keys=['ssh-ed25519 AAAA mon@home'] commands=status_request slivers=lab/exp1
add_delegate del_spy keys=['ssh-ed25519 AAAA spy@home'] commands=['get_rspec'] slivers=*
set_delegate del_mon keys=[] commands=['status_request','node_list']
remove_delegate del_mon
delegates
status_request lab/exp1
@7 status_request lab/exp1
node_list
node_list lab/exp1
node_list lab/exp1 extra=True
node_list extra=False
extra_nodes lab exp1
check_topology '<experiment><version>1.0</version></experiment>'
plan_experiment lab/exp1 'set ns [new Simulator]\\n$ns run\\n'
create_experiment lab/exp1 'set ns [new Simulator]'
create_experiment lab/exp1 blob:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef swap_in=True wait=0
create_experiment lab/exp1 'set ns [new Simulator]' token=t1
topology lab/exp1 format=topdl
create_experiment lab/exp1 @x kind=qemu kind_alone=embedded
create_experiment lab/exp1 'node.web = {}' format=toml packing=10 qemu_nics=9 force_partition=True
create_experiment lab/exp1 'set ns [new Simulator]' size=2 pass_pack=0:1,1:20 pass_size=1:10 pass_pnodes=0:pc,fast;1:pc
plan_experiment lab/exp1 '<e/>' nodes_only=True pass_nodes_only=1,3 hosts=[{'name': 'h1', 'cores': 4}]
check_topology 'set ns [new Simulator]' format=ns
modify_experiment lab/exp1 '<experiment/>' packing=None
swap_in lab/exp1
swap_in lab/exp1 wait=10m token=abc
swap_out lab/exp1
terminate lab/exp1
modify_experiment lab/exp1 '<experiment/>'
experiments
experiment lab/exp1
wait_for lab/exp1 active
wait_for lab/exp1 started timeout=60
node_reboot lab/exp1 web
run lab/exp1 ['ping', '-c1', 'db'] nodes=['web', 'db'] timeout=5
snapshot_node lab/exp1 web web-v2
node_logs lab/exp1 nodes=web stream=console since=web/console/4096 limit=1000
node_reboot lab/exp1 web db
start_node lab/exp1 web
stop_node lab/exp1 web db wait=0
ticket '-----BEGIN CMS-----\\nMIIF...\\n-----END CMS-----\\n'
ticket MIIFwAYJKoZIhvcNAQcCoIIFsTCCBa0CAQExDTALBglghkgBZQMEAgE wait=0 token=t1
get_rspec lab_web
get_effective_rspec web.exp1.lab
loan lab_db cpu_share 16
loan lab_db cpu_share 16 lender=lab_web until=+30m
loan lab_db cpu_share 0 lender=lab_web until=2027-01-31T12:00:00Z token=t1
set_loans lab_web []
set_loans lab_web [['lab_db', 'cpu_share', 16], ('lab_db', 'net_max', 0)] until=+1h
set_loans lab_web [{'recipient': 'lab_db', 'resource': 'cpu_share', 'amount': 16, 'until': '+30m'}]
get_loans lab_web
get_loans lab_web borrowed=True
ca_init
ca_init names=host.example.org life=3650d
ca_token host.example.org
ca_token ['urn:site:user:ann'] purpose=ticket expires=+2h life=30d
ca_certificate
ca_enrol x7Q-a_b '-----BEGIN CERTIFICATE REQUEST-----\\nMII=\\n-----END CERTIFICATE REQUEST-----\\n'
ca_renew '-----BEGIN CERTIFICATE REQUEST-----\\nMII=\\n-----END CERTIFICATE REQUEST-----\\n'
ca_revoke 8f3a0c
ca_revoke e4a38bd89d6b5f00a5a23134ec855f9b unknown=True
ca_revoke host.example.org
ca_revoked
certificates
create_experiment lab/exp1 'set ns [new Simulator]' idle=1h most=2d
create_experiment lab/exp1 'set ns [new Simulator]' no_idle='a demonstration on Friday'
set_swap lab/exp1
delay_config lab/exp1 link0 delay_ms=20 rate_kbps=none loss=0.5
delay_config lab/exp1 link0 source=web rate_kbps=1000 save=True token=t1
set_swap lab/exp1 idle=2h most=3d
set_swap lab/exp1 idle=site most=site token=t1
set_swap lab/exp1 no_idle='a demonstration on Friday'
activity lab/exp1
history lab/exp1
history lab/exp1 since=1700000000.5 limit=10
why lab/exp1 web
"""


def read(line: str) -> tuple[list[Any], dict[str, Any]]:
    request = split(line)
    return command_named(request.command).read(request)


class TableTests(SynchronousTestCase):
    def test_names(self) -> None:
        """No two commands have one name, and each name is easy to type."""
        names = [row.name for row in ROWS]
        self.assertEqual(sorted(set(names)), sorted(names))
        for name in names:
            self.assertRegex(name, "^[a-z]+(_[a-z]+)*$")

    def test_told(self) -> None:
        """C{help} says of every command, in a sentence, what it is for."""
        for row in ROWS:
            self.assertRegex(row.help, r"^[A-Z][ -~]{5,200}\.$", row.name)

    def test_who(self) -> None:
        """Every command is for somebody, and for those only who can be told from others."""
        for row in ROWS:
            self.assertTrue(row.who and row.who <= RELATIONS, row.name)

    def test_operators(self) -> None:
        """Operators may do everything."""
        for row in ROWS:
            self.assertTrue({"operator", "anyone"} & row.who, row.name)

    def test_targets(self) -> None:
        """What a command is about is named by its first argument, and is a thing whose owner is known."""
        for row in ROWS:
            if row.target is not None:
                self.assertIn(row.target, TARGETS, row.name)
                self.assertTrue(row.args, row.name)
                self.assertIn(row.targeted, {"", *(name for name, _, _ in row.options)}, row.name)

    def test_relationsNeedTargets(self) -> None:
        """Who is a member or owner of something can be told only where something is named."""
        for row in ROWS:
            if row.target is None:
                self.assertEqual(row.who - {"anyone", "user", "operator", "self", "stranger"}, set(), row.name)

    def test_words(self) -> None:
        """Within a command no two arguments or options have one name, and each can be typed."""
        for row in ROWS:
            names = [name for name, _ in row.args] + [name for name, _, _ in row.options]
            names += ["wait"] * row.slow + ["token"] * (row.changes and not row.once)
            self.assertEqual(sorted(set(names)), sorted(names), row.name)
            for name in names:
                self.assertRegex(name, "^[a-z0-9]+(_[a-z]+)*$", row.name)

    def test_defaults(self) -> None:
        """What an option is when it is left out could also be given."""
        for row in ROWS:
            for name, (kind, default) in row.all_options.items():
                if default is not None:
                    self.assertIsNone(kind.fits(default), f"{row.name} {name}=")

    def test_slowWorkIsChange(self) -> None:
        """Slow work is recorded, and can be asked for twice without being done twice."""
        for row in ROWS:
            self.assertTrue(row.changes or not row.slow, row.name)

    def test_changesAreNotKept(self) -> None:
        """An answer is kept for the next who asks only if asking changes nothing."""
        for row in ROWS:
            self.assertFalse(row.polled and row.changes, row.name)

    def test_answered(self) -> None:
        """Every command in the table is answered, and nothing else is."""
        self.assertEqual(set(RESPONDERS), set(TABLE))

    def test_answeredAsAsked(self) -> None:
        """Who answers takes what may be asked: all arguments, or those only that must be there, and every option."""
        for row in ROWS:
            options = {name: default for name, _, default in row.options}
            for count in range(len(row.args) - row.optional, len(row.args) + 1):
                inspect.signature(RESPONDERS[row.name]).bind("ask", *[name for name, _ in row.args][:count], **options)

    def test_named(self) -> None:
        """A command is found by its name only; near ones are told."""
        self.assertIs(command_named("ping"), TABLE["ping"])
        for wrong, message in (
            ("statsu_request", "no command 'statsu_request' (did you mean status_request?); 'help' lists them"),
            ("PING", "no command 'PING' (did you mean ping?); 'help' lists them"),
            ("zzz", "no command 'zzz'; 'help' lists them"),
            ("'ping'", "no command \"'ping'\" (did you mean ping?); 'help' lists them"),
        ):
            self.assertEqual(self.assertRaises(UnknownCommand, command_named, wrong).message, message)
        self.assertLess(len(self.assertRaises(UnknownCommand, command_named, "x" * 1_000_000).message), 200)


class UsageTests(SynchronousTestCase):
    def test_usage(self) -> None:
        """The usage line says what must, what may, and what may be repeated."""
        for usage in (
            "ping",
            "hello [format=FORMAT] [client=WORD]",
            "help [WORD]",
            "status_request PROJECT/EXPERIMENT",
            "node_list [PROJECT/EXPERIMENT] [extra=BOOL]",
            "extra_nodes PROJECT EXPERIMENT",
            "unwatch [TOPIC..]",
            "watch TOPIC.. [since=CURSOR]",
            "node_reboot PROJECT/EXPERIMENT NODE.. [wait=SECONDS] [token=WORD]",
            "swap_out PROJECT/EXPERIMENT [wait=SECONDS] [token=WORD]",
            "add_user USER [uid=UID] [keys=[KEY, ..]] [certificate=[NAME, ..]] [operator=BOOL] [token=WORD]",
        ):
            self.assertEqual(TABLE[usage.partition(" ")[0]].usage, usage)

    def test_replyWord(self) -> None:
        """C{X_request} is answered by C{X_reply}, any other command by its name and C{_reply}."""
        for name, word in (
            ("status_request", "status_reply"),
            ("ping", "ping_reply"),
            ("node_list", "node_list_reply"),
            ("operation", "operation_reply"),
        ):
            self.assertEqual(TABLE[name].reply_word, word)

    def test_replyWordsDiffer(self) -> None:
        """A reply tells which command it answers."""
        self.assertEqual(len({row.reply_word for row in ROWS}), len(ROWS))


class ReadTests(SynchronousTestCase):
    def refused(self, line: str, kind: type[HostError], message: str) -> None:
        error = self.assertRaises(HostError, read, line)
        self.assertEqual((type(error), error.message), (kind, message))

    def test_examples(self) -> None:
        """What the design shows, people can type."""
        for line in EXAMPLES.strip().splitlines():
            try:
                read(line)
            except HostError as error:
                self.fail(f"{line}: {error}")

    def test_values(self) -> None:
        """Arguments and options arrive as what they mean."""
        self.assertEqual(read("wait 17 timeout=2m"), ([17], {"timeout": 120.0}))
        self.assertEqual(read("add_project lab quota={'a': 1} token=t"), (["lab"], {"quota": {"a": 1}, "token": "t"}))
        self.assertEqual(read("add_delegate d commands=ping")[1]["commands"], ["ping"])

    def test_defaults(self) -> None:
        """Options left out have their defaults."""
        self.assertEqual(read("events"), ([], {"since": 0, "limit": 1000, "topic": "all"}))
        self.assertEqual(read("swap_in lab/exp1"), (["lab/exp1"], {"wait": 30.0, "token": None}))

    def test_defaultsStay(self) -> None:
        """What one request made of a default, the next one does not see."""
        for line, name in (("add_user ann", "keys"), ("add_project lab", "quota")):
            value = read(line)[1][name]
            value.update(a=1) if isinstance(value, dict) else value.append("x")
            self.assertFalse(read(line)[1][name])

    def test_leftOut(self) -> None:
        """An argument that may be left out may be."""
        self.assertEqual(read("help")[0], [])
        self.assertEqual(read("help ping")[0], ["ping"])
        self.assertEqual(read("node_list")[0], [])

    def test_repeated(self) -> None:
        """The last argument of some commands may be repeated."""
        self.assertEqual(read("node_reboot lab/exp1 web")[0], ["lab/exp1", ["web"]])
        self.assertEqual(read("node_reboot lab/exp1 web db")[0], ["lab/exp1", ["web", "db"]])
        self.assertEqual(read("unwatch")[0], [])
        self.assertEqual(read("unwatch host all")[0], [["host", "all"]])

    def test_repeatedAndLeftOut(self) -> None:
        """Both hold of one that may be both, behind others."""
        row = Command(
            "shine", (("where", kinds.WORD), ("how", kinds.COUNT)), kinds.STRING, frozenset(), "", optional=1, rest=True
        )
        self.assertEqual(row.usage, "shine WORD [N..]")
        for line, values in (("shine a", ["a"]), ("shine a 1", ["a", [1]]), ("shine a 1 2", ["a", [1, 2]])):
            self.assertEqual(row.read(split(line))[0], values)
        self.assertRaises(BadArguments, row.read, split("shine"))

    def test_count(self) -> None:
        """Who gives too little or too much is shown the usage."""
        for line, message in (
            ("status_request", "want status_request PROJECT/EXPERIMENT, got 0 arguments"),
            ("status_request a/b c/d", "want status_request PROJECT/EXPERIMENT, got 2 arguments"),
            ("ping x", "want ping, got 1 argument"),
            ("help a b", "want help [WORD], got 2 arguments"),
            ("watch", "want watch TOPIC.. [since=CURSOR], got 0 arguments"),
            ("extra_nodes lab/exp1", "want extra_nodes PROJECT EXPERIMENT, got 1 argument"),
        ):
            self.refused(line, BadArguments, message)

    def test_option(self) -> None:
        """A misspelt option is refused, with the right one and the usage; it is never just ignored."""
        self.refused(
            "events limt=3",
            UnknownOption,
            "no option 'limt' in events (did you mean limit?); want events [since=CURSOR] [limit=N] [topic=TOPIC]",
        )
        self.refused("ping x=1", UnknownOption, "no option 'x' in ping; want ping")
        self.refused("ping token=x", UnknownOption, "no option 'token' in ping; want ping")
        usage = "ca_enrol SECRET REQUEST"
        self.refused("ca_enrol a b token=x", UnknownOption, f"no option 'token' in ca_enrol; want {usage}")

    def test_value(self) -> None:
        """What is wrong with a value is told with the name of its place."""
        self.refused("status_request exp1", BadValue, "experiment: want PROJECT/EXPERIMENT, got 'exp1'")
        self.refused("wait 17 timeout=soon", BadValue, "timeout: want seconds such as 30, 2.5 or 10m, got 'soon'")
        self.refused("node_list extra=yes", BadValue, "extra: want True or False, got 'yes'")
        states = "swapped, activating, active, swapping, modifying, terminating, terminated, failed or started"
        self.refused("wait_for lab/exp1 up", BadValue, f"state: want {states}, got 'up'")
        self.refused("wait_for lab/exp1 active,up", BadValue, f"state: want {states}, got 'up'")
        self.refused("wait_for lab/exp1 active,", BadValue, f"state: want {states}, got ''")
        self.refused(
            "add_user ann keys=['x']",
            BadValue,
            "keys: item 1: want an OpenSSH public key such as 'ssh-ed25519 AAAA... name', got 'x'",
        )

    def test_repeatedValue(self) -> None:
        """Of many nodes, the wrong one is shown."""
        rule = "letters, digits, '-' and '_', beginning with a letter or digit, at most 63"
        self.refused("stop_node lab/exp1 a b -c d", BadValue, f"nodes: want a node name ({rule}), got '-c'")

    @settings(deadline=None)
    @given(
        st.sampled_from(sorted(TABLE)),
        st.lists(
            st.sampled_from(
                ["lab", "lab/exp1", "17", "all", "''", "[1]", "{'a': 1}", "(1, 2)", "None", "True", "-", "@7"]
            )
            | st.builds(
                "{}={}".format,
                st.sampled_from(["wait", "token", "since", "keys", "x"]),
                st.sampled_from(["1", "''", "[]"]),
            )
            | st.text()
        ),
    )
    def test_garbage(self, name: str, words: list[str]) -> None:
        """Whatever is asked of a command is read or refused."""
        try:
            values, _ = read(" ".join([name, *words]))
        except HostError:
            return
        self.assertLessEqual(len(values), len(TABLE[name].args))


class FitsTests(SynchronousTestCase):
    """What the other tests rely on to find wrong replies."""

    def wrong(self, line: bytes | str, command: str, why: str) -> None:
        try:
            fits(line, command)
        except AssertionError as error:
            self.assertIn(why, str(error))
        else:
            self.fail(f"{line!r} passed")

    def test_fits(self) -> None:
        """Good replies are let through, and read."""
        status = {"hv:qemu:pnode-0000": {"web": ["booted", 0]}}
        self.assertEqual(fits(reply("status_reply", status, "7"), "status_request"), ("7", "status_reply", status))
        self.assertEqual(fits("ping_reply {'time': 1.5}", "ping").body, {"time": 1.5})
        self.assertEqual(fits(reply("ping_reply", {"time": 1.5}, None, True), "ping", True).body, {"time": 1.5})
        fits(reply("error_reply", UnknownOption("no option x").body("ping")), "ping")
        fits(reply("error_reply", BadArguments("want a command").body()), "ping")
        fits(reply("event", {"cursor": 1, "time": 1.5, "topic": "host", "what": "x", "request": None}), "ping")

    def test_operation(self) -> None:
        """Slow work may be answered with an operation, anything else may not."""
        body = {"operation": 1, "command": "swap_in", "target": "lab/exp1", "state": "queued", "step": "",
                "progress": None, "started": 1.5, "ended": None, "causes": [], "nodes": []}  # fmt: skip
        fits(reply("operation_reply", body), "swap_in")
        fits(reply("operation_reply", body), "operation")
        self.wrong(reply("operation_reply", body), "ping", "want ping_reply to ping, got operation_reply")

    def test_wrong(self) -> None:
        """What does not fit is told."""
        for line, why in (
            (b"ping_reply {'time': 'now'}\n", "ping_reply of ping: time: want a finite number, got 'now'"),
            (b"pong_reply {'time': 1.5}\n", "want ping_reply to ping, got pong_reply"),
            ("ping_reply {'time': 1.5, 'by': 'é'}\n", "want one line of plain ASCII"),
            (b"ping_reply {'time': 1.5}\n\n", "want one line of plain ASCII"),
            (b"ping_reply {'time': 1.5, 'x': (1, 2)}\n", "got tuple in the value['x']"),
            (b"error_reply {'code': 'PING', 'message': 'x', 'command': 'ping'}\n", "want ERROR, "),
            (b"error_reply {'code': 'DENIED', 'message': 'x', 'command': 'pong'}\n", "want an error of ping"),
            (b"error_reply {'code': 'DENIED', 'message': '', 'command': 'ping'}\n", "want a message"),
            (b"ping\n", "want 'reply_word literal'"),
        ):
            self.wrong(line, "ping", why)

    def test_everyCommand(self) -> None:
        """No command is left out: a senseless body fits none."""
        for name, row in commands.TABLE.items():
            self.wrong(reply(row.reply_word, 7), name, f"{row.reply_word} of {name}: want ")
