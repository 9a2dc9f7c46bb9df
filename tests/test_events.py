"""
The kept events.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hostline.server.events import Event, Feed


def event(cursor: int, topic: str = "host", **more: str) -> Event:
    return Event(cursor, {"cursor": cursor, "topic": topic, **more})


class FeedTests(SynchronousTestCase):
    """
    Who comes back misses nothing that is kept.
    """

    @given(st.integers(1, 20), st.lists(st.integers(1, 5), max_size=60))
    def test_keepsTheNewest(self, kept: int, batches: list[int]) -> None:
        """
        At least so many events as are to be kept are there, no more than a quarter above, and it is known from where.
        """
        feed = Feed(kept)
        all_: list[Event] = []
        for size in batches:
            some = [event(len(all_) + at + 1) for at in range(size)]
            all_ += some
            feed.append(some)
        after = feed.after(0)
        self.assertEqual(after, all_[len(all_) - len(after) :])
        self.assertGreaterEqual(len(after), min(kept, len(all_)))
        self.assertLessEqual(len(after), kept * 5 // 4)
        self.assertEqual(feed.forgotten, len(all_) - len(after))
        self.assertEqual(feed.newest, len(all_))
        for cursor in range(feed.forgotten, feed.newest + 1):
            self.assertEqual([one.cursor for one in feed.after(cursor)], list(range(cursor + 1, feed.newest + 1)))

    def test_tellsWhoListens(self) -> None:
        """
        A listener hears once for each batch, until it stops.
        """
        feed, heard = Feed(10), list[int]()
        stop = feed.listen(lambda: heard.append(feed.newest))
        feed.append([event(1), event(2)])
        feed.append([event(4)])
        stop()
        feed.append([event(5)])
        self.assertEqual(heard, [2, 4])

    def test_listensOnWhenOneStopsAnother(self) -> None:
        """
        A listener may stop itself, or another, while being told.
        """
        feed, heard = Feed(10), list[str]()

        def once() -> None:
            heard.append("a")
            stop()

        stop = feed.listen(once)
        feed.listen(lambda: heard.append("b"))
        feed.append([event(1)])
        feed.append([event(2)])
        self.assertEqual(sorted(heard), ["a", "b", "b"])


class TopicTests(SynchronousTestCase):
    """
    What belongs to which topic.
    """

    def test_isAbout(self) -> None:
        """
        An event is heard under its own topic, its sliver's and C{all}; the audit log under its own alone.
        """
        one = event(1, "experiment/lab/exp1", sliver="web.exp1.lab")
        for topic in ("experiment/lab/exp1", "sliver/web.exp1.lab", "all"):
            self.assertTrue(one.about(topic), topic)
        for topic in ("experiment/lab/exp10", "sliver/db.exp1.lab", "host", "audit", "sliver/None"):
            self.assertFalse(one.about(topic), topic)
        self.assertTrue(event(1, "audit").about("audit"))
        self.assertFalse(event(1, "audit").about("all"))
        self.assertFalse(event(1, "host").about("sliver/None"))

    def test_comesBack(self) -> None:
        """
        An event is the same after a restart.
        """
        for scope in (None, (1, 2)):
            one = Event(7, {"cursor": 7, "topic": "host", "x": [1, None]}, scope)
            self.assertEqual(Event.from_json(7, one.as_json()), one)

    def test_isRefusedWhenDamaged(self) -> None:
        """
        What is no event is not told to anybody.
        """
        wrong = ["", "{}", "[]", '{"body": {}, "scope": null}', '{"body": {"topic": 1}, "scope": null}']
        wrong += ['{"body": {"topic": "host"}, "scope": [1]}', '{"body": {"topic": "host"}, "scope": "ab"}']
        for text in wrong:
            self.assertRaises(ValueError, Event.from_json, 1, text)
