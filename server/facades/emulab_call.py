"""
Calls by XML-RPC: from bytes to a method and its arguments, from a value to bytes. No document types, no entities.

L{read_call} runs in the offload child where the bytes are many: it takes and returns a JSON value.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from xml.parsers.expat import ExpatError
from xmlrpc.client import Binary, DateTime, Error, Fault, Unmarshaller, dumps

from attrs import frozen
from defusedxml.common import DefusedXmlException
from defusedxml.xmlrpc import DefusedExpatParser

from hostline.protocol import emulab
from hostline.protocol.errors import BadValue, HostError
from hostline.protocol.names import escaped, shown

#: Bytes of a call that are read at once; what is longer is read in a child.
AT_ONCE = 4096
#: Bytes of a call: those of the longest topology with every character written as an entity, and some more.
LONGEST = 4 << 20
#: Characters of a topology.
LONGEST_TEXT = 512 << 10
#: How deep arrays and structs may be in each other.
_DEEPEST = 16
_LARGEST = 2**31 - 1
#: Faults that XML-RPC knows: what came is no call, there is no such method, there is a bug.
NOT_A_CALL, NO_METHOD, BUG = -32700, -32601, -32603


@frozen
class Response:
    """
    What every method answers.
    """

    code: int = emulab.SUCCESS
    value: Any = 0
    output: str = ""


class Refusal(Exception):
    """
    A method does not do what it was asked for.

    @ivar response: that says so.
    """

    def __init__(self, code: int, output: str, value: Any = 0) -> None:
        super().__init__(output)
        self.response = Response(code, value, output)


def read_call(asked: Mapping[str, Any]) -> dict[str, Any]:
    """
    @param asked: C{{'body': ...}}, the bytes in base64.
    @return: C{{'method': ..., 'params': [..]}}.
    @raise BadValue: if that is no call.
    """
    return read(a2b_base64(asked["body"]))


def read(body: bytes) -> dict[str, Any]:
    """
    The same, of the bytes themselves.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadValue(f"want a call in UTF-8, got byte 0x{body[error.start]:02x} at {error.start}") from None
    text = text.lstrip("\ufeff \t\r\n")
    if text.startswith("<?xml"):
        text = text.partition("?>")[2]  # it may name an encoding, which the text no longer has
    target = Unmarshaller()
    parser = DefusedExpatParser(target, forbid_dtd=True)
    try:
        parser.feed(text.encode("utf-8"))
        parser.close()
        params = target.close()
        method = target.getmethodname()
    except Fault:
        raise BadValue("want a call, got a fault") from None
    except DefusedXmlException as error:
        raise BadValue(f"document types are not read ({type(error).__name__})") from None
    # What the unmarshaller stumbles over, it says in many ways.
    except (Error, ExpatError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BadValue(f"want a call by XML-RPC, got what is none: {type(error).__name__}: {error}"[:300]) from None
    if not isinstance(method, str) or not method:
        raise BadValue("want a call by XML-RPC, got one without methodName")
    return {"method": method[:200], "params": [_plain(one, 0) for one in params]}


def _plain(value: Any, depth: int) -> Any:
    """
    @return: the value as JSON has it.
    """
    if depth > _DEEPEST:
        raise BadValue(f"want arrays and structs at most {_DEEPEST} deep")
    if isinstance(value, dict):
        return {str(key): _plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, depth + 1) for one in value]
    if isinstance(value, Binary):
        return value.data.decode("utf-8", "replace")
    if isinstance(value, DateTime | Decimal):
        return str(value)
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise BadValue(f"want a finite number, got {value}")
    return value


def written(response: Response) -> bytes:
    """
    @return: the answer of a method.
    """
    value = {"code": response.code, "value": _sayable(response.value), "output": _printable(response.output)}
    return _xml((value,))


def fault(code: int, text: str) -> bytes:
    """
    @return: the answer to what is no call of a method that there is.
    """
    return _xml(Fault(code, _printable(text)))


def _xml(value: Any) -> bytes:
    text: str = dumps(value, methodresponse=True)
    return text.encode()


def _sayable(value: Any) -> Any:
    """
    @return: the value as XML-RPC can say it: nothing is an empty text, a number of more than 32 bits is one too, and
        what of a struct is nothing is left out.
    """
    if isinstance(value, dict):
        return {_printable(str(key)): _sayable(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_sayable(one) for one in value]
    if value is None:
        return ""
    if isinstance(value, str):
        return _printable(value)
    if type(value) is int and not -_LARGEST <= value <= _LARGEST:
        return str(value)
    return value


def _printable(text: str) -> str:
    """
    What XML cannot have, and what is not meant for a terminal, written as in a literal.
    """
    return escaped(text, "\n\t")


def response_to(error: HostError, project: str = "", experiment: str = "") -> Response:
    """
    An error of ours as Emulab says it.

    @param project: the one that was asked for, and C{experiment} in it.
    """
    code = emulab.code_of(error.code)
    text = error.message
    if error.code == "NO_SUCH_EXPERIMENT":
        text = f"No such experiment: {project}/{experiment}" if project else text
    elif error.code == "NO_SUCH_PROJECT":
        text = f"No such project: {project}" if project else text
    elif code == emulab.FORBIDDEN and experiment:
        text = f"You do not have permission to access experiment: {project}/{experiment}: {text}"
    lines = [text]
    for one in error.details.get("errors") or ():
        said = f"line {one['line']}: {one['text']}" if one.get("line") else str(one.get("text", one))
        lines += [] if said in text else [said]
    lines += [f"cause: {cause}" for cause in error.details.get("causes") or () if cause not in text]
    return Response(code, 0, "\n".join(lines))


def parts(params: list[Any], method: str) -> tuple[dict[str, Any], Response | None]:
    """
    @param params: C{version, {arguments}}.
    @return: the arguments; and what is answered at once, if that makes no sense.
    """
    if len(params) != 2 or not isinstance(params[1], dict):
        return {}, Response(emulab.BAD_ARGUMENTS, 0, f"want {shown(method)}(version, {{arguments}})")
    if params[0] not in (0.1, "0.1") or isinstance(params[0], bool):
        return {}, Response(emulab.BAD_VERSION, 0, "Client version mismatch!")
    return params[1], None
