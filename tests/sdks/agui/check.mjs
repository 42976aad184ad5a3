// The official client of AG-UI at Skep's door, with agents of many shapes. It complains on its console of what it does not
// expect: any word there is a failure. Prints what was looked at, and fails when something was wrong.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { HttpAgent } from "@ag-ui/client";

import { plain, right } from "./right.mjs";
import { wrong } from "./wrong.mjs";

const { SKEP_SERVER, SKEP_API_KEY } = process.env;
const headers = { "skep-api-key": SKEP_API_KEY };
const MOST_CUTS = 12;
const CUT = "the way was cut";

// What the client complained of.
let complaints = [];
for (const name of ["debug", "error", "info", "log", "trace", "warn"]) {
  console[name] = (...all) => complaints.push(all.map((it) => it?.stack ?? String(it)).join(" "));
}

// The client cancels a body that has broken off, and leaves it at that.
process.on("unhandledRejection", (error) => {
  if (error?.message !== CUT) throw error;
});

/** An event as a line. */
function line(event) {
  const { type, messageId, toolCallId, toolCallName, stepName, name, delta, code, content } = event;
  const parts = {
    TOOL_CALL_START: [toolCallId, toolCallName],
    TOOL_CALL_RESULT: [toolCallId, content],
    TEXT_MESSAGE_CONTENT: [messageId, delta],
    TOOL_CALL_ARGS: [toolCallId, delta],
    REASONING_MESSAGE_CONTENT: [messageId, delta],
    RUN_ERROR: [code],
    STEP_STARTED: [stepName],
    STEP_FINISHED: [stepName],
    CUSTOM: [name],
  }[type];
  const isBracket = /^(TEXT|TOOL|REASONING)_.*(START|END)$/.test(type);
  return [type, ...(parts ?? (isBracket ? [messageId ?? toolCallId] : []))].filter((it) => it !== undefined).join(" ");
}

/** Frames as they pass; after `most` of them the way is cut. */
function watched(frames, most) {
  const decoder = new TextDecoder();
  let held = "";
  return new TransformStream({
    transform(chunk, controller) {
      held += decoder.decode(chunk, { stream: true });
      const whole = held.split("\n\n");
      held = whole.pop();
      for (const frame of whole) {
        if (most !== undefined && frames.length >= most) return controller.error(new Error(CUT));
        controller.enqueue(new TextEncoder().encode(`${frame}\n\n`));
        const field = (name) => frame.split("\n").find((it) => it.startsWith(`${name}: `))?.slice(name.length + 2);
        if (field("data") !== undefined) frames.push({ id: field("id"), event: JSON.parse(field("data")) });
      }
      if (most !== undefined && frames.length >= most) controller.error(new Error(CUT));
    },
    flush() {
      assert.equal(held, "", "a stream ends with a whole event");
    },
  });
}

/** The official client, which notes what it is sent. */
function client(name, shape, options = {}) {
  const agent = new HttpAgent({
    url: `${SKEP_SERVER}/agents/${shape.protocol ?? "agui"}/agui`,
    headers,
    threadId: randomUUID(),
    initialMessages: [{ id: "q", role: "user", content: name }],
    ...options,
  });
  agent.runId = randomUUID();
  agent.fetch = async (url, init) => {
    agent.body ??= init.body;
    agent.frames = [];
    const seen = agent.seen === undefined ? {} : { "Last-Event-ID": agent.seen };
    const answer = await fetch(url, { ...init, body: agent.body, headers: { ...init.headers, ...seen } });
    agent.call = answer.headers.get("skep-call-id") ?? agent.call;
    if (!answer.ok) return answer;
    return new Response(answer.body.pipeThrough(watched(agent.frames, agent.most)), answer);
  };
  return agent;
}

/** One run to its end, and what came of it. */
async function run(agent, parameters = {}, onEvent = () => {}) {
  const lines = [];
  let outcome;
  const subscriber = {
    onEvent: async ({ event }) => {
      lines.push(line(event));
      await onEvent(event);
    },
    onRunFinishedEvent: ({ event }) => void ({ outcome } = event),
  };
  const { result } = await agent.runAgent({ runId: agent.runId, ...parameters }, subscriber);
  return { lines, outcome, result, messages: plainly(agent.messages), state: agent.state, frames: agent.frames };
}

/** Without what is undefined. */
const plainly = (value) => JSON.parse(JSON.stringify(value));

function quiet() {
  const all = complaints;
  complaints = [];
  assert.deepEqual(all, [], "the client complains");
}

const open = ({ threadId }, gate) => fetch(`${SKEP_SERVER}/agents/agui/open/${threadId}/${gate}`, { headers });

function checkMessages(shape, all) {
  const told = all.filter((it) => it.id !== "q");
  if (shape.messages !== undefined) assert.deepEqual(told, plainly(shape.messages));
  const parts = ({ role, content, toolCalls }) => ({ role, content, toolCalls });
  const rough = shape.rough?.map((it) => (it.toolCalls ? it : { ...it, toolCalls: undefined }));
  const known = told.map((it, at) => ({ ...parts(it), toolCalls: rough?.[at]?.toolCalls && it.toolCalls }));
  if (rough !== undefined) assert.deepEqual(plainly(known), plainly(rough));
  const ids = all.map((it) => it.id);
  assert.equal(new Set(ids).size, ids.length, "an id is there twice");
  assert.equal({}.polluted, undefined);
}

function checkRun(shape, agent, told) {
  const [first, last] = [told.frames[0].event, told.frames.at(-1).event];
  assert.equal(first.type, "RUN_STARTED");
  const isError = shape.error || shape.ends !== undefined || (shape.shows ?? []).some((it) => it.startsWith("RUN_ERROR"));
  assert.equal(last.type, isError ? "RUN_ERROR" : "RUN_FINISHED", told.lines.at(-1));
  for (const event of [first, last]) {
    if (event.type !== "RUN_ERROR") assert.deepEqual([event.threadId, event.runId], [agent.threadId, agent.runId]);
  }
  if (shape.shows !== undefined) assert.deepEqual(told.lines, shape.shows);
  if (shape.ends !== undefined) assert.equal(told.lines.at(-1), shape.ends);
  if (shape.told !== undefined) assert.equal(last.message, shape.told);
  if (shape.result !== undefined) assert.deepEqual(told.result, shape.result);
  if (shape.outcome !== undefined) assert.deepEqual(told.outcome, shape.outcome);
  if (shape.state !== undefined) assert.deepEqual(told.state, shape.state);
  checkMessages(shape, told.messages);
}

/** Who comes behind an event, with nothing or with what they had by then, comes to the same. */
async function checkRest(agent, told) {
  const of = { threadId: agent.threadId, protocol: agent.url.split("/").at(-2) };
  const begun = () => {
    const one = client("", of, { threadId: of.threadId, initialMessages: JSON.parse(agent.body).messages });
    return Object.assign(one, { body: agent.body, runId: agent.runId });
  };
  // What an attempt said that was cut is nowhere any more: who saw it comes behind it, and cannot be cut there again.
  const whole = (await run(begun())).frames.map(({ id }) => id);
  quiet();
  const there = told.frames.flatMap(({ id }) => (id === undefined ? [] : [[id, whole.lastIndexOf(id) + 1]]));
  const every = Math.ceil(there.length / MOST_CUTS);
  const picked = there.filter((_, at) => at % every === 0 || at === there.length - 1);
  for (const [id, most] of picked) {
    const again = begun();
    if (most > 0) {
      again.most = most;
      await assert.rejects(run(again), { message: CUT });
      assert.equal(complaints.length, 1, complaints.join("\n"));
      complaints = [];
    }
    const anew = begun();
    for (const one of [again, anew]) {
      Object.assign(one, { body: agent.body, runId: agent.runId, seen: id, most: undefined });
      const rest = await run(one);
      quiet();
      const what = `behind ${id}${one === anew ? ", anew" : ""}`;
      for (const part of ["messages", "state", "outcome"]) assert.deepEqual(rest[part], told[part], `${part} ${what}`);
      assert.equal(rest.lines.at(-1), told.lines.at(-1), what);
      assert.equal(one.call, agent.call, "it is the same call");
    }
  }
  return picked.length;
}

let attached = 0;
async function checkShape(name, shape) {
  const agent = client(name, shape);
  const opens = [...(shape.gates ?? [])];
  const told = await run(agent, {}, async () => {
    if (opens.length > 0 && agent.messages.length > 1) await open(agent, opens.shift());
  });
  quiet();
  checkRun(shape, agent, told);
  attached += await checkRest(agent, told);
}

/** What takes more than one request. */
const flows = {
  async "a tool of the client"(name) {
    const agent = client(name, {});
    const tools = [{ name: "weather", description: "The weather.", parameters: { type: "object" } }];
    const first = await run(agent, { tools });
    assert.deepEqual(first.outcome, right[name].outcome);
    assert.equal(JSON.parse(agent.body).tools[0].name, "weather");
    agent.addMessage({ id: "r", role: "tool", toolCallId: "c", content: "rain" });
    Object.assign(agent, { body: undefined, runId: randomUUID() });
    const second = await run(agent, { tools });
    assert.equal(second.messages.at(-1).content, "You said rain.");
  },
  async interrupt(name) {
    const agent = client(name, {});
    await run(agent);
    assert.deepEqual(agent.pendingInterrupts, right[name].outcome.interrupts);
    Object.assign(agent, { body: undefined, runId: randomUUID() });
    const resume = [{ interruptId: "i", status: "resolved", payload: { yes: true } }];
    const second = await run(agent, { resume });
    assert.equal(second.messages.at(-1).content, 'i resolved {"yes":true}');
    assert.deepEqual(agent.pendingInterrupts, []);
    await checkRest(agent, second);
  },
  async cancel(name) {
    const agent = client(name, {});
    const told = await run(agent, {}, async ({ type }) => {
      if (type !== "TEXT_MESSAGE_CONTENT") return;
      const answer = await fetch(`${SKEP_SERVER}/api/v1/calls/${agent.call}/cancel`, { method: "POST", headers });
      assert.equal(answer.status, 200);
    });
    assert.deepEqual(told.outcome, { type: "cancelled" });
    const lines = ["RUN_STARTED", "TEXT_MESSAGE_START m", "TEXT_MESSAGE_CONTENT m a", "TEXT_MESSAGE_END m", "RUN_FINISHED"];
    assert.deepEqual(told.lines, lines);
  },
  // Who goes away ends nothing: the run is there when they come again, and ends by its being cancelled.
  async abort(name) {
    const agent = client(name, {});
    const first = await run(agent, {}, ({ type }) => {
      if (type === "TEXT_MESSAGE_CONTENT") agent.abortRun();
    });
    assert.equal(line(first.frames.at(-1).event), "TEXT_MESSAGE_CONTENT m a");
    const { state } = await (await fetch(`${SKEP_SERVER}/api/v1/calls/${agent.call}`, { headers })).json();
    assert.equal(state, "running");
    agent.seen = first.frames.at(-1).id;
    const second = await run(agent, {}, async ({ type }) => {
      if (type !== "MESSAGES_SNAPSHOT") return;
      await fetch(`${SKEP_SERVER}/api/v1/calls/${agent.call}/cancel`, { method: "POST", headers });
    });
    assert.deepEqual(second.outcome, { type: "cancelled" });
    assert.equal(second.messages.at(-1).content, "a");
  },
  // It is cut while it goes on, in the middle of a text and of a call.
  async "goes on"(name) {
    const agent = client(name, {});
    agent.most = 7;
    await assert.rejects(run(agent), { message: CUT });
    assert.equal(complaints.splice(0).length, 1);
    Object.assign(agent, { seen: agent.frames.at(-1).id, most: undefined });
    const anew = client(name, {}, { threadId: agent.threadId });
    Object.assign(anew, { body: agent.body, runId: agent.runId, seen: agent.seen });
    let waiting = 2;
    const next = async ({ type, delta }) => {
      if (type === "STATE_SNAPSHOT" && --waiting === 0) await open(agent, "on-1");
      if (type === "STATE_DELTA" && delta[0].value === 2) await open(agent, "on-2");
    };
    const both = await Promise.all([run(agent, {}, next), run(anew, {}, next)]);
    for (const told of both) checkRun(right[name], agent, told);
    assert.deepEqual(both[0].lines, both[1].lines);
    assert.equal(both[0].lines.filter((it) => it.startsWith("TEXT_MESSAGE_CONTENT")).length, 1);
    await checkRest(agent, both[0]);
  },
  async "the same request twice"() {
    const agent = client("text", {});
    const [one, other] = await Promise.all([run(agent), run(Object.assign(client("text", {}, { threadId: agent.threadId }), { runId: agent.runId }))]);
    assert.deepEqual([one.lines, one.messages], [other.lines, other.messages]);
  },
};

const failures = [];
async function check(name, what) {
  complaints = [];
  try {
    await what();
    quiet();
  } catch (error) {
    failures.push(`${name}: ${error.message}${complaints.length > 0 ? `\ncomplaints: ${complaints.join("\n")}` : ""}`);
  }
}

const own = new Set(["cancel", "abort", "goes on"]);
const shapes = [...Object.entries(right).filter(([name]) => !own.has(name)), ...Object.values(plain).flatMap(Object.entries)];
const only = process.argv[2];
const wanted = ([name]) => only === undefined || name === only;
for (const [name, shape] of shapes.filter(wanted)) await check(name, () => checkShape(name, shape));
for (const [name, shape] of Object.entries(wrong).filter(wanted)) await check(`wrong: ${name}`, () => checkShape(name, shape));
for (const [name, flow] of Object.entries(flows).filter(wanted)) await check(`flow: ${name}`, () => flow(name));

for (const failure of failures) process.stderr.write(`${failure}\n\n`);
const counted = { right: shapes.length, wrong: Object.keys(wrong).length, flows: Object.keys(flows).length };
process.stdout.write(`${JSON.stringify({ ...counted, attached, failed: failures.length })}\n`);
process.exitCode = failures.length === 0 ? 0 : 1;
