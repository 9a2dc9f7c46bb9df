"""
A command in a QEMU guest: its input, output and end, over ports of the guest's own.

The guest's agent only starts it. A few lines of shell, sent with it, join its streams to three virtio ports, each a
socket of QEMU's here: what nobody reads fills the port, and the command waits. A mark that nobody can guess tells where
its output begins and ends, and with what status.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hostline.server.drivers.driver import CANNOT_START, Hearer
from hostline.server.supervise.agent import Agent
from hostline.server.supervise.guest import Guest
from hostline.server.supervise.machine import STREAMS, port
from hostline.server.supervise.qmp import joined

_MOST = 1 << 16
#: Seconds between two questions whether the shell still lives, and that its last words may be on their way.
_ASK_S, _LAST_S = 3.0, 1.0
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/sh",
    "LANG": "C.UTF-8",
}
#: In a session of its own, by which it is killed.
_APART = 'command -v setsid >/dev/null && exec setsid "$0" "$@"; exec "$0" "$@"'
#: $1 $2 $3: names of ports; $4: the mark; then the command. What that leaves behind holds up nobody for long.
_JOIN = r"""
umask 077
mark=$4
for place in /sys/class/virtio-ports/*; do
    read -r name <"$place/name" || continue
    case $name in
        "$1") in=/dev/${place##*/} ;;
        "$2") out=/dev/${place##*/} ;;
        "$3") err=/dev/${place##*/} ;;
    esac
done
shift 4
exec 7<"$in" 8>"$out" 9>"$err" || exit 125
here=/run/hostline/talk.$$
rm -rf "$here"
mkdir -p "$here" && mkfifo "$here/in" "$here/out" "$here/err" || exit 125
printf %s "$mark" >&8
printf %s "$mark" >&9
cat <&7 >"$here/in" 8>&- 9>&- & feeds=$!
cat <"$here/out" >&8 7<&- 9>&- & says=$!
cat <"$here/err" >&9 7<&- 8>&- & complains=$!
(
    exec 7<&- 8>&- 9>&-
    umask 022
    cd "$HOME" || cd /
    exec "$@"
) <"$here/in" >"$here/out" 2>"$here/err"
code=$?
kill $feeds
(
    exec 7<&- 8>&- 9>&-
    sleep 2
    for one in "$says out" "$complains err"; do
        set -- $one
        ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q -e "-> $here/$2\$" && kill $1
    done
) >/dev/null 2>&1 & waits=$!
wait $says $complains
kill $waits
rm -rf "$here"
printf '%s%s\n' "$mark" $code >&9
printf '%s%s\n' "$mark" $code >&8
"""
#: The sessions to be ended; none: all.
_KILL = r"""
if [ $# -eq 0 ]; then
    for place in /run/hostline/talk.*; do
        [ ! -d "$place" ] || set -- "$@" "${place##*.}"
    done
fi
for session in "$@"; do
    for at in /proc/[0-9]*; do
        read -r line <"$at/stat" || continue
        set -- ${line##*) }
        [ "$2" = "$session" ] || [ "$4" = "$session" ] || [ "${at#/proc/}" = "$session" ] || continue
        kill -9 "${at#/proc/}"
    done 2>/dev/null
    rm -rf "/run/hostline/talk.$session"
done
exit 0
"""


class Marked:
    """
    What comes out of a port, between two marks. Pure.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._begun = False
        self._waiting = b""
        self.code: int | None = None
        self.over = False

    def feed(self, data: bytes) -> bytes:
        """
        @return: what of it the command said.
        """
        if self.over:
            return b""
        data, self._waiting = self._waiting + data, b""
        before, found, after = data.partition(self._mark)
        if not found:
            self._hold(data)
            return data[: len(data) - len(self._waiting)] if self._begun else b""
        if not self._begun:
            self._begun = True
            return self.feed(after)
        if b"\n" not in after:
            if len(after) < 8:
                self._waiting = found + after
                return before
            after = b"\n"
        word = after.partition(b"\n")[0]
        self.code = int(word) if word.isdigit() and len(word) <= 3 and int(word) < 256 else None
        self.over = True
        return before

    def _hold(self, data: bytes) -> None:
        for count in range(min(len(self._mark) - 1, len(data)), 0, -1):
            if self._mark.startswith(data[-count:]):
                self._waiting = data[-count:]
                return


class GuestTalk:
    """
    A L{hostline.server.drivers.driver.Conversation} with one command.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        hearer: Hearer,
        *,
        state: Path,
        number: int,
        agent: Agent,
        loop: asyncio.AbstractEventLoop,
        clock: IReactorTime,
        over: Callable[[], None],
    ) -> None:
        """
        @param name: of the sliver.
        @param state: where QEMU's sockets are; C{number}: of the ports.
        @param over: called once the ports are free.
        @raise OSError: if QEMU does not answer.
        """
        self._hearer = hearer
        self._agent = agent
        self._loop = loop
        self._clock = clock
        self._over = over
        self._mark = os.urandom(16).hex()
        self._streams = {stream: Marked(self._mark.encode()) for stream in STREAMS[1:]}
        self._links: dict[str, socket.socket] = {}
        self._unwritten = bytearray()
        self._input_ends = self._paused = self._closed = self._failed = False
        self._pid: int | None = None
        self._ends: int | None = None
        try:
            for stream in STREAMS:
                self._links[stream] = joined(state, port(stream, number))
        except OSError:
            self._drop()
            raise
        for stream in self._streams:
            self._loop.add_reader(self._links[stream].fileno(), self._readable, stream)
        words = [*(port(stream, number) for stream in STREAMS), self._mark, *argv]
        self._go(self._begin(name, words))

    # What who began it may do

    def write(self, data: bytes) -> None:
        if not self._input_ends and not self._closed and data:
            waiting = bool(self._unwritten)
            self._unwritten += data
            if not waiting:
                self._writable()

    @property
    def unwritten(self) -> int:
        return len(self._unwritten)

    def end_input(self) -> None:
        if not self._input_ends:
            self._input_ends = True
            self._finish_input()

    def resize(self, rows: int, columns: int) -> None:
        pass

    def pause(self) -> None:
        if not self._paused and not self._closed:
            self._paused = True
            for stream in self._streams:
                self._deaf(stream)

    def resume(self) -> None:
        if self._paused and not self._closed:
            self._paused = False
            for stream in self._streams:
                if stream in self._links:
                    self._loop.add_reader(self._links[stream].fileno(), self._readable, stream)
            self._loop.call_soon(self._perhaps_over)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._go(self._kill())

    def end(self) -> None:
        """
        The guest is gone; who listens hears so.
        """
        if not self._closed:
            self._finish(137)

    # What happens

    async def _begin(self, name: str, words: Sequence[str]) -> None:
        environment = [f"{key}={value}" for key, value in {**_ENVIRONMENT, "HOSTLINE_NODE": name}.items()]
        arguments = {
            "path": "/bin/sh",
            "arg": ["-c", _APART, "/bin/sh", "-c", _JOIN, "hostline", *words],
            "env": environment,
        }
        try:
            said = await self._agent.call("guest-exec", arguments)
            pid = said.get("pid") if isinstance(said, dict) else None
            if type(pid) is not int or pid <= 1:
                raise OSError("the guest's agent started nothing")
        except OSError as error:
            if not self._closed:
                self._hearer.said("err", f"{error}\n".encode())
                self._finish(CANNOT_START)
            return
        self._pid = pid
        if self._closed:
            return
        self._writable()
        self._finish_input()
        await self._watch(pid)

    async def _watch(self, pid: int) -> None:
        """
        Learn of the end of a shell that cannot tell of it any more.
        """
        while not self._closed:
            await deferLater(self._clock, _ASK_S)
            if self._closed or all(stream.over for stream in self._streams.values()):
                return
            with suppress(OSError):
                said = await self._agent.call("guest-exec-status", {"pid": pid})
                if isinstance(said, dict) and said.get("exited") is True:
                    await deferLater(self._clock, _LAST_S)
                    while self._paused and not self._closed:
                        await deferLater(self._clock, _LAST_S)
                    if not self._closed:
                        self._finish(_status(said))
                    return

    def _readable(self, stream: str) -> None:
        try:
            data = self._links[stream].recv(_MOST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # QEMU ends; the driver tells when it has
            self._deaf(stream)
            self._links.pop(stream).close()
            return
        marked = self._streams[stream]
        said = marked.feed(data)
        if said:
            self._hearer.said(stream, said)
        self._perhaps_over()

    def _perhaps_over(self) -> None:
        if not self._closed and not self._paused and all(stream.over for stream in self._streams.values()):
            self._finish(self._streams["out"].code)

    def _finish(self, code: int | None) -> None:
        self._closed = True
        self._go(self._forget())
        self._hearer.ended(code)

    async def _forget(self) -> None:
        """
        Let the agent forget the shell, too.
        """
        self._drop()
        if self._pid is not None:
            with suppress(OSError):
                await self._agent.call("guest-exec-status", {"pid": self._pid})
        self._over()

    async def _kill(self) -> None:
        deadline = self._clock.seconds() + _ASK_S
        while self._pid is None and not self._failed and self._clock.seconds() < deadline:
            await deferLater(self._clock, 0.05)
        self._drop()
        if self._pid is not None:
            with suppress(OSError):
                await self._agent.call(
                    "guest-exec", {"path": "/bin/sh", "arg": ["-c", _KILL, "hostline", str(self._pid)]}
                )
        await self._forget()

    def _writable(self) -> None:
        link = self._links.get("in")
        if link is None or self._pid is None:  # nobody reads it yet
            return
        try:
            written = link.send(self._unwritten[:_MOST]) if self._unwritten else 0
        except BlockingIOError:
            written = 0
        except OSError:
            self._unwritten.clear()
            return
        del self._unwritten[:written]
        if self._unwritten:
            self._loop.add_writer(link.fileno(), self._writable)
        else:
            self._loop.remove_writer(link.fileno())
            self._finish_input()

    def _finish_input(self) -> None:
        if self._input_ends and not self._unwritten and self._pid is not None and "in" in self._links:
            with suppress(OSError):
                self._links["in"].shutdown(socket.SHUT_WR)  # not closed: QEMU would forget what it has not read yet

    def _deaf(self, stream: str) -> None:
        if stream in self._links:
            self._loop.remove_reader(self._links[stream].fileno())

    def _drop(self) -> None:
        for link in self._links.values():
            self._loop.remove_reader(link.fileno())
            self._loop.remove_writer(link.fileno())
            link.close()
        self._links.clear()
        self._unwritten.clear()

    def _go(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(lambda failure: None if self._closed else failure)


async def end_talks(guest: Guest) -> None:
    """
    End every command that an earlier daemon began in a guest: nobody listens to it.

    @raise OSError: if the guest does not answer.
    """
    await guest.run(["/bin/sh", "-c", _KILL, "hostline"])


def _status(said: dict[str, Any]) -> int:
    code, signal = said.get("exitcode"), said.get("signal")
    if type(signal) is int and 0 < signal < 128:
        return 128 + signal
    return code if type(code) is int and 0 < code <= 255 else CANNOT_START
