// Short words for the events of AG-UI, and for the lines that tell of them.

export const event = (type, fields = {}) => ({ type, ...fields });
export const start = (messageId, more) => event("TEXT_MESSAGE_START", { messageId, role: "assistant", ...more });
export const delta = (messageId, text) => event("TEXT_MESSAGE_CONTENT", { messageId, delta: text });
export const end = (messageId) => event("TEXT_MESSAGE_END", { messageId });
export const text = (messageId, ...deltas) => [start(messageId), ...deltas.map((it) => delta(messageId, it)), end(messageId)];
export const begin = (toolCallId, more) => event("TOOL_CALL_START", { toolCallId, toolCallName: "weather", ...more });
export const args = (toolCallId, it) => event("TOOL_CALL_ARGS", { toolCallId, delta: it });
export const ready = (toolCallId) => event("TOOL_CALL_END", { toolCallId });
export const result = (toolCallId, content, more) => event("TOOL_CALL_RESULT", { messageId: `${toolCallId}-r`, toolCallId, content, ...more });
export const patch = (...delta) => event("STATE_DELTA", { delta });
export const add = (path, value) => ({ op: "add", path, value });
export const started = event("RUN_STARTED", { threadId: "theirs", runId: "theirs" });
export const finished = (more) => event("RUN_FINISHED", { threadId: "theirs", runId: "theirs", ...more });
export const whole = (...events) => [started, ...events.flat(), finished()];

export const STARTED = "RUN_STARTED";
export const FINISHED = "RUN_FINISHED";
export const TEXT = (id, ...deltas) => [`TEXT_MESSAGE_START ${id}`, ...deltas.map((it) => `TEXT_MESSAGE_CONTENT ${id} ${it}`), `TEXT_MESSAGE_END ${id}`];
export const CALL = (id, ...deltas) => [`TOOL_CALL_START ${id} weather`, ...deltas.map((it) => `TOOL_CALL_ARGS ${id} ${it}`), `TOOL_CALL_END ${id}`];
export const ERROR = (code) => `RUN_ERROR ${code}`;
export const said = (id, content) => ({ id, role: "assistant", content });
export const called = (id, given, more) => ({ id, type: "function", function: { name: "weather", arguments: given }, ...more });
export const answered = (id, content) => ({ id: `${id}-r`, role: "tool", toolCallId: id, content });
