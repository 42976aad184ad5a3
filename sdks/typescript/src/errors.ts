// What can go wrong, as types. Decisions about trying again are in `patience.ts`.

import type { Answer } from "./answer.js";
import type { components } from "./api.js";

/** Everything that this package throws, but `TypeError` for wrong arguments and the reason of a signal that was aborted. */
export class SkepError extends Error {
  override get name(): string {
    return this.constructor.name;
  }
}

/** Skep refused, and says why (RFC 9457). Thrown as the subclass for its status. */
export class ApiError extends SkepError {
  /** Where the code is documented, relative to the server: `/docs/errors/agent-not-found`. */
  readonly type: string;
  /** A short summary that is the same for every occurrence. */
  readonly title: string;
  /** The HTTP status. */
  readonly status: number;
  /** What happened this time. */
  readonly detail: string;
  /** The stable code, such as `agent-not-found`: what programs look at. */
  readonly code: string;
  /** The id of the request, to look up in the server's log. */
  readonly requestId: string;
  /** The next thing to do. */
  readonly hint: string;
  /** Milliseconds after which trying again may help, if the server says so. */
  readonly retryAfter: number | undefined;
  /** The call that it is about, if it is about one. */
  readonly callId: string | undefined;

  constructor(problem: Partial<components["schemas"]["Problem"]>, about: { retryAfter?: number | undefined; callId?: string | undefined } = {}) {
    const text = (value: unknown): string => (typeof value === "string" ? value : "");
    const words = text(problem.detail) || text(problem.title);
    const hint = text(problem.hint);
    const joint = /[.?!]$/.test(words) ? " " : ". ";
    super(`${hint === "" ? words : words + joint + hint} [${text(problem.code)}, ${text(problem.request_id)}]`);
    this.type = text(problem.type);
    this.title = text(problem.title);
    this.status = typeof problem.status === "number" ? problem.status : 0;
    this.detail = text(problem.detail);
    this.code = text(problem.code);
    this.requestId = text(problem.request_id);
    this.hint = hint;
    this.retryAfter = about.retryAfter;
    this.callId = about.callId;
  }
}

/** 400, 405, 408, 413, 415, 422, 431: the request itself is wrong. */
export class BadRequest extends ApiError {}

/** 401: no key, or one that does not count. */
export class Unauthorized extends ApiError {}

/** 403: a policy, a role or a scope says no. */
export class Forbidden extends ApiError {}

/** 404, 410: there is no such thing, or none that this key may know of. */
export class NotFound extends ApiError {}

/** 409, 412: not in this state, or somebody else was first. */
export class Conflict extends ApiError {}

/** 429: too many requests, a full queue, a quota. `retryAfter` says when again. */
export class RateLimited extends ApiError {}

/** 500 and above: the server, or an agent behind it, could not do it. */
export class ServerError extends ApiError {}

/** 502: the agent gave no answer; with `call-dead` after all attempts. */
export class BadGateway extends ServerError {}

/** 503: not now. `retryAfter` says when again, if somebody knows. */
export class Unavailable extends ServerError {}

/** 504: the agent was silent for too long, or the call expired. */
export class GatewayTimeout extends ServerError {}

/** What gets the answer later, of a call whose answer did not come. */
export class Unanswered extends SkepError {
  /** The key of a call: the same request with it gets the answer of that call, whatever became of it. */
  idempotencyKey: string | undefined;
  /** The call, if its id is known. It goes on. */
  callId: string | undefined;
}

/** No connection to the server, or it was lost, and patience is at its end. */
export class ConnectionFailed extends Unanswered {
  /** Whether something of the request may have been sent: what became of it is not known then. */
  readonly sent: boolean;

  constructor(message: string, sent: boolean, options?: ErrorOptions) {
    super(message, options);
    this.sent = sent;
  }
}

/** The answer did not come within `timeout`. A call goes on; its key or id gets its answer later. */
export class TimedOut extends Unanswered {}

/** What answered does not speak as Skep does. */
export class ProtocolError extends SkepError {}

/** A request, an answer or an event is over a bound of this client. */
export class TooLarge extends SkepError {}

/**
 * A stream was cut, and what came before cannot be continued: the agent was tried again and says something else.
 * `client.calls.wait(callId)` has the whole answer.
 */
export class Unresumable extends SkepError {
  readonly callId: string;

  constructor(callId: string, reason: string) {
    super(`the stream of ${callId} cannot be continued where its connection was lost: ${reason}`);
    this.callId = callId;
  }
}

/** The agent's own answer is not the one that was asked for: not 2xx, or no event stream. */
export class AgentError extends SkepError {
  /** What it answered. */
  readonly answer: Answer;

  constructor(answer: Answer, wanted = "a success") {
    const about = answer.callId === undefined ? "" : ` (${answer.callId})`;
    super(`the agent answered ${answer.status}${about}, not ${wanted}: ${answer.text.slice(0, 200)}`);
    this.answer = answer;
  }
}

/** A run has ended with an error, and says why. */
export class RunFailed extends SkepError {
  /** A word for programs, such as `call-dead` or one of the agent's own. */
  readonly code: string | undefined;

  constructor(message: string, code: string | undefined) {
    super(message);
    this.code = code;
  }
}

const FAMILIES: Readonly<Record<number, typeof ApiError>> = {
  401: Unauthorized,
  403: Forbidden,
  404: NotFound,
  409: Conflict,
  410: NotFound,
  412: Conflict,
  429: RateLimited,
  502: BadGateway,
  503: Unavailable,
  504: GatewayTimeout,
};

/** The type for a status. */
export function ofStatus(status: number): typeof ApiError {
  return FAMILIES[status] ?? (status >= 500 ? ServerError : BadRequest);
}
