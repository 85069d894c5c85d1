/** The form of a training: what is chosen and changed, composed as it is typed, each mistake where it was made. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { get } from "../api.js";
import { useKept, useResource } from "../hooks.js";
import { html } from "../html.js";
import { link } from "../router.js";
import { ErrorBox, Field } from "../ui.js";
import { Actions, Composed, useComposed, useSubmission } from "./composed.js";
import { CopyAs } from "./copy_as.js";
import { EnvironmentPicker } from "./environment_picker.js";
import { flat, Mistakes, Nodes, shown, written } from "./schema_form.js";
import { namesOf } from "./known_names.js";
import { bodyOf, GROUPS, LENGTHS, placed, renamed } from "./specification.js";
import { DATASET, Dataset, Others, Section, sectionsOf, useKwargs, useSchemas, withKwargs, Wrappers } from "./train_sections.js";

/** @typedef {import("./schema_form.js").Draft} Draft */
/** @typedef {import("./schema_form.js").Form} Form */
/** @typedef {import("./schema_form.js").Mistake} Mistake */
/** @typedef {import("./specification.js").Specification} Specification */
/** @typedef {import("./new_run.js").Catalogue} Catalogue */
/** @typedef {import("./new_run.js").Fork} Fork */
/** @typedef {ReturnType<typeof useForm>} FormState */

/** What stands for a group that is written out. */
const OWN = "as written here";
const CHOSEN = ["algorithm", "model", "critic", "wrappers", "runner", "env", "experiment", "configuration"];

/** @param {import("./new_run.js").TrainStart} props `base` is the configuration that a fork changes */
export function TrainForm({ catalogue, given, base, fork: givenFork }) {
  const state = useForm(given);
  const { form } = state;
  const [fork, setFork] = useKept("fork", givenFork);
  const [search, setSearch] = useState("");
  const [config, setConfig] = useState(base ?? form.config);
  const [several, setSeveral] = useState(/** @type {unknown} */ (undefined)); // the experiment that is several runs
  const { nodes, fields, environment } = useFields(catalogue, form, config);
  // unless somebody decides, what is known to show itself is filmed where a worker can
  const films = form.films ?? (!fork && catalogue.canFilm && namesOf(environment).observations.length > 0);
  const isSweepAnyway = several !== undefined && several === form.choices["experiment"];
  const { body, isSweep, mistakes: own } = bodyOf({ ...form, films }, fields, { isSweepAnyway, isFork: Boolean(fork) });
  const composed = useComposed(composeBody(body, base, fork), isSweep);
  const submission = useSubmission(body, isSweep, fork);
  const problem = submission.problem ?? composed.problem;
  useEffect(() => {
    if (composed.answer && "config" in composed.answer) setConfig(composed.answer.config);
  }, [composed.answer]);
  useEffect(() => {
    if (composed.problem?.errors.some((each) => each.code === "needs_multirun")) setSeveral(form.choices["experiment"]);
  }, [composed.problem]);
  useEffect(submission.clear, [form]);

  const others = Object.keys(form.drafts).filter((key) => !fields.has(key) && key !== DATASET);
  const places = new Set([...fields.keys(), ...others, ...GROUPS.map((group) => `choice:${group}`), "seed", "name", "labels", "videos", "checkpoint", DATASET]);
  const isPlace = (/** @type {string} */ place) => places.has(place);
  const mistakes = new Map([...placed(problem?.errors ?? [], isPlace), ...placed(own, isPlace)]);
  /** @type {Form} */
  const shared = { drafts: form.drafts, change: state.change, suggest: state.suggest, mistakes, search };
  const lengths = nodes.flatMap((section) => section.nodes).filter((node) => LENGTHS.includes(node.key));
  const stack = Array.isArray(form.choices["wrappers"]) ? form.choices["wrappers"] : (config?.["wrappers"] ?? []);
  const submitByKey = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !own.length) submission.send(false);
  };
  return html`<div class="new-run" onKeyDown=${submitByKey}>
    <div class="stack">
      ${problem && !problem.errors.length && html`<${ErrorBox} problem=${problem} retry=${submission.problem ? undefined : composed.retry} />`}
      <${Loose} mistakes=${mistakes.get("") ?? []} />
      ${form.config && html`<p class="hint">Begins with the whole configuration of another run; what you change here takes the place of its values.</p>`}
      ${fork && html`<${Checkpoint} fork=${fork} change=${setFork} error=${mistakes.get("checkpoint")} />`}
      <section class="card">
        <h2>What</h2>
        <div class="fields">
          <${EnvironmentPicker} environments=${catalogue.environments} form=${shared} standard=${environment}
            module=${form.choices["env"]} chooseModule=${(/** @type {string | undefined} */ module) => state.choose("env", module)} />
          ${form.choices["experiment"] !== undefined && form.drafts["env.name"] !== undefined && html`<p class="hint">The environment that you chose takes the place of the one that the experiment names; put it back (↺) to train in that one.</p>`}
          ${(form.drafts[DATASET] !== undefined || mistakes.has(DATASET) || config?.["dataset"]) && html`<${Dataset} form=${shared} standard=${config?.["dataset"]?.run} />`}
          ${CHOSEN.map((group) => html`<${Module} group=${group} modules=${catalogue.modules[group] ?? []} chosen=${form.choices[group]}
            choose=${state.choose} standard=${standardModule(composed.answer, group)} mistakes=${mistakes.get(`choice:${group}`) ?? []} />`)}
          <${Names} state=${state} mistakes=${mistakes} isFork=${Boolean(fork)} />
          <${FilmsBox} isOn=${films && !isSweep} isSweep=${isSweep} change=${(/** @type {boolean} */ films) => state.set({ films })} mistakes=${mistakes.get("videos")} />
        </div>
      </section>
      <section class="card">
        <h2>How long</h2>
        ${!fork && html`<p class="hint">In any field for a number, several with commas between them are a sweep: each combination is a run.</p>`}
        <div class="fields"><${Nodes} nodes=${lengths} form=${{ ...shared, search: "" }} /></div>
      </section>
      <div class="field search"><label for="new-run-search">Search all settings</label>
        <input id="new-run-search" type="search" value=${search} placeholder="lr, clip, evaluation …" onInput=${(/** @type {any} */ event) => setSearch(event.target.value)} /></div>
      ${nodes.map((section) => html`<${Section} key=${section.group} section=${section} form=${shared}>
        ${section.group === "wrappers" && html`<${Wrappers} schema=${catalogue.schema} stack=${stack} change=${state.restack} />`}
      <//>`)}
      <${Others} keys=${others} form=${shared} />
    </div>
    <aside class="composed" aria-label="Result">
      <${Actions} submission=${submission} isSweep=${isSweep} composed=${composed} isFork=${Boolean(fork)} mistake=${own[0]?.message} />
      <${Composed} composed=${composed} useSeed=${(/** @type {number} */ seed) => state.set({ seed: String(seed) })} hasSeed=${Boolean(form.seed)} />
      <${CopyAs} body=${submission.body} path=${submission.path} isSweep=${isSweep} clientCall=${fork ? `run(${JSON.stringify(fork.run)}).fork` : undefined} />
    </aside>
  </div>`;
}

/** What is filled in, and the ways in which it changes. @param {Specification} given */
function useForm(given) {
  const [form, setForm] = useKept("form", given);
  const set = (/** @type {Partial<Specification>} */ values) => setForm((now) => ({ ...now, ...values }));
  const draft = (/** @type {Record<string, Draft | undefined>} */ changes) => setForm((now) => ({ ...now, drafts: without({ ...now.drafts, ...changes }) }));
  return {
    form,
    set,
    choose: (/** @type {string} */ group, /** @type {unknown} */ choice) => setForm((now) => ({ ...now, choices: without({ ...now.choices, [group]: choice }) })),
    change: (/** @type {string} */ key, /** @type {Draft | undefined} */ value) => draft({ [key]: value }),
    suggest: (/** @type {string} */ key, /** @type {Mistake} */ mistake) => {
      const word = mistake.did_you_mean ?? "";
      draft(mistake.code === "unknown_key" ? { [key]: undefined, [renamed(key, word)]: form.drafts[key] } : { [key]: word });
    },
    restack: (/** @type {unknown[]} */ wrappers) => {
      const drafts = Object.fromEntries(Object.entries(form.drafts).filter(([key]) => !key.startsWith("wrappers.")));
      set({ choices: { ...form.choices, wrappers }, drafts });
    },
  };
}

/** The sections with their fields, and the environment that is chosen. @param {Catalogue} catalogue  @param {Specification} form  @param {Record<string, any> | null} config */
function useFields(catalogue, form, config) {
  const schemas = useSchemas(catalogue, form.choices);
  const environment = shown(form.drafts["env.name"]).trim() || written(config?.["env"]?.name);
  const kwargs = useKwargs(environment, catalogue, form.drafts);
  const nodes = useMemo(
    () => sectionsOf(schemas, catalogue, form, config).map((section) => (section.group === "env" && kwargs ? withKwargs(section, kwargs) : section)),
    [schemas, form, config, kwargs],
  );
  const fields = useMemo(() => new Map(nodes.flatMap((section) => flat(section.nodes)).map((node) => [node.key, node])), [nodes]);
  return { nodes, fields, environment };
}

/** Mistakes of no field. @param {{ mistakes: Mistake[] }} props */
function Loose({ mistakes }) {
  if (!mistakes.length) return null;
  return html`<div class="error" role="alert"><strong>This cannot work</strong>
    ${mistakes.map((each) => html`<p>${(each.path ?? each.pointer) && html`<code>${each.path ?? each.pointer}</code> `}${each.message}
      ${each.did_you_mean && html` Did you mean <code>${each.did_you_mean}</code>?`}</p>`)}
  </div>`;
}

/** @param {{ state: FormState, mistakes: Map<string, Mistake[]>, isFork: boolean }} props */
function Names({ state: { form, set }, mistakes, isFork }) {
  return html`
    <${Text} label="seed" hint="Makes the run repeatable; drawn when left out.${isFork ? "" : " Several, with commas: a run for each."}" value=${form.seed}
      change=${(/** @type {string} */ seed) => set({ seed })} mistakes=${mistakes.get("seed")} inputmode="numeric" />
    <${Text} label="name" hint="For you; need not be unique." value=${form.name} change=${(/** @type {string} */ name) => set({ name })} mistakes=${mistakes.get("name")} />
    <${Text} label="labels" hint="One key=value a line." value=${form.labels} change=${(/** @type {string} */ labels) => set({ labels })} mistakes=${mistakes.get("labels")} isLong />`;
}

/** @param {{ isOn: boolean, isSweep: boolean, change: (isOn: boolean) => void, mistakes: Mistake[] | undefined }} props */
function FilmsBox({ isOn, isSweep, change, mistakes }) {
  return html`<div class="field"><label class="check"><input type="checkbox" checked=${isOn} disabled=${isSweep}
      onChange=${(/** @type {any} */ event) => change(event.currentTarget.checked)} />film what it learns</label>
    <small>${isSweep ? "Runs of a sweep are not filmed." : "Before it learns, on the way and at its best; the environment has to show itself. No number changes."}</small>
    ${mistakes?.map((each) => html`<small class="field-error">${each.message}</small>`)}</div>`;
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
  return html`<p class="hint">A new training with the configuration of <a href=${link(["runs", fork.run])}>${fork.run}</a>; what you change here takes the place of its values.</p>
  <${Field} label="begins with" error=${error?.map((each) => each.message).join(" ")}>
    ${(/** @type {object} */ attributes) => html`<select ...${attributes} value=${fork.checkpoint} onChange=${(/** @type {any} */ event) => change({ ...fork, checkpoint: event.target.value })}>
      <option value="">fresh weights</option>
      ${["best", "last", ...new Set(epochs)].map((name) => html`<option value=${name}>${name}</option>`)}
    </select>`}
  <//>`;
}
