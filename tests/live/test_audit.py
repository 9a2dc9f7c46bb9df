"""
The audit log of a daemon that is killed over and over while it moves old entries to files and people change things.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import sqlite3
import threading
import time
import unittest
from typing import Any

from tests.live.hosted import Client, Hosted, until
from tests.live.killing import SEED, Worker
from tests.scale import scaled

_CONFIG = "[audit]\nentries = 400\n[history]\nevents = 100\n"
#: Requests that one person sends before he reads the answers.
_AT_ONCE = 40


class Person(Worker):
    """
    Adds users, and remembers what was acknowledged.

    @ivar acknowledged: the names of those that were added for certain.
    @ivar asked: of those that may have been.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self._count = 0
        self.acknowledged: set[str] = set()
        self.asked: set[str] = set()

    def step(self, client: Client) -> None:
        names = [f"p{self._number}n{self._count + more}" for more in range(_AT_ONCE)]
        self._count += _AT_ONCE
        self.asked |= set(names)
        client.send("".join(f"add_user {name}\n" for name in names))
        for name in names:
            word, body = client.reply()
            if (word, body.get("name")) != ("add_user_reply", name):
                raise AssertionError(f"{name}: {word} {body}")
            self.acknowledged.add(name)


class Reader(Worker):
    """
    Reads the whole log again and again.

    @ivar times: how often it came to its end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def step(self, client: Client) -> None:
        read_all(client)
        self.times += 1


def read_all(client: Client) -> list[dict[str, Any]]:
    """
    @return: the whole log, page by page.
    @raise AssertionError: if its cursors do not go up.
    """
    found: list[dict[str, Any]] = []
    since = 0
    while since is not None:
        body = client.ask(f"audit since={since} limit=1000")
        for entry in body["entries"]:
            if found and entry["cursor"] <= found[-1]["cursor"]:
                raise AssertionError(f"{entry} after {found[-1]}")
            found.append(entry)
        since = body["next"]
    return found


class AuditTests(unittest.TestCase):
    """
    Nothing acknowledged is missing, nothing is twice.
    """

    def setUp(self) -> None:
        self.host = Hosted(self, _CONFIG)
        self.files = self.host.state / "audit"

    def in_files(self) -> list[dict[str, Any]]:
        """
        What stands in the files, read as anybody would.
        """
        found = []
        for path in sorted(self.files.glob("*.jsonl.gz"), key=lambda one: int(one.name.split("-")[1])):
            lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode("ascii").splitlines()]
            first, last = map(int, path.name.removesuffix(".jsonl.gz").split("-")[1:])
            self.assertEqual((lines[0]["cursor"], lines[-1]["cursor"]), (first, last), path)
            found += lines
        return found

    def in_state(self) -> list[dict[str, Any]]:
        """
        What stands in the file of the records.
        """
        connection = sqlite3.connect(f"file:{self.host.state}/host.db?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT body FROM audit ORDER BY cursor").fetchall()
        finally:
            connection.close()
        return [json.loads(body)["body"] for (body,) in rows]

    def assertWhole(self, people: list[Person], found: list[dict[str, Any]], what: str) -> None:
        told = [entry["arguments"][2:-2] for entry in found if entry[what] == "add_user"]
        self.assertEqual(len(told), len(set(told)))
        for one in people:
            self.assertEqual(one.acknowledged - set(told), set())
        self.assertLessEqual(set(told), {name for one in people for name in one.asked})
        # A new configuration is told to all, and in the log right behind that; other cursors there are none.
        cursors = [entry["cursor"] for entry in found]
        elsewhere = {entry["cursor"] - 1 for entry in found if entry[what] == "configuration"}
        self.assertEqual(set(range(1, cursors[-1] + 1)) - set(cursors), elsewhere)

    def test_losesNothingWhenKilled(self) -> None:
        """
        Three people add users and one reads the log while the daemon moves old entries and is killed a little later
        each time: in files and state together each acknowledged change stands once, with no cursor missing.
        """
        seed = random.Random(SEED)
        people, reader, moved = [Person(number) for number in range(3)], Reader(), 0
        workers: list[Worker] = [*people, reader]
        for round_ in range(scaled(5, 80)):
            self.host.start()
            threads = [threading.Thread(target=one.work, args=(self.host.socket,)) for one in workers]
            for thread in threads:
                thread.start()
            time.sleep(seed.uniform(0.3, 0.8))
            os.kill(self.host.pid, signal.SIGHUP)
            time.sleep(seed.uniform(0, 0.12) if round_ % 4 else 0.6)
            self.host.kill()
            for thread in threads:
                thread.join(30)
            self.assertEqual([one.failure for one in workers], [None] * len(workers))
            moved += (self.files / "audit.new").exists()
        self.host.start()
        with self.host.client() as client:
            self.assertWhole(people, read_all(client), "command")
        os.kill(self.host.pid, signal.SIGHUP)
        until(lambda: len(self.in_state()) <= 1100, 20, lambda: len(self.in_state()))
        self.assertEqual(self.host.stop(), 0)
        files, state = self.in_files(), self.in_state()
        self.assertGreater(len(files), 500)
        self.assertGreater(reader.times, 0)
        self.assertWhole(people, files + state, "what")
        self.assertEqual([path.name for path in self.files.iterdir() if not path.name.endswith(".gz")], [])
        self.assertEqual(self.host.tracebacks(), "")
        known = sum(len(one.acknowledged) for one in people)
        print(f"\nseed {SEED}: {known} acknowledged, {len(files)} in files, killed {moved} times while writing one")

    def test_cannotBeTamperedWith(self) -> None:
        """
        Whoever opens the file of the records beside the daemon is refused by SQLite itself, and nobody but the
        daemon's user can look at the files.
        """
        self.host.start()
        with self.host.client() as client:
            for number in range(700):
                client.ask(f"add_user u{number}")
            os.kill(self.host.pid, signal.SIGHUP)
            until(lambda: len(self.in_state()) < 500, 20)
            before = read_all(client)
        connection = sqlite3.connect(self.host.state / "host.db", timeout=20)
        self.addCleanup(connection.close)
        for wish in ("DELETE FROM audit", "UPDATE audit SET body = '{}'"):
            with self.assertRaisesRegex(sqlite3.IntegrityError, "only grows"):
                connection.execute(wish)
            connection.rollback()
        with self.host.client() as client:
            self.assertEqual(read_all(client), before)
        self.assertEqual(self.files.stat().st_mode & 0o777, 0o700)
        self.assertEqual({path.stat().st_mode & 0o777 for path in self.files.iterdir()}, {0o600})
        self.assertEqual(self.host.stop(), 0)
