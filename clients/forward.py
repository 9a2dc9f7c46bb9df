"""
C{hostline-shell}: the forward shell, the login shell of delegates: C{echo ping | ssh del_mon@host}.

Lines from standard input, or the one after C{-c}, go to the daemon, and all that it answers to standard output.
It takes nothing apart, cuts nothing and trusts nobody: who may ask what is the daemon's business, and who asks it
learns from the kernel. After C{-c hostline-shell}, which is what C{authorized_keys} forces, the request is that of the
ssh client, C{SSH_ORIGINAL_COMMAND}; no other word of the environment is read. It must be quick to start, so it needs
little of the standard library, of ours three modules that stand beside it, and no site-packages.

Exit status: 0, all was answered, or nobody reads us; 1, the reply to the request after C{-c} was an error; 2, usage, or
an XML-RPC body, which is not answered yet; 3, no daemon, or it ended the connection with something unanswered; 124, a
deadline; 70, a fault of ours. With those from 2 on, the last line is the one C{error_reply} that says why: ours, where
the daemon has not said it itself. Ours can be read as a Python literal and as JSON.

A request may rightly take hours, so that silence proves nothing: after C{--silence} seconds of it with something
unanswered, the daemon is asked C{ping} on another connection, and only if it is silent there too, C{--ping} seconds
long, is it given up. Input that has begun nothing is ended after C{--idle} seconds, and so, quietly, is who takes
nothing of what there is to read for C{--write} seconds.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # as python3 -I -S .../hostline/clients/forward.py, which looks nowhere for what is ours
    sys.path.insert(0, __file__.removesuffix("/hostline/clients/forward.py"))

import _signal  # type: ignore[import-not-found]  # the module signal costs 4 ms
import posix

from hostline.clients.counting import command_of
from hostline.clients.passing import SECONDS, Forward, HungUp, write
from hostline.clients.reach import ANSWERED, FAULT, WRONG_USAGE, Refusal, connected

SOCKET = "/run/hostline/hostline.sock"
#: The request that stands for the one of the ssh client.
FORCED = b"hostline-shell"
USAGE = f"want hostline-shell [--socket PATH] {' '.join(f'[--{name} SECONDS]' for name in SECONDS)} [-c REQUEST]"

_PIECE = 1 << 16


def error_reply(refusal: Refusal, request: bytes | None) -> bytes:
    """
    @return: the line, which is read alike as a Python literal and as JSON, for we do not know which was agreed on.
    """
    command = (command_of(request or b"") or b"")[:64].decode("ascii", "replace")
    body = {"code": refusal.code, "message": str(refusal), "command": command}
    text = ", ".join(f"{_quoted(name)}: {_quoted(value)}" for name, value in body.items())
    return b"\n" * refusal.cut + f"error_reply {{{text}}}\n".encode("ascii")


def _quoted(text: str) -> str:
    plain = "".join(one if " " <= one <= "~" else "?" for one in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def arguments(words: list[bytes], original: bytes | None) -> tuple[bytes | None, dict[str, float], bytes | None]:
    """
    @param words: without the program's name.
    @param original: what stands in C{SSH_ORIGINAL_COMMAND}.
    @return: the socket's path, None if it was not given; the seconds; and the request, None if requests come on
        standard input.
    @raise Refusal: if they make no sense, or the request is not one line.
    """
    path, seconds = None, dict(SECONDS)
    while len(words) > 1 and words[0][:2] == b"--":
        name = words[0][2:].decode("ascii", "replace")
        if name == "socket":
            path = words[1]
        elif name in seconds and words[1].replace(b".", b"", 1).isdigit():
            seconds[name] = float(words[1])
        else:
            break
        words = words[2:]
    if not words:
        return path, seconds, None
    if words[0] != b"-c" or len(words) != 2:
        raise Refusal("BAD_ARGUMENTS", USAGE, WRONG_USAGE)
    request = original if words[1] == FORCED else words[1]
    if request is None:
        return path, seconds, None
    if b"\n" in request:
        raise Refusal("BAD_LINE", "want one request on one line; send more on standard input", WRONG_USAGE)
    if not request.strip():
        raise Refusal("BAD_ARGUMENTS", "want a request after -c; 'help' lists the commands", WRONG_USAGE)
    return path, seconds, request


def run(words: list[bytes], original: bytes | None, path: bytes) -> int:
    """
    @param words: without the program's name.
    @param original: what stands in C{SSH_ORIGINAL_COMMAND}.
    @param path: of the socket, if the words name none.
    @return: the exit status.
    """
    request, seconds = None, SECONDS
    try:
        try:
            given, seconds, request = arguments(words, original)
            path = path if given is None else given
            return Forward(connected(path, seconds["connect"]), path, request, seconds).run()
        except (HungUp, Refusal):
            raise
        except Exception as error:
            raise Refusal("INTERNAL", f"the forward shell failed: {type(error).__name__}", FAULT) from None
    except Refusal as refusal:
        try:
            write(1, error_reply(refusal, request), seconds["write"])
        except HungUp:
            return ANSWERED
        return refusal.status
    except HungUp:
        return ANSWERED


def given_words() -> list[bytes]:
    """
    @return: our arguments; each that came from outside byte for byte, whatever the locale is that somebody has set.
    """
    said = b""
    try:
        opened = posix.open("/proc/self/cmdline", posix.O_RDONLY | posix.O_CLOEXEC)
        while data := posix.read(opened, _PIECE):
            said += data
        posix.close(opened)
    except OSError:
        pass
    raw = dict(zip(sys.orig_argv, said.split(b"\0"), strict=False))
    encoding = sys.getfilesystemencoding()
    return [raw.get(word) or word.encode(encoding, "surrogateescape") for word in sys.argv[1:]]


def main(path: str = SOCKET) -> None:
    """
    The program.

    @param path: of the daemon's socket, if the arguments name none.
    """
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    for descriptor in (0, 1, 2):  # whoever closed them must not find the daemon there
        try:
            posix.fstat(descriptor)
        except OSError:
            posix.open("/dev/null", posix.O_RDWR)
    posix._exit(run(given_words(), posix.environ.get(b"SSH_ORIGINAL_COMMAND"), path.encode()))


if __name__ == "__main__":
    main()
