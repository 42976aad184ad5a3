// Agents that do not keep to the protocol. Of each the client is shown a right sequence: what can be understood (`shows`,
// `messages`, `state`), or a clean error at its end (`ends`).

import {
  CALL, ERROR, FINISHED, STARTED, TEXT, add, args, begin, called, delta, end, event, finished, patch, ready, result, said, start, started,
  text, whole,
} from "./words.mjs";

const MALFORMED = ERROR("agent_malformed");
const INCOMPLETE = ERROR("agent_incomplete");
const TOO_MUCH = ERROR("agent_too_much");
const FAILED = ERROR("agent_failed");
const a = said("m", "a");
const before = [started, ...text("m", "a")];
const snapshot = (it) => event("STATE_SNAPSHOT", { snapshot: it });
const broken = (says, ends = MALFORMED) => ({ says: [...before, says], messages: [a], ends });
const refused = (...patches) => ({ says: whole(snapshot({ a: 1, l: [1], t: "x" }), patches, text("m", "a")), messages: [a], state: { a: 1, l: [1], t: "x" } });
const shown = (says, ...shows) => ({ says, shows: [STARTED, ...shows.flat(), FINISHED] });

/** Streams that are no streams of events, or none of this protocol. */
const streams = {
  "bad JSON": broken('data: {"type":"TEXT_MESSAGE_START","messageId"\n\n'),
  "no object": broken("data: 17\n\n"),
  "a list": broken('data: [{"type":"RUN_FINISHED"}]\n\n'),
  "a text": broken("data: hello\n\n"),
  "half a character": broken(Uint8Array.from([...Buffer.from('data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"'), 0xc3, ...Buffer.from('"}\n\n')])),
  "half a pair": broken('data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"\\ud83d"}\n\n'),
  "very deep": broken(`data: {"type":"CUSTOM","name":"x","value":${"[".repeat(5000)}${"]".repeat(5000)}}\n\n`),
  "no number": broken('data: {"type":"CUSTOM","name":"x","value":NaN}\n\n'),
  "a huge number": broken('data: {"type":"CUSTOM","name":"x","value":1e400}\n\n'),
  "a frame that breaks off": { says: [...before, 'data: {"type":"TEXT_MESS', { cut: true }], ends: ERROR("call-dead") },
  "a last frame without its end": { says: [...before, `data: ${JSON.stringify(finished())}`], messages: [a], shows: [STARTED, ...TEXT("m", "a"), FINISHED] },
  "a last frame cut off": { says: [...before, 'data: {"type":"RUN_FINI'], messages: [a], ends: MALFORMED },
  "no end": { says: before, messages: [a], ends: INCOMPLETE },
  "no end, all open": {
    says: [started, event("STEP_STARTED", { stepName: "s" }), start("m"), delta("m", "a"), begin("c"), args("c", "{"), event("REASONING_START", { messageId: "z" })],
    ends: INCOMPLETE,
  },
  nothing: { says: [], shows: [STARTED, INCOMPLETE] },
  "comments alone": { says: [": a\n\n", "id: 1\n\n", "event: x\n\n"], shows: [STARTED, INCOMPLETE] },
  "a page": { type: "text/html", says: ["<html>sorry</html>"], shows: [STARTED, MALFORMED] },
  "JSON that is none": { type: "application/json", says: ["{"], shows: [STARTED, MALFORMED] },
  "JSON that is no event": { type: "application/json", says: ['{"answer":1}'], shows: [STARTED, MALFORMED] },
  "a refusal": { status: 400, type: "application/json", says: ['{"detail":"no such thing"}'], shows: [STARTED, FAILED] },
  "a redirection": { status: 302, type: "text/plain", says: [], shows: [STARTED, FAILED] },
  "too long a frame": broken(`data: {"type":"CUSTOM","name":"x","value":"${"x".repeat(9 << 20)}"}\n\n`, TOO_MUCH),
  "a line without an end": broken(`data: ${"x".repeat(9 << 20)}`, TOO_MUCH),
};

/** Events that are not as the schema has them. */
const events = {
  "no type": broken({ messageId: "m" }),
  "type of another sort": broken({ type: 7 }),
  "type that nobody knows": shown(whole({ type: "NEW_THING", a: 1 }, text("m", "a")), "RAW", TEXT("m", "a")),
  "type in small letters": { says: [{ type: "run_started" }, ...text("m", "a"), { type: "RunFinished" }], messages: [a] },
  "type __proto__": shown(whole({ type: "__proto__" }, { type: "constructor" }), "RAW", "RAW"),
  "field that nobody knows": { says: whole(start("m", { colour: "red" }), delta("m", "a"), end("m")), messages: [a] },
  "field that is missing": broken(event("TEXT_MESSAGE_CONTENT", { messageId: "m" })),
  "field that is null": broken(event("TEXT_MESSAGE_CONTENT", { messageId: "m", delta: null })),
  "field of another sort": broken(event("TOOL_CALL_ARGS", { toolCallId: "c", delta: { a: 1 } })),
  "id of another sort": broken(event("TEXT_MESSAGE_START", { messageId: 7 })),
  "role that there is not": { says: whole(start("m", { role: "robot" }), delta("m", "a"), end("m")), messages: [a] },
  "deltas that are empty": { says: whole(text("m", "", "a", "")), messages: [a] },
  "ids that are empty": { says: whole(text("", "a"), text("", "b"), begin(""), ready("")), rough: [{ role: "assistant", content: "a" }, { role: "assistant", content: "b" }, { role: "assistant", content: undefined }] },
  "too long an id": { says: [started, start("x".repeat(2000))], shows: [STARTED, TOO_MUCH] },
  "outcome that there is not": { says: [...before, finished({ outcome: { type: "perhaps" } })], messages: [a] },
  "interrupts of none": { says: [...before, finished({ outcome: { type: "interrupt", interrupts: [] } })], messages: [a] },
  "error without a message": { says: [...before, { type: "RUN_ERROR" }], messages: [a], error: true },
  "error that is an object": { says: [...before, { type: "RUN_ERROR", error: { message: "no", x: 1 } }], messages: [a], error: true },
  "error that moves the cursor": { says: [started, { type: "RUN_ERROR", message: "\u001b[2Jno\u202e" }], error: true, told: "[2Jno" },
  "usage of another sort": { says: [...before, finished({ usage: { inputTokens: -1 } })], messages: [a] },
  "snapshot without messages": broken(event("MESSAGES_SNAPSHOT", { messages: 7 })),
  "snapshot of a message without an id": broken(event("MESSAGES_SNAPSHOT", { messages: [{ role: "user", content: "x" }] })),
  "snapshot with ids twice": { says: whole(event("MESSAGES_SNAPSHOT", { messages: [said("m", "a"), said("m", "b")] })), ids: true },
  "time of another sort": { says: whole(event("CUSTOM", { name: "x", value: 1, timestamp: "today" }), text("m", "a")), messages: [a] },
};

/** Events that are right each and are not in order. */
const orders = {
  "text without a start": { says: whole(delta("m", "a"), end("m")), messages: [a] },
  "ends without starts": shown(whole(end("m"), ready("c"), event("STEP_FINISHED", { stepName: "s" }), event("REASONING_END", { messageId: "z" }), text("m", "a")), TEXT("m", "a")),
  "starts twice": { says: whole(start("m"), start("m"), delta("m", "a"), end("m"), end("m")), shows: [STARTED, ...TEXT("m", "a"), FINISHED] },
  "text after its end": { says: whole(text("m", "a"), delta("m", "b")), ids: true },
  "the same text twice": { says: whole(text("m", "a"), text("m", "b")), ids: true },
  "arguments without a call": { says: whole(args("c", "{}")), ids: true },
  "arguments after the end": { says: whole(begin("c"), args("c", "{}"), ready("c"), args("c", "x")), messages: [{ id: "c", role: "assistant", toolCalls: [called("c", "{}")] }] },
  "the same call twice": { says: whole(begin("c"), ready("c"), begin("c"), args("c", "x"), ready("c")), ids: true },
  "result without a call": { says: whole(result("c", "x"), text("m", "a")), ids: true },
  "result twice": { says: whole(begin("c"), ready("c"), result("c", "x"), result("c", "y")), ids: true },
  "result before the end": shown(whole(begin("c"), args("c", "{}"), result("c", "x"), ready("c")), CALL("c", "{}"), "TOOL_CALL_RESULT c x"),
  "call of a parent that there is not": { says: whole(begin("c", { parentMessageId: "none" }), ready("c")), ids: true },
  "call of a person": { says: whole(begin("c", { parentMessageId: "q" }), ready("c")), ids: true },
  "call of a result": { says: whole(begin("c"), ready("c"), result("c", "x"), begin("d", { parentMessageId: "c-r" }), ready("d")), ids: true },
  "one id for all": { says: whole(text("m", "a"), begin("m"), ready("m"), event("REASONING_MESSAGE_START", { messageId: "m", role: "reasoning" }), event("REASONING_MESSAGE_END", { messageId: "m" }), event("ACTIVITY_SNAPSHOT", { messageId: "m", activityType: "x", content: {} })), ids: true },
  "nothing closed": { says: [started, event("STEP_STARTED", { stepName: "s" }), start("m"), delta("m", "a"), begin("c"), finished()], ids: true },
  "closed the wrong way round": { says: whole(event("STEP_STARTED", { stepName: "s" }), event("STEP_STARTED", { stepName: "t" }), start("m"), begin("c"), event("STEP_FINISHED", { stepName: "s" }), end("m"), ready("c"), event("STEP_FINISHED", { stepName: "t" })), ids: true },
  "no start of the run": { says: [...text("m", "a"), finished()], shows: [STARTED, ...TEXT("m", "a"), FINISHED] },
  "started twice": { says: [started, ...before, started, finished()], shows: [STARTED, ...TEXT("m", "a"), FINISHED] },
  "text behind the end": { says: [...before, finished(), ...text("n", "b")], shows: [STARTED, ...TEXT("m", "a"), FINISHED] },
  "ended twice": { says: [...before, finished(), finished(), event("RUN_ERROR", { message: "no" })], shows: [STARTED, ...TEXT("m", "a"), FINISHED] },
  "text behind an error": { says: [started, event("RUN_ERROR", { message: "no", code: "E" }), ...text("m", "a"), finished()], shows: [STARTED, ERROR("E")] },
  "bad JSON behind the end": { says: [...before, finished(), "data: {\n\n"], shows: [STARTED, ...TEXT("m", "a"), FINISHED] },
  "chunks of nothing": { says: whole(event("TEXT_MESSAGE_CHUNK"), event("TOOL_CALL_CHUNK"), event("REASONING_MESSAGE_CHUNK"), text("m", "a")), ids: true },
  "chunks between texts": { says: whole(start("m"), event("TEXT_MESSAGE_CHUNK", { messageId: "n", delta: "b" }), delta("m", "a"), event("TOOL_CALL_CHUNK", { toolCallId: "c", toolCallName: "weather" }), end("m"), event("TEXT_MESSAGE_CHUNK", { delta: "c" })), ids: true },
  "thoughts without a start": { says: whole(event("REASONING_MESSAGE_CONTENT", { messageId: "z", delta: "hm" }), event("REASONING_END", { messageId: "z" })), ids: true },
  "thought within a text": { says: whole(start("m"), event("REASONING_START", { messageId: "z" }), delta("m", "a"), end("m")), messages: [a] },
  "value of what there is not": { says: whole(event("REASONING_ENCRYPTED_VALUE", { subtype: "tool-call", entityId: "none", encryptedValue: "x" }), text("m", "a")), messages: [a] },
  "subagent that there is not": { says: whole(text("m", "a").map((it) => ({ ...it, subagentRunId: "none" }))), ids: true },
  "subagent that ends and goes on": { says: whole(event("SUBAGENT_STARTED", { subagentRunId: "s", name: "n" }), event("SUBAGENT_FINISHED", { subagentRunId: "s" }), text("m", "a").map((it) => ({ ...it, subagentRunId: "s" })), event("SUBAGENT_ERROR", { subagentRunId: "s", message: "x" })), ids: true },
  "subagent that does not end": { says: whole(event("SUBAGENT_STARTED", { subagentRunId: "s", name: "n" }), event("SUBAGENT_STARTED", { subagentRunId: "t", name: "n", parentSubagentRunId: "s" })), ids: true },
  "text of two owners": { says: whole(event("SUBAGENT_STARTED", { subagentRunId: "s", name: "n" }), start("m"), { ...delta("m", "a"), subagentRunId: "s" }, end("m"), event("SUBAGENT_FINISHED", { subagentRunId: "s" })), messages: [a] },
  "activity that there is not": { says: whole(event("ACTIVITY_DELTA", { messageId: "v", activityType: "x", patch: [add("/a", 1)] }), text("m", "a")), messages: [a] },
  "activity that is a text": { says: whole(text("m", "a"), event("ACTIVITY_DELTA", { messageId: "m", activityType: "x", patch: [add("/a", 1)] })), messages: [a] },
  "snapshot within a text": { says: whole(start("m"), delta("m", "x"), event("MESSAGES_SNAPSHOT", { messages: [{ id: "q", role: "user", content: "x" }] }), delta("m", "a"), end("m")), ids: true },
  "snapshot within a call": { says: whole(begin("c"), args("c", "{"), event("MESSAGES_SNAPSHOT", { messages: [] }), args("c", "}"), ready("c"), result("c", "x")), ids: true },
  "steps of one name": { says: whole(event("STEP_STARTED", { stepName: "s" }), event("STEP_STARTED", { stepName: "s" }), event("STEP_FINISHED", { stepName: "s" }), event("STEP_FINISHED", { stepName: "s" })), shows: [STARTED, "STEP_STARTED s", "STEP_FINISHED s", FINISHED] },
};

/** Patches that do not apply: nothing of one is done. */
const patches = {
  "patch of nowhere": refused(patch(add("/x/y", 1)), patch({ op: "remove", path: "/no" }), patch({ op: "replace", path: "/no", value: 1 })),
  "patch half of which applies": refused(patch(add("/new", 1), { op: "test", path: "/a", value: 2 })),
  "patch of a list's place that there is not": refused(patch(add("/l/5", 1)), patch(add("/l/01", 1)), patch(add("/l/-1", 1)), patch(add("/l/x", 1)), patch({ op: "remove", path: "/l/-" })),
  "patch of a text's inside": refused(patch(add("/t/0", "y")), patch(add("/t/length", 5)), patch(add("/a/b", 1))),
  "patch into itself": refused(patch({ op: "move", from: "", path: "/a" }), patch({ op: "move", from: "/l", path: "/l/0" })),
  "patch from nowhere": refused(patch({ op: "copy", from: "/no", path: "/b" }), patch({ op: "move", from: "/no", path: "/b" })),
  "patch of prototypes": refused(patch(add("/__proto__/polluted", 1)), patch(add("/constructor/prototype/polluted", 1)), patch(add("/l/__proto__/polluted", 1))),
  "patch of a prototype's name": refused(patch(add("/__proto__", { polluted: 1 }))),
  "patch whose value has a prototype's name": { says: [started, snapshot({}), `data: {"type":"STATE_DELTA","delta":[{"op":"add","path":"/a","value":{"__proto__":{"polluted":1}}}]}\n\n`, finished()] },
  "state of a prototype's name": { says: [started, `data: {"type":"STATE_SNAPSHOT","snapshot":{"__proto__":{"polluted":1}}}\n\n`, patch(add("/__proto__/more", 1)), patch({ op: "copy", from: "/__proto__", path: "/c" }), patch({ op: "test", path: "/__proto__/polluted", value: 1 }), patch(add("/b", 1)), finished()] },
  "state with a constructor": {
    says: whole(snapshot({ constructor: { prototype: 1 } }), patch({ op: "replace", path: "/constructor/prototype", value: 2 }), patch({ op: "move", from: "/constructor/prototype", path: "/c" }), patch(add("/constructor/x", 1)), patch(add("/prototype", 1))),
    state: { constructor: { prototype: 1, x: 1 }, prototype: 1 },
  },
  "activity of a prototype's name": {
    says: whole(event("ACTIVITY_SNAPSHOT", { messageId: "v", activityType: "x", content: { a: 1 } }), event("ACTIVITY_DELTA", { messageId: "v", activityType: "x", patch: [add("/__proto__", { polluted: 1 })] })),
    messages: [{ id: "v", role: "activity", activityType: "x", content: { a: 1 } }],
  },
  "patch of another sort": broken(event("STATE_DELTA", { delta: { a: 1 } })),
  "operation that there is not": broken(patch({ op: "spoil", path: "/a" })),
  "operation without a value": broken(patch({ op: "add", path: "/a" })),
  "pointer that is none": broken(patch(add("a", 1))),
  "pointer that is odd": broken(patch(add("/~2", 1))),
  "patch of an activity that does not apply": {
    says: whole(event("ACTIVITY_SNAPSHOT", { messageId: "v", activityType: "x", content: { a: 1 } }), event("ACTIVITY_DELTA", { messageId: "v", activityType: "x", patch: [add("/b/c", 1)] }), event("ACTIVITY_DELTA", { messageId: "v", activityType: "x", patch: [{ op: "replace", path: "", value: 7 }] })),
    messages: [{ id: "v", role: "activity", activityType: "x", content: { a: 1 } }],
  },
  "test of an order of keys": { says: whole(snapshot({ o: { a: 1, b: 2 } }), patch({ op: "test", path: "/o", value: { b: 2, a: 1 } }, add("/ok", true))), state: { o: { a: 1, b: 2 }, ok: true } },
  "test of numbers": { says: whole(snapshot({ n: 1 }), [event("STATE_DELTA", { delta: [{ op: "test", path: "/n", value: 1.0 }, add("/ok", true)] })]), state: { n: 1, ok: true } },
  "state that is a text": { says: whole(snapshot("x"), patch(add("/a", 1)), patch({ op: "replace", path: "", value: { a: 1 } })), state: { a: 1 } },
  "root that goes": { says: whole(snapshot({ a: 1 }), patch({ op: "remove", path: "" }), patch(add("/b", 1))) },
};

export const wrong = { ...streams, ...events, ...orders, ...patches };
