"""
Run as a program of its own: C{pack_guest.py OUT OVERLAY BASE UID MOST KERNEL INITRD ABOUT [live]} writes a tar of what
a QEMU guest begins with: its disk, made one of what it changed and what lies below, and the others as they are. A name
that is C{-} means that there is none; C{live}, that somebody may still write to OVERLAY.

The guest's QEMU wrote OVERLAY, and may have been made to write anything. So what lies below is not looked up there but
told by us, and C{qemu-img} reads it as UID, the user of that QEMU, which may read nothing else that others may not.
"""

# ruff: noqa: PTH123

from __future__ import annotations

import errno
import os
import resource
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "twistd_plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from hostline.server.supervise.unpack import Refused, keep_rights

#: CHOWN, DAC_OVERRIDE, SETGID, SETUID.
_RIGHTS = (0, 1, 6, 7)
#: Seconds of the processor that qemu-img may take.
_CPU_S = 3600
_HEAD = 104
#: A disk that keeps its data in another file, whose name it has itself.
_ELSEWHERE = 4


def check_overlay(head: bytes) -> None:
    """
    @param head: the first bytes of the guest's own disk.
    @raise Refused: if it is none that our qemu-img made, and may lead to another file than we say.
    """
    if len(head) < _HEAD or head[:4] != b"QFI\xfb" or struct.unpack(">I", head[4:8])[0] != 3:
        raise Refused("its disk is no qcow2 disk")
    if struct.unpack(">I", head[32:36])[0]:
        raise Refused("its disk is encrypted")
    if struct.unpack(">Q", head[72:80])[0] & _ELSEWHERE:
        raise Refused("its disk keeps its data in another file")


def flatten(overlay: int, base: int | None, uid: int, target: Path) -> None:
    """
    Make one disk of two.

    @param overlay: descriptors, of what the guest changed and of what lies below, if anything does.
    @param target: a file that is not there yet.
    @raise Refused: if it cannot be done.
    """
    check_overlay(os.pread(overlay, _HEAD, 0))
    options = f"driver=qcow2,file.driver=file,file.filename=/proc/self/fd/{overlay}"
    if base is not None:
        options += f",backing.driver=qcow2,backing.file.driver=file,backing.file.filename=/proc/self/fd/{base}"
    made = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        program = shutil.which("qemu-img", path="/usr/sbin:/usr/bin:/sbin:/bin")
        if program is None:
            raise Refused("this host has no qemu-img; install qemu-utils")
        whose: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(made, uid, uid)
            whose = {"user": uid, "group": uid, "extra_groups": []}
        done = subprocess.run(
            [program, "convert", "-O", "qcow2", "--image-opts", options, f"/proc/self/fd/{made}"],
            pass_fds=[one for one in (overlay, base, made) if one is not None],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            **whose,
        )
    finally:
        os.close(made)
    if done.returncode != 0:
        lines = [one for one in done.stderr.splitlines() if one.strip()]
        raise Refused(f"its disk cannot be read: {lines[-1][:300] if lines else done.returncode}")


def taken(source: int, uid: int, path: Path) -> int:
    """
    @param path: a name that is not there yet, nor later.
    @return: descriptor of a copy that nobody else writes to, so that what has been looked at stays as it was.
    """
    size = os.fstat(source).st_size
    made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    path.unlink()
    os.ftruncate(made, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        end = min(os.lseek(source, at, os.SEEK_HOLE), size)
        while at < end:
            count = os.copy_file_range(source, made, min(end - at, 1 << 24), at, at)
            if not count:
                return made
            at += count
    if os.geteuid() == 0:
        os.chown(made, uid, uid)
    return made


def main(words: list[str]) -> None:
    """
    @param words: as in the program's usage.
    @raise Refused: if it cannot be done.
    """
    out, overlay, base, uid, most, kernel, initrd, about = words[:8]
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    files = {
        name: os.open(path, flags)
        for name, path in (("kernel", kernel), ("initrd", initrd), ("guest.json", about))
        if path != "-"
    }
    of_guest, below = os.open(overlay, flags), None if base == "-" else os.open(base, flags)
    disk = Path(f"{out}.disk")
    for limit, value in ((resource.RLIMIT_FSIZE, int(most)), (resource.RLIMIT_CPU, _CPU_S)):
        resource.setrlimit(limit, (value, value))
    if os.geteuid() == 0:
        keep_rights(_RIGHTS)
    try:
        if words[8:] == ["live"]:
            of_guest = taken(of_guest, int(uid), Path(f"{out}.own"))
        flatten(of_guest, below, int(uid), disk)
        files["disk.qcow2"] = os.open(disk, flags)
        with open(out, "xb", opener=_own) as file, tarfile.open(fileobj=file, mode="w") as tar:
            for name, source in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = os.fstat(source).st_size
                with open(source, "rb") as data:
                    tar.addfile(entry, data)
            tar.close()
            file.flush()
            os.fsync(file.fileno())
    finally:
        disk.unlink(missing_ok=True)


def _own(path: str, flags: int) -> int:
    return os.open(path, flags, stat.S_IRUSR | stat.S_IWUSR)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refused as refused:
        sys.exit(str(refused))
    except OSError as error:
        sys.exit(f"{error.strerror or error}: {error.filename or ''}")
