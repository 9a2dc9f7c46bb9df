"""
Names: what a project, an experiment, a node, a user may be called, and how the parts are joined.

A name goes into host names, files, accounts and kernel objects, so it is short, ASCII and begins with a letter or
digit.
"""

from __future__ import annotations

from itertools import islice

from hostline.protocol.errors import BadValue

TYPE_CHECKING = False
if TYPE_CHECKING:  # short-lived clients spare the import
    from collections.abc import Iterable

#: Longest project, experiment or user name; three of them with dots stay a legal host name.
LONGEST = 32
#: Longest node name: a DNS label (RFC 1035).
LONGEST_NODE = 63

#: How many names at most a misspelt one is compared with, first by their letters, then letter by letter.
_COMPARED, _COMPARED_CLOSELY = 300, 40
#: How much of two near names is the same, at least.
_NEAR = 0.6

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
        article = "an" if what[:1] in "aeio" else "a"
        raise BadValue(f"want {article} {what} name ({RULE % longest}), got {shown(name)}")
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


def split_slice(name: str) -> tuple[str, str]:
    """
    @param name: C{SITE_SLICE}; the site, of lower-case letters and digits, ends at the first underscore.
    @return: the site and the rest, C{("lab", "web")}.
    @raise BadValue: if it is no such name.
    """
    site, underscore, rest = name.partition("_")
    good = underscore and site.isalnum() and site == site.lower() and rest[:1].isalnum()
    if not (good and name.isascii() and len(name) <= LONGEST and rest.replace("-", "").replace("_", "").isalnum()):
        raise BadValue(
            "want SITE_SLICE (lower-case letters and digits, '_', then letters, digits, '-' and '_', at most "
            f"{LONGEST}), got {shown(name)}"
        )
    return site, rest


def certificate_name(name: str) -> str:
    """
    A name in a certificate, in the one way in which we write it: C{dns:host.example.org} or C{urn:...}.

    @param name: a DNS name may stand without its C{dns:}.
    @raise BadValue: if it is neither.
    """
    lower = name.lower()
    if lower.startswith("urn:"):
        parts = name.split(":", 2)
        good = len(parts) == 3 and parts[1].replace("-", "").isalnum() and parts[1] != "" and len(name) <= 255
        if good and name.isascii() and parts[2] and not set(name) & set(' \t"\\<>^`{|}') and name.isprintable():
            return f"urn:{parts[1].lower()}:{parts[2]}"
    else:
        labels = lower.removeprefix("dns:").split(".")
        good = all(
            0 < len(one) <= 63 and one.isascii() and one.replace("-", "").isalnum() and one.strip("-") == one
            for one in labels
        )
        if good and len(lower) <= 253 and not labels[-1].isdigit():
            return "dns:" + ".".join(labels)
    raise BadValue(f"want a DNS name such as host.example.org, or a URN such as urn:site:user:ann, got {shown(name)}")


def checked_sliver(name: str) -> str:
    """
    @return: the name of a free sliver, C{lab_web}, or of a node in full, C{web.exp1.lab}.
    @raise BadValue: if it is neither.
    """
    if "." in name:
        split_node(name)
    else:
        split_slice(name)
    return name


def checked_target(name: str) -> str:
    """
    @return: the name of an experiment or of a free sliver.
    @raise BadValue: if it is neither.
    """
    if "/" in name:
        split_experiment(name)
    else:
        split_slice(name)
    return name


def shown(value: object, longest: int = 60) -> str:
    """
    C{value} as it may stand in a message: its ASCII literal, cut where it gets long.
    """
    text = _beginning(value, longest + 1, 4)
    return text if len(text) <= longest else (text[: longest - 3] + "...")[:longest]


def escaped(text: str, kept: str = "") -> str:
    """
    @param kept: control characters that may stay.
    @return: the text with every other unprintable character written as in a literal.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in kept else one.encode("unicode_escape").decode("ascii") for one in text
    )


def _beginning(value: object, enough: int, depth: int) -> str:
    # No more of it than is wanted is written out: it may be large, or deeper than ascii() goes.
    if isinstance(value, str | bytes):
        return ascii(value[:enough])
    if isinstance(value, int):
        return ascii(value) if value.bit_length() < 2000 else "a number of hundreds of digits"
    if not isinstance(value, list | tuple | dict):
        return ascii(value)
    opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")") if isinstance(value, tuple) else ("{", "}")
    text = opening if depth else opening + "..."
    for one in value if depth else ():
        text += ", " if len(text) > 1 else ""
        text += _beginning(one, enough, depth - 1)
        if isinstance(value, dict):
            text += ": " + _beginning(value[one], enough, depth - 1)
        if len(text) > enough:
            break
    return text + ("," if closing == ")" and len(value) == 1 else "") + closing


def near(wrong: str, known: Iterable[str]) -> str:
    """
    A hint for a misspelt name, found in bounded time.

    @param known: the names that the caller may see.
    @return: C{" (did you mean lab/exp1?)"}, or nothing if none is near.
    """
    from difflib import SequenceMatcher  # slow to import; wanted only where something went wrong

    matcher = SequenceMatcher(b=wrong[:100].lower())
    likely: list[tuple[float, str]] = []
    for one in islice(known, _COMPARED):
        matcher.set_seq1(one[:200].lower())
        if matcher.real_quick_ratio() >= _NEAR and (ratio := matcher.quick_ratio()) >= _NEAR:
            likely.append((-ratio, one))
    found: list[tuple[float, str]] = []
    for _, one in sorted(likely)[:_COMPARED_CLOSELY]:
        matcher.set_seq1(one[:200].lower())
        if (ratio := matcher.ratio()) >= _NEAR:
            found.append((-ratio, one))
    return f" (did you mean {' or '.join(one for _, one in sorted(found)[:2])}?)" if found else ""
