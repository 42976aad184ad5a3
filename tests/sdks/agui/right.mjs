// Agents of many shapes: what each says (`says`), what of it a client is shown (`shows`, a line for an event), and what the
// client has at the end: `messages` behind the question, `state`, `result` and the `outcome` of the run.

import {
  CALL, ERROR, FINISHED, STARTED, TEXT, add, answered, args, begin, called, delta, end, event, finished, patch, ready, result, said,
  start, started, text, whole,
} from "./words.mjs";

const interrupt = { id: "i", reason: "approval", message: "May I?", toolCallId: "c", responseSchema: { type: "object" } };

/** What agents say that keep to the protocol, or to one that was before it. */
export const right = {
  text: {
    says: whole(text("m", "hello, ", "wörld 🐝")),
    shows: [STARTED, ...TEXT("m", "hello, ", "wörld 🐝"), FINISHED],
    messages: [said("m", "hello, wörld 🐝")],
  },
  "bytes one by one": {
    says: [{ bytewise: whole(text("m", "wörld 🐝")).map((it) => `data: ${JSON.stringify(it)}\r\n\r\n`).join("") }],
    shows: [STARTED, ...TEXT("m", "wörld 🐝"), FINISHED],
    messages: [said("m", "wörld 🐝")],
  },
  "lines of all sorts": {
    says: [
      `\u{feff}: hello\n\nid: 7\nevent: x\nretry: 1\ndata: ${JSON.stringify(started)}\r\rdata\n\n`,
      `data:{"type":"TEXT_MESSAGE_START",\ndata: "messageId":"m","role":"assistant"}\n\n`,
      `data: ${JSON.stringify(delta("m", "a\u2028b\nc"))}\n\ndata: ${JSON.stringify(end("m"))}\r\n\r\n`,
      `data: ${JSON.stringify(finished())}\n\ndata: [DONE]\n\n`,
    ],
    shows: [STARTED, ...TEXT("m", "a\u2028b\nc"), FINISHED],
    messages: [said("m", "a\u2028b\nc")],
  },
  chunks: {
    says: whole(
      event("TEXT_MESSAGE_CHUNK", { messageId: "m", role: "assistant", delta: "a" }),
      event("TEXT_MESSAGE_CHUNK", { delta: "b" }),
      event("TOOL_CALL_CHUNK", { toolCallId: "c", toolCallName: "weather", parentMessageId: "m", delta: "{" }),
      event("TOOL_CALL_CHUNK", { delta: "}" }),
      event("REASONING_MESSAGE_CHUNK", { messageId: "z", delta: "hm" }),
    ),
    shows: [
      STARTED, ...TEXT("m", "a", "b"), ...CALL("c", "{", "}"),
      "REASONING_MESSAGE_START z", "REASONING_MESSAGE_CONTENT z hm", "REASONING_MESSAGE_END z", FINISHED,
    ],
    messages: [{ ...said("m", "ab"), toolCalls: [called("c", "{}")] }, { id: "z", role: "reasoning", content: "hm" }],
  },
  "texts side by side": {
    says: whole(start("m"), start("n"), delta("m", "a"), delta("n", "b"), end("n"), delta("m", "c"), end("m")),
    messages: [said("m", "ac"), said("n", "b")],
  },
  tool: {
    says: whole(
      text("m", "I look."), begin("c", { parentMessageId: "m" }), args("c", '{"city":'), args("c", '"Paris"}'), ready("c"),
      result("c", "sunny"), text("n", "It is sunny."),
    ),
    shows: [
      STARTED, ...TEXT("m", "I look."), ...CALL("c", '{"city":', '"Paris"}'), "TOOL_CALL_RESULT c sunny",
      ...TEXT("n", "It is sunny."), FINISHED,
    ],
    messages: [{ ...said("m", "I look."), toolCalls: [called("c", '{"city":"Paris"}')] }, answered("c", "sunny"), said("n", "It is sunny.")],
  },
  "calls side by side": {
    says: whole(begin("c"), begin("d"), args("c", "1"), args("d", "2"), ready("d"), ready("c"), result("d", "y"), result("c", "x")),
  },
  "result in parts": {
    says: whole(begin("c"), ready("c"), result("c", [{ type: "text", text: "x" }])),
  },
  "a tool of the client": {
    says: ({ body }) => {
      const told = body.messages.find((it) => it.role === "tool");
      return told ? whole(text("n", `You said ${told.content}.`)) : whole(begin("c"), args("c", "{}"), ready("c"));
    },
    shows: [STARTED, ...CALL("c", "{}"), FINISHED],
    messages: [{ id: "c", role: "assistant", toolCalls: [called("c", "{}")] }],
    outcome: { type: "success", pendingToolCallIds: ["c"] },
  },
  state: {
    says: whole(
      event("STATE_SNAPSHOT", { snapshot: { list: [1], "a/b~": 1, gone: true } }),
      patch(add("/list/-", 2), { op: "replace", path: "/a~1b~0", value: null }, { op: "remove", path: "/gone" }),
      patch({ op: "test", path: "/list/1", value: 2 }, { op: "move", from: "/list/0", path: "/first" }, { op: "copy", from: "/first", path: "/second" }),
    ),
    shows: [STARTED, "STATE_SNAPSHOT", "STATE_DELTA", "STATE_DELTA", FINISHED],
    state: { list: [2], "a/b~": null, first: 1, second: 1 },
  },
  "state of another sort": {
    says: whole(
      event("STATE_SNAPSHOT", { snapshot: [1] }), patch(add("/-", 2)), patch({ op: "replace", path: "", value: "text" }),
      event("STATE_SNAPSHOT", { snapshot: null }), patch(add("", { a: 1 })), patch(add("/", 2)), patch(add("/é", "é")),
    ),
    state: { a: 1, "": 2, é: "é" },
  },
  "state from a delta alone": { says: whole(patch(add("/a", { b: [] })), patch(add("/a/b/0", "x"))), state: { a: { b: ["x"] } } },
  "messages at once": {
    says: whole(text("m", "a"), event("MESSAGES_SNAPSHOT", { messages: [{ id: "q", role: "user", content: "messages at once" }, said("m", "b"), said("n", "c")] })),
    messages: [said("m", "b"), said("n", "c")],
  },
  interrupt: {
    says: ({ body }) => {
      if (body.resume === undefined) {
        return [started, begin("c"), args("c", "{}"), ready("c"), finished({ outcome: { type: "interrupt", interrupts: [interrupt] } })];
      }
      const [{ interruptId, status, payload }] = body.resume;
      return whole(result("c", "done"), text("m", `${interruptId} ${status} ${JSON.stringify(payload)}`));
    },
    shows: [STARTED, ...CALL("c", "{}"), FINISHED],
    messages: [{ id: "c", role: "assistant", toolCalls: [called("c", "{}")] }],
    outcome: { type: "interrupt", interrupts: [interrupt] },
  },
  reasoning: {
    says: whole(
      event("REASONING_START", { messageId: "s" }), event("REASONING_MESSAGE_START", { messageId: "z", role: "reasoning" }),
      event("REASONING_MESSAGE_CONTENT", { messageId: "z", delta: "hm" }), event("REASONING_MESSAGE_END", { messageId: "z" }),
      event("REASONING_ENCRYPTED_VALUE", { subtype: "message", entityId: "z", encryptedValue: "x" }), event("REASONING_END", { messageId: "s" }),
      text("m", "yes"),
    ),
    shows: [
      STARTED, "REASONING_START s", "REASONING_MESSAGE_START z", "REASONING_MESSAGE_CONTENT z hm", "REASONING_MESSAGE_END z",
      "REASONING_ENCRYPTED_VALUE", "REASONING_END s", ...TEXT("m", "yes"), FINISHED,
    ],
    messages: [{ id: "z", role: "reasoning", content: "hm", encryptedValue: "x" }, said("m", "yes")],
  },
  "thoughts of before 1.0": {
    says: whole(
      event("THINKING_START", { title: "t" }), event("THINKING_TEXT_MESSAGE_START"), event("THINKING_TEXT_MESSAGE_CONTENT", { delta: "hm" }),
      event("THINKING_TEXT_MESSAGE_END"), event("THINKING_END"), text("m", "yes"),
    ),
    rough: [{ role: "reasoning", content: "hm" }, { role: "assistant", content: "yes" }],
  },
  "words of Python": {
    says: [
      { type: "RUN_STARTED", thread_id: "x", run_id: "y", timestamp: null, raw_event: null },
      { type: "TEXT_MESSAGE_START", message_id: "m", role: "assistant", name: null },
      { type: "TEXT_MESSAGE_CONTENT", message_id: "m", delta: "a", timestamp: null }, { type: "TEXT_MESSAGE_END", message_id: "m" },
      { type: "TOOL_CALL_START", tool_call_id: "c", tool_call_name: "weather", parent_message_id: null },
      { type: "TOOL_CALL_END", tool_call_id: "c" }, { type: "RUN_FINISHED", thread_id: "x", run_id: "y", result: null, outcome: null },
    ],
    shows: [STARTED, ...TEXT("m", "a"), ...CALL("c"), FINISHED],
  },
  steps: {
    says: whole(event("STEP_STARTED", { stepName: "s" }), text("m", "a"), event("STEP_FINISHED", { stepName: "s" })),
    shows: [STARTED, "STEP_STARTED s", ...TEXT("m", "a"), "STEP_FINISHED s", FINISHED],
  },
  activities: {
    says: whole(
      event("ACTIVITY_SNAPSHOT", { messageId: "v", activityType: "plan", content: { steps: ["a"] } }),
      event("ACTIVITY_DELTA", { messageId: "v", activityType: "plan", patch: [add("/steps/-", "b")] }),
      event("ACTIVITY_SNAPSHOT", { messageId: "v", activityType: "plan", content: { steps: [] }, replace: false }),
    ),
    messages: [{ id: "v", role: "activity", activityType: "plan", content: { steps: ["a", "b"] } }],
  },
  subagents: {
    says: whole(
      event("SUBAGENT_STARTED", { subagentRunId: "s", name: "n" }), event("STEP_STARTED", { subagentRunId: "s", stepName: "x" }),
      text("m", "a").map((it) => ({ ...it, subagentRunId: "s" })), event("STEP_FINISHED", { subagentRunId: "s", stepName: "x" }),
      event("SUBAGENT_FINISHED", { subagentRunId: "s", result: 1 }), event("SUBAGENT_STARTED", { subagentRunId: "t", name: "n" }),
      event("SUBAGENT_ERROR", { subagentRunId: "t", message: "no" }), text("n", "b"),
    ),
    messages: [{ ...said("m", "a"), subagentRunId: "s" }, said("n", "b")],
  },
  "what is its own": {
    says: whole(
      event("CUSTOM", { name: "UI_RENDER_HINT", value: { k: [null] }, timestamp: 5, metadata: { a: 1 }, rawEvent: { x: 1 } }),
      event("RAW", { event: { x: null }, source: "s" }), finished({ result: { a: [1] }, usage: [{ model: "m", inputTokens: 1, outputTokens: 2 }] }),
    ),
    shows: [STARTED, "CUSTOM UI_RENDER_HINT", "RAW", FINISHED],
    result: { a: [1] },
  },
  error: {
    says: [started, start("m"), delta("m", "a"), event("RUN_ERROR", { message: "no luck", code: "E1" })],
    shows: [STARTED, "TEXT_MESSAGE_START m", "TEXT_MESSAGE_CONTENT m a", "TEXT_MESSAGE_END m", ERROR("E1")],
  },
  "cut attempt": {
    says: ({ attempt }) => (attempt === 1
      ? [started, start("m"), delta("m", "lost"), begin("c"), event("STEP_STARTED", { stepName: "s" }), patch(add("/lost", 1)), { gate: "cut" }, { die: true }]
      : whole(text("m", "kept"), patch(add("/kept", 1)))),
    messages: [said("m", "kept")],
    state: { kept: 1 },
    gates: ["cut"],
  },
  // What the client is to answer has the agent's own name, whatever an attempt that was cut called so.
  "cut attempt with a tool": {
    says: ({ body, attempt }) => {
      if (attempt === 1) return [started, begin("c"), args("c", "lost"), { gate: "cut-tool" }, { die: true }];
      const told = body.messages.find((it) => it.role === "tool");
      return told ? whole(text("m", told.toolCallId)) : whole(begin("c"), args("c", "{}"), ready("c"));
    },
    messages: [{ id: "c", role: "assistant", toolCalls: [called("c", "{}")] }],
    outcome: { type: "success", pendingToolCallIds: ["c"] },
    gates: ["cut-tool"],
  },
  // An attempt that is cut behind its end has not ended: what is shown at last is what is kept.
  "cut behind the end": {
    says: ({ attempt }) => (attempt === 1 ? [...whole(text("m", "lost")), { gate: "cut-end" }, { die: true }] : whole(text("m", "kept"))),
    rough: [{ role: "assistant", content: "kept" }],
    gates: ["cut-end"],
  },
  // A subagent's name may be had once in a run.
  "cut attempt with a subagent": {
    says: ({ attempt }) => {
      const all = [event("SUBAGENT_STARTED", { subagentRunId: "s", name: "n" }), ...text("m", attempt === 1 ? "lost" : "kept").map((it) => ({ ...it, subagentRunId: "s" }))];
      return attempt === 1 ? [started, ...all, { gate: "cut-subagent" }, { die: true }] : whole(all, event("SUBAGENT_FINISHED", { subagentRunId: "s" }));
    },
    rough: [{ role: "assistant", content: "kept" }],
    gates: ["cut-subagent"],
  },
  "goes on": {
    says: [
      started, event("STEP_STARTED", { stepName: "s" }), start("m"), delta("m", "one "), begin("c", { parentMessageId: "m" }), args("c", "{"),
      event("STATE_SNAPSHOT", { snapshot: { n: 1 } }), { gate: "on-1" }, delta("m", "two"), args("c", "}"), patch(add("/n", 2)), { gate: "on-2" },
      ready("c"), end("m"), event("STEP_FINISHED", { stepName: "s" }), finished(),
    ],
    messages: [{ ...said("m", "one two"), toolCalls: [called("c", "{}")] }],
    state: { n: 2 },
  },
  cancel: { says: [started, start("m"), delta("m", "a"), { gate: "never" }] },
  abort: { says: [started, start("m"), delta("m", "a"), { gate: "never" }] },
  "a long one": {
    says: [started, start("m"), ...Array.from({ length: 20 }, () => delta("m", "x".repeat(50_000))), end("m"), finished()],
    messages: [said("m", "x".repeat(1_000_000))],
  },
  "the question's own id": {
    says: whole(text("q", "a"), begin("q"), ready("q"), result("q", "x")),
    rough: [{ role: "assistant", content: "a" }, { role: "assistant", content: undefined }, { role: "tool", content: "x" }],
  },
};

/** Agents that speak nothing of AG-UI, by the protocol of their manifest. */
export const plain = {
  http: {
    "http: text": { type: "text/plain; charset=utf-8", says: ["hello, ", Uint8Array.of(0xc3), Uint8Array.of(0xb6)], rough: [{ role: "assistant", content: "hello, ö" }] },
    "http: JSON": { type: "application/json", says: ['{"output":"hello","n":1}'], rough: [{ role: "assistant", content: "hello" }], result: { output: "hello", n: 1 } },
    "http: no text": { type: "application/json", says: ['{"n":1}'], rough: [], result: { n: 1 } },
    "http: stream of texts": { says: ["data: one\n\n", 'data: {"text":" two"}\n\n', "data: [DONE]\n\n"], rough: [{ role: "assistant", content: "one two" }] },
    "http: AG-UI": { says: whole(text("m", "a")), messages: [said("m", "a")] },
    "http: lines": { type: "application/x-ndjson", says: ['{"text":"a"}\n{"delta":"b"}\n'], rough: [{ role: "assistant", content: "ab" }] },
    "http: chat": {
      says: [
        { object: "chat.completion.chunk", choices: [{ index: 0, delta: { role: "assistant", content: "a" } }] },
        { object: "chat.completion.chunk", choices: [{ index: 0, delta: { tool_calls: [{ index: 0, id: "c", type: "function", function: { name: "weather", arguments: "{}" } }] } }] },
        { object: "chat.completion.chunk", choices: [{ index: 0, delta: {}, finish_reason: "tool_calls" }] }, "data: [DONE]\n\n",
      ],
      rough: [{ role: "assistant", content: "a", toolCalls: [called("c", "{}")] }],
    },
    "http: refusal": { status: 404, type: "application/json", says: ['{"error":{"message":"no such thing"}}'], shows: [STARTED, ERROR("agent_failed")] },
    "http: nothing": { status: 204, type: "text/plain", says: [], rough: [] },
  },
  invocations: {
    "invocations: JSON": { type: "application/json", says: ['{"response":"hello","status":"success"}'], rough: [{ role: "assistant", content: "hello" }] },
    "invocations: stream": { says: ['data: "one"\n\n', 'data: " two"\n\n'], rough: [{ role: "assistant", content: "one two" }] },
  },
  responses: {
    "responses: stream": {
      says: [
        { type: "response.created", response: { id: "resp", status: "in_progress" } },
        { type: "response.output_item.added", output_index: 0, item: { type: "message", id: "msg", role: "assistant", content: [] } },
        { type: "response.output_text.delta", item_id: "msg", output_index: 0, content_index: 0, delta: "hello" },
        { type: "response.output_text.done", item_id: "msg", output_index: 0, content_index: 0, text: "hello" },
        { type: "response.completed", response: { id: "resp", status: "completed", usage: { input_tokens: 1, output_tokens: 1 } } },
      ],
      rough: [{ role: "assistant", content: "hello" }],
    },
    "responses: cut": { says: [{ type: "response.output_text.delta", item_id: "msg", delta: "a" }], ends: ERROR("agent_incomplete") },
  },
};
for (const [protocol, all] of Object.entries(plain)) for (const it of Object.values(all)) it.protocol = protocol;
