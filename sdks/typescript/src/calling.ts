// What a request does until it has its answer: sending, reading, waiting, attaching again.

import { Answer } from "./answer.js";
import type { components } from "./api.js";
import { AgentError, ApiError, ConnectionFailed, ProtocolError, TimedOut, Unanswered, Unresumable } from "./errors.js";
import { judge, Waits } from "./patience.js";
import { type Outgoing, attach, isJournaled, segment, toApi } from "./requests.js";
import { Differs, Parser, Restart, type ServerEvent, Splice } from "./sse.js";
import { MOST_BODY_BYTES, MOST_PROBLEM_BYTES, type Reply, sleep, type Wire } from "./transport.js";

/** What a client has for all its requests. */
export interface Base {
  readonly wire: Wire;
  /** Milliseconds without progress after which a server is given up. */
  readonly patience: number;
  /** Milliseconds of silence of the management API. */
  readonly timeout: number;
  /** The server was there once. */
  reached: boolean;
}

/** For how long, and until when. */
export interface Limits {
  /** Ends it; what it throws is the signal's reason. A call goes on. */
  signal?: AbortSignal | undefined;
  /** Milliseconds to wait, `TimedOut` behind them; a call goes on. Default: as long as it may run. */
  timeout?: number | undefined;
}

/** The tries of one request, with its patience and its time. */
export class Trying {
  readonly waits: Waits;
  readonly #until: number | undefined;
  #began = 0;

  constructor(
    readonly base: Base,
    readonly limits: Limits,
  ) {
    this.waits = new Waits(base.patience);
    this.#until = limits.timeout === undefined ? undefined : performance.now() + limits.timeout;
  }

  /** Milliseconds until the timeout; throws `TimedOut` behind it. */
  left(): number | undefined {
    this.limits.signal?.throwIfAborted();
    if (this.#until === undefined) return undefined;
    const left = this.#until - performance.now();
    if (left <= 0) throw new TimedOut(`no answer within ${this.limits.timeout} ms`);
    return left;
  }

  /** One try: an answer that is not Skep's refusal. */
  async send(request: Outgoing, silence?: number): Promise<Reply> {
    this.#began = performance.now();
    const left = this.left();
    const within = silence === undefined ? left : Math.min(silence, left ?? silence);
    const reply = await this.base.wire.send(request, { signal: this.limits.signal, silence: within });
    this.base.reached = true;
    await reply.refusal();
    return reply;
  }

  /** After a try that failed: throws it when that is the result, else the time for the next has come. */
  async waitOut(error: unknown, safe: boolean, onWait = (): void => undefined): Promise<void> {
    const wasSent = error instanceof ConnectionFailed && error.sent;
    this.base.reached ||= wasSent;
    const atLeast = judge(error, { reached: this.base.reached, safe });
    if (atLeast === undefined) throw error;
    const took = performance.now() - this.#began;
    // A connection that stood for long before it was lost cost no patience.
    if (wasSent && took >= this.base.patience) this.waits.progress();
    const wait = this.waits.next(atLeast, error instanceof ConnectionFailed && !error.sent ? took : 0);
    if (wait === undefined) throw error;
    onWait();
    await sleep(Math.min(wait, this.left() ?? wait), this.limits.signal);
  }
}

/**
 * A request to the management API. Reading is repeated through lost connections, and everything that the server refused for now.
 * `statuses` besides 2xx are answers.
 */
export async function api(base: Base, request: Outgoing, signal?: AbortSignal, statuses: readonly number[] = []): Promise<unknown> {
  const trying = new Trying(base, { signal });
  for (;;) {
    try {
      const reply = await base.wire.send(request, { signal, silence: base.timeout });
      base.reached = true;
      if (!statuses.includes(reply.status)) await reply.refusal();
      return await read(reply, statuses);
    } catch (error) {
      await trying.waitOut(error, request.method === "GET");
    }
  }
}

async function read(reply: Reply, statuses: readonly number[] = []): Promise<unknown> {
  const answer = await reply.answer(MOST_BODY_BYTES);
  if (!answer.ok && !statuses.includes(answer.status)) throw new ProtocolError(`the server answered ${answer.status}: is this a Skep server?`);
  if (answer.content.length === 0) return undefined;
  const kind = (answer.headers.get("content-type") ?? "").split(";")[0] ?? "";
  if (!/[/+]json$/.test(kind)) return answer.text;
  try {
    return answer.json();
  } catch {
    throw new ProtocolError("the server did not answer with JSON: is this a Skep server?");
  }
}

/** A request to an agent on its way: what is sent again, and what is attached to instead. */
class Calling {
  callId: string | undefined;
  #lost: ConnectionFailed | undefined;

  constructor(
    readonly trying: Trying,
    readonly request: Outgoing | undefined,
    callId?: string,
  ) {
    this.callId = callId;
  }

  get #key(): string | undefined {
    return this.request?.headers["idempotency-key"];
  }

  /** One try. */
  async send(lastEventId?: string, silence?: number): Promise<Reply> {
    if (this.callId !== undefined || this.request === undefined) {
      return this.trying.send(attach(this.callId ?? "", lastEventId, this.request?.headers["accept"]), silence);
    }
    if (this.#lost !== undefined) {
      await this.#look(this.request, this.#lost);
      this.#lost = undefined;
    }
    const reply = await this.trying.send(this.request, silence);
    this.callId = reply.callId;
    return reply;
  }

  /** Without a journal the key would not keep the agent from doing it twice: an agent may leave methods out (`calls.methods`). */
  async #look(request: Outgoing, lost: ConnectionFailed): Promise<void> {
    let agent: components["schemas"]["Agent"];
    try {
      const reply = await this.trying.send(toApi("GET", `/api/v1/agents/${segment(request.agent ?? "")}`), this.trying.base.timeout);
      agent = (await read(reply)) as typeof agent;
    } catch (error) {
      if (error instanceof ApiError && judge(error, { reached: true, safe: true }) === undefined) throw lost;
      throw error;
    }
    if (!isJournaled(request.method, agent.spec.calls?.methods)) throw lost;
  }

  /** After a try that failed: throws it when that is the result. */
  async again(error: unknown): Promise<void> {
    if (error instanceof ConnectionFailed && error.sent && this.callId === undefined) this.#lost ??= error;
    // A key makes repeating safe; so does attaching. What was not journaled is not repeated once something of it was sent.
    await this.trying.waitOut(error, this.request === undefined || this.#key !== undefined || this.callId !== undefined);
  }

  /** Notes at an error what gets the answer later. */
  named(error: unknown): unknown {
    if (error instanceof Unanswered) {
      error.callId = this.callId;
      error.idempotencyKey = this.#key;
    }
    return error;
  }
}

/** The agent's answer to a request, or to a call that is there. */
export async function call(base: Base, of: { request?: Outgoing; callId?: string }, limits: Limits, most = MOST_BODY_BYTES): Promise<Answer> {
  const calling = new Calling(new Trying(base, limits), of.request, of.callId);
  for (;;) {
    try {
      const reply = await calling.send();
      return await reply.answer(most);
    } catch (error) {
      await calling.again(error).catch((last: unknown) => {
        throw calling.named(last);
      });
    }
  }
}

/** The id of a call that is durable. */
export async function submit(base: Base, request: Outgoing, limits: Limits): Promise<string> {
  const calling = new Calling(new Trying(base, limits), request);
  for (;;) {
    try {
      const reply = await calling.send();
      if (calling.callId !== undefined) {
        // Read to its end, its connection can be used again.
        if (reply.isAccepted) await reply.all(MOST_PROBLEM_BYTES);
        else reply.close();
        return calling.callId;
      }
      throw new AgentError(await reply.answer(MOST_PROBLEM_BYTES), "a call: is its method journaled?");
    } catch (error) {
      if (calling.callId !== undefined) return calling.callId;
      await calling.again(error).catch((last: unknown) => {
        throw calling.named(last);
      });
    }
  }
}

/** An agent's event stream that goes on behind what was handed on of it. */
export class EventStream implements AsyncIterable<ServerEvent> {
  readonly #calling: Calling;
  readonly #begin: string | undefined;

  constructor(base: Base, of: { request?: Outgoing; callId?: string; lastEventId?: string | undefined }, limits: Limits) {
    this.#calling = new Calling(new Trying(base, limits), of.request, of.callId);
    this.#begin = of.lastEventId;
  }

  /** The call whose answer this is, once that has begun: `client.calls.attach(callId)` reads it again. */
  get callId(): string | undefined {
    return this.#calling.callId;
  }

  /** The events, each once. The request is sent when the first is asked for. Who stops reading does not end the call. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ServerEvent, void, undefined> {
    const splice = new Splice(this.#begin);
    let first: number | undefined;
    for (;;) {
      try {
        const reply = await this.#calling.send(first === undefined ? this.#begin : splice.resume());
        await this.#check(reply, first);
        first = reply.status;
        yield* this.#pass(reply, splice);
        return;
      } catch (error) {
        if (error instanceof Restart) continue;
        if (error instanceof Differs) throw new Unresumable(this.callId ?? "", error.message);
        // What is not journaled cannot be attached to.
        if (first !== undefined && this.callId === undefined) throw this.#calling.named(error);
        await this.#calling.again(error).catch((last: unknown) => {
          throw this.#calling.named(last);
        });
      }
    }
  }

  async #check(reply: Reply, first: number | undefined): Promise<void> {
    const isStream = reply.isEvents && (first === undefined ? reply.status >= 200 && reply.status < 300 : reply.status === first);
    if (isStream) return;
    if (first !== undefined) {
      reply.close();
      throw new Differs();
    }
    throw new AgentError(await reply.answer(MOST_PROBLEM_BYTES), "an event stream");
  }

  async *#pass(reply: Reply, splice: Splice): AsyncGenerator<ServerEvent, void, undefined> {
    for await (const piece of reply.pieces()) {
      for (const event of splice.push(piece)) {
        this.#calling.trying.waits.progress();
        yield event;
      }
    }
    splice.finish();
  }
}

/** The server's own events for ever, each once: their ids last. */
export async function* incidents<T>(base: Base, request: Outgoing, signal?: AbortSignal): AsyncGenerator<T, void, undefined> {
  const trying = new Trying(base, { signal });
  let last: string | undefined;
  for (;;) {
    try {
      const headers = last === undefined ? request.headers : { ...request.headers, "last-event-id": last };
      const reply = await trying.send({ ...request, headers });
      if (!reply.isEvents) throw new ProtocolError(`the server answered ${reply.status}, and no event stream`);
      const parser = new Parser();
      for await (const piece of reply.pieces()) {
        for (const event of parser.push(piece)) {
          last = event.id || last;
          trying.waits.progress();
          yield said<T>(event);
        }
      }
      throw new ConnectionFailed("the server ended the stream", true);
    } catch (error) {
      await trying.waitOut(error, true);
    }
  }
}

function said<T>(event: ServerEvent): T {
  try {
    return JSON.parse(event.data) as T;
  } catch {
    throw new ProtocolError("an event of the server is not JSON");
  }
}
