// JSON Patch (RFC 6902) over JSON pointers (RFC 6901): all of a patch or nothing. What it is applied to stays as it is.

import type { Operation } from "./events.js";
import { Malformed } from "./shape.js";

type Tree = Record<string, unknown> | unknown[];

/** Names that lead out of a value in JavaScript. */
const BARRED = new Set(["__proto__", "constructor", "prototype"]);

function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null;
}

function segments(pointer: string): string[] {
  return pointer.split("/").slice(1).map((it) => it.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function nowhere(pointer: string): never {
  throw new Malformed(`a patch that does not apply: nothing is at ${JSON.stringify(pointer)}`);
}

/** The place of a list that a segment names; `end` is the greatest. */
function place(name: string, end: number, pointer: string): number {
  const at = /^(?:0|[1-9][0-9]*)$/.test(name) ? Number(name) : Number.NaN;
  return at <= end ? at : nowhere(pointer);
}

function child(tree: unknown, name: string, pointer: string): unknown {
  if (Array.isArray(tree)) return tree[place(name, tree.length - 1, pointer)];
  if (!isTree(tree) || !Object.hasOwn(tree, name)) return nowhere(pointer);
  return (tree as Record<string, unknown>)[name];
}

function put(tree: Record<string, unknown>, name: string, value: unknown): void {
  // An assignment to some names would be something else.
  if (BARRED.has(name)) Object.defineProperty(tree, name, { value, configurable: true, enumerable: true, writable: true });
  else tree[name] = value;
}

/** A document that is changed, of which what is not changed is shared with the one before. */
class Draft {
  #own = new WeakSet<object>();

  constructor(public root: unknown) {}

  at(pointer: string): unknown {
    return segments(pointer).reduce((tree, name) => child(tree, name, pointer), this.root);
  }

  /** What stands at two places from now on, and is nobody's own. */
  shared(pointer: string): unknown {
    this.#own = new WeakSet();
    return this.at(pointer);
  }

  #copied(value: unknown, pointer: string): Tree {
    if (!isTree(value)) return nowhere(pointer);
    if (this.#own.has(value)) return value;
    const copy: Tree = Array.isArray(value) ? [...(value as unknown[])] : Object.fromEntries(Object.entries(value));
    this.#own.add(copy);
    return copy;
  }

  /** The inner place of a pointer, all of whose way is this draft's own. */
  #parent(pointer: string): [Tree, string] {
    const names = segments(pointer);
    const last = names.pop() ?? "";
    let tree = this.#copied(this.root, pointer);
    this.root = tree;
    for (const name of names) {
      const copy = this.#copied(child(tree, name, pointer), pointer);
      if (Array.isArray(tree)) tree[Number(name)] = copy;
      else put(tree, name, copy);
      tree = copy;
    }
    return [tree, last];
  }

  add(pointer: string, value: unknown): void {
    if (pointer === "") {
      this.root = value;
      return;
    }
    const [tree, name] = this.#parent(pointer);
    if (Array.isArray(tree)) tree.splice(name === "-" ? tree.length : place(name, tree.length, pointer), 0, value);
    else put(tree, name, value);
  }

  remove(pointer: string): void {
    if (pointer === "") {
      this.root = null;
      return;
    }
    const [tree, name] = this.#parent(pointer);
    child(tree, name, pointer);
    if (Array.isArray(tree)) tree.splice(Number(name), 1);
    else delete tree[name];
  }

  replace(pointer: string, value: unknown): void {
    this.at(pointer);
    if (pointer === "") this.root = value;
    else {
      const [tree, name] = this.#parent(pointer);
      if (Array.isArray(tree)) tree[Number(name)] = value;
      else put(tree, name, value);
    }
  }
}

/** Whether two JSON values are the same, whatever the order of their fields. */
export function isSame(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  if (!isTree(one) || !isTree(other) || Array.isArray(one) !== Array.isArray(other)) return false;
  const names = Object.keys(one);
  const inner = (tree: Tree, name: string): unknown => (tree as Record<string, unknown>)[name];
  return names.length === Object.keys(other).length
    && names.every((name) => Object.hasOwn(other, name) && isSame(inner(one, name), inner(other, name)));
}

function apply(draft: Draft, operation: Operation): void {
  const { path } = operation;
  switch (operation.op) {
    case "add":
      return draft.add(path, operation.value);
    case "remove":
      return draft.remove(path);
    case "replace":
      return draft.replace(path, operation.value);
    case "copy":
      return draft.add(path, draft.shared(operation.from));
    case "test":
      return isSame(draft.at(path), operation.value) ? undefined : nowhere(path);
    case "move": {
      const value = draft.at(operation.from);
      if (path === operation.from) return undefined;
      if (path.startsWith(`${operation.from}/`)) return nowhere(path);
      draft.remove(operation.from);
      return draft.add(path, value);
    }
  }
}

/** The document with a patch applied. `Malformed` when the patch does not apply. */
export function patched(document: unknown, patch: readonly Operation[]): unknown {
  const draft = new Draft(document);
  for (const operation of patch) apply(draft, operation);
  return draft.root;
}
