"""
Run as a program of its own: C{unpack_guest.py WORK BLOB BYTES READY} takes a qcow2 disk, or a tar of C{kernel},
C{initrd}, C{disk.qcow2} and C{guest.json}, compressed or not, and makes C{WORK/guest} of it.

Whoever made the disk may have made it to read the host's files, by a reference to another file, or to have qemu-img
work for ever. So its head is read here first, and refused if it refers to anything; qemu-img is then run as nobody,
and writes what the guest would see into a disk of its own: nothing of the old one's structure is kept.
"""

# ruff: noqa: PTH123

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "twistd_plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from hostline.server.supervise.readiness import BadRule, Rule
from hostline.server.supervise.unpack import Refused, confine, members, plain, reading

#: The most bytes that a guest sees of a disk.
MOST_VIRTUAL = 4 << 40
_MAGIC = b"QFI\xfb"
_HEAD = 104
_NAMES = ("kernel", "initrd", "disk.qcow2", "guest.json")
_MACHINES = ("q35", "microvm")
_NOBODY = 65534
#: Seconds of the processor that qemu-img may take.
_CPU_S = 3600
#: CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID.
_RIGHTS = (0, 1, 3, 6, 7)
_CHUNK = 1 << 20
_DOCUMENT = 65536


def check_head(head: bytes, size: int) -> int:
    """
    @param head: the first bytes of a qcow2 file.
    @param size: of the file.
    @return: bytes of the disk that a guest sees.
    @raise Refused: if it is none, refers to another file, or cannot be as it says.
    """
    if len(head) < 72 or not head.startswith(_MAGIC):
        raise Refused("it is no qcow2 disk")
    version, backing, name_size, bits, virtual, crypt, l1_size, l1, refcounts, ref_size, _, _ = struct.unpack(
        ">IQIIQIIQQIIQ", head[4:72]
    )
    if version not in (2, 3):
        raise Refused(f"it is qcow of version {version}, want 2 or 3")
    if backing or name_size:
        raise Refused("its disk refers to a backing file, which is not in it (qemu-img convert makes one of both)")
    if version == 3:
        if len(head) < _HEAD:
            raise Refused("its disk is cut off")
        features = struct.unpack(">Q", head[72:80])[0]
        if features & 4:
            raise Refused("its disk keeps its data in another file")
        if features & 2:
            raise Refused("its disk is marked as corrupt")
        if features & ~0b11001:
            raise Refused("its disk has features that are not known here")
    if crypt:
        raise Refused("its disk is encrypted")
    if not 9 <= bits <= 21:
        raise Refused("its disk cannot be as its head says")
    if virtual > MOST_VIRTUAL:
        raise Refused(f"its disk has {virtual} bytes, more than {MOST_VIRTUAL}")
    if l1 + 8 * l1_size > size or refcounts + (ref_size << bits) > size:
        raise Refused("its disk is cut off")
    return int(virtual)


def about_guest(text: bytes, ready: str) -> dict[str, Any]:
    """
    @param text: of a C{guest.json}; empty if there is none.
    @param ready: what was asked for instead of what it says; empty if nothing was.
    @return: all of it.
    @raise Refused: if it makes no sense.
    """
    found: dict[str, Any] = {"ready": "agent", "append": "console=ttyS0 no_timer_check", "machine": "q35"}
    found["memory_least"] = 128 << 20
    if text:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Refused(f"guest.json: {error}") from error
        if not isinstance(said, dict) or set(said) - set(found):
            raise Refused(f"guest.json: want an object with some of {', '.join(found)}")
        found.update(said)
    if ready:
        found["ready"] = ready
    try:
        Rule.parse(found["ready"] if isinstance(found["ready"], str) else "")
    except BadRule as error:
        raise Refused(f"ready: {error}") from error
    append, least = found["append"], found["memory_least"]
    if not isinstance(append, str) or len(append) > 2000 or not append.isprintable():
        raise Refused("append: want a line")
    if found["machine"] not in _MACHINES:
        raise Refused(f"machine: want {' or '.join(_MACHINES)}")
    if type(least) is not int or not 0 <= least <= 1 << 50:
        raise Refused("memory_least: want a number of bytes")
    return found


def take(file: IO[bytes], directory: Path, most_bytes: int) -> None:
    """
    Put what was sent into a directory, as files with the names that ours have.

    @raise Refused: if there is something else in it, or too much.
    """
    with reading():
        stream = io.BufferedReader(file if isinstance(file, io.RawIOBase) else _Raw(file), _CHUNK)
        if stream.peek(4).startswith(_MAGIC):
            _copy(stream, directory / "disk.qcow2", most_bytes)
            return
        left = most_bytes
        for tar, member in members(stream):
            name = member.name.removeprefix("./")
            if member.isdir() and name in ("", "."):
                continue
            if name not in _NAMES or not member.isreg():
                raise Refused(f"it has {member.name[:100]!a} in it, want only files {', '.join(_NAMES)}")
            source = tar.extractfile(member)
            if source is None:
                raise Refused(f"{name} has no content")
            left -= _copy(source, directory / name, left)
        while stream.read(_CHUNK):  # to the end, where its checksum is
            pass


class _Raw(io.RawIOBase):
    """
    Any reader, for a buffer before it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _copy(source: IO[bytes], path: Path, most: int) -> int:
    count = 0
    with open(path, "xb") as to:
        while data := source.read(_CHUNK):
            count += len(data)
            if count > most:
                raise Refused("it has more bytes than an image may have")
            to.write(data)
    return count


def take_disk(directory: Path, run: Callable[..., subprocess.CompletedProcess[str]] | None = None) -> None:
    """
    Make a disk of our own of the one that was sent.

    @raise Refused: if it is damaged, cut off, or refers to something.
    """
    call = run or _as_nobody
    path = directory / "disk.qcow2"
    size = path.stat().st_size
    with open(path, "rb") as file:
        check_head(file.read(_HEAD), size)
    checked = call(directory, "check", "-f", "qcow2", "--output=json", "disk.qcow2")
    try:
        said: Mapping[str, Any] = json.loads(checked.stdout)
    except ValueError:
        said = {}
    if checked.returncode not in (0, 3) or said.get("corruptions") or said.get("check-errors"):
        raise Refused(f"its disk is damaged: {_last(checked) or 'qemu-img check finds errors'}")
    end = said.get("image-end-offset")
    if not isinstance(end, int) or end > size:
        raise Refused("its disk is cut off")
    made = call(directory, "convert", "-f", "qcow2", "-O", "qcow2", "disk.qcow2", "new.qcow2")
    if made.returncode != 0:
        raise Refused(f"its disk cannot be read: {_last(made)}")
    os.rename(directory / "new.qcow2", path)  # noqa: PTH104


def _as_nobody(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("qemu-img", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        raise Refused("this host has no qemu-img; install qemu-utils")
    nobody: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
    return subprocess.run(
        [program, *words],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        **nobody,
    )


def _last(ran: subprocess.CompletedProcess[str]) -> str:
    lines = [one for one in ran.stderr.splitlines() if one.strip()]
    return lines[-1].removeprefix("qemu-img: ")[:300] if lines else ""


def main(work: str, blob: str, most_bytes: int, ready: str) -> None:
    """
    Do it.

    @raise Refused: if the image is not taken.
    """
    file = os.open(blob, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    directory = Path(work) / "taken"
    directory.mkdir(0o700)
    confine(most_bytes, _RIGHTS)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    take(plain(file), directory, most_bytes)
    disk, kernel, initrd = (directory / name for name in ("disk.qcow2", "kernel", "initrd"))
    if not disk.exists() and not kernel.exists():
        raise Refused("there is neither a disk nor a kernel in it")
    if initrd.exists() and not kernel.exists():
        raise Refused("there is an initrd in it, and no kernel")
    said = directory / "guest.json"
    text = b""
    if said.exists():
        if said.stat().st_size > _DOCUMENT:
            raise Refused("guest.json is too long")
        text = said.read_bytes()
    about = about_guest(text, ready)
    if disk.exists():
        if os.geteuid() == 0:
            os.chown(directory, _NOBODY, _NOBODY)
            os.chown(disk, _NOBODY, _NOBODY)
        take_disk(directory)
        if os.geteuid() == 0:
            os.chown(directory, 0, 0)
            os.chown(disk, 0, 0)
    said.write_text(json.dumps(about), "utf-8")
    directory.rename(Path(work) / "guest")


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
    except (Refused, OSError) as error:
        print(f"E: {error}", flush=True)
        sys.exit(1)
    os._exit(0)
