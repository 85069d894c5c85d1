/** New run: what a form begins with, by its address: fresh, a run's own request, its fork, its evaluation or rollout. */
import { get, Problem } from "../api.js";
import { useResource } from "../hooks.js";
import { html } from "../html.js";
import { link } from "../router.js";
import { Loaded } from "../ui.js";
import { ActForm } from "./act_form.js";
import { moduleFor } from "./environment_picker.js";
import { canBeginAnother, emptySpecification, specificationOf } from "./specification.js";
import { TrainForm } from "./train_form.js";

/** @typedef {import("./schema_form.js").Schema} Schema */
/** @typedef {import("./specification.js").Specification} Specification */
/** @typedef {Awaited<ReturnType<typeof loadCatalogue>>} Catalogue */
/** Of a run that is forked: its id, and the checkpoint that the new one begins with.
 * @typedef {{ run: string, checkpoint: string }} Fork */

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
  const [schema, groups, environments, workers] = await Promise.all([
    get("/v1/config/schema", {}, { signal }),
    get("/v1/config/groups", {}, { signal }),
    get("/v1/environments", {}, { signal }),
    get("/v1/workers", {}, { signal }).catch(() => ({ data: [] })), // not everybody may see them
  ]);
  const canFilm = workers.data.some(({ extras }) => extras.includes("video"));
  const modules = Object.fromEntries(groups.data.map((row) => [row.group, row.modules]));
  return { schema: /** @type {Schema} */ (schema), modules: /** @type {Record<string, string[]>} */ (modules), environments: environments.data, canFilm };
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
    const choices = moduleFor(catalogue.environments.find(({ id }) => id === env));
    return { kind: "train", catalogue, given: env ? { ...given, choices, drafts: { "env.name": { value: env } } } : given, base: null, fork: null };
  }
  const [run, found] = await Promise.all([
    get("/v1/runs/{run_id}", { run_id: from }, { signal }),
    get("/v1/runs/{run_id}/config", { run_id: from }, { signal }),
  ]);
  if (!asked && !canBeginAnother(run)) throw new Problem({ code: "no_form", detail: `Run ${from} is no training and plays no trained run's policy, so the form cannot make another of it.` });
  const request = /** @type {Record<string, any>} */ (found.request);
  const kind = asked ?? run.kind;
  const trained = run.kind === "train" || run.kind === "import" ? from : (run.source_run ?? undefined);
  if ((kind === "evaluate" || kind === "rollout") && trained) {
    return { kind, trained, request: run.kind === kind ? { ...request, run: trained } : { run: trained } };
  }
  const catalogue = await loadCatalogue(signal);
  if (kind === "fork") return { kind, catalogue, given: emptySpecification(), base: found.config, fork: { run: from, checkpoint: "" }, trained };
  // what a sweep or another run made has no such request: its configuration is changed
  const isWhole = run.kind === "train" && !("choices" in request) && !run.parent_run;
  return { kind: "train", catalogue, given: specificationOf(isWhole ? request : { config: found.config, seed: run.seed }), base: null, fork: null, trained };
}
