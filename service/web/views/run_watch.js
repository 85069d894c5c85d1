/** What a policy does: its films before it learnt, now and at its best, all of them in time, and each step by step. */
import { useRef, useState } from "preact/hooks";
import { get, listed, post } from "../api.js";
import { Chart } from "../chart.js";
import { number } from "../format.js";
import { useInterval, usePaced, useResource } from "../hooks.js";
import { html } from "../html.js";
import { useRunEvents } from "../live.js";
import { link, replaceQuery, useRoute } from "../router.js";
import { ActionButton, Empty, Loaded, Progress, State } from "../ui.js";
import { namesOf } from "./known_names.js";
import { loadSeries } from "./run_series.js";
import { StepThrough, useVideo } from "./step_through.js";
import { hasPolicy } from "./run_verbs.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {import("../openapi.d.ts").Episode} Episode */

const SHOWN = 200;

/** @param {{ run: Run }} props */
export function Watch({ run }) {
  const load = (/** @type {AbortSignal} */ signal) => listed((cursor) => get("/v1/runs/{run_id}/episodes", { run_id: run.id, limit: SHOWN, cursor }, { signal }), SHOWN);
  const episodes = useResource(load, [run.id]);
  const refresh = usePaced(episodes.refresh, 1000);
  useRunEvents(run.id, (events, isFirst) => {
    if (isFirst || events.some(({ type }) => type === "episode" || type === "end")) refresh();
  });
  const config = useResource((signal) => get("/v1/runs/{run_id}/config", { run_id: run.id }, { signal }), [run.id]);
  const env = /** @type {any} */ (config.data)?.config?.env?.name;
  return html`<${Loaded} resource=${episodes} what="the films">${(/** @type {Episode[]} */ found) =>
    found.length ? html`<${Films} run=${run} episodes=${found} env=${env} />` : html`<${NoFilms} run=${run} />`}<//>`;
}

/** @param {{ run: Run, episodes: Episode[], env: string | undefined }} props */
function Films({ run, episodes, env }) {
  const { query } = useRoute();
  const ofTraining = episodes.some(({ epoch }) => epoch !== null);
  const wanted = query.get("episode");
  const epoch = query.get("epoch");
  const chosen = episodes.find(({ index }) => String(index) === wanted) ?? (epoch === null ? undefined : nearestFilm(episodes, Number(epoch)));
  const choose = (/** @type {Episode} */ episode) => replaceQuery({ episode: episode.index, epoch: null });
  const held = useRef(/** @type {number | undefined} */ (undefined));
  const shown = chosen ?? episodes.find(({ index }) => index === held.current) ?? (ofTraining ? bestOf(episodes, run) : episodes[0]);
  held.current = shown?.index;
  return html`<div class="stack watch">
    ${ofTraining && html`<${SideBySide} run=${run} episodes=${episodes} choose=${choose} />`}
    <section class="card"><h2>${ofTraining ? "All films, in time" : "Episodes"}</h2>
      ${ofTraining && html`<${Returns} run=${run} pick=${(/** @type {number} */ at) => choose(/** @type {Episode} */ (nearestFilm(episodes, at)))} episodes=${episodes} />`}
      <ol class="timeline">${episodes.map((episode) => html`<li key=${episode.index}>
        <button aria-pressed=${shown?.index === episode.index} onClick=${() => choose(episode)}>
          <strong>${ofTraining ? `epoch ${number(episode.epoch)}` : `episode ${episode.index}`}</strong>
          <span>return ${number(episode.episode_return)}</span>${episode.moment && html`<small>${[MOMENTS[episode.moment], takeOf(episode, episodes)].filter(Boolean).join(", ")}</small>`}</button></li>`)}</ol>
    </section>
    ${shown && html`<${StepThrough} key=${shown.index} runId=${run.id} episode=${shown} source=${sourceOf(run, shown)} names=${namesOf(env)} title=${titleOf(shown, takeOf(shown, episodes))} />`}
  </div>`;
}

/** Which of the films of its policy. @param {Episode} episode  @param {Episode[]} episodes */
function takeOf(episode, episodes) {
  const takes = episode.epoch === null ? [] : episodes.filter(({ epoch }) => epoch === episode.epoch);
  return takes.length > 1 ? `film ${takes.indexOf(episode) + 1} of ${takes.length}` : "";
}

/** @type {Record<string, string>} */
const MOMENTS = { begin: "before it learnt", scheduled: "on the way", best: "the best policy", last: "the last policy" };

/** @param {Episode} episode  @param {string} take */
function titleOf({ epoch, index, episode_return, moment }, take) {
  return `${epoch === null ? `episode ${index}` : `epoch ${number(epoch)}${moment ? `, ${MOMENTS[moment]}` : ""}`}${take && `, ${take}`}, return ${number(episode_return)}`;
}

/** Whose policy acted in an episode, where it can be asked. @param {Run} run  @param {Episode} episode */
function sourceOf(run, episode) {
  if (episode.epoch !== null) return { run: run.id, checkpoint: `epoch:${episode.epoch}` };
  return run.source_run ? { run: run.source_run, checkpoint: run.source_checkpoint ?? undefined } : null;
}

/** @param {Episode[]} episodes  @param {number} epoch */
function nearestFilm(episodes, epoch) {
  const away = (/** @type {Episode} */ each) => Math.abs((each.epoch ?? 0) - epoch);
  return episodes.reduce((best, each) => (away(each) < away(best) ? each : best), /** @type {Episode} */ (episodes[0]));
}

/** The film of the best policy: said so at the end, and until then the film of the highest return. @param {Episode[]} episodes  @param {Run} run */
function bestOf(episodes, run) {
  const said = run.finished_at && episodes.find(({ moment }) => moment === "best");
  const worth = (/** @type {Episode} */ each) => Number(each.episode_return);
  return said || episodes.reduce((best, each) => (worth(each) >= worth(best) ? each : best), /** @type {Episode} */ (episodes[0]));
}

/** @param {{ run: Run, episodes: Episode[], choose: (episode: Episode) => void }} props */
function SideBySide({ run, episodes, choose }) {
  const alike = episodes.filter(({ seed }) => seed === episodes[0]?.seed);
  const three = /** @type {[string, Episode | undefined][]} */ ([["Before", alike[0]], [run.finished_at ? "At the end" : "Now", alike.at(-1)], ["Best", bestOf(alike, run)]]);
  const playAll = () => document.querySelectorAll("video.side").forEach((each) => {
    const video = /** @type {HTMLVideoElement} */ (each);
    video.currentTime = 0;
    video.play().catch(() => undefined);
  });
  return html`<section aria-label="Before, now and best"><div class="side-by-side">${three.map(([name, episode]) => episode && html`<${FilmCard} key=${name} name=${name} runId=${run.id} episode=${episode} choose=${choose} />`)}</div>
    <p class="row"><button class="primary" onClick=${playAll}>Play all</button><span class="hint">All begin with the same seed.</span></p></section>`;
}

/** @param {{ name: string, runId: string, episode: Episode, choose: (episode: Episode) => void }} props */
function FilmCard({ name, runId, episode, choose }) {
  const video = useVideo(runId, episode);
  return html`<figure class="card film"><figcaption><strong>${name}</strong> <span class="hint">epoch ${number(episode.epoch)} · return ${number(episode.episode_return)} · ${number(episode.length)} steps</span></figcaption>
    ${video ? html`<video class="side" src=${video} controls muted playsinline preload="auto" onLoadedMetadata=${again} aria-label="${name}: epoch ${number(episode.epoch)}"></video>` : html`<p class="hint">${episode.has_video ? "Loading the video …" : "This episode was not filmed."}</p>`}
    <button onClick=${() => choose(episode)}>Step through</button></figure>`;
}

/** A film that is over at once is shown again and again. @param {Event} event */
function again(event) {
  const video = /** @type {HTMLVideoElement} */ (event.currentTarget);
  video.loop = video.duration < 2;
}

/** The evaluations, and what was filmed among them. @param {{ run: Run, episodes: Episode[], pick: (epoch: number) => void }} props */
function Returns({ run, episodes, pick }) {
  const metric = run.best?.metric ?? "eval/mean_return";
  const series = useResource((signal) => loadSeries(run.id, metric, {}, signal), [run.id, metric, run.finished_at, episodes.length]);
  const films = { label: "films", x: episodes.map(({ epoch }) => epoch ?? 0), y: episodes.map((each) => Number(each.episode_return)), isDots: true, color: 1 };
  const lines = [...(series.data?.epoch.length ? [{ label: metric, x: series.data.epoch, y: series.data.value, color: 0 }] : []), films];
  return html`<${Chart} name="Films of ${run.name ?? run.id}" lines=${lines} xLabel="epoch" height=${180} onPick=${pick} />
    <p class="hint">Click a point to see what the agent did there.</p>`;
}

/** @param {{ run: Run }} props */
function NoFilms({ run }) {
  const filmed = useRoute().query.get("rollout");
  const [seed] = useState(() => Math.floor(Math.random() * 2 ** 31));
  if (!hasPolicy(run)) return html`<${Empty} title=${run.finished_at ? "No episodes" : "No episodes yet"}><p>${run.finished_at ? "This run ended before it played one." : "They come one by one as they end."}</p><//>`;
  const film = async () => {
    const body = /** @type {any} */ ({ run: run.id, n_episodes: 1, seed, record: ["trajectory", "video"], name: `film of ${run.name ?? run.id}`.slice(0, 200) });
    const made = await post("/v1/rollout", {}, body);
    replaceQuery({ rollout: made.id });
  };
  if (filmed) return html`<${Filmed} id=${filmed} />`;
  const isOver = run.finished_at !== null;
  if (run.videos && !isOver) {
    return html`<${Empty} title="No film yet"><p>The first film comes when the run starts, before anything is learnt; where its environments cannot live beside others, all films come at the end.</p><//>`;
  }
  const why = html`<p>This run was to film its policy, and no film was made: <a href=${link(["runs", run.id], { tab: "log" })}>its log</a> says why.</p>`;
  return html`<${Empty} title="This run has no films">${run.videos ? why : html`<p>A training that is submitted with <code>"videos": 1</code> films its policy before it learns, on the way and at its best.</p>`}
      ${run.best && html`<${ActionButton} kind="primary" action=${film}>Film the best policy now<//>`}
      ${!run.best && html`<p>${run.finished_at ? "It ended before it had a policy to film." : "The best policy can be filmed as soon as there is one."}</p>`}<//>`;
}

/** How far a rollout is, then its films. @param {{ id: string }} props */
function Filmed({ id }) {
  const rollout = useResource((signal) => get("/v1/runs/{run_id}", { run_id: id }, { signal }), [id]);
  useInterval(() => !rollout.data?.finished_at && rollout.reload(), 1000);
  return html`<${Loaded} resource=${rollout} what="the film">${(/** @type {Run} */ run) =>
    run.state === "succeeded"
      ? html`<${Watch} run=${run} />`
      : html`<div class="card"><p class="row"><${State} state=${run.state} title=${run.reason} /><a href=${link(["runs", id])}>${run.name ?? id}</a></p>
        ${run.finished_at ? html`<p>${/** @type {any} */ (run.error)?.message ?? "It made no film."}</p>` : html`<${Progress} value=${run.progress.fraction === null ? null : Number(run.progress.fraction)} label="How far the film is" />`}</div>`}<//>`;
}
