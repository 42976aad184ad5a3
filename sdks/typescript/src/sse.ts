// Server-sent events (WHATWG HTML, section 9.2): reading them within bounds, and continuing a stream behind what was handed on.
// Pure: bytes in, events out.

import { TooLarge } from "./errors.js";

/** Bytes of one event; a longer one is an error. */
export const MOST_EVENT_BYTES = 16 * 1024 * 1024;

const DIFFERS = "the agent was tried again and answers differently";
const FROM_THE_MIDDLE = "it was read from the middle, and the agent was tried again";
const LF = 10;
const CR = 13;

/** One server-sent event. */
export interface ServerEvent {
  /** What it says. Its lines have `\n` between them. */
  readonly data: string;
  /** Its type. */
  readonly event: string;
  /** Where to go on behind it: the agent's own, or Skep's `ATTEMPT.INDEX`. Not that of an event before. */
  readonly id: string;
}

/** Bytes as they come, into events. */
export class Parser {
  readonly #most: number;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #afterReturn = false;
  #begun = false;
  #data: string[] = [];
  #event = "";
  #id = "";
  #bytes = 0;

  constructor(most = MOST_EVENT_BYTES) {
    this.#most = most;
  }

  /** The events that are whole now. `TooLarge` when one is over the bound: nothing is held of what is over it. */
  push(chunk: Uint8Array): ServerEvent[] {
    const found: ServerEvent[] = [];
    let start = 0;
    if (this.#afterReturn && chunk.length > 0) {
      // The other half of a line's end.
      if (chunk[0] === LF) start = 1;
      this.#afterReturn = false;
    }
    for (let at = start; at < chunk.length; at++) {
      const byte = chunk[at];
      if (byte !== LF && byte !== CR) continue;
      this.#hold(chunk.subarray(start, at));
      this.#line(this.#taken(), found);
      if (byte === CR) {
        if (at + 1 === chunk.length) this.#afterReturn = true;
        else if (chunk[at + 1] === LF) at++;
      }
      start = at + 1;
    }
    this.#hold(chunk.subarray(start));
    return found;
  }

  #hold(piece: Uint8Array): void {
    if (piece.length === 0) return;
    if (this.#bytes + this.#heldBytes + piece.length > this.#most) {
      throw new TooLarge(`an event of the stream is over ${this.#most} bytes`);
    }
    this.#held.push(piece.slice());
    this.#heldBytes += piece.length;
  }

  #taken(): string {
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    const text = held.map((piece) => this.#decoder.decode(piece, { stream: true })).join("") + this.#decoder.decode();
    const isFirst = !this.#begun;
    this.#begun = true;
    return isFirst && text.startsWith("\u{feff}") ? text.slice(1) : text;
  }

  #line(line: string, found: ServerEvent[]): void {
    if (line === "") {
      // An event without data is none.
      if (this.#data.length > 0) found.push({ data: this.#data.join("\n"), event: this.#event || "message", id: this.#id });
      this.#data = [];
      this.#event = this.#id = "";
      this.#bytes = 0;
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") {
      this.#bytes += line.length;
      this.#data.push(value);
    } else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
  }
}

/** Attempt and index of an id that Skep gave. */
function stamp(id: string): [bigint, bigint] | undefined {
  const found = /^([0-9]{1,10})\.([0-9]{1,18})$/.exec(id);
  return found ? [BigInt(found[1] ?? 0), BigInt(found[2] ?? 0)] : undefined;
}

/** What comes does not show where the stream goes on: it has to be read from its start. */
export class Restart extends Error {}

/** The stream cannot be continued; says why. */
export class Differs extends Error {
  constructor(reason = DIFFERS) {
    super(reason);
  }
}

/** A sum over texts in their order, by which two streams are told apart. It keeps nobody from making two that agree. */
class Sum {
  #one = 0xdeadbeef;
  #other = 0x41c6ce57;
  count = 0;

  add(text: string): void {
    for (let at = 0; at <= text.length; at++) {
      // The end of each text counts, too.
      const code = at === text.length ? 0x10000 : text.charCodeAt(at);
      this.#one = Math.imul(this.#one ^ code, 2654435761);
      this.#other = Math.imul(this.#other ^ code, 1597334677);
    }
    this.count += 1;
  }

  equals(other: Sum): boolean {
    return this.count === other.count && this.#one === other.#one && this.#other === other.#other;
  }
}

/**
 * Continues a stream behind what was handed on of it.
 *
 * What comes after a loss is the same attempt's stream, behind the last event; or another attempt's from its start. Then what was
 * handed on must come again, is compared, and is not handed on twice. Skep's own ids name the attempt, and are not compared.
 */
export class Splice {
  #parser: Parser;
  readonly #sum = new Sum();
  #last: [bigint, bigint] | undefined;
  #expected: string | undefined;
  #again: Sum | undefined;
  #inDoubt = false;

  constructor(
    readonly begin?: string,
    readonly most = MOST_EVENT_BYTES,
  ) {
    this.#parser = new Parser(most);
  }

  /** The connection was lost: `Last-Event-ID` of the request for the rest. */
  resume(): string | undefined {
    this.#parser = new Parser(this.most);
    this.#expected = this.#again = undefined;
    if (this.#sum.count === 0) return this.begin;
    if (this.#last !== undefined && !this.#inDoubt) {
      const [attempt, index] = this.#last;
      this.#expected = `${attempt}.${index + 1n}`;
      return `${attempt}.${index}`;
    }
    if (this.begin !== undefined) throw new Differs(FROM_THE_MIDDLE);
    this.#again = new Sum();
    return undefined;
  }

  /** The events that were not handed on before. */
  push(chunk: Uint8Array): ServerEvent[] {
    return this.#parser.push(chunk).filter((event) => this.#isNew(event));
  }

  /** The stream is whole. */
  finish(): void {
    if (this.#expected !== undefined) {
      // It ended behind the last event, or before it.
      this.#inDoubt = true;
      throw new Restart();
    }
    if (this.#again !== undefined) throw new Differs();
  }

  #isNew(event: ServerEvent): boolean {
    const mark = stamp(event.id);
    if (this.#expected !== undefined && this.#expected !== mark?.join(".")) {
      this.#inDoubt = true;
      throw new Restart();
    }
    this.#expected = undefined;
    const text = JSON.stringify([event.event, event.data, mark === undefined ? event.id : null]);
    let isNew = true;
    if (this.#again === undefined) this.#sum.add(text);
    else {
      this.#again.add(text);
      if (this.#again.count < this.#sum.count) return false;
      if (!this.#again.equals(this.#sum)) throw new Differs();
      this.#again = undefined;
      isNew = false;
    }
    this.#last = mark;
    this.#inDoubt = false;
    return isNew;
  }
}
