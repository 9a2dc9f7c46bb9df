"""
C{node.*}, and what little there is of C{osid}, C{imageid}, C{user} and C{fs}: each as our commands.

A node is named in full, C{web.exp1.lab}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hostline.protocol import emulab
from hostline.protocol.errors import BadValue
from hostline.protocol.names import shown, split_node
from hostline.server.facades import emulab_views as views
from hostline.server.facades.emulab_arguments import Arguments, refusal
from hostline.server.facades.emulab_call import Refusal, Response

#: Seconds between two looks at a node that is waited for.
_LOOK_S = 1.0
#: Lines of a console that are told.
_LINES = 100
#: Types of nodes that mean any host.
_HOSTS = ("pc", "pcvm", "*")
_STATES = ("BOOTING", "ISUP", "SHUTDOWN")


def _split(name: str) -> tuple[str, str]:
    """
    @return: the node, and its experiment.
    @raise Refusal: if the name is none.
    """
    try:
        return split_node(name)
    except BadValue as error:
        raise Refusal(emulab.BAD_ARGUMENTS, f"Illegal characters in 'node'! {error.message}") from None


async def _body(arguments: Arguments, name: str) -> dict[str, Any]:
    node, experiment = _split(name)
    body = await arguments.say("experiment", experiment)
    found: dict[str, Any] | None = body["nodes"].get(node)
    if found is None:
        raise Refusal(emulab.ERROR, f"No such node: {name}")
    return found


async def available(arguments: Arguments) -> Response:
    """
    C{available}: how many hosts take nodes; of a type, how many have its driver.
    """
    kinds = await _kinds(arguments)
    wanted = [arguments.text(one) for one in ("class", "type") if one in arguments.given]
    found = int(bool(kinds) and all(one in _HOSTS or one in kinds for one in wanted))
    return Response(value=found, output=str(found))


async def get_list(arguments: Arguments) -> Response:
    """
    C{getlist}: the hosts that take nodes, with the kinds of nodes that each takes.
    """
    status = await arguments.say("host_status")
    host = {
        "node_id": status["host"],
        "type": "pc",
        "class": "pc",
        "free": bool(status["drivers"]),
        "auxtypes": ",".join(sorted(status["drivers"])),
    }
    return Response(value={status["host"]: host})


async def type_info(arguments: Arguments) -> Response:
    """
    C{typeinfo}: the kinds of nodes that this host runs.
    """
    kinds = await _kinds(arguments)
    return Response(value={kind: {"class": "pcvm", "description": version} for kind, version in kinds.items()})


async def _kinds(arguments: Arguments) -> dict[str, str]:
    kinds: dict[str, str] = (await arguments.say("host_status"))["drivers"]
    return kinds


async def ssh_description(arguments: Arguments) -> Response:
    """
    C{sshdescription}: where each of the nodes is reached by ssh, through its host.
    """
    if "node" in arguments.given:
        nodes = [await _body(arguments, arguments.text("node"))]
    else:
        nodes = list((await arguments.say("experiment", arguments.experiment))["nodes"].values())
    found = {
        one["node"]: {"hostname": one["address"] or one["name"], "gateway": one["host"], "name": one["name"]}
        for one in nodes
        if one["host"] is not None
    }
    return Response(value=found)


async def console(arguments: Arguments) -> Response:
    """
    C{console}: the end of what the node's console said, and the command that joins it, for that is a stream.
    """
    arguments.want("node")
    name = arguments.text("node")
    node = await _body(arguments, name)
    log = (await arguments.say("logs", name, stream="console", tail=_LINES)).get("console", "")
    value = {"name": name, "server": node["host"], "command": f"hostline attach {name}", "log": log}
    return Response(value=value, output=log)


async def reboot(arguments: Arguments) -> Response:
    """
    C{reboot}: the C{nodes}, with commas between them. C{reconfig} and C{power} mean the same here.
    """
    arguments.want("nodes")
    names = arguments.words("nodes")
    if not names:
        raise Refusal(emulab.BAD_ARGUMENTS, "Must supply 'nodes'")
    by_experiment: dict[str, list[str]] = {}
    for name in names:
        node, experiment = _split(name)
        by_experiment.setdefault(experiment, []).append(node)
    for experiment, nodes in by_experiment.items():
        await arguments.say("node_reboot", experiment, *nodes, wait=arguments.wait)
    return Response(output="\n".join(names))


async def state_wait(arguments: Arguments) -> Response:
    """
    C{statewait}: until a node's event state is C{state}, or one of some; code 8 after C{timeout} seconds.
    """
    arguments.want("node", "state")
    name, wanted = arguments.text("node"), arguments.words("state")
    for one in wanted:
        if one not in _STATES:
            raise Refusal(emulab.BAD_ARGUMENTS, f"state: want one of {', '.join(_STATES)}, got {shown(one)}")
    timeout, clock = arguments.number("timeout"), arguments.daemon.clock
    deadline = None if timeout is None else clock.seconds() + timeout
    while True:
        found = views.event_state(await _body(arguments, name))
        if found in wanted:
            return Response(value=found, output=found or "")
        if deadline is not None and clock.seconds() >= deadline:
            raise Refusal(emulab.TIMED_OUT, f"Timed out waiting for states: {', '.join(wanted)}")
        await arguments.pause(_LOOK_S if deadline is None else max(0.0, min(_LOOK_S, deadline - clock.seconds())))


async def create_image(arguments: Arguments) -> Response:
    """
    C{create_image}: an image of a node as it is now, C{imagename}; done when it is made, if C{wait}.
    """
    arguments.want("node")
    name = arguments.name("imagename" if "imagename" in arguments.given else "imageid")
    node, experiment = _split(arguments.text("node"))
    reply = await arguments.inward.reply("snapshot_node", experiment, node, name, wait=arguments.wait)
    body = reply.body
    if reply.word == "operation_reply":
        return Response(output=f"{name} is being made (operation {body['operation']})")
    return Response(output=f"{name} is {body['state']}")


async def images(arguments: Arguments) -> Response:
    """
    C{osid.getlist}, C{imageid.getlist}: the images of this host, by name.
    """
    found = await arguments.say("images")
    return Response(value={one["name"]: _image(one) for one in found})


async def image(arguments: Arguments) -> Response:
    """
    C{osid.info}, C{imageid.info}: one of them, C{osid} or C{imageid}.
    """
    name = arguments.text("osid") or arguments.text("imageid")
    if not name:
        raise Refusal(emulab.BAD_ARGUMENTS, "Must supply 'osid' or 'imageid'")
    for one in await arguments.say("images"):
        if one["name"] == name:
            return Response(value=_image(one))
    raise Refusal(emulab.ERROR, f"No such image: {name}")


def _image(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "osid": body["name"],
        "imageid": body["name"],
        "osname": body["name"],
        "OS": "Linux",
        "type": body["kind"],
        "sha256": body["sha256"],
        "size": body["size"],
        "ready": body.get("state") == "ready" or bool(body.get("ready")),
        "created": views.moment(body["created"]),
    }


async def membership(arguments: Arguments) -> Response:
    """
    C{user.membership}: the caller's projects, each with the group of its own name.
    """
    return Response(value={one["name"]: [one["name"]] for one in await arguments.say("projects")})


async def whoami(arguments: Arguments) -> Response:
    """
    C{user.whoami}: who the daemon takes the caller for.
    """
    found = await arguments.say("whoami")
    return Response(value=found, output=found["principal"])


_NO_ADMIN = "nodes here boot nothing but their image"
_NO_MOTES = "there are no motes here"
METHODS: dict[str, Callable[[Arguments], Awaitable[Response]]] = {
    "node.available": available,
    "node.getlist": get_list,
    "node.typeinfo": type_info,
    "node.sshdescription": ssh_description,
    "node.console": console,
    "node.reboot": reboot,
    "node.statewait": state_wait,
    "node.create_image": create_image,
    "osid.getlist": images,
    "osid.info": image,
    "imageid.getlist": images,
    "imageid.info": image,
    "user.membership": membership,
    "user.whoami": whoami,
    "node.hostkeys": refusal("host keys are not told: nodes are reached through their host"),
    "node.reload": refusal("disks are not loaded here: a node's image is in the topology; modify the experiment"),
    "node.adminmode": refusal(_NO_ADMIN),
    "node.waconfig": refusal("there are no wide-area nodes here"),
    "node.tbuisp": refusal(_NO_MOTES),
}
