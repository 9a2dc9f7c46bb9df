"""
Emulab's commands about one experiment: startexp, swapexp, modexp, endexp, expinfo, expwait, nscheck, and Benito's two.
"""

from __future__ import annotations

from hostline.clients.emulab_flags import WrongFlags
from hostline.clients.output import complain, say
from hostline.clients.settings import OK
from hostline.protocol import emulab
from hostline.protocol.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hostline.clients.emulab_flags import Asked

#: Seconds that a command waits which is to wait for its end.
WHOLE = 1e8


def wait_of(asked: Asked) -> float:
    """
    For C{wait=}: to the end, or not at all.
    """
    return WHOLE if "w" in asked.flags else 0


def start(asked: Asked) -> int:
    """
    C{startexp}.
    """
    flags = asked.flags
    if not ("p" in flags and "e" in flags):
        raise WrongFlags("want -p PROJECT and -e EXPERIMENT")
    experiment = _named(flags["p"], flags["e"])
    limits = _limits(asked)
    file = asked.one("FILE")
    asked.last()
    options = {"swap_in": "f" not in flags, "wait": wait_of(asked), "format": language(file), **limits}
    reply = asked.reply("create_experiment", experiment, asked.text(file), **options)
    body = asked.ask("experiment", experiment) if reply.word == "operation_reply" else reply.body
    for warning in body["warnings"]:
        complain(f"warning: {warning}")
    _tell(asked, experiment, reply)
    return OK


def language(file: str) -> str | None:
    """
    @return: what a file is written in, if its name must say it.
    """
    return "toml" if file.endswith(".toml") else None


def _named(project: str, name: str) -> str:
    try:
        return emulab.experiment_of(name if name.startswith((f"{project},", f"{project}/")) else f"{project},{name}")
    except HostError as error:
        raise WrongFlags(error.message) from None


def _limits(asked: Asked) -> dict[str, Any]:
    """
    @return: options of C{create_experiment}.
    """
    limits: dict[str, Any] = {}
    for letter in ("S", "L"):
        if letter in asked.flags:
            if not asked.flags[letter].strip():
                raise WrongFlags(f"-{letter} wants a reason")
            limits["no_idle"] = asked.flags[letter]
    for letter, option in (("l", "idle"), ("a", "most")):
        minutes = asked.number(letter, "minutes")
        if minutes is not None:
            limits[option] = minutes * 60
    if "no_idle" in limits and "idle" in limits:
        raise WrongFlags("want -l or a reason why not, got both")
    return limits


def _tell(asked: Asked, experiment: str, reply: Any) -> None:
    """
    Say what became of it, and where to look.
    """
    if "q" in asked.flags:
        return
    if reply.word == "operation_reply":
        number = reply.body["operation"]
        say(f"{experiment}: {reply.body['command']} goes on as operation {number}; hostline wait {number}\n")
    elif "state" in reply.body:
        now = "gone" if reply.body["state"] == "terminating" else emulab.shown_state(reply.body["state"])
        say(f"{experiment} is {now}\n")


def swap(asked: Asked) -> int:
    """
    C{swapexp}.
    """
    experiment = asked.experiment()
    direction = asked.flags.get("s") or asked.one("in or out")
    asked.last()
    if direction not in ("in", "out"):
        raise WrongFlags(f"want in or out, got {direction}")
    _tell(asked, experiment, asked.reply(f"swap_{direction}", experiment, wait=wait_of(asked)))
    return OK


def modify(asked: Asked) -> int:
    """
    C{modexp}.
    """
    experiment = asked.experiment()
    file = asked.one("FILE")
    asked.last()
    text = asked.text(file)
    wait = WHOLE if "r" in asked.flags else wait_of(asked)
    reply = asked.reply("modify_experiment", experiment, text, wait=wait, format=language(file))
    if reply.word == "operation_reply":
        _tell(asked, experiment, reply)
        return OK
    for what, names in reply.body.items():
        if isinstance(names, list) and names:
            say(f"{what}: {', '.join(names)}\n")
    if "r" in asked.flags:
        names = placed(asked, experiment)
        if names:
            asked.ask("node_reboot", experiment, *names, wait=wait_of(asked))
    return OK


def placed(asked: Asked, experiment: str) -> list[str]:
    """
    @return: the nodes of an experiment that are on a host and were started; a ghost was not.
    """
    body = asked.ask("experiment", experiment)
    return [name for name, one in body["nodes"].items() if one["host"] is not None and one.get("boots", 1)]


def end(asked: Asked) -> int:
    """
    C{endexp}.
    """
    experiment = asked.experiment()
    asked.last()
    _tell(asked, experiment, asked.reply("terminate", experiment, wait=wait_of(asked)))
    return OK


def info(asked: Asked) -> int:
    """
    C{expinfo}.
    """
    experiment = asked.experiment()
    asked.last()
    letters = "nmld" if "a" in asked.flags else asked.flags
    parts = [part for letter, part in zip("nmld", emulab.SHOWN, strict=True) if letter in letters]
    say(emulab.expinfo(asked.ask("experiment", experiment), parts))
    return OK


def wait(asked: Asked) -> int:
    """
    C{expwait}.
    """
    experiment = asked.experiment()
    state = "started" if "--nodes-started" in asked.flags else asked.one("a state")
    asked.last()
    if state not in (*emulab.STATES, "started"):
        raise WrongFlags(f"want one of {', '.join(emulab.STATES)}, got {state}")
    timeout = asked.number("t", "seconds")
    asked.ask("wait_for", experiment, emulab.waited([state]), timeout=WHOLE if timeout is None else timeout)
    return OK


def check(asked: Asked) -> int:
    """
    C{nscheck}.
    """
    file = asked.one("FILE")
    asked.last()
    found = asked.ask("check_topology", asked.text(file), format=language(file))
    if found["warnings"] or found["errors"]:
        say(emulab.checked(found))
    return emulab.ERROR if found["errors"] else OK


def of_qemu(asked: Asked) -> int:
    """
    Benito's C{qemu_experiment}.
    """
    experiment = asked.experiment()
    file = asked.one("FILE")
    packing = asked.one("PACKING")
    asked.last()
    if not (packing.isascii() and packing.isdigit() and 0 < int(packing) < 10**6):
        raise WrongFlags(f"PACKING: want a whole number from 1, got {packing}")
    return _benito(asked, experiment, file, kind="qemu", packing=int(packing), force_partition=True)


def mixed(asked: Asked) -> int:
    """
    Benito's C{mixed_experiment}.
    """
    experiment = asked.experiment()
    file = asked.one("FILE")
    asked.last()
    return _benito(asked, experiment, file, kind="qemu", kind_alone="embedded")


def _benito(asked: Asked, experiment: str, file: str, **options: Any) -> int:
    """
    Make an experiment with these options, say so, and swap it in.
    """
    asked.ask("create_experiment", experiment, asked.text(file), format=language(file), **options)
    say(f"{experiment} is swapped; look at it with: hostline experiment {experiment}\n")
    _tell(asked, experiment, asked.reply("swap_in", experiment, wait=wait_of(asked)))
    return OK
