"""The package against a server: it is at `SKEP_SERVER`, and runs `agent.py` as `py`, whose home is `AGENT_HOME`."""

from __future__ import annotations

import asyncio
import inspect
import os
import unittest
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from proxy import Proxy

import skep
from skep import _async_client, _client

SERVER = os.environ.get("SKEP_SERVER", "")
HOME = Path(os.environ.get("AGENT_HOME", "/nonexistent"))


def counted(key: str) -> int:
    """How often the agent did what has this key."""
    return (HOME / "counted").read_text().splitlines().count(key)


def step(run: str, number: int) -> None:
    """Lets the agent give an event."""
    (HOME / f"{run}-{number}").touch()


def new() -> str:
    return uuid.uuid4().hex


class WithProxy(unittest.TestCase):
    """Clients that reach the server by a way that can be cut."""

    def setUp(self) -> None:
        parts = urlsplit(SERVER)
        self.proxy = Proxy(parts.hostname or "", parts.port or 0)
        self.addCleanup(self.proxy.close)
        self.client = skep.Client(self.proxy.url)
        self.addCleanup(self.client.close)


class Calls(WithProxy):
    def test_the_agent_knows_its_call(self) -> None:
        answer = self.client.call("py", "/count", json={"a": "ä"}, idempotency_key=(key := new()))
        said = answer.json()
        self.assertEqual((said["said"], said["key"], said["attempt"]), ({"a": "ä"}, key, 1))
        self.assertEqual(said["call"], answer.call_id)
        self.assertRegex(said["trace"], "^00-[0-9a-f]{32}-")
        self.assertFalse(answer.replayed)
        again = self.client.call("py", "/count", json={"a": "ä"}, idempotency_key=key)
        self.assertTrue(again.replayed)
        self.assertEqual((again.json(), counted(key)), (said, 1))

    def test_a_lost_answer_is_got_again_and_the_agent_does_it_once(self) -> None:
        key = new()
        self.client.health()
        self.proxy.cut_answer(b"POST /agents/py/count")
        answer = self.client.call("py", "/count", json=1, idempotency_key=key)
        self.assertEqual((answer.json()["key"], self.proxy.cuts), (key, 1))
        self.assertEqual(counted(key), 1)

    def test_a_key_is_made_and_stays_the_same(self) -> None:
        self.proxy.cut_answer(b"POST /agents/py/count")
        key = self.client.call("py", "/count", json=2).json()["key"]
        self.assertTrue(key.startswith("auto_"))
        self.assertEqual((counted(key), self.proxy.cuts), (1, 1))

    def test_what_is_no_call_is_not_sent_again(self) -> None:
        self.proxy.cut_answer(b"GET /agents/py/x")
        with self.assertRaises(skep.ConnectionFailed) as caught:
            self.client.call("py", "/x", method="GET")
        self.assertTrue(caught.exception.sent)
        self.assertEqual(self.proxy.cuts, 1)

    def test_later_and_wait(self) -> None:
        handle = self.client.call("py", f"/hold?for={(name := new())}", respond_async=True)
        self.assertFalse(handle.get().is_final)
        with self.assertRaises(skep.TimedOut) as caught:
            handle.wait(timeout=0.05)
        self.assertEqual(caught.exception.call_id, handle.call_id)
        (HOME / name).touch()
        self.assertEqual(handle.wait().text, "held")
        self.assertEqual(handle.get().state, "succeeded")

    def test_a_cancelled_call_has_no_answer(self) -> None:
        handle = self.client.call("py", f"/hold?for={new()}", respond_async=True)
        self.assertEqual(handle.cancel().state, "cancelled")
        with self.assertRaises(skep.Conflict) as caught:
            handle.wait()
        self.assertEqual(caught.exception.code, "call-cancelled")

    def test_a_replay_is_another_call_of_the_same_request(self) -> None:
        first = self.client.call("py", "/count", json={"n": 3})
        replay = self.client.calls.replay(first.call_id or "")
        self.assertEqual(replay.replay_of, first.call_id)
        said = self.client.calls.wait(replay.id).json()
        self.assertEqual((said["said"], said["call"]), ({"n": 3}, replay.id))
        with self.assertRaises(skep.Conflict):
            self.client.calls.redrive(replay.id)

    def test_an_answer_over_the_bound(self) -> None:
        self.assertEqual(len(self.client.call("py", "/large?bytes=1000", max_bytes=1000).content), 1000)
        with self.assertRaises(skep.TooLarge):
            self.client.call("py", "/large?bytes=1001", max_bytes=1000)

    def test_paths_stay_below_the_agent(self) -> None:
        for path in ("/../../api/v1/keys", "/%2e%2E/x", "/a/./b", "/x#y", "/a b", "/a\r\nb"):
            with self.subTest(path), self.assertRaises(ValueError):
                self.client.call("py", path)
        self.assertEqual(self.client.call("py", "/a%2Fb?q=..").json()["path"], "/a/b")


class Streams(WithProxy):
    def read(self, extra: str = "") -> list[tuple[str, str, str]]:
        run, seen = new(), []
        step(run, 1)
        with self.client.stream("py", f"/steps?n=5&run={run}{extra}") as events:
            for event in events:
                seen.append((event.id, event.event, event.data))
                if len(seen) in (2, 4):
                    self.proxy.cut_all()
                step(run, len(seen) + 1)
            call_id = events.call_id or ""
        self.assertEqual(self.proxy.cuts, 2)
        whole = [(event.id, event.event, event.data) for event in self.client.calls.attach(call_id)]
        self.assertEqual(seen, whole)
        behind = self.client.calls.attach(call_id, last_event_id=seen[2][0])
        self.assertEqual([event.id for event in behind], [event[0] for event in seen[3:]])
        return seen

    def test_a_cut_stream_goes_on_with_each_event_once(self) -> None:
        seen = self.read()
        self.assertEqual(seen, [(f"1.{n}", "message", f'{{"step":{n}}}') for n in range(1, 6)])

    def test_so_does_one_with_ids_of_its_own(self) -> None:
        seen = self.read("&own=1")
        self.assertEqual([event[0] for event in seen], ["1.1", "mine", "1.2", "1.3", "1.4"])
        self.assertEqual(seen[1][1], "own")

    def test_what_is_no_stream_is_told(self) -> None:
        with self.assertRaises(skep.AgentError) as caught:
            next(self.client.stream("py", "/refuse"))
        self.assertEqual(caught.exception.answer.status, 404)

    def test_the_servers_events_go_on_too(self) -> None:
        with self.client.events.stream(agent="py", since="1h") as events:
            first = next(events)
            self.proxy.cut_all()
            second = next(events)
        self.assertGreater(int(second.id), int(first.id))
        self.assertEqual(
            [it.id for it in self.client.events.list(agent="py", since="1h", page_size=1)][:2], [first.id, second.id]
        )


class Management(WithProxy):
    def test_refusals_have_types(self) -> None:
        with self.assertRaises(skep.NotFound) as caught:
            self.client.call("pz", json={})
        error = caught.exception
        self.assertEqual(
            (error.code, error.status, error.type), ("agent-not-found", 404, "/docs/errors/agent-not-found")
        )
        self.assertTrue(error.request_id.startswith("req_"))
        for part in (error.detail, error.hint, error.code):
            self.assertIn(part, str(error))
        with skep.Client(SERVER, "skep_wrong") as stranger, self.assertRaises(skep.Unauthorized):
            stranger.agents.get("py")
        with self.assertRaises(skep.BadRequest):
            self.client.agents.deploy({"name": "py2", "nonsense": 1})

    def test_what_the_agent_says_is_its_answer(self) -> None:
        failed = self.client.call("py", "/fail")
        self.assertEqual((failed.status, failed.json()["status"]), (500, 500))
        self.assertNotIn("canary", failed.text)
        refused = self.client.call("py", "/refuse")
        self.assertEqual(refused.json()["detail"], "there is no such thing")
        with self.assertRaises(skep.AgentError):
            refused.raise_for_status()

    def test_lists_are_read_page_by_page(self) -> None:
        made = {self.client.call("py", "/count", json=n).call_id for n in range(5)}
        by_page = [call.id for call in self.client.calls.list(agent="py", page_size=2)]
        at_once = [call.id for call in self.client.calls.list(agent="py")]
        self.assertEqual(len(by_page), len(set(by_page)))
        self.assertLessEqual(made, set(by_page))
        self.assertEqual(by_page, at_once)

    def test_agents_and_health(self) -> None:
        agent = self.client.agents.get("py")
        self.assertEqual((agent.state, agent.raw["id"]), ("ready", agent.id))
        self.assertIn("py", [it.name for it in self.client.agents.list(page_size=1)])
        self.assertEqual(self.client.health().status, "ok")
        self.assertTrue(self.client.health(detailed=True).version)

    def test_secrets_and_the_log(self) -> None:
        found = {secret.name: secret for secret in self.client.secrets.list()}
        self.assertNotIn("canary-of-a-secret", repr([secret.raw for secret in found.values()]))
        shown = self.client.secrets.reveal("py/one", reason="a test")
        self.assertEqual(shown.value, "canary-of-a-secret")
        self.assertNotIn("canary", repr(shown))
        entries = list(self.client.audit.list(action="secret:reveal", page_size=1))
        self.assertTrue(entries)
        self.assertEqual(self.client.audit.get(entries[0].number).entry, entries[0].entry)

    def test_a_server_that_was_never_there_fails_at_once(self) -> None:
        self.proxy.close()
        with skep.Client(self.proxy.url, patience=3600) as client, self.assertRaises(skep.ConnectionFailed) as caught:
            client.call("py", "/count", json={})
        self.assertFalse(caught.exception.sent)
        self.assertTrue((caught.exception.idempotency_key or "").startswith("auto_"))


class Asynchronous(WithProxy):
    def test_it_does_the_same(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        key, run = new(), new()
        async with skep.AsyncClient(self.proxy.url) as client:
            self.proxy.cut_answer(b"POST /agents/py/count")
            answer = await client.call("py", "/count", json=1, idempotency_key=key)
            self.assertEqual((answer.json()["key"], counted(key), self.proxy.cuts), (key, 1, 1))
            seen = []
            step(run, 1)
            async with client.stream("py", f"/steps?n=3&run={run}") as events:
                async for event in events:
                    seen.append(event.json()["step"])
                    self.proxy.cut_all()
                    step(run, len(seen) + 1)
            self.assertEqual(seen, [1, 2, 3])
            handle = await client.call("py", "/count", json=2, respond_async=True)
            self.assertEqual((await handle.wait()).json()["said"], 2)
            calls = [call.id async for call in client.calls.list(agent="py", page_size=2)]
            self.assertIn(handle.call_id, calls)
            with self.assertRaises(skep.NotFound):
                await client.agents.get("nobody")
            waiting = asyncio.ensure_future(client.call("py", f"/hold?for={new()}"))
            await asyncio.sleep(0)
            waiting.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await waiting
            self.assertEqual((await client.health()).status, "ok")

    def test_it_has_the_same_surface(self) -> None:
        for name in ("Client", "Handle", "Stream", "Agents", "Calls", "Events", "Secrets", "Audit"):
            blocking = getattr(_client, name)
            twin = getattr(_async_client, f"Async{name}")
            methods = {it for it in vars(blocking) if not it.startswith("_")}
            self.assertEqual(methods, {it for it in vars(twin) if not it.startswith("_")}, name)
            for method in methods:
                one, other = getattr(blocking, method), getattr(twin, method)
                if inspect.isfunction(one):
                    known = [(it.name, it.kind, it.default) for it in inspect.signature(one).parameters.values()]
                    there = [(it.name, it.kind, it.default) for it in inspect.signature(other).parameters.values()]
                    self.assertEqual(known, there, method)


if __name__ == "__main__":
    unittest.main()
