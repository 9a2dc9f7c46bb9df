"""
How the shim is called, and what its files say.

One boot of one sliver has a directory C{RUN/slivers/SERIAL/BOOT}, in which C{shim.sh} (two shells: the keeper, and
its child, the node's own process) leaves these files; each is complete once it ends with a newline::

    shim      pid and start time of the keeper; its making decides who runs this boot
    node      pid and start time of the node's own process
    up        cgroups and mounts are as they should be; C{up 0} if there is no start command
    started   the start command was started
    ended     its exit status
    exit      the exit status of the node's own process, 128+signal if killed
    errors    what our own tools had to say
    latch     made by the daemon where there is a network namespace: the FIFO at which the boot waits for its interfaces
    command   written by the daemon: the start command, which is nobody else's to read, as arguments are
    stopped   written by the daemon: what comes now is on purpose
    initscript.begun  pid and start time of who runs the initscript, and the mark of its text
    initscript        its exit status

Under a root daemon only root can write here: nothing that a sliver's users run can forge them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from hostline.server.supervise.homes import Home

SHELL = "/bin/sh"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: The variable that marks all processes of a sliver: C{INSTANCE/SERIAL}.
TAG = "HOSTLINE_SLIVER"
#: The keeper's exit statuses when it did not run the boot.
LOST_THE_RACE, CANNOT_WRITE = 3, 4
_LIMIT = 4096
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SCRIPT = Path(__file__).with_name("shim.sh")


@frozen
class Process:
    """
    A process that cannot be mistaken for a later one with its pid.
    """

    pid: int
    started: int


@frozen
class Initscript:
    """
    The newest run of an initscript.

    @ivar runner: who runs it, outside the sliver's cgroup, and notes its end.
    @ivar mark: of its text, see L{mark}.
    @ivar code: its exit status; None while it runs.
    """

    runner: Process
    mark: str
    code: int | None = None


@frozen
class Boot:
    """
    What the files of one boot say.

    @ivar keeper: None if no keeper has begun this boot (or it died at its first breath: then C{begun}).
    @ivar begun: whether a keeper made its file, complete or not.
    @ivar has_command: whether there is a start command; known once C{up}.
    """

    begun: bool = False
    keeper: Process | None = None
    node: Process | None = None
    up: bool = False
    has_command: bool = False
    started: bool = False
    ended: int | None = None
    exit: int | None = None
    stopped: bool = False
    errors: str = ""
    initscript: Initscript | None = None


def parse_process(data: bytes | None) -> Process | None:
    """
    @return: None unless C{data} is one complete line of two numbers.
    """
    words = _line(data).split()
    if len(words) != 2 or not all(word.isdigit() and len(word) < 20 for word in words):
        return None
    return Process(int(words[0]), int(words[1]))


def parse_code(data: bytes | None) -> int | None:
    """
    @return: None unless C{data} is one complete line with an exit status.
    """
    line = _line(data)
    return int(line) if line.isdigit() and len(line) <= 3 else None


def mark(text: str) -> str:
    """
    @return: what tells a text from another.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _initscript(directory: Path) -> Initscript | None:
    words = _line(_read(directory, "initscript.begun")).split()
    runner = parse_process(" ".join(words[:2]).encode() + b"\n")
    if len(words) != 3 or runner is None:
        return None
    return Initscript(runner, words[2], parse_code(_read(directory, "initscript")))


def read_boot(directory: Path) -> Boot:
    """
    Read all files of a boot; what is missing, cut short or garbled counts as not written.
    """
    keeper = _read(directory, "shim")
    up = _line(_read(directory, "up"))
    boot_exit = parse_code(_read(directory, "exit"))
    failed = boot_exit is not None and not up
    return Boot(
        begun=keeper is not None,
        keeper=parse_process(keeper),
        node=parse_process(_read(directory, "node")),
        up=up.startswith("up "),
        has_command=up.startswith("up ") and up != "up 0",
        started=_read(directory, "started") == b"started\n",
        ended=parse_code(_read(directory, "ended")),
        exit=boot_exit,
        stopped=_read(directory, "stopped") is not None,
        errors=(_read(directory, "errors") or b"").decode("utf-8", "replace").strip() if failed else "",
        initscript=_initscript(directory),
    )


def write_end(directory: Path, code: int) -> None:
    """
    Make the files of a boot that ended, with a keeper that nobody knows.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "exit").write_text(f"{code}\n")
    (directory / "shim").write_text("\n")


def keeper_argv(
    script: Path,
    *,
    serial: int,
    directory: Path,
    home: str,
    log: str,
    clock: float,
    fstab: Path | None = None,
    unshare: str = "-m",
    cgroup_procs: Sequence[Path] = (),
    command: Sequence[str] = (),
) -> list[str]:
    """
    @param home, log: the start command's directory and that of its output, as seen inside.
    @param clock: Unix time at which the host's C{CLOCK_BOOTTIME} was 0.
    @param fstab: what to mount in a mount namespace of the sliver's own; None for no such namespace.
    @param unshare: which namespaces, in the words of C{unshare}.
    @param command: the whole argv of the start command; empty if there is none.
    """
    words = [SHELL, str(script), "keep", str(serial), str(directory), str(fstab or ""), unshare]
    return [*words, home, log, str(int(clock)), *(str(path) for path in cgroup_procs), "--", *command]


def command_environment(home: Home, *, name: str, tag: str, more: Mapping[str, str]) -> dict[str, str]:
    """
    @param more: of the sliver's own; it may change everything but the tag.
    @return: all that a start command sees.
    @raise ValueError: if one of the names is none.
    """
    for variable in more:
        if not _VARIABLE.match(variable):
            raise ValueError(f"want the name of an environment variable, got {variable!r}")
    return {
        "PATH": PATH,
        "HOME": home.home,
        "TMPDIR": home.tmp,
        "USER": home.node,
        "LOGNAME": home.node,
        "SHELL": SHELL,
        "LANG": "C.UTF-8",
        "HOSTLINE_NODE": name,
        "HOSTLINE_LOG": home.log,
        **more,
        TAG: tag,
    }


def write_command(directory: Path, command: str, gid: int | None) -> None:
    """
    Put a start command where L{command_argv} finds it: the shim opens it before it gives up root, the sliver's shell
    reads it by its descriptor, and closes that first.

    @param gid: the sliver's group, which may read it too; None: ours alone.
    @raise ValueError: if it cannot be a command.
    """
    if "\0" in command:
        raise ValueError("want a start command without NUL")
    fresh = directory / "command.new"
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        if gid is not None:
            os.fchown(fd, -1, gid)
            os.fchmod(fd, 0o640)
        file.write(b"exec 9<&-; " + os.fsencode(command) + b"\n")
    fresh.replace(directory / "command")


def become_argv(uid: int | None) -> list[str]:
    """
    @param uid: the user and group to become, giving up every other privilege for ever; None: stay who we are.
    @return: what to put before a program.
    """
    if uid is None:
        return []
    argv = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--no-new-privs"]
    return [*argv, "--inh-caps=-all", "--bounding-set=-all"]


def command_argv(*, environment: Mapping[str, str], uid: int | None) -> list[str]:
    """
    @param environment: all that the start command will see: it is set last, so that nothing in it (C{LD_PRELOAD}) can
        touch what runs before as root.
    @param uid: the user and group to become, giving up every other privilege for ever; None: stay who we are.
    @return: what runs the start command that is open as descriptor 9, in a session of its own.
    """
    argv = [
        *become_argv(uid),
        "setsid",
    ]  # only now: what is still root stays in the keeper's session, by which it is known to be ours
    argv += ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
    return [*argv, SHELL, "-c", ". /proc/self/fd/9"]


def fstab(binds: Sequence[tuple[Path, str]]) -> str:
    """
    @param binds: which directory to show at which place.
    @return: the lines for C{mount -a -T}; a place under which one of the directories itself lies comes last.
    """
    sources = [source for source, _ in binds]
    ordered = sorted(binds, key=lambda bind: any(source.is_relative_to(bind[1]) for source in sources))
    return "".join(f"{_escaped(str(source))} {_escaped(target)} none bind 0 0\n" for source, target in ordered)


def file_line(file: Path, place: str) -> str:
    """
    @return: a line for C{mount -a -T}: a file of ours, which a sliver cannot change.
    """
    return f"{_escaped(str(file))} {_escaped(place)} none bind,ro,nosuid,nodev,noexec 0 0\n"


def door_line(door: Path, place: str) -> str:
    """
    @return: the last line for C{mount -a -T}: the directory with a sliver's own socket, which it cannot change.
    """
    return f"{_escaped(str(door))} {_escaped(place)} none bind,ro,nosuid,nodev,noexec 0 0\n"


def install(run: Path) -> Path:
    """
    Copy the shim to C{RUN/shim-HASH.sh}: a shell reads its script as it goes, so a script that runs never changes.
    """
    content = _SCRIPT.read_bytes()
    path = run / f"shim-{hashlib.sha256(content).hexdigest()[:16]}.sh"
    if not path.exists() or path.read_bytes() != content:
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(path)
    return path


def _escaped(path: str) -> str:
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in path)


def _line(data: bytes | None) -> str:
    if not data or not data.endswith(b"\n") or data.count(b"\n") != 1:
        return ""
    return data[:-1].decode("ascii", "replace")


def _read(directory: Path, name: str) -> bytes | None:
    try:
        fd = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(fd, _LIMIT)
    except OSError:
        return None
    finally:
        os.close(fd)
