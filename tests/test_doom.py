"""
Expiry and the end of the grace time.
"""

from __future__ import annotations

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.slivers.doom import Due, due

NOW = 1_700_000_000.0
GRACE = 7 * 86400.0


@frozen
class One:
    """
    A sliver, as far as time is concerned.
    """

    name: str = "lab_a"
    expires: float | None = None
    doomed: float | None = None
    wanted: str = "started"
    remains: bool = True


def ends(*slivers: One, now: float = NOW, distrust: str = "", force: bool = False, least: int = 3) -> Due:
    """
    What is due, with a grace of a week and a brake of half.
    """
    return due(slivers, now, distrust=distrust, grace_s=GRACE, brake=0.5, least=least, force=force)


class DueTests(SynchronousTestCase):
    """
    Whose time is over.
    """

    def test_expiry(self) -> None:
        """A sliver expires at its time, not before, and one without a time never."""
        over, not_yet, never = One("lab_a", NOW), One("lab_b", NOW + 1), One("lab_c")
        self.assertEqual(ends(over, not_yet, never), Due([over], []))

    def test_grace(self) -> None:
        """A doomed sliver is kept for the grace time to its last second."""
        over, kept = One("lab_a", doomed=NOW - GRACE), One("lab_b", doomed=NOW - GRACE + 1)
        self.assertEqual(ends(over, kept), Due([], [over]))

    def test_expiredIsDoomedOnce(self) -> None:
        """A sliver that expired and is doomed since does not begin its grace time anew."""
        self.assertEqual(ends(One(expires=NOW - 5, doomed=NOW - 5)), Due())

    def test_goingAlready(self) -> None:
        """A sliver that is being destroyed is destroyed once."""
        self.assertEqual(ends(One(expires=1.0, wanted="absent", remains=False)), Due())

    def test_only(self) -> None:
        """The only sliver of a host expires as well as one among many."""
        self.assertEqual(len(ends(One(expires=1.0)).expired), 1)

    def test_brake(self) -> None:
        """Many at once, and more than half of all, are held with an alarm; force lets them go."""
        many = [One(f"lab_{at}", expires=NOW - 1) for at in range(4)]
        others = [One("lab_x"), One("lab_y"), One("lab_z")]
        held = ends(*many, *others)
        self.assertEqual((held.expired, "4 of 7" in held.held), ([], True))
        self.assertEqual(len(ends(*many, *others, force=True).expired), 4)

    def test_half(self) -> None:
        """Half of all is not more than half."""
        many = [One(f"lab_{at}", expires=NOW - 1) for at in range(4)]
        self.assertEqual(len(ends(*many, *(One(f"lab_x{at}") for at in range(4))).expired), 4)

    def test_brakeDoesNotHoldGrace(self) -> None:
        """What was doomed one by one is destroyed though others are held."""
        many = [One(f"lab_{at}", expires=NOW - 1) for at in range(4)]
        old = One("lab_old", doomed=0.0)
        self.assertEqual(ends(*many, old).over, [old])

    def test_distrust(self) -> None:
        """A clock that is not trusted ends nothing, whatever anybody forces, and says what is due."""
        found = ends(One("lab_a", expires=1.0), One("lab_b", doomed=0.0), distrust="the clock has jumped", force=True)
        self.assertEqual((found.expired, found.over), ([], []))
        self.assertIn("lab_a, lab_b", found.held)

    def test_setBack(self) -> None:
        """A clock that is set back ends nothing and brings nothing back: a time to come is no time that has passed."""
        self.assertEqual(ends(One(doomed=NOW), now=5.0), Due())

    @given(
        st.lists(
            st.builds(
                One,
                st.just("lab_a"),
                st.none() | st.floats(0, 2 * NOW),
                st.none() | st.floats(0, 2 * NOW),
                st.sampled_from(["started", "stopped", "absent"]),
                st.booleans(),
            ),
            max_size=12,
        ),
        st.floats(0, 2 * NOW),
    )
    def test_any(self, slivers: list[One], now: float) -> None:
        """Nothing is destroyed that was not doomed for the whole grace time, nothing doomed that has not expired."""
        found = ends(*slivers, now=now)
        for one in found.over:
            assert one.doomed is not None
            self.assertGreaterEqual(now - one.doomed, GRACE)
        for one in found.expired:
            assert one.expires is not None
            self.assertLessEqual(one.expires, now)
        living = sum(one.doomed is None for one in slivers)
        self.assertLessEqual(len(found.expired), max(3, living / 2))
