/** System: workers and what they run, what waits and for what, how much is stored, whether all is well; live. */
import { useRef } from "preact/hooks";
import { get, isOnline, Problem } from "../api.js";
import { ago, duration, size } from "../format.js";
import { useInterval, useResource } from "../hooks.js";
import { html } from "../html.js";
import { useEvents } from "../live.js";
import { link } from "../router.js";
import { CopyButton, Empty, Facts, Loaded, Progress, State } from "../ui.js";

/** @typedef {import("../openapi.d.ts").Schemas} Schemas */
/** @typedef {{ status: string, detail?: string, code?: string, alive?: number }} Check */

const RELOAD_MS = 3000;
/** However much happens, it is looked at no more often than this. */
const NEWS_MS = 800;
const LITTLE_BYTES = 2 ** 30;
const WAITS_FOR = { worker: "a worker: none is alive", slot: "a free slot", turn: "its turn" };
const START = "maze worker --database-url …";

export function View() {
  const resource = useResource(load, []);
  const hasNews = useRef(false);
  const reload = () => isOnline() && !resource.isLoading && resource.reload();
  useInterval(reload, RELOAD_MS);
  useEvents((events) => {
    hasNews.current ||= events.some(({ type }) => type === "state" || type === "end");
  }, []);
  useInterval(() => {
    if (!hasNews.current || resource.isLoading) return;
    hasNews.current = false;
    reload();
  }, NEWS_MS);
  return html`<div class="stack">
    <h1>System</h1>
    <${Loaded} resource=${resource} what="the system">
      ${(/** @type {Awaited<ReturnType<typeof load>>} */ seen) => html`
        <${Glance} ...${seen} />
        <${Workers} workers=${seen.workers} />
        <${Queue} queue=${seen.status.queue} />
        <div class="grid">
          <${Database} database=${seen.status.database} />
          <${Health} checks=${seen.checks} />
        </div>
      `}
    <//>
  </div>`;
}

/** @param {AbortSignal} signal */
async function load(signal) {
  const [workers, status, checks] = await Promise.all([
    get("/v1/workers", {}, { signal }),
    get("/v1/status", {}, { signal }),
    health(signal),
  ]);
  return { workers: workers.data, status, checks };
}

/** The checks, also where one has failed. @param {AbortSignal} signal @returns {Promise<Record<string, Check>>} */
async function health(signal) {
  try {
    return /** @type {any} */ ((await get("/health/ready", {}, { signal })).checks);
  } catch (error) {
    const found = error instanceof Problem && /** @type {any} */ (error.document)["checks"];
    if (!found) throw error;
    return found;
  }
}

/** @param {Awaited<ReturnType<typeof load>>} props */
function Glance({ status, checks }) {
  const { slots, queue, database } = status;
  const queued = queue.reduce((sum, { queued }) => sum + queued, 0);
  const oldest = Math.max(...queue.map(({ oldest_s }) => oldest_s ?? 0));
  const worst = ["failed", "warning"].find((level) => Object.values(checks).some(({ status }) => status === level)) ?? "ok";
  return html`<section class="card" aria-label="At a glance">
    <${Facts} facts=${[
      ["Health", html`<${State} state=${worst} />`],
      ["Workers", `${status.n_workers} alive`],
      ["Slots", html`${slots.busy} of ${slots.total} busy<${Progress} value=${slots.total ? slots.busy / slots.total : 0} label="Busy slots" />`],
      ["Waiting", queued ? `${queued}, the oldest for ${duration(oldest)}` : "nothing"],
      ["Database", size(database.size_bytes)],
      ["Free disk", database.free_bytes === null ? "not known" : size(database.free_bytes)],
      ["Version", status.version],
    ]} />
  </section>`;
}

/** @param {{ workers: Schemas["WorkerOut"][] }} props */
function Workers({ workers }) {
  return html`<section aria-labelledby="workers">
    <h2 id="workers">Workers</h2>
    ${workers.length === 0 &&
    html`<${Empty} title="No worker is alive">
      <p>Runs wait until one is started. <code>maze serve</code> starts one beside the service; on another machine:</p>
      <p><code>${START}</code> <${CopyButton} text=${START} /></p>
    <//>`}
    <div class="grid">${workers.map((worker) => html`<${WorkerCard} key=${worker.id} worker=${worker} />`)}</div>
  </section>`;
}

/** @param {{ worker: Schemas["WorkerOut"] }} props */
function WorkerCard({ worker }) {
  const { runs, n_slots, n_training_slots, versions } = worker;
  const problem = ["published", "pending"].includes(worker.environments) ? null : worker.environments;
  return html`<article class="card stack" aria-label="Worker ${worker.id}">
    <header class="row"><h3>${worker.host ?? worker.id}</h3><${State} state=${problem ? "warning" : "ok"} /></header>
    <p class="hint mono">${worker.id}</p>
    <p><span class="slots" aria-hidden="true">${"■".repeat(runs.length)}${"□".repeat(Math.max(0, n_slots - runs.length))}</span>
      ${runs.length} of ${n_slots} ${n_slots === 1 ? "slot" : "slots"} busy${n_slots > n_training_slots && `, ${n_training_slots} for training`}</p>
    ${runs.length > 0 && html`<ul class="plain">${runs.map((run) => html`<${HeldRun} key=${run.id} run=${run} />`)}</ul>`}
    ${problem && html`<p class="warning">Its environments are not known: ${problem}</p>`}
    ${worker.environments === "pending" && html`<p class="hint">It has yet to say which environments it has.</p>`}
    <${Facts} facts=${[
      ["Last heard", worker.silent_s < 10 ? "now" : `${duration(worker.silent_s)} ago`],
      ["Extras", worker.extras.length ? worker.extras.map((extra) => html`<span class="label">${extra}</span>`) : "none"],
      ["Versions", Object.entries(versions).map(([name, version]) => html`<div>${name} ${version}</div>`)],
    ]} />
  </article>`;
}

/** @param {{ run: Schemas["HeldRunOut"] }} props */
function HeldRun({ run }) {
  return html`<li class="row">
    <${State} state=${run.state} />
    <a href=${link(["runs", run.id])}>${run.name ?? run.id}</a>
    <span class="hint">${run.kind}${run.phase && ` · ${run.phase}`} · since ${ago(run.started_at)}</span>
  </li>`;
}

/** @param {{ queue: Schemas["KindQueueOut"][] }} props */
function Queue({ queue }) {
  const busy = queue.filter(({ queued, running }) => queued || running);
  return html`<section aria-labelledby="queue">
    <h2 id="queue">Queue</h2>
    ${busy.length === 0 && html`<p class="hint">Nothing waits, and nothing runs.</p>`}
    ${busy.length > 0 && html`<table class="stacking">
      <thead><tr><th scope="col">Kind</th><th scope="col" class="number">Waiting</th><th scope="col">Oldest</th>
        <th scope="col">Waits for</th><th scope="col" class="number">Running</th><th scope="col" class="number">Free slots</th></tr></thead>
      <tbody>${busy.map((each) => html`<tr key=${each.kind}>
        <th scope="row">${each.kind}</th>
        <td class="number" data-label="Waiting">${each.queued || "–"}</td>
        <td data-label="Oldest">${each.oldest_s === null ? "–" : duration(each.oldest_s)}</td>
        <td data-label="Waits for">${each.waits_for ? WAITS_FOR[each.waits_for] : "–"}</td>
        <td class="number" data-label="Running">${each.running || "–"}</td>
        <td class="number" data-label="Free slots">${each.n_free}</td>
      </tr>`)}</tbody>
    </table>`}
  </section>`;
}

/** @param {{ database: Schemas["StorageOut"] }} props */
function Database({ database }) {
  const { free_bytes } = database;
  const names = /** @type {Record<string, string>} */ ({ sqlite: "SQLite", postgresql: "PostgreSQL" });
  return html`<section class="card stack" aria-labelledby="database">
    <h2 id="database">Database and disk</h2>
    <${Facts} facts=${[
      ["Kind", names[database.kind] ?? database.kind],
      ["Size", size(database.size_bytes)],
      ["Checkpoints and episodes", `${size(database.blob_bytes)} in ${database.n_blobs.toLocaleString("en")} pieces`],
      ["Free", free_bytes === null ? "the database's machine knows" : size(free_bytes)],
    ]} />
    ${free_bytes !== null && free_bytes < LITTLE_BYTES &&
    html`<p class="warning">There is little room: make some, or let <code>MAZE_KEEP_DAYS</code>, <code>MAZE_KEEP_RUNS</code> or
      <code>MAZE_KEEP_MIB</code> do so.</p>`}
  </section>`;
}

/** @param {{ checks: Record<string, Check> }} props */
function Health({ checks }) {
  return html`<section class="card" aria-labelledby="health">
    <h2 id="health">Health</h2>
    <ul class="plain">${Object.entries(checks).map(
      ([name, { status, detail, code }]) => html`<li class="row" key=${name}>
        <${State} state=${status} /><span>${name}</span>${(detail ?? code) && html`<span class="hint">${detail ?? code}</span>`}
      </li>`,
    )}</ul>
    <p class="hint"><a href="/health/ready">/health/ready</a> for probes, <a href="/metrics">/metrics</a> for Prometheus.</p>
  </section>`;
}
