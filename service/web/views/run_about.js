/** What people say of a run, name, labels, notes and priority: shown, and changed without losing another's change. */
import { useState } from "preact/hooks";
import { call, get, Problem } from "../api.js";
import { html } from "../html.js";
import { Field, FormDialog, Labels } from "../ui.js";
import { text } from "./run_verbs.js";

/** @typedef {import("../openapi.d.ts").Run} Run */

/** @param {{ run: Run, changed: (run: Run) => void }} props */
export function About({ run, changed }) {
  const [isEditing, setEditing] = useState(false);
  return html`<div class="about">
    <${Labels} labels=${run.labels} />
    ${run.notes && html`<p class="notes">${run.notes}</p>`}
    <button class="quiet" onClick=${() => setEditing(true)}>Edit name, labels, notes</button>
    ${isEditing && html`<${EditDialog} run=${run} changed=${changed} close=${() => setEditing(false)} />`}
  </div>`;
}

/**
 * It holds the run as it was when it was opened, and sends only what differs from that: a change of somebody else's is
 * told, and what it changed and this did not is kept.
 * @param {{ run: Run, changed: (run: Run) => void, close: () => void }} props
 */
function EditDialog({ run, changed, close }) {
  const [base, setBase] = useState(run);
  const [theirs, setTheirs] = useState(/** @type {Run | null} */ (null));
  const send = async (/** @type {FormData} */ form) => {
    try {
      const headers = { "if-match": `"${(theirs ?? base).revision}"` };
      changed(await call("patch", "/v1/runs/{run_id}", { run_id: run.id }, changes(form, base), { headers }));
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
        <p>Somebody else changed it meanwhile. What you typed is still here; saving it changes only what you changed.</p>
        <ul>${differences(base, theirs).map((each) => html`<li>${each}</li>`)}</ul>
        <button type="button" onClick=${take}>Take theirs</button>
      </div>`}
  <//>`;
}

/** What was changed in the form; a label that was taken away is null. @param {FormData} form  @param {Run} base */
function changes(form, base) {
  const [typed, before] = [labelsOf(text(form, "labels")), labelsOf(lines(base.labels))];
  const gone = Object.keys(before).filter((key) => !Object.hasOwn(typed, key)).map((key) => [key, null]);
  const labels = [...Object.entries(typed).filter(([key, value]) => before[key] !== value), ...gone];
  const [name, notes, priority] = [text(form, "name"), text(form, "notes"), Number(text(form, "priority"))];
  return {
    ...(name !== tidied(base.name) && { name: name || null }),
    ...(notes !== tidied(base.notes) && { notes: notes || null }),
    ...(labels.length > 0 && { labels: Object.fromEntries(labels) }),
    ...(form.has("priority") && priority !== base.priority && { priority }),
  };
}

/** A text as a form gives it back. @param {string | null} value */
function tidied(value) {
  return (value ?? "").replace(/\r\n?/g, "\n").trim();
}

/** What somebody else changed, in words. @param {Run} base  @param {Run} theirs */
function differences(base, theirs) {
  const keys = [...new Set([...Object.keys(base.labels), ...Object.keys(theirs.labels)])];
  const labels = keys.filter((key) => base.labels[key] !== theirs.labels[key]);
  const found = [
    theirs.name !== base.name && `The name is now ${theirs.name === null ? "none" : `“${theirs.name}”`}.`,
    ...labels.map((key) => (key in theirs.labels ? `The label ${key}=${theirs.labels[key]} is ${key in base.labels ? "changed" : "new"}.` : `The label ${key} is gone.`)),
    theirs.notes !== base.notes && `The notes are now ${theirs.notes === null ? "none" : `“${theirs.notes}”`}.`,
    theirs.priority !== base.priority && `The priority is now ${theirs.priority}.`,
  ].filter(Boolean);
  return found.length ? found : ["It is now as it was before."];
}

/** The labels that lines say. @param {string} typed @returns {Record<string, string>} */
function labelsOf(typed) {
  return Object.fromEntries(typed.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const [key = "", value = ""] = line.split(/\s*=\s*(.*)/s);
    return [key, value];
  }));
}

/** @param {Record<string, string>} labels */
function lines(labels) {
  return Object.entries(labels).map(([key, value]) => `${key}=${value}`).join("\n");
}
