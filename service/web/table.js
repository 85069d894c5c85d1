/**
 * A table of any length: only the rows that are seen are elements, each of one height at its place.
 *
 * It is a grid for assistive technology: it is one stop of the Tab key, arrows move the active row, Enter opens it,
 * Space selects it, Shift selects up to it. The active row is an element wherever the table is scrolled to.
 */
import { Component } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { html } from "./html.js";

/** @typedef {import("./html.js").Children} Children */
/**
 * @template T
 * @typedef {{ id: string, title: Children, cell: (row: T) => Children, sorts?: [first: string, other: string] }} Column
 *   `sorts`: the orders that its heading asks for, by turns; one with a minus falls
 */

/** How far a table is scrolled, and the row that is active. @typedef {{ top: number, active: string | null }} Place */

const SPARE_ROWS = 6;

/**
 * @template T
 * @param {{ label: string, columns: Column<T>[], ids: string[], rowOf: (id: string) => T, nameOf: (row: T) => string,
 *   hasMore: boolean, rowHeight: number, selected: ReadonlySet<string>, onSelect: (selected: Set<string>) => void,
 *   onOpen: (id: string) => void, onSeen: (from: number, to: number) => void, sort: string,
 *   onSort: (sort: string) => void, isBusy?: boolean, place?: Place }} props `place`: where it begins, and is kept
 */
export function Table(props) {
  const { label, columns, ids, rowOf, hasMore, rowHeight, selected, onSelect, onOpen } = props;
  const scroller = useRef(/** @type {HTMLDivElement | null} */ (null));
  const anchor = useRef(/** @type {string | null} */ (null));
  const [active, activate] = useState(props.place?.active ?? null);
  const setActive = (/** @type {string} */ id) => {
    if (props.place) props.place.active = id;
    activate(id);
  };
  const { from, to, slots } = useSeen(scroller, ids, rowHeight, props.place);
  useEffect(() => props.onSeen(from, to), [from, to, ids]);

  // an element is used again for the row that comes into its slot: to make one costs more than to write it anew
  const shown = ids.slice(from, to).map((id, place) => ({ id, index: from + place, slot: `${(from + place) % slots}` }));
  const place = active === null ? -1 : ids.indexOf(active);
  if (active !== null && place >= 0 && (place < from || place >= to)) shown.push({ id: active, index: place, slot: "active" });

  /** @param {string} id  @param {boolean} isRange */
  const toggle = (id, isRange) => {
    const start = isRange && anchor.current !== null ? ids.indexOf(anchor.current) : -1;
    const end = ids.indexOf(id);
    const next = new Set(selected);
    if (start >= 0) for (const each of ids.slice(Math.min(start, end), Math.max(start, end) + 1)) next.add(each);
    else if (!next.delete(id)) next.add(id);
    if (start < 0) anchor.current = id;
    onSelect(next);
  };

  /** @param {number} index  @param {boolean} isRange */
  const move = (index, isRange) => {
    const id = ids[Math.max(0, Math.min(index, ids.length - 1))];
    if (id === undefined) return;
    anchor.current ??= active ?? id;
    setActive(id);
    if (isRange) toggle(id, true);
    else anchor.current = id;
    reveal(scroller.current, ids.indexOf(id), rowHeight);
  };

  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    if (/** @type {HTMLElement} */ (event.target).closest(".table-head")) return;
    const page = Math.max(1, to - from - 2 * SPARE_ROWS);
    const here = Math.max(place, 0);
    const target = {
      ArrowDown: place + 1, ArrowUp: here - 1, PageDown: here + page, PageUp: here - page, Home: 0, End: ids.length - 1,
    }[event.key];
    if (target !== undefined) move(target, event.shiftKey);
    else if (event.key === "Enter" && active !== null) onOpen(active);
    else if (event.key === " " && active !== null) toggle(active, event.shiftKey);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) onSelect(new Set(ids));
    else if (event.key === "Escape" && selected.size) onSelect(new Set());
    else return;
    event.preventDefault();
  };

  /** @param {MouseEvent} event */
  const onClick = (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    const id = /** @type {HTMLElement | null} */ (target.closest("[data-id]"))?.dataset["id"];
    if (id === undefined || target.closest("a, button")) return;
    setActive(id);
    scroller.current?.focus({ preventScroll: true });
    if (target.closest(".select") || event.ctrlKey || event.metaKey || event.shiftKey) toggle(id, event.shiftKey);
    else if (!getSelection()?.toString()) onOpen(id);
  };

  const isAll = ids.length > 0 && selected.size >= ids.length;
  return html`<div class="table" role="grid" tabindex="0" ref=${scroller} aria-label=${label} aria-multiselectable="true"
    aria-rowcount=${hasMore ? -1 : ids.length + 1} aria-colcount=${columns.length + 1} aria-busy=${props.isBusy ?? false}
    aria-activedescendant=${place >= 0 ? `row-${active}` : undefined} onKeyDown=${onKeyDown} onClick=${onClick}>
    <div role="rowgroup" class="table-head"><div role="row" class="table-row" aria-rowindex="1">
      <span role="columnheader" class="select"><input type="checkbox" tabindex="-1" aria-label="Select all that are loaded" checked=${isAll}
        onClick=${() => onSelect(new Set(isAll ? [] : ids))} /></span>
      ${columns.map((column) => html`<${Heading} key=${column.id} column=${column} sort=${props.sort} onSort=${props.onSort} />`)}
    </div></div>
    <div role="rowgroup" class="table-body" style=${{ height: `${ids.length * rowHeight}px` }}>
      ${shown.map(({ id, index, slot }) => {
        const row = rowOf(id);
        return html`<${Row} key=${slot} id=${id} index=${index} row=${row} columns=${columns} height=${rowHeight} name=${props.nameOf(row)}
          isSelected=${selected.has(id)} isActive=${id === active} />`;
      })}
    </div>
  </div>`;
}

/** @param {{ column: Column<any>, sort: string, onSort: (sort: string) => void }} props */
function Heading({ column: { id, title, sorts }, sort, onSort }) {
  if (!sorts) return html`<span role="columnheader" class="col-${id}">${title}</span>`;
  const isBy = sorts.includes(sort);
  const falls = sort.startsWith("-");
  return html`<span role="columnheader" class="col-${id}" aria-sort=${isBy ? (falls ? "descending" : "ascending") : "none"}>
    <button class="quiet" onClick=${() => onSort(sort === sorts[0] ? sorts[1] : sorts[0])}>${title}<span class="order" aria-hidden="true">${isBy ? (falls ? "↓" : "↑") : "↕"}</span></button>
  </span>`;
}

/** A row is drawn anew only when something of it is another. @extends {Component<Record<string, any>>} */
class Row extends Component {
  /** @param {Record<string, any>} next */
  shouldComponentUpdate(next) {
    return Object.keys(next).some((name) => next[name] !== /** @type {Record<string, any>} */ (this.props)[name]);
  }

  render() {
    const { id, index, row, columns, height, name, isSelected, isActive } = /** @type {Record<string, any>} */ (this.props);
    const style = { height: `${height}px`, transform: `translateY(${index * height}px)` };
    return html`<div role="row" class="table-row ${isActive ? "active" : ""}" id="row-${id}" data-id=${id} aria-rowindex=${index + 2}
      aria-selected=${isSelected} style=${style}>
      <span role="gridcell" class="select"><input type="checkbox" tabindex="-1" aria-label="Select ${name}" checked=${isSelected} /></span>
      ${columns.map((/** @type {Column<any>} */ column) => html`<span role="gridcell" key=${column.id} class="col-${column.id}">${column.cell(row)}</span>`)}
    </div>`;
  }
}

/**
 * Which rows are seen. What is added above them does not move them.
 * @param {{ current: HTMLDivElement | null }} scroller
 * @param {string[]} ids
 * @param {number} rowHeight
 * @param {Place} [place]
 */
function useSeen(scroller, ids, rowHeight, place) {
  const [{ top, height }, setSeen] = useState({ top: Math.floor((place?.top ?? 0) / rowHeight) * rowHeight, height: 800 });
  const before = useRef(ids);
  const kept = useRef(place);
  kept.current = place;
  useLayoutEffect(() => {
    if (!scroller.current || !place) return;
    scroller.current.scrollTop = place.top;
    if (place.active !== null) scroller.current.focus({ preventScroll: true });
  }, []);
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return undefined;
    const look = () => {
      if (kept.current) kept.current.top = element.scrollTop;
      const step = Math.floor(element.scrollTop / rowHeight) * rowHeight;
      setSeen((was) => (was.top === step && was.height === element.clientHeight ? was : { top: step, height: element.clientHeight }));
    };
    const sizes = new ResizeObserver(look);
    sizes.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      sizes.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, [rowHeight]);
  useLayoutEffect(() => {
    const element = scroller.current;
    const first = before.current[Math.floor(top / rowHeight)];
    before.current = ids;
    if (!element || !element.scrollTop || first === undefined) return;
    const moved = ids.indexOf(first) - Math.floor(top / rowHeight);
    if (moved && ids.includes(first)) element.scrollTop += moved * rowHeight;
  }, [ids]);
  const from = Math.max(0, Math.min(Math.floor(top / rowHeight), ids.length) - SPARE_ROWS);
  const slots = Math.ceil(height / rowHeight) + 2 * SPARE_ROWS;
  return { from, to: Math.min(ids.length, from + slots), slots };
}

/** @param {HTMLElement | null} element  @param {number} index  @param {number} rowHeight */
function reveal(element, index, rowHeight) {
  if (!element) return;
  const head = /** @type {HTMLElement | null} */ (element.querySelector(".table-head"))?.offsetHeight ?? 0;
  const above = index * rowHeight;
  const below = above + rowHeight + head - element.clientHeight;
  element.scrollTop = Math.max(below, Math.min(above, element.scrollTop));
}
