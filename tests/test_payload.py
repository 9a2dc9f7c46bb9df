"""
Reading what a control authority says: one bad entry never spoils the others, and nothing comes through unsaid.
"""

from __future__ import annotations

import json
import time
import xmlrpc.client
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from bench import payload as measured
from hostline.protocol.errors import BadPayload
from hostline.server.slivers import entry, payload
from hostline.server.slivers.response import read_payload

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann"


def sliver(name: str = "lab_web", **more: Any) -> dict[str, Any]:
    """
    An entry as the ancestor's authority gave it.
    """
    tags = [{"tagname": tag, "value": value} for tag, value in more.pop("tags", {}).items()]
    return {
        "name": name,
        "slice_id": 31,
        "instantiation": "plc-instantiated",
        "expires": 1963000000,
        "keys": [{"key_type": "ssh", "key": KEY}],
        "attributes": tags,
        **more,
    }


def full(*slivers: Any, **more: Any) -> dict[str, Any]:
    """
    A whole payload of these entries.
    """
    return {
        "timestamp": 1162224834,
        "node_id": 7,
        "hostname": "n7.example.org",
        "initscripts": [{"name": "hello", "script": "#!/bin/sh\ndate >/tmp/up\n"}],
        "slivers": list(slivers),
        **more,
    }


def reading(value: Any, **asked: Any) -> dict[str, Any]:
    """
    What is read of a value, or of a text as it is.
    """
    return read_payload(
        {
            "text": value if isinstance(value, str) else json.dumps(value),
            "node_id": 7,
            "hostname": "n7.example.org",
            "kinds": ["container", "account", "process"],
            "kind": "process",
            "image": "",
            "known": {},
            **asked,
        }
    )


class FormsTests(SynchronousTestCase):
    """
    The three languages and two shapes that a payload comes in.
    """

    def test_json(self) -> None:
        """The record of an entry is all that was said and the defaults of the rest."""
        (found,) = reading(full(sliver(tags={"cpu_share": "64", "initscript": "hello"})))["entries"]
        found.pop("source")
        rspec = found.pop("rspec")
        self.assertEqual((rspec["cpu_share"], rspec["pids_max"]), (64, 512))
        self.assertEqual(
            found,
            {
                "name": "lab_web",
                "kind": "process",
                "instantiation": "plc-instantiated",
                "image": "",
                "expires": 1963000000.0,
                "keys": [KEY],
                "users": [],
                "initscript": "#!/bin/sh\ndate >/tmp/up\n",
                "warnings": [],
            },
        )

    def test_literal(self) -> None:
        """A Python literal says the same as JSON."""
        value = full(sliver(), leases=None)
        self.assertEqual(reading(repr(value)), reading(value))

    def test_xmlrpc(self) -> None:
        """The response to GetSlivers says the same as JSON."""
        value = full(sliver())
        self.assertEqual(reading(xmlrpc.client.dumps((value,), methodresponse=True)), reading(value))

    def test_encodingOfXmlNamed(self) -> None:
        """An encoding that the XML names does not garble text that is decoded already."""
        value = full(sliver(tags={"initscript_code": "echo caf\xe9"}))
        text = xmlrpc.client.dumps((value,), methodresponse=True, encoding="iso-8859-1")
        self.assertEqual(reading(text)["entries"][0]["initscript"], "echo caf\xe9")

    def test_listOfStructs(self) -> None:
        """Of the structs of all nodes, as the first authorities sent them, ours counts."""
        other = full(sliver("lab_other"), node_id=8, hostname="n8.example.org")
        self.assertEqual(reading([other, full(sliver())])["entries"][0]["name"], "lab_web")

    def test_listWithoutUs(self) -> None:
        """A list that says nothing about this host is refused, not taken for an empty payload."""
        self.assertRaises(BadPayload, reading, [full(sliver(), node_id=8)])

    def test_fault(self) -> None:
        """A fault of the authority's is told in its words."""
        text = xmlrpc.client.dumps(xmlrpc.client.Fault(103, "Failed to authenticate"), methodresponse=True)
        error = self.assertRaises(BadPayload, reading, text)
        self.assertIn("103: Failed to authenticate", error.message)


class FrameTests(SynchronousTestCase):
    """
    What makes a payload as a whole unusable.
    """

    def refused(self, value: Any, *words: str) -> None:
        """
        It is refused, in a message with these words.
        """
        error = self.assertRaises(BadPayload, reading, value)
        for word in words:
            self.assertIn(word, error.message)

    def test_wrongNode(self) -> None:
        """The payload of another node says so."""
        self.refused(full(sliver(), node_id=8), "node_id 8", "this host is 7")

    def test_wrongHostname(self) -> None:
        """The payload of another host says so."""
        self.refused(full(sliver(), hostname="n8.example.org"), "n8.example.org", "n7.example.org")

    def test_shortHostname(self) -> None:
        """A host that knows itself by the first label is the same host."""
        self.assertEqual(len(reading(full(sliver()), hostname="n7")["entries"]), 1)

    def test_noTimestamp(self) -> None:
        """Without a timestamp nobody knows whether it is stale."""
        self.refused({"slivers": []}, "timestamp")

    def test_timestampNoNumber(self) -> None:
        """No text, truth value, infinity or negative number is a time."""
        for wrong in (True, "10", -1, 0, None, float("inf"), float("nan"), 10**400):
            self.refused(json.dumps(full(sliver(), timestamp=wrong)), "timestamp")

    def test_noSlivers(self) -> None:
        """A payload without a list of slivers is not one of no slivers."""
        value = full()
        del value["slivers"]
        self.refused(value, "slivers")
        self.refused(full() | {"slivers": None}, "slivers")

    def test_notAStruct(self) -> None:
        """What is no payload at all is refused with what was wanted."""
        for wrong in ("", " ", "7", "null", "[]", "[7]", "{", "nonsense", "<html></html>", "<", "[" * 100_000):
            self.refused(wrong)

    def test_documentType(self) -> None:
        """A bomb of entities in XML is refused at once."""
        self.refused('<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><methodResponse>&b;</methodResponse>', "type")

    def test_tooMany(self) -> None:
        """There is an end to how many slivers one host is told of."""
        self.patch(payload, "ENTRIES_MAX", 2)
        self.refused(full(sliver("lab_a"), sliver("lab_b"), sliver("lab_c")), "at most 2")


class EntriesTests(SynchronousTestCase):
    """
    What is wrong with one entry, and never with its neighbours.
    """

    def reason(self, bad: Any, **more: Any) -> str:
        """
        Why an entry beside a good one is refused; the good one is read.
        """
        found = reading(full(sliver("lab_good"), bad, **more))
        self.assertEqual([one["name"] for one in found["entries"]], ["lab_good"])
        (reason,) = found["refused"].values()
        return str(reason)

    def test_instantiation(self) -> None:
        """An entry that lacks its instantiation, or has an unknown one, is named with the reason."""
        bad = sliver()
        del bad["instantiation"]
        self.assertIn("instantiation", self.reason(bad))
        self.assertIn("instantiation", self.reason(sliver(instantiation="whatever")))

    def test_name(self) -> None:
        """A name that is none of ours is refused under that name."""
        self.assertIn("SITE_SLICE", self.reason(sliver("../etc")))
        self.assertIn("SITE_SLICE", self.reason(sliver("x" * 10_000)))

    def test_unnamed(self) -> None:
        """An entry without a name is counted: any sliver may be meant."""
        nameless: list[Any] = [7, None, [], {}, sliver() | {"name": 7}, sliver("")]
        for bad in nameless:
            self.assertIn("name", self.reason(bad))
            self.assertEqual(reading(full(bad))["unnamed"], 1)

    def test_twice(self) -> None:
        """Of two entries of one name, or names that differ in case only, none is taken: which is meant is unknown."""
        found = reading(full(sliver("lab_a"), sliver("lab_a", expires=5), sliver("lab_b"), sliver("lab_B")))
        self.assertEqual((found["entries"], set(found["refused"])), ([], {"lab_a", "lab_b", "lab_B"}))

    def test_expiry(self) -> None:
        """An expiry that is no time does not become 'never'."""
        wrongs: list[Any] = ["soon", True, float("nan"), 10**400, [], 1e300]
        for wrong in wrongs:
            self.assertIn("expires", self.reason(sliver(expires=wrong)))

    def test_noExpiry(self) -> None:
        """No expiry is never."""
        self.assertIsNone(reading(full(sliver(expires=None)))["entries"][0]["expires"])

    def test_listsThatAreNone(self) -> None:
        """Keys, users, tags that are no lists, or endless ones, are refused."""
        for field in ("keys", "users", "attributes", "tags"):
            for wrong in (7, "x", True, ["x"] * 2000):
                self.assertIn(field, self.reason(sliver() | {field: wrong}))

    def test_scriptTooBig(self) -> None:
        """A script that is too big, or has a NUL, is refused by name."""
        for wrong in ("#!/bin/sh\n" + "x" * (entry.SCRIPT_MAX + 1), "#!/bin/sh\n\0", "#!\ud800"):
            self.assertIn("initscript", self.reason(sliver(tags={"initscript_code": wrong})))
            named = sliver(tags={"initscript": "big"})
            self.assertIn("initscript", self.reason(named, initscripts=[{"name": "big", "script": wrong}]))

    def test_kind(self) -> None:
        """A type that nobody knows, or that this host cannot run, is refused."""
        self.assertIn("kind", self.reason(sliver(tags={"type": "sliver.Xen"})))
        found = reading(full(sliver(tags={"type": "sliver.VServer", "image": "tiny"})), kinds=["process"])
        self.assertIn("no slivers of kind container", found["refused"]["lab_web"])

    def test_tooDeep(self) -> None:
        """An entry nested without end is refused like any other."""
        deep = "[" * 900 + "]" * 900
        text = json.dumps(full(sliver("lab_good"))).replace(
            '"slivers": [', '"slivers": [{"name":"lab_deep","keys":%s},'
        )
        self.assertIn("lab_deep", reading(text % deep)["refused"])

    def test_datesInXml(self) -> None:
        """A date or bytes, which XML-RPC has and we do not, spoil their own entry alone."""
        bad = [sliver("lab_a", expires=xmlrpc.client.DateTime(0)), sliver("lab_b", keys=[xmlrpc.client.Binary(b"x")])]
        text = xmlrpc.client.dumps((full(sliver(), *bad),), methodresponse=True)
        self.assertEqual(set(reading(text)["refused"]), {"lab_a", "lab_b"})


class EntryTests(SynchronousTestCase):
    """
    What an entry means.
    """

    def entry(self, value: dict[str, Any], **more: Any) -> dict[str, Any]:
        """
        The record of one entry.
        """
        found = reading(full(value), **more)
        self.assertEqual(found["refused"], {})
        (one,) = found["entries"]
        return dict(one)

    def test_precedence(self) -> None:
        """A tag of the node counts more than one of its group, that more than a global one, in whatever order."""
        node = {"tagname": "cpu_share", "value": "96", "node_id": 7}
        group = {"tagname": "cpu_share", "value": "64", "nodegroup_id": 3}
        everywhere = {"tagname": "cpu_share", "value": "33", "origin": "global"}
        for tags, share in (
            ([node, group, everywhere], 96),
            ([everywhere, group, node], 96),
            ([group, everywhere], 64),
            ([everywhere], 33),
        ):
            self.assertEqual(self.entry(sliver(attributes=tags))["rspec"]["cpu_share"], share)

    def test_lastOfEquals(self) -> None:
        """Of two tags of one origin the last counts, as at the ancestor."""
        tags = [{"name": "cpu_share", "value": 40}, {"name": "cpu_share", "value": 50}]
        self.assertEqual(self.entry(sliver(attributes=tags))["rspec"]["cpu_share"], 50)

    def test_nonsenseAmount(self) -> None:
        """An amount that is none is the default, and is said."""
        wrongs: list[Any] = ["x", "nan", float("inf"), -5, 10**30, None, [], "1e3"]
        for wrong in wrongs:
            found = self.entry(sliver(tags={"cpu_share": wrong}))
            self.assertEqual((found["rspec"]["cpu_share"], len(found["warnings"])), (32, 1), wrong)

    def test_badKeys(self) -> None:
        """A key that would bring further lines or options, or is too big, is left out and said; others stay."""
        for bad in (KEY + "\nssh-rsa AAAA eve", KEY + "\0", "A" * 10_000_000, 'command="x" ' + KEY, "", 7, None):
            found = self.entry(sliver(keys=[{"key_type": "ssh", "key": bad}, KEY]))
            self.assertEqual((found["keys"], len(found["warnings"])), ([KEY], 1))

    def test_newlineAtEndOfKey(self) -> None:
        """A key that was read from a file with its newline is good."""
        self.assertEqual(self.entry(sliver(keys=[KEY + "\n"]))["keys"], [KEY])

    def test_noKeys(self) -> None:
        """No keys are no keys: all are taken back."""
        self.assertEqual(self.entry(sliver(keys=[]))["keys"], [])

    def test_controller(self) -> None:
        """An nm-controller is an account, whatever else is said."""
        self.assertEqual(self.entry(sliver(instantiation="nm-controller"))["kind"], "account")

    def test_image(self) -> None:
        """A container has the image of its tag, or that of the configuration; without any it is refused."""
        container = {"type": "sliver.LXC"}
        self.assertEqual(self.entry(sliver(tags=container | {"vref": "deb12"}))["image"], "deb12")
        self.assertEqual(self.entry(sliver(tags=container), image="tiny")["image"], "tiny")
        self.assertIn("wants an image", reading(full(sliver(tags=container)))["refused"]["lab_web"])

    def test_saidInTheEntry(self) -> None:
        """Kind, image and the like may stand in the entry itself; a tag counts more, and a new text is seen."""
        own = sliver(kind="container", image="deb12", enabled=0, initscript="hello")
        found = self.entry(own)
        self.assertEqual((found["kind"], found["image"], found["rspec"]["enabled"]), ("container", "deb12", 0))
        self.assertTrue(found["initscript"])
        self.assertEqual(self.entry(own | {"tags": {"image": "tiny"}})["image"], "tiny")
        self.assertIn("kind", reading(full(sliver(kind="vm")))["refused"]["lab_web"])
        sources = {one["name"]: one["source"] for one in reading(full(own))["entries"]}
        for other in (own | {"image": "tiny"}, own | {"initscript": ""}):
            self.assertFalse(reading(full(other), known=sources)["kept"], other)
        fresh = full(own, initscripts=[{"name": "hello", "script": "#!/bin/sh\n"}])
        self.assertFalse(reading(fresh, known=sources)["kept"])

    def test_inlineScript(self) -> None:
        """A script in the entry counts more than a named one; the first authorities had it in the tag itself."""
        both = sliver(tags={"initscript": "hello", "initscript_code": "#!/bin/sh\ntrue"})
        self.assertEqual(self.entry(both)["initscript"], "#!/bin/sh\ntrue")
        self.assertEqual(self.entry(sliver(tags={"initscript": "#!/bin/sh\n:"}))["initscript"], "#!/bin/sh\n:")

    def test_noSuchScript(self) -> None:
        """A script that the payload does not have is said, and the sliver has none."""
        found = self.entry(sliver(tags={"initscript": "hallo"}))
        self.assertEqual((found["initscript"], len(found["warnings"])), (None, 1))

    def test_notInstantiated(self) -> None:
        """What shall not be here is no record."""
        found = reading(full(sliver(instantiation="not-instantiated")))
        self.assertEqual((found["entries"], found["skipped"]), ([], ["lab_web"]))


class KnownTests(SynchronousTestCase):
    """
    What did not change is told by its name alone.
    """

    def known(self, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        """
        The names of those that are as they were.
        """
        sources = {one["name"]: one["source"] for one in reading(before)["entries"]}
        return list(reading(after, known=sources)["kept"])

    def test_same(self) -> None:
        """A newer payload that says the same changes nothing."""
        value = full(sliver(tags={"initscript": "hello"}))
        self.assertEqual(self.known(value, value | {"timestamp": 1162224835}), ["lab_web"])

    def test_anything(self) -> None:
        """Whatever is said otherwise is seen: keys, tags, expiry, the text of the script."""
        before = full(sliver(tags={"initscript": "hello"}))
        for after in (
            full(sliver(tags={"initscript": "hello"}, keys=[])),
            full(sliver(tags={"initscript": "hello", "cpu_share": 5})),
            full(sliver(tags={"initscript": "hello"}, expires=None)),
            full(sliver(tags={"initscript": "hello"}, instantiation="delegated")),
            full(sliver(tags={"initscript": "hello"}), initscripts=[{"name": "hello", "script": "#!/bin/sh\n"}]),
        ):
            self.assertEqual(self.known(before, after), [])

    def test_anotherSlice(self) -> None:
        """The source tells a slice that has the name of an earlier one."""
        first, second = (reading(full(sliver(slice_id=one)))["entries"][0]["source"] for one in (31, 32))
        self.assertEqual((first.partition("/")[0], second.partition("/")[0]), ("31", "32"))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([KEY, "lab_web"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "tagname", "value", "key", "keys", "attributes", "slivers", "expires", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
_ENTRIES = st.fixed_dictionaries(
    {"name": st.sampled_from(["lab_a", "lab_b", "lab_A", "x"]) | _VALUES},
    optional={
        "instantiation": st.sampled_from(entry.INSTANTIATIONS) | _VALUES,
        "expires": _VALUES,
        "keys": _VALUES,
        "attributes": st.lists(
            st.fixed_dictionaries(
                {"tagname": st.sampled_from(["cpu_share", "initscript", "type", "image", "kind"]), "value": _VALUES}
            ),
            max_size=3,
        )
        | _VALUES,
        "users": _VALUES,
        "rspec": _VALUES,
        "slice_id": _VALUES,
    },
)


class MeasuredTests(SynchronousTestCase):
    """
    The payload that C{make bench} measures.
    """

    def test_isGood(self) -> None:
        """None of its entries is refused or warned of, and each is another one's neighbour in one tag or key only."""
        self.patch(measured, "SLIVERS", 30)
        first = reading(measured.payload(1))
        self.assertEqual((len(first["entries"]), first["refused"]), (30, {}))
        self.assertEqual([one["warnings"] for one in first["entries"]], [[]] * 30)
        known = {one["name"]: one["source"] for one in first["entries"]}
        self.assertEqual(len(reading(measured.payload(2), known=known)["kept"]), 30)
        self.assertEqual(len(reading(measured.payload(2, changed=7), known=known)["kept"]), 29)


class AnyTests(SynchronousTestCase):
    """
    Whatever comes, it is a reading or a refusal.
    """

    def read(self, value: Any) -> dict[str, Any] | None:
        """
        The reading, which must be a value of the wire; None if it was refused.
        """
        try:
            found = reading(json.dumps(value))
        except BadPayload as error:
            error.message.encode("utf-8")
            return None
        json.dumps(found, allow_nan=False)
        return found

    @given(_VALUES)
    def test_anyValue(self, value: Any) -> None:
        """No JSON value raises anything but BadPayload."""
        self.read(value)

    @given(st.lists(_ENTRIES | _VALUES, max_size=5))
    def test_anyEntries(self, entries: list[Any]) -> None:
        """Every entry is read, kept, skipped or refused; a good one beside any others is read."""
        found = self.read(full(sliver("lab_good"), *entries))
        assert found is not None
        self.assertIn("lab_good", [one["name"] for one in found["entries"]])
        for reason in found["refused"].values():
            self.assertLess(len(reason), 2000)

    @given(st.text() | st.text("<>[]{}'\"\\,:0e.-/x"))
    def test_anyText(self, text: str) -> None:
        """No text raises anything but BadPayload."""
        self.assertRaises(BadPayload, reading, text)

    @given(st.text("<>/aimvnstructmeberdoublstg0", max_size=60))
    @settings(max_examples=50)
    def test_anyXml(self, text: str) -> None:
        """Nothing inside XML raises anything but BadPayload."""
        for inner in (text, f"<value>{text}</value>", f"<params><param><value>{text}</value></param></params>"):
            self.assertRaises(BadPayload, reading, f"<methodResponse>{inner}</methodResponse>")

    def test_time(self) -> None:
        """The time it takes grows with the size only: 2 MB of each kind of nonsense are read in seconds."""
        for bad in (
            {"name": "lab_a" * 400_000},
            sliver(keys=[KEY] * 20_000),
            sliver(attributes=[{"tagname": "x" * 100, "value": "y"}] * 15_000),
            sliver(expires="9" * 2_000_000),
            sliver(tags={"cpu_share": "9" * 2_000_000}),
            sliver(users=["u" * 30] * 60_000),
        ):
            begun = time.process_time()
            self.read(full(bad))
            self.assertLess(time.process_time() - begun, 5)
