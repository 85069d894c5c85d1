/**
 * The log of a run, followed live: the last lines first, earlier ones on demand, only those drawn that are seen.
 *
 * What was printed is text of others: escape sequences and control characters are taken out, and it is drawn as text.
 */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, save } from "../api.js";
import { usePaced, useInterval, useResource } from "../hooks.js";
import { html } from "../html.js";
import { useRunEvents } from "../live.js";
import { ActionButton, Empty, Field, Loaded } from "../ui.js";

/** @typedef {import("../openapi.d.ts").Run} Run */
/** @typedef {{ seq: number, at: string, level: string, message: string }} Line */
/** @typedef {{ key: string, at: string, level: string, text: string }} Row */

const PAGE = 1000;
const END = 2 ** 53 - 1;
const FOLLOW_MS = 1500;
const ROW_PX = 20;
const SPARE_ROWS = 20;

const ESCAPES = /\u001b\[[0-?]*[ -/]*[@-~]|\u001b[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b./gs;
// left out also: what turns the direction of text around
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** A message as plain lines. @param {string} message */
export function plainLines(message) {
  return message.replace(ESCAPES, "").split(/\r?\n/).map((line) => line.replace(CONTROLS, "").replaceAll("\t", "    "));
}

/** Of each line once: a log grows at its end. @type {WeakMap<Line, Row[]>} */
const rowsKnown = new WeakMap();

/** @param {Line} line @returns {Row[]} */
function rowsOf(line) {
  const known = rowsKnown.get(line);
  if (known) return known;
  const { seq, at, level, message } = line;
  const rows = plainLines(message).map((text, part) => ({ key: `${seq}.${part}`, at: part ? "" : at.slice(11, 19), level, text }));
  rowsKnown.set(line, rows);
  return rows;
}

/** @param {string} runId  @param {{ after?: number, before?: number }} where  @param {AbortSignal} [signal] */
async function load(runId, where, signal) {
  return (await get("/v1/runs/{run_id}/logs", { run_id: runId, limit: PAGE, ...where }, signal ? { signal } : {})).data;
}

/** All lines behind one. @param {string} runId  @param {number} after */
async function loadOn(runId, after) {
  /** @type {Line[]} */
  const found = [];
  for (;;) {
    const lines = await load(runId, { after: found.at(-1)?.seq ?? after });
    found.push(...lines);
    if (lines.length < PAGE) return found;
  }
}

/** @param {{ run: Run }} props */
export function Log({ run }) {
  const resource = useResource((signal) => load(run.id, { before: END }, signal), [run.id]);
  const lines = resource.data ?? [];
  const follow = usePaced(async () => {
    const fresh = await loadOn(run.id, lines.at(-1)?.seq ?? 0);
    const isNew = (/** @type {Line[]} */ known) => fresh.filter(({ seq }) => seq > (known.at(-1)?.seq ?? 0));
    if (fresh.length) resource.set((known) => [...known, ...isNew(known)]);
  }, 500);
  useRunEvents(run.id, follow);
  useInterval(() => void (run.finished_at || follow()), FOLLOW_MS);
  const [wanted, setWanted] = useState("");
  const rows = useMemo(() => lines.flatMap(rowsOf), [resource.data]);
  const shown = useMemo(() => rows.filter(({ text }) => text.toLowerCase().includes(wanted.toLowerCase())), [rows, wanted]);
  const earlier = async () => {
    const before = await load(run.id, { before: lines[0]?.seq ?? END });
    resource.set((known) => [...before, ...known]);
  };
  const download = async () => {
    const all = await loadOn(run.id, 0);
    const text = all.map(({ at, level, message }) => `${at} ${level} ${plainLines(message).join("\n")}\n`).join("");
    save(new Blob([text], { type: "text/plain" }), `${run.id}.log`);
  };
  const first = lines[0]?.seq ?? 1;
  return html`<${Loaded} resource=${resource} what="the log">${() => html`
    <div class="controls">
      <${Field} label="Search" hint=${wanted ? `${shown.length} of ${rows.length} lines` : undefined}>${(/** @type {any} */ attributes) =>
        html`<input ...${attributes} type="search" value=${wanted} onInput=${(/** @type {any} */ event) => setWanted(event.currentTarget.value)} />`}<//>
      <span class="row"><${ActionButton} action=${download}>Download<//>
        ${first > 1 && html`<${ActionButton} action=${earlier}>Load earlier (${first - 1} more)<//>`}</span>
    </div>
    ${rows.length ? html`<${Rows} rows=${shown} />` : html`<${Empty} title="Nothing in the log"><p>What the run prints stands here, and the traceback of one that fails.</p><//>`}`}<//>`;
}

/** Rows of one height, of which those are drawn that are seen; at the end it stays at the end. @param {{ rows: Row[] }} props */
function Rows({ rows }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const [top, setTop] = useState(0);
  const [isAtEnd, setAtEnd] = useState(true);
  const height = box.current?.clientHeight ?? 480;
  const first = Math.max(0, Math.floor(top / ROW_PX) - SPARE_ROWS);
  const seen = rows.slice(first, first + Math.ceil(height / ROW_PX) + 2 * SPARE_ROWS);
  const before = useRef(/** @type {string | undefined} */ (undefined));
  useLayoutEffect(() => {
    const place = box.current;
    if (!place) return;
    const moved = before.current ? rows.findIndex(({ key }) => key === before.current) : 0;
    if (isAtEnd) place.scrollTop = place.scrollHeight;
    else if (moved > 0) place.scrollTop += moved * ROW_PX; // earlier ones came in: what is read stays where it is
    before.current = rows[0]?.key;
  }, [rows, isAtEnd]);
  useEffect(() => setTop(box.current?.scrollTop ?? 0), [rows]);
  const scrolled = () => {
    const place = /** @type {HTMLDivElement} */ (box.current);
    setTop(place.scrollTop);
    setAtEnd(place.scrollTop + place.clientHeight >= place.scrollHeight - 4);
  };
  return html`<div class="log" ref=${box} tabindex="0" role="region" aria-label="Log" onScroll=${scrolled}>
      <div class="log-rows" style=${{ height: `${rows.length * ROW_PX}px` }}>
        <div style=${{ transform: `translateY(${first * ROW_PX}px)` }}>
          ${seen.map(({ key, at, level, text }) => html`<div key=${key} class="log-row log-${level}"><time>${at}</time><span class="log-level">${at && level}</span><bdi>${text}</bdi></div>`)}
        </div>
      </div>
    </div>
    <p class="hint" role="status">${isAtEnd ? "At the end: new lines are followed." : html`<button class="quiet" onClick=${() => setAtEnd(true)}>Go to the end and follow</button>`}</p>`;
}
