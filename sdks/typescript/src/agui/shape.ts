// What a value must be, as checks from which its type follows. A checked value has what is needed, nothing that the schema does not
// know, and no `null` where a field is optional.

import { ProtocolError } from "../errors.js";

/** Something that is not as it must be. */
export class Malformed extends ProtocolError {}

/** Gives the value as it is known, or throws `Malformed`. `at` is where it stands. */
export type Check<T> = (value: unknown, at: string) => T;

/** A field that may be absent. */
export interface May<T> {
  readonly may: Check<T>;
}

export type Fields = Readonly<Record<string, Check<unknown> | May<unknown>>>;
type Needed<F> = { [K in keyof F as F[K] extends May<unknown> ? never : K]: F[K] extends Check<infer T> ? T : never };
type Optional<F> = { [K in keyof F as F[K] extends May<unknown> ? K : never]?: F[K] extends May<infer T> ? T : never };
type Flat<T> = { [K in keyof T]: T[K] };

/** What fields make. */
export type Made<F> = Flat<Needed<F> & Optional<F>>;
/** What a check gives. */
export type Of<C> = C extends Check<infer T> ? T : never;

export type Json = Readonly<Record<string, unknown>>;

function wrong(at: string, wanted: string): never {
  throw new Malformed(`${at || "the value"}: it must be ${wanted}`);
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export const may = <T>(check: Check<T>): May<T> => ({ may: check });
export const any: Check<unknown> = (value, at) => (value === undefined ? wrong(at, "there") : value);
export const text: Check<string> = (value, at) => (typeof value === "string" ? value : wrong(at, "a text"));
export const flag: Check<boolean> = (value, at) => (typeof value === "boolean" ? value : wrong(at, "true or false"));
export const object: Check<Json> = (value, at) => (isObject(value) ? value : wrong(at, "an object"));
export const whole =
  (least: number): Check<number> =>
  (value, at) => (Number.isSafeInteger(value) && (value as number) >= least ? (value as number) : wrong(at, "a whole number"));
export const oneOf =
  <const T extends string>(...words: readonly T[]): Check<T> =>
  (value, at) => (words.includes(value as T) ? (value as T) : wrong(at, `one of: ${words.join(", ")}`));
export const list =
  <T>(each: Check<T>): Check<T[]> =>
  (value, at) => (Array.isArray(value) ? value.map((one, index) => each(one, `${at}[${index}]`)) : wrong(at, "a list"));
export const some =
  <T>(each: Check<T>): Check<T[]> =>
  (value, at) => {
    const all = list(each)(value, at);
    return all.length > 0 ? all : wrong(at, "a list with something in it");
  };
export const textOr =
  <T>(other: Check<T>): Check<string | T> =>
  (value, at) => (typeof value === "string" ? value : other(value, at));
/** A JSON pointer. */
export const pointer: Check<string> = (value, at) =>
  typeof value === "string" && /^(?:\/(?:[^~/]|~[01])*)*$/.test(value) ? value : wrong(at, "a JSON pointer, as /a/b");

function taken(value: Json, all: Fields, at: string, made: Record<string, unknown>): void {
  for (const [name, field] of Object.entries(all)) {
    const told = Object.hasOwn(value, name) ? value[name] : undefined;
    const where = at === "" ? name : `${at}.${name}`;
    if (typeof field === "function") made[name] = field(told, where);
    else if (told !== undefined && told !== null) made[name] = field.may(told, where);
  }
}

export const fields =
  <const F extends Fields>(all: F): Check<Made<F>> =>
  (value, at) => {
    const made: Record<string, unknown> = {};
    taken(object(value, at), all, at, made);
    return made as Made<F>;
  };

type Tagged<N extends string, S, A> = { [K in keyof A & string]: Flat<Record<N, K> & Made<S> & Made<A[K]>> }[keyof A & string];

/** By the value of a field: what all have, and what each has. */
export const tagged =
  <const N extends string, const S extends Fields, const A extends Readonly<Record<string, Fields>>>(tag: N, shared: S, all: A): Check<Tagged<N, S, A>> =>
  (value, at) => {
    const told = object(value, at)[tag];
    const own = typeof told === "string" && Object.hasOwn(all, told) ? all[told] : undefined;
    if (own === undefined) return wrong(at === "" ? tag : `${at}.${tag}`, `one of: ${Object.keys(all).slice(0, 8).join(", ")}`);
    const made: Record<string, unknown> = { [tag]: told };
    taken(value as Json, shared, at, made);
    taken(value as Json, own, at, made);
    return made as Tagged<N, S, A>;
  };
