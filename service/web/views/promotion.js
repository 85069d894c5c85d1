/** Moving an alias: to a version, through a gate by a comparison that is played first, back again; and what happened. */
import { useEffect, useRef, useState } from "preact/hooks";
import { address, call, get, listed, pause, post, Problem } from "../api.js";
import { curlHere } from "../curl.js";
import { ago, isolated, moment, number } from "../format.js";
import { useAction, useResource } from "../hooks.js";
import { html } from "../html.js";
import { link } from "../router.js";
import { CopyButton, ErrorBox, Field, FormDialog, Loaded, Progress, State } from "../ui.js";

/** @typedef {import("../openapi.d.ts").Policy} Policy */
/** @typedef {import("../openapi.d.ts").PolicyVersion} Version */
/** @typedef {import("../openapi.d.ts").PolicyAlias} Alias */
/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {import("../openapi.d.ts").Schemas["AliasMoveOut"]} Move */
/** Where an alias was found that somebody had moved or deleted. @typedef {{ now: Alias | null }} Stale */
/** What a closed gate asks for. @typedef {{ message: string, compare: any }} Closed */

const ALIAS = "[A-Za-z0-9][A-Za-z0-9_.\\-]*";
const NAMED = new RegExp(`^${ALIAS}$`);
const NOTE = 60;
const MOVES = 200;
const ENDED = ["succeeded", "failed", "cancelled"];
const POLL_MS = 500;

/** What a change of an alias demands: that it is as it was seen. @param {Alias} alias */
export function tagged({ revision }) {
  return { headers: { "if-match": `"${revision}"` } };
}

/** @param {unknown} error */
function isStale(error) {
  return error instanceof Problem && error.code === "revision_conflict";
}

/** An answer, or null where there is none to what was asked for. @template T  @param {Promise<T>} answer */
export function unlessGone(answer) {
  return answer.catch((problem) => {
    if (problem instanceof Problem && problem.status === 404) return null;
    throw problem;
  });
}

/** @param {string} name  @param {string} alias  @param {AbortSignal} [signal] */
export function aliasOf(name, alias, signal) {
  return unlessGone(get("/v1/policies/{name}/aliases/{alias}", { name, alias }, signal && { signal }));
}

/** Says that an alias is not where it was seen, and where it is. @param {{ stale: Stale | null, named: string }} props */
function Moved({ stale, named }) {
  if (!stale) return null;
  return html`<p class="warning" role="alert">${named} has moved since this was opened: it names ${stale.now ? `version ${stale.now.version}` : "nothing"} now.
    Nothing was changed; do it again if it is still what you want.</p>`;
}

/**
 * @param {{ policy: Policy, versions: Version[], aliases: Alias[], alias?: Alias | undefined, version?: number | undefined,
 *   close: () => void }} props `alias` or `version` where it is chosen already
 */
export function MoveDialog({ policy, versions, aliases, alias, version, close }) {
  const [name, setName] = useState(alias?.alias ?? "");
  const [chosen, setChosen] = useState(version ?? versions.find((each) => each.version !== alias?.version)?.version ?? alias?.version ?? 1);
  const [reason, setReason] = useState("");
  const [closed, setClosed] = useState(/** @type {Closed | null} */ (null));
  const [seen, setSeen] = useState(aliases); // as it was opened, whatever is loaded beneath it
  const [stale, setStale] = useState(/** @type {Stale | null} */ (null));
  const present = seen.find((each) => each.alias === name);
  const { headers } = present ? tagged(present) : { headers: { "if-none-match": "*" } };
  const body = { version: chosen, ...(reason && { reason }) };
  /** Move it; false where a gate is closed. @param {string} [comparison] */
  const move = async (comparison) => {
    try {
      const wish = { ...body, ...(comparison && { comparison }) };
      await call("put", "/v1/policies/{name}/aliases/{alias}", { name: policy.name, alias: name }, wish, { headers });
      return true;
    } catch (error) {
      if (isStale(error)) {
        const now = await aliasOf(policy.name, name);
        setSeen([...seen.filter((each) => each !== present), ...(now ? [now] : [])]);
        setStale({ now });
        setClosed(null);
        return false;
      }
      const compare = error instanceof Problem && /** @type {any} */ (error.document)["compare"];
      if (!compare) throw error;
      setClosed({ message: /** @type {Problem} */ (error).message, compare });
      return false;
    }
  };
  const title = alias ? `Move ${policy.name}@${alias.alias}` : version ? `Promote version ${version}` : "New alias";
  const isThere = versions.some((each) => each.version === chosen); // it may be deleted meanwhile
  const path = () => address("/v1/policies/{name}/aliases/{alias}", { name: policy.name, alias: name });
  return html`<${FormDialog} title=${title} close=${close} submit=${() => move()} label=${present ? "Move it" : "Make it"} disabled=${!name || present?.version === chosen || !isThere}>
    ${!alias && html`<${Field} label="Alias" hint=${present ? `It names version ${present.version} now, and moves.` : "Such as champion: who acts asks for it."}>${(/** @type {object} */ about) =>
      html`<input ...${about} required maxlength="64" pattern=${ALIAS} list="aliases-known" value=${name} onInput=${(/** @type {any} */ event) => (setName(event.target.value), setClosed(null))} />`}<//>
      <datalist id="aliases-known">${aliases.map((each) => html`<option key=${each.alias} value=${each.alias} />`)}</datalist>`}
    <${Field} label="Version">${(/** @type {object} */ about) => html`<select ...${about} required value=${isThere ? chosen : ""} onChange=${(/** @type {any} */ event) => (setChosen(Number(event.target.value)), setClosed(null))}>
      ${!isThere && html`<option value="">Version ${chosen} is gone: choose one</option>`}
      ${versions.map((each) => html`<option key=${each.version} value=${each.version}>${each.version}${each.version === present?.version && " (now)"}${each.note && ` · ${isolated(each.note.slice(0, NOTE))}`}</option>`)}
    </select>`}<//>
    <${Field} label="Why" hint="For the history.">${(/** @type {object} */ about) => html`<input ...${about} maxlength="1000" value=${reason} onInput=${(/** @type {any} */ event) => setReason(event.target.value)} />`}<//>
    ${closed && html`<${Gate} closed=${closed} name=${`${policy.name}@${name}: version ${chosen}`} move=${move} close=${close} />`}
    <${Moved} stale=${stale} named=${`${policy.name}@${name}`} />
    ${NAMED.test(name) && html`<p><${CopyButton} text=${() => curlHere("PUT", path(), body, headers)}>Copy the move as curl<//></p>`}
  <//>`;
}

/** The way through a closed gate: the comparison that it asks for, played here, then the move again.
 * @param {{ closed: Closed, name: string, move: (comparison: string) => Promise<boolean>, close: () => void }} props */
function Gate({ closed, name, move, close }) {
  const { compare, message } = closed;
  const [run, setRun] = useState(/** @type {Run | null} */ (null));
  const life = useRef(new AbortController());
  useEffect(() => () => life.current.abort(), []);
  const { run: play, isBusy, problem } = useAction(async () => {
    const { signal } = life.current;
    const begun = await post("/v1/compare", {}, { ...compare, name });
    const ended = await followed(begun, signal, setRun);
    if (!ended) return;
    if (ended.state !== "succeeded") throw new Problem({ code: "not_compared", detail: `The comparison ${ended.state}: ${ended.error?.message ?? ended.reason}` });
    if (await move(ended.id)) close();
  });
  return html`<section class="warning stack" aria-label="The gate is closed">
    <strong>The gate is closed</strong>
    <p>${message}</p>
    <ol>${compare.policies.map((/** @type {any} */ each) => html`<li key=${each.checkpoint}><a href=${link(["runs", each.run])} class="mono">${each.run}</a> <span class="mono">${each.checkpoint}</span></li>`)}</ol>
    <p>${compare.n_episodes} episodes of each, from the same seeds${compare.seed === undefined ? "" : ` (seed ${compare.seed})`}.</p>
    ${run && html`<p class="row"><${State} state=${run.state} /><a href=${link(["runs", run.id])}>${run.name ?? run.id}</a>
      ${!ENDED.includes(run.state) && html`<${Progress} value=${/** @type {number | null} */ (run.progress.fraction)} label="Comparison" />`}</p>`}
    <${ErrorBox} problem=${problem} what="The comparison did not open the gate" />
    <p class="row"><button type="button" class="primary" disabled=${isBusy} aria-busy=${isBusy} onClick=${play}>Play the comparison, then move</button>
      <${CopyButton} text=${() => curlHere("POST", "/v1/compare", compare)}>Copy the comparison as curl<//></p>
  </section>`;
}

/** A run until it has ended; null where nobody waits any more.
 * @param {Run} run  @param {AbortSignal} signal  @param {(run: Run) => void} show */
async function followed(run, signal, show) {
  while (!signal.aborted) {
    show(run);
    if (ENDED.includes(run.state)) return run;
    await pause(POLL_MS, signal);
    try {
      run = await get("/v1/runs/{run_id}", { run_id: run.id }, { signal });
    } catch (error) {
      if (!signal.aborted && !(error instanceof Problem && error.code === "unreachable")) throw error;
    }
  }
  return null;
}

/** @param {{ policy: Policy, alias: Alias, close: () => void }} props */
export function RollbackDialog({ policy, alias, close }) {
  const where = { name: policy.name, alias: alias.alias };
  const [seen, setSeen] = useState(alias);
  const [stale, setStale] = useState(/** @type {Stale | null} */ (null));
  const moves = useResource((signal) => movesOf(where.name, where.alias, signal), [seen.revision]);
  const [to, setTo] = useState("");
  const [reason, setReason] = useState("");
  const back = async () => {
    const body = { ...(to && { to: Number(to) }), ...(reason && { reason }) };
    try {
      await call("post", "/v1/policies/{name}/aliases/{alias}/rollback", where, body, tagged(seen));
      return true;
    } catch (error) {
      if (!isStale(error)) throw error;
      const now = await aliasOf(where.name, where.alias);
      if (now) setSeen(now);
      setStale({ now });
      setTo("");
      return false;
    }
  };
  const isGone = stale !== null && !stale.now;
  const earlier = held(moves.data ?? [], seen.version);
  return html`<${FormDialog} title=${`Roll back ${policy.name}@${alias.alias}`} close=${close} submit=${back} label="Roll back" disabled=${!earlier.length || isGone}>
    <p>It names version ${seen.version} now. What acts by this alias acts with the other version at once; no gate is asked, for that one was there before.</p>
    <${Loaded} resource=${moves} what="its history">${() => html`
      ${earlier.length === 0 && html`<p class="warning">It has named no other version, so there is none to go back to.</p>`}
      ${earlier.length > 0 && html`<${Field} label="To">${(/** @type {object} */ about) => html`<select ...${about} value=${to} onChange=${(/** @type {any} */ event) => setTo(event.target.value)}>
        <option value="">the version before</option>
        ${earlier.map((version) => html`<option key=${version} value=${version}>version ${version}</option>`)}
      </select>`}<//>`}`}<//>
    <${Field} label="Why" hint="For the history.">${(/** @type {object} */ about) => html`<input ...${about} maxlength="1000" value=${reason} onInput=${(/** @type {any} */ event) => setReason(event.target.value)} />`}<//>
    <${Moved} stale=${stale} named=${`${policy.name}@${alias.alias}`} />
  <//>`;
}

/** Versions that an alias has named, but for the present one. @param {Move[]} moves  @param {number} present */
function held(moves, present) {
  return [...new Set(moves.flatMap(({ to_version }) => (to_version === null || to_version === present ? [] : [to_version])))];
}

/** @param {string} name  @param {string} alias  @param {AbortSignal} signal */
function movesOf(name, alias, signal) {
  return listed((cursor) => get("/v1/policies/{name}/aliases/{alias}/history", { name, alias, cursor, limit: MOVES }, { signal }), MOVES);
}

/** Every move of an alias, the newest first. @param {{ name: string, alias: string, revision: number }} props */
export function History({ name, alias, revision }) {
  const moves = useResource((signal) => movesOf(name, alias, signal), [name, alias, revision]);
  return html`<${Loaded} resource=${moves} what="the history">
    ${(/** @type {Move[]} */ known) => html`<ol class="history" reversed start=${known[0]?.seq}>${known.map((move) => html`<li key=${move.seq}>
      <div class="row"><strong>${move.from_version ?? "nothing"} → ${move.to_version ?? "nothing"}</strong> <span>${move.kind}</span>
        <span class="hint" title=${moment(move.at)}>${ago(move.at)}${move.by && ` by ${move.by}`}</span></div>
      ${move.reason && html`<p>${move.reason}</p>`}
      <${Evidence} evidence=${move.evidence} />
    </li>`)}</ol>`}
  <//>`;
}

/** What opened the gate. @param {{ evidence: any }} props */
function Evidence({ evidence }) {
  if (!evidence) return null;
  const [low, high] = evidence.ci95 ?? [];
  return html`<p class="hint"><a href=${link(["runs", evidence.comparison])}>Comparison</a> of ${evidence.n_episodes} episodes: ${
    Number(evidence.mean_difference) > 0 ? "+" : ""}${number(evidence.mean_difference)} (95 %: ${number(low)} to ${number(high)})</p>`;
}
