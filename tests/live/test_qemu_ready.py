"""
By which sign QEMU guests count as up.
"""

from __future__ import annotations

from typing import Any

from hostline.server.drivers.driver import Workload
from tests import needs
from tests.drivers import Heard
from tests.live import test_qemu
from tests.live.machines import imaged


@needs.needs_root
@needs.needs_tool("conmon", "runc", "catatonit", "qemu-system-x86_64")
class SignTests(test_qemu.Machines):
    """
    One image after another that says something else.
    """

    def boot(self, about: dict[str, Any]) -> None:
        workload = Workload(5, "web.exp1.lab", image=imaged().add(about))
        self.go(self.driver.ensure_created(workload))
        self.go(self.driver.ensure_started(workload))

    def test_started(self) -> None:
        """
        Where an image says so a machine is up as soon as QEMU runs; its console shows what it says, and takes input.
        """
        self.boot({"ready": "started"})
        self.until(lambda: self.driver.status()[5].boot == "booted")
        heard = Heard()
        console = self.driver.attach(5, heard)
        self.addCleanup(console.close)

        def answered() -> bool:
            if not console.unwritten and b"sum=42" not in heard.out:
                console.write(b"echo sum=$((40+2))\n")
            return b"sum=42" in heard.out

        self.until(answered)
        self.until(lambda: b"sum=42" in self.driver.read_log(5, "console", -100_000, 100_000)[0])

    def test_console(self) -> None:
        """
        A machine is up once its console shows the sign, and not before.
        """
        self.boot({"ready": "console:never-to-be-seen|magic [0-9]+ words"})
        self.until(lambda: self.driver.reachable(5))  # type: ignore[attr-defined]
        self.assertEqual(self.driver.status()[5].boot, "running")
        heard = Heard()
        self.driver.execute(5, ["sh", "-c", "echo magic 77 words >/dev/ttyS0"], heard)
        self.until(lambda: self.driver.status()[5].boot == "booted")
