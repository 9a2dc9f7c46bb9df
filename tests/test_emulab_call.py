"""
Calls by XML-RPC: what is read, what is refused, and what is written.
"""

from __future__ import annotations

import time
import xmlrpc.client
from base64 import b64encode
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.protocol import emulab
from hostline.protocol.errors import ERRORS, BadValue, HostError
from hostline.server.facades.emulab_call import Response, fault, parts, read, read_call, response_to, written

_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    b"<methodCall><methodName>&b;</methodName></methodCall>"
)
_PLAIN = st.recursive(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff\r"))
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.floats(-1e9, 1e9, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


def nested(depth: int) -> bytes:
    """
    A call whose argument is arrays in arrays.
    """
    opening = b"<value><array><data>" * depth
    closing = b"</data></array></value>" * depth
    head = b"<methodCall><methodName>a</methodName><params><param>"
    return head + opening + b"<value><int>1</int></value>" + closing + b"</param></params></methodCall>"


class ReadTests(SynchronousTestCase):
    """
    From bytes to a method and its arguments.
    """

    @given(_PLAIN)
    def test_roundTrip(self, value: Any) -> None:
        """
        Whatever a stock client sends arrives.
        """
        body = xmlrpc.client.dumps((0.1, {"x": value}), "experiment.echo").encode()
        self.assertEqual(read(body), {"method": "experiment.echo", "params": [0.1, {"x": value}]})

    def test_inTheChild(self) -> None:
        """
        The same in the child, from base64.
        """
        body = xmlrpc.client.dumps((0.1, {}), "node.getlist").encode()
        found = read_call({"body": b64encode(body).decode()})
        self.assertEqual(found, {"method": "node.getlist", "params": [0.1, {}]})

    def test_otherTypes(self) -> None:
        """
        Bytes are text, moments are text, and nothing is None.
        """
        values = (xmlrpc.client.Binary(b"set ns"), xmlrpc.client.DateTime("20260101T00:00:00"), None)
        body = xmlrpc.client.dumps(values, "a", allow_none=True).encode()
        self.assertEqual(read(body)["params"], ["set ns", "20260101T00:00:00", None])

    @given(st.binary(max_size=200) | st.text("<>/&;!methodCallNameparsvlu[] \"'?x1-", max_size=200).map(str.encode))
    def test_garbage(self, body: bytes) -> None:
        """
        Whatever it is, it is a call or is refused.
        """
        try:
            found = read(body)
        except BadValue:
            return
        self.assertEqual(set(found), {"method", "params"})

    def test_bombs(self) -> None:
        """
        Entities, document types, depth, numbers without end and other encodings are refused at once.
        """
        head, tail = (
            b"<methodCall><methodName>a</methodName><params><param><value>",
            b"</value></param></params></methodCall>",
        )
        begun = time.monotonic()
        for body in (
            _BOMB,
            b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><methodCall/>",
            nested(17),
            nested(100_000),
            head + b"<int>" + b"9" * 1_000_000 + b"</int>" + tail,
            head + b"<double>nan</double>" + tail,
            head + b"<base64>!</base64>x" + tail + b"x",
            "<?xml version='1.0' encoding='utf-16'?><methodCall/>".encode("utf-16"),
            b"<methodResponse><fault><value><struct/></value></fault></methodResponse>",
            b"<methodResponse><params/></methodResponse>",
            b"",
        ):
            self.assertRaises(BadValue, read, body)
        self.assertLess(time.monotonic() - begun, 10)
        self.assertEqual(read(nested(16))["method"], "a")


class PartsTests(SynchronousTestCase):
    """
    The version and the arguments.
    """

    def test_good(self) -> None:
        """
        C{0.1} as a number or a text.
        """
        for version in (0.1, "0.1"):
            self.assertEqual(parts([version, {"a": 1}], "x"), ({"a": 1}, None))

    def test_version(self) -> None:
        """
        Another version is code 4.
        """
        for version in (0.2, "0.2", 1, True, None, "", [0.1]):
            response = parts([version, {}], "x")[1]
            self.assertEqual(response, Response(emulab.BAD_VERSION, 0, "Client version mismatch!"), version)

    def test_shape(self) -> None:
        """
        What is not two, or whose second is no struct, is code 1.
        """
        for params in ([], [0.1], [0.1, []], [0.1, "x"], [0.1, {}, {}]):
            response = parts(params, "x")[1]
            assert response is not None
            self.assertEqual(response.code, emulab.BAD_ARGUMENTS, params)


class WrittenTests(SynchronousTestCase):
    """
    From a value to bytes.
    """

    def sent(self, value: Any, output: str = "") -> Any:
        """
        What a stock client makes of it.
        """
        (found,), _ = xmlrpc.client.loads(written(Response(0, value, output)))
        return found

    def test_values(self) -> None:
        """
        What XML-RPC has no word for is said in another, or left out.
        """
        value = {"a": None, "b": [None, 2**40, -(2**40), 2**31 - 1], "c": "x\x00\x1b[31m\u2028\ny", 3: True, "d": 0.5}
        found = self.sent(value)
        self.assertEqual(
            found["value"],
            {"b": ["", str(2**40), str(-(2**40)), 2**31 - 1], "c": "x\\x00\\x1b[31m\\u2028\ny", "3": True, "d": 0.5},
        )

    def test_output(self) -> None:
        """
        The output is printable.
        """
        self.assertEqual(self.sent(0, "a\x1b]0;b\x07\nc")["output"], "a\\x1b]0;b\\x07\nc")

    def test_fault(self) -> None:
        """
        A fault is one, and printable.
        """
        with self.assertRaises(xmlrpc.client.Fault) as caught:
            xmlrpc.client.loads(fault(-32601, "no\x00 method"))
        self.assertEqual((caught.exception.faultCode, caught.exception.faultString), (-32601, "no\\x00 method"))


class ErrorTests(SynchronousTestCase):
    """
    Errors of ours as codes of Emulab's.
    """

    def test_everyCode(self) -> None:
        """
        Each of our errors has its code; what is not found is code 2, what may not be 3, what is late 8.
        """
        expected = dict.fromkeys(ERRORS, emulab.ERROR)
        expected |= dict.fromkeys(
            ("BAD_ARGUMENTS", "UNKNOWN_OPTION", "BAD_VALUE", "BAD_LITERAL", "BAD_LINE"), emulab.BAD_ARGUMENTS
        )
        expected |= dict.fromkeys(("STORE_FAILED", "INTERNAL"), emulab.SERVER_ERROR)
        expected |= {
            "DENIED": emulab.FORBIDDEN,
            "LINE_TOO_LONG": emulab.TOO_BIG,
            "TOO_MANY": emulab.REFUSED,
            "TIMEOUT": emulab.TIMED_OUT,
        }
        found = {code: response_to(kind("x")).code for code, kind in ERRORS.items()}
        self.assertEqual(found, expected)
        self.assertEqual(response_to(_unknown()).code, emulab.ERROR)

    def test_texts(self) -> None:
        """
        What is unknown is said as Emulab says it; lines and causes are told.
        """
        response = response_to(ERRORS["NO_SUCH_EXPERIMENT"]("no experiment lab/x"), "lab", "x")
        self.assertEqual(response.output, "No such experiment: lab/x")
        self.assertEqual(response_to(ERRORS["NO_SUCH_PROJECT"]("no"), "lab", "x").output, "No such project: lab")
        denied = response_to(ERRORS["DENIED"]("it is for owners"), "lab", "x").output
        self.assertEqual(denied, "You do not have permission to access experiment: lab/x: it is for owners")
        bad = ERRORS["BAD_TOPOLOGY"](
            "line 3: a (and 1 more)", errors=[{"line": 3, "text": "a"}, {"line": 4, "text": "b"}]
        )
        self.assertEqual(response_to(bad).output, "line 3: a (and 1 more)\nline 4: b")
        failed = ERRORS["FAILED"]("no room", causes=["no room", "swap_in failed"])
        self.assertEqual(response_to(failed).output, "no room\ncause: swap_in failed")


def _unknown() -> HostError:
    error = HostError("x")
    error.code = "OF_TOMORROW"
    return error
