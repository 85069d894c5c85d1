/** What views share of loading and remembering. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { connection, isOnline, KEPT, newKey, pause, Problem } from "./api.js";
import { onward } from "./router.js";

/** @typedef {import("./api.js").Problem} ProblemType */

/**
 * Something loaded: `data` as it was last, also while it is loaded again or after a failure, unless it is gone (404).
 * @template T
 * @typedef {{ data: T | undefined, problem: ProblemType | null, isLoading: boolean, reload: () => void,
 *   set: (change: (data: T) => T) => void, refresh: () => Promise<void> }} Resource `refresh` loads it again unseen: a
 *   failure changes nothing, unless it says that there is no such thing any more
 */

/**
 * Load something, again when its inputs change and when the service is back. What changes it while it is on its way is
 * done once more to what comes, which may be older than the change: a change bears to be done twice.
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} load
 * @param {unknown[]} inputs
 * @returns {Resource<T>}
 */
export function useResource(load, inputs) {
  const [state, setState] = useState(
    /** @type {{ data: T | undefined, problem: ProblemType | null, isLoading: boolean }} */ ({
      data: undefined,
      problem: null,
      isLoading: true,
    }),
  );
  const [turn, setTurn] = useState(0);
  const inputsBefore = useRef(inputs);
  /** The changes since each load that is under way began. */
  const underWay = useRef(/** @type {Set<((data: T) => T)[]>} */ (new Set()));
  const order = useRef({ begun: 0, shown: 0 });
  const latest = useRef(load);
  latest.current = load;
  const controller = useRef(new AbortController());
  const reload = useCallback(() => setTurn((before) => before + 1), []);
  const set = useCallback(
    /** @param {(data: T) => T} change */
    (change) => {
      for (const changes of underWay.current) changes.push(change);
      setState((before) => (before.data === undefined ? before : { ...before, data: change(before.data) }));
    },
    [],
  );
  /** @param {AbortSignal} signal */
  const loaded = async (signal) => {
    /** @type {((data: T) => T)[]} */
    const changes = [];
    const place = (order.current.begun += 1);
    underWay.current.add(changes);
    try {
      const data = await latest.current(signal);
      if (signal.aborted || place < order.current.shown) return; // one that began later was faster
      order.current.shown = place;
      setState({ data: changes.reduce((/** @type {T} */ known, change) => change(known), data), problem: null, isLoading: false });
    } finally {
      underWay.current.delete(changes);
    }
  };
  const refresh = useCallback(async () => {
    const { signal } = controller.current;
    await loaded(signal).catch((error) => {
      const problem = error instanceof Problem && error.status === 404 ? error : null;
      if (problem && !signal.aborted) setState((before) => ({ ...before, problem, isLoading: false }));
    });
  }, []);
  useEffect(() => {
    const isOther = inputs.some((input, index) => input !== inputsBefore.current[index]);
    inputsBefore.current = inputs;
    const own = new AbortController();
    controller.current = own;
    setState((before) => ({ data: isOther ? undefined : before.data, problem: null, isLoading: true }));
    loaded(own.signal).catch((error) => {
      if (!own.signal.aborted) setState((before) => failed(before.data, asProblem(error)));
    });
    return () => own.abort();
  }, [...inputs, turn]);
  useEffect(() => {
    const back = () => isOnline() && reload();
    connection.addEventListener("reached", back);
    return () => connection.removeEventListener("reached", back);
  }, [reload]);
  return { ...state, reload, set, refresh };
}

/** What is gone is shown no longer; whatever else fails, what was read before stays.
 * @template T  @param {T | undefined} data  @param {ProblemType} problem */
function failed(data, problem) {
  return { data: problem.status === 404 ? undefined : data, problem, isLoading: false };
}

/** Whatever was thrown, as a problem that can be shown. @param {unknown} error */
export function asProblem(error) {
  if (error instanceof Problem) return error;
  console.error(error);
  return new Problem({ code: "page_error", detail: `The page made a mistake: ${error}` });
}

/**
 * One action of the user's at a time: `run` does it, `isBusy` while it is under way, `problem` of the last one. An
 * address that it returns is gone to, unless the user has gone elsewhere meanwhile.
 * @template {unknown[]} A
 * @param {(...values: A) => Promise<unknown>} action
 */
export function useAction(action) {
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState(/** @type {ProblemType | null} */ (null));
  const isUnderWay = useRef(false); // a key may be pressed before a button is seen to be disabled
  const run = async (/** @type {A} */ ...values) => {
    if (isUnderWay.current) return;
    isUnderWay.current = true;
    setBusy(true);
    setProblem(null);
    const go = onward();
    let next;
    try {
      next = await action(...values);
    } catch (error) {
      setProblem(asProblem(error));
    } finally {
      isUnderWay.current = false;
      setBusy(false);
      go(typeof next === "string" && next.startsWith("#/") ? next : undefined);
    }
  };
  useEffect(() => {
    const back = () => isOnline() && setProblem((now) => (now?.code === "unreachable" ? null : now));
    connection.addEventListener("reached", back);
    return () => connection.removeEventListener("reached", back);
  }, []);
  return { run, isBusy, problem, clear: () => setProblem(null) };
}

/** Keys for what is sent from here, by what it says: the same thing sent again is done once. */
export function useSentKey() {
  const keys = useRef(/** @type {Map<string, string>} */ (new Map()));
  return (/** @type {string} */ text) => {
    const key = keys.current.get(text) ?? newKey();
    keys.current.set(text, key);
    return key;
  };
}

/**
 * Call something again and again as long as the component is shown and the page is seen.
 * @param {() => void} action
 * @param {number} ms
 * @param {unknown[]} [inputs] when one of them is another, it begins anew
 */
export function useInterval(action, ms, inputs = []) {
  const latest = useRef(action);
  latest.current = action;
  useEffect(() => {
    const timer = setInterval(() => document.hidden || latest.current(), ms);
    return () => clearInterval(timer);
  }, [ms, ...inputs]);
}

/**
 * A call for something at the service, however often it is made: one is under way at a time, the next begins `ms` after
 * it, and the last one is never lost.
 * @param {() => Promise<unknown>} action
 * @param {number} ms
 */
export function usePaced(action, ms) {
  const latest = useRef(action);
  latest.current = action;
  const state = useRef({ isBusy: false, isWanted: false, isGone: false });
  useEffect(() => () => void (state.current.isGone = true), []);
  return useCallback(async () => {
    const now = state.current;
    now.isWanted = true;
    if (now.isBusy) return;
    now.isBusy = true;
    while (now.isWanted && !now.isGone) {
      now.isWanted = false;
      await latest.current().catch(() => undefined);
      await pause(ms);
    }
    now.isBusy = false;
  }, []);
}

/** Whether an element, which takes `place` as its ref, is on the screen or next to it. */
export function useInView() {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const [isInView, setInView] = useState(false);
  useEffect(() => {
    if (!place.current) return undefined;
    const observer = new IntersectionObserver((entries) => setInView(entries.at(-1)?.isIntersecting ?? false), { rootMargin: "200px" });
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  return { place, isInView };
}

/**
 * A value that comes to rest: the newest one, `ms` after it last changed.
 * @template T
 * @param {T} value
 * @param {number} ms
 */
export function useSettled(value, ms) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(() => value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}

/**
 * State that is there again when the user comes back to this entry of the browser's history, also after signing in anew
 * or loading the page again; the same address opened anew begins anew.
 * @template T
 * @param {string} name
 * @param {T} given what it begins with
 * @returns {[T, import("preact/hooks").Dispatch<import("preact/hooks").StateUpdater<T>>]}
 */
export function useKept(name, given) {
  const [key] = useState(() => `${KEPT}${keyOfEntry()}.${name}`);
  const [value, setValue] = useState(() => {
    const kept = sessionStorage.getItem(key);
    return kept === null ? given : /** @type {T} */ (JSON.parse(kept));
  });
  useEffect(() => {
    try {
      if (value !== given) sessionStorage.setItem(key, JSON.stringify(value));
    } catch (error) {
      console.warn(error); // the browser has no room: only coming back is lost
    }
  }, [value]);
  return [value, setValue];
}

/** What this entry of the browser's history is known by; another visit to its address is another entry. */
function keyOfEntry() {
  const key = history.state?.key ?? newKey();
  if (!history.state?.key) history.replaceState({ ...history.state, key }, "");
  return key;
}

/**
 * A choice of the user's that this browser remembers.
 * @template T
 * @param {string} name
 * @param {T} fallback
 * @returns {[T, (value: T) => void]}
 */
export function useRemembered(name, fallback) {
  const key = `maze.${name}`;
  const [value, setValue] = useState(() => {
    try {
      const known = localStorage.getItem(key);
      return known === null ? fallback : /** @type {T} */ (JSON.parse(known));
    } catch {
      return fallback;
    }
  });
  return [
    value,
    (next) => {
      localStorage.setItem(key, JSON.stringify(next));
      setValue(() => next);
    },
  ];
}

/**
 * An address of bytes that a picture or video can show; undefined until there is one.
 * @param {Blob | undefined} blob
 */
export function useBlobUrl(blob) {
  const [url, setUrl] = useState(/** @type {string | undefined} */ (undefined));
  useEffect(() => {
    if (!blob) return undefined;
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => {
      URL.revokeObjectURL(made);
      setUrl(undefined);
    };
  }, [blob]);
  return url;
}
