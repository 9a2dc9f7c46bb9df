"""
C{hostline ca enrol}, C{ca renew} and C{ticket sign}: certificates of our own, and what is signed with them.

Keys, requests and signatures are made by C{hostline-pki}, which is installed where the package cryptography is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from hashlib import sha256

from hostline.clients import trustfiles
from hostline.clients.certificates import Unreadable, blocks, first
from hostline.clients.client import GRACE_S, Client
from hostline.clients.connection import DEFAULT_SOCKET
from hostline.clients.output import say, terminal
from hostline.clients.settings import OK, WRONG_USAGE, Settings, Usage
from hostline.clients.tls import (
    TlsConnection,
    believing,
    own_context,
    trust_directory,
    unverified,
)
from hostline.clients.trustfiles import TrustFiles
from hostline.protocol.endpoints import ENROL_PORT, TLS_PORT, endpoint, split_endpoint
from hostline.protocol.errors import BadValue, Denied, Exists, HostError, Timeout
from hostline.protocol.trust import CERTIFICATE, CRL, ISSUER, KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any

ENROL = "hostline ca enrol [HOST[:PORT]] TOKEN|- [--trust DIR] [--host HOST[:PORT]] [--force]"
RENEW = "hostline ca renew [--trust DIR] [--host HOST[:PORT]] [--force]"
SIGN = "hostline ticket sign [--certificate FILE] [--key FILE] [--chain FILE] [--trust DIR] FILE|-"
#: Other than the token's, a request's names are for nobody: who signs passes them over.
_NAME = "urn:hostline:request"
#: Seconds that making a key, or a signature, may take on a slow machine.
_PKI_S = 120.0


class _Given:
    """
    The words after the command.
    """

    def __init__(self, words: list[str], settings: Settings, usage: str, flags: str = "", names: str = "") -> None:
        """
        @param flags: options without a value.
        @param names: those with one.
        @raise Usage: for any other.
        """
        self.flags: set[str] = set()
        self.options: dict[str, str] = {}
        self.values: list[str] = []
        rest = list(words)
        while rest:
            name, equals, value = rest[0].partition("=")
            if rest[0] in flags.split():
                self.flags.add(rest.pop(0))
            elif name in names.split():
                del rest[0]
                if not equals:
                    if not rest:
                        raise Usage(f"{name} wants a value", usage)
                    value = rest.pop(0)
                self.options[name] = value
            elif rest[0].startswith("-") and rest[0] != "-":
                if not settings.take(rest):
                    raise Usage(f"no option {rest[0]}", usage)
            else:
                self.values.append(rest.pop(0))


def run_ca(words: list[str], settings: Settings) -> int:
    """
    C{hostline ca enrol ..} and C{hostline ca renew ..}.

    @return: the exit status.
    @raise Usage: if the words make no sense.
    @raise HostError: if it cannot be done.
    """
    usage = ENROL if words[0] == "enrol" else RENEW
    given = _Given(words[1:], settings, usage, "--force")
    if settings.asked:
        say(f"usage: {usage}\n")
        return OK
    force = "--force" in given.flags
    if words[0] == "renew":
        if given.values:
            raise Usage("ca renew takes no arguments", usage)
        return _renew(settings, force)
    if len(given.values) not in (1, 2):
        raise Usage("ca enrol wants a token, and before it the host that gives it out, unless that is this one", usage)
    place = _enrol_place(given.values[0]) if len(given.values) == 2 else None
    token = sys.stdin.readline().strip() if given.values[-1] == "-" else given.values[-1]
    secret, dot, fingerprint = token.rpartition(".")
    fingerprint = fingerprint.lower()
    if not dot or not secret or len(fingerprint) != 64 or fingerprint.strip("0123456789abcdef"):
        raise Usage("want the whole token, SECRET.FINGERPRINT, as 'hostline ca token' printed it", usage)
    return _enrol(settings, place, secret, fingerprint, force)


def _enrol_place(text: str) -> str:
    try:
        return endpoint(*split_endpoint(text, ENROL_PORT))
    except BadValue as error:
        raise Usage(error.message, ENROL) from None


def _issuer(text: str) -> str:
    try:
        return endpoint(*split_endpoint(text, TLS_PORT))
    except BadValue as error:
        raise Usage(error.message) from None


def _enrol(settings: Settings, place: str | None, secret: str, fingerprint: str, force: bool) -> int:
    issuer = _issuer(settings.host) if settings.host else ""
    with TrustFiles(trust_directory(settings.trust)) as files:
        if files.read(CERTIFICATE) and not force:
            raise Exists(f"{files.path(CERTIFICATE)} is there already; --force replaces it, once a new one has come")
        pki = _pki()
        seconds = GRACE_S if settings.timeout is None else settings.timeout
        if place is None:
            client = Client(settings.socket or os.environ.get("HOSTLINE_SOCKET") or DEFAULT_SOCKET, seconds)
            ca = _authority(client, fingerprint)
            issuer = issuer or endpoint(client.request("hello")["host"], TLS_PORT)
        else:
            with _client(place, files, unverified(), seconds) as stranger:
                ca = _authority(stranger, fingerprint)
            # A connection that is verified by that authority, and no other, hears the secret.
            client = _client(place, files, believing(ca=ca.decode("ascii")), seconds)
            issuer = issuer or endpoint(split_endpoint(place)[0], TLS_PORT)
        with client:
            body = _signed(client, pki, files, "ca_enrol", secret)
        trustfiles.enrolled(files, _pem(body, "certificate"), ca, _pem(body, "crl"), issuer)
        _tell(files, "enrolled")
    return OK


def _renew(settings: Settings, force: bool) -> int:
    with TrustFiles(trust_directory(settings.trust)) as files:
        context = own_context(files.directory)
        noted = files.read(ISSUER).decode("ascii", "replace").strip()
        if not (settings.host or noted):
            raise Usage(f"{files.path(ISSUER)} does not say where to renew: want --host HOST[:PORT]", RENEW)
        place = _issuer(settings.host or noted)
        try:
            due = first(files.read(CERTIFICATE)).renew_at
        except Unreadable as error:
            raise HostError(f"{files.path(CERTIFICATE)}: {error}") from None
        seconds = GRACE_S if settings.timeout is None else settings.timeout
        renewing = force or time.time() >= due
        with _client(place, files, context, seconds, _readable(files.read(CRL))) as client:
            if renewing:
                files.replace(_pem(_signed(client, _pki(), files, "ca_renew"), "certificate"))
            crl = _pem(client.request("ca_revoked"), "crl")
        if crl != files.read(CRL):
            files.write(CRL, crl)
        if terminal():
            _tell(files, "renewed" if renewing else "nothing to do")
    return OK


def _client(place: str, files: TrustFiles, context: ssl.SSLContext, seconds: float, crl: bool = False) -> Client:
    return Client(
        host=place,
        timeout=seconds,
        connect=lambda where, deadline: TlsConnection(where, deadline, files.directory, context, crl=crl),
    )


def _readable(crl: bytes) -> bool:
    # One that is torn is what a renewal mends.
    try:
        return bool(blocks(crl, b"X509 CRL"))
    except Unreadable:
        return False


def _authority(client: Client, fingerprint: str) -> bytes:
    """
    @return: the authority whose fingerprint is in the token, PEM.
    @raise Denied: what answers is not of that authority.
    """
    pem = _pem(client.request("ca_certificate"), "certificate")
    for der in blocks(pem, b"CERTIFICATE"):
        if sha256(der).hexdigest() == fingerprint:
            from ssl import DER_cert_to_PEM_cert

            return DER_cert_to_PEM_cert(der).encode("ascii")
    raise Denied("the host's authority is not the one that the token is of; the secret was not said")


def _signed(client: Client, pki: str, files: TrustFiles, command: str, *values: str) -> Any:
    made = _made(pki, ["request", _NAME, "--directory", files.directory])
    try:
        return client.request(command, *values, made)
    except BaseException:
        files.discard()
        raise


def _pem(body: Any, key: str) -> bytes:
    text = body.get(key) if isinstance(body, dict) else None
    if not isinstance(text, str) or not text.startswith("-----BEGIN ") or not text.isascii():
        raise HostError(f"want a reply with a PEM as {key}, got {str(body)[:100]}")
    return text.encode("ascii")


def _tell(files: TrustFiles, what: str) -> None:
    known = first(files.read(CERTIFICATE))
    ends, due = (time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(one)) for one in (known.ends, known.renew_at))
    say(f"{what}: the certificate in {files.directory} is good until {ends}, to be renewed from {due}\n")


# hostline-pki.


class NoPki(Usage):
    """It is not installed."""


def _pki() -> str:
    """
    @raise Usage: it is not there.
    """
    from shutil import which

    near = [os.path.dirname(os.path.abspath(one)) for one in (sys.argv[0], sys.executable) if one]  # noqa: PTH100, PTH120
    for path in [*near, None]:
        found = which("hostline-pki", path=path)
        if found:
            return found
    raise NoPki("there is no hostline-pki, which makes keys and signs: pip install 'hostline[tls]'")


def _made(pki: str, words: list[str]) -> str:
    done = _ran([pki, *words], subprocess.DEVNULL, subprocess.PIPE)
    if done.returncode == WRONG_USAGE:
        raise NoPki("hostline-pki cannot be used; it said why")
    if done.returncode != 0:
        raise HostError("no key and request could be made; hostline-pki said why")
    return str(done.stdout)


def _ran(argv: list[str], given: int, output: int | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, stdin=given, stdout=output, timeout=_PKI_S, check=False, text=True)
    except OSError as error:
        raise HostError(f"cannot run {argv[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise Timeout(f"{argv[0]} did not end within {_PKI_S:g} s") from None


def run_ticket(words: list[str], settings: Settings) -> int:
    """
    C{hostline ticket sign ..}: print the signed ticket.

    @param words: those after C{sign}.
    @return: the exit status.
    @raise Usage: if they make no sense.
    """
    given = _Given(words, settings, SIGN, "", "--certificate --key --chain")
    if settings.asked:
        say(f"usage: {SIGN}\n")
        return OK
    if len(given.values) != 1:
        raise Usage("ticket sign wants one file, or -", SIGN)
    directory = trust_directory(settings.trust)
    certificate = given.options.get("--certificate", f"{directory}/{CERTIFICATE}")
    key = given.options.get("--key", f"{directory}/{KEY}")
    chain = ["--chain", given.options["--chain"]] if "--chain" in given.options else []
    pki = _pki()
    descriptor = 0
    if given.values[0] != "-":
        try:
            descriptor = os.open(given.values[0], os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Usage(f"cannot read {given.values[0]}: {error.strerror}") from None
    argv = [pki, "ticket", "--certificate", certificate, "--key", key, *chain]
    done = _ran(argv, descriptor)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode
