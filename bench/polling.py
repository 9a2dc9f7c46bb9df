"""
Polling: C{status_request} of twenty nodes on the real daemon, permission included, beside its peers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from bench.peers import ECHO, REDIS, SIMPLE_XMLRPC, TWISTED_XMLRPC
from bench.rounds import Goal, Series, Table, by_turns
from bench.setting import Setting
from bench.wire import Server, Slice

HOSTLINE = "hostline"

#: Title, connections, requests at once, the least part of the echo's rate.
WAYS = (
    ("one connection in turn", 1, 1, 0.60),
    ("one connection, 64 at once", 1, 64, 0.40),
    ("50 connections", 50, 1, 0.40),
)


def series(name: str, slices: list[Slice], left_out: str = "") -> Series:
    """
    What slices of load say: the rate, and beside it the latency and the server's own time.
    """
    return Series(
        name,
        "replies/s",
        [one.rate for one in slices],
        {
            "p50 us": [one.p50_us for one in slices],
            "p99 us": [one.p99_us for one in slices],
            "server CPU us": [one.cpu_us for one in slices],
        }
        if slices
        else {},
        left_out,
    )


def polling(setting: Setting, servers: Mapping[str, Server], left_out: Mapping[str, str], size: int) -> list[Table]:
    """
    One table for each way of asking.

    @param servers: the daemon and its peers, by name.
    @param left_out: why others are missing, by name.
    @param size: of the reply in bytes.
    """
    order = [HOSTLINE, ECHO, REDIS, TWISTED_XMLRPC, SIMPLE_XMLRPC]
    notes = [
        f"Replies of {size} bytes over Unix sockets ({SIMPLE_XMLRPC}: loopback TCP, stock, one connection per request, "
        "its listen queue made 128 long); the XML-RPC servers carry the same value, so more bytes.",
        f"Each slice {setting.slice_ms} ms; server and generator on one core, another core each round; "
        + (
            "generator: bench/loadgen.c, which compares every byte of every reply (XML-RPC: status and length)."
            if setting.load.compiled
            else "no C compiler: the generator is bench/generator.py, itself slower than the fast servers."
        ),
        f"{ECHO} (bench/echo.c) answers every line with the same bytes, one send per recv: the floor.",
    ]
    measured: dict[tuple[str, str], Callable[[int], Slice]] = {}
    unable = {}
    for title, connections, depth, _ in WAYS:
        for name, server in servers.items():
            if name == SIMPLE_XMLRPC and depth > 1:
                unable[title, name] = "closes after each reply"
                continue
            measured[title, name] = partial(
                _slice, setting=setting, server=server, connections=connections, depth=depth
            )
    found = by_turns(measured, setting.rounds, setting.cores)
    tables = []
    for title, _, _, least in WAYS:
        rows = []
        for name in order:
            why = unable.get((title, name)) or left_out.get(name, "not asked for")
            slices = found.get((title, name), [])
            rows.append(series(name, slices, "" if slices else why))
        goals = [Goal(HOSTLINE, ECHO, least), Goal(HOSTLINE, TWISTED_XMLRPC, 10)]
        tables.append(Table(f"status_request of 20 nodes, {title}", rows, goals, notes))
        notes = []
    return tables


def _slice(core: int, setting: Setting, server: Server, connections: int, depth: int) -> Slice:
    return setting.load.slice(server, core, connections, depth, setting.slice_ms)
