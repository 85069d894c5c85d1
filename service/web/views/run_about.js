/** What people say of a run, name, labels, notes and priority: shown, and changed without losing another's change. */
import { useState } from "preact/hooks";
import { call, get, Problem } from "../api.js";
import { html } from "../html.js";
import { Field, FormDialog } from "../ui.js";
import { text } from "./run_verbs.js";

/** @typedef {import("../openapi.d.ts").Run} Run */

/** @param {{ run: Run, changed: (run: Run) => void }} props */
export function About({ run, changed }) {
  const [isEditing, setEditing] = useState(false);
  const labels = Object.entries(run.labels);
  return html`<div class="about">
    ${labels.length > 0 && html`<span>${labels.map(([key, value]) => html`<span class="label" key=${key}>${key}=${value}</span>`)}</span>`}
    ${run.notes && html`<p class="notes">${run.notes}</p>`}
    <button class="quiet" onClick=${() => setEditing(true)}>Edit name, labels, notes</button>
    ${isEditing && html`<${EditDialog} run=${run} changed=${changed} close=${() => setEditing(false)} />`}
  </div>`;
}

/**
 * It holds the revision of the run as it was when it was opened: a change of somebody else's is told, and not lost.
 * @param {{ run: Run, changed: (run: Run) => void, close: () => void }} props
 */
function EditDialog({ run, changed, close }) {
  const [base, setBase] = useState(run);
  const [theirs, setTheirs] = useState(/** @type {Run | null} */ (null));
  const send = async (/** @type {FormData} */ form) => {
    try {
      const known = theirs ?? base;
      const headers = { "if-match": `"${known.revision}"` };
      changed(await call("patch", "/v1/runs/{run_id}", { run_id: run.id }, changes(form, known), { headers }));
      return true;
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 412) throw error;
      const fresh = await get("/v1/runs/{run_id}", { run_id: run.id });
      changed(fresh);
      setTheirs(fresh);
      return false;
    }
  };
  const take = () => {
    if (theirs) setBase(theirs);
    setTheirs(null);
  };
  return html`<${FormDialog} key=${base.revision} title="Name, labels and notes" label=${theirs ? "Save mine all the same" : "Save"} close=${close} submit=${send}>
      <${Field} label="Name">${(/** @type {any} */ attributes) => html`<input ...${attributes} name="name" maxlength="200" defaultValue=${base.name ?? ""} />`}<//>
      <${Field} label="Labels" hint="One each line: key=value">${(/** @type {any} */ attributes) =>
        html`<textarea ...${attributes} name="labels" spellcheck="false" defaultValue=${lines(base.labels)} />`}<//>
      <${Field} label="Notes">${(/** @type {any} */ attributes) => html`<textarea ...${attributes} name="notes" defaultValue=${base.notes ?? ""} />`}<//>
      ${!base.finished_at && html`<${Field} label="Priority" hint="Of two waiting runs, the one with the higher number starts first.">${(/** @type {any} */ attributes) =>
        html`<input ...${attributes} name="priority" type="number" min="-1000" max="1000" defaultValue=${base.priority} />`}<//>`}
      ${theirs && html`<div class="warning" role="alert">
        <p>Somebody else changed it meanwhile: the name is now “${theirs.name ?? "none"}”${theirs.notes !== base.notes && ", with other notes"}. What you typed is still here.</p>
        <button type="button" onClick=${take}>Take theirs</button>
      </div>`}
  <//>`;
}

/** What differs from what is known; a label that is gone is null. @param {FormData} form  @param {Run} known */
function changes(form, known) {
  const typed = Object.fromEntries(text(form, "labels").split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const [key = "", value = ""] = line.split(/\s*=\s*(.*)/s);
    return [key, value];
  }));
  const gone = Object.keys(known.labels).filter((key) => !(key in typed)).map((key) => [key, null]);
  return {
    name: text(form, "name") || null,
    notes: text(form, "notes") || null,
    labels: { ...typed, ...Object.fromEntries(gone) },
    ...(form.has("priority") && { priority: Number(text(form, "priority")) }),
  };
}

/** @param {Record<string, string>} labels */
function lines(labels) {
  return Object.entries(labels).map(([key, value]) => `${key}=${value}`).join("\n");
}
