"""
C{hostline ssh-config PROJECT/EXPERIMENT}: what C{ssh} needs to know to reach nodes by name, for C{~/.ssh/config}.

A container or a QEMU machine has an address on its host: ssh goes there, by way of the host if we are elsewhere. One
without an address is reached through C{hostline exec}, which runs its sshd for one connection. An account is one of the
host's own. What cannot have an sshd is told of in a comment.
"""

from __future__ import annotations

from shlex import quote

from hostline.clients.output import say
from hostline.clients.settings import OK, Settings, Usage
from hostline.protocol.endpoints import split_endpoint
from hostline.protocol.errors import Internal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

USAGE = "hostline ssh-config PROJECT/EXPERIMENT [--jump [USER@]HOST[:PORT]] [--user USER]"
#: What names and addresses are made of.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:/_-")
#: Where Debian has it, and most others.
SSHD = "/usr/sbin/sshd"


def config(body: dict[str, Any], jump: str = "", user: str = "root", hostline: Sequence[str] = ("hostline",)) -> str:
    """
    @param body: of the command C{experiment}.
    @param jump: how the experiment's host is reached by ssh; empty: we are there.
    @param user: inside nodes that have a root of their own.
    @param hostline: the words by which this program reaches the daemon.
    @return: the text.
    @raise Internal: a host that says what would be more than names and addresses here, where a line may be an order.
    """
    for text in (body["name"], *(node[key] for node in body["nodes"].values() for key in ("name", "kind", "address"))):
        if text is not None and (not isinstance(text, str) or set(text) - _PLAIN or text.startswith("-")):
            raise Internal(f"the daemon names something {text!a}")
    blocks = [f"# {body['name']}, as of now: made by hostline ssh-config\n"]
    for node in sorted(body["nodes"].values(), key=lambda one: str(one["node"])):
        blocks.append(_block(node, jump, user, hostline))
    return "\n".join(blocks)


def _block(node: dict[str, Any], jump: str, user: str, hostline: Sequence[str]) -> str:
    name, kind = node["name"], node["kind"]
    if node["host"] is None:
        return f"# {name}: not placed\n"
    # Another node may have had this name and address before, and its own key.
    lines = [f"Host {name} {name.lower()}" if name != name.lower() else f"Host {name}", "    CheckHostIP no"]
    lines.append(f"    HostKeyAlias {name}")
    if kind in ("container", "qemu") and node["address"]:
        lines += [f"    HostName {node['address']}", f"    User {user}"]
        if jump:
            lines.append(f"    ProxyJump {jump}")
    elif kind in ("container", "qemu"):
        words = " ".join(quote(one) for one in (*hostline, "exec", name, "--", SSHD, "-i"))
        lines += [f"    User {user}", f"    ProxyCommand {words.replace('%', '%%')}"]
    else:
        words = " ".join(quote(one) for one in (*hostline, "exec", "-t", name, "--", "/bin/sh"))
        return f"# {name}: a node of kind {kind} has no sshd of its own; for a shell: {words}\n"
    return "\n".join(lines) + "\n"


def run(words: list[str], settings: Settings) -> int:
    """
    @param words: behind C{ssh-config}.
    @return: the exit status.
    """
    given = {"jump": "", "user": "root"}
    experiment = ""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in given and (equals or rest):
            given[name] = value if equals else rest.pop(0)
            if not given[name].isprintable() or " " in given[name] or given[name].startswith("-"):
                raise Usage(f"--{name}: want one word, got {given[name]!a}", USAGE)
        elif word in ("--help", "-h"):
            say(f"usage: {USAGE}\n")
            return OK
        elif not experiment and not word.startswith("-"):
            experiment = word
        else:
            raise Usage(f"no argument {word} here", USAGE)
    if not experiment:
        raise Usage("want an experiment", USAGE)
    body = settings.client().request("experiment", experiment)
    ours = [
        "hostline",
        *(f"--{name}={value}" for name in ("socket", "host", "trust") if (value := getattr(settings, name))),
    ]
    jump = given["jump"] or (split_endpoint(settings.host)[0] if settings.host else "")
    say(config(body, jump, given["user"], ours))
    return OK
