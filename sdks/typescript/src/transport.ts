// Sending over `fetch`, and reading what comes back. All I/O of the client is here.

import { Answer } from "./answer.js";
import { ConnectionFailed, ProtocolError, TimedOut, TooLarge, ofStatus } from "./errors.js";
import { type Outgoing, type Settings, signed } from "./requests.js";

/** Bytes of an answer that is read whole; a larger one is an error. */
export const MOST_BODY_BYTES = 256 * 1024 * 1024;
export const MOST_PROBLEM_BYTES = 1024 * 1024;

/** Errors of a connection that was never there, as Node.js names them; a browser does not tell. */
const UNSENT = new Set([
  "ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "EADDRNOTAVAIL", "UND_ERR_CONNECT_TIMEOUT",
]);

/** Within which time something has to come. */
export interface Patient {
  /** Ends the request. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds of silence after which it is given up. */
  readonly silence?: number | undefined;
}

/** Waits. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const aborted = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", aborted, { once: true });
  });
}

/** Ends a request when nothing came for too long, or when somebody says so. */
class Watch {
  readonly #abort = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  silent = false;

  constructor(readonly of: Patient) {
    of.signal?.addEventListener("abort", this.#passOn, { once: true });
    if (of.signal?.aborted) this.#passOn();
    this.heard();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  readonly #passOn = (): void => this.#abort.abort(this.of.signal?.reason);

  /** Something came. */
  heard(): void {
    clearTimeout(this.#timer);
    if (this.of.silence === undefined || this.#abort.signal.aborted) return;
    this.#timer = setTimeout(() => {
      this.silent = true;
      this.#abort.abort();
    }, this.of.silence);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.of.signal?.removeEventListener("abort", this.#passOn);
  }

  /** What went wrong, as ours. */
  told(error: unknown, url: string, isSent: boolean): unknown {
    if (this.of.signal?.aborted) return this.of.signal.reason;
    if (this.silent) return new TimedOut(`${url} did not answer in time`);
    const cause = (error as { cause?: { code?: string; message?: string } }).cause;
    const wasSent = isSent || !UNSENT.has(cause?.code ?? "");
    const words = wasSent ? `the connection to ${url} was lost` : `no server answers at ${url}`;
    return new ConnectionFailed(`${words}: ${cause?.message || cause?.code || String(error)}`, wasSent, { cause: error });
  }
}

/** The beginning of an answer, and its body as it comes. */
export class Reply {
  #whole: Uint8Array | undefined;

  constructor(
    readonly response: Response,
    readonly url: string,
    readonly watch: Watch,
  ) {}

  get status(): number {
    return this.response.status;
  }

  get headers(): Headers {
    return this.response.headers;
  }

  get requestId(): string | undefined {
    return this.headers.get("skep-request-id") ?? undefined;
  }

  get callId(): string | undefined {
    return this.headers.get("skep-call-id") ?? undefined;
  }

  get isEvents(): boolean {
    return (this.headers.get("content-type") ?? "").split(";")[0]?.trim().toLowerCase() === "text/event-stream";
  }

  /** Whether this is Skep's word that the call is durable, instead of the agent's answer. */
  get isAccepted(): boolean {
    return this.status === 202 && this.callId !== undefined && this.headers.get("location") === `/api/v1/calls/${this.callId}`;
  }

  /** The body, piece by piece. Who stops reading lets go of the connection. */
  async *pieces(): AsyncGenerator<Uint8Array, void, undefined> {
    if (this.#whole !== undefined) {
      yield this.#whole;
      return;
    }
    const reader = this.response.body?.getReader();
    try {
      while (reader !== undefined) {
        const { done, value } = await reader.read().catch((error: unknown) => {
          throw this.watch.told(error, this.url, true);
        });
        if (done) return;
        this.watch.heard();
        yield value;
      }
    } finally {
      this.watch.end();
      // One that has broken off says so once more.
      reader?.cancel().catch(() => undefined);
    }
  }

  /** The body; `TooLarge` when it is over a bound, of which no more is held. */
  async all(most: number): Promise<Uint8Array> {
    const all: Uint8Array[] = [];
    let bytes = 0;
    for await (const piece of this.pieces()) {
      bytes += piece.length;
      if (bytes > most) throw new TooLarge(`the answer is over ${most} bytes`);
      all.push(piece);
    }
    const whole = new Uint8Array(bytes);
    let at = 0;
    for (const piece of all) {
      whole.set(piece, at);
      at += piece.length;
    }
    this.#whole = whole;
    return whole;
  }

  async answer(most: number): Promise<Answer> {
    return new Answer(this.status, this.headers, await this.all(most));
  }

  /** Lets go of the connection, if it is not read to its end. */
  close(): void {
    this.watch.end();
    if (this.response.body?.locked === false) this.response.body.cancel().catch(() => undefined);
  }

  /**
   * Throws what it says, if Skep refuses with it. An agent may send problem documents, too: they do not know the id of the request,
   * which Skep's hold.
   */
  async refusal(): Promise<void> {
    if ([502, 503, 504].includes(this.status) && this.requestId === undefined) {
      this.close();
      throw new ConnectionFailed(`a gateway before the server answered ${this.status}`, true);
    }
    if (this.status < 400 || this.headers.get("content-type") !== "application/problem+json" || this.requestId === undefined) return;
    let said: { request_id?: string } | null | undefined;
    try {
      said = JSON.parse(new TextDecoder().decode(await this.all(MOST_PROBLEM_BYTES))) as typeof said;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
    if (typeof said !== "object" || said?.request_id !== this.requestId) return;
    const seconds = this.headers.get("retry-after") ?? "";
    const retryAfter = /^[0-9]{1,9}$/.test(seconds) ? Number(seconds) * 1000 : undefined;
    throw new (ofStatus(this.status))(said, { retryAfter, callId: this.callId });
  }
}

/** Sends requests to one server. */
export class Wire {
  constructor(
    readonly settings: Settings,
    readonly fetch: typeof globalThis.fetch,
  ) {}

  /** One try. */
  async send(request: Outgoing, patient: Patient): Promise<Reply> {
    patient.signal?.throwIfAborted();
    const watch = new Watch(patient);
    const { url } = this.settings;
    try {
      const response = await this.fetch(url + request.path, {
        method: request.method,
        headers: signed(this.settings, request),
        ...(request.body === undefined ? {} : { body: request.body }),
        // What an agent answers is the answer.
        redirect: "manual",
        cache: "no-store",
        signal: watch.signal,
      });
      watch.heard();
      if (response.type === "opaqueredirect") throw new ProtocolError(`${url} answered with a redirection, which a browser does not show`);
      return new Reply(response, url, watch);
    } catch (error) {
      watch.end();
      throw error instanceof ProtocolError ? error : watch.told(error, url, false);
    }
  }
}
