/** Runs: found by what they are, followed as they go, changed many at a time. What is chosen stands in the address. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { connection, get, isOnline, newKey, post } from "../api.js";
import { curlHere } from "../curl.js";
import { ago, count, duration, moment, number } from "../format.js";
import { useAction, useInterval, useSettled } from "../hooks.js";
import { html } from "../html.js";
import { link, navigate, replaceQuery } from "../router.js";
import { NEWEST, RunList } from "../run_list.js";
import { Table } from "../table.js";
import { ActionButton, CopyButton, Dialog, Empty, ErrorBox, Field, Progress, State } from "../ui.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {import("../openapi.d.ts").Schemas["BulkItemOut"]} Item */
/** @typedef {import("../openapi.d.ts").Schemas["BulkRequest"]["action"]} Action */

const STATES = ["queued", "running", "stopping", "paused", "succeeded", "failed", "cancelled"];
const KINDS = ["train", "rollout", "evaluate", "compare", "replay", "smoke", "import", "record"];
const TIMES = /** @type {Record<string, [seconds: number, title: string]>} */ ({
  hour: [3600, "the last hour"], day: [86_400, "the last 24 hours"], week: [604_800, "the last 7 days"], month: [2_592_000, "the last 30 days"],
});
const ENDED = new Set(["succeeded", "failed", "cancelled"]);
/** What the column of the latest value shows of a run, unless a metric is chosen. */
const TELLING = ["eval/mean_return", "train/episode_return"];
const FILTERS = ["name", "state", "kind", "since", "label", "sweep"];
/** Runs that one request changes at most. */
const AT_ONCE = 200;
const DONE = { cancel: "cancelled or stopping", pause: "paused or stopping", resume: "resumed", delete: "deleted", label: "labelled" };
/** No event tells of a deletion, of a new name or of labels: what is seen is asked for again. */
const REFRESH_MS = 20_000;
const ROW = 48;
const CARD = 68;

/** The README's first run. */
const CARTPOLE = {
  algorithm: "ppo", model: "vector_obs", critic: "template_state", wrappers: "vector_obs",
  overrides: { "env.name": "CartPole-v1", "algorithm.n_epochs": 10 }, seed: 2, name: "first",
};

/** @param {{ route: import("../router.js").Route }} props */
export function View({ route }) {
  const { query } = route;
  const { list, place, isBack, reload } = useRunList(query);
  const [selected, setSelected] = useState(/** @type {ReadonlySet<string>} */ (new Set()));
  const seen = useRef({ from: 0, to: 0 });
  const [now, setNow] = useState(Date.now);
  const isNarrow = useMedia("(max-width: 700px)");
  const metric = query.get("metric") ?? "";
  const columns = useMemo(() => columnsOf(metric, now), [metric, now]);
  const metrics = useMetrics(list);
  const isFiltered = query.has("sort") || FILTERS.some((name) => query.has(name));

  useInterval(() => setNow(Date.now()), 10_000);
  useInterval(() => list.refresh(seen.current.from, seen.current.to), REFRESH_MS, [list]);
  useEffect(() => {
    const again = () => isOnline() && list.refresh(seen.current.from, seen.current.to);
    if (isBack) again();
    const told = ["live", "reached"];
    for (const type of told) connection.addEventListener(type, again);
    return () => told.forEach((type) => connection.removeEventListener(type, again));
  }, [list]);
  useEffect(() => setSelected(new Set()), [FILTERS.map((name) => query.getAll(name)).join("\n")]);

  /** @param {number} from  @param {number} to */
  const onSeen = (from, to) => {
    seen.current = { from, to };
    if (to >= list.ids.length - 30) list.more();
  };

  const rows = { list, columns, selected, setSelected, place, onSeen, rowHeight: isNarrow ? CARD : ROW, query };
  return html`<section class="run-list">
    ${list.isLoaded && !list.ids.length && !isFiltered ? html`<h1>Runs</h1>` : html`<${Filters} query=${query} metrics=${metrics} />`}
    ${list.isLoaded && html`<${Status} list=${list} selected=${selected} setSelected=${setSelected} reload=${reload} />`}
    ${list.problem && (list.problem.code !== "unreachable" || !list.isLoaded) &&
    html`<${ErrorBox} problem=${list.problem} retry=${() => list.more()} what="The runs could not be loaded" />`}
    ${list.isLoaded && list.ids.length > 0 && html`<${Rows} ...${rows} />`}
    ${list.isLoaded && !list.ids.length && (isFiltered ? html`<${NothingFits} />` : html`<${FirstRun} />`)}
    ${!list.isLoaded && !list.problem && html`<${Skeleton} />`}
  </section>`;
}

/** The list that was left last, where it was looked at, and at which step of the browser's history.
 * @type {{ list: RunList, asked: string, step: string, place: import("../table.js").Place } | null} */
let left = null;

/**
 * The list of what the address asks for: the one that was left, where somebody comes back to it. The one before is shown
 * until the first page of it is there.
 * @param {URLSearchParams} query
 */
function useRunList(query) {
  const asked = JSON.stringify(["sort", ...FILTERS].map((name) => [name, query.getAll(name)]));
  const [turn, setTurn] = useState(0);
  const [, draw] = useState(0);
  const { list, place, isBack } = useMemo(() => {
    if (turn === 0 && left?.asked === asked && left.step === history.state?.step) return { ...left, isBack: true };
    return { list: new RunList(filterOf(query)), place: { top: 0, active: null }, isBack: false };
  }, [asked, turn]);
  const shown = useRef(list);
  useEffect(() => {
    const step = history.state?.step ?? newKey();
    history.replaceState({ ...history.state, step }, "");
    const load = () => list.isLoaded || list.more();
    list.show(() => draw((before) => before + 1));
    load();
    connection.addEventListener("reached", load);
    return () => {
      connection.removeEventListener("reached", load);
      list.hide();
      if (left?.list !== list) left?.list.close();
      left = { list, asked, step, place };
    };
  }, [list]);
  const isRefused = list.problem && list.problem.code !== "unreachable";
  if (list.isLoaded || isRefused || !shown.current.isLoaded) shown.current = list;
  return { list: shown.current, place, isBack, reload: () => setTurn((before) => before + 1) };
}

/** @param {URLSearchParams} query @returns {import("../run_list.js").Filter} */
function filterOf(query) {
  /** @param {string} name */
  const one = (name) => /** @type {any} */ (query.get(name) ?? undefined);
  const [seconds] = TIMES[query.get("since") ?? ""] ?? [];
  return {
    name: one("name"),
    state: one("state"),
    kind: one("kind"),
    sweep: one("sweep"),
    label: query.getAll("label"),
    sort: one("sort") ?? NEWEST,
    created_after: seconds === undefined ? undefined : new Date(Date.now() - seconds * 1000).toISOString(),
  };
}

/** @param {{ query: URLSearchParams, metrics: string[] }} props */
function Filters({ query, metrics }) {
  const [isOpen, setOpen] = useState(false);
  const asked = query.get("name") ?? "";
  const [name, setName] = useState(asked);
  const settled = useSettled(name, 200);
  const said = useRef(asked);
  useEffect(() => {
    if (settled === said.current) return;
    said.current = settled;
    replaceQuery({ name: settled });
  }, [settled]);
  useEffect(() => {
    if (asked === said.current) return; // another address was opened
    said.current = asked;
    setName(asked);
  }, [asked]);
  /** @param {string} key  @param {string} title  @param {[value: string, title: string][]} options */
  const choice = (key, title, options) => html`<label class="choice"><span>${title}</span>
    <select value=${query.get(key) ?? ""} onChange=${(/** @type {any} */ event) => replaceQuery({ [key]: event.target.value })}>
      ${options.map(([value, text]) => html`<option value=${value} selected=${value === (query.get(key) ?? "")}>${text}</option>`)}
    </select></label>`;
  /** @param {SubmitEvent} event */
  const addLabel = (event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (/** @type {HTMLFormElement} */ (event.target).elements.namedItem("label"));
    const isLabel = field.value.indexOf("=") > 0;
    field.setCustomValidity(isLabel ? "" : "Write a label as key=value.");
    if (!field.reportValidity()) return;
    replaceQuery({ label: [...new Set([...query.getAll("label"), field.value.trim()])] });
    field.value = "";
  };
  const clear = () => (setName(""), replaceQuery(Object.fromEntries(FILTERS.map((key) => [key, undefined]))));
  const chips = [...query.getAll("label").map((value) => ({ value, key: "label" })), ...query.getAll("sweep").map((value) => ({ value, key: "sweep" }))];
  return html`<header class="run-list-head">
    <h1>Runs</h1>
    <input type="search" aria-label="Search by name" placeholder="Search by name" maxlength="200" value=${name}
      onInput=${(/** @type {any} */ event) => setName(event.target.value)} />
    <button class="filters-button" aria-expanded=${isOpen} aria-controls="filters" onClick=${() => setOpen(!isOpen)}>Filter</button>
    <div id="filters" class=${isOpen ? "filters open" : "filters"}>
      ${choice("state", "State", [["", "any"], ...named(STATES)])}
      ${choice("kind", "Kind", [["", "any"], ...named(KINDS)])}
      ${choice("since", "Submitted in", [["", "any time"], ...Object.entries(TIMES).map(([key, [, title]]) => /** @type {[string, string]} */ ([key, title]))])}
      ${choice("metric", "Metric", [["", "as it comes"], ...named(query.get("metric") ? [...new Set([...metrics, query.get("metric") ?? ""])] : metrics)])}
      ${choice("sort", "Order", ordersOf(query))}
      <form class="choice" onSubmit=${addLabel}><label for="label-filter">Label</label>
        <input id="label-filter" name="label" placeholder="key=value" size="12" onInput=${(/** @type {any} */ event) => event.target.setCustomValidity("")} /></form>
    </div>
    ${FILTERS.some((key) => query.has(key)) && html`<div class="chips">
      ${chips.map(({ value, key }) => html`<button class="label" key=${`${key} ${value}`} title="Do not ask for it"
        onClick=${() => replaceQuery({ [key]: query.getAll(key).filter((each) => each !== value) })}><bdi>${key === "sweep" ? "sweep " : ""}${value}</bdi> ✕</button>`)}
      <button class="quiet" onClick=${clear}>Clear filters</button></div>`}
  </header>`;
}

/** @param {string[]} values @returns {[string, string][]} */
function named(values) {
  return values.map((value) => [value, value]);
}

/** @param {URLSearchParams} query @returns {[string, string][]} */
function ordersOf(query) {
  const metric = query.get("metric");
  const sort = query.get("sort") ?? "";
  /** @type {[string, string][]} */
  const orders = [
    ["", "newest first"], ["created_at", "oldest first"], ["-best", "best score, highest first"], ["best", "best score, lowest first"],
    ["name", "name"], ["-name", "name, from the end"],
  ];
  const metrics = new Set([metric ?? "", sort.startsWith("-metric:") ? sort.slice(8) : sort.startsWith("metric:") ? sort.slice(7) : ""]);
  for (const each of metrics) if (each) orders.push([`-metric:${each}`, `${each}, highest first`], [`metric:${each}`, `${each}, lowest first`]);
  return orders;
}

/** Metrics that runs in the list have, by name. @param {RunList} list */
function useMetrics(list) {
  return useMemo(() => {
    const names = new Set(list.ids.slice(0, AT_ONCE).flatMap((id) => Object.keys(list.runs.get(id)?.latest_metrics ?? {})));
    return [...names].sort();
  }, [list, list.ids]);
}

/** @param {any} props */
function Rows({ list, columns, selected, setSelected, place, onSeen, rowHeight, query }) {
  return html`<${Table} label="Runs" columns=${columns} ids=${list.ids} rowOf=${(/** @type {string} */ id) => list.runs.get(id)}
    nameOf=${titleOf} hasMore=${list.hasMore} rowHeight=${rowHeight} selected=${selected} onSelect=${setSelected} place=${place}
    onOpen=${(/** @type {string} */ id) => navigate(link(["runs", id]))} onSeen=${onSeen} isBusy=${list.isLoading}
    sort=${query.get("sort") ?? NEWEST} onSort=${(/** @type {string} */ sort) => replaceQuery({ sort: sort === NEWEST ? undefined : sort })} />`;
}

/** @param {string} metric  @param {number} now  @returns {import("../table.js").Column<Run>[]} */
function columnsOf(metric, now) {
  return [
    { id: "state", title: "State", cell: (run) => html`<${State} state=${run.state} title=${run.reason} />` },
    { id: "name", title: "Name", cell: NameCell, sorts: ["name", "-name"] },
    { id: "progress", title: "Progress", cell: ProgressCell },
    { id: "best", title: "Best", cell: bestCell, sorts: ["-best", "best"] },
    {
      id: "latest",
      title: metric ? html`<bdi>${metric}</bdi>` : "Latest",
      cell: (run) => latestCell(run, metric),
      ...(metric ? { sorts: /** @type {[string, string]} */ ([`-metric:${metric}`, `metric:${metric}`]) } : {}),
    },
    { id: "labels", title: "Labels", cell: LabelsCell },
    {
      id: "age",
      title: "Submitted",
      cell: (run) => html`<time datetime=${run.created_at} title=${moment(run.created_at)}>${ago(run.created_at, now)}</time>`,
      sorts: ["-created_at", "created_at"],
    },
  ];
}

/** @param {Run} run */
function titleOf(run) {
  return run.name ?? run.id;
}

/** @param {Run} run */
function NameCell(run) {
  return html`<a href=${link(["runs", run.id])} tabindex="-1" title=${titleOf(run)}><bdi>${titleOf(run)}</bdi></a>
    <small><bdi>${[run.kind, run.algorithm, run.environment].filter(Boolean).join(" · ")}</bdi></small>`;
}

/** @param {Run} run */
function ProgressCell(run) {
  const words = wordsOf(run);
  const isUnderWay = !ENDED.has(run.state) && run.state !== "queued";
  return html`${isUnderWay && html`<${Progress} value=${run.progress.fraction ?? null} label=${`Progress of ${titleOf(run)}`} />`}
    <small title=${words}>${words}</small>`;
}

/** How far a run is, in words. @param {Run} run */
function wordsOf({ state, phase, progress, error, reason, started_at, finished_at }) {
  const { epoch, n_epochs, env_steps, eta_s } = progress;
  if (state === "failed") return String(error?.["message"] ?? reason ?? "failed");
  const parts = [];
  if (phase && phase !== "training") parts.push(phase);
  if (epoch !== null && epoch !== undefined) parts.push(`epoch ${number(epoch)}${n_epochs ? ` of ${number(n_epochs)}` : ""}`);
  if (state === "running" && typeof eta_s === "number") parts.push(`${duration(eta_s)} left`);
  if (env_steps && !finished_at) parts.push(`${count(env_steps)} steps`);
  if (finished_at && started_at) parts.push(`took ${duration((Date.parse(finished_at) - Date.parse(started_at)) / 1000)}`);
  if (!parts.length) parts.push(state === "queued" ? "waits" : (reason ?? "starts"));
  return parts.join(" · ");
}

/** @param {Run} run */
function bestCell({ best, result }) {
  if (best) return html`<${Score} name=${best.metric} value=${best.value} />`;
  const mean = /** @type {any} */ (result)?.mean_return;
  return mean !== undefined && html`<${Score} name="mean_return" value=${mean} />`;
}

/** @param {Run} run  @param {string} metric */
function latestCell({ latest_metrics: values }, metric) {
  const name = metric || (TELLING.find((each) => Object.hasOwn(values, each)) ?? Object.keys(values)[0]);
  return name !== undefined && Object.hasOwn(values, name) && html`<${Score} name=${name} value=${values[name]} />`;
}

/** @param {{ name: string, value: unknown }} props */
function Score({ name, value }) {
  return html`<span title="${name}: ${value}">${number(value)}</span><small>${name}</small>`;
}

/** @param {Run} run */
function LabelsCell({ labels }) {
  return Object.entries(labels).map(([key, value]) => {
    const text = `${key}=${value}`;
    return html`<button class="label" tabindex="-1" key=${key} title=${`Only runs with ${text}`}
      onClick=${() => replaceQuery({ label: text })}><bdi>${text}</bdi></button>`;
  });
}

/** How many there are, or what can be done with those that are selected.
 * @param {{ list: RunList, selected: ReadonlySet<string>, setSelected: (ids: Set<string>) => void, reload: () => void }} props */
function Status({ list, selected, setSelected, reload }) {
  const [outcome, setOutcome] = useState(/** @type {{ action: Action, items: (Item & { name: string })[] } | null} */ (null));
  const [isLabelling, setLabelling] = useState(false);
  const ids = [...selected];
  /** @param {Action} action  @param {Record<string, string | null>} [labels] */
  const change = async (action, labels) => {
    const names = new Map(ids.map((id) => [id, titleOf(/** @type {Run} */ (list.runs.get(id) ?? { id, name: null }))]));
    const items = await changed(action, ids, labels);
    setOutcome({ action, items: items.map((item) => ({ ...item, name: names.get(item.id) ?? item.id })) });
    const isGone = (/** @type {Item} */ { error }) => (error ? error["code"] === "not_found" : action === "delete");
    const gone = items.filter(isGone).map((item) => item.id);
    if (gone.length) list.forget(gone);
    setSelected(new Set(ids.filter((id) => !gone.includes(id))));
    if (labels) list.label(items.filter((item) => !item.error).map((item) => item.id), labels);
  };
  const states = new Set(ids.map((id) => list.runs.get(id)?.state ?? ""));
  const isAny = (/** @type {(state: string) => boolean} */ fits) => [...states].some(fits);
  const isLive = isAny((state) => !ENDED.has(state));
  const comparable = ids.length >= 2 && ids.length <= 8;
  const n = list.ids.length;
  const found = n ? `${number(n)} ${n === 1 ? "run" : "runs"}${list.hasMore ? " so far" : ""}${list.isLoading ? " · loading more …" : ""}` : "";
  const words = ids.length ? `${number(ids.length)} selected` : found;
  return html`<div class="status row" role="group" aria-label="Selected runs">
    <span class=${ids.length ? "chosen" : "hint"} role="status">${words}</span>
    ${list.arrived.size > 0 && html`<button onClick=${reload}>${list.arrived.size} new</button>`}
    ${ids.length > 0 && html`
      ${comparable
        ? html`<a class="button" href=${link(["compare"], { runs: ids.join(",") })}>Compare</a>`
        : html`<button disabled title="Select 2 to 8 runs">Compare</button>`}
      <${ActionButton} disabled=${!isLive} action=${() => change("pause")}>Pause<//>
      <${ActionButton} disabled=${!states.has("paused") && !states.has("stopping")} action=${() => change("resume")}>Resume<//>
      <${ActionButton} disabled=${!isLive} confirm=${`Cancel ${ids.length}?`} action=${() => change("cancel")}>Cancel<//>
      <${ActionButton} kind="danger" disabled=${!isAny((state) => ENDED.has(state))} confirm=${`Delete ${ids.length} for good?`}
        action=${() => change("delete")}>Delete<//>
      <button onClick=${() => setLabelling(true)}>Label …</button>
      <button class="quiet" onClick=${() => setSelected(new Set())}>Clear</button>`}
    ${isLabelling && html`<${LabelDialog} n=${ids.length} close=${() => setLabelling(false)} set=${(/** @type {any} */ labels) => change("label", labels)} />`}
  </div>
  ${outcome && html`<${Outcome} ...${outcome} close=${() => setOutcome(null)} />`}`;
}

/**
 * Change runs, so many at a time as one request takes.
 * @param {Action} action
 * @param {string[]} ids
 * @param {Record<string, string | null>} [labels]
 */
async function changed(action, ids, labels) {
  /** @type {Item[]} */
  const items = [];
  for (let start = 0; start < ids.length; start += AT_ONCE) {
    const filter = /** @type {any} */ ({ ids: ids.slice(start, start + AT_ONCE) });
    const answer = await post("/v1/runs/bulk", {}, /** @type {any} */ ({ action, filter, ...(labels && { labels }) }));
    items.push(...answer.data);
  }
  return items;
}

/** What became of each. @param {{ action: Action, items: (Item & { name: string })[], close: () => void }} props */
function Outcome({ action, items, close }) {
  const refused = items.filter((item) => item.error);
  return html`<section class="outcome" role="status">
    <div class="row spread"><strong>${items.length - refused.length} ${DONE[action]}${refused.length > 0 && `, ${refused.length} not`}</strong>
      <button class="quiet" aria-label="Dismiss" onClick=${close}>✕</button></div>
    <details open=${refused.length > 0}><summary>Each run</summary><ul tabindex="0" aria-label="What became of each run">
      ${[...refused, ...items.filter((item) => !item.error)].map(({ id, name, state, error }) => html`<li key=${id}>
        <bdi>${name}</bdi>: ${error ? html`<span class="inline-error">${error["message"]}</span>` : (state ?? "deleted")}</li>`)}
    </ul></details>
  </section>`;
}

/** @param {{ n: number, close: () => void, set: (labels: Record<string, string | null>) => Promise<void> }} props */
function LabelDialog({ n, close, set }) {
  const [key, setKey] = useState("");
  const [value, setValue] = useState("");
  const { run, isBusy, problem } = useAction(async () => {
    await set({ [key]: value === "" ? null : value });
    close();
  });
  return html`<${Dialog} title=${n === 1 ? "Label one run" : `Label ${n} runs`} close=${close}>
    <form onSubmit=${(/** @type {Event} */ event) => (event.preventDefault(), run())}>
      <${Field} label="Key">${(/** @type {any} */ attributes) => html`<input ...${attributes} required maxlength="64" pattern="[A-Za-z0-9_.\\-]+"
        value=${key} onInput=${(/** @type {any} */ event) => setKey(event.target.value)} />`}<//>
      <${Field} label="Value" hint="Empty takes the label away.">${(/** @type {any} */ attributes) => html`<input ...${attributes} maxlength="256"
        value=${value} onInput=${(/** @type {any} */ event) => setValue(event.target.value)} />`}<//>
      <${ErrorBox} problem=${problem} />
      <button class="primary" disabled=${isBusy}>${value === "" ? "Take away" : "Set"}</button>
    </form>
  <//>`;
}

function FirstRun() {
  const command = curlHere("POST", "/v1/train", CARTPOLE);
  const train = async () => {
    const { data } = await get("/v1/workers");
    const canFilm = data.some((worker) => worker.extras.includes("video"));
    const run = await post("/v1/train", {}, /** @type {any} */ ({ ...CARTPOLE, ...(canFilm ? { videos: 1 } : {}) }));
    return link(["runs", run.id]);
  };
  return html`<${Empty} title="No runs yet">
    <p>A run trains, evaluates or plays a policy. The first one learns to balance a pole, in less than a minute.</p>
    <p><${ActionButton} kind="primary" action=${train}>Train CartPole<//> <a class="button" href=${link(["new"])}>Another run</a></p>
    <p>Or from a shell:</p>
    <div class="command"><pre>${command}</pre><${CopyButton} text=${command} /></div>
  <//>`;
}

function NothingFits() {
  return html`<${Empty} title="No run fits">
    <p>Runs without a name or a value are left out where they are sorted by it.</p>
    <button onClick=${() => replaceQuery(Object.fromEntries(["sort", ...FILTERS].map((key) => [key, undefined])))}>Show all runs</button>
  <//>`;
}

function Skeleton() {
  return html`<div class="skeleton" role="status"><span class="sr">Loading runs …</span>
    ${Array.from({ length: 10 }, () => html`<div aria-hidden="true"></div>`)}</div>`;
}

/** Whether a media query holds, live. @param {string} text */
function useMedia(text) {
  const query = useMemo(() => matchMedia(text), [text]);
  const [value, setValue] = useState(query.matches);
  useEffect(() => {
    const changed = () => setValue(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, [query]);
  return value;
}
