"""
Links with rates and delays from the text to the kernel, changed while they are in use, and found again by the next
daemon.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from tests.live.hosted import Hosted, until
from tests.live.killing import KilledTest
from tests.needs import needs_root, needs_tool

_TEXT = (
    "<experiment><version>1.0</version><substrates><name>lan</name><latency><time>10</time></latency></substrates>"
    + "".join(
        f"<elements><computer><name>{name}</name><interface><name>inf000</name><substrate>lan</substrate></interface>"
        "<attribute><attribute>containers:node_type</attribute><value>process</value></attribute></computer></elements>"
        for name in ("a", "b")
    )
    + "</experiment>"
)


@needs_root
@needs_tool("ping", "nsenter", "vde_switch", "wirefilter")
class DelaysTests(KilledTest):
    """
    A host with a link of two processes, 10 ms long.
    """

    def setUp(self) -> None:
        self.helpers = set()
        self.host = Hosted(self)
        self.host.start()
        self.host.ask("add_project lab")
        self.host.ask(f"create_experiment lab/x {_TEXT!a} swap_in=True wait=60", 90)

    def body(self) -> dict[str, Any]:
        return dict(self.host.ask("experiment lab/x"))

    def rtt(self) -> float:
        """
        @return: milliseconds from C{a} to C{b} and back, the fewest of some.
        """
        pid = self.body()["nodes"]["a"]["pid"]
        said = subprocess.run(
            ["nsenter", "-t", str(pid), "-n", "ping", "-i", "0.05", "-c", "10", "10.1.1.3"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        ).stdout
        return min((float(one) for one in re.findall(r"time=([0-9.]+)", said)), default=-1.0)

    def assertSoon(self, wanted: float) -> None:
        """
        It is within a tenth of this, within a few seconds.
        """
        found: list[float] = []

        def near() -> bool:
            found.append(self.rtt())
            return abs(found[-1] - wanted) <= wanted / 10

        until(near, 10, lambda: found)

    def test_changedAndFoundAgain(self) -> None:
        """
        The link is as long as was asked for; a change holds at once, lives through a kill of the daemon, is over with
        the next swap-in unless it was saved; in the end nothing is left.
        """
        link = self.body()["links"]["lan"]
        self.assertEqual((link["delay_ms"], link["by"]), (10, "wirefilter"))
        self.assertSoon(20)
        group = f"w{self.body()['serial']}"
        if self.host.cgroups():
            self.assertIn(group, {path.name for path in self.host.remains.groups()})
        self.assertEqual(self.host.ask("delay_config lab/x lan delay_ms=30 save=True")["delay_ms"], 30)
        self.assertSoon(60)
        self.host.ask("delay_config lab/x lan source=a delay_ms=50")
        self.assertSoon(80)
        self.assertEqual(self.body()["links"]["lan"]["changes"], {"a": {"delay_ms": 50}})
        self.host.kill()
        self.host.start()
        self.assertSoon(80)
        self.host.ask("swap_out lab/x wait=30", 60)
        self.assertEqual(self.filters(), [])
        self.host.ask("swap_in lab/x wait=30", 60)
        self.assertSoon(60)
        self.host.ask("delay_config lab/x lan delay_ms=none save=True")
        self.assertSoon(20)
        self.host.ask("terminate lab/x wait=30", 60)
        until(lambda: not self.filters(), 10, self.filters)
        until(lambda: group not in {path.name for path in self.host.remains.groups()}, 10)

    def filters(self) -> list[str]:
        """
        @return: what filters for this host, and its devices.
        """
        said = subprocess.run(["ip", "-o", "link", "show"], capture_output=True, text=True, check=True).stdout
        instance = self.host.instance
        found = [line for line in said.splitlines() if f"hostline-links {instance} " in line]
        for one in Path("/proc").iterdir():
            try:
                if one.name.isdigit() and f"HOSTLINE_LINK={instance}/".encode() in (one / "environ").read_bytes():
                    found.append(one.name)
            except OSError:
                continue
        return found
