/** Whose policy is the better one: the same episodes with each, what each pair differs by, and how sure that is. */
import { useState } from "preact/hooks";
import { get, post } from "../api.js";
import { number } from "../format.js";
import { useAction, useResource } from "../hooks.js";
import { html } from "../html.js";
import { useChanges } from "../live.js";
import { link, replaceQuery } from "../router.js";
import { ActionButton, ErrorBox, Field, Loaded, Progress, State, useQuery } from "../ui.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {{ mean_return: number | null, ci95: [number, number] | null, returns: number[] }} Score */
/** @typedef {{ first: number, second: number, n_episodes: number, mean_difference: number | null, ci95: [number, number] | null,
 *   wins: number, ties: number, losses: number }} Pair */
/** @typedef {{ run: Run, names: string[], ids: (string | undefined)[] }} Played a comparison, and the runs whose policies play in it */

/** @param {{ runs: Run[] }} props */
export function Paired({ runs }) {
  const comparison = useQuery("comparison");
  return html`<section class="card" aria-label="Paired evaluation">
    <h2>Whose policy is better</h2>
    <p class="hint">The same episodes, from the same seeds, are played with each policy: what luck they have is in common, so that small differences show.</p>
    <${Start} runs=${runs} />
    ${comparison && html`<${Result} id=${comparison} runs=${runs} key=${comparison} />`}
  </section>`;
}

/** @param {{ runs: Run[] }} props */
function Start({ runs }) {
  const [episodes, setEpisodes] = useState("20");
  const [checkpoint, setCheckpoint] = useState("best");
  const { run: start, isBusy, problem } = useAction(async () => {
    const policies = runs.map(({ id }) => ({ run: id, checkpoint }));
    const made = await post("/v1/compare", {}, { policies, n_episodes: Number(episodes), name: "comparison" });
    replaceQuery({ comparison: made.id });
  });
  return html`<form class="row fields" onSubmit=${(/** @type {Event} */ event) => (event.preventDefault(), start())}>
    <${Field} label="Episodes of each">
      ${(/** @type {object} */ attributes) => html`<input type="number" min="2" max="10000" required ...${attributes} value=${episodes}
        onInput=${(/** @type {any} */ event) => setEpisodes(event.target.value)} />`}
    <//>
    <${Field} label="Checkpoint">
      ${(/** @type {object} */ attributes) => html`<select ...${attributes} value=${checkpoint} onChange=${(/** @type {any} */ event) => setCheckpoint(event.target.value)}>
        <option value="best">best</option><option value="last">last</option></select>`}
    <//>
    <button class="primary" disabled=${isBusy} aria-busy=${isBusy}>Play ${runs.length} policies</button>
    <${ErrorBox} problem=${problem} what="These cannot be compared" />
  </form>`;
}

/** @param {{ id: string, runs: Run[] }} props */
function Result({ id, runs }) {
  const resource = useResource((signal) => played(id, runs, signal), [id]);
  useChanges((event) => event.run === id && event.type !== "log", resource.reload, [id]);
  return html`<${Loaded} resource=${resource} what="the comparison">${(/** @type {Played} */ found) => html`<${Outcome} ...${found} />`}<//>`;
}

/** The comparison with the names of who plays, which its configuration knows by their runs.
 * @param {string} run_id  @param {Run[]} known  @param {AbortSignal} signal  @returns {Promise<Played>} */
export async function played(run_id, known, signal) {
  const [run, { config }] = await Promise.all([
    get("/v1/runs/{run_id}", { run_id }, { signal }),
    get("/v1/runs/{run_id}/config", { run_id }, { signal }),
  ]);
  const ids = /** @type {{ run?: string }[]} */ (config["compared"] ?? []).map(({ run: id }) => id);
  const names = await Promise.all(ids.map(async (id = "?") => {
    const found = known.find((one) => one.id === id) ?? (await get("/v1/runs/{run_id}", { run_id: id }, { signal }).catch(() => null));
    return found?.name ?? id;
  }));
  const isTwice = (/** @type {string} */ name) => names.filter((other) => other === name).length > 1;
  return { run, ids, names: names.map((name, index) => (isTwice(name) ? `${name} (…${ids[index]?.slice(-5)})` : name)) };
}

/** @param {Played} props */
function Outcome({ run, names, ids }) {
  if (run.state !== "succeeded") {
    const isOver = ["failed", "cancelled"].includes(run.state);
    const cancel = () => post("/v1/runs/{run_id}/cancel", { run_id: run.id });
    return html`<div role="status"><p class="row"><${State} state=${run.state} title=${run.reason} />
      <a href=${link(["runs", run.id])}>${run.id}</a>${!isOver && html`<${ActionButton} action=${cancel}>Cancel<//>`}</p>
      ${isOver ? html`<p>${String(run.error?.["message"] ?? run.reason ?? "It has no result.")}</p>`
        : html`<${Progress} value=${run.progress.fraction === null ? null : Number(run.progress.fraction)} label="Episodes played" />`}</div>`;
  }
  return html`<${Found} run=${run} names=${names} ids=${ids} /><p class="hint">It is run <a href=${link(["runs", run.id])}>${run.id}</a>.</p>`;
}

/** What a comparison found: who is better, each one's score, each pair's difference. @param {Played} props */
export function Found({ run, names, ids }) {
  const { policies = [], pairs = [] } = /** @type {{ policies?: Score[], pairs?: Pair[] }} */ (run.result ?? {});
  return html`<div role="status"><ul class="verdicts">${pairs.map((pair) => html`<li>${verdict(pair, names)}</li>`)}</ul></div>
    <div class="stack">
      <div class="scroll" tabindex="0" role="region" aria-label="Scores"><table><thead><tr><th>Policy</th><th class="number">Mean return</th><th class="number">95 % interval</th><th class="number">Episodes</th></tr></thead>
        <tbody>${policies.map((one, place) => html`<tr><td><a href=${link(["runs", ids[place] ?? ""])}>${names[place]}</a></td><td class="number">${number(one.mean_return)}</td>
          <td class="number">${interval(one.ci95)}</td><td class="number">${one.returns.length}</td></tr>`)}</tbody></table></div>
      <div class="scroll" tabindex="0" role="region" aria-label="Pairs"><table><thead><tr><th>Pair</th><th class="number">Difference</th><th class="number">95 % interval</th><th><span class="sr">Drawn</span></th>
        <th class="number">Won · tied · lost</th></tr></thead>
        <tbody>${pairs.map((pair) => html`<tr><td><bdi>${names[pair.second]}</bdi> − <bdi>${names[pair.first]}</bdi></td><td class="number">${number(pair.mean_difference)}</td>
          <td class="number">${interval(pair.ci95)}</td><td><${Interval} pair=${pair} pairs=${pairs} /></td>
          <td class="number">${pair.wins} · ${pair.ties} · ${pair.losses}</td></tr>`)}</tbody></table></div>
    </div>
    ${pairs.length > 1 && html`<p class="hint">Each interval holds by itself: of many pairs, one in twenty misses by chance.</p>`}`;
}

/** @param {[number, number] | null} ends */
function interval(ends) {
  return ends ? `${number(ends[0])} to ${number(ends[1])}` : "–";
}

/** What a pair of policies says, as a sentence. @param {Pair} pair  @param {string[]} names */
function verdict({ first, second, n_episodes, mean_difference, ci95 }, names) {
  const [one, other] = [first, second].map((place) => html`<bdi>${names[place]}</bdi>`);
  if (mean_difference === null || ci95 === null) return html`${one} and ${other}: too few episodes to say which is better.`;
  const found = `mean difference ${number(Math.abs(mean_difference))}, 95 % interval ${interval(ends(ci95, mean_difference))}, ${n_episodes} episodes`;
  if (ci95[0] > 0) return html`<strong>${other} is better than ${one}</strong>, at 95 %: ${found}.`;
  if (ci95[1] < 0) return html`<strong>${one} is better than ${other}</strong>, at 95 %: ${found}.`;
  if (mean_difference === 0 && ci95[0] === ci95[1]) return html`<strong>${one} and ${other} did equally well</strong> in each of ${n_episodes} episodes.`;
  return html`<strong>${one} and ${other} cannot be told apart</strong> by ${n_episodes} episodes: ${other} has ${number(Math.abs(mean_difference))}
    ${mean_difference < 0 ? " less" : " more"} on average, and the 95 % interval (${interval(ci95)}) has 0 in it. More episodes would tell more.`;
}

/** The ends as seen from the better one. @param {[number, number]} ci95  @param {number} mean  @returns {[number, number]} */
function ends([low, high], mean) {
  return mean < 0 ? [-high, -low] : [low, high];
}

/** A pair's interval beside zero, in the scale of all pairs. @param {{ pair: Pair, pairs: Pair[] }} props */
function Interval({ pair, pairs }) {
  const reach = Math.max(1e-12, ...pairs.flatMap(({ ci95 }) => (ci95 ?? []).map(Math.abs)));
  const at = (/** @type {number} */ value) => 60 + (value / reach) * 55;
  if (!pair.ci95 || pair.mean_difference === null || !Number.isFinite(reach)) return null;
  return html`<svg class="interval" width="120" height="16" aria-hidden="true">
    <line class="zero" x1="60" x2="60" y1="0" y2="16" />
    <line x1=${at(pair.ci95[0])} x2=${at(pair.ci95[1])} y1="8" y2="8" /><circle cx=${at(pair.mean_difference)} cy="8" r="3.5" /></svg>`;
}
