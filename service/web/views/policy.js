/** One policy: its versions, its aliases with their history, the gate before them, and every change of these. */
import { useEffect, useState } from "preact/hooks";
import { address, call, get, isOnline, listed, post, Problem } from "../api.js";
import { curlHere } from "../curl.js";
import { ago, isolated, moment, number } from "../format.js";
import { useInterval, useResource, useSettled } from "../hooks.js";
import { html } from "../html.js";
import { link } from "../router.js";
import { element } from "../spaces.js";
import { ActionButton, CopyButton, Empty, Field, FormDialog, Loaded } from "../ui.js";
import { aliasOf, History, MoveDialog, RollbackDialog, tagged, unlessGone } from "./promotion.js";

/** @typedef {import("../openapi.d.ts").Policy} Policy */
/** @typedef {import("../openapi.d.ts").PolicyVersion} Version */
/** @typedef {import("../openapi.d.ts").PolicyAlias} Alias */
/** @typedef {{ policy: Policy, versions: Version[], aliases: Alias[] }} Seen */

const RELOAD_MS = 5000;
const PAGE = 25;
const GATE_CHANGED = "Somebody has changed the gate since this was opened: close, look at it, then change it again.";
const TEXT_CHANGED = "Somebody has changed the description since this was opened: close, look at it, then change it again.";

/** @param {{ name: string }} props */
export function OnePolicy({ name }) {
  const [most, setMost] = useState(PAGE);
  const resource = useResource((signal) => load(name, most, signal), [name, most]);
  useInterval(() => isOnline() && resource.data && resource.reload(), RELOAD_MS);
  return html`<div class="stack">
    <p><a href=${link(["policies"])}>Policies</a></p>
    <${Loaded} resource=${resource} what=${`policy ${name}`}>
      ${(/** @type {Seen} */ seen) => html`<${Shown} ...${seen} reload=${resource.reload} hasMore=${seen.versions.length >= most} more=${() => setMost(most + 4 * PAGE)} />`}
    <//>
  </div>`;
}

/** @param {string} name  @param {number} most  @param {AbortSignal} signal @returns {Promise<Seen>} */
async function load(name, most, signal) {
  const limit = Math.min(most, 200);
  const [policy, versions] = await Promise.all([
    get("/v1/policies/{name}", { name }, { signal }),
    listed((cursor) => get("/v1/policies/{name}/versions", { name, cursor, limit }, { signal }), most),
  ]);
  const aliases = await Promise.all(Object.keys(policy.aliases).map((alias) => aliasOf(name, alias, signal)));
  return { policy, versions, aliases: aliases.filter((alias) => alias !== null) };
}

/** @param {Seen & { reload: () => void, hasMore: boolean, more: () => void }} props */
function Shown({ policy, versions, aliases, reload, hasMore, more }) {
  /** Which dialog is open. */
  const [open, setOpen] = useState(/** @type {{ what: string, alias?: Alias, version?: number } | null} */ (null));
  const close = () => {
    setOpen(null);
    reload();
  };
  const remove = async () => {
    await call("delete", "/v1/policies/{name}", { name: policy.name });
    return link(["policies"]);
  };
  return html`
    <header class="row spread">
      <h1>${policy.name}</h1>
      <div class="row">
        <button class="primary" onClick=${() => setOpen({ what: "add" })}>Add a version</button>
        <button disabled=${!versions.length} onClick=${() => setOpen({ what: "move" })}>New alias</button>
        <button onClick=${() => setOpen({ what: "edit" })}>Edit</button>
        ${versions.length === 0 && html`<${ActionButton} kind="danger" confirm="Delete it for good?" action=${remove}>Delete<//>`}
      </div>
    </header>
    ${policy.description && html`<p class="clamp" title=${policy.description}>${policy.description}</p>`}
    <p class="hint">${gateInWords(policy)}</p>
    ${versions.length === 0 && html`<${Empty} title="It has no version yet">
      <p>A version is a checkpoint of a run under a number; it is kept as long as the version is there.</p>
      <button class="primary" onClick=${() => setOpen({ what: "add" })}>Add a version</button>
    <//>`}
    ${aliases.length > 0 && html`<section aria-labelledby="aliases"><h2 id="aliases">Aliases</h2>
      <div class="grid">${aliases.map((alias) => html`<${AliasCard} key=${alias.alias} alias=${alias} policy=${policy} versions=${versions}
        open=${(/** @type {string} */ what) => setOpen({ what, alias })} reload=${reload} />`)}</div></section>`}
    ${versions.length > 0 && html`<section aria-labelledby="versions"><h2 id="versions">Versions</h2>
      <${Versions} policy=${policy} versions=${versions} reload=${reload} move=${(/** @type {number} */ version) => setOpen({ what: "move", version })} />
      ${hasMore && html`<button onClick=${more}>Show more</button>`}</section>`}
    ${open?.what === "add" && html`<${AddVersion} policy=${policy} close=${close} />`}
    ${open?.what === "edit" && html`<${EditPolicy} policy=${policy} close=${close} />`}
    ${open?.what === "move" && html`<${MoveDialog} policy=${policy} versions=${versions} aliases=${aliases} alias=${open.alias} version=${open.version} close=${close} />`}
    ${open?.what === "rollback" && open.alias && html`<${RollbackDialog} policy=${policy} alias=${open.alias} close=${close} />`}
  `;
}

/** @param {Policy} policy */
function gateInWords({ gate }) {
  if (!gate) return "No gate: an alias moves to any version.";
  const guarded = gate.aliases ? gate.aliases.join(", ") : "any alias";
  return `Gate: before ${guarded} moves, the version is compared with the present one over ${gate.n_episodes} episodes${
    gate.seed === null ? "" : ` of seed ${gate.seed}`
  }, and must not be worse.`;
}

/** @param {{ alias: Alias, policy: Policy, versions: Version[], open: (what: string) => void, reload: () => void }} props */
function AliasCard({ alias, policy, versions, open, reload }) {
  const [isOpen, setOpen] = useState(false);
  const named = `${policy.name}@${alias.alias}`;
  const version = versions.find(({ version }) => version === alias.version);
  const observation = useResource((signal) => observationOf(version?.run, signal), [version?.run]);
  const remove = async () => {
    await call("delete", "/v1/policies/{name}/aliases/{alias}", { name: policy.name, alias: alias.alias }, undefined, tagged(alias));
    reload();
  };
  return html`<article class="card stack" aria-label=${`Alias ${alias.alias}`}>
    <header class="row spread"><h3>${alias.alias}</h3><strong>version ${alias.version}</strong></header>
    <p class="hint">since <span title=${moment(alias.moved_at)}>${ago(alias.moved_at)}</span>${version && html` · score <${Score} checkpoint=${version.checkpoint} />`}</p>
    <div class="row">
      <a class="button" href=${link(["play"], { policy: named })}>Try it</a>
      <button onClick=${() => open("move")}>Move</button>
      <button onClick=${() => open("rollback")}>Roll back</button>
      <${CopyButton} text=${() => acting(named, observation.data)}>Copy as curl<//>
      <${ActionButton} kind="quiet danger" confirm="Delete the alias?" action=${remove}>Delete<//>
    </div>
    <details onToggle=${(/** @type {any} */ event) => setOpen(event.target.open)}>
      <summary>History</summary>
      ${isOpen && html`<${History} name=${policy.name} alias=${alias.alias} revision=${alias.revision} />`}
    </details>
  </article>`;
}

/** The command that acts with a policy. @param {string} policy  @param {unknown} observation */
function acting(policy, observation) {
  const path = address("/v1/policies/{policy}/compute_action", { policy });
  return curlHere("POST", path.replace("%40", "@"), { observation: observation ?? null });
}

/** An observation that the policy of a run takes; undefined where its environment is not known any more.
 * @param {string | undefined} run_id  @param {AbortSignal} signal */
async function observationOf(run_id, signal) {
  if (!run_id) return undefined;
  const { config } = await get("/v1/runs/{run_id}/config", { run_id }, { signal });
  const env_id = /** @type {any} */ (config)["env"]?.name;
  if (!env_id) return undefined;
  const { observation_space } = await get("/v1/environments/{env_id}", { env_id }, { signal });
  return observation_space ? element(observation_space) : undefined;
}

/** @param {{ policy: Policy, versions: Version[], reload: () => void, move: (version: number) => void }} props */
function Versions({ policy, versions, reload, move }) {
  /** @param {number} version */
  const named = (version) => Object.entries(policy.aliases).filter(([, each]) => each === version);
  /** @param {Version} version */
  const remove = async ({ version }) => {
    await call("delete", "/v1/policies/{name}/versions/{number}", { name: policy.name, number: version });
    reload();
  };
  return html`<table class="stacking">
    <thead><tr><th scope="col">Version</th><th scope="col">Run</th><th scope="col">Checkpoint</th><th scope="col" class="number">Score</th>
      <th scope="col">Note</th><th scope="col">Made</th><th scope="col"><span class="sr">Actions</span></th></tr></thead>
    <tbody>${versions.map((each) => html`<tr key=${each.version}>
      <th scope="row">${each.version} ${named(each.version).map(([alias]) => html`<span class="label" key=${alias}>${alias}</span>`)}</th>
      <td data-label="Run"><a href=${link(["runs", each.run])} class="mono">${each.run}</a></td>
      <td data-label="Checkpoint" class="mono">${each.checkpoint}</td>
      <td data-label="Score" class="number"><${Score} checkpoint=${each.checkpoint} /></td>
      <td data-label="Note"><span class="clamp" title=${each.note}>${each.note ?? "–"}</span></td>
      <td data-label="Made" title=${moment(each.created_at)}>${ago(each.created_at)}</td>
      <td><div class="row">
        <a class="button" href=${link(["play"], { policy: `${policy.name}:${each.version}` })}>Try it</a>
        <button aria-label=${`Promote version ${each.version}`} onClick=${() => move(each.version)}>Promote</button>
        ${named(each.version).length === 0 && html`<${ActionButton} kind="quiet danger" confirm=${`Delete version ${each.version}?`} action=${() => remove(each)}>Delete<//>`}
      </div></td>
    </tr>`)}</tbody>
  </table>`;
}

/** Scores of checkpoints, which never change. @type {Map<string, Promise<string>>} */
const scores = new Map();

/** What an evaluation gave a checkpoint. @param {{ checkpoint: string }} props */
export function Score({ checkpoint }) {
  const [text, setText] = useState("…");
  useEffect(() => {
    let isShown = true;
    if (!scores.has(checkpoint)) scores.set(checkpoint, scoreOf(checkpoint));
    scores.get(checkpoint)?.then(
      (found) => isShown && setText(found),
      () => (scores.delete(checkpoint), isShown && setText("–")),
    );
    return () => {
      isShown = false;
    };
  }, [checkpoint]);
  return html`<span>${text}</span>`;
}

/** @param {string} checkpoint_id */
async function scoreOf(checkpoint_id) {
  const { metrics } = await get("/v1/checkpoints/{checkpoint_id}/facts", { checkpoint_id });
  return number(metrics["eval/mean_return"]);
}

/** @param {{ policy: Policy, close: () => void }} props */
function AddVersion({ policy, close }) {
  const [chosen, setChosen] = useState("");
  const [checkpoint, setCheckpoint] = useState("best");
  const [note, setNote] = useState("");
  const [text, setText] = useState("");
  const wanted = useSettled(text.trim(), 200);
  const runs = useResource((signal) => makers(wanted, signal), [wanted]);
  const checkpoints = useResource(
    async (signal) => (chosen ? listed((cursor) => get("/v1/runs/{run_id}/checkpoints", { run_id: chosen, cursor, limit: 200 }, { signal })) : []),
    [chosen],
  );
  const add = () => post("/v1/policies/{name}/versions", { name: policy.name }, { run: chosen, checkpoint, ...(note && { note }) });
  const known = runs.data ?? [];
  return html`<${FormDialog} title="Add a version" close=${close} submit=${add} label="Add it" disabled=${!known.some(({ id }) => id === chosen)}>
    <${Field} label="Find a run" hint="A part of its name, or its id.">${(/** @type {object} */ about) =>
      html`<input ...${about} type="search" maxlength="200" value=${text} onInput=${(/** @type {any} */ event) => setText(event.target.value)} />`}<//>
    <${Loaded} resource=${runs} what="the runs">${() => html`
      <${Field} label="Run" hint=${known.length ? "Trainings and imports, the newest first." : wanted ? "None is called so." : "No run has a policy yet: train one first."}>${(/** @type {object} */ about) =>
        html`<select ...${about} required value=${chosen} onChange=${(/** @type {any} */ event) => (setChosen(event.target.value), setCheckpoint("best"))}>
          <option value="">Choose one</option>
          ${chosen && !known.some(({ id }) => id === chosen) && html`<option value=${chosen} disabled>${chosen}</option>`}
          ${known.map((each) => html`<option key=${each.id} value=${each.id}>${isolated(each.name ?? each.id)} · ${each.state}${each.best && ` · ${number(each.best.value)}`} · ${ago(each.created_at)}</option>`)}
        </select>`}<//>`}<//>
    <${Field} label="Checkpoint">${(/** @type {object} */ about) => html`<select ...${about} value=${checkpoint} onChange=${(/** @type {any} */ event) => setCheckpoint(event.target.value)}>
      <option value="best">best</option><option value="last">last</option>
      ${(checkpoints.data ?? []).map((each) => html`<option key=${each.id} value=${each.id}>epoch ${number(each.epoch)} · ${each.kind} · ${number(each.metrics["eval/mean_return"])}</option>`)}
    </select>`}<//>
    <${Field} label="Note">${(/** @type {object} */ about) => html`<input ...${about} maxlength="10000" value=${note} onInput=${(/** @type {any} */ event) => setNote(event.target.value)} />`}<//>
  <//>`;
}

/** Runs that have policies: the newest, those with a part of a name, or the one with an id.
 * @param {string} text  @param {AbortSignal} signal */
async function makers(text, signal) {
  if (/^run_\w{8,}$/.test(text)) {
    const run = await unlessGone(get("/v1/runs/{run_id}", { run_id: text }, { signal }));
    return run && (run.kind === "train" || run.kind === "import") ? [run] : [];
  }
  const name = text ? { name: text } : {};
  const pages = await Promise.all([
    get("/v1/runs", { kind: "train", limit: 100, ...name }, { signal }),
    get("/v1/runs", { kind: "import", limit: 50, ...name }, { signal }),
  ]);
  return pages.flatMap(({ data }) => data).sort((a, b) => b.created_at.localeCompare(a.created_at));
}

/** The form as it was opened, whatever is loaded beneath it: only what is changed in it is sent.
 * @param {{ policy: Policy, close: () => void }} props */
function EditPolicy({ policy: present, close }) {
  const [policy] = useState(present);
  const [description, setDescription] = useState(policy.description ?? "");
  const [isGated, setGated] = useState(policy.gate !== null);
  const [episodes, setEpisodes] = useState(policy.gate?.n_episodes ?? 20);
  const [guarded, setGuarded] = useState(policy.gate?.aliases?.join(", ") ?? "");
  const [seed, setSeed] = useState(policy.gate?.seed?.toString() ?? "");
  const aliases = guarded.split(/[\s,]+/).filter(Boolean);
  const gate = isGated ? { n_episodes: episodes, ...(aliases.length && { aliases }), ...(seed && { seed: Number(seed) }) } : null;
  const wish = { description: description || null, gate };
  const [before] = useState(JSON.stringify(wish));
  const save = async () => {
    const old = JSON.parse(before);
    const isOther = (/** @type {keyof wish} */ field) => JSON.stringify(wish[field]) !== JSON.stringify(old[field]);
    const changes = { ...(isOther("description") && { description: wish.description }), ...(isOther("gate") && { gate }) };
    const now = await get("/v1/policies/{name}", { name: policy.name });
    if ("gate" in changes && JSON.stringify(now.gate) !== JSON.stringify(policy.gate)) throw new Problem({ code: "revision_conflict", detail: GATE_CHANGED });
    if ("description" in changes && now.description !== policy.description) throw new Problem({ code: "revision_conflict", detail: TEXT_CHANGED });
    if (Object.keys(changes).length) await call("patch", "/v1/policies/{name}", { name: policy.name }, changes);
  };
  return html`<${FormDialog} title=${`Edit ${policy.name}`} close=${close} submit=${save} label="Save">
    <${Field} label="Description">${(/** @type {object} */ about) => html`<input ...${about} maxlength="10000" value=${description} onInput=${(/** @type {any} */ event) => setDescription(event.target.value)} />`}<//>
    <label class="check"><input type="checkbox" checked=${isGated} onChange=${() => setGated(!isGated)} /> A version must not be worse than the one that it replaces</label>
    ${isGated && html`
      <${Field} label="Episodes of the comparison, at least">${(/** @type {object} */ about) => html`<input ...${about} type="number" min="2" max="10000" required value=${episodes} onInput=${(/** @type {any} */ event) => setEpisodes(event.target.valueAsNumber)} />`}<//>
      <${Field} label="Seed of the comparison" hint="Any, when left empty.">${(/** @type {object} */ about) => html`<input ...${about} type="number" min="0" value=${seed} onInput=${(/** @type {any} */ event) => setSeed(event.target.value)} />`}<//>
      <${Field} label="Aliases that it guards" hint="Separated by commas; all, when left empty.">${(/** @type {object} */ about) => html`<input ...${about} value=${guarded} onInput=${(/** @type {any} */ event) => setGuarded(event.target.value)} />`}<//>`}
  <//>`;
}
