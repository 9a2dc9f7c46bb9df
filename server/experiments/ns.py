"""
NS, the Tcl in which Emulab's users write topologies: text to L{Topology}.

A real Tcl runs the text (L{hostline.server.experiments.tcl}); what it asks the simulator and the testbed for becomes a
L{Draft}, and that a TopDL tree, so that what NS and TopDL say of the same topology is the same. Names come from the
variables, as Emulab has it: C{set hub [$ns node]} is C{hub}, C{n(3)} is C{n-3}, and the first variable counts.
"""

from __future__ import annotations

import re
from typing import Any

from hostline.protocol.names import near
from hostline.server.experiments import topdl
from hostline.server.experiments.draft import Draft, DraftLink, DraftNode
from hostline.server.experiments.ns_simulator import METHODS, WITHOUT_EFFECT, Simulator
from hostline.server.experiments.ns_testbed import IDLE, Testbed
from hostline.server.experiments.ns_words import Bad, Nothing
from hostline.server.experiments.tcl import CLOCK_S, Interpreter, Refused
from hostline.server.experiments.tcl_guard import child
from hostline.server.experiments.tcl_library import TclMissing
from hostline.server.experiments.tcl_lines import Source
from hostline.server.experiments.topology import LINKS_MAX, NODES_MAX, Topology, quoted

#: Bytes of a text.
TEXT_MAX = 1024 * 1024
#: Seconds of the clock that a text has more for each node and link that it has made, and how many it has at most; and
#: how many more one command of it has which Tcl cannot stop.
_EACH_S, _MOST_S, _LATER_S = 0.002, 15.0, 0.5
NO_RUN = 'No "Simulator run" statement found'
#: Files that may be sourced, for there is nothing in them that is not here already.
SOURCES = ("tb_compat.tcl", "nstb_compat.tcl")
_FORBIDDEN = {
    **dict.fromkeys(("exec", "exit", "load", "package", "interp", "unload"), "start, load or end programs"),
    **dict.fromkeys(("open", "file", "glob", "cd", "pwd", "socket", "encoding"), "reach files or the network"),
    **dict.fromkeys(("chan", "close", "read", "gets", "seek", "tell", "eof", "fcopy"), "reach files or the network"),
    **dict.fromkeys(("fconfigure", "fileevent", "flush", "fblocked", "zlib"), "reach files or the network"),
    **dict.fromkeys(("clock", "pid", "time"), "mean another thing each time it is read"),
    **dict.fromkeys(("after", "vwait", "update", "trace"), "wait or lay traps"),
}
_CLASS = re.compile(r"[A-Z][A-Za-z]*(/[A-Za-z0-9]+)*")
_ARRAY = re.compile(r"(.*)\((.*)\)", re.DOTALL)


def read(text: str) -> Topology:
    """
    The topology that an NS text describes.

    @return: it never raises: what is wrong is in C{findings}, as for L{topdl.read}; C{document} is its TopDL.
    """
    script = _Script(text)
    script.run()
    return topdl.understood(script.draft.tree(), script.draft.findings)


class _Stop(Exception):
    """The text is not read further."""


class _Script:
    """
    One text while it runs.

    @ivar objects: what the names stand for that we gave out as values.
    """

    def __init__(self, text: str) -> None:
        self.text = text.lstrip("\ufeff").replace("\r\n", "\n")
        self.source = Source(self.text)
        self.draft = Draft()
        self.objects: dict[str, Any] = {}
        self.simulator: Simulator | None = None
        self.testbed = Testbed(self)
        self.tcl: Any = None
        self._unnamed: set[str] = set()
        self._nothings: dict[str, Nothing] = {}
        self._count: dict[str, int] = {}
        self._said: set[tuple[int, str]] = set()
        self._first = 1
        self._error_at: tuple[str, int] = ("", 0)

    def run(self) -> None:
        """Run all of it, or as far as it goes."""
        if len(self.text.encode("utf-8", "surrogatepass")) > TEXT_MAX:
            self.error(f"want at most {TEXT_MAX // 1024} KiB of NS", 1)
            return
        odd = re.search("[\0\ud800-\udfff]", self.text)
        if odd is not None:
            what = "a zero byte" if odd[0] == "\0" else "a lone surrogate"
            self.error(f"want Unicode text, got {what}", self.text.count("\n", 0, odd.start()) + 1)
            return
        watchdog = child()
        try:
            self.tcl = Interpreter(self.unknown, watchdog, self._clock_s)
        except TclMissing as error:
            self.error(str(error), 1)
            return
        try:
            if watchdog is not None:
                watchdog.clock_s = lambda: self._clock_s() + _LATER_S
                watchdog.watch()
            whole = self._pieces()
        except _Stop:
            whole = False
        finally:
            if watchdog is not None:
                watchdog.release()
        if whole and not self.draft.findings.wrong:
            self._ended()
        self.tcl.close()

    def _clock_s(self) -> float:
        # Who has made much may need long on a busy host; who makes nothing goes round and round, and hears of it soon.
        return min(_MOST_S, CLOCK_S + (len(self.draft.nodes) + len(self.draft.links)) * _EACH_S)

    def _pieces(self) -> bool:
        for first, piece in self.source.pieces(self.tcl.complete):
            self._first = first
            trouble = self.tcl.evaluate(piece, first)
            if trouble is None:
                continue
            line = self.source.line_of(trouble, first)
            if trouble.limit:
                self.error(f"this takes {self.tcl.stopped}: it was stopped", line)
            elif self._error_at[0] != trouble.text:
                self.error(trouble.text.partition("\n")[0][:300], line)
            return False
        return True

    def _ended(self) -> None:
        if self.simulator is None or not self.simulator.ran:
            self.error(NO_RUN, max(1, len(self.source.lines) - self.text.endswith("\n")))
            return
        if not self.draft.nodes:
            self.error("want at least one node: there is no '$ns node' here", self.simulator.ran)
        options = self.tcl.words(self.tcl.call("array", "get", "opt"))
        for name, value in sorted(zip(options[::2], options[1::2], strict=False)):
            self.draft.attributes.append((f"{topdl.OPTION}{name}", value, self.simulator.ran))

    # -- what is said

    @property
    def line(self) -> int:
        """
        @return: where the command stands that is with us now.
        """
        return self.source.line_at(self.tcl.frames(), self._first)

    def error(self, text: str, line: int | None = None) -> None:
        """Tell of an error, once for each line."""
        at = self.line if line is None else line
        if (at, text) not in self._said:
            self._said.add((at, text))
            self.draft.findings.error(at, text)

    def warning(self, text: str, line: int | None = None) -> None:
        """Tell of something to look at, once for each line."""
        at = self.line if line is None else line
        if (at, text) not in self._said:
            self._said.add((at, text))
            self.draft.findings.warning(at, text)

    # -- what Tcl does not know

    def unknown(self, words: list[str]) -> str:
        """
        Do what Tcl has no command for.
        """
        try:
            return self._done(words)
        except Bad as error:
            self.error(str(error))
            return self.nothing(words[0] if words else "")

    def _done(self, words: list[str]) -> str:
        name, *rest = words or [""]
        if name == "::hostline::name" and len(rest) == 2 and rest[1] in self.objects:
            return self.name(*rest)
        name = name.removeprefix("::")
        one = self.objects.get(name)
        if one is not None:
            return self._object(one, name, rest)
        if name.startswith("tb-"):
            return self.testbed.call(name, rest)
        if name == "new":
            return self._new(rest)
        if name == "source":
            return self._source(rest)
        if name == "puts":
            self.warning("puts: what a topology writes goes nowhere")
            return ""
        if name in _FORBIDDEN:
            self._refuse(f"{name} is refused: a topology may not {_FORBIDDEN[name]}")
        if _CLASS.fullmatch(name) and len(rest) > 1:
            self.warning(f"{name[:60]} {rest[0][:60]}: classes of the simulator have no effect here")
            return ""
        self._refuse(
            f"invalid command name {quoted(name)}{near(name, ('set', 'proc', 'for', 'foreach', 'puts', *IDLE))}"
        )
        return ""

    def _refuse(self, text: str) -> None:
        # A script may catch it, but the text has an error all the same.
        self.error(text)
        self._error_at = (text, self._first)
        raise Refused(text)

    def _object(self, one: Any, name: str, rest: list[str]) -> str:
        method, *arguments = rest or [""]
        if isinstance(one, Simulator):
            if method in METHODS:
                return METHODS[method].call(one, arguments)
            if method in WITHOUT_EFFECT:
                self.warning(f"${name} {method}: {WITHOUT_EFFECT[method] or 'it has no effect here'}")
            else:
                hint = near(method, (*METHODS, *WITHOUT_EFFECT))
                self.warning(f"${name[:60]} {method[:60]}: the simulator here has no such method{hint}; it is left out")
            return self.nothing(f"${name} {method}")
        if not isinstance(one, Nothing):
            what = "nodes" if isinstance(one, DraftNode) else "links"
            self.warning(f"${name} {method[:60]}: methods of {what} have no effect here")
        return self.nothing(f"${name} {method}")

    def _new(self, rest: list[str]) -> str:
        if rest[:1] != ["Simulator"]:
            what = f"new {rest[0] if rest else ''}"[:60]
            self.warning(f"{what}: it has no effect here")
            return self.nothing(what)
        if self.simulator is not None:
            raise Bad(f"there is one simulator, of line {self.simulator.line}")
        self.simulator = Simulator(self, self.line)
        return self.made("Simulator", self.simulator)

    def _source(self, rest: list[str]) -> str:
        if len(rest) != 1 or rest[0].rpartition("/")[2] not in SOURCES:
            what = quoted(rest[-1] if rest else "")
            self._refuse(f"source {what} is refused: a topology may not read files (tb_compat.tcl is here already)")
        return ""

    # -- names

    def made(self, kind: str, one: Any) -> str:
        """
        A name for a new object, until a variable gives it another.
        """
        number = self._count[kind] = self._count.get(kind, 0 if kind == "Simulator" else -1) + 1
        name = f"{kind}{number}"
        while name in self.objects:
            name += "_"
        self.objects[name] = one
        self._unnamed.add(name)
        self.tcl.made(name)
        return name

    def node(self) -> str:
        """
        A new node.
        """
        if len(self.draft.nodes) >= NODES_MAX:
            self.error(f"want at most {NODES_MAX} nodes")
            raise _Stop
        node = DraftNode("", self.line)
        node.name = self.made("tbnode-n", node)
        self.draft.nodes.append(node)
        return node.name

    def link(self, kind: str) -> DraftLink:
        """
        A new link or LAN.

        @param kind: how its name begins until it has one.
        """
        if len(self.draft.links) >= LINKS_MAX:
            self.error(f"want at most {LINKS_MAX} links")
            raise _Stop
        link = DraftLink("", self.line)
        link.name = self.made(kind, link)
        self.draft.links.append(link)
        return link

    def name(self, variable: str, old: str) -> str:
        """
        Name an object after a variable.

        @return: its name from now on, the variable's value.
        """
        name = variable.rpartition("::")[2]
        array = _ARRAY.fullmatch(name)
        if array is not None:
            name = f"{array[1]}-{array[2]}"
        one = self.objects[old]
        if name in self.objects:
            # A procedure's own variable may name one node after another: then it is the caller's that counts.
            if self.tcl.level() < 2:
                line = getattr(self.objects[name], "line", 0)
                self.error(f"{quoted(name)} is there twice, first in line {line}")
            return old
        del self.objects[old]
        self.objects[name] = one
        self.tcl.named(old)
        if isinstance(one, DraftNode | DraftLink):
            one.name = name
        return name

    def nothing(self, what: str) -> str:
        """
        An object that takes everything and does nothing.
        """
        known = self._nothings.get(what)
        if known is None:
            known = self._nothings[what] = Nothing(f"nothing{len(self._nothings)}", what)
            self.objects[known.name] = known
        return known.name
