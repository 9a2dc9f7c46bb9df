"""
What a payload changes: never what is not the authority's, never too much at once, never by an older word.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadPayload, Held
from hostline.server.slivers.authority import Decision, decide, sources

NOW = 1_700_000_000.0


@frozen
class Here:
    """
    A sliver that is here, as far as a payload is concerned.
    """

    name: str
    source: str = "/a"
    kind: str = "process"
    instantiation: str = "plc-instantiated"
    wanted: str = "started"
    remains: bool = True
    doomed: float | None = None
    expires: float | None = None


def here(*names: str, **more: Any) -> dict[str, Here]:
    """
    Slivers by name.
    """
    return {name: Here(name, **more) for name in names}


def entry(name: str, source: str = "/b", **more: Any) -> dict[str, Any]:
    """
    What is read of an entry that is new or another now.
    """
    return {"name": name, "source": source, "kind": "process", "expires": None, **more}


def decided(
    known: Mapping[str, Here],
    *entries: dict[str, Any],
    kept: tuple[str, ...] = (),
    refused: tuple[str, ...] = (),
    skipped: tuple[str, ...] = (),
    unnamed: int = 0,
    timestamp: float = 10.0,
    last: float = 9.0,
    brake: float = 0.5,
    force: bool = False,
    now: float = NOW,
) -> Decision:
    """
    What is decided of a reading.
    """
    reading = {
        "timestamp": timestamp,
        "entries": list(entries),
        "kept": list(kept),
        "refused": dict.fromkeys(refused, "bad"),
        "skipped": list(skipped),
        "unnamed": unnamed,
    }
    return decide(known, reading, last, now, brake=brake, force=force)


class DecideTests(SynchronousTestCase):
    """
    One payload after another.
    """

    def test_new(self) -> None:
        """A sliver that is not here is created."""
        self.assertEqual(decided({}, entry("lab_a")), Decision(created=[entry("lab_a")]))

    def test_changed(self) -> None:
        """A sliver whose record is another now is changed, one whose is not is kept."""
        found = decided(here("lab_a", "lab_b"), entry("lab_a"), kept=("lab_b",))
        self.assertEqual(found, Decision(changed=[entry("lab_a")], kept=["lab_b"]))

    def test_missing(self) -> None:
        """A sliver that is missing is doomed; those that are named are not."""
        found = decided(here("lab_a", "lab_b", "lab_c"), kept=("lab_a", "lab_c"))
        self.assertEqual(found, Decision(kept=["lab_a", "lab_c"], doomed=["lab_b"]))

    def test_notInstantiated(self) -> None:
        """A sliver that shall not be here is doomed as one that is missing."""
        self.assertEqual(decided(here("lab_a", "lab_b"), kept=("lab_a",), skipped=("lab_b",)).doomed, ["lab_b"])

    def test_refusedIsNotMissing(self) -> None:
        """A sliver whose entry cannot be read stays as it is."""
        found = decided(here("lab_a"), refused=("lab_a",))
        self.assertEqual((found.doomed, found.refused), ([], {"lab_a": "bad"}))

    def test_unnamed(self) -> None:
        """While an entry has no readable name, nothing is taken for missing."""
        self.assertEqual(decided(here("lab_a", "lab_b"), kept=("lab_a",), unnamed=1).doomed, [])

    def test_back(self) -> None:
        """A doomed sliver that is named again is brought back, with its new record if it has one."""
        known = here("lab_a", "lab_b", doomed=NOW - 60)
        self.assertEqual(decided(known, entry("lab_a"), kept=("lab_b",)).back, {"lab_a": entry("lab_a"), "lab_b": None})

    def test_doomedStays(self) -> None:
        """A sliver that is still missing is not doomed anew: its grace time goes on."""
        known = {**here("lab_a"), **here("lab_b", doomed=NOW - 60)}
        self.assertEqual(decided(known, kept=("lab_a",)), Decision(kept=["lab_a"]))

    def test_expiredStaysDoomed(self) -> None:
        """A sliver that expired is not brought back by a payload that still says so, but by one that gives it time."""
        known = here("lab_a", doomed=NOW - 60, expires=NOW - 60)
        self.assertEqual(decided(known, kept=("lab_a",)), Decision(kept=["lab_a"]))
        longer = entry("lab_a", expires=NOW + 60)
        self.assertEqual(decided(known, longer).back, {"lab_a": longer})

    def test_local(self) -> None:
        """A sliver made here is neither changed by a payload that names it nor doomed by one that does not."""
        known = here("lab_a", instantiation="local", source="")
        self.assertIn("made on this host", decided(known, entry("lab_a")).refused["lab_a"])
        self.assertEqual(decided(known), Decision())

    def test_undone(self) -> None:
        """A sliver that was brought back by hand stays until it is named again; then it is the authority's."""
        known = here("lab_a", source="")
        self.assertEqual(decided(known), Decision())
        self.assertEqual(decided(known, entry("lab_a")).changed, [entry("lab_a")])

    def test_kind(self) -> None:
        """A sliver does not become one of another kind, which would cost its files."""
        found = decided(here("lab_a"), entry("lab_a", kind="account"))
        self.assertIn("destroyed first", found.refused["lab_a"])
        self.assertEqual((found.changed, found.doomed), ([], []))

    def test_anotherSlice(self) -> None:
        """Who gets the name of an earlier slice does not get its files: the earlier one is doomed, he waits."""
        found = decided(here("lab_a", "lab_b", source="31/a"), entry("lab_a", "32/a"), kept=("lab_b",))
        self.assertEqual((list(found.refused), found.doomed), (["lab_a"], ["lab_a"]))

    def test_case(self) -> None:
        """A name that differs from one that is here in case only is refused."""
        self.assertIn("case", decided(here("lab_a"), entry("lab_A"), kept=("lab_a",)).refused["lab_A"])

    def test_expiredBefore(self) -> None:
        """A sliver that has expired before it was here is not made."""
        self.assertIn("expired", decided({}, entry("lab_a", expires=NOW - 1)).refused["lab_a"])

    def test_beingDestroyed(self) -> None:
        """A sliver whose grace time is over is not brought back half destroyed: it is made anew once it is gone."""
        going = here("lab_a", wanted="absent", remains=False, doomed=5.0)
        self.assertIn("made anew", decided(going, kept=("lab_a",)).refused["lab_a"].replace("makes it", "made"))
        self.assertIn("lab_a", decided(going, entry("lab_a")).refused)

    def test_goneMeanwhile(self) -> None:
        """A sliver that was destroyed while the payload was read is not kept."""
        self.assertIn("lab_a", decided({}, kept=("lab_a",)).refused)


class TimestampTests(SynchronousTestCase):
    """
    Which payload counts.
    """

    def test_stale(self) -> None:
        """An older payload is refused as stale, whatever it says; force takes it."""
        error = self.assertRaises(BadPayload, decided, here("lab_a"), entry("lab_a"), timestamp=8.0)
        self.assertIn("stale", error.message)
        self.assertEqual(len(decided(here("lab_a"), entry("lab_a"), timestamp=8.0, force=True).changed), 1)

    def test_same(self) -> None:
        """A payload of the same time only adds: what is known stays, what is missing stays, what is new is created."""
        found = decided(here("lab_a", "lab_b"), entry("lab_a"), entry("lab_c"), timestamp=9.0)
        self.assertEqual(found, Decision(created=[entry("lab_c")], kept=["lab_a"]))

    def test_future(self) -> None:
        """A payload of next year, after which all would be stale, is refused."""
        error = self.assertRaises(BadPayload, decided, {}, timestamp=NOW + 365 * 86400)
        self.assertIn("ahead", error.message)


class BrakeTests(SynchronousTestCase):
    """
    Too much at once.
    """

    def test_most(self) -> None:
        """A payload that would doom more than the brake allows changes nothing and says whom."""
        known = here("lab_a", "lab_b", "lab_c")
        error = self.assertRaises(Held, decided, known, entry("lab_d"), kept=("lab_a",))
        self.assertEqual((error.details["stopped"], error.details["slivers"]), (["lab_b", "lab_c"], 3))

    def test_half(self) -> None:
        """Half of them is not more than half."""
        self.assertEqual(decided(here("lab_a", "lab_b"), kept=("lab_a",)).doomed, ["lab_b"])

    def test_empty(self) -> None:
        """An empty payload is held even where the brake allows all."""
        self.assertRaises(Held, decided, here("lab_a"), brake=1.0)

    def test_emptyOnEmptyHost(self) -> None:
        """An empty payload to a host without slivers of the authority's is nothing to be alarmed by."""
        self.assertEqual(decided(here("lab_a", instantiation="local", source="")), Decision())

    def test_force(self) -> None:
        """An operator may say that it is meant."""
        self.assertEqual(decided(here("lab_a", "lab_b"), force=True).doomed, ["lab_a", "lab_b"])

    def test_othersDoNotCount(self) -> None:
        """Slivers made here, and those doomed already, do not make the authority's more."""
        known = {
            **here("lab_a", "lab_b"),
            **here("lab_x", "lab_y", instantiation="local", source=""),
            **here("lab_z", doomed=5.0),
        }
        self.assertRaises(Held, decided, known, entry("lab_new"))

    def test_expiryByPayload(self) -> None:
        """A payload that ends everybody's time by its expiry is held like one that leaves them out."""
        entries = [entry(name, expires=0.0) for name in ("lab_a", "lab_b")]
        self.assertRaises(Held, decided, here("lab_a", "lab_b"), *entries)

    def test_replaced(self) -> None:
        """A payload that gives all names to other slices is held as well."""
        known = here("lab_a", "lab_b", source="31/a")
        self.assertRaises(Held, decided, known, entry("lab_a", "32/a"), entry("lab_b", "32/a"))


_NAMES = st.sampled_from([f"lab_{at}" for at in range(8)])


class Replay:
    """
    A host that does what is decided.
    """

    def __init__(self) -> None:
        self.known: dict[str, Here] = {}
        self.last = 0.0

    def take(self, decision: Decision, timestamp: float, now: float) -> None:
        """
        Make it so.
        """
        self.last = max(timestamp, self.last)
        for one in decision.created:
            assert one["name"] not in self.known
            self.known[one["name"]] = Here(one["name"], one["source"])
        for one in decision.changed:
            self.known[one["name"]] = evolve(self.known[one["name"]], source=one["source"])
        for name in decision.back:
            self.known[name] = evolve(self.known[name], doomed=None)
        for name in decision.doomed:
            self.known[name] = evolve(self.known[name], doomed=now)


class AnyPayloadsTests(SynchronousTestCase):
    """
    What holds whatever an authority sends.
    """

    @given(
        st.lists(
            st.tuples(st.integers(1, 20), st.dictionaries(_NAMES, st.sampled_from(["/a", "/b"])), st.sets(_NAMES)),
            max_size=12,
        )
    )
    def test_nothingVanishes(self, payloads: list[tuple[int, dict[str, str], set[str]]]) -> None:
        """No payload removes a record or touches a local sliver, and at most half are doomed by one."""
        host = Replay()
        local = Here("lab_0", source="", instantiation="local")
        host.known["lab_0"] = local
        for timestamp, named, refused in payloads:
            before = dict(host.known)
            known = sources(host.known)
            kept = tuple(name for name, source in named.items() if known.get(name) == source and name not in refused)
            entries = [entry(name, source) for name, source in named.items() if name not in (*kept, *refused)]
            try:
                found = decided(
                    host.known, *entries, kept=kept, refused=tuple(refused), timestamp=timestamp, last=host.last
                )
            except (BadPayload, Held):
                continue
            host.take(found, timestamp, NOW)
            self.assertEqual(host.known["lab_0"], local)
            self.assertLessEqual(set(before), set(host.known))
            living = sum(one.doomed is None and one.source != "" for one in before.values())
            self.assertLessEqual(len(found.doomed), living / 2)
            said = [one["name"] for one in found.created + found.changed]
            said += [*found.back, *found.kept, *found.doomed, *found.refused]
            self.assertEqual(len(said), len(set(said)))

    def test_manyUnchanged(self) -> None:
        """Ten thousand slivers that are as they were are decided in a tenth of a second."""
        names = tuple(f"lab_{at}" for at in range(10_000))
        known = here(*names)
        took = []
        for _ in range(3):
            begun = time.process_time()
            found = decided(known, kept=names)
            took.append(time.process_time() - begun)
            self.assertEqual(len(found.kept), 10_000)
        self.assertLess(min(took), 0.1)
