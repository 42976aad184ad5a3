// Runs as streams of AG-UI events, which go on where their connection was lost.

import type { AgentEvent, EventOf, Message, Operation, RunInput } from "./agui/events.js";
import { checkEvent, checkInput } from "./agui/events.js";
import { type Base, type Limits, Trying, api } from "./calling.js";
import { AgentError, ConnectionFailed, ProtocolError, TimedOut, TooLarge } from "./errors.js";
import { uuid } from "./random.js";
import { type Outgoing, headerValue, segment, toApi } from "./requests.js";
import { MOST_EVENT_BYTES, Parser, type ServerEvent } from "./sse.js";
import { MOST_PROBLEM_BYTES, type Reply } from "./transport.js";

export type { AgentEvent, Message, Operation, RunInput };

/** Milliseconds of silence after which a connection is taken for lost: a server that lives says something every 15 seconds. */
const SILENCE = 45_000;
/** Bytes of a request. */
export const MOST_REQUEST_BYTES = 8 * 1024 * 1024;

/** What is asked of an agent. What is not said of the ids is made up. */
export type Ask = Omit<RunInput, "threadId" | "runId"> & Partial<Pick<RunInput, "threadId" | "runId">>;

/** How a run is followed. */
export interface RunOptions extends Limits {
  /** Goes on behind this event of a run that was asked for before, with the same request: `stream.lastEventId`. */
  lastEventId?: string | undefined;
  /** Bytes of the request over which it is `TooLarge`. */
  maxRequestBytes?: number | undefined;
  /** Bytes of an event over which it is `TooLarge`. */
  maxEventBytes?: number | undefined;
  /** Milliseconds of silence after which a connection is taken for lost. */
  silence?: number | undefined;
  /** Told when the connection was lost and is sought again (`true`), and when it is there (`false`). */
  onReconnect?: ((isLost: boolean) => void) | undefined;
}

/** What opens something that another event ends, and the ids of it. */
const BRACKETS = {
  TEXT_MESSAGE_START: ["TEXT_MESSAGE_END", "messageId"],
  TOOL_CALL_START: ["TOOL_CALL_END", "toolCallId"],
  REASONING_START: ["REASONING_END", "messageId"],
  REASONING_MESSAGE_START: ["REASONING_MESSAGE_END", "messageId"],
  STEP_STARTED: ["STEP_FINISHED", "stepName"],
} as const;

const ENDS: ReadonlySet<string> = new Set(Object.values(BRACKETS).map(([end]) => end));

/** What opens or ends something: by which name. */
function bracket(event: AgentEvent): { name: string; end: AgentEvent | undefined } | undefined {
  const of = (end: string, id: string): string => `${end} ${event.type.startsWith("STEP") && "subagentRunId" in event ? event.subagentRunId : ""} ${id}`;
  if (event.type in BRACKETS) {
    const [end, field] = BRACKETS[event.type as keyof typeof BRACKETS];
    const all = event as unknown as Record<string, string | undefined>;
    const owner = all["subagentRunId"] === undefined ? {} : { subagentRunId: all["subagentRunId"] };
    return { name: of(end, all[field] ?? ""), end: { type: end, [field]: all[field], ...owner } as unknown as AgentEvent };
  }
  if (!ENDS.has(event.type)) return undefined;
  const { messageId, toolCallId, stepName } = event as unknown as Record<string, string | undefined>;
  return { name: of(event.type, messageId ?? toolCallId ?? stepName ?? ""), end: undefined };
}

/**
 * Makes one right sequence of what several connections show. Behind a lost one comes what the run had come to by then, as a snapshot,
 * with the starts of what is open: what was begun before is not begun again, and what has ended in between is ended.
 */
export class Continuation {
  /** What is open, with what ends it. */
  readonly #open = new Map<string, AgentEvent>();
  readonly #subagents = new Map<string, "at work" | "done">();
  #begun = false;
  /** Behind a loss: what was begun anew, until something else comes. */
  #again: Set<string> | undefined;
  #snapshot: string | undefined;
  isOver = false;

  /** The connection was lost. */
  lost(): void {
    this.#again = this.#begun ? new Set() : undefined;
    this.#snapshot = undefined;
  }

  /** The events that are handed on of one that came, with its id. */
  push(event: AgentEvent, id: string): AgentEvent[] {
    if (this.isOver) return [];
    const out = this.#again === undefined ? [] : this.#behind(event, id, this.#again);
    return out === undefined ? [] : [...out, ...this.#pass(event)];
  }

  /** What comes before an event behind a loss; none when the event itself is not handed on. */
  #behind(event: AgentEvent, id: string, again: Set<string>): AgentEvent[] | undefined {
    if (event.type === "RUN_STARTED") return undefined;
    if (event.type === "MESSAGES_SNAPSHOT" && this.#snapshot === undefined) {
      this.#snapshot = id;
      // A client would miss the message of such an end behind the snapshot.
      return this.#endAll((name) => !isIn(event, name));
    }
    const it = bracket(event);
    const isSnapshot = this.#snapshot === undefined || id === this.#snapshot;
    if (isSnapshot && it?.end !== undefined) {
      again.add(it.name);
      return this.#open.has(it.name) ? undefined : [];
    }
    if (isSnapshot && (event.type.startsWith("SUBAGENT_") || event.type === "STATE_SNAPSHOT")) return this.#isKnown(event) ? undefined : [];
    this.#again = undefined;
    return this.#endAll((name) => !again.has(name));
  }

  /** A subagent that has begun, or ended, does it once. */
  #isKnown(event: AgentEvent): boolean {
    if (event.type === "SUBAGENT_STARTED") return this.#subagents.has(event.subagentRunId);
    const isEnd = event.type === "SUBAGENT_FINISHED" || event.type === "SUBAGENT_ERROR";
    return isEnd && this.#subagents.get(event.subagentRunId) === "done";
  }

  #endAll(wanted: (name: string) => boolean): AgentEvent[] {
    const ended = [...this.#open].filter(([name]) => wanted(name)).reverse();
    for (const [name] of ended) this.#open.delete(name);
    return ended.map(([, end]) => end);
  }

  #pass(event: AgentEvent): AgentEvent[] {
    this.#begun = true;
    if (event.type === "SUBAGENT_STARTED") this.#subagents.set(event.subagentRunId, "at work");
    if (event.type === "SUBAGENT_FINISHED" || event.type === "SUBAGENT_ERROR") this.#subagents.set(event.subagentRunId, "done");
    this.isOver = event.type === "RUN_FINISHED" || event.type === "RUN_ERROR";
    const it = bracket(event);
    if (it?.end !== undefined) this.#open.set(it.name, it.end);
    else if (it !== undefined) this.#open.delete(it.name);
    return [event];
  }
}

/** Whether a snapshot has what is open under a name. What is no message or call is in none, and may end behind it. */
function isIn(snapshot: EventOf<"MESSAGES_SNAPSHOT">, name: string): boolean {
  const [end = "", , ...rest] = name.split(" ");
  const id = rest.join(" ");
  if (end === "TOOL_CALL_END") return snapshot.messages.some((it) => it.role === "assistant" && it.toolCalls?.some((call) => call.id === id));
  return end !== "TEXT_MESSAGE_END" || snapshot.messages.some((it) => it.id === id);
}

/** One run as it comes: an async iterator of its events, each checked, each once. */
export class RunStream implements AsyncIterable<AgentEvent> {
  /** The request, with its ids. The same again is the same run. */
  readonly input: RunInput;
  readonly agent: string;
  readonly #base: Base;
  readonly #options: RunOptions;
  readonly #request: Outgoing;
  readonly #abort = new AbortController();
  readonly #called: Promise<string | undefined>;
  #settle: (callId: string | undefined) => void = () => undefined;
  #callId: string | undefined;
  #runId: string | undefined;
  #last: string | undefined;
  #isTaken = false;

  constructor(base: Base, agent: string, ask: Ask, options: RunOptions = {}) {
    this.agent = agent;
    this.input = checkInput({ threadId: uuid(), runId: uuid(), ...ask });
    const body = JSON.stringify({ tools: [], context: [], state: {}, forwardedProps: {}, ...this.input });
    const most = options.maxRequestBytes ?? MOST_REQUEST_BYTES;
    const bytes = new TextEncoder().encode(body).length;
    if (bytes > most) throw new TooLarge(`the request has ${bytes} bytes, and may have ${most}`);
    const headers = { accept: "text/event-stream", "content-type": "application/json" };
    this.#request = { method: "POST", path: `/agents/${segment(agent)}/agui`, headers, body, agent };
    this.#last = options.lastEventId === undefined ? undefined : headerValue("the id of an event", options.lastEventId);
    this.#base = base;
    this.#options = options;
    this.#called = new Promise((settle) => (this.#settle = settle));
  }

  /** The call that carries it, once that is known. */
  get callId(): string | undefined {
    return this.#callId;
  }

  /** The server's own id of the run, once that is known: `run_…`. */
  get runId(): string | undefined {
    return this.#runId;
  }

  /** The last event that was handed on: with it and `input`, another stream goes on behind it. */
  get lastEventId(): string | undefined {
    return this.#last;
  }

  /**
   * Ends the run, for everybody. While events are read, they go on until the run has ended; a run whose request is under way is
   * cancelled as soon as its call is known. Tells whether there was one to end.
   */
  async cancel(): Promise<boolean> {
    const callId = this.#callId ?? (this.#isTaken ? await this.#called : undefined);
    if (callId !== undefined) await api(this.#base, toApi("POST", `/api/v1/calls/${segment(callId)}/cancel`));
    return callId !== undefined;
  }

  /** Reads no more. The run goes on. */
  close(): void {
    this.#abort.abort(new DOMException("the stream was closed", "AbortError"));
  }

  /** The events. The request is sent when the first is asked for, and once: there is one reader. */
  async *[Symbol.asyncIterator](): AsyncGenerator<AgentEvent, void, undefined> {
    if (this.#isTaken) throw new TypeError("a run's stream is read once");
    this.#isTaken = true;
    const { signal } = this.#options;
    const closed = (): void => this.#abort.abort(signal?.reason);
    signal?.addEventListener("abort", closed, { once: true });
    if (signal?.aborted) closed();
    try {
      yield* this.#events();
    } finally {
      signal?.removeEventListener("abort", closed);
      this.#settle(this.#callId);
    }
  }

  async *#events(): AsyncGenerator<AgentEvent, void, undefined> {
    const trying = new Trying(this.#base, { timeout: this.#options.timeout, signal: this.#abort.signal });
    const continuation = new Continuation();
    for (;;) {
      try {
        yield* this.#part(trying, continuation);
        if (continuation.isOver) return;
        throw new ConnectionFailed("the stream of the run ended before the run did", true);
      } catch (error) {
        const lost = this.#lost(error, trying);
        continuation.lost();
        // The same request again is the same run.
        await trying.waitOut(lost, true, () => this.#options.onReconnect?.(true)).catch((last: unknown) => {
          if (last instanceof ConnectionFailed) last.callId = this.#callId;
          throw last;
        });
      }
    }
  }

  /** A silence is a lost connection, as long as there is time. */
  #lost(error: unknown, trying: Trying): unknown {
    if (!(error instanceof TimedOut)) return error;
    error.callId = this.#callId;
    try {
      trying.left();
    } catch {
      return error;
    }
    return new ConnectionFailed(error.message, true, { cause: error });
  }

  /** What one connection shows. */
  async *#part(trying: Trying, continuation: Continuation): AsyncGenerator<AgentEvent, void, undefined> {
    const reply = await this.#open(trying);
    const parser = new Parser(this.#options.maxEventBytes ?? MOST_EVENT_BYTES);
    let end: [AgentEvent, string] | undefined;
    for await (const piece of reply.pieces()) {
      trying.left();
      for (const told of parser.push(piece)) {
        trying.waits.progress();
        const event = read(told);
        if (end !== undefined) continue;
        if (event?.type === "RUN_FINISHED" || event?.type === "RUN_ERROR") {
          end = [event, told.id];
          continue;
        }
        // What is of an unknown type was seen, too.
        if (told.id !== "") this.#last = told.id;
        if (event !== undefined) yield* continuation.push(event, told.id);
      }
    }
    // The run has ended when its stream has: then its end is on disk, and no other attempt can follow.
    if (end === undefined) return;
    this.#last = end[1] || this.#last;
    yield* continuation.push(...end);
  }

  async #open(trying: Trying): Promise<Reply> {
    const headers = this.#last === undefined ? this.#request.headers : { ...this.#request.headers, "last-event-id": this.#last };
    const reply = await trying.send({ ...this.#request, headers }, this.#options.silence ?? SILENCE);
    if (!reply.isEvents) throw new AgentError(await reply.answer(MOST_PROBLEM_BYTES), "an event stream");
    this.#callId = reply.callId ?? this.#callId;
    this.#runId = reply.headers.get("skep-run-id") ?? this.#runId;
    this.#settle(this.#callId);
    this.#options.onReconnect?.(false);
    return reply;
  }
}

function read(told: ServerEvent): AgentEvent | undefined {
  let value: unknown;
  try {
    value = JSON.parse(told.data);
  } catch {
    throw new ProtocolError("an event of a run is not JSON");
  }
  return checkEvent(value);
}

/** Runs of agents. */
export class Runs {
  readonly #base: Base;

  constructor(base: Base) {
    this.#base = base;
  }

  /**
   * Asks an agent for a run, and gives its events as they come. A connection that is lost is sought again, with the same request and
   * behind what was seen: what the run had come to comes as a snapshot, and nothing twice. What Skep refuses is an `ApiError`; a run
   * that fails ends with `RUN_ERROR`.
   */
  stream(agent: string, ask: Ask, options: RunOptions = {}): RunStream {
    return new RunStream(this.#base, agent, ask, options);
  }
}
