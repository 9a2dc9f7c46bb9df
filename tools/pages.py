"""
C{python -m tools.pages}: write the parts of docs/ that follow from the code, between their markers.

With C{--check} nothing is written; what is out of date is named, and the exit status is 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hostline.protocol import commands
from hostline.protocol.commands import Command
from hostline.protocol.errors import ERRORS, HostError
from hostline.protocol.kinds import Kind
from hostline.server.config import Config, flat
from hostline.server.slivers.rspec import ALIASES, RESOURCES

DOCS = Path(__file__).parents[1] / "docs"

_WHO = {
    commands.ANYONE: "anyone",
    commands.KNOWN: "users",
    commands.SELF: "the sliver itself",
    commands.MEMBER: "members of the project",
    commands.OWNER: "its owner",
    commands.BY_GRANT: "delegates that were granted it",
    commands.OPERATOR: "operators",
}


def command_part() -> str:
    """
    Every command: usage, help, arguments, options, who may call, reply.
    """
    return "\n\n".join(_command(row) for row in commands.ROWS)


def _command(row: Command) -> str:
    lines = [f"### {row.name}", "", f"    {row.usage}", "", row.help, ""]
    last = len(row.args) - 1
    for at, (name, kind) in enumerate(row.args):
        more = "; one or more" if row.rest and at == last else ""
        more += "; may be left out" if at > last - row.optional else ""
        lines.append(f"- *{name}*: {_doc(kind)}{more}")
    for name, (kind, default) in row.all_options.items():
        lines.append(f"- *{name}=* {_doc(kind)}; {_default(name, default)}")
    lines.append(f"- For {', '.join(word for who, word in _WHO.items() if who in row.who)}.")
    lines.append(f"- Reply: `{row.reply_word}`, {_shown(row.reply)}{_manner(row)}")
    return "\n".join(lines)


def _doc(kind: Kind) -> str:
    told = all(word in kind.doc for word in kind.words)
    return kind.doc if told else f"{kind.doc}: {', '.join(f'`{word}`' for word in kind.words)}"


def _default(name: str, default: Any) -> str:
    if name == "token":
        return "makes the request safe to repeat"
    return "none unless given" if default is None else f"`{default!r}` unless given"


def _manner(row: Command) -> str:
    if row.slow:
        return "; slow work: an operation."
    return "; durable before the reply." if row.changes else "."


def _shown(kind: Kind) -> str:
    if kind.fields:
        article = "an" if kind.name[0] in "AEIO" else "a"
        return f"{article} [{kind.name}](#{kind.name.lower()})"
    if len(kind.parts) == 1 and kind.parts[0].fields:
        return f"a list of [{kind.parts[0].name}](#{kind.parts[0].name.lower()})"
    return f"`{kind.name}`: {kind.doc}"


def body_part() -> str:
    """
    Every dict that stands in a reply, with its keys.
    """
    found: dict[str, Kind] = {}
    for row in commands.ROWS:
        for kind in _records(row.reply):
            if found.setdefault(kind.name, kind) is not kind:
                raise ValueError(f"two different dicts are called {kind.name}")
    return "\n\n".join(_body(kind) for _, kind in sorted(found.items()))


def _records(kind: Kind) -> Iterator[Kind]:
    if kind.fields:
        yield kind
    for inner in (*kind.fields.values(), *kind.parts):
        yield from _records(inner)


def _body(kind: Kind) -> str:
    lines = [f"### {kind.name}", "", f"{kind.doc[0].upper()}{kind.doc[1:]}.", "", "| key | value |", "|---|---|"]
    for name, its in kind.fields.items():
        may = "; not always there" if name in kind.optional else ""
        lines.append(f"| {name} | {_value(its)}{may} |")
    return "\n".join(lines)


def _value(kind: Kind) -> str:
    if kind.fields:
        return f"[{kind.name}](#{kind.name.lower()})"
    if not kind.parts:
        return _doc(kind)
    inner = kind.parts[-1]
    if len(kind.parts) == 2:
        named = f" of {_value(inner)}" if inner.fields else ""
        return f"dict{named}: {kind.doc}"
    return f"{_value(inner)}, or None" if kind.doc.endswith(", or None") else f"list of {_value(inner)}"


def error_part() -> str:
    """
    Every code that an C{error_reply} may have.
    """
    lines = ["| code | when |", "|---|---|"]
    for code, error in sorted(ERRORS.items()):
        if error is not HostError:
            lines.append(
                f"| `{code}` | {' '.join((error.__doc__ or '').replace('C{', '`').replace('}', '`').split())} |"
            )
    return "\n".join(lines)


def limit_part() -> str:
    """
    The keys of the configuration's table C{limits}.
    """
    return _keys(lambda name: name.startswith("limits."))


def configuration_part() -> str:
    """
    All keys of the configuration.
    """
    return _keys(lambda name: True)


def _keys(wanted: Callable[[str], bool]) -> str:
    lines = ["| key | default | what it is | change |", "|---|---|---|---|"]
    for name, (value, declared) in flat(Config()).items():
        if wanted(name):
            doc, again = declared.metadata["doc"], "SIGHUP" if declared.metadata["reload"] else "restart"
            shown = f'"{value}"' if isinstance(value, str) else f"{value}"
            lines.append(f"| `{name}` | {shown} | {doc} | {again} |")
    return "\n".join(lines)


def resource_part() -> str:
    """
    The table of resources.
    """
    lines = ["| resource | unit | default | from | to | a lender keeps | cgroup v2 | cgroup v1 | read back from |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for one in RESOURCES.values():
        kept = "not lent" if one.kept is None else f"{one.kept}"
        bounds = f"{one.default} | {one.least} | {one.most} | {kept}"
        lines.append(
            f"| {one.name} | {one.unit} | {bounds} | {one.enforced_v2} | {one.enforced_v1} | {one.read_back} |"
        )
    return "\n".join(lines)


def alias_part() -> str:
    """
    The names that resources had later at the ancestor's.
    """
    lines = ["| name | unit | is |", "|---|---|---|"]
    for name, one in ALIASES.items():
        lines.append(f"| {name} | {one.unit} | {one.resource}, times {one.times} |")
    return "\n".join(lines)


#: By file, what follows from the code, by the name in its markers.
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "protocol.md": {"limits": limit_part, "errors": error_part, "bodies": body_part, "commands": command_part},
    "daemon.md": {"configuration": configuration_part},
    "resources.md": {"resources": resource_part, "aliases": alias_part},
}


def filled(text: str, name: str, part: str) -> str:
    """
    A page with one part made anew.

    @raise ValueError: if its two markers are not there.
    """
    begin, end = f"<!-- generated: {name} (make docs) -->\n", f"<!-- end of {name} -->\n"
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"want {begin.strip()} and {end.strip()}")
    return f"{before}{begin}\n{part}\n\n{end}{after}"


def pages() -> dict[Path, str]:
    """
    Every page with generated parts, as it should be.
    """
    found = {}
    for name, parts in PARTS.items():
        text = (DOCS / name).read_text("utf-8")
        for part, make in parts.items():
            text = filled(text, part, make())
        found[DOCS / name] = text
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Write the pages, or check them.
    """
    check = "--check" in (sys.argv[1:] if arguments is None else arguments)
    stale = [path for path, text in pages().items() if path.read_text("utf-8") != text]
    for path in stale:
        if check:
            print(f"docs/{path.name} is out of date; make docs", file=sys.stderr)
        else:
            path.write_text(pages()[path], "utf-8")
            print(f"docs/{path.name} written")
    if check and stale:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
