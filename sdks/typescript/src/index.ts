// A client of Skep: durable calls of agents, their runs as streams, and the management API.

export { Answer } from "./answer.js";
export type { components, paths } from "./api.js";
export { type AgentEvent, type Content, type Context, type EventOf, type Interrupt, type Message, type Operation, type Outcome, type Resume, type RunInput, type Tool, type ToolCall, checkEvent, checkInput } from "./agui/events.js";
export { patched } from "./agui/patch.js";
export { Malformed } from "./agui/shape.js";
export { MOST_KEPT_BYTES, type Thread, type ToolUse, begun, taken, toolUses } from "./agui/thread.js";
export { EventStream, type Limits } from "./calling.js";
export { Agents, Audit, type CallOptions, Calls, Client, type ClientOptions, Events, Handle, type Paged, Secrets } from "./client.js";
export * from "./errors.js";
export { type Ask, RunStream, Runs, type RunOptions } from "./runs.js";
export type { Asked } from "./requests.js";
export type { ServerEvent } from "./sse.js";
