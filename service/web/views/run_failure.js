/** Why a run failed, and what to do about it. */
import { size } from "../format.js";
import { html } from "../html.js";
import { link } from "../router.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {{ code: string, message: string, problems?: { path?: string, message: string, did_you_mean?: string }[],
 *   exit_code?: number | null, signal?: number | null, max_rss_bytes?: number | null }} RunError */

/** What helps with an error, by its code. @type {Record<string, string>} */
const HINTS = {
  attempts_exhausted: "Its process ended again and again. The log has what each attempt said last; with too little memory, fork it with smaller batches or fewer environments.",
  invalid_specification: "Its configuration does not fit: fork it and change what is named.",
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
    <p>${HINTS[error.code] ?? OTHERWISE} <a href=${link(["runs", run.id], { tab: "log" })}>See the end of the log</a></p>
    <p class="hint"><code>${error.code}</code>${error.signal && ` · signal ${error.signal}`}${error.exit_code && ` · exit code ${error.exit_code}`}${
      error.max_rss_bytes && ` · peak memory ${size(error.max_rss_bytes)}`}</p>
  </div>`;
}
