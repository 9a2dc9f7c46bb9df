"""
The status of an experiment, kept ready as text.
"""

from __future__ import annotations

import ast

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.status import StatusText

_NAMES = st.text("ab'\"\\é\n", min_size=1, max_size=3)
_STEP = st.tuples(
    st.sampled_from(["set", "set", "remove", "encode"]),
    st.integers(0, 80).map(lambda number: f"hv:process:pnode-{number:04}"),
    _NAMES,
    st.sampled_from([None, "running", "booted", "dead"]),
    st.none() | st.integers(-1, 300),
)


class StatusTextTests(SynchronousTestCase):
    """
    The text is that of the value.
    """

    @given(st.lists(_STEP, max_size=150))
    def test_isTheTextOfTheValue(self, steps: list[tuple[str, str, str, str | None, int | None]]) -> None:
        """
        Whatever changed, and whenever it was asked for between, the reply is what a dict would give.
        """
        text = StatusText()
        plain: dict[str, dict[str, list[object]]] = {}
        for what, hypervisor, node, boot, code in steps:
            if what == "set":
                news = plain.get(hypervisor, {}).get(node) != [boot, code]
                self.assertEqual(text.set(hypervisor, node, boot, code), news)
                plain.setdefault(hypervisor, {})[node] = [boot, code]
            elif what == "remove":
                text.remove(hypervisor, node)
                plain.get(hypervisor, {}).pop(node, None)
                plain = {name: nodes for name, nodes in plain.items() if nodes}
            else:
                self.assertEqual(text.encode(), ascii(text.value()).encode())
            self.assertEqual(text.get(hypervisor, node), plain.get(hypervisor, {}).get(node, [None, None]))
        self.assertEqual(text.value(), plain)
        self.assertEqual(text.encode(), ascii(text.value()).encode())
        self.assertEqual(ast.literal_eval(text.encode().decode()), plain)

    def test_isEmptyAgain(self) -> None:
        """
        With its last node gone the text is that of an empty dict.
        """
        text = StatusText()
        self.assertEqual(text.encode(), b"{}")
        text.set("hv:process:pnode-0000", "web", "booted", 0)
        text.encode()
        text.remove("hv:process:pnode-0000", "web")
        self.assertEqual(text.encode(), b"{}")
