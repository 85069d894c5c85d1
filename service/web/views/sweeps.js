/** Sweeps: all of them, and one with its trials as lines over the searched parameters, as a table and by time. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { call, get, listed, post, Problem } from "../api.js";
import { Chart } from "../chart.js";
import { ago, between, duration, number, own, plain } from "../format.js";
import { useInterval, useResource } from "../hooks.js";
import { html } from "../html.js";
import { useChanges } from "../live.js";
import { link, replaceQuery, titled } from "../router.js";
import { ActionButton, Empty, ErrorBox, Facts, Labels, Loaded, Progress, State, useQuery } from "../ui.js";
import { axesOf, matches, ParallelCoordinates } from "./parallel.js";

/** @typedef {import("../openapi.d.ts").Schemas["SweepOut"]} Sweep */
/** @typedef {import("../openapi.d.ts").Schemas["SweepJobOut"]} Job */
/** @typedef {{ trial: number, choices: Record<string, unknown>, value: number | null, state: string, reason: string | null, jobs: Job[] }} Trial */

const ENDED = ["succeeded", "failed", "cancelled"];
const STATES = ["running", "paused", "stopping", ...ENDED];
const PAGE = 20;
/** Rows that a table begins with; a thousand are drawn when they are asked for. */
const ROWS = 50;
const RELOAD_MS = 2000;
/** Runs of the best trials that are compared at once. */
const COMPARED = 8;

/** @param {{ route: import("../router.js").Route }} props */
export function View({ route }) {
  const id = route.parts[1];
  return id ? html`<${One} id=${id} key=${id} />` : html`<${All} />`;
}

function All() {
  const state = useQuery("state");
  const [cursors, setCursors] = useState(/** @type {string[]} */ ([]));
  const cursor = cursors.at(-1);
  const found = useResource((signal) => pageOf(state, cursor, signal), [state, cursor]);
  useChanges((event) => ["state", "end"].includes(event.type), found.reload, [state, cursor], RELOAD_MS);
  const chosen = (/** @type {any} */ event) => (setCursors([]), replaceQuery({ state: event.target.value }));
  return html`<div class="stack">
    <header class="row"><h1>Sweeps</h1>
      <label>State <select value=${state} onChange=${chosen}><option value="">all</option>
        ${STATES.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select></label></header>
    <${Loaded} resource=${found} what="sweeps">
      ${(/** @type {{ data: Sweep[], next_cursor?: string | null }} */ { data, next_cursor }) => html`
        ${data.length ? html`<${Table} sweeps=${data} />` : html`<${None} state=${state} />`}
        <div class="row">
          ${cursors.length > 0 && html`<button onClick=${() => setCursors(cursors.slice(0, -1))}>Newer</button>`}
          ${next_cursor && html`<button onClick=${() => setCursors([...cursors, next_cursor])}>Older</button>`}
        </div>`}
    <//></div>`;
}

/** @param {string} state  @param {string | undefined} cursor  @param {AbortSignal} signal */
function pageOf(state, cursor, signal) {
  const wanted = /** @type {Sweep["state"] | undefined} */ (state || undefined);
  return get("/v1/sweeps", { limit: PAGE, ...(cursor ? { cursor } : {}), ...(wanted ? { state: wanted } : {}) }, { signal });
}

/** @param {{ state: string }} props */
function None({ state }) {
  return html`<${Empty} title=${state ? `No sweep is ${state}` : "No sweeps yet"}>
    <p>A sweep trains every combination of values, or lets a search choose them.</p>
    <p><a class="button" href=${link(["new"])}>Start one</a></p><//>`;
}

/** @param {{ sweeps: Sweep[] }} props */
function Table({ sweeps }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Sweeps"><table>
    <thead><tr><th>Sweep</th><th>State</th><th>Progress</th><th class="number">Best</th><th>Search</th><th>Started</th></tr></thead>
    <tbody>${sweeps.map((sweep) => html`<tr key=${sweep.id}>
      <td><a href=${link(["sweeps", sweep.id])}>${sweep.name ?? sweep.id}</a> <${Labels} labels=${sweep.labels} /></td>
      <td><${State} state=${sweep.state} title=${sweep.reason} /></td>
      <td class="done"><${Done} sweep=${sweep} /></td><td class="number">${number(sweep.best?.value)}</td><td>${searchOf(sweep)}</td>
      <td>${ago(sweep.created_at)}</td></tr>`)}</tbody></table></div>`;
}

/** @param {{ sweep: Sweep }} props */
function Done({ sweep }) {
  const done = [...ENDED, "pruned"].reduce((sum, state) => sum + (sweep.counts[state] ?? 0), 0);
  return html`<${Progress} value=${sweep.n_jobs ? done / sweep.n_jobs : 0} label="Runs that have ended" /><small>${done} of ${sweep.n_jobs}</small>`;
}

/** @param {Sweep} sweep */
function searchOf(sweep) {
  const { search } = sweep;
  if (!search) return "grid";
  const pruner = search["pruner"] && search["pruner"] !== "none" ? `, ${search["pruner"]} pruner` : "";
  return `${search["sampler"]}${pruner}`;
}

/** @param {{ id: string }} props */
function One({ id }) {
  const sweep = useResource((signal) => get("/v1/sweeps/{sweep_id}", { sweep_id: id }, { signal }), [id]);
  const jobs = useResource(
    (signal) => listed((cursor) => get("/v1/sweeps/{sweep_id}/runs", { sweep_id: id, limit: 200, ...(cursor ? { cursor } : {}) }, { signal })),
    [id],
  );
  const reload = () => (sweep.reload(), jobs.reload());
  const { name, state } = sweep.data ?? {};
  useEffect(() => {
    if (state) titled(name ?? id, state);
  }, [name, state]);
  const isLive = sweep.data !== undefined && !ENDED.includes(sweep.data.state);
  const ours = useMemo(() => new Set(jobs.data?.map((job) => job.run)), [jobs.data]);
  useChanges((event) => ours.has(event.run) ? ["state", "end", "metrics"].includes(event.type) : isLive && event.type === "state", reload, [ours, isLive], RELOAD_MS);
  useInterval(() => isLive && reload(), 10_000);
  return html`<${Loaded} resource=${sweep} what="the sweep">
    ${(/** @type {Sweep} */ found) => html`<div class="stack">
      <${Head} sweep=${found} reload=${reload} />
      <${Loaded} resource=${jobs} what="its runs">${(/** @type {Job[]} */ all) => html`<${Trials} sweep=${found} jobs=${all} />`}<//>
    </div>`}
  <//>`;
}

/** @param {{ sweep: Sweep, reload: () => void }} props */
function Head({ sweep, reload }) {
  const verb = (/** @type {"pause" | "resume" | "stop" | "cancel"} */ name) => async () => {
    await post(`/v1/sweeps/{sweep_id}/${name}`, { sweep_id: sweep.id });
    reload();
  };
  const remove = async () => {
    await call("delete", "/v1/sweeps/{sweep_id}", { sweep_id: sweep.id });
    return link(["sweeps"]);
  };
  const { state } = sweep;
  return html`<header class="row spread"><div class="row"><h1>${sweep.name ?? sweep.id}</h1><${State} state=${state} title=${sweep.reason} /><${Labels} labels=${sweep.labels} /></div>
      <div class="row">
        ${state === "running" && html`<${ActionButton} action=${verb("pause")} title="Make no more runs, and pause those there are">Pause<//>`}
        ${state === "paused" && html`<${ActionButton} action=${verb("resume")}>Resume<//>`}
        ${["running", "paused"].includes(state) && html`<${ActionButton} action=${verb("stop")} title="Make no more runs; those there are end by themselves" confirm="Make no more runs?">Stop<//>`}
        ${!ENDED.includes(state) && html`<${ActionButton} action=${verb("cancel")} kind="danger" confirm="Cancel its runs?">Cancel<//>`}
        ${ENDED.includes(state) && html`<${ActionButton} action=${remove} kind="danger" title="Its runs stay" confirm="Delete the sweep?">Delete<//>`}
      </div></header>
    ${sweep.error && html`<${ErrorBox} what="This sweep could not go on" problem=${new Problem({ code: "failed", detail: String(sweep.error["message"]), ...sweep.error })} />`}
    <div class="card"><${Facts} facts=${[
      ["Progress", html`<${Done} sweep=${sweep} />`],
      ["Runs", Object.entries(sweep.counts).map(([name, n]) => `${n} ${name}`).join(", ") || "none yet"],
      ["Best", sweep.best && number(sweep.best.value)],
      ["Judged by", `${sweep.metric}, ${sweep.direction === "minimize" ? "the lower the better" : "the higher the better"}`],
      ["Search", searchOf(sweep)],
      ["At once", sweep.parallel === null ? "all" : sweep.parallel],
      ["Time", duration(between(sweep.created_at, sweep.finished_at))],
      ["Id", html`<code>${sweep.id}</code>`],
    ]} /></div>`;
}

/** Jobs put together that differ in their seeds alone. @param {Job[]} jobs  @returns {Trial[]} */
export function trialsOf(jobs) {
  /** @type {Map<number, Job[]>} */
  const found = new Map();
  for (const job of jobs) found.set(job.trial, [...(found.get(job.trial) ?? []), job]);
  return [...found].map(([trial, all]) => {
    const { seed: _, ...choices } = /** @type {Record<string, unknown>} */ (all[0]?.choices ?? {});
    const values = all.map((job) => (job.value === null ? NaN : Number(job.value)));
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const states = [...new Set(all.map((job) => job.state))];
    const state = ["running", "stopping", "paused", "queued", "made", "asked", "planned"].find((one) => states.includes(one)) ?? states[0] ?? "planned";
    return { trial, choices, value: Number.isFinite(mean) ? mean : null, state, reason: all.find((job) => job.reason)?.reason ?? null, jobs: all };
  });
}

/** @param {{ sweep: Sweep, jobs: Job[] }} props */
function Trials({ sweep, jobs }) {
  const trials = useMemo(() => trialsOf(jobs), [jobs]);
  const isLow = sweep.direction === "minimize";
  const axes = useMemo(() => axesOf(trials, sweep.search, sweep.metric), [trials, sweep.search, sweep.metric]);
  const [brushes, setBrushes] = useState(/** @type {import("./parallel.js").Brushes} */ ({}));
  const [pointed, setPointed] = useState(/** @type {number | null} */ (null));
  const shown = useMemo(() => trials.filter((trial) => matches(trial, axes, brushes)), [trials, axes, brushes]);
  if (!trials.length) return html`<${Empty} title="No runs yet"><p>The first values are being chosen.</p><//>`;
  const best = sweep.best?.trial ?? null;
  const runs = bestRuns(trials, isLow);
  return html`
    <section class="card" aria-label="Parallel coordinates"><header class="row"><h2>Values and scores</h2>
      ${runs.length > 1 && html`<a class="button" href=${link(["compare"], { runs: runs.join() })}>Compare the best runs</a>`}</header>
      <${ParallelCoordinates} trials=${trials} axes=${axes} brushes=${brushes} setBrushes=${setBrushes} best=${best} pointed=${pointed} isLow=${isLow} />
    </section>
    <div class="halves"><${Importance} sweep=${sweep} values=${trials.flatMap(({ value }) => value ?? [])} /><${History} trials=${trials} isLow=${isLow} metric=${sweep.metric} /></div>
    <${TrialTable} trials=${shown} all=${trials.length} axes=${axes} best=${best} isLow=${isLow} point=${setPointed} />`;
}

/** @param {Trial[]} trials  @param {boolean} isLow */
function bestRuns(trials, isLow) {
  const ordered = trials.filter((trial) => trial.value !== null).sort((a, b) => (isLow ? 1 : -1) * (Number(a.value) - Number(b.value)));
  return (ordered.length ? ordered : trials).flatMap((trial) => trial.jobs.map((job) => job.run)).filter((run) => run !== null).slice(0, COMPARED);
}

/** How much each parameter decides. @param {{ sweep: Sweep, values: number[] }} props */
function Importance({ sweep, values }) {
  const isTold = new Set(values).size > 1;
  const load = async (/** @type {AbortSignal} */ signal) => (isTold ? get("/v1/sweeps/{sweep_id}/importance", { sweep_id: sweep.id }, { signal }) : null);
  const found = useResource(load, [sweep.id, isTold]);
  useEffect(() => found.reload(), [values.length]);
  return html`<section class="card" aria-label="Importance"><h2>What decides the score</h2>
    <${Loaded} resource=${found} what="importance">
      ${(/** @type {{ evaluator: string, n_trials: number, importance: Record<string, number> } | null} */ one) =>
        one === null
          ? html`<p class="hint">It takes two trials whose scores differ.</p>`
          : html`<ul class="bars">${Object.entries(one.importance).sort(([, a], [, b]) => b - a).map(([key, share]) => html`<li key=${key}>
                <code>${key}</code><output>${Math.round(share * 100)} %</output><span class="bar"><span style=${{ width: `${share * 100}%` }}></span></span></li>`)}</ul>
              <p class="hint">Judged by ${one.evaluator} from ${one.n_trials} trials.</p>`}
    <//></section>`;
}

/** @param {{ trials: Trial[], isLow: boolean, metric: string }} props */
function History({ trials, isLow, metric }) {
  const lines = useMemo(() => {
    let best = isLow ? Infinity : -Infinity;
    const reached = trials.map(({ value }) => {
      if (value !== null) best = isLow ? Math.min(best, value) : Math.max(best, value);
      return Number.isFinite(best) ? best : null;
    });
    const x = trials.map(({ trial }) => trial);
    return [
      { label: "best so far", x, y: reached, color: 0 },
      { label: "each trial", x, y: trials.map(({ value }) => value), color: 1, isDots: true },
    ];
  }, [trials, isLow]);
  return html`<section class="card" aria-label="History"><h2>Best so far</h2>
    ${trials.some(({ value }) => value !== null)
      ? html`<${Chart} name="history" lines=${lines} xLabel="trial" yLabel=${metric} height=${200} />`
      : html`<p class="hint">No trial has a score yet.</p>`}</section>`;
}

/** The twin of the lines that every reader has: it can be sorted, and shows what the lines are brushed to.
 * @param {{ trials: Trial[], all: number, axes: import("./parallel.js").Axis[], best: number | null, isLow: boolean, point: (trial: number | null) => void }} props */
function TrialTable({ trials, all, axes, best, isLow, point }) {
  const [{ key, isDown }, setOrder] = useState({ key: "score", isDown: !isLow });
  const [rows, setRows] = useState(ROWS);
  const keys = axes.filter((axis) => axis.key !== null).map((axis) => /** @type {string} */ (axis.key));
  const ordered = useMemo(() => sorted(trials, key, isDown), [trials, key, isDown]);
  const body = useMemo(
    () => ordered.slice(0, rows).map((trial) => html`<${TrialRow} key=${trial.trial} trial=${trial} keys=${keys} isBest=${trial.trial === best} point=${point} />`),
    [ordered, rows, best, axes],
  );
  const head = (/** @type {string} */ name, /** @type {string} */ title, kind = "") => html`<th class=${kind} aria-sort=${key === name ? (isDown ? "descending" : "ascending") : "none"}>
    <button class="sort" onClick=${() => setOrder({ key: name, isDown: key === name ? !isDown : name === "score" && !isLow })}>${title}<span aria-hidden="true">${key === name ? (isDown ? " ↓" : " ↑") : ""}</span></button></th>`;
  return html`<section class="card" aria-label="Trials"><header class="row"><h2>Trials</h2><small role="status">${trials.length === all ? all : `${trials.length} of ${all}`}</small></header>
    <div class="scroll" tabindex="0" role="region" aria-label="Table of trials"><table class="trials"><thead><tr>
      ${head("trial", "Trial", "number")}${head("state", "State")}${head("score", "Score", "number")}${keys.map((name) => head(`=${name}`, name))}<th>Runs</th></tr></thead>
      <tbody>${body}</tbody></table></div>
    ${ordered.length > rows && html`<button onClick=${() => setRows(ordered.length)}>Show all ${ordered.length}</button>`}
    ${!ordered.length && html`<p class="hint">No trial lies within what is chosen above.</p>`}
  </section>`;
}

/** @param {{ trial: Trial, keys: string[], isBest: boolean, point: (trial: number | null) => void }} props */
function TrialRow({ trial, keys, isBest, point }) {
  return html`<tr class=${isBest ? "best" : ""} onMouseEnter=${() => point(trial.trial)} onMouseLeave=${() => point(null)}>
    <td class="number">${trial.trial}</td><td><${State} state=${trial.state} title=${trial.reason} /></td>
    <td class="number">${isBest && html`<strong>★ best </strong>`}${number(trial.value)}</td>
    ${keys.map((key) => html`<td>${Object.hasOwn(trial.choices, key) ? plain(trial.choices[key]) : "–"}</td>`)}
    <td>${trial.jobs.map((job) => job.run && html`<a href=${link(["runs", job.run])}>${"seed" in job.choices ? `seed ${plain(job.choices["seed"])}` : `run ${job.job}`}</a> `)}</td></tr>`;
}

/** Trials by a column: numbers before other values, those without one last. @param {Trial[]} trials  @param {string} key  @param {boolean} isDown */
function sorted(trials, key, isDown) {
  const of = (/** @type {Trial} */ trial) => (key === "trial" ? trial.trial : key === "state" ? trial.state : key === "score" ? (trial.value ?? undefined) : own(trial.choices, key.slice(1)));
  const direction = isDown ? -1 : 1;
  return [...trials].sort((one, other) => {
    const [a, b] = [of(one), of(other)];
    if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined);
    if (typeof a === "number" && typeof b === "number") return direction * (a - b) || one.trial - other.trial;
    if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? -direction : direction;
    return direction * plain(a).localeCompare(plain(b)) || one.trial - other.trial;
  });
}
