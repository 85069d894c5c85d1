/** One run: what it is and how far, what may be done with it, and all that it left, live. */
import { useEffect } from "preact/hooks";
import { get } from "../api.js";
import { ago, between, duration, moment, number } from "../format.js";
import { useInterval, usePaced, useResource } from "../hooks.js";
import { html } from "../html.js";
import { useRunEvents } from "../live.js";
import { link, titled } from "../router.js";
import { patched } from "../run_list.js";
import { CopyButton, Empty, Facts, Loaded, Panel, Progress, State, Tabs } from "../ui.js";
import { About } from "./run_about.js";
import { Checkpoints } from "./run_checkpoints.js";
import { Config } from "./run_config.js";
import { Curves } from "./run_curves.js";
import { Failure } from "./run_failure.js";
import { Transitions } from "./run_history.js";
import { Log } from "./run_log.js";
import { Result } from "./run_result.js";
import { hasPolicy, Verbs } from "./run_verbs.js";
import { Watch } from "./run_watch.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {{ title: string, view: import("preact").FunctionComponent<{ run: Run }>, isOf?: (run: Run) => boolean }} Tab */

const POLL_MS = 10_000;
/** Events after which more has changed than they say. */
const TURNS = new Set(["state", "checkpoint", "end"]);

/** @type {Record<string, Tab>} */
const TABS = {
  curves: { title: "Curves", view: Curves, isOf: hasPolicy },
  result: { title: "Result", view: Result, isOf: (run) => !hasPolicy(run) },
  watch: { title: "Watch", view: Watch, isOf: (run) => hasPolicy(run) || run.kind === "rollout" },
  checkpoints: { title: "Checkpoints", view: Checkpoints, isOf: hasPolicy },
  config: { title: "Configuration", view: Config },
  transitions: { title: "History", view: Transitions },
  log: { title: "Log", view: Log },
};

/** @param {{ route: import("../router.js").Route }} props */
export function View({ route }) {
  const id = route.parts[1] ?? "";
  return html`<${RunPage} key=${id} id=${id} chosen=${route.query.get("tab") ?? ""} />`;
}

/** @param {{ id: string, chosen: string }} props */
function RunPage({ id, chosen }) {
  const load = (/** @type {AbortSignal} */ signal) => get("/v1/runs/{run_id}", { run_id: id }, { signal });
  const resource = useResource(load, [id]);
  const refresh = usePaced(resource.refresh, 500);
  useRunEvents(id, (events, isNew) => {
    resource.set((run) => events.reduce(patched, run));
    if (isNew || events.some(({ type }) => TURNS.has(type))) refresh();
  });
  useInterval(refresh, POLL_MS);
  const { name, state } = resource.data ?? {};
  useEffect(() => {
    if (state) titled(name ?? id, resource.problem?.status === 404 ? "deleted" : state);
  }, [name, state, resource.problem]);
  const changed = (/** @type {Run} */ run) => resource.set(() => run);
  if (resource.data && resource.problem?.status === 404) return html`<${Gone} run=${resource.data} />`;
  return html`${!resource.data && html`<h1>Run</h1>`}<${Loaded} resource=${resource} what="the run">${(/** @type {Run} */ run) => html`
    <${Header} run=${run} changed=${changed} />
    <${Rooms} run=${run} chosen=${chosen} />`}<//>`;
}

/** Somebody deleted it while it was looked at: no event tells of that. @param {{ run: Run }} props */
function Gone({ run }) {
  return html`<h1>${run.name ?? run.id}</h1><${Empty} title="This run was deleted">
    <p role="status">What it left is deleted too.</p><a class="button" href=${link(["runs"])}>All runs</a><//>`;
}

/** @param {{ run: Run, chosen: string }} props */
function Rooms({ run, chosen }) {
  const tabs = Object.entries(TABS).filter(([, tab]) => tab.isOf?.(run) ?? true);
  const [id, tab] = tabs.find(([name]) => name === chosen) ?? /** @type {[string, Tab]} */ (tabs[0]);
  return html`<${Tabs} label="Parts of the run" chosen=${id} tabs=${tabs.map(([name, { title }]) => [name, title])} />
    <${Panel} key=${id} id=${id}><${tab.view} run=${run} /><//>`;
}

/** @param {{ run: Run, changed: (run: Run) => void }} props */
function Header({ run, changed }) {
  return html`<header class="run-header">
    <div class="row spread">
      <span class="row"><h1>${run.name ?? run.id}</h1><${State} state=${run.state} title=${run.reason} /><span>${run.kind}</span>
        <span><code>${run.id}</code><${CopyButton} text=${run.id} /></span></span>
      <${Verbs} run=${run} changed=${changed} />
    </div>
    ${!run.finished_at && html`<${HowFar} run=${run} />`}
    <${Failure} run=${run} />
    <${About} run=${run} changed=${changed} />
    <${Facts} facts=${factsOf(run)} />
  </header>`;
}

/** @param {{ run: Run }} props */
function HowFar({ run }) {
  const { epoch, n_epochs: last, fraction, eta_s: left } = run.progress;
  const waiting = run.queue && { worker: "no worker is alive", turn: `${run.queue.ahead} ahead in the queue`, slot: "next, when a slot is free", filming: "no worker here can film: install its extra video" }[run.queue.waits_for];
  const said = [
    waiting,
    run.phase,
    epoch !== null && `epoch ${number(epoch)}${last === null ? "" : ` of ${number(last)}`}`,
    fraction !== null && `${Math.floor(100 * Number(fraction))} %`,
    run.state === "running" && left !== null && `${duration(Number(left))} left`,
  ].filter(Boolean);
  return html`<${Progress} value=${fraction === null ? 0 : Number(fraction)} label="How far the run is" /><p class="hint">${said.join(" · ")}</p>`;
}

/** @param {Run} run @returns {[string, import("../html.js").Children][]} */
function factsOf(run) {
  const other = (/** @type {string | null} */ id) => id && html`<a class="mono" href=${link(["runs", id])}>${id}</a>`;
  return [
    ["submitted", html`<time title=${moment(run.created_at)}>${ago(run.created_at)}</time>`],
    ["took", run.started_at && duration(between(run.started_at, run.finished_at))],
    ["why", run.reason],
    ["best", run.best && `${number(run.best.value)} (${run.best.metric})`],
    ["seed", run.seed === null ? null : String(run.seed)],
    ["attempt", run.attempt > 1 ? run.attempt : null],
    ["priority", run.priority || null],
    ["takes", run.resources && Object.entries(run.resources).map(([name, value]) => `${number(value)} ${name.replace("_mib", ", MiB")}`).join(", ")],
    ["policy of", other(run.source_run)],
    ["follows from", other(run.parent_run)],
    ["goes on from", run.continues && `epoch ${number(run.continues.first_epoch)}, until ${number(run.continues.until_epoch)}`],
    ["sweep", run.sweep && html`<a class="mono" href=${link(["sweeps", run.sweep])}>${run.sweep}</a>`],
  ];
}
