"""
Which line of a script something happened in: Tcl counts from the beginning of whatever body it runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from hostline.server.experiments.tcl import Frame, Trouble

_PROC = re.compile(r"(?:^|[;{\n])[ \t]*proc[ \t]+(?:::)?([^\s{}\"$\[]+)", re.MULTILINE)
_LEVEL = re.compile(
    r"^\"(?P<command>(?:[^\n]|\n(?!    ))*?)(?:\.\.\.)?\"\n"
    r"    \((?:procedure \"(?P<procedure>.*?)\"|\"(?P<body>[^\"\n]+)\"[^\n]*?) line (?P<line>\d+)\)$",
    re.MULTILINE,
)
_ENOUGH = 6


class Source:
    """
    A script and its lines.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")
        self._procedures: dict[str, list[int]] | None = None

    def pieces(self, complete: Callable[[str, int], bool]) -> Iterator[tuple[int, str]]:
        """
        The script in pieces of whole commands, small ones where that is easily had.

        @param complete: says whether a piece, which begins in a line, does not end inside of something.
        @return: the first line of each, and its text.
        """
        first, depth, patience = 1, 0, 8
        piece: list[str] = []
        for number, line in enumerate(self.lines, 1):
            piece.append(line)
            depth += line.count("{") - line.count("}")
            # Braces are only counted, though some may not count: where that misleads, ever longer pieces are tried.
            if (depth > 0 and len(piece) < patience) or line.endswith("\\"):
                continue
            text = "\n".join(piece)
            if complete(text, first):
                yield first, text
                first, depth, patience, piece = number + 1, 0, 8, []
            else:
                patience = 2 * len(piece) if depth > 0 else patience
        if piece:
            yield first, "\n".join(piece)

    def line_at(self, frames: Iterable[Frame], first: int) -> int:
        """
        Where a command stands.

        @param frames: where the script is, from the innermost level.
        @param first: the line in which the piece begins that is being run.
        """
        outermost = first
        for frame in frames:
            if frame.procedure:
                for start in self.bodies(frame.procedure):
                    if self._has(start + frame.line - 1, frame.command):
                        return start + frame.line - 1
            else:
                outermost = first + frame.line - 1
                if self._has(outermost, frame.command):
                    return outermost
        return min(outermost, len(self.lines))

    def line_of(self, trouble: Trouble, first: int) -> int:
        """
        Where a script went wrong.

        @param first: the line in which the piece begins that was run.
        """
        line = min(first + trouble.line - 1, len(self.lines))
        for level in reversed(list(_LEVEL.finditer(trouble.trace))):
            within = int(level["line"]) - 1
            starts = self.bodies(level["procedure"]) if level["procedure"] else self._words(line)
            found = [start + within for start in starts if self._has(start + within, level["command"])]
            line = found[0] if found else line
        return line

    def bodies(self, procedure: str) -> list[int]:
        """
        @return: the lines in which the bodies of the procedures of this name begin.
        """
        if self._procedures is None:
            self._procedures = {}
            line = at = 0
            for match in _PROC.finditer(self.text):
                line += self.text.count("\n", at, match.start(1))
                at = match.start(1)
                words = list(self._from(at, 3))
                if len(words) == 3:
                    start = line + 1 + self.text.count("\n", at, words[2])
                    self._procedures.setdefault(match[1], []).append(start)
        return self._procedures.get(procedure.removeprefix("::"), [])

    def _has(self, line: int, command: str) -> bool:
        first = command.split("\n", 1)[0].rstrip("\\").strip()
        if not 0 < line <= len(self.lines) or not first:
            return False
        there = self.lines[line - 1]
        if first in there:
            return True
        # Of a line that goes on, Tcl tells the rest in the same line.
        head = there.rstrip("\\").rstrip()
        at = head.find(first[:_ENOUGH])
        return there.endswith("\\") and at >= 0 and first.startswith(head[at:])

    def _words(self, line: int) -> Iterator[int]:
        """The lines in which the words of the command begin that stands in this line: it may be its body."""
        at = sum(len(one) + 1 for one in self.lines[: line - 1])
        for start in self._from(at, 100):
            if self.text[start] in '{"':
                yield line + self.text.count("\n", at, start)

    def _from(self, at: int, most: int) -> Iterator[int]:
        """Where the words of a command begin, C{at} in the text."""
        text, end = self.text, len(self.text)
        for _ in range(most):
            while at < end and (text[at] in " \t" or text.startswith("\\\n", at)):
                at += 2 if text[at] == "\\" else 1
            if at >= end or text[at] in "\n;":
                return
            yield at
            at = self._over(at)

    def _over(self, at: int) -> int:
        text, end = self.text, len(self.text)
        opening = text[at] if text[at] in '{"' else ""
        depth = 0
        while at < end:
            one = text[at]
            if one == "\\":
                at += 1
            elif opening == '"':
                depth += one == '"'
                if depth == 2:
                    return at + 1
            elif one in "{[":
                depth += 1
            elif one in "}]":
                depth -= 1
                if depth <= 0 and opening:
                    return at + 1
            elif depth <= 0 and not opening and one in " \t\n;":
                return at
            at += 1
        return end
