/** An episode step by step: the picture, what was seen, what the policy thought of it, and what came of it. */
import { useEffect, useRef, useState } from "preact/hooks";
import { address, bytes, get } from "../api.js";
import { number } from "../format.js";
import { useBlobUrl, useResource } from "../hooks.js";
import { html } from "../html.js";
import { link } from "../router.js";
import { Facts, Loaded } from "../ui.js";
import { Thinking, thoughts } from "./thought.js";

/** @typedef {import("./known_names.js").Names} Names */
/** @typedef {import("./thought.js").Source} Source */
/** @typedef {import("../openapi.d.ts").Episode} Episode */
/** @typedef {{ actor_id: [string | number, number], flat_step: number, observation: any, action: any, reward: number }} Step */

/** Steps whose decisions are asked for together. */
const CHUNK = 128;
const MAX_ADDRESS = 4000;

/** The pictures of an episode, as a video can show them. @param {string} runId  @param {Episode} episode */
export function useVideo(runId, episode) {
  const path = address("/v1/runs/{run_id}/episodes/{index}/video", { run_id: runId, index: episode.index });
  const resource = useResource((signal) => (episode.has_video ? bytes(path, { signal }) : Promise.resolve(undefined)), [path, episode.has_video, episode.moment]);
  return useBlobUrl(resource.data);
}

/** @param {{ runId: string, episode: Episode, source: Source | null, names: Names, title: string }} props */
export function StepThrough({ runId, episode, source, names, title }) {
  const whole = useResource((signal) => get("/v1/runs/{run_id}/episodes/{index}", { run_id: runId, index: episode.index }, { signal }), [runId, episode.index, episode.moment]);
  const video = useVideo(runId, episode);
  return html`<section class="card step-through" aria-label="Step through">
    <h2>Step by step: ${title}</h2>
    <${Loaded} resource=${whole} what="the episode">${(/** @type {any} */ { trajectory }) =>
      trajectory
        ? html`<${Player} key=${episode.index} runId=${runId} video=${video} episode=${episode} steps=${trajectory.steps} source=${source} names=${names} />`
        : html`<p class="hint">What was seen and done was not recorded; only the video is there.</p>${video && html`<video src=${video} controls muted playsinline></video>`}`}<//>
  </section>`;
}

/** @param {{ runId: string, video: string | undefined, episode: Episode, steps: Step[], source: Source | null, names: Names }} props */
function Player({ runId, video, episode, steps, source, names }) {
  const [at, setAt] = useState(0);
  const [isPlaying, setPlaying] = useState(false);
  const film = useRef(/** @type {HTMLVideoElement | null} */ (null));
  const now = useRef(at);
  now.current = at;
  const n = steps.length;
  const step = /** @type {Step} */ (steps[at] ?? steps[0]);
  const frameS = () => (film.current?.duration || 0) / (Math.min(episode.length, 10_000) + 1);
  useEffect(() => {
    const shown = film.current;
    if (shown && !isPlaying && frameS()) shown.currentTime = (step.flat_step + 0.5) * frameS();
  }, [at, isPlaying, video]);
  useEffect(() => {
    if (!isPlaying) return undefined;
    const shown = film.current;
    if (!shown || !frameS()) {
      const timer = setInterval(() => (now.current + 1 < n ? setAt(now.current + 1) : setPlaying(false)), 60);
      return () => clearInterval(timer);
    }
    let frame = 0;
    const follow = () => {
      const flat = Math.floor(shown.currentTime / frameS());
      const found = steps.findIndex((each) => each.flat_step >= flat);
      setAt(found < 0 ? n - 1 : found);
      if (shown.ended) setPlaying(false);
      else frame = requestAnimationFrame(follow);
    };
    if (now.current >= n - 1) shown.currentTime = 0;
    shown.play().then(() => (frame = requestAnimationFrame(follow)), () => setPlaying(false));
    return () => {
      cancelAnimationFrame(frame);
      shown.pause();
    };
  }, [isPlaying]);
  const go = (/** @type {number} */ to) => (setPlaying(false), setAt(Math.max(0, Math.min(n - 1, to))));
  const keys = (/** @type {KeyboardEvent} */ event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (event.target instanceof HTMLInputElement || !move) return;
    event.preventDefault();
    go(at + move);
  };
  const seated = () => film.current && frameS() && (film.current.currentTime = (step.flat_step + 0.5) * frameS());
  return html`<div class="player" tabindex="0" role="group" aria-label="Steps of the episode; arrow keys go from one to the next" onKeyDown=${keys}>
    <div class="picture">
      ${video ? html`<video ref=${film} src=${video} muted playsinline preload="auto" onLoadedMetadata=${seated}></video>` : html`<p class="hint">${episode.has_video ? "Loading the video …" : "This episode was not filmed."}</p>`}
      <div class="row"><button onClick=${() => go(at - 1)} disabled=${at === 0} aria-label="Step back">◀</button>
        <button onClick=${() => setPlaying(!isPlaying)} aria-pressed=${isPlaying}>${isPlaying ? "Pause" : "Play"}</button>
        <button onClick=${() => go(at + 1)} disabled=${at === n - 1} aria-label="Step on">▶</button>
        <input type="range" class="grow" aria-label="Step" min="0" max=${n - 1} value=${at} aria-valuetext="step ${at} of ${n - 1}" onInput=${(/** @type {any} */ event) => go(Number(event.currentTarget.value))} /></div>
      <p class="hint">Step <output class="step">${at}</output> of ${n - 1}</p>
    </div>
    <div class="facts-of-step">
      <h3>What it saw</h3>
      <${Seen} observation=${step.observation} names=${names.observations} />
      <h3>What it thought</h3>
      <${Thoughts} source=${source} steps=${steps} at=${at} names=${names} />
      <${Facts} facts=${[
        ["reward", number(step.reward)],
        ["return so far", number(steps.slice(0, at + 1).reduce((sum, each) => sum + Number(each.reward), 0))],
        ["ends", at === n - 1 ? (episode.terminated ? "the episode ends here" : "cut here by a limit") : null],
      ]} />
      ${source && html`<a class="button" href=${tryAnother(source, step, { of: runId, episode: episode.index, step: at })}>Try another observation</a>`}
    </div>
  </div>`;
}

/** A large observation is not written into the address, but where it was recorded. @param {Source} source  @param {Step} step
 * @param {{ of: string, episode: number, step: number }} place */
function tryAnother(source, step, place) {
  const observation = JSON.stringify(step.observation);
  const actor = String(step.actor_id) === "0,0" ? null : JSON.stringify(step.actor_id);
  return link(["play"], { ...source, actor, ...(observation.length > MAX_ADDRESS ? place : { observation }) });
}

/** @param {{ source: Source | null, steps: Step[], at: number, names: Names }} props */
function Thoughts({ source, steps, at, names }) {
  const chunk = Math.floor(at / CHUNK);
  const key = JSON.stringify(source);
  const found = useResource((signal) => (source ? asked(source, steps.slice(chunk * CHUNK, (chunk + 1) * CHUNK), signal) : Promise.resolve([])), [key, chunk]);
  const step = /** @type {Step} */ (steps[at]);
  if (!source) return html`<p class="hint">This policy has no network that could tell: it drew <code>${JSON.stringify(step.action)}</code>.</p>`;
  if (!found.data && found.problem) return html`<p class="hint">It did <code>${JSON.stringify(step.action)}</code>; what it thought cannot be told: ${found.problem.message}</p>`;
  const thought = found.data?.[at - chunk * CHUNK];
  if (!thought) return html`<p class="loading">Asking the policy …</p>`;
  return html`<${Thinking} decision=${thought.decision} action=${step.action} answered=${thought.action} names=${names.actions} />`;
}

/** @param {Source} source  @param {Step[]} steps  @param {AbortSignal} signal */
async function asked(source, steps, signal) {
  /** @type {Map<string, number[]>} */
  const actors = new Map();
  steps.forEach(({ actor_id }, index) => {
    const key = JSON.stringify(actor_id);
    actors.set(key, [...(actors.get(key) ?? []), index]);
  });
  /** @type {(import("./thought.js").Thought | undefined)[]} */
  const found = Array(steps.length).fill(undefined);
  for (const [actor, rows] of actors) {
    const answers = await thoughts(source, rows.map((row) => steps[row]?.observation), JSON.parse(actor), signal);
    answers.forEach((answer, index) => (found[rows[index] ?? 0] = answer));
  }
  return found;
}

/** Parts by name: down Dicts (`arm.angle`), and Tuples, whose entries differ in form. @param {string} name  @param {any} value @returns {[string, any][]} */
export function leavesOf(name, value) {
  const isDict = (/** @type {any} */ each) => each !== null && typeof each === "object" && !Array.isArray(each);
  if (isDict(value)) return Object.entries(value).flatMap(([key, inner]) => leavesOf(name ? `${name}.${key}` : key, inner));
  const isTuple = Array.isArray(value) && (value.some(isDict) || new Set(value.map((each) => (Array.isArray(each) ? each.length : -1))).size > 1);
  return isTuple ? value.flatMap((/** @type {any} */ inner, /** @type {number} */ index) => leavesOf(`${name || "observation"}_${index}`, inner)) : [[name, value]];
}

/** An observation: its numbers with their names where they are few. @param {{ observation: any, names: string[] }} props */
export function Seen({ observation, names }) {
  const entries = leavesOf("", observation);
  return html`<dl class="seen">${entries.flatMap(([name, value]) => {
    const values = [value].flat(Infinity);
    if (values.length > 32) {
      const known = values.filter(Number.isFinite);
      const [least, most] = known.reduce(([low, high], each) => [Math.min(low, each), Math.max(high, each)], [Infinity, -Infinity]);
      return [html`<div key=${name}><dt>${name || "observation"}</dt><dd>${values.length} numbers${known.length > 0 && `, ${number(least)} to ${number(most)}`}</dd></div>`];
    }
    const single = entries.length === 1;
    return values.map((each, index) => html`<div key="${name}/${index}"><dt>${(single && names[index]) || (values.length > 1 ? `${name}[${index}]` : name)}</dt>
      <dd>${number(each)}</dd></div>`);
  })}</dl>`;
}
