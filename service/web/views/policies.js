/** Policies by name: what there is, and a new one; one of them is in `policy.js`. */
import { useState } from "preact/hooks";
import { get, listed, post } from "../api.js";
import { ago, moment } from "../format.js";
import { useResource, useSettled } from "../hooks.js";
import { html } from "../html.js";
import { link, replaceQuery } from "../router.js";
import { CopyButton, Empty, Field, FormDialog, Loaded } from "../ui.js";
import { OnePolicy } from "./policy.js";

/** @typedef {import("../openapi.d.ts").Policy} Policy */

const PAGE = 100;
const NAME = "[A-Za-z0-9][A-Za-z0-9_.\\-]*";

/** @param {{ route: import("../router.js").Route }} props */
export function View({ route }) {
  const [, name] = route.parts;
  return name ? html`<${OnePolicy} key=${name} name=${name} />` : html`<${List} query=${route.query} />`;
}

/** @param {{ query: URLSearchParams }} props */
function List({ query }) {
  const text = query.get("q") ?? "";
  const name = useSettled(text, 150) || undefined;
  const [isMaking, setMaking] = useState(false);
  const [most, setMost] = useState(PAGE);
  const resource = useResource(
    (signal) => listed((cursor) => get("/v1/policies", { name, cursor, limit: PAGE }, { signal }), most),
    [name, most],
  );
  return html`<div class="stack">
    <header class="row spread"><h1>Policies</h1><button class="primary" onClick=${() => setMaking(true)}>New policy</button></header>
    <form class="filters" role="search" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <${Field} label="Search">${(/** @type {object} */ about) => html`<input ...${about} type="search" maxlength="64" value=${text}
        onInput=${(/** @type {any} */ event) => replaceQuery({ q: event.target.value })} />`}<//>
    </form>
    <${Loaded} resource=${resource} what="the policies">
      ${(/** @type {Policy[]} */ policies) => html`
        ${policies.length === 0 && (name ? html`<${Empty} title="No policy has this in its name" />` : html`<${None} />`)}
        ${policies.length > 0 && html`<${Policies} policies=${policies} />`}
        ${policies.length >= most && html`<button onClick=${() => setMost(most + 4 * PAGE)}>Show more</button>`}`}
    <//>
    ${isMaking && html`<${NewPolicy} close=${() => setMaking(false)} />`}
  </div>`;
}

function None() {
  const line = "client.policies.create(\"walker\")";
  return html`<${Empty} title="No policy has a name yet">
    <p>A name holds numbered versions, each a checkpoint of a run, and aliases such as <code>champion</code> that move between them.
      Who acts asks for <code>walker@champion</code>, and never has to know which run made it.</p>
    <p><code>${line}</code> <${CopyButton} text=${line} /></p>
  <//>`;
}

/** @param {{ policies: Policy[] }} props */
function Policies({ policies }) {
  return html`<table class="stacking">
    <thead><tr><th scope="col">Name</th><th scope="col">Description</th><th scope="col" class="number">Versions</th>
      <th scope="col">Aliases</th><th scope="col">Made</th></tr></thead>
    <tbody>${policies.map((policy) => html`<tr key=${policy.name}>
      <th scope="row"><a href=${link(["policies", policy.name])}>${policy.name}</a></th>
      <td data-label="Description"><span class="clamp" title=${policy.description}>${policy.description ?? "–"}</span></td>
      <td data-label="Versions" class="number">${policy.n_versions || "none"}</td>
      <td data-label="Aliases">${Object.entries(policy.aliases).map(([alias, version]) => html`<span class="label" key=${alias}>${alias} → ${version}</span>`)}</td>
      <td data-label="Made" title=${moment(policy.created_at)}>${ago(policy.created_at)}</td>
    </tr>`)}</tbody>
  </table>`;
}

/** @param {{ close: () => void }} props */
function NewPolicy({ close }) {
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const make = async () => {
    await post("/v1/policies", {}, { name, ...(description && { description }) });
    return link(["policies", name]);
  };
  return html`<${FormDialog} title="New policy" close=${close} submit=${make} label="Make it" disabled=${!name}>
    <${Field} label="Name" hint="Letters, digits, dots, dashes and underscores.">${(/** @type {object} */ about) =>
      html`<input ...${about} required maxlength="64" pattern=${NAME} value=${name} onInput=${(/** @type {any} */ event) => setName(event.target.value)} />`}<//>
    <${Field} label="Description">${(/** @type {object} */ about) =>
      html`<input ...${about} maxlength="10000" value=${description} onInput=${(/** @type {any} */ event) => setDescription(event.target.value)} />`}<//>
  <//>`;
}
