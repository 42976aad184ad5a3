// A way to the server that breaks when a test says so.

import { once } from "node:events";
import net from "node:net";

export class Proxy {
  cuts = 0;
  /** Requests that passed. */
  readonly passed: string[] = [];
  readonly #server: net.Server;
  readonly #pairs = new Set<[net.Socket, net.Socket]>();
  #needle: string | undefined;
  #frames: number | undefined;
  #isHeld = false;

  private constructor(readonly host: string, readonly port: number) {
    this.#server = net.createServer((client) => this.#accept(client));
  }

  /** A way to a server, by a port of its own. */
  static async to(url: string): Promise<Proxy> {
    const { hostname, port } = new URL(url);
    const proxy = new Proxy(hostname, Number(port));
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`;
  }

  /** Connections that are open. */
  get open(): number {
    return this.#pairs.size;
  }

  /** Cuts the next request that carries this, when the first byte of its answer comes, once. */
  cutAnswer(needle: string): void {
    this.#needle = needle;
  }

  /** Cuts the next stream behind so many of its events, once. */
  cutBehind(frames: number): void {
    this.#frames = frames;
  }

  /** Passes no answer on any more, on connections that are open now, and says nothing. */
  hold(): void {
    this.#isHeld = true;
  }

  /** Cuts every connection that is open now; they count as one cut. */
  cutAll(): void {
    this.cuts += 1;
    for (const pair of this.#pairs) this.#end(pair);
  }

  /** Listens no more. */
  async close(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const pair of this.#pairs) this.#end(pair);
    await closed;
  }

  #end(pair: [net.Socket, net.Socket]): void {
    this.#pairs.delete(pair);
    for (const socket of pair) socket.destroy();
  }

  /** Passes on what is no event too much. */
  #count([client, server]: [net.Socket, net.Socket], data: Buffer, frames: number): void {
    let end = -2;
    for (let left = frames; left > 0; left--) {
      end = data.indexOf("\n\n", end + 2);
      if (end < 0) {
        this.#frames = left;
        client.write(data);
        return;
      }
    }
    this.#frames = undefined;
    this.cuts += 1;
    client.end(data.subarray(0, end + 2));
    server.destroy();
  }

  #accept(client: net.Socket): void {
    const server = net.connect(this.port, this.host);
    const pair: [net.Socket, net.Socket] = [client, server];
    this.#pairs.add(pair);
    let isCut = false;
    client.on("data", (data) => {
      const text = data.toString("latin1");
      this.passed.push(...[...text.matchAll(/^(?:GET|POST|PUT|DELETE) \S+/gm)].map(([line]) => line));
      if (this.#needle !== undefined && text.includes(this.#needle)) {
        this.#needle = undefined;
        isCut = true;
      }
      server.write(data);
    });
    let isHeld = false;
    server.on("data", (data) => {
      if (this.#isHeld) isHeld = !(this.#isHeld = false);
      if (isHeld) return;
      if (isCut) {
        this.cuts += 1;
        this.#end(pair);
      } else if (this.#frames === undefined) client.write(data);
      else this.#count(pair, data, this.#frames);
    });
    for (const socket of pair) {
      socket.on("error", () => this.#end(pair));
      socket.on("close", () => this.#end(pair));
    }
  }
}
