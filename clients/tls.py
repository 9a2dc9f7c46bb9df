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
from hostline.protocol.endpoints import endpoint, split_endpoint
from hostline.protocol.errors import NoDaemon, Timeout

#: The files of a trust directory.
CA, CERTIFICATE, KEY, CRL = "ca.pem", "cert.pem", "key.pem", "crl.pem"
#: What a key is called until its certificate is in place.
NEXT_KEY = "key.pem.next"
#: The most that TLS carries in one piece; who reads as much leaves nothing of it in ssl, where poll() does not look.
RECORD = 1 << 14

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
#: What the host says of ours, by the name of the alert (RFC 8446, 6.2).
_ALERTS = {
    "ALERT_CERTIFICATE_REQUIRED": "it wants a certificate of ours",
    "ALERT_CERTIFICATE_EXPIRED": "our certificate has expired; 'hostline ca enrol' gets another",
    "ALERT_CERTIFICATE_REVOKED": "our certificate has been revoked",
    "ALERT_UNKNOWN_CA": "it does not believe who signed our certificate",
    "ALERT_BAD_CERTIFICATE": "it does not believe our certificate",
    "ALERT_CERTIFICATE_UNKNOWN": "it does not believe our certificate",
    "ALERT_UNSUPPORTED_CERTIFICATE": "our certificate is for another purpose",
    "ALERT_ACCESS_DENIED": "it does not let our certificate in",
    "ALERT_HANDSHAKE_FAILURE": "it takes no certificate or cipher of ours",
    "ALERT_PROTOCOL_VERSION": "it speaks no version of TLS from 1.2",
    "UNSUPPORTED_PROTOCOL": "it speaks no version of TLS from 1.2",
    "WRONG_VERSION_NUMBER": "what answers there does not speak TLS",
    "HTTP_REQUEST": "what answers there does not speak TLS",
    "RECORD_LAYER_FAILURE": "what answers there does not speak TLS",
}
#: In TLS 1.3 a host has our certificate only when we take it as agreed; not every one then says what it does not like.
_HUNG_UP = "it hung up without a word; if it does not believe our certificate, its log says why"


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
                reason = _words(error)
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
        raise NoDaemon(f"{ca_file or 'the authority'}: no certificates in PEM: {_words(error)}") from None
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
            raise NoDaemon(f"no daemon at {self.path}: {_words(error)}") from None
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
            raise NoDaemon(f"cannot read {crl}: {_words(error)}; 'hostline ca renew' fetches a new one") from None
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


class Encrypted:
    """
    A socket over TLS that behaves as a plain one does: what would block is a C{BlockingIOError}, what is late a
    C{TimeoutError}, and what poll() says of its descriptor is so, because nothing that came is kept back.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, host: str, until: float) -> None:
        """
        Greet.

        @param host: whom the other side must prove to be, where the context wants that.
        @param until: on C{time.monotonic}.
        @raise OSError: if they do not agree, one does not believe the other, or it is late.
        """
        self._timeout: float | None = None
        self._heard = False
        self._ssl = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        try:
            self._ssl.settimeout(max(0.001, until - time.monotonic()))
            self._ssl.do_handshake()
        except BaseException:
            self._ssl.close()
            raise

    def certificate(self) -> bytes | None:
        """
        @return: what the other side proved to be, DER.
        """
        return self._ssl.getpeercert(binary_form=True)

    def settimeout(self, seconds: float | None) -> None:
        """
        @param seconds: for each of the following calls; 0: they do not wait; None: they wait for ever.
        """
        self._timeout = seconds
        self._ssl.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        """
        What has come; where nobody waits, all of it up to C{size}.

        @return: nothing at the end.
        @raise OSError: the connection broke, or the host refuses it and says why.
        """
        first = self._received()
        if self._timeout != 0 or not first:
            return first
        pieces, left = [first], size - len(first)
        while left > 0:
            try:
                piece = self._received()
            except OSError:  # the next call tells
                break
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def _received(self) -> bytes:
        try:
            piece = self._ssl.recv(RECORD)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except TimeoutError:
            raise
        except OSError as error:
            if not self._heard and isinstance(error, ConnectionError | ssl.SSLEOFError):
                raise OSError(errno.EPROTO, _HUNG_UP) from None
            raise OSError(error.errno, _words(error)) from None
        if not piece and not self._heard:
            raise OSError(errno.EPROTO, _HUNG_UP)
        self._heard = True
        return piece

    def send(self, data: bytes) -> int:
        """
        Send what goes now. Data that did not go must come again in the next call, with more behind it or not.

        @return: how many bytes went.
        @raise OSError: the connection broke.
        """
        view, sent = memoryview(data), 0
        while sent < len(view):
            try:
                sent += self._ssl.send(view[sent:])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not sent:
                    raise BlockingIOError from None
                break
        return sent

    def sendall(self, data: bytes) -> None:
        """
        @raise TimeoutError: not all of it went in the time set; what did is not known.
        @raise OSError: the connection broke.
        """
        until = None if self._timeout is None else time.monotonic() + self._timeout
        view = memoryview(data)
        while view:
            view = view[self._ssl.send(view) :]
            if until is not None and view:
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._ssl.settimeout(left)

    def fileno(self) -> int:
        return self._ssl.fileno()

    def close(self) -> None:
        """
        Hang up, without TLS's goodbye: to a daemon that means that we say no more and wait for what we asked, and what
        runs for us would go on.
        """
        self._ssl.close()


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


def _words(error: Exception) -> str:
    """
    What an error of ssl or of the network means, for people.
    """
    reason = getattr(error, "reason", None) or ""
    for name, meaning in _ALERTS.items():
        if isinstance(reason, str) and reason.endswith(name):
            return meaning
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError):
        return "it cut the connection"
    if isinstance(error, ssl.SSLError) and reason:
        return str(reason).lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)
