/** Spaces of observations and actions: drawn for people, and an element of one to begin with. */
import { number } from "./format.js";
import { html } from "./html.js";

/** A space as people read it: what kind it is, its sizes, and its bounds one by one where they are few.
 * @param {{ space: any }} props */
export function Space({ space }) {
  if (!space) return html`<p class="hint">Not known.</p>`;
  switch (space.type) {
    case "Discrete":
      return html`<p><strong>One of ${number(space.n)}</strong>: ${space.start} to ${space.start + space.n - 1}</p>`;
    case "MultiDiscrete":
      return html`<p><strong>${space.nvec.flat(Infinity).length} choices</strong>, of ${space.nvec.flat(Infinity).join(", ")}</p>`;
    case "MultiBinary":
      return html`<p><strong>${sizes(space.shape)}</strong> yes or no</p>`;
    case "Text":
      return html`<p><strong>A text</strong> of ${space.min_length} to ${space.max_length} characters</p>`;
    case "Box":
      return html`<${Box} space=${space} />`;
    case "Dict":
      return html`<dl class="nested">${space.spaces.map((/** @type {[string, any]} */ [name, inner]) => html`<dt key=${name}><code>${name}</code></dt><dd><${Space} space=${inner} /></dd>`)}</dl>`;
    case "Tuple":
      return html`<ol class="nested">${space.spaces.map((/** @type {any} */ inner) => html`<li><${Space} space=${inner} /></li>`)}</ol>`;
    default:
      return html`<pre>${JSON.stringify(space, null, 2)}</pre>`;
  }
}

const FEW = 32;

/** @param {{ space: any }} props */
function Box({ space }) {
  const n = space.shape.reduce((/** @type {number} */ all, /** @type {number} */ each) => all * each, 1);
  const [low, high] = [space.low, space.high].map((bound) => (Array.isArray(bound) ? bound.flat(Infinity) : Array(Math.min(n, FEW)).fill(bound)));
  const isUniform = !Array.isArray(space.low) && !Array.isArray(space.high);
  const title = html`<p><strong>${n === 1 ? "1 number" : `${sizes(space.shape)} numbers`}</strong> <span class="hint">${space.dtype}</span>${isUniform && html`, ${span(space.low, space.high)}${n > 1 && " each"}`}</p>`;
  if (isUniform || n > FEW) return html`${title}${!isUniform && html`<p class="hint">Each has bounds of its own.</p>`}`;
  return html`${title}<table class="bounds"><thead><tr><th scope="col" class="number">#</th><th scope="col">Range</th></tr></thead>
    <tbody>${low?.map((each, index) => html`<tr key=${index}><td class="number">${index}</td><td>${span(each, high?.[index])}</td></tr>`)}</tbody></table>`;
}

/** @param {number[]} shape */
function sizes(shape) {
  return shape.length ? shape.join(" × ") : "1";
}

/** @param {number | null} low  @param {number | null} high */
function span(low, high) {
  if (low === null && high === null) return "any number";
  if (low === null) return `at most ${number(high)}`;
  return high === null ? `at least ${number(low)}` : `${number(low)} to ${number(high)}`;
}

/**
 * An element of a space: as near to zero as its bounds let it be.
 * @param {any} space
 * @returns {any}
 */
export function element(space) {
  switch (space.type) {
    case "Discrete":
      return space.start;
    case "MultiDiscrete":
      return space.start;
    case "MultiBinary":
      return filled(space.shape, () => 0);
    case "Text":
      return (space.characters[0] ?? "").repeat(space.min_length);
    case "Box":
      return filled(space.shape, (place) => Math.max(bound(space.low, place) ?? 0, Math.min(bound(space.high, place) ?? 0, 0)));
    case "Dict":
      return Object.fromEntries(space.spaces.map((/** @type {[string, any]} */ [name, inner]) => [name, element(inner)]));
    default:
      return space.spaces.map(element);
  }
}

/** A nested list of a shape. @param {number[]} shape  @param {(place: number[]) => number} value  @param {number[]} [place] @returns {any} */
function filled(shape, value, place = []) {
  const [n, ...rest] = shape;
  return n === undefined ? value(place) : Array.from({ length: n }, (_, index) => filled(rest, value, [...place, index]));
}

/** The bound at a place, which all may share. @param {any} bound  @param {number[]} place */
function bound(bound, place) {
  return Array.isArray(bound) ? place.reduce((inner, index) => inner[index], bound) : bound;
}
