"""
Reading NS.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.experiments import ns, tcl_library, topdl
from hostline.server.experiments.ns import NO_RUN
from hostline.server.experiments.topology import Topology

#: The ancestors' little sample.
SAMPLE = """\
source tb_compat.tcl
set ns [new Simulator]
set hub [$ns node]
for {set i 0} {$i < 2} {incr i} {
  set leaf($i) [$ns node]
  tb-set-node-os $leaf($i) debian12
  tb-set-node-startcmd $leaf($i) "/proj/demo/go.sh $i"
  set l($i) [$ns duplex-link $hub $leaf($i) 10Mb 5ms DropTail]
}
tb-set-link-loss $l(1) 0.02
$ns rtproto Static
$ns run
"""


def script(*lines: str) -> str:
    """
    One argument per line; the first is line 2, and $ns is there.
    """
    return "\n".join(["set ns [new Simulator]", *lines, "$ns run", ""])


def clean(*lines: str) -> Topology:
    """
    What a text means that nothing is to be said of.
    """
    topology = ns.read(script(*lines))
    assert topology.findings == (), topology.findings
    return topology


def errors(*lines: str) -> list[tuple[int, str]]:
    return [(one.line, one.text) for one in ns.read(script(*lines)).errors]


def warnings(*lines: str) -> list[tuple[int, str]]:
    return [(one.line, one.text) for one in ns.read(script(*lines)).warnings]


def names(topology: Topology) -> list[str]:
    return [one.name for one in topology.nodes]


class ReadTests(SynchronousTestCase):
    """
    What a text means.
    """

    def test_sample(self) -> None:
        """
        The sample that the ancestors' users know is read whole and without remark.
        """
        topology = ns.read(SAMPLE)
        self.assertEqual(topology.findings, ())
        self.assertEqual(names(topology), ["hub", "leaf-0", "leaf-1"])
        leaf = topology.nodes[2]
        self.assertEqual((leaf.os, leaf.start_command, leaf.line), ("debian12", "/proj/demo/go.sh 1", 5))
        self.assertEqual(
            [(one.name, one.link) for one in topology.nodes[0].interfaces], [("inf000", "l-0"), ("inf001", "l-1")]
        )
        self.assertEqual([(one.name, one.rate_kbps, one.delay_ms, one.loss) for one in topology.links],
                         [("l-0", 10000.0, 5.0, None), ("l-1", 10000.0, 5.0, 0.02)])  # fmt: skip
        self.assertEqual(topology.links[1].members, (("hub", "inf001"), ("leaf-1", "inf000")))

    def test_variables(self) -> None:
        """
        The first variable that holds a node names it, also for what is written with its value.
        """
        topology = clean("set a [$ns node]", "set b $a", 'tb-set-node-startcmd $b "ping $b"', "set ::c(x) [$ns node]")
        self.assertEqual(names(topology), ["a", "c-x"])
        self.assertEqual(topology.nodes[0].start_command, "ping a")

    def test_unnamed(self) -> None:
        """
        What no variable held has the ancestors' names.
        """
        topology = clean("foreach i {1 2} {lappend n [$ns node]}", "$ns duplex-link {*}$n 1Mb 0", "$ns make-lan $n * 0")
        self.assertEqual(names(topology), ["tbnode-n0", "tbnode-n1"])
        self.assertEqual([one.name for one in topology.links], ["tblink-l0", "tblan-lan0"])

    def test_procedures(self) -> None:
        """
        Where a procedure names one node after another, the caller's variable counts.
        """
        mine = ("proc mk {} {", "  global ns", "  set n [$ns node]", "  return $n", "}")
        topology = clean(*mine, "set x [mk]", "set y [mk]", "set z [mk]")
        self.assertEqual(names(topology), ["n", "y", "z"])
        self.assertEqual({one.line for one in topology.nodes}, {4})

    def test_sameName(self) -> None:
        """
        Two nodes of one name are an error that tells where the first is.
        """
        ((line, text),) = errors("set a [$ns node]", "set a [$ns node]")
        self.assertEqual((line, text), (3, "'a' is there twice, first in line 2"))

    def test_badName(self) -> None:
        """
        A variable whose name no node may have is an error.
        """
        self.assertEqual([line for line, _ in errors("set my.node [$ns node]")], [2])

    def test_nodeNamedAsCommand(self) -> None:
        """
        Nodes may be called as commands of Tcl are, which go on to work.
        """
        topology = clean("set list [$ns node]", "set set [$ns node]", "set l [list 1 2]")
        self.assertEqual(names(topology), ["list", "set"])

    def test_lan(self) -> None:
        """
        A LAN has its members in the order of the list.
        """
        topology = clean(
            *("set a [$ns node]", "set b [$ns node]", "set c [$ns node]"),
            'set lan0 [$ns make-lan "$a $b',
            '     $c" 100Mb 2ms]',
        )
        (lan,) = topology.links
        self.assertEqual((lan.name, lan.kind, lan.rate_kbps, lan.delay_ms, lan.line), ("lan0", "lan", 1e5, 2.0, 5))
        self.assertEqual([node for node, _ in lan.members], ["a", "b", "c"])

    def test_noRun(self) -> None:
        """
        A text without its last statement is an error in the ancestor's words.
        """
        for text in (SAMPLE.replace("$ns run\n", ""), "", "# nothing\n", "set ns [new Simulator]\n"):
            ((line, said),) = [(one.line, one.text) for one in ns.read(text).errors]
            self.assertEqual((line, said), (max(1, text.count("\n")), NO_RUN))

    def test_noNode(self) -> None:
        """
        A topology without nodes is an error.
        """
        self.assertEqual(errors(""), [(3, "want at least one node: there is no '$ns node' here")])

    def test_twoSimulators(self) -> None:
        """
        There is one simulator only.
        """
        ((line, text),) = errors("", "set other [new Simulator]")
        self.assertEqual((line, text), (3, "there is one simulator, of line 1"))

    def test_source(self) -> None:
        """
        The testbed's own file may be sourced, from wherever; no other.
        """
        clean("set a [$ns node]", "source tb_compat.tcl", "source /usr/testbed/lib/nstb_compat.tcl")
        self.assertEqual([line for line, _ in errors("", "source other.tcl")], [3])

    def test_lineEnds(self) -> None:
        """
        Files from other systems are read as well.
        """
        self.assertEqual(ns.read("\ufeff" + SAMPLE.replace("\n", "\r\n")), ns.read(SAMPLE))

    def test_returnEndsIt(self) -> None:
        """
        What stands after a C{return} is not read.
        """
        self.assertEqual(names(ns.read(script("set a [$ns node]", "$ns run", "return", "nonsense"))), ["a"])

    def test_sameAgain(self) -> None:
        """
        Chance is the same each time: the plan is that of the experiment.
        """
        lines = (
            "for {set i 0} {$i < 20} {incr i} {",
            "if {rand() < 0.5} {set n($i) [$ns node]}",
            "}",
            "set z [$ns node]",
        )
        self.assertEqual(ns.read(script(*lines)), ns.read(script(*lines)))

    def test_manyNodes(self) -> None:
        """
        Too many nodes end the reading in the line that makes them.
        """
        found = errors("", "for {set i 0} {$i < 100000} {incr i} {", "  set n($i) [$ns node]", "}")
        self.assertEqual(found, [(4, "want at most 10000 nodes")])

    def test_tooLong(self) -> None:
        """
        A text that is too long is not run.
        """
        ((line, text),) = errors("#" * (1024 * 1024))
        self.assertEqual((line, text), (1, "want at most 1024 KiB of NS"))

    def test_notText(self) -> None:
        """
        Zero bytes and halves of characters are errors with their lines; all other characters are kept.
        """
        for odd in ("\0", "\ud800"):
            ((line, text),) = errors("", f"# {odd}")
            self.assertEqual((line, text.startswith("want Unicode text")), (3, True))
        topology = clean("set a [$ns node]", "tb-set-node-startcmd $a [string range {\U0001f600 \u00e9 x} 0 end-2]")
        self.assertEqual(topology.nodes[0].start_command, "\U0001f600 \u00e9")
        ((line, _),) = errors("", "if \U0001f600 {} \U0001f600")
        self.assertEqual(line, 3)

    def test_noTcl(self) -> None:
        """
        Where there is no Tcl, the user is told what to install.
        """
        tcl_library.library.cache_clear()
        self.patch(tcl_library, "LIBRARIES", ("libtcl-nowhere.so",))
        self.addCleanup(tcl_library.library.cache_clear)
        (one,) = ns.read(SAMPLE).errors
        self.assertIn("apt install libtcl8.6", one.text)
        ((check, ok, _, remedy),) = tcl_library.findings()
        self.assertEqual((check, ok, "apt install libtcl8.6" in remedy), ("topologies", False, True))

    def test_doctor(self) -> None:
        """
        The doctor knows where the library is that reads NS.
        """
        ((_, ok, detail, _),) = tcl_library.findings()
        self.assertEqual((ok, "libtcl8.6.so" in detail), (True, True))


class LineTests(SynchronousTestCase):
    """
    Which line is told of.
    """

    _MINE = (
        "set a [$ns node]",
        "proc bad {x",
        "          y} {",
        "   # a comment with a { brace }",
        "   foreach i {1 2} {",
        "      set z $nosuch",
        "   }",
        "}",
    )

    def line(self, *lines: str) -> int:
        ((line, _),) = errors(*lines)
        return line

    def test_top(self) -> None:
        """
        A command of the text itself.
        """
        self.assertEqual(self.line("", "", "set x $y"), 4)

    def test_continued(self) -> None:
        """
        A command of several lines begins in its first.
        """
        self.assertEqual(self.line("set a [$ns node]", "tb-set-ip \\", "  $a \\", "  1.2.3.4"), 3)

    def test_bodies(self) -> None:
        """
        Bodies of loops and conditions, and these in one another.
        """
        for begin in (
            "foreach i {1} {",
            "for {set i 0} {$i < 1} {incr i} {",
            "while 1 {",
            "if 1 {",
            "catch_ {} ; if 0 {} else {",
        ):
            with self.subTest(begin):
                begin = begin.replace("catch_ {} ; ", "")
                self.assertEqual(self.line("", begin, "  set one 1", "  set x $nosuch", "}"), 5)
                self.assertEqual(self.line(begin, " if 1 {", "  foreach j 1 {", "  set x $nosuch", "}", "}", "}"), 5)

    def test_procedures(self) -> None:
        """
        The body of a procedure, wherever it was called from.
        """
        self.assertEqual(self.line(*self._MINE, "bad 1 2"), 7)
        self.assertEqual(self.line(*self._MINE, "if 1 {", "  foreach k {1 2} {", "    bad 1 2", "}", "}"), 7)

    def test_unbalanced(self) -> None:
        """
        A brace that is never closed is told of where its command begins.
        """
        (one,) = ns.read("set ns [new Simulator]\n\nfoo {\n\n$ns run\n").errors
        self.assertEqual((one.line, one.text), (3, "missing close-brace"))

    def test_ownCommands(self) -> None:
        """
        Mistakes in our own commands, inside of bodies, do not end the reading.
        """
        found = errors(
            "foreach i {1 2} {",
            "  set n($i) [$ns node]",
            "  tb-set-ip $n($i) 10.1.1.$i",
            "}",
            "proc p {} {",
            "  global ns",
            "  $ns duplex-link no nodes 1Mb 1ms",
            "}",
            "p",
            "if 1 {tb-set-hardware nobody pc}",
        )
        self.assertEqual([line for line, _ in found], [4, 4, 8, 11])

    def test_evaluated(self) -> None:
        """
        What a text puts together itself is told of where it has it run.
        """
        self.assertEqual(self.line("set c {set x $nosuch}", "", "eval $c"), 4)

    def test_nodes(self) -> None:
        """
        Nodes and links know their lines, so that later findings do, too.
        """
        topology = clean(
            "set a [$ns node]",
            "foreach i {1} {",
            "",
            "set b [$ns node]",
            "set l [$ns duplex-link $a $b \\",
            "1Mb 1ms]",
            "}",
        )
        self.assertEqual([one.line for part in (topology.nodes, topology.links) for one in part], [2, 5, 6])


class SafetyTests(SynchronousTestCase):
    """
    What a text may not do; L{tests.live.test_ns_bombs} has what ends the child.
    """

    def test_refused(self) -> None:
        """
        Files, programs, the network and the clock are out of reach, however it is tried.
        """
        for line in (
            *("exec id", "open /etc/passwd", "source /etc/passwd", "socket localhost 22", "load x.so", "exit", "cd /"),
            *(
                "glob *",
                "file delete x",
                "pwd",
                "clock seconds",
                "after 1000",
                "vwait x",
                "interp create",
                "package names",
            ),
            *("::open /etc/passwd", "::tcl::file::delete x", "encoding dirs", "fconfigure stdout", "unload x", "pid"),
            *("interp invokehidden {} open /etc/passwd", "chan open x", "zlib inflate x", "trace add variable x w y"),
        ):
            with self.subTest(line):
                found = errors("", line)
                self.assertEqual([at for at, _ in found], [3])

    def test_caught(self) -> None:
        """
        To try it is an error even if the script forgives itself.
        """
        ((line, text),) = errors("catch {exec id}", "set a [$ns node]")
        self.assertEqual(line, 2)
        self.assertIn("exec is refused", text)

    def test_nothingOfTheHost(self) -> None:
        """
        Nothing that the script can read tells of the host or the daemon.
        """
        for line in (
            "info hostname",
            "info nameofexecutable",
            "set x $tcl_platform(user)",
            "set x $env(PATH)",
            "info library",
        ):
            with self.subTest(line):
                self.assertEqual([at for at, _ in errors("", line)], [3])

    def test_recursion(self) -> None:
        """
        A procedure that calls itself ends.
        """
        ((line, text),) = errors("proc r {} {", "  r", "}", "r")
        self.assertEqual(line, 3)
        self.assertIn("too many nested", text)

    def test_tampering(self) -> None:
        """
        A script that takes our own means away spoils its own topology at most.
        """
        for lines in (
            ("namespace delete ::hostline", "set a [$ns node]"),
            ("rename info {}", "set a [$ns node]"),
            ("proc set args {}", "set a [$ns node]"),
            ("namespace delete ::", "set a 1"),
            ("::hostline::name a b",),
            ("::hostline::name",),
            ("rename unknown {}", "nonsense"),
            ("proc unknown args {return 1}", "tb-x"),
            ("unknown",),
            ("set ::hostline::made(x) 1", "set a x"),
        ):
            with self.subTest(lines):
                self.assertIsInstance(ns.read(script(*lines)), Topology)

    @settings(max_examples=60)
    @given(st.text(alphabet=st.sampled_from(list('{}[]"\\$;\n\t ab1(ns)-')), max_size=60))
    def test_anything(self, text: str) -> None:
        """
        Whatever the text is, there is an answer with lines that it has.
        """
        topology = ns.read(text)
        self.assertTrue(topology.errors)
        for one in topology.findings:
            self.assertTrue(0 <= one.line <= text.count("\n") + 1, one)


_names = st.lists(st.from_regex(r"x[a-z0-9]{0,5}", fullmatch=True), min_size=2, max_size=5, unique=True)
_rates = st.none() | st.sampled_from(["10Mb", "64kb", "1.5Mb", "1Gb", "*", "33333333"])
_delays = st.sampled_from(["0", "5ms", "0.0013", "1.23456789ms", "250us"])
_losses = st.sampled_from(["0", "0.01", "0.333333333", "1", "1e-6"])
_values = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)


def braced(text: str) -> str:
    """
    A Tcl word that is this text.
    """
    return '"' + "".join(f"\\u{ord(one):04x}" if ord(one) < 0x10000 else one for one in text) + '"'


@st.composite
def texts(draw: Any) -> str:
    """
    NS texts of everything that means something.
    """
    nodes = draw(_names)
    lines = [f"set {name} [$ns node]" for name in nodes]
    for name in nodes:
        for command, words in (
            ("tb-set-node-os", _values.filter(str.strip)),
            ("tb-set-node-startcmd", _values),
            ("tb-set-node-failure-action", st.sampled_from(["fatal", "nonfatal", "ignore"])),
            ("tb-set-hardware", st.sampled_from(["pc", "qemu", "container", "process"])),
            ("tb-fix-node", _values),
            (
                "tb-add-node-attribute",
                st.tuples(st.sampled_from(["my:x", "partition", "hostline:cpu_max"]), st.integers(0, 9)),
            ),
        ):
            if draw(st.booleans()):
                said = draw(words)
                rest = " ".join(map(str, said)) if isinstance(said, tuple) else braced(said)
                lines.append(f"{command} ${name} {rest}")
    for n in range(draw(st.integers(0, 4))):
        one, other = draw(st.permutations(nodes))[:2]
        rate, delay, loss = draw(_rates) or "*", draw(_delays), draw(_losses)
        lines.append(f"set l({n}) [$ns duplex-link ${one} ${other} {rate} {delay} DropTail]")
        if draw(st.booleans()):
            lines.append(f"tb-set-link-loss $l({n}) {loss}")
        if draw(st.booleans()):
            lines.append(f"tb-set-link-simplex-params $l({n}) ${one} {delay} {rate} {loss}")
        if draw(st.booleans()):
            lines.append(f"tb-set-ip-link ${other} $l({n}) 10.{n}.1.7")
    if draw(st.booleans()):
        members = " ".join(f"${name}" for name in nodes)
        lines.append(f'set lan [$ns make-lan "{members}" {draw(_rates) or "*"} {draw(_delays)}]')
        lines.append(f"tb-set-node-lan-params ${nodes[0]} $lan {draw(_delays)} {draw(_rates) or '*'} {draw(_losses)}")
        lines.append(f"tb-set-lan-simplex-params $lan ${nodes[1]} 1ms 1Mb 0.5 {draw(_delays)} 2Mb {draw(_losses)}")
    return script(*lines)


class TopdlTests(SynchronousTestCase):
    """
    NS and TopDL say the same.
    """

    @given(texts())
    def test_roundTrip(self, text: str) -> None:
        """
        The TopDL of an NS text is read as the same topology, so its plan is the same.
        """
        topology = ns.read(text)
        self.assertEqual(topology.errors, ())
        again = topdl.read(topdl.write(topology.document))
        self.assertEqual(again.errors, ())
        self.assertEqual(again, topology)

    def test_converter(self) -> None:
        """
        The TopDL is what fedd's converter wrote.
        """
        topology = ns.read(
            script(
                *("set a [$ns node]", "tb-set-node-os $a debian12", "tb-set-node-startcmd $a go"),
                *("tb-fix-node $a pc42", "tb-set-node-failure-action $a nonfatal", "tb-set-hardware $a pc"),
            )
        )
        text = topdl.write(topology.document)
        for part in (
            "<os>\n        <attribute><attribute>osid</attribute><value>debian12</value></attribute>",
            *(
                "startup</attribute><value>go<",
                "fixed</attribute><value>pc42<",
                "failureaction</attribute><value>nonfatal<",
            ),
            "type</attribute><value>pc<",
        ):
            self.assertIn(part.replace("\n        ", ""), text.replace("\n        ", ""))

    def test_options(self) -> None:
        """
        The array opt is kept, and is what start commands find in their environment; a name that cannot be there is
        told of.
        """
        topology = clean("set a [$ns node]", "set opt(SIZE) 5")
        text = topdl.write(topology.document)
        self.assertIn("<attribute>opt:SIZE</attribute><value>5</value>", text)
        self.assertEqual((topology.environment, topdl.read(text).environment), ({"SIZE": "5"}, {"SIZE": "5"}))
        self.assertEqual(Topology.from_value(topology.as_value()), topology)
        ((_, told), (_, other)) = warnings("set a [$ns node]", "set opt(a-b) 5", "set opt(HOSTLINE_NODE) 5")
        self.assertIn("'a-b' is kept, but no start command finds it", told + other)
        self.assertIn("'HOSTLINE_NODE'", told + other)
        ((_, told),) = errors("set a [$ns node]", "set opt(BIG) [string repeat x 40000]")
        self.assertIn("want at most 200 variables of 32768 characters together", told)

    def test_controlCharacters(self) -> None:
        """
        What XML cannot say is an error with its line.
        """
        ((line, text),) = errors("set a [$ns node]", 'tb-set-node-startcmd $a "\\x01"')
        self.assertEqual(line, 3)
        self.assertIn("control characters", text)
