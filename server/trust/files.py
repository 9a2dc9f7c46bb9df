"""
The files of trust: one directory with the same names everywhere, only its owner's, each file written whole or not at
all.

Standard library, and cryptography where a key is compared with its certificate: programs of root's start with this.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from hostline.protocol.trust import CA, CA_KEY, CERTIFICATE, CRL, KEY, LONGEST, NEW_KEY, NEXT_KEY
from hostline.server import whole

#: Those that are nobody else's business.
SECRETS = frozenset({KEY, NEXT_KEY, NEW_KEY, CA_KEY})
#: How the names of files end that are being written; a dot is in front.
_FRESH = ".fresh"


class BadTrust(Exception):
    """
    A file of trust cannot be used; the message says which and why, and what to do about it if that is not plain.
    """


class NotThere(BadTrust):
    """
    There is no such file.
    """


class Trust:
    """
    One directory of trust. Nothing is read or made before a method is called.

    @ivar directory: where it is.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / CA
        self.certificate = directory / CERTIFICATE
        self.key = directory / KEY
        self.crl = directory / CRL
        self.ca_key = directory / CA_KEY

    def make(self) -> None:
        """
        Make the directory, 0700, unless it is there; those above it must be.

        @raise BadTrust: if what is there is no directory, or others may write to it.
        """
        with suppress(FileExistsError):
            self.directory.mkdir(0o700)
        self._check_directory()

    def has(self, name: str) -> bool:
        """
        Whether there is such a file, good or bad.
        """
        return os.path.lexists(self.directory / name)

    def missing(self) -> list[str]:
        """
        @return: the names of those that a host or a person needs for TLS and does not have; C{crl.pem} is not needed.
        """
        return [one for one in (CA, CERTIFICATE, KEY) if not self.has(one)]

    def read(self, name: str) -> bytes:
        """
        One file, which must be a plain file of ours or root's that nobody else may write, and, if it is a secret one,
        read.

        @raise NotThere: if it is not there.
        @raise BadTrust: if it cannot be used.
        """
        self._check_directory()
        return read_file(self.directory / name, secret=name in SECRETS)

    def write(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """
        Write a file whole: after a crash at any instant there is the old one or the new one; it is on the disk when
        this returns.

        @raise OSError: and then the old one is as it was.
        """
        self._write(name, data, mode)
        self.flush()

    def write_pair(self, certificate: bytes, key: bytes) -> None:
        """
        Write a new certificate with its new key; after a crash at any instant L{settle} brings together what belongs
        together.

        @raise OSError: as L{write}.
        """
        self._write(NEXT_KEY, key, 0o600)
        self.flush()
        self.write(CERTIFICATE, certificate)
        try:
            (self.directory / NEXT_KEY).replace(self.key)
        except FileNotFoundError:  # somebody settled meanwhile
            self._write(KEY, key, 0o600)
        self.flush()

    def settle(self) -> None:
        """
        End what a crash left half done by L{write_pair}.

        @raise OSError: if that cannot be done.
        """
        if not self.has(NEXT_KEY):
            return
        try:
            belongs = belong_together(self.read(CERTIFICATE), self.read(NEXT_KEY))
        except BadTrust:
            belongs = False
        if belongs:
            (self.directory / NEXT_KEY).replace(self.key)
        else:
            (self.directory / NEXT_KEY).unlink(missing_ok=True)
        self.flush()

    def tidy(self) -> None:
        """
        Remove what a crash left of files that were being written; to be said at a start, before any is.

        @raise OSError: if that cannot be done.
        """
        for one in self.directory.glob(f".*{_FRESH}"):
            one.unlink(missing_ok=True)

    def flush(self) -> None:
        """
        Have what came, went or was renamed here on the disk when this returns.
        """
        whole.flush(self.directory)

    def stamp(self) -> tuple[tuple[str, int, int, int], ...]:
        """
        @return: something that is another one when a file was written, came or went.
        """
        return stamp(self.ca, self.certificate, self.key, self.crl, self.ca_key)

    def _write(self, name: str, data: bytes, mode: int) -> None:
        whole.write(self.directory / name, data, mode, fresh=self.directory / f".{name}{_FRESH}")

    def _check_directory(self) -> None:
        try:
            found = self.directory.stat()
        except FileNotFoundError:
            raise NotThere(f"there is no {self.directory}") from None
        except OSError as error:
            raise BadTrust(f"{self.directory}: {error.strerror}") from error
        if not stat.S_ISDIR(found.st_mode):
            raise BadTrust(f"{self.directory}: want a directory")
        _check_owner(self.directory, found, 0o022)


def read_file(path: Path, *, secret: bool = False, follow: bool = False) -> bytes:
    """
    One file as L{Trust.read} wants it.

    @param follow: whether it may be a link.
    @raise NotThere: if it is not there.
    @raise BadTrust: if it cannot be used.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise NotThere(f"there is no {path}") from None
    except OSError as error:
        raise BadTrust(f"{path}: want a plain file: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise BadTrust(f"{path}: want a plain file")
        _check_owner(path, found, 0o077 if secret else 0o022)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(LONGEST + 1)
    except OSError as error:
        raise BadTrust(f"{path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(data) > LONGEST:
        raise BadTrust(f"{path}: want {LONGEST} bytes at most")
    if not data:
        raise BadTrust(f"{path}: it is empty")
    return data


def belong_together(certificate: bytes, key: bytes) -> bool:
    """
    Whether a key is that of the first certificate of a PEM.

    @raise BadTrust: if one of them cannot be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        public = x509.load_pem_x509_certificate(certificate).public_key()
        own = load_pem_private_key(key, None).public_key()
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return public.public_bytes(*form) == own.public_bytes(*form)
    except Exception as error:  # whatever the parsers do not like, it is no pair
        raise BadTrust(f"no certificate and key in PEM: {error}") from error


def stamp(*paths: Path) -> tuple[tuple[str, int, int, int], ...]:
    """
    @return: something that is another one when one of the files was written, came or went.
    """
    found = []
    for path in paths:
        with suppress(OSError):
            one = path.stat()
            found.append((str(path), one.st_mtime_ns, one.st_ino, one.st_size))
    return tuple(found)


def _check_owner(path: Path, found: os.stat_result, forbidden: int) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise BadTrust(f"{path}: want it to be owned by uid {os.geteuid()} or root, not by uid {found.st_uid}")
    mode = stat.S_IMODE(found.st_mode)
    if mode & forbidden:
        what, remedy = ("read", "go=") if forbidden & 0o044 else ("write", "go-w")
        raise BadTrust(f"{path}: want that nobody else may {what} it (chmod {remedy}), its mode is {mode:o}")
