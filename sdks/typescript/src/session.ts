// A conversation with an agent over its runs: what is shown of it, and what can be done. It knows nothing of React.

import type { Context, Interrupt, Message, Resume, RunInput, Tool } from "./agui/events.js";
import { MOST_KEPT_BYTES, type Thread, type ToolUse, begun, taken, toolUses } from "./agui/thread.js";
import type { Client } from "./client.js";
import { Conflict, RunFailed } from "./errors.js";
import { uuid } from "./random.js";
import type { RunStream } from "./runs.js";

/** Bytes of a request, unless somebody says otherwise. */
const MOST_REQUEST_BYTES = 1024 * 1024;

/** How far a conversation is: nothing was asked yet, a run goes on, its connection is sought again, or how the last run ended. */
export type Status = "idle" | "running" | "reconnecting" | "finished" | "interrupted" | "cancelled" | "failed";

/** What is shown of a conversation. */
export interface AgentStreamState<S = unknown> {
  readonly messages: readonly Message[];
  /** The agent's state; `undefined` as long as nobody said one. */
  readonly state: S | undefined;
  readonly toolCalls: readonly ToolUse[];
  /** What the run waits for: answered by `resume`. */
  readonly interrupts: readonly Interrupt[];
  readonly status: Status;
  /** Why it failed: of this package, or of the agent's run (`RunFailed`). */
  readonly error: Error | undefined;
  /** What the last run gave. */
  readonly result: unknown;
  /** The call that carries the run, once that is known. */
  readonly callId: string | undefined;
}

/** What a conversation is asked with. */
export interface SessionOptions {
  /** The conversation. Default: a new one. */
  threadId?: string | undefined;
  initialMessages?: readonly Message[] | undefined;
  initialState?: unknown;
  /** Tools that the client carries out: what they gave is sent as a message of the role `tool`. */
  tools?: readonly Tool[] | undefined;
  context?: readonly Context[] | undefined;
  forwardedProps?: unknown;
  /** Bytes that the conversation and its state may have together; default 1 MiB. What would be over it ends the stream. */
  maxBufferBytes?: number | undefined;
  /** Bytes that a request may have; default 1 MiB. */
  maxRequestBytes?: number | undefined;
  /** Milliseconds that a run may take. Default: as long as it does. */
  timeout?: number | undefined;
  /** Milliseconds of silence after which a connection is sought anew. */
  silence?: number | undefined;
}

/** A message without an id, which gets one. */
export type NewMessage = Message extends infer M ? (M extends Message ? Omit<M, "id"> & { id?: string } : never) : never;

/** The run that is followed. */
interface Following {
  readonly stream: RunStream;
  /** Nothing is shown of it any more. */
  isOld: boolean;
  /** It is read on until its call is known. */
  isCancelled: boolean;
}

export class AgentSession<S = unknown> {
  readonly client: Client;
  readonly agent: string;
  options: SessionOptions;
  #threadId: string;
  #thread: Thread;
  #shown: AgentStreamState<S>;
  #following: Following | undefined;
  /** A run that was left when nobody looked, and behind which event. */
  #left: { input: RunInput; lastEventId: string | undefined } | undefined;
  readonly #listeners = new Set<() => void>();

  constructor(client: Client, agent: string, options: SessionOptions = {}) {
    this.client = client;
    this.agent = agent;
    this.options = options;
    this.#threadId = options.threadId ?? uuid();
    this.#thread = begun(options.initialMessages, options.initialState);
    this.#shown = this.#show("idle");
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** What is shown now: the same object as long as nothing changes. */
  readonly snapshot = (): AgentStreamState<S> => this.#shown;

  /**
   * Asks the agent with what there is and these messages. A run that still goes on is cancelled. Comes back when the run has ended,
   * however it did: `status` and `error` say how.
   */
  readonly send = async (said: string | NewMessage | readonly NewMessage[]): Promise<void> => {
    const all = typeof said === "string" ? [{ role: "user" as const, content: said }] : Array.isArray(said) ? (said as NewMessage[]) : [said as NewMessage];
    await this.#ask(all.map((it) => ({ ...it, id: it.id ?? uuid() }) as Message));
  };

  /** Answers what the run waits for: each of `interrupts`. */
  readonly resume = async (answers: readonly Resume[]): Promise<void> => {
    const answered = new Set(answers.map((it) => it.interruptId));
    const missing = this.#thread.interrupts.filter((it) => !answered.has(it.id));
    if (this.#thread.interrupts.length === 0) throw new TypeError("there is no interrupt to answer");
    if (missing.length > 0) throw new TypeError(`not answered: ${missing.map((it) => it.id).join(", ")}`);
    await this.#ask([], answers);
  };

  /** Ends the run, here at once and at the server. */
  readonly cancel = async (): Promise<void> => {
    const following = this.#following;
    if (following === undefined) return;
    this.#forget();
    this.#thread = { ...this.#thread, open: new Set() };
    this.#put("cancelled");
    await this.#end(following);
  };

  /** Begins anew, with what there was at first. A run that still goes on is cancelled. */
  readonly reset = (): void => {
    const following = this.#following;
    this.#forget();
    this.#left = undefined;
    this.#threadId = this.options.threadId ?? uuid();
    this.#thread = begun(this.options.initialMessages, this.options.initialState);
    this.#put("idle");
    if (following !== undefined) void this.#end(following);
  };

  /** Somebody looks again: a run that was left is gone on with, behind what was seen of it. */
  attach(): void {
    const left = this.#left;
    this.#left = undefined;
    if (left !== undefined) void this.#follow(left.input, left.lastEventId);
  }

  /** Nobody looks any more: the connection is closed. The run goes on. */
  detach(): void {
    const following = this.#following;
    if (following === undefined) return;
    this.#forget();
    this.#left = { input: following.stream.input, lastEventId: following.stream.lastEventId };
    if (!following.isCancelled) following.stream.close();
  }

  async #ask(messages: readonly Message[], resume?: readonly Resume[]): Promise<void> {
    const { tools = [], context = [], forwardedProps = {} } = this.options;
    const all = [...this.#thread.messages, ...messages];
    const input = {
      threadId: this.#threadId,
      runId: uuid(),
      // An activity is what is shown, and for no agent.
      messages: all.filter((it) => it.role !== "activity"),
      tools: [...tools],
      context: [...context],
      forwardedProps,
      state: this.#thread.state ?? {},
      ...(resume === undefined ? {} : { resume: [...resume] }),
    };
    const before = this.#following;
    this.#forget();
    this.#left = undefined;
    const isAsked = this.#follow(input, undefined, () => {
      this.#thread = { ...begun(all, this.#thread.state), interrupts: this.#thread.interrupts };
    });
    if (before !== undefined) void this.#end(before);
    await isAsked;
  }

  /** What comes of the run that was followed is not shown any more. */
  #forget(): void {
    if (this.#following !== undefined) this.#following.isOld = true;
    this.#following = undefined;
  }

  async #end(following: Following): Promise<void> {
    following.isCancelled = true;
    try {
      await following.stream.cancel();
    } catch (error) {
      // It had ended by itself.
      const isOver = error instanceof Conflict;
      if (!isOver && this.#following === undefined && this.#shown.status === "cancelled") this.#put("failed", error as Error);
    } finally {
      following.stream.close();
    }
  }

  async #follow(input: RunInput, lastEventId: string | undefined, begin = (): void => undefined): Promise<void> {
    const { maxRequestBytes = MOST_REQUEST_BYTES, timeout, silence } = this.options;
    let following: Following | undefined;
    try {
      const onReconnect = (isLost: boolean): void => {
        if (following?.isOld === false) this.#put(isLost ? "reconnecting" : "running");
      };
      const stream = this.client.runs.stream(this.agent, input, { maxRequestBytes, timeout, silence, lastEventId, onReconnect });
      following = this.#following = { stream, isOld: false, isCancelled: false };
      begin();
      this.#put("running");
      await this.#pump(following);
    } catch (error) {
      if (following?.isOld) return;
      this.#following = undefined;
      following?.stream.close();
      this.#put("failed", error instanceof Error ? error : new Error(String(error)));
    }
  }

  async #pump(following: Following): Promise<void> {
    for await (const event of following.stream) {
      if (following.isOld) {
        if (following.isCancelled) continue;
        return;
      }
      this.#thread = taken(this.#thread, event, this.options.maxBufferBytes ?? MOST_KEPT_BYTES);
      if (event.type === "RUN_FINISHED") {
        this.#following = undefined;
        const { type } = this.#thread.outcome ?? { type: "success" };
        this.#put(type === "interrupt" ? "interrupted" : type === "cancelled" ? "cancelled" : "finished");
      } else if (event.type === "RUN_ERROR") {
        this.#following = undefined;
        this.#put("failed", new RunFailed(event.message, event.code));
      } else this.#put(this.#shown.status);
    }
  }

  #show(status: Status, error?: Error): AgentStreamState<S> {
    const { messages, state, interrupts, result } = this.#thread;
    const callId = this.#following?.stream.callId ?? this.#callBefore();
    return { messages, state: state as S | undefined, toolCalls: toolUses(this.#thread), interrupts, status, error, result, callId };
  }

  #callBefore(): string | undefined {
    return (this.#shown as AgentStreamState<S> | undefined)?.callId;
  }

  #put(status: Status, error?: Error): void {
    this.#shown = this.#show(status, error);
    for (const listener of [...this.#listeners]) listener();
  }
}
