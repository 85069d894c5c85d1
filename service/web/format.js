/** Numbers, times and durations as people read them. */

// made once: a list writes hundreds of numbers a second, and making one of these takes longer than using it
const WHOLE = new Intl.NumberFormat("en");
const FOUR_DIGITS = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const MOMENT = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });

/** @param {unknown} value what the API gives as a number: NaN and infinities are texts in JSON */
export function number(value) {
  if (value === null || value === undefined) return "–";
  const parsed = Number(value);
  if (!Number.isFinite(parsed)) return String(value);
  const size = Math.abs(parsed);
  if (Number.isInteger(parsed) && size < 1e6) return WHOLE.format(parsed);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return parsed.toExponential(2).replace("e+", "e");
  return FOUR_DIGITS.format(parsed);
}

/** As {@link number}, in thousands and millions. @param {number | null | undefined} value */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return COMPACT.format(value);
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Seconds between two times; until now where the second is missing.
 * @param {string | null | undefined} from  @param {string | null | undefined} [to] */
export function between(from, to) {
  if (!from) return null;
  return Math.max(0, (to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000;
}

/** How long ago. @param {string | null | undefined} time  @param {number} [now] */
export function ago(time, now = Date.now()) {
  const seconds = between(time, new Date(now).toISOString());
  if (seconds === null) return "–";
  if (seconds < 60) return seconds < 5 ? "now" : `${Math.round(seconds)} s ago`;
  return `${duration(Math.round(seconds)).replace(/ (\d+ s|\d+ min)$/, "")} ago`;
}

/** A time in the reader's own zone. @param {string | null | undefined} time */
export function moment(time) {
  return time ? MOMENT.format(new Date(time)) : "–";
}

/** @param {number | null | undefined} bytes */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${value < 10 && unit ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** What an object of the service's has under a name of somebody's: never what every object has, as `constructor`.
 * @template T  @param {Record<string, T>} object  @param {string} name  @returns {T | undefined} */
export function own(object, name) {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

/** A name that stands in a text which is no element: its signs of direction turn nothing but itself. @param {string} name */
export function isolated(name) {
  return `\u2068${name.replace(/[\u202a-\u202e\u2066-\u2069]/g, "")}\u2069`;
}

/** A value of any kind in one line. @param {unknown} value */
export function plain(value) {
  if (typeof value === "number") return number(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}
