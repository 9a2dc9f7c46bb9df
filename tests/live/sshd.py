"""
A real sshd on a loopback port, set up as distributions do unless a test says otherwise, and clients that go through it.
"""

from __future__ import annotations

import socket
import subprocess
import time
import unittest
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.live.support import DEADLINE_S, remove_directory, temporary_directory

#: What distributions have, and what a hostile guest would like best.
DEFAULT: Mapping[str, str] = {
    "UsePAM": "no",
    "Subsystem": "sftp internal-sftp",
    "AllowTcpForwarding": "yes",
    "AllowStreamLocalForwarding": "yes",
    "AllowAgentForwarding": "yes",
    "X11Forwarding": "yes",
    "PermitTTY": "yes",
    "PermitTunnel": "no",
    "PubkeyAuthentication": "yes",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "PermitRootLogin": "no",
    "StrictModes": "yes",
    "AcceptEnv": "LANG LC_*",
    "PrintMotd": "no",
    "MaxStartups": "1000",  # of ours: tests come in crowds, each from 127.0.0.1
}
_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "GlobalKnownHostsFile=/dev/null",
    "LogLevel=ERROR",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "ConnectTimeout=20",
)
#: How each program names the port.
_PORT = {"ssh": "-p", "sftp": "-P", "scp": "-P"}


class Sshd:
    """
    One sshd that ends with its test.

    @ivar port: where it listens, on 127.0.0.1.
    @ivar directory: its files, and the keys that were made; removed at the end.
    @ivar key: the public half of the key that clients come with, one line.
    """

    def __init__(self, test: unittest.TestCase, config: Mapping[str, str] | None = None) -> None:
        """
        @param config: keyword to value, over L{DEFAULT}; an empty value leaves the keyword out.
        """
        self.directory = temporary_directory()
        test.addCleanup(remove_directory, self.directory)
        self._process: subprocess.Popen[bytes] | None = None
        test.addCleanup(self.end)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.new_key("host_key")
        self.key = self.new_key("key")
        self._settings = dict(DEFAULT)
        self.configure(config or {})

    @property
    def log(self) -> Path:
        """
        Where it says what it does.
        """
        return self.directory / "log"

    @property
    def pid(self) -> int:
        """
        Of the one that listens.
        """
        assert self._process is not None
        return self._process.pid

    def new_key(self, name: str, kind: str = "ed25519") -> str:
        """
        Make a key; its private half is the file C{name} in the directory.

        @return: the public half.
        """
        words = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", str(self.directory / name)]
        subprocess.run(words, check=True)
        return (self.directory / f"{name}.pub").read_text().strip()

    def configure(self, config: Mapping[str, str]) -> None:
        """
        Set some keywords, and start anew.
        """
        self.end()
        self._settings.update(config)
        fixed = {
            "Port": str(self.port),
            "ListenAddress": "127.0.0.1",
            "HostKey": str(self.directory / "host_key"),
            "PidFile": "none",
        }
        lines = [f"{word} {value}\n" for word, value in (fixed | self._settings).items() if value]
        path = self.directory / "sshd_config"
        path.write_text("".join(lines))
        Path("/run/sshd").mkdir(exist_ok=True)
        argv = ["/usr/sbin/sshd", "-D", "-f", str(path), "-E", str(self.log)]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE_S
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"sshd does not listen: {self.log.read_text()}")
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self) -> None:
        """
        End the one that listens; sessions go on.
        """
        if self._process is not None:
            self._process.terminate()
            self._process.wait(DEADLINE_S)
            self._process = None

    def argv(
        self, user: str, *words: str, options: Sequence[str] = (), key: str = "key", program: str = "ssh"
    ) -> list[str]:
        """
        @param words: what follows C{user@host}; for scp they are its operands, in which C{HOST:} is replaced.
        @param options: words in front of it; of two settings the first counts, so these go before ours.
        @param key: of L{new_key}.
        @return: what to run.
        """
        host = f"{user}@127.0.0.1"
        settings = [word for one in _OPTIONS for word in ("-o", one)]
        begin = [program, "-F", "none", *options, "-i", str(self.directory / key), *settings]
        begin += [_PORT[program], str(self.port)]
        if program == "scp":
            return [*begin, *(word.replace("HOST:", f"{host}:") for word in words)]
        return [*begin, host, *words]

    def ssh(
        self,
        user: str,
        *words: str,
        options: Sequence[str] = (),
        input: bytes = b"",
        key: str = "key",
        program: str = "ssh",
        env: Mapping[str, str] | None = None,
        limit_s: float = DEADLINE_S,
    ) -> subprocess.CompletedProcess[bytes]:
        """
        Run a client to its end.

        @param words, options, key, program: as for L{argv}.
        @param env: all of its environment.
        @raise subprocess.TimeoutExpired: after C{limit_s}.
        """
        argv = self.argv(user, *words, options=options, key=key, program=program)
        return subprocess.run(argv, input=input, capture_output=True, check=False, env=env, timeout=limit_s)
