/** Environments: what can be trained on here, what is missing and how to get it; one with its spaces and arguments. */
import { get } from "../api.js";
import { number, plain } from "../format.js";
import { useResource } from "../hooks.js";
import { html } from "../html.js";
import { link, replaceQuery } from "../router.js";
import { Space } from "../spaces.js";
import { CopyButton, Empty, Facts, Field, Loaded, State } from "../ui.js";

/** @typedef {import("../openapi.d.ts").Schemas["EnvironmentSummaryOut"]} Summary */
/** @typedef {import("../openapi.d.ts").Environment} Environment */

const SHOWN = 200;
/** How environments stand, in the order in which they are listed, and the state as which each is drawn. */
const STATUS = { trainable: "ok", unknown: "queued", "not trainable": "warning", missing: "failed" };
const ORDER = Object.keys(STATUS);

/** @param {{ route: import("../router.js").Route }} props */
export function View({ route }) {
  const id = route.parts.slice(1).join("/");
  return id ? html`<${One} key=${id} id=${id} />` : html`<${List} query=${route.query} />`;
}

/** Whether a policy can be trained there, in a word. @param {Summary} environment @returns {keyof STATUS} */
function standing({ is_available, is_trainable }) {
  if (!is_available) return "missing";
  return is_trainable === null ? "unknown" : is_trainable ? "trainable" : "not trainable";
}

/** What can be used comes first, then what can be installed. @param {Summary} a  @param {Summary} b */
function byUse(a, b) {
  const rank = (/** @type {Summary} */ each) => ORDER.indexOf(standing(each)) + (each.is_available || each.install ? 0 : 1);
  return rank(a) - rank(b);
}

/** @param {{ query: URLSearchParams }} props */
function List({ query }) {
  const resource = useResource(async (signal) => (await get("/v1/environments", {}, { signal })).data.sort(byUse), []);
  return html`<div class="stack">
    <h1>Environments</h1>
    <${Loaded} resource=${resource} what="the environments">
      ${(/** @type {Summary[]} */ all) =>
        all.length
          ? html`<${Chosen} all=${all} query=${query} />`
          : html`<${Empty} title="No environment is known yet">
              <p>A worker says which it has within seconds of its start. <a href=${link(["system"])}>Look at the workers</a>.</p>
              <button onClick=${resource.reload}>Look again</button>
            <//>`}
    <//>
  </div>`;
}

/** @param {{ all: Summary[], query: URLSearchParams }} props */
function Chosen({ all, query }) {
  const [text, status, source] = ["q", "status", "source"].map((name) => query.get(name) ?? "");
  const words = (text ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const found = all.filter(
    (each) =>
      words.every((word) => each.id.toLowerCase().includes(word)) &&
      (!status || standing(each) === status) &&
      (!source || each.source === source),
  );
  const shown = query.get("all") ? found : found.slice(0, SHOWN);
  return html`
    <form class="filters" role="search" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <${Field} label="Search">${(/** @type {object} */ about) => html`<input ...${about} type="search" value=${text} placeholder="CartPole"
        onInput=${(/** @type {any} */ event) => replaceQuery({ q: event.target.value })} />`}<//>
      <${Choice} label="State" name="status" value=${status} options=${ORDER} />
      <${Choice} label="Source" name="source" value=${source} options=${[...new Set(all.map(({ source }) => source))].sort()} />
      <p class="hint" role="status">${found.length} of ${all.length}</p>
    </form>
    ${found.length === 0 &&
    html`<${Empty} title="None is like this">
      <button onClick=${() => replaceQuery({ q: "", status: "", source: "" })}>Show all</button>
    <//>`}
    ${found.length > 0 && html`<table class="stacking">
      <thead><tr><th scope="col">Environment</th><th scope="col">State</th><th scope="col">Source</th><th scope="col">What to do</th></tr></thead>
      <tbody>${shown.map((each) => html`<${Row} key=${each.source + each.id} environment=${each} />`)}</tbody>
    </table>`}
    ${shown.length < found.length && html`<button onClick=${() => replaceQuery({ all: 1 })}>Show all ${found.length}</button>`}
  `;
}

/** @param {{ label: string, name: string, value: string, options: string[] }} props */
function Choice({ label, name, value, options }) {
  return html`<${Field} label=${label}>${(/** @type {object} */ about) => html`<select ...${about} value=${value}
    onChange=${(/** @type {any} */ event) => replaceQuery({ [name]: event.target.value })}>
    <option value="">all</option>${options.map((option) => html`<option key=${option} value=${option}>${option}</option>`)}
  </select>`}<//>`;
}

/** @param {{ environment: Summary }} props */
function Row({ environment }) {
  const how = standing(environment);
  return html`<tr>
    <th scope="row"><a href=${link(["environments", ...environment.id.split("/")])}>${environment.id}</a></th>
    <td data-label="State"><${Standing} how=${how} /></td>
    <td data-label="Source">${environment.source}</td>
    <td data-label="To do"><${Missing} environment=${environment} />${how === "trainable" && html`<${TrainLink} id=${environment.id} />`}</td>
  </tr>`;
}

/** @param {{ how: keyof STATUS }} props */
function Standing({ how }) {
  return html`<${State} state=${STATUS[how]} word=${how} />`;
}

/** @param {{ id: string }} props */
function TrainLink({ id }) {
  return html`<a href=${link(["new"], { env: id })}>Train on it</a>`;
}

/** Why it cannot be used, and the command that helps. @param {{ environment: Summary }} props */
function Missing({ environment: { reason, install } }) {
  return html`${install && html`<span class="row"><code>${install}</code><${CopyButton} text=${install} /></span>`}
    ${reason && html`<span class="hint">${reason}</span>`}`;
}

/** @param {{ id: string }} props */
function One({ id }) {
  const resource = useResource((signal) => get("/v1/environments/{env_id}", { env_id: id }, { signal }), [id]);
  return html`<div class="stack">
    <p><a href=${link(["environments"])}>Environments</a></p>
    <${Loaded} resource=${resource} what=${`environment ${id}`}>
      ${(/** @type {Environment} */ environment) => html`<${Details} environment=${environment} />`}
    <//>
  </div>`;
}

/** @param {{ environment: Environment }} props */
function Details({ environment }) {
  const how = standing(environment);
  const { observation_space, action_space, sub_steps, kwargs, open_kwargs } = environment;
  const acted = /** @type {any[]} */ (sub_steps ?? [{ observation: observation_space, action: action_space }]);
  return html`
    <header class="row spread">
      <div class="row"><h1>${environment.id}</h1><${Standing} how=${how} /></div>
      ${how === "trainable" && html`<a class="button primary" href=${link(["new"], { env: environment.id })}>Train on it</a>`}
    </header>
    ${(environment.reason || environment.install) && html`<div class="warning"><${Missing} environment=${environment} /></div>`}
    <section class="card" aria-label="Limits"><${Facts} facts=${[
      ["Source", environment.source],
      ["Episode ends after", environment.max_episode_steps === null ? "no fixed number of steps" : `${number(environment.max_episode_steps)} steps`],
      ["Solved from a mean return of", environment.reward_threshold === null ? "not said" : number(environment.reward_threshold)],
      ["Workers that offer it", environment.workers.length ? environment.workers.join(", ") : "none is alive"],
    ]} /></section>
    ${acted.map(({ step_key, agents, observation, action }, index) => html`<div class="grid" key=${index}>
      <section class="card" aria-labelledby="sees-${index}"><h2 id="sees-${index}">What an agent sees</h2>
        ${agents !== undefined && html`<p class="hint">Sub-step ${String(step_key)}, ${agents === 1 ? "1 agent" : `${number(agents)} agents`}</p>`}<${Space} space=${observation} /></section>
      <section class="card" aria-labelledby="does-${index}"><h2 id="does-${index}">What it does</h2><${Space} space=${action} /></section>
    </div>`)}
    <section class="card" aria-labelledby="arguments">
      <h2 id="arguments">Arguments</h2>
      ${Object.keys(kwargs).length === 0 && html`<p class="hint">Its constructor takes none.</p>`}
      ${Object.keys(kwargs).length > 0 && html`<table class="stacking">
        <thead><tr><th scope="col">Name</th><th scope="col">Default</th><th scope="col">Given over HTTP</th></tr></thead>
        <tbody>${Object.entries(kwargs).map(([name, value]) => html`<tr key=${name}>
          <th scope="row"><code>${name}</code></th><td data-label="Default"><code>${plain(value)}</code></td>
          <td data-label="Over HTTP">${open_kwargs.includes(name) ? html`<code>env.kwargs.${name}</code>` : "by the operator's files alone"}</td>
        </tr>`)}</tbody>
      </table>`}
    </section>`;
}
