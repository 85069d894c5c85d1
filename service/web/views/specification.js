/** What a form says, as the body of a request, and back: modules that are chosen, values by dotted key, the rest. */
import { isSeveral, read } from "./schema_form.js";

/** @typedef {import("./schema_form.js").Drafts} Drafts */
/** @typedef {import("./schema_form.js").Node} Node */
/** @typedef {import("../openapi.d.ts").ProblemEntry} Mistake */
/** @typedef {Record<string, any>} Body */
/**
 * `choices` are modules by group, `drafts` overrides by key; `config` is a whole configuration that is changed.
 * @typedef {{ choices: Record<string, unknown>, drafts: Drafts, seed: string, name: string, labels: string,
 *   config: Body | null, films: boolean | null }} Specification `films` is null until somebody decides
 */

export const GROUPS = ["env", "algorithm", "model", "critic", "wrappers", "runner", "experiment", "configuration"];
/** Fields of a request that set one of the algorithm's. */
const BUDGETS = ["n_epochs", "max_env_steps", "max_wall_s", "patience", "target_return"];
/** Settings of the algorithm that say how long it trains. */
export const LENGTHS = [...BUDGETS, "total_env_steps", "epoch_length", "checkpoint_every"].map((name) => `algorithm.${name}`);
const PARTS = ["env", "wrappers", "algorithm", "model", "runner", "seeding", "dataset", "initial", "project"];

/** Whether the form can make another run of this one: a training, or what a training's policy does.
 * @param {Pick<import("../openapi.d.ts").Run, "kind" | "source_run">} run */
export function canBeginAnother({ kind, source_run }) {
  return ["train", "smoke", "import"].includes(kind) || ((kind === "evaluate" || kind === "rollout") && source_run !== null);
}

/** @returns {Specification} */
export function emptySpecification() {
  return { choices: {}, drafts: {}, seed: "", name: "", labels: "", config: null, films: null };
}

/**
 * The form that says what a request said.
 * @param {Body} request
 * @returns {Specification}
 */
export function specificationOf(request) {
  const given = Object.entries(request["overrides"] ?? {});
  const budgets = BUDGETS.filter((name) => request[name] !== undefined).map((name) => [`algorithm.${name}`, request[name]]);
  return {
    choices: Object.fromEntries(GROUPS.filter((group) => request[group] != null).map((group) => [group, request[group]])),
    drafts: Object.fromEntries([...budgets, ...given].map(([key, value]) => [key, { value }])),
    seed: request["seed"] == null ? "" : String(request["seed"]),
    name: request["name"] ?? "",
    labels: Object.entries(request["labels"] ?? {}).map(([key, value]) => `${key}=${value}`).join("\n"),
    config: request["config"] ?? null,
    films: Boolean(request["videos"]),
  };
}

/**
 * The body that says what the form says; of several values, `isSweep`, that of a sweep.
 * @param {Specification} form
 * @param {Map<string, Node>} fields by key
 * @param {{ isSweepAnyway?: boolean, isFork?: boolean }} [options] an experiment has its values; a fork is one run
 * @returns {{ body: Body, isSweep: boolean, mistakes: Mistake[] }} with the mistakes that the service cannot see or say
 */
export function bodyOf(form, fields, { isSweepAnyway = false, isFork = false } = {}) {
  const values = Object.entries(form.drafts).map(([key, draft]) => {
    const node = fields.get(key);
    const field = node?.kind === "field" ? node : null;
    const value = read(draft, field);
    return { key, field, value: key === "env.name" && typeof value === "string" ? value.trim() : value };
  });
  const seeds = form.seed.split(",").map((each) => each.trim()).filter(Boolean).map((text) => (Number.isInteger(Number(text)) ? Number(text) : text));
  const several = new Set(values.filter(({ field, value }) => isSeveral(value, field)).map(({ key }) => key));
  const isSweep = !isFork && (isSweepAnyway || several.size > 0 || seeds.length > 1);
  /** @param {string} key  @param {unknown} value */
  const one = (key, value) => {
    // in a sweep a list, or a text with commas, would be several values
    const couldBeSeveral = Array.isArray(value) || (typeof value === "string" && value.includes(","));
    return isSweep && couldBeSeveral && !several.has(key) ? [value] : value;
  };
  const overrides = Object.fromEntries(values.map(({ key, value }) => [key, one(key, value)]));
  const { labels, repeated } = labelsOf(form.labels);
  const body = {
    ...(form.config && { config: form.config }),
    ...Object.fromEntries(Object.entries(form.choices).map(([group, choice]) => [group, one(group, choice)])),
    ...(values.length && { overrides }),
    ...(seeds.length && { seed: seeds.length > 1 ? seeds : seeds[0] }),
    ...(form.films && !isSweep && { videos: 1 }),
    ...(form.name && { name: form.name }),
    ...(Object.keys(labels).length && { labels }),
  };
  const listed = isFork ? [...[...several].map((key) => ["overrides", key]), ...(seeds.length > 1 ? [["seed"]] : [])] : [];
  const mistakes = [
    ...listed.map((place) => mistake(place, "A fork is one run: give one value here. For a run of each, take Train again, which can be a sweep.")),
    ...[...repeated].map((key) => mistake(["labels"], `${key} is there twice, and a run has one value of it: leave one line.`)),
  ];
  return { body, isSweep, mistakes };
}

/** @param {string[]} place  @param {string} message @returns {Mistake} */
function mistake(place, message) {
  return { pointer: `/${place.map((part) => part.replaceAll("~", "~0").replaceAll("/", "~1")).join("/")}`, code: "contradiction", message, path: null, parameter: null, allowed: null, did_you_mean: null };
}

/** @param {string} text one `key=value` a line */
function labelsOf(text) {
  const pairs = text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const [key = "", value = ""] = line.split(/=(.*)/s);
    return [key.trim(), value.trim()];
  });
  const keys = pairs.map(([key = ""]) => key);
  return { labels: Object.fromEntries(pairs), repeated: new Set(keys.filter((key, index) => keys.indexOf(key) !== index)) };
}

/**
 * Where each mistake is shown: the key of a field, `choice:group`, `seed`, `name`, `labels`, or "" for none of them.
 * @param {Mistake[]} mistakes
 * @param {(place: string) => boolean} isPlace
 * @returns {Map<string, Mistake[]>}
 */
export function placed(mistakes, isPlace) {
  /** @type {Map<string, Mistake[]>} */
  const found = new Map();
  for (const mistake of mistakes) {
    const place = placesOf(mistake).find(isPlace) ?? "";
    found.set(place, [...(found.get(place) ?? []), mistake]);
  }
  return found;
}

/** Nearest first. @param {Mistake} mistake @returns {string[]} */
function placesOf({ pointer, path }) {
  const [first = "", ...rest] = (pointer ?? "").split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  const dotted = [...(path ? shorter(path) : [])];
  const within = path?.startsWith(`${rest[0]}.`) ? [path] : []; // more exact than the override, which may be a whole part
  if (first === "overrides") return [...within, ...(rest.length > 1 ? shorter(rest.join(".")) : []), rest[0] ?? "", ...dotted];
  if (first === "labels") return ["labels"];
  const isPart = rest.length > 0 && GROUPS.includes(first);
  return [...(isPart ? shorter([first, ...rest].join(".")) : []), `algorithm.${first}`, `choice:${first}`, first, ...dotted, ...(path ? [`choice:${path}`, path] : [])];
}

/** A dotted key and those that it lies in, without the first part. @param {string} key */
function shorter(key) {
  const parts = key.split(".");
  return parts.map((_, index) => parts.slice(0, parts.length - index).join(".")).filter((each) => each.includes("."));
}

/**
 * The key that was probably meant in place of one that is not there.
 * @param {string} key
 * @param {string} suggestion whole, or what stands for its last part
 */
export function renamed(key, suggestion) {
  const [first = ""] = suggestion.split(".");
  if (PARTS.includes(first) && suggestion !== first) return suggestion;
  return [...key.split(".").slice(0, -1), suggestion].join(".");
}
