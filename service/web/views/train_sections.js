/** The sections of the training form: from the modules' schemas, with what the service composed as what stands there. */
import { useMemo, useRef, useState } from "preact/hooks";
import { get } from "../api.js";
import { useResource } from "../hooks.js";
import { html } from "../html.js";
import { kwargsSchema } from "./environment_picker.js";
import { Counts, flat, Nodes, nodesOf, Prose, Row, shown, standardOf, targetOf } from "./schema_form.js";
import { GROUPS, LENGTHS } from "./specification.js";

/** @typedef {import("./schema_form.js").Schema} Schema */
/** @typedef {import("./schema_form.js").Node} Node */
/** @typedef {import("./schema_form.js").Form} Form */
/** @typedef {import("./schema_form.js").Drafts} Drafts */
/** @typedef {import("./specification.js").Specification} Specification */
/** @typedef {import("./new_run.js").Catalogue} Catalogue */

/** The setting that names what is learnt from, which only some algorithms have. */
export const DATASET = "dataset.run";
const SECTIONS = ["algorithm", "env", "wrappers", "model", "runner"];

/**
 * The schema of each section: of the module that is chosen, of the experiment's choice, or of the standard one.
 * @param {Catalogue} catalogue
 * @param {Record<string, unknown>} choices
 */
export function useSchemas(catalogue, choices) {
  const names = GROUPS.filter((group) => typeof choices[group] === "string" && catalogue.modules[group]?.includes(String(choices[group])))
    .map((group) => `${group}/${choices[group]}`);
  const known = useRef(/** @type {Map<string, Schema>} */ (new Map()));
  const load = async (/** @type {AbortSignal} */ signal) => {
    await Promise.all(names.filter((name) => !known.current.has(name)).map(async (name) => {
      const [group = "", module = ""] = name.split("/");
      known.current.set(name, await get("/v1/config/groups/{group}/{module}/schema", { group, module }, { signal }));
    }));
    return new Map(names.map((name) => [name.split("/")[0], known.current.get(name)]));
  };
  const found = useResource(load, [names.join(" ")]).data;
  const last = useRef(/** @type {Map<string | undefined, Schema | undefined>} */ (new Map()));
  if (found) last.current = found;
  return last.current;
}

/**
 * @typedef {{ group: string, description: string, nodes: Node[] }} SectionNodes
 * @param {Map<string | undefined, Schema | undefined>} schemas
 * @param {Catalogue} catalogue
 * @param {Specification} form
 * @param {Record<string, any> | null} composed the last configuration that could be composed
 * @returns {SectionNodes[]}
 */
export function sectionsOf(schemas, catalogue, form, composed) {
  const root = schemas.get("experiment") ?? schemas.get("configuration") ?? catalogue.schema;
  return SECTIONS.map((group) => {
    const own = schemas.get(group);
    const schema = own ?? root["properties"][group];
    const defs = (own ?? root)["$defs"] ?? {};
    const value = composedValue(composed?.[group], schema, standardOf(schema));
    const kinds = own || schema["type"] === "array" ? [schema] : schema["anyOf"].map((/** @type {Schema} */ kind) => ({ ...defs[String(kind["$ref"] ?? "").split("/").pop() ?? ""], ...kind }));
    const kind = kinds.find((/** @type {Schema} */ each) => own || targetOf(each) === value?._target_) ?? kinds[0];
    const children = nodesOf(group, kind, defs, value, form.drafts).flatMap((node) => (node.kind === "group" && node.key === group ? node.children : [node]));
    return { group, description: String(schema["description"] ?? kind["description"] ?? ""), nodes: children };
  });
}

/** What was composed, where it is of the component that is chosen now. @param {any} value  @param {Schema} schema  @param {any} standard */
function composedValue(value, schema, standard) {
  const target = targetOf(schema);
  return value === undefined || (target && value?._target_ !== target) ? standard : value;
}

/** The environment's own arguments, where the service lets clients give them. @param {string} name  @param {Catalogue} catalogue  @param {Drafts} drafts */
export function useKwargs(name, catalogue, drafts) {
  const isKnown = catalogue.environments.some((each) => each.id === name && each.is_available);
  const detail = useResource(async (signal) => (isKnown ? get("/v1/environments/{env_id}", { env_id: name }, { signal }) : null), [name, isKnown]).data;
  return useMemo(() => (detail?.open_kwargs?.length ? nodesOf("env.kwargs", kwargsSchema(detail), {}, undefined, drafts) : null), [detail, drafts]);
}

/** @param {SectionNodes} section  @param {Node[]} kwargs @returns {SectionNodes} */
export function withKwargs(section, kwargs) {
  return { ...section, nodes: section.nodes.flatMap((node) => (node.key === "env.kwargs" ? kwargs : [node])) };
}

/** The stack, next to the environment first: taken from and added to. What was changed in it is put back.
 * @param {{ schema: Schema, stack: any[], change: (stack: any[]) => void }} props */
export function Wrappers({ schema, stack, change }) {
  const refs = /** @type {Schema[]} */ (schema["properties"]["wrappers"]["items"]["anyOf"]);
  const known = refs.map((each) => targetOf(schema["$defs"][String(each["$ref"]).split("/").pop() ?? ""]) ?? "");
  return html`<ol class="stack-of">
    ${stack.map((each, index) => html`<li><code>${String(each._target_).split(".").pop()}</code>
      <button type="button" class="quiet small" aria-label="Take ${each._target_} away" onClick=${() => change(stack.filter((_, other) => other !== index))}>✕</button></li>`)}
    </ol>
    <select aria-label="Add a wrapper" value="" onChange=${(/** @type {any} */ event) => event.target.value && change([...stack, { _target_: event.target.value }])}>
      <option value="">Add a wrapper …</option>
      ${known.map((target) => html`<option value=${target}>${target.split(".").pop()}</option>`)}
    </select>`;
}

/** @param {{ section: SectionNodes, form: Form, children?: import("../html.js").Children }} props */
export function Section({ section, form, children }) {
  const nodes = section.nodes.filter((node) => node.key !== "env.name" && (form.search || !LENGTHS.includes(node.key)));
  const inside = flat(nodes);
  const changed = inside.filter((node) => form.drafts[node.key] !== undefined).length;
  const wrong = inside.filter((node) => form.mistakes.has(node.key)).length;
  return html`<details class="card section" open=${Boolean(form.search || changed || wrong)}>
    <summary><h2>${section.group}</h2><${Counts} changed=${changed} wrong=${wrong} /></summary>
    ${section.description && html`<p class="hint"><${Prose} text=${section.description} /></p>`}
    ${children}
    <div class="fields"><${Nodes} nodes=${nodes} form=${form} /></div>
  </details>`;
}

/** Which rollout's episodes are learnt from. @param {{ form: Form, standard?: string }} props */
export function Dataset({ form, standard }) {
  const { data } = useResource((signal) => get("/v1/runs", { kind: "rollout", state: "succeeded", limit: 100 }, { signal }), []);
  const text = shown(form.drafts[DATASET]);
  const known = data?.data ?? [];
  const hint = data && !known.length ? "No rollout is there yet: roll out a trained run first." : "A rollout that recorded its episodes, in the same environment.";
  return html`<${Row} node=${{ key: DATASET, name: "dataset", isNullable: false }} form=${form} hint=${hint}>
    ${(/** @type {object} */ attributes) => html`<select ...${attributes} value=${text} onChange=${(/** @type {any} */ event) => form.change(DATASET, event.target.value || undefined)}>
      <option value="">${standard ? `${standard} (default)` : "none"}</option>
      ${known.map(({ id, name, environment }) => html`<option value=${id}>${[name, id, environment].filter(Boolean).join(" · ")}</option>`)}
      ${text && !known.some(({ id }) => id === text) && html`<option value=${text}>${text}</option>`}
    </select>`}
  <//>`;
}

/** Values of keys that the form has no field for, and a way to give one. @param {{ keys: string[], form: Form }} props */
export function Others({ keys, form }) {
  const [key, setKey] = useState("");
  const add = () => (form.change(key.trim(), ""), setKey(""));
  const wrong = keys.filter((each) => form.mistakes.has(each)).length;
  return html`<details class="card section" open=${keys.length > 0}>
    <summary><h2>Any other key</h2><${Counts} changed=${keys.length} wrong=${wrong} /></summary>
    <p class="hint">Dotted keys of the configuration with their values, as JSON or as plain text.</p>
    <div class="fields">
      ${keys.map((each) => html`<${Row} key=${each} node=${{ key: each, name: each }} form=${form}>
        ${(/** @type {object} */ attributes) => html`<input ...${attributes} value=${shown(form.drafts[each])} autocomplete="off" spellcheck=${false}
          onInput=${(/** @type {any} */ event) => form.change(each, event.target.value)} />`}
      <//>`)}
    </div>
    <div class="row"><label for="other-key">key</label><input id="other-key" class="mono" value=${key} onInput=${(/** @type {any} */ event) => setKey(event.target.value)}
      onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Enter" && !event.ctrlKey && key.trim() && add()} />
      <button type="button" disabled=${!key.trim()} onClick=${add}>Add</button></div>
  </details>`;
}
