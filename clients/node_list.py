"""
C{node_list}: the nodes of the caller's experiments, in the words of its two ancestors.

Without C{-e PROJECT,EXPERIMENT} it is the users' lister of DETER containers: experiments, their nodes below. With it,
it is Emulab's wrapper: one line of names, for scripts that split it at blanks.
"""

from __future__ import annotations

import os
import sys

from hostline.clients.connection import after, way
from hostline.protocol import literal
from hostline.protocol.errors import BadArguments, HostError, NoDaemon, Timeout
from hostline.protocol.names import split_experiment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hostline.clients.connection import Connection
    from hostline.clients.settings import Settings

USAGE = """\
usage: node_list [-e | --extra]
       node_list [-p|-P|-v|-h|-H|-m|-c] -e PROJECT,EXPERIMENT

Without an experiment: all your experiments that are active, each with the nodes that are hosts of it.
  -e, --extra   list also the nodes inside these hosts, as extra nodes
With -e PROJECT,EXPERIMENT (or PROJECT/EXPERIMENT), on one line, of that experiment:
  -p   the hosts' own names (default)           -P   the same as HOST=KIND
  -v   the hosts' names in the experiment       -m   NAME=HOST of every node
  -h   the host of every node                   -H   the same as HOST=KIND
  -c   the nodes: containers and embedded hosts
Everywhere:
  --socket PATH   the daemon's socket (or HOSTLINE_SOCKET; otherwise /run/hostline/hostline.sock)
  --host NAME[:PORT]   the daemon of another host (or HOSTLINE_HOST), over TLS; --trust DIR: where our certificate is
Exit status: 0; 1 refused by the daemon; 2 the experiment is not active; 3 no daemon; 124 no reply in 60 s; 255 usage.
"""

MODES = "pPvhHmc"
INACTIVE = "Experiment is not active!"
#: Between names on the one line, as the ancestor had it.
BETWEEN = "   "
_DEADLINE_S = 60.0


class Usage(Exception):
    """The arguments make no sense; the message says which."""


class Arguments:
    """
    What was asked.

    @ivar experiment: C{lab/exp1} for the one-line form; None for the headers.
    @ivar mode: the letter of the one-line form.
    """

    def __init__(self, words: list[str]) -> None:
        """
        @raise Usage: if they make no sense.
        """
        self.experiment: str | None = None
        self.extra = False
        self.mode = ""
        self.socket: str | None = None
        self.host: str | None = None
        self.trust: str | None = None
        self.help = False
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--extra":
                self.extra = True
            elif word == "--help":
                self.help = True
            elif word in ("--socket", "--host", "--trust") and rest:
                setattr(self, word[2:], rest.pop(0))
            elif word.startswith(("--socket=", "--host=", "--trust=")):
                name, _, value = word[2:].partition("=")
                setattr(self, name, value)
            elif word.startswith("-") and not word.startswith("--") and len(word) > 1:
                self._letters(word[1:], rest)
            else:
                raise Usage(f"no argument {word}")
        if self.mode and self.experiment is None:
            raise Usage(f"-{self.mode} wants -e PROJECT,EXPERIMENT")

    def _letters(self, letters: str, rest: list[str]) -> None:
        for at, letter in enumerate(letters):
            if letter == "e" and letters[at + 1 :]:
                self._take(letters[at + 1 :])
                return
            if letter == "e" and rest and not rest[0].startswith("-"):
                self._take(rest.pop(0))
            elif letter == "e":
                self.extra = True
            elif letter not in MODES:
                raise Usage(f"no option -{letter}")
            elif self.mode not in ("", letter):
                raise Usage(f"want one of -{self.mode} and -{letter}")
            else:
                self.mode = letter

    def _take(self, name: str) -> None:
        project, mark, experiment = name.partition("," if "," in name else "/")
        if not (project and mark and experiment):
            raise Usage(f"want PROJECT,EXPERIMENT after -e, got {name}")
        if self.experiment is not None:
            raise Usage("want one experiment")
        self.experiment = f"{project}/{experiment}"


def headers(nodes: list[dict[str, Any]], extra: bool) -> str:
    """
    All active experiments, sorted, each node once::

        lab/exp1
            pnode-0000.exp1.lab / pc003
          extra nodes:
            web.exp1.lab
    """
    hosts: dict[str, set[str]] = {}
    inside: dict[str, set[str]] = {}
    for node in nodes:
        if node["host"] is None:
            continue
        name = f"{node['project']}/{node['experiment']}"
        hosts.setdefault(name, set())
        if node["extra"]:
            inside.setdefault(name, set()).add(node["name"])
        else:
            hosts[name].add(f"{node['name']} / {node['host']}")
    lines = []
    for name in sorted(hosts):
        lines += [name, *(f"    {one}" for one in sorted(hosts[name]))]
        if extra and name in inside:
            lines += ["  extra nodes:", *(f"    {one}" for one in sorted(inside[name]))]
    return "".join(f"{line}\n" for line in lines)


def one_line(nodes: list[dict[str, Any]], mode: str) -> str | None:
    """
    The names that a mode asks for, sorted, each once; nothing if the experiment is not active.
    """
    active = [node for node in nodes if node["host"] is not None]
    if not active:
        return None
    hosts = [node for node in active if not node["extra"]]
    if mode == "c":
        inside = [node for node in active if node["extra"]]
        chosen = inside + [node for node in hosts if node["kind"] != "host"] if inside else hosts
        names = {node["node"] for node in chosen}
    elif mode == "v":
        names = {node["node"] for node in hosts}
    elif mode == "m":
        names = {f"{node['node']}={node['host']}" for node in active}
    elif mode in ("P", "H"):
        names = {f"{node['host']}={node['kind']}" for node in (hosts if mode == "P" else active)}
    else:
        names = {node["host"] for node in (active if mode == "h" else hosts)}
    return BETWEEN.join(sorted(names)) + "\n"


def ask(place: str, connect: Callable[[str, float | None], Connection], request: str) -> Any:
    """
    @param place: where the daemon is, and C{connect} what makes a connection to there.
    @return: the body of the reply.
    @raise HostError: if there is none, or it is an error.
    """
    deadline = after(_DEADLINE_S)
    connection = connect(place, deadline)
    connection.send(f"{request}\n".encode(), deadline)
    word, _, body = connection.line(deadline).partition(b" ")
    connection.close()
    value = literal.read(body)
    if word == b"error_reply" and isinstance(value, dict):
        from hostline.protocol.errors import raised_again

        raise raised_again(value)
    return value


def run(words: list[str]) -> tuple[int, str, str]:
    """
    @return: exit status, what to print, and what to say on standard error.
    """
    try:
        asked = Arguments(words)
    except Usage as error:
        return 255, "", f"node_list: {error}\n{USAGE}"
    if asked.help:
        return 0, USAGE, ""
    try:
        reached = way(asked.socket, asked.host, asked.trust)
    except BadArguments as error:
        return 255, "", f"node_list: {error.message}\n{USAGE}"
    try:
        if asked.experiment is None:
            return 0, headers(ask(*reached, f"node_list extra={asked.extra}"), asked.extra), ""
        split_experiment(asked.experiment)
        line = one_line(ask(*reached, f"node_list {asked.experiment} extra=True"), asked.mode or "p")
        return (0, line, "") if line is not None else (2, f"{INACTIVE}\n", "")
    except NoDaemon as error:
        return 3, "", f"error: {error.message}\n"
    except Timeout as error:
        return 124, "", f"error: {error.message}\n"
    except HostError as error:
        return 1, "", f"error: {error.message}\n"


def shown(words: list[str], settings: Settings) -> int:
    """
    The same as a command of C{hostline}.

    @param settings: those that stood before it.
    @return: the exit status.
    """
    from hostline.clients.output import complain, say

    before = [f"--{name}={value}" for name in ("socket", "host", "trust") if (value := getattr(settings, name))]
    status, out, complaint = run([*before, *words])
    if complaint:
        complain(complaint.rstrip("\n"))
    say(out)
    return status


def main() -> None:
    """
    The program.
    """
    try:
        status, out, complaint = run(sys.argv[1:])
        if complaint:
            sys.stderr.write(complaint)
        if out:
            sys.stdout.write(out)
            sys.stdout.flush()
    except BrokenPipeError:
        pass
    except OSError as error:
        sys.stderr.write(f"error: cannot write: {error.strerror}\n")
        status = 1
    except KeyboardInterrupt:
        status = 130
    os._exit(status)  # there is nothing to tidy up, and that takes a while
