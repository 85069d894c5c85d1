/** Evaluate or roll out a trained run: a form from the request's own schema in the OpenAPI document. */
import { useMemo, useState } from "preact/hooks";
import { call, send } from "../api.js";
import { useAction, useKept, useResource, useSentKey } from "../hooks.js";
import { html } from "../html.js";
import { link } from "../router.js";
import { ErrorBox, Loaded } from "../ui.js";
import { CopyAs } from "./copy_as.js";
import { flat, Nodes, nodesOf, read } from "./schema_form.js";
import { placed } from "./specification.js";

/** @typedef {import("./schema_form.js").Drafts} Drafts */
/** @typedef {import("./schema_form.js").FieldNode} FieldNode */
/** @typedef {import("./schema_form.js").Schema} Schema */

const REQUESTS = { evaluate: "EvaluateRequest", rollout: "RolloutRequest" };
/** Given by the run, or changing what was trained. */
const NOT_ASKED = ["run", "policy", "env", "wrappers", "model", "runner", "experiment", "configuration", "overrides"];

/** @param {{ kind: "evaluate" | "rollout", request: Record<string, unknown> }} props `request` has the `run` whose policy acts */
export function ActForm({ kind, request }) {
  const document = useResource(async (signal) => /** @type {Promise<Schema>} */ ((await send("GET", "/openapi.json", undefined, { signal })).json()), []);
  return html`<${Loaded} resource=${document} what="the settings">
    ${(/** @type {Schema} */ { components: { schemas } }) => html`<${Filled} kind=${kind} request=${request} schemas=${schemas} />`}
  <//>`;
}

/** @param {{ kind: "evaluate" | "rollout", request: Record<string, unknown>, schemas: Record<string, Schema> }} props */
function Filled({ kind, request, schemas }) {
  const { run, ...given } = request;
  const [drafts, setDrafts] = useKept("act", /** @type {Drafts} */ (Object.fromEntries(Object.entries(given).map(([key, value]) => [key, { value }]))));
  const [search] = useState("");
  const nodes = useMemo(() => {
    const [whole] = nodesOf("", schemas[REQUESTS[kind]] ?? {}, schemas, {});
    return (whole?.kind === "group" ? whole.children : []).filter((node) => !NOT_ASKED.includes(node.key));
  }, [kind, schemas]);
  const fields = new Map(flat(nodes).map((node) => [node.key, /** @type {FieldNode} */ (node)]));
  const body = { run, ...Object.fromEntries(Object.entries(drafts).map(([key, draft]) => [key, read(draft, fields.get(key) ?? null)])) };
  const keyOf = useSentKey();
  const { run: submit, isBusy, problem, clear } = useAction(async () => {
    const options = { headers: { "idempotency-key": keyOf(JSON.stringify([kind, body])) } };
    const made = /** @type {{ id: string }} */ (await call("post", kind === "evaluate" ? "/v1/evaluate" : "/v1/rollout", {}, /** @type {any} */ (body), options));
    return link(["runs", made.id]);
  });
  const mistakes = placed(problem?.errors ?? [], (place) => fields.has(place));
  const change = (/** @type {string} */ key, /** @type {import("./schema_form.js").Draft | undefined} */ draft) => {
    clear();
    setDrafts(({ [key]: _, ...others }) => (draft === undefined ? others : { ...others, [key]: draft }));
  };
  const form = { drafts, change, mistakes, search, suggest: (/** @type {string} */ key, /** @type {any} */ mistake) => change(key, mistake.did_you_mean) };
  const isElsewhere = problem && (!problem.errors.length || mistakes.has(""));
  const submitByKey = (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && submit();
  return html`<div class="new-run" onKeyDown=${submitByKey}>
    <div class="stack">
      ${isElsewhere && html`<${ErrorBox} problem=${problem} />`}
      <section class="card"><h2>With the policy of <a href=${link(["runs", String(run)])}>${run}</a></h2>
        <div class="fields"><${Nodes} nodes=${nodes} form=${form} /></div></section>
    </div>
    <aside class="composed" aria-label="Result">
      <div class="actions row"><button class="primary" disabled=${isBusy} aria-busy=${isBusy} title="Ctrl+Enter" onClick=${submit}>${kind === "evaluate" ? "Evaluate" : "Roll out"}</button>
        <span role="status">${problem && html`<span class="field-error">✕ ${problem.message}</span>`}</span></div>
      <${CopyAs} body=${body} path="/v1/${kind}" clientCall=${kind} />
    </aside>
  </div>`;
}
