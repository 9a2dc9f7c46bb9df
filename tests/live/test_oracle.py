"""
No oracle: what a caller may not see is answered by a real daemon like what does not exist, in the same words and in the
same time.
"""

from __future__ import annotations

import gc
import os
import time
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from tests.live.hosted import Client, Hosted, topology
from tests.needs import needs_root
from tests.permissions import GRANTABLE
from tests.ranks import Compared, compare
from tests.scale import scaled

#: Pairs of each command; of the first, which is what is polled, as many in the short form too.
PAIRS, FEWER = 10_000, scaled(1_200, 10_000)
#: Each is said of what is hidden and of what is not there: a command and what it is about, by kind.
COMMANDS = (
    ("experiment", "status_request {}"),
    ("experiment", "experiment {}"),
    ("experiment", "node_list {} extra=True"),
    ("experiment", "topology {}"),
    ("experiment", "wait_for {} active timeout=1"),
    ("experiment", "start_node {} web"),
    ("experiment", "terminate {} token=once"),
    ("experiment", "watch experiment/{}"),
    ("experiment", "run {} true"),
    ("experiment", "node_logs {}"),
    ("experiment", "delay_config {} lan0 delay=5"),
    ("experiment", "why {} web"),
    ("experiment", "history {}"),
    ("experiment", "activity {}"),
    ("experiment", "set_swap {} idle=1h"),
    ("experiment", "snapshot_node {} web img"),
    ("experiment", "modify_experiment {} '<experiment/>'"),
    ("project", "plan_experiment {}/new '<experiment/>'"),
    ("node", "sliver {}"),
    ("node", "exec {} true"),
    ("node", "get_rspec {}"),
    ("sliver", "sliver {}"),
    ("sliver", "exec {} true"),
    ("sliver", "get_ssh_keys {}"),
    ("sliver", "set_loans {} []"),
    ("sliver", "loan lab_other cpu_share 1 lender={}"),
    ("sliver", "create {} kind=process"),
    ("sliver", "watch sliver/{}"),
    ("sliver", "events topic=sliver/{}"),
    ("operation", "operation {}"),
    ("operation", "wait {} timeout=1"),
    ("operation", "watch operation/{}"),
    ("delegate", "remove_delegate {}"),
    ("project", "create_experiment {}/new '<experiment/>'"),
)
#: Microseconds of what is hidden, and of what is not there, by command.
Times = dict[tuple[str, str], tuple[list[float], list[float]]]
#: How many names of each kind there are in each of the two sets.
_NAMES = 4
#: How unlikely a difference in ranks must be by chance to be one: there are some fifty comparisons in a run.
_CHANCE = 0.0002


@contextmanager
def coming_as(uid: int) -> Iterator[None]:
    """
    Have the kernel say that who connects now is this user.
    """
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


class Two:
    """
    Two sets of names, of which one is there and hidden, and the other is not there; they change places half-way, so
    that no difference between the names themselves is left.
    """

    def __init__(self, operator: Client, random: Random) -> None:
        self._operator = operator
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = {"".join(random.choices(letters, k=7)) for _ in range(100)}
        self._sets = [[words.pop() for _ in range(_NAMES)] for _ in range(2)]
        self._operations: list[str] = []
        self._appear(self._sets[0])

    def names(self, kind: str) -> Iterator[tuple[str, str]]:
        """
        @return: what is hidden and what is not there, in pairs.
        """
        if kind == "operation":
            return ((number, str(int(number) + 5 * 10**11)) for number in self._operations)
        form = {
            "experiment": "lab/{}",
            "node": "web.{}.lab",
            "sliver": "lab_{}",
            "delegate": "del_{}",
            "project": "p{}",
        }[kind]
        return ((form.format(there), form.format(nowhere)) for there, nowhere in zip(*self._sets, strict=True))

    def change(self) -> None:
        """
        Those that were there go, the others come.
        """
        for name in self._sets[0]:
            self._operator.ask(f"terminate lab/{name} wait=30")
            self._operator.ask(f"destroy lab_{name} wait=30")
            self._operator.ask(f"remove_delegate del_{name}")
            self._operator.ask(f"remove_project p{name}")
        self._sets.reverse()
        self._appear(self._sets[0])

    def _appear(self, names: list[str]) -> None:
        ask = self._operator.ask
        self._operations = []
        for at, name in enumerate(names):
            ask(f"add_project p{name}")
            ask(f"create_experiment lab/{name} {topology({'web': None})} swap_in=True wait=30")
            ask(f"create lab_{name} kind=process wait=30")
            ask(f"add_delegate del_{name} uid={8000 + at} commands=['status_request'] slivers=['lab/{name}']")
        for operation in ask(f"operations limit={_NAMES}"):
            self._operations.append(str(operation["operation"]))


@needs_root
class OracleTests(unittest.TestCase):
    """
    A user of another project, and a delegate, ask about what they may not see, and about what is not there.
    """

    USER, DELEGATE = 7001, 7002

    def setUp(self) -> None:
        self.random = Random(20)
        self.host = Hosted(self)
        self.host.start()
        self.operator = self.host.client()
        self.addCleanup(self.operator.close)
        for line in (
            "add_project lab",
            "add_project garden",
            f"add_user ann uid={self.USER}",
            "add_member garden ann",
            *(f"create_experiment garden/exp{number} {topology({'web': None})}" for number in range(5)),
            f"add_delegate del_mon uid={self.DELEGATE} commands={GRANTABLE!r} slivers=['garden/exp1']",
        ):
            self.operator.ask(line)
        self.two = Two(self.operator, self.random)

    def test_tellsNothingByTime(self) -> None:
        """
        In each command the medians are within 5 %, and the ranks do not differ; five per cent more would be found.

        What seems to differ is asked once more, ten thousand times: a leak is there again, an accident is not.
        """
        for who in (self.USER, self.DELEGATE):
            times = self._both_halves(who, dict.fromkeys(COMMANDS, FEWER) | {COMMANDS[0]: PAIRS})
            seeming = {one: PAIRS for one, (hidden, nowhere) in times.items() if _differ(compare(hidden, nowhere))}
            again = self._both_halves(who, seeming) if seeming else {}
            leaks = [_said(one, found) for one, pair in again.items() if _differ(found := compare(*pair))]
            self.assertEqual(leaks, [], who)
            hidden, nowhere = times[COMMANDS[0]]
            slower = compare([one * 1.05 for one in hidden], nowhere)
            self.assertTrue(_differ(slower), f"would not be found: {_said(COMMANDS[0], slower)}")
        self.assertEqual(self.host.tracebacks(), "")

    def _both_halves(self, who: int, counts: dict[tuple[str, str], int]) -> Times:
        """
        @param counts: pairs of each command.
        """
        times: Times = {one: ([], []) for one in counts}
        for half in range(2):
            if half:
                self.two.change()
            with coming_as(who):
                client = self.host.client()
            with client:
                for command, count in counts.items():
                    self._ask_pairs(client, command, count // 2, times[command])
        return times

    def _ask_pairs(
        self, client: Client, command: tuple[str, str], count: int, times: tuple[list[float], list[float]]
    ) -> None:
        kind, text = command
        names = list(self.two.names(kind))
        self._same_words(client, text, names)
        pairs = [[(text.format(name) + "\n").encode() for name in pair] for pair in names]
        for _ in range(100):  # as many as the audit log tells of, and the rest to warm up
            _time(client, self.random.choice(self.random.choice(pairs)))
        gc.collect()
        gc.disable()
        try:
            for _ in range(count):
                pair, first = self.random.choice(pairs), self.random.randrange(2)
                for side in (first, 1 - first):
                    times[side].append(_time(client, pair[side]))
        finally:
            gc.enable()

    def _same_words(self, client: Client, text: str, pairs: list[tuple[str, str]]) -> None:
        for pair in pairs:
            said = []
            for name in pair:
                word, body = client.refusal(text.format(name))
                self.assertEqual(word, "error_reply", text)
                said.append({**body, "message": body["message"].replace(name, "X")})
            self.assertEqual(said[0], said[1])


def _time(client: Client, line: bytes) -> float:
    """
    @return: microseconds from a line to its answer.
    """
    begun = time.perf_counter_ns()
    client.socket.send(line)
    client.socket.recv(1 << 16)
    return (time.perf_counter_ns() - begun) / 1000


def _differ(found: Compared) -> bool:
    return found.apart > 0.05 or found.p < _CHANCE


def _said(command: tuple[str, str], found: Compared) -> str:
    hidden, nowhere = found.medians
    return f"{' '.join(command)}: hidden {hidden:.2f} us, nowhere {nowhere:.2f} us, p {found.p:.2g}"
