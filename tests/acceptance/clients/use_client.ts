// Uses the types that openapi-typescript generated, through openapi-fetch: trains, waits, lists, cancels, acts.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };
const client = createClient<paths>({ baseUrl: process.argv[2] });
const body: components["schemas"]["TrainRequest"] = {
  algorithm: "ppo",
  configuration: "test",
  overrides: { "env.name": "CartPole-v1" },
  labels: { by: "typescript" },
};

function given<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (answer.data === undefined) throw new Error(`${answer.response.status} ${JSON.stringify(answer.error)}`);
  return answer.data;
}

function is(found: unknown, wanted: unknown): void {
  if (JSON.stringify(found) !== JSON.stringify(wanted)) throw new Error(`${JSON.stringify(found)} is not ${wanted}`);
}

const run = given(await client.POST("/v1/train", { body, params: { header: { prefer: "wait=240" } } }));
is(run.state, "succeeded");

const evaluation = { run: run.id, n_episodes: 2 };
const score = given(
  await client.POST("/v1/evaluate", { body: evaluation, params: { header: { prefer: "wait=240" } } }),
);
is(score.state, "succeeded");

const page = given(await client.GET("/v1/runs", { params: { query: { label: ["by=typescript"], limit: 5 } } }));
is(page.data.map((found) => found.id), [run.id]);
is(page.next_cursor, null);

const long = given(await client.POST("/v1/train", { body: { ...body, n_epochs: 100_000 } }));
const cancelled = given(await client.POST("/v1/runs/{run_id}/cancel", { params: { path: { run_id: long.id } } }));
is(cancelled.id, long.id);

const path = { run_id: run.id };
const act = "/v1/runs/{run_id}/compute_action";
const one = given(await client.POST(act, { params: { path }, body: { observation: [0, 0, 0, 0] } }));
is([0, 1].includes(one.action as number), true);
const observations = [[0, 0, 0, 0], [0, 0, 0, 0]];
const many = given(
  await client.POST(act, { params: { path }, body: { observations, deterministic: false, seed: 1 } }),
);
is(many.actions?.length, 2);

const wrong = await client.POST("/v1/train", { body: { algorithm: "pppo" } });
is(wrong.error?.errors[0].did_you_mean, "ppo");
const metrics = await client.GET("/metrics", { parseAs: "text" });
is(given(metrics).includes("maze_runs"), true);
