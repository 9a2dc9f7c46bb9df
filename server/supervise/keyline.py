"""
A line of C{authorized_keys} that lets in by one key, to nothing but the forward shell.

sshd takes what stands in front of a key for options, so a key is taken apart and only what is surely a key is written
behind ours.
"""

from __future__ import annotations

import base64
import binascii
import re

#: What sshd asks the shell of delegates for, whatever the client asked for: the client's words are then in the
#: environment. It stands in each line because sshd gives a subsystem of its own, such as internal-sftp, to who asks for
#: it without asking the login shell; a command of the key goes before.
COMMAND = "hostline-shell"
_TYPE = re.compile(r"[a-z0-9][a-z0-9.@-]{2,60}\Z")
_LONGEST = 1 << 14


def key_line(key: str) -> str:
    """
    @param key: an OpenSSH public key: type, base64, and a comment that may be left out.
    @return: the line, without its newline.
    @raise ValueError: if it is none; options in front of it are none.
    """
    kind, data, comment = ([*key.split(" ", 2), "", ""])[:3]
    if not _TYPE.match(kind) or "-cert-" in kind or len(data) > _LONGEST or not comment.isprintable():
        raise ValueError("want an OpenSSH public key on one line, without options, no certificate")
    try:
        blob = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    if _fields(blob)[:1] != [kind.encode()]:
        raise ValueError(f"want what ssh-keygen made as {kind}, all of it")
    return f'restrict,command="{COMMAND}" {kind} {data} {comment}'.rstrip(" ")


def _fields(blob: bytes) -> list[bytes]:
    """
    @return: the parts of a key (RFC 4253, section 6.6), at least two; none if it is not cut where they end.
    """
    found = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + size:
            return []
        found.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return found if len(found) > 1 else []
