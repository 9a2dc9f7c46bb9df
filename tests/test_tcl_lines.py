"""
Finding the lines of a script.
"""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments.tcl import Frame, Interpreter, Trouble
from hostline.server.experiments.tcl_lines import Source


def _complete(text: str, line: int) -> bool:
    return text.count("{") <= text.count("}")


class PieceTests(SynchronousTestCase):
    """
    A script in pieces.
    """

    def pieces(self, text: str) -> list[tuple[int, str]]:
        tcl = Interpreter(lambda words: "")
        self.addCleanup(tcl.close)
        return list(Source(text).pieces(tcl.complete))

    def test_commands(self) -> None:
        """
        Each command is a piece, with all its lines.
        """
        text = 'set a 1\n\nfor {} {1} {} {\n  set b {\n}\n}\nset c \\\n  2\n# a comment\nset d "x\ny"'
        found = self.pieces(text)
        self.assertEqual([first for first, piece in found if piece], [1, 3, 7, 9, 10])
        self.assertEqual("\n".join(piece for _, piece in found), text)

    def test_misleading(self) -> None:
        """
        Braces that do not count delay a piece, and lose nothing.
        """
        text = "set a \\{\n" + "set b 1\n" * 50
        found = self.pieces(text)
        self.assertEqual("\n".join(piece for _, piece in found), text)
        self.assertGreater(len(found), 20)

    def test_large(self) -> None:
        """
        A loop of many lines is not looked at again for each of them.
        """
        began = time.process_time()
        self.pieces("if 1 {\n" + "set a {b}\n" * 60_000 + "}\n")
        self.assertLess(time.process_time() - began, 3)

    @given(st.text(alphabet=st.sampled_from(list('{}[]"\\;#\n ab')), max_size=60))
    def test_nothingIsLost(self, text: str) -> None:
        """
        All pieces together are the text, whatever it is.
        """
        found = list(Source(text).pieces(_complete))
        self.assertEqual("\n".join(piece for _, piece in found), text)
        self.assertEqual([first for first, _ in found], sorted({first for first, _ in found}))


class LineTests(SynchronousTestCase):
    """
    Where something stands.
    """

    def test_twoProcedures(self) -> None:
        """
        Of two procedures by the same name, the one in whose line the command stands.
        """
        source = Source("proc p {} {\n  foo\n}\nproc p {\n} {\n  bar\n}\n")
        self.assertEqual(source.bodies("p"), [1, 5])
        self.assertEqual(source.line_at([Frame(2, "p", "bar")], 1), 6)
        self.assertEqual(source.line_at([Frame(2, "p", "foo")], 1), 2)

    def test_unknown(self) -> None:
        """
        What stands nowhere in the text is where the nearest known level is.
        """
        source = Source("set a 1\neval $a\n")
        self.assertEqual(source.line_at([Frame(7, "mine", "x"), Frame(1, "", "zzz"), Frame(2, "", "eval $a")], 1), 2)
        self.assertEqual(source.line_at([], 2), 2)

    def test_trace(self) -> None:
        """
        A trace is followed from the outermost command inwards.
        """
        text = "set a 1\nforeach x {1} {\n  if 1 {\n    set b $c\n  }\n}\n"
        trace = (
            'can\'t read "c": no such variable\n    while executing\n"set b $c"\n    ("foreach" body line 3)\n'
            '    invoked from within\n"foreach x {1} {\n  if 1 {\n    set b $c\n  }\n}"'
        )
        self.assertEqual(Source(text).line_of(Trouble("", 1, trace), 2), 4)

    @given(st.text(max_size=80), st.text(max_size=120), st.integers(1, 50))
    def test_anything(self, text: str, trace: str, line: int) -> None:
        """
        Whatever the trace is, the line is one of the text.
        """
        source = Source(text)
        self.assertTrue(1 <= source.line_of(Trouble("", line, trace), 1) <= len(source.lines))
