/** Play: an observation by sliders, and what a policy thinks of it, live. */
import { useEffect, useState } from "preact/hooks";
import { get, listed, Problem } from "../api.js";
import { curlHere } from "../curl.js";
import { asProblem, usePaced, useResource } from "../hooks.js";
import { number, own } from "../format.js";
import { html } from "../html.js";
import { link, replaceQuery } from "../router.js";
import { element } from "../spaces.js";
import { CopyButton, Empty, ErrorBox, Field, Loaded } from "../ui.js";
import { namesOf } from "./known_names.js";
import { fullest } from "./run_checkpoints.js";
import { SpaceFields } from "./space_fields.js";
import { actionPath, question, Thinking, thoughts } from "./thought.js";

/** @typedef {import("./thought.js").Source} Source */
/** @typedef {{ env: string | undefined, space: any, seen: any[], checkpoints: { id: string, title: string }[], name: string, given: any }} Known */
/** @typedef {import("../openapi.d.ts").Schemas} Schemas */
/** Where an observation was recorded. @typedef {{ of: string, episode: number, step: number }} Place */

/** Time between two questions: twenty a second at most. */
const PACE_MS = 50;

/** @param {{ route: import("../router.js").Route }} props */
export function View({ route }) {
  const { query } = route;
  const [run, policy] = [query.get("run"), query.get("policy")];
  if (!run && !policy) {
    return html`<${Empty} title="Play with a policy"><p>Open <a href=${link(["runs"])}>a run</a> and choose a checkpoint’s “Act with it”, or one of the <a href=${link(["policies"])}>policies</a>.</p><//>`;
  }
  if (policy && !/[@:]/.test(policy)) return html`<${Versions} name=${policy} />`;
  const source = policy ? { policy } : { run: run ?? "", checkpoint: query.get("checkpoint") ?? "best" };
  const of = query.get("of");
  const place = of ? { of, episode: Number(query.get("episode")), step: Number(query.get("step")) } : null;
  return html`<${Page} key="${run}/${policy}" source=${source} given=${query.get("observation")} place=${place} actor=${query.get("actor")} />`;
}

/** What a policy that is named alone can be played by. @param {{ name: string }} props */
function Versions({ name }) {
  const known = useResource(
    (signal) => Promise.all([get("/v1/policies/{name}", { name }, { signal }), listed((cursor) => get("/v1/policies/{name}/versions", { name, limit: 200, cursor }, { signal }))]),
    [name],
  );
  return html`<h1>Play</h1><${Loaded} resource=${known} what="the policy">${(/** @type {[Schemas["PolicyOut"], Schemas["PolicyVersionOut"][]]} */ [{ aliases }, versions]) => html`<div class="card stack"><p>Which version of <strong>${name}</strong>?</p>
    <ul>${Object.entries(aliases).map(([alias, version]) => html`<li key=${alias}><a href=${link(["play"], { policy: `${name}@${alias}` })}>${alias}</a> <span class="hint">now version ${version}</span></li>`)}
      ${versions.map(({ version, note }) => html`<li key=${version}><a href=${link(["play"], { policy: `${name}:${version}` })}>version ${version}</a> <span class="hint">${note}</span></li>`)}</ul>
    ${versions.length === 0 && html`<p class="hint">It has no version yet.</p>`}</div>`}<//>`;
}

/** @param {{ source: Source, given: string | null, place: Place | null, actor: string | null }} props */
function Page({ source, given, place, actor }) {
  const known = useResource((signal) => found(source, place, signal), [source.run, source.policy, place?.of, place?.episode, place?.step]);
  return html`<h1>Play</h1><${Loaded} resource=${known} what="the policy">${(/** @type {Known} */ about) =>
    html`<${Board} source=${source} about=${about} given=${parsed(given) ?? about.given} actor=${parsed(actor)} />`}<//>`;
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
 * @param {Source} source  @param {Place | null} place  @param {AbortSignal} signal @returns {Promise<Known>} */
async function found(source, place, signal) {
  const runId = source.run ?? (await runOf(source.policy ?? "", signal));
  const [run, { config }] = await Promise.all([get("/v1/runs/{run_id}", { run_id: runId }, { signal }), get("/v1/runs/{run_id}/config", { run_id: runId }, { signal })]);
  const env = /** @type {any} */ (config)["env"]?.name;
  const about = env ? await get("/v1/environments/{env_id}", { env_id: env }, { signal }).catch(() => null) : null;
  const seen = await seenIn(runId, signal).catch(() => []);
  const given = place ? (await observationsOf(place.of, place.episode, signal))[place.step] : undefined;
  const stored = source.policy ? [] : await listed((cursor) => get("/v1/runs/{run_id}/checkpoints", { run_id: runId, limit: 200, cursor }, { signal }));
  const checkpoints = fullest(stored.filter((each) => each.servable)).map((each) => ({ id: each.id, title: `epoch ${number(each.epoch)}${each.is_best ? ", best" : ""}${each.is_last ? ", last" : ""}${each.kind === "filmed" ? ", filmed" : ""}` }));
  return { env, space: /** @type {any} */ (about)?.observation_space ?? null, seen, checkpoints, name: source.policy ?? run.name ?? runId, given };
}

/** The run that made a policy that is named. @param {string} policy  @param {AbortSignal} signal */
async function runOf(policy, signal) {
  const [name = "", said] = policy.split(/[@:]/);
  const alias = policy.includes("@") ? policy.slice(name.length + 1) : null;
  const { aliases } = await get("/v1/policies/{name}", { name }, { signal });
  const version = alias === null ? Number(said) : Number(own(aliases, alias) ?? NaN);
  if (Number.isInteger(version)) return (await get("/v1/policies/{name}/versions/{number}", { name, number: version }, { signal })).run;
  const there = Object.keys(aliases).join(", ") || "none";
  throw new Problem({ code: "not_found", detail: alias === null ? `${policy}: the version of a policy is a whole number, as in ${name}:1.` : `Policy ${name} has no alias ${alias}; there is ${there}.` });
}

/** Observations that an episode of a run recorded. @param {string} runId  @param {AbortSignal} signal @returns {Promise<any[]>} */
async function seenIn(runId, signal) {
  const { data } = await get("/v1/runs/{run_id}/episodes", { run_id: runId, limit: 50 }, { signal });
  const episode = data.findLast((each) => each.has_trajectory);
  return episode ? observationsOf(runId, episode.index, signal) : [];
}

/** @param {string} runId  @param {number} index  @param {AbortSignal} signal @returns {Promise<any[]>} */
async function observationsOf(runId, index, signal) {
  const { trajectory } = await get("/v1/runs/{run_id}/episodes/{index}", { run_id: runId, index }, { signal });
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
      const [thought] = await thoughts(source, [observation], actor, undefined, true);
      setAnswer(thought ?? null);
      setProblem(null);
    } catch (error) {
      setAnswer(null);
      setProblem(asProblem(error));
    }
  }, PACE_MS);
  useEffect(() => void ask(), [JSON.stringify(observation), source.checkpoint]);
  const body = question(source, { observation, explain: true, ...(answer?.state ? { state: null } : {}), ...(actor ? { actor_id: actor } : {}) });
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
          ${answer.state && html`<p class="hint">It carries a state: this is what it does as an episode begins.</p>`}
          <${Thinking} decision=${answer.decision} action=${answer.action} names=${names.actions} />` : !problem && html`<p class="loading">Asking the policy …</p>`}</section>
    </div>`;
}

/** @param {string | undefined} chosen  @param {Known} about */
function choices(chosen, { checkpoints }) {
  const usual = [{ id: "best", title: "best" }, { id: "last", title: "last" }];
  const known = [...usual, ...checkpoints];
  return !chosen || known.some(({ id }) => id === chosen) ? known : [...known, { id: chosen, title: chosen.replace("epoch:", "epoch ") }];
}
