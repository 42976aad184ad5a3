// What an agent answers, whole.

import { AgentError } from "./errors.js";

/** An agent's own answer, whatever its status. */
export class Answer {
  constructor(
    /** The agent's status. */
    readonly status: number,
    /** Its headers. */
    readonly headers: Headers,
    /** Its body. */
    readonly content: Uint8Array,
  ) {}

  /** Whether the status is 2xx. */
  get ok(): boolean {
    return this.status >= 200 && this.status < 300;
  }

  /** The body as text in UTF-8; what is not UTF-8 is replaced. */
  get text(): string {
    return new TextDecoder().decode(this.content);
  }

  /** The body as JSON. `SyntaxError` when it is none. */
  json<T = unknown>(): T {
    return JSON.parse(this.text) as T;
  }

  /** The call that the answer belongs to; none when it was not journaled (GET, for example). */
  get callId(): string | undefined {
    return this.headers.get("skep-call-id") ?? undefined;
  }

  /** The id of the request, to look up in the server's log. */
  get requestId(): string | undefined {
    return this.headers.get("skep-request-id") ?? undefined;
  }

  /**
   * Whether this is the stored answer to an earlier request with the same idempotency key. A try of this very call whose answer
   * got lost on its way is an earlier request, too.
   */
  get replayed(): boolean {
    return this.headers.get("idempotency-replayed") === "true";
  }

  /** Itself, if the status is 2xx; else throws `AgentError`. */
  orThrow(): this {
    if (!this.ok) throw new AgentError(this);
    return this;
  }
}
