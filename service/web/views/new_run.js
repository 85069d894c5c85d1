/** New run: a form of every setting, composed by the service as it is filled in; trained, tried out, swept or copied. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { call, get, post } from "../api.js";
import { useAction, useResource, useSentKey, useSettled } from "../hooks.js";
import { html } from "../html.js";
import { link, navigate } from "../router.js";
import { ErrorBox, Field, Loaded } from "../ui.js";
import { ActForm } from "./act_form.js";
import { CopyAs } from "./copy_as.js";
import { EnvironmentPicker, kwargsSchema } from "./environment_picker.js";
import { flat, Mistakes, Nodes, nodesOf, Counts, Prose, Row, shown, standardOf, targetOf, written } from "./schema_form.js";
import { bodyOf, emptySpecification, GROUPS, LENGTHS, placed, renamed, specificationOf } from "./specification.js";

/** @typedef {import("./schema_form.js").Schema} Schema */
/** @typedef {import("./schema_form.js").Node} Node */
/** @typedef {import("./schema_form.js").FieldNode} FieldNode */
/** @typedef {import("./schema_form.js").Form} Form */
/** @typedef {import("./schema_form.js").Drafts} Drafts */
/** @typedef {import("./schema_form.js").Mistake} Mistake */
/** @typedef {import("./specification.js").Specification} Specification */
/** @typedef {Awaited<ReturnType<typeof loadCatalogue>>} Catalogue */
/** Of a run that is forked: its id, and the checkpoint that the new one begins with.
 * @typedef {{ run: string, checkpoint: string }} Fork */

const COMPOSE_AFTER_MS = 250;
/** What stands for a group that is written out. */
const OWN = "as written here";
const SECTIONS = ["algorithm", "env", "wrappers", "model", "runner"];

const TITLES = /** @type {Record<string, string>} */ ({ train: "New run", fork: "Fork a run", evaluate: "Evaluate a run", rollout: "Roll out a run" });

/** @param {{ route: import("../router.js").Route }} props */
export function View({ route }) {
  const { from, env, kind, fork } = /** @type {Record<string, string | undefined>} */ (Object.fromEntries(route.query));
  const asked = fork === "1" ? "fork" : kind;
  const start = useResource((signal) => loadStart(from, env, asked, signal), [from, env, asked]);
  return html`<${Loaded} resource=${start} what="the settings">
    ${(/** @type {Start} */ loaded) => html`<h1>${TITLES[loaded.kind]}</h1>
      ${loaded.trained && html`<${Kinds} run=${loaded.trained} chosen=${loaded.kind} />`}
      ${loaded.kind === "evaluate" || loaded.kind === "rollout"
        ? html`<${ActForm} key=${route.text} kind=${loaded.kind} request=${loaded.request} />`
        : html`<${TrainForm} key=${route.text} ...${loaded} />`}`}
  <//>`;
}

/** What can be made of a trained run. @param {{ run: string, chosen: string }} props */
function Kinds({ run, chosen }) {
  /** @type {[string, string, Record<string, string>][]} */
  const kinds = [["train", "Train again", { kind: "train" }], ["fork", "Fork", { fork: "1" }], ["evaluate", "Evaluate", { kind: "evaluate" }], ["rollout", "Roll out", { kind: "rollout" }]];
  return html`<nav class="kinds row" aria-label="What is made of it">
    ${kinds.map(([kind, title, query]) => html`<a class="button quiet" href=${link(["new"], { from: run, ...query })} aria-current=${kind === chosen ? "page" : undefined}>${title}</a>`)}
  </nav>`;
}

/** @param {AbortSignal} signal */
async function loadCatalogue(signal) {
  const [schema, groups, environments] = await Promise.all([
    get("/v1/config/schema", {}, { signal }),
    get("/v1/config/groups", {}, { signal }),
    get("/v1/environments", {}, { signal }),
  ]);
  const modules = Object.fromEntries(groups.data.map((row) => [row.group, row.modules]));
  return { schema: /** @type {Schema} */ (schema), modules: /** @type {Record<string, string[]>} */ (modules), environments: environments.data };
}

/** What a form begins with; `trained` is the run whose policy there is.
 * @typedef {{ kind: "train" | "fork", catalogue: Catalogue, given: Specification, base: Record<string, any> | null, fork: Fork | null, trained?: string }} TrainStart
 * @typedef {{ kind: "evaluate" | "rollout", request: Record<string, unknown>, trained: string }} ActStart
 * @typedef {TrainStart | ActStart} Start
 */

/**
 * @param {string | undefined} from  @param {string | undefined} env  @param {string | undefined} asked  @param {AbortSignal} signal
 * @returns {Promise<Start>}
 */
async function loadStart(from, env, asked, signal) {
  if (!from) {
    const given = emptySpecification();
    const catalogue = await loadCatalogue(signal);
    return { kind: "train", catalogue, given: env ? { ...given, drafts: { "env.name": { value: env } } } : given, base: null, fork: null };
  }
  const [run, found] = await Promise.all([
    get("/v1/runs/{run_id}", { run_id: from }, { signal }),
    get("/v1/runs/{run_id}/config", { run_id: from }, { signal }),
  ]);
  const request = /** @type {Record<string, any>} */ (found.request);
  const kind = asked ?? run.kind;
  const trained = run.kind === "train" ? from : (run.source_run ?? undefined);
  if ((kind === "evaluate" || kind === "rollout") && trained) {
    return { kind, trained, request: run.kind === kind ? { ...request, run: trained } : { run: trained } };
  }
  const catalogue = await loadCatalogue(signal);
  if (kind === "fork") return { kind, catalogue, given: emptySpecification(), base: found.config, fork: { run: from, checkpoint: "" }, trained };
  // what a sweep or another run made has no such request: its configuration is changed
  const isWhole = run.kind === "train" && !("choices" in request) && !run.parent_run;
  return { kind: "train", catalogue, given: specificationOf(isWhole ? request : { config: found.config, seed: run.seed }), base: null, fork: null, trained };
}

/**
 * @param {TrainStart} props `base` is the configuration that a fork changes
 */
function TrainForm({ catalogue, given, base, fork: givenFork }) {
  const [form, setForm] = useState(given);
  const [fork, setFork] = useState(givenFork);
  const [search, setSearch] = useState("");
  const schemas = useSchemas(catalogue, form.choices);
  const [config, setConfig] = useState(base ?? form.config);
  const sections = useMemo(() => sectionsOf(schemas, catalogue, form, config), [schemas, form, config]);
  const environment = shown(form.drafts["env.name"]) || written(config?.["env"]?.name);
  const kwargs = useKwargs(environment, catalogue, form.drafts);
  const nodes = useMemo(() => sections.map((section) => (section.group === "env" && kwargs ? withKwargs(section, kwargs) : section)), [sections, kwargs]);
  const fields = useMemo(() => new Map(nodes.flatMap((section) => flat(section.nodes)).map((node) => [node.key, node])), [nodes]);
  const plainFields = /** @type {Map<string, FieldNode>} */ (new Map([...fields].filter(([, node]) => node.kind === "field")));
  const { body, isSweep } = bodyOf(form, plainFields);
  const composed = useComposed(composeBody(body, base, fork), isSweep);
  useEffect(() => {
    if (composed.answer && "config" in composed.answer) setConfig(composed.answer.config);
  }, [composed.answer]);
  const submission = useSubmission(body, isSweep, fork);

  const others = Object.keys(form.drafts).filter((key) => !fields.has(key));
  const places = new Set([...fields.keys(), ...others, ...GROUPS.map((group) => `choice:${group}`), "seed", "name", "labels", "checkpoint"]);
  const problem = submission.problem ?? composed.problem;
  const mistakes = placed(problem?.errors ?? [], (place) => places.has(place));
  const choose = (/** @type {string} */ group, /** @type {unknown} */ choice) =>
    setForm((now) => ({ ...now, choices: without({ ...now.choices, [group]: choice }) }));
  const change = (/** @type {string} */ key, /** @type {import("./schema_form.js").Draft | undefined} */ draft) => {
    submission.clear();
    setForm((now) => ({ ...now, drafts: without({ ...now.drafts, [key]: draft }) }));
  };
  const suggest = (/** @type {string} */ key, /** @type {Mistake} */ mistake) => {
    const word = mistake.did_you_mean ?? "";
    if (mistake.code !== "unknown_key") return change(key, word);
    return setForm((now) => ({ ...now, drafts: without({ ...now.drafts, [key]: undefined, [renamed(key, word)]: now.drafts[key] }) }));
  };
  /** @type {Form} */
  const shared = { drafts: form.drafts, change, suggest, mistakes, search };
  const set = (/** @type {Partial<Specification>} */ values) => (submission.clear(), setForm((now) => ({ ...now, ...values })));
  const lengths = nodes.flatMap((section) => section.nodes).filter((node) => LENGTHS.includes(node.key));
  const loose = mistakes.get("") ?? [];

  const stack = /** @type {any[]} */ (Array.isArray(form.choices["wrappers"]) ? form.choices["wrappers"] : (config?.["wrappers"] ?? []));
  const restack = (/** @type {any[]} */ entries) => {
    const drafts = Object.fromEntries(Object.entries(form.drafts).filter(([key]) => !key.startsWith("wrappers.")));
    set({ choices: { ...form.choices, wrappers: entries }, drafts });
  };
  const submitByKey = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submission.send(false);
  };
  return html`<div class="new-run" onKeyDown=${submitByKey}>
    <div class="stack">
      ${problem && !problem.errors.length && html`<${ErrorBox} problem=${problem} />`}
      ${loose.length > 0 && html`<div class="error" role="alert"><strong>This cannot work</strong>
        ${loose.map((each) => html`<p>${(each.path ?? each.pointer) && html`<code>${each.path ?? each.pointer}</code> `}${each.message}
          ${each.did_you_mean && html` Did you mean <code>${each.did_you_mean}</code>?`}</p>`)}</div>`}
      ${form.config && html`<p class="hint">Begins with the whole configuration of another run; what you change here takes the place of its values.</p>`}
      ${fork && html`<p class="hint">A new training with the configuration of <a href=${link(["runs", fork.run])}>${fork.run}</a>; what you change here takes the place of its values.</p>
        <${Checkpoint} fork=${fork} change=${setFork} error=${mistakes.get("checkpoint")} />`}
      <section class="card">
        <h2>What</h2>
        <div class="fields">
          <${EnvironmentPicker} environments=${catalogue.environments} form=${shared} standard=${environment} />
          ${["algorithm", "model", "critic", "wrappers", "runner", "env", "experiment", "configuration"].map((group) => html`<${Module}
            group=${group} modules=${catalogue.modules[group] ?? []} chosen=${form.choices[group]} choose=${choose} standard=${standardModule(composed.answer, group)}
            mistakes=${mistakes.get(`choice:${group}`) ?? []} />`)}
          <${Text} label="seed" hint="Makes the run repeatable; drawn when left out. Several, with commas: a run for each." value=${form.seed} change=${(/** @type {string} */ seed) => set({ seed })} mistakes=${mistakes.get("seed")} inputmode="numeric" />
          <${Text} label="name" hint="For you; need not be unique." value=${form.name} change=${(/** @type {string} */ name) => set({ name })} mistakes=${mistakes.get("name")} />
          <${Text} label="labels" hint="One key=value a line." value=${form.labels} change=${(/** @type {string} */ labels) => set({ labels })} mistakes=${mistakes.get("labels")} isLong />
        </div>
      </section>
      <section class="card">
        <h2>How long</h2>
        <p class="hint">In any field for a number, several with commas between them are a sweep: each combination is a run.</p>
        <div class="fields"><${Nodes} nodes=${lengths} form=${{ ...shared, search: "" }} /></div>
      </section>
      <div class="field search"><label for="new-run-search">Search all settings</label>
        <input id="new-run-search" type="search" value=${search} placeholder="lr, clip, evaluation …" onInput=${(/** @type {any} */ event) => setSearch(event.target.value)} /></div>
      ${nodes.map((section) => html`<${Section} key=${section.group} section=${section} form=${shared}>
        ${section.group === "wrappers" && html`<${Wrappers} schema=${catalogue.schema} stack=${stack} change=${restack} />`}
      <//>`)}
      <${Others} keys=${others} form=${shared} />
    </div>
    <aside class="composed" aria-label="Result">
      <${Actions} submission=${submission} isSweep=${isSweep} composed=${composed} isFork=${Boolean(fork)} />
      <${Composed} composed=${composed} useSeed=${(/** @type {number} */ seed) => set({ seed: String(seed) })} hasSeed=${Boolean(form.seed)} />
      <${CopyAs} body=${submission.body} path=${submission.path} isSweep=${isSweep} clientCall=${fork ? `run(${JSON.stringify(fork.run)}).fork` : undefined} />
    </aside>
  </div>`;
}

/** @template T @param {Record<string, T | undefined>} values @returns {Record<string, T>} */
function without(values) {
  return /** @type {Record<string, T>} */ (Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)));
}

/** A fork is composed as its run's configuration with changes. @param {Record<string, any>} body  @param {Record<string, any> | null} base  @param {Fork | null} fork */
function composeBody(body, base, fork) {
  if (!base || !fork) return body;
  const begins = fork.checkpoint ? { "initial.run": fork.run, "initial.checkpoint": fork.checkpoint } : {};
  return { ...body, config: base, overrides: { ...begins, ...body["overrides"] } };
}

/**
 * The schema of each section: of the module that is chosen, of the experiment's choice, or of the standard one.
 * @param {Catalogue} catalogue
 * @param {Record<string, unknown>} choices
 */
function useSchemas(catalogue, choices) {
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
function sectionsOf(schemas, catalogue, form, composed) {
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
function useKwargs(name, catalogue, drafts) {
  const isKnown = catalogue.environments.some((each) => each.id === name && each.is_available);
  const detail = useResource(async (signal) => (isKnown ? get("/v1/environments/{env_id}", { env_id: name }, { signal }) : null), [name, isKnown]).data;
  return useMemo(() => (detail?.open_kwargs?.length ? nodesOf("env.kwargs", kwargsSchema(detail), {}, undefined, drafts) : null), [detail, drafts]);
}

/** @param {SectionNodes} section  @param {Node[]} kwargs @returns {SectionNodes} */
function withKwargs(section, kwargs) {
  return { ...section, nodes: section.nodes.flatMap((node) => (node.key === "env.kwargs" ? kwargs : [node])) };
}

/**
 * What the service makes of a body, a moment after it last changed; the last answer stays while the next is awaited.
 * @param {Record<string, any>} body
 * @param {boolean} isSweep
 */
function useComposed(body, isSweep) {
  const text = JSON.stringify(body);
  const settled = useSettled(text, COMPOSE_AFTER_MS);
  const { data, problem } = useResource(
    /** @returns {Promise<import("../openapi.d.ts").Schemas["ComposedOut"] | import("../openapi.d.ts").Schemas["PreviewOut"]>} */
    (signal) => isSweep
      ? post("/v1/sweeps/preview", {}, JSON.parse(settled), { signal })
      : post("/v1/config/compose", { provenance: true }, JSON.parse(settled), { signal }),
    [settled, isSweep],
  );
  const last = useRef(data);
  const lastProblem = useRef(problem);
  const isFresh = settled === text && Boolean(data || problem);
  if (data) last.current = data;
  if (data || problem) lastProblem.current = problem;
  return { answer: last.current, problem: lastProblem.current, isFresh };
}

/**
 * Sends the form. A key stands for what it says now, so that a double click makes one run.
 * @param {Record<string, any>} given
 * @param {boolean} isSweep
 * @param {Fork | null} fork
 */
function useSubmission(given, isSweep, fork) {
  const body = fork?.checkpoint ? { ...given, checkpoint: fork.checkpoint } : given;
  const path = fork ? `/v1/runs/${encodeURIComponent(fork.run)}/fork` : isSweep ? "/v1/sweeps" : "/v1/train";
  const keyOf = useSentKey();
  const { run: send, isBusy, problem, clear } = useAction(async (/** @type {boolean} */ isSmoke) => {
    const options = { headers: { "idempotency-key": keyOf(JSON.stringify([path, isSmoke, body])) } };
    const sent = /** @type {any} */ (body);
    if (isSweep && !fork) return navigate(link(["sweeps", (await post("/v1/sweeps", {}, sent, options)).id]));
    const made = fork
      ? await post("/v1/runs/{run_id}/fork", { run_id: fork.run }, sent, options)
      : await call("post", "/v1/train", isSmoke ? { smoke: true } : {}, sent, options);
    return navigate(link(["runs", made.id]));
  });
  return { body, path, send, isBusy, problem, clear };
}

/** Which module is taken where none is chosen. @param {any} answer  @param {string} group @returns {string} */
function standardModule(answer, group) {
  const part = group === "critic" ? "model.critic" : group;
  const origins = Object.entries(answer?.provenance ?? {}).filter(([key]) => key === part || key.startsWith(`${part}.`));
  const names = origins.map(([, origin]) => String(/** @type {any} */ (origin).name));
  return names.find((name) => name.startsWith(`${group}/`))?.split("/")[1] ?? "";
}

/** @param {{ group: string, modules: string[], chosen: unknown, standard: string, choose: (group: string, choice: unknown) => void, mistakes: Mistake[] }} props */
function Module({ group, modules, chosen, standard, choose, mistakes }) {
  const name = { env: "kind of environment" }[group] ?? group;
  const isNone = group === "experiment" || group === "configuration";
  const text = typeof chosen === "string" ? chosen : chosen === undefined ? "" : OWN;
  const suggestions = html`<${Mistakes} id="${group}-mistakes" mistakes=${mistakes} take=${(/** @type {Mistake} */ mistake) => choose(group, mistake.did_you_mean)} />`;
  return html`<${Field} label=${name} error=${mistakes.length ? suggestions : undefined} hint=${text === OWN ? written(chosen) : undefined}>
    ${(/** @type {object} */ attributes) => html`<select ...${attributes} value=${text}
      onChange=${(/** @type {any} */ event) => choose(group, event.target.value || undefined)}>
      <option value="">${isNone ? "none" : `${(chosen === undefined && standard) || (group === "critic" ? "that of the model" : "")} (default)`}</option>
      ${modules.map((module) => html`<option value=${module}>${module}</option>`)}
      ${text && !modules.includes(text) && html`<option value=${text}>${text}</option>`}
    </select>`}
  <//>`;
}

/** @param {{ label: string, hint: string, value: string, change: (text: string) => void, mistakes?: Mistake[], isLong?: boolean, inputmode?: string }} props */
function Text({ label, hint, value, change, mistakes, isLong, inputmode }) {
  return html`<${Field} label=${label} hint=${hint} error=${mistakes?.map((each) => each.message).join(" ")}>
    ${(/** @type {object} */ attributes) => html`<${isLong ? "textarea" : "input"} ...${attributes} value=${value} rows=${isLong ? 2 : undefined}
      inputmode=${inputmode} autocomplete="off" onInput=${(/** @type {any} */ event) => change(event.target.value)} />`}
  <//>`;
}

/** @param {{ fork: Fork, change: (fork: Fork) => void, error?: Mistake[] }} props */
function Checkpoint({ fork, change, error }) {
  const { data } = useResource((signal) => get("/v1/runs/{run_id}/checkpoints", { run_id: fork.run }, { signal }), [fork.run]);
  const epochs = (data?.data ?? []).map((each) => `epoch:${each.epoch}`);
  return html`<${Field} label="begins with" error=${error?.map((each) => each.message).join(" ")}>
    ${(/** @type {object} */ attributes) => html`<select ...${attributes} value=${fork.checkpoint} onChange=${(/** @type {any} */ event) => change({ ...fork, checkpoint: event.target.value })}>
      <option value="">fresh weights</option>
      ${["best", "last", ...new Set(epochs)].map((name) => html`<option value=${name}>${name}</option>`)}
    </select>`}
  <//>`;
}

/** The stack, next to the environment first: taken from and added to. What was changed in it is put back.
 * @param {{ schema: Schema, stack: any[], change: (stack: any[]) => void }} props */
function Wrappers({ schema, stack, change }) {
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
function Section({ section, form, children }) {
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

/** Values of keys that the form has no field for, and a way to give one. @param {{ keys: string[], form: Form }} props */
function Others({ keys, form }) {
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

/** @param {{ submission: ReturnType<typeof useSubmission>, isSweep: boolean, isFork: boolean, composed: ReturnType<typeof useComposed> }} props */
function Actions({ submission, isSweep, isFork, composed }) {
  const { send, isBusy } = submission;
  const jobs = composed.answer && "n_jobs" in composed.answer ? composed.answer.n_jobs : null;
  return html`<div class="actions row">
    <button class="primary" disabled=${isBusy} aria-busy=${isBusy} title="Ctrl+Enter" onClick=${() => send(false)}>
      ${isSweep ? `Start a sweep of ${jobs ?? "several"} runs` : isFork ? "Fork" : "Train"}</button>
    ${!isSweep && !isFork && html`<button disabled=${isBusy} title="Seconds: builds everything, makes a few updates, keeps nothing" onClick=${() => send(true)}>Try out</button>`}
    <span role="status">${isBusy ? "Sending …" : !composed.isFresh ? "Composing …" : composed.problem ? html`<span class="field-error">✕ ${composed.problem.message}</span>` : "✓ This works."}</span>
  </div>`;
}

/** What would run. @param {{ composed: ReturnType<typeof useComposed>, useSeed: (seed: number) => void, hasSeed: boolean }} props */
function Composed({ composed, useSeed, hasSeed }) {
  const [filter, setFilter] = useState("");
  const { answer } = composed;
  const isOld = composed.problem !== null;
  if (!answer) return null;
  if ("jobs" in answer) {
    return html`<section class=${isOld ? "old" : ""}><h2>${answer.n_jobs} runs</h2>
      <ol class="jobs" start="0">${answer.jobs.slice(0, 50).map((job) => html`<li><code>${Object.entries(job.choices).map(([key, value]) => `${key}=${written(value)}`).join(" ")}</code></li>`)}</ol>
      ${answer.n_jobs > 50 && html`<p class="hint">… and ${answer.n_jobs - 50} more.</p>`}
    </section>`;
  }
  const origins = Object.entries(answer.provenance ?? {});
  const rows = origins.map(([key, origin]) => ({ key, value: written(valueAt(answer.config, key)), origin: [origin.source, origin.name].filter(Boolean).join(" ") }))
    .filter(({ key, value, origin }) => `${key} ${value} ${origin}`.toLowerCase().includes(filter.toLowerCase()));
  return html`<section class=${isOld ? "old" : ""}>
    <h2>What would run</h2>
    ${isOld && html`<p class="hint">As it was before the last mistake.</p>`}
    <dl class="facts"><div><dt>config_sha256</dt><dd><code data-digest>${answer.config_sha256}</code></dd></div>
      <div><dt>seed</dt><dd>${answer.seed} ${!hasSeed && html`<button type="button" class="quiet small" onClick=${() => useSeed(answer.seed)}>drawn; keep it</button>`}</dd></div></dl>
    <details><summary>${origins.length} values and where they come from</summary>
      <input aria-label="Filter the values" value=${filter} placeholder="filter" onInput=${(/** @type {any} */ event) => setFilter(event.target.value)} />
      <div class="scroll values" tabindex="0" role="region" aria-label="Values"><table><tbody>
        ${rows.map(({ key, value, origin }) => html`<tr><th scope="row" class="mono">${key}</th><td class="mono">${value}</td><td>${origin}</td></tr>`)}
      </tbody></table></div>
    </details>
  </section>`;
}

/** @param {any} tree  @param {string} path */
function valueAt(tree, path) {
  return path.split(".").reduce((value, key) => value?.[key], tree);
}
