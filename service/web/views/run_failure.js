/** Why a run failed, and what to do about it. */
import { own, size } from "../format.js";
import { html } from "../html.js";
import { link } from "../router.js";
import { hasPolicy, isFailedForGood } from "./run_verbs.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {{ code: string, message: string, problems?: { path?: string, message: string, did_you_mean?: string }[],
 *   exit_code?: number | null, signal?: number | null, max_rss_bytes?: number | null }} RunError */

/** What helps with an error, by its code. @type {Record<string, string>} */
const HINTS = {
  attempts_exhausted: "Its process ended again and again. The log has what each attempt said last; with too little memory, fork it with smaller batches or fewer environments.",
  diverged: "Its numbers grew beyond all bounds, and would again: fork it with a smaller algorithm.lr.",
  invalid_specification: "Its configuration does not fit: fork it and change what is named.",
  out_of_memory: "It needed more memory than there is: fork it with smaller batches or fewer environments, or try it again when there is more.",
  space_mismatch: "The policy and the environment do not fit each other: take another of the two.",
  not_servable: "What was to act does not act by itself: take another checkpoint.",
  not_stored: "What it made could not be stored: see that the disk has room, and try it again.",
  protocol_error: "Its process and the worker did not understand each other: see that both are of one version.",
};
const OTHERWISE = "The end of the log has its traceback. Try it again if the cause is gone, or fork it with a change.";

/** @param {{ run: Run }} props */
export function Failure({ run }) {
  if (run.state !== "failed" || !run.error) return null;
  const error = /** @type {RunError} */ (/** @type {unknown} */ (run.error));
  return html`<div class="error" role="alert">
    <strong>This run failed</strong>
    <p>${error.message}</p>
    ${error.problems && html`<ul>${error.problems.map(({ path, message, did_you_mean: meant }) => html`<li>${path && html`<code>${path}</code> `}${message}
      ${meant && html` Did you mean <code>${meant}</code>?`}</li>`)}</ul>`}
    <p>${own(HINTS, error.code) ?? OTHERWISE}
      ${isFailedForGood(run) && hasPolicy(run) && html` <a href=${link(["new"], { from: run.id, fork: 1 })}>Fork it with a change</a> ·`} <a href=${link(["runs", run.id], { tab: "log" })}>See the end of the log</a></p>
    <p class="hint"><code>${error.code}</code>${error.signal && ` · signal ${error.signal}`}${error.exit_code && ` · exit code ${error.exit_code}`}${
      error.max_rss_bytes && ` · peak memory ${size(error.max_rss_bytes)}`}</p>
  </div>`;
}
