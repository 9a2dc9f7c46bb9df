"""
A payload as the response to an XML-RPC call: XML in, the value out; no document types, no entities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.parsers.expat import ExpatError
from xmlrpc.client import Error, Fault, Unmarshaller

from defusedxml.common import DefusedXmlException
from defusedxml.xmlrpc import DefusedExpatParser

from hostline.protocol.errors import BadPayload
from hostline.server.slivers import payload
from hostline.server.slivers.payload import cut


def read_payload(asked: Mapping[str, Any]) -> dict[str, Any]:
    """
    As L{payload.read_payload}, XML or not.
    """
    return payload.read_payload(asked, value_of)


def value_of(text: str) -> Any:
    """
    @param text: an XML-RPC response.
    @return: its one value.
    @raise BadPayload: if it is none, or a fault.
    """
    if text.startswith("<?xml"):
        text = text.partition("?>")[2]  # it may name an encoding, which the text no longer has
    target = Unmarshaller()
    parser = DefusedExpatParser(target, forbid_dtd=True)
    try:
        parser.feed(text.encode("utf-8", "replace"))
        parser.close()
        values = target.close()
    except Fault as fault:
        raise BadPayload(cut(f"the authority answered fault {fault.faultCode}: {fault.faultString}")) from None
    except DefusedXmlException as error:
        raise BadPayload(f"the payload's XML has a document type ({type(error).__name__}), which is not read") from None
    # What the unmarshaller stumbles over, it says in many ways.
    except (Error, ExpatError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BadPayload(cut(f"the payload is no XML-RPC response: {type(error).__name__}: {error}")) from None
    if len(values) != 1:
        raise BadPayload(f"want an XML-RPC response with one value, got {len(values)}")
    return values[0]
