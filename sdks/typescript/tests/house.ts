// What the tests have: a server, a way to it that can be cut, and agents whose gates they open.

import { randomUUID } from "node:crypto";
import { afterEach, beforeEach } from "node:test";
import { pathToFileURL } from "node:url";

import { Client } from "../src/index.js";
import { Proxy } from "./proxy.js";

export const SERVER = process.env["SKEP_SERVER"] ?? "";
export const KEY = process.env["SKEP_API_KEY"] ?? "";
/** Nothing of it is cut. */
export const straight = new Client();
export const fresh = (): string => randomUUID();

/** Lets an agent go on. */
export async function open(gate: string): Promise<void> {
  (await straight.call("ts", `/open?gate=${gate}`, { method: "GET" })).orThrow();
}

/** Lets an agent of a shape go on, in one conversation. */
export async function openIn(threadId: string, gate: string): Promise<void> {
  (await straight.call("agui", `/open/${threadId}/${gate}`, { method: "GET" })).orThrow();
}

/** How often the agent did what has this key. */
export async function counted(key: string): Promise<number> {
  return (await straight.call("ts", `/counted?key=${key}`, { method: "GET" })).json();
}

/** A client whose way to the server can be cut, anew for each test. */
export const way = {} as { proxy: Proxy; client: Client };
export function withProxy(): void {
  beforeEach(async () => {
    way.proxy = await Proxy.to(SERVER);
    way.client = new Client({ server: way.proxy.url });
  });
  afterEach(() => way.proxy.close());
}

/** What an agent of a name says. */
export interface Shape {
  readonly protocol?: string;
  readonly gates?: readonly string[];
}

/** The agents of many shapes, by which the official client is tried too. */
export async function shapes(): Promise<Record<string, Shape>> {
  const module = (await import(pathToFileURL(`${process.env["AGUI"]}/shapes.mjs`).href)) as { shapes: Record<string, Shape> };
  return module.shapes;
}
