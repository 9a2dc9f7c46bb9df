"""
How a command in a QEMU guest is joined to ports of the guest's, and told from what is said of it.

A few lines of shell, sent to the guest's agent with the command: the guest needs no program of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hostline.server.supervise.guest import Guest

_OWN = {
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
tries=0
until (exec 8>"$out" 9>"$err") 2>/dev/null; do # the one before may just be leaving; what waits at $in would be lost
    tries=$((tries + 1))
    [ $tries -lt 50 ] || exit 125
    sleep 0.2
done
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
wait $feeds
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


def begun(name: str, words: Sequence[str]) -> dict[str, Any]:
    """
    @param name: of the sliver.
    @param words: names of the ports for input, output and errors; the mark; the command.
    @return: arguments for C{guest-exec}.
    """
    environment = [f"{key}={value}" for key, value in {**_OWN, "HOSTLINE_NODE": name}.items()]
    argv = ["-c", _APART, "/bin/sh", "-c", _JOIN, "hostline", *words]
    return {"path": "/bin/sh", "arg": argv, "env": environment}


def ended(pid: int) -> dict[str, Any]:
    """
    @param pid: of what was begun.
    @return: arguments for C{guest-exec} that kill it, with all in its session.
    """
    return {"path": "/bin/sh", "arg": ["-c", _KILL, "hostline", str(pid)]}


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


async def end_talks(guest: Guest) -> None:
    """
    End every command that an earlier daemon began in a guest: nobody listens to it.

    @raise OSError: if the guest does not answer.
    """
    await guest.run(["/bin/sh", "-c", _KILL, "hostline"])
