/**
 * Curves by uPlot: several lines with bands over one x axis, zoom by dragging, values under the pointer.
 *
 * Colours are Okabe and Ito's, which colour-blind readers tell apart; lines differ by their dashes as well.
 */
import uPlot from "uplot";
import { useEffect, useRef, useState } from "preact/hooks";
import { save } from "./api.js";
import { count, number } from "./format.js";
import { html } from "./html.js";

/**
 * @typedef {{ label: string, x: number[], y: (number | null)[], low?: (number | null)[], high?: (number | null)[],
 *   raw?: (number | null)[], color?: number, isHidden?: boolean, isDots?: boolean }} Line `raw` is drawn faint behind `y`;
 *   `color` fixes a line's place in the palette; a line that is hidden stays in the legend
 * @typedef {{ lines: Line[], xLabel: string, yLabel?: string, height?: number, isTime?: boolean, isLog?: boolean,
 *   zoom?: [number, number] | null, onZoom?: (range: [number, number] | null) => void, onPick?: (x: number) => void, marks?: { x: number, label: string }[],
 *   name: string, onToggle?: (index: number) => void }} ChartProps `zoom` is the stretch of x that is shown, where the view
 *   keeps it; `onToggle` makes the legend's entries buttons
 */

const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7f7f7f", "#8b3a62"];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 5], [1, 2], [12, 4], [6, 2, 2, 2]];

/** Colour and dash of the line at a place. @param {number} index */
export function lineStyle(index) {
  return { color: PALETTE[index % PALETTE.length] ?? "#0072b2", dash: DASHES[index % DASHES.length] ?? [] };
}

/**
 * Exponential moving average without the bias of its beginning; gaps stay gaps.
 * @param {(number | null)[]} values
 * @param {number} weight of what came before, 0 to below 1
 */
export function smoothed(values, weight) {
  if (weight <= 0) return values;
  let mean = 0;
  let total = 0;
  return values.map((value) => {
    if (value === null || !Number.isFinite(value)) return null;
    mean = weight * mean + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return mean / total;
  });
}

/** The table of x values that any line has, and each line's values in it. @param {Line[]} lines */
function aligned(lines) {
  if (!lines.length) return /** @type {uPlot.AlignedData} */ ([[]]);
  const tables = lines.map((line) => {
    const columns = [line.y, line.raw ?? line.y, line.low ?? line.y, line.high ?? line.y];
    return /** @type {uPlot.AlignedData} */ ([line.x, ...columns]);
  });
  return uPlot.join(tables, tables.map((table) => table.map(() => 1)));
}

/** @param {ChartProps} props */
export function Chart(props) {
  const { lines, height = 280, name } = props;
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {uPlot | null} */ (null));
  const drawn = lines.map((line, index) => ({ ...line, color: line.color ?? index })).filter((line) => !line.isHidden);
  const latest = useRef(props);
  latest.current = { ...props, lines: drawn };
  const [under, setUnder] = useState(/** @type {number | null} */ (null));
  const theme = useTheme();
  const isEmpty = !drawn.some((line) => line.x.length > 0); // of nothing uPlot draws no axes, and says so by an error
  const shape = JSON.stringify([isEmpty, drawn.map((line) => [line.label, line.color, Boolean(line.low), Boolean(line.raw)]), props.xLabel, props.isTime, props.isLog, height, theme]);
  useEffect(() => {
    const element = place.current;
    if (!element) return undefined;
    const made = new uPlot(options(element, latest, setUnder), aligned(latest.current.lines), element);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => {
    const made = plot.current;
    if (!made) return;
    made.setData(aligned(latest.current.lines), !zoomed.has(made));
    const { min, max } = made.scales["x"] ?? {};
    if (zoomed.has(made) && min != null && max != null) made.setScale("x", { min, max });
  }, [lines]);
  const marks = JSON.stringify(props.marks);
  useEffect(() => plot.current?.redraw(false), [marks]);
  const [from, to] = props.zoom ?? [];
  useEffect(() => {
    const made = plot.current;
    if (!made || props.zoom === undefined) return;
    if (from === undefined || to === undefined) {
      if (zoomed.has(made)) reset(made);
      return;
    }
    zoomed.add(made);
    made.setScale("x", { min: from, max: to });
  }, [shape, from, to]);
  return html`<figure class="chart" aria-label=${name}>
    ${isEmpty ? html`<p class="hint">Nothing to draw.</p>` : html`<div ref=${place} class="plot" role="img" aria-label=${described(name, lines)}></div>`}
    <figcaption>
      <ul class="legend">
        ${lines.map((line, index) => html`<li key=${index}><${Entry} toggle=${props.onToggle && (() => props.onToggle?.(index))} isShown=${!line.isHidden}>
            <${Swatch} index=${line.color ?? index} />${line.label}<//>
          <output>${number(under === null ? last(line.y) : nearest(line, under))}</output></li>`)}
      </ul>
      <span class="row tools">
        ${under !== null && html`<output>at ${props.isTime ? new Date(under * 1000).toLocaleTimeString("en") : number(Math.round(under))}</output>`}
        <button class="quiet" onClick=${() => (reset(plot.current), props.onZoom?.(null))}>Whole</button>
        <button class="quiet" onClick=${() => picture(place.current, name)}>PNG</button>
        <button class="quiet" onClick=${() => table(props)}>CSV</button>
      </span>
    </figcaption>
  </figure>`;
}

/** What the legend calls a line; a button where it can be hidden.
 * @param {{ toggle: (() => void) | undefined, isShown: boolean, children: import("./html.js").Children }} props */
function Entry({ toggle, isShown, children }) {
  return toggle ? html`<button class="quiet" aria-pressed=${isShown} onClick=${toggle}>${children}</button>` : html`<span>${children}</span>`;
}

/** A line's colour and dash, as the legend shows it. @param {{ index: number }} props */
export function Swatch({ index }) {
  const { color, dash } = lineStyle(index);
  return html`<svg class="swatch" width="22" height="8" aria-hidden="true">
    <line x1="0" y1="4" x2="22" y2="4" stroke=${color} stroke-width="2.5" stroke-dasharray=${dash.join(" ")} />
  </svg>`;
}

/** Plots that show a part only. @type {WeakSet<uPlot>} */
const zoomed = new WeakSet();

/** @param {uPlot | null} plot */
function reset(plot) {
  if (!plot) return;
  zoomed.delete(plot);
  plot.setData(plot.data, true);
}

/**
 * @param {HTMLElement} element
 * @param {{ current: ChartProps }} latest
 * @param {(x: number | null) => void} setUnder
 * @returns {uPlot.Options}
 */
function options(element, latest, setUnder) {
  const { lines, xLabel, yLabel, height = 280, isTime = false, isLog = false } = latest.current;
  const style = getComputedStyle(element);
  const ink = style.getPropertyValue("--ink-2").trim();
  const grid = { stroke: style.getPropertyValue("--line").trim(), width: 1 };
  const axis = { stroke: ink, grid, ticks: grid, font: "12px system-ui" };
  /** @type {uPlot.Series[]} */
  const series = [{}];
  /** @type {uPlot.Band[]} */
  const bands = [];
  lines.forEach((line, index) => {
    const { color, dash } = lineStyle(line.color ?? index);
    const at = series.length;
    const hidden = { stroke: "transparent", width: 0, points: { show: false } };
    const dots = { show: line.isDots || isSparse, size: 5, fill: color };
    series.push({ stroke: color, width: 2, dash, spanGaps: true, points: dots, ...(line.isDots ? { paths: () => null } : {}) });
    series.push(line.raw ? { stroke: `${color}55`, width: 1, spanGaps: true, points: { show: false } } : hidden);
    series.push(hidden, hidden);
    if (line.low && line.high) bands.push({ series: [at + 3, at + 2], fill: `${color}2e` });
  });
  return {
    width: element.clientWidth || 600,
    height,
    series,
    bands,
    legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: true }, points: { show: false } },
    scales: { x: { time: isTime }, y: isLog ? { distr: 3 } : {} },
    axes: [
      { ...axis, ...(isTime ? {} : { values: (_, ticks) => ticks.map(count) }), label: xLabel, labelFont: "12px system-ui", labelSize: 18 },
      { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))),
        ...(yLabel ? { label: yLabel, labelSize: 18, labelFont: "12px system-ui" } : {}) },
    ],
    hooks: {
      setCursor: [(plot) => setUnder(plot.cursor.left !== undefined && plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : null)],
      setSelect: [
        (plot) => {
          if (plot.select.width <= 0) return;
          zoomed.add(plot);
          const from = plot.posToVal(plot.select.left, "x");
          latest.current.onZoom?.([from, plot.posToVal(plot.select.left + plot.select.width, "x")]);
        },
      ],
      ready: [(plot) => listen(plot, latest)],
      draw: [(plot) => drawMarks(plot, latest.current.marks ?? [], ink)],
    },
  };
}

/** Whether single points are to be seen. @param {uPlot} plot */
function isSparse(plot) {
  return plot.data[0].length < 40;
}

/** A click, that is no drag, picks the point there. @param {uPlot} plot  @param {{ current: ChartProps }} latest */
function listen(plot, latest) {
  let downAt = 0;
  plot.over.addEventListener("mousedown", (event) => (downAt = event.clientX));
  plot.over.addEventListener("mouseup", (event) => {
    if (Math.abs(event.clientX - downAt) < 4) latest.current.onPick?.(plot.posToVal(event.offsetX, "x"));
  });
  plot.over.addEventListener("dblclick", () => {
    zoomed.delete(plot);
    latest.current.onZoom?.(null);
  });
}

/** @param {uPlot} plot  @param {{ x: number, label: string }[]} marks  @param {string} ink */
function drawMarks(plot, marks, ink) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = ink;
  ctx.lineWidth = devicePixelRatio;
  ctx.font = `${11 * devicePixelRatio}px system-ui`;
  for (const { x, label } of marks) {
    const at = Math.round(plot.valToPos(x, "x", true));
    if (at < bbox.left || at > bbox.left + bbox.width) continue;
    ctx.setLineDash([4, 4]);
    ctx.beginPath();
    ctx.moveTo(at, bbox.top);
    ctx.lineTo(at, bbox.top + bbox.height);
    ctx.stroke();
    const isLate = at > bbox.left + 0.8 * bbox.width;
    ctx.textAlign = isLate ? "right" : "left";
    ctx.fillText(label, at + (isLate ? -4 : 4), bbox.top + 12 * devicePixelRatio);
  }
  ctx.restore();
}

/** @param {string} name  @param {Line[]} lines */
function described(name, lines) {
  return `${name}: ${lines.map((line) => `${line.label}, ${line.x.length} points, last ${number(last(line.y))}`).join("; ")}`;
}

/** @param {(number | null)[]} values */
function last(values) {
  return values.findLast((value) => value !== null);
}

/** The value at the x nearest to one. @param {Line} line  @param {number} x */
function nearest(line, x) {
  let low = 0;
  let high = line.x.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((line.x[middle] ?? 0) < x) low = middle;
    else high = middle;
  }
  return Math.abs((line.x[low] ?? 0) - x) < Math.abs((line.x[high] ?? 0) - x) ? line.y[low] : line.y[high];
}

/** The plot as a file. @param {HTMLElement | null} place  @param {string} name */
function picture(place, name) {
  const drawn = place?.querySelector("canvas");
  if (!drawn) return;
  const copy = document.createElement("canvas");
  copy.width = drawn.width;
  copy.height = drawn.height;
  const context = /** @type {CanvasRenderingContext2D} */ (copy.getContext("2d"));
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  context.fillRect(0, 0, copy.width, copy.height);
  context.drawImage(drawn, 0, 0);
  copy.toBlob((blob) => blob && save(blob, `${fileName(name)}.png`));
}

/** The values as a table: one row per point. @param {ChartProps} props */
function table({ lines, name, xLabel }) {
  const hasBands = lines.some((line) => line.low);
  const rows = lines.flatMap((line) =>
    line.x.map((x, index) => {
      const band = hasBands ? [line.low?.[index] ?? "", line.high?.[index] ?? ""] : [];
      return [quoted(line.label), x, (line.raw ?? line.y)[index] ?? "", ...band].join(",");
    }),
  );
  save(new Blob([`line,${quoted(xLabel)},value${hasBands ? ",low,high" : ""}\n${rows.join("\n")}\n`], { type: "text/csv" }), `${fileName(name)}.csv`);
}

/** @param {string} name */
function fileName(name) {
  return name.replace(/[^\w.-]+/g, "-");
}

/** @param {string} text */
function quoted(text) {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

/** Whether the page is dark, live: plots take their colours when they are made. */
export function useTheme() {
  const read = () => document.documentElement.dataset["theme"] ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const [theme, setTheme] = useState(read);
  useEffect(() => {
    const changed = () => setTheme(read());
    const query = matchMedia("(prefers-color-scheme: dark)");
    query.addEventListener("change", changed);
    addEventListener("maze-theme", changed);
    return () => {
      query.removeEventListener("change", changed);
      removeEventListener("maze-theme", changed);
    };
  }, []);
  return theme;
}
