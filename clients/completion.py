"""
Completion for bash and zsh: what the command table knows stands in the script, names come from the daemon as they are.
"""

from __future__ import annotations

from hostline.clients.arguments import LOCAL, ROWS, is_list
from hostline.clients.client import Client
from hostline.clients.emulab import FORMS
from hostline.clients.output import say
from hostline.clients.settings import OK, Settings, Usage
from hostline.protocol import kinds
from hostline.protocol.emulab import STATES
from hostline.protocol.errors import HostError
from hostline.protocol.kinds import Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Global options, C{=} where a value follows.
GLOBAL = ("--raw", "--json", "--socket=", "--host=", "--trust=", "--timeout=", "--help", "--version")
#: Options of node_list.
NODE_LIST = ("-e", "--extra", "-p", "-P", "-v", "-h", "-H", "-m", "-c", "--socket=", "--host=", "--trust=", "--help")
#: Seconds that a key press may wait for names.
PATIENCE_S = 1.0

_BASH = """\
# Completion of hostline and node_list for bash. Made by: hostline completion bash
declare -A _hostline_options=( %(options)s )
declare -A _hostline_arguments=( %(arguments)s )
declare -A _hostline_words=( %(words)s )
declare -A _hostline_flags=( %(flags)s )

_hostline_live() {  # KIND [EXPERIMENT]: the words that a value may be
    if [[ -z ${1#-} ]]; then
        return
    elif [[ -n ${_hostline_words[$1]-} ]]; then
        printf '%%s\\n' ${_hostline_words[$1]}
    else
        hostline "${socket[@]}" completion names "$@" 2>/dev/null
    fi
}

_hostline() {
    local line=${COMP_LINE:0:COMP_POINT} current='' command='' before='' word skip='' at=0
    local -a typed kinds socket=()
    read -ra typed <<<"$line"
    [[ $line == *[[:blank:]] ]] || { current=${typed[-1]}; unset 'typed[-1]'; }
    for word in "${typed[@]:1}"; do
        if [[ $skip == --socket || $skip == --host || $skip == --trust ]]; then socket+=("$skip" "$word"); skip=''
        elif [[ -n $skip ]]; then skip=''
        elif [[ $word == --socket=* || $word == --host=* || $word == --trust=* ]]; then socket+=("$word")
        elif [[ $word == --* ]]; then
            [[ $word == *=* || " %(alone)s " == *" $word "* ]] || skip=$word
        elif [[ $word == [a-z_]*=* || ( -n $command && $word == -[a-zA-Z]* ) ]]; then :
        elif [[ -z $command ]]; then command=$word
        elif [[ $command == ca ]]; then command=ca_$word
        else at=$((at + 1)); [[ $at == 1 ]] && before=$word
        fi
    done
    COMPREPLY=()
    if [[ $skip == --socket || $skip == --trust || $current == --socket=* || $current == --trust=* ]]; then
        COMPREPLY=($(compgen -f -- "${current#--*=}"))
    elif [[ $skip == --host || $current == --host=* ]]; then
        COMPREPLY=($(compgen -A hostname -- "${current#--host=}"))
    elif [[ -n $skip ]]; then
        COMPREPLY=($(compgen -W "$(_hostline_live "${_hostline_words[$command ${skip#--}]-}")" -- "$current"))
    elif [[ -z $command ]]; then
        if [[ $current == -* ]]; then COMPREPLY=($(compgen -W "%(global)s" -- "$current"))
        else COMPREPLY=($(compgen -W "%(commands)s" -- "$current"))
        fi
    elif [[ $current == *=* ]]; then
        word=${current%%%%=*}
        COMPREPLY=($(compgen -W "$(_hostline_live "${_hostline_words[$command ${word#--}]-}")" -- "${current#*=}"))
    elif [[ $current == @* ]]; then
        COMPREPLY=($(compgen -P @ -f -- "${current#@}"))
    elif [[ $current == --* ]]; then
        COMPREPLY=($(compgen -P -- -W "${_hostline_options[$command]-}" -- "${current#--}"))
        COMPREPLY+=($(compgen -W "%(global)s ${_hostline_flags[$command]-}" -- "$current"))
    else
        kinds=(${_hostline_arguments[$command]-})
        word=${kinds[$at]-}
        [[ -z $word && ${#kinds[@]} != 0 && ${kinds[-1]} == *.. ]] && word=${kinds[-1]}
        COMPREPLY=($(compgen -W "$(_hostline_live "${word%%..}" $before)" -- "$current"))
        COMPREPLY+=($(compgen -W "${_hostline_options[$command]-} ${_hostline_flags[$command]-}" -- "$current"))
        [[ " %(files)s " == *" $command "* && $current != -* ]] && COMPREPLY+=($(compgen -f -- "$current"))
    fi
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}

_node_list() {
    COMPREPLY=($(compgen -W "%(node_list)s" -- "${COMP_WORDS[COMP_CWORD]}"))
    if [[ ${COMP_WORDS[COMP_CWORD]} != -* && ${COMP_WORDS[COMP_CWORD-1]} == -*e ]]; then
        COMPREPLY=($(compgen -W "$(hostline completion names PROJECT/EXPERIMENT 2>/dev/null)" \\
            -- "${COMP_WORDS[COMP_CWORD]}"))
    fi
}

complete -F _hostline hostline
complete -F _node_list node_list
"""

_ZSH = """\
#compdef hostline node_list
# Completion of hostline and node_list for zsh. Made by: hostline completion zsh
typeset -gA _hostline_options=( %(options)s )
typeset -gA _hostline_arguments=( %(arguments)s )
typeset -gA _hostline_words=( %(words)s )
typeset -gA _hostline_flags=( %(flags)s )

_hostline_live() {  # KIND [EXPERIMENT]: offer the words that a value may be
    local -a found
    if [[ -n ${_hostline_words[$1]} ]]; then
        found=(${=_hostline_words[$1]})
    elif [[ -n ${1#-} ]]; then
        found=(${(f)"$(hostline $socket completion names $@ 2>/dev/null)"})
    fi
    compadd -a found
}

_hostline() {
    local command='' before='' skip='' word at=0
    local -a kinds socket
    for word in ${words[2,CURRENT-1]}; do
        if [[ $skip == --socket || $skip == --host || $skip == --trust ]]; then socket+=($skip $word); skip=''
        elif [[ -n $skip ]]; then skip=''
        elif [[ $word == --socket=* || $word == --host=* || $word == --trust=* ]]; then socket+=($word)
        elif [[ $word == --* ]]; then
            [[ $word == *=* || " %(alone)s " == *" $word "* ]] || skip=$word
        elif [[ $word == [a-z_]*=* || ( -n $command && $word == -[a-zA-Z]* ) ]]; then :
        elif [[ -z $command ]]; then command=$word
        elif [[ $command == ca ]]; then command=ca_$word
        else at=$((at + 1)); [[ $at == 1 ]] && before=$word
        fi
    done
    if [[ $skip == --socket || $skip == --trust ]]; then
        _files
    elif [[ $skip == --host ]]; then
        _hosts
    elif [[ -n $skip ]]; then
        _hostline_live "${_hostline_words[$command ${skip#--}]}"
    elif [[ -z $command ]]; then
        if [[ $PREFIX == -* ]]; then compadd -- %(global)s
        else compadd -- %(commands)s
        fi
    elif [[ $PREFIX == *=* ]]; then
        word=${PREFIX%%%%=*}
        compset -P '*='
        _hostline_live "${_hostline_words[$command ${word#--}]}"
    elif [[ $PREFIX == @* ]]; then
        compset -P '@'
        _files
    elif [[ $PREFIX == --* ]]; then
        compadd -S '' -- --${^=_hostline_options[$command]} %(global)s ${=_hostline_flags[$command]}
    else
        kinds=(${=_hostline_arguments[$command]})
        word=${kinds[at+1]}
        [[ -z $word && ${kinds[-1]} == *.. ]] && word=${kinds[-1]}
        [[ -n $word ]] && _hostline_live "${word%%..}" $before
        compadd -S '' -- ${=_hostline_options[$command]}
        compadd -- ${=_hostline_flags[$command]}
        [[ " %(files)s " == *" $command "* && $PREFIX != -* ]] && _files
    fi
}

_node_list() {
    if [[ $PREFIX != -* && ${words[CURRENT-1]} == -*e ]]; then
        compadd -- ${(f)"$(hostline completion names PROJECT/EXPERIMENT 2>/dev/null)"}
    else
        compadd -- %(node_list)s
    fi
}

compdef _hostline hostline
compdef _node_list node_list
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH}


def script(shell: str) -> str:
    """
    @param shell: C{bash} or C{zsh}.
    @return: the script for it.
    """
    options: dict[str, str] = {}
    arguments = {"completion": "SHELL"}
    words = {"SHELL": " ".join(_SCRIPTS)}
    alone = [one for one in GLOBAL if not one.endswith("=")]
    for row in ROWS.values():
        options[row.name] = " ".join(f"{name}=" for name in row.all_options)
        arguments[row.name] = " ".join(_source(kind) for _, kind in row.args) + (".." if row.rest else "")
        for name, (kind, _) in row.all_options.items():
            words[f"{row.name} {name}"] = _source(kind)
            if kind is kinds.FLAG:
                alone += [f"--{name}", f"--no-{name}"]
        for kind in [kind for _, kind in row.args] + [kind for kind, _ in row.all_options.values()]:
            if _choices(kind):
                words[_source(kind)] = " ".join(_choices(kind))
    arguments["ca"] = "CA"
    words["CA"] = " ".join(name[3:] for name in ROWS if name.startswith("ca_"))
    for name in ("ca_enrol", "ca_renew"):  # as 'ca enrol' they take no arguments of the command's own
        options[name], arguments[name] = "", ""
    flags = {name: " ".join([*_letters(form.letters), *form.long]) for name, form in FORMS.items()}
    for name, more in {"swapexp": "in out", "expwait": " ".join(STATES)}.items():
        flags[name] += f" {more}"
    for name in FORMS:
        arguments.setdefault(name, f"{kinds.EXPERIMENT.name}..")
    arguments["help"] = "COMMAND"
    words["COMMAND"] = " ".join(ROWS)
    return _SCRIPTS[shell] % {
        "options": _pairs(options),
        "arguments": _pairs(arguments),
        "words": _pairs(words),
        "flags": _pairs(flags),
        "files": " ".join(name for name, form in FORMS.items() if "FILE" in form.usage),
        "commands": " ".join(dict.fromkeys([*ROWS, *LOCAL, *FORMS])),
        "global": " ".join(GLOBAL),
        "alone": " ".join(dict.fromkeys(alone)),
        "node_list": " ".join(NODE_LIST),
    }


def _letters(letters: str) -> list[str]:
    return [f"-{letter}" for letter in letters if letter != ":"]


def _choices(kind: Kind) -> tuple[str, ...]:
    return ("True", "False") if kind is kinds.FLAG else kind.words


def _source(kind: Kind) -> str:
    """
    Where the words for a Kind come from: its name in the script or for L{names}; C{-} is nowhere.
    """
    if _choices(kind):
        return "BOOL" if kind is kinds.FLAG else "|".join(kind.words)
    if is_list(kind) and len(kind.parts) == 1:
        return _source(kind.parts[0])
    if kind is kinds.OPERATION:
        return "OPERATION"
    return kind.name if kind.name in _NAMES else "-"


def _pairs(found: dict[str, str]) -> str:
    return " ".join(f"['{key}']='{value}'" for key, value in found.items() if value not in ("", "-"))


def _pluck(key: str) -> Any:
    return lambda body: [str(one[key]) for one in body]


#: Request and what is taken from its reply, by Kind; an experiment follows the request if there is one.
_NAMES: dict[str, tuple[str, Any]] = {
    kinds.EXPERIMENT.name: ("experiments", _pluck("name")),
    kinds.PROJECT.name: ("projects", _pluck("name")),
    kinds.USER.name: ("users", _pluck("name")),
    kinds.DELEGATE.name: ("delegates", _pluck("name")),
    kinds.NODE.name: ("node_list", lambda body: [one["node"] for one in body if one["kind"] != "host"]),
    kinds.FULL_NODE.name: ("node_list", lambda body: [one["name"] for one in body if one["kind"] != "host"]),
    kinds.TOPIC.name: (
        "experiments",
        lambda body: ["all", "host", "audit", *(f"experiment/{one['name']}" for one in body)],
    ),
    "OPERATION": ("operations", _pluck("operation")),
    kinds.SLIVER.name: ("slivers", _pluck("name")),
}


def names(kind: str, client: Client, experiment: str = "") -> list[str]:
    """
    The names that a value may be, as far as the caller may see them; none if the daemon does not tell.

    @param kind: the name of its Kind.
    @param experiment: the one that a NODE is of.
    """
    if kind not in _NAMES:
        return []
    request, pick = _NAMES[kind]
    line = f"{request} {experiment}" if kind == kinds.NODE.name and experiment else request
    try:
        found: list[str] = pick(client.said(line, PATIENCE_S).body)
    except (HostError, KeyError, TypeError):
        return []
    if kind == kinds.SLIVER.name:  # nodes are slivers too
        found += names(kinds.FULL_NODE.name, client)
    return sorted(dict.fromkeys(found))


def run(words: list[str], settings: Settings) -> int:
    """
    C{hostline completion bash|zsh}, and C{names KIND [EXPERIMENT]}, which the scripts use.

    @return: the exit status.
    @raise Usage: for anything else.
    """
    if words[:1] == ["names"] and len(words) in (2, 3):
        with settings.client() as client:
            say("".join(f"{one}\n" for one in names(words[1], client, *words[2:])))
        return OK
    if len(words) != 1 or words[0] not in _SCRIPTS:
        raise Usage("want bash or zsh", "hostline completion bash|zsh")
    say(script(words[0]))
    return OK
