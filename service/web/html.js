/** Preact's elements in template literals: what is put in is text or an element, never markup. */
import { h } from "preact";
import htm from "htm";

/** @typedef {import("preact").ComponentChildren} Children */

export const html = /** @type {(strings: TemplateStringsArray, ...values: any[]) => import("preact").VNode<any>} */ (
  /** @type {unknown} */ (htm.bind(h))
);
