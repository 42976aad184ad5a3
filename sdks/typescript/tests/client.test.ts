// Calls, streams and the management API of a server.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import {
  AgentError, ApiError, BadRequest, Client, Conflict, ConnectionFailed, NotFound, TimedOut, TooLarge, Unauthorized, Unresumable,
} from "../src/index.js";
import { SERVER, counted, fresh, open, straight, way, withProxy } from "./house.js";

interface Counted {
  call: string;
  attempt: number;
  key: string;
  trace: string;
  said: unknown;
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe("calls", () => {
  withProxy();

  test("the agent knows its call", async () => {
    const key = fresh();
    const answer = await way.client.call("ts", "/count", { json: { a: "ä" }, idempotencyKey: key });
    const said = answer.json<Counted>();
    assert.deepEqual([said.said, said.key, said.attempt, said.call], [{ a: "ä" }, key, 1, answer.callId]);
    assert.match(said.trace, /^00-[0-9a-f]{32}-/);
    assert.equal(answer.replayed, false);
    const again = await way.client.call("ts", "/count", { json: { a: "ä" }, idempotencyKey: key });
    assert.equal(again.replayed, true);
    assert.deepEqual([again.json(), await counted(key)], [said, 1]);
  });

  test("a lost answer is got again, and the agent does it once", async () => {
    const key = fresh();
    await way.client.health();
    way.proxy.cutAnswer("POST /agents/ts/count");
    const answer = await way.client.call("ts", "/count", { json: 1, idempotencyKey: key });
    assert.deepEqual([answer.json<Counted>().key, way.proxy.cuts, await counted(key)], [key, 1, 1]);
  });

  test("a key is made and stays the same", async () => {
    way.proxy.cutAnswer("POST /agents/ts/count");
    const { key } = (await way.client.call("ts", "/count", { json: 2 })).json<Counted>();
    assert.match(key, /^auto_[0-9a-f]{32}$/);
    assert.deepEqual([await counted(key), way.proxy.cuts], [1, 1]);
  });

  test("what is no call is not sent again", async () => {
    way.proxy.cutAnswer("GET /agents/ts/x");
    await assert.rejects(way.client.call("ts", "/x", { method: "GET" }), (error) => error instanceof ConnectionFailed && error.sent);
    assert.equal(way.proxy.cuts, 1);
  });

  test("later, and waited for", async () => {
    const gate = fresh();
    const handle = await way.client.submit("ts", `/hold?gate=${gate}`);
    assert.notEqual((await handle.get()).state, "succeeded");
    await assert.rejects(handle.wait({ timeout: 50 }), (error) => error instanceof TimedOut && error.callId === handle.callId);
    await open(gate);
    assert.equal((await handle.wait()).text, "held");
    assert.equal((await handle.get()).state, "succeeded");
  });

  test("a signal ends the waiting, and not the call", async () => {
    const gate = fresh();
    const abort = new AbortController();
    const handle = await way.client.submit("ts", `/hold?gate=${gate}`);
    const waiting = handle.wait({ signal: abort.signal });
    abort.abort(new Error("enough"));
    await assert.rejects(waiting, { message: "enough" });
    await open(gate);
    assert.equal((await handle.wait()).text, "held");
    await assert.rejects(way.client.call("ts", "/x", { signal: abort.signal }), { message: "enough" });
  });

  test("a cancelled call has no answer", async () => {
    const handle = await way.client.submit("ts", `/hold?gate=${fresh()}`);
    assert.equal((await handle.cancel()).state, "cancelled");
    await assert.rejects(handle.wait(), (error) => error instanceof Conflict && error.code === "call-cancelled");
  });

  test("a replay is another call of the same request", async () => {
    const first = await way.client.call("ts", "/count", { json: { n: 3 } });
    const replay = await way.client.calls.replay(first.callId ?? "");
    assert.equal(replay.replay_of, first.callId);
    const { said, call } = (await way.client.calls.wait(replay.id)).json<Counted>();
    assert.deepEqual([said, call], [{ n: 3 }, replay.id]);
    await assert.rejects(way.client.calls.redrive(replay.id), Conflict);
  });

  test("an answer over the bound", async () => {
    assert.equal((await way.client.call("ts", "/large?bytes=1000", { maxBytes: 1000 })).content.length, 1000);
    await assert.rejects(way.client.call("ts", "/large?bytes=1001", { maxBytes: 1000 }), TooLarge);
  });

  test("paths stay below the agent", async () => {
    for (const path of ["/../../api/v1/keys", "/%2e%2E/x", "/a/./b", "/x#y", "/a b", "/a\r\nb", "/a\\b"]) {
      await assert.rejects(way.client.call("ts", path), TypeError, path);
    }
    assert.equal((await way.client.call("ts", "/a%2Fb?q=..")).json<{ path: string }>().path, "/a%2Fb");
  });
});

describe("streams", () => {
  withProxy();

  async function read(extra = ""): Promise<[string, string, string][]> {
    const run = fresh();
    const seen: [string, string, string][] = [];
    await open(`${run}-1`);
    const stream = way.client.stream("ts", `/steps?n=5&run=${run}${extra}`);
    for await (const { id, event, data } of stream) {
      seen.push([id, event, data]);
      if (seen.length === 2 || seen.length === 4) way.proxy.cutAll();
      await open(`${run}-${seen.length + 1}`);
    }
    assert.equal(way.proxy.cuts, 2);
    const whole = await all(straight.calls.attach(stream.callId ?? ""));
    assert.deepEqual(seen, whole.map(({ id, event, data }) => [id, event, data]));
    const lastEventId = seen[2]?.[0] ?? "";
    const behind = await all(straight.calls.attach(stream.callId ?? "", { lastEventId }));
    assert.deepEqual(behind.map((it) => it.id), seen.slice(3).map(([id]) => id));
    return seen;
  }

  test("a cut stream goes on, with each event once", async () => {
    assert.deepEqual(await read(), [1, 2, 3, 4, 5].map((n) => [`1.${n}`, "message", `{"step":${n}}`]));
  });

  test("so does one with ids of its own", async () => {
    const seen = await read("&own=1");
    assert.deepEqual(seen.map(([id]) => id), ["1.1", "mine", "1.2", "1.3", "1.4"]);
    assert.equal(seen[1]?.[1], "own");
  });

  test("another attempt that says something else is no continuation", async () => {
    const gate = fresh();
    const stream = way.client.stream("ts", `/differs?gate=${gate}`);
    const reading = (async () => {
      for await (const event of stream) {
        assert.equal(event.data, "1");
        await open(gate);
      }
    })();
    await assert.rejects(reading, (error) => error instanceof Unresumable && error.callId === stream.callId);
  });

  test("what is no stream is told", async () => {
    await assert.rejects(all(way.client.stream("ts", "/refuse")), (error) => error instanceof AgentError && error.answer.status === 404);
  });

  test("who stops reading does not end the call", async () => {
    const run = fresh();
    await open(`${run}-1`);
    const stream = way.client.stream("ts", `/steps?n=2&run=${run}`);
    for await (const event of stream) {
      assert.equal(event.id, "1.1");
      break;
    }
    await open(`${run}-2`);
    assert.equal((await all(straight.calls.attach(stream.callId ?? ""))).length, 2);
  });

  test("the server's events go on, too", async () => {
    const ids: string[] = [];
    for await (const event of way.client.events.stream({ agent: "ts", since: "1h" })) {
      ids.push(event.id);
      if (ids.length === 2) break;
      way.proxy.cutAll();
    }
    const listed = await all(straight.events.list({ agent: "ts", since: "1h", pageSize: 1 }));
    assert.deepEqual(listed.slice(0, 2).map((it) => it.id), ids);
  });
});

describe("management", () => {
  withProxy();

  test("refusals have types", async () => {
    const error: unknown = await way.client.call("tz", "/", { json: {} }).catch((it: unknown) => it);
    assert(error instanceof NotFound);
    assert.deepEqual([error.code, error.status, error.type, error.name], ["agent-not-found", 404, "/docs/errors/agent-not-found", "NotFound"]);
    assert.match(error.requestId, /^req_/);
    for (const part of [error.detail, error.hint, error.code, error.requestId]) assert(error.message.includes(part), part);
    await assert.rejects(new Client({ server: SERVER, apiKey: "skep_wrong" }).agents.get("ts"), Unauthorized);
    await assert.rejects(way.client.agents.deploy({ name: "ts2", nonsense: 1 } as never), (it) => it instanceof BadRequest && it instanceof ApiError);
  });

  test("what the agent says is its answer", async () => {
    const failed = await way.client.call("ts", "/fail");
    assert.deepEqual([failed.status, failed.ok, failed.json()], [500, false, { status: 500 }]);
    const refused = await way.client.call("ts", "/refuse");
    assert.equal(refused.json<{ detail: string }>().detail, "there is no such thing");
    assert.throws(() => refused.orThrow(), AgentError);
  });

  test("lists are read page by page", async () => {
    const made = new Set<string | undefined>();
    for (let n = 0; n < 5; n++) made.add((await way.client.call("ts", "/count", { json: n })).callId);
    const byPage = (await all(way.client.calls.list({ agent: "ts", pageSize: 2 }))).map((it) => it.id);
    const atOnce = (await all(way.client.calls.list({ agent: "ts" }))).map((it) => it.id);
    assert.equal(new Set(byPage).size, byPage.length);
    assert([...made].every((id) => byPage.includes(id ?? "")));
    assert.deepEqual(byPage, atOnce);
  });

  test("agents, health, and any route by its types", async () => {
    const agent = await way.client.agents.get("ts");
    assert.equal(agent.state, "ready");
    assert((await all(way.client.agents.list({ pageSize: 1 }))).some((it) => it.name === "ts"));
    assert.equal((await way.client.health()).status, "ok");
    assert((await way.client.healthOfParts()).version);
    const { items } = await way.client.request("get", "/api/v1/agents/{agent}/revisions", { path: { agent: "ts" } });
    const revision: number | undefined = items[0]?.number;
    assert.equal(revision, agent.revision);
    // @ts-expect-error: there is no such route
    await assert.rejects(way.client.request("get", "/api/v1/nothing"), NotFound);
    // @ts-expect-error: a path has what stands in it
    await assert.rejects(way.client.request("get", "/api/v1/agents/{agent}"), TypeError);
  });

  test("an agent's life", async () => {
    const { agents } = way.client;
    const { spec } = await agents.get("ts");
    const first = await agents.deploy({ ...spec, name: "ts2" });
    const second = await agents.deploy({ ...spec, name: "ts2", env: { ...spec.env, MORE: "1" } });
    assert.deepEqual([first.revision, second.revision], [1, 2]);
    assert.equal((await agents.rollback("ts2")).spec.env?.["MORE"], undefined);
    assert.equal((await agents.rollback("ts2", 2)).spec.env?.["MORE"], "1");
    assert.equal((await agents.scale("ts2", 2)).spec.replicas, 2);
    assert.equal((await agents.stop("ts2")).desired, "stopped");
    assert.equal((await agents.start("ts2")).desired, "running");
    assert.equal((await agents.restart("ts2")).desired, "running");
    await agents.remove("ts2", true);
    await assert.rejects(agents.get("ts2"), NotFound);
    await assert.rejects(agents.get("ts", AbortSignal.abort(new Error("enough"))), { message: "enough" });
  });

  test("calls are forgotten and given another round", async () => {
    const { callId = "" } = await way.client.call("ts", "/count", { json: 1 });
    await way.client.calls.purge(callId);
    await assert.rejects(way.client.calls.get(callId), NotFound);
    assert.equal(await way.client.calls.redriveAll("ts"), 0);
  });

  test("secrets and the log", async () => {
    const found = await all(way.client.secrets.list());
    assert(found.some((it) => it.name === "ts/one"));
    assert(!JSON.stringify(found).includes("canary-of-a-secret"));
    const shown = await way.client.secrets.reveal("ts/one", { reason: "a test" });
    assert.equal(shown.value, "canary-of-a-secret");
    const entries = await all(way.client.audit.list({ action: "secret:reveal", pageSize: 1 }));
    assert.deepEqual(await way.client.audit.get(entries[0]?.number ?? -1), entries[0]);
  });

  test("a server that was never there fails at once", async () => {
    const server = way.proxy.url;
    await way.proxy.close();
    const error: unknown = await new Client({ server, patience: 3_600_000 }).call("ts", "/count", { json: {} }).catch((it: unknown) => it);
    assert(error instanceof ConnectionFailed);
    assert.equal(error.sent, false);
    assert.match(error.idempotencyKey ?? "", /^auto_/);
    // It is closed once more at the end of the test.
    way.proxy = await (await import("./proxy.js")).Proxy.to(SERVER);
  });
});
