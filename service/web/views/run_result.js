/** What a run found that is no training: the result of an evaluation or comparison, the episodes of a rollout. */
import { get, listed } from "../api.js";
import { number } from "../format.js";
import { usePaced, useResource } from "../hooks.js";
import { html } from "../html.js";
import { useRunEvents } from "../live.js";
import { link } from "../router.js";
import { Empty, Facts, Loaded } from "../ui.js";
import { Found, played } from "./compare_policies.js";
import { Tree } from "./run_config.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {import("../openapi.d.ts").Episode} Episode */

const MOST_EPISODES = 1000;
/** As many values of a list are shown at once. */
const SHORT = 8;

/** @param {{ run: Run }} props */
export function Result({ run }) {
  const found = Object.entries(run.result ?? {}).filter(([name]) => run.kind !== "compare" || !["policies", "pairs"].includes(name));
  return html`<div class="stack">
    ${!run.result && html`<${Empty} title=${run.finished_at ? "No result" : "No result yet"}><p>${run.finished_at ? "This run ended without one." : "It stands here when the run has ended."}</p><//>`}
    ${run.result && run.kind === "compare" && html`<${Compared} run=${run} />`}
    <${Facts} facts=${found.filter(([, value]) => isPlain(value)).map(([name, value]) => [name, html`<${Value} name=${name} value=${value} />`])} />
    ${run.kind === "rollout" && html`<${Episodes} run=${run} />`}
    ${found.filter(([, value]) => !isPlain(value)).map(([name, value]) =>
      html`<section key=${name} aria-label=${name}><h2>${name}</h2><${Value} name=${name} value=${value} /></section>`)}
  </div>`;
}

/** Who played in a comparison, and who was better. @param {{ run: Run }} props */
function Compared({ run }) {
  const resource = useResource((signal) => played(run.id, [], signal), [run.id]);
  return html`<${Loaded} resource=${resource} what="the comparison">${(/** @type {import("./compare_policies.js").Played} */ one) => html`
    <${Found} ...${one} />
    <details><summary>All of each policy, episode by episode</summary>
      <${Rows} name="Policies" rows=${/** @type {any} */ (one.run.result)?.policies ?? []}
        heads=${one.ids.map((id, place) => html`<a href=${link(["runs", id ?? ""])}>${one.names[place]}</a>`)} /></details>`}<//>`;
}

/** @param {{ run: Run }} props */
function Episodes({ run }) {
  const load = (/** @type {AbortSignal} */ signal) =>
    listed((cursor) => get("/v1/runs/{run_id}/episodes", { run_id: run.id, limit: 200, cursor }, { signal }), MOST_EPISODES);
  const resource = useResource(load, [run.id, run.finished_at]);
  const refresh = usePaced(async () => resource.reload(), 2000);
  useRunEvents(run.id, (events) => events.some(({ type }) => type === "episode") && refresh());
  return html`<${Loaded} resource=${resource} what="the episodes">${(/** @type {Episode[]} */ episodes) => html`
    <div class="scroll" tabindex="0" role="region" aria-label="Episodes"><table>
      <thead><tr><th scope="col">episode</th><th scope="col" class="number">return</th><th scope="col" class="number">steps</th>
        <th scope="col">end</th><th scope="col" class="number">seed</th><th scope="col">recorded</th></tr></thead>
      <tbody>${episodes.map((one) => html`<tr key=${one.index}><td>${one.index}</td><td class="number">${number(one.episode_return)}</td>
        <td class="number">${number(one.length)}</td><td>${one.terminated ? "terminated" : one.truncated ? "time limit" : "cut"}</td>
        <td class="number">${one.seed ?? "–"}</td><td>${one.has_trajectory || one.has_video ? html`<a href=${link(["runs", run.id], { tab: "watch", episode: one.index })}>watch</a>` : "–"}</td></tr>`)}</tbody>
    </table></div>`}<//>`;
}

/** What is found, as it is read best: an interval, a list, a table or a tree. @param {{ name: string, value: unknown }} props */
function Value({ name, value }) {
  if (!Array.isArray(value)) return isPlain(value) ? html`${said(name, value)}` : html`<div class="tree"><${Tree} value=${value} path="" /></div>`;
  if (/(^|_)ci\d+$/.test(name) && value.length === 2 && value.every(isNumber)) return html`${value.map(number).join(" to ")}`;
  if (!isPlain(value)) return html`<${Rows} name=${name} rows=${value} />`;
  const all = value.map((each) => said(name, each));
  if (all.length <= SHORT) return html`${all.join(", ") || "none"}`;
  return html`<details class="long"><summary>${all.length}: ${all.slice(0, 3).join(", ")} …</summary>${all.join(", ")}</details>`;
}

/** A list of things as a table. @param {{ name: string, rows: unknown[], heads?: import("../html.js").Children[] }} props */
function Rows({ name, rows, heads }) {
  const named = rows.map((row) => (row !== null && typeof row === "object" ? /** @type {Record<string, unknown>} */ (row) : { value: row }));
  const columns = [...new Set(named.flatMap(Object.keys))];
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${name}><table>
    <thead><tr><th scope="col">${heads ? "policy" : "place"}</th>${columns.map((column) => html`<th scope="col" key=${column}>${column}</th>`)}</tr></thead>
    <tbody>${named.map((row, place) => html`<tr key=${place}><th scope="row">${heads?.[place] ?? place}</th>
      ${columns.map((column) => html`<td key=${column}><${Value} name=${column} value=${row[column] ?? null} /></td>`)}</tr>`)}</tbody>
  </table></div>`;
}

/** Whether a value is a single one, or a list of such. @param {unknown} value */
function isPlain(value) {
  const isSingle = (/** @type {unknown} */ one) => one === null || typeof one !== "object";
  return Array.isArray(value) ? value.every(isSingle) : isSingle(value);
}

/** A single value in words; a seed in all its digits. @param {string} name  @param {unknown} value */
function said(name, value) {
  if (value === null || value === undefined) return "–";
  return isNumber(value) && !name.includes("seed") ? number(value) : String(value);
}

/** A number, or what JSON has in its place. @param {unknown} value */
function isNumber(value) {
  return typeof value === "number" || value === "NaN" || value === "Infinity" || value === "-Infinity";
}
