/** The configuration of a run as a tree, each value with where it comes from. */
import { useState } from "preact/hooks";
import { address, bytes, get, save } from "../api.js";
import { useResource } from "../hooks.js";
import { html } from "../html.js";
import { link } from "../router.js";
import { ActionButton, CopyButton, Field, Loaded } from "../ui.js";
import { CopyAs } from "./copy_as.js";
import { canBeginAnother } from "./specification.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {{ source: string, name: string | null }} Origin */
/**
 * @typedef {{ config: Record<string, unknown>, config_sha256: string | null, provenance?: Record<string, Origin> | null,
 *   request: Record<string, any> }} Configuration
 */

/** Where a value comes from that somebody asked for. */
const ASKED = new Set(["argument", "override", "config", "configuration", "experiment"]);

/** @param {{ run: Run }} props */
export function Config({ run }) {
  const resource = useResource((signal) => get("/v1/runs/{run_id}/config", { run_id: run.id, provenance: true }, { signal }), [run.id]);
  const [wanted, setWanted] = useState("");
  const [isAsked, setAsked] = useState(false);
  const yaml = async () => save(await bytes(address("/v1/runs/{run_id}/config", { run_id: run.id, format: "yaml" })), `${run.id}.yaml`);
  return html`<${Loaded} resource=${resource} what="the configuration">${(/** @type {Configuration} */ found) => {
    const fits = (/** @type {string} */ path, /** @type {unknown} */ value) => fitting(path, value, found, wanted, isAsked);
    const shown = pruned(found.config, "", fits);
    return html`<div class="controls">
        <${Field} label="Search">${(/** @type {any} */ attributes) => html`<input ...${attributes} type="search" value=${wanted} placeholder="key, value or origin"
          onInput=${(/** @type {any} */ event) => setWanted(event.currentTarget.value)} />`}<//>
        <label class="check"><input type="checkbox" checked=${isAsked} onChange=${() => setAsked(!isAsked)} />only what was asked for</label>
        <span class="row"><${ActionButton} action=${yaml}>YAML<//><${CopyButton} text=${() => JSON.stringify(found.config, null, 2)}>Copy as JSON<//>
          ${canBeginAnother(run) && html`<a class="button" href=${link(["new"], { from: run.id })}>New run from it</a>`}</span>
      </div>
      ${found.config_sha256 && html`<p class="hint">Digest <code>${found.config_sha256}</code><${CopyButton} text=${found.config_sha256} />: equal for equal runs, also in Python and on the command line.</p>`}
      ${asPosted(run, found) && html`<details class="copy"><summary>Copy as curl, Python or maze-run</summary><${CopyAs} ...${asPosted(run, found)} /></details>`}
      ${shown === undefined ? html`<p>No value fits.</p>` : html`<div class="tree"><${Tree} value=${shown} path="" origins=${found.provenance ?? {}} isOpen=${true} /></div>`}`;
  }}<//>`;
}

/**
 * The request that gives this run again: as it was asked for, or of one that follows from another its configuration.
 * @param {Run} run
 * @param {Configuration} found
 */
function asPosted(run, { config, request }) {
  if (run.kind !== "train") return null;
  const seed = run.seed === null || request["seed"] !== undefined ? {} : { seed: run.seed };
  return { path: "/v1/train", body: run.parent_run ? { config } : { ...request, ...seed } };
}

/** @param {string} path  @param {unknown} value  @param {Configuration} found  @param {string} wanted  @param {boolean} isAsked */
function fitting(path, value, found, wanted, isAsked) {
  const origin = found.provenance?.[path];
  if (isAsked && !(origin && ASKED.has(origin.source))) return false;
  const text = `${path} ${JSON.stringify(value)} ${origin?.source} ${origin?.name}`.toLowerCase();
  return wanted.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/**
 * What is left of a tree when values that do not fit are taken away; undefined when nothing is.
 * @param {unknown} value
 * @param {string} path
 * @param {(path: string, value: unknown) => boolean} fits
 * @returns {unknown}
 */
function pruned(value, path, fits) {
  const children = childrenOf(value);
  if (!children) return fits(path, value) ? value : undefined;
  const left = children.map(([key, child]) => [key, pruned(child, joined(path, key), fits)]).filter(([, child]) => child !== undefined);
  return left.length ? Object.fromEntries(left) : undefined;
}

/** @param {string} path  @param {string} key */
function joined(path, key) {
  return path ? `${path}.${key}` : key;
}

/** What is in a value; undefined of one that has nothing in it. @param {unknown} value */
function childrenOf(value) {
  const children = value !== null && typeof value === "object" ? Object.entries(value) : [];
  return children.length ? children : undefined;
}

/**
 * @param {{ value: unknown, path: string, origins?: Record<string, Origin>, isOpen?: boolean }} props
 * @returns {import("preact").VNode<any>}
 */
export function Tree({ value, path, origins = {}, isOpen = false }) {
  return html`<ul>${(childrenOf(value) ?? []).map(([key, child]) => {
    const at = joined(path, key);
    if (childrenOf(child)) {
      return html`<li key=${key}><details open=${isOpen}><summary>${key}</summary><${Tree} value=${child} path=${at} origins=${origins} isOpen=${isOpen} /></details></li>`;
    }
    const origin = origins[at];
    return html`<li key=${key} class="leaf"><code>${key}</code><code class="value">${JSON.stringify(child)}</code>
      ${origin && html`<small class=${ASKED.has(origin.source) ? "origin asked" : "origin"}>${origin.source}${origin.name && ` ${origin.name}`}</small>`}</li>`;
  })}</ul>`;
}
