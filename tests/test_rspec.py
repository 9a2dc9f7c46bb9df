"""
The table of resources, and reading what people and authorities ask for.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol.errors import BadValue
from hostline.server.slivers.rspec import (
    ALIASES,
    DEFAULTS,
    KEPT,
    OF_PROCESSES,
    RESOURCES,
    lendable,
    read_rspec,
    read_tags,
)
from hostline.server.supervise import limits

#: What no resource may be set to.
NONSENSE: tuple[Any, ...] = (
    True,
    1.0,
    float("nan"),
    float("inf"),
    -1,
    2**63,
    10**400,
    "64",
    "",
    None,
    [1],
    {"a": 1},
)


class TableTests(SynchronousTestCase):
    """
    DESIGN section 6.
    """

    def test_isTheDesigns(self) -> None:
        """
        Names, defaults and what a lender keeps are those that scripts depend on.
        """
        self.assertEqual(
            {one.name: (one.default, one.kept) for one in RESOURCES.values()},
            {
                "enabled": (1, None),
                "cpu_share": (32, 16),
                "cpu_min": (0, 0),
                "cpu_max": (0, None),
                "memory_max": (536870912, 16777216),
                "pids_max": (512, 16),
                "disk_max": (5000000, None),
                "net_min": (8, 0),
                "net_max": (10**9, 8),
                "net2_min": (8, 0),
                "net2_max": (10**9, 8),
                "net_share": (1, 1),
            },
        )

    def test_defaultsAreWithinBounds(self) -> None:
        """
        Who asks for nothing has what may be asked for, and a lender keeps no less than may be asked for.
        """
        for one in RESOURCES.values():
            self.assertTrue(one.least <= one.default <= one.most < 2**53, one.name)
            self.assertTrue(one.kept is None or one.least <= one.kept, one.name)

    def test_namesTheFilesThatAreWritten(self) -> None:
        """
        The file named for each limit of a control group is one that is really written, in both versions.
        """
        rspec = {**DEFAULTS, "cpu_max": 500, "cpu_min": 100}
        v1 = {file for _, file, _ in limits.files_v1(rspec, 32)}
        v2 = {file for _, file, _ in limits.files_v2(rspec, 32)}
        self.assertEqual(OF_PROCESSES.keys(), limits.ENFORCED)
        for name in limits.ENFORCED:
            one = RESOURCES[name]
            self.assertIn(one.enforced_v1.rpartition(" ")[2], v1)
            self.assertIn(one.enforced_v2.rpartition(" ")[2], v2)


class ReadTests(SynchronousTestCase):
    """
    As people ask.
    """

    def wrong(self, given: dict[str, Any], **more: Any) -> str:
        return str(self.assertRaises(BadValue, read_rspec, given, **more).message)

    def test_completes(self) -> None:
        """
        What is not named has its default.
        """
        self.assertEqual(read_rspec({}), DEFAULTS)
        self.assertEqual(read_rspec({"cpu_max": 200}), {**DEFAULTS, "cpu_max": 200})
        self.assertEqual(read_rspec({"pids_max": 32}, over={"cpu_share": 7})["cpu_share"], 7)

    def test_takesTheOldNames(self) -> None:
        """
        The ancestor's later names stand for ours, in their own units.
        """
        old = {"cpu_pct": 25, "net_min_rate": 5, "net_max_rate": 900, "net_i2_min_rate": 7, "net_i2_max_rate": 100}
        found = read_rspec({**old, "net_share": 3, "disk_max": 70000})
        expected = {"cpu_min": 250, "net_min": 5000, "net_max": 900000, "net2_min": 7000, "net2_max": 100000}
        self.assertEqual(found, {**DEFAULTS, **expected, "net_share": 3, "disk_max": 70000})
        self.assertIn("no resource 'cpu_pct'", self.wrong({"cpu_pct": 25}, aliases=False))

    def test_namesNearOnes(self) -> None:
        """
        A misspelt name is told the one that was meant.
        """
        self.assertIn("did you mean memory_max", self.wrong({"memorymax": 1 << 26}))

    def test_refusesNonsense(self) -> None:
        """
        No resource can be set to what is no amount, and the error says what one is.
        """
        for name in [*RESOURCES, *ALIASES]:
            for value in NONSENSE:
                self.assertIn(f"rspec: {name}: want a whole number from ", self.wrong({name: value}))

    def test_refusesTooLittleAndTooMuch(self) -> None:
        """
        Each resource has its own bounds; both are allowed, one beyond is not.
        """
        for one in RESOURCES.values():
            apart = {"cpu_min": {"cpu_max": 0}, "net_min": {"net_max": 10**12}, "net2_min": {"net2_max": 10**12}}
            apart |= {"net_max": {"net_min": 0}, "net2_max": {"net2_min": 0}}
            more = apart.get(one.name, {})
            for value in (one.least, one.most):
                self.assertEqual(read_rspec({**more, one.name: value})[one.name], value)
            for value in (one.least - 1, one.most + 1):
                self.assertIn(f"want a whole number from {one.least} to {one.most}", self.wrong({one.name: value}))

    def test_refusesContradictions(self) -> None:
        """
        A guarantee above its own limit can never be kept.
        """
        self.assertIn(
            "want net_min of at most net_max, got 9000 and 8000", self.wrong({"net_min": 9000, "net_max": 8000})
        )
        self.assertIn("net2_max", self.wrong({"net2_min": 10**9 + 1}))
        self.assertIn("cpu_max", self.wrong({"cpu_min": 300, "cpu_max": 200}))
        self.assertEqual(read_rspec({"cpu_min": 300, "cpu_max": 0})["cpu_min"], 300)
        self.assertEqual(read_rspec({"net_min": 0, "net_max": 8})["net_min"], 0)

    def test_refusesOneThingTwice(self) -> None:
        """
        Under two names it is not known which is meant.
        """
        self.assertIn("cpu_min and cpu_pct", self.wrong({"cpu_min": 100, "cpu_pct": 10}))

    @given(st.dictionaries(st.sampled_from([*RESOURCES, *ALIASES, "x"]), st.integers() | st.floats() | st.text()))
    def test_isCompleteOrRefused(self, asked: dict[str, Any]) -> None:
        """
        Whatever is asked gives an amount of every resource within bounds, or an error of ours.
        """
        try:
            found = read_rspec(asked)
        except BadValue:
            return
        self.assertEqual(found.keys(), RESOURCES.keys())
        self.assertTrue(all(RESOURCES[name].least <= value <= RESOURCES[name].most for name, value in found.items()))


class TagTests(SynchronousTestCase):
    """
    As an authority's payload has them.
    """

    def test_readsTextAndNumbers(self) -> None:
        """
        The ancestor's authority sends digits as text, others may send numbers; other tags are nobody's fault.
        """
        found, warnings = read_tags(
            [("cpu_share", "64"), ("pids_max", 99), ("initscript", "hello"), ("cpu_pct", " 5 ")]
        )
        self.assertEqual(found, {**DEFAULTS, "cpu_share": 64, "pids_max": 99, "cpu_min": 50})
        self.assertEqual(warnings, [])

    def test_laterOnesCount(self) -> None:
        """
        Tags come with the one that counts most last.
        """
        found, _ = read_tags([("cpu_share", "64"), ("cpu_share", "128")])
        self.assertEqual(found["cpu_share"], 128)

    def test_saysWhatIsNonsense(self) -> None:
        """
        Nonsense leaves the default and is named, each by itself.
        """
        wrong: tuple[object, ...] = (True, 1.5, -1, float("nan"), 10**400, "x", "-1", "1.0", "1e3", "٣", "9" * 30, [])
        for value in (*wrong, None):
            found, warnings = read_tags([("cpu_share", value), ("pids_max", "77")])
            self.assertEqual(found, {**DEFAULTS, "pids_max": 77})
            self.assertEqual(len(warnings), 1)
            self.assertIn("tag cpu_share: want a whole number from 1 to 3200 (weight)", warnings[0])
            self.assertIn("the default, 32, stands", warnings[0])

    def test_saysWhatContradicts(self) -> None:
        """
        Of two tags that cannot both hold neither does.
        """
        found, warnings = read_tags([("net_min", "9000"), ("net_max", "8000"), ("cpu_share", "40")])
        self.assertEqual(found, {**DEFAULTS, "cpu_share": 40})
        self.assertEqual(warnings, ["tags: net_min 9000 is more than net_max 8000; the defaults stand"])

    def test_saysWhatIsBelowTheMinimum(self) -> None:
        """
        An authority may give less than what a lender keeps; it is reported.
        """
        found, warnings = read_tags([("cpu_share", "8")])
        self.assertEqual(found["cpu_share"], 8)
        self.assertIn("8 is less than the 16 that a lender keeps", warnings[0])

    @given(st.lists(st.tuples(st.sampled_from([*RESOURCES, *ALIASES, "x"]), st.integers() | st.floats() | st.text())))
    def test_neverRefuses(self, tags: list[tuple[str, Any]]) -> None:
        """
        Whatever the tags are, what comes out could have been asked for.
        """
        found, _ = read_tags(tags)
        self.assertEqual(read_rspec(found), found)


class LendableTests(SynchronousTestCase):
    """
    What slivers lend.
    """

    def test_onlyTheseAreLent(self) -> None:
        """
        Others are refused by name.
        """
        self.assertEqual({name for name, one in RESOURCES.items() if one.lendable}, set(KEPT))
        self.assertIs(lendable("cpu_share"), RESOURCES["cpu_share"])
        for name in ("enabled", "cpu_max", "disk_max"):
            self.assertIn(f"{name} is not lent", self.assertRaises(BadValue, lendable, name).message)
        self.assertIn("did you mean cpu_share", self.assertRaises(BadValue, lendable, "cpu_shares").message)
