"""
C{hostline picture}: an experiment as a drawing, by graphviz: nodes coloured by their state, links, LANs, hosts.

From what C{experiment} answers alone. Names of others are text in it and nothing else: ids are ours, there are no
links to follow, and control characters stay out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from hostline.clients.output import complain, say
from hostline.clients.settings import OK, REFUSED, Settings, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

USAGE = "picture PROJECT/EXPERIMENT OUT.svg|.png|.pdf|.dot"
HELP = (
    "Draw an experiment into a file: its nodes by host, green when booted, yellow while they start, orange where the "
    "start command failed, red when dead, grey when swapped out; its links with addresses, rate, delay and loss. All "
    "but .dot want graphviz (Debian: apt install graphviz)."
)
#: What is made of the text by graphviz, by the ending of the file's name; C{.dot} is the text itself.
FORMATS = ("svg", "png", "pdf")
#: Seconds that graphviz may take.
PATIENCE_S = 120
BOOTED, STARTING, FAILED, DEAD, ABSENT = "#b7e1a1", "#fff2a8", "#ffc58a", "#f2a1a1", "#e4e4e4"
_HEAD = """\
graph experiment {
  graph [label="%s", labelloc=t, fontname="Helvetica", fontsize=16, nodesep=0.5, ranksep=0.7, newrank=true];
  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, fillcolor="%s"];
  edge [fontname="Helvetica", fontsize=9, color="#555555"];
"""


def run(words: Sequence[str], settings: Settings) -> int:
    """
    @param words: what follows C{picture}.
    @return: the exit status.
    @raise Usage: they make no sense.
    @raise HostError: the daemon refuses.
    """
    if settings.asked or {"--help", "-h"} & set(words):
        say(f"usage: hostline {USAGE}\n\n{HELP}\n")
        return OK
    if len(words) != 2 or words[0].startswith("-"):
        raise Usage("picture wants an experiment and a file", f"hostline {USAGE}")
    out = Path(words[1])
    form = out.suffix[1:].lower()
    if form not in (*FORMATS, "dot"):
        raise Usage(f"want a file that ends in .dot, .{', .'.join(FORMATS)}, got {words[1]}", f"hostline {USAGE}")
    if form != "dot" and shutil.which("dot") is None:
        complain("error: graphviz is not here (Debian: apt install graphviz); a file that ends in .dot wants none")
        return REFUSED
    with settings.client() as client:
        body = client.request("experiment", words[0])
    try:
        _write(out, drawn(dot(body), form))
    except (OSError, subprocess.SubprocessError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        complain(f"error: {out}: {why}")
        return REFUSED
    return OK


def drawn(text: str, form: str) -> bytes:
    """
    @param text: what L{dot} gave.
    @param form: C{dot}, or one of L{FORMATS}.
    @return: the bytes of the file.
    @raise SubprocessError: graphviz fails, or takes too long.
    """
    if form == "dot":
        return text.encode()
    try:
        done = subprocess.run(["dot", f"-T{form}"], input=text.encode(), capture_output=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        said = f"graphviz took more than {PATIENCE_S} s; a file that ends in .dot wants none"
        raise subprocess.SubprocessError(said) from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        raise subprocess.SubprocessError(f"graphviz: {ascii(said)[1:-1] or f'exit status {done.returncode}'}")
    return done.stdout


def dot(body: Mapping[str, Any]) -> str:
    """
    The text for graphviz.

    @param body: what C{experiment} answers.
    """
    nodes: Mapping[str, Mapping[str, Any]] = body["nodes"]
    links: Mapping[str, Mapping[str, Any]] = body["links"]
    ids = {name: f"n{at}" for at, name in enumerate(sorted(nodes))}
    ends: dict[str, list[tuple[str, str]]] = {name: [] for name in links}
    for name in sorted(nodes):
        for interface in nodes[name]["interfaces"]:
            ends.setdefault(interface["link"], []).append((name, interface["ip4"] or ""))
    drawn_links = {name: _link(f"l{at}", links[name], ends[name], ids) for at, name in enumerate(sorted(links))}
    # A LAN is with the host that has all of its members.
    homes = {name: {nodes[node]["pnode"] for node, _ in ends[name]} for name in links}
    lines = [_HEAD % (_text(f"{body['name']} ({body['state']})"), ABSENT)]
    for at, pnode in enumerate(sorted({one["pnode"] for one in nodes.values() if one["pnode"]})):
        host = body["pnodes"].get(pnode, "")
        lines.append(f"  subgraph cluster_{at} {{\n")
        lines.append(f'    label="{_text(pnode, host)}"; style="rounded,dashed"; color="#888888"; fontsize=12;\n')
        lines += (f"  {_node(ids[name], nodes[name])}" for name in sorted(nodes) if nodes[name]["pnode"] == pnode)
        lines += (f"  {line}" for name in sorted(links) if homes[name] == {pnode} for line in drawn_links.pop(name))
        lines.append("  }\n")
    lines += (_node(ids[name], nodes[name]) for name in sorted(nodes) if not nodes[name]["pnode"])
    lines += (line for drawn_link in drawn_links.values() for line in drawn_link)
    return "".join([*lines, "}\n"])


def _node(identity: str, node: Mapping[str, Any]) -> str:
    what = " ".join(one for one in (node["kind"], node.get("image") or "") if one)
    label = _text(node["node"], what, _state(node), node["address"] or "")
    return f'  {identity} [label="{label}", fillcolor="{_colour(node)}"];\n'


def _state(node: Mapping[str, Any]) -> str:
    if node["boot"] is None:
        return ""
    return node["boot"] if node["code"] is None else f"{node['boot']}, {node['code']}"


def _colour(node: Mapping[str, Any]) -> str:
    if node["boot"] is None:
        return ABSENT
    if node["boot"] == "booted":
        return FAILED if node["code"] else BOOTED
    return STARTING if node["boot"] == "running" else DEAD


def _link(identity: str, link: Mapping[str, Any], ends: list[tuple[str, str]], ids: Mapping[str, str]) -> list[str]:
    label = _text(link["link"], shaping(link))
    known = [(ids[node], address) for node, address in ends if node in ids]
    if len(known) == 2:
        (one, tail), (other, head) = known
        return [f'  {one} -- {other} [label="{label}", taillabel="{_text(tail)}", headlabel="{_text(head)}"];\n']
    lines = [f'  {identity} [shape=point, width=0.12, fillcolor="#555555", xlabel="{label}"];\n']
    return [*lines, *(f'  {node} -- {identity} [taillabel="{_text(address)}"];\n' for node, address in known)]


def shaping(link: Mapping[str, Any]) -> str:
    """
    What a link does to packets: C{10 Mb/s 5 ms 1 %}; empty if nothing.
    """
    said = []
    rate = link["rate_kbps"]
    if rate is not None:
        times, unit = next(((t, u) for t, u in ((1e6, "Gb/s"), (1e3, "Mb/s")) if rate >= t), (1, "kb/s"))
        said.append(f"{rate / times:g} {unit}")
    if link["delay_ms"]:
        said.append(f"{link['delay_ms']:g} ms")
    if link["loss"]:
        said.append(f"{link['loss'] * 100:g} %")
    return " ".join(said)


def _text(*lines: object) -> str:
    # In quotes: a backslash would begin an escape of graphviz's, and an ampersand an entity.
    written = []
    for line in lines:
        text = "".join(one if one.isprintable() else "?" for one in str(line))[:100]
        for mark, escape in (("\\", "\\\\"), ('"', '\\"'), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(mark, escape)
        if text:
            written.append(text)
    return "\\n".join(written)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
