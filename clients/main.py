"""
C{hostline}: every command of the daemon, for the shell.
"""

from __future__ import annotations

import os
import sys

from hostline.clients import exchange
from hostline.clients.output import CannotWrite, complain, say, terminal
from hostline.clients.settings import INTERRUPTED, OK, REFUSED, WRONG_USAGE, Settings, Usage
from hostline.protocol.errors import HostError, NoDaemon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hostline.clients.arguments import Arguments

#: Commands that are more than one line there and one back.
_MORE = frozenset(("shell", "completion", "watch", "exec", "attach", "push", "pull"))
_SAFE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:+,-"
#: Emulab's own commands; and those of which there is one of ours by the same name.
_EMULAB = frozenset(
    [
        *("startexp", "batchexp", "swapexp", "modexp", "endexp", "expinfo", "expwait", "nscheck"),
        *("qemu_experiment", "mixed_experiment"),
    ]
)
_BOTH = ("node_list", "node_reboot", "delay_config")
#: Replies to what should not have been sent.
_WRONG = (b"UNKNOWN_COMMAND", b"BAD_ARGUMENTS", b"UNKNOWN_OPTION")


def run(words: list[str]) -> int:
    """
    @param words: without the program's name.
    @return: the exit status.
    """
    settings = Settings()
    rest = list(words)
    try:
        settings.take_all(rest)
        if settings.asked or not rest:
            return _about(settings)
        if rest[0] in ("topdl", "picture"):
            return _local(rest, settings)
        if rest[0] in ("ca", "ticket"):
            status = _trust(rest, settings)
            if status is not None:
                return status
        if rest[0] in _EMULAB or (rest[0] in _BOTH and _is_emulabs(rest)):
            return _emulab(rest, settings)
        if rest[0] == "logs" and any(one == "--tar" or one.startswith("--tar=") for one in rest):
            from hostline.clients import node_logs

            return node_logs.run(rest[1:], settings)
        if rest[0] == "ssh-config":
            from hostline.clients import ssh_config

            return ssh_config.run(rest[1:], settings)
        return _plain(rest, settings) if _is_plain(rest) else _full(rest, settings)
    except Usage as error:
        complain(f"hostline: {error}")
        complain(f"usage: {error.usage}" if error.usage else "'hostline --help' tells more")
        return WRONG_USAGE
    except HostError as error:
        return exchange.failed(settings, error)
    except CannotWrite as error:
        if not str(error):
            return OK
        complain(f"error: {error}")
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED


def _is_plain(words: list[str]) -> bool:
    """
    Whether they can go to the daemon as they are, and nobody waits to see progress.
    """
    # Of run all that stands behind the experiment is one argument.
    if words[0] in _MORE or words[0] == "run" or not words[0].isidentifier() or terminal():
        return False
    return all(word and word[0] != "-" and not word.strip(_SAFE) for word in words)


def _is_emulabs(words: list[str]) -> bool:
    """
    Whether a command is meant as Emulab has it: with flags of one letter, the links' parameters in capitals, or nodes
    without their experiment before them.
    """
    if any(len(one) > 1 and one[0] == "-" and one[1].isalpha() and one != "-h" for one in words):
        return True
    if words[0] == "node_list":
        return False
    plain = [one for one in words[1:] if one[0:1] != "-"]
    capital = any(one[:1].isupper() and ("=" in one or "#" in one) for one in plain)
    return capital or (words[0] == "node_reboot" and bool(plain) and all("." in one for one in plain))


def _local(words: list[str], settings: Settings) -> int:
    if words[0] == "topdl":
        from hostline.clients import topdl

        return topdl.run(words[1:], settings)
    from hostline.clients import picture

    return picture.run(words[1:], settings)


def _emulab(words: list[str], settings: Settings) -> int:
    if words[0] == "node_list":
        from hostline.clients import node_list

        return node_list.shown(words[1:], settings)
    from hostline.clients import emulab

    return emulab.run(words, settings)


def _trust(words: list[str], settings: Settings) -> int | None:
    """
    What is more than a command, among those of certificates and tickets; of others the words are made those of one.

    @return: the exit status; None if the words are now a command.
    """
    second = words[1] if len(words) > 1 else ""
    if words[0] == "ca":
        if second in ("enrol", "renew"):
            from hostline.clients import trust

            return trust.run_ca(words[1:], settings)
        if not second or second.startswith("-"):
            from hostline.clients.arguments import LOCAL

            usage, text = LOCAL["ca"]
            if second not in ("--help", "-h"):
                raise Usage("ca wants to be told what", f"hostline {usage}")
            say(f"usage: hostline {usage}\n\n{text}\n")
            return OK
        words[:2] = [f"ca_{second}"]
    elif second == "sign":
        from hostline.clients import trust

        return trust.run_ticket(words[2:], settings)
    elif second[:1] not in ("", "-", "@") and os.path.isfile(second):  # noqa: PTH113
        words[1] = f"@{second}"
    return None


def _plain(words: list[str], settings: Settings) -> int:
    # Without the command table, for reading it takes longer than all the rest; but for who asked in vain.
    try:
        reply = exchange.plain(words, settings)
    except NoDaemon:
        _arguments(words, settings)
        raise
    if reply.startswith(b"error_reply ") and any(code in reply[:60] for code in _WRONG):
        _arguments(words, settings)
    return exchange.shown(settings, reply, detached=words[0] == "operation")


def _arguments(words: list[str], settings: Settings) -> Arguments:
    from hostline.clients import arguments

    row = arguments.row_named(words[0])
    if row is None:
        raise arguments.unknown(words[0])
    if row.name == "watch":
        row = row._replace(optional=1)
    return arguments.Arguments(row, words[1:], settings)


def _full(words: list[str], settings: Settings) -> int:
    if words[0] == "completion":
        from hostline.clients import completion

        return completion.run(words[1:], settings)
    if words[0] == "shell":
        from hostline.clients import prompt

        return prompt.run(words[1:], settings)
    given = _arguments(words, settings)
    if settings.asked:
        return _about(settings, given)
    if given.row.name == "watch":
        from hostline.clients import watch

        return watch.run(given, settings)
    if given.row.name in _MORE or given.options.get("follow") in ("True", True):
        from hostline.clients import inside

        return inside.run(given, settings)
    return exchange.asked(given, settings)


def _about(settings: Settings, given: Arguments | None = None) -> int:
    if settings.asked == "version":
        from hostline import __version__

        say(f"hostline {__version__}\n")
        return OK
    from hostline.clients import usage

    if given is not None:
        say(usage.of(given.row))
    elif settings.asked:
        say(usage.whole())
    else:
        complain(usage.SYNOPSIS)
        return WRONG_USAGE
    return OK


def main() -> None:
    """
    The program.
    """
    status = run(sys.argv[1:])
    os._exit(status)  # there is nothing to tidy up, and that takes a while


if __name__ == "__main__":
    main()
