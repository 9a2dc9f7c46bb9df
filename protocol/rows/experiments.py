"""
The rows of experiments and their nodes.
"""

from __future__ import annotations

from hostline.protocol import kinds, shapes
from hostline.protocol.command import FOR_ANYONE, FOR_MEMBERS, FOR_USERS, Command
from hostline.protocol.kinds import EXPERIMENT, FLAG, NODE, SECONDS, TEXT, listing, maybe
from hostline.protocol.rows.upkeep import LIMIT, REASON

_EXPERIMENT = (("experiment", EXPERIMENT),)
_NODES = (("experiment", EXPERIMENT), ("nodes", NODE))
_FORMAT = (
    "format",
    maybe(
        kinds.choice("LANGUAGE", "TopDL if it begins with <, else NS, if nothing else is said", "topdl", "ns", "toml")
    ),
    None,
)
#: What wait_for waits for: states of an experiment, its end, and the end of its start commands.
WAITED = ("swapped", "activating", "active", "swapping", "modifying", "terminating", "terminated", "failed", "started")
_WAITED = kinds.choices(
    "STATE,..",
    "states, any of which will do; terminated: it is gone; started: every start command has ended",
    *WAITED,
)
_AT_LEAST_ONE = maybe(kinds.number("N", "a whole number from 1", 1))
_BY_PASS = maybe(kinds.Kind("PASS:N,..", "a number by pass: 0:1,1:20", kinds.STRING.fits))
_KIND = maybe(
    kinds.choice("KIND", "of nodes that name neither a kind nor an image", *sorted(kinds.NODE_KINDS)),
)
#: How nodes are placed on hosts, and what they are made as; what modify_experiment leaves out stays as it was.
_PACKING = (
    ("packing", _AT_LEAST_ONE, None),
    ("size", _AT_LEAST_ONE, None),
    ("nodes_only", maybe(FLAG), None),
    ("force_partition", maybe(FLAG), None),
    ("pass_pack", _BY_PASS, None),
    ("pass_size", _BY_PASS, None),
    (
        "pass_pnodes",
        maybe(kinds.Kind("PASS:TYPE,..;..", "types of hosts by pass: 0:pc,fast;1:pc", kinds.STRING.fits)),
        None,
    ),
    ("pass_nodes_only", maybe(kinds.Kind("PASS,..", "passes: 1,3", kinds.STRING.fits)), None),
    (
        "qemu_nics",
        maybe(kinds.number("N", "interfaces that a QEMU machine may have: 7 if nothing else is said", 1, 24)),
        None,
    ),
    ("kind", _KIND, None),
    ("kind_alone", _KIND, None),
    _FORMAT,
)

ROWS: tuple[Command, ...] = (
    Command(
        "status_request",
        _EXPERIMENT,
        shapes.STATUS,
        FOR_MEMBERS,
        "Boot state and exit status of every placed node, by hypervisor.",
        target="experiment",
        polled=True,
    ),
    Command(
        "node_list",
        _EXPERIMENT,
        shapes.NODES,
        FOR_ANYONE,
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
        FOR_MEMBERS,
        "The nodes that live inside a host of the experiment, as node.experiment.project.",
        target="experiment",
        polled=True,
    ),
    Command(
        "check_topology",
        (("text", TEXT),),
        shapes.PLAN,
        FOR_USERS,
        "Read a topology and say what is in it and what is wrong, with lines; nothing is kept.",
        options=(_FORMAT,),
    ),
    Command(
        "plan_experiment",
        (("experiment", EXPERIMENT), ("text", TEXT)),
        shapes.PLAN,
        FOR_MEMBERS,
        "What create_experiment would make of the topology: addresses, placement; of hosts= instead of this one; "
        "nothing is kept.",
        options=(*_PACKING, ("hosts", maybe(kinds.several(shapes.HOST_OFFERED)), None)),
        target="new experiment",
    ),
    Command(
        "create_experiment",
        (("experiment", EXPERIMENT), ("text", TEXT)),
        shapes.EXPERIMENT_BODY,
        FOR_MEMBERS,
        "Make an experiment from a topology; swap_in=True starts it at once.",
        options=(
            ("swap_in", FLAG, False),
            ("idle", LIMIT, None),
            ("no_idle", REASON, None),
            ("most", LIMIT, None),
            *_PACKING,
        ),
        target="new experiment",
        changes=True,
        slow=True,
    ),
    Command(
        "swap_in",
        _EXPERIMENT,
        shapes.EXPERIMENT_BODY,
        FOR_MEMBERS,
        "Place and start the nodes; done when every node is up. Of an active experiment it changes nothing.",
        target="experiment",
        changes=True,
        slow=True,
    ),
    Command(
        "swap_out",
        _EXPERIMENT,
        shapes.EXPERIMENT_BODY,
        FOR_MEMBERS,
        "Stop the nodes and give back all they had on the host; the experiment stays.",
        target="experiment",
        changes=True,
        frees=True,
        slow=True,
    ),
    Command(
        "terminate",
        _EXPERIMENT,
        shapes.EXPERIMENT_BODY,
        FOR_MEMBERS,
        "End the experiment for good; nothing of it is left over.",
        target="experiment",
        changes=True,
        frees=True,
        slow=True,
    ),
    Command(
        "modify_experiment",
        (("experiment", EXPERIMENT), ("text", TEXT)),
        shapes.MODIFIED,
        FOR_MEMBERS,
        "Make the experiment what the topology says; nodes that it does not change go on undisturbed.",
        options=_PACKING,
        target="experiment",
        changes=True,
        slow=True,
    ),
    Command(
        "experiments",
        (),
        shapes.EXPERIMENTS,
        FOR_ANYONE,
        "The experiments that the caller may see.",
        polled=True,
    ),
    Command(
        "experiment",
        _EXPERIMENT,
        shapes.EXPERIMENT_BODY,
        FOR_MEMBERS,
        "One experiment.",
        target="experiment",
        polled=True,
    ),
    Command(
        "topology",
        _EXPERIMENT,
        shapes.TOPOLOGY,
        FOR_MEMBERS,
        "The experiment's topology as it was written; format=topdl: what it is in TopDL.",
        options=(
            (
                "format",
                maybe(kinds.choice("LANGUAGE", "as it was written, if nothing else is said", "topdl")),
                None,
            ),
        ),
        target="experiment",
    ),
    Command(
        "wait_for",
        (
            ("experiment", EXPERIMENT),
            ("state", _WAITED),
        ),
        shapes.EXPERIMENT_BODY,
        FOR_MEMBERS,
        "Wait until the experiment is in one of the states; started: every start command has ended; terminated: it is "
        "gone, and this is what it was. Past timeout= it is TIMEOUT.",
        options=(("timeout", SECONDS, 30.0),),
        target="experiment",
    ),
    Command(
        "node_reboot",
        _NODES,
        shapes.NODES,
        FOR_MEMBERS,
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
        FOR_MEMBERS,
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
        FOR_MEMBERS,
        "Stop these nodes; they stay in the experiment, dead with code 0 unless they had ended by themselves.",
        target="experiment",
        rest=True,
        changes=True,
        frees=True,
        slow=True,
    ),
)
