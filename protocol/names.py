"""
Names: what a project, an experiment, a node, a user may be called, and how the parts are joined.

A name goes into host names, files, accounts and kernel objects, so it is short, ASCII and begins with a letter or digit.
"""

from __future__ import annotations

from hostline.protocol.errors import BadValue

#: Longest project, experiment or user name; three of them with dots stay a legal host name.
LONGEST = 32
#: Longest node name: a DNS label (RFC 1035).
LONGEST_NODE = 63

RULE = "letters, digits, '-' and '_', beginning with a letter or digit, at most %d"


def legal(name: str, longest: int = LONGEST) -> bool:
    """
    Whether C{name} may name a project, an experiment or a user (or a node, with its own length).
    """
    return (
        0 < len(name) <= longest
        and name.isascii()
        and name[0].isalnum()
        and name.replace("-", "").replace("_", "").isalnum()
    )


def checked(name: str, what: str, longest: int = LONGEST) -> str:
    """
    @param what: the noun for the error, such as C{project}.
    @raise BadValue: naming the rule, if the name is not legal.
    """
    if not legal(name, longest):
        raise BadValue(f"want a {what} name ({RULE % longest}), got {shown(name)}")
    return name


def split_experiment(name: str) -> tuple[str, str]:
    """
    @param name: C{PROJECT/EXPERIMENT}.
    @return: the project and the experiment.
    @raise BadValue: if it is not two legal names joined by one slash.
    """
    project, slash, experiment = name.partition("/")
    if not slash:
        raise BadValue(f"want PROJECT/EXPERIMENT, got {shown(name)}")
    return checked(project, "project"), checked(experiment, "experiment")


def node_name(node: str, experiment: str) -> str:
    """
    @param experiment: C{lab/exp1}.
    @return: the node in full, C{web.exp1.lab}.
    """
    project, _, name = experiment.partition("/")
    return f"{node}.{name}.{project}"


def split_node(name: str) -> tuple[str, str]:
    """
    @param name: C{web.exp1.lab}.
    @return: the node and its experiment, C{("web", "lab/exp1")}.
    @raise BadValue: if it is not three legal names joined by dots.
    """
    parts = name.split(".")
    if len(parts) != 3:
        raise BadValue(f"want NODE.EXPERIMENT.PROJECT, got {shown(name)}")
    node, experiment, project = parts
    checked(node, "node", LONGEST_NODE)
    return node, f"{checked(project, 'project')}/{checked(experiment, 'experiment')}"


def shown(value: object, longest: int = 60) -> str:
    """
    C{value} as it may stand in a message: its ASCII literal, cut where it gets long.
    """
    text = ascii(value if not isinstance(value, (str, bytes)) else value[: longest + 1])
    return text if len(text) <= longest else text[: longest - 3] + "..."


def near(wrong: str, known: list[str]) -> str:
    """
    A hint for a misspelt name.

    @param known: the names that the caller may see.
    @return: C{" (did you mean lab/exp1?)"}, or nothing if none is near.
    """
    from difflib import get_close_matches  # slow to import; wanted only where something went wrong

    found = get_close_matches(wrong[:100], known, n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(found)}?)" if found else ""
