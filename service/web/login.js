/** Signing in with a token: asked for when the service asks, kept by this browser, sent in a header. */
import { useState } from "preact/hooks";
import { isToken, NO_TOKEN, setToken } from "./api.js";
import { html } from "./html.js";
import { Field } from "./ui.js";

/** @param {{ wasRefused: boolean }} props whether the service did not know the token that this browser had */
export function Login({ wasRefused }) {
  const [value, setValue] = useState("");
  const [isKept, setKept] = useState(false);
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    if (!isSendable) return;
    setToken(value.trim(), isKept);
  };
  const isSendable = !value.trim() || isToken(value.trim());
  const error = !isSendable ? NO_TOKEN : wasRefused && "The service does not know this token: it was mistyped, or revoked.";
  return html`<main class="login">
    <form onSubmit=${submit} class="card">
      <h1>Maze</h1>
      <p>This service asks for a token. <code>maze token create</code> makes one; the first is printed when the service starts.</p>
      <${Field} label="Token" error=${error}>
        ${(/** @type {object} */ attributes) => html`<input ...${attributes} type="password" autocomplete="current-password" required
          spellcheck="false" value=${value} onInput=${(/** @type {any} */ event) => setValue(event.target.value)} />`}
      <//>
      <label class="check"><input type="checkbox" checked=${isKept} onChange=${() => setKept(!isKept)} /> Keep me signed in on this browser</label>
      <button class="primary" disabled=${!value.trim() || !isSendable}>Sign in</button>
    </form>
  </main>`;
}
