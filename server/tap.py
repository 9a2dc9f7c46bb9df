"""
What C{twistd hostline} calls: options in, service out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage
from zope.interface import implementer

from hostline.server.config import DEFAULT_RUN, DEFAULT_STATE, BadConfig, Config, read_config
from hostline.server.lock import Locked, StateLock
from hostline.server.loop import install_reactor
from hostline.server.service import CannotStart, HostlineService, complain


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
    ]
    optFlags = [["check", None, "Check the configuration and the state, say what is wrong, and end."]]

    def postOptions(self) -> None:
        """
        Work out the paths and read the configuration.
        """
        state = self["state"]
        self.state = Path(state or DEFAULT_STATE).absolute()
        self.run = self.state / "run" if state else Path(DEFAULT_RUN)
        self.socket = Path(self["socket"]).absolute() if self["socket"] else self.run / "hostline.sock"
        self.config_path = Path(self["config"]).absolute() if self["config"] else None
        try:
            self.config: Config = read_config(self.config_path)
        except BadConfig as error:
            raise usage.UsageError(str(error)) from error

    def probe(self) -> None:
        """
        Find out, before any fork, whether the daemon could start.

        @raise CannotStart: if another one has the state, or it cannot be written.
        """
        try:
            self.state.mkdir(mode=0o711, parents=True, exist_ok=True)
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
            options.probe()
        except CannotStart as error:
            complain(error)
            raise SystemExit(1) from None
        print(f"hostline: the configuration and the state in {options.state} can be used")
        raise SystemExit(0)
    if reactor is None:
        install_reactor()
    try:
        options.probe()
    except CannotStart as error:
        complain(error)
        raise SystemExit(1) from None
    os.umask(0o022)
    return _Announced(options.state, options.run, options.socket, options.config_path, options.config, reactor)
