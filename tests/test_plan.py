"""
The next step of a sliver.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.drivers.driver import CANNOT_START, Status
from hostline.server.slivers.plan import (
    ABSENT,
    CREATE,
    DESTROY,
    START,
    STARTED,
    STOP,
    STOPPED,
    folded,
    next_action,
    progress,
    reached,
)

_WANTED = st.sampled_from([STARTED, STOPPED, ABSENT])
_STATUS = st.none() | st.builds(
    Status,
    st.just(5),
    st.integers(0, 3),
    st.sampled_from([None, "running", "booted", "dead"]),
    exit_code=st.sampled_from([None, 0, 1, CANNOT_START]),
)


def done(action: str, boots: int, status: Status | None) -> Status | None:
    """
    What is so after a step.
    """
    if action == DESTROY:
        return None
    if action == CREATE:
        return Status(5)
    if action == START:
        return Status(5, boots, "booted")
    return Status(5, status.boots if status else 0, "dead", exit_code=0)


class PlanTests(SynchronousTestCase):
    """
    Whatever is, a few steps lead to what should be.
    """

    @given(_WANTED, st.integers(1, 3), _STATUS)
    def test_comesToRest(self, wanted: str, boots: int, status: Status | None) -> None:
        """
        At most three steps are taken; then what was wanted is so, and an operation that waits for it ends.
        """
        for _ in range(3):
            action = next_action(wanted, boots, status)
            if action is None:
                break
            status = done(action, boots, status)
        self.assertIsNone(next_action(wanted, boots, status))
        if wanted == ABSENT:
            self.assertIsNone(status)
        elif wanted == STOPPED:
            self.assertNotIn(status.boot if status else None, ("running", "booted"))
        else:
            assert status is not None
            self.assertGreaterEqual(status.boots, boots)
        if wanted != STARTED or (status is not None and status.boot in ("booted", "dead")):
            self.assertIsNotNone(reached(wanted, boots, status))

    def test_doesNotStartWhatDied(self) -> None:
        """
        A node that died at the boot that was wanted stays dead until somebody reboots it.
        """
        dead = Status(5, 1, "dead", exit_code=137)
        self.assertIsNone(next_action(STARTED, 1, dead))
        self.assertEqual(next_action(STARTED, 2, dead), START)

    def test_makesNothingToStopIt(self) -> None:
        """
        What was never made is stopped already.
        """
        self.assertIsNone(next_action(STOPPED, 1, None))
        self.assertEqual(reached(STOPPED, 1, None), "")
        self.assertEqual(next_action(STOPPED, 1, Status(5, 1, "booted")), STOP)

    def test_waitsUntilItIsUp(self) -> None:
        """
        Started is not up; dead is the end of waiting, and 125 says why.
        """
        self.assertIsNone(reached(STARTED, 1, Status(5, 1, "running")))
        self.assertEqual(reached(STARTED, 1, Status(5, 1, "booted")), "")
        self.assertEqual(reached(STARTED, 1, Status(5, 1, "dead", exit_code=1)), "")
        refused = Status(5, 1, "dead", exit_code=CANNOT_START, problems=("no space",))
        self.assertEqual(reached(STARTED, 1, refused), "no space")
        self.assertIsNone(reached(STARTED, 2, refused))

    def test_saysHowFar(self) -> None:
        """
        Progress goes from 0 to 1; long lists of names are folded.
        """
        self.assertEqual([progress(4, left) for left in (4, 1, 0)], [0, 0.75, 1])
        self.assertEqual(progress(0, 0), 1)
        self.assertEqual(folded(["a", "b"]), "a, b")
        self.assertEqual(folded(list("abcdefg")), "a, b, c, d, e and 2 more")
