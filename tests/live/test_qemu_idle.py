"""
Who uses a QEMU guest, seen from outside and by its agent.
"""

from __future__ import annotations

from hostline.server.drivers.driver import Activity, Workload
from tests import needs
from tests.drivers import Heard
from tests.live import support
from tests.live.test_qemu import Machines


@needs.needs_root
class GuestUseTests(Machines):
    """
    What is done inside a guest. That it computes is tested with what every driver promises.
    """

    def test_keystroke(self) -> None:
        """
        Who types at the console of a guest uses it, though nothing of that is seen outside.
        """
        workload = Workload(5, "web.exp1.lab")
        self.go(self.driver.ensure_created(workload))
        self.go(self.driver.ensure_started(workload))
        self.until(lambda: self.driver.status()[5].boot == "booted")
        self.until(lambda: self.activity().input > 0)
        talk = self.driver.attach(5, Heard())
        self.addCleanup(talk.close)
        support.idle(self.host.loop, 2)
        before = self.activity().input

        def typed() -> bool:
            talk.write(b"\n")
            support.idle(self.host.loop, 1)
            return self.activity().input > before  # Linux keeps it in steps of 8 s

        self.until(typed)

    def activity(self) -> Activity:
        found: list[Activity | None] = []

        async def ask() -> None:
            found.append(await self.driver.activity(5))

        self.go(ask())
        assert found[0] is not None
        return found[0]


del Machines
