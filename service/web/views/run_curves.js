/**
 * Curves of a run, live: one chart for each metric that is chosen, all over one x axis and one stretch of it.
 *
 * Every choice stands in the address, so that a link shows the same curves; the metrics chosen last are remembered.
 */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { address, bytes, save } from "../api.js";
import { Chart, smoothed } from "../chart.js";
import { useInView, usePaced, useRemembered, useResource } from "../hooks.js";
import { html } from "../html.js";
import { useRunEvents } from "../live.js";
import { link, navigate, replaceQuery, useRoute } from "../router.js";
import { ActionButton, CopyButton, Empty, Field, Loaded } from "../ui.js";
import { loadCheckpoints } from "./run_checkpoints.js";
import { epochsWithin, loadSeries, MAX_POINTS, nearestPlace, refined, withEvents } from "./run_series.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {import("./run_series.js").Series} Series */
/** @typedef {import("./run_series.js").Axis} Axis */
/** @typedef {{ names: string[], smooth: number, axis: Axis, isLog: boolean, zoom: [number, number] | null }} Choice */

/** @type {Record<Axis, string>} */
const AXES = { step: "environment steps", epoch: "epoch", time: "time" };
/** Groups of metrics in their order; what is in none has the first part of its name as its group.
 * @type {[title: string, names: RegExp][]} */
const GROUPS = [
  ["Evaluation", /^eval\//],
  ["Episodes in training", /^train\/episode_/],
  ["Events in training", /^train\/[A-Z]/],
  ["Losses", /^train\/.*loss/],
  ["Learning", /^train\//],
  ["Speed", /^time\//],
];
/** Shown until somebody chooses one that this run has. */
const AT_FIRST = [/^eval\/mean_return$/, /^train\/episode_return$/, /^train\/.*loss/];

/** Names by group, the groups in their order. @param {string[]} names @returns {[string, string[]][]} */
export function grouped(names) {
  /** @type {Map<string, string[]>} */
  const groups = new Map(GROUPS.map(([title]) => [title, []]));
  for (const name of [...names].sort()) {
    const title = GROUPS.find(([, pattern]) => pattern.test(name))?.[0] ?? name.split("/")[0] ?? name;
    groups.set(title, [...(groups.get(title) ?? []), name]);
  }
  return [...groups].filter(([, members]) => members.length);
}

/** @param {{ run: Run }} props */
export function Curves({ run }) {
  const known = Object.keys(run.latest_metrics);
  const [kept, choose] = useChoice(known);
  const [smooth, setSmooth] = useState(kept.smooth); // the curves follow the slider, the address only where it is let go
  useEffect(() => setSmooth(kept.smooth), [kept.smooth]);
  const choice = { ...kept, smooth };
  const best = useBest(run);
  if (!known.length) {
    return html`<${Empty} title=${run.finished_at ? "No points" : "No points yet"}><p>${run.finished_at ? "This run ended before it measured anything." : "The first ones come with the first epoch, by themselves."}</p><//>`;
  }
  return html`<div class="stack">
    <${Controls} run=${run} known=${known} choice=${choice} choose=${choose} setSmooth=${setSmooth} />
    <div class="charts">${grouped(choice.names).flatMap(([, names]) => names).map((name) =>
      html`<${MetricCard} key=${name} run=${run} name=${name} choice=${choice} choose=${choose} best=${best} />`)}</div>
  </div>`;
}

/**
 * What is chosen: by the address, by what was chosen last, or at first.
 * @param {string[]} known
 * @returns {[Choice, (change: Partial<Choice>) => void]}
 */
function useChoice(known) {
  const { query } = useRoute();
  const [remembered, remember] = useRemembered("curves", /** @type {string[] | null} */ (null));
  const wanted = query.get("names")?.split(",") ?? remembered ?? [];
  const named = known.filter((name) => wanted.includes(name));
  const usual = known.filter((name) => AT_FIRST.some((pattern) => pattern.test(name)));
  const [from, to] = (query.get("zoom") ?? "").split("..").map(Number);
  const axis = query.get("x") ?? "";
  /** @type {Choice} */
  const choice = {
    names: [named, usual].find(({ length }) => length) ?? known,
    smooth: Math.min(0.99, Math.max(0, Number(query.get("smooth")) || 0)),
    axis: Object.hasOwn(AXES, axis) ? /** @type {Axis} */ (axis) : "step",
    isLog: query.get("log") === "1",
    zoom: from !== undefined && to !== undefined && from < to ? [from, to] : null,
  };
  const choose = (/** @type {Partial<Choice>} */ change) => {
    if (change.names) remember(change.names);
    const { names, ...rest } = inAddress({ ...choice, ...change });
    replaceQuery(change.names || query.has("names") ? { names, ...rest } : rest);
  };
  return [choice, choose];
}

/** @param {Choice} choice */
function inAddress({ names, smooth, axis, isLog, zoom }) {
  return { names: names.join(","), smooth: smooth || null, x: axis === "step" ? null : axis, log: isLog ? 1 : null, zoom: zoom?.join("..") };
}

/**
 * @param {{ run: Run, known: string[], choice: Choice, choose: (change: Partial<Choice>) => void,
 *   setSmooth: (smooth: number) => void }} props
 */
function Controls({ run, known, choice, choose, setSmooth }) {
  const saved = (/** @type {string} */ type, /** @type {string} */ ending) => async () =>
    save(await bytes(address("/v1/runs/{run_id}/metrics", { run_id: run.id }), { accept: type }), `${run.id}-metrics.${ending}`);
  const permalink = () => location.href.replace(/#.*/s, link(["runs", run.id], { tab: "curves", ...inAddress(choice) }));
  return html`<div class="controls">
    <details class="metrics">
      <summary>Metrics (${choice.names.length} of ${known.length})</summary>
      ${grouped(known).map(([title, names]) => html`<fieldset key=${title}><legend>${title}</legend>
        ${names.map((name) => html`<label class="check" key=${name}>
          <input type="checkbox" checked=${choice.names.includes(name)} onChange=${() => choose({ names: toggled(known, choice.names, name) })} />${name}
        </label>`)}
      </fieldset>`)}
    </details>
    <${Field} label="Smoothing ${choice.smooth ? choice.smooth.toFixed(2) : "off"}">${(/** @type {any} */ attributes) => html`<input ...${attributes}
      type="range" min="0" max="0.99" step="0.01" value=${choice.smooth} onInput=${(/** @type {any} */ event) => setSmooth(Number(event.currentTarget.value))}
      onChange=${(/** @type {any} */ event) => choose({ smooth: Number(event.currentTarget.value) })} />`}<//>
    <${Field} label="x axis">${(/** @type {any} */ attributes) => html`<select ...${attributes} value=${choice.axis}
      onChange=${(/** @type {any} */ event) => choose({ axis: event.currentTarget.value, zoom: null })}>
      ${Object.entries(AXES).map(([axis, title]) => html`<option value=${axis}>${title}</option>`)}
    </select>`}<//>
    <label class="check"><input type="checkbox" checked=${choice.isLog} onChange=${() => choose({ isLog: !choice.isLog })} />log scale</label>
    <span class="row">
      ${choice.zoom && html`<button onClick=${() => choose({ zoom: null })}>Show all</button>`}
      <${CopyButton} text=${permalink}>Copy link<//>
      <${ActionButton} kind="quiet" action=${saved("text/csv", "csv")} title="Every point of every metric">All as CSV<//>
      <${ActionButton} kind="quiet" action=${saved("application/vnd.apache.parquet", "parquet")} title="Every point of every metric">Parquet<//>
    </span>
  </div>`;
}

/** @param {string[]} known  @param {string[]} chosen  @param {string} name */
function toggled(known, chosen, name) {
  return known.filter((each) => (each === name) !== chosen.includes(each));
}

/** Where the best checkpoint was made, on each axis. @param {Run} run */
function useBest(run) {
  const [best, setBest] = useState(/** @type {import("../openapi.d.ts").Checkpoint | undefined} */ (undefined));
  const look = usePaced(async () => setBest((await loadCheckpoints(run)).find((each) => each.is_best)), 2000);
  useEffect(() => void (run.best && look()), [run.best?.checkpoint]);
  return best ? { epoch: best.epoch, step: best.step, time: Date.parse(best.created_at) / 1000 } : null;
}

/**
 * @typedef {{ run: Run, name: string, choice: Choice, choose: (change: Partial<Choice>) => void,
 *   best: Record<Axis, number> | null }} ChartProps
 */

/** It is loaded when it is first seen. @param {ChartProps} props */
function MetricCard(props) {
  const { place, isInView } = useInView();
  const [wasSeen, setSeen] = useState(false);
  if (isInView && !wasSeen) setSeen(true);
  return html`<div class="card" ref=${place}><h2>${props.name}</h2>${wasSeen && html`<${MetricChart} ...${props} isInView=${isInView} />`}</div>`;
}

/** What is not on the screen is not drawn again before it is. @param {ChartProps & { isInView: boolean }} props */
function MetricChart({ run, name, choice, choose, best, isInView }) {
  const { axis, zoom, smooth, isLog } = choice;
  const whole = useSeries(run, name);
  const { part, isLoading } = usePart(run, name, whole.data, axis, zoom);
  const shown = useMemo(() => (whole.data && part ? refined(whole.data, part) : whole.data), [whole.data, part]);
  const lines = useMemo(() => (shown ? [lineOf(shown, name, { axis, smooth, isLog })] : []), [shown, name, axis, smooth, isLog]);
  const pick = (/** @type {number} */ x) => {
    if (shown?.epoch.length) navigate(link(["runs", run.id], { tab: "watch", epoch: shown.epoch[nearestPlace(shown[axis], x)] }));
  };
  const drawn = useRef({ lines, choice });
  if (isInView) drawn.current = { lines, choice };
  const how = drawn.current.choice;
  const isBare = zoom && shown && !isLoading && !shown[axis].some((x, place) => x >= zoom[0] && x <= zoom[1] && shown.value[place] !== null);
  return html`<${Loaded} resource=${whole} what="the curve">${() => html`
    ${isBare && html`<p class="bare" role="status">No points in this stretch. <button onClick=${() => choose({ zoom: null })}>Show all</button></p>`}
    <${Chart} name="${name} of ${run.name ?? run.id}" lines=${drawn.current.lines}
    xLabel=${AXES[how.axis]} isTime=${how.axis === "time"} isLog=${how.isLog} height=${220} zoom=${how.zoom} onPick=${pick}
    onZoom=${(/** @type {[number, number] | null} */ range) => choose({ zoom: range })}
    marks=${best ? [{ x: best[how.axis], label: "best" }] : []} />
    ${how.isLog && drawn.current.lines.some(({ y }) => y.includes(null)) && html`<p class="hint">A log scale has no place for what is not above 0.</p>`}`}<//>`;
}

/** All of a metric, grown by events. @param {Run} run  @param {string} name */
function useSeries(run, name) {
  const whole = useResource((signal) => loadSeries(run.id, name, {}, signal), [run.id, name]);
  const again = usePaced(whole.refresh, 1000);
  useRunEvents(run.id, (events, isNew) => {
    whole.set((series) => withEvents(series, events, name));
    if (isNew || (whole.data?.epoch.length ?? 0) > 2 * MAX_POINTS) again();
  });
  const isLater = useRef(false);
  useEffect(() => {
    if (isLater.current) again();
    isLater.current = true;
  }, [run.finished_at]);
  return whole;
}

/**
 * The finer points of the stretch that is shown.
 * @param {Run} run  @param {string} name  @param {Series | undefined} whole  @param {Axis} axis
 * @param {[number, number] | null} zoom
 */
function usePart(run, name, whole, axis, zoom) {
  const span = useMemo(() => (whole && zoom ? epochsWithin(whole, axis, zoom) : null), [!whole, axis, zoom?.join()]);
  const part = useResource(async (signal) => (span ? loadSeries(run.id, name, span, signal) : null), [name, span]);
  return { part: span ? part.data : null, isLoading: part.isLoading };
}

/**
 * @param {Series} series  @param {string} name
 * @param {{ axis: Axis, smooth: number, isLog: boolean }} how
 * @returns {import("../chart.js").Line}
 */
function lineOf(series, name, { axis, smooth, isLog }) {
  const values = isLog ? series.value.map((value) => (value !== null && value > 0 ? value : null)) : series.value;
  const line = { label: name, x: series[axis], color: 0 };
  return smooth ? { ...line, y: smoothed(values, smooth), raw: values } : { ...line, y: values };
}
