"""
The XML-RPC of Emulab: C{module.method(version, {arguments})} gives C{{code, value, output}}.

Every method says commands of ours in the name of who calls, and puts what they answer into Emulab's words.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from hostline.protocol.errors import BadValue, HostError, TooMany
from hostline.protocol.names import near
from hostline.server import callers
from hostline.server.callers import Caller
from hostline.server.connection import Connection
from hostline.server.facades import emulab_experiments, emulab_nodes
from hostline.server.facades.emulab_arguments import Arguments
from hostline.server.facades.emulab_call import (
    AT_ONCE,
    NO_METHOD,
    NOT_A_CALL,
    Refusal,
    Response,
    fault,
    parts,
    read,
    response_to,
    written,
)
from hostline.server.facades.inward import Inward
from hostline.server.facades.web import WebConnection

if TYPE_CHECKING:
    from hostline.server.daemon import Daemon

Method = Callable[[Arguments], Awaitable[Response]]

#: Function by name.
METHODS: Mapping[str, Method] = {**emulab_experiments.METHODS, **emulab_nodes.METHODS}


def web_connection(daemon: Daemon, caller: Caller) -> WebConnection:
    """
    @return: a protocol for who comes through the host's own socket for this.
    """
    return WebConnection(daemon, Connection(daemon, lambda _: caller), answer)


def unavailable(error: HostError) -> bytes:
    """
    @return: what is said to who may not come in now.
    """
    body = f"{error.message}\n".encode()
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("ascii") + body


async def answer(daemon: Daemon, inward: Inward, body: bytes) -> bytes:
    """
    @param inward: says commands in the name of who calls.
    @param body: of the call.
    @return: the body of the answer.
    """
    try:
        call = await _read(daemon, inward, body)
    except TooMany as error:
        return written(response_to(error))
    except BadValue as error:
        return fault(NOT_A_CALL, error.message)
    except HostError as error:
        return fault(NOT_A_CALL, f"the call cannot be read: {error.message}")
    name = call["method"] if "." in call["method"] else f"experiment.{call['method']}"
    method = METHODS.get(name)
    if method is None:
        return fault(NO_METHOD, f"no method {name}{near(name, list(METHODS))}")
    given, response = parts(call["params"], name)
    return written(response or await called(method, Arguments(daemon, inward, given)))


async def called(method: Method, arguments: Arguments) -> Response:
    """
    Call a method.

    @return: what it answers, or says of its failure.
    """
    try:
        return await method(arguments)
    except Refusal as refusal:
        return refusal.response
    except HostError as error:
        return response_to(error, arguments.text_of("proj"), arguments.text_of("exp"))


async def _read(daemon: Daemon, inward: Inward, body: bytes) -> dict[str, Any]:
    if len(body) <= AT_ONCE:
        return read(body)
    who = callers.principal(daemon.host, inward.caller)

    def asked() -> dict[str, str]:
        return {"body": b64encode(body).decode("ascii")}

    call: dict[str, Any] = await daemon.offload.call("read_call", asked, who=who)
    return call
