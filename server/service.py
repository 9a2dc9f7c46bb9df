"""
The service: opens everything when it starts (after any fork), closes it when it stops; nodes live on.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from hostline.server.config import BadConfig, Config, read_config
from hostline.server.connection import Connection
from hostline.server.daemon import Daemon, open_host
from hostline.server.database import CannotOpen
from hostline.server.doors import Door, Doors
from hostline.server.drivers.driver import Driver
from hostline.server.facades.emulab import unavailable, web_connection
from hostline.server.lock import Locked, StateLock
from hostline.server.loop import loop_of
from hostline.server.network.links import Links
from hostline.server.offload import Offload
from hostline.server.outfit import find_drivers
from hostline.server.reception import Reception
from hostline.server.rounds import ROUND_S
from hostline.server.sockets import SocketTaken, listen
from hostline.server.store import Store
from hostline.server.supervise import rundir
from hostline.server.supervise.cgroups import Cgroups
from hostline.server.supervise.claim import Claimed, claim
from hostline.server.supervise.delegate_accounts import DelegateAccounts
from hostline.server.supervise.shelf import Shelf
from hostline.server.supervise.spawn import Spawner, become_subreaper
from hostline.server.supervise.uids import UidRange

#: Descriptors that are enough for every host; more would only make bugs harder to see.
_FILES = 1 << 16


class CannotStart(Exception):
    """
    The daemon cannot start; the message says why, for people.
    """


class HostlineService(Service):
    """
    One daemon.

    @ivar daemon: its parts, while it runs.
    @ivar failed: whether it was found, once the reactor ran, that it cannot serve.
    """

    _log = Logger()

    def __init__(
        self,
        state: Path,
        run: Path,
        socket_path: Path,
        config_path: Path | None,
        config: Config,
        reactor: Any,
        startup: bool = False,
        stagger_s: float = 0.0,
    ) -> None:
        """
        @param startup: start every sliver that should be up, as after a start of the host, which is noticed without.
        @param stagger_s: seconds between two of these starts.
        """
        self._state = state
        self._run = run
        self._socket_path = socket_path
        self._calls_path = run / "emulab.sock"
        self._config_path = config_path
        self._config = config
        self._reactor = reactor
        self._startup = startup
        self._stagger_s = stagger_s
        self._same_boot = True
        self._lock = StateLock(state / "lock")
        self._closers: list[Callable[[], Any]] = []
        self.daemon: Daemon | None = None
        self.failed = False

    def startService(self) -> None:
        """
        Take the lock, read the state, bind the socket; serve as soon as the reactor runs.

        @raise CannotStart: and nothing is left open.
        """
        try:
            self._start()
        except (Locked, CannotOpen, SocketTaken, Claimed, OSError) as error:
            self._close()
            raise CannotStart(str(error)) from error
        super().startService()

    def _start(self) -> None:
        for directory in (self._state, self._run):
            make_directory(directory)
        self._lock.take()
        self._closers.append(self._lock.release)
        self._same_boot = rundir.is_of_this_boot(self._run)
        reactor = self._reactor or _global_reactor()
        loop = loop_of(reactor)
        keeper = Store(self._state / "host.db", loop.call_soon_threadsafe, loop.call_soon)
        self._closers.append(keeper.close)
        host, loaded = open_host(keeper, socket.gethostname(), self._config)
        host.instance = _instance(self._state / "instance")
        mode = 0o666 if os.geteuid() == 0 else 0o600
        listening = listen(self._socket_path, mode)
        self._closers.append(listening.close)
        calls = listen(self._calls_path, mode)
        self._closers.append(calls.close)
        _open_many_files()
        become_subreaper()
        spawner = Spawner(loop, reaps_strangers=True)
        self._closers.append(spawner.close)
        accounts = None
        if os.geteuid() == 0:
            self._closers.append(claim(UidRange(self._config.slivers.uid_first, self._config.slivers.uid_count)).close)
            of_delegates = UidRange(self._config.delegates.uid_first, self._config.delegates.uid_count)
            self._closers.append(claim(of_delegates, key="delegates.uid").close)
            accounts = DelegateAccounts(
                self._state / "delegates",
                self._socket_path,
                instance=host.instance,
                uids=of_delegates,
                spawner=spawner,
                clock=reactor,
            )
        cgroups, why_not = Cgroups.find(host.instance, note=self._run / "cgroup")
        if cgroups is not None:
            self._closers.append(cgroups.close)
        drivers: dict[str, Driver] = {}
        missing: dict[str, str] = {}
        shelf = None
        if os.geteuid() == 0:
            shelf = Shelf(self._state / "images", spawner, reactor, [self._state / "roots"])
        self.daemon = Daemon(
            host,
            keeper,
            drivers,
            Offload(spawner, loop=loop, clock=reactor),
            self._config,
            self._state,
            loop,
            reactor,
            time.time,
            f"{int(time.time()):x}",
            Doors(self._run, partial(self._serve_sliver, loop)),
            shelf=shelf,
            accounts=accounts,
            missing=missing,
            spawner=spawner,
        )
        self._closers.append(self.daemon.close)
        for note in loaded.notes + host.aside:
            self._log.warn("{note}", note=note)
        looking = find_drivers(
            self._config,
            self._state,
            self._run,
            drivers,
            missing,
            self._closers.append,
            instance=host.instance,
            shelf=shelf,
            spawner=spawner,
            loop=loop,
            clock=reactor,
            cgroups=cgroups,
            no_cgroups=why_not,
            footings=self.daemon.sync.footings,
        )
        self._closers.append(lambda: _give_up(looking))
        reactor.callWhenRunning(self._serve, reactor, loop, (listening, calls), spawner, looking)

    def _serve(
        self,
        reactor: Any,
        loop: asyncio.AbstractEventLoop,
        sockets: tuple[socket.socket, socket.socket],
        spawner: Spawner,
        looking: Coroutine[Any, Any, Links | None],
    ) -> None:
        daemon = self.daemon
        if daemon is None:
            return
        reaping = LoopingCall(self._round, spawner)
        reaping.clock = reactor
        reaping.start(ROUND_S, now=False)
        self._closers.append(lambda: reaping.stop() if reaping.running else None)
        previous = signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self.reload))
        self._closers.append(lambda: signal.signal(signal.SIGHUP, previous))
        serving = Deferred.fromCoroutine(self._recover_and_listen(daemon, loop, sockets, looking))
        serving.addErrback(self._failed, reactor)

    async def _recover_and_listen(
        self,
        daemon: Daemon,
        loop: asyncio.AbstractEventLoop,
        sockets: tuple[socket.socket, socket.socket],
        looking: Coroutine[Any, Any, Links | None],
    ) -> None:
        # Whoever connects before this waits in the socket's backlog: the first answer is already true.
        daemon.wires = await looking
        startup = self._startup or not self._same_boot
        await daemon.recover(startup, self._stagger_s)
        # What was loaded stays: the collector need not walk it, nor come by after every few requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        listening, calls = sockets
        self._closers.append(Reception(listening, daemon, loop).close)
        self._closers.append(Reception(calls, daemon, loop, partial(web_connection, daemon), unavailable).close)
        daemon.names.open_all(self._config)
        daemon.tls.open()
        self._log.info(
            "hostline serves {host} at {socket}, state {state}, as uid {uid}",
            host=daemon.host.name,
            socket=str(self._socket_path),
            state=str(self._state),
            uid=os.geteuid(),
        )

    def _serve_sliver(
        self, loop: asyncio.AbstractEventLoop, listening: socket.socket, serial: int
    ) -> Callable[[], None]:
        """
        Serve a sliver's own socket.

        @return: ends that.
        """
        daemon = self.daemon
        assert daemon is not None, "doors are opened by the daemon"
        who = partial(daemon.caller_inside, serial)

        def enter(connection: socket.socket) -> Coroutine[Any, Any, object]:
            return loop.connect_accepted_socket(lambda: Connection(daemon, who), connection)

        return Door(listening, loop, enter, lambda: daemon.gate.is_full(serial)).close

    def _failed(self, failure: Failure, reactor: Any) -> None:
        self._log.failure("the daemon could not start", failure)
        self.failed = True
        reactor.stop()

    def _round(self, spawner: Spawner) -> None:
        spawner.reap_strangers()
        if self.daemon is not None:
            self.daemon.round()

    def reload(self) -> None:
        """
        Read the configuration again (SIGHUP), and say what that changed.
        """
        if self.daemon is None:
            return
        try:
            config = read_config(self._config_path)
        except BadConfig as error:
            self._log.error("the configuration stays as it was: {reason}", reason=str(error))
            return
        changed, wanting_restart = self.daemon.reload(config)
        self._config = config
        self._log.info(
            "configuration read again: {changed}; waiting for a restart: {restart}",
            changed=", ".join(f"{key} {old!r} -> {new!r}" for key, (old, new) in changed.items()) or "nothing changed",
            restart=", ".join(wanting_restart) or "nothing",
        )

    def stopService(self) -> None:
        """
        Close everything; every sliver goes on as it is.
        """
        super().stopService()
        self._log.info("hostline ends; what it runs goes on")
        self._close()

    def _close(self) -> None:
        closers, self._closers = self._closers, []
        if self.daemon is not None:  # while we hold the lock: the next daemon's socket has the same path
            self._socket_path.unlink(missing_ok=True)
            self._calls_path.unlink(missing_ok=True)
            self.daemon = None
        for closer in reversed(closers):
            closer()


def _give_up(looking: Coroutine[Any, Any, Links | None]) -> None:
    """
    What has not begun need not; what has begun waits for a child, and ends with the process.
    """
    if inspect.getcoroutinestate(looking) == inspect.CORO_CREATED:
        looking.close()


def _instance(path: Path) -> str:
    """
    The random id of this state directory: part of the tag on all that is made on the host for it.
    """
    try:
        path.chmod(0o600)
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        fresh = path.with_name(path.name + ".new")
        fresh.touch(0o600)
        fresh.write_text(secrets.token_hex(8) + "\n", "ascii")
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.rename(path)
        return path.read_text("ascii").strip()


def _open_many_files() -> None:
    """
    Take as many descriptors as we may have: each sliver and each connection takes one. Start commands get their own
    limit from the shim.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _global_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


def make_directory(path: Path) -> None:
    """
    Make a directory and those above it, so that everybody may pass through to the socket, whatever the umask (twistd
    sets 077 behind a fork). One that is there stays as it is.

    @raise OSError: if one cannot be made.
    """
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        one.chmod(0o711 if one == path else 0o755)
    path.mkdir(exist_ok=True)  # for its error, if it is no directory


def complain(error: CannotStart) -> None:
    """
    Say on standard error why there is no daemon.
    """
    print(f"hostline: {error}", file=sys.stderr)
