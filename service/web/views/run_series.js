/** Points of one metric as columns: loaded, grown by events, and looked at more closely in a part. */
import { get } from "../api.js";

/** @typedef {{ epoch: number[], step: number[], time: number[], value: (number | null)[] }} Series `time` in seconds since 1970 */
/** @typedef {"step" | "epoch" | "time"} Axis */

/** Points that are asked for of one metric at once: its extremes are among them. */
export const MAX_POINTS = 600;

/**
 * @param {string} runId
 * @param {string} name
 * @param {{ after_epoch?: number, before_epoch?: number }} span
 * @param {AbortSignal} [signal]
 * @returns {Promise<Series>}
 */
export async function loadSeries(runId, name, span, signal) {
  const wanted = { run_id: runId, names: [name], max_points: MAX_POINTS, ...span };
  const { data } = await get("/v1/runs/{run_id}/metrics", wanted, signal ? { signal } : {});
  return {
    epoch: data.map((point) => point.epoch),
    step: data.map((point) => point.step),
    time: data.map((point) => Date.parse(point.at ?? "") / 1000),
    value: data.map((point) => finite(point.value)),
  };
}

/** What is no number is a gap. @param {unknown} value */
function finite(value) {
  const parsed = Number(value);
  return value !== null && Number.isFinite(parsed) ? parsed : null;
}

/**
 * With the points that events bring; one of a known epoch takes the place of the old, as after a resume.
 * @param {Series} series
 * @param {import("../live.js").FeedEvent[]} events
 * @param {string} name
 */
export function withEvents(series, events, name) {
  const fresh = events.filter(({ type, data }) => type === "metrics" && name in /** @type {any} */ (data)["values"]);
  if (!fresh.length) return series;
  const grown = { epoch: [...series.epoch], step: [...series.step], time: [...series.time], value: [...series.value] };
  for (const { at, data } of fresh) {
    const { epoch, step, values } = /** @type {{ epoch: number, step: number, values: Record<string, unknown> }} */ (data);
    let place = grown.epoch.length;
    while (place > 0 && /** @type {number} */ (grown.epoch[place - 1]) >= epoch) place -= 1;
    const replaced = grown.epoch[place] === epoch ? 1 : 0;
    grown.epoch.splice(place, replaced, epoch);
    grown.step.splice(place, replaced, step);
    grown.time.splice(place, replaced, Date.parse(at) / 1000);
    grown.value.splice(place, replaced, finite(values[name]));
  }
  return grown;
}

/**
 * The epochs in which a stretch of an axis lies, with those next to it.
 * @param {Series} series
 * @param {Axis} axis
 * @param {[number, number]} range
 */
export function epochsWithin(series, axis, [from, to]) {
  if (axis === "epoch") return { after_epoch: Math.max(-1, Math.floor(from) - 1), before_epoch: Math.max(0, Math.ceil(to) + 1) };
  const first = series[axis].findLastIndex((x) => x < from);
  const last = series[axis].findIndex((x) => x > to);
  return {
    ...(first >= 0 && { after_epoch: /** @type {number} */ (series.epoch[first]) - 1 }),
    ...(last >= 0 && { before_epoch: /** @type {number} */ (series.epoch[last]) + 1 }),
  };
}

/** A series whose part is given more finely. @param {Series} coarse  @param {Series} fine @returns {Series} */
export function refined(coarse, fine) {
  const [first, last] = [fine.epoch[0], fine.epoch.at(-1)];
  if (first === undefined || last === undefined) return coarse;
  const before = coarse.epoch.findIndex((epoch) => epoch >= first);
  const after = coarse.epoch.findIndex((epoch) => epoch > last);
  const joined = (/** @type {keyof Series} */ column) => /** @type {any} */ ([
    ...coarse[column].slice(0, before < 0 ? undefined : before),
    ...fine[column],
    ...(after < 0 ? [] : coarse[column].slice(after)),
  ]);
  return { epoch: joined("epoch"), step: joined("step"), time: joined("time"), value: joined("value") };
}

/** The place of the point nearest to an x. @param {number[]} xs  @param {number} x */
export function nearestPlace(xs, x) {
  return xs.reduce((best, each, place) => (Math.abs(each - x) < Math.abs((xs[best] ?? Infinity) - x) ? place : best), 0);
}
