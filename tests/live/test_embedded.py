"""
The embedded driver promises what every driver does; and what processes on links need of theirs, with links that a test
plays.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from hostline.server.drivers.driver import Interface, Workload
from hostline.server.drivers.embedded import EmbeddedDriver
from hostline.server.drivers.process import ProcessDriver
from tests.live import processes
from tests.needs import needs_root


class FakeWires:
    """
    Links that are only written down.

    @ivar plugged: what each sliver was given last: pid, interfaces, routes, forwarding; C{calls}: how often.
    @ivar problems: what is said of each.
    """

    def __init__(self) -> None:
        self.plugged: dict[int, tuple[int, tuple[Interface, ...], tuple[tuple[str, str], ...], bool]] = {}
        self.calls: list[tuple[str, int]] = []
        self.problems: list[str] = []

    async def plug(
        self,
        serial: int,
        pid: int,
        interfaces: Sequence[Interface],
        routes: Sequence[tuple[str, str]],
        *,
        forwards: bool,
        inside: bool = True,
    ) -> list[str]:
        self.calls.append(("plug", serial))
        self.plugged[serial] = pid, tuple(interfaces), tuple(routes), forwards
        return list(self.problems)

    async def unplug(self, serial: int) -> None:
        self.calls.append(("unplug", serial))
        self.plugged.pop(serial, None)

    async def recover(self, known: Collection[int], keep_strays: bool = False) -> None:
        raise AssertionError("drivers do not know all slivers")


def linked(serial: int, name: str = "web.exp1.lab", address: str = "10.1.1.2/24", **more: Any) -> Workload:
    """
    A node with one interface.
    """
    return Workload(serial, name, interfaces=(Interface("inf000", "9/l0", "02:00:00:00:00:05", address),), **more)


@needs_root
class EmbeddedDriverTests(processes.Processes):
    """
    The contract, and the host's own network; then processes on links.
    """

    root = True
    with_cgroups = True
    letter = "e"
    kind: type[ProcessDriver] = EmbeddedDriver

    def setUp(self) -> None:
        self.wires: FakeWires | None = FakeWires()
        super().setUp()

    def make(self) -> ProcessDriver:
        return self.kind(**self.common(), as_root=True, wires=self.wires)

    @property
    def links(self) -> FakeWires:
        assert self.wires is not None
        return self.wires

    def of_processes(self) -> None:
        """
        Have the driver of processes instead.
        """
        self.kind = ProcessDriver
        self.remake({})

    def test_isPluggedIntoTheHostBeforeItsCommand(self) -> None:
        """
        Its interfaces are asked for in the daemon's own network namespace, once, also by the next daemon; they go when
        it is stopped.
        """
        workload = self.start(linked(5, start_command="readlink /proc/self/ns/net"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual(self.out().strip(), os.readlink("/proc/self/ns/net"))  # noqa: PTH115
        self.assertEqual(self.links.plugged[5][0], os.getpid())
        self.go(self.driver.ensure_configured(workload))
        self.assertEqual(self.links.calls, [("plug", 5)])
        self.remake({5: workload})
        self.assertEqual(self.links.calls, [("plug", 5), ("plug", 5)])
        self.go(self.driver.ensure_stopped(5))
        self.assertEqual(self.links.plugged, {})

    def test_sharesNoNetworkBetweenExperiments(self) -> None:
        """
        The network of one experiment's node is refused to another's, naming both, until the first is stopped.
        """
        self.start(linked(5))
        other = linked(6, "db.exp2.lab", "10.1.1.9/24")
        self.go(self.driver.ensure_created(other))
        self.go(self.driver.ensure_started(other))
        self.until(lambda: self.status(6).boot == "dead")
        said = " ".join(self.status(6).problems)
        for word in ("could not be started", "db.exp2.lab", "web.exp1.lab", "10.1.1.9/24"):
            self.assertIn(word, said)
        self.assertNotIn(6, self.links.plugged)
        self.go(self.driver.ensure_stopped(5))
        self.start(evolve(other, boots=2))

    def test_saysThatThereAreNoLinks(self) -> None:
        """
        Without links it runs, and says what it lacks.
        """
        self.wires = None
        self.remake({})
        self.start(linked(5))
        self.assertIn("no links: this host is not set up for them", self.status(5).problems)

    def test_aProcessHasANetworkOfItsOwn(self) -> None:
        """
        Its start command runs in a network namespace of its own with only C{lo}, after it was plugged in; so does what
        is executed in it, and its names are its own, and follow.
        """
        self.of_processes()
        command = "readlink /proc/self/ns/net; cat /proc/net/dev; cat /etc/hosts"
        workload = self.start(linked(5, start_command=command, hosts="10.1.1.3\tdb\n"))
        self.until(lambda: self.status(5).start_command == "ended")
        namespace, *lines = self.out().splitlines()
        self.assertNotEqual(namespace, os.readlink("/proc/self/ns/net"))  # noqa: PTH115
        self.assertEqual([line.split(":")[0].strip() for line in lines if ": " in line and "|" not in line], ["lo"])
        self.assertIn("10.1.1.3\tdb", lines)
        self.assertEqual(os.readlink(f"/proc/{self.links.plugged[5][0]}/ns/net"), namespace)  # noqa: PTH115
        self.go(self.driver.ensure_configured(evolve(workload, hosts="10.1.1.4\tother\n")))
        self.assertIn("10.1.1.4\tother", Path(f"/proc/{self.node(5)}/root/etc/hosts").read_text())
        self.assertNotIn("other", Path("/etc/hosts").read_text())

    def test_aProcessIsPluggedAgainOnlyWhereSomethingChanged(self) -> None:
        """
        Other limits do not touch its links; another route does; a reboot begins anew, a stop ends it.
        """
        self.of_processes()
        workload = self.start(linked(5))
        self.go(self.driver.ensure_configured(evolve(workload, rspec={"pids_max": 99})))
        self.assertEqual(self.links.calls, [("plug", 5)])
        self.links.problems = ["no link: somebody has it"]
        self.go(self.driver.ensure_configured(evolve(workload, routes=(("10.9.0.0/16", "10.1.1.1"),))))
        self.assertEqual(self.links.plugged[5][2], (("10.9.0.0/16", "10.1.1.1"),))
        self.assertIn("no link: somebody has it", self.status(5).problems)
        self.links.problems = []
        self.start(evolve(workload, boots=2))
        self.assertNotIn("no link: somebody has it", self.status(5).problems)
        self.go(self.driver.ensure_stopped(5))
        self.assertEqual(self.links.calls[-1], ("unplug", 5))

    def test_aFreeSliverCostsNothing(self) -> None:
        """
        Without interfaces it is in the host's network, and nobody asks for links.
        """
        self.of_processes()
        self.start(Workload(5, "lab_web", start_command="readlink /proc/self/ns/net"))
        self.until(lambda: self.status(5).start_command == "ended")
        self.assertEqual(self.out().strip(), os.readlink("/proc/self/ns/net"))  # noqa: PTH115
        self.go(self.driver.ensure_stopped(5))
        self.go(self.driver.ensure_destroyed(5))
        self.assertEqual(self.links.calls, [])
