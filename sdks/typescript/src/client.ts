// The client: agents, calls, runs, and what else the management API has.

import type { Answer } from "./answer.js";
import type { components, paths } from "./api.js";
import { type Base, EventStream, type Limits, api, call, incidents, submit } from "./calling.js";
import { WITHIN } from "./patience.js";
import { type Asked, attach, segment, settings, toAgent, toApi, withQuery } from "./requests.js";
import { Runs } from "./runs.js";
import { Wire } from "./transport.js";
import type { Argument, Given, Method, Route, Taken } from "./typed.js";

type Schemas = components["schemas"];
type Query<P extends Route<"get">> = paths[P]["get"] extends { parameters: { query?: infer Q } } ? NonNullable<Q> : never;
type Filter<P extends Route<"get">> = Omit<Query<P>, "cursor" | "limit"> & Paged;

/** Milliseconds of silence of the management API. */
const TIMEOUT = 60_000;

/** How a list is read. */
export interface Paged {
  /** Rows that are asked for at once. */
  pageSize?: number;
  signal?: AbortSignal;
}

/** How a client is made. */
export interface ClientOptions {
  /**
   * The server's address. Default: `SKEP_SERVER`; in an agent that Skep runs, `SKEP_URL`; in a browser the page's own; else
   * `http://127.0.0.1:7537`.
   */
  server?: string;
  /**
   * Default: `SKEP_API_KEY`, the file `SKEP_API_KEY_FILE`, the login that `skep login` has kept for the address; in an agent,
   * `SKEP_TOKEN`.
   */
  apiKey?: string;
  /** For who belongs to several. Default: `SKEP_WORKSPACE`. */
  workspace?: string;
  /** Milliseconds of silence of the management API. Calls to agents have timeouts of their own. */
  timeout?: number;
  /**
   * Milliseconds without progress after which a server that cannot be reached, or that refuses for now, is given up. One that was
   * never there fails at once.
   */
  patience?: number;
  /** A `fetch` of yours, for proxies or client certificates. */
  fetch?: typeof globalThis.fetch;
}

/** A request to an agent, and how long it is waited for. */
export interface CallOptions extends Asked, Limits {
  /** Bytes of the answer over which it is `TooLarge`. */
  maxBytes?: number;
}

/** A call that is durable and goes on by itself. */
export class Handle {
  constructor(
    readonly client: Client,
    /** `call_…` */
    readonly callId: string,
  ) {}

  /** The agent's answer, as `client.calls.wait` gives it. */
  wait(limits?: Limits): Promise<Answer> {
    return this.client.calls.wait(this.callId, limits);
  }

  /** How far it is. */
  get(): Promise<Schemas["Call"]> {
    return this.client.calls.get(this.callId);
  }

  /** Ends it. */
  cancel(): Promise<Schemas["Call"]> {
    return this.client.calls.cancel(this.callId);
  }
}

/**
 * A client of one Skep server. Nothing is sent yet; `TypeError` when an option cannot be used.
 *
 * What Skep refuses is an `ApiError`, what cannot be reached a `ConnectionFailed`, what does not come in time `TimedOut`.
 */
export class Client {
  readonly agents: Agents;
  readonly calls: Calls;
  readonly runs: Runs;
  readonly events: Events;
  readonly secrets: Secrets;
  readonly audit: Audit;
  readonly #base: Base;

  constructor(options: ClientOptions = {}) {
    const fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    const wire = new Wire(settings(options.server, options.apiKey, options.workspace), fetch);
    this.#base = { wire, patience: options.patience ?? WITHIN, timeout: options.timeout ?? TIMEOUT, reached: false };
    this.agents = new Agents(this);
    this.calls = new Calls(this, this.#base);
    this.runs = new Runs(this.#base);
    this.events = new Events(this, this.#base);
    this.secrets = new Secrets(this);
    this.audit = new Audit(this);
  }

  /** The server's address. */
  get server(): string {
    return this.#base.wire.settings.url;
  }

  /**
   * A request to any route of the management API, with the types of the OpenAPI document:
   * `client.request("get", "/api/v1/agents/{agent}", { path: { agent: "a" } })`.
   */
  async request<M extends Method, P extends Route<M>>(method: M, route: P, ...[taken]: Argument<Taken<M, P>>): Promise<Given<M, P>> {
    const all = (taken ?? {}) as { path?: Record<string, unknown>; query?: Record<string, unknown>; body?: unknown; signal?: AbortSignal };
    const path = route.replaceAll(/\{([^}]+)\}/g, (_, name: string) => segment(String(all.path?.[name] ?? "")));
    const request = toApi(method.toUpperCase(), withQuery(path, all.query), all.body);
    return (await api(this.#base, request, all.signal)) as Given<M, P>;
  }

  /** How well the server is. A `failed` one is an answer, and no error. */
  async health(signal?: AbortSignal): Promise<Schemas["BasicHealth"]> {
    return (await api(this.#base, toApi("GET", "/api/v1/health/basic"), signal, [503])) as Schemas["BasicHealth"];
  }

  /** How well each part of it is; this needs a key. */
  async healthOfParts(signal?: AbortSignal): Promise<Schemas["DetailedHealth"]> {
    return (await api(this.#base, toApi("GET", "/api/v1/health/detailed"), signal, [503])) as Schemas["DetailedHealth"];
  }

  /**
   * Calls an agent. Whatever it answers is the answer, also outside 2xx; what Skep refuses is an error.
   *
   * A call (any method but GET, HEAD and OPTIONS) is durable and answered once: it gets a random idempotency key unless it has one,
   * and is sent again under that same key through lost connections, restarts of the server, 429 and 503 that pass. Other requests
   * are sent again only if nothing of them was sent.
   */
  async call(agent: string, path = "/", options: CallOptions = {}): Promise<Answer> {
    return call(this.#base, { request: toAgent(agent, path, options, "*/*") }, options, options.maxBytes);
  }

  /** Calls an agent, and comes back as soon as the call is durable, instead of with the answer. */
  async submit(agent: string, path = "/", options: Omit<CallOptions, "maxBytes"> = {}): Promise<Handle> {
    return new Handle(this, await submit(this.#base, toAgent(agent, path, options, "*/*", "respond-async"), options));
  }

  /**
   * Calls an agent that answers with server-sent events; gives them as they come.
   *
   * A call's stream goes on by itself where its connection was lost, with every event once; `Unresumable` when the agent was tried
   * again and says something else. An answer that is no event stream is an `AgentError`; the rest is as with `call`.
   */
  stream(agent: string, path = "/", options: Omit<CallOptions, "maxBytes"> = {}): EventStream {
    return new EventStream(this.#base, { request: toAgent(agent, path, options, "text/event-stream") }, options);
  }
}

interface Page<T> {
  items: T[];
  next?: string | null;
}

/** All rows of a list, page by page as they are asked for. */
async function* all<T>(paged: Paged, page: (at: { cursor?: string; limit?: number }) => Promise<Page<T>>): AsyncGenerator<T, void, undefined> {
  const limit = paged.pageSize === undefined ? {} : { limit: paged.pageSize };
  let cursor: string | null | undefined;
  do {
    const { items, next } = await page({ ...limit, ...(cursor == null ? {} : { cursor }) });
    yield* items;
    cursor = items.length === 0 ? undefined : next;
  } while (cursor != null);
}

function filters<F extends Paged>({ pageSize: _, signal: __, ...rest }: F): Omit<F, keyof Paged> {
  return rest;
}

/** Agents and what is done with them. */
export class Agents {
  constructor(readonly client: Client) {}

  /** All agents, by name; page by page as they are asked for. */
  list(paged: Paged = {}): AsyncGenerator<Schemas["Agent"], void, undefined> {
    return all(paged, (query) => this.client.request("get", "/api/v1/agents", { query, signal: paged.signal }));
  }

  /** One agent. */
  get(agent: string, signal?: AbortSignal): Promise<Schemas["Agent"]> {
    return this.client.request("get", "/api/v1/agents/{agent}", { path: { agent }, signal });
  }

  /** Deploys an agent, or a new revision of one. The same specification again changes nothing. */
  deploy(spec: Schemas["AgentSpec"], signal?: AbortSignal): Promise<Schemas["Agent"]> {
    return this.client.request("post", "/api/v1/agents", { body: spec, signal });
  }

  /** Stops and forgets an agent; with `force` also when it has open calls. */
  async remove(agent: string, force = false, signal?: AbortSignal): Promise<void> {
    await this.client.request("delete", "/api/v1/agents/{agent}", { path: { agent }, query: force ? { force } : {}, signal });
  }

  /** Starts an agent that was stopped. */
  start(agent: string, signal?: AbortSignal): Promise<Schemas["Agent"]> {
    return this.client.request("post", "/api/v1/agents/{agent}/start", { path: { agent }, signal });
  }

  /** Stops an agent. Its asynchronous calls wait. */
  stop(agent: string, signal?: AbortSignal): Promise<Schemas["Agent"]> {
    return this.client.request("post", "/api/v1/agents/{agent}/stop", { path: { agent }, signal });
  }

  /** Restarts an agent; one in a crash loop is tried again. */
  restart(agent: string, signal?: AbortSignal): Promise<Schemas["Agent"]> {
    return this.client.request("post", "/api/v1/agents/{agent}/restart", { path: { agent }, signal });
  }

  /** Goes back to a revision; default: the one before. */
  rollback(agent: string, revision?: number, signal?: AbortSignal): Promise<Schemas["Agent"]> {
    return this.client.request("post", "/api/v1/agents/{agent}/rollback", { path: { agent }, body: revision === undefined ? {} : { to: revision }, signal });
  }

  /** Deploys the agent's specification with so many copies: a number, or `{ min: 0, max: 4 }`. */
  async scale(agent: string, replicas: NonNullable<Schemas["AgentSpec"]["replicas"]>, signal?: AbortSignal): Promise<Schemas["Agent"]> {
    const { spec } = await this.get(agent, signal);
    return this.deploy({ ...spec, replicas }, signal);
  }
}

/** Calls as records, and their answers. */
export class Calls {
  readonly #base: Base;

  constructor(readonly client: Client, base: Base) {
    this.#base = base;
  }

  /** Calls, newest first; page by page as they are asked for. */
  list(filter: Filter<"/api/v1/calls"> = {}): AsyncGenerator<Schemas["Call"], void, undefined> {
    return all(filter, (at) => this.client.request("get", "/api/v1/calls", { query: { ...filters(filter), ...at }, signal: filter.signal }));
  }

  /** One call, with its attempts. */
  get(call: string, signal?: AbortSignal): Promise<Schemas["Call"]> {
    return this.client.request("get", "/api/v1/calls/{call}", { path: { call }, signal });
  }

  /**
   * The agent's answer to a call, stored or once it comes. How the call ended without one is an `ApiError`: `call-dead`,
   * `call-cancelled`, `call-expired`.
   */
  async wait(callId: string, limits: Limits & { maxBytes?: number } = {}): Promise<Answer> {
    attach(callId);
    return call(this.#base, { callId }, limits, limits.maxBytes);
  }

  /** The event stream that a call is answered with, from its start or behind an event. */
  attach(callId: string, options: Limits & { lastEventId?: string } = {}): EventStream {
    attach(callId, options.lastEventId);
    return new EventStream(this.#base, { callId, lastEventId: options.lastEventId }, options);
  }

  /** Ends a call that is not wanted any more. */
  cancel(call: string, signal?: AbortSignal): Promise<Schemas["Call"]> {
    return this.client.request("post", "/api/v1/calls/{call}/cancel", { path: { call }, signal });
  }

  /** Makes a new call of the same request. */
  replay(call: string, signal?: AbortSignal): Promise<Schemas["Call"]> {
    return this.client.request("post", "/api/v1/calls/{call}/replay", { path: { call }, signal });
  }

  /** Gives a dead call another round of attempts. */
  redrive(call: string, signal?: AbortSignal): Promise<Schemas["Call"]> {
    return this.client.request("post", "/api/v1/calls/{call}/redrive", { path: { call }, signal });
  }

  /** Gives every dead call, or those of one agent, another round; tells how many. */
  async redriveAll(agent?: string, signal?: AbortSignal): Promise<number> {
    const { calls } = await this.client.request("post", "/api/v1/calls/redrive", { query: agent === undefined ? {} : { agent }, signal });
    return calls;
  }

  /** Forgets a call that has ended. */
  async purge(call: string, signal?: AbortSignal): Promise<void> {
    await this.client.request("delete", "/api/v1/calls/{call}", { path: { call }, signal });
  }
}

/** What happened to agents, instances, calls and the server. */
export class Events {
  readonly #base: Base;

  constructor(readonly client: Client, base: Base) {
    this.#base = base;
  }

  /** Events from `since` on (RFC 3339, or `10m` back), oldest first; without it, the newest page. */
  list(filter: Filter<"/api/v1/events"> = {}): AsyncGenerator<Schemas["Event"], void, undefined> {
    return all(filter, (at) => this.client.request("get", "/api/v1/events", { query: { ...filters(filter), ...at }, signal: filter.signal }));
  }

  /** Events as they happen, each once, for as long as it is read: from `since` or behind the event `after`, else from now. */
  stream(filter: Query<"/api/v1/events/stream"> & { signal?: AbortSignal } = {}): AsyncGenerator<Schemas["Event"], void, undefined> {
    const { signal, ...query } = filter;
    const request = { method: "GET", path: withQuery("/api/v1/events/stream", query), headers: { accept: "text/event-stream" } };
    return incidents(this.#base, request, signal);
  }
}

/** The vault: what is in it, and a value when it is asked for by `reveal`. */
export class Secrets {
  constructor(readonly client: Client) {}

  /** Secrets without their values. */
  list(filter: Filter<"/api/v1/secrets"> = {}): AsyncGenerator<Schemas["Secret"], void, undefined> {
    return all(filter, (at) => this.client.request("get", "/api/v1/secrets", { query: { ...filters(filter), ...at }, signal: filter.signal }));
  }

  /** One secret, by its name or id, without its value. */
  get(secret: string, signal?: AbortSignal): Promise<Schemas["Secret"]> {
    return this.client.request("get", "/api/v1/secrets/{secret}", { path: { secret }, signal });
  }

  /** A value. `reason` stands in the audit log. */
  reveal(secret: string, asked: Schemas["Reveal"], signal?: AbortSignal): Promise<Schemas["Revealed"]> {
    return this.client.request("post", "/api/v1/secrets/{secret}/reveal", { path: { secret }, body: asked, signal });
  }
}

/** The audit log. */
export class Audit {
  constructor(readonly client: Client) {}

  /** Entries: by whom, which action (`agent:deploy`, or all of `agent`), about what, `allow` or `deny`, of which request, and when. */
  list(filter: Filter<"/api/v1/audit/entries"> = {}): AsyncGenerator<Schemas["AuditEntry"], void, undefined> {
    return all(filter, (at) => this.client.request("get", "/api/v1/audit/entries", { query: { ...filters(filter), ...at }, signal: filter.signal }));
  }

  /** One entry. */
  get(number: number, signal?: AbortSignal): Promise<Schemas["AuditEntry"]> {
    return this.client.request("get", "/api/v1/audit/entries/{number}", { path: { number }, signal });
  }
}
