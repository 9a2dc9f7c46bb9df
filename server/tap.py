"""
What C{twistd hostline} calls: options in, service out.
"""

from __future__ import annotations

import grp
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage
from zope.interface import implementer

from hostline.protocol.names import near
from hostline.server.config import DEFAULT_RUN, DEFAULT_STATE, BadConfig, Config, read_config
from hostline.server.database import CannotOpen, look
from hostline.server.lock import Locked, StateLock
from hostline.server.loop import install_reactor
from hostline.server.service import CannotStart, HostlineService, complain, make_directory


class Options(usage.Options):
    """
    The options of the daemon, the same for C{twistd hostline} and C{hostlined}.
    """

    synopsis = "[options]"
    optParameters = [
        ["state", "s", None, f"Directory of all the daemon's files [default: {DEFAULT_STATE}]."],
        [
            "socket",
            None,
            None,
            f"Path of the socket [default: STATE/run/hostline.sock, or {DEFAULT_RUN}/hostline.sock].",
        ],
        ["config", "c", None, "Configuration file (TOML)."],
        ["stagger", None, "0", "Seconds between two of the starts that --startup makes."],
    ]
    optFlags = [
        ["check", None, "Check the configuration and the state, say what is wrong, and end."],
        ["startup", None, "Start every sliver that should be up and is not, once; so it is after a start of the host."],
    ]

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the command line; an option cut short is refused, or a slip such as C{--stat} would name another state.
        """
        words = list(sys.argv[1:] if options is None else options)
        self._refuse_abbreviations(words)
        super().parseOptions(words)

    def _refuse_abbreviations(self, words: list[str]) -> None:
        known = {one.rstrip("=") for one in self.longOpt}
        valued = {f"--{one[:-1]}" for one in self.longOpt if one.endswith("=")}
        valued |= {f"-{self.shortOpt[at - 1]}" for at, one in enumerate(self.shortOpt) if one == ":"}
        rest = iter(words)
        for word in rest:
            if word == "--" or not word.startswith("-"):
                return
            name, equals, _ = word[2:].partition("=")
            if word.startswith("--") and name not in known:
                raise usage.UsageError(f"unknown option --{name}{near(name, sorted(known))}")
            if word in valued and not equals:
                next(rest, None)

    def postOptions(self) -> None:
        """
        Work out the paths and read the configuration.
        """
        state = self["state"]
        self.state = Path(state or DEFAULT_STATE).absolute()
        self.run = self.state / "run" if state else Path(DEFAULT_RUN)
        self.socket = Path(self["socket"]).absolute() if self["socket"] else self.run / "hostline.sock"
        try:
            self.stagger_s = float(self["stagger"])
            if not 0 <= self.stagger_s <= 3600:
                raise ValueError
        except ValueError:
            raise usage.UsageError(f"--stagger: want seconds from 0 to 3600, got {self['stagger']}") from None
        self.config_path = Path(self["config"]).absolute() if self["config"] else None
        try:
            self.config: Config = read_config(self.config_path)
        except BadConfig as error:
            raise usage.UsageError(str(error)) from error

    def check(self) -> str:
        """
        Find out what can be known without touching anything; a daemon may be running.

        @return: what was found, in words.
        @raise CannotStart: if a daemon could not start on this state.
        """
        database = self.state / "host.db"
        there = next(path for path in (self.state, *self.state.parents) if path.exists())
        try:
            if database.exists():
                look(database)
            elif not os.access(there, os.W_OK | os.X_OK):
                raise CannotStart(f"{there} cannot be written, so there can be no state in {self.state}")
        except (CannotOpen, OSError) as error:
            raise CannotStart(str(error)) from error
        said = f"the configuration and the state in {self.state} can be used"
        try:
            grp.getgrnam(self.config.operators)
        except KeyError:
            said += f"; there is no group {self.config.operators}, so only root and the daemon's user are operators"
        return said

    def probe(self) -> None:
        """
        Find out, before any fork, whether the daemon could start.

        @raise CannotStart: if another one has the state, or it cannot be written.
        """
        try:
            make_directory(self.state)
            lock = StateLock(self.state / "lock")
            lock.take()
            lock.release()
        except (Locked, OSError) as error:
            raise CannotStart(str(error)) from error


@implementer(IService)
class _Announced(HostlineService):
    """
    The service as C{twistd -n} runs it: why it cannot start is one line, not a traceback.
    """

    def startService(self) -> None:
        try:
            super().startService()
        except CannotStart as error:
            complain(error)
            raise SystemExit(1) from None


def makeService(options: Options, reactor: Any = None) -> HostlineService:
    """
    Build the whole tree.

    @param reactor: None takes the global one, once the service starts; it is installed here if none is.
    """
    if options["check"]:
        try:
            print(f"hostline: {options.check()}")
        except CannotStart as error:
            complain(error)
            raise SystemExit(1) from None
        raise SystemExit(0)
    os.umask(0o022)
    if reactor is None:
        install_reactor()
    try:
        options.probe()
    except CannotStart as error:
        complain(error)
        raise SystemExit(1) from None
    return _Announced(
        options.state,
        options.run,
        options.socket,
        options.config_path,
        options.config,
        reactor,
        bool(options["startup"]),
        options.stagger_s,
    )
