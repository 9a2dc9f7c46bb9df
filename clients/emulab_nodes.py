"""
Emulab's commands about nodes and links: node_reboot, delay_config.
"""

from __future__ import annotations

from hostline.clients.emulab_experiments import placed, wait_of
from hostline.clients.emulab_flags import WrongFlags
from hostline.clients.output import complain, say
from hostline.clients.settings import OK
from hostline.protocol import emulab
from hostline.protocol.errors import BadValue, WrongState
from hostline.protocol.names import split_node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hostline.clients.emulab_flags import Asked


def reboot(asked: Asked) -> int:
    """
    C{node_reboot}.
    """
    if "e" in asked.flags:
        experiment = asked.experiment()
        asked.last()
        names = placed(asked, experiment)
        if not names:
            raise WrongState(emulab.INACTIVE)
        by_experiment = {experiment: names}
    else:
        if not asked.words:
            raise WrongFlags("want nodes, or -e PROJECT,EXPERIMENT")
        by_experiment = _by_experiment(asked.words)
    for experiment, names in by_experiment.items():
        asked.ask("node_reboot", experiment, *names, wait=wait_of(asked))
    return OK


def _by_experiment(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        try:
            node, experiment = split_node(word)
        except BadValue as error:
            raise WrongFlags(error.message) from None
        found.setdefault(experiment, []).append(node)
    return found


def shape(asked: Asked) -> int:
    """
    C{delay_config}.
    """
    experiment = asked.experiment()
    link = asked.one("the name of a link")
    given = {}
    for word in asked.words:
        # Pages that tell of this have # where = was meant.
        name, mark, value = word.partition("=" if "=" in word else "#")
        if not (name and mark):
            raise WrongFlags(f"Parameter, '{word}', is not of the form: param=value!")
        given[name] = value
    try:
        options, ignored = emulab.shaping(given)
    except BadValue as error:
        raise WrongFlags(error.message) from None
    for name in ignored:
        complain(f"warning: {name} counts for nothing here")
    save = True if "m" in asked.flags else None
    asked.ask("delay_config", experiment, link, source=asked.flags.get("s"), save=save, **options)
    if "q" not in asked.flags:
        say("".join(f"{link}: {name} {value:g}\n" for name, value in options.items()))
    return OK
