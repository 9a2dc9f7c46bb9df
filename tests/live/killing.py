"""
What the tests share that kill the daemon over and over: people who remember all they were told, and a host on which
nothing may be lost, done twice, or left over.
"""

from __future__ import annotations

import os
import random
import time
import unittest
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from hostline.server.supervise.spawn import start_time
from tests.live.hosted import Client, Hosted, NoReply, until
from tests.live.support import living
from tests.scale import scaled

#: HOSTLINE_SEED=N does the same things again that a failed run printed.
SEED = int(os.environ.get("HOSTLINE_SEED") or scaled(20, int(time.time())))


class Worker:
    """
    Asks until the daemon dies.

    @ivar failure: what went wrong, other than that.
    """

    def __init__(self) -> None:
        self.failure: BaseException | None = None

    def work(self, path: Path) -> None:
        """
        Connect, and go on until the connection ends.
        """
        try:
            with Client(path, 60) as client:
                while True:
                    self.step(client)
        except (NoReply, OSError):
            pass
        except BaseException as failure:
            self.failure = failure

    def step(self, client: Client) -> None:
        """
        Ask for some things.
        """
        raise NotImplementedError


class Ledger(Worker):
    """
    One user of the host, who remembers everything acknowledged; and, of what was asked when the daemon died, both
    possible outcomes.

    @ivar open: what was not acknowledged: table and name, the value before and the one after.
    @ivar replay: the request that was not answered, if it carries a token.
    @ivar acknowledged: how many of each command were.
    """

    #: Refusals that change nothing and are no mistake.
    refusals: ClassVar[tuple[str, ...]] = ()

    def __init__(self, random_: random.Random) -> None:
        super().__init__()
        self.open: tuple[dict[str, Any], str, Any, Any] | None = None
        self.replay: str | None = None
        self.acknowledged: Counter[str] = Counter()
        self.random = random_

    def ask(self, client: Client, request: str, table: dict[str, Any], name: str, after: Any) -> None:
        """
        Ask, and remember what is so when it is acknowledged.
        """
        self.open = (table, name, table.get(name), after)
        self.replay = request if "token=" in request else None
        word, body = client.refusal(request)
        if word != "error_reply":
            table[name] = after
        elif body["code"] not in self.refusals:
            raise AssertionError(f"{request}: {body}")
        self.open = self.replay = None
        self.acknowledged[request.split()[0]] += 1

    def settle(self, client: Client) -> None:
        """
        Ask again what was not answered, where a token makes that safe: done before or not, it is done now.
        """
        if self.replay is not None and self.open is not None:
            client.ask(self.replay)
            table, name, _, after = self.open
            table[name] = after
            self.open = self.replay = None

    def allowed(self, table: dict[str, Any], name: str) -> list[Any]:
        """
        @return: what may be so.
        """
        if self.open is not None and self.open[0] is table and self.open[1] == name:
            return [self.open[2], self.open[3]]
        return [table[name]]


class KilledTest(unittest.TestCase):
    """
    A daemon that is killed at any instant.
    """

    def setUp(self) -> None:
        self.host = Hosted(self)
        self.host.start()
        self.helpers: set[tuple[int, int]] = set()

    def note_children(self) -> None:
        """
        Remember all children of the daemon that are about to lose it.
        """
        for name in Path(f"/proc/{self.host.pid}/task/{self.host.pid}/children").read_text().split():
            started = start_time(int(name))
            if started is not None:
                self.helpers.add((int(name), started[0]))

    def kill(self) -> None:
        self.note_children()
        self.host.kill()

    def assertNothingLeft(self) -> None:
        """
        No process, control group, file or mount of any sliver, and no helper of any daemon.
        """
        running = [one for one in self.host.ask("operations") if one["ended"] is None]
        self.assertEqual(running, [])
        until(lambda: not self.host.left_over(), 10, self.host.left_over)
        self.note_children()
        self.assertEqual(self.host.stop(), 0)
        helpers = [pid for pid, started in self.helpers if living(pid) and (start_time(pid) or (0,))[0] == started]
        self.assertEqual(helpers, [])
        until(lambda: not self.host.remains.makers(), 5, self.host.remains.makers)
        self.assertEqual(self.host.cgroups(), [])
        self.maxDiff = None
        self.assertEqual(self.host.tracebacks(), "")
