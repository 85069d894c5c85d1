/**
 * A request as curl, as Python and as words of `maze-run`: each gives the same run, whatever its values hold.
 *
 * `textsOf` is pure: from the body of `POST /v1/train` (with lists: of a sweep), and the address of the service.
 */
import { useState } from "preact/hooks";
import { token } from "../api.js";
import { curl, shellWord } from "../curl.js";
import { html } from "../html.js";
import { CopyButton } from "../ui.js";

/** @typedef {Record<string, any>} Body */
/** One way to say it: its name and text, or the reason why it cannot be said so.
 * @typedef {{ id: string, title: string, text?: string, reason?: string }} Said */

const LABELS = ["name", "labels", "priority", "resources"];
/** Arguments of `train`; the others are RunContext's. */
const BUDGETS = ["n_epochs", "max_env_steps", "max_wall_s", "patience", "target_return"];
/** What only the service has. */
const OF_SWEEPS = ["search", "parallel", "metric", "direction", "ask_tell"];

/**
 * @param {Body} body
 * @param {{ path: string, origin: string, hasToken?: boolean, isSweep?: boolean, clientCall?: string }} where `path` is posted to;
 *   `clientCall` is the client's method, `sweep` or `train` where it is left out
 * @returns {Said[]}
 */
export function textsOf(body, { path, origin, hasToken = false, isSweep = false, clientCall = isSweep ? "sweep" : "train" }) {
  const isTraining = ["/v1/train", "/v1/train?smoke=1", "/v1/sweeps"].includes(path);
  const only = { reason: "Only the service knows the run that this follows from." };
  return [
    { id: "curl", title: "curl", text: curl("POST", `${origin}${path}`, body, { hasToken }) },
    { id: "client", title: "Python client", text: client(body, origin, clientCall) },
    { id: "python", title: "Python", ...(isTraining ? runContext(body, isSweep) : only) },
    { id: "maze-run", title: "maze-run", ...(isTraining ? mazeRun(body, isSweep) : only) },
  ];
}

/** A value as Python writes it. @param {unknown} value @returns {string} */
export function pythonValue(value) {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : `float("${value}")`;
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, each]) => `${pythonText(key)}: ${pythonValue(each)}`).join(", ")}}`;
  return pythonText(String(value));
}

/** Python reads the escapes of JSON alike. @param {string} text */
function pythonText(text) {
  return JSON.stringify(text);
}

/** @param {string} call  @param {Body} given */
function pythonCall(call, given) {
  const lines = Object.entries(given).map(([name, value]) => `    ${name}=${pythonValue(value)},\n`);
  return `${call}(${lines.length ? `\n${lines.join("")}` : ""})`;
}

/** @param {Body} body  @param {string} origin  @param {string} call */
function client(body, origin, call) {
  return `from maze_client import Client

with Client(${pythonText(origin)}) as client:
    run = ${pythonCall(`client.${call}`, body).replaceAll("\n", "\n    ")}
    print(run.id)
`;
}

/** The part of a body that says what is trained. @param {Body} body */
function trained(body) {
  return Object.fromEntries(Object.entries(body).filter(([name]) => !LABELS.includes(name)));
}

/** @param {Body} body  @param {boolean} isSweep @returns {{ text: string } | { reason: string }} */
function runContext(body, isSweep) {
  if (OF_SWEEPS.some((name) => body[name])) return { reason: "A search by the service has no such form; its settings stand in an experiment." };
  const { config, overrides, videos, ...given } = trained(body);
  const budgets = BUDGETS.filter((name) => given[name] !== undefined);
  const values = { ...Object.fromEntries(budgets.map((name) => [`algorithm.${name}`, given[name]])), ...overrides };
  for (const name of budgets) delete given[name];
  const all = { ...given, ...(Object.keys(values).length && { overrides: values }), ...(isSweep && { multirun: "True" }) };
  const lines = Object.entries(all).map(([name, value]) => `    ${name}=${name === "multirun" ? value : pythonValue(value)},\n`);
  const call = config ? "RunContext.from_config" : "RunContext";
  const inside = `${config ? `    ${pythonValue(config)},\n` : ""}${lines.join("")}`;
  return { text: `from maze_core import RunContext\n\nrc = ${call}(${inside && `\n${inside}`})\nprint(rc.config_sha256)\nrc.train(${videos ? `videos=${videos}` : ""})\n` };
}

/** @param {Body} body  @param {boolean} isSweep @returns {{ text: string } | { reason: string }} */
function mazeRun(body, isSweep) {
  if (OF_SWEEPS.some((name) => body[name])) return { reason: "A search by the service has no such form; its settings stand in an experiment." };
  const { config, overrides, ...given } = trained(body);
  try {
    const words = [...Object.entries(given), ...Object.entries(overrides ?? {})].map(([key, value]) => hydraWord(key, value, isSweep));
    const command = ["maze-run", ...(config ? ["--config", "/dev/stdin"] : []), ...(isSweep ? ["-m"] : []), "-cn", "conf_train", ...words.map(shellWord)];
    const text = command.join(" ");
    return { text: config ? `${text} <<'MAZE_CONFIG'\n${JSON.stringify(config)}\nMAZE_CONFIG` : text };
  } catch (error) {
    return { reason: /** @type {Error} */ (error).message };
  }
}

/**
 * `key=value` in the grammar of Hydra's overrides; several values with commas between them.
 * @param {string} key
 * @param {any} value
 * @param {boolean} isSweep a list is several values
 * @returns {string}
 * @throws {Error} the grammar has no way to write it
 */
export function hydraWord(key, value, isSweep = false) {
  const parts = key.split(".");
  const odd = parts.findIndex((part, index) => !(index ? /^[A-Za-z0-9_-]+$/ : /^[A-Za-z_][A-Za-z0-9_-]*$/).test(part));
  if (odd === 0) throw new Error(`maze-run has no way to write the key ${key}.`);
  // what is no word stands as a key of a mapping, which is merged
  const [before, inside] = odd > 0 ? [parts.slice(0, odd), parts.slice(odd)] : [parts, []];
  const nested = (/** @type {unknown} */ each) => inside.reduceRight((/** @type {unknown} */ found, part) => ({ [part]: found }), each);
  const values = isSweep && Array.isArray(value) ? value.map(nested) : [nested(value)];
  return `${before.join(".")}=${values.map(hydraValue).join(",")}`;
}

/** @param {unknown} value @returns {string} */
function hydraValue(value) {
  if (typeof value === "string") return hydraText(value);
  if (Array.isArray(value)) return `[${value.map(hydraValue).join(",")}]`;
  if (value !== null && typeof value === "object") return `{${Object.entries(value).map(([key, each]) => `${hydraKey(key)}:${hydraValue(each)}`).join(",")}}`;
  return String(value ?? null);
}

/** Words stand as they are; of a quoted text, only backslashes before a quote are escapes. @param {string} text */
function hydraText(text) {
  if (text.includes("${")) throw new Error("maze-run reads ${…} as an interpolation, and refuses it.");
  if (/^[A-Za-z_][A-Za-z0-9_.-]*$/.test(text) && !/^(true|false|null|nan|inf)$/i.test(text)) return text;
  return `'${text.replace(/(\\*)'/g, "$1$1\\'").replace(/(\\+)$/, "$1$1")}'`;
}

/** @param {string} key */
function hydraKey(key) {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(key) && !/^(true|false|null|nan|inf)$/i.test(key)) return key;
  if (!/^[A-Za-z_][A-Za-z0-9_ ,:()[\]{}=.\/@-]*$/.test(key) || /^(true|false|null|nan|inf)$/i.test(key)) throw new Error(`maze-run has no way to write the key ${key} of a mapping.`);
  return key.replace(/[ ,:()[\]{}=]/g, "\\$&");
}

/**
 * The ways to say a request, one at a time, to copy.
 * @param {{ body: Body, path: string, isSweep?: boolean, clientCall?: string }} props as of {@link textsOf}
 */
export function CopyAs({ body, path, isSweep, clientCall }) {
  const [chosen, choose] = useState("curl");
  const texts = textsOf(body, { path, origin: location.origin, hasToken: Boolean(token()), isSweep, clientCall });
  const said = texts.find(({ id }) => id === chosen) ?? texts[0];
  return html`<section class="copy-as" aria-label="Copy as">
    <div class="row spread">
      <div class="row" role="group" aria-label="Copy as">
        ${texts.map(({ id, title }) => html`<button type="button" class="quiet" aria-pressed=${id === chosen} onClick=${() => choose(id)}>${title}</button>`)}
      </div>
      ${said?.text && html`<${CopyButton} text=${said.text}>Copy<//>`}
    </div>
    ${said?.text ? html`<pre tabindex="0" data-copy=${said.id}>${said.text}</pre>` : html`<p class="hint">${said?.reason}</p>`}
  </section>`;
}
