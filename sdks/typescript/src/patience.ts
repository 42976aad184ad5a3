// When a request that got no answer is tried again, and after which wait. Decisions only, the same as in the other SDKs.

import { ApiError, ConnectionFailed } from "./errors.js";

/** Milliseconds without progress after which a lost server is given up. */
export const WITHIN = 60_000;
/** Milliseconds before the second try. */
const FIRST_WAIT = 100;
/** Milliseconds: the longest wait between two tries, unless the server asks for a longer one. */
const LONGEST_WAIT = 2_000;
const MOST_DOUBLINGS = 10;

/** Skep's words for "not now", also without Retry-After. */
const PASSING = new Set(["shutting-down", "store-unavailable"]);
/** These end when somebody does something, and not by waiting. */
const LASTING = new Set(["agent-stopped", "agent-crash-loop"]);

/**
 * The least wait in milliseconds before another try; none when the failure is the result. `reached`: the server was there once.
 * `safe`: whatever became of the request, it does no harm to send it again.
 */
export function judge(error: unknown, of: { reached: boolean; safe: boolean }): number | undefined {
  if (error instanceof ConnectionFailed) {
    // A server that was never there is rather a wrong address.
    return (error.sent ? of.safe : of.reached) ? 0 : undefined;
  }
  if (!(error instanceof ApiError)) return undefined;
  if (error.status === 429) return error.retryAfter;
  if (error.status !== 503 || LASTING.has(error.code)) return undefined;
  return error.retryAfter ?? (PASSING.has(error.code) ? 0 : undefined);
}

/** The waits between tries that fail one after the other. */
export class Waits {
  #spent = 0;
  #tries = 0;

  constructor(
    readonly within = WITHIN,
    readonly first = FIRST_WAIT,
  ) {}

  /** Something new came: the patience begins anew. */
  progress(): void {
    this.#spent = 0;
    this.#tries = 0;
  }

  /** Milliseconds before the next try; none when the patience is at its end. `took`: what the try itself was without a connection. */
  next(atLeast: number, took = 0, chance = Math.random()): number | undefined {
    this.#spent += took;
    const left = this.within - this.#spent;
    if (left <= 0 || atLeast > left) return undefined;
    const half = Math.min(this.first * 2 ** Math.min(this.#tries, MOST_DOUBLINGS), LONGEST_WAIT) / 2;
    // Half of it random, so that the clients of a server that is back do not come at once.
    const wait = Math.min(Math.max(half + half * chance, atLeast), left);
    this.#spent += wait;
    this.#tries += 1;
    return wait;
  }
}
