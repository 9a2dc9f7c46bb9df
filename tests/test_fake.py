"""
The fake driver keeps what drivers promise, and does what a test tells it to.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.drivers.driver import Activity, Driver, Workload
from hostline.server.drivers.fake import FakeDriver, FakeHost, imagine
from tests.drivers import DriverContract


class FakeContractTests(DriverContract, SynchronousTestCase):
    """
    What every driver promises.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.host = FakeHost(self.clock)
        self.refusals: dict[int, str] = {}
        self.driver = self.make()
        self.remake({})

    def make(self) -> Driver:
        driver = FakeDriver(self.clock, host=self.host, boot_after=1.0, stop_after=1.0)
        driver.refusals = self.refusals
        return driver

    def go(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        done = Deferred.fromCoroutine(coroutine)
        for _ in range(100):
            if done.called:
                break
            self.clock.advance(0.5)
        self.successResultOf(done)

    def until(self, true: Callable[[], object]) -> None:
        for _ in range(100):
            if true():
                return
            self.clock.advance(0.5)
        self.fail("not so in time")

    def kill_node(self, serial: int) -> None:
        killer = FakeDriver(self.clock, host=self.host)
        killer.end(serial, 137)
        killer.close()

    def make_unstartable(self, serial: int) -> None:
        self.refusals[serial] = "disk full"

    def keep_busy(self, serial: int) -> None:
        self.host.activities[serial] = Activity(0.0, load=1.0)

    def write_log(self, serial: int, stream: str, text: bytes) -> None:
        self.host.logs.setdefault(serial, {})[stream] = text


class FakeDriverTests(SynchronousTestCase):
    """
    What a test can make happen.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.driver = FakeDriver(self.clock)

    def start(self, **more: Any) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.driver.ensure_started(Workload(5, "web.exp1.lab", **more))))

    def test_isUpAtOnceWhenNotToldOtherwise(self) -> None:
        """
        Without delays everything is so when the call returns.
        """
        self.start(start_command="exit 3")
        status = self.driver.status()[5]
        self.assertEqual((status.boot, status.code), ("booted", 3))

    def test_takesItsTimeWhenSlow(self) -> None:
        """
        One sliver may boot more slowly than the others, or never.
        """
        self.driver.boots_after = {5: 30.0, 6: None}
        self.start()
        self.clock.advance(29)
        self.assertEqual(self.driver.status()[5].boot, "running")
        self.clock.advance(1)
        self.assertEqual(self.driver.status()[5].boot, "booted")

    def test_endsWithTheCodeSet(self) -> None:
        """
        An exit status may be set, whatever the start command says.
        """
        self.driver.codes[5] = 42
        self.driver.end_after = 2.0
        self.start(start_command="make all")
        self.assertIsNone(self.driver.status()[5].code)
        self.clock.advance(2)
        self.assertEqual(self.driver.status()[5].code, 42)

    def test_raisesOnceWhenTold(self) -> None:
        """
        A method may be made to fail, once for each error given.
        """
        self.driver.errors["ensure_started"] = [OSError("no")]
        self.failureResultOf(Deferred.fromCoroutine(self.driver.ensure_started(Workload(5, "a.b.c"))), OSError)
        self.start()
        self.assertEqual(self.driver.calls, [("ensure_started", 5)] * 2)

    def test_vanishes(self) -> None:
        """
        What kept the exit status may be gone.
        """
        self.start()
        self.driver.end(5, None)
        self.assertEqual((self.driver.status()[5].boot, self.driver.status()[5].code), ("dead", None))

    def test_happensWhenTold(self) -> None:
        """
        A sliver that never boots or ends by itself does so when the test says so.
        """
        self.driver.boot_after = self.driver.end_after = None
        self.start(start_command="serve")
        self.driver.boot(5)
        self.driver.end_command(5, 9)
        self.assertEqual((self.driver.status()[5].boot, self.driver.status()[5].code), ("booted", 9))

    def test_understandsSleepAndExit(self) -> None:
        """
        C{sleep} and C{exit} mean what they say; anything else takes the time given.
        """
        self.assertEqual(imagine("sleep 5; exit 7", None), (5.0, 7))
        self.assertEqual(imagine("sleep 1; sleep 2", 9.0), (3.0, 0))
        self.assertEqual(imagine("make && exit 7", 9.0), (9.0, 0))
