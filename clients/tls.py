"""
A connection to the daemon of another host, over TLS.

Each side shows a certificate: the host's must be signed by the authority in C{ca.pem} of our trust directory, be for
the name we asked for and not be taken back in C{crl.pem}, if that is there; ours is C{cert.pem} with C{key.pem}.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time

from hostline.clients.certificates import Certificate, Unreadable, revoked
from hostline.clients.connection import CONNECT_S, Connection
from hostline.clients.encrypted import Encrypted, in_words
from hostline.protocol.endpoints import endpoint, split_endpoint
from hostline.protocol.errors import NoDaemon, Timeout
from hostline.protocol.trust import CA, CERTIFICATE, CRL, KEY, NEXT_KEY

#: Seconds of silence after which the kernel asks whether the other host is still there, and how often before it is not.
_IDLE_S, _ASK_S, _ASKS = 60, 15, 4
#: What OpenSSL finds wrong with a host's certificate (X509_V_ERR_..), by its number.
_FOUND = {
    9: "is not valid yet (is our clock right?)",
    10: "has expired",
    26: "is not for a host's use",
    62: "is for another name",
    64: "is not for this address",
}
#: Those that say that nobody we believe has signed it.
_NOBODYS = (18, 19, 20, 21)


def trust_directory(given: str | None = None) -> str:
    """
    @param given: what the caller says, if anything.
    @return: that, else C{HOSTLINE_TRUST} of the environment, else C{/etc/hostline/trust} for root and
        C{~/.config/hostline} for others.
    """
    named = given or os.environ.get("HOSTLINE_TRUST")
    if named:
        return named
    if os.geteuid() == 0:
        return "/etc/hostline/trust"
    return os.path.expanduser("~/.config/hostline")  # noqa: PTH111  (pathlib is slow to import)


def own_context(trust: str) -> ssl.SSLContext:
    """
    What we show, and what we believe.

    @param trust: the trust directory.
    @raise NoDaemon: without a certificate, its key or an authority nobody can be talked to.
    """
    context = believing(_file(trust, CA))
    certificate = _file(trust, CERTIFICATE)
    for key in (KEY, NEXT_KEY, KEY):  # a new certificate's key may still have its other name, or just be renamed
        if key == KEY or os.path.exists(f"{trust}/{key}"):  # noqa: PTH110
            try:
                context.load_cert_chain(certificate, _file(trust, key), password=_no_password)
                return context
            except OSError as error:
                reason = in_words(error)
    raise NoDaemon(f"{certificate} and {KEY} cannot be used: {reason}")


def believing(ca_file: str = "", ca: str = "") -> ssl.SSLContext:
    """
    A context for a client that believes one authority, and shows nothing.

    @param ca_file: PEM file of the authority, or C{ca} its text.
    @raise NoDaemon: if that is no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which wants certificates, and checks their names
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(ca_file or None, cadata=ca or None)
    except (OSError, ValueError) as error:
        raise NoDaemon(f"{ca_file or 'the authority'}: no certificates in PEM: {in_words(error)}") from None
    return context


def unverified() -> ssl.SSLContext:
    """
    A context that believes anybody: for what is checked otherwise, and nothing else.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TlsConnection(Connection):
    """
    The same stream of lines, both ways.
    """

    def __init__(
        self,
        place: str,
        deadline: float | None = None,
        trust: str | None = None,
        context: ssl.SSLContext | None = None,
        *,
        crl: bool = True,
    ) -> None:
        """
        Connect, and see who it is.

        @param place: C{NAME[:PORT]}.
        @param trust: the trust directory; None: L{trust_directory}.
        @param context: instead of what is in that.
        @param crl: whether C{crl.pem} in that counts.
        @raise BadValue: that is no place.
        @raise NoDaemon: nobody listens there, or one side does not believe the other.
        @raise Timeout: past the deadline.
        """
        host, port = split_endpoint(place)
        directory = trust_directory(trust)
        if context is None:
            context = own_context(directory)
        self.path = endpoint(host, port)
        self._rest = b""
        least = time.monotonic() + CONNECT_S
        until = least if deadline is None else min(deadline, least)
        try:
            self._hurry_before(until)
            plain = socket.create_connection((host, port), max(0.001, until - time.monotonic()))
            try:
                _prepare(plain)
                encrypted = Encrypted(plain, context, host, until)
            except BaseException:
                plain.close()
                raise
        except TimeoutError:
            raise self._too_late(until == deadline) from None
        except ssl.SSLCertVerificationError as error:
            reason = _FOUND.get(error.verify_code, f"is not believed: {error.verify_message}")
            if error.verify_code in _NOBODYS:
                reason = f"is not signed by the authority in {directory}/{CA}"
            raise NoDaemon(f"the certificate of {self.path} {reason}") from None
        except (OSError, UnicodeError) as error:  # UnicodeError: a name with an empty or overlong part
            raise NoDaemon(f"no daemon at {self.path}: {in_words(error)}") from None
        self._socket = encrypted
        if crl:
            self._check_revoked(f"{directory}/{CRL}", encrypted)

    def _check_revoked(self, crl: str, encrypted: Encrypted) -> None:
        # By number, not by OpenSSL: that believes nobody any more once the list is some days old.
        shown = encrypted.certificate()
        try:
            with open(crl, "rb") as file:  # noqa: PTH123
                listed = shown is not None and revoked(Certificate(shown), file.read())
        except FileNotFoundError:
            return
        except (OSError, Unreadable) as error:
            self.close()
            raise NoDaemon(f"cannot read {crl}: {in_words(error)}; 'hostline ca renew' fetches a new one") from None
        if listed:
            self.close()
            raise NoDaemon(f"the certificate of {self.path} has been revoked")

    def _hurry_before(self, until: float) -> None:
        if until <= time.monotonic():
            raise TimeoutError

    def _too_late(self, callers: bool) -> Timeout | NoDaemon:
        if callers:
            return self._late()
        return NoDaemon(f"no daemon at {self.path}: it did not accept within {CONNECT_S:g} s")


def _prepare(plain: socket.socket) -> None:
    # A request is whole when it is sent; and a host that died without a word must not be waited for without end.
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _ASK_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _ASKS),
    ):
        plain.setsockopt(level, option, value)


def _file(trust: str, name: str) -> str:
    path = f"{trust}/{name}"
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        raise NoDaemon(f"no certificate to show: want {path}; 'hostline ca enrol' gets one") from None
    except (OSError, ValueError) as error:
        raise NoDaemon(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    return path


def _no_password() -> str:
    raise OSError(errno.EACCES, "the key wants a password")
