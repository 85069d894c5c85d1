/** Which environment: those that can be made first, the others with the reason and what their operator installs. */
import { useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { CopyButton } from "../ui.js";
import { Row, shown } from "./schema_form.js";

/** @typedef {import("../openapi.d.ts").Environment} Environment */

const KEY = "env.name";
const SHOWN = 60;

/**
 * What an environment's constructor takes of clients, as a schema: kinds are those of its defaults.
 * @param {{ kwargs?: Record<string, unknown> | null, open_kwargs?: string[] }} environment
 */
export function kwargsSchema({ kwargs, open_kwargs = [] }) {
  const properties = open_kwargs.map((name) => {
    const standard = kwargs?.[name];
    const type = /** @type {Record<string, string>} */ ({ boolean: "boolean", number: "number", string: "string" })[typeof standard];
    return [name, { ...(type && { type }), default: standard, description: "Of the environment's constructor." }];
  });
  return { type: "object", description: "Arguments of the environment's constructor.", properties: Object.fromEntries(properties) };
}

/** The module that makes it, where that is not the usual one. @param {{ source: string } | undefined} environment @returns {Record<string, string>} */
export function moduleFor(environment) {
  return environment?.source === "pettingzoo" ? { env: "pettingzoo" } : {};
}

/** @param {Environment} environment */
function canTrain(environment) {
  return environment.is_available && environment.is_trainable !== false;
}

/** @param {{ environments: Environment[], form: import("./schema_form.js").Form, standard: string, module: unknown, chooseModule: (module: string | undefined) => void }} props */
export function EnvironmentPicker({ environments, form, standard, module, chooseModule }) {
  const [isOpen, setOpen] = useState(false);
  const [active, setActive] = useState(0);
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const text = shown(form.drafts[KEY]);
  const words = isOpen ? text.toLowerCase().split(/\s+/) : [];
  const found = environments.filter(({ id }) => words.every((word) => id.toLowerCase().includes(word)))
    .sort((left, right) => Number(canTrain(right)) - Number(canTrain(left)) || left.id.localeCompare(right.id)).slice(0, SHOWN);
  const chosen = environments.find(({ id }) => id === (text.trim() || standard));
  const choose = (/** @type {string} */ id) => {
    form.change(KEY, id);
    const wanted = moduleFor(environments.find((each) => each.id === id))["env"];
    if (wanted || module === "pettingzoo") chooseModule(wanted);
    setOpen(false);
  };
  const move = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const at = found[active];
    if (step) {
      event.preventDefault();
      const next = isOpen ? (active + step + found.length) % Math.max(1, found.length) : 0;
      setOpen(true);
      setActive(next);
      requestAnimationFrame(() => list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" }));
    } else if (event.key === "Enter" && isOpen && at && !event.ctrlKey) choose(at.id);
    else if (event.key === "Escape") setOpen(false);
  };
  const type = (/** @type {any} */ event) => (setOpen(true), setActive(0), form.change(KEY, event.target.value === "" ? undefined : event.target.value));
  return html`<div><${Row} node=${{ key: KEY, name: "environment" }} form=${form}>
    ${(/** @type {object} */ attributes) => html`<div class="picker"><input ...${attributes} role="combobox" aria-autocomplete="list" aria-expanded=${isOpen} aria-controls="environments"
      aria-activedescendant=${isOpen && found[active] ? `environment-${active}` : undefined} autocomplete="off" spellcheck=${false} value=${text}
      placeholder=${standard} onFocus=${() => setOpen(true)} onBlur=${() => setOpen(false)} onInput=${type} onKeyDown=${move} />
    <ul id="environments" class="options ${isOpen ? "" : "hidden"}" role="listbox" aria-label="Environments" ref=${list}>
      ${isOpen && found.map((each, index) => html`<li id="environment-${index}" role="option" aria-selected=${index === active} aria-disabled=${!canTrain(each)}
        onMouseDown=${(/** @type {Event} */ event) => (event.preventDefault(), choose(each.id))}>
        <span>${each.id}</span>${!canTrain(each) && html` <small>${each.reason ?? "no policy can act in its spaces"}</small>`}</li>`)}
    </ul></div>`}
  <//>
  ${chosen && !canTrain(chosen) && html`<p class="warning">${chosen.reason ?? "No policy can act in its spaces."}
    ${chosen.install && html` Its operator installs <code>${chosen.install}</code> <${CopyButton} text=${chosen.install} />`}</p>`}
  </div>`;
}
