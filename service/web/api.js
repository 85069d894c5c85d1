/**
 * The public API over `fetch`: typed by its OpenAPI document, every failure a {@link Problem}.
 *
 * The token is kept by this browser and sent in a header; no address ever holds it.
 */

/** @typedef {import("./openapi.d.ts").ProblemDocument} ProblemDocument */
/** @typedef {import("./openapi.d.ts").ProblemEntry} ProblemEntry */
/** @typedef {{ signal?: AbortSignal, headers?: Record<string, string>, accept?: string, patienceMs?: number }} Options
 *   `patienceMs`: how long nothing may come */

const TOKEN = "maze.token";
export const NO_TOKEN = "A token is one word of ASCII, without spaces: was something else pasted?";
/** Told when the service is reached or not: `{ detail: boolean }`; when a token is missing or refused. */
export const connection = new EventTarget();
let isReached = true;
const LOOK_MS = 1000;
/** How long nothing may come before a connection counts as dead: of an answer, of a file that is made first, of a stream,
 * in which the service says something every 15 seconds. A page that is seen again waits less for a stream. */
const PATIENCE_MS = 20_000;
const FILE_PATIENCE_MS = 120_000;
const STREAM_PATIENCE_MS = 40_000;
const SEEN_AGAIN_MS = 16_000;
/** Begins the names under which this tab keeps what is filled in; signing out forgets it. */
export const KEPT = "maze.kept.";

/** A request that failed: refused by the service, or it was not reached (`unreachable`). */
export class Problem extends Error {
  /** @param {Partial<ProblemDocument> & { code: string, detail: string }} document  @param {Headers} [headers] */
  constructor(document, headers) {
    super(document.detail);
    this.document = document;
    this.code = document.code;
    this.status = document.status ?? 0;
    this.retryAfterS = Number(headers?.get("retry-after")) || null;
    /** Each mistake of the request. @type {ProblemEntry[]} */
    this.errors = document.errors ?? [];
  }
}

/** The token of this browser. */
export function token() {
  const known = sessionStorage.getItem(TOKEN) ?? localStorage.getItem(TOKEN);
  return known !== null && isToken(known) ? known : null;
}

/** Whether a text can be sent as a token at all. @param {string} text */
export function isToken(text) {
  return /^[\x21-\x7e]+$/.test(text);
}

/**
 * Use a token from now on; null forgets it.
 * @param {string | null} value
 * @param {boolean} [isKept] beyond this tab, until it is signed out
 */
export function setToken(value, isKept = false) {
  if (value !== null && !isToken(value)) throw new Problem({ code: "no_token", detail: NO_TOKEN });
  sessionStorage.removeItem(TOKEN);
  localStorage.removeItem(TOKEN);
  if (value === null) Object.keys(sessionStorage).filter((name) => name.startsWith(KEPT)).forEach((name) => sessionStorage.removeItem(name));
  if (value !== null) (isKept ? localStorage : sessionStorage).setItem(TOKEN, value);
  connection.dispatchEvent(new CustomEvent("token"));
}

/** Who signs in or out in one tab does so in those that have no token of their own. */
globalThis.addEventListener?.("storage", ({ key }) => {
  if ((key === TOKEN || key === null) && sessionStorage.getItem(TOKEN) === null) connection.dispatchEvent(new CustomEvent("token"));
});

/** Forget a token that the service does not know, and ask for another. @param {string | null} dead as it was sent */
function refuse(dead) {
  if (dead !== token()) return; // there is another one by now
  sessionStorage.removeItem(TOKEN);
  localStorage.removeItem(TOKEN);
  connection.dispatchEvent(new CustomEvent("refused", { detail: { hadToken: dead !== null } }));
}

/** Whether the service answered last time. */
export function isOnline() {
  return isReached;
}

/** @param {boolean} value */
function setReached(value) {
  if (value === isReached) return;
  isReached = value;
  connection.dispatchEvent(new CustomEvent("reached", { detail: value }));
  if (!value) setTimeout(lookAgain, LOOK_MS);
}

/** Ask until there is an answer: one lost request may be all that failed, and then nothing else is tried again. */
async function lookAgain() {
  await send("GET", "/health/live", undefined, { patienceMs: 5 * LOOK_MS }).catch(() => undefined);
  if (!isReached) setTimeout(lookAgain, LOOK_MS);
}

/** What is waited for: since when, and the way to give it up. @type {Set<{ since: number, ms: number, giveUp: () => void }>} */
const waits = new Set();

/** A machine that slept, or changed its network, has connections that will never say anything. */
function lookAtWaits() {
  if (document.hidden) return;
  for (const { since, ms, giveUp } of waits) if (Date.now() - since > (ms === STREAM_PATIENCE_MS ? SEEN_AGAIN_MS : ms)) giveUp();
}
globalThis.addEventListener?.("online", lookAtWaits);
globalThis.document?.addEventListener("visibilitychange", lookAtWaits);

/**
 * Wait for what a request brings next, and give the request up when nothing comes.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortController} request
 * @param {number} ms
 */
async function within(promise, request, ms) {
  const giveUp = () => {
    request.abort();
    setReached(false);
  };
  const wait = { since: Date.now(), ms, giveUp };
  waits.add(wait);
  const timer = setTimeout(giveUp, ms);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    waits.delete(wait);
  }
}

/** The same answer, whose body is given up when it falls silent. @param {Response} response  @param {AbortController} request  @param {number} ms */
function patient(response, request, ms) {
  if (!response.body || response.status === 204) return response; // which no Response with a body may have
  const reader = response.body.getReader();
  const body = new ReadableStream({
    async pull(controller) {
      const { value, done } = await within(reader.read(), request, ms).catch((error) => Promise.reject(request.signal.aborted ? unreachable() : error));
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: () => reader.cancel(),
  }, { highWaterMark: 0 });
  return new Response(body, response);
}

function unreachable() {
  return new Problem({ code: "unreachable", detail: "The service does not answer. The page goes on when it is back." });
}

/**
 * The address of a template such as `/v1/runs/{run_id}`: parameters that it names in it, the others as query. A name
 * that would lead elsewhere, as `..` does, is none that the service has.
 * @param {string} template
 * @param {Record<string, unknown>} parameters left out where undefined or null; a list is repeated
 */
export function address(template, parameters = {}) {
  const left = new Map(Object.entries(parameters));
  const path = template.replace(/\{(\w+)\}/g, (_, name) => {
    const value = String(left.get(name));
    left.delete(name);
    if (value.split("/").some((segment) => segment === "." || segment === "..")) {
      throw new Problem({ code: "not_found", status: 404, detail: `There is nothing with the name ‘${value}’.` });
    }
    return name === "env_id" ? value.split("/").map(encodeURIComponent).join("/") : encodeURIComponent(value);
  });
  const query = new URLSearchParams();
  for (const [name, value] of left) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null) query.append(name, String(one));
    }
  }
  return query.size ? `${path}?${query}` : path;
}

/**
 * Any request; what is no success is thrown.
 * @param {string} method
 * @param {string} url
 * @param {unknown} [body] sent as JSON
 * @param {Options} [options]
 * @returns {Promise<Response>}
 */
export async function send(method, url, body, options = {}) {
  /** @type {Record<string, string>} */
  const headers = { accept: options.accept ?? "application/json", ...options.headers };
  const known = token();
  if (known) headers["authorization"] = `Bearer ${known}`;
  if (body !== undefined) headers["content-type"] ??= "application/json";
  if (method === "POST") headers["idempotency-key"] ??= newKey();
  const patienceMs = (options.patienceMs ?? PATIENCE_MS) + 1000 * Number(/wait=(\d+)/.exec(headers["prefer"] ?? "")?.[1] ?? 0);
  const request = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, request.signal]) : request.signal;
  const init = { method, headers, signal, body: body === undefined ? null : JSON.stringify(body) };
  let response;
  try {
    response = patient(await within(fetch(url, init), request, patienceMs), request, patienceMs);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    setReached(false);
    throw unreachable();
  }
  setReached(true);
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status === 401) refuse(known);
  throw problem;
}

/** @param {Response} response */
async function problemOf(response) {
  const { status } = response;
  const plain = { code: `http_${status}`, status, detail: `The service answered ${status} ${response.statusText}` };
  try {
    return new Problem({ ...plain, ...(await response.json()) }, response.headers);
  } catch {
    return new Problem(plain, response.headers);
  }
}

/** A key under which a request that is sent again is done once. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @template {import("./openapi.d.ts").Method} M
 * @template {import("./openapi.d.ts").Path<M>} P
 * @param {M} method
 * @param {P} template an address of the OpenAPI document, as it writes it
 * @param {import("./openapi.d.ts").Parameters<P, M>} [parameters] of path and query
 * @param {import("./openapi.d.ts").Body<P, M>} [body]
 * @param {Options} [options]
 * @returns {Promise<import("./openapi.d.ts").Answer<P, M>>}
 */
export async function call(method, template, parameters, body, options) {
  const url = address(/** @type {string} */ (template), /** @type {any} */ (parameters));
  const response = await send(method.toUpperCase(), url, body, options);
  const text = await response.text();
  return /** @type {any} */ (text ? JSON.parse(text) : null);
}

/**
 * @template {import("./openapi.d.ts").Path<"get">} P
 * @param {P} template
 * @param {import("./openapi.d.ts").Parameters<P, "get">} [parameters]
 * @param {Options} [options]
 */
export function get(template, parameters, options) {
  return call("get", template, parameters, undefined, options);
}

/**
 * @template {import("./openapi.d.ts").Path<"post">} P
 * @param {P} template
 * @param {import("./openapi.d.ts").Parameters<P, "post">} parameters
 * @param {import("./openapi.d.ts").Body<P, "post">} [body]
 * @param {Options} [options]
 */
export function post(template, parameters, body, options) {
  return call("post", template, parameters, body, options);
}

/**
 * All entries of a listing, page by page, `limit` at most.
 * @template T
 * @param {(cursor: string | undefined) => Promise<{ data: T[], next_cursor?: string | null }>} page
 * @param {number} [limit]
 */
export async function listed(page, limit = 1000) {
  /** @type {T[]} */
  const all = [];
  /** @type {string | undefined} */
  let cursor;
  do {
    const { data, next_cursor } = await page(cursor);
    all.push(...data);
    cursor = next_cursor ?? undefined;
  } while (cursor && all.length < limit);
  return all;
}

/**
 * What lies at an address, as bytes: pictures and videos, which cannot be asked for with a token otherwise.
 * @param {string} url
 * @param {Options} [options]
 */
export async function bytes(url, options) {
  return (await send("GET", url, undefined, { accept: "*/*", patienceMs: FILE_PATIENCE_MS, ...options })).blob();
}

/**
 * Save bytes as a file of the user's.
 * @param {Blob} blob
 * @param {string} name
 */
export function save(blob, name) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10_000);
}

/**
 * Follow a stream of Server-Sent Events until it ends or `signal` does, through everything that breaks.
 * @param {string} url
 * @param {{ signal: AbortSignal, after?: string, onEvent: (event: any) => void, onOpen?: () => void }} options `after` is
 *   the id of the last event that is known; `onOpen` is told each time that the stream begins or goes on
 */
export async function follow(url, { signal, after, onEvent, onOpen }) {
  let last = after;
  for (let failures = 0; !signal.aborted; ) {
    try {
      /** @type {Record<string, string>} */
      const headers = last === undefined ? {} : { "last-event-id": last };
      const response = await send("GET", url, undefined, { accept: "text/event-stream", headers, signal, patienceMs: STREAM_PATIENCE_MS });
      failures = 0;
      if (response.status === 204) return;
      onOpen?.();
      for await (const { id, data } of decoded(response)) {
        last = id ?? last;
        const event = JSON.parse(data);
        onEvent(event);
        if (event.type === "end" && event.run === undefined) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) return;
      failures += 1;
    }
    await pause(Math.min(250 * 2 ** failures, 4000), signal);
  }
}

/** @param {Response} response */
async function* decoded(response) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let rest = "";
  /** @type {{ id?: string, data: string }} */
  let event = { data: "" };
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.startsWith("id:")) event.id = line.slice(3).trim();
        else if (line.startsWith("data:")) event.data += line.slice(5);
        else if (!line.trim() && event.data) {
          yield event;
          event = { data: "" };
        }
      }
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** @param {number} ms  @param {AbortSignal} [signal] */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms, undefined);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve(undefined)), { once: true });
  });
}
