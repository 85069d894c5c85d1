/** Inputs for an element of a space: sliders for few numbers, lists for choices, JSON for all else. */
import { useState } from "preact/hooks";
import { number } from "../format.js";
import { html } from "../html.js";
import { Field } from "../ui.js";

const FEW = 32;
/** A bound farther away is none. */
const FAR = 1e6;

/** Where a slider begins and ends, number by number. @typedef {{ low: number, high: number }} Range */

/**
 * @param {{ space: any, value: any, change: (value: any) => void, names: string[], label: string, seen?: any[] }} props `seen` are
 *   recorded elements, which show how far numbers without bounds go
 */
export function SpaceFields({ space, value, change, names, label, seen = [] }) {
  switch (space?.type) {
    case "Dict":
      return html`${space.spaces.map((/** @type {[string, any]} */ [name, inner]) => html`<fieldset key=${name}><legend>${name}</legend>
        <${SpaceFields} space=${inner} value=${value?.[name]} label=${name} names=${[]} seen=${seen.map((each) => each?.[name])}
          change=${(/** @type {any} */ next) => change({ ...value, [name]: next })} /></fieldset>`)}`;
    case "Tuple":
      return html`${space.spaces.map((/** @type {any} */ inner, /** @type {number} */ index) => html`<${SpaceFields} key=${index} space=${inner} value=${value?.[index]}
        label=${names[index] ?? `${label} ${index}`} names=${[]} seen=${seen.map((each) => each?.[index])} change=${(/** @type {any} */ next) => change(put(value, [index], next))} />`)}`;
    case "Discrete":
      return html`<${Choice} label=${names[0] ?? label} n=${space.n} start=${space.start} value=${value} change=${change} />`;
    case "MultiDiscrete":
      return fewOr(space.nvec, value, change, label, (n, place, index) => html`<${Choice} key=${index} label=${names[index] ?? `${label} ${index}`} n=${n}
        start=${at(space.start, place) ?? 0} value=${at(value, place)} change=${(/** @type {number} */ next) => change(put(value, place, next))} />`);
    case "MultiBinary":
      return fewOr(value, value, change, label, (bit, place, index) => html`<label class="check" key=${index}><input type="checkbox" checked=${Boolean(bit)}
        onChange=${() => change(put(value, place, bit ? 0 : 1))} />${names[index] ?? `${label} ${index}`}</label>`);
    case "Box":
      return fewOr(value, value, change, label, (one, place, index) => html`<${Slider} key=${index} label=${names[index] ?? (place.length ? `${label} ${place.join(", ")}` : label)}
        value=${Number(one)} range=${rangeOf(space, place, seen)} isWhole=${/int/.test(space.dtype)} change=${(/** @type {number} */ next) => change(put(value, place, next))} />`);
    default:
      return html`<${Json} label=${label} value=${value} change=${change} />`;
  }
}

/** @param {any} shaped  @param {any} value  @param {(value: any) => void} change  @param {string} label
 * @param {(leaf: any, place: number[], index: number) => any} each */
function fewOr(shaped, value, change, label, each) {
  const leaves = placesOf(shaped);
  if (leaves.length > FEW) return html`<${Json} label=${label} value=${value} change=${change} />`;
  return leaves.map(([leaf, place], index) => each(leaf, place, index));
}

/** The leaves of nested lists and where they are. @param {any} value  @param {number[]} [place] @returns {[any, number[]][]} */
function placesOf(value, place = []) {
  return Array.isArray(value) ? value.flatMap((each, index) => placesOf(each, [...place, index])) : [[value, place]];
}

/** @param {any} value  @param {number[]} place */
function at(value, place) {
  return place.reduce((inner, index) => (Array.isArray(inner) ? inner[index] : inner), value);
}

/** A copy with another leaf. @param {any} value  @param {number[]} place  @param {any} leaf @returns {any} */
function put(value, [first, ...rest], leaf) {
  return first === undefined ? leaf : value.map((/** @type {any} */ each, /** @type {number} */ index) => (index === first ? put(each, rest, leaf) : each));
}

/** Bounds; where there are none, as far as was seen and a little more. @param {any} space  @param {number[]} place  @param {any[]} seen @returns {Range} */
export function rangeOf(space, place, seen) {
  const [low, high] = [at(space.low, place), at(space.high, place)];
  const known = seen.map((each) => Number(at(each, place))).filter(Number.isFinite);
  const [least, most] = known.length ? [Math.min(...known), Math.max(...known)] : [-3, 3];
  const margin = Math.max(0.2 * (most - least), 0.1);
  const isBound = (/** @type {any} */ bound) => bound !== null && Math.abs(bound) < FAR;
  return { low: isBound(low) ? low : least - margin, high: isBound(high) ? high : most + margin };
}

/** JSON whose numbers can be sent as JSON again. @param {string} text */
function readJson(text) {
  return JSON.parse(text, (_, value) => {
    if (typeof value === "number" && !Number.isFinite(value)) throw new RangeError("a number in it is too large");
    return value;
  });
}

/** @param {{ label: string, value: number, range: Range, isWhole: boolean, change: (value: number) => void }} props */
function Slider({ label, value, range, isWhole, change }) {
  const [low, high] = [Math.min(range.low, value), Math.max(range.high, value)];
  const [error, setError] = useState("");
  const changed = (/** @type {any} */ event) => {
    const { value: text, validity } = event.currentTarget;
    const isNumber = text !== "" && Number.isFinite(Number(text));
    setError(isNumber ? "" : `This is ${validity.badInput ? "no number, or too large a one" : "no number"}: the one before stays.`);
    if (isNumber) change(Number(text));
  };
  const step = isWhole ? 1 : "any";
  return html`<${Field} label=${label} error=${error}>${(/** @type {any} */ attributes) => html`<div class="slider">
    <input ...${attributes} type="range" min=${low} max=${high} step=${step} value=${value} aria-valuetext=${number(value)} onInput=${changed} />
    <input type="number" aria-label="${label}, as a number" step=${step} value=${Number(value.toPrecision(5))} onChange=${changed} /></div>`}<//>`;
}

/** @param {{ label: string, n: number, start: number, value: number, change: (value: number) => void }} props */
function Choice({ label, n, start, value, change }) {
  return html`<${Field} label=${label}>${(/** @type {any} */ attributes) =>
    n > 512
      ? html`<input ...${attributes} type="number" min=${start} max=${start + n - 1} value=${value} onChange=${(/** @type {any} */ event) => change(Number(event.currentTarget.value))} />`
      : html`<select ...${attributes} value=${value} onChange=${(/** @type {any} */ event) => change(Number(event.currentTarget.value))}>
        ${Array.from({ length: n }, (_, index) => html`<option value=${index + start}>${index + start}</option>`)}</select>`}<//>`;
}

/** @param {{ label: string, value: any, change: (value: any) => void }} props */
function Json({ label, value, change }) {
  const [text, setText] = useState(() => JSON.stringify(value));
  const [error, setError] = useState("");
  const changed = (/** @type {any} */ event) => {
    setText(event.currentTarget.value);
    try {
      change(readJson(event.currentTarget.value));
      setError("");
    } catch (reason) {
      setError(`This is no JSON yet: ${/** @type {Error} */ (reason).message}`);
    }
  };
  return html`<${Field} label="${label}, as JSON" error=${error}>${(/** @type {any} */ attributes) => html`<textarea ...${attributes} value=${text} onInput=${changed}></textarea>`}<//>`;
}
