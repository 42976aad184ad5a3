// The hook, in a page and against a server.

import "./dom.js";

import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { cleanup, render, waitFor } from "@testing-library/react";
import { Activity, type ReactNode, StrictMode, useEffect } from "react";

import { Client, NotFound, RunFailed, TimedOut, TooLarge } from "../src/index.js";
import { type AgentStream, type UseAgentStream, useAgentStream } from "../src/react.js";
import { fresh, openIn, straight, way, withProxy } from "./house.js";

type Given = Omit<UseAgentStream, "client" | "agent"> & Partial<Pick<UseAgentStream, "client" | "agent">>;

/** A conversation on a page, and each that was shown of it. */
function page(given: Given = {}, within: (it: ReactNode) => ReactNode = (it) => <StrictMode>{it}</StrictMode>) {
  const shown: AgentStream[] = [];
  function Conversation(props: Given) {
    const stream = useAgentStream({ client: way.client, agent: "agui", ...props });
    useEffect(() => void shown.push(stream));
    return <p>{stream.messages.map((it) => (typeof it.content === "string" ? it.content : "")).join("|")}</p>;
  }
  const { rerender, unmount, container } = render(within(<Conversation {...given} />));
  const now = (): AgentStream => shown.at(-1) as AgentStream;
  const until = (status: AgentStream["status"]): Promise<void> => waitFor(() => assert.equal(now().status, status, String(now().error)), { timeout: 20_000 });
  const said = (): unknown[] => now().messages.map((it) => it.content);
  const has = (text: string): Promise<void> => waitFor(() => assert(said().some((it) => it === text), JSON.stringify(said())), { timeout: 20_000 });
  return {
    shown, now, until, said, has, unmount, text: () => container.textContent,
    again: (more: Given, around = within) => rerender(around(<Conversation {...given} {...more} />)),
  };
}

const complaints: string[] = [];
const { warn, error } = console;

describe("the hook", () => {
  withProxy();
  beforeEach(() => {
    complaints.length = 0;
    console.warn = console.error = (...words: unknown[]) => void complaints.push(words.join(" "));
  });
  afterEach(() => {
    cleanup();
    Object.assign(console, { warn, error });
    assert.deepEqual(complaints, []);
  });

  test("shows what was asked and what is said", async () => {
    const it = page();
    assert.deepEqual([it.now().status, it.said(), it.now().state], ["idle", [], undefined]);
    const sent = it.now().send("text");
    await it.until("finished");
    await sent;
    assert.deepEqual(it.said(), ["text", "hello, wörld 🐝"]);
    assert.equal(it.text(), "text|hello, wörld 🐝");
    assert.equal((await straight.calls.get(it.now().callId ?? "")).state, "succeeded");
    // It grows, and nothing is there twice.
    for (const { messages } of it.shown) assert(["", "hello, ", "hello, wörld 🐝", undefined].includes(messages[1]?.content as string));
    await it.now().send("text");
    await it.until("finished");
    assert.equal(it.said()[2], "text");
  });

  test("keeps its functions", async () => {
    const it = page();
    const { send, resume, cancel, reset } = it.now();
    await send("text");
    await it.until("finished");
    assert.deepEqual([it.now().send, it.now().resume, it.now().cancel, it.now().reset], [send, resume, cancel, reset]);
  });

  test("shows state and calls as they become", async () => {
    const it = page({ initialState: { before: 1 } });
    assert.deepEqual(it.now().state, { before: 1 });
    void it.now().send("state");
    await it.until("finished");
    assert.deepEqual(it.now().state, { list: [2], "a/b~": null, first: 1, second: 1 });
    void it.now().send("tool");
    await waitFor(() => assert.equal(it.now().toolCalls.length, 1));
    await it.until("finished");
    const [call] = it.now().toolCalls;
    assert.deepEqual([call?.name, call?.arguments, call?.status, call?.result], ["weather", '{"city":"Paris"}', "answered", "sunny"]);
    const statuses = new Set(it.shown.flatMap((shown) => shown.toolCalls.map((use) => use.status)));
    assert(statuses.has("streaming"));
  });

  test("goes on where its connection was lost", async () => {
    const it = page();
    way.proxy.cutBehind(3);
    void it.now().send("cancel");
    await it.has("a");
    await waitFor(() => assert.equal(way.proxy.cuts, 1));
    await it.until("running");
    assert(it.shown.some((shown) => shown.status === "reconnecting"));
    way.proxy.cutAll();
    await waitFor(() => assert.equal(way.proxy.passed.filter((line) => line.endsWith("/agui")).length, 3), { timeout: 20_000 });
    await it.until("running");
    assert.deepEqual(it.said(), ["cancel", "a"]);
    await it.now().cancel();
    await it.until("cancelled");
  });

  test("asks what an interrupt asks", async () => {
    const it = page();
    void it.now().send("interrupt");
    await it.until("interrupted");
    const [interrupt] = it.now().interrupts;
    assert.equal(interrupt?.message, "May I?");
    await assert.rejects(it.now().resume([]), TypeError);
    void it.now().resume([{ interruptId: "i", status: "resolved", payload: { yes: true } }]);
    await it.until("finished");
    assert.deepEqual([it.said().at(-1), it.now().interrupts], ['i resolved {"yes":true}', []]);
    await assert.rejects(it.now().resume([{ interruptId: "i", status: "cancelled" }]), TypeError);
  });

  test("carries out tools of its own", async () => {
    const tools = [{ name: "weather", description: "The weather.", parameters: { type: "object" } }];
    const it = page({ tools });
    void it.now().send("a tool of the client");
    await it.until("finished");
    const [call] = it.now().toolCalls;
    assert.deepEqual([call?.isPending, call?.status], [true, "called"]);
    void it.now().send({ role: "tool", toolCallId: "c", content: "rain" });
    await it.has("You said rain.");
    await it.until("finished");
    assert.deepEqual(it.now().toolCalls.map((use) => [use.isPending, use.result]), [[false, "rain"]]);
  });

  test("cancels here and at the server", async () => {
    const it = page();
    const sent = it.now().send("cancel");
    await it.has("a");
    const { callId = "" } = it.now();
    await it.now().cancel();
    await it.until("cancelled");
    assert.equal((await straight.calls.get(callId)).state, "cancelled");
    await sent;
    assert.deepEqual([it.now().status, it.said(), it.now().error], ["cancelled", ["cancel", "a"], undefined]);
    await it.now().cancel();
  });

  test("cancels what is only on its way", async () => {
    const it = page();
    const sent = it.now().send("cancel");
    await it.now().cancel();
    await it.until("cancelled");
    await sent;
    const calls = straight.calls.list({ agent: "agui", pageSize: 1 });
    assert.equal((await calls.next()).value?.state, "cancelled");
    assert.deepEqual(it.said(), ["cancel"]);
  });

  test("drops what comes late of a run before", async () => {
    const it = page();
    const first = it.now().send("abort");
    await it.has("a");
    const { callId = "" } = it.now();
    const second = it.now().send("text");
    await Promise.all([first, second]);
    await it.until("finished");
    assert.deepEqual(it.said(), ["abort", "a", "text", "hello, wörld 🐝"]);
    await waitFor(async () => assert.equal((await straight.calls.get(callId)).state, "cancelled"), { timeout: 20_000 });
    assert.equal(it.now().status, "finished");
    assert(!it.shown.some((shown) => shown.status === "cancelled"));
  });

  test("ends what would be over its bounds, before it takes it", async () => {
    const it = page({ maxBufferBytes: 120_000 });
    void it.now().send("a long one");
    await it.until("failed");
    assert(it.now().error instanceof TooLarge);
    for (const { messages } of it.shown) assert(JSON.stringify(messages).length <= 120_000);
    assert.equal((it.said()[1] as string).length, 100_000);
  });

  test("sends no request over its bound", async () => {
    const it = page({ maxRequestBytes: 1_000 });
    void it.now().send("x".repeat(1_000));
    await it.until("failed");
    assert(it.now().error instanceof TooLarge);
    assert.deepEqual([it.said(), way.proxy.passed], [[], []]);
    void it.now().send("text");
    await it.until("finished");
    assert.equal(it.now().error, undefined);
  });

  test("gives up in time", async () => {
    const it = page({ timeout: 1_000 });
    void it.now().send("abort");
    await it.until("failed");
    assert(it.now().error instanceof TimedOut);
    assert.equal((await straight.calls.cancel(it.now().callId ?? "")).state, "cancelled");
  });

  test("says why it failed", async () => {
    const it = page();
    void it.now().send("error");
    await it.until("failed");
    const { error: failure } = it.now();
    assert(failure instanceof RunFailed);
    assert.deepEqual([failure.code, failure.message, it.said()], ["E1", "no luck", ["error", "a"]]);
    it.again({ agent: "nobody" });
    await it.until("idle");
    void it.now().send("text");
    await it.until("failed");
    assert(it.now().error instanceof NotFound);
  });

  test("begins anew", async () => {
    const it = page({ initialMessages: [{ id: "s", role: "system", content: "Be short." }] });
    void it.now().send("abort");
    await it.has("a");
    const { callId = "" } = it.now();
    it.now().reset();
    await it.until("idle");
    assert.deepEqual(it.said(), ["Be short."]);
    await waitFor(async () => assert.equal((await straight.calls.get(callId)).state, "cancelled"), { timeout: 20_000 });
    void it.now().send("text");
    await it.until("finished");
    assert.deepEqual(it.said(), ["Be short.", "text", "hello, wörld 🐝"]);
  });

  test("lets go of its connection when it is gone, and the run goes on", async () => {
    way.client = new Client({ server: way.proxy.url });
    const it = page();
    const sent = it.now().send("abort");
    await it.has("a");
    const { callId = "" } = it.now();
    const count = it.shown.length;
    it.unmount();
    await sent;
    await waitFor(() => assert.equal(way.proxy.open, 0), { timeout: 20_000 });
    assert.equal((await straight.calls.cancel(callId)).state, "cancelled");
    assert.equal(it.shown.length, count);
  });

  test("follows its run again when it is shown again", async () => {
    const within = (mode: "visible" | "hidden") => (it: ReactNode) => <Activity mode={mode}>{it}</Activity>;
    const threadId = fresh();
    const it = page({ threadId }, within("visible"));
    void it.now().send("goes on");
    await it.has("one ");
    it.again({}, within("hidden"));
    await waitFor(() => assert.equal(way.proxy.open, 0), { timeout: 20_000 });
    await openIn(threadId, "on-1");
    await openIn(threadId, "on-2");
    it.again({}, within("visible"));
    await it.until("finished");
    assert.deepEqual([it.said(), it.now().state], [["goes on", "one two"], { n: 2 }]);
    assert.deepEqual(it.now().toolCalls.map((use) => use.arguments), ["{}"]);
  });
});
