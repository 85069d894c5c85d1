/** What the API takes and answers, by the types that its OpenAPI document gives (`schema.d.ts`, generated). */
import type { components, paths } from "./schema.d.ts";

export type Schemas = components["schemas"];
export type Run = Schemas["RunOut"];
export type RunState = Schemas["RunState"];
export type RunKind = Schemas["RunKind"];
export type FeedEvent = Schemas["FeedEventOut"];
export type ProblemDocument = Schemas["ProblemOut"];
export type ProblemEntry = Schemas["ErrorOut"];
export type Checkpoint = Schemas["CheckpointOut"];
export type Policy = Schemas["PolicyOut"];
export type PolicyVersion = Schemas["PolicyVersionOut"];
export type PolicyAlias = Schemas["PolicyAliasOut"];
export type Environment = Schemas["EnvironmentOut"];
export type Episode = Schemas["EpisodeOut"];

export type Method = "get" | "post" | "put" | "patch" | "delete";
/** Addresses that take a method. */
export type Path<M extends Method> = {
  [P in keyof paths]: paths[P] extends { [K in M]: { responses: unknown } } ? P : never;
}[keyof paths];

type Operation<P extends keyof paths, M extends Method> = paths[P][M & keyof paths[P]];
type Part<T, K extends string> = T extends { [key in K]?: infer V } ? (V extends undefined ? {} : NonNullable<V>) : {};
type Json<T> = T extends { content: { "application/json": infer V } } ? V : never;
type Responses<P extends keyof paths, M extends Method> = Part<Operation<P, M>, "responses">;

/** Parameters in the path and the query, by name. */
export type Parameters<P extends keyof paths, M extends Method> = Part<Part<Operation<P, M>, "parameters">, "path"> &
  Part<Part<Operation<P, M>, "parameters">, "query">;
/** The body that is sent. */
export type Body<P extends keyof paths, M extends Method> = Json<Part<Operation<P, M>, "requestBody">>;
/** The body of a success. */
export type Answer<P extends keyof paths, M extends Method> = {
  [S in keyof Responses<P, M>]: S extends 200 | 201 | 202 ? Json<Responses<P, M>[S]> : never;
}[keyof Responses<P, M>];
