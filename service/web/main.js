/** The page: its frame, its views by address, signing in and out, dark and light. */
import { render } from "preact";
import { useEffect, useErrorBoundary, useLayoutEffect, useRef, useState } from "preact/hooks";
import { connection, get, Problem, setToken, token } from "./api.js";
import { own } from "./format.js";
import { useRemembered } from "./hooks.js";
import { html } from "./html.js";
import { Login } from "./login.js";
import { link, titled, useRoute } from "./router.js";
import { ErrorBox, Loading, Offline } from "./ui.js";
import * as runs from "./views/runs.js";

/** @typedef {import("./router.js").Route} Route */
/** @typedef {{ View: (props: { route: Route }) => import("preact").VNode<any> }} ViewModule */

/** Views by the first part of an address; all but the first one are loaded when they are needed.
 * @type {Record<string, () => Promise<ViewModule>>} */
const VIEWS = {
  runs: async () => runs,
  run: () => import("./views/run.js"),
  new: () => import("./views/new_run.js"),
  compare: () => import("./views/compare.js"),
  play: () => import("./views/play.js"),
  policies: () => import("./views/policies.js"),
  sweeps: () => import("./views/sweeps.js"),
  environments: () => import("./views/environments.js"),
  system: () => import("./views/system.js"),
};

const NAVIGATION = [
  ["runs", "Runs"], ["sweeps", "Sweeps"], ["policies", "Policies"], ["environments", "Environments"], ["system", "System"],
];

const TITLES = /** @type {Record<string, string>} */ ({ new: "New run", compare: "Compare", play: "Play" });

/**
 * Who goes to another view is at its heading, which is read out; the view may put them elsewhere. What stands in the
 * query is the same view.
 * @param {string} path
 */
function useArrival(path) {
  const before = useRef(path);
  useEffect(() => {
    const content = document.getElementById("content");
    if (before.current === path || !content) return undefined;
    before.current = path;
    content.focus({ preventScroll: true });
    const arrive = () => {
      if (![content, document.body].includes(/** @type {HTMLElement} */ (document.activeElement))) return;
      const heading = content.querySelector("h1");
      heading?.setAttribute("tabindex", "-1");
      heading?.focus({ preventScroll: true });
    };
    const changes = new MutationObserver(arrive); // a view is loaded, and its heading may be another one then
    const stop = () => changes.disconnect();
    changes.observe(content, { childList: true, subtree: true });
    arrive();
    addEventListener("pointerdown", stop, { once: true });
    addEventListener("keydown", stop, { once: true });
    return () => {
      stop();
      removeEventListener("pointerdown", stop);
      removeEventListener("keydown", stop);
    };
  }, [path]);
}

/** @param {{ route: Route }} props */
function View({ route }) {
  const [first = "runs", second] = route.parts;
  const name = first === "runs" && second ? "run" : first;
  const [loaded, setLoaded] = useState(/** @type {{ name: string, module?: ViewModule, problem?: Problem } | null} */ (null));
  useEffect(() => {
    const load = own(VIEWS, name);
    if (!load) {
      setLoaded({ name, problem: new Problem({ code: "not_found", detail: `This page has no view '${name}'.` }) });
      return undefined;
    }
    let isWanted = true; // a slower view that was left takes nobody's place
    load().then(
      (module) => isWanted && setLoaded({ name, module }),
      () => isWanted && setLoaded({ name, problem: new Problem({ code: "updated", detail: "This view could not be loaded: the service is away, or was updated. Load the page again." }) }),
    );
    return () => {
      isWanted = false;
    };
  }, [name]);
  const [failure, clear] = useErrorBoundary((error) => console.error(error));
  useEffect(() => clear(), [route.text]);
  if (failure) return html`<${ErrorBox} problem=${new Problem({ code: "page_error", detail: String(failure) })} retry=${clear} what="The page made a mistake" />`;
  if (loaded?.name !== name) return html`<${Loading} what="the view" />`;
  if (loaded.problem) return html`<${ErrorBox} problem=${loaded.problem} retry=${() => location.reload()} />`;
  return loaded.module && html`<${loaded.module.View} route=${route} />`;
}

function ThemeButton() {
  const [theme, setTheme] = useRemembered("theme", "auto");
  useEffect(() => {
    if (theme === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
    dispatchEvent(new Event("maze-theme"));
  }, [theme]);
  const next = /** @type {Record<string, string>} */ ({ auto: "dark", dark: "light", light: "auto" })[theme] ?? "auto";
  return html`<button class="quiet" title="Colours: ${theme}; change to ${next}" onClick=${() => setTheme(next)}>
    <span aria-hidden="true">${theme === "dark" ? "☾" : theme === "light" ? "☀" : "◐"}</span><span class="sr">Colours: ${theme}</span>
  </button>`;
}

function Page() {
  const route = useRoute();
  const [access, setAccess] = useState(/** @type {"unknown" | "open" | "asked" | "refused"} */ ("unknown"));
  useEffect(() => {
    const refused = (/** @type {any} */ { detail }) => setAccess((before) => (detail.hadToken || before === "refused" ? "refused" : "asked"));
    const changed = () => setAccess("unknown");
    connection.addEventListener("refused", refused);
    connection.addEventListener("token", changed);
    return () => {
      connection.removeEventListener("refused", refused);
      connection.removeEventListener("token", changed);
    };
  }, []);
  useEffect(() => {
    if (access === "unknown") get("/", {}).then(() => setAccess("open"), (problem) => problem.status === 401 || setAccess("open"));
  }, [access]);
  const [first = "runs", name] = route.parts;
  const path = route.parts.join("/");
  useLayoutEffect(() => titled(name ?? "", NAVIGATION.find(([id]) => id === first)?.[1] ?? TITLES[first] ?? first), [path]);
  useArrival(path);
  if (access === "asked" || access === "refused") return html`<${Login} wasRefused=${access === "refused"} />`;
  if (access === "unknown") return html`<${Loading} what="the page" />`;
  return html`
    <a class="skip" href="#content" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <a class="brand" href=${link(["runs"])}>Maze</a>
      <nav aria-label="Views">
        ${NAVIGATION.map(([id = "", title]) => html`<a href=${link([id])} aria-current=${first === id ? "page" : undefined}>${title}</a>`)}
      </nav>
      <a class="button primary" href=${link(["new"])}>New run</a>
      <a class="quiet-link" href="/docs">API</a>
      <${ThemeButton} />
      ${token() && html`<button class="quiet" onClick=${() => setToken(null)}>Sign out</button>`}
    </header>
    <${Offline} />
    <main id="content" tabindex="-1"><${View} route=${route} /></main>
  `;
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

const root = /** @type {HTMLElement} */ (document.getElementById("page"));
root.replaceChildren();
render(html`<${Page} />`, root);
