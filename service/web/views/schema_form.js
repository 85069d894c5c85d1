/**
 * Forms from JSON Schema: what a schema has to fill in, how a value is written and read, and its inputs.
 *
 * Every field has a dotted key, as an override names it. What was not touched is not in the drafts, and is not sent.
 */
import { useId } from "preact/hooks";
import { html } from "../html.js";

/** @typedef {Record<string, any>} Schema */
/** What is filled in: as it was typed, or a value that was given.
 * @typedef {string | { value: unknown }} Draft */
/** @typedef {Record<string, Draft>} Drafts */
/**
 * One thing to fill in; `standard` is what holds without it, `several` whether a list of values is a sweep.
 * @typedef {{ kind: "field", key: string, name: string, schema: Schema, isNullable: boolean, standard: unknown,
 *   description: string, options: unknown[] | null }} FieldNode
 */
/**
 * Several that belong together; with `targets` one of several components, or null.
 * @typedef {{ kind: "group", key: string, name: string, description: string, children: Node[],
 *   targets: string[], target: string | null, isNullable: boolean }} GroupNode
 */
/** @typedef {FieldNode | GroupNode} Node */
/** @typedef {import("../openapi.d.ts").ProblemEntry} Mistake */

/** @param {Schema} schema  @param {Record<string, Schema>} defs @returns {Schema} */
function resolved(schema, defs) {
  if (!schema["$ref"]) return schema;
  const { $ref, ...beside } = schema;
  return { ...defs[String($ref).split("/").pop() ?? ""], ...beside };
}

/** The kinds that may stand there, without null. @param {Schema} schema  @param {Record<string, Schema>} defs */
function variants(schema, defs) {
  const given = /** @type {Schema[]} */ (schema["anyOf"] ?? [schema]).map((each) => resolved(each, defs));
  const isNullable = given.some((each) => each["type"] === "null") || [schema["type"]].flat().includes("null");
  return { isNullable, kinds: given.filter((each) => each["type"] !== "null") };
}

/** Whether a schema has every key of what stands there, such as the parameters of one kind of block. @param {Schema} kind  @param {unknown} value */
function holds(kind, value) {
  return value !== null && typeof value === "object" && Object.keys(value).every((key) => key in (kind["properties"] ?? {}));
}

/** The component that a schema describes. @param {Schema} schema @returns {string | undefined} */
export function targetOf(schema) {
  return schema["properties"]?.["_target_"]?.["const"];
}

/**
 * What a schema has to fill in.
 * @param {string} key its dotted key; empty for none
 * @param {Schema} schema
 * @param {Record<string, Schema>} defs
 * @param {unknown} [value] what stands there without the user
 * @param {Drafts} [drafts] they choose among components, and among the entries of lists
 * @returns {Node[]}
 */
export function nodesOf(key, schema, defs, value = standardOf(schema), drafts = {}) {
  const whole = resolved(schema, defs);
  if (whole["readOnly"] || whole["const"] !== undefined || whole["items"] === false) return [];
  const { kinds, isNullable } = variants(whole, defs);
  const name = key.split(".").pop() ?? key;
  const description = String(whole["description"] ?? kinds[0]?.["description"] ?? "");
  const stands = drafts[key] === undefined ? value : read(/** @type {Draft} */ (drafts[key]), null);
  const targets = kinds.flatMap((kind) => targetOf(kind) ?? []);
  const target = /** @type {any} */ (stands)?._target_ ?? null;
  const kind = targets.length > 1 ? kinds.find((each) => targetOf(each) === target) : kinds.find((each) => holds(each, stands)) ?? kinds[0];
  if (kind?.["properties"] || targets.length > 1) {
    const children = kind && stands !== null ? childrenOf(key, kind, defs, stands, drafts) : [];
    return [{ kind: "group", key, name, description, children, targets, target, isNullable }];
  }
  /** @type {FieldNode} */
  const field = { kind: "field", key, name, schema: kind ?? {}, isNullable, standard: value, description, options: optionsOf(kind) };
  const entries = kind?.["type"] === "array" && Array.isArray(stands) ? stands : [];
  const inside = entries.some((each) => each !== null && typeof each === "object" && !Array.isArray(each))
    ? entries.flatMap((each, index) => nodesOf(`${key}.${entryName(each, entries, index)}`, itemOf(kind ?? {}, each, defs), defs, each, drafts))
    : [];
  if (key === "wrappers") return inside; // a group is chosen as a whole, and no override
  if (!inside.length) return [field];
  return [{ kind: "group", key: "", name, description, targets: [], target: null, isNullable, children: [...inside, { ...field, name: "the whole list" }] }];
}

/** @param {string} key  @param {Schema} kind  @param {Record<string, Schema>} defs  @param {any} value  @param {Drafts} drafts */
function childrenOf(key, kind, defs, value, drafts) {
  return Object.entries(/** @type {Record<string, Schema>} */ (kind["properties"])).flatMap(([name, property]) =>
    nodesOf(key ? `${key}.${name}` : name, property, defs, value && name in value ? value[name] : standardOf(property), drafts));
}

/** A wrapper is found by its class, where there is one of it. @param {any} entry  @param {any[]} entries  @param {number} index */
function entryName(entry, entries, index) {
  const target = entry?._target_;
  const isWrapper = typeof target === "string" && target.endsWith("Wrapper");
  const isOnly = entries.filter((each) => each?._target_ === target).length === 1;
  return isWrapper && isOnly ? String(target.split(".").pop()) : String(index);
}

/** @param {Schema} list  @param {any} entry  @param {Record<string, Schema>} defs */
function itemOf(list, entry, defs) {
  const { kinds } = variants(resolved(list["items"] ?? {}, defs), defs);
  return kinds.find((each) => targetOf(each) === entry?._target_) ?? kinds[0] ?? {};
}

/** What holds without the user: the schema's default, or the defaults of its parts. @param {Schema} schema @returns {unknown} */
export function standardOf(schema) {
  if ("default" in schema || !schema["properties"]) return schema["default"];
  const parts = Object.entries(/** @type {Record<string, Schema>} */ (schema["properties"]));
  return Object.fromEntries(parts.map(([name, part]) => [name, standardOf(part)]));
}

/** @param {Schema | undefined} kind @returns {unknown[] | null} */
function optionsOf(kind) {
  if (kind?.["type"] === "boolean") return [true, false];
  return kind?.["enum"] ?? null;
}

/** All fields below these, groups that choose a component among them. @param {Node[]} nodes @returns {Node[]} */
export function flat(nodes) {
  return nodes.flatMap((node) => (node.kind === "field" ? [node] : [...(node.targets.length > 1 ? [node] : []), ...flat(node.children)]));
}

/** A value as it is typed. @param {unknown} value */
export function written(value) {
  if (value === undefined) return "";
  if (Array.isArray(value) && value.length && value.every((each) => typeof each === "number")) return value.join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** @param {Draft | undefined} draft */
export function shown(draft) {
  return typeof draft === "object" ? written(draft.value) : (draft ?? "");
}

/**
 * What a draft says. What cannot be read is sent as it was typed: the service says what is wrong with it.
 * @param {Draft} draft
 * @param {FieldNode | null} field null where nothing is known of it: JSON, or else a text
 */
export function read(draft, field) {
  if (typeof draft === "object") return draft.value;
  const text = draft.trim();
  if (field?.isNullable && text === "null") return null;
  const type = field?.schema["type"];
  if (field?.options) return field.options.find((option) => String(option) === text) ?? draft;
  if (type === "string") return draft;
  if (type === "number" || type === "integer") return text.includes(",") ? listed(text) : numeric(text);
  if (type === "array" && !text.startsWith("[")) return listed(text);
  return parsed(text, draft);
}

/** @param {string} text */
function listed(text) {
  return text.split(",").map((each) => each.trim()).filter(Boolean).map(numeric);
}

/** @param {string} text */
function numeric(text) {
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text === "null" ? null : text;
}

/** @param {string} text  @param {string} otherwise */
function parsed(text, otherwise) {
  try {
    return JSON.parse(text);
  } catch {
    return otherwise;
  }
}

/** Whether a value is several values, each a run of its own. @param {unknown} value  @param {FieldNode | null} field */
export function isSeveral(value, field) {
  if (!field || !Array.isArray(value)) return false;
  const type = field.schema["type"];
  if (type === "array") return value.length > 1 && value.every(Array.isArray) && field.schema["items"]?.["type"] !== "array";
  return type === "number" || type === "integer" || field.options !== null;
}

/** Kind and bounds in words. @param {FieldNode} field */
function taken({ key, schema, isNullable, options }) {
  if (options) return "";
  const words = /** @type {Record<string, string>} */ ({ integer: "whole number", number: "number", array: "list", object: "JSON" });
  const bounds = [["minimum", "≥"], ["exclusiveMinimum", ">"], ["maximum", "≤"], ["exclusiveMaximum", "<"]].flatMap(
    ([name = "", sign]) => (schema[name] === undefined ? [] : `${sign} ${Number(schema[name]).toLocaleString("en")}`));
  // every setting of a configuration that counts from 1, or above 0, and may be null, takes 0 for null
  const isOffAtZero = key.includes(".") && (schema["minimum"] === 1 || schema["exclusiveMinimum"] === 0);
  const word = words[schema["type"]];
  if (!word) return "";
  return [[word, bounds.join(", ")].filter(Boolean).join(" "), isNullable && (isOffAtZero ? "0 or null" : "null")].filter(Boolean).join(" or ");
}

/** A description, its code as such. @param {{ text: string }} props */
export function Prose({ text }) {
  return html`${text.split(/`+([^`]+)`+/).map((part, index) => (index % 2 ? html`<code>${part}</code>` : part))}`;
}

/**
 * What the inputs share: drafts and how they change, mistakes by key, what is looked for.
 * @typedef {{ drafts: Drafts, change: (key: string, draft: Draft | undefined) => void, mistakes: Map<string, Mistake[]>,
 *   suggest: (key: string, mistake: Mistake) => void, search: string }} Form
 */

/** @param {Node} node  @param {string} search */
function isFound(node, search) {
  const text = `${node.key} ${node.description}`.toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/** What is wrong at a place, with the way out. @param {{ id: string, mistakes: Mistake[], take: (mistake: Mistake) => void }} props */
export function Mistakes({ id, mistakes, take }) {
  if (!mistakes.length) return null;
  return html`<div id=${id} class="field-error">
    ${mistakes.map((each) => html`<p>
      ${each.message}
      ${each.did_you_mean && html` <button type="button" class="suggestion" onClick=${() => take(each)}>Use <code>${each.did_you_mean}</code></button>`}
      ${Boolean(each.allowed?.length) && html`<small> Allowed: ${each.allowed?.slice(0, 12).join(", ")}${(each.allowed?.length ?? 0) > 12 && ", …"}</small>`}
    </p>`)}
  </div>`;
}

/** @param {{ nodes: Node[], form: Form }} props */
export function Nodes({ nodes, form }) {
  return html`${nodes.map((node) => html`<${node.kind === "field" ? Input : Group} key=${node.key || node.name} node=${node} form=${form} />`)}`;
}

/** @param {{ node: GroupNode, form: Form }} props */
function Group({ node, form }) {
  const inside = flat([node]);
  if (form.search && !inside.some((each) => isFound(each, form.search))) return null;
  const changed = inside.filter((each) => form.drafts[each.key] !== undefined).length;
  const wrong = inside.filter((each) => form.mistakes.has(each.key)).length;
  const isEntry = /\.(\d+|\w+Wrapper)$/.test(node.key);
  return html`<details class="fold" open=${Boolean(form.search || changed || wrong || isEntry)}>
    <summary><strong>${node.name}</strong> <small><${Prose} text=${node.description} /></small><${Counts} changed=${changed} wrong=${wrong} /></summary>
    ${node.targets.length > 1 && html`<${Component} node=${node} form=${form} />`}
    <div class="fields"><${Nodes} nodes=${node.children} form=${form} /></div>
  </details>`;
}

/** @param {{ changed: number, wrong: number }} props */
export function Counts({ changed, wrong }) {
  return html`<span class="counts">
    ${changed > 0 && html`<span class="label">${changed} changed</span>`}${wrong > 0 && html`<span class="field-error">✕ ${wrong} wrong</span>`}
  </span>`;
}

/** Which of several components. @param {{ node: GroupNode, form: Form }} props */
function Component({ node, form }) {
  const choose = (/** @type {string} */ target) => form.change(node.key, target === "" ? undefined : { value: target === "null" ? null : { _target_: target } });
  const chosen = form.drafts[node.key] === undefined ? "" : (node.target ?? "null");
  return html`<${Row} node=${node} form=${form} name="component">
    ${(/** @type {any} */ attributes) => html`<select ...${attributes} value=${chosen} onChange=${(/** @type {any} */ event) => choose(event.target.value)}>
      <option value="">${node.target ?? "null"} (default)</option>
      ${node.targets.map((target) => html`<option value=${target}>${target}</option>`)}
      ${node.isNullable && html`<option value="null">null</option>`}
    </select>`}
  <//>`;
}

/** @param {{ node: FieldNode, form: Form }} props */
function Input({ node, form }) {
  if (form.search && !isFound(node, form.search)) return null;
  const draft = form.drafts[node.key];
  const type = (/** @type {any} */ event) => form.change(node.key, event.target.value === "" ? undefined : event.target.value);
  const isLong = node.schema["type"] === "object" || node.schema["items"]?.["anyOf"] || node.schema["items"]?.["$ref"] || !node.schema["type"];
  const isNumber = ["number", "integer"].includes(node.schema["type"]);
  const hint = html`<${Prose} text=${node.description} /> <span class="taken">${taken(node)}</span>`;
  return html`<${Row} node=${node} form=${form} hint=${hint}>
    ${(/** @type {any} */ attributes) => {
      if (node.options) return html`<${Choice} attributes=${attributes} node=${node} draft=${draft} change=${type} />`;
      if (isLong) return html`<textarea ...${attributes} rows="2" value=${shown(draft)} placeholder=${written(node.standard)} onInput=${type} />`;
      return html`<input ...${attributes} inputmode=${isNumber ? "decimal" : undefined} autocomplete="off" spellcheck=${false}
        value=${shown(draft)} placeholder=${written(node.standard)} onInput=${type} />`;
    }}
  <//>`;
}

/** @param {{ attributes: any, node: FieldNode, draft: Draft | undefined, change: (event: any) => void }} props */
function Choice({ attributes, node, draft, change }) {
  const text = shown(draft);
  const known = [...(node.options ?? []), ...(node.isNullable ? [null] : [])].map(String);
  return html`<select ...${attributes} value=${text} onChange=${change}>
    <option value="">${written(node.standard) || "–"} (default)</option>
    ${known.map((option) => html`<option value=${option}>${option}</option>`)}
    ${text && !known.includes(text) && html`<option value=${text}>${text}</option>`}
  </select>`;
}

/**
 * A label, an input, what it means, what is wrong with it, and the way back to what it was.
 * @param {{ node: { key: string, name: string, isNullable?: boolean }, form: Form, name?: string, hint?: import("../html.js").Children,
 *   children: (attributes: object) => import("../html.js").Children }} props
 */
export function Row({ node, form, name, hint, children }) {
  const id = useId();
  const draft = form.drafts[node.key];
  const mistakes = form.mistakes.get(node.key) ?? [];
  const about = [hint && `${id}-hint`, mistakes.length && `${id}-error`].filter(Boolean).join(" ") || undefined;
  const field = /** @type {Partial<FieldNode>} */ (node);
  const canBeNull = field.isNullable && field.schema && !field.options && draft === undefined && (field.standard ?? null) !== null;
  return html`<div class="field ${draft !== undefined ? "changed" : ""} ${mistakes.length ? "invalid" : ""}" data-key=${node.key}>
    <div class="row spread">
      <label for=${id}>${name ?? node.name}</label>
      <span>
        ${draft !== undefined && html`<small class="mark-changed">changed</small>`}
        ${draft !== undefined && html`<button type="button" class="quiet small" aria-label="Put ${node.key} back" title="Put back" onClick=${() => form.change(node.key, undefined)}>↺</button>`}
        ${canBeNull && html`<button type="button" class="quiet small" aria-label="Set ${node.key} to null" onClick=${() => form.change(node.key, { value: null })}>null</button>`}
      </span>
    </div>
    ${children({ id, "aria-describedby": about, "aria-invalid": mistakes.length > 0 })}
    <${Mistakes} id="${id}-error" mistakes=${mistakes} take=${(/** @type {Mistake} */ mistake) => form.suggest(node.key, mistake)} />
    ${hint && html`<small id="${id}-hint">${hint}</small>`}
  </div>`;
}
