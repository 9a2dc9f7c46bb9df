"""
The files of a trust directory, written so that whenever this is killed, what is there goes together.

A new key waits as C{key.pem.next} until its certificate is in place, and is then renamed; who finds it so at a start
ends that, or undoes it, by whether it is the key of C{cert.pem}. The daemon does the same with the same names.
"""

from __future__ import annotations

import os
import ssl

from hostline.clients.certificates import Unreadable, blocks
from hostline.protocol.errors import HostError
from hostline.protocol.trust import CA, CERTIFICATE, CRL, ISSUER, KEY, LONGEST, NEW_KEY, NEXT_KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class TrustFiles:
    """
    A trust directory that nobody else changes meanwhile, 0700; made if it is not there.
    """

    def __init__(self, directory: str) -> None:
        """
        @raise HostError: if it cannot be made or locked.
        """
        from fcntl import LOCK_EX, flock

        self.directory = os.path.abspath(directory)  # noqa: PTH100  (pathlib is slow to import)
        try:
            os.makedirs(self.directory, 0o700, exist_ok=True)  # noqa: PTH103
            self._descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            flock(self._descriptor, LOCK_EX)
        except OSError as error:
            raise HostError(f"{directory}: {error.strerror}") from None
        try:
            self._settle()
        except OSError as error:
            os.close(self._descriptor)
            raise HostError(f"{directory}: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def path(self, name: str) -> str:
        """
        Where a file is.
        """
        return f"{self.directory}/{name}"

    def read(self, name: str) -> bytes:
        """
        @return: what a file holds; nothing if it is not there.
        @raise HostError: if it cannot be read.
        """
        try:
            with open(self.path(name), "rb") as file:  # noqa: PTH123
                return file.read(LONGEST)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise HostError(f"cannot read {self.path(name)}: {error.strerror}") from None

    def replace(self, certificate: bytes) -> None:
        """
        Put a new certificate in place, and with it the key that hostline-pki made for it.

        @raise HostError: if it is not of that key, or they cannot be written; then all is as it was.
        """
        try:
            self._keep(CERTIFICATE, certificate, ".check")
            try:
                if not self._belongs(f".{CERTIFICATE}.check", NEW_KEY):
                    raise HostError("the certificate that came is not for the key that was made")
                self._forget(NEXT_KEY)
                os.link(self.path(NEW_KEY), self.path(NEXT_KEY))
                self._flush()
                os.replace(self.path(f".{CERTIFICATE}.check"), self.path(CERTIFICATE))  # noqa: PTH105
                self._flush()
                # Not of the other name, which a daemon that starts meanwhile may have removed, or renamed itself.
                os.replace(self.path(NEW_KEY), self.path(KEY))  # noqa: PTH105
                self._forget(NEXT_KEY, NEW_KEY)
                self._flush()
            finally:
                self._forget(f".{CERTIFICATE}.check")
        except OSError as error:
            raise HostError(f"cannot write {self.directory}: {error.strerror}") from None

    def write(self, name: str, data: bytes) -> None:
        """
        Write a file that stands for itself, whole or not at all.

        @raise HostError: if it cannot be written; then it is as it was.
        """
        try:
            self._keep(name, data, ".part")
            os.replace(self.path(f".{name}.part"), self.path(name))  # noqa: PTH105
            self._flush()
        except OSError as error:
            raise HostError(f"cannot write {self.path(name)}: {error.strerror}") from None

    def discard(self) -> None:
        """
        Forget a key that no certificate came for.
        """
        self._forget(NEW_KEY)

    def _settle(self) -> None:
        if os.path.lexists(self.path(NEXT_KEY)):
            if self._belongs(CERTIFICATE, NEXT_KEY):
                os.replace(self.path(NEXT_KEY), self.path(KEY))  # noqa: PTH105
            self._forget(NEXT_KEY)
            self._flush()
        self._forget(NEW_KEY)

    def _belongs(self, certificate: str, key: str) -> bool:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
                self.path(certificate), self.path(key), password=lambda: ""
            )
        except OSError:
            return False
        return True

    def _keep(self, name: str, data: bytes, ending: str) -> None:
        fresh = f".{name}{ending}"
        self._forget(fresh)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self.path(fresh), flags, 0o600)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _forget(self, *names: str) -> None:
        for name in names:
            try:
                os.unlink(self.path(name))  # noqa: PTH108
            except FileNotFoundError:
                pass

    def _flush(self) -> None:
        os.fsync(self._descriptor)


def enrolled(files: TrustFiles, certificate: bytes, ca: bytes, crl: bytes, issuer: str) -> None:
    """
    Write all that an enrolment gives. Where there was another authority's certificate, both are believed until the new
    one is in place, so that one of them can be used at any instant.

    @param ca: the authority, PEM.
    @raise HostError: if it cannot be written.
    """
    before, lists = files.read(CA), files.read(CRL)
    try:
        other = bool(before.strip()) and blocks(ca, b"CERTIFICATE") != blocks(before, b"CERTIFICATE")
    except Unreadable:
        other, before, lists = False, b"", b""
    files.write(CA, ca + before if other else ca)
    files.write(CRL, crl + lists if other else crl)
    files.replace(certificate)
    files.write(ISSUER, f"{issuer}\n".encode())
    if other:
        files.write(CA, ca)
        files.write(CRL, crl)
