// The parts that need no server.

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { describe, test } from "node:test";

import { EventSchemas } from "@ag-ui/core/schemas";

import { type AgentEvent, ApiError, Client, ConnectionFailed, Malformed, type Operation, TooLarge, begun, checkEvent, ofStatus, patched, taken } from "../src/index.js";
import { Waits, judge } from "../src/patience.js";
import { settings } from "../src/requests.js";
import { Continuation } from "../src/runs.js";
import { Differs, Parser, Restart, type ServerEvent, Splice } from "../src/sse.js";
import { shapes, straight } from "./house.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("server-sent events", () => {
  const TEXT = "\u{feff}: hi\n\nid: 1\r\nevent: x\r\ndata: a\r\ndata:b \r\n\r\ndata\n\nid: 2\n\ndata: ü🐝\rdata:  c\r\rdata: half";
  const EVENTS: ServerEvent[] = [
    { id: "1", event: "x", data: "a\nb " },
    { id: "", event: "message", data: "" },
    { id: "", event: "message", data: "ü🐝\n c" },
  ];

  test("are read however they are cut", () => {
    const whole = bytes(TEXT);
    for (let size = 1; size <= whole.length; size++) {
      const parser = new Parser();
      const found: ServerEvent[] = [];
      for (let at = 0; at < whole.length; at += size) found.push(...parser.push(whole.slice(at, at + size)));
      assert.deepEqual(found, EVENTS, `${size}`);
    }
  });

  test("have a bound, which is held before they are", () => {
    const line = (length: number): Uint8Array => bytes(`data: ${"x".repeat(length)}\n\n`);
    assert.equal(new Parser(106).push(line(100)).length, 1);
    assert.throws(() => new Parser(105).push(line(100)), TooLarge);
    const parser = new Parser(100);
    parser.push(bytes(`data: ${"x".repeat(60)}\n`));
    assert.throws(() => parser.push(bytes(`data: ${"x".repeat(60)}`)), TooLarge);
  });

  const frame = (id: string, data: string): Uint8Array => bytes(`id: ${id}\ndata: ${data}\n\n`);
  const ids = (events: readonly ServerEvent[]): string[] => events.map((it) => `${it.id} ${it.data}`);

  test("go on behind the last of the same attempt", () => {
    const splice = new Splice();
    assert.deepEqual(ids(splice.push(frame("1.1", "a"))), ["1.1 a"]);
    assert.equal(splice.resume(), "1.1");
    assert.deepEqual(ids(splice.push(frame("1.2", "b"))), ["1.2 b"]);
    splice.finish();
  });

  test("go on in another attempt that says the same, and in no other", () => {
    for (const [again, right] of [["a", true], ["c", false]] as const) {
      const splice = new Splice();
      splice.push(frame("1.1", "a"));
      splice.resume();
      assert.throws(() => splice.push(frame("2.1", again)), Restart);
      assert.equal(splice.resume(), undefined);
      if (right) assert.deepEqual(ids([...splice.push(frame("2.1", again)), ...splice.push(frame("2.2", "b"))]), ["2.2 b"]);
      else assert.throws(() => splice.push(frame("2.1", again)), Differs);
    }
  });

  test("that were read from the middle do not go on in another attempt", () => {
    const splice = new Splice("1.5");
    assert.equal(splice.resume(), "1.5");
    splice.push(frame("1.6", "a"));
    splice.resume();
    assert.throws(() => splice.push(frame("2.1", "a")), Restart);
    assert.throws(() => splice.resume(), Differs);
  });

  test("that end too early are none", () => {
    const splice = new Splice();
    splice.push(frame("1.1", "a"));
    splice.resume();
    assert.throws(() => splice.finish(), Restart);
    splice.resume();
    assert.throws(() => splice.finish(), Differs);
  });
});

describe("patience", () => {
  const api = (status: number, code: string, retryAfter?: number): ApiError => new (ofStatus(status))({ status, code }, { retryAfter });
  test("knows what passes", () => {
    const all: [unknown, boolean, boolean, number | undefined][] = [
      [new ConnectionFailed("", true), true, true, 0],
      [new ConnectionFailed("", true), true, false, undefined],
      [new ConnectionFailed("", false), true, false, 0],
      [new ConnectionFailed("", false), false, true, undefined],
      [api(429, "rate-limited", 5_000), true, false, 5_000],
      [api(429, "rate-limited"), true, true, undefined],
      [api(503, "shutting-down"), true, false, 0],
      [api(503, "agent-stopped", 1_000), true, true, undefined],
      [api(503, "agent-starting", 1_000), true, true, 1_000],
      [api(503, "other"), true, true, undefined],
      [api(500, "internal", 1_000), true, true, undefined],
      [new Error(), true, true, undefined],
    ];
    for (const [error, reached, safe, wait] of all) assert.equal(judge(error, { reached, safe }), wait, String(error));
  });

  test("waits longer and longer, and comes to an end", () => {
    const waits = new Waits(10_000);
    const all: number[] = [];
    for (let wait = waits.next(0, 0, 1); wait !== undefined; wait = waits.next(0, 0, 1)) all.push(wait);
    assert.deepEqual(all, [100, 200, 400, 800, 1600, 2000, 2000, 2000, 900]);
    waits.progress();
    assert.equal(waits.next(0, 0, 0), 50);
    assert.equal(waits.next(20_000), undefined);
    assert.equal(new Waits(1_000).next(0, 1_000), undefined);
  });
});

describe("patches", () => {
  const right: [unknown, Operation[], unknown][] = [
    [{ a: [1] }, [{ op: "add", path: "/a/-", value: 2 }, { op: "add", path: "/a/0", value: 0 }], { a: [0, 1, 2] }],
    [{ a: { b: 1 } }, [{ op: "copy", from: "/a", path: "/c" }, { op: "replace", path: "/c/b", value: 2 }], { a: { b: 1 }, c: { b: 2 } }],
    [{ a: { b: 1 } }, [{ op: "replace", path: "/a/b", value: 3 }, { op: "copy", from: "/a", path: "/c" }, { op: "add", path: "/c/d", value: 1 }], { a: { b: 3 }, c: { b: 3, d: 1 } }],
    [{ a: { b: 1 } }, [{ op: "move", from: "/a/b", path: "/b" }], { a: {}, b: 1 }],
    [{ "": 1, "~/": 2 }, [{ op: "remove", path: "/" }, { op: "replace", path: "/~0~1", value: 3 }], { "~/": 3 }],
    [{ a: 1 }, [{ op: "replace", path: "", value: [1] }, { op: "remove", path: "/0" }], []],
    [{ a: { x: 1, y: [2] } }, [{ op: "test", path: "/a", value: { y: [2], x: 1 } }], { a: { x: 1, y: [2] } }],
  ];
  test("apply, and leave what was there", () => {
    for (const [document, patch, wanted] of right) {
      const before = structuredClone(document);
      assert.deepEqual(patched(document, patch), wanted);
      assert.deepEqual(document, before);
    }
  });

  test("that do not apply are told", () => {
    const document = { a: [1], t: "x", n: null };
    const wrong: Operation[] = [
      { op: "add", path: "/a/2", value: 1 }, { op: "add", path: "/a/01", value: 1 }, { op: "add", path: "/a/-1", value: 1 },
      { op: "remove", path: "/a/-" }, { op: "remove", path: "/b" }, { op: "replace", path: "/b", value: 1 }, { op: "add", path: "/t/0", value: 1 },
      { op: "add", path: "/n/a", value: 1 }, { op: "move", from: "/a", path: "/a/0" }, { op: "copy", from: "/b", path: "/c" },
      { op: "test", path: "/a", value: [2] }, { op: "add", path: "/toString/x", value: 1 }, { op: "remove", path: "/a/length" },
    ];
    for (const operation of wrong) assert.throws(() => patched(document, [operation]), Malformed, JSON.stringify(operation));
  });

  test("reach no prototype", () => {
    const made = patched({}, [{ op: "add", path: "/__proto__", value: { polluted: 1 } }]) as Record<string, unknown>;
    assert.deepEqual([({} as Record<string, unknown>)["polluted"], made["polluted"], Object.keys(made)], [undefined, undefined, ["__proto__"]]);
    assert.throws(() => patched({}, [{ op: "add", path: "/__proto__/polluted", value: 1 }]), Malformed);
    assert.throws(() => patched({}, [{ op: "add", path: "/constructor/prototype/polluted", value: 1 }]), Malformed);
  });
});

describe("events", () => {
  /** An event with something else in each of its places. */
  function* spoiled(value: unknown): Generator<unknown> {
    if (typeof value !== "object" || value === null) return;
    for (const key of Object.keys(value)) {
      const inner = (value as Record<string, unknown>)[key];
      const others: unknown[] = [undefined, 7, -1, 1.5, "", "x", true, {}, [], [7], ...spoiled(inner)];
      for (const other of others) {
        if (Array.isArray(value)) yield value.map((one: unknown, at) => (String(at) === key ? other : one)).filter((it) => it !== undefined);
        else yield { ...value, [key]: other };
      }
    }
  }

  test("are taken as the official schema takes them", async () => {
    const names = Object.entries(await shapes()).filter(([name, it]) => (it.protocol ?? "agui") === "agui" && !it.gates && !["cancel", "abort", "goes on", "a long one"].includes(name));
    const seen = new Map<string, AgentEvent>();
    for (const [name] of names) {
      for await (const event of straight.runs.stream("agui", { messages: [{ id: "q", role: "user", content: name }] })) {
        const key = event.type + Object.keys(event).join() + ("outcome" in event ? event.outcome?.type : "");
        if (JSON.stringify(event).length < 2_000) seen.set(key, event);
      }
    }
    assert(new Set([...seen.values()].map((it) => it.type)).size >= 24);
    let [right, wrong] = [0, 0];
    for (const event of seen.values()) {
      for (const it of [event, ...spoiled(event)]) {
        const type = (it as { type?: unknown }).type;
        const theirs = EventSchemas.safeParse(JSON.parse(JSON.stringify(it))).success;
        let ours = true;
        try {
          ours = checkEvent(JSON.parse(JSON.stringify(it))) !== undefined;
        } catch (error) {
          assert(error instanceof Malformed);
          ours = false;
        }
        assert.equal(ours, theirs, `${String(type)} ${JSON.stringify(it)}`);
        if (ours) right += 1;
        else wrong += 1;
      }
    }
    assert(right > 200 && wrong > 200, `${right} ${wrong}`);
  });

  test("of a type that is not known are none", () => {
    assert.equal(checkEvent({ type: "NEW" }), undefined);
    assert.equal(checkEvent({ type: "toString" }), undefined);
    assert.throws(() => checkEvent({ type: 7 }), Malformed);
    assert.deepEqual(checkEvent({ type: "STEP_STARTED", stepName: "s", more: 1, timestamp: null }), { type: "STEP_STARTED", stepName: "s" });
  });

  test("behind a loss end what has ended meanwhile, and begin nothing twice", () => {
    const passed: AgentEvent[] = [];
    const continuation = new Continuation();
    const push = (id: string, ...events: AgentEvent[]): void => events.forEach((event) => passed.push(...continuation.push(event, id)));
    const run = { threadId: "t", runId: "r" };
    push("1.1", { type: "RUN_STARTED", ...run });
    push("1.2", { type: "SUBAGENT_STARTED", subagentRunId: "s", name: "n" }, { type: "TEXT_MESSAGE_START", messageId: "gone" });
    push("1.3", { type: "TEXT_MESSAGE_START", messageId: "ended" }, { type: "TEXT_MESSAGE_START", messageId: "open" }, { type: "STEP_STARTED", stepName: "x" });
    continuation.lost();
    const before = passed.length;
    const said = (id: string) => ({ id, role: "assistant" as const, content: "" });
    push("2.4", { type: "RUN_STARTED", ...run }, { type: "SUBAGENT_STARTED", subagentRunId: "s", name: "n" }, { type: "SUBAGENT_FINISHED", subagentRunId: "s" });
    push("2.4", { type: "MESSAGES_SNAPSHOT", messages: [said("ended"), said("open"), said("new")] }, { type: "STATE_SNAPSHOT", snapshot: 1 });
    push("2.4", { type: "TEXT_MESSAGE_START", messageId: "open" }, { type: "TEXT_MESSAGE_START", messageId: "new" });
    push("2.5", { type: "TEXT_MESSAGE_CONTENT", messageId: "open", delta: "a" });
    push("2.6", { type: "TEXT_MESSAGE_END", messageId: "open" }, { type: "TEXT_MESSAGE_END", messageId: "new" }, { type: "RUN_FINISHED", ...run });
    push("2.7", { type: "RUN_FINISHED", ...run });
    const lines = passed.slice(before).map((it) => [it.type, "messageId" in it ? it.messageId : "stepName" in it ? it.stepName : ""].join(" ").trim());
    assert.deepEqual(lines, [
      "SUBAGENT_FINISHED", "TEXT_MESSAGE_END gone", "MESSAGES_SNAPSHOT", "STATE_SNAPSHOT", "TEXT_MESSAGE_START new", "STEP_FINISHED x",
      "TEXT_MESSAGE_END ended", "TEXT_MESSAGE_CONTENT open", "TEXT_MESSAGE_END open", "TEXT_MESSAGE_END new", "RUN_FINISHED",
    ]);
  });

  test("are held against the bound before they are taken over", () => {
    const thread = begun([{ id: "q", role: "user", content: "x".repeat(500) }], { a: "x".repeat(400) });
    const copied: AgentEvent = { type: "STATE_DELTA", delta: [{ op: "copy", from: "/a", path: "/b" }] };
    assert.throws(() => taken(thread, copied, 1_200), TooLarge);
    assert.deepEqual(thread.state, { a: "x".repeat(400) });
    // What was replaced counts no more.
    let state = thread;
    for (let n = 0; n < 10; n++) state = taken(state, { type: "MESSAGES_SNAPSHOT", messages: [{ id: "q", role: "user", content: "y".repeat(500) }] }, 1_200);
    assert.equal(state.messages.length, 1);
    const activity = { type: "ACTIVITY_SNAPSHOT", messageId: "v", activityType: "x", content: { a: "z".repeat(100) } } as const;
    for (let n = 0; n < 10; n++) state = taken(state, activity, 1_200);
    assert.throws(() => taken(state, { ...activity, messageId: "w", content: { a: "z".repeat(300) } }, 1_200), TooLarge);
  });
});

describe("a client", () => {
  test("says where it asks, and as whom", () => {
    assert.equal(new Client({ server: "http://a.test:1/" }).server, "http://a.test:1");
    assert.deepEqual(settings("http://a.test", "k", "w"), { url: "http://a.test", apiKey: "k", workspace: "w" });
    for (const server of ["a.test", "ftp://a.test", "http://u:p@a.test", "http://a.test?x", "http://a.test#x"]) assert.throws(() => new Client({ server }), TypeError, server);
    assert.throws(() => new Client({ apiKey: "a\nb" }), TypeError);
  });

  test("needs nothing but itself, and React for its hook", async () => {
    const folder = new URL("../src/", import.meta.url);
    const files = (await readdir(folder, { recursive: true })).filter((it) => it.endsWith(".js"));
    const needed = new Set<string>();
    for (const file of files) {
      const text = await readFile(new URL(file, folder), "utf8");
      for (const [, name = ""] of text.matchAll(/(?:from|import\()\s*"([^".][^"]*)"/g)) needed.add(`${file}: ${name}`);
    }
    assert.deepEqual([...needed], ["react.js: react"]);
  });
});
