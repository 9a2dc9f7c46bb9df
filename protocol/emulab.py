"""
Emulab's words: what its command line and its XML-RPC have in common, for both sides of ours.
"""

from __future__ import annotations

from hostline.protocol.errors import BadValue
from hostline.protocol.names import legal, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

#: The codes of its replies.
SUCCESS, BAD_ARGUMENTS, ERROR, FORBIDDEN, BAD_VERSION, SERVER_ERROR, TOO_BIG, REFUSED, TIMED_OUT = range(9)
#: Those of errors of ours; of the others it is ERROR.
_CODES = {
    "BAD_ARGUMENTS": BAD_ARGUMENTS,
    "UNKNOWN_OPTION": BAD_ARGUMENTS,
    "BAD_VALUE": BAD_ARGUMENTS,
    "BAD_LITERAL": BAD_ARGUMENTS,
    "BAD_LINE": BAD_ARGUMENTS,
    "LINE_TOO_LONG": TOO_BIG,
    "DENIED": FORBIDDEN,
    "TIMEOUT": TIMED_OUT,
    "TOO_MANY": REFUSED,
    "STORE_FAILED": SERVER_ERROR,
    "INTERNAL": SERVER_ERROR,
}
#: What stands where an experiment has no nodes on any host.
INACTIVE = "Experiment is not active!"
#: What C{expinfo} says while there is nothing to say.
NO_INFORMATION = "No information available."
#: The parts of C{expinfo}, in its order.
SHOWN = ("nodeinfo", "mapping", "linkinfo", "shaping")
#: States of experiments that Emulab knows by another name.
_STATES = {"modifying": "modify_reswap"}
_OURS = {their: our for our, their in _STATES.items()} | {
    "modify_parse": "modifying",
    "modify_reparse": "modifying",
    "ended": "terminated",
}
#: Those that no experiment is ever in here.
_NEVER = ("new", "prerunning", "queued", "paniced", "restarting")
#: States of experiments that its clients may wait for, as they say them.
STATES = (
    *("new", "prerunning", "swapped", "queued", "swapping", "activating", "active", "paniced", "terminating", "ended"),
    *("modify_parse", "modify_reparse", "modify_reswap", "restarting", "terminated", "failed"),
)
#: States of which an experiment is in none any more.
GONE = ("ended", "terminated")
_TRUE = (True, 1, "true", "yes", "on", "1")


def experiment_of(text: str) -> str:
    """
    @param text: C{lab,exp1} or C{lab/exp1}.
    @return: C{lab/exp1}.
    @raise BadValue: if it is neither.
    """
    project, mark, name = text.partition("," if "," in text else "/")
    if not (mark and legal(project) and legal(name)):
        raise BadValue(f"want PROJECT,EXPERIMENT, got {shown(text)}")
    return f"{project}/{name}"


def code_of(error: str) -> int:
    """
    @param error: the code of an error of ours.
    @return: that of Emulab's.
    """
    return _CODES.get(error, ERROR)


def is_true(value: Any) -> bool:
    """
    A truth as Emulab's clients write it: C{true}, C{yes}, C{on}, C{1}, in small letters.
    """
    return value in _TRUE if isinstance(value, str | int) else False


def shown_state(state: str) -> str:
    """
    @param state: of an experiment of ours.
    @return: what Emulab calls it.
    """
    return _STATES.get(state, state)


def own_state(state: str) -> str:
    """
    @param state: as a client of Emulab's says it.
    @return: what we call it.
    """
    return _OURS.get(state, state)


def waited(states: Iterable[str]) -> str:
    """
    @param states: as a client of Emulab's says them; none: the experiment's end.
    @return: what our own C{wait_for} is asked for. Where no experiment is ever in any of them, its end is waited for.
    """
    found = dict.fromkeys(own_state(one) for one in states if one not in _NEVER)
    return ",".join(found) or "terminated"


def shaping(given: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """
    What C{delay_config} is asked for.

    @param given: C{BANDWIDTH} in kbit/s, C{DELAY} in ms one way, C{PLR} from 0 to 1; others are of queues, which links
        here have none of.
    @return: options of our own C{delay_config}, and the names of those that count for nothing here.
    @raise BadValue: if a value is no number, or nothing that counts is among them.
    """
    options: dict[str, Any] = {}
    ignored = []
    for name, text in given.items():
        known = _SHAPING.get(name.upper())
        if known is None:
            if name.upper() not in _QUEUES:
                raise BadValue(f"no parameter {shown(name)}: want BANDWIDTH, DELAY or PLR")
            ignored.append(name.upper())
            continue
        option, read = known
        try:
            options[option] = read(text)
        except ValueError:
            raise BadValue(f"{name}: want a number, got {shown(text)}") from None
    if not options:
        raise BadValue("want BANDWIDTH=KBITS, DELAY=MILLISECONDS or PLR=PART, at least one")
    return options, ignored


def _whole(text: str) -> int:
    return int(float(text)) if float(text).is_integer() else int(text)


_SHAPING: dict[str, tuple[str, Callable[[str], Any]]] = {
    "BANDWIDTH": ("rate_kbps", _whole),
    "DELAY": ("delay_ms", float),
    "PLR": ("loss", float),
}
_QUEUES = frozenset(("LIMIT", "QUEUE-IN-BYTES", "MAXTHRESH", "THRESH", "LINTERM", "Q_WEIGHT"))


def expinfo(body: Mapping[str, Any], parts: Iterable[str] = ()) -> str:
    """
    What C{expinfo} prints of an experiment.

    @param body: that of our C{experiment}.
    @param parts: of L{SHOWN}; none: only the name and the state.
    """
    lines = [f"Experiment: {body['name']}", f"State: {shown_state(body['state'])}", ""]
    nodes: list[dict[str, Any]] = list(body["nodes"].values())
    links: list[dict[str, Any]] = list(body["links"].values())
    wanted = set(parts)
    if not wanted:
        return "\n".join(lines[:2]) + "\n"
    if body["state"] in ("new", "activating", "swapping", "terminating", "modifying") or not nodes:
        return "\n".join([*lines[:2], NO_INFORMATION]) + "\n"
    placed = [one for one in nodes if one["host"] is not None]
    if "nodeinfo" in wanted:
        head = ("ID", "Type", "OS", "Qualified Name")
        rows = [[(n["node"], n["kind"], n["image"] or "", n["name"]), *_started(n)] for n in nodes]
        lines += ["Virtual Node Info:", *_table(head, rows), ""]
    if "mapping" in wanted:
        head = ("ID", "Type", "OS", "Physical")
        rows = [[(n["node"], n["kind"], n["image"] or "", n["host"])] for n in placed]
        lines += ["Physical Node Mapping:", *(_table(head, rows) if rows else [NO_INFORMATION]), ""]
    if "linkinfo" in wanted and links:
        members = [[_member(one, each, end) for each, end in ends(nodes, one)] for one in links]
        lines += ["Virtual Lan/Link Info:", *_table(_LINKS, members), ""]
    if "shaping" in wanted:
        shaped = [one for one in links if one.get("by") and placed]
        cuts = [[_cut(one, each, end) for each, end in ends(nodes, one)] for one in shaped]
        lines += ["Physical Delay Info:", *(_table(_DELAYS, cuts) if cuts else [NO_INFORMATION]), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def ends(nodes: Iterable[Mapping[str, Any]], link: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """
    @return: the interfaces at a link, each with its name as Emulab writes it: C{web:0}, the node's first.
    """
    found = []
    for node in nodes:
        for at, one in enumerate(node["interfaces"]):
            if one["link"] == link["link"]:
                found.append((f"{node['node']}:{at}", one))
    return found


def _member(link: Mapping[str, Any], name: str, end: Mapping[str, Any]) -> tuple[str, ...]:
    address = f"{end['ip4'] or ''}/{_bits(end['netmask'])}" if end["ip4"] else ""
    return (link["link"], name, address, *_shape(link))


def _cut(link: Mapping[str, Any], name: str, end: Mapping[str, Any]) -> tuple[str, ...]:
    return (link["link"], name, end["mac"] or "", *_shape(link), link["by"])


def _shape(link: Mapping[str, Any]) -> tuple[str, str, str]:
    rate, delay, loss = link.get("rate_kbps"), link.get("delay_ms"), link.get("loss")
    return f"{delay or 0:.2f}", f"{rate:.0f}" if rate else "*", f"{loss or 0:.4f}"


def _bits(netmask: str | None) -> int:
    try:
        return sum(bin(int(part)).count("1") for part in (netmask or "").split("."))
    except ValueError:
        return 0


def _started(node: Mapping[str, Any]) -> list[tuple[str, ...]]:
    state = node.get("start_command", "none")
    if state == "none":
        return []
    code = node.get("start_code")
    return [("", "", "", f"start command: {state}" + (f", exit status {code}" if code is not None else ""))]


_LINKS = ("ID", "Member", "IP/Mask", "Delay", "BW (Kbs)", "Loss Rate")
_DELAYS = ("ID", "Member", "MAC", "Delay", "BW (Kbs)", "Loss Rate", "By")
#: How wide the columns are, those that are no last one.
_WIDTHS = (15, 12, 15, 9, 9, 9)


def _table(head: Sequence[str], blocks: Iterable[Sequence[tuple[str, ...]]]) -> list[str]:
    widths = [*_WIDTHS[: len(head) - 1], len(head[-1])]
    if head[1] == "Member":
        widths = [15, 15, 17, 9, 9, *(9 for _ in head[5:])]
    last = [row[-1] for block in blocks for row in block if row]
    widths[-1] = max([len(head[-1]), *map(len, last)])
    lines = [_row(head, widths), _row(["-" * width for width in widths], widths)]
    for block in blocks:
        before = ""
        for row in block:
            lines.append(_row([row[0] if row[0] != before else "", *row[1:]], widths))
            before = row[0] or before
    return lines


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return " ".join(f"{one:<{width}}" for one, width in zip(cells, widths, strict=True)).rstrip()


def checked(found: Mapping[str, Any]) -> str:
    """
    What C{nscheck} prints.

    @param found: the body of our C{check_topology}.
    """
    lines = []
    for kind in ("error", "warning"):
        for one in found[f"{kind}s"]:
            where = f"line {one['line']}: " if one.get("line") else ""
            lines.append(f"{where}{kind}: {one['text']}")
    return "".join(f"{line}\n" for line in lines)
