/** What became of a run: its states with who and why, how long each took, its attempts and what it used. */
import { get, listed } from "../api.js";
import { between, count, duration, moment, number, size } from "../format.js";
import { useResource } from "../hooks.js";
import { html } from "../html.js";
import { useRunEvents } from "../live.js";
import { Facts, Loaded, State } from "../ui.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {{ at: string, data: { state: string, from: string | null, reason: string | null, attempt: number, by: string | null } }} Move */

/** @param {{ run: Run }} props */
export function Transitions({ run }) {
  const resource = useResource(
    (signal) => listed((cursor) => get("/v1/runs/{run_id}/events", { run_id: run.id, types: ["state"], limit: 1000, cursor }, { signal })),
    [run.id],
  );
  useRunEvents(run.id, (events, isNew) => {
    if (isNew || events.some(({ type }) => type === "state")) resource.reload();
  });
  return html`<${Loaded} resource=${resource} what="the history">${(/** @type {any[]} */ moves) => html`
    <div class="scroll" tabindex="0" role="region" aria-label="Transitions"><table class="stacking">
      <thead><tr><th scope="col">when</th><th scope="col">state</th><th scope="col">why</th><th scope="col">who</th>
        <th scope="col" class="number">attempt</th><th scope="col" class="number">for</th></tr></thead>
      <tbody>${moves.map((move, place) => html`<${Row} key=${move.seq} move=${move} next=${moves[place + 1]} run=${run} />`)}</tbody>
    </table></div>
    <section class="card"><h2>Resources</h2><${Resources} run=${run} moves=${moves} /></section>`}<//>`;
}

/** @param {{ move: Move, next: Move | undefined, run: Run }} props */
function Row({ move: { at, data }, next, run }) {
  const isEnd = run.finished_at !== null && !next;
  return html`<tr><td data-label="when">${moment(at)}</td><td data-label="state"><${State} state=${data.state} /></td><td data-label="why">${data.reason ?? "–"}</td>
    <td class="mono" data-label="who">${data.by ?? "–"}</td><td class="number" data-label="attempt">${data.attempt || "–"}</td>
    <td class="number" data-label="for">${isEnd ? "–" : duration(between(at, next?.at))}</td></tr>`;
}

/** What its process reported, and how long workers held it. @param {{ run: Run, moves: Move[] }} props */
function Resources({ run, moves }) {
  const { usage = {}, duration_s: trained } = /** @type {any} */ (run.result ?? {});
  const memory = usage.max_rss_bytes ?? /** @type {any} */ (run.error)?.max_rss_bytes;
  const held = moves.reduce((sum, { at, data }, place) => sum + (data.state === "running" || data.state === "stopping" ? between(at, moves[place + 1]?.at) ?? 0 : 0), 0);
  const waited = moves.reduce((sum, { at, data }, place) => sum + (data.state === "queued" ? between(at, moves[place + 1]?.at) ?? 0 : 0), 0);
  return html`<${Facts} facts=${[
    ["attempts", run.attempt],
    ["workers", new Set(moves.filter(({ data }) => data.state === "running").map(({ data }) => data.by)).size],
    ["waited in the queue", duration(waited)],
    ["held by workers", duration(held)],
    ["peak memory", memory ? size(memory) : null],
    ["CPU time", usage.cpu_s !== undefined ? duration(usage.cpu_s) : null],
    ["CPU share", usage.cpu_s !== undefined && trained ? `${number(Math.round((100 * usage.cpu_s) / trained))} % of a core` : null],
    ["environment steps", run.progress.env_steps === null ? null : count(run.progress.env_steps)],
    ["steps per second", "time/env_steps_per_s" in run.latest_metrics ? number(run.latest_metrics["time/env_steps_per_s"]) : null],
  ]} />
  ${!("cpu_s" in usage) && html`<p class="hint">Memory and CPU time are reported by the run's process at its end.</p>`}`;
}
