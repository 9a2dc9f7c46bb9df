"""
The login shell of account slivers: asks the daemon to let it in, then becomes bash.

The daemon moves who asks into the sliver's control groups; where it does not answer nobody is let in, for no limit
would hold. Standard library only, little of it: this stands between a user and every command.
"""

from __future__ import annotations

import os
import pwd
import socket
import stat
import sys

#: How long the daemon may take to answer.
ANSWER_S = 20.0
_SHELLS = ("/bin/bash", "/bin/sh")
_REQUEST = b"hello client=login\n"
_MOST = 1 << 16


class Refused(Exception):
    """
    Nobody is let in; the message says why.
    """


def door_of(home: str) -> str:
    """
    @param home: of the account, as the host knows it; C{door} two directories above it, root's, names the socket.
    @return: the path of the sliver's own socket.
    @raise Refused: if there is no such file.
    """
    path = os.path.join(os.path.dirname(os.path.dirname(home)), "door")  # noqa: PTH118, PTH120
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            about = os.fstat(fd)
            text = os.read(fd, _MOST)
        finally:
            os.close(fd)
    except OSError as error:
        raise Refused(f"this account has no sliver: {error.strerror}") from None
    if about.st_uid == os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or not text.endswith(b"\n"):
        raise Refused("this account has no sliver: what should name its socket is not ours")
    door = os.fsdecode(text[:-1])
    if not door:
        raise Refused("this sliver has no socket of its own")
    return door


def ask(door: str, limit_s: float = ANSWER_S) -> None:
    """
    Be let in.

    @raise Refused: if that cannot be.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(limit_s)
            connection.connect(door)
            connection.sendall(_REQUEST)
            answer = b""
            while b"\n" not in answer and len(answer) < _MOST:
                more = connection.recv(_MOST)
                if not more:
                    break
                answer += more
    except OSError as error:
        raise Refused(f"the daemon does not answer: {error.strerror or error}") from None
    if not answer.startswith(b"hello_reply ") or not answer.endswith(b"\n"):
        raise Refused(f"the daemon says: {answer.decode('utf-8', 'replace').strip() or 'nothing'}")


def main(argv: list[str] | None = None) -> None:
    """
    @param argv: as sshd and login give it: C{-c COMMAND}, or nothing for a login shell.
    """
    argv = sys.argv if argv is None else argv
    try:
        account = pwd.getpwuid(os.getuid())
        door = door_of(account.pw_dir)
        ask(door)
    except (Refused, KeyError) as error:
        os.write(2, f"hostline: you cannot log in now: {error}\n".encode())
        sys.exit(1)
    shell = next((path for path in _SHELLS if os.access(path, os.X_OK)), "/bin/sh")
    os.environ["SHELL"] = shell
    os.environ["HOSTLINE_SOCKET"] = door
    name = os.path.basename(shell)  # noqa: PTH119
    try:
        os.execv(shell, [name, *argv[1:]] if argv[1:] else [f"-{name}"])
    except OSError as error:
        os.write(2, f"hostline: {shell}: {error.strerror}\n".encode())
        sys.exit(126)
