"""
Usage for people, from the command table.
"""

from __future__ import annotations

from hostline.clients.arguments import LOCAL, ROWS
from hostline.clients.emulab import FORMS
from hostline.protocol.commands import Command

SYNOPSIS = """\
usage: hostline [--raw | --json] [--socket PATH | --host NAME] [--timeout SECONDS] COMMAND [ARGS..] [option=value..]
'hostline --help' lists the commands, 'hostline COMMAND --help' explains one"""

OPTIONS = """\

  --raw              print the body of the reply as it came, a Python literal (so it is where nobody looks on)
  --json             print it as JSON; without either, a terminal gets tables
  --socket PATH      the daemon's socket; otherwise HOSTLINE_SOCKET, or /run/hostline/hostline.sock
  --host NAME[:PORT] the daemon of another host, over TLS; otherwise HOSTLINE_HOST; PORT is 6446 if it is not said
  --trust DIR        our certificate for that, its key, and the authority that we believe (cert.pem, key.pem, ca.pem);
                     otherwise HOSTLINE_TRUST, or for root /etc/hostline/trust, for others ~/.config/hostline
  --timeout SECONDS  for the whole request; otherwise what it asks to wait (wait=, timeout=) and 30 s
  --version, --help

An option of a command may be option=value, --option value or --option=value, a BOOL just --option or --no-option.
@FILE as a value is what the file holds, - for a TEXT is standard input, @@ begins a value that begins with @.

exec runs a command inside a sliver with our standard input and outputs (-t: with a terminal), and ends with its exit
status, or with 125 if it could not be run. attach is left with Ctrl-]. push and pull copy a FILE, - for ours.

'ticket sign FILE' signs a record; 'ticket FILE' hands a signed one in.

Exit status: 0 answered; 1 refused, with the message on standard error; 2 usage; 3 no daemon, or one that does not
believe us, or we it; 124 the deadline passed, or slow work goes on after its wait= (wait=0: 0); 130 interrupted.

Commands:
"""


_EMULAB = """
Commands as Emulab has them, with its flags and its exit statuses (docs/emulab.md): 0; 1 arguments, 2 refused, 3 not
allowed, 5 no daemon, or one that fails, 6 too big, 7 too busy, 8 the time is over; 255 usage. PROJECT/EXPERIMENT and
PROJECT EXPERIMENT are taken for -e PROJECT,EXPERIMENT. 'hostline node_list' with such a flag is the program node_list.

"""


def whole() -> str:
    """
    What C{hostline --help} says.
    """
    rows = [f"  {row.usage}\n      {row.help}\n" for row in ROWS.values()]
    rows += [f"  {usage}\n      {text}\n" for usage, text in LOCAL.values()]
    rows += [_EMULAB, *(f"  {name} {form.usage}\n      {form.help}\n" for name, form in FORMS.items())]
    return SYNOPSIS.partition("\n")[0] + "\n" + OPTIONS + "".join(rows)


def of(row: Command) -> str:
    """
    What C{hostline COMMAND --help} says.
    """
    lines = [f"usage: hostline {row.usage}", "", row.help]
    named = [(name, kind, None) for name, kind in row.args]
    named += [(name, kind, default) for name, (kind, default) in row.all_options.items()]
    if named:
        lines.append("")
        width = max(len(name) for name, _, _ in named) + 2
        for name, kind, default in named:
            choices = kind.words or (kind.parts[0].words if kind.parts else ())
            more = f": {', '.join(choices)}" if choices else ""
            more += "" if default in (None, [], {}) else f" [{default}]"
            takes_file = ", or @FILE" if kind.name in ("TEXT", "BLOB") else ""
            lines.append(f"  {name:<{width}}{kind.name}: {kind.doc}{takes_file}{more}")
    return "\n".join(lines) + "\n"
