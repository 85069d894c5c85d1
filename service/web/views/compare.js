/** Compare: curves of a few runs over each other, how they did, what they differ in, whose policy is the better one. */
import { useMemo, useState } from "preact/hooks";
import { get, post, Problem } from "../api.js";
import { Chart, smoothed, Swatch } from "../chart.js";
import { ago, between, count, duration, number, own } from "../format.js";
import { useInterval, useResource, useSettled } from "../hooks.js";
import { html } from "../html.js";
import { useChanges } from "../live.js";
import { link, replaceQuery } from "../router.js";
import { CopyButton, Empty, Field, Loaded, State, useQuery } from "../ui.js";
import { Differences, inBrief, useDifferences } from "./compare_config.js";
import { Paired } from "./compare_policies.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {import("../openapi.d.ts").Schemas["SeriesOut"]} Series */

const MOST = 8;
const POINTS = 300;
/** No event tells that a run was deleted. */
const POLL_MS = 10_000;
/** Shown first where runs have it, in this order. */
const METRICS = ["eval/mean_return", "train/episode_return"];
const AXES = /** @type {const} */ ({ steps: "environment steps", epochs: "epoch", time: "minutes since the start" });

/** @param {{ route: import("../router.js").Route }} props */
export function View({ route }) {
  const ids = [...new Set((route.query.get("runs") ?? "").split(",").filter(Boolean))].slice(0, MOST);
  const runs = useResource((signal) => asked(ids, signal), [ids.join()]);
  useChanges((event) => ids.includes(event.run) && event.type !== "log", runs.reload, [ids.join()]);
  useInterval(runs.refresh, POLL_MS);
  const choose = (/** @type {string[]} */ chosen) => replaceQuery({ runs: chosen.join(), comparison: null });
  return html`<div class="stack">
    <header class="row"><h1>Compare runs</h1>${ids.length > 0 && html`<${CopyButton} text=${() => location.href}>Copy the address<//>`}</header>
    <${Picker} ids=${ids} choose=${choose} />
    ${ids.length > 0 &&
    html`<${Loaded} resource=${runs} what="the runs">
      ${(/** @type {{ runs: Run[], missing: string[] }} */ found) => html`<${Comparison} ...${found} choose=${choose} />`}
    <//>`}
  </div>`;
}

/** @param {string[]} ids  @param {AbortSignal} signal */
async function asked(ids, signal) {
  const found = await Promise.all(
    ids.map((run_id) =>
      get("/v1/runs/{run_id}", { run_id }, { signal }).catch((problem) => {
        if (problem instanceof Problem && [404, 422].includes(problem.status)) return null;
        throw problem;
      }),
    ),
  );
  return { runs: found.filter((run) => run !== null), missing: ids.filter((_, index) => found[index] === null) };
}

/** @param {{ runs: Run[], missing: string[], choose: (ids: string[]) => void }} props */
function Comparison({ runs, missing, choose }) {
  const ids = runs.map((run) => run.id);
  const differences = useDifferences(runs);
  const gone = missing.length > 0 && html`<p class="warning" role="status">There is no run <code>${missing.join(", ")}</code> any more.</p>`;
  if (!runs.length) return gone;
  const remove = (/** @type {string} */ id) => choose(ids.filter((other) => other !== id));
  return html`${gone}
    <${Curves} runs=${runs} rows=${differences.data ?? []} remove=${remove} />
    ${runs.length < 2
      ? html`<${Empty} title="One run alone"><p>Choose another one to compare it with.</p><//>`
      : html`<${Differences} runs=${runs} found=${differences} /><${Paired} runs=${runs} />`}`;
}

/** Search for runs, and take them in or out. @param {{ ids: string[], choose: (ids: string[]) => void }} props */
function Picker({ ids, choose }) {
  const [text, setText] = useState("");
  const wanted = useSettled(text.trim(), 200);
  const found = useResource((signal) => candidates(wanted, signal), [wanted]);
  const isFull = ids.length >= MOST;
  const toggle = (/** @type {string} */ id) => choose(ids.includes(id) ? ids.filter((other) => other !== id) : [...ids, id]);
  return html`<details class="card picker" open=${ids.length < 2}>
    <summary>Choose runs <small>${ids.length} of at most ${MOST}</small></summary>
    <${Field} label="Find a training" hint="A part of its name, or its id.">
      ${(/** @type {object} */ attributes) =>
        html`<input type="search" ...${attributes} value=${text} onInput=${(/** @type {any} */ event) => setText(event.target.value)} />`}
    <//>
    <${Loaded} resource=${found} what="runs">
      ${(/** @type {Run[]} */ runs) =>
        runs.length
          ? html`<ul class="choices">${runs.map((run) => html`<li key=${run.id}>
              <label class="check"><input type="checkbox" checked=${ids.includes(run.id)} disabled=${isFull && !ids.includes(run.id)}
                onChange=${() => toggle(run.id)} /><span>${titleOf(run)}</span><${State} state=${run.state} />
                <small>${run.best ? `best ${number(run.best.value)} · ` : ""}${ago(run.created_at)}</small></label></li>`)}</ul>`
          : html`<p class="hint">No training ${wanted ? html`has “${wanted}” in its name` : html`yet: <a href=${link(["new"])}>start one</a>`}.</p>`}
    <//>
  </details>`;
}

/** @param {string} text  @param {AbortSignal} signal */
async function candidates(text, signal) {
  if (/^run_\w{8,}$/.test(text)) return (await asked([text], signal)).runs;
  return (await get("/v1/runs", { kind: "train", limit: 12, ...(text ? { name: text } : {}) }, { signal })).data;
}

/** @param {Run} run */
function titleOf(run) {
  return run.name ?? run.id;
}

/** What each line is called: the name, of a sweep's run what it tries, with the id's end where runs share it.
 * @param {Series[]} series  @param {Run[]} runs  @param {import("./compare_config.js").Row[]} rows */
function labelsOf(series, runs, rows) {
  const names = series.map(({ runs: [first] }) => {
    const place = runs.findIndex((run) => run.id === first);
    return (runs[place]?.sweep && inBrief(rows, place)) || (runs[place]?.name ?? "");
  });
  return series.map(({ runs: ids, counted }, index) => {
    const id = ids[0] ?? "";
    const isShared = names.filter((name) => name === names[index]).length > 1;
    const name = !names[index] ? id : isShared ? `${names[index]} (…${id.slice(-5)})` : names[index];
    const seeds = `${counted.length} ${counted.length > 1 ? "seeds" : "seed"}`;
    return ids.length > counted.length ? `${name}, ${ids.length} runs, ${seeds}` : ids.length > 1 ? `${name}, ${seeds}` : name;
  });
}

/** The curves with what they are drawn by, and the runs beneath. 
 * @param {{ runs: Run[], rows: import("./compare_config.js").Row[], remove: (id: string) => void }} props */
function Curves({ runs, rows, remove }) {
  const ids = runs.map((run) => run.id);
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.latest_metrics)))].sort();
  const metric = useQuery("metric") || METRICS.find((name) => names.includes(name)) || names[0] || "";
  const x = /** @type {keyof typeof AXES} */ (Object.hasOwn(AXES, useQuery("x", "steps")) ? useQuery("x", "steps") : "steps");
  const weight = Math.min(0.99, Math.max(0, Number(useQuery("smooth", "0")) || 0));
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.labels)))].sort();
  const together = useQuery("together", "seeds");
  const label = keys.find((key) => together === `label:${key}`);
  const isFolded = label === undefined && together !== "runs";
  const grouped = { fold_seeds: isFolded, ...(label === undefined ? {} : { group_by: label }) };
  const body = { runs: ids, names: [metric], max_points: POINTS, statistic: /** @type {const} */ ("iqm"), ...grouped };
  const found = useResource(
    async (signal) => (metric ? (await post("/v1/metrics/query", {}, body, { signal })).data : []),
    [ids.join(), metric, isFolded, label],
  );
  useChanges((event) => ids.includes(event.run) && ["metrics", "end"].includes(event.type), found.reload, [ids.join(), metric]);
  const [hidden, setHidden] = useState(/** @type {ReadonlySet<string>} */ (new Set()));
  const series = found.data ?? [];
  const labels = label === undefined ? labelsOf(series, runs, rows) : series.map((one) => `${label} ${one.group || "none"}, ${one.runs.length} ${one.runs.length > 1 ? "runs" : "run"}`);
  const lines = useMemo(
    () => series.map((one, index) => ({ ...lineOf(one, x, weight), label: labels[index] ?? "", color: index, isHidden: hidden.has(one.group) })),
    [found.data, x, weight, hidden, labels.join("\n")],
  );
  const toggle = (/** @type {number} */ index) => setHidden((before) => toggled(before, series[index]?.group ?? ""));
  const hasBands = series.some((one) => one.counted.length > 1);
  const hasTwins = series.some((one) => one.runs.length > one.counted.length);
  return html`<section class="card" aria-label="Curves">
    <div class="row controls">
      <label>Metric <select value=${metric} onChange=${(/** @type {any} */ event) => replaceQuery({ metric: event.target.value })}>
        ${(names.includes(metric) || !metric ? names : [metric, ...names]).map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
      <label>Over <select value=${x} onChange=${(/** @type {any} */ event) => replaceQuery({ x: event.target.value })}>
        ${Object.keys(AXES).map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
      <label>Smoothing <input type="range" min="0" max="0.95" step="0.05" value=${weight}
        onInput=${(/** @type {any} */ event) => replaceQuery({ smooth: Number(event.target.value) || null })} /></label>
      <label>One line for <select value=${isFolded ? "seeds" : together} onChange=${(/** @type {any} */ event) => replaceQuery({ together: event.target.value === "seeds" ? null : event.target.value })}>
        <option value="seeds">each configuration, its seeds together</option><option value="runs">each run</option>
        ${keys.map((key) => html`<option key=${key} value=${`label:${key}`}>each value of ${key}</option>`)}</select></label>
    </div>
    <${Loaded} resource=${found} what="curves">
      ${() =>
        series.some((one) => one.epoch.length)
          ? html`<${Chart} name="compare ${metric}" lines=${lines} xLabel=${AXES[x]} yLabel=${metric} height=${340} onToggle=${toggle} />`
          : html`<${Empty} title=${runs.every((run) => run.finished_at) ? "No points" : "No points yet"}><p>${metric ? `None of these runs has ${metric}.` : "These runs have measured nothing."}${runs.every((run) => run.finished_at) ? "" : " Curves appear as they come."}</p><//>`}
    <//>
    ${hasBands &&
    html`<p class="hint">${label === undefined ? "Runs that differ in the seed alone" : "Runs with one label"} are one line: their interquartile mean, without the lowest and the
      highest quarter of the runs. The band is its 95 % interval by a bootstrap over the runs.</p>`}
    ${hasTwins && html`<p class="hint">Of runs with the same configuration and the same seed one counts: the newest that succeeded, else the one that came furthest.</p>`}
    <${Runs} runs=${runs} series=${series} metric=${metric} remove=${remove} />
  </section>`;
}

/** @param {ReadonlySet<string>} set  @param {string} one */
function toggled(set, one) {
  const next = new Set(set);
  if (!next.delete(one)) next.add(one);
  return next;
}

/** @param {unknown} value */
function finite(value) {
  return value !== null && Number.isFinite(Number(value)) ? Number(value) : null;
}

/** A series over what is chosen, in order and with one point at each place.
 * @param {Series} series  @param {keyof typeof AXES} x  @param {number} weight */
function lineOf(series, x, weight) {
  const places = { steps: series.step, epochs: series.epoch, time: series.seconds.map((each) => (each === null ? null : Number(each) / 60)) }[x];
  /** @type {Map<number, number>} */
  const rows = new Map();
  places.forEach((place, index) => place !== null && rows.set(Number(place), index));
  const order = [...rows].sort(([a], [b]) => a - b);
  const column = (/** @type {readonly unknown[]} */ values) => order.map(([, index]) => finite(values[index]));
  const raw = column(series.mean);
  const band = series.counted.length > 1 ? { low: smoothed(column(series.low), weight), high: smoothed(column(series.high), weight) } : {};
  return { x: order.map(([place]) => place), y: smoothed(raw, weight), ...(weight > 0 ? { raw } : {}), ...band };
}

/** @param {{ runs: Run[], series: Series[], metric: string, remove: (id: string) => void }} props */
function Runs({ runs, series, metric, remove }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Runs"><table>
    <thead><tr><th>Run</th><th>State</th><th class="number">Seed</th><th class="number">Best</th><th class="number">${metric || "Metric"}, last</th>
      <th class="number">Steps</th><th class="number">Time</th><th class="number">Steps/s</th><th><span class="sr">Remove</span></th></tr></thead>
    <tbody>${runs.map((run) => {
      const place = series.findIndex((one) => one.runs.includes(run.id));
      return html`<tr key=${run.id}>
        <td>${place >= 0 && html`<${Swatch} index=${place} />`}<a href=${link(["runs", run.id])}>${titleOf(run)}</a></td>
        <td><${State} state=${run.state} title=${run.reason} /></td><td class="number">${run.seed ?? "–"}</td>
        <td class="number">${number(run.best?.value)}</td><td class="number">${number(own(run.latest_metrics, metric))}</td>
        <td class="number">${count(run.progress.env_steps)}</td><td class="number">${duration(between(run.started_at, run.finished_at))}</td>
        <td class="number">${count(finite(run.latest_metrics["time/env_steps_per_s"] ?? null))}</td>
        <td class="number"><button class="quiet" aria-label="Take ${titleOf(run)} out" onClick=${() => remove(run.id)}>✕</button></td></tr>`;
    })}</tbody></table></div>`;
}
