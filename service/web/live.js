/**
 * What happens in the service, as it happens: one stream of the events of all runs, shared by every view.
 *
 * It goes on where it was after a lost connection or a restarted service, so a listener misses nothing and hears
 * nothing twice. Each time that it begins or goes on, `connection` tells "live": what was read before it began may
 * have changed unheard.
 */
import { useEffect, useRef, useState } from "preact/hooks";
import { connection, follow, isOnline } from "./api.js";

/** @typedef {import("./openapi.d.ts").FeedEvent} FeedEvent */

/** @type {Set<(events: FeedEvent[]) => void>} */
const listeners = new Set();
/** @type {FeedEvent[]} */
let waiting = [];
/** @type {AbortController | null} */
let stream = null;

/** Listeners are told in batches, five times a second: a page that shows many runs is drawn once for all of them. */
const BATCH_MS = 200;

function start() {
  stream = new AbortController();
  const { signal } = stream;
  follow("/v1/events?after=-1", {
    signal,
    onOpen: () => connection.dispatchEvent(new CustomEvent("live")),
    onEvent: (event) => {
      if (!waiting.length) setTimeout(tell, BATCH_MS);
      waiting.push(event);
    },
  });
}

function tell() {
  const events = waiting;
  waiting = [];
  for (const listener of listeners) listener(events);
}

/**
 * Hear of all events from now on; returns the way to stop.
 * @param {(events: FeedEvent[]) => void} listener told in batches, in order
 */
export function onEvents(listener) {
  listeners.add(listener);
  if (!stream) start();
  return () => {
    listeners.delete(listener);
  };
}

/** Begin anew with another token. */
connection.addEventListener("token", () => {
  stream?.abort();
  stream = null;
  waiting = [];
  if (listeners.size) start();
});

/**
 * Hear of events as long as a component is shown.
 * @param {(events: FeedEvent[]) => void} listener
 * @param {unknown[]} inputs what the listener depends on
 */
export function useEvents(listener, inputs) {
  useEffect(() => onEvents(listener), inputs);
}

/**
 * Hear of the events of one run as long as a component is shown.
 * @param {string} runId
 * @param {(events: FeedEvent[], isNew: boolean) => void} listener `isNew` is told without events when the stream begins
 *   or goes on: what was read before may have changed unheard
 */
export function useRunEvents(runId, listener) {
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => {
    const live = () => latest.current([], true);
    connection.addEventListener("live", live);
    const stop = onEvents((events) => {
      const own = events.filter(({ run }) => run === runId);
      if (own.length) latest.current(own, false);
    });
    return () => {
      connection.removeEventListener("live", live);
      stop();
    };
  }, [runId]);
}

/**
 * Do something when something of ours happens, or may have unheard; once in `ms` at most and after the last of it.
 * @param {(event: FeedEvent) => boolean} isOurs
 * @param {() => void} action
 * @param {unknown[]} inputs what `isOurs` depends on
 * @param {number} [ms]
 */
export function useChanges(isOurs, action, inputs, ms = 1000) {
  const latest = useRef(action);
  latest.current = action;
  const timer = useRef(/** @type {number | null} */ (null));
  const soon = () => {
    timer.current ??= window.setTimeout(() => {
      timer.current = null;
      latest.current();
    }, ms);
  };
  useEffect(() => {
    connection.addEventListener("live", soon);
    return () => {
      connection.removeEventListener("live", soon);
      clearTimeout(timer.current ?? undefined);
    };
  }, []);
  useEvents((events) => events.some(isOurs) && soon(), inputs);
}

/** Whether the service is reached, live. */
export function useOnline() {
  const [value, setValue] = useState(isOnline);
  useEffect(() => {
    const changed = () => setValue(isOnline());
    connection.addEventListener("reached", changed);
    return () => connection.removeEventListener("reached", changed);
  }, []);
  return value;
}
