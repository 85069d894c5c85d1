/** Addresses of the page: `#/runs/run_x?tab=curves`. They hold what is looked at and never a token. */
import { useEffect, useState } from "preact/hooks";

/** @typedef {{ parts: string[], query: URLSearchParams, text: string }} Route */
/** What follows the `?`: a list is repeated, what is empty is left out.
 * @typedef {Record<string, string | number | undefined | null | string[]>} Query */

/** The route that the address bar shows. @returns {Route} */
export function currentRoute() {
  const text = location.hash.replace(/^#/, "") || "/runs";
  const [path = "", query = ""] = text.split(/\?(.*)/s);
  return { parts: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query), text };
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * Address of a view: each part is one segment, whatever it holds.
 * @param {string[]} parts
 * @param {Query} [query]
 */
export function link(parts, query = {}) {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") search.append(key, String(one));
    }
  }
  return `#/${parts.map(encodeURIComponent).join("/")}${search.size ? `?${search}` : ""}`;
}

/** Call the page by what it shows, the most telling first. @param {string[]} parts empty ones are left out */
export function titled(...parts) {
  document.title = [...parts.filter(Boolean), "Maze"].join(" · ");
}

/** Go to an address made by {@link link}. @param {string} address */
export function navigate(address) {
  location.hash = address;
}

/**
 * For what takes a while: asked for when it begins, and told when it ends where to go, if the user has not left.
 * @returns {(address?: string) => void}
 */
export function onward() {
  let isHere = true;
  const left = (/** @type {Event} */ event) => void (isHere &&= !event.isTrusted);
  addEventListener("hashchange", left);
  return (address) => {
    removeEventListener("hashchange", left);
    if (isHere && address) navigate(address);
  };
}

/**
 * Change the query of the current address in place: a filter, a tab. It is no step of the browser's history.
 * @param {Query} changes
 */
export function replaceQuery(changes) {
  const { parts, query } = currentRoute();
  const known = Object.fromEntries([...query.keys()].map((key) => [key, query.getAll(key)]));
  history.replaceState(history.state, "", link(parts, { ...known, ...changes }));
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** The current route, live. */
export function useRoute() {
  const [route, setRoute] = useState(currentRoute);
  useEffect(() => {
    const changed = () => setRoute(currentRoute());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
