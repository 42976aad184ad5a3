// The events of AG-UI 1.0 as the published schema has them (https://ag-ui.com/spec/1.0/schema.json), and what a client asks.

import { type Of, any, fields, flag, list, may, object, oneOf, pointer, some, tagged, text, textOr, whole } from "./shape.js";

const owner = { subagentRunId: may(text) };
const metadata = { metadata: may(object) };
const role = oneOf("developer", "system", "assistant", "user");
const texts = list(text);

const source = tagged("type", { value: text }, {
  data: { mimeType: text },
  url: { mimeType: may(text) },
  file: { provider: may(text), mimeType: may(text) },
});
const media = { source };
const part = tagged("type", { id: may(text), metadata: may(any) }, {
  text: { text },
  image: media,
  audio: media,
  video: media,
  document: media,
});
const content = textOr(list(part));

const operation = tagged("op", { path: pointer }, {
  add: { value: any },
  remove: {},
  replace: { value: any },
  move: { from: pointer },
  copy: { from: pointer },
  test: { value: any },
});
const patch = list(operation);

const toolCall = fields({
  id: text,
  type: oneOf("function"),
  function: fields({ name: text, arguments: text }),
  encryptedValue: may(text),
  ...metadata,
});

const plain = { content: text, name: may(text) };
const message = tagged("role", { id: text, ...owner, encryptedValue: may(text), ...metadata }, {
  developer: plain,
  system: plain,
  assistant: { content: may(text), toolCalls: may(list(toolCall)), name: may(text) },
  user: { content, name: may(text) },
  tool: { content, toolCallId: text, error: may(text) },
  activity: { activityType: text, content: object },
  reasoning: { content: text },
});

const interrupt = fields({
  ...owner,
  id: text,
  reason: text,
  message: may(text),
  toolCallId: may(text),
  responseSchema: may(object),
  expiresAt: may(text),
  ...metadata,
});
const outcome = tagged("type", {}, {
  success: { pendingToolCallIds: may(texts) },
  interrupt: { interrupts: some(interrupt) },
  cancelled: {},
});
const count = may(whole(0));
const usage = list(fields({
  provider: may(text),
  model: may(text),
  inputTokens: count,
  outputTokens: count,
  totalTokens: count,
  reasoningTokens: count,
  cachedInputTokens: count,
  cacheWriteInputTokens: count,
}));

const resume = fields({ interruptId: text, status: oneOf("resolved", "cancelled"), payload: may(any), ...metadata });
const tool = fields({ name: text, description: text, parameters: may(any), ...metadata });
const context = fields({ description: text, value: text });
const input = fields({
  threadId: text,
  runId: text,
  protocolVersion: may(text),
  parentRunId: may(text),
  state: may(any),
  messages: list(message),
  tools: may(list(tool)),
  context: may(list(context)),
  forwardedProps: may(any),
  resume: may(list(resume)),
});

const messageId = { ...owner, messageId: text };
const toolCallId = { ...owner, toolCallId: text };
const delta = { delta: text };
const activity = { ...messageId, activityType: text };
const subagent = { subagentRunId: text };

const TYPES = {
  TEXT_MESSAGE_START: { ...messageId, role: may(role), name: may(text) },
  TEXT_MESSAGE_CONTENT: { ...messageId, ...delta },
  TEXT_MESSAGE_END: messageId,
  TEXT_MESSAGE_CHUNK: { ...owner, messageId: may(text), role: may(role), delta: may(text), name: may(text) },
  TOOL_CALL_START: { ...toolCallId, toolCallName: text, parentMessageId: may(text) },
  TOOL_CALL_ARGS: { ...toolCallId, ...delta },
  TOOL_CALL_END: toolCallId,
  TOOL_CALL_CHUNK: { ...owner, toolCallId: may(text), toolCallName: may(text), parentMessageId: may(text), delta: may(text) },
  TOOL_CALL_RESULT: { ...messageId, toolCallId: text, content, role: may(oneOf("tool")) },
  STATE_SNAPSHOT: { ...owner, snapshot: any },
  STATE_DELTA: { ...owner, delta: patch },
  MESSAGES_SNAPSHOT: { messages: list(message) },
  ACTIVITY_SNAPSHOT: { ...activity, content: object, replace: may(flag) },
  ACTIVITY_DELTA: { ...activity, patch },
  RAW: { ...owner, event: any, source: may(text) },
  CUSTOM: { ...owner, name: text, value: any },
  RUN_STARTED: { threadId: text, runId: text, protocolVersion: may(text), parentRunId: may(text), input: may(input) },
  RUN_FINISHED: { threadId: text, runId: text, result: may(any), outcome: may(outcome), usage: may(usage) },
  RUN_ERROR: { message: text, code: may(text), usage: may(usage) },
  STEP_STARTED: { ...owner, stepName: text },
  STEP_FINISHED: { ...owner, stepName: text },
  REASONING_START: messageId,
  REASONING_MESSAGE_START: { ...messageId, role: oneOf("reasoning") },
  REASONING_MESSAGE_CONTENT: { ...messageId, ...delta },
  REASONING_MESSAGE_END: messageId,
  REASONING_MESSAGE_CHUNK: { ...owner, messageId: may(text), delta: may(text) },
  REASONING_END: messageId,
  REASONING_ENCRYPTED_VALUE: { ...owner, subtype: oneOf("tool-call", "message"), entityId: text, encryptedValue: text },
  SUBAGENT_STARTED: {
    ...subagent, name: text, description: may(text), parentSubagentRunId: may(text), parentToolCallId: may(text), parentMessageId: may(text),
  },
  SUBAGENT_FINISHED: {
    ...subagent, result: may(any), outcome: may(tagged("type", {}, { success: {}, suspended: { interruptIds: may(texts) } })),
  },
  SUBAGENT_ERROR: { ...subagent, message: text, code: may(text) },
} as const;
const event = tagged("type", { timestamp: may(whole(Number.MIN_SAFE_INTEGER)), rawEvent: may(any), ...metadata }, TYPES);

/** An event of a run. */
export type AgentEvent = Of<typeof event>;
/** The event of one type. */
export type EventOf<T extends AgentEvent["type"]> = Extract<AgentEvent, { type: T }>;
/** A message of a conversation. */
export type Message = Of<typeof message>;
/** What a message says: a text, or parts. */
export type Content = Of<typeof content>;
/** A call of a tool, as it stands in a message. */
export type ToolCall = Of<typeof toolCall>;
/** An operation of a JSON Patch (RFC 6902). */
export type Operation = Of<typeof operation>;
/** What a run waits for from outside. */
export type Interrupt = Of<typeof interrupt>;
/** An answer to an interrupt. */
export type Resume = Of<typeof resume>;
/** Why a run ended that did not fail. */
export type Outcome = Of<typeof outcome>;
/** A tool that the client itself carries out. */
export type Tool = Of<typeof tool>;
/** Something that the agent is to know. */
export type Context = Of<typeof context>;
/** A request for a run. */
export type RunInput = Of<typeof input>;

/** What a client asks, checked. */
export const checkInput = (value: unknown): RunInput => input(value, "");

/** An event, checked; none for a type that is not known, which is a newer one. `Malformed` when something is wrong with it. */
export function checkEvent(value: unknown): AgentEvent | undefined {
  const { type } = object(value, "");
  if (!Object.hasOwn(TYPES, text(type, "type"))) return undefined;
  return event(value, "");
}
