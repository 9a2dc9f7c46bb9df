"""
Emulab's own commands, with the flags that its users type: each is one command of ours, or a few.
"""

from __future__ import annotations

from typing import NamedTuple

from hostline.clients import emulab_experiments as experiments
from hostline.clients import emulab_nodes as nodes
from hostline.clients.emulab_flags import Asked, WrongFlags
from hostline.clients.output import complain, say
from hostline.clients.settings import OK, Settings
from hostline.protocol import emulab
from hostline.protocol.errors import HostError, NoDaemon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Exit status of who typed what makes no sense, as Emulab's programs have it.
WRONG_USAGE = 255


class Form(NamedTuple):
    """
    One of the commands.

    @ivar letters: its flags, a colon behind each that takes a value.
    @ivar usage: what is typed behind its name.
    @ivar long: flags that are words.
    """

    letters: str
    usage: str
    help: str
    run: Callable[[Asked], int]
    long: tuple[str, ...] = ()


_START = Form(
    "qiwfNS:L:a:l:E:g:p:e:",
    "[-qiwfN] [-E TEXT] [-g GROUP] [-S REASON] [-L REASON] [-a MINUTES] [-l MINUTES] -p PROJECT -e EXPERIMENT FILE",
    "Make an experiment and swap it in (-f: do not; -w: wait). It is swapped out after -l minutes without use, or -a "
    "minutes of any; -L, or -S: not for want of use, and why.",
    experiments.start,
)
#: By name.
FORMS: dict[str, Form] = {
    "startexp": _START,
    "batchexp": _START._replace(help="The same: there is no queue, what has room starts at once."),
    "swapexp": Form(
        "wNs:e:",
        "[-w] [-N] -e PROJECT,EXPERIMENT in|out",
        "Swap an experiment in or out; -w waits, until all nodes are up, say.",
        experiments.swap,
    ),
    "modexp": Form(
        "rswNe:",
        "[-r] [-s] [-w] [-N] -e PROJECT,EXPERIMENT FILE",
        "Give an experiment another topology, swapped in or out; -r reboots all nodes then.",
        experiments.modify,
    ),
    "endexp": Form("wNe:", "[-w] [-N] -e PROJECT,EXPERIMENT", "End an experiment for good; -w waits.", experiments.end),
    "expinfo": Form(
        "nmldae:",
        "[-n] [-m] [-l] [-d] [-a] -e PROJECT,EXPERIMENT",
        "Show an experiment: -n nodes, -m where they are, -l links, -d shaping, -a all.",
        experiments.info,
    ),
    "expwait": Form(
        "t:e:",
        "[-t SECONDS] -e PROJECT,EXPERIMENT STATE|--nodes-started",
        "Wait until an experiment is in a state, or all start commands have ended; past -t the exit status is 8.",
        experiments.wait,
        ("--nodes-started",),
    ),
    "nscheck": Form("", "FILE", "Say what is wrong with a topology, with lines.", experiments.check),
    "node_reboot": Form(
        "wcfe:",
        "[-w] [-c] [-f] NODE.EXPERIMENT.PROJECT.. | -e PROJECT,EXPERIMENT",
        "Reboot nodes, or all of an experiment; -w waits, -c and -f do the same here.",
        nodes.reboot,
    ),
    "delay_config": Form(
        "ms:e:",
        "[-m] [-s NODE] -e PROJECT,EXPERIMENT LINK BANDWIDTH=KBITS DELAY=MS PLR=PART ..",
        "Change what a link does to what passes it; -m keeps that over a swap, -s: only what this node sends.",
        nodes.shape,
    ),
    "qemu_experiment": Form(
        "w",
        "[-w] PROJECT EXPERIMENT FILE PACKING",
        "Make an experiment of QEMU machines, PACKING of them on a host at most.",
        experiments.of_qemu,
    ),
    "mixed_experiment": Form(
        "w",
        "[-w] PROJECT EXPERIMENT FILE",
        "Make an experiment: nodes with a partition are QEMU machines, the others hosts themselves.",
        experiments.mixed,
    ),
}
#: Those that are commands of ours by name, too; who types a flag of one letter, or Emulab's words, means Emulab's.
BOTH = ("node_reboot", "delay_config")


def run(words: list[str], settings: Settings) -> int:
    """
    @param words: with the command's name.
    @return: the exit status: 0; one of Emulab's codes; or 255 for what makes no sense.
    """
    name = words[0]
    form = FORMS[name]
    try:
        asked = Asked(form.letters, words[1:], settings, form.long)
        if settings.asked:
            say(f"usage: hostline {name} {form.usage}\n\n{form.help}\n")
            return OK
        return form.run(asked)
    except WrongFlags as error:
        complain(f"{name}: {error}")
        complain(f"usage: hostline {name} {form.usage}")
        return WRONG_USAGE
    except HostError as error:
        from hostline.clients.output import show_error

        show_error(settings, error.body())
        return emulab.SERVER_ERROR if error.code == NoDaemon.code else emulab.code_of(error.code)
