// What the events of a run come to: the conversation and the state after each, as the official client has them. Pure: what was there
// is not changed, and what comes is held against the bound before it is taken over.

import { TooLarge } from "../errors.js";
import type { AgentEvent, EventOf, Interrupt, Message, Outcome, ToolCall } from "./events.js";
import { isSame, patched } from "./patch.js";
import { Malformed } from "./shape.js";

/** Bytes that a conversation and its state may have together, unless somebody says otherwise. */
export const MOST_KEPT_BYTES = 1024 * 1024;
/** Where a snapshot says which activities it has all of. */
const ACTIVITY_HISTORY = "@ag-ui/client";

/** A conversation and its state. */
export interface Thread {
  readonly messages: readonly Message[];
  /** As the agent has it; `undefined` when nobody said anything. */
  readonly state: unknown;
  /** Calls whose arguments still come. */
  readonly open: ReadonlySet<string>;
  /** What the last run waits for. */
  readonly interrupts: readonly Interrupt[];
  /** How the last run ended that did not fail. */
  readonly outcome: Outcome | undefined;
  /** What the last run gave. */
  readonly result: unknown;
  /** Bytes of both, at the most. */
  readonly bytes: { readonly messages: number; readonly state: number };
}

const encoder = new TextEncoder();

function bytesOf(value: unknown): number {
  return value === undefined ? 0 : encoder.encode(typeof value === "string" ? value : JSON.stringify(value)).length;
}

/** A thread of these messages and this state. */
export function begun(messages: readonly Message[] = [], state?: unknown): Thread {
  const bytes = { messages: bytesOf(messages), state: bytesOf(state) };
  return { messages, state, open: new Set(), interrupts: [], outcome: undefined, result: undefined, bytes };
}

/** A thread behind an event. `TooLarge` when it would be over the bound: nothing of the event is taken over then. */
export function taken(thread: Thread, event: AgentEvent, most = MOST_KEPT_BYTES): Thread {
  const next = folded(thread, event);
  if (next === thread || next.bytes.messages + next.bytes.state <= most) return next;
  // What is counted as it comes is rather too much: what was replaced counts, too.
  const bytes = { messages: bytesOf(next.messages), state: bytesOf(next.state) };
  if (bytes.messages + bytes.state > most) throw new TooLarge(`the conversation would be over ${most} bytes`);
  return { ...next, bytes };
}

function grown(thread: Thread, messages: readonly Message[], by: unknown): Thread {
  return { ...thread, messages, bytes: { ...thread.bytes, messages: thread.bytes.messages + bytesOf(by) } };
}

function folded(thread: Thread, event: AgentEvent): Thread {
  switch (event.type) {
    case "RUN_STARTED":
      return runStarted(thread, event);
    case "RUN_FINISHED":
      return {
        ...thread,
        open: new Set(),
        outcome: event.outcome ?? { type: "success" },
        result: event.result,
        interrupts: event.outcome?.type === "interrupt" ? event.outcome.interrupts : [],
      };
    case "RUN_ERROR":
      return { ...thread, open: new Set() };
    case "TEXT_MESSAGE_START": {
      const { messageId: id, role = "assistant", name, subagentRunId } = event;
      return textBegun(thread, { id, role, content: "", ...told({ name, subagentRunId }) }, event);
    }
    case "REASONING_MESSAGE_START":
      return textBegun(thread, { id: event.messageId, role: "reasoning", content: "", ...told({ subagentRunId: event.subagentRunId }) }, event);
    case "TEXT_MESSAGE_CONTENT":
    case "REASONING_MESSAGE_CONTENT":
      return textAdded(thread, event);
    case "TEXT_MESSAGE_END":
    case "REASONING_MESSAGE_END":
      return event.metadata === undefined ? thread : changed(thread, event.messageId, (message) => withMetadata(message, event), event);
    case "TOOL_CALL_START":
      return callBegun(thread, event);
    case "TOOL_CALL_ARGS":
      return callChanged(thread, event.toolCallId, (call) => {
        const given = { ...call.function, arguments: call.function.arguments + event.delta };
        return withMetadata({ ...call, function: given }, event);
      }, event.delta);
    case "TOOL_CALL_END": {
      const open = new Set(thread.open);
      open.delete(event.toolCallId);
      return { ...callChanged(thread, event.toolCallId, (call) => withMetadata(call, event), event.metadata), open };
    }
    case "TOOL_CALL_RESULT":
      return answered(thread, event);
    case "STATE_SNAPSHOT":
      return withState(thread, event.snapshot);
    case "STATE_DELTA":
      return applied(thread, () => withState(thread, patched(thread.state ?? {}, event.delta)));
    case "MESSAGES_SNAPSHOT":
      return restated(thread, event);
    case "ACTIVITY_SNAPSHOT":
      return activity(thread, event);
    case "ACTIVITY_DELTA":
      return applied(thread, () => activityChanged(thread, event));
    case "REASONING_ENCRYPTED_VALUE":
      return encrypted(thread, event);
    default:
      return thread;
  }
}

/** What is there of these. */
function told<T extends object>(all: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as { [K in keyof T]?: NonNullable<T[K]> };
}

/** A patch that does not apply changes nothing. */
function applied(thread: Thread, change: () => Thread): Thread {
  try {
    return change();
  } catch (error) {
    if (error instanceof Malformed) return thread;
    throw error;
  }
}

function withMetadata<T extends { metadata?: Readonly<Record<string, unknown>> }>(target: T, event: AgentEvent): T {
  return event.metadata === undefined ? target : { ...target, metadata: { ...target.metadata, ...event.metadata } };
}

function withState(thread: Thread, state: unknown): Thread {
  return { ...thread, state, bytes: { ...thread.bytes, state: bytesOf(state) } };
}

function changed(thread: Thread, id: string, change: (message: Message) => Message, by: unknown): Thread {
  const at = thread.messages.findLastIndex((it) => it.id === id);
  const message = thread.messages[at];
  return message === undefined ? thread : grown(thread, thread.messages.with(at, change(message)), by);
}

function runStarted(thread: Thread, event: EventOf<"RUN_STARTED">): Thread {
  const known = new Set(thread.messages.map((it) => it.id));
  const more = event.input?.messages.filter((it) => !known.has(it.id)) ?? [];
  const next = { ...thread, interrupts: [], outcome: undefined, result: undefined };
  return more.length === 0 ? next : grown(next, [...thread.messages, ...more], more);
}

function textBegun(thread: Thread, message: Message, event: AgentEvent): Thread {
  const known = thread.messages.find((it) => it.id === message.id);
  if (known === undefined) {
    const made = withMetadata(message, event);
    return grown(thread, [...thread.messages, made], made);
  }
  if (known.role === "activity" || event.metadata === undefined) return thread;
  return changed(thread, message.id, (it) => withMetadata(it, event), event.metadata);
}

function textAdded(thread: Thread, event: EventOf<"TEXT_MESSAGE_CONTENT"> | EventOf<"REASONING_MESSAGE_CONTENT">): Thread {
  return changed(thread, event.messageId, (message) => {
    if (message.role === "activity") return message;
    // Parts give way to a text.
    const before = typeof message.content === "string" ? message.content : "";
    return withMetadata({ ...message, content: before + event.delta }, event);
  }, event.delta);
}

function callChanged(thread: Thread, id: string, change: (call: ToolCall) => ToolCall, by: unknown): Thread {
  const holder = thread.messages.findLast((it) => it.role === "assistant" && it.toolCalls?.some((call) => call.id === id));
  if (holder?.role !== "assistant") return thread;
  const toolCalls = holder.toolCalls?.map((call) => (call.id === id ? change(call) : call)) ?? [];
  return changed(thread, holder.id, () => ({ ...holder, toolCalls }), by);
}

function callBegun(thread: Thread, event: EventOf<"TOOL_CALL_START">): Thread {
  const { toolCallId: id, toolCallName: name, parentMessageId, subagentRunId } = event;
  const next = { ...thread, open: new Set(thread.open).add(id) };
  const isKnown = thread.messages.some((it) => it.role === "assistant" && it.toolCalls?.some((call) => call.id === id));
  if (isKnown) {
    return callChanged(next, id, (call) => withMetadata({ ...call, function: { ...call.function, name } }, event), event.metadata);
  }
  const call = withMetadata<ToolCall>({ id, type: "function", function: { name, arguments: "" } }, event);
  const parent = thread.messages.find((it) => it.id === parentMessageId);
  if (parent?.role === "assistant") {
    return changed(next, parent.id, (it) => ({ ...it, toolCalls: [...(parent.toolCalls ?? []), call] }) as Message, call);
  }
  const holder = parentMessageId !== undefined && parent === undefined ? parentMessageId : id;
  const message: Message = { id: holder, role: "assistant", toolCalls: [call], ...told({ subagentRunId }) };
  return grown(next, [...thread.messages, message], message);
}

function answered(thread: Thread, event: EventOf<"TOOL_CALL_RESULT">): Thread {
  const { messageId: id, toolCallId, content, subagentRunId } = event;
  const message = withMetadata<Message>({ id, role: "tool", toolCallId, content, ...told({ subagentRunId }) }, event);
  const holder = thread.messages.findIndex((it) => it.role === "assistant" && it.toolCalls?.some((call) => call.id === toolCallId));
  if (holder < 0) return grown(thread, [...thread.messages, message], message);
  // Providers want an answer right behind the call.
  let at = holder + 1;
  while (thread.messages[at]?.role === "tool") at++;
  return grown(thread, thread.messages.toSpliced(at, 0, message), message);
}

/** The activities that a snapshot has all of: all, or these; none when it does not say. */
function owned(event: EventOf<"MESSAGES_SNAPSHOT">): "all" | readonly string[] | undefined {
  if (event.metadata === undefined || !Object.hasOwn(event.metadata, ACTIVITY_HISTORY)) return undefined;
  const value = event.metadata[ACTIVITY_HISTORY];
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [];
  if (!Object.hasOwn(value, "authoritativeActivityTypes")) return undefined;
  const types = (value as Record<string, unknown>)["authoritativeActivityTypes"];
  if (types === null) return "all";
  return Array.isArray(types) && types.every((it): it is string => typeof it === "string") ? types : [];
}

/** Takes over the messages of a snapshot. What a client alone may have stays, as long as the snapshot has none of its kind. */
function restated(thread: Thread, event: EventOf<"MESSAGES_SNAPSHOT">): Thread {
  const own = owned(event);
  const has = (role: Message["role"]): boolean => event.messages.some((it) => it.role === role);
  const [hasActivity, hasReasoning] = [has("activity"), has("reasoning")];
  const stays = (it: Message): boolean => {
    if (it.role === "reasoning") return !hasReasoning;
    if (it.role !== "activity" || own === "all") return false;
    return own === undefined ? !hasActivity : !own.includes(it.activityType);
  };
  const known = new Map(event.messages.map((it) => [it.id, it]));
  const there = thread.messages.filter((it) => known.has(it.id) || stays(it)).map((it) => known.get(it.id) ?? it);
  const ids = new Set(there.map((it) => it.id));
  const messages = [...there, ...event.messages.filter((it) => !ids.has(it.id))];
  return { ...thread, messages, bytes: { ...thread.bytes, messages: bytesOf(messages) } };
}

function activity(thread: Thread, event: EventOf<"ACTIVITY_SNAPSHOT">): Thread {
  const { messageId: id, activityType, content, subagentRunId, replace = true } = event;
  const made: Message = { id, role: "activity", activityType, content, ...told({ subagentRunId }) };
  const known = thread.messages.find((it) => it.id === id);
  if (known === undefined) return grown(thread, [...thread.messages, withMetadata(made, event)], event);
  if (!replace) return known.role === "activity" ? changed(thread, id, (it) => withMetadata(it, event), event.metadata) : thread;
  const kept = known.role === "activity" ? told({ encryptedValue: known.encryptedValue, metadata: known.metadata }) : {};
  return changed(thread, id, () => withMetadata({ ...made, ...kept }, event), event);
}

function activityChanged(thread: Thread, event: EventOf<"ACTIVITY_DELTA">): Thread {
  const known = thread.messages.find((it) => it.id === event.messageId);
  if (known?.role !== "activity") return thread;
  const content = patched(known.content, event.patch);
  if (typeof content !== "object" || content === null || Array.isArray(content)) return thread;
  const made: Message = { ...known, activityType: event.activityType, content: content as Readonly<Record<string, unknown>> };
  // A patch may copy more than it brings.
  return changed(thread, event.messageId, () => withMetadata(made, event), content);
}

function encrypted(thread: Thread, event: EventOf<"REASONING_ENCRYPTED_VALUE">): Thread {
  const { encryptedValue } = event;
  if (event.subtype === "tool-call") return callChanged(thread, event.entityId, (call) => ({ ...call, encryptedValue }), encryptedValue);
  return changed(thread, event.entityId, (it) => (it.role === "activity" ? it : { ...it, encryptedValue }), encryptedValue);
}

/** How far the call of a tool is. */
export interface ToolUse {
  readonly id: string;
  readonly name: string;
  /** As they have come: JSON, once they are whole. */
  readonly arguments: string;
  /** `streaming` while they come, `called` when they are whole, `answered` with a result. */
  readonly status: "streaming" | "called" | "answered";
  /** The result, if there is one. */
  readonly result: string | readonly unknown[] | undefined;
  /** The message in which it stands. */
  readonly messageId: string;
  /** Whether the agent has ended its run and leaves the answer to the client. */
  readonly isPending: boolean;
}

/** The calls of tools in a conversation, in their order. */
export function toolUses(thread: Thread): ToolUse[] {
  const results = new Map(thread.messages.flatMap((it) => (it.role === "tool" ? [[it.toolCallId, it.content] as const] : [])));
  const pending = new Set(thread.outcome?.type === "success" ? thread.outcome.pendingToolCallIds : []);
  const of = (messageId: string, { id, function: { name, arguments: given } }: ToolCall): ToolUse => {
    const result = results.get(id);
    const status = thread.open.has(id) ? "streaming" : result === undefined ? "called" : "answered";
    return { id, name, arguments: given, status, result, messageId, isPending: pending.has(id) && result === undefined };
  };
  return thread.messages.flatMap((it) => (it.role === "assistant" ? (it.toolCalls ?? []).map((call) => of(it.id, call)) : []));
}

/** Whether two threads say the same. */
export function sameThread(one: Thread, other: Thread): boolean {
  return isSame(one.messages, other.messages) && isSame(one.state, other.state);
}
