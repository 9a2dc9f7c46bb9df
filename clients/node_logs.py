"""
C{hostline logs PROJECT/EXPERIMENT --tar FILE}: what all nodes of an experiment wrote, as one tar.
"""

from __future__ import annotations

import sys
import tarfile
import time
from base64 import b64decode
from pathlib import Path
from tempfile import TemporaryFile

from hostline.clients.output import CannotWrite, complain, say, terminal
from hostline.clients.settings import OK, Settings, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

USAGE = "hostline logs PROJECT/EXPERIMENT --tar FILE [nodes=NODE,..] [stream=LOG]"
#: Bytes of a log that are kept in memory; what is longer is in a file until it is whole.
_PIECE = 1 << 20


def logs(ask: Callable[..., Any], experiment: str, **options: Any) -> Iterator[tuple[str, str, IO[bytes], int]]:
    """
    All logs, one after the other.

    @param ask: says a command and gives the body of its reply.
    @return: node, log, a file at its beginning, and its size.
    """
    since = None
    now: tuple[str, str] | None = None
    with TemporaryFile(buffering=_PIECE) as file:
        while True:
            page = ask("node_logs", experiment, **options, **({"since": since} if since else {}))
            for piece in page["pieces"]:
                which = piece["node"], piece["log"]
                if now is not None and which != now:
                    yield (*now, *_whole(file))
                    file.seek(0)
                    file.truncate()
                now = which
                file.write(b64decode(piece["base64"]))
            since = page["next"]
            if since is None:
                break
        if now is not None:
            yield (*now, *_whole(file))


def _whole(file: IO[bytes]) -> tuple[IO[bytes], int]:
    size = file.tell()
    file.seek(0)
    return file, size


def write(out: IO[bytes], ask: Callable[..., Any], experiment: str, **options: Any) -> int:
    """
    Write the tar: C{EXPERIMENT/NODE/LOG}, C{.log} behind each.

    @return: how many logs it has.
    """
    count = 0
    with tarfile.open(fileobj=out, mode="w|") as tar:
        for node, log, file, size in logs(ask, experiment, **options):
            entry = tarfile.TarInfo(f"{experiment.replace('/', '-')}/{node}/{log}.log")
            entry.size, entry.mtime, entry.mode = size, int(time.time()), 0o644
            tar.addfile(entry, file)
            count += 1
    return count


def run(words: list[str], settings: Settings) -> int:
    """
    @param words: behind C{logs}.
    @return: the exit status.
    """
    experiment, target, options = _read(words)
    if target == "-" and terminal():
        raise Usage("a tar is nothing for a terminal: want --tar FILE", USAGE)
    client = settings.client()
    if target == "-":
        write(sys.stdout.buffer, client.request, experiment, **options)
        sys.stdout.buffer.flush()
        return OK
    path = Path(target)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as out:
            count = write(out, client.request, experiment, **options)
        part.replace(path)
    except OSError as error:
        raise CannotWrite(f"cannot write {target}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    if terminal():
        say(f"{count} logs in {target}\n")
    elif not count:
        complain("no node has written anything")
    return OK


def _read(words: list[str]) -> tuple[str, str, dict[str, Any]]:
    target, experiment = "", ""
    options: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name == "--tar" and (equals or rest):
            target = value if equals else rest.pop(0)
        elif name.removeprefix("--") in ("nodes", "stream") and equals:
            name = name.removeprefix("--")
            options[name] = [one for one in value.strip("[]").split(",") if one] if name == "nodes" else value
        elif not experiment and not word.startswith("-"):
            experiment = word
        else:
            raise Usage(f"no argument {word} here", USAGE)
    if not experiment or not target:
        raise Usage("want an experiment, and a FILE behind --tar", USAGE)
    return experiment, target, options
