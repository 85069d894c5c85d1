/** Parts that views are made of: states, failures, empty and loading places, buttons, dialogs, tabs. */
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Problem } from "./api.js";
import { useAction } from "./hooks.js";
import { html } from "./html.js";
import { useOnline } from "./live.js";
import { replaceQuery, useRoute } from "./router.js";

/** @typedef {import("./html.js").Children} Children */

/** A state is a mark, a word and a colour, so that none of them is needed alone. */
const MARKS = /** @type {Record<string, string>} */ ({
  queued: "○", running: "▶", stopping: "◼", paused: "❚❚", succeeded: "✓", failed: "✕", cancelled: "⊘",
  active: "▶", stopped: "◼", ok: "✓", warning: "!",
});

/** @param {{ state: string, title?: string | null, word?: string }} props `word` where it is said otherwise */
export function State({ state, title, word = state }) {
  return html`<span class="state state-${state}" title=${title ?? word}>
    <span class="mark" aria-hidden="true">${MARKS[state] ?? "·"}</span>${word}
  </span>`;
}

/** A failure: what happened, each mistake with where it is, and the way out.
 * @param {{ problem: Problem | null | undefined, retry?: () => void, what?: string }} props */
export function ErrorBox({ problem, retry, what }) {
  if (!problem) return null;
  return html`<div class="error" role="alert">
    <strong>${what ?? "This did not work"}</strong>
    <p>${problem.message}</p>
    ${problem.errors.length > 0 &&
    html`<ul>
      ${problem.errors.map(
        (each) => html`<li>
          ${(each.pointer ?? each.parameter) && html`<code>${each.pointer ?? each.parameter}</code> `}${each.message}
          ${each.did_you_mean && html` Did you mean <code>${each.did_you_mean}</code>?`}
        </li>`,
      )}
    </ul>`}
    <p class="hint">
      <code>${problem.code}</code>${problem.document.request_id && html` · request <code>${problem.document.request_id}</code>`}
    </p>
    ${retry && html`<button onClick=${retry}>Try again</button>`}
  </div>`;
}

/** @param {{ what: string }} props */
export function Loading({ what }) {
  return html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span>Loading ${what} …</p>`;
}

/** A place where nothing is yet: says what would be here and how to get it.
 * @param {{ title: string, children?: Children }} props */
export function Empty({ title, children }) {
  return html`<div class="empty"><h2>${title}</h2>${children}</div>`;
}

/**
 * What was loaded, or the state that it is in.
 * @template T
 * @param {{ resource: import("./hooks.js").Resource<T>, what: string, children: (data: T) => Children }} props
 */
export function Loaded({ resource, what, children }) {
  const { data, problem, reload } = resource;
  if (problem && (data === undefined || problem.status === 404)) return html`<${ErrorBox} problem=${problem} retry=${reload} what="${what} could not be loaded" />`;
  if (data === undefined) return html`<${Loading} what=${what} />`;
  return html`${problem && problem.code !== "unreachable" && html`<${ErrorBox} problem=${problem} retry=${reload} />`}${children(data)}`;
}

/** Says that the service is not reached; what is shown stays. */
export function Offline() {
  const isOnline = useOnline();
  return html`<div role="status" class=${isOnline ? "hidden" : "offline"}>
    ${!isOnline && "The service does not answer. What you see is as it was; the page goes on when it is back."}
  </div>`;
}

/** How long a question stands before its answer counts: an impatient second click is none. */
const ASKED_MS = 500;

/**
 * A button that does something at the service: busy while it does, its failure beside it. With `confirm` it asks first,
 * and what belongs to the click that made it ask, a double click or a key held down, is no answer.
 * @param {{ action: () => Promise<unknown>, children: Children, confirm?: string, kind?: string, disabled?: boolean,
 *   title?: string }} props
 */
export function ActionButton({ action, children, confirm: question, kind = "", disabled = false, title }) {
  const { run, isBusy, problem, clear } = useAction((/** @type {() => Promise<unknown>} */ meant) => meant());
  const [asked, setAsked] = useState(/** @type {{ action: () => Promise<unknown> } | null} */ (null));
  const isAsking = asked !== null; // what was seen when it was asked is done, whatever has been loaded since
  const [isEarly, setEarly] = useState(false);
  useEffect(() => {
    if (!isEarly) return undefined;
    const timer = setTimeout(() => setEarly(false), ASKED_MS);
    return () => clearTimeout(timer);
  }, [isEarly]);
  const isMeant = (/** @type {MouseEvent} */ event) => !isEarly && event.detail <= 1;
  const start = (/** @type {MouseEvent} */ event) => {
    if (question && !isAsking) return setAsked({ action }), setEarly(true);
    if (question && !isMeant(event)) return undefined;
    setAsked(null);
    return run(asked?.action ?? action);
  };
  return html`<span class="action">
    <button class=${kind} disabled=${disabled || isBusy} aria-busy=${isBusy} aria-disabled=${isEarly} title=${title}
      onClick=${start} onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.repeat && event.key === "Enter" && event.preventDefault()}>
      ${isAsking ? question : children}
    </button>
    ${isAsking && html`<button class="quiet" aria-disabled=${isEarly} onClick=${(/** @type {MouseEvent} */ event) => isMeant(event) && setAsked(null)}>No</button>`}
    ${problem &&
    html`<span class="inline-error" role="alert">${problem.message}
      ${problem.errors.map((each) => html` ${each.message}`)}
      <button class="quiet" aria-label="Dismiss" onClick=${clear}>✕</button></span>`}
  </span>`;
}

/** @param {{ text: string | (() => string), children?: Children }} props */
export function CopyButton({ text, children = "Copy" }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    const value = typeof text === "function" ? text() : text;
    setSaid((await copied(value)) ? "Copied" : "Press Ctrl+C");
    setTimeout(() => setSaid(""), 2000);
  };
  return html`<button class="quiet" onClick=${copy}><span aria-live="polite">${said || children}</span></button>`;
}

/** @param {string} text */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // without https browsers have no clipboard: the old way
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  }
}

/**
 * Tabs whose choice stands in the address.
 * @param {{ tabs: [id: string, title: Children][], chosen: string, label: string, name?: string }} props
 */
export function Tabs({ tabs, chosen, label, name = "tab" }) {
  /** @param {KeyboardEvent} event */
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const index = tabs.findIndex(([id]) => id === chosen);
    const [next] = tabs[(index + step + tabs.length) % tabs.length] ?? [chosen];
    replaceQuery({ [name]: next });
    const list = /** @type {HTMLElement} */ (event.currentTarget);
    requestAnimationFrame(() => /** @type {HTMLElement | null} */ (list.querySelector("[aria-selected=true]"))?.focus());
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} onKeyDown=${move}>
    ${tabs.map(
      ([id, title]) => html`<button key=${id} role="tab" id="tab-${id}" aria-selected=${id === chosen}
        aria-controls="panel-${id}" tabindex=${id === chosen ? 0 : -1} onClick=${() => replaceQuery({ [name]: id })}>${title}</button>`,
    )}
  </div>`;
}

/** What the chosen tab shows. @param {{ id: string, children: Children }} props */
export function Panel({ id, children }) {
  return html`<div role="tabpanel" id="panel-${id}" aria-labelledby="tab-${id}" tabindex="0" class="panel">${children}</div>`;
}

/** The query's value of a name, or what stands for none. @param {string} name  @param {string} fallback */
export function useQuery(name, fallback = "") {
  return useRoute().query.get(name) ?? fallback;
}

/**
 * A dialog over the page, closed by Escape too.
 * @param {{ title: string, close: () => void, children: Children }} props
 */
export function Dialog({ title, close, children }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const id = useId();
  useEffect(() => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    const shown = dialog.current;
    shown?.showModal();
    return () => {
      shown?.close(); // as long as it is open, nothing beside it takes the focus
      before?.focus();
    };
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby=${id} onClose=${close} onCancel=${close}>
    <header class="row"><h2 id=${id}>${title}</h2><button class="quiet" aria-label="Close" onClick=${close}>✕</button></header>
    ${children}
  </dialog>`;
}

/**
 * A dialog that does something at the service, and is closed when that is done.
 * @param {{ title: string, close: () => void, submit: (form: FormData) => Promise<unknown>, label: Children,
 *   children: Children, disabled?: boolean }} props
 */
export function FormDialog({ title, close, submit, label, children, disabled = false }) {
  const { run, isBusy, problem } = useAction(async (/** @type {FormData} */ form) => {
    const done = await submit(form);
    if (done !== false) close();
    return done;
  });
  /** @param {Event} event */
  const onSubmit = (event) => {
    event.preventDefault();
    run(new FormData(/** @type {HTMLFormElement} */ (event.currentTarget)));
  };
  return html`<${Dialog} title=${title} close=${close}>
    <form onSubmit=${onSubmit}>
      ${children}
      <${ErrorBox} problem=${problem} />
      <div class="row"><button class="primary" disabled=${disabled || isBusy} aria-busy=${isBusy}
          onClick=${(/** @type {MouseEvent} */ event) => event.detail > 1 && event.preventDefault()}>${label}</button>
        <button type="button" class="quiet" onClick=${close}>Close</button></div>
    </form>
  <//>`;
}

/**
 * An input with its label, a hint and what is wrong with it.
 * @param {{ label: Children, hint?: Children, error?: Children, children: (attributes: { id: string,
 *   "aria-describedby": string | undefined, "aria-invalid": boolean }) => Children }} props
 */
export function Field({ label, hint, error, children }) {
  const id = useId();
  const about = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  return html`<div class="field ${error ? "invalid" : ""}">
    <label for=${id}>${label}</label>
    ${children({ id, "aria-describedby": about, "aria-invalid": Boolean(error) })}
    ${hint && html`<small id="${id}-hint">${hint}</small>`}
    ${error && html`<small id="${id}-error" class="field-error">${error}</small>`}
  </div>`;
}

/** Facts as pairs of name and value; what is null is left out. @param {{ facts: [string, Children][] }} props */
export function Facts({ facts }) {
  return html`<dl class="facts">
    ${facts.filter(([, value]) => value !== null && value !== undefined).map(
      ([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`,
    )}
  </dl>`;
}

const FIRST_LABELS = 8;

/** Labels, one line each; of many the first ones, until all are asked for. @param {{ labels: Record<string, string> }} props */
export function Labels({ labels }) {
  const [isWhole, setWhole] = useState(false);
  const all = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  if (!all.length) return null;
  const left = all.length - FIRST_LABELS;
  return html`<span class="labels">${(isWhole ? all : all.slice(0, FIRST_LABELS)).map((each) =>
      html`<span class="label" key=${each} title=${each}><bdi>${each}</bdi></span>`)}
    ${left > 0 && html`<button class="quiet" aria-expanded=${isWhole} onClick=${() => setWhole(!isWhole)}>${isWhole ? "Fewer labels" : `… ${left} more`}</button>`}</span>`;
}

/** How far something is, between 0 and 1. @param {{ value: number | null, label: string }} props */
export function Progress({ value, label }) {
  return html`<progress aria-label=${label} max="1" value=${value ?? undefined}></progress>`;
}
