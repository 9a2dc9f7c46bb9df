"""
A socket over TLS, in the manner of a plain one; and what goes wrong with it, in words.
"""

from __future__ import annotations

import errno
import socket
import ssl
import time

#: The most that TLS carries in one piece; who reads as much leaves nothing of it in ssl, where poll() does not look.
RECORD = 1 << 14

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
            raise OSError(error.errno, in_words(error)) from None
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


def in_words(error: Exception) -> str:
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
