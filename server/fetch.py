"""
Fetching an authority's payload over HTTPS, with the standard library alone.

It blocks, so it runs in the offload child, which may hang or swell without harm; there the payload is read as well, so
that the daemon sees only what is new in it.
"""

from __future__ import annotations

import base64
import encodings.idna  # noqa: F401  (the child may not be able to import it later)
import http.client
import signal
import ssl
import xmlrpc.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from types import FrameType
from typing import Any, NoReturn
from urllib.parse import SplitResult, urlsplit

from hostline.protocol.errors import OperationFailed
from hostline.protocol.names import shown
from hostline.server.slivers.response import read_payload

#: How a payload is asked for: a call of GetSlivers, or a plain GET of a JSON document.
XMLRPC, JSON = "xmlrpc", "json"
_CHUNK = 256 * 1024
_AGENT = "hostline"


def poll_authority(asked: Mapping[str, Any]) -> dict[str, Any]:
    """
    Fetch a payload and read it.

    @param asked: C{source}, as L{fetch} takes it; the rest as L{read_payload} does, but for C{text}.
    @raise OperationFailed: if it could not be fetched; C{BadPayload} as L{read_payload}.
    """
    return read_payload({**asked, "text": fetch(asked["source"])})


def fetch(source: Mapping[str, Any]) -> str:
    """
    The text that the authority answers with.

    @param source: C{url}; C{method}, L{XMLRPC} or L{JSON}; C{node_id} (0: none is said); C{auth}: for XML-RPC the
        struct that is the first argument, for JSON the value of the header C{Authorization}, None for none; C{ca}: PEM
        of the only authorities whose certificates count, empty for the system's; C{plain}: whether HTTP without TLS is
        right over a network; C{timeout_s}, for all of it; C{bytes}, the most that is read.
    @raise OperationFailed: saying what went wrong; it is safe to try again.
    """
    url = split(source["url"], source["plain"])
    try:
        with _within(source["timeout_s"]):
            return _fetched(url, source)
    except _Late:
        raise OperationFailed(f"{_shown(url)}: no whole answer in {source['timeout_s']:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise OperationFailed(f"{_shown(url)}: its certificate is not trusted: {error.verify_message}") from None
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        raise OperationFailed(f"{_shown(url)}: {_reason(error)}") from None


def split(url: str, plain: bool) -> SplitResult:
    """
    @raise OperationFailed: if it is no address that a payload may come from.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise OperationFailed(f"authority.url: {error}") from None
    if parts.scheme not in ("https", "http") or not host or not url.isascii() or not url.isprintable() or " " in url:
        raise OperationFailed(f"authority.url: want https://HOST[:PORT]/PATH, got {shown(url)}")
    if parts.scheme == "http" and not (plain or _loopback(host)):
        raise OperationFailed(
            f"{_shown(parts)}: want https; authority.plain_http in the configuration allows http over a network"
        )
    return parts


def _fetched(url: SplitResult, source: Mapping[str, Any]) -> str:
    connection = _connection(url, source["ca"], source["timeout_s"])
    try:
        method, body, headers = _request(source)
        if url.username is not None:
            words = f"{url.username}:{url.password or ''}"
            headers.setdefault("Authorization", "Basic " + base64.b64encode(words.encode()).decode())
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        if response.status != 200:
            where = response.getheader("Location")
            more = f" to {shown(where)}, which is not followed" if where else ""
            raise OperationFailed(f"{_shown(url)}: answered {response.status} {response.reason[:100]!r}{more}")
        encoding = response.getheader("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise OperationFailed(f"{_shown(url)}: want the body as it is, got it as {shown(encoding)}")
        data = _read(response, source["bytes"], url)
    finally:
        connection.close()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OperationFailed(f"{_shown(url)}: want UTF-8, got another byte at {error.start}") from None


def _read(response: http.client.HTTPResponse, most: int, url: SplitResult) -> bytes:
    data = bytearray()
    while piece := response.read(_CHUNK):
        data += piece
        if len(data) > most:
            raise OperationFailed(f"{_shown(url)}: want at most {most} bytes (authority.payload_bytes)")
    if response.length:
        raise OperationFailed(f"{_shown(url)}: the connection ended {response.length} bytes before the end")
    return bytes(data)


def _connection(url: SplitResult, ca: str, timeout_s: float) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "http":
        return http.client.HTTPConnection(host, url.port, timeout=timeout_s)
    try:
        context = ssl.create_default_context(cadata=ca or None)
    except ssl.SSLError as error:
        raise OperationFailed(f"authority.ca_file: {error.reason or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return http.client.HTTPSConnection(host, url.port, timeout=timeout_s, context=context)


def _request(source: Mapping[str, Any]) -> tuple[str, bytes | None, dict[str, str]]:
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity", "Connection": "close"}
    auth = source["auth"]
    if source["method"] == JSON:
        if auth is not None:
            headers["Authorization"] = auth
        return "GET", None, headers | {"Accept": "application/json"}
    arguments = (auth if auth is not None else {},) + ((source["node_id"],) if source["node_id"] else ())
    try:
        body = xmlrpc.client.dumps(arguments, "GetSlivers", allow_none=True)
    except (OverflowError, TypeError):  # not with what it says: it may be a secret
        raise OperationFailed("authority.auth_file: want what XML-RPC can carry") from None
    return "POST", body.encode("utf-8"), headers | {"Content-Type": "text/xml"}


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(url: SplitResult) -> str:
    # Without what may be a password, and without a query, which may be one as well.
    place = url.hostname or ""
    return f"{url.scheme}://{f'[{place}]' if ':' in place else place}{f':{url.port}' if url.port else ''}{url.path}"


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return f"the connection ended in the middle of the answer, after {len(error.partial)} bytes"
    if isinstance(error, http.client.HTTPException):
        return f"no answer in HTTP: {type(error).__name__} {shown(str(error))}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class _Late(Exception):
    """
    The time is over.
    """


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    # The timeout of a socket is for each piece, and an answer may come in a million of them.
    def late(number: int, frame: FrameType | None) -> NoReturn:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
