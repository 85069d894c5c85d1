/** Addresses of the page: `#/runs/run_x?tab=curves`. They hold what is looked at and never a token. */
import { useEffect, useState } from "preact/hooks";

/** @typedef {{ parts: string[], query: URLSearchParams, text: string }} Route */

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
 * @param {Record<string, string | number | undefined | null>} [query] what is left out when empty
 */
export function link(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

/** Go to an address made by {@link link}. @param {string} address */
export function navigate(address) {
  location.hash = address;
}

/**
 * Change the query of the current address in place: a filter, a tab. It is no step of the browser's history.
 * @param {Record<string, string | number | undefined | null>} changes
 */
export function replaceQuery(changes) {
  const { parts, query } = currentRoute();
  history.replaceState(null, "", link(parts, { ...Object.fromEntries(query), ...changes }));
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
