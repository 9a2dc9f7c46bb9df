"""
TLS: the same polls of the same daemon through the network and through its Unix socket.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.child import ROOT
from bench.daemon import STATUS_REQUEST, Daemon, Refused
from bench.machine import clean_environment, cpu_ns, pin, pinned, python
from bench.polling import series
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting
from bench.wire import LoadFailed, Slice

UNIX, TLS = "hostline, Unix socket", "hostline, TLS"
#: Title, and requests at once.
_WAYS = (("one connection in turn", 1), ("one connection, 64 at once", 64))
_CIPHER_BYTES = 1 << 17
_DEADLINE_S = 30.0

#: Beside the other parts' daemon.
_OWN = "[slivers]\nuid_first = 804000\nuid_count = 1000\n[delegates]\nuid_first = 806000\nuid_count = 100\n"


class _Place(NamedTuple):
    """
    How the daemon is reached.
    """

    daemon: Daemon
    port: int
    context: ssl.SSLContext

    def connect(self, name: str) -> socket.socket:
        if name == UNIX:
            plain = socket.socket(socket.AF_UNIX)
            plain.settimeout(_DEADLINE_S)
            plain.connect(str(self.daemon.socket))
            return plain
        raw = socket.create_connection(("localhost", self.port), _DEADLINE_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.context.wrap_socket(raw, server_hostname="localhost")


def tls(setting: Setting) -> list[Table]:
    """
    One table for each way of asking, and one for greetings.

    @raise Refused: the daemon makes no certificates.
    @raise LoadFailed: a reply was wrong.
    """
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        port, enrol = one.getsockname()[1], two.getsockname()[1]
    config = f'{_OWN}[tls]\nlisten = "127.0.0.1:{port}"\nenrol = "127.0.0.1:{enrol}"\n'
    with Daemon(setting.directory, "secured", config) as daemon:
        reply = daemon.swap_in()
        daemon.ask("ca_init names=['localhost']")
        trust = _enrolled(setting, daemon, f"localhost:{enrol}", f"localhost:{port}")
        context = ssl.create_default_context(cafile=str(trust / "ca.pem"))
        context.load_cert_chain(trust / "cert.pem", trust / "key.pem")
        place = _Place(daemon, port, context)
        return [*_polls(setting, place, reply), _greetings(setting, place, reply)]


def _polls(setting: Setting, place: _Place, reply: bytes) -> list[Table]:
    with place.connect(TLS) as peer:
        assert isinstance(peer, ssl.SSLSocket)
        spoken = f"{peer.version()}, {(peer.cipher() or ('?',))[0]}"
    notes = [
        f"Replies of {len(reply)} bytes; {spoken}; over loopback. Each slice {setting.slice_ms} ms; daemon and client "
        "on one core, another core each round.",
        "The client is Python's (socket, ssl) on both sides and takes a good part of the time: the daemon's own is in "
        "the last column.",
    ]
    measured: dict[tuple[str, str], Callable[[int], Slice]] = {
        (title, name): partial(_slice, setting=setting, place=place, name=name, depth=depth, reply=reply)
        for title, depth in _WAYS
        for name in (UNIX, TLS)
    }
    found = by_turns(measured, setting.rounds, setting.cores)
    tables = []
    for title, _ in _WAYS:
        rows = [series(name, found[title, name]) for name in (UNIX, TLS)]
        tables.append(Table(f"status_request of 20 nodes by TLS, {title}", rows, [Goal(TLS, UNIX)], notes))
        notes = []
    return tables


def _greetings(setting: Setting, place: _Place, reply: bytes) -> Table:
    measured = {name: partial(_anew, setting=setting, place=place, name=name, reply=reply) for name in (UNIX, TLS)}
    found = by_turns(measured, setting.rounds, setting.cores)
    rows = [
        Series(
            name,
            "connections/s",
            [one.rate for one in found[name]],
            {"p50 us": [one.p50_us for one in found[name]], "server CPU us": [one.cpu_us for one in found[name]]},
        )
        for name in (UNIX, TLS)
    ]
    note = "Connect, greet, ask once, hang up; each with its own handshake, both sides showing a certificate (P-256)."
    return Table("one status_request on a new connection each", rows, [Goal(TLS, UNIX)], [note])


def _slice(core: int, setting: Setting, place: _Place, name: str, depth: int, reply: bytes) -> Slice:
    request, wanted = STATUS_REQUEST * depth, reply * depth
    with pinned(core), place.connect(name) as peer:
        pin(place.daemon.pid, core)
        for _ in range(20):
            _turn(peer, request, wanted)
        took: list[int] = []
        cpu, begun = cpu_ns(place.daemon.pid), time.perf_counter_ns()
        end = begun + setting.slice_ms * 1_000_000
        before = begun
        while before < end:
            _turn(peer, request, wanted)
            now = time.perf_counter_ns()
            took.append(now - before)
            before = now
        return _figures(took, before - begun, cpu_ns(place.daemon.pid) - cpu, depth)


def _anew(core: int, setting: Setting, place: _Place, name: str, reply: bytes) -> Slice:
    with pinned(core):
        pin(place.daemon.pid, core)
        took: list[int] = []
        cpu, begun = cpu_ns(place.daemon.pid), time.perf_counter_ns()
        end = begun + setting.slice_ms * 1_000_000
        before = begun
        while before < end:
            with place.connect(name) as peer:
                _turn(peer, STATUS_REQUEST, reply)
            now = time.perf_counter_ns()
            took.append(now - before)
            before = now
        return _figures(took, before - begun, cpu_ns(place.daemon.pid) - cpu, 1)


def _figures(took: list[int], elapsed_ns: int, cpu_ns: int, depth: int) -> Slice:
    took = sorted(took)
    replies = len(took) * depth
    return Slice(
        rate=replies * 1e9 / elapsed_ns,
        p50_us=took[len(took) // 2] / 1000,
        p99_us=took[min(len(took) - 1, len(took) * 99 // 100)] / 1000,
        cpu_us=cpu_ns / 1000 / replies,
        replies=replies,
        next_number=0,
    )


def _turn(peer: socket.socket, request: bytes, wanted: bytes) -> None:
    peer.sendall(request)
    data = peer.recv(_CIPHER_BYTES)
    while len(data) < len(wanted):
        piece = peer.recv(_CIPHER_BYTES)
        if not piece:
            break
        data += piece
    if data != wanted:
        raise LoadFailed(f"not the reply that was expected: {data[:300]!r}")


def _enrolled(setting: Setting, daemon: Daemon, enrol: str, listen: str) -> Path:
    token = daemon.ask("ca_token urn:bench:user:load")["token"]
    daemon.ask("add_user load certificate=urn:bench:user:load operator=True")
    trust = setting.directory / "trust"
    program = [python(), str(ROOT / "clients" / "bin" / "hostline")]
    until = time.monotonic() + _DEADLINE_S
    while True:
        done = subprocess.run(
            [*program, "ca", "enrol", enrol, token, "--host", listen, "--trust", str(trust)],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
        )
        if done.returncode == 0:
            return trust
        if time.monotonic() > until or done.returncode != 3:  # the ports open some moments after there is an authority
            raise Refused(done.stderr.strip())
        time.sleep(0.1)
