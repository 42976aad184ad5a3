// Requests as values: what is asked, and of whom. Pure but for the environment, which is read once.

import { uuid } from "./random.js";

/** A request as it is sent. */
export interface Outgoing {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array<ArrayBuffer>;
  /** The agent that it is for. */
  readonly agent?: string;
}

/** What is sent to an agent. */
export interface Asked {
  /** Default: POST. */
  method?: string;
  /** A value that is sent as JSON. */
  json?: unknown;
  /** A body that is sent as it is, instead of `json`. */
  body?: string | Uint8Array<ArrayBuffer>;
  headers?: Readonly<Record<string, string>>;
  /** Default: a random one, for methods that are journaled. */
  idempotencyKey?: string;
}

const DEFAULT_SERVER = "http://127.0.0.1:7537";
/** What is journaled unless an agent's `calls.methods` says something else: all but these. */
const UNJOURNALED = new Set(["GET", "HEAD", "OPTIONS", "CONNECT", "TRACE"]);

/** The value, if a header can have it. */
export function headerValue(name: string, value: string): string {
  if (!/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value)) throw new TypeError(`${name} is made of visible ASCII characters`);
  return value;
}

/** A text as one segment of a path. */
export function segment(text: string): string {
  if (text === "" || text === "." || text === "..") throw new TypeError(`${JSON.stringify(text)} is not a name`);
  return encodeURIComponent(text);
}

/** A path with what is there as its query. */
export function withQuery(path: string, query: Readonly<Record<string, unknown>> = {}): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const text = pairs.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(String(value))}`).join("&");
  return text === "" ? path : `${path}?${text}`;
}

/** Whether requests with this method are calls, as an agent's `calls.methods` say. */
export function isJournaled(method: string, methods?: readonly string[] | null): boolean {
  return methods ? methods.includes(method.toUpperCase()) : !UNJOURNALED.has(method.toUpperCase());
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Path and query of a request to an agent. What would lead out of `/agents/{agent}/` is refused. */
export function target(path: string): string {
  const whole = path.startsWith("/") ? path : `/${path}`;
  if (/[\x00-\x20\x7f#\\]/.test(whole)) {
    throw new TypeError("percent-encode spaces, `#`, `\\` and control characters in a path");
  }
  const bare = whole.split("?")[0] ?? "";
  if (bare.split("/").some((part) => [".", ".."].includes(decoded(part)))) {
    throw new TypeError("a path to an agent has no `.` and `..` segments");
  }
  return whole;
}

/** A request to an agent. A call gets a key of its own unless it has one. */
export function toAgent(agent: string, path: string, asked: Asked, accept: string, prefer?: string): Outgoing {
  const method = (asked.method ?? "POST").toUpperCase();
  if (!/^[A-Z]{1,32}$/.test(method)) throw new TypeError(`${JSON.stringify(method)} is not a method`);
  if (asked.json !== undefined && asked.body !== undefined) throw new TypeError("give `json` or `body`, not both");
  const headers: Record<string, string> = { accept };
  if (asked.json !== undefined) headers["content-type"] = "application/json";
  for (const [name, value] of Object.entries(asked.headers ?? {})) headers[name.toLowerCase()] = value;
  if (asked.idempotencyKey !== undefined) headers["idempotency-key"] = headerValue("an idempotency key", asked.idempotencyKey);
  else if (isJournaled(method)) headers["idempotency-key"] ??= `auto_${uuid().replaceAll("-", "")}`;
  if (prefer !== undefined) headers["prefer"] = headers["prefer"] === undefined ? prefer : `${headers["prefer"]}, ${prefer}`;
  const body = asked.json === undefined ? asked.body : JSON.stringify(asked.json);
  return { method, path: `/agents/${segment(agent)}${target(path)}`, headers, agent, ...(body === undefined ? {} : { body }) };
}

/** Asks for a call's answer: stored, or as it comes in. */
export function attach(callId: string, lastEventId?: string, accept = "*/*"): Outgoing {
  const headers: Record<string, string> = { accept };
  if (lastEventId !== undefined) headers["last-event-id"] = headerValue("the id of an event", lastEventId);
  return { method: "GET", path: `/api/v1/calls/${segment(callId)}/response?wait=true`, headers };
}

/** A request to the management API. */
export function toApi(method: string, path: string, body?: unknown): Outgoing {
  const headers: Record<string, string> = { accept: "application/json" };
  if (body === undefined) return { method, path, headers };
  headers["content-type"] = "application/json";
  return { method, path, headers, body: JSON.stringify(body) };
}

/** Where the server is, and who asks. */
export interface Settings {
  readonly url: string;
  readonly apiKey: string | undefined;
  readonly workspace: string | undefined;
}

/** The headers of a request, with who asks. */
export function signed(settings: Settings, request: Outgoing): Record<string, string> {
  const headers: Record<string, string> = { ...request.headers };
  if (settings.apiKey !== undefined) {
    // An Authorization of the caller's own is meant for the agent: our key goes beside it.
    if (headers["authorization"] === undefined) headers["authorization"] = `Bearer ${settings.apiKey}`;
    else headers["skep-api-key"] = settings.apiKey;
  }
  if (settings.workspace !== undefined) headers["skep-workspace"] = settings.workspace;
  return headers;
}

/** What this needs of Node.js, where it runs there. */
interface Node {
  readonly env: Readonly<Record<string, string | undefined>>;
  getBuiltinModule?(name: "node:fs"): { readFileSync(path: string, encoding: "utf8"): string };
}

function node(): Node | undefined {
  return (globalThis as { process?: Partial<Node> }).process?.env === undefined ? undefined : (globalThis as { process?: Node }).process;
}

function variable(name: string): string | undefined {
  return node()?.env[name]?.trim() || undefined;
}

function file(path: string): string | undefined {
  return node()?.getBuiltinModule?.("node:fs").readFileSync(path, "utf8").trim();
}

function checked(url: string): string {
  const parts = URL.canParse(url) ? new URL(url) : undefined;
  const isRight = parts !== undefined && ["http:", "https:"].includes(parts.protocol) && parts.username === "" && parts.search === "" && parts.hash === "";
  if (!isRight) throw new TypeError(`${JSON.stringify(url)} is not the address of a server, such as ${DEFAULT_SERVER}`);
  return url.replace(/\/+$/, "");
}

/** What is told, else what the CLI reads, else what an agent is given; in a browser the page's own server. */
export function settings(server?: string, apiKey?: string, workspace?: string): Settings {
  const named = server ?? variable("SKEP_SERVER");
  const own = named === undefined ? variable("SKEP_URL") : undefined;
  const page = node() === undefined ? (globalThis as { location?: { origin: string } }).location?.origin : undefined;
  const url = checked(named ?? own ?? page ?? DEFAULT_SERVER);
  // An agent's token is for its own server, and for nobody else.
  const key = apiKey ?? namedKey() ?? (own === undefined ? keptLogin(url) : variable("SKEP_TOKEN"));
  const where = workspace ?? variable("SKEP_WORKSPACE");
  return {
    url,
    apiKey: key === undefined ? undefined : headerValue("the API key", key),
    workspace: where === undefined ? undefined : headerValue("the workspace", where),
  };
}

function namedKey(): string | undefined {
  const key = variable("SKEP_API_KEY");
  const path = variable("SKEP_API_KEY_FILE");
  if (key !== undefined && path !== undefined) throw new TypeError("SKEP_API_KEY and SKEP_API_KEY_FILE are both set");
  return path === undefined ? key : file(path);
}

function keptLogin(url: string): string | undefined {
  const xdg = variable("XDG_CONFIG_HOME");
  const home = variable("HOME");
  const folder = xdg?.startsWith("/") ? xdg : home === undefined ? undefined : `${home}/.config`;
  if (folder === undefined) return undefined;
  try {
    return file(`${folder}/skep/logins/${url.toLowerCase().replaceAll(/[^a-z0-9.-]/g, "_")}`);
  } catch {
    return undefined;
  }
}
