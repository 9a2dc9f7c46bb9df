"""
Which guests may go on from the same template, and how a clone is told to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.supervise import machine
from hostline.server.supervise.clones import Template, key_of, like, mac, revive
from hostline.server.supervise.machine import Machine, Manner
from hostline.server.supervise.qmp import Qmp
from hostline.server.supervise.templates import Templates


class Told:
    """
    A QEMU that answers from lists, and notes what it is told.
    """

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.told: list[str] = []

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        self.told.append(command)
        kept = self.answers.get(command.replace("-", "_"), [{}])
        found = kept.pop(0) if len(kept) > 1 else kept[0]
        if isinstance(found, Exception):
            raise found
        return found


class KeyTests(SynchronousTestCase):
    """
    What a template is good for.
    """

    def setUp(self) -> None:
        self.image = Path(self.mktemp())
        self.image.mkdir()
        for name in ("kernel", "initrd", "qemu"):
            (self.image / name).write_text(name)
        self.told = Machine("web", Manner(), program=str(self.image / "qemu"), macs=["02:00:00:00:00:01"])

    def key(self, **other: Any) -> str:
        """
        @return: of a guest that is otherwise so.
        """
        return key_of(like(evolve(self.told, **other)), self.image)

    def test_same(self) -> None:
        """
        Guests that differ by their names and addresses only share one.
        """
        self.assertEqual(self.key(), self.key(name="db", macs=["02:00:00:00:00:99"]))

    def test_another(self) -> None:
        """
        Another memory, number of processors or cards, command line, kernel or QEMU is another template.
        """
        keys = [
            self.key(),
            self.key(memory=256 << 20),
            self.key(cpus=2),
            self.key(macs=[]),
            self.key(macs=["02:00:00:00:00:01", "02:00:00:00:00:02"]),
            self.key(accelerator="kvm"),
            self.key(guest=Manner(append="console=ttyS0")),
        ]
        for name in ("kernel", "initrd", "qemu"):
            (self.image / name).write_text("newer " + name)
            keys.append(self.key())
        self.assertEqual(len(set(keys)), len(keys))

    def test_clonesHaveTheSameDevices(self) -> None:
        """
        A clone has the devices of its template, in the same order: else its state could not be read.
        """
        first = machine.argv(evolve(like(self.told), ram="/r", keeps=True))
        clone = machine.argv(Template(-1, -1).like(self.told))
        devices = [[word.partition(",mac=")[0] for word in words if word.startswith(("virt", "pvpanic"))] for words in
                   (first, clone)]  # fmt: skip
        self.assertEqual(*devices)
        self.assertTrue(devices[0])
        self.assertIn("share=off", " ".join(clone))
        self.assertIn("share=on", " ".join(first))

    def test_which(self) -> None:
        """
        Guests with a disk, without a kernel or with another sign than their agent boot; so do all where none are kept.
        """
        made = Templates(self.image / "t", cast(Any, None), cast(Any, None), Clock())
        for other in (
            {"disk": "/d"}, {"kernel": False}, {"initrd": False}, {"guest": Manner(ready="started")},
            {"program": "/none"},
        ):  # fmt: skip
            self.assertIsNone(made.find(evolve(self.told, **other), self.image))
        none = Templates(self.image / "t", cast(Any, None), cast(Any, None), Clock(), lambda: 0)
        self.assertIsNone(none.find(self.told, self.image))
        self.assertEqual((made.ready(), none.ready()), (0, 0))

    @given(st.integers(0, 65535))
    def test_macs(self, number: int) -> None:
        """
        Each card of a template has an address of its own, that no real card has.
        """
        found = mac(number)
        self.assertRegex(found, r"\A02:1b:ff:ff:[0-9a-f]{2}:[0-9a-f]{2}\Z")
        self.assertEqual(int(found.replace(":", "")[-4:], 16), number)


class ReviveTests(SynchronousTestCase):
    """
    Telling a clone to go on.
    """

    def revive(self, told: Told) -> Deferred[None]:
        """
        @return: fires once it has gone on.
        """
        self.clock = Clock()
        return Deferred.fromCoroutine(revive(cast(Qmp, told), self.clock))

    def test_goesOn(self) -> None:
        """
        One that waits is told, and waited for.
        """
        told = Told(query_status=[{"status": "inmigrate"}, {"status": "inmigrate"}, {"status": "running"}])
        done = self.revive(told)
        self.assertNoResult(done)
        self.clock.pump([0.01] * 5)
        self.successResultOf(done)
        self.assertEqual(told.told.count("migrate-incoming"), 1)

    def test_isUp(self) -> None:
        """
        A guest that runs, or that its owner has paused, is left alone.
        """
        for status in ("running", "paused"):
            told = Told(query_status=[{"status": status}])
            self.successResultOf(self.revive(told))
            self.assertEqual(told.told, ["query-status"])

    def test_toldBefore(self) -> None:
        """
        A daemon that died between the word and its effect is no harm: the next one waits on.
        """
        told = Told(
            query_status=[{"status": "inmigrate"}, {"status": "running"}], migrate_incoming=[OSError("already")]
        )
        self.successResultOf(self.revive(told))

    def test_never(self) -> None:
        """
        One that does not go on is given up.
        """
        done = self.revive(Told(query_status=[{"status": "inmigrate"}]))
        self.clock.pump([0.5] * 60)
        self.failureResultOf(done, TimeoutError)

    def test_descriptors(self) -> None:
        """
        Each clone gets a state of its own to read, from its beginning.
        """
        ram, state = os.memfd_create("ram"), os.memfd_create("state")
        template = Template(ram, state)
        os.write(state, b"state")
        first, second = template.opened(), template.opened()
        template.close()
        for _, fd in (first, second):
            self.assertEqual(os.read(fd, 9), b"state")
        for fd in (*first, *second):
            os.close(fd)
