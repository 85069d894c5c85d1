/** What a policy thought: bars of its actions, what its critic expects, and what was allowed. */
import { address, post } from "../api.js";
import { number } from "../format.js";
import { html } from "../html.js";
import { Facts } from "../ui.js";
import { isSame, shareOf, takenOf } from "./taken.js";

/** @typedef {{ distribution: Record<string, any>, value: number | null, mask: Record<string, boolean[]> | null, log_prob: number | null }} Decision */
/** With what it carries on, null where it carries nothing. @typedef {{ action: any, decision: Decision, state: string | null }} Thought */
/** Whose policy: of a run with a checkpoint, or one that is named. @typedef {{ run?: string, checkpoint?: string | undefined, policy?: string }} Source */

/** Where a policy is asked. @param {Source} source */
export function actionPath({ run, policy }) {
  return policy ? address("/v1/policies/{policy}/compute_action", { policy }) : address("/v1/runs/{run_id}/compute_action", { run_id: run ?? "" });
}

/** What a policy is asked. @param {Source} source  @param {any} body */
export function question({ policy, checkpoint }, body) {
  return { ...body, ...(policy || !checkpoint ? {} : { checkpoint }) };
}

/**
 * Ask a policy for its actions and what it thinks of them; with `begins`, as an episode begins with each observation.
 * @param {Source} source  @param {any[]} observations  @param {any} [actor]  @param {AbortSignal} [signal]  @param {boolean} [begins]
 * @returns {Promise<Thought[]>}
 */
export async function thoughts(source, observations, actor, signal, begins = false) {
  const body = question(source, { observations, explain: true, ...(begins ? { states: null } : {}), ...(actor ? { actor_id: actor } : {}) });
  const options = signal ? { signal } : {};
  /** @type {any} */
  const answer = source.policy
    ? await post("/v1/policies/{policy}/compute_action", { policy: source.policy }, body, options)
    : await post("/v1/runs/{run_id}/compute_action", { run_id: source.run ?? "" }, body, options);
  return answer.actions.map((/** @type {any} */ action, /** @type {number} */ index) => ({ action, decision: answer.decisions[index], state: answer.states?.[index] ?? null }));
}

/**
 * @param {{ decision: Decision, action: any, answered?: any, names?: string[] }} props `action` is the one taken, in the environment's form or
 *   by head; `answered` the one that the decision is about, where it may be another
 */
export function Thinking({ decision, action, answered = action, names = [] }) {
  const heads = Object.entries(decision.distribution);
  const isOfIt = isSame(heads.map(([name]) => name), action, answered);
  return html`<div class="thinking">
    ${heads.map(([name, told]) => html`<section key=${name} aria-label="Actions ${name}">
      ${heads.length > 1 && html`<h3>${name}</h3>`}
      <${Head} told=${told} taken=${takenOf(action, name)} mask=${decision.mask?.[name]} names=${names} /></section>`)}
    <${Facts} facts=${[
      ["expected return (value)", decision.value === null || !isOfIt ? null : number(decision.value)],
      ["probability of the action", decision.log_prob === null ? null : probability(decision.log_prob, heads, action, isOfIt)],
    ]} />
    ${!isOfIt && html`<p class="hint">Asked now, it does <code>${JSON.stringify(answered)}</code>: what was taken was drawn.</p>`}
  </div>`;
}

/** Densities are no probabilities. @param {number} logProb  @param {[string, any][]} heads  @param {any} action  @param {boolean} isOfIt */
function probability(logProb, heads, action, isOfIt) {
  if (heads.every(([, told]) => "probabilities" in told)) return percent(shareOf(heads, action));
  return isOfIt ? `log density ${number(logProb)}` : null;
}

/** @param {{ told: any, taken: any, mask: boolean[] | undefined, names: string[] }} props */
function Head({ told, taken, mask, names }) {
  if (told.values) return html`<${Values} told=${told} taken=${taken} mask=${mask} names=${names} />`;
  if (told.kind === "multi_categorical") {
    const chosen = [taken].flat(Infinity);
    let at = 0;
    return told.probabilities.map((/** @type {number[]} */ choice, /** @type {number} */ index) => {
      const allowed = mask?.slice(at, (at += choice.length));
      return html`<h4 key=${index}>choice ${index}</h4><${Choice} shares=${choice} start=${told.start[index]} taken=${chosen[index]} mask=${allowed} names=${[]} />`;
    });
  }
  if (told.kind === "bernoulli") {
    const chosen = [taken].flat(Infinity);
    return html`<ul class="bars">${[told.probabilities].flat(Infinity).map((/** @type {any} */ share, index) =>
      html`<${Bar} key=${index} label="bit ${index}" share=${share} text=${percent(share)} isTaken=${Boolean(chosen[index])} />`)}</ul>`;
  }
  if (told.probabilities) return html`<${Choice} shares=${told.probabilities} start=${told.start} taken=${taken} mask=${mask} names=${names} />`;
  return html`<${Numbers} told=${told} taken=${taken} names=${names} />`;
}

/** @param {{ shares: number[], start: number, taken: any, mask: boolean[] | undefined, names: string[] }} props */
function Choice({ shares, start, taken, mask, names }) {
  return html`<ul class="bars">${shares.map((share, index) => html`<${Bar} key=${index} label=${labelOf(names, index, start)} share=${share}
    text=${mask && !mask[index] ? "not allowed" : percent(share)} isTaken=${Number([taken].flat()[0]) === index + start} />`)}</ul>`;
}

/** @param {{ told: any, taken: any, mask: boolean[] | undefined, names: string[] }} props */
function Values({ told, taken, mask, names }) {
  const known = told.values.filter((/** @type {any} */ value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  return html`<ul class="bars">${told.values.map((/** @type {number | null} */ value, /** @type {number} */ index) => html`<${Bar} key=${index}
    label=${labelOf(names, index, told.start)} share=${value === null ? 0 : high > low ? 0.1 + (0.9 * (value - low)) / (high - low) : 1}
    text=${value === null || (mask && !mask[index]) ? "not allowed" : `worth ${number(value)}`} isTaken=${Number([taken].flat()[0]) === index + told.start} />`)}</ul>`;
}

/** Numbers: the likeliest one with one deviation around it, and the one taken. @param {{ told: any, taken: any, names: string[] }} props */
function Numbers({ told, taken, names }) {
  const [likeliest, low, high, done] = [told.action, told.low ?? told.action, told.high ?? told.action, taken].map((each) => [each].flat(Infinity).map(Number));
  const reach = Math.max(1e-9, ...[likeliest, low, high, done].flatMap((each) => (each ?? []).map(Math.abs))) * 1.1;
  const place = (/** @type {number} */ value) => 100 + (100 * value) / reach;
  return html`<ul class="bars">${(likeliest ?? []).map((middle, index) => {
    const [from, to, at] = [low?.[index] ?? middle, high?.[index] ?? middle, done?.[index] ?? middle];
    return html`<li key=${index} class="did"><span>${names[index] ?? `number ${index}`}</span>
      <output>${number(at)}${to > from && html` <small>(${number(from)} to ${number(to)})</small>`}</output>
      <svg class="numbers" viewBox="0 0 200 12" preserveAspectRatio="none" aria-hidden="true">
        <line class="zero" x1="100" x2="100" y1="0" y2="12" />
        <rect class="spread" x=${place(from)} width=${Math.max(1, place(to) - place(from))} y="3" height="6" />
        <rect class="at" x=${place(at) - 1} width="2" y="0" height="12" /></svg></li>`;
  })}</ul>`;
}

/** @param {{ label: string, share: number, text: string, isTaken: boolean }} props */
function Bar({ label, share, text, isTaken }) {
  return html`<li class=${isTaken ? "did" : ""}><span>${label}${isTaken && html` <strong class="label">taken</strong>`}</span><output>${text}</output>
    <span class="bar" aria-hidden="true"><span style=${{ width: `${Math.round(1000 * Math.max(0, Math.min(1, share))) / 10}%` }}></span></span></li>`;
}

/** @param {string[]} names  @param {number} index  @param {number} start */
function labelOf(names, index, start) {
  return names[index] ? `${index + start} · ${names[index]}` : `action ${index + start}`;
}

/** @param {number} share */
function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}
