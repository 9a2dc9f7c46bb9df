"""
A Tcl interpreter for scripts that nobody trusts: Tcl's own library, its safe interpreter, and limits.

A script reaches no file, process, socket, clock or channel; what it does not find it asks us for, by Tcl's own
C{unknown}. It is one piece of an offload child's work, and what Tcl cannot stop by itself (a regular expression that
takes for ever, an allocation that fails) ends that child with an error that names the line.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from ctypes import POINTER, byref, c_int, c_void_p
from typing import Any

from attrs import frozen

from hostline.server.experiments.tcl_library import ERROR, GLOBAL_ONLY, OK, RETURN, Callback, library
from hostline.server.experiments.watchdog import Watchdog

#: Seconds of processor time for a whole script; and of the clock, where the host is busy, if nothing else is said.
PROCESSOR_S = 2.5
CLOCK_S = 3.0
#: Commands inside one another.
DEPTH_MAX = 300
_STEP_S = 0.5
#: Levels that are looked at, and bytes of a command, to find its line.
_LEVELS_MAX = 40
_COMMAND_MAX = 400
#: What even a safe interpreter has and a topology has no use for: time, channels, interpreters, traps.
_HIDDEN = (
    "after chan clock close eof fblocked fcopy fileevent flush gets interp package pid puts read seek tell time trace "
    "update vwait zlib"
)
_START = f"""
interp create -safe user
foreach one {{{_HIDDEN}}} {{interp hide user $one}}
interp eval user {{
    namespace delete ::tcl::unsupported ::tcl::chan ::tcl::clock ::tcl::zlib
    foreach one {{hostname library loaded nameofexecutable script sharedlibextension}} {{
        catch {{rename ::tcl::info::$one {{}}}}
    }}
    unset -nocomplain one ::tcl_platform ::env ::tcl_version ::tcl_patchLevel
    expr {{srand(1)}}
    namespace eval ::hostline {{variable made; array set made {{}}}}
    rename ::set ::hostline::set
    proc ::set {{args}} {{
        if {{[llength $args] == 2 && [info exists ::hostline::made([lindex $args 1])]}} {{
            ::hostline::set args [list [lindex $args 0] [::hostline::name {{*}}$args]]
        }}
        tailcall ::hostline::set {{*}}$args
    }}
}}
interp recursionlimit user {DEPTH_MAX}
interp alias user unknown {{}} hostline
interp alias user ::hostline::name {{}} hostline ::hostline::name
"""


class Refused(Exception):
    """What a command of ours says to the script: a Tcl error, which it may catch."""


@frozen
class Frame:
    """
    Where the script is, one level of it.

    @ivar procedure: whose body C{line} counts from; empty: the script that was evaluated.
    @ivar command: the source of the command, its first line.
    """

    line: int
    procedure: str
    command: str


@frozen
class Trouble:
    """
    Why a script ended.

    @ivar line: of the outermost command, counted from 1 within the script.
    @ivar trace: Tcl's errorInfo.
    @ivar limit: whether it was stopped for the time it took.
    """

    text: str
    line: int
    trace: str
    limit: bool = False


class Interpreter:
    """
    One script's interpreter; of use for one script only.

    @ivar stopped: once it was stopped for the time it takes, how much that was.
    """

    def __init__(
        self,
        unknown: Callable[[list[str]], str],
        watchdog: Watchdog | None = None,
        clock_s: Callable[[], float] = lambda: CLOCK_S,
    ) -> None:
        """
        @param unknown: called with the words of every command that Tcl does not have; gives its result, or raises
            L{Refused}. With the first word C{::hostline::name} and a variable and an object (L{made}) it is asked for
            the name that the object has from now on, and the variable's value.
        @param watchdog: told what is being done, so that it can end the process.
        @param clock_s: how many seconds of the clock the script has, as far as it has come.
        @raise TclMissing: there is no Tcl.
        """
        self._tcl = library()
        self._unknown = unknown
        self._watchdog = watchdog
        self._clock_s = clock_s
        self._length = c_int()
        self._bug: BaseException | None = None
        self._asking = False
        self.stopped = "too much time"
        self._began: float | None = None
        self._processor = 0.0
        self._interp = self._tcl.Tcl_CreateInterp()
        self._commands = (Callback(self._called), Callback(self._limit))
        for name, command in zip((b"hostline", b"hostline_limit"), self._commands, strict=True):
            self._tcl.Tcl_CreateObjCommand(self._interp, name, command, None, None)
        start = _START.encode()
        if self._tcl.Tcl_EvalEx(self._interp, start, len(start), GLOBAL_ONLY) != OK:
            raise RuntimeError(f"Tcl does not start: {self._result(self._interp)}")
        self._user = self._tcl.Tcl_GetSlave(self._interp, b"user")
        self._kept = _Objects(self._tcl, ["info", "frame", "line", "proc", "cmd"])
        self._words = self._kept.__enter__()

    def close(self) -> None:
        """
        Give back what it holds.
        """
        self._kept.__exit__()
        self._tcl.Tcl_DeleteInterp(self._interp)

    def evaluate(self, script: str, line: int = 1) -> Trouble | None:
        """
        Run a piece of the script.

        @param line: where it begins in the whole, for the watchdog.
        @return: what was wrong, if anything. A C{return} ends it well.
        @raise Exception: any that C{unknown} raised besides L{Refused}.
        """
        if self._began is None:
            self._began, self._processor = time.monotonic(), time.process_time()
            self._set_limit()
        if self._watchdog is not None:
            self._watchdog.line = line
        with _Objects(self._tcl, [script]) as (one,):
            code = self._tcl.Tcl_EvalObjEx(self._user, one, 0)
            if self._bug is not None:
                raise self._bug
            if code in (OK, RETURN):
                return None
            return self._trouble(code)

    def complete(self, script: str, line: int = 1) -> bool:
        """
        Whether a script does not end inside a brace, a quote or a bracket.

        @param line: as for L{evaluate}.
        """
        if self._watchdog is not None:
            self._watchdog.line = line
        return bool(self._tcl.Tcl_CommandComplete(_bytes(script)))

    def made(self, name: str) -> None:
        """
        Let C{name} be an object that takes the name of the first variable it is put into.
        """
        self._tcl.Tcl_SetVar2(self._user, b"::hostline::made", _bytes(name), b"1", GLOBAL_ONLY)

    def named(self, name: str) -> None:
        """
        Let C{name} be such an object no more.
        """
        self._tcl.Tcl_UnsetVar2(self._user, b"::hostline::made", _bytes(name), GLOBAL_ONLY)

    def call(self, *words: str) -> str:
        """
        The result of one command in the script's interpreter, as if the script had it where it is; empty if it fails.
        """
        with _Objects(self._tcl, words) as objects:
            return self._result(self._user) if self._asked(objects) else ""

    def words(self, value: str) -> list[str]:
        """
        The elements of a Tcl list.

        @raise Refused: it is none.
        """
        with _Objects(self._tcl, [value]) as (one,):
            count, items = c_int(), POINTER(c_void_p)()
            if self._tcl.Tcl_ListObjGetElements(self._interp, one, byref(count), byref(items)) != OK:
                raise Refused(self._result(self._interp))
            return [self._text(items[at]) for at in range(count.value)]

    def frames(self) -> Iterator[Frame]:
        """
        Where the script is while one of its commands is with us, from the innermost level to the outermost.
        """
        info, frame = self._words[0], self._words[1]
        for level in range(_LEVELS_MAX):
            with _Objects(self._tcl, [str(-level)]) as (number,):
                if not self._asked([info, frame, number]):
                    return
            told = self._tcl.Tcl_GetObjResult(self._user)
            found = []
            for key in self._words[2:]:
                value = c_void_p()
                self._tcl.Tcl_DictObjGet(None, told, key, byref(value))
                found.append(self._text(value.value, _COMMAND_MAX) if value.value else "")
            line, procedure, command = found
            if line.isdigit():
                yield Frame(int(line), procedure.removeprefix("::"), command.partition("\n")[0])

    def level(self) -> int:
        """
        How many procedures the script is in.
        """
        level = self.call("info", "level")
        return int(level) if level.isdigit() else 0

    # -- Tcl's side

    def _asked(self, objects: Sequence[Any]) -> bool:
        # A script may have taken away the command that we ask: then nobody is asked for it.
        before, self._asking = self._asking, True
        code = self._tcl.Tcl_EvalObjv(self._user, len(objects), (c_void_p * len(objects))(*objects), 0)
        self._asking = before
        return bool(code == OK)

    def _called(self, _data: Any, interp: Any, count: int, objects: Any) -> int:
        try:
            if self._bug is not None or self._asking:
                return ERROR
            words = [self._text(objects[at]) for at in range(1, count)]
            return self._answer(OK, self._unknown(words))
        except Refused as error:
            return self._answer(ERROR, str(error))
        except BaseException as error:
            self._bug = error
            return ERROR

    def _limit(self, _data: Any, interp: Any, count: int, objects: Any) -> int:
        # The limit is one of the clock; it is drawn out as long as the script had little of the processor.
        used = time.process_time() - self._processor
        passed, most = time.monotonic() - (self._began or 0), self._clock_s()
        if used >= PROCESSOR_S:
            self.stopped = f"more than {PROCESSOR_S:g} s of processor time"
        elif passed >= most:
            self.stopped = f"more than {most:.3g} s"
        else:
            self._set_limit()
        return OK

    def _set_limit(self) -> None:
        seconds, part = divmod(time.time() + _STEP_S, 1)
        limit = f"interp limit user time -granularity 1 -command hostline_limit -seconds {int(seconds)} -milliseconds "
        script = (limit + str(int(part * 1000))).encode()
        self._tcl.Tcl_EvalEx(self._interp, script, len(script), GLOBAL_ONLY)

    def _answer(self, code: int, text: str) -> int:
        data = _bytes(text)
        self._tcl.Tcl_SetObjResult(self._interp, self._tcl.Tcl_NewStringObj(data, len(data)))
        return code

    def _trouble(self, code: int) -> Trouble:
        text = self._result(self._user)
        limit = bool(self._tcl.Tcl_LimitExceeded(self._user))
        if code != ERROR:
            return Trouble("'break' or 'continue' outside a loop", 1, "", limit)
        line, trace = 1, ""
        options = self._tcl.Tcl_GetReturnOptions(self._user, code)
        self._tcl.Tcl_DbIncrRefCount(options, b"", 0)
        with _Objects(self._tcl, ["-errorline", "-errorinfo"]) as keys:
            found = [c_void_p(), c_void_p()]
            for key, value in zip(keys, found, strict=True):
                self._tcl.Tcl_DictObjGet(None, options, key, byref(value))
            if found[0]:
                line = int(self._text(found[0].value))
            if found[1]:
                trace = self._text(found[1].value)
        self._tcl.Tcl_DbDecrRefCount(options, b"", 0)
        return Trouble(text.replace("::hostline::set", "set"), line, trace, limit)

    def _result(self, interp: Any) -> str:
        return self._text(self._tcl.Tcl_GetObjResult(interp))

    def _text(self, one: Any, most: int = 2**31) -> str:
        start = self._tcl.Tcl_GetStringFromObj(one, byref(self._length))
        data = ctypes.string_at(start, min(self._length.value, most))
        return data.decode("ascii") if data.isascii() else _string(data)


class _Objects:
    """
    Texts as Tcl's values, given back at the end.
    """

    def __init__(self, tcl: Any, texts: Sequence[str]) -> None:
        self._tcl = tcl
        self._texts = [_bytes(one) for one in texts]
        self._objects: list[Any] = []

    def __enter__(self) -> list[Any]:
        for data in self._texts:
            self._objects.append(self._tcl.Tcl_NewStringObj(data, len(data)))
            self._tcl.Tcl_DbIncrRefCount(self._objects[-1], b"", 0)
        return self._objects

    def __exit__(self, *_: object) -> None:
        for one in self._objects:
            self._tcl.Tcl_DbDecrRefCount(one, b"", 0)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").replace(b"\0", b"\xc0\x80")


def _string(data: bytes) -> str:
    # Tcl 8.6 may cut a character outside the basic plane into its two surrogates, and any text at any byte.
    plain = data.replace(b"\xc0\x80", b"\0")
    try:
        return plain.decode()
    except UnicodeDecodeError:
        pass
    try:
        return plain.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    except UnicodeDecodeError:
        return plain.decode("utf-8", "replace")
