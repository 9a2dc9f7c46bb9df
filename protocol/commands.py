"""
The command table: each command is declared here once, and nowhere else.

Parsing, usage, C{help}, the permission check, the reply word, the client's argument parser and completion, and the
command part of docs/protocol.md are derived from these rows. A row never changes meaning; a new command gets a new row.
"""

from __future__ import annotations

from hostline.protocol import kinds, shapes
from hostline.protocol.command import ANYONE, BY_GRANT, KNOWN, MEMBER, OPERATOR, OWNER, Command
from hostline.protocol.errors import UnknownCommand
from hostline.protocol.kinds import EXPERIMENT, FLAG, NODE, SECONDS, TEXT, listing
from hostline.protocol.names import near, shown

__all__ = [
    "ANYONE",
    "BY_GRANT",
    "KNOWN",
    "MEMBER",
    "OPERATOR",
    "OWNER",
    "ROWS",
    "TABLE",
    "Command",
    "command_named",
]


def _who(*relations: str) -> frozenset[str]:
    return frozenset(relations)


_ANYONE = _who(ANYONE)
_OPERATOR = _who(OPERATOR)
_USER = _who(KNOWN, OPERATOR)
_MEMBER = _who(MEMBER, OWNER, BY_GRANT, OPERATOR)

_EXPERIMENT = (("experiment", EXPERIMENT),)
_NODES = (("experiment", EXPERIMENT), ("nodes", NODE))
_NUMBER = (("number", kinds.OPERATION),)

ROWS: tuple[Command, ...] = (
    Command(
        "hello",
        (),
        shapes.HELLO,
        _ANYONE,
        "Greet: who answers, whom it takes the caller for; format=json makes the bodies of this connection JSON.",
        options=(("format", kinds.FORMAT, None), ("client", kinds.WORD, None)),
    ),
    Command(
        "help",
        (("command", kinds.WORD),),
        shapes.HELP,
        _ANYONE,
        "Usage, help and who may call, of one command or of all.",
        optional=1,
    ),
    Command("ping", (), shapes.PING, _ANYONE, "The daemon's clock."),
    Command("whoami", (), shapes.WHOAMI, _ANYONE, "Whom the daemon takes the caller for, and by which way it came."),
    Command(
        "host_status",
        (),
        shapes.HOST_STATUS,
        _ANYONE,
        "Capacity, what is allocated, load, drivers, problems and uptime of this host.",
    ),
    Command(
        "doctor", (), shapes.DOCTOR, _OPERATOR, "Check everything the daemon stands on; each finding has its remedy."
    ),
    Command(
        "watch",
        (("topics", kinds.TOPIC),),
        shapes.WATCHING,
        _ANYONE,
        "Turn on event lines for these topics, from now or from since=.",
        options=(("since", kinds.CURSOR, None),),
        rest=True,
    ),
    Command(
        "unwatch",
        (("topics", kinds.TOPIC),),
        shapes.WATCHING,
        _ANYONE,
        "Turn off event lines, of these topics or of all.",
        optional=1,
        rest=True,
    ),
    Command(
        "events",
        (),
        shapes.EVENTS,
        _ANYONE,
        "The kept events after since= that the caller may see, oldest first.",
        options=(
            ("since", kinds.CURSOR, 0),
            ("limit", kinds.number("N", "how many at most", 1, 10000), 1000),
            ("topic", kinds.TOPIC, "all"),
        ),
    ),
    Command(
        "operations",
        (),
        shapes.OPERATIONS,
        _ANYONE,
        "The operations after since= that the caller may see, newest first.",
        options=(
            ("since", kinds.number("N", "an operation's number", 0, 2**62), 0),
            ("limit", kinds.number("N", "how many at most", 1, 10000), 1000),
        ),
    ),
    Command(
        "operation",
        _NUMBER,
        shapes.OPERATION_BODY,
        _who(OWNER, OPERATOR),
        "One operation as it stands.",
        target="operation",
    ),
    Command(
        "wait",
        _NUMBER,
        shapes.OPERATION_BODY,
        _who(OWNER, OPERATOR),
        "Wait until the operation has ended or timeout= is over; its state tells which.",
        options=(("timeout", SECONDS, 30.0),),
        target="operation",
    ),
    Command(
        "cancel",
        _NUMBER,
        shapes.OPERATION_BODY,
        _who(OWNER, OPERATOR),
        "Cancel an operation: what it has not reached stays as it was; a swap-in is swapped out again.",
        target="operation",
        changes=True,
    ),
    Command(
        "add_project",
        (("project", kinds.PROJECT),),
        shapes.PROJECT_BODY,
        _OPERATOR,
        "Make a project; quota= bounds the sum of a resource over its running nodes.",
        options=(("quota", kinds.mapping(kinds.WORD, kinds.COUNT, "QUOTA", "resource to amount"), {}),),
        changes=True,
    ),
    Command(
        "add_member",
        (("project", kinds.PROJECT), ("user", kinds.USER)),
        shapes.PROJECT_BODY,
        _OPERATOR,
        "Make a user a member of a project.",
        target="project",
        changes=True,
    ),
    Command(
        "remove_member",
        (("project", kinds.PROJECT), ("user", kinds.USER)),
        shapes.PROJECT_BODY,
        _OPERATOR,
        "End a membership; what the user owns in the project stays there.",
        target="project",
        changes=True,
    ),
    Command(
        "remove_project",
        (("project", kinds.PROJECT),),
        shapes.PROJECT_BODY,
        _OPERATOR,
        "Remove a project that has no experiments.",
        target="project",
        changes=True,
    ),
    Command(
        "projects",
        (),
        shapes.PROJECTS,
        _ANYONE,
        "The projects that the caller is a member of; all for operators.",
        polled=True,
    ),
    Command(
        "add_user",
        (("user", kinds.USER),),
        shapes.USER_BODY,
        _OPERATOR,
        "Make a user, known by the uid= it has on this host, with its ssh keys.",
        options=(("uid", kinds.UID, None), ("keys", listing(kinds.KEY), [])),
        changes=True,
    ),
    Command(
        "remove_user",
        (("user", kinds.USER),),
        shapes.USER_BODY,
        _OPERATOR,
        "Remove a user; its memberships end, what it owns stays with the project.",
        target="user",
        changes=True,
    ),
    Command("users", (), shapes.USERS, _OPERATOR, "All users.", polled=True),
    Command(
        "add_delegate",
        (("delegate", kinds.DELEGATE),),
        shapes.DELEGATE_BODY,
        _OPERATOR,
        "Let the account uid= say these commands of these experiments, and nothing else.",
        options=(
            ("uid", kinds.UID, None),
            ("commands", listing(kinds.WORD), []),
            ("slivers", listing(EXPERIMENT), []),
        ),
        changes=True,
    ),
    Command(
        "remove_delegate",
        (("delegate", kinds.DELEGATE),),
        shapes.DELEGATE_BODY,
        _OPERATOR,
        "End a delegate's grant.",
        target="delegate",
        changes=True,
    ),
    Command("delegates", (), shapes.DELEGATES, _OPERATOR, "All delegates.", polled=True),
    Command(
        "blob",
        (("sha256", kinds.SHA256), ("size", kinds.COUNT), ("offset", kinds.COUNT), ("bytes", kinds.BASE64)),
        shapes.BLOB,
        _USER,
        "Send a piece of something big; once complete, blob:SHA256 stands wherever a TEXT is wanted.",
    ),
    Command(
        "status_request",
        _EXPERIMENT,
        shapes.STATUS,
        _MEMBER,
        "Boot state and exit status of every placed node, by hypervisor.",
        target="experiment",
        polled=True,
    ),
    Command(
        "node_list",
        _EXPERIMENT,
        shapes.NODES,
        _ANYONE,
        "The nodes of one experiment, or of all the caller's; extra=True adds those inside a host.",
        options=(("extra", FLAG, False),),
        target="experiment",
        optional=1,
        polled=True,
    ),
    Command(
        "extra_nodes",
        (("project", kinds.PROJECT), ("name", kinds.EXPERIMENT_NAME)),
        listing(kinds.FULL_NODE),
        _MEMBER,
        "The nodes that live inside a host of the experiment, as node.experiment.project.",
        target="experiment",
        polled=True,
    ),
    Command(
        "check_topology",
        (("text", TEXT),),
        shapes.PLAN,
        _USER,
        "Read a topology and say what is in it and what is wrong, with lines; nothing is kept.",
    ),
    Command(
        "plan_experiment",
        (("experiment", EXPERIMENT), ("text", TEXT)),
        shapes.PLAN,
        _MEMBER,
        "What create_experiment would make of the topology: addresses and placement; nothing is kept.",
        target="new experiment",
    ),
    Command(
        "create_experiment",
        (("experiment", EXPERIMENT), ("text", TEXT)),
        shapes.EXPERIMENT_BODY,
        _MEMBER,
        "Make an experiment from a topology; swap_in=True starts it at once.",
        options=(("swap_in", FLAG, False),),
        target="new experiment",
        changes=True,
        slow=True,
    ),
    Command(
        "swap_in",
        _EXPERIMENT,
        shapes.EXPERIMENT_BODY,
        _MEMBER,
        "Place and start the nodes; done when every node is up. Of an active experiment it changes nothing.",
        target="experiment",
        changes=True,
        slow=True,
    ),
    Command(
        "swap_out",
        _EXPERIMENT,
        shapes.EXPERIMENT_BODY,
        _MEMBER,
        "Stop the nodes and give back all they had on the host; the experiment stays.",
        target="experiment",
        changes=True,
        slow=True,
    ),
    Command(
        "terminate",
        _EXPERIMENT,
        shapes.EXPERIMENT_BODY,
        _MEMBER,
        "End the experiment for good; nothing of it is left over.",
        target="experiment",
        changes=True,
        slow=True,
    ),
    Command(
        "modify_experiment",
        (("experiment", EXPERIMENT), ("text", TEXT)),
        shapes.MODIFIED,
        _MEMBER,
        "Make the experiment what the topology says; nodes that it does not change go on undisturbed.",
        target="experiment",
        changes=True,
        slow=True,
    ),
    Command("experiments", (), shapes.EXPERIMENTS, _ANYONE, "The experiments that the caller may see.", polled=True),
    Command(
        "experiment", _EXPERIMENT, shapes.EXPERIMENT_BODY, _MEMBER, "One experiment.", target="experiment", polled=True
    ),
    Command(
        "topology",
        _EXPERIMENT,
        shapes.TOPOLOGY,
        _MEMBER,
        "The experiment's topology, written back from what is kept.",
        target="experiment",
    ),
    Command(
        "wait_for",
        (
            ("experiment", EXPERIMENT),
            ("state", kinds.choice("STATE", "a state, or started", "swapped", "active", "failed", "started")),
        ),
        shapes.EXPERIMENT_BODY,
        _MEMBER,
        "Wait until the experiment is in STATE; started: every start command has ended. Past timeout= it is TIMEOUT.",
        options=(("timeout", SECONDS, 30.0),),
        target="experiment",
    ),
    Command(
        "node_reboot",
        _NODES,
        shapes.NODES,
        _MEMBER,
        "Stop and start these nodes; their start commands run again.",
        target="experiment",
        rest=True,
        changes=True,
        slow=True,
    ),
    Command(
        "start_node",
        _NODES,
        shapes.NODES,
        _MEMBER,
        "Start these nodes, unless they are up.",
        target="experiment",
        rest=True,
        changes=True,
        slow=True,
    ),
    Command(
        "stop_node",
        _NODES,
        shapes.NODES,
        _MEMBER,
        "Stop these nodes; they stay in the experiment, dead with code 0 unless they had ended by themselves.",
        target="experiment",
        rest=True,
        changes=True,
        slow=True,
    ),
    Command(
        "logs",
        (("node", kinds.FULL_NODE),),
        shapes.LOGS,
        _MEMBER,
        "What the node's start command wrote at its newest boot.",
        options=(("tail", kinds.number("BYTES", "how many bytes of each, from the end", 1, 1 << 20), 65536),),
        target="node",
    ),
)

TABLE: dict[str, Command] = {row.name: row for row in ROWS}


def command_named(name: str) -> Command:
    """
    @raise UnknownCommand: naming near ones.
    """
    try:
        return TABLE[name]
    except KeyError:
        raise UnknownCommand(f"no command {shown(name)}{near(name, TABLE)}; 'help' lists them") from None
