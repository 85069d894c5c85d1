/** Policies: not here yet. */
import { html } from "../html.js";
import { Empty } from "../ui.js";

/** @param {{ route: import("../router.js").Route }} props */
export function View({ route }) {
  return html`<h1>${route.parts[0] ?? "runs"}</h1><${Empty} title="Policies"><p>${route.text}</p><//>`;
}
