"""
Blobs: something big, sent in pieces before the request that uses it; each principal sees only its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from binascii import Error, a2b_base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred

from hostline.protocol import kinds
from hostline.protocol.errors import BadValue, NoSuchBlob, StoreFailed, TooMany

#: Seconds that a blob is kept after its last piece.
KEPT_S = 86400.0
#: Blobs of one principal, those begun included.
BLOBS = 64


class Blobs:
    """
    The blobs under one directory, one folder for each principal.
    """

    def __init__(
        self, directory: Path, run: Callable[[Callable[[], Any]], Deferred[Any]], most: Callable[[], int]
    ) -> None:
        """
        @param run: runs a blocking function on another thread, one after the other.
        @param most: how many bytes a principal may have here.
        """
        self._directory = directory
        self._run = run
        self._most = most
        #: Bytes by file name, by principal's folder: looked up once, for a piece costs the other thread little.
        self._sizes: dict[Path, dict[str, int]] = {}

    async def add(self, principal: str, sha256: str, size: int, offset: int, base64: str) -> dict[str, Any]:
        """
        Keep a piece; pieces come in order, one that was sent before may be sent again.

        @return: the reply's body; C{have} is where the next piece begins.
        @raise BadValue: if the piece is no base64, leaves a gap, goes past C{size}, or the sum is wrong at the end.
        @raise TooMany: if the principal has too much here.
        """
        try:
            piece = a2b_base64(base64, strict_mode=True)
        except (Error, ValueError) as error:
            raise BadValue(f"bytes: want base64, got something else ({error})") from None
        if offset + len(piece) > size:
            raise BadValue(f"bytes: want at most {max(size - offset, 0)} from {offset} on, got {len(piece)}")
        try:
            have: int = await self._run(lambda: self._write(principal, sha256, size, offset, piece))
        except OSError as error:
            raise StoreFailed(f"the blob cannot be kept: {error.strerror}") from error
        return {"sha256": sha256, "size": size, "have": have, "complete": have == size}

    def text(self, principal: str, sha256: str, most: int = kinds.LONGEST_TEXT) -> str:
        """
        The text of a complete blob.

        @param most: how many characters it may have.
        @raise NoSuchBlob: if this principal has not sent it whole.
        @raise BadValue: if it is longer or is not UTF-8.
        """
        path = self._folder(principal) / sha256
        try:
            if kinds.SHA256.fits(sha256) is not None or path.stat().st_size > 4 * most:
                raise FileNotFoundError
            text = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            raise NoSuchBlob(f"no blob {sha256[:64]}; send it first") from None
        except UnicodeDecodeError as error:
            raise BadValue(f"blob {sha256}: want UTF-8 text, got another byte at {error.start}") from None
        if len(text) > most:
            raise BadValue(f"blob {sha256}: want at most {most} characters, got {len(text)}")
        return text

    def opened(self, principal: str, sha256: str) -> BinaryIO:
        """
        A complete blob, to be read and closed.

        @raise NoSuchBlob: if this principal has not sent it whole.
        """
        try:
            if kinds.SHA256.fits(sha256) is not None:
                raise FileNotFoundError
            return (self._folder(principal) / sha256).open("rb")
        except FileNotFoundError:
            raise NoSuchBlob(f"no blob {sha256[:64]}; send it first") from None

    def forget(self, principal: str, sha256: str) -> Deferred[None]:
        """
        Remove a blob that has been used and will not be asked for again.
        """
        return self._run(lambda: self._forget(self._folder(principal), sha256))

    def _forget(self, folder: Path, sha256: str) -> None:
        (folder / sha256).unlink(missing_ok=True)
        self._sizes.get(folder, {}).pop(sha256, None)

    def forget_old(self) -> None:
        """
        Remove what nobody has touched for L{KEPT_S}; runs on the other thread.
        """
        if not self._directory.is_dir():
            return
        self._sizes.clear()
        for path in self._directory.glob("*/*"):
            if path.stat().st_mtime < time.time() - KEPT_S:
                path.unlink(missing_ok=True)

    def _folder(self, principal: str) -> Path:
        # What is in a certificate may hold whatever a path may not.
        plain = re.fullmatch(r"(user|delegate|sliver|uid):[0-9]+", principal)
        name = principal.replace(":", "-") if plain else hashlib.sha256(principal.encode()).hexdigest()
        return self._directory / name

    def _write(self, principal: str, sha256: str, size: int, offset: int, piece: bytes) -> int:
        folder = self._folder(principal)
        whole, part = folder / sha256, folder / f"{sha256}.part"
        if whole.exists():
            return size
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sizes = self._sizes.get(folder)
        if sizes is None:
            sizes = self._sizes[folder] = {one.name: one.stat().st_size for one in folder.iterdir()}
        used = sum(sizes.values()) - sizes.get(part.name, 0)
        if used + size > self._most():
            raise TooMany(f"want at most {self._most()} bytes of blobs, {used} are here and {size} would come")
        if part.name not in sizes and len(sizes) >= BLOBS:
            raise TooMany(f"want at most {BLOBS} blobs; the oldest go after {KEPT_S / 3600:g} hours")
        try:
            return self._add(whole, part, size, offset, piece, sizes)
        except BaseException:
            self._sizes.pop(folder, None)  # to be looked up again
            raise

    def _add(self, whole: Path, part: Path, size: int, offset: int, piece: bytes, sizes: dict[str, int]) -> int:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            have = os.fstat(descriptor).st_size
            if have > size:  # begun under another size: from the start again
                os.ftruncate(descriptor, 0)
                have = 0
            if offset > have:
                raise BadValue(f"offset: want at most {have}, which is where the next piece begins, got {offset}")
            os.pwrite(descriptor, piece, offset)
            have = sizes[part.name] = max(have, offset + len(piece))
            if have == size:
                self._complete(descriptor, part, whole)
                sizes[whole.name] = sizes.pop(part.name)
            return have
        finally:
            os.close(descriptor)

    def _complete(self, descriptor: int, part: Path, whole: Path) -> None:
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(0)
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != whole.name:
            part.unlink()
            raise BadValue(f"sha256: the bytes sent have the sum {found}; send them again")
        os.fsync(descriptor)
        part.rename(whole)
