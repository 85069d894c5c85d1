/** Play: an observation by sliders, and what a policy thinks of it, live. */
import { useEffect, useState } from "preact/hooks";
import { get, listed } from "../api.js";
import { curlHere } from "../curl.js";
import { own } from "../format.js";
import { asProblem, usePaced, useResource } from "../hooks.js";
import { number } from "../format.js";
import { html } from "../html.js";
import { link, replaceQuery } from "../router.js";
import { element } from "../spaces.js";
import { CopyButton, Empty, ErrorBox, Field, Loaded } from "../ui.js";
import { namesOf } from "./known_names.js";
import { SpaceFields } from "./space_fields.js";
import { actionPath, question, Thinking, thoughts } from "./thought.js";

/** @typedef {import("./thought.js").Source} Source */
/** @typedef {{ env: string | undefined, space: any, seen: any[], checkpoints: { id: string, title: string }[], name: string }} Known */

/** Time between two questions: twenty a second at most. */
const PACE_MS = 50;

/** @param {{ route: import("../router.js").Route }} props */
export function View({ route }) {
  const { query } = route;
  const [run, policy] = [query.get("run"), query.get("policy")];
  if (!run && !policy) {
    return html`<${Empty} title="Play with a policy"><p>Open <a href=${link(["runs"])}>a run</a> and choose a checkpoint’s “Act with it”, or one of the <a href=${link(["policies"])}>policies</a>.</p><//>`;
  }
  const source = policy ? { policy } : { run: run ?? "", checkpoint: query.get("checkpoint") ?? "best" };
  return html`<${Page} key="${run}/${policy}" source=${source} given=${query.get("observation")} actor=${query.get("actor")} />`;
}

/** @param {{ source: Source, given: string | null, actor: string | null }} props */
function Page({ source, given, actor }) {
  const known = useResource((signal) => found(source, signal), [source.run, source.policy]);
  return html`<h1>Play</h1><${Loaded} resource=${known} what="the policy">${(/** @type {Known} */ about) =>
    html`<${Board} source=${source} about=${about} given=${parsed(given)} actor=${parsed(actor)} />`}<//>`;
}

/** @param {string | null} text */
function parsed(text) {
  try {
    return text === null ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What is known of a policy: its environment's space, what was seen there, its checkpoints.
 * @param {Source} source  @param {AbortSignal} signal @returns {Promise<Known>} */
async function found(source, signal) {
  const runId = source.run ?? (await runOf(source.policy ?? "", signal));
  const [run, { config }] = await Promise.all([get("/v1/runs/{run_id}", { run_id: runId }, { signal }), get("/v1/runs/{run_id}/config", { run_id: runId }, { signal })]);
  const env = /** @type {any} */ (config)["env"]?.name;
  const about = env ? await get("/v1/environments/{env_id}", { env_id: env }, { signal }).catch(() => null) : null;
  const seen = await seenIn(runId, signal).catch(() => []);
  const stored = source.policy ? [] : await listed((cursor) => get("/v1/runs/{run_id}/checkpoints", { run_id: runId, limit: 200, cursor }, { signal }));
  const checkpoints = stored.filter((each) => each.servable).map((each) => ({ id: each.id, title: `epoch ${number(each.epoch)}${each.is_best ? ", best" : ""}${each.is_last ? ", last" : ""}${each.kind === "filmed" ? ", filmed" : ""}` }));
  return { env, space: /** @type {any} */ (about)?.observation_space ?? null, seen, checkpoints, name: source.policy ?? run.name ?? runId };
}

/** The run that made a policy that is named. @param {string} policy  @param {AbortSignal} signal */
async function runOf(policy, signal) {
  const [name = "", number] = policy.split(/[@:]/);
  const alias = policy.includes("@") ? policy.slice(name.length + 1) : null;
  const { versions } = { versions: alias === null ? Number(number) : own((await get("/v1/policies/{name}", { name }, { signal })).aliases, alias) };
  return (await get("/v1/policies/{name}/versions/{number}", { name, number: versions ?? 1 }, { signal })).run;
}

/** Observations that an episode of a run recorded. @param {string} runId  @param {AbortSignal} signal @returns {Promise<any[]>} */
async function seenIn(runId, signal) {
  const { data } = await get("/v1/runs/{run_id}/episodes", { run_id: runId, limit: 50 }, { signal });
  const episode = data.findLast((each) => each.has_trajectory);
  if (!episode) return [];
  const { trajectory } = await get("/v1/runs/{run_id}/episodes/{index}", { run_id: runId, index: episode.index }, { signal });
  return /** @type {any} */ (trajectory).steps.map((/** @type {any} */ step) => step.observation);
}

/** In the space's own form: recorded ones have a name where the space has none. @param {any} observation  @param {any} space */
function inForm(observation, space) {
  const isNamed = observation !== null && typeof observation === "object" && !Array.isArray(observation);
  return isNamed && space && space.type !== "Dict" && "observation" in observation ? observation.observation : observation;
}

/** @param {{ source: Source, about: Known, given: any, actor: any }} props */
function Board({ source, about, given, actor }) {
  const { space, env } = about;
  const seen = about.seen.map((each) => inForm(each, space));
  const [observation, setObservation] = useState(() => (given === undefined ? (seen[0] ?? (space ? element(space) : [])) : inForm(given, space)));
  const [answer, setAnswer] = useState(/** @type {import("./thought.js").Thought | null} */ (null));
  const [problem, setProblem] = useState(/** @type {import("../api.js").Problem | null} */ (null));
  const names = namesOf(env);
  const ask = usePaced(async () => {
    try {
      const [thought] = await thoughts(source, [observation], actor);
      setAnswer(thought ?? null);
      setProblem(null);
    } catch (error) {
      setProblem(asProblem(error));
    }
  }, PACE_MS);
  useEffect(() => void ask(), [JSON.stringify(observation), source.checkpoint]);
  const body = question(source, { observation, explain: true, ...(actor ? { actor_id: actor } : {}) });
  return html`<p class="row spread"><span>${about.name}${env && html` <span class="hint">in <code>${env}</code></span>`}</span>
      <${CopyButton} text=${() => curlHere("POST", actionPath(source), body)}>Copy as curl<//></p>
    ${source.run && html`<${Field} label="Checkpoint">${(/** @type {any} */ attributes) => html`<select ...${attributes} value=${source.checkpoint}
      onChange=${(/** @type {any} */ event) => replaceQuery({ checkpoint: event.currentTarget.value })}>
      ${choices(source.checkpoint, about).map(({ id, title }) => html`<option value=${id}>${title}</option>`)}</select>`}<//>`}
    <div class="board">
      <section class="card" aria-label="Observation"><h2>What it sees</h2>
        <${SpaceFields} space=${space} value=${observation} change=${setObservation} names=${names.observations} label="observation" seen=${seen} /></section>
      <section class="card" aria-label="Decision"><h2>What it does</h2>
        ${problem && html`<${ErrorBox} problem=${problem} what="The policy did not answer" />`}
        ${answer ? html`<p>Action <output class="action-taken"><code>${JSON.stringify(answer.action)}</code></output></p>
          <${Thinking} decision=${answer.decision} action=${answer.action} names=${names.actions} />` : !problem && html`<p class="loading">Asking the policy …</p>`}</section>
    </div>`;
}

/** @param {string | undefined} chosen  @param {Known} about */
function choices(chosen, { checkpoints }) {
  const usual = [{ id: "best", title: "best" }, { id: "last", title: "last" }];
  const known = [...usual, ...checkpoints];
  return !chosen || known.some(({ id }) => id === chosen) ? known : [...known, { id: chosen, title: chosen.replace("epoch:", "epoch ") }];
}
