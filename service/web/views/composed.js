/** What the service makes of a form as it is filled in, and sending it. */
import { useEffect, useRef, useState } from "preact/hooks";
import { address, call, post } from "../api.js";
import { asProblem, useAction, useResource, useSentKey, useSettled } from "../hooks.js";
import { html } from "../html.js";
import { link } from "../router.js";
import { written } from "./schema_form.js";

/** @typedef {import("./new_run.js").Fork} Fork */
/** @typedef {import("../api.js").Problem} Problem */
/** @typedef {import("../openapi.d.ts").Schemas["ComposedOut"] | import("../openapi.d.ts").Schemas["PreviewOut"]} Made */

const COMPOSE_AFTER_MS = 250;
const [FIRST_RETRY_S, LAST_RETRY_S] = [1, 60];

/**
 * What the service makes of a body, a moment after it last changed; the last answer stays while the next is awaited.
 * @param {Record<string, any>} body
 * @param {boolean} isSweep
 */
export function useComposed(body, isSweep) {
  const text = JSON.stringify([isSweep, body]);
  const settled = useSettled(text, COMPOSE_AFTER_MS);
  const { data, reload } = useResource(async (signal) => ({ settled, ...(await made(settled, signal)) }), [settled]);
  const last = useRef(/** @type {{ settled: string, answer?: Made, problem?: Problem } | undefined} */ (undefined));
  const answer = useRef(/** @type {Made | undefined} */ (undefined));
  last.current = data ?? last.current;
  answer.current = data?.answer ?? answer.current;
  useRetry(data?.problem, reload);
  return { answer: answer.current, problem: last.current?.problem ?? null, retry: reload, isFresh: last.current?.settled === text };
}

/** Tries again what failed only for now: when the service says, or after longer and longer. @param {Problem | undefined} problem  @param {() => void} retry */
function useRetry(problem, retry) {
  const waitS = useRef(FIRST_RETRY_S);
  useEffect(() => {
    if (!problem || !(problem.status === 429 || problem.status >= 500)) {
      if (!problem || problem.status) waitS.current = FIRST_RETRY_S;
      return undefined;
    }
    const timer = setTimeout(retry, 1000 * (problem.retryAfterS ?? waitS.current));
    waitS.current = Math.min(2 * waitS.current, LAST_RETRY_S);
    return () => clearTimeout(timer);
  }, [problem]);
}

/** @param {string} text  @param {AbortSignal} signal @returns {Promise<{ answer?: Made, problem?: Problem }>} */
async function made(text, signal) {
  const [isSweep, body] = JSON.parse(text);
  try {
    return { answer: await (isSweep ? post("/v1/sweeps/preview", {}, body, { signal }) : post("/v1/config/compose", { provenance: true }, body, { signal })) };
  } catch (error) {
    if (signal.aborted) throw error;
    return { problem: asProblem(error) };
  }
}

/**
 * Sends the form. A key stands for what it says now, so that a double click makes one run.
 * @param {Record<string, any>} given
 * @param {boolean} isSweep
 * @param {Fork | null} fork
 */
export function useSubmission(given, isSweep, fork) {
  const body = fork?.checkpoint ? { ...given, checkpoint: fork.checkpoint } : given;
  const path = fork ? address("/v1/runs/{run_id}/fork", { run_id: fork.run }) : isSweep ? "/v1/sweeps" : "/v1/train";
  const keyOf = useSentKey();
  const { run: send, isBusy, problem, clear } = useAction(async (/** @type {boolean} */ isSmoke) => {
    const options = { headers: { "idempotency-key": keyOf(JSON.stringify([path, isSmoke, body])) } };
    const sent = /** @type {any} */ (body);
    if (isSweep && !fork) return link(["sweeps", (await post("/v1/sweeps", {}, sent, options)).id]);
    const made = fork
      ? await post("/v1/runs/{run_id}/fork", { run_id: fork.run }, sent, options)
      : await call("post", "/v1/train", isSmoke ? { smoke: true } : {}, sent, options);
    return link(["runs", made.id]);
  });
  return { body, path, send, isBusy, problem, clear };
}

/** `mistake` is one that keeps the form from being sent.
 * @param {{ submission: ReturnType<typeof useSubmission>, isSweep: boolean, isFork: boolean, composed: ReturnType<typeof useComposed>, mistake?: string }} props */
export function Actions({ submission, isSweep, isFork, composed, mistake }) {
  const { send } = submission;
  const isBusy = submission.isBusy || Boolean(mistake);
  const jobs = composed.isFresh && !composed.problem && composed.answer && "n_jobs" in composed.answer ? composed.answer.n_jobs : null;
  const wrong = mistake ?? (composed.isFresh && composed.problem?.message);
  return html`<div class="actions row">
    <button class="primary" disabled=${isBusy} aria-busy=${submission.isBusy} title="Ctrl+Enter" onClick=${() => send(false)}>
      ${isSweep ? `Start a sweep of ${jobs ?? "several"} runs` : isFork ? "Fork" : "Train"}</button>
    ${!isSweep && !isFork && html`<button disabled=${isBusy} title="Seconds: builds everything, makes a few updates, keeps nothing" onClick=${() => send(true)}>Try out</button>`}
    <span role="status">${submission.isBusy ? "Sending …" : wrong ? html`<span class="field-error">✕ ${wrong}</span>` : composed.isFresh ? "✓ This works." : "Composing …"}</span>
  </div>`;
}

/** What would run. @param {{ composed: ReturnType<typeof useComposed>, useSeed: (seed: number) => void, hasSeed: boolean }} props */
export function Composed({ composed, useSeed, hasSeed }) {
  const [filter, setFilter] = useState("");
  const { answer } = composed;
  const isOld = composed.problem !== null;
  if (!answer) return null;
  if ("jobs" in answer) {
    return html`<section class=${isOld ? "old" : ""}><h2>${answer.n_jobs} runs</h2>
      <ol class="jobs" start="0">${answer.jobs.slice(0, 50).map((job) => html`<li><code>${Object.entries(job.choices).map(([key, value]) => `${key}=${written(value)}`).join(" ")}</code></li>`)}</ol>
      ${answer.n_jobs > 50 && html`<p class="hint">… and ${answer.n_jobs - 50} more.</p>`}
    </section>`;
  }
  const origins = Object.entries(answer.provenance ?? {});
  const rows = origins.map(([key, origin]) => ({ key, value: written(valueAt(answer.config, key)), origin: [origin.source, origin.name].filter(Boolean).join(" ") }))
    .filter(({ key, value, origin }) => `${key} ${value} ${origin}`.toLowerCase().includes(filter.toLowerCase()));
  return html`<section class=${isOld ? "old" : ""}>
    <h2>What would run</h2>
    ${isOld && html`<p class="hint">As it was before the last mistake.</p>`}
    <dl class="facts"><div><dt>config_sha256</dt><dd><code data-digest>${answer.config_sha256}</code></dd></div>
      <div><dt>seed</dt><dd>${answer.seed} ${!hasSeed && html`<button type="button" class="quiet small" onClick=${() => useSeed(answer.seed)}>drawn; keep it</button>`}</dd></div></dl>
    <details><summary>${origins.length} values and where they come from</summary>
      <input aria-label="Filter the values" value=${filter} placeholder="filter" onInput=${(/** @type {any} */ event) => setFilter(event.target.value)} />
      <div class="scroll values" tabindex="0" role="region" aria-label="Values"><table><tbody>
        ${rows.map(({ key, value, origin }) => html`<tr><th scope="row" class="mono">${key}<small> ${origin}</small></th><td class="mono">${value}</td></tr>`)}
      </tbody></table></div>
    </details>
  </section>`;
}

/** @param {any} tree  @param {string} path */
function valueAt(tree, path) {
  return path.split(".").reduce((value, key) => value?.[key], tree);
}
