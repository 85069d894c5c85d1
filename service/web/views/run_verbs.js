/** What may be done with a run: each verb where its state allows it, a refusal beside its button, its effect seen live. */
import { useState } from "preact/hooks";
import { call, get, post } from "../api.js";
import { useResource } from "../hooks.js";
import { html } from "../html.js";
import { link } from "../router.js";
import { ActionButton, Field, FormDialog } from "../ui.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {"continue" | "fork"} Asking */

/** Whether checkpoints of a run act, and are gone on from. @param {Run} run */
export function hasPolicy(run) {
  return run.kind === "train" || run.kind === "import";
}

/** What the same run would fail of again: no retry helps, a change does. */
const FOREVER = new Set(["diverged", "invalid_specification", "space_mismatch", "not_servable"]);

/** Whether a run failed of what a retry does not help with. @param {Run} run */
export function isFailedForGood(run) {
  return run.state === "failed" && FOREVER.has(String(run.error?.["code"]));
}

/** Which verbs help a run now. @param {Run} run  @param {boolean} hasCheckpoint */
export function allowed(run, hasCheckpoint) {
  const isOver = run.finished_at !== null;
  return {
    pause: "pause" in run.links && run.state !== "stopping",
    resume: "resume" in run.links,
    cancel: "cancel" in run.links,
    continue: isOver && hasCheckpoint,
    retry: (run.state === "failed" || run.state === "cancelled") && run.kind !== "import" && !isFailedForGood(run),
    fork: hasPolicy(run),
    delete: isOver,
  };
}

/** Whether an ended run left a checkpoint; nothing goes on from one that left none. @param {Run} run */
function useHasCheckpoint(run) {
  const isAsked = run.finished_at !== null && hasPolicy(run);
  const load = async (/** @type {AbortSignal} */ signal) =>
    isAsked && (await get("/v1/runs/{run_id}/checkpoints", { run_id: run.id, limit: 1 }, { signal })).data.length > 0;
  return useResource(load, [run.id, isAsked]).data ?? false;
}

/** @param {{ run: Run, changed: (run: Run) => void }} props `changed` is told what a verb answered */
export function Verbs({ run, changed }) {
  const [asking, setAsking] = useState(/** @type {Asking | null} */ (null));
  const may = allowed(run, useHasCheckpoint(run));
  const at = { run_id: run.id };
  const remove = async () => {
    await call("delete", "/v1/runs/{run_id}", at);
    return link(["runs"]);
  };
  return html`<div class="row verbs" role="group" aria-label="What to do with this run">
    ${may.pause && html`<${ActionButton} key="pause" action=${async () => changed(await post("/v1/runs/{run_id}/pause", at))}>Pause<//>`}
    ${may.resume && html`<${ActionButton} key="resume" kind="primary" action=${async () => changed(await post("/v1/runs/{run_id}/resume", at))}>Resume<//>`}
    ${may.cancel && html`<${ActionButton} key="cancel" kind="danger" confirm="Really cancel" action=${async () => changed(await post("/v1/runs/{run_id}/cancel", at))}>Cancel<//>`}
    ${may.continue && html`<button key="continue" onClick=${() => setAsking("continue")}>Continue …</button>`}
    ${may.retry && html`<${ActionButton} key="retry" action=${async () => addressOf(await post("/v1/runs/{run_id}/retry", at))}>Retry<//>`}
    ${may.fork && html`<button key="fork" class=${isFailedForGood(run) ? "primary" : ""} onClick=${() => setAsking("fork")}>Fork …</button>`}
    ${may.delete && html`<${ActionButton} key="delete" kind="danger" confirm="Delete it with all it left" action=${remove}>Delete<//>`}
    ${asking === "continue" && html`<${ContinueDialog} run=${run} close=${() => setAsking(null)} />`}
    ${asking === "fork" && html`<${ForkDialog} run=${run} close=${() => setAsking(null)} />`}
  </div>`;
}

/** @param {{ id: string }} run */
function addressOf(run) {
  return link(["runs", run.id]);
}

/** Numbers that end a training; in their order, with what they are. @type {[name: string, label: string, hint: string][]} */
const LIMITS = [
  ["n_epochs", "Further epochs", "Left empty: what is left of the configured number, or that number again."],
  ["max_env_steps", "At most environment steps", "Of the whole training."],
  ["max_wall_s", "At most seconds", ""],
  ["patience", "Patience", "Ends after so many epochs without a better evaluation."],
  ["target_return", "Target return", "Ends when an evaluation reaches it."],
];

/** @param {{ run: Run, close: () => void }} props */
function ContinueDialog({ run, close }) {
  const send = async (/** @type {FormData} */ form) => {
    const body = { checkpoint: text(form, "checkpoint"), ...numbers(form, LIMITS.map(([name]) => name)) };
    return addressOf(await post("/v1/runs/{run_id}/continue", { run_id: run.id }, /** @type {any} */ (body)));
  };
  return html`<${FormDialog} title="Continue this training" label="Continue" close=${close} submit=${send}>
    <p>A new run trains on; this one stays as it is.</p>
      <${Field} label="From checkpoint">${(/** @type {any} */ attributes) => html`<select ...${attributes} name="checkpoint">
        <option value="last">last</option><option value="best">best</option></select>`}<//>
      ${LIMITS.map(([name, label, hint]) => html`<${Field} key=${name} label=${label} hint=${hint}>${(/** @type {any} */ attributes) =>
        html`<input ...${attributes} name=${name} type="number" step="any" />`}<//>`)}
  <//>`;
}

/** @param {{ run: Run, close: () => void }} props */
function ForkDialog({ run, close }) {
  const send = async (/** @type {FormData} */ form) => {
    const { name, checkpoint } = { name: text(form, "name"), checkpoint: text(form, "checkpoint") };
    const body = {
      ...(name && { name }), ...(checkpoint && { checkpoint }), ...numbers(form, ["n_epochs", "seed"]),
      overrides: overridesOf(text(form, "overrides")),
    };
    return addressOf(await post("/v1/runs/{run_id}/fork", { run_id: run.id }, /** @type {any} */ (body)));
  };
  return html`<${FormDialog} title="Fork this run" label="Fork" close=${close} submit=${send}>
    <p>A new training with this configuration and what you change.
      <a href=${link(["new"], { from: run.id, fork: 1 })}>Change it in the form</a></p>
      <${Field} label="Name">${(/** @type {any} */ attributes) => html`<input ...${attributes} name="name" maxlength="200" placeholder=${run.name ?? ""} />`}<//>
      <${Field} label="Begin with">${(/** @type {any} */ attributes) => html`<select ...${attributes} name="checkpoint">
        <option value="">fresh weights</option><option value="best">the best policy</option><option value="last">the last policy</option></select>`}<//>
      <${Field} label="Epochs">${(/** @type {any} */ attributes) => html`<input ...${attributes} name="n_epochs" type="number" min="1" />`}<//>
      <${Field} label="Seed">${(/** @type {any} */ attributes) => html`<input ...${attributes} name="seed" type="number" min="0" placeholder=${run.seed ?? ""} />`}<//>
      <${Field} label="Changes" hint="One each line: algorithm.lr = 0.0003">${(/** @type {any} */ attributes) =>
        html`<textarea ...${attributes} name="overrides" spellcheck="false"></textarea>`}<//>
  <//>`;
}

/** @param {{ run: Run, checkpoint: string, close: () => void }} props */
export function EvaluateDialog({ run, checkpoint, close }) {
  const send = async (/** @type {FormData} */ form) => {
    const body = { run: run.id, checkpoint, ...numbers(form, ["n_episodes", "seed"]) };
    return addressOf(await post("/v1/evaluate", {}, /** @type {any} */ (body)));
  };
  return html`<${FormDialog} title="Evaluate this checkpoint" label="Evaluate" close=${close} submit=${send}>
      <${Field} label="Episodes">${(/** @type {any} */ attributes) => html`<input ...${attributes} name="n_episodes" type="number" min="1" value="20" />`}<//>
      <${Field} label="Seed" hint="Left empty: drawn.">${(/** @type {any} */ attributes) => html`<input ...${attributes} name="seed" type="number" min="0" />`}<//>
  <//>`;
}

/** Make a checkpoint a version of a policy, of a new one too. @param {{ run: Run, checkpoint: string, close: () => void }} props */
export function PolicyDialog({ run, checkpoint, close }) {
  const { data: known } = useResource((signal) => get("/v1/policies", { limit: 200 }, { signal }), []);
  const send = async (/** @type {FormData} */ form) => {
    const [name, note] = [text(form, "name"), text(form, "note")];
    const { data: alike } = await get("/v1/policies", { name, limit: 200 });
    if (!alike.some((policy) => policy.name === name)) await post("/v1/policies", {}, { name });
    await post("/v1/policies/{name}/versions", { name }, { run: run.id, checkpoint, ...(note && { note }) });
    return link(["policies", name]);
  };
  return html`<${FormDialog} title="Add to a policy" label="Add" close=${close} submit=${send}>
      <${Field} label="Policy" hint="One that is there, or a new name: letters, digits, dots, dashes and underscores.">${(/** @type {any} */ attributes) =>
        html`<input ...${attributes} name="name" list="policies-known" required pattern="[A-Za-z0-9._\\-]+" autocomplete="off" />`}<//>
      <datalist id="policies-known">${known?.data.map(({ name }) => html`<option key=${name} value=${name} />`)}</datalist>
      <${Field} label="Note">${(/** @type {any} */ attributes) => html`<input ...${attributes} name="note" />`}<//>
  <//>`;
}

/** @param {FormData} form  @param {string} name */
export function text(form, name) {
  return String(form.get(name) ?? "").trim();
}

/** Those of the numbers that are given. @param {FormData} form  @param {string[]} names */
function numbers(form, names) {
  const given = names.map((name) => [name, text(form, name)]).filter(([, value]) => value !== "");
  return Object.fromEntries(given.map(([name, value]) => [name, Number(value)]));
}

/** Changes as they are typed, `key = value` each line; a value is JSON where it can be, else a text.
 * @param {string} lines */
export function overridesOf(lines) {
  const pairs = lines.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const [key = "", value = ""] = line.split(/\s*[=:]\s*(.*)/s);
    return [key, parsed(value)];
  });
  return Object.fromEntries(pairs);
}

/** @param {string} value */
function parsed(value) {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
