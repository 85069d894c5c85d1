/**
 * The list of runs as far as it is loaded: page by page behind, event by event in place, new ones where they belong.
 *
 * It holds no element: whoever shows it is told of each change. A stream of events begins at some moment and pages are
 * read at others; what happens while a page is on its way is applied to it once more when it is there.
 */
import { get } from "./api.js";
import { asProblem } from "./hooks.js";
import { onEvents } from "./live.js";

/** @typedef {import("./openapi.d.ts").Run} Run */
/** @typedef {import("./openapi.d.ts").FeedEvent} FeedEvent */
/** @typedef {import("./openapi.d.ts").Parameters<"/v1/runs", "get">} Filter */

export const NEWEST = "-created_at";
const FIRST_PAGE = 60;
const PAGE = 200;
const HELD = new Set(["running", "stopping"]);
/** Metrics that a best checkpoint is judged by, if the run does not say. */
const JUDGED_BY = "eval/mean_return";

export class RunList {
  /** @type {string[]} */
  ids = [];
  /** Every run of `ids`. @type {Map<string, Run>} */
  runs = new Map();
  /** Fitting runs that are new, where the order does not say that they come first. @type {Set<string>} */
  arrived = new Set();
  hasMore = true;
  isLoaded = false;
  isLoading = false;
  /** @type {import("./api.js").Problem | null} */
  problem = null;

  /** Where a page begins, by the id of its first run. @type {Map<string, string>} */
  #cursors = new Map();
  /** @type {string | undefined} */
  #next = undefined;
  #ended = new AbortController();
  /** Events since the oldest request that is under way. @type {FeedEvent[]} */
  #meanwhile = [];
  #underWay = 0;
  /** Runs that are not here and may have to be. @type {Set<string>} */
  #candidates = new Set();
  #isFinding = false;
  #filter;
  /** Told after each change. */
  #changed = () => {};
  /** @type {(() => void) | null} */
  #stop = null;

  /** @param {Filter} filter */
  constructor(filter) {
    this.#filter = { sort: NEWEST, ...filter };
  }

  /**
   * It is shown: it hears events from now on, also while it is hidden, until it is closed.
   * @param {() => void} changed told after each change
   */
  show(changed) {
    this.#changed = changed;
    this.#stop ??= onEvents((events) => this.hear(events));
  }

  hide() {
    this.#changed = () => {};
  }

  close() {
    this.hide();
    this.#stop?.();
    this.#ended.abort();
  }

  /** Load the next page. */
  async more() {
    if (this.isLoading || !this.hasMore) return;
    this.isLoading = true;
    this.#changed();
    await this.#loading(async () => {
      const page = await this.#page(this.#next, this.isLoaded ? PAGE : FIRST_PAGE);
      this.#append(page);
    });
    this.isLoading = false;
    this.#changed();
    if (this.#candidates.size) this.#find();
  }

  /**
   * Load the pages anew that hold these places: changes that no event tells of, and what was missed.
   * @param {number} from
   * @param {number} to
   */
  async refresh(from, to) {
    if (!this.isLoaded || this.isLoading) return this.more();
    let start = Math.max(0, Math.min(from, this.ids.length - 1));
    while (start > 0 && !this.#cursors.has(this.ids[start] ?? "")) start -= 1;
    await this.#loading(async () => {
      let cursor = this.#cursors.get(this.ids[start] ?? "");
      do {
        const page = await this.#page(cursor, cursor ? PAGE : FIRST_PAGE);
        this.#replace(start, page);
        start += page.data.length;
        cursor = page.next_cursor ?? undefined;
      } while (cursor && start <= to);
    });
    this.#changed();
  }

  /** Take in what happened. @param {FeedEvent[]} events in order */
  hear(events) {
    if (this.#underWay) this.#meanwhile.push(...events);
    if (this.#apply(events)) this.#changed();
    const wanted = this.#filter.state;
    for (const { run, type, data } of events) {
      if (type !== "state" || this.runs.has(run)) continue;
      if (wanted ? data["state"] === wanted : data["from"] === null) this.#candidates.add(run);
    }
    if (this.#candidates.size) this.#find();
  }

  /**
   * Know of labels that were set, or taken away with null: no event tells of them.
   * @param {string[]} ids
   * @param {Record<string, string | null>} given
   */
  label(ids, given) {
    for (const id of ids) {
      const run = this.runs.get(id);
      const labels = Object.entries({ ...run?.labels, ...given }).filter(([, value]) => value !== null);
      if (run) this.runs.set(id, { ...run, labels: /** @type {Record<string, string>} */ (Object.fromEntries(labels)) });
    }
    this.#changed();
  }

  /** Know that these runs are no more. @param {Iterable<string>} gone */
  forget(gone) {
    const left = new Set(gone);
    this.ids = this.ids.filter((id) => !left.has(id));
    for (const id of left) this.runs.delete(id);
    this.#changed();
  }

  /** @param {FeedEvent[]} events  @returns {boolean} whether a run here is another one by them */
  #apply(events) {
    let isOther = false;
    const unfit = [];
    for (const event of events) {
      const known = this.runs.get(event.run);
      if (!known) continue;
      const run = patched(known, event);
      if (run === known) continue;
      isOther = true;
      this.runs.set(run.id, run);
      if (this.#filter.state && run.state !== this.#filter.state) unfit.push(run.id);
    }
    if (unfit.length) this.forget(unfit.filter((id) => this.runs.get(id)?.state !== this.#filter.state));
    return isOther;
  }

  /** Ask which of the candidates fit: only the service knows. */
  async #find() {
    if (this.#isFinding || !this.isLoaded) return;
    this.#isFinding = true;
    while (this.#candidates.size && !this.#ended.signal.aborted) {
      const asked = [...this.#candidates];
      this.#candidates.clear();
      await this.#loading(async () => {
        const page = await get("/v1/runs", { ...this.#filter, sort: NEWEST, limit: PAGE }, { signal: this.#ended.signal });
        const isAsked = new Set(asked);
        for (const run of page.data) if (isAsked.has(run.id) && !this.runs.has(run.id)) this.#insert(run);
      });
      this.#changed();
    }
    this.#isFinding = false;
  }

  /** @param {Run} run that fits and is not here */
  #insert(run) {
    if (this.#filter.sort !== NEWEST) {
      this.arrived.add(run.id);
      return;
    }
    const place = this.ids.findIndex((id) => isNewer(run, /** @type {Run} */ (this.runs.get(id))));
    if (place < 0 && this.hasMore) return;
    this.runs.set(run.id, run);
    this.ids = this.ids.toSpliced(place < 0 ? this.ids.length : place, 0, run.id);
  }

  /** @param {string | undefined} cursor  @param {number} limit */
  #page(cursor, limit) {
    return get("/v1/runs", { ...this.#filter, limit, cursor }, { signal: this.#ended.signal });
  }

  /** @param {{ data: Run[], next_cursor?: string | null }} page the one after the last that is here */
  #append(page) {
    const fresh = page.data.filter((run) => !this.runs.has(run.id));
    for (const run of page.data) this.runs.set(run.id, run);
    if (this.#next && fresh[0]) this.#cursors.set(fresh[0].id, this.#next);
    this.ids = [...this.ids, ...fresh.map((run) => run.id)];
    this.#goOnWith(page.next_cursor);
    this.isLoaded = true;
  }

  /** @param {number} start  @param {{ data: Run[], next_cursor?: string | null }} page what is there now */
  #replace(start, page) {
    const isThere = new Set(page.data.map((run) => run.id));
    const last = this.ids.findLastIndex((id, index) => index >= start && isThere.has(id));
    const rest = page.next_cursor && last >= 0 ? this.ids.slice(last + 1) : [];
    if (!rest.length) this.#goOnWith(page.next_cursor);
    const before = this.ids.slice(0, start).filter((id) => !isThere.has(id));
    this.ids = [...before, ...isThere, ...rest.filter((id) => !isThere.has(id))];
    for (const run of page.data) this.runs.set(run.id, run);
    const here = new Set(this.ids);
    for (const id of this.runs.keys()) if (!here.has(id)) this.runs.delete(id);
    for (const id of isThere) this.arrived.delete(id);
  }

  /** @param {string | null | undefined} cursor */
  #goOnWith(cursor) {
    this.#next = cursor ?? undefined;
    this.hasMore = cursor !== null && cursor !== undefined;
  }

  /** @param {() => Promise<void>} load */
  async #loading(load) {
    if (!this.#underWay++) this.#meanwhile = [];
    this.problem = null;
    try {
      await load();
      this.#apply(this.#meanwhile);
    } catch (error) {
      if (!this.#ended.signal.aborted) this.problem = asProblem(error);
    } finally {
      this.#underWay -= 1;
    }
  }
}

/** @param {Run} one  @param {Run} other */
function isNewer(one, other) {
  return one.created_at > other.created_at || (one.created_at === other.created_at && one.id > other.id);
}

/**
 * A run after an event; the same object where the event says nothing of what a list shows.
 * @param {Run} run
 * @param {FeedEvent} event
 * @returns {Run}
 */
export function patched(run, { type, at, data: said }) {
  const data = /** @type {any} */ (said);
  if (type === "state") {
    const { state, reason, attempt } = data;
    const isHeld = HELD.has(state);
    return { ...run, state, reason, attempt, phase: isHeld ? run.phase : null, started_at: run.started_at ?? (isHeld ? at : null) };
  }
  if (type === "phase") return { ...run, phase: data.phase };
  if (type === "progress") return { ...run, progress: data };
  if (type === "metrics") return { ...run, latest_metrics: { ...run.latest_metrics, ...data.values } };
  if (type === "checkpoint" && data.is_best) {
    const metric = run.best?.metric ?? (JUDGED_BY in data.metrics ? JUDGED_BY : Object.keys(data.metrics).sort()[0]);
    return metric === undefined ? run : { ...run, best: { metric, value: data.metrics[metric], checkpoint: data.id } };
  }
  if (type === "end") {
    const ends = data.state === "succeeded" ? { fraction: 1, eta_s: 0 } : { eta_s: null };
    return { ...run, ...data, progress: { ...run.progress, ...ends }, finished_at: at, phase: null };
  }
  return run;
}
