// Runs as streams: with the official client as the judge of what is a right sequence, and of what it comes to.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { AbstractAgent, type BaseEvent, HttpAgent, type Message as TheirMessage } from "@ag-ui/client";
import { Observable } from "rxjs";

import {
  type AgentEvent, type Ask, BadRequest, Client, type Message, NotFound, RunStream, type Thread, TimedOut, TooLarge, begun, taken, toolUses,
} from "../src/index.js";
import { KEY, SERVER, fresh, openIn, shapes, straight, way, withProxy } from "./house.js";

/** Cuts of one shape. */
const MOST_CUTS = 4;
/** These are asked for one by one. */
const OWN = new Set(["cancel", "abort", "goes on"]);
const ALL = Object.entries(await shapes()).filter(([name]) => !OWN.has(name));

const ask = (name: string): Ask & { threadId: string; runId: string; messages: Message[] } => ({
  threadId: fresh(), runId: fresh(), messages: [{ id: "q", role: "user", content: name }],
});

/** The official client, which is shown what this one reads. */
class Through extends AbstractAgent {
  readonly events: AgentEvent[] = [];

  constructor(readonly stream: RunStream) {
    super({ threadId: stream.input.threadId, initialMessages: stream.input.messages as TheirMessage[] });
  }

  override run(): Observable<BaseEvent> {
    return new Observable((subscriber) => {
      const read = async (): Promise<void> => {
        for await (const event of this.stream) {
          this.events.push(event);
          subscriber.next(event as BaseEvent);
        }
      };
      read().then(() => subscriber.complete(), (error: unknown) => subscriber.error(error));
    });
  }
}

/** What the official client says on its console meanwhile. */
async function complaints(of: () => Promise<unknown>): Promise<string[]> {
  const all: string[] = [];
  const { warn, error } = console;
  console.warn = console.error = (...words: unknown[]) => all.push(words.join(" "));
  try {
    await of();
  } finally {
    Object.assign(console, { warn, error });
  }
  return all;
}

const plainly = (value: unknown): unknown => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)));
const folded = (events: readonly AgentEvent[], messages: readonly Message[]): Thread =>
  events.reduce((thread, event) => taken(thread, event, 1 << 26), begun(messages, {}));

async function collected(stream: AsyncIterable<AgentEvent>): Promise<AgentEvent[]> {
  const all: AgentEvent[] = [];
  for await (const event of stream) all.push(event);
  return all;
}

/** A stream to its end, as the official client has it too. */
async function through(client: Client, agent: string, asked: Ask): Promise<Through> {
  const official = new Through(client.runs.stream(agent, asked));
  assert.deepEqual(await complaints(() => official.runAgent({ runId: asked.runId ?? "" })), []);
  return official;
}

describe("agents of all shapes", () => {
  withProxy();

  for (const [name, { protocol = "agui", gates = [] }] of ALL) {
    test(name, async () => {
      const asked = ask(name);
      const runId = fresh();
      const http = new HttpAgent({
        url: `${SERVER}/agents/${protocol}/agui`, headers: { "skep-api-key": KEY }, threadId: asked.threadId, initialMessages: asked.messages as TheirMessage[],
      });
      for (const gate of gates) await openIn(asked.threadId, gate);
      assert.deepEqual(await complaints(() => http.runAgent({ runId })), []);
      // Ids that the server makes up have the run's in them.
      const theirs: unknown = JSON.parse(JSON.stringify(http.messages).replaceAll(runId, asked.runId));
      for (const gate of gates) await openIn(asked.threadId, gate);
      const whole = await through(straight, protocol, asked);
      const thread = folded(whole.events, asked.messages);
      const all: [string, readonly unknown[], unknown][] = [["whole", whole.messages, whole.state], ["folded", thread.messages, thread.state]];
      const step = Math.ceil(whole.events.length / MOST_CUTS);
      for (let most = 1; most < whole.events.length; most += step) {
        way.proxy.cutBehind(most);
        const cut = await through(way.client, protocol, asked);
        const { messages, state } = folded(cut.events, asked.messages);
        all.push([`cut behind ${most}`, cut.messages, cut.state], [`cut behind ${most}, folded`, messages, state]);
        assert.deepEqual(cut.events.at(-1), whole.events.at(-1));
      }
      for (const [what, messages, state] of all) {
        assert.deepEqual(plainly(messages), theirs, what);
        assert.deepEqual(plainly(state), plainly(http.state), what);
      }
    });
  }
});

describe("a run", () => {
  withProxy();

  test("goes on where it was cut, with each delta once", async () => {
    const official = new Through(way.client.runs.stream("agui", ask("goes on")));
    const seen: string[] = [];
    official.subscribe({
      onEvent: async ({ event }) => {
        seen.push(event.type);
        if (event.type === "STATE_SNAPSHOT" && seen.filter((it) => it === event.type).length === 1) way.proxy.cutAll();
        if (event.type === "MESSAGES_SNAPSHOT") await openIn(official.threadId, "on-1");
        if (event.type === "STATE_DELTA") {
          way.proxy.cutAll();
          await openIn(official.threadId, "on-2");
        }
      },
    });
    assert.deepEqual(await complaints(() => official.runAgent({ runId: official.stream.input.runId })), []);
    assert.equal(way.proxy.cuts, 2);
    const { messages, state } = folded(official.events, official.stream.input.messages);
    assert.deepEqual(plainly(messages), plainly(official.messages));
    assert.deepEqual([messages[1]?.content, state], ["one two", { n: 2 }]);
    const texts = official.events.flatMap((it) => (it.type === "TEXT_MESSAGE_CONTENT" ? [it.delta] : []));
    assert.deepEqual(texts, ["one ", "two"]);
    for (const type of ["RUN_STARTED", "TEXT_MESSAGE_START", "TOOL_CALL_START", "STEP_STARTED", "TEXT_MESSAGE_END"]) {
      assert.equal(seen.filter((it) => it === type).length, 1, type);
    }
    assert.deepEqual(toolUses(folded(official.events, [])).map((it) => [it.id, it.arguments, it.status]), [["c", "{}", "called"]]);
  });

  test("is gone on with by another stream", async () => {
    const first = way.client.runs.stream("agui", ask("text"));
    for await (const event of first) if (event.type === "TEXT_MESSAGE_CONTENT") break;
    const { input, lastEventId, callId } = first;
    const second = straight.runs.stream("agui", input, { lastEventId });
    const { messages } = folded(await collected(second), input.messages);
    assert.equal(messages[1]?.content, "hello, wörld 🐝");
    assert.equal(second.callId, callId);
    assert.match(second.runId ?? "", /^run_/);
    await assert.rejects(collected(second), TypeError);
  });

  test("is cancelled for everybody", async () => {
    const stream = way.client.runs.stream("agui", ask("cancel"));
    const events: AgentEvent[] = [];
    for await (const event of stream) {
      events.push(event);
      if (event.type === "TEXT_MESSAGE_CONTENT") assert.equal(await stream.cancel(), true);
    }
    const last = events.at(-1);
    assert(last?.type === "RUN_FINISHED");
    assert.deepEqual(last.outcome, { type: "cancelled" });
    assert.equal((await straight.calls.get(stream.callId ?? "")).state, "cancelled");
    assert.equal(await way.client.runs.stream("agui", ask("cancel")).cancel(), false);
  });

  test("is cancelled as soon as its call is known", async () => {
    const stream = way.client.runs.stream("agui", ask("cancel"));
    const reading = collected(stream);
    assert.equal(await stream.cancel(), true);
    const last = (await reading).at(-1);
    assert(last?.type === "RUN_FINISHED" && last.outcome?.type === "cancelled");
  });

  test("is read until a signal, and goes on", async () => {
    const abort = new AbortController();
    const stream = way.client.runs.stream("agui", ask("abort"), { signal: abort.signal });
    const reading = (async () => {
      for await (const event of stream) if (event.type === "TEXT_MESSAGE_CONTENT") abort.abort(new Error("enough"));
    })();
    await assert.rejects(reading, { message: "enough" });
    assert.equal((await straight.calls.get(stream.callId ?? "")).state, "running");
    assert.equal(await stream.cancel(), true);
  });

  test("that takes too long is given up, and goes on", async () => {
    const stream = way.client.runs.stream("agui", ask("abort"), { timeout: 1_000 });
    await assert.rejects(collected(stream), (error) => error instanceof TimedOut && error.callId === stream.callId && stream.callId !== undefined);
    assert.equal(await stream.cancel(), true);
  });

  test("whose connection says nothing any more is sought again", async () => {
    const told: boolean[] = [];
    way.proxy.hold();
    const stream = way.client.runs.stream("agui", ask("text"), { silence: 500, onReconnect: (isLost) => told.push(isLost) });
    const { messages } = folded(await collected(stream), stream.input.messages);
    assert.equal(messages[1]?.content, "hello, wörld 🐝");
    assert.deepEqual(told, [true, false]);
    assert.equal(way.proxy.passed.filter((it) => it === "POST /agents/agui/agui").length, 2);
  });

  test("is refused by types", async () => {
    await assert.rejects(collected(way.client.runs.stream("nobody", ask("text"))), NotFound);
    const asked = ask("text");
    await collected(way.client.runs.stream("agui", asked));
    await assert.rejects(collected(way.client.runs.stream("agui", { ...asked, messages: [] })), BadRequest);
    assert.throws(() => way.client.runs.stream("agui", { messages: [{ id: "q", role: "robot" }] } as never), /messages\[0\]\.role/);
  });

  test("has bounds", async () => {
    assert.throws(() => way.client.runs.stream("agui", ask("x".repeat(1000)), { maxRequestBytes: 1000 }), TooLarge);
    assert(way.client.runs.stream("agui", ask(""), { maxRequestBytes: 1000 }));
    await assert.rejects(collected(way.client.runs.stream("agui", ask("a long one"), { maxEventBytes: 40_000 })), TooLarge);
    const events = await collected(straight.runs.stream("agui", ask("a long one")));
    const messages = (most: number): number => {
      let thread = begun();
      const at = events.findIndex((event) => {
        try {
          thread = taken(thread, event, most);
        } catch (error) {
          assert(error instanceof TooLarge);
          return true;
        }
        return false;
      });
      assert(JSON.stringify(thread.messages).length <= most);
      return at;
    };
    assert.equal(messages(120_000), 4);
    assert.equal(messages(2_000_000), -1);
  });
});
