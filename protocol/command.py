"""
What a command is: the arguments and options it takes, who may call it, how a request for it is read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hostline.protocol import kinds
from hostline.protocol.errors import BadArguments, UnknownOption
from hostline.protocol.kinds import SECONDS, Kind
from hostline.protocol.names import near, shown
from hostline.protocol.words import Request

#: The relations of a caller to a target (DESIGN section 3); a sliver that asks through its own socket is L{SELF}.
ANYONE, KNOWN, MEMBER, OWNER, BY_GRANT, OPERATOR = "anyone", "user", "member", "owner", "delegate", "operator"
SELF = "self"
#: Who comes without a certificate where certificates are handed out; nothing but that is for them.
STRANGER = "stranger"

#: The sets that most rows have.
FOR_ANYONE = frozenset({ANYONE})
FOR_SLIVERS_TOO = frozenset({ANYONE, SELF})
FOR_OPERATORS = frozenset({OPERATOR})
FOR_USERS = frozenset({KNOWN, OPERATOR})
FOR_OWNERS = frozenset({OWNER, OPERATOR})
FOR_MEMBERS = frozenset({MEMBER, OWNER, BY_GRANT, OPERATOR})

WAIT = ("wait", SECONDS, 30.0)
TOKEN = ("token", kinds.WORD, None)


class Command(NamedTuple):
    """
    One row.

    @ivar args: name and Kind of each argument.
    @ivar reply: the Kind of the reply body.
    @ivar who: the relations to the target that may call; without a target, the roles.
    @ivar options: name, Kind and default of each option.
    @ivar target: what the first argument (for C{extra_nodes}: the first two) names: C{experiment}, C{project},
        C{operation} ...; C{new experiment} is one that need not exist, whose project decides; C{new sliver} one that
        need not exist, of which the responder decides.
    @ivar targeted: the option that names the target instead of the first argument; left out, a sliver that asks means
        itself.
    @ivar optional: how many of the last arguments may be left out.
    @ivar rest: whether the last argument may be repeated; its value is a list, left out with what is optional.
    @ivar changes: whether it changes what should be: recorded, durable before the reply, takes C{token=}.
    @ivar slow: whether it may become an operation; takes C{wait=}.
    @ivar audited: whether it is in the audit log though it changes no record.
    @ivar once: whether what it changes takes no C{token=}: its reply is told once and never kept, or to ask again does
        nothing more.
    @ivar secret: the arguments and options that no log may have.
    @ivar frees: whether it leads to more room on the host, so that it must be possible when the disk is full.
    @ivar polled: whether the answer hangs on records and status only, so that it may be kept until one changes.
    """

    name: str
    args: tuple[tuple[str, Kind], ...]
    reply: Kind
    who: frozenset[str]
    help: str
    options: tuple[tuple[str, Kind, Any], ...] = ()
    target: str | None = None
    optional: int = 0
    rest: bool = False
    changes: bool = False
    slow: bool = False
    polled: bool = False
    frees: bool = False
    audited: bool = False
    targeted: str = ""
    secret: tuple[str, ...] = ()
    once: bool = False

    @property
    def reply_word(self) -> str:
        """
        C{X_request} is answered by C{X_reply}, any other C{command} by C{command_reply}.
        """
        return self.name.removesuffix("_request") + "_reply"

    @property
    def all_options(self) -> dict[str, tuple[Kind, Any]]:
        """
        Kind and default by name, those that every slow or changing command has included.
        """
        more = ((WAIT,) if self.slow else ()) + ((TOKEN,) if self.changes and not self.once else ())
        return {name: (kind, default) for name, kind, default in self.options + more}

    @property
    def usage(self) -> str:
        """
        C{modify_experiment PROJECT/EXPERIMENT TEXT [wait=SECONDS] [token=WORD]}
        """
        words = [self.name]
        for at, (_, kind) in enumerate(self.args):
            last = at == len(self.args) - 1
            word = kind.name + (".." if self.rest and last else "")
            words.append(f"[{word}]" if at >= len(self.args) - self.optional else word)
        words += [f"[{name}={kind.name}]" for name, (kind, _) in self.all_options.items()]
        return " ".join(words)

    def read(self, request: Request) -> tuple[list[Any], dict[str, Any]]:
        """
        The arguments and options of a request, each read by its Kind; options left out have their defaults.

        @raise BadArguments: if their number is wrong.
        @raise UnknownOption: if an option is not of this command.
        @raise BadValue: if one is not of its Kind.
        """
        values = request.values
        least = len(self.args) - self.optional
        if len(values) < least or (len(values) > len(self.args) and not self.rest):
            raise BadArguments(f"want {self.usage}, got {len(values)} argument{'' if len(values) == 1 else 's'}")
        single = len(self.args) - (1 if self.rest else 0)
        read = [kind.read(word, name) for (name, kind), word in zip(self.args[:single], values, strict=False)]
        if len(values) > single:
            name, kind = self.args[-1]
            read.append([kind.read(word, name) for word in values[single:]])
        known = self.all_options
        for option in request.options:
            if option not in known:
                raise UnknownOption(f"no option {shown(option)} in {self.name}{near(option, known)}; want {self.usage}")
        options = {name: _own(default) for name, (_, default) in known.items()}
        for name, word in request.options.items():
            options[name] = known[name][0].read(word, name)
        return read, options


def _own(default: Any) -> Any:
    # Who changes what it was given does not change the table.
    return default.copy() if isinstance(default, list | dict) else default
