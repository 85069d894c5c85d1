/** What a run found that is no training: the result of an evaluation or comparison, the episodes of a rollout. */
import { get, listed } from "../api.js";
import { number } from "../format.js";
import { usePaced, useResource } from "../hooks.js";
import { html } from "../html.js";
import { useRunEvents } from "../live.js";
import { link } from "../router.js";
import { Empty, Facts, Loaded } from "../ui.js";
import { Tree } from "./run_config.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {import("../openapi.d.ts").Episode} Episode */

const MOST_EPISODES = 1000;

/** @param {{ run: Run }} props */
export function Result({ run }) {
  const found = Object.entries(run.result ?? {});
  const facts = found.filter(([, value]) => said(value) !== null);
  const rest = found.filter(([, value]) => said(value) === null);
  return html`<div class="stack">
    ${!run.result && html`<${Empty} title="No result yet"><p>${run.finished_at ? "This run ended without one." : "It stands here when the run has ended."}</p><//>`}
    <${Facts} facts=${facts.map(([name, value]) => [name, said(value)])} />
    ${run.kind === "rollout" && html`<${Episodes} run=${run} />`}
    ${rest.length > 0 && html`<div class="tree"><${Tree} value=${Object.fromEntries(rest)} path="" /></div>`}
  </div>`;
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

/** A value, or the few numbers of an interval, in one line; null of what has more in it. @param {unknown} value */
function said(value) {
  if (Array.isArray(value) && value.length <= 2) return value.map(number).join(" to ");
  if (value !== null && typeof value === "object") return null;
  return typeof value === "number" ? number(value) : String(value);
}
