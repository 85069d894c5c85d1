/** Checkpoints of a run, live: which is best and which last, how exactly a run goes on from each, and their uses. */
import { useState } from "preact/hooks";
import { address, bytes, get, listed, save } from "../api.js";
import { moment, number, own, size } from "../format.js";
import { usePaced, useResource } from "../hooks.js";
import { html } from "../html.js";
import { useRunEvents } from "../live.js";
import { link } from "../router.js";
import { ActionButton, CopyButton, Empty, Loaded } from "../ui.js";
import { EvaluateDialog, PolicyDialog } from "./run_verbs.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {import("../openapi.d.ts").Checkpoint} Checkpoint */

/** What a kind of checkpoint is good for. @type {Record<string, string>} */
const FIDELITY = {
  scheduled: "exact: a run that resumes here ends with the same bits",
  continued: "made at a pause or cancel: the policy as it was, a run goes on from the scheduled one before",
  best: "the best policy: it acts",
  last: "the last policy: it acts",
  imported: "brought in from outside",
  filmed: "what acts in a film: no training goes on from it",
  begin: "the copy that this run goes on from",
};

/**
 * Without those that keep but what acts in a film, where a fuller one of their epoch is there: it is the same policy.
 * @param {Checkpoint[]} checkpoints
 */
export function fullest(checkpoints) {
  const full = new Set(checkpoints.filter(({ kind }) => kind !== "filmed").map(({ epoch }) => epoch));
  return checkpoints.filter(({ kind, epoch }) => kind !== "filmed" || !full.has(epoch));
}

/** All checkpoints. @param {Run} run  @param {AbortSignal} [signal] */
export function loadCheckpoints(run, signal) {
  return listed((cursor) => get("/v1/runs/{run_id}/checkpoints", { run_id: run.id, limit: 200, cursor }, signal ? { signal } : {}));
}

/** @param {{ run: Run }} props */
export function Checkpoints({ run }) {
  const resource = useResource((signal) => loadCheckpoints(run, signal), [run.id]);
  const refresh = usePaced(resource.refresh, 1000);
  useRunEvents(run.id, (events, isNew) => {
    if (isNew || events.some(({ type }) => type === "checkpoint" || type === "end")) refresh();
  });
  const [asking, setAsking] = useState(/** @type {{ what: "evaluate" | "policy", checkpoint: string } | null} */ (null));
  const metric = run.best?.metric ?? "eval/mean_return";
  const close = () => setAsking(null);
  return html`<${Loaded} resource=${resource} what="the checkpoints">${(/** @type {Checkpoint[]} */ checkpoints) =>
    checkpoints.length
      ? html`<div class="scroll" tabindex="0" role="region" aria-label="Checkpoints"><table class="stacking">
          <thead><tr><th scope="col">epoch</th><th scope="col" class="number">${metric}</th><th scope="col">kind</th><th scope="col" class="number">size</th>
            <th scope="col">content</th><th scope="col">made</th><th scope="col">uses</th></tr></thead>
          <tbody>${fullest(checkpoints).map((one) => html`<${Row} key=${one.id} run=${run} one=${one} metric=${metric} ask=${setAsking} />`)}</tbody>
        </table></div>`
      : html`<${Empty} title=${run.finished_at ? "No checkpoints" : "No checkpoints yet"}><p>${run.finished_at && "This run ended before it made one. "}One is made every <code>algorithm.checkpoint_every</code> epochs, and at the end.</p><//>`}<//>
    ${asking?.what === "evaluate" && html`<${EvaluateDialog} run=${run} checkpoint=${asking.checkpoint} close=${close} />`}
    ${asking?.what === "policy" && html`<${PolicyDialog} run=${run} checkpoint=${asking.checkpoint} close=${close} />`}`;
}

/**
 * @param {{ run: Run, one: Checkpoint, metric: string,
 *   ask: (what: { what: "evaluate" | "policy", checkpoint: string }) => void }} props
 */
function Row({ run, one, metric, ask }) {
  const download = async () => save(await bytes(address("/v1/checkpoints/{checkpoint_id}", { checkpoint_id: one.id })), `${run.id}-epoch-${one.epoch}.ckpt`);
  return html`<tr>
    <td data-label="epoch"><span>${number(one.epoch)} ${one.is_best && html`<strong class="label">best</strong>`}${one.is_last && html`<strong class="label">last</strong>`}</span></td>
    <td class="number" data-label=${metric}>${number(own(one.metrics, metric))}</td>
    <td data-label="kind" title=${FIDELITY[one.kind]}>${one.kind}</td>
    <td class="number" data-label="size">${size(one.size_bytes)}</td>
    <td data-label="content"><span><code title=${one.content_sha256}>${one.content_sha256.slice(0, 10)}</code><${CopyButton} text=${one.content_sha256}>Copy<span class="sr"> the digest</span><//></span></td>
    <td data-label="made">${moment(one.created_at)}</td>
    <td><span class="row">
      <${ActionButton} action=${download}>Download<//>
      ${one.servable
        ? html`<a class="button" href=${link(["play"], { run: run.id, checkpoint: one.id })}>Act with it</a>`
        : html`<small>does not act: ${one.not_servable_reason}</small>`}
      <button onClick=${() => ask({ what: "evaluate", checkpoint: one.id })}>Evaluate</button>
      <button onClick=${() => ask({ what: "policy", checkpoint: one.id })}>Add to policy</button>
    </span></td>
  </tr>`;
}
