"""The pure parts: reading events, continuing a stream, waits, settings."""

from __future__ import annotations

import os
import random
import unittest
from unittest import mock

import skep
from skep._patience import Waits, judge
from skep._requests import settings
from skep._sse import Differs, Event, Parser, Restart, Splice

KINDS = ["data: a\n\n", "data: b\n\n", "id: own\ndata: c\n\n", "event: x\ndata: d\n\n"]


def attempt(number: int, content: list[str], chance: random.Random) -> bytes:
    """The stream of an attempt, with the ids that Skep gives."""
    text, index = "", 0
    for event in content:
        if chance.random() < 0.25:
            text += ": ping\n\n"
        if "id:" not in event:
            index += 1
            text += f"id: {number}.{index}\n"
        text += event
    return text.encode()


def behind(stream: bytes, seen: str | None) -> bytes:
    """What the server gives of it behind an event."""
    at = stream.find(f"id: {seen}\n".encode())
    return stream if at < 0 else stream[stream.index(b"\n\n", at) + 2 :]


class Events(unittest.TestCase):
    def test_how_it_is_cut_does_not_matter(self) -> None:
        stream = b"\xef\xbb\xbfdata: a\r\ndata: \xc3\xa4\r\n\r\n: ping\n\nid: 1\revent:x\rdata\r\rdata: cut"
        expected = [Event("a\nä"), Event("", "x", "1")]
        for size in range(1, len(stream) + 1):
            parser, seen = Parser(), []
            for at in range(0, len(stream), size):
                seen += parser.push(stream[at : at + size])
            self.assertEqual(seen, expected, size)

    def test_an_event_has_a_bound(self) -> None:
        for stream in (b"data: " + b"x" * 100, b"data: xxxxxxxxxx\n" * 10, b":" + b"x" * 100):
            with self.subTest(stream[:20]), self.assertRaises(skep.TooLarge):
                Parser(50).push(stream)
        self.assertEqual(len(Parser(50).push(b"data: " + b"x" * 40 + b"\n\n")), 1)

    def test_wherever_it_is_lost_each_event_comes_once(self) -> None:
        for seed in range(2000):
            chance = random.Random(seed)
            content = [chance.choice(KINDS) for _ in range(chance.randrange(8))]
            splice, number, seen = Splice(), 1, []
            stream = rest = attempt(number, content, chance)
            while True:
                lost = chance.random() < 0.6
                try:
                    seen += splice.push(rest[: chance.randint(0, len(rest))] if lost else rest)
                    if not lost:
                        splice.finish()
                        break
                except Restart:
                    pass
                if chance.random() < 0.5:
                    number += 1
                    stream = attempt(number, content, chance)
                rest = behind(stream, splice.resume())
            wanted = [(it.event, it.data) for it in Parser().push("".join(content).encode())]
            self.assertEqual([(it.event, it.data) for it in seen], wanted, seed)

    def test_another_answer_is_not_continued(self) -> None:
        splice = Splice()
        splice.push(b"id: 1.1\ndata: a\n\nid: 1.2\ndata: b\n\n")
        self.assertEqual(splice.resume(), "1.2")
        with self.assertRaises(Restart):
            splice.push(b"id: 2.1\ndata: a\n\n")
        self.assertIsNone(splice.resume())
        self.assertEqual(splice.push(b"id: 2.1\ndata: a\n\n"), [])
        with self.assertRaises(Differs):
            splice.push(b"id: 2.2\ndata: z\n\n")
        short = Splice()
        short.push(b"data: a\n\ndata: b\n\n")
        self.assertIsNone(short.resume())
        short.push(b"data: a\n\n")
        with self.assertRaises(Differs):
            short.finish()


class Patience(unittest.TestCase):
    def problem(self, status: int, code: str, after: float | None) -> skep.ApiError:
        return skep.ApiError({"status": status, "code": code}, retry_after=after)

    def test_what_is_tried_again(self) -> None:
        refused, lost = (skep.ConnectionFailed("", sent=sent) for sent in (False, True))
        self.assertIsNone(judge(refused, reached=False, safe=True))
        self.assertEqual(judge(refused, reached=True, safe=False), 0)
        self.assertEqual(judge(lost, reached=True, safe=True), 0)
        self.assertIsNone(judge(lost, reached=True, safe=False))
        for status, code, after, wait in [
            (429, "queue-full", 1, 1),
            (429, "queue-full", None, None),
            (503, "shutting-down", 2, 2),
            (503, "store-unavailable", None, 0),
            (503, "agent-not-ready", 1, 1),
            (503, "agent-stopped", 10, None),
            (503, "agent-crash-loop", 10, None),
            (503, "vault-sealed", None, None),
            (502, "call-dead", None, None),
        ]:
            with self.subTest(code=code, after=after):
                self.assertEqual(judge(self.problem(status, code, after), reached=True, safe=True), wait)

    def test_waits_grow_up_to_a_bound_and_end(self) -> None:
        waits, seen = Waits(10), []
        while (wait := waits.next(0, chance=1)) is not None:
            seen.append(round(wait, 3))
        self.assertEqual(seen, [0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2, 0.9])
        waits.progress()
        self.assertEqual(waits.next(0, chance=0), 0.05)
        self.assertEqual(waits.next(5), 5)
        self.assertIsNone(waits.next(5))
        self.assertIsNone(waits.next(0, took=9))


class Settings(unittest.TestCase):
    def read(self, **variables: str) -> tuple[str, str | None, str | None]:
        with mock.patch.dict(os.environ, variables, clear=True):
            it = settings(None, None, None)
        return it.url, it.api_key, it.workspace

    def test_where_the_server_is(self) -> None:
        self.assertEqual(self.read(), ("http://127.0.0.1:7537", None, None))
        agent = {"SKEP_URL": "http://a", "SKEP_TOKEN": "t"}
        self.assertEqual(self.read(**agent), ("http://a", "t", None))
        # An agent's token is for nobody else.
        self.assertEqual(self.read(**agent, SKEP_SERVER="https://b/"), ("https://b", None, None))
        self.assertEqual(
            self.read(SKEP_SERVER="http://b", SKEP_API_KEY="k", SKEP_WORKSPACE="w"), ("http://b", "k", "w")
        )

    def test_what_cannot_be_used(self) -> None:
        for bad in ("127.0.0.1:7537", "ftp://x", "http://", "http://x/?q", "http://u:p@x"):
            with self.subTest(bad), self.assertRaises(ValueError):
                skep.Client(bad)
        with self.assertRaises(ValueError):
            skep.Client("http://x", "k\nx")
        with skep.Client("http://x", "skep_canary") as client:
            self.assertNotIn("canary", repr(client) + repr(client._settings))


if __name__ == "__main__":
    unittest.main()
