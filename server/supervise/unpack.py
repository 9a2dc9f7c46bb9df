"""
Run as a program of its own, as root of nothing: C{unpack.py WORK BLOB BYTES} unpacks a tar of files, or an OCI image
layout in a tar, into C{WORK/tree}, and writes what the image says of itself to C{WORK/said}.

Whoever sent the tar may want to write elsewhere. So it is done in a chroot, with the few rights that owners and modes
take; and no name leads anywhere but down from the tree: no link is followed, and what cannot be is refused by name.
"""

# ruff: noqa: PTH102, PTH123, PTH208

from __future__ import annotations

import bz2
import ctypes
import encodings.idna  # noqa: F401  (loaded before the chroot, where there is none)
import errno
import gzip
import hashlib
import json
import lzma
import os
import re
import resource
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

#: The uids and gids that a container has.
IDS = 65536
#: Members of all layers together.
MOST_MEMBERS = 1_000_000
MOST_LAYERS = 127
#: Bytes of a document of an OCI layout, and of what is kept of it.
_DOCUMENT, _SAID = 4 << 20, 65536
_MEMORY = 1 << 30
_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LAYOUT = re.compile(r"(?:\./)?(oci-layout|index\.json|blobs/sha256/[0-9a-f]{64})\Z")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
#: CHOWN, DAC_OVERRIDE, FOWNER, FSETID; and until the chroot is made SYS_CHROOT.
_RIGHTS, _SYS_CHROOT = (0, 1, 3, 4), 18


class Refused(Exception):
    """
    The image is not taken; the message says what is wrong with it.
    """


def why_not(member: tarfile.TarInfo) -> str | None:
    """
    @return: what is wrong with a member of a tar, in words; None if it can be unpacked.
    """
    wrong = _path_wrong(member.name)
    if wrong:
        return wrong
    if not (0 <= member.uid < IDS and 0 <= member.gid < IDS):
        return f"belongs to {member.uid}:{member.gid}, want uids and gids from 0 to {IDS - 1}"
    if member.ischr() or member.isblk():
        return "is a device node, which no image may have"
    if member.islnk():
        wrong = _path_wrong(member.linkname)
        return f"is a link to {_shown(member.linkname)}, which {wrong}" if wrong else None
    if member.issym():
        wrong = _path_wrong(member.linkname.lstrip("/"))
        # Text, followed by nobody while we unpack: it may lead where it likes.
        if not member.linkname or (wrong is not None and "'..'" not in wrong):
            return "is a symbolic link to what is no path"
        return None
    if member.isdir() or member.isfifo():
        return None
    if not member.isreg():
        return "is neither file, directory, link nor pipe"
    if not _parts(member.name):
        return "has no name"
    return None if member.size >= 0 else "has a size below 0"


def _path_wrong(name: str) -> str | None:
    if name.startswith("/"):
        return "has an absolute name"
    if ".." in name.split("/"):
        return "has '..' in its name"
    if "\0" in name:
        return "has a NUL in its name"
    try:
        if len(os.fsencode(name)) > 4095 or any(len(os.fsencode(one)) > 255 for one in name.split("/")):
            return "has a name that is too long"
    except UnicodeError:
        return "has a name that cannot be written"
    return None


def _parts(name: str) -> list[str]:
    return [one for one in name.split("/") if one not in ("", ".")]


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 200 else name[:200] + "...")


class Tree:
    """
    A directory in which tars are unpacked, one over the other.
    """

    def __init__(self, root: int, most_bytes: int, most_members: int = MOST_MEMBERS) -> None:
        """
        @param root: its descriptor.
        @param most_bytes: of all files together.
        """
        self._root = root
        self._bytes_left = most_bytes
        self._members_left = most_members
        self._most = most_bytes
        self._kept: tuple[tuple[str, ...], int] | None = None

    def unpack(self, file: IO[bytes], *, layer: bool = False) -> None:
        """
        Unpack a tar, compressed or not, read from its beginning to its end.

        @param layer: it is a layer of an OCI image: a name that begins with C{.wh.} takes away what is beneath.
        @raise Refused: if a member is not taken, or there is too much of it.
        """
        added: set[tuple[str, ...]] = set()
        with reading():
            for tar, member in members(file):
                self._take(tar, member, added, layer)
            # To the end, where its checksum is.
            while data := file.read(_CHUNK):
                self._bytes_left -= len(data)
                if self._bytes_left < 0:
                    raise Refused(f"there are more than {self._most} bytes")

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo, added: set[tuple[str, ...]], layer: bool) -> None:
        self._members_left -= 1
        if self._members_left < 0:
            raise Refused("it has too many members")
        wrong = why_not(member)
        if wrong:
            raise Refused(f"{_shown(member.name)} {wrong}")
        parts = tuple(_parts(member.name))
        try:
            if layer and parts and parts[-1].startswith(_WHITEOUT):
                self._white_out(parts, added)
                return
            self._put(tar, member, parts)
        except OSError as error:
            raise Refused(f"{_shown(member.name)}: {error.strerror or error}") from error
        if layer:
            added.update(parts[:length] for length in range(1, len(parts) + 1))

    def close(self) -> None:
        """
        Close what is open.
        """
        self._forget()

    def _put(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
        mode = stat.S_IMODE(member.mode)
        if not parts:
            if member.isdir():
                os.fchown(self._root, member.uid, member.gid)
                os.fchmod(self._root, mode)
            return
        parent, name = self._parent(parts), parts[-1]
        there = _about(name, parent)
        if there is not None and not (member.isdir() and stat.S_ISDIR(there.st_mode)):
            self._remove(name, parent, there)
            parent = self._parent(parts)
            there = None
        if member.islnk():
            to = _parts(member.linkname)
            if not to:
                raise Refused(f"{_shown(member.name)} is a link to the root")
            holder = self._opened(to[:-1], make=False)
            try:
                os.link(to[-1], name, src_dir_fd=holder, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(holder)
            return
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
            return
        if member.isdir():
            if there is None:
                os.mkdir(name, 0o700, dir_fd=parent)
            fd = os.open(name, _DIRECTORY, dir_fd=parent)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
            fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        else:
            fd = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
            )
        try:
            if member.isreg():
                self._copy(tar, member, fd)
            os.fchown(fd, member.uid, member.gid)
            os.fchmod(fd, mode)  # after it, for a change of the owner takes setuid away
            if not member.isdir() and 0 <= member.mtime < 1 << 34:
                os.utime(fd, (member.mtime, member.mtime))
        finally:
            os.close(fd)

    def _copy(self, tar: tarfile.TarFile, member: tarfile.TarInfo, fd: int) -> None:
        self._bytes_left -= member.size
        if self._bytes_left < 0:
            raise Refused(f"its files are more than {self._most} bytes; {_shown(member.name)} has {member.size}")
        source = tar.extractfile(member)
        if source is None:
            raise Refused(f"{_shown(member.name)} has no content")
        copied = 0
        while data := source.read(_CHUNK):
            copied += len(data)
            if data.count(0) == len(data):  # a hole, as it may have been before
                os.lseek(fd, len(data), os.SEEK_CUR)
                continue
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        if copied != member.size:
            raise Refused(f"{_shown(member.name)} is cut off")
        os.ftruncate(fd, copied)

    def _white_out(self, parts: tuple[str, ...], added: set[tuple[str, ...]]) -> None:
        above = parts[:-1]
        try:
            parent = self._opened(above, make=False)
        except FileNotFoundError:
            return
        try:
            if parts[-1] == _OPAQUE:
                gone = [one for one in os.listdir(parent) if (*above, one) not in added]
            else:
                gone = [parts[-1].removeprefix(_WHITEOUT)]
            if {"", ".", ".."} & set(gone):
                raise Refused(f"{_shown('/'.join(parts))} takes nothing away")
            for name in gone:
                there = _about(name, parent)
                if there is not None:
                    self._remove(name, parent, there)
        finally:
            os.close(parent)

    def _remove(self, name: str, parent: int, there: os.stat_result) -> None:
        if stat.S_ISDIR(there.st_mode):
            shutil.rmtree(name, dir_fd=parent)
            self._forget()  # it may have been in there
        else:
            os.unlink(name, dir_fd=parent)

    def _parent(self, parts: tuple[str, ...]) -> int:
        """
        @return: a descriptor of the directory of a member, made if it is missing; kept for the next one.
        """
        above = parts[:-1]
        if self._kept is None or self._kept[0] != above:
            opened = self._opened(above, make=True)
            self._forget()
            self._kept = (above, opened)
        return self._kept[1]

    def _opened(self, parts: Sequence[str], *, make: bool) -> int:
        fd = os.dup(self._root)
        try:
            for number, one in enumerate(parts):
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(one, 0o755, dir_fd=fd)
                try:
                    inner = os.open(one, _DIRECTORY, dir_fd=fd)
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.ENOTDIR):
                        place = "/".join(parts[: number + 1])
                        raise Refused(f"something is to be put under {_shown(place)}, which is no directory") from None
                    raise
                os.close(fd)
                fd = inner
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _forget(self) -> None:
        if self._kept is not None:
            os.close(self._kept[1])
            self._kept = None


@contextmanager
def reading() -> Iterator[None]:
    """
    While a tar is read: say what is wrong with it as L{Refused}.
    """
    try:
        yield
    except MemoryError:
        raise Refused("it takes too much memory to be read") from None
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, ValueError, ArithmeticError) as error:
        raise Refused(f"it is no tar that can be read: {error}") from error
    except OSError as error:  # of bz2, and of the disk
        raise Refused(f"it cannot be read: {error.strerror or error}") from error


def members(file: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """
    @return: the members of a tar, each to be read before the next, while L{reading}.
    """
    with tarfile.open(fileobj=file, mode="r|") as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # or all of them would be kept
            yield tar, member


def _about(name: str, parent: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


# OCI layouts


def look_in(file: IO[bytes]) -> bool:
    """
    @return: whether a tar is an OCI image layout; else it is one of files.
    @raise Refused: if it is of a kind that is not taken.
    """
    names, others = set(), False
    with reading():
        for count, (_, member) in enumerate(members(file)):
            if count > MOST_MEMBERS:
                raise Refused("it has too many members")
            name = member.name.removeprefix("./")
            if name in ("oci-layout", "index.json", "manifest.json"):
                names.add(name)
            others = others or name.endswith("/layer.tar")
    if {"oci-layout", "index.json"} <= names:
        return True
    if "manifest.json" in names and others:
        raise Refused("it is in Docker's own format; want an OCI image layout (skopeo copy ... oci-archive:FILE)")
    return False


def take_layout(file: IO[bytes], directory: int, most_bytes: int) -> None:
    """
    Unpack the documents and layers of an OCI layout, each under its digest, which is checked.
    """
    left = most_bytes
    for tar, member in members(file):
        found = _LAYOUT.match(member.name)
        if found is None or not member.isreg():
            continue
        name = found[1].rpartition("/")[2]
        left -= member.size
        if left < 0:
            raise Refused(f"it has more than {most_bytes} bytes")
        source = tar.extractfile(member)
        if source is None:
            raise Refused(f"{_shown(member.name)} has no content")
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
        digest = hashlib.sha256()
        with open(fd, "wb") as to:
            while data := source.read(_CHUNK):
                digest.update(data)
                to.write(data)
        if len(name) == 64 and digest.hexdigest() != name:
            raise Refused(f"{_shown(member.name)} has the sum {digest.hexdigest()}")


class Layout:
    """
    An OCI layout whose documents and layers are files in one directory.
    """

    def __init__(self, directory: int, machine: str) -> None:
        """
        @param machine: as in C{uname -m}.
        """
        self._directory = directory
        self._architecture = _ARCHITECTURES.get(machine, machine)

    def read(self) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """
        @return: what the image says of how it runs, and the digest and media type of each layer, the lowest first.
        @raise Refused: if it is not as the standard says (OCI image specification 1.1).
        """
        manifest = self._chosen(self._document("index.json"), 3)
        config = self._by_digest(manifest.get("config"))
        layers = manifest.get("layers")
        if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
            raise Refused(f"want a list of at most {MOST_LAYERS} layers in its manifest")
        found = []
        for layer in layers:
            kind = layer.get("mediaType", "") if isinstance(layer, dict) else ""
            if "layer" not in str(kind) and "diff.tar" not in str(kind):
                raise Refused(f"it has a layer of the media type {_shown(str(kind))}")
            found.append((self._digest(layer), str(kind)))
        return said_by(config.get("config")), found

    def opened(self, digest: str) -> int:
        """
        @return: a descriptor of a file of the layout.
        @raise Refused: if it is missing.
        """
        try:
            return os.open(digest, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
        except FileNotFoundError:
            raise Refused(f"{digest} is missing in it") from None

    def _chosen(self, index: dict[str, Any], depth: int) -> dict[str, Any]:
        listed = index.get("manifests")
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise Refused("want a list of manifests in its index")
        fitting, others = [], set()
        for one in listed:
            platform = one.get("platform")
            if not isinstance(platform, dict):
                fitting.append(one)
            elif (platform.get("os"), platform.get("architecture")) == ("linux", self._architecture):
                fitting.insert(0, one)
            else:
                others.add(f"{platform.get('os')}/{platform.get('architecture')}"[:60])
        if not fitting:
            raise Refused(f"it has no image for linux/{self._architecture}, only {', '.join(sorted(others)) or 'none'}")
        document = self._by_digest(fitting[0])
        if "manifests" in document:
            if depth == 0:
                raise Refused("its indexes are nested too deep")
            return self._chosen(document, depth - 1)
        return document

    def _digest(self, descriptor: object) -> str:
        digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
        found = _DIGEST.match(digest) if isinstance(digest, str) else None
        if found is None:
            raise Refused(f"want a digest sha256:..., got {_shown(str(digest))}")
        return found[1]

    def _by_digest(self, descriptor: object) -> dict[str, Any]:
        return self._document(self._digest(descriptor))

    def _document(self, name: str) -> dict[str, Any]:
        with open(self.opened(name), "rb") as file:
            text = file.read(_DOCUMENT + 1)
        try:
            if len(text) > _DOCUMENT:
                raise ValueError("it is too long")
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Refused(f"{name}: {error}") from error
        if not isinstance(found, dict):
            raise Refused(f"{name}: want an object")
        return found


def said_by(config: object) -> dict[str, Any]:
    """
    @param config: the C{config} of an OCI image's configuration.
    @return: C{command}, C{environment} and C{directory}.
    @raise Refused: if it is something else.
    """
    if config is None:
        config = {}
    if not isinstance(config, dict) or len(json.dumps(config)) > _SAID:
        raise Refused("its configuration is too long, or no object")
    words: list[str] = []
    for key in ("Entrypoint", "Cmd"):
        words += _texts(config.get(key) or [], key)
    environment = {}
    for one in _texts(config.get("Env") or [], "Env"):
        name, _, value = one.partition("=")
        if name:
            environment[name] = value
    directory = _texts([config.get("WorkingDir") or "/"], "WorkingDir")[0]
    return {"command": words, "environment": environment, "directory": directory}


def _texts(value: object, key: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) and "\0" not in one for one in value):
        raise Refused(f"{key} of its configuration: want texts")
    return value


# The process


def confine(most_bytes: int, rights: Sequence[int]) -> None:
    """
    Give up what the work does not need.

    @param rights: numbers of the capabilities that are kept.
    """
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_FSIZE, most_bytes + _CHUNK),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (least, least))
    if os.geteuid() == 0:
        keep_rights(rights)


def keep_rights(rights: Sequence[int]) -> None:
    """
    Keep these capabilities, and no other.

    @raise OSError: if the kernel refuses.
    """
    mask = sum(1 << one for one in rights)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    head = struct.pack("Ii", 0x20080522, 0)
    data = struct.pack("6I", low, low, 0, high, high, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.capset(head, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def plain(fd: int) -> IO[bytes]:
    """
    @return: a file from its beginning, unpacked if it is compressed.
    @raise Refused: if this host cannot unpack it.
    """
    head = os.pread(fd, 6, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    file = open(os.dup(fd), "rb")  # noqa: SIM115  (read by whoever it is given to)
    if head.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if head.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.BZ2File(file))
    if head.startswith(b"\xfd7zXZ\0"):
        return cast("IO[bytes]", lzma.LZMAFile(file))
    if not head.startswith(b"\x28\xb5\x2f\xfd"):
        return file
    zstd = shutil.which("zstd", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if zstd is None:
        raise Refused("it is compressed by zstd, which this host does not have")
    child = subprocess.Popen([zstd, "-dcq"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    return child.stdout


def main(work: str, blob: str, most_bytes: int) -> None:
    """
    Do it.

    @raise Refused: if the image is not taken.
    """
    file = os.open(blob, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    root = os.open(f"{work}/tree", _DIRECTORY)
    confine(most_bytes, (*_RIGHTS, _SYS_CHROOT))
    said: dict[str, Any] = {}
    layers: list[IO[bytes]] = []
    is_layout = look_in(plain(file))
    if is_layout:
        os.mkdir(f"{work}/layout", 0o700)
        directory = os.open(f"{work}/layout", _DIRECTORY)
        with reading():
            take_layout(plain(file), directory, most_bytes)
        layout = Layout(directory, os.uname().machine)
        said, found = layout.read()
        layers = [plain(layout.opened(digest)) for digest, _ in found]
    else:
        layers = [plain(file)]
    with open(f"{work}/said", "x", encoding="utf-8") as to:
        json.dump(said, to)
    if os.geteuid() == 0:
        os.chroot(f"{work}/tree")
        os.chdir("/")
        keep_rights(_RIGHTS)
    tree = Tree(root, most_bytes)
    for layer in layers:
        tree.unpack(layer, layer=is_layout)
    tree.close()


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    except (Refused, OSError) as error:
        print(f"E: {error}", flush=True)
        sys.exit(1)
    os._exit(0)
