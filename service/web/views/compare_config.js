/** What the configurations of runs differ in, with where each value comes from. */
import { useState } from "preact/hooks";
import { get, post } from "../api.js";
import { own, plain } from "../format.js";
import { useResource } from "../hooks.js";
import { html } from "../html.js";
import { Loaded } from "../ui.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {Record<string, import("../openapi.d.ts").Schemas["OriginOut"]>} Origins */
/** @typedef {{ key: string, values: unknown[], origins: (string | null)[] }} Row `values` of the runs in order; undefined where a run has none */

/** What the runs' configurations differ in, key by key. @param {Run[]} runs */
export function useDifferences(runs) {
  const ids = runs.map((run) => run.id);
  return useResource((signal) => rowsOf(ids, signal), [ids.join()]);
}

/** @param {{ runs: Run[], found: import("../hooks.js").Resource<Row[]> }} props */
export function Differences({ runs, found }) {
  const [withSeeds, setWithSeeds] = useState(false);
  return html`<section class="card" aria-label="Configuration">
    <header class="row"><h2>What their configurations differ in</h2>
      <label class="row"><input type="checkbox" checked=${withSeeds} onChange=${() => setWithSeeds(!withSeeds)} />Seeds too</label></header>
    <${Loaded} resource=${found} what="configurations">
      ${(/** @type {Row[]} */ rows) => html`<${Table} runs=${runs} rows=${withSeeds ? rows : rows.filter(({ key }) => !isSeed(key))} isEqual=${!rows.length} />`}
    <//>
  </section>`;
}

/** A run in few words, by what it has otherwise than others. @param {Row[]} rows  @param {number} place */
export function inBrief(rows, place) {
  const telling = rows.filter(({ key, values }) => !isSeed(key) && values[place] !== undefined).slice(0, 3);
  return telling.map(({ key, values }) => `${key.split(".").at(-1)} ${plain(values[place])}`).join(", ");
}

/** @param {string} key */
function isSeed(key) {
  return key === "seeding" || key.startsWith("seeding.");
}

/** @param {{ runs: Run[], rows: Row[], isEqual: boolean }} props */
function Table({ runs, rows, isEqual }) {
  if (!rows.length) return html`<p>${isEqual ? "In nothing: their configurations are the same." : "In their seeds alone."}</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Differences"><table class="differences">
    <thead><tr><th>Key</th>${runs.map((run) => html`<th key=${run.id}>${run.name ?? run.id}</th>`)}</tr></thead>
    <tbody>${rows.map(({ key, values, origins }) => html`<tr key=${key}><th scope="row"><code>${key}</code></th>
      ${values.map((value, index) => html`<td key=${index} class=${index > 0 && plain(value) === plain(values[0]) ? "same" : ""}>
        ${value === undefined ? html`<span class="hint">none</span>` : html`<code>${plain(value)}</code>`}
        ${origins[index] && html`<small class="origin">${origins[index]}</small>`}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}

/**
 * Every run's values of the keys that any run has otherwise than the first one.
 * @param {string[]} ids  @param {AbortSignal} signal
 * @returns {Promise<Row[]>}
 */
async function rowsOf([first, ...others], signal) {
  if (first === undefined) return [];
  const options = { signal };
  const [answers, origins] = await Promise.all([
    Promise.all(others.map((run) => post("/v1/config/diff", {}, { left: side(first), right: side(run) }, options))),
    Promise.all([first, ...others].map((run_id) => origin(run_id, signal))),
  ]);
  /** @type {Map<string, unknown[]>} */
  const rows = new Map();
  answers.forEach(({ data }, place) => {
    for (const { key, kind, left, right } of data) {
      const row = rows.get(key) ?? Array(others.length + 1).fill(kind === "added" ? undefined : left);
      row[place + 1] = kind === "removed" ? undefined : right;
      rows.set(key, row);
    }
  });
  return [...rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, values]) => ({
    key,
    values,
    origins: values.map((value, place) => (value === undefined ? null : described(own(origins[place] ?? {}, key)))),
  }));
}

/** A run as one of two configurations. @param {string} run */
function side(run) {
  return /** @type {import("../openapi.d.ts").Schemas["DiffSide"]} */ ({ run });
}

/** A run's origins; none where they cannot be told any more. @param {string} run_id  @param {AbortSignal} signal */
async function origin(run_id, signal) {
  try {
    return /** @type {Origins} */ ((await get("/v1/runs/{run_id}/config", { run_id, provenance: true }, { signal })).provenance ?? {});
  } catch (problem) {
    if (signal.aborted) throw problem;
    return {};
  }
}

/** @param {Origins[string] | undefined} found */
function described(found) {
  return found ? [found.source, found.name].filter(Boolean).join(" ") : null;
}
