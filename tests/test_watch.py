"""
Event lines: who hears what, and how who was away or slow catches up.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from hostline.server.config import Config, History
from hostline.server.watch import TOPICS
from tests.daemons import Client, make, topdl

CREATE = f"create_experiment lab/exp1 {topdl({'web': 'exit 7'})}"


def events(client: Client) -> list[Any]:
    return [reply.body for reply in client.replies() if reply.word == "event"]


def whats(client: Client) -> list[str]:
    return [body["what"] for body in events(client)]


class HearingTests(SynchronousTestCase):
    """
    A member watches what happens in the project.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.ann = self.daemon.lab()
        self.watcher = self.daemon.connect(5001)

    def test_hearsALife(self) -> None:
        """
        From creation to its end, every state of an experiment and its nodes is told, in order.
        """
        self.watcher.body("watch all")
        self.ann.body(CREATE)
        self.ann.body("swap_in lab/exp1")
        self.ann.body("terminate lab/exp1")
        heard = events(self.watcher)
        mine = [body["what"] for body in heard if body["topic"].startswith("experiment/")]
        self.assertEqual(
            mine,
            [
                "created",
                "activating",
                "running",
                "booted",
                "active",
                "start_command_ended",
                "terminating",
                "terminated",
            ],
        )
        cursors = [body["cursor"] for body in heard]
        self.assertEqual(cursors, sorted(set(cursors)))
        self.assertTrue(all(body["topic"] != "audit" for body in heard))

    def test_bringsTheRequest(self) -> None:
        """
        An event names the request that made it; what happened by itself names none.
        """
        self.watcher.body("watch all")
        self.ann.body(CREATE + " swap_in=True")
        heard = {body["what"]: body["request"] for body in events(self.watcher)}
        self.assertTrue(heard["created"])
        self.assertEqual(heard["created"], heard["activating"])
        self.assertIsNone(heard["booted"])

    def test_bringsTheTag(self) -> None:
        """
        Events come under the tag of the request that turned them on.
        """
        self.ann.body(CREATE)
        self.watcher.send("@7 watch experiment/lab/exp1\n")
        self.ann.body("swap_in lab/exp1")
        self.assertEqual(set(self.watcher.lines()), {"@7 watch_reply", "@7 event"})

    def test_hearsOneSliver(self) -> None:
        """
        A sliver's topic brings what happens to that node alone.
        """
        self.ann.body(f"create_experiment lab/exp1 {topdl({'web': 'exit 7', 'db': None})}")
        self.watcher.body("watch sliver/web.exp1.lab")
        self.ann.body("swap_in lab/exp1")
        heard = events(self.watcher)
        self.assertEqual({body["sliver"] for body in heard}, {"web.exp1.lab"})
        self.assertEqual([body["what"] for body in heard], ["running", "booted", "start_command_ended"])
        self.assertEqual(heard[-1]["code"], 7)

    def test_hearsItOnceUnderTwoTopics(self) -> None:
        """
        An event that two watched topics have in common is told once.
        """
        self.watcher.body("watch all host")
        self.watcher.body("watch all")
        self.ann.body(CREATE)
        self.assertEqual(whats(self.watcher), ["created"])

    def test_isJsonWhenAsked(self) -> None:
        """
        After format=json the event lines are JSON too.
        """
        self.watcher.body("hello format=json")
        self.watcher.body("watch all")
        self.ann.body(CREATE)
        self.assertEqual(whats(self.watcher), ["created"])

    def test_isSilentAfterUnwatch(self) -> None:
        """
        Turning a topic off, or all of them, ends its lines; what came meanwhile does not come later.
        """
        self.ann.body(CREATE)
        self.watcher.body("watch all experiment/lab/exp1")
        self.assertEqual(self.watcher.body("unwatch all")["topics"], ["experiment/lab/exp1"])
        self.assertEqual(self.watcher.body("unwatch")["topics"], [])
        self.ann.body("swap_in lab/exp1")
        self.assertEqual(self.watcher.lines(), [])
        self.watcher.body("watch all")
        self.assertEqual(self.watcher.lines(), [])
        self.ann.body("terminate lab/exp1")
        self.assertEqual(whats(self.watcher)[0], "terminating")

    def test_limitsTopics(self) -> None:
        """
        A connection watches so many topics and no more.
        """
        for number in range(TOPICS + 1):
            self.ann.body(f"create_experiment lab/e{number} {topdl({'web': None})}")
        names = " ".join(f"experiment/lab/e{number}" for number in range(TOPICS))
        self.watcher.body(f"watch {names}")
        self.assertEqual(self.watcher.code(f"watch experiment/lab/e{TOPICS}"), "TOO_MANY")
        self.assertEqual(self.watcher.body(f"watch {names}")["cursor"], self.daemon.host.feed.newest)

    def test_neverTellsWhatWasNotMade(self) -> None:
        """
        A change that could not be written is heard of by nobody.
        """
        self.watcher.body("watch all")
        self.daemon.store.full = True
        self.assertEqual(self.ann.code(CREATE), "STORE_FAILED")
        self.daemon.store.full = False
        self.assertEqual(self.watcher.lines(), [])
        self.ann.body(CREATE)
        self.assertEqual(whats(self.watcher), ["created"])


class CatchingUpTests(SynchronousTestCase):
    """
    Who was away.
    """

    def setUp(self) -> None:
        self.daemon = make(config=Config(history=History(events=100)))
        self.ann = self.daemon.lab()

    def make_events(self, count: int) -> None:
        """
        About so many events.
        """
        self.ann.body(CREATE)
        for _ in range(count // 6):
            self.ann.body("swap_in lab/exp1")
            self.ann.body("swap_out lab/exp1")

    def test_missesNothing(self) -> None:
        """
        Watching again since the last cursor brings all that came between, the new daemon's included.
        """
        first = self.daemon.connect(5001)
        first.body("watch all")
        self.ann.body(CREATE)
        cursor = events(first)[-1]["cursor"]
        first.hang_up()
        self.ann.body("swap_in lab/exp1")
        self.daemon.crash()
        ann = self.daemon.connect(5001)
        ann.body("terminate lab/exp1")
        second = self.daemon.connect(5001)
        second.send(f"watch all since={cursor}\n")
        heard = whats(second)
        self.assertEqual([heard[0], heard[-1]], ["activating", "done"])
        self.assertIn("booted", heard)
        self.assertNotIn("created", heard)
        self.assertNotIn("missed", heard)
        self.assertEqual([one["what"] for one in ann.body(f"events since={cursor}")], heard)

    def test_isToldWhatIsNotKept(self) -> None:
        """
        Who asks for more than is kept is told so, by watch and by events, and gets the rest.
        """
        self.make_events(400)
        watcher = self.daemon.connect(5001)
        watcher.send("watch all since=1\n")
        (first, *rest) = watcher.replies()
        self.assertTrue(first.body["missed"])
        self.assertGreaterEqual(len(rest), 50)
        listed = watcher.body("events since=1 limit=10000")
        self.assertEqual(listed[0]["what"], "missed")
        self.assertEqual(listed[1:], [reply.body for reply in rest])
        page = watcher.body(f"events since={listed[3]['cursor']} limit=2")
        self.assertEqual(page, listed[4:6])
        self.assertNotIn("missed", [one["what"] for one in watcher.body("events")])

    def test_catchesUpWhenItWasSlow(self) -> None:
        """
        A client that stops reading is sent no more than its limit, and everything once it reads again.
        """
        watcher = self.daemon.connect(5001)
        watcher.transport.set_write_buffer_limits(high=1000)
        watcher.body("watch all")
        watcher.transport.client_reads = False
        self.make_events(30)
        self.assertLess(len(watcher.transport.unread), 2000)
        watcher.transport.client_reads = True
        watcher.transport.read()
        self.daemon.settle()
        heard = [body["cursor"] for body in events(watcher)]
        self.assertEqual(heard, [body["cursor"] for body in self.ann.body("events limit=10000")])
        self.assertGreater(len(heard), 10)

    def test_isToldWhatItMissedByBeingSlow(self) -> None:
        """
        If what a slow client has not read is no longer kept, a C{missed} event stands for it.
        """
        watcher = self.daemon.connect(5001)
        watcher.transport.set_write_buffer_limits(high=1000)
        watcher.body("watch all")
        watcher.transport.client_reads = False
        self.make_events(600)
        watcher.transport.client_reads = True
        watcher.transport.read()
        self.daemon.settle()
        heard = events(watcher)
        self.assertEqual([body["what"] for body in heard].count("missed"), 1)
        self.assertEqual(heard[-1]["cursor"], self.ann.body("events limit=10000")[-1]["cursor"])
        cursors = [body["cursor"] for body in heard]
        self.assertEqual(cursors, sorted(cursors))


class HidingTests(SynchronousTestCase):
    """
    Who may not hear.
    """

    def setUp(self) -> None:
        self.daemon = make()
        self.ann = self.daemon.lab()
        self.operator = self.daemon.connect()
        self.bob = self.daemon.connect(5002)

    def delegate(self, commands: str) -> Client:
        self.ann.body(CREATE)
        self.operator.body(f"add_delegate mon uid=5003 commands={commands} slivers=lab/exp1")
        return self.daemon.connect(5003)

    def test_hearsNothingOfOthers(self) -> None:
        """
        A user of another project hears nothing, neither by watch nor by events; an operator hears all.
        """
        unknown = self.daemon.connect(5009)
        for client in (self.bob, unknown, self.operator):
            client.body("watch all")
        self.ann.body(CREATE + " swap_in=True")
        self.ann.body("terminate lab/exp1")
        for client in (self.bob, unknown):
            self.assertEqual(client.lines(), [])
            self.assertEqual(client.body("events"), [])
        self.assertIn("terminated", whats(self.operator))

    def test_cannotTellWhetherATopicExists(self) -> None:
        """
        A topic one may not see and one that does not exist are refused in the same words.
        """
        self.ann.body(CREATE + " swap_in=True wait=0")
        number = self.operator.body("operations")[0]["operation"]
        for topic in ("experiment/lab/exp1", "sliver/web.exp1.lab", f"operation/{number}", "audit"):
            for command in (f"watch {topic}", f"events topic={topic}"):
                reply = self.bob.ask(command)
                self.assertEqual((reply.body["code"], reply.body["message"]), ("NO_SUCH_TOPIC", f"no topic {topic}"))
        self.assertEqual(self.bob.code("watch experiment/lab/none"), "NO_SUCH_TOPIC")
        self.assertEqual(self.bob.code("watch operation/999"), "NO_SUCH_TOPIC")

    def test_hearsAsADelegate(self) -> None:
        """
        A delegate hears of its experiments if events or watch was granted, and of nothing else.
        """
        for commands in ("events", "watch"):
            delegate = self.delegate(commands)
            delegate.body("watch experiment/lab/exp1")
            self.ann.body("swap_in lab/exp1")
            self.ann.body(f"create_experiment lab/exp2 {topdl({'web': None})}")
            self.assertEqual({body["experiment"] for body in events(delegate) if "experiment" in body}, {"lab/exp1"})
            self.ann.body("terminate lab/exp1")
            self.ann.body("terminate lab/exp2")
            self.operator.body("remove_delegate mon")

    def test_hearsNothingWithoutTheGrant(self) -> None:
        """
        A delegate that may only ask for the status hears no events.
        """
        delegate = self.delegate("status_request")
        self.assertEqual(delegate.code("watch experiment/lab/exp1"), "NO_SUCH_TOPIC")
        delegate.body("watch all")
        self.ann.body("swap_in lab/exp1")
        self.assertEqual(delegate.lines(), [])

    def test_hearsNoMoreOnceRemoved(self) -> None:
        """
        A membership that ends ends what is heard, on a connection that watches already too.
        """
        watcher = self.daemon.connect(5001)
        watcher.body("watch all")
        self.operator.body("remove_member lab ann")
        self.operator.body(CREATE)
        self.assertEqual(watcher.lines(), [])

    def test_inheritsNoEvents(self) -> None:
        """
        A project made again under the name of an older one does not show what happened in that.
        """
        self.ann.body(CREATE)
        self.ann.body("terminate lab/exp1")
        self.operator.body("remove_project lab")
        self.operator.body("add_project lab")
        self.operator.body("add_member lab bob")
        self.assertEqual(self.bob.body("events"), [])

    def test_showsTheAuditLogToOperators(self) -> None:
        """
        Every change and every refused one is in the audit log: who, how, what, outcome and request.
        """
        self.operator.body("watch audit")
        self.ann.body(CREATE)
        self.ann.code("add_user eve")
        self.bob.code("terminate lab/exp1")
        heard = events(self.operator)
        self.assertEqual(
            [(one["what"], one["outcome"], one["uid"], one["via"]) for one in heard],
            [
                ("create_experiment", "ok", 5001, "socket"),
                ("add_user", "DENIED", 5001, "socket"),
                ("terminate", "NO_SUCH_EXPERIMENT", 5002, "socket"),
            ],
        )
        self.assertTrue(all(one["request"] and one["principal"].startswith("user:") for one in heard))
        self.assertEqual(self.operator.body("events topic=audit")[-3:], heard)
