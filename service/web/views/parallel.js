/**
 * Parallel coordinates: each trial a line over the axes of its values, its colour how good it was.
 *
 * Lines are drawn on a canvas, so that a thousand of them follow the pointer; axes and what is brushed lie over it as
 * SVG. A brush is a part of an axis from 0 (its foot) to 1; fields beneath set the same without a pointer.
 */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useTheme } from "../chart.js";
import { number, own, plain } from "../format.js";
import { html } from "../html.js";

/** @typedef {import("./sweeps.js").Trial} Trial */
/**
 * @typedef {{ key: string | null, label: string, isLog: boolean, low: number, high: number, choices: string[] | null }} Axis
 *   `key` is null of the score's; `choices`, from the foot up, are what an axis of categories has, as text
 * @typedef {Record<string, [number, number]>} Brushes by the axis's label
 */

const HEIGHT = 300;
const EDGE = { top: 34, bottom: 18, left: 46, right: 74 };
const LEAST_GAP = 92;
/** What a letter of an axis's name takes. */
const LETTER = 8;
/** So near to an end of its axis a pointer means the end. */
const SNAP = 0.03;
/** From bad to good, by lightness alone, away from the paper: so everybody can tell them apart. */
const RAMPS = {
  light: [[0xc2, 0xb6, 0x8a], [0x6f, 0x93, 0xa8], [0x1f, 0x5d, 0x94], [0x06, 0x22, 0x4d]],
  dark: [[0x3c, 0x4c, 0x63], [0x5b, 0x82, 0x9c], [0xb9, 0xb0, 0x78], [0xff, 0xe4, 0x6b]],
};

/** @param {[number, number]} range @param {Axis} axis */
function inLog([low, high], axis) {
  return axis.isLog ? [Math.log(low), Math.log(high)] : [low, high];
}

/**
 * The axes of a sweep: what it searches or varies, and the score.
 * @param {Trial[]} trials  @param {Sweep_["search"]} search  @param {string} metric
 * @returns {Axis[]}
 * @typedef {import("../openapi.d.ts").Schemas["SweepOut"]} Sweep_
 */
export function axesOf(trials, search, metric) {
  const space = /** @type {Record<string, any>} */ (search?.["space"] ?? {});
  const keys = [...new Set([...Object.keys(space), ...trials.flatMap((trial) => Object.keys(trial.choices))])];
  const axes = keys.map((key) => axis(key, key, trials.map((trial) => own(trial.choices, key)), own(space, key) ?? {}));
  const score = axis(null, metric, trials.map((trial) => trial.value ?? undefined), {});
  return [...axes, keys.includes(metric) ? { ...score, label: `${metric} (score)` } : score];
}

/** @param {string | null} key  @param {string} label  @param {unknown[]} values  @param {Record<string, any>} searched  @returns {Axis} */
function axis(key, label, values, searched) {
  const given = values.filter((value) => value !== undefined);
  const isNumeric = !searched["choices"] && given.every((value) => typeof value === "number") && (given.length > 0 || key === null || "low" in searched);
  if (!isNumeric) {
    const choices = [...new Set([...(searched["choices"] ?? []), ...given].map(plain))];
    return { key, label, isLog: false, low: 0, high: Math.max(1, choices.length - 1), choices };
  }
  const numbers = /** @type {number[]} */ (given);
  const low = searched["low"] ?? numbers.reduce((least, value) => Math.min(least, value), Infinity);
  const high = searched["high"] ?? numbers.reduce((most, value) => Math.max(most, value), -Infinity);
  const [from, to] = !Number.isFinite(low) ? [0, 1] : low === high ? [low - 0.5, high + 0.5] : [low, high];
  const isSpread = !("low" in searched) && key !== null && from > 0 && to / from >= 50; // a grid over decades
  return { key, label, isLog: from > 0 && Boolean(searched["log"] ?? isSpread), low: from, high: to, choices: null };
}

/** Where a trial meets an axis, from 0 to 1; null where it has no value; null among its choices is one as any other. @param {Axis} axis  @param {Trial} trial */
export function place(axis, trial) {
  const value = axis.key === null ? (trial.value ?? undefined) : own(trial.choices, axis.key);
  if (value === undefined) return null;
  if (axis.choices) {
    const index = axis.choices.indexOf(plain(value));
    return index < 0 ? null : axis.choices.length === 1 ? 0.5 : index / axis.high;
  }
  const [low = 0, high = 1] = inLog([axis.low, axis.high], axis);
  const at = ((axis.isLog ? Math.log(Number(value)) : Number(value)) - low) / (high - low);
  return Number.isFinite(at) ? Math.min(1, Math.max(0, at)) : null;
}

/** What lies at a place of an axis, as text. @param {Axis} axis  @param {number} at */
function valueAt(axis, at) {
  if (axis.choices) return axis.choices[Math.round(at * (axis.choices.length - 1))] ?? "–";
  const [low = 0, high = 1] = inLog([axis.low, axis.high], axis);
  const value = low + at * (high - low);
  return number(Number((axis.isLog ? Math.exp(value) : value).toPrecision(4)));
}

/** Whether a trial lies in every brush. @param {Trial} trial  @param {Axis[]} axes  @param {Brushes} brushes */
export function matches(trial, axes, brushes) {
  return axes.every((axis) => {
    const brush = own(brushes, axis.label);
    if (!brush) return true;
    const at = place(axis, trial);
    return at !== null && at >= brush[0] - 1e-9 && at <= brush[1] + 1e-9;
  });
}

/** @param {number} at from 0, bad, to 1, good  @param {string} theme */
function colour(at, theme) {
  const ramp = theme === "dark" ? RAMPS.dark : RAMPS.light;
  const exact = at * (ramp.length - 1);
  const index = Math.min(ramp.length - 2, Math.floor(exact));
  const [from = [], to = []] = [ramp[index], ramp[index + 1]];
  return `rgb(${from.map((part, channel) => Math.round(part + (exact - index) * ((to[channel] ?? 0) - part))).join(" ")})`;
}

/**
 * @param {{ trials: Trial[], axes: Axis[], brushes: Brushes, setBrushes: (brushes: Brushes) => void, best: number | null,
 *   pointed: number | null, isLow: boolean }} props
 */
export function ParallelCoordinates(props) {
  const { trials, axes, brushes, setBrushes, isLow } = props;
  const frame = useRef(/** @type {HTMLDivElement | null} */ (null));
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const [wide, setWide] = useState(600);
  const theme = useTheme();
  useEffect(() => {
    const element = frame.current;
    if (!element) return undefined;
    const observer = new ResizeObserver(() => setWide(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const width = Math.max(wide, EDGE.left + EDGE.right + (axes.length - 1) * LEAST_GAP);
  const x = (/** @type {number} */ index) => EDGE.left + (index * (width - EDGE.left - EDGE.right)) / Math.max(1, axes.length - 1);
  const places = useMemo(() => trials.map((trial) => axes.map((each) => place(each, trial))), [trials, axes]);
  useEffect(() => draw(canvas.current, { ...props, places, width, x, theme }), [places, brushes, props.best, props.pointed, isLow, width, theme]);
  const set = (/** @type {Axis} */ axis, /** @type {[number, number] | null} */ brush) => {
    const { [axis.label]: _, ...others } = brushes;
    setBrushes(brush ? { ...others, [axis.label]: brush } : others);
  };
  return html`<div class="parallel" ref=${frame}>
      <div class="scroll" tabindex="0" role="region" aria-label="Lines over the values; the table of trials says the same">
        <div class="layers" style=${{ width: `${width}px`, height: `${HEIGHT}px` }}>
          <canvas ref=${canvas} aria-hidden="true" style=${{ width: `${width}px`, height: `${HEIGHT}px` }}></canvas>
          <svg width=${width} height=${HEIGHT} aria-hidden="true">
            ${axes.map((axis, index) => html`<${AxisLine} key=${axis.label} axis=${axis} x=${x(index)} gap=${x(1) - x(0)} width=${width} brush=${own(brushes, axis.label)} set=${set} />`)}
          </svg>
        </div>
      </div>
      <p class="row hint"><span>${isLow ? "high" : "low"} score</span><span class="ramp" style=${{ background: `linear-gradient(to right, ${[0, 0.33, 0.67, 1].map((at) => colour(at, theme)).join(", ")})` }}></span>
        <span>${isLow ? "low" : "high"} score</span><span>· drag along an axis to choose a part of it</span>
        ${Object.keys(brushes).length > 0 && html`<button class="quiet" onClick=${() => setBrushes({})}>Show all again</button>`}</p>
      <details><summary>Choose parts of the axes by number</summary><div class="grid ranges">
        ${axes.map((axis) => html`<${Range} key=${axis.label} axis=${axis} brush=${own(brushes, axis.label)} set=${set} />`)}</div></details>
    </div>`;
}

/** @param {number} at */
function y(at) {
  return HEIGHT - EDGE.bottom - at * (HEIGHT - EDGE.top - EDGE.bottom);
}

/**
 * An axis's name as it fits: over its axis, or at the edge of the picture where it would run out of it.
 * @param {string} name  @param {number} x  @param {number} gap to the next axis  @param {number} width of the picture
 */
function fitted(name, x, gap, width) {
  const half = Math.min(name.length * LETTER, gap) / 2;
  const [at, anchor] = x < half ? [2, "start"] : width - x < half ? [width - 2, "end"] : [x, "middle"];
  const room = anchor === "middle" ? gap : Math.min(x, width - x) + gap / 2;
  const letters = Math.max(6, Math.floor(room / LETTER));
  return { at, anchor, text: name.length > letters ? `…${name.slice(1 - letters)}` : name };
}

/** @param {{ axis: Axis, x: number, gap: number, width: number, brush: [number, number] | undefined, set: (axis: Axis, brush: [number, number] | null) => void }} props */
function AxisLine({ axis, x, gap, width, brush, set }) {
  const begin = useRef(/** @type {number | null} */ (null));
  /** @param {PointerEvent} event */
  const at = (event) => {
    const box = /** @type {SVGElement} */ (event.currentTarget).getBoundingClientRect();
    const exact = 1 - (event.clientY - box.top) / box.height;
    return exact > 1 - SNAP ? 1 : exact < SNAP ? 0 : exact;
  };
  const down = (/** @type {PointerEvent} */ event) => {
    /** @type {SVGElement} */ (event.currentTarget).setPointerCapture(event.pointerId);
    begin.current = at(event);
  };
  const move = (/** @type {PointerEvent} */ event) => {
    if (begin.current === null) return;
    const here = at(event);
    if (Math.abs(here - begin.current) > 0.01) set(axis, [Math.min(begin.current, here), Math.max(begin.current, here)]);
  };
  const up = (/** @type {PointerEvent} */ event) => {
    if (begin.current !== null && Math.abs(at(event) - begin.current) <= 0.01) set(axis, null);
    begin.current = null;
  };
  const name = fitted(axis.label, x, gap, width);
  return html`<g class="axis">
    <text class="name" x=${name.at} y="14" text-anchor=${name.anchor}>${name.text}<title>${axis.label}</title></text>
    <line x1=${x} x2=${x} y1=${y(0)} y2=${y(1)} />
    ${ticks(axis).map((tick) => html`<text key=${tick} x=${x + 5} y=${y(tick) + 4}>${short(valueAt(axis, tick))}</text>`)}
    ${brush && html`<rect class="brush" x=${x - 8} width="16" y=${y(brush[1])} height=${Math.max(2, y(brush[0]) - y(brush[1]))} />`}
    <rect class="reach" x=${x - 16} width="32" y=${y(1)} height=${y(0) - y(1)} onPointerDown=${down} onPointerMove=${move} onPointerUp=${up} onPointerCancel=${() => (begin.current = null)} />
  </g>`;
}

/** @param {string} text */
function short(text) {
  return text.length > 11 ? `${text.slice(0, 10)}…` : text;
}

/** Where an axis says its values. @param {Axis} axis */
function ticks(axis) {
  const n = axis.choices?.length ?? 5;
  if (n === 1) return [0.5];
  const step = Math.ceil(n / 12);
  return Array.from({ length: Math.ceil(n / step) }, (_, index) => (index * step) / (n - 1));
}

/** The ends of a brush as two sliders. @param {{ axis: Axis, brush: [number, number] | undefined, set: (axis: Axis, brush: [number, number] | null) => void }} props */
function Range({ axis, brush, set }) {
  const [low, high] = brush ?? [0, 1];
  const step = axis.choices ? 1 / Math.max(1, axis.choices.length - 1) : 0.01;
  const slide = (/** @type {"from" | "to"} */ end) => (/** @type {any} */ event) => {
    const value = Number(event.target.value);
    const next = /** @type {[number, number]} */ (end === "from" ? [value, Math.max(value, high)] : [Math.min(value, low), value]);
    set(axis, next[0] <= 0 && next[1] >= 1 ? null : next);
  };
  return html`<fieldset><legend><code>${axis.label}</code></legend>
    ${/** @type {const} */ (["from", "to"]).map((end) => {
      const value = end === "from" ? low : high;
      return html`<label class="row"><span>${end}</span><input type="range" min="0" max="1" step=${step} value=${value}
        aria-valuetext=${valueAt(axis, value)} aria-label="${axis.label} ${end}" onInput=${slide(end)} /><output>${valueAt(axis, value)}</output></label>`;
    })}</fieldset>`;
}

/**
 * @param {HTMLCanvasElement | null} canvas
 * @param {{ trials: Trial[], axes: Axis[], brushes: Brushes, places: (number | null)[][], width: number, x: (index: number) => number,
 *   best: number | null, pointed: number | null, isLow: boolean, theme: string }} of
 */
function draw(canvas, { trials, axes, brushes, places, width, x, best, pointed, isLow, theme }) {
  const context = canvas?.getContext("2d");
  if (!canvas || !context) return;
  canvas.width = width * devicePixelRatio;
  canvas.height = HEIGHT * devicePixelRatio;
  context.scale(devicePixelRatio, devicePixelRatio);
  const faint = getComputedStyle(canvas).getPropertyValue("--line").trim();
  const score = axes.length - 1;
  const good = places.map((row) => (row[score] === null ? null : isLow ? 1 - Number(row[score]) : Number(row[score])));
  const rank = (/** @type {number} */ index) => Number(trials[index]?.trial === pointed) * 4 + Number(trials[index]?.trial === best) * 2 + (good[index] ?? -1);
  const isShown = trials.map((trial) => matches(trial, axes, brushes));
  const order = trials.map((_, index) => index).sort((a, b) => Number(isShown[a]) - Number(isShown[b]) || rank(a) - rank(b));
  for (const index of order) {
    const isMarked = trials[index]?.trial === pointed || trials[index]?.trial === best;
    const value = good[index] ?? null;
    context.strokeStyle = isShown[index] && value !== null ? colour(value, theme) : faint;
    context.globalAlpha = isMarked ? 1 : isShown[index] ? 0.75 : 0.35;
    context.lineWidth = isMarked ? 3.5 : trials.length > 300 ? 1 : 1.3; // many thin lines are drawn in half the time
    context.setLineDash(value === null ? [3, 4] : []);
    stroke(context, places[index] ?? [], x);
  }
}

/** A line with gaps where there is no value; a dot where one stands alone. @param {CanvasRenderingContext2D} context  @param {(number | null)[]} row  @param {(index: number) => number} x */
function stroke(context, row, x) {
  context.beginPath();
  context.fillStyle = context.strokeStyle;
  const isGap = (/** @type {number} */ index) => (row[index] ?? null) === null;
  row.forEach((at, index) => {
    if (at === null) return;
    if (!isGap(index - 1)) context.lineTo(x(index), y(at));
    else if (!isGap(index + 1)) context.moveTo(x(index), y(at));
    else {
      const dot = new Path2D();
      dot.arc(x(index), y(at), 1.5 + context.lineWidth, 0, 2 * Math.PI);
      context.fill(dot);
    }
  });
  context.stroke();
}
