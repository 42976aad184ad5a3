// The management API as types: what each route takes and gives, out of the OpenAPI document.

import type { paths } from "./api.js";

export type Method = "get" | "post" | "put" | "patch" | "delete";

/** The routes that know a method. */
export type Route<M extends Method> = {
  [P in keyof paths]: paths[P] extends Record<M, { responses: unknown }> ? P : never;
}[keyof paths];

type Operation<M extends Method, P extends keyof paths> = paths[P] extends Record<M, infer O> ? O : never;

type InPath<O> = O extends { parameters: { path: infer V } } ? ([V] extends [undefined] ? unknown : { path: V }) : unknown;
type InQuery<O> = O extends { parameters: { query?: infer V } } ? ([V] extends [undefined] ? unknown : { query?: V }) : unknown;
type Json<C> = C extends { content: { "application/json": infer V } } ? V : never;
type InBody<O> = O extends { requestBody: infer B }
  ? [Json<B>] extends [never] ? unknown : { body: Json<B> }
  : O extends { requestBody?: infer B } ? ([Json<NonNullable<B>>] extends [never] ? unknown : { body?: Json<NonNullable<B>> }) : unknown;

/** What a route takes. */
export type Taken<M extends Method, P extends keyof paths> = InPath<Operation<M, P>> & InQuery<Operation<M, P>> & InBody<Operation<M, P>> & { signal?: AbortSignal | undefined };

type Responses<O> = O extends { responses: infer R } ? R : never;
type Success<R> = { [S in keyof R & (200 | 201 | 202 | 203 | 206)]: Json<R[S]> }[keyof R & (200 | 201 | 202 | 203 | 206)];

/** What a route gives: JSON as it is described; `undefined` for an empty answer, and text where it is no JSON. */
export type Given<M extends Method, P extends keyof paths> = [Success<Responses<Operation<M, P>>>] extends [never]
  ? unknown
  : Success<Responses<Operation<M, P>>>;

/** An argument that can be left out when nothing in it is needed. */
export type Argument<T> = Record<never, never> extends T ? [taken?: T] : [taken: T];
