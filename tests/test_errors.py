"""
Tests for L{hostline.protocol.errors}.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol import errors
from hostline.protocol.errors import ERRORS, HostError, NoSuchExperiment, OperationFailed, raised_again

CLASSES = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, HostError)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda items: st.lists(items, max_size=3) | st.dictionaries(st.text(max_size=5), items, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["code", "message", "command", "operation", "causes", "self", "body", "args", "details"])


class ErrorsTests(SynchronousTestCase):
    def test_codes(self) -> None:
        """Each error has a code of its own, in capitals: people match on it."""
        self.assertEqual([one.code for one in CLASSES], list(dict.fromkeys(one.code for one in CLASSES)))
        for one in CLASSES:
            self.assertRegex(one.code, r"^[A-Z]+(_[A-Z]+)*$")

    def test_docs(self) -> None:
        """The page of the protocol can say of each code what it means."""
        for one in CLASSES:
            self.assertTrue((vars(one)["__doc__"] or "").strip().endswith("."), one)

    def test_complete(self) -> None:
        """A client knows the class of every code, also of those that are kinds of another error."""
        self.assertEqual(set(ERRORS.values()), set(CLASSES))

    def test_body(self) -> None:
        """The reply says what went wrong, with which command, and what else is known."""
        error = OperationFailed("no memory", operation=17, causes=["no memory"])
        self.assertEqual(
            error.body("swap_in"),
            {
                "code": "FAILED",
                "message": "no memory",
                "command": "swap_in",
                "operation": 17,
                "causes": ["no memory"],
            },
        )

    def test_raisedAgain(self) -> None:
        """What the daemon raises, the client raises: the same class, text and details."""
        for one in CLASSES:
            body = one("no such thing", operation=17).body("create")
            again = raised_again(body)
            self.assertIs(type(again), one)
            self.assertEqual(str(again), "no such thing")
            self.assertEqual(again.details, {"operation": 17, "command": "create"})
            self.assertEqual(again.body(), body)

    def test_unknownCode(self) -> None:
        """An old client meets a new daemon: scripts can still match on the code."""
        body = {"code": "ON_FIRE", "message": "smoke", "command": "start", "floor": 3}
        error = raised_again(body)
        self.assertIs(type(error), HostError)
        self.assertEqual((error.code, error.body()), ("ON_FIRE", body))

    def test_unknownCodeStaysThere(self) -> None:
        """An unknown code changes no error that comes after it."""
        raised_again({"code": "ON_FIRE", "message": ""})
        self.assertEqual(HostError("").code, "ERROR")

    def test_catching(self) -> None:
        """A script catches all that can be refused as one class, or just what it can do something about."""
        for caught in (HostError, NoSuchExperiment):
            with self.assertRaises(caught):
                raise raised_again({"code": "NO_SUCH_EXPERIMENT", "message": "no experiment lab/x", "command": ""})

    def test_noCommand(self) -> None:
        """An error that came before any command names none."""
        self.assertEqual(raised_again({"code": "TOO_MANY", "message": "x"}).details, {"command": ""})

    @given(JSON | st.dictionaries(KEYS, JSON, max_size=5))
    def test_garbage(self, body: Any) -> None:
        """Whatever a broken daemon puts into an error_reply, the client reports an error and does not fail itself."""
        error = raised_again(body)
        self.assertIsInstance(error, HostError)
        self.assertIsInstance(error.code, str)
        self.assertEqual(raised_again(error.body()).body(), error.body())
