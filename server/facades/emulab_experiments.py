"""
C{experiment.*}: the methods of Emulab that are about one experiment, each as our commands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hostline.protocol import emulab
from hostline.protocol.errors import BadValue, Timeout
from hostline.protocol.names import shown
from hostline.server.facades import emulab_views as views
from hostline.server.facades.emulab_arguments import Arguments, refusal
from hostline.server.facades.emulab_call import Refusal, Response
from hostline.server.facades.inward import WHOLE


async def start(arguments: Arguments) -> Response:
    """
    C{startexp}, C{batchexp}: make an experiment, and swap it in unless C{noswapin}. There is no queue: what has room
    starts at once, and what has none is refused.
    """
    experiment, text = arguments.experiment, arguments.topology
    limits, said = _of_life(arguments)
    swap_in = not arguments.is_true("noswapin")
    reply = await arguments.inward.reply(
        "create_experiment", experiment, text, swap_in=swap_in, wait=arguments.wait, **limits
    )
    body = reply.body
    if reply.word == "operation_reply":
        body = await arguments.say("experiment", experiment)
    said += body["warnings"]
    return Response(output="\n".join([_said(experiment, reply).output, *said]))


def _of_life(arguments: Arguments) -> tuple[dict[str, Any], list[str]]:
    """
    @return: options of C{create_experiment}, and what is said of arguments that mean nothing here.
    """
    limits: dict[str, Any] = {}
    said = []
    if not arguments.is_true("swappable", True):
        limits["no_idle"] = arguments.text("noswap_reason")
        if not limits["no_idle"]:
            raise Refusal(emulab.BAD_ARGUMENTS, "Must supply noswap reason!")
    idle = 0.0 if arguments.given.get("idleswap") is False else arguments.number("idleswap")
    if idle == 0:
        limits["no_idle"] = arguments.text("noidleswap_reason")
        if not limits["no_idle"]:
            raise Refusal(emulab.BAD_ARGUMENTS, "Must supply noidleswap reason!")
    elif idle is not None:
        limits["idle"] = idle * 60
    longest = arguments.number("max_duration" if "max_duration" in arguments.given else "autoswap")
    if longest:
        limits["most"] = longest * 60
    if "group" in arguments.given and arguments.text("group") not in ("", arguments.text("proj")):
        said.append("projects have no groups here: 'group' counts for nothing")
    return limits, said


async def swap(arguments: Arguments) -> Response:
    """
    C{swapexp}: in or out.
    """
    arguments.want("proj", "exp", "direction")
    experiment, direction = arguments.experiment, arguments.text("direction")
    if direction not in ("in", "out"):
        raise Refusal(emulab.BAD_ARGUMENTS, "direction must be 'in' or 'out'")
    return _said(experiment, await arguments.inward.reply(f"swap_{direction}", experiment, wait=arguments.wait))


async def modify(arguments: Arguments) -> Response:
    """
    C{modify}: another topology in its place. With C{reboot}, every node is rebooted then.
    """
    experiment, text = arguments.experiment, arguments.topology
    reboot = arguments.is_true("reboot")
    wait = WHOLE if reboot else arguments.wait
    reply = await arguments.inward.reply("modify_experiment", experiment, text, wait=wait)
    if reply.word == "operation_reply":
        return _said(experiment, reply)
    lines = [f"{what}: {', '.join(names)}" for what, names in reply.body.items() if isinstance(names, list) and names]
    if reboot:
        await _reboot(arguments, experiment)
    return Response(output="\n".join(lines))


async def end(arguments: Arguments) -> Response:
    """
    C{endexp}: terminate.
    """
    experiment = arguments.experiment
    return _said(experiment, await arguments.inward.reply("terminate", experiment, wait=arguments.wait))


def _said(experiment: str, reply: Any) -> Response:
    body = reply.body
    if reply.word == "operation_reply":
        return Response(output=f"{experiment}: {body['command']} goes on as operation {body['operation']}")
    now = "gone" if body["state"] == "terminating" else emulab.shown_state(body["state"])
    return Response(output=f"{experiment} is {now}")


async def expinfo(arguments: Arguments) -> Response:
    """
    C{expinfo}: tables for people.
    """
    arguments.want("proj", "exp", "show")
    body = await arguments.say("experiment", arguments.experiment)
    return Response(output=emulab.expinfo(body, arguments.words("show")))


async def info(arguments: Arguments) -> Response:
    """
    C{info}: C{aspect} is C{mapping}, C{links}, C{physical} or C{traces}, of which there are none.
    """
    arguments.want("proj", "exp", "aspect")
    aspect, experiment = arguments.text("aspect"), arguments.experiment
    if aspect not in ("mapping", "links", "physical", "traces"):
        raise Refusal(emulab.BAD_ARGUMENTS, f"aspect: want mapping, links, physical or traces, got {shown(aspect)}")
    body = await arguments.say("experiment", experiment)
    if aspect == "links":
        return Response(value=views.links(body))
    if aspect == "physical":
        return Response(value=views.physical(body))
    if aspect == "traces":
        return Response(value=[])
    found = views.mapping(body)
    if not found:
        raise Refusal(emulab.ERROR, emulab.INACTIVE)
    return Response(value=found)


async def state(arguments: Arguments) -> Response:
    """
    C{state}: that of the experiment.
    """
    found = emulab.shown_state((await arguments.say("experiment", arguments.experiment))["state"])
    return Response(value=found, output=found)


async def state_wait(arguments: Arguments) -> Response:
    """
    C{statewait}: until it is in a state, or in one of some; code 8 after C{timeout} seconds.
    """
    arguments.want("proj", "exp", "state")
    experiment = arguments.experiment
    wanted = arguments.words("state")
    for one in wanted:
        if one not in emulab.STATES:
            raise Refusal(emulab.BAD_ARGUMENTS, f"state: want one of {', '.join(emulab.STATES)}, got {shown(one)}")
    timeout = arguments.number("timeout")
    states = emulab.waited(wanted or await _others(arguments, experiment))
    try:
        body = await arguments.say("wait_for", experiment, states, timeout=WHOLE if timeout is None else timeout)
    except Timeout:
        raise _timed_out(wanted) from None
    now = body["state"]
    if now == "terminating" and now not in states.split(","):  # it is gone
        gone = [one for one in wanted if one in emulab.GONE]
        if wanted and not gone:
            raise Refusal(emulab.ERROR, f"{experiment} was terminated")
        now = gone[0] if gone else emulab.GONE[0]
    found = emulab.shown_state(now)
    return Response(value=found, output=found)


async def _others(arguments: Arguments, experiment: str) -> list[str]:
    """
    @return: every state but the one that an experiment is in.
    """
    now = emulab.shown_state((await arguments.say("experiment", experiment))["state"])
    return [one for one in emulab.STATES if one != now]


def _timed_out(wanted: list[str]) -> Refusal:
    return Refusal(emulab.TIMED_OUT, f"Timed out waiting for states: {', '.join(wanted) or 'any other'}")


async def wait_for_active(arguments: Arguments) -> Response:
    """
    C{waitforactive}: C{statewait} for C{active}.
    """
    return await state_wait(Arguments(arguments.daemon, arguments.inward, {**arguments.given, "state": "active"}))


async def metadata(arguments: Arguments) -> Response:
    """
    C{metadata}: what is on record of the experiment.
    """
    return Response(value=views.metadata(await arguments.say("experiment", arguments.experiment)))


async def get_list(arguments: Arguments) -> Response:
    """
    C{getlist}: the experiments that the caller may see, by project and group; with C{format} C{full} more of each.
    """
    style = arguments.text("format", "brief")
    if style not in ("brief", "full"):
        raise Refusal(emulab.BAD_ARGUMENTS, f"format: want brief or full, got {shown(style)}")
    project = arguments.name("proj") if "proj" in arguments.given else ""
    found = [one for one in await arguments.say("experiments") if project in ("", one["project"])]
    return Response(value=views.getlist(found, style == "full"))


async def constraints(arguments: Arguments) -> Response:
    """
    C{constraints}: the site's limits of experiments; times are in hours, as Emulab's are.
    """
    limits = arguments.daemon.config.experiments
    value: dict[str, Any] = {"idle/threshold": limits.idle_s / 3600}
    if limits.most_s:
        value["general/default_max_duration"] = limits.most_s / 3600
    return Response(value=value)


async def virtual_topology(arguments: Arguments) -> Response:
    """
    C{virtual_topology}: the nodes and links that were asked for, as rows of tables.
    """
    body = await arguments.say("experiment", arguments.experiment)
    return Response(value=[views.virtual_topology(body, arguments.words("tables"), arguments.words("exclude"))])


async def topology(arguments: Arguments) -> Response:
    """
    C{virtual_topology_xml}: the topology in TopDL.
    """
    text = (await arguments.say("topology", arguments.experiment, format="topdl"))["text"]
    return Response(value=text, output=text)


async def ns_file(arguments: Arguments) -> Response:
    """
    C{nsfile}: the topology as it was written.
    """
    text = (await arguments.say("topology", arguments.experiment))["text"]
    return Response(value=text, output=text)


async def ns_check(arguments: Arguments) -> Response:
    """
    C{nscheck}: what is wrong with a topology; code 2 if it cannot be used.
    """
    found = await arguments.say("check_topology", arguments.topology)
    code = emulab.ERROR if found["errors"] else emulab.SUCCESS
    return Response(code, 0, emulab.checked(found))


async def reboot(arguments: Arguments) -> Response:
    """
    C{reboot}: all nodes of an experiment. C{reconfig} and C{power} mean the same here.
    """
    experiment = arguments.experiment
    nodes = await _reboot(arguments, experiment)
    return Response(output=f"{experiment}: {', '.join(nodes)}")


async def _reboot(arguments: Arguments, experiment: str) -> list[str]:
    body = await arguments.say("experiment", experiment)
    # A ghost is there, but nobody started it.
    nodes = [name for name, one in body["nodes"].items() if one["host"] is not None and one["boots"]]
    if not nodes:
        raise Refusal(emulab.ERROR, emulab.INACTIVE)
    await arguments.say("node_reboot", experiment, *nodes, wait=arguments.wait)
    return nodes


async def delay_config(arguments: Arguments) -> Response:
    """
    C{delay_config}: what a link does to what passes it, from now on; kept over a swap if C{persist}.
    """
    arguments.want("proj", "exp", "link", "params")
    experiment, link = arguments.experiment, arguments.text("link")
    given = arguments.given["params"]
    if not isinstance(given, dict):
        raise Refusal(emulab.BAD_ARGUMENTS, f"params: want a struct, got {shown(given)}")
    try:
        options, ignored = emulab.shaping({name: str(value) for name, value in given.items()})
    except BadValue as error:
        raise Refusal(emulab.BAD_ARGUMENTS, error.message) from None
    source = arguments.text("src") or None
    save = arguments.is_true("persist") or None
    await arguments.say("delay_config", experiment, link, source=source, save=save, **options)
    return Response(output="".join(f"{name} counts for nothing here\n" for name in ignored))


async def extra_nodes(arguments: Arguments) -> Response:
    """
    C{extra_nodes}: those inside hosts, as C{node.exp.proj}; none while it is swapped out.
    """
    arguments.want("proj", "exp")
    project, _, name = arguments.experiment.partition("/")
    return Response(value=await arguments.say("extra_nodes", project, name))


async def ready_count(arguments: Arguments) -> Response:
    """
    C{readycount}: how many nodes are up and have ended their start command.
    """
    if any(arguments.is_true(one) for one in ("set", "clear")):
        raise Refusal(emulab.ERROR, "what a node reports here is the end of its start command; it cannot be set")
    body = await arguments.say("experiment", arguments.experiment)
    found = views.ready(body, arguments.words("nodes"))
    ready = [name for name, is_so in found.items() if is_so]
    lines = [f"{len(ready)} of {len(found)} nodes are ready"]
    if arguments.is_true("list") or arguments.given.get("nodes"):
        lines = [f"{name}: {'ready' if is_so else 'not ready'}" for name, is_so in found.items()]
    return Response(value={name: int(is_so) for name, is_so in found.items()}, output="\n".join(lines))


async def history(arguments: Arguments) -> Response:
    """
    C{history}: what was done with the experiment, by whom and how it ended.
    """
    body = await arguments.say("experiment", arguments.experiment)
    past = await arguments.say("history", arguments.experiment)
    return Response(value={"stats": views.metadata(body), "resources": [views.past(one) for one in past]})


async def echo(arguments: Arguments) -> Response:
    """
    C{echo}: what was said.
    """
    arguments.want("str")
    said = arguments.text("str")
    return Response(value=said, output=said)


_NO_EVENTS = "there is no event system here: start commands, run and node_reboot do what its programs did"
METHODS: dict[str, Callable[[Arguments], Awaitable[Response]]] = {
    "experiment.startexp": start,
    "experiment.batchexp": start,
    "experiment.swapexp": swap,
    "experiment.modify": modify,
    "experiment.endexp": end,
    "experiment.expinfo": expinfo,
    "experiment.info": info,
    "experiment.state": state,
    "experiment.statewait": state_wait,
    "experiment.waitforactive": wait_for_active,
    "experiment.metadata": metadata,
    "experiment.history": history,
    "experiment.getlist": get_list,
    "experiment.constraints": constraints,
    "experiment.virtual_topology": virtual_topology,
    "experiment.virtual_topology_xml": topology,
    "experiment.nsfile": ns_file,
    "experiment.nscheck": ns_check,
    "experiment.reboot": reboot,
    "experiment.delay_config": delay_config,
    "experiment.link_config": delay_config,
    "experiment.extra_nodes": extra_nodes,
    "experiment.readycount": ready_count,
    "experiment.echo": echo,
    "emulab.echo": echo,
    "experiment.getviz": refusal("no picture is kept here: 'hostline picture PROJECT/EXPERIMENT FILE.svg' draws one"),
    "experiment.thumbnail": refusal(
        "no picture is kept here: 'hostline picture PROJECT/EXPERIMENT FILE.svg' draws one"
    ),
    "experiment.reload": refusal("disks are not loaded here: a node's image is in the topology; modify the experiment"),
    "experiment.portstats": refusal("links here pass no switch that counts: look at the interfaces inside the nodes"),
    "experiment.savelogs": refusal(
        "logs are kept without being asked: 'hostline node_logs PROJECT/EXPERIMENT' gets them"
    ),
    **{
        f"experiment.{name}": refusal(_NO_EVENTS)
        for name in (
            *("eventsys_control", "event_list", "event_agentlist", "event_grouplist", "event_time_start"),
            *("event_sendlist", "event_timeline"),
        )
    },
}
