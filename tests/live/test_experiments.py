"""
Experiments for real: containers and processes on the same links, the host itself and accounts among them, from the text
to the last trace.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import time
from binascii import b2a_base64
from pathlib import Path
from typing import Any

from tests.live.experiments import Node, chain, text, uptime_of
from tests.live.hosted import Hosted, until
from tests.live.killing import KilledTest
from tests.live.test_images import member, tar_of
from tests.needs import needs_root, needs_tool
from tests.scale import scaled

_CONFIG = """
[experiments]
container_image = "tiny"
embedded = true
"""


@needs_root
@needs_tool("conmon", "runc", "catatonit", "busybox", "ping")
class ExperimentsCase(KilledTest):
    """
    A host with a small image, and the project lab.
    """

    def setUp(self) -> None:
        self.helpers = set()
        self.host = Hosted(self, _CONFIG)
        self.host.start()
        self.host.ask("image_build tiny base=busybox", 60)
        self.host.ask("add_project lab")

    def swap_in(self, nodes: dict[str, Node]) -> Any:
        """
        @return: the body of the experiment once all start commands have ended.
        """
        self.host.ask(f"create_experiment lab/x {text(nodes)} swap_in=True wait=60", 90)
        return self.host.ask("wait_for lab/x started timeout=20", 30)

    def run_in(self, node: str, command: str) -> Any:
        """
        @return: how a command in a node ends, and what it says.
        """
        return self.host.ask(f"exec {node}.x.lab ['/bin/sh','-c',{command!r}]", 60)

    def assertReaches(self, node: str, other: str) -> None:
        """
        A node answers, within some seconds of trying: a ping, or that nobody listens, for busybox cannot ping without
        raw sockets, which containers do not have.
        """
        said = {}
        container = self.nodes()[node]["kind"] == "container"

        def reaches() -> bool:
            nonlocal said
            if container:
                said = self.run_in(node, f"nc -w 2 {other} 9")
                return "refused" in said["err"]
            said = self.run_in(node, f"ping -c 1 -W 1 {other}")
            return bool(said["exit"] == 0)

        until(reaches, 10, lambda: (said, self.run_in(node, "ip addr; ip route; cat /etc/hosts")["out"]))

    def nodes(self) -> Any:
        return self.host.ask("experiment lab/x")["nodes"]


class MixedTests(ExperimentsCase):
    """
    Kinds beside each other.
    """

    def test_fromTheTextToTheLastTrace(self) -> None:
        """
        Five nodes of two kinds in a row are booted with their start commands' codes, reach each other by name over all
        hops, go on as they are while one is rebooted and one is added, and leave nothing.
        """
        nodes = chain(5) | {"n4": Node("process", ["l3"], "exit 7")}
        body = self.swap_in(nodes)
        self.assertEqual([one["problems"] for one in body["nodes"].values()], [[]] * 5)
        self.assertEqual(
            self.host.ask("status_request lab/x"),
            {
                "hv:container:pnode-0000": {"n1": ["booted", 1], "n3": ["booted", 3]},
                "hv:process:pnode-0000": {"n0": ["booted", 0], "n2": ["booted", 2], "n4": ["booted", 7]},
            },
        )
        for node, other in (("n0", "n4"), ("n4", "n0"), ("n1", "n3"), ("n3", "n0")):
            self.assertReaches(node, other)
        others = uptime_of(self.nodes(), "n0", "n1", "n3", "n4")
        self.host.ask("node_reboot lab/x n2 wait=30", 60)
        again = self.host.ask("wait_for lab/x started timeout=20", 30)["nodes"]["n2"]
        self.assertEqual((again["boots"], again["boot"], again["code"]), (2, "booted", 2))
        self.assertReaches("n0", "n4")
        said = self.host.ask(
            f"modify_experiment lab/x {text(nodes | {'n5': Node('container', ['l3', 'l0'], 'exit 5')})} wait=60", 90
        )
        self.assertEqual((said["added"], said["removed"], said["kept"]), (["n5"], [], sorted(nodes)))
        self.assertReaches("n5", "n0")
        self.assertReaches("n1", "n5")
        self.assertEqual(uptime_of(self.nodes(), *others), others)
        self.host.ask("swap_out lab/x wait=30", 60)
        until(lambda: not self.host.left_over(), 10, self.host.left_over)
        self.host.ask("terminate lab/x")
        self.assertNothingLeft()

    def test_linksComeAndGoWhileNodesRun(self) -> None:
        """
        A node is given a further interface, and loses it again, without a restart.
        """
        first = {"a": Node("container", ["l0"]), "b": Node("process", ["l0"]), "c": Node("process", ["l1"])}
        self.swap_in(first)
        before = uptime_of(self.nodes(), *first)
        more = first | {"a": Node("container", ["l0", "l1"]), "b": Node("process", ["l0", "l1"])}
        self.host.ask(f"modify_experiment lab/x {text(more)} wait=30", 60)
        self.assertReaches("a", "c")
        self.assertReaches("c", "b-l1")
        self.host.ask(f"modify_experiment lab/x {text(first)} wait=30", 60)
        for node in "ab":
            self.assertNotIn("inf001", self.run_in(node, "ip addr")["out"])
        self.assertNotEqual(self.run_in("b", "ping -c 1 -W 1 c")["exit"], 0)
        self.assertEqual(uptime_of(self.nodes(), *first), before)
        self.host.ask("terminate lab/x")
        self.assertNothingLeft()

    def test_theDaemonComesBackToRunningLinks(self) -> None:
        """
        Killed and started again, the daemon finds the links in use, and they are not interrupted.
        """
        self.swap_in(chain(3))
        before = uptime_of(self.nodes(), "n0", "n1", "n2")
        self.run_in("n0", "ping -i 0.1 -W 1 n2 >$HOME/pings 2>&1 & echo $! >$HOME/pid")
        time.sleep(0.5)
        self.kill()
        time.sleep(0.3)
        self.host.start()
        time.sleep(1)
        said = self.run_in("n0", "kill -INT $(cat $HOME/pid); sleep 0.3; cat $HOME/pings")["out"]
        self.assertRegex(said, r" 0% packet loss")
        self.assertEqual(uptime_of(self.nodes(), "n0", "n1", "n2"), before)
        self.assertEqual([one["problems"] for one in self.nodes().values()], [[]] * 3)
        self.host.ask("terminate lab/x")
        self.assertNothingLeft()

    def test_aBootThatWaitsForItsLinksIsTakenUp(self) -> None:
        """
        However soon after the wish the daemon dies, each boot that waits at its latch goes on with the next one.
        """
        nodes = {f"n{at}": Node("process", ["l0"], "exit 4") for at in range(6)}
        self.host.ask(f"create_experiment lab/x {text(nodes)}")
        wanted = {"hv:process:pnode-0000": {name: ["booted", 4] for name in nodes}}
        for moment in scaled((0.0, 0.05, 0.2), (0.0, 0.02, 0.05, 0.1, 0.2)):
            self.host.ask("swap_in lab/x wait=0")
            time.sleep(moment)
            self.kill()
            self.host.start()
            self.host.ask("wait_for lab/x active timeout=20", 30)
            until(
                lambda: self.host.ask("status_request lab/x") == wanted,
                10,
                lambda: self.host.ask("status_request lab/x"),
            )
            self.assertReaches("n0", "n5")
            self.host.ask("swap_out lab/x wait=30", 60)
        self.host.ask("terminate lab/x")
        self.assertNothingLeft()

    def test_aProcessSeesItsOwnNetworkOnly(self) -> None:
        """
        A process on a link has no interface of the host's, its own names, and cannot change either.
        """
        self.swap_in({"a": Node("process", ["l0"]), "b": Node("process", ["l0"])})
        seen = self.run_in("a", "ip -o link | cut -d' ' -f2 | cut -d@ -f1")["out"].split()
        self.assertLessEqual(set(seen), {"lo:", "eth0", "eth0:", "inf000", "inf000:"})
        self.assertNotEqual(self.run_in("a", "echo >>/etc/hosts")["exit"], 0)
        self.assertNotEqual(self.run_in("a", "ip link set dev inf000 down")["exit"], 0)
        self.assertNotIn("b.x.lab", Path("/etc/hosts").read_text())
        self.host.ask("terminate lab/x")
        self.assertNothingLeft()


class OtherKindsTests(ExperimentsCase):
    """
    The host itself, and its accounts.
    """

    def test_theHostTakesPart(self) -> None:
        """
        An embedded node is the host, with an address on the link; its start command sees the host's network, and has a
        uid of its own. With its experiment, the address goes.
        """
        links = Path("/sys/class/net")
        before = set(links.iterdir())
        nodes = {
            "h": Node("embedded", ["l0"], "id -u; ls /sys/class/net; exit 3"),
            "c": Node("container", ["l0"]),
            "u": Node("account", [], "exit 2"),
        }
        body = self.swap_in(nodes)
        # Where the program that lets people in is may be closed to others, on the machine of who develops this.
        problems = [text for one in body["nodes"].values() for text in one["problems"]]
        self.assertEqual([text for text in problems if not text.startswith("nobody can log in")], [])
        self.assertEqual(
            self.host.ask("status_request lab/x"),
            {
                "hv:account:pnode-0000": {"u": ["booted", 2]},
                "hv:container:pnode-0000": {"c": ["booted", None]},
                "hv:embedded:pnode-0000": {"h": ["booted", 3]},
            },
        )
        self.assertReaches("c", "h")
        self.assertIn("u.x.lab:", Path("/etc/passwd").read_text())
        self.host.ask("swap_out lab/x wait=30", 60)
        until(lambda: not self.host.left_over(), 10, self.host.left_over)
        self.assertEqual(set(links.iterdir()), before)
        self.host.ask("terminate lab/x")
        self.assertNothingLeft()

    def test_twoExperimentsWantTheSameAddressOfTheHost(self) -> None:
        """
        The host cannot be two nodes with one address: the second is refused, naming both, and the first goes on.
        """
        self.swap_in({"h": Node("embedded", ["l0"]), "c": Node("container", ["l0"])})
        word, body = self.host.ask_any(
            f"create_experiment lab/y {text({'h': Node('embedded', ['l0']), 'c': Node('container', ['l0'])})} "
            "swap_in=True wait=30",
            60,
        )
        self.assertEqual((word, body["code"]), ("error_reply", "FAILED"))
        self.assertIn("h.y.lab", str(body["causes"]))
        self.assertIn("h.x.lab", str(body["causes"]))
        self.assertReaches("c", "h")
        for name in "xy":
            self.host.ask(f"terminate lab/{name}")
        self.assertNothingLeft()


#: An apt-get that says what it was asked for, and knows no package broken.
_APT_GET = """#!/bin/sh
echo "$@" >>/asked
case "$*" in *broken*) echo 'E: Unable to locate package broken' >&2; exit 100 ;; esac
[ "$3" = update ] || sleep 1
"""


#: An ssh-keygen that makes a key, and says which it was.
_KEYGEN = "#!/bin/sh\necho $1 >>/etc/ssh/ssh_host_test_key\n"


class PackagesTests(ExperimentsCase):
    """
    Packages per node.
    """

    def setUp(self) -> None:
        super().setUp()
        busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
        applets = ("sh", "mkdir", "sed", "tail", "cat", "sleep", "timeout", "date")
        content = tar_of(
            member("bin/busybox", content=busybox, mode=0o755),
            *(member(f"bin/{name}", tarfile.SYMTYPE, linkname="busybox") for name in applets),
            member("usr/bin/apt-get", content=_APT_GET.encode(), mode=0o755),
            member("usr/bin/ssh-keygen", content=_KEYGEN.encode(), mode=0o755),
            member("etc/ssh", tarfile.DIRTYPE, mode=0o755),
            *(member(name, tarfile.DIRTYPE, mode=0o755) for name in ("root", "etc", "var", "tmp")),
        )
        name = hashlib.sha256(content).hexdigest()
        size, step = len(content), 300_000
        with self.host.client(60) as client:
            for start in range(0, size, step):
                piece = b2a_base64(content[start : start + step], newline=False).decode()
                client.ask(f"blob {name} {size} {start} '{piece}'")
            client.ask(f"image_import apt blob:{name}")

    def test_keysOfTheirOwn(self) -> None:
        """
        A container whose image has an sshd without a key gets one at its first boot, and keeps it.
        """
        self.swap_in({"a": Node("container", [], "cat /etc/ssh/ssh_host_test_key", image="apt")})
        self.assertEqual(self.host.ask("logs a.x.lab stream=out")["out"], "-A\n")
        self.host.ask("node_reboot lab/x a wait=30", 60)
        self.host.ask("wait_for lab/x started timeout=20", 30)
        self.assertEqual(self.host.ask("logs a.x.lab stream=out")["out"], "-A\n")
        self.host.ask("terminate lab/x")
        self.assertNothingLeft()

    def test_areThereBeforeTheStartCommand(self) -> None:
        """
        They are installed once, before the start command runs; where that cannot be, the node could not be started and
        says why, and its failure action decides.
        """
        asked = {"hostline:packages": "hello, nginx"}
        nodes = {
            "good": Node("container", [], "cat /asked; exit 2", {**asked, "hostline:start_once": "true"}, "apt"),
            "plain": Node("container", [], "exit 3"),
            "bad": Node("container", [], "exit 1", {"hostline:packages": "broken", "failureaction": "nonfatal"}, "apt"),
            "bare": Node("container", [], "exit 1", {**asked, "failureaction": "ignore"}),
        }
        body = self.swap_in(nodes)
        self.assertEqual((body["state"], body["reason"]), ("active", "bad could not be started"))
        status = {name: (one["boot"], one["code"]) for name, one in body["nodes"].items()}
        self.assertEqual(
            status, {"bad": ("dead", 125), "bare": ("dead", 125), "good": ("booted", 2), "plain": ("booted", 3)}
        )
        self.assertIn(
            "could not be started: packages: apt-get install broken ended with status 100: "
            "Unable to locate package broken",
            body["nodes"]["bad"]["problems"],
        )
        self.assertIn("could not be started: packages: this image has no apt-get", body["nodes"]["bare"]["problems"])
        said = "-q -y update\n-q -y --no-install-recommends install hello nginx\n"
        self.assertEqual(self.host.ask("logs good.x.lab stream=out")["out"], said)
        self.host.ask("node_reboot lab/x good wait=30", 60)
        again = self.host.ask("wait_for lab/x started timeout=20", 30)["nodes"]["good"]
        self.assertEqual((again["boots"], again["boot"], again["code"]), (2, "booted", 2))
        self.assertEqual(self.run_in("good", "cat /asked")["out"], said)
        self.assertEqual(self.host.ask("logs good.x.lab stream=out")["out"], "")
        self.host.ask("terminate lab/x")
        self.assertNothingLeft()
