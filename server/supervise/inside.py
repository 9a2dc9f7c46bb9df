"""
What of ours is seen in every container, read-only: C{boot}, catatonit, the C{hostline} client; and what is seen in one.

C{/.hostline/bin} and C{lib} are the same for all, in C{RUN/inside-HASH}; C{/.hostline/own} is the container's, with its
start command and initscript; C{/.hostline/said} is where it tells what happened (L{hostline.server.supervise.said}).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import which

import hostline
from hostline.server.supervise.bundle import OURS
from hostline.server.supervise.quoting import exports
from hostline.server.supervise.shim import PATH

_HERE = Path(__file__).parent
_CATATONITS = ("/usr/libexec/podman/catatonit", "/usr/lib/podman/catatonit", "/usr/libexec/catatonit/catatonit")
#: The C{hostline} command of images that have Python.
CLIENT = f"""#!/bin/sh
command -v python3 >/dev/null || {{ echo 'hostline: there is no python3 in this image' >&2; exit 127; }}
exec python3 -IS -c 'import sys; sys.path.insert(0, "{OURS}/lib"); sys.argv[0] = "hostline"
try:
    from hostline.clients.main import main
    main()
except ModuleNotFoundError as error:
    sys.exit(f"hostline: the python3 of this image is not whole: {{error}} (Debian: apt install python3)")' "$@"
"""


class Incomplete(Exception):
    """
    Something that every container needs is not on this host.
    """


def install(run: Path) -> Path:
    """
    Put together what all containers see; it is never changed, for some that run may see it.

    @return: C{RUN/inside-HASH}.
    @raise Incomplete: naming what is missing.
    @raise OSError: if it cannot be written.
    """
    catatonit = which("catatonit", path=PATH) or next((one for one in _CATATONITS if Path(one).exists()), None)
    if catatonit is None:
        raise Incomplete("there is no catatonit (Debian: apt install catatonit)")
    files = {
        "bin/catatonit": Path(catatonit).read_bytes(),
        "bin/boot": (_HERE / "boot.sh").read_bytes(),
        "bin/packages": (_HERE / "packages.sh").read_bytes(),
        "bin/initscript": (_HERE / "initscript.sh").read_bytes(),
        "bin/hostline": CLIENT.encode(),
        "lib/hostline/__init__.py": Path(hostline.__file__).read_bytes(),
    }
    for package in ("protocol", "clients"):
        top = Path(hostline.__file__).with_name(package).resolve()
        for source in sorted(top.rglob("*.py")):
            files[f"lib/hostline/{package}/{source.relative_to(top)}"] = source.read_bytes()
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    place = run / f"inside-{digest.hexdigest()[:16]}"
    if not place.exists():
        fresh = run / f"inside-new-{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755 if name.startswith("bin/") else 0o644)
        for name in ("own", "said"):
            (fresh / name).mkdir()
        for directory in (fresh, *(one for one in fresh.rglob("*") if one.is_dir())):
            directory.chmod(0o755)
        fresh.rename(place)
    return place


def prepare_own(
    directory: Path,
    first_uid: int,
    command: str | None,
    environment: Mapping[str, str],
    initscript: str | None,
    packages: Sequence[str] = (),
) -> None:
    """
    Make the directory that a container sees as C{own}.

    @param packages: those to be installed before anything else runs.

    @raise OSError: if that fails.
    @raise ValueError: if the command or its environment cannot be such.
    """
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    if command is not None:
        write_own(directory / "command", first_uid, command_text(command, environment))
    if initscript is not None:
        write_own(directory / "initscript", first_uid, initscript)
    if packages:
        write_own(directory / "packages", first_uid, " ".join(packages) + "\n")


def command_text(command: str, environment: Mapping[str, str]) -> str:
    """
    @return: what the container's shell reads as its start command.
    @raise ValueError: if it cannot be one.
    """
    if "\0" in command:
        raise ValueError("want a start command without NUL")
    return f"{exports(environment)}{command}\n"


def write_own(path: Path, first_uid: int, text: str) -> None:
    """
    Put a script into a container's C{own}, for its root to read and run; in one step, also while it runs.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o500)
    with os.fdopen(fd, "wb") as file:
        os.fchown(fd, first_uid, first_uid)
        os.fchmod(fd, 0o500)
        file.write(text.encode("utf-8", "surrogateescape"))
    fresh.replace(path)


def read_own(path: Path) -> str | None:
    """
    @return: the text of such a script; None if there is none.
    """
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return None
