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
    name = kind.encode()
    if blob[:4] != len(name).to_bytes(4, "big") or blob[4 : 4 + len(name)] != name or len(blob) <= 4 + len(name):
        raise ValueError(f"want what ssh-keygen made as {kind}, all of it")
    return f'restrict,command="{COMMAND}" {kind} {data} {comment}'.rstrip(" ")
