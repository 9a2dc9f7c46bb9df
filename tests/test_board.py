"""
The status of all placed nodes, in memory.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.board import Board
from hostline.server.drivers.driver import Status
from hostline.server.host import Host
from hostline.server.records import Experiment, Sliver


def sliver(serial: int, experiment: int = 1, name: str = "web.exp1.lab") -> Sliver:
    return Sliver(serial=serial, name=name, kind="process", experiment=experiment, created=0.0)


EXPERIMENT = Experiment(serial=1, name="lab/exp1", project=2, owner="user:1", state="active", created=0.0)


class BoardTests(SynchronousTestCase):
    """
    Where nodes come and go.
    """

    def setUp(self) -> None:
        self.host = Host("h")
        self.board = Board(self.host)

    def shown(self) -> object:
        return self.board.text(EXPERIMENT).value()

    def test_showsAndForgets(self) -> None:
        """
        A node is unknown, then what its driver says, then not there at all; each change makes older replies stale.
        """
        generations = [self.host.generation]
        self.board.place(sliver(5), None)
        self.assertEqual(self.shown(), {"hv:process:pnode-0000": {"web": [None, None]}})
        generations.append(self.host.generation)
        self.board.place(sliver(5), Status(5, 1, "booted", "ended", 7))
        self.assertEqual(self.shown(), {"hv:process:pnode-0000": {"web": ["booted", 7]}})
        generations.append(self.host.generation)
        self.board.remove(5)
        self.board.remove(5)
        self.assertEqual(self.shown(), {})
        generations.append(self.host.generation)
        self.assertEqual(len(set(generations)), 4)

    def test_keepsWhatIsThereWhenThePredecessorGoes(self) -> None:
        """
        A node that was swapped in again is shown as it is, whatever becomes of the one that had its name before.
        """
        self.board.place(sliver(5), Status(5, 1, "booted"))
        self.board.place(sliver(6), Status(6, 1, "running"))
        self.board.place(sliver(5), Status(5, 1, "dead", exit_code=0))
        self.assertEqual(self.shown(), {"hv:process:pnode-0000": {"web": ["running", None]}})
        self.board.remove(5)
        self.assertEqual(self.shown(), {"hv:process:pnode-0000": {"web": ["running", None]}})
        self.board.remove(6)
        self.assertEqual(self.shown(), {})

    def test_tellsExperimentsApart(self) -> None:
        """
        Nodes of the same name in two experiments do not meet.
        """
        self.board.place(sliver(5), Status(5, 1, "booted"))
        self.board.place(sliver(6, experiment=2), Status(6, 1, "dead", exit_code=1))
        self.board.remove(6)
        self.assertEqual(self.shown(), {"hv:process:pnode-0000": {"web": ["booted", None]}})
