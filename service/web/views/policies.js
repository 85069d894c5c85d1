/** Policies: not here yet. */
import { html } from "../html.js";
import { Empty } from "../ui.js";

/** @param {{ route: import("../router.js").Route }} props */
export function View({ route }) {
  return html`<${Empty} title="Policies"><p>${route.text}</p><//>`;
}
