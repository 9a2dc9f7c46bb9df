"""
How much a project may have that is not even on the host.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import Config, Limits
from tests.daemons import make, topdl

TWO, THREE = topdl({"a": None, "b": None}), topdl({"a": None, "b": None, "c": None})


class KeptTests(SynchronousTestCase):
    """
    A host where a project may have two experiments and five nodes in them.
    """

    def setUp(self) -> None:
        self.daemon = make(config=Config(limits=Limits(project_experiments=2, project_nodes=5)))
        self.ann = self.daemon.lab()
        self.ann.body(f"create_experiment lab/one {TWO}")

    def refused(self, line: str) -> str:
        """
        @return: the code, and the message.
        """
        self.ann.send(f"{line}\n")
        (reply,) = self.ann.replies()
        self.assertEqual(reply.word, "error_reply", reply)
        return f"{reply.body['code']}: {reply.body['message']}"

    def test_experiments(self) -> None:
        """
        One more than that is refused, until one is terminated.
        """
        self.ann.body(f"create_experiment lab/two {TWO}")
        said = "TOO_MANY: a project has at most 2 experiments; terminate one"
        self.assertEqual(self.refused(f"create_experiment lab/three {TWO}"), said)
        self.ann.body("terminate lab/one")
        self.ann.body(f"create_experiment lab/three {TWO}")

    def test_nodes(self) -> None:
        """
        More nodes are refused, made or added; what has too many already may become smaller.
        """
        self.ann.body(f"create_experiment lab/two {THREE}")
        said = "TOO_MANY: a project has at most 5 nodes in all its experiments; 3 are in others"
        self.assertEqual(self.refused(f"modify_experiment lab/one {THREE}"), said)
        self.ann.body(f"modify_experiment lab/two {TWO}")
        self.ann.body(f"modify_experiment lab/one {THREE}")

    def test_operator(self) -> None:
        """
        An operator may do more.
        """
        operator = self.daemon.connect()
        for name in ("two", "three", "four"):
            operator.body(f"create_experiment lab/{name} {THREE}")
        self.assertIn("TOO_MANY", self.refused(f"modify_experiment lab/one {THREE}"))
        self.ann.body(f"modify_experiment lab/one {topdl({'a': None})}")
