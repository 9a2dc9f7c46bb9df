"""
Records and their way into JSON and back.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.credentials import Certificate, Invitation, Spent
from hostline.server.diary import Diary
from hostline.server.record import Damaged, Record
from hostline.server.records import (
    KINDS,
    Authority,
    Delegate,
    Experiment,
    Image,
    Loans,
    Operation,
    Plan,
    Project,
    Sliver,
    Token,
    User,
)
from hostline.server.slivers.loans import Loan

SAMPLES: list[Record] = [
    User(serial=1, name="ann", uid=5001, keys=("ssh-ed25519 AAAA ann",)),
    Project(serial=2, name="lab", members=(1,), quota={"memory_max": 1 << 40}),
    Delegate(serial=3, name="del_mon", uid=5003, commands=("status_request",), targets=(4,)),
    Experiment(serial=4, name="lab/exp1", project=2, owner="user:1", state="active", slivers={"web": 5}, created=1.5),
    Plan(serial=4, topology={"nodes": []}, warnings=[{"line": 1, "text": "odd"}]),
    Diary(
        serial=4,
        entries=[{"time": 1.5, "what": "created"}],
        told={"most_warning": 2.5},
        reminders=1,
        owed=[{"number": 3, "what": "idle_warning", "to": "ann", "text": "soon"}],
        sent=3,
    ),
    Sliver(serial=5, name="web.exp1.lab", kind="process", experiment=4, rspec={"pids_max": 9}, created=2.5),
    Loans(serial=5, items=(Loan("lab_web", "cpu_share", 4, 2.5, 7), Loan("lab_db", "pids_max", 1))),
    Operation(
        serial=6,
        command="swap_in",
        target="lab/exp1",
        subject=4,
        scope=2,
        caller="user:1",
        goal={"5": ["started", 1]},
        before={"5": ["absent", 0, None]},
        started=3.5,
        causes=("a", "b"),
    ),
    Token(serial=0, name="user:1 once", digest="00", reply={"a": [1, None]}, time=4.5),
    Authority(serial=0, timestamp=6.5, received=7.5, refused={"lab_a": "bad"}, held="", wall=8.5, up=9.5, boot="b"),
    Image(serial=9, name="tiny", created=5.5, packages=("a", "b"), command=("/a", "b"), environment={"A": "b"}),
    Certificate(
        number="0a1b", serial=10, names=("dns:h.example.org",), purpose="host", issued=1.5, until=2.5, renews="0a"
    ),
    Invitation(serial=0, digest="00ff", names=("urn:site:user:ann",), purpose="user", life=60.0, until=2.5),
    Spent(serial=0, name="00ff 17", until=2.5),
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


class RecordTests(SynchronousTestCase):
    """
    What is kept comes back as it was.
    """

    def test_comesBack(self) -> None:
        """
        Every kind of record is the same after a restart.
        """
        self.assertEqual({type(one) for one in SAMPLES}, set(KINDS.values()))
        for record in SAMPLES:
            self.assertEqual(type(record).from_json(record.as_json()), record)

    def test_ignoresKeysOfLaterVersions(self) -> None:
        """
        A key that this version does not know costs no record.
        """
        body = json.loads(SAMPLES[0].as_json()) | {"colour": "blue"}
        self.assertEqual(User.from_json(json.dumps(body)), SAMPLES[0])

    def damaged(self, record: type[Record], **wrong: Any) -> None:
        sample = next(one for one in SAMPLES if type(one) is record)
        text = json.dumps(json.loads(sample.as_json()) | wrong)
        self.assertRaises(Damaged, record.from_json, text)

    def test_isDamagedWhenATextStandsForAList(self) -> None:
        """
        A text is not taken for a list of letters.
        """
        self.damaged(User, keys="ssh-ed25519")
        self.damaged(Operation, causes="disk full")

    def test_isDamagedWhenAnInnerValueIsWrong(self) -> None:
        """
        What would break later, where it is used, is found when it is read.
        """
        self.damaged(Experiment, slivers={"web": "five"})
        self.damaged(Project, quota={"memory_max": None})
        self.damaged(Operation, goal={"five": ["started", 1]})
        self.damaged(Operation, goal={"5": ["started"]})
        self.damaged(Operation, before={"5": [1, "started"]})
        self.damaged(Plan, warnings=["odd"])
        self.damaged(Plan, topology=[])

    @given(st.sampled_from(SAMPLES), st.data())
    def test_isReadOrDamaged(self, record: Record, data: st.DataObject) -> None:
        """
        Whatever stands in the file, a record is read or is damaged; nothing else happens.
        """
        body = json.loads(record.as_json())
        body[data.draw(st.sampled_from(sorted(body)))] = data.draw(_JSON)
        try:
            again = type(record).from_json(json.dumps(body))
        except Damaged:
            return
        self.assertEqual(type(record).from_json(again.as_json()), again)

    @given(st.text() | _JSON.map(json.dumps))
    def test_isDamagedWhenItIsNoRecord(self, text: str) -> None:
        """
        Any other text is damaged.
        """
        self.assertRaises(Damaged, Operation.from_json, text)
